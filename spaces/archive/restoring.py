"""Restore of a backup to a data folder.

Everything is first written into the subfolder `restoring`. While that exists, no process opens the
data folder as a store. When the digest at the end of the backup matches, rows are changed so that
the store is safe to serve. Then everything is moved to its place: the store last, and then the
subfolder is removed.
"""

import asyncio
import os
import shutil
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import lmdb
from msgspec import Struct

from capabilities.clock_and_entropy import Clock, Entropy
from capabilities.frozen_struct import FrozenStruct

from ..identity import STORE_ID_BYTES, Identity, identity_row, recorded_identity
from ..keyspace import (
    AUDIT_CHAIN_KEY,
    AUDIT_PRUNING_KEY,
    BODIES_PLACE_KEY,
    HOSTING_MODE_KEY,
    IDENTITY_KEY,
    REPLAY_FLOOR_KEY,
    RESTORED_KEY,
)
from ..space_errors import BackupDamaged, RecordDamaged, StoreUnavailable
from ..sql.database_files import DATABASE_MEMBER, database_files
from ..sql.database_rows import DATABASES_FOLDER
from ..store.contract import MAX_PUTS, Put, Range, commit_puts, read_page
from ..store.durable import sync_folder
from ..store.lmdb._folder import MAP_BYTES, RESTORING_NAME, open_for_reading
from ..store.lmdb._refused_minutes import add_refused
from ..store.lmdb.engine import open_lmdb
from ..store.lmdb.snapshots import new_environment, snapshot_in
from ..values.object_folder import ObjectFolder
from ..values.object_records import ObjectName, parse_file_name
from .backup import (
    BODIES_FOLDER,
    HEADER_NAME,
    MAX_HEADER_BYTES,
    MAX_PART_BYTES,
    ROWS_PREFIX,
    SECRET_NAME,
    SETTINGS_NAME,
    ArchiveReader,
    Header,
    full_disk,
    parse_header,
    parse_part,
)
from .bodies import note_bodies, noted_bodies, store_body

MAX_SEALED_SECRET_BYTES = 16 * 1024
_MOST_SHOWN = 1000  # large values that are listed by name
_META_PAGES = 2
# Page header; magic, version, address, size of the map, size of a page; root of the free pages;
# last page.
_META = struct.Struct("=16x II Q Q I 36x Q 48x Q")
_NO_PAGE = (1 << 64) - 1
_MAGIC = 0xBEEFC0DE
_DATA_VERSION = 1
_PAGE_BYTES = frozenset(1 << shift for shift in range(9, 17))
# Errors of the operating system, not of the file.
_OF_SYSTEM = (
    OSError,
    lmdb.DiskError,
    lmdb.LockError,
    lmdb.MemoryError,
    lmdb.ReadersFullError,
    lmdb.ReadonlyError,
)
_STORE = "store"
_MOVED = ("secret", BODIES_FOLDER, DATABASES_FOLDER, _STORE)
# BK7: rows that depend on the original's keys: networks, receipts, their documents and the uses of
# those, audit records, their chain and its heads (`keyspace`).
_OF_FORMER_KEYS = (b"N", b"R", b"D", b"d", b"J", b"j", b"y")


class Restored(Struct, rename="camel"):
    """The result of restoring a backup.

    It has totals of the restored large values and databases, and the names of the skipped files.
    """

    bodies: int = 0
    body_bytes: int = 0
    databases: int = 0
    left_out: list[str] = []  # msgspec copies the default for each instance


@contextmanager
def restoring_into(folder: Path) -> Iterator[Path]:
    """Create a data folder from a staging folder.

    Yields the staging folder, whose contents are moved to the data folder when the block ends. On
    an error nothing is left.
    """
    if (was_there := folder.exists()) and any(folder.iterdir()):
        raise FileExistsError(
            17,
            "the folder is not empty; a backup can be restored only into an empty folder",
            str(folder),
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    staging = folder / RESTORING_NAME
    staging.mkdir(mode=0o700)  # fails if another restore began meanwhile
    places = [staging]
    try:
        with full_disk("the restored store"):
            yield staging
            sync_folder(staging)
            # Until `restoring` is removed, no process opens the folder as a store.
            for name in _MOVED:
                # Checked before anything is moved: a process that saw no `restoring` made it.
                if os.path.lexists(folder / name):
                    raise FileExistsError(
                        17,
                        "another process created this file or folder during the restore",
                        str(folder / name),
                    )
            for name in _MOVED:
                place, target = staging / name, folder / name
                # rename fails if the target is a file, or a folder that is not empty
                if place.is_dir():
                    places.append(place.rename(target))
                elif place.exists():
                    target.hardlink_to(place)  # unlike a rename, replaces no file
                    places.append(target)
            sync_folder(folder)
            shutil.rmtree(staging)  # with it, the lock file and the replay records of this boot
            sync_folder(folder)
            sync_folder(folder.absolute().parent)
    except BaseException:
        for place in places:
            with suppress(OSError):
                if place.is_dir():
                    shutil.rmtree(place)
                else:
                    place.unlink()
        if not was_there:
            with suppress(OSError):
                folder.rmdir()
        raise


class OpenedBackup:
    """A backup that is open for reading.

    The header was read. The other contents are not verified yet.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.archive = ArchiveReader(stream)
        self.members = self.archive.members()
        self.header = parse_header(self._next(HEADER_NAME, MAX_HEADER_BYTES))
        self.sealed_secret = (
            self._next(SECRET_NAME, MAX_SEALED_SECRET_BYTES) if self.header.has_secret else None
        )

    def _next(self, name: str, most_bytes: int) -> bytes:
        if next(self.members, None) != name:
            raise BackupDamaged("the file is not a backup")
        return self.archive.contents(most_bytes)


async def restore_backup(
    backup: OpenedBackup, staging: Path, *, done: Callable[[int], None]
) -> Restored:
    """Restore a backup to a staging folder (BK4).

    The rows and large values are written, and the backup's digest is verified. The store is not
    ready to be served; see `finish_restore`.

    Args:
        backup: opened just before.
        staging: a folder without a store.
        done: called after each part with the number of bytes read.

    Raises:
        BackupDamaged: the file is not a backup, or was cut short or altered.
        StoreFull: no free space.
        StoreUnavailable: an error of the disk.
    """
    archive, bodies, restored = backup.archive, ObjectFolder(staging / BODIES_FOLDER), Restored()
    # Format 1 contains the LMDB file itself.
    is_file, place, number = backup.header.format == 1, staging / _STORE / "data.mdb", 0
    rows: AbstractContextManager[Callable[[Any], object]] = (
        _new_file(place) if is_file else new_environment(staging)
    )

    async def pieces() -> AsyncIterator[bytes]:
        for piece in archive.pieces():
            yield piece

    try:
        with rows as write:
            for member in backup.members:
                if member == f"{ROWS_PREFIX[backup.header.format]}{number:05}":
                    number += 1
                    for part in (
                        archive.pieces()
                        if is_file
                        else [parse_part(archive.contents(MAX_PART_BYTES))]
                    ):
                        write(part)
                elif name := _body_name(member):
                    # Listed as skipped if its digest is wrong: it was damaged in the store already,
                    # or the digest of the backup does not match.
                    if (size_bytes := await store_body(bodies, name, pieces())) is None:
                        restored.left_out.append(name.file_name)
                    else:
                        restored.bodies += 1
                        restored.body_bytes += size_bytes
                elif DATABASE_MEMBER.fullmatch(member):
                    _restore_file(staging / member, archive)
                    restored.databases += 1
                elif member != SETTINGS_NAME:
                    raise BackupDamaged(
                        "the backup was altered: it contains a member of an unknown type"
                    )
                done(archive.size_bytes)
                await asyncio.sleep(0)
    except RecordDamaged as exc:
        raise BackupDamaged(f"the backup was altered: {exc}") from exc
    if is_file:
        require_pages(place)
    return restored


@contextmanager
def _new_file(path: Path) -> Iterator[Callable[[bytes], object]]:
    """Create a file, and its folders.

    Yields the file's `write` function. File and folder are durable when the block ends.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        yield stream.write
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(path.parent)
    sync_folder(path.parent.parent)


def _restore_file(path: Path, archive: ArchiveReader) -> None:
    """Write the current member of an archive to a new file."""
    with _new_file(path) as write:
        for piece in archive.pieces():
            write(piece)


def _body_name(member: str) -> ObjectName | None:
    """Parse the file name of a large value in a backup.

    Returns None for other tar members. The file is named by the parsed parts, never by the text, so
    no name can leave the folder.
    """
    folder, _, rest = member.partition("/")
    name = parse_file_name(rest[3:]) if folder == BODIES_FOLDER else None
    return name if name is not None and rest[:3] == f"{name.digest[:1].hex()}/" else None


def read_all(staging: Path) -> list[str]:
    """Read a restored LMDB file in full, to detect damage.

    Returns the file names of large values and databases that are missing. LMDB trusts its file: one
    that is cut short or overwritten can end the process by a signal. Run this in a process of its
    own.
    """
    missing = list[str]()
    bodies = ObjectFolder(staging / BODIES_FOLDER)
    with damaged_pages(), open_for_reading(staging) as env, tempfile.TemporaryFile() as notes:
        with snapshot_in(env) as snapshot:
            # Keys have to ascend: damaged pages that link to each other would be read for ever.
            former, may_begin_anew = b"", True
            for part in snapshot.parts():
                keys = [key for key, _ in part]
                if keys[0] <= former and may_begin_anew:
                    former, may_begin_anew = b"", False  # tombstones follow the rows
                if any(key <= one for one, key in pairwise([former, *keys])):
                    raise BackupDamaged(
                        "the backup is damaged: the rows of its database are not sorted by key"
                    )
                former = keys[-1]
                note_bodies(part, notes)
                missing += [file for file in database_files(part) if not (staging / file).is_file()]
                del missing[_MOST_SHOWN:]
        for name, size_bytes in noted_bodies(notes):
            place = bodies.place_of(name)
            if len(missing) < _MOST_SHOWN and not (
                place.is_file() and place.stat().st_size == size_bytes
            ):
                missing.append(name.file_name)
    return missing


@contextmanager
def damaged_pages() -> Iterator[None]:
    """Convert LMDB errors about a damaged file to BackupDamaged.

    Errors of the operating system pass unchanged.
    """
    try:
        yield
    except (RecordDamaged, StoreUnavailable, lmdb.Error) as exc:
        cause = exc if isinstance(exc, lmdb.Error) else exc.__cause__
        if isinstance(cause, _OF_SYSTEM) or type(cause) is lmdb.Error:
            raise
        raise BackupDamaged("the rows of the backup cannot be read: pages are damaged") from exc


def require_pages(path: Path) -> None:
    """Check that an LMDB file is complete.

    Raises BackupDamaged if the file is shorter than its header says. LMDB maps the file into
    memory, and reading beyond its end ends the process by a signal.
    """
    size_bytes, page_bytes = path.stat().st_size, 0
    with path.open("rb") as stream:
        for page in range(_META_PAGES):
            stream.seek(page * page_bytes)
            # Missing bytes are read as zeros, which are no page size and no magic number.
            meta = _META.unpack(stream.read(_META.size).ljust(_META.size, b"\0"))
            page_bytes = page_bytes or meta[4]
            magic, version, _, map_bytes, its_page_bytes, free_root, last_page = meta
            # A copy made for a backup has no list of free pages. A forged one could make LMDB write
            # into any page, so it is refused.
            is_ours = (magic, version, its_page_bytes, free_root) == (
                _MAGIC,
                _DATA_VERSION,
                page_bytes,
                _NO_PAGE,
            )
            if (
                not is_ours
                or page_bytes not in _PAGE_BYTES
                or size_bytes % page_bytes
                or map_bytes > MAP_BYTES
                or (last_page + 1) * page_bytes > size_bytes
            ):
                raise BackupDamaged("the LMDB file in the backup is not valid or was cut short")


class FinishedRestore(FrozenStruct):
    """The result of a successful restore.

    It contains the first expiry minute of accepted tokens, the missing large values, and the
    hosting mode of the node that was backed up.
    """

    open_from_minute: int
    missing: list[str]
    hosting_mode: str


async def finish_restore(
    staging: Path,
    header: Header,
    *,
    longest_life_s: int,
    new_node_did: str | None,
    clock: Clock,
    entropy: Entropy,
) -> FinishedRestore:
    """Prepare a restored store for use.

    All rows are read and checked. Some rows must differ from the backup; the changes are described
    in spec/operations/backup.md.

    Args:
        staging: the folder that `restore_backup` wrote.
        header: of the backup.
        longest_life_s: how long before its expiry a token may be used here.
        new_node_did: the node DID of a copy that is served beside its original; None if the store
            replaces the original.
        clock: for the time when the restore ends.
        entropy: for the id of a copy.

    Raises:
        BackupDamaged: the rows are not those of the node that the header names.
        SchemaMismatch: another version wrote them.
        StoreMoved, StoreUnavailable, StoreFull: the store does not open, or refuses a commit.
    """
    missing = read_all(staging)
    store = open_lmdb(staging, reserve_bytes=0, clock=clock)
    try:
        identity = await recorded_identity(store)
        if identity is None or identity.node_did != header.node_did:
            raise BackupDamaged(
                "the backup was altered: its rows and its header belong to different nodes"
            )
        former, mode = (await store.read((REPLAY_FLOOR_KEY, HOSTING_MODE_KEY))).records
        # ST18: where the store does not say, the mode may have been any.
        hosting_mode = (mode and mode.value) or b"unknown"
        # BK5: every token that the original accepted until now expires before this minute. If the
        # clock is behind the backup's mark, the clock is wrong and the mark is used.
        open_from = (
            int(max(clock.now(), header.marked_at) + max(longest_life_s, header.longest_life_s))
            // 60
            + 1
        )
        closed = add_refused((former and former.value) or b"", before=open_from)
        puts = [
            Put(REPLAY_FLOOR_KEY, closed),
            Put(BODIES_PLACE_KEY, None),
            Put(HOSTING_MODE_KEY, hosting_mode),
        ]
        if new_node_did is None:
            puts.append(Put(RESTORED_KEY, header.folder.encode()))  # BK6
        else:
            for prefix in _OF_FORMER_KEYS:  # BK7
                rows = Range(prefix, limit=MAX_PUTS, keys_only=True)
                while keys := [key for key, _ in (await read_page(store, rows)).rows]:
                    await commit_puts(store, *[Put(key, None) for key in keys])
            new = Identity(node_did=new_node_did, store_id=entropy.token(STORE_ID_BYTES))
            puts.append(Put(IDENTITY_KEY, identity_row(new)))
            puts += [Put(key, None) for key in (RESTORED_KEY, AUDIT_CHAIN_KEY, AUDIT_PRUNING_KEY)]
        await commit_puts(store, *puts)
    finally:
        await store.close()
    return FinishedRestore(open_from, missing, hosting_mode.decode("utf-8", "replace"))
