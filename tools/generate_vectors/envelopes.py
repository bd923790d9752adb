"""Vectors of canonical JSON, wrapped keys and inline envelopes, made with general libraries."""

import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .cases import Case, Documents
from .sealing import (
    ALG,
    CONTENT_KEY,
    EPHEMERAL,
    NETWORK,
    NETWORK_KEY,
    NONCE,
    OWNER,
    RECEIVER,
    WRAPPED,
    b64,
    canonical,
    hash_of,
    public_of,
    wrap_key,
)

_PAYLOAD_NONCE = bytes([0x03]) * 12
_PLAINTEXT = (
    '{"value":"demo","createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-01-01T00:00:00.000Z"}'
)
# Points of small order on Curve25519 (RFC 7748, section 6.1, and the list every library keeps).
_LOW_ORDER = {
    "zero": bytes(32),
    "one": b"\x01" + bytes(31),
    "order-8": bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    "p": bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
}


def documents() -> Documents:
    """Return the vectors of each file: description, cases, and shared values."""
    return {
        "canonical_json": ("canonical text and SHA-256 of JSON values", _canonical_json(), {}),
        "keywrap": ("wrapping a content key and opening the wrap", _keywrap(), {}),
        "envelope": ("inline envelopes and their payload", _envelopes(), {}),
    }


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
        "network creation": {
            "name": "default",
            "ownerDid": OWNER.did,
            "threshold": {"n": 1, "t": 1},
        },
    }
    return [
        {
            "name": name,
            "rules": ["EN10", "EN11"],
            "value": value,
            "expect": {"canonical": canonical(value).decode(), "sha256": hash_of(value)},
        }
        for name, value in values.items()
    ]


def _keywrap() -> list[Case]:
    network = public_of(NETWORK_KEY)
    wrapping = {"operation": "wrap", "ephemeral_hex": EPHEMERAL.hex(), "nonce_hex": NONCE.hex()}

    def wrap(name: str, public_key: bytes, content_key: bytes, expect: dict[str, Any]) -> Case:
        given = {"public_key_hex": public_key.hex(), "content_key_hex": content_key.hex()}
        return {"name": name, "rules": ["EN21"], **wrapping, **given, "expect": expect}

    def opening(name: str, blob: bytes, expect: dict[str, Any], key: bytes = NETWORK_KEY) -> Case:
        given = {"private_key_hex": key.hex(), "blob_hex": blob.hex()}
        return {"name": name, "rules": ["EN21"], "operation": "open", **given, "expect": expect}

    def refused(reason: str) -> dict[str, str]:
        return {"code": "key-backend", "text": f"key backend error: {reason}"}

    def flip(offset: int) -> bytes:
        return WRAPPED[:offset] + bytes([WRAPPED[offset] ^ 1]) + WRAPPED[offset + 1 :]

    failed = refused("decryption failed: aead::Error")
    cases = [
        wrap(
            "wrap-to-network", network, CONTENT_KEY, {"blob_hex": WRAPPED.hex(), "size_bytes": 93}
        ),
        wrap(
            "wrap-31-bytes_fail", network, CONTENT_KEY[:31], refused("invalid content key length")
        ),
        wrap(
            "wrap-33-bytes_fail",
            network,
            CONTENT_KEY + b"\0",
            refused("invalid content key length"),
        ),
        wrap(
            "wrap-to-31-bytes_fail", network[:31], CONTENT_KEY, refused("invalid public key length")
        ),
        *(
            wrap(
                f"wrap-to-low-order-{name}_fail",
                point,
                CONTENT_KEY,
                refused("low-order public key"),
            )
            for name, point in _LOW_ORDER.items()
        ),
        opening("open-own", WRAPPED, {"content_key_hex": CONTENT_KEY.hex()}),
        opening("open-with-other-key_fail", WRAPPED, failed, key=RECEIVER),
        opening("open-ephemeral-flipped_fail", flip(0), failed),
        opening("open-nonce-flipped_fail", flip(33), failed),
        opening("open-ciphertext-flipped_fail", flip(45), failed),
        opening("open-tag-flipped_fail", flip(92), failed),
        opening("open-version-0_fail", flip(32), {"code": "key-backend"}),
        opening("open-31-bytes_fail", WRAPPED[:31], refused("invalid wrapped key envelope")),
        opening("open-32-bytes_fail", WRAPPED[:32], refused("encrypted data too short")),
        opening("open-60-bytes_fail", WRAPPED[:60], refused("encrypted data too short")),
        opening("open-92-bytes_fail", WRAPPED[:92], failed),
        opening("open-94-bytes_fail", WRAPPED + b"\0", failed),
    ]
    for size in (0, 16, 33):
        blob = wrap_key(network, bytes(size), EPHEMERAL, NONCE)
        cases.append(
            opening(f"open-content-key-of-{size}_fail", blob, refused("invalid content key length"))
        )
    for name, point in _LOW_ORDER.items():
        blob = point + b"\x01" + NONCE + AESGCM(bytes(32)).encrypt(NONCE, CONTENT_KEY, None)
        cases.append(opening(f"open-low-order-{name}_fail", blob, refused("low-order public key")))
    return [*cases, *_content_key_hashes()]


def _content_key_hashes() -> list[Case]:
    """Return the hash of one content key under three wraps, and of two others."""
    network = public_of(NETWORK_KEY)
    top_bit = WRAPPED[:31] + bytes([WRAPPED[31] ^ 0x80]) + WRAPPED[32:]
    again = wrap_key(network, CONTENT_KEY, EPHEMERAL, bytes(12))
    other = wrap_key(network, bytes(32), EPHEMERAL, NONCE)
    own = f"urn:tinycloud:encryption:{OWNER.did}:default"
    named = {
        "hash-of-own": (own, WRAPPED, CONTENT_KEY),
        "hash-of-other-spelling": (own, top_bit, CONTENT_KEY),
        "hash-of-other-wrap": (own, again, CONTENT_KEY),
        "hash-of-other-key": (own, other, bytes(32)),
        "hash-in-other-network": (own + "-2", WRAPPED, CONTENT_KEY),
    }
    return [
        {
            "name": name,
            "rules": ["RL21"],
            "operation": "hash",
            "network_id": text,
            "private_key_hex": NETWORK_KEY.hex(),
            "blob_hex": blob.hex(),
            "expect": {
                "hash_hex": hashlib.sha256(
                    b"sealspace/content-key/v1\0" + text.encode() + b"\0" + key
                ).hexdigest()
            },
        }
        for name, (text, blob, key) in named.items()
    ]


def _envelope(**changes: Any) -> dict[str, Any]:
    ciphertext = _PAYLOAD_NONCE + AESGCM(CONTENT_KEY).encrypt(
        _PAYLOAD_NONCE, _PLAINTEXT.encode(), None
    )
    members = {
        "v": 1,
        "networkId": NETWORK,
        "alg": ALG,
        "keyVersion": 1,
        "encryptedSymmetricKey": b64(WRAPPED),
        "encryptedSymmetricKeyHash": hash_of(b64(WRAPPED)),
        "ciphertext": b64(ciphertext),
        "aad": b64(b"tinycloud.vault:space:secrets/DEMO"),
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
            encryptedSymmetricKeyHash=hashlib.sha256(b64(WRAPPED).encode()).hexdigest()
        ),
        "key-hash-of-raw-bytes": _envelope(
            encryptedSymmetricKeyHash=hashlib.sha256(WRAPPED).hexdigest()
        ),
        "ciphertext-unpadded": _envelope(ciphertext="AAA"),
        "ciphertext-in-url-alphabet": _envelope(ciphertext="__-_"),
        "metadata-with-number": _envelope(metadata={"a": 1}),
        "a-list": list(_envelope().values()),
    }
    opened = {"network": NETWORK, "content_key_hex": CONTENT_KEY.hex(), "plaintext": _PLAINTEXT}
    cases = [
        {
            "name": name,
            "rules": ["EN14", "EN22", "EN23"],
            "text": json.dumps(value),
            "expect": opened,
        }
        for name, value in good.items()
    ]
    cases += [
        {
            "name": f"{name}_fail",
            "rules": ["EN23"],
            "text": json.dumps(value),
            "expect": {"code": "invalid-envelope"},
        }
        for name, value in bad.items()
    ]
    short = _envelope(ciphertext=b64(bytes(27)))
    other = _envelope(ciphertext=b64(bytes(40)))
    for name, value in (("ciphertext-too-short", short), ("ciphertext-of-another-key", other)):
        expect = {
            "network": NETWORK,
            "content_key_hex": CONTENT_KEY.hex(),
            "open_code": "invalid-envelope",
        }
        cases.append(
            {"name": f"{name}_fail", "rules": ["EN22"], "text": json.dumps(value), "expect": expect}
        )
    twice = json.dumps(_envelope())[:-1] + ', "v": 1}'
    cases.append(
        {
            "name": "member-repeated_fail",
            "rules": ["EN23"],
            "text": twice,
            "expect": {"code": "invalid-envelope"},
        }
    )
    return cases
