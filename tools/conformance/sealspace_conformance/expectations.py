"""What a rule demands of an answer, as a text and as a comparison."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sealspace_conformance.transport import Answer

_TEXT = "text/plain; charset=utf-8"
_PROBLEM = "application/problem+json"
_JSON = "application/json"


@dataclass(frozen=True)
class Expectation:
    """A demand.

    Attributes:
        text: the demand in words, for the report.
        difference: returns how an answer differs, or an empty text if it meets the demand.
        elsewhere: the demand on other nodes of the protocol, where it is a weaker one.
    """

    text: str
    difference: Callable[[Answer], str]
    elsewhere: "Expectation | None" = None

    def and_that(self, text: str, holds: Callable[[Answer], bool]) -> "Expectation":
        """Return this demand with a further one."""

        def difference(answer: Answer) -> str:
            found = self.difference(answer)
            if found:
                return found
            return "" if holds(answer) else f"not so: {text}"

        elsewhere = None if self.elsewhere is None else self.elsewhere.and_that(text, holds)
        return Expectation(f"{self.text}; {text}", difference, elsewhere)


def _media_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").split(";")[0].strip().lower()


def status(*allowed: int) -> Expectation:
    """Expect one of some statuses."""
    words = " or ".join(str(number) for number in allowed)
    return Expectation(words, lambda answer: "" if answer.status in allowed else "another status")


def text(number: int, body: str) -> Expectation:
    """Expect a status with a text of the wire protocol as the whole body (H1)."""

    def difference(answer: Answer) -> str:
        if answer.status != number:
            return "another status"
        if answer.text != body:
            return "another text"
        if answer.headers.get("content-type", "").lower() != _TEXT:
            return f"the content type is not {_TEXT}"
        return ""

    return Expectation(f"{number} {body}", difference)


def begins(number: int, beginning: str) -> Expectation:
    """Expect a status with a text that begins in a certain way."""
    return status(number).and_that(
        f"a text that begins with: {beginning}", lambda answer: answer.text.startswith(beginning)
    )


def problem(number: int, code: str = "") -> Expectation:
    """Expect a problem document (H2), of one of our own routes with a code.

    What the protocol's own routes answer before they run has another form on other nodes, of which
    clients may rely on the status alone.
    """

    def difference(answer: Answer) -> str:
        if answer.status != number:
            return "another status"
        if _media_type(answer) != _PROBLEM:
            return f"the content type is not {_PROBLEM}"
        if not answer.object:
            return "the body is not a JSON object"
        if code and answer.object.get("code") != code:
            return "another code"
        return ""

    elsewhere = None if code else status(number)
    return Expectation(f"{number} problem {code}".rstrip(), difference, elsewhere)


def empty(number: int, headers: Mapping[str, str] | None = None) -> Expectation:
    """Expect a status without a body, and some headers."""
    return data(b"", number=number, headers=headers)


def data(
    body: bytes, *, number: int = 200, headers: Mapping[str, str] | None = None
) -> Expectation:
    """Expect a body byte for byte, and some headers. An empty header is one that is absent."""
    wanted = dict(headers or {})

    def difference(answer: Answer) -> str:
        if answer.status != number:
            return "another status"
        if answer.body != body:
            return "another body"
        for name, value in wanted.items():
            if answer.headers.get(name, "") != value:
                return f"the header {name} is {answer.headers.get(name, '')!r}"
        return ""

    words = [f"{number} with {'no body' if not body else repr(body.decode('utf-8', 'replace'))}"]
    words += [f"{name}: {value or '(absent)'}" for name, value in wanted.items()]
    return Expectation(", ".join(words), difference)


def json_body(value: Any, *, number: int = 200) -> Expectation:
    """Expect a JSON body with exactly this value."""

    def difference(answer: Answer) -> str:
        if answer.status != number:
            return "another status"
        if _media_type(answer) != _JSON:
            return f"the content type is not {_JSON}"
        return "" if is_same_json(answer.json, value) else "another value"

    return Expectation(f"{number} {value}", difference)


def members(wanted: Mapping[str, Any], *, number: int = 200) -> Expectation:
    """Expect a JSON object with some members, of which others are not compared."""

    def difference(answer: Answer) -> str:
        if answer.status != number:
            return "another status"
        if _media_type(answer) != _JSON:
            return f"the content type is not {_JSON}"
        for name, value in wanted.items():
            if name not in answer.object or not is_same_json(answer.object[name], value):
                return f"another {name}"
        return ""

    return Expectation(f"{number} with {dict(wanted)}", difference)


def is_same_json(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal, where `true` is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same_json(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same_json, one, other))
    return type(one) is type(other) and bool(one == other)
