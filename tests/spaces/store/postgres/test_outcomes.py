"""Outcomes of commits and reads when the database answers with an error."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import asyncpg
import pytest
from patience import PATIENCE_S
from tests_support import FixedClock

from spaces.space_errors import StoreBusy, StoreError, StoreFull, StoreUnavailable
from spaces.store.contract import Add, Commit, Committed, Put, Refused
from spaces.store.postgres import _commits as _postgres_commits
from spaces.store.postgres import _reads as _postgres_reads
from spaces.store.postgres._commits import Commits
from spaces.store.postgres._pool import Connections
from spaces.store.postgres._reads import Reads
from spaces.store.postgres._statements import (
    ALREADY_APPLIED,
    COMMITTED,
    OVERTAKEN_STATE,
    REFUSED,
)

COMMIT = Commit(puts=(Put(b"Ka", b"1"),))
OTHER = Commit(puts=(Put(b"Kb", b"1"),))


def state(code: str) -> asyncpg.PostgresError:
    """Return an error of the database server with the given state."""
    return asyncpg.PostgresError.new({"C": code, "M": "-"})


LOST = state("08006")


class Database:
    """A database that replies to statements with prepared replies, the last one repeatedly."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked: list[Sequence[Any]] = []

    async def run(self, _statement: str, arguments: Sequence[Any]) -> Any:
        """Reply to one statement."""
        self.asked.append(arguments)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, asyncio.Future):
            return await answer
        if isinstance(answer, Exception):
            raise answer
        return answer


def commits(database: Database) -> Commits:
    return Commits(cast(Connections, database), FixedClock())


def reads(database: Database) -> Reads:
    return Reads(cast(Connections, database))


def pass_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Advance the event loop's time by an hour."""
    loop = asyncio.get_running_loop()
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + 3600)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """End the time for retries after the first attempt."""
    monkeypatch.setattr(_postgres_commits, "RECONNECT_WITHIN_S", 0.0)
    monkeypatch.setattr(_postgres_commits, "_RETRY_WITHIN_S", 0.0)
    monkeypatch.setattr(_postgres_reads, "RECONNECT_WITHIN_S", 0.0)


@pytest.mark.parametrize("passing", ["40001", "40P01", OVERTAKEN_STATE, "08006"])
async def test_commit_that_was_undone_is_sent_again(passing: str) -> None:
    """The store sends a rolled-back commit again with the same arguments, so it is written only
    once."""
    database = Database(state(passing), [(COMMITTED,)])
    assert await commits(database).commit(COMMIT) == Committed()
    assert len(database.asked) == 2
    assert database.asked[0] == database.asked[1]


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ((state("53100"),), StoreFull),
        ((state("42501"),), StoreUnavailable),
        ((TimeoutError(),), StoreUnavailable),
        # Nothing that is said after a lost connection tells of the statement that was lost.
        ((LOST, state("53100")), StoreUnavailable),
        ((LOST, state("22003")), StoreUnavailable),
        ((LOST, [(REFUSED,)]), StoreUnavailable),
    ],
)
async def test_commit_without_an_outcome(answers: Sequence[Any], kind: type[StoreError]) -> None:
    """A commit that fails on a full disk reports that error, unless it may have been written."""
    database = Database(*answers)
    with pytest.raises(StoreError) as reported:
        await commits(database).commit(COMMIT)
    assert type(reported.value) is kind
    assert len(database.asked) == len(answers)


async def test_counter_that_would_not_fit_refuses() -> None:
    """A counter beyond 63 bits is refused, by the database or before the request."""
    database = Database(state("22003"))
    assert await commits(database).commit(COMMIT) == Refused()
    assert (
        await commits(database).commit(Commit(adds=(Add(b"cA", 1 << 62), Add(b"cA", 1 << 62))))
        == Refused()
    )
    assert len(database.asked) == 1


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize(
    ("passing", "kind"),
    [("40001", StoreBusy), (OVERTAKEN_STATE, StoreBusy), ("08006", StoreUnavailable)],
)
async def test_commit_is_not_tried_for_ever(passing: str, kind: type[StoreError]) -> None:
    """A commit that is rolled back repeatedly fails with StoreBusy, or with an unknown outcome
    after a lost connection."""
    with pytest.raises(StoreError) as reported:
        await commits(Database(state(passing))).commit(COMMIT)
    assert type(reported.value) is kind


async def test_commit_that_is_lost_late_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time to reconnect starts when the connection is lost, not when the statement began."""
    monkeypatch.setattr(_postgres_commits, "_RETRY_WITHIN_S", 0.0)
    monkeypatch.setattr(_postgres_commits, "RECONNECT_WITHIN_S", PATIENCE_S)
    assert await commits(Database(LOST, LOST, [(COMMITTED,)])).commit(COMMIT) == Committed()


@pytest.mark.parametrize("passing", ["40001", OVERTAKEN_STATE, "08006"])
async def test_commit_that_waits_for_a_lock_is_sent_again(
    passing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store repeats a rolled-back commit once more if it waited for a lock longer than the time
    for retries."""
    held = asyncio.get_running_loop().create_future()
    database = Database(LOST, held, [(ALREADY_APPLIED,)])
    writing = asyncio.create_task(commits(database).commit(COMMIT))
    while len(database.asked) < 2:
        await asyncio.sleep(0)
    pass_time(monkeypatch)
    held.set_exception(state(passing))
    assert await writing == Committed(already_applied=True)


@pytest.mark.parametrize("passing", ["40P01", "08006"])
async def test_read_that_waits_for_a_lock_is_asked_again(
    passing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store repeats a read once if it waited for a lock longer than the time for retries."""
    held = asyncio.get_running_loop().create_future()
    database = Database(held, [])
    reading = asyncio.create_task(reads(database).read((b"Ka",), None, (), None))
    while not database.asked:
        await asyncio.sleep(0)
    pass_time(monkeypatch)
    held.set_exception(state(passing))
    assert (await reading).records == (None,)


async def test_commits_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """If too many bytes are in flight, further commits fail at once until one has its outcome."""
    monkeypatch.setattr(_postgres_commits, "MAX_WAITING_BYTES", 2)
    held = asyncio.get_running_loop().create_future()
    database = Database(held, [(COMMITTED,)])
    store = commits(database)
    first = asyncio.create_task(store.commit(COMMIT))
    while not database.asked:
        await asyncio.sleep(0)
    with pytest.raises(StoreBusy):
        await store.commit(OTHER)
    held.set_result([(COMMITTED,)])
    assert await first == Committed()
    assert await store.commit(OTHER) == Committed()


async def test_commit_that_waits_for_another_of_its_rows_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A commit that waits for an earlier one of the same rows fails after a time limit, without
    being sent."""
    monkeypatch.setattr(_postgres_commits, "ANSWER_WITHIN_S", 0.0)
    held = asyncio.get_running_loop().create_future()
    database = Database(held)
    store = commits(database)
    first = asyncio.create_task(store.commit(COMMIT))
    await asyncio.sleep(0)
    with pytest.raises(StoreBusy):
        await store.commit(COMMIT)
    held.set_result([(COMMITTED,)])
    assert await first == Committed()
    assert len(database.asked) == 1


async def test_caller_that_goes_away_leaves_its_commit_under_way() -> None:
    """A commit runs to its end, or to an error, after its caller was cancelled."""
    for ends_in in ([(COMMITTED,)], state("42501")):
        held = asyncio.get_running_loop().create_future()
        database = Database(held)
        store = commits(database)
        leaving = asyncio.create_task(store.commit(COMMIT))
        while not database.asked:
            await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        if isinstance(ends_in, Exception):
            held.set_exception(ends_in)
        else:
            held.set_result(ends_in)
        await store.close()


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ((TimeoutError(),), StoreUnavailable),
        ((state("42501"),), StoreUnavailable),
        ((state("53100"),), StoreFull),
    ],
)
async def test_read_without_an_answer(answers: Sequence[Any], kind: type[StoreError]) -> None:
    """A permanent database error is raised to the reader."""
    with pytest.raises(StoreError) as reported:
        await reads(Database(*answers)).read((b"Ka",), None, (), None)
    assert type(reported.value) is kind


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize(("passing", "kind"), [("40P01", StoreBusy), ("08006", StoreUnavailable)])
async def test_read_is_not_tried_for_ever(passing: str, kind: type[StoreError]) -> None:
    """The store gives up a read that fails repeatedly."""
    with pytest.raises(StoreError) as reported:
        await reads(Database(state(passing))).read((b"Ka",), None, (), None)
    assert type(reported.value) is kind


@pytest.mark.parametrize("passing", ["40P01", "40001", "08006"])
async def test_read_that_was_undone_is_asked_again(passing: str) -> None:
    """After a deadlock or a lost connection the store repeats the read."""
    database = Database(state(passing), [])
    snapshot = await reads(database).read((b"Ka",), None, (), None)
    assert snapshot.records == (None,)
    assert len(database.asked) == 2


async def test_reader_that_goes_away_takes_nothing_from_the_others() -> None:
    """Reads that are sent together get separate answers: rows or an error."""
    for ends_in in ([], state("42501")):
        held = asyncio.get_running_loop().create_future()
        database = Database(held)
        store = reads(database)
        leaving, staying = (
            asyncio.create_task(store.read((b"Ka",), None, (), None)) for _ in range(2)
        )
        while not database.asked:
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        if isinstance(ends_in, Exception):
            held.set_exception(ends_in)
            with pytest.raises(StoreUnavailable):
                await staying
        else:
            held.set_result(ends_in)
            assert (await staying).records == (None,)
        assert leaving.cancelled()
        await store.close()


async def test_closing_fails_what_was_not_asked_yet() -> None:
    """A read that was not sent before the store closed fails."""
    database = Database([])
    store = reads(database)
    waiting = asyncio.create_task(store.read((b"Ka",), None, (), None))
    await asyncio.sleep(0)
    assert database.asked == []
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await waiting
