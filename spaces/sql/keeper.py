"""The keeper of the processes that run SQL statements (SQ29).

It starts children by forking itself, lends them to the node's workers, and ends them. So it has one
thread, opens no database, and serves all workers of a node: the places that it counts are the
node's.

- A child serves one space, and one worker at a time.
- A space's owner has few places for statements that read, and others for those that write. As soon
  as half of all places are taken, a place is given only to owners who have none.
- Between two forks, requests for which a child is idle are served.
- Of a database, one lease writes at a time; the others wait here, without a place.
- A child that has computed for 20 ms in one lease gets low priority. So do further children of that
  owner from their start, for a while: a slow statement is often followed by others. Once the slow
  statements of an owner have computed for two seconds in a minute, they come after everything else
  until that minute is over.
- Readers that keep the log of a database from being emptied are ended (SQ30).
- Idle children are ended when others are needed, or after a minute.
- If a child is killed that wrote, another one empties the log that it left (SQ30).
"""

import gc
import math
import os
import resource
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from capabilities.sql_caveats import UNLIMITED

from ..store.durable import sync_folder
from . import child as _child
from .child_leases import Child, ChildLease, Owner, RunningLeases, Worker
from .child_memory import MemoryReport
from .database_rows import file_of, space16_of
from .frames import (
    MAX_KEEPER_BYTES,
    ChildLent,
    ChildNotStarted,
    EndLease,
    EndReaders,
    FromKeeper,
    LeaseRequest,
    ReadersEnded,
    Run,
    Serving,
    ToKeeper,
    encoded,
    framed,
)
from .priorities import Priority, SlowOwners, lower_priority, processor_time_s
from .requests import Batch

READS_OF_AN_OWNER = 2
WRITES_OF_AN_OWNER = 2
SLOW_S = 0.02  # processor time in one lease
_LEAST_CHECK_S = 0.005  # between two looks at the same child
_SLOW_CHECK_S = 0.1  # the same, once it is slow
_IDLE_S = 60.0
_LONGEST_READ_S = 0.5  # of those that keep a log from being emptied
_CLOSING_S = 1.0  # for a child without a lease, to close its databases
_EMPTYING_S = 30.0  # for a child that empties the log of a killed one
_KEPT_BYTES = 64 * 1024 * 1024  # a child that uses as much memory is not lent again
_BACKLOG = 64
_DECODER: msgspec.msgpack.Decoder[ToKeeper] = msgspec.msgpack.Decoder(ToKeeper)


def run_keeper(
    folder: Path,
    listener: socket.socket,
    *,
    processes: int,
    confine: Callable[[Path | None, int], None],
    ready: Callable[[], None],
    lifeline: int,
) -> None:
    """Serve workers until SIGTERM, or until the lifeline ends.

    All children end with this process.

    Args:
        folder: the folder of all databases.
        listener: a listening Unix socket of the kind SEQPACKET.
        processes: the most children.
        confine: confines a child to the folder of its space, if it has one; its second argument is
            this process's id.
        ready: is called when workers are served.
        lifeline: a file descriptor that the parent process keeps open.
    """
    keeper = _Keeper(folder, listener, processes, confine)
    gc.collect()
    gc.freeze()  # a collection in a child would copy each object's page
    ready()
    try:
        keeper.run(lifeline)
    finally:
        signal.set_wakeup_fd(-1)  # its socket is closed
        keeper.end_all()


class _Keeper:
    """The state of the process. Only its one thread uses it."""

    def __init__(
        self,
        folder: Path,
        listener: socket.socket,
        max_children: int,
        confine: Callable[[Path | None, int], None],
    ) -> None:
        self._folder = folder
        self._listener = listener
        self._max_children = max_children
        self._confine = confine
        self._selector = selectors.DefaultSelector()
        self._children = dict[int, Child]()  # by process
        self._idle = dict[Child, None]()  # the longest idle first
        self._ending = set[int]()  # processes that were retired or killed, and not reaped
        # By killed process, the request that wrote. The process may have left a long log.
        self._killed_writers = dict[int, LeaseRequest]()
        self._owners = dict[bytes, Owner]()  # those that were served last come last
        self._running = RunningLeases()
        self._slow_owners = SlowOwners()
        self._has_started_child = False  # in this turn; the next turn may have to start another

    # --- events

    def run(self, lifeline: int) -> None:
        """Lend children to workers until the node stops.

        Args:
            lifeline: descriptor of a pipe whose other end the supervisor has open. It ends when the
                supervisor ends, however that happens.
        """
        woken, wakeup = socket.socketpair()
        for own_socket in (woken, wakeup, self._listener):
            own_socket.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # the signal itself writes to the socket
        self._listener.listen(_BACKLOG)
        self._selector.register(woken, selectors.EVENT_READ, woken)
        self._selector.register(lifeline, selectors.EVENT_READ, lifeline)
        self._selector.register(self._listener, selectors.EVENT_READ, self._listener)
        while self._handle_events(woken, lifeline):
            self._do_what_is_due()
            self._lend_children()

    def _handle_events(self, woken: socket.socket, lifeline: int) -> bool:
        """Wait for events, and handle them.

        Returns False as soon as the process is to end: after a signal, or when the lifeline ends.
        """
        for key, _ in self._selector.select(self._seconds_until_due()):
            source = key.data
            if source is woken:
                signals = woken.recv(4096)
                if signal.SIGTERM in signals or signal.SIGINT in signals:
                    return False
                self._reap_children()
            elif source is lifeline:
                if not os.read(lifeline, 4096):
                    return False
            elif source is self._listener:
                self._accept_worker()
            else:
                self._receive_from(source)
        return True

    def _accept_worker(self) -> None:
        with suppress(OSError):  # the worker has ended
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            worker = Worker(connection)
            self._selector.register(connection, selectors.EVENT_READ, worker)
            self._send(worker, Serving())

    def _receive_from(self, worker: Worker) -> None:
        """Handle the messages that a worker has sent."""
        while True:
            try:
                payload = worker.connection.recv(MAX_KEEPER_BYTES)
            except BlockingIOError:
                return
            except OSError:
                payload = b""
            if not payload:
                self._remove_worker(worker)
                return
            match _DECODER.decode(payload):
                case LeaseRequest() as request:
                    self._queue_request(worker, request)
                case EndLease(number, keeps_child):
                    lease = worker.leases.pop(number, None)
                    if lease is not None:
                        self._end_lease(lease, keeps_child=keeps_child)
                case EndReaders(number):
                    writer = worker.leases.get(number)
                    if writer is not None:
                        writer.needs_readers_ended = True
                        writer.have_readers_ended = False  # the worker is told again when they have

    def _remove_worker(self, worker: Worker) -> None:
        """End the leases of a worker that has ended."""
        self._selector.unregister(worker.connection)
        worker.connection.close()
        for lease in worker.leases.values():
            self._end_lease(lease, keeps_child=False)
        worker.leases.clear()

    def _send(self, worker: Worker, message: FromKeeper, *files: int) -> None:
        """Send a message to a worker, or disconnect one that has ended or reads nothing.

        The socket of a worker that reads has room: it gets two messages at most for each child that
        it is lent.
        """
        try:
            socket.send_fds(worker.connection, [encoded(message)], files)
        except OSError:
            with suppress(OSError):
                # `_receive_from` then removes the worker.
                worker.connection.shutdown(socket.SHUT_RDWR)

    # --- leases

    def _queue_request(self, worker: Worker, request: LeaseRequest) -> None:
        lease = ChildLease(worker, request)
        worker.leases[request.number] = lease
        self._owners.setdefault(request.owner, Owner()).add(lease)

    def _end_lease(self, lease: ChildLease, *, keeps_child: bool) -> None:
        """End a lease that waits or runs. Its child is kept or killed."""
        request = lease.request
        owner = self._owners[request.owner]
        child = lease.child
        if child is None:
            owner.remove_waiting(lease)
        else:
            self._running.remove(lease)
            owner.end(lease)
            if lease.is_slow:
                self._count_slow(lease, child, time.monotonic())
            if keeps_child:
                self._take_back(child)
            else:
                self._end_child_of(request, child)
        if owner.is_idle:
            del self._owners[request.owner]

    def _take_back(self, child: Child) -> None:
        """Keep a child for further leases, unless it is large or has ended."""
        if child.memory.bytes >= _KEPT_BYTES:
            self._retire(child)
        elif child.process in self._children:
            child.idle_since = time.monotonic()
            self._idle[child] = None

    def _end_child_of(self, request: LeaseRequest, child: Child) -> None:
        """End a child whose answer is no longer wanted, and empty the log that it may have left."""
        self._kill(child)
        may_leave_log = request.writes and request.has_file
        if not may_leave_log:
            return
        if child.process in self._children:
            # `_reap_children` empties the log when the process has ended.
            self._killed_writers[child.process] = request
        else:
            self._empty_log(request)

    def _lend_children(self) -> None:
        """Lend children to owners who wait, the owner first who was served longest ago.

        Each call starts one child at most, because a fork takes two milliseconds. Otherwise, when
        the statements of sixteen owners end at one deadline, all other owners would wait until
        sixteen children have been started.
        """
        self._has_started_child = False
        may_start = True
        for name in list(self._owners):
            if len(self._running) >= self._max_children:
                return
            may_start = self._lend_to(name, may_start=may_start)

    def _lend_to(self, name: bytes, *, may_start: bool) -> bool:
        """Lend children to one owner, and return whether a child may still be started."""
        owner = self._owners[name]
        while (lease := self._next_lease_of(owner)) is not None:
            child = self._take_idle_child_for(lease.request)
            if child is None and may_start:
                may_start = False
                child = self._start_child_for(lease)
            if child is None:
                break  # the next owner may have an idle child
            self._begin_lease(owner, lease, child)
            self._owners[name] = self._owners.pop(name)  # the last served is the last in order
        return may_start

    def _next_lease_of(self, owner: Owner) -> ChildLease | None:
        """Return the next lease of an owner that may begin; those that write come first."""
        has_place = owner.running_reads + owner.running_writes > 0
        is_half_taken = len(self._running) * 2 >= self._max_children
        if has_place and is_half_taken:
            return None  # the other half is for owners who have no place
        if owner.running_writes < WRITES_OF_AN_OWNER:
            for lease in owner.waiting_writes:
                if not self._running.has_writer(lease.request.key):
                    return lease
        if owner.running_reads < READS_OF_AN_OWNER:
            for lease in owner.waiting_reads:
                if not self._running.is_closed_to_readers(lease.request.key):
                    return lease
        return None

    def _begin_lease(self, owner: Owner, lease: ChildLease, child: Child) -> None:
        """Lend a child for a request that waits."""
        owner.begin(lease)
        lease.child = child
        lease.began_at = time.monotonic()
        lease.counted_s = processor_time_s(child.process)
        lease.next_check_at = lease.began_at + SLOW_S
        self._running.add(lease)
        lent = ChildLent(lease.request.number, child.process)
        self._send(lease.worker, lent, child.connection.fileno())

    # --- time

    def _seconds_until_due(self) -> float | None:
        """Return how long the process may wait for events; None if nothing will be due."""
        if self._has_started_child:
            return 0.0
        due = [
            child.retired_at + _CLOSING_S
            for child in self._children.values()
            if child.retired_at is not None
        ]
        for lease in self._running:
            if lease.next_check_at < math.inf:
                due.append(lease.next_check_at)
            if lease.waits_for_readers:
                due += self._ends_of_reads_for(lease)
        longest_idle = next(iter(self._idle), None)
        if longest_idle is not None:
            due.append(longest_idle.idle_since + _IDLE_S)
        if not due:
            return None
        return max(min(due) - time.monotonic(), 0.0)

    def _ends_of_reads_for(self, writer: ChildLease) -> list[float]:
        """Return when the readers of a writer's database are to be ended (SQ30).

        The lease of a killed child lasts until its worker ends it, which sends a message. Nothing
        is due for it meanwhile.
        """
        return [
            reader.began_at + _LONGEST_READ_S
            for reader in self._running.readers_to_end(writer)
            if self._is_alive(reader.child)
        ]

    def _do_what_is_due(self) -> None:
        """Do everything whose time has come."""
        now = time.monotonic()
        self._slow_down(now)
        self._slow_owners.forget(now)
        # Idle children are in the order in which they became idle.
        for child in list(self._idle):
            if now < child.idle_since + _IDLE_S:
                break
            self._retire(child)
        for child in list(self._children.values()):
            if child.retired_at is not None and now >= child.retired_at + _CLOSING_S:
                self._kill(child)
        for lease in self._running:
            if lease.waits_for_readers:
                self._end_readers_for(lease, now)

    def _slow_down(self, now: float) -> None:
        """Lower the priority of children that have computed for long in their lease."""
        for lease in self._running:
            child = lease.child
            if child is None or now < lease.next_check_at:
                continue
            # Only processor time counts, not the time in which the child waits for the disk or for
            # its worker.
            computed_s = processor_time_s(child.process) - lease.counted_s
            if not math.isfinite(computed_s):  # it has ended, which its worker sees
                lease.next_check_at = math.inf
                continue
            if not lease.is_slow and computed_s < SLOW_S:
                lease.next_check_at = now + max(SLOW_S - computed_s, _LEAST_CHECK_S)
                continue
            lease.is_slow = True
            lease.next_check_at = now + _SLOW_CHECK_S
            self._count_slow(lease, child, now)
            priority = self._slow_owners.priority_of(lease.request.owner, now)
            if child.priority < priority:
                child.priority = priority
                lower_priority(child.process, priority)

    def _count_slow(self, lease: ChildLease, child: Child, now: float) -> None:
        """Count what a slow statement has computed since it was counted last."""
        computed_s = processor_time_s(child.process) - lease.counted_s
        if not math.isfinite(computed_s):  # ended, perhaps before it was lent
            return
        lease.counted_s += computed_s
        self._slow_owners.add(lease.request.owner, computed_s, now)

    def _end_readers_for(self, writer: ChildLease, now: float) -> None:
        """End long reads of a writer's database, and tell its worker when no read is left (SQ30).

        They keep the log of the database from being emptied.
        """
        for reader in self._running.readers_to_end(writer):
            is_long = now >= reader.began_at + _LONGEST_READ_S
            if reader.child is not None and is_long:
                self._kill(reader.child)  # its worker then ends the lease
        if self._running.is_alone(writer):
            writer.have_readers_ended = True
            self._send(writer.worker, ReadersEnded(writer.request.number))

    # --- children

    def _take_idle_child_for(self, request: LeaseRequest) -> Child | None:
        """Return an idle child for a request, which then no longer counts as idle, or None."""
        space = space16_of(request.key)
        priority = self._slow_owners.priority_of(request.owner, time.monotonic())
        for child in reversed(self._idle):  # the most recently used first
            if child.space != space or child.priority is not priority:
                continue
            if child.has_folder or not request.has_file:
                del self._idle[child]
                return child
        return None

    def _start_child_for(self, lease: ChildLease) -> Child | None:
        """Return a new child for a lease that waits.

        Returns None if another process has to end first, or if no process can be started. In the
        latter case the lease is ended.
        """
        if len(self._children) >= self._max_children:
            # There is no place before an idle child has ended. If a child is ending already, its
            # place is enough.
            longest_idle = next(iter(self._idle), None)
            if longest_idle is not None and not self._ending:
                self._retire(longest_idle)
            return None
        request = lease.request
        try:
            priority = self._slow_owners.priority_of(request.owner, time.monotonic())
            child = self._fork_child(request, priority)
        except OSError:  # the system has no more processes or descriptors
            self._send(lease.worker, ChildNotStarted(request.number))
            del lease.worker.leases[request.number]
            self._end_lease(lease, keeps_child=False)
            return None
        self._has_started_child = True
        return child

    def _fork_child(self, request: LeaseRequest, priority: Priority) -> Child:
        """Fork a child for the space of a request.

        Raises OSError if the system allows no more.
        """
        ours, theirs = socket.socketpair()
        memory = MemoryReport()
        folder = (self._folder / file_of(request.key)).parent if request.has_file else None
        keeper_process = os.getpid()
        try:
            process = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if process == 0:
            try:
                # Before anything else, as the child would delay the keeper and the workers.
                lower_priority(0, priority)
                self._become_child(theirs, folder, keeper_process, memory)
            finally:
                os._exit(1)  # an error must not lead the child back into the keeper's loop
        theirs.close()
        child = Child(
            process=process,
            connection=ours,
            space=space16_of(request.key),
            has_folder=folder is not None,
            idle_since=time.monotonic(),
            memory=memory,
            priority=priority,
        )
        self._children[process] = child
        return child

    def _become_child(
        self,
        connection: socket.socket,
        folder: Path | None,
        keeper_process: int,
        memory: MemoryReport,
    ) -> None:
        """Serve a worker in the process that was just forked, and end it."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        # The keeper has connections of other children and of workers open. The child keeps only its
        # own, as descriptor 3.
        null_device = os.open(os.devnull, os.O_RDWR)
        os.dup2(null_device, 0)
        os.dup2(null_device, 1)
        os.dup2(null_device, 2)  # the node's log: whoever controls a child could write into it
        os.dup2(connection.fileno(), 3)
        most_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        os.closerange(4, most_files)
        with socket.socket(fileno=3) as own_connection:
            # What a confined child may no longer do comes before `_confine`.
            if folder is not None and not folder.exists():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                # so that the names of the new folders are durable
                for parent_folder in folder.parents[:2]:
                    sync_folder(parent_folder)
            memory.open_source()
            self._confine(folder, keeper_process)
            _child.serve(own_connection, folder, memory)
        os._exit(0)

    def _retire(self, child: Child) -> None:
        """Let a child without a lease close its databases and end.

        The last process that closes a database empties its log.
        """
        self._idle.pop(child, None)
        if child.process in self._children and child.process not in self._ending:
            self._ending.add(child.process)
            child.retired_at = time.monotonic()
            child.connection.close()

    def _is_alive(self, child: Child | None) -> bool:
        """Return whether a child is running, and was neither retired nor killed."""
        if child is None or self._children.get(child.process) is not child:
            return False
        return child.process not in self._ending

    def _kill(self, child: Child) -> None:
        """End a child at once; it counts as a process until it has ended."""
        self._idle.pop(child, None)
        if child.retired_at is not None:
            # It was asked to end before, and is not waited for any longer.
            child.retired_at = None
            os.kill(child.process, signal.SIGKILL)
            return
        if child.process in self._children and child.process not in self._ending:
            self._ending.add(child.process)
            os.kill(child.process, signal.SIGKILL)

    def _reap_children(self) -> None:
        """Forget the children that have ended."""
        while True:
            try:
                process, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            child = self._children.pop(process)
            self._ending.discard(process)
            child.connection.close()
            child.memory.close()
            self._idle.pop(child, None)
            killed_writer = self._killed_writers.pop(process, None)
            if killed_writer is not None:
                self._empty_log(killed_writer)

    def _empty_log(self, request: LeaseRequest) -> None:
        """Start a child that empties the log of a database whose writer was killed, and ends.

        Otherwise a log, which may be as long as the quota, stays until somebody writes again.
        """
        file = self._folder / file_of(request.key)
        log_bytes = _size_of(Path(f"{file}-wal"))
        # A request that writes empties a long log itself.
        if self._running.has_writer(request.key) or log_bytes <= _child.LEAST_LOG_BYTES:
            return
        with suppress(OSError):  # then the next write empties it
            child = self._fork_child(request, Priority.USUAL)
            child.connection.sendall(framed(_write_without_statements(file.name)))
            child.connection.shutdown(socket.SHUT_WR)
            child.retired_at = time.monotonic() + _EMPTYING_S  # it is killed if it takes longer

    def end_all(self) -> None:
        """End all children. Idle ones may close their databases first."""
        for child in list(self._children.values()):
            if child in self._idle:
                self._retire(child)
            else:
                self._kill(child)
        deadline = time.monotonic() + _CLOSING_S
        while self._children and time.monotonic() < deadline:
            time.sleep(_LEAST_CHECK_S)
            self._reap_children()
        for child in self._children.values():
            if child.retired_at is not None:  # it did not end in time
                self._kill(child)


def _write_without_statements(file: str) -> Run:
    """Return a request to write nothing. A child empties a long log before it runs statements."""
    return Run(
        file=file,
        creates=False,
        writes=True,
        wait_s=0,
        free_bytes=None,
        rights=frozenset(),
        limits=UNLIMITED,
        work=Batch([]),
    )


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
