"""The HTTP surface of a runner (RN67, RN91, RN96, RN98).

    POST   /run              a call: see `call_bodies`; `Authorization` and `Sealspace-Sign-In` say who calls
    GET    /receipts/{job}   the receipt of a run, also under /attestations/{job}
    GET    /start            the start document: what receipts are verified with
    GET    /info             DID, start, limits, prices
    GET    /healthz, /readyz
    POST   /call/{owner}/{project}   a call as OutLayer's clients make it; `X-Payment-Key`, `X-Compute-Limit`
    GET    /calls/{id}       the answer of an asynchronous call; `X-Payment-Key`, or `Authorization`
    POST   /keys             the statement of a new key
    GET    /keys             the owner's keys and account; `Authorization`
    DELETE /keys/{nonce}     revokes one; `Authorization`
    POST   /secrets/generate secrets that are made here; see `generated_secrets`
    …      /.well-known/sealspace/backend…   evidence and grants, as every backend publishes them

`Authorization` is a token of a call (`sealspace.apps.run_calls`). Of what has no body it is for the
program `keys`, `keys/<nonce>/revoke` or `calls/<id>`: no program has such a name. TLS ends inside
the trust domain, before this surface or in it.

Example:
    async with mounted(app, runner, folder=folder, seed=seed, price=price, workers=2):
        ...  # the application is served here
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from aiohttp import ClientError, web
from aiohttp.web import RequestPayloadError

from capabilities.limits import Rates, parsed_address
from capabilities.principals import Principal
from sealspace.apps.api_keys import KEY_HEADER, ApiKey, parse_credential
from sealspace.apps.run_calls import SIGN_IN_HEADER
from sealspace.documents.published import GRANTS_PATH
from sealspace.documents.signed_statements import MAX_STATEMENT_BYTES
from sealspace.errors import InvalidInput
from sealspace.session import iso_time

from ...backend_errors import KeepingError
from ..calls.call_answers import Answer, api_refused, refused
from ..calls.call_bodies import MAX_BODY_BYTES
from ..calls.calls import Calls
from ..calls.generated_secrets import MAX_GENERATION_BODY_BYTES, generate
from ..calls.generated_secrets import refused as nothing_made
from ..calls.journal import RowSealer
from ..calls.kept_keys import KeptKeys
from ..calls.ledger import PIECE_BYTES, Account, Ledger
from ..calls.prices import FREE, Price
from ..calls.service import Runner
from ..reasons import REASONS, Reason, RunRefused
from ..shares import InUse, Parts, Payer
from .operator_routes import serving_operator

BODY_S: Final = 10.0
"""Seconds in which a body has to arrive, and one more for each `BODY_BYTES` of it that did."""
BODY_BYTES: Final = 128 * 1024
MOST_CALLS: Final = 256
"""Calls under way of those who showed a key, and as many of the others; beyond that they are
answered 503."""
MOST_BODY_BYTES: Final = 128 * 1024 * 1024
"""Bodies of all these calls together; beyond that they are answered 503. The keys of one owner have
half of both."""
UNKNOWN_BYTES: Final = 16 * 1024 * 1024
"""Bodies that unknown payers send at once; beyond that `UNKNOWN_BYTES_PER_S` are read of them
together (RN163)."""
UNKNOWN_BYTES_PER_S: Final = 2 * 1024 * 1024
RETRY_AFTER_S: Final = 5
"""When a client that was refused for now may ask again."""
ANSWER_S: Final = 30.0
"""Seconds in which a client has to take its answer, and one more for each `ANSWER_BYTES` of it that
it took."""
ANSWER_BYTES: Final = 64 * 1024
MOST_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Answers on their way to those who showed a key, and as many to the others; the keys of one owner
have half."""

# of an answer that waits in the kernel, or that one connection may hold
_SMALL_BYTES: Final = 64 * 1024

LIMIT_HEADER: Final = "X-Compute-Limit"

# What OutLayer's clients may wish and this runner does not do is refused by name; 0 wishes nothing.
_REFUSED_HEADERS: Final = ("X-Attached-Deposit", "X-Use-Owner-Secret", "X-Wallet-Id")


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


Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = logging.getLogger(__name__)


@asynccontextmanager
async def mounted(
    app: web.Application,
    runner: Runner,
    *,
    folder: Path,
    seed: bytes,
    price: Price = FREE,
    workers: int = 2,
) -> AsyncIterator[None]:
    """Add all routes of a runner to an application, and the operator's socket to a folder, until
    the block ends.

    The key of the journal's rows follows from the seed.
    The server of the application does not decompress bodies.
    """
    sealer = RowSealer(seed)
    ledger, keys = Ledger(runner.journal, sealer), KeptKeys(runner.journal, sealer, runner.did)
    async with (
        Calls(runner, ledger, keys, price, workers) as calls,
        serving_operator(ledger, folder),
    ):
        RunnerSurface(calls).mount(app)
        for path in _METHODS:
            app.router.add_options(path, _preflight)
        app.on_response_prepare.append(_open)
        yield


class RunnerSurface:
    """Answers for one runner."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._runner = calls.runner
        self._under_way, self._body_bytes, self._answer_bytes = InUse(), InUse(), InUse()
        self._lately = Rates[None]()

    def mount(self, app: web.Application) -> None:
        """Add the routes."""
        app.add_routes(
            [
                web.post("/run", _answering(self._run)),
                web.get("/receipts/{job}", _answering(self._receipt)),
                web.get("/attestations/{job}", _answering(self._receipt)),
                web.get("/start", self._start),
                web.get("/info", self._info),
                web.get("/healthz", self._healthy),
                web.get("/readyz", self._healthy),
                web.post("/call/{owner}/{project}", _answering(self._call, api_refused)),
                web.get("/calls/{id}", _answering(self._answer)),
                web.post("/keys", _answering(self._add_key)),
                web.get("/keys", _answering(self._list_keys)),
                web.delete("/keys/{nonce}", _answering(self._revoke_key)),
                web.post("/secrets/generate", _answering(self._generate, nothing_made)),
            ]
        )

    # --- calls ------------------------------------------------------------------------------------

    async def _run(self, request: web.Request) -> web.StreamResponse:
        return await self._send(request, await self._ran(request))

    async def _ran(self, request: web.Request) -> Answer:
        call = await self._runner.called(*_shown_by(request))
        payer = Payer(call.caller, await self._calls.ledger.account(call.caller) is not None)
        async with self._body(request, owner=payer.did if payer.is_known else None) as body:
            return await self._calls.run(call, payer, body)

    async def _call(self, request: web.Request) -> web.StreamResponse:
        key = await self._key(request)  # before a byte of the body is read
        return await self._send(request, await self._called(request, key), owner=key.owner)

    async def _called(self, request: web.Request, key: ApiKey) -> Answer:
        for name in _REFUSED_HEADERS:
            if request.headers.get(name, "0") != "0":
                raise RunRefused("request-invalid", name)
        stated, named = request.headers.get(LIMIT_HEADER), request.match_info
        async with self._body(request, owner=key.owner) as body:
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
                answer = await self._calls.answer_of(
                    job, await self._signer(request, f"calls/{job}"), None
                )
        except RunRefused as refusal:
            if refusal.reason.code == "call-start":  # it says nothing about the job, and what to do
                raise
            answer = None
        if answer is None:
            return _not_found("There is no such call, or it is not yours.")
        return await self._send(request, answer, owner=owner)

    async def _add_key(self, request: web.Request) -> web.Response:
        async with self._body(request, most_bytes=MAX_STATEMENT_BYTES) as body:
            return web.json_response(_shown(await self._calls.add_key(body)), status=201)

    async def _list_keys(self, request: web.Request) -> web.Response:
        owner = await self._signer(request, "keys")
        keys = await self._calls.keys.of(owner)
        account = await self._calls.ledger.account(owner) or Account()
        return web.json_response(
            {"owner": owner, "account": account.shown, "keys": [_shown(key) for key in keys]}
        )

    async def _revoke_key(self, request: web.Request) -> web.Response:
        nonce = request.match_info["nonce"][:16]
        owner = await self._signer(request, f"keys/{nonce}/revoke")
        is_number = nonce.isascii() and nonce.isdigit()
        is_there = is_number and await self._calls.keys.revoke(owner, int(nonce))
        return (
            web.json_response({"revoked": nonce})
            if is_there
            else _not_found("You have no such API key here.")
        )

    async def _key(self, request: web.Request) -> ApiKey:
        """Return the key that a caller shows (RN88, RN89).

        Raises:
            RunRefused: `key-in-clear`, `key-malformed`; `key-refused`: the key does not hold, or
                its secret is another one.
        """
        if not _is_private(request):
            raise RunRefused("key-in-clear")
        shown = request.headers.get(KEY_HEADER)
        if shown is None:
            raise RunRefused("key-refused")
        try:
            credential = parse_credential(shown)
        except InvalidInput as invalid:
            raise RunRefused("key-malformed", invalid.message) from invalid
        key = await self._calls.keys.held(credential.owner, credential.nonce)
        if not key.is_of(credential):
            raise RunRefused("key-refused")
        return key

    async def _signer(self, request: web.Request, about: str) -> Principal:
        return await self._runner.use_up(await self._runner.called(*_shown_by(request)), about, b"")

    async def _generate(self, request: web.Request) -> web.Response:
        async with self._body(request, most_bytes=MAX_GENERATION_BODY_BYTES) as body:
            return _respond(await generate(self._runner, *_shown_by(request), body))

    # --- what arrives and what is sent, bounded ---------------------------------------------------

    async def _send(
        self, request: web.Request, answer: Answer, *, owner: Principal | None = None
    ) -> web.StreamResponse:
        """Send an answer piece by piece; it counts as under way until the kernel has all of it
        (RN158).

        Args:
            request: nothing was answered yet.
            answer: of a call.
            owner: of the key that was shown; None: there is none.
        Raises:
            RunRefused: `runner-busy`, too much is under way; nothing was sent.
            ConnectionError: the connection has ended, or was ended here because the client is too
                slow.
        """
        # one is read while one waits
        size = len(answer.body) if answer.kept is None else 2 * PIECE_BYTES
        if size <= _SMALL_BYTES or request.method == "HEAD":
            return _respond(answer)
        response = web.StreamResponse(
            status=answer.status, headers={"Content-Type": "application/json"}
        )
        response.content_length = len(answer.body) or None  # not known of one that is kept
        begun_s, sent = asyncio.get_running_loop().time(), 0
        try:
            # A client that leaves raises an exception. The request refers to it, and it refers to
            # this frame. What is not closed and forgotten here waits for the garbage collector: for
            # hours where few calls come.
            pieces = answer.kept or _pieces(answer.body)
            del answer
            with self._answer_bytes.held(_parts(owner), size, MOST_ANSWER_BYTES):  # RN158
                async with asyncio.timeout_at(begun_s + ANSWER_S) as late, aclosing(pieces):
                    await response.prepare(request)
                    async for piece in pieces:
                        await response.write(piece)
                        sent += len(piece)
                        late.reschedule(begun_s + ANSWER_S + sent / ANSWER_BYTES)  # RN157
                    await response.write_eof()
        except (TimeoutError, KeepingError) as failed:
            # another answer would be read as the rest of this one
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("an answer was not sent to its end") from failed
        return response

    @asynccontextmanager
    async def _body(
        self,
        request: web.Request,
        *,
        most_bytes: int = MAX_BODY_BYTES,
        owner: Principal | None = None,
    ) -> AsyncIterator[bytes]:
        """Read the body of a call, which is under way until the block ends (RN67).

        Args:
            request: whose body was not read.
            most_bytes: of the body.
            owner: who pays, with a key or an account; None: an unknown payer.
        Raises:
            RunRefused: `runner-busy`, `input-too-large`, `request-slow`, `request-invalid`.
        """
        parts, body, begun_s = _parts(owner), bytearray(), asyncio.get_running_loop().time()
        with self._under_way.held(parts, 1, MOST_CALLS):
            if (request.content_length or 0) > most_bytes:
                raise RunRefused("input-too-large")
            try:
                try:
                    async with asyncio.timeout(BODY_S) as late:
                        async for piece in request.content.iter_any():
                            if len(body) + len(piece) > most_bytes:
                                raise RunRefused("input-too-large")
                            self._body_bytes.add(parts, len(piece), MOST_BODY_BYTES)
                            body += piece
                            wait_s = self._wait_s(owner, len(piece))
                            begun_s += wait_s  # which is not the client's time
                            late.reschedule(begun_s + BODY_S + len(body) / BODY_BYTES)
                            await asyncio.sleep(wait_s)
                except TimeoutError as slow:
                    raise RunRefused("request-slow") from slow
                except (ClientError, ConnectionError, RequestPayloadError) as gone:
                    # nobody is there to be answered
                    raise RunRefused("request-invalid") from gone
                yield bytes(body)
            finally:
                self._body_bytes.add(parts, -len(body))

    def _wait_s(self, owner: Principal | None, size_bytes: int) -> float:
        """Count bytes of a body; return the seconds until more of it may be read, or raise
        `runner-busy` (RN163)."""
        if owner is not None:
            return 0.0
        now = asyncio.get_running_loop().time()
        self._lately.add(None, size_bytes, per_s=UNKNOWN_BYTES_PER_S, now=now)
        wait_s = (
            max(self._lately.spent(None, per_s=UNKNOWN_BYTES_PER_S, now=now) - UNKNOWN_BYTES, 0.0)
            / UNKNOWN_BYTES_PER_S
        )
        if wait_s > BODY_S:
            raise RunRefused("runner-busy")
        return wait_s

    # --- what anybody may know --------------------------------------------------------------------

    async def _receipt(self, request: web.Request) -> web.Response:
        receipt = await self._runner.journal.receipt(request.match_info["job"][:64])
        if receipt is None:
            return _not_found("There is no receipt of such a job.")
        return web.Response(body=receipt, content_type="application/json")

    async def _start(self, request: web.Request) -> web.Response:
        return web.Response(body=self._runner.identity.start, content_type="application/json")

    async def _info(self, request: web.Request) -> web.Response:
        most = self._runner.most
        limits = most.shown | {"maxOutputBytes": most.max_output_bytes}
        prices = msgspec.to_builtins(self._calls.price)
        start = self._runner.identity.start_hash
        return web.json_response(
            {"runner": self._runner.did, "start": start, "limits": limits, "price": prices}
        )

    async def _healthy(self, request: web.Request) -> web.Response:
        return web.json_response({"ready": True})


def _parts(owner: Principal | None) -> Parts:
    """Return what a request is counted to, each with the part of the bound that it has.

    Those whom nobody knows take no place from those who showed a key, nor the keys of one owner all
    of them.
    """
    return {"others": 1} if owner is None else {"keys": 1, owner: 2}


async def _pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


def _answering(handler: Handler, refuse: Callable[[Reason], Answer] = refused) -> Handler:
    """Return a handler whose refusals are answers."""

    async def answered(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RunRefused as refusal:
            return _respond(refuse(refusal.reason))
        except KeepingError as error:
            _log.error("a request is not answered: %s", error.message)
            return _respond(refuse(REASONS["runner-failed"]))

    return answered


def _respond(answer: Answer) -> web.Response:
    """Return the answer to a call as a response."""
    # RN158, RN163: a client that is refused for now, and is not told when to come back, comes back
    # at once.
    later = {"Retry-After": str(RETRY_AFTER_S)} if answer.status in (429, 503) else {}
    return web.Response(
        status=answer.status, body=answer.body, headers=later, content_type="application/json"
    )


def _not_found(message: str) -> web.Response:
    """Return the response where nothing is."""
    return web.json_response({"error": {"code": "not-found", "message": message}}, status=404)


def _shown_by(request: web.Request) -> tuple[str | None, str | None]:
    """Return the token of a caller, and the sign-in that it cites."""
    return request.headers.get("Authorization"), request.headers.get(SIGN_IN_HEADER)


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
    """Return whether nobody reads between client and runner: TLS ends here, or the client is on
    this machine (RN88)."""
    transport = request.transport
    if transport is None:
        return False
    if transport.get_extra_info("sslcontext") is not None:
        return True
    peer = parsed_address((transport.get_extra_info("peername") or (None,))[0])
    return peer is not None and peer.is_loopback


async def _preflight(request: web.Request) -> web.Response:
    """Answer a browser that asks before it sends; nothing is read, verified or counted."""
    return web.Response(
        status=204,
        headers={**_PREFLIGHT, "Access-Control-Allow-Methods": _METHODS[_place(request)]},
    )


async def _open(request: web.Request, response: web.StreamResponse) -> None:
    if _place(request) in _METHODS:  # a refusal too: a page that cannot read one cannot say it
        response.headers.update(_ANY_ORIGIN)


def _place(request: web.Request) -> str:
    """Return the path of the route that answers; the one of grants answers for several."""
    resource = request.match_info.route.resource
    return (
        GRANTS_PATH
        if request.path == GRANTS_PATH
        else ""
        if resource is None
        else resource.canonical
    )
