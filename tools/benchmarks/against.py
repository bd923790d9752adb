"""The working tree and an earlier commit, measured in turns: ratios of CPU time per request.

Both nodes run at the same time, with one worker each, and are asked the same in turns. A cost is
the CPU time of all processes of a node. Each round starts both nodes anew on empty folders: two
processes of the same program differ by a few hundredths for as long as they run, so more requests
to the same two would only repeat that difference. Each operation is measured

- on a fresh store, on which nothing but this operation ran, in the first half minute of a node,
  before its background jobs begin: what requests alone cost;
- on a used store, on which each operation ran before, beside the background jobs. A round ends
  with a pause, so that work which a node puts off, such as chaining audit records, counts for the
  operation that causes it;
- in a mixture of all operations, on the used store.
"""

import asyncio
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
from driving import Line, RequestFailed, connected, drive_over
from installed_commit import commit_of, install
from loads import ATTESTED, LOADS, Load
from measuring import count_of
from paired_ratios import Ratio, ratio_of
from places import Place, set_up
from processes import used_by
from scenarios import the_platform
from started_servers import own_node, trusting

from sealspace.errors import SealspaceError

BASELINE = "eff97b704f121780935f4c3608b54b47d23e304a"
"""The commit that a comparison without a name is made with: the last one before the runner."""
OPERATIONS: Mapping[str, Load] = {
    "get 1 KiB": LOADS["get 1 KiB"],
    "list 100": LOADS["list 100"],
    "put 1 KiB": LOADS["put 1 KiB"],
    "delegate": LOADS["delegate"],
    "decrypt, in person": ATTESTED["decrypt, in person"],
    "decrypt, attested": ATTESTED["decrypt, attested"],
    "session": replace(ATTESTED["session"], share=0.25),
}
START = "node start"
MIXTURE = "mixture of all"
CHOICES = (*OPERATIONS, START)
FRESH, USED = "fresh", "used"
PAUSE_S = 1.5
"""How long a round on a used store waits for work that a node puts off; audit records are chained
after a second."""
_BACKGROUND_S = 32.0  # background jobs begin half a minute after the start
_MOST_ROUND_S = 30.0
# The turns of a round: the shorter each is, the more alike is what else the machine does meanwhile.
_PARTS = 8


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured.

    Attributes:
        rounds: Rounds of each operation. Each gives one ratio, and six are the least for an
            interval.
        requests: Requests of a round.
        connections: Connections that they are sent over.
        pause_s: See `PAUSE_S`; 0 also begins before the background jobs do.
    """

    rounds: int
    requests: int
    connections: int
    pause_s: float


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two nodes."""

    pid: int
    place: Place


@dataclass(slots=True)
class Pair:
    """The node of the working tree, and the node of the commit.

    Attributes:
        now: The working tree.
        then: The commit.
        missing: Operations that the commit does not have, or refuses.
    """

    now: Side
    then: Side
    missing: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one operation on one kind of store.

    Attributes:
        operation: Its name.
        store: `FRESH` or `USED`.
        now_us: Median CPU time of a request of the working tree, in microseconds.
        then_us: Median CPU time of a request of the commit; None if it lacks the operation.
        ratio: Of `now_us` to `then_us`, median and interval over the paired rounds; None if the
            commit lacks the operation.
    """

    operation: str
    store: str
    now_us: float
    then_us: float | None = None
    ratio: Ratio | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a run.

    Attributes:
        commit: Full hash of the commit.
        rounds: Rounds of each operation, see `Amount`.
        load_average: Of the machine over a minute, at the beginning and at the end.
        rows: One for each operation and store.
    """

    commit: str
    rounds: int
    load_average: tuple[float, float]
    rows: tuple[Row, ...]

    def to_json(self) -> str:
        """Return the comparison as a text."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode() + "\n"


async def compare(name: str, wanted: Sequence[str], amount: Amount) -> Comparison:
    """Install a commit, and measure the wanted operations of both versions in turns.

    Raises:
        NotInstalled: The commit is not in this repository, or pip failed.
        NotServing: A node does not start.
        RequestFailed: The node of the working tree refuses a request.
    """
    commit = commit_of(name)
    program = install(commit)
    before = os.getloadavg()[0]
    loads = {one: load for one, load in OPERATIONS.items() if one in wanted}
    rows: list[Row] = []
    for one, load in loads.items():
        rows.append(await _on_a_fresh_store(program, one, load, amount))
        print(_line(rows[-1]), file=sys.stderr, flush=True)  # not lost if the run is stopped
    if loads:
        rows += await _on_a_used_store(program, loads, amount)
    if START in wanted:
        rows.append(_starts(program, amount))
    return Comparison(commit, amount.rounds, (before, os.getloadavg()[0]), tuple(rows))


async def _on_a_fresh_store(program: Path, name: str, load: Load, amount: Amount) -> Row:
    """Measure one operation on nodes that are asked nothing else."""
    at_once = replace(amount, pause_s=0)
    rounds: list[Costs] = []
    for turn in range(amount.rounds):
        with ExitStack() as stack:
            pair = await _two_nodes(stack, program, turn)
            await _use(pair, {name: load}, amount)
            rounds.append(await _round(pair, {name: load}, turn, at_once))
    return _row(name, FRESH, rounds)


async def _on_a_used_store(program: Path, loads: Mapping[str, Load], amount: Amount) -> list[Row]:
    """Measure operations in turns, and all together, on nodes that were asked all of them."""
    rounds: dict[str, list[Costs]] = {name: [] for name in (*loads, MIXTURE)}
    for turn in range(amount.rounds):
        with ExitStack() as stack:
            pair = await _two_nodes(stack, program, turn)
            await _use(pair, loads, amount)
            await asyncio.sleep(_BACKGROUND_S if amount.pause_s else 0)
            for name, load in loads.items():
                rounds[name].append(await _round(pair, {name: load}, turn, amount))
            common = {name: load for name, load in loads.items() if name not in pair.missing}
            if common:
                rounds[MIXTURE].append(await _round(pair, common, turn, amount))
    return [_row(name, USED, measured) for name, measured in rounds.items() if measured]


async def _two_nodes(stack: ExitStack, program: Path, turn: int) -> Pair:
    """Start both nodes on empty folders, and sign an owner in at each.

    The node of the commit is started first in every other round.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealspace-bench-")))
    platform = the_platform()
    options = trusting(folder, platform, now=time.time())
    programs: list[tuple[str, Path | None]] = [("now", None), ("then", program)]
    if turn % 2:
        programs.reverse()
    started: dict[str, tuple[str, int]] = {}
    for name, its_program in programs:
        node = own_node(folder / name, *options, program=its_program)
        started[name] = stack.enter_context(node)
    url, pid = started["now"]
    now = Side(pid, await set_up(url, platform))
    url, pid = started["then"]
    try:
        return Pair(now, Side(pid, await set_up(url, platform)))
    except (RequestFailed, SealspaceError):
        # Backends of the working tree cannot attest at this commit.
        return Pair(now, Side(pid, await set_up(url)), set(ATTESTED) - {"decrypt, in person"})


async def _use(pair: Pair, loads: Mapping[str, Load], amount: Amount) -> None:
    """Run each operation once on both nodes, and note those that the commit refuses."""
    for name, load in loads.items():
        await _drive_once(pair.now, load, amount)
        if name in pair.missing:
            continue
        try:
            await _drive_once(pair.then, load, amount)
        except RequestFailed:
            pair.missing.add(name)


async def _drive_once(side: Side, load: Load, amount: Amount) -> None:
    requests = await _requests(side, {"": load}, amount)
    async with connected(side.place.port, amount.connections) as lines:
        await _drive(lines, requests)


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU time of a request in one round, in microseconds; `then` is None if it was not asked."""

    now: float
    then: float | None


async def _round(pair: Pair, loads: Mapping[str, Load], turn: int, amount: Amount) -> Costs:
    """Ask both nodes the same in short turns, and return the costs, with those of the pause."""
    is_common = pair.missing.isdisjoint(loads)
    sides = [pair.now, pair.then] if is_common else [pair.now]
    requests = {side.pid: await _requests(side, loads, amount) for side in sides}
    parts = min([_PARTS, *map(len, requests.values())])
    async with AsyncExitStack() as stack:
        lines = {
            side.pid: await stack.enter_async_context(
                connected(side.place.port, amount.connections)
            )
            for side in sides
        }
        before = {side.pid: _cpu_s(side) for side in sides}
        for part in range(parts):
            for side in reversed(sides) if (turn + part) % 2 else sides:
                await _drive(lines[side.pid], requests[side.pid][part::parts])
    await asyncio.sleep(amount.pause_s)
    costs = {
        side.pid: (_cpu_s(side) - before[side.pid]) / len(requests[side.pid]) * 1e6
        for side in sides
    }
    return Costs(costs[pair.now.pid], costs.get(pair.then.pid))


async def _requests(side: Side, loads: Mapping[str, Load], amount: Amount) -> list[bytes]:
    """Return fresh requests; those of several operations are shuffled."""
    requests: list[bytes] = []
    for load in loads.values():
        count = count_of(load, amount.requests // len(loads), amount.connections)
        requests += await load.make(side.place, count)
    if len(loads) > 1:
        random.Random(len(requests)).shuffle(requests)  # both nodes get the same order
    return requests


async def _drive(lines: Sequence[Line], requests: Sequence[bytes]) -> None:
    answered = await drive_over(lines, requests, most_s=_MOST_ROUND_S)
    if len(answered.latencies_s) < len(requests):  # the costs would be divided by too many
        raise RequestFailed(f"a round took longer than {_MOST_ROUND_S} s")


def _cpu_s(side: Side) -> float:
    return sum(used_by(side.pid).cpu_s.values())


def _starts(program: Path, amount: Amount) -> Row:
    """Measure the start of a node until it listens, on a store that it made before."""
    rounds: list[Costs] = []
    with tempfile.TemporaryDirectory(prefix="sealspace-bench-") as name:
        sides = {Path(name) / "now": None, Path(name) / "then": program}
        for turn in range(amount.rounds + 1):
            costs: list[float] = []
            for data, its_program in sides.items():
                with own_node(data, "--attestation", "off", program=its_program) as (_, pid):
                    costs.append(sum(used_by(pid).cpu_s.values()) * 1e6)
            if turn:  # the first start makes the store, and compiles modules
                rounds.append(Costs(costs[0], costs[1]))
    return _row(START, USED, rounds)


def _row(name: str, store: str, rounds: Sequence[Costs]) -> Row:
    now = [one.now for one in rounds]
    then = [one.then for one in rounds if one.then is not None]
    if len(then) < len(now):
        return Row(name, store, statistics.median(now))
    return Row(name, store, statistics.median(now), statistics.median(then), ratio_of(now, then))


def printed(comparison: Comparison) -> Iterator[str]:
    """Yield the lines of the table."""
    yield (
        f"against {comparison.commit[:10]}, {comparison.rounds} rounds, load of the machine"
        f" {comparison.load_average[0]:.1f} to {comparison.load_average[1]:.1f}"
    )
    titles = ("CPU µs now", "then", "ratio", "95 % from", "to")
    yield f"{'operation':<22}{'store':<7}{''.join(f'{title:>12}' for title in titles)}"
    yield from map(_line, comparison.rows)


def _line(row: Row) -> str:
    """Return the line of one row of the table."""
    cells = [f"{row.now_us:,.0f}"]
    if row.then_us is None or row.ratio is None:
        cells.append("n/a")
    else:
        bounds = (row.ratio.low, row.ratio.high) if row.ratio.low else ()
        cells.append(f"{row.then_us:,.0f}")
        cells += [f"{figure:.3f}" for figure in (row.ratio.median, *bounds)]
    return f"{row.operation:<22}{row.store:<7}{''.join(f'{cell:>12}' for cell in cells)}"


def dearer(comparison: Comparison) -> list[str]:
    """Return a line for each operation that costs more than at the commit, beyond the noise."""
    found: list[str] = []
    for row in comparison.rows:
        if row.ratio is not None and row.ratio.low > 1 and row.ratio.high < math.inf:
            found.append(
                f"{row.operation}, {row.store} store: {row.ratio.median - 1:+.1%}"
                f" ({row.ratio.low - 1:+.1%} to {row.ratio.high - 1:+.1%})"
            )
    return found
