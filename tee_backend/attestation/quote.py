"""A strict parser for TDX quotes.

Untrusted quotes are parsed here before any other use.

    quote v4 := header(48) body(584) auth_size:u32 auth
    quote v5 := header(48) body_type:u16 body_size:u32 body(body_size) auth_size:u32 auth
    auth     := signature(64) attestation_key(64) outer_type:u16 = 6 outer_size:u32 outer
    outer    := qe_report(384) qe_signature(64) qe_auth_size:u16 = 32 qe_auth
                inner_type:u16 = 5 inner_size:u32 inner
    inner    := PEM of PCK leaf, PCK authority, root; optionally one NUL

Integers are little-endian. Every length must fit its neighbours exactly. No signature covers the
lengths, so with a lenient parser two byte strings could carry one statement. Only zero bytes may
follow the quote (platforms pad their buffers). They are dropped and never reach the verifier.

Body, offsets from its start:

| offset | size | field | | offset | size | field |
|---|---|---|---|---|---|---|
| 0 | 16 | TEE_TCB_SVN | | 232 | 48 | MROWNER |
| 16 | 48 | MRSEAM | | 280 | 48 | MROWNERCONFIG |
| 64 | 48 | MRSIGNERSEAM | | 328 | 4 × 48 | RTMR0 to RTMR3 |
| 112 | 8 | SEAMATTRIBUTES | | 520 | 64 | REPORTDATA |
| 120 | 8 | TDATTRIBUTES | | 584 | 16 | TEE_TCB_SVN2 (1.5) |
| 128 | 8 | XFAM | | 600 | 48 | MRSERVICETD (1.5) |
| 136 | 48 | MRTD | | 648 | 237 | extension (1.5 extended) |
| 184 | 48 | MRCONFIGID | | | | |

Source: Intel TDX DCAP Quoting Library API, quote formats 4 and 5.
"""

import hashlib
import struct
from enum import Enum
from typing import Any, NamedTuple

from capabilities.frozen import frozen

from .attestation_errors import MalformedCertificate, QuoteRefused
from .certificates import Certificate, Platform, parse_pem_chain, parse_platform

MAX_QUOTE_BYTES = 16 * 1024
"""Genuine quotes are 4.6 to 5.2 KiB; the largest padded one seen is 8000 bytes."""

INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_QE_AUTH_BYTES = 32
_KEY_TYPE_ECDSA_P256 = 2
_TEE_TYPE_TDX = 0x81
_CERTIFICATION_QE_REPORT = 6
_CERTIFICATION_PEM_CHAIN = 5
_CHAIN_CERTIFICATES = 3
# The QE report and its signature, the size and bytes of qe_auth, the head of inner.
_OUTER_FIXED_BYTES = 488
_AUTH_FIXED_BYTES = 134  # signature, attestation key, head of outer


class BodyKind(Enum):
    """The kinds of trust domain report.

    The value is the size of the report in bytes.
    """

    TD10 = 584
    TD15 = 648
    TD15_EXTENDED = 885


_BODY_KINDS_V5 = dict(enumerate(BodyKind, start=2))

# Fields of a body in the order of `TdReport`, as the struct module names them (`_read_report`).
_TD10_FIELDS = "16s48s48s8s8s8s48s48s48s48s48s48s48s48s64s"
_BODY_FIELDS = {
    BodyKind.TD10: _TD10_FIELDS,
    BodyKind.TD15: f"{_TD10_FIELDS}16s48s",
    BodyKind.TD15_EXTENDED: f"{_TD10_FIELDS}16s48s237s",
}


@frozen
class TdReport:
    """The unverified fields of a trust domain report."""

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mrtd: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes
    tee_tcb_svn2: bytes | None = None
    mr_service_td: bytes | None = None
    extension: bytes = b""


class Quote(NamedTuple):
    """A parsed TDX quote.

    None of the fields has been verified.
    """

    version: int
    report: TdReport
    signed_bytes: bytes
    attestation_key: bytes
    pck_chain: tuple[Certificate, ...]
    platform: Platform
    raw: bytes

    @property
    def statement_sha256(self) -> bytes:
        """SHA-256 of the quote's header, body and attestation key.

        It is the same for every encoding of one statement. A hash of all bytes would not identify
        it: anyone can change an ECDSA signature into another valid one, and lengths and padding are
        unsigned.
        """
        return hashlib.sha256(self.signed_bytes + self.attestation_key).digest()


class _Reader:
    """A sequential reader of binary fields that never reads past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.offset = 0

    def take(self, fields: str) -> tuple[Any, ...]:
        """Unpack the next little-endian fields in the given `struct` format."""
        try:
            values = struct.unpack_from(f"<{fields}", self._data, self.offset)
        except struct.error as exc:
            raise QuoteRefused(
                "malformed",
                f"the quote ends at byte {len(self._data)}, inside the fields that start at byte"
                f" {self.offset}",
            ) from exc
        self.offset += struct.calcsize(f"<{fields}")
        return values


def parse_quote(data: bytes) -> Quote:
    """Parse a TDX quote of version 4 or 5.

    Args:
        data: untrusted bytes, at most MAX_QUOTE_BYTES.
    Returns:
        The quote. Every length fits, and only zero bytes followed.
    Raises:
        QuoteRefused: `malformed`, too long, cut off, lengths that do not fit, non-zero bytes after
            the quote, broken certificates.
        QuoteRefused: `unsupported`, not TDX, or another version, key type, vendor, body or
            certification data.
    Does not check:
        Signatures, certificates, attributes, measurements: see `examine`.
    """
    if len(data) > MAX_QUOTE_BYTES:
        raise QuoteRefused(
            "malformed", f"the quote has {len(data)} bytes; the maximum is {MAX_QUOTE_BYTES}"
        )
    reader = _Reader(data)
    version = _read_header(reader)
    kind = BodyKind.TD10 if version == 4 else _read_body_kind(reader)
    report = _read_report(reader, kind)
    signed_bytes = data[: reader.offset]

    (auth_size,) = reader.take("I")
    auth_start = reader.offset
    # The signatures and the report of the quoting enclave are skipped; the verifier checks them.
    _, attestation_key = reader.take("64s64s")
    outer_size = _read_certification_head(reader, _CERTIFICATION_QE_REPORT)
    if auth_size != _AUTH_FIXED_BYTES + outer_size:
        raise QuoteRefused(
            "malformed", "the size field of the signature data does not match the actual size"
        )
    _, _, qe_auth_size = reader.take("384s64sH")
    if qe_auth_size != _QE_AUTH_BYTES:
        raise QuoteRefused(
            "unsupported",
            f"the quoting enclave's authentication data is not {_QE_AUTH_BYTES} bytes long",
        )
    reader.take("32s")  # the authentication data itself
    inner_size = _read_certification_head(reader, _CERTIFICATION_PEM_CHAIN)
    if outer_size != _OUTER_FIXED_BYTES + inner_size:
        raise QuoteRefused(
            "malformed", "the size field of the certification data does not match the actual size"
        )
    (pem,) = reader.take(f"{inner_size}s")
    assert reader.offset == auth_start + auth_size

    if any(data[reader.offset :]):
        raise QuoteRefused("malformed", "the quote is followed by bytes other than zero")
    pck_chain, platform = _read_chain(pem)
    return Quote(
        version=version,
        report=report,
        signed_bytes=signed_bytes,
        attestation_key=attestation_key,
        pck_chain=pck_chain,
        platform=platform,
        raw=data[: reader.offset],
    )


def _read_header(reader: _Reader) -> int:
    """Check the header of a quote and return the version."""
    version, key_type, tee_type, reserved, vendor, _ = reader.take("HHI4s16s20s")
    if version not in (4, 5):
        raise QuoteRefused("unsupported", f"quote version {version} is not supported")
    if tee_type != _TEE_TYPE_TDX:
        raise QuoteRefused("unsupported", f"TEE type {tee_type:#x} is not TDX")
    if key_type != _KEY_TYPE_ECDSA_P256:
        raise QuoteRefused("unsupported", f"attestation key type {key_type} is not supported")
    if any(reserved):
        raise QuoteRefused("malformed", "reserved bytes of the header are not zero")
    if vendor != INTEL_QE_VENDOR:
        raise QuoteRefused("unsupported", "the quoting enclave is not from Intel")
    return int(version)


def _read_body_kind(reader: _Reader) -> BodyKind:
    """Read the type of the report in a version 5 quote."""
    body_type, body_size = reader.take("HI")
    kind = _BODY_KINDS_V5.get(body_type)
    if kind is None:
        raise QuoteRefused("unsupported", f"body type {body_type} is not supported")
    if body_size != kind.value:
        raise QuoteRefused(
            "malformed",
            f"a body of type {body_type} must be {kind.value} bytes long, but is {body_size}",
        )
    return kind


def _read_report(reader: _Reader, kind: BodyKind) -> TdReport:
    """Read the trust domain report of a quote."""
    (
        tee_tcb_svn,
        mr_seam,
        mr_signer_seam,
        seam_attributes,
        td_attributes,
        xfam,
        mrtd,
        mr_config_id,
        mr_owner,
        mr_owner_config,
        rtmr0,
        rtmr1,
        rtmr2,
        rtmr3,
        report_data,
        *newer,
    ) = reader.take(_BODY_FIELDS[kind])
    tee_tcb_svn2, mr_service_td, extension = None, None, b""
    if kind is BodyKind.TD15:
        tee_tcb_svn2, mr_service_td = newer
    elif kind is BodyKind.TD15_EXTENDED:
        tee_tcb_svn2, mr_service_td, extension = newer
    return TdReport(
        tee_tcb_svn=tee_tcb_svn,
        mr_seam=mr_seam,
        mr_signer_seam=mr_signer_seam,
        seam_attributes=seam_attributes,
        td_attributes=td_attributes,
        xfam=xfam,
        mrtd=mrtd,
        mr_config_id=mr_config_id,
        mr_owner=mr_owner,
        mr_owner_config=mr_owner_config,
        rtmr0=rtmr0,
        rtmr1=rtmr1,
        rtmr2=rtmr2,
        rtmr3=rtmr3,
        report_data=report_data,
        tee_tcb_svn2=tee_tcb_svn2,
        mr_service_td=mr_service_td,
        extension=extension,
    )


def _read_certification_head(reader: _Reader, expected_type: int) -> int:
    """Check the header of certification data and return the size."""
    actual_type, size_bytes = reader.take("HI")
    if actual_type != expected_type:
        raise QuoteRefused(
            "unsupported",
            f"the certification data must have type {expected_type}, but has type {actual_type}",
        )
    return int(size_bytes)


def _read_chain(pem: bytes) -> tuple[tuple[Certificate, ...], Platform]:
    """Parse the certificates of a quote, and the platform in the first one."""
    try:
        chain = parse_pem_chain(pem.removesuffix(b"\x00"), most=_CHAIN_CERTIFICATES)
        if len(chain) != _CHAIN_CERTIFICATES:
            raise QuoteRefused(
                "malformed",
                f"the certificate chain must have {_CHAIN_CERTIFICATES} certificates, but has"
                f" {len(chain)}",
            )
        return chain, parse_platform(chain[0], chain[1])
    except MalformedCertificate as exc:
        raise QuoteRefused("malformed", exc.detail) from exc
