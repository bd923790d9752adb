"""Fuzzing of queries, facts and paths: each gives a value or one of our errors."""

import json
from typing import Any

from delegation_bench import ALICE, GET, LIST, space
from fuzz_strategies import changed_objects, damaged_bytes, damaged_text, json_values, large_texts
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from capabilities.capability_errors import InvalidIdentifier
from capabilities.resources import SpaceResource, parse_resource, parse_space_id
from capabilities.strict_base64 import encode_url
from node.operations.delegations.delegation_listing import time_text
from node.operations.delegations.query_filters import MAX_ITEMS, Filters, parse_filters
from node.operations.delegations.read_capabilities import Chain, GrantFilters, parse_query
from node.operations.operation_table import row_of
from node.refusal import Refusal

CID = "bafkr4ihz4cvap3g5oi2yhmwbtiavqk2rokgkvi6m772smkbt4xu5skiuee"
ASKED = {
    "direction": "granted",
    "status": "revoked",
    "space": space(),
    "limit": 7,
    "cursor": encode_url(CID.encode()),
}
VALUES = json_values("all", "active", "default", "", encode_url(b"x"), members=tuple(ASKED))


@fuzzed()
@given(
    damaged_bytes(json.dumps(ASKED).encode())
    | changed_objects(ASKED, VALUES).map(
        lambda asked: json.dumps(asked).encode("utf-8", "surrogatepass")
    )
    | VALUES.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    | large_texts.map(str.encode)
    | st.binary()
)
def test_any_body(body: bytes) -> None:
    """Any body is parsed into filters within the limits, or refused with a reason."""
    try:
        filters = parse_filters(body)
    except Refusal as error:
        assert str(error).startswith("Invalid delegation query: ")
        return
    assert isinstance(filters, Filters)
    assert 1 <= filters.limit <= MAX_ITEMS
    assert filters.after is None or len(filters.after) == 32


PARAMS = {
    "type": "list",
    "filters": {"direction": "created", "path": "a", "actions": [GET]},
    "delegation_cid": CID,
}


@fuzzed()
@given(
    st.lists(
        changed_objects(
            PARAMS,
            json_values("list", "chain", "created", GET, members=("filters", "path", "actions")),
        ).map(lambda params: {"capabilitiesReadParams": params})
        | json_values("capabilitiesReadParams", members=("capabilitiesReadParams",)),
        max_size=3,
    )
)
def test_any_facts(facts: list[Any]) -> None:
    """Any facts request a list or a chain."""
    asked = parse_query(facts)
    assert isinstance(asked, GrantFilters | Chain)
    assert (
        isinstance(asked, Chain)
        or asked.actions is None
        or all(isinstance(one, str) for one in asked.actions)
    )


@fuzzed()
@given(
    damaged_text(f"{space()}/space/{space()}", f"{space()}/capabilities/all", f"{space()}/space"),
    st.sampled_from(
        ["tinycloud.space/create", "tinycloud.space/info", "tinycloud.space/list", LIST, GET]
    ),
)
def test_any_resource(text: str, ability: str) -> None:
    """Every resource is classified, and only one in a space can have an outcome."""
    try:
        resource = parse_resource(text)
    except InvalidIdentifier:
        return
    row = row_of(ability)
    assert row is not None or ability == LIST
    assert row is None or not row.about(resource) or isinstance(resource, SpaceResource)


@given(st.floats() | st.none())
def test_any_time(at: float | None) -> None:
    """Every time has a text, within the calendar; None stays None."""
    if at is not None and at != at:
        return  # no token holds what is no number
    reported = time_text(at)
    assert (reported is None) is (at is None)
    assert reported is None or reported.endswith("Z")


def test_times() -> None:
    """Whole seconds have no fraction."""
    assert time_text(1_767_323_045.0) == "2026-01-02T03:04:05Z"
    assert time_text(0.5) == "1970-01-01T00:00:00.500000Z"
    assert parse_space_id(space()).owner == ALICE.did
