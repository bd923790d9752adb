"""How long what tells of the past is kept: receipts, documents, ended evidence, other spellings, audit (RC25 to RC29).

Jobs of housekeeping, each a round at a time. All of them are safe when two processes do them at once: what is removed
is over whoever looks, and every removal that a rival could prevent is on condition that he did not.
"""

from typing import Final

from encryption_network.errors import RecordError
from encryption_network.evidence_record import decode_evidence
from encryption_network.judgement import CLOCK_SKEW_S
from spaces.audit.pruning import prune_batch
from spaces.documents import receipts
from spaces.documents.receipts import basis_beside
from spaces.keyspace import ALIASES_PREFIX, EVIDENCE_PREFIX, mark_key
from spaces.store.contract import Commit, Put, Record
from spaces.walks import walk_page, walk_place, walk_put

from ..logs import log_event
from ..services import Services

DAY_S: Final = 86_400.0
EVIDENCE_KEPT_S: Final = DAY_S
"""How long evidence that has ended stays: nothing is released on it, a day leaves room to look."""
_ALIASES: Final = 200
_EVIDENCE: Final = 64


async def sweep_receipts(services: Services) -> bool:
    """Remove receipts and documents that are kept long enough; True when there is more to do at once (RC25, RC26).

    Raises:
        SpaceError: the store does not answer.
    """
    days = services.config.retention.receipts_days
    if days == 0:
        return False
    now = services.clock.now()
    until = now - days * DAY_S
    more = await receipts.sweep_receipts(services.store, until=until)
    # The walk through the networks takes its time; what their receipts refer to stays meanwhile.
    return await receipts.sweep_documents(services.store, until=until - receipts.PERIOD_S, now=now) > 0 or more


async def prune_audit(services: Services) -> bool:
    """Cut the audit chain where that is asked for; True when there is more to do at once (RC27, RC28).

    Raises:
        RecordDamaged, SpaceError: the store does not answer, or a row does not decode.
    """
    retention = services.config.retention
    if retention.audit_days == 0:
        return False
    now = services.clock.now()
    pruned = await prune_batch(
        services.store,
        until=now - retention.audit_days * DAY_S,
        needs_export=not retention.audit_unexported,
        now=now,
        entropy=services.entropy,
    )
    return pruned.more


async def sweep_evidence(services: Services) -> bool:
    """Remove evidence that ended a day ago, and what it was judged from; True when there is more to do at once (RC29).

    Evidence of a holder that comes back is replaced then; this is for those who do not. What receipts refer to are
    documents of their own.

    Raises:
        SpaceError: the store does not answer.
    """
    now = services.clock.now()
    place = await walk_place(services.store, "evidence")
    page = await walk_page(services.store, EVIDENCE_PREFIX, place, limit=_EVIDENCE)
    ended = [(key, record) for key, record in page.rows if _is_void(record, now)]
    puts = [put for key, record in ended for put in (Put(key, None, expect=record.stamp), Put(basis_beside(key), None))]
    if puts or page.place != place:
        await services.store.commit(Commit(puts=(*puts, walk_put("evidence", page.place))))
    return bool(puts) and page.place is not None


def _is_void(record: Record, now: float) -> bool:
    """Whether evidence ended a day ago, or was taken in by a clock that stood ahead: nothing is released on that."""
    try:
        evidence = decode_evidence(record.value or b"")
        return evidence.expires_at <= now - EVIDENCE_KEPT_S or evidence.attested_at > now + CLOCK_SKEW_S
    except RecordError:
        log_event("sweep-record-damaged", kind="evidence")
        return False


async def sweep_aliases(services: Services) -> bool:
    """Remove spellings of delegations that are gone; True when there is more to do at once (RC29).

    A delegation leaves with its own cid; cids of other spellings that were posted later are found here. A mark is there
    exactly as long as its delegation.

    Raises:
        SpaceError: the store does not answer.
    """
    place = await walk_place(services.store, "aliases")
    page = await walk_page(services.store, ALIASES_PREFIX, place, limit=_ALIASES)
    marks = (await services.store.read([mark_key(record.value or b"") for _, record in page.rows])).records
    stray = [
        Put(key, None, expect=record.stamp)
        for (key, record), mark in zip(page.rows, marks, strict=True)
        if mark is None or mark.value is None
    ]
    if stray or page.place != place:
        await services.store.commit(Commit(puts=(*stray, walk_put("aliases", page.place))))
    return bool(stray) and page.place is not None
