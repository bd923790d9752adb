"""`make bench`: CPU time, rate and latency of a node's requests on loopback.

CPU time is that of all of its processes.

    python tools/benchmarks/requests_per_cpu.py                      this node, on an empty folder
    python tools/benchmarks/requests_per_cpu.py --url URL --pid PID  and another node beside it
    python tools/benchmarks/requests_per_cpu.py --against COMMIT     compare with that commit
    python tools/benchmarks/requests_per_cpu.py --only "get 1 KiB" --connections 16

The other node's requests come in the same rounds, in turns. CPU time is the server's alone, user
and system, of the process and all its descendants; the client's is not in it. Of several rounds the
best is given, since what else the machine does can only add, and the median beside it. Time and
counts are bounded. A run fails when a request does.

With --against, an earlier commit is installed into .cache/commits and measured in turns with the
working tree; see `against.py`. Without a commit, --against takes the baseline that is named there.
The run fails when the 95 % interval of a ratio is above 1: an operation costs more than at the
commit.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path

from against import BASELINE, CHOICES, PAUSE_S, START, Amount, compare, dearer
from against import printed as comparison_lines
from driving import RequestFailed
from floors import ComputedFloors, bare_plan, without_floors
from installed_commit import NotInstalled
from loads import ATTESTED, LOADS, Load
from measuring import OTHER, OURS, Node, Plan, run
from page import page
from places import set_up
from report import Report, printed, report_of
from scenarios import SCENARIOS, Size, run_scenarios, the_platform
from started_servers import NotServing, bare_server, own_node, trusting

CONNECTIONS = (1, 16, 128)
_FULL_REQUESTS = 400
_ROUNDS = 3
# Of a comparison: enough for an interval of one or two hundredths on a quiet machine.
_PAIRED_ROUNDS = 10
_PAIRED_REQUESTS = 1000
_PAIRED_CONNECTIONS = 16


async def bench(arguments: argparse.Namespace) -> Report:
    """Start what is needed, run everything, and stop it again."""
    wanted = arguments.only or [*LOADS, *ATTESTED, *SCENARIOS]
    connections = arguments.connections or CONNECTIONS
    requests = arguments.requests or _FULL_REQUESTS
    rounds = arguments.rounds or _ROUNDS
    limits = {"rounds": rounds, "requests": requests}
    end = time.monotonic() + arguments.seconds
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealspace-bench-")))
        url, pid = stack.enter_context(own_node(folder / "plain", "--attestation", "off"))
        ours = Node(OURS, pid, await set_up(url))
        nodes = [ours]
        if arguments.url:
            url = arguments.url.rstrip("/")
            other = await set_up(url, writes_at=arguments.peer_writes_at, is_other=True)
            nodes.append(Node(OTHER, arguments.pid, other, arguments.peer_at))
        plans = [Plan(_of(LOADS, wanted), nodes, connections)]
        if attested := _of(ATTESTED, wanted):
            options = trusting(folder, the_platform(), now=time.time())
            url, pid = stack.enter_context(own_node(folder / "trusting", *options))
            node = Node(OURS, pid, await set_up(url, the_platform()))
            plans.append(Plan(attested, [node], connections))
        url, pid = stack.enter_context(bare_server())
        plans.append(bare_plan(ours.place, url, pid, connections=connections))
        computed = ComputedFloors(ours.place)
        totals = await run(plans, computed.measure, **limits, end=end)
    size = Size(rounds, min(1.0, requests / _FULL_REQUESTS))
    floors = computed.with_http(totals)
    return report_of(
        without_floors(totals),
        floors,
        await run_scenarios([name for name in SCENARIOS if name in wanted], size),
    )


def _of(loads: Mapping[str, Load], wanted: Collection[str]) -> dict[str, Load]:
    return {name: load for name, load in loads.items() if name in wanted}


def main() -> int:
    """Read the arguments, run, and print the figures."""
    arguments = _arguments()
    try:
        if arguments.against is not None:
            return _compare(arguments)
        report = asyncio.run(bench(arguments))
    except (RequestFailed, NotServing, NotInstalled) as failure:
        print(f"bench failed: {failure}", file=sys.stderr)
        return 1
    print(report.to_json() if arguments.json else "\n".join(printed(report)))
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "bench.json").write_text(report.to_json(), encoding="utf-8")
        (arguments.out / "bench.html").write_text(page(report), encoding="utf-8")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    """Compare the working tree with a commit."""
    amount = Amount(
        arguments.rounds or _PAIRED_ROUNDS,
        arguments.requests or _PAIRED_REQUESTS,
        arguments.connections[0] if arguments.connections else _PAIRED_CONNECTIONS,
        arguments.pause,
    )
    wanted = arguments.only or CHOICES
    comparison = asyncio.run(compare(arguments.against, wanted, amount))
    lines = comparison_lines(comparison)
    print(comparison.to_json() if arguments.json else "\n".join(lines))
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "against.json").write_text(comparison.to_json(), encoding="utf-8")
    found = dearer(comparison)
    for line in found:
        print(f"dearer than at the commit: {line}", file=sys.stderr)
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="another node to measure beside ours, http://127.0.0.1:PORT")
    parser.add_argument(
        "--pid", type=int, help="its first process; CPU time of all below it counts"
    )
    parser.add_argument(
        "--peer-at", type=int, help="most connections on which it is asked anything"
    )
    parser.add_argument(
        "--peer-writes-at", type=int, help="most connections on which it is asked to write"
    )
    parser.add_argument(
        "--rounds", type=int, help=f"of each load ({_ROUNDS}; with --against {_PAIRED_ROUNDS})"
    )
    parser.add_argument(
        "--requests",
        type=int,
        help=f"of a round ({_FULL_REQUESTS}; with --against {_PAIRED_REQUESTS})",
    )
    parser.add_argument(
        "--connections",
        type=int,
        nargs="+",
        help=f"1 16 128; with --against only the first counts ({_PAIRED_CONNECTIONS})",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=120,
        help="after them no further round begins (%(default)s)",
    )
    names = [*LOADS, *ATTESTED, *SCENARIOS, START]
    parser.add_argument(
        "--only", action="append", choices=names, help="one load or scenario; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    parser.add_argument("--out", type=Path, help="folder for bench.json and bench.html")
    parser.add_argument(
        "--against",
        nargs="?",
        const=BASELINE,
        metavar="COMMIT",
        help="compare the working tree with a commit of this repository",
    )
    parser.add_argument(
        "--pause",
        type=float,
        default=PAUSE_S,
        help="seconds after each round of --against that count for it (%(default)s)",
    )
    arguments = parser.parse_args()
    if (arguments.url is None) != (arguments.pid is None):
        parser.error("--url and --pid belong together")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
