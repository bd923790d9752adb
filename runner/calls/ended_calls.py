"""Counts of the calls that ended since the start of a runner, for its metrics.

Example:
    ended = EndedCalls()
    ended.add(outcome.facts.code, instructions=10**6, time_ms=10, charged=1000)
"""

from collections import Counter
from dataclasses import dataclass, field

from ..reasons import REASONS

COMPLETED = "completed"
TASK_STAGE = "task-stage"
"""The label for all codes of the stages of a task before and after its program."""
OUTCOMES = (COMPLETED, *REASONS, TASK_STAGE)
"""Every label of ended calls, from lists in the code."""


@dataclass(eq=False)
class EndedCalls:
    """Counts of ended calls, and what their programs used.

    Attributes:
        outcomes: ended calls by `completed`, or the code of their reason.
        refusals: requests that were refused before they became calls, by code.
        instructions: instructions of the programs, rounded up to millions each.
        time_ms: time of the programs, rounded up to 10 ms each.
        charged: charged amount in micro-units.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    instructions: int = 0
    time_ms: int = 0
    charged: int = 0

    def add(self, code: str | None, *, instructions: int, time_ms: int, charged: int) -> None:
        """Count a call that ended.

        Args:
            code: the code of the reason why it did not complete; None if it completed.
            instructions: instructions of its program, rounded up to millions.
            time_ms: time of its program, rounded up to 10 ms.
            charged: the amount that its payer was charged, in micro-units.
        """
        outcome = COMPLETED if code is None else code
        if outcome not in OUTCOMES:
            outcome = TASK_STAGE
        self.outcomes[outcome] += 1
        self.instructions += instructions
        self.time_ms += time_ms
        self.charged += charged
