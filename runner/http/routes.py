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

import asyncio
import logging
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
)
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiohttp import ClientError, web
from aiohttp.web import RequestPayloadError

from capabilities.limits import Rates, counted_address, parsed_address
from capabilities.principals import Principal
from sealspace.apps.api_keys import KEY_HEADER, ApiKey, parse_credential
from sealspace.apps.run_calls import SIGN_IN_HEADER
from sealspace.apps.run_calls import Call as SignedCall
from sealspace.documents.published import GRANTS_PATH
from sealspace.documents.signed_statements import MAX_STATEMENT_BYTES
from sealspace.errors import InvalidInput
from sealspace.session import iso_time
from serving.shares import Parts, Payer, ResourceUse
from tee_backend.backend.grant_shares import SharedPlaces
from tee_backend.backend_errors import KeepingError

from ..calls.call_answers import Answer, answer_with, api_refused, refused
from ..calls.call_bodies import MAX_BODY_BYTES
from ..calls.calls import Calls
from ..calls.ended_calls import EndedCalls
from ..calls.generated_secrets import MAX_GENERATION_BODY_BYTES, generate
from ..calls.generated_secrets import refused as refused_generation
from ..calls.journal import RowSealer
from ..calls.kept_keys import KeptKeys
from ..calls.ledger import PIECE_BYTES, Account, Ledger
from ..calls.prices import FREE, Price
from ..calls.service import Runner
from ..reasons import REASONS, Reason, RunRefused
from ..shares import call_refusal
from .operator_routes import serving_operator

BODY_S = 10.0
"""Seconds for a body to arrive, plus one second for each `BODY_BYTES` that have arrived."""
BODY_BYTES = 128 * 1024
MOST_CALLS = 256
"""Concurrent calls of known payers, and as many of unknown ones. One owner may have half."""
MOST_BODY_BYTES = 128 * 1024 * 1024
"""Bodies of the concurrent calls of known payers, and as much of unknown ones."""
UNKNOWN_BYTES = 16 * 1024 * 1024
"""Burst of bodies that is read from unknown payers before their rate is limited (RN163)."""
UNKNOWN_BYTES_PER_S = 2 * 1024 * 1024
RETRY_AFTER_S = 5
"""Value of `Retry-After` in answers with status 429 or 503."""
ANSWER_S = 30.0
"""Seconds for a client to take an answer, plus one for each `ANSWER_BYTES` that it has taken."""
ANSWER_BYTES = 64 * 1024
MOST_ANSWER_BYTES = 64 * 1024 * 1024
"""Answers being sent to known payers, and as much to unknown ones. One owner may have half."""

# An answer up to this size is sent without being counted: socket buffers hold about as much.
_SMALL_BYTES = 64 * 1024

LIMIT_HEADER = "X-Compute-Limit"

# Features of OutLayer that this runner lacks. A call that asks for one is refused; 0 asks for none.
_REFUSED_HEADERS = ("X-Attached-Deposit", "X-Use-Owner-Secret", "X-Wallet-Id")

# Ids of jobs and nonces of API keys in URLs are untrusted, and are cut to these lengths. Real ones
# are shorter, so one that was cut is unknown.
_MAX_JOB_CHARS = 64
_MAX_NONCE_DIGITS = 16

_METHODS = {
    "/info": "GET",
    "/keys": "GET, POST",
    "/keys/{nonce}": "DELETE",
    "/secrets/generate": "POST",
    GRANTS_PATH: "POST",  # a grant is signed by its owner, for this runner's DID
    # Only for pages of the origins that the operator names (RN235).
    "/call/{owner}/{project}": "POST",
    "/calls/{id}": "GET",
    "/payment-keys/balance": "GET",
    "/payment-keys/usage": "GET",
}
"""The routes that browsers let pages of other origins call, with their methods."""
_PREFLIGHT = {
    "Access-Control-Allow-Headers": (
        f"Authorization, Content-Type, {SIGN_IN_HEADER}, {KEY_HEADER}, {LIMIT_HEADER}"
    ),
    "Access-Control-Max-Age": "600",
}
_API_PATHS = "/call/", "/calls/", "/payment-keys/", "/attestations/", "/public/"


ClientOf = Callable[[web.Request], str | None]
"""Returns the client by which bodies of unknown payers are counted; None is not counted."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
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
        for path in _METHODS:
            if origins or not path.startswith(_API_PATHS):
                app.router.add_options(path, _preflight)

        async def allow_pages(request: web.Request, response: web.StreamResponse) -> None:
            path = _route_path(request)
            allowed = "*"
            if path.startswith(_API_PATHS):
                response.headers["Vary"] = "Origin"
                allowed = request.headers.get("Origin", "")
                # a page of an origin that the operator did not name cannot read the answer (RN235)
                if allowed not in origins:
                    return
            if path in _METHODS:
                # Refusals have this header too, so that a page can show them.
                response.headers["Access-Control-Allow-Origin"] = allowed

        app.on_response_prepare.append(allow_pages)
        app.middlewares.append(_ErrorAnswers(calls.ended).answer)
        yield calls


class RunnerSurface:
    """The HTTP routes of a runner.

    They enforce limits on requests and responses.
    """

    def __init__(self, calls: Calls, client_of: ClientOf) -> None:
        self._calls = calls
        self._client_of = client_of
        self._runner = calls.runner
        self._under_way = ResourceUse(call_refusal)
        self._body_bytes = ResourceUse(call_refusal)
        self._answer_bytes = ResourceUse(call_refusal)
        self._unknown_rate = Rates[None]()
        self._of_addresses = SharedPlaces(MOST_CALLS)

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
                web.get("/payment-keys/balance", self._balance),
                web.get("/payment-keys/usage", self._usage),
                web.post("/keys", self._add_key),
                web.get("/keys", self._list_keys),
                web.delete("/keys/{nonce}", self._revoke_key),
                web.post("/secrets/generate", self._generate),
            ]
        )

    # --- calls ------------------------------------------------------------------------------------

    async def _run(self, request: web.Request) -> web.StreamResponse:
        return await self._send(request, await self._answer_run(request))

    async def _answer_run(self, request: web.Request) -> Answer:
        call = await self._verified(request)
        is_known = await self._calls.ledger.has_account(call.caller)
        payer = Payer(call.caller, is_known)
        owner = call.caller if is_known else None
        is_task = request.path == "/tasks"
        async with self._body(request, owner=owner) as body:
            return await self._calls.run(call, payer, body, is_task=is_task)

    async def _call(self, request: web.Request) -> web.StreamResponse:
        key = await self._key(request)  # before a byte of the body is read
        return await self._send(request, await self._answer_call(request, key), owner=key.owner)

    async def _answer_call(self, request: web.Request, key: ApiKey) -> Answer:
        for name in _REFUSED_HEADERS:
            if request.headers.get(name, "0") != "0":
                raise RunRefused("request-invalid", f"{name}: not offered by this runner")
        named = request.match_info
        compute_limit = request.headers.get(LIMIT_HEADER)
        admitted = await self._calls.admit(key, named["owner"], named["project"], compute_limit)
        async with self._body(request, owner=key.owner) as body:
            return await self._calls.call(admitted, body)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Handle a request for the result of an asynchronous program call, or for a task.

        Only the client that made the call gets the result. A task's beneficiary gets it too (TK9).
        """
        job = request.match_info["id"][:_MAX_JOB_CHARS]
        owner = None
        try:
            if KEY_HEADER in request.headers:
                key = await self._key(request)
                owner = key.owner
                answer = await self._calls.answer_of(job, owner, key.nonce)
            else:
                holder = await self._signer(request, f"calls/{job}")
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
        return await self._send(request, answer, owner=owner)

    async def _balance(self, request: web.Request) -> web.Response:
        key = await self._key(request)
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
        key = await self._key(request)
        self._calls.count(key)
        answer = answer_with({"usage": await self._calls.ledger.calls_of(key.owner, key.nonce)})
        return await self._send(request, answer, owner=key.owner)

    async def _add_key(self, request: web.Request) -> web.Response:
        async with self._body(request, most_bytes=MAX_STATEMENT_BYTES) as body:
            return web.json_response(_key_json(await self._calls.add_key(body)), status=201)

    async def _list_keys(self, request: web.Request) -> web.Response:
        owner = await self._signer(request, "keys")
        keys = await self._calls.keys.live_keys(owner)
        account = await self._calls.ledger.account(owner) or Account()
        return web.json_response(
            {"owner": owner, "account": account.as_json, "keys": [_key_json(key) for key in keys]}
        )

    async def _revoke_key(self, request: web.Request) -> web.Response:
        nonce = request.match_info["nonce"][:_MAX_NONCE_DIGITS]
        owner = await self._signer(request, f"keys/{nonce}/revoke")
        if re.fullmatch("[0-9]+", nonce) and await self._calls.keys.revoke(owner, int(nonce)):
            return web.json_response({"revoked": nonce})
        raise web.HTTPNotFound(text="You have no such API key here.")

    async def _key(self, request: web.Request) -> ApiKey:
        """Verify and return the API key in a request's header (RN88, RN89).

        Raises:
            RunRefused: `key-in-clear` without TLS, `key-malformed`, or `key-refused` if the key is
                unknown, has ended or was revoked, or its secret is wrong.
        """
        if not _is_confidential(request):
            raise RunRefused("key-in-clear")
        shown = request.headers.get(KEY_HEADER)
        if shown is None:
            raise RunRefused("key-refused")
        try:
            credential = parse_credential(shown)
        except InvalidInput as invalid:
            raise RunRefused("key-malformed", invalid.message) from invalid
        key = await self._calls.keys.live_key(credential.owner, credential.nonce)
        if not key.is_of(credential):
            raise RunRefused("key-refused")
        return key

    async def _verified(self, request: web.Request) -> SignedCall:
        """Verify the token of a request; it is not used yet."""
        authorization, sign_in = _credentials(request)
        return await self._runner.verify_caller(authorization, sign_in, self._client_of(request))

    async def _signer(self, request: web.Request, about: str) -> Principal:
        call = await self._verified(request)
        is_known = await self._calls.ledger.has_account(call.caller)
        return await self._runner.use_token(call, about, b"", is_known=is_known)

    async def _generate(self, request: web.Request) -> web.Response:
        authorization, _ = _credentials(request)
        call = await self._verified(request)
        is_known = await self._calls.ledger.has_account(call.caller)
        owner = call.caller if is_known else None
        async with self._body(request, most_bytes=MAX_GENERATION_BODY_BYTES, owner=owner) as body:
            answer = await generate(self._runner, call, authorization, body, is_known=is_known)
            return _respond(answer)

    # --- limits on bodies and answers -------------------------------------------------------------

    async def _send(
        self, request: web.Request, answer: Answer, *, owner: Principal | None = None
    ) -> web.StreamResponse:
        """Send a response in pieces.

        The size of the response counts towards the limits until everything is sent (RN158).

        Args:
            request: a request that has not been answered.
            answer: the answer.
            owner: owner of the request's API key; None for a request without a key.
        Raises:
            RunRefused: `answer-unsent`, or for a stored answer `runner-busy` or `too-many-calls`,
                if too many answers are being sent; nothing was sent.
            ConnectionError: the client disconnected, or was disconnected because it is too slow.
        """
        # A stored answer counts as two pieces: one is being sent while the next one is read.
        size = len(answer.body) if answer.kept is None else 2 * PIECE_BYTES
        if size <= _SMALL_BYTES or request.method == "HEAD":
            return _respond(answer)
        response = web.StreamResponse(
            status=answer.status, headers={"Content-Type": "application/json"}
        )
        response.content_length = len(answer.body) or None  # unknown for a stored answer
        begun_s = asyncio.get_running_loop().time()
        sent = 0
        is_stored = answer.kept is not None
        try:
            # If the client disconnects, an exception is raised, and a reference cycle keeps it and
            # this frame alive until the next garbage collection, on a quiet runner for hours. So
            # that the answer does not live as long, its name is deleted here, and the `with` block
            # closes its generator.
            pieces = answer.kept or _pieces(answer.body)
            del answer
            # slow clients cannot fill the memory with answers (RN158)
            with self._answer_bytes.reserve(_parts(owner), size, MOST_ANSWER_BYTES):
                async with asyncio.timeout_at(begun_s + ANSWER_S) as late, aclosing(pieces):
                    await response.prepare(request)
                    async for piece in pieces:
                        await response.write(piece)
                        sent += len(piece)
                        # a client that takes the answer steadily gets all of it (RN157)
                        late.reschedule(begun_s + ANSWER_S + sent / ANSWER_BYTES)
                    await response.write_eof()
        except RunRefused as full:
            if is_stored:
                raise
            # RN224: clients call again after `runner-busy`, but this call may have run a program
            raise RunRefused("answer-unsent") from full
        except (TimeoutError, KeepingError) as failed:
            # The answer is incomplete; a client would read the next one as its rest.
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("cannot send the rest of the response") from failed
        return response

    @asynccontextmanager
    async def _body(
        self,
        request: web.Request,
        *,
        most_bytes: int = MAX_BODY_BYTES,
        owner: Principal | None = None,
    ) -> AsyncIterator[bytes]:
        """Read a request body, with limits on size and speed (RN67).

        The request and its body count towards the limits until the block ends.

        Args:
            request: a request whose body has not been read.
            most_bytes: longest body.
            owner: the payer, if it has a key or an account; None: an unknown payer.
        Raises:
            RunRefused: `runner-busy`, `input-too-large`, `request-slow`, `request-invalid`.
        """
        parts = _parts(owner)
        body = bytearray()
        begun_s = asyncio.get_running_loop().time()
        with self._share_of_unknown(request, owner), self._under_way.reserve(parts, 1, MOST_CALLS):
            if (request.content_length or 0) > most_bytes:
                raise RunRefused("input-too-large")
            try:
                try:
                    async with asyncio.timeout(BODY_S) as late:
                        async for piece in request.content.iter_any():
                            if len(body) + len(piece) > most_bytes:
                                raise RunRefused("input-too-large")
                            self._count_bytes(owner, len(piece))
                            body += piece
                            wait_s = self._count_unknown(owner, len(piece))
                            # the pause is the runner's, so the client gets as much more time
                            begun_s += wait_s
                            late.reschedule(begun_s + BODY_S + len(body) / BODY_BYTES)
                            await asyncio.sleep(wait_s)
                except TimeoutError as slow:
                    raise RunRefused("request-slow") from slow
                except (ClientError, ConnectionError, RequestPayloadError) as gone:
                    # The client has disconnected, so nothing will read this answer.
                    raise RunRefused("request-invalid") from gone
                yield bytes(body)
            finally:
                self._body_bytes.add(parts, -len(body))

    def _count_bytes(self, owner: Principal | None, size_bytes: int) -> None:
        """Count bytes of a body that arrive (RN67).

        An owner leaves as many bytes free as it uses, so a few long bodies do not refuse the short
        ones of all others.

        Raises:
            RunRefused: `too-many-calls` or `runner-busy` if too few bytes are left.
        """
        if owner is not None:
            self._body_bytes.require_left(owner, "keys", size_bytes, MOST_BODY_BYTES)
        self._body_bytes.add(_parts(owner), size_bytes, MOST_BODY_BYTES)

    @contextmanager
    def _share_of_unknown(self, request: web.Request, owner: Principal | None) -> Iterator[None]:
        """Count a body of an unknown payer by its address, until the `with` block ends (RN67).

        Each address leaves as many places as it uses. Without that, slow bodies of one address
        would take the places of all unknown payers.

        Raises:
            RunRefused: `runner-busy` if too few places are left.
        """
        client = self._client_of(request)
        if owner is not None or client is None:
            yield
            return
        with self._of_addresses.reserve(client) as has_place:
            if not has_place:
                raise RunRefused("runner-busy")
            yield

    def _count_unknown(self, owner: Principal | None, size_bytes: int) -> float:
        """Count bytes that an unknown payer sent, and return the pause before reading more (RN163).

        The pause is in seconds, and 0 for a known payer, whose bytes are not counted here.

        Raises:
            RunRefused: `runner-busy` if the pause would be too long.
        """
        if owner is not None:
            return 0.0
        now = asyncio.get_running_loop().time()
        self._unknown_rate.add(None, size_bytes, per_s=UNKNOWN_BYTES_PER_S, now=now)
        recent_bytes = self._unknown_rate.spent(None, per_s=UNKNOWN_BYTES_PER_S, now=now)
        excess_bytes = max(recent_bytes - UNKNOWN_BYTES, 0.0)
        wait_s = excess_bytes / UNKNOWN_BYTES_PER_S
        if wait_s > BODY_S:
            raise RunRefused("runner-busy")
        return wait_s

    # --- public information -----------------------------------------------------------------------

    async def _receipt(self, request: web.Request) -> web.Response:
        receipt = await self._runner.journal.receipt(request.match_info["job"][:_MAX_JOB_CHARS])
        if receipt is None:
            raise web.HTTPNotFound(text="There is no receipt of such a job.")
        return _respond(Answer(200, receipt))

    async def _start(self, request: web.Request) -> web.Response:
        return _respond(Answer(200, self._runner.identity.start))

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


def _parts(owner: Principal | None) -> Parts:
    """Return the counters to increase for a request.

    Each counter has a divisor of the limit: with a divisor of 2, the counter may reach half of the
    limit. Unknown payers are counted separately, so that they cannot use up the capacity of known
    payers. One owner gets at most half of the capacity of known payers.
    """
    return {"others": 1} if owner is None else {"keys": 1, owner: 2}


async def _pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


@dataclass(eq=False)
class _ErrorAnswers:
    """A middleware that converts exceptions to responses in the format of the route.

    Refused requests are counted.
    """

    ended: EndedCalls

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        refuse = _refusal_format(request)
        try:
            return await handler(request)
        except RunRefused as refusal:
            self.ended.refusals[refusal.reason.code] += 1
            return _respond(refuse(refusal.reason))
        except KeepingError as error:
            self.ended.refusals["runner-failed"] += 1
            _log.error("a request failed: %s", error.message)
            return _respond(refuse(REASONS["runner-failed"]))
        except web.HTTPException as error:
            # Raised by the handlers, and by aiohttp for a path or method that is not offered
            # (RN231).
            code = error.reason.lower().replace(" ", "-")
            reason = Reason(code=code, sentence=error.text or "", status=error.status)
            error.body = refuse(reason).body
            error.content_type = "application/json"
            raise


def _refusal_format(request: web.Request) -> Callable[[Reason], Answer]:
    """Return the function that writes a refusal in the format of a request's route.

    OutLayer's clients read refusals in a format of their own (RN231).
    """
    path = request.path
    if path == "/secrets/generate":
        return refused_generation
    if not path.startswith(_API_PATHS):
        return refused
    # OutLayer's clients ask for an answer with an API key, the runner's own ones with a token.
    if path.startswith("/calls/") and KEY_HEADER not in request.headers:
        return refused
    return api_refused


def _respond(answer: Answer) -> web.Response:
    headers = {}
    if answer.status in (429, 503):
        # RN158, RN163: without this header many clients would retry at once.
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return web.Response(
        status=answer.status, body=answer.body, headers=headers, content_type="application/json"
    )


def _credentials(request: web.Request) -> tuple[str | None, str | None]:
    """Return the credentials from the headers of a request.

    They are a token and a wallet sign-in.
    """
    return request.headers.get("Authorization"), request.headers.get(SIGN_IN_HEADER)


def _key_json(key: ApiKey) -> Mapping[str, object]:
    return {
        "owner": key.owner,
        "nonce": key.nonce,
        "projects": ["*"] if key.projects is None else [one.text for one in key.projects],
        "profiles": list(key.profiles),
        "maxPerCall": str(key.max_per_call),
        "expires": iso_time(key.expires_at),
    }


def _is_confidential(request: web.Request) -> bool:
    """Return whether a request's connection is safe from eavesdroppers (RN88).

    It is if it is local or encrypted. TLS counts only if this process terminates it.
    """
    transport = request.transport
    if transport is None:
        return False
    if transport.get_extra_info("sslcontext") is not None:
        return True
    peername = transport.get_extra_info("peername")
    if not peername:  # unknown, for example because the client has disconnected
        return False
    address, *_ = peername
    peer = parsed_address(address)
    return peer is not None and peer.is_loopback


async def _preflight(request: web.Request) -> web.Response:
    """Respond to a browser's CORS preflight request."""
    methods = {"Access-Control-Allow-Methods": _METHODS[_route_path(request)]}
    return web.Response(status=204, headers=_PREFLIGHT | methods)


def _route_path(request: web.Request) -> str:
    """Return the path pattern of a request's route.

    The route of grants has the pattern of a whole folder, so it is told by the request's own path.
    """
    if request.path == GRANTS_PATH:
        return GRANTS_PATH
    resource = request.match_info.route.resource
    return "" if resource is None else resource.canonical
