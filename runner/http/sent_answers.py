"""Answers of a runner as they are sent, and the forms of its refusals (RN157, RN158, RN231).

Example:
    return await answers.send(request, answer, owner=key.owner)
"""

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
)
from contextlib import aclosing
from dataclasses import dataclass

from aiohttp import web

from capabilities.principals import Principal
from sealspace.apps.api_keys import KEY_HEADER
from serving.shares import ResourceUse
from tee_backend.backend_errors import KeepingError

from ..calls.call_answers import Answer, api_refused, refused
from ..calls.ended_calls import EndedCalls
from ..calls.generated_secrets import refused as refused_generation
from ..calls.ledger import PIECE_BYTES
from ..reasons import REASONS, Reason, RunRefused
from ..shares import call_refusal
from .browsers import API_PATHS
from .request_bodies import parts_of

RETRY_AFTER_S = 5
"""Value of `Retry-After` in answers with status 429 or 503."""
ANSWER_S = 30.0
"""Seconds for a client to take an answer, plus one for each `ANSWER_BYTES` that it has taken."""
ANSWER_BYTES = 64 * 1024
MOST_ANSWER_BYTES = 64 * 1024 * 1024
"""Answers being sent to known payers, and as much to unknown ones. One owner may have half."""

# An answer up to this size is sent without being counted: socket buffers hold about as much.
_SMALL_BYTES = 64 * 1024


_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SentAnswers:
    """Sends long answers in pieces, within limits that all callers share."""

    def __init__(self) -> None:
        self._answer_bytes = ResourceUse(call_refusal)

    async def send(
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
            return respond(answer)
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
            with self._answer_bytes.reserve(parts_of(owner), size, MOST_ANSWER_BYTES):
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


async def _pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


def respond(answer: Answer) -> web.Response:
    """Return the response with an answer that is sent at once."""
    headers = {}
    if answer.status in (429, 503):
        # RN158, RN163: without this header many clients would retry at once.
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return web.Response(
        status=answer.status, body=answer.body, headers=headers, content_type="application/json"
    )


@dataclass(eq=False)
class ErrorAnswers:
    """A middleware that converts exceptions to responses in the format of the route.

    Refused requests are counted.
    """

    ended: EndedCalls

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle a request, and answer what it raises."""
        refuse = _refusal_format(request)
        try:
            return await handler(request)
        except RunRefused as refusal:
            self.ended.refusals[refusal.reason.code] += 1
            return respond(refuse(refusal.reason))
        except KeepingError as error:
            self.ended.refusals["runner-failed"] += 1
            _log.error("a request failed: %s", error.message)
            return respond(refuse(REASONS["runner-failed"]))
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
    if not path.startswith(API_PATHS):
        return refused
    # OutLayer's clients ask for an answer with an API key, the runner's own ones with a token.
    if path.startswith("/calls/") and KEY_HEADER not in request.headers:
        return refused
    return api_refused
