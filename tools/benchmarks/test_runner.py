"""Tests that the runner's benchmark runs and prints its figures, without judging times."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.mark.slow
def test_a_few_runs() -> None:
    """Every figure is present and above zero."""
    command = [str(HERE / "runner_programs.py"), "--calls", "20", "--rounds", "100000"]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=ROOT, timeout=240
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert min(found["warm_call_ms"], found["bare_call_ms"], found["computing"]["ours"]) > 0
    assert {
        "16_callers",
        "128_callers",
        "16_callers_with_secrets",
        "128_callers_with_secrets",
    } <= found.keys()
    assert min(found["runs_with_secrets"]["per_cpu_s"], found["runs_of_one_scope"]["per_cpu_s"]) > 0
    assert min(found["1_children"]["per_cpu_s"], found["2_children"]["per_cpu_s"]) > 0
    assert found["request_of_a_program"]["each_ms"] > 0
    assert (
        min(found["one_secret"]["release"].values()) > 0
        and "extra_in_releases" in found["one_secret"]
    )
    assert all(child["of_its_own"] > 0 for child in found["child_mib"])


@pytest.mark.slow
def test_whole_calls() -> None:
    """There is a line for each load, number of callers and checkout."""
    command = [str(HERE / "runner_calls.py"), "--calls", "8", "--rounds", "1", "--callers", "2"]
    done = subprocess.run(
        [sys.executable, *command, "--other", str(ROOT)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=240,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 6, done.stderr
    for line in lines:
        assert line.startswith(("this ", "other ")) and " a CPU second " in line
