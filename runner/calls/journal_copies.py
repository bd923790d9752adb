"""Backups of a runner's journal, and their restore (RN290 to RN293).

A backup is a folder:

    backup.json               {"v", "runner", "madeAt", "file", "sizeBytes", "sha256"}
    journal-<random>.sqlite   the journal at that time

`backup.json` is replaced last, so an interrupted backup leaves the former one whole. Rows of keys,
accounts and jobs stay encrypted under the runner's own key, which is not in the backup.

Example:
    with backup_folder(folder) as copies:
        backup = copies.copy(journal, size_bytes=size_bytes, runner=did, made_at=now)
        copies.publish(backup)
    restored = restore_journal(folder, Path("/data"), now=now)
"""

import fcntl
import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from capabilities.capability_errors import InvalidJson
from capabilities.clock_and_entropy import SystemEntropy
from capabilities.strict_json import StrictStruct, parse_json, shaped
from sealspace.private_files import read_file, replace_file, sync_folder
from tee_backend.backend_errors import FolderDamaged, FolderOfAnother, FolderUnusable

from .journal import Journal, RowSealer, require_readable

JOURNAL_NAME = "journal.sqlite"
SPARE_BYTES = 64 << 20
"""Free space that a copy leaves on its disk, because a full disk stops a runner."""

_LIST = "backup.json"
_STATE = "backend.json"
_LOCK = "lock"
_MAX_LIST_BYTES = 4096
_MAX_STATE_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20
_FILE_NAME = re.compile(r"journal-[0-9a-f]{16}\.sqlite")
_SEALED_ROWS = {
    "accounts": "SELECT owner, version, sealed FROM accounts LIMIT 1",
    "jobs": "SELECT id, version, sealed FROM jobs LIMIT 1",
}
_DATABASE_SUFFIXES = ("", "-wal", "-shm")
"""Ends of the names of a database's files: the database, its log, and the index of the log."""
# Without it, SQLite makes files beside a database that it only reads.
_IMMUTABLE = "mode=ro&immutable=1"
_COUNT_JOBS = "SELECT count(*) FROM jobs WHERE state = ?"


class Backup(StrictStruct, rename="camel"):
    """The description of a backup, as `backup.json` contains it.

    Attributes:
        v: version of the form.
        runner: DID of the runner; None if it is not known.
        made_at: every change acknowledged before this time, in epoch seconds, is in the backup.
        file: name of the journal's copy.
        size_bytes: size of the copy.
        sha256: SHA-256 of the copy, in hex.
    """

    v: Literal[1]
    runner: str | None
    made_at: float
    file: str
    size_bytes: Annotated[int, Meta(gt=0)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class RestoredJournal(NamedTuple):
    """The result of a restore.

    Attributes:
        backup: the backup.
        waiting: number of its calls that had not started.
        started: number of its calls that had started, and had not ended.
    """

    backup: Backup
    waiting: int
    started: int


@dataclass(eq=False, repr=False)
class BackupCopies:
    """The copies in a locked folder for backups; see `backup_folder`.

    Attributes:
        folder: the folder.
        published: name of the copy that is the folder's backup, or None.
    """

    folder: Path
    published: str | None = None

    def copy(self, source: Path, *, size_bytes: int, runner: str | None, made_at: float) -> Backup:
        """Copy a journal's file that does not change meanwhile, and check the copy.

        Raises:
            FolderDamaged: the file is shorter, or the copy is not a whole database.
            FolderUnusable: the disk is too full, or a file cannot be read or written.
        """
        with _file_errors(self.folder):
            path = self._new_path(size_bytes)
            digest = _copy_file(source, path, size_bytes=size_bytes)
            return _check_and_describe(path, digest, runner=runner, made_at=made_at)

    def copy_stopped(self, source: Path, *, runner: str | None, made_at: float) -> Backup:
        """Copy the journal of a runner that is not running, and check the copy.

        The journal stays in the format of the version that wrote it.

        Raises:
            FolderDamaged: the copy is not a whole database.
            FolderUnusable: there is no journal, it belongs to another user, the disk is too full,
                or a file cannot be read or written.
        """
        if not source.is_file():
            raise FolderUnusable(
                f"there is no journal {source}", hint="name the data folder of a runner: --data DIR"
            )
        if source.stat().st_uid != os.geteuid():
            # SQLite could leave files of this user beside it, which the runner cannot open.
            raise FolderUnusable(
                f"the journal {source} belongs to another user",
                hint="run the command as the runner's user, such as with sudo -u, or while the"
                " runner is running",
            )
        with _file_errors(self.folder):
            path = self._new_path(file_bytes(source))
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
            with (
                closing(sqlite3.connect(source, timeout=0)) as journal,
                closing(sqlite3.connect(path)) as copied,
            ):
                _require_journal(journal, source)
                # The copy counts only once it is complete, so it needs no log of its own.
                copied.execute("PRAGMA journal_mode = OFF")
                journal.backup(copied)
            digest = _sync_and_digest(path)
            return _check_and_describe(path, digest, runner=runner, made_at=made_at)

    def publish(self, backup: Backup) -> None:
        """Make a copy the folder's backup, and remove the former copy (RN291).

        The backup is durable when the method returns.
        """
        with _file_errors(self.folder):
            sync_folder(self.folder)
            replace_file(self.folder / _LIST, msgspec.json.encode(backup) + b"\n")
        self.published = backup.file
        self.remove_unpublished()

    def remove_unpublished(self) -> None:
        """Remove all copies but the published one, also those that interrupted backups left."""
        with _file_errors(self.folder):
            for file in self.folder.iterdir():
                if _FILE_NAME.fullmatch(file.name) and file.name != self.published:
                    file.unlink()

    def _new_path(self, size_bytes: int) -> Path:
        """Return the path of a new copy, for which the disk has room."""
        require_space(self.folder, size_bytes)
        return self.folder / f"journal-{SystemEntropy().token(8).hex()}.sqlite"


@contextmanager
def backup_folder(folder: Path) -> Iterator[BackupCopies]:
    """Lock a folder for a backup until the `with` block ends.

    The folder is made with mode 0700 if it is missing. Copies that interrupted backups left are
    removed.

    Raises:
        FolderUnusable: another backup is being written to it, or it cannot be used.
        FolderDamaged: its `backup.json` is damaged.
    """
    with _file_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderUnusable(
                f"another backup is being written to {folder}",
                hint="wait until it has ended, or choose another folder",
            ) from None
        copies = BackupCopies(folder)
        if (folder / _LIST).exists():
            copies.published = read_backup(folder).file
        copies.remove_unpublished()
        try:
            yield copies
        finally:
            copies.remove_unpublished()
    finally:
        os.close(lock)


def read_backup(folder: Path) -> Backup:
    """Read the description of the backup in a folder.

    Raises:
        FolderUnusable: there is no backup, or it cannot be read.
        FolderDamaged: the description is damaged.
    """
    try:
        data = read_file(folder / _LIST, most_bytes=_MAX_LIST_BYTES, denied=0o022)
        backup = shaped(parse_json(data, max_bytes=_MAX_LIST_BYTES), Backup)
    except FileNotFoundError:
        raise FolderUnusable(
            f"{folder} contains no backup of a runner",
            hint=f"name the folder that was given to: sealspace runner backup; ls -l {folder}",
        ) from None
    except OSError as error:
        raise FolderUnusable(
            f"cannot read the backup in {folder}: {error.strerror or error}",
            hint=f"ls -l {folder}",
        ) from error
    except InvalidJson as error:
        raise _damaged(folder, f"{_LIST} is not valid") from error
    if _FILE_NAME.fullmatch(backup.file) is None:
        raise _damaged(folder, f"{_LIST} names no copy of a journal")
    return backup


def restore_journal(folder: Path, data: Path, *, now: float) -> RestoredJournal:
    """Restore a backup into a data folder that has no journal (RN292).

    The journal appears in the data folder only after all of it was verified. Its jobs are marked,
    so that the next start ends them without running them (RN293).

    Args:
        folder: the folder of the backup.
        data: the data folder; made with mode 0700 if it is missing.
        now: the current time in epoch seconds.
    Raises:
        FolderDamaged: the backup is damaged.
        FolderOfAnother: the data folder belongs to a runner with another DID.
        FolderUnusable: there is a journal already, a newer version made the backup, or a folder
            cannot be used.
    """
    backup = read_backup(folder)
    target = data / JOURNAL_NAME
    with _file_errors(data):
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        for suffix in _DATABASE_SUFFIXES:
            # SQLite would apply the log of another journal to the restored one.
            if os.path.lexists(f"{target}{suffix}"):
                raise FolderUnusable(
                    f"{target}{suffix} exists already",
                    hint=f"stop the runner and move its journal away: mv {target}* ELSEWHERE",
                )
        folder_did = runner_of(data)
        are_both_known = folder_did is not None and backup.runner is not None
        if are_both_known and folder_did != backup.runner:
            raise FolderOfAnother(
                f"the backup is of the runner {backup.runner}, but {data} belongs to {folder_did}",
                hint="restore into a new folder, or into that of the same runner",
            )
        require_space(data, 2 * backup.size_bytes)
        draft = data / f".{JOURNAL_NAME}.{SystemEntropy().token(8).hex()}.new"
        try:
            return _restore_through_draft(folder, backup, draft=draft, target=target, now=now)
        finally:
            for suffix in _DATABASE_SUFFIXES:
                Path(f"{draft}{suffix}").unlink(missing_ok=True)


def _restore_through_draft(
    folder: Path, backup: Backup, *, draft: Path, target: Path, now: float
) -> RestoredJournal:
    """Copy a journal into the file `draft`, verify and mark it, and name it `target`."""
    source = folder / backup.file
    if source.stat().st_size != backup.size_bytes:
        raise _damaged(folder, f"{backup.file} has another size than {_LIST} says")
    digest = _copy_file(source, draft, size_bytes=backup.size_bytes)
    if digest != backup.sha256:
        raise _damaged(folder, f"{backup.file} has another SHA-256 than {_LIST} says")
    check_copy(draft)
    Journal.update(draft)
    with closing(sqlite3.connect(draft)) as connection:
        (waiting,) = connection.execute(_COUNT_JOBS, ("waiting",)).fetchone()
        (started,) = connection.execute(_COUNT_JOBS, ("started",)).fetchone()
        connection.execute(
            "INSERT INTO restores (restored_at, backup_at) VALUES (?, ?)", (now, backup.made_at)
        )
        connection.commit()
    _sync_and_digest(draft)
    os.link(draft, target)  # fails if another restore was faster
    sync_folder(target.parent)
    return RestoredJournal(backup=backup, waiting=waiting, started=started)


def runner_of(data: Path) -> str | None:
    """Return the DID of the runner that used a data folder last; None if it is not known."""
    try:
        text = read_file(data / _STATE, most_bytes=_MAX_STATE_BYTES)
        state = parse_json(text, max_bytes=_MAX_STATE_BYTES)
    except (OSError, InvalidJson):
        return None
    did = state.get("did")
    return did if isinstance(did, str) else None


@contextmanager
def stopped_runner(data: Path) -> Iterator[bool]:
    """Keep a runner from starting until the `with` block ends; yields False if one is running.

    The lock is that of `GrantFolder`, which each runner takes first.

    Raises:
        FolderUnusable: the data folder cannot be used.
    """
    try:
        with _file_errors(data):
            # Not made here: a file of another user would keep the runner from starting.
            lock = os.open(data / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FolderUnusable as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        yield True  # no runner was started here yet
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)


def check_copy(path: Path) -> None:
    """Check that a copy is a whole journal, of this or an earlier version. It is not changed.

    Raises:
        FolderDamaged: it is not a whole database.
        FolderUnusable: it is another database, or a newer version wrote it.
    """
    _check_database(path, _IMMUTABLE)


def check_journal(path: Path) -> None:
    """Check that the journal of a stopped runner is whole, with the log of a killed runner.

    Raises:
        FolderDamaged, FolderUnusable: as `check_copy`.
    """
    _check_database(path, _read_parameters(path))


def _check_database(path: Path, parameters: str) -> None:
    """Check that a file is a whole journal; `parameters` say how SQLite opens it."""
    try:
        with closing(_open_database(path, parameters)) as connection:
            _require_journal(connection, path)
            integrity = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        raise _damaged(path.parent, f"{path.name} is not a database") from error
    if integrity != ("ok",):
        raise _damaged(path.parent, f"{path.name} is not a whole database")


def require_key(path: Path, sealer: RowSealer) -> None:
    """Check that a key opens rows of the journal of a stopped runner.

    Raises:
        FolderDamaged: it does not open an account, or a job.
    """
    with closing(_open_database(path, _read_parameters(path))) as connection:
        for table, statement in _SEALED_ROWS.items():
            for row_id, version, sealed in connection.execute(statement):
                sealer.open((table, row_id, version), sealed)


def _read_parameters(path: Path) -> str:
    """Return the parameters with which SQLite reads the journal of a stopped runner."""
    # A runner that was killed leaves a log, which belongs to the journal.
    has_log = file_bytes(Path(f"{path}-wal")) > 0
    return "mode=ro" if has_log else _IMMUTABLE


def _open_database(path: Path, parameters: str) -> sqlite3.Connection:
    """Open a database for reading."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?{parameters}", uri=True)


def file_bytes(path: Path) -> int:
    """Return the size of a file; 0 if it is missing."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def require_space(folder: Path, size_bytes: int) -> None:
    """Raise FolderUnusable unless the disk of a folder has room for a copy."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < size_bytes + SPARE_BYTES:
        raise FolderUnusable(
            f"the disk of {folder} has {free_bytes >> 20} MiB free, and"
            f" {(size_bytes + SPARE_BYTES) >> 20} MiB are needed",
            hint="free disk space, or choose a folder on another disk",
        )


def _require_journal(connection: sqlite3.Connection, path: Path) -> None:
    """Raise FolderUnusable unless a database is a journal that this version can read."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    require_readable(path, application_id, version)


def _check_and_describe(path: Path, digest: str, *, runner: str | None, made_at: float) -> Backup:
    """Check a copy, and return its description."""
    check_copy(path)
    return Backup(
        v=1,
        runner=runner,
        made_at=made_at,
        file=path.name,
        size_bytes=path.stat().st_size,
        sha256=digest,
    )


def _copy_file(source: Path, target: Path, *, size_bytes: int) -> str:
    """Copy the first bytes of a file into a new, durable file, and return their SHA-256 in hex."""
    digest = hashlib.sha256()
    left_bytes = size_bytes
    created = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(created, "wb") as copy, os.fdopen(reading, "rb") as original:
        while piece := original.read(min(_PIECE_BYTES, left_bytes)):
            digest.update(piece)
            copy.write(piece)
            left_bytes -= len(piece)
        copy.flush()
        os.fsync(copy.fileno())
    if left_bytes:
        raise _damaged(source.parent, f"{source.name} is shorter than it was")
    return digest.hexdigest()


def _sync_and_digest(path: Path) -> str:
    """Flush a file to disk, and return its SHA-256 in hex."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _file_errors(folder: Path) -> Iterator[None]:
    """Convert errors of files and databases to those of a folder."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise FolderUnusable(
            f"cannot use the folder {folder}: {error}", hint=f"ls -ld {folder}; df -h {folder}"
        ) from error


def _damaged(folder: Path, text: str) -> FolderDamaged:
    return FolderDamaged(
        f"the backup in {folder} is damaged: {text}",
        hint="use another copy of the backup; if there is none, start the runner without a journal",
    )
