"""Put or delete one value (wire §4.4.3, §4.4.8), in one commit with its authority, its claim and its audit record."""

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial

from msgspec import Struct

from capabilities.tokens import Invocation
from spaces.audit.records import audit_put
from spaces.store.contract import Commit
from spaces.values.value_bodies import Body, Staging
from spaces.values.value_heads import Write, head_key, head_of

from ...refusal import Refusal
from ...services import Services
from ..attempts import CommitPlan, until_committed
from ..authorise import read_call
from ..reading import Reading
from .conditions import Options
from .kv_commit import (
    PutReading,
    audit_of,
    check_conditions,
    durable_claim,
    is_fresh,
    put_commit,
    read_put,
    within_free_space,
)
from .plan import Step
from .sealed_values import sealed_key_of


class Written(Struct, frozen=True):
    """What a write did."""

    etag: str | None


class Upload(Struct, frozen=True, kw_only=True):
    """What a put stores."""

    at_hand: Callable[[], bytes | None]
    pieces: Callable[[], AsyncIterator[bytes]]
    declared_bytes: int | None
    metadata: Mapping[str, str]
    client: str | None


async def put(services: Services, invocation: Invocation, step: Step, options: Options, upload: Upload) -> Written:
    """Store a value and its metadata under the step's path, replacing both (M2); durable when it returns.

    No byte of the body is read before the call is authorised, its condition holds and space is free; all of that is
    judged again with the commit, which comes later.

    Raises:
        `precondition-failed`: the condition does not hold.
        `quota-exceeded`: the value does not fit into the space.
        `space-not-found`, `duplicate-invocation`, ChainError, SpaceError: see `read_put`.
        Whatever `upload.at_hand` and `upload.pieces` raise.
    """
    read = partial(read_put, services, invocation, step.space, (step.path,), client=upload.client)
    async with services.values.staging() as staging:
        began = services.clock.now()
        admitted = await read(claiming=True)
        check_conditions(admitted.heads[0], options)
        admitted.require_free_space(upload.declared_bytes)
        body = await _taken_in(staging, upload, admitted)
        write = Write(step.path, body, upload.metadata, sealed_key=sealed_key_of(body))

        async def attempt(is_first: bool) -> "CommitPlan[Written]":  # quoted: else each put works the type out anew
            staging.recall()
            reading = admitted
            if not (is_first and body.inline is not None and is_fresh(services, began)):
                reading = await read(claiming=False)
                check_conditions(reading.heads[0], options)
            draft = await services.values.draft(step.space, (write,), reading.records, reading.heads)
            quota = reading.quota(draft)  # before a file is named
            plan = await draft.plan(now=services.clock.now())
            audit = audit_of(services, reading.call, "kv.put", f"{step.space.text}/kv/{step.path}")
            return CommitPlan(
                put_commit(services, reading, audit, plan, quota), Written(f'"blake3-{body.digest.hex()}"')
            )

        return await until_committed(services, attempt)


async def _taken_in(staging: Staging, upload: Upload, admitted: PutReading) -> Body:
    whole = upload.at_hand()
    if whole is None:
        return await staging.receive(within_free_space(upload.pieces(), admitted))
    if len(whole) != upload.declared_bytes:  # else it fits, for the bound was checked already
        admitted.require_taken(len(whole))
    return await staging.keep(whole)


async def delete(services: Services, invocation: Invocation, step: Step, options: Options) -> Written:
    """Delete the value under the step's path; what was deleted before remains deleted (M31).

    Raises:
        `no-such-key`: nothing was ever written there.
        `precondition-failed`: the condition does not hold.
        `duplicate-invocation`, ChainError, `space-not-found`, SpaceError: see `read_call`.
    """
    key = head_key(step.space, step.path)
    write = Write(step.path, None)

    async def attempt(is_first: bool) -> CommitPlan[Written]:
        reading = Reading()
        row = reading.row(key)
        call = await read_call(services, invocation, reading, claiming=is_first)
        call.require_hosted()
        record = row.found
        head = head_of(record, key=key)
        check_conditions(head, options)
        if record is None:
            raise Refusal("no-such-key", step.path)
        draft = await services.values.draft(step.space, (write,), (record,))
        plan = await draft.plan(now=services.clock.now())
        audit = audit_of(services, call, "kv.del", f"{step.space.text}/kv/{step.path}")
        commit = Commit(
            puts=(*plan.puts, audit_put(audit, entropy=services.entropy)),
            live=call.live,
            checks=plan.checks,
            adds=plan.adds,
            claim=durable_claim(services, call),
        )
        return CommitPlan(commit, Written(None if head is None else head.etag_header))

    return await until_committed(services, attempt)
