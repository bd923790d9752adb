"""Verify a TDX quote: from bytes and collateral to facts that hold.

`verify_quote` reads as the steps of the verification. Our own parser and rules come first, then the verifier library
judges signatures, revocation and TCB levels, then both readings are compared. What can never be trusted is refused
here; what an owner may decide (statuses, advisories, measurements, attributes) is only stated, and judged by policy.

Example:
    verified = verify_quote(quote, parse_collateral(stored), root=intel_root(), now=clock.now())

Source: Intel TDX DCAP Quoting Library API (quote formats 4 and 5); Intel PCS API v4.
"""

from dataclasses import dataclass

from ._library import claims_json
from .claims import check_same_reading, parse_claims
from .collateral import Collateral
from .collateral_trust import check_roles, check_windows
from .errors import CollateralUnusable
from .pck_chain import check_pck_roles, check_quote_root
from .quote import Quote, parse_quote
from .trust_domain import check_trust_domain
from .trust_root import TrustRoot


@dataclass(frozen=True, slots=True)
class VerifiedQuote:
    """A quote whose signatures, chain, platform and state are valid; made by `verify_quote` only.

    Attributes:
        quote: the parsed quote; its report is the TDX module's statement.
        tcb_status: converged status of platform, module and quoting enclave, in Intel's spelling.
        qe_status: status of the quoting enclave's own level.
        advisories: ids that apply, distinct, sorted.
        evaluation_number: tcbEvaluationDataNumber of the TCB info. The QE identity may lag by one renewal.
        tcb_date: date of the matched platform level, epoch seconds.
        root_sha256: SHA-256 of the root the chain ends at.
        collateral_sha256: SHA-256 of the collateral document.
        verified_at: the `now` of the verification.
        collateral_ends_at: earliest end of all documents and certificates relied on, epoch seconds.
    """

    quote: Quote
    tcb_status: str
    qe_status: str
    advisories: tuple[str, ...]
    evaluation_number: int
    tcb_date: float
    root_sha256: bytes
    collateral_sha256: bytes
    verified_at: float
    collateral_ends_at: float


def verify_quote(quote: bytes, collateral: Collateral, *, root: TrustRoot, now: float) -> VerifiedQuote:
    """Verify one quote against collateral that the operator chose.

    Args:
        quote: at most quote.MAX_QUOTE_BYTES; untrusted.
        collateral: of the quote's platform family; never taken from the prover, which would choose a lenient one.
        root: the configured anchor; a root inside the quote or the collateral is compared with it, never used.
        now: epoch seconds; one value for the whole request.
    Returns:
        The facts; they hold at `now`.
    Raises:
        QuoteRefused: the quote is bad (a subclass says how).
        CollateralUnusable: the collateral cannot judge it (a subclass says why).
        QuoteRefused: `untrusted-root`, the quote belongs to another root.
    Does not check:
        Statuses, advisories, measurements, attributes that a policy may allow, freshness, report data, event log.
    """
    # 1. Our own reading, bounded, before any library sees a byte.
    parsed = parse_quote(quote)
    # 2. States that no policy may accept.
    check_trust_domain(parsed.report)
    # 3. It belongs to our root; a quote under another root says nothing about the documents here.
    check_quote_root(parsed, root=root)
    # 4. Every part of the collateral is valid now, and none comes from the future.
    check_windows(collateral, now=now)
    # 5. Every part of the collateral names the signer whose role it is, under our root.
    check_roles(collateral, root=root)
    # 6. The quote's certificates have their roles too, under our root.
    check_pck_roles(parsed, root=root, now=now)
    # 7. The collateral is of this platform family and authority, and carries no other machine's certificates.
    _check_same_platform(parsed, collateral)
    # 8. Signatures, revocation, quoting enclave, TCB levels: the library.
    claims = parse_claims(claims_json(parsed.raw, collateral, root_der=root.certificate.der, now_s=int(now)))
    # 9. Both readings agree.
    check_same_reading(parsed, claims)
    # 10. The facts.
    return VerifiedQuote(
        quote=parsed,
        tcb_status=claims.status,
        qe_status=claims.qe_status,
        advisories=claims.advisories,
        evaluation_number=collateral.tcb_info.evaluation_number,
        tcb_date=claims.tcb_date,
        root_sha256=root.sha256,
        collateral_sha256=collateral.sha256,
        verified_at=now,
        collateral_ends_at=min(collateral.ends_at, *(c.not_after for c in parsed.pck_chain)),
    )


def _check_same_platform(quote: Quote, collateral: Collateral) -> None:
    platform, info = quote.platform, collateral.tcb_info
    if platform.fmspc != info.fmspc:
        raise CollateralUnusable(
            "collateral-mismatch", f"FMSPC {info.fmspc.hex()} for a platform of {platform.fmspc.hex()}"
        )
    if platform.pce_id != info.pce_id:
        raise CollateralUnusable(
            "collateral-mismatch", f"PCEID {info.pce_id.hex()} for a platform of {platform.pce_id.hex()}"
        )
    if quote.pck_chain[0].issuer != collateral.pck_crl.issuer:
        raise CollateralUnusable("collateral-mismatch", "the PCK CRL is of another authority than the leaf's")
    if collateral.pck_chain is not None and collateral.pck_chain != tuple(c.der for c in quote.pck_chain):
        raise CollateralUnusable("collateral-mismatch", "the collateral carries another quote's certificates")
