"""What one check of `sealspace doctor` found."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from ..errors import SealspaceError
from .errors import NodeError
from .next_steps import next_step
from .what_happened import what_happened

OK: Final = "ok"
WARNING: Final = "warn"
WRONG: Final = "wrong"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of one check.

    Attributes:
        name: what was checked.
        severity: OK; WARNING, which may be intended; or WRONG.
        text: what was found; starts lower case, ends without a full stop.
        next_step: what to do; empty when there is nothing to do.
    """

    name: str
    severity: str
    text: str
    next_step: str = ""

    def lines(self) -> tuple[str, ...]:
        """Return the lines that the doctor prints: one, or two with the next step."""
        line = f"{self.severity:<8} {self.name}: {self.text}"
        return (line, f"         next: {self.next_step}") if self.next_step else (line,)


Found: TypeAlias = str | Diagnosis | Iterable[Diagnosis]
"""What a check returns: a text if all is well, or what it found."""


def diagnosed(name: str, check: Callable[[], Found]) -> list[Diagnosis]:
    """Run a check; an error of ours is what it found."""
    try:
        found = check()
    except NodeError as error:
        return [Diagnosis(name, WRONG, error.text, error.hint)]
    except SealspaceError as error:
        return [Diagnosis(name, WRONG, what_happened(error), next_step(error))]
    if isinstance(found, str):
        return [Diagnosis(name, OK, found)]
    return [found] if isinstance(found, Diagnosis) else list(found)
