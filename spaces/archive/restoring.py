"""Making a data folder of a backup; it becomes one when all of the backup is verified.

Everything is written into the folder `restoring` of the data folder first. While that exists, no
process opens the data folder as a store. When the digest at the end of the backup holds, rows are
changed so that the store is safe to serve, and what was written is moved to its place: the store
last, then the folder is removed.
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
from typing import Any, BinaryIO, Final

import lmdb
from msgspec import Struct

from capabilities.clock_and_entropy import Clock, Entropy

from ..identity import STORE_ID_BYTES, Identity, identity_row, recorded_identity
from ..keyspace import (
    AUDIT_CHAIN_KEY,
    AUDIT_PRUNING_KEY,
    BODIES_PLACE_KEY,
    IDENTITY_KEY,
    REPLAY_FLOOR_KEY,
    RESTORED_KEY,
)
from ..space_errors import BackupDamaged, RecordDamaged, StoreUnavailable
from ..store.contract import MAX_PUTS, Commit, Put, Range, read_page, read_row
from ..store.durable import sync_folder
from ..store.lmdb._closed_minutes import with_closed
from ..store.lmdb._folder import MAP_BYTES, RESTORING_NAME, open_for_reading
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
from .bodies import keep_body, note_bodies, noted_bodies

MAX_SEALED_SECRET_BYTES: Final = 16 * 1024
_MOST_SHOWN: Final = 1000  # large values that are kept with their names
_META_PAGES: Final = 2
# Page header; magic, version, address, size of the map, of a page; root of the free pages; last
# page.
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
_STORE: Final = "store"
_MOVED: Final = ("secret", BODIES_FOLDER, _STORE)
# Networks, receipts, their documents and the uses of those, audit records, their chain and its
# heads (`keyspace`).
_OF_FORMER_KEYS: Final = (b"N", b"R", b"D", b"d", b"J", b"j", b"y")


class Restored(Struct, rename="camel"):
    """What was restored."""

    bodies: int = 0
    body_bytes: int = 0
    left_out: list[str] = []  # a copy of it for each


@contextmanager
def restoring_into(folder: Path) -> Iterator[Path]:
    """Make a data folder of what the block writes into the folder that it gets; on an error nothing
    is left."""
    if (was_there := folder.exists()) and any(folder.iterdir()):
        raise FileExistsError(
            17, "is not empty; a backup is restored into an empty folder only", str(folder)
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    staging = folder / RESTORING_NAME
    staging.mkdir(mode=0o700)  # refused where another restore began meanwhile
    places = [staging]
    try:
        with full_disk("the restored store"):
            yield staging
            sync_folder(staging)
            # Until `restoring` is gone, nothing opens what is there.
            for name in _MOVED:
                # before anything is moved: a process that looked before us made it
                if os.path.lexists(folder / name):
                    raise FileExistsError(
                        17, "was made while the backup was restored", str(folder / name)
                    )
            for name in _MOVED:
                place, target = staging / name, folder / name
                # the kernel refuses where there is a file, or a folder with something in it
                if place.is_dir():
                    places.append(place.rename(target))
                elif place.exists():
                    target.hardlink_to(place)  # replaces nothing
                    places.append(target)
            sync_folder(folder)
            shutil.rmtree(staging)  # files of a store that was opened alone, and of this boot
            sync_folder(folder)
            sync_folder(folder.absolute().parent)
    except BaseException:
        for place in places:
            with suppress(OSError):
                shutil.rmtree(place) if place.is_dir() else place.unlink()
        if not was_there:
            with suppress(OSError):
                folder.rmdir()
        raise


class OpenedBackup:
    """A backup of which the beginning was read; nothing of it is verified yet."""

    def __init__(self, stream: BinaryIO) -> None:
        self.archive = ArchiveReader(stream)
        self.members = self.archive.members()
        self.header = parse_header(self._next(HEADER_NAME, MAX_HEADER_BYTES))
        self.sealed_secret = (
            self._next(SECRET_NAME, MAX_SEALED_SECRET_BYTES) if self.header.has_secret else None
        )

    def _next(self, name: str, most_bytes: int) -> bytes:
        if next(self.members, None) != name:
            raise BackupDamaged("the file is no backup")
        return self.archive.contents(most_bytes)


async def restore_backup(
    backup: OpenedBackup, staging: Path, *, done: Callable[[int], None]
) -> Restored:
    """Write the rows and bodies of a backup, and verify all of it (BK4); the store is not to be
    served yet.

    Args:
        backup: opened just now.
        staging: without a store.
        done: called after each part with how many bytes were read.

    Raises:
        BackupDamaged: the file is no backup, or was cut short or altered.
        StoreFull: no free space.
        StoreUnavailable: the disk refuses.
    """
    archive, bodies, restored = backup.archive, ObjectFolder(staging / BODIES_FOLDER), Restored()
    # Format 1 has the file of LMDB itself.
    is_file, place, number = backup.header.format == 1, staging / _STORE / "data.mdb", 0
    rows: AbstractContextManager[Callable[[Any], object]] = (
        _new_file(place) if is_file else new_environment(staging)
    )
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
                    await _restore_body(archive, bodies, name, restored)
                elif member != SETTINGS_NAME:
                    raise BackupDamaged(
                        "the backup was altered: it has a member that no backup has"
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
    """Make a file of mode 0600 in a folder of its own, durable when the block ends; yields what
    writes it."""
    path.parent.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        yield stream.write
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(path.parent)


def _body_name(member: str) -> ObjectName | None:
    """Read the name of a body; None for any other member. Its file is named by what was read, never
    by the text."""
    folder, _, rest = member.partition("/")
    name = parse_file_name(rest[3:]) if folder == BODIES_FOLDER else None
    return name if name is not None and rest[:3] == f"{name.digest[:1].hex()}/" else None


async def _restore_body(
    archive: ArchiveReader, bodies: ObjectFolder, name: ObjectName, restored: Restored
) -> None:
    """Write a body; one without its digest was damaged in the store already, or else the backup's
    digest fails."""

    async def pieces() -> AsyncIterator[bytes]:
        for piece in archive.pieces():
            yield piece

    if (size_bytes := await keep_body(bodies, name, pieces())) is None:
        restored.left_out.append(name.file_name)
    else:
        restored.bodies += 1
        restored.body_bytes += size_bytes


def read_all(staging: Path) -> list[str]:
    """Read every page and row of a store; return the file names of large values that rows name and
    that are missing.

    LMDB trusts its file: what is cut short or overwritten can end the process by a signal. Run it
    in one of its own.
    """
    missing: list[str] = []
    bodies = ObjectFolder(staging / BODIES_FOLDER)
    with damaged_pages(), open_for_reading(staging) as env, tempfile.TemporaryFile() as notes:
        with snapshot_in(env) as snapshot:
            # Keys have to ascend, or pages that name each other would be read without end.
            former, may_begin_anew = b"", True
            for part in snapshot.parts():
                keys = [key for key, _ in part]
                if keys[0] <= former and may_begin_anew:
                    former, may_begin_anew = b"", False  # tombstones follow the rows
                if any(key <= one for one, key in pairwise([former, *keys])):
                    raise BackupDamaged(
                        "the rows of the backup are not in order: its pages are damaged"
                    )
                former = keys[-1]
                note_bodies(part, notes)
        for name, size_bytes in noted_bodies(notes):
            place = bodies.place_of(name)
            if len(missing) < _MOST_SHOWN and not (
                place.is_file() and place.stat().st_size == size_bytes
            ):
                missing.append(name.file_name)
    return missing


@contextmanager
def damaged_pages() -> Iterator[None]:
    """Raise BackupDamaged for whatever LMDB finds wrong in the file, but not for what the operating
    system refuses."""
    try:
        yield
    except (RecordDamaged, StoreUnavailable, lmdb.Error) as exc:
        cause = exc if isinstance(exc, lmdb.Error) else exc.__cause__
        if isinstance(cause, _OF_SYSTEM) or type(cause) is lmdb.Error:
            raise
        raise BackupDamaged("the rows of the backup cannot be read: its pages are damaged") from exc


def require_pages(path: Path) -> None:
    """Refuse a file without the pages that it says it has: LMDB maps the file, and reading behind
    its end is a signal."""
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
            # A copy without free pages has no list of them; LMDB writes into whatever page such a
            # list names.
            is_ours = (magic, version, its_page_bytes, free_root) == (
                _MAGIC,
                _DATA_VERSION,
                page_bytes,
                _NO_PAGE,
            )
            if not is_ours or map_bytes > MAP_BYTES or (last_page + 1) * page_bytes > size_bytes:
                raise BackupDamaged("the rows of the backup are no file of LMDB, or were cut short")


class Servable(Struct, frozen=True):
    """A store that was made servable."""

    open_from_minute: int
    missing: list[str]


async def make_servable(
    staging: Path,
    header: Header,
    *,
    longest_life_s: int,
    new_node_did: str | None,
    clock: Clock,
    entropy: Entropy,
) -> Servable:
    """Read all of a restored store, and change the rows that must not be as they were
    (spec/operations/backup.md).

    Args:
        staging: where `restore_backup` wrote it.
        header: of the backup.
        longest_life_s: for how long before its expiry a token is usable here.
        new_node_did: of a copy that is served beside its original; None: it takes the original's
            place.
        clock: tells when the restore has ended.
        entropy: makes the id of a copy.

    Raises:
        BackupDamaged: the rows are not those of the node that the header names.
        SchemaMismatch: another version wrote them.
        StoreMoved, StoreUnavailable, StoreFull: the store does not open, or takes no commit.
    """
    missing = read_all(staging)
    store = open_lmdb(staging, reserve_bytes=0, clock=clock)
    try:
        identity = await recorded_identity(store)
        if identity is None or identity.node_did != header.node_did:
            raise BackupDamaged(
                "the backup was altered: its rows are not those of the node that it names"
            )
        former = await read_row(store, REPLAY_FLOOR_KEY)
        # BK5: whatever the original accepted until now expires before then. A clock behind the mark
        # is wrong.
        open_from = (
            int(max(clock.now(), header.marked_at) + max(longest_life_s, header.longest_life_s))
            // 60
            + 1
        )
        closed = with_closed((former and former.value) or b"", before=open_from)
        puts = [Put(REPLAY_FLOOR_KEY, closed), Put(BODIES_PLACE_KEY, None)]
        if new_node_did is None:
            puts.append(Put(RESTORED_KEY, header.folder.encode()))  # BK6
        else:
            for prefix in _OF_FORMER_KEYS:  # BK7
                rows = Range(prefix, limit=MAX_PUTS, keys_only=True)
                while keys := [key for key, _ in (await read_page(store, rows)).rows]:
                    await store.commit(Commit(puts=tuple([Put(key, None) for key in keys])))
            new = Identity(node_did=new_node_did, store_id=entropy.token(STORE_ID_BYTES))
            puts.append(Put(IDENTITY_KEY, identity_row(new)))
            puts += [Put(key, None) for key in (RESTORED_KEY, AUDIT_CHAIN_KEY, AUDIT_PRUNING_KEY)]
        await store.commit(Commit(puts=tuple(puts)))
    finally:
        await store.close()
    return Servable(open_from, missing)
