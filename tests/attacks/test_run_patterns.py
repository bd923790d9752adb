"""Attacks by costly patterns in a grant's conditions, which any stranger can send (RN210,
RN250)."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from runner_stage import ECHO, RunnerStage, runner_stage

from capabilities.principals import parse_principal
from runner.calls import calls
from runner.calls.grant_judging import ConditionJudge
from sealspace.apps.backends import deliver
from sealspace.documents.builds import Build
from sealspace.documents.call_conditions import (
    MAX_PATTERN_STEPS,
    AccountPattern,
    AllowAll,
    Call,
    Condition,
    Logic,
    Not,
    WasmHash,
    judge_call,
)
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.errors import GrantNotTaken, InvalidInput
from sealspace.wallets import new_wallet
from sealspace.wire.portable import PortableDelegation
from serving.shares import Payer

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPOSITORY = "github.com/alice/project"
COSTLY = AccountPattern("(.?){900}0")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module; each test has commits and programs of its own."""
    pytest.importorskip("re2", reason="google-re2 is not installed: no pattern is compiled")
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"))
        await staged.owner.secrets().put("API_KEY", "value")
        yield staged


def statement(
    stage: RunnerStage, commit: str, callers: Condition, *, builds: int = 64
) -> RunStatement:
    """Return terms that name the given number of builds of one commit."""
    build = Build(
        repository=REPOSITORY,
        repository_id="1001",
        ref="refs/heads/main",
        commit=commit * 40,
        workflow=f"{REPOSITORY}/.github/workflows/release.yml",
    )
    project = parse_project(f"{stage.developer}/built")
    rules = tuple(ByHash(f"{number:064x}", project, build) for number in range(builds))
    return RunStatement(programs=rules, callers=callers)


async def made(
    stage: RunnerStage, run: RunStatement, monkeypatch: pytest.MonkeyPatch
) -> PortableDelegation:
    """Return a grant by a client that does not check patterns."""
    with monkeypatch.context() as patched:
        patched.setattr("sealspace.apps.runners.require_bounded_patterns", lambda _: None)
        return await stage.owner.runners.grant(
            await stage.look(), ["API_KEY"], run, wallet=stage.wallet
        )


async def called(stage: RunnerStage, commit: str) -> tuple[int, Any]:
    """Call as a stranger for the source of a commit, with the owner's secrets."""
    source = {"GitHub": {"repo": REPOSITORY, "commit": commit * 40}}
    status, answer = await stage.call("", source=source, secrets=stage.developer)
    return status, answer["error"]["code"]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Record the patterns that are compiled from now on."""
    import re2

    patterns: list[bytes] = []
    compile_pattern = re2.compile

    def counting(pattern: bytes, options: Any) -> Any:
        patterns.append(pattern)
        return compile_pattern(pattern, options)

    monkeypatch.setattr(re2, "compile", counting)
    return patterns


async def test_a_costly_pattern_is_not_accepted(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN210: the runner refuses a grant with a costly pattern, and the client refuses to sign
    one."""
    run = statement(stage, "1", Logic("Or", (AllowAll(), COSTLY)))
    figures = f"takes [0-9]{{6}} steps for the longest DID; the maximum is {MAX_PATTERN_STEPS}"
    with pytest.raises(InvalidInput, match=figures):
        await stage.grant(["API_KEY"], run)
    portable = await made(stage, run, monkeypatch)
    with pytest.raises(GrantNotTaken, match=figures) as refused:
        await deliver(stage.url, portable)
    assert "next: use smaller counts" in str(refused.value)
    assert portable.cid not in {one.grant.cid for one in stage.runner.backend.grants}


async def test_a_costly_pattern_of_a_held_grant(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN210: a stored grant with a costly pattern admits no caller, and only its owner learns the
    cost."""
    version = await stage.publish("held", ECHO)
    run = RunStatement(
        programs=(ByHash(version.sha256),), callers=Logic("And", (AllowAll(), Not(COSTLY)))
    )
    await stage.runner.backend.accept(await made(stage, run, monkeypatch))
    status, answer = await stage.call("held", secrets=stage.developer)
    assert (status, answer["error"]["code"]) == (403, "access-unknown")
    assert str(MAX_PATTERN_STEPS) not in json.dumps(answer)
    session = await stage.calling_session()
    status, answer = await stage.call("held", session=session, secrets=stage.developer)
    assert (status, answer["error"]["code"]) == (403, "access-unknown")
    assert f"the maximum is {MAX_PATTERN_STEPS}" in answer["error"]["detail"]


async def test_a_condition_is_judged_once_for_a_call(
    stage: RunnerStage, compiled: list[bytes]
) -> None:
    """RN250: 64 rules of one grant do not multiply the cost of its condition."""
    await stage.grant(["API_KEY"], statement(stage, "2", AccountPattern("did:key:nobody.*")))
    stage.runner.grants.run_grants()  # reads the new grant, and compiles its pattern
    compiled.clear()
    assert await called(stage, "2") == (404, "program-unknown")
    assert len(compiled) == 1


async def test_a_condition_on_the_hash_of_several_builds(stage: RunnerStage) -> None:
    """RN242, RN250: a condition on the hash is undecided while a commit has several builds."""
    hashed = WasmHash(f"{0:064x}")
    await stage.grant(["API_KEY"], statement(stage, "3", hashed, builds=2))
    assert await called(stage, "3") == (404, "program-unknown")
    await stage.grant(["API_KEY"], statement(stage, "4", hashed, builds=1))
    # The project is found; this version of it was never published.
    located = await stage.call(
        "",
        source={"GitHub": {"repo": REPOSITORY, "commit": "4" * 40}},
        secrets=stage.developer,
    )
    assert located[1]["job"]
    await stage.grant(
        ["API_KEY"], statement(stage, "5", Logic("Or", (hashed, AllowAll())), builds=2)
    )
    located = await stage.call(
        "",
        source={"GitHub": {"repo": REPOSITORY, "commit": "5" * 40}},
        secrets=stage.developer,
    )
    assert located[1]["job"]


async def test_nothing_is_judged_for_a_call_without_a_place(
    stage: RunnerStage,
    tmp_path: Path,
    compiled: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RN250: a call beyond its payer's limit is refused before any condition is evaluated."""
    monkeypatch.setattr(calls, "MOST_ANSWERED", 0)
    async with AsyncExitStack() as stack:
        full = await stage.another(stack, tmp_path / "full")
        await full.grant(["API_KEY"], statement(stage, "6", AccountPattern("did:key:nobody.*")))
        full.runner.grants.run_grants()
        compiled.clear()
        assert await called(full, "6") == (429, "too-many-calls")
        assert not compiled


async def test_strangers_leave_most_of_the_time_to_others() -> None:
    """RN250: after a stranger's condition, the next stranger's condition waits four times as
    long."""
    pytest.importorskip("re2", reason="google-re2 is not installed: no pattern is compiled")
    # No wallet's DID ends like this: its address is hexadecimal.
    condition = Logic("Or", tuple(AccountPattern(f"(.?){{60}}x{end}") for end in range(16)))
    owner = parse_principal(new_wallet().did)
    asked = []
    for _ in range(5):
        stranger = parse_principal(new_wallet().did)
        asked.append(Call(caller=stranger, owner=owner, wasm_sha256=None, now=0.0))
    durations_s = []
    for call in asked:
        began_s = time.perf_counter()
        assert judge_call(condition, call) is False
        durations_s.append(time.perf_counter() - began_s)
    judge = ConditionJudge()
    began_s = time.perf_counter()
    verdicts = await asyncio.gather(
        *(judge.verdict(condition, call, Payer(call.caller, is_known=False)) for call in asked)
    )
    took_s = time.perf_counter() - began_s
    assert verdicts == [False] * 5
    pauses = len(asked) - 1
    assert took_s > pauses * 4 * min(durations_s)
