"""Index rows of long paths exist as long as a path below them does, under concurrent writes."""

import asyncio
import itertools
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from value_bench import SPACE, Bench, Write

from capabilities.resources import SpaceId
from spaces.keyspace import is_index_row, path_keys, space_id16, value_key
from spaces.space_errors import PathTooLong
from spaces.store.contract import Committed, Range, Refused, Store
from spaces.values.listing import ListingQuery, list_paths
from spaces.values.long_paths import MAX_PATH_BYTES

LONG = "x" * 400


async def leading(store: Store, space: SpaceId = SPACE) -> set[bytes]:
    """Return every index row of long paths."""
    space16 = space_id16(space)
    pages = (await store.read(ranges=(Range(b"K" + space16), Range(b"k" + space16)))).pages
    return {key for page in pages for key, _ in page.rows if is_index_row(key)}


def expected(paths: set[str], space: SpaceId = SPACE) -> set[bytes]:
    return {key for path in paths for key in path_keys(space_id16(space), path.encode())[:-1]}


async def test_rows_come_and_go_with_the_paths(bench: Bench) -> None:
    """The first long path of a group writes its index rows, and deleting the last path removes
    them."""
    paths = [LONG + "a", LONG + "b", LONG * 2 + "c", LONG * 4]
    for number, path in enumerate(paths, 1):
        await bench.write(Write(path, b""))
        assert expected(set(paths[:number])) == await leading(bench.store)
    await bench.write(Write(paths[0], b"again"))
    for number, path in enumerate(paths, 1):
        await bench.write(Write(path, None))
        assert expected(set(paths[number:])) == await leading(bench.store)
    await bench.write(Write(paths[0], None))  # deleted before
    assert await leading(bench.store) == set()


async def test_a_batch_takes_a_whole_group(bench: Bench) -> None:
    """Deleting all paths of a group in one commit leaves no index row."""
    paths = [LONG + "a", LONG + "b", LONG * 2 + "c", LONG * 2 + "d"]
    await bench.write(*[Write(path, b"") for path in paths])
    assert expected(set(paths)) == await leading(bench.store)
    await bench.write(*[Write(path, None) for path in paths[1:]])
    assert expected({paths[0]}) == await leading(bench.store)
    await bench.write(Write(paths[0], None), Write(paths[3], b""))
    assert expected({paths[3]}) == await leading(bench.store)


async def test_a_path_that_comes_while_the_last_one_leaves(bench: Bench) -> None:
    """A delete is refused if another path joined its group after the delete was planned."""
    await bench.write(Write(LONG + "a", b""))
    leaving = await bench.plan(Write(LONG + "a", None))
    await bench.write(Write(LONG + "b", b""))
    assert isinstance(await bench.commit(leaving), Refused)
    assert isinstance(await bench.commit(await bench.plan(Write(LONG + "a", None))), Committed)
    assert (await list_paths(bench.store, ListingQuery(SPACE))).paths == (LONG + "b",)


async def test_a_path_that_was_planned_before_the_last_one_left(bench: Bench) -> None:
    """A put writes its path's index rows even if they existed when the put was planned."""
    await bench.write(Write(LONG + "a", b""))
    coming = await bench.plan(Write(LONG + "b", b""))
    await bench.write(Write(LONG + "a", None))
    assert isinstance(await bench.commit(coming), Committed)
    assert (await list_paths(bench.store, ListingQuery(SPACE))).paths == (LONG + "b",)


@pytest.mark.parametrize("levels", [1, 2])
async def test_the_last_two_leave_at_once(bench: Bench, levels: int) -> None:
    """Of two concurrent deletes of a group's last two paths, the second is refused."""
    for letter in "ab":
        await bench.write(Write(LONG * levels + letter, b""))
    plans = [await bench.plan(Write(LONG * levels + letter, None)) for letter in "ab"]
    assert [Committed, Refused] == [type(await bench.commit(plan)) for plan in plans]
    await bench.write(Write(LONG * levels + "b", None))
    assert await leading(bench.store) == set()


async def test_the_last_of_two_groups_leave_at_once(bench: Bench) -> None:
    """Of two concurrent deletes that empty two groups of one parent, the second is refused."""
    paths = [LONG + letter * 400 + "z" for letter in "ab"]
    await bench.write(*[Write(path, b"") for path in paths])
    plans = [await bench.plan(Write(path, None)) for path in paths]
    assert [Committed, Refused] == [type(await bench.commit(plan)) for plan in plans]
    await bench.write(Write(paths[1], None))
    assert await leading(bench.store) == set()


async def test_paths_are_bounded(bench: Bench) -> None:
    """A path of 100,000 bytes is put and deleted in one commit each; a longer one is refused."""
    path = "p" * MAX_PATH_BYTES
    await bench.write(Write(path, b"x"))
    assert (await list_paths(bench.store, ListingQuery(SPACE))).paths == (path,)
    await bench.write(Write(path, None))
    assert await leading(bench.store) == set()
    with pytest.raises(
        PathTooLong, match=f"at most {MAX_PATH_BYTES} bytes; this one has {MAX_PATH_BYTES + 1}$"
    ):
        await bench.plan(Write(path + "p", b"x"))


class CountingStore:
    """A store that counts reads and the rows that they return."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reads = self.rows = 0
        self.commit, self.close = store.commit, store.close

    async def read(self, *arguments, **named):
        snapshot = await self._store.read(*arguments, **named)
        self.reads += 1
        self.rows += sum(len(page.rows) for page in snapshot.pages)
        return snapshot


@pytest.mark.parametrize("shared", [LONG, LONG * 3])
async def test_a_page_costs_its_own_length(bench: Bench, shared: str) -> None:
    """A page among many long paths reads as many rows as a page in a space of ten (M55)."""
    few = SpaceId(SPACE.owner, "few")
    costs = []
    for space, count in ((few, 10), (SPACE, 1000)):
        for start in range(0, count, 100):
            writes = [
                Write(f"{shared}{number:04}", b"")
                for number in range(start, min(start + 100, count))
            ]
            await bench.write(*writes, space=space)
        for limit in (1, 5):
            for after in (None, f"{shared}{3:04}", f"{shared}0003x"):
                counting = CountingStore(bench.store)
                listing = await list_paths(counting, ListingQuery(space, after=after, limit=limit))
                assert len(listing.paths) == limit
                assert listing.more is True
                costs.append((counting.reads, counting.rows))
    half = len(costs) // 2
    assert costs[:half] == costs[half:]
    assert max(rows for _, rows in costs) <= 2 * (5 + 1) + len(shared) // 400


async def test_a_page_of_groups_costs_its_own_length(bench: Bench) -> None:
    """A page over groups of one path each reads one row per listed group and one more."""
    paths = [f"{number:03}" + "g" * 400 for number in range(200)]
    for start in range(0, 200, 100):
        await bench.write(*[Write(path, b"") for path in paths[start : start + 100]])
    counting = CountingStore(bench.store)
    listing = await list_paths(counting, ListingQuery(SPACE, limit=20))
    assert tuple(paths[:20]) == listing.paths
    assert listing.more is True
    assert counting.reads <= 2 + 21
    assert counting.rows <= 2 * 21
    enough = await list_paths(bench.store, ListingQuery(SPACE, limit=100, enough_bytes=1000))
    assert tuple(paths[:2]) == enough.paths
    assert enough.more is True


@pytest.fixture
def running(
    one_engine: Callable[[], Store], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[asyncio.Runner, Bench]]:
    """One store for all examples, each of which has a space of its own."""
    with asyncio.Runner() as runner:
        store = one_engine()
        yield runner, Bench(store, tmp_path_factory.mktemp("blobs"))
        runner.run(store.close())


EXAMPLES = itertools.count()
PATHS = st.builds(
    lambda first, second, tail: first + second + tail,
    st.sampled_from(["", "s", LONG]),
    st.sampled_from(["", "y" * 400, "z" * 400]),
    st.sampled_from(["", "1", "2", "e" * 400]),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.dictionaries(PATHS, st.booleans(), min_size=1, max_size=4), max_size=12))
def test_rows_lead_to_what_there_is(
    running: tuple[asyncio.Runner, Bench], steps: list[dict[str, bool]]
) -> None:
    """After any puts and deletes, the index rows are exactly those of the existing paths."""
    runner, bench = running
    space = SpaceId(SPACE.owner, f"example-{next(EXAMPLES)}")
    there: set[str] = set()
    known: set[str] = set()

    async def run() -> None:
        for step in steps:
            writes = [
                Write(path, b"x" if put else None)
                for path, put in step.items()
                if put or path in known
            ]
            if writes:
                await bench.write(*writes, space=space)
            for write in writes:
                known.add(write.path)
                (there.discard if write.body is None else there.add)(write.path)
            assert expected(there, space) == await leading(bench.store, space)
        assert sorted(there) == list((await list_paths(bench.store, ListingQuery(space))).paths)
        keys = [value_key(space_id16(space), path) for path in there]
        assert all(record is not None for record in (await bench.store.read(keys)).records)

    runner.run(run())
