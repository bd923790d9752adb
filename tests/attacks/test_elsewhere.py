"""A change at one worker or server is effective at the other at once.

Each test runs on two workers of one node over LMDB, and on two servers on one PostgreSQL database.
Before something is taken away the other end has made a release, so that whatever it might remember
is warm.
"""

import asyncio
import hashlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from attacks.member_world import MemberWorld
from attacks.pair import ENDS, End, Pair, acting
from attacks.parties import (
    DECRYPT,
    ENTROPY,
    ROUTES,
    Delegate,
    Owner,
    Route,
    Stage,
    ids,
    opens,
    policy_for,
    refused,
    stage_on,
)
from attacks.test_receipts import fetch
from attacks.test_withdrawals import withdraw
from deviating_platform import CollateralOptions, SimulatedPlatform
from postgres_server import needs_postgres, postgres_server
from running_node import Reply, RunningNode, running_node, until
from trust_settings import trust_arguments

from capabilities.abilities import READ_RECEIPTS
from capabilities.strict_json import Json
from encryption_network.receipt import encode_receipt
from sealspace.cli.root import EXIT_STATUS
from sealspace.encryption import new_receiver_key
from tee_backend.attestation.receipt_check import verify_release
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.evidence.simulated import measurements_of

pytestmark = pytest.mark.slow

DUPLICATE = (409, "duplicate invocation")
KINDS = ("measurement", "did", "evidence")
LOOSENED = EXIT_STATUS["release-loosened"]
STORE_URL = "SEALSPACE_STORE__URL"


@dataclass(frozen=True)
class Servers:
    """Two servers on one database."""

    nodes: tuple[RunningNode, RunningNode]
    store_url: str


@pytest.fixture(scope="session")
def two_servers(
    tmp_path_factory: pytest.TempPathFactory, platform: SimulatedPlatform
) -> Iterator[Servers]:
    """Two servers of one secret on one database, each with a folder of its own."""
    folder, url = tmp_path_factory.mktemp("servers"), postgres_server().new_database()
    with (
        running_node(
            folder / "one", *arguments_of(folder, url), platform=platform, workers=1
        ) as one,
        running_node(
            folder / "two", *arguments_of(folder, url), platform=platform, workers=1
        ) as two,
    ):
        yield Servers((one, two), url)


def arguments_of(folder: Path, url: str) -> tuple[str, ...]:
    """Return the arguments that servers on one database are started with."""
    secret = folder / "secret"
    if not secret.exists():
        secret.write_bytes(os.urandom(32))
        secret.chmod(0o600)
    return "--store", url, "--secret-file", str(secret)


@pytest.fixture(params=["workers", pytest.param("servers", marks=needs_postgres())])
async def pair(
    request: pytest.FixtureRequest, platform: SimulatedPlatform, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pair]:
    """Two workers or servers on one store."""
    async with AsyncExitStack() as clients:
        if request.param == "workers":
            node: RunningNode = request.getfixturevalue("operated_node")
            stage = replace(await stage_on(node.url, platform, clients), node=node)
            yield Pair((stage, stage))
            return
        servers: Servers = request.getfixturevalue("two_servers")
        monkeypatch.setenv(STORE_URL, servers.store_url)
        one, two = [
            replace(await stage_on(node.url, platform, clients), node=node)
            for node in servers.nodes
        ]
        yield Pair((one, two), servers.store_url)


@pytest.fixture(params=ENDS, ids=["through the first", "through the second"])
def through(request: pytest.FixtureRequest) -> End:
    """The end at which the test acts; the other end has to notice it."""
    end: End = request.param
    return end


def other(end: End) -> End:
    return ENDS[1 - end]


async def opens_everywhere(pair: Pair, delegate: Delegate, owner: Owner) -> None:
    """Make a release at both ends, so that their caches are filled."""
    for end in ENDS:
        with pair.at(end) as stage:
            assert opens(await stage.ask(delegate, owner), delegate, owner)


async def refused_everywhere(
    pair: Pair, delegate: Delegate, owner: Owner, *, first: End, said: tuple[int, str]
) -> None:
    """Expect a refusal at both ends at once."""
    for end in (first, other(first)):
        with pair.at(end) as stage:
            assert (await stage.ask(delegate, owner)).said == said


def test_the_ends_are_different_processes(pair: Pair) -> None:
    """The two ends are two different processes, which the other tests rely on."""
    first, second = pair.processes(0), pair.processes(1)
    assert len(first) == 1
    assert len(second) == 1
    assert first & second == set()


# --- challenges and evidence ----------------------------------------------------------------------


async def submit_quote(stage: Stage, delegate: Delegate, owner: Owner, nonce: bytes) -> Reply:
    """Send a fresh quote of the delegate's program for a nonce."""
    quote = stage.quote(delegate.did, delegate.receiver.public_key, nonce, program=delegate.did)
    return await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)


async def test_a_challenge_of_one_end_serves_once_at_the_other(pair: Pair, through: End) -> None:
    """A nonce of one end can be used once, at either end (AT2, AT3)."""
    owner, delegate = await pair.ready()
    with pair.at(through) as stage:
        nonce = await stage.nonce(delegate.did)
    with pair.at(other(through)) as stage:
        assert (await submit_quote(stage, delegate, owner, nonce)).status == 200
    for end in (through, other(through)):
        with pair.at(end) as stage:
            reply = await submit_quote(stage, delegate, owner, nonce)
            assert (reply.status, reply.value["code"]) == (409, "challenge-used")


async def test_a_challenge_that_failed_is_used_up_elsewhere(pair: Pair, through: End) -> None:
    """A nonce sent with a bad quote is used up at both ends (AT3, AT5)."""
    owner, delegate = await pair.ready()
    nonce = await pair.stages[0].nonce(delegate.did)
    with pair.at(through) as stage:
        quote = stage.quote(delegate.did, delegate.receiver.public_key, nonce, program=delegate.did)
        assert (
            await stage.submit_quote(delegate, owner.network, nonce=nonce, quote=quote[:-1])
        ).status == 403
    with pair.at(other(through)) as stage:
        reply = await submit_quote(stage, delegate, owner, nonce)
        assert (reply.status, reply.value["code"]) == (409, "challenge-used")


async def test_of_many_uses_of_a_challenge_one_counts(pair: Pair) -> None:
    """A nonce that is used concurrently at both ends succeeds once (AT3, ST4)."""
    owner, delegate = await pair.ready()
    nonce = await pair.stages[0].nonce(delegate.did)
    replies = await asyncio.gather(
        *(submit_quote(pair.stages[at % 2], delegate, owner, nonce) for at in range(8))
    )
    assert sorted(reply.status for reply in replies) == [200] + [409] * 7


async def test_evidence_opens_at_the_other_end(pair: Pair, through: End) -> None:
    """Evidence that one end accepted is valid at both (AT24, ST1)."""
    owner, delegate = await pair.ready()
    for end in ENDS:
        with pair.at(end) as stage:
            assert (await stage.ask(delegate, owner)).said == refused("not_attested")
    with pair.at(through) as stage:
        await stage.attest(delegate, owner.network, program=delegate.did)
    with pair.at(other(through)) as stage:
        assert opens(await stage.ask(delegate, owner), delegate, owner)
    await opens_everywhere(pair, delegate, owner)


async def test_worse_evidence_replaces_the_good_at_the_other_end(pair: Pair, through: End) -> None:
    """Evidence of other code at one end ends releases at the other (AT24, RL13)."""
    owner, delegate = await pair.attested()
    await opens_everywhere(pair, delegate, owner)
    with pair.at(through) as stage:
        await stage.attest(delegate, owner.network, program="something else")
    await refused_everywhere(
        pair, delegate, owner, first=other(through), said=refused("measurement")
    )


async def test_evidence_ends_at_both_ends(
    pair: Pair, platform: SimulatedPlatform, tmp_path: Path
) -> None:
    """Evidence ends with its collateral at both ends (AT17)."""
    owner, delegate = await pair.ready()
    machine = platform.another_machine(os.urandom(16), fmspc=os.urandom(6))
    # Its lists are older than those of the other tests, which would end with them otherwise (AT19).
    options = CollateralOptions(issued_before_s=7200, valid_for_s=7200 + 8)
    document = tmp_path / "document.json"
    document.write_bytes(machine.collateral_json(time.time(), options=options))
    root = tmp_path / "root.pem"
    root.write_text(platform.root_pem)
    assert (
        await pair.command(
            "admin", "collateral", "import", str(document), "--trust-root", str(root)
        )
        == 0
    )
    with pair.at(0) as stage:
        there = replace(stage, platform=machine)
        reply = await submit_quote(there, delegate, owner, await there.nonce(delegate.did))
        assert reply.status == 200, reply.said
    answered_at = time.time()
    ends_at = reply.value["expiresAt"]
    assert isinstance(ends_at, int | float) and ends_at < answered_at + 10
    await opens_everywhere(pair, delegate, owner)
    await asyncio.to_thread(until, lambda: time.time() >= ends_at)
    await refused_everywhere(pair, delegate, owner, first=1, said=refused("evidence_expired"))


# --- replicas -------------------------------------------------------------------------------------


async def test_replicas_side_by_side(pair: Pair) -> None:
    """Renewing the evidence of one replica does not affect the others (AT24, RL7)."""
    owner, first = await pair.ready()
    second, third = (replace(first, receiver=new_receiver_key(ENTROPY)) for _ in range(2))
    replicas = (first, second, third)
    for at, replica in enumerate(replicas):
        with pair.at(ENDS[at % 2]) as stage:
            await stage.attest(replica, owner.network, program=first.did)
    for replica in replicas:
        await opens_everywhere(pair, replica, owner)
    with pair.at(1) as stage:
        await stage.attest(first, owner.network, program=first.did)
    for replica in replicas:
        await opens_everywhere(pair, replica, owner)
    with pair.at(0) as stage:
        outsider = replace(first, receiver=new_receiver_key(ENTROPY))
        assert (await stage.ask(outsider, owner)).said == refused("receiver")


async def test_replicas_that_attest_at_one_moment(pair: Pair) -> None:
    """Ten replicas that attest at one time all get their evidence (AT24)."""
    owner, first = await pair.ready()
    replicas = [replace(first, receiver=new_receiver_key(ENTROPY)) for _ in range(10)]
    stages = [pair.stages[at % 2] for at in range(10)]
    nonces = await asyncio.gather(*(stage.nonce(first.did) for stage in stages))
    taken = await asyncio.gather(
        *(
            submit_quote(stage, one, owner, nonce)
            for stage, one, nonce in zip(stages, replicas, nonces, strict=True)
        )
    )
    assert [reply.status for reply in taken] == [200] * 10
    asked = await asyncio.gather(
        *(stage.ask(one, owner) for stage, one in zip(reversed(stages), replicas, strict=True))
    )
    assert all(opens(reply, one, owner) for reply, one in zip(asked, replicas, strict=True))


async def test_one_replica_withdrawn(pair: Pair, through: End) -> None:
    """A withdrawal of one replica's evidence does not affect the others (RC20)."""
    owner, first = await pair.ready()
    second = replace(first, receiver=new_receiver_key(ENTROPY))
    digests = []
    for replica in (first, second):
        with pair.at(0) as stage:
            reply = await submit_quote(stage, replica, owner, await stage.nonce(first.did))
        digests.append(reply.value["evidence"])
        await opens_everywhere(pair, replica, owner)
    with pair.at(through) as stage:
        assert (
            await withdraw(stage, owner.session, owner.network, {"evidence": digests[0]})
        ).status == 204
    await refused_everywhere(pair, first, owner, first=other(through), said=refused("withdrawn"))
    await opens_everywhere(pair, second, owner)


# --- what is taken away ---------------------------------------------------------------------------


async def named(pair: Pair, kind: str, owner: Owner, delegate: Delegate) -> str:
    """The name of the backend's release, in one of three forms."""
    if kind == "did":
        return delegate.did
    if kind == "measurement":
        return measurements_of(delegate.did).mrtd.hex()
    with pair.at(0) as stage:
        reply = await submit_quote(stage, delegate, owner, await stage.nonce(delegate.did))
    return str(reply.value["evidence"])


@pytest.mark.parametrize("kind", KINDS)
async def test_the_owner_withdraws_at_one_end(pair: Pair, kind: str, through: End) -> None:
    """The owner's withdrawal at one end refuses the next release at the other (RC20, RC21)."""
    owner, delegate = await pair.attested()
    value: Json = {kind: await named(pair, kind, owner, delegate)}
    await opens_everywhere(pair, delegate, owner)
    with pair.at(through) as stage:
        assert (await withdraw(stage, owner.session, owner.network, value)).status == 204
    await refused_everywhere(pair, delegate, owner, first=other(through), said=refused("withdrawn"))


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("kind", KINDS)
async def test_the_operator_withdraws(pair: Pair, kind: str, first: End) -> None:
    """A withdrawal by the operator's command is effective at both ends (RC21, RC24)."""
    owner, delegate = await pair.attested()
    value = await named(pair, kind, owner, delegate)
    await opens_everywhere(pair, delegate, owner)
    assert await pair.command("admin", "withdraw", f"--{kind}", value) == 0
    await refused_everywhere(pair, delegate, owner, first=first, said=refused("withdrawn"))


async def asked_while(
    pair: Pair, delegate: Delegate, owner: Owner, change: "asyncio.Task[None]"
) -> list[Reply]:
    """Request keys at both ends until a change is acknowledged; return the answers after it."""
    late: list[Reply] = []
    while not late:
        acknowledged = change.done()
        replies = await asyncio.gather(
            *(stage.ask(delegate, owner) for stage in pair.stages for _ in range(4))
        )
        if acknowledged:
            late = replies
    await change
    return late


@pytest.mark.parametrize("by", ["withdrawal", "policy", "revocation"])
async def test_no_window_after_the_acknowledgement(pair: Pair, by: str) -> None:
    """A release fails if its withdrawal was acknowledged before (RC21, ST1, ST2)."""
    owner, delegate = await pair.attested()
    await opens_everywhere(pair, delegate, owner)
    (cid,) = ids(*delegate.proofs)

    async def change() -> None:
        async with acting(pair.stages[0], owner) as client:
            if by == "withdrawal":
                await client.withdrawals.withdraw_backend(delegate.did)
            elif by == "policy":
                await client.encryption.set_policy(
                    client.encryption.network(), policy_for("another")
                )
            else:
                await client.delegations.revoke_by_wallet(cid, owner.wallet)

    expected = {
        "withdrawal": refused("withdrawn"),
        "policy": refused("measurement"),
        "revocation": (401, f"delegation-revoked: {cid}"),
    }
    late = await asked_while(pair, delegate, owner, asyncio.create_task(change()))
    assert {reply.said for reply in late} == {expected[by]}


async def test_a_policy_tightened_at_one_end(pair: Pair, through: End) -> None:
    """A policy written or removed at one end is effective at the other (RL13, RL17)."""
    owner, delegate = await pair.attested()
    await opens_everywhere(pair, delegate, owner)
    for policy, said in ((policy_for("another"), refused("measurement")), (None, None)):
        with pair.at(through) as stage:
            async with acting(stage, owner) as client:
                await client.encryption.set_policy(client.encryption.network(), policy)
        if said is None:
            await opens_everywhere(pair, delegate, owner)
        else:
            await refused_everywhere(pair, delegate, owner, first=other(through), said=said)


@pytest.mark.parametrize("route", ROUTES)
async def test_a_policy_that_asks_the_owner_too(pair: Pair, through: End, route: Route) -> None:
    """A policy that demands evidence of the owner is effective at the other end (RL1)."""
    owner, _ = await pair.ready()
    session = owner.session
    await opens_everywhere(pair, session, owner)
    with pair.at(through) as stage:
        async with acting(stage, owner) as client:
            policy = policy_for("another", in_person=False)
            await client.encryption.set_policy(client.encryption.network(), policy)
    for end in (other(through), through):
        with pair.at(end) as stage:
            reply = await stage.ask(session, owner, route)
            assert reply.said == refused("policy", route)


async def test_a_delegation_revoked_at_one_end(pair: Pair, through: End) -> None:
    """A revocation at one end ends releases, evidence and sub-delegations at the other (ST1,
    ST2)."""
    owner, delegate = await pair.attested()
    child = Delegate()
    right = {owner.network: [DECRYPT]}
    child.proofs = [await pair.stages[0].register(delegate.grant(child.did, right))]
    await pair.stages[0].attest(child, owner.network, program=delegate.did)
    await opens_everywhere(pair, delegate, owner)
    await opens_everywhere(pair, child, owner)
    (cid,) = ids(*delegate.proofs)
    with pair.at(through) as stage:
        async with acting(stage, owner) as client:
            await client.delegations.revoke_by_wallet(cid, owner.wallet)
    said = (401, f"delegation-revoked: {cid}")
    await refused_everywhere(pair, delegate, owner, first=other(through), said=said)
    with pair.at(other(through)) as stage:
        assert (await stage.ask(child, owner)).status == 401
        assert (
            await submit_quote(stage, delegate, owner, await stage.nonce(delegate.did))
        ).status == 401
        late = Delegate()
        assert (await stage.post("/delegate", delegate.grant(late.did, right))).status == 401


async def test_a_network_revoked_at_one_end(pair: Pair, through: End) -> None:
    """A network that ended at one end opens nothing at the other, not even to its owner (EN17)."""
    owner, delegate = await pair.attested()
    await opens_everywhere(pair, delegate, owner)
    await opens_everywhere(pair, owner.session, owner)
    with pair.at(through) as stage:
        async with acting(stage, owner) as client:
            await client.encryption.revoke_network(client.encryption.network())
    said = (401, "network has been revoked")
    await refused_everywhere(pair, delegate, owner, first=other(through), said=said)
    await refused_everywhere(pair, owner.session, owner, first=other(through), said=said)


async def test_members_change_at_both_ends(pair: Pair) -> None:
    """Members of a team read and write at each end what both ends admitted and removed (TM4 to
    TM8)."""
    with pair.at(0) as stage:
        world = await MemberWorld.begin(stage)
        one, two, writer, reader = await world.found()
        await world.make_token(one.joined, "API_KEY", "OTHER_KEY")
        await world.approve(one, fetches=["API_KEY"])
    await _compare_members(pair, world, first=1)
    with pair.at(1) as world.stage:
        await world.store(writer, "OTHER_KEY", world.ledger.latest["API_KEY"])
        await world.remove_by_session(two, writer.joined)
    await _compare_members(pair, world, first=0)
    world.stage = pair.stages[0]
    await world.remove_each_other(one, two, elsewhere=pair.stages[1])
    with pair.at(0) as world.stage:
        await world.remove_by_wallet(reader.joined.person.wallet, reader.joined)
        third = await world.join("admin")
        await world.approve(third, fetches=["THIRD_KEY"], by_wallet=True)
    await _compare_members(pair, world, first=1)
    await world.compare_receipts()


async def _compare_members(pair: Pair, world: MemberWorld, *, first: End) -> None:
    """Let everybody try everything, at the end that made no change before the other."""
    for end in (first, other(first)):
        with pair.at(end) as world.stage:
            await world.compare()


# --- used tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ROUTES)
@pytest.mark.parametrize("first", ROUTES)
async def test_a_decrypt_token_used_at_one_end(
    pair: Pair, through: End, first: Route, second: Route
) -> None:
    """A decrypt token that opened at one end is a duplicate at the other, on either route (EN18,
    ST4)."""
    owner, delegate = await pair.attested()
    request = pair.stages[0].decrypt(delegate, owner)
    with pair.at(through) as stage:
        assert opens(await stage.send_decrypt(request, first), delegate, owner)
    for end in (other(through), through):
        with pair.at(end) as stage:
            assert (await stage.send_decrypt(request, second)).said == DUPLICATE


async def test_a_decrypt_token_refused_at_one_end(pair: Pair, through: End) -> None:
    """A token that one end refused is also refused at the other end, even with evidence (EN18,
    ST4)."""
    owner, delegate = await pair.ready()
    request = pair.stages[0].decrypt(delegate, owner)
    with pair.at(through) as stage:
        assert (await stage.send_decrypt(request)).said == refused("not_attested")
        await stage.attest(delegate, owner.network, program=delegate.did)
    for end in (other(through), through):
        with pair.at(end) as stage:
            assert (await stage.send_decrypt(request)).said == DUPLICATE


async def test_a_decrypt_token_at_both_ends_at_one_moment(pair: Pair) -> None:
    """A decrypt token that is sent concurrently to both ends and both routes opens once (EN18,
    ST4)."""
    owner, delegate = await pair.attested()
    for _ in range(3):
        request = pair.stages[0].decrypt(delegate, owner)
        uses = list(itertools.product(pair.stages, ROUTES)) * 3
        replies = await asyncio.gather(
            *(stage.send_decrypt(request, route) for stage, route in uses)
        )
        assert sorted(reply.status for reply in replies) == [200] + [409] * 11
        assert opens(next(reply for reply in replies if reply.status == 200), delegate, owner)


# --- receipts -------------------------------------------------------------------------------------


async def test_receipts_of_one_end_verify_at_the_other(pair: Pair, through: End) -> None:
    """A receipt of one end can be read and verified at the other (RC8, RC14 to RC18)."""
    owner, delegate = await pair.attested()
    with pair.at(through) as stage:
        assert opens(await stage.ask(delegate, owner), delegate, owner)
    reported = []
    for end in (other(through), through):
        with pair.at(end) as stage:
            async with acting(stage, owner) as client:
                (receipt,) = [one async for one in client.receipts.all()]
                documents = await client.receipts.documents(receipt)
        text = encode_receipt(receipt)
        root = parse_trust_root(stage.platform.root_der)
        release = verify_release(text, documents.get, root=root, node_did=pair.stages[0].node_did)
        assert release.receipt.invoker == delegate.did
        assert release.policies == (policy_for(delegate.did),)
        reported.append((text, sorted(hashlib.sha256(one).digest() for one in documents.values())))
    assert reported[0] == reported[1]


async def test_receipts_of_both_ends_are_one_list(pair: Pair) -> None:
    """Receipts of both ends form one complete list, oldest first (RC14)."""
    owner, delegate = await pair.attested()
    for end in (0, 1, 1, 0):
        with pair.at(ENDS[end]) as stage:
            assert opens(await stage.ask(delegate, owner), delegate, owner)
    lists = []
    for end in ENDS:
        with pair.at(end) as stage:
            async with acting(stage, owner) as client:
                lists.append([one async for one in client.receipts.all()])
    times = [receipt.at_micros for receipt in lists[0]]
    assert (len(times), times) == (4, sorted(times)) and lists[0] == lists[1]


async def test_who_may_read_receipts_ends_everywhere(pair: Pair, through: End) -> None:
    """A reader whose grant was revoked at one end reads no receipt at the other (RC14, ST1)."""
    owner, _ = await pair.attested()
    reader = Delegate()
    right = {owner.network: [READ_RECEIPTS]}
    reader.proofs = [await pair.stages[0].register(owner.grant(reader.did, right))]
    for end in ENDS:
        with pair.at(end) as stage:
            assert (await fetch(stage, reader, owner.network)).status == 200
    with pair.at(through) as stage:
        async with acting(stage, owner) as client:
            await client.delegations.revoke_by_wallet(ids(*reader.proofs)[0], owner.wallet)
    with pair.at(other(through)) as stage:
        assert (await fetch(stage, reader, owner.network)).status == 401


# --- settings of a second server ------------------------------------------------------------------

LOOSER: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "off": (("--attestation", "off"), {}, "release.attestation is off"),
    "delegates": (("--attestation", "delegates"), {}, "release.attestation is delegates"),
    "node policy": (
        (),
        {"SEALSPACE_RELEASE__NODE_POLICY_SUFFICES": "true"},
        "node_policy_suffices is set",
    ),
    "key provider": (
        (),
        {"SEALSPACE_RELEASE__KEY_PROVIDERS": "kms,tpm,local-sgx:0a"},
        "accepts local-sgx:0a",
    ),
    "trust root": ((), {}, "which the store's release record does not name"),
}


@pytest.fixture(scope="module")
def strict_server(
    tmp_path_factory: pytest.TempPathFactory, platform: SimulatedPlatform
) -> Iterator[tuple[Path, str, RunningNode]]:
    """A server in mode `everyone`; what starts a second one, and the server."""
    folder, url = tmp_path_factory.mktemp("strict"), postgres_server().new_database()
    arguments = (*arguments_of(folder, url), "--attestation", "everyone")
    with running_node(folder / "one", *arguments, platform=platform, workers=1) as node:
        yield folder, url, node


@needs_postgres()
@pytest.mark.parametrize("what", LOOSER)
async def test_a_looser_server_does_not_join(
    strict_server: tuple[Path, str, RunningNode],
    platform: SimulatedPlatform,
    tmp_path: Path,
    what: str,
) -> None:
    """A server with looser settings than the release record refuses to start (RL16)."""
    folder, url, node = strict_server
    flags, environment, said = LOOSER[what]
    trusted = (
        SimulatedPlatform.from_seed(b"a platform of somebody else")
        if what == "trust root"
        else platform
    )
    if what != "delegates" and "--attestation" not in flags:
        flags = ("--attestation", "everyone")
    trust = trust_arguments(tmp_path, trusted)
    joining = RunningNode(
        tmp_path,
        *arguments_of(folder, url),
        *trust,
        *flags,
        "--workers",
        "1",
        environment=environment,
    )
    try:
        assert await asyncio.to_thread(joining.process.wait, 30) == LOOSENED
        joining.wait_for(said)
        assert not any(line.startswith("listening") for line in joining.lines)
    finally:
        joining.close()
    async with AsyncExitStack() as clients:
        stage = await stage_on(node.url, platform, clients)
        owner = await stage.owner()
        assert (await stage.ask(owner.session, owner)).said == refused("mode")


@needs_postgres()
async def test_terms_set_on_one_machine_hold_on_both(
    platform: SimulatedPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings by `sealspace admin release set` apply on both machines (RL16)."""
    url = postgres_server().new_database()
    monkeypatch.setenv(STORE_URL, url)
    with (
        running_node(
            tmp_path / "one", *arguments_of(tmp_path, url), platform=platform, workers=1
        ) as one,
        running_node(
            tmp_path / "two", *arguments_of(tmp_path, url), platform=platform, workers=1
        ) as two,
    ):
        async with AsyncExitStack() as clients:
            first, second = [
                replace(await stage_on(n.url, platform, clients), node=n) for n in (one, two)
            ]
            pair = Pair((first, second), url)
            owner, delegate = await pair.attested()
            await opens_everywhere(pair, owner.session, owner)
            assert await pair.command("admin", "release", "set", "--attestation", "everyone") == 0
            await refused_everywhere(pair, owner.session, owner, first=1, said=refused("mode"))
            await opens_everywhere(pair, delegate, owner)
        assert two.stop() == 0
        again = RunningNode(
            tmp_path / "two",
            *arguments_of(tmp_path, url),
            *trust_arguments(tmp_path / "two", platform),
        )
        try:
            assert await asyncio.to_thread(again.process.wait, 30) == LOOSENED
            again.wait_for("release.attestation is delegates")
        finally:
            again.close()
