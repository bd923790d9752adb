"""Tests that a client's tokens name the node that the client talks to."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from patience import PATIENCE_S

from capabilities.abilities import READ_RECEIPTS, SET_POLICY
from capabilities.signatures import Ed25519Signer
from encryption_network.policy import Policy
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import NodeMismatch, SealspaceError
from sealspace.session import decode_session, encode_session
from sealspace.wire.transport import TransportSettings

SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)
OTHER_KIND = (401, "Token of another kind")
OTHER_AUDIENCE = "invocation audience does not match this node"


@dataclass
class Collector:
    """A node that only records the tokens it gets."""

    did: str = field(default_factory=lambda: Ed25519Signer(bytes([7]) * 32).did)
    sent: list[tuple[str, str, bytes, str]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer `/info`, and record every other request."""
        if request.path == "/info":
            return web.json_response(
                {"protocol": 1, "nodeId": self.did, "version": "1", "features": [], "inTEE": False}
            )
        token = request.headers.get("Authorization")
        if token is not None:
            self.sent.append((request.method, request.path_qs, await request.read(), token))
        return web.Response(status=500)


@dataclass
class Elsewhere:
    """A client whose node is the collector, with a session that an honest node knows."""

    collector: Collector
    client: Client
    honest: str
    owner: Client
    cid: str


@pytest.fixture
async def elsewhere(bench: Any) -> AsyncIterator[Elsewhere]:
    """A client and a collector, as described by `Elsewhere`."""
    owner, wallet = await bench.owner()
    await owner.kv().put("a", b"first")
    network = owner.encryption.network()
    rights = [allow(network.text, right) for right in (SET_POLICY, READ_RECEIPTS)]
    rights.append(allow(f"{owner.kv().space.text}/space", "tinycloud.space/list"))
    await owner.delegations.add_right(wallet, rights)
    value = allow(f"{owner.kv().space.text}/kv/a", "tinycloud.kv/get")
    delegated = await owner.delegations.delegate(Ed25519Signer(bytes([8]) * 32).did, [value])
    collector = Collector()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", collector.handle)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        session = replace(owner.session, node_id=None)
        async with Client(
            url, session=session, settings=SETTINGS, clock=bench.clock, entropy=bench.entropy
        ) as client:
            yield Elsewhere(collector, client, bench.node.url, owner, delegated.cid)


async def listed(items: AsyncIterator[Any]) -> None:
    """Read a listing to its end."""
    async for _ in items:
        pass


def everything(elsewhere: Elsewhere) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return every call with which a client sends a token of its session."""
    client, network = elsewhere.client, elsewhere.client.encryption.network()
    return {
        "get": lambda: client.kv().get("a"),
        "put": lambda: client.kv().put("a", b"second"),
        "delete": lambda: client.kv().delete("a"),
        "list": lambda: listed(client.kv().list()),
        "metadata": lambda: client.kv().metadata("a"),
        "signed URL": lambda: client.kv().signed_url("a"),
        "spaces": lambda: client.spaces().list(),
        "status": lambda: client.delegations.status(elsewhere.cid),
        "query": lambda: listed(client.delegations.query()),
        "revocation": lambda: client.delegations.revoke(elsewhere.cid),
        "policy": lambda: client.encryption.set_policy(network, Policy()),
        "withdrawal": lambda: client.withdrawals.withdraw_backend(elsewhere.collector.did),
        "receipts": lambda: client.receipts.page(),
    }


async def test_every_token_names_the_node(elsewhere: Elsewhere) -> None:
    """Every token names the node it is for, and another node refuses it (J5, T8)."""
    for what, ask in everything(elsewhere).items():
        elsewhere.collector.sent.clear()
        with suppress(SealspaceError):
            await ask()
        assert elsewhere.collector.sent, what
        for method, path, body, token in elsewhere.collector.sent:
            payload = token.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            assert claims["aud"] == elsewhere.collector.did, what
            assert await sent_on(elsewhere.honest, method, path, body, token), what
    assert (await elsewhere.owner.kv().get("a")).body == b"first"
    assert (await elsewhere.owner.delegations.status(elsewhere.cid)).word == "active"


async def sent_on(url: str, method: str, path: str, body: bytes, token: str) -> bool:
    """Send the recorded tokens to an honest node, and return whether it refuses each for its
    audience."""
    headers = {"Authorization": token, "Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url + path, headers=headers, data=body) as reply,
    ):
        text = await reply.text()
        return (reply.status, text) == OTHER_KIND or (
            reply.status == 401 and OTHER_AUDIENCE in text
        )


async def test_a_saved_session_says_so_at_a_restored_node(elsewhere: Elsewhere, bench: Any) -> None:
    """A stored session sends nothing to a node whose DID has changed, and the error says to sign in
    again."""
    saved = decode_session(encode_session(elsewhere.owner.session))
    async with Client(
        elsewhere.client.url, session=saved, settings=SETTINGS, clock=bench.clock
    ) as client:
        for ask in everything(replace(elsewhere, client=client)).values():
            with pytest.raises(NodeMismatch, match="the session was made at") as refused:
                await ask()
            assert "sealspace login" in str(refused.value.hint)
    assert elsewhere.collector.sent == []
