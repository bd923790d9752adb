"""Taking a backup of a store that may be in use.

In this order: the lock that keeps bodies; the mark, which is one read transaction, for the rows; then, the transaction
ended, the bodies that those rows name.
"""

import asyncio
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import Struct

from capabilities.ambient import Clock

from ..errors import RecordDamaged, StoreFull
from ..identity import recorded_identity
from ..store.contract import Store
from ..store.durable import sync_folder
from ..store.lmdb.snapshots import RowSource
from ..values.object_records import ObjectName
from ..values.object_store import ObjectStore
from .bodies import note_bodies, noted_bodies
from .file import (
    BODIES_FOLDER,
    HEADER_NAME,
    ROWS_PREFIX,
    SECRET_NAME,
    SETTINGS_NAME,
    ArchiveWriter,
    Header,
    encode_header,
    encode_part,
    full_disk,
)

RESERVE_BYTES: Final = 256 * 1024 * 1024
"""Free space left on the disk of the store: as much as bodies leave, so that the node goes on writing."""


class Taken(Struct, rename="camel"):
    """What is in a backup."""

    marked_at: float
    bodies: int = 0
    body_bytes: int = 0
    left_out: list[str] = []  # a copy of it for each
    size_bytes: int = 0
    digest: str = ""


@contextmanager
def backup_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file of mode 0600 beside its name, and give it the name, durably, when the block ends without an
    error."""
    folder = path.absolute().parent
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "exists already; a backup never replaces a file", str(path))
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".partial")  # short: no name is too long for it
    try:
        with full_disk("the backup"):  # closing writes what is left, and may fail
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            try:
                path.hardlink_to(name)  # unlike a rename, it replaces nothing: another process may have taken the name
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                Path(name).rename(path)
            sync_folder(folder)
    finally:
        with suppress(OSError):
            Path(name).unlink()


async def take_backup(
    store: Store,
    rows: RowSource,
    objects: ObjectStore,
    stream: BinaryIO,
    *,
    folder: Path,
    is_shared: bool,
    longest_life_s: int,
    settings: bytes,
    sealed_secret: bytes | None,
    clock: Clock,
    done: Callable[[int], None],
) -> Taken:
    """Write everything into the file of a backup (BK1 to BK3).

    Args:
        folder: the data folder, as an absolute path.
        longest_life_s: for how long before its expiry a token is usable there.
        settings: without secrets.
        sealed_secret: the root secret, sealed; None: not in the backup.
        done: called after each part with how many bytes were written.
    """
    if (identity := await recorded_identity(store)) is None:
        raise RecordDamaged("no node was started on this store yet")
    with tempfile.TemporaryFile() as names:
        async with rows.bodies_stay():  # BK2: before the mark
            taken = Taken(marked_at=clock.now())  # what was acknowledged until now is in the snapshot (BK1)
            archive = ArchiveWriter(stream, _space_guard(stream, folder), made_at=taken.marked_at)
            header = Header(
                format=2,
                node_did=identity.node_did,
                marked_at=taken.marked_at,
                folder=str(folder),
                longest_life_s=longest_life_s,
                has_secret=sealed_secret is not None,
                is_shared=is_shared,
            )
            archive.add(HEADER_NAME, encode_header(header))
            if sealed_secret is not None:
                archive.add(SECRET_NAME, sealed_secret)
            archive.add(SETTINGS_NAME, settings)
            async with aclosing(rows.parts()) as parts:
                number = 0
                async for part in parts:
                    archive.add(f"{ROWS_PREFIX[2]}{number:05}", encode_part(part))
                    note_bodies(part, names)
                    number += 1
                    done(archive.size_bytes)
                    await asyncio.sleep(0)
            for name, size_bytes in noted_bodies(names):
                await _add_body(objects, archive, name, size_bytes, taken)
                done(archive.size_bytes)
    taken.digest = archive.close()
    taken.size_bytes = archive.size_bytes
    return taken


def _space_guard(stream: BinaryIO, store_folder: Path) -> Callable[[], None]:
    """Return what raises StoreFull once the backup has come to the reserve of the store's disk (BK3)."""
    is_same_disk = os.fstat(stream.fileno()).st_dev == store_folder.stat().st_dev

    def require_space() -> None:
        if is_same_disk:
            disk = os.fstatvfs(stream.fileno())
            if disk.f_bavail * disk.f_frsize < RESERVE_BYTES:
                raise StoreFull("no free space for the backup: the rest of the disk is the store's")

    return require_space


async def _add_body(
    objects: ObjectStore, archive: ArchiveWriter, name: ObjectName, size_bytes: int, taken: Taken
) -> None:
    """Copy a body; of one that is missing or damaged the archive has a member that does not have its digest (BK3)."""
    member = f"{BODIES_FOLDER}/{name.digest[:1].hex()}/{name.file_name}"
    try:
        body = await objects.open(name, size_bytes=size_bytes)
    except RecordDamaged:
        archive.add(member, b"")
        taken.left_out.append(name.file_name)
        return
    archive.begin(member, size_bytes)
    try:
        async with body:
            async for piece in body.pieces():
                archive.write(piece)
    except RecordDamaged:
        taken.left_out.append(name.file_name)
    else:
        taken.bodies += 1
        taken.body_bytes += size_bytes
    archive.end()
