"""Listing the paths of a space: a plain byte prefix, in byte order, in pages.

Most pages are one range of one read, and its keys hold whole paths. Paths longer than 400 bytes share keys by their
first 400 bytes and lie there in the order of their digests; such a group is read whole and put in the order of paths.

Example:
    query = ListingQuery(space, prefix="photos/", after=None, limit=1000)
    snapshot = await store.read(marks, ranges=query.ranges())
    listing = await complete(store, query, snapshot.pages[0])
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from capabilities.resources import SpaceId

from .errors import CommitTooLarge
from .keyspace import (
    MAX_PLAIN_PATH_BYTES,
    VALUE_PREFIX_BYTES,
    has_long_path,
    long_path_group,
    plain_path,
    space_id16,
    value_key,
    values_prefix,
)
from .store.contract import MAX_PAGE_ROWS, Page, Range, Store
from .values import head_of

MAX_LISTING: Final = MAX_PAGE_ROWS - 1
_GROUP_ROWS: Final = 256


class Listing(Struct, frozen=True, gc=False):
    """A page of paths.

    Attributes:
        paths: in byte order, at most the limit.
        more: paths with the prefix follow; go on with the last path as `after`.
    """

    paths: tuple[str, ...]
    more: bool


class ListingQuery(Struct, frozen=True, gc=False):
    """What is listed.

    Attributes:
        space: canonical.
        prefix: paths start with these characters; not segment-aware.
        after: paths come strictly after this one; None: from the start.
        limit: at most this many, 1 to MAX_LISTING.
    """

    space: SpaceId
    prefix: str = ""
    after: str | None = None
    limit: int = MAX_LISTING

    def ranges(self) -> tuple[Range]:
        """The range of the first read, to be read together with whatever decides on the listing.

        Raises:
            CommitTooLarge: the limit is out of bounds.
        """
        if not 1 <= self.limit <= MAX_LISTING:
            raise CommitTooLarge(bound="paths of a listing", limit=MAX_LISTING, got=self.limit)
        return (self._range(None if self.after is None else self._start(self.after)),)

    def _range(self, after: bytes | None) -> Range:
        head = self.prefix.encode("utf-8", "surrogatepass")[:MAX_PLAIN_PATH_BYTES]
        # One row more than asked tells whether anything follows.
        prefix = values_prefix(space_id16(self.space)) + head
        return Range(prefix, after=after, limit=self.limit + 1, keys_only=True)

    def _start(self, after: str) -> bytes:
        key = value_key(space_id16(self.space), after)
        # The rest of a group of long paths may lie before this key: begin before the group.
        return long_path_group(key) if has_long_path(key) else key


async def complete(store: Store, query: ListingQuery, page: Page) -> Listing:
    """Make a listing of the first page, reading on where tombstones or long paths ask for it.

    Raises:
        StoreUnavailable, RecordDamaged: from further reads.
    """
    texts = _whole_paths(query, page)
    if texts is not None and (len(texts) > query.limit or not page.more):
        return Listing(paths=tuple(texts[: query.limit]), more=len(texts) > query.limit)
    paths: list[bytes] = []
    while True:
        after = await _take(store, query, page, paths)
        if len(paths) > query.limit or after is None:
            return Listing(paths=_texts(paths[: query.limit]), more=len(paths) > query.limit)
        page = (await store.read(ranges=(query._range(after),))).pages[0]


async def list_paths(store: Store, query: ListingQuery) -> Listing:
    """Read and complete a listing that depends on nothing else."""
    return await complete(store, query, (await store.read(ranges=query.ranges())).pages[0])


def _whole_paths(query: ListingQuery, page: Page) -> list[str] | None:
    """Return the paths of a page; None where it takes more than its keys to tell them."""
    if len(query.prefix.encode("utf-8", "surrogatepass")) > MAX_PLAIN_PATH_BYTES:
        return None  # only partly in the range
    try:
        return [key[VALUE_PREFIX_BYTES:].decode() for key, _ in page.rows]
    except UnicodeDecodeError:  # a long path, whose key has a byte that is never part of a text, or a surrogate
        return None


async def _take(store: Store, query: ListingQuery, page: Page, paths: list[bytes]) -> bytes | None:
    """Add the paths of one page; return the key to go on after, None at the end."""
    prefix = query.prefix.encode("utf-8", "surrogatepass")
    for key, _ in page.rows:
        if len(paths) > query.limit:
            return None
        if has_long_path(key):
            group = long_path_group(key)
            paths += await _long_paths(store, query, group)
            return group + b"\xff" * 32
        path = plain_path(key)
        if path.startswith(prefix):  # a prefix of more than 400 bytes is only partly in the range
            paths.append(path)
    return page.last_key if page.more else None


async def _long_paths(store: Store, query: ListingQuery, group: bytes) -> list[bytes]:
    """Read a whole group of long paths and put it in byte order."""
    prefix = query.prefix.encode("utf-8", "surrogatepass")
    after = None if query.after is None else query.after.encode("utf-8", "surrogatepass")
    found: list[bytes] = []
    wanted = Range(group, limit=_GROUP_ROWS)
    while True:
        page = (await store.read(ranges=(wanted,))).pages[0]
        for key, record in page.rows:
            head = head_of(record, key=key)
            path = b"" if head is None else head.path.encode("utf-8", "surrogatepass")
            if path.startswith(prefix) and (after is None or path > after):
                found.append(path)
        if not page.more:
            return sorted(found)
        wanted = Range(group, after=page.last_key, limit=_GROUP_ROWS)


def _texts(paths: Sequence[bytes]) -> tuple[str, ...]:
    return tuple([path.decode("utf-8", "surrogatepass") for path in paths])
