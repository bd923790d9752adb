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

_REGISTER: Final = 48
_SIZES: Final = {
    "receiver_public_key": 32,
    "mrtd": _REGISTER,
    "rtmr0": _REGISTER,
    "rtmr1": _REGISTER,
    "rtmr2": _REGISTER,
    "rtmr3": _REGISTER,
    "mr_config_id": _REGISTER,
    "mr_owner": _REGISTER,
    "mr_owner_config": _REGISTER,
    "mr_seam": _REGISTER,
    "td_attributes": 8,
    "xfam": 8,
    "tee_tcb_svn": 16,
    "fmspc": 6,
    "root_ca_sha256": 32,
    "quote_sha256": 32,
    "collateral_sha256": 32,
}


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
        evidence = _DECODER.decode(value).evidence
    except (ValueError, RecursionError) as exc:
        raise RecordError("evidence unreadable") from exc
    if any(len(getattr(evidence, name)) != size for name, size in _SIZES.items()):
        raise RecordError("evidence with a field of the wrong length")
    optional = (evidence.platform_id_hash, evidence.compose_hash)
    if any(digest is not None and len(digest) != 32 for digest in optional):
        raise RecordError("evidence with a digest of the wrong length")
    return evidence
