"""Exclusive write access to a data folder, with periodic cleanup."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from capabilities.clock_and_entropy import Clock

from ..observing import Observer
from ._folder import folder_lock, open_for_writing
from ._replay_records import ReplayRecords, boot_id, discard_other_boots
from ._writer import FreeSpace, Writer

HOUSEKEEPING_S = 60.0
# Replay records are kept for this long after their expiry: a clock that is ahead by less, and is
# set back later, has not deleted the record of any token that is still valid.
REPLAY_GRACE_MINUTES = 10
# For a day, a deleted row is told apart from one that was never written (M31).
TOMBSTONE_MINUTES = 24 * 60
STEADY_S = 600.0
"""How long a clock that jumped ahead has to stay ahead before records are deleted by it.

It is twice a token's lifetime, so that tokens used before the jump have expired by any clock (ST9).
"""


class _ClockReading(NamedTuple):
    """A comparison of the clock with one that is never set.

    Attributes:
        at: when it was made, in seconds of the clock that is never set.
        ahead_s: how far the clock was ahead of that one.
    """

    at: float
    ahead_s: float


@dataclass
class Housekeeping:
    """The periodic cleanup of a data folder opened for writing.

    Writes and cleanup run on the same thread.
    """

    writer: Writer
    replay_records: ReplayRecords
    clock: Clock
    elapsed: Callable[[], float] = time.monotonic
    _seen: deque[_ClockReading] = field(default_factory=deque)

    def do_housekeeping(self) -> None:
        """Delete expired replay records and old tombstones.

        The reader slots of dead processes are freed too.
        """
        self.writer.env.reader_check()
        self.replay_records.check_readers()
        now = self._steady_now()
        if now is None:
            return  # the clock may have jumped ahead, so nothing is deleted yet
        before_minute = max(int(now) // 60 - REPLAY_GRACE_MINUTES, 0)
        self.replay_records.sweep(before_minute)
        self.writer.sweep_replay_records(before_minute)
        self.writer.sweep_tombstones(max(before_minute - TOMBSTONE_MINUTES, 0))

    def _steady_now(self) -> float | None:
        """Return the earliest plausible current time, or None.

        It is the lowest time that the clock readings of the last STEADY_S seconds suggest. None
        means that the clock has not been observed for that long.
        """
        at = self.elapsed()
        self._seen.append(_ClockReading(at, self.clock.now() - at))
        # Of the readings that are at least STEADY_S old, only the newest is kept, as the first one.
        while len(self._seen) > 1 and self._seen[1].at <= at - STEADY_S:
            self._seen.popleft()
        if self._seen[0].at > at - STEADY_S:
            return None
        return at + min([reading.ahead_s for reading in self._seen])


@contextmanager
def owned_folder(
    folder: Path, free_space: FreeSpace, clock: Clock, observer: Observer | None = None
) -> Iterator[Housekeeping]:
    """Context manager that locks a data folder and opens it for writing.

    The folder is created if it does not exist.
    """
    with ExitStack() as opened:
        opened.enter_context(folder_lock(folder))
        boot = boot_id()
        discard_other_boots(folder, boot)
        env = opened.enter_context(open_for_writing(folder))
        replay_records = ReplayRecords(folder, boot)
        opened.callback(replay_records.close)
        yield Housekeeping(
            writer=Writer(env, free_space, clock, observer),
            replay_records=replay_records,
            clock=clock,
        )
