"""Storage of values and their metadata.

Large bodies are written and read in pieces, through an `object_store`; `value_bodies` receives
them. `value_heads` describes the rows, `drafts` the writes.

Example:
    async with values.staging() as staging:
        write = Write(path, await staging.receive(pieces), metadata)
        snapshot = await store.read((head_key(space, path),))
        draft = await values.draft(space, (write,), snapshot.records)
        plan = await draft.finalize(now=now)
        outcome = await store.commit(Commit(puts=(*plan.puts, audit), checks=plan.checks))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from capabilities.clock_and_entropy import Entropy
from capabilities.resources import SpaceId

from ..keyspace import space_id16, versions_prefix
from ..store.contract import Page, Range, Record, Store
from .drafts import Draft
from .former_values import max_kept_of, ranges_of
from .object_store import ObjectStore, OpenedBody
from .value_bodies import Intake, Staging
from .value_heads import Head
from .value_writes import VersionRoom, Write

_ANY_ROOM = VersionRoom()


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

    def staging(self, *, word: bytes = b"") -> Staging:
        """Return a context manager that receives uploads, and searches files for a word."""
        return Staging(self.files, self.intake, word=word)

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
        deleted: Sequence[Record | None] | None = None,
        is_change: bool = True,
        stored_by: str | None = None,
    ) -> Draft:
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
            deleted: the rows under `deleted_key` of each write, if the caller has read them.
            is_change: whether deletes are changes that readers learn of (CF5).
            stored_by: DID of who stores the values (M62); None: it is not known.
        Raises:
            MetadataTooLarge: see `check_metadata`.
            PathTooLong: see `added_path_puts`.
            CommitInvalid: a path appears twice, or a path without any row is to be deleted (M31:
                the caller has to handle this case before).
            RecordDamaged, StoreUnavailable: from reading rows.
        """
        kept = self.kept
        if removed is None:
            removed = {}
        else:
            kept = {}
        draft = Draft(
            space,
            writes,
            current,
            replaced,
            kept=kept,
            removed=removed,
            deleted=deleted,
            is_change=is_change,
            stored_by=stored_by,
            entropy=self._entropy,
            max_bytes=self.files.max_bytes,
        )
        await draft.look_up(self._store, room, pages)
        return draft

    def version_ranges(self, space: SpaceId, paths: Sequence[str]) -> list[Range]:
        """Return the ranges that writes at these paths need in order to keep versions."""
        space16 = space_id16(space)
        ranges: list[Range] = []
        for path in paths:
            if max_kept_of(self.kept, space, path):
                ranges += ranges_of(versions_prefix(space16, path))
        return ranges
