"""Compare this node with OpenBao and with TinyCloud's node on one machine, by one script.

    python tools/benchmarks/versus.py                              this node alone
    python tools/benchmarks/versus.py --bao PATH --peer PATH       with both programs beside it
    python tools/benchmarks/versus.py … --out spec/operations/versus.json && make pages

Every server runs on loopback in an empty folder and is asked in turns with the others, at one
connection and at sixteen. CPU time is user and system time of all processes of a server, without
the client. After writes and decrypt requests the round ends with a pause that counts, because a
server may put off work. Of several rounds the best is printed, since other programs can only add;
`--out` writes every round. A server whose program is not given has `n/a` in its columns. A run
fails when a request does.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from contenders import (
    ASKED,
    BAO,
    DECRYPT,
    DELEGATE,
    OURS,
    PEER,
    PUT,
    Ask,
    Contender,
    OpenBao,
    Running,
    Sealspace,
    TinyCloud,
)
from driving import RequestFailed, drive
from measuring import quantile
from processes import family, used_by
from started_servers import NotServing

CONNECTIONS = (1, 16)
NAMES = (OURS, BAO, PEER)
ABSENT = "n/a"
_COMMITTED = (PUT, DELEGATE)
_PUTS_WORK_OFF = (PUT, DELEGATE, DECRYPT)
_WARM_UP = 200
_MOST_ROUND_S = 10.0


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured.

    Attributes:
        rounds: of each kind of request.
        requests: of a round.
        starts: of each server, in the folder of the first one.
        pause_s: after a round of writes or decrypt requests.
        seconds: after them no further round begins.
    """

    rounds: int = 5
    requests: int = 1000
    starts: int = 5
    pause_s: float = 1.5
    seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Round:
    """One round of requests.

    Attributes:
        requests: how many were answered.
        took_s: from the first request to the last answer.
        cpu_us: of a request, the pause included.
        p50_ms, p99_ms: of the latency.
    """

    requests: int
    took_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


@dataclass(slots=True)
class Row:
    """The rounds of one kind of request at one server over so many connections.

    Attributes:
        latencies_s: of all requests; they are not in the report.
    """

    server: str
    load: str
    connections: int
    rounds: list[Round] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Return what is reported of it."""
        return {
            "server": self.server,
            "load": self.load,
            "connections": self.connections,
            "cpu_us": round(min(one.cpu_us for one in self.rounds), 1),
            "cpu_us_median": round(statistics.median(one.cpu_us for one in self.rounds), 1),
            "p50_ms": round(quantile(self.latencies_s, 0.5) * 1e3, 3),
            "p99_ms": round(quantile(self.latencies_s, 0.99) * 1e3, 3),
            "rounds": [asdict(one) for one in self.rounds],
        }


@dataclass(frozen=True, slots=True)
class Entry:
    """A server that takes part, as it runs during the rounds."""

    contender: Contender
    running: Running
    asks: Mapping[str, Ask]


async def measure(contenders: Sequence[Contender], amount: Amount, folder: Path) -> dict[str, Any]:
    """Start every server, ask all in turns, and return the report."""
    folders: dict[str, Path] = {}
    asks: dict[str, Mapping[str, Ask]] = {}
    servers: dict[str, dict[str, Any]] = {}
    for contender in contenders:
        name = contender.name
        folders[name] = folder / f"server-{len(folders)}"
        folders[name].mkdir()
        with contender.start(folders[name]) as running:
            asks[name] = await contender.prepare(running)
            servers[name] = {"version": contender.version(running), "starts": []}
    for _ in range(amount.starts):
        for contender in contenders:
            with contender.start(folders[contender.name]) as running:
                start = {"seconds": running.ready_s, "cpu_seconds": running.ready_cpu_s}
                servers[contender.name]["starts"].append(start)
    clock, machine_cpu_s, own_cpu_s = time.perf_counter(), _machine_cpu_s(), time.process_time()
    with ExitStack() as stack:
        entries = []
        for contender in contenders:
            running = stack.enter_context(contender.start(folders[contender.name]))
            entries.append(Entry(contender, running, asks[contender.name]))
        for entry in entries:
            memory = memory_mib(entry.running.pid)
            servers[entry.contender.name]["memory_mib_after_start"] = memory
        rows = await _rounds(entries, amount)
        servers_cpu_s = 0.0
        for entry in entries:
            memory = memory_mib(entry.running.pid)
            servers[entry.contender.name]["memory_mib_after_load"] = memory
            servers_cpu_s += sum(used_by(entry.running.pid).cpu_s.values())
    measured_cpu_s = servers_cpu_s + time.process_time() - own_cpu_s
    other_cpu_s = max(0.0, _machine_cpu_s() - machine_cpu_s - measured_cpu_s)
    other_cores = round(other_cpu_s / (time.perf_counter() - clock), 2)
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": _machine() | {"cores_used_by_other_programs": other_cores},
        "amount": asdict(amount),
        "servers": servers,
        "loads": [row.figures() for row in rows],
    }


async def _rounds(entries: Sequence[Entry], amount: Amount) -> list[Row]:
    """Ask all servers in turns; every second round in the other order."""
    end = time.monotonic() + amount.seconds
    rows = [
        (entry, Row(entry.contender.name, load, connections))
        for load in ASKED
        for connections in CONNECTIONS
        for entry in entries
        if _is_asked(entry, load, connections)
    ]
    for entry, row in rows:
        warm_up = await entry.asks[row.load](min(_WARM_UP, amount.requests))
        await drive(entry.running.port, warm_up, connections=row.connections, most_s=_MOST_ROUND_S)
    for turn in range(amount.rounds):
        if turn and time.monotonic() > end:
            break
        for entry, row in reversed(rows) if turn % 2 else rows:
            await _round(entry, row, amount)
    return [row for _, row in rows]


def _is_asked(entry: Entry, load: str, connections: int) -> bool:
    most = entry.contender.writes_at if load in _COMMITTED else None
    return load in entry.asks and (most is None or connections <= most)


async def _round(entry: Entry, row: Row, amount: Amount) -> None:
    requests = await entry.asks[row.load](amount.requests)
    pid, port = entry.running.pid, entry.running.port
    before = used_by(pid)
    driven = await drive(port, requests, connections=row.connections, most_s=_MOST_ROUND_S)
    if row.load in _PUTS_WORK_OFF:
        await asyncio.sleep(amount.pause_s)
    cpu_s = sum(used_by(pid).since(before).values())
    latencies = driven.latencies_s
    row.latencies_s += latencies
    row.rounds.append(
        Round(
            requests=len(latencies),
            took_s=driven.took_s,
            cpu_us=cpu_s / len(latencies) * 1e6,
            p50_ms=quantile(latencies, 0.5) * 1e3,
            p99_ms=quantile(latencies, 0.99) * 1e3,
        )
    )


# --- the machine ----------------------------------------------------------------------------------


def memory_mib(pid: int) -> dict[str, float]:
    """Return the memory of a process and its descendants: pages that several processes share count
    once, and `anonymous` is the part that no file backs."""
    total = {"Pss": 0, "Pss_Anon": 0}
    for one in family(pid):
        with suppress(OSError):  # it may end while it is looked at
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                name, _, amount = line.partition(":")
                if name in total:
                    total[name] += int(amount.split()[0])
    return {
        "all": round(total["Pss"] / 1024, 1),
        "anonymous": round(total["Pss_Anon"] / 1024, 1),
    }


def _machine_cpu_s() -> float:
    """Return the CPU time that all programs of the machine have used."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, interrupts, soft_interrupts = (int(field) for field in fields[:7])
    used = user + nice + system + interrupts + soft_interrupts
    return used / os.sysconf("SC_CLK_TCK")


def _machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "kernel": platform.release().partition("-")[0],
        "python": _python(),
    }


def _python() -> str:
    """Return the version, and whether the build had a profile, which saves a tenth."""
    is_profiled = "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS"))
    how = "with" if is_profiled else "without"
    return f"{platform.python_version()} {how} profile-guided optimisation"


# --- the report -----------------------------------------------------------------------------------


def printed(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the tables."""
    servers = report["servers"]
    yield _line("", NAMES)
    yield _line("version", [_of(servers, name, "version") for name in NAMES])
    for figure in ("seconds", "cpu_seconds"):
        cells = [least_start(servers, name, figure) for name in NAMES]
        yield _line(f"ready after, {figure.replace('_', ' ')}", cells)
    for moment in ("start", "load"):
        for kind in ("all", "anonymous"):
            memory = [_of(servers, name, f"memory_mib_after_{moment}") for name in NAMES]
            cells = [one if one == ABSENT else one[kind] for one in memory]
            yield _line(f"memory after the {moment}, {kind}, MiB", cells)
    rows = {(row["server"], row["load"], row["connections"]): row for row in report["loads"]}
    for figure in ("cpu_us", "p50_ms", "p99_ms"):
        for load in ASKED:
            for connections in CONNECTIONS:
                found = [rows.get((name, load, connections), {}) for name in NAMES]
                label = f"{load}, {connections} connections, {figure.replace('_', ' ')}"
                yield _line(label, [row.get(figure, ABSENT) for row in found])
    others = report["machine"]["cores_used_by_other_programs"]
    yield f"other programs used {others} cores"


def least_start(servers: Mapping[str, Any], name: str, figure: str) -> Any:
    """Return the best of a server's starts, or `n/a`."""
    if name not in servers or not servers[name]["starts"]:
        return ABSENT
    return round(min(start[figure] for start in servers[name]["starts"]), 2)


def _of(servers: Mapping[str, Any], name: str, figure: str) -> Any:
    return servers[name][figure] if name in servers else ABSENT


def _line(label: str, cells: Sequence[object]) -> str:
    return f"{label:<46}" + "".join(f"{cell!s:>28}" for cell in cells)


def main() -> int:
    """Read the arguments, measure, and print the figures."""
    arguments = _arguments()
    contenders: list[Contender] = [Sealspace()]
    if arguments.bao is not None:
        contenders.append(OpenBao(arguments.bao.absolute()))
    if arguments.peer is not None:
        contenders.append(TinyCloud(arguments.peer.absolute()))
    amount = Amount(
        rounds=arguments.rounds,
        requests=arguments.requests,
        starts=arguments.starts,
        pause_s=arguments.pause,
        seconds=arguments.seconds,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="sealspace-versus-") as folder:
            report = asyncio.run(measure(contenders, amount, Path(folder)))
    except (RequestFailed, NotServing) as failure:
        print(f"comparison failed: {failure}", file=sys.stderr)
        return 1
    print("\n".join(printed(report)))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = Amount()
    parser.add_argument("--bao", type=Path, help="the program of OpenBao")
    parser.add_argument("--peer", type=Path, help="the program of TinyCloud's node")
    parser.add_argument("--rounds", type=int, default=usual.rounds, help="(%(default)s)")
    parser.add_argument(
        "--requests", type=int, default=usual.requests, help="of a round (%(default)s)"
    )
    parser.add_argument(
        "--starts", type=int, default=usual.starts, help="of each server (%(default)s)"
    )
    parser.add_argument(
        "--pause",
        type=float,
        default=usual.pause_s,
        help="seconds after a round of writes that count for it (%(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=usual.seconds,
        help="after them no further round begins (%(default)s)",
    )
    parser.add_argument("--out", type=Path, help="file for the report as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
