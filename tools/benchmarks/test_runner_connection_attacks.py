"""Tests of the memory measurement of a runner whose clients read no answers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["unread_answers", "unread_polls", "silent_connections"])
def test_a_moment_of_each_attack(attack: str) -> None:
    """RN155, RN158: the runner answers calls during an attack and stays within 150 MiB of
    memory."""
    command = [
        sys.executable,
        str(HERE / "runner_connection_attacks.py"),
        "--seconds",
        "6",
        "--attack",
        attack,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=HERE.parent.parent, timeout=240
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)[attack]
    assert found["during"] - found["before"] < 150, found
