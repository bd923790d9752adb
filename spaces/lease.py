"""A lease: one holder at a time, among all workers and machines on a store, for work that one
process is enough for.

One row records the holder of the lease, its expiry, and when each piece of work was last begun. It
is taken and renewed by a commit that expects the exact row that was read, so of any number of
concurrent attempts one wins. Each process compares the expiry with its own clock: two can hold the
lease if their clocks differ by more than it lasts, or if a holder was suspended. Work under a lease
must therefore do no harm when two processes do it.

An expiry further ahead than a lease lasts was written by a clock that was ahead, and counts as no
holder's (ST10).
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ._codec import Codec
from .keyspace import LEASE_KEY
from .store.contract import Commit, Committed, Put, Record, Store, read_row, stamp_of
from .store.observing import MAX_CLOCK_SKEW_S


class _LeaseRow(msgspec.Struct, frozen=True, array_like=True):
    owner: bytes
    expires_at: float
    begun: dict[str, float]


_CODEC = Codec(_LeaseRow)
check_lease = _CODEC.of
_NOBODY = _LeaseRow(owner=b"", expires_at=0.0, begun={})


class Lease(NamedTuple):
    """A lease as one process holds it, or tries to."""

    store: Store
    owner: bytes
    ttl_s: float

    async def take(self, *, now: float) -> bool:
        """Take the lease if no other process holds it, or renew it; return whether this process
        holds it now.

        A lease with more than half of its time left is not rewritten.

        Raises:
            RecordDamaged: the row does not decode.
            StoreUnavailable, StoreFull: the store does not take the commit.
        """
        record, row = await self._read()
        # ST10; the slack accepts the lease of a holder whose clock is only a little ahead.
        if now < row.expires_at <= now + self.ttl_s + MAX_CLOCK_SKEW_S:
            if row.owner != self.owner:
                return False
            if row.expires_at > now + self.ttl_s / 2:
                return True
        return await self._write(record, _LeaseRow(self.owner, now + self.ttl_s, row.begun))

    async def begun(self) -> Mapping[str, float]:
        """Return when each piece of work was last begun, epoch seconds, by any holder of the
        lease."""
        return (await self._read())[1].begun

    async def note(self, work: str, *, now: float) -> bool:
        """Note that a piece of work is begun; False when this process no longer holds the lease."""
        record, row = await self._read()
        if row.owner != self.owner:
            return False
        return await self._write(
            record, _LeaseRow(self.owner, row.expires_at, {**row.begun, work: now})
        )

    async def release(self) -> None:
        """Release the lease, so that another process can take it at once."""
        record, row = await self._read()
        if row.owner == self.owner:
            await self._write(record, _LeaseRow(b"", 0.0, row.begun))

    async def _read(self) -> tuple[Record | None, _LeaseRow]:
        record = await read_row(self.store, LEASE_KEY)
        return record, _CODEC.read(record) or _NOBODY

    async def _write(self, record: Record | None, row: _LeaseRow) -> bool:
        put = Put(LEASE_KEY, _CODEC.encode(row), expect=stamp_of(record))
        return isinstance(await self.store.commit(Commit(puts=(put,))), Committed)
