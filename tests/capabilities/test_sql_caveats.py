"""Rules SQ20 to SQ28 and D32: SQL caveats."""

import string

import pytest
from capability_cases import NOW
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from capabilities.capability_errors import CaveatRefused, ChainError, SqlRefused
from capabilities.caveats import caveats_of, check_delegated
from capabilities.chain import judge_registration
from capabilities.resources import SpaceResource, parse_resource
from capabilities.signatures import Ed25519Signer
from capabilities.sql_caveats import (
    MAX_LISTED,
    UNLIMITED,
    SqlLimits,
    check_understood,
    contains,
    limits_of,
)
from capabilities.strict_json import Json
from capabilities.tokens import (
    Capability,
    parse_delegation,
    parse_invocation,
    verify_delegation,
    verify_invocation,
)
from capabilities.ucan import UcanPayload, encode_ucan

OWNER, BOB = Ed25519Signer(b"\1" * 32), Ed25519Signer(b"\2" * 32)
SPACE = f"tinycloud:{OWNER.did[4:]}:default"
MAIN = f"{SPACE}/sql/main"
READ, WRITE = "tinycloud.sql/read", "tinycloud.sql/write"


def fixed(index, value):
    return {"index": index, "value": value}


def statement(name="get", sql="SELECT 1", *params, **more):
    return {"name": name, "sql": sql, **({"fixedParams": [*params]} if params else {}), **more}


def constrained(*statements, **more):
    return {
        "mode": "constrained-statements",
        "readOnly": True,
        "statements": list(statements or [statement()]),
        **more,
    }


def limits(*stated, facts=(), resource=MAIN, ability=READ):
    """Return the limits of an owner's call with these caveats."""
    ((_, found),) = limits_of(call({resource: {ability: list(stated or [{}])}}, facts), database())
    return found


def database(path="main"):
    resource = parse_resource(f"{SPACE}/sql/{path}")
    assert isinstance(resource, SpaceResource)
    return resource


def call(att, facts=()):
    payload = UcanPayload(
        iss=OWNER.did_url,
        aud=OWNER.did,
        exp=NOW + 60,
        nbf=None,
        fct=list(facts),
        prf=[],
        att=att,
    )
    return verify_invocation(parse_invocation(encode_ucan(payload, OWNER)))


def grant(att):
    payload = UcanPayload(
        iss=OWNER.did_url, aud=BOB.did, exp=NOW + 60, nbf=None, fct=None, prf=[], att=att
    )
    return verify_delegation(parse_delegation(encode_ucan(payload, OWNER)))


def test_SQ20_no_caveat_is_no_limit():
    """A grant without a caveat permits every statement."""
    assert limits() == UNLIMITED
    assert limits().is_whole
    assert not limits().excluded("any", "")


@pytest.mark.parametrize(
    "stated",
    [
        {"tables": ["notes"]},
        {"tables": []},
        {"columns": ["body"], "readOnly": True},
        {"readOnly": False},
        constrained(),
        constrained(tables=["notes"], columns=["body"]),
        {"constrained-statements": constrained(statement("get", "SELECT ?", fixed(0, None)))},
        constrained(statement("a"), statement("b", "SELECT ?", fixed(999, "x"))),
    ],
)
def test_SQ20_known_forms(stated):
    """Both forms of a caveat are understood, and a constrained caveat also under its own name."""
    check_understood(Capability(database(), READ, caveats_of([stated])))
    limits(stated)


@pytest.mark.parametrize(
    "listed",
    [
        [{"table": ["notes"]}],
        [{"tables": "notes"}],
        [{"tables": [""]}],
        [{"tables": [1]}],
        [{"tables": ["t"] * 2 + [f"t{n}" for n in range(MAX_LISTED)]}],
        [{"read_only": True}],
        [{"readOnly": 1}],
        [{"readOnly": "true"}],
        [{"tables": ["notes"], "rows": ["1"]}],
        [{"sql": constrained()}],
        [{"statements": [statement()]}],
        [{"mode": "constrained-statements", "readOnly": True, "statements": [{"name": "a"}]}],
        [constrained() | {"mode": "other"}],
        [constrained() | {"mode": None}],
        [constrained(statement(more=1))],
        [{"constrained-statements": {"tables": ["notes"]}}],
        [{"constrained-statements": {}}],
        [{"constrained-statements": None}],
        [{"constrained-statements": constrained(), "tables": ["notes"]}],
        [{"tables": ["a"]}, {"tables": ["b"]}],
        [{}, {}],
        [constrained(statement("a", "SELECT ?", fixed(1000, 1)))],
        [constrained(statement("a", "SELECT ?", fixed(10**13, 1)))],
        [constrained(statement("a", "SELECT ?", fixed(-1, 1)))],
        [constrained(statement("a", "SELECT ?", fixed(True, 1)))],
        [constrained(statement("a", "SELECT ?", fixed(0, [1])))],
        [constrained(statement("a", "SELECT ?", fixed(0, {})))],
        [constrained(statement("a", "SELECT ?", {"index": 0}))],
        [constrained(statement("a", "SELECT ?", *[fixed(n, 1) for n in range(101)]))],
        [constrained(statement("a"), statement("a", "SELECT 2"))],
        [constrained(statement("a"), statement("b"), statement("a"))],
        [{"constrained-statements": constrained(statement("a"), statement("a"))}],
        [constrained(statement("a", "SELECT ?", fixed(0, None), fixed(0, 1)))],
    ],
)
def test_SQ20_a_caveat_that_does_not_parse_is_refused(listed):
    """A caveat with an unknown or invalid part is refused when it is issued and when it is used."""
    for check in (
        lambda: check_understood(Capability(database(), READ, caveats_of(listed))),
        lambda: limits(*listed),
    ):
        with pytest.raises(SqlRefused) as caught:
            check()
        assert caught.value.text == "sql-caveat-unknown"


@pytest.mark.parametrize("stated", [constrained(readOnly=False), constrained() | {"readOnly": 0}])
def test_SQ20_constrained_statements_are_read_only(stated):
    """A constrained caveat has to be read-only."""
    with pytest.raises(SqlRefused):
        limits(stated)
    without = {key: value for key, value in constrained().items() if key != "readOnly"}
    with pytest.raises(SqlRefused, match="sql-non-readonly-not-permitted"):
        limits(without)


def test_D32_a_grant_with_an_unknown_caveat_is_not_registered():
    """An owner cannot register a grant whose SQL caveat is not understood."""
    for att, refused in (
        ({MAIN: {READ: [{"tabels": ["notes"]}]}}, True),
        ({MAIN: {READ: [{"tables": ["notes"]}]}}, False),
        ({MAIN: {READ: [{"type": "xyz.tinycloud.resource/selector"}]}}, False),
        ({f"{SPACE}/kv/a": {READ: [{"tabels": ["notes"]}]}}, False),
        ({MAIN: {"tinycloud.duckdb/read": [{"tabels": ["notes"]}]}}, False),
        ({MAIN: {WRITE: [{}], "tinycloud.sql/any": [{"tabels": []}]}}, True),
    ):
        if refused:
            with pytest.raises(ChainError) as caught:
                judge_registration(grant(att), [], {}, now=NOW)
            assert caught.value.text == "child-caveats-not-subset-of-parent: sql-caveat-unknown"
        else:
            judge_registration(grant(att), [], {}, now=NOW)


def test_SQ21_names_are_compared_as_sqlite_does():
    """Names match regardless of the case of ASCII letters; other letters have to be equal."""
    found = limits({"tables": ["Notes", "k\u00e4se"], "columns": ["BODY"]})
    assert not found.excluded("NOTES", "body")
    assert not found.excluded("K\u00e4SE", "Body")
    assert found.excluded("K\u00c4SE", "body")
    assert limits({"tables": ["k"]}).excluded("\u212a", "x")  # the Kelvin sign folds to k


def test_SQ21_a_column_list_excludes_reading_without_columns():
    """A list of columns allows neither counting rows nor reading tables outside the list."""
    found = limits({"columns": ["body"]})
    assert not found.excluded("notes", "body")
    assert found.excluded("notes", "")
    assert limits({"tables": ["notes"]}).excluded("sqlite_master", "sql")
    assert not limits({"tables": ["notes"]}).excluded("notes", "")


def test_SQ22_what_is_excluded_is_named():
    """The refusal names the first list that excludes something; an insert has no column."""
    found = limits({"tables": ["notes"], "columns": ["body"]})
    assert found.excluded("notes", "body") == ""
    assert found.excluded("private", "body") == "table 'private'"
    assert found.excluded("notes", "score") == "column 'score'"
    assert found.excluded("notes", "") == "the rows of table 'notes'"


def test_SQ23_each_capability_has_its_own_limits():
    """A caveat applies only to its own ability and resource."""
    att = {
        MAIN: {READ: [{"tables": ["notes"]}], WRITE: [{}]},
        f"{SPACE}/sql": {"tinycloud.sql/schema": [{"columns": ["id"]}]},
        f"{SPACE}/kv/a": {"tinycloud.kv/get": [constrained()], READ: [constrained()]},
        f"{MAIN}/x": {"tinycloud.duckdb/read": [constrained()]},
    }
    assert {one.ability: found for one, found in limits_of(call(att), database())} == {
        READ: SqlLimits(tables=frozenset(["notes"])),
        WRITE: UNLIMITED,
        "tinycloud.sql/schema": SqlLimits(columns=frozenset(["id"])),
    }


def test_SQ23_a_selector_limits_the_database():
    """A capability on all databases, with a selector, applies to the selected database only."""
    selector: dict[str, Json] = {"type": "xyz.tinycloud.resource/selector", "kind": "prefix"}
    for value, is_met in (
        ("main", True),
        (f"{SPACE}/sql", True),
        ("other", False),
    ):
        token = call({f"{SPACE}/sql": {READ: [selector | {"value": value}]}})
        if is_met:
            assert [found for _, found in limits_of(token, database())] == [UNLIMITED]
        else:
            with pytest.raises(CaveatRefused, match="selector-caveat-not-met"):
                list(limits_of(token, database()))


def test_SQ24_the_invoker_narrows_its_own_call():
    """Every `sqlCaveats` fact in a call narrows what the capability allows."""
    facts: list[Json] = [
        {"a": 1},
        {"sqlCaveats": {"tables": ["notes", "x"]}},
        {"sqlCaveats": {"tables": ["y", "notes"], "readOnly": True}},
    ]
    found = limits({"columns": ["body"]}, facts=facts)
    assert found == SqlLimits(frozenset(["notes"]), frozenset(["body"]), read_only=True)
    assert limits(constrained(), facts=facts).bind("get", []) == ("SELECT 1", [])


def test_SQ24_the_invoker_cannot_widen_its_call():
    """A call can name statements in its own fact, but cannot widen a constrained grant."""
    named: list[Json] = [{"sqlCaveats": {"statements": [statement("mine", "DELETE FROM notes")]}}]
    own = limits(facts=named)
    assert own.bind("mine", [[1]]) == ("DELETE FROM notes", [[1]])
    assert own.is_whole is True
    assert own.mode is None
    found = limits(constrained(), facts=named)
    with pytest.raises(SqlRefused, match="sql-statement-not-allowed"):
        found.bind("mine", [])
    assert limits({"tables": ["a"]}, facts=[{"sqlCaveats": {}}]).tables == {"a"}
    assert limits({"tables": ["a"]}, facts=[{"sqlCaveats": {"tables": ["b"]}}]).tables == set()


@pytest.mark.parametrize(
    "fact",
    [
        {"read_only": True},
        None,
        [],
        "x",
        {"tables": "notes"},
        constrained(),
        {"mode": "x"},
        {"statements": [statement("a"), statement("a", "SELECT 2")]},
    ],
)
def test_SQ24_a_fact_that_does_not_parse_is_refused(fact):
    """A call with a malformed `sqlCaveats` fact is refused."""
    with pytest.raises(SqlRefused, match="sql-caveat-unknown"):
        limits(facts=[{"sqlCaveats": fact}])


def test_SQ25_what_needs_the_whole_database():
    """An export needs a grant without a list of tables, columns or statements."""
    assert limits({"readOnly": True}).is_whole
    for stated in ({"tables": ["a"]}, {"columns": ["a"]}, {"tables": []}, constrained()):
        assert not limits(stated).is_whole


def test_SQ26_parameters():
    """Fixed parameters are bound at their positions, and the caller's parameters keep theirs."""
    found = limits(
        constrained(
            statement("free", "SELECT ?"),
            statement("second", "SELECT ?, ?", fixed(1, 7)),
            statement("first", "SELECT ?, ?", fixed(0, "a")),
            statement("far", "SELECT ?", fixed(3, True)),
        )
    )
    assert found.bind("free", ["O'Brien; --"]) == ("SELECT ?", ["O'Brien; --"])
    assert found.bind("second", ["two"])[1] == ["two", 7]
    assert found.bind("second", [])[1] == [None, 7]
    assert found.bind("first", [None, "b"])[1] == ["a", "b"]
    assert found.bind("far", [1.5])[1] == [1.5, None, None, True]
    for name, given_, code in (
        ("nosuch", [], "sql-statement-not-allowed"),
        ("Free", [], "sql-statement-not-allowed"),
        ("second", ["two", 0], "sql-fixed-param-override"),
        ("first", [False], "sql-fixed-param-override"),
        ("free", [[1, 2]], "sql-non-primitive-bind"),
        ("free", [{"0": 1}], "sql-non-primitive-bind"),
    ):
        with pytest.raises(SqlRefused) as caught:
            found.bind(name, given_)
        assert caught.value.text == code


A, B = statement("a", "SELECT ?", fixed(0, 1)), statement("b")


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ({}, {"tables": ["a"]}),
        ({"tables": ["a", "b"]}, {"tables": ["b"]}),
        ({"tables": ["a", "b"]}, {"tables": []}),
        ({"tables": ["a"]}, {"tables": ["a"], "columns": ["x"], "readOnly": True}),
        ({"tables": ["a"]}, constrained(tables=["a"])),
        ({"readOnly": True}, constrained()),
        (constrained(A, B), constrained(A)),
        (constrained(A, B), {"constrained-statements": constrained(B, A)}),
        (constrained(B), constrained(statement("b", "SELECT 1", fixed(0, 2)))),
    ],
)
def test_SQ28_contained(parent, child):
    """A grant can be passed on with fewer tables, columns and statements, or as read-only."""
    assert contains(caveats_of([parent]), caveats_of([child]))


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ({"tables": ["a"]}, {}),
        ({"tables": ["a"]}, {"tables": ["a", "b"]}),
        ({"tables": ["a"]}, {"columns": ["a"]}),
        ({"tables": ["a"]}, constrained()),
        ({"columns": ["a"]}, {"tables": ["a"]}),
        ({"readOnly": True}, {"readOnly": False}),
        ({"readOnly": True, "tables": ["a"]}, {"tables": ["a"]}),
        (constrained(tables=["a"]), constrained()),
        ({"tabels": ["a"]}, {"tables": ["a"]}),
        ({"tables": ["a"]}, {"tables": ["a"], "more": 1}),
        (constrained(A), constrained(A, A)),
        (constrained(A, A | {"sql": "SELECT 2"}), constrained(A)),
        (constrained(A, A | {"sql": "SELECT 2"}), constrained(A | {"sql": "SELECT 2"})),
    ],
)
def test_SQ28_not_contained(parent, child):
    """A grant cannot be passed on with more than it allows."""
    assert not contains(caveats_of([parent]), caveats_of([child]))
    with pytest.raises(CaveatRefused, match="child-caveats-not-subset-of-parent"):
        check_delegated(caveats_of([parent]), caveats_of([child]))


@pytest.mark.parametrize(
    ("parent", "child", "code"),
    [
        (constrained(A), {}, "containment-caveat-required"),
        (constrained(A), {"tables": ["a"]}, "containment-caveat-required"),
        (constrained(A), constrained(A, B), "containment-sql-statement-added"),
        (constrained(A), constrained(A | {"sql": "SELECT 2"}), "containment-sql-statement-added"),
        (
            constrained(A),
            constrained(statement("a", "SELECT ?")),
            "containment-sql-fixed-param-dropped",
        ),
        (
            constrained(A),
            constrained(statement("a", "SELECT ?", fixed(0, 2))),
            "containment-sql-fixed-param-mismatch",
        ),
        (
            constrained(A),
            constrained(statement("a", "SELECT ?", fixed(0, True))),
            "containment-sql-fixed-param-mismatch",
        ),
    ],
)
def test_SQ28_statements_not_contained(parent, child, code):
    """A delegate can neither add nor change a statement, nor remove its fixed parameters."""
    with pytest.raises(CaveatRefused) as caught:
        contains(caveats_of([parent]), caveats_of([child]))
    assert caught.value.text == code


NAMES = st.lists(st.sampled_from(["a", "b", "A", "c"]), max_size=3)
PIN = st.builds(
    fixed, st.sampled_from([0, 1, 1, 999]), st.sampled_from([None, True, 1, 1.0, "x", 2])
)
STATEMENTS = st.lists(
    st.builds(
        lambda name, sql, pins: statement(name, sql, *pins),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["SELECT 1", "SELECT ?"]),
        st.lists(PIN, max_size=3),
    ),
    min_size=1,
    max_size=3,
)
LISTS = st.fixed_dictionaries(
    {}, optional={"tables": NAMES, "columns": NAMES, "readOnly": st.booleans()}
)
STATED = st.one_of(
    LISTS,
    st.builds(lambda lists, found: {**lists, **constrained(*found)}, LISTS, STATEMENTS),
    st.builds(lambda found: {"constrained-statements": constrained(*found)}, STATEMENTS),
)
PARAMS = st.lists(st.sampled_from([None, True, 1, "x"]), max_size=3)


def bound(allowed, name, params):
    try:
        return allowed.bind(name, params)
    except SqlRefused:
        return None


@fuzzed(0.05)
@given(
    STATED,
    STATED,
    st.sampled_from("abcAd"),
    st.sampled_from(["a", "B", "c", "", "d"]),
    PARAMS,
)
def test_SQ28_a_child_allows_nothing_that_its_parent_does_not(parent, child, table, column, params):
    """Every statement that a contained caveat allows is allowed by the outer caveat too."""
    try:
        if not contains(caveats_of([parent]), caveats_of([child])):
            return
    except CaveatRefused:
        return
    outer, inner = limits(parent), limits(child)
    assert inner.excluded(table, column) or not outer.excluded(table, column)
    assert inner.read_only or not outer.read_only
    assert not inner.is_whole or outer.is_whole
    if outer.mode:
        assert inner.mode
        for name in ("a", "b"):
            made = bound(inner, name, params)
            # The caller of the outer grant can choose every value that is fixed in the inner one.
            pins = dict.fromkeys(
                pin.index
                for one in outer.statements
                if one.name == name
                for pin in one.fixed_params
            )
            if made is None:
                continue
            asked: list[object] = []
            for index, value in enumerate(made[1]):
                asked.append(None if index in pins else value)
            assert bound(outer, name, asked) == made


@fuzzed(0.05)
@given(
    STATED,
    st.text(string.ascii_letters, min_size=1).filter(
        lambda name: name not in {"tables", "columns", "mode", "statements"}
    ),
    st.sampled_from([None, True, [], {}, "x"]),
    st.booleans(),
)
def test_SQ20_an_unknown_member_never_widens(stated, name, value, is_nested):
    """A caveat with an unknown member at any depth is refused."""
    if is_nested and "statements" in stated:
        stated = stated | {"statements": [*stated["statements"][1:], statement() | {name: value}]}
    else:
        stated = stated | {name: value}
    with pytest.raises(SqlRefused):
        limits(stated)


@fuzzed(0.05)
@given(STATED, LISTS, st.sampled_from("abcAd"), st.sampled_from(["a", "B", "c", "", "d"]))
def test_SQ24_a_fact_never_widens(stated, fact, table, column):
    """A call allows exactly what both its capability and its own fact allow."""
    try:
        granted = limits(stated)
    except SqlRefused:
        return
    own = limits(fact)
    found = limits(stated, facts=[{"sqlCaveats": fact}])
    assert found.excluded(table, column) or not (
        granted.excluded(table, column) or own.excluded(table, column)
    )
    assert found.read_only == (granted.read_only or own.read_only)
    assert found.mode == granted.mode
    assert found.is_whole == (granted.is_whole and own.is_whole)
