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

from aiohttp import web

from sealspace.run_calls import SIGN_IN_HEADER
from tee_backend.errors import KeepingError

from .call_bodies import MAX_BODY_BYTES
from .runs import Limits
from .service import RunAnswer, Runner

BODY_S: Final = 60.0
"""Seconds in which a body has to arrive."""
MOST_CALLS: Final = 256
"""Calls under way, their bodies in memory; beyond that they are answered 503."""

# Where nothing ran; a run that failed is an answer like any other.
_STATUS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "call-refused": 401,
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
        self._under_way = 0

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
            return _json({"status": "refused", "error": {"code": "runner-busy"}}, 503)
        self._under_way += 1
        try:
            body = await _body_of(request)
            if body is None:
                return _json({"status": "refused", "error": {"code": "input-too-large"}}, 413)
            answer = await self._runner.run(
                request.headers.get("Authorization"), request.headers.get(SIGN_IN_HEADER), body
            )
        except KeepingError:
            return _json({"status": "refused", "error": {"code": "runner-failed"}}, 503)
        except TimeoutError:
            return _json({"status": "refused", "error": {"code": "too-slow"}}, 408)
        finally:
            self._under_way -= 1
        return web.Response(status=_status(answer), body=answer.body, content_type="application/json")

    async def _receipt(self, request: web.Request) -> web.Response:
        try:
            receipt = await self._runner.receipt(request.match_info["job"][:64])
        except KeepingError:
            return _json({"error": {"code": "runner-failed"}}, 503)
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


async def _body_of(request: web.Request) -> bytes | None:
    """Read a body within its bound; None where it is longer."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        return None
    read = bytearray()
    async with asyncio.timeout(BODY_S):
        async for piece in request.content.iter_any():
            read += piece
            if len(read) > MAX_BODY_BYTES:
                return None
    return bytes(read)


def _status(answer: RunAnswer) -> int:
    return 200 if answer.code is None or answer.ran else _STATUS.get(answer.code, 400)


def _json(value: Mapping[str, object], status: int) -> web.Response:
    return web.Response(status=status, text=json.dumps(value), content_type="application/json")
