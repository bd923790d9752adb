"""Tests of the database that a token names, and of the access to it."""

import json
from pathlib import Path

import aiohttp
import pytest
from embedded_node import embedded_node
from kv_client import Owner
from postgres_server import needs_postgres, postgres_server
from sql_caller import Databases
from tests_support import FixedClock

from capabilities.strict_json import Json
from node.config.tree import Config, Hosting, Http, Store

SELECT = {"action": "query", "sql": "SELECT 1"}
TABLES = {"action": "query", "sql": "SELECT name FROM sqlite_schema"}


def grants(owner: Owner, *paths: str, ability: str = "read") -> dict[str, dict[str, list]]:
    plain: list[dict[str, Json]] = [{}]
    return {f"{owner.space.text}/sql{path}": {f"tinycloud.sql/{ability}": plain} for path in paths}


async def test_a_database_is_named_by_its_whole_path(owner: Databases) -> None:
    """Databases in two folders are separate, and an empty path means `default` (SQ1)."""
    for path in ("one/data", "two/data", "data", "Data", "d%2Fata", "default"):
        assert await owner.query("SELECT name FROM sqlite_schema", path=path) == []
        await owner.execute("CREATE TABLE t (a)", path=path)
    assert json.loads((await owner.ask(TABLES, "read", None)).body)["rows"] == [["t"]]
    for path in ("", "a/", "/"):
        assert (await owner.ask(SELECT, "read", path)).status == 400
    assert (await owner.ask(SELECT, "read", "x" * 1024)).status == 200
    assert (await owner.ask(SELECT, "read", "x" * 1025)).status == 400


async def test_a_token_is_for_one_database(owner: Databases) -> None:
    """Several spaces or paths are refused; a capability without a path joins the other (SQ3)."""
    body = json.dumps(TABLES).encode()
    await owner.execute("CREATE TABLE t (a)", path="a")
    both = await owner.invoke(token=owner.token_of(grants(owner, "", "/a")), body=body)
    assert json.loads(both.body)["rows"] == [["t"]]
    two = await owner.invoke(token=owner.token_of(grants(owner, "/a", "/b")), body=body)
    assert (two.status, two.body.decode()) == (
        400,
        "Ambiguous sql capabilities span multiple database paths",
    )
    other = f"{owner.space_named('other').text}/sql/a"
    assert (await owner.invoke(("put", "a"), body=b"", space="other")).status == 200
    asked = {**grants(owner, "/a"), other: {"tinycloud.sql/read": [{}]}}
    reply = await owner.invoke(token=owner.token_of(asked), body=body)
    assert reply.body.decode() == "Ambiguous sql capabilities span multiple spaces"


async def test_authorisation_comes_before_everything_else(owner: Databases) -> None:
    """A stranger and an unhosted space get the same answers whatever the request is (SQ3)."""
    stranger = Databases(owner.node, owner.session, owner.clock)
    for paths in (("/a",), ("/a", "/b"), ("/a/",)):
        token = stranger.token_of(grants(owner, *paths))
        reply = await stranger.invoke(token=token, body=b"{")
        assert (reply.status, reply.body) == (401, b"Cannot find parent delegation")
    reply = await stranger.ask(b"{")
    assert (reply.status, reply.body) == (404, b"Space not found")
    token = owner.token_of(grants(owner, "/a"))
    assert (await owner.invoke(token=token, body=b"{")).status == 400
    again = await owner.invoke(token=token, body=json.dumps(SELECT).encode())
    assert (again.status, again.body) == (409, b"duplicate invocation")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'["query","SELECT 1"]',
        b'{"sql":"SELECT 1"}',
        b'{"action":"drop"}',
        b'{"action":"query"}',
        b'{"action":"query","sql":1}',
        b'{"action":"query","sql":"SELECT 1","sql":"SELECT 2"}',
        b'{"action":"query","sql":"SELECT 1","params":null}',
        b'{"action":"query","sql":"SELECT 1","maxRows":1.5}',
        b'{"action":"batch"}',
        b'{"action":"executeStatement"}',
        b'{"action":"query","sql":"SELECT \xff"}',
        b'{"action":"query","sql":"SELECT 1"} x',
    ],
)
async def test_a_body_of_another_form_is_refused(owner: Databases, body: bytes) -> None:
    """A body that is not one of the five requests is 400 (SQ4)."""
    assert (await owner.ask(body)).status == 400


async def test_unknown_members_are_ignored(owner: Databases) -> None:
    """Both spellings of `executeStatement` are known, and further members have no effect (SQ4)."""
    assert (await owner.ask({**SELECT, "more": 1})).status == 200
    for action in ("executeStatement", "execute_statement"):
        reply = await owner.ask({"action": action, "name": "a"})
        assert (reply.status, reply.body[:8]) != (400, b"$.action")


@needs_postgres()
async def test_there_are_no_databases_with_postgresql(tmp_path: Path, clock: FixedClock) -> None:
    """With PostgreSQL as the store, `/info` does not list `sql`, and requests are 501 (SQ2)."""
    config = Config(
        http=Http(port=0, drain_s=0),
        store=Store(data=str(tmp_path), url=postgres_server().new_database()),
        hosting=Hosting(),
    )
    async with (
        embedded_node(config, clock=clock) as node,
        aiohttp.ClientSession() as session,
    ):
        owner = Databases(node, session, clock)
        assert (await owner.put("a", b"")).status == 200
        reply = await owner.ask(SELECT)
        assert (reply.status, reply.body) == (501, b"SQL support is not enabled on this node")
        async with session.get(f"{node.url}/info") as answer:
            assert "sql" not in (await answer.json())["features"]
