"""Tokens: UCANs of keys, and CACAOs of wallets with a ReCap, signed as `spec/capabilities.md` §2
says."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sealspace_conformance.encodings import (
    b64url,
    canonical_json,
    cid,
    cid58,
    compact_json,
    dag_cbor,
)
from sealspace_conformance.keys import Key, Wallet

_SENTENCE = "I further authorize the stated URI to perform the following actions on my behalf:"

Caveats = Sequence[Mapping[str, Any]]
Grants = Mapping[str, Mapping[str, Caveats]]
"""Resource to ability to caveats."""


@dataclass(frozen=True)
class Token:
    """A signed token: its text in the header, and its event bytes."""

    text: str
    event_bytes: bytes

    @property
    def cid(self) -> str:
        """The id that a UCAN cites (E7)."""
        return cid(self.event_bytes)

    @property
    def cid58(self) -> str:
        """The id that a ReCap cites (S6)."""
        return cid58(self.event_bytes)


def plain(*abilities: str) -> dict[str, Caveats]:
    """Return abilities without caveats."""
    return {ability: [{}] for ability in abilities}


def fresh_nonce() -> str:
    """Return a nonce that no other token has."""
    return secrets.token_hex(16)


def time_text(at: float) -> str:
    """Return RFC 3339 in UTC with milliseconds (J4)."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


@dataclass(frozen=True, kw_only=True)
class Ucan:
    """The contents of a UCAN. `header` and `payload` replace members or, with None, remove them."""

    signer: Key
    audience: str
    grants: Grants
    ends_at: float
    not_before: float | None = None
    proofs: Sequence[str] = ()
    facts: Sequence[Any] = ()
    nonce: str | None = None
    header: Mapping[str, Any] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)

    def sign(self) -> Token:
        """Return the signed token."""
        head: dict[str, Any] = {"alg": "EdDSA", "typ": "JWT", "ucv": "0.10.0"}
        claims: dict[str, Any] = {
            "iss": self.signer.url,
            "aud": self.audience,
            "exp": self.ends_at,
            "nbf": self.not_before,
            "nnc": fresh_nonce() if self.nonce is None else self.nonce,
            "fct": list(self.facts) or None,
            "prf": list(self.proofs),
            "att": self.grants,
        }
        header = compact_json(_without_none(head | dict(self.header)))
        return jws(header, compact_json(_without_none(claims | dict(self.payload))), self.signer)


def jws(header: bytes, payload: bytes, signer: Key) -> Token:
    """Return a compact JWS over any two texts."""
    signed = f"{b64url(header)}.{b64url(payload)}"
    text = f"{signed}.{b64url(signer.sign(signed.encode('ascii')))}"
    return Token(text, text.encode("ascii"))


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """The contents of a CACAO with a ReCap. `extra` replaces members or, with None, removes them.

    `statement` replaces the sentence of the ReCap if it is not None.
    """

    wallet: Wallet
    audience: str
    grants: Grants
    issued_at: float
    ends_at: float | None
    not_before: float | None = None
    proofs: Sequence[str] = ()
    nonce: str | None = None
    statement: str | None = None
    before_recap: Sequence[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def payload(self) -> dict[str, Any]:
        """Return the payload, including ReCap and sentence."""
        recap = canonical_json({"att": self.grants, "prf": list(self.proofs)})
        members: dict[str, Any] = {
            "domain": "conformance.example",
            "iss": self.wallet.did,
            "statement": sentence(self.grants) if self.statement is None else self.statement,
            "aud": self.audience,
            "version": 1,
            "nonce": fresh_nonce() if self.nonce is None else self.nonce,
            "iat": time_text(self.issued_at),
            "exp": None if self.ends_at is None else time_text(self.ends_at),
            "nbf": None if self.not_before is None else time_text(self.not_before),
            "resources": [*self.before_recap, "urn:recap:" + b64url(recap)],
        }
        return _without_none(members | dict(self.extra))

    def sign(self) -> Token:
        """Return the signed token in canonical DAG-CBOR."""
        payload = self.payload()
        return cacao(payload, self.wallet.sign(signed_text(payload, self.wallet.address)))


def cacao(payload: Mapping[str, Any], signature: Any) -> Token:
    """Return the token of a payload and a signature."""
    data = dag_cbor(
        {"h": {"t": "eip4361"}, "p": dict(payload), "s": {"t": "eip191", "s": signature}}
    )
    return Token(b64url(data, padded=True), data)


def wallet_revocation(wallet: Wallet, target: str, *, issued_at: float) -> Token:
    """Return a wallet's revocation of a delegation (V3)."""
    payload = SignIn(
        wallet=wallet,
        audience=f"ucan:{target}",
        grants={},
        issued_at=issued_at,
        ends_at=None,
        statement="Revoke this delegation.",
        extra={"resources": None},
    ).payload()
    return cacao(payload, wallet.sign(signed_text(payload, wallet.address)))


def sentence(grants: Grants) -> str:
    """Return the sentence at the end of a statement (S8)."""
    text = _SENTENCE
    number = 0
    for resource in sorted(grants):
        namespaces = sorted({ability.split("/")[0] for ability in grants[resource]})
        for namespace in namespaces:
            number += 1
            names = [
                f"'{ability.split('/')[1]}'"
                for ability in sorted(grants[resource])
                if ability.split("/")[0] == namespace
            ]
            text += f" ({number}) '{namespace}': {', '.join(names)} for '{resource}'."
    return text


def signed_text(payload: Mapping[str, Any], address: str) -> str:
    """Return the text that the wallet signs (§2.3)."""
    chain = payload["iss"].split(":")[3]
    lines = [f"{payload['domain']} wants you to sign in with your Ethereum account:", address, ""]
    if "statement" in payload:
        lines.append(payload["statement"])
    lines += [
        "",
        f"URI: {payload['aud']}",
        "Version: 1",
        f"Chain ID: {chain}",
        f"Nonce: {payload['nonce']}",
        f"Issued At: {payload['iat']}",
    ]
    for member, label in (("exp", "Expiration Time"), ("nbf", "Not Before")):
        if member in payload:
            lines.append(f"{label}: {payload[member]}")
    if payload.get("resources"):
        lines.append("Resources:")
        lines += [f"- {uri}" for uri in payload["resources"]]
    return "\n".join(lines)


def _without_none(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
