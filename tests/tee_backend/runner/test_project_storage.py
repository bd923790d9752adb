"""Storage of a project's programs (RN200 to RN206)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from guest_programs import guest
from runner_stage import RunnerStage, runner_stage

from sealspace.apps.backends import deliver
from sealspace.apps.programs import Target
from sealspace.delegations import allow
from sealspace.documents.run_grants import STORAGE_FOLDER, project_resource
from sealspace.errors import GrantNotTaken
from sealspace.session import key_session
from sealspace.wire.portable import PortableDelegation

P2: Target = "wasm32-wasip2"
OTHER = key_session(bytes(range(32)))

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module; each test has a project of its own."""
    async with AsyncExitStack() as stack:
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"))


async def shared(stage: RunnerStage, name: str) -> PortableDelegation:
    """Publish the program that stores values, and let the runner keep its storage."""
    if name not in stage.published:
        await stage.publish(name, guest("cells-wasip2").data, target=P2)
    portable = await stage.owner.runners.share_project(
        await stage.look(), name, folder=STORAGE_FOLDER, wallet=stage.wallet
    )
    await deliver(stage.url, portable)
    return portable


async def stored(stage: RunnerStage, name: str, *operations: str, **about: Any) -> list[str]:
    """Have the program perform operations; return a line for each."""
    _, answer = await stage.call(name, input="\n".join(operations).replace(" ", "\t"), **about)
    assert answer["status"] == "completed", answer
    return str(answer["output"]).splitlines()


async def test_values_stay_from_run_to_run(stage: RunnerStage) -> None:
    """RN200: a later run of the same caller reads what an earlier one wrote."""
    await shared(stage, "kept")
    assert await stored(stage, "kept", "get a", "has a", "set a one", "has a") == [
        "", "false", "", "true"
    ]  # fmt: skip
    assert await stored(stage, "kept", "get a", "set b two", "list-keys ", "delete a", "delete a") == [
        "one", "", '["a","b"]', "true", "false"
    ]  # fmt: skip
    assert await stored(stage, "kept", "get a", "has a", "list-keys b", "list-keys c") == [
        "", "false", '["b"]', "[]"
    ]  # fmt: skip
