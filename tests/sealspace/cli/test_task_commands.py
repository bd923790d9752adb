"""Tests of `sealspace task`, from grants to a verified and decrypted result."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any
from zipfile import ZipFile

import pytest
import pytest_asyncio
import wasmtime
from aiohttp import web
from backend_desk import Desk
from relay import Answer, relay_before
from runner_stage import RunnerStage, failing, runner_stage
from task_memory import TASK_MEMORY as MEMORY
from task_memory import needs_task_memory
from task_programs import ResultKey, reporting

from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes
from runner.cli import task_commands
from sealspace.documents.iexec_names import (
    RESULT_KEY_NAME,
    address_of,
    app_secret,
    requester_secret,
    wallet_secret,
)
from sealspace.documents.iexec_results import encrypt_result
from sealspace.documents.project_names import parse_project
from sealspace.documents.secret_names import SecretName

SECRET = "a secret of the requester"
_PRINTING = b"""
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const %d))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (data (i32.const 16) "%b"))
"""

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    needs_task_memory,
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    async with AsyncExitStack() as stack:
        root = MEMORY / f"tasks-{token_hex(8)}"
        root.mkdir(0o700)
        stack.callback(root.rmdir)
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"), task_root=root)


@pytest.fixture
def desk(
    stage: RunnerStage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    """An owner, who is developer, requester and beneficiary."""
    monkeypatch.setattr(task_commands, "_POLL_S", 0.0)
    monkeypatch.chdir(tmp_path)
    return stage.desk(tmp_path, capsys, monkeypatch)


async def put(desk: Desk, secret: SecretName, value: str) -> None:
    assert secret.scope is not None
    stored = await desk.run("secret", "put", secret.name, "--scope", secret.scope, given=value)
    assert stored.status == 0, stored


async def published(desk: Desk, folder: Path, name: str) -> str:
    """Publish an application, and return its id."""
    (folder / "app.wasm").write_bytes(wasmtime.wat2wasm(reporting(name)))
    answer = await desk.run("project", "publish", name, str(folder / "app.wasm"), "--json")
    return str(json.loads(answer.out)["project"])


async def test_from_grants_to_a_result(desk: Desk, stage: RunnerStage, tmp_path: Path) -> None:
    """TK11: the result is downloaded, verified with its receipt, and decrypted."""
    await desk.log_in("--space", "public")
    key = ResultKey()
    app = await published(desk, tmp_path, "counter")
    await put(desk, requester_secret("my-key"), SECRET)
    await put(desk, app_secret(address_of("app", parse_project(app))), "of the app")
    await put(desk, wallet_secret(RESULT_KEY_NAME), key.secret)
    run = ("task", "run", stage.url, app, "--secret", "1=my-key")
    refused = await desk.run(*run)
    assert refused.status == 1 and "secrets 1 are not granted" in refused.err, refused
    assert "sealspace task grant" in refused.next
    absent = await desk.run(
        *("task", "grant", stage.url, "--app", app, "--requester-secret", "absent", "--yes")
    )
    assert absent.next == "iexec requester push-secret NAME", absent
    granted = await desk.run(
        *("task", "grant", stage.url, "--app", app, "--requester-secret", "my-key"),
        *("--app-secret", "--result-key", "--yes"),
    )
    assert granted.status == 0 and "callers: you alone" in granted.out, granted
    (tmp_path / "key.pem").write_bytes(key.private_pem)
    done = await desk.run(
        *run,
        *("--args", "one 'two three'", "--watch", "--output", "result"),
        *("--result-key-file", "key.pem"),
    )
    assert done.status == 0, done
    both = await desk.run(*run, "3=my-key", "22=my-key", "--json")
    assert both.status == 0, both
    assert (await desk.run(*run, "0=my-key")).happened.startswith("cannot pass the secret 0=my-key")
    result = (tmp_path / "result" / "iexec_out" / "result.txt").read_text().split("\0")
    assert f"IEXEC_REQUESTER_SECRET_1={SECRET}" in result
    assert result[-3:-1] == ["one", "two three"]
    assert SECRET not in done.out + done.err
    (tmp_path / "approved.json").write_text(
        (await desk.run("backend", "show", stage.url, "--json")).out
    )
    verify = ("verify", "result/receipt.json", "--like", "approved.json")
    files = ("--input", "result/request.json", "--output", "result/output.json")
    verified = await desk.run(*verify, *files)
    assert verified.status == 0 and "exactly this input and output" in verified.out, verified
    stated = json.loads((tmp_path / "result" / "output.json").read_bytes())
    sealed = (tmp_path / "result" / "result.zip").read_bytes()
    assert stated["sha256"] == sha256(sealed).hexdigest()

    (tmp_path / "other.pem").write_bytes(ResultKey(1).private_pem)
    other = ("--watch", "--output", "other", "--result-key-file", "other.pem")
    undecrypted = await desk.run(*run, *other)
    assert undecrypted.next.startswith("sealspace task download"), undecrypted
    assert not (tmp_path / "other" / "iexec_out").exists()

    made = json.loads((await desk.run(*run, "--json")).out)
    job = made["job"]
    downloaded = await desk.run("task", "download", stage.url, job, "--json")
    assert json.loads(downloaded.out)["resultPath"] == f"{job}/result.zip", downloaded
    shown = await desk.run("task", "show", stage.url, job)
    assert shown.status == 0 and "COMPLETED" in shown.out
    unknown = await desk.run("task", "show", stage.url, "0" * 32)
    assert unknown.status == 1 and "not yours" in unknown.err


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("--secret 1=foo 3=bar --watch", "--secret 1=foo --secret 3=bar --watch"),
        ("--secret=1=foo 3=bar URL", "--secret=1=foo --secret 3=bar URL"),
        (
            "--secret 1=a 2=b --secret 3=c 4=d",
            "--secret 1=a --secret 2=b --secret 3=c --secret 4=d",
        ),
        ("--secret 1=a URL 2=b", "--secret 1=a URL 2=b"),
        ("--secret 1=a --args 2=b", "--secret 1=a --args 2=b"),
        ("--secret --secret 2=b", "--secret --secret --secret 2=b"),
        ("--secret 1=a -- 2=b --secret 3=c 4=d", "--secret 1=a -- 2=b --secret 3=c 4=d"),
        ("--secret", "--secret"),
    ],
)
async def test_pairs_of_one_option(written: str, read: str) -> None:
    """Pairs that follow the value of `--secret` are values of it too, and nothing else is."""
    assert task_commands.with_each_pair(written.split()) == read.split()


async def test_a_task_that_fails(desk: Desk, stage: RunnerStage, tmp_path: Path) -> None:
    """TK8, TK11: the status is 1, and the message has the cause."""
    await desk.log_in("--space", "public")
    (tmp_path / "app.wasm").write_bytes(wasmtime.wat2wasm(reporting("fails", computed=None)))
    answer = await desk.run("project", "publish", "fails", "app.wasm", "--json")
    app = json.loads(answer.out)["project"]
    await put(desk, wallet_secret(RESULT_KEY_NAME), ResultKey().secret)
    grant = ("task", "grant", stage.url, "--app", app, "--result-key", "--yes")
    assert (await desk.run(*grant)).status == 0
    failed = await desk.run("task", "run", stage.url, app, "--watch")
    assert failed.status == 1 and "the stage" in failed.err.lower(), failed
    assert failed.next.startswith(f"sealspace task show {stage.url} ")
    shown = await desk.run(*failed.next.split()[1:])
    assert "POST_COMPUTE_COMPUTED_FILE_NOT_FOUND" in shown.out and "FAILED" in shown.out
    assert shown.err == "fails\n"  # what the program wrote, as all secrets are the requester's


async def test_the_output_of_a_task_that_failed(
    desk: Desk, stage: RunnerStage, tmp_path: Path
) -> None:
    """RN263: `task show` prints what a failed application wrote. Its receipt proves no result, also
    if what it wrote is the document about a forged result."""
    await desk.log_in("--space", "public")
    forged = b"no result of a task"
    output: dict[str, Json] = {"digest": f"0x{'0' * 64}", "sizeBytes": len(forged)}
    document = canonical_bytes(output | {"sha256": sha256(forged).hexdigest()})
    escaped = document.replace(b'"', b'\\"')
    text = (_PRINTING % (len(document), escaped)).decode()
    broken = text.replace("(i32.const 8))))", "(i32.const 8))) unreachable)")
    (tmp_path / "app.wasm").write_bytes(wasmtime.wat2wasm(broken))
    answer = await desk.run("project", "publish", "liar", "app.wasm", "--json")
    app = json.loads(answer.out)["project"]
    await put(desk, wallet_secret(RESULT_KEY_NAME), ResultKey().secret)
    grant = ("task", "grant", stage.url, "--app", app, "--result-key", "--yes")
    assert (await desk.run(*grant)).status == 0
    failed = await desk.run("task", "run", stage.url, app, "--watch")
    assert failed.status == 1 and "The program trapped" in failed.err, failed
    shown = await desk.run(*failed.next.split()[1:])
    assert "guest-trap" in shown.out and shown.err == document.decode() + "\n"

    def twist(answer: Answer) -> None:
        if answer.path.endswith("/result"):
            answer.status, answer.body = 200, forged
        elif answer.path.startswith("/tasks/"):
            task = json.loads(answer.body)
            if task.pop("cause", None) is not None:
                task |= {"status": "completed", "output": json.loads(document)}
            answer.body = json.dumps(task).encode()

    async with relay_before(stage.url) as relay:
        relay.twist = twist
        refused = await desk.run("task", "run", relay.url, app, "--watch", "--output", "result")
        assert refused.status != 0, refused
        assert "the receipt is about another task, request or result" in refused.err
        assert not (tmp_path / "result").exists()


async def test_RN263_the_output_of_a_call_that_failed(
    desk: Desk, stage: RunnerStage, tmp_path: Path
) -> None:
    """RN263: `runner call` prints the output of a program that failed, before the error."""
    await desk.log_in("--space", "public")
    (tmp_path / "fails.wasm").write_bytes(wasmtime.wat2wasm(failing("it", "guest-exit")))
    answer = await desk.run("project", "publish", "exits", "fails.wasm", "--json")
    call = ("runner", "call", stage.url, json.loads(answer.out)["project"], "--input", "-")
    ran = await desk.run(*call, given="no such city")
    assert ran.status != 0 and ran.out == "no such city", ran
    assert "it failed" in ran.err and "guest-exit" in ran.err
    shown = json.loads((await desk.run(*call, "--json", given="no such city")).out)
    assert (shown["output"], shown["outputFormat"]) == ("no such city", "Text")


async def test_the_receipt_of_a_run_is_not_that_of_a_task(
    desk: Desk, stage: RunnerStage, tmp_path: Path
) -> None:
    """TK11: a run's receipt for the same request is refused as the receipt of a task."""
    await desk.log_in("--space", "public")
    app, key = await published(desk, tmp_path, "honest"), ResultKey()
    await put(desk, wallet_secret(RESULT_KEY_NAME), key.secret)
    grant = ("task", "grant", stage.url, "--app", app, "--result-key", "--yes")
    assert (await desk.run(*grant)).status == 0
    with ZipFile(tmp_path / "archive", "w") as files:
        files.writestr("result.txt", "forged")
    with (tmp_path / "archive").open("rb") as archive:
        encrypt_result(archive, key.key.public_key(), tmp_path / "forged.zip")
    forged = (tmp_path / "forged.zip").read_bytes()
    output: dict[str, Json] = {"digest": f"0x{'0' * 64}", "sizeBytes": len(forged)}
    document = canonical_bytes(output | {"sha256": sha256(forged).hexdigest()})
    await stage.publish(
        "forger", (_PRINTING % (len(document), document.replace(b'"', b'\\"'))).decode()
    )
    ended: dict[str, Any] = {}

    async def hold(request: web.Request) -> None:
        if request.method == "POST":
            body = (await request.read()).decode()
            status, run = await stage.call("forger", input=body, responseFormat="Json")
            assert status == 200 and run["status"] == "completed", run
            ended.update(run)

    def twist(answer: Answer) -> None:
        if answer.path.startswith("/tasks"):
            answer.status = 200
            answer.headers["Content-Type"] = "application/json"
            answer.body = forged if answer.path.endswith("/result") else json.dumps(ended).encode()

    async with relay_before(stage.url) as relay:
        relay.hold, relay.twist = hold, twist
        refused = await desk.run("task", "run", relay.url, app, "--watch", "--output", "result")
        assert ended and refused.status != 0, refused
        assert "the receipt is about another task, request or result" in refused.err
        assert not (tmp_path / "result").exists()
        refused = await desk.run("task", "download", relay.url, ended["job"])
        assert "the receipt is about another task, request or result" in refused.err


async def test_a_task_that_waits(desk: Desk, stage: RunnerStage, tmp_path: Path) -> None:
    """TK8: the state of a task that has not started is said in words, not by iExec's name."""
    await desk.log_in("--space", "public")
    app = await published(desk, tmp_path, "waits")
    await put(desk, wallet_secret(RESULT_KEY_NAME), ResultKey().secret)
    grant = ("task", "grant", stage.url, "--app", app, "--result-key", "--yes")
    assert (await desk.run(*grant)).status == 0
    waiting = 2

    def twist(answer: Answer) -> None:
        nonlocal waiting
        if answer.path.startswith("/tasks/") and waiting:
            waiting -= 1
            answer.status = 202
            answer.headers["Content-Type"] = "application/json"
            state = {"status": "pending", "job": "1", "state": "UNSET", "stage": None}
            answer.body = json.dumps(state).encode()

    async with relay_before(stage.url) as relay:
        relay.twist = twist
        done = await desk.run("task", "run", relay.url, app, "--watch")
        assert done.status == 0, done
        assert "waiting for its turn" in done.err and "UNSET" not in done.err
        waiting, job = 1, json.loads((await desk.run("task", "run", relay.url, app, "--json")).out)
        shown = await desk.run("task", "show", relay.url, job["job"])
        assert "waiting for its turn" in shown.out and "UNSET" not in shown.out, shown


@pytest.mark.parametrize("mapping", ["login", "0=login", "01=login", "1234567890=login", "1="])
async def test_mappings_that_are_refused(desk: Desk, stage: RunnerStage, mapping: str) -> None:
    """TK1: a secret without an index from 1, or without a name, is refused before the request."""
    await desk.log_in("--space", "public")
    refused = await desk.run("task", "run", stage.url, "counter", "--secret", mapping)
    assert refused.status != 0 and "it is not INDEX=NAME" in refused.err
    assert refused.next.startswith("--secret 1=NAME")
