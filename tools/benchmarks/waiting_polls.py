"""What calls of the change feed that wait cost a node, and how late they hear of a change.

    python tools/benchmarks/waiting_polls.py
    python tools/benchmarks/waiting_polls.py --owners 2 --polls 5 --samples 50

A node with one worker runs as processes on loopback. Each of the owners has so many calls that wait
for changes of its space. An honest caller reads a value at a fixed rate: with nobody else, beside
the waiting calls, and while one owner after the other writes, so that its calls are answered and
wait again. The delay of a notice is the time from the begin of the write to the answer. All waiting
clients are in this process, so their own work is part of the delay. The honest caller is in another
one, so that it waits for the node alone, and for a processor.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import secrets
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from sys import path as module_path

module_path.append(str(Path(__file__).parents[2] / "tests" / "support"))

import aiohttp
from measuring import quantile
from paced import Paced, paced
from running_node import exchange, key_token, new_key, running_node

from capabilities.signatures import Ed25519Signer

_IDLE_S = 5.0
_WRITES = 2  # of each owner
_PER_S = 50.0
_HONEST_PATH = "honest"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Bench:
    """The clients of a node.

    Attributes:
        begun_at: when the last write of an owner began, by the number of the owner.
        delays_s: of the notices.
    """

    url: str
    node_did: str
    http: aiohttp.ClientSession
    owners: list[Ed25519Signer]
    begun_at: dict[int, float] = field(default_factory=dict)
    delays_s: list[float] = field(default_factory=list)
    heard: int = 0

    def token(self, owner: int, ability: str, path: str) -> str:
        """Return a token of an owner for its space."""
        return _token(self.owners[owner], self.node_did, ability, path)

    async def put(self, owner: int, value: bytes) -> None:
        """Write a value of an owner."""
        token = self.token(owner, "put", "notes/a")
        reply = await exchange(self.http, self.url, "POST", "/invoke", token=token, body=value)
        assert reply.status == 200, reply.text

    async def poll(self, owner: int) -> None:
        """Follow the changes of an owner until the task is cancelled."""
        cursor = ""
        while True:
            headers = {"Prefer": "wait=60", "x-tinycloud-cursor": cursor} if cursor else {}
            token = self.token(owner, "sync", "notes")
            reply = await exchange(
                self.http, self.url, "POST", "/invoke", token=token, headers=headers
            )
            assert reply.status == 200, reply.text
            page = json.loads(reply.body)
            if cursor and page["changes"]:
                self.delays_s.append(time.perf_counter() - self.begun_at[owner])
                self.heard += 1
            cursor = page["cursor"]


def honest_times(url: str, node_did: str, seed: bytes, samples: int) -> Paced:
    """Let an honest caller read its value; called in a process of its own."""
    signer = Ed25519Signer(seed)

    async def ask(http: aiohttp.ClientSession, _number: int) -> bool:
        reply = await exchange(
            http, url, "POST", "/invoke", token=_token(signer, node_did, "get", _HONEST_PATH)
        )
        return reply.status == 200

    return asyncio.run(paced(ask, samples=samples, per_s=_PER_S, most_s=120))


def _token(signer: Ed25519Signer, node_did: str, ability: str, path: str) -> str:
    """Return a token of an owner for its space."""
    space = f"tinycloud:{signer.did.removeprefix('did:')}:default"
    return key_token(signer, node_did, {f"{space}/kv/{path}": (f"tinycloud.kv/{ability}",)})


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _pss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss in smaps_rollup")


async def _until_heard(bench: Bench, calls: int) -> None:
    """Wait until this many calls have heard of a change since the start."""
    async with asyncio.timeout(60):
        while bench.heard < calls:
            await asyncio.sleep(0.01)


async def _until_connected(pid: int, files: int) -> None:
    """Wait until a process has this many open files."""
    async with asyncio.timeout(60):
        while _connections(pid) < files:
            await asyncio.sleep(0.01)


async def _write_all(bench: Bench, polls: int) -> None:
    """Let one owner after the other write, and wait until all of its calls have heard of it."""
    for number in range(_WRITES):
        for owner in range(len(bench.owners)):
            heard = bench.heard
            bench.begun_at[owner] = time.perf_counter()
            await bench.put(owner, f"{number}".encode())
            await _until_heard(bench, heard + polls)
            await asyncio.sleep(0.5)  # so that all of them wait again


def _connections(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def measured(
    url: str, pid: int, *, owners: int, polls: int, samples: int
) -> dict[str, float]:
    """Return the figures of a node whose worker has an id."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=120)
    callers = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        async with http.get(f"{url}/info") as answer:
            node_did = (await answer.json())["nodeId"]
        bench = Bench(url, node_did, http, [new_key() for _ in range(owners)])
        for owner in range(owners):
            await bench.put(owner, b"first")
        seed = secrets.token_bytes(32)
        token = _token(Ed25519Signer(seed), node_did, "put", _HONEST_PATH)
        await exchange(http, url, "POST", "/invoke", token=token, body=b"value")

        async def honest(count: int) -> Paced:
            asked = (url, node_did, seed, count)
            return await asyncio.get_running_loop().run_in_executor(callers, honest_times, *asked)

        await honest(samples // 4)  # not counted: the node imports and fills its caches
        quiet = await honest(samples)
        before_kib, files = _pss_kib(pid), _connections(pid)
        tasks = [
            asyncio.create_task(bench.poll(owner)) for owner in range(owners) for _ in range(polls)
        ]
        await _until_connected(pid, files + owners * polls - 2)
        await asyncio.sleep(3)
        after_kib = _pss_kib(pid)
        cpu_s = _cpu_s(pid)
        await asyncio.sleep(_IDLE_S)
        idle_cpu = (_cpu_s(pid) - cpu_s) / _IDLE_S
        beside = await honest(samples)
        writing = asyncio.create_task(_write_all(bench, polls))
        during = await honest(samples)
        await writing
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
    callers.shutdown()
    assert quiet.failed + beside.failed + during.failed == 0
    return {
        "polls": owners * polls,
        "kib_per_poll": round((after_kib - before_kib) / (owners * polls), 1),
        "idle_cpu_percent": round(idle_cpu * 100, 2),
        "notices": len(bench.delays_s),
        "notice_p50_ms": round(quantile(bench.delays_s, 0.5) * 1e3, 1),
        "notice_p99_ms": round(quantile(bench.delays_s, 0.99) * 1e3, 1),
        "honest_quiet_p99_ms": round(quiet.milliseconds(0.99), 1),
        "honest_beside_p99_ms": round(beside.milliseconds(0.99), 1),
        "honest_during_p99_ms": round(during.milliseconds(0.99), 1),
    }


def main() -> None:
    """Measure, and print the figures as one line of JSON."""
    parser = argparse.ArgumentParser(description="cost of waiting calls of the change feed")
    parser.add_argument("--owners", type=int, default=10)
    parser.add_argument("--polls", type=int, default=100, help="waiting calls of each owner")
    parser.add_argument("--samples", type=int, default=500)
    asked = parser.parse_args()
    settings = {"SEALSPACE_LIMITS__FEED_WAITS": "2000"}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_node(Path(folder), workers=1, environment=settings) as node,
    ):
        url = node.url
        (pid,) = node.children("worker")
        figures = asyncio.run(
            measured(url, pid, owners=asked.owners, polls=asked.polls, samples=asked.samples)
        )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
