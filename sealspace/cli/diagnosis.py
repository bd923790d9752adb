"""Results of the checks of `sealspace doctor` and `sealspace runner doctor`.

Example:
    return print_diagnoses([diagnosed("clock", clock)])
"""

from collections.abc import Callable, Iterable, Iterator

from capabilities.frozen_struct import FrozenStruct

from ..errors import SealspaceError
from ..service.command_errors import NodeError
from .exit_status import FAILED
from .shared import shared
from .terminal import print_json, print_lines, what_happened


class Diagnosis(FrozenStruct, rename={"name": "check", "next_step": "next"}):
    """The result of one check by `sealspace doctor`."""

    name: str
    severity: str
    text: str
    next_step: str = ""


class DoctorWarning(NodeError):
    """Raised for a problem that is a warning, not a failure.

    Examples: the session ends soon; the key file is in the folder of another login.
    """

    code = "doubtful"


def diagnosed(name: str, check: Callable[[], str]) -> Diagnosis:
    """Run a check and return its result.

    A `SealspaceError` counts as a warning or a failure.
    """
    try:
        return Diagnosis(name=name, severity="ok", text=check())
    except SealspaceError as error:
        return problem_diagnosis(name, error)


def problem_diagnosis(name: str, error: SealspaceError) -> Diagnosis:
    """Return the result of a check that raised an error.

    It is a warning for DoctorWarning, and a failure for any other error.
    """
    return Diagnosis(
        name=name,
        severity="warn" if isinstance(error, DoctorWarning) else "wrong",
        text=what_happened(error),
        next_step=error.step,
    )


def all_diagnosed(name: str, *checks: Callable[[], str]) -> Iterator[Diagnosis]:
    """Run several checks, and return every problem, or the result of the last check."""
    results = [diagnosed(name, check) for check in checks]
    problems = [result for result in results if result.severity != "ok"]
    yield from problems or results[-1:]


def print_diagnoses(diagnoses: Iterable[Diagnosis]) -> int:
    """Print results as they are made, and return the exit status: 1 if a check failed."""
    results = []
    for diagnosis in diagnoses:
        results.append(diagnosis)
        if not shared().as_json:
            print_lines(f"{diagnosis.severity:<8} {diagnosis.name}: {diagnosis.text}")
            if diagnosis.next_step:
                print_lines(f"         next: {diagnosis.next_step}")
    if shared().as_json:
        print_json(results)
    return FAILED if any(diagnosis.severity == "wrong" for diagnosis in results) else 0
