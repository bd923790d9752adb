"""The command `sealspace doctor`, which diagnoses an installation.

It finds problems with an installation, a node or a login.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from capabilities.clock_and_entropy import SystemClock
from sealspace.cli.diagnosis import (
    Diagnosis,
    DoctorWarning,
    all_diagnosed,
    diagnosed,
    print_diagnoses,
)
from sealspace.cli.lazy import EXTRAS
from sealspace.cli.machine_checks import clock, disk, node_diagnoses, python
from sealspace.cli.owner.owner_profile import OwnerHome, Profile, owner_home
from sealspace.cli.shared import HOME_VARIABLE, NODE_VARIABLE, shared
from sealspace.cli.terminal import time_text
from sealspace.errors import NodeMismatch, NotSignedIn
from sealspace.printable import printable
from sealspace.service.command_errors import (
    ConfigurationError,
    ExtraMissing,
    KeyFileUnusable,
    NodeError,
)
from sealspace.wire.token_line import TOKEN_VARIABLE
from spaces.store.durable import FREE_SPACE, low_space

from ..config.loading import ENVIRONMENT_PREFIX
from ..config.tree import Store
from .settings import config_from, data_options

_SOON_S = 86_400.0


@click.command(epilog="Examples: `sealspace doctor`; `sealspace doctor --data ./data`.")
@data_options
def doctor(config_file: Path | None, store__data: str | None) -> int:
    """Check Python, clock, settings, disk, store, node and login.

    The exit status is 1 if a check fails.

    Settings, disk and store are checked if --config or --data is given, if an environment variable
    contains a setting, or if the current folder contains a folder `data`. The owner's login and
    its node are checked if neither --config nor --data is given; otherwise, add --home or --node to
    check the login and its node too. Nothing is changed.
    """
    return print_diagnoses(_diagnoses(config_file, store__data))


def _diagnoses(config_file: Path | None, data: str | None) -> Iterator[Diagnosis]:
    """Yield the results of all checks, in the order in which they are shown."""
    yield diagnosed("python", python)
    yield diagnosed("clock", clock)
    variables = {name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)}
    settings = variables - {NODE_VARIABLE, HOME_VARIABLE, TOKEN_VARIABLE}  # which owners set
    is_node_named = config_file is not None or data is not None
    if is_node_named or settings or Path(Store().data).is_dir():
        yield from _node_here(config_file, data)
    else:
        yield Diagnosis(
            name="settings",
            severity="skipped",
            text="no settings are given, and the current folder has no folder `data`",
            next_step="check a node's settings, disk and store: sealspace doctor --data DIR",
        )
    if not is_node_named or shared().given_home or shared().given_node:
        yield from _login(owner_home(), shared().node)
    else:  # the login of this shell's user may be at another node than the one being checked
        yield Diagnosis(
            name="login",
            severity="skipped",
            text="--data or --config is given",
            next_step="check the login, without these options: sealspace doctor",
        )


# --- a node on this machine -----------------------------------------------------------------------


def _node_here(config_file: Path | None, data: str | None) -> Iterator[Diagnosis]:
    """Yield the results of checking a node's settings, disk and store.

    With faulty settings, only the disk under `data` is checked besides.
    """
    try:
        for module in EXTRAS["node"]:
            if find_spec(module) is None:
                raise ExtraMissing(
                    f"the extra `node` is not installed: module {module} is missing",
                    hint="pip install 'sealspace[node]'",
                )
        config = config_from(config_file, {"store__data": data}, starts=True)
    except NodeError as error:
        faults: Sequence[NodeError] = ()
        if isinstance(error, ConfigurationError):
            faults = error.faults
        for fault in faults or [error]:
            yield Diagnosis(
                name="settings", severity="wrong", text=fault.message, next_step=fault.hint
            )
        if data is not None:  # the folder is known without the settings
            yield from disk(Path(data).absolute(), _shortage)
        return
    from .store_check import check_store, database_findings  # needs the extra

    yield Diagnosis(name="settings", severity="ok", text="valid; sealspace config show prints them")
    yield from disk(config.data, _shortage)
    is_usable = True
    for severity, text, next_step in database_findings(config):
        yield Diagnosis(name="store", severity=severity, text=text, next_step=next_step)
        is_usable = is_usable and severity != "wrong"
    # A store must not be opened through a pooling proxy, which breaks its sessions.
    if is_usable:
        yield diagnosed("store", lambda: asyncio.run(check_store(config)))


def _shortage(folder: Path) -> tuple[str, str]:
    """Return whether the store has too little free disk space, and the next step."""
    return low_space(folder), FREE_SPACE


# --- an owner's login -----------------------------------------------------------------------------


def _login(home: OwnerHome, node: str | None) -> Iterator[Diagnosis]:
    """Yield the results of checking a node, and then the owner's login.

    Without the option `--node`, the node is that of the login.
    """
    login: list[Diagnosis] = []
    url = node
    try:
        profile = home.profile()
    except (NotSignedIn, KeyFileUnusable) as error:
        is_damaged = (home.folder / "profile.json").exists()
        login.append(
            Diagnosis(
                name="login",
                severity="wrong" if is_damaged else "missing",
                text=error.message,
                next_step=error.step,
            )
        )
    else:
        login += all_diagnosed(
            "login", lambda: _key(home, profile), lambda: _session(home, profile)
        )
        url = node or profile.node
    if url is not None:
        yield from asyncio.run(node_diagnoses(url, lambda node_id: _identity(url, node_id, home)))
    yield from login


def _key(home: OwnerHome, profile: Profile) -> str:
    """Check the owner's key file."""
    again = f"sealspace login {profile.node}"
    if home.is_of_another_home(profile.key_file):
        raise DoctorWarning(
            f"the key file {profile.key_file} is outside the folder of this owner",
            hint=f"name the key to use: {again} --key-file FILE",
        )
    # A keystore cannot be read without its password, which this command does not ask for.
    if profile.key_file is not None and not profile.is_keystore:
        home.wallet()  # raises an error if the key cannot be read
    return "the key can be read"


def _session(home: OwnerHome, profile: Profile) -> str:
    """Check the session of the last login."""
    again = f"sealspace login {profile.node}"
    who = f"{profile.owner} at {profile.node}"
    end = home.session().expires_at
    if end is None:
        return who
    now = SystemClock.now()
    if end <= now:
        raise NotSignedIn(f"the session ended at {time_text(end)}", hint=again)
    if end <= now + _SOON_S:
        raise DoctorWarning(f"the session ends at {time_text(end)}", hint=again)
    return f"{who}, until {time_text(end)}"


def _identity(url: str, node_id: str, home: OwnerHome) -> str:
    """Check that a node is that of the last login, if there is one."""
    try:
        expected = home.session().node_id
    except NotSignedIn:
        expected = None
    if expected is not None and expected != node_id:
        raise NodeMismatch(
            f"{url} is another node than at the login: {printable(node_id)}, not {expected}",
            hint=f"if the node was replaced: sealspace login {url}; otherwise do not trust"
            " this address",
        )
    return node_id
