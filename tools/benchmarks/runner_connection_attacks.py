"""Measure a runner's memory while clients read no answers, or connect and send nothing.

    python tools/benchmarks/runner_connection_attacks.py    60 s of each, 60 s after each
    python tools/benchmarks/runner_connection_attacks.py --seconds 5

Each attack is a coroutine that another program can run beside its own load, until an event is set.
The attackers sign with keys that the runner does not know. `project` is a published program whose
output is long, such as `FLOOD`. Printed is the runner's memory in MiB: before each attack, at most
during it, right after it, and later. Wanted: at most 150 more during an attack than before, and at
most 16 more later. Everything is on loopback and ends by itself.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))

import aiohttp
import wasmtime
from deviating_platform import SimulatedPlatform
from runner_stage import ECHO, P1
from running_node import COMMAND, running_node
from stalled_clients import resident_bytes
from tests_support import REPOSITORY

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from sealspace.apps.run_calls import RunnerAt, call_headers
from sealspace.apps.runners import runner_at
from sealspace.client import Client, SignIn
from sealspace.session import key_session
from sealspace.wallets import new_wallet

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
FORMATS = ("Bytes", "Text")  # as text each NUL would be escaped by six bytes

_OPEN_FILES = 1024
_LOOK_S = 0.5
_PAUSE_S = 0.05
_MOST_GROWN_MIB = 150
_MOST_LEFT_MIB = 16

Attack = Callable[[str, asyncio.Event, str], Coroutine[Any, Any, None]]


async def unread_answers(
    url: str, stop: asyncio.Event, project: str, *, connections: int = 30
) -> None:
    """Call a program on so many connections, and read no answer; a connection that the runner ends
    is made again."""
    runner = await runner_at(url)

    def request(number: int) -> bytes:
        return _call(runner, project, responseFormat=FORMATS[number % len(FORMATS)])

    await asyncio.gather(
        *(_occupy(url, stop, partial(request, number)) for number in range(connections))
    )


async def unread_polls(
    url: str, stop: asyncio.Event, project: str, *, connections: int = 25
) -> None:
    """Ask for the kept answer of one asynchronous call on so many connections, and read no
    answer."""
    runner, caller = await runner_at(url), secrets.token_bytes(32)
    body = _body(project, responseFormat="Bytes", **{"async": True})
    async with aiohttp.ClientSession() as http:
        async with http.post(
            f"{url}/run", data=body, headers=_headers(runner, project, body, caller)
        ) as answer:
            job = (await answer.json())["job"]
        size = 0
        while size < 1000 and not stop.is_set():
            await asyncio.sleep(_LOOK_S)
            headers = _headers(runner, f"calls/{job}", b"", caller)
            async with http.get(f"{url}/calls/{job}", headers=headers) as answer:
                size = len(await answer.read())

    def request() -> bytes:
        return _request("GET", f"/calls/{job}", _headers(runner, f"calls/{job}", b"", caller))

    await asyncio.gather(*(_occupy(url, stop, request) for _ in range(connections)))


async def silent_connections(
    url: str, stop: asyncio.Event, project: str = "", *, connections: int = 1100
) -> None:
    """Keep so many connections open on which nothing is sent; one that the runner ends is made
    again."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16_384), hard))
    await asyncio.gather(*(_occupy(url, stop, lambda: b"") for _ in range(connections)))


ATTACKS: dict[str, Attack] = {
    "unread_answers": unread_answers,
    "unread_polls": unread_polls,
    "silent_connections": silent_connections,
}


async def _occupy(url: str, stop: asyncio.Event, request: Callable[[], bytes]) -> None:
    """Keep one connection occupied: nothing is read but, without taking it, whether the runner
    refused."""
    loop, address = asyncio.get_running_loop(), urlsplit(url)
    while not stop.is_set():
        with socket.socket() as connection, suppress(OSError):
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(connection, (address.hostname, address.port))
            await loop.sock_sendall(connection, request())
            poll = select.poll()
            poll.register(connection, select.POLLRDHUP)
            while not (stop.is_set() or poll.poll(0) or _is_refused(connection)):
                await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(_PAUSE_S)


def _is_refused(connection: socket.socket) -> bool:
    with suppress(BlockingIOError):
        return connection.recv(12, socket.MSG_PEEK) not in (b"", b"HTTP/1.1 200")
    return False


def _body(project: str, **members: Any) -> bytes:
    return json.dumps({"source": {"project": project}, **members}).encode()


def _headers(runner: RunnerAt, program: str, body: bytes, caller: bytes) -> dict[str, str]:
    now, entropy = SystemClock().now(), SystemEntropy()
    return call_headers(
        key_session(caller), runner=runner, program=program, body=body, now=now, entropy=entropy
    )


def _call(runner: RunnerAt, project: str, **members: Any) -> bytes:
    """Return the request of a call by an unknown key."""
    body = _body(project, **members)
    return _request("POST", "/run", _headers(runner, project, body, secrets.token_bytes(32)), body)


def _request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: runner", f"Content-Length: {len(body)}"]
    return (
        "\r\n".join(
            [*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        ).encode()
        + body
    )


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[str, int, str]]:
    """Run a node and a runner as processes; yields the runner's address and process, and the
    developer's DID."""
    platform = SimulatedPlatform.from_seed(secrets.token_bytes(32))
    platform.save(folder / "tee")
    with running_node(folder, platform=platform, workers=1) as node:
        wallet = new_wallet()
        async with Client(node.url) as developer:
            await developer.sign_in(wallet, SignIn(spaces=("public",)))
            programs = developer.programs(public=True)
            for name, text in (("flood", FLOOD), ("echo", ECHO)):
                await programs.publish(
                    name, bytes(wasmtime.wat2wasm(text)), target=P1, signer=wallet
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
        with subprocess.Popen(
            [*COMMAND, "runner", "serve", *options],
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        ) as process:
            assert process.stderr is not None
            found = re.fullmatch(r"listening on (http://\S+)\n", process.stderr.readline())
            assert found
            # as of many services
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
            try:
                yield found[1], process.pid, str(wallet.did)
            finally:
                process.send_signal(signal.SIGTERM)


async def _called(url: str, developer: str) -> None:
    """Make a few calls, so that what the first ones allocate is not counted as an attack's."""
    runner, project = await runner_at(url), f"{developer}/echo"
    async with aiohttp.ClientSession() as http:
        for _ in range(20):
            body = _body(project, input="hello")
            async with http.post(
                f"{url}/run", data=body, headers=_headers(runner, project, body, bytes(32))
            ) as answer:
                assert (await answer.json())["output"] == "hello"


def _mib(pid: int) -> float:
    return round(resident_bytes(pid) / (1 << 20), 1)


async def measure(folder: Path, seconds: float, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return what each attack did to a runner's memory."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        attack = ATTACKS[name]
        (folder / name).mkdir()
        async with served(folder / name) as (url, pid, developer):
            await _called(url, developer)
            before, stop, during = _mib(pid), asyncio.Event(), []
            attacking = asyncio.create_task(attack(url, stop, f"{developer}/flood"))
            end = asyncio.get_running_loop().time() + seconds
            while asyncio.get_running_loop().time() < end:
                during.append(_mib(pid))
                await asyncio.sleep(_LOOK_S)
            await _called(url, developer)
            stop.set()
            await attacking
            await asyncio.sleep(min(seconds, 1))
            at_once = _mib(pid)
            await asyncio.sleep(seconds)
            found[name] = {
                "before": before,
                "during": max(during),
                "at_once": at_once,
                "after": _mib(pid),
            }
    return found


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(
        description="What clients cost a runner that read nothing, or say nothing."
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--attack", choices=ATTACKS, action="append", help="this one alone; may be repeated"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sealspace-bench-") as folder:
        found = asyncio.run(
            measure(Path(folder), arguments.seconds, arguments.attack or list(ATTACKS))
        )
    print(json.dumps(found, indent=2))
    grown = max(one["during"] - one["before"] for one in found.values())
    left = max(one["after"] - one["before"] for one in found.values())
    return 0 if grown <= _MOST_GROWN_MIB and left <= _MOST_LEFT_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
