"""Sequences: numbers that are taken in commits, on every engine (ST24)."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import pytest

from spaces.space_errors import CommitInvalid, CommitTooLarge
from spaces.store.contract import (
    ABSENT,
    MAX_SEQUENCE_BYTES,
    Add,
    Check,
    Commit,
    Committed,
    Page,
    Put,
    Range,
    Record,
    Refused,
    Store,
    read_page,
    read_row,
)
from spaces.store.sequences import (
    MAX_HISTORIES,
    NO_HISTORY,
    History,
    SequenceState,
    advance,
    number_of,
    sequence_of,
)

ONE, OTHER = b"H" + b"1" * 16, b"H" + b"2" * 16


async def listed(
    store: Store, sequence: bytes = ONE, *, after: bytes | None = None, limit: int = 1000
) -> list[tuple[int, bytes]]:
    """Return the numbers and keys of the rows of a sequence."""
    page = await read_page(store, Range(sequence, after=after, limit=limit, by_number=True))
    return split(page, sequence)


def split(page: Page, sequence: bytes = ONE) -> list[tuple[int, bytes]]:
    """Split the entries of a page into numbers and keys."""
    end = len(sequence) + 8
    return [(number_of(entry[:end]), entry[end:]) for entry, _ in page.rows]


async def put(store: Store, *keys: bytes, value: bytes = b"v", sequence: bytes = ONE) -> None:
    """Write rows into a sequence, in one commit."""
    puts = tuple(Put(key, value, sequence=sequence) for key in keys)
    assert isinstance(await store.commit(Commit(puts=puts)), Committed)


async def number(store: Store, sequence: bytes = ONE) -> int:
    """Return the last number of a sequence."""
    return sequence_of(await read_row(store, sequence)).number


async def test_ST24_a_commit_takes_the_next_number(store: Store) -> None:
    """The rows of a commit have one number, the next one; other sequences have their own."""
    assert await number(store) == 0
    await put(store, b"Kb", b"Ka")
    await put(store, b"Kc")
    await put(store, b"Kx", sequence=OTHER)
    assert await listed(store) == [(1, b"Ka"), (1, b"Kb"), (2, b"Kc")]
    assert await listed(store, OTHER) == [(1, b"Kx")]
    assert await number(store) == 2
    both = Commit(puts=(Put(b"Ka", b"", sequence=ONE), Put(b"Ky", b"", sequence=OTHER)))
    assert isinstance(await store.commit(both), Committed)
    assert await listed(store) == [(1, b"Kb"), (2, b"Kc"), (3, b"Ka")]
    assert await listed(store, OTHER) == [(1, b"Kx"), (2, b"Ky")]


async def test_ST24_a_row_has_one_position(store: Store) -> None:
    """A row that is written again leaves its position; one that is deleted, or written outside of
    the sequence, has none. A row with a weight has both."""
    await put(store, b"Ka", b"Kb", b"Kc")
    weighed = Put(b"Ka", b"long", weight_bytes=4, account=b"cU", sequence=ONE)
    assert isinstance(await store.commit(Commit(puts=(weighed,))), Committed)
    assert isinstance(
        await store.commit(Commit(puts=(Put(b"Kb", None), Put(b"Kc", b"w")))), Committed
    )
    assert await listed(store) == [(2, b"Ka")]
    records = (await store.read((b"Ka", b"Kb", b"Kc"))).records
    positions = [None if one is None else one.position for one in records]
    assert positions == [ONE + (2).to_bytes(8, "big"), b"", b""]
    assert [one and one.value for one in records] == [b"long", None, b"w"]
    (page,) = (await store.read(ranges=(Range(b"K"),))).pages
    assert [record.position for _, record in page.rows] == [positions[0], b""]
    again = Put(b"Ka", b"", sequence=OTHER)
    assert isinstance(await store.commit(Commit(puts=(again,))), Committed)
    assert await listed(store) == []


async def test_ST24_a_refused_commit_takes_no_number(store: Store) -> None:
    """A commit whose condition is not met leaves no gap, and lists nothing."""
    await put(store, b"Ka")
    refused = (
        Commit(puts=(Put(b"Ka", b"", expect=ABSENT, sequence=ONE),)),
        Commit(puts=(Put(b"Kb", b"", sequence=ONE),), live=(b"Lx",)),
        Commit(puts=(Put(b"Kb", b"", sequence=ONE),), checks=(Check(b"Ka", b"s" * 16),)),
        Commit(puts=(Put(b"Kb", b"", sequence=ONE),), adds=(Add(b"cU", 2, at_most=1),)),
    )
    for commit in refused:
        assert isinstance(await store.commit(commit), Refused)
    assert await listed(store) == [(1, b"Ka")]
    assert await number(store) == 1


async def test_ST24_the_row_of_a_sequence_as_a_condition(store: Store) -> None:
    """A commit that relies on the row of a sequence is refused once another took a number, also if
    both are written at the same time."""
    await put(store, b"Ka")
    record = await read_row(store, ONE)
    assert record is not None
    relying = Commit(puts=(Put(b"Kc", b""),), checks=(Check(ONE, record.stamp),))
    outcomes = await asyncio.gather(
        store.commit(Commit(puts=(Put(b"Kb", b"", sequence=ONE),))), store.commit(relying)
    )
    assert [type(one) for one in outcomes] == [Committed, Refused]


async def test_ST24_pages_by_number(store: Store) -> None:
    """Pages of any length add up to the whole, in the order of numbers and then of keys."""
    for first in range(5):
        await put(store, *(b"K%d%d" % (first, at) for at in range(3)))
    whole = await listed(store)
    assert whole == sorted(whole)
    assert len(whole) == 15
    for limit in (1, 2, 7, 15, 16):
        found: list[tuple[int, bytes]] = []
        range_ = Range(ONE, limit=limit, by_number=True)
        more = True
        while more:
            page = await read_page(store, range_)
            assert len(page.rows) <= limit
            found += split(page)
            more = page.more
            range_ = Range(ONE, after=page.last_key, limit=limit, by_number=True)
        assert found == whole
    after = ONE + (3).to_bytes(8, "big") + b"\xff"
    assert await listed(store, after=after) == whole[9:]


async def test_ST24_only_the_store_writes_the_row_of_a_sequence(store: Store) -> None:
    """A commit that puts or counts the row of its sequence, or deletes into one, is invalid."""
    into = Put(b"Ka", b"", sequence=ONE)
    for commit in (
        Commit(puts=(into, Put(ONE, b""))),
        Commit(puts=(into,), adds=(Add(ONE, 1),)),
        Commit(puts=(Put(b"Ka", b"", weight_bytes=1, account=ONE, sequence=ONE),)),
        Commit(puts=(Put(b"Ka", None, sequence=ONE),)),
    ):
        with pytest.raises(CommitInvalid):
            await store.commit(commit)
    for length in (0, MAX_SEQUENCE_BYTES + 1):
        with pytest.raises((CommitInvalid, CommitTooLarge)):
            await store.commit(Commit(puts=(Put(b"Ka", b"", sequence=b"H" * length),)))
        with pytest.raises((CommitInvalid, CommitTooLarge)):
            await read_page(store, Range(b"H" * length, by_number=True))


async def test_ST24_numbers_in_one_history_are_contained(store: Store) -> None:
    """While the store is open, each number belongs to one history."""
    await put(store, b"Ka")
    before = sequence_of(await read_row(store, ONE))
    await put(store, b"Kb")
    state = sequence_of(await read_row(store, ONE))
    assert state.history == before.history != NO_HISTORY
    assert [state.contains(at, before.history) for at in (0, 1, 2, 3)] == [True, True, True, False]
    assert not state.contains(1, b"another!")


async def commit_at_random(store: Store, seed: int, count: int) -> None:
    """Write rows of the same size into a sequence, and delete some."""
    chance = random.Random(seed)  # not for secrets
    for at in range(count):
        keys = chance.sample([b"K%d" % key for key in range(12)], chance.randint(1, 3))
        value = b"%d-%03d" % (seed, at)
        puts = [Put(key, value, sequence=ONE) for key in (*keys, b"U" + value)]
        if chance.random() < 0.3:
            puts[0] = Put(b"D" + keys[0], value, sequence=ONE)
            puts.append(Put(keys[0], None))
        assert isinstance(await store.commit(Commit(puts=tuple(puts))), Committed)


async def test_ST24_no_number_appears_before_a_lower_one(
    engine: Callable[[], Store], request: pytest.FixtureRequest
) -> None:
    """Writers with connections of their own take different numbers. A reader that reads only what
    was written after the last number that it saw misses nothing."""
    async with AsyncExitStack() as stack:
        stores: list[Store] = []
        # A process can open a folder once.
        is_shared = "postgres" in request.node.callspec.id
        for _ in range(3 if is_shared else 1):
            stores.append(engine())
            stack.push_async_callback(stores[-1].close)
        await write_and_follow(stores)


async def test_ST24_the_first_numbers_of_a_sequence(
    engine: Callable[[], Store], request: pytest.FixtureRequest
) -> None:
    """Commits that begin a sequence at the same time take different numbers."""
    async with AsyncExitStack() as stack:
        stores: list[Store] = []
        is_shared = "postgres" in request.node.callspec.id
        for _ in range(3 if is_shared else 1):
            stores.append(engine())
            stack.push_async_callback(stores[-1].close)
        for at in range(30):
            sequence = b"H%016d" % at
            await asyncio.gather(
                *[
                    put(stores[one % len(stores)], b"K%d-%d" % (at, one), sequence=sequence)
                    for one in range(3)
                ]
            )
            assert [number for number, _ in await listed(stores[0], sequence)] == [1, 2, 3]


async def write_and_follow(stores: Sequence[Store]) -> None:
    stop = asyncio.Event()
    readers = [asyncio.create_task(follow_rows(one, stop)) for one in stores]
    await asyncio.gather(
        *[commit_at_random(stores[seed % len(stores)], seed, 30) for seed in range(6)]
    )
    stop.set()
    seen = await asyncio.gather(*readers)
    assert await number(stores[0]) == 180
    numbers = [at for at, key in await listed(stores[0]) if key.startswith(b"U")]
    assert numbers == list(range(1, 181))
    final = dict(await values_of(stores[0]))
    for copy in seen:
        assert copy == final


async def values_of(store: Store) -> list[tuple[bytes, bytes | None]]:
    """Return the rows that are there."""
    snapshot = await store.read(ranges=(Range(b"K"), Range(b"DK"), Range(b"U")))
    return [(key, record.value) for page in snapshot.pages for key, record in page.rows]


async def follow_rows(store: Store, stop: asyncio.Event) -> dict[bytes, bytes | None]:
    """Keep a copy of the rows by reading only what was written after the last number."""
    copy: dict[bytes, bytes | None] = {}
    seen = 0
    is_last = False
    while not is_last:
        is_last = stop.is_set()
        after = ONE + seen.to_bytes(8, "big") + b"\xff"
        snapshot = await store.read((ONE,), ranges=(Range(ONE, after=after, by_number=True),))
        last = sequence_of(snapshot.records[0]).number
        for at, key in split(snapshot.pages[0]):
            assert seen < at <= last
            record = await read_row(store, key)
            if record is not None and number_of(record.position or b"\0" * 8) == at:
                copy[key] = record.value
                if key.startswith(b"D"):
                    copy.pop(key[1:], None)
        seen = last
        await asyncio.sleep(0)
    return copy


def test_histories_are_bounded() -> None:
    """The row keeps the latest histories. A number of an earlier one, or of one that another
    history replaced, is not contained."""
    value = b""
    ids = [b"history%d" % at for at in range(3)]
    for at in range(3):
        for _ in range(2):
            value = advance(value, ids[at])
    state = sequence_of(Record(value, b""))
    assert state == SequenceState(
        number=6,
        histories=(
            History(first_number=1, id=ids[0]),
            History(first_number=3, id=ids[1]),
            History(first_number=5, id=ids[2]),
        ),
    )
    assert [state.contains(at, ids[1]) for at in range(6)] == [True] * 5 + [False]
    assert [state.contains(at, ids[2]) for at in (1, 6, 7)] == [True, True, False]
    for at in range(MAX_HISTORIES):
        value = advance(value, b"later%03d" % at)
    state = sequence_of(Record(value, b""))
    assert len(state.histories) == MAX_HISTORIES
    assert not state.contains(1, ids[2])
