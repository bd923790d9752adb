"""The guard that judges each SQL statement by what SQLite reports about it.

SQLite calls the guard for each action of a statement while it prepares the statement, and again if
it prepares it or a part of it while it runs. Actions that are not listed here are refused. What a
statement needs is decided from all of its actions, before its first step.
"""

from collections.abc import Callable
from functools import cache

import apsw

from ..space_errors import SqlAdminNeeded, SqlError, SqlForbidden, SqlQuotaExceeded

READ, WRITE, SCHEMA, ADMIN = "read", "write", "schema", "admin"
Reported = tuple[int, str | None, str | None, str | None, str | None]

_CHANGES = frozenset({apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE})
_CREATES_ON_TABLE = frozenset({apsw.SQLITE_CREATE_INDEX, apsw.SQLITE_CREATE_TRIGGER})
_DROPS = {
    apsw.SQLITE_DROP_INDEX,
    apsw.SQLITE_DROP_TABLE,
    apsw.SQLITE_DROP_TRIGGER,
    apsw.SQLITE_DROP_VIEW,
}
_DEFINES = frozenset(
    {
        *_CREATES_ON_TABLE,
        *_DROPS,
        apsw.SQLITE_ALTER_TABLE,
        apsw.SQLITE_ANALYZE,
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_CREATE_VIEW,
        apsw.SQLITE_REINDEX,
    }
)
_PLAIN = frozenset({apsw.SQLITE_READ, apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE})
_ALLOWED = _CHANGES | _DEFINES | _PLAIN | {apsw.SQLITE_FUNCTION, apsw.SQLITE_PRAGMA}
_TRANSACTIONS = {"BEGIN": "BEGIN TRANSACTION"}
_SAVEPOINTS = {
    "BEGIN": "SAVEPOINT",
    "RELEASE": "RELEASE SAVEPOINT",
    "ROLLBACK": "ROLLBACK TO SAVEPOINT",
}
# Pragmas that describe tables; as table functions they only need `read`.
_DESCRIBING = frozenset(
    {
        "foreign_key_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "table_info",
        "table_list",
        "table_xinfo",
    }
)
# The value says whether the pragma takes an argument. Without one, these change nothing.
_PRAGMAS = {
    **dict.fromkeys(_DESCRIBING, True),
    **dict.fromkeys(
        ("application_id", "foreign_key_check", "integrity_check", "quick_check", "user_version"),
        True,
    ),
    **dict.fromkeys(("encoding", "freelist_count", "journal_mode", "page_count"), False),
    **dict.fromkeys(("page_size", "schema_version"), False),
}
_INNOCUOUS = 0x00200000
_NOT_CALLABLE = ("sqlite_", "fts", "geopoly")


class WriteNeeded(Exception):
    """A statement writes, but its transaction was begun for reading."""


@cache
def _functions() -> frozenset[str]:
    """Return the names of the functions that statements may call (SQ9).

    SQLite marks its own functions without side effects as innocuous. Extensions are excluded.
    """
    listed = apsw.Connection(":memory:").execute("SELECT name, flags FROM pragma_function_list")
    flags: dict[str, int] = {}
    for name, its in listed:
        flags[name] = flags.get(name, _INNOCUOUS) & its
    return frozenset(
        name
        for name, its in flags.items()
        if its & _INNOCUOUS and not name.startswith(_NOT_CALLABLE)
    )


class Guard:
    """The judge of a request's statements.

    Args:
        rights: what the token's abilities allow, of READ, WRITE, SCHEMA and ADMIN.
        may_touch: returns an error for an action on a table or column that a caveat forbids.
        quota_error: returns the error for a statement that may grow a full space; None if there is
            free space.
    """

    def __init__(
        self,
        rights: frozenset[str],
        *,
        may_touch: Callable[[Reported], SqlError | None] | None = None,
        full: SqlQuotaExceeded | None = None,
    ) -> None:
        self.rights = rights
        self.may_touch = may_touch
        self.full = full
        self.tables: set[str] = set()
        self.begin("")

    def begin(self, sql: str) -> None:
        """Forget the last statement and wait for the next one."""
        self.sql = sql
        self.reported: list[Reported] = []
        self.error: SqlError | None = None
        self._is_running = False

    @property
    def kinds(self) -> frozenset[int]:
        """The kinds of the statement's actions."""
        return frozenset(action for action, *_ in self.reported)

    @property
    def is_change(self) -> bool:
        """Whether the statement inserts, updates or deletes rows, and defines nothing."""
        return bool(self.kinds & _CHANGES) and not self.kinds & _DEFINES

    @property
    def calls_last_rowid(self) -> bool:
        """Whether the statement calls `last_insert_rowid()`."""
        return any(name == "last_insert_rowid" for _, _, name, _, _ in self.reported)

    def authorise(
        self, action: int, one: str | None, two: str | None, database: str | None, via: str | None
    ) -> int:
        """Judge one action; called by SQLite.

        Raises nothing: the reason for a denial is in `error`.
        """
        reported = (action, one, two, database, via)
        error = self._error_of(reported)
        if error is None and self._is_running and reported not in self.reported:
            error = self._error_while_running(reported)
        if error is not None:
            self.error = self.error or error
            return apsw.SQLITE_DENY
        if action == apsw.SQLITE_READ and (one, two) == ("pragma_database_list", "file"):
            return apsw.SQLITE_IGNORE  # the path on the node's disk reads as NULL
        if not self._is_running:
            self.reported.append(reported)
        return apsw.SQLITE_OK

    def _not_allowed(self, text: str) -> SqlForbidden:
        return SqlForbidden(f"Permission denied: Statement type not allowed: {text}")

    def _error_of(self, reported: Reported) -> SqlError | None:
        """Return the error for an action that is refused in any statement (SQ8)."""
        action, one, two, _, _ = reported
        if action == apsw.SQLITE_ATTACH:
            return SqlForbidden("Permission denied: ATTACH is not allowed")
        if action == apsw.SQLITE_TRANSACTION:
            return self._not_allowed(_TRANSACTIONS.get(one or "", one or ""))
        if action == apsw.SQLITE_SAVEPOINT:
            return self._not_allowed(f"{_SAVEPOINTS.get(one or '', one)} {two}")
        if action not in _ALLOWED:
            return self._not_allowed(self.sql[:200])
        if action == apsw.SQLITE_PRAGMA:
            return self._error_of_pragma(one or "", two)
        if action == apsw.SQLITE_FUNCTION:
            return self._error_of_function(two or "")
        if action == apsw.SQLITE_READ and not _is_readable(one or ""):
            return SqlError("SQLite error: not authorized")
        return None if self.may_touch is None else self.may_touch(reported)

    def _error_of_pragma(self, name: str, argument: str | None) -> SqlError | None:
        name = name.lower()
        if self._is_running and any(
            action == apsw.SQLITE_READ and table == f"pragma_{name}"
            for action, table, *_ in self.reported
        ):
            return None  # a table function that was judged when the statement was prepared
        if ADMIN not in self.rights:
            return SqlAdminNeeded("PRAGMA needs the ability admin")
        takes_argument = _PRAGMAS.get(name)
        if takes_argument is None or (argument is not None and not takes_argument):
            return self._not_allowed(f"PRAGMA {name}")
        return None

    def _error_of_function(self, name: str) -> SqlError | None:
        # SQLite calls functions of its own to rewrite the schema; statements cannot call them.
        is_own = name.startswith("sqlite_") and apsw.SQLITE_ALTER_TABLE in self.kinds
        if is_own or name.lower() in _functions():
            return None
        return SqlError(f"SQLite error: not authorized to use function: {name}")

    def _error_while_running(self, reported: Reported) -> SqlError | None:
        """Return the error for an action that was not reported before the first step.

        SQLite prepares parts of a statement while it runs, which read or change its own tables.
        """
        action, one, _, _, _ = reported
        is_own = action in _CHANGES | {apsw.SQLITE_READ} and (one or "").startswith("sqlite_")
        if is_own or action in {apsw.SQLITE_SELECT, apsw.SQLITE_FUNCTION, apsw.SQLITE_PRAGMA}:
            return None
        return SqlError("SQLite error: not authorized")

    def judge(self, *, is_read_only: bool, is_explain: int, in_read: bool) -> None:
        """Judge the prepared statement; called before its first step.

        Args:
            is_read_only: whether SQLite says that the statement changes nothing.
            is_explain: 1 for EXPLAIN, 2 for EXPLAIN QUERY PLAN.
            in_read: whether the transaction was begun for reading.
        Raises:
            SqlError: the token's abilities do not allow the statement (SQ10).
            WriteNeeded: it writes and `in_read` is set.
        """
        kinds, rights = self.kinds, self.rights
        if not kinds or is_explain == 1:
            raise self._not_allowed(self.sql[:200])
        defines, changes = kinds & _DEFINES, kinds & _CHANGES
        if apsw.SQLITE_PRAGMA in kinds:
            is_write = not is_read_only and any(
                action == apsw.SQLITE_PRAGMA and argument is not None
                for action, _, argument, _, _ in self.reported
            )
        elif defines:
            if SCHEMA not in rights:
                raise SqlForbidden(
                    "Permission denied: DDL operations require admin, schema, or write ability"
                )
            if WRITE not in rights:
                self._check_only_defines()
            is_write = True
        else:
            is_write = bool(changes)
            if (WRITE if is_write else READ) not in rights:
                if READ not in rights:
                    raise SqlForbidden(
                        "Permission denied: Schema ability only permits DDL operations"
                    )
                raise SqlForbidden("Read-only violation")
            if not is_write and not is_read_only and not is_explain:
                raise self._not_allowed(self.sql[:200])
        if is_write and not is_explain:
            if self.full is not None and not self._only_shrinks(kinds):
                raise self.full
            if in_read:
                raise WriteNeeded
            self.tables |= self._changed_tables()
        self._is_running = True

    def _check_only_defines(self) -> None:
        """Refuse a definition that reads or changes rows of other tables (SQ10)."""
        targets = {
            two if action in {*_CREATES_ON_TABLE, *_DROPS, apsw.SQLITE_ALTER_TABLE} and two else one
            for action, one, two, _, _ in self.reported
            if action in _DEFINES
        }
        for action, one, _, _, _ in self.reported:
            is_row = action in _CHANGES or action == apsw.SQLITE_READ
            is_other = one not in targets and not (one or "").startswith("sqlite_")
            if (is_row and is_other) or action == apsw.SQLITE_CREATE_TRIGGER:
                raise SqlForbidden("Permission denied: Schema ability only permits DDL operations")

    def _only_shrinks(self, kinds: frozenset[int]) -> bool:
        """Return whether a statement only deletes rows or drops definitions (SQ14)."""
        if kinds & (_DEFINES - _DROPS):
            return False
        return not any(
            action in _CHANGES and action != apsw.SQLITE_DELETE and not _is_own(table)
            for action, table, *_ in self.reported
        )

    def _changed_tables(self) -> set[str]:
        return {
            (two if action == apsw.SQLITE_ALTER_TABLE else one) or ""
            for action, one, two, _, _ in self.reported
            if action in _DEFINES or (action in _CHANGES and not _is_own(one))
        }


def _is_own(table: str | None) -> bool:
    return (table or "").startswith("sqlite_")


def _is_readable(table: str) -> bool:
    """Return whether a table is none of the virtual tables that are refused (SQ8)."""
    if table.startswith("pragma_"):
        return table.removeprefix("pragma_") in {*_DESCRIBING, "database_list"}
    return table != "carray"
