"""Tests of the writer's sweeps, which delete expired rows despite clock changes."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from lmdb_reads import read
from patience import PATIENCE_S
from tests_support import FixedClock

from spaces.keyspace import replay_key, replay_minute4
from spaces.store.contract import Commit, Committed, Put, Range, Refused, ReplayRecord, Snapshot
from spaces.store.lmdb import engine
from spaces.store.lmdb._folder import open_for_writing
from spaces.store.lmdb._housekeeping import REPLAY_GRACE_MINUTES, STEADY_S, Housekeeping
from spaces.store.lmdb._refused_minutes import MAX_SPANS, add_refused, is_refused
from spaces.store.lmdb._replay_records import ReplayRecords
from spaces.store.lmdb._writer import CommitRequest, FreeSpace, Outcome, Writer
from spaces.store.lmdb.engine import open_lmdb

MINUTE_S, HOUR_S, DAY_S, YEAR_S = 60, 3600, 86_400, 365 * 86_400
GRACE_S = 60 * REPLAY_GRACE_MINUTES


class Folder:
    """A data folder whose writer runs its housekeeping when a test advances the time."""

    def __init__(self, folder: Path, clock: FixedClock, *, lived_s: float = STEADY_S) -> None:
        self.clock, self._elapsed = clock, FixedClock(0.0)
        self._env = open_for_writing(folder)
        self.replay_records = ReplayRecords(folder, "boot")
        self._writer = Writer(self._env, FreeSpace(), clock)
        self._house = Housekeeping(
            self._writer, self.replay_records, clock, elapsed=self._elapsed.now
        )
        self.live(lived_s)

    def read(
        self,
        keys: Sequence[bytes] = (),
        *,
        replay_record: ReplayRecord | None = None,
        ranges: Sequence[Range] = (),
    ) -> Snapshot:
        return read(
            self._env, self.replay_records, keys, replay_record=replay_record, ranges=ranges
        )

    def commit(self, commit: Commit) -> Outcome:
        return self._writer.apply([CommitRequest(0, os.urandom(16), 0, commit)])[0]

    def live(self, seconds: float, *, step_s: float = MINUTE_S) -> None:
        """Advance the time evenly, with housekeeping at each step."""
        self._house.do_housekeeping()
        while seconds > 0:
            step_s = min(step_s, seconds)
            self.clock.advance(step_s)
            self._elapsed.advance(step_s)
            self._house.do_housekeeping()
            seconds -= step_s

    def close(self) -> None:
        self.replay_records.close()
        self._env.close()


@pytest.fixture
def folder(tmp_path: Path, clock: FixedClock) -> Iterator[Folder]:
    """A new folder after the clock was found to be steady."""
    opened = Folder(tmp_path, clock)
    yield opened
    opened.close()


def claim(name: bytes, clock: FixedClock, *, life_s: int = 60) -> ReplayRecord:
    return ReplayRecord(key=name.ljust(32, b"."), expires_at=int(clock.now()) + life_s)


def durable_key(record: ReplayRecord) -> bytes:
    return replay_key(replay_minute4(record.expires_at), record.key[:16])


def test_claims_are_forgotten_after_their_expiry_and_stay_refused(
    folder: Folder, clock: FixedClock
) -> None:
    """A swept replay record never counts as a first use again, neither in a read nor in a commit
    (ST4)."""
    read, committed = claim(b"read", clock), claim(b"committed", clock)
    assert folder.read(replay_record=read).is_first_use is True
    assert isinstance(folder.commit(Commit(replay_record=committed)), Committed)
    folder.live(HOUR_S)
    assert folder.read((durable_key(committed),)).records == (None,)
    assert folder.replay_records.rows() == []
    for old in (read, committed):
        snapshot = folder.read(replay_record=old)
        assert snapshot.is_first_use is False
        assert snapshot.is_use_unknown is True
        assert isinstance(folder.commit(Commit(replay_record=old)), Refused)
    assert folder.read(replay_record=claim(b"read", clock)).is_first_use is True


def test_claims_are_kept_until_their_expiry(folder: Folder, clock: FixedClock) -> None:
    """A replay record survives restarts as long as the token is valid, and for ten more minutes."""
    read, committed = claim(b"read", clock), claim(b"committed", clock)
    folder.read(replay_record=read)
    folder.commit(Commit(replay_record=committed))
    folder.live(60 + GRACE_S - MINUTE_S)
    assert folder.read((durable_key(committed),)).records[0] is not None
    assert folder.read(replay_record=read).is_first_use is False
    assert isinstance(folder.commit(Commit(replay_record=committed)), Refused)
    folder.live(3 * MINUTE_S)
    assert folder.replay_records.rows() == []


def test_nothing_is_forgotten_by_a_clock_that_nobody_watched(
    tmp_path: Path, clock: FixedClock
) -> None:
    """A writer that has just started removes nothing until its clock was steady for a while
    (ST9)."""
    opened = Folder(tmp_path, clock)
    used = claim(b"used", clock)
    opened.read(replay_record=used)
    opened.close()
    clock.advance(YEAR_S)
    opened = Folder(tmp_path, clock, lived_s=STEADY_S - MINUTE_S)
    assert opened.replay_records.rows() != []
    opened.live(2 * MINUTE_S)
    assert opened.replay_records.rows() == []
    opened.close()


@pytest.mark.parametrize(
    "stood_ahead_s", [MINUTE_S, STEADY_S - MINUTE_S, STEADY_S + MINUTE_S, DAY_S]
)
@pytest.mark.parametrize("ahead_s", [5 * MINUTE_S, HOUR_S, YEAR_S])
def test_clock_that_stood_ahead(
    folder: Folder, clock: FixedClock, ahead_s: int, stood_ahead_s: int
) -> None:
    """After a fast clock was corrected, good tokens are accepted and used ones refused, whether
    they were used before or meanwhile (ST4, ST9)."""
    before = claim(b"before", clock, life_s=299)
    assert folder.read(replay_record=before).is_first_use is True
    clock.advance(ahead_s)
    meanwhile = claim(b"meanwhile", clock, life_s=299)
    assert folder.read(replay_record=meanwhile).is_first_use is True
    assert isinstance(
        folder.commit(Commit(replay_record=claim(b"durable", clock, life_s=299))), Committed
    )
    folder.live(stood_ahead_s, step_s=max(MINUTE_S, stood_ahead_s / 24))
    clock.advance(-ahead_s)
    for minute in range(6):
        for life_s in (1, 61, 299):
            assert (
                folder.read(
                    replay_record=claim(b"good %d %d" % (minute, life_s), clock, life_s=life_s)
                ).is_first_use
                is True
            )
            fresh = claim(b"kept %d %d" % (minute, life_s), clock, life_s=life_s)
            assert isinstance(folder.commit(Commit(replay_record=fresh)), Committed)
        assert folder.read(replay_record=meanwhile).is_first_use is False
        if before.expires_at > clock.now():
            assert folder.read(replay_record=before).is_first_use is False
        folder.live(MINUTE_S)
    assert folder.read(replay_record=meanwhile).is_first_use is False


def test_house_is_kept_by_a_clock_that_was_set_right(folder: Folder, clock: FixedClock) -> None:
    """After a clock was ahead for a while, housekeeping removes rows that expired by that clock
    (ST9)."""
    folder.read(replay_record=claim(b"before", clock))
    clock.advance(HOUR_S)
    folder.live(STEADY_S - MINUTE_S)
    assert folder.replay_records.rows() != []
    folder.live(2 * MINUTE_S)
    assert folder.replay_records.rows() == []


def test_clock_that_steps_back_does_not_stop_commits(folder: Folder, clock: FixedClock) -> None:
    """Commits without a replay record succeed after any sweep; tokens that were used before the
    sweep are refused (ST4)."""
    used = claim(b"one", clock)
    folder.commit(Commit(replay_record=used))
    folder.live(HOUR_S)
    clock.advance(-HOUR_S)
    assert isinstance(folder.commit(Commit(puts=(Put(b"Ka", b"1"),))), Committed)
    assert isinstance(folder.commit(Commit(replay_record=used)), Refused)


def test_tombstones_go_after_a_day(folder: Folder) -> None:
    """A deleted row differs from one that was never written for a day; values are kept (M31)."""
    folder.commit(Commit(puts=(Put(b"Ka", None), Put(b"Kb", b"1"))))
    folder.live(DAY_S, step_s=HOUR_S)
    assert folder.read((b"Ka",)).records[0] is not None
    folder.commit(Commit(puts=(Put(b"Kc", None),)))
    folder.live(HOUR_S)
    gone, value, young = folder.read((b"Ka", b"Kb", b"Kc")).records
    assert gone is None
    assert value is not None
    assert young is not None


def test_many_claims_are_swept_in_parts(folder: Folder, clock: FixedClock) -> None:
    """Replay records that exceed one sweep transaction are all removed."""
    claims = [claim(b"%d" % at, clock) for at in range(1200)]
    for is_first_use in claims:
        folder.read(replay_record=is_first_use)
    puts = tuple(Put(durable_key(is_first_use), b"") for is_first_use in claims)
    for first in range(0, 1200, 200):
        folder.commit(Commit(puts=puts[first : first + 200]))
    folder.live(HOUR_S)
    page = folder.read(ranges=(Range(b"C", keys_only=True),)).pages[0]
    assert page.rows == ()
    assert folder.read(replay_record=claims[-1]).is_first_use is False


# --- closed minutes -------------------------------------------------------------------------------


def minute4(number: int) -> bytes:
    return number.to_bytes(4, "big")


def closed_of(*numbers: int, before: bytes = b"") -> list[int]:
    """Close minutes one after the other; return which of the first thousand are closed."""
    closed = before
    for number in numbers:
        closed = add_refused(closed, {minute4(number)})
    return [number for number in range(1000) if is_refused(closed, minute4(number))]


@pytest.mark.parametrize(
    ("said", "before", "numbers", "expected"),
    [
        ("nothing is closed at first", b"", (), []),
        ("a minute alone", b"", (7,), [7]),
        ("minutes that touch, in any order", b"", (8, 6, 7), [6, 7, 8]),
        ("what lies between two is open", b"", (3, 900), [3, 900]),
        ("an earlier version closed all before one", minute4(5), (), [0, 1, 2, 3, 4]),
        ("and is gone on from", minute4(5), (5, 9), [0, 1, 2, 3, 4, 5, 9]),
        ("again changes nothing", b"", (7, 7), [7]),
    ],
)
def test_closed_minutes(
    said: str, before: bytes, numbers: tuple[int, ...], expected: list[int]
) -> None:
    """Exactly the minutes whose replay records were removed are closed."""
    assert expected == closed_of(*numbers, before=before), said


def test_many_spans_become_fewer() -> None:
    """Beyond the limit the two closest spans are merged, and the span of a fast clock stays
    apart."""
    numbers = [*range(100, 140, 2), 999]
    closed = closed_of(*numbers)
    assert set(numbers) <= set(closed)
    assert set(closed) <= {*range(100, 140), 999}
    encoded = b""
    for number in range(1, 4 * MAX_SPANS, 2):
        encoded = add_refused(encoded, {minute4(number)})
        assert len(encoded) <= 4 + 8 * (MAX_SPANS - 1)


def test_the_last_minute_is_never_passed() -> None:
    """Replay records that must stay for ever are in the last minute, which no sweep reaches."""
    closed = add_refused(b"", {minute4((1 << 32) - 2)})
    assert not is_refused(closed, minute4((1 << 32) - 1))


async def test_a_commit_is_answered_whatever_becomes_of_housekeeping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error in the housekeeping after a commit does not delay its answer."""

    def fail(_: Housekeeping) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(Housekeeping, "do_housekeeping", fail)
    monkeypatch.setattr(engine, "HOUSEKEEPING_S", 0.0)  # a round after every commit
    store = open_lmdb(tmp_path)
    try:
        async with asyncio.timeout(PATIENCE_S):
            for value in (b"1", b"2"):
                assert await store.commit(Commit(puts=(Put(b"Ka", value),))) == Committed()
    finally:
        await store.close()
