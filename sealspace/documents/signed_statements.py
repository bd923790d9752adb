"""Statements that a DID signs about something of its own: a program's version, which version runs,
an API key (RN51).

    {"type": "sealspace.program.version/v1", "signer": DID, "statement": {…}, "signature": base64url}

The text that is signed names the type first, so that no statement passes for one of another type,
for a token or for a sign-in: `sealspace statement <type>`, a line end, and the canonical JSON of
`statement`. A did:key signs its UTF-8 bytes with Ed25519; a wallet signs it as a personal message
(EIP-191), so its holder can read what is signed.

Example:
    data = sign_statement("sealspace.program.active/v1", {"project": "mail-digest"}, wallet)
    assert read_statement(data, "sealspace.program.active/v1", signer=wallet.did) == {"project": "mail-digest"}
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

from capabilities.capability_errors import BadSignature, CapabilityError, InvalidJson
from capabilities.principals import ed25519_public_key, parse_principal, wallet_address
from capabilities.signatures import Ed25519Signer, recover_eip191, verify_ed25519
from capabilities.strict_base64 import decode_url, encode_url
from capabilities.strict_json import Json, Shape, parse_json, shaped
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import InvalidCanonicalJson

from ..errors import StatementInvalid
from ..wallets import AnyWallet, wallet_of

MAX_STATEMENT_BYTES: Final = 128 * 1024
"""Longest document."""

StatementSigner: TypeAlias = Ed25519Signer | AnyWallet

_MEMBERS: Final = frozenset({"type", "signer", "statement", "signature"})


def sign_statement(kind: str, statement: Mapping[str, Json], signer: StatementSigner) -> bytes:
    """Return a signed statement as canonical JSON."""
    text = _text(kind, statement)
    if isinstance(signer, Ed25519Signer):
        did, signature = signer.did, signer.sign(text.encode())
    else:
        wallet = wallet_of(signer)
        did, signature = wallet.did, wallet.sign_eip191(text)
    document: dict[str, Json] = {
        "type": kind,
        "signer": did,
        "statement": dict(statement),
        "signature": encode_url(signature),
    }
    data = canonical_bytes(document)
    if len(data) > MAX_STATEMENT_BYTES:
        raise StatementInvalid(
            f"the statement has more than {MAX_STATEMENT_BYTES} bytes", hint="state less"
        )
    return data


def read_statement(data: bytes, kind: str, *, signer: str) -> dict[str, Json]:
    """Read a signed statement, untrusted, and verify who signed it.

    Args:
        data: from anywhere.
        kind: the type that it has to be of.
        signer: the DID that has to have signed it.
    Returns:
        What was stated; its members are the caller's to check.
    Raises:
        StatementInvalid: anything does not hold.
    Does not check:
        Whether it is the latest one: a statement holds for ever.
    """
    try:
        document = parse_json(data, max_bytes=MAX_STATEMENT_BYTES)
        principal = parse_principal(signer)
    except (InvalidJson, CapabilityError) as exc:
        raise StatementInvalid("the statement cannot be read") from exc
    statement, signature = document.get("statement"), decode_url(document.get("signature"))
    if document.keys() != _MEMBERS or not isinstance(statement, dict) or signature is None:
        raise StatementInvalid("the statement has not its members")
    if document["type"] != kind or document["signer"] != principal:
        raise StatementInvalid(f"the statement is not {kind} of {principal}")
    text = _text(kind, statement).encode()
    address, public_key = wallet_address(principal), ed25519_public_key(principal)
    try:
        if public_key is not None:
            verify_ed25519(public_key, text, signature)
        elif address is None or recover_eip191(text, signature) != address:
            raise BadSignature  # statements by keys of other types are not accepted
    except BadSignature as exc:
        raise StatementInvalid(f"the signature of {principal} does not hold") from exc
    return statement


def read_shaped(data: bytes, kind: str, shape: type[Shape], *, signer: str) -> Shape:
    """Read a signed statement, untrusted, as an object of one shape; raises StatementInvalid, as
    `read_statement`."""
    try:
        return shaped(read_statement(data, kind, signer=signer), shape)
    except InvalidJson as exc:
        raise StatementInvalid(f"the statement is not what it has to be: {exc.text}") from exc


def _text(kind: str, statement: Mapping[str, Json]) -> str:
    try:
        return f"sealspace statement {kind}\n{canonical_bytes(dict(statement)).decode()}"
    except InvalidCanonicalJson as exc:
        raise StatementInvalid("the statement is no JSON that can be signed") from exc
