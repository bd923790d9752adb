"""The runner's SQLite database (RN54, RN65).

It contains used tokens, program versions, receipts, API keys and jobs. The file has mode 0600, and
is in WAL mode with full synchronisation: when a method returns, its changes are on disk. Rows of
keys, accounts and jobs are encrypted by `RowSealer`. No other row contains a secret, an input or an
output.

An attacker who edits the file or restores an older one can reuse a token within its few minutes,
or have an older version of a program run as the active one: see the threat model.

Example:
    async with Journal(Path("/data/runner.sqlite")) as journal:
        assert await journal.use_token(token, expires_at=now + 60, now=now)
"""

import asyncio
import hashlib
import hmac
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from capabilities.clock_and_entropy import SystemEntropy
from sealspace.documents.builds import RunNumber
from serving.shares import Payer
from tee_backend.backend_errors import FolderDamaged, FolderUnusable

from ..shares import count_stored

_APPLICATION = 0x5EA15BAC  # in the file's header, so that other databases are refused
_MOST_RECEIPTS = 100_000
_MOST_PROJECTS = 100_000
_MOST_BUILD_RULES = 10_000
"""Rules for builds that are remembered. A runner holds fewer grants, and each has one such rule."""
# One script for each version of the schema; an older file runs the scripts that it lacks.
_SCHEMAS = (
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
    state TEXT NOT NULL CHECK (state IN ('waiting', 'started', 'done')),
    done_at REAL, size_bytes INTEGER NOT NULL, version INTEGER NOT NULL, sealed BLOB NOT NULL
);
CREATE INDEX jobs_of_state ON jobs (state, number, done_at, size_bytes);
CREATE TABLE contents (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, kind TEXT NOT NULL,
    sealed BLOB NOT NULL, PRIMARY KEY (job, kind)
);
""",
    # Stored answers and receipts of each payer (`shares.count_stored`). `held` has the sum of each
    # payer's and, under '', the sum of the whole share.
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
    INSERT INTO held VALUES
        (NEW.kind, NEW.is_known, NEW.payer, NEW.cost), (NEW.kind, NEW.is_known, '', NEW.cost)
        ON CONFLICT DO UPDATE SET cost = cost + excluded.cost;
END;
CREATE TRIGGER kept_less AFTER DELETE ON kept BEGIN
    UPDATE held SET cost = cost - OLD.cost
        WHERE kind = OLD.kind AND is_known = OLD.is_known AND payer IN (OLD.payer, '');
    DELETE FROM held
        WHERE kind = OLD.kind AND is_known = OLD.is_known AND payer = OLD.payer AND cost = 0;
    DELETE FROM receipts WHERE OLD.kind = 'receipt' AND job = OLD.job;
    DELETE FROM jobs WHERE OLD.kind = 'answer' AND id = OLD.job;
END;
INSERT INTO kept (kind, is_known, payer, job, cost)
    SELECT 'receipt', 1, 'former', job, 1 FROM receipts ORDER BY number;
INSERT INTO kept (kind, is_known, payer, job, cost)
    SELECT 'answer', 1, 'former', id, max(size_bytes, 107374) FROM jobs
        WHERE state = 'done' ORDER BY number;
""",
    # What the holder of an API key is told of a call, beside the receipt (`Ledger.calls_of`).
    "ALTER TABLE receipts ADD COLUMN call BLOB;",
    # Restored backups (RN293). A restore is handled once the jobs of the backup have ended.
    """
CREATE TABLE restores (
    number INTEGER PRIMARY KEY, restored_at REAL NOT NULL, backup_at REAL NOT NULL,
    is_handled INTEGER NOT NULL DEFAULT 0
);
""",
    # The latest build that was admitted under each rule for builds (PV21). `ends_at` is the end of
    # the last grant that admitted one.
    """
CREATE TABLE builds (
    rule BLOB PRIMARY KEY, run INTEGER NOT NULL, attempt INTEGER NOT NULL, sha256 TEXT NOT NULL,
    ends_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX builds_until ON builds (ends_at);
""",
    # The owner of each rule, as a digest; empty in rows of earlier versions.
    """
ALTER TABLE builds ADD COLUMN owner BLOB NOT NULL DEFAULT x'';
CREATE INDEX builds_of ON builds (owner);
""",
)
VERSION = len(_SCHEMAS)
"""Version of the schema of the journals that this runner writes."""
_CHECKPOINT_PAGES = 1000
"""Pages in the write-ahead log after which SQLite copies them into the file; SQLite's default."""
_Result = TypeVar("_Result")


class BuildRuleKey(NamedTuple):
    """The name of a rule for builds in the journal.

    Attributes:
        owner: digest of the owner's DID.
        digest: digest of the owner, the project and the rule.
    """

    owner: bytes
    digest: bytes


class BuildRecord(Enum):
    """What became of a build that was to be recorded (PV21).

    SUPERSEDED: a later run was recorded before, or this run with another program. NO_ROOM: too many
    rules of live grants are recorded for the owner, or in all.
    """

    ADMITTED = "admitted"
    SUPERSEDED = "superseded"
    NO_ROOM = "no room"


Row = tuple[str, str, int]
"""Table, id and version of a row, which its encryption authenticates."""

_KEY_LABEL = b"sealspace/runner-rows/1"
_NONCE_BYTES = 12


class Journal:
    """The runner's SQLite database.

    Only one process can open the file at a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # All statements run in this one thread, so transactions never overlap.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            self._connection = sqlite3.connect(path, timeout=0, check_same_thread=False)
            try:
                self._prepare(self._connection)
            except BaseException:
                self._connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise FolderUnusable(f"cannot use the runner's journal {path}: {error}") from error

    @classmethod
    def update(cls, path: Path) -> None:
        """Bring the database file of an earlier version to the form of this one, and close it.

        Raises:
            FolderUnusable: it is not a journal, a newer version wrote it, or it is in use.
        """
        journal = cls(path)
        journal._connection.close()
        journal._thread.shutdown()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._in_thread(self._connection.close)
        self._thread.shutdown()

    async def use_token(self, token: bytes, *, expires_at: float, now: float) -> bool:
        """Record a token as used, and return whether it was new (RN65).

        Args:
            token: identifier of the token, equal for all its spellings.
            expires_at: its expiry in epoch seconds, after which the record is deleted.
            now: the current time in epoch seconds.
        """

        def insert_token(connection: sqlite3.Connection) -> bool:
            connection.execute("DELETE FROM used WHERE expires_at < ?", (now,))
            inserted = connection.execute(
                "INSERT OR IGNORE INTO used VALUES (?, ?)", (token, expires_at)
            ).rowcount
            return inserted == 1

        return await self.write(insert_token)

    async def record_version(self, project: str, sequence: int, sha256: str) -> bool:
        """Record the active version of a project (RN54).

        Returns False if the sequence number is lower than the recorded one, or belongs to another
        version.
        """

        def replace_version(connection: sqlite3.Connection) -> bool:
            statement = "SELECT sequence, sha256 FROM versions WHERE project = ?"
            row = connection.execute(statement, (project,)).fetchone()
            last_sequence, last_sha256 = row or (-1, "")
            if sequence > last_sequence:
                statement = "REPLACE INTO versions (project, sequence, sha256) VALUES (?, ?, ?)"
                number = connection.execute(statement, (project, sequence, sha256)).lastrowid
                # The new row has the highest number, and those far below it are deleted. Otherwise
                # a developer with very many projects could fill the table and so lock out others.
                connection.execute(
                    "DELETE FROM versions WHERE number <= ?", ((number or 0) - _MOST_PROJECTS,)
                )
                return True
            return (sequence, sha256) == (last_sequence, last_sha256)

        return await self.write(replace_version)

    async def record_build(
        self, rule: BuildRuleKey, number: RunNumber, sha256: str, *, ends_at: float, now: float
    ) -> BuildRecord:
        """Record the build that is admitted under a rule for builds (PV21).

        Args:
            rule: of the owner's grant.
            number: the workflow run that made the build.
            sha256: hash of the program.
            ends_at: end of the grant, in epoch seconds.
            now: the current time in epoch seconds.
        """

        def replace_build(connection: sqlite3.Connection) -> BuildRecord:
            row = connection.execute(
                "SELECT run, attempt, sha256, ends_at FROM builds WHERE rule = ?", (rule.digest,)
            ).fetchone()
            if row is None:
                if not _has_room(connection, rule.owner, now):
                    return BuildRecord.NO_ROOM
            else:
                last_run, last_attempt, last_sha256, last_ends_at = row
                last = RunNumber(run=last_run, attempt=last_attempt)
                if number < last or (number == last and sha256 != last_sha256):
                    return BuildRecord.SUPERSEDED
                if number == last and ends_at <= last_ends_at:
                    return BuildRecord.ADMITTED
            connection.execute(
                "REPLACE INTO builds (rule, owner, run, attempt, sha256, ends_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (rule.digest, rule.owner, *number, sha256, ends_at),
            )
            return BuildRecord.ADMITTED

        return await self.write(replace_build)

    async def receipt(self, job: str) -> bytes | None:
        """Return the stored receipt of a job, or None."""
        statement = "SELECT receipt FROM receipts WHERE job = ?"
        row = await self.write(lambda connection: connection.execute(statement, (job,)).fetchone())
        return None if row is None else bytes(row[0])

    async def write(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Run a function in one database transaction.

        An exception rolls the transaction back. All transactions run in one thread.
        """

        def written() -> _Result:
            with self._connection as connection:
                return work(connection)

        return await self._in_thread(written)

    @asynccontextmanager
    async def unchanged_file(self) -> AsyncIterator[Path]:
        """Keep the database file as it is until the `with` block ends, for a copy (RN290).

        At the beginning the file contains every acknowledged change. Later ones are written to the
        write-ahead log alone, which grows in the meantime.
        """

        def begin() -> None:
            self._connection.execute("PRAGMA wal_autocheckpoint = 0")
            self._checkpoint()

        def end() -> None:
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            self._checkpoint()

        try:
            await self._in_thread(begin)
            yield self._path
        finally:
            await self._in_thread(end)

    def _checkpoint(self) -> None:
        """Copy the write-ahead log into the database file, and empty it."""
        checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)"
        (is_busy, _, _) = self._connection.execute(checkpoint).fetchone()
        if is_busy:
            raise sqlite3.OperationalError("the write-ahead log is in use")

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise FolderUnusable(
                f"cannot use the runner's journal {self._path}: {error}"
            ) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Create or migrate the database tables.

        Fails if another program wrote the file, or another process uses it.
        """
        (kind,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        is_new = (kind, version, tables) == (0, 0, 0)
        if not is_new:
            require_readable(self._path, kind, version)
        # Exclusive, so that a second runner cannot start with the same file.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        pragmas = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {VERSION};"
        # A file of an older version has run the first scripts already.
        connection.executescript(
            f"BEGIN IMMEDIATE; {''.join(_SCHEMAS[version:])} {pragmas} COMMIT;"
        )


def require_readable(path: Path, kind: int, version: int) -> None:
    """Check that a file is a journal of this or an earlier version (RN294).

    Args:
        path: the file, for messages.
        kind: its `application_id`.
        version: its `user_version`.
    Raises:
        FolderUnusable: it is another database, or a newer version wrote it.
    """
    if kind != _APPLICATION or version < 1:
        raise FolderUnusable(f"{path} was written by another program")
    if version > VERSION:
        raise FolderUnusable(
            f"a newer version of sealspace wrote the journal {path}: its format is {version}, and"
            f" this version reads at most {VERSION}",
            hint="install that version again; to go back, restore a backup that was made before the"
            " upgrade: sealspace runner restore DIR --data FOLDER",
        )


def _has_room(connection: sqlite3.Connection, owner: bytes, now: float) -> bool:
    """Return whether another rule for builds of an owner can be recorded (PV21).

    An owner leaves as much room as it uses, so that one owner cannot fill the table; fourteen can.
    If there are too many rules, those whose grants have ended are deleted. Those of live grants are
    not: otherwise an older build would be admitted again.
    """
    if _leaves_room(connection, owner):
        return True
    connection.execute("DELETE FROM builds WHERE ends_at < ?", (now,))
    return _leaves_room(connection, owner)


def _leaves_room(connection: sqlite3.Connection, owner: bytes) -> bool:
    """Return whether an owner with one rule more has no more than are free then."""
    (used,) = connection.execute("SELECT count(*) FROM builds").fetchone()
    statement = "SELECT count(*) FROM builds WHERE owner = ?"
    (own,) = connection.execute(statement, (owner,)).fetchone()
    return bool(own < _MOST_BUILD_RULES - used)


def keep_receipt(
    connection: sqlite3.Connection, job: str, receipt: bytes, payer: Payer, call: bytes | None
) -> None:
    """Store a receipt within a transaction.

    If the receipts exceed their quota, old receipts are deleted. `call` is the encrypted entry of
    the call in the list of its API key; None without a key.
    """
    connection.execute(
        "INSERT INTO receipts (job, receipt, call) VALUES (?, ?, ?)", (job, receipt, call)
    )
    count_stored(connection, "receipt", job, payer, cost=1, most=_MOST_RECEIPTS)


class RowSealer:
    """A cipher that protects database rows from tampering.

    Rows are encrypted by AES-256-GCM with table, id and version as associated data. A row that was
    changed, or moved to another row, cannot be decrypted. The host can still restore an older state
    of a row together with its version (RN92). The key is derived from the seed of the runner's own
    key.

    Example:
        sealer = RowSealer(seed)
        sealed = sealer.seal(("accounts", did, 7), b"...")
    """

    def __init__(self, seed: bytes) -> None:
        self._aead = AESGCM(hmac.digest(seed, _KEY_LABEL, hashlib.sha256))

    def seal(self, row: Row, content: bytes) -> bytes:
        """Encrypt the content of a database row."""
        nonce = SystemEntropy().token(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, content, _associated_data(row))

    def open(self, row: Row, sealed: bytes) -> bytes:
        """Decrypt the content of a database row.

        Raises:
            FolderDamaged: it was not encrypted for this table, id and version.
        """
        try:
            return self._aead.decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _associated_data(row)
            )
        except (InvalidTag, ValueError) as exc:
            raise FolderDamaged(
                f"a row of the table {row[0]} in the runner's journal was changed or moved"
            ) from exc


def _associated_data(row: Row) -> bytes:
    return json.dumps(row).encode()  # as JSON: unambiguous for any text in an id
