"""What every write of values reads at one moment, and the commit it makes (wire §4.4.3, §4.4.6, §4.4.8).

A put is read and judged before a byte of its body is kept. A large body takes its time to arrive, so it is read and
judged once more afterwards; and in any case the commit compares every row that the decision rests on.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from msgspec import Struct

from capabilities.resources import SpaceId
from capabilities.tokens import Invocation
from spaces.audit.records import MAX_DETAIL_BYTES, AuditRecord, audit_put
from spaces.grants.hosting import HostingPlan, hosting_by_put, plan_for_hosted, plan_hosting
from spaces.keyspace import space_keys, value_key
from spaces.store.contract import Add, Claim, Commit, Record, counter_of
from spaces.values.quota import effective_limit, quota_add, rows_add, rows_limit
from spaces.values.value_heads import Draft, Head, WritePlan, head_of

from ...refusal import Refusal
from ...services import Services
from ..authorise import Call, read_call
from ..reading import Reading
from .conditions import Options

# A token this long after its expiry is refused by its time alone, however the clocks of one store differ.
_CLAIM_GRACE_S: Final = 60.0

_FRESH_S: Final = 1.0
"""How old the reading of a put may be; an older one is made again when the bodies have arrived."""


def quota_exceeded(used_bytes: int, limit_bytes: int) -> Refusal:
    """Return the refusal of a value for which a space has no free space, full or not."""
    code = "quota-exceeded" if used_bytes >= limit_bytes else "value-exceeds-quota"
    return Refusal(code, used_bytes, limit_bytes)


class PutReading(Struct, frozen=True, gc=False):
    """Everything a put is judged by, read at one moment.

    Attributes:
        call: the judged call.
        space: where the values go.
        records: rows of the heads, in the order of the paths.
        heads: the live values among them.
        used_bytes: size of the bodies of the space.
        row_bytes: what the rows of its values take besides (M54).
        limit_bytes: the limit of the space; None: no limit.
        free_bytes: the most that bodies in place of these values can have; None: no limit.
        hosting: what hosts the space along with this put.
    """

    call: Call
    space: SpaceId
    records: tuple[Record | None, ...]
    heads: tuple[Head | None, ...]
    used_bytes: int
    row_bytes: int
    limit_bytes: int | None
    free_bytes: int | None
    hosting: HostingPlan

    def require_free_space(self, declared_bytes: int | None) -> None:
        """Refuse bodies that cannot fit before they are read (M51).

        A full space takes no further value, not even an empty one; over existing values it takes what is no larger than
        they are together.

        Raises:
            `quota-exceeded`: there is not enough free space.
        """
        free_bytes = self.free_bytes
        if free_bytes is None or (free_bytes > 0 and (declared_bytes or 0) <= free_bytes):
            return
        is_new = not any(head is not None and head.size_bytes for head in self.heads)
        if is_new or (declared_bytes or 0) > max(free_bytes, 0):
            raise self.quota_exceeded()

    def require_taken(self, taken_bytes: int) -> None:
        """Refuse bodies that have become larger than the free space (M51).

        Raises:
            `quota-exceeded`: there is not enough free space.
        """
        free_bytes = self.free_bytes
        if free_bytes is not None and taken_bytes > free_bytes:
            raise self.quota_exceeded()

    def quota_exceeded(self) -> Refusal:
        """Return the refusal that says how full the space is."""
        return quota_exceeded(self.used_bytes, self.limit_bytes or 0)

    def quota(self, draft: Draft) -> tuple[Add, ...]:
        """Return the bounds that the commit has to keep; a commit that does not grow the space is not bounded."""
        limit_bytes = self.limit_bytes
        if limit_bytes is None:
            return ()
        adds = []
        if draft.growth_bytes > 0:
            if self.used_bytes + draft.growth_bytes > limit_bytes:
                raise self.quota_exceeded()
            adds.append(quota_add(self.space, limit_bytes=limit_bytes))
        if draft.row_growth_bytes > 0:
            if self.row_bytes + draft.row_growth_bytes > rows_limit(limit_bytes):
                raise quota_exceeded(self.row_bytes, rows_limit(limit_bytes))
            adds.append(rows_add(self.space, limit_bytes=limit_bytes))
        return tuple(adds)


async def read_put(
    services: Services,
    invocation: Invocation,
    space: SpaceId,
    paths: Sequence[str],
    *,
    client: str | None,
    claiming: bool,
) -> PutReading:
    """Read and judge a put.

    A space that is not hosted yet is hosted by the put of its own DID, where the node's mode says so (store §6). The
    rows for that are read only in that case, and the commit compares them.
    """
    own = space_keys(space)
    keys = [value_key(own.space16, path) for path in paths]
    reading = Reading()
    heads, usage, rows = reading.rows(keys), reading.row(own.usage), reading.row(own.rows)
    override, hosted = reading.row(own.override), reading.row(own.row)
    call = await read_call(services, invocation, reading, claiming=claiming)
    if call.unhosted or hosted.found is None:
        hosting = await _hosting(services, call, space, client)
    else:
        hosting = plan_for_hosted(space, own.row, hosted.found)
    used_bytes, limit_bytes = counter_of(usage.found), effective_limit(space, override.found, services.quota)
    free_bytes = None if limit_bytes is None else limit_bytes - used_bytes
    live = []
    for record, key in zip(heads.found, keys, strict=True):
        live.append(head := head_of(record, key=key))
        if head is not None and free_bytes is not None:
            free_bytes += head.size_bytes
    row_bytes = counter_of(rows.found)
    return PutReading(call, space, heads.found, tuple(live), used_bytes, row_bytes, limit_bytes, free_bytes, hosting)


async def _hosting(services: Services, call: Call, space: SpaceId, client: str | None) -> HostingPlan:
    """Plan how a put hosts its space, or raise `space-not-found` when a mentioned space would not be hosted."""
    now = services.clock.now()
    wanted = hosting_by_put(space, call.invocation.invoker, services.hosting, client=client, now=now)
    hosting = plan_hosting(wanted, (await services.store.read(wanted.keys())).records, now=now)
    if call.unhosted - set(hosting.activated):
        raise Refusal("space-not-found")
    return hosting


def check_conditions(head: Head | None, options: Options) -> None:
    """Compare the condition with the live value; a deleted one counts as absent (4.4.5)."""
    if options.create_only and head is not None:
        raise Refusal("precondition-failed")
    if options.replace_etag is not None and (head is None or head.etag != options.replace_etag):
        raise Refusal("precondition-failed")


async def within_free_space(
    pieces: AsyncIterator[bytes], reading: PutReading, taken_bytes: int = 0
) -> AsyncIterator[bytes]:
    """Yield a body, and stop it where the space has no more free space (M51).

    Args:
        pieces: the body.
        reading: says how much space is free.
        taken_bytes: of other bodies of the same commit.
    Raises:
        `quota-exceeded`: there is not enough free space.
    """
    async for piece in pieces:
        taken_bytes += len(piece)
        reading.require_taken(taken_bytes)
        yield piece


def is_fresh(services: Services, began: float) -> bool:
    """Return whether a commit may rest on a reading that was made after `began`, before small bodies came.

    The commit judges marks, but only a read judges windows (I33), and a small body can arrive slowly.
    """
    return services.clock.now() - began <= _FRESH_S


def put_commit(
    services: Services, reading: PutReading, audit: AuditRecord, plan: WritePlan, quota: tuple[Add, ...]
) -> Commit:
    """Return the commit of a put: heads, bodies, what hosts the space, the bound on its size, and the record of it."""
    hosting = reading.hosting
    return Commit(
        puts=(*plan.puts, *hosting.puts, audit_put(audit, entropy=services.entropy)),
        live=reading.call.live,
        checks=(*plan.checks, *hosting.checks),
        adds=(*plan.adds, *quota, *hosting.adds),
        claim=durable_claim(services, reading.call),
    )


def durable_claim(services: Services, call: Call) -> Claim | None:
    """Return the claim that a commit makes again (ST4); None for a token that expired before its body was complete.

    Such a token is refused by its time alone, and under its minute nothing may be claimed any more.
    """
    is_over = services.clock.now() > call.claim.expires_at + _CLAIM_GRACE_S
    return None if is_over else call.claim


def audit_of(services: Services, call: Call, action: str, subject: str, paths: Sequence[str] = ()) -> AuditRecord:
    """Return the record of a write."""
    return AuditRecord(
        at=services.clock.now(),
        action=action,
        actor=call.invocation.invoker,
        subject=subject,
        token=call.invocation.cid,
        authority=call.authority.live,
        detail="\n".join(paths).encode("utf-8", "surrogatepass")[:MAX_DETAIL_BYTES],
    )
