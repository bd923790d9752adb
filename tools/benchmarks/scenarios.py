"""Measurements other than loads: a start, one quote, floods beside callers, a second worker,
commands."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from command_processes import command_figures
from driving import REFUSAL, SUCCESS, Expected, drive
from loads import attested_decrypts, decrypts, gets, junk_sessions, revocations, small_puts
from measuring import Node, Round, measured, quantile
from places import PROGRAM, Place, set_up
from started_servers import own_node, trusting

from capabilities.principals import Principal
from tee_backend.attestation.collateral import parse_collateral
from tee_backend.attestation.examine import BoundQuote, examine
from tee_backend.attestation.quote import parse_quote
from tee_backend.attestation.report_data import Binding
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.evidence.simulated import SimulatedPlatform

Figures = dict[str, float]
_MOST_S = 20.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: 1 is enough for figures, less only shows that it runs."""

    rounds: int
    share: float

    def of(self, count: int) -> int:
        """Return a count at this size."""
        return max(2, int(count * self.share))


def the_platform() -> SimulatedPlatform:
    """Return the simulated platform of the benchmark."""
    return SimulatedPlatform.from_seed(b"the platform of the benchmark")


async def cold(size: Size) -> Figures:
    """The first requests after a start, and the same number once the process is warm; at one
    connection."""
    count = size.of(200)
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="sealspace-bench-") as name:
        data = Path(name) / "data"
        with own_node(data, "--attestation", "off") as (url, _):
            place = await set_up(url)
        for load, make in {"get": gets, "decrypt": decrypts}.items():
            asked = [await make(place, count) for _ in range(2)]
            with own_node(data, "--attestation", "off") as (url, pid):
                node = Node("ours", pid, _at(place, url))
                for state, requests in zip(("cold", "warm"), asked, strict=True):
                    one = await measured(node, requests, 1)
                    figures |= {
                        f"{load}, {state}: CPU µs": one.cpu_us,
                        f"{load}, {state}: p50 ms": quantile(one.latencies_s, 0.5) * 1e3,
                        f"{load}, {state}: first ms": one.latencies_s[0] * 1e3,
                    }
    return figures


async def quote_alone(size: Size) -> Figures:
    """The verification of one quote in this process, parsing and every check of ours included."""
    platform, now = the_platform(), time.time()
    collateral = parse_collateral(platform.collateral_json(now))
    root, quote = parse_trust_root(platform.root_der), platform.mint_quote(PROGRAM, bytes(64))
    binding = Binding(report_data=bytes(64), holder=Principal("did:key:zHolder"))
    taken = []
    for _ in range(size.of(60)):
        started = time.process_time()
        examine(BoundQuote(parse_quote(quote), binding, None), collateral, root=root, now=now)
        taken.append(time.process_time() - started)
    return {"CPU µs, least": min(taken) * 1e6, "CPU µs, median": statistics.median(taken) * 1e6}


async def junk_quotes(size: Size) -> Figures:
    """Honest releases of keys to a backend, on two connections, beside eight that hand in quotes
    with wrong signatures.

    One worker, and the limit of sessions for one client lifted: as if the flood came from many
    addresses.
    """
    async with AsyncExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="sealspace-bench-")))
        options = trusting(folder, the_platform(), now=time.time())
        url, _ = running.enter_context(own_node(folder / "data", *options))
        place = await set_up(url, the_platform())

        async def flood() -> list[bytes]:
            return await junk_sessions(place, size.of(900))

        async def honest() -> list[bytes]:
            return await attested_decrypts(place, size.of(100))

        return await _beside(
            place, honest, flood, honest_on=2, flood_on=8, expected=REFUSAL, rounds=size.rounds
        )


async def reads_beside_revocations(size: Size) -> Figures:
    """Revocations on one connection beside reads on 32, at a node of two workers."""
    async with AsyncExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="sealspace-bench-")))
        url, _ = running.enter_context(own_node(folder / "data", "--attestation", "off", workers=2))
        place = await set_up(url)

        async def flood() -> list[bytes]:
            return await gets(place, size.of(12_000))

        async def honest() -> list[bytes]:
            return await revocations(place, size.of(60))

        return await _beside(
            place, honest, flood, honest_on=1, flood_on=32, expected=SUCCESS, rounds=size.rounds
        )


async def _beside(
    place: Place,
    honest: Callable[[], Awaitable[list[bytes]]],
    flood: Callable[[], Awaitable[list[bytes]]],
    *,
    honest_on: int,
    flood_on: int,
    expected: Expected,
    rounds: int,
) -> Figures:
    """Drive the honest requests alone and beside the flood, in turns; the flood has its own latency
    under its load."""
    alone: list[float] = []
    beside: list[float] = []
    within: list[float] = []
    ended_early = 0
    for _ in range(rounds):
        quiet = await drive(place.port, await honest(), connections=honest_on, most_s=_MOST_S)
        alone += quiet.latencies_s
        requests, junk, enough = await honest(), await flood(), asyncio.Event()
        loud = asyncio.create_task(
            drive(
                place.port,
                junk,
                connections=flood_on,
                most_s=_MOST_S,
                expected=expected,
                until=enough,
            )
        )
        beside += (
            await drive(place.port, requests, connections=honest_on, most_s=_MOST_S)
        ).latencies_s
        ended_early += loud.done()
        enough.set()
        within += (await loud).latencies_s
    figures = {
        f"{name}: p{at} ms": quantile(latencies, at / 100) * 1e3
        for name, latencies in (("alone", alone), ("beside", beside), ("the flood itself", within))
        for at in (50, 99)
    }
    figures |= {
        f"ratio p{at}": figures[f"beside: p{at} ms"] / figures[f"alone: p{at} ms"]
        for at in (50, 99)
    }
    return figures | {"rounds in which the flood ended first": float(ended_early)}


async def two_workers(size: Size) -> Figures:
    """How much more two workers carry than one.

    A node carries as many requests as its busiest process can take, given a core for itself; so
    what one process carries is the requests of the round over the CPU time of the busiest process.
    What the client and other programs take from the cores meanwhile is not in it, uneven sharing
    among the workers and the storekeeper's part are.
    """
    figures: Figures = {}
    async with AsyncExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="sealspace-bench-")))
        nodes = []
        for workers in (1, 2):
            options = ("--attestation", "off")
            url, pid = running.enter_context(
                own_node(folder / f"of-{workers}", *options, workers=workers)
            )
            nodes.append(Node(f"{workers}", pid, await set_up(url)))
        for load, make, count in (("get", gets, 4000), ("put", small_puts, 2000)):
            rounds: Mapping[str, list[Round]] = {node.name: [] for node in nodes}
            for turn in range(size.rounds):
                for node in reversed(nodes) if turn % 2 else nodes:
                    requests = await make(node.place, size.of(count))
                    rounds[node.name].append(await measured(node, requests, 128))
            one, two = (max(map(_carried_per_s, rounds[node.name])) for node in nodes)
            figures |= {
                f"{load}: one worker, requests per CPU second of the busiest process": one,
                f"{load}: two workers": two,
                f"{load}: ratio": two / one,
                f"{load}: requests/s, one worker": max(each.requests_per_s for each in rounds["1"]),
                f"{load}: requests/s, two workers": max(
                    each.requests_per_s for each in rounds["2"]
                ),
                f"{load}: CPU of the client, share of a core": max(
                    each.client_cpu_s / each.took_s for each in rounds["2"]
                ),
                f"{load}: share of the busier worker": min(map(_unevenness, rounds["2"])),
            }
    return figures


def _carried_per_s(one: Round) -> float:
    return len(one.latencies_s) / max(one.cpu_s.values())


def _unevenness(one: Round) -> float:
    busiest = sorted(one.cpu_s.values())[-2:]
    return busiest[-1] / sum(busiest)


async def commands(size: Size) -> Figures:
    """Commands as processes of their own, at a node on this machine."""
    return await asyncio.to_thread(command_figures, size.of(20))


def _at(place: Place, url: str) -> Place:
    return replace(place, port=int(url.rpartition(":")[2]))


SCENARIOS: Mapping[str, Callable[[Size], Awaitable[Figures]]] = {
    "cold and warm": cold,
    "a quote alone": quote_alone,
    "junk quotes beside releases": junk_quotes,
    "reads beside revocations": reads_beside_revocations,
    "two workers": two_workers,
    "commands": commands,
}


async def run_scenarios(names: Sequence[str], size: Size) -> dict[str, Figures]:
    """Play the named scenarios one after the other."""
    return {name: await SCENARIOS[name](size) for name in names}
