"""Owner commands that require the node's own evidence, at login and afterwards."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fuzz_strategies import json_values
from hypothesis import given
from node_evidence_stage import IMAGE, Relay, Stage, evidence_stage
from owner_desk import without_home
from tests_support import FixedClock, Input, fuzzed

from encryption_network.policy import Policy, policy_json
from sealspace.cli.owner.node_terms import Accepted, node_policy_json, parse_node_policy
from sealspace.cli.root import main
from sealspace.documents.node_evidence import NodePolicy
from tee_backend.evidence.simulated import measurements_of, mint_event_log

REFUSED = 12
INSISTING = "--require-node-evidence"


@dataclass
class Desk:
    """An owner's machine, and nodes in trust domains behind a relay."""

    stage: Stage
    relay: Relay
    url: str
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    err: str = ""

    @property
    def home(self) -> Path:
        return self.stage.folder / "home"

    @property
    def trust(self) -> tuple[str, ...]:
        return (
            "--trust-root",
            str(self.stage.folder / "root.pem"),
            "--collateral",
            str(self.stage.folder / "documents"),
        )

    async def run(self, *arguments: str, given: str = "", typed: str | None = None) -> int:
        self.monkeypatch.setattr(sys, "stdin", Input(typed or given, is_terminal=typed is not None))
        self.monkeypatch.setattr(sys.stderr, "isatty", lambda: typed is not None)
        self.capsys.readouterr()
        status = await asyncio.to_thread(main, [*arguments, "--home", str(self.home)])
        self.err = without_home(self.capsys.readouterr().err, self.home)
        return status

    async def log_in(self, *more: str, typed: str | None = None) -> int:
        new = () if (self.home / "wallet.key").exists() else ("--new",)
        return await self.run("login", "--node", self.url, *new, *more, typed=typed)

    async def keep_a_secret(self) -> int:
        return await self.run("secret", "put", "API_KEY", given="open sesame")

    def approved(self, policy: Policy | None = None) -> tuple[str, ...]:
        path = self.stage.folder / "approved.json"
        policy = policy or Policy(measurements=(self.stage.agent.minted.run_on(IMAGE),))
        path.write_text(json.dumps(policy_json(policy)))
        return (INSISTING, "--node-policy", str(path), *self.trust)

    @property
    def demanded(self) -> Any:
        return json.loads((self.home / "profile.json").read_text())["nodePolicy"]


@pytest.fixture
async def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Desk]:
    """A node that runs approved code, without a logged-in owner."""
    async with evidence_stage(tmp_path, FixedClock(time.time())) as stage:
        relay, url = await stage.relay(await stage.start())
        (tmp_path / "documents").mkdir()
        (tmp_path / "documents" / "platform.json").write_bytes(
            stage.machine.collateral_json(time.time())
        )
        yield Desk(stage, relay, url, capsys, monkeypatch)


async def test_every_command_insists(desk: Desk) -> None:
    """After a login with evidence, each command verifies the node's evidence before it sends a
    token (AT45)."""
    assert await desk.log_in(*desk.approved()) == 0, desk.err
    assert "every later command checks this again" in desk.err
    arguments: tuple[str, ...]
    for arguments in (("secret", "list"), ("receipts", "list")):
        desk.relay.paths.clear()
        assert await desk.run(*arguments) == 0, desk.err
        assert desk.relay.paths[:2] == ["/info", "/attestation"]
    assert await desk.keep_a_secret() == 0
    desk.stage.agent.minted, before = mint_event_log(b"x" * 32), desk.relay.tokens
    for arguments in (
        ("secret", "list"),
        ("secret", "put", "API_KEY"),
        ("secret", "delete", "API_KEY"),
        ("receipts", "list"),
    ):
        assert await desk.run(*arguments, given="value") == REFUSED
        first, second = desk.err.splitlines()
        assert "refused (measurement)" in first and second.startswith(
            "next: read the source of the code"
        )
    assert desk.relay.tokens == before


async def test_a_login_to_other_code(desk: Desk) -> None:
    """A login to other code is refused before the wallet signs, and nothing is stored."""
    other = Policy(measurements=(measurements_of("another"),))
    assert await desk.log_in(*desk.approved(other)) == REFUSED
    assert desk.relay.tokens == 0
    assert not (desk.home / "profile.json").exists()
    (desk.stage.folder / "documents" / "other.json").write_text("{}")
    assert await desk.log_in(*desk.approved(other)) == 7
    assert desk.relay.tokens == 0
    assert not (desk.home / "profile.json").exists()


async def test_what_is_seen_is_approved_by_a_person(desk: Desk) -> None:
    """Without a policy file the owner is shown the code and asked, and later commands require that
    code."""
    assert await desk.log_in(INSISTING, *desk.trust) == 2
    assert "cannot ask for confirmation" in desk.err and "--node-policy FILE" in desk.err
    assert await desk.log_in(INSISTING, *desk.trust, typed="n\n") == 1
    assert desk.relay.tokens == 0
    assert not desk.home.exists()
    assert await desk.log_in(INSISTING, *desk.trust, typed="y\n") == 0, desk.err
    assert "never leaves the trust domain" in desk.err
    shown = desk.stage.agent.minted.run_on(IMAGE)
    assert desk.demanded["code"] == policy_json(Policy(measurements=(shown,)))
    assert await desk.keep_a_secret() == 0
    desk.stage.agent.minted = mint_event_log(b"y" * 32)
    assert await desk.keep_a_secret() == REFUSED


async def test_to_sign_in_again_drops_nothing(desk: Desk) -> None:
    """A later login keeps the requirement and its documents, unless told to drop it."""
    assert await desk.log_in(*desk.approved()) == 0
    first = desk.demanded
    assert await desk.log_in() == 0, desk.err
    assert desk.demanded == first is not None
    minted, desk.stage.agent.minted = desk.stage.agent.minted, mint_event_log(b"z" * 32)
    assert await desk.log_in() == REFUSED
    assert await desk.log_in("--no-node-evidence") == 0
    assert desk.demanded is None and await desk.keep_a_secret() == 0
    desk.stage.agent.minted = minted
    assert await desk.log_in() == 0 and desk.demanded is None


async def test_another_store_behind_the_address(desk: Desk) -> None:
    """Another store under the same secret is refused after the login (AT45)."""
    assert await desk.log_in(*desk.approved()) == 0
    desk.relay.target = (await desk.stage.start("copy")).url
    assert await desk.keep_a_secret() == REFUSED
    assert "refused (store)" in desk.err


LOCAL = f"local-sgx:{'01' * 8}"


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"secret": {"platform": False}}, ("--accept-operator-secret",)),
        ({"release": {"node_policy_suffices": True}}, ("--accept-node-policy",)),
        ({"release": {"key_providers": (LOCAL,)}}, ("--accept-key-provider", LOCAL)),
    ],
)
async def test_what_has_to_be_accepted(
    desk: Desk, settings: dict[str, Any], options: tuple[str, ...]
) -> None:
    """Terms that are refused by default can be accepted by name, for later commands too."""
    desk.relay.target = (await desk.stage.start("lenient", **settings)).url
    assert await desk.log_in(*desk.approved()) == REFUSED
    assert f"sealspace login {desk.url} {INSISTING} {options[0]}" in desk.err.splitlines()[1]
    assert await desk.log_in(*desk.approved(), *options) == 0, desk.err
    assert await desk.keep_a_secret() == 0, desk.err


async def test_a_node_outside_a_trust_domain(desk: Desk) -> None:
    """A node without evidence is refused, with a next step."""
    plain = {"secret": {"platform": False}, "platform": {"source": "none", "socket": None}}
    desk.relay.target = (await desk.stage.start("plain", **plain)).url
    for more in (desk.approved(), (INSISTING, *desk.trust)):
        assert await desk.log_in(*more) == REFUSED
        assert (
            "refused (no-tee)" in desk.err
            and "next: use a node that runs in a trust domain" in desk.err
        )


@pytest.mark.parametrize(
    "options", [("--node-policy", "x.json"), ("--accept-operator-secret",), ("--accept-root", "z")]
)
async def test_options_without_the_demand(
    desk: Desk, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options without effect and malformed digests are refused."""
    monkeypatch.chdir(desk.stage.folder)
    Path("x.json").write_text("{}")
    assert await desk.log_in(*options) == 2
    assert not desk.home.exists()


async def test_a_profile_that_cannot_be_read_demands_something(desk: Desk) -> None:
    """An owner's command fails if the stored requirement of evidence cannot be read."""
    assert await desk.log_in(*desk.approved()) == 0
    path = desk.home / "profile.json"
    value = json.loads(path.read_text())
    for broken in (
        {},
        [],
        "all",
        {**value["nodePolicy"], "more": 1},
        {**value["nodePolicy"], "code": {}},
    ):
        path.write_text(json.dumps({**value, "nodePolicy": broken}))
        before = desk.relay.tokens
        assert await desk.keep_a_secret() == 10
        assert desk.relay.tokens == before


CODE = Policy(measurements=(IMAGE,))


@pytest.mark.parametrize(
    "policy",
    [
        Accepted().policy(CODE),
        Accepted(operator_secret=True, release_roots=(bytes(32),), node_policy=True).policy(CODE),
        Accepted(key_providers=()).policy(CODE),
        NodePolicy(code=CODE, store_id=bytes(16)),
    ],
)
def test_what_is_remembered(policy: NodePolicy) -> None:
    """A stored requirement of evidence is read back unchanged, and a malformed one is refused."""
    written = node_policy_json(policy)
    assert parse_node_policy(written) == policy
    for member in written:
        assert parse_node_policy({**written, member: 7}) is None
        assert parse_node_policy({**written, member: [7]}) is None
        assert (
            parse_node_policy({name: value for name, value in written.items() if name != member})
            is None
        )


@fuzzed()
@given(json_values(members=list(node_policy_json(Accepted().policy(CODE)))))
def test_fuzz_remembered_demands(value: Any) -> None:
    """Any JSON is either refused, or a requirement that is read back unchanged."""
    read = parse_node_policy(value)
    assert read is None or parse_node_policy(node_policy_json(read)) == read
