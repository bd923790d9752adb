"""Generator of the tables of `spec/operations/versus.md` and of the figures in
`docs/reference/compared.md`, from the raw data of one run of `tools/benchmarks/versus.py`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pages.marked import with_part
from tests_support import REPOSITORY

DATA = REPOSITORY / "spec" / "operations" / "versus.json"
PAGE = REPOSITORY / "spec" / "operations" / "versus.md"
COMPARED = REPOSITORY / "docs" / "reference" / "compared.md"

Report = Mapping[str, Any]
"""A report as `versus.py` writes it."""

OURS, BAO, PEER = "sealspace", "OpenBao", "TinyCloud node"
SERVERS = (OURS, BAO, PEER)
LABELS = {
    "get 1 KiB": "get 1 KiB",
    "put 1 KiB": "put 1 KiB",
    "list 100": "list 100",
    "delegate": "register a delegation",
    "decrypt": "decrypt in person; OpenBao: transit decrypt",
}
ONE, MANY = 1, 16
TARGETS = {"get 1 KiB": 12.0, "put 1 KiB": 13.0, "list 100": 12.0, "delegate": 12.0}
ABSENT = "n/a"
_COMPARED_LOADS = ("get 1 KiB", "put 1 KiB", "list 100")


def page() -> str:
    """Return the page of the comparison with the tables of the last run."""
    text, report = PAGE.read_text("utf-8"), _last_report()
    for name, part in {
        "machine": machine(report),
        "cost": cost(report),
        "latency": latency(report),
        "starts": starts(report),
        "targets": targets(report),
    }.items():
        text = with_part(text, name, part)
    return text


def compared() -> str:
    """Return the page on other tools with the figures of the last run."""
    report, rows = _last_report(), []
    for load in _COMPARED_LOADS:
        cells = [_cpu(report, load, server, _most(report, load, server)) for server in SERVERS]
        rows.append([LABELS[load], *cells])
    head = ["CPU µs of all server processes a request"]
    head += [f"{server} {_number(report, server)}".rstrip() for server in SERVERS]
    return with_part(COMPARED.read_text("utf-8"), "versus", _table(head, rows))


# --- parts ----------------------------------------------------------------------------------------


def machine(report: Report) -> str:
    """Return the machine and the versions."""
    found, amount = report["machine"], report["amount"]
    others = found["cores_used_by_other_programs"]
    lines = [
        f"- **Run**: {report['date']}; {amount['rounds']} rounds of {amount['requests']} requests,"
        f" {amount['starts']} starts of each server. Other programs used {others} cores meanwhile.",
        f"- **Machine**: {found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB,"
        f" Linux {found['kernel']}.",
    ]
    for server in SERVERS:
        lines.append(f"- **{server}**: {_server(report, server).get('version', ABSENT)}.")
    lines[2] = lines[2].removesuffix(".") + f", Python {found['python']}."
    return "\n".join(lines) + "\n"


def cost(report: Report) -> str:
    """Return CPU time of a request."""
    rows = []
    for load, label in LABELS.items():
        for connections in (MANY, ONE):
            cells = [_cpu(report, load, server, connections) for server in SERVERS]
            rows.append([label, str(connections), *cells])
    return _table(["CPU µs a request", "connections", *SERVERS], rows)


def latency(report: Report) -> str:
    """Return latency in milliseconds: the median, and what 99 of 100 requests do not exceed."""
    rows = []
    for load, label in LABELS.items():
        for connections in (MANY, ONE):
            cells = [_latency(report, load, server, connections) for server in SERVERS]
            rows.append([label, str(connections), *cells])
    return _table(["p50, p99 in ms", "connections", *SERVERS], rows)


def starts(report: Report) -> str:
    """Return what a start takes, and memory."""
    rows = [
        ["ready after a start, s", *[_start(report, server, "seconds") for server in SERVERS]],
        ["CPU time until then, s", *[_start(report, server, "cpu_seconds") for server in SERVERS]],
    ]
    for moment in ("start", "load"):
        for kind, label in (("all", ""), ("anonymous", ", without pages of files")):
            cells = [_memory(report, server, moment, kind) for server in SERVERS]
            rows.append([f"memory after the {moment}{label}, MiB", *cells])
    return _table(["", *SERVERS], rows)


def targets(report: Report) -> str:
    """Return the ratios to the peer beside their targets."""
    rows = []
    for load, target in TARGETS.items():
        most = _most(report, load, PEER)
        peer, ours = _row(report, load, PEER, most), _row(report, load, OURS, MANY)
        alike = _row(report, load, OURS, ONE), _row(report, load, PEER, ONE)
        if peer is None or ours is None:
            rows.append([LABELS[load], f"≥ {target:g}", ABSENT, ABSENT, ABSENT])
            continue
        ratio = peer["cpu_us"] / ours["cpu_us"]
        verdict = "met" if ratio >= target else "not met"
        at_one = ABSENT
        if alike[0] is not None and alike[1] is not None:
            at_one = f"{alike[1]['cpu_us'] / alike[0]['cpu_us']:.1f}"
        shown = f"{ratio:.1f} ({ours['cpu_us']:,.0f} and {peer['cpu_us']:,.0f} µs, peer at {most})"
        rows.append([LABELS[load], f"≥ {target:g}", shown, verdict, at_one])
    head = ["", "target", "seen, ours at sixteen connections", "", "both at one connection"]
    return _table(head, rows)


# --- the report -----------------------------------------------------------------------------------


def _last_report() -> Report:
    report: Report = json.loads(DATA.read_text("utf-8"))
    return report


def _server(report: Report, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = report["servers"].get(name, {})
    return found


def _number(report: Report, name: str) -> str:
    """Return the version without its commit; empty for a server that did not take part."""
    return str(_server(report, name).get("version", "")).partition(",")[0]


def _row(report: Report, load: str, server: str, connections: int) -> Mapping[str, Any] | None:
    for row in report["loads"]:
        if (row["load"], row["server"], row["connections"]) == (load, server, connections):
            found: Mapping[str, Any] = row
            return found
    return None


def _most(report: Report, load: str, server: str) -> int:
    """Return on how many connections a server was asked, sixteen if it was."""
    return ONE if _row(report, load, server, MANY) is None else MANY


def _cpu(report: Report, load: str, server: str, connections: int) -> str:
    row = _row(report, load, server, connections)
    return ABSENT if row is None else f"{row['cpu_us']:,.0f}"


def _latency(report: Report, load: str, server: str, connections: int) -> str:
    row = _row(report, load, server, connections)
    return ABSENT if row is None else f"{row['p50_ms']:.2f}, {row['p99_ms']:.2f}"


def _start(report: Report, server: str, figure: str) -> str:
    found = _server(report, server).get("starts")
    return f"{min(start[figure] for start in found):.2f}" if found else ABSENT


def _memory(report: Report, server: str, moment: str, kind: str) -> str:
    found = _server(report, server).get(f"memory_mib_after_{moment}")
    return ABSENT if found is None else f"{found[kind]:.0f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"
