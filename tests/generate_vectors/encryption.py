"""Keys, wraps, envelopes, key requests and policies, computed from the rules with general libraries."""

import base64
import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import nacl.bindings
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .minting import NOW, Jwt, Key, Token, b64url, base58, plain

Case = dict[str, Any]
Documents = dict[str, tuple[str, list[Case], Case]]

_SECRET = bytes([0x07]) * 32
_OWNER, _MALLORY = Key(0x61), Key(0x51)
_NETWORK = f"urn:tinycloud:encryption:{_OWNER.did}:default"
_OTHER_NETWORK = f"urn:tinycloud:encryption:{_OWNER.did}:other"
_NETWORK_KEY = bytes([0x17]) * 32
_CONTENT_KEY = bytes(range(32))
_EPHEMERAL, _NONCE = bytes([0x29]) * 32, bytes([0x02]) * 12
_RECEIVER = bytes([0x31]) * 32
_ANSWER_EPHEMERAL, _ANSWER_NONCE = bytes([0x53]) * 32, bytes([0x04]) * 12
_PAYLOAD_NONCE = bytes([0x03]) * 12
_PLAINTEXT = '{"value":"demo","createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-01-01T00:00:00.000Z"}'
_ALG = "x25519-aes256gcm/v1"
_DECRYPT = "tinycloud.encryption/decrypt"
_CREATE = "tinycloud.encryption/network.create"
_REQUEST, _RESULT = "tinycloud.encryption.decrypt/v1", "tinycloud.encryption.decrypt-result/v1"
_ADMIN = "tinycloud.encryption.network-admin/v1"
# Points of small order on Curve25519 (RFC 7748, section 6.1, and the list every library keeps).
_LOW_ORDER = {
    "zero": bytes(32),
    "one": b"\x01" + bytes(31),
    "order-8": bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    "p": bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
}


def documents() -> Documents:
    """Return file name to what it is about, its cases, and what all of them share."""
    return {
        "keys": ("what is derived from a root secret", _keys(), {}),
        "canonical_json": ("canonical text and SHA-256 of JSON values", _canonical_json(), {}),
        "keywrap": ("wrapping a content key and opening the wrap", _keywrap(), {}),
        "envelope": ("inline envelopes and their payload", _envelopes(), {}),
        "decrypt": ("requests for a key, up to the node's answer", _decrypts(), _CONTEXT),
        "admin": ("requests to create and revoke a network", _admin(), {"node_did": _NODE}),
        "policy": ("release policies, read and applied to evidence", _policies(), {"evidence": _evidence()}),
    }


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _derive(secret: bytes, context: str) -> bytes:
    return blake3(secret + context.encode()).digest()


def _signing_key(seed: bytes) -> tuple[bytes, bytes]:
    return nacl.bindings.crypto_sign_seed_keypair(seed)


def _did(seed: bytes) -> str:
    return "did:key:z" + base58(b"\xed\x01" + _signing_key(seed)[0])


_NODE_SEED = _derive(_SECRET, "tinycloud/node/identity")
_NODE = _did(_NODE_SEED)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _hash(value: Any) -> str:
    return hashlib.sha256(_canonical(value)).hexdigest()


def _public(scalar: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(scalar).public_key().public_bytes_raw()


def _wrap(public_key: bytes, plaintext: bytes, ephemeral: bytes, nonce: bytes) -> bytes:
    shared = X25519PrivateKey.from_private_bytes(ephemeral).exchange(X25519PublicKey.from_public_bytes(public_key))
    return _public(ephemeral) + b"\x01" + nonce + AESGCM(shared).encrypt(nonce, plaintext, None)


_WRAPPED = _wrap(_public(_NETWORK_KEY), _CONTENT_KEY, _EPHEMERAL, _NONCE)


def _keys() -> list[Case]:
    space = f"tinycloud:{_OWNER.did[4:]}:default"
    cases = []
    for name, secret in (
        ("sevens", _SECRET),
        ("zeros", bytes(32)),
        ("long", b"a root secret may be longer than 32 bytes"),
    ):
        seal_key = _derive(secret, "tinycloud/encryption/network-seal")
        sealed = b"\x01" + _NONCE + AESGCM(seal_key).encrypt(_NONCE, _NETWORK_KEY, None)
        invitation = _signing_key(_derive(secret, "tinycloud/share-email/invitation-signing"))[0]
        expect = {
            "node_did": _did(_derive(secret, "tinycloud/node/identity")),
            "space_did": _did(_derive(secret, space)),
            "invitation_public_key": b64url(invitation),
            "sealed_hex": sealed.hex(),
        }
        given = {"secret_hex": secret.hex(), "space": space, "sealed_nonce_hex": _NONCE.hex()}
        cases.append(
            {"name": name, "rules": ["EN4", "EN5"], **given, "plaintext_hex": _NETWORK_KEY.hex(), "expect": expect}
        )
    short = {"secret_hex": bytes(31).hex(), "expect": {"code": "root-secret-too-short"}}
    return [*cases, {"name": "short_fail", "rules": ["EN4"], **short}]


def _canonical_json() -> list[Case]:
    values = {
        "null": None,
        "true": True,
        "zero": 0,
        "large integer": 9_007_199_254_740_991,
        "negative integer": -1,
        "text": "abc",
        "text with escapes": 'a"b\\c/d\b\f\n\r\t\x00\x1f\x7f',
        "text beyond ASCII": "é\u2028日本😀",
        "empty list": [],
        "empty object": {},
        "list keeps its order": [3, 1, [2, None]],
        "members sorted by bytes": {"a b": 1, "A": 2, "_": 3, "é": 4, "aa": 5, "a": 6, "": 7},
        "nested": {"b": 1, "a": [True, None, {"z": "é", "y": "\u2028"}]},
        "network creation": {"name": "default", "ownerDid": _OWNER.did, "threshold": {"n": 1, "t": 1}},
    }
    return [
        {
            "name": name,
            "rules": ["EN10", "EN11"],
            "value": value,
            "expect": {"canonical": _canonical(value).decode(), "sha256": _hash(value)},
        }
        for name, value in values.items()
    ]


def _keywrap() -> list[Case]:
    network = _public(_NETWORK_KEY)
    wrapping = {"operation": "wrap", "ephemeral_hex": _EPHEMERAL.hex(), "nonce_hex": _NONCE.hex()}

    def wrap(name: str, public_key: bytes, content_key: bytes, expect: dict[str, Any]) -> Case:
        given = {"public_key_hex": public_key.hex(), "content_key_hex": content_key.hex()}
        return {"name": name, "rules": ["EN21"], **wrapping, **given, "expect": expect}

    def opening(name: str, blob: bytes, expect: dict[str, Any], key: bytes = _NETWORK_KEY) -> Case:
        given = {"private_key_hex": key.hex(), "blob_hex": blob.hex()}
        return {"name": name, "rules": ["EN21"], "operation": "open", **given, "expect": expect}

    def refused(reason: str) -> dict[str, str]:
        return {"code": "key-backend", "text": f"key backend error: {reason}"}

    def flip(offset: int) -> bytes:
        return _WRAPPED[:offset] + bytes([_WRAPPED[offset] ^ 1]) + _WRAPPED[offset + 1 :]

    failed = refused("decryption failed: aead::Error")
    cases = [
        wrap("wrap-to-network", network, _CONTENT_KEY, {"blob_hex": _WRAPPED.hex(), "size_bytes": 93}),
        wrap("wrap-31-bytes_fail", network, _CONTENT_KEY[:31], refused("invalid content key length")),
        wrap("wrap-33-bytes_fail", network, _CONTENT_KEY + b"\0", refused("invalid content key length")),
        wrap("wrap-to-31-bytes_fail", network[:31], _CONTENT_KEY, refused("invalid public key length")),
        *(
            wrap(f"wrap-to-low-order-{name}_fail", point, _CONTENT_KEY, refused("low-order public key"))
            for name, point in _LOW_ORDER.items()
        ),
        opening("open-own", _WRAPPED, {"content_key_hex": _CONTENT_KEY.hex()}),
        opening("open-with-other-key_fail", _WRAPPED, failed, key=_RECEIVER),
        opening("open-ephemeral-flipped_fail", flip(0), failed),
        opening("open-nonce-flipped_fail", flip(33), failed),
        opening("open-ciphertext-flipped_fail", flip(45), failed),
        opening("open-tag-flipped_fail", flip(92), failed),
        opening("open-version-0_fail", flip(32), {"code": "key-backend"}),
        opening("open-31-bytes_fail", _WRAPPED[:31], refused("invalid wrapped key envelope")),
        opening("open-32-bytes_fail", _WRAPPED[:32], refused("encrypted data too short")),
        opening("open-60-bytes_fail", _WRAPPED[:60], refused("encrypted data too short")),
        opening("open-92-bytes_fail", _WRAPPED[:92], failed),
        opening("open-94-bytes_fail", _WRAPPED + b"\0", failed),
    ]
    for size in (0, 16, 33):
        blob = _wrap(network, bytes(size), _EPHEMERAL, _NONCE)
        cases.append(opening(f"open-content-key-of-{size}_fail", blob, refused("invalid content key length")))
    for name, point in _LOW_ORDER.items():
        blob = point + b"\x01" + _NONCE + AESGCM(bytes(32)).encrypt(_NONCE, _CONTENT_KEY, None)
        cases.append(opening(f"open-low-order-{name}_fail", blob, refused("low-order public key")))
    return cases


def _envelope(**changes: Any) -> dict[str, Any]:
    ciphertext = _PAYLOAD_NONCE + AESGCM(_CONTENT_KEY).encrypt(_PAYLOAD_NONCE, _PLAINTEXT.encode(), None)
    members = {
        "v": 1,
        "networkId": _NETWORK,
        "alg": _ALG,
        "keyVersion": 1,
        "encryptedSymmetricKey": _b64(_WRAPPED),
        "encryptedSymmetricKeyHash": _hash(_b64(_WRAPPED)),
        "ciphertext": _b64(ciphertext),
        "aad": _b64(b"tinycloud.vault:space:secrets/DEMO"),
        "metadata": {"x-vault-version": "2"},
    }
    return {name: value for name, value in (members | changes).items() if value is not None}


def _envelopes() -> list[Case]:
    good = {
        "ordinary": _envelope(),
        "without-labels": _envelope(aad=None, metadata=None),
        "unknown-member": _envelope(extra=1),
        "members-in-other-order": dict(reversed(_envelope().items())),
    }
    bad: dict[str, Any] = {
        "version-2": _envelope(v=2),
        "version-as-text": _envelope(v="1"),
        "network-missing": _envelope(networkId=None),
        "network-that-is-none": _envelope(networkId="urn:x"),
        "alg-empty": _envelope(alg=""),
        "key-version-as-text": _envelope(keyVersion="1"),
        "key-version-true": _envelope(keyVersion=True),
        "key-hash-of-unquoted-text": _envelope(
            encryptedSymmetricKeyHash=hashlib.sha256(_b64(_WRAPPED).encode()).hexdigest()
        ),
        "key-hash-of-raw-bytes": _envelope(encryptedSymmetricKeyHash=hashlib.sha256(_WRAPPED).hexdigest()),
        "ciphertext-unpadded": _envelope(ciphertext="AAA"),
        "ciphertext-in-url-alphabet": _envelope(ciphertext="__-_"),
        "metadata-with-number": _envelope(metadata={"a": 1}),
        "a-list": list(_envelope().values()),
    }
    opened = {"network": _NETWORK, "content_key_hex": _CONTENT_KEY.hex(), "plaintext": _PLAINTEXT}
    cases = [
        {"name": name, "rules": ["EN14", "EN22", "EN23"], "text": json.dumps(value), "expect": opened}
        for name, value in good.items()
    ]
    cases += [
        {"name": f"{name}_fail", "rules": ["EN23"], "text": json.dumps(value), "expect": {"code": "invalid-envelope"}}
        for name, value in bad.items()
    ]
    short = _envelope(ciphertext=_b64(bytes(27)))
    other = _envelope(ciphertext=_b64(bytes(40)))
    for name, value in (("ciphertext-too-short", short), ("ciphertext-of-another-key", other)):
        expect = {"network": _NETWORK, "content_key_hex": _CONTENT_KEY.hex(), "open_code": "invalid-envelope"}
        cases.append({"name": f"{name}_fail", "rules": ["EN22"], "text": json.dumps(value), "expect": expect})
    twice = json.dumps(_envelope())[:-1] + ', "v": 1}'
    cases.append(
        {"name": "member-repeated_fail", "rules": ["EN23"], "text": twice, "expect": {"code": "invalid-envelope"}}
    )
    return cases


def _body(**changes: Any) -> dict[str, Any]:
    wrapped, receiver = _b64(_WRAPPED), _b64(_public(_RECEIVER))
    members = {
        "type": _REQUEST,
        "targetNode": _NODE,
        "networkId": _NETWORK,
        "alg": _ALG,
        "keyVersion": 1,
        "encryptedSymmetricKey": wrapped,
        "encryptedSymmetricKeyHash": _hash(wrapped),
        "receiverPublicKey": receiver,
        "receiverPublicKeyHash": _hash(receiver),
    }
    return {name: value for name, value in (members | changes).items() if value is not None}


def _fact(body: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    same = ("targetNode", "networkId", "encryptedSymmetricKeyHash", "receiverPublicKeyHash", "alg", "keyVersion")
    members = {"type": _REQUEST, "bodyHash": _hash(body), **{name: body.get(name) for name in same}}
    return {name: value for name, value in (members | changes).items() if value is not None}


class _Request:
    """An ordinary request by the owner, bent by one change."""

    def __init__(self, name: str, rules: str) -> None:
        self.name, self.rules = name, rules
        self.body: Any = _body()
        self.fact: dict[str, Any] = {}
        self.facts: list[Any] | None = None
        self.token: dict[str, Any] = {}
        self.path = _NETWORK
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
        given["network"] = None if self.state is None else {"id": _NETWORK, "state": self.state}
        ending = "_fail" if "code" in expect else ""
        return {"name": self.name + ending, "rules": self.rules.split(), **given, "expect": expect}

    def mint(self, facts: list[Any]) -> Token:
        """Return the token that binds the facts."""
        att = {_NETWORK: plain(_DECRYPT)}
        return Jwt(
            **{"issuer": _OWNER, "audience": _NODE, "att": att, "fct": facts, "nonce": self.name} | self.token
        ).mint()


def _answer(request: _Request) -> dict[str, Any]:
    case = request.case({})
    cid = Token(case["token"], case["token"].encode()).cid
    wrapped = _wrap(_public(_RECEIVER), _CONTENT_KEY, _ANSWER_EPHEMERAL, _ANSWER_NONCE)
    body = json.loads(case["body"])
    answer = {
        "type": _RESULT,
        "targetNode": _NODE,
        "networkId": _NETWORK,
        "invocationCid": cid,
        "encryptedSymmetricKeyHash": body["encryptedSymmetricKeyHash"],
        "receiverPublicKeyHash": body["receiverPublicKeyHash"],
        "wrappedKey": _b64(wrapped),
        "alg": _ALG,
        "keyVersion": 1,
        "requestHash": hashlib.sha256((cid + _hash(body)).encode()).hexdigest(),
        "nodeId": _NODE,
    }
    secret = _signing_key(_NODE_SEED)[1]
    answer["nodeSignature"] = _b64(nacl.bindings.crypto_sign(_canonical(answer), secret)[:64])
    return answer


def _refusal(code: str, status: int, text: str | None = None, invoke_text: str | None = None) -> dict[str, Any]:
    expect: dict[str, Any] = {"code": code, "status": status}
    if text is not None:
        expect |= {"text": text, "invoke_text": invoke_text or text}
    return expect


_MALFORMED = "decrypt request body is malformed: "
_BODY_HASH_TEXT = "invocation hash mismatch: bodyHash"
_TYPE_TEXT = "invocation type is not a decrypt invocation"
_NO_FACT = _refusal("body-malformed", 400, f"{_MALFORMED}missing encryption invocation facts")
_OTHER_NETWORK_REFUSAL = _refusal("network-mismatch", 401, "invocation references a different network")
_VERSION = _refusal("version-mismatch", 401, "invocation alg / key version does not match network")
_BASE64 = _refusal("invalid-base64", 400, "hex decode error: invalid base64")
_EXPIRED = _refusal("expired", 401, "invocation expired")


def _decrypts() -> list[Case]:
    cases: list[Case] = []

    def add(name: str, rules: str, expect: dict[str, Any], change: Callable[[_Request], None]) -> None:
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
        hashes = {f"{name}Hash": _hash(value) for name, value in members.items()}
        return change_body(**members, **hashes)

    lower = _b64(_WRAPPED)
    answered("owner", "EN17 EN20", lambda request: None)
    answered("owner-body-in-other-order", "EN11", attribute("body", dict(reversed(_body().items()))))
    answered("owner-second-fact-fits", "EN13", attribute("facts", ["x", {"type": _REQUEST}, _fact(_body())]))
    add(
        "audience-of-another",
        "EN17",
        _refusal("audience-mismatch", 401, "invocation audience does not match this node", _TYPE_TEXT),
        attribute("token", {"audience": _OWNER.did}),
    )
    add(
        "path-that-is-none",
        "EN3",
        _refusal("invalid-network-id", 400, "missing urn:tinycloud:encryption: prefix"),
        attribute("path", "urn:x"),
    )
    add("body-member-missing", "EN13", _refusal("body-malformed", 400), change_body(alg=None))
    add("body-member-unknown", "EN13", _refusal("body-malformed", 400), change_body(extra=1))
    add("body-key-version-as-fraction", "EN13", _refusal("body-malformed", 400), change_body(keyVersion=1.5))
    add("body-as-list", "Q35", _refusal("body-malformed", 400), attribute("body", list(_body().values())))
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
    add("body-other-type", "EN17", _refusal("type-mismatch", 401, _TYPE_TEXT), change_body(type="x"))
    add("fact-other-type", "EN17", _refusal("type-mismatch", 401, _TYPE_TEXT), change_fact(type="x"))
    target = _refusal("target-node-mismatch", 401, "invocation target node does not match this node", _TYPE_TEXT)
    add("body-other-node", "EN17", target, change_body(targetNode=_OWNER.did))
    add("fact-other-node", "EN17", target, change_fact(targetNode=_OWNER.did))
    add("body-other-network", "EN17", _OTHER_NETWORK_REFUSAL, change_body(networkId=_OTHER_NETWORK))
    add("fact-other-network", "EN17", _OTHER_NETWORK_REFUSAL, change_fact(networkId=_OTHER_NETWORK))
    add("path-other-network", "EN17", _OTHER_NETWORK_REFUSAL, attribute("path", _OTHER_NETWORK))
    add(
        "no-decrypt-capability",
        "EN17",
        _refusal("action-not-permitted", 401, "decrypt action not permitted"),
        attribute("token", {"att": {_NETWORK: plain(_CREATE)}}),
    )
    add(
        "capability-on-other-network",
        "EN17",
        _OTHER_NETWORK_REFUSAL,
        attribute("token", {"att": {_OTHER_NETWORK: plain(_DECRYPT)}}),
    )
    add("network-unknown", "EN17", _refusal("network-not-found", 404, "network not found"), attribute("state", None))
    add(
        "network-revoked",
        "EN7",
        _refusal("network-revoked", 401, "network has been revoked", "network is not active (state: revoked)"),
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
        "key-in-url-alphabet", "EN1", _BASE64, with_key(encryptedSymmetricKey=lower.replace("+", "-").replace("/", "_"))
    )
    add("key-with-newline", "EN1", _BASE64, with_key(encryptedSymmetricKey=lower + "\n"))
    add("receiver-unpadded", "EN1", _BASE64, with_key(receiverPublicKey=_b64(_public(_RECEIVER)).rstrip("=")))
    receiver = _b64(_public(_RECEIVER))
    spare = receiver[:-2] + chr(ord(receiver[-2]) + 1) + "="
    add("receiver-with-spare-bits", "EN1", _BASE64, with_key(receiverPublicKey=spare))
    mismatch = "invocation hash mismatch: "
    add(
        "receiver-replaced",
        "EN11",
        _refusal("hash-mismatch", 401, f"{mismatch}receiverPublicKeyHash", _BODY_HASH_TEXT),
        change_body(receiverPublicKey=_b64(_public(_EPHEMERAL))),
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
        change_body(encryptedSymmetricKeyHash=hashlib.sha256(_WRAPPED).hexdigest()),
    )
    add("fact-body-hash-other", "EN11", _refusal("hash-mismatch", 401, _BODY_HASH_TEXT), change_fact(bodyHash="0" * 64))
    add(
        "fact-body-hash-upper-case",
        "EN11",
        _refusal("hash-mismatch", 401, _BODY_HASH_TEXT),
        change_fact(bodyHash=_hash(_body()).upper()),
    )
    add(
        "key-of-31-bytes",
        "EN21",
        _refusal("key-backend", 500, "key backend error: invalid wrapped key envelope"),
        with_key(encryptedSymmetricKey=_b64(bytes(31))),
    )
    add(
        "key-of-another-network",
        "EN21",
        _refusal("key-backend", 500, "key backend error: decryption failed: aead::Error"),
        with_key(encryptedSymmetricKey=_b64(_wrap(_public(_RECEIVER), _CONTENT_KEY, _EPHEMERAL, _NONCE))),
    )
    add(
        "receiver-of-low-order",
        "EN21",
        _refusal("key-backend", 500, "key backend error: low-order public key"),
        with_key(receiverPublicKey=_b64(bytes(32))),
    )
    add(
        "receiver-of-10-bytes",
        "EN21",
        _refusal("key-backend", 500, "key backend error: invalid public key length"),
        with_key(receiverPublicKey=_b64(bytes(10))),
    )
    return cases


_CONTEXT = {
    "root_secret_hex": _SECRET.hex(),
    "node_did": _NODE,
    "network_private_key_hex": _NETWORK_KEY.hex(),
    "answer_ephemeral_hex": _ANSWER_EPHEMERAL.hex(),
    "answer_nonce_hex": _ANSWER_NONCE.hex(),
}


def _admin() -> list[Case]:
    cases: list[Case] = []
    body = {"name": "default", "ownerDid": _OWNER.did, "threshold": {"n": 1, "t": 1}}
    revoke = "tinycloud.encryption/network.revoke"

    def add(name: str, action: str, expect: dict[str, Any], **changes: Any) -> None:
        sent = changes.pop("body", body) if action == _CREATE else {}
        fact: dict[str, Any] = {
            "type": _ADMIN,
            "targetNode": _NODE,
            "networkId": _NETWORK,
            "bodyHash": _hash(sent),
            "action": action,
        }
        facts = changes.pop("facts", [fact | changes.pop("fact", {})])
        exists = changes.pop("exists", action == revoke)
        jwt = {"issuer": _OWNER, "audience": _NODE, "att": {_NETWORK: plain(action)}, "fct": facts, "nonce": "nonce-1"}
        token = Jwt(**jwt | changes).mint()
        given = {"action": action, "path": _NETWORK, "body": json.dumps(sent), "exists": exists, "token": token.header}
        ending = "_fail" if "code" in expect else ""
        rules = ["EN14"] if action == _CREATE else ["EN7", "EN14"]
        cases.append({"name": name + ending, "rules": rules, **given, "expect": expect})

    add("owner-creates", _CREATE, {"network": _NETWORK, "nonce": "nonce-1"})
    add(
        "owner-creates-without-threshold",
        _CREATE,
        {"network": _NETWORK, "nonce": "nonce-1"},
        body={"name": "default", "ownerDid": _OWNER.did},
    )
    add("owner-creates-fact-with-more", _CREATE, {"network": _NETWORK, "nonce": "nonce-1"}, fact={"extra": 1})
    add("owner-revokes", revoke, {"network": _NETWORK, "nonce": "nonce-1"})
    add("creates-audience-of-another", _CREATE, _refusal("audience-mismatch", 401), audience=_OWNER.did)
    add("creates-body-without-name", _CREATE, _refusal("create-body-malformed", 400), body={"ownerDid": _OWNER.did})
    add(
        "creates-name-with-slash",
        _CREATE,
        _refusal("invalid-network-id", 400, "network name may not contain ':' or '/'"),
        body=body | {"name": "a/b"},
    )
    add("creates-without-facts", _CREATE, _NO_FACT, facts=[])
    add("creates-other-type", _CREATE, _refusal("type-mismatch", 401, _TYPE_TEXT), fact={"type": _REQUEST})
    add("creates-other-node", _CREATE, _refusal("target-node-mismatch", 401), fact={"targetNode": _OWNER.did})
    add("creates-other-network", _CREATE, _OTHER_NETWORK_REFUSAL, fact={"networkId": _OTHER_NETWORK})
    add(
        "creates-other-action",
        _CREATE,
        _refusal("action-not-permitted", 401, "decrypt action not permitted"),
        fact={"action": revoke},
    )
    add("creates-without-capability", _CREATE, _refusal("action-not-permitted", 401), att={_NETWORK: plain(_DECRYPT)})
    add("creates-capability-on-other-network", _CREATE, _OTHER_NETWORK_REFUSAL, att={_OTHER_NETWORK: plain(_CREATE)})
    add(
        "creates-other-body-hash",
        _CREATE,
        _refusal("hash-mismatch", 401, _BODY_HASH_TEXT),
        fact={"bodyHash": _hash({})},
    )
    add("creates-without-nonce", _CREATE, _refusal("body-malformed", 400, f"{_MALFORMED}missing nonce"), nonce=None)
    add("creates-what-exists", _CREATE, _refusal("network-exists", 409, "network already exists"), exists=True)
    add("revokes-what-is-unknown", revoke, _refusal("network-not-found", 404, "network not found"), exists=False)
    add(
        "revokes-hash-of-a-body",
        revoke,
        _refusal("hash-mismatch", 401, _BODY_HASH_TEXT),
        fact={"bodyHash": _hash(body)},
    )
    return cases


_REGISTERS = {name: hashlib.sha384(name.encode()).hexdigest() for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")}
_OTHER_REGISTERS = {name: hashlib.sha384(b"other " + name.encode()).hexdigest() for name in _REGISTERS}


def _policies() -> list[Case]:
    image = {"measurements": [_REGISTERS]}
    no_rtmr3 = {name: value for name, value in _REGISTERS.items() if name != "rtmr3"}
    compose = "ab" * 32
    good: dict[str, Any] = {
        "nothing": {},
        "image": image,
        "image-by-compose-hash": {"measurements": [no_rtmr3], "composeHashes": [compose]},
        "statuses": {"tcbStatuses": ["UpToDate", "SWHardeningNeeded"], "advisories": ["INTEL-SA-00615"]},
        "grace": {"tcbStatuses": ["OutOfDate"], "tcbGraceSeconds": 86_400},
        "everything-else": {
            "appIds": ["00" * 20],
            "keyProviders": ["kms:" + "0a" * 91, "local-sgx:0b", "tpm"],
            "tdAttributes": ["0000001000000000"],
            "platformIds": ["cd" * 32],
            "minEvaluationNumber": 17,
            "maxAgeSeconds": 300,
            "receiver": "signed",
            "paths": [f"tinycloud:{_OWNER.did[4:]}:secrets/kv/vault/secrets/DEMO"],
            "inPerson": False,
        },
    }
    bad: dict[str, Any] = {
        "a-list": [],
        "unknown-member": {**image, "extra": 1},
        "null-member": {"measurements": None},
        "empty-list": {"measurements": []},
        "empty-statuses": {"tcbStatuses": []},
        "measurement-incomplete": {"measurements": [{"mrtd": _REGISTERS["mrtd"]}]},
        "measurement-without-rtmr3": {"measurements": [no_rtmr3]},
        "measurement-with-unknown-register": {"measurements": [_REGISTERS | {"rtmr4": "00" * 48}]},
        "measurement-short": {"measurements": [_REGISTERS | {"mrtd": "00" * 47}]},
        "measurement-upper-case": {"measurements": [_REGISTERS | {"mrtd": "AB" * 48}]},
        "five-sets": {"measurements": {name: [value] for name, value in _REGISTERS.items()}},
        "revoked": {"tcbStatuses": ["Revoked"]},
        "unknown-status": {"tcbStatuses": ["Fine"]},
        "out-of-date-without-grace": {"tcbStatuses": ["OutOfDate"]},
        "number-as-text": {"maxAgeSeconds": "300"},
        "number-as-fraction": {"maxAgeSeconds": 300.5},
        "number-as-truth": {"minEvaluationNumber": True},
        "receiver-unknown": {"receiver": "any"},
        "path-of-another-service": {"paths": [f"tinycloud:{_OWNER.did[4:]}:secrets/sql/a"]},
        "path-of-no-resource": {"paths": ["vault/secrets/DEMO"]},
        "in-person-as-text": {"inPerson": "false"},
        "provider-none": {"keyProviders": ["none"]},
        "provider-unknown": {"keyProviders": ["vault"]},
        "provider-local-without-id": {"keyProviders": ["local-sgx"]},
        "provider-with-empty-id": {"keyProviders": ["kms:"]},
        "provider-upper-case": {"keyProviders": ["kms:0A"]},
        "too-many-images": {"measurements": [_REGISTERS] * 65},
    }
    cases: list[Case] = [
        {"name": name, "rules": ["RL8"], "policy": policy, "expect": {"canonical_round_trip": True}}
        for name, policy in good.items()
    ]
    cases += [
        {"name": f"{name}_fail", "rules": ["RL8"], "policy": policy, "expect": {"code": "invalid-policy"}}
        for name, policy in bad.items()
    ]
    return cases + _judgements(image)


def _judgements(image: Mapping[str, Any]) -> list[Case]:
    hardening = {"tcb_status": "SWHardeningNeeded", "advisories": ["INTEL-SA-00615"]}
    outdated = {"tcb_status": "OutOfDate", "tcb_date": NOW - 100}
    no_rtmr3 = {name: value for name, value in _REGISTERS.items() if name != "rtmr3"}
    composed = {"measurements": [no_rtmr3], "composeHashes": ["ab" * 32]}
    table: list[tuple[str, Mapping[str, Any], Mapping[str, Any], str | None, str]] = [
        ("approved-image", image, {}, None, "RL10"),
        ("one-of-two-images", {"measurements": [_OTHER_REGISTERS, _REGISTERS]}, {}, None, "RL10"),
        ("other-image", {"measurements": [_OTHER_REGISTERS]}, {}, "measurement", "RL10"),
        ("mixed-image", {"measurements": [_OTHER_REGISTERS | {"mrtd": _REGISTERS["mrtd"]}]}, {}, "measurement", "RL10"),
        ("approved-compose-hash", composed, {"compose_hash": "ab" * 32}, None, "RL10"),
        ("other-compose-hash", composed, {"compose_hash": "cd" * 32}, "measurement", "RL10"),
        ("no-compose-hash", composed, {}, "measurement", "RL10"),
        ("provider-by-kind", {**image, "keyProviders": ["kms"]}, {"key_provider": "kms:0a"}, None, "RL8"),
        ("provider-by-id", {**image, "keyProviders": ["kms:0a"]}, {"key_provider": "kms:0a"}, None, "RL8"),
        ("other-provider", {**image, "keyProviders": ["kms:0a"]}, {"key_provider": "kms:0b"}, "key_provider", "RL8"),
        ("provider-without-id", {**image, "keyProviders": ["kms:0a"]}, {"key_provider": "kms"}, "key_provider", "RL8"),
        ("provider-not-told", {**image, "keyProviders": ["kms"]}, {}, "key_provider", "RL8"),
        ("other-attributes", image, {"td_attributes": "0000001080000000"}, "attributes", "RL8"),
        (
            "named-attributes",
            {**image, "tdAttributes": ["0000001080000000"]},
            {"td_attributes": "0000001080000000"},
            None,
            "RL8",
        ),
        ("listed-platform", {**image, "platformIds": ["11" * 32]}, {}, None, "RL8"),
        ("other-platform", {**image, "platformIds": ["22" * 32]}, {}, "platform", "RL8"),
        ("platform-not-told", {**image, "platformIds": ["11" * 32]}, {"platform_id_hash": None}, "platform", "RL8"),
        ("hardening-needed", image, hardening, "tcb_status", "RL11"),
        (
            "hardening-allowed-advisory-not",
            {**image, "tcbStatuses": ["SWHardeningNeeded", "UpToDate"]},
            hardening,
            "advisory",
            "RL11",
        ),
        (
            "hardening-allowed-with-advisory",
            {**image, "tcbStatuses": ["SWHardeningNeeded", "UpToDate"], "advisories": ["INTEL-SA-00615"]},
            hardening,
            None,
            "RL11",
        ),
        ("advisory-beside-up-to-date", image, {"advisories": ["INTEL-SA-00615"]}, "advisory", "RL11"),
        ("notice-beside-up-to-date", image, {"advisories": ["INTEL-DOC-10000"]}, None, "RL11"),
        ("quoting-enclave-outdated", image, {"qe_status": "OutOfDate"}, "tcb_status", "RL11"),
        (
            "outdated-within-grace",
            {**image, "tcbStatuses": ["UpToDate", "OutOfDate"], "tcbGraceSeconds": 100},
            outdated,
            None,
            "RL11",
        ),
        (
            "outdated-after-grace",
            {**image, "tcbStatuses": ["UpToDate", "OutOfDate"], "tcbGraceSeconds": 99},
            outdated,
            "tcb_status",
            "RL11",
        ),
        ("evaluation-number-below", {**image, "minEvaluationNumber": 19}, {}, "evaluation", "RL8"),
        ("evaluation-number-equal", {**image, "minEvaluationNumber": 18}, {}, None, "RL8"),
        ("old-evidence", {**image, "maxAgeSeconds": 59}, {}, "age", "RL8"),
        ("fresh-evidence", {**image, "maxAgeSeconds": 60}, {}, None, "RL8"),
        ("ended-evidence", image, {"expires_at": NOW}, "evidence_expired", "RL13"),
        ("any-receiver", image, {"receiver_mode": "signed"}, "receiver", "RL7"),
        ("any-receiver-allowed", {**image, "receiver": "signed"}, {"receiver_mode": "signed"}, None, "RL7"),
    ]
    return [
        {
            "name": f"judge-{name}" + ("_fail" if refusal else ""),
            "rules": [rule],
            "now": NOW,
            "policy": dict(policy),
            "evidence": dict(changes),
            "expect": {"refusal": refusal},
        }
        for name, policy, changes, refusal, rule in table
    ]


def _evidence() -> dict[str, Any]:
    return {
        "invoker": _OWNER.did,
        "receiver_public_key": _public(_RECEIVER).hex(),
        "receiver_mode": "attested",
        **_REGISTERS,
        "mr_config_id": "00" * 48,
        "mr_owner": "00" * 48,
        "mr_owner_config": "00" * 48,
        "td_attributes": "0000001000000000",
        "xfam": "e702060000000000",
        "tee_tcb_svn": "05010400000000000000000000000000",
        "mr_seam": "33" * 48,
        "tcb_status": "UpToDate",
        "qe_status": "UpToDate",
        "advisories": [],
        "evaluation_number": 18,
        "tcb_date": NOW - 86_400,
        "fmspc": "b0c06f000000",
        "platform_id_hash": "11" * 32,
        "root_ca_sha256": "44" * 32,
        "quote_sha256": "55" * 32,
        "collateral_sha256": "66" * 32,
        "attested_at": NOW - 60,
        "expires_at": NOW + 540,
        "compose_hash": None,
        "app_id": None,
        "key_provider": None,
    }
