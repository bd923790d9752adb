"""Envelopes of other secrets with a changed or removed label are refused at every door (EN45).

Nothing authenticates the label of an envelope (EN22). The attacker may write at the path of one
secret, and stores the envelope of another secret of the owner there. Each door first reads the
right value, so that its refusal has no other cause.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from deviating_platform import SimulatedPlatform
from owner_desk import OwnerDesk
from owner_machine import Owner
from relabelled import Label

from sealspace.client import Client
from sealspace.wallets import Wallet
from tee_backend.evidence.simulated import measurements_of

RIGHT, OTHER = "canary-of-the-key", "canary-of-the-bank"
REFUSED = "place-mismatch"
"""Code of the error, and what a door returns for its message."""
SAID = "was sealed for another place"
CODE = measurements_of("approved")


@dataclass
class Scene:
    """An owner with two secrets, and an attacker who may write one and read both envelopes."""

    url: str
    node_did: str
    platform: SimulatedPlatform
    folder: Path
    desk: OwnerDesk
    machine: Owner
    owner: Client
    wallet: Wallet
    attacker: Client
    clients: AsyncExitStack

    async def client(self, **given: object) -> Client:
        return await self.clients.enter_async_context(Client(self.url, **given))  # type: ignore[arg-type]  # of the caller

    async def relabel(self, label: Label) -> None:
        """Store the envelope of BANK at API_KEY, with the attacker's rights alone."""
        space = self.owner.kv("secrets").space
        moved = await self.owner.secrets().envelope("BANK")
        from relabelled import relabelled

        body = relabelled(moved, self.owner, "vault/secrets/API_KEY", label)
        await self.attacker.kv(space.text).put("vault/secrets/API_KEY", body)
