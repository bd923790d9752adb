"""Sources of time and randomness, and the text form of a time.

Domain code takes both as arguments, so that tests and replays of recorded exchanges can set them.

Example:
    def stamp(entropy: Entropy) -> bytes:
        return entropy.token(16)
"""

import os
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of the current time."""

    def now(self) -> float:
        """Return the current time in seconds since the epoch."""


class Entropy(Protocol):
    """A source of unpredictable bytes."""

    def token(self, size_bytes: int) -> bytes:
        """Return `size_bytes` random bytes."""


class SystemClock:
    """The operating system's real-time clock."""

    # Bound directly, because a request reads the clock several times and a wrapper costs a call.
    now = staticmethod(time.time)


class SystemEntropy:
    """The operating system's random source."""

    def token(self, size_bytes: int) -> bytes:
        """Return `size_bytes` random bytes."""
        return os.urandom(size_bytes)


def time_text(at: float) -> str:
    """Format a time in RFC 3339, in UTC and whole seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
