"""The HTTPS API of a runner, as OutLayer's clients call it, and API keys (RN91, RN96, RN98).

    POST   /call/{owner}/{project}   a call; `X-Payment-Key`, `X-Compute-Limit`; see `api_bodies`
    GET    /calls/{id}               the answer of an asynchronous call; `X-Payment-Key`, or `Authorization`
    POST   /keys                     the statement of a new key
    GET    /keys                     the owner's keys and account; `Authorization`
    DELETE /keys/{nonce}             revokes one; `Authorization`

`Authorization` is a token of a call (`sealspace.apps.run_calls`) of an empty body, for the program `keys`,
`keys/<nonce>/revoke` or `calls/<id>`: no program has such a name.

Example:
    async with mounted(app, runner, journal, folder=folder, row_key=row_key(seed), limits=limits, price=price):
        ...  # the application is served here
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

from capabilities.ambient import Clock, SystemClock
from capabilities.limits import parsed_address
from capabilities.principals import Principal
from sealspace.apps.api_keys import KEY_HEADER, ApiKey
from sealspace.apps.run_calls import SIGN_IN_HEADER
from sealspace.documents.published import GRANTS_PATH
from sealspace.documents.signed_statements import MAX_STATEMENT_BYTES
from sealspace.session import iso_time

from ..calls.answers import Answer
from ..calls.calls import Calls
from ..calls.journal import Journal
from ..calls.kept_keys import KeptKeys
from ..calls.ledger import Account, Ledger
from ..calls.prices import FREE, Price
from ..calls.sealed_rows import RowSealer
from ..calls.service import Runner
from ..guest.runs import Limits
from ..reasons import RunRefused
from .operator_routes import OperatorSurface
from .routes import RunnerSurface, answering, not_found, to_json

_METHODS: Final = {
    "/info": "GET",
    "/keys": "GET, POST",
    "/keys/{nonce}": "DELETE",
    "/secrets/generate": "POST",
    GRANTS_PATH: "POST",  # a grant is signed by its owner, for this runner's DID
}
_ANY_ORIGIN: Final = {"Access-Control-Allow-Origin": "*"}
_PREFLIGHT: Final = _ANY_ORIGIN | {
    "Access-Control-Allow-Headers": f"Authorization, Content-Type, {SIGN_IN_HEADER}",
    "Access-Control-Max-Age": "600",
}


def open_to_pages(app: web.Application) -> None:
    """Let pages of any origin call these routes of an application, and no others."""
    for path in _METHODS:
        app.router.add_options(path, _preflight)
    app.on_response_prepare.append(_open)


async def _preflight(request: web.Request) -> web.Response:
    """Answer a browser that asks before it sends; nothing is read, verified or counted."""
    return web.Response(status=204, headers={**_PREFLIGHT, "Access-Control-Allow-Methods": _METHODS[_place(request)]})


async def _open(request: web.Request, response: web.StreamResponse) -> None:
    if _place(request) in _METHODS:  # a refusal too: a page that cannot read one cannot say it
        response.headers.update(_ANY_ORIGIN)


def _place(request: web.Request) -> str:
    """Return the path of the route that answers; the one of grants answers for several."""
    resource = request.match_info.route.resource
    return GRANTS_PATH if request.path == GRANTS_PATH else "" if resource is None else resource.canonical


LIMIT_HEADER: Final = "X-Compute-Limit"

# What OutLayer's clients may wish and this runner does not do is refused by name; 0 wishes nothing.
_REFUSED_HEADERS: Final = ("X-Attached-Deposit", "X-Use-Owner-Secret", "X-Wallet-Id")


@asynccontextmanager
async def mounted(
    app: web.Application,
    runner: Runner,
    journal: Journal,
    *,
    folder: Path,
    row_key: bytes,
    limits: Limits,
    price: Price = FREE,
    workers: int = 2,
) -> AsyncIterator[RunnerSurface]:
    """Add all routes of a runner to an application, and the operator's socket to a folder, until the block ends."""
    sealer = RowSealer(row_key)
    ledger, keys = Ledger(journal, sealer), KeptKeys(journal, sealer, runner=runner.did)
    calls = Calls(runner, ledger, keys, price=price, workers=workers)
    async with calls, OperatorSurface(ledger).serving(folder):
        surface = RunnerSurface(runner, limits, calls)
        surface.mount(app)
        ApiSurface(surface, runner, calls, keys, ledger).mount(app)
        open_to_pages(app)
        yield surface


class ApiSurface:
    """Answers those who call with keys, and those who made them."""

    def __init__(
        self,
        surface: RunnerSurface,
        runner: Runner,
        calls: Calls,
        keys: KeptKeys,
        ledger: Ledger,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._surface = surface
        self._runner = runner
        self._calls = calls
        self._keys = keys
        self._ledger = ledger
        self._clock = clock or SystemClock()

    def mount(self, app: web.Application) -> None:
        """Add the routes to an application whose server does not decompress bodies."""
        app.router.add_post("/call/{owner}/{project}", answering(self._call, is_api=True))
        app.router.add_get("/calls/{id}", answering(self._answer))
        app.router.add_post("/keys", answering(self._add_key))
        app.router.add_get("/keys", answering(self._list_keys))
        app.router.add_delete("/keys/{nonce}", answering(self._revoke_key))

    async def _call(self, request: web.Request) -> web.StreamResponse:
        key = await self._key(request)  # before a byte of the body is read
        return await self._surface.send(request, await self._called(request, key), owner=key.owner)

    async def _called(self, request: web.Request, key: ApiKey) -> Answer:
        for name in _REFUSED_HEADERS:
            if request.headers.get(name, "0") != "0":
                raise RunRefused("request-invalid", name)
        stated, named = request.headers.get(LIMIT_HEADER), request.match_info
        async with self._surface.body(request, owner=key.owner) as body:
            return await self._calls.call(key, named["owner"], named["project"], stated, body)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Answer whoever called; a job of somebody else is one that is not there."""
        job, owner = request.match_info["id"][:64], None
        try:
            if KEY_HEADER in request.headers:
                key = await self._key(request)
                owner = key.owner
                answer = await self._calls.answer_of(job, owner, key.nonce)
            else:
                answer = await self._calls.answer_of(job, await self._signer(request, f"calls/{job}"), None)
        except RunRefused as refusal:
            if refusal.reason.code == "call-start":  # it says nothing about the job, and what to do
                raise
            answer = None
        if answer is None:
            return not_found("There is no such call, or it is not yours.")
        return await self._surface.send(request, answer, owner=owner)

    async def _add_key(self, request: web.Request) -> web.Response:
        async with self._surface.body(request, most_bytes=MAX_STATEMENT_BYTES) as body:
            return to_json(_shown(await self._calls.add_key(body)), 201)

    async def _list_keys(self, request: web.Request) -> web.Response:
        owner = await self._signer(request, "keys")
        keys = await self._keys.of(owner, now=self._clock.now())
        account = await self._ledger.account(owner) or Account()
        return to_json({"owner": owner, "account": account.shown, "keys": [_shown(key) for key in keys]}, 200)

    async def _revoke_key(self, request: web.Request) -> web.Response:
        nonce = request.match_info["nonce"][:16]
        owner = await self._signer(request, f"keys/{nonce}/revoke")
        is_number = nonce.isascii() and nonce.isdigit()
        is_there = is_number and await self._keys.revoke(owner, int(nonce))
        return to_json({"revoked": nonce}, 200) if is_there else not_found("You have no such API key here.")

    async def _key(self, request: web.Request) -> ApiKey:
        return await self._calls.key(request.headers.get(KEY_HEADER), is_private=_is_private(request))

    async def _signer(self, request: web.Request, about: str) -> Principal:
        headers = request.headers
        call = await self._runner.called(headers.get("Authorization"), headers.get(SIGN_IN_HEADER))
        return await self._runner.use_up(call, about, b"")


def _shown(key: ApiKey) -> Mapping[str, object]:
    return {
        "owner": key.owner,
        "nonce": key.nonce,
        "projects": ["*"] if key.projects is None else [one.text for one in key.projects],
        "profiles": list(key.profiles),
        "maxPerCall": str(key.max_per_call),
        "expires": iso_time(key.expires_at),
    }


def _is_private(request: web.Request) -> bool:
    """Return whether nobody reads between client and runner: TLS ends here, or the client is on this machine (RN88)."""
    transport = request.transport
    if transport is None:
        return False
    if transport.get_extra_info("sslcontext") is not None:
        return True
    peer = parsed_address((transport.get_extra_info("peername") or (None,))[0])
    return peer is not None and peer.is_loopback
