"""Two nodes on one PostgreSQL database, which has a synchronous standby.

Each node has a relay of its own before the database, which cuts it off or loses answers. After a
promotion the relays lead to the former standby, and a new standby is made.
"""

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path

from history.faulty_systems import Answers, Fault, FaultySystem
from patience import PATIENCE_S
from postgres_relay import Loss, Relay, relayed
from postgres_server import PostgresServer, new_server
from tests_support import REPOSITORY

_AWAY_FOR = 30
_SETTINGS = {"wal_retrieve_retry_interval": "100ms"}


class DatabaseSystem(FaultySystem):
    """Two nodes with two workers each, on one database with a synchronous standby."""

    name = "two nodes on PostgreSQL"

    def __init__(self, folder: Path, *, product: Path = REPOSITORY) -> None:
        super().__init__(folder, product=product)
        self.relays: list[Relay] = []
        self._servers: list[PostgresServer] = []
        self.faults |= {
            Fault.KILL_DATABASE: self._kill_database,
            Fault.PROMOTION: self._promote,
            Fault.PARTITION: self._cut_off,
            Fault.SILENCE: self._silence,
            Fault.LOST_ANSWER: self._lose_answer,
        }

    @property
    def _primary(self) -> PostgresServer:
        return self._servers[0]

    @property
    def _standby(self) -> PostgresServer:
        return self._servers[1]

    async def start(self, running: AsyncExitStack) -> None:
        """Start the servers, the relays and the nodes."""
        primary = new_server(_SETTINGS)
        running.callback(self._kill_servers)
        await asyncio.to_thread(primary.start)
        self._servers = [primary]
        url = primary.new_database()
        await self._add_standby()
        for name in ("one", "two"):
            address, relay = await running.enter_async_context(relayed(url))
            self.relays.append(relay)
            folder = self.folder / name
            node = self._new_node(folder, folder / "data", {"SEALSPACE_STORE__URL": address})
            self.nodes.append(node)
            running.callback(node.close)
            await self._start_node(node)
        self.calm.set()

    def _kill_servers(self) -> None:
        for server in self._servers:
            server.kill()

    async def _add_standby(self) -> None:
        """Copy the primary, and let commits wait for the copy once it follows."""
        primary = self._primary
        standby = await asyncio.to_thread(new_server, _SETTINGS, standby_of=primary)
        await asyncio.to_thread(standby.start)
        self._servers.append(standby)
        await _run(primary, "alter system set synchronous_standby_names = 'standby'")
        await _run(primary, "select pg_reload_conf()")
        async with asyncio.timeout(PATIENCE_S):
            while await _run(primary, "select sync_state from pg_stat_replication") != "sync":
                pass

    async def _kill_database(self, chance: random.Random, answers: Answers) -> None:
        await asyncio.to_thread(self._primary.kill)
        await answers(_AWAY_FOR)
        await asyncio.to_thread(self._primary.start)

    async def _promote(self, chance: random.Random, answers: Answers) -> None:
        await asyncio.to_thread(self._primary.kill)
        del self._servers[0]
        # Commits do not wait for a standby that does not exist yet. They are in its copy.
        await _run(self._primary, "select pg_promote()")
        for relay in self.relays:
            relay.upstream = self._primary.folder
        await self._add_standby()

    async def _cut_off(self, chance: random.Random, answers: Answers) -> None:
        relays = self._drawn_relays(chance)
        for relay in relays:
            await relay.shut()
        try:
            await answers(_AWAY_FOR)
        finally:
            for relay in relays:
                await relay.open()

    async def _silence(self, chance: random.Random, answers: Answers) -> None:
        relays = self._drawn_relays(chance)
        for relay in relays:
            relay.passes.clear()
        try:
            await answers(_AWAY_FOR)
        finally:
            for relay in relays:
                relay.passes.set()

    async def _lose_answer(self, chance: random.Random, answers: Answers) -> None:
        relay = chance.choice(self.relays)
        relay.lose(chance.choice((Loss.QUESTION, Loss.ANSWER)))
        await answers(_AWAY_FOR)

    def _drawn_relays(self, chance: random.Random) -> list[Relay]:
        if chance.random() < 0.7:
            return [chance.choice(self.relays)]
        return self.relays


async def _run(server: PostgresServer, statement: str) -> str:
    return (await asyncio.to_thread(server.run, "postgres", statement)).strip()
