"""The guard that judges each SQL statement by what SQLite reports about it.

SQLite calls the guard for each action of a statement while it prepares the statement, and again if
it prepares it or a part of it while it runs. Actions that are not listed here are refused. What a
statement needs is decided from all of its actions, before its first step.
"""

import re
from collections.abc import Set
from functools import cache
from typing import NamedTuple

import apsw

from capabilities.sql_caveats import UNLIMITED, SqlLimits

from ..space_errors import SqlAdminNeeded, SqlError, SqlForbidden, SqlQuotaExceeded

READ, WRITE, SCHEMA, ADMIN = "read", "write", "schema", "admin"

_CHANGES = frozenset({"DELETE", "INSERT", "UPDATE"})
_ON_ROWS = _CHANGES | {"READ"}
_DROPS = frozenset({"DROP_INDEX", "DROP_TABLE", "DROP_TRIGGER", "DROP_VIEW"})
_DEFINES = _DROPS | {
    "ALTER_TABLE",
    "ANALYZE",
    "CREATE_INDEX",
    "CREATE_TABLE",
    "CREATE_TRIGGER",
    "CREATE_VIEW",
    "REINDEX",
}
_ALLOWED = _CHANGES | _DEFINES | {"FUNCTION", "PRAGMA", "READ", "RECURSIVE", "SELECT"}
# Pragmas that describe tables. As table functions, they need only `read`.
_DESCRIBING = frozenset(
    {
        "database_list",
        "foreign_key_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "table_info",
        "table_list",
        "table_xinfo",
    }
)
# `database_list` shows a path of the node.
_PRAGMAS = (_DESCRIBING - {"database_list"}) | {
    "application_id",
    "foreign_key_check",
    "integrity_check",
    "quick_check",
    "user_version",
}
# With an argument, these would change how the database is stored.
_PRAGMAS_TO_READ = frozenset(
    {
        "encoding",
        "freelist_count",
        "journal_mode",
        "optimize",
        "page_count",
        "page_size",
        "schema_version",
    }
)
# SQLite marks its own functions without side effects as innocuous (0x200000). Those of its
# extensions, and those that tell how it was built or what other requests changed, are excluded.
_FUNCTIONS = """
    SELECT name, min(flags & 0x200000) AND NOT (
        name GLOB 'sqlite_*' OR name GLOB 'fts*' OR name GLOB 'geopoly*' OR name GLOB '*changes'
    ) FROM pragma_function_list GROUP BY name
"""
_OWN = "sqlite_"
# SQLite does not report the columns that these words compare.
_UNREPORTED = re.compile("(?<![a-z_])(natural|using)(?![a-z_0-9])", re.IGNORECASE)
ONLY_DEFINES = "Permission denied: Schema ability only permits DDL operations"


class Reported(NamedTuple):
    """An action of a statement that SQLite reports.

    Attributes:
        action: its name, such as `READ` or `CREATE_TABLE`.
        one: for most actions the name of a table.
        two: for `READ` and `UPDATE` the name of a column, which is empty for `count(*)`.
        database: `main`, `temp` or empty.
    """

    action: str
    one: str
    two: str
    database: str


class WriteNeeded(Exception):
    """A statement writes, but its transaction was begun for reading."""


@cache
def _functions() -> dict[str, bool]:
    """Return the functions that exist, and whether statements may call them (SQ9)."""
    return dict(apsw.Connection(":memory:").execute(_FUNCTIONS))


class Guard:
    """The judge of a request's statements.

    Args:
        rights: what the token's abilities allow, of READ, WRITE, SCHEMA and ADMIN.
        limits: those of a caveat.
    """

    def __init__(self, rights: frozenset[str], limits: SqlLimits = UNLIMITED) -> None:
        self.rights = rights
        self.limits = limits
        self.tables: set[str] = set()
        self.begin("")

    def begin(self, sql: str) -> None:
        """Forget the last statement and expect another one."""
        self.sql = sql
        self.reported: list[Reported] = []
        self.error: SqlError | None = None
        self._is_running = False

    @property
    def actions(self) -> frozenset[str]:
        """The names of the statement's actions."""
        return frozenset(reported.action for reported in self.reported)

    @property
    def is_change(self) -> bool:
        """Whether the statement inserts, updates or deletes rows, and defines nothing."""
        return bool(self.actions & _CHANGES) and not self.actions & _DEFINES

    def authorise(
        self, action: int, one: str | None, two: str | None, database: str | None, _: str | None
    ) -> int:
        """Judge one action; SQLite calls this.

        The reason for a denial is in `error`.
        """
        name = str(apsw.mapping_authorizer_function[action]).removeprefix("SQLITE_")
        reported = Reported(action=name, one=one or "", two=two or "", database=database or "")
        if name == "PRAGMA" or reported.one.lower().startswith(("pragma_", "carray")):
            reported = reported._replace(one=reported.one.lower())  # SQLite accepts any case
        error = self._error_of(reported)
        if error is not None:
            self.error = self.error or error
            return apsw.SQLITE_DENY
        if not self._is_running:
            self.reported.append(reported)
        if reported[:3] == ("READ", "pragma_database_list", "file"):
            return apsw.SQLITE_IGNORE  # the path on the node's disk reads as NULL
        return apsw.SQLITE_OK

    def _error_of(self, reported: Reported) -> SqlError | None:
        """Return the error for an action that no ability allows (SQ8), that needs ADMIN, or on a
        table or column that is not listed (SQ21, SQ22)."""
        action, one, two, database = reported
        if action == "ATTACH":
            return SqlForbidden("Permission denied: ATTACH is not allowed")
        # Temporary tables are in another database; SQLite reads the schema of that one too.
        place = one if action == "ALTER_TABLE" else database
        is_own = place in ("", "main") or (
            place == "temp" and one.startswith(_OWN) and action in ("READ", "UPDATE")
        )
        if action not in _ALLOWED or not is_own:
            return self._not_allowed()
        if action == "PRAGMA" and not (self._is_running and one in _DESCRIBING):
            if ADMIN not in self.rights:
                return SqlAdminNeeded("PRAGMA needs the ability admin")
            if one not in _PRAGMAS and (two or one not in _PRAGMAS_TO_READ):
                return self._not_allowed()
        if action == "FUNCTION" and not self._may_call(two):
            return SqlError(f"SQLite error: not authorized to use function: {two}")
        pragma = one.removeprefix("pragma_")
        is_hidden = one == "carray" or (pragma != one and pragma not in _DESCRIBING)
        # SQLite's statistics contain values of every indexed column.
        if one.startswith("sqlite_stat") and self.limits.tables is None:
            is_hidden |= self.limits.columns is not None
        # While a statement runs, SQLite prepares more of it only for its own tables.
        is_new = self._is_running and action in _ALLOWED - {"FUNCTION", "PRAGMA", "SELECT"}
        if is_new and action != "ANALYZE" and not one.startswith(_OWN):
            is_hidden |= reported not in self.reported
        if is_hidden:
            return SqlError("SQLite error: not authorized")
        if action in _ON_ROWS and (excluded := self.limits.excluded(one, two)):
            return SqlForbidden(f"Permission denied: Access to {excluded} is not allowed")
        return None

    def _may_call(self, function: str) -> bool:
        """Return whether the statement may call a function (SQ9)."""
        functions = _functions()
        name = function.lower()
        if name in functions:
            return functions[name]
        # SQLite calls unlisted functions to rewrite the schema; statements cannot call those.
        return function.startswith(_OWN) and "ALTER_TABLE" in self.actions

    def _not_allowed(self) -> SqlForbidden:
        return SqlForbidden(f"Permission denied: Statement type not allowed: {self.sql[:200]}")

    def judge(self, *, is_explain: int, in_read: bool, is_full: bool) -> None:
        """Judge the prepared statement; called before its first step (SQ10).

        Args:
            is_explain: 1 for EXPLAIN, 2 for EXPLAIN QUERY PLAN.
            in_read: whether the transaction was begun for reading.
            is_full: whether the space is full, so that statements may only delete.
        Raises:
            SqlForbidden: the token's abilities do not allow the statement, or nothing does.
            SqlQuotaExceeded: the space is full, and the statement may need more space.
            WriteNeeded: the statement writes, and `in_read` is set.
        """
        actions, rights = self.actions, self.rights
        if not actions or is_explain == 1:  # VACUUM reports no action
            raise self._not_allowed()
        if self.limits.excluded("", "") and _UNREPORTED.search(self.sql):  # SQ21
            raise SqlForbidden("Permission denied: NATURAL and USING are not allowed; join with ON")
        is_write = bool(actions & (_CHANGES | _DEFINES))
        defined = {
            name for r in self.reported if r.action in _DEFINES for name in (r.one, r.two) if name
        }
        if "PRAGMA" in actions:
            is_write = any(
                r.one == "optimize" or (r.one in ("application_id", "user_version") and r.two)
                for r in self.reported
            )
        elif actions & _DEFINES:
            if SCHEMA not in rights:
                raise SqlForbidden(
                    "Permission denied: DDL operations require admin, schema, or write ability"
                )
            # A trigger touches rows of other tables later, when others write, and CREATE TABLE AS
            # touches them unreported, if it joins with USING.
            touched = "CREATE_TRIGGER" in actions or actions >= {"CREATE_TABLE", "SELECT"}
            if WRITE not in rights and (touched or self._named(_ON_ROWS) - defined):
                raise SqlForbidden(ONLY_DEFINES)
        elif (WRITE if is_write else READ) not in rights:
            raise SqlForbidden("Read-only violation" if READ in rights else ONLY_DEFINES)
        if is_write and not is_explain:
            grows = actions & (_DEFINES - _DROPS) or self._named({"INSERT", "UPDATE"})
            if is_full and grows:  # SQ14
                raise SqlQuotaExceeded("the space is full")
            if in_read:
                raise WriteNeeded
            self.tables |= defined | self._named(_CHANGES)
        self._is_running = True

    def _named(self, actions: Set[str]) -> set[str]:
        """Return the names of the tables, other than SQLite's own, that these actions are on."""
        return {r.one for r in self.reported if r.action in actions and not r.one.startswith(_OWN)}
