"""Files that contain large values.

A value that is too large for a row is stored in a file, which is called a body. The names of bodies
are collected in a temporary file, so that memory does not grow with the store.

Example:
    async with rows.lock_bodies():
        async for part in rows.parts():
            note_bodies(part, notes)
        for name, size_bytes in noted_bodies(notes): ...
"""

import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import BinaryIO

from ..keyspace import OBJECTS_PREFIX
from ..space_errors import BodiesElsewhere, RecordDamaged
from ..store.contract import Store
from ..store.lmdb.snapshots import Part, RowSource, parse_row
from ..values.object_place import record_move, recorded_location
from ..values.object_records import ObjectName, object_record_of
from ..values.object_store import ObjectStore, Piece

_NOTE = struct.Struct(">16s32s16sQ")  # space, digest, generation, size


def note_bodies(part: Part, notes: BinaryIO) -> None:
    """List the large values in a batch of rows.

    The name and the size of each large value are written to the file `notes`. Rows that cannot be
    decoded are skipped, and so are large values without references.
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
        note = key[1:] + object_record.generation + size_bytes.to_bytes(8, "big")
        if len(note) == _NOTE.size:  # otherwise the row is damaged
            notes.write(note)


def noted_bodies(notes: BinaryIO) -> Iterator[tuple[ObjectName, int]]:
    """Yield the name and size of each large value in a list.

    `note_bodies` wrote the list. Sizes are in bytes.
    """
    notes.seek(0)
    while note := notes.read(_NOTE.size):
        space16, digest, generation, size_bytes = _NOTE.unpack(note)
        yield ObjectName(space16=space16, digest=digest, generation=generation), size_bytes


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
    """Statistics about copied large values.

    These are the number of files, their total size, and how many were copied. The other files were
    already in the target, because an interrupted move had copied them.
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
    """
    if await recorded_location(store) not in (origin, to):
        raise BodiesElsewhere(
            "the large values of this store are neither in the old location nor in the new one"
        )
    moved = MovedBodies()
    with tempfile.TemporaryFile() as notes:
        async with aclosing(rows.parts()) as parts:
            async for part in parts:
                note_bodies(part, notes)
        for name, size_bytes in noted_bodies(notes):
            try:
                # This raises if the file is missing or has another size.
                async with await target.open(name, size_bytes=size_bytes):
                    pass
            except RecordDamaged:  # not copied yet
                async with await source.open(name, size_bytes=size_bytes) as body:
                    # `pieces` raises if the body does not match its digest
                    await store_body(target, name, body.pieces())
                moved.copied += 1
            moved.bodies += 1
            moved.size_bytes += size_bytes
            progress(moved.bodies)
    await record_move(store, to)
    return moved
