"""Children of the keeper, their leases, and the owners and workers that they are lent for."""

import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from .child_memory import MemoryReport
from .frames import LeaseRequest
from .priorities import Priority


@dataclass(eq=False, slots=True)
class Child:
    """A child process.

    Attributes:
        process: its id.
        connection: the end that workers use.
        space: the hash of the space that it serves.
        has_folder: whether it can reach the folder of that space.
        idle_since: when its last lease ended, or it was started, in seconds of the monotonic clock.
        memory: how much it uses, as it reports itself.
        priority: at which it computes.
        retired_at: when it was asked to end, unless it was killed.
    """

    process: int
    connection: socket.socket
    space: bytes
    has_folder: bool
    idle_since: float
    memory: MemoryReport
    priority: Priority
    retired_at: float | None = None


@dataclass(eq=False, slots=True)
class ChildLease:
    """A child that is lent, or a request that waits for one.

    Attributes:
        worker: the worker that sent the request.
        child: None while the request waits.
        began_at: when the child was lent, in seconds of the monotonic clock.
        counted_s: the processor time of the child at that moment, or when it was last counted as
            that of a slow statement.
        next_check_at: when the processor time of the child is checked next; infinity: never.
        needs_readers_ended: whether no other lease may read its database until it ends.
        have_readers_ended: whether the worker was told that no other lease reads the database.
        is_slow: whether the child has computed for too long in this lease.
    """

    worker: "Worker"
    request: LeaseRequest
    child: Child | None = None
    began_at: float = 0.0
    counted_s: float = 0.0
    next_check_at: float = 0.0
    needs_readers_ended: bool = False
    have_readers_ended: bool = False
    is_slow: bool = False

    @property
    def waits_for_readers(self) -> bool:
        """Whether its worker waits until no other lease reads the database."""
        return self.needs_readers_ended and not self.have_readers_ended


@dataclass(eq=False, slots=True)
class Worker:
    """The connection of a worker, and its leases by number."""

    connection: socket.socket
    leases: dict[int, ChildLease] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Owner:
    """The waiting requests of an owner, and the numbers of its running ones."""

    waiting_reads: deque[ChildLease] = field(default_factory=deque)
    waiting_writes: deque[ChildLease] = field(default_factory=deque)
    running_reads: int = 0
    running_writes: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether no request of this owner waits or runs."""
        has_waiting = self.waiting_reads or self.waiting_writes
        has_running = self.running_reads or self.running_writes
        return not has_waiting and not has_running

    def add(self, lease: ChildLease) -> None:
        """Add a request that waits."""
        self._queue_of(lease).append(lease)

    def remove_waiting(self, lease: ChildLease) -> None:
        """Remove a request that waited."""
        self._queue_of(lease).remove(lease)

    def begin(self, lease: ChildLease) -> None:
        """Count a request as running that waited until now."""
        self.remove_waiting(lease)
        if lease.request.writes:
            self.running_writes += 1
        else:
            self.running_reads += 1

    def end(self, lease: ChildLease) -> None:
        """Stop counting a request that ran."""
        if lease.request.writes:
            self.running_writes -= 1
        else:
            self.running_reads -= 1

    def _queue_of(self, lease: ChildLease) -> deque[ChildLease]:
        return self.waiting_writes if lease.request.writes else self.waiting_reads


class RunningLeases:
    """The leases that have a child, in the order in which they began."""

    def __init__(self) -> None:
        self._leases = dict[ChildLease, None]()

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[ChildLease]:
        return iter(self._leases)

    def add(self, lease: ChildLease) -> None:
        """Add a lease that begins."""
        self._leases[lease] = None

    def remove(self, lease: ChildLease) -> None:
        """Remove a lease that ends."""
        del self._leases[lease]

    def of_database(self, key: bytes) -> list[ChildLease]:
        """Return the leases of a database, by the key of its row."""
        return [lease for lease in self._leases if lease.request.key == key]

    def has_writer(self, key: bytes) -> bool:
        """Return whether a lease writes to a database."""
        return any(lease.request.writes for lease in self.of_database(key))

    def is_closed_to_readers(self, key: bytes) -> bool:
        """Return whether a lease needs the readers of a database ended, so that none may begin."""
        return any(lease.needs_readers_ended for lease in self.of_database(key))

    def readers_to_end(self, writer: ChildLease) -> list[ChildLease]:
        """Return the leases that read the database of a writer. Exports are never ended."""
        return [
            lease
            for lease in self.of_database(writer.request.key)
            if lease is not writer and not lease.request.is_export
        ]

    def is_alone(self, writer: ChildLease) -> bool:
        """Return whether no other lease, not even an export, uses the database of a writer."""
        return self.of_database(writer.request.key) == [writer]
