"""Tests of a client that requires evidence of the node before it sends a token."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from deviating_log import LogOptions, mint_event_log
from deviating_platform import DEBUG, DomainOptions, SimulatedPlatform
from fuzz_strategies import changed_objects, json_values
from hypothesis import given
from hypothesis import strategies as st
from node_evidence_stage import COMPOSE, IMAGE, CountingWallet, Relay, Stage, evidence_stage
from simulators.agent import Fault
from tests_support import FixedClock, fuzzed
from yarl import URL

from capabilities.strict_base64 import encode_standard
from encryption_network.keywrap import public_key_of
from encryption_network.policy import Policy
from sealspace.documents.node_evidence import (
    LABEL,
    NodeAttestation,
    NodePolicy,
    NodeRequirement,
    parse_node_attestation,
)
from sealspace.errors import (
    InvalidPolicy,
    NodeEvidenceRefused,
    NodeFailure,
    ResponseSignatureInvalid,
    SealspaceError,
)
from tee_backend.attestation.attestation_errors import CollateralUnusable
from tee_backend.attestation.collateral import HeldCollateral
from tee_backend.attestation.event_log_claims import KeyProvider
from tee_backend.attestation.node_verifier import TdxNodeVerifier
from tee_backend.attestation.trust_root import intel_root, parse_trust_root
from tee_backend.evidence.simulated import SIMULATED_KEY_PROVIDER, measurements_of


@pytest.fixture
async def stage(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Stage]:
    """A guest agent. The tests start nodes and clients."""
    async with evidence_stage(tmp_path, clock) as stage:
        yield stage


async def refused(
    stage: Stage, url: str, requirement: NodeRequirement, relay: Relay
) -> NodeEvidenceRefused:
    """Try to sign in and store, check that the node got no token, and return the reason of the
    refusal."""
    wallet, client = CountingWallet(), await stage.client(url, requirement)
    with pytest.raises(NodeEvidenceRefused) as by_wallet:
        await client.sign_in(wallet)
    with pytest.raises(NodeEvidenceRefused) as by_key:
        await client.sign_in_with_key(b"k" * 32, spaces=["notes"])
    assert wallet.signatures == 0
    assert relay.tokens == 0
    assert {"/info", "/attestation"} >= set(relay.paths)
    assert by_wallet.value.reason == by_key.value.reason
    return by_wallet.value


async def reason(stage: Stage, requirement: NodeRequirement, **settings: Any) -> str:
    relay, url = await stage.relay(await stage.start(**settings))
    return (await refused(stage, url, requirement, relay)).reason


@pytest.mark.parametrize("by", ["measurements", "compose hash"])
async def test_a_node_that_runs_approved_code(stage: Stage, by: str) -> None:
    """A client that requires evidence gets it before its first token, and then works as any other
    (AT45)."""
    relay, url = await stage.relay(node := await stage.start())
    service = (f"kms:{SIMULATED_KEY_PROVIDER.id.hex()}",)
    code = Policy(
        measurements=(replace(IMAGE, rtmr3=None),), compose_hashes=(COMPOSE,), key_providers=service
    )
    required = stage.requirement() if by == "measurements" else stage.requirement(code=code)
    client = await stage.client(url, required)
    await client.sign_in(CountingWallet())
    await client.kv().put("a", b"value")
    assert (await client.kv().get("a")).body == b"value"
    assert relay.paths[:2] == ["/info", "/attestation"] and relay.paths.count("/attestation") == 1
    evidence = await client.node_evidence()
    assert node.services.store_id == evidence.statement.store_id
    assert evidence.facts.compose_hash == COMPOSE
    assert evidence.statement.secret_origin == "platform"
    assert evidence.facts.invoker == node.services.keyring.node_did


async def test_a_client_that_does_not_insist(stage: Stage) -> None:
    """A client without a requirement requests no evidence, and returns none."""
    relay, url = await stage.relay(await stage.start())
    client = await stage.client(url, None)
    await client.sign_in(CountingWallet())
    assert "/attestation" not in relay.paths
    with pytest.raises(RuntimeError):
        await client.node_evidence()
    assert (await client.node_attestation()).statement.secret_origin == "platform"


async def test_evidence_is_renewed(stage: Stage) -> None:
    """Evidence is requested again after its lifetime, and a node whose code has changed gets no
    further token (AT45)."""
    relay, url = await stage.relay(await stage.start())
    client = await stage.client(url, replace(stage.requirement(), renew_after_s=100.0))
    await client.sign_in(CountingWallet())
    stage.clock.advance(99)
    await client.kv().put("a", b"value")
    assert relay.paths.count("/attestation") == 1
    stage.clock.advance(2)
    await client.kv().put("b", b"value")
    assert relay.paths.count("/attestation") == 2
    stage.agent.minted, before = mint_event_log(b"x" * 32), relay.tokens
    stage.clock.advance(101)
    for _ in range(2):  # a refusal is not remembered as consent
        with pytest.raises(NodeEvidenceRefused) as refusal:
            await client.kv().put("c", b"value")
        assert refusal.value.reason == "measurement"
    assert relay.tokens == before


async def test_nothing_is_sealed_before_the_evidence(stage: Stage) -> None:
    """Sealing sends no token, but also requires evidence: before the key is requested, and again
    later (AT45)."""
    owner = await stage.client((node := await stage.start()).url, None)
    await owner.sign_in(CountingWallet())
    relay, url = await stage.relay(node)
    required = replace(stage.requirement(), renew_after_s=100.0)
    client = await stage.client(url, required)
    network = owner.encryption.network()
    await client.encryption.encrypt(b"payload", network=network)
    assert ["/info", "/attestation", f"/encryption/networks/{network.text}"] == relay.paths
    stage.agent.minted = mint_event_log(b"x" * 32)
    stage.clock.advance(101)
    for again in (client, await stage.client(url, required)):  # one knows the key already
        with pytest.raises(NodeEvidenceRefused) as refusal:
            await again.encryption.encrypt(b"payload", network=network)
        assert refusal.value.reason == "measurement"
    assert relay.tokens == 0
    assert [path for path in relay.paths if "/encryption/" in path] == [
        f"/encryption/networks/{network.text}"
    ]


async def test_good_evidence_is_no_leave_for_another_key(stage: Stage) -> None:
    """A relay that passes on the genuine evidence but its own network key gets nothing encrypted to
    that key."""
    owner = await stage.client((node := await stage.start()).url, None)
    await owner.sign_in(CountingWallet())
    relay, url = await stage.relay(node)
    client = await stage.client(url, stage.requirement())

    async def own_key(request: web.Request) -> web.Response | None:
        if not request.path.startswith("/encryption/"):
            return None
        address = URL(node.url + request.raw_path, encoded=True)
        async with aiohttp.ClientSession() as session, session.get(address) as genuine:
            said = await genuine.json()
        said["descriptor"]["publicEncryptionKey"] = encode_standard(public_key_of(b"r" * 32))
        return web.json_response(said)

    relay.instead = own_key
    with pytest.raises(ResponseSignatureInvalid):
        await client.encryption.encrypt(b"payload", network=owner.encryption.network())
    assert (await client.node_evidence()).statement.node_did == node.services.keyring.node_did


async def test_a_clock_that_is_set_back(stage: Stage) -> None:
    """Evidence from the future has an unknown age, so it is requested again."""
    relay, url = await stage.relay(await stage.start())
    client = await stage.client(url, stage.requirement(collateral_at=stage.clock.now() - 1000))
    await client.node_evidence()
    stage.clock.advance(-10)
    await client.node_evidence()
    assert relay.paths.count("/attestation") == 2


async def test_many_at_once_ask_once(stage: Stage) -> None:
    """Concurrent calls wait for one request for evidence."""
    relay, url = await stage.relay(await stage.start())
    client = await stage.client(url, stage.requirement())
    await asyncio.gather(*(client.node_evidence() for _ in range(8)))
    assert relay.paths.count("/attestation") == 1


# --- what is refused ------------------------------------------------------------------------------


async def test_another_nonce(stage: Stage) -> None:
    """A quote over another nonce is refused (AT41)."""
    relay, url = await stage.relay(await stage.start())
    relay.ask_with = "nonce=another"
    assert (await refused(stage, url, stage.requirement(), relay)).reason == "report-data"


async def test_replayed_evidence(stage: Stage) -> None:
    """Evidence recorded for one nonce is rejected for another, even if it claims the new nonce."""
    node = await stage.start()
    relay, url = await stage.relay(node)
    seen: list[bytes] = []

    def keep(body: bytes) -> bytes:
        seen.append(body)
        return body

    relay.tamper = keep
    await (await stage.client(url, stage.requirement())).node_evidence()
    relay.paths.clear()
    relay.tamper = lambda body: json.dumps(
        {**json.loads(seen[0]), "nonce": json.loads(body)["nonce"]}
    ).encode()
    assert (await refused(stage, url, stage.requirement(), relay)).reason == "report-data"


async def test_evidence_of_another_node(stage: Stage) -> None:
    """Genuine evidence of another node with the same code is refused, because it names that node
    (AT45)."""
    ordinary = await stage.start(
        "plain", secret={"platform": False}, platform={"source": "none", "socket": None}
    )
    relay, url = await stage.relay(ordinary)
    relay.borrowed_from = (await stage.start("other")).url
    assert (await refused(stage, url, stage.requirement(), relay)).reason == "node-did"


async def test_another_nodes_did_in_the_answer(stage: Stage) -> None:
    """The DID in the answer cannot be exchanged, because the quote contains it (AT41)."""
    node = await stage.start()
    relay, url = await stage.relay(node)
    other = "did:key:z6MkfhoxdzVTa6fLWMgEJNiRJomE5grMqkWyHiRbU9Tt7mAq"
    relay.tamper = lambda body: body.replace(
        node.services.keyring.node_did.encode(), other.encode()
    )
    assert (await refused(stage, url, stage.requirement(), relay)).reason == "node-did"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("store_id", "ab" * 16),
        ("secret_origin", "operator"),
        ("attestation", "everyone"),
        ("trust_roots", []),
        ("node_policy_suffices", True),
        ("key_providers", ["kms"]),
        ("quote", "00" * 700),
        ("event_log", "[]"),
    ],
)
async def test_a_changed_answer(stage: Stage, member: str, value: Any) -> None:
    """An answer with any change does not match the quote (AT41)."""
    relay, url = await stage.relay(await stage.start())
    relay.tamper = lambda body: json.dumps({**json.loads(body), member: value}).encode()
    expected = {"quote": "unsupported", "event_log": "event-log"}.get(member, "report-data")
    assert (await refused(stage, url, stage.requirement(), relay)).reason == expected


async def test_another_store(stage: Stage) -> None:
    """A node with a copy of the secret on another store is refused if the client named a store or
    has seen another one (AT45)."""
    first, second = await stage.start("first"), await stage.start("second")
    assert first.services.keyring.node_did == second.services.keyring.node_did
    relay, url = await stage.relay(second)
    named = stage.requirement(store_id=first.services.store_id)
    assert (await refused(stage, url, named, relay)).reason == "store"
    relay.target = first.url
    client = await stage.client(url, replace(stage.requirement(), renew_after_s=10.0))
    await client.node_evidence()
    relay.target = second.url
    stage.clock.advance(11)
    with pytest.raises(NodeEvidenceRefused) as refusal:
        await client.node_evidence()
    assert refusal.value.reason == "store"


async def test_other_code(stage: Stage) -> None:
    """Other measurements, another application and a debug domain are refused."""
    relay, url = await stage.relay(await stage.start())
    other = stage.requirement(code=Policy(measurements=(measurements_of("another"),)))
    refusal = await refused(stage, url, other, relay)
    assert refusal.reason == "measurement" and "approve" in refusal.hint
    required = stage.requirement()
    stage.agent.minted = mint_event_log(b"y" * 32)
    assert (await refused(stage, url, required, relay)).reason == "measurement"
    stage.agent.options = DomainOptions(td_attributes=(1 << 28) | DEBUG)
    assert (await refused(stage, url, required, relay)).reason == "td-attributes"


@pytest.mark.parametrize(("name", "accepted"), [("local-sgx", False), ("tpm", True)])
async def test_who_keeps_the_nodes_keys(stage: Stage, name: Any, accepted: bool) -> None:
    """A key provider that only the host vouches for is refused unless the policy names it
    (AT29)."""
    stage.agent.minted = mint_event_log(
        COMPOSE, options=LogOptions(key_provider=KeyProvider(name, b"\x01" * 8))
    )
    relay, url = await stage.relay(await stage.start())
    if accepted:
        assert (
            await (await stage.client(url, stage.requirement())).node_evidence()
        ).facts.key_provider
        return
    assert (await refused(stage, url, stage.requirement(), relay)).reason == "key-provider"
    approved = Policy(
        measurements=(stage.agent.minted.run_on(IMAGE),), key_providers=(f"{name}:{'01' * 8}",)
    )
    await (await stage.client(url, stage.requirement(code=approved))).node_evidence()


@pytest.mark.parametrize(
    ("collateral_at", "expected"),
    [(-90 * 86_400.0, "collateral-window"), (90 * 86_400.0, "collateral-window")],
)
async def test_collateral_outside_its_window(
    stage: Stage, collateral_at: float, expected: str
) -> None:
    """Expired documents, and those from the future, are not used."""
    required = stage.requirement(collateral_at=stage.clock.now() + collateral_at)
    assert await reason(stage, required) == expected


async def test_another_root_or_family(stage: Stage) -> None:
    """A simulated platform is accepted only under its own root and with its family's documents."""
    document = stage.machine.collateral_json(stage.clock.now())
    code = stage.requirement().policy
    foreign = NodeRequirement(TdxNodeVerifier(intel_root(), HeldCollateral([document])), code)
    assert await reason(stage, foreign) == "untrusted-root"
    bare = NodeRequirement(
        TdxNodeVerifier(parse_trust_root(stage.machine.root_der), HeldCollateral([])), code
    )
    relay, url = await stage.relay(await stage.start("second"))
    assert (await refused(stage, url, bare, relay)).reason == "platform-unknown"


async def test_who_has_the_secret(stage: Stage) -> None:
    """A node whose operator has the root secret is refused, unless the client accepts that (AT42,
    AT45)."""
    node = await stage.start(secret={"platform": False})
    relay, url = await stage.relay(node)
    assert (await refused(stage, url, stage.requirement(), relay)).reason == "secret-origin"
    lenient = stage.requirement(secret_origins=frozenset({"operator"}))
    assert (
        await (await stage.client(url, lenient)).node_evidence()
    ).statement.secret_origin == "operator"


async def test_on_what_terms_keys_are_released(stage: Stage) -> None:
    """A node that requires no evidence of backends is refused, unless the client accepts that
    (AT45)."""
    assert await reason(stage, stage.requirement(), release={"attestation": "off"}) == "mode"
    relay, url = await stage.relay(await stage.start("intel", release={"trust_root": None}))
    assert (await refused(stage, url, stage.requirement(), relay)).reason == "trust-roots"
    lenient = stage.requirement(release_roots=frozenset({intel_root().sha256}))
    await (await stage.client(url, lenient)).node_evidence()


async def test_whose_list_is_enough(stage: Stage) -> None:
    """A node whose operator may approve code for owners is refused, unless the client accepts that
    (AT41, AT45)."""
    relay, url = await stage.relay(await stage.start(release={"node_policy_suffices": True}))
    refusal = await refused(stage, url, stage.requirement(), relay)
    assert refusal.reason == "node-policy" and "owner" in refusal.hint
    lenient = stage.requirement(accepts_node_policy=True)
    evidence = await (await stage.client(url, lenient)).node_evidence()
    assert evidence.statement.node_policy_suffices


async def test_of_which_applications_evidence_is_taken(stage: Stage) -> None:
    """A node that accepts further key providers is refused, unless the client accepts them
    (AT45)."""
    local = f"local-sgx:{'01' * 8}"
    relay, url = await stage.relay(await stage.start(release={"key_providers": ("kms", local)}))
    refusal = await refused(stage, url, stage.requirement(), relay)
    assert refusal.reason == "key-providers" and local in refusal.detail
    lenient = stage.requirement(release_key_providers=("kms", local))
    evidence = await (await stage.client(url, lenient)).node_evidence()
    assert evidence.statement.key_providers == ("kms", local)
    nobody = stage.requirement(release_key_providers=())
    assert (await refused(stage, url, nobody, relay)).reason == "key-providers"
    with pytest.raises(InvalidPolicy):
        stage.requirement(release_key_providers=("local-sgx",))


async def test_no_trust_domain(stage: Stage) -> None:
    """A node outside a trust domain, or one that only claims to be in one, is refused with a next
    step."""
    relay, url = await stage.relay(await stage.start())
    relay.tamper = lambda _body: (
        b'{"mode":"classic","message":"This instance is not running in a TEE"}'
    )
    refusal = await refused(stage, url, stage.requirement(), relay)
    assert refusal.reason == "no-tee" and "trust domain" in refusal.hint


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"mode":"dstack"}', b"<html>"])
async def test_garbage(stage: Stage, body: bytes) -> None:
    """A malformed answer is rejected."""
    relay, url = await stage.relay(await stage.start())
    relay.tamper = lambda _body: body
    assert (await refused(stage, url, stage.requirement(), relay)).reason == "malformed"


@pytest.mark.parametrize("fault", ["refuses", "closes", "no-json", "other-report-data", "no-quote"])
async def test_an_agent_in_trouble(stage: Stage, fault: Fault) -> None:
    """A client stores nothing on a node that gets no quote, and reports a temporary failure."""
    relay, url = await stage.relay(await stage.start())
    client = await stage.client(url, stage.requirement())
    stage.agent.fault = fault
    with pytest.raises(NodeFailure) as failure:
        await client.sign_in(CountingWallet())
    assert failure.value.status == 503
    assert relay.tokens == 0
    stage.agent.fault = None
    await client.sign_in(CountingWallet())


# --- policies and readers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        Policy(),
        Policy(app_ids=(b"a" * 20,)),
        Policy(measurements=(IMAGE,), receiver="signed"),
        Policy(measurements=(IMAGE,), in_person=False),
        Policy(
            measurements=(IMAGE,),
            paths=("tinycloud:key:z6MkfhoxdzVTa6fLWMgEJNiRJomE5grMqkWyHiRbU9Tt7mAq:a/kv/b",),
        ),
    ],
)
def test_policies_that_say_nothing_about_a_node(code: Policy) -> None:
    """A policy that approves no code, or that is about backends, is refused before any request."""
    with pytest.raises(InvalidPolicy):
        NodePolicy(code=code)


ANSWER = {
    "mode": "dstack",
    "quote": "00ff",
    "event_log": '[{"imr":3}]',
    "enforcer_did": "did:key:z6MkfhoxdzVTa6fLWMgEJNiRJomE5grMqkWyHiRbU9Tt7mAq",
    "report_data_label": LABEL,
    "store_id": "00" * 16,
    "secret_origin": "platform",
    "attestation": "delegates",
    "trust_roots": ["01" * 32],
    "node_policy_suffices": False,
    "key_providers": ["kms"],
}


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("report_data_label", "sealspace/node-report-data/2"),
        ("enforcer_did", "did:web:node.example"),
        ("enforcer_did", 7),
        ("store_id", "00" * 15),
        ("store_id", "0 0" * 16),
        ("store_id", "AB" * 16),
        ("secret_origin", "nobody"),
        ("attestation", ["off"]),
        ("trust_roots", ["01" * 31]),
        ("trust_roots", ["01" * 32] * 17),
        ("trust_roots", "01"),
        ("node_policy_suffices", None),
        ("node_policy_suffices", 0),
        ("key_providers", "kms"),
        ("key_providers", [1]),
        ("key_providers", ["none"]),
        ("key_providers", ["kms,tpm"]),
        ("key_providers", ["kms"] * 17),
        ("quote", ""),
        ("quote", "zz"),
        ("quote", "00" * 16_385),
        ("event_log", []),
        ("event_log", "{}"),
        ("event_log", '[],"log":[]'),
        ("event_log", '[]},"more":{'),
        ("event_log", "[" * 600_000),
    ],
)
def test_members_that_are_none(member: str, value: Any) -> None:
    """Each malformed member is refused and named."""
    with pytest.raises(NodeEvidenceRefused) as refusal:
        parse_node_attestation(json.dumps({**ANSWER, member: value}).encode(), nonce="n")
    assert refusal.value.reason == "malformed"
    assert "report data" in str(refusal.value) or member in str(refusal.value)


@fuzzed()
@given(
    st.binary(max_size=60)
    | changed_objects(ANSWER, json_values()).map(lambda value: json.dumps(value).encode())
    | json_values(members=list(ANSWER)).map(lambda value: json.dumps(value).encode())
)
def test_fuzz_answers(body: bytes) -> None:
    """Any bytes of an answer are refused, either when parsed or when verified."""
    try:
        read = parse_node_attestation(body, nonce="n")
    except NodeEvidenceRefused:
        return
    assert isinstance(read, NodeAttestation) and len(read.statement.store_id) == 16
    verifier = TdxNodeVerifier(intel_root(), HeldCollateral([]))
    with pytest.raises(SealspaceError):
        asyncio.run(verifier.examine(read, now=1_795_000_000.0))


async def test_held_documents(clock: FixedClock) -> None:
    """Of two documents for one family the newer is used, in whichever order they arrive."""
    machine = SimulatedPlatform.from_seed(b"the platform of nodes")
    old, new = machine.collateral_json(clock.now() - 86_400), machine.collateral_json(clock.now())
    for documents in ([old, new], [new, old]):
        found = await HeldCollateral(documents).collateral(machine.fmspc, "platform")
        assert found.raw == new
    with pytest.raises(CollateralUnusable, match=r"^platform-unknown$"):
        await HeldCollateral([new]).collateral(b"other!", "platform")
    with pytest.raises(CollateralUnusable):
        HeldCollateral([b"{}"])
