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

from ..space_errors import SqlAdminNeeded, SqlError, SqlForbidden

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
# Actions that SQLite may report for the first time while a statement runs.
_REPORTED_WHILE_RUNNING = frozenset({"ANALYZE", "FUNCTION", "PRAGMA", "SELECT"})
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


class ReportedAction(NamedTuple):
    """An action of a statement, as SQLite reports it.

    SQLite passes two texts with each action. The action decides what they are:

        action                        first                       second
        ────────────────────────────  ──────────────────────────  ────────────────────────────
        READ, UPDATE                  table                       column; empty for `count(*)`
        DELETE, INSERT                table
        FUNCTION                                                  function
        PRAGMA                        pragma                      argument
        ALTER_TABLE                   database                    table
        other definitions             table, index, trigger, …    table of an index or trigger

    Attributes:
        name: of the action, such as `READ` or `CREATE_TABLE`.
        database: `main`, `temp` or empty.
    """

    name: str
    first: str
    second: str
    database: str

    @property
    def table(self) -> str:
        """The table of an action on rows."""
        return self.first

    @property
    def column(self) -> str:
        """The column of `READ` or `UPDATE`."""
        return self.second

    @property
    def function(self) -> str:
        """The function of `FUNCTION`."""
        return self.second

    @property
    def pragma(self) -> str:
        """The pragma of `PRAGMA`."""
        return self.first

    @property
    def argument(self) -> str:
        """The argument of `PRAGMA`, or an empty text."""
        return self.second


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

    Attributes:
        sql: the text of the present statement.
        reported_actions: those that SQLite reported while it prepared that statement.
        error: why the first of its actions was denied, if one was.
        changed_tables: the names that all its statements so far define or write to.
    """

    def __init__(self, rights: frozenset[str], limits: SqlLimits = UNLIMITED) -> None:
        self.rights = rights
        self.limits = limits
        self.changed_tables: set[str] = set()
        self.begin_statement("")

    def begin_statement(self, sql: str) -> None:
        """Forget the former statement, and expect the actions of another one."""
        self.sql = sql
        self.reported_actions: list[ReportedAction] = []
        self.error: SqlError | None = None
        self._is_running = False

    @property
    def action_names(self) -> frozenset[str]:
        """The names of the statement's actions."""
        return frozenset(action.name for action in self.reported_actions)

    @property
    def is_change(self) -> bool:
        """Whether the statement inserts, updates or deletes rows, and defines nothing."""
        return bool(self.action_names & _CHANGES) and not self.action_names & _DEFINES

    def authorise(
        self,
        action_code: int,
        first: str | None,
        second: str | None,
        database: str | None,
        _: str | None,
    ) -> int:
        """Judge one action; SQLite calls this.

        The reason for a denial is in `error`.
        """
        name = str(apsw.mapping_authorizer_function[action_code]).removeprefix("SQLITE_")
        action = ReportedAction(
            name=name, first=first or "", second=second or "", database=database or ""
        )
        lowercase = action.first.lower()
        if name == "PRAGMA" or lowercase.startswith(("pragma_", "carray")):
            action = action._replace(first=lowercase)  # SQLite accepts any case
        error = self._error_of(action)
        if error is not None:
            self.error = self.error or error  # the first one is reported
            return apsw.SQLITE_DENY
        if not self._is_running:
            self.reported_actions.append(action)
        if name == "READ" and action.table == "pragma_database_list" and action.column == "file":
            return apsw.SQLITE_IGNORE  # the path on the node's disk reads as NULL
        return apsw.SQLITE_OK

    def _error_of(self, action: ReportedAction) -> SqlError | None:
        """Return the error for an action that is refused, or None.

        An action is refused if no ability allows it (SQ8), if it needs ADMIN, or if its table or
        column is not listed (SQ21, SQ22).
        """
        if action.name == "ATTACH":
            return SqlForbidden("Permission denied: ATTACH is not allowed")
        if action.name not in _ALLOWED or not _is_in_own_database(action):
            return self._not_allowed()
        if action.name == "PRAGMA":
            error = self._error_of_pragma(action.pragma, action.argument)
            if error is not None:
                return error
        if action.name == "FUNCTION" and not self._may_call(action.function):
            return SqlError(f"SQLite error: not authorized to use function: {action.function}")
        if self._is_on_hidden_table(action) or self._is_unexpected(action):
            return SqlError("SQLite error: not authorized")
        if action.name in _ON_ROWS:
            excluded = self.limits.excluded(action.table, action.column)
            if excluded:
                return SqlForbidden(f"Permission denied: Access to {excluded} is not allowed")
        return None

    def _error_of_pragma(self, pragma: str, argument: str) -> SqlError | None:
        """Return the error for a pragma that is not allowed, or that needs ADMIN."""
        if self._is_running and pragma in _DESCRIBING:
            # SQLite runs the pragma of a table function, which was judged before the statement ran.
            return None
        if ADMIN not in self.rights:
            return SqlAdminNeeded("PRAGMA needs the ability admin")
        only_reads = pragma in _PRAGMAS_TO_READ and not argument
        if pragma in _PRAGMAS or only_reads:
            return None
        return self._not_allowed()

    def _is_on_hidden_table(self, action: ReportedAction) -> bool:
        """Return whether an action is on a table of SQLite that statements may not use."""
        table = action.table
        if table == "carray":
            return True
        is_pragma = table.startswith("pragma_")
        if is_pragma and table.removeprefix("pragma_") not in _DESCRIBING:
            return True
        # SQLite's statistics contain values of every indexed column. If tables are listed, the list
        # decides about the tables of the statistics too.
        is_limited_to_columns = self.limits.tables is None and self.limits.columns is not None
        return is_limited_to_columns and table.startswith("sqlite_stat")

    def _is_unexpected(self, action: ReportedAction) -> bool:
        """Return whether a running statement does something that it did not report before.

        While a statement runs, SQLite prepares more of it only for its own tables.
        """
        if not self._is_running or action.name in _REPORTED_WHILE_RUNNING:
            return False
        return not action.first.startswith(_OWN) and action not in self.reported_actions

    def _may_call(self, function: str) -> bool:
        """Return whether the statement may call a function (SQ9)."""
        functions = _functions()
        name = function.lower()
        if name in functions:
            return functions[name]
        # SQLite calls unlisted functions to rewrite the schema; statements cannot call those.
        return function.startswith(_OWN) and "ALTER_TABLE" in self.action_names

    def _not_allowed(self) -> SqlForbidden:
        return SqlForbidden(f"Permission denied: Statement type not allowed: {self.sql[:200]}")

    def judge_statement(self, *, is_explain: int, in_read: bool) -> None:
        """Judge the prepared statement; called before its first step (SQ10).

        Args:
            is_explain: 1 for EXPLAIN, 2 for EXPLAIN QUERY PLAN.
            in_read: whether the transaction was begun for reading.
        Raises:
            SqlForbidden: the token's abilities do not allow the statement, or nothing does.
            WriteNeeded: the statement writes, and `in_read` is set.
        """
        names = self.action_names
        # A statement that reports no action, such as VACUUM, is refused (SQ8). So is EXPLAIN.
        if not names or is_explain == 1:
            raise self._not_allowed()
        # SQLite does not report the columns that NATURAL and USING compare, so limits would not
        # apply to them (SQ21).
        has_limits = bool(self.limits.excluded("", ""))  # no list contains an empty name
        if has_limits and _UNREPORTED.search(self.sql):
            raise SqlForbidden("Permission denied: NATURAL and USING are not allowed; join with ON")
        if "PRAGMA" in names:
            is_write = any(_is_writing_pragma(action) for action in self.reported_actions)
        elif names & _DEFINES:
            is_write = True
            self._check_definition(names)
        else:
            is_write = bool(names & _CHANGES)
            self._check_ability(WRITE if is_write else READ)
        if is_write and not is_explain:
            if in_read:
                raise WriteNeeded
            self.changed_tables |= self._defined_names() | self._tables_of(_CHANGES)
        self._is_running = True

    def _check_definition(self, names: Set[str]) -> None:
        """Check that the token's abilities allow a statement that defines something (SQ10).

        `names` are those of its actions.
        """
        if SCHEMA not in self.rights:
            raise SqlForbidden(
                "Permission denied: DDL operations require admin, schema, or write ability"
            )
        if WRITE in self.rights:
            return
        # A trigger touches rows of other tables later, when others write.
        creates_trigger = "CREATE_TRIGGER" in names
        # CREATE TABLE AS touches rows of other tables unreported, if it joins with USING.
        creates_table_from_rows = names >= {"CREATE_TABLE", "SELECT"}
        touches_other_tables = bool(self._tables_of(_ON_ROWS) - self._defined_names())
        if creates_trigger or creates_table_from_rows or touches_other_tables:
            raise SqlForbidden(ONLY_DEFINES)

    def _check_ability(self, needed: str) -> None:
        """Check that the token's abilities allow a statement that reads or changes rows (SQ10)."""
        if needed in self.rights:
            return
        if READ in self.rights:
            raise SqlForbidden("Read-only violation")
        raise SqlForbidden(ONLY_DEFINES)

    def _defined_names(self) -> set[str]:
        """Return the names in the definitions of the statement, of tables, indexes and so on."""
        names = set[str]()
        for action in self.reported_actions:
            if action.name in _DEFINES:
                names |= {action.first, action.second}
        return names - {""}

    def _tables_of(self, action_names: Set[str]) -> set[str]:
        """Return the tables, other than SQLite's own, that the statement's named actions are on."""
        tables = set[str]()
        for action in self.reported_actions:
            if action.name in action_names and not action.table.startswith(_OWN):
                tables.add(action.table)
        return tables


def _is_in_own_database(action: ReportedAction) -> bool:
    """Return whether an action is on the database of the request, or on none.

    Temporary tables are in another database. SQLite reads and updates the schema of that one too.
    """
    database = action.first if action.name == "ALTER_TABLE" else action.database
    if database in ("", "main"):
        return True
    is_on_schema = action.first.startswith(_OWN) and action.name in ("READ", "UPDATE")
    return database == "temp" and is_on_schema


def _is_writing_pragma(action: ReportedAction) -> bool:
    """Return whether an action is a pragma that writes."""
    if action.pragma == "optimize":
        return True
    return action.pragma in ("application_id", "user_version") and bool(action.argument)
