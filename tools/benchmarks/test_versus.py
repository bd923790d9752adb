"""Tests of the comparison with other servers, with this node alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from contenders import ASKED, BAO, DECRYPT, OURS, PEER, Sealspace
from driving import RequestFailed
from pages import versus_page
from versus import ABSENT, CONNECTIONS, Amount, measure, printed

HERE = Path(__file__).parent
MOMENT = Amount(rounds=1, requests=4, starts=1, pause_s=0.0)


def run_versus(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the comparison with few requests."""
    moment = ["--rounds", "1", "--requests", "4", "--starts", "1", "--pause", "0"]
    command = [sys.executable, str(HERE / "versus.py"), *moment, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=HERE.parent.parent, timeout=240
    )


def test_this_node_alone(tmp_path: Path) -> None:
    """Every kind of request is answered at both numbers of connections, and absent servers are
    `n/a`."""
    out = tmp_path / "versus.json"
    done = run_versus("--out", str(out))
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    expected = {(OURS, load, connections) for load in ASKED for connections in CONNECTIONS}
    assert expected == {(row["server"], row["load"], row["connections"]) for row in report["loads"]}
    for row in report["loads"]:
        assert 0 < row["cpu_us"] <= row["cpu_us_median"]
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert [4] == [one["requests"] for one in row["rounds"]]
    assert [OURS] == list(report["servers"])
    server = report["servers"][OURS]
    assert 0 < server["starts"][0]["cpu_seconds"]
    for moment in ("start", "load"):
        memory = server[f"memory_mib_after_{moment}"]
        assert 10 < memory["anonymous"] < memory["all"]
    assert 2 * (1 + 2 + 4 + 3 * len(CONNECTIONS) * len(ASKED)) == done.stdout.count(ABSENT)


async def test_a_server_that_refuses_fails_the_run(tmp_path: Path) -> None:
    """A refused request ends the comparison, with the answer of the server."""
    strict = Sealspace(("--attestation", "everyone"))
    with pytest.raises(RequestFailed, match="answered 4"):
        await measure([strict], MOMENT, tmp_path)


def test_a_program_that_is_no_server_fails_the_run(tmp_path: Path) -> None:
    """A program that ends at once fails the comparison with its name and what it printed."""
    program = tmp_path / "bao"
    program.write_text("#!/bin/sh\necho no such configuration\nexit 1\n")
    program.chmod(0o755)
    done = run_versus("--bao", str(program))
    assert done.returncode == 1
    assert "comparison failed: no 501 from /v1/sys/health" in done.stderr
    assert "no such configuration" in done.stderr


def row_of(server: str, load: str, connections: int, cpu_us: float) -> dict[str, Any]:
    """Return a row of a report."""
    return {
        "server": server,
        "load": load,
        "connections": connections,
        "cpu_us": cpu_us,
        "cpu_us_median": cpu_us,
        "p50_ms": 1.0,
        "p99_ms": 2.5,
        "rounds": [],
    }


REPORT: versus_page.Report = {
    "date": "2026-01-02",
    "machine": {
        "processor": "a processor",
        "cores": 2,
        "memory_gib": 4.0,
        "kernel": "6.1",
        "python": "3.11",
        "cores_used_by_other_programs": 0.1,
    },
    "amount": {"rounds": 1, "requests": 2, "starts": 1},
    "servers": {
        OURS: {
            "version": "0.1, commit a",
            "starts": [{"seconds": 0.5, "cpu_seconds": 0.25}],
            "memory_mib_after_start": {"all": 10.0, "anonymous": 5.0},
            "memory_mib_after_load": {"all": 20.0, "anonymous": 5.0},
        }
    },
    "loads": [
        row_of(OURS, "get 1 KiB", 16, 100.0),
        row_of(PEER, "get 1 KiB", 16, 1250.0),
        row_of(OURS, "put 1 KiB", 16, 200.0),
        row_of(OURS, "put 1 KiB", 1, 400.0),
        row_of(PEER, "put 1 KiB", 1, 2000.0),
    ],
}


def test_the_page_says_whether_a_target_is_met() -> None:
    """The ratio to the peer is compared with its target: this node at sixteen connections, the peer
    at as many as it was asked on."""
    lines = versus_page.targets(REPORT).splitlines()
    assert "| get 1 KiB | ≥ 12 | 12.5 (100 and 1,250 µs, peer at 16) | met | n/a |" == lines[2]
    assert "| put 1 KiB | ≥ 13 | 10.0 (200 and 2,000 µs, peer at 1) | not met | 5.0 |" == lines[3]
    assert "| list 100 | ≥ 12 | n/a | n/a | n/a |" == lines[4]


def test_the_tables_of_a_report() -> None:
    """Tables and printed lines have `n/a` for what was not measured."""
    assert "| get 1 KiB | 16 | 100 | n/a | 1,250 |" in versus_page.cost(REPORT)
    assert "| get 1 KiB | 16 | 1.00, 2.50 | n/a | 1.00, 2.50 |" in versus_page.latency(REPORT)
    assert "| ready after a start, s | 0.50 | n/a | n/a |" in versus_page.starts(REPORT)
    assert f"- **{BAO}**: n/a." in versus_page.machine(REPORT)
    assert f"{DECRYPT}, 16 connections, p99 ms" in "\n".join(printed(REPORT))
