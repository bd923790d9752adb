"""References of a commit to large bodies.

A large body is stored in a file, and its record counts the values and versions that refer to it
(`object_records`). A commit that changes values changes these counts too. Equal bodies in one space
share a file.
"""

from dataclasses import dataclass

from capabilities.clock_and_entropy import Entropy

from ..keyspace import BODIES_COUNTER, ORPHAN_SWEEP_KEY, SpaceKeys, object_key
from ..space_errors import StoreFull
from ..store.contract import ABSENT, Add, Check, Put, Record, Store, counter_of, stamp_of
from .object_records import (
    GENERATION_BYTES,
    UNLINK_AFTER_S,
    ObjectName,
    ObjectRecord,
    due_put,
    encode_object_record,
    object_record_of,
)
from .object_store import IncomingBody
from .value_heads import Head
from .value_writes import WritePlan

_NO_BODIES = WritePlan()


@dataclass(slots=True)
class _LargeBody:
    """A large body, and how a commit changes the references to it.

    Attributes:
        size_bytes: the size of the body.
        delta: the change of the number of references.
        kept_delta: the part of `delta` that is references of versions.
        uses: the number of references of new values.
        upload: the uploaded file; None if no file has to be named.
        record: the row that counts the references.
        found: the decoded row.
        fresh: the row after the commit. None for an old value whose row is missing: there are no
            references to count.
    """

    size_bytes: int
    delta: int = 0
    kept_delta: int = 0
    uses: int = 0
    upload: IncomingBody | None = None
    record: Record | None = None
    found: ObjectRecord | None = None
    fresh: ObjectRecord | None = None


class BodyReferences:
    """The changes of a commit to the references to large bodies in one space.

    First count the changes with `add_upload` and `count`. Then `look_up` reads the records, and
    `name_uploads` gives the uploaded files their final names.
    """

    def __init__(self, own: SpaceKeys, *, entropy: Entropy, max_bytes: int | None) -> None:
        self._own = own
        self._entropy = entropy
        self._max_bytes = max_bytes
        self._bodies: dict[bytes, _LargeBody] = {}
        self._used_bytes = 0
        # the row that a sweep of orphaned files rewrites (`collector`)
        self._sweep: Record | None = None

    def add_upload(self, digest: bytes, size_bytes: int, upload: IncomingBody) -> None:
        """Count the reference of a new value to its uploaded body."""
        body = self._bodies.setdefault(digest, _LargeBody(size_bytes))
        body.delta += 1
        body.uses += 1
        body.upload = upload

    def count(self, head: Head, *, delta: int, kept_delta: int) -> None:
        """Count references of a stored value to its body, if the body is in a file.

        `kept_delta` is the part of `delta` that is references of versions.
        """
        if head.object_name is not None:
            body = self._bodies.setdefault(head.object_name.digest, _LargeBody(head.size_bytes))
            body.delta += delta
            body.kept_delta += kept_delta

    async def look_up(self, store: Store) -> int:
        """Read the records of the bodies.

        Returns the change of the total size of the large bodies that values refer to (ST7).
        """
        if not self._bodies:
            return 0
        keys = [object_key(self._own.space16, digest) for digest in self._bodies]
        snapshot = await store.read((*keys, ORPHAN_SWEEP_KEY, BODIES_COUNTER))
        *records, self._sweep, counter = snapshot.records
        self._used_bytes = counter_of(counter)
        growth_bytes = 0
        for body, record in zip(self._bodies.values(), records, strict=True):
            body.record = record
            body.found = object_record_of(record)
            if body.found is not None and body.found.references > 0:
                # The body is stored already, and the new value shares its file. The upload gets no
                # name, so it is discarded at the end of its `Staging` block.
                body.upload = None
            body.fresh = self._fresh_record(body)
            growth_bytes += _growth_bytes(body)
        return growth_bytes

    def _fresh_record(self, body: _LargeBody) -> ObjectRecord | None:
        """Return the record of a body as it will be after the commit."""
        if body.upload is not None:
            # The upload becomes a new file, to which only the new values refer.
            generation = self._entropy.token(GENERATION_BYTES)
            return ObjectRecord(generation=generation, references=body.uses)
        if body.found is None:
            return None
        # A number below 0 is possible only if the record is damaged.
        return ObjectRecord(
            generation=body.found.generation,
            references=max(body.found.references + body.delta, 0),
            kept=max(body.found.kept + body.kept_delta, 0),
        )

    def generation_of(self, digest: bytes) -> bytes:
        """Return the generation of the file that contains the body of a new value."""
        fresh = self._bodies[digest].fresh
        assert fresh is not None  # the body was uploaded, or is stored already
        return fresh.generation

    async def name_uploads(self, *, now: float) -> WritePlan:
        """Give the uploaded files their final names, and return the writes for all bodies.

        These writes change the references, and count the files that were named.

        Raises:
            StoreFull: the store has reached its size limit. No file was renamed.
        """
        if not self._bodies:
            return _NO_BODIES
        naming = self._plan_naming()  # refuses before a file is renamed
        puts = list(naming.puts)
        checks = list(naming.checks)
        for digest, body in self._bodies.items():
            fresh = body.fresh
            if fresh is None:
                continue
            name = ObjectName(self._own.space16, digest=digest, generation=fresh.generation)
            if body.upload is not None:
                await body.upload.rename(name)
            if body.record is not None and fresh == body.found:
                # The number of references does not change. The check refuses the commit if another
                # commit changed it, because the file could then be about to be removed.
                checks.append(Check(object_key(name.space16, digest), body.record.stamp))
            else:
                puts += self._puts_of(body, fresh, name, now=now)
        return WritePlan(puts=tuple(puts), checks=tuple(checks), adds=naming.adds)

    def _plan_naming(self) -> WritePlan:
        """Return the counter update and the condition for the files that get their names."""
        named_bytes = sum(
            [body.size_bytes for body in self._bodies.values() if body.upload is not None]
        )
        if not named_bytes:
            return _NO_BODIES
        if self._max_bytes is not None and self._used_bytes + named_bytes > self._max_bytes:
            raise StoreFull("the store has reached its size limit")
        # The commit applies the limit again, because other files can be named meanwhile.
        adds = (Add(BODIES_COUNTER, named_bytes, at_most=self._max_bytes),)
        # A process may stop for a day between naming a file and the commit. A sweep could then
        # remove the file as an orphan. It first rewrites this row, so that the commit is refused
        # (`collector`).
        if self._sweep is None:
            return WritePlan(puts=(Put(ORPHAN_SWEEP_KEY, b"", expect=ABSENT),), adds=adds)
        return WritePlan(checks=(Check(ORPHAN_SWEEP_KEY, self._sweep.stamp),), adds=adds)

    def _puts_of(
        self, body: _LargeBody, fresh: ObjectRecord, name: ObjectName, *, now: float
    ) -> list[Put]:
        """Return the writes for a body whose record changes."""
        # A body to which only versions refer is charged to the versions of the space (ST20).
        account = self._own.usage if fresh.is_live else self._own.versions
        charged_bytes = body.size_bytes if fresh.references else 0
        record_put = Put(
            object_key(name.space16, name.digest),
            encode_object_record(fresh),
            expect=stamp_of(body.record),
            weight_bytes=charged_bytes,
            account=account,
        )
        if fresh.references == 0:
            # The collector deletes the record, and later the file.
            return [record_put, self._due_put(name, body, due_at=now, unlink=False)]
        if body.found is not None and body.found.generation != fresh.generation:
            # The old record was about to be deleted. It is replaced now, so its file has to be
            # scheduled for removal here.
            old_file = ObjectName(
                name.space16, digest=name.digest, generation=body.found.generation
            )
            unlink = self._due_put(old_file, body, due_at=now + UNLINK_AFTER_S, unlink=True)
            return [record_put, unlink]
        return [record_put]

    def _due_put(self, name: ObjectName, body: _LargeBody, *, due_at: float, unlink: bool) -> Put:
        return due_put(
            name, due_at=due_at, unlink=unlink, entropy=self._entropy, size_bytes=body.size_bytes
        )


def _growth_bytes(body: _LargeBody) -> int:
    """Return the change of the size of the bodies that values refer to.

    A body counts once, and not at all if only versions refer to it.
    """
    was_live = body.found is not None and body.found.is_live
    if body.fresh is None or body.fresh.is_live == was_live:
        return 0
    return body.size_bytes if body.fresh.is_live else -body.size_bytes
