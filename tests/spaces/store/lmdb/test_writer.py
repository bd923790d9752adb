"""The writer where the environment or the disk has no room."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest
from tests_support import FixedClock

from spaces.space_errors import StoreFull
from spaces.store.contract import Commit, Committed, Put
from spaces.store.lmdb._folder import environment_folder, open_for_writing
from spaces.store.lmdb._format import TABLE, give_format
from spaces.store.lmdb._writer import CommitRequest, FreeSpace, Writer, WriterBroken

LARGE = b"v" * 100_000


def asked(key: bytes, value: bytes | None) -> CommitRequest:
    return CommitRequest(0, key.ljust(16, b"."), 0, Commit(puts=(Put(key, value),)))


@contextmanager
def no_longer_files(most_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[lmdb.Environment]:
    """An environment of a quarter of a mebibyte."""
    with lmdb.open(str(tmp_path), map_size=256 * 1024, max_dbs=2) as env:
        env.open_db(TABLE)
        give_format(env)
        yield env


def test_batch_that_does_not_fit_is_not_written_in_part(
    small: lmdb.Environment, clock: FixedClock
) -> None:
    """Where the pages run out in the middle, no commit of the batch happened, and smaller ones go
    on."""
    writer = Writer(small, FreeSpace(reserve_bytes=0), clock)
    outcomes = writer.apply(
        [asked(b"Ka", b"1"), asked(b"Kb", LARGE), asked(b"Kc", LARGE), asked(b"Kd", LARGE)]
    )
    assert [type(outcome) for outcome in outcomes] == [StoreFull] * 4
    with small.begin() as txn:
        assert [txn.get(key) for key in (b"Ka", b"Kb", b"Kc", b"Kd")] == [None] * 4
    assert writer.apply([asked(b"Ka", b"1")]) == [Committed()]


def test_sweeping_without_room_removes_nothing(small: lmdb.Environment, clock: FixedClock) -> None:
    """Housekeeping that finds no page left leaves what is there, and the writer in use."""
    writer = Writer(small, FreeSpace(reserve_bytes=0), clock)
    for value in (b"1", None):
        assert writer.apply([asked(b"Ka", value)]) == [Committed()]
    later = int(clock.now()) // 60 + 10
    small.set_mapsize((small.info()["last_pgno"] + 1) * small.stat()["psize"])
    with small.begin() as txn:
        assert txn.get(b"Ka") is None
        # What is read meanwhile keeps the pages that were given back; some writes later none is
        # left.
        while all(isinstance(outcome, Committed) for outcome in writer.apply([asked(b"Kb", b"1")])):
            pass
        assert writer.sweep_tombstones(later) == 0
    small.set_mapsize(1024 * 1024)
    assert writer.sweep_tombstones(later) == 1


def test_writer_that_failed_once_writes_nothing_more(tmp_path: Path, clock: FixedClock) -> None:
    """After a failed write the writer acknowledges nothing more, even if the disk works again."""
    env = open_for_writing(tmp_path)
    writer = Writer(env, FreeSpace(reserve_bytes=0), clock)
    assert writer.apply([asked(b"Ka", b"1")]) == [Committed()]
    size_bytes = (environment_folder(tmp_path) / "data.mdb").stat().st_size
    with no_longer_files(size_bytes), pytest.raises(WriterBroken):
        writer.apply([asked(b"Kb", LARGE)])
    with pytest.raises(WriterBroken):
        writer.apply([asked(b"Kc", b"1")])
    with env.begin() as txn:
        assert txn.get(b"Ka") is not None
        assert txn.get(b"Kc") is None
    env.close()
