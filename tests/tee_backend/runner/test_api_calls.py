"""The HTTPS API: calls with keys, what they cost, and what is answered later (RN90 to RN101)."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from runner_stage import ECHO, ENVIRONMENT, TRAP, RunnerStage, runner_stage

from tee_backend.runner.prices import Price

PRICE = Price(call=1000, million_instructions=1, second=1)
CREDIT = 1_000_000

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner that charges, for the tests of this module."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"), price=PRICE)
        await staged.publish("echo", ECHO)
        await staged.publish("trap", TRAP)
        await staged.publish("environment", ENVIRONMENT)
        await staged.credit(CREDIT)
        yield staged


async def test_a_key_calls_and_its_owner_pays(stage: RunnerStage) -> None:
    """RN96, RN97, RN99: input as compact JSON, output, cost; what was reserved beyond it is given back."""
    before = await stage.account()
    status, answer = await stage.api("echo", await stage.key("echo"), {"input": {"n": [1, 2.50]}})
    assert status == 200, answer
    assert answer["output"] == {"n": [1, 2.5]} and answer["status"] == "completed" and answer["error"] is None
    cost = int(answer["compute_cost"])
    assert cost == PRICE.cost(instructions=answer["instructions"], time_ms=answer["time_ms"]) >= 1001
    after = await stage.account()
    assert after == {**before, "balance": before["balance"] - cost, "charged": before["charged"] + cost}
    async with stage.http.get(stage.url + answer["attestation_url"]) as got:
        assert (await got.json())["statement"]["job"] == answer["call_id"]


async def test_later(stage: RunnerStage) -> None:
    """RN101: an asynchronous call is answered to its key, and to its owner."""
    key = await stage.key("echo")
    status, answer = await stage.api("echo", key, {"input": [1], "async": True})
    assert (status, answer["status"]) == (200, "pending")
    assert answer["poll_url"] == f"/calls/{answer['call_id']}"
    status, done = await stage.polled(answer["call_id"], key)
    assert (status, done["status"], done["output"]) == (200, "completed", [1])


async def test_failed_runs_cost_and_refused_ones_do_not(stage: RunnerStage) -> None:
    """RN97: a program that trapped is charged, one that is not there is not; both say why."""
    key = await stage.key(None)
    before = await stage.account()
    status, answer = await stage.api("trap", key)
    assert (status, answer["status"], answer["code"]) == (200, "failed", "guest-trap")
    assert int(answer["compute_cost"]) == 1001 and answer["output"] is None
    status, answer = await stage.api("absent", key)
    assert (status, answer["code"], answer["compute_cost"]) == (404, "program-unknown", "0")
    assert before["balance"] - (await stage.account())["balance"] == 1001
