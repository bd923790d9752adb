"""Data sets that arrive slowly, and keep a runner's tasks waiting (RN248, RN249)."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import pytest_asyncio
from https_service import Service, https_service
from patience import PATIENCE_S, until
from runner_stage import RunnerStage, runner_stage
from task_memory import TASK_MEMORY as MEMORY
from task_memory import needs_task_memory
from task_parties import Party, party
from task_programs import reporting

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.principals import Principal
from capabilities.strict_base64 import encode_standard
from capabilities.strict_json import Json
from runner.calls import task_stages
from runner.calls.prices import Price
from runner.reasons import RunRefused
from runner.tasks import dataset_fetch
from runner.tasks.folder_space import FolderSpace
from runner.tasks.stage_errors import StageFailed
from sealspace.documents.dataset_format import DATASET_TYPE, encrypt
from sealspace.documents.iexec_names import (
    RESULT_KEY_NAME,
    address_of,
    dataset_secret,
    requester_secret,
    wallet_secret,
)
from sealspace.documents.project_names import ProjectId
from sealspace.documents.secret_names import SecretName
from sealspace.documents.signed_statements import sign_statement
from serving.outbound import Outbound
from serving.shares import FairSemaphore, Payer

KEY = bytes(range(32))
BLOB = b"".join(encrypt("aead-chunked-v1", KEY, BytesIO(b"rows").read, SystemEntropy()))
RESULT = wallet_secret(RESULT_KEY_NAME)
DOWNLOAD_FAILED = "PRE_COMPUTE_DATASET_DOWNLOAD_FAILED"

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    needs_task_memory,
]


class Dripping:
    """A service that sends one byte of a data set, and the rest when `released` is set."""

    def __init__(self) -> None:
        self.asked = 0
        self.released = asyncio.Event()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BLOB) + BLOB[:1])
        gone = asyncio.create_task(reader.read())
        released = asyncio.create_task(self.released.wait())
        await asyncio.wait([gone, released], return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        released.cancel()
        writer.write(BLOB[1:])
        writer.close()


@asynccontextmanager
async def _root() -> AsyncIterator[Path]:
    root = MEMORY / f"tasks-{token_hex(8)}"
    root.mkdir(0o700)
    yield root
    root.rmdir()  # fails if a task left a file


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Dripping, Service]]:
    dripping = Dripping()
    folder = tmp_path_factory.mktemp("service")
    async with https_service(folder, "files.test", talk=dripping.talk) as one:
        yield dripping, one


@pytest.fixture
def dripping(service: tuple[Dripping, Service]) -> Dripping:
    """The service, which sends data sets slowly from now on."""
    found, _ = service
    found.asked = 0
    found.released.clear()
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    tmp_path_factory: pytest.TempPathFactory, service: tuple[Dripping, Service]
) -> AsyncIterator[RunnerStage]:
    """A runner whose tasks may fetch from the service, and an application."""
    async with AsyncExitStack() as stack:
        root = await stack.enter_async_context(_root())
        outbound = Outbound(loopback_ca=service[1].ca)
        folder = tmp_path_factory.mktemp("runner")
        staged = await runner_stage(stack, folder, task_root=root, outbound=outbound)
        await staged.publish("app", reporting("app"))
        yield staged


async def requester_of(stage: RunnerStage, at: RunnerStage | None = None) -> Party:
    """Return a requester with an account that granted its result key to the application."""
    one = await party(stage)
    one.stage = at or stage
    await one.stage.credit(0, owner=one.did)
    await one.grant(stage.published["app"], RESULT)
    return one


async def slow_data(stage: RunnerStage, owner: Party, files: Service) -> str:
    """Publish a slow data set, grant its key, and return its id."""
    data = ProjectId(owner.wallet.did, "slow")
    stated: dict[str, Json] = {
        "dataset": data.text,
        "url": files.url("/slow"),
        "checksum": f"0x{hashlib.sha256(BLOB).hexdigest()}",
        "sizeBytes": len(BLOB),
        "suite": "aead-chunked-v1",
        "publishedAt": "2026-01-01T00:00:00Z",
    }
    statement = sign_statement(DATASET_TYPE, stated, owner.wallet)
    await owner.client.kv("public").put(data.dataset_key, statement)
    secret: SecretName = dataset_secret(address_of("dataset", data))
    await owner.put(secret, encode_standard(KEY))
    await owner.grant(stage.published["app"], secret)
    return data.text


async def cause_of(one: Party, job: str) -> dict[str, Any]:
    """Return why a task failed."""
    task = await one.ended(job)
    assert task["state"] == "FAILED", task
    cause: dict[str, Any] = task["cause"]
    return cause


async def test_a_slow_data_set_holds_up_no_other_task(
    stage: RunnerStage, service: tuple[Dripping, Service], dripping: Dripping
) -> None:
    """RN248: while a data set arrives slowly, another paying requester's task runs."""
    attacker, other = await requester_of(stage), await requester_of(stage)
    app = f"{stage.developer}/app"
    data = await slow_data(stage, attacker, service[1])
    _, made = await attacker.make(app, dataset=data)
    await until(lambda: dripping.asked == 1)
    assert (await other.done(app))["state"] == "COMPLETED"
    _, answer = await attacker.ask("GET", f"/tasks/{made['job']}", f"calls/{made['job']}")
    assert json.loads(answer)["stage"] == "PRE_COMPUTE"
    _, waiting = await attacker.make(app, dataset=data)
    assert (await other.done(app))["state"] == "COMPLETED"
    assert dripping.asked == 1  # RN248: one place for each payer
    dripping.released.set()
    for job in (made["job"], waiting["job"]):
        assert (await attacker.ended(job))["state"] == "COMPLETED"


async def test_data_that_arrive_too_slowly(
    stage: RunnerStage,
    service: tuple[Dripping, Service],
    dripping: Dripping,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RN248: a task fails if its data set arrives below the minimum rate."""
    assert dataset_fetch.WINDOW_BYTES / dataset_fetch.WINDOW_S == 64 * 1024
    assert dataset_fetch.FIRST_WINDOW_S < task_stages.STAGE_S / 10
    attacker = await requester_of(stage)
    data = await slow_data(stage, attacker, service[1])
    monkeypatch.setattr(dataset_fetch, "FIRST_WINDOW_S", 0.01)
    _, made = await attacker.make(f"{stage.developer}/app", dataset=data)
    cause = await cause_of(attacker, made["job"])
    assert cause["code"] == DOWNLOAD_FAILED
    assert cause["stage"] == "PRE_COMPUTE"
    assert f"too slow: at least {640 * 1024} bytes" in cause["detail"]


async def test_data_that_stop_after_a_fast_beginning(
    stage: RunnerStage,
    service: tuple[Dripping, Service],
    dripping: Dripping,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RN248: fast bytes in one time window do not make up for a slow later window."""
    attacker = await requester_of(stage)
    data = await slow_data(stage, attacker, service[1])
    monkeypatch.setattr(dataset_fetch, "WINDOW_BYTES", 1)  # the first byte is enough at first
    monkeypatch.setattr(dataset_fetch, "FIRST_WINDOW_S", 1.0)
    monkeypatch.setattr(dataset_fetch, "WINDOW_S", 0.01)
    _, made = await attacker.make(f"{stage.developer}/app", dataset=data)
    assert (await cause_of(attacker, made["job"]))["code"] == DOWNLOAD_FAILED


async def test_a_failed_download_is_paid_for(
    stage: RunnerStage,
    service: tuple[Dripping, Service],
    dripping: Dripping,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RN249: the requester pays for each second of a download, even if the download fails."""
    monkeypatch.setattr(dataset_fetch, "FIRST_WINDOW_S", 1.1)
    async with AsyncExitStack() as stack:
        root = await stack.enter_async_context(_root())
        price = Price(second=10)
        outbound = Outbound(loopback_ca=service[1].ca)
        paid = await stage.another(
            stack, tmp_path / "runner", price=price, task_root=root, outbound=outbound
        )
        attacker = await requester_of(stage, paid)
        data = await slow_data(stage, attacker, service[1])
        app = f"{stage.developer}/app"
        limits = {"maxExecutionSeconds": 1}
        await paid.credit(6009, owner=attacker.did)
        status, answer = await attacker.make(app, dataset=data, resourceLimits=limits)
        assert (status, answer["error"]["code"]) == (402, "balance-too-low")
        await paid.credit(1, owner=attacker.did)
        status, made = await attacker.make(app, dataset=data, resourceLimits=limits)
        assert status == 200, made
        assert (await cause_of(attacker, made["job"]))["code"] == DOWNLOAD_FAILED
        account = json.loads((await attacker.ask("GET", "/keys", "keys"))[1])["account"]
        assert int(account["charged"]) >= 10 and int(account["reserved"]) == 0
        assert int(account["charged"]) % 10 == 0


async def test_a_grant_that_is_revoked_while_data_arrive(
    stage: RunnerStage,
    service: tuple[Dripping, Service],
    dripping: Dripping,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TK5, RN248: the runner reads secrets again after a slow data set has arrived."""
    monkeypatch.setattr(task_stages, "FRESH_SECRETS_S", 0.0)
    requester = await requester_of(stage)
    granted = await requester.grant(stage.published["app"], requester_secret("my-key"))
    data = await slow_data(stage, requester, service[1])
    _, made = await requester.make(f"{stage.developer}/app", dataset=data, secrets={"5": "my-key"})
    await until(lambda: dripping.asked == 1)
    await requester.client.delegations.revoke_by_wallet(granted, requester.wallet)
    dripping.released.set()
    cause = await cause_of(requester, made["job"])
    assert cause["code"] == "secret-missing", cause


async def test_places_for_begun_tasks() -> None:
    """RN248: a limit of downloads per payer leaves free places to other payers."""
    places = FairSemaphore(8, beside=True, most_of_payer=1)
    one, other = (Payer(Principal(f"did:key:z{name}")) for name in "ab")
    async with asyncio.timeout(PATIENCE_S), places.acquire(one):
        second = asyncio.create_task(places.acquire(one).__aenter__())
        async with places.acquire(other):
            assert not second.done()
    await second


async def test_space_is_reserved() -> None:
    """RN249: the runner fetches a data set only if the disk has room for all current downloads."""
    space, payer = FolderSpace(MEMORY), Payer(Principal("did:key:za"))
    stranger = payer._replace(is_known=False)
    status = os.statvfs(MEMORY)
    all_bytes, free_bytes = (status.f_frsize * each for each in (status.f_blocks, status.f_bavail))
    with (
        pytest.raises(StageFailed, match=f"has room for {all_bytes}"),
        space.reserve(payer, all_bytes + 1),
    ):
        pass
    with (
        pytest.raises(StageFailed, match=f"has room for {all_bytes // 2}"),
        space.reserve(stranger, all_bytes // 2 + 1),
    ):
        pass
    with space.reserve(payer, free_bytes // 2):
        with pytest.raises(RunRefused) as raised, space.reserve(payer, free_bytes // 4 * 3):
            pass
        assert raised.value.reason.code == "runner-busy"
        assert f"the data set has {free_bytes // 4 * 3} bytes" in raised.value.reason.detail
        with (
            pytest.raises(RunRefused, match="runner-busy"),
            space.reserve(stranger, free_bytes // 3),
        ):
            pass
        with space.reserve(stranger, free_bytes // 8):
            pass
    with space.reserve(payer, free_bytes // 4 * 3):
        pass
