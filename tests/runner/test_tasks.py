"""Tests of tasks with secrets of several owners, files and a sealed result (TK1 to TK11)."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import pytest_asyncio
from guest_programs import children
from https_service import Service, https_service
from patience import PATIENCE_S
from runner_stage import RunnerStage, runner_stage
from task_memory import TASK_MEMORY as MEMORY
from task_memory import needs_task_memory
from task_parties import VALUES, Party, party
from task_programs import ResultKey, reporting

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.strict_base64 import decode_url, encode_standard
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes
from runner.calls import task_stages
from runner.calls.prices import Price
from runner.calls.run_receipts import verify_run
from sealspace.apps.backends import deliver
from sealspace.apps.programs import Version
from sealspace.apps.run_calls import call_headers
from sealspace.documents.call_conditions import AllowAll, Owner, Whitelist
from sealspace.documents.dataset_format import DATASET_TYPE, Suite, encrypt
from sealspace.documents.iexec_names import (
    RESULT_KEY_NAME,
    address_of,
    app_secret,
    dataset_secret,
    requester_secret,
    wallet_secret,
)
from sealspace.documents.project_names import ProjectId, parse_project
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.documents.secret_names import SecretName
from sealspace.documents.signed_statements import sign_statement
from sealspace.errors import GrantNotTaken
from sealspace.session import capability
from serving.outbound import Outbound

APP_VALUE, OTHER_APP = "secret of the application", "secret of another application"
BLOBS: dict[str, bytes] = {}
KEY = bytes(range(32))

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    needs_task_memory,
]


async def _send_blob(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"GET /hanging "):
        await reader.read()  # until the runner closes the connection
        writer.close()
        return
    blob = BLOBS[head.split(b" ", 2)[1].decode()]
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(blob) + blob)
    await writer.drain()
    writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def files(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service with the encrypted data sets in `BLOBS`."""
    folder = tmp_path_factory.mktemp("service")
    async with https_service(folder, "files.test", talk=_send_blob) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    tmp_path_factory: pytest.TempPathFactory, files: Service
) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module; each test publishes programs of its own."""
    async with AsyncExitStack() as stack:
        root = MEMORY / f"tasks-{token_hex(8)}"
        root.mkdir(0o700)
        stack.callback(root.rmdir)  # fails if a task left a file
        outbound = Outbound(loopback_ca=files.ca)
        folder = tmp_path_factory.mktemp("runner")
        yield await runner_stage(stack, folder, task_root=root, outbound=outbound)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def developer(stage: RunnerStage) -> Party:
    return Party(stage, stage.owner, stage.wallet)


@pytest_asyncio.fixture(loop_scope="module")
async def requester(stage: RunnerStage) -> Party:
    """A requester for each test, because a runner keeps few grants of one owner."""
    return await party(stage)


RESULT = wallet_secret(RESULT_KEY_NAME)
FIRST, SECOND = map(requester_secret, VALUES)


async def published(stage: RunnerStage, name: str, **more: Any) -> tuple[Version, str]:
    """Publish an application; return its version and id."""
    version = await stage.publish(name, reporting(name, **more))
    return version, f"{stage.developer}/{name}"


def secret_of(app: str) -> SecretName:
    return app_secret(address_of("app", parse_project(app)))


def code(answered: tuple[int, dict[str, Any]]) -> tuple[int, str, str]:
    status, answer = answered
    text = json.dumps(answer)
    assert not any(value in text for value in (APP_VALUE, OTHER_APP, *VALUES.values()))
    return status, answer["error"]["code"], answer["error"].get("detail", "")


async def test_a_task_has_the_secrets_of_all(
    stage: RunnerStage, developer: Party, requester: Party, tmp_path: Path
) -> None:
    """TK3, TK6, iexec-T9, iexec-T11, iexec-T12: a task's program gets exactly the granted
    variables."""
    version, app = await published(stage, "all")
    await developer.put(secret_of(app), APP_VALUE)
    await developer.grant(version, secret_of(app))
    await requester.grant(version, FIRST, SECOND, RESULT, callers=Owner())
    secrets = {"1": "my-key", "3": "my-key", "22": "My_Key"}
    task = await requester.done(app, secrets=secrets, args="count 'to three' \\\"", nonce="n")
    *shown, last = await requester.report(task, tmp_path)
    assert last == "" and shown[-3:] == ["count", "to three", '"']
    variables = dict(one.split("=", 1) for one in shown[:-4])
    task_id, deal = variables.pop("IEXEC_TASK_ID"), variables.pop("IEXEC_DEAL_ID")
    assert task_id != deal and len(task_id) == len(deal) == 66
    assert variables == {
        "IEXEC_IN": "/iexec_in",
        "IEXEC_OUT": "/iexec_out",
        "IEXEC_INPUT_FILES_FOLDER": "/iexec_in",
        "IEXEC_INPUT_FILES_NUMBER": "0",
        "IEXEC_TASK_INDEX": "0",
        "IEXEC_BOT_SIZE": "1",
        "IEXEC_BOT_FIRST_INDEX": "0",
        "IEXEC_BOT_TASK_INDEX": "0",
        "IEXEC_APP_DEVELOPER_SECRET": APP_VALUE,
        "IEXEC_APP_DEVELOPER_SECRET_1": APP_VALUE,
        "IEXEC_REQUESTER_SECRET_1": VALUES["my-key"],
        "IEXEC_REQUESTER_SECRET_3": VALUES["my-key"],
        "IEXEC_REQUESTER_SECRET_22": VALUES["My_Key"],
    }
    # RN85: the requester does not own the secret of the application
    assert not {"stderr", "stderrBytes", "stdout"} & task.keys()
    stated = task["receipt"]["statement"]
    assert stated["secrets"] == "delivered"
    assert stated["storage"] == "none"
    assert stated["nonce"] == "n"


async def test_the_receipt_proves_the_result(
    stage: RunnerStage, requester: Party, tmp_path: Path
) -> None:
    """TK9: a task's receipt verifies offline the request, the digest and the result file."""
    version, app = await published(stage, "proven")
    await requester.grant(version, RESULT, callers=Owner())
    body = json.dumps({"app": app}).encode()
    _, answer = await requester.ask("POST", "/tasks", app, body)
    made = json.loads(answer)
    assert made == {"status": "pending", "job": made["job"], "state": "UNSET", "stage": None}
    task = await requester.ended(made["job"])
    _, sealed = await requester.result(made["job"])
    assert task["output"]["sha256"] == hashlib.sha256(sealed).hexdigest()
    assert task["output"]["sizeBytes"] == len(sealed)
    shown = "\0".join(await requester.report(task, tmp_path)).encode()
    assert task["output"]["digest"] == "0x" + hashlib.sha256(shown).hexdigest()
    # RN85: all that was delivered is the requester's
    assert task["stderr"] == "proven"
    assert task["stdout"] == "proven"
    async with stage.http.get(f"{stage.url}/start") as got:
        start = await got.read()
    run = await verify_run(canonical_bytes(task["receipt"]), start, stage.inspector)
    salt, document = decode_url(task["salt"]), canonical_bytes(task["output"])
    assert salt is not None and run.stated["job"] == made["job"]
    assert run.stated["program"] == version.sha256
    assert run.is_about(salt=salt, input=body, output=document)
    assert run.is_about(salt=salt, input=None, output=document)
    assert not run.is_about(salt=salt, input=body + b" ", output=document)
    assert not run.is_about(salt=salt, input=None, output=document.replace(b"0x", b"0X"))


async def test_without_a_grant_of_the_developer(
    stage: RunnerStage, developer: Party, requester: Party, tmp_path: Path
) -> None:
    """TK4, iexec-T4: without a developer's grant, the variables of the developer's secret are
    absent."""
    version, app = await published(stage, "plain")
    await developer.put(secret_of(app), APP_VALUE)
    await requester.grant(version, RESULT)
    shown = await requester.report(await requester.done(app), tmp_path)
    assert not any(one.startswith(("IEXEC_APP", "IEXEC_DATASET")) for one in shown)
    portable = await developer.grant(version, secret_of(app), callers=Owner())
    assert code(await requester.make(app)) == (403, "access-denied", "")
    await developer.client.delegations.revoke_by_wallet(portable, developer.wallet)
    assert code(await requester.make(app)) == (403, "access-denied", "")
    await developer.grant(version, secret_of(app))
    shown = await requester.report(await requester.done(app), tmp_path)
    assert f"IEXEC_APP_DEVELOPER_SECRET={APP_VALUE}" in shown


async def test_a_grant_that_the_developer_revoked(
    stage: RunnerStage, developer: Party, requester: Party
) -> None:
    """TK4: a task is refused if the developer has revoked the grant of the application's secret."""
    version, app = await published(stage, "once-granted")
    await developer.put(secret_of(app), APP_VALUE)
    await requester.grant(version, RESULT)
    portable = await developer.grant(version, secret_of(app))
    await developer.client.delegations.revoke_by_wallet(portable, developer.wallet)
    for _ in range(2):  # the runner learns of it with the first read
        assert code(await requester.make(app)) == (403, "access-denied", "")


async def test_many_grants_after_one_that_was_revoked(
    stage: RunnerStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TK4, AT54: at the limit of grants, a revoked grant is still remembered until a new one
    replaces it."""
    (version, app), (other_version, other) = (
        await published(stage, "many-granted"),
        await published(stage, "one-too-many"),
    )
    requester, root = await party(stage), MEMORY / f"tasks-{token_hex(8)}"
    root.mkdir(0o700)
    async with AsyncExitStack() as stack:
        stack.callback(root.rmdir)
        runner = await stage.another(stack, tmp_path / "runner", task_root=root)
        requester.stage, backend = runner, runner.runner.backend
        developer = Party(runner, stage.owner, stage.wallet)
        monkeypatch.setattr(backend._held, "_most_of_an_owner", 1)
        await developer.put(secret_of(app), APP_VALUE)
        await developer.put(secret_of(other), OTHER_APP)
        await requester.grant(version, RESULT)
        portable = await developer.grant(version, secret_of(app))
        await developer.client.delegations.revoke_by_wallet(portable, developer.wallet)
        assert code(await requester.make(app)) == (403, "access-denied", "")
        with pytest.raises(GrantNotTaken, match="the limit of 1 grants is reached"):
            await developer.grant(other_version, secret_of(other))
        assert code(await requester.make(app)) == (403, "access-denied", "")
        await developer.grant(version, secret_of(app))
        assert portable.cid not in {one.grant.cid for one in backend.grants}
        assert (await requester.done(app))["state"] == "COMPLETED"


async def test_a_grant_for_another_version(
    stage: RunnerStage, developer: Party, requester: Party
) -> None:
    """TK4: a task of a version for which the developer did not grant its secret is refused."""
    version, app = await published(stage, "two-versions")
    await developer.put(secret_of(app), APP_VALUE)
    await developer.grant(version, secret_of(app))
    version = await stage.publish("two-versions", reporting("two-versions", computed="{}"))
    await requester.grant(version, RESULT)
    assert code(await requester.make(app)) == (403, "access-denied", "")


async def test_no_secret_is_opened_before_the_run(stage: RunnerStage, requester: Party) -> None:
    """TK5: the run of a task, not its creation, releases a key for each secret."""
    version, app = await published(stage, "unopened")
    await requester.grant(version, FIRST, RESULT)
    await requester.done(app, secrets={"1": "my-key"})
    network = requester.client.encryption.network()
    right = capability(network.text, "sealspace.encryption/receipts")
    await requester.client.delegations.add_right(requester.wallet, [right])
    assert len([one async for one in requester.client.receipts.all()]) == 2


async def test_the_secret_of_another_application(
    stage: RunnerStage, developer: Party, requester: Party, tmp_path: Path
) -> None:
    """TK3: a grant for one application does not apply to another application of the same
    developer."""
    version, app = await published(stage, "mine")
    other, other_app = await published(stage, "other")
    await developer.put(secret_of(other_app), OTHER_APP)
    # also if the grant names the program: the secret belongs to another address
    await developer.grant(version, secret_of(other_app))
    await developer.grant(other, secret_of(other_app))
    await requester.grant(version, RESULT)
    shown = await requester.report(await requester.done(app), tmp_path)
    assert not any(OTHER_APP in one for one in shown)


async def test_the_secret_of_another_requester(stage: RunnerStage, requester: Party) -> None:
    """TK3, iexec-T10: a task uses the requester's own secrets, never those of another requester."""
    version, app = await published(stage, "requesters")
    await requester.grant(version, FIRST, SECOND, RESULT)
    stranger = await party(stage)
    await stranger.grant(version, RESULT)
    refused = code(await stranger.make(app, secrets={"2": "My_Key", "1": "my-key"}))
    assert refused == (
        403,
        "secret-missing",
        "secrets 1, 2 are not granted to this runner for this program",
    )


async def test_missing_secrets(stage: RunnerStage, requester: Party) -> None:
    """TK5, iexec-T6: a task with a missing secret is refused with the secret's index."""
    version, app = await published(stage, "missing")
    gone = requester_secret("gone")
    await requester.put(gone, "soon deleted")
    await requester.grant(version, FIRST, gone, RESULT)
    await requester.client.secrets().delete(gone.name, scope=gone.scope)
    for secrets, listed in (
        ({"1": "my-key", "4": "My_Key"}, "4"),
        ({"1": "my-key", "2": "gone", "10": "gone"}, "2, 10"),
        ({"7": "absent", "3": "My_Key"}, "3, 7"),
    ):
        refused = code(await requester.make(app, secrets=secrets))
        text = f"secrets {listed} are not granted to this runner for this program"
        assert refused == (403, "secret-missing", text)


async def test_a_result_key_is_needed(stage: RunnerStage, requester: Party) -> None:
    """TK3, iexec-T12: a task without the beneficiary's key is refused."""
    version, app = await published(stage, "keyless")
    missing = "POST_COMPUTE_GET_ENCRYPTION_TOKENS_FAILED_EMPTY_BENEFICIARY_KEY"
    assert code(await requester.make(app))[:2] == (403, missing)
    stranger = await party(stage, has_key=False)
    await requester.grant(version, RESULT, callers=Whitelist((requester.wallet.did,)))
    assert code(await stranger.make(app, beneficiary=requester.did))[:2] == (403, missing)
    assert (await requester.done(app))["state"] == "COMPLETED"


async def test_a_beneficiary_opens_the_result(
    stage: RunnerStage, requester: Party, tmp_path: Path
) -> None:
    """TK3, TK9: only the requester and the beneficiary can download a result."""
    version, app = await published(stage, "gift")
    friend, stranger = await party(stage), await party(stage)
    friend.key = ResultKey(1)
    await friend.put(RESULT, friend.key.secret)
    await friend.grant(version, RESULT)
    await requester.grant(version, FIRST)
    task = await requester.done(app, secrets={"1": "my-key"}, beneficiary=friend.did)
    assert "stderr" not in task
    shown = await friend.report(task, tmp_path)
    assert f"IEXEC_REQUESTER_SECRET_1={VALUES['my-key']}" in shown
    job = task["job"]
    assert (await requester.result(job))[1] == (await friend.result(job))[1]
    for path in (f"/tasks/{job}", f"/tasks/{job}/result", f"/calls/{job}"):
        for about, other in ((f"calls/{job}", stranger), (f"calls/{'0' * 32}", friend)):
            assert (await other.ask("GET", path, about))[0] == 404
    unknown = "0" * 32
    assert (await friend.ask("GET", f"/tasks/{unknown}", f"calls/{unknown}"))[0] == 404


async def test_a_grant_has_to_name_the_project(
    stage: RunnerStage, developer: Party, requester: Party
) -> None:
    """TK3: a grant that names only the program's hash does not apply to a task."""
    version, app = await published(stage, "by-hash")
    alone = RunStatement(programs=(ByHash(version.sha256),), callers=AllowAll())
    seen = await stage.look()
    labels = [RESULT.label, FIRST.label]
    portable = await requester.client.runners.grant(seen, labels, alone, wallet=requester.wallet)
    await deliver(stage.url, portable)
    refused = code(await requester.make(app, secrets={"1": "my-key"}))
    assert refused[:2] == (403, "grant-no-project")


@pytest.mark.parametrize(
    "members",
    [
        {"secrets": {index: "my-key"}}
        for index in ("0", "-1", "x", "1.0", " 1", "01", "1\n", "1" * 10, "")
    ]
    + [
        {"secrets": {"1": "my-key", "-1": "my-key"}},  # T8
        {"secrets": {"1": "no $"}},
        {"secrets": {"1": ""}},
        {"secrets": ["my-key"]},
        {"secrets": {str(index): "my-key" for index in range(1, 34)}},
        {"args": "x" * 4097},
        {"args": "'open"},
        {"args": "a\0b"},
        {"args": ["x"]},
        {"iexec_args": "x"},
        {"dataset": "0x" + "00" * 20},
        {"beneficiary": "0x" + "00" * 20},
        {"resourceLimits": {"maxSeconds": 1}},
        {"nonce": "a\nb"},
    ],
)
async def test_requests_that_are_refused(
    stage: RunnerStage, requester: Party, members: dict[str, Any]
) -> None:
    """TK1, TK2, iexec-T7, iexec-T8, iexec-T18: a task with an unknown or invalid parameter is
    refused."""
    app = f"{stage.developer}/strict"
    assert code(await requester.make(app, **members))[:2] == (400, "request-invalid")


async def test_bodies_that_are_refused(stage: RunnerStage, requester: Party) -> None:
    """TK1, iexec-T18: a task's body with broken JSON or repeated members is refused."""
    app = f"{stage.developer}/strict"
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"secrets": {}}',
        b'{"app": "no-project"}',
        f'{{"app": "{app}", "secrets": {{"1": "a", "1": "b"}}}}'.encode(),
        f'{{"app": "{app}", "app": "{app}"}}'.encode(),
        f'{{"app": "{app}", "args": "{"x" * 70_000}"}}'.encode(),
    ):
        status, answer = await requester.ask("POST", "/tasks", app, body)
        assert (status, json.loads(answer)["error"]["code"]) == (400, "request-invalid")


async def test_a_token_is_for_one_body(stage: RunnerStage, requester: Party) -> None:
    """TK1: a task's token is valid once, for one application and one body."""
    version, app = await published(stage, "token")
    await requester.grant(version, RESULT)
    body = json.dumps({"app": app}).encode()
    headers = call_headers(
        requester.client.session,
        runner=stage.at,
        program=app,
        body=body,
        now=SystemClock().now(),
        entropy=SystemEntropy(),
    )
    outcomes = []
    for sent in (body + b" ", body, body):
        async with stage.http.post(f"{stage.url}/tasks", data=sent, headers=headers) as answer:
            outcomes.append((answer.status, json.loads(await answer.read())))
    assert [status for status, _ in outcomes] == [401, 200, 409]
    assert outcomes[2][1]["error"]["code"] == "call-repeated"
    assert (await requester.ended(outcomes[1][1]["job"]))["state"] == "COMPLETED"


async def failed(requester: Party, app: str, **members: Any) -> tuple[dict[str, Any], str, str]:
    """Make a task that fails; return its answer, and stage and code of the cause."""
    task = await requester.done(app, **members)
    assert task["status"] == "failed"
    assert task["state"] == "FAILED"
    assert task["error"]["code"] == task["cause"]["code"]
    assert task["receipt"]["statement"]["code"] == task["cause"]["code"]
    assert "output" not in task and (await requester.result(task["job"]))[0] == 404
    return task, task["cause"]["stage"], task["cause"]["code"]


async def test_stages_that_fail(stage: RunnerStage, requester: Party) -> None:
    """TK7, TK8: a failed task reports its stage and code, and has no result."""
    version, app = await published(stage, "no-computed", computed=None)
    await requester.grant(version, RESULT)
    outcome = (await failed(requester, app))[1:]
    assert outcome == ("POST_COMPUTE", "POST_COMPUTE_COMPUTED_FILE_NOT_FOUND")
    version, app = await published(stage, "endless", endless=True)
    await requester.grant(version, RESULT)
    limits = {"maxInstructions": 1_000_000}
    task, stage_name, cause = await failed(requester, app, resourceLimits=limits)
    assert stage_name == "APP"
    assert cause == "limit-instructions"
    assert task["receipt"]["statement"]["limits"]["maxInstructions"] == 1_000_000


async def test_result_keys_that_are_malformed(stage: RunnerStage, requester: Party) -> None:
    """TK7: a result key that is not base64 fails the task before its program, and one that is no
    PEM after it."""
    for key, has_run in (("no base64!", False), ("bm8gUEVN", True)):
        other = await party(stage, has_key=False)
        await other.put(RESULT, key)
        version, app = await published(stage, "malformed")
        await other.grant(version, RESULT)
        task, _, cause = await failed(other, app)
        assert cause == "POST_COMPUTE_MALFORMED_ENCRYPTION_PUBLIC_KEY"
        assert (task["metrics"]["instructions"] > 0) is has_run


async def test_a_grant_that_is_revoked_before_the_run(
    stage: RunnerStage,
) -> None:
    """TK5, iexec-T20: a task fails if a grant was revoked or expired while the task waited."""
    version, app = await published(stage, "revoked")
    requester = await party(stage)
    own, _ = await requester.grant(version, FIRST), await requester.grant(version, RESULT)
    slow, slow_app = await published(stage, "slow", endless=True)
    await requester.grant(slow, RESULT)
    _, first = await requester.make(slow_app)  # one task runs at a time
    status, made = await requester.make(app, secrets={"5": "my-key"})
    assert status == 200 and made["state"] == "UNSET"
    await requester.client.delegations.revoke_by_wallet(own, requester.wallet)
    async with asyncio.timeout(PATIENCE_S):
        while not (running := children(kind="_task_child")):
            await asyncio.sleep(0)  # a guest sends no event
    os.kill(running[0], signal.SIGKILL)  # the first task ends
    await requester.ended(first["job"])
    task = await requester.ended(made["job"])
    assert task["state"] == "FAILED" and task["secrets"] == "none"
    assert task["cause"]["code"] == "secret-missing"
    assert "secrets 5 are not granted" in task["cause"]["detail"]


async def test_progress(stage: RunnerStage, requester: Party) -> None:
    """TK8: a running task is ACTIVE and names its stage."""
    version, app = await published(stage, "progress", endless=True)
    await requester.grant(version, RESULT)
    _, made = await requester.make(app, resourceLimits={"maxExecutionSeconds": 1})
    seen = set()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            path = f"/tasks/{made['job']}"
            task = json.loads((await requester.ask("GET", path, f"calls/{made['job']}"))[1])
            if task["status"] != "pending":
                break
            seen.add((task["state"], task["stage"]))
            assert (await requester.result(made["job"]))[0] == 404
    assert ("ACTIVE", "APP") in seen
    assert seen <= {("UNSET", None), ("ACTIVE", "PRE_COMPUTE"), ("ACTIVE", "APP")}
    assert task["cause"]["code"] in ("limit-time", "limit-instructions")


async def test_tasks_are_off(stage: RunnerStage, requester: Party, tmp_path: Path) -> None:
    """TK1: a runner without a folder for tasks refuses them."""
    async with AsyncExitStack() as stack:
        other = await stage.another(stack, tmp_path / "other")
        _, app = await published(stage, "any")
        status, answer = await requester.ask(
            "POST", "/tasks", app, json.dumps({"app": app}).encode(), at=other
        )
    assert (status, json.loads(answer)["error"]["code"]) == (404, "tasks-off")


async def test_a_runner_that_ends_during_a_task(
    stage: RunnerStage, requester: Party, tmp_path: Path
) -> None:
    """TK10, RN99: a task that was running when the runner ended fails and costs nothing."""
    price = Price(call=1000)
    own = await party(stage)
    own.stage = stage
    version, app = await published(stage, "kept")
    slow, slow_app = await published(stage, "interrupted", endless=True)
    root = MEMORY / f"tasks-{token_hex(8)}"
    root.mkdir(0o700)
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", price=price, task_root=root)
        own.stage = runner
        await runner.credit(1_000_000, owner=own.did)
        for one in (version, slow):
            await own.grant(one, RESULT)
        done = await own.done(app)
        _, sealed = await own.result(done["job"])
        _, made = await own.make(slow_app)
        async with asyncio.timeout(PATIENCE_S):
            while (
                json.loads(
                    (await own.ask("GET", f"/tasks/{made['job']}", f"calls/{made['job']}"))[1]
                )["stage"]
                != "APP"
            ):
                await asyncio.sleep(0)
        _, waiting = await own.make(app)
        (tmp_path / "crashed").mkdir(mode=0o700)
        for part in ("journal.sqlite", "journal.sqlite-wal"):
            shutil.copy(runner.runner_folder / part, tmp_path / "crashed")
        shutil.copytree(runner.runner_folder / "grants", tmp_path / "crashed" / "grants")
    assert not list(root.iterdir())
    async with AsyncExitStack() as stack:
        own.stage = await stage.another(stack, tmp_path / "crashed", price=price, task_root=root)
        assert await own.ended(done["job"]) == done
        assert await own.result(done["job"]) == (200, sealed)
        task = await own.ended(made["job"])
        assert task["state"] == "FAILED"
        assert task["cause"]["code"] == "interrupted"
        assert task["cause"]["stage"] == "APP"
        assert (await own.result(made["job"]))[0] == 404
        assert (await own.ended(waiting["job"]))["state"] == "COMPLETED"
        account = json.loads((await own.ask("GET", "/keys", "keys"))[1])["account"]
        assert account == {"balance": "998000", "reserved": "0", "charged": "2000"}
    root.rmdir()


async def dataset(
    owner: Party, files: Service, name: str, plain: bytes, *, suite: Suite = "iexec-cbc-v1"
) -> tuple[ProjectId, SecretName]:
    """Publish a data set; return its id and the secret with its key, which is stored."""
    blob = b"".join(encrypt(suite, KEY, BytesIO(plain).read, SystemEntropy()))
    BLOBS[f"/{name}"] = blob
    found = ProjectId(owner.wallet.did, name)
    stated: dict[str, Json] = {
        "dataset": found.text,
        "url": files.url(f"/{name}"),
        "checksum": f"0x{hashlib.sha256(blob).hexdigest()}",
        "sizeBytes": len(blob),
        "suite": suite,
        "publishedAt": "2026-01-01T00:00:00Z",
    }
    statement = sign_statement(DATASET_TYPE, stated, owner.wallet)
    await owner.client.kv("public").put(found.dataset_key, statement)
    secret = dataset_secret(address_of("dataset", found))
    await owner.put(secret, encode_standard(KEY))
    return found, secret


@pytest.mark.parametrize("suite", ["iexec-cbc-v1", "aead-chunked-v1"])
async def test_a_data_set(
    stage: RunnerStage, requester: Party, files: Service, tmp_path: Path, suite: Suite
) -> None:
    """TK3, TK6, iexec-T11: the program reads the decrypted data set, and never its key."""
    owner = await party(stage)
    data, secret = await dataset(owner, files, suite, b"rows of the owner", suite=suite)
    address = address_of("dataset", data)
    version, app = await published(stage, f"reads-{suite}", dataset=address)
    await requester.grant(version, RESULT)
    await owner.grant(version, secret, callers=Whitelist((requester.wallet.did,)))
    task = await requester.done(app, dataset=data.text)
    shown = await requester.report(task, tmp_path)
    assert shown[-1] == "rows of the owner"
    assert {f"IEXEC_DATASET_{one}={address}" for one in ("ADDRESS", "FILENAME")} <= {*shown}
    assert not any(encode_standard(KEY) in one for one in shown)
    assert "stderr" not in task  # RN85: the owner of the data set is another
    # a stranger whom the owner did not name
    stranger = await party(stage)
    await stranger.grant(version, RESULT)
    refused = code(await stranger.make(app, dataset=data.text))
    assert refused[:2] == (403, "PRE_COMPUTE_GET_DATASET_SECRET_FAILED")


async def test_data_sets_that_are_refused(
    stage: RunnerStage, requester: Party, files: Service
) -> None:
    """TK3, iexec-T5: a task is refused if the data set's key is missing or granted to another
    application."""
    owner = await party(stage)
    data, secret = await dataset(owner, files, "refused", b"rows")
    version, app = await published(stage, "unnamed")
    other, _ = await published(stage, "named")
    await requester.grant(version, RESULT)
    missing = (403, "PRE_COMPUTE_GET_DATASET_SECRET_FAILED")
    await owner.grant(other, secret)  # it names another application
    assert code(await requester.make(app, dataset=data.text))[:2] == missing
    await owner.grant(version, secret)
    await owner.client.secrets().delete(secret.name, scope=secret.scope)
    assert code(await requester.make(app, dataset=data.text))[:2] == missing


async def test_data_sets_that_cannot_be_read(
    stage: RunnerStage, requester: Party, files: Service
) -> None:
    """TK7: a missing or changed data set fails the task before its program."""
    owner = await party(stage)
    version, app = await published(stage, "unread")
    await requester.grant(version, RESULT)
    data, secret = await dataset(owner, files, "changed", b"rows")
    BLOBS["/changed"] = bytes(len(BLOBS["/changed"]))
    gone = ProjectId(owner.wallet.did, "gone")
    gone_secret = dataset_secret(address_of("dataset", gone))
    await owner.put(gone_secret, encode_standard(KEY))
    await owner.grant(version, secret, gone_secret)
    for one, expected in (
        (data, "PRE_COMPUTE_INVALID_DATASET_CHECKSUM"),
        (gone, "PRE_COMPUTE_DATASET_DOWNLOAD_FAILED"),
    ):
        task, stage_name, cause = await failed(requester, app, dataset=one.text)
        assert stage_name == "PRE_COMPUTE"
        assert cause == expected
        assert task["metrics"]["instructions"] == 0
        assert task["secrets"] == "none"


async def test_a_data_set_that_does_not_arrive(
    stage: RunnerStage, requester: Party, files: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TK7: the stage before the program ends after 600 s, even during a download."""
    assert task_stages.STAGE_S == 600
    owner = await party(stage)
    version, app = await published(stage, "hangs")
    await requester.grant(version, RESULT)
    data, secret = await dataset(owner, files, "hanging", b"rows")
    await owner.grant(version, secret)
    for bound_s in (0, 0.25):  # before the first request, and usually during the download
        monkeypatch.setattr(task_stages, "STAGE_S", bound_s)
        task, *cause = await failed(requester, app, dataset=data.text)
        assert cause == ["PRE_COMPUTE", "PRE_COMPUTE_TIMEOUT"]
        assert task["metrics"]["instructions"] == 0
        assert task["secrets"] == "none"


async def test_a_result_that_is_not_sealed_in_time(
    stage: RunnerStage, requester: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TK7, TK8, TG9: the stage after the program ends after 600 s, without a result."""
    assert task_stages.STAGE_S == 600
    version, app = await published(stage, "late")
    await requester.grant(version, RESULT)
    monkeypatch.setattr(task_stages, "STAGE_S", 0)
    task, *cause = await failed(requester, app)
    assert cause == ["POST_COMPUTE", "POST_COMPUTE_TIMEOUT"]
    assert task["metrics"]["instructions"] > 0
