"""Tests of listings: pages of any size give the whole list in byte order."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from space_grants import NOW, OWNER
from tests_support import CountingEntropy

from capabilities.principals import Principal
from capabilities.resources import SpaceId
from spaces.space_errors import CommitTooLarge
from spaces.store.contract import Commit, Store
from spaces.values.listing import MAX_LISTING, Listing, ListingQuery, complete, list_paths
from spaces.values.object_folder import ObjectFolder
from spaces.values.value_bodies import inline_body
from spaces.values.value_heads import head_key
from spaces.values.value_storage import Values
from spaces.values.value_writes import Write

LONG = "x" * 400
SPACE = SpaceId(Principal(OWNER.did), "default")


async def write(store: Store, space: SpaceId, *writes: Write) -> None:
    values = Values(store, ObjectFolder(Path("unused")), CountingEntropy())
    records = (await store.read([head_key(space, write.path) for write in writes])).records
    plan = await (await values.draft(space, writes, records)).finalize(now=NOW)
    await store.commit(Commit(puts=plan.puts))


async def put(store: Store, *paths: str, space: SpaceId = SPACE) -> None:
    await write(store, space, *[Write(path, inline_body(b"")) for path in paths])


async def pages(store: Store, query: ListingQuery) -> list[str]:
    """Yield every page of a listing in order."""
    found: list[str] = []
    while True:
        listing = await list_paths(store, query)
        assert len(listing.paths) <= query.limit
        found += listing.paths
        if not listing.more:
            return found
        assert len(listing.paths) == query.limit
        query = ListingQuery(query.space, query.prefix, listing.paths[-1], query.limit)


async def test_prefix_is_plain(one_store: Store) -> None:
    """A prefix is compared by bytes, without segments or wildcards (4.4.4)."""
    await put(one_store, "photos", "photos/a", "photos2/b", "phot", "p%25", "a", "photos/")
    assert await pages(one_store, ListingQuery(SPACE, "photos")) == [
        "photos",
        "photos/",
        "photos/a",
        "photos2/b",
    ]
    assert await pages(one_store, ListingQuery(SPACE, "photos/")) == ["photos/", "photos/a"]
    assert await pages(one_store, ListingQuery(SPACE, "p%")) == ["p%25"]
    assert len(await pages(one_store, ListingQuery(SPACE))) == 7
    assert await pages(one_store, ListingQuery(SPACE, "none")) == []


async def test_order_is_that_of_bytes(one_store: Store) -> None:
    """Paths are listed in byte order, so capitals come before small letters (Q32)."""
    await put(one_store, "b", "B", "a_c", "a/2", "a/10", "a%25", "ab")
    assert await pages(one_store, ListingQuery(SPACE, limit=3)) == [
        "B",
        "a%25",
        "a/10",
        "a/2",
        "a_c",
        "ab",
        "b",
    ]


async def test_empty_path_is_a_path(one_store: Store) -> None:
    """The empty path can hold a value and is listed first."""
    await put(one_store, "", "a")
    assert await pages(one_store, ListingQuery(SPACE, limit=1)) == ["", "a"]


async def test_other_spaces_are_not_listed(one_store: Store) -> None:
    """A listing ends with its space."""
    await put(one_store, "a")
    await put(one_store, "b", space=SpaceId(SPACE.owner, "other"))
    assert await pages(one_store, ListingQuery(SPACE)) == ["a"]


async def test_deleted_paths_are_left_out(one_store: Store) -> None:
    """A listing omits deleted paths, however many there are (M31)."""
    await put(one_store, "a", "b", "c")
    await write(one_store, SPACE, Write("b", None))
    assert Listing(("a",), more=True) == await list_paths(one_store, ListingQuery(SPACE, limit=1))
    assert await pages(one_store, ListingQuery(SPACE, limit=1)) == ["a", "c"]


async def test_long_paths_are_listed_whole_and_in_order(one_store: Store) -> None:
    """Paths of more than 400 bytes are listed whole and in byte order."""
    paths = [
        LONG,
        *[f"{LONG}{letter}" for letter in "gbfaedc"],
        f"{LONG}b{LONG}",
        "x" * 399 + "y",
        "x" * 399,
        "y",
    ]
    await put(one_store, *paths)
    for limit in (1, 2, 3, 5, 100):
        assert sorted(paths) == await pages(one_store, ListingQuery(SPACE, limit=limit))
    assert [f"{LONG}b", f"{LONG}b{LONG}"] == await pages(
        one_store, ListingQuery(SPACE, f"{LONG}b", limit=1)
    )


async def test_long_paths_may_be_deleted(one_store: Store) -> None:
    """A listing omits a deleted long path."""
    await put(one_store, f"{LONG}a", f"{LONG}b")
    await write(one_store, SPACE, Write(f"{LONG}a", None))
    assert [f"{LONG}b"] == await pages(one_store, ListingQuery(SPACE))


async def test_first_page_is_read_with_other_things(one_store: Store) -> None:
    """The first page of a listing is read together with the rows that decide on access."""
    await put(one_store, "a", "b")
    query = ListingQuery(SPACE, limit=1)
    snapshot = await one_store.read((head_key(SPACE, "a"),), ranges=query.ranges())
    assert Listing(("a",), more=True) == await complete(one_store, query, snapshot.pages[0])


@pytest.mark.parametrize("limit", [0, -1, MAX_LISTING + 1])
async def test_limit_is_bounded(one_store: Store, limit: int) -> None:
    """A listing has 1 to MAX_LISTING paths."""
    with pytest.raises(CommitTooLarge):
        await list_paths(one_store, ListingQuery(SPACE, limit=limit))


@pytest.fixture
def running_store(one_engine: Callable[[], Store]) -> Iterator[tuple[asyncio.Runner, Store]]:
    """One store for all examples, each of which has a space of its own."""
    with asyncio.Runner() as runner:
        store = one_engine()
        yield runner, store
        runner.run(store.close())


EXAMPLES = itertools.count()

# Short letters make shared prefixes likely; the long heads make groups of equal keys.
names = st.builds(
    lambda head, tail: head + tail,
    st.sampled_from(
        ["", "a", "a/", LONG[:399], LONG, LONG + "y", "y" * 400, LONG * 2, LONG * 2 + "y" * 400]
    ),
    st.text(alphabet="ab/%", max_size=4),
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    paths=st.sets(names, max_size=25),
    deleted=st.sets(st.integers(0, 24)),
    prefix=names | st.just(""),
    after=st.none() | names,
    limit=st.integers(1, 6),
)
def test_pages_of_any_size_equal_the_whole(
    running_store: tuple[asyncio.Runner, Store],
    paths: set[str],
    deleted: set[int],
    prefix: str,
    after: str | None,
    limit: int,
) -> None:
    """Pages of any size give the sorted list, for any paths and prefix."""
    runner, store = running_store
    space = SpaceId(SPACE.owner, f"example-{next(EXAMPLES)}")
    gone = {path for at, path in enumerate(sorted(paths)) if at in deleted}

    async def check() -> None:
        await put(store, *paths, space=space)
        await write(store, space, *[Write(path, None) for path in gone])
        expected = sorted(
            path
            for path in paths - gone
            if path.startswith(prefix) and (after is None or path > after)
        )
        assert expected == await pages(store, ListingQuery(space, prefix, after, limit))

    runner.run(check())
