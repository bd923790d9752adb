"""`sealspace demo`: the whole story in one minute, with a real node and a simulated TEE.

A node is started in the usual way, in a folder of its own, on a free port of loopback. It trusts a root certificate
that was made for this run, under which a software platform mints quotes in the genuine format; everything else is as in
production. Each step is checked, and the first one that fails ends the demo with status 1.
"""

import asyncio
import secrets
import shutil
import signal
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.ambient import SystemClock, SystemEntropy
from capabilities.cacao import Cacao, encode_cacao, header_bytes, header_text, parse_cacao
from capabilities.resources import NetworkId
from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.tokens import Capability
from capabilities.ucan import UcanPayload, encode_ucan
from encryption_network.policy import Policy
from sealspace.cli.errors import ProcessFailed
from sealspace.cli.exit_status import INTERRUPTED
from sealspace.cli.lazy import is_installed
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.manifests import parse_manifest, resolve_manifest
from sealspace.errors import DelegationRevoked, DuplicateRequest, NodeUnreachable, ReleaseRefused
from sealspace.session import Session, key_session, read_grant
from sealspace.wallets import new_wallet
from sealspace.wire.portable import PortableDelegation, decode_portable, encode_portable
from sealspace.wire.transport import Request, Transport
from tee_backend.backend import Backend
from tee_backend.evidence.simulated import SimulatedPlatform, SimulatedSource, measurements_of

from .narrator import Narrator, StepFailed, digest_of, refused, require, stop_if_asked
from .own_process import OwnProcess

SECRET: Final = "FIREFLIES_API_KEY"  # noqa: S105  # the name of a secret, not a secret
APPROVED: Final = "meeting-notes 1.0"
CHANGED: Final = "meeting-notes 1.0, changed"


@click.command()
@click.option(
    "--dir",
    "parent",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where to make the demo's folder, which is removed at the end; the system's temporary folder by default.",
)
def demo(parent: Path | None) -> int:
    """Run a node and a simulated backend, and show what they do.

    Ends with status 0 when every step held. Leaves no process and no file.
    """
    folder = Path(tempfile.mkdtemp(prefix="sealspace-demo-", dir=parent))
    try:
        return asyncio.run(_run(folder))
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("\ninterrupted")
        return INTERRUPTED
    finally:
        shutil.rmtree(folder)


async def _run(folder: Path) -> int:
    task = asyncio.current_task()
    assert task is not None  # a coroutine of asyncio.run is one
    # As Ctrl-C does: the node is stopped and the folder removed on the way out.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    narrator = Narrator()
    click.echo("sealspace demo: an owner, a node, and a backend in a simulated TEE\n")
    node = NodeProcess("node", folder)
    platform = SimulatedPlatform.from_seed(secrets.token_bytes(32))
    try:
        node.prepare(platform)
        async with AsyncExitStack() as clients:
            story = Story(node, platform, narrator, clients)
            await story.play()
            if is_installed("runner"):
                await story.play_with_a_runner(folder)
            else:
                click.echo("\nWithout the extra `runner` nothing is run with secrets: pip install 'sealspace[runner]'")
    except StepFailed as failed:
        narrator.failed(failed)
        node.show_log()
        return 1
    finally:
        await node.stop()
    stop_if_asked()
    click.echo(f"\nAll {narrator.steps} steps held.")
    return 0


# --- the node ----------------------------------------------------------------------------------------------------


class NodeProcess(OwnProcess):
    """The demo's node, with its folder."""

    def prepare(self, platform: SimulatedPlatform) -> None:
        """Write what the node is configured to trust: the platform's root, and what is published about the platform."""
        (self._folder / "root.pem").write_text(platform.root_pem)
        collateral = self._folder / "collateral"
        collateral.mkdir()
        (collateral / "platform.json").write_bytes(platform.collateral_json(SystemClock().now()))

    async def serve(self) -> None:
        """Start the node and wait until it listens.

        Raises:
            StepFailed: it ended, or did not listen in time.
        """
        arguments = ["--data", str(self._folder / "data"), "--host", "127.0.0.1", "--port", "0", "--workers", "1"]
        arguments += ["--trust-root", str(self._folder / "root.pem"), "--collateral", str(self._folder / "collateral")]
        try:
            await self.start("serve", *arguments)
        except ProcessFailed as exc:
            raise StepFailed("the node does not start") from exc

    def show_log(self) -> None:
        """Print the last lines that the node wrote."""
        for line in self.last_lines():
            click.echo(f"       | {line}")


# --- the story ---------------------------------------------------------------------------------------------------


@dataclass
class CountingWallet:
    """The owner's wallet; counts how often it is asked."""

    signer: WalletSigner
    signatures: int = 0
    address: bytes = field(init=False)
    chain_id: int = field(init=False)
    did: str = field(init=False)

    def __post_init__(self) -> None:
        self.address, self.chain_id, self.did = self.signer.address, self.signer.chain_id, self.signer.did

    def sign_eip191(self, text: str) -> bytes:
        """Sign, and count."""
        self.signatures += 1
        return self.signer.sign_eip191(text)


class Story:
    """The steps, in order; attributes pass results from one step to the next."""

    def __init__(
        self, node: NodeProcess, platform: SimulatedPlatform, narrator: Narrator, clients: AsyncExitStack
    ) -> None:
        self._node = node
        self._platform = platform
        self._narrator = narrator
        self._clients = clients
        self._wallet = CountingWallet(new_wallet())
        self._value = f"ff-{secrets.token_hex(16)}"
        self._backend_seed = SystemEntropy().token(32)
        self._owner: Client
        self._network: NetworkId
        self._grant: PortableDelegation
        self._backend_client: Client
        self._backend: Backend
        self._node_id = ""

    async def play(self) -> None:
        """Run all steps."""
        with self._narrator.step("a node starts in an empty folder"):
            await self._node.serve()
            self._owner = await self._client(None)
            self._node_id = (await self._owner.info()).node_id
            self._narrator.note(f"{self._node.url}, {_short(self._node_id)}, trusts the simulated platform's root")
        await self._sign_in()
        await self._store_secret()
        wanted = self._ask_by_manifest()
        await self._grant_to_backend(wanted)
        await self._refused_before_attesting()
        await self._attest_and_read()
        await self._refused_without_policy(wanted)
        await self._refused_other_code()
        await self._refused_replay()
        await self._revoke()
        await self._kill_and_return(wanted)

    async def play_with_a_runner(self, folder: Path) -> None:
        """Run the steps of the second act: the secret in a program of somebody else."""
        from .demo_runner import RunnerStory  # needs the extra

        click.echo("\nthe same secret in somebody else's program, on a runner in a simulated TEE\n")
        developer = await self._client(None)
        await RunnerStory(self._owner, self._wallet, developer, self._platform, self._narrator).play(
            folder, self._node.url, SECRET, self._value
        )

    async def _sign_in(self) -> None:
        with self._narrator.step("the owner signs in with a wallet; the rest is there without a further signature"):
            await self._owner.sign_in(self._wallet)
            self._network = self._owner.encryption.network()
            await self._owner.encryption.descriptor(self._network)
            require(await self._owner.secrets().list() == (), "the space for secrets is not empty")
            require(self._wallet.signatures == 1, f"the wallet was asked {self._wallet.signatures} times")
            self._narrator.note(f"owner {_short(self._wallet.did)}; spaces `default` and `secrets`, one network")

    async def _store_secret(self) -> None:
        with self._narrator.step(f"the owner stores {SECRET}"):
            await self._owner.secrets().put(SECRET, self._value)
            require(await self._owner.secrets().get(SECRET) == self._value, "the owner reads another value")
            require((await self._owner.secrets().list()) == (SECRET,), "the secret is not listed")
            self._narrator.note(f"{digest_of(self._value)}; the node holds an envelope and not its content")

    def _ask_by_manifest(self) -> list[Capability]:
        with self._narrator.step("an app's manifest asks for it"):
            backend = Ed25519Signer(self._backend_seed)
            manifest = parse_manifest(
                {
                    "app_id": "com.example.meetings",
                    "name": "Meeting notes",
                    "did": backend.did,
                    "defaults": False,
                    "secrets": {SECRET: True},
                }
            )
            asked = [one for one in resolve_manifest(manifest) if one.service == "tinycloud.kv"]
            require(len(asked) == 1, "the manifest asks for something else")
            path = self._owner.secrets().resource(SECRET)
            require(path.endswith(f":{asked[0].space}/kv/{asked[0].path}"), "the manifest names another path")
            self._narrator.note(f"{manifest.name} asks for {asked[0].actions[0]} on {asked[0].space}/{asked[0].path}")
            self._narrator.note(f"for its backend {_short(backend.did)}")
            # A manifest cannot name the owner's network; the owner adds the right to open what is read.
            return [*(allow(path, action) for action in asked[0].actions), allow(self._network.text, DECRYPT)]

    async def _grant_to_backend(self, wanted: Sequence[Capability]) -> None:
        with self._narrator.step("the owner approves one measurement and grants that one secret to the backend"):
            approved = measurements_of(APPROVED)
            self._grant = await self._owner.delegations.delegate(
                Ed25519Signer(self._backend_seed).did, wanted, policy=self._policy(), wallet=self._wallet
            )
            self._narrator.note(f"{APPROVED!r}: MRTD {approved.mrtd.hex()[:16]}…, RTMR0-3 with it")
            self._narrator.note(f"grant {self._grant.cid[:20]}…, its conditions signed with it: this code, this path")

    async def _refused_before_attesting(self) -> None:
        with self._narrator.step("the backend reads the envelope, and is refused the key before it attests"):
            self._backend_client, self._backend = await self._enter(self._grant, APPROVED)
            await self._backend_client.secrets(self._wallet.did).envelope(SECRET)
            with refused(self._narrator, ReleaseRefused, reason="not_attested"):
                await self._backend.read_secret(self._wallet.did, SECRET)

    async def _attest_and_read(self) -> None:
        with self._narrator.step("the backend attests, and reads the secret"):
            attestation = await self._backend.attest(self._network)
            value = await self._backend.read_secret(self._wallet.did, SECRET)
            require(value == self._value, "the backend read another value")
            self._narrator.note(f"evidence {attestation.evidence[:16]}…; {digest_of(value)}: the same")

    async def _refused_without_policy(self, wanted: Sequence[Capability]) -> None:
        with self._narrator.step("a genuine quote alone is not enough: a grant that approves no code opens nothing"):
            bare = await self._owner.delegations.delegate(self._backend.did, wanted)
            _, backend = await self._enter(bare, APPROVED)
            await backend.attest(self._network)
            with refused(self._narrator, ReleaseRefused, reason="no_policy"):
                await backend.read_secret(self._wallet.did, SECRET)

    async def _refused_other_code(self) -> None:
        with self._narrator.step("other code under the approved grant is refused"):
            _, backend = await self._enter(self._grant, CHANGED)
            await backend.attest(self._network)
            with refused(self._narrator, ReleaseRefused, reason="measurement"):
                await backend.read_secret(self._wallet.did, SECRET)

    async def _refused_replay(self) -> None:
        with self._narrator.step("a request that was seen before is refused"):
            token = self._read_token(self._backend_client.session)
            request = Request("POST", "/invoke", mint=lambda: token)
            async with Transport(self._node.url) as transport:
                await transport.require(request)
                with refused(self._narrator, DuplicateRequest):
                    await transport.require(request)

    async def _revoke(self) -> None:
        with self._narrator.step("the owner revokes the grant; the next read is refused"):
            await self._owner.delegations.revoke(self._grant)
            with refused(self._narrator, DelegationRevoked):
                await self._backend.read_secret(self._wallet.did, SECRET)
        with self._narrator.step("the same grant in other bytes stays revoked"):
            respelled = respell(self._grant.header)
            require(read_grant(respelled).cid != self._grant.cid, "the other bytes have the same id")
            async with Transport(self._node.url) as transport:
                with refused(self._narrator, DelegationRevoked):
                    await transport.require(Request("POST", "/delegate", mint=lambda: respelled))

    async def _kill_and_return(self, wanted: Sequence[Capability]) -> None:
        with self._narrator.step("the node is killed with SIGKILL and started again"):
            await self._node.kill()
            with refused(self._narrator, NodeUnreachable):
                await self._owner.kv().get("anything")
            await self._node.serve()
            self._owner = await self._client(self._owner.session)
            self._backend_client = await self._client(self._backend_client.session)
            require((await self._owner.info()).node_id == self._node_id, "it has another identity")
            self._narrator.note(f"{self._node.url}, still {_short(self._node_id)}")
        with self._narrator.step("data and revocation are as they were"):
            value = await self._owner.secrets().get(SECRET)
            require(value == self._value, "the owner reads another value")
            self._narrator.note(f"{digest_of(value)}: the same")
            with refused(self._narrator, DelegationRevoked):
                await self._backend_client.secrets(self._wallet.did).envelope(SECRET)
        with self._narrator.step("the evidence stands too: a new grant opens the secret without attesting again"):
            again = await self._owner.delegations.delegate(self._backend.did, wanted, policy=self._policy())
            client = await self._client(key_session(self._backend_seed))
            await client.delegations.take_up(again)
            standing = self._backend.attestation
            require(standing is not None, "the backend had no evidence")
            assert standing is not None  # just checked
            value = await client.secrets(self._wallet.did).get(SECRET, receiver=standing.receiver)
            require(value == self._value, "the backend read another value")
            self._narrator.note(f"evidence {standing.evidence[:16]}…; {digest_of(value)}: the same")
            require(self._wallet.signatures == 2, f"the wallet was asked {self._wallet.signatures} times")

    def _policy(self) -> Policy:
        """What the owner demands of the holder that opens the secret: this code, and keys of this one path only."""
        return Policy(measurements=(measurements_of(APPROVED),), paths=(self._owner.secrets().resource(SECRET),))

    async def _client(self, session: Session | None) -> Client:
        return await self._clients.enter_async_context(Client(self._node.url, session=session))

    async def _enter(self, grant: PortableDelegation, code: str) -> tuple[Client, Backend]:
        """Start the backend's program in a trust domain, with one grant, as it was handed over."""
        client = await self._client(key_session(self._backend_seed))
        await client.delegations.take_up(decode_portable(encode_portable(grant)))
        return client, Backend(client, SimulatedSource(self._platform, measurements_of(code)))

    def _read_token(self, session: Session) -> str:
        """Mint one token to read the envelope, as a client would send it."""
        payload = UcanPayload(
            iss=session.signer.did_url,
            aud=session.did,
            exp=SystemClock().now() + 60,
            nnc=f"urn:sealspace:demo:{secrets.token_hex(16)}",
            prf=[self._grant.cid],
            att={self._owner.secrets().resource(SECRET): {KV_GET: [{}]}},
        )
        return encode_ucan(payload, session.signer)


def respell(header: str) -> str:
    """Write a wallet's delegation in other bytes with the same signature: `v` as 0 or 1 instead of 27 or 28."""
    cacao = parse_cacao(header_bytes(header))
    flipped = cacao.signature[64] - 27
    return header_text(encode_cacao(Cacao(cacao.message, cacao.signature[:64] + bytes([flipped]))))


def _short(did: str) -> str:
    return f"{did[:20]}…{did[-4:]}"
