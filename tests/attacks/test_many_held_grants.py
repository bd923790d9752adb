"""Requests to a runner that holds many grants (RN252)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from runner_stage import ECHO, RunnerStage, runner_stage

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from sealspace.apps.run_calls import call_headers
from sealspace.delegations import allow
from sealspace.documents import run_grants
from sealspace.documents.generation_grants import GENERATE, generation_body
from sealspace.session import Session, key_session

NAMES = [f"PROTECTED_{number}" for number in range(8)]
STRANGERS = 5

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """A runner that holds grants to generate secrets, with a published program."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"))
        await staged.publish("echo", ECHO)
        await staged.owner.runners.generate(
            await staged.look(), {"PROTECTED_FIRST": "hex32"}, wallet=staged.wallet
        )
        for name in NAMES:
            wanted = [allow(staged.owner.secrets().resource(name), "tinycloud.kv/put")]
            portable = await staged.owner.delegations.delegate(
                staged.runner.did, wanted, wallet=staged.wallet, ttl_s=600
            )
            await staged.runner.accept(portable)
        yield staged


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the texts of the grants whose signatures are verified during a test."""
    texts = list[str]()
    verify = run_grants._verify

    def counted(header: str) -> Any:
        texts.append(header)
        return verify(header)

    monkeypatch.setattr(run_grants, "_verify", counted)
    return texts


async def generated(
    stage: RunnerStage, session: Session, owner: str, name: str
) -> tuple[int, dict[str, Any]]:
    """Request a generated secret from the runner."""
    body = json.dumps(generation_body(owner, None, {name: "hex16"})).encode()
    headers = call_headers(
        session,
        runner=stage.at,
        program=GENERATE,
        body=body,
        now=SystemClock().now(),
        entropy=SystemEntropy(),
    )
    async with stage.http.post(
        f"{stage.url}/secrets/generate", data=body, headers=headers
    ) as answer:
        return answer.status, json.loads(await answer.read())


async def test_requests_of_strangers_verify_no_held_grant(
    stage: RunnerStage, verified: list[str]
) -> None:
    """RN252: requests of strangers do not verify the signatures of known grants again."""
    sessions = [key_session(SystemEntropy().token(32)) for _ in range(STRANGERS)]
    stage.runner.grants.generation_grants()
    verified.clear()
    answers = await asyncio.gather(
        *(generated(stage, one, one.owner, NAMES[0]) for one in sessions)
    )
    refusals = [(status, answer["error"]["code"]) for status, answer in answers]
    assert refusals == [(403, "generation-not-granted")] * STRANGERS
    assert (await stage.call("echo", input="x"))[1]["output"] == "x"
    assert not verified


async def test_a_new_grant_is_verified_once(stage: RunnerStage, verified: list[str]) -> None:
    """RN252: the runner verifies the signature of a new grant once, on whichever route needs it
    first."""
    wanted = [allow(stage.owner.secrets().resource("PROTECTED_NEW"), "tinycloud.kv/put")]
    portable = await stage.owner.delegations.delegate(
        stage.runner.did, wanted, wallet=stage.wallet, ttl_s=600
    )
    await stage.runner.backend.hold(portable)
    verified.clear()
    session = await stage.calling_session()
    assert (await generated(stage, session, stage.developer, "PROTECTED_NEW"))[0] == 200
    assert (await stage.call("echo", input="x", secrets=stage.developer))[0] == 403
    assert (await generated(stage, session, stage.developer, "PROTECTED_NEW"))[0] == 200
    assert verified == [portable.header]


async def test_a_verified_grant_is_not_used_once_it_is_revoked(
    stage: RunnerStage, verified: list[str]
) -> None:
    """RN252: the runner refuses a revoked grant even if its signature was verified before."""
    (cid, *_) = [
        grant.cid
        for grant, read in stage.runner.grants.generation_grants()
        if {one.name for one in read.secrets} == {NAMES[1]}
    ]
    verified.clear()
    await stage.runner.backend.disuse([cid])
    session = await stage.calling_session()
    status, answer = await generated(stage, session, stage.developer, NAMES[1])
    assert (status, answer["error"]["code"]) == (403, "generation-not-granted")
    assert (await generated(stage, session, stage.developer, NAMES[2]))[0] == 200
    assert not verified


async def test_a_verified_grant_is_not_used_once_it_has_ended(
    stage: RunnerStage, verified: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN252: the runner refuses an expired grant even if its signature was verified before."""
    wanted = [allow(stage.owner.secrets().resource("PROTECTED_SHORT"), "tinycloud.kv/put")]
    portable = await stage.owner.delegations.delegate(
        stage.runner.did, wanted, wallet=stage.wallet, ttl_s=60
    )
    await stage.runner.accept(portable)
    session = await stage.calling_session()
    assert (await generated(stage, session, stage.developer, "PROTECTED_SHORT"))[0] == 200
    verified.clear()
    now = SystemClock.now
    monkeypatch.setattr(SystemClock, "now", staticmethod(lambda: now() + 61))
    status, answer = await generated(stage, session, stage.developer, "PROTECTED_SHORT")
    assert (status, answer["error"]["code"]) == (403, "generation-not-granted")
    assert (await generated(stage, session, stage.developer, NAMES[3]))[0] == 200
    assert not verified


async def test_a_verified_grant_that_its_owner_revoked(
    stage: RunnerStage, verified: list[str]
) -> None:
    """RN252: the runner refuses a grant that was revoked at the node alone, and remembers the
    revocation."""
    (cid, *_) = [
        grant.cid
        for grant, read in stage.runner.grants.generation_grants()
        if {one.name for one in read.secrets} == {NAMES[4]}
    ]
    session = await stage.calling_session()
    assert (await generated(stage, session, stage.developer, NAMES[4]))[0] == 200
    verified.clear()
    await stage.owner.delegations.revoke_by_wallet(cid, stage.wallet)
    for _ in range(2):  # the node refuses the first write; then the runner knows, too
        status, answer = await generated(stage, session, stage.developer, NAMES[4])
        assert (status, answer["error"]["code"]) == (403, "generation-not-granted")
        assert not answer["generated"]
    states = {grant.cid: state for grant, state in stage.runner.backend.grants}
    assert states[cid] == "revoked"
    assert not verified
