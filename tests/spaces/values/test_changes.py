"""Readers of changes end with exactly the values of the store, whatever is written meanwhile."""

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace
from space_grants import NOW
from tests_support import CountingEntropy
from value_bench import SPACE, Bench, Write

from spaces.archive.checking import check_store
from spaces.keyspace import deleted_key, space_keys
from spaces.space_errors import CommitTooLarge
from spaces.store.contract import Commit, Committed, Range, Store, has_value, read_page, read_row
from spaces.store.lmdb.snapshots import RowSource
from spaces.store.sequences import sequence_of
from spaces.values.changes import ChangesQuery, read_changes
from spaces.values.deleted_paths import (
    KEPT_DAYS,
    feed_start_of,
    plan_early_removal,
    sweep_deleted_paths,
)
from spaces.values.object_folder import ObjectFolder
from spaces.values.value_bodies import Body
from spaces.values.value_heads import head_key, head_of
from spaces.values.value_storage import Values
from spaces.values.value_writes import Write as ValueWrite

# More by `make changes-model`.
COMMITS = int(os.environ.get("CHANGES_MODEL_COMMITS", "1000"))
OWN = space_keys(SPACE)
PREFIXES = ("a", "a/", "b", "a/long")
PATHS = (
    *[f"a/{name}" for name in "abcdef"],
    *[f"b/{name}" for name in "abc"],
    "a",
    "ab",
    "a/long/" + "l" * 500,
    "a/long/" + "l" * 900,
    "b/" + "l" * 450,
)
DAY_S = 86_400.0


@dataclass
class Reader:
    """A reader with a copy of the values below a prefix.

    Attributes:
        prefix: the prefix.
        limit: the limit of its pages.
        copy: the etag of each path.
        position, floor, history: what a cursor contains.
    """

    prefix: str
    limit: int
    copy: dict[str, str] = field(default_factory=dict)
    position: int = 0
    floor: int | None = None
    history: bytes = b""

    async def read(self, store: Store) -> bool:
        """Read a page, and return whether more follows."""
        query = self._query(0, 0)
        snapshot = await store.read((OWN.sequence, OWN.feed_start), ranges=(query.first_range(),))
        state = sequence_of(snapshot.records[0])
        if self.floor is None:
            self.floor = state.number
        else:
            assert state.contains(self.position, self.history)
        self.history = state.history
        query = self._query(self.floor, state.number)
        page = await read_changes(store, query, snapshot.pages[0])
        numbers = [change.number for change in page.changes]
        # A change never appears before one that was read, and no commit is split between pages.
        assert numbers == sorted(numbers)
        assert all(self.position < number <= page.number for number in numbers)
        assert len({change.path for change in page.changes}) == len(page.changes)
        assert len([number for number in numbers if number != numbers[-1]]) < self.limit
        for change in page.changes:
            if change.head is None:
                assert change.number > self.floor
                self.copy.pop(change.path, None)
            else:
                self.copy[change.path] = change.head.etag
        self.position = page.number
        return page.more

    def _query(self, floor: int, until: int) -> ChangesQuery:
        return ChangesQuery(
            space=SPACE,
            prefix=self.prefix,
            after=self.position,
            floor=floor,
            until=until,
            limit=self.limit,
        )

    def covers(self, path: str) -> bool:
        """Return whether a path is the prefix or below it."""
        return path == self.prefix or path.startswith(self.prefix.rstrip("/") + "/")


async def state_of(store: Store) -> dict[str, str]:
    """Return the etag of each value."""
    keys = [head_key(SPACE, path) for path in PATHS]
    records = (await store.read(keys)).records
    heads = [head_of(record, key=key) for key, record in zip(keys, records, strict=True)]
    return {head.path: head.etag for head in heads if head is not None}


async def write_at_random(store: Store, values: Values, seed: int, commits: int) -> None:
    """Write and delete values, in commits of one to three paths."""
    chance = random.Random(seed)  # not for secrets
    for at in range(commits):
        paths = chance.sample(PATHS, chance.randint(1, 3))
        bodies = {path: b"%d-%04d" % (seed, at) for path in paths if chance.random() < 0.6}
        is_written = False
        while not is_written:
            is_written = await write_once(store, values, paths, bodies)


async def write_once(
    store: Store, values: Values, paths: Sequence[str], bodies: dict[str, bytes]
) -> bool:
    """Write values, and delete those without a body. Return whether the commit was accepted."""
    keys = [head_key(SPACE, path) for path in paths]
    records = (await store.read(keys)).records
    async with values.staging() as staging:
        writes: list[ValueWrite] = []
        current = []
        for path, record in zip(paths, records, strict=True):
            body: Body | None = None
            if path in bodies:
                body = await staging.keep(bodies[path])
            elif record is None:
                continue  # what was never written cannot be deleted
            writes.append(ValueWrite(path, body))
            current.append(record)
        if not writes:
            return True
        draft = await values.draft(SPACE, writes, current)
        plan = await draft.finalize(now=NOW)
        commit = Commit(puts=plan.puts, checks=plan.checks, adds=plan.adds)
        return isinstance(await store.commit(commit), Committed)


@pytest.mark.parametrize("seed", range(2))
async def test_CF3_readers_end_with_the_values_of_the_store(
    seed: int,
    engine: Callable[[], Store],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """Readers that begin at any time, with any prefix and limit, over any server connection, miss
    nothing, never go back, and end with exactly the values below their prefix (CF2, CF3, CF5)."""
    chance = random.Random(seed)  # not for secrets
    is_shared = "postgres" in request.node.callspec.id
    async with AsyncExitStack() as stack:
        stores: list[Store] = []
        for _ in range(3 if is_shared else 1):
            stores.append(engine())
            stack.push_async_callback(stores[-1].close)
        writers = []
        for at in range(4):
            store = stores[at % len(stores)]
            folder = ObjectFolder(tmp_path / "blobs")
            values = Values(store, folder, CountingEntropy(b"%d" % at))
            work = write_at_random(store, values, 100 * seed + at, COMMITS // 4)
            writers.append(asyncio.create_task(work))
        readers: list[Reader] = []
        while not all(one.done() for one in writers):
            if len(readers) < 24:
                readers.append(Reader(chance.choice(PREFIXES), chance.randint(1, 6)))
            await chance.choice(readers).read(chance.choice(stores))
            await asyncio.sleep(0)
        await asyncio.gather(*writers)
        final = await state_of(stores[0])
        for reader in readers:
            store = chance.choice(stores)
            more = True
            while more:
                more = await reader.read(store)
            covered = {path: etag for path, etag in final.items() if reader.covers(path)}
            covered.pop("a", None) if reader.prefix == "a/" else None
            assert reader.copy == covered
            assert not await reader.read(store)


async def written(bench: Bench, *paths: str) -> None:
    """Write values, one in each commit."""
    for path in paths:
        await bench.write(Write(path, b"1"))


async def deleted(bench: Bench, *paths: str) -> None:
    """Delete values, one in each commit."""
    for path in paths:
        await bench.write(Write(path, None))


async def rows_of(bench: Bench, prefix: bytes) -> int:
    """Return the number of rows with a prefix."""
    return len((await read_page(bench.store, Range(prefix))).rows)


async def feed_start(bench: Bench) -> int:
    """Return up to which number rows of deleted paths were removed."""
    return feed_start_of(await read_row(bench.store, OWN.feed_start))


async def test_CF6_rows_of_deleted_paths_are_removed(bench: Bench, one_rows: RowSource) -> None:
    """A row of a deleted path is removed after its days, and the space records its number. A path
    that was written again has no such row."""
    long = "l" * 900
    await written(bench, "a", "b", long, "c")
    await deleted(bench, "a", long, "c")
    await written(bench, "c")
    assert (await rows_of(bench, b"Z"), await rows_of(bench, b"z")) == (1, 1)
    store = bench.store
    assert not await sweep_deleted_paths(store, now=NOW + KEPT_DAYS * DAY_S - 1)
    assert (await rows_of(bench, b"Z"), await rows_of(bench, b"z")) == (1, 1)
    assert await feed_start(bench) == 0
    assert not await sweep_deleted_paths(store, now=NOW + KEPT_DAYS * DAY_S + 1)
    assert (await rows_of(bench, b"Z"), await rows_of(bench, b"z")) == (0, 0)
    assert await feed_start(bench) == 6
    findings = (await check_store(one_rows, bench.files, bench.folder.parent)).findings
    assert [one.text for one in findings if one.what != "store"] == []


async def test_CF6_a_write_removes_rows_that_it_needs(bench: Bench) -> None:
    """A write that lacks bytes removes rows of deleted paths in its commit, as many as it needs,
    or none if they do not suffice."""
    await written(bench, "a", "b", "c")
    await deleted(bench, "a", "b", "c")
    key = deleted_key(head_key(SPACE, "a"))
    one = await plan_early_removal(bench.store, OWN, excess_bytes=1, besides=frozenset([key]))
    assert one.freed_bytes == 257
    assert isinstance(await bench.store.commit(Commit(puts=one.puts)), Committed)
    assert has_value(await read_row(bench.store, key))
    assert await feed_start(bench) == 5
    assert await bench.rows() == 2 * 257
    too_many = await plan_early_removal(bench.store, OWN, excess_bytes=515, besides=frozenset())
    assert too_many.puts == ()


async def test_CF6_a_deleted_path_leaves_nothing_where_it_was(bench: Bench) -> None:
    """Writes and deletes of one path leave one position in the feed."""
    for _ in range(5):
        await written(bench, "a")
        await written(bench, "a")
        await deleted(bench, "a")
        await deleted(bench, "a")
        page = await read_page(bench.store, Range(OWN.sequence, by_number=True))
        assert len(page.rows) == 1
    assert sequence_of(await read_row(bench.store, OWN.sequence)).number == 20


async def test_CF3_a_page_ends_before_it_is_large(bench: Bench) -> None:
    """A page ends with the commit in which its paths and metadata exceed 2 MiB."""
    metadata = {"x-tinycloud-meta-a": "v" * 16_000}
    for first in range(0, 300, 30):
        await bench.write(*[Write(f"a/{first + at}", b"", metadata) for at in range(30)])
    reader = Reader("a", 1000)
    assert await reader.read(bench.store)
    assert 130 < len(reader.copy) < 200
    assert len(reader.copy) % 30 == 0
    while await reader.read(bench.store):
        pass
    assert len(reader.copy) == 300


async def test_CF1_a_page_has_a_limit(bench: Bench) -> None:
    """A page has a limit of 1 to 1000 changes."""
    for limit in (0, 1001):
        with pytest.raises(CommitTooLarge):
            await Reader("a", limit).read(bench.store)


async def test_CF3_a_row_that_moves_while_a_page_is_read(bench: Bench) -> None:
    """A value that is written again between the two reads of a page is left out, and follows at its
    new place, after what was written before it."""
    await written(bench, "a/1", "a/2")
    query = ChangesQuery(space=SPACE, prefix="a", after=0, floor=2, until=2, limit=10)
    listed = await read_page(bench.store, query.first_range())
    await written(bench, "a/3", "a/1")
    await deleted(bench, "a/2")
    page = await read_changes(bench.store, query, listed)
    assert (page.changes, page.number, page.more) == ((), 2, True)
    reader = Reader("a", 10, position=page.number, floor=2)
    reader.history = sequence_of(await read_row(bench.store, OWN.sequence)).history
    assert not await reader.read(bench.store)
    assert sorted(reader.copy) == ["a/1", "a/3"]


async def test_CF3_a_page_ends_where_its_first_read_ends(bench: Bench) -> None:
    """A page whose later reads find newer commits leaves them to the next page. So its number is
    one of the histories that were read first."""
    await written(bench, *[f"a/{at}" for at in range(6)])
    query = ChangesQuery(space=SPACE, prefix="a", after=0, floor=6, until=6, limit=3)
    listed = await read_page(bench.store, query.first_range())
    await bench.write(*[Write(f"a/{at}", b"2") for at in range(3)])
    await written(bench, "a/6")
    page = await read_changes(bench.store, replace(query, limit=1000), listed)
    assert [one.path for one in page.changes] == ["a/3", "a/4", "a/5"]
    assert (page.number, page.more) == (6, True)


async def test_CF3_a_page_examines_a_bounded_number_of_rows(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After many changes elsewhere the page is empty, and the next one begins behind them."""
    monkeypatch.setattr("spaces.values.changes._EXAMINED_ROWS", 20)
    monkeypatch.setattr("spaces.values.changes.MAX_PAGE_ROWS", 10)
    await written(bench, *[f"b/{at}" for at in range(50)])
    await bench.write(Write("a/1", b""), Write("b/last", b""))
    reader = Reader("a", 5)
    pages = 0
    while await reader.read(bench.store):
        pages += 1
        assert reader.position > 15 * pages
    assert pages == 2
    assert list(reader.copy) == ["a/1"]
