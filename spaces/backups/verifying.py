"""Reading all of a restored store before it is served: a digest that holds says nothing of who wrote the file.

LMDB trusts its file: what is cut short or overwritten can end the process by a signal. Verify in one of its own.
"""

import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import lmdb
from msgspec import Struct

from ..errors import BackupDamaged, RecordDamaged, StoreUnavailable
from ..store.contract import Store
from ..store.lmdb.engine import MAP_BYTES, read_lmdb
from ..store.lmdb.snapshots import StoreSnapshot, snapshot_of
from ..values.held_bodies import note_bodies, noted_bodies
from ..values.object_folder import ObjectFolder
from .archive import BODIES_FOLDER

MOST_SHOWN: Final = 1000
"""Large values that are kept with their names; all are counted."""
_META_PAGES: Final = 2
# Page header; magic, version, address, size of the map, of a page; root of the free pages; last page.
_META: Final = struct.Struct("=16x II Q Q I 36x Q 48x Q")
_NO_PAGE: Final = (1 << 64) - 1
_MAGIC: Final = 0xBEEFC0DE
_DATA_VERSION: Final = 1
_PAGE_BYTES: Final = frozenset(1 << shift for shift in range(9, 17))
# What the operating system refuses, not the file.
_OF_SYSTEM: Final = (
    OSError,
    lmdb.DiskError,
    lmdb.LockError,
    lmdb.MemoryError,
    lmdb.ReadersFullError,
    lmdb.ReadonlyError,
)


class Verified(Struct):
    """What was found.

    Attributes:
        missing: how many large values the rows name and the folder does not have in their size.
        names: file names of the first MOST_SHOWN of them.
    """

    missing: int = 0
    names: list[str] = []  # a copy of it for each


async def read_all(staging: Path) -> Verified:
    """Read every page and row of a store, and look for each large value that the rows name.

    Args:
        staging: where `restore_backup` wrote it; the digests of large values were verified as they were written.

    Raises:
        BackupDamaged: the store does not open, or its pages are damaged.
        SchemaMismatch: another version wrote it.
        StoreUnavailable: the operating system refuses.
    """
    with damaged_pages():
        store = read_lmdb(staging)
        try:
            return _verified(store, ObjectFolder(staging / BODIES_FOLDER))
        finally:
            await store.close()


@contextmanager
def damaged_pages() -> Iterator[None]:
    """Raise BackupDamaged for whatever LMDB finds wrong in the file, but not for what the operating system refuses."""
    try:
        yield
    except (RecordDamaged, StoreUnavailable, lmdb.Error) as exc:
        cause = exc if isinstance(exc, lmdb.Error) else exc.__cause__
        if isinstance(cause, _OF_SYSTEM) or type(cause) is lmdb.Error:
            raise
        raise BackupDamaged("the rows of the backup cannot be read: its pages are damaged") from exc


def _verified(store: Store, bodies: ObjectFolder) -> Verified:
    verified = Verified()
    with tempfile.TemporaryFile() as notes, snapshot_of(store) as snapshot:
        _read_rows(snapshot)
        note_bodies(snapshot, notes)
        for name, size_bytes in noted_bodies(notes):
            place = bodies.place_of(name)
            if not place.is_file() or place.stat().st_size != size_bytes:
                verified.missing += 1
                if verified.missing <= MOST_SHOWN:
                    verified.names.append(name.file_name)
    return verified


def require_pages(path: Path) -> None:
    """Refuse a file without the pages that it says it has: LMDB maps the file, and reading behind its end is a signal.

    Raises:
        BackupDamaged: it is no such file.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as stream:
        first = stream.read(_META.size)
        page_bytes = _META.unpack(first)[4] if len(first) == _META.size else 0
        if page_bytes not in _PAGE_BYTES or size_bytes % page_bytes:
            raise BackupDamaged("the rows of the backup are no file of LMDB, or were cut short")
        for page in range(_META_PAGES):
            stream.seek(page * page_bytes)
            meta = stream.read(_META.size)
            if len(meta) != _META.size:
                raise BackupDamaged("the rows of the backup are no file of LMDB, or were cut short")
            magic, version, _, map_bytes, its_page_bytes, free_root, last_page = _META.unpack(meta)
            # A copy without free pages has no list of them; LMDB writes into whatever page such a list names.
            is_ours = (magic, version, its_page_bytes, free_root) == (_MAGIC, _DATA_VERSION, page_bytes, _NO_PAGE)
            if not is_ours or map_bytes > MAP_BYTES or (last_page + 1) * page_bytes > size_bytes:
                raise BackupDamaged("the rows of the backup are no file of LMDB, or were cut short")


def _read_rows(snapshot: StoreSnapshot) -> None:
    """Read every row; keys have to ascend, or pages that name each other would be read without end."""
    former, is_behind_rows = b"", False
    for key, _ in snapshot.rows():
        if key <= former:
            if is_behind_rows:
                raise BackupDamaged("the rows of the backup are not in order: its pages are damaged")
            is_behind_rows = True  # tombstones follow the rows, and begin anew
        former = key
