"""A test of calls to a runner whose processes and node are killed at random (`make soak`).

Some programs send a request: one that is answered, one to a host that is not theirs, one that
hangs. Afterwards each job that was reported has one answer, accounts add up to the micro-unit, no
request was sent twice, and no child is left.

SOAK_CALLS=10000 asks for another number of calls, SOAK_SEED=7 for other draws, SOAK_IN_FLIGHT for
more at one time.
"""

import asyncio
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import wasmtime
from deviating_platform import SimulatedPlatform
from https_service import Service, https_service
from runner_stage import ECHO
from running_node import COMMAND, RunningNode, running_node, until
from tests_support import REPOSITORY

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from runner.calls.prices import Price
from runner.guest.frames import FETCH_ERRORS
from runner.http.operator_routes import ask_operator
from runner.reasons import REASONS
from sealspace.apps.api_keys import new_api_key
from sealspace.apps.programs import ProgramManifest
from sealspace.cli.root import main
from sealspace.client import Client, SignIn
from sealspace.wallets import new_wallet
from serving.messages import pack_parts

CALLS = 400
SEED = 1
IN_FLIGHT = 64
CALLS_BETWEEN_KILLS = 40
# Some ten milliseconds, so that a kill meets runs that have begun.
SLOW = ECHO.replace(
    '(func (export "_start")',
    """(func (export "_start") (local $left i32)
    (local.set $left (i32.const 10000000))
    (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))""",
)
HOST, OTHER = "api.test", "other.test"
# What programs do, how many of a hundred calls ask for it, and what they write where it is fixed.
SHARES = {
    "echo": (87, None),
    "answered": (6, 0),
    "refused": (3, 1 + FETCH_ERRORS.index("host-refused")),
    "hanging": (4, None),
}
KEYS = 8  # each has ten calls under way at most
PRICE = Price(call=1000, million_instructions=1, second=1)
BUDGET = 10_000
CREDIT = 10**12
_POLL_S = 0.05
_GONE = (aiohttp.ClientError, ConnectionError, TimeoutError)


def sender(url: str) -> str:
    """Return a program that sends one request, and writes 0 or the number of the error."""
    message = pack_parts([b"GET", url.encode(), b""])
    written = "".join(f"\\{byte:02x}" for byte in message)
    return f"""
(module
  (import "sealspace:http/client@0.1.0" "fetch" (func $fetch (param i32 i32) (result i32)))
  (import "sealspace:http/client@0.1.0" "read" (func $read (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "{written}")
  (data (i32.const 0) "\\10\\00\\00\\00\\01\\00\\00\\00")
  (func (export "_start") (local $said i32)
    (local.set $said (call $fetch (i32.const 1024) (i32.const {len(message)})))
    (i32.store8 (i32.const 16) (i32.sub (i32.const 48)
      (select (local.get $said) (i32.const 0) (i32.lt_s (local.get $said) (i32.const 0)))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def started_at(pid: int) -> str:
    """Return the start time of a process, which distinguishes it from a later one with its id;
    empty if it has ended."""
    try:
        state, *more = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else more[18]


def children_of(pid: int) -> dict[int, str]:
    """Return the children of a process with their start times."""
    found = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return {int(one): started_at(int(one)) for numbers in found for one in numbers}


@dataclass
class Runner:
    """The process of a runner on one folder and one port, which is restarted after a kill."""

    folder: Path
    node: str
    loopback_ca: Path
    port: int = field(default_factory=free_port)
    children: dict[int, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        prices = ("--price-call", PRICE.call, "--price-instructions", PRICE.million_instructions)
        places = (
            "--data",
            "runner",
            "--key",
            "file",
            "--port",
            self.port,
            "--children",
            3,
            "--node",
            self.node,
        )
        arguments = (
            *places,
            *prices,
            "--price-second",
            PRICE.second,
            "--simulate",
            "tee",
            "--loopback-ca",
            self.loopback_ca,
        )
        with (self.folder / "runner.err").open("ab") as said:
            self.process = subprocess.Popen(
                [*COMMAND, "runner", "serve", *map(str, arguments)],
                stderr=said,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            )
        async with aiohttp.ClientSession() as http, asyncio.timeout(60):
            while True:
                assert self.process.poll() is None, (self.folder / "runner.err").read_text()
                with suppress(*_GONE):
                    async with http.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(_POLL_S)

    def end(self, number: signal.Signals) -> None:
        """Stop the runner, and check that each child ends."""
        assert self.process is not None
        self.children |= children_of(self.process.pid)
        self.process.send_signal(number)
        self.process.wait(60)
        until(
            lambda: (
                not any(since and started_at(pid) == since for pid, since in self.children.items())
            )
        )
        self.children.clear()

    def kill_a_child(self, chance: random.Random) -> None:
        assert self.process is not None
        if children := children_of(self.process.pid):
            self.children |= children
            with suppress(ProcessLookupError):
                os.kill(chance.choice(sorted(children)), signal.SIGKILL)


@dataclass
class Load:
    """Calls with several keys, and their answers."""

    runner: Runner
    http: aiohttp.ClientSession
    service: Service
    developer: str
    keys: list[str]
    chance: random.Random
    left: int
    reported: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    answered: Counter[str] = field(default_factory=Counter)

    async def work(self, number: int) -> None:
        """Call until no call is left."""
        key = self.keys[number % len(self.keys)]
        while self.left > 0:
            self.left -= 1
            (program,) = self.chance.choices(list(SHARES), [share for share, _ in SHARES.values()])
            body: dict[str, Any] = {
                "input": {"call": self.left},
                "async": self.chance.random() < 0.5,
            }
            if program == "hanging":
                body["resource_limits"] = {"max_execution_seconds": 1}
            try:
                answer = await self._asked("POST", f"/call/{self.developer}/{program}", key, body)
            except aiohttp.ClientConnectorError:  # it was not even sent
                self.left += 1
                await asyncio.sleep(_POLL_S)
                continue
            except _GONE:  # nobody knows what came of it, but the accounts
                self.answered["no answer"] += 1
                await asyncio.sleep(_POLL_S)
                continue
            if "call_id" not in answer:
                self.answered[f"refused {answer['code']}"] += 1
                continue
            if answer["status"] == "pending":
                answer = await self.final(answer["call_id"], key)
            self.reported[answer["call_id"]] = key if body["async"] else "", answer
            self.answered[f"{program} {answer['code'] or answer['status']}"] += 1
            expected = body["input"] if program == "echo" else SHARES[program][1]
            assert answer["status"] == "failed" or answer["output"] == expected, (program, answer)
            assert program != "hanging" or answer["status"] == "failed", answer

    async def final(self, job: str, key: str) -> dict[str, Any]:
        """Return the answer of an asynchronous call, which must not be lost once it was
        reported."""
        async with asyncio.timeout(600):
            while True:
                with suppress(*_GONE):
                    answer = await self._asked("GET", f"/calls/{job}", key, None)
                    assert "call_id" in answer, (job, answer)
                    if answer["status"] != "pending":
                        return answer
                await asyncio.sleep(_POLL_S)

    async def _asked(self, method: str, path: str, key: str, body: Any) -> dict[str, Any]:
        headers = {"X-Payment-Key": key}
        async with self.http.request(
            method, self.runner.url + path, json=body, headers=headers
        ) as answer:
            value: dict[str, Any] = json.loads(await answer.read())
            return value


@asynccontextmanager
async def staged(
    folder: Path, *, calls: int, chance: random.Random
) -> AsyncIterator[tuple[Load, list[RunningNode]]]:
    """Start a node and a runner, publish a program, make keys, and credit their owner."""
    assert main(["backend", "simulate", str(folder / "tee"), "-q"]) == 0
    platform, port = SimulatedPlatform.load(folder / "tee"), str(free_port())
    public = {"SEALSPACE_PUBLIC_SPACES__REQUESTS_PER_MINUTE": "1000000"}
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(https_service(folder, HOST, OTHER))
        node = stack.enter_context(
            running_node(
                folder / "node", "--port", port, platform=platform, workers=1, environment=public
            )
        )
        nodes = [node]
        stack.callback(lambda: nodes[-1].close())
        wallet = new_wallet()
        async with Client(node.url) as developer:
            await developer.sign_in(wallet, SignIn(spaces=("public",)))
            programs, manifest = developer.programs(public=True), ProgramManifest(hosts=(HOST,))
            urls = {"answered": service.url("/echo"), "refused": service.url("/echo", host=OTHER)}
            texts = {
                name: sender(url) for name, url in {**urls, "hanging": service.url("/slow")}.items()
            }
            for name, text in ({"echo": SLOW} | texts).items():
                made: dict[str, Any] = {
                    "target": "wasm32-wasip1",
                    "signer": wallet,
                    "manifest": manifest,
                }
                await programs.publish(name, bytes(wasmtime.wat2wasm(text)), **made)
        runner = Runner(folder, node.url, service.ca)
        await runner.start()
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        async with http.get(f"{runner.url}/info") as answer:
            did = (await answer.json())["runner"]
        await ask_operator(
            folder / "runner", {"owner": str(wallet.did), "amount": CREDIT, "reference": "soak"}
        )
        keys, until_s = [], SystemClock().now() + 86_400
        for _ in range(KEYS):
            stated: dict[str, Any] = {
                "runner": did,
                "projects": None,
                "max_per_call": BUDGET,
                "expires_at": until_s,
            }
            statement, credential = new_api_key(wallet, **stated, entropy=SystemEntropy())
            async with http.post(f"{runner.url}/keys", data=statement) as answer:
                assert answer.status == 201
            keys.append(credential.text)
        yield Load(runner, http, service, str(wallet.did), keys, chance, calls), nodes


async def kill_at_random(load: Load, nodes: list[RunningNode], kills: Counter[str]) -> None:
    """Kill a process after every few calls, until no call is left."""
    chance, runner = load.chance, load.runner
    following = load.left - CALLS_BETWEEN_KILLS
    while load.left > 0:
        await asyncio.sleep(_POLL_S)
        if load.left > following:
            continue
        following = load.left - chance.randint(1, 2 * CALLS_BETWEEN_KILLS)
        what = chance.choice(["child", "child", "runner", "runner", "node"])
        kills[what] += 1
        if what == "child":
            runner.kill_a_child(chance)
        elif what == "runner":
            await asyncio.to_thread(runner.end, signal.SIGKILL)
            await runner.start()
        else:
            node = nodes[-1]
            await asyncio.to_thread(node.kill)
            arguments = node.process.args
            assert isinstance(arguments, list)
            again = arguments[len(COMMAND) + 1 :]  # what followed `serve`
            public = {"SEALSPACE_PUBLIC_SPACES__REQUESTS_PER_MINUTE": "1000000"}
            nodes.append(RunningNode(node.folder, *map(str, again), environment=public))
            await asyncio.to_thread(lambda: nodes[-1].url)


async def test_soak_of_calls(tmp_path: Path) -> None:
    """Whenever children, runner and node are killed, no job is lost or run twice, and no balance is
    off by a micro-unit."""
    calls, in_flight = (
        int(os.environ.get("SOAK_CALLS", CALLS)),
        int(os.environ.get("SOAK_IN_FLIGHT", IN_FLIGHT)),
    )
    chance, kills = random.Random(int(os.environ.get("SOAK_SEED", SEED))), Counter[str]()
    async with staged(tmp_path, calls=calls, chance=chance) as (load, nodes):
        killer = asyncio.create_task(kill_at_random(load, nodes, kills))
        try:
            await asyncio.gather(*(load.work(number) for number in range(in_flight)), killer)
        finally:
            print(
                f"{calls - load.left} calls, kills: {dict(kills)}, answers: {dict(load.answered)}"
            )
        for job, (key, answer) in load.reported.items():
            if key:  # what was answered once is answered so for ever
                assert await load.final(job, key) == answer
        load.runner.end(signal.SIGTERM)
        assert all(
            load.answered[f"{program} completed"] for program in ("echo", "answered", "refused")
        )
        assert load.answered["hanging limit-time"] > 0
        judge(tmp_path / "runner" / "journal.sqlite", load)


def judge(journal: Path, load: Load) -> None:
    """Compare the journal of a stopped runner with the answers, its accounts with its receipts, and
    the receipts with the requests that arrived."""
    connection = sqlite3.connect(journal)
    assert connection.execute("SELECT count(*) FROM jobs WHERE state != 'done'").fetchone() == (0,)
    ((balance, reserved, charged),) = connection.execute(
        "SELECT balance, reserved, charged FROM accounts"
    ).fetchall()
    costs: dict[str, int] = {}
    began: Counter[str] = Counter()
    for (receipt,) in connection.execute("SELECT receipt FROM receipts"):
        stated = json.loads(receipt)["statement"]
        code = stated["code"]
        ran = code is None or (REASONS[code].ran and code != "interrupted")
        cost = (
            PRICE.cost(instructions=stated["instructions"], time_ms=stated["timeMs"]) if ran else 0
        )
        assert stated["job"] not in costs
        costs[stated["job"]] = min(cost, BUDGET)
        program = stated["project"].rpartition("/")[2]
        began[program] += code is None or REASONS[code].ran
        assert set(stated["hosts"]) <= (set() if program in ("echo", "refused") else {HOST}), stated
    connection.close()
    sent = Counter(request.path for request in load.service.seen)
    assert {f"{HOST}:{load.service.port}"} == {request.host for request in load.service.seen}
    assert load.answered["answered completed"] <= sent["/echo"] <= began["answered"]
    # on a busy machine the time of a run ends before it has a connection
    assert 0 < sent["/slow"] <= began["hanging"]
    assert balance + charged == CREDIT
    assert reserved == 0
    assert charged == sum(costs.values())
    for job, (_, answer) in load.reported.items():
        assert int(answer["compute_cost"]) == costs[job], answer
