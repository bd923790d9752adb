"""HTTP routes for API keys: register, list, revoke, and what they spend (RN91, RN93, RN232).

Example:
    KeyRoutes(calls, callers, bodies, answers).mount(app)
"""

import re
from collections.abc import (
    Mapping,
)

from aiohttp import web

from sealspace.apps.api_keys import ApiKey
from sealspace.documents.signed_statements import MAX_STATEMENT_BYTES
from sealspace.session import iso_time

from ..calls.call_answers import answer_with
from ..calls.calls import Calls
from ..calls.ledger import Account
from .callers import Callers
from .request_bodies import RequestBodies
from .sent_answers import SentAnswers

_MAX_NONCE_DIGITS = 16
"""Length to which untrusted nonces in URLs are cut. Real ones are shorter."""


class KeyRoutes:
    """The routes of a runner about API keys."""

    def __init__(
        self, calls: Calls, callers: Callers, bodies: RequestBodies, answers: SentAnswers
    ) -> None:
        self._calls = calls
        self._callers = callers
        self._bodies = bodies
        self._answers = answers

    def mount(self, app: web.Application) -> None:
        """Add the routes to an application."""
        app.add_routes(
            [
                web.get("/payment-keys/balance", self._balance),
                web.get("/payment-keys/usage", self._usage),
                web.post("/keys", self._add_key),
                web.get("/keys", self._list_keys),
                web.delete("/keys/{nonce}", self._revoke_key),
            ]
        )

    async def _balance(self, request: web.Request) -> web.Response:
        key = await self._callers.key(request)
        account = await self._calls.ledger.account(key.owner) or Account()
        # RN93: what was credited is the sum of the three amounts
        credited = account.balance + account.reserved + account.charged
        return web.json_response(  # the members that OutLayer's clients read (RN232)
            {
                "owner": key.owner,
                "nonce": key.nonce,
                "initial_balance": str(credited),
                "spent": str(account.charged),
                "reserved": str(account.reserved),
                "available": str(account.balance),
                "is_grant": False,
            }
        )

    async def _usage(self, request: web.Request) -> web.StreamResponse:
        key = await self._callers.key(request)
        self._calls.count(key)
        answer = answer_with({"usage": await self._calls.ledger.calls_of(key.owner, key.nonce)})
        return await self._answers.send(request, answer, owner=key.owner)

    async def _add_key(self, request: web.Request) -> web.Response:
        async with self._bodies.read(request, most_bytes=MAX_STATEMENT_BYTES) as body:
            return web.json_response(_key_json(await self._calls.add_key(body)), status=201)

    async def _list_keys(self, request: web.Request) -> web.Response:
        owner = await self._callers.signer(request, "keys")
        keys = await self._calls.keys.live_keys(owner)
        account = await self._calls.ledger.account(owner) or Account()
        return web.json_response(
            {"owner": owner, "account": account.as_json, "keys": [_key_json(key) for key in keys]}
        )

    async def _revoke_key(self, request: web.Request) -> web.Response:
        nonce = request.match_info["nonce"][:_MAX_NONCE_DIGITS]
        owner = await self._callers.signer(request, f"keys/{nonce}/revoke")
        if re.fullmatch("[0-9]+", nonce) and await self._calls.keys.revoke(owner, int(nonce)):
            return web.json_response({"revoked": nonce})
        raise web.HTTPNotFound(text="You have no such API key here.")


def _key_json(key: ApiKey) -> Mapping[str, object]:
    return {
        "owner": key.owner,
        "nonce": key.nonce,
        "projects": ["*"] if key.projects is None else [one.text for one in key.projects],
        "profiles": list(key.profiles),
        "maxPerCall": str(key.max_per_call),
        "expires": iso_time(key.expires_at),
    }
