"""Lists in pages, from a node that may be hostile: they end, and each page follows the one before (J14)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

from ..errors import MalformedAnswer

Page = TypeVar("Page")

MAX_PAGES: Final = 100_000
"""Pages of one listing: a hundred million keys in full ones. A node can always make up one more page."""


async def read_pages(
    ask: Callable[[str | None], Awaitable[tuple[Page, str | None]]], *, most_pages: int = MAX_PAGES
) -> AsyncIterator[Page]:
    """Yield the pages of a list: `ask` returns the page at a position, None at first, and the next one, None at
    last."""
    place: str | None = None
    for _ in range(most_pages):
        page, following = await ask(place)
        yield page
        if following is None:
            return
        if following == place:
            raise MalformedAnswer("the node's list does not advance")
        place = following
    raise MalformedAnswer(f"the node's list has more than {most_pages} pages", hint="list with larger pages")


def require_advance(keys: Sequence[str], *, prefix: str, after: str | None, limit: int, is_last: bool) -> None:
    """Check that a page of keys is valid, and follows what was listed before; raises MalformedAnswer.

    Keys have to begin with `prefix` and to ascend from `after`, the last key before (None: not known). A page that is
    not the last one holds 1 to `limit` keys; the last may hold more, of a node that sends everything at once.
    """
    if not is_last and not 0 < len(keys) <= limit:
        raise MalformedAnswer("a page of the node's list is empty, or longer than was asked for")
    before = after
    for key in keys:
        if not key.startswith(prefix):
            raise MalformedAnswer("the node's list holds keys that were not asked for")
        if before is not None and key <= before:
            raise MalformedAnswer("the node's list does not advance", hint="list with one page that holds all keys")
        before = key
