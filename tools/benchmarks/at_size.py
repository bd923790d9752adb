"""Compare the cost of a node on a store of millions of values with one of ten thousand.

    python tools/benchmarks/at_size.py --keys 10000000         values in one space
    python tools/benchmarks/at_size.py --spaces 1000000        ten values a space, one owner each
    python tools/benchmarks/at_size.py --keys 10000000 --folder /big/disk --json

Both stores are filled through the store's contract, a node with one worker runs on each, and both
are asked in turns about values at random. Reported: CPU time of a request on each and its ratio
(1.3 at most is wanted; beyond it the status is 1), how soon a node on the full store accepts
requests, its memory, the size of the store, what a copy of it takes while the node answers, and
that it grows without a restart.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lmdb
from crowds import ASKED, PER_SPACE, Pick, load_spaces, load_values, spaces_of_ten, values_of_one
from driving import drive
from measuring import Node, Round, measured
from places import Place, set_up
from processes import used_by
from serving import own_node

FEW_KEYS = 10_000
TARGET_RATIO = 1.3
_OPTIONS = ("--attestation", "off")
_SETTINGS: dict[str, Any] = {
    "SEALSPACE_HOSTING__SPACES_TOTAL": "1000000000",
    "SEALSPACE_HOSTING__DEFAULT_QUOTA_BYTES": "0",
}
_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Kept:
    """A store that was filled.

    Attributes:
        data: folder of the node.
        place: its first owner.
        pick: how to pick values at random.
        loaded_s: wall time of loading.
    """

    data: Path
    place: Place
    pick: Pick
    loaded_s: float


@contextmanager
def _node(data: Path) -> Iterator[tuple[str, int, float]]:
    """Run a node; give its address, its process and how long it took until it accepted requests."""
    started = time.perf_counter()
    with own_node(data, *_OPTIONS, **_SETTINGS) as (url, pid):
        yield url, pid, time.perf_counter() - started


async def filled(data: Path, arguments: argparse.Namespace, keys: int) -> Kept:
    """Make a store with so many values."""
    data.parent.mkdir(parents=True, exist_ok=True)
    with _node(data) as (url, _, _):
        place = await set_up(url)
    started = time.perf_counter()
    if arguments.spaces:
        await load_spaces(data, keys // PER_SPACE, size_bytes=arguments.bytes)
        pick = spaces_of_ten(keys // PER_SPACE)
    else:
        await load_values(data, place.space, keys, size_bytes=arguments.bytes)
        pick = values_of_one(place, keys)
    return Kept(data, place, pick, time.perf_counter() - started)


async def compared(
    few: Kept, many: Kept, arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Ask both nodes in turns; of each kind of request the least CPU time on both, and the
    ratio."""
    chance = random.Random(1)
    table = {}
    with _node(few.data) as (few_url, few_pid, _), _node(many.data) as (many_url, many_pid, _):
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
    return Node(str(kept.data), pid, replace(kept.place, port=int(url.rpartition(":")[2])))


def _copied(data: Path, to: Path) -> tuple[float, int]:
    """Copy the environment as it is at one moment, without free pages; return seconds and bytes."""
    to.mkdir()
    started = time.perf_counter()
    with lmdb.open(
        str(data / "store"), map_size=1 << 40, readonly=True, max_readers=512, readahead=True
    ) as env:
        env.copy(str(to), compact=True)
    took_s = time.perf_counter() - started
    size_bytes = (to / "data.mdb").stat().st_size
    shutil.rmtree(to)
    return took_s, size_bytes


def ready_s(kept: Kept, tries: int) -> tuple[float, float]:
    """Return how soon a node on this store accepts requests, and the CPU time of all its processes
    until then.

    Both at the best of some starts. The processes start side by side, so on cores of their own it
    takes less than the sum.
    """
    starts = []
    for _ in range(tries):
        with _node(kept.data) as (_, pid, took_s):
            starts.append((took_s, sum(used_by(pid).cpu_s.values())))
    took, cpu = zip(*starts, strict=True)
    return min(took), min(cpu)


async def around(few: Kept, many: Kept, arguments: argparse.Namespace) -> dict[str, float]:
    """Start a node on the full store, look at its memory, copy the store beside it while it
    answers, let it grow."""
    starts = {
        f"ready on the {size} store, {figure}": value
        for size, kept in (("full", many), ("small", few))
        for figure, value in zip(
            ("seconds", "CPU seconds"), ready_s(kept, arguments.rounds), strict=True
        )
    }
    chance = random.Random(2)
    with _node(many.data) as (url, pid, _):
        node = _at(many, url, pid)
        fresh = used_by(pid)
        asked = [ASKED["get"](many.pick, chance) for _ in range(arguments.requests)]
        await drive(node.place.port, asked, connections=_CONNECTIONS, most_s=30)
        after = used_by(pid)
        asked = [ASKED["get"](many.pick, chance) for _ in range(arguments.requests)]
        copying = asyncio.create_task(
            asyncio.to_thread(_copied, many.data, many.data.parent / "copy")
        )
        beside = await drive(node.place.port, asked, connections=1, most_s=30)
        copied_s, copied_bytes = await copying
        size_bytes = _file_bytes(many)
        asked = [ASKED["put"](many.pick, chance) for _ in range(arguments.requests)]
        await drive(node.place.port, asked, connections=_CONNECTIONS, most_s=30)
        return starts | {
            "memory after the start, MiB": fresh.rss_bytes / 2**20,
            "private memory after the start, MiB": fresh.private_bytes / 2**20,
            "private memory after reads, MiB": after.private_bytes / 2**20,
            "loading, seconds": many.loaded_s,
            "store, MiB": size_bytes / 2**20,
            "store, MiB, after writes without a restart": _file_bytes(many) / 2**20,
            "copy beside the running node, seconds": copied_s,
            "copy, MiB": copied_bytes / 2**20,
            "slowest read during the copy, ms": max(beside.latencies_s) * 1e3,
        }


def _file_bytes(kept: Kept) -> int:
    return (kept.data / "store" / "data.mdb").stat().st_size


async def measure_at_size(
    folder: Path, arguments: argparse.Namespace
) -> dict[str, Mapping[str, object]]:
    """Fill both stores and measure."""
    keys = arguments.spaces * PER_SPACE or arguments.keys
    few = await filled(folder / "few" / "data", arguments, min(FEW_KEYS, keys))
    many = await filled(folder / "many" / "data", arguments, keys)
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
        print(f"{name:<44}{value:>10.2f}")


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
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
