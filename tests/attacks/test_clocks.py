"""Nodes on one store with different clocks, one of which is five minutes or a year ahead.

Time is told by clocks that a test moves: that of each node, and the database's.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from attacks.held_store import HeldStage
from attacks.parties import GET, PUT
from engines import no_housekeeping
from postgres_server import needs_postgres, postgres_server
from running_node import Reply, key_token, new_key, send
from tests_support import FixedClock
from wire_replay import token_id

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.signatures import Ed25519Signer
from encryption_network.keyring import Keyring
from node.config.tree import Config, Http, Store
from node.housekeeping.schedule import Housekeeper
from node.http.app import build_app
from node.http.listener import start_listener
from node.processes.start import claim_store
from sealspace.service.listening_socket import bind_socket, url_of
from spaces.keyspace import REPLAY_FLOOR_KEY
from spaces.store.postgres._clock import DatabaseClock
from spaces.store.postgres._pool import Connections
from spaces.store.postgres._schema import prepare_tables
from spaces.store.postgres.engine import do_housekeeping, open_postgres

MINUTE_S, YEAR_S = 60.0, 365 * 86_400.0
LONGEST_LIFE_S = 360
DUPLICATE = (409, "duplicate invocation")


@dataclass
class Node:
    """A node, its clock, and its housekeeping."""

    url: str
    clock: FixedClock
    connections: Connections
    housekeeper: Housekeeper

    async def do_housekeeping(self) -> bool:
        """Do the housekeeping that is due, and return whether this node had its turn."""
        await do_housekeeping(
            self.connections, DatabaseClock(self.clock), longest_life_s=LONGEST_LIFE_S
        )
        return await self.housekeeper.turn()

    def token(self, owner: Ed25519Signer, ability: str, *, life_s: float) -> str:
        """Sign an invocation by the clock of this node's clients."""
        space = f"tinycloud:{owner.did.removeprefix('did:')}:default"
        ttl_s = self.clock.now() + life_s - time.time()
        return key_token(owner, owner.did, {f"{space}/kv/a": [ability]}, ttl_s=ttl_s)

    async def ask(self, token: str, *, body: bytes | None = None) -> Reply:
        return await send(self.url, "POST", "/invoke", token=token, body=body)


@dataclass
class Cluster:
    """Two nodes on one database, whose clock is the first node's."""

    right: Node
    wrong: Node
    database: Connections
    set_database: Callable[[float], None]
    used: list[tuple[float, Node, str]] = field(default_factory=list)

    def advance(self, seconds: float) -> None:
        for node in (self.right, self.wrong):
            node.clock.advance(seconds)
        self.set_database(self.right.clock.now())

    async def use(self, node: Node, owner: Ed25519Signer, *, life_s: float) -> Reply:
        """Use a fresh token once, and remember it for `repeats`."""
        token = node.token(owner, GET, life_s=life_s)
        self.used.append((node.clock.now() + life_s, node, token))
        return await node.ask(token)

    async def repeats(self) -> list[tuple[int, str]]:
        """Repeat all used tokens that have not expired, and return the answers."""
        return [
            (await node.ask(token)).said
            for ends_at, node, token in self.used
            if ends_at > node.clock.now()
        ]

    async def oldest_claim_s(self) -> float:
        """Return the age of the oldest replay record in seconds."""
        rows = await self.database.run(
            "select k from sealspace_claims where k < $1 order by k limit 1", [b"\xff"]
        )
        return self.right.clock.now() - 60 * int.from_bytes(rows[0][0][:4], "big")


@asynccontextmanager
async def node_on(
    url: str, folder: Path, keyring: Keyring, clock: FixedClock
) -> AsyncIterator[Node]:
    """Run a node on a database until the block ends, with housekeeping on request."""
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(folder), url=url))
    async with AsyncExitStack() as opened:
        store = open_postgres(url, clock=clock)
        opened.push_async_callback(store.close)
        services = await claim_store(
            config, store=store, keyring=keyring, clock=clock, entropy=SystemEntropy()
        )
        bound = bind_socket("127.0.0.1", 0)
        listener = await start_listener(build_app(services), bound, config.http)
        opened.push_async_callback(listener.stop)
        connections = Connections(url, size=1, session={}, opened=prepare_tables)
        opened.push_async_callback(connections.close)
        yield Node(url_of(bound), clock, connections, Housekeeper(services))


@asynccontextmanager
async def cluster_of(folder: Path, *, ahead_s: float) -> AsyncIterator[Cluster]:
    """Run two nodes, the second of which has a clock this far ahead."""
    url, set_database = postgres_server().clocked_database()
    keyring, now = Keyring(b"secret of the cluster".ljust(32, b".")), time.time()
    set_database(now)
    async with AsyncExitStack() as opened:
        opened.enter_context(no_housekeeping())  # but that of the test
        right = await opened.enter_async_context(
            node_on(url, folder / "right", keyring, FixedClock(now))
        )
        wrong = await opened.enter_async_context(
            node_on(url, folder / "wrong", keyring, FixedClock(now + ahead_s))
        )
        yield Cluster(right, wrong, right.connections, set_database)


@needs_postgres()
@pytest.mark.parametrize(
    "wrong_is_first", [True, False], ids=["the wrong one first", "the right one first"]
)
@pytest.mark.parametrize(
    "ahead_s", [5 * MINUTE_S, YEAR_S, -4 * MINUTE_S], ids=["5 min", "1 year", "4 min behind"]
)
async def test_one_wrong_clock_locks_nobody_out(
    tmp_path: Path, ahead_s: float, wrong_is_first: bool
) -> None:
    """A wrong clock neither refuses fresh tokens nor admits used ones (ST4, ST9)."""
    owner = new_key()
    async with cluster_of(tmp_path, ahead_s=ahead_s) as cluster:
        right, wrong = cluster.right, cluster.wrong
        assert (await right.ask(right.token(owner, PUT, life_s=60), body=b"value")).status == 200
        for _ in range(7):
            cluster.advance(MINUTE_S)
            order = (wrong, right) if wrong_is_first else (right, wrong)
            kept = {node.url: await node.do_housekeeping() for node in order}
            for life_s in (30, 90, 299):
                assert (await cluster.use(right, owner, life_s=life_s)).status == 200
            assert (await cluster.use(wrong, owner, life_s=299)).status == 200
            repeats = await cluster.repeats()
            assert len(repeats) >= 4
            assert {status for status, _ in repeats} == {409}
            # one behind asks for what the store has forgotten
            assert ahead_s < 0 or set(repeats) == {DUPLICATE}
            assert kept == {right.url: True, wrong.url: False}
        assert await cluster.oldest_claim_s() < 5 * MINUTE_S


@needs_postgres()
async def test_a_token_that_the_store_forgot_is_reported_why(tmp_path: Path) -> None:
    """A token whose replay records were deleted is refused with that reason (ST4)."""
    owner = new_key()
    async with cluster_of(tmp_path, ahead_s=-10 * MINUTE_S) as cluster:
        wrong = cluster.wrong
        assert (await wrong.ask(wrong.token(owner, PUT, life_s=290), body=b"value")).status == 200
        await cluster.right.do_housekeeping()
        refused = await cluster.use(wrong, owner, life_s=299)
        assert refused.status == 409
        assert "the clock of the node's store" in refused.said[1]


@needs_postgres()
async def test_a_floor_that_a_wrong_clock_raised_is_lowered(tmp_path: Path) -> None:
    """A deletion mark in the future refuses tokens only as long as needed."""
    owner = new_key()
    async with cluster_of(tmp_path, ahead_s=0.0) as cluster:
        right = cluster.right
        assert (await right.ask(right.token(owner, PUT, life_s=60), body=b"value")).status == 200
        floor = (int(right.clock.now() + YEAR_S) // 60).to_bytes(4, "big")
        await right.connections.run(
            "insert into sealspace_map (k, s, v, w) values ($1, $2, $3, 0)",
            [REPLAY_FLOOR_KEY, bytes(16), floor],
        )
        cluster.used.clear()
        for _ in range(6):
            assert await right.do_housekeeping()
            assert (await cluster.use(right, owner, life_s=299)).status == 409
            cluster.advance(MINUTE_S)
        await right.do_housekeeping()
        assert (await right.ask(right.token(owner, GET, life_s=30))).status == 200


async def test_a_revoked_grant_outlives_a_clock_that_stood_ahead(held: HeldStage) -> None:
    """A node whose clock was a year ahead deletes no revocation (ST11)."""
    owner, delegate = await held.owner(), new_key()
    grants = {f"{owner.space()}/kv/a": [GET]}
    grant = await held.register(owner.grant(delegate.did, grants, ttl_s=3600))
    # it stands: no value yet
    assert (await held.invoke(delegate, grants, proofs=[grant])).status == 404
    await owner.client.delegations.revoke_by_wallet(token_id(grant), owner.wallet)
    housekeeper = Housekeeper(held.services)
    assert await housekeeper.turn()
    held.clock.advance(YEAR_S)
    for _ in range(60):
        assert await housekeeper.turn()
        held.clock.advance(MINUTE_S)
    held.clock.advance(-YEAR_S - 60 * MINUTE_S)
    assert await housekeeper.turn()
    assert (await held.post("/delegate", grant)).status == 401
    refused = await held.invoke(delegate, grants, proofs=[grant])
    assert refused.said == (401, f"delegation-revoked: {token_id(grant)}")
