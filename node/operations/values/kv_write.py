"""Put or delete one value (wire §4.4.3, §4.4.8), in one commit with its authority, its claim and its audit record."""

from msgspec import Struct

from spaces.store.contract import Commit
from spaces.values.value_bodies import Staging
from spaces.values.value_heads import Write, head_key, head_of

from ...refusal import Refusal
from ..attempts import until_committed
from ..authorise import read_call
from .kv_commit import PutReading, check_conditions, durable_claim, put_values
from .plan import Request
from .sealed_values import sealed_key_of


class Written(Struct, frozen=True):
    """What a write did."""

    etag: str | None


async def put(request: Request) -> Written:
    """Store a value and its metadata under the step's path; see `put_values`."""
    step, message = request.step, request.message
    declared_bytes = message.declared_bytes

    async def receive(staging: Staging, admitted: PutReading) -> tuple[Write]:
        whole = message.at_hand()
        if whole is None:
            body = await staging.receive(admitted.within_free_space(message.pieces()))
        else:
            if len(whole) != declared_bytes:  # else it fits, for the bound was checked already
                admitted.require_taken(len(whole))
            body = await staging.keep(whole)
        return (Write(step.path, body, message.metadata, sealed_key=sealed_key_of(body)),)

    subject = f"{step.space.text}/kv/{step.path}"
    (write,) = await put_values(request, (step.path,), receive, subject=subject, declared_bytes=declared_bytes or 0)
    assert write.body is not None  # a put has one
    return Written(f'"blake3-{write.body.digest.hex()}"')


async def delete(request: Request) -> Written:
    """Delete the value under the step's path; what was deleted before remains deleted (M31).

    Raises:
        Refusal: `no-such-key`, nothing was ever written there; `precondition-failed`.
        Whatever `read_call` raises.
    """
    services, step = request.services, request.step
    key = head_key(step.space, step.path)

    async def attempt(is_first: bool) -> tuple[Commit, Written]:
        call = await read_call(services, request.invocation, (key,), claiming=is_first)
        call.require_hosted()
        (record,) = call.records
        head = head_of(record, key=key)
        check_conditions(head, request.options)
        if record is None:
            raise Refusal("no-such-key", step.path)
        draft = await services.values.draft(step.space, (Write(step.path, None),), (record,))
        plan = await draft.plan(now=services.clock.now())
        commit = Commit(
            puts=(*plan.puts, call.audit(services, "kv.del", f"{step.space.text}/kv/{step.path}")),
            live=call.live,
            checks=plan.checks,
            adds=plan.adds,
            claim=durable_claim(services, call),
        )
        return commit, Written(None if head is None else head.etag_header)

    return await until_committed(services, attempt)
