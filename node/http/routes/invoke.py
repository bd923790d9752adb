"""The route POST /invoke, which runs the operation requested by a token (wire §4)."""

from collections.abc import AsyncIterator

from aiohttp import web

from spaces.sql.databases import DatabaseCopy
from spaces.values.value_heads import Head

from ...config.tree import Http
from ...operations.authorise import admit_token
from ...operations.delegations.delegation_listing import Entries
from ...operations.operation_table import OPEN_KEY, plan_call
from ...operations.values.kv_batch import BatchFound
from ...operations.values.kv_get import Value
from ...operations.values.kv_list import Paths
from ...operations.values.kv_sync import Waited
from ...operations.values.kv_write import Written
from ...operations.values.plan import Message
from ...refusal import Refusal
from ...services import SERVICES, Services
from ..messages.http_answers import WholeAnswer, empty_answer, json_answer
from ..messages.http_requests import (
    body_at_hand,
    body_pieces,
    client_address,
    limited_body,
    token_of,
)
from ..messages.problems import PLACE
from ..messages.route import OPERATION, WAITED_NS
from ..messages.value_answers import batch_read_answer, stream_answer, value_answer

_TOO_LARGE = "body-too-large"  # 413, unlike larger bodies of other routes (Q2)


def message_of(request: web.Request, http: Http) -> Message:
    """Return the headers, client address and body readers of an HTTP request."""
    # The return types are quoted, or else each request would evaluate them.

    def at_hand() -> "bytes | None":
        return body_at_hand(request, max_bytes=http.max_body_bytes, too_large=_TOO_LARGE)

    def pieces() -> "AsyncIterator[bytes]":
        return body_pieces(
            request,
            max_bytes=http.max_body_bytes,
            idle_s=http.idle_body_s,
            too_large=_TOO_LARGE,
        )

    async def whole_body(max_bytes: int) -> "bytes | None":
        try:
            return await limited_body(request, max_bytes=max_bytes)
        except Refusal:
            return None

    def is_gone() -> "bool":
        return request.transport is None or request.transport.is_closing()

    def note_wait(waited_ns: int) -> None:
        request[WAITED_NS] = waited_ns

    return Message(
        headers=request.headers,
        client=client_address(request, http),
        at_hand=at_hand,
        pieces=pieces,
        whole_body=whole_body,
        is_gone=is_gone,
        note_wait=note_wait,
    )


_SQLITE = {"Content-Type": "application/x-sqlite3"}
_CACHE = {"Cache-Control": "private, no-cache"}


def _page_answer(page: Paths | Waited) -> web.Response:
    """Convert a page of keys, or of changes that the caller waited for, to an HTTP response."""
    if isinstance(page, Waited):
        return json_answer(page.page, headers={"Preference-Applied": f"wait={page.wait_s}"})
    headers = {"x-tinycloud-truncated": "false"}
    if page.next_cursor is not None:
        headers = {
            "x-tinycloud-truncated": "true",
            "x-tinycloud-next-cursor": page.next_cursor,
        }
    return json_answer(page.paths, headers=headers)


async def invocation_answer(request: web.Request, services: Services, result: object) -> object:
    """Convert the result of an operation to an HTTP response."""
    match result:
        case Value(head, body):
            headers = {**head.metadata, "ETag": head.etag_header, **_CACHE}
            if body is None:  # the client has this version already
                return WholeAnswer(b"", headers, 304)
            return (
                WholeAnswer(body, headers)
                if isinstance(body, bytes)
                else await value_answer(request, body, headers)
            )
        case bytes():  # rows of a database, as JSON
            return WholeAnswer(result, {"Content-Type": "application/json"})
        case DatabaseCopy():
            with result.cleanup:
                return await stream_answer(
                    request, result.pieces(), _SQLITE, size_bytes=result.size_bytes
                )
        case Written(etag):
            return empty_answer() if etag is None else WholeAnswer(b"", {"ETag": etag})
        case Paths() | Waited():
            return _page_answer(result)
        case Head():
            return WholeAnswer(
                b"", {**result.metadata, **result.last_modified, "ETag": result.etag_header}
            )
        case BatchFound():
            return await batch_read_answer(request, services, result)
        case Entries(shown, truncated):
            # Clients do not expect the header here, so only a truncated list has it.
            headers_of_list = {"x-tinycloud-truncated": "true"} if truncated else None
            return json_answer(shown, headers=headers_of_list)
        case None:
            return empty_answer()
        case _:
            return result


async def post_invocation(request: web.Request) -> object:
    """Run the operation requested by the invocation token."""
    services = request.app[SERVICES]
    config = services.config
    invocation = admit_token(
        token_of(request), now=services.now(), max_lifetime_s=config.invocation.max_lifetime_s
    )
    plan = plan_call(services, invocation, message_of(request, config.http))
    # The operation is noted only for those who read it: an empty request mapping is answered faster
    # (`WholeAnswer.piece`).
    if services.counter is not None or config.log.requests != "off":
        request[OPERATION] = plan.operation
    if plan.row is OPEN_KEY:
        # From here on, the refusals are those of a decrypt request, of which most are 403 (4.8).
        request[PLACE] = "invoked-decrypt"
    return await invocation_answer(request, services, await plan.run(plan.request))
