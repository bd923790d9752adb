"""A fuzz target for statements of SQL: they stay inside their database and their rights."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
from sql_fuzz import Names, Statements

from spaces.space_errors import SpaceError
from spaces.sql.connection import Connection
from spaces.sql.guard import READ, SCHEMA, WRITE, Guard, WriteNeeded
from tests.spaces.sql.test_guard_fuzz import check_settings, content, new_database

_LONGEST_STATEMENT_S = 1  # far above what any statement on two rows takes, unless it is endless
_RIGHTS = (frozenset({READ}), frozenset({READ, WRITE, SCHEMA}))


class _Stage:
    """A database with two tables, and the names of the files that SQLite opens."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="sealspace-fuzz-")
        self.path = Path(self._folder.name) / "own.db"
        default = apsw.vfs_names()[0]
        self.names = Names()
        self.connection: Connection = new_database(self.path)
        # The stage is there until the process ends. Databases of other tests are opened as usual.
        apsw.set_default_vfs(default)
        self.content = content(self.connection)


@cache
def _stage() -> _Stage:
    return _Stage()


def _deadline() -> Callable[[], bool]:
    """Return what ends an endless statement. In the product, its process is ended."""
    ends_at = time.monotonic() + _LONGEST_STATEMENT_S
    return lambda: time.monotonic() > ends_at


def run_statement(text: str) -> None:
    """Any text is a statement that opens no file and changes no setting, or is refused (SQ8)."""
    stage = _stage()
    connection = stage.connection
    for rights in _RIGHTS:
        connection._apsw.set_progress_handler(_deadline(), 10_000)
        connection.begin(writes=WRITE in rights, wait_s=0.5)
        try:
            with suppress(SpaceError, WriteNeeded):
                connection.query(text, Guard(rights))
            if WRITE not in rights:
                assert content(connection) == stage.content
        finally:
            connection.roll_back()
        assert content(connection) == stage.content
    check_settings(connection, text)
    own = {f"{stage.path}{ending}" for ending in ("", "-wal", "-journal")}
    assert stage.names.opened - own <= {"without a name", ":memory:"}


_STATEMENTS = Statements(1, ("/nowhere/canary.db",))
SEEDS = {"run_statement": tuple(_STATEMENTS.one().encode() for _ in range(200))}
"""The statements that the target begins with."""
