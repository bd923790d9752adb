"""Tests of SQL requests to a whole node: actions, answers and refusals."""

import json
import os

import apsw
from sql_caller import Databases

NOTES = "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, score REAL)"


async def test_rows_are_written_and_read(owner: Databases) -> None:
    """`execute` writes rows and `query` returns them, with columns and their count (SQ5)."""
    assert await owner.execute(NOTES) == {"changes": 0, "lastInsertRowId": None}
    inserted = await owner.execute("INSERT INTO notes VALUES (?, ?, ?)", 7, "é", 1.0)
    assert inserted == {"changes": 1, "lastInsertRowId": 7}
    reply = await owner.ask({"action": "query", "sql": "SELECT id, body, score FROM notes"})
    assert reply.body.decode() == (
        '{"columns":["id","body","score"],"rows":[[7,"é",1.0]],"rowCount":1}'
    )
    assert reply.headers["content-type"] == "application/json"


async def test_a_batch_is_one_transaction(owner: Databases) -> None:
    """A statement that fails undoes the statements before it (SQ11)."""
    await owner.execute(NOTES)
    statements = [
        {"sql": "INSERT INTO notes (body) VALUES ('x')"},
        {"sql": "INSERT INTO nosuch VALUES (1)"},
    ]
    reply = await owner.ask({"action": "batch", "statements": statements})
    assert (reply.status, reply.body) == (400, b"SQLite error: no such table: nosuch")
    assert await owner.query("SELECT count(*) FROM notes") == [[0]]


async def test_a_missing_database_is_empty_and_stays_missing(owner: Databases) -> None:
    """A read of a missing database, or a failed write, does not create the database (SQ2)."""
    assert await owner.query("SELECT count(*) FROM sqlite_schema") == [[0]]
    await owner.refused("INSERT INTO nosuch VALUES (1)")
    assert not (owner.node.services.config.data / "sql").exists()
    await owner.execute(NOTES)
    assert len(list((owner.node.services.config.data / "sql").rglob("*.db"))) == 1


async def test_each_ability_allows_its_statements(owner: Databases) -> None:
    """A statement that needs another ability is refused with a fixed text (SQ10)."""
    await owner.execute(NOTES)
    ddl = "Permission denied: DDL operations require admin, schema, or write ability"
    only = "Permission denied: Schema ability only permits DDL operations"
    assert await owner.refused("DELETE FROM notes", "read") == (403, "Read-only violation")
    cte = "WITH s AS (SELECT 1) DELETE FROM notes"
    assert await owner.refused(cte, "read") == (403, "Read-only violation")
    assert await owner.refused("DROP TABLE notes", "read") == (403, ddl)
    assert await owner.refused("SELECT 1", "schema") == (403, only)
    assert await owner.refused("CREATE TABLE c AS SELECT * FROM notes", "schema") == (403, only)
    resource = f"{owner.space.text}/sql/app"
    assert await owner.refused("PRAGMA user_version", "write") == (
        401,
        f"Unauthorized Action: {resource} / tinycloud.sql/admin",
    )
    assert (await owner.refused("PRAGMA user_version", "admin"))[0] == 200
    assert (await owner.refused("SELECT 1", ("schema", "read")))[0] == 200
    assert await owner.refused("SELECT 1", "export") == (401, "No supported sql capabilities found")


async def test_a_write_counts_on_the_quota_and_is_audited(owner: Databases) -> None:
    """The size of a database is part of the usage of its space (SQ14)."""
    before = await owner.used_bytes()
    await owner.execute(NOTES)
    assert await owner.used_bytes() == before + 3 * 4096


async def test_a_body_over_the_limit_is_refused(owner: Databases) -> None:
    """A body of more than 1,000,000 bytes is not parsed (SQ4)."""
    body = json.dumps({"action": "query", "sql": "SELECT 1", "x": "x" * 1_000_000}).encode()
    reply = await owner.ask(body)
    assert (reply.status, reply.body) == (413, b"SQL request exceeds 1000000 bytes")


async def test_an_export_is_the_whole_database_as_a_file(owner: Databases) -> None:
    """An export opens as a database with the same rows, and leaves no copy behind (SQ13)."""
    await owner.execute(NOTES)
    await owner.execute("INSERT INTO notes (body) VALUES ('x')")
    reply = await owner.ask({"action": "export"}, "read")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/x-sqlite3"
    copy = apsw.Connection(":memory:")
    copy.deserialize("main", reply.body)
    assert list(copy.execute("SELECT body FROM notes")) == [("x",)]
    (folder,) = (owner.node.services.config.data / "sql").iterdir()
    assert list(folder.glob("copy-*")) == []
    assert (await owner.ask({"action": "export"}, "schema")).status == 403
    assert (await owner.ask({"action": "export"}, path="other")).body == b"Database not found"
    (left := folder / "copy-left").write_bytes(b"")  # by a process that was killed
    os.utime(left, (0, 0))
    again = await owner.ask({"action": "export"}, "read")
    assert again.status == 200
    assert not left.exists()
