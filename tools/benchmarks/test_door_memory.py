"""Tests that the measurement of a door's memory runs and prints its figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_a_few_secrets_in_a_cache() -> None:
    """All secrets are read at a door, and are answers after the node has ended."""
    few = ["--secrets", "12", "--value-bytes", "64"]
    command = [sys.executable, str(HERE / "door_memory.py"), *few]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=HERE.parent.parent, timeout=400
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["read"] == found["kept"] == 12
    assert 0 < found["before"]["private_mib"] <= found["after"]["private_mib"]
