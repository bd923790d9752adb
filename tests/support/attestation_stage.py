"""A node with any release settings that trusts a simulated platform, and the node's users.

Example:
    async with staying(tmp_path, platform, key_providers=("tpm",)) as here:
        owner, delegate = await here.granted(policy=policy_for("approved"))
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from attacks.parties import Delegate, Owner, Stage, stage_on
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node
from running_node import Reply
from tests_support import FixedClock
from trust_settings import MANY_CHALLENGES, trusting_config

from encryption_network.policy import Policy
from node.config.tree import Collateral, Store
from node.services import Services
from tee_backend.evidence.simulated import MintedLog, measurements_of


@dataclass(kw_only=True)
class Here(Stage):
    """A stage whose node runs in this process.

    Attributes:
        services: the node's own parts.
        clock: the node's; people's tokens go by the machine's, so it moves by minutes only where
            they ask.
    """

    services: Services
    clock: FixedClock

    async def granted(self, *, policy: Policy) -> tuple[Owner, Delegate]:
        """Return an owner and a backend with a grant to decrypt under a policy."""
        owner, delegate = await self.owner(), Delegate()
        delegate.proofs = [await self.register(owner.grant_decrypt(delegate.did, policy=policy))]
        return owner, delegate

    async def attest_with_log(self, delegate: Delegate, owner: Owner, log: MintedLog) -> Reply:
        """Attest with a quote for the image "approved" and the given event log."""
        nonce = await self.nonce(delegate.did)
        bound = self.report_data(delegate.did, delegate.receiver.public_key, nonce)
        image = replace(measurements_of("approved"), rtmr3=None)
        quote = self.platform.mint_quote(log.run_on(image), bound)
        return await self.submit_quote(
            delegate, owner.network, nonce=nonce, quote=quote, more={"eventLog": log.log.to_json()}
        )


Stay = Callable[..., AbstractAsyncContextManager[Here]]


@asynccontextmanager
async def staying(
    folder: Path,
    platform: SimulatedPlatform,
    *,
    with_collateral: bool = True,
    store_url: str | None = None,
    fetching: Collateral = Collateral(),  # noqa: B008  # settings are frozen
    **release: object,
) -> AsyncIterator[Here]:
    """Run a node until the block ends, on a folder that can be used again.

    Args:
        folder: where root certificate, collateral and data go.
        platform: whose root the node trusts.
        with_collateral: whether the node loads its documents at start.
        store_url: a database instead of a store in that folder.
        fetching: where further documents come from.
        release: settings of this section.
    """
    config = trusting_config(
        folder,
        platform,
        store=Store(data=str(folder / "data"), url=store_url),
        release=release if with_collateral else {"collateral": None, **release},
        collateral=fetching,
        limits=MANY_CHALLENGES,
    )
    clock = FixedClock(time.time())
    async with embedded_node(config, clock=clock) as node, AsyncExitStack() as clients:
        stage = await stage_on(node.url, platform, clients)
        parts = (stage.url, platform, clients, stage.node_did)
        yield Here(*parts, services=node.services, clock=clock)
