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
_FRAME_BYTES = _FRAME_HEAD_BYTES + _PAGE_BYTES

_ENCODE = msgspec.json.Encoder().encode


class LogHeld(Exception):
    """The log of a database must be emptied first, and requests that read it prevent that."""


class _LogTooLong(Exception):
    """Statements have made the log of their database longer than its bound."""


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
    """The state of this process: the databases that it has open."""

    def __init__(self, connection: socket.socket, folder: Path | None) -> None:
        self._connection = connection
        self._folder = folder
        self._open = dict[str, Connection]()  # by file, the least recently used first
        self._uncommitted_file = ""  # its transaction waits for `_commit`; empty if there is none

    def answer(self, message: ToChild) -> FromChild:
        """Do what a message asks for, and return the answer or the error."""
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
        """Commit the transaction that `_run` left open.

        Raises CommitInvalid if there is none, and the errors of `Connection.commit`.
        """
        file = self._uncommitted_file
        if not file:
            raise CommitInvalid("there is no open transaction")
        connection = self._open.pop(file)
        try:
            connection.commit()
        finally:
            connection.roll_back()  # undoes a transaction whose commit failed
            self._put_back(file, connection)
            self._uncommitted_file = ""
        return Committed()

    def _copy(self, file: str) -> FromChild:
        """Copy a database into a new file of the same folder."""
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
        """Run statements.

        If they may write to a file, their transaction is left open for `_commit`.
        """
        connection = self._take_connection(run)
        try:
            if not run.writes:
                return self._read(connection, run)
            if not run.file:
                return self._write_in_memory(connection, run)
            ran = self._write(connection, run)
            self._uncommitted_file = run.file
            return ran
        finally:
            if not self._uncommitted_file:
                connection.roll_back()
            self._put_back(run.file, connection)

    def _take_connection(self, run: Run) -> Connection:
        """Return a connection without a transaction, until `_put_back` is called with it.

        A transaction that was not committed is undone.
        """
        self._uncommitted_file = ""
        if not run.file:
            return Connection(None)
        connection = self._open.pop(run.file, None)
        if connection is not None:
            connection.roll_back()
            return connection
        path = self._path_of(run.file)
        connection = Connection(path, creates=run.creates)
        if run.creates:
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)  # so that the name of the new file is durable
            os.close(folder)
        return connection

    def _put_back(self, file: str, connection: Connection) -> None:
        """Keep a connection for further requests, or close it."""
        if not file:  # a database in memory
            connection.close()
            return
        if connection.has_large_schema and not connection.in_transaction:
            connection.close()
            return
        self._open[file] = connection
        while len(self._open) > _OPEN_DATABASES:
            least_recent = next(iter(self._open))
            self._open.pop(least_recent).close()

    def _read(self, connection: Connection, run: Run) -> Ran:
        """Run statements that may only read."""
        connection.begin(writes=False, wait_s=run.wait_s)
        guard = Guard(run.rights, run.limits)
        body = _run_work(connection, guard, run.work)
        return Ran(body=body, size_bytes=0, tables=frozenset())

    def _write_in_memory(self, connection: Connection, run: Run) -> Ran:
        """Run statements that may write to a database in memory.

        It has no log to bound, and its changes are never committed.
        """
        connection.begin(writes=True, wait_s=run.wait_s, free_bytes=run.free_bytes)
        guard = Guard(run.rights, run.limits)
        body = _run_work(connection, guard, run.work)
        return _ran(body, connection, guard)

    def _write(self, connection: Connection, run: Run) -> Ran:
        """Run statements that may write, and leave their transaction open (SQ30)."""
        path = str(self._path_of(run.file))
        if _size_of(_log_of(path)) > _log_bound_bytes(path):
            _empty_log(connection)
        try:
            return self._write_with_bound(connection, run, path)
        except _LogTooLong:
            # Pages of earlier requests may be in the log too. So the statements run once more,
            # with an empty log.
            connection.roll_back()
            _empty_log(connection)
        try:
            return self._write_with_bound(connection, run, path)
        except _LogTooLong:
            connection.roll_back()
            connection.empty_log()  # the log is still as long as the undone statements made it
            raise SqlLogFull(
                f"One request may change {_log_bound_bytes(path)} bytes of this database"
                " beside what it adds"
            ) from None

    def _write_with_bound(self, connection: Connection, run: Run, path: str) -> Ran:
        """Run statements that may write, without committing them, and bound the log of their file.

        Raises:
            _LogTooLong: the log became too long.
            Errors of `Connection`.
        """
        connection.begin(writes=True, wait_s=run.wait_s, free_bytes=run.free_bytes)
        guard = Guard(run.rights, run.limits)
        bound = _LogBound(connection, path, run.free_bytes)
        try:
            body = _run_work(connection, guard, run.work, bound)
            if connection.has_many_free_pages:
                self._connection.sendall(framed(Releasing()))
                connection.release_free_pages()
            # A query was not checked before, and releasing pages may write to the log.
            bound.check()
        except StoreUnavailable:
            # SQLite reports a write beyond the kernel's limit as an input or output error.
            if bound.has_stopped_a_write:
                raise _LogTooLong from None
            raise
        finally:
            bound.lift()
        return _ran(body, connection, guard)


def _ran(body: bytes, connection: Connection, guard: Guard) -> Ran:
    """Return the answer for statements that may have written."""
    tables = frozenset(guard.changed_tables)
    return Ran(body=body, size_bytes=connection.size_bytes, tables=tables)


class _LogBound:
    """The bound on the log of a database during one transaction (SQ30).

    The kernel stops a statement that would write more: the limit on the length of files applies to
    the log alone, because nothing is written to the database itself before the commit.

    Args:
        connection: its transaction has just begun.
        path: the file of its database.
        free_bytes: how much the database may grow; None means unlimited.
    """

    def __init__(self, connection: Connection, path: str, free_bytes: int | None) -> None:
        self._connection = connection
        self._log = _log_of(path)
        self._bound_bytes = _log_bound_bytes(path)
        self._size_at_start_bytes = connection.size_bytes
        self._kernel_limit_bytes: int | None = None
        if free_bytes is not None:
            growth_bytes = _log_bytes_for(max(free_bytes, 0))
            # What the cache holds is written at the commit, when the limit is lifted.
            self._kernel_limit_bytes = self._bound_bytes + growth_bytes - CACHE_BYTES
            _limit_files(self._kernel_limit_bytes)

    def check(self) -> None:
        """Raise `_LogTooLong` if the log exceeds its bound by more than the database has grown."""
        log_bytes = _size_of(self._log)
        if log_bytes <= self._bound_bytes:
            return
        grown_bytes = max(self._connection.size_bytes - self._size_at_start_bytes, 0)
        if log_bytes > self._bound_bytes + _log_bytes_for(grown_bytes):
            raise _LogTooLong

    @property
    def has_stopped_a_write(self) -> bool:
        """Whether the limit of the kernel stopped a statement."""
        if self._kernel_limit_bytes is None:
            return False
        # The log ends somewhere within the frame that did not fit. A frame is a head and a page.
        return _size_of(self._log) > self._kernel_limit_bytes - _FRAME_BYTES

    def lift(self) -> None:
        """Let the process write files of any length again."""
        _limit_files(resource.RLIM_INFINITY)


def _limit_files(most_bytes: int) -> None:
    """Limit the length of files that this process writes, until the next call."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard_limit))


def _log_bytes_for(page_bytes: int) -> int:
    """Return how many bytes of a log are needed for so many bytes of pages."""
    return page_bytes + page_bytes // _PAGE_BYTES * _FRAME_HEAD_BYTES


def _log_of(database: str) -> str:
    return f"{database}-wal"


def _size_of(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0


def _empty_log(connection: Connection) -> None:
    """Empty the log of a database; raise `LogHeld` if another request prevents that."""
    if not connection.empty_log():
        raise LogHeld from None


def _run_work(
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
            bound.check()
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
