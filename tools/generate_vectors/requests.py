"""Vectors of requests about a network: for a key with the node's signed answer, and to create or
revoke."""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import nacl.bindings

from .cases import Case, Documents
from .minting import NOW, Jwt, Token, plain
from .sealing import (
    ALG,
    CONTENT_KEY,
    EPHEMERAL,
    NETWORK,
    NETWORK_KEY,
    NODE,
    NODE_SEED,
    NONCE,
    OWNER,
    RECEIVER,
    SECRET,
    WRAPPED,
    b64,
    canonical,
    hash_of,
    public_of,
    signing_key,
    wrap_key,
)

_OTHER_NETWORK = f"urn:tinycloud:encryption:{OWNER.did}:other"
_ANSWER_EPHEMERAL, _ANSWER_NONCE = bytes([0x53]) * 32, bytes([0x04]) * 12
_DECRYPT = "tinycloud.encryption/decrypt"
_CREATE = "tinycloud.encryption/network.create"
_REQUEST, _RESULT = "tinycloud.encryption.decrypt/v1", "tinycloud.encryption.decrypt-result/v1"
_ADMIN = "tinycloud.encryption.network-admin/v1"


def documents() -> Documents:
    """Return the vectors of each file: description, cases, and shared values."""
    return {
        "decrypt": ("requests for a key, up to the node's answer", _decrypts(), _CONTEXT),
        "admin": ("requests to create and revoke a network", _admin(), {"node_did": NODE}),
    }


def _body(**changes: Any) -> dict[str, Any]:
    wrapped, receiver = b64(WRAPPED), b64(public_of(RECEIVER))
    members = {
        "type": _REQUEST,
        "targetNode": NODE,
        "networkId": NETWORK,
        "alg": ALG,
        "keyVersion": 1,
        "encryptedSymmetricKey": wrapped,
        "encryptedSymmetricKeyHash": hash_of(wrapped),
        "receiverPublicKey": receiver,
        "receiverPublicKeyHash": hash_of(receiver),
    }
    return {name: value for name, value in (members | changes).items() if value is not None}


def _fact(body: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    same = (
        "targetNode",
        "networkId",
        "encryptedSymmetricKeyHash",
        "receiverPublicKeyHash",
        "alg",
        "keyVersion",
    )
    members = {
        "type": _REQUEST,
        "bodyHash": hash_of(body),
        **{name: body.get(name) for name in same},
    }
    return {name: value for name, value in (members | changes).items() if value is not None}


class _Request:
    """An ordinary request of the owner, altered in one place."""

    def __init__(self, name: str, rules: str) -> None:
        self.name, self.rules = name, rules
        self.body: Any = _body()
        self.fact: dict[str, Any] = {}
        self.facts: list[Any] | None = None
        self.token: dict[str, Any] = {}
        self.path = NETWORK
        self.state: str | None = "active"
        self.now: float = NOW
        self.text: str | None = None

    def case(self, expect: dict[str, Any]) -> Case:
        """Return the case with its token."""
        body = self.body if isinstance(self.body, dict) else _body()
        facts = self.facts if self.facts is not None else [_fact(body, **self.fact)]
        token = self.mint(facts)
        given: Case = {"path": self.path, "now": self.now, "token": token.header}
        given["body"] = json.dumps(self.body) if self.text is None else self.text
        given["network"] = None if self.state is None else {"id": NETWORK, "state": self.state}
        ending = "_fail" if "code" in expect else ""
        return {"name": self.name + ending, "rules": self.rules.split(), **given, "expect": expect}

    def mint(self, facts: list[Any]) -> Token:
        """Return the token that binds the facts."""
        att = {NETWORK: plain(_DECRYPT)}
        members: dict[str, Any] = {
            "issuer": OWNER,
            "audience": NODE,
            "att": att,
            "fct": facts,
            "nonce": self.name,
        }
        return Jwt(**members | self.token).mint()


def _answer(request: _Request) -> dict[str, Any]:
    case = request.case({})
    cid = Token(case["token"], case["token"].encode()).cid
    wrapped = wrap_key(public_of(RECEIVER), CONTENT_KEY, _ANSWER_EPHEMERAL, _ANSWER_NONCE)
    body = json.loads(case["body"])
    answer = {
        "type": _RESULT,
        "targetNode": NODE,
        "networkId": NETWORK,
        "invocationCid": cid,
        "encryptedSymmetricKeyHash": body["encryptedSymmetricKeyHash"],
        "receiverPublicKeyHash": body["receiverPublicKeyHash"],
        "wrappedKey": b64(wrapped),
        "alg": ALG,
        "keyVersion": 1,
        "requestHash": hashlib.sha256((cid + hash_of(body)).encode()).hexdigest(),
        "nodeId": NODE,
    }
    secret = signing_key(NODE_SEED)[1]
    answer["nodeSignature"] = b64(nacl.bindings.crypto_sign(canonical(answer), secret)[:64])
    return answer


def _refusal(
    code: str, status: int, text: str | None = None, invoke_text: str | None = None
) -> dict[str, Any]:
    expect: dict[str, Any] = {"code": code, "status": status}
    if text is not None:
        expect |= {"text": text, "invoke_text": invoke_text or text}
    return expect


_MALFORMED = "decrypt request body is malformed: "
_BODY_HASH_TEXT = "invocation hash mismatch: bodyHash"
_TYPE_TEXT = "invocation type is not a decrypt invocation"
_NO_FACT = _refusal("body-malformed", 400, f"{_MALFORMED}missing encryption invocation facts")
_OTHER_NETWORK_REFUSAL = _refusal(
    "network-mismatch", 401, "invocation references a different network"
)
_VERSION = _refusal("version-mismatch", 401, "invocation alg / key version does not match network")
_BASE64 = _refusal("invalid-base64", 400, "hex decode error: invalid base64")
_EXPIRED = _refusal("expired", 401, "invocation expired")


def _decrypts() -> list[Case]:
    cases: list[Case] = []

    def add(
        name: str, rules: str, expect: dict[str, Any], change: Callable[[_Request], None]
    ) -> None:
        request = _Request(name, rules)
        change(request)
        cases.append(request.case(expect))

    def change_body(**members: Any) -> Callable[[_Request], None]:
        def change(request: _Request) -> None:
            request.body = _body(**members)

        return change

    def change_fact(**members: Any) -> Callable[[_Request], None]:
        def change(request: _Request) -> None:
            request.fact = members

        return change

    def attribute(name: str, value: Any) -> Callable[[_Request], None]:
        def change(request: _Request) -> None:
            setattr(request, name, copy.deepcopy(value))

        return change

    def answered(name: str, rules: str, change: Callable[[_Request], None]) -> None:
        request = _Request(name, rules)
        change(request)
        cases.append(request.case({"answer": _answer(request)}))

    def with_key(**members: str) -> Callable[[_Request], None]:
        hashes = {f"{name}Hash": hash_of(value) for name, value in members.items()}
        return change_body(**members, **hashes)

    lower = b64(WRAPPED)
    answered("owner", "EN17 EN20", lambda request: None)
    answered(
        "owner-body-in-other-order", "EN11", attribute("body", dict(reversed(_body().items())))
    )
    answered(
        "owner-second-fact-fits",
        "EN13",
        attribute("facts", ["x", {"type": _REQUEST}, _fact(_body())]),
    )
    add(
        "audience-of-another",
        "EN17",
        _refusal(
            "audience-mismatch", 401, "invocation audience does not match this node", _TYPE_TEXT
        ),
        attribute("token", {"audience": OWNER.did}),
    )
    add(
        "path-that-is-none",
        "EN3",
        _refusal("invalid-network-id", 400, "missing urn:tinycloud:encryption: prefix"),
        attribute("path", "urn:x"),
    )
    add("body-member-missing", "EN13", _refusal("body-malformed", 400), change_body(alg=None))
    add("body-member-unknown", "EN13", _refusal("body-malformed", 400), change_body(extra=1))
    add(
        "body-key-version-as-fraction",
        "EN13",
        _refusal("body-malformed", 400),
        change_body(keyVersion=1.5),
    )
    add(
        "body-as-list",
        "Q35",
        _refusal("body-malformed", 400),
        attribute("body", list(_body().values())),
    )
    add("body-no-json", "EN17", _refusal("body-not-json", 400), attribute("text", "{"))
    add(
        "body-network-that-is-none",
        "EN17",
        _refusal("body-malformed", 400, f"{_MALFORMED}missing urn:tinycloud:encryption: prefix"),
        change_body(networkId="urn:x"),
    )
    add("facts-missing", "EN17", _NO_FACT, attribute("facts", []))
    add("fact-member-unknown", "EN13", _NO_FACT, change_fact(extra=1))
    add("fact-member-missing", "EN13", _NO_FACT, change_fact(alg=None))
    add("fact-as-list", "Q35", _NO_FACT, attribute("facts", [list(_fact(_body()).values())]))
    add(
        "body-other-type", "EN17", _refusal("type-mismatch", 401, _TYPE_TEXT), change_body(type="x")
    )
    add(
        "fact-other-type", "EN17", _refusal("type-mismatch", 401, _TYPE_TEXT), change_fact(type="x")
    )
    target = _refusal(
        "target-node-mismatch", 401, "invocation target node does not match this node", _TYPE_TEXT
    )
    add("body-other-node", "EN17", target, change_body(targetNode=OWNER.did))
    add("fact-other-node", "EN17", target, change_fact(targetNode=OWNER.did))
    add("body-other-network", "EN17", _OTHER_NETWORK_REFUSAL, change_body(networkId=_OTHER_NETWORK))
    add("fact-other-network", "EN17", _OTHER_NETWORK_REFUSAL, change_fact(networkId=_OTHER_NETWORK))
    add("path-other-network", "EN17", _OTHER_NETWORK_REFUSAL, attribute("path", _OTHER_NETWORK))
    add(
        "no-decrypt-capability",
        "EN17",
        _refusal("action-not-permitted", 401, "decrypt action not permitted"),
        attribute("token", {"att": {NETWORK: plain(_CREATE)}}),
    )
    add(
        "capability-on-other-network",
        "EN17",
        _OTHER_NETWORK_REFUSAL,
        attribute("token", {"att": {_OTHER_NETWORK: plain(_DECRYPT)}}),
    )
    add(
        "network-unknown",
        "EN17",
        _refusal("network-not-found", 404, "network not found"),
        attribute("state", None),
    )
    add(
        "network-revoked",
        "EN7",
        _refusal(
            "network-revoked",
            401,
            "network has been revoked",
            "network is not active (state: revoked)",
        ),
        attribute("state", "revoked"),
    )
    add("key-version-2", "EN17", _VERSION, change_body(keyVersion=2))
    add("fact-key-version-2", "EN17", _VERSION, change_fact(keyVersion=2))
    add("alg-unknown", "EN17", _VERSION, change_body(alg="x"))
    add(
        "not-yet-valid",
        "EN17",
        _refusal("not-yet-valid", 401, "invocation not yet valid"),
        attribute("token", {"nbf": NOW + 10}),
    )
    add("expired", "EN17", _EXPIRED, attribute("token", {"exp": NOW - 1}))
    add("lives-301-seconds", "EN17", _EXPIRED, attribute("token", {"exp": NOW + 301}))
    add(
        "key-in-url-alphabet",
        "EN1",
        _BASE64,
        with_key(encryptedSymmetricKey=lower.replace("+", "-").replace("/", "_")),
    )
    add("key-with-newline", "EN1", _BASE64, with_key(encryptedSymmetricKey=lower + "\n"))
    add(
        "receiver-unpadded",
        "EN1",
        _BASE64,
        with_key(receiverPublicKey=b64(public_of(RECEIVER)).rstrip("=")),
    )
    receiver = b64(public_of(RECEIVER))
    spare = receiver[:-2] + chr(ord(receiver[-2]) + 1) + "="
    add("receiver-with-spare-bits", "EN1", _BASE64, with_key(receiverPublicKey=spare))
    mismatch = "invocation hash mismatch: "
    add(
        "receiver-replaced",
        "EN11",
        _refusal("hash-mismatch", 401, f"{mismatch}receiverPublicKeyHash", _BODY_HASH_TEXT),
        change_body(receiverPublicKey=b64(public_of(EPHEMERAL))),
    )
    add(
        "fact-receiver-hash-other",
        "EN11",
        _refusal("hash-mismatch", 401, f"{mismatch}receiverPublicKeyHash", _BODY_HASH_TEXT),
        change_fact(receiverPublicKeyHash="0" * 64),
    )
    add(
        "fact-key-hash-other",
        "EN11",
        _refusal("hash-mismatch", 401, f"{mismatch}encryptedSymmetricKeyHash", _BODY_HASH_TEXT),
        change_fact(encryptedSymmetricKeyHash="0" * 64),
    )
    add(
        "key-hash-of-raw-bytes",
        "EN11",
        _refusal("hash-mismatch", 401, f"{mismatch}encryptedSymmetricKeyHash", _BODY_HASH_TEXT),
        change_body(encryptedSymmetricKeyHash=hashlib.sha256(WRAPPED).hexdigest()),
    )
    add(
        "fact-body-hash-other",
        "EN11",
        _refusal("hash-mismatch", 401, _BODY_HASH_TEXT),
        change_fact(bodyHash="0" * 64),
    )
    add(
        "fact-body-hash-upper-case",
        "EN11",
        _refusal("hash-mismatch", 401, _BODY_HASH_TEXT),
        change_fact(bodyHash=hash_of(_body()).upper()),
    )
    add(
        "key-of-31-bytes",
        "EN21",
        _refusal("key-backend", 500, "key backend error: invalid wrapped key envelope"),
        with_key(encryptedSymmetricKey=b64(bytes(31))),
    )
    add(
        "key-of-another-network",
        "EN21",
        _refusal("key-backend", 500, "key backend error: decryption failed: aead::Error"),
        with_key(
            encryptedSymmetricKey=b64(wrap_key(public_of(RECEIVER), CONTENT_KEY, EPHEMERAL, NONCE))
        ),
    )
    add(
        "receiver-of-low-order",
        "EN21",
        _refusal("key-backend", 500, "key backend error: low-order public key"),
        with_key(receiverPublicKey=b64(bytes(32))),
    )
    add(
        "receiver-of-10-bytes",
        "EN21",
        _refusal("key-backend", 500, "key backend error: invalid public key length"),
        with_key(receiverPublicKey=b64(bytes(10))),
    )
    return cases


_CONTEXT = {
    "root_secret_hex": SECRET.hex(),
    "node_did": NODE,
    "network_private_key_hex": NETWORK_KEY.hex(),
    "answer_ephemeral_hex": _ANSWER_EPHEMERAL.hex(),
    "answer_nonce_hex": _ANSWER_NONCE.hex(),
}


def _admin() -> list[Case]:
    cases: list[Case] = []
    body = {"name": "default", "ownerDid": OWNER.did, "threshold": {"n": 1, "t": 1}}
    revoke = "tinycloud.encryption/network.revoke"

    def add(name: str, action: str, expect: dict[str, Any], **changes: Any) -> None:
        sent = changes.pop("body", body) if action == _CREATE else {}
        fact: dict[str, Any] = {
            "type": _ADMIN,
            "targetNode": NODE,
            "networkId": NETWORK,
            "bodyHash": hash_of(sent),
            "action": action,
        }
        facts = changes.pop("facts", [fact | changes.pop("fact", {})])
        exists = changes.pop("exists", action == revoke)
        jwt = {
            "issuer": OWNER,
            "audience": NODE,
            "att": {NETWORK: plain(action)},
            "fct": facts,
            "nonce": "nonce-1",
        }
        token = Jwt(**jwt | changes).mint()
        given = {
            "action": action,
            "path": NETWORK,
            "body": json.dumps(sent),
            "exists": exists,
            "token": token.header,
        }
        ending = "_fail" if "code" in expect else ""
        rules = ["EN14"] if action == _CREATE else ["EN7", "EN14"]
        cases.append({"name": name + ending, "rules": rules, **given, "expect": expect})

    add("owner-creates", _CREATE, {"network": NETWORK, "nonce": "nonce-1"})
    add(
        "owner-creates-without-threshold",
        _CREATE,
        {"network": NETWORK, "nonce": "nonce-1"},
        body={"name": "default", "ownerDid": OWNER.did},
    )
    add(
        "owner-creates-fact-with-more",
        _CREATE,
        {"network": NETWORK, "nonce": "nonce-1"},
        fact={"extra": 1},
    )
    add("owner-revokes", revoke, {"network": NETWORK, "nonce": "nonce-1"})
    add(
        "creates-audience-of-another",
        _CREATE,
        _refusal("audience-mismatch", 401),
        audience=OWNER.did,
    )
    add(
        "creates-body-without-name",
        _CREATE,
        _refusal("create-body-malformed", 400),
        body={"ownerDid": OWNER.did},
    )
    add(
        "creates-name-with-slash",
        _CREATE,
        _refusal("invalid-network-id", 400, "network name may not contain ':' or '/'"),
        body=body | {"name": "a/b"},
    )
    add("creates-without-facts", _CREATE, _NO_FACT, facts=[])
    add(
        "creates-other-type",
        _CREATE,
        _refusal("type-mismatch", 401, _TYPE_TEXT),
        fact={"type": _REQUEST},
    )
    add(
        "creates-other-node",
        _CREATE,
        _refusal("target-node-mismatch", 401),
        fact={"targetNode": OWNER.did},
    )
    add(
        "creates-other-network", _CREATE, _OTHER_NETWORK_REFUSAL, fact={"networkId": _OTHER_NETWORK}
    )
    add(
        "creates-other-action",
        _CREATE,
        _refusal("action-not-permitted", 401, "decrypt action not permitted"),
        fact={"action": revoke},
    )
    add(
        "creates-without-capability",
        _CREATE,
        _refusal("action-not-permitted", 401),
        att={NETWORK: plain(_DECRYPT)},
    )
    add(
        "creates-capability-on-other-network",
        _CREATE,
        _OTHER_NETWORK_REFUSAL,
        att={_OTHER_NETWORK: plain(_CREATE)},
    )
    add(
        "creates-other-body-hash",
        _CREATE,
        _refusal("hash-mismatch", 401, _BODY_HASH_TEXT),
        fact={"bodyHash": hash_of({})},
    )
    add(
        "creates-without-nonce",
        _CREATE,
        _refusal("body-malformed", 400, f"{_MALFORMED}missing nonce"),
        nonce=None,
    )
    add(
        "creates-what-exists",
        _CREATE,
        _refusal("network-exists", 409, "network already exists"),
        exists=True,
    )
    add(
        "revokes-what-is-unknown",
        revoke,
        _refusal("network-not-found", 404, "network not found"),
        exists=False,
    )
    add(
        "revokes-hash-of-a-body",
        revoke,
        _refusal("hash-mismatch", 401, _BODY_HASH_TEXT),
        fact={"bodyHash": hash_of(body)},
    )
    return cases
