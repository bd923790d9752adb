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
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from runner_stage import ENVIRONMENT, P1, RunnerStage, runner_stage
from sigstore_authority import BUILT_AT, SigstoreAuthority

from runner.calls.journal import BuildRecord, BuildRuleKey, Journal
from runner.guest.bundles import parse_answer
from runner.reasons import RunRefused
from sealspace.apps.programs import Provenance, Version
from sealspace.documents.builds import GITHUB_ISSUER, Build, Origin, RunNumber, TrustedBuilds
from sealspace.documents.call_conditions import AllowAll, Whitelist
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import ByBuilds, RunStatement
from sealspace.documents.trusted_roots import named_root
from sealspace.errors import BackendAnswerInvalid, SealspaceError
from serving.messages import pack_parts

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
    return str((answer.get("error") or {}).get("code"))


def error_of(answer: dict[str, Any]) -> str:
    return json.dumps(answer.get("error"))


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


OTHER_ORIGINS: dict[str, dict[str, Any]] = {
    "repository-id": {"repository_id": "1002"},
    "repository": {"repository": "github.com/bob/project"},
    "ref": {"ref": "refs/heads/other"},
    "config": {"config": f"{OTHER_WORKFLOW}@{REF}"},
    "signer": {"workflow": OTHER_WORKFLOW, "config": f"{WORKFLOW}@{REF}"},
    "issuer": {"issuer": "https://issuer.example"},
    "environment": {"environment": "self-hosted"},
    "cannot be verified": {"authority": FORGER},
    "older than run 10": {"run": 9, "attempt": 7},
}


@pytest.mark.parametrize("said", OTHER_ORIGINS)
async def test_builds_of_another_origin(stage: RunnerStage, said: str) -> None:
    """PV17, PV19: a build that differs in one part gets nothing, and the owner learns which."""
    project = Project(stage)
    await project.grant()
    await project.publish("one", **OTHER_ORIGINS[said])
    answer = await project.call(session=await stage.calling_session())
    assert code_of(answer) == "build-not-proven", answer
    assert said in error_of(answer), answer
    assert not got_secret(answer)
    stranger = await project.call()
    assert code_of(stranger) == "build-not-proven"
    assert "instead of" not in error_of(stranger), "details are for the owner"
    assert "receipt" not in stranger or "build" not in stranger["receipt"]["statement"]


async def test_a_foreign_signer_at_another_ref(stage: RunnerStage) -> None:
    """PV17: a reusable workflow is trusted at one ref, and not at one that the source chooses."""
    foreign = "github.com/carol/tools/.github/workflows/build.yml"
    project = Project(stage)
    await project.grant(structs.replace(BUILDS, signer=f"{foreign}@refs/tags/v1"))
    claims: dict[str, Any] = {"workflow": foreign, "config": f"{WORKFLOW}@{REF}"}
    await project.publish("one", workflow_ref="refs/tags/v1", **claims)
    assert got_secret(await project.call())
    await project.publish("two", run=11, workflow_ref="refs/heads/fork", **claims)
    assert code_of(await project.call()) == "build-not-proven"


async def test_an_older_run_or_attempt(stage: RunnerStage) -> None:
    """PV21: after a run was admitted, no older run and no older attempt is, nor other bytes."""
    project = Project(stage)
    await project.grant()
    await project.publish("twelve", run=12, attempt=2)
    assert got_secret(await project.call())
    for content, run, attempt in (("eleven", 11, 9), ("first", 12, 1), ("again", 12, 2)):
        await project.publish(content, run=run, attempt=attempt)
        assert code_of(await project.call()) == "build-not-proven", content
    await project.publish("twelve", run=12, attempt=2)
    assert got_secret(await project.call())
    # A new grant of the same builds goes on with the number of the former one.
    await project.grant(structs.replace(BUILDS, least_run=11))
    await project.publish("eleven", run=11, attempt=9)
    assert code_of(await project.call()) == "build-not-proven"


async def test_the_number_outlives_the_process(stage: RunnerStage) -> None:
    """PV21: the number is on disk before a secret is read; a restarted runner knows it."""
    project = Project(stage)
    await project.publish("twelve", run=12)
    roots = {ROOT.sha256: ROOT.document}
    folder = stage.folder / "restarted"
    async with AsyncExitStack() as stack:
        first = await stage.another(stack, folder, roots=roots)
        await Project.grant(_at(project, first))
        reader = first.runner._secret_reader
        seen = list[tuple[int, int]]()

        async def read(*_: object) -> dict[str, Any]:
            row = await first.runner.journal.write(
                lambda one: one.execute("SELECT run, attempt FROM builds").fetchone()
            )
            seen.append(row)
            raise RunRefused("secret-unreadable")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader, "read", read)
            assert code_of(await project.call(first)) == "secret-unreadable"
        assert seen == [(12, 1)], "recorded before the secret was read"
    async with AsyncExitStack() as stack:
        second = await stage.another(stack, folder, roots=roots)
        await project.publish("eleven", run=11)
        assert code_of(await project.call(second)) == "build-not-proven"
        await project.publish("thirteen", run=13)
        assert got_secret(await project.call(second))


def _at(project: Project, stage: RunnerStage) -> Project:
    """Return the same project, whose grants are delivered to another runner."""
    other = Project(stage)
    other.name = project.name
    return other


async def test_a_restored_journal_is_bounded_by_the_grant(stage: RunnerStage) -> None:
    """PV17: a journal that forgot the last number admits no run before the first of the grant."""
    project = Project(stage)
    await project.grant()
    await project.publish("twelve", run=12)
    assert got_secret(await project.call())
    await stage.runner.journal.write(lambda one: one.execute("DELETE FROM builds"))
    await project.publish("nine", run=9)
    assert code_of(await project.call()) == "build-not-proven"


async def test_two_runs_at_once(tmp_path: Any) -> None:
    """PV21: of two admissions at once, the lower run is refused if the higher one came first."""
    now, ends_at = 1_000.0, 2_000.0
    async with Journal(tmp_path / "journal.sqlite") as journal:

        async def record(run: int, sha256: str) -> bool:
            number = RunNumber(run, 1)
            rule = BuildRuleKey(b"owner", b"rule")
            found = await journal.record_build(rule, number, sha256, ends_at=ends_at, now=now)
            return found is BuildRecord.ADMITTED

        higher, lower = await asyncio.gather(record(5, "five"), record(4, "four"))
        assert higher and not lower
        assert all(await asyncio.gather(record(6, "six"), record(7, "seven")))
        assert not await record(6, "six")
        assert await record(7, "seven")
        assert not await record(7, "other bytes")


async def test_a_full_table_forgets_no_live_rule(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PV21: a full table refuses another rule, and forgets only rules whose grants have ended. An
    owner leaves as much room as it uses."""
    monkeypatch.setattr("runner.calls.journal._MOST_BUILD_RULES", 4)
    admitted, no_room = BuildRecord.ADMITTED, BuildRecord.NO_ROOM
    async with Journal(tmp_path / "journal.sqlite") as journal:

        async def record(name: bytes, run: int, *, now: float, ends_at: float) -> BuildRecord:
            rule = BuildRuleKey(owner=name[:1], digest=name)
            number = RunNumber(run, 1)
            return await journal.record_build(rule, number, "ab", ends_at=ends_at, now=now)

        assert await record(b"a1", 5, now=0, ends_at=100) is admitted
        assert await record(b"a2", 5, now=0, ends_at=10) is admitted
        assert await record(b"a3", 5, now=1, ends_at=100) is no_room
        assert await record(b"b1", 5, now=1, ends_at=100) is admitted
        assert await record(b"b2", 5, now=1, ends_at=100) is no_room
        assert await record(b"c1", 5, now=1, ends_at=100) is admitted
        assert await record(b"d1", 5, now=1, ends_at=100) is no_room
        assert await record(b"d1", 5, now=11, ends_at=100) is admitted
        assert await record(b"a1", 4, now=12, ends_at=100) is BuildRecord.SUPERSEDED


async def test_PV21_a_full_table_has_a_reason_of_its_own(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller is told that the build cannot be recorded, and not that a later one was admitted."""
    project = Project(stage)
    await project.grant()
    await project.publish("one")
    monkeypatch.setattr("runner.calls.journal._MOST_BUILD_RULES", 0)
    answer = await project.call()
    assert code_of(answer) == "builds-full" and "one owner" in error_of(answer), answer
    monkeypatch.undo()
    assert (await project.call())["status"] == "completed"


async def test_a_grant_by_another_trusted_root(stage: RunnerStage) -> None:
    """PV18: a grant that names a root which the runner does not have is refused at delivery."""
    project = Project(stage)
    with pytest.raises((BackendAnswerInvalid, SealspaceError)) as refused:
        await project.grant(structs.replace(BUILDS, trusted_root=OTHER_ROOT.sha256))
    assert OTHER_ROOT.sha256 in str(refused.value), refused.value


async def test_a_trusted_root_that_was_rotated(stage: RunnerStage) -> None:
    """PV18: with another root of the operator's, held grants admit nothing until a new grant."""
    project = Project(stage)
    await project.grant()
    await project.publish("one")
    proofs = stage.runner._proofs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proofs, "roots", {OTHER_ROOT.sha256: OTHER_ROOT.document})
        answer = await project.call(session=await stage.calling_session())
    assert code_of(answer) == "build-not-proven" and ROOT.sha256 in error_of(answer), answer


async def test_only_the_active_version(stage: RunnerStage) -> None:
    """PV20: a version that is called by its hash is not admitted, so it raises no number."""
    project = Project(stage)
    await project.grant()
    version = await project.publish("one")
    source = {"project": f"{stage.developer}/{project.name}", "version": version.sha256}
    answer = await project.call(source=source)
    assert code_of(answer) in ("access-denied", "secrets-not-granted"), answer
    (rows,) = await stage.runner.journal.write(
        lambda one: one.execute(
            "SELECT count(*) FROM builds WHERE sha256 = ?", (version.sha256,)
        ).fetchone()
    )
    assert rows == 0


async def test_another_target(stage: RunnerStage) -> None:
    """PV20: a program of another target than the grant's is not admitted by its bundle."""
    project = Project(stage)
    await project.grant(structs.replace(BUILDS, target="wasm32-wasip2"))
    await project.publish("one")
    assert code_of(await project.call()) == "access-denied"


async def test_a_caller_who_is_not_admitted_costs_no_verification(stage: RunnerStage) -> None:
    """PV20: the condition on callers comes first."""
    project = Project(stage)
    await project.grant(callers=Whitelist(()))
    await project.publish("one")
    forked = stage.runner.executor.bundles.forked
    assert code_of(await project.call()) == "access-denied"
    assert stage.runner.executor.bundles.forked == forked


@pytest.mark.parametrize(
    ("said", "bundle"),
    [
        ("longer than 262144 bytes", b"{" + b" " * (256 * 1024) + b"}"),
        ("is not a JSON object", b"[" * 100_000),
        ("cannot be verified", b"{}"),
    ],
)
async def test_bundles_that_prove_nothing(stage: RunnerStage, said: str, bundle: bytes) -> None:
    """PV1, PV19: long, deep and empty bundles are refused, and not read again at once."""
    project = Project(stage)
    await project.grant()
    await project.publish("one", bundle=bundle)
    session = await stage.calling_session()
    forked = stage.runner.executor.bundles.forked
    for _ in range(3):
        answer = await project.call(session=session)
        assert code_of(answer) == "build-not-proven" and said in error_of(answer), answer
    assert stage.runner.executor.bundles.forked <= forked + 1


async def test_a_bundle_that_verifies_slowly(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PV19: a verification that does not end is ended, and its time counts for the developer."""
    monkeypatch.setattr("runner.guest.bundles._VERIFY_S", 0.0)
    project = Project(stage)
    await project.grant()
    session = await stage.calling_session()
    # On a busy machine the child can answer before this process runs again, which is in time.
    for run in range(10, 60):
        await project.publish(f"build {run}", run=run)
        answer = await project.call(session=session)
        if not got_secret(answer):
            break
    assert code_of(answer) == "runner-busy", answer
    monkeypatch.setattr("runner.guest.bundles._DEVELOPER_S", 0.0)
    answer = await project.call(session=session)
    assert code_of(answer) == "runner-busy" and "quota" in error_of(answer), answer
    monkeypatch.undo()
    assert got_secret(await project.call())


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("runner-failed", b""),
        ("runner-failed", pack_parts([b""])),
        ("runner-failed", pack_parts([b"", b"", b""])),
        ("runner-failed", pack_parts([b"", b"{}"])),
        ("build-not-proven", pack_parts([b"refused", b"\xff"])),
    ],
)
async def test_malformed_answers_of_a_child(code: str, answer: bytes) -> None:
    """PV19: an answer that does not have the parts of an answer proves nothing."""
    with pytest.raises(RunRefused) as refused:
        parse_answer(answer)
    assert refused.value.reason.code == code


@given(st.one_of(st.binary(max_size=200), st.lists(st.binary(max_size=60)).map(pack_parts)))
async def test_fuzz_answers_of_a_child(answer: bytes) -> None:
    """Any bytes are an origin, or a refusal (PV19)."""
    try:
        origin = parse_answer(answer)
    except RunRefused as refused:
        assert refused.reason.code in {"runner-failed", "build-not-proven"}
    else:
        assert isinstance(origin, Origin)


async def test_the_clock_of_the_operator_proves_nothing(stage: RunnerStage) -> None:
    """PV3, PV19: a build counts by the time that the log signed, whatever the machine's clock
    says."""
    project = Project(stage)
    await project.grant()
    before_the_authority = BUILT_AT.replace(year=2020)
    await project.publish("one", signed_at=before_the_authority)
    assert code_of(await project.call()) == "build-not-proven"
    # Its certificate ended long before the machine's clock, and the log signed in its lifetime.
    await project.publish("two", signed_at=BUILT_AT)
    assert got_secret(await project.call())
