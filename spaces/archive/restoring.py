"""Restore of a backup to a data folder.

Everything is first written into the subfolder `restoring`. While that exists, no process opens the
data folder as a store. When the digest at the end of the backup matches, rows are changed so that
the store is safe to serve. Then everything is moved to its place: the store last, and then the
subfolder is removed.
"""

import asyncio
import errno
import os
import shutil
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import lmdb
from msgspec import Struct

from capabilities.clock_and_entropy import Clock, Entropy
from capabilities.frozen_struct import FrozenStruct

from .._codec import value_or_empty
from ..identity import STORE_ID_BYTES, Identity, identity_row, recorded_identity
from ..keyspace import (
    AUDIT_CHAIN_KEY,
    AUDIT_PRUNING_KEY,
    BODIES_PLACE_KEY,
    HOSTING_MODE_KEY,
    IDENTITY_KEY,
    REPLAY_FLOOR_KEY,
    RESTORED_KEY,
    ROOT_SECRET_KEY,
)
from ..root_secret_row import RootSecretRow, root_secret_of
from ..space_errors import BackupDamaged, RecordDamaged, StoreUnavailable
from ..sql.database_files import DATABASE_MEMBER, database_files
from ..sql.database_rows import DATABASES_FOLDER
from ..store.contract import MAX_PUTS, Put, Range, Store, commit_puts, read_page
from ..store.durable import sync_folder
from ..store.lmdb._folder import MAP_BYTES, RESTORING_NAME, open_for_reading
from ..store.lmdb._refused_minutes import add_refused
from ..store.lmdb.engine import open_lmdb
from ..store.lmdb.snapshots import Part, new_environment, snapshot_in
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
    convert_full_disk_errors,
    parse_header,
    parse_part,
)
from .bodies import append_bodies, listed_bodies, store_body

MAX_SEALED_SECRET_BYTES = 16 * 1024
_MOST_NAMED = 1000  # missing files that are listed by name
_META_PAGES = 2
_META = struct.Struct("=16x II Q Q I 36x Q 48x Q")
"""A meta page after its page header, in the order of `_MetaPage`."""
_NO_PAGE = (1 << 64) - 1
_MAGIC = 0xBEEFC0DE
_DATA_VERSION = 1
_PAGE_BYTES = frozenset(1 << shift for shift in range(9, 17))
# Errors of the operating system, not of the file.
_SYSTEM_ERRORS = (
    OSError,
    lmdb.DiskError,
    lmdb.LockError,
    lmdb.MemoryError,
    lmdb.ReadersFullError,
    lmdb.ReadonlyError,
)
_LMDB_FILE_FORMAT = 1  # this format contains the LMDB file itself
_STORE_FOLDER = "store"
# In the order in which they are moved to the data folder.
_MOVED_NAMES = ("secret", BODIES_FOLDER, DATABASES_FOLDER, _STORE_FOLDER)
# BK7: prefixes of the rows that depend on the original's keys: networks, the paths of their content
# keys, receipts, their documents and the uses of those, fetches of copies, audit records, their
# chain and its heads (`keyspace`).
_PREFIXES_OF_FORMER_KEYS = (b"N", b"h", b"R", b"D", b"d", b"F", b"J", b"j", b"y")


class Restored(Struct, rename="camel"):
    """The result of restoring a backup.

    Attributes:
        bodies: number of restored large values.
        body_bytes: their size together.
        databases: number of restored SQL databases.
        left_out: names of the files that are missing or damaged in the backup.
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
    had_folder = folder.exists()
    if had_folder and any(folder.iterdir()):
        raise FileExistsError(
            errno.EEXIST,
            "the folder is not empty; a backup can be restored only into an empty folder",
            str(folder),
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    staging = folder / RESTORING_NAME
    staging.mkdir(mode=0o700)  # fails if another restore began meanwhile
    created = [staging]  # what is removed if the restore fails
    try:
        with convert_full_disk_errors("the restored store"):
            yield staging
            sync_folder(staging)
            # Until `restoring` is removed, no process opens the folder as a store.
            _require_no_other_store(folder)
            _move_to_data_folder(staging, folder, created)
            sync_folder(folder)
            shutil.rmtree(staging)  # with it, the lock file and the replay records of this boot
            sync_folder(folder)
            sync_folder(folder.absolute().parent)
    except BaseException:
        _remove_all(created)
        if not had_folder:
            with suppress(OSError):
                folder.rmdir()
        raise


def _require_no_other_store(folder: Path) -> None:
    """Raise FileExistsError if another process created a store's files during the restore.

    A process can do so if it looked for the folder `restoring` before that was created.
    """
    for name in _MOVED_NAMES:
        if os.path.lexists(folder / name):
            raise FileExistsError(
                errno.EEXIST,
                "another process created this file or folder during the restore",
                str(folder / name),
            )


def _move_to_data_folder(staging: Path, folder: Path, created: list[Path]) -> None:
    """Move the contents of the staging folder to the data folder.

    Each file or folder is added to `created` when it is in its place.
    """
    for name in _MOVED_NAMES:
        source = staging / name
        target = folder / name
        if source.is_dir():
            # This fails if the target is a file, or a folder that is not empty.
            created.append(source.rename(target))
        elif source.exists():
            target.hardlink_to(source)  # unlike a rename, replaces no file
            created.append(target)


def _remove_all(paths: list[Path]) -> None:
    """Remove files and folders, as far as possible."""
    for path in paths:
        with suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


class OpenedBackup:
    """A backup that is open for reading.

    Nothing is verified before all members were read.

    Attributes:
        archive: reads the contents of the present member.
        members: the names of the members that follow; the header and the secret were read.
        header: the header of the backup.
        sealed_secret: the encrypted root secret; None if the backup does not contain it.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.archive = ArchiveReader(stream)
        self.members = self.archive.members()
        self.header = parse_header(self._read_next(HEADER_NAME, MAX_HEADER_BYTES))
        self.sealed_secret: bytes | None = None
        if self.header.has_secret:
            self.sealed_secret = self._read_next(SECRET_NAME, MAX_SEALED_SECRET_BYTES)

    def _read_next(self, name: str, most_bytes: int) -> bytes:
        """Return the contents of the next member, which must have this name."""
        if next(self.members, None) != name:
            raise BackupDamaged("the file is not a backup")
        return self.archive.contents(most_bytes)


async def restore_backup(
    backup: OpenedBackup, staging: Path, *, progress: Callable[[int], None]
) -> Restored:
    """Restore a backup to a staging folder (BK4).

    The rows and large values are written, and the backup's digest is verified. The store is not
    ready to be served; see `finish_restore`.

    Args:
        backup: opened just before.
        staging: a folder without a store.
        progress: called after each member with the number of bytes read.

    Raises:
        BackupDamaged: the file is not a backup, or was cut short or altered.
        StoreFull: no free space.
        StoreUnavailable: an error of the disk.
    """
    database_file = staging / _STORE_FOLDER / "data.mdb"
    is_lmdb_file = backup.header.format == _LMDB_FILE_FORMAT
    new_store: AbstractContextManager[Callable[[Any], object]]
    new_store = _new_file(database_file) if is_lmdb_file else new_environment(staging)
    try:
        with new_store as write_rows:
            members = _MemberWriter(backup, staging, write_rows)
            for member in backup.members:
                await members.restore(member)
                progress(backup.archive.size_bytes)
                await asyncio.sleep(0)
    except RecordDamaged as exc:
        raise BackupDamaged(f"the backup was altered: {exc}") from exc
    if is_lmdb_file:
        require_complete_lmdb_file(database_file)
    return members.restored


class _MemberWriter:
    """Writes the members of a backup to a staging folder.

    `write_rows` gets pieces of the LMDB file in format 1, and otherwise the decoded rows.
    """

    def __init__(
        self, backup: OpenedBackup, staging: Path, write_rows: Callable[[Any], object]
    ) -> None:
        self.restored = Restored()
        self._archive = backup.archive
        self._format = backup.header.format
        self._staging = staging
        self._bodies = ObjectFolder(staging / BODIES_FOLDER)
        self._write_rows = write_rows
        self._row_parts = 0

    async def restore(self, member: str) -> None:
        """Restore the current member of the archive, whose name says what it is."""
        if member == f"{ROWS_PREFIX[self._format]}{self._row_parts:05}":
            self._row_parts += 1
            self._restore_rows()
            return
        body_name = _parse_body_name(member)
        if body_name is not None:
            await self._restore_body(body_name)
        elif DATABASE_MEMBER.fullmatch(member):
            _restore_file(self._staging / member, self._archive)
            self.restored.databases += 1
        elif member != SETTINGS_NAME:  # the settings are for the operator and are not restored
            raise BackupDamaged("the backup was altered: it contains a member of an unknown type")

    def _restore_rows(self) -> None:
        """Restore a part of the rows."""
        if self._format == _LMDB_FILE_FORMAT:
            for piece in self._archive.pieces():
                self._write_rows(piece)
        else:
            self._write_rows(parse_part(self._archive.contents(MAX_PART_BYTES)))

    async def _restore_body(self, name: ObjectName) -> None:
        """Restore a large value.

        If its digest is wrong, it is listed as left out: it was damaged in the store already, or
        the backup is damaged. The digest at the end of the backup shows which.
        """
        size_bytes = await store_body(self._bodies, name, self._pieces())
        if size_bytes is None:
            self.restored.left_out.append(name.file_name)
        else:
            self.restored.bodies += 1
            self.restored.body_bytes += size_bytes

    async def _pieces(self) -> AsyncIterator[bytes]:
        for piece in self._archive.pieces():
            yield piece


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


def _parse_body_name(member: str) -> ObjectName | None:
    """Return the name of the large value that a tar member contains, or None for other members.

    The restored file is named by the parsed parts, never by the text, so no name can leave the
    folder.
    """
    folder, _, rest = member.partition("/")
    subfolder, _, file_name = rest.partition("/")
    if folder != BODIES_FOLDER:
        return None
    name = parse_file_name(file_name)
    if name is None or subfolder != name.digest[:1].hex():
        return None
    return name


def check_all_rows(staging: Path) -> list[str]:
    """Read all rows of a restored store, and return the names of missing files.

    A row can name the file of a large value or database. A large value with another size than its
    row states counts as missing too: the node refuses to read it. No more than `_MOST_NAMED` names
    are returned.

    LMDB trusts its file: one that is cut short or overwritten can end the process by a signal. Run
    this in a process of its own.

    Raises:
        BackupDamaged: the rows cannot be read, or are not sorted by key.
    """
    missing: list[str] = []
    bodies = ObjectFolder(staging / BODIES_FOLDER)
    with (
        convert_damage_errors(),
        open_for_reading(staging) as env,
        # The names are written to a file, so that memory does not grow with the store.
        tempfile.TemporaryFile() as body_list,
    ):
        with snapshot_in(env) as snapshot:
            for part in _require_key_order(snapshot.parts()):
                append_bodies(part, body_list)
                missing += [file for file in database_files(part) if not (staging / file).is_file()]
                # All rows are read, even if no more names are listed.
                del missing[_MOST_NAMED:]
        for body in listed_bodies(body_list):
            if len(missing) >= _MOST_NAMED:
                break
            file = bodies.place_of(body.name)
            if not file.is_file() or file.stat().st_size != body.size_bytes:
                missing.append(body.name.file_name)
    return missing


def _require_key_order(parts: Iterable[Part]) -> Iterator[Part]:
    """Yield the parts of a snapshot, and raise BackupDamaged unless their keys ascend.

    Without this, damaged pages that link to each other would be read for ever. The tombstones
    follow the rows, so keys may begin anew once, at the beginning of a part.
    """
    previous_key = b""
    may_begin_anew = True
    for part in parts:
        first_key, _ = part[0]
        if may_begin_anew and first_key <= previous_key:
            previous_key = b""
            may_begin_anew = False
        for key, _ in part:
            if key <= previous_key:
                raise BackupDamaged(
                    "the backup is damaged: the rows of its database are not sorted by key"
                )
            previous_key = key
        yield part


@contextmanager
def convert_damage_errors() -> Iterator[None]:
    """Convert LMDB errors about a damaged file to BackupDamaged.

    Errors of the operating system pass unchanged.
    """
    try:
        yield
    except (RecordDamaged, StoreUnavailable, lmdb.Error) as exc:
        cause = exc if isinstance(exc, lmdb.Error) else exc.__cause__
        # The base class stands for error codes without a class, which are of the operating system.
        if isinstance(cause, _SYSTEM_ERRORS) or type(cause) is lmdb.Error:
            raise
        raise BackupDamaged("the rows of the backup cannot be read: pages are damaged") from exc


class _MetaPage(NamedTuple):
    """One of the two pages at the beginning of an LMDB file that describe the rest.

    Attributes:
        magic, version: constants of LMDB.
        address: unused.
        map_bytes: the size of the memory map.
        page_bytes: the size of each page.
        free_pages_root: the number of the page with the list of free pages.
        last_page: the number of the last page.
    """

    magic: int
    version: int
    address: int
    map_bytes: int
    page_bytes: int
    free_pages_root: int
    last_page: int


def require_complete_lmdb_file(path: Path) -> None:
    """Raise BackupDamaged if an LMDB file is shorter than its header says, or not valid.

    LMDB maps the file into memory, and reading beyond its end ends the process by a signal.
    """
    file_bytes = path.stat().st_size
    with path.open("rb") as stream:
        first_page = _read_meta_page(stream, 0)
        second_page = _read_meta_page(stream, first_page.page_bytes)
    for page in (first_page, second_page):
        has_page_size_of_file = page.page_bytes == first_page.page_bytes
        if not has_page_size_of_file or not _is_valid_meta_page(page, file_bytes):
            raise BackupDamaged("the LMDB file in the backup is not valid or was cut short")


def _read_meta_page(stream: BinaryIO, offset: int) -> _MetaPage:
    stream.seek(offset)
    # Missing bytes are read as zeros, which are no page size and no magic number.
    contents = stream.read(_META.size).ljust(_META.size, b"\0")
    return _MetaPage._make(_META.unpack(contents))


def _is_valid_meta_page(page: _MetaPage, file_bytes: int) -> bool:
    """Return whether a page is a meta page that describes a file of this size."""
    if page.magic != _MAGIC or page.version != _DATA_VERSION:
        return False
    if page.page_bytes not in _PAGE_BYTES or page.map_bytes > MAP_BYTES:
        return False
    # A copy made for a backup has no list of free pages. A forged one could make LMDB write into
    # any page, so it is refused.
    if page.free_pages_root != _NO_PAGE:
        return False
    has_whole_pages = file_bytes % page.page_bytes == 0
    return has_whole_pages and (page.last_page + 1) * page.page_bytes <= file_bytes


class FinishedRestore(FrozenStruct):
    """The result of a successful restore.

    Attributes:
        open_from_minute: the first expiry minute of the tokens that are accepted.
        missing: names of the files of large values and databases that are missing.
        hosting_mode: the hosting mode of the node that was backed up.
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
    missing = check_all_rows(staging)
    store = open_lmdb(staging, reserve_bytes=0, clock=clock)
    try:
        identity = await recorded_identity(store)
        if identity is None or identity.node_did != header.node_did:
            raise BackupDamaged(
                "the backup was altered: its rows and its header belong to different nodes"
            )
        keys = (REPLAY_FLOOR_KEY, HOSTING_MODE_KEY, ROOT_SECRET_KEY)
        floor, mode, root_secret_row = (await store.read(keys)).records
        _require_same_secret(header, root_secret_of(root_secret_row))
        open_from_minute = _first_open_minute(header, longest_life_s, clock)
        # The tokens that the original can have accepted are refused too (BK5).
        refused_minutes = add_refused(value_or_empty(floor), before=open_from_minute)
        # A store without a recorded mode may have had any (ST18).
        hosting_mode = value_or_empty(mode) or b"unknown"
        puts = [
            Put(REPLAY_FLOOR_KEY, refused_minutes),
            # Large values are in the data folder now, even if they were in a bucket.
            Put(BODIES_PLACE_KEY, None),
            Put(HOSTING_MODE_KEY, hosting_mode),
        ]
        if new_node_did is None:
            # The store is not served as long as its original is in that folder (BK6).
            puts.append(Put(RESTORED_KEY, header.folder.encode()))
        else:
            # The copy is another node with other keys (BK7). It may be served beside its original,
            # and begins an audit chain of its own.
            await _remove_rows_of_former_keys(store)
            new_identity = Identity(node_did=new_node_did, store_id=entropy.token(STORE_ID_BYTES))
            puts.append(Put(IDENTITY_KEY, identity_row(new_identity)))
            former_keys = (RESTORED_KEY, AUDIT_CHAIN_KEY, AUDIT_PRUNING_KEY, ROOT_SECRET_KEY)
            puts += [Put(key, None) for key in former_keys]
        await commit_puts(store, *puts)
    finally:
        await store.close()
    return FinishedRestore(
        open_from_minute=open_from_minute,
        missing=missing,
        hosting_mode=hosting_mode.decode("utf-8", "replace"),
    )


def _require_same_secret(header: Header, root_secret: RootSecretRow | None) -> None:
    """Raise BackupDamaged unless the rows of a backup and its header name one secret (RK10)."""
    check_value = "" if root_secret is None else root_secret.check_value.hex()
    if header.root_secret_check and header.root_secret_check != check_value:
        raise BackupDamaged(
            "the backup was altered: its rows and its header need different root secrets"
        )


def _first_open_minute(header: Header, longest_life_s: int, clock: Clock) -> int:
    """Return the first expiry minute of the tokens that the restored store accepts (BK5).

    Every token that the original accepted until now expires earlier. If the clock is behind the
    backup's mark, the clock is wrong and the mark is used.
    """
    restored_at = max(clock.now(), header.marked_at)
    longest_life_s = max(longest_life_s, header.longest_life_s)
    return int(restored_at + longest_life_s) // 60 + 1


async def _remove_rows_of_former_keys(store: Store) -> None:
    """Remove the rows that a copy cannot use, because it has keys of its own (BK7)."""
    for prefix in _PREFIXES_OF_FORMER_KEYS:
        rows = Range(prefix, limit=MAX_PUTS, keys_only=True)
        while True:
            # The rows that were read before were removed, so this page has the next ones.
            page = await read_page(store, rows)
            if not page.rows:
                break
            await commit_puts(store, *[Put(key, None) for key, _ in page.rows])
