"""Bodies above the inline threshold: files, and the records that count who refers to them.

    <folder>/<first 2 hex of hash>/<space16 hex>-<hash hex>-<generation hex>

A file is written once, under a name that nobody used before (the generation is random), synced, renamed and its folder
synced; only then may a commit name it. Its record `B space16 hash32` holds the generation and the number of heads that
refer to it, and changes only in the commits that change those heads. So a crash leaves at worst a file that no record
names.

A body that is already there is shared only by a commit that compares the stamp of a record with at least one reference;
a record at zero is on its way out and is never revived: the next put writes a new generation.

The collector (`collect`) commits the deletion of a record at zero and unlinks its file an hour later, so that whoever
read the head before still finds the body. `sweep_orphans` removes files that no record names, a day after they were
written.

Example:
    files = BlobFiles(data / "blobs")
    await files.write(name, body)
"""

import asyncio
import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from blake3 import blake3

from capabilities.ambient import Entropy

from ._codec import Codec
from .errors import RecordDamaged, StoreFull, StoreUnavailable
from .keyspace import DUE_PREFIX, blob_key, due_key, micros8
from .store.contract import Check, Commit, Put, Range, Record, Refused, Store

GENERATION_BYTES: Final = 16
UNLINK_AFTER_S: Final = 3600.0
ORPHAN_AFTER_S: Final = 86_400.0
# Reading less than this from the page cache costs less than the hop to a thread.
INLINE_READ_BYTES: Final = 64 * 1024
_TEMPORARY: Final = ".new-"


@dataclass(frozen=True, slots=True)
class BlobName:
    """Which file.

    Attributes:
        space16: 16 bytes of the space's id.
        digest: BLAKE3 of the body, 32 bytes.
        generation: 16 random bytes.
    """

    space16: bytes
    digest: bytes
    generation: bytes

    @property
    def file_name(self) -> str:
        """The name of the file, without its folder."""
        return f"{self.space16.hex()}-{self.digest.hex()}-{self.generation.hex()}"


def parse_file_name(name: str) -> BlobName | None:
    """Read a file's name; None for anything else that lies in the folder."""
    parts = name.split("-")
    if [len(part) for part in parts] != [32, 64, 32]:
        return None
    try:
        space16, digest, generation = (bytes.fromhex(part) for part in parts)
    except ValueError:
        return None
    found = BlobName(space16=space16, digest=digest, generation=generation)
    return found if found.file_name == name else None


class BlobRecord(msgspec.Struct, frozen=True, array_like=True):
    """The row of a blob.

    Attributes:
        generation: which file holds the body.
        references: heads of this space that refer to it.
    """

    generation: bytes
    references: int


class _Due(msgspec.Struct, frozen=True, array_like=True):
    """Work on one blob: delete its record (`unlink` False), or unlink its file."""

    space16: bytes
    digest: bytes
    generation: bytes
    unlink: bool


_RECORD_CODEC: Final = Codec(BlobRecord)
_DUE_CODEC: Final = Codec(_Due)


def blob_record_of(record: Record | None) -> BlobRecord | None:
    """Read a blob's row; None when there is none or it was collected."""
    return None if record is None or record.value is None else _RECORD_CODEC.decode(record.value)


def encode_blob_record(record: BlobRecord) -> bytes:
    """Lay out a blob's row."""
    return _RECORD_CODEC.encode(record)


def due_put(name: BlobName, *, due_at: float, unlink: bool, entropy: Entropy) -> Put:
    """Note work on a blob for the collector."""
    value = _Due(space16=name.space16, digest=name.digest, generation=name.generation, unlink=unlink)
    return Put(due_key(due_at, entropy.token(16)), _DUE_CODEC.encode(value))


class BlobFiles:
    """The folder with the bodies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _place(self, name: BlobName) -> Path:
        return self._folder / name.digest[:1].hex() / name.file_name

    async def write(self, name: BlobName, body: bytes) -> None:
        """Write a body so that it survives a power cut; off the event loop.

        Raises:
            StoreFull: no room on the disk.
            StoreUnavailable: the disk refuses.
        """
        await asyncio.to_thread(self._write, name, body)

    def _write(self, name: BlobName, body: bytes) -> None:
        place = self._place(name)
        temporary = place.with_name(_TEMPORARY + name.file_name)
        try:
            self._make_folder(place.parent)
            _write_synced(temporary, body)
            temporary.rename(place)
            _sync_folder(place.parent)
        except OSError as exc:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull("no room for a body") from exc
            raise StoreUnavailable("a body cannot be written") from exc

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(self._folder)
        _sync_folder(self._folder.parent)

    async def read(self, name: BlobName, *, size_bytes: int) -> bytes:
        """Read a body and compare it with its digest.

        Raises:
            RecordDamaged: the file is missing or holds something else.
            StoreUnavailable: the disk refuses.
        """
        if size_bytes <= INLINE_READ_BYTES:
            return self._read(name)
        return await asyncio.to_thread(self._read, name)

    def _read(self, name: BlobName) -> bytes:
        try:
            body = self._place(name).read_bytes()
        except FileNotFoundError as exc:
            raise RecordDamaged("the file of a body is missing") from exc
        except OSError as exc:
            raise StoreUnavailable("a body cannot be read") from exc
        if blake3(body).digest() != name.digest:
            raise RecordDamaged("a body does not have the digest of its head")
        return body

    async def remove(self, name: BlobName) -> None:
        """Unlink a file if it is there."""
        await asyncio.to_thread(self._place(name).unlink, missing_ok=True)

    async def older_than(self, before: float) -> Sequence[BlobName]:
        """Return the names of files last written before `before`, and remove such unfinished ones."""
        return await asyncio.to_thread(lambda: list(self._older_than(before)))

    def _older_than(self, before: float) -> Iterator[BlobName]:
        for place in self._folder.glob("??/*"):
            with suppress(FileNotFoundError):
                if place.stat().st_mtime >= before:
                    continue
                if place.name.startswith(_TEMPORARY):
                    place.unlink()
                elif (name := parse_file_name(place.name)) is not None:
                    yield name


def _write_synced(place: Path, body: bytes) -> None:
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        left = memoryview(body)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def collect(store: Store, files: BlobFiles, *, now: float, entropy: Entropy, limit: int = 256) -> int:
    """Do the due work on blobs; return how many items were done. Run by one lease-holder, again while it returns > 0.

    A crash between any two steps leaves the item due, and doing an item again does no harm.
    """
    done = 0
    for key, record in await _due_rows(store, now=now, limit=limit):
        due = _DUE_CODEC.decode(record.value or b"")
        name = BlobName(space16=due.space16, digest=due.digest, generation=due.generation)
        if due.unlink:
            await files.remove(name)
            await store.commit(Commit(puts=(Put(key, None),)))
        else:
            await _delete_record(store, name, key, now=now, entropy=entropy)
        done += 1
    return done


async def _due_rows(store: Store, *, now: float, limit: int) -> list[tuple[bytes, Record]]:
    """Return what is due, reading on over items that are done and not swept yet."""
    end = DUE_PREFIX + micros8(now) + b"\xff" * 16
    after: bytes | None = None
    while True:
        page = (await store.read(ranges=(Range(DUE_PREFIX, after=after, limit=limit),))).pages[0]
        if page.rows or not page.more:
            return [row for row in page.rows if row[0] <= end]
        after = page.last_key


async def _delete_record(store: Store, name: BlobName, due: bytes, *, now: float, entropy: Entropy) -> None:
    """Delete the record if it still is this generation's and nobody refers to it; the item is done either way."""
    key = blob_key(name.space16, name.digest)
    record = (await store.read((key,))).records[0]
    found = blob_record_of(record)
    if record is not None and found is not None and found == BlobRecord(name.generation, 0):
        unlink = due_put(name, due_at=now + UNLINK_AFTER_S, unlink=True, entropy=entropy)
        outcome = await store.commit(Commit(puts=(Put(key, None, expect=record.stamp), Put(due, None), unlink)))
        if not isinstance(outcome, Refused):
            return
    await store.commit(Commit(puts=(Put(due, None),)))


async def sweep_orphans(store: Store, files: BlobFiles, *, now: float) -> int:
    """Remove files that were written over a day ago and are not their record's; return how many."""
    removed = 0
    for name in await files.older_than(now - ORPHAN_AFTER_S):
        record = (await store.read((blob_key(name.space16, name.digest),))).records[0]
        found = blob_record_of(record)
        if found is None or found.generation != name.generation:
            await files.remove(name)
            removed += 1
    return removed


def reuse_check(key: bytes, record: Record) -> Check:
    """The condition under which a stored body may be shared: its record is unchanged."""
    return Check(key, record.stamp)
