"""Every kind of token at every route, as the table of `spec/capabilities.md` §2.8 says."""

import inspect
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest
from attacks.held_store import HeldStage
from attacks.parties import DECRYPT, GET, REVOKE, SET_POLICY, Delegate, Owner
from running_node import (
    Grants,
    Reply,
    fresh_nonce,
    key_token,
    network_path,
    new_key,
    send,
    time_text,
    wallet_token,
)
from tests_support import REPOSITORY
from wire_replay import token_id

from capabilities.abilities import NETWORK_CREATE, NETWORK_REVOKE, READ_RECEIPTS
from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.facts import KEYS_FACT, POLICY_FACT, WITHDRAWAL_FACT
from capabilities.siwe import SiweMessage
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.policy import Policy, policy_json
from encryption_network.requests import admin_fact
from node.http.routes.route_table import ROUTES as ALL_ROUTES
from sealspace.delegations import allow
from spaces.store.contract import Range

pytestmark = pytest.mark.slow

OTHER_KIND = (401, "Token of another kind")
STATUS, LIST_DELEGATIONS = (f"tinycloud.delegation/{name}" for name in ("status", "list"))
_PATH = "notes/one"
_PAGE = REPOSITORY / "spec" / "capabilities.md"
# All rows but claims, audit, and what the node keeps for itself.
_KEPT = b"GILSsKPMXENhARDatVTOBQF"


@dataclass(frozen=True)
class Sent:
    """A token and the body that it is bound to; None means any body that the route accepts."""

    token: str
    body: bytes | None = None


@dataclass
class Scene:
    """An owner with a value, two networks and a delegation, whose session has all rights."""

    held: HeldStage
    owner: Owner
    session: Delegate
    target: str

    def network(self, name: str) -> str:
        """Return the id of a network of the owner's."""
        return f"urn:tinycloud:encryption:{self.owner.client.session.owner}:{name}"

    @property
    def gets(self) -> Grants:
        """Return an invocation that reads the value."""
        return {f"{self.owner.space()}/kv/{_PATH}": [GET]}

    def to_itself(self, grants: Grants, *, proofs: Sequence[str] | None = None) -> Sent:
        """Return a token of the session that addresses itself, as other clients sign."""
        proofs = self.session.proofs if proofs is None else proofs
        return Sent(
            key_token(self.session.signer, self.session.did, grants, proofs=proofs, ttl_s=60)
        )

    def to_node(self, grants: Grants, *facts: Json, body: Json = None) -> Sent:
        """Return a token of the session that addresses the node, as our client signs."""
        token = self.session.grant(self.held.node_did, grants, facts=facts, ttl_s=60)
        return Sent(token, None if body is None else canonical_bytes(body))

    def bound(self, name: str, ability: str, fact_type: str, body: Json) -> Sent:
        """Return a request that a fact binds to its body."""
        network = self.network(name)
        shared = {"targetNode": self.held.node_did, "networkId": network}
        return self.to_node(
            {network: [ability]},
            {"type": fact_type, **shared, "bodyHash": canonical_hash(body)},
            body=body,
        )

    def administration(self, name: str, action: str, body: dict[str, Json]) -> Sent:
        """Return a request to create or to revoke a network."""
        network = self.network(name)
        fact: Json = admin_fact(network, target_node=self.held.node_did, action=action, body=body)
        return self.to_node({network: [action]}, fact, body=body)


async def scene_on(held: HeldStage, kind: str) -> Scene:
    """Prepare the scene for a kind; the second network is missing if the kind creates it."""
    owner = await held.owner()
    client = owner.client
    await client.kv().put(_PATH, b"first")
    rights = [allow(owner.network, right) for right in (SET_POLICY, READ_RECEIPTS)]
    scene = Scene(held, owner, owner.session, "")
    rights += [allow(scene.network("second"), right) for right in (NETWORK_CREATE, NETWORK_REVOKE)]
    await client.delegations.add_right(owner.wallet, rights)
    if kind != "network creation":
        await client.encryption.ensure_network("second")
    scene.session = owner.session
    scene.target = await held.register(owner.session.grant(new_key().did, scene.gets, ttl_s=600))
    return scene


# --- kinds ----------------------------------------------------------------------------------------


async def grant(scene: Scene) -> Sent:
    """A registered delegation of the session's to another key."""
    return Sent(
        await scene.held.register(scene.session.grant(new_key().did, scene.gets, ttl_s=200))
    )


async def grant_to_itself(scene: Scene) -> Sent:
    """A registered delegation of the session's to itself."""
    return Sent(
        await scene.held.register(scene.session.grant(scene.session.did, scene.gets, ttl_s=200))
    )


async def sign_in(scene: Scene) -> Sent:
    """A registered delegation of the wallet's."""
    grants = {f"{scene.owner.space()}/kv": [GET], f"{scene.owner.space()}/delegation": [REVOKE]}
    token = wallet_token(scene.owner.wallet, scene.session.signer.did_url, grants)
    return Sent(await scene.held.register(token))


async def call(scene: Scene) -> Sent:
    """An invocation as other clients sign it."""
    return scene.to_itself(scene.gets)


async def call_to_the_node(scene: Scene) -> Sent:
    """An invocation as our own client signs it."""
    return scene.to_node(scene.gets)


async def call_to_another_node(scene: Scene) -> Sent:
    """An invocation as our own client signs it for another node."""
    return Sent(scene.session.grant(new_key().did, scene.gets, ttl_s=60))


async def revocation(scene: Scene) -> Sent:
    """A revocation by a key."""
    return scene.to_itself({f"urn:cid:{token_id(scene.target)}": [REVOKE]}, proofs=())


async def wallet_revocation(scene: Scene) -> Sent:
    """A revocation by the wallet, which has no ReCap."""
    wallet = scene.owner.wallet
    message = SiweMessage(
        domain="app.example",
        address=wallet.address,
        chain_id=wallet.chain_id,
        uri=f"ucan:{token_id(scene.target)}",
        nonce=fresh_nonce(),
        issued_at=time_text(time.time()),
        expiration_time=time_text(time.time() + 60),
    )
    return Sent(header_text(encode_cacao(sign_cacao(message, wallet))))


async def status(scene: Scene) -> Sent:
    """A request for the status of a delegation."""
    return scene.to_itself({f"urn:cid:{token_id(scene.target)}": [STATUS]}, proofs=())


async def query(scene: Scene) -> Sent:
    """A request for an account's delegations."""
    grants = {f"{scene.owner.space()}/delegation": [LIST_DELEGATIONS]}
    return scene.to_itself(grants, proofs=scene.session.proofs[:1])


async def creation(scene: Scene) -> Sent:
    """A request to create a network."""
    owner = scene.owner.client.session.owner
    return scene.administration("second", NETWORK_CREATE, {"name": "second", "ownerDid": owner})


async def network_revocation(scene: Scene) -> Sent:
    """A request to revoke a network."""
    return scene.administration("second", NETWORK_REVOKE, {})


async def decrypt(scene: Scene) -> Sent:
    """A request for a key."""
    asked = scene.held.decrypt(scene.session, scene.owner)
    return Sent(asked.token, asked.body)


async def session(scene: Scene) -> Sent:
    """A request for an attestation session."""
    held, who = scene.held, scene.session
    nonce = await held.nonce(who.did)
    quote = held.quote(who.did, who.receiver.public_key, nonce)
    return Sent(*held.session_request(who, scene.owner.network, nonce=nonce, quote=quote))


async def policy(scene: Scene) -> Sent:
    """A request to state the owner's policy."""
    return scene.bound("default", SET_POLICY, POLICY_FACT, policy_json(Policy()))


async def withdrawal(scene: Scene) -> Sent:
    """A request to withdraw a backend."""
    return scene.bound("default", SET_POLICY, WITHDRAWAL_FACT, {"did": new_key().did})


async def key_change(scene: Scene) -> Sent:
    """A request for a candidate for the network's next key."""
    body: Json = {"action": "candidate", "nonce": "A" * 22}
    return scene.bound("default", SET_POLICY, KEYS_FACT, body)


async def receipts(scene: Scene) -> Sent:
    """A request for receipts."""
    return scene.to_node({scene.owner.network: [READ_RECEIPTS]})


async def policy_question(scene: Scene) -> Sent:
    """A request for the owner's policy."""
    return scene.to_node({scene.owner.network: [SET_POLICY]})


async def paths_question(scene: Scene) -> Sent:
    """A request for the paths of a content key."""
    return scene.to_node({scene.owner.network: [DECRYPT]})


KINDS: dict[str, Callable[[Scene], Awaitable[Sent]]] = {
    "delegation": grant,
    "delegation to oneself": grant_to_itself,
    "sign-in": sign_in,
    "call": call,
    "call to the node": call_to_the_node,
    "call to another node": call_to_another_node,
    "revocation": revocation,
    "wallet's revocation": wallet_revocation,
    "status question": status,
    "query": query,
    "network creation": creation,
    "network revocation": network_revocation,
    "decrypt request": decrypt,
    "session request": session,
    "policy": policy,
    "withdrawal": withdrawal,
    "key change": key_change,
    "receipts question": receipts,
    "policy question": policy_question,
    "paths question": paths_question,
}

# --- routes ---------------------------------------------------------------------------------------


Body = Callable[[Scene], Awaitable[bytes | None]]


@dataclass(frozen=True)
class Place:
    """A route with its address, its body, its network and its query."""

    method: str
    path: str
    body: Body
    network: str = "default"
    query: str = ""

    def path_on(self, scene: Scene) -> str:
        """Return the path with the scene's values filled in."""
        head, _, leaf = self.path.partition("{network}/")
        if not leaf:
            return head
        path = network_path(scene.network(self.network), leaf.format(digest="00" * 32))
        return path + self.query


async def no_body(_: Scene) -> bytes | None:
    """Return no body."""
    return None


def body_of(kind: Callable[[Scene], Awaitable[Sent]]) -> Body:
    """Return a body that the route accepts."""

    async def body(scene: Scene) -> bytes | None:
        return (await kind(scene)).body

    return body


async def asked_cid(scene: Scene) -> bytes | None:
    """Return the delegation that is asked about."""
    return canonical_bytes({"cid": token_id(scene.target)})


async def no_filters(_: Scene) -> bytes | None:
    """Return filters that select all delegations."""
    return b"{}"


async def asked_value(scene: Scene) -> bytes | None:
    """Return the value that a URL is requested for."""
    return json.dumps({"space": scene.owner.space(), "path": _PATH}).encode()


_NETWORK = "/encryption/networks/{network}"
PLACES: dict[str, Place] = {
    "/delegate": Place("POST", "/delegate", no_body),
    "/invoke": Place("POST", "/invoke", body_of(decrypt)),
    "/signed/kv": Place("POST", "/signed/kv", asked_value),
    "/revoke": Place("POST", "/revoke", no_body),
    "/delegation/status": Place("POST", "/delegation/status", asked_cid),
    "/delegation/query": Place("POST", "/delegation/query", no_filters),
    "/encryption/networks": Place("POST", "/encryption/networks", body_of(creation)),
    "…/revoke": Place("POST", f"{_NETWORK}/revoke", no_body, "second"),
    "…/decrypt": Place("POST", f"{_NETWORK}/decrypt", body_of(decrypt)),
    "…/policy": Place("PUT", f"{_NETWORK}/policy", body_of(policy)),
    "GET …/policy": Place("GET", f"{_NETWORK}/policy", no_body),
    "…/paths": Place("GET", f"{_NETWORK}/paths", no_body, query="?key=AAAA"),
    "…/withdraw": Place("POST", f"{_NETWORK}/withdraw", body_of(withdrawal)),
    "…/keys": Place("POST", f"{_NETWORK}/keys", body_of(key_change)),
    "…/usage": Place("GET", f"{_NETWORK}/usage", no_body, query="?keyVersion=1"),
    "…/receipts": Place("GET", f"{_NETWORK}/receipts", no_body),
    "…/receipts/<digest>": Place("GET", f"{_NETWORK}/receipts/{{digest}}", no_body),
    "…/fetches": Place("GET", f"{_NETWORK}/fetches", no_body),
    "/attestation/sessions": Place("POST", "/attestation/sessions", body_of(session)),
}


async def rows(scene: Scene) -> dict[bytes, tuple[bytes | None, bytes]]:
    """Return every row that a request could have written, with its stamp."""
    ranges = [Range(bytes([prefix]), limit=4096) for prefix in _KEPT]
    pages = (await scene.held.store.read(ranges=ranges)).pages
    assert not any(page.more for page in pages)
    return {key: (record.value, record.stamp) for page in pages for key, record in page.rows}


# --- the table ------------------------------------------------------------------------------------


def table() -> dict[str, dict[str, str]]:
    """Return the page's table as kind to route to cell."""
    section = _PAGE.read_text().partition("### 2.8 ")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("|")]
    (_, *routes), _, *kinds = [[cell.strip().strip("`") for cell in line] for line in lines]
    return {kind: dict(zip(routes, cells, strict=True)) for kind, *cells in kinds}


TABLE = table()


def cell_of(reply: Reply, place: str, *, wrote: bool) -> str:
    """Return an answer in the terms of the table."""
    # the latter: the token served, and named nothing
    if reply.status < 300 or "document-unknown" in reply.text:
        if place == "/invoke" and not reply.body:
            return "idle"
        return "yes"
    assert not wrote, (place, reply.said)
    return "no" if reply.said == OTHER_KIND else str(reply.status)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_kind_on_every_route(held: HeldStage, kind: str) -> None:
    """Each route accepts or refuses a kind of token as the table says (T8 to T12)."""
    scene = await scene_on(held, kind)
    found: dict[str, str] = {}
    # What a token may do it does last: a network that is revoked would be the reason for what comes
    # after.
    for place in sorted(PLACES, key=lambda one: TABLE[kind][one] == "yes"):
        sent, where = await KINDS[kind](scene), PLACES[place]
        # The token is all that may be wrong: the body is the one that it is bound to, or one that
        # the route takes.
        body = sent.body if sent.body and TABLE[kind][place] == "yes" else await where.body(scene)
        before = await rows(scene)
        reply = await send(
            held.url, where.method, where.path_on(scene), token=sent.token, body=body
        )
        cell = cell_of(reply, place, wrote=await rows(scene) != before)
        is_grant = place == "/delegate" and kind not in (
            "delegation",
            "delegation to oneself",
            "sign-in",
        )
        found[place] = "shape" if cell == "yes" and is_grant else cell
        if found[place] == "shape":  # and from then on it is a delegation
            assert (await send(held.url, "POST", "/invoke", token=sent.token)).said == OTHER_KIND
    assert found == TABLE[kind]


def test_the_table_is_whole() -> None:
    """The table has every kind and every route that reads a token."""
    assert list(TABLE) == list(KINDS)
    for kind, cells in TABLE.items():
        assert list(cells) == list(PLACES)
        assert ("yes" in cells.values()) == (kind != "call to another node")
    reading = {
        (one.method, one.path)
        for one in ALL_ROUTES
        if "token_of(" in inspect.getsource(one.handler)
    }
    assert reading == {(place.method, place.path) for place in PLACES.values()}
    pairs = sum(map(len, TABLE.values()))
    print(f"{len(KINDS)} kinds on {len(PLACES)} routes: {pairs} pairs")
    assert pairs == 20 * 19
