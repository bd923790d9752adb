"""Operations that store or read several values at once (wire §4.4.6, §4.4.7, Q3, Q22).

A batch write is a single commit, which stores all of the values or none (M5). A batch read uses a
single snapshot.
"""

from collections.abc import AsyncIterator, Sequence
from functools import partial

from capabilities.frozen_struct import AcyclicStruct, FrozenStruct
from spaces.store.contract import MAX_COMMIT_BYTES, too_large
from spaces.values.metadata import check_metadata
from spaces.values.value_bodies import Staging
from spaces.values.value_heads import Head, head_key, head_of
from spaces.values.value_writes import Write

from ...refusal import Refusal
from ..authorise import read_call
from .copy_fetches import record_fetches
from .kv_commit import PutReading, paths_detail, put_values
from .multipart import MultipartPart, boundary_of, multipart_parts, part_path
from .plan import Request, stored_headers

# Limit on all values of one batch read: a client has to hold the answer, one JSON text, in memory.
MAX_BATCH_READ_BYTES = 64 * 1024 * 1024


class BatchWritten(FrozenStruct):
    """The paths of all values stored by a request.

    They are in the order of the token's capabilities.
    """

    written: tuple[str, ...]
    count: int


async def put_all(request: Request) -> BatchWritten:
    """Store several values in one commit.

    Raises:
        Refusal: `bad-option`, the parts do not match the paths in the token.
        CommitTooLarge: the small values together exceed a commit, or the values change too many
            rows (ST6).
        Errors of `put_values` and the message.
    """
    paths = tuple([target.path for target in request.targets])
    message = request.message
    parts = multipart_parts(message.pieces(), boundary_of(message.headers["Content-Type"]))

    await put_values(
        request,
        paths,
        partial(_receive_parts, parts=parts, paths=paths),
        subject=f"{request.target.space.text}/kv",
        detail=paths_detail(paths),
    )
    return BatchWritten(paths, len(paths))


async def _receive_parts(
    staging: Staging,
    admitted: PutReading,
    *,
    parts: AsyncIterator[MultipartPart],
    paths: Sequence[str],
) -> list[Write]:
    """Receive one part of the body for each path in the token.

    Returns:
        The writes, in the order of `paths`.
    Raises:
        Refusal: `bad-option`, a part is missing, repeated, or for another path; the quota or the
            size of a commit is exceeded.
    """
    signed_paths = frozenset(paths)
    write_by_path: dict[str, Write] = {}
    inline_bytes = 0
    received_bytes = 0
    async for part in parts:
        path = part_path(part.name)
        metadata = stored_headers(part.headers)
        if path not in signed_paths:
            raise Refusal(
                "bad-option", f"Multipart KV part {path} is not authorized by the invocation"
            )
        if path in write_by_path:
            raise Refusal("bad-option", f"Duplicate multipart KV part for path {path}")
        inline_bytes += check_metadata(metadata)
        body = await staging.receive(admitted.within_free_space(part.pieces, received_bytes))
        received_bytes += body.size_bytes
        inline_bytes += len(body.inline or b"")
        # The limit of a commit (ST6). It also limits the memory that one request takes.
        if inline_bytes > MAX_COMMIT_BYTES:
            raise too_large("bytes of small values in a batch", inline_bytes, MAX_COMMIT_BYTES)
        write_by_path[path] = Write(path=path, body=body, metadata=metadata)
    missing = [path for path in paths if path not in write_by_path]
    if missing:
        raise Refusal(
            "bad-option", f"Missing multipart KV parts for signed paths: {', '.join(missing)}"
        )
    return [write_by_path[path] for path in paths]


class BatchFound(AcyclicStruct):
    """The result of reading several values.

    Attributes:
        items: the paths in the order of the token's capabilities (Q22), each with the row that
            describes its value; None if nothing is stored there.
        bodies: whether the values are requested, or only their metadata.
    """

    items: tuple[tuple[str, Head | None], ...]
    bodies: bool


async def read_all(request: Request, *, bodies: bool) -> BatchFound:
    """Read several values from one snapshot (Q22).

    Args:
        request: gets or metadata reads; its size limit applies to each value.
        bodies: whether the values themselves are requested, so that their sizes count.
    Raises:
        Refusal: `response-too-large`, a value exceeds the caller's limit; `batch-too-large`, the
            values together exceed the limit of one response.
        Errors of `read_call`.
    """
    keys = [head_key(target.space, target.path) for target in request.targets]
    call = await read_call(request.services, request.invocation, keys)
    call.require_hosted()
    heads = [head_of(record, key=key) for record, key in zip(call.records, keys, strict=True)]
    if bodies:
        sizes = [head.size_bytes for head in heads if head is not None]
        _check_sizes(sizes, limit_bytes=request.options.max_response_bytes)
        # An owner sees which copies of a secret were fetched (RC33).
        values = tuple(zip(request.targets, heads, strict=True))
        await record_fetches(request.services, call, values)
    items = [(target.path, head) for target, head in zip(request.targets, heads, strict=True)]
    return BatchFound(items=tuple(items), bodies=bodies)


def _check_sizes(sizes: Sequence[int], *, limit_bytes: int | None) -> None:
    """Check each value against the caller's limit, and all of them against that of a response."""
    if limit_bytes is not None:
        for size_bytes in sizes:
            if size_bytes > limit_bytes:
                raise Refusal("response-too-large", size_bytes, limit_bytes)
    total_bytes = sum(sizes)
    if total_bytes > MAX_BATCH_READ_BYTES:
        raise Refusal("batch-too-large", total_bytes, MAX_BATCH_READ_BYTES)
