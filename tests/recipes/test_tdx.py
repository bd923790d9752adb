"""The files of `examples/deploy/tdx`, as far as they can be checked without a TDX machine.

The story of docs/how-to/tdx.md runs in `test_pages.py`.
"""

import asyncio
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_schema import COMPOSE_SCHEMA, COMPOSE_SCHEMA_ABSENT, compose_faults
from deviating_platform import SimulatedPlatform
from patience import PATIENCE_S
from running_node import RunningNode
from tests_support import REPOSITORY

from node.config.loading import load_config
from sealspace.apps.backends import fetch_evidence
from sealspace.cli.root import main
from tee_backend.attestation.inspection import CollateralFolder, Inspector
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.evidence.dstack import DstackSource
from tee_backend.evidence.evidence_errors import SourceRefused
from tee_backend.evidence.simulated_agent import SimulatedAgent
from tee_backend.measuring.compose_files import parse_compose
from tee_backend.measuring.guest_answer import check_agrees, parse_guest_answer

TDX = REPOSITORY / "examples" / "deploy" / "tdx"
ROLES = ("backend", "node", "runner")
IMAGE = f"docker.io/acme/notes@sha256:{'ab' * 32}"
NODE = "https://node.example"
COMPOSER = shutil.which("docker-compose")
ANALYSE = shutil.which("systemd-analyze")


def pack(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pack.py."""
    return subprocess.run(
        [sys.executable, str(TDX / "pack.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def packed(role: str) -> bytes:
    """Return the app-compose.json of a role."""
    ran = pack(role, "--image", IMAGE, "--node", NODE)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.encode()


def service_of(role: str) -> dict[str, Any]:
    """Return the service in the compose file of a role."""
    compose = yaml.safe_load(json.loads(packed(role))["docker_compose_file"])
    (service,) = compose["services"].values()
    found: dict[str, Any] = service
    return found


@pytest.mark.parametrize("role", ROLES)
def test_packed_files_name_all_code(role: str) -> None:
    """Each packed file is the same every time, and names its image with a digest, an unprivileged
    container, and no variable (AT64)."""
    data = packed(role)
    assert data == packed(role)
    compose = parse_compose(data, file="app-compose.json")
    assert [image.reference for image in compose.images] == [IMAGE]
    # the only thing to note is the socket of the guest agent, which the role needs
    (line,) = compose.lines
    assert line.place == f"services.{role}.volumes.1"
    assert line.sentence == "can request quotes and keys of the application"
    service = service_of(role)
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert "IMAGE" not in data.decode() and "NODE," not in data.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--image", "docker.io/acme/notes:1.0"),
        ("--image", "docker.io/acme/notes"),
        ("--image", f"{IMAGE}0"),
        ("--image", IMAGE, "--node", "node.example"),
        ("--image", IMAGE, "--node", "https://node.example\n  privileged: true"),
    ],
)
def test_unpinned_images_are_not_packed(arguments: tuple[str, ...]) -> None:
    """An image without a digest, or an address that is not one, is refused with the next step."""
    ran = pack("backend", *arguments)
    assert ran.returncode == 1 and ran.stdout == ""
    assert "next: " in ran.stderr


def test_the_node_takes_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node's settings are known, and take the root secret from the platform."""
    for name, text in service_of("node")["environment"].items():
        monkeypatch.setenv(name, text)
    config = load_config()
    assert config.platform.source == "dstack"
    assert config.secret.platform is True


def test_the_runner_takes_its_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner's command is a valid one: it gets as far as the guest agent, which is not here."""
    monkeypatch.setenv("SEALSPACE_HOME", str(tmp_path / "home"))
    command = [str(word) for word in service_of("runner")["command"]]
    command[command.index("--data") + 1] = str(tmp_path / "data")
    assert command[command.index("--node") + 1] == NODE
    main(command)
    assert "found no guest agent socket" in capsys.readouterr().err


@pytest.mark.skipif(COMPOSER is None, reason="docker-compose is not installed")
@pytest.mark.parametrize("role", ROLES)
def test_compose_takes_the_files(role: str, tmp_path: Path) -> None:
    """Each compose file follows the schema."""
    (tmp_path / "compose.yaml").write_text(json.loads(packed(role))["docker_compose_file"])
    ran = subprocess.run(
        [str(COMPOSER), "--file", "compose.yaml", "config"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.skipif(COMPOSE_SCHEMA is None, reason=COMPOSE_SCHEMA_ABSENT)
@pytest.mark.parametrize("role", ROLES)
def test_packed_files_follow_the_specification(role: str) -> None:
    """The compose file in each packed file follows the schema of the Compose specification."""
    compose = yaml.safe_load(json.loads(packed(role))["docker_compose_file"])
    assert compose_faults(compose) == []


@pytest.mark.skipif(ANALYSE is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """systemd accepts the unit of the bare guest."""
    text = (TDX / "backend.service").read_text()
    unit = tmp_path / "sealspace-backend.service"
    unit.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.M))
    found = subprocess.run(
        [str(ANALYSE), "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


# --- the simulated agent --------------------------------------------------------------------------


async def test_the_agent_speaks_the_protocol(machine: SimulatedPlatform, tmp_path: Path) -> None:
    """The client of genuine agents gets quotes and keys, and the answer describes the image."""
    socket = tmp_path / "agent.sock"
    agent = SimulatedAgent(machine, compose=packed("backend"))
    async with agent.listening(socket):
        source = DstackSource(socket)
        quoted = await asyncio.to_thread(source.quote, bytes(range(64)))
        first = await asyncio.to_thread(source.key, "a")
        assert first == await asyncio.to_thread(source.key, "a")
        assert first != await asyncio.to_thread(source.key, "b")
        with pytest.raises(SourceRefused):
            await asyncio.to_thread(source.key, "x" * 300)
    assert quoted.event_log is not None
    answer = agent.quote_answer({"report_data": "00"})
    parsed = parse_guest_answer(json.dumps(answer).encode())
    assert parsed.image is not None and parsed.quote is not None
    claims = check_agrees(parsed)
    assert claims is not None
    assert claims.compose_hash == parse_compose(packed("backend"), file="a").sha256
    assert parsed.quote.report.rtmr1 == parsed.image.rtmr1


@pytest.fixture(scope="session")
def machine() -> SimulatedPlatform:
    """A simulated platform."""
    return SimulatedPlatform.from_seed(b"the platform of the deployment")


_UNSHARE = shutil.which("unshare")


def _may_unshare() -> bool:
    """Return whether a process may have mounts of its own."""
    if _UNSHARE is None:
        return False
    tried = subprocess.run(
        [_UNSHARE, "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/run"],
        capture_output=True,
        timeout=PATIENCE_S,
    )
    return tried.returncode == 0


@pytest.mark.slow
async def test_a_backend_finds_the_agent_at_the_genuine_path(
    machine: SimulatedPlatform, tmp_path: Path
) -> None:
    """The backend finds the guest agent at /var/run/dstack.sock, and publishes evidence of the
    packed application."""
    if not _may_unshare():
        pytest.skip("this machine allows no mounts in a user namespace")
    trust = tmp_path / "trust"
    machine.save(trust)
    collateral = trust / "collateral"
    socket = tmp_path / "a.sock"
    assert await asyncio.to_thread(main, ["backend", "simulate", str(trust), "--quiet"]) == 0
    options = ("--trust-root", str(trust / "root-ca.pem"), "--collateral", str(collateral))
    node = await asyncio.to_thread(RunningNode, tmp_path, "--workers", "1", *options)
    script = (
        "mount -t tmpfs none /run && touch /run/dstack.sock"
        f" && mount --bind {socket} /run/dstack.sock && exec {sys.executable} {TDX / 'notes.py'}"
    )
    agent = SimulatedAgent(machine, compose=packed("backend"))
    try:
        async with agent.listening(socket):
            process = await asyncio.create_subprocess_exec(
                str(_UNSHARE),
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                script,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONPATH": str(REPOSITORY),
                    "SEALSPACE_NODE": node.url,
                    "SEALSPACE_DATA": str(tmp_path / "data"),
                    "PORT": "0",
                },
            )
            try:
                url = await asyncio.wait_for(_address(process), PATIENCE_S)
                await _require_evidence(url, machine, collateral)
            finally:
                process.terminate()
                await process.wait()
    finally:
        await asyncio.to_thread(node.close)


async def _address(process: asyncio.subprocess.Process) -> str:
    """Return the address that a backend prints."""
    assert process.stdout is not None
    lines = []
    async for line in process.stdout:
        lines.append(line.decode())
        found = re.search(r"Running on (http://\S+)", lines[-1])
        if found:
            return found[1]
    raise AssertionError("".join(lines))


async def _require_evidence(url: str, machine: SimulatedPlatform, collateral: Path) -> None:
    """Check that a backend proves the packed application."""
    inspector = Inspector(CollateralFolder(collateral), root=parse_trust_root(machine.root_der))
    seen = await fetch_evidence(url, inspector)
    expected = parse_compose(packed("backend"), file="app-compose.json").sha256
    assert seen.verified.evidence.compose_hash == expected


def test_the_program_is_small() -> None:
    """The backend's module can be loaded without starting anything."""
    assert "main" in runpy.run_path(str(TDX / "notes.py"), run_name="notes")
