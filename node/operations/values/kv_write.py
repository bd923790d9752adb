"""Operations that store or delete values (wire §4.4.3, §4.4.8)."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice

from capabilities.frozen_struct import FrozenStruct
from capabilities.resources import SpaceId
from spaces.keyspace import deleted_key, space_keys
from spaces.store.contract import Add, Check, Commit, Put, Record
from spaces.values.quota import effective_limit
from spaces.values.value_bodies import Staging
from spaces.values.value_heads import Head, head_key, head_of
from spaces.values.value_writes import Write, WritePlan

from ...refusal import Refusal
from ...services import Services
from ..attempts import until_committed
from ..authorise import Call, read_call
from .kv_commit import (
    PutReading,
    check_conditions,
    paths_detail,
    put_values,
    version_room,
)
from .kv_versions import REMOVERS, read_versions
from .plan import Request, stored_headers


class Written(FrozenStruct):
    """The result of a write."""

    etag: str | None


async def put(request: Request) -> Written:
    """Store a value and its metadata at the requested path."""
    target, message = request.target, request.message
    declared_bytes = message.declared_bytes

    # The type is quoted, so that it is not evaluated for each put.
    async def receive(staging: Staging, admitted: PutReading) -> "tuple[Write]":
        whole = message.at_hand()
        if whole is None:
            body = await staging.receive(admitted.within_free_space(message.pieces()))
        else:
            # `put_values` has checked the declared size already.
            if len(whole) != declared_bytes:
                admitted.check_received(len(whole))
            body = await staging.keep(whole)
        write = Write(path=target.path, body=body, metadata=stored_headers(message.headers))
        return (write,)

    (write,) = await put_values(
        request,
        (target.path,),
        receive,
        subject=f"{target.space.text}/kv/{target.path}",
        declared_bytes=declared_bytes or 0,
    )
    assert write.body is not None  # a put has one
    return Written(f'"blake3-{write.body.digest.hex()}"')


async def delete(request: Request) -> Written:
    """Delete one or more values in one commit (M5), or one with all its versions (M57).

    A deleted value may be deleted again (Q4, M31). The result has an etag only if one value is
    deleted.

    Raises:
        Refusal: `no-such-key`, nothing was ever written under one of the paths, so none is deleted;
            `precondition-failed`.
        Errors of `read_call`.
    """
    services = request.services
    is_single = len(request.targets) == 1
    # A token may name one delete twice, because the ability has two names.
    values = tuple(dict.fromkeys((target.space, target.path) for target in request.targets))
    keys = _keys_of(values)

    async def attempt(is_first: bool) -> tuple[Commit, Written]:
        removed_versions: Mapping[bytes, Head] | None = None
        if request.options.is_purge:  # the delete includes all versions (M57)
            call, removed_versions = await read_versions(
                request, roles=REMOVERS, records_use=is_first
            )
        else:
            call = await read_call(services, request.invocation, keys, records_use=is_first)
            call.require_hosted()
        head = head_of(call.records[0], key=keys[0])
        check_conditions(head, request.options)  # only a single delete can have conditions
        # A purge that finds versions deletes them, whether the value has a row or not (M57).
        if not removed_versions:
            _check_written(values, call.records)
        spaces = _rows_by_space(values, call.records)
        puts: list[Put] = []
        checks: list[Check] = []
        adds: list[Add] = []
        for rows in spaces:
            plan = await _plan_deletes(services, rows, removed_versions, share=len(spaces))
            puts += plan.puts
            puts.append(_audit_put(services, call, rows, request))
            checks += plan.checks
            adds += plan.adds
        commit = call.commit(puts, checks=checks, adds=adds, use=call.late_use(services))
        etag = head.etag_header if is_single and head is not None else None
        return commit, Written(etag)

    judge = partial(attempt, False) if request.options.has_write_condition else None
    return await until_committed(services, attempt, judge=judge)


class _SpaceRows(FrozenStruct):
    """The rows of a space that its deletes depend on.

    Attributes:
        heads: the row of each value to delete, by its path; None where nothing was ever written.
        deleted: the row of each deleted path, in the order of `heads`; None if they were not read.
        override, usage, versions: rows with the limit of the space and with its counters.
    """

    space: SpaceId
    heads: Mapping[str, Record | None]
    deleted: Sequence[Record | None] | None
    override: Record | None
    usage: Record | None
    versions: Record | None


def _keys_of(values: Sequence[tuple[SpaceId, str]]) -> list[bytes]:
    """Return the keys of the rows that deletes depend on.

    The rows of the values come first, then _ROWS_OF_SPACE rows for each space, in the order in
    which the spaces are mentioned, and last the rows of deleted paths. `_rows_by_space` relies on
    this order.
    """
    value_keys = [head_key(space, path) for space, path in values]
    counter_keys: list[bytes] = []
    for space in dict.fromkeys(space for space, _ in values):
        own = space_keys(space)
        counter_keys += (own.override, own.usage, own.versions)
    deleted_keys = [deleted_key(key) for key in value_keys]
    return [*value_keys, *counter_keys, *deleted_keys]


_ROWS_OF_SPACE = 3


def _rows_by_space(
    values: Sequence[tuple[SpaceId, str]], records: Sequence[Record | None]
) -> list[_SpaceRows]:
    """Group the rows of `_keys_of` by space.

    A purge has read the row of its value only. It keeps no former value, so it does not need the
    rows of the space.
    """
    count = len(values)
    is_purge = len(records) == count
    value_rows = records[:count]
    rows_of_spaces = iter(records[count:])
    deleted_rows = (None,) * count if is_purge else records[-count:]
    heads_by_space: dict[SpaceId, dict[str, Record | None]] = {}
    deleted_by_space: dict[SpaceId, list[Record | None]] = {}
    for (space, path), head, deleted in zip(values, value_rows, deleted_rows, strict=True):
        heads_by_space.setdefault(space, {})[path] = head
        deleted_by_space.setdefault(space, []).append(deleted)
    grouped: list[_SpaceRows] = []
    for space, heads in heads_by_space.items():
        override = usage = versions = None
        if not is_purge:
            override, usage, versions = islice(rows_of_spaces, _ROWS_OF_SPACE)
        grouped.append(
            _SpaceRows(
                space=space,
                heads=heads,
                deleted=None if is_purge else deleted_by_space[space],
                override=override,
                usage=usage,
                versions=versions,
            )
        )
    return grouped


def _check_written(values: Sequence[tuple[SpaceId, str]], records: Sequence[Record | None]) -> None:
    """Check that something was written under each path, even if it is deleted now (M31).

    Only the first records are those of the values; see `_keys_of`.

    Raises:
        Refusal: `no-such-key`.
    """
    for (_, path), record in zip(values, records, strict=False):
        if record is None:
            raise Refusal("no-such-key", path)


def _audit_put(services: Services, call: Call, rows: _SpaceRows, request: Request) -> Put:
    """Return the audit record of the deletes in one space."""
    place = f"{rows.space.text}/kv"
    if len(request.targets) == 1:
        return call.audit(services, "kv.del", f"{place}/{request.target.path}")
    return call.audit(services, "kv.del", place, paths_detail([*rows.heads]))


async def _plan_deletes(
    services: Services,
    rows: _SpaceRows,
    removed_versions: Mapping[bytes, Head] | None,
    *,
    share: int,
) -> WritePlan:
    """Return the changes that delete values of one space.

    `removed_versions` contains the former values that a purge deletes too; it is None for other
    deletes. The commit is shared by `share` spaces.
    """
    limit_bytes = effective_limit(rows.space, rows.override, services.quota)
    draft = await services.values.draft(
        rows.space,
        [Write(path, None) for path in rows.heads],
        [*rows.heads.values()],
        room=version_room(limit_bytes, rows.usage, rows.versions, share=share),
        removed=removed_versions,
        deleted=rows.deleted,
    )
    return await draft.finalize(now=services.now())
