"""Caveats of grants on databases, at a whole node (SQ20 to SQ28)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from running_node import Reply, id_of, new_key
from sql_caller import Databases

from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json
from capabilities.ucan import UcanPayload, encode_ucan

Caveat = dict[str, Any]
Held = Mapping[str, Caveat]
"""The caveat of each ability; the prefix of abilities is left out."""

SCHEMA = (
    "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT UNIQUE, score REAL)",
    "CREATE TABLE private (id INTEGER PRIMARY KEY, secret TEXT, note INTEGER REFERENCES notes(id)"
    " ON DELETE CASCADE ON UPDATE CASCADE)",
    "CREATE TABLE plain (id INTEGER PRIMARY KEY, body TEXT UNIQUE, score REAL)",
    "CREATE TABLE watched (x)",
    "CREATE VIEW v AS SELECT id FROM plain",
    "CREATE VIEW leak AS SELECT secret AS body FROM private",
    "CREATE TRIGGER spy AFTER INSERT ON watched BEGIN"
    " INSERT INTO plain (body) SELECT secret FROM private; END",
    "INSERT INTO notes VALUES (1, 'one', 1.5), (2, 'two', NULL)",
    "INSERT INTO private VALUES (1, 'hush', 1)",
    "INSERT INTO plain VALUES (1, 'a', 1), (2, 'b', 2)",
)
GET: Caveat = {
    "name": "get",
    "sql": "SELECT id, body FROM notes WHERE id = ?",
    "fixedParams": [{"index": 0, "value": 1}],
}
FIND: Caveat = {
    "name": "find",
    "sql": "SELECT id FROM notes WHERE body = ? AND id >= ?",
    "fixedParams": [{"index": 1, "value": 1}],
}
WRITES: Caveat = {"name": "drop", "sql": "DELETE FROM plain"}
TWO: Caveat = {"name": "both", "sql": "SELECT 1; DELETE FROM plain"}
ONLY: Caveat = {
    "mode": "constrained-statements",
    "readOnly": True,
    "statements": [GET, FIND, WRITES, TWO],
}


def query(sql: str, *params: Json) -> dict[str, object]:
    return {"action": "query", "sql": sql, "params": params}


def execute(sql: str, *params: Json) -> dict[str, object]:
    return {"action": "execute", "sql": sql, "params": params}


def named(name: str, *params: Json) -> dict[str, object]:
    return {"action": "executeStatement", "name": name, "params": params}


class Holder:
    """The holder of a grant on the database `app` of an owner, or the owner."""

    def __init__(self, owner: Databases, signer: Ed25519Signer | None = None) -> None:
        self.owner, self.signer = owner, signer or new_key()
        self.proofs: list[str] = []

    def token(
        self, held: Held, *, audience: str | None = None, facts: Sequence[Json] = (), path: str
    ) -> str:
        """Sign a call, or a delegation to an audience."""
        resource = f"{self.owner.space.text}/sql/{path}"
        payload = UcanPayload(
            iss=self.signer.did_url,
            aud=audience or self.signer.did,
            exp=self.owner.clock.now() + 60,
            nnc=new_key().did,
            fct=list(facts) or None,
            prf=[id_of(proof) for proof in self.proofs],
            att={resource: {f"tinycloud.sql/{name}": [one] for name, one in held.items()}},
        )
        return encode_ucan(payload, self.signer)

    async def grant(self, held: Held, *, path: str = "app") -> tuple["Holder", Reply]:
        """Delegate abilities to a new key."""
        holder = Holder(self.owner)
        token = self.token(held, audience=holder.signer.did, path=path)
        url = f"{self.owner.node.url}/delegate"
        async with self.owner.session.post(url, headers={"Authorization": token}) as answer:
            reply = Reply(answer.status, {}, await answer.read())
        holder.proofs = [token]
        return holder, reply

    async def ask(
        self, request: object, held: Held, *, facts: Sequence[Json] = (), path: str = "app"
    ) -> tuple[int, Any]:
        """Return the status and the rows, effects or text of the answer."""
        token = self.token(held, facts=facts, path=path)
        reply = await self.owner.invoke(token=token, body=json.dumps(request).encode())
        if reply.status != 200:
            return reply.status, reply.body.decode()
        answer = json.loads(reply.body)
        return 200, answer.get("rows", answer)


async def holder_of(owner: Databases, held: Held) -> Holder:
    """Return the holder of a grant, after the database was filled."""
    for sql in SCHEMA:
        await owner.execute(sql)
    holder, reply = await Holder(owner, owner.signer).grant(held)
    assert reply.status == 200, reply.body
    return holder


def no_table(name: str) -> tuple[int, str]:
    return 403, f"Permission denied: Access to table '{name}' is not allowed"


def no_column(name: str) -> tuple[int, str]:
    return 403, f"Permission denied: Access to column '{name}' is not allowed"


def no_rows(name: str) -> tuple[int, str]:
    return 403, f"Permission denied: Access to the rows of table '{name}' is not allowed"


async def test_SQ21_tables_limit_what_is_read(owner: Databases) -> None:
    """Only listed tables are read, however a statement names them."""
    held = {"read": {"tables": ["Notes", "v", "json_each"]}}
    holder = await holder_of(owner, held)
    for sql, rows in (
        ("SELECT body FROM notes WHERE id = 1", [["one"]]),
        ('SELECT "body" FROM "NOTES" WHERE id = 1', [["one"]]),
        ("SELECT count(*) FROM notes", [[2]]),
        ("WITH private AS (SELECT id FROM notes) SELECT count(id) FROM private", [[2]]),
        ("SELECT value FROM json_each('[7]')", [[7]]),
    ):
        assert await holder.ask(query(sql), held) == (200, rows), sql
    for sql, table in (
        ("SELECT secret FROM private", "private"),
        ("SELECT count(*) FROM private", "private"),
        ("SELECT 1 FROM notes, private", "private"),
        ("SELECT (SELECT secret FROM private) FROM notes", "private"),
        ("SELECT 1 WHERE EXISTS (SELECT 1 FROM main.private)", "private"),
        ("WITH notes AS (SELECT * FROM private) SELECT secret FROM notes", "private"),
        ("SELECT id FROM notes UNION SELECT secret FROM private", "private"),
        ("SELECT id FROM v", "plain"),
        ("SELECT body FROM leak", "private"),
        ("SELECT name FROM sqlite_schema", "sqlite_master"),
        ("SELECT name FROM pragma_table_info('private')", "pragma_table_info"),
        ("EXPLAIN QUERY PLAN SELECT secret FROM private", "private"),
    ):
        assert await holder.ask(query(sql), held) == no_table(table), sql


async def test_SQ22_tables_limit_what_is_written(owner: Databases) -> None:
    """Other tables are not changed through triggers or foreign keys either."""
    held = {"write": {"tables": ["notes", "watched", "plain"]}}
    holder = await holder_of(owner, held)
    assert await holder.ask(execute("UPDATE plain SET body = 'x' WHERE id = 1"), held) == (
        200,
        {"changes": 1, "lastInsertRowId": None},
    )
    for sql in (
        "DELETE FROM private",
        "DELETE FROM notes",
        "UPDATE notes SET id = 5 WHERE id = 1",
        "INSERT OR REPLACE INTO notes (id, body) VALUES (1, 'x')",
        "INSERT INTO watched VALUES (1)",
        "INSERT INTO plain (body) SELECT secret FROM private",
        "UPDATE plain SET body = (SELECT secret FROM private)",
    ):
        assert await holder.ask(execute(sql), held) == no_table("private"), sql
    for sql in ("CREATE TABLE a (b)", "DROP TABLE plain", "CREATE VIEW a AS SELECT 1", "REINDEX"):
        assert (await holder.ask(execute(sql), held))[0] == 403, sql
    assert await owner.query("SELECT secret, note FROM private") == [["hush", 1]]
    assert await owner.query("SELECT count(*) FROM plain") == [[2]]


async def test_SQ21_SQ22_columns_limit_reading_and_updating(owner: Databases) -> None:
    """Only listed columns are read and updated; rows are neither counted, inserted nor deleted."""
    held = {"write": {"columns": ["id", "BODY"]}}
    holder = await holder_of(owner, held)
    assert await holder.ask(query("SELECT body FROM plain WHERE id = 1"), held) == (200, [["a"]])
    assert (await holder.ask(execute("UPDATE plain SET body = 'z' WHERE id = 1"), held))[0] == 200
    for sql in (
        "SELECT score FROM plain",
        "SELECT * FROM plain",
        "SELECT body FROM plain WHERE score = 1",
        "SELECT body FROM plain ORDER BY score",
        "UPDATE plain SET score = 1 WHERE id = 1",
        "UPDATE plain SET body = score WHERE id = 1",
        "UPDATE plain SET body = 'y' WHERE id = 1 RETURNING score",
    ):
        assert await holder.ask(query(sql), held) == no_column("score"), sql
    for sql in (
        "SELECT count(*) FROM plain",
        "INSERT INTO plain (id, body) VALUES (9, 'x')",
        "REPLACE INTO plain (id, body) VALUES (1, 'x')",
        "DELETE FROM plain WHERE id = 1",
    ):
        assert await holder.ask(query(sql), held) == no_rows("plain"), sql
    assert await owner.query("SELECT * FROM plain") == [[1, "z", 1.0], [2, "b", 2.0]]


async def test_SQ22_read_only_permits_no_change(owner: Databases) -> None:
    """An ability to write, under `readOnly`, only reads."""
    held: Held = {"*": {"readOnly": True}}
    holder = await holder_of(owner, held)
    assert await holder.ask(query("SELECT count(*) FROM plain"), held) == (200, [[2]])
    violation = (403, "Read-only violation")
    assert await holder.ask(execute("DELETE FROM plain"), held) == violation
    assert await holder.ask(query("WITH a AS (SELECT 1) DELETE FROM plain"), held) == violation
    assert (await holder.ask(execute("DROP TABLE plain"), held))[0] == 403
    assert (await holder.ask(query("PRAGMA user_version = 3"), held))[0] == 401
    assert await owner.query("SELECT count(*) FROM plain") == [[2]]


async def test_SQ23_a_request_runs_under_one_caveat(owner: Databases) -> None:
    """Two capabilities with different caveats are never combined for one request."""
    held: Held = {"read": {"tables": ["plain"]}, "write": {"tables": ["watched", "notes"]}}
    holder = await holder_of(owner, held)
    await owner.execute("DROP TRIGGER spy")
    assert await holder.ask(query("SELECT count(*) FROM plain"), held) == (200, [[2]])
    assert (await holder.ask(execute("INSERT INTO watched VALUES (1)"), held))[0] == 200
    mixed = execute("INSERT INTO watched SELECT id FROM plain")
    assert (await holder.ask(mixed, held))[0] == 403
    assert await owner.query("SELECT * FROM watched") == [[1]]


async def test_SQ23_named_statements_beside_another_capability(owner: Databases) -> None:
    """A named statement runs under the constrained capability, and others under the other one."""
    held: Held = {"write": {"tables": ["plain"]}, "read": ONLY}
    holder = await holder_of(owner, held)
    assert await holder.ask(named("get"), held) == (200, [[1, "one"]])
    assert await holder.ask(query("SELECT count(*) FROM plain"), held) == (200, [[2]])
    assert (await holder.ask(query("SELECT count(*) FROM notes"), held))[0] == 403
    many: Held = {name: {"tables": [name]} for name in ("read", "write", "schema", "admin", "*")}
    assert await Holder(owner, owner.signer).ask(query("SELECT 1"), many) == (200, [[1]])


@pytest.mark.parametrize(("count", "status"), [(8, 200), (9, 403)])
async def test_SQ23_a_token_has_few_different_limits(
    owner: Databases, count: int, status: int
) -> None:
    """A request is tried with at most eight different limits."""
    resource = f"{owner.space.text}/sql/app"
    att: dict[str, Any] = {
        f"{resource}?{number}": {"tinycloud.sql/read": [{"tables": [str(number)]}]}
        for number in range(count)
    }
    body = json.dumps(query("SELECT 1")).encode()
    reply = await owner.invoke(token=owner.token_of(att), body=body)
    assert reply.status == status, reply.body


async def test_SQ23_a_caveat_on_another_resource_does_not_apply(owner: Databases) -> None:
    """A caveat on another database, ability or service limits nothing here."""
    for sql in SCHEMA:
        await owner.execute(sql)
    root = Holder(owner, owner.signer)
    elsewhere, _ = await root.grant({"read": ONLY}, path="other")
    mine, _ = await root.grant({"read": {}, "schema": ONLY})
    assert await mine.ask(query("SELECT count(*) FROM plain"), {"read": {}}) == (200, [[2]])
    blocked = (403, "sql-raw-query-blocked")
    assert await elsewhere.ask(query("SELECT 1"), {"read": ONLY}, path="other") == blocked


async def test_SQ24_a_fact_limits_its_call(owner: Databases) -> None:
    """The invoker's own limits apply beside those of the capability."""
    held: Held = {"*": {}}
    holder = await holder_of(owner, held)

    async def asked(request: object, *stated: Json) -> tuple[int, Any]:
        return await holder.ask(request, held, facts=[{"sqlCaveats": one} for one in stated])

    assert await asked(query("SELECT body FROM plain WHERE id=1"), {"tables": ["plain"]}) == (
        200,
        [["a"]],
    )
    assert await asked(query("SELECT 1 FROM notes"), {"tables": ["plain"]}) == no_table("notes")
    violation = (403, "Read-only violation")
    assert await asked(execute("DELETE FROM plain"), {}, {"readOnly": True}) == violation
    unknown = (403, "sql-caveat-unknown")
    assert await asked(execute("DELETE FROM plain"), {"read_only": True}) == unknown
    mine: Json = {"statements": [{"name": "a", "sql": "SELECT id FROM notes WHERE body = ?"}]}
    assert await asked(named("a", "two"), mine) == (200, [[2]])
    assert await asked(query("SELECT count(*) FROM notes"), mine) == (200, [[2]])
    not_found = (400, "Invalid statement: Statement 'b' not found")
    assert await asked(named("b"), mine) == await asked(named("b")) == not_found


async def test_SQ26_SQ27_only_named_statements_run(owner: Databases) -> None:
    """Under constrained statements nothing but these runs, with the fixed parameters."""
    held: Held = {"read": ONLY}
    holder = await holder_of(owner, held)
    for request, expected in (
        (named("get"), (200, [[1, "one"]])),
        (named("get", None), (200, [[1, "one"]])),
        (named("find", "two"), (200, [[2]])),
        (named("find", "a'b; --"), (200, [])),
        (named("find", None), (200, [])),
        (named("get", 2), (403, "sql-fixed-param-override")),
        (named("find", "two", 0), (403, "sql-fixed-param-override")),
        (named("find", [1, 2]), (403, "sql-non-primitive-bind")),
        (named("nosuch"), (403, "sql-statement-not-allowed")),
        (named("drop"), (403, "Read-only violation")),
        (named("both"), (400, "Invalid statement: Exactly one SQL statement is required")),
        (query("SELECT 1"), (403, "sql-raw-query-blocked")),
        (execute("SELECT 1"), (403, "sql-raw-execute-blocked")),
        ({"action": "batch", "statements": []}, (403, "sql-batch-blocked")),
        ({"action": "export"}, (403, "sql-export-blocked")),
        ({"action": "execute_statement", "name": "get"}, (200, [[1, "one"]])),
    ):
        assert await holder.ask(request, held) == expected, request
    too_many = (await holder.ask(named("find", "two", None, 3), held))[1]
    assert too_many.startswith("SQLite error: Wrong number of parameters")
    assert await owner.query("SELECT count(*) FROM plain") == [[2]]


@pytest.mark.parametrize("caveat", [{"tables": ["plain"]}, {"columns": ["id"]}, ONLY])
async def test_SQ25_a_limited_grant_exports_nothing(owner: Databases, caveat: Caveat) -> None:
    """A grant under a list of tables, columns or statements does not give the whole file."""
    held = {"*": caveat}
    holder = await holder_of(owner, held)
    blocked = (403, "sql-export-blocked")
    assert await holder.ask({"action": "export"}, held) == blocked


async def test_SQ20_a_caveat_that_is_not_understood(owner: Databases) -> None:
    """A misspelt caveat is refused when it is granted, and in the owner's own call."""
    root = Holder(owner, owner.signer)
    refused = b"child-caveats-not-subset-of-parent: sql-caveat-unknown"
    for caveat in ({"tabels": ["plain"]}, {"tables": ["a"], "rows": 1}, ONLY | {"mode": "other"}):
        _, reply = await root.grant({"read": caveat})
        assert (reply.status, reply.body) == (401, refused)
        answer = await root.ask(query("SELECT 1"), {"read": caveat})
        assert answer == (403, "sql-caveat-unknown")


async def test_SQ28_a_grant_is_passed_on_with_less(owner: Databases) -> None:
    """A delegate can narrow the caveat that it passes on or calls with, and cannot widen it
    (SQ28)."""
    held: Held = {"write": {"tables": ["plain", "notes"]}}
    holder = await holder_of(owner, held)
    less: Held = {"write": {"tables": ["plain"], "readOnly": True}}
    below, reply = await holder.grant(less)
    assert reply.status == 200
    assert await below.ask(query("SELECT count(*) FROM plain"), less) == (200, [[2]])
    assert await below.ask(query("SELECT count(*) FROM notes"), less) == no_table("notes")
    widened = "caveats-not-subset-of-"
    for caveat in ({}, {"tables": ["plain", "private"]}, {"readOnly": True}):
        more: Held = {"write": caveat}
        _, reply = await holder.grant(more)
        assert reply.status == 401
        assert widened in reply.text
        status, text = await holder.ask(query("SELECT 1"), more)
        assert status == 401
        assert widened in text


async def test_SQ28_constrained_statements_are_passed_on(owner: Databases) -> None:
    """A statement is neither added nor freed of its parameters on the way."""
    held: Held = {"read": ONLY}
    holder = await holder_of(owner, held)
    less: Held = {"read": ONLY | {"statements": [FIND]}}
    below, reply = await holder.grant(less)
    assert reply.status == 200
    assert await below.ask(named("find", "two"), less) == (200, [[2]])
    assert await below.ask(named("get"), less) == (403, "sql-statement-not-allowed")
    bare = {key: value for key, value in GET.items() if key != "fixedParams"}
    for statements, code in (
        ([{"name": "more", "sql": "SELECT 1"}], "containment-sql-statement-added"),
        ([bare], "containment-sql-fixed-param-dropped"),
    ):
        more: Held = {"read": ONLY | {"statements": statements}}
        _, reply = await holder.grant(more)
        assert reply.text == f"child-caveats-not-subset-of-parent: {code}"
        text = f"invocation-caveats-not-subset-of-chain: {code}"
        assert await holder.ask(named("get"), more) == (401, text)
    dropped = "invocation-caveats-not-subset-of-chain: containment-caveat-required"
    assert await holder.ask(query("SELECT 1"), {"read": {}}) == (401, dropped)
