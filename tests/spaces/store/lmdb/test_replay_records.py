"""Tests of the record of first uses, with several processes, crashes and full disks."""

import json
import logging
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import lmdb
import pytest
from own_process import in_own_process

from spaces.space_errors import StoreFull
from spaces.store.contract import ReplayRecord
from spaces.store.lmdb._replay_records import ReplayRecords

BOOT = "boot"
MINUTE = 60_000_000
MANY = 12_000
PAGE_BYTES = 4096
SOME_BYTES = 64 * PAGE_BYTES


def claim(number: int, *, minute: int = MINUTE) -> ReplayRecord:
    # Spread over the keys, as digests are: pages split everywhere.
    return ReplayRecord(
        (number * 0x9E3779B97F4A7C15 % (1 << 64)).to_bytes(8, "big").ljust(32, b"."), 60 * minute
    )


def file_of(folder: Path) -> Path:
    return folder / f"first-use-{BOOT}" / "data.mdb"


@contextmanager
def replay_records(folder: Path) -> Iterator[ReplayRecords]:
    opened = ReplayRecords(folder, BOOT)
    try:
        yield opened
    finally:
        opened.close()


def won(record: ReplayRecords, numbers: Iterable[int], *, minute: int = MINUTE) -> list[int]:
    """Claim many tokens; return those that were first uses."""
    return [number for number in numbers if record.add(claim(number, minute=minute).row)]


_CLAIM = f"""
import json, sys
sys.path = {[str(Path(__file__).parent), *sys.path]!r}
from pathlib import Path
from test_replay_records import MANY, BOOT, ReplayRecords, claim, won
record = ReplayRecords(Path(sys.argv[1]), BOOT)
print("ready", flush=True)
"""


def process(folder: Path, program: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a process that opens the record and then runs a program."""
    command = [sys.executable, "-P", "-c", _CLAIM + program, str(folder), *arguments]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None and started.stdout.readline() == "ready\n"
    return started


@pytest.mark.slow
def test_each_claim_is_won_once(tmp_path: Path) -> None:
    """If several processes claim the same tokens at once, each token has exactly one first use."""
    program = "sys.stdin.readline(); print(json.dumps(won(record, range(MANY))))"
    with replay_records(tmp_path) as record:
        others = [process(tmp_path, program) for _ in range(2)]
        for other in others:
            assert other.stdin is not None
            other.stdin.write("go\n")
            other.stdin.flush()
        here = won(record, range(MANY))
        there = [json.loads(other.communicate(timeout=120)[0]) for other in others]
        assert sorted([*here, *there[0], *there[1]]) == list(range(MANY))
        assert won(record, range(MANY)) == []


def test_threads_of_one_process_share_the_record(tmp_path: Path) -> None:
    """The writer's thread sweeps while the event loop claims: each waits for the other's
    transaction."""
    with replay_records(tmp_path) as record:
        assert won(record, range(MANY), minute=MINUTE - 9) == list(range(MANY))
        found: list[list[int]] = []
        claiming = threading.Thread(target=lambda: found.append(won(record, range(2 * MANY))))
        claiming.start()
        record.sweep(MINUTE - 8)
        claiming.join()
        assert found == [list(range(2 * MANY))]
        assert len(record.rows()) == 2 * MANY


@pytest.mark.slow
def test_a_killed_process_loses_no_claim(tmp_path: Path) -> None:
    """A replay record survives a SIGKILL of its process, and other processes continue."""
    program = """
first, told = int(sys.argv[2]), open(sys.argv[3], "ab", buffering=0)
for number in range(first, first + (1 << 20)):
    assert record.add(claim(number).row)
    told.write(b"%d\\n" % number)
"""
    acknowledged = tmp_path / "acknowledged"
    with replay_records(tmp_path) as record:
        for turn in range(6):
            dying = process(tmp_path, program, str((turn + 1) << 20), str(acknowledged))
            mine = range(turn * 2000, turn * 2000 + 2000)
            assert won(record, mine) == list(mine)  # beside it
            dying.kill()
            dying.communicate()
    reported = [int(line) for line in acknowledged.read_bytes().splitlines()]
    with replay_records(tmp_path) as record:
        assert len(reported) > 1000
        assert won(record, [*reported, *range(12_000)]) == []
        assert record.add(claim(1 << 50).row)


@contextmanager
def at_most(what: int, limit: int) -> Iterator[None]:
    """Limit a kernel resource of this process."""
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


def files_of_at_most(limit_bytes: int) -> AbstractContextManager[None]:
    """Limit the size of this process's files. The kernel reports the limit as it reports a full
    disk."""
    return at_most(resource.RLIMIT_FSIZE, limit_bytes)


def no_descriptor() -> AbstractContextManager[None]:
    """Keep this process from opening files. The limit is just above the open descriptors, because a
    thread polls them."""
    with Path("/dev/null").open() as least:
        return at_most(resource.RLIMIT_NOFILE, least.fileno())


@pytest.mark.parametrize(
    "most_bytes", [SOME_BYTES, SOME_BYTES + 1], ids=["whole pages", "part of a page"]
)
@in_own_process
def test_no_room_to_grow(tmp_path: Path, most_bytes: int) -> None:
    """If the file cannot grow, claims fail as in a full store. Nothing is forgotten, and free space
    helps."""
    with replay_records(tmp_path) as record:
        number = 0
        with files_of_at_most(most_bytes):
            with pytest.raises(StoreFull):
                while True:
                    assert record.add(claim(number).row)
                    number += 1
            assert 1000 < number < MANY
            assert won(record, range(number)) == []
            record.sweep(MINUTE)  # there is nothing to sweep, nor room to do it
        assert won(record, range(MANY)) == list(range(number, MANY))


@pytest.mark.parametrize(
    "short_of", [nullcontext, no_descriptor], ids=["room", "room and descriptors"]
)
@in_own_process
def test_a_sweep_without_room_is_made_up_for(
    tmp_path: Path, short_of: Callable[[], AbstractContextManager[None]]
) -> None:
    """Removing needs free space too. Without it a sweep reports this, and the next one removes the
    rest."""
    logging.basicConfig(filename=tmp_path / "log")
    with replay_records(tmp_path) as record:
        number = 0
        with files_of_at_most(SOME_BYTES):
            with pytest.raises(StoreFull):
                while record.add(claim(number).row):
                    number += 1
            with short_of():
                record.sweep(MINUTE + 1)
            assert record.rows()
            assert "expired replay records could not be deleted" in (tmp_path / "log").read_text()
            assert not record.add(claim(0).row)
        record.sweep(MINUTE + 1)
        assert record.rows() == []


@in_own_process
def test_no_room_to_begin(tmp_path: Path) -> None:
    """The record opens only if its file has disk space."""
    with files_of_at_most(PAGE_BYTES - 1), pytest.raises(StoreFull):
        ReplayRecords(tmp_path, BOOT)
    with replay_records(tmp_path) as record:
        assert record.add(claim(1).row)


def test_a_steady_rate_takes_no_more_room(tmp_path: Path) -> None:
    """Pages of removed replay records are reused, so the file stops growing at a steady rate."""
    sizes = []
    with replay_records(tmp_path) as record:
        for minute in range(MINUTE, MINUTE + 24):
            won(record, range(2000), minute=minute)
            record.sweep(minute - 1)
            sizes.append(file_of(tmp_path).stat().st_size)
    assert sizes[8] == sizes[-1]


def _former(folder: Path) -> lmdb.Environment:
    """The record as an earlier version opened it, with an allocated file and a writable memory
    map."""
    file_of(folder).parent.mkdir(exist_ok=True)
    size_bytes = file_of(folder).stat().st_size if file_of(folder).exists() else 1 << 20
    return lmdb.open(
        str(file_of(folder).parent), map_size=size_bytes, max_readers=512, sync=False, writemap=True
    )


def _row(number: int) -> bytes:
    is_first_use = claim(number)
    return b"u" + (is_first_use.expires_at // 60).to_bytes(4, "big") + is_first_use.key[:16]


def test_a_record_of_the_former_kind_counts(tmp_path: Path) -> None:
    """After an update or a downgrade within one boot, a node knows the first uses of the other
    version."""
    with _former(tmp_path) as env:
        for number in range(1000):
            with env.begin(write=True) as txn:
                txn.put(_row(number), b"")
    with replay_records(tmp_path) as record:
        assert won(record, range(MANY)) == list(range(1000, MANY))
    with _former(tmp_path) as env, env.begin() as txn:
        assert all(txn.get(_row(number)) == b"" for number in range(MANY))
