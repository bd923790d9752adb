"""Reading what a node answered, strictly."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from capabilities.errors import CapabilityError
from capabilities.strict_json import Json, parse_json

from ..errors import MalformedAnswer
from .transport import MAX_ANSWER_BYTES, Answer

Decoded = TypeVar("Decoded")
_TEXTS = msgspec.json.Decoder(list[str])


def decoded(decoder: "msgspec.json.Decoder[Decoded]", answer: Answer, what: str) -> Decoded:
    """Return the body of an answer as a decoder reads it; raises MalformedAnswer that says it is not `what`."""
    try:
        return decoder.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedAnswer(f"{answer.asked}: the node's answer is not {what}") from exc


def json_object(answer: Answer, *, max_bytes: int = MAX_ANSWER_BYTES) -> dict[str, Json]:
    """Return the JSON object of an answer; raises MalformedAnswer."""
    try:
        return parse_json(answer.body, max_bytes=max_bytes)
    except CapabilityError as exc:
        raise MalformedAnswer("the node's answer is not a JSON object") from exc


def text_list(answer: Answer) -> list[str]:
    """Return the JSON array of texts of an answer."""
    return decoded(_TEXTS, answer, "a list of texts")


def required_text(value: Mapping[str, Json], member: str) -> str:
    """Return a member that has to be a non-empty text."""
    text = value.get(member)
    if not isinstance(text, str) or not text:
        raise MalformedAnswer(f"the node's answer has no text `{member}`")
    return text


def required_number(value: Mapping[str, Json], member: str) -> float:
    """Return a member that has to be a number."""
    number = value.get(member)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise MalformedAnswer(f"the node's answer has no number `{member}`")
    return float(number)


def texts_of(value: Mapping[str, Json], member: str) -> tuple[str, ...]:
    """Return the texts of a list member; an absent member is an empty list."""
    items = value.get(member, [])
    if not isinstance(items, list):
        raise MalformedAnswer(f"the node's answer has no list `{member}`")
    return tuple(item for item in items if isinstance(item, str))
