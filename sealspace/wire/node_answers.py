"""Reading what a node answered, strictly: it may be hostile.

Lists in pages end, and each page follows the one before (J14).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from capabilities.capability_errors import CapabilityError
from capabilities.strict_json import Json, parse_json

from ..errors import MalformedAnswer
from .transport import MAX_ANSWER_BYTES, Answer

Decoded = TypeVar("Decoded")
_TEXTS = msgspec.json.Decoder(list[str])


def decoded(decoder: "msgspec.json.Decoder[Decoded]", answer: Answer, what: str) -> Decoded:
    """Return the body of an answer as a decoder reads it; raises MalformedAnswer that says it is
    not `what`."""
    try:
        return decoder.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedAnswer(f"{answer.asked}: the node's answer is not {what}") from exc


def json_object(answer: Answer) -> dict[str, Json]:
    """Return the JSON object of an answer; raises MalformedAnswer."""
    try:
        return parse_json(answer.body, max_bytes=MAX_ANSWER_BYTES)
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


Page = TypeVar("Page")

MAX_PAGES: Final = 100_000
"""Pages of one listing: a hundred million keys in full ones. A node can always make up one more
page."""


async def read_pages(
    ask: Callable[[str | None], Awaitable[Page]],
    place_of: Callable[[Page], str | None],
    *,
    most_pages: int = MAX_PAGES,
) -> AsyncIterator[Page]:
    """Yield the pages of a list: `ask` returns the page at a place, `place_of` says where the next
    one is."""
    place: str | None = None
    for _ in range(most_pages):
        page = await ask(place)
        yield page
        following = place_of(page)
        if following is None:
            return
        if following == place:
            raise MalformedAnswer("the node's list does not advance")
        place = following
    raise MalformedAnswer(
        f"the node's list has more than {most_pages} pages", hint="list with larger pages"
    )


def require_advance(
    keys: Sequence[str], *, prefix: str, after: str | None, limit: int, is_last: bool
) -> None:
    """Check that a page of keys is valid, and follows what was listed before; raises
    MalformedAnswer.

    Keys have to begin with `prefix` and to ascend from `after`, the last key before (None: not
    known). A page that is not the last one holds 1 to `limit` keys; the last may hold more, of a
    node that sends everything at once.
    """
    if not is_last and not 0 < len(keys) <= limit:
        raise MalformedAnswer("a page of the node's list is empty, or longer than was asked for")
    before = after
    for key in keys:
        if not key.startswith(prefix):
            raise MalformedAnswer("the node's list holds keys that were not asked for")
        if before is not None and key <= before:
            raise MalformedAnswer(
                "the node's list does not advance", hint="list with one page that holds all keys"
            )
        before = key
