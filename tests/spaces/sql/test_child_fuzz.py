"""Random statements, and random bytes, at the pipe of a process that runs statements.

`SQL_FUZZ=1000000` sets the number of statements; `make fuzz` does.
"""

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sql_fuzz import Statements
from sql_processes import sql_processes

from capabilities.resources import parse_space_id
from capabilities.sql_caveats import UNLIMITED
from spaces.space_errors import SpaceError
from spaces.sql.database_rows import DATABASES_FOLDER, DatabaseName
from spaces.sql.databases import Databases, Lease
from spaces.sql.frames import FromChild, MessageInvalid, MessageReader, Run, ToChild, framed
from spaces.sql.guard import ADMIN, READ, SCHEMA, WRITE, WriteNeeded
from spaces.sql.requests import Batch, Query, Statement

COUNT = int(os.environ.get("SQL_FUZZ", "2000"))
SEED = int(os.environ.get("SQL_FUZZ_SEED", "1"))
CANARY = "canary in a file outside the database"
_EACH = 500  # statements of one database
_RIGHTS = [
    frozenset(rights)
    for rights in ((READ,), (WRITE, READ, SCHEMA), (SCHEMA,), (READ, WRITE, SCHEMA, ADMIN))
]
_TABLES = (
    "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)",
    "CREATE TABLE private (id INTEGER PRIMARY KEY, secret TEXT)",
    "INSERT INTO notes VALUES (1, 'one'), (2, 'two')",
    "INSERT INTO private VALUES (1, 'hush')",
)
_SPACE = parse_space_id("tinycloud:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp:default")


async def _unwatched() -> None:
    """Replace the checks that the caller is still connected and still has its rights."""


def _run(lease: Lease, work: Query | Batch, rights: frozenset[str], *, writes: bool) -> Run:
    return Run(
        file=lease.file,
        creates=writes,
        writes=writes,
        wait_s=10,
        free_bytes=None,
        rights=rights,
        limits=UNLIMITED,
        work=work,
    )


@pytest.fixture
async def databases(tmp_path: Path) -> AsyncIterator[Databases]:
    """The databases of a node, whose processes run."""
    data = tmp_path / "data"
    with sql_processes(data) as socket:
        made = Databases(data / DATABASES_FOLDER, socket, wait_s=30)
        yield made
        made.close()


@pytest.mark.slow
async def test_fuzz_no_statement_reaches_another_file(tmp_path: Path, databases: Databases) -> None:
    """SQ8, SQ29: no statement makes its process read or write another file than its database. The
    answer is a result or a typed error."""
    canary, out = tmp_path / "canary.db", tmp_path / "out.db"
    with apsw.Connection(str(canary)) as other:
        other.execute("CREATE TABLE notes (a)")
        other.execute("INSERT INTO notes VALUES (?)", (CANARY,))
    before = canary.read_bytes()
    statements = Statements(SEED, (str(canary), str(out)))
    done = 0
    for first in range(0, COUNT, _EACH):
        name = DatabaseName(_SPACE, f"d{first}")
        done += await _random_statements(databases, name, statements)
    assert sorted(place.name for place in tmp_path.iterdir()) == ["canary.db", "data"]
    assert canary.read_bytes() == before
    for place in (tmp_path / "data" / DATABASES_FOLDER).rglob("*"):
        assert place.is_dir() or place.name.endswith((".db", ".db-wal", ".db-shm")), place
    assert done > COUNT / 20


async def _random_statements(
    databases: Databases, name: DatabaseName, statements: Statements
) -> int:
    """Run statements in a new database, and return how many succeeded."""
    done, number = 0, 0
    tables = Batch([Statement(sql) for sql in _TABLES])
    async with databases.lease(name, writes=True, has_file=True) as lease:
        await lease.run(_run(lease, tables, _RIGHTS[-1], writes=True), 30, _unwatched)
        await lease.commit()
    while number < _EACH:
        # A new lease after each error that ended the process.
        with suppress(SpaceError):
            async with databases.lease(name, writes=True, has_file=True) as lease:
                while number < _EACH:
                    number += 1
                    rights = _RIGHTS[number % len(_RIGHTS)]
                    if await _one(lease, statements.one(), rights):
                        done += 1
    return done


async def _one(lease: Lease, sql: str, rights: frozenset[str]) -> bool:
    """Run one statement, commit it if it writes, and return whether it succeeded."""
    writes = WRITE in rights or SCHEMA in rights
    work = Query(sql, [1] if "?1" in sql else [])
    try:
        ran = await lease.run(_run(lease, work, rights, writes=writes), 2, _unwatched)
        if writes:
            await lease.commit()
    except (SpaceError, WriteNeeded) as error:
        assert CANARY not in str(error), sql
        if not lease.is_clean:
            raise
        return False
    assert CANARY.encode() not in ran.body, sql
    return True


@given(data=st.binary(max_size=200), kind=st.sampled_from([FromChild, ToChild]))
def test_fuzz_any_bytes_are_a_message_or_an_error(data: bytes, kind: object) -> None:
    """SQ29: a worker reads any bytes of a child as a message of a known type, or raises an
    error."""
    reader = MessageReader(kind, 1000)
    with suppress(MessageInvalid):
        reader.feed(data)
    reader = MessageReader(kind, 1000)
    with suppress(MessageInvalid):
        reader.feed(len(data).to_bytes(4, "big") + data)


def test_a_long_message_is_refused_before_it_is_read() -> None:
    """SQ29: the length of a message is bounded before its bytes are collected."""
    reader = MessageReader(FromChild, 1000)
    with pytest.raises(MessageInvalid):
        reader.feed((1001).to_bytes(4, "big"))
    with pytest.raises(MessageInvalid):
        MessageReader(FromChild, 10_000).feed(framed(Batch([])))
