"""Tests of the places of callers that wait for commits, and of the looks at the store."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack

import pytest
from patience import until

from spaces.store.contract import Put, Store, commit_puts
from spaces.store.sequence_waits import (
    Ending,
    SequenceWaits,
    WaitBounds,
    Waiting,
    WaitingPlace,
)

_SEQUENCE = b"H-a"
_OTHER = b"H-b"


class Looks:
    """The pauses of a watcher, which end when the test says so."""

    def __init__(self) -> None:
        self._due = asyncio.Event()
        self.begun = 0

    async def pause(self, _pause_s: float) -> None:
        self.begun += 1
        await self._due.wait()
        self._due.clear()

    def end_pause(self) -> None:
        """Let the watcher look at the store soon."""
        self._due.set()

    async def look(self) -> None:
        """Let the watcher look at the store, and return when it is done."""
        done = self.begun
        self._due.set()
        await until(lambda: self.begun > done)


class Stage:
    """Callers that wait for commits to one store."""

    def __init__(self, store: Store, *, most: int, per_owner: int, per_client: int) -> None:
        self.store = store
        self.time_s = 0.0
        self.looks = Looks()
        self.opened = ExitStack()
        self.waits = SequenceWaits(
            store,
            WaitBounds(most=most, most_per_owner=per_owner, most_per_client=per_client),
            now_s=lambda: self.time_s,
            pause=self.looks.pause,
        )

    def take(
        self,
        owner: str,
        *,
        client: str | None = None,
        wait_s: float = 30,
        is_gone: Callable[[], bool] = bool,
    ) -> WaitingPlace | None:
        """Take a place for an owner, or none."""
        waiting = Waiting(owner=owner, client=client, wait_s=wait_s, is_gone=is_gone)
        return self.opened.enter_context(self.waits.place(waiting))

    async def begin(
        self, owner: str, *, sequence: bytes = _SEQUENCE, is_gone: Callable[[], bool] = bool
    ) -> asyncio.Task[Ending]:
        """Let a caller of an owner wait for a sequence of which it has read the last value."""
        place = self.take(owner, is_gone=is_gone)
        assert place is not None
        record = (await self.store.read((sequence,))).records[0]
        seen = b"" if record is None else record.value or b""

        async def wait() -> Ending:
            ending = await place.until_changed(sequence, seen)
            place.leave()
            return ending

        task = asyncio.create_task(wait())
        begun = self.looks.begun
        await until(lambda: place.sequence is not None and self.looks.begun >= max(begun, 1))
        return task

    async def write(self, sequence: bytes) -> None:
        """Commit to a sequence."""
        assert await commit_puts(self.store, Put(b"row" + sequence, b"1", sequence=sequence))


@pytest.fixture
async def stage(store: Store) -> AsyncIterator[Stage]:
    """A store on which four callers may wait, at most three of one owner and two of a client."""
    made = Stage(store, most=4, per_owner=3, per_client=2)
    with made.opened:
        yield made
    made.waits.close()


async def test_CF11_only_the_callers_of_a_changed_space_are_woken(stage: Stage) -> None:
    """A commit ends the waits for its sequence, and no others."""
    first = await stage.begin("a")
    second = await stage.begin("b", sequence=_OTHER)
    await stage.looks.look()
    assert not (first.done() or second.done())
    await stage.write(_SEQUENCE)
    await stage.looks.look()
    assert await first is Ending.CHANGED
    assert not second.done()


async def test_CF11_a_commit_between_the_read_and_the_wait(stage: Stage) -> None:
    """A commit that the caller has not read ends its wait, although it came before the wait."""
    assert not (await stage.begin("b", sequence=_OTHER)).done()
    place = stage.take("a")
    assert place is not None
    await stage.write(_SEQUENCE)
    await stage.looks.look()
    waiting = asyncio.create_task(place.until_changed(_SEQUENCE, b""))
    await until(lambda: place.sequence is not None)
    await stage.looks.look()
    assert await waiting is Ending.CHANGED


async def test_CF11_the_time_is_over(stage: Stage) -> None:
    """A wait ends when its time is over, also for a caller that has been woken before."""
    waiting = await stage.begin("a")
    stage.time_s = 29
    await stage.looks.look()
    assert not waiting.done()
    stage.time_s = 30
    await stage.looks.look()
    assert await waiting is Ending.OVER


async def test_CF13_places_of_a_process_an_owner_and_a_client(stage: Stage) -> None:
    """There are as many places as the bounds say, and those that are left are free again."""
    stage.waits.bounds = WaitBounds(most=5, most_per_owner=3, most_per_client=2)
    assert stage.take("a", client="1") is not None
    assert stage.take("b", client="1") is not None
    assert stage.take("c", client="1") is None
    assert stage.take("a", client="2") is not None
    assert stage.take("a") is not None
    assert stage.take("a") is None
    assert stage.waits.taken == 4
    stage.opened.close()
    assert stage.waits.taken == 0
    assert stage.take("a", client="1") is not None


async def test_CF13_places_are_divided_among_owners(stage: Stage) -> None:
    """When all places are taken, an owner with two fewer than the owner with the most takes the
    oldest place of it; others get none."""
    owned = [await stage.begin("a") for _ in range(3)]
    assert not (await stage.begin("b")).done()
    assert not (await stage.begin("b")).done()
    assert await owned[0] is Ending.GIVEN_UP
    assert not owned[1].done()
    assert stage.take("b") is None
    assert stage.take("a") is None
    assert stage.take("c") is not None
    assert stage.take("c") is None
    assert stage.waits.taken == 4


async def test_CF13_a_caller_that_lost_its_place_does_not_wait_again(stage: Stage) -> None:
    """A caller whose place was given up while it read the store is told so afterwards."""
    place = stage.take("a")
    assert place is not None
    for _ in range(2):
        assert stage.take("a") is not None
    assert stage.take("b") is not None
    assert stage.take("b") is not None
    assert await place.until_changed(_SEQUENCE, b"") is Ending.GIVEN_UP


async def test_CF13_a_client_that_is_gone(stage: Stage) -> None:
    """The wait of a client that has disconnected ends with the next look."""
    is_gone = False
    waiting = await stage.begin("a", is_gone=lambda: is_gone)
    await stage.looks.look()
    assert not waiting.done()
    is_gone = True
    await stage.looks.look()
    assert await waiting is Ending.GONE


async def test_CF13_a_process_that_ends(stage: Stage) -> None:
    """All waits end when the process is about to end, and nobody gets a place any more."""
    waiting = await stage.begin("a")
    stage.waits.close()
    assert await waiting is Ending.CLOSED
    assert stage.take("b") is None


async def test_CF13_few_callers_are_awake_at_a_time(stage: Stage) -> None:
    """The third caller is woken when one of the first two is done, and the owners take turns."""
    places: list[WaitingPlace] = []
    order: list[str] = []

    async def wait(owner: str, place: WaitingPlace) -> None:
        await place.until_changed(_SEQUENCE, b"")
        order.append(owner)

    tasks = []
    for owner in ("a", "a", "a", "b"):
        place = stage.take(owner)
        assert place is not None
        places.append(place)
        tasks.append(asyncio.create_task(wait(owner, place)))
    await until(lambda: stage.looks.begun == 1)
    await stage.write(_SEQUENCE)
    looking = asyncio.create_task(stage.looks.look())
    await until(lambda: len(order) == 2)
    await asyncio.to_thread(lambda: None)
    assert order == ["a", "b"]
    for place in places:
        place.leave()
    await until(lambda: len(order) == 4)
    for place in places:
        place.leave()
    await looking
    await asyncio.gather(*tasks)


async def test_CF13_nobody_looks_where_nobody_waits(stage: Stage) -> None:
    """The store is looked at only while somebody waits."""
    assert stage.looks.begun == 0
    waiting = await stage.begin("a")
    assert stage.looks.begun == 1
    await stage.write(_SEQUENCE)
    stage.looks.end_pause()
    assert await waiting is Ending.CHANGED
    stage.opened.close()
    stage.looks.end_pause()
    await asyncio.to_thread(lambda: None)
    assert stage.looks.begun <= 2
