"""Operations that store or delete values (wire §4.4.3, §4.4.8)."""

from collections.abc import Mapping
from itertools import islice

from capabilities.frozen_struct import FrozenStruct
from capabilities.resources import SpaceId
from spaces.keyspace import space_keys
from spaces.store.contract import Add, Check, Commit, Put, Record
from spaces.values.quota import effective_limit
from spaces.values.value_bodies import Staging
from spaces.values.value_heads import Head, head_key, head_of
from spaces.values.value_writes import Write

from ...refusal import Refusal
from ..attempts import until_committed
from ..authorise import read_call
from .kv_commit import (
    PutReading,
    check_conditions,
    durable_replay_record,
    paths_detail,
    put_values,
    version_room,
)
from .kv_versions import read_versions
from .plan import Request, stored_headers
from .sealed_values import sealed_key_of


class Written(FrozenStruct):
    """The result of a write."""

    etag: str | None


async def put(request: Request) -> Written:
    """Store a value and its metadata at the requested path."""
    target, message = request.target, request.message
    declared_bytes = message.declared_bytes

    async def receive(staging: Staging, admitted: PutReading) -> tuple[Write]:
        whole = message.at_hand()
        if whole is None:
            body = await staging.receive(admitted.within_free_space(message.pieces()))
        else:
            if len(whole) != declared_bytes:  # the declared size has been checked already
                admitted.check_received(len(whole))
            body = await staging.keep(whole)
        return (Write(target.path, body, stored_headers(message.headers), sealed_key_of(body)),)

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
    services, is_one = request.services, len(request.targets) == 1
    # A token may name one delete twice, by the ability's two names.
    wanted = tuple(dict.fromkeys((target.space, target.path) for target in request.targets))
    keys = [head_key(space, path) for space, path in wanted]
    for own in map(space_keys, dict.fromkeys(space for space, _ in wanted)):
        keys += (own.override, own.usage, own.versions)

    async def attempt(is_first: bool) -> tuple[Commit, Written]:
        kept: Mapping[bytes, Head] | None = None
        if request.options.is_purge:  # M57
            call, kept = await read_versions(request, records_use=is_first)
        else:
            call = await read_call(services, request.invocation, keys, records_use=is_first)
            call.require_hosted()
        head = head_of(call.records[0], key=keys[0])
        check_conditions(head, request.options)  # only a single delete can have conditions
        by_space = dict[SpaceId, dict[str, Record | None]]()
        records = iter(call.records)
        for (space, path), record in zip(wanted, records, strict=False):
            if record is None and not kept:
                raise Refusal("no-such-key", path)
            by_space.setdefault(space, {})[path] = record
        puts, checks, adds = list[Put](), list[Check](), list[Add]()
        for space, rows in by_space.items():
            # In the order of the spaces; a purge keeps no former value, and read none of them.
            override, usage, versions = tuple(islice(records, 3)) or (None, None, None)
            limit_bytes = effective_limit(space, override, services.quota)
            draft = await services.values.draft(
                space,
                [Write(path, None) for path in rows],
                [*rows.values()],
                room=version_room(limit_bytes, usage, versions, share=len(by_space)),
                removed=kept,
            )
            plan = await draft.plan(now=services.now())
            subject = f"{space.text}/kv/{request.target.path}" if is_one else f"{space.text}/kv"
            detail = b"" if is_one else paths_detail([*rows])
            puts += (*plan.puts, call.audit(services, "kv.del", subject, detail))
            checks += plan.checks
            adds += plan.adds
        commit = Commit(
            puts=tuple(puts),
            live=call.live,
            checks=tuple(checks),
            adds=tuple(adds),
            replay_record=durable_replay_record(services, call),
        )
        return commit, Written(head.etag_header if is_one and head is not None else None)

    return await until_committed(services, attempt)
