"""Envelopes of other secrets with a changed or removed label are refused at every door (EN45).

Nothing authenticates the label of an envelope (EN22). The attacker may write at the path of one
secret, and stores the envelope of another secret of the owner there. Each door first reads the
right value, so that its refusal has no other cause.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from backend_site import Domain
from deviating_platform import SimulatedPlatform
from door_stage import DoorBench, open_door
from embedded_node import embedded_node
from mcp_agent import allow as allow_agent
from oidc_issuer import SHOP, Issuer, github_claims
from owner_desk import OwnerDesk, Ran
from owner_machine import Owner, new_machine
from relabelled import LABELS, Label, move, relabel
from tests_support import CountingEntropy, FixedClock
from trust_settings import trusting_config

from capabilities.abilities import DECRYPT, KV_GET, KV_PUT
from capabilities.capability_errors import CapabilityError
from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from encryption_network.policy import Policy
from sealspace.cli.owner.owner_profile import OwnerHome
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import PlaceMismatch, SealspaceError
from sealspace.session import key_session
from sealspace.wallets import Wallet, new_wallet
from sealspace.wire.caller import Caller
from sealspace.wire.id_tokens import exchange
from sealspace.wire.token_line import read_token
from sealspace.wire.transport import Transport
from tee_backend.backend import Backend
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
