"""Which collateral judges a quote: the node's, never the prover's, and none that is too old (AT16, AT17, AT39)."""

from dataclasses import dataclass

from spaces.documents.collateral import collateral_documents, collateral_row_key, state_of, state_row_key
from spaces.store.contract import Check
from tee_backend.attestation.collateral import Collateral, parse_collateral
from tee_backend.attestation.collateral_trust import check_age, with_newest_lists
from tee_backend.attestation.quote import Quote

from ...services import Services
from ..errors import CollateralMissing
from .refresh_collateral import wish_for


@dataclass(frozen=True, slots=True)
class UsableCollateral:
    """A document that may judge now.

    Attributes:
        collateral: the document, with the newest revocation lists that the store has.
        relied: its row, a condition of keeping what it judged.
        stale_at: from when on it is too old to judge, whatever its windows say; epoch seconds.
    """

    collateral: Collateral
    relied: Check
    stale_at: float


async def usable_collateral(services: Services, quote: Quote) -> UsableCollateral:
    """Return the document of the platform that a quote names; nothing is fetched while the caller waits.

    Raises:
        CollateralMissing: there is none; if the node fetches collateral, a wish for it is now noted.
        CollateralOutsideWindow: it was issued longer ago than the settings let it judge.
        CollateralUnusable: it cannot be read.
        TrustRootRefused, CertificateChainRefused: there is none, and the platform is not certified.
        SpaceError: the store does not answer.
    """
    family = (quote.platform.fmspc, quote.platform.ca)
    key = collateral_row_key(*family)
    row, noted = (await services.store.read((key, state_row_key(*family)))).records
    if row is None or row.value is None:
        raise _missing(await wish_for(services, quote, state_of(noted)))
    collateral, settings = parse_collateral(row.value), services.config.collateral
    max_age_s = settings.stale_s + settings.grace_s
    check_age(collateral, max_age_s=max_age_s, now=services.clock.now())
    # AT19: an older list that came with this family would hide a revocation that came with another.
    held = [parse_collateral(raw) for _, raw in await collateral_documents(services.store)]
    collateral = with_newest_lists(collateral, held, quote, services.trust_root)
    issued_at = min(collateral.tcb_info.window.starts_at, collateral.qe_identity.window.starts_at)
    return UsableCollateral(collateral, Check(key, row.stamp), issued_at + max_age_s)


def _missing(retry_after_s: int | None) -> CollateralMissing:
    if retry_after_s is None:
        return CollateralMissing("the operator runs: sealspace admin collateral import FILE")
    return CollateralMissing("it is being fetched: ask for a new challenge, then attest anew", retry_after_s)
