"""The 64 bytes by which a quote names what it was made for.

    report_data := SHA-512( field(label) ‖ field(nonce) ‖ field(audience) ‖ field(holder) ‖ field(mode) ‖ field(key) )
    field(x)    := length of x as u32, big-endian ‖ x

Every field is preceded by its length, so no two lists of fields share one text. The quote thereby binds a secret that
is sealed to the receiver key: whoever relays the quote gains nothing that it could open.

Source: spec/attestation.md AT9.
"""

import hashlib
import hmac
from typing import Literal

from .errors import ReportDataMismatch

LABEL = b"sealspace/report-data/1"
REPORT_DATA_BYTES = 64
RECEIVER_KEY_BYTES = 32
ReceiverMode = Literal["attested", "signed"]


def report_data(nonce: bytes, audience: str, holder: str, mode: ReceiverMode, receiver_key: bytes) -> bytes:
    """Compute the report data of an attestation.

    Args:
        nonce: the challenge, as received from the node.
        audience: DID of the node.
        holder: DID of the backend that attests, canonical.
        mode: "attested": only this key may receive; "signed": any key that the holder signs for.
        receiver_key: X25519 public key made inside the trust domain, 32 bytes.
    Returns:
        64 bytes; all of them are meaningful.
    Raises:
        ValueError: the key is not 32 bytes (a mistake of the calling code; requests are checked by shape before).
    """
    if len(receiver_key) != RECEIVER_KEY_BYTES:
        raise ValueError("a receiver key has 32 bytes")
    fields = (LABEL, nonce, audience.encode(), holder.encode(), mode.encode(), receiver_key)
    return hashlib.sha512(b"".join(len(field).to_bytes(4, "big") + field for field in fields)).digest()


def check_report_data(found: bytes, expected: bytes) -> None:
    """Compare a quote's report data with what it has to be, in constant time over all 64 bytes.

    Raises:
        ReportDataMismatch: they differ.
    """
    if len(found) != REPORT_DATA_BYTES or not hmac.compare_digest(found, expected):
        raise ReportDataMismatch("report data names another nonce, audience, holder, mode or key")
