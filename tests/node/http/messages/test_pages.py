"""Framework pages (H2)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.http.messages.pages import page_answer, prefers_json


@pytest.mark.parametrize(
    ("accept", "json_wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/html", False),
        ("application/json", True),
        ("text/html, application/json", False),
        ("application/json, text/html", True),
        ("text/html;q=0.5, application/json", True),
        ("application/json;q=0.5, */*", False),
        ("application/json;q=0", False),
        ("application/json;q=x", False),
        ("APPLICATION/JSON ; charset=utf-8", True),
    ],
)
def test_accept_decides_the_form(accept: str, json_wanted: bool) -> None:
    """The page is JSON only where JSON is the preferred type."""
    assert json_wanted == prefers_json(accept)


@given(st.text())
def test_any_accept_is_read(accept: str) -> None:
    """Any header text gives a page."""
    assert page_answer(404, accept).status == 404


def test_html_page() -> None:
    """The HTML page says code and reason in title and heading."""
    answer = page_answer(404, "")
    assert isinstance(answer.body, bytes)
    assert b"<title>404 Not Found</title>" in answer.body and b"<h1>404: Not Found</h1>" in answer.body
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 429, 431, 500, 503, 507, 599])
def test_json_page(status: int) -> None:
    """The JSON page has code, reason and description, for any status."""
    answer = page_answer(status, "application/json")
    assert isinstance(answer.body, bytes)
    error = json.loads(answer.body)["error"]
    assert {"code", "reason", "description"} == set(error) and status == error["code"]
    assert answer.headers["Content-Type"] == "application/json"
