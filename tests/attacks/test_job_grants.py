"""Attacks with a job's grants that are replayed or delivered together (RN245 to RN247)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import Any

import pytest
import pytest_asyncio
import wasmtime
from job_grants import granted_by_job
from runner_stage import ENVIRONMENT, P1, RunnerStage, runner_stage

from capabilities.cids import BLAKE3_256, Cid, parse_cid
from capabilities.clock_and_entropy import SystemEntropy
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json
from sealspace.apps.backends import deliver
from sealspace.apps.programs import Version
from sealspace.documents.builds import Build
from sealspace.documents.call_conditions import AllowAll
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import JOB_FACT, ByHash, RunStatement
from sealspace.errors import GrantNotTaken
from sealspace.session import Session, key_session, mint, read_grant
from sealspace.wire.portable import PortableDelegation, portable_of

FIRST, SECOND = "a1" * 20, "b2" * 20
REPOSITORY = "github.com/alice/project"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module; each test has a job and a project of its own."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"))
        await staged.owner.secrets().put("API_KEY", "open sesame")
        yield staged


class Job:
    """A job with two versions of a project, and a token of the owner."""

    def __init__(self, stage: RunnerStage, versions: list[Version], session: Session) -> None:
        self.stage, self.versions, self.session = stage, versions, session

    def grant(self, at: int) -> PortableDelegation:
        return granted_by_job(self.session, self.versions[at].sha256, (FIRST, SECOND)[at])

    async def delivered(self, *portables: PortableDelegation) -> dict[str, str]:
        answer: dict[str, str] = json.loads((await deliver(self.stage.url, *portables)).body)
        return answer

    async def usable(self, at: int, stage: RunnerStage | None = None) -> bool:
        """Return whether a version receives the secret."""
        stage, version = stage or self.stage, self.versions[at]
        source = {"project": version.project.text, "version": version.sha256}
        status, answer = await stage.call("", source=source, secrets=stage.developer)
        assert status == 200 or answer["error"]["code"] == "access-denied", answer
        return status == 200 and "open sesame" in answer["output"]


@pytest_asyncio.fixture(loop_scope="module")
async def job(stage: RunnerStage) -> Job:
    name = f"p{token_hex(4)}"
    versions = []
    for at in (0, 1):
        text = f'{ENVIRONMENT.rstrip().removesuffix(")")} (data (i32.const 900) "{name}{at}"))'
        wasm = bytes(wasmtime.wat2wasm(text))
        publisher = stage.owner.programs(public=True)
        versions.append(await publisher.publish(name, wasm, target=P1, signer=stage.wallet))
    build = Build(
        repository=REPOSITORY,
        repository_id="1001",
        ref="refs/heads/main",
        commit=FIRST,
        workflow=f"{REPOSITORY}/.github/workflows/release.yml",
    )
    project = parse_project(f"{stage.developer}/{name}")
    seed = token_bytes(32)
    run = RunStatement(
        programs=(ByHash(versions[0].sha256, project, build),),
        callers=AllowAll(),
        refresh_for=stage.runner.did,
    )
    offer = await stage.owner.runners.grant(
        await stage.look(), ["API_KEY"], run, wallet=stage.wallet, job=Ed25519Signer(seed).did
    )
    return Job(stage, versions, key_session(seed).with_grant(read_grant(offer.header)))


async def test_a_replaced_grant_is_replayed(job: Job) -> None:
    """RN247: a stranger who replays a former grant neither restores it nor ends the current
    grant."""
    first, second = job.grant(0), job.grant(1)
    await job.delivered(first)
    assert await job.delivered(second) == {first.cid: FIRST}
    for _ in range(2):
        await deliver(job.stage.url, first)
        assert not await job.usable(0)
        assert await job.usable(1)


async def test_a_revoked_grant_is_replayed(job: Job) -> None:
    first, second = job.grant(0), job.grant(1)
    await job.delivered(first)
    former = await job.delivered(second)
    await (await job.stage.client(job.session)).delegations.revoke(*former)
    with pytest.raises(GrantNotTaken):
        await deliver(job.stage.url, first)
    assert await job.usable(1) and not await job.usable(0)


async def test_grants_in_one_delivery(job: Job) -> None:
    """RN247: two grants in one delivery do not keep two builds in use."""
    first, second = job.grant(0), job.grant(1)
    assert await job.delivered(first, second) == {first.cid: FIRST}
    assert await job.usable(1) and not await job.usable(0)


async def test_refreshes_at_the_same_time(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN247: of several concurrent refreshes, only one grant remains in use."""
    backend, both = job.stage.runner.backend, asyncio.Barrier(2)
    monkeypatch.setattr(backend._attester, "_attested_at", 0.0)
    attest = backend.attest

    async def slow(network: Any) -> Any:
        await both.wait()
        return await attest(network)

    with monkeypatch.context() as patch:
        patch.setattr(backend, "attest", slow)
        await asyncio.gather(*(job.delivered(job.grant(at)) for at in (0, 1)))
    assert await job.usable(0) is not await job.usable(1)


async def test_another_spelling_of_the_parent(job: Job) -> None:
    """RN247: a grant that cites the job grant by another codec replaces the former grant too."""
    await job.delivered(first := job.grant(0))
    offer = job.session.grants[0]
    fact: Json = {JOB_FACT: offer.header, "wasmSha256": job.versions[1].sha256, "commit": SECOND}
    header = mint(
        job.session.signer,
        SystemEntropy(),
        audience=job.stage.runner.did,
        capabilities=offer.capabilities,
        proofs=[Cid(0x71, BLAKE3_256, parse_cid(offer.cid).digest).text()],
        expires_at=offer.expires_at or 0,
        facts=[fact],
        issuer=job.session.did,
    )
    second = portable_of(read_grant(header), owner=job.stage.owner.session.owner, host="")
    assert await job.delivered(second) == {first.cid: FIRST}
    assert await job.usable(1) and not await job.usable(0)


async def test_a_replaced_grant_after_a_restart(job: Job, tmp_path: Path) -> None:
    """RN247: a restarted runner refuses a replayed former grant."""
    first, second = job.grant(0), job.grant(1)
    for delivered in ((first, second), (first,), ()):
        async with AsyncExitStack() as stack:
            stage = await job.stage.another(stack, tmp_path / "runner")
            for portable in delivered:
                await stage.runner.accept(portable)
            assert await job.usable(1, stage) and not await job.usable(0, stage)
