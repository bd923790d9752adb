"""A relay between a client and a node that may change answers.

Example:
    async with relay_before(node.url) as relay:
        relay.twist = lambda answer: answer.change(state="revoked")
        client = Client(relay.url)
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import CIMultiDict
from yarl import URL

_PASSED_BACK = (
    "content-type",
    "etag",
    "last-modified",
    "x-tinycloud-truncated",
    "x-tinycloud-next-cursor",
    "x-sealspace-version",
)
_METADATA_PREFIX = "x-tinycloud-meta-"

_HEADER_BYTES = 384 * 1024


@dataclass
class Answer:
    """A node's answer, which can be changed, and its request.

    Attributes:
        path, query: of the request.
        asked: the request's body.
    """

    path: str
    query: str
    asked: bytes
    status: int
    headers: CIMultiDict[str]
    body: bytes

    def drop(self, member: str) -> None:
        """Remove a member of the JSON object."""
        value = json.loads(self.body)
        value.pop(member, None)
        self.body = json.dumps(value).encode()

    def change(self, **members: Any) -> None:
        """Change members of the JSON object, or of the descriptor in it."""
        value = json.loads(self.body)
        value.get("descriptor", value).update(members)
        self.body = json.dumps(value).encode()


class Relay:
    """A relay that forwards requests to a node, and returns answers as changed by `twist`.

    Attributes:
        url: where clients find it.
        twist: changes an answer.
        hold: awaited before a request is passed on.
    """

    def __init__(self, target: str) -> None:
        self.url = ""
        self.twist: Callable[[Answer], None] = lambda answer: None
        self.hold: Callable[[web.Request], Awaitable[None]] = _at_once
        self._target = target

    async def handle(self, request: web.Request) -> web.Response:
        """Pass on one request."""
        await self.hold(request)
        headers = CIMultiDict(request.headers)
        headers.pop("Host")
        address = URL(self._target + request.raw_path, encoded=True)
        asked = await request.read()
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, address, headers=headers, data=asked) as passed,
        ):
            kept = CIMultiDict(
                {
                    name: value
                    for name, value in passed.headers.items()
                    if name.lower() in _PASSED_BACK or name.lower().startswith(_METADATA_PREFIX)
                }
            )
            answer = Answer(
                request.path, request.query_string, asked, passed.status, kept, await passed.read()
            )
        self.twist(answer)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


async def _at_once(_: web.Request) -> None:
    """Return at once: the default delays no request."""


@asynccontextmanager
async def relay_before(target: str, *, port: int | None = None) -> AsyncIterator[Relay]:
    """Run a relay in front of a node until the block ends.

    `port` is where it listens, so that a relay can come back; None: any free port.
    """
    relay, app = Relay(target), web.Application()
    app.router.add_route("*", "/{path:.*}", relay.handle)
    server = TestServer(app, port=port)
    # as long as the header lines that a node accepts
    await server.start_server(max_line_size=_HEADER_BYTES, max_field_size=_HEADER_BYTES)
    try:
        relay.url = str(server.make_url("")).rstrip("/")
        yield relay
    finally:
        await server.close()
