"""Commits of the PostgreSQL engine at a database of this machine, measured beside what the model
says.

    python tools/benchmarks/database_points.py [--seconds 5]

A database is started on a disk that is waited for. One connection and the disk alone give the
costs; then more connections, and commits that all weigh into one space, are measured and compared
with the model's answer for the same setting. Each worker is a process of its own.
"""

import argparse
import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loads import LOADS
from measuring import Node, measured
from places import set_up
from processes import used_by
from simulate_database import Carried, Costs, Setting, simulate
from started_servers import own_node

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))
from postgres_server import PostgresServer, new_server

from capabilities.cids import ContentKey
from spaces.keyspace import audit_key, marker_key, usage_counter, value_key
from spaces.store.contract import ABSENT, LIVE_MARK, Add, Commit, Put, ReplayRecord
from spaces.store.postgres.engine import open_postgres

POINTS = (
    Setting(1, together=True),
    Setting(3, together=True),
    Setting(1, spaces=1, together=True),
    Setting(3, spaces=1, together=True),
)
_ON_NODES = ("get 1 KiB", "list 100", "put 1 KiB", "delegate", "revoke", "decrypt")
_LOG_TIMES = "select wal_sync, wal_sync_time + wal_write_time from pg_stat_wal"
_MARKS = (ContentKey(b"\1" * 32), ContentKey(b"\2" * 32))
_SPACES = 10_000
_DURABLE = {"fsync": "on", "full_page_writes": "on", "track_wal_io_timing": "on"}

_WORK = "work"
"""First argument of a process that is one of the workers."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurements of one setting.

    Attributes:
        per_s: commits a second.
        mean_us: how long one took.
        worker_us, database_us: CPU time of one.
        sync_us: how long writing and syncing the log took, once.
        per_sync: commits that shared one.
        others: cores that other programs of the machine took meanwhile.
    """

    per_s: float
    mean_us: float
    worker_us: float
    database_us: float
    sync_us: float
    per_sync: float
    others: float


def commit_of(space: int) -> Commit:
    """A put of 1 KiB as a node commits it: head, audit record, two marks, claim, account and
    quota."""
    space16 = space.to_bytes(16, "big")
    account = usage_counter(space16)
    now = time.time()
    head = Put(
        value_key(space16, f"v/{secrets.randbelow(1000)}"),
        bytes(1100),
        weight_bytes=1024,
        account=account,
    )
    return Commit(
        puts=(head, Put(audit_key(now, secrets.token_bytes(16)), bytes(200))),
        live=tuple([marker_key(mark) for mark in _MARKS]),
        adds=(Add(account, 0, at_most=1 << 40),),
        replay_record=ReplayRecord(secrets.token_bytes(32), int(now) + 300),
    )


async def work(url: str, lanes: int, spaces: int, seconds: float) -> None:
    """Be one worker: commit without a pause once told to, and print latencies and CPU time."""
    store = open_postgres(url)
    latencies: list[float] = []
    try:
        await asyncio.gather(
            *[store.commit(commit_of(secrets.randbelow(_SPACES))) for _ in range(4 * lanes)]
        )
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        end, cpu_s = time.perf_counter() + seconds, time.process_time()

        async def lane() -> None:
            while (started := time.perf_counter()) < end:
                await store.commit(commit_of(secrets.randbelow(spaces or _SPACES)))
                latencies.append(time.perf_counter() - started)

        await asyncio.gather(*[lane() for _ in range(lanes)])
        print(
            json.dumps({"latencies_s": latencies, "cpu_s": time.process_time() - cpu_s}), flush=True
        )
        # what the database's sessions have used is looked at first
        await asyncio.to_thread(sys.stdin.readline)
    finally:
        await store.close()


def measure(server: PostgresServer, setting: Setting, seconds: float) -> Measured:
    """Let so many workers commit at a database of their own."""
    url = server.new_database()
    asyncio.run(_marks(url))
    workers = [_worker(url, setting, seconds) for _ in range(setting.workers)]
    assert {"ready\n"} == {_hear(worker) for worker in workers}
    postmaster = server_pid(server)
    server.run("postgres", "select pg_stat_reset_shared('wal')")
    before, machine = used_by(postmaster), _busy_s()
    _tell(workers)
    said = [json.loads(_hear(worker)) for worker in workers]
    spent = sum(used_by(postmaster).since(before).values())
    busy_s = _busy_s() - machine
    _tell(workers)
    for worker in workers:
        worker.communicate()
    latencies = [latency for one in said for latency in one["latencies_s"]]
    cpu_s = sum(one["cpu_s"] for one in said)
    # Sessions have told their counters when they have ended.
    syncs, synced_ms = server.run("postgres", _LOG_TIMES).split("|")
    return Measured(
        per_s=len(latencies) / seconds,
        mean_us=statistics.fmean(latencies) * 1e6,
        worker_us=cpu_s / len(latencies) * 1e6,
        database_us=spent / len(latencies) * 1e6,
        sync_us=float(synced_ms) / int(syncs) * 1e3,
        per_sync=len(latencies) / int(syncs),
        others=max(0.0, (busy_s - spent - cpu_s) / seconds),
    )


def _tell(workers: Sequence["subprocess.Popen[str]"]) -> None:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()


def _hear(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout is not None
    return worker.stdout.readline()


async def _marks(url: str) -> None:
    store = open_postgres(url)
    try:
        await store.commit(
            Commit(puts=tuple([Put(marker_key(mark), LIVE_MARK, ABSENT) for mark in _MARKS]))
        )
    finally:
        await store.close()


def _worker(url: str, setting: Setting, seconds: float) -> "subprocess.Popen[str]":
    asked = [url, str(setting.lanes), str(setting.spaces), str(seconds)]
    command = [sys.executable, __file__, _WORK, *asked]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def _busy_s() -> float:
    """Return for how long the machine's cores have worked, all together."""
    user, nice, system, _, _, irq, soft, steal, *_ = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def costs_of(one: Measured) -> Costs:
    """Return the costs that a measurement over one connection stands for: what is left of its
    latency is the trip."""
    trip = one.mean_us - one.worker_us - one.database_us - one.sync_us
    return Costs(one.worker_us, one.database_us, (one.sync_us,), max(trip, 0.0))


def costs_beside(costs: Costs, found: Measured) -> Costs:
    """Return the costs as the machine was during another measurement.

    What a sync takes differs from second to second on a disk that others use, and work takes longer
    on cores of which others use a part: both are taken from the run that is compared. How commits
    share syncs, cores and locks, and so how many are carried, is for the model to say.
    """
    cores = os.cpu_count() or 1
    stretch = cores / max(cores - found.others, 0.5)
    return replace(
        costs,
        worker=costs.worker * stretch,
        database=costs.database * stretch,
        syncs=(found.sync_us,),
    )


def compare(seconds: float) -> Iterator[str]:
    """Measure, and yield the lines of a table."""
    server = new_server(_DURABLE)
    server.start()
    one = measure(server, Setting(1, lanes=1, together=True), seconds)
    costs = costs_of(one)
    yield (
        f"one connection: {one.per_s:,.0f}/s, {one.mean_us:,.0f} µs each; CPU of the worker"
        f" {costs.worker:.0f} µs, of the database {costs.database:.0f} µs; a sync {one.sync_us:.0f}"
        f" µs, the rest {costs.trip:.0f}"
    )
    yield (
        f"{'':<34}{'measured':>12}{'model':>10}{'':>8}{'a sync':>8}{'model':>7}{'sync µs':>9}"
        f"{'others':>8}"
    )
    for setting in POINTS:
        found = measure(server, setting, seconds)
        yield _line(setting, found, simulate(setting, costs_beside(costs, found)))
    yield from nodes_costs(server, requests=1_000)


def _line(setting: Setting, found: Measured, said: Carried) -> str:
    name = (
        f"{setting.workers} x {setting.lanes} connections,"
        f" {'one space' if setting.spaces else 'many spaces'}"
    )
    return (
        f"{name:<34}{found.per_s:>10,.0f}/s"
        f"{said.per_s:>8,.0f}/s{said.per_s / found.per_s - 1:>+8.0%}"
        f"{found.per_sync:>8.1f}{said.per_sync:>7.1f}{found.sync_us:>9.0f}{found.others:>8.2f}"
        f"   CPU {found.worker_us:.0f} + {found.database_us:.0f} µs"
    )


def nodes_costs(server: PostgresServer, requests: int) -> Iterator[str]:
    """Run a node of one worker on a database, and yield what requests cost it and the database."""
    with tempfile.TemporaryDirectory(prefix="sealspace-bench-") as name:
        data = Path(name) / "data"
        with own_node(data, "--attestation", "off", "--store", server.new_database()) as (url, pid):
            node = Node("ours", pid, asyncio.run(set_up(url)))
            yield from asyncio.run(_node_costs(node, server, requests))


async def _node_costs(node: Node, server: PostgresServer, requests: int) -> list[str]:
    lines = [f"{'a node on it, 16 connections':<34}{'node':>12}{'database':>13}"]
    for name in _ON_NODES:
        asked = await LOADS[name].make(node.place, requests)
        before = used_by(server_pid(server))
        driven = await measured(node, asked, 16)
        spent = sum(used_by(server_pid(server)).since(before).values())
        lines.append(
            f"{name:<34}{driven.cpu_us:>9.0f} µs{spent / len(driven.latencies_s) * 1e6:>10.0f} µs"
        )
    return lines


def server_pid(server: PostgresServer) -> int:
    """Return the process that all others of a database are children of."""
    return int((server.folder / "data" / "postmaster.pid").read_text().split("\n")[0])


def main() -> None:
    """Print the comparison, or commit as one of its workers."""
    if sys.argv[1:2] == [_WORK]:
        url, lanes, spaces, seconds = sys.argv[2:]
        asyncio.run(work(url, int(lanes), int(spaces), float(seconds)))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="of each measurement (default: %(default)s)"
    )
    print("\n".join(compare(parser.parse_args().seconds)))


if __name__ == "__main__":
    main()
