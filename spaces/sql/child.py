"""The process that runs SQL statements of one space.

The keeper forks it and lends it to one worker at a time. It knows no deadline and reads no clock:
when a request takes too long, the process is killed (SQ29). Its memory, such as the rows of an
answer, is released with it.
"""

import os
import resource
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..space_errors import (
    CommitInvalid,
    RecordDamaged,
    SpaceError,
    SqlAdminNeeded,
    SqlAnswerTooLarge,
    SqlError,
    SqlForbidden,
    SqlLogFull,
    SqlQuotaExceeded,
    StoreBusy,
    StoreFull,
    StoreUnavailable,
)
from .child_memory import MemoryReport
from .connection import CACHE_BYTES, Connection
from .database_files import COPY_PREFIX, copy_database, remove_left_copies
from .database_rows import MAX_DATABASES
from .frames import (
    MAX_TO_CHILD_BYTES,
    Commit,
    Committed,
    Copied,
    Copy,
    Failed,
    FromChild,
    MessageReader,
    Ran,
    Releasing,
    Run,
    ToChild,
    framed,
    receive,
)
from .guard import Guard, WriteNeeded
from .requests import Batch, Changed, Execute, Query, SqlValue

_OPEN_DATABASES = MAX_DATABASES
"""All databases of a space, because opening and closing one costs more than the write.

Sixty-four small ones take 10 MiB. With full caches and large schemas they take 48 MiB, and the
keeper then replaces the child after the request (SQ29).
"""
LEAST_LOG_BYTES = 4 * 1024 * 1024
_FRAME_HEAD_BYTES = 24  # before each page in the log
_PAGE_BYTES = 4096

_ENCODE = msgspec.json.Encoder().encode


class LogHeld(Exception):
    """The log of a database must be emptied first, and requests that read it prevent that."""


class _LogReached(Exception):
    """The log has reached its bound while statements ran."""


ERRORS: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (
        CommitInvalid,
        LogHeld,
        RecordDamaged,
        SpaceError,
        SqlAdminNeeded,
        SqlAnswerTooLarge,
        SqlError,
        SqlForbidden,
        SqlLogFull,
        SqlQuotaExceeded,
        StoreBusy,
        StoreFull,
        StoreUnavailable,
        WriteNeeded,
    )
}
"""The errors that a child reports, by name."""


def _log_bound_bytes(database: str) -> int:
    """Return how long the log of a database may be before it is emptied (SQ30)."""
    return max(LEAST_LOG_BYTES, _size_of(database) // 4)


def serve(connection: socket.socket, folder: Path | None, memory: MemoryReport) -> None:
    """Answer messages until the connection ends.

    Args:
        connection: with the worker that this process is lent to.
        folder: of the space's databases; None for a space that has none.
        memory: gets the memory of this process, before each answer.
    """
    child = _Child(connection, folder)
    reader = MessageReader(ToChild, MAX_TO_CHILD_BYTES)
    while (message := receive(connection, reader)) is not None:
        answer = child.answer(message)
        if not isinstance(answer, Committed):  # a commit leaves nothing in memory
            memory.update()
        connection.sendall(framed(answer))
        del answer  # otherwise its bytes would stay in memory until the next message
    child.close()


class _Child:
    """The databases that this process has open, the least recently used first."""

    def __init__(self, connection: socket.socket, folder: Path | None) -> None:
        self._connection = connection
        self._folder = folder
        self._open = dict[str, Connection]()
        self._writing = ""  # the file with the open transaction

    def answer(self, message: ToChild) -> FromChild:
        """Do what a message says, and return the answer."""
        try:
            match message:
                case Run():
                    return self._run(message)
                case Commit():
                    return self._commit()
                case Copy(file):
                    return self._copy(file)
        except (SpaceError, LogHeld, WriteNeeded) as exc:
            return Failed(type(exc).__name__, str(exc))
        except MemoryError:
            return Failed(StoreBusy.__name__, "SQL statements need too much memory")

    def close(self) -> None:
        """Close all databases; the last process that has one open empties its log."""
        for connection in self._open.values():
            connection.close()

    def _commit(self) -> FromChild:
        if not self._writing:
            raise CommitInvalid("there is no open transaction")
        connection = self._open.pop(self._writing)
        try:
            connection.commit()
        finally:
            connection.roll_back()  # undoes a transaction whose commit failed
            self._put_back(self._writing, connection)
            self._writing = ""
        return Committed()

    def _copy(self, file: str) -> FromChild:
        path = self._path_of(file)
        remove_left_copies(path.parent)
        copy = path.parent / f"{COPY_PREFIX}{secrets.token_hex(16)}"
        copy_database(path, copy)
        return Copied(copy.name)

    def _path_of(self, file: str) -> Path:
        if self._folder is None:
            raise RecordDamaged("an SQL database is missing or damaged")
        return self._folder / file

    def _run(self, run: Run) -> FromChild:
        connection = self._taken(run)
        try:
            if not run.writes:
                return self._read(connection, run)
            if not run.file:
                # A database in memory has no log to bound, and its changes are never committed.
                return self._change(connection, run)
            ran = self._write(connection, run)
            self._writing = run.file  # the transaction stays open for `_commit`
            return ran
        finally:
            if not self._writing:
                connection.roll_back()
            self._put_back(run.file, connection)

    def _taken(self, run: Run) -> Connection:
        """Return a connection to a database without a transaction. `_put_back` takes it back."""
        self._writing = ""
        if not run.file:
            return Connection(None)
        connection = self._open.pop(run.file, None)
        if connection is not None:
            connection.roll_back()  # undoes what an earlier request did not commit
            return connection
        path = self._path_of(run.file)
        connection = Connection(path, creates=run.creates)
        if run.creates:
            descriptor = os.open(path.parent, os.O_RDONLY)
            os.fsync(descriptor)  # so that the name of the new file is durable
            os.close(descriptor)
        return connection

    def _put_back(self, file: str, connection: Connection) -> None:
        """Keep a connection for further requests, or close it."""
        if not file or (connection.is_heavy and not connection.in_transaction):
            connection.close()
            return
        self._open[file] = connection
        while len(self._open) > _OPEN_DATABASES:
            least_recent = next(iter(self._open))
            self._open.pop(least_recent).close()

    def _read(self, connection: Connection, run: Run) -> Ran:
        connection.begin(writes=False, wait_s=run.wait_s)
        guard = Guard(run.rights, run.limits)
        body = _answer_of(connection, guard, run.work)
        return Ran(body=body, size_bytes=0, tables=frozenset())

    def _write(self, connection: Connection, run: Run) -> Ran:
        """Run statements that may write, and leave their transaction open (SQ30)."""
        path = str(self._path_of(run.file))
        if _size_of(_log_of(path)) > _log_bound_bytes(path):
            _empty_log(connection)
        try:
            return self._change(connection, run, path)
        except _LogReached:
            # Pages of earlier requests may be in the log too. So the statements run once more,
            # with an empty log.
            connection.roll_back()
            _empty_log(connection)
        try:
            return self._change(connection, run, path)
        except _LogReached:
            connection.roll_back()
            connection.truncate_log()  # the log is still as long as the undone statements made it
            raise SqlLogFull(
                f"One request may change {_log_bound_bytes(path)} bytes of this database"
                " beside what it adds"
            ) from None

    def _change(self, connection: Connection, run: Run, path: str | None = None) -> Ran:
        """Run statements without committing them.

        With `path`, the log of that database is bounded.

        Raises:
            _LogReached: the log became too long.
            Errors of `Connection`.
        """
        connection.begin(writes=True, wait_s=run.wait_s, free_bytes=run.free_bytes)
        guard = Guard(run.rights, run.limits)
        if path is None:
            body = _answer_of(connection, guard, run.work)
            return Ran(body=body, size_bytes=connection.size_bytes, tables=frozenset(guard.tables))
        bound = _LogBound(connection, path, run.free_bytes)
        try:
            body = _answer_of(connection, guard, run.work, bound)
            if connection.is_wasteful:
                self._connection.sendall(framed(Releasing()))
                connection.release()
            # A query was not checked before, and releasing pages may write to the log.
            bound.require()
        except StoreUnavailable:
            # SQLite reports a write beyond the kernel's limit as an input or output error.
            if bound.is_reached:
                raise _LogReached from None
            raise
        finally:
            bound.lift()
        return Ran(body=body, size_bytes=connection.size_bytes, tables=frozenset(guard.tables))


class _LogBound:
    """The bound on the log of a database during one transaction (SQ30).

    The kernel stops a statement that would write more: the limit on the length of files applies to
    the log alone, because nothing is written to the database itself before the commit.

    Args:
        connection: whose transaction has just begun.
        path: the file of its database.
        free_bytes: how much the database may grow; None means unlimited.
    """

    def __init__(self, connection: Connection, path: str, free_bytes: int | None) -> None:
        self._connection = connection
        self._log = _log_of(path)
        self._bound_bytes = _log_bound_bytes(path)
        self._size_bytes = connection.size_bytes  # before the statements
        self._most_bytes = resource.RLIM_INFINITY
        if free_bytes is not None:
            # What the cache holds is written at the commit, when the limit is lifted.
            most_bytes = self._bound_bytes + _in_log(max(free_bytes, 0)) - CACHE_BYTES
            self._most_bytes = most_bytes
            _limit_files(most_bytes)

    def require(self) -> None:
        """Raise `_LogReached` if the log is longer than its bound and what the database grew."""
        log_bytes = _size_of(self._log)
        if log_bytes <= self._bound_bytes:
            return
        grown_bytes = max(self._connection.size_bytes - self._size_bytes, 0)
        if log_bytes > self._bound_bytes + _in_log(grown_bytes):
            raise _LogReached

    @property
    def is_reached(self) -> bool:
        """Whether the limit of the kernel stopped a statement."""
        if self._most_bytes == resource.RLIM_INFINITY:
            return False
        # The log ends somewhere within the frame that did not fit. A frame is a head and a page.
        return _size_of(self._log) > self._most_bytes - _PAGE_BYTES - _FRAME_HEAD_BYTES

    def lift(self) -> None:
        """Let the process write files of any length again."""
        _limit_files(resource.RLIM_INFINITY)


def _limit_files(most_bytes: int) -> None:
    """Limit the length of files that this process writes, until the next call."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))


def _in_log(size_bytes: int) -> int:
    """Return how many bytes a log needs for so many bytes of pages."""
    return size_bytes + size_bytes // _PAGE_BYTES * _FRAME_HEAD_BYTES


def _log_of(database: str) -> str:
    return f"{database}-wal"


def _size_of(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0


def _empty_log(connection: Connection) -> None:
    """Empty the log of a database; raise `LogHeld` if another request prevents that."""
    if not connection.truncate_log():
        raise LogHeld from None


def _answer_of(
    connection: Connection,
    guard: Guard,
    work: Query | Execute | Batch,
    bound: _LogBound | None = None,
) -> bytes:
    """Run the statements of a request in the open transaction, and return the answer as JSON.

    With `bound`, the log is checked after each statement that returns no rows.
    """

    def execute(sql: str, params: Sequence[SqlValue] = ()) -> Changed:
        changed = connection.execute(sql, guard, params)
        if bound is not None:
            # The kernel's limit allows all the growth that the quota leaves. This compares the log
            # with what the database has really grown by, before the next statement runs.
            bound.require()
        return changed

    match work:
        case Query(sql, params, max_rows, max_bytes):
            return connection.query(sql, guard, params, max_rows=max_rows, max_bytes=max_bytes)
        case Execute(sql, params, schema):
            for definition in schema:
                execute(definition)
            return _ENCODE(execute(sql, params))
        case Batch(statements):
            results = [execute(statement.sql, statement.params) for statement in statements]
            return _ENCODE({"results": results})
