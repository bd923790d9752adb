"""Tests of calls that wait for a free child, for the node, or for its rate limit (RN220 to
RN224)."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import wasmtime
from aiohttp import web
from guest_programs import Guest, code, guest, run_request
from patience import PATIENCE_S, until
from relay import Relay, relay_before
from runner_stage import ECHO, TRAP, RunnerStage, runner_stage

from capabilities.principals import Principal
from runner.calls import calls, published_programs, run
from runner.calls.prices import Price
from runner.guest.executor import Executor
from runner.http import sent_answers
from runner.reasons import RunRefused
from sealspace.apps import runners
from sealspace.apps.runners import call_runner, call_with_key
from sealspace.client import Client, TransportSettings
from sealspace.documents.project_names import parse_project
from serving.shares import Payer

PRICE = Price(call=1000, second=1)
LONG_S = 3600.0
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

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """A node, and a runner with prices, for the tests of this module."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"), price=PRICE)
        await staged.publish("echo", ECHO)
        await staged.publish("other", distinct("other"))
        await staged.publish("sleeping", SLEEPING)
        await staged.credit(1_000_000)
        yield staged


def distinct(name: str) -> bytes:
    return bytes(
        wasmtime.wat2wasm(f'{ECHO.rstrip().removesuffix(")")} (data (i32.const 900) "{name}"))')
    )


@dataclass
class Away:
    """A relay to the node that answers reads of the public projects with the HTTP status `status`.

    Attributes:
        status: project to the status of the answer; 0 ends the connection.
        later_s: seconds of `Retry-After`.
        reads: how often each project was read, refused reads included.
        headers: those of the last read of an active version.
    """

    relay: Relay
    status: dict[str, int] = field(default_factory=dict)
    later_s: int = 1
    reads: Counter[str] = field(default_factory=Counter)
    headers: dict[str, str] = field(default_factory=dict)

    async def hold(self, request: web.Request) -> None:
        if not request.path.startswith("/public/"):
            return
        _, _, key = request.path.partition("/kv/projects/")
        name = key.split("/")[0]
        self.reads[name] += 1
        if key.endswith("/active"):
            self.headers = dict(request.headers)
        status = self.status.get(name)
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
        if status is not None:
            raise {429: web.HTTPTooManyRequests, 503: web.HTTPServiceUnavailable}.get(
                status, web.HTTPInternalServerError
            )(headers={"Retry-After": str(self.later_s)})


@dataclass
class Far:
    """A runner that reaches the node through a relay, with that relay."""

    stage: RunnerStage
    away: Away


@pytest_asyncio.fixture(loop_scope="module")
async def far(stage: RunnerStage, tmp_path: Path) -> AsyncIterator[Far]:
    """A runner for one test, which the relay can cut off from the node."""
    async with relay_before(stage.node.url) as relay, AsyncExitStack() as stack:
        away = Away(relay)
        relay.hold = away.hold
        there = replace(stage, node=replace(stage.node, url=relay.url))
        runner = await there.another(stack, tmp_path / "runner", price=PRICE)
        await runner.credit(1_000_000)
        yield Far(runner, away)


# --- synchronous calls ----------------------------------------------------------------------------


async def test_a_call_waits_a_bounded_time_for_its_place(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN220: a call that gets no child in time is answered 503 with `Retry-After` and costs
    nothing."""
    key = await stage.key("sleeping")

    def asleep(limit_s: int) -> Coroutine[Any, Any, tuple[int, dict[str, Any]]]:
        limits = {"max_execution_seconds": limit_s}
        return stage.api("sleeping", key, {"input": "", "resource_limits": limits})

    assert (await asleep(1))[1]["code"] == "limit-time"  # compiled from now on
    before = await stage.account()
    monkeypatch.setattr(run, "START_S", 3.0)
    first, second = await asyncio.gather(asleep(5), asleep(5))
    late = first if first[0] == 503 else second
    ended = second if late is first else first
    assert ended[0] == 200, (first, second)
    assert ended[1]["code"] == "limit-time", (first, second)
    assert late[0] == 503
    assert late[1]["code"] == "runner-busy"
    assert late[1]["compute_cost"] == "0"
    async with stage.http.get(stage.url + late[1]["attestation_url"]) as got:
        assert (await got.json())["statement"]["code"] == "runner-busy"
    cost = int(ended[1]["compute_cost"])
    assert await stage.account() == before | {
        "balance": before["balance"] - cost,
        "charged": before["charged"] + cost,
    }


async def test_a_program_of_a_refused_call_is_not_compiled() -> None:
    """RN220, RN164: a call that waits too long for the compiler is refused, and its program is not
    compiled."""
    first, second = (Guest(distinct(name), "wasm32-wasip1") for name in ("first", "second"))
    loading, loaded, loads = asyncio.Event(), asyncio.Event(), list[str]()

    async def load() -> bytes:
        loading.set()
        await loaded.wait()
        return first.data

    async def load_second() -> bytes:
        loads.append("second")
        return second.data

    async with Executor(children=1, spare=1) as executor:
        payer = Payer(Principal("did:key:one"))  # which compiles one program at a time
        paid = replace(run_request(first, b"x"), payer=payer)
        compiling = asyncio.create_task(executor.run(paid, load))
        await loading.wait()
        now_s = asyncio.get_running_loop().time()
        request = replace(run_request(second), start_by_s=now_s, payer=payer)
        assert code(await executor.run(request, load_second)) == "runner-busy"
        loaded.set()
        assert code(await compiling) == "completed"
        assert loads == []


@pytest.mark.parametrize("failure", [RunRefused("node-unavailable"), TimeoutError(), KeyError()])
async def test_a_run_whose_request_fails_has_started(failure: Exception) -> None:
    """RN99, RN221: a run whose request fails with an exception counts as a whole run and is not
    tried again."""
    program = guest("cells-wasip2")

    async def fail(message: bytes) -> bytes:
        raise failure

    async with Executor(children=1, spare=1) as executor:
        request = replace(run_request(program, b"get\ta"), storage=fail)
        result = await executor.run(request, program.load)
        assert code(result) == "run-crashed"
        assert result.ran is True
        assert result.instructions == request.limits.max_instructions
        assert code(await executor.run(run_request(program), program.load)) == "completed"


# --- asynchronous calls ---------------------------------------------------------------------------


async def started(far: Far, name: str, key: str) -> str:
    status, answer = await far.stage.api(name, key, {"input": "x", "async": True})
    assert (status, answer["status"]) == (200, "pending")
    return str(answer["call_id"])


@pytest.mark.parametrize("status", [0, 429, 500, 503])
async def test_an_asynchronous_call_waits_for_the_node(
    far: Far, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """RN221: an asynchronous call that was accepted during an outage of the node runs once
    afterwards."""
    monkeypatch.setattr(calls, "PAUSES_S", (0.001,) * 100_000)
    monkeypatch.setattr(published_programs, "REFUSED_S", 0.0)
    key = await far.stage.key("echo")
    far.away.status = {"echo": status}
    job = await started(far, "echo", key)
    await until(lambda: far.away.reads["echo"] > 3)
    far.away.status = {}
    _, answer = await far.stage.polled(job, key)
    assert answer["status"] == "completed"
    assert answer["output"] == "x"
    account = await far.stage.account()
    assert account["charged"] == int(answer["compute_cost"]) and not account["reserved"]


async def test_an_asynchronous_call_that_waits_lets_others_run(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN221: a call that waits for its next attempt occupies no child, and the last failed attempt
    ends it."""
    monkeypatch.setattr(calls, "PAUSES_S", (LONG_S,))
    key = await far.stage.key(None)
    far.away.status = {"echo": 0}
    waiting = [await started(far, "echo", key) for _ in range(5)]
    _, answer = await far.stage.polled(await started(far, "other", key), key)
    assert answer["status"] == "completed"
    monkeypatch.setattr(calls, "PAUSES_S", ())
    _, answer = await far.stage.polled(await started(far, "echo", key), key)
    assert answer["code"] == "node-unavailable"
    assert answer["compute_cost"] == "0"
    for job in waiting:
        async with far.stage.http.get(
            f"{far.stage.url}/calls/{job}", headers={"X-Payment-Key": key}
        ) as got:
            assert (await got.json())["status"] == "pending"


async def test_a_waiting_call_survives_a_restart(
    stage: RunnerStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN221, RN99: after a restart the runner tries a call again that was waiting for the node."""
    monkeypatch.setattr(calls, "PAUSES_S", (LONG_S,))
    async with relay_before(stage.node.url) as relay:
        away = Away(relay, {"echo": 0})
        relay.hold = away.hold
        there = replace(stage, node=replace(stage.node, url=relay.url))
        async with AsyncExitStack() as stack:
            runner = await there.another(stack, tmp_path / "runner", price=PRICE)
            await runner.credit(1_000_000)
            key = await runner.key("echo")
            job = await started(Far(runner, away), "echo", key)
            await until(lambda: away.reads["echo"] > 0)
            async with asyncio.timeout(PATIENCE_S):
                while (await waiting_jobs(runner)) != 1:
                    pass
        away.status = {}
        async with AsyncExitStack() as stack:
            runner = await there.another(stack, tmp_path / "runner", price=PRICE)
            _, answer = await runner.polled(job, key)
            assert answer["status"] == "completed"
            assert answer["output"] == "x"


async def waiting_jobs(stage: RunnerStage) -> int:
    """Return how many jobs are waiting after at least one attempt."""
    statement = "SELECT count(*) FROM jobs WHERE state = 'waiting' AND version = 3"
    found = await stage.runner.journal.write(lambda one: one.execute(statement).fetchone())
    return int(found[0])


async def test_a_key_that_is_revoked_while_its_call_waits(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN89, RN221: the runner verifies a waiting call's API key again at each attempt."""
    monkeypatch.setattr(calls, "PAUSES_S", (0.001,) * 100_000)
    key = await far.stage.key("echo")
    far.away.status = {"echo": 0}
    job = await started(far, "echo", key)
    await until(lambda: far.away.reads["echo"] > 1)
    nonce = key.rsplit(":", 2)[1]
    await far.stage.signed("DELETE", f"/keys/{nonce}", f"keys/{nonce}/revoke")
    session = await far.stage.calling_session()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            _, said = await far.stage.signed("GET", f"/calls/{job}", f"calls/{job}", session)
            if said["status"] != "pending":
                break
    assert said["code"] == "key-refused"


# --- a node that limits reads ---------------------------------------------------------------------


async def called(far: Far, name: str = "echo") -> tuple[int, str]:
    status, answer = await far.stage.call(
        name, session=await far.stage.calling_session(), input="x"
    )
    return status, answer["error"]["code"] if "error" in answer else answer["output"]


async def test_first_reads_wait_for_the_node(far: Far) -> None:
    """RN222: the first call of a project waits until the node accepts reads again."""
    far.away.status = {"echo": 429}
    first = asyncio.create_task(called(far))
    await until(lambda: far.away.reads["echo"] > 1)
    far.away.status = {}
    assert await first == (200, "x")


async def test_a_node_that_refuses_for_ever(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN222, RN223: the last confirmed version runs for a limited time while the node refuses
    reads."""
    monkeypatch.setattr(published_programs, "FRESH_S", 0.0)
    assert await called(far) == (200, "x")
    far.away.status, far.away.later_s = {"echo": 429, "other": 429}, 3600
    far.away.reads.clear()
    assert [await called(far) for _ in range(5)] == [(200, "x")] * 5
    assert far.away.reads.total() == 1
    monkeypatch.setattr(published_programs, "CONFIRMED_S", 0.0)
    monkeypatch.setattr(run, "START_S", 0.5)
    assert (await called(far))[0] == 503
    assert (await called(far, "other"))[0] == 503
    assert far.away.reads.total() == 1


async def test_a_new_version_waits_for_the_node(
    far: Far, stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN223: a call waits for a newer active version instead of running the previous one."""
    monkeypatch.setattr(published_programs, "FRESH_S", 0.0)
    await stage.publish("renewed", distinct("renewed"))
    assert await called(far, "renewed") == (200, "x")
    await stage.publish("renewed", TRAP)
    refused: list[str] = []

    async def hold(request: web.Request) -> None:
        if "/versions/" in request.path and not refused:
            refused.append(request.path)
            raise web.HTTPTooManyRequests(headers={"Retry-After": "1"})

    far.away.relay.hold = hold
    assert await called(far, "renewed") == (200, "guest-trap")
    assert refused


@pytest.mark.parametrize("status", [0, 500])
async def test_a_node_that_does_not_answer(
    far: Far, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """RN223: the last confirmed version runs for a limited time while the node does not answer."""
    monkeypatch.setattr(published_programs, "FRESH_S", 0.0)
    assert await called(far) == (200, "x")
    far.away.status, far.away.later_s = {"echo": status}, 0
    monkeypatch.setattr(published_programs, "REFUSED_S", 0.0)
    assert await called(far) == (200, "x")
    monkeypatch.setattr(published_programs, "CONFIRMED_S", 0.0)
    assert await called(far) == (503, "node-unavailable")


async def test_an_active_version_is_read_on_condition(
    far: Far, stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN222: the runner reads the active version with a conditional request, and its statement only
    once."""
    monkeypatch.setattr(published_programs, "FRESH_S", 0.0)
    answers: list[tuple[str, int]] = []
    far.away.relay.twist = lambda answer: answers.append(
        (answer.path.rpartition("/")[2], answer.status)
    )
    assert await called(far) == (200, "x")
    answers.clear()
    assert await called(far) == (200, "x")
    assert answers == [("active", 304)]
    far.away.relay.twist = lambda answer: None
    agent = f"sealspace-runner ({far.stage.runner.did})"
    settings = TransportSettings(user_agent=agent)
    async with Client(far.stage.node.url, settings=settings) as client:
        space = client.public(stage.owner.kv("public").space.text)
        await space.get(parse_project(f"{far.stage.developer}/echo").active_key)
    assert far.away.headers["User-Agent"] == agent


async def test_a_removed_project_does_not_come_back(
    far: Far, stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN54, RN223: a removed project's last version does not run; a version published later
    does."""
    monkeypatch.setattr(published_programs, "FRESH_S", 0.0)
    await stage.publish("gone", distinct("gone"))
    project, space = parse_project(f"{stage.developer}/gone"), stage.owner.kv("public")
    former = {key: (await space.get(key)).body async for key in space.list("projects/gone/")}
    assert await called(far, "gone") == (200, "x")
    programs = stage.owner.programs(public=True)
    assert await programs.remove("gone", signer=stage.wallet) == 2
    assert await called(far, "gone") == (404, "program-unknown")
    far.away.status = {"gone": 0}
    assert await called(far, "gone") == (503, "node-unavailable")
    far.away.status = {}
    await space.put_many(former)
    assert await called(far, "gone") == (409, "program-older")
    await programs.remove("gone", signer=stage.wallet)
    assert [key async for key in space.list("projects/gone/")] == [project.active_key]


async def test_the_last_version_ends_while_the_node_is_asked(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN223: a version whose minute ends while the runner waits for the node does not run."""
    monkeypatch.setattr(published_programs, "FRESH_S", 0.0)
    assert await called(far) == (200, "x")

    async def hold(request: web.Request) -> None:
        if request.path.endswith("/active"):
            monkeypatch.setattr(published_programs, "CONFIRMED_S", 0.0)
            raise web.HTTPInternalServerError

    far.away.relay.hold = hold
    assert await called(far) == (503, "node-unavailable")


@pytest.mark.parametrize("is_removed", [False, True])
async def test_a_version_is_not_put_back_while_the_next_one_is_withheld(
    far: Far, stage: RunnerStage, monkeypatch: pytest.MonkeyPatch, is_removed: bool
) -> None:
    """RN54, RN225: the runner never goes back to a lower sequence number, even if the node
    withholds statements."""
    monkeypatch.setattr(published_programs, "FRESH_S", 0.0)
    name = f"withheld-{is_removed}".lower()
    await stage.publish(name, distinct(name))
    space = stage.owner.kv("public")
    former = {key: (await space.get(key)).body async for key in space.list(f"projects/{name}/")}
    assert await called(far, name) == (200, "x")
    if is_removed:
        await stage.owner.programs(public=True).remove(name, signer=stage.wallet)
        active = parse_project(f"{stage.developer}/{name}").active_key
        await space.put_many({key: body for key, body in former.items() if key != active})
        seen = (409, "program-statement")
    else:
        await stage.publish(name, TRAP)
        seen = (503, "node-unavailable")

    async def hold(request: web.Request) -> None:
        if "/versions/" in request.path and not is_removed:
            raise web.HTTPInternalServerError

    far.away.relay.hold = hold
    assert await called(far, name) == seen
    far.away.relay.hold = far.away.hold
    await space.put_many(former)
    assert await called(far, name) == (409, "program-older")


# --- clients --------------------------------------------------------------------------------------


async def test_a_client_signs_again_after_a_refusal(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN224: after a 503 the client waits and calls with a new token, at most three times."""
    monkeypatch.setattr(runners, "_MOST_PAUSE_S", 0.0)
    monkeypatch.setattr(published_programs, "REFUSED_S", 0.0)
    session, key = await far.stage.calling_session(), await far.stage.key("echo")
    body: dict[str, Any] = {"source": {"project": f"{far.stage.developer}/echo"}, "input": "x"}
    project, waits = parse_project(f"{far.stage.developer}/echo"), list[str]()
    far.away.status = {"echo": 0}
    for ask in (
        lambda seen: call_runner(far.stage.url, session, body, on_wait=seen),
        lambda seen: call_with_key(far.stage.url, key, project, {"input": "x"}, on_wait=seen),
    ):
        waits.clear()
        far.away.status = {"echo": 0}
        answer = await ask(lambda code, _: waits.append(code))
        assert "node-unavailable" in json.dumps(answer)
        assert waits == ["node-unavailable"] * 2
        answer = await ask(lambda code, _: far.away.status.clear())
        assert answer["status"] == "completed"
        assert answer["output"] == "x"
        far.stage.runner.programs._found.clear()


async def test_a_program_that_ran_is_not_called_again(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN224, RN158: the client does not call again after a program ran but its answer could not be
    sent."""
    monkeypatch.setattr(sent_answers, "MOST_ANSWER_BYTES", 0)
    monkeypatch.setattr(sent_answers, "_SMALL_BYTES", 0)
    session, waits = await far.stage.calling_session(), list[str]()
    body: dict[str, Any] = {"source": {"project": f"{far.stage.developer}/echo"}, "input": "x"}
    answer = await call_runner(
        far.stage.url, session, body, on_wait=lambda code, _: waits.append(code)
    )
    error = answer["error"]
    assert isinstance(error, dict)
    assert error["code"] == "answer-unsent"
    assert waits == []
