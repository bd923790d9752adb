"""The evidence of a node in a trust domain, as operators and outsiders see it with `verify URL`."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from running_node import RunningNode
from simulators.agent import AgentSimulator, agent_on

from encryption_network.policy import Policy, policy_json
from encryption_network.release_record import INTEL_ROOT_SHA256
from node.config.tree import Config, Http, Platform, Release, Secret, Store
from sealspace.cli.root import main
from tee_backend.evidence.dstack import DstackSource
from tee_backend.evidence.simulated import measurements_of, mint_event_log

COMPOSE = bytes(range(32))
Captured = pytest.CaptureFixture[str]


@dataclass
class Bench:
    """A node in a simulated trust domain, and an outsider's files."""

    folder: Path
    agent: AgentSimulator
    node: EmbeddedNode

    async def attest(self, *arguments: str) -> int:
        files = [
            "--trust-root",
            str(self.folder / "root.pem"),
            "--collateral",
            str(self.folder / "collateral"),
        ]
        command = ["verify", self.node.url, *files, *arguments]
        return await asyncio.to_thread(main, command)

    def policy(self, policy: Policy) -> list[str]:
        path = self.folder / "policy.json"
        path.write_text(json.dumps(policy_json(policy)))
        return ["--policy", str(path)]

    @property
    def approved(self) -> Policy:
        return Policy(measurements=(self.agent.minted.run_on(self.agent.image),))


def files_of(folder: Path, platform: SimulatedPlatform) -> None:
    (folder / "root.pem").write_text(platform.root_pem)
    (folder / "collateral").mkdir()
    (folder / "collateral" / "platform.json").write_bytes(platform.collateral_json(time.time()))


@pytest.fixture
async def agent(tmp_path: Path, platform: SimulatedPlatform) -> AsyncIterator[AgentSimulator]:
    """A guest agent."""
    simulated = AgentSimulator(platform, measurements_of("node"), mint_event_log(COMPOSE))
    async with agent_on(tmp_path / "agent.sock", simulated):
        yield simulated


@pytest.fixture
async def bench(
    tmp_path: Path, agent: AgentSimulator, platform: SimulatedPlatform
) -> AsyncIterator[Bench]:
    """A node whose root secret comes from the platform."""
    files_of(tmp_path, platform)
    config = Config(
        http=Http(port=0, drain_s=1),
        store=Store(data=str(tmp_path / "data")),
        release=Release(trust_root=str(tmp_path / "root.pem")),
        platform=Platform(source="dstack", socket=str(tmp_path / "agent.sock")),
        secret=Secret(platform=True),
    )
    async with embedded_node(config) as node:
        yield Bench(tmp_path, agent, node)


async def test_approved_code(bench: Bench, capsys: Captured) -> None:
    """Approved code ends with status 0, and the findings are printed as text."""
    assert await bench.attest(*bench.policy(bench.approved)) == 0
    said = capsys.readouterr().out
    assert said.startswith("ok       the quote is genuine") and said.endswith(
        "verdict: the node runs approved code\n"
    )
    for words in (
        bench.node.services.keyring.node_did,
        "never leaves the trust domain",
        "UpToDate",
        COMPOSE.hex(),
    ):
        assert words in said


async def test_nobody_approved(bench: Bench, capsys: Captured) -> None:
    """Without a policy the status is 1, and a policy that approves this code is printed."""
    assert await bench.attest() == 1
    said = capsys.readouterr().out
    assert "no approved code was specified" in said and "--policy FILE" in said
    shown = next(
        line for line in said.splitlines() if "approves exactly this code" in line
    ).partition("code: ")[2]
    path = bench.folder / "shown.json"
    path.write_text(shown)
    assert await bench.attest("--policy", str(path)) == 0


async def test_as_json(bench: Bench, capsys: Captured) -> None:
    """With `--json`, one document has the verdict, the findings and the policy that approves
    them."""
    assert await bench.attest("--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["approved"] is False
    assert found["refused"] == "measurement"
    assert found["tcbStatus"] == "UpToDate"
    assert found["judgedUntil"].endswith("Z")
    path = bench.folder / "shown.json"
    path.write_text(json.dumps(found["policy"]))
    assert await bench.attest("--policy", str(path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["approved"] is True


async def test_other_code_is_reported(bench: Bench, capsys: Captured) -> None:
    """Code that is not approved ends with status 1, the reason and the next step."""
    other = Policy(measurements=(measurements_of("another"),))
    assert await bench.attest(*bench.policy(other)) == 1
    said = capsys.readouterr().out
    assert "refused (measurement)" in said and "next: read the source of the code" in said


async def test_other_roots_are_named(bench: Bench, capsys: Captured) -> None:
    """A simulated platform is refused under Intel's root, and an accepted other root is shown by
    its digest."""
    folder = ["--collateral", str(bench.folder / "collateral")]
    assert await asyncio.to_thread(main, ["verify", bench.node.url, *folder]) == 1
    assert "untrusted-root" in capsys.readouterr().out
    accepted = ["--accept-root", INTEL_ROOT_SHA256.hex(), "--accept-operator-secret"]
    assert await bench.attest(*accepted, *bench.policy(bench.approved)) == 0
    assert await bench.attest("--accept-root", "xyz") == 2


async def test_what_cannot_be_asked(bench: Bench, tmp_path: Path, capsys: Captured) -> None:
    """A missing node, a missing folder and invalid documents each have their own exit status."""
    assert (
        await asyncio.to_thread(
            main, ["verify", "http://127.0.0.1:9", "--collateral", str(tmp_path)]
        )
        == 11
    )
    assert (
        await asyncio.to_thread(
            main, ["verify", "http://node.example", "--collateral", str(tmp_path)]
        )
        == 2
    )
    absent = str(tmp_path / "absent")
    assert await asyncio.to_thread(main, ["verify", bench.node.url, "--collateral", absent]) == 2
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.json").write_text("{}")
    bad = str(tmp_path / "bad")
    assert await asyncio.to_thread(main, ["verify", bench.node.url, "--collateral", bad]) == 7
    capsys.readouterr()


@pytest.mark.slow
async def test_a_node_of_processes(
    tmp_path: Path, agent: AgentSimulator, platform: SimulatedPlatform
) -> None:
    """`serve` takes the secret from the platform, every worker proves it, and no output contains
    it."""
    files_of(tmp_path, platform)
    settings = {
        "SEALSPACE_PLATFORM__SOURCE": "dstack",
        "SEALSPACE_PLATFORM__SOCKET": str(tmp_path / "agent.sock"),
        "SEALSPACE_SECRET__PLATFORM": "true",
        "SEALSPACE_LOG__LEVEL": "debug",
    }
    trust = ["--trust-root", str(tmp_path / "root.pem")]
    node = RunningNode(tmp_path / "node", "--workers", "2", *trust, environment=settings)
    try:
        url = await asyncio.to_thread(lambda: node.url)
        (tmp_path / "policy.json").write_text(
            json.dumps(policy_json(Policy(measurements=(agent.minted.run_on(agent.image),))))
        )
        command = ["verify", url, *trust, "--collateral", str(tmp_path / "collateral")]
        command += ["--policy", str(tmp_path / "policy.json")]
        for _ in range(3):  # a connection each, so that either worker is asked
            assert await asyncio.to_thread(main, command) == 0
        assert agent.asked["GetKey"] == 1
        secret = await asyncio.to_thread(_key_of, tmp_path)
        assert not any(secret.hex() in line for line in node.lines)
        assert not (tmp_path / "node" / "data" / "secret").exists()
        assert await asyncio.to_thread(node.stop) == 0
    finally:
        await asyncio.to_thread(node.close)


def _key_of(folder: Path) -> bytes:
    return DstackSource(folder / "agent.sock").key("tinycloud/keys/primary")


async def test_an_answer_in_a_file(bench: Bench, capsys: Captured) -> None:
    """A saved answer is verified against the caller's nonce and no other."""
    path = bench.folder / "answer.json"
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{bench.node.url}/attestation?nonce=mine") as answer,
    ):
        path.write_bytes(await answer.read())

    async def judged(*arguments: str) -> int:
        files = [
            "--trust-root",
            str(bench.folder / "root.pem"),
            "--collateral",
            str(bench.folder / "collateral"),
        ]
        command = ["verify", str(path), *files, *arguments, *bench.policy(bench.approved)]
        return await asyncio.to_thread(main, command)

    assert await judged("--nonce", "mine") == 0
    assert "the node runs approved code" in capsys.readouterr().out
    assert await judged("--nonce", "another") == 1
    assert await judged() == 2 and "--nonce" in capsys.readouterr().err
    assert await judged("--nonce", "mine", "--start", "x") == 2
    assert "--start does not apply to a node" in capsys.readouterr().err
