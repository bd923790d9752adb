"""Attacks on stored values by other callers, programs and developers, and after a crash."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from guest_programs import guest
from held_ports import held_ports
from patience import PATIENCE_S
from runner_stage import RunnerStage, runner_stage
from running_node import COMMAND
from tests_support import REPOSITORY

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from runner.calls.project_storage import ProjectStorage
from runner.calls.published_programs import grant_for
from sealspace.apps.backends import deliver
from sealspace.apps.programs import Target
from sealspace.apps.run_calls import RunnerAt, call_headers
from sealspace.cli.root import main
from sealspace.client import SignIn
from sealspace.delegations import allow
from sealspace.documents.call_conditions import AllowAll
from sealspace.documents.run_grants import (
    PROJECT_ABILITIES,
    STORAGE_FOLDER,
    ByHash,
    RunStatement,
    project_resource,
)
from sealspace.errors import GrantNotTaken
from sealspace.session import key_session
from sealspace.wallets import new_wallet
from sealspace.wire.portable import PortableDelegation
from serving.messages import pack_parts, unpack_parts

P2: Target = "wasm32-wasip2"
ALICE, BOB = (key_session(bytes([number] * 32)) for number in (1, 2))
CHANGED = "error: the stored value was changed, or is not one of this project, caller and key"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module; each test has a project of its own."""
    async with AsyncExitStack() as stack:
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"))


def distinct(name: str) -> bytes:
    """Return the storing program with other bytes in an added custom section."""
    said = bytes([len(name)]) + name.encode()
    return guest("cells-wasip2").data + bytes([0, len(said)]) + said


async def granted(stage: RunnerStage, name: str, url: str, did: str) -> PortableDelegation:
    """Grant a project's storage to a runner."""
    resource = project_resource(stage.developer, name, STORAGE_FOLDER)
    wanted = [allow(resource, ability) for ability in PROJECT_ABILITIES[STORAGE_FOLDER]]
    portable = await stage.owner.delegations.delegate(did, wanted, wallet=stage.wallet, ttl_s=600)
    await deliver(url, portable)
    return portable


async def kept(stage: RunnerStage, name: str) -> PortableDelegation:
    """Publish a program that stores values, and let the runner keep them."""
    await stage.publish(name, distinct(name), target=P2)
    return await granted(stage, name, stage.url, stage.runner.did)


async def stored(stage: RunnerStage, name: str, *operations: str, **about: Any) -> list[str]:
    """Run the program with operations on its storage, and return one result line for each."""
    said = "\n".join(operations).replace(" ", "\t")
    _, answer = await stage.call(name, input=said, **about)
    assert answer["status"] == "completed", answer
    return str(answer["output"]).splitlines()


def run_of(stage: RunnerStage, name: str) -> ProjectStorage:
    """Return the storage of one run, without a program."""
    runner, project = stage.runner, stage.published[name].project
    digest = partial(runner.storage_key.digest, project.text, "nobody")
    return ProjectStorage(
        runner.backend, lambda: grant_for(project, runner.grants.storage_grants()), project, digest
    )


async def paths_of(stage: RunnerStage, name: str) -> list[str]:
    """Return where a project's values are, as its developer sees it."""
    return [path async for path in stage.owner.kv("projects").list(f"storage/{name}/")]


async def test_values_of_another_caller_or_project(stage: RunnerStage) -> None:
    """RN200, RN202: no key leads to the values of another caller or project."""
    await kept(stage, "mine")
    await kept(stage, "other")
    space = stage.owner.kv("projects")
    await stored(stage, "mine", "set a secret", session=ALICE)
    (of_alice,) = await paths_of(stage, "mine")
    for name, caller in (("mine", BOB), ("other", ALICE)):
        lines = await stored(stage, name, "get a", "has a", "list-keys ", session=caller)
        assert lines == ["", "false", "[]"]
    await stored(stage, "mine", "set a own", session=BOB)
    await stored(stage, "other", "set a own", session=ALICE)
    await stored(stage, "mine", "set b own", session=ALICE)
    value = (await space.get(of_alice)).body
    assert b"secret" not in value and ALICE.did not in of_alice
    elsewhere = {*await paths_of(stage, "mine"), *await paths_of(stage, "other")} - {of_alice}
    assert len(elsewhere) == 3
    for path in elsewhere:
        await space.put(path, value)
    assert await stored(stage, "mine", "get a", session=BOB) == [CHANGED]
    assert await stored(stage, "other", "get a", session=ALICE) == [CHANGED]
    assert await stored(stage, "mine", "get b", "get a", session=ALICE) == [CHANGED, "secret"]


@pytest.mark.parametrize("forged", ["plain", "flipped", "cut", "empty", "long"])
async def test_values_that_others_write(stage: RunnerStage, forged: str) -> None:
    """RN202: reading a value that the developer wrote or changed is an error."""
    name = f"forged-{forged}"
    await kept(stage, name)
    await stored(stage, name, "set a value")
    (path,), space = await paths_of(stage, name), stage.owner.kv("projects")
    value = (await space.get(path)).body
    others = {
        "plain": b"forged",
        "flipped": value[:-1] + bytes([value[-1] ^ 1]),
        "cut": value[:11],
        "empty": b"",
        "long": bytes(1 << 20),
    }
    await space.put(path, others[forged])
    wrong = "error: the node did not confirm the operation: value-too-large"
    wrong = wrong if forged == "long" else CHANGED
    assert await stored(
        stage, name, "get a", "set-if-equals a value x", "increment a 1", "set-if-absent a x"
    ) == [wrong, wrong, wrong, "false"]
    _, answer = await stage.call(name, input="has\ta")
    assert answer["error"]["code"] == "guest-trap"
    assert await stored(stage, name, "delete a", "set a again", "get a") == ["true", "", "again"]


async def test_keys_that_look_like_paths(stage: RunnerStage) -> None:
    """RN202: a key that looks like a path still names only a value of this caller and project."""
    await kept(stage, "paths")
    keys = [".", "..", "../other", "/", "a/b", "a\0b", "%2e%2e", "ä", "a?x", "a#x", "A", "a"]
    await stored(stage, "paths", *(f"set {key} {number}" for number, key in enumerate(keys)))
    assert await stored(stage, "paths", *(f"get {key}" for key in keys)) == [
        str(number) for number in range(len(keys))
    ]
    (listed,) = await stored(stage, "paths", "list-keys ")
    assert sorted(json.loads(listed)) == sorted(keys)
    folders = {path.rpartition("/")[0] for path in await paths_of(stage, "paths")}
    assert len(folders) == 1 and len(await paths_of(stage, "paths")) == len(keys)
    everything = [path async for path in stage.owner.kv("projects").list()]
    assert all(path.startswith("storage/") for path in everything)


async def test_a_grant_that_is_revoked_during_a_run(stage: RunnerStage) -> None:
    """RN201: the node checks each operation, so revoking the grant ends a run's access to
    storage."""
    portable = await kept(stage, "revoked")
    run = run_of(stage, "revoked")
    put = pack_parts([b"set", b"a", b"x"])
    assert unpack_parts(await run.answer(put)) == [b""]
    await stage.owner.delegations.revoke_by_wallet(portable, stage.wallet)
    for message in (put, pack_parts([b"get", b"a"]), put):
        (refused,) = unpack_parts(await run.answer(message))
        assert refused.startswith(b"no storage: ")
    assert run.state == "written" and len(await paths_of(stage, "revoked")) == 1


async def test_a_grant_for_another_folder(stage: RunnerStage) -> None:
    """RN201: a grant of one project's storage does not apply to another project."""
    await kept(stage, "granted")
    await stage.publish("beside", distinct("beside"), target=P2)
    (line,) = await stored(stage, "beside", "set a x")
    assert line.startswith("error: no storage: ") and not await paths_of(stage, "beside")
    space = stage.owner.kv("projects").space.text
    for suffix in ("kv/storage", "kv/storage/", "kv/storage/beside/x", "kv", "kv/projects/beside"):
        wanted = [
            allow(f"{space}/{suffix}", ability) for ability in PROJECT_ABILITIES[STORAGE_FOLDER]
        ]
        portable = await stage.owner.delegations.delegate(
            stage.runner.did, wanted, wallet=stage.wallet, ttl_s=600
        )
        with pytest.raises(GrantNotTaken):
            await deliver(stage.url, portable)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0",
        pack_parts([]),
        pack_parts([b"set-worker", b"a", b"x"]),
        pack_parts([b"get"]),
        pack_parts([b"get", b"a", b"b"]),
        pack_parts([b"get", b"\xff"]),
        pack_parts([b"list-keys", b"\xff" * 500_000]),
        pack_parts([b"list-keys", b"a" * 129]),
        pack_parts([b"increment", b"a", b"x"]),
        pack_parts([b"increment", b"a", b"9" * 5000]),
        pack_parts([b"set", b"a", b"x", b"y"]),
        pack_parts([b"x"] * 1000),
    ],
)
async def test_messages_of_a_child_that_was_taken_over(stage: RunnerStage, message: bytes) -> None:
    """RN203: a malformed message is answered with an error, and writes nothing."""
    if "hostile" not in stage.published:
        await kept(stage, "hostile")
    run = run_of(stage, "hostile")
    (refused,) = unpack_parts(await run.answer(message))
    assert refused and run.state == "none"


async def test_storage_that_the_caller_of_a_program_chose(stage: RunnerStage) -> None:
    """RN207: under a grant by hash alone, a program with a secret cannot store values."""
    name, data = "trusted", distinct("trusted")
    await stage.owner.secrets().put("API_KEY", "the canary sings at dawn")
    await kept(stage, name)
    other, wallet = await stage.client(), new_wallet()
    await other.sign_in(wallet, SignIn(spaces=("public", "projects")))
    version = await other.programs(public=True).publish(name, data, target=P2, signer=wallet)
    portable = await other.runners.share_project(
        await stage.look(), name, folder=STORAGE_FOLDER, wallet=wallet
    )
    await deliver(stage.url, portable)
    by_hash = ByHash(version.sha256)
    theirs: dict[str, Any] = {"source": {"project": version.project.text}}
    await stage.grant(["API_KEY"], RunStatement(programs=(by_hash,), callers=AllowAll()))
    with_secret: dict[str, Any] = {"secrets": stage.developer}
    for about in (theirs, {}):  # another's project, and the developer's own
        lines = await stored(stage, name, "set a $API_KEY", "get a", **about, **with_secret)
        assert all(line.startswith("error: no storage: ") for line in lines), lines
        assert await stored(stage, name, "get a", "set a x", **about) == ["", ""]
    named = replace(by_hash, project=stage.published[name].project)
    await stage.grant(["API_KEY"], RunStatement(programs=(named,), callers=AllowAll()))
    assert await stored(stage, name, "set a $API_KEY", "get a", **with_secret) == [
        "",
        "the canary sings at dawn",
    ]
    _, answer = await stage.call(name, input="get\ta", **theirs, **with_secret)
    assert answer["output"].startswith("error: no storage: ")


async def test_runs_with_storage_share_no_process(stage: RunnerStage) -> None:
    """RN26: runs with storage never share a process, so a hostile program finds no other caller's
    values."""
    await stage.publish("alone", distinct("alone"), target=P2)
    await stored(stage, "alone", "get a")
    used = stage.runner.executor._pool._used
    before = [(child, child.runs) for child in used]
    assert before
    await granted(stage, "alone", stage.url, stage.runner.did)
    await stored(stage, "alone", "set a value", session=ALICE)
    assert [(child, child.runs) for child in used] == before


@pytest.fixture
def port() -> Iterator[int]:
    """A port for a runner that is started twice."""
    with held_ports(1) as (one,):
        yield one


async def test_a_runner_that_is_killed_between_two_writes(
    stage: RunnerStage, tmp_path: Path, port: int
) -> None:
    """RN206: after a crash, a run's written values remain and its receipt says `unknown`."""
    pytest.importorskip("re2", reason="google-re2 is not installed: no runner starts")
    await stage.publish("killed", distinct("killed"), target=P2)
    assert main(["backend", "simulate", str(tmp_path / "tee"), "-q"]) == 0
    url = f"http://127.0.0.1:{port}"
    options = f"--data runner --key file --port {port} --simulate tee --node {stage.node.url}"

    def started() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*COMMAND, "runner", "serve", *options.split()],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    async def ready(process: "subprocess.Popen[bytes]") -> RunnerAt:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                assert process.poll() is None
                with suppress(aiohttp.ClientError):
                    async with stage.http.get(f"{url}/info") as answer:
                        info = await answer.json()
                        return RunnerAt(info["runner"], info["start"])
                await asyncio.sleep(0)

    async def sent(at: RunnerAt, *operations: str, **members: Any) -> dict[str, Any]:
        program = f"{stage.developer}/killed"
        said = "\n".join(operations).replace(" ", "\t")
        body = json.dumps({"source": {"project": program}, "input": said, **members}).encode()
        now, entropy = SystemClock().now(), SystemEntropy()
        headers = call_headers(
            ALICE, runner=at, program=program, body=body, now=now, entropy=entropy
        )
        async with stage.http.post(f"{url}/run", data=body, headers=headers) as answer:
            return dict(await answer.json())

    process = started()
    try:
        at = await ready(process)
        await granted(stage, "killed", url, at.did)
        pending = await sent(
            at, "set a one", "increment n 1", "WAIT", "set b two", **{"async": True}
        )
        async with asyncio.timeout(PATIENCE_S):
            while len(await paths_of(stage, "killed")) < 2:
                await asyncio.sleep(0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = started()
        at = await ready(process)
        async with stage.http.get(f"{url}/receipts/{pending['job']}") as answer:
            stated = (await answer.json())["statement"]
        assert stated["code"] == "interrupted"
        assert stated["storage"] == "unknown"
        said = await sent(at, "get a", "increment n 0", "has b")
        assert said["output"].splitlines() == ["one", "1", "false"], said
    finally:
        process.kill()
        process.wait()
