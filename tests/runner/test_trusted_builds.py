"""Tests of grants to all builds of a repository, which the runner verifies (PV17 to PV22)."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
import wasmtime
from msgspec import structs
from runner_stage import ENVIRONMENT, P1, RunnerStage, runner_stage
from sigstore_authority import BUILT_AT, SigstoreAuthority

from capabilities.clock_and_entropy import SystemClock
from runner.calls.journal import Journal
from runner.reasons import RunRefused
from sealspace.apps.programs import Provenance, Version
from sealspace.apps.provenance import parse_trusted_root, verify_provenance
from sealspace.documents.builds import GITHUB_ISSUER, Build, RunNumber, TrustedBuilds
from sealspace.documents.call_conditions import AllowAll, Whitelist
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import ByBuilds, RunStatement
from sealspace.documents.trusted_roots import named_root
from sealspace.errors import BackendAnswerInvalid, SealspaceError

SECRET = "open sesame"
REPOSITORY, REF = "github.com/alice/project", "refs/heads/main"
WORKFLOW = f"{REPOSITORY}/.github/workflows/release.yml"
OTHER_WORKFLOW = "github.com/alice/project/.github/workflows/nightly.yml"
AUTHORITY, FORGER = SigstoreAuthority(), SigstoreAuthority()
ROOT, OTHER_ROOT = named_root(AUTHORITY.trusted_root), named_root(FORGER.trusted_root)
BUILDS = TrustedBuilds(
    repository=REPOSITORY,
    repository_id="1001",
    ref=REF,
    source_workflow=WORKFLOW,
    signer=f"{WORKFLOW}@{REF}",
    target="wasm32-wasip1",
    issuer=GITHUB_ISSUER,
    trusted_root=ROOT.sha256,
    least_run=10,
    least_attempt=1,
)
BUILD = Build(
    repository=REPOSITORY, repository_id="1001", ref=REF, commit="a1" * 20, workflow=WORKFLOW
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner with a trusted root, and an owner with a secret, for the tests of this module."""
    roots = {ROOT.sha256: ROOT.document}
    async with AsyncExitStack() as stack:
        made = await runner_stage(stack, tmp_path_factory.mktemp("runner"), roots=roots)
        await made.owner.secrets().put("API_KEY", SECRET)
        yield made


_made = 0


class Project:
    """A project whose versions are builds, and which has a grant of its own."""

    def __init__(self, stage: RunnerStage) -> None:
        global _made
        _made += 1
        self.stage = stage
        self.name = f"builds{_made}"

    def wasm(self, content: str) -> bytes:
        own = f'(data (i32.const 900) "{self.name} {content}")'
        return bytes(wasmtime.wat2wasm(f"{ENVIRONMENT.rstrip().removesuffix(')')} {own})"))

    async def grant(self, builds: TrustedBuilds = BUILDS, **terms: Any) -> None:
        """Grant the secret to builds."""
        project = parse_project(f"{self.stage.developer}/{self.name}")
        callers = terms.pop("callers", AllowAll())
        statement = RunStatement(programs=(ByBuilds(project, builds),), callers=callers)
        await self.stage.grant(["API_KEY"], statement, **terms)

    async def publish(
        self,
        content: str,
        *,
        bundle: bytes | None = None,
        authority: SigstoreAuthority = AUTHORITY,
        stage: RunnerStage | None = None,
        **claims: Any,
    ) -> Version:
        """Publish and activate a build, whose bundle has the given claims."""
        stage = stage or self.stage
        wasm = self.wasm(content)
        sha256 = hashlib.sha256(wasm).hexdigest()
        if bundle is None:
            bundle = authority.bundle(sha256, **{"run": 10, **claims})
        return await stage.owner.programs(public=True).publish(
            self.name,
            wasm,
            target=P1,
            signer=stage.wallet,
            provenance=Provenance(BUILD, bundle),
        )

    async def call(self, stage: RunnerStage | None = None, **members: Any) -> dict[str, Any]:
        """Call the active version, after the runner has forgotten which one it is."""
        stage = stage or self.stage
        forget_active(stage)
        _, answer = await stage.call(self.name, secrets=self.stage.developer, **members)
        return answer


def forget_active(stage: RunnerStage) -> None:
    """Make the runner read active versions again, as it does after 5 s (RN53)."""
    stage.runner.programs._found.clear()


def got_secret(answer: dict[str, Any]) -> bool:
    return f"API_KEY={SECRET}" in json.dumps(answer)


def code_of(answer: dict[str, Any]) -> str:
    return str(answer.get("code"))


async def test_later_builds_get_the_secret(stage: RunnerStage) -> None:
    """PV17, PV20, PV22: each later build is verified once, and the receipt says by whom."""
    project = Project(stage)
    await project.publish("one")
    await project.grant()
    forked = stage.runner.executor.bundles.forked
    answer = await project.call()
    assert got_secret(answer), answer
    stated = json.loads(json.dumps(answer))["receipt"]["statement"]
    assert stated["build"]["commit"] == "a1" * 20
    assert stated["buildVerifiedBy"] == "runner"
    assert got_secret(await project.call())
    assert stage.runner.executor.bundles.forked == forked + 1
    await project.publish("two", run=11)
    assert got_secret(await project.call())
    await project.publish("three", run=11, attempt=2, log_version=2)
    assert got_secret(await project.call())
