"""Files that contain large values.

A value that is too large for a row is stored in a file, which is called a body. The names of bodies
are collected in a temporary file, so that memory does not grow with the store.

Example:
    async with rows.lock_bodies():
        async for part in rows.parts():
            append_bodies(part, body_list)
        for body in listed_bodies(body_list): ...
"""

import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from ..keyspace import OBJECTS_PREFIX
from ..space_errors import BodiesElsewhere, RecordDamaged
from ..store.contract import Store
from ..store.lmdb.snapshots import Part, RowSource, parse_row
from ..values.object_place import record_move, recorded_location
from ..values.object_records import ObjectName, object_record_of
from ..values.object_store import ObjectStore, Piece

_ENTRY = struct.Struct(">16s32s16sQ")  # space, digest, generation, size


class ListedBody(NamedTuple):
    """The name and the size of a large value."""

    name: ObjectName
    size_bytes: int


def append_bodies(part: Part, body_list: BinaryIO) -> None:
    """Append the large values that a batch of rows refers to, to the file `body_list`.

    Rows that cannot be decoded are skipped, and so are large values without references.
    """
    for key, row in part:
        if key[:1] != OBJECTS_PREFIX:
            continue
        try:
            record, account, size_bytes = parse_row(row)
            object_record = object_record_of(record)
        except RecordDamaged:
            continue
        if object_record is None or object_record.references <= 0:
            continue
        # ST7: a record is charged the size of its body as long as values refer to it.
        if not account:
            continue
        entry = key[1:] + object_record.generation + size_bytes.to_bytes(8, "big")
        if len(entry) == _ENTRY.size:  # otherwise the row is damaged
            body_list.write(entry)


def listed_bodies(body_list: BinaryIO) -> Iterator[ListedBody]:
    """Yield the large values in a file that `append_bodies` wrote."""
    body_list.seek(0)
    while entry := body_list.read(_ENTRY.size):
        space16, digest, generation, size_bytes = _ENTRY.unpack(entry)
        name = ObjectName(space16=space16, digest=digest, generation=generation)
        yield ListedBody(name=name, size_bytes=size_bytes)


async def store_body(
    target: ObjectStore, name: ObjectName, pieces: AsyncIterator[Piece]
) -> int | None:
    """Store a large value as a file.

    Returns the size in bytes. If the digest does not match the digest in `name`, nothing is stored,
    and None is returned.
    """
    incoming = await target.begin()
    try:
        async for piece in pieces:
            await incoming.append(piece)
        digest, size_bytes = await incoming.finish()
        if digest == name.digest:
            await incoming.rename(name)
            return size_bytes
    except BaseException:
        await incoming.discard()
        raise
    await incoming.discard()
    return None


@dataclass(slots=True)
class MovedBodies:
    """The result of moving large values.

    Attributes:
        bodies: number of large values.
        size_bytes: their size together.
        copied: how many were copied. The others were already in the target, because an interrupted
            move had copied them.
    """

    bodies: int = 0
    size_bytes: int = 0
    copied: int = 0


async def move_bodies(
    store: Store,
    rows: RowSource,
    source: ObjectStore,
    target: ObjectStore,
    *,
    origin: str,
    to: str,
    progress: Callable[[int], None],
) -> MovedBodies:
    """Copy all large values to a new storage location.

    The new location is recorded at the end. Digests are verified. The source is not changed. An
    interrupted move continues when it is run again, because a file gets its name in the target only
    when it is complete. Until all files are in the target, every node reads them from the source.

    Args:
        store: records the new location.
        rows: of the store.
        source: the former location.
        target: the new location.
        origin: the former location, as it is recorded.
        to: the new location, as it is recorded.
        progress: called after each large value with their number so far.

    Raises:
        BodiesElsewhere: another location than these two is recorded.
        RecordDamaged: a large value is missing in the source, or damaged there.
    """
    if await recorded_location(store) not in (origin, to):
        raise BodiesElsewhere(
            "the large values of this store are neither in the old location nor in the new one"
        )
    result = MovedBodies()
    with tempfile.TemporaryFile() as body_list:
        async with aclosing(rows.parts()) as parts:
            async for part in parts:
                append_bodies(part, body_list)
        for body in listed_bodies(body_list):
            if not await _contains(target, body):
                async with await source.open(body.name, size_bytes=body.size_bytes) as contents:
                    # `pieces` raises if the body does not match its digest
                    await store_body(target, body.name, contents.pieces())
                result.copied += 1
            result.bodies += 1
            result.size_bytes += body.size_bytes
            progress(result.bodies)
    await record_move(store, to)
    return result


async def _contains(target: ObjectStore, body: ListedBody) -> bool:
    """Return whether a storage location has a file of the name and size of a large value."""
    try:
        async with await target.open(body.name, size_bytes=body.size_bytes):
            return True
    except RecordDamaged:
        return False
