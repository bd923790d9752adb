"""Canaries in every place a caller can fill, through every route: none comes back in a log."""

import io
import re

import pytest

from node.logs import configure_logs
from node.routes.table import ROUTES

CANARY = "canaryZ0tEc2VjcmV0"


@pytest.mark.parametrize("store_fails", [False, True])
async def test_no_route_logs_what_it_was_sent(caller, store_fails: bool) -> None:
    """Header, path, query and body of every route stay out of the log, whether the route works or fails."""
    stream = io.StringIO()
    configure_logs("debug", stream=stream)
    if store_fails:
        await caller.node.services.store.close()
    headers = {
        "Authorization": f"eyJhbGciOiJFZERTQSJ9.{CANARY}.{CANARY}",
        "Content-Type": "application/json",
        "X-Canary": CANARY,
        "If-Match": CANARY,
    }
    for route in ROUTES:
        method = "POST" if route.method == "*" else route.method
        path = re.sub(r"\{[^}]*\}", CANARY, route.path)
        body = None if method in {"GET", "OPTIONS"} else f'{{"key":"{CANARY}"}}'.encode()
        await caller.send(method, f"{path}?q={CANARY}", headers=headers, body=body)
    assert CANARY not in stream.getvalue()


async def test_an_unforeseen_error_is_logged_without_its_message(caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault inside a route is a 500 page and a log line with the trace id; neither quotes the error's message."""
    stream = io.StringIO()
    configure_logs("debug", stream=stream)

    def fail(_self: object, _space: object) -> str:
        raise ValueError(CANARY)

    monkeypatch.setattr(type(caller.node.services.keyring), "space_did", fail)
    reply = await caller.send("GET", f"/peer/generate/tinycloud:key:z6MkhaXg{'a' * 40}:default")
    if reply.status == 400:
        pytest.fail("the space id of this test is not one")
    assert reply.status == 500 and CANARY.encode() not in reply.body
    assert reply.headers["tinycloud-trace-id"] in stream.getvalue() and CANARY not in stream.getvalue()
