"""Public spaces: GET and HEAD /public/<space>/kv/<key>, GET /public/<space>/kv (wire §5.11)."""

from typing import Final
from urllib.parse import unquote

from aiohttp import web

from ...operations.values.public_values import MAX_PAGE_PATHS, PublicPage, find_public, list_public, public_space
from ...services import SERVICES, Services
from ..messages.answers import SANDBOX, bytes_answer, json_answer
from ..messages.clients import client_address
from ..messages.queries import whole_number
from ..messages.shown_types import CONTENT_TYPE, shown_type
from ..messages.value_answers import value_answer

_SHOWN: Final = frozenset({"content-encoding", "content-language"})
_EXPOSED: Final = "ETag, Content-Type, Content-Length"
_TRUNCATED: Final = "x-tinycloud-truncated"
_FIXED: Final = {
    "Cache-Control": "public, max-age=60",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "If-None-Match",
    "Access-Control-Expose-Headers": _EXPOSED,
}


async def get_public_value(request: web.Request) -> web.StreamResponse:
    """GET /public/<space>/kv/<key>: the value; its key as the URL has it, else decoded (Q11)."""
    services = request.app[SERVICES]
    _take_rate(services, request)
    space = public_space(request.match_info["space"])
    head = await find_public(services, space, _paths(request))
    headers = {**_FIXED, **SANDBOX, "ETag": head.etag_header}
    if request.headers.get("If-None-Match") == head.etag_header:  # 5.11: equal texts only
        return bytes_answer(b"", headers=headers, status=304)
    shown = {name: value for name, value in head.metadata.items() if name in _SHOWN}
    shown[CONTENT_TYPE] = shown_type(head.metadata.get(CONTENT_TYPE))
    return await value_answer(request, await services.values.open_body(head), {**shown, **headers})


def _paths(request: web.Request) -> tuple[str, ...]:
    """Return the keys that a URL can mean: its raw text, and its parts decoded, without the empty ones (Q11)."""
    raw = request.rel_url.raw_path.split("/", 4)[4]
    decoded = "/".join(unquote(part) for part in raw.split("/") if part)
    return (raw,) if raw == decoded else (raw, decoded)


async def list_public_keys(request: web.Request) -> web.Response:
    """GET /public/<space>/kv?prefix=&after=&limit=: keys in byte order, a page of them.

    A page that is not the last says `x-tinycloud-truncated: true`; the next one comes `after` its last key.
    """
    services = request.app[SERVICES]
    _take_rate(services, request)
    space = public_space(request.match_info["space"])
    asked = PublicPage(
        prefix=request.query.get("prefix", ""),
        after=request.query.get("after"),
        limit=whole_number(request, "limit", default=MAX_PAGE_PATHS),
    )
    listing = await list_public(services, space, asked)
    headers = dict(_FIXED)
    if listing.more:
        headers |= {_TRUNCATED: "true", "Access-Control-Expose-Headers": f"{_EXPOSED}, {_TRUNCATED}"}
    return json_answer(listing.paths, headers=headers)


def _take_rate(services: Services, request: web.Request) -> None:
    client = client_address(request, services.config.http)
    services.public_rates.take(client, now=services.clock.now())
