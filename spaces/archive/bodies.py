"""The bodies that a snapshot's rows refer to, and copies of them in another location.

The names are collected in a file, so that memory does not grow with the store.

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
    """Write the name and size of each referenced body to a file. Skip rows that do not decode."""
    for key, row in part:
        if key[:1] != OBJECTS_PREFIX:
            continue
        try:
            record, account, size_bytes = parse_row(row)
            found = object_record_of(record)
        except RecordDamaged:
            continue
        # ST7: a record is charged the size of its body as long as values refer to it.
        if found is not None and found.references > 0 and account:
            note = key[1:] + found.generation + size_bytes.to_bytes(8, "big")
            if len(note) == _NOTE.size:
                notes.write(note)


def noted_bodies(notes: BinaryIO) -> Iterator[tuple[ObjectName, int]]:
    """Yield each body's name and size in bytes from a file that `note_bodies` wrote."""
    notes.seek(0)
    while note := notes.read(_NOTE.size):
        space16, digest, generation, size_bytes = _NOTE.unpack(note)
        yield ObjectName(space16, digest, generation), size_bytes


async def keep_body(
    target: ObjectStore, name: ObjectName, pieces: AsyncIterator[Piece]
) -> int | None:
    """Store a body under its file name. Return its size, or None if its digest is wrong.

    Nothing is stored if the digest does not match.
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
    """The result of a move: the number and total size of all bodies, and how many were copied.

    The other bodies were already in the target, because an interrupted move had copied them.
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
    """Copy all bodies, verify their digests, and record the new storage location.

    The source is not changed. An interrupted move continues when it is run again, because a body
    gets its name in the target only when it is complete. Until all bodies are there, every node
    reads them from the source.
    """
    if await recorded_location(store) not in (origin, to):
        raise BodiesElsewhere("this store keeps its large values in a third place")
    moved = MovedBodies()
    with tempfile.TemporaryFile() as notes:
        async with aclosing(rows.parts()) as parts:
            async for part in parts:
                note_bodies(part, notes)
        for name, size_bytes in noted_bodies(notes):
            try:
                async with await target.open(name, size_bytes=size_bytes):
                    pass
            except RecordDamaged:  # not copied yet
                async with await source.open(name, size_bytes=size_bytes) as body:
                    # `pieces` raises if the body does not match its digest
                    await keep_body(target, name, body.pieces())
                moved.copied += 1
            moved.bodies += 1
            moved.size_bytes += size_bytes
            progress(moved.bodies)
    await record_move(store, to)
    return moved
