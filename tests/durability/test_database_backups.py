"""SQL databases in backups, restores, checks and moves, by the operator's commands."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from durability.backups import said
from engines import needs_folder
from forked_programs import forked_program
from running_node import Reply, key_token, new_key, running_node, send

from capabilities.resources import parse_space_id
from spaces.sql.database_rows import DatabaseName, file_of

pytestmark = [pytest.mark.slow, needs_folder()]

OWNER = new_key()
SPACE = f"tinycloud:{OWNER.did.removeprefix('did:')}:default"
DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda _: None,
    "cut": lambda whole: whole[: len(whole) // 2],
    "header": lambda whole: b"x" * 100 + whole[100:],
    "page": lambda whole: whole[:4096] + b"\xff" * (len(whole) - 4096),
}
"""The contents of a damaged file, by the path of its database; None: there is no file."""
WHOLE = "two/deep"
PATHS = (*DAMAGES, WHOLE)
"""The databases of the owner."""


def shown(*arguments: str) -> tuple[int, list[str], str]:
    """Run a command; return its status, the lines of its output, and its messages."""
    command = [forked_program("sealspace"), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


class Caller:
    """The owner of databases on a running node."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def host(self) -> None:
        """Host the space of databases."""
        token = key_token(OWNER, OWNER.did, {f"{SPACE}/kv/a": ["tinycloud.kv/put"]})
        reply = await send(self.url, "POST", "/invoke", token=token, body=b"")
        assert reply.status == 200, reply.said

    async def ask(self, request: object, path: str) -> Reply:
        """Send a request with a token for all rights."""
        token = key_token(OWNER, OWNER.did, {f"{SPACE}/sql/{path}": ["tinycloud.sql/*"]})
        body = json.dumps(request).encode()
        return await send(self.url, "POST", "/invoke", token=token, body=body)

    async def run(self, *statements: str, path: str) -> None:
        """Run statements in one transaction, which must succeed."""
        batch = {"action": "batch", "statements": [{"sql": sql} for sql in statements]}
        reply = await self.ask(batch, path)
        assert reply.status == 200, reply.said

    async def rows(self, sql: str, path: str) -> Any:
        """Return the rows of a query that must succeed."""
        reply = await self.ask({"action": "query", "sql": sql}, path)
        assert reply.status == 200, reply.said
        return json.loads(reply.body)["rows"]


@contextmanager
def served(folder: Path) -> Iterator[Caller]:
    """Serve a folder that may contain a data folder."""
    with running_node(folder, workers=1) as node:
        yield Caller(node.url)
        assert node.stop() == 0


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a node with databases, which was stopped."""
    folder = tmp_path_factory.mktemp("used")

    async def use() -> None:
        with served(folder) as caller:
            await caller.host()
            for path in PATHS:
                await caller.run(
                    "CREATE TABLE t (n INTEGER PRIMARY KEY, v TEXT UNIQUE)",
                    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 900)"
                    " INSERT INTO t SELECT n, hex(randomblob(20)) FROM c",
                    path=path,
                )

    asyncio.run(use())
    return folder / "data"


def files(data: Path) -> list[Path]:
    return sorted((data / "sql").glob("*/*.db"))


async def test_BK10_a_backup_of_databases_in_use(tmp_path: Path) -> None:
    """A backup has everything acknowledged before it, and each transaction completely or not at
    all."""
    with served(tmp_path / "node") as caller:
        await caller.host()
        await caller.run("CREATE TABLE t (n INTEGER, half INTEGER)", path="app")
        written, is_over = 0, asyncio.Event()

        async def write() -> None:
            nonlocal written
            while not is_over.is_set():
                halves = [f"INSERT INTO t VALUES ({written + 1}, {half})" for half in (1, 2)]
                await caller.run(*halves, path="app")
                written += 1

        writing = asyncio.create_task(write())
        taken: list[tuple[Path, int, int]] = []
        try:
            for number in range(3):
                file, least = tmp_path / f"backup-{number}", written
                arguments = ("admin", "backup", str(file), "--data", str(tmp_path / "node/data"))
                document = await asyncio.to_thread(said, *arguments)
                assert document["databases"] == 1
                assert document["leftOut"] == []
                taken.append((file, least, written + 1))
        finally:
            is_over.set()
            await writing
    assert written > 0
    for file, least, most in taken:
        data = tmp_path / f"restored-{file.name}" / "data"
        assert (
            said("admin", "restore", str(file), "--data", str(data), "--as-new")["databases"] == 1
        )
        assert said("admin", "check", "--data", str(data))["findings"] == []
        (database,) = files(data)
        copy = rows_of_file(database)
        numbers = [n for n, _ in copy]
        assert least <= len(numbers) // 2 <= most
        assert copy == [(n, half) for n in range(1, len(numbers) // 2 + 1) for half in (1, 2)]


def rows_of_file(database: Path) -> list[Any]:
    """Return the rows of the table `t` of a file."""
    with apsw.Connection(str(database)) as connection:
        rows: list[tuple[int, int]] = list(
            connection.execute("SELECT n, half FROM t ORDER BY 1, 2")
        )
    return rows


def test_BK10_restored_databases_are_in_their_places(used: Path, tmp_path: Path) -> None:
    """Databases have the same names and contents after a restore, and mode 0600."""
    file, data = tmp_path / "backup", tmp_path / "data"
    assert said("admin", "backup", str(file), "--data", str(used))["databases"] == len(PATHS)
    assert said("admin", "restore", str(file), "--data", str(data), "--as-new")["leftOut"] == []
    assert {named(data, place) for place in files(data)} == set(PATHS)
    assert {place.stat().st_mode & 0o777 for place in files(data)} == {0o600}
    for place in files(data):
        with (
            apsw.Connection(str(place)) as there,
            apsw.Connection(str(used / place.relative_to(data))) as here,
        ):
            rows = here.execute("SELECT * FROM t").fetchall()
            assert len(rows) == 900
            assert there.execute("SELECT * FROM t").fetchall() == rows


@pytest.fixture
def used_again(used: Path, tmp_path: Path) -> Path:
    """The folder of a node that served a copy of the databases, without their logs."""
    folder = tmp_path / "node"
    shutil.copytree(used.parent, folder)

    async def use() -> None:
        with served(folder) as caller:
            await caller.rows("SELECT 1", WHOLE)

    asyncio.run(use())
    for leftover in (folder / "data" / "sql").rglob("*.db-*"):
        leftover.unlink()
    return folder


async def test_a_damaged_database_is_named(used_again: Path) -> None:
    """`check` names each damaged database, and the node answers 500 for those alone (BK9)."""
    data = used_again / "data"
    for place in files(data):
        path = named(data, place)
        if path == WHOLE:
            continue
        contents = DAMAGES[path](place.read_bytes())
        place.unlink() if contents is None else place.write_bytes(contents)
    status, lines, _ = shown("admin", "check", "--data", str(data))
    assert (status, len(lines)) == (1, len(DAMAGES))
    for path in DAMAGES:
        (line,) = [one for one in lines if f" database '{path}' of " in one]
        assert line.startswith(f"damage: row database '{path}' of {SPACE}, file ")
    with served(used_again) as caller:
        for path in DAMAGES:
            asked = {"action": "query", "sql": "SELECT sum(length(v)) FROM t"}
            reply = await caller.ask(asked, path)
            assert reply.status == 500, (path, reply.said)
        assert await caller.rows("SELECT count(*) FROM t", WHOLE) == [[900]]


def named(data: Path, file: Path) -> str:
    """Return the path of a database in its space."""
    for path in PATHS:
        if file_of(DatabaseName(parse_space_id(SPACE), path).key) == str(
            file.relative_to(data / "sql")
        ):
            return path
    raise AssertionError(file)


def test_a_missing_database_is_left_out_of_a_backup(used: Path, tmp_path: Path) -> None:
    """A backup without a missing database contains the others, and names the missing one."""
    data, file = tmp_path / "data", tmp_path / "backup"
    shutil.copytree(used, data)
    missing = files(data)[0]
    missing.unlink()
    name = str(missing.relative_to(data))
    status, _, messages = shown("admin", "backup", str(file), "--data", str(data))
    assert status == 1
    reason = "the database cannot be read (CantOpenError)"
    assert f"left out: {name}: missing or damaged in the store: {reason}" in messages
    status, _, messages = shown("admin", "restore", str(file), "--data", str(tmp_path / "there"))
    assert status == 1
    assert f"missing: {name}: " in messages


def test_a_database_in_use_is_not_called_damaged(used: Path, tmp_path: Path) -> None:
    """A backup says why it left a database out. One that another process uses is not called
    damaged (BK10)."""
    data = tmp_path / "data"
    shutil.copytree(used, data)
    file = files(data)[0]
    name = str(file.relative_to(data))
    with closing(apsw.Connection(str(file))) as other:
        other.pragma("locking_mode", "exclusive")
        with other:
            other.execute("CREATE TABLE other (n)")
        arguments = ("admin", "backup", str(tmp_path / "backup"), "--data", str(data), "--json")
        status, (line,), messages = shown(*arguments)
    assert status == 1
    reason = "not copied: another process uses the database; repeat this later"
    assert f"left out: {name}: {reason}" in messages and "damaged" not in messages
    summary = json.loads(line)
    assert summary["leftOut"] == [name]
    assert summary["leftOutReasons"] == {name: reason}
    assert summary["databases"] == len(PATHS) - 1


@pytest.mark.parametrize("command", ["migrate-store", "restore"])
def test_a_store_with_databases_does_not_move_to_a_database_server(
    used: Path, tmp_path: Path, command: str
) -> None:
    """A move of a store with SQL databases to a database server is refused before anything is
    written."""
    url = "postgresql://nowhere.example/none"
    arguments: Sequence[str] = ("--data", str(used), "--to", "postgresql")
    if command == "restore":
        said("admin", "backup", str(tmp_path / "backup"), "--data", str(used))
        arguments = (str(tmp_path / "backup"), "--data", str(tmp_path / "there"))
    status, _, messages = shown("admin", command, *arguments, "--store", url)
    assert status != 0
    assert "the store contains SQL databases" in messages
    assert "export the databases that are needed" in messages
    assert not (tmp_path / "there").exists()
