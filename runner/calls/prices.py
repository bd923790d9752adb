"""Prices of program runs (RN94).

A price depends on the instructions and the time used. All prices are in micro-units.

Example:
    price = Price(call=1000, million_instructions=1, second=1)
    price.cost(instructions=3_000_000, time_ms=412)  # 1003
"""

from collections.abc import Mapping

from capabilities.frozen_struct import FrozenStruct

from ..guest.frames import MAX_COMPILE_S
from ..guest.runs import MILLION, Limits


class Price(FrozenStruct, rename="camel"):
    """A runner's prices for program runs.

    Prices are in micro-units. Runs are free if all prices are 0.

    Attributes:
        call: price of each run that was started.
        million_instructions: price of each million instructions, rounded up (RN2).
        second: price of each whole second.
    """

    call: int = 0
    million_instructions: int = 0
    second: int = 0

    @property
    def is_free(self) -> bool:
        """Whether all prices are 0."""
        return self == FREE

    @property
    def lowest_budget(self) -> int:
        """The lowest allowed budget for a program call.

        The budget is in micro-units. It pays for one million instructions or one second,
        whichever costs more.
        """
        return self.call + max(self.million_instructions, self.second)

    def cost(self, *, instructions: int, time_ms: int) -> int:
        """Return the price of a program run.

        The price is in micro-units.
        """
        return (
            self.call
            + instructions // MILLION * self.million_instructions
            + time_ms // 1000 * self.second
        )

    def highest_price(self, limits: Limits) -> int:
        """Return the highest possible price of a run within the given limits.

        The price is in micro-units.
        """
        millions = -(-limits.max_instructions // MILLION)
        return self.cost(instructions=millions * MILLION, time_ms=limits.max_execution_s * 1000)

    def compile_s(self, budget: int) -> int:
        """Return the CPU seconds of compilation that a call's budget allows (RN166).

        The result is at most `MAX_COMPILE_S`.
        """
        if not self.second:
            return MAX_COMPILE_S
        return min((budget - self.call) // self.second, MAX_COMPILE_S)

    def affordable(self, budget: int) -> dict[str, int]:
        """Return the highest resource limits affordable with a budget.

        Each limit is computed separately. A limit is left out if its price is 0.
        """
        left = budget - self.call
        limits = dict[str, int]()
        if self.million_instructions:
            limits["max_instructions"] = max(left // self.million_instructions, 1) * MILLION
        if self.second:
            limits["max_execution_s"] = max(left // self.second, 1)
        return limits


FREE = Price()


def lower_limits(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Merge two mappings of limits, keeping the lower value per key.

    A limit may be in only one of the mappings.
    """
    lower = dict(one)
    for name, limit in other.items():
        lower[name] = min(limit, lower.get(name, limit))
    return lower
