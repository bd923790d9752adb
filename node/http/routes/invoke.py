"""POST /invoke: everything that a token's capabilities ask for (wire §4)."""

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from spaces.values.value_heads import Head

from ...config.tree import Http
from ...operations.authorise import admit_token
from ...operations.delegations.delegation_listing import Entries
from ...operations.operation_table import OPEN_KEY, plan_call
from ...operations.values.kv_batch import BatchFound
from ...operations.values.kv_get import Value
from ...operations.values.kv_list import Paths
from ...operations.values.kv_write import Written
from ...operations.values.plan import Message
from ...refusal import Refusal
from ...services import SERVICES, Services
from ..messages.http_answers import (
    WholeAnswer,
    batch_read_answer,
    empty_answer,
    json_answer,
    value_answer,
)
from ..messages.http_requests import (
    body_at_hand,
    body_pieces,
    client_address,
    limited_body,
    token_of,
)
from ..messages.problems import PLACE
from ..messages.route import OPERATION

_TOO_LARGE: Final = "body-too-large"  # Q2


def message_of(request: web.Request, http: Http) -> Message:
    """Return a request of /invoke without its token; types are quoted, else each call works them
    out anew."""

    def at_hand() -> "bytes | None":
        return body_at_hand(request, max_bytes=http.max_body_bytes, too_large=_TOO_LARGE)

    def pieces() -> "AsyncIterator[bytes]":
        most_bytes, idle_s = http.max_body_bytes, http.idle_body_s
        return body_pieces(request, max_bytes=most_bytes, idle_s=idle_s, too_large=_TOO_LARGE)

    async def whole_body(max_bytes: int) -> "bytes | None":
        try:
            return await limited_body(request, max_bytes=max_bytes)
        except Refusal:
            return None

    return Message(request.headers, client_address(request, http), at_hand, pieces, whole_body)


_CACHE: Final = {"Cache-Control": "private, no-cache"}


async def invocation_answer(request: web.Request, services: Services, result: object) -> object:
    """Return the answer that holds a result; most results are their own answer."""
    match result:
        case Value(head, body):
            headers = {**head.metadata, "ETag": head.etag_header, **_CACHE}
            if body is None:
                return WholeAnswer(b"", headers, 304)
            return (
                WholeAnswer(body, headers)
                if isinstance(body, bytes)
                else await value_answer(request, body, headers)
            )
        case Written(etag):
            return empty_answer() if etag is None else WholeAnswer(b"", {"ETag": etag})
        case Paths():
            headers = {"x-tinycloud-truncated": "false"}
            if result.next_cursor is not None:
                headers = {
                    "x-tinycloud-truncated": "true",
                    "x-tinycloud-next-cursor": result.next_cursor,
                }
            return json_answer(result.paths, headers=headers)
        case Head():
            return WholeAnswer(b"", {**result.metadata, "ETag": result.etag_header})
        case BatchFound():
            return await batch_read_answer(request, services, result)
        case Entries(shown, truncated):
            # An answer says whether a list is whole only where it is not: no client expects it
            # here.
            return json_answer(
                shown, headers={"x-tinycloud-truncated": "true"} if truncated else None
            )
        case None:
            return empty_answer()
        case _:
            return result


async def post_invocation(request: web.Request) -> object:
    """Answer what the token's capabilities ask for; they alone choose the operation."""
    services = request.app[SERVICES]
    config = services.config
    invocation = admit_token(
        token_of(request), now=services.clock.now(), max_lifetime_s=config.invocation.max_lifetime_s
    )
    plan = plan_call(services, invocation, message_of(request, config.http))
    if (
        services.counter is not None or config.log.requests != "off"
    ):  # one without notes is answered faster, see `last_id`
        request[OPERATION] = plan.operation
    if plan.row is OPEN_KEY:
        # refused after its admission, which the chain does with 403 too (4.8)
        request[PLACE] = "invoked-decrypt"
    return await invocation_answer(request, services, await plan.run(plan.request))
