"""Tests of the conversion from a node's error answer to an exception."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.refusal import Refusal
from sealspace.errors import (
    ActionNotAuthorized,
    DelegationRevoked,
    DuplicateRequest,
    NodeFailure,
    NodeRefused,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    RateLimited,
    ReleaseRefused,
    SpaceNotFound,
    StoreFull,
    TokenOutsideWindow,
    Unauthorized,
    ValueTooLarge,
)
from sealspace.wire.node_refusals import refusal_of

TEXT = {"Content-Type": "text/plain; charset=utf-8"}
CID = "bafkr4iderae7bara"


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (
            401,
            "Unauthorized Action: tinycloud:key:z6Mk:default/kv/a / tinycloud.kv/get",
            ActionNotAuthorized,
        ),
        (
            403,
            (
                "Unauthorized Action: urn:tinycloud:encryption:did:key:z:n /"
                " sealspace.encryption/policy"
            ),
            ActionNotAuthorized,
        ),
        (401, f"delegation-revoked: {CID}", DelegationRevoked),
        (401, f"delegation-parent-revoked: {CID}", DelegationRevoked),
        (401, f"delegation-ancestor-revoked: ancestor={CID} invoked=bafkr4ia", DelegationRevoked),
        (401, "release refused: no_policy", ReleaseRefused),
        (403, "release refused: measurement", ReleaseRefused),
        (401, "Invocation expired or not yet valid", TokenOutsideWindow),
        (401, "Invocation lifetime exceeds server maximum", TokenOutsideWindow),
        (401, "Failed to verify signature", Unauthorized),
        (402, "Storage quota exceeded. Used: 5 bytes, Limit: 4 bytes", QuotaExceeded),
        (404, "Space not found", SpaceNotFound),
        (404, "No Such Key: a", NotFound),
        (409, "duplicate invocation", DuplicateRequest),
        (412, "KV precondition failed", PreconditionFailed),
        (413, "too large", ValueTooLarge),
        (429, "", RateLimited),
        (500, "database error", NodeFailure),
        (507, "The node's store is full", StoreFull),
        (418, "", NodeRefused),
    ],
)
def test_status_and_text_name_the_error(status: int, text: str, kind: type[NodeRefused]) -> None:
    """Each refusal is raised as the exception class for its status and text."""
    refusal = refusal_of(status, TEXT, text.encode())
    assert kind is type(refusal)
    assert (status, text) == (refusal.status, refusal.text)


@pytest.mark.parametrize(("status", "kind"), [(402, QuotaExceeded), (413, ValueTooLarge)])
def test_a_full_space_is_read_from_text_and_from_json(status: int, kind: type[NodeRefused]) -> None:
    """The error has the same text whether the node answers with JSON or with a text alone (J8)."""
    text = "Storage quota exceeded. Used: 5 bytes, Limit: 4 bytes"
    said = {"error": "x", "message": text, "space": {"usedBytes": 5, "limitBytes": 4}}
    typed = {"Content-Type": "application/json"}
    for headers, body in ((typed, json.dumps(said)), (TEXT, text)):
        refusal = refusal_of(status, headers, body.encode())
        assert kind is type(refusal)
        assert refusal.text == text
    for body in ("[]", '{"message":1}', "{", "[" * 5000):
        refusal = refusal_of(status, typed, body.encode())
        assert kind is type(refusal)
        assert refusal.text == body[:2000]


def test_a_restored_node_is_waited_for() -> None:
    """After a restore of the node, the hint is to wait, because a new token would be refused too
    (BK5)."""
    text = str(Refusal("restored-recently", 312)).encode()
    refusal = refusal_of(503, {**TEXT, "Retry-After": "312"}, text)
    assert type(refusal) is NodeFailure
    assert refusal.retry_after_s == 312
    assert refusal.hint == "try again in 312 s"
    assert refusal.step == "try again in 312 s"
    assert refusal_of(503, TEXT, text).hint == NodeFailure.default_hint


def test_what_is_missing_is_read_out_of_the_text() -> None:
    """The error has the resource and the action that the node's text names (I36)."""
    text = "Unauthorized Action: tinycloud:key:z6Mk:default/kv/a / b / tinycloud.kv/get"
    refusal = refusal_of(401, TEXT, text.encode())
    assert isinstance(refusal, ActionNotAuthorized)
    assert refusal.resource == "tinycloud:key:z6Mk:default/kv/a / b"
    assert refusal.action == "tinycloud.kv/get"
    assert refusal.hint


def test_no_text_of_a_node_takes_long_to_read() -> None:
    """A hostile refusal full of blanks is read quickly, so that the event loop is not blocked."""
    began_s = time.process_time()
    for text in (
        "Unauthorized Action:" + " " * 1900 + "x",
        "Unauthorized Action:" + "/ tinycloud.a" * 140 + " x",
    ):
        assert type(refusal_of(401, TEXT, text.encode())) is Unauthorized
    assert time.process_time() - began_s < 1


def test_the_revoked_delegation_is_named() -> None:
    """The error has the id of the revoked delegation, not of the cited one."""
    refusal = refusal_of(
        401, TEXT, f"delegation-ancestor-revoked: ancestor={CID} invoked=bafkr4ia".encode()
    )
    assert isinstance(refusal, DelegationRevoked)
    assert refusal.cid == CID


def test_the_reason_of_the_gate_is_named() -> None:
    """The error's reason is the release gate's code."""
    refusal = refusal_of(401, TEXT, b"release refused: no_policy")
    assert isinstance(refusal, ReleaseRefused)
    assert refusal.reason == "no_policy"


def test_a_problem_document_gives_its_code_and_hint() -> None:
    """The hint of a problem document becomes the hint of the error."""
    body = json.dumps(
        {"title": "Too old", "status": 400, "code": "challenge-expired", "hint": "ask anew"}
    ).encode()
    refusal = refusal_of(400, {"Content-Type": "application/problem+json"}, body)
    assert refusal.problem == "challenge-expired"
    assert refusal.hint == "ask anew"
    assert refusal.text == "Too old"


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("15", 15.0),
        ("0", 0.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("9" * 10, None),
    ],
)
def test_when_to_come_again(said: str, read: float | None) -> None:
    """`Retry-After` is read only as a number of seconds."""
    for kind in ("text/plain", "application/problem+json"):
        assert (
            refusal_of(503, {"Content-Type": kind, "Retry-After": said}, b"{}").retry_after_s
            == read
        )


def test_a_page_for_people_says_nothing() -> None:
    """Of a proxy's HTML error page only the status is used."""
    refusal = refusal_of(
        401, {"Content-Type": "text/html; charset=utf-8"}, b"<h1>Space not found</h1>"
    )
    assert type(refusal) is Unauthorized
    assert refusal.text == ""


@given(
    status=st.integers(400, 599),
    kind=st.sampled_from(["text/plain", "text/html", "application/problem+json", "", "\x00"]),
    body=st.binary(max_size=200) | st.just(b"[" * 100_000) | st.just(b'{"code":1}'),
)
def test_any_answer_becomes_a_refusal(status: int, kind: str, body: bytes) -> None:
    """Any answer is converted to one of our errors with a bounded text."""
    refusal = refusal_of(status, {"Content-Type": kind}, body)
    assert status == refusal.status
    assert len(refusal.text) <= 2_000
