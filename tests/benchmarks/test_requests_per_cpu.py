"""The benchmark runs: every load on our node and on another one beside it, and no request fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from loads import ATTESTED, LOADS
from serving import own_node

HERE = Path(__file__).parent


def run_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark with few requests."""
    command = [sys.executable, str(HERE / "requests_per_cpu.py"), "--rounds", "1", "--requests", "3", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent.parent, timeout=120)


@pytest.mark.slow
def test_every_load_on_two_nodes(tmp_path: Path) -> None:
    """All loads are answered by both nodes, at one connection and at sixteen; the figures are JSON."""
    with own_node(tmp_path / "other", "--attestation", "off") as (url, pid):
        done = run_bench("--json", "--url", url, "--pid", str(pid))
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    found = {(one["node"], one["load"], one["connections"]) for one in figures["loads"]}
    expected = {(node, load, count) for node in ("ours", "other") for load in LOADS for count in (1, 16)}
    assert expected | {("ours", load, count) for load in ATTESTED for count in (1, 16)} == found
    assert all(one["requests"] == 3 for one in figures["loads"])
    assert len(figures["floor_cpu_us"]) == 4


@pytest.mark.slow
def test_a_failed_request_fails_the_run(tmp_path: Path) -> None:
    """A node that refuses what it is asked ends the run with status 1 and its answer."""
    (tmp_path / "settings").mkdir()
    with own_node(tmp_path / "settings" / "data", "--attestation", "everyone") as (url, pid):
        done = run_bench("--only", "decrypt", "--url", url, "--pid", str(pid))
    assert done.returncode == 1
    assert "answered 401" in done.stderr
