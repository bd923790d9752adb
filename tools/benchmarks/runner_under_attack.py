"""Measure how attacks on a runner affect a key holder: latency and the runner's memory.

    python tools/benchmarks/runner_under_attack.py
    python tools/benchmarks/runner_under_attack.py --seconds 20 --only compile_bombs

A node and a runner with two children run as processes on loopback. A customer calls a small program
twice a second with an API key: 20 s undisturbed, then during each attack. Afterwards the runner's
memory is watched until it is near that of the quiet time, for 60 s at most. An attack is a process
of its own at a lower priority, because it would not run on the runner's machine.

Judged: p99 at most 3 times that of the quiet time; memory at most 150 MiB over that of the quiet
time, and back within 60 s.
"""

import argparse
import asyncio
import json
import math
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))

import aiohttp
import wasmtime
from deviating_platform import SimulatedPlatform
from runner_stage import ECHO, P1
from running_node import COMMAND, running_node
from tests_support import REPOSITORY

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.signatures import Ed25519Signer
from runner.http.operator_routes import ask_operator
from sealspace.apps.api_keys import new_api_key
from sealspace.apps.run_calls import RunnerAt, call_headers
from sealspace.apps.runners import runner_at
from sealspace.client import Client, SignIn
from sealspace.session import key_session
from sealspace.wallets import new_wallet

_ELSEWHERE = "runner_connection_attacks"
CONNECTION_ATTACKS: Mapping[str, Callable[[str, asyncio.Event, str], Awaitable[None]]] = (
    import_module(_ELSEWHERE).ATTACKS if find_spec(_ELSEWHERE) else {}
)
SLEEPER = """
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 1000000000000))
    (drop (call $poll (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 512)))))
"""
FLOOD = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (func (export "_start") (local $times i32)
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 1000000))
    (loop $again
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
      (local.set $times (i32.add (local.get $times) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $times) (i32.const 10))))))
"""
"""Writes ten million bytes, the longest output."""
BOMBS = 12
BOMBERS = 3
QUIET_S = 20.0
PERIOD_S = 0.5
BACK_S = 60.0
MOST_RATIO = 3.0
MOST_GROWN_MIB = 150.0
NEAR_MIB = 50.0
"""Memory is back when it is this near to that of the quiet time: Python's allocator keeps some of
what it had."""
ELSEWHERE = ("unread_answers", "unread_polls", "silent_connections")
_LOOK_S = 0.25
_PAUSE_S = 0.05
"""After a refusal: an attacker elsewhere sees it no earlier, and one here would use the runner's
processors."""


def bomb(number: int) -> bytes:
    """Return a module that takes some 20 s of processor time to compile, and differs from the
    others."""

    def written(value: int) -> bytes:
        low, rest = value & 127, value >> 7
        return bytes([low | 128]) + written(rest) if rest else bytes([low])

    functions = 600_000 + number
    count = written(functions)
    bodies = (
        b"\x01\x60\0\0",
        count + b"\0" * functions,
        b"\x01\x06_start\0\0",
        count + b"\x02\0\x0b" * functions,
    )
    sections = [
        bytes([kind]) + written(len(body)) + body
        for kind, body in zip((1, 3, 7, 10), bodies, strict=True)
    ]
    return b"\0asm\x01\0\0\0" + b"".join(sections)


# --- attacks: each runs in a process of its own ---------------------------------------------------


@dataclass
class Attacker:
    """Calls a runner in the name of strangers, or with one API key."""

    url: str
    developers: Sequence[str]
    key: str
    stop: asyncio.Event
    runner: RunnerAt = field(init=False)
    answers: dict[str, int] = field(default_factory=dict)

    async def run(self, http: aiohttp.ClientSession, program: str, **members: Any) -> None:
        """Call as a signer with a new DID."""
        source = (
            {"wasmSha256": program}
            if len(program) == 64
            else {"project": f"{self._developer(program)}/{program}"}
        )
        body = json.dumps({"source": source, **members}).encode()
        session, about = key_session(secrets.token_bytes(32)), source.get("project") or program
        now, entropy = SystemClock().now(), SystemEntropy()
        headers = call_headers(
            session, runner=self.runner, program=about, body=body, now=now, entropy=entropy
        )
        await self.post(http, f"{self.url}/run", body, headers)

    async def call(
        self, http: aiohttp.ClientSession, program: str, body: Mapping[str, Any]
    ) -> None:
        """Call with the key."""
        url = f"{self.url}/call/{self._developer(program)}/{program}"
        await self.post(http, url, json.dumps(body).encode(), {"X-Payment-Key": self.key})

    def _developer(self, program: str) -> str:
        """Return whose a program is: the bombs are others', as many as their spaces have room
        for."""
        bombers = self.developers[1:]
        return (
            bombers[int(program[4:]) % len(bombers)]
            if program.startswith("bomb")
            else self.developers[0]
        )

    async def post(
        self, http: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str]
    ) -> None:
        """Post, and count the status of the answer."""
        with suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
            async with http.post(url, data=body, headers=headers) as answer:
                await answer.read()
                self.answers[str(answer.status)] = self.answers.get(str(answer.status), 0) + 1
                if "Retry-After" in answer.headers:
                    await asyncio.sleep(_PAUSE_S)

    async def crowd(
        self, clients: int, call: Callable[[aiohttp.ClientSession, int], Awaitable[None]]
    ) -> None:
        """Have so many clients call again and again until the end."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            self.runner = await runner_at(self.url)

            async def client(number: int) -> None:
                while not self.stop.is_set():
                    await call(http, number)

            clients_of = [asyncio.create_task(client(number)) for number in range(clients)]
            await self.stop.wait()
            for one in clients_of:
                one.cancel()
            await asyncio.gather(*clients_of, return_exceptions=True)


async def sleeping_strangers(attacker: Attacker) -> None:
    """Twenty strangers, a new DID for each call, whose programs sleep."""
    await attacker.crowd(
        20,
        lambda http, _: attacker.run(http, "sleeper", resourceLimits={"maxExecutionSeconds": 60}),
    )


async def sleeping_key(attacker: Attacker) -> None:
    """One key whose ten calls sleep."""
    body = {"input": 1, "response_format": "Text", "resource_limits": {"max_execution_seconds": 60}}
    await attacker.crowd(10, lambda http, _: attacker.call(http, "sleeper", body))


async def compile_bombs(attacker: Attacker) -> None:
    """Strangers, a new DID for each call, who have heavy programs compiled."""
    await attacker.crowd(8, lambda http, _: attacker.run(http, f"bomb{secrets.randbelow(BOMBS)}"))


async def compile_bombs_of_a_key(attacker: Attacker) -> None:
    """One key that has heavy programs compiled."""
    body = {"input": 1, "response_format": "Text"}
    await attacker.crowd(
        8, lambda http, _: attacker.call(http, f"bomb{secrets.randbelow(BOMBS)}", body)
    )


async def asynchronous_floods(attacker: Attacker) -> None:
    """Strangers who leave large asynchronous calls, with large answers."""
    text = "x" * 500_000
    await attacker.crowd(
        16, lambda http, _: attacker.run(http, "flood", input=text, **{"async": True})
    )


async def unsigned_bodies(attacker: Attacker) -> None:
    """Strangers who send large bodies, and nothing that says who they are."""
    body = bytes(500_000)
    await attacker.crowd(16, lambda http, _: attacker.post(http, f"{attacker.url}/run", body, {}))


async def costly_bodies(attacker: Attacker) -> None:
    """One key, and strangers, who send 19 MB of JSON that is refused after seconds of checks."""
    costly = b'{"input": [' + b'{"a":1},' * 2_400_000 + b"1]}"
    url = f"{attacker.url}/call/{attacker.developers[0]}/echo"

    async def send(http: aiohttp.ClientSession, number: int) -> None:
        if number == 0:
            await attacker.post(http, url, costly, {"X-Payment-Key": attacker.key})
        else:
            body = b'{"source": {"wasmSha256": "' + b"0" * 64 + b'"}, ' + costly[1:]
            headers = call_headers(
                key_session(secrets.token_bytes(32)),
                runner=attacker.runner,
                program="0" * 64,
                body=body,
                now=SystemClock().now(),
                entropy=SystemEntropy(),
            )
            await attacker.post(http, f"{attacker.url}/run", body, headers)

    await attacker.crowd(3, send)


async def refused_calls(attacker: Attacker) -> None:
    """Strangers, a new DID for each call, who call a program that is not there."""
    await attacker.crowd(16, lambda http, _: attacker.run(http, "0" * 64))


ATTACKS = (
    sleeping_strangers,
    sleeping_key,
    compile_bombs,
    compile_bombs_of_a_key,
    asynchronous_floods,
    unsigned_bodies,
    costly_bodies,
    refused_calls,
)


async def attack(name: str, url: str, developers: str, key: str) -> None:
    """Attack until SIGTERM, and print how often each status was the answer."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    attacker = Attacker(url, developers.split(), key, stop)
    if name in CONNECTION_ATTACKS:
        await CONNECTION_ATTACKS[name](url, stop, f"{attacker.developers[0]}/flood")
    else:
        await next(one for one in ATTACKS if one.__name__ == name)(attacker)
    print(json.dumps(attacker.answers))


# --- the customer ---------------------------------------------------------------------------------


@dataclass
class Site:
    """A runner, a customer's key and an attacker's."""

    url: str
    pid: int
    developers: Sequence[str]
    customer: str
    attacker: str

    def given(self) -> Sequence[str]:
        """Return what an attack's process is told."""
        return self.url, " ".join(self.developers), self.attacker

    def resident_mib(self) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    async def called(self, seconds: float) -> tuple[list[float], int, float]:
        """Call twice a second; return the milliseconds of each, how many were not answered, and the
        most memory."""
        took, failed, most = [], 0, 0.0
        url, headers = (
            f"{self.url}/call/{self.developers[0]}/echo",
            {"X-Payment-Key": self.customer},
        )
        begun = time.perf_counter()

        async def call(http: aiohttp.ClientSession) -> None:
            nonlocal failed
            at = time.perf_counter()
            try:
                async with http.post(url, data=b'{"input": "hello"}', headers=headers) as answer:
                    failed += (await answer.json()).get("output") != "hello"
            except (aiohttp.ClientError, ConnectionError, TimeoutError):
                failed += 1
            took.append((time.perf_counter() - at) * 1e3)

        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
            asyncio.TaskGroup() as calls,
        ):
            for number in range(round(seconds / PERIOD_S)):
                calls.create_task(call(http))
                while time.perf_counter() < begun + (number + 1) * PERIOD_S:
                    most = max(most, self.resident_mib())
                    await asyncio.sleep(_LOOK_S)
        return sorted(took), failed, most

    async def back(self, quiet_mib: float) -> tuple[float, float]:
        """Return the seconds until memory is near that of the quiet time, and what it is then."""
        begun = time.perf_counter()
        while (
            now_mib := self.resident_mib()
        ) > quiet_mib + NEAR_MIB and time.perf_counter() < begun + BACK_S:
            await asyncio.sleep(_LOOK_S)
        return time.perf_counter() - begun, now_mib


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Site]:
    """Start a node and a runner, publish the programs, and make two keys."""
    platform = SimulatedPlatform.from_seed(secrets.token_bytes(32))
    platform.save(folder / "tee")
    public = {"SEALSPACE_PUBLIC_SPACES__REQUESTS_PER_MINUTE": "1000000"}
    async with AsyncExitStack() as stack:
        node = stack.enter_context(
            running_node(folder, platform=platform, workers=1, environment=public)
        )
        developers = [new_wallet() for _ in range(1 + BOMBERS)]
        texts = {"echo": ECHO, "sleeper": SLEEPER, "flood": FLOOD}
        published = [{name: bytes(wasmtime.wat2wasm(text)) for name, text in texts.items()}]
        published += [
            {f"bomb{n}": bomb(n) for n in range(first, BOMBS, BOMBERS)} for first in range(BOMBERS)
        ]
        for developer, binaries in zip(developers, published, strict=True):
            async with Client(node.url) as client:
                await client.sign_in(developer, SignIn(spaces=("public",)))
                for name, data in binaries.items():
                    await client.programs(public=True).publish(
                        name, data, target=P1, signer=developer
                    )
        options = (
            "--simulate",
            "tee",
            "--port",
            "0",
            "--node",
            node.url,
            "--data",
            "kept",
            "--key",
            "file",
        )
        process = stack.enter_context(
            subprocess.Popen(
                [*COMMAND, "runner", "serve", *options],
                stderr=subprocess.PIPE,
                text=True,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            )
        )
        stack.callback(process.terminate)
        assert process.stderr is not None
        url = process.stderr.readline().split()[-1]
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{url}/info") as answer:
                runner = (await answer.json())["runner"]
            keys = []
            for name in ("customer", "attacker"):
                owner = Ed25519Signer(name.encode().ljust(32))
                credit: dict[str, Any] = {"owner": owner.did, "amount": 0, "reference": name}
                await ask_operator(folder / "kept", credit)
                until_s = SystemClock().now() + 86_400
                stated: dict[str, Any] = {
                    "projects": None,
                    "max_per_call": 1,
                    "expires_at": until_s,
                }
                statement, shown = new_api_key(
                    owner, runner=runner, entropy=SystemEntropy(), **stated
                )
                async with http.post(f"{url}/keys", data=statement) as answer:
                    assert answer.status == 201, await answer.text()
                keys.append(shown.text)
        yield Site(url, process.pid, [str(one.did) for one in developers], *keys)


def of(took: Sequence[float], share: float) -> float:
    """Return a percentile of sorted figures: the smallest that so large a share does not exceed."""
    return took[max(math.ceil(len(took) * share) - 1, 0)]


async def measured(seconds: float, names: Sequence[str]) -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        async with staged(Path(folder)) as site:
            await site.called(2)  # connects, and compiles
            took, failed, quiet_mib = await site.called(QUIET_S)
            quiet = of(took, 0.99)
            head = (
                f"{'':24} {'p50 ms':>8} {'p99 ms':>8} {'ratio':>6} {'failed':>6} {'MiB':>6}"
                f" {'most':>6} {'after':>6}"
            )
            print(f"{head} {'back s':>6} {'load':>5}  judged")
            row = (
                f"{'quiet':24} {of(took, 0.5):8.1f} {quiet:8.1f} {1:6.1f} {failed:6}"
                f" {quiet_mib:6.0f}"
            )
            print(f"{row} {'':6} {'':6} {'':6} {os.getloadavg()[0]:5.1f}", flush=True)
            for name in names:
                before = site.resident_mib()
                process = subprocess.Popen(
                    [*("nice", "-n", "10"), sys.executable, __file__, "--as", name, *site.given()],
                    stdout=subprocess.PIPE,
                    text=True,
                )
                await asyncio.sleep(3)  # it imports, and begins
                took, failed, most = await site.called(seconds)
                process.send_signal(signal.SIGTERM)
                said, _ = await asyncio.to_thread(process.communicate)
                back_s, after = await site.back(quiet_mib)
                ratio = of(took, 0.99) / quiet
                good = (
                    ratio <= MOST_RATIO
                    and most <= quiet_mib + MOST_GROWN_MIB
                    and back_s < BACK_S
                    and not failed
                )
                row = (
                    f"{name:24} {of(took, 0.5):8.1f} {of(took, 0.99):8.1f} {ratio:6.1f} {failed:6}"
                    f" {before:6.0f}"
                )
                row += f" {most:6.0f} {after:6.0f} {back_s:6.1f} {os.getloadavg()[0]:5.1f}"
                print(f"{row}  {'good' if good else 'BAD'}  {said.strip()}", flush=True)
    for name in ELSEWHERE:
        if name not in CONNECTION_ATTACKS:
            print(f"{name:24} skipped: there is no {_ELSEWHERE}.py")


def main() -> None:
    """Measure, or attack as one of the processes that the measurement starts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of each attack")
    parser.add_argument("--only", action="append", help="this attack; may be repeated")
    parser.add_argument("--as", dest="attack", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.attack:
        asyncio.run(attack(*given.attack))
        return
    names = [one.__name__ for one in ATTACKS] + list(CONNECTION_ATTACKS)
    asyncio.run(
        measured(
            given.seconds, [name for name in names if given.only is None or name in given.only]
        )
    )


if __name__ == "__main__":
    main()
