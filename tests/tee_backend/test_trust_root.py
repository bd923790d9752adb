"""The root certificates at which chains have to end."""

import hashlib

import pytest
from deviating_platform import SimulatedPlatform
from hypothesis import given, settings
from hypothesis import strategies as st

from encryption_network.release_record import INTEL_ROOT_SHA256
from tee_backend.attestation.attestation_errors import QuoteRefused
from tee_backend.attestation.trust_root import TrustRoot, intel_root, parse_trust_root


def test_intel_root() -> None:
    """The packaged root matches its pin, and its roles have Intel's names."""
    root = intel_root()
    assert root.sha256 == INTEL_ROOT_SHA256
    assert root.is_intel is True
    assert root.prefix == "Intel SGX "
    assert root.pck_authority_name("platform") == "Intel SGX PCK Platform CA"
    assert root.pck_authority_name("processor") == "Intel SGX PCK Processor CA"


def test_configured_root(machine: SimulatedPlatform, root: TrustRoot) -> None:
    """A configured root is read from PEM and DER, and is never taken for Intel's."""
    assert root == parse_trust_root(machine.root_pem.encode())
    assert hashlib.sha256(machine.root_der).digest() == root.sha256
    assert not root.is_intel


def test_no_root(machine: SimulatedPlatform) -> None:
    """A leaf, an authority below a root, several certificates and junk are refused as a root."""
    blocks = machine.pck_chain_pem.split("-----END CERTIFICATE-----\n")
    leaf, authority = (block + "-----END CERTIFICATE-----\n" for block in blocks[:2])
    for data in (
        leaf,
        authority,
        machine.pck_chain_pem,
        machine.root_pem * 2,
        "",
        "junk",
        "-----junk",
    ):
        with pytest.raises(QuoteRefused, match=r"^untrusted-root$"):
            parse_trust_root(data.encode())


def test_root_needs_a_name_for_its_roles(machine: SimulatedPlatform) -> None:
    """A root whose name does not end in "Root CA" is refused."""
    renamed = machine.root_der.replace(b"Root CA", b"Ruth CA")
    with pytest.raises(QuoteRefused, match=r"^untrusted-root$"):
        parse_trust_root(renamed)


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes(data: bytes) -> None:
    """Arbitrary bytes are refused as a root."""
    for candidate in (data, b"-----" + data):
        with pytest.raises(QuoteRefused, match=r"^untrusted-root$"):
            parse_trust_root(candidate)
