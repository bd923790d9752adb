"""Tests of what a requester sees of an application that failed."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from secrets import token_hex
from typing import Any

import pytest
import pytest_asyncio
from runner_stage import RunnerStage, runner_stage
from task_memory import TASK_MEMORY as MEMORY
from task_memory import needs_task_memory
from task_parties import Party, party
from task_programs import reporting

from capabilities.strict_base64 import decode_url
from encryption_network.canonical_json import canonical_bytes
from runner.calls.run_receipts import verify_run
from sealspace.documents.call_conditions import Owner
from sealspace.documents.iexec_names import (
    RESULT_KEY_NAME,
    address_of,
    app_secret,
    wallet_secret,
)
from sealspace.documents.project_names import parse_project

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    needs_task_memory,
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    async with AsyncExitStack() as stack:
        root = MEMORY / f"tasks-{token_hex(8)}"
        root.mkdir(0o700)
        stack.callback(root.rmdir)  # fails if a task left a file
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"), task_root=root)


async def test_RN263_the_output_of_a_task_that_failed(
    stage: RunnerStage,
) -> None:
    """RN263, TK9: the requester gets the output of a failed application if all secrets are theirs,
    and the receipt is about it. Otherwise it is about nothing."""
    developer, requester = Party(stage, stage.owner, stage.wallet), await party(stage)
    version = await stage.publish("secret-1-missing", reporting("secret-1-missing", traps=True))
    app = f"{stage.developer}/secret-1-missing"
    secret = app_secret(address_of("app", parse_project(app)))
    await requester.grant(version, wallet_secret(RESULT_KEY_NAME), callers=Owner())
    task = await requester.done(app)
    assert (task["state"], task["cause"]["code"]) == ("FAILED", "guest-trap")
    assert (task["stdout"], task["stderr"]) == ("secret-1-missing", "secret-1-missing")
    assert not {"output", "outputFormat"} & task.keys()
    async with stage.http.get(f"{stage.url}/start") as got:
        start = await got.read()

    async def is_about(task: dict[str, Any], stdout: bytes) -> bool:
        run = await verify_run(canonical_bytes(task["receipt"]), start, stage.inspector)
        salt = decode_url(task["salt"])
        assert salt is not None and run.stated["status"] == "failed"
        return run.is_about(salt=salt, input=None, output=stdout)

    assert await is_about(task, b"secret-1-missing") and not await is_about(task, b"")
    await developer.put(secret, "of the app")
    await developer.grant(version, secret)
    task = await requester.done(app)
    assert task["cause"]["code"] == "guest-trap"
    assert not {"stdout", "stderr", "output"} & task.keys()
    assert await is_about(task, b"")
