"""Strict parsers for the responses of untrusted nodes.

Lists in pages must end, and each page must follow the one before (J14).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from capabilities.capability_errors import CapabilityError
from capabilities.strict_json import Json, JsonObject, parse_json

from ..errors import MalformedAnswer
from .transport import MAX_ANSWER_BYTES, Answer

Decoded = TypeVar("Decoded")
_TEXTS = msgspec.json.Decoder(list[str])


def decoded(decoder: "msgspec.json.Decoder[Decoded]", answer: Answer, what: str) -> Decoded:
    """Decode the JSON body of a response.

    Raises MalformedAnswer. `what` describes the expected body in its message.
    """
    try:
        return decoder.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedAnswer(f"{answer.asked}: the node's response is not {what}") from exc


def json_object(answer: Answer) -> JsonObject:
    """Parse a response whose body is a JSON object.

    Raises MalformedAnswer.
    """
    try:
        return parse_json(answer.body, max_bytes=MAX_ANSWER_BYTES)
    except CapabilityError as exc:
        raise MalformedAnswer("the node's response is not a JSON object") from exc


def text_list(answer: Answer) -> list[str]:
    """Parse a response whose body is a list of strings."""
    return decoded(_TEXTS, answer, "a list of strings")


def required_text(value: Mapping[str, Json], member: str) -> str:
    """Return a required string from a JSON object.

    Raises MalformedAnswer if the string is missing or empty.
    """
    text = value.get(member)
    if not isinstance(text, str) or not text:
        raise MalformedAnswer(f"the node's response does not contain the text field `{member}`")
    return text


def required_expiry(value: Mapping[str, Json]) -> float:
    """Return the number `expiresAt` from a JSON object.

    Raises MalformedAnswer if the number is missing.
    """
    number = value.get("expiresAt")
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise MalformedAnswer("the node's response does not contain the numeric field `expiresAt`")
    return float(number)


def texts_of(value: Mapping[str, Json], member: str) -> tuple[str, ...]:
    """Return the list of strings in one member of a JSON object.

    A missing list is empty. Items that are not strings are left out.
    """
    items = value.get(member, [])
    if not isinstance(items, list):
        raise MalformedAnswer(f"the member `{member}` of the node's response is not a list")
    return tuple(item for item in items if isinstance(item, str))


Page = TypeVar("Page")

MAX_PAGES = 100_000
"""Most pages of one listing, enough for a hundred million keys; a hostile node could go on for
ever."""


async def read_pages(
    ask: Callable[[str | None], Awaitable[Page]],
    place_of: Callable[[Page], str | None],
    *,
    most_pages: int = MAX_PAGES,
) -> AsyncIterator[Page]:
    """Yield the pages of a paginated list.

    Args:
        ask: fetches the page at a cursor; None is the first page.
        place_of: returns the cursor of the next page; None after the last page.
        most_pages: limit of pages.
    Raises:
        MalformedAnswer: a page has its own cursor as the next one, or the list is longer.
    """
    cursor: str | None = None
    for _ in range(most_pages):
        page = await ask(cursor)
        yield page
        next_cursor = place_of(page)
        if next_cursor is None:
            return
        if next_cursor == cursor:
            raise MalformedAnswer("the node sent the same page of a list twice")
        cursor = next_cursor
    raise MalformedAnswer(
        f"the node's list has more than {most_pages} pages", hint="use a larger page size"
    )


def require_advance(
    keys: Sequence[str], *, prefix: str, after: str | None, limit: int, is_last: bool
) -> None:
    """Check that the keys of a page follow those of the previous page.

    Raises MalformedAnswer otherwise. Keys must begin with `prefix` and ascend from `after`, the
    last key before (None: not known). A page before the last one has 1 to `limit` keys. The last
    one may have more, because some nodes send all keys at once.
    """
    if not is_last and not 0 < len(keys) <= limit:
        raise MalformedAnswer("the node sent an empty page of keys, or more keys than requested")
    before = after
    for key in keys:
        if not key.startswith(prefix):
            raise MalformedAnswer("the node's list contains keys that were not requested")
        if before is not None and key <= before:
            raise MalformedAnswer(
                "the keys in the node's list are repeated or not in ascending order",
                hint="use a page size that is large enough for all keys",
            )
        before = key
