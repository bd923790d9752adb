"""Input, output and failure reasons of runs."""

import base64
import json
import time

import pytest
from guest_programs import BOTH, code, detail_of, guest, run_guest

from runner.guest.executor import Executor
from runner.guest.runs import ResponseFormat

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("name", BOTH)
async def test_input_and_output_are_exact(executor: Executor, name: str) -> None:
    """RN12: a guest's input and output are exact to the byte; standard error is separate."""
    data = bytes(range(256)) * 5000
    result = await run_guest(
        executor, guest(name), b"echo\n" + data, response_format=ResponseFormat.BYTES
    )
    assert result.reason is None
    assert data == result.output
    assert base64.b64encode(data).decode() == json.loads(result.answer)
    assert result.stderr == b""
    assert result.stderr_bytes == 0
    result = await run_guest(executor, guest(name), b"complain 70000 1000")
    assert result.output == b""
    assert result.stderr == b"x" * 65536
    assert result.stderr_bytes == 70000


async def test_a_program_in_c(executor: Executor) -> None:
    """A C program with another standard library reads, writes and sees its environment."""
    result = await run_guest(
        executor, guest("words"), b"three small words", response_format=ResponseFormat.JSON
    )
    assert {"words": 3, "sender": ""} == json.loads(result.answer)


@pytest.mark.parametrize("name", BOTH)
async def test_the_environment_is_what_was_given(executor: Executor, name: str) -> None:
    """RN6: a guest sees the variables of its run in order, and none of the host."""
    given = b"env KEY EMPTY ABSENT PATH HOME"
    result = await run_guest(
        executor, guest(name), given, secrets={"KEY": "wert äöü\n", "EMPTY": ""}
    )
    assert {
        "KEY": "wert äöü\n",
        "EMPTY": "",
        "ABSENT": None,
        "PATH": None,
        "HOME": None,
    } == json.loads(bytes(result.output))
    assert (
        b"KEY EMPTY"
        == (
            await run_guest(executor, guest(name), b"names", secrets={"KEY": "a", "EMPTY": ""})
        ).output
    )
    assert b"" == (await run_guest(executor, guest(name), b"names")).output
    assert b"0" == (await run_guest(executor, guest(name), b"arguments")).output


@pytest.mark.parametrize("name", BOTH)
async def test_clocks_and_random_are_real(executor: Executor, name: str) -> None:
    """RN12: time is the host's, a clock moves, and random numbers differ."""
    before_s = int(time.time())
    seconds, moved = map(int, (await run_guest(executor, guest(name), b"clocks")).output.split())
    after_s = time.time()
    assert before_s <= seconds <= after_s and moved > 0
    drawn = {(await run_guest(executor, guest(name), b"random")).output for _ in range(3)}
    assert 3 == len(drawn)


@pytest.mark.parametrize("name", BOTH)
async def test_nothing_is_left_from_run_to_run(executor: Executor, name: str) -> None:
    """A second run in the same process starts with the program's initial memory."""
    assert [b"1", b"1"] == [
        (await run_guest(executor, guest(name), b"calls")).output for _ in range(2)
    ]


@pytest.mark.parametrize(
    ("given", "expected", "detail"),
    [(b"exit 0", "completed", ""), (b"exit 3", "guest-exit", "3"), (b"panic", "guest-trap", "")],
)
async def test_how_a_guest_ends(
    executor: Executor, given: bytes, expected: str, detail: str
) -> None:
    """RN28: exit codes and traps are distinguished, whatever text a guest writes."""
    result = await run_guest(executor, guest("probe-wasip1"), given)
    assert code(result) == expected
    assert detail_of(result) == detail
    assert (b"limit of memory" in result.stderr) == (given == b"panic")


async def test_exit_codes_that_a_target_does_not_have(executor: Executor) -> None:
    """A component has no exit codes but 0 and 1; a module's code over 125 is a trap."""
    result = await run_guest(executor, guest("probe-wasip2"), b"exit 3")
    assert code(result) == "guest-exit"
    assert detail_of(result) == "1"
    assert "guest-trap" == code(await run_guest(executor, guest("exit")))


@pytest.mark.parametrize(
    ("output", "response_format", "answer"),
    [
        (b"gr\xc3\xbc\xc3\x9fe", ResponseFormat.TEXT, '"grüße"'.encode()),
        (b' {"a": [1, 2]} ', ResponseFormat.JSON, b' {"a": [1, 2]} '),
        (b"\xff\0", ResponseFormat.BYTES, b'"/wA="'),
        (b"\xff", ResponseFormat.TEXT, None),
        (b'"\xff"', ResponseFormat.JSON, None),
        (b"not json", ResponseFormat.JSON, None),
        (b"", ResponseFormat.JSON, None),
        (b"[" * 100_000, ResponseFormat.JSON, None),
    ],
)
async def test_output_is_what_the_format_says(
    executor: Executor, output: bytes, response_format: ResponseFormat, answer: bytes | None
) -> None:
    """RN3: a run fails, and is charged, if its output is not in the stated format."""
    result = await run_guest(
        executor, guest("probe-wasip1"), b"echo\n" + output, response_format=response_format
    )
    if answer is None:
        assert code(result) == "output-format"
        assert result.output == b""
        assert result.answer == b""
        assert result.reason is not None and result.reason.ran and result.instructions > 0
    else:
        assert code(result) == "completed"
        assert result.output == output
        assert result.answer == answer


async def test_what_a_run_used(executor: Executor) -> None:
    """RN2: runs of equal work have equal metrics, which answers round up."""
    first, second, more = [
        await run_guest(executor, guest("probe-wasip1"), b"compute %d" % rounds)
        for rounds in (10_000, 10_000, 500_000)
    ]
    assert first.instructions == second.instructions < more.instructions
    assert 1_000_000 == first.rounded_instructions
    assert (
        0 == more.rounded_instructions % 1_000_000
        and more.rounded_instructions >= more.instructions
    )
    assert (
        0 == first.rounded_time_ms % 10 and first.rounded_time_ms * 1_000_000 >= first.time_ns > 0
    )
