"""A connection to one SQLite database, which runs the statements of one request at a time.

Its methods block and know no deadline: a process that runs a statement for too long is killed.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import apsw
import msgspec

from ..space_errors import (
    RecordDamaged,
    SpaceError,
    SqlAnswerTooLarge,
    SqlError,
    SqlQuotaExceeded,
    StoreBusy,
    StoreFull,
    StoreUnavailable,
)
from .guard import Guard, ReportedAction
from .requests import MAX_ANSWER_BYTES, MAX_SQL_BYTES, Changed, SqlValue

MAX_LENGTH_BYTES = 10_000_000
MAX_PAGES = 0xFFFFFFFE
CACHE_BYTES = 512 * 1024
_OPENING_MS = 2000
_HEAP_BYTES = 192 * 1024 * 1024
_SCHEMA_BYTES = 256 * 1024

_LIMITS = {
    apsw.SQLITE_LIMIT_ATTACHED: 0,
    apsw.SQLITE_LIMIT_COLUMN: 500,
    apsw.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    apsw.SQLITE_LIMIT_EXPR_DEPTH: 200,
    apsw.SQLITE_LIMIT_FUNCTION_ARG: 100,
    apsw.SQLITE_LIMIT_LENGTH: MAX_LENGTH_BYTES,
    apsw.SQLITE_LIMIT_SQL_LENGTH: MAX_SQL_BYTES,
    apsw.SQLITE_LIMIT_TRIGGER_DEPTH: 10,
    apsw.SQLITE_LIMIT_VDBE_OP: 250_000,
}
_SWITCHES = {
    apsw.SQLITE_DBCONFIG_DEFENSIVE: 1,
    apsw.SQLITE_DBCONFIG_ENABLE_FKEY: 1,
    apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION: 0,
    apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA: 0,
    apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA: 0,
}
_NUMBER = re.compile(r"\d+")
_BLANK = re.compile(r"(?:\s|;|--[^\n]*+(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*+\*/)*+")
_SYNTAX = re.compile(r"syntax error|incomplete input|unrecognized token")


class _Fault(NamedTuple):
    """Errors of SQLite, and the error that is raised in their place."""

    causes: tuple[type[Exception], ...]
    error: type[SpaceError]
    text: str


# Errors that do not depend on what a statement says.
_FAULTS = (
    _Fault(
        causes=(apsw.BusyError,),
        error=StoreBusy,
        text="another request is writing to the SQL database",
    ),
    _Fault(
        causes=(apsw.NoMemError, MemoryError),
        error=StoreBusy,
        text="SQL statements need too much memory",
    ),
    _Fault(causes=(apsw.FullError,), error=StoreFull, text="the disk is full"),
    _Fault(
        causes=(apsw.CantOpenError, apsw.CorruptError, apsw.NotADBError),
        error=RecordDamaged,
        text="an SQL database is missing or damaged",
    ),
    _Fault(
        causes=(apsw.IOError, apsw.ReadOnlyError),
        error=StoreUnavailable,
        text="an SQL database cannot be read or written",
    ),
)
_READS_LAST_ID = ReportedAction(name="FUNCTION", first="", second="last_insert_rowid", database="")
_ENCODE = msgspec.json.Encoder().encode


class Connection:
    """A connection to a database.

    Args:
        path: its file; None for an empty database in memory.
        creates: whether a missing file is created.

    Raises:
        RecordDamaged: the file is missing or is not a database.
        StoreBusy: another process creates it at the same time.
    """

    def __init__(self, path: Path | None, *, creates: bool = False) -> None:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
        if creates:
            flags |= apsw.SQLITE_OPEN_CREATE
        apsw.hard_heap_limit(_HEAP_BYTES)
        self._in_read = True
        self._free_bytes: int | None = None
        with self._converted_errors():
            # Without a cache of statements, so that the guard sees every one.
            file_name = str(path or ":memory:")
            self._apsw = apsw.Connection(file_name, flags=flags, statementcachesize=0)
            self._configure()

    def _configure(self) -> None:
        """Set the limits and the way of storing that all databases have."""
        connection = self._apsw
        for switch, value in _SWITCHES.items():
            connection.config(switch, value)
        for limit, most in _LIMITS.items():
            connection.limit(limit, most)
        connection.set_busy_timeout(_OPENING_MS)  # another process may create it at the same time
        connection.drop_modules(("json_each", "json_tree"))
        if self._pragma("page_count") == 0:
            # This setting has an effect only before the first table. In a database with tables, the
            # statement would wait for a writer.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "temp_store = MEMORY",
            "recursive_triggers = OFF",
            "cell_size_check = ON",
            "journal_size_limit = 4194304",
            f"cache_size = -{CACHE_BYTES // 1024}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        self._page_bytes = self._pragma("page_size")  # no statement changes it

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        self._apsw.close()

    # --- transactions

    def begin(self, *, writes: bool, wait_s: float, free_bytes: int | None = None) -> None:
        """Begin the transaction of a request, after rolling back a former one.

        Args:
            writes: whether it may write.
            wait_s: seconds to wait for another process that writes.
            free_bytes: how much the database may grow (SQ14); None means unlimited.

        Raises:
            StoreBusy: another process is writing for too long.
        """
        self.roll_back()
        self._in_read = not writes
        self._free_bytes = free_bytes
        self._apsw.set_busy_timeout(int(wait_s * 1000))
        self._apsw.set_last_insert_rowid(0)  # that of another request must not be visible (SQ11)
        with self._converted_errors():
            # The guard refuses writes in a transaction for reading; so does SQLite itself.
            self._apsw.pragma("query_only", not writes)
            self._apsw.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            most_pages = MAX_PAGES
            if free_bytes is not None:
                growth_pages = max(free_bytes, 0) // self._page_bytes
                most_pages = max(self._pragma("page_count") + growth_pages, 1)
            self._apsw.pragma("max_page_count", most_pages)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._apsw.in_transaction

    @property
    def has_large_schema(self) -> bool:
        """Whether its schema needs much memory, even while no statement runs."""
        schema_bytes, _ = self._apsw.status(apsw.SQLITE_DBSTATUS_SCHEMA_USED)
        return schema_bytes > _SCHEMA_BYTES

    def roll_back(self) -> None:
        """Undo the open transaction, if any."""
        if self.in_transaction:
            self._apsw.execute("ROLLBACK")

    def commit(self) -> None:
        """Commit the transaction durably."""
        self._free_bytes = None  # from now on, an error of missing space means a full disk
        with self._converted_errors():
            self._apsw.execute("COMMIT")

    @property
    def has_many_free_pages(self) -> bool:
        """Whether more than an eighth of the pages are free."""
        return self._pragma("freelist_count") * 8 > self._pragma("page_count")

    def release_free_pages(self) -> None:
        """Return free pages to the file system."""
        with self._converted_errors():
            self._apsw.execute("PRAGMA incremental_vacuum").fetchall()

    @property
    def size_bytes(self) -> int:
        """The size of the database's pages, with what is not committed."""
        return self._pragma("page_count") * self._page_bytes

    def empty_log(self) -> bool:
        """Move the log's pages into the database, and empty the log.

        Call it outside of a transaction. Returns False if another process prevented it.
        """
        self._apsw.set_busy_timeout(0)
        with self._converted_errors():
            ((is_busy, _, _),) = self._apsw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return not is_busy

    def _pragma(self, name: str) -> int:
        return int(self._apsw.pragma(name))

    # --- statements

    def query(
        self,
        sql: str,
        guard: Guard,
        params: Sequence[SqlValue] = (),
        *,
        max_rows: int | None = None,
        max_bytes: int | None = None,
    ) -> bytes:
        """Run a statement and return its rows as JSON (SQ5).

        Raises:
            SqlAnswerTooLarge: there are more rows or bytes than allowed.
            Errors of `_run`.
        """
        max_bytes = max_bytes or MAX_ANSWER_BYTES
        columns = list[str]()  # `_run` fills it
        rows_json = bytearray()
        row_count = 0
        least_bytes = 0  # of the rows up to the present one
        is_too_large = False
        for row in self._run(sql, guard, params, columns):
            least_bytes = len(rows_json) + _least_json_bytes(row)
            is_too_large = row_count == max_rows or least_bytes > max_bytes
            if is_too_large:
                break
            if row_count > 0:
                rows_json += b","
            rows_json += _row_json(row)
            row_count += 1
        # No more rows are read, and an open read would keep the log from being emptied (SQ30).
        if self._in_read:
            self.roll_back()
        answer = b'{"columns":%b,"rows":[%b],"rowCount":%d}' % (
            _ENCODE(columns),
            bytes(rows_json),
            row_count,
        )
        if is_too_large or len(answer) > max_bytes:
            raise SqlAnswerTooLarge(f"Response too large: {max(len(answer), least_bytes)} bytes")
        return answer

    def execute(self, sql: str, guard: Guard, params: Sequence[SqlValue] = ()) -> Changed:
        """Run a statement that returns no rows.

        Raises:
            SqlError: the statement returns rows.
            Errors of `_run`.
        """
        earlier_id = self._apsw.last_insert_rowid()
        first_row = next(self._run(sql, guard, params, [], resets_last_id=True), None)
        if first_row is not None:
            raise SqlError("SQLite error: Execute returned results - did you mean to call query?")
        if not guard.is_change:
            return Changed(0, None)
        inserted_id = None
        if "INSERT" in guard.action_names:
            # `_run` has set the id to 0, unless the statement reads it. So 0 means that nothing was
            # inserted, and the id of an earlier statement is restored.
            inserted_id = self._apsw.last_insert_rowid() or None
            self._apsw.set_last_insert_rowid(inserted_id or earlier_id)
        return Changed(self._apsw.changes(), inserted_id)

    def _run(
        self,
        text: str,
        guard: Guard,
        params: Sequence[SqlValue],
        columns: list[str],
        *,
        resets_last_id: bool = False,
    ) -> Iterator[tuple[SqlValue, ...]]:
        """Run exactly one statement if the guard allows it, and yield its rows.

        Args:
            text: the statement; blanks, comments and `;` may follow.
            guard: judges it.
            params: its parameters.
            columns: gets the names of the columns before the first row.
            resets_last_id: whether the id of the last inserted row is set to 0 before an INSERT.

        Raises:
            SqlError: it is not one statement, is not allowed, or SQLite reports an error.
            WriteNeeded: it writes in a transaction for reading; nothing was done.
            SqlQuotaExceeded, StoreBusy, StoreFull, RecordDamaged
        """
        is_judged = False

        def may_run(cursor: apsw.Cursor, sql: str, _: object) -> bool:
            """Return whether SQLite shall run `sql`, the next statement of the text."""
            nonlocal is_judged
            if is_judged:
                return False  # only blanks and comments follow the statement: run nothing more
            if _BLANK.fullmatch(text):
                raise SqlError("Parse error: Empty SQL statement")
            if not _BLANK.fullmatch(text, len(sql)):
                raise SqlError("Invalid statement: Exactly one SQL statement is required")
            is_judged = True
            guard.judge_statement(is_explain=cursor.is_explain, in_read=self._in_read)
            columns.extend(name for name, *_ in cursor.get_description())
            if sum(map(len, columns)) > MAX_SQL_BYTES:
                raise SqlError("SQLite error: too many bytes in the names of the columns")
            is_insert = "INSERT" in guard.action_names
            if resets_last_id and is_insert and _READS_LAST_ID not in guard.reported_actions:
                self._apsw.set_last_insert_rowid(0)
            return True

        guard.begin_statement(text)
        cursor = self._apsw.cursor()
        cursor.exec_trace = may_run
        self._apsw.authorizer = guard.authorise
        try:
            with self._converted_errors(guard), suppress(apsw.ExecTraceAbort):
                yield from cursor.execute(text, params)
        finally:
            cursor.close(True)
            self._apsw.authorizer = None

    @contextmanager
    def _converted_errors(self, guard: Guard | None = None) -> Iterator[None]:
        """Convert errors of SQLite to those of this package."""
        try:
            yield
        except (apsw.Error, MemoryError, ValueError) as exc:
            raise self._error_of(exc, guard) from exc

    def _error_of(self, exc: Exception, guard: Guard | None) -> SpaceError:
        """Return the error of this package for an error of SQLite.

        `guard` watched the statement that failed; None outside statements.
        """
        if isinstance(exc, apsw.FullError) and self._free_bytes is not None:
            # The database has reached the number of pages that `begin` has allowed.
            return SqlQuotaExceeded("the write does not fit into the quota")
        for fault in _FAULTS:
            if isinstance(exc, fault.causes):
                return fault.error(fault.text)
        return _statement_error(exc, guard)


def _statement_error(exc: Exception, guard: Guard | None) -> SqlError:
    """Return the error for a statement that SQLite, or the guard, does not accept."""
    text = f"SQLite error: {exc}"
    if isinstance(exc, UnicodeDecodeError):
        text = "SQLite error: text is not UTF-8"
    elif isinstance(exc, apsw.BindingsError):
        # The two numbers are only in the text of the error.
        needed_count, sent_count, *_ = _NUMBER.findall(str(exc))
        text = (
            "SQLite error: Wrong number of parameters passed to query."
            f" Got {sent_count}, needed {needed_count}"
        )
    elif guard is not None and guard.error is not None:
        # SQLite reports that the guard denied an action, and only the guard knows why.
        if type(guard.error) is not SqlError:
            return guard.error
        text = str(guard.error)
    elif _SYNTAX.search(str(exc)):
        text = f"Parse error: {exc}"
    offset = getattr(exc, "error_offset", -1)
    if guard is not None and offset >= 0:
        text += f" in {guard.sql} at offset {offset}"
    return SqlError(text)


def _least_json_bytes(row: Sequence[SqlValue]) -> int:
    """Return a lower bound of a row's length in JSON.

    Unlike encoding the row, this takes no memory.
    """
    size_bytes = 0
    for value in row:
        if isinstance(value, str):
            size_bytes += len(value)
        elif isinstance(value, bytes):  # a list of numbers: a digit and a comma for each
            size_bytes += 2 * len(value)
    return size_bytes


def _row_json(row: Sequence[SqlValue]) -> bytes:
    """Encode a row as JSON, with the bytes of a BLOB as a list of numbers."""
    values = list[object]()
    for value in row:
        if isinstance(value, bytes):
            values.append(list(value))
        else:
            values.append(value)
    return _ENCODE(values)
