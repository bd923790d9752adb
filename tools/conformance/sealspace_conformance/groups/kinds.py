"""Every kind of token at every route that reads one (capabilities §2.8)."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sealspace_conformance.encodings import b64, sha256_of
from sealspace_conformance.envelopes import CREATE, DECRYPT, REVOKE
from sealspace_conformance.expectations import Expectation, empty, status, text
from sealspace_conformance.groups.delegations import GET
from sealspace_conformance.groups.keys_on_request import Desk, network_key
from sealspace_conformance.groups.networks import NETWORKS, Administration
from sealspace_conformance.groups.owned_rules import POLICY, RECEIPTS, sealspace_owner, statement
from sealspace_conformance.groups.sign_in import ANOTHER_KIND
from sealspace_conformance.keys import new_key
from sealspace_conformance.run import Blocked, Owner, Run, fresh_name
from sealspace_conformance.tokens import SignIn, Token, plain, wallet_revocation

FIRST = "kinds"
SECOND = "kinds-second"
_JSON = {"content-type": "application/json"}

_CANDIDATE = {"action": "candidate", "nonce": "A" * 22}
"""A request for the next key of a network, which changes nothing that is used."""
_WRAPPED_KEY = "A" * 124
"""93 bytes that no network opens."""

ROUTES = (
    "/delegate",
    "/invoke",
    "/signed/kv",
    "/revoke",
    "/delegation/status",
    "/delegation/query",
    "/encryption/networks",
    "…/revoke",
    "…/decrypt",
    "…/policy",
    "GET …/policy",
    "…/paths",
    "…/withdraw",
    "…/keys",
    "…/usage",
    "…/receipts",
    "…/receipts/<digest>",
    "…/fetches",
    "/attestation/sessions",
)

_CELLS = """
delegation           |yes no no 401 no 403 401 401 401 401 401 401 401 401 401 401 401 401 401
delegation to oneself|yes no no 401 403 403 401 401 401 401 401 401 401 401 401 401 401 401 401
sign-in              |yes 401 401 401 401 401 401 401 401 401 401 401 401 401 401 401 401 401 401
call                 |shape yes yes 401 403 403 401 401 401 401 401 401 401 401 401 401 401 401 401
call to the node     |no yes yes 401 403 403 400 400 400 403 403 403 403 403 403 403 403 403 403
call to another node |shape no no 401 no 403 401 401 401 401 401 401 401 401 401 401 401 401 401
revocation           |401 no no yes 403 403 401 401 401 401 401 401 401 401 401 401 401 401 401
wallet's revocation  |no 401 401 yes 401 401 401 401 401 401 401 401 401 401 401 401 401 401 401
status question      |401 no no no yes 403 401 401 401 401 401 401 401 401 401 401 401 401 401
query                |shape idle 403 401 403 yes 401 401 401 401 401 401 401 401 401 401 401 401 401
network creation     |no no no 401 403 403 yes 401 400 403 403 403 403 403 403 403 403 403 403
decrypt request      |no yes no 401 403 403 400 400 yes 403 403 403 403 403 403 403 403 403 403
session request      |no 403 no 401 403 403 400 400 400 403 403 401 403 403 403 403 403 403 yes
policy               |no no no 401 403 403 400 400 400 yes 401 403 403 403 401 403 403 403 403
withdrawal           |no no no 401 403 403 400 400 400 403 401 403 yes 403 401 403 403 403 403
receipts question    |no no no 401 403 403 400 400 400 403 403 403 403 403 403 yes yes yes 403
policy question      |no no no 401 403 403 400 400 400 403 yes 403 403 403 yes 403 403 403 403
key change           |no no no 401 403 403 400 400 400 403 401 403 403 yes 401 403 403 403 403
paths question       |no 403 no 401 403 403 400 400 400 403 403 yes 403 403 403 403 403 403 403
network revocation   |no no no 401 403 403 401 yes 400 403 403 403 403 403 403 403 403 403 403
"""


def table() -> dict[str, dict[str, str]]:
    """Return the cells by kind and route. A network is created first and revoked last."""
    found = {}
    for line in _CELLS.strip().splitlines():
        kind, _, cells = line.partition("|")
        found[kind.strip()] = dict(zip(ROUTES, cells.split(), strict=True))
    return found


@dataclass(frozen=True)
class Sent:
    """A token and the body that it is bound to; None: any body that the route accepts."""

    token: Token
    body: Any = None


class Scene:
    """An owner with a value, a network and a grant, and tokens of each kind."""

    def __init__(self, run: Run, owner: Owner, desk: Desk, target: Token) -> None:
        self.run = run
        self.owner = owner
        self.desk = desk
        self.target = target
        self.path = fresh_name()
        self.second = Administration(run, owner, SECOND)

    @property
    def gets(self) -> dict[str, Any]:
        """The right to read the value."""
        return {f"{self.owner.space()}/kv/{self.path}": plain(GET)}

    def signed(self, grants: Mapping[str, Any], audience: str, **changes: Any) -> Token:
        """Return a token of the session."""
        contents: dict[str, Any] = {"proofs": [self.owner.sign_in], **changes}
        return self.run.call(self.owner.session, grants, audience=audience, **contents)

    async def registered(self, audience: str) -> Sent:
        """Return a delegation of the session's that is registered."""
        token = self.signed(self.gets, audience, lifetime_s=200)
        await self.run.prepare("a delegation", token)
        return Sent(token)

    async def sign_in(self) -> Sent:
        """Return a sign-in that is registered."""
        token = SignIn(
            wallet=self.owner.wallet,
            audience=self.owner.session.url,
            grants={f"{self.owner.space()}/kv": plain(GET)},
            issued_at=self.run.now(),
            ends_at=self.run.now() + 600,
        ).sign()
        await self.run.prepare("a sign-in", token)
        return Sent(token)

    def about_target(self, ability: str) -> Sent:
        """Return a token about the target, as its delegator signs it."""
        rights = {f"urn:cid:{self.target.cid}": plain(ability)}
        return Sent(self.signed(rights, self.owner.session.did, proofs=[]))

    def on_network(self, ability: str) -> Sent:
        """Return a token to the node with one right to the network."""
        return Sent(self.signed({self.desk.network: plain(ability)}, self.run.did))

    def stated(self, kind: str, body: Any) -> Sent:
        """Return a policy or a withdrawal."""
        return Sent(statement(self.run, self.desk, kind, body), body)

    def session_request(self) -> Sent:
        """Return a request for an attestation session, with a quote that is none."""
        body = _session_body(self.desk)
        fact = {
            "type": "sealspace.attestation.session/v1",
            "nonce": "A" * 43,
            "bodyHash": sha256_of(body),
        }
        rights = {self.desk.network: plain(DECRYPT)}
        return Sent(self.signed(rights, self.run.did, facts=[fact]), body)

    async def token(self, kind: str) -> Sent:
        """Return a new token of a kind."""
        session = self.owner.session.did
        query = {f"{self.owner.space()}/delegation": plain("tinycloud.delegation/list")}
        made: dict[str, Callable[[], Sent]] = {
            "call": lambda: Sent(self.signed(self.gets, session)),
            "call to the node": lambda: Sent(self.signed(self.gets, self.run.did)),
            "call to another node": lambda: Sent(self.signed(self.gets, new_key().did)),
            "revocation": lambda: self.about_target("tinycloud.delegation/revoke"),
            "wallet's revocation": lambda: Sent(
                wallet_revocation(self.owner.wallet, self.target.cid, issued_at=self.run.now())
            ),
            "status question": lambda: self.about_target("tinycloud.delegation/status"),
            "query": lambda: Sent(self.signed(query, session)),
            "network creation": lambda: Sent(
                self.second.token(CREATE, self.second.body), self.second.body
            ),
            "network revocation": lambda: Sent(self.second.token(REVOKE, {}), {}),
            "decrypt request": lambda: Sent(self.desk.token(self.desk.body()), self.desk.body()),
            "session request": self.session_request,
            "policy": lambda: self.stated("sealspace.encryption.policy/v1", {}),
            "withdrawal": lambda: self.stated(
                "sealspace.encryption.withdrawal/v1", {"did": new_key().did}
            ),
            "key change": lambda: self.stated("sealspace.encryption.keys/v1", _CANDIDATE),
            "receipts question": lambda: self.on_network(RECEIPTS),
            "paths question": lambda: self.on_network(DECRYPT),
            "policy question": lambda: self.on_network(POLICY),
        }
        if kind == "delegation":
            return await self.registered(new_key().did)
        if kind == "delegation to oneself":
            return await self.registered(session)
        if kind == "sign-in":
            return await self.sign_in()
        return made[kind]()

    def place(self, route: str) -> tuple[str, str, Any]:
        """Return method, path and an acceptable body of a route; without a body None."""
        network = f"{NETWORKS}/{self.desk.network}"
        second = f"{NETWORKS}/{self.second.network}"
        value = {"space": self.owner.space(), "path": self.path}
        places: dict[str, tuple[str, str, Any]] = {
            "/invoke": ("POST", "/invoke", self.desk.body()),
            "/signed/kv": ("POST", "/signed/kv", value),
            "/delegation/status": ("POST", route, {"cid": self.target.cid}),
            "/delegation/query": ("POST", route, {}),
            "/encryption/networks": ("POST", route, self.second.body),
            "…/revoke": ("POST", f"{second}/revoke", {}),
            "…/decrypt": ("POST", f"{network}/decrypt", self.desk.body()),
            "…/policy": ("PUT", f"{network}/policy", {}),
            "GET …/policy": ("GET", f"{network}/policy", None),
            "…/paths": ("GET", f"{network}/paths?key={_WRAPPED_KEY}", None),
            "…/keys": ("POST", f"{network}/keys", _CANDIDATE),
            "…/usage": ("GET", f"{network}/usage?keyVersion=1", None),
            "…/withdraw": ("POST", f"{network}/withdraw", {"did": new_key().did}),
            "…/receipts": ("GET", f"{network}/receipts", None),
            "…/receipts/<digest>": ("GET", f"{network}/receipts/{'00' * 32}", None),
            "…/fetches": ("GET", f"{network}/fetches", None),
            "/attestation/sessions": ("POST", route, _session_body(self.desk)),
        }
        return places.get(route, ("POST", route, None))


def _session_body(desk: Desk) -> dict[str, Any]:
    return {
        "quote": b64(bytes(5000)),
        "eventLog": None,
        "receiverPublicKey": b64(desk.receiver.public),
        "receiverMode": "attested",
    }


def _expected(cell: str, route: str) -> Expectation:
    if cell == "no":
        return text(401, ANOTHER_KIND)
    if cell == "idle":
        return empty(200)
    if cell == "shape":
        return status(200)
    if cell != "yes":
        return status(int(cell))
    if route == "…/receipts/<digest>":
        # the token was accepted, and names nothing
        return status(404).and_that(
            "document-unknown", lambda answer: answer.object.get("code") == "document-unknown"
        )
    return status(200, 204)


async def kinds(run: Run) -> None:
    """Send each kind of token to each route."""
    owner = sealspace_owner(run)
    first = Administration(run, owner, FIRST)
    made = await run.node.send(
        "POST",
        NETWORKS,
        token=first.token(CREATE, first.body).text,
        body=json.dumps(first.body).encode(),
        headers=_JSON,
    )
    if made.status != 200:
        raise Blocked(f"the network {FIRST} was not created: {made.status} {made.text}")
    desk = Desk(run, owner, await network_key(run, owner, FIRST), FIRST)
    for kind, cells in table().items():
        target = run.grant(
            owner.session,
            new_key(),
            {f"{owner.space()}/kv/{fresh_name()}": plain(GET)},
            proofs=[owner.sign_in],
        )
        await run.prepare("a delegation", target)
        scene = Scene(run, owner, desk, target)
        await run.prepare("a value", run.kv_call("put", scene.path), body=b"value")
        await _kind(run, scene, kind, cells)


async def _kind(run: Run, scene: Scene, kind: str, cells: Mapping[str, str]) -> None:
    # What a token is for comes last: a revoked network would be the reason for what follows.
    for route in sorted(ROUTES, key=lambda one: cells[one] == "yes"):
        cell = cells[route]
        asked = f"{kind} at {route}"
        if kind == "session request" and cell == "yes":
            # With an authority, `accepted-evidence` opens sessions.
            if run.authority is None:
                run.not_applicable("T8", asked, "the kit has no quote of a trust domain")
            continue
        sent = await scene.token(kind)
        method, path, body = scene.place(route)
        if cell == "yes" and sent.body is not None:
            body = sent.body
        await run.ask(
            _rule(cell),
            asked,
            _expected(cell, route),
            method,
            path,
            token=sent.token,
            body=None if body is None else json.dumps(body).encode(),
            headers=None if body is None else _JSON,
        )


def _rule(cell: str) -> str:
    return "T12" if cell == "no" else "2.8"
