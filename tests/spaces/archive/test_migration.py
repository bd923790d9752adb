"""Moving a store between the engines."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from postgres_server import needs_postgres, postgres_server

from spaces.archive.migration import (
    MigrationRefused,
    describe_database,
    move_from_postgres,
    move_to_postgres,
)
from spaces.space_errors import StoreLocked, StoreMoved, StoreUnavailable
from spaces.store.contract import (
    Add,
    Commit,
    Committed,
    Page,
    Put,
    Range,
    ReplayRecord,
    Snapshot,
    Store,
    counter_of,
    read_row,
)
from spaces.store.lmdb._folder import environment_folder, open_for_reading
from spaces.store.lmdb._format import FORMAT_VERSION, TABLE
from spaces.store.lmdb.engine import connect_lmdb, open_lmdb, read_lmdb
from spaces.store.postgres._schema import TABLES_VERSION
from spaces.store.postgres.engine import open_postgres
from spaces.store.sequences import sequence_of

pytestmark = needs_postgres()

SEQUENCE = b"H" + b"s" * 16
NEVER_SWEPT = 4_000_000_000
USED = ReplayRecord(b"used".ljust(32, b"."), NEVER_SWEPT)
CLAIMED = ReplayRecord(b"claimed".ljust(32, b"."), NEVER_SWEPT)
CLAIMED_LATER = ReplayRecord(b"later".ljust(32, b"."), NEVER_SWEPT)


@pytest.fixture
def url() -> str:
    """The address of an empty database."""
    return postgres_server().new_database()


async def fill(store: Store) -> Snapshot:
    """Write rows of every kind, and return everything that a move has to preserve."""
    for first in range(0, 1200, 200):
        puts = tuple(Put(b"K%04d" % at, b"v%d" % at) for at in range(first, first + 200))
        await store.commit(Commit(puts=puts))
    await store.commit(Commit(puts=(Put(b"Kbig", b"v" * 400_000, weight_bytes=7, account=b"cA"),)))
    await store.commit(Commit(puts=(Put(b"Kback", None),)))
    await store.commit(Commit(puts=(Put(b"Kback", b"where a tombstone is"),)))
    await store.commit(
        Commit(
            puts=(Put(b"Kgone", None), Put(b"Kempty", b"")),
            adds=(Add(b"cB", -3),),
            replay_record=CLAIMED,
        )
    )
    await store.read(replay_record=USED)
    return await everything(store)


async def everything(store: Store) -> Snapshot:
    return await store.read(
        (b"Kgone", b"cA", b"cB"), ranges=(Range(b"K", limit=2000), Range(b"c"), Range(b"C"))
    )


def ignore(_rows: int) -> None:
    """Ignore the messages of a move."""


async def test_move_and_return(tmp_path: Path, url: str) -> None:
    """Rows, stamps, tombstones, weights, counters and replay records are the same after a move and
    after moving back."""
    store = open_lmdb(tmp_path / "one")
    before = await fill(store)
    await store.close()
    reported: list[int] = []
    moved = await move_to_postgres(tmp_path / "one", url, progress=reported.append)
    assert reported[-1] == moved.rows
    assert moved.replay_records == 1
    store = open_postgres(url)
    there = await everything(store)
    assert there.records == before.records
    assert [page.rows for page in there.pages] == [page.rows for page in before.pages]
    assert (await store.read(replay_record=USED)).is_first_use is False
    assert (await store.read(replay_record=CLAIMED)).is_first_use is False
    assert isinstance(
        await store.commit(Commit(puts=(Put(b"Kbig", None),), adds=(Add(b"cB", 1),))), Committed
    )
    assert [counter_of(record) for record in (await store.read((b"cA", b"cB"))).records] == [0, -2]
    there = await everything(store)
    await store.close()
    returned = await move_from_postgres(url, tmp_path / "two", progress=ignore)
    assert returned.rows >= moved.rows
    store = open_lmdb(tmp_path / "two")
    back = await everything(store)
    assert back.records == there.records
    assert [page.rows for page in back.pages] == [page.rows for page in there.pages]
    assert (await store.read(replay_record=USED)).is_first_use is False
    assert isinstance(await store.commit(Commit(adds=(Add(b"cB", 1),))), Committed)
    assert counter_of((await store.read((b"cB",))).records[0]) == -1
    await store.close()


async def numbered(store: Store) -> tuple[bytes | None, Page]:
    """Return the row of a sequence, and its rows in the order of their numbers."""
    snapshot = await store.read((SEQUENCE,), ranges=(Range(SEQUENCE, by_number=True),))
    (row,) = snapshot.records
    return None if row is None else row.value, snapshot.pages[0]


async def test_ST24_a_sequence_moves(tmp_path: Path, url: str) -> None:
    """Numbers, positions and histories are the same after a move and after moving back. The next
    number follows the last one, in another history."""
    store = open_lmdb(tmp_path / "one")
    for key in (b"Ka", b"Kb", b"Ka", b"Kc"):
        put = Put(key, b"v", weight_bytes=5, account=b"cA", sequence=SEQUENCE)
        assert isinstance(await store.commit(Commit(puts=(put,))), Committed)
    before = await numbered(store)
    assert len(before[1].rows) == 3
    await store.close()
    await move_to_postgres(tmp_path / "one", url, progress=ignore)
    store = open_postgres(url)
    assert await numbered(store) == before
    assert isinstance(
        await store.commit(Commit(puts=(Put(b"Kb", b"", sequence=SEQUENCE),))), Committed
    )
    there = await numbered(store)
    state = sequence_of(await read_row(store, SEQUENCE))
    assert (state.number, [one.first_number for one in state.histories]) == (5, [1, 5])
    await store.close()
    await move_from_postgres(url, tmp_path / "two", progress=ignore)
    store = open_lmdb(tmp_path / "two")
    assert await numbered(store) == there
    await store.close()


class Interrupted(Exception):
    """The error that interrupts a move."""


def interrupt(_rows: int) -> None:
    """End a move after its first part."""
    raise Interrupted


async def test_interrupted_move_goes_on(tmp_path: Path, url: str) -> None:
    """The target of an interrupted move does not open. A repeated move completes it, and nothing is
    missing."""
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
    assert [page.rows for page in (await everything(store)).pages] == [
        page.rows for page in before.pages
    ]
    await store.close()


async def test_source_that_changed_is_moved_as_it_is(tmp_path: Path, url: str) -> None:
    """A move that is repeated after the source was written copies the current source."""
    store = open_lmdb(tmp_path / "one")
    await fill(store)
    await store.close()
    with pytest.raises(Interrupted):
        await move_to_postgres(tmp_path / "one", url, progress=interrupt)
    store = open_lmdb(tmp_path / "one")
    await store.commit(Commit(puts=(Put(b"K0000", b"changed"),)))
    await store.close()
    await move_to_postgres(tmp_path / "one", url, progress=ignore)
    store = open_postgres(url)
    record = (await store.read((b"K0000",))).records[0]
    assert record is not None and record.value == b"changed"
    await store.close()


async def test_moves_that_are_refused(tmp_path: Path, url: str) -> None:
    """A move from an empty folder, from a store in use, or onto another store is refused."""
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


# --- one store, one place (ST12) ------------------------------------------------------------------


async def filled(folder: Path) -> Snapshot:
    """Create a store in a folder, and return everything that a move has to preserve."""
    store = open_lmdb(folder)
    try:
        return await fill(store)
    finally:
        await store.close()


async def refusal_of(url: str) -> StoreMoved | None:
    """Return the error with which a database is refused as a store, or None if it opens."""
    store = open_postgres(url)
    try:
        await store.read((b"K",))
    except StoreMoved as error:
        return error
    finally:
        await store.close()
    return None


async def test_folder_that_was_moved_is_no_store_any_more(tmp_path: Path, url: str) -> None:
    """A folder that was moved does not open to serve, but can be read (ST12).

    The refusal names the database without its password.
    """
    before = await filled(tmp_path)
    await move_to_postgres(tmp_path, url, progress=ignore)
    for opening in (open_lmdb, connect_lmdb):
        with pytest.raises(StoreMoved) as refused:
            opening(tmp_path)
        assert f"moved to {describe_database(url)};" in str(refused.value)
    left = read_lmdb(tmp_path, may_be_moved=True)
    assert [page.rows for page in (await everything(left)).pages] == [
        page.rows for page in before.pages
    ]
    with pytest.raises(StoreUnavailable):
        await left.commit(Commit(puts=(Put(b"Ka", b"1"),)))
    with pytest.raises(StoreUnavailable):
        await left.read(replay_record=USED)
    await left.close()
    assert await refusal_of(url) is None


async def test_database_that_was_moved_is_no_store_any_more(tmp_path: Path, url: str) -> None:
    """A database that was moved accepts no write from processes that have it open (ST12).

    It does not open to serve, but can be read.
    """
    running = open_postgres(url)
    before = await fill(running)
    await move_from_postgres(url, tmp_path, progress=ignore)
    with pytest.raises(StoreUnavailable):
        await running.commit(Commit(puts=(Put(b"K0000", b"revoked"),)))
    with pytest.raises(StoreUnavailable):
        await running.read(replay_record=ReplayRecord(b"new".ljust(32, b"."), NEVER_SWEPT))
    await running.close()
    refused = await refusal_of(url)
    assert refused is not None
    assert str(tmp_path) in str(refused)
    left = open_postgres(url, may_be_moved=True)
    assert [page.rows for page in (await everything(left)).pages] == [
        page.rows for page in before.pages
    ]
    with pytest.raises(StoreUnavailable):
        await left.commit(Commit(puts=(Put(b"Ka", b"1"),)))
    await left.close()
    store = open_lmdb(tmp_path)
    assert isinstance(await store.commit(Commit(puts=(Put(b"Ka", b"1"),))), Committed)
    await store.close()


async def test_versions_that_know_no_moves_refuse_what_was_left(tmp_path: Path, url: str) -> None:
    """Each version of the software refuses the version number of a moved store (ST12)."""
    await filled(tmp_path)
    await move_to_postgres(tmp_path, url, progress=ignore)
    with open_for_reading(tmp_path, may_be_moved=True) as env, env.begin() as txn:
        assert txn.get(TABLE + b"\xfe") == ((1 << 31) | FORMAT_VERSION).to_bytes(4, "big")
    await move_from_postgres(url, tmp_path / "two", progress=ignore)
    asked = "select value from sealspace_schema where name = 'version'"
    assert int(postgres_server().run(_name(url), asked)) == (1 << 31) | TABLES_VERSION


async def test_move_to_a_database_interrupted_before_its_last_step(
    tmp_path: Path, url: str
) -> None:
    """Before the last step neither side opens as a store. A repeated move completes it, and then
    one does (ST12)."""
    before = await filled(tmp_path)
    moved = await move_to_postgres(tmp_path, url, progress=ignore)
    # What is left when the move is broken off there: the mark is written, the database still counts
    # as half filled.
    postgres_server().run(
        _name(url), "insert into sealspace_schema (name, value) values ('migrating', 1)"
    )
    with pytest.raises(StoreMoved):
        open_lmdb(tmp_path)
    store = open_postgres(url)
    with pytest.raises(StoreUnavailable):
        await store.read()
    await store.close()
    assert (await move_to_postgres(tmp_path, url, progress=ignore)).digest == moved.digest
    with pytest.raises(StoreMoved):
        open_lmdb(tmp_path)
    store = open_postgres(url)
    assert [page.rows for page in (await everything(store)).pages] == [
        page.rows for page in before.pages
    ]
    await store.close()


async def test_move_from_a_database_interrupted_before_its_last_step(
    tmp_path: Path, url: str
) -> None:
    """In the other direction neither side opens as a store either, until the folder has its final
    name (ST12)."""
    store: Store = open_postgres(url)
    before = await fill(store)
    await store.close()
    moved = await move_from_postgres(url, tmp_path, progress=ignore)
    (tmp_path / "migrating").mkdir()
    environment_folder(tmp_path).rename(environment_folder(tmp_path / "migrating"))
    assert await refusal_of(url) is not None
    with pytest.raises(StoreUnavailable):
        connect_lmdb(tmp_path)
    assert (await move_from_postgres(url, tmp_path, progress=ignore)).digest == moved.digest
    assert await refusal_of(url) is not None
    store = open_lmdb(tmp_path)
    assert [page.rows for page in (await everything(store)).pages] == [
        page.rows for page in before.pages
    ]
    await store.close()


async def test_database_that_changed_meanwhile_stays_the_store(tmp_path: Path, url: str) -> None:
    """If the two sides differ at the end, the database is opened again and the folder is not a
    store."""
    store = open_postgres(url)
    await fill(store)

    def change(rows: int) -> None:
        postgres_server().run(
            _name(url), "update sealspace_map set v = 'changed' where k = 'K0000'"
        )

    with pytest.raises(MigrationRefused):
        await move_from_postgres(url, tmp_path, progress=change)
    assert isinstance(
        await store.commit(Commit(puts=(Put(b"Ka", b"1"),), replay_record=CLAIMED_LATER)), Committed
    )
    await store.close()
    assert await refusal_of(url) is None
    assert not environment_folder(tmp_path).exists()


async def test_what_was_left_is_not_moved_to_a_second_place(tmp_path: Path, url: str) -> None:
    """A moved store is not moved to a second place unless the first is stated to be lost (ST12)."""
    await filled(tmp_path / "one")
    await move_to_postgres(tmp_path / "one", url, progress=ignore)
    second = postgres_server().new_database()
    with pytest.raises(MigrationRefused, match="was moved to"):
        await move_to_postgres(tmp_path / "one", second, progress=ignore)
    assert (await move_to_postgres(tmp_path / "one", second, progress=ignore, again=True)).rows
    await move_from_postgres(url, tmp_path / "two", progress=ignore)
    with pytest.raises(MigrationRefused, match="was moved to"):
        await move_from_postgres(url, tmp_path / "three", progress=ignore)
    assert (await move_from_postgres(url, tmp_path / "three", progress=ignore, again=True)).rows
    with pytest.raises(MigrationRefused, match="moved to"):
        await move_to_postgres(tmp_path / "three", url, progress=ignore)


def test_words_for_a_database_hold_no_password() -> None:
    """The description of a store's place omits the user, password and options of the address."""
    place = describe_database(
        "postgresql://user:hush@db.example:5433/kept?sslmode=require&password=hush"
    )
    assert place == "the database kept at db.example:5433"
    assert (
        describe_database("postgresql:///kept?host=/run/db&search_path=a")
        == "the database kept at /run/db, schema a"
    )


def _name(url: str) -> str:
    return urlsplit(url).path.lstrip("/")
