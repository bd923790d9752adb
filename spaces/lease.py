"""A lease: one holder at a time, among all workers and machines on a store, of the work that one is enough for.

One row holds who has the lease, until when, and when each piece of work was last begun. It is taken and renewed by a
commit that expects the very row that was read, so of any number who try at once one wins. The expiry is compared with
the clock of whoever looks: clocks that differ by more than the lease lets two hold it, and so may a holder that stands
still. What is done under a lease must therefore do no harm when two do it.

An end that lies further ahead than a lease lasts was written by a clock that stood ahead, and is nobody's (ST10).

Example:
    lease = Lease(store, owner=entropy.token(16), ttl_s=120)
    if await lease.take(now=clock.now()): ...
"""

from collections.abc import Mapping

import msgspec

from ._codec import Codec
from .keyspace import LEASE_KEY
from .store.contract import ABSENT, Commit, Committed, Put, Record, Store
from .store.observing import MAX_CLOCK_SKEW_S


class _LeaseRow(msgspec.Struct, frozen=True, array_like=True):
    owner: bytes
    expires_at: float
    begun: dict[str, float]


_CODEC = Codec(_LeaseRow)
_NOBODY = _LeaseRow(owner=b"", expires_at=0.0, begun={})


class Lease:
    """What one process holds, or tries to hold."""

    def __init__(self, store: Store, *, owner: bytes, ttl_s: float) -> None:
        self._store = store
        self._owner = owner
        self._ttl_s = ttl_s

    async def take(self, *, now: float) -> bool:
        """Take the lease if nobody else holds it, or renew it; tell whether it is ours now.

        A lease of which more than half is left is not written anew.

        Raises:
            RecordDamaged: the row does not decode.
            StoreUnavailable, StoreFull: the store does not take the commit.
        """
        record, row = await self._read()
        # ST10; by the slack of clocks that agree the lease of one that is a little ahead is its own.
        if now < row.expires_at <= now + self._ttl_s + MAX_CLOCK_SKEW_S:
            if row.owner != self._owner:
                return False
            if row.expires_at > now + self._ttl_s / 2:
                return True
        return await self._write(record, _LeaseRow(self._owner, now + self._ttl_s, row.begun))

    async def begun(self) -> Mapping[str, float]:
        """Return when each piece of work was last begun, epoch seconds, by whoever held the lease."""
        return (await self._read())[1].begun

    async def note(self, work: str, *, now: float) -> bool:
        """Note that a piece of work is begun; False when the lease is no longer ours."""
        record, row = await self._read()
        if row.owner != self._owner:
            return False
        return await self._write(record, _LeaseRow(self._owner, row.expires_at, {**row.begun, work: now}))

    async def release(self) -> None:
        """Let another have the lease at once."""
        record, row = await self._read()
        if row.owner == self._owner:
            await self._write(record, _LeaseRow(b"", 0.0, row.begun))

    async def _read(self) -> tuple[Record | None, _LeaseRow]:
        record = (await self._store.read((LEASE_KEY,))).records[0]
        return record, _NOBODY if record is None or record.value is None else _CODEC.decode(record.value)

    async def _write(self, record: Record | None, row: _LeaseRow) -> bool:
        expect = ABSENT if record is None else record.stamp
        outcome = await self._store.commit(Commit(puts=(Put(LEASE_KEY, _CODEC.encode(row), expect=expect),)))
        return isinstance(outcome, Committed)
