"""Background fetching of attestation collateral (AT31, AT39).

Expiring collateral is renewed, and collateral for new platforms is added.

Only the process with the housekeeping lease calls the collateral service. If no collateral is
stored for the platform of an attestation session, the node refuses the session at once and stores a
request for the collateral, called a wish, which the next round fulfils. A fetched document is
handled like an imported one: verified, compared with the stored one, and stored unless it is older.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from capabilities.strict_json import JsonObject
from encryption_network.canonical_json import canonical_bytes
from spaces.audit.audit_records import AuditRecord
from spaces.documents.collateral_rows import (
    MAX_FAMILIES,
    CollateralState,
    Family,
    collateral_states,
    state_put,
)
from spaces.store.contract import ABSENT, Put, commit_puts
from tee_backend.attestation.attestation_errors import AttestationError, CollateralUnusable
from tee_backend.attestation.certificates import PlatformCa
from tee_backend.attestation.collateral_trust import verify_collateral
from tee_backend.attestation.examine import verify_pck_chain
from tee_backend.attestation.quote import Quote
from tee_backend.attestation.refresh import alarms_of

from ...collateral.collateral_source import CollateralSource, refresh_rules
from ...collateral.intake import keep_collateral, list_collateral
from ...logs import log_event, log_warning
from ...services import Services

FETCHED = "collateral.fetched"
"""Audit action for a fetched document that differs from the previous one."""
ALARM = "collateral.alarm"
"""Audit action for collateral that expires, is stale or cannot be renewed."""
FORGOTTEN_AFTER_S = 86_400.0
"""Lifetime of a wish. A backend that is still waiting renews its wish."""
ASK_AGAIN_S = 15
"""Retry delay for a backend while the collateral of its platform is about to be fetched.

A round of fetching comes every few seconds.
"""
WARNED_BEFORE_S = 30 * 86_400.0
"""How long before Intel's next edition applies the operator is warned daily.

Some machines will count as out of date under that edition.
"""
UNKNOWN_FOR_S = 3600.0
"""Minimum delay before a platform family that the service does not know is requested again.

New families appear a few times a year.
"""
_FIRST_RETRY_S = 60.0
_MOST_DOUBLINGS = 16


async def fetch_due(services: Services) -> bool:
    """Fetch the most urgent collateral document, if any is due.

    Returns:
        False: a further document that is due waits for the next round.
    """
    source = services.collateral_source
    if source is None:
        return False
    now = services.now()
    urgent = _most_urgent(await collateral_states(services.store), now)
    if urgent is None:
        return False
    family, state, stamp = urgent
    new_state: CollateralState | None
    if _is_forgotten(state, now):
        new_state = None  # deletes the row of the wish
    else:
        try:
            await _fetch(services, source, family)
        except AttestationError as error:
            new_state = _state_after_failure(services, family, state, error)
        else:
            return False  # `_fetch` has stored the state together with the document
    # The commit is refused if a document was imported meanwhile. The state of that document stays.
    await commit_puts(services.store, state_put(family, new_state, expect=stamp))
    return False


def _most_urgent(
    states: Sequence[tuple[Family, CollateralState, bytes]], now: float
) -> tuple[Family, CollateralState, bytes] | None:
    """Return the family to fetch next, with its state and that row's stamp; None if none is due.

    Wishes come first: a client waits for them, while a document that is due is valid for days.
    """
    due = [
        (family, state, stamp)
        for family, state, stamp in states
        # A try in the future means that the clock was set back.
        if state.due_at <= now or state.tried_at > now
    ]
    return min(due, key=_urgency, default=None)


def _urgency(entry: tuple[Family, CollateralState, bytes]) -> tuple[bool, float]:
    """Return a sort key: wishes come before documents, and each kind in the order of `due_at`."""
    _, state, _ = entry
    has_document = not state.is_missing
    return has_document, state.due_at


def _is_forgotten(state: CollateralState, now: float) -> bool:
    """Return whether a family has only a wish, which no backend has renewed for a day."""
    is_recent = state.wanted_at <= now < state.wanted_at + FORGOTTEN_AFTER_S
    return state.is_missing and not is_recent


def _state_after_failure(
    services: Services, family: Family, state: CollateralState, error: AttestationError
) -> CollateralState:
    """Log that a document could not be fetched, and return the state with the next try's time."""
    now = services.now()
    failures = state.failures + 1
    fmspc, ca = family
    log_warning(
        "collateral-refresh-failed", fmspc=fmspc.hex(), ca=ca, code=error.code, failures=failures
    )
    wait_s = _wait_after_failure(services, state, error)
    return msgspec.structs.replace(
        state, tried_at=now, due_at=now + wait_s, failed=error.code, failures=failures
    )


def _wait_after_failure(
    services: Services, state: CollateralState, error: AttestationError
) -> float:
    """Return the seconds until the next try; `state` counts the failures before this one."""
    wait_s: float = services.config.collateral.retry_s
    if error.code == "platform-unknown":
        # A family that the service does not know is requested rarely (AT32).
        wait_s = max(wait_s, UNKNOWN_FOR_S)
    elif state.is_missing:
        # The wait for a wish doubles with each failure, up to `collateral.retry_s` (AT39). The
        # exponent is limited, because the number of failures is not.
        doublings = min(state.failures, _MOST_DOUBLINGS)
        wait_s = min(_FIRST_RETRY_S * 2**doublings, wait_s)
    if isinstance(error, CollateralUnusable) and error.retry_after_s is not None:
        # The next try waits for as long as the service demands (AT32).
        wait_s = max(wait_s, error.retry_after_s)
    return wait_s


async def _fetch(services: Services, source: CollateralSource, family: Family) -> None:
    """Fetch a family's document, verify it, and store it with its state and an audit record.

    The operator is warned if Intel's next edition applies soon.
    """
    fmspc, ca = family
    authority: PlatformCa = "processor" if ca == "processor" else "platform"
    fetched = await source.service.collateral(fmspc, authority)
    now = services.now()
    root = services.trust_root
    await asyncio.to_thread(verify_collateral, fetched, root=root, now=now)
    following = await source.check_edition(fetched, root=root, now=now)
    audit = _audit_put(
        services,
        FETCHED,
        (fetched.fmspc, fetched.ca),
        {
            "source": source.name,
            "sha256": fetched.sha256.hex(),
            "evaluationNumber": fetched.tcb_info.members.evaluation_number,
        },
    )
    is_new = await keep_collateral(
        services.store,
        fetched,
        source=source.name,
        now=now,
        rules=refresh_rules(services.config.collateral),
        beside=(audit,),
    )
    log_event("collateral-refreshed", fmspc=fmspc.hex(), ca=ca, source=source.name, is_new=is_new)
    if following is not None and following.becomes_standard_at - now < WARNED_BEFORE_S:
        log_warning(
            "collateral-edition-follows",
            fmspc=fmspc.hex(),
            ca=ca,
            number=following.number,
            at=int(following.becomes_standard_at),
        )


# --- wishes ---------------------------------------------------------------------------------------


async def request_collateral(
    services: Services, quote: Quote, state: CollateralState | None
) -> int | None:
    """Request the attestation collateral for a quote's platform (AT39).

    The wish is recorded only for a platform that is certified under the root. Otherwise a client
    that invents platforms could fill the store and cause requests to the service.

    Args:
        quote: parsed; its holder is entitled to attest.
        state: the family's refresh state, read together with the missing document.
    Returns:
        The retry delay in seconds. None if this node does not fetch collateral or has too many
        platform families.
    Raises:
        QuoteRefused: the platform is not certified.
        SpaceError: the store does not answer.
    """
    now = services.now()
    if services.collateral_source is None:
        return None
    verify_pck_chain(quote, root=services.trust_root, now=now)
    if state is not None:  # the wish is stored already
        return max(int(state.due_at - now), 0) + ASK_AGAIN_S
    if len(await collateral_states(services.store)) >= MAX_FAMILIES:
        log_warning("collateral-wish-refused", families=MAX_FAMILIES)
        return None
    # The commit is refused if a concurrent request has stored the same wish. That wish is as good.
    wish = state_put(
        (quote.platform.fmspc, quote.platform.ca),
        CollateralState(due_at=now, wanted_at=now),
        expect=ABSENT,
    )
    await commit_puts(services.store, wish)
    return ASK_AGAIN_S


# --- alarms ---------------------------------------------------------------------------------------


async def report_alarms(services: Services) -> bool:
    """Report collateral that needs the operator's attention (AT31).

    Such collateral is expiring, expired, stale or not renewable. Each alarm is logged and written
    to the audit log.

    Returns:
        False: nothing more to do at once.
    Raises:
        AttestationError: a stored document does not parse.
        SpaceError: the store does not answer.
    """
    now = services.now()
    rules = refresh_rules(services.config.collateral)
    for entry in await list_collateral(services.store):
        if entry.collateral is None:
            continue
        fmspc, ca = entry.family
        for alarm in alarms_of(
            entry.collateral,
            refreshed_at=entry.state.refreshed_at,
            tried_at=entry.state.tried_at,
            now=now,
            rules=rules,
        ):
            at = int(alarm.at)
            log_warning(
                f"collateral-{alarm.kind}", fmspc=fmspc.hex(), ca=ca, part=alarm.part, at=at
            )
            detail: JsonObject = {"kind": alarm.kind, "part": alarm.part, "at": at}
            await commit_puts(services.store, _audit_put(services, ALARM, entry.family, detail))
    return False


def _audit_put(services: Services, action: str, family: Family, detail: JsonObject) -> Put:
    return AuditRecord(
        at=services.now(),
        action=action,
        actor=services.keyring.node_did,
        subject=f"collateral:{family[0].hex()}:{family[1]}",
        detail=canonical_bytes(detail),
    ).put(services.entropy)
