"""Storage of values and their metadata.

Each value has a row. Large contents are stored in a separate file. The contents of a value are
called its body. The ETag is `"blake3-<64 lower hex>"` of the body alone (M1). A write replaces both
body and metadata (M2). A delete leaves a tombstone: a second delete finds it, and a path that was
never written has no row at all (M31).

The row of a value (its head) is replaced only if it is exactly the row that was read, because
commits that change heads also count the references to files. A writer that loses a race is refused
and plans again on a new read. That is at most one retry for each earlier write on the same path.

Large bodies are written and read in pieces, through an `object_store`; `value_bodies` receives
them.

Example:
    async with values.staging() as staging:
        write = Write(path, await staging.receive(pieces), metadata)
        snapshot = await store.read((head_key(space, path),))
        draft = await values.draft(space, (write,), snapshot.records)
        plan = await draft.plan(now=now)
        outcome = await store.commit(Commit(puts=(*plan.puts, audit), checks=plan.checks))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from heapq import nsmallest

from msgspec.structs import replace

from capabilities.clock_and_entropy import Entropy
from capabilities.frozen_struct import AcyclicStruct, FrozenStruct
from capabilities.resources import SpaceId

from .._codec import Codec
from ..keyspace import (
    BODIES_COUNTER,
    MAX_PLAIN_PATH_BYTES,
    ORPHAN_SWEEP_KEY,
    VERSION_DUE_PREFIX,
    VERSIONS_PREFIX,
    micros8,
    object_key,
    space_id16,
    space_keys,
    value_key,
    versions_prefix,
)
from ..space_errors import CommitInvalid, MetadataTooLarge, StoreFull
from ..store.contract import (
    ABSENT,
    MAX_COMMIT_BYTES,
    MAX_KEY_BYTES,
    MAX_PAGE_ROWS,
    Add,
    Check,
    Packed,
    Page,
    Put,
    Range,
    Record,
    Store,
    counter_of,
    pages_of,
    stamp_of,
)
from .long_paths import added_path_puts, removed_path_puts
from .object_records import (
    GENERATION_BYTES,
    UNLINK_AFTER_S,
    ObjectName,
    ObjectRecord,
    due_put,
    encode_object_record,
    object_record_of,
)
from .object_store import IncomingBody, ObjectStore, OpenedBody
from .value_bodies import Body, Intake, Staging

MAX_METADATA_BYTES = 16 * 1024  # ST6
# The size of a value's row besides path, metadata and body, rounded up: stamp, digest, lengths and
# the entry in a page.
ROW_BYTES = 256
# Bytes of header values that are not UTF-8 arrive as lone surrogates. They are stored and returned
# unchanged.
_HEADER_TEXT = ("utf-8", "surrogatepass")
RESTORABLE_S = 7 * 86_400.0
"""How long the versions of a deleted value are kept."""
MOST_VERSIONS = 128
"""Versions of one path in one read; the setting allows 100."""
# ST20. Most writes remove one version of their path; more follow after the setting was lowered.
_REMOVED_OF_A_PATH = 2
_REMOVED_OF_A_SPACE = 64
_EXAMINED_OF_A_SPACE = 65_536
# ST6. For the other rows of a commit.
_OTHER_BYTES = 128 * 1024


class Head(AcyclicStruct):
    """The decoded database row of a value."""

    stamp: bytes
    etag: str
    metadata: Mapping[str, str]
    size_bytes: int
    body: bytes | None
    path: str
    object_name: ObjectName | None
    sealed_key: bytes | None
    stored_at: int | None  # epoch seconds; None: stored by an earlier version
    version: int
    replaced_at: int = 0  # microseconds since the epoch; 0: the current value

    @property
    def etag_header(self) -> str:
        """The value's ETag, formatted for the HTTP header."""
        return f'"blake3-{self.etag}"'

    @property
    def last_modified(self) -> dict[str, str]:
        """The HTTP header with the time when the value was stored, or no header."""
        at = self.stored_at
        return {} if at is None else {"last-modified": formatdate(at, usegmt=True)}

    @property
    def version_bytes(self) -> int:
        """The size of the value as a version (ST20)."""
        return self.size_bytes + row_bytes(self.path, self.metadata)


class Write(FrozenStruct):
    """A value to be written or deleted.

    The value is deleted if `body` is None.
    """

    path: str
    body: Body | None
    metadata: Mapping[str, str] = {}  # msgspec copies the default for each instance
    sealed_key: bytes | None = None


class WritePlan(AcyclicStruct):
    """The writes and conditions that make up a commit."""

    puts: tuple[Put, ...]
    checks: tuple[Check, ...]
    adds: tuple[Add, ...]


NO_LIMIT = 1 << 62


class VersionRoom(AcyclicStruct):
    """The limits on the versions that a commit keeps (ST20).

    Attributes:
        limit_bytes: the limit of the space.
        used_bytes: total size of the values in the space.
        kept_bytes: total size of the versions in the space.
        commit_bytes: the bytes of the commit that the draft may use.
    """

    limit_bytes: int = NO_LIMIT
    used_bytes: int = 0
    kept_bytes: int = 0
    commit_bytes: int = MAX_COMMIT_BYTES


_ANY_ROOM = VersionRoom()


class _HeadRow(Packed):
    digest: bytes
    size_bytes: int
    metadata: dict[str, bytes]
    path: str
    body: bytes | None
    generation: bytes | None
    sealed_key: bytes | None = None
    stored_at: int | None = None
    version: int = 1


_CODEC = Codec(_HeadRow)


def head_key(space: SpaceId, path: str) -> bytes:
    """Return the key of the row that describes a value."""
    return value_key(space_id16(space), path)


def head_of(record: Record | None, *, key: bytes) -> Head | None:
    """Decode a value's row, or return None if the value was deleted (M31).

    None is also returned for a path that was never written.

    Args:
        record: the row of the value.
        key: the key of the row.
    Raises:
        RecordDamaged: the row does not decode.
    """
    row = _CODEC.read(record)
    if row is None or record is None:
        return None
    return Head(
        stamp=record.stamp,
        etag=row.digest.hex(),
        metadata={name: value.decode(*_HEADER_TEXT) for name, value in row.metadata.items()},
        size_bytes=row.size_bytes,
        body=row.body,
        path=row.path,
        object_name=None
        if row.generation is None
        else ObjectName(key[1:17], row.digest, row.generation),
        sealed_key=row.sealed_key,
        stored_at=row.stored_at,
        version=row.version,
    )


def versions_range(space: SpaceId, path: str) -> Range:
    """Return the range of the versions of a path."""
    return Range(versions_prefix(space_id16(space), path), limit=MOST_VERSIONS)


def versions_in(page: Page) -> dict[bytes, Head]:
    """Decode the versions of a path by their keys, the oldest first."""
    return {
        key: replace(head, version=_number_in(key), replaced_at=int.from_bytes(key[-8:], "big"))
        for key, record in page.rows
        if (head := head_of(record, key=key))
    }


def _number_in(key: bytes) -> int:
    return int.from_bytes(key[-12:-8], "big")


def check_metadata(metadata: Mapping[str, str]) -> int:
    """Check and return the size of a value's metadata (ST6).

    Raises:
        MetadataTooLarge: more than 16 KiB.
    """
    size_bytes = _metadata_bytes(metadata)
    if size_bytes > MAX_METADATA_BYTES:
        raise MetadataTooLarge(
            f"metadata may have at most {MAX_METADATA_BYTES} bytes; this has {size_bytes}"
        )
    return size_bytes


def _metadata_bytes(metadata: Mapping[str, str]) -> int:
    size_bytes = 0
    for name, value in metadata.items():
        size_bytes += len(name) + (
            len(value) if value.isascii() else len(value.encode(*_HEADER_TEXT))
        )
    return size_bytes


def row_bytes(path: str, metadata: Mapping[str, str]) -> int:
    """Return the size of a value's path and metadata (M54).

    The size includes ROW_BYTES for the rest of the row. It counts towards the storage limit.
    """
    return _path_bytes(path) + _metadata_bytes(metadata)


def _path_bytes(path: str) -> int:
    return ROW_BYTES + (len(path) if path.isascii() else len(path.encode(*_HEADER_TEXT)))


@dataclass
class Values:
    """The interface for reading values and preparing writes.

    `kept` has how many former values are kept, by space name and beginning of a path (ST19).
    """

    _store: Store
    files: ObjectStore
    _entropy: Entropy
    intake: Intake = field(default_factory=Intake)
    kept: Mapping[str, int] = field(default_factory=dict)

    def staging(self) -> Staging:
        """Return a context manager that receives uploads."""
        return Staging(self.files, self.intake)

    async def open_body(self, head: Head) -> bytes | OpenedBody:
        """Return the contents of a value as bytes or as an open file.

        Small contents are stored in the row and returned as bytes.
        """
        if head.body is not None:
            return head.body
        assert head.object_name is not None  # a head has a body or an object
        return await self.files.open(head.object_name, size_bytes=head.size_bytes)

    async def read_body(self, head: Head) -> bytes:
        """Return the whole contents of a value.

        Use this only for values of bounded size. The digest of a body in a file is verified.
        """
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
        *,
        room: VersionRoom = _ANY_ROOM,
        pages: Sequence[Page] = (),
        removed: Mapping[bytes, Head] | None = None,
    ) -> "Draft":
        """Prepare writes to one space.

        The result also contains the values that the writes replace. Large bodies need one more
        read. Deletes of paths of more than 400 bytes need one or more.

        Args:
            space: the canonical space of the values.
            writes: each path once.
            current: the stored rows, under `head_key` of each write.
            replaced: the decoded heads in these rows, if the caller has already decoded them.
            room: the limits on versions.
            pages: of `version_ranges` for all writes, if the caller has already read them.
            removed: versions to remove, by key. If given, the former values are not kept.
        Raises:
            MetadataTooLarge: see `check_metadata`.
            PathTooLong: see `added_path_puts`.
            CommitInvalid: a path appears twice, or a path without any row is to be deleted (M31:
                the caller has to handle this case before).
            RecordDamaged, StoreUnavailable: from reading rows.
        """
        kept = self.kept if removed is None else {}
        draft = Draft(space, writes, current, replaced, kept, removed or {})
        await draft.look_up(self._store, self.files.max_bytes, self._entropy, room, pages)
        return draft

    def version_ranges(self, space: SpaceId, paths: Sequence[str]) -> list[Range]:
        """Return the ranges that writes at these paths need in order to keep versions."""
        space16 = space_id16(space)
        return [
            range_
            for path in paths
            if _most_kept(self.kept, space, path)
            for range_ in _ranges_of(versions_prefix(space16, path))
        ]


def _most_kept(kept: Mapping[str, int], space: SpaceId, path: str) -> int:
    """Return how many former values of a path are kept (ST19)."""
    place = f"{space.name}/{path}"
    return next((most for prefix, most in kept.items() if place.startswith(prefix)), 0)


def _ranges_of(prefix: bytes) -> tuple[Range, Range]:
    """Return the ranges of a path's versions without values, and of the oldest with values."""
    return (
        Range(prefix, limit=MOST_VERSIONS, keys_only=True),
        Range(prefix, limit=_REMOVED_OF_A_PATH),
    )


@dataclass(slots=True)
class _FileBody:
    """A large value that is stored in a file.

    `delta` is the pending change to the reference count, and `kept_delta` the part of versions.
    """

    size_bytes: int
    delta: int = 0
    kept_delta: int = 0
    uses: int = 0
    file: IncomingBody | None = None
    record: Record | None = None
    found: ObjectRecord | None = None
    # None for an old head without a record: there are no references to count
    fresh: ObjectRecord | None = None


@dataclass(slots=True)
class _Rewrite:
    """A write at a path whose former values are kept (ST19).

    `row` is the encoded row of the value `old` that it replaces. `number` is the next number of the
    path: that of the replaced value, or else of the new one. `task` removes the versions later.
    """

    most: int
    prefix: bytes
    old: Head | None
    row: bytes
    task: bytes | None
    number: int
    is_kept: bool = False


class Draft:
    """Prepared writes to one space.

    `plan` renames uploaded files to their final names.

    Attributes:
        growth_bytes: the change of the total size of bodies in the space; exact for a commit of the
            plan (ST7).
        row_growth_bytes: the change of the size of the space's rows (M54); exact, because each
            write expects the exact row that it replaces.
        replaced: the live values that the writes replace, in their order.
    """

    def __init__(
        self,
        space: SpaceId,
        writes: Sequence[Write],
        current: Sequence[Record | None],
        replaced: Sequence[Head | None] | None,
        kept: Mapping[str, int],
        removed: Mapping[bytes, Head],
    ) -> None:
        self._own = own = space_keys(space)
        keys = [value_key(own.space16, write.path) for write in writes]
        if len(set(keys)) != len(writes):
            raise CommitInvalid("a path is written twice in one commit")
        if replaced is None:
            replaced = [head_of(record, key=key) for record, key in zip(current, keys, strict=True)]
        self.replaced = tuple(replaced)
        self.growth_bytes = self.row_growth_bytes = 0
        self._writes = list(zip(writes, keys, current, replaced, strict=True))
        self._rewrites = dict[bytes, _Rewrite]()
        self._removed = dict[bytes, Head]()
        self._freed_bytes = self._written_bytes = 0
        self._bodies = dict[bytes, _FileBody]()
        self._added_paths = list[bytes]()
        self._removed_paths = list[bytes]()
        for write, key, record, old in self._writes:
            body = write.body
            if body is None and record is None and not removed:
                raise CommitInvalid("a path that was never written cannot be deleted")
            metadata_bytes = check_metadata(write.metadata)
            if old is not None:
                self.growth_bytes -= len(old.body or b"")
                self.row_growth_bytes -= row_bytes(old.path, old.metadata)
                self._freed_bytes += old.size_bytes
                self._count(old, -1, 0)
            if body is not None:
                self.growth_bytes += len(body.inline or b"")
                self.row_growth_bytes += _path_bytes(write.path) + metadata_bytes
                self._freed_bytes -= body.size_bytes
                self._written_bytes += len(body.inline or b"") + ROW_BYTES + metadata_bytes
                if body.file is not None:
                    shared = self._bodies.setdefault(body.digest, _FileBody(body.size_bytes))
                    shared.delta += 1
                    shared.uses += 1
                    shared.file = body.file
            if len(write.path) * 4 > MAX_PLAIN_PATH_BYTES and (old is None) is not (body is None):
                (self._removed_paths if body is None else self._added_paths).append(
                    write.path.encode(*_HEADER_TEXT)
                )
            most = _most_kept(kept, space, write.path)
            if most and (old or body):
                prefix, number = versions_prefix(own.space16, write.path), old.version if old else 1
                task = None if body else f"{space.text}\n{write.path}".encode(*_HEADER_TEXT)
                row = (record and record.value) or b""
                self._rewrites[key] = _Rewrite(most, prefix, old, row, task, number)
        for version_key, head in removed.items():
            self._remove(version_key, head)

    def _remove(self, key: bytes, head: Head | None) -> int:
        """Remove a version, and return its size in bytes."""
        if head is None:
            return 0
        self._removed[key] = head
        self._count(head, -1, -1)
        return head.version_bytes

    def _count(self, head: Head, delta: int, kept_delta: int) -> None:
        """Count references to the body of a value, if it is stored in a file."""
        if head.object_name is not None:
            body = self._bodies.setdefault(head.object_name.digest, _FileBody(head.size_bytes))
            body.delta += delta
            body.kept_delta += kept_delta

    async def look_up(
        self,
        store: Store,
        max_bytes: int | None,
        entropy: Entropy,
        room: VersionRoom,
        pages: Sequence[Page],
    ) -> None:
        """Read the stored rows that `plan` needs."""
        self._entropy = entropy
        self._max_bytes = max_bytes
        space16 = self._own.space16
        # The last write of a key wins: an index row that one path removes and another needs stays.
        index_puts = (
            *await removed_path_puts(store, space16, self._removed_paths),
            *added_path_puts(space16, self._added_paths),
        )
        self._index_puts = {put.key: put for put in index_puts}
        if self._rewrites or room.kept_bytes:
            await self._look_up_versions(store, self._keep_versions(room), room.kept_bytes, pages)
        if not self._bodies:
            return
        keys = [object_key(space16, digest) for digest in self._bodies]
        *records, self._sweep, counter = (
            await store.read((*keys, ORPHAN_SWEEP_KEY, BODIES_COUNTER))
        ).records
        self._used_bytes = counter_of(counter)
        for body, record in zip(self._bodies.values(), records, strict=True):
            body.record = record
            body.found = found = object_record_of(record)
            is_shared = found is not None and found.references > 0
            if is_shared:
                body.file = None
            if body.file is not None:
                body.fresh = ObjectRecord(entropy.token(GENERATION_BYTES), body.uses)
            elif found is not None:
                body.fresh = ObjectRecord(
                    found.generation,
                    max(found.references + body.delta, 0),
                    max(found.kept + body.kept_delta, 0),
                )
            if body.fresh is not None:
                was_live = found is not None and found.is_live
                if body.fresh.is_live and not was_live:
                    self.growth_bytes += body.size_bytes
                elif was_live and not body.fresh.is_live:
                    self.growth_bytes -= body.size_bytes

    def _keep_versions(self, room: VersionRoom) -> int:
        """Choose the former values to keep, and return by how many bytes versions exceed the limit.

        A former value is not kept if the commit or the space has no room for it (ST20).
        """
        free_bytes = room.limit_bytes - room.used_bytes + self._freed_bytes
        size_bytes = room.commit_bytes - _OTHER_BYTES - self._written_bytes
        size_bytes -= MAX_KEY_BYTES * len(self._index_puts)
        # A write removes at most 64 versions. Otherwise thousands of small ones would let large
        # ones grow to many times the limit.
        if room.kept_bytes > room.limit_bytes:
            size_bytes = 0
        for rewrite in self._rewrites.values():
            old, size = rewrite.old, len(rewrite.row) + ROW_BYTES
            if old and size <= size_bytes and old.version_bytes <= free_bytes:
                rewrite.is_kept = True
                self._count(old, 1, 1)
                size_bytes, free_bytes = size_bytes - size, free_bytes - old.version_bytes
        return room.kept_bytes - free_bytes

    async def _look_up_versions(
        self, store: Store, excess_bytes: int, kept_bytes: int, pages: Sequence[Page]
    ) -> None:
        """Find the versions to remove, and the numbers of new ones.

        The oldest versions of a path are removed beyond the configured number, and those of the
        space beyond its limit (ST20).
        """
        rewrites, known = self._rewrites.values(), dict[bytes, Record]()
        if rewrites and not pages:
            ranges = [range_ for one in rewrites for range_ in _ranges_of(one.prefix)]
            pages = (await store.read(ranges=ranges)).pages
        for rewrite, found, oldest in zip(rewrites, pages[::2], pages[1::2], strict=True):
            if found.rows:
                rewrite.number = max(rewrite.number, _number_in(found.rows[-1][0]) + 1)
            count = len(found.rows) + (1 if rewrite.is_kept else 0)
            surplus = max(count - rewrite.most, 0)
            known |= dict(oldest.rows[:surplus])
        for key, record in known.items():
            excess_bytes -= self._remove(key, head_of(record, key=key))
        if excess_bytes <= 0:
            return
        # More than the excess, so that the next writes need not look for the oldest again.
        excess_bytes += kept_bytes // 16
        every = VERSIONS_PREFIX + self._own.space16
        keys = list[bytes]()
        async for page in pages_of(store, Range(every, limit=MAX_PAGE_ROWS, keys_only=True)):
            keys += [key for key, _ in page.rows if key not in known]
            if len(keys) > _EXAMINED_OF_A_SPACE:
                break
        keys = nsmallest(_REMOVED_OF_A_SPACE, keys, key=lambda key: key[-8:] + key)
        for key, row in zip(keys, (await store.read(keys)).records, strict=True):
            if excess_bytes > 0:
                excess_bytes -= self._remove(key, head_of(row, key=key))

    async def plan(self, *, now: float) -> WritePlan:
        """Rename the uploaded files and prepare the commit.

        Call this once for each commit.
        """
        puts = list[Put]()
        checks = list[Check]()
        adds = [Add(self._own.rows, self.row_growth_bytes)] if self.row_growth_bytes else []
        named_bytes = sum(
            body.size_bytes for body in self._bodies.values() if body.file is not None
        )
        if named_bytes:
            if self._max_bytes is not None and self._used_bytes + named_bytes > self._max_bytes:
                raise StoreFull("the store has reached its size limit")
            adds.append(Add(BODIES_COUNTER, named_bytes, at_most=self._max_bytes))
            # The sweep must not remove a file that is named now as an orphan; see `collector`.
            if self._sweep is None:
                puts.append(Put(ORPHAN_SWEEP_KEY, b"", expect=ABSENT))
            else:
                checks.append(Check(ORPHAN_SWEEP_KEY, self._sweep.stamp))
        generations = dict[bytes, bytes]()
        for digest, body in self._bodies.items():
            if body.fresh is None:
                continue
            name = ObjectName(self._own.space16, digest, body.fresh.generation)
            generations[digest] = name.generation
            if body.file is not None:
                await body.file.rename(name)
            if body.record is not None and body.fresh == body.found:
                # The number of references to the body does not change.
                checks.append(Check(object_key(name.space16, digest), body.record.stamp))
            else:
                puts += self._body_puts(body, body.fresh, name, now=now)
        heads = [self._head_put(*written, generations, now=now) for written in self._writes]
        if self._rewrites or self._removed:
            puts += self._version_puts(now)
        return WritePlan((*heads, *self._index_puts.values(), *puts), tuple(checks), tuple(adds))

    def _version_puts(self, now: float) -> list[Put]:
        """Return the writes that keep former values and remove versions (ST19)."""
        now8 = micros8(now)
        puts = [Put(key, None, expect=head.stamp) for key, head in self._removed.items()]
        for rewrite in self._rewrites.values():
            old, key = rewrite.old, rewrite.prefix + rewrite.number.to_bytes(4, "big") + now8
            if old and rewrite.is_kept:
                weight_bytes = row_bytes(old.path, old.metadata) + len(old.body or b"")
                puts.append(
                    Put(
                        key,
                        rewrite.row,
                        expect=ABSENT,
                        weight_bytes=weight_bytes,
                        account=self._own.versions,
                    )
                )
            if rewrite.task:
                due_at = micros8(now + RESTORABLE_S)
                puts.append(Put(VERSION_DUE_PREFIX + due_at + rewrite.prefix[1:], rewrite.task))
        return puts

    def _body_puts(
        self, body: _FileBody, fresh: ObjectRecord, name: ObjectName, *, now: float
    ) -> list[Put]:
        puts = [
            Put(
                object_key(name.space16, name.digest),
                encode_object_record(fresh),
                expect=stamp_of(body.record),
                weight_bytes=body.size_bytes if fresh.references else 0,
                account=self._own.usage if fresh.is_live else self._own.versions,
            )
        ]
        due_put_of = partial(due_put, entropy=self._entropy, size_bytes=body.size_bytes)
        if fresh.references == 0:
            puts.append(due_put_of(name, due_at=now, unlink=False))
        elif body.found is not None and body.found.generation != fresh.generation:
            # The old record was about to be deleted. It is replaced now, so its file has to be
            # scheduled for removal here.
            left = ObjectName(name.space16, name.digest, body.found.generation)
            puts.append(due_put_of(left, due_at=now + UNLINK_AFTER_S, unlink=True))
        return puts

    def _head_put(
        self,
        write: Write,
        key: bytes,
        record: Record | None,
        old: Head | None,
        generations: Mapping[bytes, bytes],
        *,
        now: float,
    ) -> Put:
        """Return a write operation that stores or deletes a value.

        `generations` maps the digest of each large body to the generation of its file.
        """
        expect, body = stamp_of(record), write.body
        if body is None:
            return Put(key, None, expect=expect)
        rewrite = self._rewrites.get(key)
        number = old.version if old else 1
        if rewrite:
            number = rewrite.number + (1 if old else 0)
        row = _HeadRow(
            digest=body.digest,
            size_bytes=body.size_bytes,
            metadata={name: value.encode(*_HEADER_TEXT) for name, value in write.metadata.items()},
            path=write.path,
            body=body.inline,
            generation=None if body.file is None else generations[body.digest],
            sealed_key=write.sealed_key,
            stored_at=int(now),
            version=number,
        )
        return Put(
            key,
            _CODEC.encode(row),
            expect=expect,
            weight_bytes=len(body.inline or b""),
            account=self._own.usage,
        )
