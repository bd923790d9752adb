"""The HTTP surface of a runner (RN67).

    POST /run               a call: see `call_bodies`; `Authorization` and `Sealspace-Sign-In` say who calls
    GET  /receipts/{job}    the receipt of a run, also under /attestations/{job}
    GET  /start             the start document: what receipts are verified with
    GET  /info              DID, limits, version
    GET  /healthz, /readyz
    …    /.well-known/sealspace/backend…   evidence and grants, as every backend publishes them

TLS ends inside the trust domain, before this surface or in it.

Example:
    app = web.Application()
    RunnerSurface(runner).mount(app)
"""

import asyncio
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aiohttp import ClientError, web
from aiohttp.web import RequestPayloadError

from sealspace.run_calls import SIGN_IN_HEADER
from tee_backend.errors import KeepingError

from .call_bodies import MAX_BODY_BYTES
from .reasons import REASONS, RunRefused
from .runs import Limits
from .service import RunAnswer, Runner

BODY_S: Final = 60.0
"""Seconds in which a body has to arrive."""
MOST_CALLS: Final = 256
"""Calls under way; beyond that they are answered 503."""
MOST_BODY_BYTES: Final = 256 * 1024 * 1024
"""Bodies of all calls under way together; beyond that they are answered 503."""

# Where nothing ran; a run that failed is an answer like any other.
_STATUS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "call-refused": 401,
        "request-slow": 408,
        "call-repeated": 409,
        "access-denied": 403,
        "access-unknown": 403,
        "secrets-not-granted": 403,
        "secret-missing": 403,
        "secret-refused": 403,
        "secret-unreadable": 503,
        "program-unknown": 404,
        "program-statement": 409,
        "program-older": 409,
        "input-too-large": 413,
        "node-unavailable": 503,
        "runner-busy": 503,
        "runner-closed": 503,
        "runner-failed": 503,
    }
)


class RunnerSurface:
    """Answers for one runner.

    Args:
        runner: that judges and runs.
        limits: that it allows.
    """

    def __init__(self, runner: Runner, limits: Limits) -> None:
        self._runner = runner
        self._limits = limits
        self._under_way = self._body_bytes = 0

    def mount(self, app: web.Application) -> None:
        """Add the routes to an application whose server does not decompress bodies."""
        app.router.add_post("/run", self._run)
        app.router.add_get("/receipts/{job}", self._receipt)
        app.router.add_get("/attestations/{job}", self._receipt)
        app.router.add_get("/start", self._start)
        app.router.add_get("/info", self._info)
        app.router.add_get("/healthz", self._healthy)
        app.router.add_get("/readyz", self._healthy)

    async def _run(self, request: web.Request) -> web.Response:
        if self._under_way >= MOST_CALLS:
            return _refused("runner-busy")
        self._under_way += 1
        body = bytearray()
        try:
            await self._read(request, body)
            answer = await self._runner.run(
                request.headers.get("Authorization"), request.headers.get(SIGN_IN_HEADER), bytes(body)
            )
        except RunRefused as refused:
            return _refused(refused.reason.code)
        except KeepingError:
            return _refused("runner-failed")
        finally:
            self._under_way -= 1
            self._body_bytes -= len(body)
        return web.Response(status=_status(answer), body=answer.body, content_type="application/json")

    async def _read(self, request: web.Request, body: bytearray) -> None:
        """Read a body within its bound, and within that of all bodies together."""
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise RunRefused("input-too-large")
        try:
            async with asyncio.timeout(BODY_S):
                async for piece in request.content.iter_any():
                    body += piece
                    self._body_bytes += len(piece)
                    if len(body) > MAX_BODY_BYTES:
                        raise RunRefused("input-too-large")
                    if self._body_bytes > MOST_BODY_BYTES:
                        raise RunRefused("runner-busy")
        except TimeoutError as slow:
            raise RunRefused("request-slow") from slow
        except (ClientError, ConnectionError, RequestPayloadError) as gone:  # nobody is there to be answered
            raise RunRefused("request-invalid") from gone

    async def _receipt(self, request: web.Request) -> web.Response:
        try:
            receipt = await self._runner.receipt(request.match_info["job"][:64])
        except KeepingError:
            return _refused("runner-failed")
        if receipt is None:
            return _json({"error": {"code": "not-found", "message": "There is no receipt of such a job."}}, 404)
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
        return _json({"runner": self._runner.did, "limits": limits}, 200)

    async def _healthy(self, request: web.Request) -> web.Response:
        return _json({"ready": True}, 200)


def _status(answer: RunAnswer) -> int:
    return 200 if answer.code is None or answer.ran else _STATUS.get(answer.code, 400)


def _refused(code: str) -> web.Response:
    error = {"code": code, "message": REASONS[code].sentence}
    return _json({"status": "refused", "error": error}, _STATUS.get(code, 400))


def _json(value: Mapping[str, object], status: int) -> web.Response:
    return web.Response(status=status, text=json.dumps(value), content_type="application/json")
