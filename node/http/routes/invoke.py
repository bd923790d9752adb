"""POST /invoke: everything that a token's capabilities ask for (wire §4)."""

from collections.abc import AsyncIterator, Mapping
from typing import Final

from aiohttp import web

from spaces.values.value_heads import Head

from ...config.tree import Http
from ...operations.authorise import admit_token
from ...operations.delegations.delegation_listing import Entries
from ...operations.table import OPEN_KEY, plan_call
from ...operations.values.kv_batch import BatchFound
from ...operations.values.kv_get import Value
from ...operations.values.kv_list import Paths
from ...operations.values.kv_write import Written
from ...operations.values.plan import Part
from ...refusal import Refusal
from ...services import SERVICES, Services
from ..messages.answers import WholeAnswer, batch_read_answer, empty_answer, json_answer, value_answer
from ..messages.multipart import boundary_of, multipart_parts, part_path
from ..messages.problems import PLACE
from ..messages.requests import body_at_hand, body_pieces, client_address, limited_body, token_of
from ..messages.route import OPERATION

_STORED: Final = frozenset({"content-type", "content-encoding", "content-language", "content-disposition"})
_STORED_PREFIX: Final = "x-tinycloud-meta-"


class InvocationMessage:
    """A request of /invoke without its token: the `Message` of the operations."""

    __slots__ = ("_http", "_request", "headers")

    def __init__(self, request: web.Request, http: Http) -> None:
        self._request = request
        self._http = http
        self.headers: Mapping[str, str] = request.headers

    @property
    def is_form(self) -> bool:
        """See `Message`."""
        return self.headers.get("Content-Type", "").lower().startswith("multipart/form-data")

    @property
    def client(self) -> str | None:
        """See `Message`."""
        return client_address(self._request, self._http)

    @property
    def declared_bytes(self) -> int | None:
        """See `Message`."""
        return self._request.content_length

    @property
    def metadata(self) -> Mapping[str, str]:
        """See `Message`."""
        return _stored(self.headers)

    def at_hand(self) -> bytes | None:
        """See `Message`."""
        return body_at_hand(self._request, max_bytes=self._http.max_body_bytes, too_large="body-too-large")  # Q2

    def pieces(self) -> AsyncIterator[bytes]:
        """See `Message`."""
        http, too_large = self._http, "body-too-large"  # Q2
        return body_pieces(self._request, max_bytes=http.max_body_bytes, idle_s=http.idle_body_s, too_large=too_large)

    def parts(self) -> AsyncIterator[Part]:
        """See `Message`."""
        boundary = boundary_of(self.headers["Content-Type"])
        parts = multipart_parts(self.pieces(), boundary)
        return (Part(part_path(part.name), _stored(part.headers), part.pieces) async for part in parts)

    async def whole_body(self, *, max_bytes: int) -> bytes | None:
        """See `Message`."""
        try:
            return await limited_body(self._request, max_bytes=max_bytes)
        except Refusal:
            return None


def _stored(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what is kept of some headers, by lower-case name; of a repeated one the last value (4.4.3)."""
    return {
        name: value
        for key, value in headers.items()
        if (name := key.lower()) in _STORED or name.startswith(_STORED_PREFIX)
    }


_CACHE: Final = {"Cache-Control": "private, no-cache"}


async def invocation_answer(request: web.Request, services: Services, result: object) -> web.StreamResponse:
    """Return the answer that holds a result."""
    match result:
        case Value(head, body):
            headers = {**head.metadata, "ETag": head.etag_header, **_CACHE}
            if body is None:
                return WholeAnswer(b"", headers, 304)
            return WholeAnswer(body, headers) if isinstance(body, bytes) else await value_answer(request, body, headers)
        case Written(etag):
            return empty_answer() if etag is None else WholeAnswer(b"", {"ETag": etag})
        case Paths():
            headers = {"x-tinycloud-truncated": "false"}
            if result.next_cursor is not None:
                headers = {"x-tinycloud-truncated": "true", "x-tinycloud-next-cursor": result.next_cursor}
            return json_answer(result.paths, headers=headers)
        case Head():
            return WholeAnswer(b"", {**result.metadata, "ETag": result.etag_header})
        case BatchFound():
            return await batch_read_answer(request, services, result)
        case Entries(shown, truncated):
            # An answer says whether a list is whole only where it is not: no client expects it here.
            return json_answer(shown, headers={"x-tinycloud-truncated": "true"} if truncated else None)
        case None:
            return empty_answer()
        case _:
            return json_answer(result)


async def post_invocation(request: web.Request) -> web.StreamResponse:
    """Answer what the token's capabilities ask for; they alone choose the operation."""
    services = request.app[SERVICES]
    config = services.config
    invocation = admit_token(
        token_of(request), now=services.clock.now(), max_lifetime_s=config.invocation.max_lifetime_s
    )
    plan = plan_call(services, invocation, InvocationMessage(request, config.http))
    if (
        services.counter is not None or config.log.requests != "off"
    ):  # one without notes is answered faster, see `last_id`
        request[OPERATION] = plan.operation
    if plan.row is OPEN_KEY:
        request[PLACE] = "invoked-decrypt"  # refused after its admission, which the chain does with 403 too (4.8)
    return await invocation_answer(request, services, await plan.run(plan.request))
