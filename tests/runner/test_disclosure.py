"""What a caller is told of a run that had secrets of others (RN85, RN297)."""

import json
import random
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert
from runner_stage import ECHO, RunnerStage, runner_stage
from tests_support import REPOSITORY

from runner.calls.call_answers import api_answer, run_answer, task_answer
from runner.calls.disclosure import without_traces
from runner.calls.run import Outcome
from runner.calls.run_receipts import RunFacts
from runner.guest.runs import Limits, ResponseFormat, RunRequest, RunResult, StorageState
from runner.reasons import REASONS
from sealspace.documents.call_conditions import AllowAll
from sealspace.documents.run_grants import ByHash, GrantLimits, RunStatement

_OF_ONE_CALL = {"job", "at", "inputHash", "outputHash", "start"}
"""What differs between any two receipts: identifiers, times, and hashes with a salt."""
# How far it comes depends on the first character of the secret: by what it writes to standard
# error, by what it computes, and by its exit code.
_TELLTALE = """(module
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 16)
  (func (export "_start") (local $at i32) (local $first i32) (local $left i32)
    (drop (call $environ (i32.const 4096) (i32.const 65536)))
    (local.set $at (i32.const 65535))
    (loop $scan
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $scan (i64.ne (i64.load (local.get $at)) (i64.const 0x3D59454B5F495041))))
    (local.set $first (i32.load8_u offset=8 (local.get $at)))
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.mul (local.get $first) (i32.const WRITTEN)))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
    (local.set $left (i32.mul (local.get $first) (i32.const COMPUTED)))
    (loop $compute
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $compute (local.get $left)))
    END))"""
_ENDS = {
    "limit-memory": """(if (i32.eq (memory.grow (i32.const 4096)) (i32.const -1))
      (then (call $exit (local.get $first))))""",
    "limit-instructions": "(loop $forever (br $forever))",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module."""
    async with AsyncExitStack() as stack:
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("code", sorted(_ENDS))
async def test_RN297_a_limit_of_the_caller_tells_nothing(stage: RunnerStage, code: str) -> None:
    """RN297: of runs that a limit of their caller ended, two secrets of one length give the same
    answer and the same receipt."""
    written, computed = random.randint(1, 500), random.randint(20_000, 80_000)
    limits = {
        "maxMemoryMb": random.randint(2, 100),
        "maxInstructions": random.randint(100, 200) * 1_000_000,
        "maxExecutionSeconds": random.randint(50, 59),  # never reached, also on a busy machine
    }
    program = _TELLTALE.replace("WRITTEN", str(written)).replace("COMPUTED", str(computed))
    version = await stage.publish(code, program.replace("END", _ENDS[code]))
    seen = []
    for secret in ("1", "z"):
        await stage.owner.secrets().put("API_KEY", secret)
        await stage.grant(
            ["API_KEY"], RunStatement(programs=(ByHash(version.sha256),), callers=AllowAll())
        )
        status, answer = await stage.call(code, secrets=stage.developer, resourceLimits=limits)
        assert (status, answer["error"]["code"]) == (200, code)
        seen.append(_without_what_always_differs(answer))
    assert seen[0] == seen[1]
    assert "stderrBytes" not in seen[0]
    session = await stage.calling_session()
    _, to_owner = await stage.call(
        code, session=session, secrets=stage.developer, resourceLimits=limits
    )
    assert to_owner["stderrBytes"] == ord("z") * written


def _without_what_always_differs(answer: dict[str, Any]) -> dict[str, Any]:
    statement = answer["receipt"]["statement"]
    kept = {name: value for name, value in statement.items() if name not in _OF_ONE_CALL}
    rest = {name: value for name, value in answer.items() if name not in ("job", "salt", "receipt")}
    return rest | {"statement": kept}


@pytest.mark.asyncio(loop_scope="module")
async def test_RN297_a_limit_of_a_grant_is_no_limit_of_the_caller(stage: RunnerStage) -> None:
    """RN297: a run that a limit of the grant ended states what it used."""
    program = _TELLTALE.replace("WRITTEN", "1").replace("COMPUTED", "1000")
    version = await stage.publish("granted", program.replace("END", _ENDS["limit-memory"]))
    await stage.owner.secrets().put("API_KEY", "1")
    limits = GrantLimits(max_memory_mb=64)
    statement = RunStatement(programs=(ByHash(version.sha256),), callers=AllowAll(), limits=limits)
    await stage.grant(["API_KEY"], statement)
    _, answer = await stage.call("granted", secrets=stage.developer)
    assert answer["error"]["code"] == "limit-memory"
    assert answer["metrics"]["instructions"] == 1_000_000


_MOST = Limits()
_STATED = {"max_instructions": 5_000_000, "max_memory_mb": 16, "max_execution_s": 3}
_REQUEST = RunRequest(
    wasm_sha256="ab" * 32,
    target="wasm32-wasip1",
    limits=replace(_MOST, **_STATED),
    secrets_delivered=True,
    hosts=frozenset({"a.example", "b.example"}),
    has_storage=True,
)
_CODES = ("limit-instructions", "limit-memory", "limit-time")
_STORAGE_STATES: tuple[StorageState, ...] = ("none", "written", "unknown")


@st.composite
def _results(draw: st.DrawFn, code: str) -> RunResult:
    """Draw the result of a run that a limit ended."""
    exit_code = draw(st.sampled_from(["", "0", "7"]))
    return RunResult(
        REASONS[code]._replace(detail=exit_code),
        stderr=draw(st.binary(max_size=9)),
        stdout=draw(st.binary(max_size=9)),
        stderr_bytes=draw(st.integers(0, 10**9)),
        instructions=draw(st.integers(0, 5_000_000)),
        time_ns=draw(st.integers(0, 3 * 10**9)),
        secrets_delivered=True,
        hosts=draw(st.sampled_from([(), ("a.example",), ("a.example", "b.example")])),
        storage=draw(st.sampled_from(_STORAGE_STATES)),
    )


@given(data=st.data(), code=st.sampled_from(_CODES))
def test_RN297_whatever_a_program_did_is_told_alike(data: st.DataObject, code: str) -> None:
    """RN297: of two runs that the same limit of their caller ended, the results that it is told
    differ in the length of standard error alone, which its answer leaves out."""
    told = []
    for _ in range(2):
        result = data.draw(_results(code))
        shown = without_traces(result, _REQUEST, stated=_STATED, most=_MOST)
        assert shown.is_stderr_private
        told.append(replace(shown, stderr_bytes=0))
    assert told[0] == told[1]


@given(data=st.data(), code=st.sampled_from(_CODES))
def test_RN297_only_a_lower_limit_is_the_caller_s(data: st.DataObject, code: str) -> None:
    """RN297: who states what the runner allows anyway has no limit of its own."""
    result = data.draw(_results(code))
    allowed = {name: getattr(_MOST, name) for name in _STATED}
    shown = without_traces(result, _REQUEST, stated=allowed, most=_MOST)
    kept = (shown.instructions, shown.time_ns, shown.hosts, shown.storage, shown.reason)
    assert kept == (
        result.instructions,
        result.time_ns,
        result.hosts,
        result.storage,
        result.reason,
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_RN297_the_table_has_every_member(stage: RunnerStage) -> None:
    """RN297: whatever is in an answer or a receipt has its row in the table."""
    await stage.publish("echo", ECHO)
    _, answer = await stage.call("echo", input="1", responseFormat="Json")
    outcome = Outcome(
        salt=b"",
        facts=convert({"task": False} | answer["receipt"]["statement"], RunFacts, strict=False),
        result=RunResult(
            None, stderr=b"e", stdout=b"o", answer=b"1", answer_format=ResponseFormat.JSON
        ),
        receipt=b"{}",
        stores_receipt=True,
    )
    told = set(RunFacts.__struct_encode_fields__)
    for made in (
        run_answer(outcome),
        task_answer(outcome),
        task_answer(replace(outcome, result=replace(outcome.result, reason=REASONS["guest-exit"]))),
        api_answer(outcome, charged=0),
    ):
        told |= set(json.loads(made.body))
    told -= {"metrics"}
    told |= {"metrics.instructions", "metrics.timeMs"} | set(answer["receipt"]["statement"])
    rows = set(re.findall(r"`([\w.]+)`", "".join(_first_cells())))
    assert told - {"type"} <= rows


def _first_cells() -> list[str]:
    page = (REPOSITORY / "spec" / "runner" / "disclosure.md").read_text("utf-8")
    return [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
