"""Tests of every row of the in-person table, in each mode and on both routes (IP1, IP2)."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from attacks.in_person_table import (
    MODES,
    NOT_REGISTERED,
    OPENS,
    POLICIES,
    TABLE,
    Mode,
    Row,
    Stated,
    Who,
)
from attacks.parties import (
    DECRYPT,
    ROUTES,
    SECRET,
    SET_POLICY,
    VALUE,
    Delegate,
    Owner,
    Stage,
    machine_token,
    opens,
    policy_for,
    refused,
)
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node
from running_node import new_key
from trust_settings import MANY_CHALLENGES, trusting_config

from encryption_network.envelope import parse_envelope
from encryption_network.policy import Policy
from sealspace.delegations import allow
from sealspace.wallets import new_wallet

pytestmark = pytest.mark.slow

Caller = tuple[Delegate, Owner]
"""Each caller of the table, with its key."""


async def _owner(stage: Stage, on_network: Policy | None) -> Owner:
    owner = await stage.owner("notes")
    if on_network is not None:
        await owner.client.delegations.add_right(owner.wallet, [allow(owner.network, SET_POLICY)])
        await owner.client.encryption.set_policy(owner.client.encryption.network(), on_network)
    return owner


async def _owner_key(stage: Stage, in_grant: Policy | None, on_network: Policy | None) -> Caller:
    client, key = await stage.client(), new_key()
    await client.sign_in_with_key(key, spaces=["secrets"])
    await client.encryption.ensure_network()
    network = client.encryption.network()
    if on_network is not None:
        await client.encryption.set_policy(network, on_network)
    owner = Owner(
        client, new_wallet(), await client.encryption.encrypt(VALUE.encode(), network=network)
    )
    asking = Delegate(key)
    if in_grant is not None:
        asking.proofs = [
            await stage.register(asking.grant(key.did, {network.text: [DECRYPT]}, policy=in_grant))
        ]
    return asking, owner


async def _sign_in(stage: Stage, in_grant: Policy | None, on_network: Policy | None) -> Caller:
    owner, key = await _owner(stage, on_network), Delegate()
    if in_grant is None:
        return owner.session, owner
    key.proofs = [await stage.register(owner.sign_in(key.did_url, policy=in_grant))]
    return key, owner


async def _other_app(stage: Stage, in_grant: Policy | None, on_network: Policy | None) -> Caller:
    owner, key = await _owner(stage, on_network), Delegate()
    key.proofs = [await stage.register(owner.sign_in(key.did_url, space="notes", policy=in_grant))]
    return key, owner


async def _other_app_granted(
    stage: Stage, in_grant: Policy | None, on_network: Policy | None
) -> Caller:
    owner, key = await _owner(stage, on_network), Delegate()
    elsewhere = {f"{owner.space('notes')}/capabilities": ["tinycloud.capabilities/read"]}
    await stage.register(owner.grant(key.did_url, elsewhere))
    key.proofs = [await stage.register(_by_session(owner, key, in_grant))]
    return key, owner


async def _share_key(stage: Stage, in_grant: Policy | None, on_network: Policy | None) -> Caller:
    owner, key = await _owner(stage, on_network), Delegate()
    key.proofs = [await stage.register(_by_session(owner, key, in_grant))]
    return key, owner


def _by_session(owner: Owner, key: Delegate, in_grant: Policy | None) -> str:
    session = Delegate(owner.session.signer, owner.session.proofs[:1])  # the sign-in alone
    return session.grant(key.did, {owner.network: [DECRYPT]}, policy=in_grant)


async def _manifest_target(
    stage: Stage, in_grant: Policy | None, on_network: Policy | None
) -> Caller:
    owner, key = await _owner(stage, on_network), Delegate()
    key.proofs = [await stage.register(owner.sign_in(key.did, policy=in_grant))]
    return key, owner


async def _backend(stage: Stage, in_grant: Policy | None, on_network: Policy | None) -> Caller:
    owner, key = await _owner(stage, on_network), Delegate()
    key.proofs = [await stage.register(owner.grant_decrypt(key.did, policy=in_grant))]
    return key, owner


async def _attested_backend(
    stage: Stage, in_grant: Policy | None, on_network: Policy | None
) -> Caller:
    key, owner = await _backend(stage, in_grant, on_network)
    await stage.attest(key, owner.network)
    return key, owner


async def _offered(stage: Stage, key: Delegate, *tokens: str) -> Delegate:
    """Give a key the delegations that the node registers."""
    replies = [(token, await stage.post("/delegate", token)) for token in tokens]
    key.proofs = [token for token, reply in replies if reply.status == 200]
    return key


async def _machine(stage: Stage, in_grant: Policy | None, on_network: Policy | None) -> Caller:
    owner, key = await _owner(stage, on_network), Delegate()
    return await _offered(stage, key, owner.machine(key, policy=in_grant)), owner


async def _machine_of_a_key(
    stage: Stage, in_grant: Policy | None, on_network: Policy | None
) -> Caller:
    asking, owner = await _owner_key(stage, None, on_network)
    secrets, key = owner.client.secrets(), Delegate()
    await secrets.put(SECRET, VALUE)
    path = secrets.resource(SECRET)
    stored = await owner.client.kv("secrets").get(path.partition("/kv/")[2])
    token = machine_token(asking.signer, key.did, [path], owner.network, policy=in_grant)
    return await _offered(stage, key, token), replace(owner, envelope=parse_envelope(stored.body))


async def _machine_elsewhere(
    stage: Stage, in_grant: Policy | None, on_network: Policy | None
) -> Caller:
    owner, key = await _owner(stage, on_network), Delegate()
    await owner.client.secrets().put("OTHER_KEY", "another value")
    token = owner.machine(key, "OTHER_KEY", policy=in_grant)
    return await _offered(stage, key, token), owner


async def _machine_closed(
    stage: Stage, in_grant: Policy | None, on_network: Policy | None
) -> Caller:
    closed = replace(on_network or Policy(), in_person=False)
    return await _machine(stage, in_grant, closed)


async def _machine_of_a_session(
    stage: Stage, in_grant: Policy | None, on_network: Policy | None
) -> Caller:
    owner, key = await _owner(stage, on_network), Delegate()
    session = owner.session
    signed = (session.signer, key.did, [owner.secret], owner.network)
    tokens = [
        machine_token(*signed, policy=in_grant, proofs=proofs) for proofs in ((), session.proofs)
    ]
    return await _offered(stage, key, *tokens), owner


async def _below_a_machine(
    stage: Stage, in_grant: Policy | None, on_network: Policy | None
) -> Caller:
    (above, owner), key = await _machine(stage, None, on_network), Delegate()
    token = above.grant(key.did, {owner.network: [DECRYPT]}, policy=in_grant)
    return await _offered(stage, key, token), owner


CALLERS: dict[Who, Callable[[Stage, Policy | None, Policy | None], Awaitable[Caller]]] = {
    "owner key": _owner_key,
    "sign-in": _sign_in,
    "session key of another app": _other_app,
    "session key of another app, granted to": _other_app_granted,
    "share key": _share_key,
    "manifest target": _manifest_target,
    "backend": _backend,
    "attested backend": _attested_backend,
    "machine token": _machine,
    "machine token of a key": _machine_of_a_key,
    "machine token for another secret": _machine_elsewhere,
    "machine token, closed network": _machine_closed,
    "machine token of a session": _machine_of_a_session,
    "below a machine token": _below_a_machine,
}


@pytest.fixture
async def stage_in(tmp_path: Path, platform: SimulatedPlatform, mode: Mode) -> AsyncIterator[Stage]:
    """A stage in this process, in the given mode."""
    config = trusting_config(
        tmp_path, platform, release={"attestation": mode}, limits=MANY_CHALLENGES
    )
    async with embedded_node(config) as node, AsyncExitStack() as clients:
        yield Stage(node.url, platform, clients, node.services.keyring.node_did)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row", TABLE, ids=[row.who for row in TABLE])
async def test_row(stage_in: Stage, row: Row, mode: Mode) -> None:
    """A caller gets the table's answer on both routes, wherever the policy with measurements is
    stated."""
    for policy in POLICIES:
        caller, owner = await CALLERS[row.who](stage_in, *_stated(policy))
        expected = row.answer(policy, mode)
        if expected == NOT_REGISTERED:
            assert caller.proofs == [], policy
            continue
        for route in ROUTES:
            reply = await stage_in.ask(caller, owner, route)
            if expected == OPENS:
                assert opens(reply, caller, owner), (policy, route)
            else:
                assert reply.said == refused(expected, route), (policy, route)


def _stated(policy: Stated) -> tuple[Policy | None, Policy | None]:
    """Return the policy in the grant and the one on the network."""
    listed = policy_for("approved")
    return (listed if policy == "in the grant" else None), (
        listed if policy == "on the network" else None
    )


def test_the_table_is_whole() -> None:
    """Each caller has a row, and each row has an answer for every policy place and every mode."""
    assert [*CALLERS] == [row.who for row in TABLE]
    cells = itertools.product(TABLE, POLICIES, MODES)
    answers = [row.answer(policy, mode) for row, policy, mode in cells]
    assert len(answers) == len(CALLERS) * 3 * 3
