"""Tests of the round trips between a node and its database: one for a read, two for a write.

Cited delegations that are new to the process cost one more, and concurrent reads share their round
trips.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from attacks.parties import (
    DECRYPT,
    DELETE,
    GET,
    LIST,
    PUT,
    REVOKE,
    Delegate,
    Owner,
    Stage,
    policy_for,
    stage_on,
)
from delegation_cache import clear_delegation_cache
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from engines import no_housekeeping
from postgres_relay import Relay, relayed
from postgres_server import needs_postgres, postgres_server
from running_node import Reply, exchange, key_token, new_key, wallet_token
from trust_settings import trusting_config
from wire_replay import token_id

from encryption_network import content_keys
from node.config.tree import Limits, Store

pytestmark = needs_postgres()

READS_AT_ONCE = 24


@dataclass(frozen=True)
class Place:
    """A node behind a relay, an owner with values, and an attested delegate."""

    node: EmbeddedNode
    relay: Relay
    stage: Stage
    owner: Owner
    delegate: Delegate
    grant: str

    @property
    def resource(self) -> str:
        """The resource of the values."""
        return f"{self.owner.space()}/kv"

    async def trips(self, ask: Callable[[], Awaitable[Reply]], *, status: int = 200) -> int:
        """Return the fewest round trips of three requests; the first ones prepare statements."""
        counts = []
        for _ in range(3):
            before = self.relay.round_trips
            reply = await ask()
            assert reply.status == status, reply.said
            counts.append(self.relay.round_trips - before)
        return min(counts)

    async def call(self, ability: str, path: str, body: bytes | None = None) -> Reply:
        """Invoke one ability on a value as the delegate."""
        return await self.stage.invoke(
            self.delegate.signer,
            {f"{self.resource}/{path}": [ability]},
            proofs=[self.grant],
            body=body,
        )

    def forget(self) -> None:
        """Clear the process's cache of delegations."""
        clear_delegation_cache(self.node.services)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A node without background work."""
    platform = SimulatedPlatform.from_seed(b"platform of the round trips")
    async with AsyncExitStack() as opened:
        opened.enter_context(no_housekeeping())
        address, relay = await opened.enter_async_context(relayed(postgres_server().new_database()))
        config = trusting_config(
            tmp_path,
            platform,
            store=Store(data=str(tmp_path / "data"), url=address),
            limits=Limits(unauthenticated_per_minute=0, challenges_per_minute=1_000_000),
        )
        node = await opened.enter_async_context(embedded_node(config))
        stage = await stage_on(node.url, platform, opened)
        owner, delegate = await stage.owner(), Delegate(new_key())
        abilities = {f"{owner.space()}/kv": [GET, PUT, LIST, DELETE], owner.network: [DECRYPT]}
        grant = await stage.register(
            wallet_token(owner.wallet, delegate.did, abilities, policy=policy_for("approved"))
        )
        delegate.proofs.append(grant)
        await stage.attest(delegate, owner.network)
        place = Place(node, relay, stage, owner, delegate, grant)
        assert (await place.call(PUT, "a", b"value")).status == 200
        yield place


async def test_reads(place: Place) -> None:
    """A get, metadata, a listing and a missing value are one round trip each."""
    assert await place.trips(lambda: place.call(GET, "a")) == 1
    assert await place.trips(lambda: place.call(GET, "absent"), status=404) == 1
    assert await place.trips(lambda: place.call(LIST, "")) == 1


async def test_read_under_a_delegation_that_is_new_to_the_process(place: Place) -> None:
    """A read with uncached delegations reads all of them in one more round trip."""

    async def get() -> Reply:
        place.forget()
        return await place.call(GET, "a")

    assert await place.trips(get) == 2

    async def listing() -> Reply:
        place.forget()
        return await place.call(LIST, "")

    assert await place.trips(listing) == 2
    for _ in range(2):
        token = wallet_token(place.owner.wallet, place.delegate.did, {place.resource: [GET]})
        place.delegate.proofs.append(await place.stage.register(token))

    async def get_citing_three() -> Reply:
        place.forget()
        return await place.stage.invoke(
            place.delegate.signer, {f"{place.resource}/a": [GET]}, proofs=place.delegate.proofs
        )

    assert await place.trips(get_citing_three) == 2


async def test_writes(place: Place) -> None:
    """A put, a delete, a delegation and a revocation are two round trips each."""
    assert await place.trips(lambda: place.call(PUT, "a", b"another value")) == 2
    assert await place.trips(lambda: place.call(DELETE, "a")) == 2
    grants: list[str] = []

    async def delegate() -> Reply:
        grants.append(wallet_token(place.owner.wallet, new_key().did, {place.resource: [GET]}))
        return await place.stage.post("/delegate", grants[-1])

    assert await place.trips(delegate) == 2
    counts: list[int] = []

    async def revoke() -> Reply:
        granted = new_key()
        grant = await place.stage.register(
            wallet_token(place.owner.wallet, granted.did, {place.resource: [GET]})
        )
        token = key_token(granted, granted.did, {f"urn:cid:{token_id(grant)}": [REVOKE]})
        registered = place.relay.round_trips
        reply = await place.stage.post("/revoke", token)
        counts.append(place.relay.round_trips - registered)
        return reply

    await place.trips(revoke)
    assert min(counts) == 2


async def test_releases(place: Place) -> None:
    """A release takes two round trips on both routes."""
    session = place.owner.session
    assert await place.trips(lambda: place.stage.ask(session, place.owner)) == 2
    assert await place.trips(lambda: place.stage.ask(place.delegate, place.owner)) == 2
    assert await place.trips(lambda: place.stage.ask(place.delegate, place.owner, "invoke")) == 2


async def test_a_release_of_a_key_that_is_new_to_the_process(place: Place) -> None:
    """For everybody but the owner in person, the row of the key's paths is read when the key was
    opened (RL22): one more round trip."""

    async def first(caller: Delegate) -> Reply:
        content_keys._known_digests.clear()
        return await place.stage.ask(caller, place.owner)

    assert await place.trips(lambda: first(place.owner.session)) == 2
    assert await place.trips(lambda: first(place.delegate)) == 3


async def test_a_release_by_a_sign_in_that_is_not_cited(place: Place) -> None:
    """In-person authority by an uncited sign-in takes two more round trips (IP2)."""
    session = place.owner.session
    bare = await place.stage.register(place.owner.grant_decrypt(session.did_url))
    assert await place.trips(lambda: place.stage.ask(session, place.owner, proofs=[bare])) == 4


async def test_reads_of_one_turn_are_asked_together(place: Place) -> None:
    """Concurrent gets share round trips: there are far fewer than gets."""
    async with AsyncExitStack() as opened:
        import aiohttp

        session = await opened.enter_async_context(aiohttp.ClientSession())
        tokens = [
            key_token(
                place.delegate.signer,
                place.delegate.did,
                {f"{place.resource}/a": [GET]},
                proofs=[place.grant],
            )
            for _ in range(2 * READS_AT_ONCE)
        ]

        async def get(token: str) -> Reply:
            return await exchange(session, place.node.url, "POST", "/invoke", token=token)

        warm = await asyncio.gather(*[get(token) for token in tokens[:READS_AT_ONCE]])
        before = place.relay.round_trips
        replies = await asyncio.gather(*[get(token) for token in tokens[READS_AT_ONCE:]])
        assert {reply.status for reply in (*warm, *replies)} == {200}
        assert place.relay.round_trips - before <= READS_AT_ONCE / 2
