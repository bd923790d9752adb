"""Calls by repository and commit, and the label in receipts (RN240 to RN244)."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
import wasmtime
from capability_cases import BOB
from runner_stage import ENVIRONMENT, P1, RunnerStage, runner_stage
from tests_support import altered

from capabilities.strict_json import Json
from runner.calls.call_bodies import parse_api_body, parse_body
from runner.calls.run_receipts import RECEIPT_TYPE, verify_run
from runner.reasons import RunRefused
from sealspace.apps.backends import deliver
from sealspace.apps.programs import Provenance, Version
from sealspace.apps.runners import call_runner
from sealspace.documents.builds import Build
from sealspace.documents.call_conditions import AllowAll, Condition, Whitelist
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import ByHash, ByProject, ProgramRule, RunStatement
from sealspace.documents.signed_statements import sign_statement
from sealspace.errors import InvalidInput, StatementInvalid

REPOSITORY = "github.com/alice/project"
SECRET = "open sesame"
COMMAND = "sealspace project publish NAME FILE --provenance BUNDLE"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module; each test has commits and projects of its own."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"))
        for name in ("API_KEY", "OTHER"):
            await staged.owner.secrets().put(name, SECRET)
        yield staged


def build_at(commit: str, repository: str = REPOSITORY) -> Build:
    return Build(
        repository=repository,
        repository_id="1001",
        ref="refs/heads/main",
        commit=commit * 40,
        workflow=f"{repository}/.github/workflows/release.yml",
    )


def source_of(build: Build, **more: str) -> dict[str, Any]:
    return {"GitHub": {"repo": build.repository, "commit": build.commit, **more}}


async def published(
    stage: RunnerStage, name: str, build: Build | None, *, public: bool = True, bytes_of: str = ""
) -> Version:
    """Publish a program with other bytes for each name, by a developer who states the build."""
    text = f'{ENVIRONMENT.rstrip().removesuffix(")")} (data (i32.const 900) "{bytes_of or name}"))'
    return await stage.owner.programs(public=public).publish(
        name,
        bytes(wasmtime.wat2wasm(text)),
        target=P1,
        signer=stage.wallet,
        provenance=None if build is None else Provenance(build, b"{}"),
    )


async def granted(
    stage: RunnerStage,
    *rules: ProgramRule,
    secret: str = "API_KEY",
    callers: Condition | None = None,
) -> None:
    await stage.grant([secret], RunStatement(programs=rules, callers=callers or AllowAll()))


async def called(stage: RunnerStage, source: dict[str, Any], **more: Any) -> tuple[int, Any]:
    return await stage.call("", source=source, **more)


def code(answered: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    assert SECRET not in json.dumps(answered[1])
    return answered[0], answered[1]["error"]["code"]


def project(stage: RunnerStage, name: str) -> str:
    return f"{stage.developer}/{name}"


async def test_a_repository_and_commit_run_the_published_version(stage: RunnerStage) -> None:
    """RN61, RN240, RN241: a call by repository and commit runs the version published for them."""
    build = build_at("1")
    version = await published(stage, "spelled", build)
    await published(stage, "spelled", None, bytes_of="newer")  # now the active one
    await granted(stage, ByHash(version.sha256, version.project, build))
    for repo in (
        REPOSITORY,
        "alice/project",
        f"https://{REPOSITORY}",
        f"https://{REPOSITORY}.git",
        "git@github.com:alice/project.git",
    ):
        source = source_of(build) | {"project": version.project.text}
        source["GitHub"]["repo"] = repo
        for sent, secrets in ((source, None), ({"GitHub": source["GitHub"]}, stage.developer)):
            status, answer = await called(stage, sent, secrets=secrets)
            assert (status, answer["status"]) == (200, "completed"), answer
            assert (SECRET in answer["output"]) is (secrets is not None)
            stated = answer["receipt"]["statement"]
            assert stated["program"] == version.sha256
            assert stated["project"] == version.project.text
    # a name in other capitals is another one
    source["GitHub"]["repo"] = "Alice/project"
    assert code(await called(stage, source)) == (404, "program-unknown")


async def test_the_sdk_calls_by_repository_and_commit(stage: RunnerStage) -> None:
    build = build_at("2")
    version = await published(stage, "sdk", build)
    await granted(stage, ByHash(version.sha256, version.project, build))
    session = await stage.calling_session()
    ref: dict[str, Json] = {"profile": "default", "owner": stage.developer}
    bodies: tuple[dict[str, Json], ...] = (
        {"source": source_of(build), "secretsRef": ref},
        {"source": source_of(build) | {"project": version.project.text}},
    )
    for body in bodies:
        answer = await call_runner(stage.url, session, body)
        assert answer["status"] == "completed", answer
    wrong: tuple[dict[str, Json], ...] = (
        {},
        {"repo": REPOSITORY},
        {"repo": "example.com/a/b", "commit": "1" * 40},
    )
    for github in wrong:
        with pytest.raises(InvalidInput):
            await call_runner(stage.url, session, {"source": {"GitHub": github}})


async def test_an_api_key_calls_by_repository_and_commit(stage: RunnerStage) -> None:
    """RN96, RN240, RN242: a call with an API key names the project in its path."""
    build = build_at("3")
    version = await published(stage, "keyed", build)
    await published(stage, "keyed", None, bytes_of="newer keyed")
    await granted(stage, ByHash(version.sha256, version.project, build))
    key = await stage.key("keyed", profiles=["default"])
    asked = {
        "input": "hello",
        "source": source_of(build),
        "response_format": "Text",
        "secrets_ref": {"profile": "default", "account_id": stage.developer},
    }
    status, answer = await stage.api("keyed", key, asked)
    assert status == 200 and SECRET in answer["output"], answer
    _, pending = await stage.api("keyed", key, asked | {"async": True})
    _, later = await stage.polled(pending["call_id"], key)
    assert later["status"] == "completed" and SECRET in later["output"]
    status, answer = await stage.api("keyed", key, asked | {"source": source_of(build_at("0"))})
    assert (status, answer["code"]) == (404, "program-unknown") and COMMAND in answer["error"]


async def test_RN267_a_branch_or_tag(stage: RunnerStage) -> None:
    """RN267: it is a call of the active version, which runs only if it was built from that ref."""
    build = build_at("9")
    tagged = altered(build, ref="refs/tags/v1")
    version = await published(stage, "refs", build)
    name = version.project.text
    await granted(stage, ByProject(version.project))
    key = await stage.key("refs", profiles=["default"])
    mine = {"profile": "default", "account_id": stage.developer}

    async def named(ref: str, **more: str) -> tuple[int, dict[str, Any]]:
        github = {"repo": REPOSITORY, "commit": ref, **more}
        source = {"GitHub": github, "project": name}
        answered = await called(stage, source, secrets=stage.developer)
        body = {"input_data": "", "source": {"GitHub": github}, "secrets_ref": mine}
        by_key = await stage.api("refs", key, body)
        assert by_key[0] == answered[0]
        return answered

    for ref in ("main", "refs/heads/main"):
        status, answer = await named(ref)
        assert status == 200 and SECRET in answer["output"], answer
        assert answer["receipt"]["statement"]["program"] == version.sha256
    for ref, more in (
        ("v1", {}),
        ("refs/tags/main", {}),
        ("heads/main", {}),
        ("main", {"repo": "github.com/alice/other"}),
        ("main", {"build_target": "wasm32-wasip2"}),
    ):
        refused = await named(ref, **more)
        assert code(refused) == (404, "program-unknown")
        assert "activate a build of it" in refused[1]["error"]["detail"]
    newer = await published(stage, "refs", tagged, bytes_of="newer refs")
    stage.runner.programs._found.pop((version.project, None), None)
    status, answer = await named("v1")
    assert answer["receipt"]["statement"]["program"] == newer.sha256, answer
    assert code(await named("main")) == (404, "program-unknown")
    await published(stage, "refs", None, bytes_of="without a build")
    stage.runner.programs._found.pop((version.project, None), None)
    assert code(await named("v1")) == (404, "program-unknown")


async def test_a_call_that_runs_later_keeps_its_project(stage: RunnerStage) -> None:
    """RN242: an asynchronous call runs in the project that its request named."""
    build = build_at("4")
    version = await published(stage, "later", build)
    await granted(stage, ByHash(version.sha256, version.project, build))
    session = await stage.calling_session()
    _, pending = await called(stage, source_of(build), session=session, **{"async": True})
    assert pending["status"] == "pending", pending
    job = pending["job"]
    while (answer := (await stage.signed("GET", f"/calls/{job}", f"calls/{job}"))[1])[
        "status"
    ] == "pending":
        pass
    assert answer["receipt"]["statement"]["project"] == version.project.text


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"GitHub": {"repo": REPOSITORY, "commit": "main"}}, "moves"),
        ({"GitHub": {"repo": REPOSITORY, "commit": "a b"}}, "full hash"),
        ({"GitHub": {"repo": REPOSITORY, "commit": ""}}, "full hash"),
        ({"GitHub": {"repo": REPOSITORY, "commit": "A1" * 20}}, "lower-case"),
        ({"GitHub": {"repo": REPOSITORY, "commit": "a1" * 10}}, "full hash"),
        ({"GitHub": {"repo": "gitlab.com/a/b/c", "commit": "a1" * 20}}, "repository"),
        ({"GitHub": {"repo": "https://evil.example/a/b", "commit": "a1" * 20}}, "repository"),
        ({"GitHub": {"repo": REPOSITORY}}, "commit"),
        ({"GitHub": {"commit": "a1" * 20}}, "repo"),
        (source_of(build_at("1"), build_target="wasm32-unknown"), "build_target"),
        (source_of(build_at("1"), branch="main"), "unknown member"),
        (source_of(build_at("1")) | {"version": "ab" * 32}, "source"),
        (source_of(build_at("1")) | {"wasmSha256": "ab" * 32}, "source"),
        (source_of(build_at("1")) | {"project": BOB.did}, "project"),
        ({"GitHub": None}, "source"),
        ({"version": "ab" * 32}, "source"),
        ({"wasmSha256": "ab" * 32, "version": "ab" * 32}, "source"),
        ({}, "source"),
    ],
)
async def test_sources_that_are_refused(source: dict[str, Any], said: str) -> None:
    """RN66, RN240: a call with a malformed or unknown source is refused."""
    with pytest.raises(RunRefused) as refusal:
        parse_body(json.dumps({"source": source}).encode())
    assert refusal.value.reason.code == "request-invalid" and said in refusal.value.reason.detail


@pytest.mark.parametrize(
    "members",
    [
        {"version_key": "ab" * 32, "source": source_of(build_at("1"))},
        {"source": {}},
        {"source": {"project": f"{BOB.did}/a"}},
        {"source": source_of(build_at("1")) | {"project": f"{BOB.did}/a"}},
        {"source": {"GitHub": {"repo": REPOSITORY, "commit": "a1b2c3d"}}},
        {"source": {"WasmUrl": {"url": "https://a.example/x.wasm", "hash": "ab" * 32}}},
        {"source": {"Project": {"project_id": "alice.near/a"}}},
        {"source": source_of(build_at("1")), "prompt": "Hello"},
    ],
)
async def test_sources_that_are_refused_with_a_key(members: dict[str, Any]) -> None:
    """RN96, RN230, RN240: a call with an API key is refused if its source is malformed or
    unknown."""
    with pytest.raises(RunRefused) as refusal:
        parse_api_body(json.dumps(members).encode(), parse_project(f"{BOB.did}/a"))
    assert refusal.value.reason.code == "request-invalid"


@pytest.mark.parametrize(
    ("name", "stated", "asked"),
    [
        ("another-commit", build_at("6"), build_at("7")),
        ("another-repository", build_at("6", "github.com/alice/other"), build_at("6")),
        ("no-build", None, build_at("6")),
    ],
)
async def test_the_index_proves_nothing(
    stage: RunnerStage, name: str, stated: Build | None, asked: Build
) -> None:
    """RN241: an index entry counts only if the signed statement names the same repository, commit
    and target."""
    version = await published(stage, name, stated)
    space, source = stage.owner.kv("public"), source_of(asked) | {"project": version.project.text}
    key = version.project.build_key(asked.commit, P1)
    for found in (version.sha256.encode(), b"0" * 64, b"../active", b"\xff", b""):
        await space.put(key, found)
        answered = await called(stage, source)
        assert code(answered) == (404, "program-unknown"), found
        assert COMMAND in answered[1]["error"]["message"]


async def test_a_build_of_another_target_is_unknown(stage: RunnerStage) -> None:
    """RN241: a build of another target is answered as unknown."""
    build, other = build_at("8"), "wasm32-wasip2"
    version = await published(stage, "target", build)
    source = source_of(build, build_target=other) | {"project": version.project.text}
    assert code(await called(stage, source)) == (404, "program-unknown")
    await stage.owner.kv("public").put(
        version.project.build_key(build.commit, other), version.sha256.encode()
    )
    assert code(await called(stage, source)) == (404, "program-unknown")
    source["GitHub"]["build_target"] = P1
    assert (await called(stage, source))[0] == 200


async def test_strangers_learn_nothing_about_grants(stage: RunnerStage) -> None:
    """RN242: only labels of grants that admit the caller count."""
    build = build_at("9")
    version = await published(stage, "index", build)
    source = source_of(build)
    nothing = await called(stage, source, secrets=stage.developer)
    assert code(nothing) == (404, "program-unknown") and COMMAND in nothing[1]["error"]["message"]
    labelled = ByHash(version.sha256, version.project, build)
    for rule, callers in (
        (labelled, Whitelist(())),
        (ByHash(version.sha256, version.project), None),  # no label
        (ByHash(version.sha256, None, build), None),  # no project
        (altered(labelled, build=build_at("a")), None),  # another commit
    ):
        await granted(stage, rule, callers=callers)
        assert await called(stage, source, secrets=stage.developer) == nothing
    await granted(stage, labelled)
    assert (await called(stage, source, secrets=stage.developer))[0] == 200
    # without `secretsRef` the grants of the caller count
    assert code(await called(stage, source)) == (404, "program-unknown")
    session = await stage.calling_session()
    assert (await called(stage, source, session=session))[0] == 200
    status, answer = await called(stage, source, session=session, secrets=BOB.did)
    assert (status, answer["error"]["code"]) == (404, "program-unknown")


async def test_a_revoked_grant_names_no_project(stage: RunnerStage) -> None:
    """RN242: secrets of a revoked grant are refused, and the runner then knows of it."""
    build = build_at("b")
    version = await published(stage, "withdrawn", build)
    rule = ByHash(version.sha256, version.project, build)
    portable = await stage.grant(["API_KEY"], RunStatement(programs=(rule,), callers=AllowAll()))
    await stage.owner.delegations.revoke_by_wallet(portable, stage.wallet)
    for refused in ((403, "access-denied"), (404, "program-unknown")):
        assert code(await called(stage, source_of(build), secrets=stage.developer)) == refused


async def test_several_projects_for_one_commit(stage: RunnerStage) -> None:
    """RN242: if several projects have a version for one commit, the caller has to name a
    project."""
    build = build_at("c")
    versions = [await published(stage, name, build) for name in ("first", "second")]
    for version in versions:
        await granted(stage, ByHash(version.sha256, version.project, build))
    answered = await called(stage, source_of(build), secrets=stage.developer)
    assert code(answered) == (400, "request-invalid")
    assert '"project"' in answered[1]["error"]["detail"] and "receipt" not in answered[1]
    source = source_of(build) | {"project": versions[1].project.text}
    _, answer = await called(stage, source, secrets=stage.developer)
    assert answer["receipt"]["statement"]["program"] == versions[1].sha256


async def test_a_grant_that_follows_a_project_admits_no_call_of_a_build(
    stage: RunnerStage,
) -> None:
    """RN243: a grant that follows a project does not admit a call by repository and commit."""
    build = build_at("d")
    version = await published(stage, "followed", build)
    await granted(stage, ByProject(version.project))
    source = source_of(build) | {"project": version.project.text}
    assert code(await called(stage, source, secrets=stage.developer)) == (403, "access-denied")
    assert (await stage.call("followed", secrets=stage.developer))[0] == 200


async def test_a_stated_build_gets_no_secret_of_another_hash(stage: RunnerStage) -> None:
    """RN243: a version gets no secret of a grant for another hash, whatever build its label
    states."""
    build = build_at("e")
    good = await published(stage, "honest", build)
    evil = await published(stage, "honest", build, bytes_of="evil")  # takes the index over
    assert good.sha256 != evil.sha256
    await granted(stage, ByHash(good.sha256, good.project, build))
    source = source_of(build) | {"project": good.project.text}
    for sent in (source, source_of(build)):
        assert code(await called(stage, sent, secrets=stage.developer)) == (403, "access-denied")


async def test_a_private_build(stage: RunnerStage) -> None:
    """RN241, RN153: a call by commit prefers the private project that its developer shared."""
    build = build_at("f")
    version = await published(stage, "hidden", build, public=False)
    source = source_of(build) | {"project": version.project.text}
    refused = await called(stage, source)
    absent = await called(stage, source | {"project": project(stage, "absent")})
    assert code(refused) == code(absent) == (404, "program-unknown")
    assert refused[1]["error"] == absent[1]["error"]
    share = await stage.owner.runners.share_project(
        await stage.look(), "hidden", wallet=stage.wallet
    )
    await deliver(stage.url, share)
    assert (await called(stage, source))[1]["status"] == "completed"


async def test_labels_in_receipts(stage: RunnerStage) -> None:
    """RN244: a receipt has a build's label only if all grants of the run's secrets have that
    label."""
    one, other = build_at("1", "github.com/a/one"), build_at("2", "github.com/a/other")
    version = await published(stage, "labelled", None)

    async def stated(secrets: str | None = None) -> Any:
        _, answer = await stage.call("labelled", secrets=secrets or stage.developer)
        start = stage.runner.identity.start
        run = await verify_run(json.dumps(answer["receipt"]).encode(), start, stage.inspector)
        assert ("build" in run.stated) is (run.build is not None)
        return run.build

    await granted(stage, ByHash(version.sha256, None, one))
    assert await stated() == one
    _, answer = await stage.call("labelled")  # without secrets
    assert "build" not in answer["receipt"]["statement"]
    await granted(stage, ByHash(version.sha256, None, one), secret="OTHER")
    assert await stated() == one
    await granted(stage, ByHash(version.sha256, None, other), secret="OTHER")
    assert await stated() is None
    await granted(stage, ByHash(version.sha256), secret="OTHER")
    assert await stated() is None
    await granted(
        stage, ByHash(version.sha256, None, one), ByProject(version.project), secret="OTHER"
    )
    assert await stated() is None


async def test_malformed_labels_in_receipts(stage: RunnerStage) -> None:
    """RN244: a receipt of a former release has no label; a malformed one is refused."""
    await published(stage, "former", None)
    _, answer = await stage.call("former")
    identity, facts = stage.runner.identity, answer["receipt"]["statement"]
    assert "build" not in facts
    for build in ({}, None, "text", {"repository": REPOSITORY}):
        receipt = sign_statement(RECEIPT_TYPE, facts | {"build": build}, identity.receipt_key)
        with pytest.raises(StatementInvalid):
            await verify_run(receipt, identity.start, stage.inspector)
