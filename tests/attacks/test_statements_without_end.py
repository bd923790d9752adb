"""Attacks by SQL statements that never end, and their cost in time, memory and disk."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
import sql_processes
from engines import needs_folder
from patience import AT_ONCE_S, PATIENCE_S, until
from running_node import (
    OF_ONE_PRIORITY,
    RunningNode,
    exchange,
    is_alive,
    key_token,
    new_key,
    running_node,
)
from sql_caller import Databases, databases_at
from sql_processes import PROCESSES, busy_sql_children, sql_children
from tests_support import FixedClock
from wire_replay import token_id

from node.config.tree import Sql
from spaces.sql.child import LEAST_LOG_BYTES

pytestmark = needs_folder()

# Both texts differ only in case, so each comparison reads all of them. SQLite looks at a clock
# only at jumps back, and this statement has none.
_TEXTS = (
    "CREATE TABLE t (a TEXT COLLATE NOCASE, b TEXT COLLATE NOCASE)",
    "INSERT INTO t SELECT x || 'a', x || 'A' FROM"
    " (SELECT replace(hex(zeroblob(2400000)), '0', 'x') AS x)",
    "CREATE TABLE last (a)",  # empties the log, so that no later write ends a reader
)
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
STRAIGHT = f"SELECT CASE {'WHEN a<>b THEN 1 ' * 2000}END FROM t"
_WIDE = "CREATE TABLE w (a)"
_FILL = (
    "INSERT INTO w WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30)"
    " SELECT randomblob(100000) FROM n"
)
_REWRITE = "UPDATE w SET a = randomblob(100000)"


async def _filled(owner: Databases) -> None:
    for sql in _TEXTS:
        await owner.execute(sql)


async def _reader_of(owner: Databases, clock: FixedClock) -> tuple[Databases, str]:
    """Return a delegate who may read the owner's database, with its grant."""
    other = Databases(owner.node, owner.session, clock)
    right = {f"{owner.space.text}/sql/app": {"tinycloud.sql/read": [{}]}}
    grant = owner.token_of(right, audience=other.signer.did)
    await owner.post("delegate", grant)
    return other, grant


async def test_a_statement_without_jumps_ends_by_its_deadline(
    tmp_path: Path, clock: FixedClock
) -> None:
    """SQ15: the node stops a statement that SQLite cannot interrupt, and writes continue
    meanwhile."""
    async with databases_at(tmp_path, clock, sql=Sql(read_s=1)) as owner:
        await _filled(owner)
        reading = asyncio.create_task(owner.refused(STRAIGHT))
        await owner.execute("CREATE TABLE other (a)")
        async with asyncio.timeout(AT_ONCE_S):
            status, text = await reading
        assert status == 400 and text.startswith("SQLite error: statement exceeded 1000 ms")


async def test_a_revoked_reader_is_stopped(tmp_path: Path, clock: FixedClock) -> None:
    """SQ29: a statement ends soon after its grant was revoked, long before its deadline."""
    async with databases_at(tmp_path, clock, sql=Sql(read_s=60)) as owner:
        await _filled(owner)
        other, grant = await _reader_of(owner, clock)
        request = {"action": "query", "sql": STRAIGHT}
        reading = asyncio.create_task(other.ask(request, "read", grant=grant, owner=owner))
        await until(lambda: len(busy_sql_children()) > 0)
        await owner.post(
            "revoke",
            owner.token_of({f"urn:cid:{token_id(grant)}": {"tinycloud.delegation/revoke": [{}]}}),
        )
        async with asyncio.timeout(AT_ONCE_S):
            reply = await reading
        assert reply.status == 401
        assert b"revoked" in reply.body
        await owner.execute("CREATE TABLE other (a)")


async def test_several_owners_leave_places_for_others(tmp_path: Path, clock: FixedClock) -> None:
    """SQ29: owners who use their maximum of children leave a child for other owners."""
    async with databases_at(tmp_path, clock, sql=Sql(read_s=60, write_s=60)) as owner:
        slow = []
        for _ in range(PROCESSES // 2):
            stranger = Databases(owner.node, owner.session, clock)
            assert (await stranger.put("a", b"")).status == 200
            await _filled(stranger)
            for _ in range(3):
                slow.append(asyncio.create_task(stranger.refused(STRAIGHT)))
        await until(lambda: len(sql_children()) >= PROCESSES // 2)
        async with asyncio.timeout(AT_ONCE_S):
            assert await owner.query("SELECT 1") == [[1]]
            await owner.execute("CREATE TABLE t (a)")
        assert not any(task.done() for task in slow)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


_USUAL, _LOW, _LAST = (os.SCHED_OTHER, 0), (os.SCHED_OTHER, 19), (os.SCHED_IDLE, 0)


@pytest.mark.parametrize(("budget_s", "priority"), [(1000, _LOW), (0.01, _LAST)])
async def test_an_owner_who_was_slow_goes_on_at_a_lower_priority(
    tmp_path: Path,
    clock: FixedClock,
    monkeypatch: pytest.MonkeyPatch,
    budget_s: float,
    priority: tuple[int, int],
) -> None:
    """SQ29: after a slow statement, its owner's next statements run at low priority, and at the
    lowest one if the budget for slow statements is used up."""
    budget = f"from spaces.sql import priorities; priorities.SLOW_BUDGET_S = {budget_s}; "
    monkeypatch.setattr(sql_processes, "before_keeper", budget)
    async with databases_at(tmp_path, clock, sql=Sql(read_s=1)) as owner:
        stranger = Databases(owner.node, owner.session, clock)
        assert (await stranger.put("a", b"")).status == 200
        await stranger.refused(ENDLESS)
        slow = set(sql_children())
        # A statement of the lowest priority need not get an answer on a busy machine.
        going_on = asyncio.create_task(stranger.ask({"action": "query", "sql": "SELECT 1"}))
        await until(lambda: priority in _priorities(set(sql_children()) - slow))
        of_stranger = slow | set(sql_children())
        await owner.execute("CREATE TABLE t (a)")
        assert _priorities(set(sql_children()) - of_stranger) == {_USUAL}
        await going_on


def _priorities(processes: Iterable[int]) -> set[tuple[int, int]]:
    """Return the policies and nice values of processes."""
    found = set()
    for process in processes:
        with suppress(ProcessLookupError):  # it ended meanwhile
            nice = os.getpriority(os.PRIO_PROCESS, process)
            found.add((os.sched_getscheduler(process), nice))
    return found


async def test_readers_that_wait_leave_room_for_writes(tmp_path: Path, clock: FixedClock) -> None:
    """SQ29: the maximum number of waiting reads does not block a write."""
    async with databases_at(tmp_path, clock, sql=Sql(read_s=60, write_s=60)) as owner:
        await _filled(owner)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            owner.session = session
            waiting = [asyncio.create_task(owner.refused(STRAIGHT)) for _ in range(2)]
            await until(lambda: len(busy_sql_children()) == 2)
            waiting += [asyncio.create_task(owner.refused(STRAIGHT)) for _ in range(300)]
            await until(lambda: any(task.done() for task in waiting))
            async with asyncio.timeout(AT_ONCE_S):
                await owner.execute("CREATE TABLE other (a)")
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


def _longest_log(data: Path) -> int:
    """Return the size of the longest log of a database below a folder."""
    sizes = [0]
    for log in data.rglob("*-wal"):
        try:
            sizes.append(log.stat().st_size)
        except FileNotFoundError:
            continue
    return max(sizes)


async def test_the_log_is_bounded_within_one_transaction(tmp_path: Path, clock: FixedClock) -> None:
    """SQ30: the node stops a request whose rewrite makes the database log longer than its limit."""
    quota_bytes = 16_000_000
    async with databases_at(tmp_path, clock, quota_bytes=quota_bytes) as owner:
        await owner.execute(_WIDE)
        for _ in range(4):
            await owner.execute(_FILL)
        data = owner.node.services.config.data
        left_bytes = quota_bytes - await owner.used_bytes()
        longest = 0

        def is_done() -> bool:
            nonlocal longest
            longest = max(longest, _longest_log(data))
            return writing.done()

        writing = asyncio.create_task(owner.ask({"action": "execute", "sql": _REWRITE}))
        await until(is_done)
        reply = await writing
        assert reply.status == 413
        assert b"One request may change" in reply.body
        assert longest <= LEAST_LOG_BYTES + left_bytes * 1.01
        await owner.execute("INSERT INTO w VALUES (1)")
        assert _longest_log(data) < 1024 * 1024


async def test_a_writer_that_is_ended_leaves_no_long_log(tmp_path: Path, clock: FixedClock) -> None:
    """SQ30: the node removes the log of a request that was stopped at its deadline."""
    without_end = _FILL.replace("i < 30", "i < 1000000")
    async with databases_at(tmp_path, clock, sql=Sql(write_s=1), quota_bytes=1 << 33) as owner:
        await owner.execute(_WIDE)
        data = owner.node.services.config.data
        writing = asyncio.create_task(owner.refused(without_end, action="execute"))
        await until(lambda: _longest_log(data) > 2 * LEAST_LOG_BYTES)
        status, text = await writing
        assert status == 400 and text.startswith("SQLite error: statement exceeded 1000 ms")
        async with asyncio.timeout(AT_ONCE_S):
            await until(lambda: _longest_log(data) < LEAST_LOG_BYTES)


async def test_the_log_is_bounded_beside_a_slow_reader(tmp_path: Path, clock: FixedClock) -> None:
    """SQ30: the node ends a reader that keeps a log from being emptied, and writes continue."""
    async with databases_at(tmp_path, clock, sql=Sql(read_s=60)) as owner:
        await _filled(owner)
        await owner.execute(_WIDE)
        await owner.execute(_FILL)
        reading = asyncio.create_task(owner.refused(STRAIGHT))
        data = owner.node.services.config.data
        bound = max(LEAST_LOG_BYTES, 15_000_000 // 4) + 4_000_000
        for _ in range(20):
            await owner.execute(_REWRITE)
            assert _longest_log(data) <= bound
        async with asyncio.timeout(AT_ONCE_S):
            assert (await reading)[0] == 503


# --- a node of several processes ------------------------------------------------------------------


class _Owner:
    """An owner of a database at a running node, whose connections are kept."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.http = http
        self.signer = new_key()
        self.space = f"tinycloud:{self.signer.did.removeprefix('did:')}:default"

    async def host(self) -> None:
        token = key_token(
            self.signer, self.signer.did, {f"{self.space}/kv/a": ["tinycloud.kv/put"]}
        )
        reply = await exchange(self.http, self.url, "POST", "/invoke", token=token, body=b"")
        assert reply.status == 200

    async def ask(self, sql: str, action: str = "query") -> tuple[int, str]:
        abilities = ["tinycloud.sql/read", "tinycloud.sql/write"]
        token = key_token(self.signer, self.signer.did, {f"{self.space}/sql/app": abilities})
        body = json.dumps({"action": action, "sql": sql}).encode()
        reply = await exchange(self.http, self.url, "POST", "/invoke", token=token, body=body)
        return reply.status, reply.text


@asynccontextmanager
async def _owner_at(node: RunningNode) -> AsyncIterator[_Owner]:
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        owner = _Owner(node.url, http)
        await owner.host()
        for sql in _TEXTS:
            status, text = await owner.ask(sql, "execute")
            assert status == 200, text
        yield owner


def _memory_bytes(process: int) -> int:
    """Return the size of a process's anonymous memory in bytes."""
    fields = Path(f"/proc/{process}/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGESIZE")


@pytest.mark.slow
async def test_SIGTERM_ends_a_node_while_statements_run(tmp_path: Path) -> None:
    """SQ29: SIGTERM stops a node cleanly while statements run."""
    environment = {"SEALSPACE_SQL__READ_S": "60", "SEALSPACE_HTTP__DRAIN_S": "1"}
    with running_node(
        tmp_path, workers=2, environment=environment, command=OF_ONE_PRIORITY
    ) as node:
        async with _owner_at(node) as owner:
            asking = [asyncio.create_task(owner.ask(STRAIGHT)) for _ in range(4)]
            await until(lambda: len(busy_sql_children(node.process.pid)) >= 2)
            children = sql_children(node.process.pid)
            node.process.send_signal(signal.SIGTERM)
            await until(lambda: node.process.poll() is not None)
            await asyncio.gather(*asking, return_exceptions=True)
        stopped = json.loads(node.wait_for(r'^\{.*"node-stopped".*\}$').group())
        assert stopped["forced"] is False
        await until(lambda: not any(is_alive(child) for child in children))


@pytest.mark.slow
async def test_rows_are_not_in_the_memory_of_a_worker(tmp_path: Path) -> None:
    """SQ29: large rows are in the memory of a child process only, and that child is not reused."""
    environment = {"SEALSPACE_SQL__READ_S": "60"}
    with running_node(
        tmp_path, workers=1, environment=environment, command=OF_ONE_PRIORITY
    ) as node:
        async with _owner_at(node) as owner:
            await owner.ask("CREATE TABLE m (a)", "execute")
            text = "replace(hex(zeroblob(4800000)), '0', 'A') || char(128512)"
            status, told = await owner.ask(f"INSERT INTO m SELECT {text}", "execute")
            assert status == 200, told
            (worker,) = node.children("worker")
            before = _memory_bytes(worker)
            for _ in range(12):
                status, _ = await owner.ask("SELECT a, a, a, a, a, a, a, a, a, a FROM m")
                assert status in (413, 503)
            assert _memory_bytes(worker) - before < 48 * 1024 * 1024
            assert (await owner.ask("SELECT 1"))[0] == 200
            await until(
                lambda: all(
                    _memory_bytes(child) < 64 * 1024 * 1024
                    for child in sql_children(node.process.pid)
                )
            )


@pytest.mark.slow
async def test_the_keeper_is_started_again(tmp_path: Path) -> None:
    """SQ29: if the keeper is killed, statements get 503 until a new keeper starts."""
    environment = {"SEALSPACE_SQL__READ_S": "60"}
    with running_node(
        tmp_path, workers=2, environment=environment, command=OF_ONE_PRIORITY
    ) as node:
        async with _owner_at(node) as owner:
            asking = asyncio.create_task(owner.ask(STRAIGHT))
            await until(lambda: len(busy_sql_children(node.process.pid)) > 0)
            children = sql_children(node.process.pid)
            (keeper,) = node.children("sqlkeeper")
            os.kill(keeper, signal.SIGKILL)
            assert (await asking)[0] == 503
            async with asyncio.timeout(PATIENCE_S):
                while (await owner.ask("SELECT count(*) FROM t"))[0] != 200:
                    await until(lambda: len(node.children("sqlkeeper")) == 1)
            await until(lambda: not any(is_alive(child) for child in children))
