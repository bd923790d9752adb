"""The one way to read stored delegations: from memory, or decoded within a request's bound.

A delegation never changes, so no entry of the cache has to be invalidated. Revocation markers can
change and are not cached (`revocations`).

Example:
    found = await delegations.by_cid([parent.digest for parent in token.parents])
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakValueDictionary

from capabilities.chain import Registered
from capabilities.cids import ContentKey, Digest
from capabilities.coverage import owner_of
from capabilities.principals import Principal

from ..keyspace import alias_key, delegation_key
from ..space_errors import TooMuchDecoded
from ..store.contract import Follow, Record, Store
from .decoding import MAX_DECODED_BYTES, PAUSE_FACTOR, UNPACED_BYTES, decoded_so_far
from .delegations import decode_delegation

DEFAULT_CACHE_BYTES = 64 * 1024 * 1024
_DELEGATIONS = delegation_key(b"")  # the prefix of the rows that aliases lead to
_ROWS_AT_ONCE = 8  # rows may be large, and are in memory while they are decoded
# Memory of a decoded delegation: at most 4 bytes for each byte of its text, measured on grants of
# one to four hundred abilities, 187 for each ancestor, 205 for each alias. Rounded up here.
_COST_PER_HEADER_BYTE = 5
_COST_PER_ANCESTOR = 250
_COST_FIXED = 2048
_COST_OF_ALIAS = 250
_SHARE_OF_ALIASES = 4  # aliases keep a quarter of the memory when it is full
_SHARE_OF_OWNER = 8  # an owner above an eighth gives way before others do
_LARGEST_ENTRY_BYTES = 512 * 1024  # of 100 KB; what is larger is decoded each time it is used


@dataclass(slots=True)
class _OfOwner:
    """The cached delegations of one owner, the least recently used first, each with its cost."""

    size_bytes: int = 0
    entries: OrderedDict[ContentKey, tuple[Registered, int]] = field(default_factory=OrderedDict)


class Delegations:
    """A read-through cache of the registered delegations.

    Decoded delegations are cached by content key, and content keys by cid. When the cache is full,
    the owner with the most makes room, if that is more than an eighth of it; else the owner who was
    not used for the longest time does.

    Attributes:
        misses: number of lookups that did not find their delegation in memory.
        memory_bytes: estimated memory of the cache; at most `max_bytes`.
    """

    def __init__(self, store: Store, *, max_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self.misses = 0
        self.memory_bytes = 0
        self._store = store
        self._max_bytes = max_bytes
        self._owners: dict[ContentKey, Principal] = {}
        self._of_owner: OrderedDict[Principal, _OfOwner] = OrderedDict()
        self._large_owners: set[Principal] = set()
        self._aliases: OrderedDict[Digest, ContentKey] = OrderedDict()
        # One request at a time decodes much, and holds at most `_ROWS_AT_ONCE` large rows.
        self._turn = asyncio.Lock()
        # A lock is removed with the last request that waits for it.
        self._turn_of_client: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def by_cid(self, cids: Sequence[Digest | None]) -> tuple[Registered | None, ...]:
        """Return the registered delegations with the given CIDs.

        The results are in the order of `cids`. A cid without a delegation, or a cid of None, gives
        None. A delegation can have several cids.

        The result says nothing about revocations: read the markers with `marker_keys` afterwards,
        in the read that the answer is based on.

        Raises:
            TooMuchDecoded: the request would exceed its bound.
        """
        by_cid: dict[Digest | None, Registered | None] = {None: None}  # no cid, no delegation
        missing: list[Digest] = []
        for cid in cids:
            if cid is None or cid in by_cid:
                continue
            content = self._aliases.get(cid)
            stored = None
            if content is not None:
                stored = self.cached(content)
            by_cid[cid] = stored
            if stored is None:
                missing.append(cid)
        if missing:
            self.misses += len(missing)
            for cid, stored in zip(missing, await self._read_by_cid(missing), strict=True):
                by_cid[cid] = stored
        return tuple([by_cid[cid] for cid in cids])

    async def _read_by_cid(self, cids: Sequence[Digest]) -> list[Registered | None]:
        """Read delegations from the store, through their aliases, and cache them."""
        delegations: list[Registered | None] = []
        for start in range(0, len(cids), _ROWS_AT_ONCE):
            step = cids[start : start + _ROWS_AT_ONCE]
            found = await self._decoded(partial(self._rows_of_cids, step))
            if len(found) < len(step):
                raise _too_much()
            for cid, stored in zip(step, found, strict=True):
                if stored is not None:
                    self.add(stored, cid)
            delegations += found
        return delegations

    async def by_content(self, contents: Sequence[ContentKey]) -> tuple[Registered | None, ...]:
        """Return the registered delegations with the given content keys.

        The results are in the order of `contents`. A key without a delegation gives None.

        Raises:
            TooMuchDecoded: the request would exceed its bound.
        """
        found = await self.first_of(contents)
        if len(found) < len(contents):
            raise _too_much()
        return found

    async def first_of(self, contents: Sequence[ContentKey]) -> tuple[Registered | None, ...]:
        """Return as many of the first delegations as the request may still decode.

        Otherwise as `by_content`, for lists that can end with what they have.
        """
        by_content: dict[ContentKey, Registered | None] = {}
        missing: list[ContentKey] = []
        for content in dict.fromkeys(contents):
            stored = self.cached(content)
            if stored is None:
                missing.append(content)
            else:
                by_content[content] = stored
        for start in range(0, len(missing), _ROWS_AT_ONCE):
            step = missing[start : start + _ROWS_AT_ONCE]
            found = await self._decoded(partial(self._rows_of, step))
            for content, stored in zip(step, found, strict=False):
                by_content[content] = stored
                if stored is not None:
                    self.add(stored)
            if len(found) < len(step):
                break
        first: list[Registered | None] = []
        for content in contents:
            if content not in by_content:
                break
            first.append(by_content[content])
        return tuple(first)

    async def _rows_of_cids(self, cids: Sequence[Digest]) -> Sequence[Record | None]:
        aliases = Follow(tuple([alias_key(cid) for cid in cids]), _DELEGATIONS)
        return (await self._store.read(follow=aliases)).followed

    async def _rows_of(self, contents: Sequence[ContentKey]) -> Sequence[Record | None]:
        keys = [delegation_key(content) for content in contents]
        return (await self._store.read(keys)).records

    async def _decoded(
        self, read: Callable[[], Awaitable[Sequence[Record | None]]]
    ) -> list[Registered | None]:
        """Read rows, and decode them in their order; fewer if the request may not decode more.

        Raises the error of `Decoded.admit`.
        """
        decoded = decoded_so_far()
        records = await read()
        sizes_bytes = [_size_bytes(record) for record in records]
        if decoded.size_bytes + sum(sizes_bytes) <= UNPACED_BYTES:  # nearly always
            decoded.size_bytes += sum(sizes_bytes)
            return [decode_delegation(record) for record in records]
        if not decoded.is_admitted:
            decoded.admit()
        del records  # thousands of requests may wait, each for rows of 3 MiB
        found: list[Registered | None] = []
        async with self._next_turn(decoded.client()):
            if not decoded.is_admitted:
                decoded.admit()  # the client's other requests were charged while this one waited
                decoded.is_admitted = True
            records = await read()
            began_s = time.perf_counter()
            unpaused_bytes = 0
            for record in records:
                size_bytes = _size_bytes(record)
                if not decoded.has_room(size_bytes):  # D34
                    break
                decoded.size_bytes += size_bytes
                unpaused_bytes += size_bytes
                found.append(decode_delegation(record))
                if unpaused_bytes >= UNPACED_BYTES:
                    # In proportion to the work: others get most of the time, whatever the sizes.
                    await asyncio.sleep(PAUSE_FACTOR * (time.perf_counter() - began_s))
                    began_s = time.perf_counter()
                    unpaused_bytes = 0
            decoded.charge()  # before the next request of the client is admitted
        return found

    @asynccontextmanager
    async def _next_turn(self, client: str) -> AsyncIterator[None]:
        """Wait until a request of this client may decode much.

        One request of each client waits for the turn of all. Otherwise a client with a hundred
        requests would have all others wait for all of these.
        """
        turn_of_client = self._turn_of_client.setdefault(client, asyncio.Lock())
        async with turn_of_client, self._turn:
            yield

    async def first_parent(self, stored: Registered) -> Registered | None:
        """Return the first delegation that a delegation cites, or None if it cites none.

        None too if the parent is no longer stored.

        Raises:
            TooMuchDecoded: the request would exceed its bound.
        """
        if not stored.parents:
            return None
        (parent,) = await self.by_content(stored.parents[:1])
        return parent

    def cached(self, content: ContentKey) -> Registered | None:
        """Return the cached delegation, or None.

        The store is not read.
        """
        owner = self._owners.get(content)
        if owner is None:
            return None
        self._of_owner.move_to_end(owner)
        entries = self._of_owner[owner].entries
        entries.move_to_end(content)
        stored, _ = entries[content]
        return stored

    def add(self, stored: Registered, cid: Digest | None = None) -> None:
        """Add a delegation to the cache, unless it is very large.

        If `cid` is given, the delegation can then be looked up by this CID too.
        """
        content = stored.delegation.content_key
        if content not in self._owners:
            cost = (
                _COST_FIXED
                + _COST_PER_HEADER_BYTE * len(stored.delegation.header)
                + _COST_PER_ANCESTOR * (len(stored.closure) + len(stored.accounts))
            )
            if cost > _LARGEST_ENTRY_BYTES:
                return
            owner = _owner_of(stored)
            of_owner = self._of_owner.setdefault(owner, _OfOwner())
            of_owner.entries[content] = (stored, cost)
            self._owners[content] = owner
            self._resize(owner, of_owner, cost)
        if cid is not None and cid not in self._aliases:
            self._aliases[cid] = content
            self.memory_bytes += _COST_OF_ALIAS
        if self.memory_bytes > self._max_bytes:
            self._shrink()

    def _resize(self, owner: Principal, of_owner: _OfOwner, more_bytes: int) -> None:
        """Count what was added for an owner, or removed."""
        self.memory_bytes += more_bytes
        of_owner.size_bytes += more_bytes
        if of_owner.size_bytes > self._max_bytes // _SHARE_OF_OWNER:
            self._large_owners.add(owner)
        else:
            self._large_owners.discard(owner)

    def _shrink(self) -> None:
        """Remove entries until the cache is within its limit.

        CID aliases are removed before delegations, because they cost little to find again. A
        quarter of the memory remains available to them.
        """
        most_aliases = self._max_bytes // _SHARE_OF_ALIASES // _COST_OF_ALIAS
        while self.memory_bytes > self._max_bytes and len(self._aliases) > most_aliases:
            self._aliases.popitem(last=False)
            self.memory_bytes -= _COST_OF_ALIAS
        while self.memory_bytes > self._max_bytes and self._of_owner:
            owner = self._giving_way()
            of_owner = self._of_owner[owner]
            content, (_, cost) = of_owner.entries.popitem(last=False)
            del self._owners[content]
            self._resize(owner, of_owner, -cost)
            if not of_owner.entries:
                del self._of_owner[owner]

    def _giving_way(self) -> Principal:
        """Return the owner whose least recently used delegation is removed."""
        if self._large_owners:  # fewer than eight
            return max(self._large_owners, key=lambda owner: self._of_owner[owner].size_bytes)
        return next(iter(self._of_owner))


def _owner_of(stored: Registered) -> Principal:
    """Return on whose share a delegation counts: that of the owner of its first resource.

    This owner signed the root of a chain to it, so a chain through many keys and wallets counts for
    one. The accounts above do not say it: anybody can cite a delegation of another owner for rights
    of their own (D20), and would fill the share of that owner.
    """
    delegation = stored.delegation
    if delegation.capabilities:
        owner = owner_of(delegation.capabilities[0])
        if owner is not None:
            return owner
    return delegation.delegator


def _size_bytes(record: Record | None) -> int:
    return 0 if record is None or record.value is None else len(record.value)


def _too_much() -> TooMuchDecoded:
    return TooMuchDecoded(
        f"this request depends on more than {MAX_DECODED_BYTES >> 20} MiB of stored delegations,"
        " the most that a node decodes for one request; next: cite fewer or smaller delegations, or"
        " revoke large ones that are not needed"
    )
