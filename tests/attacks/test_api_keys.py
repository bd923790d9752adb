"""Attacks of key holders, outsiders and the host on a runner's HTTPS API, accounts and jobs."""

import asyncio
import json
import logging
import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
import yarl
from patience import PATIENCE_S
from runner_stage import ECHO, RunnerStage, runner_stage

from capabilities.signatures import Ed25519Signer
from runner.calls import calls
from runner.calls.prices import Price
from serving import shares

PRICE = Price(call=1000)
LOOP = '(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))'
EVE = Ed25519Signer(bytes(range(32)))

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """A node and its parties; some tests start a runner with its own journal."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"), price=PRICE)
        await staged.publish("echo", ECHO)
        await staged.publish("loop", LOOP)
        await staged.credit(1_000_000)
        yield staged


def edit(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "journal.sqlite")
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


# --- money ----------------------------------------------------------------------------------------


async def test_one_key_a_hundred_times_with_balance_for_one(
    stage: RunnerStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN93: of 100 concurrent calls with balance for one, one is accepted."""
    monkeypatch.setattr(calls, "AT_ONCE", 1000)
    monkeypatch.setattr(shares, "_PARTS", 1)
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", price=PRICE)
        await runner.credit(1999)
        key = await runner.key("echo", max_per_call=1000)
        answers = await asyncio.gather(*(runner.api("echo", key) for _ in range(100)))
        assert Counter(status for status, _ in answers) == {200: 1, 402: 99}
        assert await runner.account() == {"balance": 999, "reserved": 0, "charged": 1000}


async def test_more_than_a_call_may_cost(stage: RunnerStage) -> None:
    """RN94: no request header makes a call cost more than its key allows."""
    key = await stage.key("echo", max_per_call=1500)
    for stated in ("1501", "999", "0", "-1000", "1500.0", "0x5dc", "٢", "9" * 15, "9" * 400):
        status, answer = await stage.api(
            "echo", key, X_Compute_Limit=stated.encode().decode("latin-1")
        )
        assert status == 400 and answer["code"] in (
            "compute-limit",
            "key-per-call",
            "request-invalid",
        ), answer
    assert (await stage.api("echo", key))[1]["compute_cost"] == "1000"


async def test_seconds_alone_have_a_price(stage: RunnerStage, tmp_path: Path) -> None:
    """RN94: with a price for seconds only, a compute limit of 0 is refused."""
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", price=Price(second=5))
        await runner.credit(5)
        key = await runner.key("echo")
        for stated in ("0", "4"):
            status, answer = await runner.api("echo", key, X_Compute_Limit=stated)
            assert (status, answer["code"]) == (400, "compute-limit")
        assert (await runner.api("echo", key, X_Compute_Limit="5"))[0] == 200
        assert (await runner.api("echo", await runner.key("echo", max_per_call=0)))[1][
            "code"
        ] == "compute-limit"


# --- jobs -----------------------------------------------------------------------------------------


async def test_somebody_else_s_job(stage: RunnerStage) -> None:
    """RN98: a job is not found without the API key or token of its call."""
    key = await stage.key("echo")
    job = (await stage.api("echo", key, {"input": 1, "async": True}))[1]["call_id"]
    owner, nonce, secret = key.rsplit(":", 2)
    others = (
        {"X-Payment-Key": f"{owner}:{nonce}:{'0' * 64}"},
        {"X-Payment-Key": f"{owner}:{nonce}:{secret[:-1]}"},
        {"X-Payment-Key": await stage.key("echo")},
        {"X-Payment-Key": await stage.key(None, signer=EVE)},
    )
    seen = []
    for headers in (*others, {"X-Payment-Key": key}):
        async with stage.http.get(f"{stage.url}/calls/{job}", headers=headers) as answer:
            seen.append((answer.status, await answer.text()))
    async with stage.http.get(
        f"{stage.url}/calls/{'0' * 32}", headers={"X-Payment-Key": key}
    ) as answer:
        absent = (answer.status, await answer.text())
    assert seen[:-1] == [absent] * len(others) and absent[0] == 404
    assert seen[-1][0] == 200
    for headers in ({}, {"Authorization": "Bearer wk_1"}):
        async with stage.http.get(f"{stage.url}/calls/{job}", headers=headers) as answer:
            assert answer.status == 404 and job not in await answer.text()
    assert (await stage.polled(job, key))[1]["output"] == 1


async def test_what_a_crash_leaves(stage: RunnerStage, tmp_path: Path) -> None:
    """RN99: after a crash, started jobs are refunded and waiting ones run, each once."""
    sent: Any = {"input": 1, "async": True}
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", price=PRICE)
        await runner.credit(100_000)
        key = await runner.key(None, max_per_call=1000)
        done = (await runner.api("echo", key, sent))[1]["call_id"]
        answered = await runner.polled(done, key)
        # of one payer one starts (RN162)
        loops = [(await runner.api("loop", key, sent))[1]["call_id"]]
        now = asyncio.create_task(runner.api("loop", key))  # and one that waits for its answer
        waiting = [(await runner.api("echo", key, sent))[1]["call_id"] for _ in range(3)]
        async with asyncio.timeout(PATIENCE_S):
            while (await runner.account())["reserved"] < 5000:
                await asyncio.sleep(0)
        (tmp_path / "crashed").mkdir(mode=0o700)
        for part in ("journal.sqlite", "journal.sqlite-wal"):
            shutil.copy(runner.runner_folder / part, tmp_path / "crashed")
        now.cancel()
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "crashed", price=PRICE)
        assert await runner.polled(done, key) == answered
        for job in loops:
            status, answer = await runner.polled(job, key)
            assert status == 200
            assert answer["status"] == "failed"
            assert answer["code"] == "interrupted"
            assert answer["compute_cost"] == "0"
            async with stage.http.get(f"{runner.url}/receipts/{job}") as got:
                stated = (await got.json())["statement"]
            assert stated["status"] == "failed"
            assert stated["code"] == "interrupted"
        for job in waiting:
            assert (await runner.polled(job, key))[1]["status"] == "completed"
        assert await runner.account() == {"balance": 96_000, "reserved": 0, "charged": 4000}
        again = [await runner.polled(job, key) for job in (*loops, *waiting)]
    async with AsyncExitStack() as stack:  # nothing that was reported runs again
        runner = await stage.another(stack, tmp_path / "crashed", price=PRICE)
        assert [await runner.polled(job, key) for job in (*loops, *waiting)] == again
        assert (await runner.account())["charged"] == 4000


async def test_a_key_that_is_revoked_while_its_call_waits(
    stage: RunnerStage, tmp_path: Path
) -> None:
    """RN89: a waiting call whose key is revoked does not run and costs nothing."""
    sent: Any = {"input": 1, "async": True}
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", price=PRICE)
        await runner.credit(100_000)
        other, key = (
            await runner.key(None, max_per_call=1000),
            await runner.key(None, max_per_call=1000),
        )
        # of one payer one starts, and the other waits (RN162)
        await runner.api("loop", other, sent)
        job = (await runner.api("echo", key, sent))[1]["call_id"]
        nonce = key.rsplit(":", 2)[1]
        assert (await runner.signed("DELETE", f"/keys/{nonce}", f"keys/{nonce}/revoke"))[0] == 200
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", price=PRICE)
        async with asyncio.timeout(PATIENCE_S):
            while (said := await runner.signed("GET", f"/calls/{job}", f"calls/{job}"))[1][
                "status"
            ] == "pending":
                pass
        assert said[1]["status"] == "failed"
        assert said[1]["code"] == "key-refused"
        assert said[1]["compute_cost"] == "0"
        assert (await runner.account()) == {"balance": 100_000, "reserved": 0, "charged": 0}


# --- the host -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        (
            "UPDATE api_keys SET sealed = (SELECT sealed FROM api_keys WHERE owner = '{eve}') WHERE"
            " owner = '{owner}'"
        ),
        "UPDATE accounts SET balance = 10000000 WHERE owner = '{owner}'",
        "UPDATE OR REPLACE accounts SET owner = '{eve}' WHERE owner = '{owner}'",
    ],
    ids=range(3),
)
async def test_rows_that_the_host_edits_or_moves(
    stage: RunnerStage, tmp_path: Path, statement: str
) -> None:
    """RN92: an edited key or account is refused, and others are not affected."""
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", price=PRICE)
        await runner.credit(2000)
        key = await runner.key(None, max_per_call=1000)
        eve = await runner.key(None, signer=EVE, max_per_call=1000)
    edit(tmp_path / "runner", statement.format(owner=stage.developer, eve=EVE.did))
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", price=PRICE)
        for shown in (key, eve):
            status, answer = await runner.api("echo", shown)
            assert status in (401, 402, 503) and "output" not in answer, answer
        await runner.credit(5000, owner="0x" + "2" * 40)


@pytest.mark.parametrize(
    ("statement", "status"),
    [
        ("UPDATE kept SET payer = '{eve}'", 200),
        ("UPDATE receipts SET call = (SELECT call FROM receipts ORDER BY number LIMIT 1)", 503),
        ("UPDATE receipts SET call = x'00'", 503),
    ],
    ids=range(3),
)
async def test_calls_that_the_host_moves_to_another_key(
    stage: RunnerStage, tmp_path: Path, statement: str, status: int
) -> None:
    """RN92, RN233: a key's list contains no call of another key, nor one that was edited."""
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner")
        key, eve = await runner.key("echo"), await runner.key(None, signer=EVE)
        for _ in range(2):
            assert (await runner.api("echo", key))[0] == 200
    edit(tmp_path / "runner", statement.format(eve=EVE.did))
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner")
        shown = eve if status == 200 else key
        async with stage.http.get(
            f"{runner.url}/payment-keys/usage", headers={"X-Payment-Key": shown}
        ) as answer:
            said = await answer.json()
        assert (answer.status, said.get("usage", [])) == (status, [])


async def test_a_revoked_key_whose_statement_is_sent_again(
    stage: RunnerStage, tmp_path: Path
) -> None:
    """RN91: a revoked key cannot be added again, even after a restart."""
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", price=PRICE)
        key = await runner.key(None, max_per_call=1000)
        nonce = key.rsplit(":", 2)[1]
        assert (await runner.signed("DELETE", f"/keys/{nonce}", f"keys/{nonce}/revoke"))[0] == 200
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", price=PRICE)
        assert (await runner.api("echo", key))[1]["code"] == "key-refused"


# --- names ----------------------------------------------------------------------------------------

ODD = (
    "\0",
    "\n",
    "a\0b",
    "x' OR '1'='1",
    "../../keys",
    "%2e%2e",
    "a/b",
    ".",
    "..",
    "🦭",
    "a" * 5000,
    "%",
    "'; DROP--",
)


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
async def test_odd_names(stage: RunnerStage, odd: str) -> None:
    """A NUL, a line end, a statement or a path in a name is refused."""
    key, address = await stage.key(None), quote(odd, safe="")
    base, developer = stage.url, quote(stage.developer, safe=":")
    for method, path in (
        ("POST", f"/call/{address}/echo"),
        ("POST", f"/call/{developer}/{address}"),
        ("GET", f"/calls/{address}"),
        ("DELETE", f"/keys/{address}"),
        ("GET", f"/receipts/{address}"),
    ):
        request = stage.http.request(
            method,
            yarl.URL(base + path, encoded=True),
            data=b'{"input": 1}',
            headers={"X-Payment-Key": key},
        )
        async with request as said:
            assert 400 <= said.status < 500, (path, said.status)
    for members in (
        {"version_key": odd},
        {"secrets_ref": {"profile": odd, "account_id": stage.developer}},
    ):
        status, answer = await stage.api("echo", key, {"input": 1, **members})
        assert status in (400, 403) and answer["code"] in ("request-invalid", "bad-profile"), answer
    status, answer = await stage.api("echo", key, {"input": odd})
    assert (status, answer["output"]) == (200, odd)
    shown = f"{odd}:1:{'0' * 64}"
    if odd.isprintable() and odd.isascii():  # no client sends others
        status, answer = await stage.api("echo", shown)
        assert status == 400 and answer["code"] == "key-malformed"


async def test_a_key_leaves_no_trace(
    stage: RunnerStage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No log or file of the runner contains a key's secret, an input or an output."""
    caplog.set_level(logging.DEBUG)
    canary = "the canary of this call"
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", price=PRICE)
        await runner.credit(100_000)
        key = await runner.key("echo")
        for body in (
            {"input": canary},
            {"input": canary, "async": True},
            {"input": canary, "x": 1},
        ):
            _, answer = await runner.api("echo", key, body)
            if answer.get("status") == "pending":
                assert canary in json.dumps(await runner.polled(answer["call_id"], key))
        await runner.api("echo", key + "0")
        files = {
            path: path.read_bytes() for path in (tmp_path / "runner").rglob("*") if path.is_file()
        }
    secret = key.rpartition(":")[2]
    assert any(path.name == "journal.sqlite" for path in files)
    for text in (secret, canary):
        assert text not in caplog.text
        assert not [path for path, data in files.items() if text.encode() in data]
