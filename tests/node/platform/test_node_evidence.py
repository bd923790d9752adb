"""Tests of the node's own evidence: its binding, its limits, and failures of the platform."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from deviating_log import text_of
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from hypothesis import given
from hypothesis import strategies as st
from running_node import Reply
from simulators.agent import AgentSimulator, Fault, agent_on
from simulators.tsm import TsmSimulator
from tests_support import CountingEntropy, FixedClock, fuzzed
from yarl import URL

from node.config.loading import load_config
from node.config.tree import Config, Http, Platform, Release, Secret, Store
from node.operations.attestation.own_evidence import checked_nonce
from node.platform.own_platform import quote_source
from node.platform.own_quotes import QuoteQueue
from node.platform.root_secret import load_root_secret, secret_origin
from node.refusal import Refusal
from sealspace.documents.node_evidence import MAX_NONCE_BYTES, parse_node_attestation
from sealspace.service.command_errors import ConfigurationError, SecretUnusable, StoreMisused
from tee_backend.attestation.event_log import parse_event_log
from tee_backend.attestation.event_log_claims import verify_event_log
from tee_backend.attestation.quote import parse_quote
from tee_backend.attestation.report_data import node_report_data
from tee_backend.evidence.evidence_errors import SourceUnavailable
from tee_backend.evidence.simulated import measurements_of, mint_event_log
from tee_backend.evidence.source import Quoted
from tee_backend.evidence.tsm import TsmSource

COMPOSE = bytes(range(32))
NONCE = "a nonce/of mine"
BOTH = pytest.mark.parametrize("source", ["dstack", "tappd"])


@pytest.fixture
def agent(platform: SimulatedPlatform) -> AgentSimulator:
    """A guest agent in a simulated trust domain."""
    return AgentSimulator(platform, measurements_of("node"), mint_event_log(COMPOSE))


@dataclass(frozen=True, slots=True)
class Stage:
    """A node in a trust domain, and its clients."""

    node: EmbeddedNode
    session: aiohttp.ClientSession

    async def ask(self, path: str) -> Reply:
        async with self.session.get(URL(self.node.url + path, encoded=True)) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status, headers, await answer.read())


def config_of(
    folder: Path, root: Path | None = None, secret: Secret | None = None, **platform: Any
) -> Config:
    return Config(
        http=Http(port=0, drain_s=1),
        store=Store(data=str(folder / "data")),
        release=Release(trust_root=None if root is None else str(root)),
        secret=secret or Secret(),
        platform=Platform(**{"source": "dstack", "socket": str(folder / "agent.sock"), **platform}),
    )


@asynccontextmanager
async def stage_of(config: Config, clock: FixedClock | None = None) -> AsyncIterator[Stage]:
    async with (
        embedded_node(config, clock=clock, entropy=CountingEntropy()) as node,
        aiohttp.ClientSession() as session,
    ):
        yield Stage(node, session)


@pytest.fixture
async def stage(
    tmp_path: Path, agent: AgentSimulator, other_root: Path, clock: FixedClock
) -> AsyncIterator[Stage]:
    """A node with a guest agent."""
    async with (
        agent_on(tmp_path / "agent.sock", agent),
        stage_of(config_of(tmp_path, other_root), clock) as stage,
    ):
        yield stage


@BOTH
async def test_what_is_bound(
    tmp_path: Path, agent: AgentSimulator, other_root: Path, source: str
) -> None:
    """Report data hash nonce, DID, store, secret origin and release terms (AT40, AT41, Q10)."""
    config = config_of(tmp_path, other_root, source=source)
    async with agent_on(tmp_path / "agent.sock", agent), stage_of(config, FixedClock()) as stage:
        answer = await stage.ask(
            f"/attestation?nonce={NONCE.replace(' ', '%20').replace('/', '%2F')}"
        )
        services = stage.node.services
    said = answer.reported
    read = parse_node_attestation(answer.body, nonce=NONCE)
    report = parse_quote(bytes.fromhex(said["quote"])).report
    assert answer.status == 200
    assert said["mode"] == "dstack"
    assert said["nonce"] == NONCE
    assert (
        report.report_data
        == node_report_data(NONCE, read.statement)
        == bytes.fromhex(said["report_data"])
    )
    assert services.keyring.node_did == read.statement.node_did
    assert services.store_id == read.statement.store_id
    assert read.statement.secret_origin == "operator"
    assert read.statement.attestation == "delegates"
    assert read.statement.trust_roots == (services.trust_root.sha256,)
    assert read.statement.node_policy_suffices is False
    assert read.statement.key_providers == ("kms", "tpm")
    assert (
        verify_event_log(parse_event_log(said["event_log"].encode()), report).compose_hash
        == COMPOSE
    )
    assert said["compose_hash"] == COMPOSE.hex() and len(said["app_id"]) == 40
    did = services.keyring.node_did
    assert said["key_binding"] == "xyz.tinycloud.share/tee-key/v1" + "\\0" + f":{did}:{NONCE}"
    assert said["timestamp"] == "2026-11-18T11:06:40Z"


def test_every_field_counts() -> None:
    """Report data depend on the nonce and every statement, but not on the order of lists (AT41)."""
    statement = parse_node_attestation(answer_bytes(), nonce="n").statement
    others = [
        replace(statement, node_did="did:key:z6Mko6nD6G5AKtGER7mYjNhxdM5KMi5wb8x2yRfhh99HiSLY"),
        replace(statement, store_id=b"another store id"),
        replace(statement, secret_origin="operator"),
        replace(statement, attestation="everyone"),
        replace(statement, trust_roots=(b"\x01" * 32,)),
        replace(statement, node_policy_suffices=True),
        replace(statement, key_providers=("kms",)),
        replace(statement, key_providers=()),
    ]
    data = {node_report_data("n", one) for one in (statement, *others)} | {
        node_report_data("m", statement)
    }
    assert len(data) == 10
    turned = replace(
        statement,
        trust_roots=statement.trust_roots[::-1],
        key_providers=statement.key_providers[::-1],
    )
    assert node_report_data("n", turned) == node_report_data("n", statement)


def answer_bytes(**members: Any) -> bytes:
    answer = {
        "mode": "dstack",
        "quote": "00",
        "event_log": None,
        "enforcer_did": "did:key:z6MkfhoxdzVTa6fLWMgEJNiRJomE5grMqkWyHiRbU9Tt7mAq",
        "report_data_label": "sealspace/node-report-data/1",
        "store_id": "00" * 16,
        "secret_origin": "platform",
        "attestation": "delegates",
        "trust_roots": ["01" * 32, "02" * 32],
        "node_policy_suffices": False,
        "key_providers": ["kms", "tpm"],
    }
    return json.dumps({**answer, **members}).encode()


async def test_what_is_said_beside(stage: Stage) -> None:
    """/info states that the node is in a TEE, and /readyz the result of its last quote (AT44)."""
    assert (await stage.ask("/info")).value["inTEE"] is True
    assert (await stage.ask("/attestation")).status == 200
    stage.node.services.clock.advance(5)  # type: ignore[attr-defined]  # a FixedClock
    assert (await stage.ask("/readyz")).value["own_quotes"] == "ok"


async def test_quotes_are_fresh(stage: Stage, agent: AgentSimulator) -> None:
    """Every request gets a new quote."""
    for asked in (1, 2):
        assert (await stage.ask("/attestation?nonce=a")).status == 200
        assert agent.asked["GetQuote"] == asked


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("?nonce=", 200),
        (f"?nonce={'n' * MAX_NONCE_BYTES}", 200),
        (f"?nonce={'%C3%A9' * (MAX_NONCE_BYTES // 2)}", 200),
        (f"?nonce={'n' * (MAX_NONCE_BYTES + 1)}", 400),
        (f"?nonce={'%C3%A9' * (MAX_NONCE_BYTES // 2)}n", 400),
        ("?nonce=a&nonce=b", 400),
    ],
)
async def test_bounds_of_the_nonce(
    stage: Stage, agent: AgentSimulator, query: str, status: int
) -> None:
    """A nonce of more than 256 bytes, or a second one, never reaches the platform (AT40)."""
    answer = await stage.ask(f"/attestation{query}")
    assert (status, int(status == 200)) == (answer.status, agent.asked["GetQuote"])


@fuzzed()
@given(
    st.lists(
        st.text(max_size=300) | st.text(alphabet=st.characters(categories=["Cs"]), max_size=4),
        max_size=3,
    )
)
def test_fuzz_nonces(given_nonces: list[str]) -> None:
    """Any list of texts is one valid nonce or refused."""
    try:
        nonce = checked_nonce(given_nonces)
    except Refusal:
        return
    assert len(nonce.encode()) <= MAX_NONCE_BYTES and given_nonces in ([], [nonce])


async def test_fuzz_the_query(tmp_path: Path, agent: AgentSimulator, clock: FixedClock) -> None:
    """Any query is answered with a quote over the parsed nonce, or 400."""
    config = config_of(tmp_path, quotes_per_minute=1_000_000)
    async with agent_on(tmp_path / "agent.sock", agent), stage_of(config, clock) as stage:
        loop = asyncio.get_running_loop()

        @fuzzed(0.2)
        @given(
            st.binary(max_size=60)
            | st.sampled_from([b"%ff", b"%00", b"%ED%A0%80", b"\xff", b"a=b", b"%", b"+"])
        )
        def throw(raw: bytes) -> None:
            line = (
                b"GET /attestation?nonce="
                + bytes(byte for byte in raw if byte > 32)
                + b" HTTP/1.1\r\n"
            )
            reported = asyncio.run_coroutine_threadsafe(_raw(stage.node.url, line), loop).result()
            status = int(reported.split(b" ", 2)[1])
            assert status in (200, 400), reported[:200]
            if status == 200:
                said = json.loads(reported.partition(b"\r\n\r\n")[2])
                read = parse_node_attestation(json.dumps(said).encode(), nonce=said["nonce"])
                assert said["report_data"] == node_report_data(read.nonce, read.statement).hex()

        await asyncio.to_thread(throw)


async def _raw(url: str, line: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(url).port)
    try:
        writer.write(line + b"Host: localhost\r\nConnection: close\r\n\r\n")
        return await reader.read()
    finally:
        writer.close()


async def test_a_rate_for_each_client(
    tmp_path: Path, agent: AgentSimulator, clock: FixedClock
) -> None:
    """A client over its rate gets a time to retry (AT43)."""
    config = config_of(tmp_path, quotes_per_minute=2)
    async with agent_on(tmp_path / "agent.sock", agent), stage_of(config, clock) as stage:
        answers = [await stage.ask("/attestation?nonce=a") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].headers["retry-after"] == "30"
    assert agent.asked["GetQuote"] == 2


async def test_a_slow_platform(tmp_path: Path, agent: AgentSimulator, clock: FixedClock) -> None:
    """While a quote is made, some requests wait, and all other routes work (AT43)."""
    agent.gate = asyncio.Event()
    config = config_of(tmp_path, quotes_waiting=2, quote_s=30.0)
    async with agent_on(tmp_path / "agent.sock", agent), stage_of(config, clock) as stage:
        waiting = [asyncio.create_task(stage.ask(f"/attestation?nonce={name}")) for name in "ab"]
        while agent.asked["GetQuote"] == 0:  # the first is under way
            assert (await stage.ask("/healthz")).status == 200
        refused = await stage.ask("/attestation?nonce=c")
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.body == b"too many wait for a quote"
        assert (await stage.ask("/info")).status == 200
        assert agent.asked["GetQuote"] == 1  # one at a time
        agent.gate.set()
        assert [answer.status for answer in await asyncio.gather(*waiting)] == [200, 200]
        assert (await stage.ask("/attestation?nonce=d")).status == 200


async def test_a_platform_that_stalls(
    tmp_path: Path, agent: AgentSimulator, clock: FixedClock
) -> None:
    """A request that waits too long fails, and a later one works (AT43, AT44)."""
    agent.fault = "stalls"
    async with (
        agent_on(tmp_path / "agent.sock", agent),
        stage_of(config_of(tmp_path, quote_s=0.2), clock) as stage,
    ):
        late = await stage.ask("/attestation?nonce=a")
        assert late.status == 503
        assert late.headers["retry-after"] == "10"
        assert late.body in (
            b"quote generation failed: source_slow",
            b"quote generation failed: source_unavailable",
        )
        agent.fault = None
        while (answer := await stage.ask("/attestation?nonce=b")).status == 503:
            assert answer.body.startswith(b"quote generation failed")
        assert answer.status == 200


async def test_a_place_is_held_while_the_platform_hangs() -> None:
    """A hanging platform blocks one thread, and a full queue refuses requests (AT43)."""
    release = threading.Event()

    def hang(_data: bytes) -> Quoted:
        release.wait()
        return Quoted(b"", None)

    quotes = QuoteQueue(hang, Platform(source="tsm", quotes_waiting=1, quote_s=0.05))
    with pytest.raises(Refusal, match="quote generation failed") as failed:
        await quotes.quote(bytes(64))
    assert failed.value.about[0] == "source_slow"
    assert quotes.state == "source_slow"
    with pytest.raises(Refusal, match="too many wait"):
        await quotes.quote(bytes(64))
    release.set()
    for _ in range(1000):  # rounds of the loop, until the thread is back
        try:
            await quotes.quote(bytes(64))
            break
        except Refusal:
            await asyncio.to_thread(lambda: None)
    assert quotes.state == "ok"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("refuses", "source_refused"),
        ("broken", "source_refused"),
        ("closes", "source_unavailable"),
        ("cuts", "source_malformed"),
        ("no-json", "source_malformed"),
        ("other-report-data", "source_malformed"),
        ("no-quote", "source_malformed"),
        ("log-no-json", "source_malformed"),
        ("endless", "source_malformed"),
    ],
)
async def test_a_platform_in_trouble(
    stage: Stage, agent: AgentSimulator, fault: Fault, code: str
) -> None:
    """A failing platform is a 503 with its code, not `classic`; /readyz stays ready (AT44)."""
    agent.fault = fault
    answer = await stage.ask("/attestation?nonce=a")
    assert answer.status == 503
    assert answer.body.decode() == f"quote generation failed: {code}"
    ready = await stage.ask("/readyz")
    assert ready.status == 200
    assert ready.value["own_quotes"] == code
    agent.fault = None
    assert (await stage.ask("/attestation?nonce=a")).status == 200
    assert (
        stage.node.services.own_quotes is not None and stage.node.services.own_quotes.state == "ok"
    )


async def test_nobody_there(tmp_path: Path, clock: FixedClock) -> None:
    """A node starts without its guest agent, reports that, and finds the agent later (AT44)."""
    async with stage_of(config_of(tmp_path), clock) as stage:
        assert (
            await stage.ask("/attestation?nonce=a")
        ).body == b"quote generation failed: source_unavailable"
    with pytest.raises(SourceUnavailable):
        quote_source(Platform(source="none"))


async def test_a_log_that_does_not_fit(stage: Stage, agent: AgentSimulator) -> None:
    """A log that does not match the quote is returned, but no fields are taken from it."""
    image = measurements_of("another")
    agent.quote_answer = lambda report_data: {  # type: ignore[method-assign]  # an agent whose log is another application's
        "quote": agent.platform.mint_quote(image, report_data).hex(),
        "event_log": text_of(agent.minted),
    }
    said = (await stage.ask("/attestation?nonce=a")).value
    assert (None, None) == (said["compose_hash"], said["app_id"]) and said["event_log"]


async def test_files_that_fail() -> None:
    """An unexpected operating system error is a failure of the platform too (AT44)."""

    def fail(_data: bytes) -> Quoted:
        raise OSError(16, "busy")

    quotes = QuoteQueue(fail, Platform(source="tsm", quotes_waiting=1))
    for _ in range(2):  # a place is given back
        with pytest.raises(Refusal, match="source_unavailable"):
            await quotes.quote(bytes(64))


async def test_quotes_of_the_kernel(
    tmp_path: Path, platform: SimulatedPlatform, entropy: CountingEntropy
) -> None:
    """The kernel's report interface gives a node a quote without a log."""
    kernel = TsmSimulator(lambda data: platform.mint_quote(measurements_of("node"), data))
    source = TsmSource(tmp_path, files=kernel, entropy=entropy)
    quotes = QuoteQueue(source.quote, Platform(source="tsm"))
    quoted = await quotes.quote(bytes(range(64)))
    assert parse_quote(quoted.quote).report.report_data == bytes(range(64))
    assert quoted.event_log is None


# --- the root secret ------------------------------------------------------------------------------


async def secret_of(config: Config) -> bytes:
    return await asyncio.to_thread(load_root_secret, config, CountingEntropy())


async def test_the_secret_is_the_platforms(tmp_path: Path, agent: AgentSimulator) -> None:
    """Both generations of agents give the same secret for a path, and no file is written (AT42)."""
    async with agent_on(tmp_path / "agent.sock", agent):
        configs = [
            config_of(tmp_path, secret=Secret(platform=True), source=source)
            for source in ("dstack", "tappd")
        ]
        first, second = [await secret_of(config) for config in configs]
        other = await secret_of(
            config_of(tmp_path, secret=Secret(platform=True, platform_path="another"))
        )
    assert (first, 32) == (second, len(first)) and other != first
    assert not (tmp_path / "data").exists()
    assert agent.asked == {"GetKey": 2, "DeriveK256Key": 1}


async def test_a_node_on_the_platforms_secret(
    tmp_path: Path, agent: AgentSimulator, clock: FixedClock
) -> None:
    """The evidence says "platform", and the store refuses another platform's secret (AT42)."""
    config = config_of(tmp_path, secret=Secret(platform=True))
    async with agent_on(tmp_path / "agent.sock", agent):
        async with stage_of(config, clock) as stage:
            assert (await stage.ask("/attestation?nonce=a")).value["secret_origin"] == "platform"
        agent.seed = b"keys of another application"
        with pytest.raises(StoreMisused):
            async with stage_of(config, clock):
                pass


async def test_what_comes_first(tmp_path: Path, agent: AgentSimulator) -> None:
    """A configured secret takes precedence over the platform's, with origin "operator" (AT42)."""
    file = tmp_path / "elsewhere"
    file.write_bytes(b"f" * 32)
    async with agent_on(tmp_path / "agent.sock", agent):
        by_file = config_of(tmp_path, secret=Secret(platform=True, file=str(file)))
        by_text = config_of(tmp_path, secret=Secret(platform=True, value="A" * 43))
        assert await secret_of(by_file) == b"f" * 32
        assert len(await secret_of(by_text)) == 32
        assert {"operator"} == {secret_origin(config) for config in (by_file, by_text, Config())}
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "secret").write_bytes(b"d" * 32)
        assert await secret_of(config_of(tmp_path, secret=Secret(platform=True))) != b"d" * 32
    assert agent.asked == {"GetKey": 1}


CANARY = b"canary of a key that is too s".hex()


@pytest.mark.parametrize(
    "answer",
    [
        {"key": CANARY},
        {"key": CANARY + "zz"},
        {},
        {"key": 7},
        {"error": f"no key {CANARY}"},
        {"key": "00" * 5000},
    ],
)
async def test_keys_that_are_none(
    tmp_path: Path, agent: AgentSimulator, answer: dict[str, Any]
) -> None:
    """An unusable key from the key service is refused, and the message does not quote it."""
    agent.key_answer = answer
    async with agent_on(tmp_path / "agent.sock", agent):
        with pytest.raises(SecretUnusable) as refused:
            await secret_of(config_of(tmp_path, secret=Secret(platform=True)))
    assert CANARY not in refused.value.message + refused.value.hint + repr(refused.value.__cause__)


async def test_without_an_agent_there_is_no_secret(tmp_path: Path) -> None:
    """A node whose platform gives no secret does not start, and makes none."""
    with pytest.raises(SecretUnusable, match="did not respond"):
        await secret_of(config_of(tmp_path, secret=Secret(platform=True)))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "flags",
    [
        {"secret.platform": True},
        {"secret.platform": True, "platform.source": "tsm"},
        {"platform.socket": "/run/dstack.sock"},
        {"platform.source": "tsm", "platform.socket": "/run/dstack.sock"},
        {"platform.source": "sgx"},
        {"platform.quote_s": 0},
    ],
)
def test_settings_that_contradict(flags: dict[str, Any]) -> None:
    """A platform secret or a socket without a guest agent prevents the start."""
    with pytest.raises(ConfigurationError):
        load_config(environment={}, flags=flags)
