"""Moving the bodies of a store from one place to another: every body that a head refers to, compared with its digest.

No node may run meanwhile. An interrupted move continues when it is run again: a body has its name in the target only
when it is complete and has its digest. The store records the target as the place of the bodies when all are there;
until then every node looks for them in the source. The source is left as it is.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from .errors import BodiesElsewhere, RecordDamaged
from .keyspace import LONG_VALUES_PREFIX, VALUES_PREFIX, says_that_paths_go_on
from .store.contract import Range, Store, pages_of
from .values.object_place import record_move, recorded_place
from .values.object_records import ObjectName
from .values.object_store import ObjectStore
from .values.value_heads import Head, head_of

Progress = Callable[[int], None]
_PAGE_HEADS: Final = 200


@dataclass(frozen=True, slots=True)
class MovedBodies:
    """What is in the target now.

    Attributes:
        bodies: how many heads refer to.
        size_bytes: their total size.
        copied: how many of them this move copied.
    """

    bodies: int
    size_bytes: int
    copied: int


async def move_bodies(
    store: Store, source: ObjectStore, target: ObjectStore, *, origin: str, to: str, progress: Progress
) -> MovedBodies:
    """Copy all bodies and record where they are.

    Args:
        store: in use by no other process.
        source: where the bodies are.
        target: where they are copied to.
        origin: the source's place, as the store records it.
        to: the target's place.
        progress: called with the number of bodies after each.

    Raises:
        BodiesElsewhere: the store records a place of its bodies that is neither the source nor the target.
        RecordDamaged: a body is missing in the source or does not have its digest; run again once it is back.
        StoreFull, StoreUnavailable: store, source or target failed; run again to continue.
    """
    if await recorded_place(store) not in (origin, to):
        raise BodiesElsewhere("the store has its bodies in a third place")
    seen: set[bytes] = set()
    size_bytes = copied = 0
    async for name, body_bytes in _bodies(store):
        if name.generation in seen:
            continue
        seen.add(name.generation)
        copied += await _copy(source, target, name, body_bytes)
        size_bytes += body_bytes
        progress(len(seen))
    await record_move(store, to)
    return MovedBodies(bodies=len(seen), size_bytes=size_bytes, copied=copied)


async def _bodies(store: Store) -> AsyncIterator[tuple[ObjectName, int]]:
    for prefix in (VALUES_PREFIX, LONG_VALUES_PREFIX):
        async for page in pages_of(store, Range(prefix, limit=_PAGE_HEADS)):
            for key, record in page.rows:
                head: Head | None = None if says_that_paths_go_on(key) else head_of(record, key=key)
                if head is not None and head.object_name is not None:
                    yield head.object_name, head.size_bytes


async def _copy(source: ObjectStore, target: ObjectStore, name: ObjectName, size_bytes: int) -> bool:
    """Copy a body unless it is there; return whether it was copied."""
    if await _has(target, name, size_bytes):
        return False
    incoming = await target.begin()
    try:
        async with await source.open(name, size_bytes=size_bytes) as body:
            async for piece in body.pieces():
                await incoming.append(piece)
        if await incoming.finish() != (name.digest, size_bytes):
            raise RecordDamaged("a body does not have the digest of its head")
        await incoming.rename(name)
    except BaseException:
        await incoming.discard()
        raise
    return True


async def _has(target: ObjectStore, name: ObjectName, size_bytes: int) -> bool:
    try:
        async with await target.open(name, size_bytes=size_bytes):
            return True
    except RecordDamaged:
        return False
