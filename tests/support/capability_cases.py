"""Principals, tokens and a store in memory for tests of capabilities. All keys are public test
material."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import libipld
import msgspec

from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.chain import (
    Authority,
    Marker,
    Registered,
    judge_invocation,
    judge_registration,
    judge_revocation,
)
from capabilities.cids import ContentKey, Digest, cid_text
from capabilities.principals import Principal
from capabilities.recap import Recap, attach
from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.siwe import SiweMessage
from capabilities.strict_json import Json
from capabilities.tokens import (
    Delegation,
    parse_delegation,
    parse_invocation,
    parse_revocation,
    verify_delegation,
    verify_invocation,
    verify_revocation,
)
from capabilities.ucan import UcanPayload, encode_ucan

NOW = 1_795_000_000.0

OWNER = WalletSigner(
    bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
)
SESSION = Ed25519Signer(bytes(range(32)))
BOB = Ed25519Signer(bytes(range(32, 64)))
CAROL = Ed25519Signer(bytes(range(64, 96)))

SPACE = f"tinycloud:{OWNER.did[4:]}:default"
KV = f"{SPACE}/kv"
SESSION_SPACE = f"tinycloud:{SESSION.did[4:]}:default"

Att = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]] | Sequence[str]]


def machine_statement(
    *, key: str, paths: Iterable[str], ends_at: int, name: str
) -> dict[str, Json]:
    """Return the statement of a machine token (MT1)."""
    return {"key": key, "paths": [*sorted(set(paths))], "end": ends_at, "name": name}


def granted(att: Att) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Spell out `{resource: ["ability"]}` as `{resource: {"ability": [{}]}}`."""
    return {
        resource: {ability: [dict(c) for c in held[ability]] for ability in held}
        if isinstance(held, Mapping)
        else {ability: [{}] for ability in held}
        for resource, held in att.items()
    }


def ucan(
    signer: Ed25519Signer,
    audience: str,
    att: Att,
    *,
    prf: Sequence[str] = (),
    exp: float = NOW + 3600,
    include_jwk: bool = True,
    **claims: Any,
) -> str:
    """Return a signed UCAN."""
    payload = UcanPayload(
        iss=claims.pop("iss", signer.did_url),
        aud=audience,
        exp=exp,
        prf=list(prf),
        att=granted(att),
        **claims,
    )
    if include_jwk:
        return encode_ucan(payload, signer)
    return raw_ucan(msgspec.json.encode(payload), signer=signer)


class Signs(Protocol):
    """A key of any type."""

    def sign(self, message: bytes) -> bytes:
        """Return the signature over the message."""
        ...


def raw_ucan(payload: bytes, *, header: bytes | None = None, signer: Signs = SESSION) -> str:
    """Return a signed token with any payload and header text."""
    head = b'{"alg":"EdDSA","typ":"JWT","ucv":"0.10.0"}' if header is None else header
    signing_input = f"{_b64(head)}.{_b64(payload)}"
    return f"{signing_input}.{_b64(signer.sign(signing_input.encode()))}"


def claims(**changes: Any) -> bytes:
    """Return the JSON claims of a plain delegation with changes; `...` removes a claim."""
    plain = {
        "iss": SESSION.did_url,
        "aud": BOB.did,
        "exp": NOW + 3600,
        "prf": [],
        "att": {f"{SESSION_SPACE}/kv": {"tinycloud.kv/get": [{}]}},
    }
    return msgspec.json.encode(
        {key: value for key, value in (plain | changes).items() if value is not ...}
    )


def _b64(data: bytes) -> str:
    return libipld.encode_multibase("u", data)[1:]


def message(
    att: Att | None = None, *, prf: Sequence[str] = (), uri: str | None = None, **fields: Any
) -> SiweMessage:
    """Return an unsigned sign-in message of the owner."""
    plain = SiweMessage(
        domain="app.example",
        address=OWNER.address,
        uri=SESSION.did_url if uri is None else uri,
        nonce="nonce0001",
        issued_at="2026-01-02T03:04:05.000Z",
    )
    plain = replace(plain, **fields)
    if att is None:
        return plain
    recap = {r: {a: tuple(c) for a, c in held.items()} for r, held in granted(att).items()}
    return attach(plain, Recap(recap, tuple(prf)))


def cacao(att: Att | None = None, **fields: Any) -> str:
    """Return a sign-in message of the owner as a signed header."""
    return header_text(encode_cacao(sign_cacao(message(att, **fields), OWNER)))


def base58(cid: str) -> str:
    """Return a CID text in base58btc."""
    return libipld.encode_multibase("z", libipld.decode_multibase(cid)[1])


class World:
    """The delegations, aliases and revocations that a node has registered."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now
        self.marks: dict[ContentKey, Marker] = {}
        self._by_content: dict[ContentKey, Registered] = {}
        self._contents: dict[Digest, ContentKey] = {}

    def find(self, digest: Digest | None) -> Registered | None:
        """Return the delegation registered under a cid."""
        key = None if digest is None else self._contents.get(digest)
        return None if key is None else self._by_content.get(key)

    def put(self, registered: Registered) -> str:
        """Store a registered delegation without checks; return its cid text."""
        delegation = registered.delegation
        self._by_content[delegation.content_key] = registered
        self._contents[delegation.cid] = delegation.content_key
        self.marks.setdefault(delegation.content_key, Marker.LIVE)
        return cid_text(delegation.cid)

    def alias(self, cid: Digest, content_key: ContentKey) -> None:
        """Make a registered delegation available under another spelling."""
        self._contents[cid] = content_key

    def judge(self, header: str) -> Registered:
        """Parse, verify and judge a delegation."""
        delegation = verify_delegation(parse_delegation(header))
        parents = [self.find(parent.digest) for parent in delegation.parents]
        return judge_registration(delegation, parents, self.marks, now=self.now)

    def register(self, header: str) -> str:
        """Register a delegation; return its cid text."""
        return self.put(self.judge(header))

    def delegation(self, cid: str) -> Delegation:
        """Return a registered delegation."""
        found = self.find(parse_digest(cid))
        assert found is not None
        return found.delegation

    def mark_revoked(self, cid: str) -> None:
        """Revoke a delegation without a token."""
        self.marks[self.delegation(cid).content_key] = Marker.REVOKED

    def invoke(self, header: str) -> Authority:
        """Parse, verify and judge an invocation."""
        invocation = verify_invocation(parse_invocation(header))
        cited = [self.find(parent.digest) for parent in invocation.parents]
        return judge_invocation(invocation, cited, self.marks, now=self.now)

    def revoke(self, header: str) -> Principal:
        """Parse, verify and judge a revocation; mark its targets."""
        revocation = verify_revocation(parse_revocation(header))
        targets = [self.find(target.digest) for target in revocation.targets]
        proofs = [self.find(parent.digest) for parent in revocation.parents]
        acting = judge_revocation(revocation, proofs, targets, self.marks, now=self.now)
        for target in targets:
            assert target is not None
            self.marks[target.delegation.content_key] = Marker.REVOKED
        return acting


def parse_digest(cid: str) -> Digest:
    """Return the digest in a cid text."""
    return Digest(libipld.decode_multibase(cid)[1][4:])
