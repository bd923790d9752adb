"""Tests that deleted rows do not affect reads that do not request them."""

import shutil
from contextlib import closing
from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmdb_reads import read
from tests_support import FixedClock

from spaces.store.contract import ABSENT, MAX_KEY_BYTES, Commit, Committed, Page, Put, Range, Store
from spaces.store.lmdb._folder import environment_folder, open_for_reading, open_for_writing
from spaces.store.lmdb._format import TABLE, open_table
from spaces.store.lmdb._replay_records import ReplayRecords
from spaces.store.lmdb._rows import encode_row, encode_tombstone, is_tombstone
from spaces.store.lmdb._writer import CommitRequest, FreeSpace, Writer
from spaces.store.lmdb.snapshots import snapshot_in

KEYS = [b"K", b"Ka", b"Ka\xff", b"Kb", b"L", b"\xff", b"\xff\xff", b"\xff" * MAX_KEY_BYTES]
PREFIXES = [b"K", b"Ka", b"L", b"\xff", b"\xff\xff", b"M"]


def all_of(env: lmdb.Environment) -> list[tuple[bytes, bytes]]:
    """Return every row, then every tombstone that no row hides."""
    with snapshot_in(env) as snapshot:
        return [row for part in snapshot.parts() for row in part]


class Folder:
    """A store's environment with writer, reader, a model of its contents, and a simulated crash."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._lives = 0
        self._clock = FixedClock()
        self.rows: dict[bytes, bytes] = {}
        self.deleted: dict[bytes, int] = {}  # and when, as a minute
        self._open()

    def _open(self) -> None:
        self.env = open_for_writing(self._data)
        self._replay_records = ReplayRecords(self._data, "boot")
        self._writer = Writer(self.env, FreeSpace(max_bytes=1 << 30), self._clock)

    @property
    def _data(self) -> Path:
        return self._place / str(self._lives)

    def close(self) -> None:
        """Close everything."""
        self._replay_records.close()
        self.env.close()

    def crash(self) -> None:
        """Continue with the files that a process killed now would leave."""
        shutil.copytree(self._data, self._place / str(self._lives + 1))
        self.close()
        self._lives += 1
        self._open()

    def wait(self, minutes: int) -> None:
        """Let time pass."""
        self._clock.advance(60 * minutes)

    def sweep(self, minutes: int) -> None:
        """Remove old tombstones."""
        before_minute = int(self._clock.now()) // 60 - minutes
        self._writer.sweep_tombstones(before_minute)
        self.deleted = {
            key: minute for key, minute in self.deleted.items() if minute >= before_minute
        }

    def put(self, key: bytes, value: bytes | None) -> None:
        """Write or delete a row."""
        assert isinstance(self._apply(Put(key, value)), Committed)
        self.rows.pop(key, None)
        self.deleted.pop(key, None)
        if value is None:
            self.deleted[key] = int(self._clock.now()) // 60
        else:
            self.rows[key] = value

    def put_where_absent(self, key: bytes) -> None:
        """Write a row that does not exist."""
        if isinstance(self._apply(Put(key, b"new", expect=ABSENT)), Committed):
            assert key not in self.rows
            self.deleted.pop(key, None)
            self.rows[key] = b"new"
        else:
            assert key in self.rows

    def _apply(self, put: Put) -> object:
        (outcome,) = self._writer.apply([CommitRequest(0, b"s" * 16, 0, Commit(puts=(put,)))])
        return outcome

    def page(self, wanted: Range) -> Page:
        """Read one page."""
        return read(self.env, self._replay_records, ranges=(wanted,)).pages[0]

    def check(self) -> None:
        """Compare everything that can be read with the model."""
        records = read(self.env, self._replay_records, KEYS).records
        for key, record in zip(KEYS, records, strict=True):
            assert (record is None) == (key not in self.rows and key not in self.deleted)
            assert record is None or record.value == self.rows.get(key)
        for prefix in PREFIXES:
            whole = sorted(key for key in self.rows if key.startswith(prefix))
            for keys_only in (False, True):
                page = self.page(Range(prefix, keys_only=keys_only))
                assert [key for key, _ in page.rows] == whole
                assert not page.more
        with self.env.begin() as txn, closing(txn.cursor()) as cursor:
            assert not [key for key, row in cursor.iternext() if key < TABLE and is_tombstone(row)]


steps = st.one_of(
    st.tuples(
        st.just("put"), st.sampled_from(KEYS), st.sampled_from([b"", b"1", b"2", None, None])
    ),
    st.tuples(st.just("put_where_absent"), st.sampled_from(KEYS)),
    st.tuples(st.just("wait"), st.integers(1, 40)),
    st.tuples(st.just("sweep"), st.integers(0, 50)),
    st.tuples(st.just("crash")),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=20))
def test_any_life_of_a_store_equals_the_model(
    tmp_path_factory: pytest.TempPathFactory, life: list[tuple]
) -> None:
    """After any writes, deletes, sweeps and crashes, rows, tombstones and pages equal those of the
    model (ST5)."""
    with closing(Folder(tmp_path_factory.mktemp("life"))) as folder:
        for name, *arguments in life:
            getattr(folder, name)(*arguments)
        folder.check()


@pytest.mark.parametrize("keys_only", [False, True])
async def test_deleted_rows_do_not_lengthen_a_page(one_store: Store, keys_only: bool) -> None:
    """A page has the requested number of rows, however many were deleted in between."""
    keys = [b"K%05d" % at for at in range(20_000)]
    for first in range(0, len(keys), 250):
        await one_store.commit(
            Commit(puts=tuple(Put(key, b"v") for key in keys[first : first + 250]))
        )
    whole = keys[::4_000]
    for first in range(0, len(keys), 250):
        gone = [key for key in keys[first : first + 250] if key not in whole]
        await one_store.commit(Commit(puts=tuple(Put(key, None) for key in gone)))
    opening, rest, exact = (
        await one_store.read(
            ranges=(
                Range(b"K", limit=3, keys_only=keys_only),
                Range(b"K", after=whole[2], limit=3, keys_only=keys_only),
                Range(b"K", after=whole[2], limit=2, keys_only=keys_only),
            )
        )
    ).pages
    assert [key for key, _ in opening.rows] == whole[:3]
    assert opening.more is True
    assert opening.last_key == whole[2]
    for page in (rest, exact):
        assert [key for key, _ in page.rows] == whole[3:]
        assert page.more is False


async def test_page_of_keys_ends_with_its_range(one_store: Store) -> None:
    """A page of keys contains no key after its range, whatever its size and beginning."""
    await one_store.commit(
        Commit(puts=tuple(Put(b"%c%02d" % (65 + at % 3, at), b"") for at in range(150)))
    )
    for limit in (1, 31, 32, 33, 49, 50, 51, 4096):
        for after in (None, b"", b"A99", b"B", b"B01", b"B50", b"B9", b"C"):
            wanted = [b"B%02d" % at for at in range(1, 150, 3)]
            wanted = sorted(key for key in wanted if after is None or key > after)
            page = (
                await one_store.read(ranges=(Range(b"B", after, limit=limit, keys_only=True),))
            ).pages[0]
            assert [key for key, _ in page.rows] == wanted[:limit]
            assert page.more is (len(wanted) > limit)


def test_sweep_looks_at_tombstones_only(tmp_path: Path, clock: FixedClock) -> None:
    """A sweep finds few old tombstones among any number of rows, and keeps the recent ones."""
    old, young = int(clock.now()) // 60 - 10, int(clock.now()) // 60
    with open_for_writing(tmp_path) as env:
        table = open_table(env)
        with env.begin(write=True) as txn:
            for at in range(50_000):
                txn.put(b"K%06d" % at, encode_row(b"s" * 16, b""))
            for at in range(20):
                txn.put(
                    b"L%d" % at, encode_tombstone(b"s" * 16, young if at % 2 else old), db=table
                )
        writer = Writer(env, FreeSpace(), clock)
        assert writer.sweep_tombstones(young) == 10
        assert writer.sweep_tombstones(young) == 0
        assert len(all_of(env)) == 50_000 + 10


def test_tombstone_of_a_row_that_came_back_is_hidden(tmp_path: Path) -> None:
    """A row hides an older tombstone of its key, and is kept when that is swept."""
    with closing(Folder(tmp_path)) as folder:
        folder.put(b"Ka", None)
        folder.put(b"Ka", b"back")
        assert [key for key, _ in all_of(folder.env)] == [b"Ka"]
        folder.check()
        folder.wait(10)
        folder.sweep(5)
        folder.check()


def test_copy_of_a_store_has_its_tombstones(tmp_path: Path) -> None:
    """A compacted copy of the environment, made while the store is open, is the whole store."""
    place = environment_folder(tmp_path / "copy")
    place.mkdir(parents=True)
    with closing(Folder(tmp_path)) as folder:
        folder.put(b"Ka", b"1")
        folder.put(b"Kb", None)
        kept = all_of(folder.env)
        folder.env.copy(str(place), compact=True)
    with open_for_reading(tmp_path / "copy") as env:
        assert all_of(env) == kept
        assert len(kept) == 2
