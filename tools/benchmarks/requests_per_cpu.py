"""`make bench`: CPU time, rate and latency of a node's requests on loopback.

CPU time is that of all of its processes.

    python tools/benchmarks/requests_per_cpu.py                      this node, on an empty folder
    python tools/benchmarks/requests_per_cpu.py --url URL --pid PID  and another node beside it
    python tools/benchmarks/requests_per_cpu.py --compare            compare with the baseline
    python tools/benchmarks/requests_per_cpu.py --only "get 1 KiB" --connections 16

The other node's requests come in the same rounds, in turns. CPU time is the server's alone, user
and system, of the process and all its descendants; the client's is not in it. Of several rounds the
best is given, since what else the machine does can only add, and the median beside it. Time and
counts are bounded, and nothing is judged by time: a run fails when a request does, and with
--compare when a load costs more, in multiples of the floor measured in the same run, than the
baseline and its noise allow.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path

from driving import RequestFailed
from floors import TokenFloor, bare_plan, without_floors
from loads import ATTESTED, LOADS, Load
from measuring import OTHER, OURS, Node, Plan, run
from page import page
from places import set_up
from report import (
    BASELINE,
    Report,
    baseline_of,
    printed,
    read_baseline,
    regressions,
    report_of,
    write_baseline,
)
from scenarios import SCENARIOS, Size, run_scenarios, the_platform
from serving import NotServing, bare_server, own_node, trusting

CONNECTIONS = (1, 16, 128)
_NOISE = 0.3
_FULL_REQUESTS = 400


async def bench(arguments: argparse.Namespace) -> Report:
    """Start what is needed, run everything, and stop it again."""
    wanted = arguments.only or [*LOADS, *ATTESTED, *SCENARIOS]
    limits = {"rounds": arguments.rounds, "requests": arguments.requests}
    end = time.monotonic() + arguments.seconds
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealspace-bench-")))
        url, pid = stack.enter_context(own_node(folder / "plain", "--attestation", "off"))
        ours = Node(OURS, pid, await set_up(url))
        nodes = [ours]
        if arguments.url:
            other = await set_up(arguments.url.rstrip("/"), writes_at=arguments.peer_writes_at)
            nodes.append(Node(OTHER, arguments.pid, other, arguments.peer_at))
        plans = [Plan(_of(LOADS, wanted), nodes, arguments.connections)]
        if attested := _of(ATTESTED, wanted):
            options = trusting(folder, the_platform(), now=time.time())
            url, pid = stack.enter_context(own_node(folder / "trusting", *options))
            node = Node(OURS, pid, await set_up(url, the_platform()))
            plans.append(Plan(attested, [node], arguments.connections))
        url, pid = stack.enter_context(bare_server())
        plans.append(bare_plan(ours.place, url, pid, connections=arguments.connections))
        token = TokenFloor(ours.place)
        totals = await run(plans, token.measure, **limits, end=end)
    size = Size(arguments.rounds, min(1.0, arguments.requests / _FULL_REQUESTS))
    floors = token.with_http(totals)
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
        report = asyncio.run(bench(arguments))
    except (RequestFailed, NotServing) as failure:
        print(f"bench failed: {failure}", file=sys.stderr)
        return 1
    print(report.to_json() if arguments.json else "\n".join(printed(report)))
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "bench.json").write_text(report.to_json(), encoding="utf-8")
        (arguments.out / "bench.html").write_text(page(report), encoding="utf-8")
    if arguments.write_baseline:
        write_baseline(baseline_of(report, noise=_NOISE))
    dearer = regressions(report, read_baseline(arguments.baseline)) if arguments.compare else []
    for line in dearer:
        print(f"dearer than the baseline: {line}", file=sys.stderr)
    return 1 if dearer else 0


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
        "--rounds", type=int, default=3, help="rounds of each load (default: %(default)s)"
    )
    parser.add_argument(
        "--requests", type=int, default=_FULL_REQUESTS, help="requests of a round (%(default)s)"
    )
    parser.add_argument(
        "--connections", type=int, nargs="+", default=CONNECTIONS, help="default: 1 16 128"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=120,
        help="after them no further round begins (%(default)s)",
    )
    names = [*LOADS, *ATTESTED, *SCENARIOS]
    parser.add_argument(
        "--only", action="append", choices=names, help="one load or scenario; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    parser.add_argument("--out", type=Path, help="folder for bench.json and bench.html")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="exit with 1 when a load costs more than the baseline",
    )
    parser.add_argument(
        "--baseline", type=Path, default=BASELINE, help="another baseline to compare with"
    )
    parser.add_argument("--write-baseline", action="store_true", help="make this run the baseline")
    arguments = parser.parse_args()
    if (arguments.url is None) != (arguments.pid is None):
        parser.error("--url and --pid belong together")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
