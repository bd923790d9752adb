"""Tests of the conversion of errors to answers, on both surfaces."""

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from capabilities.capability_errors import (
    BadSignature,
    ChainError,
    InvalidIdentifier,
    MalformedToken,
    WrongKind,
)
from encryption_network.network_errors import RecordError, ReleaseRefused, RequestError
from node.http.messages.error_answers import AnsweredRoute
from node.http.messages.http_answers import WholeAnswer
from node.http.messages.problems import PLACE, error_answer
from node.operations.values.kv_commit import quota_exceeded
from node.refusal import Refusal
from spaces.space_errors import (
    IntakeFull,
    StoreBusy,
    StoreFull,
    StoreLocked,
    StoreUnavailable,
    TooManySpaces,
)
from tee_backend.attestation.attestation_errors import CollateralUnusable, QuoteRefused


def _answer(
    error: Exception, *, own: bool = False, accept: str = "", place: AnsweredRoute | None = None
) -> web.Response:
    request = make_mocked_request("GET", "/", headers={"Accept": accept})
    if place is not None:
        request[PLACE] = place
    return error_answer(request, error, own=own)


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (BadSignature(), 401, "Failed to verify signature"),
        (RequestError("network-not-found"), 404, "network not found"),
        (Refusal("duplicate-invocation"), 409, "duplicate invocation"),
        (
            TooManySpaces("a delegation may cover at most 64 spaces; this delegation covers 65"),
            400,
            "at most 64 spaces",
        ),
        (StoreFull("x"), 507, "The node's store is full"),
        (StoreUnavailable("x"), 503, "The store cannot be reached"),
        (StoreBusy("x"), 503, "The store is busy"),
        (IntakeFull("x"), 503, "Too many values are being received"),
        (Refusal("too-many-requests", retry_after_s=3), 429, "Rate limit exceeded"),
        (RequestError("key-backend", "x"), 500, "key backend error: x"),
        (Refusal("not-enabled", "SQL"), 501, "SQL support is not enabled on this node"),
    ],
)
def test_wire_errors_are_text(error: Exception, status: int, text: str) -> None:
    """On the wire surface a domain error is its text as the whole body (H1)."""
    answer = _answer(error)
    assert (status, "text/plain; charset=utf-8") == (answer.status, answer.headers["Content-Type"])
    assert answer.text is not None and text in answer.text


@pytest.mark.parametrize(
    ("used_bytes", "status", "expected"),
    [
        (
            1,
            402,
            {
                "error": "storage_quota_exceeded",
                "message": "Storage quota exceeded. Used: 1 bytes, Limit: 1 bytes",
                "space": {"usedBytes": 1, "limitBytes": 1},
            },
        ),
        (
            0,
            413,
            {
                "error": "storage_limit_reached",
                "message": "Write exceeds remaining storage. Used: 0 bytes, Limit: 1 bytes",
                "space": {"usedBytes": 0, "limitBytes": 1},
            },
        ),
    ],
)
def test_a_full_space_is_json(used_bytes: int, status: int, expected: dict[str, object]) -> None:
    """A write that does not fit is JSON with both numbers, and with the sentence that older clients
    parse (H12)."""
    answer = _answer(quota_exceeded(used_bytes, 1))
    assert isinstance(answer, WholeAnswer)
    assert (status, "application/json") == (answer.status, answer.given["Content-Type"])
    assert json.loads(answer.whole) == expected


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refusal("wrong-shape"), 422),
        (Refusal("too-slow"), 408),
        (Refusal("key-not-found"), 404),
        (RequestError("body-not-json", "canary"), 400),
        (ValueError("canary"), 500),
        (StoreLocked("canary"), 500),
        (web.HTTPNotFound(), 404),
        (web.HTTPExpectationFailed(), 417),
    ],
)
def test_wire_problems(error: Exception, status: int) -> None:
    """Errors of the framework and errors without a wire text are problems without a message
    (H2)."""
    answer = _answer(error)
    assert (status, "application/problem+json") == (answer.status, answer.headers["Content-Type"])
    assert isinstance(answer.body, bytes) and b"canary" not in answer.body


@pytest.mark.parametrize(
    ("place", "error", "status", "text"),
    [
        ("invoked-decrypt", RequestError("network-not-found"), 403, "network not found"),
        ("invoked-decrypt", RequestError("network-exists"), 409, "network already exists"),
        (
            "invoked-decrypt",
            RequestError("network-revoked"),
            403,
            "network is not active (state: revoked)",
        ),
        (
            "invoked-decrypt",
            RequestError("hash-mismatch", "receiverPublicKeyHash"),
            403,
            "invocation hash mismatch: bodyHash",
        ),
        (
            "invoked-decrypt",
            RequestError("body-not-json", "EOF while parsing"),
            400,
            "EOF while parsing",
        ),
        (
            "invoked-decrypt",
            ReleaseRefused("no_policy", "canary"),
            403,
            "release refused: no_policy",
        ),
        ("invoked-decrypt", RecordError("torn"), 403, "torn"),
        ("invoked-decrypt", BadSignature(), 403, "Failed to verify signature"),
        ("invoked-decrypt", WrongKind(), 401, "Token of another kind"),
        ("invoked-decrypt", Refusal("duplicate-invocation"), 409, "duplicate invocation"),
        ("revoke", ChainError("revoker-unauthorized"), 403, "Unauthorized Revoker"),
        ("revoke", InvalidIdentifier("no cid"), 403, "no cid"),
        ("revoke", WrongKind(), 401, "Token of another kind"),
        ("revoke", MalformedToken("canary"), 401, None),
        ("delegate", ChainError("policy-profile-refused", "a policy root"), 403, "a policy root"),
        ("delegate", BadSignature(), 401, "Failed to verify signature"),
        ("delegation-status", StoreUnavailable("canary"), 503, "Status unavailable"),
        ("delegation-query", StoreUnavailable("canary"), 503, "Delegation query unavailable"),
        ("peer", InvalidIdentifier("canary"), 400, "Invalid space ID"),
    ],
)
def test_some_places_answer_in_their_own_way(
    place: AnsweredRoute, error: Exception, status: int, text: str | None
) -> None:
    """Some routes answer a code with a status and text of their own, without Retry-After."""
    answer = _answer(error, place=place)
    assert status == answer.status
    assert answer.headers.get("Retry-After") is None
    assert text in (answer.text, None)
    assert answer.content_type == ("application/problem+json" if text is None else "text/plain")


def test_malformed_token_is_a_problem() -> None:
    """A token that cannot be decoded is 401, without a reason (E5)."""
    answer = _answer(MalformedToken("canary"))
    assert answer.status == 401 and answer.text is not None and "canary" not in answer.text


@pytest.mark.parametrize("error", [StoreUnavailable("x"), StoreBusy("x")])
@pytest.mark.parametrize("own", [False, True])
def test_passing_trouble_says_when_to_try_again(error: Exception, own: bool) -> None:
    """A 503 of the store has Retry-After on both surfaces."""
    assert _answer(error, own=own).headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Refusal("too-many-requests", retry_after_s=3), 429, "too-many-requests"),
        (Refusal("space-not-found"), 404, "space-not-found"),
        (StoreLocked("canary"), 500, "internal"),
        (StoreFull("x"), 507, "store-full"),
        (BadSignature(), 401, BadSignature.code),
        (MalformedToken("x"), 401, "token-malformed"),
        (QuoteRefused("malformed", "x"), 403, "malformed"),
        (CollateralUnusable("collateral-window", "x"), 503, "collateral-window"),
        (Refusal("not-found"), 404, "not-found"),
        (Refusal("too-large"), 413, "too-large"),
        (Refusal("too-slow"), 408, "too-slow"),
        (web.HTTPExpectationFailed(), 417, "not-readable"),
        (web.HTTPNotFound(), 404, "not-found"),
        (ValueError("canary"), 500, "internal"),
        (Refusal("duplicate-invocation"), 409, "duplicate-invocation"),
    ],
)
def test_own_errors_are_problems(error: Exception, status: int, code: str) -> None:
    """On our own surface every error is problem+json with the same six members."""
    answer = _answer(error, own=True)
    assert (status, "application/problem+json") == (answer.status, answer.headers["Content-Type"])
    assert isinstance(answer.body, bytes) and b"canary" not in answer.body
    problem = json.loads(answer.body)
    assert list(problem) == ["type", "title", "status", "code", "request_id", "hint"]
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == f"urn:sealspace:problem:{code}"


def test_own_hint_of_the_error_wins() -> None:
    """An error's own hint replaces the table's."""
    answer = _answer(Refusal("request-malformed", hint="wait a minute"), own=True)
    assert isinstance(answer.body, bytes) and json.loads(answer.body)["hint"] == "wait a minute"


def test_the_error_knows_when_to_come_again() -> None:
    """An error's own Retry-After replaces the table's; without either there is no header."""
    for own in (False, True):
        assert (
            _answer(Refusal("too-many-requests", retry_after_s=7), own=own).headers["Retry-After"]
            == "7"
        )
        fetched = Refusal("collateral-missing", hint="it is being fetched", retry_after_s=30)
        assert _answer(fetched, own=own).headers["Retry-After"] == "30"
        assert (
            "Retry-After"
            not in _answer(Refusal("collateral-missing", hint="import it"), own=own).headers
        )


@pytest.mark.parametrize("own", [False, True])
def test_faults_are_logged_and_what_callers_do_is_not(
    capfd: pytest.CaptureFixture[str], own: bool
) -> None:
    """A 5xx is logged under its request id without its message, unless the caller caused it."""
    quiet: tuple[Exception, ...] = (
        RequestError("key-backend", "canary"),
        Refusal("not-enabled", "SQL"),
        BadSignature(),
        Refusal("not-found"),
    )
    for error in quiet:
        _answer(error, own=own)
    assert capfd.readouterr().err == ""
    faults = (
        ValueError("canary"),
        RecordError("canary"),
        StoreUnavailable("canary"),
        StoreLocked("canary"),
    )
    for error in faults:
        _answer(error, own=own)
        said = capfd.readouterr().err
        assert type(error).__name__ in said and "canary" not in said
