"""Two workers of a node, or two servers on one database, each of which a test can address.

Example:
    with pair.at(0) as stage:
        reply = await stage.ask(delegate, owner)
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Literal

from attacks.parties import SET_POLICY, SETTINGS, Delegate, Owner, Stage, policy_for
from running_node import RunningNode, is_stopped

from capabilities.abilities import NETWORK_REVOKE, READ_RECEIPTS
from sealspace.cli.root import main
from sealspace.client import Client
from sealspace.delegations import allow

End = Literal[0, 1]
ENDS: tuple[End, End] = (0, 1)


@dataclass(frozen=True)
class Pair:
    """Two ends of one store.

    Attributes:
        stages: one for each end; the same one twice where the ends are workers.
        store_url: of the database; None: the store is in the data folder.
    """

    stages: tuple[Stage, Stage]
    store_url: str | None = None

    @contextmanager
    def at(self, end: End) -> Iterator[Stage]:
        """Send requests over new connections to one end only, while the block runs."""
        stage = self.stages[end]
        if self.store_url is not None:
            yield stage
            return
        with stage.only(end):
            yield stage

    def processes(self, end: End) -> set[int]:
        """Return the workers of one end, as the kernel lists them."""
        with self.at(end) as stage:
            return {pid for pid in _node_of(stage).children("worker") if not is_stopped(pid)}

    async def command(self, *arguments: str) -> int:
        """Run an operator's command on the store from the machine of the first end; return its
        status."""
        data = _node_of(self.stages[0]).process.args
        assert isinstance(data, list)
        return await asyncio.to_thread(
            main, [*arguments, "--data", str(data[data.index("--data") + 1])]
        )

    # --- people -----------------------------------------------------------------------------------

    async def ready(self, *, program: str | None = None) -> tuple[Owner, Delegate]:
        """Return an owner with every right to its network, and a backend with a grant that approves
        its program.

        Args:
            program: what is approved; None: one of the backend's own, so that nothing here concerns
                another test.
        """
        stage, delegate = self.stages[0], Delegate()
        owner = await stage.owner()
        rights = (SET_POLICY, NETWORK_REVOKE, READ_RECEIPTS)
        await owner.client.delegations.add_right(
            owner.wallet, [allow(owner.network, right) for right in rights]
        )
        policy = policy_for(program or delegate.did)
        delegate.proofs = [await stage.register(owner.grant_decrypt(delegate.did, policy=policy))]
        return owner, delegate

    async def attested(self) -> tuple[Owner, Delegate]:
        """As `ready`, with the backend attested at the first end."""
        owner, delegate = await self.ready()
        with self.at(0) as stage:
            await stage.attest(delegate, owner.network, program=delegate.did)
        return owner, delegate


@asynccontextmanager
async def acting(stage: Stage, owner: Owner) -> AsyncIterator[Client]:
    """Yield a client of the owner's session with connections of its own."""
    async with Client(stage.url, session=owner.client.session, settings=SETTINGS) as client:
        yield client


def _node_of(stage: Stage) -> RunningNode:
    assert stage.node is not None
    return stage.node
