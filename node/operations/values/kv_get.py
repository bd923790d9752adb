"""Operations that read a value or its metadata (wire §4.4.1, §4.4.2)."""

from capabilities.frozen_struct import AcyclicStruct
from spaces.values.object_store import OpenedBody
from spaces.values.value_heads import Head, head_key, head_of

from ...refusal import Refusal
from ..authorise import read_call
from .conditions import matches_weakly
from .kv_versions import version
from .plan import Request


class Value(AcyclicStruct):
    """A value that was read from the store.

    Its body is None if the caller already has this version.
    """

    head: Head
    body: bytes | OpenedBody | None


async def get(request: Request) -> Value:
    """Return the value at the requested path."""
    head = await metadata(request)
    options = request.options
    limit_bytes = options.max_response_bytes
    if options.if_none_match is not None and matches_weakly(
        options.if_none_match, head.etag_header
    ):
        return Value(head, None)
    if limit_bytes is not None and head.size_bytes > limit_bytes:
        raise Refusal("response-too-large", head.size_bytes, limit_bytes)
    body: bytes | OpenedBody | None = head.body  # a small one was read with its row
    if body is None:
        body = await request.services.values.open_body(head)
    return Value(head, body)


async def metadata(request: Request) -> Head:
    """Return the metadata of the value, or of one version, at the requested path."""
    if request.options.version is not None:
        return await version(request)
    target = request.target
    key = head_key(target.space, target.path)
    call = await read_call(request.services, request.invocation, (key,))
    call.require_hosted()
    head = head_of(call.records[0], key=key)
    if head is None:
        raise Refusal("key-not-found")
    return head
