"""Waiting for the next commit to a space (change-feed CF11 to CF13).

One task looks at the store for all callers of a process. It runs only while somebody waits. On LMDB
it looks at the number of the last commit, ten times a second; on a database it reads the waited
sequences twice a second, in one statement.

A place is bounded by the process, by the owner of the space and by the address of the client. When
all places are taken, the owner with the most gives up its oldest one to an owner with fewer.

Example:
    with waits.place(Waiting(owner=owner, client=None, wait_s=30, is_gone=is_gone)) as place:
        if place is None: ...   # all places are taken: do not wait
        ending = await place.until_changed(sequence, seen)   # then read, and judge again
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum

from capabilities.frozen_struct import FrozenStruct

from ..space_errors import SpaceError
from .contract import MAX_READ_KEYS, Store
from .observing import CountedStore

_LOCAL_PAUSE_S = 0.1
_DATABASE_PAUSE_S = 0.5
# Callers that are woken read the store again. No more than this many do so at a time, so that other
# requests are answered in between and find a connection to the database.
_AWAKE_AT_ONCE = 2


class Ending(Enum):
    """Why a wait has ended.

    Attributes:
        CHANGED: a commit to the space followed.
        OVER: the time is over.
        GIVEN_UP: another owner got the place.
        CLOSED: the process is about to end.
        GONE: the client has disconnected.
    """

    CHANGED = "changed"
    OVER = "over"
    GIVEN_UP = "given up"
    CLOSED = "closed"
    GONE = "gone"


class WaitBounds(FrozenStruct):
    """The places of a process.

    Attributes:
        most: of all callers; 0 if nobody may wait.
        most_per_owner: of callers of the spaces of one owner.
        most_per_client: of one client address; 0 means no limit.
    """

    most: int
    most_per_owner: int
    most_per_client: int


class Waiting(FrozenStruct):
    """A caller who wants to wait.

    Attributes:
        owner: of the space.
        client: the address of the client, or None if it is not counted.
        wait_s: the longest wait, in seconds.
        is_gone: returns whether the client has disconnected.
    """

    owner: str
    client: str | None
    wait_s: float
    is_gone: Callable[[], bool]


@dataclass(eq=False, kw_only=True, slots=True)
class WaitingPlace:
    """The place of one caller.

    Attributes:
        waiting: the caller.
        ends_at_s: when the time of the caller is over, by the monotonic clock.
        waited_ns: how long the caller has waited so far, nanoseconds.

    The private attributes: `_turns` bounds how many callers are awake, and `_has_turn` says whether
    this one is. `_on_wait` is called when a wait begins. `_sequence` and `_known_value` are those
    of the present wait, and `_outcome` is set when it ends. `_final_ending` ends later waits.
    """

    waiting: Waiting
    ends_at_s: float
    _turns: asyncio.Semaphore
    _on_wait: Callable[[], None]
    _sequence: bytes = b""
    _known_value: bytes = b""
    _outcome: "asyncio.Future[Ending] | None" = None
    _final_ending: Ending | None = None
    _has_turn: bool = False
    waited_ns: int = 0

    @property
    def sequence(self) -> bytes | None:
        """The key of the sequence that the caller waits for; None if it does not wait now."""
        is_waiting = self._outcome is not None and not self._outcome.done()
        return self._sequence if is_waiting else None

    async def until_changed(self, sequence: bytes, seen: bytes) -> Ending:
        """Wait for a commit.

        Args:
            sequence: the key of a sequence.
            seen: the value of its row that the caller has read; empty without a row. A commit that
                followed this read ends the wait, also one before this call.
        Returns:
            Why the wait has ended. After CHANGED and OVER, the caller has one of the few turns to
            read the store, until it waits again or leaves the place.
        """
        self.leave()
        if self._final_ending is not None:
            return self._final_ending
        self._sequence = sequence
        self._known_value = seen
        self._outcome = asyncio.get_running_loop().create_future()
        self._on_wait()
        began_ns = time.perf_counter_ns()
        try:
            return await self._outcome
        finally:
            self.waited_ns += time.perf_counter_ns() - began_ns

    def has_changed(self, value: bytes) -> bool:
        """Return whether the row of the sequence has another value than the caller has read."""
        return value != self._known_value

    async def wake(self, ending: Ending) -> None:
        """End the wait as soon as few others are awake."""
        await self._turns.acquire()
        if self.sequence is None:  # the wait has ended meanwhile
            self._turns.release()
            return
        self._has_turn = True
        self.end(ending, is_final=ending is not Ending.CHANGED)

    def end(self, ending: Ending, *, is_final: bool = True) -> None:
        """End the wait at once, and if `is_final` all later waits of this caller too."""
        if is_final:
            self._final_ending = ending
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(ending)

    def leave(self) -> None:
        """Give the turn back, so that another caller is woken."""
        if self._has_turn:
            self._has_turn = False
            self._turns.release()


@dataclass(eq=False)
class SequenceWaits:
    """The callers of one process that wait for commits.

    Only the event loop's thread may use an instance.

    Args:
        store: has the sequences.
        bounds: of the places.
        now_s: a monotonic clock, in seconds.
        pause: waits for some seconds between two looks at the store.
    """

    store: Store
    bounds: WaitBounds
    now_s: Callable[[], float] = time.monotonic
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep
    _by_owner: dict[str, dict[int, WaitingPlace]] = field(default_factory=dict)
    _by_client: Counter[str] = field(default_factory=Counter)
    _places: dict[int, WaitingPlace] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AWAKE_AT_ONCE))
    _task: "asyncio.Task[None] | None" = None
    _last_commit: int | None = None
    _is_closed: bool = False

    @property
    def taken(self) -> int:
        """The number of places that are taken."""
        return len(self._places)

    @contextmanager
    def place(self, waiting: Waiting) -> Iterator[WaitingPlace | None]:
        """Take a place for the `with` block; None if the caller cannot wait."""
        if not self._make_room(waiting):
            yield None
            return
        place = WaitingPlace(
            waiting=waiting,
            ends_at_s=self.now_s() + waiting.wait_s,
            _turns=self._turns,
            _on_wait=self._start_watching,
        )
        self._places[id(place)] = place
        self._by_owner.setdefault(waiting.owner, {})[id(place)] = place
        if waiting.client is not None:
            self._by_client[waiting.client] += 1
        try:
            yield place
        finally:
            place.leave()
            self._remove(place)

    def close(self) -> None:
        """End all waits, and let nobody wait from now on."""
        self._is_closed = True
        for place in tuple(self._places.values()):
            place.end(Ending.CLOSED)
        if self._task is not None:
            self._task.cancel()

    async def look(self) -> None:
        """End the waits that are over, and those whose sequence has another value.

        Raises:
            SpaceError: the store does not answer.
        """
        # A wait that would be over before the next look ends now, so that none is too long.
        latest_s = self.now_s() + self._pause_s
        for place in tuple(self._places.values()):
            if place.waiting.is_gone():
                place.end(Ending.GONE)
        expired = [place for place in self._places.values() if place.ends_at_s <= latest_s]
        await _wake_in_turn(expired, Ending.OVER)
        changed = await self._find_changed()
        await _wake_in_turn(changed, Ending.CHANGED)

    @property
    def _pause_s(self) -> float:
        """The time between two looks at the store, seconds."""
        return _LOCAL_PAUSE_S if isinstance(self.store, CountedStore) else _DATABASE_PAUSE_S

    def _make_room(self, waiting: Waiting) -> bool:
        """Make room for a caller, and return whether there is room (CF13).

        If all places are taken, the owner with the most places may lose its oldest one.
        """
        bounds = self.bounds
        own_count = len(self._by_owner.get(waiting.owner, ()))
        if self._is_closed or bounds.most == 0 or own_count >= bounds.most_per_owner:
            return False
        if self._is_client_at_limit(waiting.client):
            return False
        if len(self._places) < bounds.most:
            return True
        places_of_largest_owner = max(self._by_owner.values(), key=len)
        # Otherwise the two owners would take the place from each other again and again.
        if len(places_of_largest_owner) <= own_count + 1:
            return False
        oldest = next(iter(places_of_largest_owner.values()))
        oldest.end(Ending.GIVEN_UP)
        self._remove(oldest)
        return True

    def _is_client_at_limit(self, client: str | None) -> bool:
        """Return whether a client's address has all places that it may have."""
        limit = self.bounds.most_per_client
        if client is None or limit == 0:  # not counted
            return False
        return self._by_client[client] >= limit

    def _start_watching(self) -> None:
        """Start the task that looks at the store, unless it runs; a caller waits from now on."""
        # The caller may have read the store before the last look at it, so the next one is full.
        self._last_commit = None
        if self._task is None and not self._is_closed:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    def _remove(self, place: WaitingPlace) -> None:
        """Free a place, unless another owner got it already."""
        if self._places.pop(id(place), None) is None:
            return
        waiting = place.waiting
        places_of_owner = self._by_owner[waiting.owner]
        del places_of_owner[id(place)]
        if not places_of_owner:
            del self._by_owner[waiting.owner]
        if waiting.client is not None:
            self._by_client[waiting.client] -= 1
            if not self._by_client[waiting.client]:
                del self._by_client[waiting.client]

    async def _watch(self) -> None:
        """Look at the store again and again, as long as somebody waits."""
        try:
            while self._places:
                await self.pause(self._pause_s)
                # After an error the callers wait on. When their time is over, they read the store
                # and get the error themselves.
                with suppress(SpaceError):
                    await self.look()
        finally:
            self._task = None
            for place in tuple(self._places.values()):  # only after a bug, or in `close`
                place.end(Ending.GIVEN_UP)

    async def _find_changed(self) -> list[WaitingPlace]:
        """Return the callers whose sequence has another value than they have read."""
        if isinstance(self.store, CountedStore):
            last_commit = self.store.last_commit()
            if last_commit == self._last_commit:  # nothing was committed since the last look
                return []
            self._last_commit = last_commit
        places_by_sequence: dict[bytes, list[WaitingPlace]] = {}
        for place in self._places.values():
            if place.sequence is not None:
                places_by_sequence.setdefault(place.sequence, []).append(place)
        values = await self._read_values(tuple(places_by_sequence))
        changed: list[WaitingPlace] = []
        for sequence, places in places_by_sequence.items():
            for place in places:
                if place.has_changed(values[sequence]):
                    changed.append(place)
        return changed

    async def _read_values(self, sequences: Sequence[bytes]) -> dict[bytes, bytes]:
        """Read the values of the rows of sequences; without a row, the value is empty."""
        values: dict[bytes, bytes] = {}
        for start in range(0, len(sequences), MAX_READ_KEYS):
            batch = sequences[start : start + MAX_READ_KEYS]
            records = (await self.store.read(batch)).records
            for sequence, record in zip(batch, records, strict=True):
                values[sequence] = b"" if record is None else record.value or b""
        return values


async def _wake_in_turn(places: Sequence[WaitingPlace], ending: Ending) -> None:
    """Wake callers in rounds: each round has one caller of every owner that is left."""
    rounds: dict[int, list[WaitingPlace]] = {}
    counts: Counter[str] = Counter()  # how many callers of an owner were seen
    for place in places:
        owner = place.waiting.owner
        rounds.setdefault(counts[owner], []).append(place)
        counts[owner] += 1
    # The first caller of each later round was seen after one of the round before, so the rounds are
    # in order.
    for places_of_round in rounds.values():
        for place in places_of_round:
            await place.wake(ending)
