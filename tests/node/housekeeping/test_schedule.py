"""Tests of housekeeping: one process runs the due jobs, and a failing job does not stop others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from embedded_node import embedded_node
from patience import until
from tests_support import CountingEntropy, FixedClock

from node.config.tree import Config, Http, Store
from node.housekeeping.schedule import JOBS, TURN_S, Housekeeper, Job
from node.services import Services
from spaces.lease import LEASE_S, Lease
from spaces.space_errors import StoreUnavailable
from spaces.values.collector import ORPHAN_AFTER_S, UNFINISHED_AFTER_S


class Work:
    """Jobs that record their runs."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def job(
        self, name: str, every_s: float, *, rounds: int = 1, error: Exception | None = None
    ) -> Job:
        left = rounds

        async def one_round(_: Services) -> bool:
            nonlocal left
            self.done.append(name)
            if error is not None:
                raise error
            left -= 1
            return left > 0

        return Job(name, every_s, one_round)


@pytest.fixture
async def services(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Services]:
    """The services of a running node."""
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path)))
    async with embedded_node(config, clock=clock) as node:
        yield node.services


def other_process(services: Services) -> Services:
    """A second process's view of the same store."""
    return replace(services, entropy=CountingEntropy(b"another process"))


async def test_one_process_does_what_is_due(services: Services, clock: FixedClock) -> None:
    """Of two processes one holds the lease, and runs each job when it is due and not earlier."""
    work = Work()
    jobs = (work.job("often", 30.0, rounds=99), work.job("hourly", 3600.0, rounds=1))
    first, second = Housekeeper(services, jobs), Housekeeper(other_process(services), jobs)
    for job in jobs:
        assert job.every_s in (30.0, 3600.0)
    assert [await first.turn(), await second.turn()] == [True, False]
    assert work.done.count("hourly") == 1
    work.done.clear()
    clock.advance(TURN_S)
    assert [await first.turn(), await second.turn()] == [True, False]
    assert set(work.done) <= {"often"}
    for _ in range(120):
        clock.advance(TURN_S)
        assert await first.turn()
    assert work.done.count("hourly") == 1


async def test_rounds_go_on_while_there_is_more(services: Services) -> None:
    """A job is run again while it returns that more is due."""
    work = Work()
    await Housekeeper(services, (work.job("long", 60.0, rounds=5), work.job("short", 60.0))).turn()
    assert work.done == ["long"] * 5 + ["short"]


async def test_another_process_takes_over(services: Services, clock: FixedClock) -> None:
    """When the lease's holder ends, another process continues without repeating recent jobs."""
    work = Work()
    jobs = (work.job("hourly", 3600.0),)
    await Housekeeper(services, jobs).turn()
    clock.advance(LEASE_S)
    second = Housekeeper(other_process(services), jobs)
    assert await second.turn()
    assert work.done == ["hourly"]
    clock.advance(3600.0)
    assert await second.turn()
    assert work.done == ["hourly"] * 2


async def test_lease_that_is_lost_ends_the_turn(services: Services, clock: FixedClock) -> None:
    """A holder that loses its lease ends its turn between two rounds."""
    thief = Lease(services.store, owner=b"t" * 16, ttl_s=LEASE_S)
    done: list[str] = []

    async def slow(_: Services) -> bool:
        done.append("slow")
        clock.advance(LEASE_S + 1)
        assert await thief.take(now=clock.now())
        return True

    work = Work()
    assert not await Housekeeper(services, (Job("slow", 60.0, slow), work.job("next", 60.0))).turn()
    assert done == ["slow"]
    assert work.done == []


async def test_failing_job_is_reported_and_the_next_is_done(
    services: Services, clock: FixedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failing job is logged once without its message, retried when due, and does not stop
    others."""
    work = Work()
    jobs = (work.job("bad", 60.0, error=ValueError("canary")), work.job("good", 60.0, rounds=99))
    housekeeper = Housekeeper(services, jobs)
    await housekeeper.turn()
    assert work.done[:2] == ["bad", "good"]
    said = capsys.readouterr().err
    assert "housekeeping-failed" in said
    assert "canary" not in said
    clock.advance(60.0)
    await housekeeper.turn()
    assert work.done.count("bad") == 2
    assert "housekeeping-failed" not in capsys.readouterr().err


async def test_clock_that_was_set_back(services: Services, clock: FixedClock) -> None:
    """A start time in the future does not delay a job."""
    work = Work()
    housekeeper = Housekeeper(services, (work.job("daily", 86_400.0),))
    await housekeeper.turn()
    clock.advance(-3600.0)
    await housekeeper.turn()
    assert work.done == ["daily"] * 2


async def test_turns_are_taken_until_the_end(services: Services) -> None:
    """The loop continues after a failed turn, and releases the lease at its end."""
    turns = asyncio.Queue[int]()

    async def no_pause(_: float) -> None:
        await turns.get()

    async def failing(_: Services) -> bool:
        raise StoreUnavailable("x")

    work = Work()
    jobs = (Job("bad", 1.0, failing), work.job("good", 1.0, rounds=99))
    housekeeper = Housekeeper(services, jobs, pause=no_pause)
    task = asyncio.create_task(housekeeper.keep())
    for _ in range(2):
        turns.put_nowait(1)
    await until(lambda: turns.empty() and "good" in work.done)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await housekeeper.leave()
    assert await Housekeeper(other_process(services), ()).turn()


def test_jobs_have_names_of_their_own() -> None:
    """Job names are unique, as the store and the log identify jobs by them."""
    assert len({job.name for job in JOBS}) == len(JOBS)
    assert {"collect-bodies", "sweep-orphans", "sweep-unfinished"} <= {job.name for job in JOBS}


@asynccontextmanager
async def staged(services: Services, body: bytes) -> AsyncIterator[Path]:
    """Return a body that was received but not put."""

    async def pieces() -> AsyncIterator[bytes]:
        yield body

    staging = services.values.staging()
    await staging.receive(pieces())
    (place,) = (services.config.data / "blobs" / "incoming").iterdir()
    yield place


async def test_what_a_dead_process_left_goes(services: Services, clock: FixedClock) -> None:
    """The real jobs remove an unfinished upload an hour after its last byte."""
    clock.time = 4_000_000_000.0  # later than the times of files
    housekeeper = Housekeeper(services)
    async with staged(services, bytes(400_000)) as place:
        assert 4_000_000_000.0 - place.stat().st_mtime > max(ORPHAN_AFTER_S, UNFINISHED_AFTER_S)
        assert await housekeeper.turn()
        assert not place.exists()


# --- clocks ---------------------------------------------------------------------------------------


DAY_S, YEAR_S = 86_400.0, 365 * 86_400.0


async def test_clock_that_leapt_removes_nothing_for_a_day(
    services: Services, clock: FixedClock
) -> None:
    """After a clock jump age-based jobs wait a day, and others run (ST11)."""
    work = Work()
    aged = work.job("aged", 60.0)._replace(by_age=True)
    housekeeper = Housekeeper(services, (aged, work.job("other", 60.0)))
    assert await housekeeper.turn()
    assert work.done == ["aged", "other"]
    clock.advance(YEAR_S)
    for _ in range(24):
        assert await housekeeper.turn()
        clock.advance(DAY_S / 24)
    assert work.done.count("other") == 25
    assert work.done.count("aged") == 1
    assert await housekeeper.turn()
    assert work.done.count("aged") == 2


@pytest.mark.parametrize("stood_ahead_s", [0.0, 2 * DAY_S])
async def test_clock_that_leapt_and_was_set_back(
    services: Services, clock: FixedClock, stood_ahead_s: float
) -> None:
    """After the clock is set right, age-based jobs wait another day (ST11)."""
    work = Work()
    housekeeper = Housekeeper(services, (work.job("aged", 3600.0)._replace(by_age=True),))
    await housekeeper.turn()
    clock.advance(YEAR_S)
    await housekeeper.turn()
    clock.advance(stood_ahead_s / 2)
    await housekeeper.turn()
    clock.advance(stood_ahead_s / 2 - YEAR_S)
    work.done.clear()
    for _ in range(24):
        assert await housekeeper.turn()
        clock.advance(DAY_S / 24)
    assert work.done == []
    assert await housekeeper.turn()
    assert work.done == ["aged"]


async def test_store_of_an_earlier_version_waits_too(services: Services, clock: FixedClock) -> None:
    """On a store without a recorded clock, age-based jobs wait a day (ST11)."""
    work = Work()
    lease = Lease(services.store, owner=b"e" * 16, ttl_s=LEASE_S)
    assert await lease.take(now=clock.now())
    await lease.note("sweep-orphans", now=clock.now())
    await lease.release()
    housekeeper = Housekeeper(services, (work.job("aged", 60.0)._replace(by_age=True),))
    assert await housekeeper.turn()
    assert work.done == []
    for _ in range(2):
        clock.advance(DAY_S / 2)
        assert await housekeeper.turn()
    assert work.done == ["aged"]


async def test_two_processes_whose_clocks_differ_share_the_house(
    services: Services, clock: FixedClock
) -> None:
    """Beside a process a year ahead the other takes every turn (ST10, ST11).

    Neither removes records by age.
    """
    work, wrong_clock = Work(), FixedClock(clock.now() + YEAR_S)
    jobs = (work.job("minutely", 60.0, rounds=0), work.job("aged", 60.0)._replace(by_age=True))
    right = Housekeeper(services, jobs)
    wrong = Housekeeper(replace(other_process(services), clock=wrong_clock), jobs)
    assert await wrong.turn()
    work.done.clear()
    for at in range(6):
        for one in (right, wrong) if at % 2 else (wrong, right):
            assert await one.turn()
        clock.advance(60.0)
        wrong_clock.advance(60.0)
    assert work.done.count("minutely") >= 6
    assert work.done.count("aged") == 0


def test_what_goes_by_age() -> None:
    """Every job that permanently removes old records is marked as age-based."""
    kept = {
        "seal-audit",
        "seal-audit-delayed",
        "seal-audit-late",
        "fetch-collateral",
        "watch-collateral",
    }
    # one goes by references, an hour behind them, the other by marks
    kept |= {"collect-bodies", "sweep-aliases"}
    # removes a count of what has ended, and nothing for good (OX9)
    kept |= {"sweep-exchanged"}
    assert {job.name for job in JOBS if not job.by_age} == kept
