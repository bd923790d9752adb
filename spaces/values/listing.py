"""Paged listings of the paths in a space (M55).

A listing contains the paths with a given prefix, in byte order.

The cost of a page depends on its own length only. Most pages are one range of one read, and the
keys in the range contain whole paths. Longer paths are stored in groups: all paths with the same
first 400 bytes form a group, all with the same first 800 bytes another group, and so on. Each group
is sorted by path and has an index row. A listing that reaches the index row reads the group, and
then continues after the index row. Each index row has a path below it, so there is at most one
index row for every 400 bytes of a path.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from capabilities.frozen_struct import AcyclicStruct
from capabilities.resources import SpaceId

from ..keyspace import (
    MAX_PLAIN_PATH_BYTES,
    VALUE_PREFIX_BYTES,
    group_below,
    group_of,
    is_index_row,
    last_segment,
    path_keys,
    space_id16,
    value_key,
)
from ..space_errors import CommitTooLarge
from ..store.contract import MAX_PAGE_ROWS, Page, Range, Store, read_page

MAX_LISTING = MAX_PAGE_ROWS - 1
_TEXT = ("utf-8", "surrogatepass")
# Sorts after every path and every index row.
_BEHIND_ALL = b"\xff\xff"


def below(path: str) -> str:
    """Return the common beginning of the paths below a path, by whole segments (M61).

    `photos/a` is below `photos` and below `photos/`, and `photos2` is not. Every path is below "".
    """
    return path if path == "" or path.endswith("/") else f"{path}/"


class Listing(AcyclicStruct):
    """A page of paths."""

    paths: tuple[str, ...]
    more: bool


@dataclass(slots=True)
class _Cursor:
    """A cursor over stored paths that share a prefix."""

    beginning: bytes
    prefix: bytes
    row_prefix: bytes
    after: bytes | None
    keys: Iterator[bytes] = field(default_factory=lambda: iter(()))
    more: bool = True

    def next_range(self, limit: int) -> Range:
        """Return the key range of the next page.

        The page has at most `limit` rows.
        """
        return Range(self.row_prefix, after=self.after, limit=limit, keys_only=True)

    def advance(self, page: Page) -> None:
        """Move the cursor to the end of a page.

        `keys` then iterates over the keys of the page.
        """
        self.keys = iter([key for key, _ in page.rows])
        self.more = page.more
        self.after = page.last_key


class ListingQuery(AcyclicStruct):
    """The parameters of a path listing.

    Attributes:
        space: the space whose paths are listed.
        prefix: the beginning of the listed paths.
        after: the path after which the listing begins; None to begin with the first.
        limit: the most paths in the listing.
        enough_bytes: the most bytes of paths in a listing that contains paths of more than 400
            bytes; the first path is listed in any case. None for no such limit.
    """

    space: SpaceId
    prefix: str = ""
    after: str | None = None
    limit: int = MAX_LISTING
    enough_bytes: int | None = None

    def ranges(self) -> tuple[Range]:
        """Return the key range to read for the first page.

        The caller can read it together with the rows that authorise the listing.

        Raises:
            CommitTooLarge: `limit` is not between 1 and MAX_LISTING.
        """
        if not 1 <= self.limit <= MAX_LISTING:
            raise CommitTooLarge(f"the limit of a listing must be 1 to {MAX_LISTING}: {self.limit}")
        # One row more than requested shows whether more paths follow.
        return (self._cursors()[-1].next_range(self.limit + 1),)

    def _cursors(self) -> list[_Cursor]:
        """Build the initial stack of cursors for a listing.

        It has one cursor for the group of `prefix`, and one for each inner group that contains
        `after`. The outermost comes first.
        """
        space16 = space_id16(self.space)
        prefix = self.prefix.encode(*_TEXT)
        after = b"" if self.after is None else self.after.encode(*_TEXT)
        start = last_segment(prefix)
        *_, row_prefix = path_keys(space16, prefix)
        outermost = _Cursor(
            beginning=prefix[:start],
            prefix=group_of(row_prefix),
            row_prefix=row_prefix,
            after=None,
        )
        if self.after is None or after < prefix:  # all paths with the prefix come after it
            return [outermost]
        if not after.startswith(prefix):  # all paths with the prefix come before it
            outermost.after = outermost.row_prefix + _BEHIND_ALL
            return [outermost]
        cursors: list[_Cursor] = []
        for depth, key in enumerate(path_keys(space16, after)):
            group_start = depth * MAX_PLAIN_PATH_BYTES
            if group_start >= start:  # the group of the prefix, or a group inside it
                group = group_of(key)
                inner = _Cursor(
                    beginning=after[:group_start], prefix=group, row_prefix=group, after=key
                )
                cursors.append(inner)
        # The group of the prefix also contains paths without the prefix. Those are not listed.
        cursors[0].row_prefix = outermost.row_prefix
        return cursors


async def complete(store: Store, query: ListingQuery, page: Page) -> Listing:
    """Build a listing from its first page.

    The caller has already read this page. Further pages are read if needed.
    """
    texts = _decode_page(query, page)
    if texts is not None:
        has_one_more = len(texts) > query.limit
        # A page can have fewer rows than were requested although more rows follow.
        if has_one_more or not page.more:
            return Listing(tuple(texts[: query.limit]), more=has_one_more)
    cursors = query._cursors()
    cursors[-1].advance(page)
    paths: list[bytes] = []
    size_bytes = 0
    async for path in _walk(store, cursors, query.limit + 1):
        size_bytes += len(path)
        is_too_large = query.enough_bytes is not None and size_bytes > query.enough_bytes
        # The first path is listed whatever its size. Otherwise no page could contain it.
        if len(paths) == query.limit or (is_too_large and paths):
            return Listing(_texts(paths), more=True)
        paths.append(path)
    return Listing(_texts(paths), more=False)


async def list_paths(store: Store, query: ListingQuery) -> Listing:
    """List the paths in a space."""
    return await complete(store, query, await read_page(store, *query.ranges()))


def _decode_page(query: ListingQuery, page: Page) -> list[str] | None:
    """Decode the paths in a page, or return None.

    None means that the page needs the slower `_walk`: it is empty, or contains index rows, longer
    paths or lone surrogates.
    """
    # The key of the empty path is the prefix of the keys of all paths of at most 400 bytes.
    prefix = value_key(space_id16(query.space), "")
    if not page.rows:
        return None
    # All rows of a page are in one group, so the first key shows whether the paths are longer.
    first_key, _ = page.rows[0]
    if not first_key.startswith(prefix):
        return None
    if query.after is not None and len(query.after.encode(*_TEXT)) > MAX_PLAIN_PATH_BYTES:
        return None  # the listing begins in more than one group
    try:
        return [key[VALUE_PREFIX_BYTES:].decode() for key, _ in page.rows]
    except UnicodeDecodeError:
        # an index row, which ends with 0xFF, or a path with a lone surrogate
        return None


async def _walk(store: Store, cursors: list[_Cursor], limit: int) -> AsyncIterator[bytes]:
    """Yield all paths in order.

    An index row is replaced by the paths of its group. `cursors` is a stack with one cursor for
    each open group.
    """
    while cursors:
        cursor = cursors[-1]
        for key in cursor.keys:
            path = cursor.beginning + key[len(cursor.prefix) :]
            if is_index_row(key):
                # The group below comes first. Then this cursor continues after the index row.
                below = group_below(key)
                beginning = path[:-1]  # without the 0xFF of the index row
                cursors.append(
                    _Cursor(beginning=beginning, prefix=below, row_prefix=below, after=None)
                )
                break
            yield path
        else:  # the keys of the cursor's page are used up
            if cursor.more:
                cursor.advance(await read_page(store, cursor.next_range(limit)))
            else:
                cursors.pop()


def _texts(paths: list[bytes]) -> tuple[str, ...]:
    return tuple([path.decode(*_TEXT) for path in paths])
