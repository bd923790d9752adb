"""The surface gives the same answers in aiohttp and under ASGI.

The tests play the ASGI server by hand: it sends and receives exactly the messages of the
specification.
"""

import asyncio
import gzip
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from backend_site import Domain, serving
from deviating_platform import SimulatedPlatform
from patience import PATIENCE_S
from tests_support import CountingEntropy

from capabilities.strict_base64 import encode_url
from encryption_network.policy import Policy, parse_policy
from sealspace.delegations import allow
from sealspace.documents.published import (
    EVIDENCE_PATH,
    GRANTS_PATH,
    MAX_GRANT_BYTES,
    parse_published,
)
from sealspace.errors import GrantsFull
from sealspace.session import key_session, mint, read_grant
from sealspace.wire.portable import (
    BUNDLE_FORMAT,
    MAX_BUNDLED,
    PortableDelegation,
    encode_portable,
    portable_of,
)
from tee_backend.backend import publishing
from tee_backend.backend.grant_door import MOST_BODIES_UNDER_WAY
from tee_backend.backend.publishing import AsgiApplication, BackendSurface, Message, SurfaceRequest
from tee_backend.backend_errors import FolderUnusable
from tee_backend.evidence.evidence_errors import SourceRefused
from tee_backend.evidence.simulated import (
    SIMULATED_KEY_PROVIDER,
    measurements_of,
    mint_event_log,
)
from tee_backend.evidence.source import Quoted

SELF, OWNER = key_session(bytes(32)), key_session(bytes(range(32)))
ENTROPY = CountingEntropy()
NONCE = bytes(range(32))
MANIFEST: dict[str, Any] = {
    "app_id": "com.example",
    "name": "Notes",
    "defaults": False,
    "secrets": {"API_KEY": True},
}

Headers = Sequence[tuple[str, str]]
Answer = tuple[int, dict[str, str], bytes]
Ask = Callable[..., Awaitable[Answer]]


def portable(to: str = SELF.did) -> PortableDelegation:
    """A grant of the owner in its delivered form."""
    wanted = [
        allow(f"urn:tinycloud:encryption:{OWNER.did}:default", "tinycloud.encryption/decrypt")
    ]
    grant = read_grant(
        mint(
            OWNER.signer,
            ENTROPY,
            audience=to,
            capabilities=wanted,
            proofs=(),
            expires_at=1_900_000_000,
            issuer=OWNER.did,
        )
    )
    return portable_of(grant, owner=OWNER.did, host="http://127.0.0.1:1")


def bundle(*grants: PortableDelegation, form: str = BUNDLE_FORMAT, version: object = 1) -> bytes:
    texts = [encode_portable(one).decode() for one in grants]
    return json.dumps({"format": form, "version": version, "delegations": texts}).encode()


class Taken:
    """A program that records or refuses grants."""

    def __init__(self) -> None:
        self.grants: list[tuple[PortableDelegation, ...]] = []
        self.error: Exception | None = None

    async def __call__(self, *portables: PortableDelegation) -> None:
        if self.error is not None:
            raise self.error
        self.grants.append(portables)


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
def source(machine: SimulatedPlatform) -> Domain:
    return Domain(machine, measurements_of("notes"))


@pytest.fixture
def surface(source: Domain, taken: Taken) -> BackendSurface:
    return BackendSurface(source, did=SELF.did, manifest=MANIFEST, on_grant=taken)


# --- the two servers ------------------------------------------------------------------------------


async def asked_of(
    application: AsgiApplication,
    method: str,
    path: str,
    *,
    query: str = "",
    headers: Headers = (),
    body: Iterable[bytes] = (),
    events: Sequence[Message] | None = None,
    **scope: Any,
) -> Answer:
    """Send one request to an ASGI application, and return the complete answer.

    Args:
        application: under test.
        body: the chunks in which the body arrives.
        events: messages that `receive` returns instead, the last one repeatedly; an empty list:
            none.
    """
    pieces = [*body] or [b""]
    arriving: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]
    waiting = list(arriving if events is None else events)
    sent: list[Message] = []

    async def receive() -> Message:
        if not waiting:
            await asyncio.get_running_loop().create_future()
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    given: Message = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "client": ("192.0.2.1", 1),
        **scope,
    }
    async with asyncio.timeout(PATIENCE_S):
        await application(given, receive, send)
    if not sent:
        return 0, {}, b""
    assert ["http.response.start", "http.response.body"] == [one["type"] for one in sent]
    start, rest = sent
    assert all(
        isinstance(part, bytes) and part == part.strip()
        for pair in start["headers"]
        for part in pair
    )
    named = {name.decode(): value.decode() for name, value in start["headers"]}
    assert all(name == name.lower() for name in named) and not rest.get("more_body")
    return start["status"], named, rest["body"]


@pytest.fixture(params=["aiohttp", "asgi"])
async def ask(request: pytest.FixtureRequest, surface: BackendSurface) -> AsyncIterator[Ask]:
    """Send a request to the surface through one kind of server."""

    async def by_asgi(method: str, path: str, **sent: Any) -> Answer:
        return await asked_of(surface.asgi(), method, path, **sent)

    if request.param == "asgi":
        yield by_asgi
        return
    async with serving(surface) as url, aiohttp.ClientSession() as session:

        async def by_aiohttp(
            method: str,
            path: str,
            *,
            query: str = "",
            headers: Headers = (),
            body: Iterable[bytes] | None = None,
        ) -> Answer:
            data = None if body is None else b"".join(body)
            address = f"{url}{path}?{query}" if query else url + path
            async with session.request(method, address, data=data, headers=dict(headers)) as answer:
                named = {name.lower(): value for name, value in answer.headers.items()}
                return answer.status, named, await answer.read()

        yield by_aiohttp


def problem(answer: Answer) -> tuple[int, str]:
    """Return status and code of a problem document after checking its form."""
    status, headers, body = answer
    assert (
        "application/problem+json" == headers["content-type"]
        and str(len(body)) == headers["content-length"]
    )
    said = json.loads(body)
    assert {"status", "code", "detail"} == said.keys() and status == said["status"]
    assert ("2" if status == 503 else None) == headers.get("retry-after")
    return status, said["code"]


# --- the same answers -----------------------------------------------------------------------------


async def test_evidence(ask: Ask) -> None:
    """A nonce is answered with evidence that must not be cached (AT50)."""
    status, headers, body = await ask("GET", EVIDENCE_PATH, query=f"nonce={encode_url(NONCE)}")
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"
    assert SELF.did == parse_published(body, nonce=NONCE).statement.did


async def test_head(ask: Ask) -> None:
    """HEAD has the status and length of GET, and no body."""
    status, headers, body = await ask("HEAD", EVIDENCE_PATH, query=f"nonce={encode_url(NONCE)}")
    assert (200, b"") == (status, body) and int(headers["content-length"]) > 1000
    status, headers, body = await ask("HEAD", EVIDENCE_PATH, query="nonce=")
    assert (400, b"") == (status, body) and int(headers["content-length"]) > 10


@pytest.mark.parametrize(
    "query",
    [
        "nonce",
        "nonce=",
        "nonce=AAAA",
        f"nonce={'A' * 44}",
        f"nonce={'A' * 42}*",
        f"nonce=AAAA&nonce={encode_url(NONCE)}",
    ],
)
async def test_another_nonce(ask: Ask, source: Domain, query: str) -> None:
    """With a nonce of another size than 32 bytes, no quote is made (AT50)."""
    assert (400, "nonce-malformed") == problem(await ask("GET", EVIDENCE_PATH, query=query))
    assert 0 == source.quotes


@pytest.mark.parametrize("query", ["", "other=1", f"{'a=b&' * 300}nonce={encode_url(NONCE)}"])
async def test_no_nonce(ask: Ask, source: Domain, query: str) -> None:
    """Without a nonce, the answer has the DID, the manifest and the policy of the code (AT62)."""
    status, headers, body = await ask("GET", EVIDENCE_PATH, query=query)
    assert status == 200
    assert headers["content-type"] == "application/json"
    said = json.loads(body)
    assert parse_policy(said.pop("policy")) == Policy(measurements=(source.image,))
    assert said == {
        "type": "sealspace.backend-description/v1",
        "did": SELF.did,
        "manifest": MANIFEST,
    }


async def test_the_described_code(machine: SimulatedPlatform) -> None:
    """The described policy equals the policy of a grant to the verified quote (AT53, AT62)."""
    compose_hash, image = hashlib.sha256(b"services: {}").digest(), measurements_of("notes")
    source = Domain(machine, image, mint_event_log(compose_hash))
    surface = BackendSurface(source, did=SELF.did, manifest=MANIFEST)
    _, _, body = await asked_of(surface.asgi(), "GET", EVIDENCE_PATH)
    policy = json.loads(body)["policy"]
    assert {"measurements", "composeHashes", "appIds", "keyProviders"} == policy.keys()
    assert parse_policy(policy) == Policy(
        measurements=(replace(image, rtmr3=None),),
        compose_hashes=(compose_hash,),
        app_ids=(compose_hash[:20],),
        key_providers=(SIMULATED_KEY_PROVIDER.text,),
    )


async def test_code_that_cannot_be_described(machine: SimulatedPlatform) -> None:
    """Without an event log that matches the quote, there is no description (AT62)."""

    class Another:
        def quote(self, report_data: bytes) -> Quoted:
            log = mint_event_log(bytes(32)).log
            return Quoted(machine.mint_quote(measurements_of("notes"), report_data), log)

    surface = BackendSurface(Another(), did=SELF.did, manifest=MANIFEST)
    answer = await asked_of(surface.asgi(), "GET", EVIDENCE_PATH)
    assert (503, "event-log") == problem(answer)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        *(
            (method, EVIDENCE_PATH, "GET, HEAD")
            for method in ("POST", "PUT", "DELETE", "OPTIONS", "QUERY")
        ),
        *((method, GRANTS_PATH, "POST") for method in ("GET", "PUT", "DELETE", "OPTIONS")),
    ],
)
async def test_other_methods(ask: Ask, method: str, path: str, allowed: str) -> None:
    """Another method is 405, and the answer lists the allowed ones."""
    answer = await ask(method, path)
    assert (405, "method-not-allowed") == problem(answer) and allowed == answer[1]["allow"]
    assert 405 == (await ask("HEAD", GRANTS_PATH))[0]


@pytest.mark.parametrize(
    "path", [EVIDENCE_PATH + "/", EVIDENCE_PATH + "/other", GRANTS_PATH + "/", GRANTS_PATH + "/x"]
)
async def test_other_paths(ask: Ask, path: str) -> None:
    """Unknown paths below the surface's are 404."""
    for method in ("GET", "POST", "PATCH"):
        assert (404, "not-found") == problem(await ask(method, path))


async def test_a_grant(ask: Ask, taken: Taken) -> None:
    """One grant, or several that belong together, reach the program; the answer is empty (AT54)."""
    first, second = portable(), portable()
    for body in ([encode_portable(first)], [bundle(first, second)], [bundle(first)]):
        status, headers, said = await ask("POST", GRANTS_PATH, body=body)
        assert status == 204
        assert said == b""
        assert headers.get("content-length") is None
    assert [[first.cid], [first.cid, second.cid], [first.cid]] == [
        [one.cid for one in some] for some in taken.grants
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([b""], (400, "invalid-portable-delegation")),
        ([b"{}"], (400, "invalid-portable-delegation")),
        ([b"\xff"], (400, "invalid-portable-delegation")),
        ([bundle()], (400, "invalid-portable-delegation")),
        ([bundle(portable(), version=2)], (400, "invalid-portable-delegation")),
        ([bundle(portable(), form="bundle")], (400, "invalid-portable-delegation")),
        ([bundle(*[portable()] * (MAX_BUNDLED + 1))], (400, "invalid-portable-delegation")),
        ([bundle(*[portable()] * 13)], (413, "grant-too-large")),
        ([json.dumps({"format": BUNDLE_FORMAT, "version": 1, "delegations": [1]}).encode()],
         (400, "invalid-portable-delegation")),
        ([b" " * MAX_GRANT_BYTES, b" "], (413, "grant-too-large")),
        ([encode_portable(portable(OWNER.did))], (403, "grant-for-another")),
        ([bundle(portable(), portable(OWNER.did))], (403, "grant-for-another")),
    ],
    ids=["empty", "no grant", "no text at all", "none in it", "version", "form", "too many",
         "too many at once", "no text", "too long", "another's", "another's among ours"],
)  # fmt: skip
async def test_what_is_no_grant(
    ask: Ask, taken: Taken, body: list[bytes], expected: tuple[int, str]
) -> None:
    """Malformed grants and grants for others never reach the program, not even in part (AT54)."""
    assert expected == problem(await ask("POST", GRANTS_PATH, body=body))
    assert [] == taken.grants


async def test_a_compressed_grant(ask: Ask, taken: Taken) -> None:
    """A compressed grant is refused, even if the server decompressed it (AT57)."""
    packed = gzip.compress(encode_portable(portable()))
    answer = await ask("POST", GRANTS_PATH, headers=[("Content-Encoding", "gzip")], body=[packed])
    assert problem(answer) == (400, "invalid-portable-delegation")
    assert taken.grants == []


@pytest.mark.parametrize(
    ("error", "expected", "is_said"),
    [
        (GrantsFull("16 grants are held"), (409, "grants-full"), True),
        (
            FolderUnusable("/data/kept cannot be used", hint="df"),
            (503, "backend-folder-unusable"),
            False,
        ),
        (SourceRefused("a text of the agent's"), (503, "source_refused"), False),
    ],
)
async def test_a_grant_that_is_not_taken_up(
    ask: Ask, taken: Taken, error: Exception, expected: tuple[int, str], is_said: bool
) -> None:
    """The sender of an unusable grant gets the reason, but no details of the machine."""
    taken.error = error
    answer = await ask("POST", GRANTS_PATH, body=[encode_portable(portable())])
    assert expected == problem(answer)
    assert is_said == (b"16 grants are held" in answer[2])
    assert b"/data" not in answer[2] and b"agent's" not in answer[2]


async def test_a_platform_without_quotes(machine: SimulatedPlatform) -> None:
    """Both servers give the same answer if the platform makes no quotes or accepts no grants."""

    class Silent:
        def quote(self, report_data: bytes) -> Quoted:
            raise SourceRefused("a text of the agent's")

    surface = BackendSurface(Silent(), did=SELF.did, manifest=MANIFEST)
    query = f"nonce={encode_url(NONCE)}"
    by_asgi = [
        await asked_of(surface.asgi(), "GET", EVIDENCE_PATH, query=query),
        await asked_of(surface.asgi(), "POST", GRANTS_PATH, body=[b"{}"]),
    ]
    assert [(503, "source_refused"), (404, "not-found")] == [problem(one) for one in by_asgi]
    async with serving(surface) as url, aiohttp.ClientSession() as session:
        async with session.get(f"{url}{EVIDENCE_PATH}?{query}") as answer:
            assert by_asgi[0][2] == await answer.read()
        async with session.post(url + GRANTS_PATH, data=b"{}") as answer:
            assert by_asgi[1][2] == await answer.read()


# --- bounds ---------------------------------------------------------------------------------------


async def test_a_length_that_is_too_large_is_not_read(surface: BackendSurface) -> None:
    """A body with a too large content length is refused before it is read."""
    for stated in (MAX_GRANT_BYTES + 1, 10**30):
        headers = [("Content-Length", str(stated))]
        answer = await asked_of(surface.asgi(), "POST", GRANTS_PATH, headers=headers, events=[])
        assert (413, "grant-too-large") == problem(answer)


async def test_a_body_that_does_not_come(
    surface: BackendSurface, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An incomplete grant is refused after a time limit (AT57)."""
    monkeypatch.setattr(publishing, "BODY_S", 0.05)
    half = {"type": "http.request", "body": b"{", "more_body": True}
    assert (408, "grant-too-slow") == problem(
        await asked_of(surface.asgi(), "POST", GRANTS_PATH, events=[half])
    )


async def test_slow_bodies_of_one_address(surface: BackendSurface) -> None:
    """Slow bodies of one address take at most half of the places, and other clients can deliver
    (AT63)."""
    flood, honest = ("192.0.2.1", 1), ("192.0.2.2", 1)
    waiting = [
        asyncio.create_task(asked_of(surface.asgi(), "POST", GRANTS_PATH, events=[], client=flood))
        for _ in range(MOST_BODIES_UNDER_WAY // 2)
    ]
    await asyncio.sleep(0)
    refused = await asked_of(surface.asgi(), "POST", GRANTS_PATH, body=[b"{}"], client=flood)
    assert (503, "grants-busy") == problem(refused)
    body = [encode_portable(portable())]
    assert 204 == (await asked_of(surface.asgi(), "POST", GRANTS_PATH, body=body, client=honest))[0]
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_client_that_leaves(surface: BackendSurface, taken: Taken) -> None:
    """A client that disconnects gets no answer, and its partial grant is ignored."""
    whole = encode_portable(portable())
    gone: Message = {"type": "http.disconnect"}
    half: Message = {"type": "http.request", "body": whole, "more_body": True}
    for events in ([gone], [half, gone]):
        assert (0, {}, b"") == await asked_of(surface.asgi(), "POST", GRANTS_PATH, events=events)
    assert [] == taken.grants


@pytest.mark.parametrize(
    "sent", [b"Content-Length: 9\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n9\r\n{"]
)
async def test_a_body_that_breaks_off_is_no_failure(
    surface: BackendSurface, taken: Taken, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    """A client that disconnects causes no traceback in the log of an aiohttp server."""
    async with serving(surface) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"POST %b HTTP/1.1\r\nHost: x\r\n%b" % (GRANTS_PATH.encode(), sent))
        writer.write_eof()
        await reader.read()
        writer.close()
    assert [] == taken.grants
    assert [] == [one for one in caplog.records if one.levelname in ("WARNING", "ERROR")]


async def test_clients_that_ask_and_leave(machine: SimulatedPlatform) -> None:
    """Quotes are made one at a time, with a bounded queue, even if the server cancels requests."""
    started, go_on = threading.Semaphore(0), threading.Event()
    made: list[bytes] = []

    class Slow:
        def quote(self, report_data: bytes) -> Quoted:
            made.append(report_data)
            started.release()
            go_on.wait(PATIENCE_S)
            return Quoted(machine.mint_quote(measurements_of("notes"), report_data))

    surface = BackendSurface(Slow(), did=SELF.did, manifest=MANIFEST)
    query = f"nonce={encode_url(NONCE)}"
    for _ in range(publishing.MOST_WAITING):
        asked = asyncio.create_task(asked_of(surface.asgi(), "GET", EVIDENCE_PATH, query=query))
        await asyncio.sleep(0)
        asked.cancel()
        with suppress(asyncio.CancelledError):
            await asked
    await asyncio.to_thread(started.acquire)
    assert (503, "quotes-busy") == problem(
        await asked_of(surface.asgi(), "GET", EVIDENCE_PATH, query=query)
    )
    assert 1 == len(made)
    go_on.set()
    for _ in range(publishing.MOST_WAITING - 1):
        await asyncio.to_thread(started.acquire)
    assert 200 == (await asked_of(surface.asgi(), "GET", EVIDENCE_PATH, query=query))[0]


@pytest.mark.parametrize("client", [("192.0.2.1", 1), ("2001:db8::1", 1), ("::ffff:192.0.2.1", 1)])
async def test_one_address_has_so_many(surface: BackendSurface, client: tuple[str, int]) -> None:
    """Grants are counted by the connection's address, except for loopback and unknown addresses
    (AT54)."""
    body = [encode_portable(portable())]

    async def send(address: tuple[str, int] | None, times: int) -> list[int]:
        asked = (
            asked_of(surface.asgi(), "POST", GRANTS_PATH, body=body, client=address)
            for _ in range(times)
        )
        return [(await one)[0] for one in asked]

    assert [204] * 12 + [429] * 3 == await send(client, 15)
    # of the other 48, the senders without a known address leave half
    assert [204] * 20 == [*await send(("127.0.0.1", 1), 10), *await send(None, 10)]
    assert 503 in await send(None, 30)
    assert [204] == await send(("192.0.2.9", 1), 1)


async def test_grants_of_a_bundle_are_counted_singly(surface: BackendSurface, taken: Taken) -> None:
    """Each grant of a bundle is counted (AT54)."""
    half = bundle(*[portable()] * 6)
    answers = [
        (await asked_of(surface.asgi(), "POST", GRANTS_PATH, body=[half]))[0] for _ in range(3)
    ]
    assert [204, 204, 429] == answers and 12 == sum(map(len, taken.grants))
    answers = [
        (await asked_of(surface.asgi(), "POST", GRANTS_PATH, body=[half], client=None))[0]
        for _ in range(9)
    ]
    assert [204] * 4 == answers[:4] and 503 in answers


async def test_clients_named_by_a_proxy(machine: SimulatedPlatform, taken: Taken) -> None:
    """A program behind a proxy can count clients by a header of the proxy."""

    def named(request: SurfaceRequest) -> str | None:
        return request.header("X-Client")

    source = Domain(machine, measurements_of("notes"))
    surface = BackendSurface(
        source, did=SELF.did, manifest=MANIFEST, on_grant=taken, client_of=named
    )
    body = [encode_portable(portable())]
    for count in range(14):
        answer = await asked_of(
            surface.asgi(), "POST", GRANTS_PATH, headers=[("x-CLIENT", "flood")], body=body
        )
        assert (204 if count < 12 else 429) == answer[0]
    assert (
        204
        == (
            await asked_of(
                surface.asgi(), "POST", GRANTS_PATH, headers=[("x-client", "b")], body=body
            )
        )[0]
    )


# --- ASGI -----------------------------------------------------------------------------------------


async def test_life_without_an_application_of_its_own(surface: BackendSurface) -> None:
    """Lifespan events are acknowledged, websockets are refused, and other paths are 404."""
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return events.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await surface.asgi()({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    await surface.asgi()({"type": "websocket", "path": EVIDENCE_PATH, "headers": []}, receive, send)
    assert ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"] == [
        one["type"] for one in sent
    ]
    assert (404, "not-found") == problem(await asked_of(surface.asgi(), "GET", "/"))


async def test_beside_an_application(surface: BackendSurface) -> None:
    """All other requests, lifespan events and websockets go to the program's own application."""
    got: list[str] = []

    async def inner(scope: Message, receive: Any, send: Any) -> None:
        got.append(f"{scope['type']} {scope.get('path', '')}")
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 299, "headers": []})
            await send({"type": "http.response.body", "body": b"the program's"})

    application = surface.asgi(inner)
    assert (299, {}, b"the program's") == await asked_of(application, "GET", "/work")
    assert 299 == (await asked_of(application, "GET", EVIDENCE_PATH + "s"))[0]
    assert 200 == (await asked_of(application, "GET", EVIDENCE_PATH))[0]
    assert 404 == (await asked_of(application, "GET", EVIDENCE_PATH + "/other"))[0]

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError(message)

    for kind in ("lifespan", "websocket"):
        await application({"type": kind, "path": EVIDENCE_PATH}, receive, send)
    assert [
        "http /work",
        f"http {EVIDENCE_PATH}s",
        f"lifespan {EVIDENCE_PATH}",
        f"websocket {EVIDENCE_PATH}",
    ] == got


async def test_mounted_below_a_path(surface: BackendSurface) -> None:
    """The prefix of a mount point is not part of the surface's paths."""
    for prefix, root in (("/api", "/api"), ("/api", "/api/"), ("", "/api"), ("", "")):
        answer = await asked_of(surface.asgi(), "GET", prefix + EVIDENCE_PATH, root_path=root)
        assert 200 == answer[0]
    assert (
        404
        == (await asked_of(surface.asgi(), "GET", "/other" + EVIDENCE_PATH, root_path="/api"))[0]
    )
