"""Evidence as the store keeps it, under its holder's DID and receiver key.

Example:
    value = encode_evidence(evidence)
    evidence = decode_evidence(value)
"""

from typing import Final, Literal

import msgspec

from capabilities.cache import remembered

from .errors import RecordError
from .policy import Evidence

MAX_EVIDENCE_BYTES: Final = 16_384
"""Longest stored evidence; it has some 1,200 bytes, and the advisories grow slowly."""


class _Row(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: Literal[1]
    evidence: Evidence


_DECODER: Final = msgspec.msgpack.Decoder(_Row)


def encode_evidence(evidence: Evidence) -> bytes:
    """Write evidence as the store keeps it, versioned."""
    return msgspec.msgpack.encode(_Row(version=1, evidence=evidence))


@remembered(1024)
def decode_evidence(value: bytes) -> Evidence:
    """Read stored evidence.

    Raises:
        RecordError: not such a row, of another version, or with a field of the wrong length.
    Does not check:
        Whether it satisfies any policy; `judgement.judge` does.
    """
    if len(value) > MAX_EVIDENCE_BYTES:
        raise RecordError("evidence too long")
    try:
        return _DECODER.decode(value).evidence
    except (ValueError, RecursionError) as exc:
        raise RecordError("evidence unreadable, or with a field of the wrong length") from exc
