"""A strict parser for X.509 certificates and revocation lists.

Nothing here decides trust. This module reads the facts to which the rules about roles and platforms
apply; the verifier checks signatures and revocation.

The platform extension (OID 1.2.840.113741.1.13.1) is a SEQUENCE of SEQUENCE { OID, value }:

| suffix | value | read here |
|---|---|---|
| .1 | OCTET STRING 16 | PPID |
| .3 | OCTET STRING 2 | PCEID |
| .4 | OCTET STRING 6 | FMSPC |
| .6 | OCTET STRING 16, optional | platform instance id |

Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification; RFC 5280;
RFC 7468.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.x509.oid import NameOID

from capabilities.strict_base64 import decode_standard

from .attestation_errors import MalformedCertificate

MAX_CHAIN_BYTES = 12 * 1024
"""A genuine chain of three certificates is 3.7 KiB of PEM."""

MAX_CERTIFICATE_BYTES = 4096
"""A genuine PCK leaf, the largest certificate here, is 1.3 KiB of DER."""

MAX_CRL_BYTES = 64 * 1024

_REMEMBERED = 64
"""Parsed certificates that are cached. Root and authorities are in every quote and document, and a
leaf is in all quotes of one machine. Parsing is pure, so a cached result is never stale; failures
are not cached."""

PlatformCa = Literal["platform", "processor"]
SIMULATED_FMSPC = b"sealsp"
"""Platform family of simulated platforms. No real family has this value."""

Loaded = TypeVar("Loaded")

_PEM_BLOCK = re.compile(
    rb"-----BEGIN CERTIFICATE-----\r?\n((?:[A-Za-z0-9+/]{1,76}={0,2}\r?\n)+)-----END"
    rb" CERTIFICATE-----(?:\r?\n)*"
)
_SGX_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
_MAX_EXTENSION_ENTRIES = 16

READER_ERRORS = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    Warning,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""Exceptions of the X.509 library for unreadable bytes. Warning is among them for processes that
turn warnings into errors: there an oddity that the library only warns about, such as a negative
serial number, is refused."""


class Certificate(NamedTuple):
    """The parsed fields of an X.509 certificate.

    The fields are untrusted until the certificate chain is verified.
    """

    der: bytes
    common_name: str
    subject: bytes
    issuer: bytes
    is_authority: bool
    not_before: float
    not_after: float


class Platform(NamedTuple):
    """The machine identifiers in a platform (PCK) certificate.

    The certificate may be unverified.
    """

    fmspc: bytes
    pce_id: bytes
    ppid: bytes
    instance_id: bytes | None
    ca: PlatformCa


def parse_pem_chain(pem: bytes, *, most: int) -> tuple[Certificate, ...]:
    """Parse a chain of certificates in PEM, of at most `most` certificates.

    Text between the blocks, other labels, spare base64 bits and over-long lines are refused, so
    that no two readers of the same text see different certificates.
    """
    if len(pem) > MAX_CHAIN_BYTES:
        raise MalformedCertificate(
            f"the certificate chain has {len(pem)} bytes; the maximum is {MAX_CHAIN_BYTES}"
        )
    blocks = _PEM_BLOCK.findall(pem)
    if not 0 < len(blocks) <= most or _PEM_BLOCK.sub(b"", pem):
        raise MalformedCertificate(
            f"the certificate chain must be 1 to {most} certificates in PEM, and nothing else"
        )
    chain = []
    for block in blocks:
        der = decode_standard(block.replace(b"\r", b"").replace(b"\n", b"").decode())
        if der is None:
            raise MalformedCertificate("a certificate is not canonical base64")
        chain.append(parse_certificate(der))
    return tuple(chain)


@lru_cache(_REMEMBERED)
def parse_certificate(der: bytes) -> Certificate:
    """Parse one certificate in DER.

    Args:
        der: untrusted bytes, at most MAX_CERTIFICATE_BYTES.
    Raises:
        MalformedCertificate: not exactly one certificate with exactly one CN in its subject.
    Does not check:
        Signatures, validity, extensions other than basicConstraints.
    """
    loaded = load_certificate(der)
    try:
        return Certificate(
            der=der,
            common_name=common_name_of(loaded.subject),
            subject=loaded.subject.public_bytes(),
            issuer=loaded.issuer.public_bytes(),
            is_authority=any(
                extension.value.ca
                for extension in loaded.extensions
                if isinstance(extension.value, x509.BasicConstraints)
            ),
            not_before=loaded.not_valid_before_utc.timestamp(),
            not_after=loaded.not_valid_after_utc.timestamp(),
        )
    except READER_ERRORS as exc:
        raise MalformedCertificate(f"the certificate cannot be read: {exc}") from exc


def load_certificate(der: bytes) -> x509.Certificate:
    """Load a certificate in DER.

    Raises MalformedCertificate if it cannot be parsed.
    """
    return _load(
        der, x509.load_der_x509_certificate, "certificate", max_bytes=MAX_CERTIFICATE_BYTES
    )


def load_crl(der: bytes) -> x509.CertificateRevocationList:
    """Load a certificate revocation list in DER.

    Raises MalformedCertificate if it cannot be parsed.
    """
    return _load(der, x509.load_der_x509_crl, "revocation list", max_bytes=MAX_CRL_BYTES)


def _load(der: bytes, load: Callable[[bytes], Loaded], kind: str, *, max_bytes: int) -> Loaded:
    if len(der) > max_bytes:
        raise MalformedCertificate(f"the {kind} has {len(der)} bytes; the maximum is {max_bytes}")
    try:
        return load(der)
    except READER_ERRORS as exc:
        raise MalformedCertificate(f"not a {kind}: {exc}") from exc


def common_name_of(name: x509.Name) -> str:
    """Return the common name (CN) in an X.509 name.

    Raises MalformedCertificate unless there is exactly one CN.
    """
    common_names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(common_names) != 1 or not isinstance(common_names[0].value, str):
        raise MalformedCertificate("a subject or issuer must have exactly one common name")
    return common_names[0].value


@lru_cache(_REMEMBERED)
def parse_platform(leaf: Certificate, issuer: Certificate) -> Platform:
    """Read the machine identifiers in a platform (PCK) certificate."""
    try:
        extensions = load_certificate(leaf.der).extensions
        extension = extensions.get_extension_for_oid(_SGX_EXTENSION).value
        if not isinstance(extension, x509.UnrecognizedExtension):
            raise MalformedCertificate("the platform extension has an unexpected encoding")
        # The decoder accepts a list only as a member of a sequence, so the value is wrapped in one.
        wrapped = asn1.encode_der(_Wrapped(whole=asn1.decode_der(asn1.TLV, extension.value)))
        decoded_entries = asn1.decode_der(_Entries, wrapped).entries
    except (x509.ExtensionNotFound, *READER_ERRORS) as exc:
        raise MalformedCertificate(
            "the leaf certificate has no readable platform extension"
        ) from exc
    if len(decoded_entries) > _MAX_EXTENSION_ENTRIES:
        raise MalformedCertificate(
            f"the platform extension has more than {_MAX_EXTENSION_ENTRIES} entries"
        )
    # An entry is found by the last number of its OID.
    entries: dict[str, asn1.TLV] = {}
    for entry in decoded_entries:
        prefix, _, suffix = entry.oid.dotted_string.rpartition(".")
        if prefix != _SGX_EXTENSION.dotted_string or int(suffix) > 0x7F or suffix in entries:
            raise MalformedCertificate("the platform extension has an unknown or repeated entry")
        entries[suffix] = entry.value
    return Platform(
        fmspc=_octets(entries, "4", 6),
        pce_id=_octets(entries, "3", 2),
        ppid=_octets(entries, "1", 16),
        instance_id=_octets(entries, "6", 16) if "6" in entries else None,
        ca=authority_kind(issuer.common_name),
    )


def authority_kind(common_name: str) -> PlatformCa:
    """Determine the kind of a PCK certificate authority from its name.

    Raises MalformedCertificate for any other name.
    """
    if common_name.endswith("PCK Platform CA"):
        return "platform"
    if common_name.endswith("PCK Processor CA"):
        return "processor"
    raise MalformedCertificate(f"{common_name[:80]!r} is not the name of a PCK authority")


@asn1.sequence
class _Entry:
    oid: x509.ObjectIdentifier
    value: asn1.TLV


@asn1.sequence
class _Entries:
    entries: list[_Entry]


@asn1.sequence
class _Wrapped:
    whole: asn1.TLV


def _octets(entries: dict[str, asn1.TLV], suffix: str, size_bytes: int) -> bytes:
    value = b""
    with suppress(KeyError, ValueError):
        value = entries[suffix].parse(bytes)
    if len(value) != size_bytes:
        raise MalformedCertificate(
            f"entry .{suffix} of the platform extension is missing or not {size_bytes} bytes long"
        )
    return value
