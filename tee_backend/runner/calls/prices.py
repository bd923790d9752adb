"""What a run costs, in micro-units (RN94): a base for each call, and its instructions and whole
seconds.

Example:
    price = Price(call=1000, million_instructions=1, second=1)
    price.cost(instructions=3_000_000, time_ms=412)  # 1003
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from ..guest.runs import MAX_COMPILE_S, MILLION, Limits


class Price(msgspec.Struct, frozen=True, rename="camel"):
    """Prices in micro-units; all 0: nothing is charged.

    Attributes:
        call: of each run that was started.
        million_instructions: of each million, rounded up as they are in answers (RN2).
        second: of each whole second.
    """

    call: int = 0
    million_instructions: int = 0
    second: int = 0

    @property
    def is_free(self) -> bool:
        """Whether nothing costs anything."""
        return self == FREE

    @property
    def least(self) -> int:
        """What the smallest limits cost: a million instructions, or a second; never nothing where
        there is a price."""
        return self.call + max(self.million_instructions, self.second)

    def cost(self, *, instructions: int, time_ms: int) -> int:
        """Return what a run costs."""
        return (
            self.call
            + instructions // MILLION * self.million_instructions
            + time_ms // 1000 * self.second
        )

    def most(self, limits: Limits) -> int:
        """Return what a run costs that uses its limits up."""
        millions = -(-limits.max_instructions // MILLION)
        return self.cost(instructions=millions * MILLION, time_ms=limits.max_execution_s * 1000)

    def compile_s(self, budget: int) -> int:
        """Return the seconds of compilation that a budget pays for, at most `MAX_COMPILE_S`
        (RN166)."""
        return (
            min((budget - self.call) // self.second, MAX_COMPILE_S)
            if self.second
            else MAX_COMPILE_S
        )

    def affordable(self, budget: int) -> dict[str, int]:
        """Return the limits of a run that a budget pays for: neither instructions nor time alone
        costs more."""
        left, limits = budget - self.call, {}
        if self.million_instructions:
            limits["max_instructions"] = max(left // self.million_instructions, 1) * MILLION
        if self.second:
            limits["max_execution_s"] = max(left // self.second, 1)
        return limits


FREE: Final = Price()


def smallest(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Return the smaller of each limit that either names."""
    return {
        name: min(stated[name] for stated in (one, other) if name in stated)
        for name in {**one, **other}
    }
