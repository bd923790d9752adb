"""Pages in a browser can call the node as any client, but not in a user's name."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from attacks.parties import GET, PUT, Stage
from running_node import Reply, key_token, new_key, running_node, send
from wire_replay import Exchange, load_scenario

from capabilities.signatures import Ed25519Signer
from node.http.routes.route_table import ROUTES

pytestmark = pytest.mark.slow

ORIGIN = "https://pages.example"
SCENARIOS = ("delegation", "encryption", "kv", "secrets", "sharing", "signin", "surface", "vault")

# What a browser sends by itself, and no page can set (Fetch, "forbidden request-header").
_FORBIDDEN = re.compile(
    "accept-(charset|encoding)|connection|content-length|cookie|date|expect|host|keep-alive|origin|referer|sec-.*|te|"
    "trailer|transfer-encoding|upgrade|user-agent|via"
)
# What a page may read without being told (Fetch, "CORS-safelisted response-header name").
_SAFE = frozenset(
    (
        "cache-control",
        "content-language",
        "content-length",
        "content-type",
        "expires",
        "last-modified",
        "pragma",
    )
)
# What the recorded answers carry for the connection or the browser, and no SDK reads.
_UNREAD = frozenset(
    (
        "connection",
        "date",
        "permissions-policy",
        "server",
        "x-content-type-options",
        "x-frame-options",
        "vary",
    )
)

VALUE = b"<script>alert(1)</script>"
STORED_AND_SHOWN: dict[str | None, str] = {
    "text/plain": "text/plain",
    "text/plain;charset=UTF-8": "text/plain;charset=UTF-8",
    "application/json": "application/json",
    "image/png": "image/png",
    "image/jpeg": "image/jpeg",
    "application/octet-stream": "application/octet-stream",
    **dict.fromkeys(
        (
            "text/html",
            "Text/HTML; charset=utf-8",
            "application/xhtml+xml",
            "image/svg+xml",
            "application/xml",
            "text/xml",
            "application/pdf",
            "text/javascript",
            "application/wasm",
            "text/css",
            "message/rfc822",
            "multipart/x-mixed-replace;boundary=x",
            "text/plain, text/html",
            "text/plain;charset=utf-7",
            "image/png;x=text/html",
            "image/pngx",
            "nonsense",
            None,
        ),
        "application/octet-stream",
    ),
}


def _names(text: str) -> list[str]:
    return [name.strip().lower() for name in text.split(",")]


def _may_send(preflight: Reply, method: str, names: Sequence[str]) -> bool:
    """Return whether a browser would send the request after a preflight without credentials (Fetch,
    4.8 and 4.10)."""
    allowed = preflight.headers
    methods = _names(allowed.get("access-control-allow-methods", ""))
    headers = _names(allowed.get("access-control-allow-headers", ""))
    return (
        200 <= preflight.status <= 299
        and allowed.get("access-control-allow-origin") in ("*", ORIGIN)
        and (method in ("GET", "HEAD", "POST") or method.lower() in methods or "*" in methods)
        # The wildcard leaves out what carries credentials.
        and all(name in headers or ("*" in headers and name != "authorization") for name in names)
    )


def _may_read(headers: Mapping[str, str], name: str) -> bool:
    exposed = _names(headers.get("access-control-expose-headers", ""))
    return name in _SAFE or name in exposed or "*" in exposed


def _calls() -> Iterator[tuple[Exchange, list[str]]]:
    """One recorded call of each shape: method, route, and the headers that a page sets."""
    seen = set()
    for exchange in (exchange for name in SCENARIOS for exchange in load_scenario(name)):
        request = exchange.request
        sent = sorted({name for name, _ in request.headers if not _FORBIDDEN.fullmatch(name)})
        read = tuple(sorted({name for name, _ in exchange.answer.headers}))
        shape = (request.method, request.path.split("/")[1:3], sent, read)
        if repr(shape) not in seen:
            seen.add(repr(shape))
            yield exchange, sent


@pytest.mark.shared
async def test_a_page_of_any_origin_calls_what_the_sdk_calls(stage: Stage) -> None:
    """A page of any origin may send each JavaScript SDK call and read its answer (wire 5.2)."""
    calls = list(_calls())
    for exchange, names in calls:
        method, path = exchange.request.method, exchange.request.path
        asked = {
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": ",".join(names),
        }
        preflight = await send(stage.url, "OPTIONS", path, headers={"Origin": ORIGIN, **asked})
        assert _may_send(preflight, method, names), (method, path, names, preflight.headers)
        sent = {name: text for name, text in exchange.request.headers if name in names}
        answer = await send(
            stage.url, method, path, headers={"Origin": ORIGIN, **sent}, body=exchange.request.body
        )
        assert answer.headers.get("access-control-allow-origin") in ("*", ORIGIN), (
            method,
            path,
            answer.said,
        )
        read = {name for name, _ in exchange.answer.headers} - _UNREAD | {
            "tinycloud-trace-id",
            "etag",
        }
        assert [name for name in read if not _may_read(answer.headers, name)] == []
    assert len(calls) > 10


async def test_the_operator_is_closed_to_pages(folder: Path) -> None:
    """A page of another origin cannot read the operator's routes or the metrics."""
    environment = {
        "SEALSPACE_ADMIN__SECRET": "operator",
        "SEALSPACE_METRICS__LISTEN": "127.0.0.1:0",
    }
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    with running_node(folder, "--cors", workers=1, environment=environment) as node:
        paths = [
            f"/admin/{rest}"
            for rest in ("quota", "quota/", "quota/x", "usage", "%75sage", "nothing")
        ]
        paths += [
            route.path
            for route in ROUTES
            if route.path.startswith("/admin") and "{" not in route.path
        ]
        for path in (*paths, "/%61dmin/usage"):
            for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
                for token in ("Bearer operator", "Bearer wrong", None):
                    body = b'{"limit_bytes":1}' if method == "PUT" else None
                    reply = await send(
                        node.url, method, path, token=token, headers=asked, body=body
                    )
                    assert [
                        name for name in reply.headers if name.startswith("access-control")
                    ] == [], (method, path)
        reported = await send(
            node.url, "GET", "/admin/usage", token="Bearer operator", headers=asked
        )
        assert (reported.status, json.loads(reported.text)["count"]) == (200, 0)
        assert (await send(node.url, "GET", "/info", headers=asked)).headers[
            "access-control-allow-origin"
        ] == "*"
        scraped = node.wait_for(r'"url": ?"(http://127\.0\.0\.1:\d+)/metrics"').group(1)
        numbers = await send(scraped, "GET", "/metrics", headers={"Origin": ORIGIN})
        assert numbers.status == 200
        assert [name for name in numbers.headers if name.startswith("access-control")] == []


async def test_no_value_is_a_page_of_the_nodes_origin(folder: Path) -> None:
    """A public or signed value is served with a type that runs no script (wire 5.10)."""
    with running_node(
        folder, workers=1, environment={"SEALSPACE_PUBLIC_SPACES__REQUESTS_PER_MINUTE": "0"}
    ) as node:
        outsider = new_key()
        space = f"tinycloud:{outsider.did.removeprefix('did:')}:public"
        for stored, shown in STORED_AND_SHOWN.items():
            await _put(node.url, outsider, space, stored)
            for answer in (
                await _opened(node.url, outsider, space),
                await _signed(node.url, outsider, space),
            ):
                for reply in answer:
                    assert reply.headers["content-type"] == shown, (stored, reply.status)
                    assert reply.headers["x-content-type-options"] == "nosniff"
                    assert reply.headers["content-security-policy"].startswith("sandbox ")
            token = key_token(outsider, outsider.did, {f"{space}/kv/a": [GET]})
            read = await send(node.url, "POST", "/invoke", token=token)
            assert read.body == VALUE
            assert read.headers.get("content-type") == stored


async def _put(url: str, signer: Ed25519Signer, space: str, stored: str | None) -> None:
    token = key_token(signer, signer.did, {f"{space}/kv/a": [PUT]})
    typed = {} if stored is None else {"Content-Type": stored}
    assert (
        await send(url, "POST", "/invoke", token=token, body=VALUE, headers=typed)
    ).status == 200


async def _opened(url: str, signer: Ed25519Signer, space: str) -> list[Reply]:
    replies = [await send(url, method, f"/public/{space}/kv/a") for method in ("GET", "HEAD")]
    assert [200, 200] == [reply.status for reply in replies]
    return replies


async def _signed(url: str, signer: Ed25519Signer, space: str) -> list[Reply]:
    token = key_token(signer, signer.did, {f"{space}/kv/a": [GET]})
    asked = json.dumps({"space": space, "path": "a"}).encode()
    ticket = str((await send(url, "POST", "/signed/kv", token=token, body=asked)).value["url"])
    replies = [await send(url, method, ticket) for method in ("GET", "HEAD")]
    replies.append(await send(url, "GET", ticket, headers={"Range": "bytes=1-3"}))
    assert [200, 200, 206] == [reply.status for reply in replies]
    return replies
