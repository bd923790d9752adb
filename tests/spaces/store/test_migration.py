"""Moving a store between the engines."""

from pathlib import Path

import lmdb
import pytest
from postgres_server import needs_postgres, postgres_server

from spaces.errors import StoreLocked, StoreUnavailable
from spaces.store._folder import MAP_BYTES, environment_folder, open_for_reading
from spaces.store._rows import encode_row, encode_tombstone, is_tombstone
from spaces.store._tombstones import MAX_TABLES, TABLE, move_some, rows_and_tombstones
from spaces.store.contract import Add, Claim, Commit, Committed, Put, Range, Snapshot, Store, counter_of
from spaces.store.lmdb import open_lmdb
from spaces.store.migration import MigrationRefused, move_from_postgres, move_to_postgres
from spaces.store.postgres import open_postgres

pytestmark = needs_postgres()

NEVER_SWEPT = 4_000_000_000
USED = Claim(b"used".ljust(32, b"."), NEVER_SWEPT)
CLAIMED = Claim(b"claimed".ljust(32, b"."), NEVER_SWEPT)


@pytest.fixture
def url() -> str:
    """The address of an empty database."""
    return postgres_server().new_database()


async def fill(store: Store) -> Snapshot:
    """Write rows of every kind, and return what is to be found again."""
    for first in range(0, 1200, 200):
        puts = tuple(Put(b"K%04d" % at, b"v%d" % at) for at in range(first, first + 200))
        await store.commit(Commit(puts=puts))
    await store.commit(Commit(puts=(Put(b"Kbig", b"v" * 400_000, weight_bytes=7, account=b"cA"),)))
    await store.commit(Commit(puts=(Put(b"Kback", None),)))
    await store.commit(Commit(puts=(Put(b"Kback", b"where a tombstone is"),)))
    await store.commit(Commit(puts=(Put(b"Kgone", None), Put(b"Kempty", b"")), adds=(Add(b"cB", -3),), claim=CLAIMED))
    await store.read(claim=USED)
    return await everything(store)


async def everything(store: Store) -> Snapshot:
    return await store.read((b"Kgone", b"cA", b"cB"), ranges=(Range(b"K", limit=2000), Range(b"c"), Range(b"C")))


def ignore(_rows: int) -> None:
    """Let a move tell what it wants."""


async def test_folder_of_an_earlier_version_is_moved(tmp_path: Path, url: str) -> None:
    """Tombstones that lie among the rows, or partly so, are moved in their place; the folder is left as it is."""
    place = environment_folder(tmp_path)
    place.mkdir()
    with lmdb.open(str(place), map_size=MAP_BYTES, max_dbs=MAX_TABLES) as env:
        with env.begin(write=True) as txn:
            for at in range(25_000):
                stamp = at.to_bytes(16, "big")
                txn.put(b"K%05d" % at, encode_row(stamp, b"v") if at % 5 else encode_tombstone(stamp, at))
        env.open_db(TABLE)
        move_some(env, b"")
        kept = env.info()["last_txnid"]
    moved = await move_to_postgres(tmp_path, url, progress=ignore)
    assert moved.rows == 25_000
    returned = await move_from_postgres(url, tmp_path / "two", progress=ignore)
    assert (returned.rows, returned.digest) == (moved.rows, moved.digest)
    with open_for_reading(tmp_path) as env:
        assert env.info()["last_txnid"] == kept
    with open_for_reading(tmp_path / "two") as env:
        rows = list(rows_and_tombstones(env, b""))
        assert [is_tombstone(row) for _, row in rows] == [at % 5 == 0 for at in range(25_000)]
        assert rows[-5] == (b"K24995", encode_tombstone((24_995).to_bytes(16, "big"), 24_995))


async def test_move_and_return(tmp_path: Path, url: str) -> None:
    """Rows, stamps, tombstones, weights, counters and claims are the same after a move and after the way back."""
    store = open_lmdb(tmp_path / "one")
    before = await fill(store)
    await store.close()
    told: list[int] = []
    moved = await move_to_postgres(tmp_path / "one", url, progress=told.append)
    assert told[-1] == moved.rows
    assert moved.claims == 1
    store = open_postgres(url)
    there = await everything(store)
    assert (there.records, [page.rows for page in there.pages]) == (
        before.records,
        [page.rows for page in before.pages],
    )
    assert (await store.read(claim=USED)).first_use is False
    assert (await store.read(claim=CLAIMED)).first_use is False
    assert isinstance(await store.commit(Commit(puts=(Put(b"Kbig", None),), adds=(Add(b"cB", 1),))), Committed)
    assert [counter_of(record) for record in (await store.read((b"cA", b"cB"))).records] == [0, -2]
    there = await everything(store)
    await store.close()
    returned = await move_from_postgres(url, tmp_path / "two", progress=ignore)
    assert returned.rows >= moved.rows
    store = open_lmdb(tmp_path / "two")
    back = await everything(store)
    assert (back.records, [page.rows for page in back.pages]) == (there.records, [page.rows for page in there.pages])
    assert (await store.read(claim=USED)).first_use is False
    assert isinstance(await store.commit(Commit(adds=(Add(b"cB", 1),))), Committed)
    assert counter_of((await store.read((b"cB",))).records[0]) == -1
    await store.close()


class Interrupted(Exception):
    """What ends a move in the middle."""


def interrupt(_rows: int) -> None:
    """End a move after its first part."""
    raise Interrupted


async def test_interrupted_move_goes_on(tmp_path: Path, url: str) -> None:
    """Until a move has ended its target does not open; asked for again it ends, and nothing is missing."""
    store = open_lmdb(tmp_path / "one")
    before = await fill(store)
    await store.close()
    with pytest.raises(Interrupted):
        await move_to_postgres(tmp_path / "one", url, progress=interrupt)
    store = open_postgres(url)
    with pytest.raises(StoreUnavailable):
        await store.read()
    await store.close()
    with pytest.raises(MigrationRefused):
        await move_from_postgres(url, tmp_path / "none", progress=ignore)
    await move_to_postgres(tmp_path / "one", url, progress=ignore)
    with pytest.raises(Interrupted):
        await move_from_postgres(url, tmp_path / "two", progress=interrupt)
    assert not (tmp_path / "two" / "store").exists()
    await move_from_postgres(url, tmp_path / "two", progress=ignore)
    store = open_lmdb(tmp_path / "two")
    assert [page.rows for page in (await everything(store)).pages] == [page.rows for page in before.pages]
    await store.close()


async def test_source_that_changed_is_found_out(tmp_path: Path, url: str) -> None:
    """A move that goes on after somebody wrote the source again does not pass."""
    store = open_lmdb(tmp_path / "one")
    await fill(store)
    await store.close()
    with pytest.raises(Interrupted):
        await move_to_postgres(tmp_path / "one", url, progress=interrupt)
    store = open_lmdb(tmp_path / "one")
    await store.commit(Commit(puts=(Put(b"K0000", b"changed"),)))
    await store.close()
    with pytest.raises(MigrationRefused):
        await move_to_postgres(tmp_path / "one", url, progress=ignore)


async def test_moves_that_are_refused(tmp_path: Path, url: str) -> None:
    """Neither from nothing, nor from a store in use, nor over another store."""
    with pytest.raises(MigrationRefused):
        await move_to_postgres(tmp_path / "none", url, progress=ignore)
    running = open_lmdb(tmp_path / "one")
    with pytest.raises(StoreLocked):
        await move_to_postgres(tmp_path / "one", url, progress=ignore)
    await running.close()
    store = open_postgres(url)
    await store.commit(Commit(puts=(Put(b"Ka", b"1"),)))
    await store.close()
    with pytest.raises(MigrationRefused):
        await move_to_postgres(tmp_path / "one", url, progress=ignore)
    with pytest.raises(MigrationRefused):
        await move_from_postgres(url, tmp_path / "one", progress=ignore)
