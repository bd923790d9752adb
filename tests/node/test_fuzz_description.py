"""Fuzz tests of requests generated from the OpenAPI description.

The requests fit the description or nearly do. Most are signed by an authorised caller, so that they
reach operations and not only parsers.
"""

import itertools
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
import requests
import schemathesis
from conformance.minting import Grants, key_token
from hypothesis import given
from hypothesis import strategies as st
from openapi_checks import DOCUMENT, closed, openapi_mismatch
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from serving_node import node_in_a_thread
from tests_support import CountingEntropy, FixedClock, fuzzed
from wire_replay import token_id

from capabilities.abilities import (
    DECRYPT,
    NETWORK_CREATE,
    NETWORK_REVOKE,
    READ_RECEIPTS,
    SET_POLICY,
)
from capabilities.facts import KEYS_FACT, POLICY_FACT, WITHDRAWAL_FACT
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_hash
from encryption_network.keywrap import wrap
from encryption_network.network_errors import EncryptionError
from encryption_network.requests import admin_fact, decrypt_body_json, decrypt_fact
from node.config.tree import Admin, Config, Http, Limits, PublicSpaces, Release, Store

NOW = 1_795_000_000.0
OWNER = Ed25519Signer(b"\x31" * 32)
FRIEND = Ed25519Signer(b"\x32" * 32)
SPACE = f"tinycloud:{OWNER.did[4:]}:default"
PUBLIC = f"tinycloud:{OWNER.did[4:]}:public"
NETWORK = f"urn:tinycloud:encryption:{OWNER.did}:default"
ENDED = f"urn:tinycloud:encryption:{OWNER.did}:ended"
ADMIN_SECRET = "the operator's"
_COUNT = itertools.count()
# A wrapped key that does not open is 500 in the protocol (EN17, rows 22 and 23).
_STATED_500 = "key backend error: "


@dataclass
class Desk:
    """A node with an owner's values and network, and a connection to it."""

    url: str
    node_did: str
    session: requests.Session = field(default_factory=requests.Session)
    grant: str = ""
    ticket: str = ""
    wrapped_key: str = ""

    def token(
        self, grants: Grants, *facts: Json, to_node: bool = True, signer: Ed25519Signer = OWNER
    ) -> str:
        """Return a token by the owner, for the node or the owner."""
        return key_token(
            signer,
            audience=self.node_did if to_node else signer.did,
            grants=grants,
            expires_at=NOW + 60,
            nonce=f"description{next(_COUNT)}",
            facts=facts,
        )

    def post(
        self, path: str, token: str, body: Json = None, data: bytes | None = None
    ) -> requests.Response:
        """Send a request that prepares the tests."""
        reply = self.session.post(
            self.url + path, headers={"Authorization": token}, json=body, data=data
        )
        assert reply.ok, reply.text
        return reply

    def admin(self, network: str, action: str, body: Any) -> str:
        """Return a token that creates or revokes a network."""
        fact = admin_fact(network, target_node=self.node_did, action=action, body=body)
        return self.token({network: [action]}, fact)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A node on which every route can find something."""
    config = Config(
        http=Http(port=0, drain_s=0),
        store=Store(data=str(tmp_path_factory.mktemp("node"))),
        limits=Limits(challenges_per_minute=1_000_000, unauthenticated_per_minute=0),
        public_spaces=PublicSpaces(requests_per_minute=0),
        release=Release(attestation="off"),
        admin=Admin(secret=ADMIN_SECRET),
    )
    with node_in_a_thread(config, FixedClock(NOW)) as node:
        desk = Desk(node.url, node.services.keyring.node_did)
        for space in (SPACE, PUBLIC):
            desk.post("/invoke", desk.token({f"{space}/kv/a": ["tinycloud.kv/put"]}), data=b"value")
        for network in (NETWORK, ENDED):
            body: Json = {"name": network.rpartition(":")[2], "ownerDid": OWNER.did}
            desk.post("/encryption/networks", desk.admin(network, NETWORK_CREATE, body), body)
        network_key = desk.session.get(
            f"{desk.url}/encryption/networks/{quote(NETWORK, safe='')}"
        ).json()["descriptor"]
        public_key = b64decode(network_key["publicEncryptionKey"])
        desk.wrapped_key = b64encode(wrap(public_key, bytes(32), CountingEntropy())).decode()
        path = f"/encryption/networks/{quote(ENDED, safe='')}/revoke"
        desk.post(path, desk.admin(ENDED, NETWORK_REVOKE, {}))
        desk.grant = key_token(
            OWNER,
            audience=FRIEND.did,
            grants={f"{SPACE}/kv": ["tinycloud.kv/get"]},
            expires_at=NOW + 3600,
        )
        desk.post("/delegate", desk.grant)
        reading = desk.token({f"{SPACE}/kv/a": ["tinycloud.kv/get"]})
        desk.ticket = desk.post("/signed/kv", reading, {"space": SPACE, "path": "a"}).json()[
            "ticketId"
        ]
        with desk.session:
            yield desk


# --- tokens that bind a request -------------------------------------------------------------------

CALLS: tuple[Grants, ...] = (
    *(
        {f"{SPACE}/kv/a": [f"tinycloud.kv/{name}"]}
        for name in ("get", "put", "del", "metadata", "list")
    ),
    {f"{SPACE}/kv/b": ["tinycloud.kv/get"]},
    {f"{SPACE}/kv/": ["tinycloud.kv/list"]},
    {f"{SPACE}/kv/a": ["tinycloud.kv/get"], f"{PUBLIC}/kv/a": ["tinycloud.kv/get"]},
    {f"{SPACE}/kv/a": ["tinycloud.kv/put"], f"{SPACE}/kv/c": ["tinycloud.kv/del"]},
    {f"{SPACE}/capabilities/all": ["tinycloud.capabilities/read"]},
    {f"{SPACE}/space": ["tinycloud.space/list"]},
    {f"{SPACE}/space/other": ["tinycloud.space/create"]},
    {f"{SPACE}/space/default": ["tinycloud.space/info"]},
    {},
)


def _cid(body: Any) -> str:
    named = body.get("cid") if isinstance(body, dict) else None
    return named if isinstance(named, str) and named.isascii() and named.isalnum() else "x"


def _created(desk: Desk, body: Any) -> str:
    named = body.get("name") if isinstance(body, dict) else None
    name = named if isinstance(named, str) and named.isalnum() else "x"
    network = f"urn:tinycloud:encryption:{OWNER.did}:{name}"
    return desk.admin(network, NETWORK_CREATE, body)


def _whole(desk: Desk) -> dict[str, Json]:
    return decrypt_body_json(
        NETWORK,
        target_node=desk.node_did,
        alg="x25519-aes256gcm/v1",
        key_version=1,
        encrypted_symmetric_key=desk.wrapped_key,
        receiver_public_key=b"\x09" + bytes(31),
    )


def _decrypting(desk: Desk, body: Any) -> str:
    stated = {**_whole(desk), **body} if isinstance(body, dict) else _whole(desk)
    fact = decrypt_fact(stated) | {"bodyHash": canonical_hash(body)}
    return desk.token({NETWORK: [DECRYPT]}, fact)


def _bound(desk: Desk, ability: str, fact_type: str, body: Any) -> str:
    fact: Json = {
        "type": fact_type,
        "targetNode": desk.node_did,
        "networkId": NETWORK,
        "bodyHash": canonical_hash(body),
    }
    return desk.token({NETWORK: [ability]}, fact)


def _session(desk: Desk, body: Any) -> str:
    reply = desk.session.post(f"{desk.url}/attestation/challenge", json={"did": OWNER.did}).json()
    fact = {
        "type": "sealspace.attestation.session/v1",
        "nonce": reply["nonce"],
        "bodyHash": canonical_hash(body),
    }
    return desk.token({NETWORK: [DECRYPT]}, fact)


SIGNED: dict[str, Callable[[Desk, Any, int], str]] = {
    "/invoke": lambda desk, body, at: desk.token(CALLS[at % len(CALLS)], to_node=at % 2 == 0),
    "/delegate": lambda desk, body, at: key_token(
        OWNER,
        audience=FRIEND.did,
        grants=CALLS[at % len(CALLS)],
        expires_at=NOW + 60,
        nonce=str(next(_COUNT)),
    ),
    "/revoke": lambda desk, body, at: desk.token(
        {f"urn:cid:{token_id(desk.grant)}": ["tinycloud.delegation/revoke"]}
    ),
    "/delegation/status": lambda desk, body, at: desk.token(
        {f"urn:cid:{_cid(body)}": ["tinycloud.delegation/status"]}
    ),
    "/delegation/query": lambda desk, body, at: desk.token(
        {f"{SPACE}/delegation": ["tinycloud.delegation/list"]}
    ),
    "/encryption/networks": lambda desk, body, at: _created(desk, body),
    "/encryption/networks/{network}/decrypt": lambda desk, body, at: _decrypting(desk, body),
    "/encryption/networks/{network}/revoke": lambda desk, body, at: desk.admin(
        ENDED, NETWORK_REVOKE, {}
    ),
    "GET /encryption/networks/{network}/policy": lambda desk, body, at: desk.token(
        {NETWORK: [SET_POLICY]}
    ),
    "/encryption/networks/{network}/paths": lambda desk, body, at: desk.token({NETWORK: [DECRYPT]}),
    "/encryption/networks/{network}/policy": lambda desk, body, at: _bound(
        desk, SET_POLICY, POLICY_FACT, body
    ),
    "/encryption/networks/{network}/withdraw": lambda desk, body, at: _bound(
        desk, SET_POLICY, WITHDRAWAL_FACT, body
    ),
    "POST /encryption/networks/{network}/keys": lambda desk, body, at: _bound(
        desk, SET_POLICY, KEYS_FACT, body
    ),
    "/encryption/networks/{network}/usage": lambda desk, body, at: desk.token(
        {NETWORK: [SET_POLICY]}
    ),
    "/encryption/networks/{network}/receipts": lambda desk, body, at: desk.token(
        {NETWORK: [READ_RECEIPTS]}
    ),
    "/encryption/networks/{network}/fetches": lambda desk, body, at: desk.token(
        {NETWORK: [READ_RECEIPTS]}
    ),
    "/encryption/networks/{network}/receipts/{digest}": lambda desk, body, at: desk.token(
        {NETWORK: [READ_RECEIPTS]}
    ),
    "/attestation/sessions": lambda desk, body, at: _session(desk, body),
    "/signed/kv": lambda desk, body, at: desk.token({f"{SPACE}/kv/a": ["tinycloud.kv/get"]}),
}


# --- generated requests ---------------------------------------------------------------------------

OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]
# What leads somewhere: generated texts name nothing that there is.
PARAMETERS = {
    "network": [NETWORK, ENDED, NETWORK, f"{NETWORK}er"],
    "space": [PUBLIC, SPACE],
    "key": ["a"],
    "digest": ["0" * 64],
    "name": ["default", "ended"],
    "ownerDid": [OWNER.did],
    "fmspc": ["00806f050000"],
    "ca": ["platform"],
    "limit": ["1", "0"],
    "If-None-Match": ["*"],
    "Range": ["bytes=1-2", "bytes=9-"],
}
MEMBERS: dict[str, Callable[[Desk], dict[str, Json]]] = {
    "/delegation/status": lambda desk: {"cid": token_id(desk.grant)},
    "/delegation/query": lambda desk: {"cursor": None, "space": "default"},
    "/encryption/networks": lambda desk: {
        "ownerDid": OWNER.did,
        "name": f"n{next(_COUNT)}",
        "threshold": {"n": 1, "t": 1},
    },
    "/encryption/networks/{network}/decrypt": lambda desk: _whole(desk),
    "/encryption/networks/{network}/policy": lambda desk: {"receiver": "signed"},
    "/attestation/challenge": lambda desk: {"did": OWNER.did},
    "/attestation/sessions": lambda desk: {
        "quote": "AAAA",
        "receiverPublicKey": b64encode(bytes(32)).decode(),
    },
    "/signed/kv": lambda desk: {"space": SPACE, "path": "a", "ttlSeconds": 60, "ttl_seconds": None},
    "/admin/quota/{space}": lambda desk: {"limit_bytes": 1 << 30},
}
SCHEMA = schemathesis.openapi.from_dict(closed(DOCUMENT))


def _led_somewhere(desk: Desk, case: Any, path: str, at: int) -> None:
    """Put existing ids into some places of a request."""
    for named in (case.path_parameters, case.query, case.headers):
        for name in named or ():
            if (known := PARAMETERS.get(name)) is not None and at % 4:
                named[name] = known[at // 4 % len(known)]
    if path == "/invoke" and at % 4:
        case.headers.clear()
    if "ticket" in path and at % 4:
        case.path_parameters["ticket"] = desk.ticket
    if path in MEMBERS and isinstance(case.body, dict) and at % 4:
        members = MEMBERS[path](desk)
        case.body = members if at % 4 == 1 else {**case.body, **members}
    if path.endswith("/withdraw") and at % 4 == 1:
        case.body = {"evidence": f"{next(_COUNT):064x}"}


def _authorization(
    desk: Desk, operation: dict[str, Any], path: str, method: str, body: Any, at: int
) -> str | None:
    """Return an authorised caller's header; None if not required or not signable."""
    if {"operator": []} in operation["security"]:
        return f"Bearer {ADMIN_SECRET}"
    sign = SIGNED.get(f"{method.upper()} {path}", SIGNED.get(path))
    try:
        return None if sign is None else sign(desk, body, at)
    except (EncryptionError, ValueError, TypeError):
        return None


@pytest.mark.parametrize(
    ("path", "method"), OPERATIONS, ids=[f"{method} {path}" for path, method in OPERATIONS]
)
@fuzzed(1 / 10)
@given(st.data())
def test_fuzz_description(desk: Desk, path: str, method: str, data: st.DataObject) -> None:
    """Any request that the description allows is answered as described, without a fault."""
    case = data.draw(SCHEMA[path][method.upper()].as_strategy())
    at = data.draw(st.integers(0, 63))
    _led_somewhere(desk, case, path, at)
    body = None if case.body.__class__.__name__ == "NotSet" else case.body
    signed = (
        _authorization(desk, DOCUMENT["paths"][path][method], path, method, body, at)
        if at
        else None
    )
    headers = {} if signed is None else {"Authorization": signed}
    response = case.call(base_url=desk.url, session=desk.session, headers=headers)
    answer = DOCUMENT["paths"][path][method]["responses"].get(str(response.status_code), {})
    # it has the type that it was stored with, whatever its bytes are
    is_value = "*/*" in answer.get("content", {})
    checks = [status_code_conformance, *([] if is_value else [response_schema_conformance])]
    case.validate_response(response, checks=checks)
    assert response.status_code < 500 or _STATED_500 in response.text
    target = response.request.path_url
    named = {name.lower(): text[0] for name, text in response.headers.items()}
    assert (
        openapi_mismatch(method.upper(), target, response.status_code, named, response.content)
        == ""
    )
