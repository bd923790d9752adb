"""Requests to a node that may be anything: every answer is bounded in size and time."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO

import aiohttp
from yarl import URL

from sealspace_conformance.encodings import b64

TIMEOUT_S = 10.0
MOST_BYTES = 4 * 1024 * 1024
_MOST_JSON = 1024 * 1024
_CHUNK = 64 * 1024


def parsed(data: bytes) -> Any:
    """Return foreign JSON; None if it is not JSON, or is too large to be an answer."""
    if len(data) > _MOST_JSON:
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


@dataclass(frozen=True)
class Answer:
    """The answer of a node, or the reason why there is none.

    Attributes:
        status: the HTTP status; 0 without an answer.
        headers: the headers by their names in lower case; of a repeated one the first.
        body: the body.
        failure: why there is no answer; empty otherwise.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    failure: str = ""

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        """The body as JSON; None if it is not JSON."""
        return parsed(self.body)

    @property
    def object(self) -> dict[str, Any]:
        """The body as a JSON object; empty if it is not one."""
        value = self.json
        return value if isinstance(value, dict) else {}


class Node:
    """A node at an address.

    Attributes:
        url: the address.
        record: is written a line of JSON for each exchange; None: nothing is recorded.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self.record: TextIO | None = None
        self._session = session
        self._timeout_s = timeout_s

    async def send(
        self,
        method: str,
        path: str,
        *,
        token: str = "",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request. No header is added but `Accept` and what HTTP needs.

        A path may come from the node. One that does not begin with a slash could name another
        host behind the address (`@host`), so no request is made.
        """
        if not path.startswith("/"):
            return Answer(failure="the node gave an address that is not a path")
        sent = dict(headers or {})
        if token:
            sent["Authorization"] = token
        answer = await self._bounded(method, path, sent, body)
        if self.record is not None:
            line = {
                "request": {
                    "method": method,
                    "path": path,
                    "headers": sent,
                    "body": b64(body or b""),
                },
                "answer": {
                    "status": answer.status,
                    "headers": dict(answer.headers),
                    "body": b64(answer.body),
                    "failure": answer.failure,
                },
            }
            self.record.write(json.dumps(line) + "\n")
        return answer

    async def _bounded(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._exchange(method, path, headers, body)
        except TimeoutError:
            return Answer(failure=f"no complete answer within {self._timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(failure=f"no usable answer: {type(error).__name__}")

    async def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        skipped = ("Content-Type", "User-Agent", "Accept-Encoding")
        async with self._session.request(
            method,
            URL(self.url + path, encoded=True),
            headers=headers,
            data=body,
            skip_auto_headers=[name for name in skipped if name not in headers],
            allow_redirects=False,
        ) as answer:
            named: dict[str, str] = {}
            for name, value in answer.headers.items():
                named.setdefault(name.lower(), value)
            received = bytearray()
            async for chunk in answer.content.iter_chunked(_CHUNK):
                received += chunk
                if len(received) > MOST_BYTES:
                    return Answer(failure=f"an answer of more than {MOST_BYTES} bytes")
            return Answer(answer.status, named, bytes(received))


@asynccontextmanager
async def node_at(url: str, *, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Node]:
    """Yield the node at an address, for as long as the block runs."""
    # A connection of its own for each request: a reused one may be closed just then, and a
    # request that uses up a token cannot be sent again.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None),
    ) as session:
        yield Node(url, session, timeout_s)
