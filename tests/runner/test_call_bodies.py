"""Untrusted bodies of calls and start documents (RN66)."""

import json
import time
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from fuzz_strategies import changed_objects, json_values
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from runner.calls.call_bodies import MAX_BODY_BYTES, CallBody, parse_body
from runner.calls.run_receipts import Start, encode_start, parse_start
from runner.guest.body_split import MAX_BESIDE_INPUT_BYTES
from runner.guest.runs import MAX_INPUT_BYTES
from runner.reasons import RunRefused
from sealspace.errors import StatementInvalid

HASH = "ab" * 32
BODY: dict[str, Any] = {
    "source": {"wasmSha256": HASH},
    "input": "x",
    "responseFormat": "Json",
    "resourceLimits": {"maxMemoryMb": 3},
    "secretsRef": {
        "profile": "prod",
        "owner": "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp",
    },
    "nonce": "1",
}


def refusal(data: bytes) -> str:
    with pytest.raises(RunRefused) as refused:
        parse_body(data)
    return refused.value.reason.code


@pytest.mark.parametrize("member", ["input", "source", "nonce", "other"])
def test_hostile_bodies_cost_little(member: str) -> None:
    """RN66: ten megabytes of empty lists in any member are refused before they are parsed."""
    data = b'{"source":{"wasmSha256":"%s"},"%s":[%s[]]}' % (
        HASH.encode(),
        member.encode(),
        b"[]," * 3_000_000,
    )
    tracemalloc.start()
    begun = time.process_time()
    assert refusal(data) == "request-invalid"
    took_s, (_, most_bytes) = time.process_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 2 * len(data) and took_s < 2


def test_what_is_repeated_or_too_long_is_refused() -> None:
    """RN66: repeated members and bodies over a limit are refused."""
    known = json.dumps(BODY).encode()
    assert parse_body(known).input == b"x"
    assert refusal(known.replace(b'"nonce"', b'"nonce": "2", "nonce"')) == "request-invalid"
    assert refusal(known.replace(b'"input"', b'"input": "y", "input"')) == "request-invalid"
    assert refusal(known + b" " * MAX_BESIDE_INPUT_BYTES) == "request-invalid"
    longest = json.dumps(BODY | {"input": "x" * MAX_INPUT_BYTES}).encode()
    assert len(parse_body(longest).input) == MAX_INPUT_BYTES
    assert refusal(longest.replace(b'"input": "', b'"input": "x')) == "input-too-large"
    assert refusal(b" " * (MAX_BODY_BYTES + 1)) == "input-too-large"


@fuzzed()
@given(st.binary(max_size=200) | json_values().map(lambda value: json.dumps(value).encode()))
def test_fuzz_bodies(data: bytes) -> None:
    """Any bytes are parsed, or refused with a code."""
    with suppress(RunRefused):
        assert isinstance(parse_body(data), CallBody)
    with suppress(StatementInvalid):
        assert isinstance(parse_start(data), Start)


@fuzzed()
@given(changed_objects(BODY, json_values(HASH, members=tuple(BODY))))
def test_fuzz_changed_bodies(value: dict[str, Any]) -> None:
    """A slightly changed body is parsed, or refused with a code."""
    with suppress(RunRefused):
        parse_body(json.dumps(value).encode())


def test_a_start_document_is_what_was_written() -> None:
    """RN71, RN73: a start document has known members, a valid key and its own hash."""
    statement: dict[str, Any] = {
        "did": "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp",
        "manifest": {"app_id": "a", "name": "n", "defaults": False},
        "compose": None,
    }
    key = statement["did"]
    data = encode_start(statement, key, b"quote", None)
    assert parse_start(data).receipt_key == key
    for name, value in (
        ("receiptKey", "did:web:x"),
        ("quote", ""),
        ("eventLog", "x"),
        ("type", "x"),
        ("more", 1),
    ):
        with pytest.raises(StatementInvalid):
            parse_start(json.dumps(json.loads(data) | {name: value}).encode())
