"""Limits on time, on open databases and on their number."""

import asyncio
import json
from pathlib import Path

import pytest
from live_processes import looks_inside
from patience import PATIENCE_S, until
from sql_caller import Databases, databases_at
from sql_processes import sql_children
from tests_support import FixedClock

from node.config.tree import Sql
from spaces.sql.keeper import READS_OF_AN_OWNER

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


async def test_a_statement_ends_by_its_deadline(tmp_path: Path, clock: FixedClock) -> None:
    """A statement that never ends is stopped, and its database stays usable (SQ15)."""
    async with databases_at(tmp_path, clock, sql=Sql(read_s=0.1, write_s=0.2)) as owner:
        await owner.execute("CREATE TABLE t (a)")
        for sql, most_ms in ((ENDLESS, 100), (f"INSERT INTO t {ENDLESS}", 200)):
            status, text = await owner.refused(sql)
            assert status == 400
            # On a loaded machine it also says how little the statement computed.
            assert text.startswith(f"SQLite error: statement exceeded {most_ms} ms")
        # Of a slow owner, further statements begin at low priority, and may be late on a loaded
        # machine.
        request = {"action": "query", "sql": "SELECT count(*) FROM t"}
        async with asyncio.timeout(PATIENCE_S):
            while (reply := await owner.ask(request, "read")).status != 200:
                pass
        assert json.loads(reply.body)["rows"] == [[0]]


async def test_a_slow_space_leaves_threads_for_others(tmp_path: Path, clock: FixedClock) -> None:
    """While a space runs all it may, another one is answered (SQ15)."""
    async with databases_at(tmp_path, clock, sql=Sql(read_s=60, write_s=60)) as owner:
        await owner.execute("CREATE TABLE t (a)", path="other")
        other = Databases(owner.node, owner.session, clock)
        assert (await other.put("a", b"")).status == 200
        slow = [
            asyncio.create_task(owner.query(ENDLESS, path=f"p{number % 3}")) for number in range(9)
        ]
        assert await asyncio.wait_for(other.query("SELECT 1"), PATIENCE_S) == [[1]]
        assert not any(task.done() for task in slow)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        # The clients have gone, so their statements are stopped.
        assert await asyncio.wait_for(owner.query("SELECT 1", path="p0"), PATIENCE_S) == [[1]]


async def test_requests_that_wait_too_long_are_refused(tmp_path: Path, clock: FixedClock) -> None:
    """A request that waits for others of its owner for too long is 503 (SQ15)."""
    async with databases_at(tmp_path, clock, sql=Sql(read_s=3, write_s=0.1)) as owner:
        slow = [asyncio.create_task(owner.refused(ENDLESS)) for _ in range(READS_OF_AN_OWNER)]
        await until(lambda: len(sql_children()) == READS_OF_AN_OWNER)
        assert (await owner.refused("SELECT 1"))[0] == 503
        for task in slow:
            assert (await task)[0] == 400


async def test_a_space_has_a_limited_number_of_databases(owner: Databases) -> None:
    """The 65th database of a space is 429; reading many names creates nothing (SQ16)."""
    for number in range(100):
        assert await owner.query("SELECT 1", path=f"r{number}") == [[1]]
    for number in range(64):
        await owner.execute("CREATE TABLE t (a)", path=f"d{number}")
    create = {"action": "execute", "sql": "CREATE TABLE t (a)"}
    reply = await owner.ask(create, path="d64")
    assert (reply.status, reply.body) == (429, b"Too many databases in this space")
    assert (await owner.refused("SELECT 1"))[0] == 200
    assert await owner.query("SELECT name FROM sqlite_schema", path="d0") == [["t"]]
    assert len(list((owner.node.services.config.data / "sql").rglob("*.db"))) == 64


def _open_databases(process: int) -> set[str]:
    """Return the names of the database files that a process has open."""
    opened: set[str] = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        target = descriptor.readlink()
        if target.suffix == ".db":
            opened.add(target.name)
    return opened


@looks_inside
async def test_all_databases_of_a_space_stay_open(owner: Databases) -> None:
    """A process that writes to all 64 databases of a space in turn keeps each of them open."""
    for number in range(64):
        await owner.execute("CREATE TABLE t (a)", path=f"d{number}")
    for number in range(64):
        await owner.execute(f"INSERT INTO t VALUES ({number})", path=f"d{number}")
    # Another process serves the space as long as it has no database.
    numbers_open = [len(_open_databases(child)) for child in sql_children()]
    assert max(numbers_open) == 64
    for number in range(64):
        assert await owner.query("SELECT a FROM t", path=f"d{number}") == [[number]]


async def test_databases_that_are_created_at_the_same_time(owner: Databases) -> None:
    """Requests that create databases together are counted too (SQ16)."""
    create = {"action": "execute", "sql": "CREATE TABLE t (a)"}
    replies = await asyncio.gather(*(owner.ask(create, path=f"d{place}") for place in range(80)))
    assert sum(reply.status == 200 for reply in replies) <= 65
    assert {reply.status for reply in replies} == {200, 429}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT length(hex(zeroblob(400000000)))",
        "SELECT length(printf('%.*c', 100000000, 'x'))",
        "SELECT " + "+".join(["1"] * 1000),
        " UNION ALL ".join(["SELECT 1"] * 101),
        "SELECT " + ",".join(["1"] * 501),
        "SELECT replace(hex(zeroblob(4000000)), '0', 'aaaaaaaaaaaaaaaa')",
        "SELECT group_concat(hex(randomblob(5000))) FROM json_each('[" + "1," * 3000 + "1]')",
    ],
)
async def test_values_and_expressions_are_limited(owner: Databases, sql: str) -> None:
    """Values, expressions and patterns beyond the limits are refused with 400 (SQ16)."""
    status, text = await owner.refused(sql)
    assert (status, text[:14]) in {(400, "SQLite error: "), (400, "Parse error: ")}, text[:200]


async def test_memory_for_sorting_is_limited(tmp_path: Path, clock: FixedClock) -> None:
    """A statement that collects rows for sorting is stopped by the memory limit (SQ16)."""
    async with databases_at(tmp_path, clock, sql=Sql(read_s=30)) as owner:
        status, text = await owner.refused(
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 100000)"
            " SELECT length(y) FROM (SELECT randomblob(9000) AS y FROM c ORDER BY y) LIMIT 1"
        )
        assert (status, text) == (503, "The store is busy")
        assert await owner.query("SELECT 1") == [[1]]
