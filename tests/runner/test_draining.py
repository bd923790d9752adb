"""A runner that is about to stop starts no further call (RN295)."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from patience import until
from runner_stage import ECHO, RunnerStage, runner_stage

from runner.calls.prices import Price

PRICE = Price(call=1000)
LOOP = '(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))'
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """A node and its parties; each test starts a runner with its own journal."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"), price=PRICE)
        await staged.publish("echo", ECHO)
        await staged.publish("loop", LOOP)
        yield staged


async def test_no_further_call_starts(stage: RunnerStage, tmp_path: Path) -> None:
    """RN295: when a started call has ended, the next one waits in the journal, and a new one is
    refused."""
    briefly = {"input": 1, "async": True, "resource_limits": {"max_execution_seconds": 1}}
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", price=PRICE)
        await runner.credit(100_000)
        key = await runner.key(None, max_per_call=1000)
        # of one payer one starts, and the others wait (RN162)
        jobs = [(await runner.api("loop", key, briefly))[1]["call_id"]]
        for _ in range(2):
            jobs.append((await runner.api("echo", key, {"input": 1, "async": True}))[1]["call_id"])
        calls = runner.calls
        await until(lambda: bool(calls._started))
        calls.begin_drain(60)
        status, refused = await runner.api("echo", key, {"input": 1})
        assert status == 503 and refused["code"] == "runner-closed"
        async with runner.http.get(f"{runner.url}/readyz") as ready:
            assert ready.status == 503
        await until(lambda: not calls._tasks)
        records = [await calls.ledger.job(job) for job in jobs]
        assert [record and record.state for record in records] == ["done", "waiting", "waiting"]
        account = await calls.ledger.account(runner.developer)
        assert account is not None and account.reserved == 2000
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", price=PRICE)
        answers = [(await runner.polled(job, key))[1] for job in jobs]
        assert [answer["status"] for answer in answers] == ["failed", "completed", "completed"]
        assert answers[0]["code"] == "limit-time"
