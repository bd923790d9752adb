"""Instruction limits reveal no more about a secret than the rounded metrics (RN1, RN2, RN175)."""

import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from hashlib import sha256
from typing import Any

import pytest
import pytest_asyncio
from guest_programs import Guest, run_request
from runner_stage import RunnerStage, runner_stage
from wasmtime import wat2wasm

from runner.calls.call_bodies import parse_body
from runner.calls.prices import Price
from runner.guest.executor import Executor
from runner.guest.runs import Limits
from sealspace.documents.call_conditions import AllowAll
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.session import key_session

SECRET = "s3cr3t-of-owners"
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-"
MILLION = 1_000_000
CALLS = 20_000
PRICE = Price(million_instructions=7)
STRANGER = key_session(sha256(b"stranger").digest())
SMALL = Limits(max_instructions=10 * MILLION)

COMPARES = """
(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func $variable (result i32) (local $at i32) (local $next i32)
    (loop $search
      (local.set $next
        (i32.load (i32.add (i32.const 4096) (i32.mul (local.get $at) (i32.const 4)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      ;; API_KEY=
      (br_if $search (i64.ne (i64.load (local.get $next)) (i64.const 0x3d59454b5f495041))))
    (i32.add (local.get $next) (i32.const 8)))
  (func (export "_start") (local $at i32) (local $secret i32) (local $guess i32) (local $spent i32)
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (drop (call $environ (i32.const 4096) (i32.const 16384)))
    (local.set $secret (call $variable))
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 64))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (local.set $guess
      (i32.add (i32.const 1024) (i32.eq (i32.load8_u (i32.const 1024)) (i32.const 34))))
    (block $wrong
      (loop $compare
        (br_if $wrong (i32.ne
          (i32.load8_u (i32.add (local.get $secret) (local.get $at)))
          (i32.load8_u (i32.add (local.get $guess) (local.get $at)))))
        (local.set $spent (i32.const 0))
        (loop $spend
          (local.set $spent (i32.add (local.get $spent) (i32.const 1)))
          (br_if $spend (i32.lt_u (local.get $spent) (i32.const 14285))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $compare (i32.lt_u (local.get $at) (i32.const 16)))))))
"""
"""Compares its input with a secret of 16 bytes, and spends 100,000 instructions for each right one;
writes nothing.

A JSON string as the input is compared without its first quotation mark.
"""

pytestmark = pytest.mark.asyncio(loop_scope="module")

Outcome = tuple[str, int]
"""Code or `completed`, and the instructions of the metrics."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """A runner with prices, whose owner lets any caller run a comparing program with a secret."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(
            stack, tmp_path_factory.mktemp("runner"), limits=SMALL, price=PRICE
        )
        await staged.owner.secrets().put("API_KEY", SECRET)
        version = await staged.publish("compares", COMPARES)
        await staged.grant(
            ["API_KEY"], RunStatement(programs=(ByHash(version.sha256),), callers=AllowAll())
        )
        for owner in (STRANGER.owner, None):
            await staged.credit(10**9, owner=owner)
        yield staged


def whole(limit: int) -> int:
    """Return the effective limit of a run for a requested limit."""
    return min(max(limit // MILLION, 1) * MILLION, SMALL.max_instructions)


def foretold(metric: int, limit: int) -> Outcome:
    """Predict a call's result under another limit from its metrics alone."""
    return ("completed", metric) if metric <= whole(limit) else ("limit-instructions", whole(limit))


class Caller:
    """A caller who is not the owner, and records the result of each call."""

    def __init__(self, stage: RunnerStage) -> None:
        self._stage = stage
        self._told: dict[tuple[int, int], Outcome] = {}
        self.calls = 0

    async def ask(self, guess: str, limit: int) -> Outcome:
        """Call with a guess, and record the result by number of right bytes and effective limit."""
        self.calls += 1
        limits = {"maxInstructions": limit}
        body = json.dumps({"source": {"wasmSha256": "ab" * 32}, "resourceLimits": limits}).encode()
        right = next((at for at in range(16) if guess[at] != SECRET[at]), 16)
        known = right, self._stage.runner.runs.preparation.limits(parse_body(body)).max_instructions
        if known not in self._told:
            self._told[known] = await self.run(guess, limits)
        return self._told[known]

    async def run(self, guess: str, limits: Mapping[str, int]) -> Outcome:
        """Run the program with the secret."""
        about: dict[str, Any] = {"secrets": self._stage.developer, "session": STRANGER}
        _, answer = await self._stage.call("compares", input=guess, resourceLimits=limits, **about)
        assert answer["secrets"] == "delivered", answer
        instructions = answer["metrics"]["instructions"]
        assert instructions % MILLION == 0
        return answer.get("error", {}).get("code", "completed"), instructions


GUESSES = [SECRET[:right] + "_" * (16 - right) for right in range(17)]
"""Guesses whose first 0 to 16 bytes are right."""


async def test_twenty_thousand_calls_tell_what_metrics_tell(stage: RunnerStage) -> None:
    """RN1: the metrics of a guess predict the result of a call under any limit."""
    caller, drawn = Caller(stage), random.Random(1)
    metrics = {}
    for guess in GUESSES:
        code, metrics[guess] = await caller.ask(guess, SMALL.max_instructions)
        assert code == "completed"
    assert list(metrics.values()) == sorted(metrics.values()) and set(metrics.values()) == {
        MILLION,
        2 * MILLION,
    }
    while caller.calls < CALLS:
        guess, limit = drawn.choice(GUESSES), drawn.randrange(1, 4 * MILLION)
        assert foretold(metrics[guess], limit) == await caller.ask(guess, limit), (guess, limit)
    for _ in range(20):  # what was answered from notes is what a run says
        guess, limit = drawn.choice(GUESSES), drawn.randrange(1, 4 * MILLION)
        assert foretold(metrics[guess], limit) == await caller.run(
            guess, {"maxInstructions": limit}
        )


async def test_bisection_does_not_recover_a_secret(stage: RunnerStage) -> None:
    """RN1: the bisection that read 16 characters in under 500 calls now reads none."""
    caller, found = Caller(stage), ""
    low, high = 0, 2 * MILLION  # what a guess costs of which no byte is right
    while high - low > 1:
        middle = (low + high) // 2
        code, _ = await caller.ask("_" * 16, middle)
        low, high = (low, middle) if code == "completed" else (middle, high)
    for at in range(len(SECRET)):
        limit = high + at * 100_000 + 50_000  # passes where the byte is wrong
        tried = [((found + one).ljust(16, "_"), one) for one in ALPHABET]
        right = [one for guess, one in tried if (await caller.ask(guess, limit))[0] != "completed"]
        found += right[0] if len(right) == 1 else "?"
    assert SECRET[:1] != found[:1] and caller.calls < 700


@pytest.mark.parametrize("compute", [None, 7, 13, 14, 20, 35])
async def test_a_price_tells_what_metrics_tell(stage: RunnerStage, compute: int | None) -> None:
    """RN1, RN94: the charge follows from the metrics, whatever the compute limit is."""
    key, caller = await stage.key("compares", profiles=("default",)), Caller(stage)
    paid = (
        SMALL.max_instructions
        if compute is None
        else compute // PRICE.million_instructions * MILLION
    )
    headers = {} if compute is None else {"X_Compute_Limit": str(compute)}
    for guess in (GUESSES[0], GUESSES[-1]):
        _, metric = await caller.ask(guess, SMALL.max_instructions)
        for limit in (1, MILLION + 500_000, 2 * MILLION - 1, 2 * MILLION, SMALL.max_instructions):
            before = await stage.account()
            body = {
                "input": guess,
                "response_format": "Text",
                "resource_limits": {"max_instructions": limit},
                "secrets_ref": {"profile": "default", "account_id": stage.developer},
            }
            _, answer = await stage.api("compares", key, body, **headers)
            outcome = answer["code"] or "completed", answer["instructions"]
            assert foretold(metric, min(whole(limit), paid)) == outcome
            cost = answer["instructions"] // MILLION * PRICE.million_instructions
            assert answer["compute_cost"] == str(cost)
            assert (await stage.account())["charged"] - before["charged"] == cost


TAIL = """
(module (func (export "_start") (local $spent i32)
  (loop $spend
    (local.set $spent (i32.add (local.get $spent) (i32.const 1)))
    (br_if $spend (i32.lt_u (local.get $spent) (i32.const 1000))))
  {tail}))
"""


@pytest.mark.parametrize("tail", ["", "(drop (i32.const 1))" * 20, "unreachable"])
async def test_the_limit_is_exact_to_the_instruction(tail: str) -> None:
    """RN175: a run fails by its limit exactly if it used more instructions."""
    program = Guest(bytes(wat2wasm(TAIL.replace("{tail}", tail))), "wasm32-wasip1")
    async with Executor(children=1, spare=1) as executor:

        async def ran(limit: int) -> Outcome:
            request = run_request(program, max_instructions=limit)
            result = await executor.run(request, program.load)
            return "completed" if result.reason is None else result.reason.code, result.instructions

        code, used = await ran(MILLION)
        assert code == ("guest-trap" if tail == "unreachable" else "completed")
        for limit in range(used - 30, used):
            assert await ran(limit) == ("limit-instructions", limit)
        for limit in (used, used + 1):
            assert await ran(limit) == (code, used)
