"""Storage usage and limits of spaces.

The contents of every value are charged to the space's counter, inside the commit. So usage is exact
without being read first, and replacing or deleting a row credits the bytes that it was charged for
(ST7). The API reports that counter.

A second counter covers the rest of each row: path, metadata and a fixed number of bytes. It has the
same limit, but at least LEAST_ROWS_BYTES, so that a small limit restricts only contents (M54).

The first of these limits applies: for a space named `public`, the limit for public spaces (M53);
the limit that the operator set for the space, which is stored in a row; the default. A write reads
that row together with all other rows that it depends on.

Example:
    keys = (space_keys(space).usage, space_keys(space).override)
    limit_bytes = effective_limit(space, records[1], policy)
    # with the add only if the commit grows the space
    commit = Commit(puts=plan.puts, adds=(Add(space_keys(space).usage, 0, at_most=limit_bytes),))
    if isinstance(outcome, Refused): ...      # read the counter again: is there free space?
"""

import heapq
from collections.abc import Mapping
from typing import NamedTuple

from capabilities.frozen_struct import AcyclicStruct, FrozenStruct
from capabilities.principals import Principal
from capabilities.resources import SpaceId

from .._codec import Codec
from ..grants.hosting import space_of
from ..keyspace import (
    OVERRIDES_PREFIX,
    SPACES_PREFIX,
    TOTAL_SPACES_COUNTER,
    rows_counter,
    space_keys,
    usage_counter,
)
from ..store.contract import (
    Packed,
    Page,
    Put,
    Range,
    Record,
    Store,
    counter_of,
    pages_of,
    read_row,
)

LEAST_ROWS_BYTES = 64 * 1024
PUBLIC_NAME = "public"
# Rows in one step of a scan of all spaces: a millisecond or two, after which other tasks run.
_STEP_ROWS = 1024


class QuotaPolicy(AcyclicStruct):
    """The configured storage limits of spaces."""

    default_bytes: int | None
    public_bytes: int


class _Override(Packed):
    limit_bytes: int
    owner: str
    name: str


_CODEC = Codec(_Override)


def rows_limit(limit_bytes: int) -> int:
    """Return a space's size limit for all paths and metadata.

    `limit_bytes` is the space's limit for value contents.
    """
    return max(limit_bytes, LEAST_ROWS_BYTES)


def override_put(space: SpaceId, limit_bytes: int | None) -> Put:
    """Return a write operation that sets a space's own size limit.

    None removes the limit. The space need not be hosted.
    """
    value = None
    if limit_bytes is not None:
        row = _Override(limit_bytes=limit_bytes, owner=space.owner, name=space.name)
        value = _CODEC.encode(row)
    return Put(space_keys(space).override, value)


def override_of(record: Record | None) -> int | None:
    """Decode a stored size limit, or return None if there is none."""
    row = _CODEC.read(record)
    return None if row is None else row.limit_bytes


def effective_limit(space: SpaceId, override: Record | None, policy: QuotaPolicy) -> int | None:
    """Return how many bytes a space may contain (M52, M53).

    Args:
        space: the space to be limited.
        override: the record under `SpaceKeys.override`, read together with the usage.
        policy: the configured limits.

    Returns:
        Bytes; 0 if nothing may be stored, None for no limit.

    Raises:
        RecordDamaged: the row does not decode.
    """
    if space.name == PUBLIC_NAME:
        return policy.public_bytes
    own = override_of(override)
    return policy.default_bytes if own is None else own


async def read_overrides(store: Store, *, limit: int) -> tuple[Mapping[str, int], bool]:
    """Return the operator's size limits for individual spaces.

    At most `limit` spaces are returned. The second result is True if more spaces have such a limit.
    """
    limits: dict[str, int] = {}
    async for page in pages_of(store, Range(OVERRIDES_PREFIX, limit=_STEP_ROWS)):
        for _, record in page.rows:
            if len(limits) == limit:
                return limits, True
            row = _CODEC.of(record)
            limits[SpaceId(Principal(row.owner), row.name).text] = row.limit_bytes
    return limits, False


class SpaceUsage(FrozenStruct):
    """The storage used by one space (M54).

    Value contents are counted separately from paths and metadata.
    """

    space_id: str
    usage_bytes: int
    row_bytes: int


class Usage(FrozenStruct):
    """The largest spaces on a node, and the total number of spaces."""

    spaces: tuple[SpaceUsage, ...]
    count: int


class _Sized(NamedTuple):
    """The row of a space, and the sizes of its contents and of the rest of its rows."""

    key: bytes
    record: Record
    usage_bytes: int
    row_bytes: int


def _size_order(space: _Sized) -> tuple[int, bytes]:
    """Return the sort key of a space: its total size, and then the key of its row."""
    return space.usage_bytes + space.row_bytes, space.key


async def largest_spaces(store: Store, *, limit: int) -> Usage:
    """Return the largest spaces and the total number of spaces.

    The rows of all spaces are scanned once, in steps between which other tasks run. Only the
    `limit` largest spaces are kept in memory. Changes during the scan may be missed.
    """
    largest: list[_Sized] = []
    async for page in pages_of(store, Range(SPACES_PREFIX, limit=_STEP_ROWS)):
        largest += await _sizes_in(store, page)
        largest = heapq.nlargest(limit, largest, key=_size_order)
    total = await read_row(store, TOTAL_SPACES_COUNTER)
    spaces: list[SpaceUsage] = []
    for sized in largest:
        hosted = space_of(sized.record)
        if hosted is not None:
            usage = SpaceUsage(
                space_id=hosted.space.text,
                usage_bytes=sized.usage_bytes,
                row_bytes=sized.row_bytes,
            )
            spaces.append(usage)
    return Usage(tuple(spaces), counter_of(total))


async def _sizes_in(store: Store, page: Page) -> list[_Sized]:
    """Read the counters of the spaces in a page of rows."""
    hashes = [key[len(SPACES_PREFIX) :] for key, _ in page.rows]
    usage_keys = [usage_counter(space16) for space16 in hashes]
    rows_keys = [rows_counter(space16) for space16 in hashes]
    records = (await store.read([*usage_keys, *rows_keys])).records
    usage_records = records[: len(hashes)]
    rows_records = records[len(hashes) :]
    sizes: list[_Sized] = []
    for (key, record), usage, rows in zip(page.rows, usage_records, rows_records, strict=True):
        sized = _Sized(
            key=key,
            record=record,
            usage_bytes=counter_of(usage),
            row_bytes=counter_of(rows),
        )
        sizes.append(sized)
    return sizes
