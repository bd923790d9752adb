"""Storage of attestation evidence.

There is one row for each DID and receiver key. New evidence replaces old evidence in its row.
"""

from capabilities.principals import Principal

from ..keyspace import evidence_key, x16
from ..store.contract import Range


def evidence_row_key(holder: Principal, receiver_public_key: bytes) -> bytes:
    """Return the database key of attestation evidence.

    `holder` is the DID, and the receiver key has 32 bytes.
    """
    return evidence_key(x16(holder), receiver_public_key)


def evidence_range(holder: Principal, *, limit: int = 16) -> Range:
    """Return the key range of a DID's attestation evidence.

    There is one row for each receiver key. Receiver mode `signed` needs all of them.
    """
    return Range(evidence_key(x16(holder)), limit=limit)
