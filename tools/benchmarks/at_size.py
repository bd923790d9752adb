"""Compare the cost of a node on a store of millions of values with one of ten thousand.

    python tools/benchmarks/at_size.py --keys 10000000         values in one space
    python tools/benchmarks/at_size.py --spaces 1000000        ten values a space, one owner each
    python tools/benchmarks/at_size.py --keys 10000000 --folder /big/disk --json
    python tools/benchmarks/at_size.py --keys 1000000 --postgresql

Both stores are filled through the store's contract, a node with one worker runs on each, and both
are asked in turns about values at random. Reported: CPU time of a request on each and its ratio
(1.3 at most is wanted; beyond it the status is 1), how soon a node on the full store accepts
requests, its memory, the size of the store, what a backup of it takes while the node answers, what
a check takes, and that it grows without a restart.

With --postgresql the stores are databases of two servers that are started on a Unix socket, with
durable commits. CPU time and memory are then those of the node and of its server together.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crowds import ASKED, PER_SPACE, Pick, load_spaces, load_values, spaces_of_ten, values_of_one
from driving import drive
from measuring import Node, Round, measured
from places import Place, set_up
from processes import used_by
from started_servers import COMPILED_ONCE, own_command, own_node

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))
from postgres_server import PostgresServer, new_server

FEW_KEYS = 10_000
TARGET_RATIO = 1.3
_OPTIONS = ("--attestation", "off")
_SETTINGS: dict[str, Any] = {
    "SEALSPACE_HOSTING__SPACES_TOTAL": "1000000000",
    "SEALSPACE_HOSTING__DEFAULT_QUOTA_BYTES": "0",
}
_CONNECTIONS = 16
# As Debian's packages set a server up, and with memory for a store of some size.
_DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
}
_DATABASE = "values"


class CommandFailed(Exception):
    """A command of an operator failed; the run is worth nothing."""


@dataclass(frozen=True, slots=True)
class Home:
    """The place of a node's store.

    Attributes:
        data: folder of the node.
        server: of its rows; None: they are in LMDB, in the folder.
    """

    data: Path
    server: PostgresServer | None = None

    @property
    def url(self) -> str | None:
        """Address of the database."""
        return None if self.server is None else self.server.url(_DATABASE)

    @property
    def settings(self) -> dict[str, Any]:
        """Variables that make a node or a command use this store."""
        return {} if self.url is None else {"SEALSPACE_STORE__URL": self.url}

    @property
    def server_pids(self) -> tuple[int, ...]:
        """The first process of the server."""
        if self.server is None:
            return ()
        lines = (self.server.folder / "data" / "postmaster.pid").read_text().splitlines()
        return (int(lines[0]),)

    def size_bytes(self) -> int:
        """Return the size of the LMDB file or of the database."""
        if self.server is None:
            return (self.data / "store" / "data.mdb").stat().st_size
        return int(self.server.run(_DATABASE, f"select pg_database_size('{_DATABASE}')"))


@dataclass(frozen=True, slots=True)
class Kept:
    """A store that was filled.

    Attributes:
        home: where it is.
        place: its first owner.
        pick: how to pick values at random.
        loaded_s: wall time of loading.
    """

    home: Home
    place: Place
    pick: Pick
    loaded_s: float


@contextmanager
def home_of(folder: Path, *, is_on_postgresql: bool) -> Iterator[Home]:
    """Give a place for a store, with a server of its own if it is to be in a database."""
    folder.mkdir(parents=True)
    if not is_on_postgresql:
        yield Home(folder / "data")
        return
    server = new_server(_DURABLE)
    server.start()
    try:
        server.run("postgres", f"create database {_DATABASE}")
        yield Home(folder / "data", server)
    finally:
        server.stop()


@contextmanager
def _node(home: Home) -> Iterator[tuple[str, int, float]]:
    """Run a node; give its address, its process and how long it took until it accepted requests."""
    started = time.perf_counter()
    with own_node(home.data, *_OPTIONS, **_SETTINGS, **home.settings) as (url, pid):
        yield url, pid, time.perf_counter() - started


async def filled(home: Home, arguments: argparse.Namespace, keys: int) -> Kept:
    """Make a store with so many values."""
    with _node(home) as (url, _, _):
        place = await set_up(url)
    started = time.perf_counter()
    at = {"size_bytes": arguments.bytes, "url": home.url}
    if arguments.spaces:
        await load_spaces(home.data, keys // PER_SPACE, **at)
        pick = spaces_of_ten(keys // PER_SPACE)
    else:
        await load_values(home.data, place.space, keys, **at)
        pick = values_of_one(place, keys)
    if home.server is not None:
        home.server.run(_DATABASE, "vacuum analyze")
        home.server.run(_DATABASE, "checkpoint")
    return Kept(home, place, pick, time.perf_counter() - started)


async def compared(
    few: Kept, many: Kept, arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Ask both nodes in turns; of each kind of request the least CPU time on both, and the
    ratio."""
    chance = random.Random(1)
    table = {}
    with _node(few.home) as (few_url, few_pid, _), _node(many.home) as (many_url, many_pid, _):
        nodes = (_at(few, few_url, few_pid), _at(many, many_url, many_pid))
        for name, make in ASKED.items():
            rounds: tuple[list[Round], list[Round]] = ([], [])
            for turn in range(arguments.rounds):
                for which in (0, 1) if turn % 2 else (1, 0):
                    node, pick = nodes[which], (few, many)[which].pick
                    warm = [make(pick, chance) for _ in range(20)]
                    await drive(node.place.port, warm, connections=1, most_s=10)
                    asked = [make(pick, chance) for _ in range(arguments.requests)]
                    rounds[which].append(await measured(node, asked, _CONNECTIONS))
            one, other = (min(each.cpu_us for each in taken) for taken in rounds)
            p99 = max(max(each.latencies_s) for each in rounds[1])
            table[name] = {
                "few_us": one,
                "many_us": other,
                "ratio": other / one,
                "slowest_ms": p99 * 1e3,
            }
    return table


def _at(kept: Kept, url: str, pid: int) -> Node:
    place = replace(kept.place, port=int(url.rpartition(":")[2]))
    return Node(str(kept.home.data), pid, place, others=kept.home.server_pids)


def _run_command(home: Home, *arguments: str) -> tuple[float, float]:
    """Run a command of an operator on a store; return seconds and CPU seconds, the latter without
    those of a database server.

    Raises:
        CommandFailed: its status is not 0.
    """
    environment = os.environ | COMPILED_ONCE | home.settings
    command = [*own_command(), "admin", *arguments, "--data", str(home.data)]
    started, before = time.perf_counter(), os.times()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    took_s, after = time.perf_counter() - started, os.times()
    if done.returncode:
        raise CommandFailed(f"{arguments[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    cpu_s = after.children_user - before.children_user
    return took_s, cpu_s + after.children_system - before.children_system


def ready_s(kept: Kept, tries: int) -> tuple[float, float]:
    """Return how soon a node on this store accepts requests, and the CPU time of all its processes
    until then.

    Both at the best of some starts. The processes start side by side, so on cores of their own it
    takes less than the sum.
    """
    starts = []
    for _ in range(tries):
        with _node(kept.home) as (_, pid, took_s):
            starts.append((took_s, sum(used_by(pid).cpu_s.values())))
    took, cpu = zip(*starts, strict=True)
    return min(took), min(cpu)


async def around(few: Kept, many: Kept, arguments: argparse.Namespace) -> dict[str, float]:
    """Start a node on each store, look at its memory, make a backup beside it while it answers, let
    it grow, and check the store."""
    figures: dict[str, float] = {}
    for size, kept in (("small", few), ("full", many)):
        took_s, cpu_s = ready_s(kept, arguments.rounds)
        found = {"ready, seconds": took_s, "ready, CPU seconds": cpu_s}
        found |= await _beside_a_node(kept, arguments.requests)
        took_s, cpu_s = _run_command(kept.home, "check")
        found |= {"check, seconds": took_s, "check, CPU seconds": cpu_s}
        figures |= {f"{size} store: {name}": value for name, value in found.items()}
    return figures


async def _beside_a_node(kept: Kept, requests: int) -> dict[str, float]:
    """Return what is measured while a node runs: memory, a backup, growth."""
    chance = random.Random(2)
    backup = kept.home.data.parent / "backup.tar"

    def asked(name: str) -> list[bytes]:
        return [ASKED[name](kept.pick, chance) for _ in range(requests)]

    with _node(kept.home) as (url, pid, _):
        node = _at(kept, url, pid)
        fresh = used_by(pid, *node.others)
        await drive(node.place.port, asked("get"), connections=_CONNECTIONS, most_s=30)
        after = used_by(pid, *node.others)
        reads = asked("get")
        copying = asyncio.create_task(
            asyncio.to_thread(_run_command, kept.home, "backup", str(backup))
        )
        beside = await drive(node.place.port, reads, connections=1, most_s=30)
        backup_s, backup_cpu_s = await copying
        backup_bytes = backup.stat().st_size
        backup.unlink()
        size_bytes = kept.home.size_bytes()
        await drive(node.place.port, asked("put"), connections=_CONNECTIONS, most_s=30)
        return {
            "memory after the start, MiB": fresh.rss_bytes / 2**20,
            "private memory after the start, MiB": fresh.private_bytes / 2**20,
            "private memory after reads, MiB": after.private_bytes / 2**20,
            "loading, seconds": kept.loaded_s,
            "store, MiB": size_bytes / 2**20,
            "store, MiB, after writes without a restart": kept.home.size_bytes() / 2**20,
            "backup beside the running node, seconds": backup_s,
            "backup, CPU seconds": backup_cpu_s,
            "backup, MiB": backup_bytes / 2**20,
            "slowest read during the backup, ms": max(beside.latencies_s) * 1e3,
        }


async def measure_at_size(
    folder: Path, arguments: argparse.Namespace
) -> dict[str, Mapping[str, object]]:
    """Fill both stores and measure."""
    keys = arguments.spaces * PER_SPACE or arguments.keys
    is_on_postgresql = arguments.postgresql
    with (
        home_of(folder / "few", is_on_postgresql=is_on_postgresql) as few_home,
        home_of(folder / "many", is_on_postgresql=is_on_postgresql) as many_home,
    ):
        few = await filled(few_home, arguments, min(FEW_KEYS, keys))
        many = await filled(many_home, arguments, keys)
        return {
            "requests": await compared(few, many, arguments),
            "store": await around(few, many, arguments),
        }


def main() -> int:
    """Read the arguments, measure, and print the figures."""
    arguments = _arguments().parse_args()
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="sealspace-size-", dir=arguments.folder)
        found = asyncio.run(measure_at_size(Path(stack.enter_context(made)), arguments))
    printed: Callable[[dict[str, Mapping[str, object]]], None] = (
        _print_json if arguments.json else _print_table
    )
    printed(found)
    requests = found["requests"].values()
    return int(any(isinstance(row, dict) and row["ratio"] > TARGET_RATIO for row in requests))


def _print_json(found: dict[str, Mapping[str, object]]) -> None:
    print(json.dumps(found, indent=2))


def _print_table(found: dict[str, Mapping[str, object]]) -> None:
    print(
        f"{'CPU time of a request':<44}{'few':>10}{'many':>10}{'ratio':>8}   (at most"
        f" {TARGET_RATIO} is wanted)"
    )
    for name, row in found["requests"].items():
        assert isinstance(row, dict)
        print(f"{name:<44}{row['few_us']:>7.0f} µs{row['many_us']:>7.0f} µs{row['ratio']:>8.2f}")
    for name, value in found["store"].items():
        print(f"{name:<56}{value:>10.2f}")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--keys", type=int, default=100_000, help="values in one space (default: %(default)s)"
    )
    parser.add_argument(
        "--spaces", type=int, default=0, help="spaces of ten values, in place of one space"
    )
    parser.add_argument(
        "--bytes", type=int, default=100, help="bytes of a value (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds of each kind of request (%(default)s)"
    )
    parser.add_argument(
        "--requests", type=int, default=1000, help="requests of a round (default: %(default)s)"
    )
    parser.add_argument(
        "--folder", type=Path, help="where the stores lie; they are removed at the end"
    )
    parser.add_argument(
        "--postgresql", action="store_true", help="keep the rows in databases started for it"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
