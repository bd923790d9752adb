"""Requests as OutLayer's documentation shows them, sent to `POST /call` (RN268, RN269)."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from runner_stage import ECHO, RunnerStage, runner_stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """A runner with a program that writes what it reads."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"))
        await staged.publish("echo", ECHO)
        yield staged


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(stage: RunnerStage) -> str:
    """A key for the program."""
    return await stage.key("echo")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"input": 1, "input_data": "x"}, "not both"),
        ({"input": None, "input_data": "x"}, "not both"),
        ({"input_data": 1}, "must be a text"),
        ({"input_data": None}, "must be a text"),
        ({"input_data": {}}, "must be a text"),
        (b'{"input_data": "\\ud800"}', ""),
        ({"input_data": "", "payer_account_id": "alice.near"}, "the owner of the API key pays"),
        ({"input_data": "", "params": {"force_rebuild": True}}, "nothing is compiled"),
        ({"input_data": "", "project_id": "a"}, "in the address"),
        ({"input": 1, "prompt": "Hello"}, 'unknown member "prompt"'),
        ({"input": 1, "use_bound_identity": True}, "owner of the API key"),
        ({"input": 1, "source": {"WasmUrl": {"url": "x"}}}, "sealspace project publish"),
        ({"input": 1, "source": {"Project": {"project_id": "x"}}}, "/call/OWNER/PROJECT"),
        ({"input": 1, "x" * 9000: 1}, ""),
    ],
    ids=range(14),
)
async def test_RN269_refusals_name_what_to_do(
    stage: RunnerStage, key: str, body: Any, said: str
) -> None:
    """RN268, RN269: a refused member is named, with what replaces it."""
    status, answer = await stage.api("echo", key, body)
    assert (status, answer["code"]) == (400, "request-invalid")
    assert said in answer["error"] and len(answer["error"]) < 600, answer


async def test_RN268_the_request_of_outlayer_s_page(stage: RunnerStage, key: str) -> None:
    """RN268: the text in `input_data` is the input as it is, and the output is a text."""
    limits = {"max_instructions": 10**9, "max_memory_mb": 64, "max_execution_seconds": 5}
    for given, answer_format, output in (
        ("{}", None, "{}"),
        ('{"a": 1}', "Json", {"a": 1}),
        ('say "ä"\n', None, 'say "ä"\n'),
        ("", None, ""),
    ):
        body: dict[str, Any] = {"input_data": given, "resource_limits": limits}
        if answer_format is not None:
            body["response_format"] = answer_format
        status, answer = await stage.api("echo", key, body)
        assert (status, answer["output"]) == (200, output), answer
