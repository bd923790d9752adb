"""A node in this process whose store can delay a commit, so that a test can act in between.

Example:
    async with held_node(config, clock=clock) as (node, store):
        held = store.hold(lambda commit: commit.replay_record is not None)
        asking = asyncio.create_task(ask())
        await held.reached.wait()
        ...                         # the owner changes their mind
        held.go.set()
        reply = await asking
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from attacks.parties import Stage
from embedded_node import EmbeddedNode
from patience import PATIENCE_S
from sql_processes import sql_processes
from tests_support import FixedClock

from capabilities.clock_and_entropy import Clock, SystemEntropy
from encryption_network.keyring import Keyring
from node.config.tree import Config
from node.http.app import build_app
from node.http.listener import start_listener
from node.platform.root_secret import load_root_secret
from node.processes.start import claim_store, load_collateral
from node.services import Services
from node.storage.stores import open_store
from sealspace.service.listening_socket import bind_socket, url_of
from spaces.store.contract import (
    Commit,
    Committed,
    Follow,
    Range,
    Refused,
    ReplayRecord,
    Snapshot,
    Store,
)

_WAIT_S = PATIENCE_S


@dataclass
class Held:
    """A commit that is delayed.

    Attributes:
        wanted: tells whether this is the commit to hold.
        reached: set when it has come.
        go: to be set by the test.
        outcomes: what came of it, and of every commit of its kind after it.
    """

    wanted: Callable[[Commit], bool]
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    outcomes: list[Committed | Refused] = field(default_factory=list)


class HeldStore:
    """A real store that can delay one commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: Held | None = None
        self.keys_read: list[bytes] = []
        """Keys of the single rows that were read so far."""
        self.rows_read = 0
        """Number of rows of pages that reads have returned so far."""
        self.is_first_use = asyncio.Event()
        """Set once a read found no replay record: a call was judged on what that read returned."""

    def hold(self, wanted: Callable[[Commit], bool]) -> Held:
        """Delay the next commit that matches."""
        self._held = Held(wanted)
        return self._held

    async def read(
        self,
        keys: Sequence[bytes] = (),
        *,
        replay_record: ReplayRecord | None = None,
        ranges: Sequence[Range] = (),
        follow: Follow | None = None,
    ) -> Snapshot:
        snapshot = await self._store.read(
            keys, replay_record=replay_record, ranges=ranges, follow=follow
        )
        self.keys_read += keys
        self.rows_read += sum(len(page.rows) for page in snapshot.pages)
        if replay_record is not None:
            self.is_first_use.set()
        return snapshot

    async def commit(self, commit: Commit) -> Committed | Refused:
        held = self._held
        if held is None or not held.wanted(commit):
            return await self._store.commit(commit)
        if not held.reached.is_set():
            held.reached.set()
            async with asyncio.timeout(_WAIT_S):
                await held.go.wait()
        outcome = await self._store.commit(commit)
        held.outcomes.append(outcome)
        return outcome

    async def close(self) -> None:
        await self._store.close()


@dataclass(kw_only=True)
class HeldStage(Stage):
    """A stage in this process.

    Attributes:
        store: can hold a commit.
        clock: the node's; can be moved.
        services: the node's own parts.
    """

    store: HeldStore
    clock: FixedClock
    services: Services


@asynccontextmanager
async def held_node(
    config: Config, *, clock: Clock
) -> AsyncIterator[tuple[EmbeddedNode, HeldStore]]:
    """Run a node whose store can delay a commit, until the block ends."""
    entropy = SystemEntropy()
    # before there is a store: then it makes one
    keyring = Keyring(load_root_secret(config, entropy))
    store = HeldStore(open_store(config))
    try:
        services = await claim_store(
            config, store=store, keyring=keyring, clock=clock, entropy=entropy
        )
        await load_collateral(services)
        bound = bind_socket("127.0.0.1", 0)
        listener = await start_listener(build_app(services), bound, config.http)
        with nullcontext() if config.is_shared else sql_processes(config.data):
            try:
                yield EmbeddedNode(url_of(bound), services), store
            finally:
                await listener.stop()
    finally:
        await store.close()
