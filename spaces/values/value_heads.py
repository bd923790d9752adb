"""Values of a space: a head under each path, the body in it or in a file beside it.

The ETag is `"blake3-<64 lower hex>"` of the bytes alone (M1). A put replaces body and metadata whole (M2). A delete
leaves a tombstone: a second delete finds it, and a path never written has no row at all (M31).

Every head is written only over the exact row that was read, because the references of bodies in files are counted by
the commits that change heads. A writer that loses a race is refused and plans again on a new read; that is at most one
retry for each earlier write on the same path.

Large bodies are written and read in pieces, through an `object_store`: `value_bodies` receives them.

Example:
    async with values.staging() as staging:
        write = Write(path, await staging.receive(pieces), metadata)
        snapshot = await store.read((head_key(space, path),))
        draft = await values.draft(space, (write,), snapshot.records)
        plan = await draft.plan(now=now)
        outcome = await store.commit(Commit(puts=(*plan.puts, audit), checks=plan.checks))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from capabilities.ambient import Entropy
from capabilities.resources import SpaceId

from .._codec import Codec
from ..errors import CommitInvalid, MetadataTooLarge, StoreFull
from ..keyspace import (
    BODIES_COUNTER,
    MAX_PLAIN_PATH_BYTES,
    ORPHAN_SWEEP_KEY,
    object_key,
    space_id16,
    space_keys,
    value_key,
)
from ..store.contract import ABSENT, Add, Check, Put, Record, Store, counter_of
from .long_paths import come_puts, leave_puts
from .object_records import (
    GENERATION_BYTES,
    UNLINK_AFTER_S,
    ObjectName,
    ObjectRecord,
    due_put,
    encode_object_record,
    object_record_of,
    reuse_check,
)
from .object_store import ObjectStore, OpenedBody
from .value_bodies import Body, Intake, StagedFile, Staging

MAX_METADATA_BYTES: Final = 16 * 1024  # ST6
# Bytes of the row of a value beside path, metadata and body, rounded up: stamp, digest, lengths, place in a page.
ROW_BYTES: Final = 256
# Header values arrive with bytes that are not UTF-8 as lone surrogates, and are returned as they arrived.
_HEADER_TEXT: Final = ("utf-8", "surrogatepass")


class Head(msgspec.Struct, frozen=True, gc=False):
    """A live value."""

    stamp: bytes
    etag: str
    metadata: Mapping[str, str]
    size_bytes: int
    body: bytes | None
    path: str
    object_name: ObjectName | None = None
    sealed_key: bytes | None = None

    @property
    def etag_header(self) -> str:
        """The ETag as the wire shows it."""
        return f'"blake3-{self.etag}"'


class Write(msgspec.Struct, frozen=True):
    """A value to be put, or a path to be deleted (`body` None)."""

    path: str
    body: Body | None
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)
    sealed_key: bytes | None = None


class WritePlan(msgspec.Struct, frozen=True, gc=False):
    """What a commit must contain for the writes to happen."""

    puts: tuple[Put, ...]
    checks: tuple[Check, ...]
    adds: tuple[Add, ...] = ()


class _HeadRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    digest: bytes
    size_bytes: int
    metadata: dict[str, bytes]
    path: str
    body: bytes | None
    generation: bytes | None
    sealed_key: bytes | None = None


_CODEC: Final = Codec(_HeadRow)


def head_key(space: SpaceId, path: str) -> bytes:
    """Key of the head of a path of any length."""
    return value_key(space_id16(space), path)


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
    object_name = None if row.generation is None else ObjectName(key[1:17], row.digest, row.generation)
    return Head(
        stamp=record.stamp,
        etag=row.digest.hex(),
        metadata={name: value.decode(*_HEADER_TEXT) for name, value in row.metadata.items()},
        size_bytes=row.size_bytes,
        body=row.body,
        path=row.path,
        object_name=object_name,
        sealed_key=row.sealed_key,
    )


def check_metadata(metadata: Mapping[str, str]) -> int:
    """Refuse metadata beyond its bound (ST6); return how many bytes names and values have together.

    Raises:
        MetadataTooLarge: more than 16 KiB.
    """
    size_bytes = _metadata_bytes(metadata)
    if size_bytes > MAX_METADATA_BYTES:
        raise MetadataTooLarge(limit_bytes=MAX_METADATA_BYTES, got_bytes=size_bytes)
    return size_bytes


def _metadata_bytes(metadata: Mapping[str, str]) -> int:
    size_bytes = 0
    for name, value in metadata.items():
        size_bytes += len(name) + (len(value) if value.isascii() else len(value.encode(*_HEADER_TEXT)))
    return size_bytes


def row_bytes(path: str, metadata: Mapping[str, str]) -> int:
    """Return what the row of a value is charged with besides the body (M54)."""
    return _row_bytes(path, _metadata_bytes(metadata))


def _row_bytes(path: str, metadata_bytes: int) -> int:
    return ROW_BYTES + (len(path) if path.isascii() else len(path.encode(*_HEADER_TEXT))) + metadata_bytes


class Values:
    """Drafts writes and reads bodies."""

    def __init__(self, store: Store, files: ObjectStore, entropy: Entropy) -> None:
        self._store = store
        self._entropy = entropy
        self._intake = Intake()
        self.files = files

    @property
    def intake_bytes(self) -> int:
        """How much memory bodies in transit use."""
        return self._intake.held_bytes

    def staging(self) -> Staging:
        """Return an object that receives the bodies of one operation; see `value_bodies`."""
        return Staging(self.files, self._intake)

    async def open_body(self, head: Head) -> bytes | OpenedBody:
        """Return the body of a head: the bytes when they are in the row, else the open file."""
        if head.body is not None:
            return head.body
        assert head.object_name is not None  # a head has the one or the other
        return await self.files.open(head.object_name, size_bytes=head.size_bytes)

    async def read_body(self, head: Head) -> bytes:
        """Return the whole body of a head, compared with its digest; only where its size is bounded."""
        body = await self.open_body(head)
        if isinstance(body, bytes):
            return body
        async with body:
            return await body.read()

    async def draft(
        self,
        space: SpaceId,
        writes: Sequence[Write],
        current: Sequence[Record | None],
        replaced: Sequence[Head | None] | None = None,
    ) -> "Draft":
        """Draft writes to one space, together with what they replace.

        Bodies in files cost one more read, deletes of paths of more than 400 bytes one or more.

        Args:
            space: whose values; canonical.
            writes: each path once.
            current: the records under `head_key` of each write, as they were read.
            replaced: the heads in them, where the caller has read them already.
        Raises:
            MetadataTooLarge: see `check_metadata`.
            PathTooLong: see `come_puts`.
            CommitInvalid: a path appears twice, or one without any row is to be deleted (M31: the caller answers that).
            RecordDamaged, StoreUnavailable: from rows.
        """
        tally = _Tally(space, writes, current, replaced)
        ways = () if not tally.coming and not tally.leaving else await self._ways(tally)
        if not tally.deltas:
            return Draft(tally, (), _NO_FILES, self._entropy, ways)
        keys = [object_key(tally.space16, digest) for digest in tally.deltas]
        *records, sweep, counter = (await self._store.read((*keys, ORPHAN_SWEEP_KEY, BODIES_COUNTER))).records
        folder = _Folder(sweep, counter_of(counter), self.files.max_bytes)
        return Draft(tally, tuple(zip(keys, records, strict=True)), folder, self._entropy, ways)

    async def _ways(self, tally: "_Tally") -> tuple[Put, ...]:
        """Work out the rows on the way to long paths that are added and removed."""
        puts = {put.key: put for put in await leave_puts(self._store, tally.space16, tally.leaving)}
        puts |= {put.key: put for put in come_puts(tally.space16, tally.coming)}
        return tuple(puts.values())


class Draft:
    """Some writes together with what they replace, before the files of large bodies are named."""

    def __init__(
        self,
        tally: "_Tally",
        objects: Sequence[tuple[bytes, Record | None]],
        folder: "_Folder",
        entropy: Entropy,
        ways: Sequence[Put],
    ) -> None:
        self._tally = tally
        self._folder = folder
        self._entropy = entropy
        self._ways = ways
        self._changes: list[_Change] = []
        for key, record in objects:
            change = _change(tally, key, record, entropy)
            if change is not None:
                self._changes.append(change)

    @property
    def growth_bytes(self) -> int:
        """By how much the usage of the space, its bodies, changes: exact for a commit of the plan (ST7)."""
        growth_bytes = self._tally.head_growth_bytes
        for change in self._changes:
            growth_bytes += change.growth_bytes
        return growth_bytes

    @property
    def row_growth_bytes(self) -> int:
        """By how much the rows of the space change (M54): exact, each write being over the exact row it replaces."""
        return self._tally.row_growth_bytes

    @property
    def replaced(self) -> tuple[Head | None, ...]:
        """The live values that the writes replace, in their order."""
        return tuple(self._tally.replaced)

    async def plan(self, *, now: float) -> WritePlan:
        """Name the files of large bodies and work out the rows; once for each commit."""
        rows = self._tally.row_adds()
        if not self._changes:
            return WritePlan((*self._tally.head_puts({}), *self._ways), (), rows)
        puts: list[Put] = [*self._ways]
        checks: list[Check] = []
        adds = self._folder.adds(sum(change.size_bytes for change in self._changes if change.file is not None))
        for change in self._changes:
            if change.file is not None:
                await change.file.name_as(change.name)
            if change.record is not None and change.is_shared:
                checks.append(reuse_check(change.key, change.record))
            else:
                puts += self._record_puts(change, now=now)
        if adds:
            # A file that is named now must not be taken for an orphan; see `collector`.
            if self._folder.sweep is None:
                puts.append(Put(ORPHAN_SWEEP_KEY, b"", expect=ABSENT))
            else:
                checks.append(Check(ORPHAN_SWEEP_KEY, self._folder.sweep.stamp))
        generations = {change.name.digest: change.name.generation for change in self._changes}
        heads = self._tally.head_puts(generations)
        return WritePlan(puts=(*heads, *puts), checks=tuple(checks), adds=(*rows, *adds))

    def _record_puts(self, change: "_Change", *, now: float) -> list[Put]:
        put = Put(
            change.key,
            encode_object_record(change.fresh),
            expect=ABSENT if change.record is None else change.record.stamp,
            weight_bytes=change.size_bytes if change.fresh.references else 0,
            account=self._tally.account,
        )
        puts = [put]
        if change.fresh.references == 0:
            puts.append(self._due(change.name, change, due_at=now, unlink=False))
        elif change.found is not None and change.found.generation != change.name.generation:
            # The record was about to be deleted, and the collector will no longer find the file by it.
            left = ObjectName(change.name.space16, change.name.digest, change.found.generation)
            puts.append(self._due(left, change, due_at=now + UNLINK_AFTER_S, unlink=True))
        return puts

    def _due(self, name: ObjectName, change: "_Change", *, due_at: float, unlink: bool) -> Put:
        return due_put(name, due_at=due_at, unlink=unlink, entropy=self._entropy, size_bytes=change.size_bytes)


@dataclass(frozen=True, slots=True)
class _Folder:
    """What a plan has to know about all bodies."""

    sweep: Record | None = None
    used_bytes: int = 0
    max_bytes: int | None = None

    def adds(self, size_bytes: int) -> tuple[Add, ...]:
        """Count new files, within the bound."""
        if not size_bytes:
            return ()
        if self.max_bytes is not None and self.used_bytes + size_bytes > self.max_bytes:
            raise StoreFull("no free space for an object")
        return (Add(BODIES_COUNTER, size_bytes, at_most=self.max_bytes),)


_NO_FILES: Final = _Folder()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """What happens to one body in a file."""

    key: bytes
    record: Record | None
    found: ObjectRecord | None
    fresh: ObjectRecord
    name: ObjectName
    file: StagedFile | None
    size_bytes: int
    growth_bytes: int

    @property
    def is_shared(self) -> bool:
        """Whether the record stays as it is, so that the commit only has to compare it."""
        return self.fresh == self.found


def _change(tally: "_Tally", key: bytes, record: Record | None, entropy: Entropy) -> _Change | None:
    """Work out what happens to a body; None for an old head without a record: nothing is left to count."""
    digest = key[17:]
    found = object_record_of(record)
    is_shared = found is not None and found.references > 0
    file = None if is_shared else tally.files.get(digest)
    if file is not None:
        fresh = ObjectRecord(entropy.token(GENERATION_BYTES), tally.uses(digest))
    elif found is None:
        return None
    else:
        fresh = ObjectRecord(found.generation, max(found.references + tally.deltas[digest], 0))
    size_bytes = tally.sizes[digest]
    return _Change(
        key=key,
        record=record,
        found=found,
        fresh=fresh,
        name=ObjectName(tally.space16, digest, fresh.generation),
        file=file,
        size_bytes=size_bytes,
        growth_bytes=size_bytes * ((fresh.references > 0) - is_shared),
    )


class _Tally:
    """Writes together with the heads they replace, and how they change the references of bodies in files."""

    def __init__(
        self,
        space: SpaceId,
        writes: Sequence[Write],
        current: Sequence[Record | None],
        replaced: Sequence[Head | None] | None,
    ) -> None:
        own = space_keys(space)
        self.space16, self.account, self._rows = own.space16, own.usage, own.rows
        self._writes = writes
        self._current = current
        self._keys = [value_key(self.space16, write.path) for write in writes]
        if len(set(self._keys)) != len(writes):
            raise CommitInvalid("a path is written twice in one commit")
        if replaced is None:
            replaced = [head_of(record, key=key) for record, key in zip(current, self._keys, strict=True)]
        self.replaced = replaced
        self.deltas: dict[bytes, int] = {}
        self.sizes: dict[bytes, int] = {}
        self.files: dict[bytes, StagedFile] = {}
        self.head_growth_bytes = self.row_growth_bytes = 0
        self.coming: list[bytes] = []
        self.leaving: list[bytes] = []
        self._weights: list[int] = []
        for write, record, old in zip(writes, current, replaced, strict=True):
            if write.body is None and record is None:
                raise CommitInvalid("a path that was never written cannot be deleted")
            metadata_bytes = check_metadata(write.metadata)
            if old is not None:
                self._take(old)
            self._give(write, metadata_bytes)
            if len(write.path) * 4 > MAX_PLAIN_PATH_BYTES and (old is None) is not (write.body is None):
                raw = write.path.encode(*_HEADER_TEXT)
                if len(raw) > MAX_PLAIN_PATH_BYTES:
                    (self.leaving if write.body is None else self.coming).append(raw)

    def _take(self, old: Head) -> None:
        self.head_growth_bytes -= len(old.body or b"")
        self.row_growth_bytes -= row_bytes(old.path, old.metadata)
        if old.object_name is not None:
            self._count(old.object_name.digest, -1, old.size_bytes)

    def _give(self, write: Write, metadata_bytes: int) -> None:
        body = write.body
        if body is None:
            self._weights.append(0)
            return
        weight_bytes = len(body.inline or b"")
        self._weights.append(weight_bytes)
        self.head_growth_bytes += weight_bytes
        self.row_growth_bytes += _row_bytes(write.path, metadata_bytes)
        if body.file is not None:
            self._count(body.digest, +1, body.size_bytes)
            self.files[body.digest] = body.file

    def _count(self, digest: bytes, delta: int, size_bytes: int) -> None:
        self.deltas[digest] = self.deltas.get(digest, 0) + delta
        self.sizes[digest] = size_bytes

    def row_adds(self) -> tuple[Add, ...]:
        """Charge the rows to their account."""
        return (Add(self._rows, self.row_growth_bytes),) if self.row_growth_bytes else ()

    def uses(self, digest: bytes) -> int:
        """How many of the writes contain this body."""
        return sum(write.body is not None and write.body.digest == digest for write in self._writes)

    def head_puts(self, generations: Mapping[bytes, bytes]) -> tuple[Put, ...]:
        """Encode the heads; `generations` says which file contains a body."""
        puts = []
        for write, key, record, weight_bytes in zip(
            self._writes, self._keys, self._current, self._weights, strict=True
        ):
            expect, body = ABSENT if record is None else record.stamp, write.body
            if body is None:
                puts.append(Put(key, None, expect))
                continue
            row = _HeadRow(
                digest=body.digest,
                size_bytes=body.size_bytes,
                metadata={name: value.encode(*_HEADER_TEXT) for name, value in write.metadata.items()},
                path=write.path,
                body=body.inline,
                generation=None if body.file is None else generations[body.digest],
                sealed_key=write.sealed_key,
            )
            puts.append(Put(key, _CODEC.encode(row), expect, weight_bytes, self.account))
        return tuple(puts)
