"""Rows of evidence, one for each DID and receiver key. Newer evidence replaces older evidence."""

from capabilities.principals import Principal

from ..keyspace import evidence_key, x16
from ..store.contract import Range


def evidence_row_key(holder: Principal, receiver_public_key: bytes) -> bytes:
    """Return the row key of a DID's evidence for one receiver key of 32 bytes."""
    return evidence_key(x16(holder), receiver_public_key)


def evidence_range(holder: Principal, *, limit: int = 16) -> Range:
    """Return the range of a DID's evidence rows, for all of its receiver keys.

    Receiver mode `signed` needs it.
    """
    return Range(evidence_key(x16(holder)), limit=limit)
