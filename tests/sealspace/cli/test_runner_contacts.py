"""Names of contacts in the commands for runners (SH13, SH14)."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
import wasmtime
from backend_desk import Desk
from runner_stage import ENVIRONMENT, RunnerStage, runner_stage

from capabilities.signatures import Ed25519Signer

SOMEBODY = Ed25519Signer(bytes(range(32))).did

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module."""
    async with AsyncExitStack() as stack:
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"))


@pytest.fixture
def desk(
    stage: RunnerStage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    """A new owner for each test."""
    return stage.desk(tmp_path, capsys, monkeypatch)


async def _with_project(desk: Desk, folder: Path) -> str:
    """Log in, store a secret and publish a project; return the owner."""
    file = folder / "program.wasm"
    file.write_bytes(wasmtime.wat2wasm(ENVIRONMENT))
    await desk.log_in("--space", "public")
    assert (await desk.run("secret", "put", "API_KEY", given="open sesame")).status == 0
    assert (await desk.run("project", "publish", "digest", str(file))).status == 0
    return str(json.loads((await desk.run("whoami", "--json")).out)["owner"])


async def test_contacts_in_the_commands_for_runners(
    desk: Desk, stage: RunnerStage, tmp_path: Path
) -> None:
    """A contact can be a caller, a developer and an owner of secrets (SH13)."""
    owner = await _with_project(desk, tmp_path)
    for name, did in (("bob", SOMEBODY), ("dev", owner)):
        assert (await desk.run("contact", "add", name, did)).status == 0
    granted = await desk.run(
        *("runner", "grant", stage.url, "--secret", "API_KEY", "--program", "dev/digest"),
        *("--caller", "bob", "--caller", owner, "--yes"),
    )
    assert granted.status == 0, granted
    (listed,) = json.loads((await desk.run("runner", "list", "--json")).out)
    assert listed["run"]["callers"] == {"Whitelist": {"accounts": [SOMEBODY, owner]}}
    assert listed["run"]["programs"][0]["project"] == f"{owner}/digest"
    called = await desk.run("runner", "call", stage.url, "dev/digest", "--secrets", "dev")
    assert called.status == 0, called
    shown = await desk.run("project", "show", "dev/digest", "--json")
    assert json.loads(shown.out)["project"] == f"{owner}/digest"
    assert "digest" in (await desk.run("project", "list", "--developer", "dev")).out
    for arguments in (
        ("project", "show", "carol/digest"),
        ("project", "list", "--developer", "carol"),
        ("runner", "call", stage.url, "carol/digest"),
        ("runner", "call", stage.url, "dev/digest", "--secrets", "carol"),
        ("runner", "keys", "create", stage.url, "--project", "carol/digest"),
        ("runner", "grant", stage.url, "--secret", "API_KEY", "--program", "carol/digest"),
    ):
        unknown = await desk.run(*arguments)
        assert (unknown.status, unknown.happened) == (21, "there is no contact carol"), arguments


async def test_SH14_callers_from_a_file(desk: Desk, stage: RunnerStage, tmp_path: Path) -> None:
    """SH14: each DID in a file with a condition is shown whole and asked about, also if the options
    name the runner's whole code."""
    owner = await _with_project(desk, tmp_path)
    approved, file = tmp_path / "approved.json", tmp_path / "condition.json"
    approved.write_text((await desk.run("backend", "show", stage.url, "--json")).out)
    inner = {"Not": {"condition": {"Whitelist": {"accounts": [SOMEBODY]}}}}
    parts = [{"Whitelist": {"accounts": [owner, SOMEBODY]}}, inner]
    file.write_text(json.dumps({"Logic": {"operator": "Or", "conditions": parts}}))
    by = ("runner", "grant", stage.url, "--secret", "API_KEY", "--program", "digest")
    grant = (*by, "--condition", str(file), "--like", str(approved))
    refused = await desk.run(*grant)
    assert refused.status == 2, refused
    assert f"{file} names {SOMEBODY}, which is none of your contacts" in refused.err
    assert "the right to call programs that read API_KEY" in refused.err
    assert refused.next.endswith(f"sealspace contact add NAME {SOMEBODY}")
    assert f"names {owner}" not in refused.err
    assert (await desk.run(*grant, typed="n\n")).status == 1
    assert json.loads((await desk.run("runner", "list", "--json")).out) == []
    assert (await desk.run(*grant, typed="y\n")).status == 0
    assert (await desk.run("contact", "add", "bob", SOMEBODY)).status == 0
    assert (await desk.run(*grant)).status == 0
