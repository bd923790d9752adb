"""Tests of the writer when the environment or the disk is full."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, takewhile
from pathlib import Path

import lmdb
import pytest
from own_process import in_own_process
from tests_support import FixedClock

from spaces.space_errors import StoreFull
from spaces.store.contract import NO_RESERVE, Commit, Committed, Put
from spaces.store.lmdb._folder import environment_folder, open_for_writing
from spaces.store.lmdb._format import TABLE, give_format
from spaces.store.lmdb._writer import CommitRequest, FreeSpace, Writer, WriterBroken

LARGE = b"v" * 100_000


def asked(key: bytes, value: bytes | None) -> CommitRequest:
    return CommitRequest(0, key.ljust(16, b"."), 0, Commit(puts=(Put(key, value),)))


@contextmanager
def no_longer_files(most_bytes: int) -> Iterator[None]:
    """Limit the size of this process's files."""
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
    """If the pages run out within a batch, none of its commits is written, and smaller ones succeed
    afterwards."""
    writer = Writer(small, FreeSpace(reserve_bytes=0), clock)
    outcomes = writer.apply(
        [asked(b"Ka", b"1"), asked(b"Kb", LARGE), asked(b"Kc", LARGE), asked(b"Kd", LARGE)]
    )
    assert [type(outcome) for outcome in outcomes] == [StoreFull] * 4
    with small.begin() as txn:
        assert [txn.get(key) for key in (b"Ka", b"Kb", b"Kc", b"Kd")] == [None] * 4
    assert writer.apply([asked(b"Ka", b"1")]) == [Committed()]


def test_sweeping_without_room_removes_nothing(small: lmdb.Environment, clock: FixedClock) -> None:
    """Housekeeping without a free page removes nothing, and the writer continues."""
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


@in_own_process
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


def test_releases_and_revocations_use_the_reserve(tmp_path: Path, clock: FixedClock) -> None:
    """ST17: small commits use half of the reserve, releases a quarter more, revocations an eighth,
    and fetches of copies nothing.

    An owner who reads in a loop leaves room for other owners, and any number of owners leave room
    for revocations.
    """
    writer = Writer(open_for_writing(tmp_path), FreeSpace(0, 1 << 20), clock)
    keys = count()

    def fits(reserve: str | None, size_bytes: int = 1024) -> bool:
        put = Put(b"K%08d" % next(keys), bytes(size_bytes))
        request = CommitRequest(0, b"k" * 16, 0, Commit(puts=(put,), reserve=reserve))
        (outcome,) = writer.apply([request])
        assert isinstance(outcome, Committed | StoreFull)
        return isinstance(outcome, Committed)

    def fill(reserve: str | None) -> int:
        return sum(1 for _ in takewhile(lambda _: fits(reserve), range(2000)))

    assert not fits(None, 8192)  # not small
    assert not fits(NO_RESERVE)
    assert 20 < fill(None) < 2000
    assert fits("did:bob", 8192)
    assert 5 < fill("did:eve") < 2000
    assert not fits("did:eve")
    assert fits("did:bob")
    assert fits("")
    assert sum(fill(f"did:{number}") for number in range(100)) < 2000
    assert not fits("did:new")
    assert not fits(None)
    assert fits("")
    assert 5 < fill("") < 2000


def test_a_full_batch_stays_within_the_reserve(tmp_path: Path, clock: FixedClock) -> None:
    """ST17: within one batch, each accepted commit counts before the next one is judged."""
    writer = Writer(open_for_writing(tmp_path), FreeSpace(0, 1 << 20), clock)
    requests = [
        CommitRequest(0, b"%016d" % at, 0, Commit(puts=(Put(b"K%08d" % at, bytes(1024)),)))
        for at in range(512)
    ]
    outcomes = writer.apply(requests)
    assert 20 < sum(isinstance(outcome, Committed) for outcome in outcomes) < 128


def test_a_batch_above_the_reserve_does_not_use_it(tmp_path: Path, clock: FixedClock) -> None:
    """ST17: a batch that begins with free space is judged by the reserve once that space is used.

    Each delete may need a new page, so a few small commits could use far more than their bytes.
    """
    writer = Writer(open_for_writing(tmp_path), FreeSpace(1 << 20, 1 << 20), clock)
    requests = [
        CommitRequest(
            0,
            b"%016d" % at,
            0,
            Commit(puts=tuple([Put(b"K%d.%d" % (at, key), None) for key in range(250)])),
        )
        for at in range(512)
    ]
    outcomes = writer.apply(requests)
    assert [isinstance(outcome, Committed) for outcome in outcomes[:4]] == [
        True,
        True,
        False,
        False,
    ]
