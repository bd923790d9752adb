"""Tests of the demo, whose steps succeed and leave nothing behind."""

import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from live_processes import processes_that_name
from pages.demo_cast import CAST, lines_of
from patience import PATIENCE_S
from tests_support import OUR_IMPORTS, REPOSITORY, CountingEntropy

from sealspace.delegations import allow
from sealspace.session import read_grant, sign_message
from sealspace.wallets import new_wallet

STEP = re.compile(r"^ *\d+  .* ✓$", re.MULTILINE)
DEMO = REPOSITORY / "examples" / "demo.py"


def demo_in(folder: Path) -> "subprocess.Popen[str]":
    """Start the demo in a folder, with settings in the environment that it must ignore."""
    return subprocess.Popen(
        [sys.executable, str(DEMO), "--dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        cwd=folder,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONIOENCODING": "utf-8",
            **OUR_IMPORTS,
            "SEALSPACE_HTTP__PORT": "not a port",
        },
    )


def assert_nothing_left(folder: Path) -> None:
    assert list(folder.iterdir()) == []
    assert processes_that_name(folder) == []


@pytest.mark.slow
def test_every_step_of_the_demo_holds(tmp_path: Path) -> None:
    """The demo ends with status 0, with all steps as recorded and no file or process left."""
    with demo_in(tmp_path) as process:
        said, complained = process.communicate(timeout=120)
    assert (process.returncode, complained) == (0, ""), said
    steps = STEP.findall(said)
    assert list(range(1, 26)) == [int(step.split()[0]) for step in steps]
    assert steps == STEP.findall("\n".join(lines_of(CAST.read_text("utf-8")))), (
        "the recording is old; run: make cast"
    )
    assert "ff-" not in said
    assert_nothing_left(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    """An interrupted demo leaves no file or process."""
    with demo_in(tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "✓" in line:
                break
        process.send_signal(number)
        said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "interrupted" in said
    assert_nothing_left(tmp_path)


def test_a_delegation_in_other_bytes_has_the_same_signature_and_another_id() -> None:
    """The demo's second encoding of a grant has the same signature and another id."""
    agent = "did:key:z6MkuEUybFgDhSyrmvPMUbezRNH8hHdv8PYpg6PsTcrLXswS"
    respell = runpy.run_path(str(DEMO))["respell"]
    for seed in range(8):
        wallet = new_wallet(entropy=CountingEntropy(bytes([seed])))
        header = sign_message(
            wallet,
            CountingEntropy(),
            domain="app.example",
            uri=agent,
            issued_at=0,
            expires_at=None,
            capabilities=[allow("tinycloud:key:z6Mk:default/kv", "tinycloud.kv/get")],
        )
        assert read_grant(header).cid != read_grant(respell(header)).cid
        assert read_grant(header).capabilities == read_grant(respell(header)).capabilities
