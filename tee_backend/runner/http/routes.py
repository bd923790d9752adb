"""The HTTP surface of a runner (RN67).

    POST /run               a call: see `call_bodies`; `Authorization` and `Sealspace-Sign-In` say who calls
    GET  /receipts/{job}    the receipt of a run, also under /attestations/{job}
    GET  /start             the start document: what receipts are verified with
    GET  /info              DID, start, limits, prices
    GET  /healthz, /readyz
    …    /.well-known/sealspace/backend…   evidence and grants, as every backend publishes them

TLS ends inside the trust domain, before this surface or in it.

Example:
    app = web.Application()
    RunnerSurface(runner, limits, calls).mount(app)
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final, TypeAlias

from aiohttp import ClientError, web
from aiohttp.web import RequestPayloadError

from capabilities.limits import Rates
from capabilities.principals import Principal
from capabilities.strict_base64 import encode_url
from sealspace.apps.run_calls import SIGN_IN_HEADER

from ...errors import KeepingError
from ..calls.answers import Answer, refused, status_of
from ..calls.call_bodies import MAX_BODY_BYTES
from ..calls.calls import Calls
from ..calls.generated_secrets import MAX_GENERATION_BODY_BYTES, SecretMaker
from ..calls.generated_secrets import refused as nothing_made
from ..calls.ledger import PIECE_BYTES
from ..calls.service import Runner
from ..guest.runs import Limits
from ..reasons import RunRefused
from ..shares import InUse, Parts

BODY_S: Final = 10.0
"""Seconds in which a body has to arrive, and one more for each `BODY_BYTES` of it that did."""
BODY_BYTES: Final = 128 * 1024
MOST_CALLS: Final = 256
"""Calls under way of those who showed a key, and as many of the others; beyond that they are answered 503."""
MOST_BODY_BYTES: Final = 128 * 1024 * 1024
"""Bodies of all these calls together; beyond that they are answered 503. The keys of one owner have half of both."""
UNKNOWN_BYTES: Final = 16 * 1024 * 1024
"""Bodies that unknown payers send at once; beyond that `UNKNOWN_BYTES_PER_S` are read of them together (RN163)."""
UNKNOWN_BYTES_PER_S: Final = 2 * 1024 * 1024
RETRY_AFTER_S: Final = 5
"""When a client that was refused for now may ask again."""
ANSWER_S: Final = 30.0
"""Seconds in which a client has to take its answer, and one more for each `ANSWER_BYTES` of it that it took."""
ANSWER_BYTES: Final = 64 * 1024
MOST_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Answers on their way to those who showed a key, and as many to the others; the keys of one owner have half."""

_SMALL_BYTES: Final = 64 * 1024  # of an answer that waits in the kernel, or that one connection may hold

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = logging.getLogger(__name__)


class RunnerSurface:
    """Answers for one runner."""

    def __init__(self, runner: Runner, limits: Limits, calls: Calls) -> None:
        self._runner = runner
        self._limits = limits
        self._calls = calls
        self._under_way, self._body_bytes, self._answer_bytes = InUse(), InUse(), InUse()
        self._lately = Rates[None]()

    def mount(self, app: web.Application) -> None:
        """Add the routes to an application whose server does not decompress bodies."""
        app.router.add_post("/run", answering(self._run))
        app.router.add_get("/receipts/{job}", answering(self._receipt))
        app.router.add_get("/attestations/{job}", answering(self._receipt))
        app.router.add_get("/start", self._start)
        app.router.add_get("/info", self._info)
        app.router.add_get("/healthz", self._healthy)
        app.router.add_get("/readyz", self._healthy)

    async def _run(self, request: web.Request) -> web.StreamResponse:
        return await self.send(request, await self._ran(request))

    async def _ran(self, request: web.Request) -> Answer:
        headers = request.headers
        call = await self._runner.called(headers.get("Authorization"), headers.get(SIGN_IN_HEADER))
        payer = await self._calls.payer(call)
        async with self.body(request, owner=payer.did if payer.is_known else None) as body:
            return await self._calls.run(call, payer, body)

    async def send(self, request: web.Request, answer: Answer, *, owner: Principal | None = None) -> web.StreamResponse:
        """Send an answer piece by piece; it counts as under way until the kernel has all of it (RN158).

        Args:
            request: nothing was answered yet.
            answer: of a call.
            owner: of the key that was shown; None: there is none.
        Raises:
            RunRefused: `runner-busy`, too much is under way; nothing was sent.
            ConnectionError: the connection has ended, or was ended here because the client is too slow.
        """
        size = len(answer.body) if answer.kept is None else 2 * PIECE_BYTES  # one is read while one waits
        if size <= _SMALL_BYTES or request.method == "HEAD":
            return respond(answer)
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
        response.content_length = len(answer.body) or None  # not known of one that is kept
        begun_s, sent = asyncio.get_running_loop().time(), 0
        try:
            # A client that leaves raises an exception. The request refers to it, and it refers to this frame. What is
            # not closed and forgotten here waits for the garbage collector: for hours where few calls come.
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
        except (TimeoutError, KeepingError) as failed:  # another answer would be read as the rest of this one
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("an answer was not sent to its end") from failed
        return response

    @asynccontextmanager
    async def body(
        self, request: web.Request, *, most_bytes: int = MAX_BODY_BYTES, owner: Principal | None = None
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
                except (ClientError, ConnectionError, RequestPayloadError) as gone:  # nobody is there to be answered
                    raise RunRefused("request-invalid") from gone
                yield bytes(body)
            finally:
                self._body_bytes.add(parts, -len(body))

    def _wait_s(self, owner: Principal | None, size_bytes: int) -> float:
        """Count bytes of a body; return the seconds until more of it may be read, or raise `runner-busy` (RN163)."""
        if owner is not None:
            return 0.0
        now = asyncio.get_running_loop().time()
        self._lately.add(None, size_bytes, per_s=UNKNOWN_BYTES_PER_S, now=now)
        wait_s = (
            max(self._lately.spent(None, per_s=UNKNOWN_BYTES_PER_S, now=now) - UNKNOWN_BYTES, 0.0) / UNKNOWN_BYTES_PER_S
        )
        if wait_s > BODY_S:
            raise RunRefused("runner-busy")
        return wait_s

    async def _receipt(self, request: web.Request) -> web.Response:
        receipt = await self._runner.receipt(request.match_info["job"][:64])
        if receipt is None:
            return not_found("There is no receipt of such a job.")
        return web.Response(body=receipt, content_type="application/json")

    async def _start(self, request: web.Request) -> web.Response:
        return web.Response(body=self._runner.identity.start, content_type="application/json")

    async def _info(self, request: web.Request) -> web.Response:
        limits = {
            "maxInstructions": self._limits.max_instructions,
            "maxMemoryMb": self._limits.max_memory_mb,
            "maxExecutionSeconds": self._limits.max_execution_s,
            "maxOutputBytes": self._limits.max_output_bytes,
        }
        price = self._calls.price
        prices = {"call": price.call, "millionInstructions": price.million_instructions, "second": price.second}
        start = encode_url(self._runner.identity.start_sha256)
        return to_json({"runner": self._runner.did, "start": start, "limits": limits, "price": prices}, 200)

    async def _healthy(self, request: web.Request) -> web.Response:
        return to_json({"ready": True}, 200)


def _parts(owner: Principal | None) -> Parts:
    """Return what a request is counted to, each with the part of the bound that it has.

    Those whom nobody knows take no place from those who showed a key, nor the keys of one owner all of them.
    """
    return {"others": 1} if owner is None else {"keys": 1, owner: 2}


async def _pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


def answering(handler: Handler, *, is_api: bool = False) -> Handler:
    """Return a handler whose refusals are answers."""

    async def answered(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RunRefused as refusal:
            return respond(refused(refusal, is_api=is_api))
        except KeepingError as error:
            _log.error("a request is not answered: %s", error.message)
            return respond(refused(RunRefused("runner-failed"), is_api=is_api))

    return answered


def respond(answer: Answer) -> web.Response:
    """Return the answer to a call as a response."""
    # RN158, RN163: a client that is refused for now, and is not told when to come back, comes back at once.
    later = {"Retry-After": str(RETRY_AFTER_S)} if answer.status in (429, 503) else {}
    return web.Response(status=answer.status, body=answer.body, headers=later, content_type="application/json")


def to_json(value: Mapping[str, object], status: int) -> web.Response:
    """Return JSON as a response."""
    return web.Response(status=status, text=json.dumps(value), content_type="application/json")


def not_found(message: str) -> web.Response:
    """Return the response where nothing is."""
    return to_json({"error": {"code": "not-found", "message": message}}, 404)


class GenerateSurface:
    """Answers owners who have secrets made."""

    def __init__(self, surface: RunnerSurface, maker: SecretMaker) -> None:
        self._surface = surface
        self._maker = maker

    def mount(self, app: web.Application) -> None:
        """Add the route to an application whose server does not decompress bodies."""
        app.router.add_post("/secrets/generate", self._generate)

    async def _generate(self, request: web.Request) -> web.Response:
        try:
            async with self._surface.body(request, most_bytes=MAX_GENERATION_BODY_BYTES) as body:
                headers = request.headers
                made = await self._maker.make(headers.get("Authorization"), headers.get(SIGN_IN_HEADER), body)
        except RunRefused as refusal:
            made = nothing_made(refusal)
        except KeepingError:
            made = nothing_made(RunRefused("runner-failed"))
        return respond(Answer(200 if made.code is None else status_of(made.code), made.body))
