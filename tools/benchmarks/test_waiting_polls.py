"""Tests that the measurement of waiting calls runs and prints figures, without judging times."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_a_few_calls_that_wait() -> None:
    """Every waiting call hears of every write to its space, and the honest caller is answered."""
    few = ["--owners", "2", "--polls", "3", "--samples", "20"]
    command = [sys.executable, str(HERE / "waiting_polls.py"), *few]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=HERE.parent.parent, timeout=400
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["polls"], figures["notices"]) == (6, 12)
    assert figures["honest_during_p99_ms"] > 0
