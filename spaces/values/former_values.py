"""Former values that a commit keeps as versions, and the versions that it removes (ST19, ST20).

The oldest versions of a path are removed beyond the configured number, and the oldest of a space
beyond its limit. A former value is not kept if the commit or the space has no room for it. The
versions of a deleted value are removed some days later (`collector`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest

from capabilities.resources import SpaceId

from ..keyspace import (
    VERSION_DUE_PREFIX,
    VERSIONS_PREFIX,
    SpaceKeys,
    micros8,
    versions_prefix,
)
from ..store.contract import ABSENT, MAX_PAGE_ROWS, Page, Put, Range, Record, Store, pages_of
from .body_references import BodyReferences
from .metadata import ROW_BYTES, encode_text, row_bytes
from .value_heads import MOST_VERSIONS, Head, head_of, version_key, version_number
from .value_writes import Replacement, VersionRoom

RESTORABLE_S = 7 * 86_400.0
"""How long the versions of a deleted value are kept."""
# ST20. Most writes remove one version of their path; more follow after the setting was lowered.
_REMOVED_OF_A_PATH = 2
_REMOVED_OF_A_SPACE = 64
_EXAMINED_OF_A_SPACE = 65_536


def most_kept(kept: Mapping[str, int], space: SpaceId, path: str) -> int:
    """Return how many former values of a path are kept (ST19).

    `kept` has the setting by space name and beginning of a path.
    """
    place = f"{space.name}/{path}"
    for prefix, most in kept.items():
        if place.startswith(prefix):
            return most
    return 0


def ranges_of(prefix: bytes) -> tuple[Range, Range]:
    """Return the ranges of a path's versions without values, and of the oldest with values."""
    return (
        Range(prefix, limit=MOST_VERSIONS, keys_only=True),
        Range(prefix, limit=_REMOVED_OF_A_PATH),
    )


@dataclass(slots=True)
class _Rewrite:
    """A write at a path whose former values are kept (ST19).

    Attributes:
        most: how many former values of the path are kept.
        prefix: the key prefix of its versions.
        old: the value that is replaced, or None.
        row: the encoded row of `old`.
        task: the task that removes the versions later, if the value is deleted.
        number: the next number of the path: that of the replaced value, or else of the new one.
        is_kept: whether `old` becomes a version.
    """

    most: int
    prefix: bytes
    old: Head | None
    row: bytes
    task: bytes | None
    number: int
    is_kept: bool = False


class FormerValues:
    """The versions that a commit adds and removes in one space.

    First `add` the writes and `remove` the versions that the caller removes. Then `keep` chooses
    the former values, `look_up` the versions to remove, and `puts` returns the writes.
    """

    def __init__(self, space: SpaceId, own: SpaceKeys, bodies: BodyReferences) -> None:
        self._space = space
        self._own = own
        self._bodies = bodies
        self._rewrites = dict[bytes, _Rewrite]()
        self._removed = dict[bytes, Head]()

    @property
    def has_rewrites(self) -> bool:
        """Whether there is a write at a path whose former values are kept."""
        return bool(self._rewrites)

    def add(self, replacement: Replacement, *, most: int) -> None:
        """Add a write at a path of which at most `most` former values are kept."""
        write = replacement.write
        old = replacement.old
        record = replacement.record
        if not most or (old is None and write.body is None):
            return
        task = None
        if write.body is None:
            task = encode_text(f"{self._space.text}\n{write.path}")
        row = b""
        if record is not None and record.value is not None:
            row = record.value
        self._rewrites[replacement.key] = _Rewrite(
            most=most,
            prefix=versions_prefix(self._own.space16, write.path),
            old=old,
            row=row,
            task=task,
            number=1 if old is None else old.version,
        )

    def remove(self, key: bytes, head: Head) -> None:
        """Remove a version."""
        self._removed[key] = head
        self._bodies.count(head, delta=-1, kept_delta=-1)

    def keep(self, room: VersionRoom, *, free_bytes: int, commit_bytes: int) -> int:
        """Choose the former values to keep, and return by how many bytes versions exceed the limit.

        Args:
            room: the limits on the versions in the space.
            free_bytes: how many bytes the space has for versions.
            commit_bytes: how many bytes the commit has for former values.
        """
        # A write removes at most 64 versions. Otherwise thousands of small ones would let large
        # ones grow to many times the limit.
        if room.kept_bytes > room.limit_bytes:
            commit_bytes = 0
        for rewrite in self._rewrites.values():
            old = rewrite.old
            row_size_bytes = len(rewrite.row) + ROW_BYTES
            if old is None or row_size_bytes > commit_bytes or old.version_bytes > free_bytes:
                continue
            rewrite.is_kept = True
            self._bodies.count(old, delta=1, kept_delta=1)
            commit_bytes -= row_size_bytes
            free_bytes -= old.version_bytes
        return room.kept_bytes - free_bytes

    async def look_up(
        self, store: Store, *, excess_bytes: int, kept_bytes: int, pages: Sequence[Page]
    ) -> None:
        """Find the versions to remove, and the numbers of new ones.

        Args:
            store: contains the versions.
            excess_bytes: how many bytes of versions have to be removed.
            kept_bytes: total size of the versions in the space.
            pages: of `ranges_of` for each rewritten path, if the caller has already read them.
        """
        surplus = await self._surplus_of_paths(store, pages)
        for key, record in surplus.items():
            excess_bytes -= self._remove_row(key, record)
        if excess_bytes > 0:
            # More than the excess, so that the next writes need not look for the oldest again.
            await self._remove_oldest(store, excess_bytes + kept_bytes // 16, besides=surplus)

    async def _surplus_of_paths(self, store: Store, pages: Sequence[Page]) -> dict[bytes, Record]:
        """Set the number of each rewrite, and return the oldest versions beyond a path's limit."""
        surplus = dict[bytes, Record]()
        rewrites = self._rewrites.values()
        if rewrites and not pages:
            ranges = [range_ for rewrite in rewrites for range_ in ranges_of(rewrite.prefix)]
            pages = (await store.read(ranges=ranges)).pages
        for rewrite, all_keys, oldest in zip(rewrites, pages[::2], pages[1::2], strict=True):
            count = len(all_keys.rows)
            if count:
                last_key, _ = all_keys.rows[-1]
                rewrite.number = max(rewrite.number, version_number(last_key) + 1)
            if rewrite.is_kept:
                count += 1
            surplus.update(oldest.rows[: max(count - rewrite.most, 0)])
        return surplus

    async def _remove_oldest(
        self, store: Store, excess_bytes: int, *, besides: Mapping[bytes, Record]
    ) -> None:
        """Remove the oldest versions of the space, besides those that are removed already."""
        every = VERSIONS_PREFIX + self._own.space16
        keys = list[bytes]()
        async for page in pages_of(store, Range(every, limit=MAX_PAGE_ROWS, keys_only=True)):
            keys += [key for key, _ in page.rows if key not in besides]
            if len(keys) > _EXAMINED_OF_A_SPACE:
                break
        keys = nsmallest(_REMOVED_OF_A_SPACE, keys, key=_age)
        for key, record in zip(keys, (await store.read(keys)).records, strict=True):
            if excess_bytes > 0:
                excess_bytes -= self._remove_row(key, record)

    def _remove_row(self, key: bytes, record: Record | None) -> int:
        """Remove a version by its row, and return its size in bytes."""
        head = head_of(record, key=key)
        if head is None:
            return 0
        self.remove(key, head)
        return head.version_bytes

    def number_of_new(self, replacement: Replacement) -> int:
        """Return the version number of the new value at a path."""
        old = replacement.old
        rewrite = self._rewrites.get(replacement.key)
        if rewrite is None:
            return 1 if old is None else old.version
        # a replaced value takes the next number of the path
        return rewrite.number if old is None else rewrite.number + 1

    def puts(self, *, now: float) -> list[Put]:
        """Return the writes that keep former values and remove versions (ST19)."""
        if not self._rewrites and not self._removed:
            return []
        now8 = micros8(now)
        puts = [Put(key, None, expect=head.stamp) for key, head in self._removed.items()]
        for rewrite in self._rewrites.values():
            old = rewrite.old
            if old is not None and rewrite.is_kept:
                kept = Put(
                    version_key(rewrite.prefix, rewrite.number, now8),
                    rewrite.row,
                    expect=ABSENT,
                    weight_bytes=row_bytes(old.path, old.metadata) + len(old.body or b""),
                    account=self._own.versions,
                )
                puts.append(kept)
            if rewrite.task is not None:
                due8 = micros8(now + RESTORABLE_S)
                puts.append(Put(VERSION_DUE_PREFIX + due8 + rewrite.prefix[1:], rewrite.task))
        return puts


def _age(key: bytes) -> bytes:
    """Return the sort key of a version's row: the time of the replacement, then the key itself."""
    return key[-8:] + key
