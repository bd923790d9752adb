"""A team that moves at one worker or server has moved at the other (TM18).

The admins have to be admins for a week. So the store of stopped nodes is changed, as if it were an
older one.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from attacks.moving_team import MovingTeam, cid_of, moved_text
from attacks.pair import ENDS, Pair
from attacks.parties import GET, PUT, SECRET, stage_on
from attacks.test_elsewhere import arguments_of
from deviating_platform import SimulatedPlatform
from engines import database_of, is_on_postgresql
from moving_teams import let_age
from postgres_server import needs_postgres, postgres_server
from running_node import RunningNode, running_node

from capabilities.clock_and_entropy import SystemClock
from capabilities.successions import NOTICE_S, SENIORITY_S
from spaces.store.contract import Store
from spaces.store.lmdb.engine import open_lmdb
from spaces.store.postgres.engine import open_postgres

pytestmark = pytest.mark.slow


class Ends:
    """Two workers of one node, or two servers of one database, which can be stopped.

    Args:
        folder: of the nodes.
        url: of the database; None: two workers of one node.
    """

    def __init__(self, folder: Path, url: str | None, platform: SimulatedPlatform) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.url = url
        self.platform = platform

    @contextmanager
    def running(self) -> Iterator[tuple[RunningNode, ...]]:
        """Run the nodes until the block ends."""
        if self.url is None:
            with running_node(self.folder, platform=self.platform) as node:
                yield (node,)
            return
        shared = arguments_of(self.folder, self.url)
        first = running_node(self.folder / "one", *shared, platform=self.platform, workers=1)
        second = running_node(self.folder / "two", *shared, platform=self.platform, workers=1)
        with first as one, second as two:
            yield one, two

    async def age(self, seconds: float) -> None:
        """Let every delegation have been registered earlier; no node runs."""
        store = self._store()
        try:
            await let_age(store, seconds)
        finally:
            await store.close()

    def _store(self) -> Store:
        url = self.url
        if url is None and is_on_postgresql():
            url = database_of(self.folder)
        if url is not None:
            return open_postgres(url, clock=SystemClock())
        return open_lmdb(self.folder / "data", clock=SystemClock())


@pytest.fixture(params=["workers", pytest.param("servers", marks=needs_postgres())])
def ends(request: pytest.FixtureRequest, tmp_path: Path, platform: SimulatedPlatform) -> Ends:
    """Two ends that are not running yet."""
    url = postgres_server().new_database() if request.param == "servers" else None
    return Ends(tmp_path / "ends", url, platform)


@pytest.fixture
async def clients() -> AsyncIterator[AsyncExitStack]:
    """Close what the test opens."""
    async with AsyncExitStack() as stack:
        yield stack


async def pair_of(ends: Ends, nodes: tuple[RunningNode, ...], clients: AsyncExitStack) -> Pair:
    """Return the ends, so that each can be addressed."""
    stages = [
        replace(await stage_on(node.url, ends.platform, clients), node=node) for node in nodes
    ]
    return Pair((stages[0], stages[-1]), ends.url)


async def test_TM18_a_move_is_one_everywhere(ends: Ends, clients: AsyncExitStack) -> None:
    """After the second statement at one end, both ends refuse everybody, also after a restart."""
    with ends.running() as nodes:
        team = await MovingTeam.found((await pair_of(ends, nodes, clients)).stages[0])
    await ends.age(SENIORITY_S + 60)
    with ends.running() as nodes:
        team.world.stage = (await pair_of(ends, nodes, clients)).stages[0]
        first = team.statement(team.admins[0])
        await team.stage.register(first)
    await ends.age(NOTICE_S + 1)
    with ends.running() as nodes:
        pair = await pair_of(ends, nodes, clients)
        with pair.at(0) as stage:
            team.world.stage = stage
            await team.fill()
        for end in ENDS:  # what each end may remember is warm
            with pair.at(end) as stage:
                team.world.stage = stage
                await team.compare()
        with pair.at(0) as stage:
            second = team.statement(team.admins[1], countersigns=cid_of(first))
            await stage.register(second)
        team.statements = [first, second]
        team.world.ledger.moved = True
        for end in reversed(ENDS):
            with pair.at(end) as stage:
                team.world.stage = stage
                await team.compare()
                again = await stage.post("/delegate", team.admins[0].token)
                assert again.said == (403, moved_text(team))
    with ends.running() as nodes:
        pair = await pair_of(ends, nodes, clients)
        with pair.at(1) as stage:
            team.world.stage = stage
            await team.compare()
            key = await team.successor(second)
            resource = team.world.resource(SECRET)
            assert (await team.world.invoke(key, {resource: [GET]})).status == 200
            assert (await team.world.invoke(key, {resource: [PUT]}, b"x")).status in (401, 403)
