"""JSON statements that are signed by a key or a wallet (RN51).

They are about program versions and API keys, for example.

    {"type": "sealspace.program.version/v1", "signer": DID, "statement": {…},
     "signature": base64url}

The signed text is `sealspace statement <type>`, a line feed, and the canonical JSON of `statement`.
It begins with the type, so that no statement can pass for one of another type, a token or a
sign-in. A did:key signs the UTF-8 bytes with Ed25519. A wallet signs a personal message (EIP-191),
which its holder can read.

Example:
    kind, value = "sealspace.program.active/v1", {"project": "mail-digest"}
    data = sign_statement(kind, value, wallet)
    assert read_statement(data, kind, signer=wallet.did) == value
"""

from collections.abc import Mapping

from capabilities.capability_errors import BadSignature, CapabilityError, InvalidJson
from capabilities.principals import Principal, ed25519_public_key, parse_principal, wallet_address
from capabilities.signatures import Ed25519Signer, recover_eip191, verify_ed25519
from capabilities.strict_base64 import decode_url, encode_url
from capabilities.strict_json import Json, JsonObject, Shape, parse_json, shaped
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import InvalidCanonicalJson

from ..errors import StatementInvalid
from ..wallets import AnyWallet, signature_of, wallet_of

MAX_STATEMENT_BYTES = 128 * 1024
"""Longest signed statement, bytes."""

StatementSigner = Ed25519Signer | AnyWallet

_MEMBERS = frozenset({"type", "signer", "statement", "signature"})


def sign_statement(kind: str, statement: Mapping[str, Json], signer: StatementSigner) -> bytes:
    """Sign a JSON statement, and encode the result as canonical JSON."""
    text = _text(kind, statement)
    if isinstance(signer, Ed25519Signer):
        did, signature = signer.did, signer.sign(text.encode())
    else:
        wallet = wallet_of(signer)
        did, signature = wallet.did, signature_of(wallet, text)
    document: JsonObject = {
        "type": kind,
        "signer": did,
        "statement": dict(statement),
        "signature": encode_url(signature),
    }
    data = canonical_bytes(document)
    if len(data) > MAX_STATEMENT_BYTES:
        raise StatementInvalid(
            f"the signed statement is longer than {MAX_STATEMENT_BYTES} bytes",
            hint="shorten it",
        )
    return data


def read_statement(data: bytes, kind: str, *, signer: str) -> JsonObject:
    """Parse a signed statement and verify its signature.

    Args:
        data: the signed statement, untrusted.
        kind: the type that it must have.
        signer: DID that must have signed it.
    Returns:
        The statement's members; the caller checks them.
    Raises:
        StatementInvalid: the statement is malformed, of another type or signer, or its signature is
            not valid.
    Does not check:
        Whether it is the latest statement: statements do not expire.
    """
    try:
        document = parse_json(data, max_bytes=MAX_STATEMENT_BYTES)
        principal = parse_principal(signer)
    except (InvalidJson, CapabilityError) as exc:
        raise StatementInvalid("the signed statement cannot be parsed") from exc
    statement = document.get("statement")
    signature = decode_url(document.get("signature"))
    if document.keys() != _MEMBERS or not isinstance(statement, dict) or signature is None:
        raise StatementInvalid("the statement has missing, unknown or malformed members")
    if document["type"] != kind or document["signer"] != principal:
        raise StatementInvalid(
            f"the signed statement must have the type {kind} and the signer {principal}"
        )
    try:
        _verify(principal, _text(kind, statement).encode(), signature)
    except BadSignature as exc:
        raise StatementInvalid(f"the signature of {principal} is not valid") from exc
    return statement


def _verify(signer: Principal, text: bytes, signature: bytes) -> None:
    """Raise BadSignature unless a wallet or an Ed25519 key signed a text."""
    public_key = ed25519_public_key(signer)
    if public_key is not None:
        verify_ed25519(public_key, text, signature)
        return
    address = wallet_address(signer)
    if address is None:  # a key of another type, which cannot sign statements
        raise BadSignature
    if recover_eip191(text, signature) != address:
        raise BadSignature


def read_shaped(data: bytes, kind: str, shape: type[Shape], *, signer: str) -> Shape:
    """Verify a signed statement, and parse its content as a msgspec type."""
    try:
        return shaped(read_statement(data, kind, signer=signer), shape)
    except InvalidJson as exc:
        raise StatementInvalid(f"the signed statement is malformed: {exc.text}") from exc


def _text(kind: str, statement: Mapping[str, Json]) -> str:
    try:
        return f"sealspace statement {kind}\n{canonical_bytes(dict(statement)).decode()}"
    except InvalidCanonicalJson as exc:
        raise StatementInvalid("the statement cannot be written as canonical JSON") from exc
