"""Tests of `sealspace runner call --repository`, whose receipt shows the build's origin."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
import wasmtime
from backend_desk import Desk
from moved_secrets import put_unbound
from runner_stage import ENVIRONMENT, RunnerStage, runner_stage

from sealspace.apps.programs import Provenance
from sealspace.client import Client
from sealspace.documents.builds import Build
from sealspace.documents.call_conditions import AllowAll
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.secrets import parse_secret_name
from sealspace.session import load_session

SECRET = "open sesame, says the owner"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    async with AsyncExitStack() as stack:
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"))


@pytest.fixture
def desk(
    stage: RunnerStage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    """A caller."""
    return stage.desk(tmp_path, capsys, monkeypatch)


async def test_a_call_by_repository_and_commit(
    desk: Desk, stage: RunnerStage, tmp_path: Path
) -> None:
    """RN240, RN244: the version of a build is called, and its receipt shows the origin."""
    await desk.log_in()
    await stage.owner.secrets().put("API_KEY", SECRET)
    build = Build(
        repository="github.com/alice/project",
        repository_id="1001",
        ref="refs/heads/main",
        commit="a1" * 20,
        workflow="github.com/alice/project/.github/workflows/release.yml",
    )
    version = await stage.owner.programs(public=True).publish(
        "built",
        bytes(wasmtime.wat2wasm(ENVIRONMENT)),
        target="wasm32-wasip1",
        signer=stage.wallet,
        provenance=Provenance(build, b"{}"),
    )
    rule = ByHash(version.sha256, version.project, build)
    await stage.grant(["API_KEY"], RunStatement(programs=(rule,), callers=AllowAll()))
    kept, named = str(tmp_path / "receipt.json"), ("--repository", "alice/project")
    call = ("runner", "call", stage.url, *named, "--commit", build.commit)
    secrets = ("--secrets", stage.developer, "--receipt", kept)
    called = await desk.run(*call, *secrets)
    assert called.status == 0 and f"API_KEY={SECRET}" in called.out.split("\0"), called
    shown = re.sub(r"\s+", " ", (await desk.run("verify", kept)).out)
    assert f"built from {build.words}, as the owner of the secrets verified it" in shown
    assert (await desk.run(*call, version.project.text)).status == 0
    unknown = await desk.run(*call, version.project.text, "--target", "wasm32-wasip2")
    assert unknown.status == 1 and "program-unknown" in unknown.err
    assert "sealspace project publish NAME FILE --provenance BUNDLE" in unknown.err
    branch = (*call[:-1], "main", version.project.text)
    assert (await desk.run(*branch)).status == 0  # RN267
    unknown = await desk.run(*call[:-1], "v1", version.project.text)
    assert unknown.status == 1 and "activate a build of it" in unknown.err, unknown
    limited = await desk.run(*branch, "--max-memory-mb", "2", "--max-execution-s", "3")
    assert {"NEAR_MAX_MEMORY_MB=2", "NEAR_MAX_EXECUTION_SECONDS=3"} <= {*limited.out.split("\0")}
    (tmp_path / "key").write_text(await stage.key("built"))
    (tmp_path / "key").chmod(0o600)
    key = ("--key", str(tmp_path / "key"))
    assert (await desk.run(*call, version.project.text, *key)).status == 1  # no JSON
    unknown = await desk.run(*call[:-1], "b2" * 20, version.project.text, *key)
    assert "program-unknown" in unknown.err
    for wrong in (call[:-2], call[:3], (*call[:-1], "main"), (*call, *key)):
        ran = await desk.run(*wrong)
        assert ran.status in (1, 2) and len(ran.err.splitlines()) == 2, ran


async def test_RN264_unbound_values_are_granted_and_shown(
    desk: Desk, stage: RunnerStage, tmp_path: Path
) -> None:
    """RN264: a call names a secret that does not state its place, and `--allow-unbound` delivers
    it."""
    await desk.log_in("--space", "public")
    assert (await desk.run("secret", "put", "API_KEY", given=SECRET)).status == 0
    owner = json.loads((await desk.run("whoami", "--json")).out)["owner"]
    session = load_session(desk.home / "session.json")
    async with Client(stage.node.url, session=session) as client:
        await put_unbound(client, parse_secret_name("API_KEY"), SECRET)
    wasm = tmp_path / "program.wasm"
    wasm.write_bytes(wasmtime.wat2wasm(ENVIRONMENT))
    assert (await desk.run("project", "publish", "unbound", str(wasm))).status == 0
    grant = (
        *("runner", "grant", stage.url, "--secret", "API_KEY", "--program", "unbound"),
        "--yes",
    )
    granted = await desk.run(*grant)
    assert granted.status == 0 and "where they belong" not in granted.out, granted
    call = ("runner", "call", stage.url, f"{owner}/unbound", "--secrets", "me")
    refused = await desk.run(*call)
    assert refused.status == 1 and SECRET not in refused.out + refused.err, refused
    assert refused.err.startswith("sealspace: secret-not-bound: ") and "API_KEY" in refused.err
    assert "sealspace secret put NAME" in refused.next, refused
    granted = await desk.run(*grant, "--allow-unbound")
    assert "secrets that do not say where they belong are delivered" in granted.out, granted
    listed = json.loads((await desk.run("runner", "list", "--json")).out)
    assert [one["run"].get("unbound") for one in listed].count(True) == 1
    assert f"API_KEY={SECRET}" in (await desk.run(*call)).out
