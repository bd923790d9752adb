"""Verification of TDX quotes.

A verified quote yields evidence, which policies evaluate. All quotes are examined here: those with
which backends attest to a node, those that owners inspect, a node's own that clients require, and
those behind receipts. They differ in what the quote has to name (`Binding`), in the accepted key
providers, and in the source of the collateral. The verdict on the quote is the same for all.

    bind_quote   cheap: own parser, report data, event log, key provider;
                 no collateral is read or fetched before it
    examine      the quote with collateral: signatures, revocation, TCB levels; then the evidence

Example:
    bound = bind_quote(raw, node_binding(nonce, statement), event_log=entries, accepted=NAMES)
    evidence, _ = await examine_with(bound, provider, root=intel_root(), now=clock.now())

Source: spec/attestation.md AT5, AT9, AT16, AT20 to AT22, AT28, AT29, AT41, AT51.
"""

import asyncio
import hashlib
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature

from capabilities.strict_json import Json
from encryption_network.policy import Evidence

from ._library import claims_json
from .attestation_errors import CollateralUnusable, MalformedCertificate, QuoteRefused
from .certificates import READER_ERRORS, PlatformCa, load_certificate
from .claims import Claims, check_same_reading, parse_claims
from .collateral import Collateral, CollateralProvider
from .collateral_trust import check_roles, check_windows, with_newest_lists
from .event_log import parse_event_log, read_event_log
from .event_log_claims import EventLogClaims, check_key_provider, verify_event_log
from .quote import Quote, TdReport, parse_quote
from .report_data import Binding, check_report_data
from .trust_root import TrustRoot


def check_quote_root(quote: Quote, *, root: TrustRoot) -> None:
    """Check that a quote's certificate chain ends at the configured root.

    The root certificate in the quote is compared, never trusted.

    Raises:
        QuoteRefused: `untrusted-root`, the chain ends elsewhere.
    """
    # a root that comes with the quote would prove anything (AT7, AT12)
    if quote.pck_chain[-1].der != root.certificate.der:
        raise QuoteRefused(
            "untrusted-root", "the quote's certificate chain does not end at the trusted root"
        )


def check_pck_roles(quote: Quote, *, root: TrustRoot, now: float) -> None:
    """Check the roles, issuers and validity periods of a quote's certificates.

    Raises:
        QuoteRefused: `certificate-chain`, a name, an issuer or a validity period is wrong.
    Does not check:
        Signatures, revocation, and that the last certificate is the root.
    """
    leaf, authority, top = quote.pck_chain
    if leaf.common_name != f"{root.prefix}PCK Certificate" or leaf.is_authority:
        raise QuoteRefused("certificate-chain", "the leaf is not a platform certificate")
    if (
        authority.common_name != root.pck_authority_name(quote.platform.ca)
        or not authority.is_authority
    ):
        raise QuoteRefused("certificate-chain", "the leaf's issuer is not a PCK authority")
    if leaf.issuer != authority.subject or authority.issuer != top.subject:
        raise QuoteRefused(
            "certificate-chain", "a certificate's issuer is not the subject of the next certificate"
        )
    for certificate in quote.pck_chain:
        if not certificate.not_before <= now < certificate.not_after:
            raise QuoteRefused(
                "certificate-chain",
                f"{certificate.common_name[:80]!r} has expired or is not valid yet",
            )


def verify_pck_chain(quote: Quote, *, root: TrustRoot, now: float) -> None:
    """Verify the certificate chain of a quote.

    Args:
        quote: parsed; untrusted.
        root: the configured anchor.
        now: epoch seconds.
    Raises:
        QuoteRefused: the chain has another root, or a signature is not valid.
    Does not check:
        Revocation, which needs collateral, and the quote itself: any client may put a platform's
            chain into a quote.
    """
    check_quote_root(quote, root=root)
    check_pck_roles(quote, root=root, now=now)
    try:
        loaded = [load_certificate(certificate.der) for certificate in quote.pck_chain]
        for issued, issuer in pairwise(loaded):
            issued.verify_directly_issued_by(issuer)
    except (InvalidSignature, MalformedCertificate, *READER_ERRORS) as exc:
        raise QuoteRefused(
            "certificate-chain", "a signature in the certificate chain is not valid"
        ) from exc


# --- the state of a trust domain ------------------------------------------------------------------
# TDATTRIBUTES, a little-endian u64:
#
# | bits | meaning | here |
# |---|---|---|
# | 0 | DEBUG: the host may read the memory | refused |
# | 1-7 | profiling; any of them makes the domain untrusted | refused |
# | 16 | ICSSD | policy decides |
# | 17 | SERVTD_EXT | refused |
# | 27 | LASS | policy decides |
# | 28 | SEPT_VE_DISABLE | must be set |
# | 29 | MIGRATABLE: the memory may leave for another machine | refused |
# | 30 | PKS | policy decides |
# | 31 | KL | refused |
# | 62 | TPA | refused |
# | 63 | PERFMON: a side channel | policy decides |
# | others | reserved | refused |
#
# XFAM: bits 0 and 1 (x87, SSE) are always set, bits outside 0x6DBE7 never. An MRTD of zero means
# that nothing was measured: it is a hash, so a domain that was built has another value.
#
# Source: Intel TDX Module Base Architecture and ABI specifications.

SEPT_VE_DISABLE = 1 << 28
POLICY_BITS = (1 << 16) | (1 << 27) | (1 << 30) | (1 << 63)
"""Attribute bits that verification allows; a policy names the exact attributes it accepts."""

_NAMED_BITS = {0: "DEBUG", 17: "SERVTD_EXT", 29: "MIGRATABLE", 31: "KL", 62: "TPA"}
_XFAM_FIXED_ONE = 0x3
_XFAM_ALLOWED = 0x6DBE7

# Hash and attributes of service domains in the extended report, offsets from the extension's start.
_SERVICE_AT_LAUNCH = slice(81, 137)
_SERVICE_NOW = slice(181, 237)


def check_trust_domain(report: TdReport) -> None:
    """Refuse a trust domain in an unsafe state, such as debug mode."""
    attributes = int.from_bytes(report.td_attributes, "little")
    if refused := attributes & ~(SEPT_VE_DISABLE | POLICY_BITS):
        bit = (refused & -refused).bit_length() - 1  # the lowest refused bit
        raise QuoteRefused(
            "td-attributes",
            f"attribute bit {bit} ({_NAMED_BITS.get(bit, 'profiling or reserved')}) of the trust"
            " domain must not be set",
        )
    if not attributes & SEPT_VE_DISABLE:
        raise QuoteRefused("td-attributes", "SEPT_VE_DISABLE is not set")
    xfam = int.from_bytes(report.xfam, "little")
    if xfam & _XFAM_FIXED_ONE != _XFAM_FIXED_ONE or xfam & ~_XFAM_ALLOWED:
        raise QuoteRefused("td-attributes", f"XFAM has an impossible value, {xfam:#x}")
    if any(report.mr_signer_seam) or any(report.seam_attributes):
        raise QuoteRefused(
            "td-attributes", "the TDX module is not a production module signed by Intel"
        )
    # A report without these fields has an empty extension.
    launched, now = report.extension[_SERVICE_AT_LAUNCH], report.extension[_SERVICE_NOW]
    if any((report.mr_service_td or b"") + launched + now):
        raise QuoteRefused(
            "td-attributes",
            "a service trust domain is or was bound to this trust domain, which is not allowed",
        )
    if not any(report.mrtd):
        raise QuoteRefused("td-attributes", "MRTD is zero: nothing was measured")


def _check_same_platform(quote: Quote, collateral: Collateral) -> None:
    """Check that the collateral is for the platform and the authority of a quote."""
    fmspc, pce_id = quote.platform.fmspc.hex(), quote.platform.pce_id.hex()
    info = collateral.tcb_info.members
    if (fmspc, pce_id) != (info.fmspc.lower(), info.pce_id.lower()):
        raise CollateralUnusable(
            "collateral-mismatch",
            f"the collateral is for FMSPC {info.fmspc} and PCEID {info.pce_id}, but the quote has"
            f" FMSPC {fmspc} and PCEID {pce_id}",
        )
    if quote.pck_chain[0].issuer != collateral.pck_crl.issuer:
        raise CollateralUnusable(
            "collateral-mismatch", "the PCK CRL and the leaf have different issuers"
        )
    quoted_chain = tuple([certificate.der for certificate in quote.pck_chain])
    if collateral.pck_chain is not None and collateral.pck_chain != quoted_chain:
        raise CollateralUnusable(
            "collateral-mismatch", "the collateral contains another quote's certificates"
        )


EVIDENCE_TTL_S = 600.0
"""Lifetime of evidence unless a policy demands less; renewal needs a new quote."""


class BoundQuote(NamedTuple):
    """A parsed quote with checked report data, but unverified signatures.

    If there is an event log, it matches the quote.
    """

    quote: Quote
    binding: Binding
    claims: EventLogClaims | None

    @property
    def family(self) -> tuple[bytes, PlatformCa]:
        """The platform family and certificate authority of the quote.

        Both are needed to look up collateral.
        """
        return self.quote.platform.fmspc, self.quote.platform.ca


def bind_quote(
    quote: bytes,
    binding: Binding,
    *,
    event_log: Sequence[Json] | bytes | None,
    accepted: Collection[str],
) -> BoundQuote:
    """Parse a quote and run all checks that need no collateral.

    Args:
        quote: untrusted.
        binding: the facts that the report data have to name.
        event_log: untrusted: the entries, or the text of their array; None without a log.
        accepted: accepted key providers of the application, entries of
            `encryption_network.key_providers`. "none" is never accepted. A quote without an event
            log names no provider; it is accepted only if this list contains every default provider
            (`kms` and `tpm`) without an id (AT29).
    Returns:
        The quote. Its report data and event log match; nothing else is verified.
    Raises:
        QuoteRefused: `malformed`, `unsupported`, `report-data`, `event-log-malformed`, `event-log`
            or `key-provider`, by the first check that fails.
    Does not check:
        Signatures: nothing of the quote is verified before `examine`.
    """
    parsed = parse_quote(quote)
    # a quote that was made for another purpose or party is refused (AT9, AT41, AT51)
    check_report_data(parsed.report.report_data, binding.report_data)
    claims = None
    if event_log is not None:
        if isinstance(event_log, bytes):
            log = parse_event_log(event_log)
        else:
            log = read_event_log(list(event_log))
        # The log proves what it states if it matches the report (AT20 to AT28). The report itself
        # is verified later, by `examine`.
        claims = verify_event_log(log, parsed.report)
    check_key_provider(None if claims is None else claims.key_provider, accepted)
    return BoundQuote(quote=parsed, binding=binding, claims=claims)


def examine(
    bound: BoundQuote,
    collateral: Collateral,
    *,
    root: TrustRoot,
    now: float,
    ttl_s: float = EVIDENCE_TTL_S,
) -> Evidence:
    """Verify a quote using collateral, and return the resulting evidence.

    Args:
        bound: the untrusted result of `bind_quote`.
        collateral: collateral of its platform family, chosen by the verifier, never by the prover
            (AT16).
        root: the configured anchor. A root inside the quote or the collateral is compared with it,
            never used.
        now: epoch seconds, one value for the whole request; the evidence begins then.
        ttl_s: maximal lifetime of the evidence; it ends earlier if the collateral does (AT17).
    Returns:
        Evidence without a verdict: policies judge it. Its `quote_sha256` is the digest of the
        signed statement, the same for every encoding of one quote. Its `platform_id_hash` hides the
        machine's PPID.
    Raises:
        QuoteRefused: the quote is not valid; its code says why.
        CollateralUnusable: the collateral cannot judge it; its code says why.
    Does not check:
        Statuses, advisories, measurements, and attributes that a policy may allow.
    """
    quote, binding, claims = bound.quote, bound.binding, bound.claims
    verified = _verify(quote, collateral, root=root, now=now)
    report = quote.report
    return Evidence(
        invoker=binding.holder,
        receiver_public_key=binding.receiver_public_key,
        receiver_mode=binding.receiver_mode,
        mrtd=report.mrtd,
        rtmr0=report.rtmr0,
        rtmr1=report.rtmr1,
        rtmr2=report.rtmr2,
        rtmr3=report.rtmr3,
        mr_config_id=report.mr_config_id,
        mr_owner=report.mr_owner,
        mr_owner_config=report.mr_owner_config,
        td_attributes=report.td_attributes,
        xfam=report.xfam,
        tee_tcb_svn=report.tee_tcb_svn,
        mr_seam=report.mr_seam,
        tcb_status=verified.tcb.status,
        qe_status=verified.qe.tcb_level.status,
        advisories=tuple(sorted(set(verified.tcb.advisory_ids))),
        evaluation_number=collateral.tcb_info.members.evaluation_number,
        tcb_date=float(verified.platform.tcb_date_tag),
        fmspc=quote.platform.fmspc,
        platform_id_hash=hashlib.sha256(quote.platform.ppid).digest(),
        root_ca_sha256=root.sha256,
        quote_sha256=quote.statement_sha256,
        collateral_sha256=collateral.sha256,
        attested_at=now,
        expires_at=min(now + ttl_s, collateral.ends_at, *(c.not_after for c in quote.pck_chain)),
        compose_hash=None if claims is None else claims.compose_hash,
        app_id=None if claims is None else claims.app_id,
        key_provider=None if claims is None else claims.key_provider.text,
    )


def _verify(quote: Quote, collateral: Collateral, *, root: TrustRoot, now: float) -> Claims:
    """Verify a quote with collateral, and return the library's report on it."""
    # 1. States that no policy may accept.
    check_trust_domain(quote.report)
    # 2. The quote's chain ends at our root. Checked before the documents, because a quote under
    # another root says nothing about them.
    check_quote_root(quote, root=root)
    # 3. Every part of the collateral is valid now; none has expired or is dated in the future.
    check_windows(collateral, now=now)
    # 4. Every part of the collateral names the signer whose role it is, under our root.
    check_roles(collateral, root=root)
    # 5. The quote's certificates have their roles too, under our root.
    check_pck_roles(quote, root=root, now=now)
    # 6. The collateral is for this platform family and authority, and contains no certificates of
    # another machine.
    _check_same_platform(quote, collateral)
    # 7. Signatures, revocation, quoting enclave, TCB levels: the library.
    verified = parse_claims(
        claims_json(quote.raw, collateral, root_der=root.certificate.der, now_s=int(now))
    )
    # 8. The library and our parser read the same facts.
    check_same_reading(quote, verified)
    return verified


async def examine_with(
    bound: BoundQuote, provider: CollateralProvider, *, root: TrustRoot, now: float
) -> tuple[Evidence, Collateral]:
    """Fetch the collateral for a quote, then verify the quote.

    Returns:
        The evidence, and the collateral that was used. Its revocation lists are the newest that the
        provider has.
    Raises:
        AttestationError: the same errors as `examine`; CollateralUnusable also if the provider has
            no document.
    """
    offered = await provider.collateral(*bound.family)
    # an older list may lack what was revoked since (AT19)
    collateral = with_newest_lists(offered, offered.beside, bound.quote, root)
    # In a thread: verifying a quote takes 0.8 ms, in which the event loop would be blocked.
    return await asyncio.to_thread(examine, bound, collateral, root=root, now=now), collateral
