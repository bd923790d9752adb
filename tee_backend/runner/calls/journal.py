"""What a runner has to remember over a restart: tokens that were used, versions it has seen,
receipts (RN65, RN54).

One SQLite file, mode 0600, in WAL mode with full synchronisation: what a call returned is on disk.
Keys, accounts and jobs are in it too, in sealed rows: see `RowSealer`. No other row holds a secret,
an input or an output. Whoever edits the file, or puts back an older one, can have a token used a
second time in the minutes that it lives, or an older version of a program run as the active one:
see the threat model.

Example:
    async with Journal(Path("/data/runner.sqlite")) as journal:
        assert await journal.claim(token, expires_at=now + 60, now=now)
"""

import asyncio
import hashlib
import hmac
import json
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self, TypeAlias, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from capabilities.clock_and_entropy import SystemEntropy

from ...backend_errors import FolderDamaged, FolderUnusable
from ..shares import Payer, keep

_APPLICATION: Final = 0x5EA15BAC  # in the file's head; another program's database is not written to
_MOST_RECEIPTS: Final = 100_000
_MOST_PROJECTS: Final = 100_000
# One text for each version of the file; a file of an earlier one gets what came since.
_SCHEMAS: Final = (
    """
CREATE TABLE used (token BLOB PRIMARY KEY, expires_at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX used_until ON used (expires_at);
CREATE TABLE versions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL UNIQUE, sequence INTEGER NOT NULL, sha256 TEXT NOT NULL
);
CREATE TABLE receipts (number INTEGER PRIMARY KEY, job TEXT NOT NULL UNIQUE, receipt BLOB NOT NULL);
""",
    """
CREATE TABLE accounts (
    owner TEXT PRIMARY KEY,
    balance INTEGER NOT NULL CHECK (balance >= 0), reserved INTEGER NOT NULL CHECK (reserved >= 0),
    charged INTEGER NOT NULL CHECK (charged >= 0),
    version INTEGER NOT NULL, sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE credits (
    reference TEXT PRIMARY KEY, owner TEXT NOT NULL, amount INTEGER NOT NULL CHECK (amount >= 0)
) WITHOUT ROWID;
CREATE TABLE api_keys (
    owner TEXT NOT NULL, nonce INTEGER NOT NULL, expires_at REAL NOT NULL,
    version INTEGER NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (owner, nonce)
) WITHOUT ROWID;
CREATE INDEX api_keys_until ON api_keys (expires_at);
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'started', 'done')), done_at REAL, size_bytes INTEGER NOT NULL,
    version INTEGER NOT NULL, sealed BLOB NOT NULL
);
CREATE INDEX jobs_of_state ON jobs (state, number, done_at, size_bytes);
CREATE TABLE contents (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, kind TEXT NOT NULL, sealed BLOB NOT NULL,
    PRIMARY KEY (job, kind)
);
""",
    # What is kept for each payer (`shares.keep`). `held` has the sums, of a payer and, under '', of
    # its whole share.
    """
CREATE TABLE kept (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, is_known INTEGER NOT NULL, payer TEXT NOT NULL,
    job TEXT NOT NULL, cost INTEGER NOT NULL, UNIQUE (kind, job)
);
CREATE INDEX kept_of ON kept (kind, is_known, payer, number);
CREATE TABLE held (
    kind TEXT NOT NULL, is_known INTEGER NOT NULL, payer TEXT NOT NULL, cost INTEGER NOT NULL,
    UNIQUE (kind, is_known, payer)
);
CREATE INDEX held_most ON held (kind, is_known, cost DESC);
CREATE TRIGGER kept_more AFTER INSERT ON kept BEGIN
    INSERT INTO held VALUES (NEW.kind, NEW.is_known, NEW.payer, NEW.cost), (NEW.kind, NEW.is_known, '', NEW.cost)
        ON CONFLICT DO UPDATE SET cost = cost + excluded.cost;
END;
CREATE TRIGGER kept_less AFTER DELETE ON kept BEGIN
    UPDATE held SET cost = cost - OLD.cost
        WHERE kind = OLD.kind AND is_known = OLD.is_known AND payer IN (OLD.payer, '');
    DELETE FROM held WHERE kind = OLD.kind AND is_known = OLD.is_known AND payer = OLD.payer AND cost = 0;
    DELETE FROM receipts WHERE OLD.kind = 'receipt' AND job = OLD.job;
    DELETE FROM jobs WHERE OLD.kind = 'answer' AND id = OLD.job;
END;
INSERT INTO kept (kind, is_known, payer, job, cost) SELECT 'receipt', 1, 'former', job, 1 FROM receipts ORDER BY number;
INSERT INTO kept (kind, is_known, payer, job, cost)
    SELECT 'answer', 1, 'former', id, max(size_bytes, 107374) FROM jobs WHERE state = 'done' ORDER BY number;
""",
)
_Result = TypeVar("_Result")

Row: TypeAlias = tuple[str, str, int]
"""Table, id and version of a row."""

_KEY_LABEL: Final = b"sealspace/runner-rows/1"
_NONCE_BYTES: Final = 12


class Journal:
    """A runner's memory; one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # All statements run in this one thread, so that one transaction is under way at a time.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._connection = self._opened()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._in_thread(self._connection.close)
        self._thread.shutdown()

    async def claim(self, token: bytes, *, expires_at: float, now: float) -> bool:
        """Use a token up; return whether it was unused (RN65).

        Args:
            token: name of what was signed.
            expires_at: when it ends by itself, epoch seconds; then it is forgotten.
            now: epoch seconds.
        """

        def claimed(connection: sqlite3.Connection) -> bool:
            connection.execute("DELETE FROM used WHERE expires_at < ?", (now,))
            return (
                connection.execute(
                    "INSERT OR IGNORE INTO used VALUES (?, ?)", (token, expires_at)
                ).rowcount
                == 1
            )

        return await self.write(claimed)

    async def follow(self, project: str, sequence: int, sha256: str) -> bool:
        """Note the active version of a project; return False where a later one, or another of its
        number, was seen."""

        def followed(connection: sqlite3.Connection) -> bool:
            statement = "SELECT sequence, sha256 FROM versions WHERE project = ?"
            last, known = connection.execute(statement, (project,)).fetchone() or (-1, "")
            if sequence > last:
                statement = "REPLACE INTO versions (project, sequence, sha256) VALUES (?, ?, ?)"
                number = connection.execute(statement, (project, sequence, sha256)).lastrowid
                # Whoever publishes many projects closes the runner to nobody: the oldest rows give
                # way.
                connection.execute(
                    "DELETE FROM versions WHERE number <= ?", ((number or 0) - _MOST_PROJECTS,)
                )
                return True
            return (sequence, sha256) == (last, known)  # RN54

        return await self.write(followed)

    async def keep(self, job: str, receipt: bytes, payer: Payer) -> None:
        """Keep a receipt; others of its payer's share are displaced."""
        await self.write(lambda connection: keep_receipt(connection, job, receipt, payer))

    async def receipt(self, job: str) -> bytes | None:
        """Return the receipt of a job; None where there is none."""
        statement = "SELECT receipt FROM receipts WHERE job = ?"
        row = await self.write(lambda connection: connection.execute(statement, (job,)).fetchone())
        return None if row is None else bytes(row[0])

    async def write(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Run statements as one transaction, alone in the journal's thread; an exception undoes all
        of them."""

        def written() -> _Result:
            with self._connection as connection:
                return work(connection)

        return await self._in_thread(written)

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise FolderUnusable(f"the runner's journal cannot be used: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        try:
            os.close(
                os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            )
            connection = sqlite3.connect(self._path, timeout=0, check_same_thread=False)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise FolderUnusable(f"the runner's journal cannot be used: {error}") from error
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables of a new file; refuse one that somebody else wrote, and one that another
        process has."""
        kind, version, tables = (
            connection.execute(question).fetchone()[0]
            for question in (
                "PRAGMA application_id",
                "PRAGMA user_version",
                "SELECT count(*) FROM sqlite_master",
            )
        )
        is_new = (kind, version, tables) == (0, 0, 0)
        if not is_new and not (kind == _APPLICATION and 1 <= version <= len(_SCHEMAS)):
            raise FolderUnusable(
                f"{self._path} was written by another program, or another version of this one"
            )
        # One process: of two, each would let a token through that the other one saw.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        marks = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {len(_SCHEMAS)};"
        connection.executescript(f"BEGIN IMMEDIATE; {''.join(_SCHEMAS[version:])} {marks} COMMIT;")


def keep_receipt(connection: sqlite3.Connection, job: str, receipt: bytes, payer: Payer) -> None:
    """Keep a receipt, as a part of a transaction; others of its payer's share are displaced."""
    connection.execute("INSERT INTO receipts (job, receipt) VALUES (?, ?)", (job, receipt))
    keep(connection, "receipt", job, payer, cost=1, most=_MOST_RECEIPTS)


class RowSealer:
    """Seals rows that grant authority or have content, and opens them: the host cannot edit or move
    them.

    A row is sealed by AES-256-GCM with its table, its id and its version as associated data: one
    that was changed, or put in the place of another, does not open. A whole row that was there
    before does open in its own place (RN92). The key follows from the seed of the runner's own key.

    Example:
        sealer = RowSealer(seed)
        sealed = sealer.seal(("accounts", did, 7), b"...")
    """

    def __init__(self, seed: bytes) -> None:
        self._aead = AESGCM(hmac.digest(seed, _KEY_LABEL, hashlib.sha256))

    def seal(self, row: Row, content: bytes) -> bytes:
        """Return the content of a row, sealed."""
        nonce = SystemEntropy().token(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, content, _named(row))

    def open(self, row: Row, sealed: bytes) -> bytes:
        """Return the content of a row, as it was sealed in this place."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _named(row))
        except (InvalidTag, ValueError) as exc:
            raise FolderDamaged(
                f"a row of {row[0]} in the runner's journal was changed or moved"
            ) from exc


def _named(row: Row) -> bytes:
    return json.dumps(row).encode()  # unambiguous, whatever is in an id
