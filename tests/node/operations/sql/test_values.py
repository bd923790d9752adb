"""Values in parameters and answers, and limits on answers."""

import json
import math

import pytest
from sql_caller import Databases

TYPED = "SELECT typeof(?1), ?1"


@pytest.mark.parametrize(
    ("given", "kind", "answered"),
    [
        (None, "null", None),
        (True, "integer", 1),
        (-7, "integer", -7),
        (2**63 - 1, "integer", 2**63 - 1),
        (-(2**63), "integer", -(2**63)),
        (-(2**63) - 1, "real", -9.223372036854776e18),
        (2**64, "real", 1.8446744073709552e19),
        (1.0, "real", 1.0),
        (1e300, "real", 1e300),
        ("é𝄞\0", "text", "é𝄞\0"),
        ([0, 1, 255], "blob", [0, 1, 255]),
        ([], "blob", []),
        ({"0": 1, "1": 2}, "blob", [1, 2]),
    ],
)
async def test_parameters_keep_their_types(
    owner: Databases, given: object, kind: str, answered: object
) -> None:
    """Each JSON value is bound as one SQL type and returned unchanged (SQ5)."""
    assert await owner.query(TYPED, given) == [[kind, answered]]


@pytest.mark.parametrize(
    "given",
    [
        *(2**63, 2**64 - 1, 10**400, -(10**400)),
        *([256], [-1], [1.5], ["a"], [True, []], {"1": 1}, {"a": 1}),
    ],
)
async def test_values_without_an_sql_type_are_refused(owner: Databases, given: object) -> None:
    """An integer beyond 64 bits, and a list of something other than bytes, are 400 (SQ5)."""
    reply = await owner.ask({"action": "query", "sql": TYPED, "params": [given]})
    assert reply.status == 400


async def test_numbers_are_written_so_that_their_type_shows(owner: Databases) -> None:
    """A REAL has a point or an exponent; infinities are null (SQ5)."""
    reply = await owner.ask({"action": "query", "sql": "SELECT 1.0, -0.0, 1e300, 9e999, 1"})
    assert b'"rows":[[1.0,-0.0,1e300,null,1]]' in reply.body
    assert math.copysign(1, json.loads(reply.body)["rows"][0][1]) == -1


async def test_text_that_is_not_utf8_ends_only_its_request(owner: Databases) -> None:
    """A value that JSON cannot contain is answered 400, and the database stays usable (SQ5)."""
    assert await owner.refused("SELECT CAST(x'ff' AS TEXT)") == (
        400,
        "SQLite error: text is not UTF-8",
    )
    assert await owner.query("SELECT 1") == [[1]]


async def test_the_number_of_parameters_has_to_fit(owner: Databases) -> None:
    """Too many or too few parameters are refused with both numbers (SQ5)."""
    reply = await owner.ask({"action": "query", "sql": "SELECT ?1, ?2", "params": [1]})
    assert reply.body.decode() == (
        "SQLite error: Wrong number of parameters passed to query. Got 1, needed 2"
    )
    assert await owner.query("SELECT :a, @b, $c, ?2", 1, "b", None) == [[1, "b", None, "b"]]


async def test_effects_are_counted(owner: Databases) -> None:
    """`changes` is 0 for definitions; `lastInsertRowId` is null if nothing was inserted (SQ5)."""

    async def done(sql: str) -> list[object]:
        return list((await owner.execute(sql)).values())

    assert await done("CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE)") == [0, None]
    assert await done("INSERT INTO t (a) VALUES (1), (2)") == [2, 2]
    assert await done("INSERT OR IGNORE INTO t (a) VALUES (1)") == [0, None]
    assert await done("INSERT INTO t VALUES (1, 5) ON CONFLICT DO UPDATE SET a = 9") == [1, None]
    assert await done("REPLACE INTO t VALUES (7, 7)") == [1, 7]
    assert await done("UPDATE t SET a = a + 10") == [3, None]
    assert await done("DELETE FROM t WHERE id = 7") == [1, None]
    assert await done("CREATE INDEX i ON t (a)") == [0, None]
    two = [
        {"sql": "INSERT INTO t (a) VALUES (50)"},
        {"sql": "INSERT INTO t (a) VALUES (last_insert_rowid())"},
    ]
    reply = await owner.ask({"action": "batch", "statements": two})
    results = json.loads(reply.body)["results"]
    assert await owner.query("SELECT a FROM t WHERE id = ?", results[1]["lastInsertRowId"]) == [
        [results[0]["lastInsertRowId"]]
    ]


async def test_an_answer_is_whole_or_refused(owner: Databases) -> None:
    """`maxRows` and `maxBytes` are exact, and an answer beyond them has no rows (SQ6)."""
    rows = "SELECT value FROM json_each('[1,2,3]')"
    whole = await owner.ask({"action": "query", "sql": rows, "maxRows": 3})
    size_bytes = len(whole.body)
    for limit, status in ((size_bytes, 200), (size_bytes - 1, 413)):
        reply = await owner.ask({"action": "query", "sql": rows, "maxBytes": limit})
        assert reply.status == status
    assert reply.body.decode() == f"Response too large: {size_bytes} bytes"
    fewer = await owner.ask({"action": "query", "sql": rows, "maxRows": 2})
    assert (fewer.status, fewer.body) == (413, b"Response too large: 51 bytes")
    for options in ({"maxRows": 0}, {"maxRows": 1001}, {"maxBytes": 0}, {"maxBytes": 4194305}):
        reply = await owner.ask({"action": "query", "sql": rows, **options})
        assert reply.status == 400
        assert reply.body.startswith(b"Invalid statement: max")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT randomblob(6000000)",
        "SELECT hex(zeroblob(4900000)) FROM json_each('[1,2]')",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
        " SELECT x, hex(zeroblob(500)) FROM c",
    ],
)
async def test_large_answers_are_not_collected(owner: Databases, sql: str) -> None:
    """Rows are refused with 413 as soon as they exceed 10,485,760 bytes (SQ6)."""
    assert (await owner.refused(sql))[0] == 413
