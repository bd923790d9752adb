"""Runners that are stopped and killed under load, as processes (RN99, RN293, RN295)."""

import asyncio
import itertools
import json
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

import aiohttp
import pytest
import wasmtime
from deviating_platform import SimulatedPlatform
from patience import PATIENCE_S
from runner_process import RunningRunner
from runner_stage import ECHO
from running_node import running_node

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.principals import Principal
from runner.calls.journal_copies import JOURNAL_NAME
from runner.http.operator_routes import ask_operator
from sealspace.apps.api_keys import new_api_key
from sealspace.cli.root import main
from sealspace.client import Client, SignIn
from sealspace.wallets import new_wallet

pytestmark = pytest.mark.slow
PRICE = 1000
CREDIT = 10_000_000
SLOW = ECHO.replace(
    """(func (export "_start")""",
    """(func (export "_start") (local $left i64)
    (local.set $left (i64.const 150000000))
    (loop $again
      (local.set $left (i64.sub (local.get $left) (i64.const 1)))
      (br_if $again (i64.ne (local.get $left) (i64.const 0))))""",
)
"""Computes for a moment, and then writes what it reads."""
# Every start of a job is written down by the journal itself, in the transaction of the start.
_NOTE_STARTS = """
CREATE TABLE IF NOT EXISTS noted (id TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS note AFTER UPDATE OF state ON jobs
    WHEN NEW.state = 'started' AND OLD.state = 'waiting'
    BEGIN INSERT INTO noted VALUES (NEW.id); END;
"""


@dataclass
class Shop:
    """A runner with prices, whose process is replaced, and a customer with an API key."""

    folder: Path
    node: str
    http: aiohttp.ClientSession
    wallet: Any
    key: str = ""
    runner: RunningRunner | None = None
    accepted: list[str] = field(default_factory=list)

    @property
    def running(self) -> RunningRunner:
        assert self.runner is not None
        return self.runner

    @property
    def journal(self) -> Path:
        return self.folder / "kept" / JOURNAL_NAME

    def start(self, *more: str) -> None:
        self.runner = RunningRunner(
            self.folder,
            *("--node", self.node, "--data", "kept", "--key", "file", "--children", "2"),
            *("--price-call", str(PRICE), "--metrics", "127.0.0.1:0"),
            *more,
        )

    async def open_account(self) -> None:
        credit = {"owner": self.wallet.did, "amount": CREDIT, "reference": token_hex(8)}
        await ask_operator(self.folder / "kept", credit)
        async with self.http.get(f"{self.running.url}/info") as info:
            did = Principal((await info.json())["runner"])
        statement, credential = new_api_key(
            self.wallet,
            runner=did,
            projects=None,
            max_per_call=PRICE,
            expires_at=SystemClock().now() + 3600,
            entropy=SystemEntropy(),
        )
        async with self.http.post(f"{self.running.url}/keys", data=statement) as answer:
            assert answer.status == 201, await answer.text()
        self.key = credential.text

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Payment-Key": self.key}

    async def call(self, program: str) -> int:
        """Make an asynchronous call, and note its id if it was accepted; return the status."""
        url = f"{self.running.url}/call/{self.wallet.did}/{program}"
        body = json.dumps({"input": 1, "async": True}).encode()
        async with self.http.post(url, data=body, headers=self.headers) as answer:
            if answer.status == 200:
                self.accepted.append((await answer.json())["call_id"])
            return answer.status

    async def answer(self, job: str) -> dict[str, Any]:
        async with self.http.get(f"{self.running.url}/calls/{job}", headers=self.headers) as answer:
            assert answer.status == 200, (job, await answer.text())
            said: dict[str, Any] = await answer.json()
            return said

    async def ended(self, job: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            while (said := await self.answer(job)).get("status") == "pending":
                await asyncio.sleep(0)
        return said

    async def account(self) -> dict[str, int]:
        url = f"{self.running.url}/payment-keys/balance"
        async with self.http.get(url, headers=self.headers) as answer:
            said = await answer.json()
        return {name: int(said[name]) for name in ("available", "reserved", "spent")}

    async def metrics(self) -> dict[str, float]:
        async with self.http.get(self.running.metrics) as answer:
            text = await answer.text()
        rows = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in rows}

    def states(self) -> dict[str, str]:
        """Return the states of all jobs in the journal of a runner that has ended."""
        with closing(sqlite3.connect(self.journal)) as connection:
            return dict(connection.execute("SELECT id, state FROM jobs"))

    def noted_starts(self) -> Counter[str]:
        with closing(sqlite3.connect(self.journal)) as connection:
            return Counter(job for (job,) in connection.execute("SELECT id FROM noted"))


@pytest.fixture
async def shop(tmp_path: Path) -> Any:
    """A shop whose runner was started once and has ended."""
    assert main(["backend", "simulate", str(tmp_path / "tee"), "-q"]) == 0
    platform = SimulatedPlatform.load(tmp_path / "tee")
    wallet = new_wallet()
    with running_node(tmp_path, platform=platform, workers=1) as node:
        async with Client(node.url) as developer, aiohttp.ClientSession() as http:
            await developer.sign_in(wallet, SignIn(spaces=("public",)))
            programs = developer.programs(public=True)
            for name, text in (("echo", ECHO), ("slow", SLOW)):
                wasm = bytes(wasmtime.wat2wasm(text))
                await programs.publish(name, wasm, target="wasm32-wasip1", signer=wallet)
            made = Shop(tmp_path, node.url, http, wallet)
            made.start()
            try:
                await made.open_account()
                made.running.end()
                with closing(sqlite3.connect(made.journal)) as connection:
                    connection.executescript(_NOTE_STARTS)
                yield made
            finally:
                made.running.close()


async def test_nothing_is_lost_or_runs_twice(shop: Shop) -> None:
    """RN99, RN295: over kills and stops under load, each accepted call ends once, and the balance
    is exact."""
    chance = random.Random(7)
    programs = itertools.cycle(["echo", "echo", "slow"])
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        shop.start("--drain-s", "5")
        clients = [asyncio.create_task(_load(shop, programs)) for _ in range(4)]
        most = len(shop.accepted) + chance.randrange(10, 25)
        async with asyncio.timeout(PATIENCE_S):
            while len(shop.accepted) < most:
                await asyncio.sleep(0)
            await asyncio.to_thread(shop.running.end, number)
            await asyncio.gather(*clients)
        # every acknowledged call is in the journal, also after a kill
        assert set(shop.accepted) <= shop.states().keys()
    shop.start()
    outcomes = Counter[str]()
    for job in shop.accepted:
        said = await shop.ended(job)
        outcomes[said.get("code") or said["status"]] += 1
        assert int(said["compute_cost"]) == (PRICE if said["status"] == "completed" else 0)
    assert outcomes.keys() <= {"completed", "interrupted"}, outcomes
    # calls that were accepted, but whose acknowledgement was lost, were run and paid for too
    account = await shop.account()
    states = await asyncio.to_thread(_ended_states, shop)
    assert account["reserved"] == 0 and account["available"] + account["spent"] == CREDIT
    starts = shop.noted_starts()
    assert set(starts) == set(states) and set(starts.values()) == {1}
    assert account["spent"] >= PRICE * outcomes["completed"] > 0
    unacknowledged = len(states) - len(shop.accepted)
    assert account["spent"] <= PRICE * (outcomes["completed"] + unacknowledged)


async def _load(shop: Shop, programs: Iterator[str]) -> None:
    """Make calls until the runner has ended."""
    with suppress(aiohttp.ClientError):
        while True:
            await shop.call(next(programs))


def _ended_states(shop: Shop) -> dict[str, str]:
    """Stop the runner, and return its jobs, which have all ended."""
    shop.running.end()
    states = shop.states()
    assert set(states.values()) == {"done"}
    return states


async def test_a_stop_waits_for_what_has_started(shop: Shop) -> None:
    """RN295: started calls finish, waiting ones stay, and both are answered after the start."""
    shop.start("--drain-s", "60")
    for _ in range(3):
        assert await shop.call("slow") == 200
    async with asyncio.timeout(PATIENCE_S):
        while (await shop.metrics())['sealspace_runner_recorded_calls{state="started"}'] < 1:
            pass
    said = await asyncio.to_thread(shop.running.end)
    assert said == ""
    counts = Counter(shop.states().values())
    assert counts["started"] == 0 and counts["done"] >= 1 and counts["waiting"] >= 1, counts
    shop.start()
    answers = [await shop.ended(job) for job in shop.accepted]
    assert {answer["status"] for answer in answers} == {"completed"}
    assert (await shop.account())["spent"] == 3 * PRICE


async def test_a_stop_does_not_wait_longer(shop: Shop) -> None:
    """RN295: calls that take longer than the drain are interrupted, and cost nothing."""
    shop.start("--drain-s", "0")
    for _ in range(2):
        assert await shop.call("slow") == 200
    async with asyncio.timeout(PATIENCE_S):
        while (await shop.metrics())['sealspace_runner_recorded_calls{state="started"}'] < 1:
            pass
    await asyncio.to_thread(shop.running.end)
    started = {job for job, state in shop.states().items() if state == "started"}
    shop.start()
    answers = {job: await shop.ended(job) for job in shop.accepted}
    assert {job for job, said in answers.items() if said.get("code") == "interrupted"} == started
    completed = len(answers) - len(started)
    assert (await shop.account())["spent"] == completed * PRICE


async def test_a_restored_journal(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """RN293: calls of a backup that have not ended fail, are refunded, and do not run again."""
    backup, kept = str(shop.folder / "backup"), str(shop.folder / "kept")
    shop.start()
    assert await shop.call("echo") == 200
    before = await shop.ended(shop.accepted[0])
    for _ in range(4):
        assert await shop.call("slow") == 200
    assert await asyncio.to_thread(main, ["runner", "backup", backup, "--data", kept]) == 0
    later = [await shop.ended(job) for job in shop.accepted[1:]]
    assert {said["status"] for said in later} == {"completed"}
    assert await shop.call("echo") == 200
    await shop.ended(shop.accepted[-1])
    assert (await shop.account())["spent"] == 6 * PRICE
    shop.running.end()
    (copy,) = (shop.folder / "backup").glob("journal-*")
    with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        states = dict(connection.execute("SELECT id, state FROM jobs"))
    assert Counter(states.values())["waiting"] >= 2
    for part in (shop.folder / "kept").glob(f"{JOURNAL_NAME}*"):
        part.unlink()
    capsys.readouterr()
    assert await asyncio.to_thread(main, ["runner", "restore", backup, "--data", kept]) == 0
    told = capsys.readouterr().out
    assert "add the credits since then again" in told and "revoke them again" in told
    shop.start()
    assert await shop.ended(shop.accepted[0]) == before
    unfinished = 0
    for job in shop.accepted[1:-1]:
        said = await shop.ended(job)
        if states[job] == "done":
            assert said["status"] == "completed"
            continue
        assert said["code"] == "interrupted" and said["compute_cost"] == "0"
        unfinished += 1
    # what was made after the backup is unknown
    async with shop.http.get(
        f"{shop.running.url}/calls/{shop.accepted[-1]}", headers=shop.headers
    ) as answer:
        assert answer.status == 404
    account = await shop.account()
    assert account == {
        "available": CREDIT - (5 - unfinished) * PRICE,
        "reserved": 0,
        "spent": (5 - unfinished) * PRICE,
    }
    # the second start is an ordinary one again: waiting calls run
    assert await shop.call("slow") == 200
    assert await shop.call("echo") == 200
    shop.running.end(signal.SIGKILL)
    shop.start()
    assert (await shop.ended(shop.accepted[-1]))["status"] == "completed"
