"""Tests of the limits of runs, each of which ends a run with its own reason."""

import time

import pytest
from guest_programs import BOTH, children, code, guest, run_guest

from runner.guest.executor import Executor
from runner.guest.runs import MAX_INPUT_BYTES, Limits
from runner.reasons import RunRefused

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = 65536


@pytest.mark.parametrize("name", ["loop", "early", "probe-wasip1", "probe-wasip2"])
async def test_instructions(executor: Executor, name: str) -> None:
    """RN10: an endless guest is stopped exactly at its limit of instructions."""
    result = await run_guest(
        executor, guest(name), b"compute 1000000000000", max_instructions=3_000_000
    )
    assert code(result) == "limit-instructions"
    assert result.instructions == 3_000_000


async def test_instructions_are_exact_within_a_tenth(executor: Executor) -> None:
    """RN10: a run that needs N instructions fails with a tenth less."""
    needed = (await run_guest(executor, guest("count"), b"x" * 1000)).instructions
    assert "completed" == code(
        await run_guest(executor, guest("count"), b"x" * 1000, max_instructions=needed + 1)
    )
    few = await run_guest(executor, guest("count"), b"x" * 1000, max_instructions=needed * 9 // 10)
    assert code(few) == "limit-instructions"
    assert few.instructions == needed * 9 // 10


async def test_memory_is_exact_to_the_page(executor: Executor) -> None:
    """RN14: a module gets every page of its limit and no further one."""
    for mebibytes in (1, 7):
        refused = await run_guest(executor, guest("grow"), max_memory_mb=mebibytes)
        assert code(refused) == "limit-memory"
        assert refused.memory_bytes == mebibytes * 16 * PAGE
    content = await run_guest(executor, guest("content"), max_memory_mb=3)
    assert code(content) == "completed"
    assert content.memory_bytes == 3 * 16 * PAGE


async def test_memories_of_a_component_have_one_budget(executor: Executor) -> None:
    """RN14: the memories of a component share one budget."""
    result = await run_guest(executor, guest("shares"), max_memory_mb=5)
    assert code(result) == "limit-memory"
    assert result.memory_bytes == 5 * 16 * PAGE


async def test_parts_that_exchange_text_have_one_budget(executor: Executor) -> None:
    """RN11, RN14: parts of a component exchange text, and several memories of a module count."""
    result = await run_guest(executor, guest("exchange"), max_memory_mb=5)
    assert code(result) == "limit-memory"
    assert result.memory_bytes == 5 * 16 * PAGE


async def test_memory_that_is_declared_counts(executor: Executor) -> None:
    """RN14: a program that declares more memory than its limit does not start."""
    assert "limit-memory" == code(await run_guest(executor, guest("large"), max_memory_mb=255))
    assert "completed" == code(await run_guest(executor, guest("large"), max_memory_mb=256))


async def test_a_program_s_own_bound_is_not_the_run_s(executor: Executor) -> None:
    """RN28: a memory at its own declared maximum does not count as a limit of the run."""
    assert "guest-trap" == code(await run_guest(executor, guest("bounded")))


@pytest.mark.parametrize("name", BOTH)
async def test_allocators_meet_the_limit(executor: Executor, name: str) -> None:
    """RN14: a Rust program that allocates too much fails with the memory reason."""
    plenty = {"max_instructions": 2_000_000_000}
    assert "completed" == code(await run_guest(executor, guest(name), b"take 12", **plenty))
    assert "limit-memory" == code(await run_guest(executor, guest(name), b"take 16", **plenty))
    assert "completed" == code(
        await run_guest(executor, guest(name), b"take 16", max_memory_mb=20, **plenty)
    )


async def test_tables(executor: Executor) -> None:
    """RN15: a table has at most 100,000 elements, and a module has at most four tables."""
    assert "completed" == code(await run_guest(executor, guest("tables")))
    assert "program-start" == code(await run_guest(executor, guest("many_tables")))


@pytest.mark.parametrize("name", ["crowd", "memories_beside"])
async def test_components_cannot_multiply(executor: Executor, name: str) -> None:
    """RN15: a component with 20 instances or five memories does not start."""
    result = await run_guest(executor, guest(name))
    assert "program-start" == code(result)
    assert result.reason is not None and result.reason.ran


@pytest.mark.parametrize("name", BOTH)
async def test_output_is_exact(executor: Executor, name: str) -> None:
    """RN16: the first byte over the output limit ends the run."""
    limit = {"max_output_bytes": 10_000, "max_memory_mb": 64}
    assert (
        b"x" * 10_000
        == (await run_guest(executor, guest(name), b"flood 10000 1000", **limit)).output
    )
    for at_once in (1, 1000, 10_001):
        result = await run_guest(executor, guest(name), b"flood 10001 %d" % at_once, **limit)
        assert code(result) == "limit-output"
        assert result.output == b""
    endless = await run_guest(
        executor, guest(name), b"flood 4000000000 65536", max_output_bytes=1_000_000
    )
    assert "limit-output" == code(endless)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("given", [b"sleep 60000", b"compute 1000000000000000"])
async def test_time(executor: Executor, name: str, given: bytes) -> None:
    """RN19: a guest that waits or computes too long is killed with its process."""
    before = time.monotonic()
    result = await run_guest(
        executor, guest(name), given, max_execution_s=1, max_instructions=500_000_000_000
    )
    assert code(result) == "limit-time"
    assert result.instructions == 500_000_000_000
    assert 1 <= time.monotonic() - before and 1_000_000_000 <= result.time_ns


async def test_resources_of_the_host_are_bounded(executor: Executor) -> None:
    """RN24: a guest that creates endless host objects fails alone."""
    result = await run_guest(executor, guest("pollables"), max_instructions=500_000_000_000)
    assert code(result) in ("guest-trap", "run-crashed")
    assert "completed" == code(await run_guest(executor, guest("count")))


async def test_a_stack_is_bounded(executor: Executor) -> None:
    """Endless recursion of a guest traps, and the process continues."""
    before = children(kind="_run_child")
    assert "guest-trap" == code(await run_guest(executor, guest("recurse")))
    assert "completed" == code(await run_guest(executor, guest("count")))
    assert set(before) <= set(children(kind="_run_child"))


async def test_input_is_bounded(executor: Executor) -> None:
    """RN7: an input over the limit is refused and not charged."""
    most = await run_guest(
        executor, guest("probe-wasip1"), b"calls\n" + b"x" * (MAX_INPUT_BYTES - 6), max_memory_mb=64
    )
    assert b"1" == most.output
    more = await run_guest(executor, guest("probe-wasip1"), b"x" * (MAX_INPUT_BYTES + 1))
    assert "input-too-large" == code(more)
    assert more.reason is not None and not more.reason.ran


@pytest.mark.parametrize(
    "limits",
    [
        {"max_instructions": 0},
        {"max_instructions": 500_000_000_001},
        {"max_memory_mb": 0},
        {"max_memory_mb": 513},
        {"max_execution_s": 0},
        {"max_execution_s": 181},
        {"max_output_bytes": 10_000_001},
    ],
)
async def test_limits_have_bounds(limits: dict[str, int]) -> None:
    """RN1: a limit below one or above the maximum is refused."""
    with pytest.raises(RunRefused) as refused:
        Limits(**limits)
    assert refused.value.reason.code == "limits-invalid"
    assert next(iter(limits)) == refused.value.reason.detail
    assert not refused.value.reason.ran
