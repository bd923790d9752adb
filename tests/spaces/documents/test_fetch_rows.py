"""Tests of the rows about fetches of copies, on each engine."""

from collections.abc import Iterator
from itertools import count

import pytest
from msgspec.structs import replace

from capabilities.resources import SpaceId, parse_space_id
from spaces.documents.fetch_rows import (
    HOUR_S,
    Fetch,
    fetch_put,
    fetch_row_key,
    fetches_network,
    fetches_of,
    fetches_range,
    sweep_fetches,
)
from spaces.keyspace import FETCHES_PREFIX
from spaces.space_errors import RecordDamaged
from spaces.store.contract import Commit, Committed, Record, Refused, Store, read_page, read_row

NOW = 1_795_003_200.0 + 100  # the second minute of an hour
SPACES = tuple(
    parse_space_id(f"tinycloud:pkh:eip155:1:0x{'0' * 39}{number}:secrets") for number in range(3)
)
FETCH = Fetch(
    reader="did:key:z6MkReader",
    space=SPACES[0].text,
    path="vault/secrets/shared/did:key:z6MkReader/KEY/NAME",
    version=1,
    etag="0" * 64,
    at=NOW,
)


async def write(store: Store, fetch: Fetch, space: SpaceId = SPACES[0]) -> bool:
    """Write a fetch as a read does; return whether there was none before."""
    key = fetch_row_key(space, replace(fetch, space=space.text))
    put = fetch_put(key, replace(fetch, space=space.text), await read_row(store, key))
    return isinstance(await store.commit(Commit(puts=(put,))), Committed)


async def listed(store: Store, space: SpaceId = SPACES[0]) -> list[Fetch]:
    network = fetches_network(space.owner)
    found: list[Fetch] = []
    after = None
    while True:
        page = await read_page(store, fetches_range(network, after=after, limit=2))
        fetches, after = fetches_of(page)
        found += fetches
        if after is None:
            return found


async def test_rows_are_listed_by_owner_and_hour(store: Store) -> None:
    """The fetches of an owner are listed in the order of their hours, without those of others."""
    times = [NOW + 3 * HOUR_S, NOW, NOW + HOUR_S, NOW + 2 * HOUR_S, NOW + 4 * HOUR_S]
    for at in times:
        assert await write(store, replace(FETCH, at=at))
        assert await write(store, replace(FETCH, at=at), SPACES[1])
    assert [one.at for one in await listed(store)] == sorted(times)
    assert {one.space for one in await listed(store)} == {SPACES[0].text}
    assert await listed(store, SPACES[2]) == []


def others() -> Iterator[Fetch]:
    """Yield fetches that need a row of their own beside FETCH (RC34)."""
    yield replace(FETCH, reader="did:key:z6MkOther")
    yield replace(FETCH, path=FETCH.path + "2")
    yield replace(FETCH, version=2)
    yield replace(FETCH, etag="1" * 64)
    yield replace(FETCH, at=NOW + HOUR_S)


async def test_RC34_one_row_for_each_reader_version_and_hour(one_store: Store) -> None:
    """A fetch differs by its reader, copy, version and hour, and not by its time in the hour."""
    assert await write(one_store, FETCH)
    same = replace(FETCH, at=NOW + HOUR_S - 101)
    assert fetch_row_key(SPACES[0], same) == fetch_row_key(SPACES[0], FETCH)
    for number, fetch in zip(count(2), others(), strict=False):
        assert await write(one_store, fetch)
        assert len(await listed(one_store)) == number


async def test_RC34_the_second_of_two_writers_is_refused(store: Store) -> None:
    """Of two fetches that found no row, only one writes it."""
    key = fetch_row_key(SPACES[0], FETCH)
    for outcome in (Committed, Refused):
        written = await store.commit(Commit(puts=(fetch_put(key, FETCH, None),)))
        assert isinstance(written, outcome)


async def test_RC36_fetches_go_by_age(store: Store) -> None:
    """Exactly the fetches of hours that began before a time are removed, of every owner."""
    for hour in range(6):
        for space in SPACES:
            await write(store, replace(FETCH, at=NOW + hour * HOUR_S), space)
    until = NOW - 100 + 4 * HOUR_S
    while await sweep_fetches(store, until=until):
        pass
    for space in SPACES:
        hours = [one.hour for one in await listed(store, space)]
        assert hours == [until, until + HOUR_S]
    page = await read_page(
        store, fetches_range(fetches_network(SPACES[0].owner), after=None, limit=9)
    )
    assert all(key.startswith(FETCHES_PREFIX) for key, _ in page.rows)


@pytest.mark.parametrize("value", [b"", b"\x96", b"R", None])
def test_a_damaged_row(value: bytes | None) -> None:
    """A row that does not decode is reported as damaged."""
    from spaces.documents.fetch_rows import fetch_of

    with pytest.raises(RecordDamaged):
        fetch_of(Record(value, b"." * 16))
