"""HTTP routes for signed URLs (wire §5.10) and public spaces (wire §5.11)."""

from urllib.parse import unquote

import msgspec
from aiohttp import web

from capabilities.chain import check_lifetime
from capabilities.tokens import parse_invocation
from encryption_network.networks import timestamp

from ...operations.authorise import admit_signed
from ...operations.operation_table import check_call
from ...operations.values.conditions import matches_weakly
from ...operations.values.public_values import (
    MAX_PAGE_PATHS,
    find_public,
    list_public,
    public_space,
)
from ...operations.values.signed_urls import SignedUrlRequest, mint, redeem
from ...services import SERVICES
from ..messages.browser_safety import SANDBOX, shown_type
from ..messages.byte_ranges import parse_range
from ..messages.http_answers import CONTENT_TYPE, WholeAnswer, json_answer
from ..messages.http_requests import check_rate_limit, json_body, token_of, whole_number
from ..messages.value_answers import value_answer

MAX_SIGNED_URL_BODY_BYTES = 1 << 20


class SignedUrl(msgspec.Struct, rename="camel"):
    """A signed URL for reading one version of a value.

    The URL is relative. Anyone can use it until it expires.
    """

    url: str
    ticket_id: str
    expires_at: str


async def post_signed_url(request: web.Request) -> SignedUrl:
    """POST /signed/kv: create a signed URL for a value.

    The response also contains the expiry of the URL.
    """
    services = request.app[SERVICES]
    unverified = parse_invocation(token_of(request))
    body = await json_body(request, SignedUrlRequest, max_bytes=MAX_SIGNED_URL_BODY_BYTES)
    now = services.now()
    invocation = admit_signed(unverified, now=now)
    # A token makes a signed URL if it could be used on `/invoke` (I4, T12).
    check_lifetime(invocation, now, services.config.invocation.max_lifetime_s)
    check_call(invocation)
    ticket, expires_at = await mint(services, invocation, body)
    return SignedUrl(url=f"/signed/kv/{ticket}", ticket_id=ticket, expires_at=timestamp(expires_at))


async def get_signed_value(request: web.Request) -> web.StreamResponse:
    """GET /signed/kv/<ticket>: return the value of a signed URL (Q31).

    The request may ask for a byte range.
    """
    services = request.app[SERVICES]
    head = await redeem(services, request.match_info["ticket"])
    fixed = {
        "ETag": head.etag_header,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-store",
        **SANDBOX,
    }
    if matches_weakly(request.headers.get("If-None-Match"), head.etag_header):
        return WholeAnswer(b"", fixed, 304)
    wanted = None
    # Ranges apply to GET only, and with `If-Range` only to this version.
    is_same_version = request.headers.get("If-Range", head.etag_header) == head.etag_header
    if request.method == "GET" and is_same_version:
        wanted = parse_range(request.headers.get("Range"), size_bytes=head.size_bytes)
    is_unsatisfiable = wanted is not None and len(wanted) == 0
    if is_unsatisfiable:
        return WholeAnswer(b"", {**fixed, "Content-Range": f"bytes */{head.size_bytes}"}, 416)
    headers = {**head.metadata, CONTENT_TYPE: shown_type(head.metadata.get(CONTENT_TYPE)), **fixed}
    body = await services.values.open_body(head)
    if wanted is None:
        return await value_answer(request, body, headers)
    headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{head.size_bytes}"
    return await value_answer(
        request, body, headers, status=206, part=slice(wanted.start, wanted.stop)
    )


_SHOWN = frozenset({"content-encoding", "content-language"})
_EXPOSED = "ETag, Content-Type, Content-Length"
_TRUNCATED = "x-tinycloud-truncated"
_FIXED = {
    "Cache-Control": "public, max-age=60",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "If-None-Match",
    "Access-Control-Expose-Headers": _EXPOSED,
}


async def get_public_value(request: web.Request) -> web.StreamResponse:
    """GET /public/<space>/kv/<key>: return a value of a public space (Q11).

    The key is looked up in its raw and in its percent-decoded form.
    """
    services = request.app[SERVICES]
    check_rate_limit(request, services.public_rates)
    head = await find_public(
        services, public_space(request.match_info["space"]), _candidate_keys(request)
    )
    headers = {**_FIXED, **SANDBOX, "ETag": head.etag_header}
    # Only an identical text matches (5.11).
    if request.headers.get("If-None-Match") == head.etag_header:
        return WholeAnswer(b"", headers, 304)
    shown = {name: value for name, value in head.metadata.items() if name in _SHOWN}
    shown[CONTENT_TYPE] = shown_type(head.metadata.get(CONTENT_TYPE))
    return await value_answer(request, await services.values.open_body(head), {**shown, **headers})


def _candidate_keys(request: web.Request) -> tuple[str, ...]:
    """Return the keys that a URL may refer to (Q11).

    These are the raw path and its decoded form.
    """
    # The path is `/public/<space>/kv/<key>`, and begins with a slash.
    _, _public, _space, _kv, raw = request.rel_url.raw_path.split("/", 4)
    decoded = "/".join(unquote(part) for part in raw.split("/") if part)
    return (raw,) if raw == decoded else (raw, decoded)


async def list_public_keys(request: web.Request) -> web.Response:
    """GET /public/<space>/kv: list the keys of a public space.

    The response is one page of keys in byte order. The query may contain `prefix`, `after` and
    `limit`.

    A page that is not the last has `x-tinycloud-truncated: true`; the next one starts `after` its
    last key.
    """
    services = request.app[SERVICES]
    check_rate_limit(request, services.public_rates)
    listing = await list_public(
        services,
        public_space(request.match_info["space"]),
        prefix=request.query.get("prefix", ""),
        after=request.query.get("after"),
        limit=whole_number(request, "limit", default=MAX_PAGE_PATHS),
    )
    headers = dict(_FIXED)
    if listing.more:
        headers |= {
            _TRUNCATED: "true",
            "Access-Control-Expose-Headers": f"{_EXPOSED}, {_TRUNCATED}",
        }
    return json_answer(listing.paths, headers=headers)
