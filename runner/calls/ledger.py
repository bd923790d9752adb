"""Payment accounts and job records in the runner's database (RN92, RN93, RN98, RN99).

Amounts are integer micro-units. A job reserves an amount before it starts, and is charged when it
ends. Each step is one transaction with the job's row. So no crash, retry or race makes a balance
negative, charges twice or loses a refund. At any time, an account's credits are the sum of its
balance, its reserved amount and its charges.

Rows are encrypted (`RowSealer`). Their plain columns serve SQL and are compared with the content.

Example:
    ledger = Ledger(journal, RowSealer(seed))
    await ledger.credit(owner, 5_000_000, reference="invoice 7")
    await ledger.accept(job, record, request=None)
    await ledger.settle(job, charged=1003, receipt=receipt, answer=None, now=now)
"""

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from capabilities.frozen import frozen
from capabilities.frozen_struct import FrozenStruct
from capabilities.principals import Principal
from sealspace.apps.api_keys import MAX_AMOUNT
from serving.shares import Payer
from tee_backend.backend_errors import FolderDamaged

from ..reasons import RunRefused
from ..shares import count_stored
from .journal import Journal, RowSealer, keep_receipt

KEPT_S = 24 * 3600.0
"""How long the answer of an asynchronous call is stored."""
TASK_KEPT_S = 7 * KEPT_S
"""How long the answer and the result of a task are stored (TK10)."""
PIECE_BYTES = 256 * 1024
"""Size of the pieces of a stored answer, so that a slow client occupies little memory."""
_STDERR_CHARS = 1000
"""Last characters of standard error that the list of a key's calls shows (RN233)."""
MOST_DONE = 10_000
MOST_DONE_BYTES = 1 << 30
"""Total size of stored answers; a short one counts as 1/`MOST_DONE` of it."""

State = Literal["waiting", "started", "done"]


class Account(NamedTuple):
    """A payment account, with amounts in micro-units."""

    balance: int = 0
    reserved: int = 0
    charged: int = 0

    @property
    def as_json(self) -> dict[str, str]:
        """The account's amounts as decimal strings."""
        return {name: str(amount) for name, amount in self._asdict().items()}


class JobRecord(FrozenStruct, kw_only=True):
    """The stored record of a job, without the job's input.

    The record suffices to write the receipt of an interrupted job. Only a task has a beneficiary.
    """

    state: State
    caller: str
    key: int | None
    reserved: int
    is_async: bool
    project: str | None
    program: str | None
    has_secrets: bool
    salt: bytes
    input_hash: bytes
    limits: tuple[int, ...]
    nonce: str | None
    pieces: int = 1
    is_known: bool = True
    beneficiary: str | None = None
    result_bytes: int = 0

    @property
    def payer(self) -> Payer:
        """The payer of the job."""
        return Payer(Principal(self.caller), self.is_known)


class LedgerTotals(NamedTuple):
    """The sums of a ledger.

    Attributes:
        waiting: asynchronous calls that have not started.
        started: recorded calls that have started, and have not ended.
        accounts: number of accounts.
        amounts: the sums of all accounts.
        answer_bytes: stored answers, of `MOST_DONE_BYTES`.
        receipts: number of stored receipts.
    """

    waiting: int
    started: int
    accounts: int
    amounts: Account
    answer_bytes: int
    receipts: int


UnfinishedJobs = list[tuple[str, JobRecord | None]]
"""Ids and records of unfinished jobs; the record is None if the job's row was edited."""
_MOST_KNOWN_OWNERS = 10_000
"""Most owners of whom it is remembered that they have an account."""
_RECORDS = msgspec.json.Decoder(JobRecord)
_LAST_CALLS = """
SELECT job, call FROM (
    SELECT job, number AS place FROM kept WHERE kind = 'receipt' AND is_known = 1 AND payer = ?
    ORDER BY number DESC LIMIT 200
) JOIN receipts USING (job) WHERE call IS NOT NULL ORDER BY place DESC
"""
# `total`: unlike `sum`, it does not fail if the sums exceed 64 bits.
_SUMS = "SELECT count(*), total(balance), total(reserved), total(charged) FROM accounts"
_FORGET_OLD = (
    "DELETE FROM kept WHERE kind = 'answer' AND job IN (SELECT id FROM jobs WHERE state = 'done'"
    " AND done_at < ?)"
)
_FORGET_RESULT = "DELETE FROM contents WHERE job = ? AND kind LIKE 'result.%'"


@frozen
class Ledger:
    """The payment accounts and jobs in the runner's database."""

    journal: Journal
    sealer: RowSealer
    # Owners whose account was read. Accounts are never deleted.
    _with_account: set[str] = field(default_factory=set, init=False, repr=False)

    # --- accounts ---------------------------------------------------------------------------------

    async def account(self, owner: str) -> Account | None:
        """Return the payment account of an owner, or None."""
        account, version = await self.journal.write(
            lambda connection: self._account(connection, owner)
        )
        return account if version else None

    async def has_account(self, owner: str) -> bool:
        """Return whether an owner has a payment account, which is looked up once for each owner."""
        if owner in self._with_account:
            return True
        if await self.account(owner) is None:
            return False
        if len(self._with_account) >= _MOST_KNOWN_OWNERS:
            self._with_account.clear()
        self._with_account.add(owner)
        return True

    async def credit(self, owner: str, amount: int, *, reference: str) -> Account:
        """Add an amount to an owner's payment account.

        The account is created if needed. Repeating a credit with its reference changes nothing.

        Raises:
            ValueError: the reference was used for another credit, or the balance gets too high.
        """

        def add_credit(connection: sqlite3.Connection) -> Account:
            known = connection.execute(
                "SELECT owner, amount FROM credits WHERE reference = ?", (reference,)
            ).fetchone()
            if known is None:
                connection.execute(
                    "INSERT INTO credits VALUES (?, ?, ?)", (reference, owner, amount)
                )
                return self._move(connection, owner, Account(amount))
            if known != (owner, amount):
                raise ValueError(
                    "the credit's reference was already used for another account or amount"
                )
            return self._account(connection, owner)[0]

        return await self.journal.write(add_credit)

    # --- jobs -------------------------------------------------------------------------------------

    async def accept(self, job: str, record: JobRecord, *, request: bytes | None) -> None:
        """Record a new job, and reserve its budget in the payer's account.

        Raises:
            RunRefused: `balance-too-low`.
        """

        def insert_job(connection: sqlite3.Connection) -> None:
            if record.reserved:
                change = Account(balance=-record.reserved, reserved=record.reserved)
                self._move(connection, record.caller, change)
            connection.execute(
                "INSERT INTO jobs (id, state, size_bytes, version, sealed) VALUES (?, ?, 0, 1, ?)",
                (
                    job,
                    record.state,
                    self.sealer.seal(("jobs", job, 1), msgspec.json.encode(record)),
                ),
            )
            if request is not None:
                self._put_content(connection, job, "request", request)

        await self.journal.write(insert_job)

    async def start(self, job: str) -> bytes:
        """Mark a job as started, and return its request body.

        The stored request is deleted.
        """

        def mark_started(connection: sqlite3.Connection) -> bytes:
            request = self._content(connection, job, "request")
            self._replace(connection, job, "waiting", state="started")
            connection.execute("DELETE FROM contents WHERE job = ? AND kind = 'request'", (job,))
            if request is None:
                raise FolderDamaged(
                    "the request of a waiting job is missing from the runner's journal"
                )
            return request

        return await self.journal.write(mark_started)

    async def postpone(self, job: str, request: bytes) -> None:
        """Return a job whose program did not start to the waiting jobs."""

        def postponed(connection: sqlite3.Connection) -> None:
            self._replace(connection, job, "started", state="waiting")
            self._put_content(connection, job, "request", request)

        await self.journal.write(postponed)

    async def settle(
        self,
        job: str,
        *,
        charged: int,
        receipt: bytes | None,
        answer: bytes | None,
        now: float,
        call: bytes | None = None,
        is_failed: bool = False,
    ) -> None:
        """Charge the payer for a job, and store the result.

        The result is the receipt and the response. The rest of the reserved amount is released.

        Args:
            job: id of the job.
            charged: amount, at most what the job reserved.
            receipt: the receipt to store, or None.
            answer: the answer of an asynchronous call; None deletes the job.
            now: the current time in epoch seconds.
            call: the entry for `calls_of` (`sealed_call`), stored with the receipt.
            is_failed: whether a task failed; what was stored of its result is removed.
        """

        def settle_job(connection: sqlite3.Connection) -> None:
            if is_failed:  # a task that failed has no result (TK8)
                connection.execute(_FORGET_RESULT, (job,))
                self._replace(connection, job, "started", result_bytes=0)
            starts = range(0, len(answer or b""), PIECE_BYTES)
            record = self._replace(
                connection, job, "started", state="done", reserved=0, pieces=len(starts)
            )
            if not 0 <= charged <= record.reserved:
                raise ValueError("the charge exceeds the reserved amount")
            released = record.reserved - charged
            if record.reserved:
                change = Account(balance=released, reserved=-record.reserved, charged=charged)
                self._move(connection, record.caller, change)
            if receipt is not None:
                keep_receipt(connection, job, receipt, record.payer, call)
            if answer is None:
                connection.execute("DELETE FROM jobs WHERE id = ?", (job,))
                return
            size = len(answer) + record.result_bytes
            for number, start in enumerate(starts):
                self._put_content(
                    connection, job, _piece_kind(number), answer[start : start + PIECE_BYTES]
                )
            # Answers are deleted `KEPT_S` after this time, so that of a task gets a later one.
            done_at = now
            if record.beneficiary is not None:
                done_at += TASK_KEPT_S - KEPT_S
            connection.execute(
                "UPDATE jobs SET done_at = ?, size_bytes = ? WHERE id = ?", (done_at, size, job)
            )
            connection.execute(_FORGET_OLD, (now - KEPT_S,))
            cost = max(size, MOST_DONE_BYTES // MOST_DONE)  # a short answer counts as more (RN168)
            count_stored(connection, "answer", job, record.payer, cost=cost, most=MOST_DONE_BYTES)

        await self.journal.write(settle_job)

    async def keep_result(self, job: str, file: Path) -> None:
        """Store the result file of a task that has not ended (TK10)."""
        size = 0
        with file.open("rb") as source:
            # One transaction for each piece, so that other jobs need not wait for all of them.
            while piece := await asyncio.to_thread(source.read, PIECE_BYTES):
                kind = f"result.{size // PIECE_BYTES}"
                await self.journal.write(
                    partial(self._put_content, job=job, kind=kind, content=piece)
                )
                size += len(piece)
        await self.journal.write(
            lambda connection: self._replace(connection, job, "started", result_bytes=size)
        )

    async def job(self, job: str) -> JobRecord | None:
        """Return the record of a job, or None."""
        return (await self.journal.write(lambda connection: self._job(connection, job)))[0]

    async def answer(
        self, job: str, record: JobRecord, *, is_result: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """Yield the stored response of a finished job, or the result of a task, in chunks.

        Raises:
            FolderDamaged: a piece is not stored any more.
        """
        # The record is encrypted, so the host cannot shorten an answer by a false count (RN158).
        pieces = record.pieces
        if is_result:
            pieces = -(-record.result_bytes // PIECE_BYTES)  # rounded up
        for number in range(pieces):
            kind = f"result.{number}" if is_result else _piece_kind(number)
            piece = await self.journal.write(partial(self._content, job=job, kind=kind))
            if piece is None:
                raise FolderDamaged(
                    "a part of a stored response is missing from the runner's journal"
                )
            yield piece

    def sealed_call(self, record: JobRecord, call: dict[str, Any]) -> bytes | None:
        """Encrypt the entry of an ended call for `calls_of`; None for a call without a key."""
        if record.key is None:
            return None
        entry = call | {
            "key": [record.caller, record.key],
            "stderr": call["stderr"][-_STDERR_CHARS:],
        }
        return self.sealer.seal(("receipts", call["job_id"], 1), msgspec.json.encode(entry))

    async def calls_of(self, owner: str, nonce: int) -> list[dict[str, Any]]:
        """Return the entries of an API key's last calls, newest first (RN233).

        They are searched in the owner's last 200 calls, which may be of several keys.
        """
        rows = await self.journal.write(
            lambda connection: connection.execute(_LAST_CALLS, (owner,)).fetchall()
        )
        calls = list[dict[str, Any]]()
        for job, sealed in rows:
            entry = json.loads(self.sealer.open(("receipts", job, 1), sealed))
            key = entry.pop("key")  # only for this comparison
            if key == [owner, nonce]:
                calls.append(entry)
        return calls

    async def unfinished(self) -> UnfinishedJobs:
        """Return all unfinished jobs, oldest first.

        The record is None if the job's row was edited.
        """

        def read_unfinished(connection: sqlite3.Connection) -> UnfinishedJobs:
            statement = (
                "SELECT id, state, version, sealed FROM jobs WHERE state != 'done' ORDER BY number"
            )
            jobs: UnfinishedJobs = []
            for job, state, version, sealed in connection.execute(statement):
                try:
                    jobs.append((job, self._record(job, state, version, sealed)))
                except FolderDamaged:
                    jobs.append((job, None))
            return jobs

        return await self.journal.write(read_unfinished)

    async def totals(self) -> LedgerTotals:
        """Return the sums of the ledger, for metrics.

        They come from plain columns, which a host can edit; nothing is decided by them.
        """

        def read(connection: sqlite3.Connection) -> LedgerTotals:
            jobs = dict(connection.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
            accounts, balance, reserved, charged = connection.execute(_SUMS).fetchone()
            stored = dict(
                connection.execute(
                    "SELECT kind, sum(cost) FROM held WHERE payer = '' GROUP BY kind"
                )
            )
            return LedgerTotals(
                waiting=jobs.get("waiting", 0),
                started=jobs.get("started", 0),
                accounts=accounts,
                amounts=Account(balance=int(balance), reserved=int(reserved), charged=int(charged)),
                answer_bytes=stored.get("answer", 0),
                receipts=stored.get("receipt", 0),
            )

        return await self.journal.write(read)

    async def is_restored(self) -> bool:
        """Return whether the journal was restored, and its jobs have not ended since (RN293)."""
        statement = "SELECT EXISTS (SELECT 1 FROM restores WHERE NOT is_handled)"
        row = await self.journal.write(lambda connection: connection.execute(statement).fetchone())
        return bool(row[0])

    async def end_restore(self) -> None:
        """Record that the jobs of a restored journal have ended (RN293)."""
        statement = "UPDATE restores SET is_handled = 1"
        await self.journal.write(lambda connection: connection.execute(statement))

    # --- rows -------------------------------------------------------------------------------------

    def _account(self, connection: sqlite3.Connection, owner: str) -> tuple[Account, int]:
        """Return an account and the version of its database row (RN92).

        The version of a new account is 0.

        Raises:
            FolderDamaged: the row was edited or moved, or its columns differ from its content.
        """
        row = connection.execute(
            "SELECT balance, reserved, charged, version, sealed FROM accounts WHERE owner = ?",
            (owner,),
        ).fetchone()
        if row is None:
            return Account(), 0
        balance, reserved, charged, version, sealed = row
        account = Account(balance=balance, reserved=reserved, charged=charged)
        if self.sealer.open(("accounts", owner, version), sealed) != json.dumps(account).encode():
            raise FolderDamaged("the row of an account in the runner's journal was altered")
        return account, version

    def _move(self, connection: sqlite3.Connection, owner: str, change: Account) -> Account:
        """Change an account's balance, reserved amount and charged amount (RN93).

        The amounts in `change` are added, and may be negative.

        Raises:
            RunRefused: `balance-too-low`.
            ValueError: the account would exceed `MAX_AMOUNT`.
        """
        before, version = self._account(connection, owner)
        account = Account(
            balance=before.balance + change.balance,
            reserved=before.reserved + change.reserved,
            charged=before.charged + change.charged,
        )
        if account.balance < 0:
            raise RunRefused("balance-too-low")
        if account.balance + account.reserved > MAX_AMOUNT:
            raise ValueError(f"an account can have at most {MAX_AMOUNT} micro-units")
        sealed = self.sealer.seal(("accounts", owner, version + 1), json.dumps(account).encode())
        # Transactions never overlap, so the amounts are still those that were read.
        connection.execute(
            "REPLACE INTO accounts VALUES (?, ?, ?, ?, ?, ?)",
            (owner, *account, version + 1, sealed),
        )
        return account

    def _job(self, connection: sqlite3.Connection, job: str) -> tuple[JobRecord | None, int]:
        """Return the record of a job and its row version.

        For an unknown job, the result is None and 0.
        """
        row = connection.execute(
            "SELECT state, version, sealed FROM jobs WHERE id = ?", (job,)
        ).fetchone()
        if row is None:
            return None, 0
        state, version, sealed = row
        return self._record(job, state, version, sealed), version

    def _replace(
        self, connection: sqlite3.Connection, job: str, before: State, **changed: State | int
    ) -> JobRecord:
        """Update a job, and return the previous record.

        Raises FolderDamaged if the job is not in the state `before`.
        """
        record, version = self._job(connection, job)
        if record is None or record.state != before:
            raise FolderDamaged(
                f"a job in the runner's journal does not have the expected state {before!r}"
            )
        replaced = msgspec.structs.replace(record, **changed)
        sealed = self.sealer.seal(("jobs", job, version + 1), msgspec.json.encode(replaced))
        statement = "UPDATE jobs SET state = ?, version = version + 1, sealed = ? WHERE id = ?"
        connection.execute(statement, (replaced.state, sealed, job))
        return record

    def _record(self, job: str, state: str, version: int, sealed: bytes) -> JobRecord:
        """Decrypt the record of a job.

        Raises:
            FolderDamaged: the row was edited or moved, or its state differs from its content.
        """
        record = _RECORDS.decode(self.sealer.open(("jobs", job, version), sealed))
        if record.state != state:
            raise FolderDamaged("the row of a job in the runner's journal was altered")
        return record

    def _put_content(
        self, connection: sqlite3.Connection, job: str, kind: str, content: bytes
    ) -> None:
        sealed = self.sealer.seal((f"contents.{kind}", job, 1), content)
        connection.execute("INSERT INTO contents VALUES (?, ?, ?)", (job, kind, sealed))

    def _content(self, connection: sqlite3.Connection, job: str, kind: str) -> bytes | None:
        statement = "SELECT sealed FROM contents WHERE job = ? AND kind = ?"
        row = connection.execute(statement, (job, kind)).fetchone()
        return None if row is None else self.sealer.open((f"contents.{kind}", job, 1), row[0])


def _piece_kind(number: int) -> str:
    # The first piece has the name that whole responses had in an older schema.
    return f"answer.{number}" if number else "answer"
