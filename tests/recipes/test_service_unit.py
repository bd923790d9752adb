"""Tests of the unit file of `examples/deploy` with systemd."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S
from tests_support import REPOSITORY

from node.config.loading import load_config

UNIT = REPOSITORY / "examples" / "deploy" / "sealspace.service"
ANALYSE = shutil.which("systemd-analyze")
pytestmark = pytest.mark.skipif(ANALYSE is None, reason="systemd-analyze is not installed")
MOST_EXPOSURE = 2.0  # of 10; a unit without a sandbox has 9.6


def _analysed(unit: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ANALYSE), *arguments, str(unit)], capture_output=True, text=True, timeout=PATIENCE_S
    )


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with this machine's program and user."""
    text = UNIT.read_text()
    text, programs = re.subn(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.M)
    text, users = re.subn(r"^(User|Group)=sealspace$", r"\1=root", text, flags=re.M)
    assert programs == 1
    assert users == 2
    place = tmp_path / UNIT.name
    place.write_text(text)
    return place


def test_systemd_accepts_the_unit(unit: Path) -> None:
    """systemd accepts the unit; with a misspelt setting the same check fails."""
    found = _analysed(unit, "verify", "--man=no")
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHomes=yes"))
    assert "ProtectHomes" in _analysed(unit, "verify", "--man=no").stderr


def test_the_unit_is_sandboxed(unit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """systemd's exposure score of the unit stays low."""
    found = _analysed(unit, "security", "--offline=true", "--no-pager")
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", found.stdout)
    assert exposure is not None, found.stderr
    with capsys.disabled():
        print(f"\nexposure of sealspace.service: {exposure[1]} of 10")
    assert 0 < float(exposure[1]) <= MOST_EXPOSURE


def test_the_manager_waits_longer_than_requests() -> None:
    """A node that finishes its requests is not killed for it."""
    stop_s = re.search(r"^TimeoutStopSec=([0-9]+)$", UNIT.read_text(), flags=re.M)
    assert stop_s is not None and int(stop_s[1]) > load_config(flags={}).http.drain_s + 2
