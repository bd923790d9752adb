"""Fuzz tests of statements under caveats, which neither read nor change excluded rows (SQ21, SQ22).

`SQL_FUZZ=1000000` sets the number of statements.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from sql_fuzz import Statements

from capabilities.sql_caveats import SqlLimits
from spaces.space_errors import SpaceError
from spaces.sql.connection import Connection
from spaces.sql.guard import ADMIN, READ, SCHEMA, WRITE, Guard

ALL = frozenset({READ, WRITE, SCHEMA, ADMIN})
CANARY = "c4nary1nth3hidd3n"
SCHEMA_OF_CASES = (
    "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)",
    f"CREATE TABLE private (id INTEGER PRIMARY KEY, secret TEXT DEFAULT '{CANARY}',"
    " note INTEGER REFERENCES notes(id) ON DELETE CASCADE ON UPDATE CASCADE)",
    "CREATE TABLE made (id INTEGER PRIMARY KEY, body TEXT)",
    "CREATE VIEW v AS SELECT id, secret AS body FROM private",
    "CREATE TRIGGER tr AFTER INSERT ON made BEGIN"
    " INSERT INTO notes (body) SELECT secret FROM private; END",
    "CREATE TRIGGER tr2 AFTER UPDATE ON made BEGIN UPDATE private SET secret = new.body; END",
    "INSERT INTO notes VALUES (1, 'one'), (2, 'two'), (3, 'three')",
    f"INSERT INTO private VALUES (1, '{CANARY}', 1), (2, '{CANARY}', 2)",
)
COUNT = int(os.environ.get("SQL_FUZZ", "4000"))


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """A connection to a database with a table that the limits exclude."""
    made = Connection(tmp_path / "own.db", creates=True)
    made.begin(writes=True, wait_s=60)
    for sql in SCHEMA_OF_CASES:
        made.execute(sql, Guard(ALL))
    made.commit()
    yield made
    made.close()


def hidden(connection: Connection) -> bytes:
    """Return everything that the limits protect: a table, and all definitions."""
    dump = (
        connection.query(sql, Guard(ALL))
        for sql in ("SELECT * FROM private", "SELECT * FROM sqlite_schema")
    )
    return b"".join(dump)


LIMITS = {
    "tables": SqlLimits(tables=frozenset({"notes", "made", "v", "json_each"})),
    "columns": SqlLimits(columns=frozenset({"body", "value"})),
    "both": SqlLimits(tables=frozenset({"NOTES"}), columns=frozenset({"BODY"})),
}


class Plain:
    """A source of ordinary statements, of which many are permitted."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self) -> str:
        """Return a statement."""
        table, other = self._table(), self._table()
        changed, value = self._pick("notes", "notes", "made", "private"), self._value()
        return self._pick(
            self._select(),
            self._select(),
            f"{self._select()} UNION ALL {self._select()}",
            f"WITH {table} AS ({self._select()}) SELECT {self._value()} FROM {table}",
            f"WITH c(body) AS ({self._select()}) SELECT body FROM c, {other}",
            f"SELECT {value} FROM {table} a LEFT JOIN {other} b ON {self._value()}",
            f"SELECT {value} FROM {table} GROUP BY {self._value()} HAVING {self._value()}",
            f"SELECT {value} OVER (ORDER BY body) FROM {table}",
            f"INSERT INTO {changed} (body) VALUES ({value})",
            f"INSERT INTO {changed} (id, body) {self._select()}",
            f"INSERT INTO {changed} (id) VALUES (1) ON CONFLICT DO UPDATE SET body = {value}",
            f"REPLACE INTO {changed} (id, body) VALUES (1, {value})",
            f"UPDATE {changed} SET body = {value} WHERE {self._value()}",
            f"UPDATE {changed} SET {self._column()} = {value}",
            f"UPDATE {changed} SET body = {other}.body FROM {other} RETURNING {self._column()}",
            f"UPDATE OR REPLACE {changed} SET id = {value}",
            f"DELETE FROM {changed} WHERE {value}",
            f"DELETE FROM {changed} RETURNING *",
        )

    def _pick(self, *texts: str) -> str:
        return self.random.choice(texts)

    def _table(self) -> str:
        return self._pick(
            "notes", "notes", "NOTES", '"notes"', "main.notes", "made", "private", "v",
            "sqlite_schema", "json_each('[1]')", "pragma_table_info('private')",
        )  # fmt: skip

    def _column(self) -> str:
        return self._pick("body", "body", '"body"', "BODY", "id", "secret", "note", "rowid", "*")

    def _value(self, depth: int = 0) -> str:
        if depth > 2:
            return self._column()
        return self._pick(
            "body", "body", "1", "'x'", "count(*)", self._column(),
            f"hex({self._value(depth + 1)})",
            f"coalesce({self._value(depth + 1)}, {self._value(depth + 1)})",
            f"({self._select(depth + 1)} LIMIT 1)",
            f"EXISTS ({self._select(depth + 1)})",
            f"{self._value(depth + 1)} IN ({self._select(depth + 1)})",
        )  # fmt: skip

    def _select(self, depth: int = 0) -> str:
        where = f" WHERE {self._value(depth + 1)}" if self.random.random() < 0.3 else ""
        return f"SELECT {self._value(depth + 1)} FROM {self._table()}{where}"


@pytest.mark.parametrize("name", LIMITS)
def test_random_statements_stay_within_a_caveat(
    connection: Connection, tmp_path: Path, name: str
) -> None:
    """Random statements neither return nor change rows and definitions outside a caveat."""
    rights = frozenset({READ, WRITE})
    sources = (Plain(7), Statements(7, (str(tmp_path / "outside"),)))
    connection.begin(writes=True, wait_s=600)
    before, run = hidden(connection), 0
    for number in range(COUNT):
        sql = sources[number % 2].one()
        connection.begin(writes=True, wait_s=2)
        try:
            answer = connection.query(sql, Guard(rights, LIMITS[name]))
            run += 1
        except SpaceError as error:
            answer = str(error).replace(sql, "").encode()
        assert CANARY.encode() not in answer, sql
        assert CANARY.encode().hex().encode() not in answer.lower(), sql
        assert hidden(connection) == before, sql
    connection.roll_back()
    assert run > COUNT / 100
