"""Examining a quote: from the bytes of a prover to evidence that policies judge, or to a refusal.

All quotes are examined here: those that backends attest to a node with, those that owners look at, a node's own that
clients require, and those behind receipts. The four differ in what the quote has to name (`Binding`), in the key
providers that they accept, and in the source of the collateral; the verdict on the quote is the same for all.

    bind_quote   cheap: own parser, report data, event log, key provider; before it no collateral is read or fetched
    examine      the quote against collateral: signatures, revocation, TCB levels; then the evidence

Example:
    bound = bind_quote(raw, node_binding(nonce, statement), event_log=entries, accepted=DEFAULT_KEY_PROVIDERS)
    evidence, _ = await examine_with(bound, provider, root=intel_root(), now=clock.now())

Source: spec/attestation.md AT5, AT9, AT16, AT20 to AT22, AT28, AT29, AT41, AT51.
"""

import asyncio
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from capabilities.strict_json import Json
from encryption_network.policy import Evidence

from .application import EventLogClaims, check_key_provider
from .certificates import PlatformCa
from .collateral import Collateral, CollateralProvider
from .collateral_trust import with_newest_lists
from .event_log import parse_event_log, read_event_log
from .event_log_claims import verify_event_log
from .quote import Quote, parse_quote
from .report_data import Binding, check_report_data
from .trust_root import TrustRoot
from .verify import VerifiedQuote, verify_quote

EVIDENCE_TTL_S: Final = 600.0
"""How long evidence counts unless a policy asks for less; renewal needs a new quote."""


@dataclass(frozen=True, slots=True)
class BoundQuote:
    """A quote with the expected report data and an event log that fits it; made by `bind_quote`, not yet verified.

    Attributes:
        quote: as our own reader reads it.
        binding: what its report data name.
        claims: what the event log states; None without one.
    """

    quote: Quote
    binding: Binding
    claims: EventLogClaims | None

    @property
    def family(self) -> tuple[bytes, PlatformCa]:
        """Platform family and authority that the quote claims; by them its collateral is found."""
        return self.quote.platform.fmspc, self.quote.platform.ca


def bind_quote(
    quote: bytes, binding: Binding, *, event_log: Sequence[Json] | bytes | None, accepted: Collection[str]
) -> BoundQuote:
    """Read a quote and its event log, and check what can be checked without collateral.

    Args:
        quote: untrusted.
        binding: what its report data have to name.
        event_log: untrusted: the entries, or the text of their array; None: there is none.
        accepted: accepted providers of an application's keys, entries of `encryption_network.key_providers`. "none" is
            never accepted; a missing log only under terms that exclude no provider of the default (AT29).
    Raises:
        QuoteRefused: `malformed`, `unsupported`, `report-data`, `event-log-malformed`, `event-log`, `key-provider`:
            the first check that fails.
    Does not check:
        Signatures: nothing of the quote is verified before `examine`.
    """
    parsed = parse_quote(quote)
    check_report_data(parsed.report.report_data, binding.report_data)  # AT9, AT41, AT51
    claims = _read_log(event_log, parsed)
    check_key_provider(None if claims is None else claims.key_provider, accepted)
    return BoundQuote(parsed, binding, claims)


def examine(
    bound: BoundQuote, collateral: Collateral, *, root: TrustRoot, now: float, ttl_s: float = EVIDENCE_TTL_S
) -> Evidence:
    """Verify a bound quote and return what it states.

    Args:
        bound: from `bind_quote`.
        collateral: of its platform family, chosen by the verifier, never by the prover (AT16).
        root: the configured anchor.
        now: epoch seconds; when the evidence begins.
        ttl_s: longest life of the evidence; the collateral's end cuts it shorter (AT17).
    Returns:
        Evidence, without a verdict: policies judge it. Its `quote_sha256` is the digest of the signed statement, the
        same for every spelling of one quote; its `platform_id_hash` hides the machine's PPID.
    Raises:
        QuoteRefused, CollateralUnusable: as `verify_quote`.
    """
    return _evidence(bound, verify_quote(bound.quote.raw, collateral, root=root, now=now), ttl_s)


async def examine_with(
    bound: BoundQuote, provider: CollateralProvider, *, root: TrustRoot, now: float
) -> tuple[Evidence, Collateral]:
    """Examine a quote with the collateral that a provider returns for its platform family; off the event loop.

    Returns:
        The evidence, and the collateral that it was examined with: its revocation lists are the newest that the
        provider holds.
    Raises:
        AttestationError: as `examine`; CollateralUnusable also where the provider has no document.
    """
    found = await provider.collateral(*bound.family)
    collateral = with_newest_lists(found, found.beside, bound.quote, root)  # AT19
    return await asyncio.to_thread(examine, bound, collateral, root=root, now=now), collateral


def _read_log(event_log: Sequence[Json] | bytes | None, quote: Quote) -> EventLogClaims | None:
    """Return the claims of a log that fits the registers of the quote; the quote itself is verified later."""
    if event_log is None:
        return None
    log = parse_event_log(event_log) if isinstance(event_log, bytes) else read_event_log(list(event_log))
    return verify_event_log(log, quote.report)  # AT20 to AT22, AT28


def _evidence(bound: BoundQuote, verified: VerifiedQuote, ttl_s: float) -> Evidence:
    report, platform = verified.quote.report, verified.quote.platform
    binding, claims = bound.binding, bound.claims
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
        tcb_status=verified.tcb_status,
        qe_status=verified.qe_status,
        advisories=verified.advisories,
        evaluation_number=verified.evaluation_number,
        tcb_date=verified.tcb_date,
        fmspc=platform.fmspc,
        platform_id_hash=hashlib.sha256(platform.ppid).digest(),
        root_ca_sha256=verified.root_sha256,
        quote_sha256=verified.quote.statement_sha256,
        collateral_sha256=verified.collateral_sha256,
        attested_at=verified.verified_at,
        expires_at=min(verified.verified_at + ttl_s, verified.collateral_ends_at),
        compose_hash=None if claims is None else claims.compose_hash,
        app_id=None if claims is None else claims.app_id,
        key_provider=None if claims is None else claims.key_provider.text,
    )
