"""Random statements, which stay inside the database and inside their rights.

`SQL_FUZZ=1000000` sets the number of statements.
"""

import hashlib
import os
from pathlib import Path

import apsw
import pytest
from sql_fuzz import Statements, opened_files

from spaces.space_errors import SpaceError
from spaces.sql.connection import Connection
from spaces.sql.guard import ADMIN, READ, SCHEMA, WRITE, Guard, WriteNeeded

COUNT = int(os.environ.get("SQL_FUZZ", "4000"))
SEED = int(os.environ.get("SQL_FUZZ_SEED", "1"))
CANARY = "canary in a file outside the database"
RIGHTS = [
    frozenset(rights)
    for rights in ((READ,), (WRITE, READ, SCHEMA), (SCHEMA,), (READ, WRITE, SCHEMA, ADMIN))
]
SETTINGS = {
    "foreign_keys": 1, "synchronous": 2, "trusted_schema": 0, "writable_schema": 0,
    "temp_store": 2, "recursive_triggers": 0, "ignore_check_constraints": 0,
    "locking_mode": "normal", "journal_mode": "wal", "secure_delete": 0, "auto_vacuum": 2,
}  # fmt: skip


def new_database(path: Path) -> Connection:
    """Return a connection to a new database with two tables."""
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)
    connection = Connection(path, creates=True)
    connection.begin(writes=True, wait_s=60)
    guard = Guard(RIGHTS[-1])
    for sql in (
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)",
        "CREATE TABLE private (id INTEGER PRIMARY KEY, secret TEXT)",
        "INSERT INTO notes VALUES (1, 'one'), (2, 'two')",
        "INSERT INTO private VALUES (1, 'hush')",
    ):
        connection.execute(sql, guard)
    connection.commit()
    return connection


def content(connection: Connection) -> bytes:
    """Return a digest of the whole database."""
    return hashlib.sha256(connection._apsw.serialize("main")).digest()


def run(connection: Connection, sql: str, rights: frozenset[str], *, writes: bool) -> bytes:
    """Run a statement as a request does, and commit it."""
    guard = Guard(rights)
    connection.begin(writes=writes, wait_s=0.5)
    try:
        answer = connection.query(sql, guard, [1] if "?1" in sql else [])
        connection.commit()
    finally:
        connection.roll_back()
    return answer


@pytest.mark.slow
def test_no_statement_leaves_its_database(tmp_path: Path) -> None:
    """SQ8, SQ9, SQ10: no random statement opens a file, exceeds its rights or changes a setting."""
    folder = tmp_path / "database"
    folder.mkdir()
    canary, out = tmp_path / "canary.db", tmp_path / "out.db"
    with apsw.Connection(str(canary)) as other:
        other.execute("CREATE TABLE notes (a)")
        other.execute("INSERT INTO notes VALUES (?)", (CANARY,))
    before = canary.read_bytes()
    statements = Statements(SEED, (str(canary), str(out)))
    with opened_files() as opened:
        connection = new_database(folder / "own.db")
        done = 0
        for number in range(COUNT):
            if number % 500 == 499:
                connection.close()
                connection = new_database(folder / "own.db")
            sql = statements.one()
            rights = RIGHTS[number % len(RIGHTS)]
            writes = WRITE in rights or SCHEMA in rights
            kept = None if writes else content(connection)
            try:
                answer = run(connection, sql, rights, writes=writes)
                done += 1
                assert CANARY.encode() not in answer, sql
                assert b"own.db" not in answer, sql  # the path of the database itself
            except (SpaceError, WriteNeeded) as error:
                assert CANARY not in str(error), sql
            if kept is not None:
                assert content(connection) == kept, sql
            if number % 50 == 0:
                check_settings(connection, sql)
        check_settings(connection, "at the end")
        connection.close()
    own = {f"{folder}/own.db{ending}" for ending in ("", "-wal", "-journal")}
    assert opened - own <= {"without a name", ":memory:"}
    assert sorted(place.name for place in tmp_path.iterdir()) == ["canary.db", "database"]
    assert canary.read_bytes() == before
    assert done > COUNT / 20


def check_settings(connection: Connection, sql: str) -> None:
    """Assert that a connection has its own settings and no other database."""
    inner = connection._apsw
    names = {name for (name,) in inner.execute("SELECT name FROM pragma_database_list")}
    assert names <= {"main", "temp"}, sql
    assert inner.execute("SELECT count(*) FROM temp.sqlite_schema").fetchall() == [(0,)], sql
    for name, value in SETTINGS.items():
        assert inner.pragma(name) == value, (name, sql)
    for switch in (apsw.SQLITE_DBCONFIG_DEFENSIVE,):
        assert inner.config(switch, -1) == 1, sql
    assert inner.limit(apsw.SQLITE_LIMIT_ATTACHED) == 0
