"""Receipts of a network's releases, and withdrawals by its owner (RC14, RC15, RC22)."""

import msgspec
from aiohttp import web

from encryption_network.withdrawals import MAX_REQUEST_BYTES

from ...operations.releases.receipts import read_document, read_receipts
from ...operations.releases.withdrawal import withdraw_for_network
from ...services import SERVICES
from ..messages.answers import empty_answer, json_answer
from ..messages.request_bodies import limited_body
from ..messages.token_header import token_of


class ReceiptPage(msgspec.Struct):
    """Receipts, oldest first, and the `after` of the next page; null where none follows."""

    receipts: tuple[msgspec.Raw, ...]
    after: str | None


async def get_receipts(request: web.Request) -> web.Response:
    """GET /encryption/networks/<id>/receipts?after= -> `{"receipts", "after"}`, oldest first."""
    found = await read_receipts(
        request.app[SERVICES],
        token_of(request),
        path_id=request.match_info["network"],
        after=request.query.get("after", ""),
    )
    return json_answer(ReceiptPage(tuple([msgspec.Raw(receipt) for receipt in found.receipts]), found.after))


async def get_document(request: web.Request) -> web.Response:
    """GET /encryption/networks/<id>/receipts/<digest> -> the bytes of a document that receipts refer to."""
    document = await read_document(
        request.app[SERVICES],
        token_of(request),
        path_id=request.match_info["network"],
        digest=request.match_info["digest"],
    )
    return web.Response(body=document, content_type="application/octet-stream")


async def post_withdrawal(request: web.Request) -> web.Response:
    """POST /encryption/networks/<id>/withdraw: exactly one of `measurement`, `did` and `evidence`."""
    header = token_of(request)
    body = await limited_body(request, max_bytes=MAX_REQUEST_BYTES)
    await withdraw_for_network(request.app[SERVICES], header, path_id=request.match_info["network"], body=body)
    return empty_answer(204)
