"""A lease that lets only one process run background jobs.

One row records the holder of the lease, its expiry, and when each job last began. The row is
written by a commit that expects the exact row that was read, so of several concurrent attempts one
succeeds. Each process compares the expiry with its own clock. Two processes can therefore hold the
lease at once: if their clocks differ by more than its length, or if a holder was suspended. Work
under a lease must do no harm when two processes do it at once.

An expiry that is further ahead than the length of a lease was written by a fast clock. Such a lease
counts as free (ST10).
"""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from ._codec import Codec
from .keyspace import LEASE_KEY
from .store.contract import Packed, Put, Record, Store, commit_puts, read_row, stamp_of
from .store.observing import MAX_CLOCK_SKEW_S

LEASE_S = 120.0
"""The length of the lease on the background jobs of a node."""


class _LeaseRow(Packed):
    owner: bytes
    expires_at: float
    begun: dict[str, float]


_CODEC = Codec(_LeaseRow)
check_lease = _CODEC.of
_FREE = _LeaseRow(owner=b"", expires_at=0.0, begun={})


class Lease(NamedTuple):
    """A process's handle for the lease on background jobs."""

    store: Store
    owner: bytes
    ttl_s: float

    async def take(self, *, now: float) -> bool:
        """Acquire or renew the lease, if possible.

        Returns whether this process now holds the lease.

        A lease with more than half of its time left is not rewritten.

        Raises:
            RecordDamaged: the row does not decode.
            StoreUnavailable, StoreFull: the store refuses the commit.
        """
        record, row = await self._read()
        # ST10: a lease written by a fast clock would block the work until that time. The slack
        # accepts a holder whose clock is only a little ahead.
        if now < row.expires_at <= now + self.ttl_s + MAX_CLOCK_SKEW_S:
            if row.owner != self.owner:
                return False
            if row.expires_at > now + self.ttl_s / 2:
                return True
        renewed = _LeaseRow(owner=self.owner, expires_at=now + self.ttl_s, begun=row.begun)
        return await self._write(record, renewed)

    async def begun(self) -> Mapping[str, float]:
        """Return the last start time of each background job.

        Times are in epoch seconds. Any process may have started the job.
        """
        _, row = await self._read()
        return row.begun

    async def note(self, job: str, *, now: float) -> bool:
        """Record the start time of a background job.

        Only the holder of the lease may do so. Returns False if the time was not recorded.
        """
        record, row = await self._read()
        if row.owner != self.owner:
            return False
        return await self._write(record, replace(row, begun={**row.begun, job: now}))

    async def release(self) -> None:
        """Release the lease.

        Another process can then acquire it without waiting.
        """
        record, row = await self._read()
        if row.owner == self.owner:
            await self._write(record, replace(_FREE, begun=row.begun))

    async def _read(self) -> tuple[Record | None, _LeaseRow]:
        record = await read_row(self.store, LEASE_KEY)
        return record, _CODEC.read(record) or _FREE

    async def _write(self, record: Record | None, row: _LeaseRow) -> bool:
        return await commit_puts(
            self.store, Put(LEASE_KEY, _CODEC.encode(row), expect=stamp_of(record))
        )
