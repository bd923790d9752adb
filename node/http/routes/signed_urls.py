"""Signed URLs: POST /signed/kv, GET and HEAD /signed/kv/<ticket> (wire §5.10)."""

from typing import Annotated, Final

import msgspec
from aiohttp import web

from capabilities.chain import check_lifetime
from capabilities.tokens import parse_invocation
from encryption_network.networks import timestamp
from spaces.values.value_heads import Head

from ...operations.authorise import admit_signed
from ...operations.kinds import check_call
from ...operations.values.signed_urls import RequestParameters, mint, redeem
from ...services import SERVICES
from ..messages.answers import SANDBOX, bytes_answer, json_answer
from ..messages.partial import Unsatisfiable, matches_weakly, parse_range
from ..messages.request_bodies import json_body
from ..messages.shown_types import CONTENT_TYPE, shown_type
from ..messages.token_header import token_of
from ..messages.value_answers import value_answer

MAX_BODY_BYTES: Final = 1 << 20  # H5
_Seconds = Annotated[int, msgspec.Meta(ge=0)] | None


class SignedUrl(msgspec.Struct, rename="camel"):
    """A relative URL with which any holder reads one version of a value, until it ends."""

    url: str
    ticket_id: str
    expires_at: str


class SignedUrlRequest(msgspec.Struct, rename="camel"):
    """Both spellings of each member are read (Q9); of two lifetimes the shorter counts."""

    space: str
    path: str
    ttl_seconds: _Seconds = None
    content_hash: str | None = None
    max_uses: int | None = None
    etag: str | None = None
    snake_ttl: _Seconds = msgspec.field(default=None, name="ttl_seconds")
    snake_hash: str | None = msgspec.field(default=None, name="content_hash")
    snake_uses: int | None = msgspec.field(default=None, name="max_uses")

    def asked(self) -> RequestParameters:
        """Return what is asked for, in whichever spelling."""
        lifetimes = [ttl_s for ttl_s in (self.ttl_seconds, self.snake_ttl) if ttl_s is not None]
        digests = (self.content_hash, self.snake_hash, self.etag)
        return RequestParameters(
            space=self.space,
            path=self.path,
            ttl_s=min(lifetimes, default=None),
            is_use_limited=self.max_uses is not None or self.snake_uses is not None,
            digests=tuple([text for text in digests if text is not None]),
        )


async def post_signed_url(request: web.Request) -> web.Response:
    """POST /signed/kv: make a signed URL, which is relative -> `{"url", "ticketId", "expiresAt"}`."""
    services = request.app[SERVICES]
    unverified = parse_invocation(token_of(request))
    body = await json_body(request, SignedUrlRequest, max_bytes=MAX_BODY_BYTES)
    now = services.clock.now()
    invocation = admit_signed(unverified, now=now)
    check_lifetime(invocation, now, services.config.invocation.max_lifetime_s)  # I4
    check_call(invocation)  # T12
    made = await mint(services, invocation, body.asked())
    return json_answer(SignedUrl(f"/signed/kv/{made.ticket}", made.ticket, timestamp(made.expires_at)))


async def get_signed_value(request: web.Request) -> web.StreamResponse:
    """GET /signed/kv/<ticket>: the value, or the part of it that `Range` names; HEAD is the same without it (Q31)."""
    services = request.app[SERVICES]
    head = await redeem(services, request.match_info["ticket"])
    fixed = {"ETag": head.etag_header, "Accept-Ranges": "bytes", "Cache-Control": "private, no-store", **SANDBOX}
    if matches_weakly(request.headers.get("If-None-Match"), head.etag_header):
        return bytes_answer(b"", headers=fixed, status=304)
    try:
        wanted = _range(request, head)
    except Unsatisfiable:
        return bytes_answer(b"", headers={**fixed, "Content-Range": f"bytes */{head.size_bytes}"}, status=416)
    headers = {**head.metadata, CONTENT_TYPE: shown_type(head.metadata.get(CONTENT_TYPE)), **fixed}
    body = await services.values.open_body(head)
    if wanted is None:
        return await value_answer(request, body, headers)
    headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{head.size_bytes}"
    return await value_answer(request, body, headers, status=206, part=wanted)


def _range(request: web.Request, head: Head) -> range | None:
    """Return the range that counts: of a GET, and under `If-Range` only for this very version."""
    condition = request.headers.get("If-Range")
    if request.method != "GET" or (condition is not None and condition != head.etag_header):
        return None
    return parse_range(request.headers.get("Range"), size_bytes=head.size_bytes)
