"""The order of the commits of one process: those that touch the same rows run one after the other, as requested.

Two commits on two connections run in the order of the database's locks, which is arbitrary. A caller that revokes and
then writes, without waiting in between, expects them in its order; and commits that would wait for each other in the
database wait here instead, where they occupy no connection.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Turn:
    """A commit's place in the order."""

    written: frozenset[bytes]
    relied: frozenset[bytes]
    before: "set[Turn]" = field(default_factory=set)
    done: bool = False
    left: "asyncio.Future[None] | None" = None

    def pending(self) -> "Iterator[asyncio.Future[None]]":
        """Yield the futures to wait for, one after the other."""
        for turn in self.before:
            if not turn.done:
                if turn.left is None:
                    turn.left = asyncio.get_running_loop().create_future()
                yield turn.left
        self.before.clear()  # else each turn would keep all the former ones


@dataclass(slots=True)
class _Lane:
    writer: Turn | None = None
    readers: set[Turn] = field(default_factory=set)


class Lanes:
    """Which commits touch which rows."""

    def __init__(self) -> None:
        self._lanes: dict[bytes, _Lane] = {}

    def enter(self, *, written: Iterable[bytes], relied: Iterable[bytes]) -> Turn:
        """Take a place behind every commit that writes what is touched here, or touches what is written here."""
        turn = Turn(frozenset(written), frozenset(relied))
        for key in turn.written:
            lane = self._lanes.setdefault(key, _Lane())
            turn.before |= lane.readers
            if lane.writer is not None:
                turn.before.add(lane.writer)
            lane.writer, lane.readers = turn, set()
        for key in turn.relied - turn.written:
            lane = self._lanes.setdefault(key, _Lane())
            if lane.writer is not None:
                turn.before.add(lane.writer)
            lane.readers.add(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        """Let the next commits proceed."""
        turn.done = True
        if turn.left is not None and not turn.left.done():
            turn.left.set_result(None)
        for key in turn.written | turn.relied:
            lane = self._lanes.get(key)
            if lane is None:
                continue
            if lane.writer is turn:
                lane.writer = None
            lane.readers.discard(turn)
            if lane.writer is None and not lane.readers:
                del self._lanes[key]
