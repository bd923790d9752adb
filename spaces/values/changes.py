"""The changes of the values in a space, in the order of their commits (CF2, CF3).

Each path appears once, with its latest state, at the number of the commit that changed it last. The
changes of one commit have the same number and are never split between two pages.

A page takes two reads or more. The first finds the keys of the rows in the order of their numbers,
the others read the rows. A row that has been written again in between is left out: it follows
later, at its new number.

Example:
    query = ChangesQuery(space=space, prefix="notes/", after=number, limit=500)
    snapshot = await store.read((own.sequence,), ranges=(query.first_range(),))
    page = await read_changes(store, query, snapshot.pages[0])
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from capabilities.frozen_struct import AcyclicStruct
from capabilities.resources import SpaceId

from ..keyspace import (
    DELETED_PREFIX,
    LONG_DELETED_PREFIX,
    VALUE_PREFIX_BYTES,
    VALUES_PREFIX,
    space_keys,
)
from ..space_errors import CommitTooLarge
from ..store.contract import MAX_PAGE_ROWS, Page, Range, Record, Store, read_page
from ..store.sequences import NUMBER_BYTES
from .deleted_paths import deleted_path_of
from .metadata import encode_text, row_bytes
from .value_heads import Head, head_of

MAX_CHANGES = 1000
"""The highest limit of a page. A page can have more changes, because its last commit is whole."""
# Rows that one page examines: more than one commit can have. So each page passes a commit.
_EXAMINED_ROWS = 4 * MAX_PAGE_ROWS
# A row can contain a body of 64 KiB, so this many take a few megabytes for a moment.
_ROWS_AT_ONCE = 64
# Paths and metadata of a page; it ends at most a batch of rows later.
_ENOUGH_BYTES = 2 * 1024 * 1024
_DELETED = frozenset({DELETED_PREFIX, LONG_DELETED_PREFIX})
_SHORT = frozenset({DELETED_PREFIX, VALUES_PREFIX})


class Change(AcyclicStruct):
    """The latest state of a path.

    Attributes:
        number: of the commit that changed it last.
        path: the path.
        head: the row of the value, without a small body; None if the value was deleted.
    """

    number: int
    path: str
    head: Head | None


class ChangesPage(AcyclicStruct):
    """One page of changes.

    Attributes:
        changes: in the order of their numbers, those of one number in the byte order of their
            paths.
        number: the number after which the next page begins.
        more: whether more changes follow.
    """

    changes: tuple[Change, ...]
    number: int
    more: bool


class ChangesQuery(AcyclicStruct):
    """The parameters of a page of changes.

    Attributes:
        space: the space of the values.
        prefix: the beginning of the paths, which applies to whole segments: `notes` stands for
            `notes` and for everything below `notes/`.
        after: the number after which the page begins; 0 to begin with the first change.
        floor: deletes up to this number are left out. A reader who began at this number never had
            these values.
        until: the last number that the page may contain.
        limit: the page ends with the commit that reaches this number of changes.
    """

    space: SpaceId
    prefix: str
    after: int
    floor: int
    until: int
    limit: int

    def first_range(self) -> Range:
        """Return the range of the first page of positions.

        The caller reads it together with the rows that authorise it.

        Raises:
            CommitTooLarge: the limit is not 1 to MAX_CHANGES.
        """
        if not 1 <= self.limit <= MAX_CHANGES:
            raise CommitTooLarge(f"the limit of changes must be 1 to {MAX_CHANGES}: {self.limit}")
        sequence = space_keys(self.space).sequence
        # This is less than every position with the next number.
        after = sequence + self.after.to_bytes(NUMBER_BYTES, "big") + b"\xff"
        return Range(sequence, after=after, limit=self.limit + 1, by_number=True)

    def may_include(self, listed: "_ListedRow") -> bool:
        """Return whether a row is a change that the page contains, as far as its key shows."""
        if listed.key[:1] in _DELETED and listed.number <= self.floor:
            return False
        if listed.key[:1] in _SHORT:
            return self.is_below(listed.key[VALUE_PREFIX_BYTES:])
        return True  # the key of a longer path has only its hash, so the row has to be read

    def is_below(self, path: bytes) -> bool:
        """Return whether a path is the prefix, or below it."""
        prefix = encode_text(self.prefix)
        below = prefix if prefix.endswith(b"/") else prefix + b"/"
        return path == prefix or path.startswith(below)


class _ListedRow(AcyclicStruct):
    """A row in the order of numbers, which was not read yet.

    Attributes:
        number: of the commit that wrote the row.
        key: of the row.
        position: the sequence and the number, as `Record.position`.
    """

    number: int
    key: bytes
    position: bytes


@dataclass
class _Listing:
    """The rows that a page may contain.

    Attributes:
        rows: in the order of their numbers.
        number: the number after which the next page begins.
        more: whether more rows follow.
    """

    rows: list[_ListedRow]
    number: int
    more: bool


async def read_changes(store: Store, query: ChangesQuery, page: Page) -> ChangesPage:
    """Return a page of changes.

    Args:
        store: contains the values.
        query: the parameters.
        page: the first page of positions, which was read by `query.first_range()`.
    Raises:
        RecordDamaged: a row does not decode.
        StoreUnavailable: the store does not answer.
    """
    listing = await _list_rows(store, query, page)
    reading = _Reading(query)
    await reading.read(store, listing.rows)
    changes = tuple(sorted(reading.changes, key=_feed_order))
    if reading.ended_at is not None:  # the page is large enough
        return ChangesPage(changes=changes, number=reading.ended_at, more=True)
    if listing.more or reading.has_moved_rows:
        # A row that was written again meanwhile has a later number now, so it follows.
        return ChangesPage(changes=changes, number=listing.number, more=True)
    if not changes:  # the reader keeps its place
        return ChangesPage(changes=(), number=query.after, more=False)
    return ChangesPage(changes=changes, number=listing.number, more=False)


def _feed_order(change: Change) -> tuple[int, bytes]:
    """Return the sort key of a change: its number, then its path."""
    return change.number, encode_text(change.path)


async def _list_rows(store: Store, query: ChangesQuery, page: Page) -> _Listing:
    """Find the rows of a page, without reading them.

    `page` is the first page of positions. The search ends when the page of changes is full, when no
    row is left, or after _EXAMINED_ROWS rows.
    """
    sequence_bytes = len(space_keys(query.space).sequence)
    rows: list[_ListedRow] = []
    examined_count = 0
    while True:
        candidates = [_decode_entry(key, sequence_bytes) for key, _ in page.rows]
        is_full = _add_to_page(rows, query, candidates)
        if is_full or not page.more or page.last_key is None:
            last_number = rows[-1].number if rows else query.after
            return _Listing(rows, last_number, more=is_full)
        examined_count += len(page.rows)
        if examined_count >= _EXAMINED_ROWS:
            # More rows of the last commit may follow, so the page ends before it.
            unfinished = _decode_entry(page.last_key, sequence_bytes).number
            whole_commits = [row for row in rows if row.number < unfinished]
            return _Listing(whole_commits, unfinished - 1, more=True)
        range_ = replace(query.first_range(), after=page.last_key, limit=MAX_PAGE_ROWS)
        page = await read_page(store, range_)


def _add_to_page(
    rows: list[_ListedRow], query: ChangesQuery, candidates: Sequence[_ListedRow]
) -> bool:
    """Add candidates to the rows of a page, until the page is full.

    A page contains whole commits, so that no reader sees a part of one. With the last one, it may
    be longer than the limit.

    Returns whether the page is full, so that a candidate was left for the next page.
    """
    for listed in candidates:
        # A commit after the query began. It is here because the candidates are read in several
        # parts, the last of them a moment later.
        if listed.number > query.until:
            return True
        if not query.may_include(listed):
            continue
        begins_a_commit = bool(rows) and listed.number != rows[-1].number
        if len(rows) >= query.limit and begins_a_commit:
            return True
        rows.append(listed)
    return False


def _decode_entry(entry: bytes, sequence_bytes: int) -> _ListedRow:
    """Decode an entry of the order of numbers: the sequence, the number and the key of the row.

    `sequence_bytes` is the length of the sequence.
    """
    position_end = sequence_bytes + NUMBER_BYTES
    return _ListedRow(
        number=int.from_bytes(entry[sequence_bytes:position_end], "big"),
        key=entry[position_end:],
        position=entry[:position_end],
    )


def _batches(rows: Sequence[_ListedRow]) -> Iterator[list[_ListedRow]]:
    """Split rows into batches of some _ROWS_AT_ONCE rows, which end with a whole commit."""
    batch: list[_ListedRow] = []
    for listed in rows:
        if len(batch) >= _ROWS_AT_ONCE and listed.number != batch[-1].number:
            yield batch
            batch = []
        batch.append(listed)
    if batch:
        yield batch


@dataclass
class _Reading:
    """The rows of a page that were read so far.

    Attributes:
        query: the parameters of the page.
        changes: those that the page contains.
        has_moved_rows: whether a row was written again since it was listed.
        ended_at: the number with which the page ends early because of its size, or None.
    """

    query: ChangesQuery
    changes: list[Change] = field(default_factory=list)
    has_moved_rows: bool = False
    ended_at: int | None = None
    _size_bytes: int = 0

    async def read(self, store: Store, rows: Sequence[_ListedRow]) -> None:
        """Read rows in batches of whole commits, until the page has _ENOUGH_BYTES."""
        read_count = 0
        for batch in _batches(rows):
            await self._read_batch(store, batch)
            read_count += len(batch)
            if self._size_bytes >= _ENOUGH_BYTES and read_count < len(rows):
                self.ended_at = batch[-1].number
                return

    async def _read_batch(self, store: Store, batch: Sequence[_ListedRow]) -> None:
        """Read the rows of a batch, at most _ROWS_AT_ONCE with one call."""
        for start in range(0, len(batch), _ROWS_AT_ONCE):
            listed_rows = batch[start : start + _ROWS_AT_ONCE]
            records = (await store.read([listed.key for listed in listed_rows])).records
            for listed, record in zip(listed_rows, records, strict=True):
                self._add(listed, record)

    def _add(self, listed: _ListedRow, record: Record | None) -> None:
        """Add the change of a row, unless the row was written again since it was listed."""
        if record is None or record.value is None or record.position != listed.position:
            # Its new state belongs to a later number. Here it could precede changes that were
            # committed before it.
            self.has_moved_rows = True
            return
        change = _decode_change(listed, record)
        if not self.query.is_below(encode_text(change.path)):
            return
        self.changes.append(change)
        metadata: Mapping[str, str] = {} if change.head is None else change.head.metadata
        self._size_bytes += row_bytes(change.path, metadata)


def _decode_change(listed: _ListedRow, record: Record) -> Change:
    """Decode the row of a value or of a deleted path."""
    if listed.key[:1] in _DELETED:
        return Change(number=listed.number, path=deleted_path_of(record).path, head=None)
    head = head_of(record, key=listed.key)
    assert head is not None  # the record has a value
    return Change(number=listed.number, path=head.path, head=replace(head, body=None))
