"""Databases of a space, through the client."""

import io
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from relay import relay_before

from sealspace.client import Client, SignIn
from sealspace.delegations import allow
from sealspace.errors import (
    InvalidInput,
    MalformedAnswer,
    NotFound,
    NotGranted,
    SpaceNotFound,
    SqlRefused,
    Unauthorized,
)
from sealspace.sql import Changes, Rows
from sealspace.wallets import new_wallet
from sealspace.wire.transport import TransportSettings

TABLE = "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT)"
ADD = "INSERT INTO note (text) VALUES (?)"
ALL = "SELECT id, text FROM note ORDER BY id"


async def test_values_come_back_as_they_were(bench: Any) -> None:
    """Each SQL type is returned as the corresponding Python type, and a bool as an integer."""
    owner, _ = await bench.owner()
    values = [None, -(2**63), 2**63 - 1, 1.0, -1e300, "it's\0ü", b"", bytes(range(256)), True]
    places = ", ".join("?" * len(values))
    (row,) = (await owner.sql().query(f"VALUES ({places})", values)).rows
    assert row == (*values[:-1], 1)
    assert [type(one) for one in row[:-1]] == [type(one) for one in values[:-1]]
    assert (await owner.sql().query("SELECT 1e999")).rows == ((None,),)
    for value in (math.inf, math.nan, object()):
        with pytest.raises(InvalidInput):
            await owner.sql().query("SELECT ?", [value])


async def test_a_batch_is_one_transaction(bench: Any) -> None:
    """A batch of statements is one transaction, so a failing statement leaves nothing."""
    owner, _ = await bench.owner()
    app = owner.sql("app")
    done = await app.batch([TABLE, (ADD, ["a"]), (ADD, ["b"]), "DELETE FROM note WHERE id = 1"])
    assert done == (Changes(0, None), Changes(1, 1), Changes(1, 2), Changes(1, None))
    with pytest.raises(SqlRefused) as refusal:
        await app.batch([(ADD, ["c"]), "INSERT INTO nowhere VALUES (1)"])
    assert "no such table: nowhere" in refusal.value.text
    assert (await app.query(ALL)) == Rows(("id", "text"), ((2, "b"),))
    assert await app.batch([]) == ()


@pytest.mark.parametrize("sql", ["VACUUM", "ATTACH 'a' AS b", "BEGIN", "PRAGMA journal_mode = wal"])
async def test_a_statement_that_no_database_runs(bench: Any, sql: str) -> None:
    """An invalid statement raises an error about the statement, not about rights."""
    owner, _ = await bench.owner()
    with pytest.raises(SqlRefused, match="not allowed") as refusal:
        await owner.sql("app").execute(sql)
    assert (refusal.value.status, refusal.value.hint[:7]) == (403, "correct")


async def test_a_query_may_return_what_it_writes(bench: Any) -> None:
    """The first word of a statement decides whether its token has the right to read or to write."""
    owner, _ = await bench.owner()
    app = owner.sql("app")
    await app.execute(f"-- a table\n/* of\nnotes */ {TABLE}")
    assert (await app.query(f"{ADD} RETURNING id", ["a"])).rows == ((1,),)
    assert (await app.query("PRAGMA user_version")).rows == ((0,),)
    with pytest.raises(SqlRefused, match="did you mean to call query"):
        await app.execute(ALL)


async def test_an_answer_that_is_too_long(bench: Any) -> None:
    """An answer above the size limit is refused as a whole."""
    owner, _ = await bench.owner()
    with pytest.raises(SqlRefused, match="too large") as refusal:
        await owner.sql().query("VALUES (zeroblob(9000000))")
    assert refusal.value.status == 413
    assert "select fewer rows" in refusal.value.hint


async def test_databases_of_a_space_and_their_sizes(bench: Any) -> None:
    """Each space has its own databases, and reading a missing one does not create it."""
    owner, _ = await bench.owner(SignIn(spaces=("notes",), spaces_rights=True))
    with pytest.raises(SqlRefused, match="no such table"):
        await owner.sql("app").query(ALL)
    assert (await owner.spaces().info("default")).databases == {}
    for name in ("app", "de.example/app"):
        await owner.sql(name).execute(TABLE)
    found = await owner.spaces().info("default")
    assert list(found.databases) == ["app", "de.example/app"]
    assert sum(found.databases.values()) == found.usage_bytes
    assert (await owner.spaces().info("notes")).databases == {}
    assert (await owner.sql("app", space="notes").query("SELECT * FROM sqlite_master")).rows == ()


async def test_a_copy_of_a_database(bench: Any, tmp_path: Path) -> None:
    """A downloaded copy is a file that SQLite opens."""
    owner, _ = await bench.owner()
    path, progress = tmp_path / "copy", list[tuple[int, int | None]]()
    path.write_bytes(b"before")
    with pytest.raises(NotFound):
        await owner.sql("app").export(path)
    assert path.read_bytes() == b"before"
    await owner.sql("app").batch([TABLE, (ADD, ["a"])])
    size_bytes = await owner.sql("app").export(
        path, progress=lambda done, whole: progress.append((done, whole))
    )
    assert progress[-1] == (size_bytes, size_bytes)
    assert path.stat().st_size == size_bytes
    with closing(sqlite3.connect(path)) as copy:
        assert copy.execute(ALL).fetchall() == [(1, "a")]
    await owner.sql("app").export(opened := io.BytesIO())
    assert opened.getvalue() == path.read_bytes()


async def shared(owner: Client, friend: Client, *abilities: str, **given: Any) -> Client:
    """Return the friend with a grant for the owner's database `app`."""
    place = f"{owner.kv().space.text}/sql/app"
    caveats = given.pop("caveats", ())
    rights = [allow(place, f"tinycloud.sql/{one}", *caveats) for one in abilities]
    portable = await owner.delegations.delegate(friend.session.did, rights, **given)
    await friend.delegations.accept(portable)
    return friend


async def test_a_friend_who_may_read(bench: Any) -> None:
    """A friend with the right to read can query and copy the database, and nothing else."""
    (owner, wallet), (friend, _) = await bench.owner(), await bench.owner()
    await owner.sql("app").batch([TABLE, (ADD, ["a"])])
    await shared(owner, friend, "read", wallet=wallet)
    space = owner.kv().space.text
    app = friend.sql("app", space=space)
    assert (await app.query(ALL)).rows == ((1, "a"),)
    for sql in (ADD, "DROP TABLE note", "PRAGMA user_version"):
        with pytest.raises(NotGranted):
            await app.execute(sql, ["b"])
    with pytest.raises(Unauthorized, match="Read-only violation"):
        await app.query("WITH one AS (SELECT 1) DELETE FROM note")
    with pytest.raises(NotGranted):
        await friend.sql("other", space=space).query("SELECT 1")


async def test_a_friend_who_may_write(bench: Any) -> None:
    """A friend with the right to write can also read."""
    (owner, wallet), (friend, _) = await bench.owner(), await bench.owner()
    await owner.sql("app").execute(TABLE)
    await shared(owner, friend, "write", wallet=wallet)
    app = friend.sql("app", space=owner.kv().space.text)
    await app.execute(ADD, ["b"])
    assert (await app.query(ALL)).rows == ((1, "b"),)


async def test_a_friend_with_named_statements(bench: Any) -> None:
    """A friend with a grant of named statements can run those statements only."""
    (owner, _), (friend, _) = await bench.owner(), await bench.owner()
    await owner.sql("app").batch([TABLE, (ADD, ["a"]), (ADD, ["b"])])
    statements = [
        {"name": "by-id", "sql": "SELECT text FROM note WHERE id = ?"},
        {
            "name": "first",
            "sql": "SELECT text FROM note WHERE id = ?",
            "fixedParams": [{"index": 0, "value": 1}],
        },
    ]
    limits = {"mode": "constrained-statements", "readOnly": True, "statements": statements}
    await shared(owner, friend, "read", caveats=[limits])
    app = friend.sql("app", space=owner.kv().space.text)
    assert await app.execute_statement("by-id", [2]) == Rows(("text",), (("b",),))
    assert await app.execute_statement("first") == Rows(("text",), (("a",),))
    for name in ("other", "by"):
        with pytest.raises(Unauthorized, match="sql-statement-not-allowed"):
            await app.execute_statement(name)
    with pytest.raises(Unauthorized, match="sql-raw-query-blocked"):
        await app.query(ALL)
    with pytest.raises(Unauthorized, match="sql-export-blocked"):
        await app.export(io.BytesIO())


async def test_the_grant_that_names_the_statement(bench: Any) -> None:
    """Of several grants, the client cites the one that names the statement."""
    (owner, _), (friend, _) = await bench.owner(), await bench.owner()
    await owner.sql("app").batch([TABLE, (ADD, ["a"])])
    for name in ("one", "two"):
        statement = {"name": name, "sql": "SELECT text FROM note"}
        limits = {"mode": "constrained-statements", "readOnly": True, "statements": [statement]}
        await shared(owner, friend, "read", caveats=[limits])
    app = friend.sql("app", space=owner.kv().space.text)
    for name in ("one", "two"):
        assert (await app.execute_statement(name)) == Rows(("text",), (("a",),))
    await shared(owner, friend, "read")
    assert (await app.query(ALL)).rows == ((1, "a"),)
    assert (await app.execute_statement("one")) == Rows(("text",), (("a",),))


async def test_a_friend_with_one_table(bench: Any) -> None:
    """A friend with a grant of one table cannot use other tables."""
    (owner, _), (friend, _) = await bench.owner(), await bench.owner()
    await owner.sql("app").batch([TABLE, "CREATE TABLE private (text)"])
    await shared(owner, friend, "write", caveats=[{"tables": ["note"]}])
    app = friend.sql("app", space=owner.kv().space.text)
    assert (await app.execute(ADD, ["a"])).changes == 1
    assert (await app.query(ALL)).rows == ((1, "a"),)
    with pytest.raises(Unauthorized, match="private"):
        await app.query("SELECT * FROM private")


async def test_a_wallet_signs_no_conditions(bench: Any) -> None:
    """A wallet refuses to sign SQL conditions, because its message cannot contain them."""
    (owner, wallet), (friend, _) = await bench.owner(), await bench.owner()
    with pytest.raises(InvalidInput, match="wallet cannot sign"):
        await shared(owner, friend, "read", wallet=wallet, caveats=[{"tables": ["note"]}])
    assert wallet.signatures == 1


async def test_a_space_that_is_not_hosted(bench: Any) -> None:
    """An error says that the space is not hosted, not that the database is missing."""
    client = await bench.client()
    await client.sign_in_with_key(bytes(range(32)), spaces=("home",))
    with pytest.raises(SpaceNotFound):
        await client.sql(space="nowhere").query("SELECT 1")


@pytest.mark.parametrize("lie", [{"rows": [[]]}, {"rows": [[[256]]]}, {"rows": 1}])
async def test_an_answer_of_another_form(bench: Any, lie: dict[str, Any]) -> None:
    """An answer with a row of the wrong length or an invalid blob is refused."""
    owner, _ = await bench.owner()
    async with relay_before(bench.node.url) as relay:
        settings = TransportSettings(tries=1)
        client = Client(relay.url, session=owner.session, settings=settings, clock=bench.clock)
        async with client:
            assert (await client.sql().query("SELECT x'ff'")).rows == ((b"\xff",),)
            relay.twist = lambda answer: answer.change(**lie) if answer.path == "/invoke" else None
            with pytest.raises(MalformedAnswer, match="is not the result of a statement"):
                await client.sql().query("SELECT 1")


async def test_a_node_without_databases(bench: Any) -> None:
    """At a node without databases, a sign-in requests no rights to them."""
    async with relay_before(bench.node.url) as relay:
        relay.twist = lambda answer: (
            answer.change(features=["kv"]) if answer.path == "/info" else None
        )
        async with Client(relay.url, clock=bench.clock, entropy=bench.entropy) as client:
            await client.sign_in(new_wallet())
            assert not [
                one for one in client.session.grants[0].capabilities if "sql" in one.ability
            ]
            with pytest.raises(InvalidInput, match="no SQL databases"):
                await client.sql().query("SELECT 1")
