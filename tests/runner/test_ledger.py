"""Accounts and jobs over crashes, and rows that were edited (RN92, RN93, RN99)."""

import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from ledgers import edit, opened, record

from capabilities.principals import Principal
from runner.calls import ledger as ledger_module
from runner.calls.journal import Journal, keep_receipt
from runner.calls.ledger import PIECE_BYTES, TASK_KEPT_S, Account, Ledger
from runner.reasons import RunRefused
from sealspace.apps.api_keys import MAX_AMOUNT
from serving.shares import Payer
from tee_backend.backend_errors import FolderDamaged

NOW = 1_795_000_000.0


async def test_a_job_reserves_and_settles_once(tmp_path: Path) -> None:
    """RN93: a job reserves once, is charged once, and gets the rest back."""
    async with opened(tmp_path / "journal") as ledger:
        assert await ledger.credit("alice", 100, reference="r") == Account(100)
        await ledger.accept("job", record(reserved=60), request=None)
        assert await ledger.account("alice") == Account(40, 60)
        with pytest.raises(RunRefused) as refused:
            await ledger.accept("next", record(reserved=41), request=None)
        assert refused.value.reason.code == "balance-too-low"
        assert await ledger.job("next") is None
        with pytest.raises(ValueError):
            await ledger.settle("job", charged=61, receipt=b"r", answer=None, now=NOW)
        await ledger.settle("job", charged=25, receipt=b"r", answer=None, now=NOW)
        for _ in range(2):
            with pytest.raises(FolderDamaged):
                await ledger.settle("job", charged=25, receipt=b"r", answer=None, now=NOW)
        assert await ledger.account("alice") == Account(75, 0, 25)


async def test_an_account_that_nobody_credited(tmp_path: Path) -> None:
    """RN93: an owner without credits can spend nothing."""
    async with opened(tmp_path / "journal") as ledger:
        with pytest.raises(RunRefused):
            await ledger.accept("job", record(reserved=1), request=None)
        assert await ledger.account("alice") is None
        await ledger.accept("free", record(), request=None)


async def test_credits(tmp_path: Path) -> None:
    """RN95: a reference credits an account once, also after a restart."""
    for _ in range(2):
        async with opened(tmp_path / "journal") as ledger:
            assert (await ledger.credit("alice", 5, reference="r")).balance == 5
            for owner, amount, reference in (
                ("bob", 5, "r"),
                ("alice", 6, "r"),
                ("alice", MAX_AMOUNT, "s"),
            ):
                with pytest.raises(ValueError):
                    await ledger.credit(owner, amount, reference=reference)
            assert await ledger.account("bob") is None


async def test_a_request_is_kept_until_its_job_starts(tmp_path: Path) -> None:
    """RN98, RN99: a waiting request survives a restart and starts once."""
    path = tmp_path / "journal"
    async with opened(path) as ledger:
        await ledger.accept("one", record(later=True), request=b"the request")
        await ledger.accept("two", record(later=True), request=b"the request")
    async with opened(path) as ledger:
        assert [(job, known and known.state) for job, known in await ledger.unfinished()] == [
            *(("one", "waiting"), ("two", "waiting"))
        ]
        assert await ledger.start("one") == b"the request"
        with pytest.raises(FolderDamaged):
            await ledger.start("one")
    async with opened(path) as ledger:
        assert [known and known.state for _, known in await ledger.unfinished()] == [
            "started",
            "waiting",
        ]
        await ledger.settle("one", charged=0, receipt=b"r", answer=b"the answer", now=NOW)
    async with opened(path) as ledger:
        found = await ledger.job("one")
        assert found is not None
        assert [piece async for piece in ledger.answer("one", found)] == [b"the answer"]
        assert [job for job, _ in await ledger.unfinished()] == ["two"]
    assert b"the answer" not in path.read_bytes() and b"the request" not in path.read_bytes()


@pytest.mark.parametrize(
    "statement",
    [
        (
            "UPDATE contents SET sealed = (SELECT sealed FROM contents WHERE kind = 'answer.2')"
            " WHERE kind = 'answer.1'"
        ),
        "UPDATE contents SET kind = 'answer.3' WHERE kind = 'answer.2'",
        "DELETE FROM contents WHERE kind = 'answer.2'",
    ],
)
async def test_an_answer_is_kept_in_pieces(tmp_path: Path, statement: str) -> None:
    """RN158: no piece of a stored answer can be left out or moved."""
    path, kept = tmp_path / "journal", bytes(range(256)) * (ledger_module.PIECE_BYTES // 100)
    async with opened(path) as ledger:
        await ledger.accept("one", record(later=True), request=b"")
        await ledger.start("one")
        await ledger.settle("one", charged=0, receipt=b"r", answer=kept, now=NOW)
        found = await ledger.job("one")
        assert found is not None
        pieces = [piece async for piece in ledger.answer("one", found)]
        assert len(pieces) == 3
        assert b"".join(pieces) == kept
    edit(path, statement)
    async with opened(path) as ledger:
        with pytest.raises(FolderDamaged):
            [piece async for piece in ledger.answer("one", found)]


async def ended_task(ledger: Ledger, job: str, result: Path, *, now: float) -> None:
    await ledger.accept(job, record(later=True, key=None, beneficiary="bob"), request=b"{}")
    await ledger.start(job)
    await ledger.keep_result(job, result)
    await ledger.settle(job, charged=0, receipt=None, answer=b"{}", now=now)


async def test_results_of_tasks_are_kept_for_a_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TK10: a task's result is stored sealed for a week."""
    monkeypatch.setattr(ledger_module, "MOST_DONE_BYTES", 16 * PIECE_BYTES)
    file, path = tmp_path / "result.zip", tmp_path / "journal"
    file.write_bytes(random.Random(1).randbytes(2 * PIECE_BYTES + 5))

    async def kept(ledger: Ledger) -> list[str]:
        jobs = [str(number) for number in range(9)]
        return [job for job in jobs if await ledger.job(job) is not None]

    async with opened(path) as ledger:
        await ended_task(ledger, "0", file, now=NOW)
        written = b"".join(one.read_bytes() for one in tmp_path.glob("journal*"))
        assert len(written) > PIECE_BYTES and file.read_bytes()[:64] not in written
    async with opened(path) as ledger:
        stored = await ledger.job("0")
        assert stored is not None and stored.result_bytes == 2 * PIECE_BYTES + 5
        pieces = [piece async for piece in ledger.answer("0", stored, is_result=True)]
        assert b"".join(pieces) == file.read_bytes()
        assert [piece async for piece in ledger.answer("0", stored)] == [b"{}"]
        await ended_task(ledger, "1", file, now=NOW + TASK_KEPT_S - 1)
        assert await kept(ledger) == ["0", "1"]
        await ended_task(ledger, "2", file, now=NOW + TASK_KEPT_S + 1)
        assert await kept(ledger) == ["1", "2"]
        for number in range(3, 9):  # known payers share half of the bytes
            await ended_task(ledger, str(number), file, now=NOW + TASK_KEPT_S + 1)
        assert await kept(ledger) == ["6", "7", "8"]
    connection = sqlite3.connect(path)
    jobs = {job for (job,) in connection.execute("SELECT job FROM contents")}
    connection.close()
    assert jobs == {"6", "7", "8"}


async def test_a_task_that_fails_has_no_result(tmp_path: Path) -> None:
    """TK8: the result of a task that failed is removed."""
    file, path = tmp_path / "result.zip", tmp_path / "journal"
    file.write_bytes(bytes(PIECE_BYTES + 5))
    async with opened(path) as ledger:
        await ledger.accept("job", record(later=True, beneficiary="bob"), request=b"{}")
        await ledger.start("job")
        await ledger.keep_result("job", file)
    async with opened(path) as ledger:
        await ledger.settle("job", charged=0, receipt=None, answer=b"{}", now=NOW, is_failed=True)
        stored = await ledger.job("job")
        assert stored is not None and (stored.state, stored.result_bytes) == ("done", 0)
    connection = sqlite3.connect(path)
    kinds = [kind for (kind,) in connection.execute("SELECT kind FROM contents")]
    sizes = connection.execute("SELECT size_bytes FROM jobs").fetchall()
    connection.close()
    assert kinds == ["answer"]
    assert sizes == [(2,)]


async def test_answers_are_kept_for_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN98: old answers are deleted, and the oldest of a payer with too many."""

    async def kept(*sizes: int, now: float = NOW) -> list[str]:
        names = [f"{number}" for number in range(len(sizes))]
        async with opened(tmp_path / f"{sizes}{now}") as ledger:
            for name, size in zip(names, sizes, strict=True):
                await ledger.accept(name, record(later=True), request=b"")
                await ledger.start(name)
                moment = now if name == names[-1] else NOW
                await ledger.settle(name, charged=0, receipt=b"r", answer=b"x" * size, now=moment)
            return [name for name in names if await ledger.job(name)]

    monkeypatch.setattr(ledger_module, "MOST_DONE", 6)
    monkeypatch.setattr(ledger_module, "MOST_DONE_BYTES", 204)
    assert await kept(1, 1, 1, 1, 1) == ["2", "3", "4"]
    assert await kept(60, 60, 40) == ["1", "2"]
    assert await kept(1, 1, now=NOW + ledger_module.KEPT_S + 1) == ["1"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts SET balance = 1000000 WHERE owner = 'alice'",
        "UPDATE accounts SET reserved = 0 WHERE owner = 'alice'",
        "UPDATE accounts SET charged = 0, balance = 100 WHERE owner = 'alice'",
        "UPDATE accounts SET version = version - 1 WHERE owner = 'alice'",
        "UPDATE accounts SET sealed = x'00' WHERE owner = 'alice'",
        (
            "UPDATE accounts SET sealed = (SELECT sealed FROM accounts WHERE owner = 'bob') WHERE"
            " owner = 'alice'"
        ),
        (
            "REPLACE INTO accounts SELECT 'alice', balance, reserved, charged, version, sealed FROM"
            " accounts WHERE owner = 'bob'"
        ),
        (
            "REPLACE INTO accounts SELECT 'eve', balance, reserved, charged, version, sealed FROM"
            " accounts WHERE owner = 'bob'"
        ),
    ],
)
async def test_accounts_that_were_edited_or_moved(tmp_path: Path, statement: str) -> None:
    """RN92: nothing can be spent from an account whose row was edited or moved."""
    path = tmp_path / "journal"
    async with opened(path) as ledger:
        await ledger.credit("alice", 100, reference="a")
        await ledger.credit("bob", 10_000, reference="b")
        await ledger.accept("job", record(reserved=10), request=None)
    edit(path, statement)
    damaged = "eve" if "'eve'" in statement else "alice"
    async with opened(path) as ledger:
        with pytest.raises(FolderDamaged):
            await ledger.account(damaged)
        with pytest.raises(FolderDamaged):
            await ledger.accept("other", record(damaged, reserved=1), request=None)
        with pytest.raises(FolderDamaged):
            await ledger.credit(damaged, 1, reference="c")
        assert await ledger.account("bob") == Account(10_000)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET state = 'waiting' WHERE id = 'started'",
        "UPDATE jobs SET version = 9 WHERE id = 'started'",
        (
            "UPDATE jobs SET sealed = (SELECT sealed FROM jobs WHERE id = 'waiting') WHERE id ="
            " 'started'"
        ),
        "UPDATE jobs SET sealed = x'' WHERE id = 'started'",
    ],
)
async def test_jobs_that_were_edited_or_moved(tmp_path: Path, statement: str) -> None:
    """RN92: an edited job is neither run nor charged, and other jobs are not affected."""
    path = tmp_path / "journal"
    async with opened(path) as ledger:
        await ledger.accept("started", record(), request=None)
        await ledger.accept("waiting", record(later=True), request=b"request")
    edit(path, statement)
    async with opened(path) as ledger:
        assert [known is None for _, known in await ledger.unfinished()] == [True, False]
        for work in (
            ledger.start("started"),
            ledger.settle("started", charged=0, receipt=b"", answer=None, now=NOW),
        ):
            with pytest.raises(FolderDamaged):
                await work
        assert await ledger.start("waiting") == b"request"


async def test_requests_that_were_moved(tmp_path: Path) -> None:
    """RN92: a request cannot be moved to another job or used as an answer."""
    path = tmp_path / "journal"
    async with opened(path) as ledger:
        for name in ("one", "two", "three"):
            await ledger.accept(name, record(later=True), request=name.encode())
    sealed = "(SELECT sealed FROM contents WHERE job = 'two')"
    edit(path, f"UPDATE contents SET sealed = {sealed} WHERE job = 'one'")
    edit(path, "UPDATE contents SET kind = 'answer' WHERE job = 'two'")
    async with opened(path) as ledger:
        for name in ("one", "two"):
            with pytest.raises(FolderDamaged):
                await ledger.start(name)
        found = await ledger.job("two")
        assert found is not None
        with pytest.raises(FolderDamaged):
            await anext(ledger.answer("two", found))
        assert await ledger.start("three") == b"three"


async def test_another_runner_s_rows(tmp_path: Path) -> None:
    """RN92: a runner with another key can use no row of the file."""
    path = tmp_path / "journal"
    async with opened(path) as ledger:
        await ledger.credit("alice", 100, reference="a")
    async with opened(path, bytes(range(32))) as ledger:
        with pytest.raises(FolderDamaged):
            await ledger.account("alice")


async def test_a_file_of_the_former_version(tmp_path: Path) -> None:
    """A journal without accounts gets them, and keeps all its rows."""
    path = tmp_path / "journal"
    async with Journal(path) as journal:
        payer = Payer(Principal("alice"))
        await journal.write(lambda held: keep_receipt(held, "job", b"receipt", payer, None))
    later = ("kept", "held", "restores", "builds")
    tables = ("accounts", "credits", "api_keys", "contents", "jobs", *later)
    changes = ("ALTER TABLE receipts DROP COLUMN call", "PRAGMA user_version = 1")
    edit(path, *(f"DROP TABLE {table}" for table in tables), *changes)
    async with opened(path) as ledger:
        assert (await ledger.credit("alice", 1, reference="a")).balance == 1
    async with Journal(path) as journal:
        assert await journal.receipt("job") == b"receipt"


async def test_the_calls_of_a_key_are_bounded(tmp_path: Path) -> None:
    """RN233: the list of a key's calls has at most the payer's last 200 calls."""
    async with opened(tmp_path / "journal") as ledger:

        async def called(job: str, key: int) -> None:
            made = record(key=key)
            call = ledger.sealed_call(made, {"job_id": job, "stderr": f"{'x' * 9000}{job}"})
            await ledger.journal.write(
                lambda held: keep_receipt(held, job, b"receipt", made.payer, call)
            )

        await called("first", 8)
        for number in range(199):
            await called(f"job{number}", 7)
        calls = await ledger.calls_of("alice", 7)
        assert [one["job_id"] for one in calls] == [f"job{198 - one}" for one in range(199)]
        assert len(calls[0]["stderr"]) == 1000 and calls[0]["stderr"].endswith("job198")
        assert [one["job_id"] for one in await ledger.calls_of("alice", 8)] == ["first"]
        await called("last", 7)
        assert await ledger.calls_of("alice", 8) == [] == await ledger.calls_of("bob", 7)


@pytest.mark.parametrize("seed", range(5))
async def test_balances_add_up_over_crashes(tmp_path: Path, seed: int) -> None:
    """RN93, RN99: in every image of a crash, credits equal balance, reservations and charges."""
    chance = random.Random(seed)
    path, number, credited = tmp_path / "journal-0", 0, {"alice": 0, "bob": 0}
    jobs: dict[str, tuple[str, str, int]] = {}  # id -> state, owner, reserved
    spent = {"alice": 0, "bob": 0}
    for life in range(6):
        async with opened(path) as ledger:
            known = {job: one for job, one in await ledger.unfinished() if one is not None}
            assert {
                job: (one.state, one.caller, one.reserved) for job, one in known.items()
            } == jobs
            for _ in range(25):
                number += 1
                owner, amount = chance.choice(["alice", "bob"]), chance.randrange(60)
                state = chance.choice(
                    ["credit", "new", "new", "later", "start", "settle", "settle"]
                )
                ready = [
                    job
                    for job, (at, *_) in jobs.items()
                    if at == {"start": "waiting"}.get(state, "started")
                ]
                if state == "credit":
                    credited[owner] += amount
                    await ledger.credit(owner, amount, reference=f"{number}")
                elif state in ("new", "later"):
                    wanted, later = record(owner, amount, later=state == "later"), state == "later"
                    try:
                        await ledger.accept(f"{number}", wanted, request=b"x" if later else None)
                        jobs[f"{number}"] = (wanted.state, owner, amount)
                    except RunRefused:
                        free = (
                            credited[owner]
                            - spent[owner]
                            - sum(one[2] for one in jobs.values() if one[1] == owner)
                        )
                        assert amount > free
                elif state == "start" and ready:
                    job = chance.choice(ready)
                    await ledger.start(job)
                    jobs[job] = ("started", *jobs[job][1:])
                elif state == "settle" and ready:
                    job = chance.choice(ready)
                    _, owner, reserved = jobs.pop(job)
                    charged = chance.randint(0, reserved)
                    spent[owner] += charged
                    await ledger.settle(
                        job,
                        charged=charged,
                        receipt=b"r",
                        answer=chance.choice([None, b"a"]),
                        now=NOW,
                    )
                for one, total in credited.items():
                    account = await ledger.account(one) or Account()
                    held = sum(job[2] for job in jobs.values() if job[1] == one)
                    assert account == Account(total - held - spent[one], held, spent[one])
            image = tmp_path / f"journal-{life + 1}"
            # what a kill would leave: nothing is closed, nothing is checkpointed
            for part in ("", "-wal"):
                shutil.copy(f"{path}{part}", f"{image}{part}")
        path = image
