"""Time and randomness as objects that are passed in.

Domain code never gets the time or random bytes from the operating system directly, so that a test
or a replay of recorded exchanges can set both.

Example:
    def stamp(entropy: Entropy) -> bytes:
        return entropy.token(16)
"""

import secrets
import time
from typing import Protocol


class Clock(Protocol):
    """A source of the current time."""

    def now(self) -> float:
        """Return seconds since the epoch (UTC), with a fraction."""
        ...


class Entropy(Protocol):
    """A source of unpredictable bytes."""

    def token(self, size_bytes: int) -> bytes:
        """Return `size_bytes` fresh random bytes."""
        ...


class SystemClock:
    """The operating system's real-time clock."""

    # The function itself, without a wrapper: a request reads the clock several times.
    now = staticmethod(time.time)


class SystemEntropy:
    """The operating system's random source."""

    def token(self, size_bytes: int) -> bytes:
        """Return `size_bytes` fresh random bytes."""
        return secrets.token_bytes(size_bytes)
