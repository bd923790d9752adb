"""The SQLite file of a local copy (replica RP3, RP9 to RP12).

The file is in a folder of its own, beside the log of SQLite and a lock. `replica_rows` has the form
of its rows.

Example:
    file = ReplicaFile.open(folder / "copy", space=space, prefix="a", now=now, max_bytes=1 << 20)
    with file.page() as draft:
        draft.note("a/1", etag_of_body(b"1"), {})
        draft.store("a/1", b"1")
        draft.finish(cursor="AA", window=Window(), node_did=did, now=now, is_end=True)
    assert file.read("a/1")[1] == b"1"
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
        before = self._entry(key)
        size_bytes = None
        if before is not None and before.etag == etag:
            size_bytes = before.size_bytes
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
        self._replace(before, entry)

    def store(self, key: str, body: bytes) -> bool:
        """Store a value if it is the version that its key has.

        Returns:
            Whether it was stored.
        Raises:
            ReplicaFull: the copy would be too large.
        """
        before = self._entry(key)
        # The value may have changed since the page: its next change is in a later one (RP4).
        if before is None or etag_of_body(body) != before.etag:
            return False
        self._replace(before, replace(before, size_bytes=len(body)))
        self._connection.execute(
            "INSERT OR REPLACE INTO bodies (key, body) VALUES (?, ?)", (key, body)
        )
        self.wanted.pop(key, None)
        return True

    def delete(self, key: str) -> bool:
        """Delete a key; return whether it was there."""
        before = self._entry(key)
        if before is None:
            return False
        self._delete_body(key)
        self._connection.execute("DELETE FROM entries WHERE key = ?", (key,))
        self._count(before, -1)
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
            cursor: that of the page.
            window: that of the page.
            node_did: the node that sent it.
            now: epoch seconds.
            is_end: whether nothing more is there; keys of a former generation are then removed.
        Returns:
            The number of keys that were removed.
        """
        removed = 0
        if is_end and not self.state.is_complete:
            removed = self._remove_former()
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
        self.state = _emptied(self.state, revoked)

    def _remove_former(self) -> int:
        former = []
        for entry in entries_of(self._connection):
            if entry.generation != self.state.generation:
                former.append(entry.key)
        for key in former:
            self.delete(key)
        return len(former)

    def _delete_body(self, key: str) -> None:
        cursor = self._connection.execute("DELETE FROM bodies WHERE key = ?", (key,))
        self.has_former = self.has_former or cursor.rowcount > 0

    def _entry(self, key: str) -> Entry | None:
        row = self._connection.execute(
            "SELECT key, content, checksum FROM entries WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else entry_of(row)

    def _replace(self, before: Entry | None, after: Entry) -> None:
        if before is not None:
            self._count(before, -1)
        self._count(after, 1)
        if self.left_bytes < 0:
            raise ReplicaFull(
                f"the copy would be larger than {self._max_bytes} bytes with {after.key}"
            )
        write_entry(self._connection, after)

    def _count(self, entry: Entry, times: int) -> None:
        """Add an entry to the totals of the state, or subtract it."""
        self.state = replace(
            self.state,
            entries=self.state.entries + times,
            missing=self.state.missing + times * int(entry.size_bytes is None),
            used_bytes=self.state.used_bytes + times * entry.used_bytes,
        )


def _emptied(state: State, revoked: str | None) -> State:
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
        writer: sqlite3.Connection,
        reader: sqlite3.Connection,
        state: State,
        max_bytes: int,
    ) -> None:
        self._lock = lock
        self._process = os.getpid()
        self._path = path
        self._writer = writer
        self._reader = reader
        self._max_bytes = max_bytes
        self._turn = RLock()
        self._is_writing = False
        self.is_log_due = True  # the log may be that of a process that was killed
        self.state = state
        self.seen_at = state.seen_at

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
        lock = _lock_of(folder)
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
        writer, reader, state = _connections(path, fresh)
        file = cls(
            lock=lock, path=path, writer=writer, reader=reader, state=state, max_bytes=max_bytes
        )
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
        if self._is_of_parent:
            return
        with self._turn:
            if self._lock < 0:
                return
            lock, self._lock = self._lock, -1
            try:
                with sqlite_errors():
                    self._store_time()
            finally:
                self._close_connections()
                os.close(lock)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._lock < 0

    @property
    def _is_of_parent(self) -> bool:
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
        if self._is_of_parent:
            raise ReplicaInUse("the process that opened the copy has forked this one")
        with self._turn:
            if now < self.seen_at - STEP_BACK_S:
                raise ClockWentBack(
                    f"the clock shows a time that is {self.seen_at - now:.0f} s before the last"
                    " one that the copy has seen"
                )
            self.seen_at = max(self.seen_at, now)
            if must_store or self.seen_at >= self.state.seen_at + _STORED_EVERY_S:
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
                if self._is_writing:
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
                pass
            self._begin_anew(replace(_emptied(self.state, revoked), seen_at=self.seen_at))

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

    def _begin_anew(self, state: State) -> None:
        """Remove the files of the copy, and make new ones."""
        # RP8: the object refuses reads from now on, even if the disk refuses the rest.
        self.state = state
        self._close_connections()
        try:
            for suffix in ("", "-wal", "-shm", "-journal"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            os.close(_private_file(self._path))
        except OSError as error:
            raise ReplicaUnusable(f"cannot delete {self._path}: {error.strerror}") from None
        with sqlite_errors():
            self._writer, self._reader, self.state = _connections(self._path, state)

    def entry(self, key: str) -> Entry | None:
        """Return what the copy knows of a key.

        Raises:
            ReplicaCorrupt: the row is damaged.
        """
        return self.read(key)[0]

    def read(self, key: str) -> tuple[Entry | None, bytes | None]:
        """Return what the copy knows of a key, and its value if that is stored.

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
            return None, None
        entry, body = entry_of(row[:3]), row[3]
        if entry.size_bytes is None:
            return entry, None
        if not isinstance(body, bytes) or etag_of_body(body) != entry.etag:
            raise ReplicaCorrupt(f"the stored value of {key} does not match its version")
        return entry, body

    def list(self, prefix: str = "", *, only_missing: bool = False) -> Iterator[Entry]:
        """Yield the entries of the keys below a prefix, in ascending order.

        Raises:
            ReplicaCorrupt: a row is damaged.
        """
        after = prefix
        is_first = True
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
                if is_below(entry.key, prefix) and not (
                    only_missing and entry.size_bytes is not None
                ):
                    yield entry
            if len(rows) < _LIST_ROWS:
                return
            after = rows[-1][0]
            is_first = False

    def _store_time(self) -> None:
        # A page that is being written stores the time with its commit.
        if self._is_writing or self.seen_at <= self.state.seen_at:
            return
        self.state = self._write_state(self.state)

    def _write_state(self, state: State) -> State:
        written = replace(state, seen_at=self.seen_at)
        write_state(self._writer, written)
        return written

    def _close_connections(self) -> None:
        self._reader.close()
        self._writer.close()


def _lock_of(folder: Path) -> int:
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
        lock = _private_file(folder / "lock")
    except OSError as error:
        raise ReplicaUnusable(f"cannot use the folder {folder}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # SQLite gives the mode of the file to the files beside it, too.
        os.close(_private_file(folder / FILE_NAME))
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


def _private_file(path: Path) -> int:
    """Open a file with mode 0600, which is made if needed, and return its descriptor.

    Raises:
        ReplicaUnusable: it is not a file that only the user has access to, under one name.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    number = os.open(path, flags, 0o600)
    status = os.fstat(number)
    reason = ""
    if not stat.S_ISREG(status.st_mode):
        reason = "is not a regular file"
    elif status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        reason = "is a file to which other users have access"
    elif status.st_nlink != 1:
        # SQLite's log has the name of the file, so two processes would write two logs.
        reason = "is a file with another name"
    if reason:
        os.close(number)
        raise ReplicaUnusable(f"{path} {reason}")
    return number


def _connections(path: Path, fresh: State) -> tuple[sqlite3.Connection, sqlite3.Connection, State]:
    """Open a file for writing and for reading, and return its state; a new file gets `fresh`."""
    writer = _connected(path, _WRITER_SETTINGS)
    try:
        state = verified_state(writer, fresh)
        reader = _connected(path, ("PRAGMA query_only = ON",))
    except BaseException:
        writer.close()
        raise
    return writer, reader, state


def _connected(path: Path, settings: tuple[str, ...]) -> sqlite3.Connection:
    """Open a connection that may be used in any thread; each statement commits by itself."""
    connection = sqlite3.connect(
        path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.text_factory = _text
        for setting in (*_SETTINGS, *settings):
            connection.execute(setting).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ReplicaCorrupt("the copy contains a text that is not UTF-8") from None
