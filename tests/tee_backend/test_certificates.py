"""Reading certificates: strict PEM, strict DER, one interpretation."""

import base64

import pytest
from deviating_platform import SimulatedPlatform
from hypothesis import given, settings
from hypothesis import strategies as st

from tee_backend.attestation.attestation_errors import MalformedCertificate
from tee_backend.attestation.certificates import (
    MAX_CERTIFICATE_BYTES,
    MAX_CHAIN_BYTES,
    Certificate,
    authority_kind,
    load_crl,
    parse_certificate,
    parse_pem_chain,
    parse_platform,
)

PEM = SimulatedPlatform.from_seed(b"the platform of the tests").pck_chain_pem.encode()
LEAF, AUTHORITY, ROOT = parse_pem_chain(PEM, most=3)
EXTENSION_OID = bytes.fromhex("060a2a864886f84d010d01")


def _pem(der: bytes, *, width: int = 64) -> bytes:
    text = base64.b64encode(der)
    lines = b"\n".join(text[i : i + width] for i in range(0, len(text), width))
    return b"-----BEGIN CERTIFICATE-----\n" + lines + b"\n-----END CERTIFICATE-----\n"


def _leaf_with(found: bytes, replacement: bytes) -> Certificate:
    """Return the leaf with some of its bytes replaced by the same number of others."""
    assert len(found) == len(replacement)
    assert LEAF.der.count(found) == 1
    return parse_certificate(LEAF.der.replace(found, replacement))


def test_names_and_windows() -> None:
    """A chain is read leaf first, and each issuer is the next subject."""
    assert LEAF.issuer == AUTHORITY.subject
    assert AUTHORITY.issuer == ROOT.subject
    assert ROOT.issuer == ROOT.subject
    assert LEAF.is_authority is False
    assert AUTHORITY.is_authority is True
    assert ROOT.is_authority is True
    assert 1_577_836_800.0 == LEAF.not_before < LEAF.not_after


def test_platform_of_the_leaf(machine: SimulatedPlatform) -> None:
    """The platform extension contains family, provisioning enclave, machine and authority."""
    platform = parse_platform(LEAF, AUTHORITY)
    assert machine.fmspc == platform.fmspc
    assert platform.pce_id == bytes(2)
    assert platform.ca == "platform"
    assert len(platform.ppid) == 16
    assert len(platform.instance_id or b"") == 16


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"\n" + PEM,
        PEM + b"x",
        PEM[:-2],
        PEM.replace(b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN CERTIFICATE-----\n\n"),
        _pem(ROOT.der, width=77),
        _pem(ROOT.der[:-1]),
        _pem(ROOT.der + b"\x00"),
        _pem(b"\x30\x00"),
        _pem(bytes(MAX_CERTIFICATE_BYTES + 1)),
        b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nMI==MI==\n-----END CERTIFICATE-----\n",
        bytes(MAX_CHAIN_BYTES + 1),
    ],
)
def test_other_texts(pem: bytes) -> None:
    """A text that two parsers might read differently is refused."""
    with pytest.raises(MalformedCertificate):
        parse_pem_chain(pem, most=3)


def test_spare_base64_bits() -> None:
    """Base64 with non-zero spare bits is refused: it would be a second encoding of one
    certificate."""
    der = next(c.der for c in (LEAF, AUTHORITY, ROOT) if len(c.der) % 3)
    text = base64.b64encode(der).rstrip(b"=")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".index(chr(text[-1]))
    spelled = text[:-1] + base64.b64encode(bytes([(last | 1) << 2]))[:1]
    assert spelled != text
    padded = spelled + b"=" * (-len(spelled) % 4)
    lines = b"\n".join(padded[i : i + 64] for i in range(0, len(padded), 64))
    with pytest.raises(MalformedCertificate):
        parse_pem_chain(
            b"-----BEGIN CERTIFICATE-----\n" + lines + b"\n-----END CERTIFICATE-----\n", most=3
        )


def test_count_is_bounded() -> None:
    """A chain with too many certificates is refused before they are read."""
    with pytest.raises(MalformedCertificate):
        parse_pem_chain(PEM, most=2)


@pytest.mark.parametrize(
    ("found", "replacement"),
    [
        (EXTENSION_OID + b"\x04\x04\x06", EXTENSION_OID + b"\x04\x0c\x06"),  # FMSPC as text
        (EXTENSION_OID + b"\x04", EXTENSION_OID + b"\x09"),  # FMSPC missing
        (EXTENSION_OID + b"\x04", EXTENSION_OID + b"\x03"),  # an entry twice
        # a foreign entry
        (EXTENSION_OID + b"\x04", b"\x06\x0a\x2a\x86\x48\x86\xf8\x4d\x01\x0d\x02\x04"),
        # no sequence
        (b"\x30\x14" + EXTENSION_OID + b"\x04", b"\x31\x14" + EXTENSION_OID + b"\x04"),
        # lengths that do not fit
        (b"\x30\x14" + EXTENSION_OID + b"\x04", b"\x30\x15" + EXTENSION_OID + b"\x04"),
        # not the shortest length
        (b"\x30\x14" + EXTENSION_OID + b"\x04", b"\x30\x81" + EXTENSION_OID + b"\x04"),
        # indefinite length
        (b"\x30\x14" + EXTENSION_OID + b"\x04", b"\x30\x80" + EXTENSION_OID + b"\x04"),
        (EXTENSION_OID + b"\x04\x04\x06", EXTENSION_OID + b"\x04\x04\x05"),  # a third element
        (
            b"\x06\x0a\x2a\x86\x48\x86\xf8\x4d\x01\x0d\x01\x04",
            b"\x04\x0a\x2a\x86\x48\x86\xf8\x4d\x01\x0d\x01\x04",
        ),
    ],
)
def test_broken_platform_extension(found: bytes, replacement: bytes) -> None:
    """A platform extension with a missing, repeated, foreign or malformed part is refused."""
    with pytest.raises(MalformedCertificate):
        parse_platform(_leaf_with(found, replacement), AUTHORITY)


def test_platform_instance_is_optional() -> None:
    """Leaves of the processor authority carry no platform instance id."""
    leaf = _leaf_with(EXTENSION_OID + b"\x06", EXTENSION_OID + b"\x09")
    assert parse_platform(leaf, AUTHORITY).instance_id is None


def test_certificate_without_the_extension() -> None:
    """A certificate without the platform extension is refused as a platform."""
    with pytest.raises(MalformedCertificate):
        parse_platform(AUTHORITY, ROOT)


def test_authority_kinds() -> None:
    """Only the two PCK authorities are accepted as issuers of platform certificates."""
    assert authority_kind("Intel SGX PCK Platform CA") == "platform"
    assert authority_kind("Intel SGX PCK Processor CA") == "processor"
    with pytest.raises(MalformedCertificate):
        authority_kind("Intel SGX Root CA")


@pytest.mark.parametrize("der", [b"", b"\x30\x00", bytes(200), LEAF.der])
def test_no_revocation_list(der: bytes) -> None:
    """Bytes that are not a revocation list are refused."""
    with pytest.raises(MalformedCertificate):
        load_crl(der)


@given(st.integers(0, len(LEAF.der) - 1), st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_any_changed_byte(offset: int, change: int) -> None:
    """A certificate with a changed byte is read or refused, without any other error."""
    der = LEAF.der[:offset] + bytes([LEAF.der[offset] ^ change]) + LEAF.der[offset + 1 :]
    try:
        parse_platform(parse_certificate(der), AUTHORITY)
    except MalformedCertificate:
        return


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_bytes(data: bytes) -> None:
    """Arbitrary bytes as text, certificate or revocation list are read or refused."""
    for read in (lambda d: parse_pem_chain(d, most=3), parse_certificate, load_crl):
        with pytest.raises(MalformedCertificate):
            read(data)


def test_facts_are_kept_by_bytes_alone() -> None:
    """The parser caches results by bytes: equal bytes are parsed once, unreadable bytes each
    time."""
    assert parse_certificate(bytes(bytearray(ROOT.der))) is parse_certificate(ROOT.der)
    assert parse_certificate(AUTHORITY.der) != parse_certificate(ROOT.der)
    for _ in range(2):
        with pytest.raises(MalformedCertificate):
            parse_certificate(ROOT.der[:-1])
    assert parse_certificate.cache_info().maxsize == parse_platform.cache_info().maxsize == 64
