"""The trusted root certificate for verifying quotes.

It is Intel's certificate or one that the operator configured. `intel_sgx_root_ca.der` beside this
module is Intel's public root certificate for SGX and TDX, as published at
https://certificates.trustedservices.intel.com/ (subject CN "Intel SGX Root CA", P-256, valid to
2049). Its SHA-256 is pinned below. Another root changes the anchor only: no check is skipped for
it.

The names of the roles below a root follow from the root's name. A root "<prefix>Root CA" has
"<prefix>TCB Signing", "<prefix>PCK Platform CA", "<prefix>PCK Processor CA" and "<prefix>PCK
Certificate". Names are checked because a platform's key is certified under the same root; otherwise
it could sign collateral.

Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from encryption_network.release_record import INTEL_ROOT_SHA256

from .attestation_errors import MalformedCertificate, QuoteRefused
from .certificates import Certificate, PlatformCa, parse_certificate, parse_pem_chain

_INTEL_ROOT_FILE = Path(__file__).with_name("intel_sgx_root_ca.der")
_ROOT_SUFFIX = "Root CA"


class TrustRoot(NamedTuple):
    """A root certificate that the operator trusts."""

    certificate: Certificate
    sha256: bytes
    prefix: str

    @property
    def is_intel(self) -> bool:
        """Whether this is Intel's production root."""
        return self.sha256 == INTEL_ROOT_SHA256

    def pck_authority_name(self, ca: PlatformCa) -> str:
        """Return the common name of the authority for platform certificates."""
        kind = "Platform" if ca == "platform" else "Processor"
        return f"{self.prefix}PCK {kind} CA"


def parse_trust_root(data: bytes) -> TrustRoot:
    """Parse a root certificate file in PEM or DER."""
    try:
        if data.startswith(b"-----"):
            (certificate,) = parse_pem_chain(data, most=1)
        else:
            certificate = parse_certificate(data)
    except MalformedCertificate as exc:
        raise QuoteRefused("untrusted-root", exc.detail) from exc
    if certificate.subject != certificate.issuer or not certificate.is_authority:
        raise QuoteRefused(
            "untrusted-root", "the root certificate must be a self-issued certificate authority"
        )
    if not certificate.common_name.endswith(_ROOT_SUFFIX):
        raise QuoteRefused(
            "untrusted-root", "the root certificate's common name must end in 'Root CA'"
        )
    return TrustRoot(
        certificate=certificate,
        sha256=hashlib.sha256(certificate.der).digest(),
        prefix=certificate.common_name.removesuffix(_ROOT_SUFFIX),
    )


@cache
def intel_root() -> TrustRoot:
    """Return Intel's production root certificate.

    Raises QuoteRefused if the packaged file does not match its pinned digest.
    """
    root = parse_trust_root(_INTEL_ROOT_FILE.read_bytes())
    if not root.is_intel:  # the file beside this module was replaced or damaged
        raise QuoteRefused("untrusted-root", "the packaged root certificate does not match its pin")
    return root
