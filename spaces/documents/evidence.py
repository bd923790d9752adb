"""Rows of attestation: evidence by (DID, receiver key), where newer replaces older. Opaque here."""

from capabilities.principals import Principal

from ..keyspace import evidence_key, x16
from ..store.contract import Range


def evidence_row_key(holder: Principal, receiver_public_key: bytes) -> bytes:
    """Key of the evidence of one DID for one receiver key of 32 bytes."""
    return evidence_key(x16(holder), receiver_public_key)


def evidence_range(holder: Principal, *, limit: int = 16) -> Range:
    """The evidence of one DID, for any receiver key (receiver mode `signed`)."""
    return Range(evidence_key(x16(holder)), limit=limit)
