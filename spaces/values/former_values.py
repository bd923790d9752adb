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
from .value_heads import (
    MOST_VERSIONS,
    REPLACED_IN_KEY,
    Head,
    head_of,
    version_key,
    version_number,
)
from .value_writes import Replacement, VersionRoom

RESTORABLE_S = 7 * 86_400.0
"""How long the versions of a deleted value are kept."""
# The most versions of its path that a write removes (ST19). One is usual. A path has more to remove
# after the setting was lowered.
_REMOVED_OF_A_PATH = 2
# The most versions that a write removes because of the space's limit, and how many it examines to
# find the oldest (ST20).
_REMOVED_OF_A_SPACE = 64
_EXAMINED_OF_A_SPACE = 65_536


def max_kept_of(kept: Mapping[str, int], space: SpaceId, path: str) -> int:
    """Return how many former values of a path are kept (ST19).

    `kept` has the setting by space name and beginning of a path. The first setting that fits
    counts, and without one the number is 0.
    """
    place = f"{space.name}/{path}"
    for prefix, max_kept in kept.items():
        if place.startswith(prefix):
            return max_kept
    return 0


def ranges_of(prefix: bytes) -> tuple[Range, Range]:
    """Return two ranges: all versions of a path without their values, and the oldest with values.

    `prefix` is `versions_prefix` of the path.
    """
    return (
        Range(prefix, limit=MOST_VERSIONS, keys_only=True),
        Range(prefix, limit=_REMOVED_OF_A_PATH),
    )


@dataclass(slots=True)
class _Rewrite:
    """A write at a path whose former values are kept (ST19).

    Attributes:
        max_kept: how many former values of the path are kept.
        prefix: the key prefix of its versions.
        old: the value that is replaced, or None.
        row: the encoded row of `old`.
        task: the space and the path for `collector.sweep_versions`, if the value is deleted.
        number: the next number of the path: that of the replaced value, or else of the new one.
        is_kept: whether `old` becomes a version.
    """

    max_kept: int
    prefix: bytes
    old: Head | None
    row: bytes
    task: bytes | None
    number: int
    is_kept: bool = False


class FormerValues:
    """The versions that a commit adds and removes in one space.

    First `add` the writes and `remove` the versions that the caller removes. Then `choose_kept`
    chooses the former values to keep, `look_up` finds the versions to remove for them, and `puts`
    returns the writes.
    """

    def __init__(self, space: SpaceId, own: SpaceKeys, bodies: BodyReferences) -> None:
        self._space = space
        self._own = own
        self._bodies = bodies
        self._rewrites: dict[bytes, _Rewrite] = {}
        self._removed: dict[bytes, Head] = {}

    @property
    def has_rewrites(self) -> bool:
        """Whether there is a write at a path whose former values are kept."""
        return bool(self._rewrites)

    def add(self, replacement: Replacement, *, max_kept: int) -> None:
        """Add a write at a path of which at most `max_kept` former values are kept."""
        write = replacement.write
        old = replacement.old
        record = replacement.record
        deletes_nothing = old is None and write.body is None
        if max_kept == 0 or deletes_nothing:
            return
        task = None
        if write.body is None:
            task = encode_text(f"{self._space.text}\n{write.path}")
        row = b""
        if record is not None and record.value is not None:
            row = record.value
        self._rewrites[replacement.key] = _Rewrite(
            max_kept=max_kept,
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

    def choose_kept(self, room: VersionRoom, *, free_bytes: int, commit_bytes: int) -> int:
        """Choose the former values that become versions (ST20).

        Args:
            room: the limits on the versions in the space.
            free_bytes: how many bytes the values of the space leave for versions.
            commit_bytes: how many bytes the commit has for former values.

        Returns:
            How many bytes of older versions have to be removed; 0 or less if they all fit.
        """
        # While the versions exceed the limit, no former value is kept (ST20). A write removes at
        # most 64 versions. It could remove 64 small ones and add a large one each time, and the
        # versions would grow to many times the limit.
        if room.kept_bytes > room.limit_bytes:
            return room.kept_bytes - free_bytes
        for rewrite in self._rewrites.values():
            old = rewrite.old
            if old is None:
                continue
            row_size_bytes = len(rewrite.row) + ROW_BYTES
            if row_size_bytes > commit_bytes or old.version_bytes > free_bytes:
                continue
            rewrite.is_kept = True
            self._bodies.count(old, delta=1, kept_delta=1)
            commit_bytes -= row_size_bytes
            free_bytes -= old.version_bytes
        # The older versions may use what the chosen values leave.
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
            # More than the excess is removed, so that the next writes need not search again.
            await self._remove_oldest(store, excess_bytes + kept_bytes // 16, besides=surplus)

    async def _surplus_of_paths(self, store: Store, pages: Sequence[Page]) -> dict[bytes, Record]:
        """Set the number of each rewrite, and return the oldest versions beyond a path's limit."""
        surplus: dict[bytes, Record] = {}
        rewrites = self._rewrites.values()
        if rewrites and not pages:
            ranges = [range_ for rewrite in rewrites for range_ in ranges_of(rewrite.prefix)]
            pages = (await store.read(ranges=ranges)).pages
        # `ranges_of` returns two ranges for each path.
        key_pages = pages[::2]
        oldest_pages = pages[1::2]
        for rewrite, all_keys, oldest in zip(rewrites, key_pages, oldest_pages, strict=True):
            count = len(all_keys.rows)
            if count:
                # Keys are in the order of their numbers, so the last has the highest.
                last_key, _ = all_keys.rows[-1]
                rewrite.number = max(rewrite.number, version_number(last_key) + 1)
            if rewrite.is_kept:
                count += 1
            surplus_count = max(count - rewrite.max_kept, 0)
            # `oldest` has few rows. What is beyond them is removed by the next writes.
            surplus.update(oldest.rows[:surplus_count])
        return surplus

    async def _remove_oldest(
        self, store: Store, excess_bytes: int, *, besides: Mapping[bytes, Record]
    ) -> None:
        """Remove the oldest versions of the space until `excess_bytes` are freed.

        Those in `besides` are removed already.
        """
        prefix = VERSIONS_PREFIX + self._own.space16
        keys: list[bytes] = []
        async for page in pages_of(store, Range(prefix, limit=MAX_PAGE_ROWS, keys_only=True)):
            keys += [key for key, _ in page.rows if key not in besides]
            if len(keys) > _EXAMINED_OF_A_SPACE:
                break
        keys = nsmallest(_REMOVED_OF_A_SPACE, keys, key=_age)
        for key, record in zip(keys, (await store.read(keys)).records, strict=True):
            if excess_bytes > 0:
                excess_bytes -= self._remove_row(key, record)

    def _remove_row(self, key: bytes, record: Record | None) -> int:
        """Remove the version that a row contains, and return its size in bytes.

        A version that another process has removed has no size.
        """
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
                new_version = Put(
                    version_key(rewrite.prefix, rewrite.number, now8),
                    rewrite.row,
                    expect=ABSENT,
                    weight_bytes=row_bytes(old.path, old.metadata) + len(old.body or b""),
                    account=self._own.versions,
                )
                puts.append(new_version)
            if rewrite.task is not None:
                due8 = micros8(now + RESTORABLE_S)
                path_id = rewrite.prefix[len(VERSIONS_PREFIX) :]  # the hashes of space and path
                puts.append(Put(VERSION_DUE_PREFIX + due8 + path_id, rewrite.task))
        return puts


def _age(key: bytes) -> bytes:
    """Return the sort key of a version's row: the time of the replacement, then the key itself."""
    return key[REPLACED_IN_KEY] + key
