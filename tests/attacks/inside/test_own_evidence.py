"""Attacks on the node's own evidence: a client that requires evidence always gets it, cheaply."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from deviating_log import LogOptions, mint_event_log
from deviating_platform import SimulatedPlatform
from node_evidence_stage import COMPOSE, IMAGE, CountingWallet, Relay, Stage, evidence_stage
from patience import PATIENCE_S
from postgres_server import needs_postgres, postgres_server
from running_node import RunningNode, running_node, send
from simulators.agent import AgentSimulator, agent_on
from tests_support import FixedClock

from encryption_network.policy import Policy
from sealspace.cli.root import EXIT_STATUS
from sealspace.client import Client
from sealspace.documents.node_evidence import NodeRequirement
from sealspace.errors import NodeEvidenceRefused, NodeFailure, NodeRefused, SealspaceError
from sealspace.wire.transport import TransportSettings
from tee_backend.attestation.event_log_claims import KeyProvider
from tee_backend.evidence.dstack import MAX_ANSWER_BYTES, DstackSource
from tee_backend.evidence.evidence_errors import EvidenceSourceError

CANARY = "canary-of-the-agent"
BY_COMPOSE_HASH = Policy(measurements=(replace(IMAGE, rtmr3=None),), compose_hashes=(COMPOSE,))


@pytest.fixture
async def stage(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Stage]:
    """A guest agent; nodes and clients are started by the tests."""
    async with evidence_stage(tmp_path, clock) as stage:
        yield stage


async def insisting(
    stage: Stage, url: str, *, tries: int = 1, renew_after_s: float = 600.0
) -> Client:
    """Return a client that requires evidence, with the given number of attempts."""
    settings = TransportSettings(timeout_s=PATIENCE_S, tries=tries, backoff_s=0)
    required = replace(stage.requirement(), renew_after_s=renew_after_s)
    client = Client(url, require_node_evidence=required, settings=settings, clock=stage.clock)
    return await stage.stack.enter_async_context(client)


async def signed_in(
    stage: Stage, url: str, *, tries: int = 1, renew_after_s: float = 600.0
) -> Client:
    """Return a client that has signed in and stored a value."""
    client = await insisting(stage, url, tries=tries, renew_after_s=renew_after_s)
    await client.sign_in(CountingWallet())
    await client.kv().put("a", b"value")
    return client


async def failure_of(asked: Awaitable[object]) -> SealspaceError:
    """Return the code of the error with which a call ends."""
    with pytest.raises(SealspaceError) as failure:
        await asked
    return failure.value


# --- no token before the evidence -----------------------------------------------------------------


async def test_no_token_while_the_evidence_is_on_its_way(stage: Stage) -> None:
    """Concurrent calls send no token until the evidence is judged (AT45)."""
    relay, url = await stage.relay(await stage.start())
    client = await signed_in(stage, url, renew_after_s=10)
    stage.clock.advance(11)
    stage.agent.minted, before = mint_event_log(b"x" * 32), relay.tokens
    asked, go = asyncio.Event(), asyncio.Event()

    async def hold(request: web.Request) -> None:
        if request.path == "/attestation":
            asked.set()
            await go.wait()

    relay.instead = hold
    calls = [asyncio.create_task(failure_of(client.kv().put(name, b"v"))) for name in "abcdef"]
    await asked.wait()
    # time for a token to slip through
    assert (await send(relay.target, "GET", "/healthz")).status == 200
    assert relay.tokens == before
    go.set()
    assert {type(failure) for failure in await asyncio.gather(*calls)} == {NodeEvidenceRefused}
    assert relay.tokens == before


async def test_one_question_that_fails_is_the_answer_for_all_who_waited(stage: Stage) -> None:
    """One failed request for evidence fails all waiting calls (AT45)."""
    relay, url = await stage.relay(await stage.start())
    client = await insisting(stage, url)
    stage.agent.fault = "refuses"
    failures = await asyncio.gather(*(failure_of(client.node_evidence()) for _ in range(8)))
    assert {type(failure) for failure in failures} == {NodeFailure}
    assert relay.paths.count("/attestation") == 1
    stage.agent.fault = None
    await client.node_evidence()
    assert relay.paths.count("/attestation") == 2


async def test_who_asks_and_is_given_up_leaves_nobody_waiting(stage: Stage) -> None:
    """If a request for evidence is cancelled, the next call requests the evidence again (AT45)."""
    relay, url = await stage.relay(await stage.start())
    client = await insisting(stage, url)
    asked, go = asyncio.Event(), asyncio.Event()

    async def hold(request: web.Request) -> None:
        if request.path == "/attestation" and not asked.is_set():
            asked.set()
            await go.wait()

    relay.instead = hold
    first = asyncio.create_task(client.node_evidence())
    await asked.wait()
    second = asyncio.create_task(client.node_evidence())
    first.cancel()
    evidence = await second
    go.set()
    assert (first.cancelled() or first.cancelling()) == 1
    assert relay.tokens == 0
    assert evidence.statement.secret_origin == "platform" and relay.paths.count("/attestation") == 2


async def test_evidence_is_as_old_as_the_question(stage: Stage) -> None:
    """The age of evidence counts from its request, even if a relay delays the answer (AT45)."""
    relay, url = await stage.relay(await stage.start())

    async def late(request: web.Request) -> None:
        if request.path == "/attestation":
            stage.clock.advance(60)

    relay.instead = late
    client = await insisting(stage, url, renew_after_s=100)
    await client.node_evidence()
    stage.clock.advance(50)
    await client.node_evidence()
    assert relay.paths.count("/attestation") == 2


@pytest.mark.parametrize("how", ["busy", "broken off"])
async def test_each_try_asks_again(stage: Stage, how: str) -> None:
    """A retry fetches evidence again, so changed code gets no token (AT45)."""
    relay, url = await stage.relay(await stage.start())
    client = await signed_in(stage, url, tries=3, renew_after_s=10)
    before = relay.tokens

    async def fail(request: web.Request) -> web.StreamResponse | None:
        if "Authorization" not in request.headers:
            return None
        stage.clock.advance(11)
        stage.agent.minted = mint_event_log(b"x" * 32)
        if how == "broken off":
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=503)

    relay.instead = fail
    refusal = await failure_of(client.kv().get("a"))
    assert isinstance(refusal, NodeEvidenceRefused) and refusal.reason == "measurement"
    assert relay.tokens == before + 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", ["/info", "/attestation", "token"])
async def test_redirects_lead_nowhere(stage: Stage, path: str, status: int) -> None:
    """A redirect is never followed, with or without a token (AT45)."""
    relay, url = await stage.relay(await stage.start())
    elsewhere, where = await stage.relay(await stage.start("other"))
    if path == "token":
        client, before = await signed_in(stage, url), relay.tokens
    else:
        client, before = await insisting(stage, url), 0

    async def point(request: web.Request) -> web.StreamResponse | None:
        if request.path == path or (path == "token" and "Authorization" in request.headers):
            return web.Response(status=status, headers={"Location": where + request.path_qs})
        return None

    relay.instead = point
    asked = client.kv().get("a") if path == "token" else client.sign_in(CountingWallet())
    assert isinstance(await failure_of(asked), NodeRefused)
    assert elsewhere.paths == []
    assert relay.tokens - before == (1 if path == "token" else 0)


async def test_a_stored_session_asks_first(stage: Stage) -> None:
    """A client with a stored session fetches evidence before it sends a token (AT45)."""
    relay, url = await stage.relay(await stage.start())
    session = (await signed_in(stage, url)).session
    client = await insisting(stage, url)
    client.use(session)
    relay.paths.clear()
    stage.agent.minted, before = mint_event_log(b"x" * 32), relay.tokens
    for call in (
        client.kv().get("a"),
        client.kv().put("b", b""),
        client.secrets().get("A"),
        client.kv().delete("a"),
    ):
        assert isinstance(await failure_of(call), NodeEvidenceRefused)
    assert relay.tokens == before and set(relay.paths) == {"/info", "/attestation"}


# --- who keeps the node's secret ------------------------------------------------------------------


async def refusal_under(stage: Stage, required: NodeRequirement, relay: Relay, url: str) -> str:
    failure = await failure_of((await stage.client(url, required)).sign_in(CountingWallet()))
    assert isinstance(failure, NodeEvidenceRefused) and relay.tokens == 0
    return failure.reason


async def test_an_answer_without_the_log_hides_no_key_provider(stage: Stage) -> None:
    """Evidence without its event log is refused although its measurements are approved (AT29, AT42,
    AT45)."""
    stage.agent.minted = mint_event_log(
        COMPOSE, options=LogOptions(key_provider=KeyProvider("local-sgx", b"\x01" * 8))
    )
    relay, url = await stage.relay(await stage.start())
    assert await refusal_under(stage, stage.requirement(), relay, url) == "key-provider"
    stage.agent.fault = "without-log"
    assert await refusal_under(stage, stage.requirement(), relay, url) == "key-provider"


async def test_a_key_service_of_the_attackers(stage: Stage) -> None:
    """A program must name the key provider if the measurements do not (AT29, AT42, AT45)."""
    mine = KeyProvider("kms", b"a service of mine")
    stage.agent.minted = mint_event_log(COMPOSE, options=LogOptions(key_provider=mine))
    relay, url = await stage.relay(await stage.start())
    assert (
        await refusal_under(stage, stage.requirement(code=BY_COMPOSE_HASH), relay, url)
        == "key-provider"
    )
    other = replace(BY_COMPOSE_HASH, key_providers=(f"kms:{b'the right one'.hex()}",))
    assert await refusal_under(stage, stage.requirement(code=other), relay, url) == "key-provider"
    named = replace(BY_COMPOSE_HASH, key_providers=(f"kms:{mine.id.hex()}",))
    await (await stage.client(url, stage.requirement(code=named))).node_evidence()
    # Registers that were approved as a whole name the service too.
    await (await stage.client(url, stage.requirement())).node_evidence()


async def test_one_strict_process_does_not_speak_for_the_store(stage: Stage) -> None:
    """The evidence states the attestation mode of the release record, which applies to all machines
    (AT40, AT45, RL16)."""
    await stage.start()
    await stage.stack.aclose()
    relay, url = await stage.relay(await stage.start(release={"attestation": "everyone"}))
    strict = stage.requirement(modes=frozenset({"everyone"}))
    assert await refusal_under(stage, strict, relay, url) == "mode"
    await (await stage.client(url, stage.requirement())).node_evidence()


# --- the agent ------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
RAW = {
    "nothing": b"",
    "no status": f"{CANARY}\r\n\r\n".encode(),
    "status of words": f"HTTP/1.1 {CANARY} OK\r\n\r\n".encode(),
    "many headers": HEAD + f"X: {CANARY}\r\n".encode() * 500 + b"\r\n{}",
    "long header": HEAD + b"X: " + CANARY.encode() * 9000 + b"\r\n\r\n{}",
    "many answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + HEAD + b"\r\n{}",
    "chunk of words": CHUNKED + CANARY.encode() + b"\r\n",
    "chunk below nothing": CHUNKED + b"-5\r\n" + CANARY.encode(),
    "chunk of minus one": CHUNKED + b"-1\r\n" + CANARY.encode(),
    "chunk beyond numbers": CHUNKED + b"f" * 40 + b"\r\n" + CANARY.encode(),
    "length below nothing": HEAD + b"Content-Length: -7\r\n\r\n" + CANARY.encode(),
    "an error": b"HTTP/1.1 500 No\r\n\r\n" + f'{{"error":"{CANARY} /var/run/{CANARY}"}}'.encode(),
    "deep": HEAD + b'\r\n{"quote":' + b"[" * 100_000,
    "no text": HEAD + b'\r\n{"quote":"\\ud800","event_log":"\\ud800"}',
    "a log of its own": HEAD + f'\r\n{{"quote":"00","event_log":"[{CANARY}"}}'.encode(),
}


@contextmanager
def raw_agent(path: Path, answer: bytes) -> Iterator[None]:
    """Listen on a Unix socket and answer every request with the same bytes."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def serve() -> None:
        while True:
            connection, _ = listening.accept()
            with connection:
                if not connection.recv(65_536):
                    return  # the end of the test
                try:
                    connection.settimeout(PATIENCE_S)
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65_536):
                        pass
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
        thread.join()
        listening.close()


@pytest.mark.parametrize("answer", RAW.values(), ids=RAW)
async def test_an_agent_that_fails_tells_nothing_of_itself(
    stage: Stage, answer: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """A guest agent's answer appears neither in the error nor in the log (AT44)."""
    path = stage.folder / "failing.sock"
    node = await stage.start(secret={"platform": False}, platform={"socket": str(path)})
    with raw_agent(path, answer):
        reply = await send(node.url, "GET", "/attestation?nonce=n")
        ready = await send(node.url, "GET", "/readyz")
    said = reply.text + str(reply.headers) + ready.text + "".join(capfd.readouterr())
    assert reply.status == 503 and reply.text.startswith("quote generation failed: source_"), (
        reply.said
    )
    assert CANARY not in said and "failing.sock" not in said and "Traceback" not in said


def test_an_agent_without_end_is_cut_off(tmp_path: Path) -> None:
    """An endless answer of an agent is cut off at the limit."""
    path, sent = tmp_path / "s.sock", 0
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def pour() -> None:
        nonlocal sent
        connection, _ = listening.accept()
        with connection:
            connection.recv(65_536)
            try:
                connection.sendall(CHUNKED + b"-1\r\n")
                while sent < 20 * MAX_ANSWER_BYTES:
                    sent += connection.send(bytes(65_536))
            except OSError:
                pass

    thread = threading.Thread(target=pour)
    thread.start()
    with pytest.raises(EvidenceSourceError):
        DstackSource(path, timeout_s=20).quote(bytes(64))
    thread.join()
    listening.close()
    assert sent < 2 * MAX_ANSWER_BYTES


async def test_outsiders_who_hang_up_keep_no_place(stage: Stage) -> None:
    """Clients that request quotes and disconnect free their places (AT43)."""
    stage.agent.gate = asyncio.Event()
    node = await stage.start(platform={"quotes_waiting": 4, "quote_s": 60.0})
    async with aiohttp.ClientSession() as session:
        address = f"{node.url}/attestation?nonce=n"
        gone = [asyncio.create_task(_status(session, address)) for _ in range(4)]
        while (
            stage.agent.asked["GetQuote"] == 0
            or (await send(node.url, "GET", "/attestation")).status != 503
        ):
            assert (await send(node.url, "GET", "/info")).status == 200
        for one in gone:
            one.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        stage.agent.gate.set()
        while (status := await _status(session, address)) == 503:
            assert (await send(node.url, "GET", "/healthz")).status == 200
        assert status == 200


async def _status(session: aiohttp.ClientSession, address: str) -> int:
    async with session.get(address) as answer:
        return answer.status


# --- the platform's secret on a node that runs ----------------------------------------------------


@asynccontextmanager
async def agent_beside(folder: Path) -> AsyncIterator[AgentSimulator]:
    """A guest agent for a node in a process of its own."""
    machine = SimulatedPlatform.from_seed(b"the platform of nodes")
    agent = AgentSimulator(machine, replace(IMAGE, rtmr3=None), mint_event_log(COMPOSE))
    async with agent_on(folder / "agent.sock", agent):
        yield agent


def on_the_platform(folder: Path) -> dict[str, str]:
    """Return settings of a node whose secret comes from the platform."""
    return {
        "SEALSPACE_SECRET__PLATFORM": "true",
        "SEALSPACE_PLATFORM__SOURCE": "dstack",
        "SEALSPACE_PLATFORM__SOCKET": str(folder / "agent.sock"),
    }


async def does_not_start(folder: Path, environment: dict[str, str], *arguments: str) -> None:
    """Start a node that must refuse the store, and check its message."""
    node = await asyncio.to_thread(
        RunningNode, folder, "--workers", "1", *arguments, environment=environment
    )
    try:
        assert await asyncio.to_thread(node.process.wait, 30) == EXIT_STATUS["store-misused"]
        assert not any(line.startswith("listening") or "Traceback" in line for line in node.lines)
        node.wait_for(
            "^next: start with the application .app id., key provider and secret.platform_path that"
            " the store was made with"
        )
    finally:
        await asyncio.to_thread(node.close)


async def node_id(url: str) -> object:
    return (await send(url, "GET", "/info")).value["nodeId"]


async def stored(url: str) -> Client:
    """Sign in, store a secret and return the client."""
    client = Client(url, settings=TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0))
    await client.sign_in(CountingWallet())
    await client.secrets().put("API_KEY", "the value")
    return client


@pytest.mark.slow
async def test_an_update_that_gets_another_key_refuses_the_store(tmp_path: Path) -> None:
    """A node refuses a store of another key, without damage to it (AT42)."""
    environment = on_the_platform(tmp_path)
    async with agent_beside(tmp_path) as agent:

        def run() -> RunningNode:
            return RunningNode(tmp_path, "--workers", "2", environment=environment)

        node = await asyncio.to_thread(run)
        url = await asyncio.to_thread(lambda: node.url)
        client = await stored(url)
        before, session = await node_id(url), client.session
        await client.close()
        await asyncio.to_thread(node.stop)
        agent.seed = b"keys of another application"
        for _ in range(2):  # refused once, it is refused again
            await does_not_start(tmp_path, environment)
        agent.seed = AgentSimulator.seed
        node = await asyncio.to_thread(run)
        try:
            url = await asyncio.to_thread(lambda: node.url)
            async with Client(url, session=session) as client:
                assert await client.secrets().get("API_KEY") == "the value"
            assert await node_id(url) == before
        finally:
            await asyncio.to_thread(node.close)


@pytest.mark.slow
async def test_a_worker_that_died_comes_back_with_the_same_key(tmp_path: Path) -> None:
    """A restarted worker gets the secret that the node started with (AT42)."""
    async with agent_beside(tmp_path) as agent:

        def run() -> RunningNode:
            return RunningNode(tmp_path, "--workers", "1", environment=on_the_platform(tmp_path))

        node = await asyncio.to_thread(run)
        try:
            url = await asyncio.to_thread(lambda: node.url)
            before = await node_id(url)
            agent.seed = b"keys of another application"
            (worker,) = node.children("worker")
            os.kill(worker, signal.SIGKILL)
            # the socket is the supervisor's: the connection waits
            assert await node_id(url) == before
            assert agent.asked["GetKey"] == 1
            assert worker not in node.children("worker")
        finally:
            await asyncio.to_thread(node.close)


@pytest.mark.slow
@needs_postgres()
async def test_a_second_machine_with_another_key_does_not_join(tmp_path: Path) -> None:
    """A second machine whose platform gives another key refuses the store (AT42)."""
    url = postgres_server().new_database()
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    async with agent_beside(one), agent_beside(two) as other:
        other.seed = b"keys of another application"
        running = running_node(one, "--store", url, workers=1, environment=on_the_platform(one))
        node = await asyncio.to_thread(running.__enter__)
        try:
            await does_not_start(two, on_the_platform(two), "--store", url)
            assert (await send(node.url, "GET", "/readyz")).status == 200
            other.seed = AgentSimulator.seed
            joining = running_node(two, "--store", url, workers=1, environment=on_the_platform(two))
            joined = await asyncio.to_thread(joining.__enter__)
            try:
                assert await node_id(joined.url) == await node_id(node.url)
            finally:
                await asyncio.to_thread(joining.__exit__, None, None, None)
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)


@pytest.mark.slow
async def test_a_platform_that_hangs_does_not_keep_the_node_from_ending(tmp_path: Path) -> None:
    """A stalled agent does not keep a node from ending (AT43)."""
    environment = {
        **on_the_platform(tmp_path),
        "SEALSPACE_PLATFORM__QUOTE_S": "60",
        "SEALSPACE_HTTP__DRAIN_S": "1",
    }

    def run() -> tuple[RunningNode, str]:
        node = RunningNode(tmp_path, "--workers", "1", environment=environment)
        return node, node.url

    async with agent_beside(tmp_path) as agent:
        for _ in range(2):
            node, url = await asyncio.to_thread(run)
            try:
                agent.gate, before = asyncio.Event(), agent.asked["GetQuote"]
                asking = asyncio.create_task(send(url, "GET", "/attestation?nonce=n"))
                while agent.asked["GetQuote"] == before:
                    assert (await send(url, "GET", "/healthz")).status == 200
                assert await asyncio.to_thread(node.stop) == 0
                with pytest.raises(aiohttp.ClientError):
                    await asking
            finally:
                await asyncio.to_thread(node.close)
