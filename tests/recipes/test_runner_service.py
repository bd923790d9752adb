"""Tests of a runner as a service: its unit, its compose file, and what it reports to a manager."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import runner_process
import yaml
from patience import PATIENCE_S
from runner_process import RunningRunner
from running_node import COMMAND
from tests_support import REPOSITORY

from sealspace.cli.root import main
from serving.confinement import allowed_calls
from serving.confinement.call_numbers import NUMBERS
from serving.service_manager import MANAGER_READY, MANAGER_STOPPING

TDX = REPOSITORY / "examples" / "deploy" / "tdx"
UNIT = (TDX / "runner.service").read_text("utf-8")
SERVICE: Mapping[str, Any] = yaml.safe_load((TDX / "runner.compose.yaml").read_text("utf-8"))[
    "services"
]["runner"]
NODE = "http://127.0.0.1:1"
ANALYSE = shutil.which("systemd-analyze")
SETPRIV = shutil.which("setpriv")
needs_systemd = pytest.mark.skipif(ANALYSE is None, reason="systemd-analyze is not installed")
MOST_EXPOSURE = 3.0  # of 10; a unit without a sandbox has 9.6, that of a node 2.0 at most


def settings(name: str) -> list[str]:
    """Return the values of a setting of the unit."""
    joined = UNIT.replace("\\\n", " ")
    return re.findall(rf"^{name}=(.*)$", joined, flags=re.MULTILINE)


def analysed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ANALYSE), *arguments], capture_output=True, text=True, timeout=PATIENCE_S
    )


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with this machine's interpreter as its program."""
    place = tmp_path / "sealspace-runner.service"
    place.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", UNIT))
    return place


@needs_systemd
def test_systemd_accepts_the_unit(unit: Path) -> None:
    """systemd accepts the unit; with a misspelt setting the same check fails."""
    found = analysed("verify", "--man=no", str(unit))
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHomes=yes"))
    assert "ProtectHomes" in analysed("verify", "--man=no", str(unit)).stderr


@needs_systemd
def test_the_unit_is_sandboxed(unit: Path) -> None:
    """systemd's exposure score of the unit stays low."""
    found = analysed("security", "--offline=true", "--no-pager", str(unit))
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", found.stdout)
    assert exposure is not None, found.stderr
    assert 0 < float(exposure[1]) <= MOST_EXPOSURE


def test_the_managers_wait_for_the_drain() -> None:
    """RN295: calls that wait for answers, and then all others, have the whole drain to finish."""
    for words, wait_s in (
        (shlex.split(settings("ExecStart")[0]), settings("TimeoutStopSec")[0]),
        ([*map(str, SERVICE["command"])], SERVICE["stop_grace_period"].removesuffix("s")),
    ):
        drain_s = float(words[words.index("--drain-s") + 1])
        assert int(wait_s) > 2 * drain_s + 10


def test_the_unit_has_valid_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit's command gets as far as the kernel's reports, which are not here."""
    monkeypatch.setenv("SEALSPACE_NODE", NODE)
    _, *words = shlex.split(settings("ExecStart")[0])
    assert words.pop() == "$RUNNER_OPTIONS"
    words[words.index("--data") + 1] = str(tmp_path / "data")
    example = re.search(r"^# RUNNER_OPTIONS=(.*)$", UNIT, flags=re.MULTILINE)
    assert example is not None
    for path in ("/etc/sealspace/runner.pem", "/etc/sealspace/runner.key"):
        assert path in example[1]
    assert main(words) != 0
    assert "this machine cannot produce quotes" in capsys.readouterr().err


def _sets() -> dict[str, set[str]]:
    """Return systemd's sets of system calls, with all sets in them replaced by their calls."""
    listed: dict[str, list[str]] = {}
    members: list[str] = []
    for line in analysed("syscall-filter").stdout.splitlines():
        word = line.strip()
        if line.startswith("@"):
            members = listed.setdefault(word, [])
        elif word and not word.startswith("#"):
            members.append(word)

    def calls(name: str) -> set[str]:
        found = set[str]()
        for member in listed[name]:
            found |= calls(member) if member.startswith("@") else {member}
        return found

    return {name: calls(name) for name in listed}


@needs_systemd
def test_children_can_drop_their_rights() -> None:
    """The unit allows each system call that a child may make, and those that confine a child."""
    sets = _sets()
    allowed = set[str]()
    for line in settings("SystemCallFilter"):
        words = line.removeprefix("~").split()
        named = set[str]().union(*(sets.get(word, {word}) for word in words))
        allowed = allowed - named if line.startswith("~") else allowed | named
    lists = [one for one in vars(allowed_calls).values() if isinstance(one, dict)]
    of_children = set[str]().union(*lists) & NUMBERS.keys()
    assert len(of_children) > 20
    confining = {"setgroups", "setresgid", "setresuid", "seccomp", "prctl", "clone", "pidfd_open"}
    confining |= {f"landlock_{name}" for name in ("create_ruleset", "add_rule", "restrict_self")}
    assert confining | of_children <= allowed
    assert not allowed & {"mount", "bpf", "kexec_load", "ptrace", "init_module", "chroot"}


def test_the_container_is_confined() -> None:
    """The container has a read-only root, no capability, bounds, and a health check of its port."""
    assert SERVICE["read_only"] is True and SERVICE["cap_drop"] == ["ALL"]
    assert SERVICE["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in SERVICE and "cap_add" not in SERVICE
    words = [*map(str, SERVICE["command"])]
    port = words[words.index("--port") + 1]
    assert SERVICE["ports"] == [f"{port}:{port}"]
    assert f"'127.0.0.1', {port}," in SERVICE["healthcheck"]["test"][-1]
    assert SERVICE["ulimits"]["core"] == 0 and SERVICE["pids_limit"] <= 1024


@pytest.mark.slow
@pytest.mark.skipif(SETPRIV is None or os.geteuid() != 0, reason="needs root and setpriv")
async def test_a_service_reports_its_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the unit's capabilities alone, a runner starts, answers its health check, and reports
    READY and STOPPING to its manager."""
    named = settings("CapabilityBoundingSet")[0].lower().replace("cap_", "+").split()
    bounding = ",".join(["-all", *named])
    confined = [str(SETPRIV), f"--bounding-set={bounding}", "--no-new-privs", *COMMAND]
    monkeypatch.setattr(runner_process, "COMMAND", confined)
    assert main(["backend", "simulate", str(tmp_path / "tee"), "-q"]) == 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(PATIENCE_S)
        manager.bind(str(tmp_path / "notify"))
        runner = RunningRunner(
            tmp_path,
            *("--node", NODE, "--data", "kept", "--key", "file"),
            NOTIFY_SOCKET=str(tmp_path / "notify"),
        )
        try:
            assert manager.recv(4096) == MANAGER_READY
            probe = SERVICE["healthcheck"]["test"][-1]
            _, _, port = runner.url.rpartition(":")
            checked = [sys.executable, "-P", "-c", probe.replace("8090", port)]
            assert subprocess.run(checked, timeout=PATIENCE_S).returncode == 0
            async with aiohttp.ClientSession() as http, http.get(f"{runner.url}/readyz") as ready:
                assert await ready.json() == {"ready": True}
            runner.end()
            assert manager.recv(4096) == MANAGER_STOPPING
            assert subprocess.run(checked, timeout=PATIENCE_S).returncode != 0
        finally:
            runner.close()
