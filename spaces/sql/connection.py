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
from .guard import Guard, Reported
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
    """Errors of SQLite with the error that is raised in their place."""

    kinds: tuple[type[Exception], ...]
    error: type[SpaceError]
    text: str


# The errors that no statement causes.
_FAULTS = (
    _Fault(
        kinds=(apsw.BusyError,),
        error=StoreBusy,
        text="another request is writing to the SQL database",
    ),
    _Fault(
        kinds=(apsw.NoMemError, MemoryError),
        error=StoreBusy,
        text="SQL statements need too much memory",
    ),
    _Fault(kinds=(apsw.FullError,), error=StoreFull, text="the disk is full"),
    _Fault(
        kinds=(apsw.CantOpenError, apsw.CorruptError, apsw.NotADBError),
        error=RecordDamaged,
        text="an SQL database is missing or damaged",
    ),
    _Fault(
        kinds=(apsw.IOError, apsw.ReadOnlyError),
        error=StoreUnavailable,
        text="an SQL database cannot be read or written",
    ),
)
_LAST_ID = Reported(action="FUNCTION", one="", two="last_insert_rowid", database="")
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
        with self._translated():
            # Without a cache of statements, so that the guard sees every one.
            place = str(path or ":memory:")
            self._apsw = apsw.Connection(place, flags=flags, statementcachesize=0)
            self._configure()

    def _configure(self) -> None:
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
        with self._translated():
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
    def is_heavy(self) -> bool:
        """Whether its schema needs much memory, even while no statement runs."""
        return self._apsw.status(apsw.SQLITE_DBSTATUS_SCHEMA_USED)[0] > _SCHEMA_BYTES

    def roll_back(self) -> None:
        """Undo the open transaction, if any."""
        if self.in_transaction:
            self._apsw.execute("ROLLBACK")

    def commit(self) -> None:
        """Commit the transaction durably."""
        self._free_bytes = None  # from now on, an error of missing space is one of the disk
        with self._translated():
            self._apsw.execute("COMMIT")

    @property
    def is_wasteful(self) -> bool:
        """Whether more than an eighth of the pages are free."""
        return self._pragma("freelist_count") * 8 > self._pragma("page_count")

    def release(self) -> None:
        """Return free pages to the file system."""
        with self._translated():
            self._apsw.execute("PRAGMA incremental_vacuum").fetchall()

    @property
    def size_bytes(self) -> int:
        """The size of the database's pages, with what is not committed."""
        return self._pragma("page_count") * self._page_bytes

    def truncate_log(self) -> bool:
        """Move the log's pages into the database, and empty the log.

        Call it outside of a transaction. Returns whether no other process prevented it.
        """
        self._apsw.set_busy_timeout(0)
        with self._translated():
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
        columns = list[str]()
        rows = bytearray()
        count = 0
        size_bytes = 0
        max_bytes = max_bytes or MAX_ANSWER_BYTES
        is_cut = False
        for row in self._run(sql, guard, params, columns):
            size_bytes = len(rows) + _least_json_bytes(row)
            is_cut = count == max_rows or size_bytes > max_bytes
            if is_cut:
                break
            if count > 0:
                rows += b","
            rows += _row_json(row)
            count += 1
        # No more rows are read, and an open read would keep the log from being emptied (SQ30).
        if self._in_read:
            self.roll_back()
        answer = b'{"columns":%b,"rows":[%b],"rowCount":%d}' % (
            _ENCODE(columns),
            bytes(rows),
            count,
        )
        if is_cut or len(answer) > max_bytes:
            raise SqlAnswerTooLarge(f"Response too large: {max(len(answer), size_bytes)} bytes")
        return answer

    def execute(self, sql: str, guard: Guard, params: Sequence[SqlValue] = ()) -> Changed:
        """Run a statement that returns no rows.

        Raises:
            SqlError: the statement returns rows.
            Errors of `_run`.
        """
        before = self._apsw.last_insert_rowid()
        first_row = next(self._run(sql, guard, params, [], inserts=True), None)
        if first_row is not None:
            raise SqlError("SQLite error: Execute returned results - did you mean to call query?")
        is_change = guard.is_change
        inserted = None
        if "INSERT" in guard.actions and is_change:
            # `_run` has set the id to 0, unless the statement reads it. So 0 means that nothing was
            # inserted, and the id of an earlier statement is restored.
            inserted = self._apsw.last_insert_rowid() or None
            self._apsw.set_last_insert_rowid(inserted or before)
        changes = self._apsw.changes() if is_change else 0
        return Changed(changes, inserted)

    def _run(
        self,
        text: str,
        guard: Guard,
        params: Sequence[SqlValue],
        columns: list[str],
        *,
        inserts: bool = False,
    ) -> Iterator[tuple[SqlValue, ...]]:
        """Yield the rows of exactly one statement, which the guard has judged.

        Args:
            text: the statement; blanks, comments and `;` may follow.
            guard: judges it.
            params: its parameters.
            columns: gets the names of the columns before the first row.
            inserts: whether the id of the last inserted row is set to 0 before an INSERT.

        Raises:
            SqlError: it is not one statement, is not allowed, or SQLite reports an error.
            WriteNeeded: it writes in a transaction for reading; nothing was done.
            SqlQuotaExceeded, StoreBusy, StoreFull, RecordDamaged
        """
        is_judged = False

        def judge(cursor: apsw.Cursor, sql: str, _: object) -> bool:
            nonlocal is_judged
            if is_judged:
                return False  # only blanks and comments follow the statement: run nothing more
            if _BLANK.fullmatch(text):
                raise SqlError("Parse error: Empty SQL statement")
            if not _BLANK.fullmatch(text, len(sql)):
                raise SqlError("Invalid statement: Exactly one SQL statement is required")
            is_judged = True
            guard.judge(is_explain=cursor.is_explain, in_read=self._in_read)
            columns.extend(name for name, *_ in cursor.get_description())
            if sum(map(len, columns)) > MAX_SQL_BYTES:
                raise SqlError("SQLite error: too many bytes in the names of the columns")
            if inserts and "INSERT" in guard.actions and _LAST_ID not in guard.reported:
                self._apsw.set_last_insert_rowid(0)
            return True

        guard.begin(text)
        cursor = self._apsw.cursor()
        cursor.exec_trace = judge
        self._apsw.authorizer = guard.authorise
        try:
            with self._translated(guard), suppress(apsw.ExecTraceAbort):
                yield from cursor.execute(text, params)
        finally:
            cursor.close(True)
            self._apsw.authorizer = None

    @contextmanager
    def _translated(self, guard: Guard | None = None) -> Iterator[None]:
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
            return SqlQuotaExceeded("the write does not fit into the quota")
        for fault in _FAULTS:
            if isinstance(exc, fault.kinds):
                return fault.error(fault.text)
        text = f"SQLite error: {exc}"
        match exc:
            case UnicodeDecodeError():
                text = "SQLite error: text is not UTF-8"
            case apsw.BindingsError():
                # The two numbers are only in the text of the error.
                needed_count, sent_count, *_ = _NUMBER.findall(str(exc))
                text = (
                    "SQLite error: Wrong number of parameters passed to query."
                    f" Got {sent_count}, needed {needed_count}"
                )
            case _ if guard and guard.error:
                # SQLite reports that the guard denied an action, and only the guard knows why.
                if type(guard.error) is not SqlError:
                    return guard.error
                text = str(guard.error)
            case _ if _SYNTAX.search(str(exc)):
                text = f"Parse error: {exc}"
        offset = getattr(exc, "error_offset", -1)
        if guard and offset >= 0:
            text += f" in {guard.sql} at offset {offset}"
        return SqlError(text)


def _least_json_bytes(row: Sequence[SqlValue]) -> int:
    """Return the least length of a row in JSON, without the memory that encoding it takes."""
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
