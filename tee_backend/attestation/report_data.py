"""The 64 bytes of report data that bind a quote to its purpose.

    report_data := SHA-512( field(label) ‖ field(nonce) ‖ field(audience) ‖ field(holder)
                            ‖ field(mode) ‖ field(key) )
    field(x)    := length of x as u32, big-endian ‖ x

Every field is preceded by its length, so no two lists of fields have the same encoding. The quote
thereby names the receiver key to which secrets are sealed. A party that relays the quote can open
none of them.

Evidence that a backend publishes to any client has other report data, under another label. So a
quote made for one purpose cannot be used for the other.

Source: spec/attestation.md AT9, AT51, AT41.
"""

import hashlib
import hmac
from typing import NamedTuple

from capabilities.principals import Principal, ed25519_public_key, parse_principal
from encryption_network.policy import ReceiverMode
from sealspace.documents.node_evidence import LABEL as NODE_LABEL
from sealspace.documents.node_evidence import NodeStatement

from .attestation_errors import QuoteRefused

LABEL = b"sealspace/report-data/1"
PUBLISHED_LABEL = b"sealspace/backend-evidence/1"
RUNNER_LABEL = b"sealspace/runner-start/1"
REPORT_DATA_BYTES = 64
RECEIVER_KEY_BYTES = 32


class Binding(NamedTuple):
    """The facts that a quote vouches for.

    `report_data` is computed from these facts. Obtain a binding with the functions below.
    """

    report_data: bytes
    holder: Principal
    receiver_public_key: bytes = b""
    receiver_mode: ReceiverMode = "attested"


def session_binding(
    nonce: bytes, audience: str, holder: Principal, mode: ReceiverMode, receiver_key: bytes
) -> Binding:
    """Compute the report data of a backend's quote for a node (AT9).

    The result also contains the backend's DID and receiver key.

    Args:
        nonce: from the node's challenge.
        audience: DID of the node.
        holder: DID of the backend, canonical.
        mode: receiver mode.
        receiver_key: X25519 public key, 32 bytes.
    Raises:
        ValueError: the receiver key has the wrong size (a mistake of the calling code).
    """
    if len(receiver_key) != RECEIVER_KEY_BYTES:
        raise ValueError(f"the receiver public key must be {RECEIVER_KEY_BYTES} bytes long")
    expected = _hash(LABEL, nonce, audience, holder, mode, receiver_key)
    return Binding(
        report_data=expected, holder=holder, receiver_public_key=receiver_key, receiver_mode=mode
    )


def published_binding(nonce: bytes, holder: Principal, statement_sha256: bytes) -> Binding:
    """Compute the report data of a backend's published quote (AT51).

    The result also contains the backend's DID.

    Args:
        nonce: chosen by the client.
        holder: DID of the backend, canonical.
        statement_sha256: SHA-256 of the canonical JSON of everything published beside quote and
            log.
    """
    return Binding(
        report_data=_hash(PUBLISHED_LABEL, nonce, holder, statement_sha256), holder=holder
    )


def runner_binding(holder: Principal, receipt_key: bytes, statement_sha256: bytes) -> Binding:
    """Compute the report data of a runner's startup quote (RN71).

    The quote names the runner's receipt key. The result also contains the runner's DID.

    No client chooses any part of it. A quote made on request has another label, so it cannot pass
    for this one.

    Args:
        holder: DID of the runner, canonical.
        receipt_key: Ed25519 public key made inside the trust domain, 32 bytes; it verifies
            receipts.
        statement_sha256: as for `published_binding`.
    """
    expected = _hash(RUNNER_LABEL, holder, receipt_key, statement_sha256)
    return Binding(report_data=expected, holder=holder)


def node_binding(nonce: str, statement: NodeStatement) -> Binding:
    """Return a node's DID and public key, and the quote's report data (AT41).

    The public key is the result's `receiver_public_key`.

    Raises:
        InvalidIdentifier: the node's DID is malformed.
        UnicodeEncodeError: the same errors as `node_report_data`.
    """
    node_did = parse_principal(statement.node_did)
    return Binding(
        report_data=node_report_data(nonce, statement),
        holder=node_did,
        receiver_public_key=ed25519_public_key(node_did) or b"",
    )


def node_report_data(nonce: str, statement: NodeStatement) -> bytes:
    """Return the report data for a node's own quote (AT41).

    Args:
        nonce: text chosen by the client; encoded as UTF-8.
        statement: the node's statement about itself. Trust roots and key providers are sorted.
    Returns:
        64 bytes.
    Raises:
        UnicodeEncodeError: the nonce cannot be encoded (a mistake of the calling code).
    """
    return _hash(
        NODE_LABEL,
        nonce,
        statement.node_did,
        statement.store_id,
        statement.secret_origin,
        statement.attestation,
        b"".join(sorted(statement.trust_roots)),
        "true" if statement.node_policy_suffices else "false",
        ",".join(sorted(statement.key_providers)),
    )


def joined(*fields: bytes | str) -> bytes:
    """Concatenate length-prefixed fields.

    Strings are encoded as UTF-8.
    """
    encoded = bytearray()
    for field in fields:
        content = field.encode() if isinstance(field, str) else field
        encoded += len(content).to_bytes(4, "big")
        encoded += content
    return bytes(encoded)


def _hash(*fields: bytes | str) -> bytes:
    return hashlib.sha512(joined(*fields)).digest()


def check_report_data(actual: bytes, expected: bytes) -> None:
    """Check that a quote's report data has the expected value.

    The comparison takes constant time.

    Raises:
        QuoteRefused: `report-data`, they differ.
    """
    if len(actual) != REPORT_DATA_BYTES or not hmac.compare_digest(actual, expected):
        raise QuoteRefused(
            "report-data",
            "the report data does not match the expected nonce, audience, holder, mode and key",
        )
