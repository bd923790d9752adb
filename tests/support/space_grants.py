"""Delegations as clients make them, for tests of stored rows."""

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.chain import Marker, Registered, judge_registration
from capabilities.cids import cid_text
from capabilities.recap import Recap, attach
from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.siwe import SiweMessage
from capabilities.tokens import Delegation, parse_delegation, verify_delegation
from capabilities.ucan import UcanPayload, encode_ucan

NOW = 1_795_000_000.0
HOUR_S = 3600.0
DAY_S = 86_400.0

OWNER = Ed25519Signer(b"\x01" * 32)
FRIEND = Ed25519Signer(b"\x02" * 32)
STRANGER = Ed25519Signer(b"\x03" * 32)
WALLET = WalletSigner(b"\x04" * 32)


def space_text(owner: str, name: str = "default") -> str:
    return f"tinycloud:{owner.removeprefix('did:')}:{name}"


def ucan(
    att: dict[str, list[str]],
    *,
    signer: Ed25519Signer = OWNER,
    delegate: str = FRIEND.did,
    parents: Sequence[Delegation] = (),
    lifetime_s: float = HOUR_S,
    nonce: str = "n",
) -> Delegation:
    """Return a UCAN that grants abilities on resources."""
    payload = UcanPayload(
        iss=signer.did_url,
        aud=delegate,
        exp=NOW + lifetime_s,
        nnc=nonce,
        prf=[cid_text(parent.cid) for parent in parents],
        att={
            resource: {ability: [{}] for ability in abilities}
            for resource, abilities in att.items()
        },
    )
    return verify_delegation(parse_delegation(encode_ucan(payload, signer)))


def cacao(
    att: dict[str, list[str]],
    *,
    wallet: WalletSigner = WALLET,
    delegate: str = FRIEND.did,
    lifetime_s: float | None = HOUR_S,
    nonce: str = "nonce0000",
    issued_at: float = NOW,
    resources: tuple[str, ...] = (),
) -> Delegation:
    """Return a wallet's sign-in that grants abilities on resources."""
    message = SiweMessage(
        domain="app.example",
        address=wallet.address,
        uri=delegate,
        nonce=nonce,
        issued_at=iso(issued_at),
        expiration_time=None if lifetime_s is None else iso(NOW + lifetime_s),
        resources=resources,
    )
    recap = Recap(
        {
            resource: {ability: ({},) for ability in abilities}
            for resource, abilities in att.items()
        },
        (),
    )
    data = encode_cacao(sign_cacao(attach(message, recap), wallet))
    return verify_delegation(parse_delegation(header_text(data)))


def registered(delegation: Delegation, *parents: Registered) -> Registered:
    """Check a delegation as a node does; every ancestor counts as live."""
    marks = {member.content_key: Marker.LIVE for parent in parents for member in parent.closure}
    return replace(judge_registration(delegation, parents, marks, now=NOW + 1), registered_at=NOW)


def iso(at: float) -> str:
    """Return epoch seconds in the format of SIWE texts."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
