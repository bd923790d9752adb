"""Values of a space: a head under each path, the body in it or in a file beside it.

The ETag is `"blake3-<64 lower hex>"` of the bytes alone (M1). A put replaces body and metadata whole (M2). A delete
leaves a tombstone: a second delete finds it, and a path never written has no row at all (M31).

Every head is written only over the very row that was read, because the references of bodies in files are counted by
the commits that change heads. A writer that loses a race is refused and plans again on a new read; that is at most one
retry for each write that came before on the same path.

Bodies are bytes in memory here; streams come with uploads and downloads in parts.

Example:
    snapshot = await store.read(tuple(head_key(space, write.path) for write in writes))
    plan = await values.plan(space, writes, snapshot.records, now=now)
    outcome = await store.commit(Commit(puts=plan.puts + (audit,), checks=plan.checks))
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from blake3 import blake3

from capabilities.ambient import Entropy
from capabilities.resources import SpaceId

from ._codec import Codec
from .blobs import (
    GENERATION_BYTES,
    BlobFiles,
    BlobName,
    BlobRecord,
    blob_record_of,
    due_put,
    encode_blob_record,
    reuse_check,
)
from .errors import CommitInvalid, MetadataTooLarge
from .keyspace import blob_key, value_key, x16
from .quota import usage_key
from .store.contract import ABSENT, Check, Put, Record, Store

INLINE_BYTES: Final = 48 * 1024
MAX_METADATA_BYTES: Final = 16 * 1024  # ST6
# Hashing this much takes a tenth of a millisecond: from here on it leaves the event loop.
_INLINE_HASH_BYTES: Final = 1024 * 1024
# Header values come with bytes that are not UTF-8 as lone surrogates, and go back as they came.
_HEADER_TEXT: Final = ("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Head:
    """A live value.

    Attributes:
        stamp: of the row, 16 bytes.
        etag: 64 lower hex digits, BLAKE3 of the body.
        metadata: stored header names, lower case, and their values.
        size_bytes: of the body.
        body: the body when it is inline; None when it lies in a file.
        path: the whole path.
        blob: the file of the body; None when it is inline.
    """

    stamp: bytes
    etag: str
    metadata: Mapping[str, str]
    size_bytes: int
    body: bytes | None
    path: str
    blob: BlobName | None = None

    @property
    def etag_header(self) -> str:
        """The ETag as the wire shows it."""
        return f'"blake3-{self.etag}"'


@dataclass(frozen=True, slots=True)
class Write:
    """A value to be put, or a path to be deleted (`body` None)."""

    path: str
    body: bytes | None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WritePlan:
    """What a commit must hold so that the writes happen.

    Attributes:
        puts: the heads first, in the order of the writes, then rows of bodies.
        checks: records of bodies that are shared and must not have changed.
        etags: of the new bodies in the order of the writes, 64 hex digits; None for a delete.
        replaced: the live values that the writes replace, in their order.
        grows: whether some body is added, so that the quota must be asked.
    """

    puts: tuple[Put, ...]
    checks: tuple[Check, ...]
    etags: tuple[str | None, ...]
    replaced: tuple[Head | None, ...]
    grows: bool


class _HeadRow(msgspec.Struct, frozen=True, array_like=True):
    digest: bytes
    size_bytes: int
    metadata: dict[str, bytes]
    path: str
    body: bytes | None
    generation: bytes | None


_CODEC: Final = Codec(_HeadRow)


def head_key(space: SpaceId, path: str) -> bytes:
    """Key of the head of a path of any length."""
    return value_key(x16(space.text), path)


def head_of(record: Record | None, *, key: bytes) -> Head | None:
    """Read a head; None for a path never written and for a deleted one (which has a record, see M31).

    Args:
        record: as it was read.
        key: under which it was read.
    Raises:
        RecordDamaged: the row does not decode.
    """
    if record is None or record.value is None:
        return None
    row = _CODEC.decode(record.value)
    blob = None if row.generation is None else BlobName(key[1:17], row.digest, row.generation)
    return Head(
        stamp=record.stamp,
        etag=row.digest.hex(),
        metadata={name: value.decode(*_HEADER_TEXT) for name, value in row.metadata.items()},
        size_bytes=row.size_bytes,
        body=row.body,
        path=row.path,
        blob=blob,
    )


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Refuse metadata beyond its bound (ST6).

    Raises:
        MetadataTooLarge: names and values together have more than 16 KiB.
    """
    size_bytes = sum(len(name) + len(value.encode(*_HEADER_TEXT)) for name, value in metadata.items())
    if size_bytes > MAX_METADATA_BYTES:
        raise MetadataTooLarge(limit_bytes=MAX_METADATA_BYTES, got_bytes=size_bytes)


class Values:
    """Plans writes and reads bodies."""

    def __init__(self, store: Store, files: BlobFiles, entropy: Entropy) -> None:
        self._store = store
        self._files = files
        self._entropy = entropy

    async def read_body(self, head: Head) -> bytes:
        """Return the body of a head, from the row or from its file.

        Raises:
            RecordDamaged: the file is missing or holds something else.
            StoreUnavailable: the disk refuses.
        """
        if head.body is not None:
            return head.body
        assert head.blob is not None  # a head has the one or the other
        return await self._files.read(head.blob, size_bytes=head.size_bytes)

    async def plan(
        self, space: SpaceId, writes: Sequence[Write], current: Sequence[Record | None], *, now: float
    ) -> WritePlan:
        """Work out the rows of some writes to one space, and write the files of large bodies.

        A file written for a commit that never happens goes a day later. Large bodies cost one read more.

        Args:
            space: whose values; canonical.
            writes: each path once.
            current: the records under `head_key` of each write, as they were read.
            now: epoch seconds.
        Raises:
            MetadataTooLarge: see `check_metadata`.
            CommitInvalid: a path comes twice, or one without any row is to be deleted (M31: the caller answers that).
            RecordDamaged, StoreFull, StoreUnavailable: from rows and files.
        """
        draft = _Draft(space, writes, current, [await _digest(write.body) for write in writes])
        return await self._with_bodies(draft, now) if draft.deltas else draft.plan({}, (), ())

    async def _with_bodies(self, draft: "_Draft", now: float) -> WritePlan:
        digests = tuple(draft.deltas)
        keys = [blob_key(draft.space16, digest) for digest in digests]
        records = (await self._store.read(keys)).records
        generations: dict[bytes, bytes] = {}
        puts: list[Put] = []
        checks: list[Check] = []
        for digest, key, record in zip(digests, keys, records, strict=True):
            found = blob_record_of(record)
            is_shared = found is not None and found.references > 0
            if digest in draft.large and not is_shared:
                fresh = await self._new_file(draft, digest)
            elif found is None:
                continue  # an old head without a record: nothing left to count
            else:
                fresh = BlobRecord(found.generation, max(found.references + draft.deltas[digest], 0))
            generations[digest] = fresh.generation
            if record is not None and fresh == found:
                checks.append(reuse_check(key, record))
                continue
            puts += self._record_puts(draft, key, record, fresh, now=now)
        return draft.plan(generations, puts, checks)

    async def _new_file(self, draft: "_Draft", digest: bytes) -> BlobRecord:
        name = BlobName(draft.space16, digest, self._entropy.token(GENERATION_BYTES))
        await self._files.write(name, draft.large[digest])
        return BlobRecord(name.generation, draft.uses(digest))

    def _record_puts(
        self, draft: "_Draft", key: bytes, record: Record | None, fresh: BlobRecord, *, now: float
    ) -> list[Put]:
        digest = key[17:]
        put = Put(
            key,
            encode_blob_record(fresh),
            expect=ABSENT if record is None else record.stamp,
            weight_bytes=draft.sizes[digest] if fresh.references else 0,
            account=draft.account,
        )
        if fresh.references:
            return [put]
        name = BlobName(draft.space16, digest, fresh.generation)
        return [put, due_put(name, due_at=now, unlink=False, entropy=self._entropy)]


async def _digest(body: bytes | None) -> bytes | None:
    if body is None:
        return None
    if len(body) <= _INLINE_HASH_BYTES:
        return blake3(body).digest()
    return await asyncio.to_thread(lambda: blake3(body).digest())


class _Draft:
    """Writes beside what they replace, before the files of large bodies are settled."""

    def __init__(
        self,
        space: SpaceId,
        writes: Sequence[Write],
        current: Sequence[Record | None],
        hashes: Sequence[bytes | None],
    ) -> None:
        self.space16 = x16(space.text)
        self.account = usage_key(space)
        self._writes = writes
        self._current = current
        self._keys = [value_key(self.space16, write.path) for write in writes]
        if len(set(self._keys)) != len(writes):
            raise CommitInvalid("a path is written twice in one commit")
        self._replaced = [head_of(record, key=key) for record, key in zip(current, self._keys, strict=True)]
        if any(write.body is None and record is None for write, record in zip(writes, current, strict=True)):
            raise CommitInvalid("a path that was never written cannot be deleted")
        self._hashes = hashes
        self.deltas: dict[bytes, int] = {}  # bodies in files, and how many references they gain or lose
        self.sizes: dict[bytes, int] = {}
        self.large: dict[bytes, bytes] = {}
        for write, old, digest in zip(writes, self._replaced, self._hashes, strict=True):
            check_metadata(write.metadata)
            if old is not None and old.blob is not None:
                self._count(old.blob.digest, -1, old.size_bytes)
            if write.body is not None and digest is not None and len(write.body) > INLINE_BYTES:
                self._count(digest, +1, len(write.body))
                self.large[digest] = write.body

    def _count(self, digest: bytes, delta: int, size_bytes: int) -> None:
        self.deltas[digest] = self.deltas.get(digest, 0) + delta
        self.sizes[digest] = size_bytes

    def uses(self, digest: bytes) -> int:
        """How many of the writes have this body."""
        return self._hashes.count(digest)

    def plan(self, generations: Mapping[bytes, bytes], puts: Sequence[Put], checks: Sequence[Check]) -> WritePlan:
        heads = [self._head_put(at, generations) for at in range(len(self._writes))]
        return WritePlan(
            puts=(*heads, *puts),
            checks=tuple(checks),
            etags=tuple([None if digest is None else digest.hex() for digest in self._hashes]),
            replaced=tuple(self._replaced),
            grows=any(write.body for write in self._writes),
        )

    def _head_put(self, at: int, generations: Mapping[bytes, bytes]) -> Put:
        write, record, digest = self._writes[at], self._current[at], self._hashes[at]
        expect = ABSENT if record is None else record.stamp
        if write.body is None or digest is None:
            return Put(self._keys[at], None, expect=expect)
        is_large = digest in self.large
        row = _HeadRow(
            digest=digest,
            size_bytes=len(write.body),
            metadata={name: value.encode(*_HEADER_TEXT) for name, value in write.metadata.items()},
            path=write.path,
            body=None if is_large else write.body,
            generation=generations[digest] if is_large else None,
        )
        # A body in a file is weighed once, on its record, however many heads share it (M10).
        weight_bytes = 0 if is_large else len(write.body)
        return Put(self._keys[at], _CODEC.encode(row), expect=expect, weight_bytes=weight_bytes, account=self.account)
