"""Fuzz tests of statements over HTTP, which stay inside their database and their rights.

`SQL_HTTP_FUZZ=20000` sets the number of statements; `make fuzz` does. Unlike
`spaces/sql/test_guard_fuzz.py`, this test depends on no module that runs statements, only on the
node's answers and the files that it leaves.
"""

import hashlib
import os
from pathlib import Path

import apsw
import pytest
from sql_caller import Databases, databases_at
from sql_fuzz import Statements
from tests_support import FixedClock

from node.config.tree import Sql
from spaces.sql.database_rows import DATABASES_FOLDER

COUNT = int(os.environ.get("SQL_HTTP_FUZZ", "300"))
SEED = int(os.environ.get("SQL_FUZZ_SEED", "1"))
OUTSIDE = "canary in a file outside the data folder"
OTHERS = "canary in a database of another owner"
RIGHTS = (("read",), ("read", "write", "schema"), ("schema",), ("read", "write", "schema", "admin"))
_EACH = 500  # statements of one database; a space has at most 64 databases
_TABLES = (
    "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)",
    "CREATE TABLE private (id INTEGER PRIMARY KEY, secret TEXT)",
    "INSERT INTO notes VALUES (1, 'one'), (2, 'two')",
    "INSERT INTO private VALUES (1, 'hush')",
)
# Answers to a statement that is refused or fails: wrong, not allowed, full, too large.
REFUSED = {400, 401, 402, 403, 413}


async def _made(owner: Databases, path: str) -> None:
    for sql in _TABLES:
        request = {"action": "execute", "sql": sql}
        reply = await owner.ask(request, ("read", "write", "schema"), path)
        assert reply.status == 200, reply.text


async def _content(owner: Databases, path: str) -> str:
    """Return a digest of a whole database."""
    reply = await owner.ask({"action": "export"}, "read", path)
    assert reply.status == 200, reply.text
    return hashlib.sha256(reply.body).hexdigest()


@pytest.mark.slow
async def test_fuzz_no_statement_over_http_leaves_its_database(
    tmp_path: Path, clock: FixedClock
) -> None:
    """SQ8, SQ9, SQ10: whatever the statement, no other file and no other owner's database is read
    or written, and a caller who may only read changes nothing."""
    canary, out = tmp_path / "canary.db", tmp_path / "out.db"
    with apsw.Connection(str(canary)) as made:
        made.execute("CREATE TABLE notes (a)")
        made.execute("INSERT INTO notes VALUES (?)", (OUTSIDE,))
    made.close()
    before = canary.read_bytes()
    async with databases_at(tmp_path / "node", clock, sql=Sql(read_s=0.5, write_s=60)) as owner:
        other = Databases(owner.node, owner.session, clock)
        assert (await other.put("a", b"")).status == 200
        await other.execute("CREATE TABLE notes (a)")
        await other.execute("INSERT INTO notes VALUES (?)", OTHERS)
        others = await _content(other, "app")
        databases = owner.node.services.config.data / DATABASES_FOLDER
        (file_of_other,) = databases.rglob("*.db")
        statements = Statements(SEED, (str(canary), str(out), str(file_of_other)))
        done = 0
        for number in range(COUNT):
            path = f"d{number // _EACH}"
            if number % _EACH == 0:
                clock.advance(60)  # the limit of refused tokens for a minute is not what is tested
                known = set(databases.rglob("*.db"))
                await _made(owner, path)
                (own_file,) = set(databases.rglob("*.db")) - known
            sql = statements.one()
            rights = RIGHTS[number % len(RIGHTS)]
            is_looked_at = rights == ("read",) and number % 20 == 0
            kept = await _content(owner, path) if is_looked_at else None
            request = {"action": "query", "sql": sql, "params": [1] if "?1" in sql else []}
            reply = await owner.ask(request, rights, path)
            assert reply.status in {200} | REFUSED, (sql, reply.status, reply.body)
            for text in (OUTSIDE, OTHERS):
                assert text.encode() not in reply.body, sql
            # No statement names the caller's own file, so an answer that does has read the path.
            assert own_file.name.encode() not in reply.body, sql
            done += reply.status == 200
            if kept is not None:
                assert await _content(owner, path) == kept, sql
        assert await _content(other, "app") == others
        rest = {path.name for path in tmp_path.iterdir()}
    assert rest == {"canary.db", "node"}
    assert canary.read_bytes() == before
    assert done > COUNT / 20
