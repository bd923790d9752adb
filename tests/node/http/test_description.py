"""`/openapi.json` is public, constant, and describes exactly the node's routes."""

import asyncio
import json
import re

import pytest
import schemathesis
from openapi_checks import DOCUMENT, is_documented_code, openapi_mismatch
from pages.openapi_page import PAGE, codes_of, described
from running_node import Reply
from serving_node import Serve

from node.config.tree import PublicSpaces
from node.http.app import build_app
from node.http.messages.refusals import SECTIONS, TABLE
from node.http.routes.route_table import SERVED


async def test_it_is_served_to_everybody(caller) -> None:
    """The description is served with an entity tag, and If-None-Match is answered with 304."""
    reply: Reply = await caller.send("GET", "/openapi.json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert PAGE.read_bytes() == reply.body
    tag = reply.headers["etag"]
    for tags in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again: Reply = await caller.send("GET", "/openapi.json", headers={"If-None-Match": tags})
        assert again.status == 304
        assert again.body == b""
        assert again.headers["etag"] == tag
    other: Reply = await caller.send("GET", "/openapi.json", headers={"If-None-Match": '"x"'})
    head: Reply = await caller.send("HEAD", "/openapi.json")
    assert other.status == 200
    assert head.status == 200
    assert head.body == b""
    assert head.headers["etag"] == tag


async def test_it_needs_no_store(caller) -> None:
    """The description is served even if the store does not answer."""
    await caller.node.services.store.close()
    assert (await caller.send("GET", "/openapi.json")).status == 200


async def test_it_has_the_rate_of_public_values(serve: Serve) -> None:
    """Requests for the description share the rate limit of public values."""
    async with serve(public_spaces=PublicSpaces(requests_per_minute=1, burst=2)) as node:
        replies = [await node.send("GET", "/openapi.json") for _ in range(3)]
    assert [200, 200, 429] == [reply.status for reply in replies]
    assert replies[-1].value["code"] == "too-many-requests"
    assert int(replies[-1].headers["retry-after"]) > 0


async def test_it_has_every_route_and_no_other(caller) -> None:
    """The description has each method and path of the router, except the catch-all rows."""
    app = build_app(caller.node.services)
    routed = {
        (route.method, route.resource.canonical.rstrip("/") or "/")
        for route in app.router.routes()
        if route.resource is not None and route.method not in ("*", "OPTIONS", "HEAD")
    }
    named = {
        (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
    }
    assert {(method, re.sub(r":[^{}]*\}", "}", path)) for method, path in routed} == named
    others = {route.path for route in SERVED if route.method in ("*", "OPTIONS")}
    own = {route.path for route in described() if route.surface == "own"}
    catching_all = {
        "/admin",
        *(f"{path}/{{path:.*}}" for path in ("", "/admin", "/hooks", "/policy/v3", "/share")),
    }
    assert own | catching_all | {"/public/{space}/kv/{key:.*}"} == others


def test_it_is_openapi() -> None:
    """The description is valid OpenAPI 3.1, and each operation has a unique id and a summary."""
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    operations = [one for methods in DOCUMENT["paths"].values() for one in methods.values()]
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert all(one["summary"] and one["responses"] for one in operations)


def test_it_has_every_code() -> None:
    """Each refusal code of the table belongs to a route in the description, and no other code
    does."""
    named = {route.template: codes_of(route) for route in described()}
    everywhere = frozenset[str]().union(*named.values())
    # of what the description leaves to its preamble, and of routes on an address of their own
    elsewhere = SECTIONS["iExec's secret management service"].keys()
    assert set(TABLE) - everywhere == {"wrong-method", *elsewhere}
    assert everywhere <= set(TABLE)
    for route in described():
        answers = json.dumps(DOCUMENT["paths"][route.template][route.method.lower()]["responses"])
        assert not [code for code in codes_of(route) if code not in answers]


async def test_a_brace_in_a_path(caller) -> None:
    """A path segment with a brace matches no placeholder and gets the 404 of an unknown route."""
    for path in (
        "/encryption/networks/%7B",
        "/encryption/networks/a%7Db/policy",
        "/signed/kv/%7B%7D",
    ):
        reply: Reply = await caller.send("GET", path)
        assert reply.status == 404
        assert openapi_mismatch("GET", path, reply.status, reply.headers, reply.body) == ""


async def test_a_line_feed_in_a_path(caller) -> None:
    """A path with a line feed is handled like any other, never by the framework itself."""
    for path in ("/%0A", "/admin/%0A", "/info%0A/x", "/hooks/a%0Ab", "/public/x/kv/a%0Ab"):
        reply: Reply = await caller.send("GET", path)
        preflight: Reply = await caller.send("OPTIONS", path)
        assert openapi_mismatch("GET", path, reply.status, reply.headers, reply.body) == ""
        assert preflight.status in (200, 204) or path.startswith("/hooks")
        assert preflight.body == b""
        assert reply.text != "404: Not Found"


@pytest.mark.parametrize(
    "line", ["OPTIONS *", "CONNECT host:443", "GET http://host", "GET http://host?q"]
)
async def test_a_target_without_a_path(caller, line: str) -> None:
    """A request target without a path is answered like an unknown path."""
    answer = await caller.raw(f"{line} HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ") and b"/openapi.json" in answer


def test_a_policy_is_refused_at_its_registration() -> None:
    """A delegation with an invalid policy is 400 on `/delegate`, as described."""
    assert is_documented_code("POST", "/delegate", 400, "invalid-policy")


def test_the_judge_finds_faults() -> None:
    """The comparison detects undescribed statuses, media types, members and codes."""
    typed = {"content-type": "application/json"}
    assert "status 418" in openapi_mismatch("GET", "/info", 418, {}, b"")
    assert "as image/png" in openapi_mismatch(
        "GET", "/info", 200, {"content-type": "image/png"}, b"x"
    )
    assert "more" in openapi_mismatch(
        "POST", "/revoke", 200, typed, b'{"revoked":true,"cid":"x","more":1}'
    )
    assert "status 200" in openapi_mismatch("GET", "/nothing", 200, {}, b"")
    assert "status 404" in openapi_mismatch("DELETE", "/readyz", 404, {}, b"")
    assert not is_documented_code("GET", "/info", 503, "quota-exceeded")
    # only within the name of another
    assert not is_documented_code("POST", "/revoke", 401, "revoked")


def test_it_names_no_node() -> None:
    """The description contains no DID, address or changed setting of a node."""
    text = PAGE.read_text("utf-8")
    assert not re.findall(r"did:key:z\w+|https?://|127\.0\.0\.1|localhost", text)


async def test_another_method_on_an_own_path(caller) -> None:
    """On our own surface, another method is 405 with the allowed methods and the description."""
    for path, allowed in (
        ("/readyz", "GET, HEAD, OPTIONS"),
        ("/openapi.json/", "GET, HEAD, OPTIONS"),
        ("/attestation/challenge", "POST, OPTIONS"),
        ("/encryption/networks/x/policy", "GET, HEAD, PUT, OPTIONS"),
    ):
        reply: Reply = await caller.send("DELETE", path)
        assert (reply.status, reply.headers["allow"]) == (405, allowed)
        assert reply.value["code"] == "wrong-method"
        assert "/openapi.json" in str(reply.value["hint"])
        assert (await caller.send("OPTIONS", path)).status == 200


async def test_an_unknown_route_names_the_description(caller) -> None:
    """The 404 for an unknown route names the description in every format."""
    missing = await asyncio.gather(
        caller.send("GET", "/nothing"),
        caller.send("POST", "/info"),
        caller.send("GET", "/nothing", headers={"Accept": "application/json"}),
        caller.send(
            "POST", "/attestation/challenge", body=b"{}", headers={"Content-Type": "text/plain"}
        ),
    )
    assert [404] * 4 == [reply.status for reply in missing]
    assert all("/openapi.json" in reply.text for reply in missing)
    assert all("allow" not in reply.headers for reply in missing)
    value: Reply = await caller.send("GET", "/public/tinycloud:key:z6Mkx:public/kv/a")
    assert value.status == 404
    assert "openapi" not in value.text
