"""Tests of the request log, which has one line per request and no credentials."""

import asyncio
import io
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conformance.minting import key_token
from embedded_node import embedded_node
from engines import store_at
from patience import PATIENCE_S, until
from running_node import Reply
from serving_node import Serve, Serving

from node.config.checks import refuse_contradictions
from node.config.tree import Config, Http, Log, PublicSpaces, RequestLines
from node.http.routes.route_table import ROUTES, SERVED
from node.logs import configure_logs
from sealspace.service.command_errors import ConfigurationError

CANARIES = {
    kind: f"canary{kind}Zm9v"
    for kind in ("path", "query", "header", "token", "body", "form", "method", "proxy")
}
FIELDS = {
    *(
        "event",
        "level",
        "timestamp",
        "request_id",
        "method",
        "route",
        "path",
        "operation",
        "status",
        "code",
    ),
    *("duration_ms", "request_bytes", "response_bytes", "client"),
}


class Lines:
    """The log lines written from now on."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        configure_logs("info", stream=self.stream)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def of_requests(self) -> list[dict[str, Any]]:
        """Return the lines of requests, oldest first."""
        found = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in found if line["event"] == "request"]


@pytest.fixture
def lines() -> Lines:
    """The log, in memory."""
    return Lines()


def logging_as(mode: RequestLines, **http: Any) -> dict[str, object]:
    return {"http": Http(port=0, drain_s=0, **http), "log": Log(requests=mode)}


@asynccontextmanager
async def hashed(serve: Serve) -> AsyncIterator[Serving]:
    async with serve(**logging_as("hashed")) as node:
        yield node


async def test_nothing_is_logged_by_default(serve: Serve, lines: Lines) -> None:
    """Without the setting, requests leave no lines."""
    async with serve() as node:
        await node.put("a", b"value")
        assert (await node.send("GET", "/nothing")).status == 404
    assert lines.of_requests() == []


async def test_CF13_a_wait_is_no_part_of_the_duration(serve: Serve, lines: Lines) -> None:
    """The duration of a call that waited for a change is that of its work alone."""
    async with hashed(serve) as node:

        async def sync(cursor: str = "") -> Reply:
            token = node.token({node.kv("notes"): ["tinycloud.kv/sync"]})
            if not cursor:
                return await node.send("POST", "/invoke", token=token)
            return await node.send(
                "POST", "/invoke", token=token, prefer="wait=60", x_tinycloud_cursor=cursor
            )

        await node.put("notes/a", b"1")
        window_s = 0.5
        waited_s = rest_s = 0.0
        # The test can tell only if the wait is longer than everything else that the call takes.
        while waited_s <= rest_s:
            cursor = json.loads((await sync()).body)["cursor"]
            began = time.monotonic()
            call = asyncio.create_task(sync(cursor))
            await until(lambda: node.node.services.waits.taken == 1)
            waits = time.monotonic()
            while time.monotonic() < waits + window_s:
                await node.put("elsewhere", b"1")
            waited_s = time.monotonic() - waits
            await node.put("notes/a", b"1")
            assert (await call).headers["preference-applied"] == "wait=60"
            rest_s = time.monotonic() - began - waited_s
            window_s *= 2
    line = next(one for one in reversed(lines.of_requests()) if one["operation"] == "kv_sync")
    assert line["duration_ms"] / 1000 <= rest_s < waited_s


async def test_a_line_for_each_request(serve: Serve, lines: Lines) -> None:
    """A line has exactly route, operation, status, code, sizes and trace id of its answer."""
    async with hashed(serve) as node:
        put = await node.put("a", b"value", name="public")
        got = await node.send("GET", f"/public/{node.space('public')}/kv/a")
        none = await node.send("GET", f"/public/{node.space('public')}/kv/b?q=1")
        head = await node.send("HEAD", "/info")
    replies = (put, got, none, head)
    found = lines.of_requests()
    assert [{*line} for line in found] == [FIELDS] * 4
    assert [line["request_id"] for line in found] == [
        reply.headers["tinycloud-trace-id"] for reply in replies
    ]
    key = "/public/{space}/kv/{key}"
    shown = ("method", "route", "operation", "status", "code", "request_bytes", "response_bytes")
    assert [tuple(line[name] for name in shown) for line in found] == [
        ("POST", "/invoke", "kv_put", 200, None, 5, 0),
        ("GET", key, "public", 200, None, 0, 5),
        ("GET", key, "public", 404, "no-value", 0, len(none.body)),
        ("HEAD", "/info", "other", 200, None, 0, 0),
    ]
    assert all(0 < line["duration_ms"] < 60_000 for line in found)
    assert all(
        re.fullmatch("[0-9a-f]{24}", line[name]) for line in found for name in ("path", "client")
    )
    assert (
        len({line["client"] for line in found}) == 1 and len({line["path"] for line in found}) == 4
    )


async def test_hashes_outlive_a_start_and_differ_between_nodes(
    tmp_path: Path, lines: Lines
) -> None:
    """Hashes stay equal across restarts, but cannot be computed without the root secret."""
    for folder in ("one", "one", "other"):
        config = Config(store=store_at(tmp_path / folder), **logging_as("hashed"))  # type: ignore[arg-type]  # by name
        async with embedded_node(config) as node, aiohttp.ClientSession() as session:
            await session.get(f"{node.url}/nothing")
    first, again, other = lines.of_requests()
    for name in ("path", "client"):
        assert first[name] == again[name] != other[name]


async def test_plain_lines_show_paths_and_addresses(serve: Serve, lines: Lines) -> None:
    """Mode `plain` shows the client and the path without query, but no possible credential."""
    async with serve(**logging_as("plain")) as node:
        path = f"/public/{node.space('public')}/kv/a"
        await node.send("GET", f"{path}?q={CANARIES['query']}")
        await node.send("GET", f"/signed/kv/{CANARIES['token']}")
        await node.send("GET", f"/signed//kv/{CANARIES['token']}")
        await node.send("OPTIONS", f"/{CANARIES['token']}")
        await node.send("GET", f"/peer/generate/{'x' * 5000}")
    shown, *hidden, long = lines.of_requests()
    assert shown["path"] == path
    assert shown["client"] == "127.0.0.1"
    assert [line["route"] for line in hidden] == ["/signed/kv/{ticket}", "/{path}", "/{path}"]
    assert all(re.fullmatch("[0-9a-f]{24}", line["path"]) for line in hidden)
    assert 1024 == len(long["path"])
    assert not [canary for canary in CANARIES.values() if canary in lines.text]


@pytest.mark.parametrize("mode", ["hashed", "plain"])
async def test_no_line_has_what_was_sent(serve: Serve, lines: Lines, mode: RequestLines) -> None:
    """Canaries in every part of requests to every route appear in no line, except paths in
    `plain`."""
    sections = logging_as(mode, trusted_proxies=("127.0.0.1",))
    headers = {
        "X-Canary": CANARIES["header"],
        "If-Match": CANARIES["header"],
        "Cookie": CANARIES["header"],
        "X-Forwarded-For": CANARIES["proxy"],
    }
    count = 0
    async with serve(**sections, public_spaces=PublicSpaces(requests_per_minute=0)) as node:
        for route in SERVED:
            method = "PURGE" if route.method == "*" else route.method
            for token in (CANARIES["token"], f"Bearer {CANARIES['token']}", signed(node)):
                path = re.sub(r"\{[^}]*\}", CANARIES["path"], route.path)
                body = json.dumps({"cid": CANARIES["body"], "did": CANARIES["body"]}).encode()
                target = f"{path}?nonce={CANARIES['query']}&after={CANARIES['query']}"
                await node.send(
                    method,
                    target,
                    token=token,
                    body=body,
                    content_type="application/json",
                    **headers,
                )
                count += 1
    found = lines.of_requests()
    assert len(found) == count
    allowed = {"path"} if mode == "plain" else set()
    assert allowed == {kind for kind, canary in CANARIES.items() if canary in lines.text}
    assert not [line for line in found if CANARIES["path"] in json.dumps({**line, "path": ""})]
    assert {line["method"] for line in found} == {
        "GET",
        "POST",
        "PUT",
        "DELETE",
        "OPTIONS",
        "other",
    }
    assert {line["route"] for line in found} == {route.template for route in ROUTES}


def signed(node: Serving) -> str:
    """Return a valid token with canaries in every part that its signer chooses."""
    return key_token(
        node.owner,
        audience=node.owner.did,
        grants={node.kv(CANARIES["token"]): ["tinycloud.kv/get"]},
        expires_at=node.clock.now() + 60,
        nonce=f"{CANARIES['token']}{id(object())}",
    )


@pytest.mark.parametrize("mode", ["hashed", "plain"])
async def test_values_stay_out(serve: Serve, lines: Lines, mode: RequestLines) -> None:
    """The request log contains neither bytes nor keys of values."""
    large = CANARIES["body"].encode() * 60_000
    key = CANARIES["path"]
    form = (
        "--b\r\nContent-Disposition: form-data;"
        f' name="{key}"\r\n\r\n{CANARIES["form"]}\r\n--b--\r\n'.encode()
    )
    async with serve(**logging_as(mode)) as node:
        for body in (CANARIES["body"].encode(), large):
            assert (
                await node.put(key, body, x_tinycloud_meta_note=CANARIES["header"])
            ).status == 200
            reading = node.token({node.kv(key): ["tinycloud.kv/get"]})
            assert body == (await node.send("POST", "/invoke", token=reading)).body
        reply = await node.put(key, form, content_type="multipart/form-data; boundary=b")
        assert reply.status == 200, reply.said
    found = lines.of_requests()
    got = [line for line in found if line["operation"] == "kv_get"]
    assert [len(CANARIES["body"]), len(large)] == [line["response_bytes"] for line in got]
    assert len(form) == found[-1]["request_bytes"]
    assert not [canary for canary in CANARIES.values() if canary in lines.text]


async def test_requests_that_reach_no_route(serve: Serve, lines: Lines) -> None:
    """A head that is too long or not HTTP leaves a line with its status, quoting nothing."""
    async with hashed(serve) as node:
        port = int(node.node.url.rpartition(":")[2])
        for head in (
            f"GET /{CANARIES['path'] * 5000} HTTP/1.1\r\n\r\n",
            f"GET / HTTP/1.1\r\nauthorization: {CANARIES['token'] * 30_000}\r\n\r\n",
            f"{CANARIES['method']} \x01\r\n\r\n",
            (
                f"GET /info HTTP/1.1\r\nhost: n\r\nexpect: {CANARIES['header']}\r\nconnection:"
                " close\r\n\r\n"
            ),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head.encode())
            await reader.read()
            writer.close()
    found = lines.of_requests()
    assert [(line["route"], line["status"]) for line in found] == [
        (None, 414),
        (None, 431),
        (None, 400),
        (None, 417),
    ]
    assert not [canary for canary in CANARIES.values() if canary in lines.text]


@pytest.mark.parametrize(
    "target", ["{path}#a?q={canary}", "{path}?q#{canary}", "http://u:{canary}@host{path}"]
)
async def test_odd_targets(serve: Serve, lines: Lines, target: str) -> None:
    """Of a target with a fragment or an authority, at most the path is logged, even in `plain`."""
    async with serve(**logging_as("plain")) as node:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(node.node.url.rpartition(":")[2])
        )
        asked = target.format(path=f"/public/{node.space('public')}/kv/a", canary=CANARIES["token"])
        writer.write(f"GET {asked} HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\r\n".encode())
        await reader.read()
        writer.close()
    assert [line["route"] for line in lines.of_requests()] == ["/public/{space}/kv/{key}"]
    assert CANARIES["token"] not in lines.text


async def test_a_client_that_leaves(serve: Serve, lines: Lines) -> None:
    """A request whose client disconnected before the answer has a line without a status."""
    async with hashed(serve) as node:
        port = int(node.node.url.rpartition(":")[2])
        token = node.token({node.kv("a"): ["tinycloud.kv/put"]})
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"POST /invoke HTTP/1.1\r\nhost: n\r\nauthorization: {token}\r\ncontent-length:"
            " 1000000\r\n\r\n"
        )
        writer.write(head.encode() + b"x" * 1000)
        await writer.drain()
        writer.transport.abort()
        async with asyncio.timeout(PATIENCE_S):
            while not (
                found := [line for line in lines.of_requests() if line["route"] == "/invoke"]
            ):
                await node.send("OPTIONS", "/info")  # until the node has noticed
    assert [(line["status"], line["response_bytes"]) for line in found] == [(None, None)]


@pytest.mark.parametrize("error", [OSError("full"), ValueError("closed"), RuntimeError("broken")])
async def test_a_line_that_cannot_be_written(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A request is answered even if its line cannot be written."""

    class Broken(io.StringIO):
        def write(self, _text: str) -> int:
            raise error

    async with hashed(serve) as node:
        configure_logs("info", stream=Broken())
        assert (await node.put("a", b"value")).status == 200
        assert (await node.send("GET", "/nothing")).status == 404


def test_lines_that_the_level_would_hide() -> None:
    """A log level that hides request lines is refused together with `log.requests`."""
    with pytest.raises(ConfigurationError, match=r"log\.level = warning suppresses"):
        refuse_contradictions(Config(log=Log(requests="hashed", level="warning")))
    refuse_contradictions(Config(log=Log(requests="plain", level="debug")))
