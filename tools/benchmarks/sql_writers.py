"""Measure single-row INSERTs by many writers, beside plain SQLite in one process.

Each writer waits for its answer before it sends the next INSERT. The writers share one database,
then 64. The same INSERTs run in one process with Python's sqlite3, in a thread for each writer and
with the node's settings: WAL, `synchronous=FULL`, a transaction for each INSERT. The two sides take
turns, so that both see the same disk.

    python tools/benchmarks/sql_writers.py [--writers 16] [--statements 2000] [--rounds 3]
"""

import argparse
import asyncio
import json
import queue
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from driving import drive
from measuring import quantile
from places import Place, request, set_up, token
from processes import used_by
from started_servers import own_node

DATABASES = (1, 64)
TEXT = "x" * 100
_CREATE = "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL)"
_INSERT = "INSERT INTO note (text) VALUES (?)"
_MOST_S = 120.0

Figures = dict[str, float]


def figures(took_s: float, cpu_s: float, latencies_s: list[float]) -> Figures:
    """Return what is reported of one round."""
    return {
        "statements_per_s": round(len(latencies_s) / took_s, 1),
        "cpu_us": round(cpu_s / len(latencies_s) * 1e6, 1),
        "p50_ms": round(quantile(latencies_s, 0.5) * 1e3, 2),
        "p99_ms": round(quantile(latencies_s, 0.99) * 1e3, 2),
    }


# --- the node -------------------------------------------------------------------------------------


def asked(place: Place, database: int, ability: str, body: Mapping[str, object]) -> bytes:
    """Return a request for one of the databases."""
    held = {f"{place.space}/sql/bench{database}": [f"tinycloud.sql/{ability}"]}
    authorization = token(place.session, held, audience=place.node_did)
    return request("/invoke", authorization, msgspec.json.encode(body), "application/json")


async def by_node(place: Place, pid: int, databases: int, arguments: argparse.Namespace) -> Figures:
    """Run one round on the node."""
    create = {"action": "execute", "sql": _CREATE}
    tables = [asked(place, one, "schema", create) for one in range(databases)]
    await drive(place.port, tables, connections=1, most_s=_MOST_S)
    insert = {"action": "execute", "sql": _INSERT, "params": [TEXT]}
    inserts = [
        asked(place, number % databases, "write", insert) for number in range(arguments.statements)
    ]
    before = used_by(pid)
    driven = await drive(place.port, inserts, connections=arguments.writers, most_s=_MOST_S)
    cpu_s = sum(used_by(pid).since(before).values())
    return figures(driven.took_s, cpu_s, list(driven.latencies_s))


# --- plain SQLite ---------------------------------------------------------------------------------


def by_sqlite(folder: Path, databases: int, writers: int, statements: int) -> Figures:
    """Run one round in this process."""

    def opened(database: int) -> sqlite3.Connection:
        connection = sqlite3.connect(
            folder / f"{database}.sqlite", isolation_level=None, timeout=60, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(_CREATE)
        return connection

    # As many connections as the node has: one for each database, used by one thread at a time.
    connections = [opened(one) for one in range(databases)]
    turns = [threading.Lock() for _ in connections]
    numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(statements):
        numbers.put(number)
    latencies: list[float] = []

    def write() -> None:
        while True:
            try:
                number = numbers.get_nowait()
            except queue.Empty:
                return
            began = time.perf_counter()
            connection = connections[number % databases]
            with turns[number % databases]:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_INSERT, [TEXT])
                connection.execute("COMMIT")
            latencies.append(time.perf_counter() - began)

    threads = [threading.Thread(target=write) for _ in range(writers)]
    began, cpu_began = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    for connection in connections:
        connection.close()
    return figures(took_s, cpu_s, latencies)


def in_own_process(folder: Path, databases: int, arguments: argparse.Namespace) -> Figures:
    """Run one round of plain SQLite in a process of its own."""
    folder.mkdir(exist_ok=True)
    numbers = [databases, arguments.writers, arguments.statements]
    command = [sys.executable, __file__, "--plain", str(folder), *map(str, numbers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: Figures = json.loads(done.stdout)
    return found


# --- both -----------------------------------------------------------------------------------------


async def measure(folder: Path, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Run both sides in turns; return the best round of each."""
    rounds: dict[tuple[str, int], list[Figures]] = {}
    with own_node(folder / "data", "--attestation", "off", workers=arguments.workers) as (url, pid):
        place = await set_up(url)
        for _ in range(arguments.rounds):
            for databases in DATABASES:
                ours = await by_node(place, pid, databases, arguments)
                plain = in_own_process(folder / f"plain{databases}", databases, arguments)
                rounds.setdefault(("node", databases), []).append(ours)
                rounds.setdefault(("sqlite", databases), []).append(plain)
    return [
        {"side": side, "databases": databases, **_best(found)}
        for (side, databases), found in rounds.items()
    ]


def _best(rounds: list[Figures]) -> Figures:
    return max(rounds, key=lambda one: one["statements_per_s"])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="INSERTs by many writers, beside plain SQLite.")
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--statements", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--plain", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plain:
        folder, databases, writers, statements = arguments.plain
        print(json.dumps(by_sqlite(Path(folder), int(databases), int(writers), int(statements))))
        return 0
    with tempfile.TemporaryDirectory(prefix="sealspace-bench-") as folder:
        for row in asyncio.run(measure(Path(folder), arguments)):
            print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
