"""Tokens made without the product's encoders, so that vectors are checked by a second
implementation.

JWTs are made with JSON and base64url of the standard library, CACAOs with DAG-CBOR by `dag_cbor`,
ids with `blake3` and the alphabets of RFC 4648 and base58. Only the signature primitives come from
the libraries that the product uses too.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dag_cbor
import nacl.bindings
import sha3
from blake3 import blake3
from btclib_libsecp256k1 import keys, recovery

NOW = 1_795_000_000
"""The clock of all vectors: 2026-11-18T11:06:40Z."""
NOW_TEXT = "2026-11-18T11:06:40.000Z"
HOUR_LATER = "2026-11-18T12:06:40.000Z"
YEAR_LATER = "2027-11-18T11:06:40.000Z"

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SENTENCE = "I further authorize the stated URI to perform the following actions on my behalf:"

Grants = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]


def b64url(data: bytes, *, padded: bool = False) -> str:
    """Return base64url, without padding unless asked for."""
    text = base64.urlsafe_b64encode(data).decode()
    return text if padded else text.rstrip("=")


def base58(data: bytes) -> str:
    """Return base58btc without the multibase prefix."""
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def cid(event_bytes: bytes) -> str:
    """Return the id of event bytes on the wire (E7)."""
    digest = b"\x01\x55\x1e\x20" + blake3(event_bytes).digest()
    return "b" + base64.b32encode(digest).decode().lower().rstrip("=")


def cid58(event_bytes: bytes) -> str:
    """Return the same id in base58btc, as a ReCap cites it (S6)."""
    return "z" + base58(b"\x01\x55\x1e\x20" + blake3(event_bytes).digest())


def keccak(data: bytes) -> bytes:
    """Return the Keccak-256 of the data."""
    return bytes(sha3.keccak_256(data).digest())


@dataclass(frozen=True)
class Key:
    """An Ed25519 key made of 32 equal bytes."""

    fill: int

    @property
    def pair(self) -> tuple[bytes, bytes]:
        """Return public and secret key."""
        public, secret = nacl.bindings.crypto_sign_seed_keypair(bytes([self.fill]) * 32)
        return public, secret

    @property
    def did(self) -> str:
        """Return the did:key."""
        return "did:key:z" + base58(b"\xed\x01" + self.pair[0])

    @property
    def url(self) -> str:
        """Return the DID URL that issuers use."""
        return f"{self.did}#{self.did.removeprefix('did:key:')}"

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature."""
        return nacl.bindings.crypto_sign(message, self.pair[1])[:64]


@dataclass(frozen=True)
class Wallet:
    """A secp256k1 key made of 32 equal bytes."""

    fill: int

    @property
    def address(self) -> str:
        """Return the address in EIP-55 spelling."""
        key = keys.pubkey_from_prvkey(bytes([self.fill]) * 32, compressed=False)
        lower = keccak(key[1:])[12:].hex()
        digest = keccak(lower.encode()).hex()
        return "0x" + "".join(
            c.upper() if n >= "8" else c for c, n in zip(lower, digest, strict=False)
        )

    @property
    def did(self) -> str:
        """Return the did:pkh on chain 1."""
        return f"did:pkh:eip155:1:{self.address}"

    def sign(self, text: str) -> bytes:
        """Return r ‖ s ‖ v over a personal message."""
        raw = text.encode()
        digest = keccak(b"\x19Ethereum Signed Message:\n" + str(len(raw)).encode() + raw)
        signature, odd = recovery.sign(digest, bytes([self.fill]) * 32)
        return signature + bytes([odd + 27])


@dataclass(frozen=True)
class Token:
    """A minted token: its header text and its event bytes."""

    header: str
    event_bytes: bytes

    @property
    def cid(self) -> str:
        """Return the id that a JWT cites."""
        return cid(self.event_bytes)

    @property
    def cid58(self) -> str:
        """Return the id that a ReCap cites."""
        return cid58(self.event_bytes)


def plain(*abilities: str) -> dict[str, list[dict[str, Any]]]:
    """Return abilities without caveats."""
    return {ability: [{}] for ability in abilities}


def compact(value: Any) -> bytes:
    """Return JSON without spaces, members in their order."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def sorted_json(value: Any) -> bytes:
    """Return JSON without spaces, members sorted."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()


@dataclass(frozen=True, kw_only=True)
class Jwt:
    """The contents of a JWT; `header` and `payload` override members or, with None, remove them."""

    issuer: Key
    audience: str
    att: Grants
    exp: float = NOW + 60
    nbf: float | None = None
    prf: Sequence[str] = ()
    fct: Sequence[Any] | None = None
    nonce: str | None = None
    iss: str | None = None
    header: Mapping[str, Any] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)

    def mint(self) -> Token:
        """Return the signed token."""
        head = _without_none({"alg": "EdDSA", "typ": "JWT", "ucv": "0.10.0"} | dict(self.header))
        claims = {
            "iss": self.iss or self.issuer.url,
            "aud": self.audience,
            "exp": self.exp,
            "nbf": self.nbf,
            "nnc": self.nonce,
            "fct": None if self.fct is None else list(self.fct),
            "prf": list(self.prf),
            "att": self.att,
        }
        return jws(compact(head), compact(_without_none(claims | dict(self.payload))), self.issuer)


def jws(header: bytes, payload: bytes, signer: Key) -> Token:
    """Return a compact JWS over any two texts."""
    signing_input = f"{b64url(header)}.{b64url(payload)}"
    text = f"{signing_input}.{b64url(signer.sign(signing_input.encode()))}"
    return Token(text, text.encode())


def _without_none(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


NO_RECAP = {"resources": [], "statement": "Revoke."}
"""Members of a sign-in text that grants nothing: a wallet's revocation (V3)."""


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """A CACAO; if `statement` is None, it is the sentence of the ReCap."""

    wallet: Wallet
    audience: str
    att: Grants
    exp: str | None = YEAR_LATER
    nbf: str | None = None
    prf: Sequence[str] = ()
    nonce: str = "vectornonce1"
    iss: str | None = None
    statement: str | None = None
    before_recap: Sequence[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    version: Any = 1

    def payload(self) -> dict[str, Any]:
        """Return the payload map, including ReCap and sentence."""
        recap = "urn:recap:" + b64url(sorted_json({"att": self.att, "prf": list(self.prf)}))
        members = {
            "domain": "app.example",
            "iss": self.iss or self.wallet.did,
            "statement": sentence(self.att) if self.statement is None else self.statement,
            "aud": self.audience,
            "version": self.version,
            "nonce": self.nonce,
            "iat": NOW_TEXT,
            "exp": self.exp,
            "nbf": self.nbf,
            "resources": [*self.before_recap, recap],
        }
        return _without_none(members) | dict(self.extra)

    def mint(self) -> Token:
        """Return the signed token in canonical DAG-CBOR."""
        payload = self.payload()
        return cacao(payload, self.wallet.sign(siwe_text(payload, self.wallet.address)))


def cacao(payload: Mapping[str, Any], signature: bytes) -> Token:
    """Return the token of a payload and a signature of 65 bytes."""
    envelope: dict[str, Any] = {
        "h": {"t": "eip4361"},
        "p": dict(payload),
        "s": {"t": "eip191", "s": signature},
    }
    data = dag_cbor.encode(envelope)
    return Token(b64url(data, padded=True), data)


def sentence(att: Grants) -> str:
    """Return the sentence at the end of a statement (S8)."""
    groups = []
    for resource in sorted(att):
        namespaces = sorted({ability.split("/")[0] for ability in att[resource]})
        for namespace in namespaces:
            names = sorted(a.split("/")[1] for a in att[resource] if a.split("/")[0] == namespace)
            groups.append(
                f"'{namespace}': "
                + ", ".join(f"'{name}'" for name in names)
                + f" for '{resource}'."
            )
    return _SENTENCE + "".join(f" ({n}) {group}" for n, group in enumerate(groups, start=1))


def siwe_text(payload: Mapping[str, Any], address: str) -> str:
    """Return the sign-in text of a payload (2.3)."""
    chain = payload["iss"].split(":")[3]
    lines = [f"{payload['domain']} wants you to sign in with your Ethereum account:", address, ""]
    if payload.get("statement") is not None:
        lines.append(payload["statement"])
    lines += [
        "",
        f"URI: {payload['aud']}",
        "Version: 1",
        f"Chain ID: {int(chain)}",
        f"Nonce: {payload['nonce']}",
    ]
    lines.append(f"Issued At: {payload['iat']}")
    labels = (("exp", "Expiration Time"), ("nbf", "Not Before"), ("request_id", "Request ID"))
    lines += [f"{label}: {payload[key]}" for key, label in labels if payload.get(key) is not None]
    if payload.get("resources"):
        lines += ["Resources:", *(f"- {uri}" for uri in payload["resources"])]
    return "\n".join(lines)
