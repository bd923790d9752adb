"""Vectors of the statements in which owners replace the key of a network, and of forgeries."""

import hashlib
from typing import Any

from .cases import Case, Documents
from .minting import Key, Wallet, b64url
from .sealing import ALG, NETWORK, NODE, OWNER, b64, canonical, public_of

_TYPE = "sealspace.network.key/v1"
_OTHER_NODE = Key(0x0E).did
_STRANGER = Key(0x62)
_WALLET = Wallet(0x63)
_OF_WALLET = f"urn:tinycloud:encryption:{_WALLET.did}:default"
_KEYS = [public_of(bytes([0x17 + number]) * 32) for number in range(4)]
"""The public keys of the versions 1 to 4."""


def documents() -> Documents:
    """Return the vectors of each file: description, cases, and shared values."""
    context = {"node_did": NODE}
    return {
        "key_statements": (
            "statements that replace the key of a network, from a known key to the newest",
            [*_chains(), *_forgeries()],
            context,
        )
    }


def _statement(former: int, *, network: str = NETWORK, **changes: Any) -> dict[str, Any]:
    """Return the statement that replaces a version by the next one."""
    return {
        "network": network,
        "node": NODE,
        "alg": ALG,
        "from": {"keyVersion": former, "sha256": hashlib.sha256(_KEYS[former - 1]).hexdigest()},
        "to": {"keyVersion": former + 1, "publicEncryptionKey": b64(_KEYS[former])},
        "at": "2026-11-18T11:06:40.000Z",
        **changes,
    }


def _signed(
    signed: dict[str, Any],
    signer: Key | Wallet = OWNER,
    *,
    kind: str = _TYPE,
    named: str | None = None,
    **changes: Any,
) -> str:
    """Return a signed statement as JSON text."""
    text = f"sealspace statement {kind}\n{canonical(signed).decode()}"
    signature = signer.sign(text) if isinstance(signer, Wallet) else signer.sign(text.encode())
    document = {
        "type": kind,
        "signer": named or signer.did,
        "statement": signed,
        "signature": b64url(signature),
        **changes,
    }
    return canonical(document).decode()


def _pin(version: int) -> dict[str, Any]:
    return {"keyVersion": version, "publicEncryptionKey": b64(_KEYS[version - 1])}


def _chains() -> list[Case]:
    own = [_signed(_statement(former)) for former in (1, 2, 3)]
    of_wallet = [_signed(_statement(former, network=_OF_WALLET), _WALLET) for former in (1, 2)]
    return [
        {
            "name": name,
            "rules": ["EN30", "EN36"],
            "network": network,
            "known": _pin(known),
            "statements": statements,
            "expect": _pin(newest),
        }
        for name, network, known, statements, newest in (
            ("no-statement", NETWORK, 1, [], 1),
            ("one-statement", NETWORK, 1, own[:1], 2),
            ("three-statements", NETWORK, 1, own, 4),
            ("from-a-later-version", NETWORK, 3, own, 4),
            ("from-the-newest", NETWORK, 4, own, 4),
            ("signed-by-a-wallet", _OF_WALLET, 1, of_wallet, 3),
        )
    ]


def _forgeries() -> list[Case]:
    good = _statement(1)
    next_key = b64(_KEYS[1])
    broken: dict[str, str] = {
        "another-former-key": _signed(good | {"from": {"keyVersion": 1, "sha256": "ab" * 32}}),
        "another-former-version": _signed(_statement(2)),
        "a-skipped-version": _signed(good | {"to": {**good["to"], "keyVersion": 3}}),
        "the-same-version": _signed(good | {"to": {**good["to"], "keyVersion": 1}}),
        "another-network": _signed(_statement(1, network=f"{NETWORK}er")),
        "another-node": _signed(good | {"node": _OTHER_NODE}),
        "another-algorithm": _signed(good | {"alg": "rot13/v1"}),
        "a-stranger": _signed(good, _STRANGER),
        "a-stranger-in-the-owner-s-name": _signed(good, _STRANGER, named=OWNER.did),
        "a-wallet-in-the-owner-s-name": _signed(good, _WALLET, named=OWNER.did),
        "another-type": _signed(good, kind="sealspace.contacts/v1"),
        "a-short-key": _signed(good | {"to": {"keyVersion": 2, "publicEncryptionKey": "AAAA"}}),
        "a-key-in-the-other-alphabet": _signed(
            good | {"to": {"keyVersion": 2, "publicEncryptionKey": next_key.replace("/", "_")[:-1]}}
        ),
        "no-time": _signed({name: good[name] for name in good if name != "at"}),
        "a-further-member": _signed(good | {"more": 1}),
        "a-further-member-of-the-key": _signed(good | {"to": {**good["to"], "alg": ALG}}),
        "a-version-as-truth": _signed(good | {"from": {**good["from"], "keyVersion": True}}),
        "a-changed-statement": _signed(good, statement=_statement(2)),
        "no-signature": _signed(good, signature=""),
        "a-long-text": _signed(good, signature="A" * 1600),
        "no-json": "{",
        "a-list": "[]",
    }
    return [
        {
            "name": f"{name}_fail",
            "rules": ["EN30", "EN36"],
            "network": NETWORK,
            "known": _pin(1),
            "statements": [statement],
            "expect": {"code": "statement-invalid"},
        }
        for name, statement in broken.items()
    ]
