"""Two verifiers with two crypto libraries agree on every signature, chain and revocation.

The second verifier is in this file. It judges chains, revocation, the links inside a quote and the
signatures of the collateral, but no levels, statuses or attributes.
"""

import hashlib
import json
import struct
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from deviating_platform import SimulatedPlatform
from hypothesis import given, settings
from hypothesis import strategies as st
from quote_verification import verify_quote
from tests_support import SHARED_VECTORS, shared_vectors

from tee_backend.attestation.attestation_errors import AttestationError
from tee_backend.attestation.certificates import READER_ERRORS
from tee_backend.attestation.collateral import parse_collateral
from tee_backend.attestation.collateral_trust import verify_collateral
from tee_backend.attestation.quote import Quote, parse_quote
from tee_backend.attestation.trust_root import TrustRoot, parse_trust_root
from tee_backend.evidence.simulated import measurements_of

BEYOND_SIGNATURES = {"tcb-too-old", "td-attributes", "collateral-mismatch", "revoked"}
"""Reasons for which the product may refuse a quote that the second verifier accepts."""


class SignatureLevelRefusal(Exception):
    """A signature, a chain or a binding is not valid."""


def check_signatures(quote: bytes, collateral: bytes, *, root: TrustRoot, now: float) -> None:
    """Raise SignatureLevelRefusal, or an error of the parsers, if a signature check fails."""
    parsed, documents = parse_quote(quote), parse_collateral(collateral)
    verify_collateral(documents, root=root, now=now)
    chain = [x509.load_der_x509_certificate(certificate.der) for certificate in parsed.pck_chain]
    if parsed.pck_chain[2].der != root.certificate.der:
        raise SignatureLevelRefusal("another root")
    anchor = x509.load_der_x509_certificate(root.certificate.der)
    _check_chain(chain[0], chain[1], anchor, now=now)
    for crl, issuer, certificate in (
        (documents.pck_crl.der, chain[1], chain[0]),
        (documents.root_crl.der, anchor, chain[1]),
    ):
        _check_crl(x509.load_der_x509_crl(crl), issuer, certificate)
    _check_links(parsed, _key(chain[0]))


def _check_chain(
    leaf: x509.Certificate, authority: x509.Certificate, anchor: x509.Certificate, *, now: float
) -> None:
    try:
        leaf.verify_directly_issued_by(authority)
        authority.verify_directly_issued_by(anchor)
    except (InvalidSignature, *READER_ERRORS) as exc:
        raise SignatureLevelRefusal("chain") from exc
    for certificate in (leaf, authority, anchor):
        if (
            not certificate.not_valid_before_utc.timestamp()
            <= now
            < certificate.not_valid_after_utc.timestamp()
        ):
            raise SignatureLevelRefusal("validity")


def _check_crl(
    crl: x509.CertificateRevocationList, issuer: x509.Certificate, certificate: x509.Certificate
) -> None:
    if crl.issuer != issuer.subject or not crl.is_signature_valid(_key(issuer)):
        raise SignatureLevelRefusal("revocation list")
    if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
        raise SignatureLevelRefusal("revoked")


def _check_links(quote: Quote, pck_key: ec.EllipticCurvePublicKey) -> None:
    """Check the three signatures and bindings inside a quote.

    The attestation key signs the quote, the QE's report names that key, and the PCK key signs the
    report.
    """
    start = len(quote.signed_bytes) + 4  # after the size of the signature data
    signature, _, _, qe_report, qe_signature, _, qe_auth = struct.unpack_from(
        "<64s64s6s384s64s2s32s", quote.raw, start
    )
    bound = hashlib.sha256(quote.attestation_key + qe_auth).digest() + bytes(32)
    if qe_report[320:384] != bound:
        raise SignatureLevelRefusal("binding of the attestation key")
    _check_raw(pck_key, qe_signature, qe_report)
    try:
        attestation_key = ec.EllipticCurvePublicKey.from_encoded_point(
            ec.SECP256R1(), b"\x04" + quote.attestation_key
        )
    except ValueError as exc:
        raise SignatureLevelRefusal("attestation key") from exc
    _check_raw(attestation_key, signature, quote.signed_bytes)


def _check_raw(key: ec.EllipticCurvePublicKey, raw: bytes, message: bytes) -> None:
    signature = encode_dss_signature(
        int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    )
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as exc:
        raise SignatureLevelRefusal("signature") from exc


def _key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def _first(quote: bytes, collateral: bytes, *, root: TrustRoot, now: float) -> str | None:
    try:
        verify_quote(quote, parse_collateral(collateral), root=root, now=now)
    except AttestationError as refused:
        return refused.code
    return None


def _second(quote: bytes, collateral: bytes, *, root: TrustRoot, now: float) -> str | None:
    try:
        check_signatures(quote, collateral, root=root, now=now)
    except AttestationError as refused:
        return refused.code
    except (SignatureLevelRefusal, *READER_ERRORS) as refused:
        return str(refused) or type(refused).__name__
    return None


def _cases() -> list[dict[str, Any]]:
    manifest = SHARED_VECTORS / "tdx" / "manifest.json"
    return json.loads(manifest.read_text())["cases"] if manifest.is_file() else []


@pytest.mark.shared
@pytest.mark.parametrize("case", _cases(), ids=[case["name"] for case in _cases()])
def test_both_agree(case: dict[str, Any]) -> None:
    """Accepted quotes have valid signatures; other refusals have a known reason."""
    quote, collateral, root = (
        shared_vectors(f"tdx/{case[part]}").read_bytes() for part in ("quote", "collateral", "root")
    )
    said = [
        verifier(quote, collateral, root=parse_trust_root(root), now=case["now"])
        for verifier in (_first, _second)
    ]
    assert (said[0] is None) <= (said[1] is None)
    assert said[1] is not None or said[0] is None or said[0] in BEYOND_SIGNATURES


MACHINE = SimulatedPlatform.from_seed(b"the platform of the tests")
NOW = 1_795_000_000.0
COLLATERAL = MACHINE.collateral_json(NOW)
QUOTE = MACHINE.mint_quote(measurements_of("backend"), bytes(64))


@given(st.integers(0, 8 * len(QUOTE) - 1))
@settings(max_examples=150, deadline=None)
def test_any_flipped_bit(bit: int) -> None:
    """A quote with one bit flipped is accepted by neither of the two."""
    flipped = bytearray(QUOTE)
    flipped[bit // 8] ^= 1 << bit % 8
    root = parse_trust_root(MACHINE.root_der)
    for verifier in (_first, _second):
        assert verifier(bytes(flipped), COLLATERAL, root=root, now=NOW) is not None
