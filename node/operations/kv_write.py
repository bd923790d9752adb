"""Put or delete one value (wire §4.4.3, §4.4.8), in one commit with its authority, its claim and its audit record."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from capabilities.resources import SpaceId
from capabilities.tokens import Invocation
from spaces.audit import AuditRecord, audit_put
from spaces.hosting import HostingPlan, hosting_by_put, plan_hosting
from spaces.quota import quota_add, usage_key, usage_of
from spaces.store.contract import Add, Commit
from spaces.values import Head, Write, WritePlan, head_key, head_of

from ..services import Services
from .attempts import Planned, until_committed
from .authorise import Call, read_call
from .conditions import Options
from .errors import NoSuchKey, PreconditionFailed, QuotaExceeded, SpaceNotFound
from .plan import Step


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did.

    Attributes:
        etag: entity tag of the new value, or of the value that a delete removed; None when there was none.
    """

    etag: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What a put stores.

    Attributes:
        read_body: returns the value, whole; called once, when the call is authorised.
        metadata: header names in lower case and their values.
        client: network address of the caller, counted against the bound on new owners; None: not counted.
    """

    read_body: Callable[[], Awaitable[bytes]]
    metadata: Mapping[str, str]
    client: str | None


async def put(services: Services, invocation: Invocation, step: Step, options: Options, upload: Upload) -> Written:
    """Store a value and its metadata under the step's path, replacing both (M2); durable when it returns.

    No byte of the body is taken in before the call is authorised and its condition holds; both are judged again by the
    commit, which comes later.

    A space that is not hosted yet is hosted by the put of its own DID, where the node's mode says so (store §6).

    Raises:
        SpaceNotFound: a mentioned space is not hosted and this put does not host it.
        PreconditionFailed: the condition does not hold.
        DuplicateInvocation, ChainError, SpaceError: see `read_call`.
    """
    key = head_key(step.space, step.path)
    bodies: list[bytes] = []
    limit_bytes = services.config.hosting.default_quota_bytes

    async def attempt(is_first: bool) -> Planned[Written]:
        now = services.clock.now()
        wanted = hosting_by_put(step.space, invocation.invoker, services.hosting, client=upload.client, now=now)
        keys = (key, usage_key(step.space), *wanted.keys())
        call = await read_call(services, invocation, keys=keys, claiming=is_first)
        record, usage, *rows = call.records
        hosting = plan_hosting(wanted, rows, now=now)
        if call.unhosted - set(hosting.new):
            raise SpaceNotFound
        _check_conditions(head_of(record, key=key), options)
        if not bodies:
            bodies.append(await upload.read_body())
        write = Write(step.path, bodies[0], upload.metadata)
        plan = await services.values.plan(step.space, (write,), (record,), now=now)
        quota = _quota(step.space, usage_of(usage), plan, len(bodies[0]), limit_bytes)
        commit = _commit(services, call, "kv.put", step, plan, hosting=hosting, adds=quota)
        return Planned(commit, Written(f'"blake3-{plan.etags[0]}"'))

    return await until_committed(services, attempt)


async def delete(services: Services, invocation: Invocation, step: Step, options: Options) -> Written:
    """Delete the value under the step's path; what was deleted before stays so (M31).

    Raises:
        NoSuchKey: nothing was ever written there.
        PreconditionFailed: the condition does not hold.
        DuplicateInvocation, ChainError, SpaceNotFound, SpaceError: see `read_call`.
    """
    key = head_key(step.space, step.path)
    write = Write(step.path, None)

    async def attempt(is_first: bool) -> Planned[Written]:
        call = await read_call(services, invocation, keys=(key,), claiming=is_first)
        call.require_hosted()
        record = call.records[0]
        head = head_of(record, key=key)
        _check_conditions(head, options)
        if record is None:
            raise NoSuchKey(step.path)
        plan = await services.values.plan(step.space, (write,), (record,), now=services.clock.now())
        removed = None if head is None else head.etag_header
        return Planned(_commit(services, call, "kv.del", step, plan), Written(removed))

    return await until_committed(services, attempt)


def _check_conditions(head: Head | None, options: Options) -> None:
    """Compare the condition with the live value; a deleted one counts as absent (4.4.5)."""
    if options.create_only and head is not None:
        raise PreconditionFailed
    if options.replace_etag is not None and (head is None or head.etag != options.replace_etag):
        raise PreconditionFailed


def _quota(space: SpaceId, used_bytes: int, plan: WritePlan, size_bytes: int, limit_bytes: int) -> tuple[Add, ...]:
    """Require room for a value that grows its space (M51); 0 means no limit."""
    if not limit_bytes or not plan.grows:
        return ()
    freed_bytes = sum(head.size_bytes for head in plan.replaced if head is not None)
    if used_bytes - freed_bytes + size_bytes > limit_bytes:
        raise QuotaExceeded(used_bytes, limit_bytes)
    return (quota_add(space, limit_bytes=limit_bytes),)


def _commit(
    services: Services,
    call: Call,
    action: str,
    step: Step,
    plan: WritePlan,
    *,
    hosting: HostingPlan | None = None,
    adds: tuple[Add, ...] = (),
) -> Commit:
    record = AuditRecord(
        at=services.clock.now(),
        action=action,
        actor=call.invocation.invoker,
        subject=f"{step.space.text}/kv/{step.path}",
        token=call.invocation.cid,
        authority=call.authority.live,
    )
    audit = audit_put(record, entropy=services.entropy)
    if hosting is None:
        return Commit(puts=(*plan.puts, audit), live=call.live, checks=plan.checks, adds=adds, claim=call.claim)
    return Commit(
        puts=(*plan.puts, *hosting.puts, audit),
        live=call.live,
        checks=(*plan.checks, *hosting.checks),
        adds=(*adds, *hosting.adds),
        claim=call.claim,
    )
