"""Quotes and logs from guest agents of both generations, correct and faulty."""

import asyncio
import json
import resource
import socket
from pathlib import Path
from typing import get_args

import aiohttp
import pytest
from deviating_log import LogOptions, mint_event_log
from deviating_platform import SimulatedPlatform
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.agent import AgentSimulator, Fault, agent_on

from encryption_network.policy import Measurements
from tee_backend.attestation.event_log_claims import verify_event_log
from tee_backend.attestation.quote import parse_quote
from tee_backend.evidence.dstack import DstackSource, Generation
from tee_backend.evidence.evidence_errors import (
    EvidenceSourceError,
    SourceMalformed,
    SourceRefused,
    SourceUnavailable,
)
from tee_backend.evidence.source import KeySource, Quoted

DATA = bytes(range(64))
COMPOSE = bytes(range(32))
BOTH = pytest.mark.parametrize("generation", ["dstack", "tappd"])

REFUSED_AS: dict[str, type[EvidenceSourceError]] = {
    "refuses": SourceRefused,
    "refuses-politely": SourceRefused,
    "broken": SourceRefused,
    "closes": SourceUnavailable,
    "cuts": SourceMalformed,
    "no-json": SourceMalformed,
    "no-object": SourceMalformed,
    "endless": SourceMalformed,
    "stalls": SourceUnavailable,
    "other-report-data": SourceMalformed,
    "no-quote": SourceMalformed,
    "no-hex": SourceMalformed,
    "log-no-json": SourceMalformed,
}


@pytest.fixture
def agent(machine: SimulatedPlatform, code: Measurements) -> AgentSimulator:
    """An agent in a simulated trust domain."""
    return AgentSimulator(machine, code, mint_event_log(COMPOSE))


async def ask(path: Path, generation: Generation = "dstack", **settings: float) -> Quoted:
    """Request a quote from an agent in a thread, as a backend does."""
    source = DstackSource(path, generation, **settings)
    return await asyncio.to_thread(source.quote, DATA)


@BOTH
@pytest.mark.parametrize("chunked", [False, True])
async def test_quote_and_log(
    agent: AgentSimulator, tmp_path: Path, generation: Generation, chunked: bool
) -> None:
    """Quote and log match, whether or not the answer has a content length."""
    agent.chunked = chunked
    path = tmp_path / "agent.sock"
    async with agent_on(path, agent):
        quoted = await ask(path, generation)
    report = parse_quote(quoted.quote).report
    assert quoted.event_log is not None
    assert report.report_data == DATA
    assert verify_event_log(quoted.event_log, report).compose_hash == COMPOSE
    assert (
        {"GetQuote": 1} == agent.asked if generation == "dstack" else {"TdxQuote": 1} == agent.asked
    )


@pytest.mark.parametrize("options", [LogOptions(version=2), LogOptions(gives_digests=False)])
async def test_newer_logs(agent: AgentSimulator, tmp_path: Path, options: LogOptions) -> None:
    """Logs with preimages and logs without digests are read."""
    agent.minted = mint_event_log(COMPOSE, options=options)
    async with agent_on(tmp_path / "agent.sock", agent):
        quoted = await ask(tmp_path / "agent.sock")
    assert agent.minted.log == quoted.event_log


async def test_without_a_log(agent: AgentSimulator, tmp_path: Path) -> None:
    """An answer without a log is accepted."""
    async with agent_on(tmp_path / "agent.sock", agent):
        agent.fault = "without-log"
        assert (await ask(tmp_path / "agent.sock")).event_log is None


def test_every_fault_has_an_expectation() -> None:
    """The test covers every fault of the simulated agent."""
    assert {*REFUSED_AS, "without-log"} == set(get_args(Fault))


@BOTH
@pytest.mark.parametrize("fault", REFUSED_AS)
async def test_faults(
    agent: AgentSimulator, tmp_path: Path, generation: Generation, fault: Fault
) -> None:
    """A faulty answer, a refusal and a missing agent are different errors."""
    agent.fault = fault
    async with agent_on(tmp_path / "agent.sock", agent):
        with pytest.raises(REFUSED_AS[fault]):
            await ask(
                tmp_path / "agent.sock", generation, timeout_s=0.2 if fault == "stalls" else 10.0
            )


async def test_an_agent_that_trickles(tmp_path: Path) -> None:
    """The timeout covers the whole exchange, so a trickling agent cannot block a backend."""
    sent = 0

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"}")
        try:
            # Each byte waits for a round of the loop and the client's read; the client ends it.
            while True:
                writer.write(b"H" if sent == 0 else b"T")
                await writer.drain()
                sent += 1
                await asyncio.to_thread(lambda: None)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(trickle, path=str(tmp_path / "agent.sock"))
    async with server:
        with pytest.raises(SourceUnavailable) as late:
            await ask(tmp_path / "agent.sock", timeout_s=0.1)
    assert sent
    assert "TimeoutError" in late.value.detail


async def test_the_other_generation(agent: AgentSimulator, tmp_path: Path) -> None:
    """An agent's answer to an unknown request is a refusal with its text."""
    async with agent_on(tmp_path / "agent.sock", agent):
        agent.fault = "refuses"
        with pytest.raises(SourceRefused) as refused:
            await ask(tmp_path / "agent.sock")
    assert "quote generation failed" in refused.value.detail


async def test_nobody_there(tmp_path: Path) -> None:
    """A missing socket, a socket without a listener and an overlong path are unavailable
    sources."""
    deaf = tmp_path / "deaf.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(deaf))
    for path in (tmp_path / "absent.sock", deaf, tmp_path / ("x" * 200)):
        with pytest.raises(SourceUnavailable):
            await ask(path)


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """A process without free file descriptors gets the error that the agent does not answer."""
    source = DstackSource(tmp_path / "agent.sock", "dstack")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as least:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least.fileno(), hard))
        try:
            with pytest.raises(SourceUnavailable):
                source.quote(DATA)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_find(tmp_path: Path) -> None:
    """The newer generation is preferred, and a regular file is not taken for a socket."""
    folders = (tmp_path / "a", tmp_path / "b")
    for folder in folders:
        folder.mkdir()
    (folders[0] / "dstack.sock").touch()
    with pytest.raises(SourceUnavailable):
        DstackSource.find(folders)
    with socket.socket(socket.AF_UNIX) as old, socket.socket(socket.AF_UNIX) as new:
        old.bind(str(folders[0] / "tappd.sock"))
        found = DstackSource.find(folders)
        assert folders[0] / "tappd.sock" == found.socket_path
        assert found.generation == "tappd"
        new.bind(str(folders[1] / "dstack.sock"))
        found = DstackSource.find(folders)
        assert folders[1] / "dstack.sock" == found.socket_path
        assert found.generation == "dstack"


def test_find_one_generation(tmp_path: Path) -> None:
    """If one generation is requested, the other is not used."""
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(tmp_path / "tappd.sock"))
        assert (
            DstackSource.find((tmp_path,), generations=("tappd",), timeout_s=3.0).timeout_s == 3.0
        )
        with pytest.raises(SourceUnavailable):
            DstackSource.find((tmp_path,), generations=("dstack",))


@BOTH
async def test_keys(agent: AgentSimulator, tmp_path: Path, generation: Generation) -> None:
    """Both generations return the same key for a path, and another key for another path (AT42)."""
    path = tmp_path / "agent.sock"
    async with agent_on(path, agent):
        source = DstackSource(path, generation)
        assert isinstance(source, KeySource)
        keys = [await asyncio.to_thread(source.key, name) for name in ("a", "b", "a")]
        other = await asyncio.to_thread(DstackSource(path, "dstack").key, "a")
    assert keys[0] == keys[2] == other != keys[1]
    assert len(other) == 32


@BOTH
@pytest.mark.parametrize("key", ["00" * 31, "", "zz" * 32, None])
async def test_keys_that_are_none(
    agent: AgentSimulator, tmp_path: Path, generation: Generation, key: object
) -> None:
    """A key of fewer than 32 bytes is refused."""
    agent.key_answer = {"key": key}
    async with agent_on(tmp_path / "agent.sock", agent):
        with pytest.raises(SourceMalformed):
            await asyncio.to_thread(DstackSource(tmp_path / "agent.sock", generation).key, "a")


@BOTH
@pytest.mark.parametrize("fault", ["refuses", "closes", "cuts", "no-json", "no-object", "endless"])
async def test_faults_of_the_key_service(
    agent: AgentSimulator, tmp_path: Path, generation: Generation, fault: Fault
) -> None:
    """A faulty key service gives the same errors as a faulty quote service."""
    agent.fault = fault
    async with agent_on(tmp_path / "agent.sock", agent):
        with pytest.raises(REFUSED_AS[fault]):
            await asyncio.to_thread(DstackSource(tmp_path / "agent.sock", generation).key, "a")


@pytest.mark.parametrize("size", [0, 63, 65])
def test_only_sixty_four_bytes(tmp_path: Path, size: int) -> None:
    """Report data of other sizes are never sent, because agents pad them differently."""
    with pytest.raises(ValueError, match="64"):
        DstackSource(tmp_path / "agent.sock").quote(bytes(size))


@settings(max_examples=25, deadline=None)
@given(
    answer=st.binary(max_size=300)
    | st.binary(max_size=200).map(lambda body: b"HTTP/1.1 200 OK\r\n\r\n" + body)
)
def test_any_answer(tmp_path_factory: pytest.TempPathFactory, answer: bytes) -> None:
    """Any bytes as an answer give a quote source error."""
    path = tmp_path_factory.mktemp("any") / "agent.sock"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(answer)
        writer.close()

    async def exchange() -> None:
        async with await asyncio.start_unix_server(serve, path=str(path)):
            with pytest.raises(EvidenceSourceError):
                await ask(path, timeout_s=5.0)

    asyncio.run(exchange())


async def _call(
    path: Path, target: str, body: object = None, *, method: str = "POST"
) -> tuple[int, dict[str, object]]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.request(method, f"http://localhost{target}", json=body) as answer,
    ):
        return answer.status, await answer.json()


async def test_the_simulated_agent(agent: AgentSimulator, tmp_path: Path) -> None:
    """The simulator behaves like an agent in padding, limits, hashing, keys and information."""
    path = tmp_path / "agent.sock"
    async with agent_on(path, agent):
        status, short = await _call(path, "/GetQuote?report_data=1234", method="GET")
        assert (status, short["report_data"]) == (200, "1234".ljust(128, "0"))
        for target, data in (
            ("/GetQuote", "00" * 65),
            ("/GetQuote", "xyz"),
            ("/prpc/Tappd.RawQuote", "00"),
        ):
            status, refusal = await _call(path, target, {"report_data": data})
            assert (status, list(refusal)) == (400, ["error"])
        _, hashed = await _call(path, "/prpc/Tappd.TdxQuote", {"report_data": "00" * 64})
        assert hashed["hash_algorithm"] == "sha512"
        assert bytes(64) != parse_quote(bytes.fromhex(str(hashed["quote"]))).report.report_data
        keys = [await _call(path, "/GetKey", {"path": name}) for name in ("a", "b", "a")]
        assert keys[0] == keys[2] != keys[1]
        _, info = await _call(path, "/Info")
        assert COMPOSE.hex() == info["compose_hash"]
        assert COMPOSE.hex() == json.loads(str(info["tcb_info"]))["compose_hash"]
        assert 200 == (await _call(path, "/Version"))[0]
        assert 404 == (await _call(path, "/EmitEvent"))[0]
