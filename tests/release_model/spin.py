"""The model of releases in spec/models, run by Spin.

Example:
    checked = check(folder, "REVOCATION", "NO_LIVE")
    assert checked.violated == "late"
    print(checked.events)
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests_support import REPOSITORY

MODEL = REPOSITORY / "spec" / "models" / "release.pml"
SPIN_ABSENT = "spin or a C compiler is not installed"

SCENARIOS: dict[str, tuple[str, ...]] = {
    "revocation": ("REVOCATION",),
    "withdrawal": ("WITHDRAWAL", "DAMAGE"),
    "operator": ("OPERATOR", "DAMAGE"),
    "session": ("ONE_REVOKER", "WITHDRAWAL", "ONE_OPERATOR", "ASKS=0"),
}
"""Which processes run beside the two workers, by the name of the scenario."""


@dataclass(frozen=True)
class Guard:
    """A guard that the model can be checked without.

    Attributes:
        names: the definitions that leave it out.
        scenario: in which a counterexample exists.
        violates: what then becomes true, or "" when another guard backs it up.
        at_node: the step of the counterexample that a node refuses, and what it does instead; ""
            when the counterexample loses what was not durable.
    """

    names: tuple[str, ...]
    scenario: str
    violates: str
    at_node: str = ""


GUARDS = (
    Guard(("NO_LIVE",), "revocation", "late", "commit applied: refused"),
    Guard(("NO_LIVE_ANCESTORS",), "revocation", "late", "commit applied: refused"),
    Guard(("NO_NETWORK_STAMP",), "withdrawal", "late", "commit applied: refused"),
    Guard(("NO_NODE_STAMP",), "operator", "late", "commit applied: refused"),
    Guard(("NO_NETWORK_LIST",), "withdrawal", "late", "ask judged: withdrawn"),
    Guard(("NO_NODE_LIST",), "operator", "late", "ask judged: withdrawn"),
    Guard(("EMPTY_WHEN_MISSING",), "operator", "late", "ask judged: damaged"),
    Guard(("STALE_RETRY",), "withdrawal", "late", "commit applied: withdrawn"),
    Guard(("OPEN_WITHOUT_COMMIT",), "revocation", "late", "open: unfinished"),
    Guard(("OPEN_BEFORE_DURABLE",), "revocation", "unrecorded"),
    Guard(("NO_RECORD_AT_COMMIT",), "revocation", "twice"),
    Guard(("ACK_BEFORE_DURABLE",), "revocation", "late"),
    Guard(("ACK_REPEAT_BY_READ",), "revocation", "late"),
    Guard(("NO_EXPECTED_NETWORK",), "withdrawal", "late", "change applied: refused"),
    Guard(("NO_EXPECTED_LIST",), "operator", "late", "withdraw applied: refused"),
    Guard(("POLICY_DROPS_LIST",), "withdrawal", "late", "ask judged: withdrawn"),
    Guard(("NO_LIVE_PROOF",), "revocation", "without_right", "revoke applied: refused"),
    Guard(("NO_LIVE_SESSION",), "session", "without_right", "change applied: refused"),
    Guard(("NO_NODE_STAMP_OF_CHANGE",), "session", "without_right", "change applied: refused"),
)
BACKED_UP = (
    Guard(("NO_MARKS_AT_READ",), "revocation", ""),
    Guard(("NO_MARKS_AT_READ", "NO_LIVE"), "revocation", "late"),
    Guard(("NO_USE_AT_READ",), "revocation", ""),
    Guard(("NO_USE_AT_READ", "NO_RECORD_AT_COMMIT"), "revocation", "twice"),
)
"""Guards whose absence changes nothing alone, each with the one that backs it up."""


@dataclass(frozen=True)
class Checked:
    """The result of an exhaustive search.

    Attributes:
        states: distinct states that were visited.
        depth: the longest path.
        violated: the variable that became true, or "".
        events: of the counterexample.
    """

    states: int
    depth: int
    violated: str
    events: tuple[str, ...] = ()


def needs_spin() -> pytest.MarkDecorator:
    """Return the mark of tests that run Spin."""
    is_absent = shutil.which("spin") is None or shutil.which("cc") is None
    return pytest.mark.skipif(is_absent, reason=SPIN_ABSENT)


def check(folder: Path, *definitions: str) -> Checked:
    """Search all states of the model with these definitions.

    Args:
        folder: where Spin writes; a search has one for itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(MODEL, folder)
    options = [f"-D{one}" for one in definitions]
    _run(folder, "spin", "-a", *options, MODEL.name)
    _run(folder, "cc", "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c")
    said = _run(folder, "./pan", "-m100000")
    assert "max search depth too small" not in said
    assert "out of memory" not in said
    violated = re.search(r"assertion violated [!( ]*(\w+)", said)
    trail = folder / f"{MODEL.name}.trail"
    events: tuple[str, ...] = ()
    if trail.exists():
        events = _events(_run(folder, "spin", "-t", "-T", *options, MODEL.name))
    return Checked(
        states=int(_figure(r"(\d+) states, stored", said)),
        depth=int(_figure(r"depth reached (\d+)", said)),
        violated="" if violated is None else violated.group(1),
        events=events,
    )


def simulate(folder: Path, seed: int, *definitions: str) -> tuple[str, ...]:
    """Return the events of one random run of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(MODEL, folder)
    options = [f"-D{one}" for one in definitions]
    return _events(_run(folder, "spin", f"-n{seed}", "-T", *options, MODEL.name))


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def _events(said: str) -> tuple[str, ...]:
    lines = [line.strip() for line in said.splitlines()]
    return tuple([line.removeprefix("EVENT ") for line in lines if line.startswith("EVENT ")])


def _figure(pattern: str, said: str) -> str:
    found = re.search(pattern, said)
    assert found is not None, said
    return found.group(1)
