"""Checks of a machine that `sealspace doctor` and `sealspace runner doctor` share.

Example:
    yield diagnosed("clock", clock)
    yield from disk(folder, shortage)
"""

import platform
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from capabilities.clock_and_entropy import SystemClock

from ..errors import NodeMismatch, SealspaceError
from ..printable import printable
from ..service.clock_check import check_clock
from ..service.command_errors import ConfigurationError, StoreMisused
from ..wire.node_answers import json_object, required_text
from ..wire.transport import Answer, Request, Transport, TransportSettings
from .diagnosis import (
    Diagnosis,
    DoctorWarning,
    all_diagnosed,
    diagnosed,
    problem_diagnosis,
)
from .who.login import read_state

Shortage = Callable[[Path], tuple[str, str]]
"""Returns what is wrong with the free space of a folder's disk, or "", and the next step."""

_OLDEST = (3, 11)
_TOO_NEW = (3, 16)
_ONE_TRY = TransportSettings(timeout_s=10.0, tries=1)
_MAX_CLOCK_SKEW_S = 60.0  # the node checks the times of tokens by its own clock


def python(version: tuple[int, ...] = sys.version_info[:2]) -> str:
    """Check that the Python version is supported."""
    if not _OLDEST <= version < _TOO_NEW:
        raise ConfigurationError(
            f"this is Python {'.'.join(map(str, version))}, but sealspace needs 3.11 to 3.15",
            hint="in a clone of sealspace: python3.13 -m venv ENV && ENV/bin/pip install '.[node]'",
        )
    return f"{platform.python_version()} at {sys.executable}"


def clock() -> str:
    """Check that this machine's clock is plausible."""
    check_clock(SystemClock())
    return "plausible"


class _NodeInfo(NamedTuple):
    """A node's answer to `GET /info`, and the DID in it."""

    answer: Answer
    node_id: str


async def node_diagnoses(
    url: str, check_identity: Callable[[str], str] | None = None
) -> list[Diagnosis]:
    """Check the identity, the clock and the state of a node.

    No token is needed.

    Args:
        url: address of the node.
        check_identity: gets the node's DID, and raises SealspaceError if it is another node than
            expected. None: every node is accepted.
    Returns:
        Every problem; if there is none, one diagnosis that the node answers. A node that cannot be
        reached, or is not a sealspace node, has one problem, because nothing more can be checked.
    """
    try:
        async with Transport(url, settings=_ONE_TRY) as transport:
            info = await _read_info(transport, url)
            state_problem = await _state_problem(transport, url)
    except SealspaceError as error:
        return [problem_diagnosis("node", error)]
    diagnoses: list[Diagnosis] = []
    if check_identity is not None:
        diagnoses.append(diagnosed("node", partial(check_identity, info.node_id)))
    diagnoses.append(diagnosed("node", partial(_check_clock_skew, info.answer)))
    problems = [diagnosis for diagnosis in diagnoses if diagnosis.severity != "ok"]
    if state_problem is not None:
        problems.append(problem_diagnosis("node", state_problem))
    if problems:
        return problems
    return [
        Diagnosis(name="node", severity="ok", text=f"{printable(info.node_id)} answers at {url}")
    ]


async def _read_info(transport: Transport, url: str) -> _NodeInfo:
    """Read which node answers.

    Raises:
        NodeMismatch: the answer is not that of a sealspace node.
        SealspaceError: nothing answers.
    """
    answer = await transport.exchange(Request("GET", "/info", repeatable=True))
    try:
        node_id = required_text(json_object(answer.require()), "nodeId")
    except SealspaceError:
        raise NodeMismatch(
            f"{url} is not a sealspace node",
            hint="if the address is wrong: sealspace login URL",
        ) from None
    return _NodeInfo(answer=answer, node_id=node_id)


async def _state_problem(transport: Transport, url: str) -> SealspaceError | None:
    """Return why a node is not ready, as an error; None if it is ready."""
    try:
        state = await read_state(transport)
    except SealspaceError as error:
        return error
    if state != "ready":
        return DoctorWarning(f"{url} is {state}", hint="ask the node's operator")
    return None


def _check_clock_skew(answer: Answer) -> str:
    """Compare this machine's clock with the time in a node's answer.

    Raises:
        NodeMismatch: they differ by more than a minute.
    """
    try:
        skew_s = SystemClock.now() - parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError):  # no valid Date header: the clocks cannot be compared
        skew_s = 0.0
    if abs(skew_s) > _MAX_CLOCK_SKEW_S:
        side = "ahead of" if skew_s > 0 else "behind"
        raise NodeMismatch(
            f"this clock is {abs(skew_s):.0f} s {side} the node's",
            hint="timedatectl set-ntp true, on the machine whose clock is wrong",
        )
    return "plausible"


def disk(folder: Path, shortage: Shortage) -> Iterator[Diagnosis]:
    """Check the data folder and its disk."""
    if folder.is_dir():
        yield from all_diagnosed(
            "disk", lambda: _check_own_folder(folder), lambda: _check_disk_space(folder, shortage)
        )
    else:
        yield diagnosed("disk", lambda: _check_new_folder(folder, shortage))


def _check_new_folder(folder: Path, shortage: Shortage) -> str:
    """Check that the data folder, which does not exist, can be created."""
    if folder.exists():
        raise StoreMisused(f"{folder} is not a folder", hint="choose another folder with --data")
    nearest_parent = next(filter(Path.is_dir, folder.parents))
    _require_free_disk(nearest_parent, shortage)
    return f"{folder} will be created by the first start"


def _check_own_folder(folder: Path) -> str:
    """Check that no other user may write to the data folder."""
    if stat.S_IMODE(folder.stat().st_mode) & 0o022:
        raise StoreMisused(f"other users may write to {folder}", hint=f"chmod go-w {folder}")
    return f"only you may write to {folder}"


def _check_disk_space(folder: Path, shortage: Shortage) -> str:
    """Check that the data folder is writable, and that its disk has free space."""
    _require_free_disk(folder, shortage)
    return f"{folder} is writable, {shutil.disk_usage(folder).free / 2**30:.1f} GiB free"


def _require_free_disk(folder: Path, shortage: Shortage) -> None:
    """Raise StoreMisused unless a folder is writable and has enough free space."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass  # only to see whether it can be made
    except OSError as error:
        reason = (error.strerror or "refused").lower()
        raise StoreMisused(
            f"cannot create a file in {folder}: {reason}", hint=f"ls -ld {folder}; df -h {folder}"
        ) from None
    text, step = shortage(folder)
    if text:
        raise StoreMisused(text, hint=step)
