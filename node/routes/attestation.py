"""The node's own quote: GET /attestation?nonce= (wire 5.9)."""

from aiohttp import web

from ..answers import json_answer

_CLASSIC = {"mode": "classic", "message": "This instance is not running in a TEE"}


async def get_attestation(_request: web.Request) -> web.Response:
    """Answer that there is no quote: this node does not run inside a trust domain."""
    return json_answer(_CLASSIC)
