"""Rows that the parts of an operation ask for, read together at one moment.

Each part asks for its own rows and keeps the handle that it gets; the read puts what was found into every handle. So no
part knows what else is read, or in which order, and all of them see one state of the store (I14).

Example:
    reading = Reading()
    usage, heads = reading.row(usage_key(space)), reading.rows(head_keys)
    await reading.read(services.store)
    used_bytes = counter_of(usage.found)
"""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from spaces.store.contract import Claim, Page, Range, Record, Snapshot, Store

Found = TypeVar("Found")


class Handle(Generic[Found]):
    """What one part asked for."""

    __slots__ = ("found",)

    found: Found


class Reading:
    """Keys and ranges that are read at one moment; made for one read."""

    __slots__ = ("_keys", "_pages", "_ranges", "_records")

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._ranges: list[Range] = []
        # A handle's type says whether its place is an index or a slice; a list of both cannot.
        self._records: list[tuple[Handle[Any], int | slice]] = []
        self._pages: list[tuple[Handle[Any], int | slice]] = []

    def row(self, key: bytes) -> Handle[Record | None]:
        """Ask for the row under a key; None is found where there is none."""
        handle: Handle[Record | None] = Handle()  # a subscript would be evaluated, and takes ten times as long
        self._records.append((handle, len(self._keys)))
        self._keys.append(key)
        return handle

    def rows(self, keys: Iterable[bytes]) -> Handle[tuple[Record | None, ...]]:
        """Ask for the rows under some keys."""
        handle: Handle[tuple[Record | None, ...]] = Handle()
        asked = self._keys
        begin = len(asked)
        asked.extend(keys)
        self._records.append((handle, slice(begin, len(asked))))
        return handle

    def page(self, wanted: Range) -> Handle[Page]:
        """Ask for one range."""
        handle: Handle[Page] = Handle()
        self._pages.append((handle, len(self._ranges)))
        self._ranges.append(wanted)
        return handle

    def pages(self, wanted: Iterable[Range]) -> Handle[tuple[Page, ...]]:
        """Ask for some ranges."""
        handle: Handle[tuple[Page, ...]] = Handle()
        asked = self._ranges
        begin = len(asked)
        asked.extend(wanted)
        self._pages.append((handle, slice(begin, len(asked))))
        return handle

    async def read(self, store: Store, *, claim: Claim | None = None) -> Snapshot:
        """Read all that was asked for, in one read of the store."""
        snapshot = await store.read(self._keys, claim=claim, ranges=self._ranges)
        records, pages = snapshot.records, snapshot.pages
        for handle, place in self._records:
            handle.found = records[place]
        for handle, place in self._pages:
            handle.found = pages[place]
        return snapshot
