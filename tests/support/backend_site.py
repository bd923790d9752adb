"""Backends that publish evidence on real sockets, and relays between them and an owner.

Example:
    async with serving(surface) as url:
        seen = await fetch_evidence(url, inspector)
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from socket import create_server, socket
from typing import Any

from aiohttp import web
from deviating_platform import CollateralOptions, DomainOptions, SimulatedPlatform

from capabilities.abilities import READ_RECEIPTS, SET_POLICY
from encryption_network.policy import Measurements, Policy
from sealspace.client import Client, SignIn
from sealspace.delegations import allow
from sealspace.session import key_session
from sealspace.wallets import new_wallet
from sealspace.wire.portable import PortableDelegation
from serving.listener import ConnectionLimits, listening
from tee_backend.attestation.certificates import PlatformCa
from tee_backend.attestation.collateral import Collateral, parse_collateral
from tee_backend.backend import Backend
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import MintedLog, measurements_of
from tee_backend.evidence.source import Quoted

NOTES = measurements_of("notes")
OWNER_ABILITIES = (
    "tinycloud.encryption/decrypt",
    "tinycloud.encryption/network.create",
    SET_POLICY,
    READ_RECEIPTS,
)

LIMITS = ConnectionLimits()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Domain:
    """A simulated trust domain that counts its quotes, with or without an event log."""

    platform: SimulatedPlatform
    image: Measurements
    minted: MintedLog | None = None
    options: DomainOptions | None = None
    quotes: int = 0

    def quote(self, report_data: bytes) -> Quoted:
        self.quotes += 1
        measured = self.image if self.minted is None else self.minted.run_on(self.image)
        quote = self.platform.mint_quote(measured, report_data, options=self.options)
        return Quoted(quote, None if self.minted is None else self.minted.log)


@dataclass
class Documents:
    """Collateral as an owner stores it."""

    platform: SimulatedPlatform
    now: float
    options: CollateralOptions = field(default_factory=CollateralOptions)

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        return parse_collateral(self.platform.collateral_json(self.now, options=self.options))


@dataclass
class Program:
    """A backend's program: accepts grants, attests, and reads granted secrets."""

    client: Client
    backend: Backend
    secrets: tuple[str, ...]
    read: dict[str, str | bytes] = field(default_factory=dict)

    async def accept(self, *portables: PortableDelegation) -> None:
        await self.backend.accept(*portables)
        for name in self.secrets:
            self.read[name] = await self.backend.read_secret(portables[0].owner, name)


@asynccontextmanager
async def serving(
    site: BackendSurface | Handler | web.Application,
    *,
    bound: socket | None = None,
    limits: ConnectionLimits = LIMITS,
) -> AsyncIterator[str]:
    """Serve a surface, an application or a handler on loopback; yield its address.

    Args:
        site: What to serve. A handler answers every request.
        bound: An IPv4 socket whose address is known before; None for any free port.
        limits: Limits of its connections.
    """
    app = site if isinstance(site, web.Application) else web.Application()
    if isinstance(site, web.Application):
        pass
    elif isinstance(site, BackendSurface):
        site.mount(app)
    else:
        app.router.add_route("*", "/{rest:.*}", site)
    bound = bound or create_server(("127.0.0.1", 0))
    async with listening(app, bound, limits):
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


async def owner_of(bench: Any) -> Client:
    """Return a signed-in owner with the command line's rights and a stored secret."""
    client: Client = await bench.client()
    await client.sign_in(
        new_wallet(entropy=bench.entropy), SignIn(network_abilities=OWNER_ABILITIES)
    )
    await client.secrets().put("API_KEY", "value")
    return client


async def backend_of(
    bench: Any, owner: Client, *, measured: Measurements = NOTES, seed: bytes = bytes(32)
) -> Backend:
    """Return a backend that has a grant of the secret and has attested."""
    client = await bench.client(key_session(seed))
    grant = [allow(owner.secrets().resource("API_KEY"), "tinycloud.kv/get")]
    grant.append(allow(owner.encryption.network().text, "tinycloud.encryption/decrypt"))
    policy = Policy(measurements=(measured,))
    backend = Backend(
        client, Domain(bench.platform, measured), clock=bench.clock, entropy=bench.entropy
    )
    await backend.accept(await owner.delegations.delegate(backend.did, grant, policy=policy))
    return backend


async def reads(backend: Backend, owner: Client) -> str | bytes:
    return await backend.read_secret(owner.session.owner, "API_KEY")
