"""Attacks with many ID tokens: whoever holds those of one trust fills neither the store nor the
owner's limits (OX9)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from attacks.held_store import HeldStage, held_node
from attacks.parties import Delegate, Stage, ids, opens, stage_on
from attacks.test_id_tokens import exchange, trust_of
from deviating_platform import SimulatedPlatform
from oidc_issuer import Issuer, github_claims
from running_node import Reply, RunningNode, running_node
from tests_support import FixedClock
from trust_settings import trusting_config

from capabilities.cids import parse_cid
from capabilities.principals import parse_principal
from node.config.tree import Limits
from node.housekeeping.schedule import JOBS, STEADY_S, Housekeeper, sweep_delegations
from spaces.grants.exchanged import sweep_exchanged
from spaces.grants.retention import delegation_usage_keys
from spaces.keyspace import exchanged_counter
from spaces.store.contract import counter_of

pytestmark = pytest.mark.slow

ISSUER = "https://ci.test"
LIMIT = 3
LIFE_S = 900


@pytest.fixture
async def held(tmp_path: Path, platform: SimulatedPlatform) -> AsyncIterator[HeldStage]:
    """A node in this process that makes few tokens for each trust, and a clock to move."""
    clock = FixedClock(time.time())
    limits = Limits(challenges_per_minute=1_000_000, exchanged_per_trust=LIMIT)
    config = trusting_config(tmp_path, platform, limits=limits)
    async with held_node(config, clock=clock) as (node, store), AsyncExitStack() as clients:
        stage = await stage_on(node.url, platform, clients)
        parts = (stage.url, platform, clients, stage.node_did)
        yield HeldStage(*parts, store=store, clock=clock, services=node.services)


def new_token(stage: Stage, issuer: Issuer, *, now: float | None = None) -> str:
    """Return an ID token that outlives the tokens that the node makes."""
    return issuer.token(github_claims(), audience=stage.node_did, now=now, life_s=2 * LIFE_S)


def is_full(reply: Reply) -> bool:
    """Return whether an exchange was refused for the limit of its trust, with what to do."""
    if reply.status != 429:
        return False
    value = reply.value
    assert value["code"] == "too-many-exchanged"
    assert value["title"] == "Too many machine tokens of this trust are live"
    assert "wait: it ends within 15 minutes" in str(value["hint"])
    assert reply.headers["retry-after"] == "60"
    return True


async def counted(stage: HeldStage, trust: str) -> int:
    """Return how many live tokens the store counts under a trust."""
    (found,) = await stage.services.delegations.by_cid([parse_cid(trust).digest32])
    assert found is not None
    key = exchanged_counter(found.delegation.content_key)
    return counter_of((await stage.services.store.read([key])).records[0])


async def test_OX9_a_trust_has_so_many_live_tokens(held: HeldStage) -> None:
    """At the limit of one trust, another trust, the owner and the live tokens go on; the ID token
    that was refused serves after a token has ended."""
    owner, issuer = await held.owner(), Issuer(ISSUER)
    trust, other = await trust_of(owner, issuer), await trust_of(owner, issuer)
    jobs = [Delegate() for _ in range(LIMIT)]
    for job in jobs:
        assert (await exchange(held, trust, new_token(held, issuer), job)).status == 200
    late = new_token(held, issuer)
    for _ in range(2):
        assert is_full(await exchange(held, trust, late, Delegate()))
    assert (await exchange(held, other, new_token(held, issuer), Delegate())).status == 200
    assert opens(await held.ask(jobs[0], owner), jobs[0], owner)
    await owner.client.secrets().put("OTHER", "the owner writes")

    held.clock.advance(LIFE_S - 1)
    assert not await sweep_exchanged(held.services.store, now=held.clock.now())
    assert is_full(await exchange(held, trust, late, Delegate()))
    held.clock.advance(2)
    assert not await sweep_exchanged(held.services.store, now=held.clock.now())
    assert await counted(held, trust) == 0
    assert (await exchange(held, trust, late, Delegate())).status == 200
    assert await counted(held, trust) == 1


async def test_OX9_at_once_no_more_than_the_limit(held: HeldStage) -> None:
    """Of many exchanges at the same time, exactly as many succeed as the limit allows."""
    owner, issuer = await held.owner(), Issuer(ISSUER)
    trust = await trust_of(owner, issuer)
    tokens = [new_token(held, issuer) for _ in range(4 * LIMIT)]
    replies = await asyncio.gather(*(exchange(held, trust, token, Delegate()) for token in tokens))
    assert [reply.status for reply in replies].count(200) == LIMIT
    assert [is_full(reply) for reply in replies].count(True) == 3 * LIMIT
    assert await counted(held, trust) == LIMIT


async def test_OX9_refusals_say_nothing_to_strangers(held: HeldStage) -> None:
    """Only a valid ID token learns that its trust is full; revoking a token frees no place."""
    owner, issuer, job = await held.owner(), Issuer(ISSUER), Delegate()
    trust = await trust_of(owner, issuer)
    for _ in range(LIMIT):
        assert (await exchange(held, trust, new_token(held, issuer), job)).status == 200
    forged = new_token(held, Issuer(ISSUER))
    assert (await exchange(held, trust, forged, Delegate())).status == 401
    await owner.client.delegations.revoke_by_wallet(ids(*job.proofs)[0], owner.wallet)
    assert is_full(await exchange(held, trust, new_token(held, issuer), Delegate()))
    await owner.client.delegations.revoke_by_wallet(trust, owner.wallet)
    held.clock.advance(LIFE_S + 1)
    await sweep_exchanged(held.services.store, now=held.clock.now())
    assert await counted(held, trust) == 0


async def test_OX9_ended_tokens_leave_the_store(held: HeldStage) -> None:
    """An hour after its end a token is removed and no longer counts for its owner; a revoked one
    cannot come back."""
    owner, issuer, job = await held.owner(), Issuer(ISSUER), Delegate()
    trust = await trust_of(owner, issuer)
    keys = delegation_usage_keys(parse_principal(owner.wallet.did), None)

    async def stored() -> int:
        return counter_of((await held.services.store.read(keys[:1])).records[0])

    before = await stored()
    assert (await exchange(held, trust, new_token(held, issuer), job)).status == 200
    assert await stored() == before + 1
    await owner.client.delegations.revoke_by_wallet(ids(*job.proofs)[0], owner.wallet)
    held.clock.advance(LIFE_S + 3600 - 60)
    assert await sweep_delegations(held.services) == 0
    held.clock.advance(120)
    assert await sweep_delegations(held.services) == 1
    assert await stored() == before
    assert (await held.post("/delegate", job.proofs[0])).status == 401


async def test_OX9_a_clock_that_leapt_blocks_no_trust(held: HeldStage) -> None:
    """Housekeeping that waits for a day after the clock was set still frees the places of a
    trust."""
    owner, issuer = await held.owner(), Issuer(ISSUER)
    trust = await trust_of(owner, issuer)
    keeper = Housekeeper(held.services, [job for job in JOBS if job.name.startswith("sweep-")])
    assert await keeper.turn()
    held.clock.advance(STEADY_S + LIFE_S)
    assert await keeper.turn()  # notes the leap
    for _ in range(LIMIT):
        token = new_token(held, issuer, now=held.clock.now())
        assert (await exchange(held, trust, token, Delegate())).status == 200
    held.clock.advance(LIFE_S + 60)
    assert await keeper.turn()
    assert await counted(held, trust) == 0


@asynccontextmanager
async def _stage_at(node: RunningNode, platform: SimulatedPlatform) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as clients:
        yield replace(await stage_on(node.url, platform, clients), node=node)


async def test_OX9_the_same_in_every_process(folder: Path, platform: SimulatedPlatform) -> None:
    """Two workers and a node that was killed and started again share one count."""
    settings = {"SEALSPACE_LIMITS__EXCHANGED_PER_TRUST": str(LIMIT)}
    issuer = Issuer(ISSUER)
    with running_node(folder, platform=platform, environment=settings) as node:
        async with _stage_at(node, platform) as stage:
            owner = await stage.owner()
            trust = await trust_of(owner, issuer)
            for number in range(LIMIT):
                with node.only(number % 2):
                    reply = await exchange(stage, trust, new_token(stage, issuer), Delegate())
                    assert reply.status == 200
            for index in (0, 1):
                with node.only(index):
                    token = new_token(stage, issuer)
                    assert is_full(await exchange(stage, trust, token, Delegate()))
        node.kill()
    with running_node(folder, platform=platform, environment=settings) as node:
        async with _stage_at(node, platform) as stage:
            token = new_token(stage, issuer)
            assert is_full(await exchange(stage, trust, token, Delegate()))
