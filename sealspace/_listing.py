"""Lists in pages, from a node that may be hostile: they end, and each page follows the one before (J14)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

from .errors import MalformedAnswer

Page = TypeVar("Page")

MAX_PAGES: Final = 100_000
"""Pages of one listing: a hundred million keys in full ones. A node can always make up one more page."""


async def read_pages(
    ask: Callable[[str | None], Awaitable[tuple[Page, str | None]]], *, most_pages: int = MAX_PAGES
) -> AsyncIterator[Page]:
    """Yield the pages of a list.

    Args:
        ask: returns the page at a position, and the position of the next one; the position is None for the first page,
            and the one returned is None after the last.
        most_pages: more are not read.
    Raises:
        MalformedAnswer: a page is followed by itself, or the list has no end.
    """
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
    """Check that a page of keys is valid, and follows what was listed before.

    Args:
        keys: of the page, untrusted.
        prefix: with which all of them begin.
        after: the last key of the page before; None: this is the first page, or it is not known.
        limit: how many were asked for; a last page may hold more, for a node that sends everything at once.
        is_last: whether nothing follows.
    Raises:
        MalformedAnswer: a key is out of this range, keys do not ascend, or a page that is followed by another one is
            empty or too long.
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
