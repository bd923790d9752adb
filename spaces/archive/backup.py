"""Backups of a store as tar archives.

The store may be in use while a backup is taken. Any tar program lists and unpacks the archives.

    member                   contents
    ───────────────────────  ───────────────────────────────────────────────────────────────────
    backup.json              `Header`
    root-secret.age          the root secret, encrypted; on request only
    settings.toml            the settings in force, without secrets
    rows/00000 and on        all rows of a snapshot, in parts (`store.lmdb.snapshots`), MessagePack
    blobs/<2 hex>/<name>     a body, named as in a data folder: space, BLAKE3, generation
    sql/<space>/<path>.db    an SQL database, named as in a data folder by two hashes
    digest                   BLAKE3 in hexadecimal of all bytes before this member, and a line feed

Format 2 is the same without the number and the check value of the root secret in its header. An
earlier version wrote format 1, for stores on LMDB only. It has no settings, and contains the
LMDB file itself, in the parts `store/data.mdb.00000` and on.

The reader accepts only regular files with short names, and checks every byte of padding. It unpacks
nothing: its caller decides what to do with a member. `tarfile` is not used for reading, because it
keeps every member in memory, reads headers of any length, follows links, and takes a damaged header
for the end.

A backup is made in this order: lock the bodies against removal; note the time; read the rows in one
read transaction; then, after the transaction, read the bodies and databases that those rows refer
to.

Example:
    archive = ArchiveWriter(stream, require_space, made_at=header.marked_at)
    archive.add(HEADER_NAME, msgspec.json.encode(header))
    archive.close()
    for member in ArchiveReader(stream).members(): ...
"""

import asyncio
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from shutil import disk_usage
from tarfile import BLOCKSIZE, GNU_FORMAT, GNUTYPE_LONGNAME, REGTYPE, TarError, TarInfo
from typing import Annotated, BinaryIO, Literal, NamedTuple

import msgspec
from blake3 import blake3

from capabilities.clock_and_entropy import Clock, time_text
from capabilities.strict_json import StrictRecord

from ..identity import recorded_identity
from ..root_secret_row import read_root_secret
from ..space_errors import (
    BackupDamaged,
    RecordDamaged,
    RotationUnfinished,
    StoreBusy,
    StoreError,
    StoreFull,
)
from ..sql.database_files import database_copy, database_files
from ..store.contract import MAX_KEY_BYTES, MAX_VALUE_BYTES, Store
from ..store.durable import NO_SPACE, RESERVE_BYTES, sync_folder
from ..store.lmdb.snapshots import PART_ROWS, Part, RowSource
from ..values.object_store import ObjectStore
from .bodies import ListedBody, append_bodies, listed_bodies

MAX_HEADER_BYTES = 16 * 1024
HEADER_NAME = "backup.json"
SECRET_NAME = "root-secret.age"  # noqa: S105  # a file name
SETTINGS_NAME = "settings.toml"
FORMAT: Literal[3] = 3
"""The format that this version writes."""
ROWS_PREFIX = {1: "store/data.mdb.", 2: "rows/", 3: "rows/"}
"""The prefix of the names of row parts, by format; a number of at least five digits follows."""
BODIES_FOLDER = "blobs"
DIGEST_NAME = "digest"
_DIGEST_BYTES = 65
_PIECE_BYTES = 256 * 1024
_MAX_NAME_BYTES = BLOCKSIZE
_CHECKSUM = slice(148, 156)  # of a tar header
_ZEROS = bytes(BLOCKSIZE)

_Text = Annotated[str, msgspec.Meta(max_length=4096)]
_MAX_PATH_BYTES = 4095  # PATH_MAX less its final zero byte
_MAX_FILE_NAME_BYTES = 255


class Header(StrictRecord, rename="camel", kw_only=True):
    """The header of a backup.

    The header is the first tar member, encoded as JSON. A change of its fields needs another
    `format`.

    Attributes:
        root_secret_number: of the root secret that the restored store needs; 0 in formats 1 and 2,
            and for a store that has not recorded it.
        root_secret_check: the check value of that secret in hex; empty if the number is 0.
    """

    format: Literal[1, 2, 3]
    node_did: _Text
    marked_at: Annotated[float, msgspec.Meta(ge=0, lt=1 << 33)]
    folder: _Text
    longest_life_s: Annotated[int, msgspec.Meta(ge=0, le=86_400 * 31)]
    has_secret: bool
    is_shared: bool = False
    root_secret_number: Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)] = 0
    root_secret_check: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")] = ""


encode_part = msgspec.msgpack.encode
_PARTS = msgspec.msgpack.Decoder(
    Annotated[list[tuple[bytes, bytes]], msgspec.Meta(min_length=1, max_length=PART_ROWS)]
)
MAX_PART_BYTES = PART_ROWS * (MAX_KEY_BYTES + MAX_VALUE_BYTES + 1024)


def parse_part(contents: bytes) -> Part:
    """Decode the rows in one part of a backup."""
    try:
        rows: Part = _PARTS.decode(contents)
    except ValueError as exc:
        raise BackupDamaged("the backup was altered: its rows cannot be decoded") from exc
    return rows


def parse_header(contents: bytes) -> Header:
    """Decode the header of a backup.

    Raises:
        BackupDamaged: the member is not the header of a backup that this version reads.
    """
    try:
        header = msgspec.json.decode(contents, type=Header)
        folder = header.folder.encode()  # fails for text that UTF-8 cannot encode
    except (ValueError, RecursionError) as exc:
        raise BackupDamaged(
            "the file was altered, or is not a backup that this version of sealspace can read"
        ) from exc
    # BK6: a node opens this path before it serves, so it has to be a possible one
    if not _is_possible_path(folder):
        raise BackupDamaged("the backup was altered: the path of its data folder is not valid")
    return header


def _is_possible_path(path: bytes) -> bool:
    """Return whether the system accepts an absolute path, which need not exist."""
    if not path.startswith(b"/") or b"\0" in path or len(path) > _MAX_PATH_BYTES:
        return False
    return all(len(name) <= _MAX_FILE_NAME_BYTES for name in path.split(b"/"))


class ArchiveWriter:
    """A tar writer that computes the archive's digest.

    Each method that writes raises StoreFull if there is no free space, and OSError for other errors
    of the disk.

    Args:
        stream: gets the archive.
        require_space: called before each write; raises StoreFull if too little space is free.
        made_at: the time of all members, in epoch seconds.
    """

    def __init__(
        self, stream: BinaryIO, require_space: Callable[[], None], *, made_at: float
    ) -> None:
        self._stream = stream
        self._require_space = require_space
        self._made_at = int(made_at)
        self._hasher = blake3()
        self._member_end_bytes = 0  # the position at which the current member is complete
        self.size_bytes = 0

    def add(self, name: str, contents: bytes) -> None:
        """Write a complete tar member."""
        self.begin(name, len(contents))
        self.write(contents)
        self.end()

    def begin(self, name: str, size_bytes: int) -> None:
        """Begin a tar member of a given size."""
        info = TarInfo(name)
        info.size = size_bytes
        info.mode = 0o600
        info.mtime = self._made_at
        self.write(info.tobuf(GNU_FORMAT))
        self._member_end_bytes = self.size_bytes + size_bytes

    def write(self, data: bytes | bytearray) -> None:
        """Write the next bytes of the current tar member."""
        self._require_space()
        with convert_full_disk_errors("the backup"):
            self._stream.write(data)
        self._hasher.update(data)
        self.size_bytes += len(data)

    def end(self) -> None:
        """Finish the current tar member.

        The tar member is padded with zeros to its declared size, rounded up to a whole block.
        """
        padding_bytes = -self._member_end_bytes % BLOCKSIZE
        block_end_bytes = self._member_end_bytes + padding_bytes
        while (missing_bytes := block_end_bytes - self.size_bytes) > 0:
            self.write(bytes(min(missing_bytes, _PIECE_BYTES)))

    def close(self) -> str:
        """Finish the archive and return its digest.

        The digest and the tar end marker are written.
        """
        digest = self._hasher.hexdigest()
        self.add(DIGEST_NAME, digest.encode() + b"\n")
        self.write(2 * _ZEROS)
        return digest


class ArchiveReader:
    """A tar reader with bounded memory use.

    An archive is read once from start to end.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hasher = blake3()
        self._left_bytes = 0  # of the current member
        self.size_bytes = 0

    def members(self) -> Iterator[str]:
        """Yield the name of each tar member.

        The archive's digest is verified at the end. Contents of a member that the caller does not
        read are skipped.

        Raises:
            BackupDamaged: the file is not a backup, or was cut short or altered. The archive is
                verified only when the iteration has ended.
        """
        had_digest = False
        while True:
            digest = self._hasher.hexdigest()  # of all bytes before this member
            info = self._read_header()
            if info is None:
                break
            if had_digest:
                raise BackupDamaged("the backup was altered: there is data after its digest")
            self._left_bytes = info.size
            if info.name == DIGEST_NAME:
                # the digest covers every byte before it (BK4)
                if self.contents(_DIGEST_BYTES) != digest.encode() + b"\n":
                    raise BackupDamaged("the backup was altered: its digest does not match")
                had_digest = True
            else:
                yield info.name
            for _ in self.pieces():
                pass  # skip what the caller did not read
            self._read_zeros(-info.size % BLOCKSIZE)
        # An archive ends with two blocks of zeros. `_read_header` has read the first.
        self._read_zeros(BLOCKSIZE)
        if self._stream.read(1) or not had_digest:
            raise BackupDamaged("the backup was altered: it does not end with its digest")

    def pieces(self) -> Iterator[bytes]:
        """Yield the contents of the current tar member.

        A piece has at most 256 KiB.
        """
        while self._left_bytes:
            piece = self._read(min(self._left_bytes, _PIECE_BYTES))
            self._left_bytes -= len(piece)
            yield piece

    def contents(self, most_bytes: int) -> bytes:
        """Return the contents of the current tar member.

        Raises:
            BackupDamaged: they exceed `most_bytes`, or the backup was cut short.
        """
        if self._left_bytes > most_bytes:
            raise BackupDamaged(
                f"the backup was altered: a file in it exceeds the limit of {most_bytes} bytes"
            )
        return b"".join(self.pieces())

    def _read_header(self) -> TarInfo | None:
        """Read the next tar header, and the long name that may precede it.

        Returns None at the end of the archive.
        """
        block = self._read(BLOCKSIZE)
        if block == _ZEROS:
            return None
        info = _parse_tar_header(block)
        if info.type == GNUTYPE_LONGNAME:
            name = self._read_long_name(info.size)
            info = _parse_tar_header(self._read(BLOCKSIZE))
            info.name = name
        if info.type != REGTYPE or info.size < 0:
            raise BackupDamaged(
                "the backup was altered: an entry in the archive is not a regular file"
            )
        return info

    def _read_long_name(self, size_bytes: int) -> str:
        """Read a name that is too long for a tar header."""
        if not 1 <= size_bytes <= _MAX_NAME_BYTES:  # a size in a tar header can be negative
            raise BackupDamaged(
                "the backup was altered: a file name in the archive must have"
                f" 1 to {_MAX_NAME_BYTES} bytes"
            )
        name = self._read(size_bytes).rstrip(b"\0")
        self._read_zeros(-size_bytes % BLOCKSIZE)
        return name.decode("ascii", "replace")

    def _read_zeros(self, size_bytes: int) -> None:
        """Read padding, and raise BackupDamaged if a byte of it is not zero."""
        if any(self._read(size_bytes)):
            raise BackupDamaged(
                "the backup was altered: there is data between the files in the archive"
            )

    def _read(self, size_bytes: int) -> bytes:
        """Read the next bytes of the archive, and add them to its digest.

        Raises BackupDamaged if the archive ends before.
        """
        # A negative size would read the whole file into memory.
        data = self._stream.read(size_bytes) if size_bytes >= 0 else b""
        if len(data) != size_bytes:
            raise BackupDamaged(
                "the backup was cut short" if self.size_bytes else "the file is not a backup"
            )
        self._hasher.update(data)
        self.size_bytes += size_bytes
        return data


def _parse_tar_header(block: bytes) -> TarInfo:
    """Parse a tar header, whose checksum has to be in the form in which it was written.

    The checksum covers all other bytes of a header. `tarfile` reads it in several forms, and the
    digest does not cover the header of its own member.
    """
    try:
        info = TarInfo.frombuf(block, "utf-8", "replace")
    except (TarError, ValueError) as exc:
        raise BackupDamaged("the file is not a backup, or was altered") from exc
    if block[_CHECKSUM] != b"%06o\0 " % info.chksum:
        raise BackupDamaged("the backup was altered: a checksum in it has another form")
    return info


@contextmanager
def convert_full_disk_errors(what: str) -> Iterator[None]:
    """Convert the errors of a full disk to StoreFull.

    `what` names what is being written.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno in NO_SPACE:
            raise StoreFull(f"no free space for {what}") from exc
        raise


class BackupSummary(msgspec.Struct, rename="camel"):
    """A summary of a finished backup.

    Attributes:
        marked_at: the backup has every write acknowledged before, epoch seconds.
        bodies: number of large values.
        body_bytes: their size together.
        databases: number of SQL databases.
        left_out: files of large values and databases that are not in the backup.
        left_out_reasons: why, by the name of the file.
        size_bytes: size of the backup.
        digest: of the backup.
    """

    marked_at: float
    bodies: int = 0
    body_bytes: int = 0
    databases: int = 0
    left_out: list[str] = []  # msgspec copies the default for each instance
    left_out_reasons: dict[str, str] = {}
    size_bytes: int = 0
    digest: str = ""

    def leave_out(self, name: str, error: StoreError) -> None:
        """Note a file that is not in the backup."""
        self.left_out.append(name)
        is_damage = isinstance(error, RecordDamaged)
        problem = "missing or damaged in the store" if is_damage else "not copied"
        self.left_out_reasons[name] = f"{problem}: {error}"


@contextmanager
def backup_file(path: Path) -> Iterator[BinaryIO]:
    """Create a backup file atomically, with mode 0600.

    The `with` block writes to a temporary file. If the block ends without an error, the file gets
    its name durably; otherwise it is deleted. It never replaces another file.
    """
    folder = path.absolute().parent
    if os.path.lexists(path):
        raise FileExistsError(
            errno.EEXIST, "the file already exists; a backup never replaces a file", str(path)
        )
    # The name does not contain the name of `path`, which with a suffix could be too long.
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".partial")
    try:
        with convert_full_disk_errors("the backup"):  # closing writes buffered data, and may fail
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            _name_file(Path(temporary), path)
            sync_folder(folder)
    finally:
        with suppress(OSError):  # there is none after a rename
            Path(temporary).unlink()


def _name_file(temporary: Path, path: Path) -> None:
    """Give a complete file its name, without replacing another file where links are supported."""
    try:
        # Unlike a rename, a link does not replace a file that another process created meanwhile.
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        temporary.rename(path)


class _IdentityOfBackup(NamedTuple):
    """The node of a store, and the root secret that its rows are sealed with."""

    node_did: str
    root_secret_number: int
    root_secret_check: str


async def _identity_of_backup(store: Store) -> _IdentityOfBackup:
    """Read the node of a store, and the root secret that a restore of its rows needs (RK10).

    Raises:
        RecordDamaged: no node has used the store.
        RotationUnfinished: the rows are sealed by two root secrets, and a restore could use only
            one of them.
    """
    identity = await recorded_identity(store)
    if identity is None:
        raise RecordDamaged("no node has used this store yet")
    stored_secret = await read_root_secret(store)
    if stored_secret is None:
        return _IdentityOfBackup(identity.node_did, root_secret_number=0, root_secret_check="")
    root_secret = stored_secret.row
    if root_secret.next is not None:
        raise RotationUnfinished(
            number=root_secret.number, begun_on=time_text(root_secret.next.begun_at)
        )
    return _IdentityOfBackup(
        identity.node_did,
        root_secret_number=root_secret.number,
        root_secret_check=root_secret.check_value.hex(),
    )


async def write_backup(
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
    progress: Callable[[int], None],
) -> BackupSummary:
    """Write a backup of a store (BK1 to BK3).

    Args:
        folder: the data folder, as an absolute path.
        longest_life_s: how long before its expiry a token may be used there.
        settings: without secrets.
        sealed_secret: the encrypted root secret; None to leave it out.
        progress: called after each part with the number of bytes written.
    """
    identity = await _identity_of_backup(store)
    with tempfile.TemporaryFile() as body_list, tempfile.TemporaryFile("w+") as database_list:
        async with rows.lock_bodies():  # BK2: before the time is noted
            # BK1: every write that was acknowledged until now is in the snapshot
            summary = BackupSummary(marked_at=clock.now())
            archive = ArchiveWriter(stream, _space_guard(stream, folder), made_at=summary.marked_at)
            header = Header(
                format=FORMAT,
                node_did=identity.node_did,
                marked_at=summary.marked_at,
                folder=str(folder),
                longest_life_s=longest_life_s,
                has_secret=sealed_secret is not None,
                is_shared=is_shared,
                root_secret_number=identity.root_secret_number,
                root_secret_check=identity.root_secret_check,
            )
            archive.add(HEADER_NAME, msgspec.json.encode(header))
            if sealed_secret is not None:
                archive.add(SECRET_NAME, sealed_secret)
            archive.add(SETTINGS_NAME, settings)
            async with aclosing(rows.parts()) as parts:
                number = 0
                async for part in parts:
                    archive.add(f"{ROWS_PREFIX[FORMAT]}{number:05}", encode_part(part))
                    append_bodies(part, body_list)
                    database_list.writelines(f"{file}\n" for file in database_files(part))
                    number += 1
                    progress(archive.size_bytes)
                    await asyncio.sleep(0)
            # The read transaction has ended, because LMDB's file grows while one is open.
            for body in listed_bodies(body_list):
                await _add_body(objects, archive, body, summary)
                progress(archive.size_bytes)
        # BK10: after the rows, so that each copy has every write acknowledged before the mark.
        database_list.seek(0)
        for line in database_list:
            _add_database(folder, archive, line.rstrip(), summary)
            progress(archive.size_bytes)
    summary.digest = archive.close()
    summary.size_bytes = archive.size_bytes
    return summary


def _space_guard(stream: BinaryIO, store_folder: Path) -> Callable[[], None]:
    """Return a function that checks the free disk space.

    The function raises StoreFull if less than the reserve is free. The reserve counts only if the
    backup is on the disk of the store (BK3).
    """
    is_same_disk = os.fstat(stream.fileno()).st_dev == store_folder.stat().st_dev

    def require_space() -> None:
        # The node must still be able to write. Large values leave the same reserve free.
        if is_same_disk and disk_usage(stream.fileno()).free < RESERVE_BYTES:
            raise StoreFull(
                "no free space for the backup: the rest of the disk is reserved for the store"
            )

    return require_space


def _add_database(folder: Path, archive: ArchiveWriter, file: str, summary: BackupSummary) -> None:
    """Copy an SQL database into the archive (BK10).

    A database that cannot be copied is left out.
    """
    try:
        with database_copy(folder / file) as copy:
            archive.begin(file, os.fstat(copy.fileno()).st_size)
            while piece := copy.read(_PIECE_BYTES):
                archive.write(piece)
            archive.end()
    except (RecordDamaged, StoreBusy) as exc:
        summary.leave_out(file, exc)
    else:
        summary.databases += 1


async def _add_body(
    objects: ObjectStore, archive: ArchiveWriter, body: ListedBody, summary: BackupSummary
) -> None:
    """Copy a large value into the archive.

    If the file is missing or damaged, the member does not match the digest in its name (BK3). The
    member's size is written before the contents are read, so the member cannot be taken back.
    """
    name = body.name
    member = f"{BODIES_FOLDER}/{name.digest[:1].hex()}/{name.file_name}"
    try:
        contents = await objects.open(name, size_bytes=body.size_bytes)
    except RecordDamaged as exc:
        archive.add(member, b"")
        summary.leave_out(name.file_name, exc)
        return
    archive.begin(member, body.size_bytes)
    try:
        async with contents:
            async for piece in contents.pieces():
                archive.write(piece)
    except RecordDamaged as exc:
        summary.leave_out(name.file_name, exc)
    else:
        summary.bodies += 1
        summary.body_bytes += body.size_bytes
    archive.end()
