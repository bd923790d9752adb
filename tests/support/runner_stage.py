"""A runner in a simulated trust domain, a node that trusts it, an owner with secrets, and a
developer.

Example:
    stage = await runner_stage(stack, folder, platform)
    version = await stage.publish("digest", ENVIRONMENT)
    await stage.grant(["API_KEY"], RunStatement(programs=(ByHash(version.sha256),)))
    assert (await stage.call("digest", secrets=stage.owner.session.owner))["status"] == "completed"
"""

import asyncio
import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from socket import create_server, socket
from typing import Any

import aiohttp
import pytest
import wasmtime
from aiohttp import web
from backend_desk import Desk
from backend_site import LIMITS, Documents, Domain, serving
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from patience import PATIENCE_S
from trust_settings import MANY_CHALLENGES, trusting_config

from capabilities.clock_and_entropy import Entropy, SystemClock, SystemEntropy
from capabilities.signatures import WalletSigner
from capabilities.strict_json import Json
from node.config.tree import Http, PublicSpaces, Sms
from node.config.tree import Limits as NodeLimits
from runner.calls.calls import Calls
from runner.calls.identity import begin, manifest_of
from runner.calls.journal import Journal
from runner.calls.prices import FREE, Price
from runner.calls.published_programs import PublishedPrograms
from runner.calls.secret_tags import SecretTagKey, StorageKey
from runner.calls.service import Runner
from runner.calls.task_stages import TaskStages
from runner.guest.executor import Executor
from runner.guest.runs import Limits
from runner.http.operator_routes import ask_operator
from runner.http.routes import mounted
from sealspace.apps.api_keys import new_api_key
from sealspace.apps.backends import Seen, deliver, fetch_evidence
from sealspace.apps.programs import ProgramManifest, Target, Version
from sealspace.apps.run_calls import RunnerAt, call_headers, call_right
from sealspace.client import Client, SignIn
from sealspace.documents.builds import repository_of
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import RunStatement
from sealspace.session import Session, key_session
from sealspace.wallets import new_wallet
from sealspace.wire.portable import PortableDelegation
from serving.listener import ConnectionLimits
from serving.outbound import Outbound
from tee_backend.attestation.inspection import Inspector
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.backend import Backend
from tee_backend.backend.grant_folder import GrantFolder
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import measurements_of, mint_event_log

MANY_READS = PublicSpaces(requests_per_minute=1_000_000)
COMPOSE = f"services:\n  runner:\n    image: runner@sha256:{'0123' * 16}\n"
P1: Target = "wasm32-wasip1"

ENVIRONMENT = """
(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (func (export "_start")
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (drop (call $get (i32.const 16384) (i32.const 65536)))
    (i32.store (i32.const 8) (i32.const 65536))
    (i32.store (i32.const 12) (i32.load (i32.const 4)))
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))
    (drop (call $write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 16)))))
"""
"""Writes its environment, each variable with a NUL behind it, to both streams."""

ECHO = """
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 65536))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
"""
"""Writes what it reads."""

TRAP = '(module (memory (export "memory") 1) (func (export "_start") unreachable))'


_FAILING = """
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 4)
  (data (i32.const 512) "{name} failed")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 200000))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
    (i32.store (i32.const 0) (i32.const 512))
    (i32.store (i32.const 4) (i32.const {length}))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 16)))
    {end}))
"""
_ENDS = {
    "guest-exit": "(call $exit (i32.const 1))",
    "guest-trap": "unreachable",
    "limit-instructions": "(loop (br 0))",
    "limit-memory": "(drop (memory.grow (i32.const 60000))) unreachable",
}


def failing(name: str, code: str) -> str:
    """Return a program that writes its input, and `NAME failed` to standard error, and fails."""
    text = _FAILING.replace("{end}", _ENDS[code]).replace("{name}", name)
    return text.replace("{length}", str(len(f"{name} failed")))


@dataclass
class RunnerStage:
    """A runner with its owner, developer and callers."""

    node: EmbeddedNode
    platform: SimulatedPlatform
    stack: AsyncExitStack
    runner: Runner
    url: str
    owner: Client
    wallet: WalletSigner
    http: aiohttp.ClientSession
    folder: Path
    runner_folder: Path
    inspector: Inspector
    seed: bytes
    calls: Calls
    published: dict[str, Version] = field(default_factory=dict)

    @property
    def at(self) -> RunnerAt:
        """Return the runner's DID and start, for which calls are signed."""
        return RunnerAt(self.runner.did, self.runner.identity.start_hash)

    @property
    def developer(self) -> str:
        """Return the DID of the programs' developer, which is the owner's. Grants do not depend on
        it."""
        return str(self.wallet.did)

    def desk(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> Desk:
        """Return the machine of an owner who has not logged in."""
        for variable in ("SEALSPACE_NODE", "SEALSPACE_HOME"):
            monkeypatch.delenv(variable, raising=False)
        trusted = self.folder / "node"
        return Desk(
            self.node.url, folder / "home", trusted, self.platform, self.stack, capsys, monkeypatch
        )

    async def another(
        self,
        stack: AsyncExitStack,
        folder: Path,
        *,
        image: str = "runner",
        price: Price = FREE,
        entropy: Entropy | None = None,
        origins: tuple[str, ...] = (),
        task_root: Path | None = None,
        limits: Limits | None = None,
        outbound: Outbound | None = None,
        roots: Mapping[str, bytes] | None = None,
    ) -> "RunnerStage":
        """Start a runner with the same DID, in a new folder or in that of a stopped runner."""
        runner, url, calls = await _started(
            stack,
            self.node.url,
            self.platform,
            folder,
            self.seed,
            image=image,
            price=price,
            entropy=entropy,
            origins=origins,
            task_root=task_root,
            limits=limits,
            outbound=outbound,
            roots=roots,
        )
        return replace(self, runner=runner, url=url, runner_folder=folder, calls=calls)

    async def client(self, session: Session | None = None) -> Client:
        return await self.stack.enter_async_context(Client(self.node.url, session=session))

    async def publish(
        self,
        name: str,
        wat: str | bytes,
        *,
        target: Target = P1,
        manifest: ProgramManifest | None = None,
    ) -> Version:
        """Publish a program for everybody."""
        wasm = bytes(wasmtime.wat2wasm(wat)) if isinstance(wat, str) else wat
        programs = self.owner.programs(public=True)
        version = await programs.publish(
            name, wasm, target=target, signer=self.wallet, manifest=manifest
        )
        self.published[name] = version
        return version

    async def look(self) -> Seen:
        return await fetch_evidence(self.url, self.inspector)

    async def grant(self, secrets: list[str], run: RunStatement, **more: Any) -> PortableDelegation:
        """Grant secrets to the runner, and deliver the grant."""
        portable = await self.owner.runners.grant(
            await self.look(), secrets, run, wallet=self.wallet, **more
        )
        await deliver(self.url, portable)
        return portable

    async def calling_session(self) -> Session:
        """Return the owner's session, with the right to call."""
        await self.owner.delegations.add_right(
            self.wallet, [call_right(self.owner.kv().space.text)]
        )
        return self.owner.session

    async def post(self, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        async with self.http.post(f"{self.url}/run", data=body, headers=headers) as answer:
            return answer.status, json.loads(await answer.read())

    async def key(self, name: str | None, **stated: Any) -> str:
        """Make an API key for one program, or for all, and return its text."""
        projects = None if name is None else [parse_project(f"{self.developer}/{name}")]
        now = SystemClock().now()
        asked: dict[str, Any] = {
            "max_per_call": 100_000,
            "expires_at": now + 3600,
            "signer": self.wallet,
        } | stated
        signer = asked.pop("signer")
        await self.credit(0, owner=signer.did)
        made = {"runner": self.runner.did, "projects": projects, "entropy": SystemEntropy()} | asked
        statement, credential = new_api_key(signer, **made)
        async with self.http.post(f"{self.url}/keys", data=statement) as answer:
            assert answer.status == 201, await answer.text()
        return credential.text

    async def credit(self, amount: int, *, owner: str | None = None) -> dict[str, Any]:
        """Credit an account, as the operator does."""
        credit: dict[str, Json] = {
            "owner": owner or self.developer,
            "amount": amount,
            "reference": token_hex(8),
        }
        return await ask_operator(self.runner_folder, credit)

    async def api(
        self,
        name: str,
        key: str | None,
        body: Any = None,
        *,
        owner: str | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, Any]]:
        """Call the API as OutLayer's clients do."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["X-Payment-Key"] = key
        url = f"{self.url}/call/{owner or self.developer}/{name}"
        if body is None:
            body = {"input": "hello"}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.post(url, data=data, headers=sent) as answer:
            return answer.status, json.loads(await answer.read())

    async def polled(self, job: str, key: str) -> tuple[int, dict[str, Any]]:
        """Poll the answer of an asynchronous call until it is available."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                async with self.http.get(
                    f"{self.url}/calls/{job}", headers={"X-Payment-Key": key}
                ) as answer:
                    said = json.loads(await answer.read())
                if said.get("status") != "pending":
                    return answer.status, said
                await asyncio.sleep(0)

    async def signed(
        self, method: str, path: str, about: str, session: Session | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Send a signed request of the owner's session, or of another."""
        session = session or await self.calling_session()
        now, entropy = SystemClock().now(), SystemEntropy()
        headers = call_headers(
            session, runner=self.at, program=about, body=b"", now=now, entropy=entropy
        )
        async with self.http.request(method, self.url + path, headers=headers) as answer:
            return answer.status, json.loads(await answer.read())

    async def account(self) -> dict[str, int]:
        """Return the owner's account, as the owner sees it."""
        _, said = await self.signed("GET", "/keys", "keys")
        return {name: int(amount) for name, amount in said["account"].items()}

    async def call(
        self,
        name: str,
        *,
        session: Session | None = None,
        secrets: str | None = None,
        profile: str = "default",
        **members: Any,
    ) -> tuple[int, dict[str, Any]]:
        """Call a published program, by default with a new key."""
        asked: dict[str, Any] = {"source": {"project": f"{self.developer}/{name}"}, **members}
        if secrets is not None:
            asked["secretsRef"] = {"profile": profile, "owner": secrets}
        source = asked["source"]
        program = source.get("project") or source.get("wasmSha256")
        if program is None:
            github = source["GitHub"]
            program = f"{repository_of(github['repo'])}@{github['commit']}"
        body = json.dumps(asked).encode()
        session = session or key_session(sha256(b"caller").digest())
        now, entropy = SystemClock().now(), SystemEntropy()
        headers = call_headers(
            session, runner=self.at, program=program, body=body, now=now, entropy=entropy
        )
        return await self.post(body, headers)


async def runner_stage(
    stack: AsyncExitStack,
    folder: Path,
    *,
    limits: Limits | None = None,
    image: str = "runner",
    price: Price = FREE,
    outbound: Outbound | None = None,
    connections: ConnectionLimits = LIMITS,
    task_root: Path | None = None,
    node_limits: NodeLimits | None = None,
    sms: Sms | None = None,
    bases: Mapping[str, bytes] | None = None,
    roots: Mapping[str, bytes] | None = None,
) -> RunnerStage:
    """Start a runner, an owner, and a node whose console calls the runner; the stack stops them."""
    clock, entropy = SystemClock(), SystemEntropy()
    platform = SimulatedPlatform.from_seed(entropy.token(32))
    bound = stack.enter_context(create_server(("127.0.0.1", 0)))
    listener = Http(port=0, drain_s=0, console_runner=f"http://127.0.0.1:{bound.getsockname()[1]}")
    settings = trusting_config(
        folder / "node",
        platform,
        public_spaces=MANY_READS,
        http=listener,
        limits=node_limits or MANY_CHALLENGES,
        sms=sms or Sms(),
    )
    node, seed = await stack.enter_async_context(embedded_node(settings)), entropy.token(32)
    runner, url, calls = await _started(
        stack,
        node.url,
        platform,
        folder / "runner",
        seed,
        limits=limits,
        image=image,
        price=price,
        outbound=outbound,
        bound=bound,
        connections=connections,
        task_root=task_root,
        bases=bases,
        roots=roots,
    )
    owner, wallet = await stack.enter_async_context(Client(node.url)), new_wallet()
    await owner.sign_in(wallet, SignIn(spaces=("public", "projects")))
    inspector = Inspector(
        Documents(platform, clock.now()), root=parse_trust_root(platform.root_der)
    )
    http = await stack.enter_async_context(aiohttp.ClientSession())
    return RunnerStage(
        node,
        platform,
        stack,
        runner,
        url,
        owner,
        wallet,
        http,
        folder,
        folder / "runner",
        inspector,
        seed,
        calls,
    )


async def _started(
    stack: AsyncExitStack,
    node: str,
    platform: SimulatedPlatform,
    folder: Path,
    seed: bytes,
    *,
    limits: Limits | None = None,
    image: str = "runner",
    entropy: Entropy | None = None,
    price: Price = FREE,
    outbound: Outbound | None = None,
    bound: socket | None = None,
    connections: ConnectionLimits = LIMITS,
    origins: tuple[str, ...] = (),
    task_root: Path | None = None,
    bases: Mapping[str, bytes] | None = None,
    roots: Mapping[str, bytes] | None = None,
) -> tuple[Runner, str, Calls]:
    """Start a runner, which the stack stops."""
    log = mint_event_log(sha256(COMPOSE.encode()).digest())
    domain = Domain(platform, measurements_of(image), log)
    client = Client(node, session=key_session(seed))
    folder.mkdir(mode=0o700, exist_ok=True)
    backend = Backend(client, domain, folder=GrantFolder(folder / "grants", client.session.did))
    await stack.enter_async_context(backend)
    journal = await stack.enter_async_context(Journal(folder / "journal.sqlite"))
    executor = Executor(children=2, spare=1, outbound=outbound or Outbound(), bases=bases or {})
    await stack.enter_async_context(executor)
    manifest = manifest_of(backend.did, "Runner")
    identity = await begin(domain, did=backend.did, manifest=manifest, compose=COMPOSE)
    limits = limits or Limits()
    # as of one key service: the same for one application
    tags = SecretTagKey(sha256(b"tags" + seed).digest())
    cells = StorageKey(sha256(b"cells" + seed).digest())
    programs = PublishedPrograms(client, journal, backend)
    runner = Runner(
        backend,
        programs,
        executor,
        journal,
        identity,
        tags,
        cells,
        limits,
        entropy or SystemEntropy(),
        None if task_root is None else TaskStages(task_root, executor, programs),
        roots or {},
    )
    app = web.Application()
    routes = mounted(app, runner, folder=folder, seed=seed, price=price, origins=origins)
    calls = await stack.enter_async_context(routes)
    BackendSurface(
        domain,
        did=runner.did,
        manifest=manifest,
        compose=COMPOSE,
        on_grant=runner.accept,
        signers=lambda: backend.signers,
    ).mount(app)
    url = await stack.enter_async_context(serving(app, bound=bound, limits=connections))
    return runner, url, calls
