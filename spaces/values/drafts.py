"""Prepared writes of values.

A write replaces both body and metadata (M2).

The row of a value is replaced only if it is exactly the row that was read, because commits that
change rows also count the references to files. A writer that loses a race is refused and plans
again on a new read. That is at most one retry for each earlier write on the same path.
"""

from collections.abc import Mapping, Sequence

from capabilities.clock_and_entropy import Entropy
from capabilities.resources import SpaceId

from ..keyspace import MAX_PLAIN_PATH_BYTES, deleted_key, space_keys
from ..space_errors import CommitInvalid
from ..store.contract import MAX_KEY_BYTES, UNWRITTEN, Add, Page, Put, Record, Store, has_value
from .body_references import BodyReferences
from .deleted_paths import deleted_path_put
from .former_values import FormerValues, max_kept_of
from .long_paths import added_path_puts, removed_path_puts
from .metadata import ROW_BYTES, check_metadata, encode_text, path_bytes, row_bytes
from .value_heads import Head, encode_head
from .value_writes import Replacement, VersionRoom, Write, WritePlan, replacements_of

# How many bytes of a commit (ST6) are left free for its further rows, such as the audit record.
_OTHER_BYTES = 128 * 1024
_MAX_CHARACTER_BYTES = 4  # in UTF-8


class Draft:
    """Prepared writes to one space.

    `finalize` gives the uploaded files their final names, and returns the writes of the commit.

    Attributes:
        growth_bytes: the change of the total size of bodies in the space; exact if the writes are
            committed (ST7).
        row_growth_bytes: the change of the size of the space's rows (M54), with those of deleted
            paths; exact, because each write expects the exact row that it replaces.
        replaced: the live values that the writes replace, in their order.
    """

    def __init__(
        self,
        space: SpaceId,
        writes: Sequence[Write],
        current: Sequence[Record | None],
        replaced: Sequence[Head | None] | None,
        *,
        kept: Mapping[str, int],
        removed: Mapping[bytes, Head],
        deleted: Sequence[Record | None] | None,
        is_change: bool,
        stored_by: str | None,
        entropy: Entropy,
        max_bytes: int | None,
    ) -> None:
        self._own = space_keys(space)
        self._deleted = deleted
        self._is_change = is_change
        self._stored_by = stored_by
        self._written_again: list[bytes] = []
        self._newly_deleted: list[Replacement] = []
        self._replacements = replacements_of(self._own.space16, writes, current, replaced)
        self.replaced = tuple([replacement.old for replacement in self._replacements])
        self.growth_bytes = 0
        self.row_growth_bytes = 0
        # the part of it that no row books by its weight: the paths and metadata of values
        self._head_growth_bytes = 0
        self._bodies = BodyReferences(self._own, entropy=entropy, max_bytes=max_bytes)
        # the former values that become versions, and the versions that are removed (ST19)
        self._former = FormerValues(space, self._own, self._bodies)
        self._index_puts: dict[bytes, Put] = {}
        # by how many bytes the contents of values shrink, in rows and in files
        self._freed_bytes = 0
        # the size of the rows of the new values
        self._written_bytes = 0
        for replacement in self._replacements:
            # A deleted value has a tombstone only for a time (ST5). Its versions are kept longer,
            # so their removal may delete a path without a row.
            is_delete = replacement.write.body is None
            if is_delete and replacement.record is None and not removed:
                raise CommitInvalid("a path that was never written cannot be deleted")
            metadata_bytes = check_metadata(replacement.write.metadata)
            self._count_old(replacement.old)
            self._count_new(replacement.write, metadata_bytes)
            max_kept = max_kept_of(kept, space, replacement.write.path)
            self._former.add(replacement, max_kept=max_kept)
        self.row_growth_bytes = self._head_growth_bytes
        for key, head in removed.items():
            self._former.remove(key, head)

    def _count_old(self, old: Head | None) -> None:
        """Count the bytes and references of a value that is replaced."""
        if old is None:
            return
        self.growth_bytes -= len(old.body or b"")  # `look_up` adds the change of bodies in files
        self._head_growth_bytes -= row_bytes(old.path, old.metadata)
        self._freed_bytes += old.size_bytes
        self._bodies.count(old, delta=-1, kept_delta=0)

    def _count_new(self, write: Write, metadata_bytes: int) -> None:
        """Count the bytes and references of a value that is written."""
        body = write.body
        if body is None:
            return
        inline_bytes = len(body.inline or b"")
        self.growth_bytes += inline_bytes
        self._head_growth_bytes += path_bytes(write.path) + metadata_bytes
        self._freed_bytes -= body.size_bytes
        self._written_bytes += inline_bytes + ROW_BYTES + metadata_bytes
        if body.file is not None:
            self._bodies.add_upload(body.digest, body.size_bytes, body.file)

    async def look_up(self, store: Store, room: VersionRoom, pages: Sequence[Page]) -> None:
        """Read the stored rows that `finalize` needs."""
        deleted = self._deleted
        if deleted is None:
            keys = [deleted_key(replacement.key) for replacement in self._replacements]
            deleted = (await store.read(keys)).records
        self._plan_deleted(deleted)
        self._index_puts = await self._path_puts(store)
        # Without rewrites and without versions there is nothing to keep and nothing to remove.
        if self._former.has_rewrites or room.kept_bytes:
            index_bytes = MAX_KEY_BYTES * len(self._index_puts)
            excess_bytes = self._former.choose_kept(
                room,
                free_bytes=room.limit_bytes - room.used_bytes + self._freed_bytes,
                commit_bytes=room.commit_bytes - _OTHER_BYTES - self._written_bytes - index_bytes,
            )
            await self._former.look_up(
                store, excess_bytes=excess_bytes, kept_bytes=room.kept_bytes, pages=pages
            )
        # The bodies come last, because versions that are added or removed refer to bodies too.
        self.growth_bytes += await self._bodies.look_up(store)

    @property
    def deleted_keys(self) -> frozenset[bytes]:
        """The keys of the rows of deleted paths that the commit may write."""
        return frozenset([deleted_key(replacement.key) for replacement in self._replacements])

    def _plan_deleted(self, deleted: Sequence[Record | None]) -> None:
        """Plan the writes of the rows of deleted paths, given those rows (CF5)."""
        for replacement, record in zip(self._replacements, deleted, strict=True):
            is_deleted = has_value(record)
            if replacement.write.body is not None:
                if is_deleted:
                    self._written_again.append(deleted_key(replacement.key))
                    self.row_growth_bytes -= path_bytes(replacement.write.path)
            elif self._is_change:
                self._newly_deleted.append(replacement)
                if not is_deleted:
                    self.row_growth_bytes += path_bytes(replacement.write.path)

    def _deleted_puts(self, now: float) -> list[Put]:
        """Return the writes of the rows of deleted paths (CF5)."""
        puts = [Put(key, None) for key in self._written_again]
        for replacement in self._newly_deleted:
            puts.append(
                deleted_path_put(self._own, replacement.key, replacement.write.path, now=now)
            )
        return puts

    async def _path_puts(self, store: Store) -> dict[bytes, Put]:
        """Return the updates of the index for long paths, by key."""
        added: list[bytes] = []
        removed: list[bytes] = []
        for replacement in self._replacements:
            path = replacement.write.path
            # A short path has no index rows. Its characters show this without encoding it.
            if len(path) * _MAX_CHARACTER_BYTES <= MAX_PLAIN_PATH_BYTES:
                continue
            existed = replacement.old is not None
            will_exist = replacement.write.body is not None
            if will_exist and not existed:
                added.append(encode_text(path))
            elif existed and not will_exist:
                removed.append(encode_text(path))
        if not added and not removed:
            return {}
        puts = {put.key: put for put in await removed_path_puts(store, self._own.space16, removed)}
        # If a removed path would delete an index row that an added path needs, the row stays.
        for put in added_path_puts(self._own.space16, added):
            puts[put.key] = put
        return puts

    async def finalize(self, *, now: float) -> WritePlan:
        """Give the uploaded files their final names, and return the writes of the commit.

        Call this once for each commit.
        """
        bodies = await self._bodies.name_uploads(now=now)
        heads = [self._head_put(replacement, now=now) for replacement in self._replacements]
        adds = bodies.adds
        if self._head_growth_bytes:
            adds = (Add(self._own.rows, self._head_growth_bytes), *adds)
        return WritePlan(
            puts=(
                *heads,
                *self._deleted_puts(now),
                *self._index_puts.values(),
                *bodies.puts,
                *self._former.puts(now=now),
            ),
            checks=bodies.checks,
            adds=adds,
        )

    def _head_put(self, replacement: Replacement, *, now: float) -> Put:
        """Return a write operation that stores or deletes a value."""
        write = replacement.write
        body = write.body
        # A path that was written and deleted since it was read has the row of a deleted path, which
        # this commit would not remove, and versions with the numbers that it would give.
        expect = UNWRITTEN if replacement.record is None else replacement.record.stamp
        if body is None:
            return Put(replacement.key, None, expect=expect)
        generation = None
        if body.file is not None:
            generation = self._bodies.generation_of(body.digest)
        row = encode_head(
            path=write.path,
            digest=body.digest,
            size_bytes=body.size_bytes,
            metadata=write.metadata,
            body=body.inline,
            generation=generation,
            sealed_key=write.sealed_key,
            stored_at=int(now),
            version=self._former.number_of_new(replacement),
            stored_by=self._stored_by,
        )
        return Put(
            replacement.key,
            row,
            expect=expect,
            weight_bytes=len(body.inline or b""),
            account=self._own.usage,
            sequence=self._own.sequence,
        )
