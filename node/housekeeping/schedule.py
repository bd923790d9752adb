"""The schedule of the node's background jobs.

Only the worker that holds the lease runs them.

Each worker takes a turn every half minute. The holder of the lease runs the jobs that are due, one
after another; the other workers try again later. A process that ends in order releases the lease;
one that is killed loses it within two minutes. A job works in rounds. Between rounds the lease is
renewed, or else the turn ends. Jobs are safe to run in two processes at once.

A process whose clock differs from the database's skips its turn (ST9). Age-based deletion is
postponed for a day after the clock was set back or was found more than a day ahead (ST11).

To add a job, add a row to `JOBS`. Jobs that delete old records (receipts, documents, evidence,
alternative encodings, audit; RC25 to RC29) remove only expired rows, and each removal is
conditional: it fails if another process changed the row first.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from capabilities.cids import ContentKey
from encryption_network.judgement import CLOCK_SKEW_S
from encryption_network.network_errors import RecordError
from encryption_network.policy import decode_evidence
from spaces.audit.pruning import prune_batch
from spaces.documents import receipt_rows
from spaces.documents.fetch_rows import sweep_fetches
from spaces.expiry import rows_until
from spaces.grants.delegations import decode_delegation
from spaces.grants.exchanged import sweep_exchanged
from spaces.grants.retention import plan_removal, removal_cutoff
from spaces.keyspace import (
    ALIASES_PREFIX,
    EVIDENCE_PREFIX,
    EXPIRY_PREFIX,
    delegation_key,
    evidence_inputs_key,
    marker_key,
)
from spaces.lease import LEASE_S, Lease
from spaces.scans import walk_position, walk_put
from spaces.space_errors import RecordDamaged, SpaceError
from spaces.store.contract import Put, Range, commit_puts, has_value, read_page, read_row
from spaces.store.lmdb.snapshots import are_bodies_locked
from spaces.store.observing import MAX_CLOCK_SKEW_S, SharedStore
from spaces.values.collector import collect, sweep_orphans, sweep_unfinished, sweep_versions
from spaces.values.deleted_paths import sweep_deleted_paths
from spaces.values.tickets import sweep_tickets

from ..logs import describe, log_event, log_warning
from ..operations.attestation import refresh_collateral
from ..services import Services
from . import seal_audit

DAY_S = 86_400.0
EVIDENCE_KEPT_S = DAY_S
"""How long expired evidence is kept for inspection; no key is released on it."""
_ALIASES = 200
_EVIDENCE = 64


async def sweep_receipts(services: Services) -> bool:
    """Remove expired receipts, documents and fetches of copies (RC25, RC26, RC36).

    Returns:
        Whether work remains.

    Raises:
        SpaceError: the store does not answer.
    """
    days = services.config.retention.receipts_days
    if days == 0:
        return False
    now = services.now()
    kept_since = now - days * DAY_S
    are_receipts_left = await receipt_rows.sweep_receipts(services.store, until=kept_since)
    are_fetches_left = await sweep_fetches(services.store, until=kept_since)
    # Documents are retained for another period: removing the receipts of all networks takes many
    # rounds, and until then receipts may still refer to the documents.
    documents_kept_since = kept_since - receipt_rows.PERIOD_S
    processed_documents = await receipt_rows.sweep_documents(
        services.store, until=documents_kept_since, now=now
    )
    return are_receipts_left or are_fetches_left or processed_documents > 0


async def prune_audit(services: Services) -> bool:
    """Remove expired records from the audit log (RC27, RC28).

    Nothing is removed if no retention is configured.

    Returns:
        Whether work remains.

    Raises:
        RecordDamaged: a row does not decode.
        SpaceError: the store does not answer.
    """
    retention = services.config.retention
    if retention.audit_days == 0:
        return False
    now = services.now()
    return await prune_batch(
        services.store,
        until=now - retention.audit_days * DAY_S,
        needs_export=not retention.audit_unexported,
        now=now,
        entropy=services.entropy,
    )


async def sweep_evidence(services: Services) -> bool:
    """Remove attestation evidence a day after its expiry, or if it is dated in the future (RC29).

    A backend that attests again replaces its evidence. This job removes the evidence of backends
    that do not. Receipts refer to documents of their own, which are not removed.

    Evidence is not sorted by its expiry, so each call reads one page of all evidence, and the next
    call reads the page after it.

    Returns:
        Whether to read the next page at once. After a page without anything to remove, that waits
        for the next turn, so that reading everything is spread over many turns.

    Raises:
        SpaceError: the store does not answer.
    """
    now = services.now()
    start = await walk_position(services.store, "evidence")
    page = await read_page(services.store, Range(EVIDENCE_PREFIX, after=start, limit=_EVIDENCE))
    puts: list[Put] = []
    for key, record in page.rows:
        try:
            evidence = decode_evidence(record.value or b"")
        except RecordError:
            log_event("sweep-record-damaged", kind="evidence")
            continue
        is_expired = evidence.expires_at <= now - EVIDENCE_KEPT_S
        is_from_the_future = evidence.attested_at > now + CLOCK_SKEW_S
        if is_expired or is_from_the_future:
            puts += Put(key, None, expect=record.stamp), Put(evidence_inputs_key(key), None)
    if puts or page.place != start:
        await commit_puts(services.store, *puts, walk_put("evidence", page.place))
    is_last_page = page.place is None
    return bool(puts) and not is_last_page


async def sweep_aliases(services: Services) -> bool:
    """Remove alternative CIDs of deleted delegations (RC29).

    A delegation is removed together with its own CID. The same delegation may have been posted in
    other encodings; the CIDs of those are removed here. A delegation is deleted if it has no
    revocation marker, which exists exactly as long as the delegation does.

    Returns:
        Whether to read the next page at once, as for `sweep_evidence`.

    Raises:
        SpaceError: the store does not answer.
    """
    start = await walk_position(services.store, "aliases")
    page = await read_page(services.store, Range(ALIASES_PREFIX, after=start, limit=_ALIASES))
    marker_keys = [marker_key(alias.value or b"") for _, alias in page.rows]
    markers = (await services.store.read(marker_keys)).records
    puts: list[Put] = []
    for (key, alias), marker in zip(page.rows, markers, strict=True):
        is_deleted = not has_value(marker)
        if is_deleted:
            puts.append(Put(key, None, expect=alias.stamp))
    if puts or page.place != start:
        await commit_puts(services.store, *puts, walk_put("aliases", page.place))
    is_last_page = page.place is None
    return bool(puts) and not is_last_page


BATCH = 64


async def sweep_delegations(services: Services, *, limit: int = BATCH) -> int:
    """Remove a batch of long-expired delegations, and return their number.

    Damaged records are logged and left in place.
    """
    now = services.now()
    removed = 0
    for row_key, expiry_row in await rows_until(
        services.store, EXPIRY_PREFIX, removal_cutoff(now), limit=limit
    ):
        record = await read_row(services.store, delegation_key(ContentKey(expiry_row.value or b"")))
        try:
            stored = decode_delegation(record)
        except RecordDamaged:
            log_warning("sweep-record-damaged", row=row_key.hex())
            continue
        await services.store.commit(plan_removal(row_key, stored, record, now=now))
        removed += 1
    return removed


TURN_S = 30.0
# The start times of more frequent jobs are not written to the store, which would cost a commit
# each; the next holder may run such a job early.
_NOTED_FROM_S = 60.0
_RELEASE_WITHIN_S = 1.0
LEAP_S = 86_400.0
"""How far a clock may advance between two observations before it counts as having jumped ahead.

Housekeeping that did not run for as long looks the same.
"""
STEADY_S = 86_400.0
"""How long age-based deletion waits after a clock jump; time for the operator to set it right."""
# The last observation of the clock and the time of its last jump are stored like start times of
# jobs with these names.
_SEEN = "clock-seen"
_LEAPT = "clock-leapt"
_SEEN_EVERY_S = 60.0
_BATCH = 256


class Job(NamedTuple):
    """A background job and its interval.

    Attributes:
        name: Name in the log, and in the row with the start times.
        every_s: Shortest time between two starts of the job.
        do_round: Does a part of the work, and returns whether work remains.
        by_age: Whether the job deletes rows by their age alone, so that it is postponed after a
            clock jump (ST11).
    """

    name: str
    every_s: float
    do_round: Callable[[Services], Awaitable[bool]]
    by_age: bool = False


async def _collect_bodies(services: Services) -> bool:
    store = services.store
    if isinstance(store, SharedStore):
        is_locked = await store.are_bodies_locked()
    else:
        is_locked = await asyncio.to_thread(are_bodies_locked, services.config.data)
    if is_locked:  # a backup still reads bodies that no row refers to any more (BK2)
        return False
    processed = await collect(
        store,
        services.values.files,
        now=services.now(),
        entropy=services.entropy,
        limit=_BATCH,
    )
    return processed > 0


async def _sweep_unfinished(services: Services) -> bool:
    removed = await sweep_unfinished(services.values.files, now=services.now())
    if removed:
        log_event("unfinished-uploads-removed", count=removed)
    return False


async def _sweep_orphans(services: Services) -> bool:
    noted = await sweep_orphans(
        services.store, services.values.files, now=services.now(), entropy=services.entropy
    )
    if noted:
        log_event("orphaned-bodies-found", count=noted)
    return False


async def _sweep_delegations(services: Services) -> bool:
    removed = await sweep_delegations(services)
    return removed == BATCH  # after a full batch there may be more


async def _sweep_tickets(services: Services) -> bool:
    return await sweep_tickets(services.store, now=services.now())


async def _sweep_exchanged(services: Services) -> bool:
    return await sweep_exchanged(services.store, now=services.now())


async def _sweep_versions(services: Services) -> bool:
    return await sweep_versions(services.store, services.values, now=services.now())


async def _sweep_deleted_paths(services: Services) -> bool:
    return await sweep_deleted_paths(services.store, now=services.now())


JOBS = (
    Job(name="seal-audit", every_s=1.0, do_round=seal_audit.seal_recent),
    Job(name="seal-audit-delayed", every_s=60.0, do_round=seal_audit.seal_delayed),
    Job(name="seal-audit-late", every_s=3600.0, do_round=seal_audit.seal_audit),
    Job(name="fetch-collateral", every_s=5.0, do_round=refresh_collateral.fetch_due),
    Job(name="collect-bodies", every_s=30.0, do_round=_collect_bodies),
    Job(name="sweep-tickets", every_s=60.0, do_round=_sweep_tickets, by_age=True),
    Job(name="sweep-receipts", every_s=60.0, do_round=sweep_receipts, by_age=True),
    Job(name="sweep-evidence", every_s=60.0, do_round=sweep_evidence, by_age=True),
    Job(name="sweep-aliases", every_s=60.0, do_round=sweep_aliases),
    # By age, but not postponed: a trust that has reached its limit would be blocked for a day. What
    # is removed is only the count; the tokens and their revocation markers stay (OX9).
    Job(name="sweep-exchanged", every_s=30.0, do_round=_sweep_exchanged),
    Job(name="watch-collateral", every_s=21_600.0, do_round=refresh_collateral.report_alarms),
    Job(name="sweep-unfinished", every_s=3600.0, do_round=_sweep_unfinished, by_age=True),
    Job(name="sweep-delegations", every_s=3600.0, do_round=_sweep_delegations, by_age=True),
    Job(name="sweep-versions", every_s=3600.0, do_round=_sweep_versions, by_age=True),
    Job(name="sweep-deleted-paths", every_s=3600.0, do_round=_sweep_deleted_paths, by_age=True),
    Job(name="prune-audit", every_s=3600.0, do_round=prune_audit, by_age=True),
    Job(name="sweep-orphans", every_s=86_400.0, do_round=_sweep_orphans, by_age=True),
)


class Housekeeper:
    """The background jobs of one process.

    The jobs run while the process holds the lease.
    """

    def __init__(
        self,
        services: Services,
        jobs: Sequence[Job] = JOBS,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._services = services
        self._now = services.now
        self._jobs = jobs
        self._pause = pause
        self._begun: dict[str, float] = {}
        self._failed: dict[str, type[Exception]] = {}
        self._lease = Lease(services.store, owner=services.entropy.token(16), ttl_s=LEASE_S)

    async def turn(self) -> bool:
        """Acquire the lease, and run the background jobs that are due.

        Returns:
            False if the lease was not acquired, or was lost.
        """
        lease = self._lease
        store = self._services.store
        if isinstance(store, SharedStore):
            clocks = await store.clocks()
            if clocks.is_skewed:  # too much would be deleted, or too little (ST9)
                log_warning("housekeeping-clock-apart", ahead_s=round(clocks.ahead_s))
                await lease.release()
                return False
        if not await lease.take(now=self._now()):
            return False
        noted_starts = await lease.begun()
        is_clock_steady = await self._observe_clock(lease, noted_starts)
        # Starts of frequent jobs are not noted in the store, but in this process alone.
        starts = {**noted_starts, **self._begun}
        for job in self._jobs:
            if job.by_age and not is_clock_steady:
                continue
            if not self._is_due(job, starts.get(job.name)):
                continue
            if not await self._run_job(job, lease):
                return False
        return True

    def _is_due(self, job: Job, begun_at: float | None) -> bool:
        """Return whether a job may start now; `begun_at` is its last start, or None."""
        if begun_at is None:
            return True
        now = self._now()
        is_clock_set_back = begun_at > now  # the start would be in the future
        return is_clock_set_back or now >= begun_at + job.every_s

    async def _observe_clock(self, lease: Lease, noted_times: Mapping[str, float]) -> bool:
        """Note the time in the store, and return whether a day has passed since the last jump.

        Age-based deletion is postponed after a clock jump (ST11). A store with start times of jobs
        but without an observation counts as one whose clock has jumped.
        """
        now = self._now()
        seen_at = noted_times.get(_SEEN)
        leapt_at = noted_times.get(_LEAPT)
        if seen_at is None and not noted_times:
            # The store is new and contains nothing old: no jump, and an observation is due.
            seen_at = now - _SEEN_EVERY_S
        if seen_at is None or now < seen_at - MAX_CLOCK_SKEW_S or now > seen_at + LEAP_S:
            by_s = 0 if seen_at is None else round(now - seen_at)
            log_warning("housekeeping-clock-leapt", by_s=by_s)
            leapt_at = now
            await lease.note(_LEAPT, now=now)
            await lease.note(_SEEN, now=now)
        elif now >= seen_at + _SEEN_EVERY_S:
            await lease.note(_SEEN, now=now)
        return leapt_at is None or leapt_at + STEADY_S <= now

    async def _run_job(self, job: Job, lease: Lease) -> bool:
        """Note the start of a background job, and run it until nothing is left to do.

        Returns:
            False if the lease was lost.
        """
        now = self._now()
        if job.every_s < _NOTED_FROM_S:
            self._begun[job.name] = now
        elif not await lease.note(job.name, now=now):
            return False
        try:
            while await job.do_round(self._services):
                if not await lease.take(now=self._now()):
                    return False
            self._failed.pop(job.name, None)
        except Exception as error:  # a failing job must not stop the others
            # Each failure is logged once. Otherwise a job of every second would fill a full disk.
            if self._failed.get(job.name) is not type(error):
                log_warning("housekeeping-failed", job=job.name, **describe(error))
            self._failed[job.name] = type(error)
        return True

    async def keep(self) -> None:
        """Run the background jobs on schedule until cancelled."""
        # The holder of the lease looks for due jobs as often as its most frequent job runs.
        holder_pause_s = min([TURN_S, *(job.every_s for job in self._jobs)])
        is_holder = False
        while True:
            await self._pause(holder_pause_s if is_holder else TURN_S)
            try:
                is_holder = await self.turn()
            except Exception as error:  # may be temporary, such as a store that does not answer
                is_holder = False
                log_warning("housekeeping-failed", job="lease", **describe(error))

    async def leave(self) -> None:
        """Release the lease for background jobs."""
        with suppress(SpaceError, TimeoutError):
            async with asyncio.timeout(_RELEASE_WITHIN_S):
                await self._lease.release()


@asynccontextmanager
async def housekeeping(services: Services) -> AsyncIterator[Housekeeper]:
    """Run the background jobs during an `async with` block.

    At the end of the block, cancel the current job and release the lease.
    """
    housekeeper = Housekeeper(services)
    task = asyncio.create_task(housekeeper.keep())
    try:
        yield housekeeper
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await housekeeper.leave()
