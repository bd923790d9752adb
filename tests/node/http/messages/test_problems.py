"""From errors to answers, on both surfaces."""

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from capabilities.errors import BadSignature, MalformedToken
from encryption_network.errors import NetworkNotFound
from node.http.messages.answers import WireText
from node.http.messages.pages import FrameworkPage
from node.http.messages.problems import KINDS, Problem, error_answer
from node.operations.errors import DuplicateInvocation, KeyNotFound
from spaces.errors import StoreBusy, StoreFull, StoreUnavailable, TooManySpaces
from tee_backend.attestation.errors import CollateralUnusable, MalformedQuote


def _answer(error: Exception, *, own: bool = False, accept: str = "") -> web.Response:
    return error_answer(make_mocked_request("GET", "/", headers={"Accept": accept}), error, own=own)


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (
            WireText(402, "Storage quota exceeded. Used: 1 bytes, Limit: 1 bytes"),
            402,
            "Storage quota exceeded. Used: 1",
        ),
        (BadSignature(), 401, "Failed to verify signature"),
        (NetworkNotFound(), 404, "network not found"),
        (DuplicateInvocation(), 409, "duplicate invocation"),
        (TooManySpaces(limit=64, got=65), 400, "at most 64 spaces"),
        (StoreFull("x"), 507, "The store is full"),
        (StoreUnavailable("x"), 503, "The store cannot be reached"),
        (StoreBusy("x"), 503, "Others changed the same rows"),
    ],
)
def test_wire_errors_are_text(error: Exception, status: int, text: str) -> None:
    """On the wire surface a domain error is its text as the whole body (H1)."""
    answer = _answer(error)
    assert (status, "text/plain; charset=utf-8") == (answer.status, answer.headers["Content-Type"])
    assert answer.text is not None and text in answer.text


@pytest.mark.parametrize(
    ("error", "status"),
    [(FrameworkPage(422), 422), (KeyNotFound(), 404), (ValueError("canary"), 500), (web.HTTPNotFound(), 404)],
)
def test_wire_pages(error: Exception, status: int) -> None:
    """What the framework raises, and what has no text of its own, is a framework page (H2)."""
    answer = _answer(error)
    assert (status, "text/html; charset=utf-8") == (answer.status, answer.headers["Content-Type"])
    assert isinstance(answer.body, bytes) and b"canary" not in answer.body


def test_malformed_token_is_a_page() -> None:
    """A token that cannot be decoded is the 401 page, without a reason (E5)."""
    answer = _answer(MalformedToken("canary"))
    assert answer.status == 401 and answer.text is not None and "canary" not in answer.text


@pytest.mark.parametrize("error", [StoreUnavailable("x"), StoreBusy("x")])
@pytest.mark.parametrize("own", [False, True])
def test_passing_trouble_says_when_to_try_again(error: Exception, own: bool) -> None:
    """A 503 of the store carries Retry-After on both surfaces."""
    assert _answer(error, own=own).headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Problem("too-many-requests"), 429, "too-many-requests"),
        (StoreFull("x"), 507, "store-full"),
        (BadSignature(), 401, BadSignature.code),
        (MalformedToken("x"), 401, "token-malformed"),
        (MalformedQuote("x"), 403, "malformed"),
        (CollateralUnusable("x"), 503, "collateral"),
        (FrameworkPage(404), 404, "not-found"),
        (FrameworkPage(413), 413, "too-large"),
        (FrameworkPage(418), 400, "not-readable"),
        (web.HTTPNotFound(), 404, "not-found"),
        (ValueError("canary"), 500, "internal"),
        (DuplicateInvocation(), 409, "duplicate-invocation"),
    ],
)
def test_own_errors_are_problems(error: Exception, status: int, code: str) -> None:
    """On our surface every error is problem+json with the same six members."""
    answer = _answer(error, own=True)
    assert (status, "application/problem+json") == (answer.status, answer.headers["Content-Type"])
    assert isinstance(answer.body, bytes) and b"canary" not in answer.body
    problem = json.loads(answer.body)
    assert list(problem) == ["type", "title", "status", "code", "request_id", "hint"]
    assert (status, code, f"urn:sealspace:problem:{code}") == (problem["status"], problem["code"], problem["type"])


def test_own_hint_of_the_error_wins() -> None:
    """A hint that fits the caller replaces the table's."""
    answer = _answer(Problem("too-many-requests", hint="wait a minute"), own=True)
    assert isinstance(answer.body, bytes) and json.loads(answer.body)["hint"] == "wait a minute"


def test_table_is_complete() -> None:
    """Every row has an error status, a title and a hint."""
    assert all(kind.status >= 400 and kind.title and kind.hint for kind in KINDS.values())
