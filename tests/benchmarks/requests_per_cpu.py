"""`make bench`: CPU time, rate and latency of a node's requests, on loopback, over all of its processes.

    python tests/benchmarks/requests_per_cpu.py                         our node, started on an empty folder
    python tests/benchmarks/requests_per_cpu.py --url URL --pid PID     another node of the protocol beside it

The other node's requests come in the same rounds, in turns. CPU time is the server's alone, user and system, of the
process and all its descendants; the client's is not in it. Time and counts are bounded, and nothing is judged by time:
a run fails only when a request does.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from driving import RequestFailed, drive
from loads import ATTESTED, LOADS, Make, Place, gets, set_up
from processes import used_by
from serving import NotServing, bare_server, own_node, trusting

from capabilities.tokens import parse_invocation, verify_invocation
from tee_backend.evidence.simulated import SimulatedPlatform

CONNECTIONS = (1, 16)
_WARM_UP = 20
_MOST_ROUND_S = 4.0


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is measured."""

    name: str
    pid: int
    place: Place


@dataclass(slots=True)
class Total:
    """The rounds of one load on one node over so many connections, added up."""

    node: str
    load: str
    connections: int
    took_s: float = 0.0
    cpu_s: float = 0.0
    rss_bytes: int = 0
    latencies_s: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, str | int | float]:
        """Return what is printed of it."""
        ordered, count = sorted(self.latencies_s), len(self.latencies_s)
        return {
            "node": self.node,
            "load": self.load,
            "connections": self.connections,
            "requests": count,
            "requests_per_s": round(count / self.took_s, 1),
            "cpu_us_per_request": round(self.cpu_s / count * 1e6, 1),
            "p50_ms": round(statistics.median(ordered) * 1e3, 3),
            "p99_ms": round(ordered[min(count - 1, int(count * 0.99))] * 1e3, 3),
            "rss_mib": round(self.rss_bytes / 2**20, 1),
        }


async def measure(node: Node, make: Make, total: Total, *, count: int) -> None:
    """Run one round of a load and add it up."""
    await drive(node.place.port, await make(node.place, _WARM_UP), connections=1, most_s=_MOST_ROUND_S)
    requests = await make(node.place, count)
    before = used_by(node.pid)
    driven = await drive(node.place.port, requests, connections=total.connections, most_s=_MOST_ROUND_S)
    after = used_by(node.pid)
    total.took_s += driven.took_s
    total.cpu_s += after.cpu_s - before.cpu_s
    total.rss_bytes = max(total.rss_bytes, after.rss_bytes)
    total.latencies_s += driven.latencies_s


async def run(nodes: list[Node], loads: Mapping[str, Make], *, rounds: int, count: int, end: float) -> list[Total]:
    """Run every load on every node in turns; past the end each has one round, and no more."""
    totals = []
    for load, make in loads.items():
        for connections in CONNECTIONS:
            now = [Total(node.name, load, connections) for node in nodes]
            for turn in range(rounds):
                if turn and time.monotonic() > end:
                    break
                pairs = list(zip(nodes, now, strict=True))
                for node, total in reversed(pairs) if turn % 2 else pairs:
                    await measure(node, make, total, count=count)
            totals += now
    return totals


def floors(place: Place, *, rounds: int, count: int) -> Iterator[tuple[str, float]]:
    """Yield what no node can be below: the signature of one token, a token read and verified, HTTP alone."""
    tokens = [request.split(b"\r\n")[2].partition(b" ")[2].decode() for request in asyncio.run(gets(place, 500))]
    read = [parse_invocation(token) for token in tokens]
    started = time.process_time()
    for invocation in read:
        verify_invocation(invocation)
    yield "signature of a token, checked", (time.process_time() - started) / len(read) * 1e6
    started = time.process_time()
    for token in tokens:
        parse_invocation(token)
    yield "token, read", (time.process_time() - started) / len(tokens) * 1e6
    with bare_server() as (url, pid):
        bare = Node("bare", pid, place_at(place, url))
        for connections in CONNECTIONS:
            total = Total("bare", "post", connections)
            for _ in range(rounds):
                asyncio.run(measure(bare, gets, total, count=count))
            yield f"bare aiohttp, {connections} connections", float(total.figures()["cpu_us_per_request"])


def place_at(place: Place, url: str) -> Place:
    """Return the same requests for another server."""
    port = int(url.rpartition(":")[2])
    return Place(port, place.node_did, place.space, place.network, place.wrapped_key, place.session, place.delegate)


def printed(totals: list[Total], floor: Mapping[str, float]) -> Iterator[str]:
    """Yield the lines of the table; with two nodes, how the other one's CPU time compares."""
    names = ("req/s", "CPU µs", "p50 ms", "p99 ms", "RSS MiB")
    yield f"{'load':<22}{'conn':>5}{'node':>8}{''.join(f'{name:>9}' for name in names)}{'ratio':>8}"
    ours: dict[tuple[str, int], float] = {}
    for total in totals:
        one = total.figures()
        cpu = float(one["cpu_us_per_request"])
        base = ours.setdefault((total.load, total.connections), cpu)
        ratio = "" if total.node == "ours" or not base else f"{cpu / base:.2f}"
        yield (
            f"{total.load:<22}{total.connections:>5}{total.node:>8}{one['requests_per_s']:>9}{cpu:>9}"
            f"{one['p50_ms']:>9}{one['p99_ms']:>9}{one['rss_mib']:>9}{ratio:>8}"
        )
    yield ""
    yield from (f"floor: {name:<40}{value:>9.1f} CPU µs" for name, value in floor.items())


def bench(arguments: argparse.Namespace) -> tuple[list[Total], dict[str, float]]:
    """Start what is needed, run everything, and stop it again."""
    limits = {"rounds": arguments.rounds, "count": arguments.requests}
    end = time.monotonic() + arguments.seconds
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealspace-bench-")))
        url, pid = stack.enter_context(own_node(folder / "plain", "--attestation", "off"))
        nodes = [Node("ours", pid, asyncio.run(set_up(url)))]
        if arguments.url:
            nodes.append(Node("other", arguments.pid, asyncio.run(set_up(arguments.url.rstrip("/")))))
        wanted = {name: make for name, make in LOADS.items() if arguments.only is None or name in arguments.only}
        totals = asyncio.run(run(nodes, wanted, **limits, end=end))
        floor = dict(floors(nodes[0].place, **limits))
    if arguments.only is None or set(ATTESTED) & set(arguments.only):
        totals += attested(**limits, end=end)
    return totals, floor


def attested(*, rounds: int, count: int, end: float) -> list[Total]:
    """Measure releases to a backend with live evidence, on a node that trusts a simulated platform's root."""
    platform = SimulatedPlatform.from_seed(b"the platform of the benchmark")
    with tempfile.TemporaryDirectory(prefix="sealspace-bench-") as name:
        folder = Path(name)
        options = trusting(folder, platform, now=time.time())
        with own_node(folder / "trusting", *options) as (url, pid):
            node = Node("ours", pid, asyncio.run(set_up(url, platform)))
            return asyncio.run(run([node], ATTESTED, rounds=rounds, count=count, end=end))


def main() -> int:
    """Read the arguments, run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="another node to measure beside ours, http://127.0.0.1:PORT")
    parser.add_argument("--pid", type=int, help="its first process; CPU time of all below it counts")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each load (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=600, help="requests of a round (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="after them no second round begins (%(default)s)")
    parser.add_argument("--only", action="append", choices=[*LOADS, *ATTESTED], help="one load; may be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    arguments = parser.parse_args()
    if (arguments.url is None) != (arguments.pid is None):
        parser.error("--url and --pid belong together")
    try:
        totals, floor = bench(arguments)
    except (RequestFailed, NotServing) as failure:
        print(f"bench failed: {failure}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({"loads": [total.figures() for total in totals], "floor_cpu_us": floor}, indent=2))
    else:
        print("\n".join(printed(totals, floor)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
