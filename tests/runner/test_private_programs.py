"""Programs that a developer shares with one runner (RN152, RN153)."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import wasmtime
from capability_cases import BOB
from runner_stage import ECHO, ENVIRONMENT, P1, RunnerStage, runner_stage

from sealspace.apps.backends import deliver
from sealspace.apps.programs import VERSION_TYPE, Version, version_json
from sealspace.delegations import allow
from sealspace.documents.call_conditions import AllowAll
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import (
    ByHash,
    RunStatement,
    project_resource,
    read_program_grant,
)
from sealspace.documents.signed_statements import sign_statement
from sealspace.errors import GrantNotTaken, InvalidPortableDelegation
from sealspace.wire.portable import PortableDelegation

GET = "tinycloud.kv/get"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module."""
    async with AsyncExitStack() as stack:
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"))


def distinct(name: str, program: str = ECHO) -> bytes:
    return bytes(
        wasmtime.wat2wasm(f'{program.rstrip().removesuffix(")")} (data (i32.const 900) "{name}"))')
    )


async def published(stage: RunnerStage, name: str, wasm: bytes) -> Version:
    return await stage.owner.programs().publish(name, wasm, target=P1, signer=stage.wallet)


async def shared(stage: RunnerStage, name: str) -> PortableDelegation:
    portable = await stage.owner.runners.share_project(
        await stage.look(), name, wallet=stage.wallet
    )
    await deliver(stage.url, portable)
    return portable


def code(answered: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return answered[0], answered[1]["error"]["code"]


async def test_a_shared_program_runs_and_no_other(stage: RunnerStage, tmp_path: Path) -> None:
    """RN152: a runner runs a private project that was shared with it, and no other one of the
    developer."""
    await published(stage, "shared", distinct("shared"))
    await published(stage, "kept", distinct("kept"))
    assert code(await stage.call("shared")) == (404, "program-unknown")
    await shared(stage, "shared")
    assert (await stage.call("shared", input="hello"))[1]["output"] == "hello"
    assert code(await stage.call("kept")) == (404, "program-unknown")
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner")
        assert code(await runner.call("shared")) == (404, "program-unknown")
        await deliver(runner.url, await shared(stage, "shared"))
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner")
        assert (await runner.call("shared", input="again"))[1]["output"] == "again"


async def test_a_private_project_has_secrets_by_its_hash(stage: RunnerStage) -> None:
    """RN153: a private program gets granted secrets, and cannot be called by its hash."""
    version = await published(stage, "secretive", distinct("secretive", ENVIRONMENT))
    await shared(stage, "secretive")
    await stage.owner.secrets().put("API_KEY", "open sesame")
    await stage.grant(
        ["API_KEY"], RunStatement(programs=(ByHash(version.sha256),), callers=AllowAll())
    )
    _, answer = await stage.call("secretive", secrets=stage.developer)
    assert "API_KEY=open sesame" in answer["output"].split("\0")
    by_hash = {"wasmSha256": version.sha256}
    assert code(await stage.call("secretive", source=by_hash)) == (404, "program-unknown")


async def test_a_private_program_is_not_another_project_s(stage: RunnerStage) -> None:
    """RN153: another project's statement about the hash does not run the program."""
    wasm = distinct("coveted")
    version = await published(stage, "coveted", wasm)
    await shared(stage, "coveted")
    assert (await stage.call("coveted", input="own"))[0] == 200
    project, space = parse_project(f"{stage.developer}/coveting"), stage.owner.kv("public")
    stated = version_json(replace(version, project=project))
    await space.put(
        project.version_key(version.sha256), sign_statement(VERSION_TYPE, stated, stage.wallet)
    )
    source = {"project": project.text, "version": version.sha256}
    assert code(await stage.call("coveting", source=source)) == (404, "program-unknown")
    await space.put(project.code_key(version.sha256), wasm)
    assert (await stage.call("coveting", source=source, input="has it"))[1]["output"] == "has it"
    assert (await stage.call("coveted", input="own"))[1]["output"] == "own"


async def test_what_is_private_comes_before_what_is_public(stage: RunnerStage) -> None:
    """RN153: a runner prefers the private one of two projects of a name."""
    await stage.publish("twice", ECHO)
    await published(stage, "twice", distinct("twice", ENVIRONMENT))
    await shared(stage, "twice")
    assert "OUTLAYER_PROJECT_NAME=twice" in (await stage.call("twice", input="x"))[1]["output"]


async def test_a_share_that_was_revoked(stage: RunnerStage, tmp_path: Path) -> None:
    """RN152: after a revocation the program is not found."""
    await published(stage, "ended", distinct("ended"))
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner")
        portable = await shared(runner, "ended")
        await stage.owner.delegations.revoke_by_wallet(portable, stage.wallet)
        assert code(await runner.call("ended")) == (404, "program-unknown")
        assert [one.state for one in runner.runner.backend.grants] == ["revoked"]


async def test_what_others_write_into_a_private_project(stage: RunnerStage) -> None:
    """RN52: signature and hash of a private project are verified too."""
    version = await published(stage, "forged", distinct("forged"))
    await shared(stage, "forged")
    project, space = parse_project(f"{stage.developer}/forged"), stage.owner.kv("projects")
    await space.put(
        project.version_key(version.sha256),
        sign_statement(VERSION_TYPE, version_json(version), BOB),
    )
    assert code(await stage.call("forged")) == (409, "program-statement")
    await space.put(
        project.version_key(version.sha256),
        sign_statement(VERSION_TYPE, version_json(version), stage.wallet),
    )
    await space.put(project.code_key(version.sha256), b"\0asm\x01\0\0\0other")
    assert code(await stage.call("forged")) == (400, "program-mismatch")


@pytest.mark.parametrize(
    ("suffix", "ability"),
    [
        ("kv/projects", GET),
        ("kv/projects/", GET),
        ("kv/projects/Name", GET),
        ("kv/projects/a/code", GET),
        ("kv/projects/a?x", GET),
        ("kv/other/a", GET),
        ("kv", GET),
        ("sql/projects/a", GET),
        ("kv/projects/a", "tinycloud.kv/put"),
        ("kv/projects/a", "tinycloud.kv/*"),
    ],
)
async def test_grants_that_are_not_taken(stage: RunnerStage, suffix: str, ability: str) -> None:
    """RN152: a grant that does more than read whole projects is refused."""
    space = stage.owner.kv("projects").space.text
    wanted = [allow(f"{space}/{suffix}", ability)]
    portable = await stage.owner.delegations.delegate(
        stage.runner.did, wanted, wallet=stage.wallet, ttl_s=600
    )
    with pytest.raises(GrantNotTaken):
        await deliver(stage.url, portable)


async def test_a_grant_by_a_session(stage: RunnerStage) -> None:
    """RN152: a delegated grant, or one for another runner, is refused."""
    wanted = [allow(project_resource(stage.developer, "a"), GET)]
    by_session = await stage.owner.delegations.delegate(stage.runner.did, wanted, ttl_s=600)
    with pytest.raises(GrantNotTaken):
        await deliver(stage.url, by_session)
    by_wallet = await stage.owner.delegations.delegate(
        stage.runner.did, wanted, wallet=stage.wallet, ttl_s=600
    )
    (project,) = read_program_grant(by_wallet.header, runner=stage.runner.did)
    assert project.text == f"{stage.developer}/a"
    with pytest.raises(InvalidPortableDelegation):
        read_program_grant(by_wallet.header, runner=BOB.did)
