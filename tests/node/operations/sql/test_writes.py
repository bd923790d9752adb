"""Tests of SQL writes: transactions, their record in the store, and the quota."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from attacks.held_store import HeldStore, held_node
from audit_records import audit_records
from patience import PATIENCE_S
from sql_caller import Databases, databases_at
from sql_processes import sql_children
from tests_support import FixedClock
from wire_replay import token_id

from node.config.tree import Config, Http, Store
from spaces.keyspace import DATABASES_PREFIX
from spaces.store.contract import Commit, Committed, Refused

TABLE = "CREATE TABLE t (a, b)"


@pytest.fixture
async def held(tmp_path: Path, clock: FixedClock) -> AsyncIterator[tuple[Databases, HeldStore]]:
    """An owner of databases at a node whose store can delay a commit."""
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path)))
    async with held_node(config, clock=clock) as (node, store), aiohttp.ClientSession() as session:
        owner = Databases(node, session, clock)
        assert (await owner.put("a", b"")).status == 200
        yield owner, store


def writes_database(commit: Commit) -> bool:
    """Return whether a commit records a write in a database."""
    return any(put.key.startswith(DATABASES_PREFIX) for put in commit.puts)


async def test_a_revocation_before_the_commit_undoes_a_write(
    held: tuple[Databases, HeldStore],
) -> None:
    """A write leaves nothing if its grant is revoked while its statements run (SQ12)."""
    owner, store = held
    await owner.execute(TABLE)
    other = Databases(owner.node, owner.session, owner.clock)
    right = {f"{owner.space.text}/sql/app": {"tinycloud.sql/write": [{}]}}
    grant = owner.token_of(right, audience=other.signer.did)
    await owner.post("delegate", grant)
    insert = {"action": "execute", "sql": "INSERT INTO t VALUES (1, 2)"}
    hold = store.hold(writes_database)
    asking = asyncio.create_task(other.ask(insert, "write", grant=grant, owner=owner))
    await asyncio.wait_for(hold.reached.wait(), PATIENCE_S)
    revocation = {f"urn:cid:{token_id(grant)}": {"tinycloud.delegation/revoke": [{}]}}
    await owner.post("revoke", owner.token_of(revocation))
    hold.go.set()
    reply = await asking
    assert reply.status == 401
    assert b"revoked" in reply.body
    assert [type(outcome) for outcome in hold.outcomes] == [Refused]
    assert await owner.query("SELECT count(*) FROM t") == [[0]]


async def test_others_see_a_write_after_its_commit(held: tuple[Databases, HeldStore]) -> None:
    """A write that waits for the store's commit is not visible to reads, which do not wait for it
    (SQ11)."""
    owner, store = held
    await owner.execute(TABLE)
    hold = store.hold(writes_database)
    writing = asyncio.create_task(owner.execute("INSERT INTO t VALUES (1, 2)"))
    await asyncio.wait_for(hold.reached.wait(), PATIENCE_S)
    assert await owner.query("SELECT count(*) FROM t") == [[0]]
    hold.go.set()
    assert (await writing)["changes"] == 1
    assert await owner.query("SELECT count(*) FROM t") == [[1]]
    assert [type(outcome) for outcome in hold.outcomes] == [Committed]


async def test_the_size_is_read_again_if_a_commit_is_lost(
    held: tuple[Databases, HeldStore],
) -> None:
    """If a database's process ends before its commit, the write is 503 and the recorded size is
    that of the file (SQ12)."""
    owner, store = held
    await owner.execute(TABLE)
    before = await owner.used_bytes()
    hold = store.hold(writes_database)
    large = {"action": "execute", "sql": "INSERT INTO t VALUES (zeroblob(500000), 2)"}
    writing = asyncio.create_task(owner.ask(large))
    await asyncio.wait_for(hold.reached.wait(), PATIENCE_S)
    for child in sql_children():
        os.kill(child, signal.SIGKILL)
    hold.go.set()
    assert (await writing).status == 503
    assert await owner.query("SELECT count(*) FROM t") == [[0]]
    assert await owner.used_bytes() == before


async def test_requests_leave_nothing_behind(owner: Databases) -> None:
    """Pragmas, temporary tables and `last_insert_rowid()` do not reach the next request (SQ11)."""
    await owner.execute(TABLE)
    await owner.execute("INSERT INTO t VALUES (1, 2)")
    assert await owner.query("SELECT last_insert_rowid()") == [[0]]
    for sql in ("CREATE TEMP TABLE x (a)", "BEGIN", "SAVEPOINT a", "COMMIT", "ROLLBACK"):
        status, text = await owner.refused(sql, "admin")
        assert (status, text) == (
            403,
            f"Permission denied: Statement type not allowed: {sql}",
        )
    assert (await owner.refused("PRAGMA foreign_keys = OFF", "admin"))[0] == 403
    assert (await owner.refused("PRAGMA user_version = 7", "admin"))[0] == 200
    _, text = await owner.refused("PRAGMA user_version", "admin")
    assert json.loads(text)["rows"] == [[7]]


async def test_the_schema_runs_with_the_statement(owner: Databases) -> None:
    """Statements in `schema` come first, in the same transaction (SQ11, SQ4)."""
    request = {"action": "execute", "sql": "INSERT INTO t VALUES (1, 2)", "schema": [TABLE]}
    assert json.loads((await owner.ask(request)).body) == {"changes": 1, "lastInsertRowId": 1}
    again = await owner.ask(request)
    assert (again.status, again.body[:41]) == (400, b"SQLite error: table t already exists in C")
    failing = {**request, "sql": "INSERT INTO nosuch VALUES (1)", "schema": ["DELETE FROM t"]}
    assert (await owner.ask(failing)).status == 400
    assert await owner.query("SELECT count(*) FROM t") == [[1]]
    two = {**request, "schema": ["PRAGMA user_version; DELETE FROM t"]}
    reply = await owner.ask(two, "admin")
    assert reply.body == b"Invalid statement: Exactly one SQL statement is required"


async def test_writes_and_exports_are_audited_without_values(owner: Databases) -> None:
    """The audit log names database and tables, and no value (SQ12, SQ13)."""
    await owner.execute(TABLE)
    await owner.execute("INSERT INTO t VALUES ('hush', 2)")
    await owner.query("SELECT * FROM t")
    assert (await owner.ask({"action": "export"}, "read")).status == 200
    records = [
        record
        for record in await audit_records(owner.node.services.store)
        if record.action.startswith("sql.")
    ]
    subject = f"{owner.space.text}/sql/app"
    assert sorted((one.action, one.subject, one.detail) for one in records) == [
        ("sql.export", subject, b""),
        ("sql.write", subject, b"t"),
        ("sql.write", subject, b"t"),
    ]
    assert {one.actor for one in records} == {owner.signer.did}


async def test_a_full_space_cannot_grow(tmp_path: Path, clock: FixedClock) -> None:
    """A write beyond the quota is 402. One that needs no more pages is not, and deleting rows frees
    space (SQ14)."""
    async with databases_at(tmp_path, clock, quota_bytes=100_000) as owner:
        await owner.execute(TABLE)
        filled = "INSERT INTO t VALUES (1, zeroblob(50000))"
        await owner.execute(filled)
        before = await owner.used_bytes()
        status, text = await owner.refused(filled)
        assert (status, json.loads(text)) == (
            402,
            {
                "error": "storage_quota_exceeded",
                "message": f"Storage quota exceeded. Used: {before} bytes, Limit: 100000 bytes",
                "space": {"usedBytes": before, "limitBytes": 100_000},
            },
        )
        assert await owner.query("SELECT count(*) FROM t") == [[1]]
        assert await owner.used_bytes() == before
        await owner.put("rest", b"x" * (100_000 - before))
        growing = "INSERT INTO t VALUES (3, zeroblob(5000))"
        for sql in (growing, "CREATE TABLE u (a)", f"WITH s AS (SELECT 1) {growing}"):
            assert (await owner.refused(sql))[0] == 402, sql
        full = await owner.used_bytes()
        for sql in (
            "INSERT INTO t VALUES (3, 3)",
            "UPDATE t SET a = 5 WHERE a = 3",
            "CREATE TABLE IF NOT EXISTS t (a)",
            "ALTER TABLE t RENAME TO v",
            "ALTER TABLE v RENAME TO t",
            "SELECT a FROM t",
        ):
            assert (await owner.refused(sql))[0] == 200, sql
        assert await owner.used_bytes() == full
        assert (await owner.refused("DELETE FROM t"))[0] == 200
        assert await owner.used_bytes() < 60_000
        await owner.execute(filled)
