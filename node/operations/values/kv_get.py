"""Operations that read a value or its metadata (wire §4.4.1, §4.4.2)."""

from capabilities.frozen_struct import AcyclicStruct
from sealspace.documents.secret_names import SHARED_PREFIX
from spaces.values.object_store import OpenedBody
from spaces.values.value_heads import Head, head_key, head_of

from ...refusal import Refusal
from ..authorise import Call, read_call
from .conditions import matches_weakly
from .copy_fetches import record_fetches
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
    options = request.options
    call = None
    if options.version is None:
        call, head = await _current(request)
    else:  # only for the owner in person (M58), whose reads are not recorded
        head = await version(request)
    limit_bytes = options.max_response_bytes
    if options.if_none_match is not None and matches_weakly(
        options.if_none_match, head.etag_header
    ):
        return Value(head, None)
    if limit_bytes is not None and head.size_bytes > limit_bytes:
        raise Refusal("response-too-large", head.size_bytes, limit_bytes)
    # The prefix is compared first: it is all that the read of another value costs.
    if request.target.path.startswith(SHARED_PREFIX) and call is not None:
        await record_fetches(request.services, call, ((request.target, head),))  # RC33
    body: bytes | OpenedBody | None = head.body  # a small one was read with its row
    if body is None:
        body = await request.services.values.open_body(head)
    return Value(head, body)


async def metadata(request: Request) -> Head:
    """Return the metadata of the value, or of one version, at the requested path."""
    if request.options.version is not None:
        return await version(request)
    _, head = await _current(request)
    return head


async def _current(request: Request) -> tuple[Call, Head]:
    """Authorise a read, and return the row that describes the value at the requested path."""
    target = request.target
    key = head_key(target.space, target.path)
    call = await read_call(request.services, request.invocation, (key,))
    call.require_hosted()
    head = head_of(call.records[0], key=key)
    if head is None:
        raise Refusal("key-not-found")
    return call, head
