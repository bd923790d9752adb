"""The shared steps of operations that write values (wire §4.4.3, §4.4.6, §4.4.8).

A write is authorised before any of its body is stored. A large body takes time to arrive, so the
write is authorised again afterwards. In any case the commit fails if a row that the decision
depends on has changed.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from capabilities.abilities import KV_PUT
from capabilities.frozen_struct import AcyclicStruct
from capabilities.resources import SpaceId
from spaces.audit.audit_records import MAX_DETAIL_BYTES
from spaces.grants.hosting import HostingPlan, hosting_by_put, plan_hosting
from spaces.keyspace import (
    ROOT_SECRET_KEY,
    deleted_key,
    key_rows_counter,
    space_keys,
    value_key,
    x16,
)
from spaces.store.contract import (
    MAX_COMMIT_BYTES,
    Add,
    Check,
    Commit,
    Put,
    Range,
    Record,
    Store,
    counter_of,
    read_row,
)
from spaces.values.deleted_paths import NO_REMOVAL, EarlyRemoval, plan_early_removal
from spaces.values.drafts import Draft
from spaces.values.key_places import StoredKey, plan_key_places
from spaces.values.quota import effective_limit, rows_limit
from spaces.values.value_bodies import Staging
from spaces.values.value_heads import Head, head_of
from spaces.values.value_writes import NO_LIMIT, VersionRoom, Write

from ...refusal import Refusal
from ...services import Services
from ..attempts import until_committed
from ..attribution import charged_person_of, person_of
from ..authorise import Call, read_call
from .conditions import Options
from .invitation_answers import check_answers, require_answers
from .plan import Request
from .retired_keys import check_keys
from .sealed_values import KEY_MEMBER, SealedKey, find_sealed_keys
from .stored_keys import stored_keys_of

_MOST_KEY_WRITERS = 1000
"""Writers for whom a space counts rows of content keys; a further one adds none (ST22)."""

_FRESH_S = 1.0
"""How old the snapshot of a write may be when the body is complete; otherwise it is read again."""


def quota_exceeded(used_bytes: int, limit_bytes: int) -> Refusal:
    """Return the error for a write that exceeds the storage quota."""
    code = "quota-exceeded" if used_bytes >= limit_bytes else "value-exceeds-quota"
    return Refusal(code, used_bytes, limit_bytes)


class PutReading(AcyclicStruct):
    """A snapshot of the rows that a write is checked against.

    Attributes:
        call: the authorised call; its records begin with the rows of the values, in the order of
            the paths, and the rows of deleted paths in the same order.
        space: the space of the values.
        heads: the rows that describe the values at the paths; None where nothing is stored.
        used_bytes: total size of the space's bodies.
        row_bytes: total size of the rows of its values (M54).
        limit_bytes: the limit of the space; None means unlimited.
        free_bytes: maximum total size of the new bodies, which replace the bodies at the paths;
            None means unlimited.
        hosting: the plan to host the space with this write.
        room: the space that versions may use (ST20).
    """

    call: Call
    space: SpaceId
    heads: tuple[Head | None, ...]
    used_bytes: int
    row_bytes: int
    limit_bytes: int | None
    free_bytes: int | None
    hosting: HostingPlan
    room: VersionRoom

    def require_free_space(self, declared_bytes: int) -> None:
        """Check that a request's declared body size fits the quota (M51).

        A full space accepts no further value, not even an empty one. Existing values may be
        replaced by values that are no larger in total.

        Raises:
            Refusal: `quota-exceeded` or `value-exceeds-quota`.
        """
        free_bytes = self.free_bytes
        if free_bytes is None:
            return
        if free_bytes <= 0 and not self._replaces_bytes():
            raise quota_exceeded(self.used_bytes, self.limit_bytes or 0)
        if declared_bytes > max(free_bytes, 0):
            raise quota_exceeded(self.used_bytes, self.limit_bytes or 0)

    def _replaces_bytes(self) -> bool:
        """Return whether one of the values at the paths has a body that is not empty."""
        return any(head is not None and head.size_bytes for head in self.heads)

    def check_received(self, received_bytes: int) -> None:
        """Check that the bytes received so far fit the quota (M51)."""
        if self.free_bytes is not None and received_bytes > self.free_bytes:
            raise quota_exceeded(self.used_bytes, self.limit_bytes or 0)

    async def within_free_space(
        self, pieces: AsyncIterator[bytes], received_bytes: int = 0
    ) -> AsyncIterator[bytes]:
        """Yield a body's chunks after checking them against the quota (M51).

        `received_bytes` counts the bodies before this one.
        """
        async for piece in pieces:
            received_bytes += len(piece)
            self.check_received(received_bytes)
            yield piece

    async def draft(self, services: Services, writes: Sequence[Write]) -> Draft:
        """Prepare the writes, one for each path and in this order (`Values.draft`)."""
        count = len(self.heads)
        return await services.values.draft(
            self.space,
            writes,
            self.call.records[:count],
            self.heads,
            room=self.room,
            pages=self.call.pages,
            deleted=self.call.records[count : 2 * count],
            stored_by=await person_of(services, self.call, self.space, KV_PUT),
        )

    def row_excess_bytes(self, row_growth_bytes: int) -> int:
        """Return by how much the rows would exceed their limit; 0 or less if they fit (M54)."""
        if self.limit_bytes is None or row_growth_bytes <= 0:
            return 0
        return self.row_bytes + row_growth_bytes - rows_limit(self.limit_bytes)

    def quota(self, growth_bytes: int, *, row_growth_bytes: int) -> list[Add]:
        """Check that a write stays within the space's quota.

        `growth_bytes` is the growth of the bodies, and `row_growth_bytes` that of all rows, with
        those of content keys (ST22) and of deleted paths.

        Returns:
            Conditions that repeat the check when the write is committed: they add nothing to the
            counters, but limit them. There are no conditions if the space does not grow.
        Raises:
            Refusal: `quota-exceeded` or `value-exceeds-quota`.
        """
        limit_bytes = self.limit_bytes
        adds: list[Add] = []
        if limit_bytes is None:
            return adds
        if growth_bytes > 0:
            if self.used_bytes + growth_bytes > limit_bytes:
                raise quota_exceeded(self.used_bytes, limit_bytes)
            adds.append(Add(space_keys(self.space).usage, 0, at_most=limit_bytes))
        if row_growth_bytes > 0:
            if self.row_excess_bytes(row_growth_bytes) > 0:
                raise quota_exceeded(self.row_bytes, rows_limit(limit_bytes))
            adds.append(Add(space_keys(self.space).rows, 0, at_most=rows_limit(limit_bytes)))
        return adds


async def _read_put(
    request: Request, space: SpaceId, paths: Sequence[str], *, records_use: bool
) -> PutReading:
    """Authorise a write and read the affected rows.

    If the node's mode allows it, an owner's write hosts a space that is not hosted yet (store §6).
    The rows for hosting are read only in this case, and the commit fails if they have changed.

    Raises:
        Refusal: `space-not-found`, the write would not host the space; `precondition-failed`.
        Errors of `read_call`.
    """
    services = request.services
    own = space_keys(space)
    value_keys = [value_key(own.space16, path) for path in paths]
    deleted_keys = [deleted_key(key) for key in value_keys]
    space_rows = (own.usage, own.rows, own.versions, own.override, own.row)
    keys = (*value_keys, *deleted_keys, *space_rows)
    ranges = services.values.version_ranges(space, paths)
    call = await read_call(services, request.invocation, keys, ranges, records_use=records_use)
    *path_records, usage, rows, versions, override, hosted = call.records
    value_records = path_records[: len(value_keys)]
    if call.unhosted or hosted is None:
        # The space is created together with its first value.
        now = services.now()
        client = request.message.client
        hosting_request = hosting_by_put(
            space, call.invocation.invoker, services.hosting, client=client, now=now
        )
        hosting_rows = (await services.store.read(hosting_request.keys())).records
        hosting = plan_hosting(hosting_request, hosting_rows, now=now)
        if call.unhosted - set(hosting.activated):  # the request also mentions another space
            raise Refusal("space-not-found")
    else:
        # The commit requires that the space is still hosted.
        hosting = HostingPlan((space,), checks=(Check(own.row, hosted.stamp),))
    used_bytes = counter_of(usage)
    limit_bytes = effective_limit(space, override, services.quota)
    free_bytes = None if limit_bytes is None else limit_bytes - used_bytes
    room = version_room(limit_bytes, usage, versions)
    heads: list[Head | None] = []
    for record, key in zip(value_records, value_keys, strict=True):
        head = head_of(record, key=key)
        heads.append(head)
        # The body of this value will be replaced, so its bytes are free for the new one.
        if head is not None and free_bytes is not None:
            free_bytes += head.size_bytes
    check_conditions(heads[0], request.options)
    if request.condition is not None:
        request.condition(heads)
    return PutReading(
        call=call,
        space=space,
        heads=tuple(heads),
        used_bytes=used_bytes,
        row_bytes=counter_of(rows),
        limit_bytes=limit_bytes,
        free_bytes=free_bytes,
        hosting=hosting,
        room=room,
    )


def version_room(
    limit_bytes: int | None, usage: Record | None, versions: Record | None, *, share: int = 1
) -> VersionRoom:
    """Return the limits on the versions that a write keeps (ST20).

    `share` is the number of spaces that share the commit.
    """
    return VersionRoom(
        limit_bytes=NO_LIMIT if limit_bytes is None else limit_bytes,
        used_bytes=counter_of(usage),
        kept_bytes=counter_of(versions),
        commit_bytes=MAX_COMMIT_BYTES // share,
    )


def check_conditions(head: Head | None, options: Options) -> None:
    """Check the preconditions of a write, such as `If-Match` (4.4.5).

    A deleted value counts as absent.

    Raises:
        Refusal: `precondition-failed`.
    """
    if options.create_only and head is not None:
        raise Refusal("precondition-failed")
    if options.replace_etag is None:
        return
    if head is None or head.etag != options.replace_etag:
        raise Refusal("precondition-failed")


async def put_values(
    request: Request,
    paths: Sequence[str],
    receive: Callable[[Staging, PutReading], Awaitable[Sequence[Write]]],
    *,
    subject: str,
    declared_bytes: int = 0,
    detail: bytes = b"",
) -> Sequence[Write]:
    """Store values and their metadata durably in one commit (M2).

    No byte of a body is read before the call is authorised, its condition is met and there is free
    space. All of that is checked again for the later commit.

    Args:
        request: writes to one space; conditions apply to the first value.
        paths: the paths, without repetition.
        receive: receives the bodies and returns a write for each path, in this order.
        subject: the subject of the audit record.
        declared_bytes: the size of the bodies according to the request; 0 if it is unknown.
        detail: the detail of the audit record.
    Raises:
        Refusal: `precondition-failed`; `quota-exceeded`, `value-exceeds-quota`: the values do not
            fit into the space; `space-not-found`; `key-retiring`: see `check_keys`;
            `root-secret-replaced`: see `_find_keys`; `key-rows-full`: see `_limit_key_rows`;
            `answer-refused`: see `check_answers`.
        Errors of `read_call` and `receive`.
    """
    services, space = request.services, request.target.space
    read = partial(_read_put, request, space, paths)
    async with services.values.staging(word=KEY_MEMBER) as staging:
        began = services.now()
        admitted = await read(records_use=True)
        require_answers(space, paths, declared_bytes=declared_bytes)
        admitted.require_free_space(declared_bytes)
        received = await receive(staging, admitted)
        keys = await _find_keys(request, received, staging)

        # The type is quoted, so that it is not evaluated for each put.
        async def attempt(is_first: bool) -> "tuple[Commit, None]":
            staging.recall()  # undoes the renaming of files for a commit that was refused
            # The first snapshot is used again only if it is recent. The commit checks revocation
            # markers, but only a read checks time windows (I33), and even a small body may arrive
            # slowly.
            is_fresh = is_first and keys.are_small and services.now() - began <= _FRESH_S
            reading = admitted if is_fresh else await read(records_use=False)
            call = reading.call
            hosting = reading.hosting
            draft = await reading.draft(services, keys.writes)
            key_rows = await _plan_keys(services, reading, keys)
            growth_bytes = draft.row_growth_bytes + key_rows.owner_growth_bytes
            removal = NO_REMOVAL
            if reading.row_excess_bytes(growth_bytes) > 0:
                removal = await _plan_removal(services, reading, draft, growth_bytes)
                growth_bytes -= removal.freed_bytes
            # The quota is checked before `finalize` gives uploaded files their final names.
            quota = reading.quota(draft.growth_bytes, row_growth_bytes=growth_bytes)
            plan = await draft.finalize(now=services.now())
            audit = call.audit(services, "kv.put", subject, detail)
            commit = call.commit(
                (*plan.puts, *hosting.puts, *key_rows.puts, *removal.puts, audit),
                checks=(*plan.checks, *hosting.checks, *key_rows.checks),
                adds=(*plan.adds, *quota, *key_rows.adds, *hosting.adds),
                use=call.late_use(services),
            )
            return commit, None

        judge = partial(read, records_use=False) if request.options.has_write_condition else None
        await until_committed(services, attempt, judge=judge)
    return keys.writes


async def _plan_removal(
    services: Services, reading: PutReading, draft: Draft, growth_bytes: int
) -> EarlyRemoval:
    """Plan which rows of deleted paths give their bytes to a write (CF6).

    `growth_bytes` is the growth of the rows of the space, which are beyond their limit.
    """
    return await plan_early_removal(
        services.store,
        space_keys(reading.space),
        excess_bytes=reading.row_excess_bytes(growth_bytes),
        besides=draft.deleted_keys,
    )


class _WrappedKeys(NamedTuple):
    """The wrapped keys in the values that an operation received.

    Attributes:
        writes: the writes, with the digests of their wrapped keys (RL19).
        sealed: the wrapped keys, each with its path.
        stored: the content keys in them that the node can open (RL21).
    """

    writes: Sequence[Write]
    sealed: Sequence[tuple[str, SealedKey]]
    stored: Sequence[StoredKey]

    @property
    def are_small(self) -> bool:
        """Whether the bodies of all values are in memory."""
        return all(
            write.body is not None and write.body.inline is not None for write in self.writes
        )


async def _find_keys(request: Request, received: Sequence[Write], staging: Staging) -> _WrappedKeys:
    """Find and open the wrapped keys in received values.

    Raises:
        Refusal: `root-secret-replaced`, a key cannot be opened, and this process has a former root
            secret (RK4); `answer-refused`: see `check_answers`.
    """
    services, space = request.services, request.target.space
    writes, sealed = await find_sealed_keys(received, staging)
    check_answers(space, writes, {path for path, _ in sealed})
    if not sealed:
        return _WrappedKeys(writes=writes, sealed=(), stored=())
    stored = await stored_keys_of(services.store, services.keyring, space, sealed)
    if len(stored) < len(sealed):
        # A former root secret opens no wrapped key. A value whose key is not recorded could later
        # be copied to a path that another caller may open.
        root_secret = await read_row(services.store, ROOT_SECRET_KEY)
        if not services.has_present_secret(root_secret):
            raise Refusal("root-secret-replaced")
    return _WrappedKeys(writes=writes, sealed=sealed, stored=stored)


class _KeyRows(NamedTuple):
    """The part of a commit that belongs to the wrapped keys in its values.

    Attributes:
        puts: the rows of content keys that change.
        checks: the rows that the commit relies on: of content keys, and of their networks.
        adds: the condition that the rows stay within the limit of their writer.
        owner_growth_bytes: by how much rows that are charged to the space grow (M54).
    """

    puts: tuple[Put, ...] = ()
    checks: tuple[Check, ...] = ()
    adds: tuple[Add, ...] = ()
    owner_growth_bytes: int = 0


async def _plan_keys(services: Services, reading: PutReading, keys: _WrappedKeys) -> _KeyRows:
    """Plan the rows of the wrapped keys in received values, and check their networks (RL21, EN38).

    Raises:
        Refusal: `key-retiring`: see `check_keys`; `key-rows-full`: see `_limit_key_rows`.
    """
    if not keys.sealed:  # most values are no envelopes
        return _KeyRows()
    space, store = reading.space, services.store
    networks = await check_keys(services, space, keys.sealed)
    writer = await charged_person_of(services, reading.call, space, KV_PUT)
    if writer == space.owner:
        places = await plan_key_places(store, keys.stored, account=space_keys(space).rows)
        return _KeyRows(
            puts=places.puts,
            checks=(*places.checks, *networks),
            owner_growth_bytes=places.growth_bytes,
        )
    account = key_rows_counter(x16(space.text), x16(writer))
    places = await plan_key_places(store, keys.stored, account=account)
    limits: tuple[Add, ...] = ()
    if reading.limit_bytes is not None and places.growth_bytes > 0:
        most_bytes = rows_limit(reading.limit_bytes)
        limit = await _limit_key_rows(
            store, space, account, growth_bytes=places.growth_bytes, most_bytes=most_bytes
        )
        limits = (limit,)
    return _KeyRows(puts=places.puts, checks=(*places.checks, *networks), adds=limits)


async def _limit_key_rows(
    store: Store, space: SpaceId, account: bytes, *, growth_bytes: int, most_bytes: int
) -> Add:
    """Check that rows of content keys stay within the limits of who writes them (ST22).

    One writer may add an eighth of what a space may have, and all writers but the owner one half.
    Writers that add rows at the same moment may exceed the half by what they add: none of it is
    the owner's.

    Args:
        store: contains the counters.
        space: the space of the writes.
        account: key of the writer's counter.
        growth_bytes: by how much it grows.
        most_bytes: limit of the rows of the space.
    Returns:
        The condition that repeats the check of this writer when the write is committed.
    Raises:
        Refusal: `key-rows-full`.
    """
    most_of_writer_bytes = most_bytes // 8
    most_of_all_bytes = most_bytes // 2
    writers = Range(key_rows_counter(x16(space.text)), limit=_MOST_KEY_WRITERS)
    snapshot = await store.read((account,), ranges=(writers,))
    (own,) = snapshot.records
    (page,) = snapshot.pages
    if counter_of(own) + growth_bytes > most_of_writer_bytes:
        raise Refusal("key-rows-full", "one writer", most_of_writer_bytes)
    used_bytes = sum([counter_of(record) for _, record in page.rows])
    is_table_full = own is None and page.more
    if is_table_full or used_bytes + growth_bytes > most_of_all_bytes:
        raise Refusal("key-rows-full", "all writers but the owner", most_of_all_bytes)
    return Add(account, 0, at_most=most_of_writer_bytes)


def paths_detail(paths: Sequence[str]) -> bytes:
    """Format a list of paths for an audit record.

    The text is truncated to MAX_DETAIL_BYTES.
    """
    return "\n".join(paths).encode("utf-8", "surrogatepass")[:MAX_DETAIL_BYTES]
