"""Tests that the measurement of SQL writers runs and prints its figures, without judging times."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_a_few_statements() -> None:
    """Both sides write to one database and to many."""
    few = ["--writers", "2", "--statements", "70", "--rounds", "1"]
    command = [sys.executable, str(HERE / "sql_writers.py"), *few]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=HERE.parent.parent, timeout=240
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["side"], row["databases"]) for row in rows] == [
        ("node", 1),
        ("sqlite", 1),
        ("node", 64),
        ("sqlite", 64),
    ], done.stderr
    assert all(row["statements_per_s"] > 0 and row["cpu_us"] > 0 for row in rows)
