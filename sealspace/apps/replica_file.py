"""The SQLite file of a local copy (replica RP3, RP9 to RP12).

The file is in a folder of its own, beside the log of SQLite and a lock. `replica_rows` has the form
of its rows.

Example:
    file = ReplicaFile.open(folder / "copy", space=space, prefix="a", now=now, max_bytes=1 << 20)
    with file.page() as draft:
        draft.note("a/1", etag_of_body(b"1"), {})
        draft.store("a/1", b"1")
        draft.finish(cursor="AA", window=Window(), node_did=did, now=now, is_end=True)
    assert file.read("a/1").body == b"1"
    file.close()
"""

import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import NamedTuple

from msgspec.structs import replace

from ..errors import (
    ClockWentBack,
    ReplicaCorrupt,
    ReplicaFull,
    ReplicaInUse,
    ReplicaUnusable,
    SourceChanged,
)
from ..wire.changes import is_below
from .replica_rows import (
    Entry,
    State,
    Window,
    entries_of,
    entry_of,
    etag_of_body,
    sqlite_errors,
    verified_state,
    write_entry,
    write_state,
)

FILE_NAME = "replica.sqlite3"
STEP_BACK_S = 2.0
"""A clock may be set back by so much; the copy goes by the latest time it has seen."""
_STORED_EVERY_S = 60.0
_LIST_ROWS = 1000
_BUSY_S = 0.5  # wait for another program that has the file open, such as one for backups
_SETTINGS = (
    # A changed file cannot make SQLite call functions, or read beyond a page.
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA mmap_size = 0",
    "PRAGMA temp_store = MEMORY",
)
_WRITER_SETTINGS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = ON",
)


class Draft:
    """A page of changes that is not committed yet.

    Attributes:
        state: the state after the commit.
        wanted: the keys of this page whose values are not stored, with their versions.
        has_former: whether values were deleted or replaced, which are then in SQLite's log.
    """

    def __init__(self, connection: sqlite3.Connection, state: State, max_bytes: int) -> None:
        self._connection = connection
        self._max_bytes = max_bytes
        self.state = state
        self.wanted: dict[str, str] = {}
        self.has_former = False

    @property
    def left_bytes(self) -> int:
        """How many bytes the copy may grow."""
        return self._max_bytes - self.state.used_bytes

    def note(self, key: str, etag: str, metadata: Mapping[str, str]) -> None:
        """Record the version of a key. Its value is kept if it is the same.

        Raises:
            ReplicaFull: the copy would be too large.
        """
        former = self._read_entry(key)
        size_bytes = None
        if former is not None and former.etag == etag:
            size_bytes = former.size_bytes  # None if the value was missing before
        if size_bytes is None:
            self._delete_body(key)
            self.wanted[key] = etag
        entry = Entry(
            key=key,
            etag=etag,
            metadata=dict(metadata),
            size_bytes=size_bytes,
            generation=self.state.generation,
        )
        self._replace(former, entry)

    def store(self, key: str, body: bytes) -> bool:
        """Store a value if it is the version that its key has.

        Returns:
            Whether it was stored.
        Raises:
            ReplicaFull: the copy would be too large.
        """
        former = self._read_entry(key)
        # The value may have changed since the page: its next change is in a later one (RP4).
        if former is None or etag_of_body(body) != former.etag:
            return False
        self._replace(former, replace(former, size_bytes=len(body)))
        self._connection.execute(
            "INSERT OR REPLACE INTO bodies (key, body) VALUES (?, ?)", (key, body)
        )
        self.wanted.pop(key, None)
        return True

    def delete(self, key: str) -> bool:
        """Delete a key; return whether it was there."""
        entry = self._read_entry(key)
        if entry is None:
            return False
        self._delete_body(key)
        self._connection.execute("DELETE FROM entries WHERE key = ?", (key,))
        self._add_to_totals(entry, times=-1)
        return True

    def begin_again(self) -> None:
        """Begin a new generation, with the rows of the former one (RP6)."""
        self.state = replace(
            self.state,
            cursor=None,
            is_complete=False,
            generation=self.state.generation + 1,
        )

    def finish(
        self, *, cursor: str, window: Window, node_did: str, now: float, is_end: bool
    ) -> int:
        """Record where the next page begins, and when the copy may be read.

        Args:
            cursor: cursor of the page.
            window: window of the page.
            node_did: the node that sent it.
            now: epoch seconds.
            is_end: whether nothing more is there; keys of a former generation are then removed.
        Returns:
            The number of keys that were removed.
        """
        removed = 0
        if is_end and not self.state.is_complete:
            removed = self._delete_former_generations()
        self.state = replace(
            self.state,
            cursor=cursor,
            node_did=node_did,
            is_complete=self.state.is_complete or is_end,
            synced_at=now,
            not_before=window.not_before,
            expires_at=window.expires_at,
            retain_until=window.retain_until,
        )
        return removed

    def empty(self, *, revoked: str | None = None) -> None:
        """Delete all keys and values; the feed begins again."""
        self._connection.execute("DELETE FROM bodies")
        self._connection.execute("DELETE FROM entries")
        self.has_former = True
        self.state = _empty_state(self.state, revoked)

    def _delete_former_generations(self) -> int:
        """Delete the keys that the present generation of the feed did not have.

        Returns their number.
        """
        former_keys = []
        for entry in entries_of(self._connection):
            if entry.generation != self.state.generation:
                former_keys.append(entry.key)
        for key in former_keys:
            self.delete(key)
        return len(former_keys)

    def _delete_body(self, key: str) -> None:
        cursor = self._connection.execute("DELETE FROM bodies WHERE key = ?", (key,))
        self.has_former = self.has_former or cursor.rowcount > 0

    def _read_entry(self, key: str) -> Entry | None:
        """Return the entry of a key, with the changes of this draft; None if there is none."""
        row = self._connection.execute(
            "SELECT key, content, checksum FROM entries WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else entry_of(row)

    def _replace(self, former: Entry | None, entry: Entry) -> None:
        """Write an entry in place of the former one of its key.

        Raises:
            ReplicaFull: the copy would be too large.
        """
        if former is not None:
            self._add_to_totals(former, times=-1)
        self._add_to_totals(entry, times=1)
        if self.left_bytes < 0:
            raise ReplicaFull(
                f"the copy would be larger than {self._max_bytes} bytes with {entry.key}"
            )
        write_entry(self._connection, entry)

    def _add_to_totals(self, entry: Entry, *, times: int) -> None:
        """Add an entry to the totals of the state, or subtract it if `times` is -1."""
        self.state = replace(
            self.state,
            entries=self.state.entries + times,
            missing=self.state.missing + times * int(entry.size_bytes is None),
            used_bytes=self.state.used_bytes + times * entry.used_bytes,
        )


def _empty_state(state: State, revoked: str | None) -> State:
    """Return the state of a copy whose keys and values were deleted."""
    return replace(
        state,
        cursor=None,
        is_complete=False,
        entries=0,
        missing=0,
        used_bytes=0,
        revoked=revoked,
    )


class StoredKey(NamedTuple):
    """A key of a copy, as the file contains it.

    Attributes:
        entry: version and metadata of the key; None if the copy has no such key.
        body: value of the key; None if the value is missing.
    """

    entry: Entry | None
    body: bytes | None


class _OpenFile(NamedTuple):
    """The connections to the file of a copy, and the state that it contains."""

    writer: sqlite3.Connection
    reader: sqlite3.Connection
    state: State


class ReplicaFile:
    """The file of a local copy, which one object of one process has open.

    Its calls are short and may come from any thread. Only one page is written at a time.

    Attributes:
        state: the committed state.
        seen_at: the latest time that was seen, epoch seconds.
        is_log_due: whether SQLite's log may have values that were deleted or replaced.
    """

    def __init__(
        self,
        *,
        lock: int,
        path: Path,
        opened: _OpenFile,
        max_bytes: int,
    ) -> None:
        self._lock: int | None = lock  # a descriptor; None after `close`
        self._process = os.getpid()
        self._path = path
        self._writer = opened.writer
        self._reader = opened.reader
        self._max_bytes = max_bytes
        self._turn = RLock()
        self._is_writing = False
        self.is_log_due = True  # the log may be that of a process that was killed
        self.state = opened.state
        self.seen_at = opened.state.seen_at

    @classmethod
    def open(
        cls, folder: Path, *, space: str, prefix: str, now: float, max_bytes: int
    ) -> "ReplicaFile":
        """Open a copy, or create an empty one.

        The whole file is read once, and each checksum but those of the values is compared.

        Args:
            folder: created with mode 700 if it does not exist.
            space: id of the space.
            prefix: the beginning of the keys.
            now: epoch seconds.
            max_bytes: limit of the keys, metadata and values together.
        Raises:
            ReplicaUnusable: other users have access to the folder, or the disk fails.
            ReplicaInUse: another object has the copy open.
            ReplicaCorrupt: the file is damaged, or of another version.
            SourceChanged: it is the copy of another space or prefix.
            ClockWentBack: the time is before the last one that was seen.
        """
        lock = _lock_folder(folder)
        try:
            with sqlite_errors():
                return cls._open(
                    lock,
                    folder / FILE_NAME,
                    State(space=space, prefix=prefix, seen_at=now),
                    max_bytes,
                )
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def _open(cls, lock: int, path: Path, fresh: State, max_bytes: int) -> "ReplicaFile":
        """Open the file of a locked folder; a new file gets the state `fresh`.

        Raises:
            SourceChanged: the file is the copy of another space or prefix than `fresh`.
            SealspaceError: the same errors as `open`.
        """
        opened = _open_connections(path, fresh)
        state = opened.state
        file = cls(lock=lock, path=path, opened=opened, max_bytes=max_bytes)
        try:
            if (state.space, state.prefix) != (fresh.space, fresh.prefix):
                raise SourceChanged(
                    f"the copy in {path.parent} is of {state.space}/kv/{state.prefix}, not of"
                    f" {fresh.space}/kv/{fresh.prefix}"
                )
            file.note_time(fresh.seen_at, must_store=True)
        except BaseException:
            file._close_connections()
            raise
        return file

    def close(self) -> None:
        """Store the latest time that was seen, and close the file. A second call does nothing."""
        if self._is_in_forked_process:
            return  # the file belongs to the parent, which goes on using it
        with self._turn:
            lock = self._lock
            if lock is None:
                return
            self._lock = None
            try:
                with sqlite_errors():
                    self._store_time()
            finally:
                self._close_connections()
                os.close(lock)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._lock is None

    @property
    def _is_in_forked_process(self) -> bool:
        """Whether this is a copy of the object that `fork` made in another process."""
        return os.getpid() != self._process

    def note_time(self, now: float, *, must_store: bool = False) -> float:
        """Return the latest time that was seen, after the clock was read (RP10).

        Args:
            now: epoch seconds.
            must_store: store it at once; otherwise only if a minute has gone by.
        Raises:
            ClockWentBack: the clock shows a time before it.
            ReplicaInUse: the process that opened the copy has forked this one.
        """
        # Two processes with one connection of SQLite damage the file.
        if self._is_in_forked_process:
            raise ReplicaInUse("the process that opened the copy has forked this one")
        with self._turn:
            if now < self.seen_at - STEP_BACK_S:
                raise ClockWentBack(
                    f"the clock shows a time that is {self.seen_at - now:.0f} s before the last"
                    " one that the copy has seen"
                )
            self.seen_at = max(self.seen_at, now)
            is_due = self.seen_at >= self.state.seen_at + _STORED_EVERY_S
            if must_store or is_due:
                with sqlite_errors():
                    self._store_time()
            return self.seen_at

    @contextmanager
    def page(self) -> Iterator[Draft]:
        """Commit what is written in the `with` block, all or nothing (RP3).

        Raises:
            ReplicaUnusable: the disk fails; nothing was written.
        """
        with self._turn, sqlite_errors():
            self._writer.execute("BEGIN IMMEDIATE")
            self._is_writing = True
        draft = Draft(self._writer, self.state, self._max_bytes)
        try:
            with sqlite_errors():
                yield draft
                with self._turn:
                    written = self._write_state(draft.state)
                    self._writer.execute("COMMIT")
                    self._is_writing = False
                    self.state = written
                    self.is_log_due = self.is_log_due or draft.has_former
        finally:
            with self._turn:
                if self._is_writing:  # the block or the commit failed
                    self._is_writing = False
                    self._writer.rollback()

    def empty(self, *, revoked: str | None = None) -> None:
        """Delete all keys and values, and what SQLite's log has of them.

        SQLite overwrites deleted content in its file. What the disk keeps of it is not known. If
        SQLite cannot do this, because the disk is full or another program reads the file, the files
        are removed, and the copy gets new ones.

        Args:
            revoked: the text of a revocation, which blocks the copy for good.
        Raises:
            ReplicaUnusable: the files cannot be removed, or made again; the copy is not readable.
        """
        with self._turn:
            try:
                with self.page() as draft:
                    draft.empty(revoked=revoked)
                if self.clear_log():
                    return
            except ReplicaUnusable:
                pass  # the files are removed instead
            self._recreate_files(replace(_empty_state(self.state, revoked), seen_at=self.seen_at))

    def clear_log(self) -> bool:
        """Move the content of SQLite's log into the file, and empty the log.

        The log keeps values that were deleted or replaced.

        Returns:
            Whether the log is empty. It is not while another program reads the file.
        Raises:
            ReplicaUnusable: the disk fails.
        """
        with self._turn, sqlite_errors():
            is_busy, _, _ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self.is_log_due = bool(is_busy)
        return not is_busy

    def _recreate_files(self, state: State) -> None:
        """Remove the files of the copy, and make new ones that contain a state without keys.

        Raises:
            ReplicaUnusable: a file cannot be removed or made.
        """
        # RP8: the object refuses reads from now on, even if the disk refuses the rest.
        self.state = state
        self._close_connections()
        try:
            for suffix in ("", "-wal", "-shm", "-journal"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            os.close(_open_private_file(self._path))
        except OSError as error:
            raise ReplicaUnusable(f"cannot delete {self._path}: {error.strerror}") from None
        with sqlite_errors():
            opened = _open_connections(self._path, state)
        self._writer = opened.writer
        self._reader = opened.reader
        self.state = opened.state

    def entry(self, key: str) -> Entry | None:
        """Return the version and metadata of a key; None if the copy has no such key.

        Raises:
            ReplicaCorrupt: the row or the value is damaged.
        """
        return self.read(key).entry

    def read(self, key: str) -> StoredKey:
        """Return the version, the metadata and the value of a key, as far as they are stored.

        Raises:
            ReplicaCorrupt: the row or the value is damaged (RP11).
        """
        with self._turn, sqlite_errors():
            row = self._reader.execute(
                "SELECT entries.key, content, checksum, body FROM entries"
                " LEFT JOIN bodies ON bodies.key = entries.key WHERE entries.key = ?",
                (key,),
            ).fetchone()
        if row is None:
            return StoredKey(entry=None, body=None)
        row_key, content, checksum, body = row
        entry = entry_of((row_key, content, checksum))
        if entry.size_bytes is None:
            return StoredKey(entry=entry, body=None)
        if not isinstance(body, bytes) or etag_of_body(body) != entry.etag:
            raise ReplicaCorrupt(f"the stored value of {key} does not match its version")
        return StoredKey(entry=entry, body=body)

    def list(self, prefix: str = "", *, only_missing: bool = False) -> Iterator[Entry]:
        """Yield the entries of the keys below a prefix, in ascending order.

        They are read in batches, so a key that is written meanwhile may be yielded or not.

        Args:
            prefix: whole segments; "": all keys.
            only_missing: leave out the keys whose values are stored.
        Raises:
            ReplicaCorrupt: a row is damaged.
        """
        after = prefix
        is_first = True  # the first batch contains the key `prefix` itself
        while True:
            with self._turn, sqlite_errors():
                rows = self._reader.execute(
                    "SELECT key, content, checksum FROM entries WHERE key > ? OR (? AND key = ?)"
                    " ORDER BY key LIMIT ?",
                    (after, is_first, after, _LIST_ROWS),
                ).fetchall()
            for row in rows:
                entry = entry_of(row)
                if not entry.key.startswith(prefix):
                    return
                is_stored = entry.size_bytes is not None
                if only_missing and is_stored:
                    continue
                if is_below(entry.key, prefix):  # `notes-2` is not below `notes`
                    yield entry
            if len(rows) < _LIST_ROWS:
                return
            after = rows[-1][0]
            is_first = False

    def _store_time(self) -> None:
        """Commit the latest time that was seen, if it is later than the stored one."""
        # A page that is being written stores the time with its commit.
        if self._is_writing or self.seen_at <= self.state.seen_at:
            return
        self.state = self._write_state(self.state)

    def _write_state(self, state: State) -> State:
        """Write a state with the latest time that was seen, and return it."""
        written = replace(state, seen_at=self.seen_at)
        write_state(self._writer, written)
        return written

    def _close_connections(self) -> None:
        self._reader.close()
        self._writer.close()


def _lock_folder(folder: Path) -> int:
    """Make the folder of a copy if needed, and lock it.

    Returns:
        The descriptor of the lock, which other processes do not get while it is open.
    Raises:
        ReplicaUnusable: other users have access to the folder.
        ReplicaInUse: another object has the lock.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        is_private = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
        if not stat.S_ISDIR(status.st_mode) or not is_private:
            raise ReplicaUnusable(f"other users have access to the folder {folder}")
        # A file of its own: closing another descriptor of the database would end SQLite's locks.
        lock = _open_private_file(folder / "lock")
    except OSError as error:
        raise ReplicaUnusable(f"cannot use the folder {folder}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # SQLite gives the mode of the file to the files beside it, too.
        os.close(_open_private_file(folder / FILE_NAME))
    except BlockingIOError:
        os.close(lock)
        raise ReplicaInUse(f"another process uses the copy in {folder}") from None
    except OSError as error:
        os.close(lock)
        raise ReplicaUnusable(f"cannot use the copy in {folder}: {error.strerror}") from None
    except ReplicaUnusable:
        os.close(lock)
        raise
    return lock


def _open_private_file(path: Path) -> int:
    """Open a file with mode 0600, which is made if needed, and return its descriptor.

    Raises:
        ReplicaUnusable: it is not a file that only the user has access to, under one name.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    status = os.fstat(descriptor)
    reason = ""
    if not stat.S_ISREG(status.st_mode):
        reason = "is not a regular file"
    elif status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        reason = "is a file to which other users have access"
    elif status.st_nlink != 1:
        # SQLite's log has the name of the file, so two processes would write two logs.
        reason = "is a file with another name"
    if reason:
        os.close(descriptor)
        raise ReplicaUnusable(f"{path} {reason}")
    return descriptor


def _open_connections(path: Path, fresh: State) -> _OpenFile:
    """Open a file for writing and for reading, and check its rows; a new file gets `fresh`.

    Raises:
        ReplicaCorrupt: the file is damaged, or of another version.
    """
    writer = _connect(path, _WRITER_SETTINGS)
    try:
        state = verified_state(writer, fresh)
        reader = _connect(path, ("PRAGMA query_only = ON",))
    except BaseException:
        writer.close()
        raise
    return _OpenFile(writer=writer, reader=reader, state=state)


def _connect(path: Path, settings: tuple[str, ...]) -> sqlite3.Connection:
    """Open a connection that may be used in any thread; each statement commits by itself."""
    connection = sqlite3.connect(
        path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.text_factory = _decode_text
        for setting in (*_SETTINGS, *settings):
            connection.execute(setting).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _decode_text(data: bytes) -> str:
    """Decode a text of the file; raise ReplicaCorrupt if it is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ReplicaCorrupt("the copy contains a text that is not UTF-8") from None
