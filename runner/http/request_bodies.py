"""Bodies of requests, with limits on size, speed and shares (RN67, RN163).

Example:
    async with bodies.read(request, owner=key.owner) as body:
        ...  # the body counts towards the limits here
"""

import asyncio
from collections.abc import (
    AsyncIterator,
    Callable,
    Iterator,
)
from contextlib import asynccontextmanager, contextmanager

from aiohttp import ClientError, web
from aiohttp.web import RequestPayloadError

from capabilities.limits import Rates
from capabilities.principals import Principal
from serving.shares import Parts, ResourceUse
from tee_backend.backend.grant_shares import SharedPlaces

from ..calls.call_bodies import MAX_BODY_BYTES
from ..reasons import RunRefused
from ..shares import call_refusal

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

ClientOf = Callable[[web.Request], str | None]
"""Returns the client by which bodies of unknown payers are counted; None is not counted."""


class RequestBodies:
    """Reads the bodies of requests to a runner."""

    def __init__(self, client_of: ClientOf) -> None:
        self._client_of = client_of
        self._under_way = ResourceUse(call_refusal)
        self._body_bytes = ResourceUse(call_refusal)
        self._unknown_rate = Rates[None]()
        self._of_addresses = SharedPlaces(MOST_CALLS)

    @asynccontextmanager
    async def read(
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
        parts = parts_of(owner)
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
        self._body_bytes.add(parts_of(owner), size_bytes, MOST_BODY_BYTES)

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


def parts_of(owner: Principal | None) -> Parts:
    """Return the counters to increase for a request.

    Each counter has a divisor of the limit: with a divisor of 2, the counter may reach half of the
    limit. Unknown payers are counted separately, so that they cannot use up the capacity of known
    payers. One owner gets at most half of the capacity of known payers.
    """
    return {"others": 1} if owner is None else {"keys": 1, owner: 2}
