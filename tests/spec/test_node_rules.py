"""Tests over HTTP of rules that need a whole node: registration, first use and execution.

The tokens are made by the generator of the vectors, so this is also a second client.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from embedded_node import embedded_node
from engines import store_at
from generate_vectors.minting import (
    HOUR_LATER,
    NO_RECAP,
    NOW,
    Jwt,
    Key,
    SignIn,
    Token,
    Wallet,
    plain,
)
from tests_support import FixedClock

from node.config.tree import Config, Hosting, HostingMode, Http

ALICE = Wallet(0x11)
SESSION, BOB, MALLORY, NODE = (Key(fill) for fill in (0x21, 0x31, 0x51, 0x71))
SPACE = f"tinycloud:pkh:eip155:1:{ALICE.address}:default"
UNHOSTED = SPACE.replace(":default", ":elsewhere")
NETWORK = f"urn:tinycloud:encryption:{ALICE.did}:default"
GET, PUT, DEL, LIST = (f"tinycloud.kv/{name}" for name in ("get", "put", "del", "list"))
_COUNT = itertools.count()


@dataclass(frozen=True)
class Answer:
    """Status, body and headers of an answer."""

    status: int
    text: str
    headers: Any


class Asking:
    """Sends tokens to a node whose clock can be moved."""

    def __init__(self, url: str, session: aiohttp.ClientSession, clock: FixedClock) -> None:
        self._url, self._session, self.clock = url, session, clock

    async def post(self, path: str, token: Token, body: bytes = b"", **headers: str) -> Answer:
        """Post to a route with a token."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"Authorization": token.header, "Content-Type": "application/json"} | named
        async with self._session.post(self._url + path, data=body, headers=sent) as answer:
            return Answer(answer.status, await answer.text(), answer.headers)

    async def delegate(self, token: Token) -> Any:
        """Register a delegation, which must be accepted, and return the answer."""
        async with self._session.post(
            self._url + "/delegate", headers={"Authorization": token.header}
        ) as answer:
            assert answer.status == 200
            return await answer.json()

    async def invoke(self, token: Token, body: bytes = b"", **headers: str) -> Answer:
        """Send an invocation."""
        return await self.post("/invoke", token, body, **headers)


Nodes = Callable[..., AbstractAsyncContextManager[Asking]]


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    """Return a function that runs a node on the test's folder."""

    @asynccontextmanager
    async def run(hosting: HostingMode = "auto") -> AsyncIterator[Asking]:
        clock = FixedClock(NOW)
        config = Config(
            http=Http(port=0, drain_s=0), store=store_at(tmp_path), hosting=Hosting(mode=hosting)
        )
        async with embedded_node(config, clock=clock) as node, aiohttp.ClientSession() as session:
            yield Asking(node.url, session, clock)

    return run


def sign_in(att: dict[str, Any] | None = None, **changes: Any) -> Token:
    """Return Alice's grant to her session key."""
    whole = {f"{SPACE}/kv": plain(GET, PUT, DEL, LIST)}
    return SignIn(
        **{"wallet": ALICE, "audience": SESSION.url, "att": att or whole, **changes}
    ).mint()


def call(att: dict[str, Any], *proofs: Token, signer: Key = SESSION, **changes: Any) -> Token:
    """Return a fresh invocation."""
    jwt: dict[str, Any] = {
        "issuer": signer,
        "audience": signer.did,
        "att": att,
        "nonce": str(next(_COUNT)),
    }
    return Jwt(**jwt | {"prf": [proof.cid for proof in proofs]} | changes).mint()


def one(
    ability: str,
    path: str,
    *proofs: Token,
    signer: Key = SESSION,
    space: str = SPACE,
    **changes: Any,
) -> Token:
    """Return a fresh invocation of one KV ability."""
    return call({f"{space}/kv/{path}": plain(ability)}, *proofs, signer=signer, **changes)


async def test_undecodable_delegation(nodes: Nodes) -> None:
    """A header that is not a delegation is answered with 401 and a problem without a reason (D1,
    E5)."""
    async with nodes() as node:
        answer = await node.post("/delegate", Token("Bearer x", b""))
        assert answer.status == 401
        assert "token-malformed" in answer.text


async def test_repeat_of_a_live_delegation(nodes: Nodes) -> None:
    """Posting a live delegation again returns the current lists, even if another grant hosted its
    space (D4, D9)."""
    host = SignIn(
        wallet=ALICE, audience=NODE.did, att={f"{SPACE}/space": plain("tinycloud.space/host")}
    ).mint()
    async with nodes("explicit") as node:
        first, hosted, again = [
            await node.delegate(token) for token in (sign_in(), host, sign_in())
        ]
        assert first["activated"] == []
        assert first["skipped"] == [SPACE]
        assert hosted["activated"] == [SPACE]
        assert hosted["skipped"] == []
        assert again["activated"] == [SPACE]
        assert again["skipped"] == []
        assert sign_in().cid == again["cid"]


async def test_repeat_of_a_dead_delegation(nodes: Nodes) -> None:
    """A delegation that expired or was revoked is refused when it is posted again (D4)."""
    short = sign_in(exp=HOUR_LATER)
    revocation = SignIn(
        wallet=ALICE, audience=f"ucan:{sign_in().cid}", att={}, exp=None, extra=NO_RECAP
    ).mint()
    async with nodes() as node:
        await node.delegate(sign_in())
        await node.delegate(short)
        assert (await node.post("/revoke", revocation)).status == 200
        answer = await node.post("/delegate", sign_in())
        assert answer.status == 401
        assert answer.text == f"delegation-revoked: {sign_in().cid}"
        node.clock.advance(3601)
        answer = await node.post("/delegate", short)
        assert (answer.status, answer.text) == (401, "Delegation expired or not yet valid")


async def test_a_registration_outlives_the_process(nodes: Nodes) -> None:
    """Acknowledged delegations, spaces and values survive a restart on the same folder (D8)."""
    async with nodes() as node:
        await node.delegate(sign_in())
        assert (await node.invoke(one(PUT, "a", sign_in()), b"kept")).status == 200
    async with nodes() as node:
        assert ((answer := await node.invoke(one(GET, "a", sign_in()))).status, answer.text) == (
            200,
            "kept",
        )


async def test_equal_posts_at_once(nodes: Nodes) -> None:
    """Equal delegations that are posted concurrently all get the same CID (D10)."""
    async with nodes() as node:
        answers = await asyncio.gather(*(node.delegate(sign_in()) for _ in range(8)))
        assert {sign_in().cid} == {answer["cid"] for answer in answers}


async def test_no_replay_rule_for_delegations(nodes: Nodes) -> None:
    """A delegation may be posted again and live for years (D11, I23)."""
    endless = sign_in(exp=None)
    async with nodes() as node:
        assert [endless.cid] * 2 == [(await node.delegate(endless))["cid"] for _ in range(2)]
        node.clock.advance(20 * 365 * 86_400)
        assert (await node.invoke(one(LIST, "", endless, exp=node.clock.now() + 60))).status == 200


async def test_hosting_by_a_delegate(nodes: Nodes) -> None:
    """A delegate with space/host can host for any audience, and the space outlives the grant (D41,
    D42)."""
    right = {f"{SPACE}/space": plain("tinycloud.space/host"), f"{SPACE}/kv": plain(PUT)}
    grant = sign_in(right)
    host = Jwt(
        issuer=SESSION,
        audience=BOB.did,
        att={f"{SPACE}/space": plain("tinycloud.space/host")},
        prf=[grant.cid],
    ).mint()
    async with nodes("explicit") as node:
        await node.delegate(grant)
        assert (await node.delegate(host))["activated"] == [SPACE]
        node.clock.advance(61)
        assert (
            await node.invoke(one(PUT, "a", grant, exp=node.clock.now() + 60), b"x")
        ).status == 200


async def test_decrypt_takes_its_own_way(nodes: Nodes) -> None:
    """A refused decrypt token is answered with 403, unlike other refused tokens (I6)."""
    grant = sign_in({NETWORK: plain("tinycloud.encryption/decrypt")})
    async with nodes() as node:
        await node.delegate(grant)
        answer = await node.invoke(
            call({NETWORK: plain("tinycloud.encryption/decrypt")}, grant), b"{}"
        )
        assert answer.status == 403
        assert answer.text.startswith("decrypt request body is malformed: ")


@pytest.mark.parametrize(("service", "name"), [("duckdb", "DuckDB")])
async def test_services_that_are_not_offered(nodes: Nodes, service: str, name: str) -> None:
    """DuckDB requests get 501 for authorised callers and 401 for others (I8, Q18)."""
    att = {f"{SPACE}/{service}/db": plain(f"tinycloud.{service}/read")}
    grant = sign_in({f"{SPACE}/{service}": plain(f"tinycloud.{service}/read")})
    async with nodes() as node:
        await node.delegate(grant)
        answer = await node.invoke(call(att, grant))
        assert answer.status == 501
        assert answer.text == f"{name} support is not enabled on this node"
        assert (await node.invoke(call(att, signer=MALLORY))).status == 401


async def test_an_unknown_ability_does_nothing(nodes: Nodes) -> None:
    """An unknown ability can be granted and invoked without any effect (A7)."""
    att = {f"{SPACE}/kv/a": plain("tinycloud.kv/paint")}
    async with nodes() as node:
        await node.delegate(sign_in(att))
        assert ((answer := await node.invoke(call(att, sign_in(att)))).status, answer.text) == (
            200,
            "",
        )


async def test_option_headers_come_first(nodes: Nodes) -> None:
    """A malformed option header is answered with 400 and does not use up the token (I9)."""
    token = one(GET, "a", sign_in())
    async with nodes() as node:
        await node.delegate(sign_in())
        answer = await node.invoke(token, x_tinycloud_limit="0")
        assert (answer.status, answer.text) == (400, "x-tinycloud-limit must be a positive integer")
        assert (await node.invoke(token)).status == 404


async def test_what_is_no_batch_of_puts(nodes: Nodes) -> None:
    """Two puts without a form, and a form beside other capabilities, are refused before anything
    runs (I10, I15)."""
    two = {f"{SPACE}/kv/{path}": plain(PUT) for path in ("a", "b")}
    form = "multipart/form-data; boundary=x"
    mixed = {f"{SPACE}/kv/a": plain(PUT, GET)}
    async with nodes() as node:
        await node.delegate(sign_in())
        assert (
            await node.invoke(call(mixed, sign_in()), b"--x--", Content_Type=form)
        ).status == 400
        assert (
            await node.invoke(one(PUT, "a", sign_in()), b"", Content_Type="multipart/form-data")
        ).status == 400
        assert (await node.invoke(call(two, sign_in()), b"x")).status == 400
        assert (await node.invoke(call(mixed, sign_in()), b"x")).status == 400
        assert (await node.invoke(one(LIST, "", sign_in()))).text == "[]"


async def test_outsiders_learn_nothing(nodes: Nodes) -> None:
    """A stranger's put gets the same answer whether or not the space or value exists (I11, I14)."""
    async with nodes() as node:
        await node.delegate(sign_in())
        assert (await node.invoke(one(PUT, "a", sign_in()), b"x")).status == 200
        answers = [
            await node.invoke(one(PUT, path, signer=MALLORY, space=space), b"y", If_None_Match="*")
            for path, space in (("a", SPACE), ("b", SPACE), ("a", UNHOSTED))
        ]
        assert {(401, "Cannot find parent delegation")} == {
            (answer.status, answer.text) for answer in answers
        }
        assert (await node.invoke(one(LIST, "", sign_in()))).text == '["a"]'


async def test_other_routes_execute_nothing(nodes: Nodes) -> None:
    """A kv/del in a token for a network's route deletes nothing (I11a)."""
    create = "tinycloud.encryption/network.create"
    grant = sign_in({f"{SPACE}/kv": plain(PUT, DEL, GET), NETWORK: plain(create)})
    token = call({f"{SPACE}/kv/a": plain(DEL), NETWORK: plain(create)}, grant, audience=NODE.did)
    async with nodes() as node:
        await node.delegate(grant)
        assert (await node.invoke(one(PUT, "a", grant), b"x")).status == 200
        assert (await node.post("/encryption/networks", token, b"{}")).status == 401
        assert (await node.invoke(one(GET, "a", grant))).status == 200


async def test_a_token_is_used_once(nodes: Nodes) -> None:
    """A token is used up by its first use, until it expires (I12, I21, I22)."""
    absent, put = one(GET, "absent", sign_in()), one(PUT, "a", sign_in())
    async with nodes() as node:
        await node.delegate(sign_in())
        assert [(await node.invoke(absent)).status for _ in range(2)] == [404, 409]
        assert [(await node.invoke(put, b"x")).status for _ in range(2)] == [200, 409]
        assert (await node.invoke(one(PUT, "a", sign_in()), b"x")).status == 200
        node.clock.advance(60)
        answers = [await node.invoke(token) for token in (absent, put)]
        assert [(answer.status, answer.text) for answer in answers] == [
            (409, "duplicate invocation")
        ] * 2
        node.clock.advance(1)
        answers = [await node.invoke(token) for token in (absent, put)]
        assert [(answer.status, answer.text) for answer in answers] == [
            (401, "Invocation expired or not yet valid")
        ] * 2


async def test_one_of_many_uses_wins(nodes: Nodes) -> None:
    """Of equal concurrent invocations, exactly one is answered (I20)."""
    token = one(PUT, "a", sign_in())
    async with nodes() as node:
        await node.delegate(sign_in())
        answers = await asyncio.gather(*(node.invoke(token, b"x") for _ in range(8)))
        assert sorted(answer.status for answer in answers) == [200] + [409] * 7


async def test_a_used_token_stays_used_after_a_start(nodes: Nodes) -> None:
    """A used token is refused after a restart of the node (I20)."""
    put, get = one(PUT, "a", sign_in()), one(GET, "a", sign_in())
    async with nodes() as node:
        await node.delegate(sign_in())
        assert [(await node.invoke(token, b"x")).status for token in (put, get)] == [200, 200]
    async with nodes() as node:
        assert [(await node.invoke(token, b"x")).status for token in (put, get)] == [409, 409]


async def test_a_revocation_holds_at_once(nodes: Nodes) -> None:
    """A call after a revocation fails, and a repeated revocation gets the same answer (I38,
    I23)."""
    grant = Jwt(
        issuer=SESSION, audience=BOB.did, att={f"{SPACE}/kv": plain(PUT)}, prf=[sign_in().cid]
    ).mint()
    revoke = call({f"urn:cid:{grant.cid}": plain("tinycloud.delegation/revoke")}, signer=SESSION)
    async with nodes() as node:
        await node.delegate(sign_in())
        await node.delegate(grant)
        assert (await node.invoke(one(PUT, "a", grant, signer=BOB), b"x")).status == 200
        assert [(await node.post("/revoke", revoke)).status for _ in range(2)] == [200, 200]
        answer = await node.invoke(one(PUT, "a", grant, signer=BOB), b"x")
        assert answer.status == 401
        assert answer.text == f"delegation-revoked: {grant.cid}"
