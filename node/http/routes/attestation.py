"""The node's own quote: GET /attestation?nonce= (wire 5.9)."""

from typing import Literal

import msgspec
from aiohttp import web

from ...operations.attestation.own_evidence import checked_nonce, own_evidence
from ...services import SERVICES
from ..messages.answers import json_answer
from ..messages.clients import client_address


class NoEvidence(msgspec.Struct):
    """The answer of a node that runs in no trust domain."""

    mode: Literal["classic"] = "classic"
    message: str = "This instance is not running in a TEE"


async def get_attestation(request: web.Request) -> web.Response:
    """Answer with a fresh quote over the nonce; `classic` where the node runs inside no trust domain."""
    services = request.app[SERVICES]
    if services.own_quotes is None:
        return json_answer(NoEvidence())
    services.own_quote_rates.take(client_address(request, services.config.http), now=services.clock.now())
    nonce = checked_nonce(request.query.getall("nonce", []))
    return json_answer(await own_evidence(services, services.own_quotes, nonce))
