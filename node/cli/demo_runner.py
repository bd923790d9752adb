"""The second act of `sealspace demo`: an owner's secret runs inside somebody else's program.

A runner is started beside the demo's node, in a trust domain of the same simulated platform. A developer publishes a
program, the owner grants the secret to that program alone, and whoever has the owner's API key calls it with `curl`.
"""

import json
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import wasmtime

from capabilities.ambient import SystemClock, SystemEntropy
from capabilities.strict_base64 import decode_url
from capabilities.strict_json import Json
from sealspace.apps.api_keys import KEY_HEADER, Credential
from sealspace.apps.backends import Seen, ask_backend, hand_over, look_at
from sealspace.apps.programs import ProgramManifest, Version
from sealspace.apps.runners import call_runner, call_with_key, start_of
from sealspace.cli.errors import ProcessFailed
from sealspace.client import Client, SignIn
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.session import key_session
from sealspace.wallets import AnyWallet, new_wallet
from sealspace.wire.transport import Request
from tee_backend.attestation.held_collateral import HeldCollateral
from tee_backend.attestation.inspection import Inspector
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.cli.runner_verify import seen_at_start
from tee_backend.evidence.simulated import SimulatedPlatform
from tee_backend.runner.calls.run_receipts import verify_run
from tee_backend.runner.http.operator_routes import ask_operator

from .narrator import Narrator, StepFailed, require
from .own_process import OwnProcess

_NAME: Final = "sign"
_HOST: Final = "api.example.com"
_INPUT: Final[Json] = {"meeting": 42}
_MAX_PER_CALL: Final = 1000

_SIGN: Final = """
(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 3)
  (data (i32.const 64) "0123456789abcdef")
  (func $mix (param $sum i64) (param $byte i32) (result i64)  ;; FNV-1a
    (i64.mul (i64.xor (local.get $sum) (i64.extend_i32_u (local.get $byte))) (i64.const 0x100000001b3)))
  (func (export "_start") (local $at i32) (local $end i32) (local $sum i64)
    (local.set $sum (i64.const 0xcbf29ce484222325))
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (drop (call $environ (i32.const 1024) (i32.const 65536)))
    ;; of the variables the secret's, which begins with FIRE
    (local.set $at (i32.const 1024))
    (block $found (loop $next
      (br_if $found (i32.eq (i32.load (i32.load (local.get $at))) (i32.const 0x45524946)))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (local.set $end (i32.add (i32.const 1024) (i32.mul (i32.load (i32.const 0)) (i32.const 4))))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end)))
      unreachable))
    (local.set $at (i32.load (local.get $at)))
    (loop $variable
      (local.set $sum (call $mix (local.get $sum) (i32.load8_u (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $variable (i32.load8_u (local.get $at))))
    (i32.store (i32.const 8) (i32.const 131072))
    (i32.store (i32.const 12) (i32.const 4096))
    (drop (call $read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 16)))
    (local.set $at (i32.const 131072))
    (local.set $end (i32.add (local.get $at) (i32.load (i32.const 16))))
    (block $done (loop $input
      (br_if $done (i32.eq (local.get $at) (local.get $end)))
      (local.set $sum (call $mix (local.get $sum) (i32.load8_u (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $input)))
    (i32.store8 (i32.const 128) (i32.const 34))
    (i32.store8 (i32.const 145) (i32.const 34))
    (local.set $at (i32.const 144))
    (loop $digit
      (i32.store8 (local.get $at)
        (i32.load8_u (i32.add (i32.const 64) (i32.and (i32.wrap_i64 (local.get $sum)) (i32.const 15)))))
      (local.set $sum (i64.shr_u (local.get $sum) (i64.const 4)))
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (br_if $digit (i32.gt_u (local.get $at) (i32.const 128))))
    (i32.store (i32.const 8) (i32.const 128))
    (i32.store (i32.const 12) (i32.const 18))
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))))
"""
"""Writes a checksum of the secret and of what it reads, as JSON text."""

_PRINT: Final = """
(module
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 3)
  (func (export "_start")
    (drop (call $environ (i32.const 1024) (i32.const 65536)))
    (i32.store (i32.const 8) (i32.const 65536))
    (i32.store (i32.const 12) (i32.const 4096))
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))))
"""
"""Writes the secret itself."""

_ELSEWHERE: Final = "collector.example.com"
_ASK: Final = r"""
(module
  (import "sealspace:http/client@0.1.0" "fetch" (func $fetch (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "\03\00\00\00GET\1e\00\00\00https://collector.example.com/\00\00\00\00")
  (data (i32.const 128) "\"host-refused\"\"another answer\"")
  (func (export "_start") (local $other i32)
    (local.set $other (i32.ne (call $fetch (i32.const 64) (i32.const 45)) (i32.const -2)))
    (i32.store (i32.const 0) (select (i32.const 142) (i32.const 128) (local.get $other)))
    (i32.store (i32.const 4) (select (i32.const 16) (i32.const 14) (local.get $other)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
"""
"""Sends a request to a host of its developer's, and writes whether it was told `host-refused`."""


def checksum(data: bytes) -> str:
    """Return what the program writes about its variable and its input (FNV-1a)."""
    found = 0xCBF29CE484222325
    for byte in data:
        found = (found ^ byte) * 0x100000001B3 % 2**64
    return f"{found:016x}"


class RunnerStory:
    """The steps, in order; attributes pass results from one step to the next.

    Args:
        owner: signed in, with the secret.
        wallet: the owner's.
        developer: not signed in.
        platform: that the node trusts.
        narrator: counts on from the first act.
    """

    def __init__(
        self, owner: Client, wallet: AnyWallet, developer: Client, platform: SimulatedPlatform, narrator: Narrator
    ) -> None:
        self._owner = owner
        self._wallet = wallet
        self._did = owner.session.owner
        self._developer = developer
        self._platform = platform
        self._narrator = narrator
        self._inspector = Inspector(
            HeldCollateral([platform.collateral_json(SystemClock().now())]), root=parse_trust_root(platform.root_der)
        )
        self._runner: OwnProcess
        self._granted: Version
        self._other: Version
        self._asking: Version
        self._seen: Seen
        self._key: Credential

    async def play(self, folder: Path, node: str, secret: str, value: str) -> None:
        """Run all steps.

        Args:
            folder: of the demo.
            node: its address.
            secret: name of the owner's secret, and what it contains.
        """
        self._runner = OwnProcess("runner", folder)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._runner.stop)
            await self._start(folder, node)
            await self._publish()
            await self._grant(secret)
            await self._make_key(folder / "runner")
            answer = await self._call(secret, value)
            await self._refuse_another_program()
            await self._refuse_another_caller()
            await self._refuse_another_host()
            await self._verify(answer)

    async def _start(self, folder: Path, node: str) -> None:
        with self._narrator.step("a runner starts; it executes WASI programs, each in a confined process"):
            self._platform.save(folder / "tee")
            arguments = ("--node", node, "--data", "runner", "--key", "file", "--port", "0", "--children", "1")
            try:
                await self._runner.start("runner", "serve", "--simulate", "tee", *arguments)
            except ProcessFailed as exc:
                raise StepFailed(exc.text) from exc
            self._narrator.note(self._runner.url)

    async def _publish(self) -> None:
        with self._narrator.step("a developer, who is not the owner, publishes a program for everybody"):
            wallet = new_wallet()
            await self._developer.sign_in(wallet, SignIn(spaces=("public",)))
            programs = self._developer.programs(public=True)
            manifest = ProgramManifest(hosts=(_ELSEWHERE,))
            self._other, self._asking, self._granted = [
                await programs.publish(
                    _NAME, bytes(wasmtime.wat2wasm(text)), target="wasm32-wasip1", signer=wallet, manifest=manifest
                )
                for text in (_PRINT, _ASK, _SIGN)
            ]
            self._narrator.note(f"{_NAME}: writes a checksum of the key and its input; {_version(self._granted)}")
            self._narrator.note(f"{_NAME}, before: asks {_ELSEWHERE}; {_version(self._asking)}")
            self._narrator.note(f"{_NAME}, first: writes the key itself; {_version(self._other)}")

    async def _grant(self, secret: str) -> None:
        with self._narrator.step("the owner verifies the runner's quote, and grants it the secret for that program"):
            self._seen = await look_at(self._runner.url, self._inspector)
            programs = tuple(ByHash(one.sha256, one.project) for one in (self._granted, self._asking))
            run = RunStatement(programs=programs, hosts=(_HOST,))
            portable = await self._owner.runners.grant(self._seen, [secret], run, wallet=self._wallet)
            await hand_over(self._runner.url, portable)
            self._narrator.note(f"{secret}, for calls in the owner's name; host: {_HOST}")
            self._narrator.note(f"for {_version(self._granted)} and {_version(self._asking)}")

    async def _make_key(self, folder: Path) -> None:
        with self._narrator.step("the owner makes an API key, which calls this project with that secret"):
            await ask_operator(folder, {"owner": self._did, "amount": 0, "reference": "demo"})
            self._key = await self._owner.runners.create_key(
                self._runner.url,
                projects=[self._granted.project],
                profiles=["default"],
                max_per_call=_MAX_PER_CALL,
                wallet=self._wallet,
            )

    async def _call(self, secret: str, value: str) -> dict[str, Json]:
        with self._narrator.step("whoever has the key calls, and gets what the program made with the secret"):
            answer = await self._asked()
            expected = checksum(f"{secret}={value}".encode() + _compact(_INPUT))
            require(answer.get("output") == expected, f"the program answered otherwise: {answer.get('error')}")
            require(answer.get("secrets") == "delivered", "it had no secret")
            self._narrator.note(f"curl {self._runner.url}/call/{self._granted.project.text} \\")
            self._narrator.note(f"  -H '{KEY_HEADER}: …' -d '{{\"input\":{_compact(_INPUT).decode()},")
            self._narrator.note(f'  "secrets_ref":{_compact(self._body()["secrets_ref"]).decode()}}}\'')
            self._narrator.note(f'{{"status":"{answer["status"]}","output":"{expected}", …}}')
            return answer

    async def _refuse_another_program(self) -> None:
        with self._narrator.step("another version of the program gets no secret, and does not run"):
            self._expect(await self._asked(version_key=self._other.sha256), "secrets-not-granted")

    async def _refuse_another_caller(self) -> None:
        with self._narrator.step("another caller does not get the owner's secret used"):
            body: dict[str, Json] = {
                "source": {"wasmSha256": self._granted.sha256},
                "secretsRef": {"profile": "default", "owner": self._did},
            }
            outsider = key_session(SystemEntropy().token(32))
            self._expect(await call_runner(self._runner.url, outsider, body), "access-denied")
        with self._narrator.step("a key whose secret is another is none"):
            guessed = Credential(self._key.owner, self._key.nonce, secrets.token_hex(32))
            self._expect(await self._asked(guessed), "key-refused")

    async def _refuse_another_host(self) -> None:
        with self._narrator.step("a program that has the secret reaches no host but those of the grant"):
            answer = await self._asked(version_key=self._asking.sha256)
            require(answer.get("output") == "host-refused", f"it was not refused: {answer.get('error')}")
            require(answer.get("secrets") == "delivered", "it had no secret")
            hosts = json.loads(await self._receipt(answer))["statement"]["hosts"]
            require(hosts == [], "its receipt names a host that it contacted")
            self._narrator.note(f"refused: {_ELSEWHERE} is not among the hosts of the grant (host-refused)")
            self._narrator.note("its receipt: no host was contacted")

    async def _verify(self, answer: dict[str, Json]) -> None:
        with self._narrator.step("the runner ends; its receipt proves offline which code ran, on which input"):
            receipt = await self._receipt(answer)
            start, salt = await start_of(self._runner.url), decode_url(answer["salt"]) or b""
            await self._runner.stop()
            run = await verify_run(receipt, start, self._inspector)
            at_start = seen_at_start(run)
            require(at_start.measurements == self._seen.measurements, "it is of other code than was granted to")
            require(run.stated["program"] == self._granted.sha256, "it is of another program")
            read, output = _compact(_INPUT), _compact(answer["output"])
            require(run.is_about(salt=salt, input=read, output=output), "it is not about this input and output")
            require(not run.is_about(salt=salt, input=read, output=output[:-1]), "it is about any output")
            self._narrator.note(f"program {self._granted.sha256[:16]}…, the measurements that the owner granted to,")
            self._narrator.note("this input and this output, the secret delivered; another output is not what it names")

    async def _asked(self, key: Credential | None = None, **more: Json) -> dict[str, Json]:
        text = (key or self._key).text
        return await call_with_key(self._runner.url, text, self._granted.project, self._body() | more)

    async def _receipt(self, answer: dict[str, Json]) -> bytes:
        return (await ask_backend(self._runner.url, Request("GET", f"/receipts/{answer['job_id']}"))).body

    def _body(self) -> dict[str, Json]:
        owner = self._did.rpartition(":")[2]
        return {"input": _INPUT, "secrets_ref": {"profile": "default", "account_id": owner}}

    def _expect(self, answer: dict[str, Json], code: str) -> None:
        """Expect that a call was refused with a code, and that nothing ran."""
        error = answer.get("error")
        found, said = (
            (error.get("code"), error.get("message")) if isinstance(error, dict) else (answer.get("code"), error)
        )
        require(found == code and answer.get("output") is None, f"it was not refused, or for another cause: {found}")
        self._narrator.note(f"refused: {said}")


def _version(version: Version) -> str:
    return f"sha256 {version.sha256[:16]}…"


def _compact(value: Json) -> bytes:
    """Return an input as the program reads it."""
    return json.dumps(value, separators=(",", ":")).encode()
