"""Vectors of signed network descriptions, requested with a nonce, and of forgeries to refuse."""

from typing import Any

import nacl.bindings

from .cases import Case, Documents
from .minting import b64url
from .sealing import (
    ALG,
    NETWORK,
    NETWORK_KEY,
    NODE,
    NODE_SEED,
    OWNER,
    RECEIVER,
    b64,
    canonical,
    public_of,
    signing_key,
)

_TYPE = "sealspace.encryption.descriptor/v1"
_OTHER_NODE_SEED = bytes([0x0E]) * 32
_NONCE = b64url(bytes(range(32)))


def documents() -> Documents:
    """Return the vectors of each file: description, cases, and shared values."""
    context = {"node_did": NODE, "network": NETWORK, "nonce": _NONCE}
    return {
        "descriptor": (
            "descriptors that a node signed for a nonce, and nonces",
            _descriptors(),
            context,
        )
    }


def _signed(seed: bytes = NODE_SEED, **changes: Any) -> tuple[str, bytes]:
    """Return the signed text and its signature."""
    members = {
        "type": _TYPE,
        "node": NODE,
        "network": NETWORK,
        "publicEncryptionKey": b64(public_of(NETWORK_KEY)),
        "alg": ALG,
        "keyVersion": 1,
        "state": "active",
        "nonce": _NONCE,
        **changes,
    }
    text = canonical(members)
    return text.decode(), nacl.bindings.crypto_sign(text, signing_key(seed)[1])[:64]


def _answer(signature: Any, **changes: Any) -> dict[str, Any]:
    descriptor = {
        "networkId": NETWORK,
        "ownerDid": OWNER.did,
        "name": "default",
        "members": [{"nodeId": NODE, "role": "primary"}],
        "threshold": {"n": 1, "t": 1},
        "state": "active",
        "publicEncryptionKey": b64(public_of(NETWORK_KEY)),
        "alg": ALG,
        "keyVersion": 1,
        "keyBackend": "local-one-of-one",
        "createdAt": "2026-11-18T11:06:40Z",
        "updatedAt": "2026-11-18T11:06:40Z",
        **changes,
    }
    return (
        {"descriptor": descriptor}
        if signature is None
        else {"descriptor": descriptor, "nodeSignature": signature}
    )


def _descriptors() -> list[Case]:
    text, signature = _signed()
    good = b64(signature)
    other = f"urn:tinycloud:encryption:{OWNER.did}:other"
    twice = "A" * 43
    good_cases: list[Case] = [
        {
            "name": "signed",
            "rules": ["EN28", "EN29"],
            "network_key_hex": NETWORK_KEY.hex(),
            "answer": _answer(good),
            "expect": {"signed_text": text, "signature": good},
        },
        {
            "name": "revoked",
            "rules": ["EN28", "EN29"],
            "network_key_hex": NETWORK_KEY.hex(),
            "answer": _answer(b64(_signed(state="revoked")[1]), state="revoked"),
            "expect": {
                "signed_text": _signed(state="revoked")[0],
                "signature": b64(_signed(state="revoked")[1]),
            },
        },
    ]
    bad: dict[str, dict[str, Any]] = {
        "other-key": _answer(good, publicEncryptionKey=b64(public_of(RECEIVER))),
        "short-key": _answer(
            b64(_signed(publicEncryptionKey="AAAA")[1]), publicEncryptionKey="AAAA"
        ),
        "other-network": _answer(good, networkId=other, name="other"),
        "other-algorithm": _answer(good, alg="rot13/v1"),
        "other-version": _answer(good, keyVersion=2),
        "version-as-truth": _answer(good, keyVersion=True),
        "other-state": _answer(good, state="revoked"),
        "signed-for-another-nonce": _answer(b64(_signed(nonce=twice)[1])),
        "signed-by-another-node": _answer(b64(_signed(_OTHER_NODE_SEED)[1])),
        "signed-in-another-s-name": _answer(b64(_signed(node="did:key:z6Mk")[1])),
        "signed-as-another-type": _answer(
            b64(_signed(type="tinycloud.encryption.decrypt-result/v1")[1])
        ),
        "one-bit-of-the-signature": _answer(b64(bytes([signature[0] ^ 1]) + signature[1:])),
        "short-signature": _answer(b64(signature[:63])),
        "long-signature": _answer(b64(signature + b"\x00")),
        "signature-in-the-other-alphabet": _answer(b64url(signature)),
        "signature-as-list": _answer([good]),
        "no-signature": _answer(None),
    }
    cases = [
        {
            "name": f"{name}_fail",
            "rules": ["EN29"],
            "answer": answer,
            "expect": {"code": "invalid-descriptor"},
        }
        for name, answer in bad.items()
    ]
    return [*good_cases, *cases, *_nonces()]


def _nonces() -> list[Case]:
    good = {
        "16-bytes": b64url(bytes(16)),
        "32-bytes": b64url(b"\xff" * 32),
        "17-bytes": b64url(bytes(range(17))),
    }
    bad = {
        "empty": "",
        "15-bytes": b64url(bytes(15)),
        "33-bytes": b64url(bytes(33)),
        "padded": b64url(bytes(16), padded=True),
        "ordinary-alphabet": b64(b"\xff" * 18),
        "spare-bits": b64url(bytes(16))[:-1] + "B",
        "white-space": b64url(bytes(16)) + "\n",
        "quote": '"' * 24,
    }
    return [
        *(
            {
                "name": f"nonce-{name}",
                "rules": ["EN28"],
                "asked": nonce,
                "expect": {"is_nonce": True},
            }
            for name, nonce in good.items()
        ),
        *(
            {
                "name": f"nonce-{name}_fail",
                "rules": ["EN28"],
                "asked": nonce,
                "expect": {"code": "bad-nonce"},
            }
            for name, nonce in bad.items()
        ),
    ]
