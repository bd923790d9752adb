"""Tests that the measurement of unread answers runs and prints its figures, without judging
times."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_a_few_connections_for_a_moment() -> None:
    """A worker answers gets beside connections that read nothing, and does not keep their bytes in
    memory."""
    few = ["--connections", "4", "--seconds", "1", "--quiet-seconds", "0.5"]
    command = [sys.executable, str(HERE / "unread_answers.py"), *few]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=HERE.parent.parent, timeout=240
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert (
        min(
            found["quiet_gets"], found["gets_beside"], found["quiet_p99_ms"], found["p99_beside_ms"]
        )
        > 0
    )
    assert found["worker_grew_mib"] < 64
