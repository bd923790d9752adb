"""Tests of the guard, which decides what a single statement may do with which right."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from capabilities.sql_caveats import SqlLimits
from spaces.space_errors import SpaceError, SqlError, SqlForbidden
from spaces.sql.connection import Connection
from spaces.sql.guard import ADMIN, READ, SCHEMA, WRITE, Guard, WriteNeeded

ALL = frozenset({READ, WRITE, SCHEMA, ADMIN})
WRITER = ALL - {ADMIN}


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """A connection to a database with two tables."""
    made = Connection(tmp_path / "own.db", creates=True)
    made.begin(writes=True, wait_s=60)
    for sql in (
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)",
        "CREATE TABLE private (id INTEGER REFERENCES notes(id) ON DELETE CASCADE, secret TEXT)",
        "INSERT INTO notes VALUES (1, 'one'), (2, 'two')",
        "INSERT INTO private VALUES (1, 'hush')",
    ):
        made.execute(sql, Guard(ALL))
    made.commit()
    yield made
    made.close()


def answer(
    connection: Connection, sql: str, rights: frozenset[str] = WRITER, *, writes: bool = True
) -> str:
    """Return the answer to a statement, or the error; the statement is undone."""
    connection.begin(writes=writes, wait_s=10)
    try:
        return connection.query(sql, Guard(rights)).decode()
    except SpaceError as error:
        return str(error)
    finally:
        connection.roll_back()


@pytest.mark.parametrize(
    "sql",
    [
        "DETACH main",
        "VACUUM",
        "VACUUM INTO 'copy.db'",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT a",
        "RELEASE a",
        "CREATE TEMP TABLE x (a)",
        "CREATE TABLE temp.x (a)",
        "CREATE VIEW temp.x AS SELECT 1",
        "PRAGMA temp.user_version",
        "ANALYZE temp",
        "CREATE TEMP VIEW x AS SELECT 1",
        "CREATE TEMP TRIGGER x AFTER INSERT ON notes BEGIN SELECT 1; END",
        "EXPLAIN SELECT 1",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA writable_schema = ON",
        "PRAGMA database_list",
        "PRAGMA wal_checkpoint",
        "PRAGMA nosuch",
    ],
)
def test_some_statements_are_never_allowed(connection: Connection, sql: str) -> None:
    """The guard refuses these statements whatever the caller's rights (SQ8)."""
    assert answer(connection, sql, ALL) == (f"Permission denied: Statement type not allowed: {sql}")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT load_extension('x')",
        "SELECT fts3_tokenizer('simple')",
        "SELECT sqlite_compileoption_get(1)",
        "SELECT sqlite_source_id()",
        "SELECT changes()",
        "SELECT total_changes()",
        "SELECT sqlite_log(1, 'x')",
        "SELECT writefile('x', 'y')",
        "SELECT readfile('x')",
        "SELECT edit('x')",
        "SELECT * FROM dbstat",
        "SELECT * FROM carray(1, 2)",
        "SELECT * FROM pragma_compile_options",
        "SELECT * FROM pragma_function_list",
        "CREATE VIRTUAL TABLE f USING fts5 (a)",
        "UPDATE sqlite_schema SET sql = 'x'",
        "SELECT sqlite_rename_table(1, 2, 3, 4, 5, 6, 7)",
        "ALTER TABLE notes ADD COLUMN x AS (load_extension('x'))",
        "INSERT INTO notes SELECT 3, load_extension('x')",
    ],
)
def test_functions_and_tables_outside_the_database_are_refused(
    connection: Connection, sql: str
) -> None:
    """Extensions, files, virtual tables and rows of the schema are refused (SQ8, SQ9)."""
    text = answer(connection, sql, ALL)
    assert text.startswith(("SQLite error: ", "Permission denied: ")), text


def test_attach_has_its_own_text(connection: Connection, tmp_path: Path) -> None:
    """ATTACH is refused before a file is opened (SQ8)."""
    text = answer(connection, f"ATTACH '{tmp_path / 'x.db'}' AS x", ALL)
    assert text == "Permission denied: ATTACH is not allowed"
    assert not (tmp_path / "x.db").exists()


@pytest.mark.parametrize(
    "body",
    [
        "SELECT load_extension('x')",
        "SELECT sqlite_compileoption_get(1)",
        "SELECT * FROM pragma_compile_options",
    ],
)
def test_views_and_triggers_are_judged_when_they_run(connection: Connection, body: str) -> None:
    """Statements in views and triggers are judged as if the caller sent them (SQ8, SQ9)."""
    connection.begin(writes=True, wait_s=10)
    connection.execute(f"CREATE VIEW hidden AS {body}", Guard(ALL))
    trigger = f"CREATE TRIGGER spy AFTER INSERT ON notes BEGIN {body}; END"
    connection.execute(trigger, Guard(ALL))
    connection.commit()
    for sql in ("SELECT * FROM hidden", "INSERT INTO notes (body) VALUES ('x')"):
        text = answer(connection, sql, ALL)
        assert text.startswith("SQLite error: "), (sql, text)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id, row_number() OVER (ORDER BY id) FROM notes",
        "SELECT '{\"a\":1}' -> 'a', '{\"a\":1}' ->> 'a', jsonb('[1]')",
        "SELECT format('%d', 1), concat('a', 1), unhex('00'), CURRENT_TIMESTAMP, pi()",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 9) SELECT x FROM c",
        "SELECT value FROM json_each('[1,2]')",
        "SELECT name FROM pragma_table_info('notes')",
        "SELECT name, file FROM pragma_database_list",
        "EXPLAIN QUERY PLAN SELECT * FROM notes",
        "WITH s AS (SELECT 1 AS i) DELETE FROM notes WHERE id IN (SELECT i FROM s)",
        "CREATE TRIGGER spy AFTER INSERT ON notes BEGIN DELETE FROM private; END",
        "CREATE TABLE made (a INTEGER PRIMARY KEY AUTOINCREMENT, b AS (a + 1), CHECK (a > 0))",
        "CREATE INDEX i ON notes (lower(body)) WHERE body IS NOT NULL",
        "ALTER TABLE notes RENAME COLUMN body TO text",
        "ALTER TABLE notes DROP COLUMN body",
        "ALTER TABLE notes ADD COLUMN c TEXT DEFAULT 'x'",
        "DROP TABLE private",
        "ANALYZE",
        "SELECT 1; -- and a comment",
        "/* before */ SELECT 1 /* after */ ;;",
    ],
)
def test_statements_that_writers_may_run(connection: Connection, sql: str) -> None:
    """Queries, changes and definitions of all usual kinds work (SQ8, SQ9)."""
    assert answer(connection, sql).startswith('{"columns":'), answer(connection, sql)


def test_paths_of_the_node_are_not_shown(connection: Connection) -> None:
    """The list of databases has no path (SQ9)."""
    for table in ("pragma_database_list", "PRAGMA_Database_List"):
        text = answer(connection, f"SELECT name, FILE AS file FROM {table}")
        assert text == '{"columns":["name","file"],"rows":[["main",null]],"rowCount":1}'


@pytest.mark.parametrize(
    "sql", ["SELECT 1; SELECT 2", "SELECT 1; DROP TABLE notes", "PRAGMA page_count; SELECT 1"]
)
def test_a_text_is_one_statement(connection: Connection, sql: str) -> None:
    """A text with two statements is refused before the first one runs (SQ7)."""
    assert (
        answer(connection, sql, ALL) == "Invalid statement: Exactly one SQL statement is required"
    )


@pytest.mark.parametrize("sql", ["", " \n", "-- nothing", "/* nothing */", ";"])
def test_a_text_without_a_statement_is_refused(connection: Connection, sql: str) -> None:
    """Blanks and comments are not a statement (SQ7)."""
    assert answer(connection, sql) == "Parse error: Empty SQL statement"


def test_rows_are_for_query_only(connection: Connection) -> None:
    """`execute` of a statement that returns rows is refused (SQ7)."""
    connection.begin(writes=True, wait_s=10)
    for sql in ("SELECT 1", "DELETE FROM notes RETURNING id"):
        with pytest.raises(SpaceError, match="did you mean to call query"):
            connection.execute(sql, Guard(WRITER))
    connection.roll_back()


@pytest.mark.parametrize(
    ("sql", "rights"),
    [
        ("INSERT INTO notes VALUES (9, 'x')", {READ}),
        ("UPDATE notes SET body = 'x'", {READ}),
        ("WITH s AS (SELECT 1) DELETE FROM notes", {READ}),
        ("EXPLAIN QUERY PLAN DELETE FROM notes", {READ}),
        ("CREATE TABLE x (a)", {READ}),
        ("DROP TABLE notes", {READ}),
        ("ANALYZE", {READ}),
        ("SELECT 1", {SCHEMA}),
        ("SELECT name FROM sqlite_schema", {SCHEMA}),
        ("INSERT INTO notes VALUES (9, 'x')", {SCHEMA}),
        ("CREATE TABLE x AS SELECT * FROM private", {SCHEMA}),
        ("CREATE TABLE x AS SELECT 1 FROM private NATURAL JOIN (SELECT 1 id)", {SCHEMA}),
        ("CREATE TRIGGER x AFTER INSERT ON notes BEGIN DELETE FROM private; END", {SCHEMA}),
        ("DROP TABLE notes", {SCHEMA}),  # deletes rows of `private`
    ],
)
def test_rights_are_needed(connection: Connection, sql: str, rights: set[str]) -> None:
    """A statement is refused if its actions need another right (SQ10)."""
    connection.begin(writes=True, wait_s=10)
    with pytest.raises(SqlForbidden):
        connection.query(sql, Guard(frozenset(rights)))
    connection.roll_back()


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE x (a, b AS (a + 1))",
        "CREATE VIEW x AS SELECT secret FROM private",
        "CREATE INDEX x ON notes (lower(body))",
        "ALTER TABLE notes DROP COLUMN body",
        "ALTER TABLE notes RENAME TO x",
        "DROP TABLE private",
    ],
)
def test_definitions_need_only_schema(connection: Connection, sql: str) -> None:
    """Definitions that touch no rows of other tables work with `schema` alone (SQ10)."""
    assert answer(connection, sql, frozenset({SCHEMA})).startswith('{"columns":')


def test_a_write_is_noticed_before_it_runs(connection: Connection) -> None:
    """In a transaction for reading, a statement that writes does nothing (SQ11)."""
    for sql in ("DELETE FROM notes", "CREATE TABLE x (a)", "PRAGMA user_version = 3"):
        with pytest.raises(WriteNeeded):
            answer(connection, sql, ALL, writes=False)
    assert answer(connection, "SELECT count(*) FROM notes").endswith('[[2]],"rowCount":1}')
    assert answer(connection, "PRAGMA optimize", ALL).startswith('{"columns":')


def test_a_function_has_few_arguments(connection: Connection) -> None:
    """Functions that search one text for each of many paths are refused (SQ16)."""
    text = answer(connection, "SELECT json_extract('[1]'" + ", '$[#-1]'" * 100 + ")")
    assert text.startswith("SQLite error: too many arguments on function json_extract")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 FROM private NATURAL JOIN (SELECT 'hush' AS secret)",
        "SELECT 1 FROM private JOIN (SELECT 'hush' AS secret) USING (secret)",
        "SELECT 1 FROM (SELECT 1) a JOIN (SELECT 'hush' AS secret) ON ?1NATURAL JOIN private",
        'SELECT 1 FROM "private"natural/**/join (SELECT 1 AS id)',
    ],
)
@pytest.mark.parametrize(
    "limits", [SqlLimits(tables=frozenset({"notes"})), SqlLimits(columns=frozenset({"notes"}))]
)
def test_joins_that_sqlite_does_not_report(
    connection: Connection, sql: str, limits: SqlLimits
) -> None:
    """SQLite does not report the columns of such joins, so lists exclude them (SQ21)."""
    connection.begin(writes=False, wait_s=10)
    with pytest.raises(SqlForbidden):
        connection.query(sql, Guard(WRITER, limits), [1] if "?1" in sql else [])
    assert connection.query(sql, Guard(WRITER), [1] if "?1" in sql else [])


def test_statistics_are_not_read_by_their_columns(connection: Connection) -> None:
    """SQLite's statistics contain values of all columns with an index, so a list of columns alone
    does not open them (SQ21)."""
    connection.begin(writes=True, wait_s=10)
    for sql in ("CREATE INDEX secrets ON private (secret)", "ANALYZE"):
        connection.execute(sql, Guard(WRITER))
    sql, columns = "SELECT sample FROM sqlite_stat4", frozenset({"body", "sample"})
    assert b"rowCount" in connection.query(
        sql, Guard(WRITER, SqlLimits(frozenset({"sqlite_stat4"}), columns))
    )
    with pytest.raises(SqlError, match="not authorized"):
        connection.query(sql, Guard(WRITER, SqlLimits(columns=columns)))
    connection.commit()
    connection.begin(writes=False, wait_s=10)
    guard = Guard(WRITER, SqlLimits(columns=columns))
    assert b"one" in connection.query("SELECT body FROM notes", guard)


def test_names_of_pragmas_are_read_in_any_case(connection: Connection) -> None:
    """PRAGMA names are compared without case (SQ9)."""
    assert answer(connection, "PRAGMA USER_VERSION", ALL).endswith('[[0]],"rowCount":1}')
    with pytest.raises(WriteNeeded):
        answer(connection, "PRAGMA User_Version = 3", ALL, writes=False)
    assert "not allowed" in answer(connection, "PRAGMA Writable_Schema = 1", ALL)
    assert answer(connection, "SELECT NAME FROM PRAGMA_TABLE_INFO('notes')").startswith("{")
    for table in ("PRAGMA_COMPILE_OPTIONS", "CARRAY(1, 2)"):
        assert answer(connection, f"SELECT * FROM {table}", ALL) == "SQLite error: not authorized"
