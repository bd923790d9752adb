"""Fair shares of a runner, over HTTP and with real programs (RN160 to RN169)."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from guest_programs import (
    Guest,
    children,
    code,
    cpu_bound_s,
    detail_of,
    guest,
    run_guest,
    run_request,
)
from patience import PATIENCE_S, until
from runner_stage import ECHO, TRAP, RunnerStage, runner_stage

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.principals import Principal
from capabilities.signatures import Ed25519Signer
from runner.calls import calls, journal, ledger
from runner.calls.prices import Price
from runner.guest import artefacts as _artefacts
from runner.guest.executor import Executor
from runner.guest.runs import RunRequest
from runner.http import request_bodies
from sealspace.apps.run_calls import call_headers
from sealspace.session import Session, key_session
from serving.shares import Payer

LONG_S = 60
"""A sleeper is awake again long after a call that does not wait for it was answered."""


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[RunnerStage]:
    """A runner with two children and without prices."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path)
        await staged.publish("echo", ECHO)
        await staged.publish("sleeper", guest("probe-wasip1").data)
        yield staged


@pytest.fixture
def short_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit the queue of asynchronous calls so that bodies of 16 MB fill it."""
    monkeypatch.setattr(calls, "MOST_QUEUED_BYTES", calls.MOST_QUEUED_BYTES // 16)


def stranger(number: int) -> Session:
    """Return a session of a new DID, which has no account."""
    return key_session(sha256(b"stranger %d" % number).digest())


def another_owner(number: int = 1) -> Ed25519Signer:
    return Ed25519Signer(sha256(b"owner %d" % number).digest())


async def first_of(call: Coroutine[Any, Any, Any], others: list["asyncio.Task[Any]"]) -> Any:
    """Return the answer of a call, which must come before those of the others."""
    asked_for = asyncio.create_task(call)
    done, _ = await asyncio.wait(
        [asked_for, *others], timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
    )
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    assert done == {asked_for}, [one.result() for one in done]
    return asked_for.result()


async def outputs(stage: RunnerStage, key: str) -> list[str]:
    """Return the outputs of a key's calls, made one after the other while sleepers start."""
    return [(await stage.api("echo", key))[1]["output"] for _ in range(100)]


async def all_called(stage: RunnerStage, callers: int) -> None:
    """Wait until this many signed calls were accepted and one of them sleeps."""
    async with asyncio.timeout(PATIENCE_S):
        while not (await stage.runner.journal.write(callers_seen)) >= callers or not sleeping():
            await asyncio.sleep(0)


def callers_seen(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM used").fetchone()[0])


def sleeping() -> int:
    """Return the number of children that run a sleeping program."""
    return sum(cpu_bound_s(process) > LONG_S for process in children(kind="_run_child"))


async def test_strangers_who_sleep_hold_up_no_key_holder(stage: RunnerStage) -> None:
    """RN162: six sleeping programs of unknown payers leave a child to a key holder."""
    key = await stage.key("echo")
    assert (await stage.api("echo", key))[0] == 200
    limits = {"maxExecutionSeconds": LONG_S}
    sleepers = [
        asyncio.create_task(
            stage.call(
                "sleeper", session=stranger(number), input="sleep 1000000", resourceLimits=limits
            )
        )
        for number in range(6)
    ]
    await all_called(stage, 6)
    assert await first_of(outputs(stage, key), sleepers) == ["hello"] * 100


async def test_a_signer_with_an_account_is_no_stranger(stage: RunnerStage) -> None:
    """RN160, RN162: a signer with an account does not wait for unknown payers."""
    session = await stage.calling_session()
    await stage.credit(0)
    assert (await stage.call("echo", session=session, input="hello"))[0] == 200
    limits = {"maxExecutionSeconds": LONG_S}
    sleepers = [
        asyncio.create_task(
            stage.call(
                "sleeper", session=stranger(number), input="sleep 1000000", resourceLimits=limits
            )
        )
        for number in range(6)
    ]
    await all_called(stage, 7)

    async def called() -> list[str]:
        return [
            (await stage.call("echo", session=session, input="hello"))[1]["output"]
            for _ in range(100)
        ]

    assert await first_of(called(), sleepers) == ["hello"] * 100


async def test_tokens_of_new_keys_hold_up_no_account(stage: RunnerStage) -> None:
    """RN163: recording the tokens of many new keys delays a key holder by at most one record."""
    runner, recorded = stage.runner, list[str]()
    verified, all_verified = asyncio.Semaphore(0), asyncio.Event()

    async def record(name: str, seed: bytes, *, is_known: bool) -> None:
        headers = call_headers(
            key_session(seed),
            runner=stage.at,
            program="keys",
            body=b"",
            now=SystemClock().now(),
            entropy=SystemEntropy(),
        )
        call = await runner.verify_caller(headers["Authorization"], None)
        verified.release()
        await all_verified.wait()
        await runner.use_token(call, "keys", b"", is_known=is_known)
        recorded.append(name)

    tasks = []
    for number in range(20):
        seed = bytes([1, number] * 16)
        tasks.append(asyncio.create_task(record(f"new {number}", seed, is_known=False)))
    tasks.append(asyncio.create_task(record("account", bytes([2] * 32), is_known=True)))
    for _ in tasks:
        await verified.acquire()
    all_verified.set()
    await asyncio.gather(*tasks)
    assert "account" in recorded[:3]


async def test_one_key_that_sleeps_holds_up_no_other_owner(stage: RunnerStage) -> None:
    """RN162: ten sleeping calls of one key leave a child to another owner's key."""
    key, other = await stage.key(None), await stage.key("echo", signer=another_owner())
    assert (await stage.api("echo", other))[0] == 200
    body = {
        "input": "",
        "resource_limits": {"max_execution_seconds": LONG_S},
        "response_format": "Text",
    }
    await stage.publish("asleep", SLEEPING)
    sleepers = [asyncio.create_task(stage.api("asleep", key, body)) for _ in range(10)]
    await until(lambda: sleeping() > 0)
    assert await first_of(outputs(stage, other), sleepers) == ["hello"] * 100


SLEEPING = """
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 1000000000000))
    (drop (call $poll (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 512)))))
"""
"""Sleeps for a quarter of an hour."""


def crowded(functions: int) -> bytes:
    """Return a module of this many empty functions, each of which compiles in 40 µs."""

    def number(value: int) -> bytes:
        low, rest = value & 127, value >> 7
        return bytes([low | 128]) + number(rest) if rest else bytes([low])

    def section(kind: int, body: bytes) -> bytes:
        return bytes([kind]) + number(len(body)) + body

    count = number(functions)
    parts = [
        section(1, b"\x01\x60\0\0"),
        section(3, count + b"\0" * functions),
        section(7, b"\x01\x06_start\0\0"),
        section(10, count + b"\x02\0\x0b" * functions),
    ]
    return b"\0asm\x01\0\0\0" + b"".join(parts)


_COMPILING_TICKS = 10
"""Of a hundredth of a second each: a child starts in one or two, and a heavy program takes
hundreds."""


async def stopped_compiler() -> int:
    """Stop the child that compiles, recognised by its CPU time, and return it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await asyncio.sleep(0)
            for process in children(kind="_compile_child"):
                with suppress(FileNotFoundError, ProcessLookupError):
                    user_ticks = int(
                        Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11]
                    )
                    if user_ticks >= _COMPILING_TICKS:
                        os.kill(process, signal.SIGSTOP)
                        return process


async def test_a_heavy_compilation_holds_up_no_small_program(stage: RunnerStage) -> None:
    """RN164: a key holder's program compiles beside four large ones of unknown payers."""
    for number in range(4):
        await stage.publish(f"heavy{number}", crowded(120_000 + number))
    await stage.publish("small", TRAP)
    key = await stage.key("small")
    heavy = [
        asyncio.create_task(stage.call(f"heavy{number}", session=stranger(number)))
        for number in range(4)
    ]
    compiler = await stopped_compiler()
    try:
        status, answer = await first_of(stage.api("small", key), heavy)
        assert (status, answer["code"]) == (200, "guest-trap")
        assert len(children(kind="_compile_child")) == 1  # strangers compile one at a time
    finally:
        with suppress(ProcessLookupError):
            os.kill(compiler, signal.SIGKILL)


async def test_asynchronous_calls_of_strangers_leave_half_the_queue(
    short_queue: None, stage: RunnerStage
) -> None:
    """RN163: unknown payers cannot fill the queue of asynchronous calls."""
    large: dict[str, Any] = {
        "async": True,
        "input": "x" * 1_000_000,
        "resourceLimits": {"maxExecutionSeconds": 180},
    }
    key = await stage.key("echo")
    await stage.publish("asleep", SLEEPING)
    codes = []
    for number in range(3):
        for _ in range(10):
            status, answer = await stage.call("asleep", session=stranger(number), **large)
            if status != 200:
                codes.append((status, answer["error"]["code"]))
                break
    assert codes == [(429, "too-many-calls"), (429, "too-many-calls"), (503, "runner-busy")]
    body = {"input": "x" * 1_000_000, "async": True, "response_format": "Text"}
    status, answer = await stage.api("echo", key, body)
    assert (status, answer["status"]) == (200, "pending")
    assert (await stage.polled(answer["call_id"], key))[1]["status"] == "completed"


async def test_kept_answers_of_strangers_displace_their_own(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN168: 18 large answers of an unknown payer do not displace a key holder's answer."""
    monkeypatch.setattr(ledger, "MOST_DONE_BYTES", 1_000_000)
    key = await stage.key("echo")
    job = (await stage.api("echo", key, {"input": "mine", "async": True}))[1]["call_id"]
    assert (await stage.polled(job, key))[1]["output"] == "mine"

    async def answered(session: Session) -> str:
        asked_for: Any = {"async": True, "input": "x" * 60_000}
        other = (await stage.call("echo", session=session, **asked_for))[1]["job"]
        async with asyncio.timeout(PATIENCE_S):
            while (await status_of(other, session))[1].get("status") == "pending":
                await asyncio.sleep(0)
        return str(other)

    async def status_of(other: str, session: Session) -> tuple[int, dict[str, Any]]:
        return await stage.signed("GET", f"/calls/{other}", f"calls/{other}", session)

    others = [await answered(stranger(0)) for _ in range(18)]
    assert (await status_of(others[0], stranger(0)))[0] == 404  # its own first
    assert (await status_of(others[-1], stranger(0)))[0] == 200
    assert (await stage.polled(job, key))[1]["output"] == "mine"


async def test_receipts_of_strangers_displace_no_key_holder_s(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN168, RN169: receipts of new DIDs displace only those of unknown payers."""
    monkeypatch.setattr(journal, "_MOST_RECEIPTS", 6)
    key = await stage.key("echo")
    job = (await stage.api("echo", key))[1]["call_id"]
    own = [await stage.call("echo", session=stranger(number)) for number in range(5)]
    refused = [await stage.call("absent", session=stranger(number)) for number in range(10)]

    async def kept(job: str) -> bool:
        async with stage.http.get(f"{stage.url}/receipts/{job}") as got:
            return got.status == 200

    assert await kept(job)
    assert [await kept(answer["job"]) for _, answer in own] == [False, False, True, True, True]
    assert not any([await kept(answer["job"]) for _, answer in refused])
    assert all(answer["receipt"]["statement"]["code"] == "program-unknown" for _, answer in refused)


async def test_who_is_refused_for_now_learns_when_to_come_back(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN163: answers with 429 and 503 have `Retry-After`."""
    monkeypatch.setattr(calls, "PER_MINUTE", 0)
    headers = {"X-Payment-Key": await stage.key("echo")}
    async with stage.http.post(
        f"{stage.url}/call/{stage.developer}/echo", data=b'{"input": 1}', headers=headers
    ) as got:
        assert (got.status, got.headers["Retry-After"]) == (429, "5")
    monkeypatch.setattr(request_bodies, "MOST_CALLS", 0)
    async with stage.http.post(f"{stage.url}/keys", data=b"{}") as got:
        assert (got.status, got.headers["Retry-After"]) == (503, "5")


@pytest.mark.parametrize(
    ("method", "path", "about"), [("GET", "keys", "keys"), ("GET", "calls/ab", "calls/ab")]
)
async def test_strangers_who_ask_leave_the_disk_to_key_holders(
    stage: RunnerStage, method: str, path: str, about: str
) -> None:
    """RN163: a key is looked up while few tokens are verified and recorded."""
    key, now, entropy = await stage.key("echo"), SystemClock().now(), SystemEntropy()
    signed: dict[str, Any] = {
        "runner": stage.at,
        "program": about,
        "body": b"",
        "now": now,
        "entropy": entropy,
    }
    all_headers = [call_headers(stranger(number), **signed) for number in range(300)]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def ask(headers: dict[str, str]) -> None:
            async with http.request(method, f"{stage.url}/{path}", headers=headers) as answer:
                await answer.read()

        asking = [asyncio.create_task(ask(headers)) for headers in all_headers]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        before = sum(task.done() for task in asking)
        assert (await stage.api("echo", key))[0] == 200
        assert sum(task.done() for task in asking) - before < len(asking) // 2
        await asyncio.gather(*asking)


async def test_the_only_child_is_not_a_stranger_s() -> None:
    """RN162: a sleeping program of an unknown payer does not occupy a runner's only child."""
    async with Executor(children=1, spare=1) as executor:
        sleeper, echo = guest("probe-wasip1"), guest("count")
        request = run_request(sleeper, b"sleep 1000000", max_execution_s=LONG_S)
        sleepers = [
            asyncio.create_task(executor.run(replace(request, payer=_stranger()), sleeper.load))
            for _ in range(3)
        ]
        await until(lambda: sleeping() > 0)
        assert code(await first_of(run_guest(executor, echo, b"x"), sleepers)) == "completed"


async def test_a_compilation_that_gave_up_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """RN165: a program whose compilation timed out is refused without being loaded."""
    slow = Guest(crowded(3_000), "wasm32-wasip1")
    monkeypatch.setattr(_artefacts, "_COMPILE_S", 0.001)
    async with Executor(children=1, spare=1) as executor:
        gave_up = await run_guest(executor, slow)
        assert code(gave_up) == "compile-limit"
        assert detail_of(gave_up) == "more than 180 s"

        async def never() -> bytes:
            raise AssertionError("loaded again")

        assert (
            code(await executor.run(RunRequest(slow.sha256, slow.target), never)) == "compile-limit"
        )
        monkeypatch.setattr(_artefacts, "_COMPILE_S", 180.0)
        stranger_s = RunRequest(slow.sha256, slow.target, payer=_stranger())
        # each share remembers its own
        assert code(await executor.run(stranger_s, slow.load)) == "completed"


def _stranger() -> Payer:
    return Payer(Principal("did:key:stranger"), is_known=False)


async def test_compile_seconds_of_a_developer_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """RN165: one developer's hourly compilation limit does not affect other developers."""
    monkeypatch.setattr(_artefacts, "_DEVELOPER_S", 0.000_001)
    # A small program takes milliseconds, which would be given back while a busy machine waits.
    monkeypatch.setattr(_artefacts, "_BACK_PER_S", 0.0)
    async with Executor(children=1, spare=1) as executor:

        async def compiled(name: str, developer: str) -> str:
            program = guest(name)
            request = RunRequest(
                program.sha256,
                program.target,
                developer=developer,
                limits=run_request(program).limits,
            )
            return code(await executor.run(request, program.load))

        assert await compiled("count", "alice") == "completed"
        assert await compiled("content", "alice") == "runner-busy"
        assert await compiled("content", "bob") == "completed"
        assert await compiled("count", "alice") == "completed"  # it is compiled


async def test_compiled_programs_displace_those_of_their_own_payer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RN167: many small programs of one payer evict no program of another key."""
    monkeypatch.setattr(_artefacts, "_MOST_ARTEFACTS", 3)

    async def never() -> bytes:
        raise AssertionError("it is compiled")

    async with Executor(children=1, spare=1) as executor:
        kept, other = guest("count"), Payer(Principal("did:key:other"))
        assert (
            code(await executor.run(replace(run_request(kept), payer=_stranger()), kept.load))
            == "completed"
        )
        # from now on it counts to a key
        assert code(await executor.run(run_request(kept), never)) == "completed"
        for functions, payer in enumerate(
            [_stranger(), _stranger(), other, _stranger(), other, other], 1
        ):
            small = Guest(crowded(functions), "wasm32-wasip1")
            request = RunRequest(small.sha256, small.target, payer=payer)
            assert code(await executor.run(request, small.load)) == "completed"
        assert code(await executor.run(run_request(kept), never)) == "completed"


async def test_a_budget_pays_for_compilation(tmp_path: Path) -> None:
    """RN166, RN167: a compilation stops at its budget and is charged once."""
    async with AsyncExitStack() as stack:
        stage = await runner_stage(stack, tmp_path, price=Price(call=10, second=200))
        await stage.credit(1_000_000)
        key = await stage.key(None)

        async def called(functions: int, budget: str) -> tuple[int, dict[str, Any]]:
            body = {"input": 1, "response_format": "Text"}
            return await stage.api(f"heavy{functions}", key, body, X_Compute_Limit=budget)

        # A fast machine needs more of them; 240,000 take more memory than compiling may use.
        for functions in (15_000, 60_000, 120_000):
            await stage.publish(f"heavy{functions}", crowded(functions))
            status, answer = await called(functions, "210")
            if status != 200:
                break
        assert (status, answer["code"]) == (400, "compute-limit")
        assert 200 <= int(answer["compute_cost"]) <= 210
        status, answer = await called(functions, "9000")
        assert (status, answer["status"]) == (200, "completed")
        assert 110 <= int(answer["compute_cost"]) <= 9000
        status, answer = await called(functions, "210")
        assert (status, answer["compute_cost"]) == (200, "10")  # it is compiled
        account = await stage.account()
        assert account["reserved"] == 0
