"""The bodies that the rows of one moment name: which they are, and that they stay while they are read (BK2).

A body that is named at some moment can be removed an hour later at the earliest, by the collector alone. So who reads
bodies locks the data folder before that moment, and the collector removes nothing while anyone has the lock; what it
began before is about bodies that nothing named any more. The kernel releases the lock with the process, however that
ends: no clock is asked, and there is nothing to renew. The names wait in a file, so that memory does not grow.

Example:
    with bodies_stay(folder), tempfile.TemporaryFile() as notes:
        with snapshot_of(store) as snapshot:
            note_bodies(snapshot, notes)
        for name, size_bytes in noted_bodies(notes): ...
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from ..errors import RecordDamaged
from ..keyspace import OBJECTS_PREFIX
from ..store.lmdb.snapshots import StoreSnapshot, parse_row
from .object_records import ObjectName, object_record_of

_NAME_BYTES: Final = 16 + 32 + 16
_NOTE_BYTES: Final = _NAME_BYTES + 8


@contextmanager
def bodies_stay(folder: Path) -> Iterator[None]:
    """Keep the collector of a data folder from removing bodies until the block ends; any number of processes may."""
    with _locked(folder, fcntl.LOCK_SH):  # waits at most for a collector that looks just now
        yield


def has_held_bodies(folder: Path) -> bool:
    """Whether any process keeps the bodies of a data folder; none does of one that does not exist."""
    try:
        with suppress(FileNotFoundError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def note_bodies(snapshot: StoreSnapshot, notes: BinaryIO) -> None:
    """Note the name and size of each body that heads refer to; what does not decode is passed over.

    Raises:
        RecordDamaged: pages of the store are damaged.
    """
    for key, row in snapshot.rows(OBJECTS_PREFIX):
        try:
            record, account, size_bytes = parse_row(row)
            found = object_record_of(record)
        except RecordDamaged:
            continue
        # A record is charged with the size of its body as long as heads refer to it (ST7).
        if found is not None and found.references > 0 and account:
            note = key[1:] + found.generation + size_bytes.to_bytes(8, "big")
            if len(note) == _NOTE_BYTES:
                notes.write(note)


def noted_bodies(notes: BinaryIO) -> Iterator[tuple[ObjectName, int]]:
    """Yield the bodies that were noted: name, and size in bytes."""
    notes.seek(0)
    while note := notes.read(_NOTE_BYTES):
        yield ObjectName(note[:16], note[16:48], note[48:_NAME_BYTES]), int.from_bytes(note[_NAME_BYTES:], "big")
