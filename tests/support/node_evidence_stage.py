"""A node in a trust domain, a relay in front of it, and clients that require its evidence.

Example:
    async with evidence_stage(tmp_path, clock) as stage:
        relay, url = await stage.relay(await stage.start())
        client = await stage.client(url, stage.requirement())
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from patience import PATIENCE_S
from simulators.agent import AgentSimulator, agent_on
from tests_support import CountingEntropy, FixedClock
from yarl import URL

from capabilities.clock_and_entropy import SystemEntropy
from encryption_network.policy import Policy
from node.config.tree import Config, Http, Platform, Release, Secret, Store
from sealspace.client import Client
from sealspace.documents.node_evidence import NodePolicy, NodeRequirement
from sealspace.wallets import new_wallet
from sealspace.wire.transport import TransportSettings
from tee_backend.attestation.collateral import HeldCollateral
from tee_backend.attestation.node_verifier import TdxNodeVerifier
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.evidence.simulated import measurements_of, mint_event_log

SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)
IMAGE = measurements_of("node")
COMPOSE = bytes(range(32))
Tamper = Callable[[bytes], bytes]
Instead = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass
class Relay:
    """A relay between a client and a node that counts tokens and can change the node's description
    of itself.

    Attributes:
        target: the node's address.
        tokens: how many requests with a token came.
        paths: of all requests, in order.
        tamper: changes bodies of `/attestation`.
        ask_with: the query to ask the node with in place of the client's.
        borrowed_from: whom to ask for evidence in place of the node.
        instead: is asked first with each request; what it answers does not come from the node.
    """

    target: str
    tokens: int = 0
    paths: list[str] = field(default_factory=list)
    tamper: Tamper | None = None
    ask_with: str | None = None
    borrowed_from: str | None = None
    instead: Instead | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.tokens += "Authorization" in request.headers
        self.paths.append(request.path)
        if self.instead is not None and (answer := await self.instead(request)) is not None:
            return answer
        about_itself = request.path == "/attestation"
        target = (
            f"/attestation?{self.ask_with}"
            if about_itself and self.ask_with is not None
            else request.path_qs
        )
        address = (
            self.borrowed_from if about_itself and self.borrowed_from is not None else self.target
        )
        passed = {
            n: v
            for n, v in request.headers.items()
            if n in ("Authorization", "Content-Type", "X-Metadata")
        }
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method,
                URL(address + target, encoded=True),
                headers=passed,
                data=await request.read(),
            ) as passed_on,
        ):
            body = await passed_on.read()
            if about_itself and self.tamper is not None:
                body = self.tamper(body)
            kept = {
                name: value
                for name, value in passed_on.headers.items()
                if name.lower() in ("content-type", "etag")
            }
            return web.Response(status=passed_on.status, body=body, headers=kept)


@dataclass
class Stage:
    """A node in a trust domain, a relay in front of it, and clients that require its evidence."""

    folder: Path
    machine: SimulatedPlatform
    agent: AgentSimulator
    clock: FixedClock
    stack: AsyncExitStack

    async def start(self, name: str = "node", **settings: Any) -> EmbeddedNode:
        root = self.folder / "root.pem"
        root.write_text(self.machine.root_pem)
        config = Config(
            http=Http(port=0, drain_s=1),
            store=Store(data=str(self.folder / name)),
            release=Release(trust_root=str(root)),
            platform=Platform(
                source="dstack", socket=str(self.folder / "agent.sock"), quotes_per_minute=1000
            ),
            secret=Secret(platform=True),
        )
        for section, values in settings.items():
            config = replace_section(config, section, values)
        entropy = CountingEntropy(name.encode())
        return await self.stack.enter_async_context(
            embedded_node(config, clock=self.clock, entropy=entropy)
        )

    async def relay(self, node: EmbeddedNode) -> tuple[Relay, str]:
        relay, app = Relay(node.url), web.Application()
        app.router.add_route("*", "/{path:.*}", relay.handle)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        self.stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return relay, f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def client(self, url: str, requirement: NodeRequirement | None) -> Client:
        client = Client(
            url,
            require_node_evidence=requirement,
            settings=SETTINGS,
            clock=self.clock,
            entropy=SystemEntropy(),  # nonces that no client before had
        )
        return await self.stack.enter_async_context(client)

    def requirement(self, *, collateral_at: float | None = None, **policy: Any) -> NodeRequirement:
        document = self.machine.collateral_json(
            self.clock.now() if collateral_at is None else collateral_at
        )
        verifier = TdxNodeVerifier(
            parse_trust_root(self.machine.root_der), HeldCollateral([document])
        )
        approved = NodePolicy(
            **{"code": Policy(measurements=(self.agent.minted.run_on(IMAGE),)), **policy}
        )
        return NodeRequirement(verifier, approved)


def replace_section(config: Config, section: str, values: dict[str, Any]) -> Config:
    changed = msgspec.structs.replace(getattr(config, section), **values)
    return msgspec.structs.replace(config, **{section: changed})


class CountingWallet:
    """A wallet that counts its signatures."""

    def __init__(self) -> None:
        self._signer = new_wallet(entropy=CountingEntropy(b"wallet"))
        self.address, self.chain_id, self.did = (
            self._signer.address,
            self._signer.chain_id,
            self._signer.did,
        )
        self.signatures = 0

    def sign_eip191(self, text: str) -> bytes:
        self.signatures += 1
        return self._signer.sign_eip191(text)


@asynccontextmanager
async def evidence_stage(folder: Path, clock: FixedClock) -> AsyncIterator[Stage]:
    """Run a guest agent until the block ends. The tests start nodes and clients."""
    machine = SimulatedPlatform.from_seed(b"the platform of nodes")
    agent = AgentSimulator(machine, replace(IMAGE, rtmr3=None), mint_event_log(COMPOSE))
    async with agent_on(folder / "agent.sock", agent), AsyncExitStack() as stack:
        yield Stage(folder, machine, agent, clock, stack)
