"""Rounds of a load on nodes that take turns, and what they came to."""

import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from driving import drive
from loads import Load
from places import Place
from processes import used_by

OURS, OTHER = "ours", "other"
_WARM_UP = 20
_MOST_ROUND_S = 4.0


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is measured.

    Attributes:
        name: in the figures.
        pid: its first process.
        place: what is asked of it.
        most_connections: it is not asked on more; None: on any number.
        others: first processes of servers that work for it, as its database does.
    """

    name: str
    pid: int
    place: Place
    most_connections: int | None = None
    others: tuple[int, ...] = ()

    def takes(self, load: Load, connections: int) -> bool:
        """Whether a load is measured on this node over so many connections."""
        bounds = [
            load.most_connections,
            self.most_connections,
            self.place.writes_at if load.writes else None,
        ]
        return all(bound is None or connections <= bound for bound in bounds)


@dataclass(frozen=True, slots=True)
class Round:
    """One drive of one load.

    Attributes:
        took_s: wall time.
        cpu_s: user and system time of each of the server's processes.
        client_cpu_s: of this process meanwhile.
        rss_bytes: of the server's processes together, at the end.
        latencies_s: of each request.
    """

    took_s: float
    cpu_s: Mapping[int, float]
    client_cpu_s: float
    rss_bytes: int
    latencies_s: tuple[float, ...]

    @property
    def cpu_us(self) -> float:
        """CPU time of a request, over all of the server's processes."""
        return sum(self.cpu_s.values()) / len(self.latencies_s) * 1e6

    @property
    def requests_per_s(self) -> float:
        """Rate."""
        return len(self.latencies_s) / self.took_s


@dataclass(slots=True)
class Total:
    """The rounds of one load on one node over so many connections."""

    node: str
    load: str
    connections: int
    rounds: list[Round] = field(default_factory=list)

    @property
    def cpu_us(self) -> float:
        """CPU time of a request in the best round: what else the machine does can only add to
        it."""
        return min(one.cpu_us for one in self.rounds)

    def figures(self) -> dict[str, str | int | float]:
        """Return what is reported of it."""
        latencies = [latency for one in self.rounds for latency in one.latencies_s]
        return {
            "node": self.node,
            "load": self.load,
            "connections": self.connections,
            "requests": len(latencies),
            "requests_per_s": round(max(one.requests_per_s for one in self.rounds), 1),
            "cpu_us": round(self.cpu_us, 1),
            "cpu_us_median": round(statistics.median(one.cpu_us for one in self.rounds), 1),
            "client_cpu_us": round(
                min(one.client_cpu_s / len(one.latencies_s) for one in self.rounds) * 1e6, 1
            ),
            "p50_ms": round(quantile(latencies, 0.5) * 1e3, 3),
            "p99_ms": round(quantile(latencies, 0.99) * 1e3, 3),
            "rss_mib": round(max(one.rss_bytes for one in self.rounds) / 2**20, 1),
        }


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def count_of(load: Load, requests: int, connections: int) -> int:
    """Return how many requests a round has: every connection sends one at least."""
    return max(int(requests * load.share), 2, connections if load.share == 1 else 0)


async def measure(node: Node, load: Load, *, requests: int, connections: int) -> Round:
    """Run one round of a load."""
    warm_up = await load.make(node.place, max(1, int(_WARM_UP * load.share)))
    await drive(node.place.port, warm_up, connections=1, most_s=_MOST_ROUND_S)
    return await measured(
        node, await load.make(node.place, count_of(load, requests, connections)), connections
    )


async def measured(node: Node, requests: Sequence[bytes], connections: int) -> Round:
    """Send prepared requests and note what that cost the server."""
    before, client_before = used_by(node.pid, *node.others), time.process_time()
    driven = await drive(node.place.port, requests, connections=connections, most_s=_MOST_ROUND_S)
    after, client_after = used_by(node.pid, *node.others), time.process_time()
    return Round(
        driven.took_s,
        after.since(before),
        client_after - client_before,
        after.rss_bytes,
        driven.latencies_s,
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan of measurements: loads on nodes, each over some numbers of connections."""

    loads: Mapping[str, Load]
    nodes: Sequence[Node]
    connections: Sequence[int]

    def totals(self) -> Iterator[tuple[Load, list[tuple[Node, Total]]]]:
        """Yield each load at each number of connections, with the nodes that take part."""
        for name, load in self.loads.items():
            for connections in self.connections:
                pairs = [
                    (node, Total(node.name, name, connections))
                    for node in self.nodes
                    if node.takes(load, connections)
                ]
                if pairs:
                    yield load, pairs


async def run(
    plans: Sequence[Plan],
    between: Callable[[], Awaitable[None]],
    *,
    rounds: int,
    requests: int,
    end: float,
) -> list[Total]:
    """Run every load on every node in turns, round after round; past the end no further round
    begins.

    `between` is called once in each round for each plan: floors that drift with the machine as the
    nodes do.
    """
    steps = [list(plan.totals()) for plan in plans]
    for turn in range(rounds):
        if turn and time.monotonic() > end:
            break
        for plan in steps:
            await between()
            for load, pairs in plan:
                for node, total in reversed(pairs) if turn % 2 else pairs:
                    total.rounds.append(
                        await measure(node, load, requests=requests, connections=total.connections)
                    )
    return [total for plan in steps for _, pairs in plan for _, total in pairs]
