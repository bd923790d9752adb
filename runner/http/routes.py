"""HTTP routes of a runner for callers and owners (RN67, RN91, RN96, RN98).

    POST   /run                     run a program (`call_bodies`); `Authorization`
    POST   /tasks                   make a task (`call_bodies`); `Authorization`
    GET    /tasks/{id}              the state of a task; `Authorization`
    GET    /tasks/{id}/result       the sealed result of a task; `Authorization`
    GET    /receipts/{job}          the receipt of a run; also /attestations/{job}
    GET    /start                   the startup document, needed to verify receipts
    GET    /info                    DID, start, limits, prices
    GET    /healthz, /readyz        whether the runner works
    POST   /call/{owner}/{project}  run a program as OutLayer's clients do; `X-Payment-Key`
    GET    /calls/{id}              an asynchronous answer; `X-Payment-Key` or `Authorization`
    GET    /payment-keys/balance    the account that a key spends from; `X-Payment-Key`
    GET    /payment-keys/usage      the last calls of a key; `X-Payment-Key`
    POST   /keys                    register an API key by its owner's statement
    GET    /keys                    an owner's keys and account; `Authorization`
    DELETE /keys/{nonce}            revoke an API key; `Authorization`
    POST   /secrets/generate        make secrets (`generated_secrets`); `Authorization`
    …      /.well-known/sealspace/backend…   evidence and grants, as every backend publishes them

`Authorization` is the token of a call (`sealspace.apps.run_calls`). A wallet's session also sends
`Sealspace-Sign-In`. For a request without a body the token names the program `keys`,
`keys/<nonce>/revoke` or `calls/<id>`, also for a task; no program can have such a name. TLS ends
inside the trust domain, in this server or before it.

Refusals on OutLayer's routes are `{"error": sentence, "code"}` (RN231).

Example:
    async with mounted(app, runner, folder=folder, seed=seed, price=price, workers=2):
        ...  # the application is served here
"""

from collections.abc import (
    AsyncIterator,
    Collection,
)
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from aiohttp import web

from capabilities.limits import counted_address
from sealspace.apps.api_keys import KEY_HEADER, ApiKey
from serving.shares import Payer

from ..calls.call_answers import Answer
from ..calls.calls import Calls
from ..calls.generated_secrets import MAX_GENERATION_BODY_BYTES, generate
from ..calls.journal import RowSealer
from ..calls.kept_keys import KeptKeys
from ..calls.ledger import Ledger
from ..calls.prices import FREE, Price
from ..calls.service import Runner
from ..reasons import RunRefused
from .browsers import LIMIT_HEADER, allow_browsers
from .callers import Callers, credentials
from .key_routes import KeyRoutes
from .operator_routes import serving_operator
from .request_bodies import ClientOf, RequestBodies
from .sent_answers import ErrorAnswers, SentAnswers, respond

# Features of OutLayer that this runner lacks. A call that asks for one is refused; 0 asks for none.
_REFUSED_HEADERS = ("X-Attached-Deposit", "X-Use-Owner-Secret", "X-Wallet-Id")

_MAX_JOB_CHARS = 64
"""Length to which untrusted ids of jobs in URLs are cut. Real ones are shorter."""


@asynccontextmanager
async def mounted(
    app: web.Application,
    runner: Runner,
    *,
    folder: Path,
    seed: bytes,
    price: Price = FREE,
    workers: int = 2,
    origins: Collection[str] = (),
    client_of: ClientOf = lambda request: counted_address(request.remote),
) -> AsyncIterator[Calls]:
    """Add a runner's HTTP routes to an application, and yield what runs its calls.

    The operator's socket is served until the `with` block ends. The journal's encryption key is
    derived from `seed`. Pages of `origins` may call with API keys. The application's server must
    not decompress bodies: their limits count the bytes that arrive.
    """
    sealer = RowSealer(seed)
    ledger = Ledger(runner.journal, sealer)
    keys = KeptKeys(journal=runner.journal, sealer=sealer, runner=runner.did)
    async with (
        Calls(runner, ledger, keys, price, workers) as calls,
        serving_operator(ledger, folder, runner.did),
    ):
        RunnerSurface(calls, client_of).mount(app)
        allow_browsers(app, origins=origins)
        app.middlewares.append(ErrorAnswers(calls.ended).answer)
        yield calls


class RunnerSurface:
    """The HTTP routes of a runner.

    They enforce limits on requests and responses.
    """

    def __init__(self, calls: Calls, client_of: ClientOf) -> None:
        self._calls = calls
        self._runner = calls.runner
        self._callers = Callers(calls, client_of)
        self._bodies = RequestBodies(client_of)
        self._answers = SentAnswers()

    def mount(self, app: web.Application) -> None:
        """Add the HTTP routes to an application."""
        app.add_routes(
            [
                web.post("/run", self._run),
                web.post("/tasks", self._run),
                web.get("/tasks/{id}", self._answer),
                web.get("/tasks/{id}/result", self._answer),
                web.get("/receipts/{job}", self._receipt),
                web.get("/attestations/{job}", self._receipt),
                web.get("/start", self._start),
                web.get("/info", self._info),
                web.get("/healthz", self._healthy),
                web.get("/readyz", self._ready),
                web.post("/call/{owner}/{project}", self._call),
                web.get("/calls/{id}", self._answer),
                web.post("/secrets/generate", self._generate),
            ]
        )
        KeyRoutes(self._calls, self._callers, self._bodies, self._answers).mount(app)

    async def _run(self, request: web.Request) -> web.StreamResponse:
        return await self._answers.send(request, await self._answer_run(request))

    async def _answer_run(self, request: web.Request) -> Answer:
        call = await self._callers.verified(request)
        is_known = await self._calls.ledger.has_account(call.caller)
        payer = Payer(call.caller, is_known)
        owner = call.caller if is_known else None
        is_task = request.path == "/tasks"
        async with self._bodies.read(request, owner=owner) as body:
            return await self._calls.run(call, payer, body, is_task=is_task)

    async def _call(self, request: web.Request) -> web.StreamResponse:
        key = await self._callers.key(request)  # before a byte of the body is read
        return await self._answers.send(
            request,
            await self._answer_call(request, key),  # without a name, which would keep a long answer
            owner=key.owner,
        )

    async def _answer_call(self, request: web.Request, key: ApiKey) -> Answer:
        for name in _REFUSED_HEADERS:
            if request.headers.get(name, "0") != "0":
                raise RunRefused("request-invalid", f"{name}: not offered by this runner")
        named = request.match_info
        compute_limit = request.headers.get(LIMIT_HEADER)
        admitted = await self._calls.admit(key, named["owner"], named["project"], compute_limit)
        async with self._bodies.read(request, owner=key.owner) as body:
            return await self._calls.call(admitted, body)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Handle a request for the result of an asynchronous program call, or for a task.

        Only the client that made the call gets the result. A task's beneficiary gets it too (TK9).
        """
        job = request.match_info["id"][:_MAX_JOB_CHARS]
        owner = None
        try:
            if KEY_HEADER in request.headers:
                key = await self._callers.key(request)
                owner = key.owner
                answer = await self._calls.answer_of(job, owner, key.nonce)
            else:
                holder = await self._callers.signer(request, f"calls/{job}")
                answer = await self._calls.answer_of(
                    job, holder, None, is_result=request.path.endswith("/result")
                )
        except RunRefused as refusal:
            # `call-start` tells the client to sign again (RN178), and reveals nothing about the
            # job. Every other refusal becomes the answer for an unknown job (RN98).
            if refusal.reason.code == "call-start":
                raise
            answer = None
        if answer is None:
            raise web.HTTPNotFound(text="There is no such call or result, or it is not yours.")
        return await self._answers.send(request, answer, owner=owner)

    async def _generate(self, request: web.Request) -> web.Response:
        authorization, _ = credentials(request)
        call = await self._callers.verified(request)
        is_known = await self._calls.ledger.has_account(call.caller)
        owner = call.caller if is_known else None
        async with self._bodies.read(
            request, most_bytes=MAX_GENERATION_BODY_BYTES, owner=owner
        ) as body:
            answer = await generate(self._runner, call, authorization, body, is_known=is_known)
            return respond(answer)

    async def _receipt(self, request: web.Request) -> web.Response:
        receipt = await self._runner.journal.receipt(request.match_info["job"][:_MAX_JOB_CHARS])
        if receipt is None:
            raise web.HTTPNotFound(text="There is no receipt of such a job.")
        return respond(Answer(200, receipt))

    async def _start(self, request: web.Request) -> web.Response:
        return respond(Answer(200, self._runner.identity.start))

    async def _info(self, request: web.Request) -> web.Response:
        most = self._runner.most
        return web.json_response(
            {
                "runner": self._runner.did,
                "start": self._runner.identity.start_hash,
                "limits": most.as_json | {"maxOutputBytes": most.max_output_bytes},
                "price": msgspec.to_builtins(self._calls.price),
            }
        )

    async def _healthy(self, request: web.Request) -> web.Response:
        return web.json_response({"ready": True})

    async def _ready(self, request: web.Request) -> web.Response:
        if self._calls.is_draining:  # RN295: a proxy sends no further calls
            return web.json_response({"ready": False}, status=503)
        return web.json_response({"ready": True})
