"""Signed receipts for key releases (RC7, RC9, RC10).

A receipt is canonical JSON with exactly these members:

    type                    "sealspace.receipt/v1"
    node                    the node's DID, did:key; it signs
    network, owner          the network's id and its owner
    invoker                 DID of the caller
    invocation              CID of the token
    requestHash             hex, over CID and body hash
    receiverPublicKeyHash   hex, as in the request
    chain                   CIDs of every delegation in every cited closure
    policies                hex SHA-256 of every policy in force, as canonical JSON
    verdict, ground         "authorised", and why: owner, owner_session, machine, attested, off
    machine                 only for the ground machine: the name of the machine token
    mode                    the node's mode at that time
    atMicros                microseconds since the epoch
    evidence                null, or the documents that the code was judged by: see `QuoteVerdict`
    signature               base64, Ed25519 by the node over the other members

The type distinguishes the signed text from every other one that the node signs.

Example:
    text = signed_text(receipt, keyring.node_signer)
    receipt = verify_receipt(parse_receipt(text))
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from capabilities.capability_errors import BadSignature, InvalidJson
from capabilities.machine_tokens import MachineName
from capabilities.principals import ed25519_public_key
from capabilities.signatures import Ed25519Signer, verify_ed25519
from capabilities.strict_base64 import encode_standard
from capabilities.strict_json import JsonObject, Sha256Hex, StrictRecord, parse_json, shaped

from .canonical_json import canonical_members
from .network_errors import ReceiptError
from .release_record import Ground, Mode

RECEIPT_TYPE: Final = "sealspace.receipt/v1"
VERDICT: Final = "authorised"
MAX_RECEIPT_BYTES = 64 * 1024
"""Longest receipt; 64 CIDs and some hundred policies take half of it."""
MAX_CHAIN = 64
MAX_POLICY_DIGESTS = 512
_MAX_TEXT_CHARS = 8192
_SIGNATURE_BYTES = 64
_DIGEST_BYTES = 32
# The members that come after the signature are the same in every receipt.
_LAST_MEMBERS = f'"type":"{RECEIPT_TYPE}","verdict":"{VERDICT}"}}'.encode()
_Text = Annotated[str, Meta(min_length=1, max_length=_MAX_TEXT_CHARS)]


class Digest(bytes):
    """A SHA-256 digest that is encoded as hex in JSON."""


class QuoteVerdict(StrictRecord, kw_only=True, gc=False, rename="camel"):
    """Digests of the attestation documents that justified a key release.

    The nonce of the attestation is included.
    """

    record: Digest
    quote: Digest | None
    event_log: Digest | None
    collateral: Digest
    nonce: Digest | None


class Receipt(StrictRecord, kw_only=True, gc=False, rename="camel"):
    """A receipt for one key release.

    The module docstring describes its members.
    """

    type: Literal["sealspace.receipt/v1"] = RECEIPT_TYPE
    node: _Text
    network: _Text
    owner: _Text
    invoker: _Text
    invocation: _Text
    request_hash: Sha256Hex
    receiver_public_key_hash: Sha256Hex
    chain: Annotated[tuple[_Text, ...], Meta(max_length=MAX_CHAIN)]
    policies: Annotated[tuple[Digest, ...], Meta(max_length=MAX_POLICY_DIGESTS)]
    verdict: Literal["authorised"] = VERDICT
    ground: Ground
    machine: MachineName | UnsetType = UNSET
    member: _Text | UnsetType = UNSET
    mode: Mode
    at_micros: Annotated[int, Meta(ge=0, lt=1 << 53)]
    evidence: QuoteVerdict | None
    signature: bytes | UnsetType = UNSET

    @property
    def at(self) -> float:
        """The time of the key release in epoch seconds."""
        return self.at_micros / 1_000_000


def signed_text(receipt: Receipt, signer: Ed25519Signer) -> bytes:
    """Sign a receipt with the node's key.

    Returns the receipt as canonical JSON.
    """
    texts = (receipt.network, receipt.owner, receipt.invoker, receipt.invocation)
    if max(map(len, texts)) > _MAX_TEXT_CHARS:
        raise ReceiptError("an identifier is too long")
    if len(receipt.chain) > MAX_CHAIN or len(receipt.policies) > MAX_POLICY_DIGESTS:
        raise ReceiptError("the receipt lists too many delegations or policies")
    if signer.did != receipt.node:
        raise RuntimeError("the DID of the node in the receipt must be the signer's DID")
    signed = _signed_part(receipt)
    signature = encode_standard(signer.sign(signed)).encode()
    # In canonical order the signature comes directly before the last members. It is inserted there,
    # which is cheaper than encoding the whole receipt again.
    return b'%b"signature":"%b",%b' % (signed.removesuffix(_LAST_MEMBERS), signature, _LAST_MEMBERS)


def _signed_part(receipt: Receipt) -> bytes:
    return canonical_members(replace(receipt, signature=UNSET))


def encode_receipt(receipt: Receipt) -> bytes:
    """Encode a signed receipt as canonical JSON.

    No other encoding is accepted.
    """
    return canonical_members(receipt)


def receipt_json(receipt: Receipt) -> JsonObject:
    """Return a signed receipt as a JSON object."""
    members: JsonObject = msgspec.json.decode(encode_receipt(receipt))
    return members


def parse_receipt(data: bytes) -> Receipt:
    """Parse a receipt from canonical JSON.

    Args:
        data: untrusted, at most MAX_RECEIPT_BYTES; one line break may follow.
    Returns:
        The receipt; `encode_receipt` returns the same bytes.
    Raises:
        ReceiptError: not canonical JSON, or a member is missing, unknown, or of another type or
            size; or a machine token or a member is named for another ground, or not named for its
            own (MT5, TM8).
    Does not check:
        The signature, see `verify_receipt`; that the documents exist and support its statements.
    """
    text = data.removesuffix(b"\n")
    try:
        receipt = shaped(parse_json(text, max_bytes=MAX_RECEIPT_BYTES), Receipt, dec_hook=_digest)
    except InvalidJson as exc:
        raise ReceiptError(str(exc)) from exc
    if encode_receipt(receipt) != text:
        raise ReceiptError("the receipt is not canonical JSON")
    # a receipt names a machine token for that ground alone (MT5)
    names_machine = receipt.machine is not UNSET
    if names_machine != (receipt.ground == "machine"):
        raise ReceiptError("the receipt names a machine token exactly if one was the ground")
    # ... and a member for that ground alone (TM8)
    names_member = receipt.member is not UNSET
    if names_member != (receipt.ground == "member"):
        raise ReceiptError("the receipt names a member exactly if one was the ground")
    if receipt.signature is UNSET or len(receipt.signature) != _SIGNATURE_BYTES:
        raise ReceiptError("the signature must be 64 bytes, encoded in base64")
    return receipt


def _digest(_: type, text: str) -> Digest:
    """Decode the hex text of a digest, which is the only type that JSON does not have."""
    digest = Digest.fromhex(text)
    if len(digest) != _DIGEST_BYTES:
        raise ValueError(text)
    return digest


def verify_receipt(receipt: Receipt) -> Receipt:
    """Verify the node's signature on a receipt (RC9).

    Raises:
        ReceiptError: the node's DID has no Ed25519 key, or the signature is invalid.
    Does not check:
        That this is the expected node: compare `node`.
    """
    key = ed25519_public_key(receipt.node)
    if key is None:
        raise ReceiptError("the node's DID is not a did:key with an Ed25519 key")
    try:
        verify_ed25519(key, _signed_part(receipt), receipt.signature or b"")
    except BadSignature as exc:
        raise ReceiptError(
            "the signature does not match the receipt's contents and the key of the node in the"
            " receipt"
        ) from exc
    return receipt
