"""Lists of code, DIDs and evidence that are no longer trusted (RC20 to RC24).

An owner withdraws trust for one network, the operator for all. Every key release is checked
against both lists, after all policies. Entries are never removed, and each entry can only refuse
more.

    member of a request   withdraws
    measurement           96 hex digits: evidence with this register, which is MRTD, RTMR0 to
                          RTMR3 or MRSEAM;
                          64 hex digits: evidence with this compose hash, or evidence that may
                          hide it
    did                   releases to this DID, or by any delegation that it signed or received
    evidence              releases on the evidence with this SHA-256, as in receipts and audit

Example:
    listed = listed.joined(parse_withdrawal({"did": "did:key:z6Mk…"}))
    if listed.covers(evidence): ...
"""

import hashlib
from collections.abc import Iterable
from typing import Literal

import msgspec

from capabilities.cache import memoize, memoize_by_identity
from capabilities.capability_errors import InvalidIdentifier
from capabilities.principals import Principal, parse_principal, principal_of
from capabilities.strict_json import Json, StrictRecord

from .network_errors import RecordError, WithdrawalError
from .policy import Evidence, encode_evidence

MAX_NETWORK_ENTRIES = 256
"""Most entries in a network's list; every release of the network reads them."""
MAX_NODE_ENTRIES = 1024
"""Most entries in the operator's list; every release reads them."""
MAX_REQUEST_BYTES = 4096
_MAX_ROW_BYTES = 512 * 1024
_REGISTER_BYTES = 48
_DIGEST_BYTES = 32
_MAX_DID_CHARS = 512


class Withdrawals(StrictRecord, array_like=True, kw_only=True):
    """Code, DIDs and evidence from which trust was withdrawn.

    No keys are released to such code or DIDs, or for such evidence. The fields define the format of
    the stored row.
    """

    version: Literal[1] = 1
    measurements: frozenset[bytes] = frozenset()
    dids: frozenset[Principal] = frozenset()
    evidence: frozenset[bytes] = frozenset()

    def __len__(self) -> int:
        return len(self.measurements) + len(self.dids) + len(self.evidence)

    def joined(self, other: "Withdrawals") -> "Withdrawals":
        """Return the union of this list and `other`."""
        return Withdrawals(
            measurements=self.measurements | other.measurements,
            dids=self.dids | other.dids,
            evidence=self.evidence | other.evidence,
        )

    def names_any(self, parties: Iterable[Principal]) -> bool:
        """Return whether any of several principals is no longer trusted."""
        return bool(self.dids) and any(
            party in self.dids or principal_of(party) in self.dids for party in parties
        )

    def covers(self, evidence: Evidence) -> bool:
        """Return whether evidence, or the code that it attests, is no longer trusted (RC30).

        If any compose hash is withdrawn, so is all evidence that may hide its compose hash.
        """
        measured = {
            evidence.mrtd,
            evidence.rtmr0,
            evidence.rtmr1,
            evidence.rtmr2,
            evidence.rtmr3,
            evidence.mr_seam,
            evidence.compose_hash,
        }
        if measured & self.measurements:
            return True
        # RC30: a withdrawn application could leave out the event log that contains its compose
        # hash. RTMR3 shows that there are events, because it is zero without any. A measurement of
        # 32 bytes is a compose hash.
        may_hide = evidence.compose_hash is None and any(evidence.rtmr3)
        if may_hide and any(len(measurement) == _DIGEST_BYTES for measurement in self.measurements):
            return True
        return bool(self.evidence) and evidence_digest(evidence) in self.evidence


NOTHING_WITHDRAWN = Withdrawals()
"""The empty list, which is the value for most networks."""


@memoize_by_identity(most=1024)  # a backend uses the same evidence for many releases
def evidence_digest(evidence: Evidence) -> bytes:
    """Return the SHA-256 digest of attestation evidence.

    It identifies the evidence in audit records, receipts and withdrawals.
    """
    return hashlib.sha256(encode_evidence(evidence)).digest()


def parse_withdrawal(value: Json) -> Withdrawals:
    """Parse a request to withdraw trust in code, a DID or evidence.

    Code is given by one of its measurements.
    """
    if not isinstance(value, dict) or len(value) != 1:
        raise WithdrawalError("send exactly one of measurement, did and evidence")
    match value:
        case {"measurement": text}:
            measurement = _hex(
                text, (_REGISTER_BYTES, _DIGEST_BYTES), "96 or 64 lower-case hex digits"
            )
            if not any(measurement):
                raise WithdrawalError("the measurement consists of zeros, so it identifies no code")
            return Withdrawals(measurements=frozenset((measurement,)))
        case {"did": text}:
            return Withdrawals(dids=frozenset((_did(text),)))
        case {"evidence": text}:
            return Withdrawals(
                evidence=frozenset((_hex(text, (_DIGEST_BYTES,), "64 lower-case hex digits"),))
            )
        case _:
            raise WithdrawalError("send exactly one of measurement, did and evidence")


def _did(text: Json) -> Principal:
    """Parse a DID to withdraw trust in."""
    if not isinstance(text, str) or len(text) > _MAX_DID_CHARS:
        raise WithdrawalError("not a valid DID")
    try:
        return parse_principal(text)
    except InvalidIdentifier as exc:
        raise WithdrawalError("not a valid DID") from exc


def _hex(text: Json, sizes: tuple[int, ...], form: str) -> bytes:
    try:
        data = bytes.fromhex(text) if isinstance(text, str) and len(text) <= 2 * max(sizes) else b""
    except ValueError:
        data = b""
    if len(data) not in sizes or data.hex() != text:
        raise WithdrawalError(f"expected {form}")
    return data


# Deterministic order, so that equal lists give equal bytes.
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(Withdrawals)


def encode_withdrawals(listed: Withdrawals) -> bytes:
    """Encode the code, DIDs and evidence that are no longer trusted."""
    return _ENCODER.encode(listed)


@memoize(64)
def decode_withdrawals(value: bytes) -> Withdrawals:
    """Decode the list of code, DIDs and evidence that are no longer trusted."""
    if len(value) > _MAX_ROW_BYTES:
        raise RecordError("the stored list of withdrawals of trust is too long")
    try:
        listed = _DECODER.decode(value)
    except (ValueError, RecursionError) as exc:
        raise RecordError("the stored list of withdrawals of trust cannot be parsed") from exc
    if any(len(entry) not in (_REGISTER_BYTES, _DIGEST_BYTES) for entry in listed.measurements):
        raise RecordError(
            "the stored list of withdrawals of trust contains a measurement of the wrong length"
        )
    if any(len(entry) != _DIGEST_BYTES for entry in listed.evidence):
        raise RecordError(
            "the stored list of withdrawals of trust contains a digest of the wrong length"
        )
    # A row that lacks one of the lists is damaged. Read as an empty list, it would undo
    # withdrawals.
    if encode_withdrawals(listed) != value:
        raise RecordError("the stored list of withdrawals of trust cannot be parsed")
    return listed or NOTHING_WITHDRAWN
