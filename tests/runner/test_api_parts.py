"""Prices, limits and bodies of the HTTPS API, each tested alone (RN94, RN96, RN97)."""

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from capability_cases import BOB
from fuzz_strategies import changed_objects, json_values
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from capabilities.limits import Rates
from runner.calls.call_bodies import CallBody, parse_api_body, parse_task
from runner.calls.calls import PER_MINUTE
from runner.calls.prices import Price, lower_limits
from runner.guest.runs import Limits
from runner.reasons import RunRefused
from sealspace.documents.project_names import parse_project

PRICE = Price(call=1000, million_instructions=1, second=1)
PROJECT = parse_project(f"{BOB.did}/echo")


def test_prices() -> None:
    """RN94: a price has a base, millions of instructions and whole seconds."""
    assert PRICE.cost(instructions=3_000_000, time_ms=412) == 1003
    assert PRICE.cost(instructions=0, time_ms=2999) == 1002
    assert PRICE.highest_price(Limits(max_instructions=1_500_000, max_execution_s=2)) == 1004
    assert PRICE.lowest_budget == 1001 and not PRICE.is_free and Price().is_free
    assert PRICE.affordable(1001) == {"max_instructions": 1_000_000, "max_execution_s": 1}
    assert (
        Price(second=5).lowest_budget == 5
        and Price(call=1, million_instructions=2, second=7).lowest_budget == 8
    )
    assert (
        Price(call=5).affordable(5) == {} and Price().cost(instructions=10**9, time_ms=10**6) == 0
    )


def test_the_minute_of_a_key() -> None:
    """RN97: a key may call again once its minute has passed."""
    rates, per_s = Rates[str](), PER_MINUTE / 60
    for _ in range(PER_MINUTE):
        assert rates.spent("key", per_s=per_s, now=100.0) <= PER_MINUTE - 1
        rates.add("key", 1, per_s=per_s, now=100.0)
    assert rates.spent("key", per_s=per_s, now=100.0) > PER_MINUTE - 1
    assert rates.spent("key", per_s=per_s, now=101.0) <= PER_MINUTE - 1


def test_the_smaller_of_two_limits() -> None:
    """RN94: of a limit that is named twice the smaller value applies."""
    assert lower_limits({"a": 1, "b": 5}, {"b": 3, "c": 2}) == {"a": 1, "b": 3, "c": 2}


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (b'{"input": "' + b"x" * 10_000_001 + b'"}', "input-too-large"),
        (b'{"input": 1}' + b" " * 20_000_000, "input-too-large"),
        (b'{"input": 1, "resource_limits": [' + b"[]," * 5_000_000 + b"[]]}", "request-invalid"),
        (b'{"input": 1, "more": "' + b"x" * 9_000_000 + b'"}', "request-invalid"),
    ],
    ids=range(4),
)
def test_hostile_bodies_cost_little(body: bytes, refused: str) -> None:
    """RN96: long members beside the input are refused before they are parsed."""
    begun = time.process_time()
    with pytest.raises(RunRefused) as raised:
        parse_api_body(body, PROJECT)
    assert raised.value.reason.code == refused
    assert time.process_time() - begun < 2


def test_the_input_is_not_made_into_objects() -> None:
    """RN96: ten megabytes of lists reach the program as they were sent, without spaces."""
    lists = b"[" + b"[], " * 2_000_000 + b"[]]"
    assert parse_api_body(b'{"input": ' + lists + b"}", PROJECT).input == lists.replace(b" ", b"")
    bare = b'{"a": %s}' % lists
    assert parse_api_body(bare, PROJECT).input == bare.replace(b" ", b"")  # RN230


BODY: dict[str, Any] = {
    "input": 1,
    "async": True,
    "response_format": "Text",
    "resource_limits": {"max_memory_mb": 3},
    "secrets_ref": {"profile": "prod", "account_id": "0x" + "1" * 40},
    "version_key": "ab" * 32,
    "use_bound_identity": False,
}


@fuzzed()
@given(
    st.binary(max_size=200)
    | json_values().map(lambda value: json.dumps(value).encode())
    | changed_objects(BODY, json_values("ab" * 32, members=tuple(BODY))).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_fuzz_api_bodies(data: bytes) -> None:
    """Any bytes are parsed, or refused with a code."""
    with suppress(RunRefused):
        assert isinstance(parse_api_body(data, PROJECT), CallBody)


TASK: dict[str, Any] = {
    "app": PROJECT.text,
    "dataset": PROJECT.text,
    "secrets": {"1": "my-key", "22": "My_Key"},
    "args": "one 'two'",
    "beneficiary": BOB.did,
    "resourceLimits": {"maxMemoryMb": 64},
    "nonce": "n",
}


@fuzzed()
@given(
    st.binary(max_size=200)
    | changed_objects(TASK, json_values("1", members=tuple(TASK))).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_fuzz_tasks(data: bytes) -> None:
    """TK1: any bytes are a task with valid indexes, or are refused with a code."""
    with suppress(RunRefused):
        task = parse_task(data).task
        assert task is not None and len(task.secrets) <= 32
        assert all(str(int(index)) == index for index in task.secrets)
