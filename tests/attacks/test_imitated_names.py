"""Attempts to show an owner a name for code that the owner did not sign (CN19)."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from backend_desk import Desk
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node
from trust_settings import trusting_config

from capabilities.abilities import CAPABILITIES_READ, KV_GET
from capabilities.cids import cid_text
from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.signatures import Ed25519Signer
from capabilities.tokens import parse_delegation
from sealspace.cli.owner.signed_names import own_app_names
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.app_names import APP_FACT, AppNames
from sealspace.session import key_session, load_session, mint
from sealspace.wire.delegation_history import DelegationRecord

NOTES = "tinycloud:pkh:eip155:1:0x" + "0" * 40 + ":notes/kv"
PINNED = "services:\n  notes:\n    image: ghcr.io/acme/notes@sha256:" + "ab" * 32 + "\n"
FORGED = "Your bank"


@pytest.fixture
async def desk(
    tmp_path: Path,
    platform: SimulatedPlatform,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Desk]:
    """An owner's machine, and a node that trusts the simulated platform."""
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(embedded_node(trusting_config(tmp_path, platform)))
        yield Desk(node.url, tmp_path / "home", tmp_path, platform, stack, capsys, monkeypatch)


@dataclass
class Parties:
    """An owner with a key, the owner's session, and the recipient of a grant."""

    owner: Ed25519Signer
    session: Ed25519Signer
    recipient: Ed25519Signer


PARTIES = Parties(
    owner=Ed25519Signer(bytes([1]) * 32),
    session=Ed25519Signer(bytes([2]) * 32),
    recipient=Ed25519Signer(bytes([3]) * 32),
)


def signed(signer: Ed25519Signer, audience: str, name: str | None, *abilities: str) -> str:
    """Return a token that states a name for the code of its recipient."""
    return mint(
        signer,
        SystemEntropy(),
        audience=audience,
        capabilities=[allow(NOTES, ability) for ability in abilities],
        proofs=[],
        expires_at=SystemClock().now() + 60,
        facts=[] if name is None else [{APP_FACT: {"name": name}}],
        issuer=signer.did,
    )


def record(token: str, /, **changes: Any) -> DelegationRecord:
    """Return the node's description of a token."""
    delegation = parse_delegation(token)
    described: dict[str, Any] = {
        "cid": cid_text(delegation.cid),
        "direction": "granted",
        "delegatorDid": delegation.delegator,
        "delegateDid": delegation.delegate,
        "resources": [
            {"resource": one.resource.text, "actions": [one.ability], "caveats": []}
            for one in delegation.capabilities
        ],
        "parents": [],
        "issuedAt": None,
        "notBefore": None,
        "expiresAt": None,
        "status": "active",
        "token": token,
    }
    return msgspec.convert(described | changes, DelegationRecord)


def names_in(*records: DelegationRecord) -> list[str]:
    """Return the names that commands show to the owner for some grants."""
    return [app.name for app in own_app_names(records, PARTIES.owner.did).values()]


def test_CN19_only_the_owner_and_own_sign_ins_name_code() -> None:
    """A recipient who passes a grant on, and a stranger, name nothing."""
    sign_in = record(signed(PARTIES.owner, PARTIES.session.did, None, CAPABILITIES_READ))
    by_owner = record(signed(PARTIES.owner, PARTIES.recipient.did, "mine", KV_GET))
    by_session = record(signed(PARTIES.session, PARTIES.recipient.did, "also mine", KV_GET))
    passed_on = record(signed(PARTIES.recipient, "did:key:zFriend", FORGED, KV_GET))
    assert names_in(sign_in, by_owner, by_session, passed_on) == ["mine", "also mine"]
    # without its sign-in, a session is a stranger
    assert names_in(by_owner, by_session, passed_on) == ["mine"]


def test_CN19_a_node_cannot_name_code() -> None:
    """A node that lies about the signer, the CID or the signature has no name shown."""
    genuine = signed(PARTIES.owner, PARTIES.recipient.did, "mine", KV_GET)
    forged = signed(PARTIES.recipient, PARTIES.recipient.did, FORGED, KV_GET)
    assert names_in(record(forged, delegatorDid=PARTIES.owner.did)) == []
    # a genuine name of another grant
    other = signed(PARTIES.owner, PARTIES.recipient.did, "mine", KV_GET, CAPABILITIES_READ)
    assert names_in(record(genuine, cid=cid_text(parse_delegation(other).cid))) == []
    header, _, signature = genuine.split(".")
    _, payload, _ = signed(PARTIES.owner, PARTIES.recipient.did, FORGED, KV_GET).split(".")
    assert names_in(record(f"{header}.{payload}.{signature}")) == []
    assert names_in(record(genuine, token=None)) == []
    assert names_in(record(genuine, token="x" * 100)) == []


async def test_CN19_a_manifest_and_a_file_cannot_imitate_a_signed_name(desk: Desk) -> None:
    """A backend that claims the name of another build in its manifest is not shown under it: the
    claim and the owner's own name are told apart."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given="value")
    first = await desk.backend(PINNED)
    granted = await desk.run("backend", "grant", first.url, "--yes", "--name", "Notes")
    assert granted.status == 0, granted
    impostor = await desk.backend(PINNED.replace("ab", "cd"), seed=2)
    shown = await desk.run("backend", "show", impostor.url)
    assert 'calls itself "Notes"' in shown.out
    assert "you called it" not in shown.out


async def test_CN19_a_name_that_another_client_signed_cannot_leave_its_quotation(
    desk: Desk,
) -> None:
    """A program with the owner's session may sign any name. It cannot move the cursor, turn the
    direction of the line, end the quotation, or hide the DID behind it."""
    await desk.log_in()
    hostile = 'x" did:key:zEvil\u202e\x1b[2J\n' + "y" * 100
    recipient = key_session(bytes(31) + b"\7").did
    async with Client(desk.node, session=load_session(desk.home / "session.json")) as client:
        await client.delegations.delegate(
            recipient,
            [allow(f"{client.kv().space.text}/kv/notes", KV_GET)],
            app=AppNames(name=hostile),
        )
    listed = await desk.run("grant", "list")
    (line,) = [one for one in listed.out.split("\n") if recipient[-8:] in one]
    assert line.count('"') == 2 and line.isprintable()
    assert line.index('"') < line.index(f"{recipient[8:16]}")
