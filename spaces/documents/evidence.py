"""Rows of attestation: evidence by (DID, receiver key), and the release record. Opaque here."""

from capabilities.principals import Principal

from ..keyspace import RELEASE_RECORD_KEY, evidence_key, x16
from ..store.contract import ANY, Expect, Put, Range


def evidence_row_key(holder: Principal, receiver_public_key: bytes) -> bytes:
    """Key of the evidence of one DID for one receiver key of 32 bytes."""
    return evidence_key(x16(holder), receiver_public_key)


def evidence_range(holder: Principal, *, limit: int = 16) -> Range:
    """The evidence of one DID, for any receiver key (receiver mode `signed`)."""
    return Range(evidence_key(x16(holder)), limit=limit)


def evidence_put(holder: Principal, receiver_public_key: bytes, value: bytes) -> Put:
    """Write evidence; newer replaces older."""
    return Put(evidence_row_key(holder, receiver_public_key), value)


def release_record_put(value: bytes, *, expect: Expect = ANY) -> Put:
    """Write the release record."""
    return Put(RELEASE_RECORD_KEY, value, expect=expect)
