"""Children that are kept for calls of one scope: what they run, what a call finds, their end."""

import asyncio
import os
import signal
from dataclasses import replace
from typing import Any

import pytest
import wasmtime
from guest_programs import (
    BOTH,
    Guest,
    are_gone,
    children,
    code,
    guest,
    run_guest,
    run_request,
    running,
)
from patience import until

from capabilities.principals import Principal
from runner.calls.reuse_scopes import ReadSecret, ReuseScopes
from runner.guest import child as _child
from runner.guest import kept_children as _kept_children
from runner.guest.child import Child
from runner.guest.executor import Executor
from runner.guest.runs import Limits, ReuseScope, RunRequest, RunResult
from serving.shares import Payer

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCOPE = ReuseScope(b"series", b"contents")
PROBE = BOTH[0]
_SECRET = "a value of one call"

_LOOKS = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (table $table 1 20 funcref)
  (global $global (mut i32) (i32.const 0))
  (func $digit (param $at i32) (param $value i32)
    (i32.store8 (local.get $at) (i32.add (i32.const 48) (local.get $value))))
  (func (export "_start")
    (call $digit (i32.const 100) (global.get $global))
    (call $digit (i32.const 101) (i32.load8_u (i32.const 5000)))
    (call $digit (i32.const 102) (memory.size))
    (call $digit (i32.const 103) (table.size $table))
    (drop (memory.grow (i32.const 1)))
    (call $digit (i32.const 104) (i32.load8_u (i32.const 70000)))
    (global.set $global (i32.const 7))
    (i32.store8 (i32.const 5000) (i32.const 7))
    (i32.store8 (i32.const 70000) (i32.const 7))
    (drop (table.grow $table (ref.null func) (i32.const 4)))
    (i32.store (i32.const 0) (i32.const 100))
    (i32.store (i32.const 4) (i32.const 5))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
"""
"""Writes what it finds in its global, its memory, the sizes of memory and table, and a new page;
then it changes all of them."""

_SENDS_MORE = (
    "from runner.guest import run_child as _run_child\n"
    "_pack = _run_child._frames.pack\n"
    "_run_child._frames.pack = lambda *parts: _pack(*parts) + b'more'\n"
)


def payer(number: int, *, is_known: bool = True) -> Payer:
    return Payer(Principal(f"did:key:{number}"), is_known)


def scope(number: int, contents: bytes = b"contents") -> ReuseScope:
    return ReuseScope(b"series %d" % number, contents)


async def ran(executor: Executor, given: bytes, about: ReuseScope, **more: Any) -> RunResult:
    """Run the probe with a secret, in a child of the scope."""
    program = guest(PROBE)
    request = run_request(program, given, secrets={"KEY": more.pop("value", _SECRET)}, **more)
    return await executor.run(replace(request, reuse=about), program.load)


def idle(executor: Executor) -> list[Child]:
    """Return the kept children, the one that waits longest first."""
    return list(executor._kept._idle)


async def only_idle(executor: Executor) -> Child:
    (child,) = idle(executor)
    return child


@pytest.mark.parametrize("name", BOTH)
async def test_calls_of_one_scope_have_one_child(name: str) -> None:
    """RN260: the next call of a scope runs in the same process, in a new instance."""
    program = guest(name)
    async with Executor(children=1, spare=1) as executor:
        seen = []
        for value in ("one", "two"):
            request = run_request(program, b"env KEY", secrets={"KEY": value})
            result = await executor.run(replace(request, reuse=SCOPE), program.load)
            # The environment is of this call alone.
            assert result.output == f'{{"KEY":"{value}"}}'.encode()
            request = run_request(program, b"calls", secrets={"KEY": value})
            result = await executor.run(replace(request, reuse=SCOPE), program.load)
            assert result.output == b"1"
            seen += idle(executor)
        assert len(seen) == 2 and seen[0] is seen[1]
        assert seen[0].runs == 4


async def test_a_call_finds_nothing_of_the_one_before() -> None:
    """RN26: globals, memory, its size, tables and new pages are as in a first call."""
    program = Guest(bytes(wasmtime.wat2wasm(_LOOKS)), "wasm32-wasip1")
    async with Executor(children=1, spare=1) as executor:
        for _ in range(3):
            request = run_request(program, secrets={"KEY": _SECRET})
            result = await executor.run(replace(request, reuse=SCOPE), program.load)
            assert (code(result), result.output) == ("completed", b"00110")
        assert (await only_idle(executor)).runs == 3


async def test_output_of_a_former_call() -> None:
    """RN26: what a call wrote to its streams is not in the answer of the next."""
    async with Executor(children=1, spare=1) as executor:
        first = await ran(executor, b"complain 100000 1000", SCOPE)
        assert first.stderr_bytes == 100_000
        assert (await ran(executor, b"echo\n" + b"x" * 70_000, SCOPE)).output == b"x" * 70_000
        second = await ran(executor, b"echo\nshort", SCOPE)
        assert (bytes(second.output), second.stderr, second.stderr_bytes) == (b"short", b"", 0)
        assert (await only_idle(executor)).runs == 3


@pytest.mark.parametrize(
    "other", [ReuseScope(b"other", SCOPE.contents), ReuseScope(SCOPE.series, b"other"), None]
)
async def test_a_call_of_another_scope_has_another_child(other: ReuseScope | None) -> None:
    """RN260: a call of another series, with other contents or without a scope has a new child."""
    async with Executor(children=2, spare=1) as executor:
        assert code(await ran(executor, b"calls", SCOPE)) == "completed"
        first = await only_idle(executor)
        program = guest(PROBE)
        request = replace(run_request(program, b"calls", secrets={"KEY": "x"}), reuse=other)
        assert code(await executor.run(request, program.load)) == "completed"
        assert first.runs == 1
        # With other contents, the series has changed, and its former child ends.
        has_changed = other is not None and other.series == SCOPE.series
        assert (first in idle(executor)) is not has_changed
        await until(lambda: first.is_alive() is not has_changed)


async def test_a_run_without_secrets_has_no_kept_child() -> None:
    """RN26: a run without secrets and storage uses no kept child."""
    program = guest(PROBE)
    async with Executor(children=1, spare=1) as executor:
        assert code(await ran(executor, b"calls", SCOPE)) == "completed"
        for _ in range(2):
            request = replace(run_request(program, b"calls"), reuse=SCOPE)
            assert code(await executor.run(request, program.load)) == "completed"
        assert (await only_idle(executor)).runs == 1


async def test_a_change_during_a_run() -> None:
    """RN260: a child whose series changes during its run ends after it."""
    async with Executor(children=2, spare=2) as executor:
        task = asyncio.create_task(ran(executor, b"sleep 300", SCOPE))
        await until(lambda: bool(executor._kept._lent))
        (busy,) = executor._kept._lent
        changed = ReuseScope(SCOPE.series, b"changed")
        assert code(await ran(executor, b"calls", changed)) == "completed"
        assert code(await task) == "completed"
        assert busy not in idle(executor) and len(idle(executor)) == 1
        await until(lambda: not busy.is_alive())


async def test_a_refused_call_ends_the_children_of_its_series() -> None:
    """RN260: after a refusal no child of the series is left, and other series keep theirs."""
    async with Executor(children=2, spare=1) as executor:
        for number in (1, 2):
            assert code(await ran(executor, b"calls", scope(number))) == "completed"
        first, second = idle(executor)
        executor.end_kept(scope(1).series)
        assert idle(executor) == [second]
        await until(lambda: not first.is_alive())
        assert second.is_alive()


async def test_an_idle_child_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """RN261: a kept child ends once it has been idle for a time."""
    monkeypatch.setattr(_kept_children, "IDLE_S", 0.05)
    async with Executor(children=1, spare=1) as executor:
        task = asyncio.create_task(ran(executor, b"sleep 200", SCOPE))
        await until(lambda: bool(executor._kept._lent))
        (child,) = executor._kept._lent
        assert code(await task) == "completed"  # a run may be longer
        await until(lambda: not child.is_alive())
        assert idle(executor) == []
        assert code(await ran(executor, b"calls", SCOPE)) == "completed"


async def test_a_child_of_many_runs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """RN261: a kept child ends after a number of runs."""
    monkeypatch.setattr(_kept_children, "MOST_RUNS", 2)
    async with Executor(children=1, spare=1) as executor:
        assert code(await ran(executor, b"calls", SCOPE)) == "completed"
        first = await only_idle(executor)
        assert code(await ran(executor, b"calls", SCOPE)) == "completed"
        assert idle(executor) == []
        await until(lambda: not first.is_alive())


async def test_a_child_that_keeps_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """RN261: a child with much memory of its own is not kept."""
    async with Executor(children=1, spare=1) as executor:
        assert code(await ran(executor, b"calls", SCOPE)) == "completed"
        child = await only_idle(executor)
        assert 1 << 20 < child.private_bytes() < 64 << 20
        monkeypatch.setattr(_kept_children, "MOST_BYTES", child.private_bytes() // 2)
        assert code(await ran(executor, b"calls", SCOPE)) == "completed"
        assert idle(executor) == []
        await until(lambda: not child.is_alive())
        assert child.private_bytes() == 0


async def test_memory_after_long_outputs() -> None:
    """RN261: a child returns the memory of long inputs and outputs, and so is kept."""
    given = b"echo\n" + b"x" * 9_000_000
    limits = {"max_memory_mb": 64, "max_instructions": 10_000_000_000}
    async with Executor(children=1, spare=1) as executor:
        for _ in range(12):
            assert code(await ran(executor, given, SCOPE, **limits)) == "completed"
        child = await only_idle(executor)
        assert child.runs == 12
        await until(lambda: child.private_bytes() < 32 << 20)


async def test_kept_children_have_no_more_than_the_free_places() -> None:
    """RN261: idle and busy children together are as many as the places; the longest idle ends."""
    async with Executor(children=2, spare=1) as executor:  # three places
        for number in range(4):
            assert code(await ran(executor, b"calls", scope(number))) == "completed"
        oldest = idle(executor)[0]
        assert [executor._kept._idle[one].scope for one in idle(executor)] == [
            scope(number) for number in (1, 2, 3)
        ]
        # A run of anybody else is not one more process: the child that waits longest ends.
        task, _ = await running(executor, b"sleep 300", fresh=False)
        assert len(idle(executor)) == 2 and oldest not in idle(executor)
        assert await task == "completed"
        await until(lambda: not oldest.is_alive())


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_payer_with_many_children_loses_its_own(is_known: bool) -> None:
    """RN261: where kept children are too many, the payer that has most of them loses one.

    All unknown payers count as one.
    """
    program = guest(PROBE)
    async with Executor(children=2, spare=1) as executor:

        async def called(number: int, by: Payer) -> None:
            request = run_request(program, b"calls", secrets={"KEY": _SECRET})
            request = replace(request, reuse=scope(number), payer=by)
            assert code(await executor.run(request, program.load)) == "completed"

        await called(0, payer(0))
        for number in range(1, 6):
            # Several keys of unknown payers, or several programs of one known payer.
            await called(number, payer(1 if is_known else number, is_known=is_known))
        kept = [executor._kept._idle[child].scope for child in idle(executor)]
        assert kept == [scope(number) for number in (0, 4, 5)]


async def test_a_killed_child() -> None:
    """RN261: a kept child that was killed gets no run, and a kill during a run fails that run."""
    async with Executor(children=1, spare=1) as executor:
        assert code(await ran(executor, b"calls", SCOPE)) == "completed"
        first = await only_idle(executor)
        os.kill(first._process, signal.SIGKILL)
        await until(lambda: not first.is_alive())
        assert code(await ran(executor, b"calls", SCOPE)) == "completed"
        second = await only_idle(executor)
        assert second is not first
        task = asyncio.create_task(ran(executor, b"sleep 100000", SCOPE))
        await until(lambda: bool(executor._kept._lent))
        os.kill(second._process, signal.SIGKILL)
        assert code(await task) == "run-crashed"
        assert idle(executor) == [] and not executor._kept._lent


@pytest.mark.parametrize(
    ("given", "limits", "expected"),
    [
        (b"panic", {}, "guest-trap"),
        (b"exit 3", {}, "guest-exit"),
        (b"compute 100000000000000", {}, "limit-instructions"),
        (b"take 200", {}, "limit-memory"),
        (b"flood 3000 1000", {"max_output_bytes": 1000}, "limit-output"),
        (b"sleep 100000", {"max_execution_s": 1}, "limit-time"),
    ],
)
async def test_a_failed_run_ends_its_child(
    given: bytes, limits: dict[str, int], expected: str
) -> None:
    """RN261: a child is kept only after a run that completed, and limits apply as before."""
    async with Executor(children=1, spare=1) as executor:
        assert code(await ran(executor, b"calls", SCOPE)) == "completed"
        child = await only_idle(executor)
        result = await ran(executor, given, SCOPE, **limits)
        assert code(result) == expected
        assert child.runs == 1 and idle(executor) == []
        await until(lambda: not child.is_alive())
        assert (await ran(executor, b"calls", SCOPE)).output == b"1"


async def test_limits_are_those_of_each_call() -> None:
    """RN1, RN24: a kept child has new limits for each call, and they count from its beginning."""
    async with Executor(children=1, spare=1) as executor:
        counts = set()
        for _ in range(5):
            result = await ran(executor, b"take 8", SCOPE)
            assert (code(result), result.output) == ("completed", b"2048")
            counts.add(result.instructions)
            assert result.memory_bytes < 12 * 1024 * 1024
        assert len(counts) == 1
        assert (await only_idle(executor)).runs == 5


async def test_a_cancelled_call() -> None:
    """Cancelling a call ends its child, which is not kept."""
    async with Executor(children=1, spare=1) as executor:
        assert code(await ran(executor, b"calls", SCOPE)) == "completed"
        child = await only_idle(executor)
        task = asyncio.create_task(ran(executor, b"sleep 100000", SCOPE))
        await until(lambda: bool(executor._kept._lent))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert idle(executor) == [] and not executor._kept._lent
        await until(lambda: not child.is_alive())


async def test_random_numbers_of_one_child() -> None:
    """RN133: two calls in one child draw other numbers."""
    async with Executor(children=1, spare=1) as executor:
        drawn = {bytes((await ran(executor, b"random", SCOPE)).output) for _ in range(8)}
        assert len(drawn) == 8
        assert (await only_idle(executor)).runs == 8


@pytest.mark.parametrize("has_secret", [True, False])
async def test_a_child_that_sends_more_than_its_answer(
    monkeypatch: pytest.MonkeyPatch, has_secret: bool
) -> None:
    """RN100, RN261: what a child sends after its answer is not the answer of the next run."""
    monkeypatch.setattr(
        _child, "_BOOT", _child._BOOT.replace("template.main(", _SENDS_MORE + "template.main(")
    )
    program = guest(PROBE)
    async with Executor(children=1, spare=1) as executor:
        seen = set()
        for text in (b"one", b"two"):
            request = run_request(program, b"echo\n" + text, fresh=has_secret)
            result = await executor.run(replace(request, reuse=SCOPE), program.load)
            assert (code(result), bytes(result.output)) == ("completed", text)
            seen.update(idle(executor) or executor._pool._used)
        assert len(seen) == 2


async def test_nothing_is_left_after_the_executor() -> None:
    """Leaving the executor ends all kept children, with their timers."""
    before = set(children())
    async with Executor(children=2, spare=1) as executor:
        for number in range(3):
            assert code(await ran(executor, b"calls", scope(number))) == "completed"
        kept = [child._process for child in idle(executor)]
        assert len(kept) == 3
    assert are_gone(kept)
    assert set(children()) <= before


async def test_a_run_without_a_scope(executor: Executor) -> None:
    """RN26: without a scope, no child of a run with secrets is kept."""
    for _ in range(2):
        result = await run_guest(executor, guest(PROBE), b"calls", fresh=True)
        assert (code(result), idle(executor)) == ("completed", [])


# --- which calls have one scope -------------------------------------------------------------------

_REQUEST = RunRequest(
    "ab" * 32, "wasm32-wasip1", payer=payer(1), origin="did:key:1/echo", secrets_delivered=True
)
_ONE = ReadSecret(Principal("did:key:1"), ("API_KEY",), "value", "grant")
_TWO = ReadSecret(Principal("did:key:2"), ("TOKEN",), "value", "grant of another")
_CONTENTS: dict[str, Any] = {
    "secrets": [_ONE, _TWO],
    "hosts": frozenset({"a.example", "b.example"}),
    "limits": Limits(),
    "has_storage": False,
}


@pytest.mark.parametrize(
    ("other", "key", "project"),
    [
        ({"payer": payer(2)}, 1, "did:key:1/echo"),
        ({"payer": payer(1, is_known=False)}, 1, "did:key:1/echo"),
        ({}, None, "did:key:1/echo"),
        ({}, 2, "did:key:1/echo"),
        ({}, 1, None),
        ({}, 1, "did:key:2/echo"),
        ({"wasm_sha256": "cd" * 32}, 1, "did:key:1/echo"),
        ({"target": "wasm32-wasip2"}, 1, "did:key:1/echo"),
        ({"origin": "did:key:2/echo"}, 1, "did:key:1/echo"),
    ],
)
async def test_another_series(other: dict[str, Any], key: int | None, project: str | None) -> None:
    """RN260: another caller, API key, program or project is another series."""
    scopes = ReuseScopes()
    one = scopes.series(_REQUEST, key=1, project="did:key:1/echo")
    assert one == scopes.series(replace(_REQUEST), key=1, project="did:key:1/echo")
    assert one != scopes.series(replace(_REQUEST, **other), key=key, project=project)


@pytest.mark.parametrize(
    "change",
    [
        {"secrets": [_ONE]},
        {"secrets": [_ONE._replace(value="other"), _TWO]},
        {"secrets": [_ONE, _TWO._replace(value="other")]},
        {"secrets": [_ONE._replace(grant="other"), _TWO]},
        {"secrets": [_ONE, _TWO._replace(grant="other")]},
        {"secrets": [_ONE._replace(owner=Principal("did:key:3")), _TWO]},
        {"secrets": [_ONE._replace(variables=("OTHER",)), _TWO]},
        {"hosts": frozenset({"a.example"})},
        {"limits": Limits(max_instructions=1_000_000)},
        {"limits": Limits(max_memory_mb=1)},
        {"limits": Limits(max_execution_s=1)},
        {"limits": Limits(max_output_bytes=1)},
        {"has_storage": True},
    ],
)
async def test_other_contents(change: dict[str, Any]) -> None:
    """RN260: another secret, value, grant, host, limit or storage is another scope."""
    scopes = ReuseScopes()
    one = scopes.scope(b"series", **_CONTENTS)
    assert one == scopes.scope(b"series", **_CONTENTS)
    other = scopes.scope(b"series", **(_CONTENTS | change))
    assert other.contents != one.contents and other.series == one.series


async def test_a_scope_tells_nothing_of_a_secret() -> None:
    """RN260: the runner compares secrets by a hash under a key of this process."""
    one, other = (ReuseScopes().scope(b"series", **_CONTENTS) for _ in range(2))
    assert one != other
    assert "value" not in repr(replace(_REQUEST, reuse=one))
