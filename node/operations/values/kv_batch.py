"""Several values in one token: puts by multipart, reads, deletes (wire §4.4.6, §4.4.7, Q3, Q4, Q22).

Puts and deletes of a token are one commit: all of them happen or none (M5). Reads are of one moment.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from msgspec import Struct

from capabilities.resources import SpaceId
from capabilities.tokens import Invocation
from spaces.audit.records import audit_put
from spaces.errors import CommitTooLarge
from spaces.store.contract import MAX_COMMIT_BYTES, Add, Check, Commit, Put, Record
from spaces.values.value_bodies import Body, Staging
from spaces.values.value_heads import Head, Write, check_metadata, head_key, head_of

from ...refusal import Refusal
from ...services import Services
from ..attempts import CommitPlan, until_committed
from ..authorise import Call, read_call
from ..reading import Reading
from .conditions import Options
from .kv_commit import PutReading, audit_of, durable_claim, is_fresh, put_commit, read_put, within_free_space
from .plan import Step
from .sealed_values import sealed_key_of

# All values of one batch read together; every reader has to keep them in one JSON text.
MAX_BATCH_READ_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One value of a batch put, as it arrives."""

    path: str
    metadata: Mapping[str, str]
    pieces: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchUpload:
    """What a batch put stores."""

    parts: Callable[[], AsyncIterator[Part]]
    client: str | None


class BatchWritten(Struct, frozen=True):
    """The paths that a batch put wrote, in the order of the token's capabilities."""

    paths: tuple[str, ...]


async def put_all(
    services: Services, invocation: Invocation, steps: Sequence[Step], upload: BatchUpload
) -> BatchWritten:
    """Store the values of a batch in one commit.

    Args:
        invocation: verified.
        steps: puts to one space, each path once; see `plan`.
        upload: the values.
    Raises:
        `bad-option`: the parts are not exactly the signed paths.
        CommitTooLarge: the small values together are larger than a commit, or the values change too many rows (ST6).
        `quota-exceeded`: the values do not fit into the space.
        `space-not-found`, `duplicate-invocation`, ChainError, SpaceError: see `read_put`.
        Whatever `upload.parts` raises.
    """
    space, paths = steps[0].space, tuple(step.path for step in steps)
    read = partial(read_put, services, invocation, space, paths, client=upload.client)
    async with services.values.staging() as staging:
        began = services.clock.now()
        admitted = await read(claiming=True)
        admitted.require_free_space(None)
        bodies = await _received(staging, upload.parts(), paths, admitted)
        is_small = all(body.inline is not None for body, _ in bodies.values())
        writes = tuple([Write(path, *bodies[path], sealed_key_of(bodies[path][0])) for path in paths])

        async def attempt(is_first: bool) -> "CommitPlan[BatchWritten]":  # quoted: see `kv_write.put`
            staging.recall()
            is_good = is_first and is_small and is_fresh(services, began)
            reading = admitted if is_good else await read(claiming=False)
            draft = await services.values.draft(space, writes, reading.records, reading.heads)
            quota = reading.quota(draft)  # before a file is named
            plan = await draft.plan(now=services.clock.now())
            audit = audit_of(services, reading.call, "kv.put", f"{space.text}/kv", paths)
            return CommitPlan(put_commit(services, reading, audit, plan, quota), BatchWritten(paths))

        return await until_committed(services, attempt)


async def _received(
    staging: Staging, parts: AsyncIterator[Part], paths: Sequence[str], reading: PutReading
) -> dict[str, tuple[Body, Mapping[str, str]]]:
    """Read one part for each signed path."""
    signed = frozenset(paths)
    found: dict[str, tuple[Body, Mapping[str, str]]] = {}
    held_bytes = taken_bytes = 0
    async for part in parts:
        if part.path not in signed:
            raise Refusal("bad-option", f"Multipart KV part {part.path} is not authorized by the invocation")
        if part.path in found:
            raise Refusal("bad-option", f"Duplicate multipart KV part for path {part.path}")
        check_metadata(part.metadata)
        body = await staging.receive(within_free_space(part.pieces, reading, taken_bytes))
        taken_bytes += body.size_bytes
        held_bytes += len(body.inline or b"") + sum(len(name) + len(value) for name, value in part.metadata.items())
        if held_bytes > MAX_COMMIT_BYTES:  # ST6, and what one request may hold in memory
            raise CommitTooLarge(bound="bytes of small values in a batch", limit=MAX_COMMIT_BYTES, got=held_bytes)
        found[part.path] = (body, part.metadata)
    missing = [path for path in paths if path not in found]
    if missing:
        raise Refusal("bad-option", f"Missing multipart KV parts for signed paths: {', '.join(missing)}")
    return found


async def delete_all(services: Services, invocation: Invocation, steps: Sequence[Step]) -> None:
    """Delete several values in one commit; what was deleted before remains deleted (Q4, M31).

    Raises:
        `no-such-key`: under one of the paths nothing was ever written; then none is deleted.
        `duplicate-invocation`, ChainError, `space-not-found`, SpaceError: see `read_call`.
    """
    # `kv/del` and its other name on one path are one delete.
    wanted = tuple(dict.fromkeys((step.space, step.path) for step in steps))
    keys = [head_key(space, path) for space, path in wanted]

    async def attempt(is_first: bool) -> CommitPlan[None]:
        reading = Reading()
        heads = reading.rows(keys)
        call = await read_call(services, invocation, reading, claiming=is_first)
        call.require_hosted()
        for (_, path), record in zip(wanted, heads.found, strict=True):
            if record is None:
                raise Refusal("no-such-key", path)
        return CommitPlan(await _delete_commit(services, call, wanted, heads.found), None)

    await until_committed(services, attempt)


async def _delete_commit(
    services: Services, call: Call, wanted: Sequence[tuple[SpaceId, str]], records: Sequence[Record | None]
) -> Commit:
    by_space: dict[SpaceId, list[tuple[Write, Record | None]]] = {}
    for (space, path), record in zip(wanted, records, strict=True):
        by_space.setdefault(space, []).append((Write(path, None), record))
    puts: list[Put] = []
    checks: list[Check] = []
    adds: list[Add] = []
    for space, writes in by_space.items():
        draft = await services.values.draft(space, [write for write, _ in writes], [record for _, record in writes])
        plan = await draft.plan(now=services.clock.now())
        audit = audit_of(services, call, "kv.del", f"{space.text}/kv", [write.path for write, _ in writes])
        puts += (*plan.puts, audit_put(audit, entropy=services.entropy))
        checks += plan.checks
        adds += plan.adds
    claim = durable_claim(services, call)
    return Commit(puts=tuple(puts), live=call.live, checks=tuple(checks), adds=tuple(adds), claim=claim)


class Found(Struct, frozen=True, gc=False):
    """What is stored under one path of a batch read; `head` None: nothing."""

    path: str
    head: Head | None


class BatchFound(Struct, frozen=True, gc=False):
    """What is stored under the paths of a batch read.

    Attributes:
        items: in the order of the token's capabilities (Q22).
        bodies: whether the values are requested, or their metadata alone.
    """

    items: tuple[Found, ...]
    bodies: bool


async def read_all(
    services: Services, invocation: Invocation, steps: Sequence[Step], options: Options, *, bodies: bool
) -> BatchFound:
    """Return what is stored under the paths of several reads, in the order of the steps (Q22), all of one moment.

    Args:
        invocation: verified.
        steps: gets, or metadata reads.
        options: its bound on the size counts for each value.
        bodies: whether the values themselves are requested, so that their sizes count.
    Raises:
        `response-too-large`: a value is larger than the caller's bound.
        `batch-too-large`: the values together are larger than one answer may be.
        `duplicate-invocation`, ChainError, `space-not-found`, SpaceError: see `read_call`.
    """
    keys = [head_key(step.space, step.path) for step in steps]
    reading = Reading()
    rows = reading.rows(keys)
    call = await read_call(services, invocation, reading, claiming=True)
    call.require_hosted()
    heads = [head_of(record, key=key) for record, key in zip(rows.found, keys, strict=True)]
    if bodies:
        _check_sizes([head.size_bytes for head in heads if head is not None], options.max_response_bytes)
    return BatchFound(tuple([Found(step.path, head) for step, head in zip(steps, heads, strict=True)]), bodies)


def _check_sizes(sizes: Sequence[int], limit_bytes: int | None) -> None:
    for size_bytes in sizes:
        if limit_bytes is not None and size_bytes > limit_bytes:
            raise Refusal("response-too-large", size_bytes, limit_bytes)
    if sum(sizes) > MAX_BATCH_READ_BYTES:
        raise Refusal("batch-too-large", sum(sizes), MAX_BATCH_READ_BYTES)
