"""Tests that the measurements of strangers' attacks run and print tables, without judging times."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def _printed(program: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(HERE / program), *options],
        capture_output=True,
        text=True,
        cwd=HERE.parent.parent,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["number", "open"])
def test_a_moment_of_an_attack_on_databases(attack: str) -> None:
    """The measurement attacks a node, prints the table and stops the node."""
    options = ("--minutes", "0.03", "--quiet-samples", "5", "--only", attack)
    row = json.loads(_printed("sql_strangers.py", *options))
    assert row["attack"] == attack
    assert row["samples"] > 0 and row["pss_mib"] > 0 and row["descriptors"] > 0
    assert row["ended_s"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["sql", "chain", "bodies", "generate", "patterns", "door"])
def test_a_few_samples_under_an_attack(attack: str) -> None:
    """The measurement samples an honest caller's times without and with the attack."""
    samples = "60" if attack == "sql" else "20"  # a slow statement takes seconds
    sizes = ("--grants", "3", "--delegations", "3", "--owners", "2")
    options = ("--samples", samples, "--only", attack, "--json", *sizes)
    rows = [json.loads(line) for line in _printed("strangers.py", *options).splitlines()]
    assert [row["attack"] for row in rows] == [f"quiet: {attack}", attack]
    assert all(row["samples"] > 0 and row["p99_ms"] > 0 for row in rows)
    assert "0 answers" not in rows[1]["attacker"]
