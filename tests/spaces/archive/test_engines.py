"""Tests of archives of a store in a database: sessions, locks and restores."""

import asyncio
import time
from pathlib import Path

import pytest
from postgres_server import needs_postgres, postgres_server

from spaces.archive.migration import MigrationRefused, copy_to_database
from spaces.keyspace import REPLAY_FLOOR_KEY
from spaces.space_errors import StoreUnavailable
from spaces.store.contract import Add, Commit, Put, Refused, ReplayRecord, Store
from spaces.store.lmdb.engine import open_lmdb
from spaces.store.lmdb.snapshots import LmdbRows, Part
from spaces.store.observing import SharedStore
from spaces.store.postgres.copying import PostgresRows
from spaces.store.postgres.engine import open_postgres

pytestmark = needs_postgres()


@pytest.fixture
def url() -> str:
    """The address of an empty database."""
    return postgres_server().new_database()


async def fill(store: Store) -> None:
    """Write rows of each kind, in more than one part."""
    for first in range(0, 600, 200):
        puts = tuple(Put(b"K%04d" % at, b"v%d" % at) for at in range(first, first + 200))
        await store.commit(Commit(puts=puts, adds=(Add(b"cB", -3),)))
    await store.commit(
        Commit(
            puts=(Put(b"Kbig", b"v" * 400_000, weight_bytes=7, account=b"cA"), Put(b"Kempty", b""))
        )
    )
    await store.commit(Commit(puts=tuple(Put(b"K%04d" % at, None) for at in range(150))))
    await store.commit(Commit(puts=(Put(b"K0000", b"back, over a tombstone"),)))


async def parts_of(rows: LmdbRows | PostgresRows) -> list[Part]:
    """Return all parts."""
    return [part async for part in rows.parts()]


async def filled(folder: Path) -> list[Part]:
    """Make a store in a folder, and return its rows."""
    store = open_lmdb(folder)
    await fill(store)
    parts = await parts_of(LmdbRows(store, folder))
    await store.close()
    return parts


async def test_both_engines_have_the_same_parts(tmp_path: Path, url: str) -> None:
    """The rows of a store are the same bytes, cut in the same way, on either engine."""
    parts = await filled(tmp_path)
    assert len(parts) > 4
    async with copy_to_database(tmp_path, url, progress=lambda _: None):
        pass
    assert await parts_of(PostgresRows(url)) == parts
    async with PostgresRows(url).snapshot() as snapshot:
        assert list(snapshot.parts()) == parts


async def test_a_database_shows_that_bodies_are_held(url: str) -> None:
    """Collectors on any machine see the lock as long as a session has it. Any end of the session
    releases it (BK2)."""
    store, rows = open_postgres(url), PostgresRows(url)
    assert isinstance(store, SharedStore)
    await fill(store)
    async with rows.lock_bodies(), rows.lock_bodies():
        assert await store.are_bodies_locked()
        assert len(await parts_of(rows)) > 4
    assert not await store.are_bodies_locked()
    with pytest.raises(StoreUnavailable):
        async with rows.lock_bodies():
            held = (
                "select pid from pg_stat_activity where query like '%for share' and pid <>"
                " pg_backend_pid()"
            )
            postgres_server().run(
                "postgres", f"select pg_terminate_backend(pid) from ({held}) as held"
            )
            while await store.are_bodies_locked():
                await asyncio.sleep(0)
    await store.close()


async def test_a_statement_may_take_long(url: str) -> None:
    """A role's statement timeout does not interrupt the reading of all rows."""
    store = open_postgres(url)
    await fill(store)
    await store.close()
    name = url.partition("@/")[2].partition("?")[0] or url.rpartition("/")[2].partition("?")[0]
    postgres_server().run("postgres", f"alter database {name} set statement_timeout = '1ms'")
    parts = await parts_of(PostgresRows(url))
    assert sum(map(len, parts)) > 600


async def test_closed_minutes_are_closed_in_a_database(tmp_path: Path, url: str) -> None:
    """Reads and commits refuse tokens of the minutes that a restore closed; later ones are accepted
    (BK5)."""
    store, minute = open_lmdb(tmp_path), int(time.time()) // 60 + 10
    await store.commit(Commit(puts=(Put(REPLAY_FLOOR_KEY, minute.to_bytes(4, "big")),)))
    await store.close()
    async with copy_to_database(tmp_path, url, progress=lambda _: None):
        pass
    store, old, new = (
        open_postgres(url),
        ReplayRecord(b"o" * 32, 60 * minute - 1),
        ReplayRecord(b"n" * 32, 60 * minute),
    )
    read = await store.read(replay_record=old)
    assert read.is_first_use is False
    assert read.is_use_unknown is True
    assert isinstance(
        await store.commit(Commit(puts=(Put(b"Ka", b"1"),), replay_record=old)), Refused
    )
    assert (await store.read(replay_record=new)).is_first_use is True
    await store.close()


async def test_what_is_not_filled_does_not_open(tmp_path: Path, url: str) -> None:
    """A database that was only partly filled has no rows, does not open as a store, and can be
    filled again (BK4)."""
    parts = await filled(tmp_path)
    with pytest.raises(ZeroDivisionError):
        async with copy_to_database(tmp_path, url, progress=lambda _: None):
            raise ZeroDivisionError
    store = open_postgres(url)
    with pytest.raises(StoreUnavailable):
        await store.read((b"K0001",))
    await store.close()
    async with copy_to_database(tmp_path, url, progress=lambda _: None) as moved:
        assert moved.rows == sum(map(len, parts))
    assert await parts_of(PostgresRows(url)) == parts
    with pytest.raises(MigrationRefused, match="already contains a store"):
        async with copy_to_database(tmp_path, url, progress=lambda _: None):
            pass


async def test_of_two_moves_at_once_one_fills_the_database(tmp_path: Path, url: str) -> None:
    """The second of two moves waits for the first and is then refused. Its own rows are
    unchanged."""
    parts = await filled(tmp_path / "one")
    await filled(tmp_path / "two")

    async def second() -> None:
        async with copy_to_database(tmp_path / "two", url, progress=lambda _: None):
            pass

    async with copy_to_database(tmp_path / "one", url, progress=lambda _: None):
        waiting = asyncio.create_task(second())
        asked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        while postgres_server().run("postgres", asked).strip() == "0":
            await asyncio.sleep(0)
    with pytest.raises(MigrationRefused, match="another migration or restore"):
        await waiting
    assert await parts_of(PostgresRows(url)) == parts
