"""The certificates of a quote: the root they end at, the roles they name, and their signatures.

`verify` checks root and roles and leaves the signatures to the verifier library. `verify_pck_chain` is for when no
collateral is at hand, without which the library does nothing: it checks whether a platform family that a quote names
was ever certified under the root.

Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification; RFC 5280.
"""

from itertools import pairwise

from cryptography.exceptions import InvalidSignature

from .certificates import READER_ERRORS, load_certificate
from .errors import MalformedCertificate, QuoteRefused
from .quote import Quote
from .trust_root import TrustRoot


def check_quote_root(quote: Quote, *, root: TrustRoot) -> None:
    """Check that the chain ends at the configured root; the certificate in the quote is compared, never trusted.

    Raises:
        QuoteRefused: `untrusted-root`, it ends elsewhere.
    """
    # AT7, AT12
    if quote.pck_chain[-1].der != root.certificate.der:
        raise QuoteRefused("untrusted-root", "the quote's chain ends at another root")


def check_pck_roles(quote: Quote, *, root: TrustRoot, now: float) -> None:
    """Check that the certificates have their roles, follow each other by name and are valid at `now`.

    Raises:
        QuoteRefused: `certificate-chain`, they do not.
    Does not check:
        Signatures, revocation, and that the last one is the root.
    """
    leaf, authority, top = quote.pck_chain
    if leaf.common_name != root.pck_leaf_name or leaf.is_authority:
        raise QuoteRefused("certificate-chain", "the leaf is no platform's certificate")
    if authority.common_name != root.pck_authority_name(quote.platform.ca) or not authority.is_authority:
        raise QuoteRefused("certificate-chain", "the leaf's issuer is no PCK authority")
    if leaf.issuer != authority.subject or authority.issuer != top.subject:
        raise QuoteRefused("certificate-chain", "the chain's names do not follow each other")
    for certificate in quote.pck_chain:
        if not certificate.not_before <= now < certificate.not_after:
            raise QuoteRefused("certificate-chain", f"{certificate.common_name[:80]!r} does not hold at this time")


def verify_pck_chain(quote: Quote, *, root: TrustRoot, now: float) -> None:
    """Verify that the platform which a quote names was certified under a root.

    Args:
        quote: parsed; untrusted.
        root: the configured anchor.
        now: epoch seconds.
    Raises:
        QuoteRefused: the chain is another's, or a signature is not valid.
    Does not check:
        Revocation, which needs collateral, and the quote itself: any client may put a platform's chain into a quote.
    """
    check_quote_root(quote, root=root)
    check_pck_roles(quote, root=root, now=now)
    try:
        loaded = [load_certificate(certificate.der) for certificate in quote.pck_chain]
        for issued, issuer in pairwise(loaded):
            issued.verify_directly_issued_by(issuer)
    except (InvalidSignature, MalformedCertificate, *READER_ERRORS) as exc:
        raise QuoteRefused("certificate-chain", "a signature of the chain does not hold") from exc
