"""The conditions under which the node releases keys (AT59).

Owners can read them before they grant access.
"""

from typing import get_args

from encryption_network.release_record import CollateralUse, ReleaseTerms
from spaces.documents.collateral_rows import Family
from spaces.keyspace import collateral_key
from spaces.store.contract import read_row
from tee_backend.attestation.attestation_errors import AttestationError
from tee_backend.attestation.certificates import PlatformCa
from tee_backend.attestation.collateral import parse_collateral
from tee_backend.attestation.collateral_trust import check_age, check_windows

from ...refusal import Refusal
from ...release_terms import current_release, in_force
from ...services import Services
from ..releases.release_receipts import lower_hex

_FMSPC_BYTES = 6


def asked_family(fmspcs: list[str], cas: list[str]) -> Family | None:
    """Return the platform family named in a request, or None if none is named.

    Args:
        fmspcs: the untrusted values of the query parameter `fmspc`.
        cas: those of `ca`.
    Raises:
        Refusal: `request-malformed`, a parameter is missing, repeated or not valid.
    """
    if not fmspcs and not cas:
        return None
    is_given_once = len(fmspcs) == 1 and len(cas) == 1
    if not is_given_once or cas[0] not in get_args(PlatformCa):
        raise Refusal(
            "request-malformed",
            hint="give fmspc once and ca once; ca must be `platform` or `processor`",
        )
    (fmspc_text,) = fmspcs
    (ca,) = cas
    fmspc = lower_hex(fmspc_text, _FMSPC_BYTES)
    if fmspc is None:
        raise Refusal(
            "request-malformed", hint=f"fmspc must be {2 * _FMSPC_BYTES} lower-case hex digits"
        )
    return fmspc, ca


async def terms_of(services: Services, family: Family | None) -> ReleaseTerms:
    """Return the current conditions for key releases.

    They include the state of the collateral for `family`.
    """
    terms = in_force(services.config.release, await current_release(services.store))
    # This process verifies quotes under one root. The release gate accepts evidence under this root
    # only if the release record lists it.
    root = services.trust_root.sha256
    trust_roots = (root.hex(),) if root in terms.trust_roots else ()
    return ReleaseTerms(
        attestation=terms.mode,
        trust_roots=trust_roots,
        key_providers=terms.key_providers,
        node_policy=terms.node_policy is not None,
        node_policy_suffices=terms.node_policy_suffices,
        collateral=None if family is None else await _collateral(services, family),
    )


async def _collateral(services: Services, family: Family) -> CollateralUse:
    """Return whether the stored collateral of a family can verify a quote now."""
    row = await read_row(services.store, collateral_key(*family))
    if row is None or row.value is None:
        return "missing" if services.collateral_source is None else "fetched"
    now = services.now()
    settings = services.config.collateral
    try:
        collateral = parse_collateral(row.value)
        check_age(collateral, max_age_s=settings.stale_s + settings.grace_s, now=now)
        check_windows(collateral, now=now)
    except AttestationError:
        return "unusable"
    return "usable"
