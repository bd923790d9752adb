"""Tests of the server's public routes: answers, headers, errors and preflights."""

import json
import re
import shutil
import sys
from collections.abc import Awaitable, Callable

import pytest
from running_node import Reply

from node.http.app import CORS_HEADERS, FIXED_HEADERS
from node.http.routes.route_table import ROUTES
from node.processes.supervisor import report_disk

Call = Callable[..., Awaitable[Reply]]

SPACE = "tinycloud:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266:default"


@pytest.mark.parametrize("path", ["/info", "/version", "/info/"])
async def test_information(caller, path: str) -> None:
    """/info and /version have protocol number, features, node DID and attestation mode (J1)."""
    reply = await caller.send("GET", path)
    said = json.loads(reply.body)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert list(said) == [
        "protocol",
        "version",
        "features",
        "nodeId",
        "inTEE",
        "attestation",
        "oidcDid",
    ]
    assert said["protocol"] == 1
    assert said["inTEE"] is False
    assert said["attestation"] == "delegates"
    assert caller.node.services.keyring.node_did == said["nodeId"]


async def test_health_is_empty(caller) -> None:
    """/healthz is 200 with neither body nor content type (H3)."""
    reply = await caller.send("GET", "/healthz")
    assert reply.status == 200
    assert reply.body == b""
    assert reply.headers.get("content-type") is None


async def test_health_without_store(caller) -> None:
    """If the store does not answer, /healthz is an empty 500 and /readyz a 503 with the reason."""
    await caller.node.services.store.close()
    assert ((reply := await caller.send("GET", "/healthz")).status, reply.body) == (500, b"")
    ready = await caller.send("GET", "/readyz")
    assert ready.status == 503
    assert json.loads(ready.body)["ready"] is False
    assert json.loads(ready.body)["write"] == "store-unavailable"


async def test_readiness(caller) -> None:
    """/readyz reports a successful test write, the schema and the release record."""
    reply = await caller.send("GET", "/readyz")
    assert (
        reply.status,
        json.loads(reply.body),
    ) == (200, {"ready": True, "write": "ok", "schema": "ok", "release": "ok", "objects": "ok"})


async def test_node_keys(caller) -> None:
    """The well-known document names the node's DID and its invitation key."""
    reply = await caller.send("GET", "/.well-known/tinycloud/node-keys")
    keyring = caller.node.services.keyring
    assert {
        "nodeDid": keyring.node_did,
        "shareInvitationPublicKey": keyring.invitation_public_key,
    } == json.loads(reply.body)


@pytest.mark.parametrize(
    "path", [f"/peer/generate/{SPACE}", f"/peer/generate/{SPACE.lower()}", "/peer/generate/x"]
)
async def test_host_did(caller, path: str) -> None:
    """The host DID is plain text without a newline, and equal for all spellings of a space (J3,
    U6)."""
    reply = await caller.send("GET", path)
    if path.endswith("/x"):
        assert (reply.status, reply.text) == (400, "Invalid space ID")
        return
    same = await caller.send("GET", f"/peer/generate/{SPACE.replace(':', '%3A')}")
    assert reply.text.startswith("did:key:z6Mk") and reply.text == same.text
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


async def test_readiness_names_a_disk_that_is_nearly_full(
    caller, tmp_path, monkeypatch, capsys
) -> None:
    """With 90 MiB free, /readyz gives the numbers without a path; the log gives the path too."""
    usage = shutil.disk_usage(tmp_path)._replace(free=90 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    said = json.loads((await caller.send("GET", "/readyz")).body)["degraded"]
    numbers = "is nearly full: 90 MiB are free; below 256 MiB values of over 64 KiB are refused"
    assert said == f"the disk of the data folder {numbers}"
    folder = caller.node.services.config.data
    report_disk(folder, sys.maxsize)
    assert f"the disk of {folder} {numbers}; next: free space" in capsys.readouterr().err


async def test_attestation_without_tee(caller) -> None:
    """Outside a trust domain, /attestation answers 200 and says so (wire 5.9)."""
    reply = await caller.send("GET", "/attestation?nonce=abc")
    assert (reply.status, json.loads(reply.body)["mode"]) == (200, "classic")


async def test_front(caller) -> None:
    """The text of / names the public routes and nothing about this node (wire 5.1)."""
    reply, information = await caller.send("GET", "/"), await caller.send("GET", "/info")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert "README" in reply.text and "sealspace login" in reply.text
    for path in re.findall(r"^GET (\S+)", reply.text, re.MULTILINE):
        assert (await caller.send("GET", path)).status == 200
    said = json.loads(information.body)
    assert not [one for one in (said["version"], said["nodeId"]) if one in reply.text]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/"),
        ("GET", "/nothing"),
        ("POST", "/info"),
        ("PUT", "/healthz"),
        ("PROPFIND", "/info"),
        ("GET", "/peer/generate/"),
        ("GET", f"/peer/generate/{SPACE}/kv"),
    ],
)
async def test_no_route(caller, method: str, path: str) -> None:
    """An unknown path or method is a problem with all fixed headers (H2, H6)."""
    reply = await caller.send(method, path)
    assert (reply.status, reply.headers["content-type"]) == (404, "application/problem+json")
    assert json.loads(reply.body)["code"] == "not-found"
    assert {
        name.lower(): value for name, value in FIXED_HEADERS.items()
    }.items() <= reply.headers.items()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/problem+json"),
        ("*/*", "application/problem+json"),
        ("text/html", "application/problem+json"),
        ("application/problem+json", "application/problem+json"),
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("APPLICATION/JSON ; charset=utf-8", "application/json"),
    ],
)
async def test_problem_as_json(caller, accept: str, kind: str) -> None:
    """A client that accepts `application/json` gets a problem as `{"error"}` (H2)."""
    reply = await caller.send("GET", "/nothing", headers={"Accept": accept})
    said = json.loads(reply.body)
    assert (reply.status, reply.headers["content-type"]) == (404, kind)
    if kind == "application/json":
        assert {"code": 404, "reason": "Not Found"}.items() <= said["error"].items()
    else:
        assert said["code"] == "not-found"


@pytest.mark.parametrize("path", ["/info", "/healthz", "/peer/generate/x", "/nothing"])
async def test_head_is_get_without_body(caller, path: str) -> None:
    """HEAD answers the status and headers of GET without a body."""
    head, get = await caller.send("HEAD", path), await caller.send("GET", path)
    assert (get.status, b"") == (head.status, head.body)
    assert get.headers.get("content-type") == head.headers.get("content-type")
    assert get.body == b"" or get.headers["content-length"] == head.headers["content-length"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/invoke", 200), ("/no/such/route", 200), (f"/public/{SPACE}/kv/a/b", 204)],
)
async def test_options(call_with: Call, path: str, status: int) -> None:
    """OPTIONS is empty, 204 on a public key and 200 elsewhere; CORS can be switched off (wire
    5.2)."""
    reply = await call_with("OPTIONS", path, cors=False)
    assert (status, b"") == (reply.status, reply.body)
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/info", "/nothing", "/peer/generate/x"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_cors_on_every_answer(call_with: Call, method: str, path: str) -> None:
    """By default every answer, errors included, has all five CORS headers (wire 5.2)."""
    reply = await call_with(method, path)
    assert {
        name.lower(): value for name, value in CORS_HEADERS.items()
    }.items() <= reply.headers.items()


async def test_each_answer_has_its_own_trace_id(caller) -> None:
    """The trace header has 32 random hexadecimal digits, which reveal nothing of other requests
    (H6)."""
    ids = [
        (await caller.send("GET", path)).headers["tinycloud-trace-id"]
        for path in ("/nothing", "/info") * 150
    ]
    parts = [(one[:16], one[16:]) for one in ids]
    assert all(len(bytes.fromhex(one)) == 16 for one in ids)
    assert [len({part[half] for part in parts}) for half in (0, 1)] == [300, 300]
    numbers = [int(second, 16) for _, second in parts]
    assert sorted(numbers) != numbers


def test_table_lists_a_route_once() -> None:
    """No two rows of the table have the same method and path."""
    rows = [(route.method, route.path) for route in ROUTES]
    assert len(set(rows)) == len(rows)


def _escaped(path: str) -> list[str]:
    """Return the path with the first or last letter of each fixed segment escaped, one at a
    time."""
    spellings = []
    for segment in path.split("/"):
        if segment and "{" not in segment:
            for at in {0, len(segment) - 1}:
                escape = f"%{ord(segment[at]):02{'x' if at else 'X'}}"
                spellings.append(
                    path.replace(f"/{segment}", f"/{segment[:at]}{escape}{segment[at + 1 :]}", 1)
                )
    return spellings


async def _sent(caller, method: str, target: str, head: str = "") -> bytes:
    """Send a target exactly as written, with an empty JSON object."""
    lines = (
        f"{method} {target} HTTP/1.1",
        "Host: node",
        f"{head}Content-Length: 2",
        "Connection: close",
        "",
        "{}",
    )
    return bytes(await caller.raw("\r\n".join(lines).encode()))


async def test_H10_an_escape_in_a_fixed_segment_is_another_path(caller) -> None:
    """An escaped letter in a fixed segment of any route is 404 for every method and token."""
    asked = 0
    for route in ROUTES:
        if route.method == "OPTIONS":
            continue
        for spelling in _escaped(route.path):
            path = re.sub(r"\{[^}]*\}", "a", spelling)
            method = "GET" if route.method == "*" else route.method
            for head in ("", "Authorization: Bearer operator\r\n"):
                said = await _sent(
                    caller, method, path, f"{head}Content-Type: application/json\r\n"
                )
                assert said.startswith(b"HTTP/1.1 404 "), (method, path, said)
                asked += 1
    assert asked > 100


async def test_H10_escapes_in_variable_segments_are_read(caller) -> None:
    """Escaped ids and keys reach the same route as unescaped ones."""
    network = f"urn:tinycloud:encryption:{SPACE.partition(':')[2].rpartition(':')[0]}:default"
    for spelling in (network, network.replace(":", "%3A"), "%75" + network[1:]):
        assert (await _sent(caller, "GET", f"/encryption/networks/{spelling}")).endswith(
            b"network not found"
        )
    for key in ("a%2Fb", "%61", "%kv", "a/%2e%2e/b"):
        said = await _sent(caller, "GET", f"/public/{SPACE.replace(':', '%3A')}/kv/{key}")
        assert said.endswith(b"Not a public space")
