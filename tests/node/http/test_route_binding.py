"""Tests of the binding of routes: JSON routes, limited bodies, untyped answers and draining."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
from aiohttp import web
from patience import AT_ONCE_S

from node.cohort import Cohort
from node.config.tree import Http
from node.http.app import set_headers
from node.http.listener import Listener, start_listener
from node.http.messages.http_answers import WholeAnswer, json_answer
from node.http.messages.http_requests import json_body, limited_body
from node.http.messages.route import Handler, RequestBody, Route, bind
from node.refusal import Refusal
from sealspace.service.listening_socket import bind_socket, url_of

LIMIT_BYTES = 1000


class Question(msgspec.Struct):
    """A body with one member."""

    cid: str


class Serving:
    """A listener with a few routes."""

    def __init__(self) -> None:
        self.url = ""
        self.listener: Listener
        self.session: aiohttp.ClientSession

    async def start(self, *routes: Route, drain_s: float = 5) -> None:
        app = web.Application()
        for route in routes:
            app.router.add_route(route.method, route.path, bind(route, Cohort()))
        app.on_response_prepare.append(set_headers(Http()))
        bound = bind_socket("127.0.0.1", 0)
        self.url = url_of(bound)
        self.listener = await start_listener(app, bound, Http(drain_s=drain_s))

    async def post(
        self,
        path: str,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        chunked: bool | None = None,
    ) -> tuple[int, str, bytes]:
        url, skip = self.url + path, ("Content-Type",)
        async with self.session.post(
            url, data=body, headers=headers, skip_auto_headers=skip, chunked=chunked
        ) as answer:
            return answer.status, answer.headers.get("Content-Type", ""), await answer.read()


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    """An empty listener, closed at the end."""
    it = Serving()
    async with aiohttp.ClientSession() as it.session:
        yield it
    await it.listener.stop()


async def _read_question(request: web.Request) -> web.Response:
    return json_answer(await json_body(request, Question, max_bytes=LIMIT_BYTES))


async def _read_bytes(request: web.Request) -> web.Response:
    return WholeAnswer(await limited_body(request, max_bytes=LIMIT_BYTES), headers={"ETag": '"x"'})


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (JSON, b'{"cid":"x"}', 200),
        ({"Content-Type": "Application/JSON ; charset=utf-8"}, b'{"cid":"x","more":1}', 200),
        ({}, b'{"cid":"x"}', 404),
        ({"Content-Type": "text/plain"}, b'{"cid":"x"}', 404),
        ({"Content-Type": "application/vnd.x+json"}, b'{"cid":"x"}', 404),
        (JSON, b"", 400),
        (JSON, b"{", 400),
        (JSON, b'{"cid":"\xff"}', 400),
        (JSON, b"[" * 900, 400),
        (JSON, b'["x"]', 422),
        (JSON, b"{}", 422),
        (JSON, b'{"cid":1}', 422),
        (JSON, b'{"cid":"' + b"a" * LIMIT_BYTES + b'"}', 413),
    ],
)
async def test_json_routes(
    serving: Serving, headers: dict[str, str], body: bytes, status: int
) -> None:
    """A JSON route needs its content type; unreadable, wrong and too large bodies differ (H4,
    H5)."""
    await serving.start(Route("POST", "/json", _read_question, takes=RequestBody(None, dict)))
    got, kind, _ = await serving.post("/json", body, headers)
    assert got == status
    assert kind.startswith("application/json" if status == 200 else "application/problem+json")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("size_bytes", "status"), [(0, 200), (LIMIT_BYTES, 200), (LIMIT_BYTES + 1, 413)]
)
async def test_bodies_are_bounded(
    serving: Serving, chunked: bool, size_bytes: int, status: int
) -> None:
    """A body is limited whether or not its length was announced."""
    await serving.start(Route("POST", "/bytes", _read_bytes))
    assert (await serving.post("/bytes", b"a" * size_bytes, chunked=chunked or None))[0] == status


async def test_bodies_stay_packed(serving: Serving) -> None:
    """The route reads a body with Content-Encoding without decompressing it."""
    await serving.start(Route("POST", "/bytes", _read_bytes))
    status, _, body = await serving.post("/bytes", b"not gzip at all", {"Content-Encoding": "gzip"})
    assert (status, body) == (200, b"not gzip at all")


async def test_a_value_without_type_has_none(serving: Serving) -> None:
    """A value stored without a content type is answered without one (J7)."""
    await serving.start(Route("POST", "/bytes", _read_bytes))
    status, kind, body = await serving.post("/bytes", b"hello")
    assert status == 200
    assert kind == ""
    assert body == b"hello"


def _failing(error: Exception) -> Handler:
    async def fail(_request: web.Request) -> web.StreamResponse:
        raise error

    return fail


async def test_the_surface_decides_the_form(serving: Serving) -> None:
    """The same error is text on the wire surface and problem+json on our own."""
    await serving.start(
        Route("POST", "/wire", _failing(Refusal("too-many-requests", retry_after_s=3))),
        Route(
            "POST", "/own", _failing(Refusal("too-many-requests", retry_after_s=3)), surface="own"
        ),
        Route("POST", "/text", _failing(Refusal("space-not-found"))),
    )
    assert (await serving.post("/wire", b""))[:2] == (429, "text/plain; charset=utf-8")
    assert (await serving.post("/own", b""))[:2] == (429, "application/problem+json")
    assert await serving.post("/text", b"") == (
        404,
        "text/plain; charset=utf-8",
        b"Space not found",
    )


def _waiting(started: asyncio.Event, released: asyncio.Event) -> Handler:
    async def wait(_request: web.Request) -> web.StreamResponse:
        started.set()
        await released.wait()
        return json_answer("done")

    return wait


async def test_requests_under_way_finish(serving: Serving) -> None:
    """Stopping refuses new connections and lets running requests finish."""
    started, released = asyncio.Event(), asyncio.Event()
    await serving.start(Route("POST", "/slow", _waiting(started, released)))
    answer = asyncio.create_task(serving.post("/slow", b""))
    await started.wait()
    stopping = asyncio.create_task(serving.listener.stop())
    await asyncio.sleep(0)
    port = int(serving.url.rpartition(":")[2])
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    released.set()
    assert await answer == (200, "application/json", b'"done"')
    await stopping


async def test_draining_has_an_end(serving: Serving) -> None:
    """A request that does not finish within the drain limit is aborted."""
    started = asyncio.Event()
    await serving.start(Route("POST", "/slow", _waiting(started, asyncio.Event())), drain_s=0.1)
    answer = asyncio.create_task(serving.post("/slow", b""))
    await started.wait()
    await asyncio.wait_for(serving.listener.stop(), AT_ONCE_S)
    with pytest.raises(aiohttp.ClientError):
        await answer


async def test_idle_connections_do_not_hold_up_a_stop(serving: Serving) -> None:
    """An idle persistent connection is closed at once."""
    await serving.start(Route("POST", "/bytes", _read_bytes), drain_s=3600)
    await serving.post("/bytes", b"a")
    await asyncio.wait_for(serving.listener.stop(), AT_ONCE_S)
