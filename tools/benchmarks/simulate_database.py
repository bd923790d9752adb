"""A queueing model of commits of many workers at one database.

    python tools/benchmarks/simulate_database.py    the model alone, with fixed costs
    python tools/benchmarks/database_points.py      start a PostgreSQL, measure, compare

The model. A worker has four connections that commit, and one thread. A commit takes the worker's
thread and a core for its share of work, then a core of the database for its statement, then the
lock of its space's counter if it weighs into one, then a sync of the log. One sync runs at a time;
commits that arrive meanwhile wait for the next one and share it. The lock is held
until the sync has ended. Cores are given in the order they are asked for. Nothing else is modelled:
no network but a stated delay, no checkpoint, no reader.

Costs come from one measurement with a single connection, and from the disk alone; every other point
is then predicted.
"""

import argparse
import random
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count

LANES = 4  # connections of one worker that commit


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of one commit, in microseconds.

    Attributes:
        worker: CPU of the worker's thread.
        database: CPU of the database.
        syncs: how long syncs of the log took, drawn from at random.
        trip: there and back between worker and database, wake-ups included, no CPU.
    """

    worker: float
    database: float
    syncs: Sequence[float]
    trip: float = 0.0


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of the model: workers, spaces and cores.

    Attributes:
        workers: processes, each with one thread.
        lanes: commits that one worker has under way at most.
        spaces: over which commits are spread; 0: none weighs into a counter that another one
            changes.
        cores: of the database's machine.
        together: workers run on the same cores.
    """

    workers: int
    lanes: int = LANES
    spaces: int = 0
    cores: int = 2
    together: bool = False


@dataclass(frozen=True, slots=True)
class Carried:
    """The results of a simulation.

    Attributes:
        per_s: commits a second.
        p50_us: of one commit, from its start in the worker.
        p99_us: likewise.
        per_sync: commits that shared a sync.
        busy: share of the database's cores that worked.
    """

    per_s: float
    p50_us: float
    p99_us: float
    per_sync: float
    busy: float


class _Queue:
    """Servers that take jobs in the order they come."""

    def __init__(self, servers: int) -> None:
        self.free = servers
        self.waiting: deque[_Job] = deque()


_Job = Generator[tuple[str, object], None, None]


@dataclass(slots=True)
class _World:
    """The clock and the events that are due."""

    costs: Costs
    chance: random.Random
    now: float = 0.0
    events: list[tuple[float, int, _Job | None]] = field(default_factory=list)
    order: Iterator[int] = field(default_factory=count)
    syncing: list[_Job] = field(default_factory=list)
    asking: list[_Job] = field(default_factory=list)
    syncs: int = 0
    synced: int = 0

    def after(self, delay: float, job: _Job | None) -> None:
        heappush(self.events, (self.now + delay, next(self.order), job))

    def step(self, job: _Job) -> None:
        """Let a job go on until it waits for something."""
        while (wish := next(job, None)) is not None:
            kind, what = wish
            if kind == "take":
                assert isinstance(what, _Queue)
                if not what.free:
                    what.waiting.append(job)
                    return
                what.free -= 1
            elif kind == "give":
                assert isinstance(what, _Queue)
                self._give(what)
            elif kind == "wait":
                assert isinstance(what, float)
                self.after(what, job)
                return
            else:
                self.asking.append(job)
                self._sync()
                return

    def _give(self, queue: _Queue) -> None:
        if queue.waiting:
            self.after(0.0, queue.waiting.popleft())  # the server goes over to it
        else:
            queue.free += 1

    def _sync(self) -> None:
        if self.syncing or not self.asking:
            return
        self.syncing, self.asking = self.asking, []
        self.syncs += 1
        self.synced += len(self.syncing)
        self.after(self.chance.choice(self.costs.syncs), None)

    def run(self, done: "list[float]", commits: int) -> None:
        """Go on until so many commits have ended."""
        while len(done) < commits:
            self.now, _, job = heappop(self.events)
            if job is not None:
                self.step(job)
                continue
            ended, self.syncing = self.syncing, []
            self._sync()
            for one in ended:
                self.step(one)


def simulate(setting: Setting, costs: Costs, *, commits: int = 20_000, seed: int = 1) -> Carried:
    """Let every worker commit without a pause, and say what was carried. The same arguments give
    the same answer."""
    world = _World(costs, random.Random(seed))
    cores = _Queue(setting.cores)
    locks = [_Queue(1) for _ in range(setting.spaces)]
    done: list[float] = []
    for _ in range(setting.workers):
        thread = _Queue(1)
        for _ in range(setting.lanes):
            world.after(0.0, _lane(world, setting, _Stations(thread, cores, locks), done))
    world.run(done, commits)
    took = sorted(done)
    return Carried(
        per_s=len(done) / world.now * 1e6,
        p50_us=took[len(took) // 2],
        p99_us=took[int(len(took) * 0.99)],
        per_sync=world.synced / world.syncs,
        busy=len(done)
        * (costs.database + costs.worker * setting.together)
        / (world.now * setting.cores),
    )


@dataclass(frozen=True, slots=True)
class _Stations:
    thread: _Queue
    cores: _Queue
    locks: Sequence[_Queue]


def _lane(world: _World, setting: Setting, at: _Stations, done: list[float]) -> _Job:
    """One connection: commit after commit."""
    costs = world.costs
    while True:
        started = world.now
        yield "take", at.thread
        if setting.together:
            yield "take", at.cores
        yield "wait", costs.worker
        if setting.together:
            yield "give", at.cores
        yield "give", at.thread
        yield "wait", costs.trip
        lock = world.chance.choice(at.locks) if at.locks else None
        if lock is not None:
            yield "take", lock
        yield "take", at.cores
        yield "wait", costs.database
        yield "give", at.cores
        yield "sync", None
        if lock is not None:
            yield "give", lock
        done.append(world.now - started)


# Costs of a commit with two puts, two marks, a claim and an account, measured as below; a disk that
# syncs in 0.2 ms and one that takes 1.5 ms as disks of the network do.
MEASURED = Costs(worker=160.0, database=260.0, syncs=(200.0,), trip=60.0)
NETWORK_DISK = replace(MEASURED, syncs=(1500.0,), trip=300.0)


def planned() -> list[tuple[str, Setting, Costs]]:
    """Return the settings that the page on scale reports."""
    return [
        ("one node of two workers, a local disk", Setting(2, cores=2), MEASURED),
        ("one node of two workers, a disk of the network", Setting(2, cores=2), NETWORK_DISK),
        ("ten nodes of two workers, 8 cores", Setting(20, cores=8), NETWORK_DISK),
        ("ten nodes of eight workers, 8 cores", Setting(80, cores=8), NETWORK_DISK),
        ("ten nodes of eight workers, 32 cores", Setting(80, cores=32), NETWORK_DISK),
        (
            "ten nodes of eight workers, 32 cores, one space",
            Setting(80, cores=32, spaces=1),
            NETWORK_DISK,
        ),
        (
            "ten nodes of eight workers, 32 cores, a hundred spaces",
            Setting(80, cores=32, spaces=100),
            NETWORK_DISK,
        ),
    ]


def main() -> int:
    """Print what the model says."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    for name, setting, costs in planned():
        carried = simulate(setting, costs)
        print(
            f"{name:<56}{carried.per_s:>9,.0f}/s  p50 {carried.p50_us / 1e3:>7.1f} ms  p99"
            f" {carried.p99_us / 1e3:>7.1f} ms  {carried.per_sync:>5.1f} a sync  cores"
            f" {carried.busy:>4.0%}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
