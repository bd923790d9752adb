"""Read one value (wire §4.4.1) or its metadata alone (§4.4.2)."""

from msgspec import Struct

from capabilities.tokens import Invocation
from spaces.values.object_store import OpenedBody
from spaces.values.value_heads import Head, head_key, head_of

from ...refusal import Refusal
from ...services import Services
from ..authorise import read_call
from .conditions import Options
from .plan import Step


class Value(Struct, frozen=True, gc=False):
    """A value that was read."""

    head: Head
    body: bytes | OpenedBody | None


async def get(services: Services, invocation: Invocation, step: Step, options: Options) -> Value:
    """Return the value under the step's path."""
    head = await metadata(services, invocation, step)
    tags = options.unless_etags
    if tags is not None and ("*" in tags or head.etag_header in tags):  # a weak comparison
        return Value(head, None)
    limit_bytes = options.max_response_bytes
    if limit_bytes is not None and head.size_bytes > limit_bytes:
        raise Refusal("response-too-large", head.size_bytes, limit_bytes)
    return Value(head, head.body if head.body is not None else await services.values.open_body(head))


async def metadata(services: Services, invocation: Invocation, step: Step) -> Head:
    """Return the head of the value under the step's path."""
    key = head_key(step.space, step.path)
    call = await read_call(services, invocation, (key,))
    call.require_hosted()
    head = head_of(call.records[0], key=key)
    if head is None:
        raise Refusal("key-not-found")
    return head
