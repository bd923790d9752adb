"""HTTP routes for encryption networks (enc 2).

They include the routes for receipts (RC14, RC15) and withdrawals (RC22).
"""

from aiohttp import web

from capabilities.strict_json import JsonObject
from encryption_network.requests import MAX_BODY_BYTES
from encryption_network.withdrawals import MAX_REQUEST_BYTES

from ...operations.releases.decrypt import decrypt_on_route
from ...operations.releases.fetched_copies import FetchPage, read_fetches
from ...operations.releases.key_paths import KeyPathsAnswer, read_key_paths
from ...operations.releases.key_usage import UsagePage, read_usage
from ...operations.releases.key_versions import MAX_KEYS_BODY_BYTES, change_keys, read_keys
from ...operations.releases.network_operations import (
    create,
    read_descriptor,
    read_well_known,
    revoke,
)
from ...operations.releases.release_receipts import ReceiptPage, read_document, read_receipts
from ...operations.releases.withdrawal import withdraw_for_network
from ...services import SERVICES
from ..messages.http_answers import empty_answer
from ..messages.http_requests import client_address, limited_body, token_of


async def get_receipts(request: web.Request) -> ReceiptPage:
    """GET /encryption/networks/<id>/receipts: list the receipts of a network.

    The response is one page, oldest receipt first. The query `after` continues a list.
    """
    return await read_receipts(
        request.app[SERVICES],
        token_of(request),
        path_id=request.match_info["network"],
        after=request.query.get("after", ""),
    )


async def get_fetches(request: web.Request) -> FetchPage:
    """GET /encryption/networks/<id>/fetches: list the fetches of copies (RC35).

    The response is one page, the oldest hour first. The query `after` continues a list.
    """
    return await read_fetches(
        request.app[SERVICES],
        token_of(request),
        path_id=request.match_info["network"],
        after=request.query.get("after", ""),
    )


async def get_document(request: web.Request) -> web.Response:
    """GET /encryption/networks/<id>/receipts/<digest>: return a document cited in a receipt."""
    document = await read_document(
        request.app[SERVICES],
        token_of(request),
        path_id=request.match_info["network"],
        digest=request.match_info["digest"],
    )
    return web.Response(body=document, content_type="application/octet-stream")


async def get_key_paths(request: web.Request) -> KeyPathsAnswer:
    """GET /encryption/networks/<id>/paths: return which paths stored a content key (RL23).

    The query `key` is the wrapped key of an envelope.
    """
    return await read_key_paths(
        request.app[SERVICES],
        token_of(request),
        path_id=request.match_info["network"],
        key=request.query.get("key", ""),
    )


async def post_withdrawal(request: web.Request) -> web.Response:
    """POST /encryption/networks/<id>/withdraw: withdraw trust in code, a backend or evidence."""
    await withdraw_for_network(
        request.app[SERVICES],
        token_of(request),
        path_id=request.match_info["network"],
        body=await limited_body(request, max_bytes=MAX_REQUEST_BYTES),
    )
    return empty_answer(204)


async def post_network(request: web.Request) -> JsonObject:
    """POST /encryption/networks: create an encryption network.

    The response is the descriptor of the network.
    """
    services = request.app[SERVICES]
    descriptor = await create(
        services,
        token_of(request),
        await limited_body(request, max_bytes=MAX_BODY_BYTES),
        client=client_address(request, services.config.http),
    )
    return {"descriptor": descriptor}


async def get_network(request: web.Request) -> JsonObject:
    """GET /encryption/networks/<id>: return the descriptor of a network.

    The node signs the response if the query contains a nonce (EN28).
    """
    return await read_descriptor(
        request.app[SERVICES], request.match_info["network"], request.query.getall("nonce", [])
    )


async def get_keys(request: web.Request) -> JsonObject:
    """GET /encryption/networks/<id>/keys: return the versions of a network's key (EN37)."""
    return await read_keys(request.app[SERVICES], request.match_info["network"])


async def post_keys(request: web.Request) -> JsonObject:
    """POST /encryption/networks/<id>/keys: replace or retire a network's key (EN35, EN38)."""
    return await change_keys(
        request.app[SERVICES],
        token_of(request),
        path_id=request.match_info["network"],
        body=await limited_body(request, max_bytes=MAX_KEYS_BODY_BYTES),
    )


async def get_usage(request: web.Request) -> UsagePage:
    """GET /encryption/networks/<id>/usage: list the values that are sealed to a key (EN38).

    The response is one page. The query `keyVersion` names the key; `after` continues a list.
    """
    return await read_usage(
        request.app[SERVICES],
        token_of(request),
        path_id=request.match_info["network"],
        key_version=request.query.get("keyVersion", ""),
        after=request.query.get("after", ""),
    )


async def get_well_known_network(request: web.Request) -> JsonObject:
    """GET /.well-known/encryption/network/<name>: return an owner's network.

    The query `ownerDid` names the owner.
    """
    return await read_well_known(
        request.app[SERVICES], request.match_info["name"], request.query.get("ownerDid")
    )


async def post_revocation(request: web.Request) -> web.Response:
    """POST /encryption/networks/<id>/revoke: revoke a network permanently.

    The body is ignored.
    """
    await revoke(request.app[SERVICES], token_of(request), request.match_info["network"])
    return empty_answer(204)


async def post_decrypt(request: web.Request) -> JsonObject:
    """POST /encryption/networks/<id>/decrypt: return a content key wrapped for the receiver."""
    return await decrypt_on_route(
        request.app[SERVICES],
        token_of(request),
        path_id=request.match_info["network"],
        body=await limited_body(request, max_bytes=MAX_BODY_BYTES),
    )
