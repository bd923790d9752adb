"""The whole story in one minute: a real node, a real runner, and a simulated TEE. `make demo` plays
it.

    python examples/demo.py

The node is `sealspace serve` in a folder of its own, on a free port of loopback. It trusts a root
certificate that was made for this run, under which a software platform mints quotes in the genuine
format; everything else is as in production. Each step is checked, and the first one that fails ends
the demo with status 1.
"""

import argparse
import asyncio
import hashlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.cacao import Cacao, encode_cacao, header_bytes, header_text, parse_cacao
from capabilities.resources import NetworkId
from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.strict_base64 import decode_url
from capabilities.tokens import Capability
from capabilities.ucan import UcanPayload, encode_ucan
from encryption_network.policy import Policy
from sealspace.apps.api_keys import KEY_HEADER, Credential
from sealspace.apps.backends import Seen, ask_backend, deliver, fetch_evidence
from sealspace.apps.programs import ProgramManifest, Version
from sealspace.apps.runners import call_runner, call_with_key, start_of
from sealspace.client import Client, SignIn
from sealspace.delegations import allow
from sealspace.documents.manifests import parse_manifest, resolve_manifest
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.errors import (
    DecryptDenied,
    DelegationRevoked,
    DuplicateRequest,
    NodeUnreachable,
    ReleaseRefused,
    SealspaceError,
)
from sealspace.session import Session, key_session, read_grant
from sealspace.wallets import new_wallet
from sealspace.wire.portable import PortableDelegation, decode_portable, encode_portable
from sealspace.wire.transport import Request, Transport
from tee_backend.attestation.collateral import HeldCollateral
from tee_backend.attestation.inspection import Inspector
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.backend import Backend
from tee_backend.evidence.simulated import SimulatedPlatform, SimulatedSource, measurements_of

SECRET = "FIREFLIES_API_KEY"  # noqa: S105  # the name of a secret, not a secret
APPROVED = "meeting-notes 1.0"
CHANGED = "meeting-notes 1.0, changed"
PROGRAM = "sign"
PROGRAMS = Path(__file__).parent / "program"
GRANTED_HOST = "api.example.com"
OTHER_HOST = "collector.example.com"
INPUT = {"meeting": 42}
INTERRUPTED = 130
LIMIT_S = 60.0
LOG_LINES = 20


def main() -> int:
    """Play the story; return the exit status. Leaves no process and no file."""
    parser = argparse.ArgumentParser(
        description="Run a node, a backend and a runner, and show what they do."
    )
    parser.add_argument(
        "--dir", type=Path, help="where to make the demo's folder, which is removed at the end"
    )
    folder = Path(tempfile.mkdtemp(prefix="sealspace-demo-", dir=parser.parse_args().dir))
    try:
        return asyncio.run(play(folder))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\ninterrupted")
        return INTERRUPTED
    finally:
        shutil.rmtree(folder)


async def play(folder: Path) -> int:
    """Play both acts; return the exit status."""
    task = asyncio.current_task()
    assert task is not None  # a coroutine of asyncio.run is one
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    print("sealspace demo: an owner, a node, and a backend in a simulated TEE\n")
    narrator, platform = Narrator(), SimulatedPlatform.from_seed(secrets.token_bytes(32))
    platform.save(folder / "tee")
    (folder / "tee" / "collateral").mkdir()
    (folder / "tee" / "collateral" / "platform.json").write_bytes(
        platform.collateral_json(time.time())
    )
    node, runner = Process("node", folder), Process("runner", folder)
    try:
        async with AsyncExitStack() as clients:
            story = Story(node, platform, narrator, clients)
            await story.play()
            if find_spec("wasmtime") is None or find_spec("re2") is None:
                print(
                    "\nWithout the extra `runner` nothing is run with secrets: pip install"
                    " 'sealspace[runner]', with Python 3.11 to 3.14"
                )
            else:
                print(
                    "\nthe same secret in another developer's program,"
                    " on a runner in a simulated TEE\n"
                )
                await RunnerStory(story, runner).play()
    except StepFailed as failed:
        narrator.failed(failed)
        print(*(f"       | {line}" for line in node.lines), sep="\n")
        return 1
    finally:
        await runner.stop()
        await node.stop()
    stop_if_asked()
    print(f"\nAll {narrator.steps} steps held.")
    return 0


# --- what is printed ------------------------------------------------------------------------------


class StepFailed(Exception):
    """A step of the demo failed; the message says what was expected."""


class Narrator:
    """Prints the steps: number, description, tick; below it what is worth seeing. Never a
    secret."""

    def __init__(self) -> None:
        self.steps = 0
        self._marks = (
            ("✓", "✗")
            if (sys.stdout.encoding or "").lower().startswith("utf")
            else ("ok", "FAILED")
        )
        self._notes: list[str] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Number a step, and tick it when the block ends without an error."""
        stop_if_asked()
        self.steps += 1
        self._notes.clear()
        head = f"{self.steps:>3}  {what}"
        print(head, end="", flush=True)
        try:
            yield
        except (SealspaceError, OSError, TimeoutError) as exc:
            raise StepFailed(str(exc)) from exc
        print(" " * max(1, 92 - len(head)) + styled(self._marks[0], 32), flush=True)
        for note in self._notes:
            print(styled(f"       {note}", 2), flush=True)

    def note(self, text: str) -> None:
        """Add a line below the step."""
        self._notes.append(text)

    def failed(self, error: StepFailed) -> None:
        """End the step that was begun."""
        print(f"  {styled(self._marks[1], 31)}\n       {error}")

    @contextmanager
    def refused(self, kind: type[SealspaceError], *, reason: str | None = None) -> Iterator[None]:
        """Expect that the block is refused, by this kind of error and, for the release gate, with
        this reason."""
        try:
            yield
        except DecryptDenied as exc:
            inner = exc.refusal
            require(isinstance(inner, kind), f"refused for another cause: {inner}")
            if isinstance(inner, ReleaseRefused):
                require(
                    reason in (None, inner.reason), f"refused for another reason: {inner.reason}"
                )
            self.note(f"refused: {inner.text}")
        except kind as exc:
            self.note(f"refused: {getattr(exc, 'text', '') or exc}")
        else:
            raise StepFailed("it was not refused")


def styled(text: str, code: int) -> str:
    """Return a text in a colour, where a terminal shows it."""
    return f"\x1b[{code}m{text}\x1b[0m" if sys.stdout.isatty() else text


def require(holds: bool, otherwise: str) -> None:
    """End the demo unless a condition holds."""
    if not holds:
        raise StepFailed(otherwise)


def stop_if_asked() -> None:
    """End the story if that was requested: a wait with a time limit may mistake a cancellation for
    its own."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def digest_of(secret: str | bytes) -> str:
    """Return the part of a secret that may be shown: the beginning of its SHA-256."""
    data = secret.encode() if isinstance(secret, str) else secret
    return f"sha256 {hashlib.sha256(data).hexdigest()[:16]}…"


def short(did: str) -> str:
    """Return the ends of a DID."""
    return f"{did[:20]}…{did[-4:]}"


# --- processes ------------------------------------------------------------------------------------


class Process:
    """A command of `sealspace` that serves, in a session of its own: Ctrl-C reaches the demo alone,
    which stops it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.url = ""
        self.folder = folder
        self._name = name
        self.lines: list[str] = []
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self, *arguments: str) -> None:
        """Start the command and wait until it listens."""
        self._process = await self._spawn(arguments, stderr=asyncio.subprocess.PIPE)
        listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(self._process, listening))
        async with asyncio.timeout(LIMIT_S):
            self.url = await listening

    async def run(self, *arguments: str) -> None:
        """Run a command that does not serve, in silence."""
        status = await (await self._spawn(arguments, stderr=asyncio.subprocess.DEVNULL)).wait()
        require(status == 0, f"sealspace {' '.join(arguments[:2])} ended with status {status}")

    async def _spawn(
        self, arguments: tuple[str, ...], *, stderr: int
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("sealspace")), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=stderr,
            # The caller's settings are not this process's.
            env={
                name: value
                for name, value in os.environ.items()
                if not name.startswith("SEALSPACE_")
            },
            cwd=self.folder,
            start_new_session=True,
        )

    async def _read(
        self, process: asyncio.subprocess.Process, listening: "asyncio.Future[str]"
    ) -> None:
        assert process.stderr is not None  # stderr=PIPE
        async for line in process.stderr:
            text = line.decode(errors="replace").strip()
            self.lines = [*self.lines, text][-LOG_LINES:]
            if text.startswith("listening on ") and not listening.done():
                listening.set_result(text.removeprefix("listening on "))
        if not listening.done():
            listening.set_exception(
                StepFailed(f"the {self._name} does not start: {' '.join(self.lines)}")
            )

    async def stop(self) -> None:
        """Stop it in order; kill what does not stop in time."""
        if self._process is None:
            return
        with suppress(TimeoutError, ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)
            async with asyncio.timeout(LIMIT_S / 3):
                await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """Kill every process of the session with SIGKILL: none can finish anything."""
        if self._process is None or self._reader is None:
            return
        while members := session_members(self._process.pid):
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.01)
        await self._process.wait()
        await self._reader
        self._process = self._reader = None


def session_members(session: int) -> list[int]:
    """Return the live processes of a session: its leader, which would restart the others, first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # After the name in brackets: state, parent, group, session.
                state, _, _, its = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(its) == session and state not in "ZX":
                    found.append(int(entry.name))
    return sorted(found, key=lambda pid: pid != session)


# --- first act: a backend -------------------------------------------------------------------------


class CountingWallet(WalletSigner):
    """The owner's wallet; counts how often it is asked."""

    signatures = 0

    def sign_eip191(self, text: str) -> bytes:
        """Sign, and count."""
        self.signatures += 1
        return super().sign_eip191(text)


class Story:
    """The steps, in order; attributes pass results from one step to the next."""

    def __init__(
        self,
        node: Process,
        platform: SimulatedPlatform,
        narrator: Narrator,
        clients: AsyncExitStack,
    ) -> None:
        self.node = node
        self.platform = platform
        self.narrator = narrator
        self._clients = clients
        self.wallet = CountingWallet(secrets.token_bytes(32))
        self.value = f"ff-{secrets.token_hex(16)}"
        self._backend_seed = secrets.token_bytes(32)
        self.owner: Client
        self._network: NetworkId
        self._grant: PortableDelegation
        self._backend_client: Client
        self._backend: Backend
        self._node_id = ""

    async def play(self) -> None:
        """Run all steps."""
        with self.narrator.step("a node starts in an empty folder"):
            await self._serve()
            self.owner = await self.client(None)
            self._node_id = (await self.owner.info()).node_id
            self.narrator.note(
                f"{self.node.url}, {short(self._node_id)}, trusts the simulated platform's root"
            )
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

    async def _serve(self) -> None:
        trust = ("--trust-root", "tee/root-ca.pem", "--collateral", "tee/collateral")
        await self.node.start(
            "serve",
            "--data",
            "data",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--workers",
            "1",
            *trust,
        )

    async def _sign_in(self) -> None:
        with self.narrator.step(
            "the owner signs in with a wallet; the rest is there without a further signature"
        ):
            await self.owner.sign_in(self.wallet)
            self._network = self.owner.encryption.network()
            await self.owner.encryption.descriptor(self._network)
            require(await self.owner.secrets().list() == (), "the space for secrets is not empty")
            require(
                self.wallet.signatures == 1, f"the wallet was asked {self.wallet.signatures} times"
            )
            self.narrator.note(
                f"owner {short(self.wallet.did)}; spaces `default` and `secrets`, one network"
            )

    async def _store_secret(self) -> None:
        with self.narrator.step(f"the owner stores {SECRET}"):
            await self.owner.secrets().put(SECRET, self.value)
            require(
                await self.owner.secrets().get(SECRET) == self.value,
                "the owner reads another value",
            )
            require((await self.owner.secrets().list()) == (SECRET,), "the secret is not listed")
            self.narrator.note(
                f"{digest_of(self.value)}; the node holds an envelope and not its content"
            )

    def _ask_by_manifest(self) -> list[Capability]:
        with self.narrator.step("an app's manifest asks for it"):
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
            path = self.owner.secrets().resource(SECRET)
            require(
                path.endswith(f":{asked[0].space}/kv/{asked[0].path}"),
                "the manifest names another path",
            )
            self.narrator.note(
                f"{manifest.name} asks for {asked[0].actions[0]} on"
                f" {asked[0].space}/{asked[0].path}"
            )
            self.narrator.note(f"for its backend {short(backend.did)}")
            # A manifest cannot name the owner's network; the owner adds the right to open what is
            # read.
            return [
                *(allow(path, action) for action in asked[0].actions),
                allow(self._network.text, DECRYPT),
            ]

    async def _grant_to_backend(self, wanted: Sequence[Capability]) -> None:
        with self.narrator.step(
            "the owner approves one measurement and grants that one secret to the backend"
        ):
            approved = measurements_of(APPROVED)
            self._grant = await self.owner.delegations.delegate(
                Ed25519Signer(self._backend_seed).did,
                wanted,
                policy=self._policy(),
                wallet=self.wallet,
            )
            self.narrator.note(f"{APPROVED!r}: MRTD {approved.mrtd.hex()[:16]}…, RTMR0-3 with it")
            self.narrator.note(
                f"grant {self._grant.cid[:20]}…, its conditions signed with it: this code, this"
                " path"
            )

    async def _refused_before_attesting(self) -> None:
        with self.narrator.step(
            "the backend reads the envelope, and is refused the key before it attests"
        ):
            self._backend_client, self._backend = await self._enter(self._grant, APPROVED)
            await self._backend_client.secrets(self.wallet.did).envelope(SECRET)
            with self.narrator.refused(ReleaseRefused, reason="not_attested"):
                await self._backend.read_secret(self.wallet.did, SECRET)

    async def _attest_and_read(self) -> None:
        with self.narrator.step("the backend attests, and reads the secret"):
            attestation = await self._backend.attest(self._network)
            value = await self._backend.read_secret(self.wallet.did, SECRET)
            require(value == self.value, "the backend read another value")
            self.narrator.note(
                f"evidence {attestation.evidence[:16]}…; {digest_of(value)}: the same"
            )

    async def _refused_without_policy(self, wanted: Sequence[Capability]) -> None:
        with self.narrator.step(
            "a genuine quote alone is not enough: a grant that approves no code opens nothing"
        ):
            bare = await self.owner.delegations.delegate(self._backend.did, wanted)
            _, backend = await self._enter(bare, APPROVED)
            await backend.attest(self._network)
            with self.narrator.refused(ReleaseRefused, reason="no_policy"):
                await backend.read_secret(self.wallet.did, SECRET)

    async def _refused_other_code(self) -> None:
        with self.narrator.step("other code under the approved grant is refused"):
            _, backend = await self._enter(self._grant, CHANGED)
            await backend.attest(self._network)
            with self.narrator.refused(ReleaseRefused, reason="measurement"):
                await backend.read_secret(self.wallet.did, SECRET)

    async def _refused_replay(self) -> None:
        with self.narrator.step("a request that was seen before is refused"):
            token = self._read_token(self._backend_client.session)
            request = Request("POST", "/invoke", mint=lambda: token)
            async with Transport(self.node.url) as transport:
                await transport.require(request)
                with self.narrator.refused(DuplicateRequest):
                    await transport.require(request)

    async def _revoke(self) -> None:
        with self.narrator.step("the owner revokes the grant; the next read is refused"):
            await self.owner.delegations.revoke(self._grant)
            with self.narrator.refused(DelegationRevoked):
                await self._backend.read_secret(self.wallet.did, SECRET)
        with self.narrator.step("the same grant in other bytes stays revoked"):
            respelled = respell(self._grant.header)
            require(
                read_grant(respelled).cid != self._grant.cid, "the other bytes have the same id"
            )
            async with Transport(self.node.url) as transport:
                with self.narrator.refused(DelegationRevoked):
                    await transport.require(Request("POST", "/delegate", mint=lambda: respelled))

    async def _kill_and_return(self, wanted: Sequence[Capability]) -> None:
        with self.narrator.step("the node is killed with SIGKILL and started again"):
            await self.node.kill()
            with self.narrator.refused(NodeUnreachable):
                await self.owner.kv().get("anything")
            await self._serve()
            self.owner = await self.client(self.owner.session)
            self._backend_client = await self.client(self._backend_client.session)
            require((await self.owner.info()).node_id == self._node_id, "it has another identity")
            self.narrator.note(f"{self.node.url}, still {short(self._node_id)}")
        with self.narrator.step("data and revocation are as they were"):
            value = await self.owner.secrets().get(SECRET)
            require(value == self.value, "the owner reads another value")
            self.narrator.note(f"{digest_of(value)}: the same")
            with self.narrator.refused(DelegationRevoked):
                await self._backend_client.secrets(self.wallet.did).envelope(SECRET)
        with self.narrator.step(
            "the evidence stands too: a new grant opens the secret without attesting again"
        ):
            again = await self.owner.delegations.delegate(
                self._backend.did, wanted, policy=self._policy()
            )
            client = await self.client(key_session(self._backend_seed))
            await client.delegations.accept(again)
            live = self._backend.attestation
            require(live is not None, "the backend had no evidence")
            assert live is not None  # just checked
            value = await client.secrets(self.wallet.did).get(SECRET, receiver=live.receiver)
            require(value == self.value, "the backend read another value")
            self.narrator.note(f"evidence {live.evidence[:16]}…; {digest_of(value)}: the same")
            require(
                self.wallet.signatures == 2, f"the wallet was asked {self.wallet.signatures} times"
            )

    def _policy(self) -> Policy:
        """Return the owner's policy: only this code may open the secret, and only keys of one
        path."""
        return Policy(
            measurements=(measurements_of(APPROVED),),
            paths=(self.owner.secrets().resource(SECRET),),
        )

    async def client(self, session: Session | None) -> Client:
        """Return a client of the node, which is closed with the story."""
        return await self._clients.enter_async_context(Client(self.node.url, session=session))

    async def _enter(self, grant: PortableDelegation, code: str) -> tuple[Client, Backend]:
        """Start the backend's program in a trust domain, with one grant, as it was handed over."""
        client = await self.client(key_session(self._backend_seed))
        await client.delegations.accept(decode_portable(encode_portable(grant)))
        return client, Backend(client, SimulatedSource(self.platform, measurements_of(code)))

    def _read_token(self, session: Session) -> str:
        """Mint one token to read the envelope, as a client would send it."""
        payload = UcanPayload(
            iss=session.signer.did_url,
            aud=session.did,
            exp=time.time() + 60,
            nnc=f"urn:sealspace:demo:{secrets.token_hex(16)}",
            prf=[self._grant.cid],
            att={self.owner.secrets().resource(SECRET): {KV_GET: [{}]}},
        )
        return encode_ucan(payload, session.signer)


def respell(header: str) -> str:
    """Write a wallet's delegation in other bytes with the same signature: `v` as 0 or 1 instead of
    27 or 28."""
    cacao = parse_cacao(header_bytes(header))
    flipped = cacao.signature[64] - 27
    return header_text(encode_cacao(Cacao(cacao.message, cacao.signature[:64] + bytes([flipped]))))


# --- second act: a runner -------------------------------------------------------------------------


def checksum(data: bytes) -> str:
    """Return what the program writes about its variable and its input (FNV-1a)."""
    found = 0xCBF29CE484222325
    for byte in data:
        found = (found ^ byte) * 0x100000001B3 % 2**64
    return f"{found:016x}"


class RunnerStory:
    """The second act: a runner executes another developer's program with the owner's secret."""

    def __init__(self, first: Story, runner: Process) -> None:
        self._first = first
        self._owner, self._did = first.owner, first.wallet.did
        self._narrator = first.narrator
        self._inspector = Inspector(
            HeldCollateral([first.platform.collateral_json(time.time())]),
            root=parse_trust_root(first.platform.root_der),
        )
        self._runner = runner
        self._granted: Version
        self._other: Version
        self._asking: Version
        self._seen: Seen
        self._key: Credential

    async def play(self) -> None:
        """Run all steps."""
        await self._start()
        await self._publish()
        await self._grant()
        await self._make_key()
        answer = await self._call()
        await self._refuse_another_program()
        await self._refuse_another_caller()
        await self._refuse_another_host()
        await self._verify(answer)

    async def _start(self) -> None:
        with self._narrator.step(
            "a runner starts; it executes WASI programs, each in a confined process"
        ):
            arguments = ("--data", "runner", "--key", "file", "--port", "0", "--children", "1")
            await self._runner.start(
                "runner", "serve", "--node", self._first.node.url, "--simulate", "tee", *arguments
            )
            self._narrator.note(self._runner.url)

    async def _publish(self) -> None:
        with self._narrator.step(
            "a developer, who is not the owner, publishes a program for everybody"
        ):
            import wasmtime  # the extra `runner`

            wallet, developer = new_wallet(), await self._first.client(None)
            await developer.sign_in(wallet, SignIn(spaces=("public",)))
            programs = developer.programs(public=True)
            manifest = ProgramManifest(hosts=(OTHER_HOST,))
            self._other, self._asking, self._granted = [
                await programs.publish(
                    PROGRAM,
                    bytes(wasmtime.wat2wasm((PROGRAMS / f"{name}.wat").read_text())),
                    target="wasm32-wasip1",
                    signer=wallet,
                    manifest=manifest,
                )
                for name in ("print", "ask", "sign")
            ]
            self._narrator.note(
                f"{PROGRAM}: writes a checksum of the key and its input;"
                f" {version_of(self._granted)}"
            )
            self._narrator.note(f"{PROGRAM}, before: asks {OTHER_HOST}; {version_of(self._asking)}")
            self._narrator.note(
                f"{PROGRAM}, first: writes the key itself; {version_of(self._other)}"
            )

    async def _grant(self) -> None:
        with self._narrator.step(
            "the owner verifies the runner's quote, and grants it the secret for that program"
        ):
            self._seen = await fetch_evidence(self._runner.url, self._inspector)
            programs = tuple(
                ByHash(one.sha256, one.project) for one in (self._granted, self._asking)
            )
            run = RunStatement(programs=programs, hosts=(GRANTED_HOST,))
            portable = await self._owner.runners.grant(
                self._seen, [SECRET], run, wallet=self._first.wallet
            )
            await deliver(self._runner.url, portable)
            self._narrator.note(f"{SECRET}, for calls in the owner's name; host: {GRANTED_HOST}")
            self._narrator.note(f"for {version_of(self._granted)} and {version_of(self._asking)}")

    async def _make_key(self) -> None:
        with self._narrator.step(
            "the owner makes an API key, which calls this project with that secret"
        ):
            await self._runner.run("runner", "credit", self._did, "0", "--data", "runner")
            self._key = await self._owner.runners.create_key(
                self._runner.url,
                projects=[self._granted.project],
                profiles=["default"],
                max_per_call=1000,
                wallet=self._first.wallet,
            )

    async def _call(self) -> dict[str, Any]:
        with self._narrator.step(
            "a holder of the key calls the program and gets its result, made with the secret"
        ):
            answer = await self._asked()
            expected = checksum(f"{SECRET}={self._first.value}".encode() + compact(INPUT))
            require(
                answer.get("output") == expected,
                f"the program answered otherwise: {answer.get('error')}",
            )
            require(answer.get("secrets") == "delivered", "it had no secret")
            self._narrator.note(f"curl {self._runner.url}/call/{self._granted.project.text} \\")
            self._narrator.note(
                f"  -H '{KEY_HEADER}: …' -d '{{\"input\":{compact(INPUT).decode()},"
            )
            self._narrator.note(
                f'  "secrets_ref":{compact(self._body()["secrets_ref"]).decode()}}}\''
            )
            self._narrator.note(f'{{"status":"{answer["status"]}","output":"{expected}", …}}')
            return answer

    async def _refuse_another_program(self) -> None:
        with self._narrator.step("another version of the program gets no secret, and does not run"):
            self._expect(await self._asked(version_key=self._other.sha256), "secrets-not-granted")

    async def _refuse_another_caller(self) -> None:
        with self._narrator.step("another caller does not get the owner's secret used"):
            body: dict[str, Any] = {
                "source": {"wasmSha256": self._granted.sha256},
                "secretsRef": {"profile": "default", "owner": self._did},
            }
            outsider = key_session(secrets.token_bytes(32))
            self._expect(await call_runner(self._runner.url, outsider, body), "access-denied")
        with self._narrator.step("an API key with another secret is refused"):
            guessed = Credential(self._key.owner, self._key.nonce, secrets.token_hex(32))
            self._expect(await self._asked(guessed), "key-refused")

    async def _refuse_another_host(self) -> None:
        with self._narrator.step(
            "a program that has the secret reaches no host but those of the grant"
        ):
            answer = await self._asked(version_key=self._asking.sha256)
            require(
                answer.get("output") == "host-refused", f"it was not refused: {answer.get('error')}"
            )
            require(answer.get("secrets") == "delivered", "it had no secret")
            hosts = json.loads(await self._receipt(answer))["statement"]["hosts"]
            require(hosts == [], "its receipt names a host that it contacted")
            self._narrator.note(
                f"refused: {OTHER_HOST} is not among the hosts of the grant (host-refused)"
            )
            self._narrator.note("its receipt: no host was contacted")

    async def _verify(self, answer: dict[str, Any]) -> None:
        with self._narrator.step(
            "the runner ends; its receipt proves offline which code ran, on which input"
        ):
            receipt = await self._receipt(answer)
            start, salt = await start_of(self._runner.url), decode_url(answer["salt"]) or b""
            await self._runner.stop()
            from runner.calls.run_receipts import verify_run  # the extra `runner`

            run = await verify_run(receipt, start, self._inspector)
            ran, seen = run.runner.evidence, self._seen.measurements
            registers = (ran.mrtd, ran.rtmr0, ran.rtmr1, ran.rtmr2, ran.rtmr3)
            require(
                registers == (seen.mrtd, seen.rtmr0, seen.rtmr1, seen.rtmr2, seen.rtmr3),
                "it is of other code than was granted to",
            )
            require(run.stated["program"] == self._granted.sha256, "it is of another program")
            read, output = compact(INPUT), compact(answer["output"])
            require(
                run.is_about(salt=salt, input=read, output=output),
                "it is not about this input and output",
            )
            require(
                not run.is_about(salt=salt, input=read, output=output[:-1]),
                "it is about any output",
            )
            self._narrator.note(
                f"program {self._granted.sha256[:16]}…, the measurements that the owner granted to,"
            )
            self._narrator.note(
                "this input and this output, the secret delivered; another output is not what it"
                " names"
            )

    async def _asked(self, key: Credential | None = None, **more: Any) -> dict[str, Any]:
        text = (key or self._key).text
        return await call_with_key(
            self._runner.url, text, self._granted.project, self._body() | more
        )

    async def _receipt(self, answer: dict[str, Any]) -> bytes:
        return (
            await ask_backend(self._runner.url, Request("GET", f"/receipts/{answer['job_id']}"))
        ).body

    def _body(self) -> dict[str, Any]:
        owner = self._did.rpartition(":")[2]
        return {"input": INPUT, "secrets_ref": {"profile": "default", "account_id": owner}}

    def _expect(self, answer: dict[str, Any], code: str) -> None:
        """Expect that a call was refused with a code, and that nothing ran."""
        error = answer.get("error")
        found, said = (
            (error.get("code"), error.get("message"))
            if isinstance(error, dict)
            else (answer.get("code"), error)
        )
        require(
            found == code and answer.get("output") is None,
            f"it was not refused, or for another cause: {found}",
        )
        self._narrator.note(f"refused: {said}")


def version_of(version: Version) -> str:
    """Return the beginning of a version's hash."""
    return f"sha256 {version.sha256[:16]}…"


def compact(value: Any) -> bytes:
    """Return an input as the program reads it."""
    return json.dumps(value, separators=(",", ":")).encode()


if __name__ == "__main__":
    sys.exit(main())
