"""The keeper of the processes that run SQL statements (SQ29).

It starts children by forking itself, lends them to the node's workers, and ends them. So it has one
thread, opens no database, and serves all workers of a node: the places that it counts are the
node's.

- A child serves one space, and one worker at a time.
- A space's owner has few places for statements that read, and others for those that write. As soon
  as half of all places are taken, a place is given only to owners who have none.
- Between two forks, requests for which a child is idle are served.
- Of a database, one lease writes at a time; the others wait here, without a place.
- A child that has computed for 20 ms in one lease gets the lowest priority. So do further children
  of that owner from their start, for a while: a slow statement is often followed by others.
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
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from capabilities.sql_caveats import UNLIMITED

from ..store.durable import sync_folder
from . import child as _child
from .child_memory import MemoryReport
from .database_rows import file_of, space16_of
from .frames import (
    MAX_KEEPER_BYTES,
    Ask,
    End,
    FromKeeper,
    Given,
    NotStarted,
    Run,
    Serving,
    Shorten,
    Shortened,
    ToKeeper,
    encoded,
    framed,
)
from .requests import Batch

READS_OF_AN_OWNER = 2
WRITES_OF_AN_OWNER = 2
SLOW_S = 0.02
_SLOW_OWNER_S = 10.0
_LEAST_LOOK_S = 0.005
_IDLE_S = 60.0
_LONGEST_READ_S = 0.5  # of those that keep a log from being emptied
_CLOSING_S = 1.0
_EMPTYING_S = 30.0
_KEPT_BYTES = 64 * 1024 * 1024
_BACKLOG = 64
_DECODER: msgspec.msgpack.Decoder[ToKeeper] = msgspec.msgpack.Decoder(ToKeeper)


@dataclass(eq=False, slots=True)
class _Child:
    """A child process.

    Attributes:
        process: its id.
        connection: the end that workers use.
        space: the hash of the space that it serves.
        has_folder: whether it can reach the folder of that space.
        idle_since: when its last lease ended, or it was started, in seconds of the monotonic clock.
        memory: how much it uses, as it reports itself.
        is_slow: whether it has low priority, which cannot be taken back.
        retired_at: when it was asked to end, unless it was killed.
    """

    process: int
    connection: socket.socket
    space: bytes
    has_folder: bool
    idle_since: float
    memory: MemoryReport
    is_slow: bool = False
    retired_at: float | None = None


@dataclass(eq=False, slots=True)
class _Lease:
    """A child that is lent, or a request for one.

    Attributes:
        worker: the one that asked for it.
        child: None while the lease waits.
        began_at: when the child was lent, in seconds of the monotonic clock.
        cpu_at_start_s: how long the child had computed then.
        due_at: when it is checked next whether the child has computed for too long.
        shortens: whether its database has to be free of readers until it ends.
        is_alone: whether its worker was told that the database is free of readers.
        is_slow: whether the child has computed for too long in this lease.
    """

    worker: "_Worker"
    ask: Ask
    child: _Child | None = None
    began_at: float = 0.0
    cpu_at_start_s: float = 0.0
    due_at: float = 0.0
    shortens: bool = False
    is_alone: bool = False
    is_slow: bool = False


@dataclass(eq=False, slots=True)
class _Worker:
    """The connection of a worker, and its leases by number."""

    connection: socket.socket
    leases: dict[int, _Lease] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class _Owner:
    """The requests of an owner that wait, and how many run."""

    waiting_reads: deque[_Lease] = field(default_factory=deque)
    waiting_writes: deque[_Lease] = field(default_factory=deque)
    reads: int = 0
    writes: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether no request of this owner waits or runs."""
        return not (self.waiting_reads or self.waiting_writes or self.reads or self.writes)

    def waiting(self, *, writes: bool) -> deque[_Lease]:
        """Return the queue of the requests that write, or of those that only read."""
        return self.waiting_writes if writes else self.waiting_reads


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
        processes: int,
        confine: Callable[[Path | None, int], None],
    ) -> None:
        self._folder = folder
        self._listener = listener
        self._most = processes
        self._confine = confine
        self._selector = selectors.DefaultSelector()
        self._children = dict[int, _Child]()
        self._idle = dict[_Child, None]()  # the longest idle first
        self._ending = set[int]()  # retired or killed, and not reaped
        self._wrote = dict[int, Ask]()  # by killed process, what it wrote to
        self._owners = dict[bytes, _Owner]()  # those that were served last come last
        self._running = dict[_Lease, None]()
        self._slow_until = dict[bytes, float]()  # by owner; those that were slow last come last
        self._has_starts_left = False  # a request waits for the child of the next turn

    # --- events

    def run(self, lifeline: int) -> None:
        """Handle events until the node stops."""
        woken, wakeup = socket.socketpair()
        for end in (woken, wakeup, self._listener):
            end.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # the signal itself writes to the socket
        self._listener.listen(_BACKLOG)
        self._selector.register(woken, selectors.EVENT_READ, woken)
        self._selector.register(lifeline, selectors.EVENT_READ, lifeline)
        self._selector.register(self._listener, selectors.EVENT_READ, self._listener)
        while self._handle_events(woken, lifeline):
            self._do_what_is_due()
            self._lend()

    def _handle_events(self, woken: socket.socket, lifeline: int) -> bool:
        """Wait for events, and handle them.

        Returns False as soon as the process is to end: after a signal, or when the lifeline ends.
        """
        for key, _ in self._selector.select(self._seconds_until_due()):
            if key.data is woken:
                received = woken.recv(4096)
                if signal.SIGTERM in received or signal.SIGINT in received:
                    return False
                self._reap()
            elif key.data is lifeline:
                if not os.read(lifeline, 4096):
                    return False
            else:
                self._hear_from(key.data)
        return True

    def _hear_from(self, sender: "socket.socket | _Worker") -> None:
        if isinstance(sender, _Worker):
            self._hear(sender)
        else:
            self._accept()

    def _accept(self) -> None:
        with suppress(OSError):  # the worker has ended
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            worker = _Worker(connection)
            self._selector.register(connection, selectors.EVENT_READ, worker)
            self._tell(worker, Serving())

    def _hear(self, worker: _Worker) -> None:
        """Take the messages that a worker has sent."""
        while True:
            try:
                payload = worker.connection.recv(MAX_KEEPER_BYTES)
            except BlockingIOError:
                return
            except OSError:
                payload = b""
            if not payload:
                self._lost(worker)
                return
            match _DECODER.decode(payload):
                case Ask() as ask:
                    self._ask(worker, ask)
                case End(number, keeps):
                    ended = worker.leases.pop(number, None)
                    if ended is not None:
                        self._end(ended, keeps=keeps)
                case Shorten(number):
                    writer = worker.leases.get(number)
                    if writer is not None:
                        writer.shortens = True
                        writer.is_alone = False  # the worker is told again when it is alone

    def _lost(self, worker: _Worker) -> None:
        """End the leases of a worker that has ended."""
        self._selector.unregister(worker.connection)
        worker.connection.close()
        for lease in worker.leases.values():
            self._end(lease, keeps=False)
        worker.leases.clear()

    def _tell(self, worker: _Worker, message: FromKeeper, *files: int) -> None:
        """Send a message to a worker, or disconnect one that has ended or reads nothing.

        The socket of a worker that reads has room: it gets two messages at most for each child that
        it is lent.
        """
        try:
            socket.send_fds(worker.connection, [encoded(message)], files)
        except OSError:
            with suppress(OSError):
                worker.connection.shutdown(socket.SHUT_RDWR)  # `_hear` then ends its leases

    # --- leases

    def _ask(self, worker: _Worker, ask: Ask) -> None:
        lease = _Lease(worker, ask)
        worker.leases[ask.number] = lease
        owner = self._owners.setdefault(ask.owner, _Owner())
        owner.waiting(writes=ask.writes).append(lease)

    def _end(self, lease: _Lease, *, keeps: bool) -> None:
        """End a lease that waits or runs; its child is kept or killed."""
        owner = self._owners[lease.ask.owner]
        child = lease.child
        if child is None:
            owner.waiting(writes=lease.ask.writes).remove(lease)
        else:
            del self._running[lease]
            if lease.ask.writes:
                owner.writes -= 1
            else:
                owner.reads -= 1
            if keeps:
                self._take_back(child)
            else:
                self._end_with_lease(child, lease.ask)
        if owner.is_idle:
            del self._owners[lease.ask.owner]

    def _take_back(self, child: _Child) -> None:
        """Keep a child for further leases, unless it is large or has ended."""
        if child.memory.bytes >= _KEPT_BYTES:
            self._retire(child)
        elif child.process in self._children:
            child.idle_since = time.monotonic()
            self._idle[child] = None

    def _end_with_lease(self, child: _Child, ask: Ask) -> None:
        """End a child whose answer is no longer wanted, and empty the log that it may have left."""
        self._kill(child)
        may_leave_log = ask.writes and ask.has_file
        if not may_leave_log:
            return
        if child.process in self._children:
            self._wrote[child.process] = ask  # `_reap` empties the log when the process has ended
        else:
            self._empty_log(ask)

    def _lend(self) -> None:
        """Lend children to owners who wait, the owner first who was served longest ago.

        Each call starts one child at most, because a fork takes two milliseconds. Otherwise, when
        the statements of sixteen owners end at one deadline, all other owners would wait until
        sixteen children have been started.
        """
        self._has_starts_left = False
        may_start = True
        for name in list(self._owners):
            if len(self._running) >= self._most:
                return
            may_start = self._lend_to(name, may_start=may_start)

    def _lend_to(self, name: bytes, *, may_start: bool) -> bool:
        """Lend children to one owner, and return whether a child may still be started."""
        owner = self._owners[name]
        while (lease := self._next_of(owner)) is not None:
            child = self._idle_child_for(lease.ask)
            if child is None and may_start:
                may_start = False
                child = self._started_for(lease)
            if child is None:
                break  # the next owner may have an idle child
            self._give(owner, lease, child)
            self._owners[name] = self._owners.pop(name)  # the last served is the last in order
        return may_start

    def _started_for(self, lease: _Lease) -> _Child | None:
        """Return a new child; None if another process has to end first, or the fork failed."""
        try:
            child = self._new_child_for(lease.ask)
        except OSError:  # the system has no more processes or descriptors
            self._tell(lease.worker, NotStarted(lease.ask.number))
            not_begun = lease.worker.leases.pop(lease.ask.number)
            self._end(not_begun, keeps=False)
            return None
        self._has_starts_left = child is not None
        return child

    def _next_of(self, owner: _Owner) -> _Lease | None:
        """Return the next lease of an owner that may begin; those that write come first."""
        has_place = owner.reads + owner.writes > 0
        is_half_taken = len(self._running) * 2 >= self._most
        if has_place and is_half_taken:
            return None  # the other half is for owners who have no place
        if owner.writes < WRITES_OF_AN_OWNER:
            for lease in owner.waiting_writes:
                # Of a database, one lease writes at a time.
                if not any(other.ask.writes for other in self._leases_of(lease.ask.key)):
                    return lease
        if owner.reads < READS_OF_AN_OWNER:
            for lease in owner.waiting_reads:
                # No lease begins to read while another one waits for the log to be emptied.
                if not any(other.shortens for other in self._leases_of(lease.ask.key)):
                    return lease
        return None

    def _leases_of(self, key: bytes) -> Iterator[_Lease]:
        """Yield the running leases of a database, by the key of its row."""
        for lease in self._running:
            if lease.ask.key == key:
                yield lease

    def _give(self, owner: _Owner, lease: _Lease, child: _Child) -> None:
        if lease.ask.writes:
            owner.waiting_writes.remove(lease)
            owner.writes += 1
        else:
            owner.waiting_reads.remove(lease)
            owner.reads += 1
        if lease.ask.owner in self._slow_until:
            _give_low_priority(child)
        lease.child = child
        lease.began_at = time.monotonic()
        lease.cpu_at_start_s = _cpu_s(child)
        lease.due_at = lease.began_at + SLOW_S
        self._running[lease] = None
        self._tell(lease.worker, Given(lease.ask.number), child.connection.fileno())

    # --- time

    def _seconds_until_due(self) -> float | None:
        """Return how long the process may wait for events; None if nothing will be due."""
        if self._has_starts_left:
            return 0.0
        due = [
            child.retired_at + _CLOSING_S
            for child in self._children.values()
            if child.retired_at is not None
        ]
        due += [
            lease.due_at for lease in self._running if lease.child is not None and not lease.is_slow
        ]
        longest_idle = next(iter(self._idle), None)
        if longest_idle is not None:
            due.append(longest_idle.idle_since + _IDLE_S)
        for writer in self._running:
            if writer.shortens and not writer.is_alone:
                due += [lease.began_at + _LONGEST_READ_S for lease in self._readers_of(writer)]
        if not due:
            return None
        return max(min(due) - time.monotonic(), 0.0)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        self._slow_down(now)
        # Owners are in the order in which they stop being slow, and idle children in the order in
        # which they became idle. So each loop ends at the first that is not due.
        for owner in list(self._slow_until):
            if now < self._slow_until[owner]:
                break
            del self._slow_until[owner]
        for child in list(self._idle):
            if now < child.idle_since + _IDLE_S:
                break
            self._retire(child)
        for child in list(self._children.values()):
            if child.retired_at is not None and now >= child.retired_at + _CLOSING_S:
                self._kill(child)
        for writer in self._running:
            if writer.shortens and not writer.is_alone:
                self._shorten(writer, now)

    def _slow_down(self, now: float) -> None:
        """Give low priority to children that have computed for long in their lease.

        Their owner then counts as slow for a while. Each such owner has used 20 ms of processor
        time, so there are few of them.
        """
        for lease in self._running:
            child = lease.child
            if child is None or lease.is_slow or now < lease.due_at:
                continue
            # Only processor time counts, not the time in which the child waits for the disk or for
            # its worker.
            left_s = SLOW_S - (_cpu_s(child) - lease.cpu_at_start_s)
            if left_s > 0:
                lease.due_at = now + max(left_s, _LEAST_LOOK_S)
                continue
            lease.is_slow = True
            _give_low_priority(child)
            # Removed first, so that the owner becomes the last in order.
            self._slow_until.pop(lease.ask.owner, None)
            self._slow_until[lease.ask.owner] = now + _SLOW_OWNER_S

    def _readers_of(self, writer: _Lease) -> list[_Lease]:
        """Return the leases that read a database beside the one that writes, without exports."""
        key = writer.ask.key
        leases = [lease for lease in self._leases_of(key) if lease is not writer]
        return [lease for lease in leases if not lease.ask.is_export]

    def _shorten(self, writer: _Lease, now: float) -> None:
        """End the requests that keep the log of a database from being emptied (SQ30)."""
        for lease in self._readers_of(writer):
            if now >= lease.began_at + _LONGEST_READ_S and lease.child is not None:
                self._kill(lease.child)
        # An export is not ended, so the writer is alone only after it.
        if all(lease is writer for lease in self._leases_of(writer.ask.key)):
            writer.is_alone = True
            self._tell(writer.worker, Shortened(writer.ask.number))

    # --- children

    def _idle_child_for(self, ask: Ask) -> _Child | None:
        """Return an idle child for a request, if there is one."""
        space = space16_of(ask.key)
        is_slow = ask.owner in self._slow_until
        for child in reversed(self._idle):  # the most recently used first
            if child.space != space or child.is_slow != is_slow:
                continue
            if child.has_folder or not ask.has_file:
                del self._idle[child]
                return child
        return None

    def _new_child_for(self, ask: Ask) -> _Child | None:
        """Return a new child for a request; None if there is no place now."""
        if len(self._children) >= self._most:
            # There is no place before an idle child has ended. If a child is ending already, its
            # place is enough.
            longest_idle = next(iter(self._idle), None)
            if longest_idle is not None and not self._ending:
                self._retire(longest_idle)
            return None
        return self._start(ask, is_slow=ask.owner in self._slow_until)

    def _start(self, ask: Ask, *, is_slow: bool) -> _Child:
        """Fork a child for the space of a request, with low priority if `is_slow`.

        Raises OSError if the system allows no more.
        """
        ours, theirs = socket.socketpair()
        memory = MemoryReport()
        folder = (self._folder / file_of(ask.key)).parent if ask.has_file else None
        parent = os.getpid()
        try:
            process = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if process == 0:
            try:
                if is_slow:
                    # Before anything else, as the child would delay the keeper and the workers.
                    _lower_priority_of(0)
                self._become_child(theirs, folder, parent, memory)
            finally:
                os._exit(1)  # an error must not lead the child back into the keeper's loop
        theirs.close()
        child = _Child(
            process=process,
            connection=ours,
            space=space16_of(ask.key),
            has_folder=folder is not None,
            idle_since=time.monotonic(),
            memory=memory,
            is_slow=is_slow,
        )
        self._children[process] = child
        return child

    def _become_child(
        self, connection: socket.socket, folder: Path | None, parent: int, memory: MemoryReport
    ) -> None:
        """Serve a worker in the process that was just forked, and end it."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        # The keeper has connections of other children and of workers open. The child keeps only its
        # own, as descriptor 3.
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)  # the node's log: whoever controls a child could write lines into it
        os.dup2(connection.fileno(), 3)
        most_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        os.closerange(4, most_files)
        with socket.socket(fileno=3) as own:
            # What a confined child may no longer do comes before `_confine`.
            if folder is not None and not folder.exists():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                # so that the names of the new folders are durable
                for parent_folder in folder.parents[:2]:
                    sync_folder(parent_folder)
            memory.begin()
            self._confine(folder, parent)
            _child.serve(own, folder, memory)
        os._exit(0)

    def _retire(self, child: _Child) -> None:
        """Let a child without a lease close its databases and end.

        The last process that closes a database empties its log.
        """
        self._idle.pop(child, None)
        if child.process in self._children and child.process not in self._ending:
            self._ending.add(child.process)
            child.retired_at = time.monotonic()
            child.connection.close()

    def _kill(self, child: _Child) -> None:
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

    def _reap(self) -> None:
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
            ask = self._wrote.pop(process, None)
            if ask is not None:
                self._empty_log(ask)

    def _empty_log(self, ask: Ask) -> None:
        """Have a child empty the log of a database whose writer was killed, and end.

        Otherwise a log, which may be as long as the quota, stays until somebody writes again.
        """
        file = self._folder / file_of(ask.key)
        # A request that writes empties a long log itself.
        is_written = any(other.ask.writes for other in self._leases_of(ask.key))
        if is_written or _size_of(Path(f"{file}-wal")) <= _child.LEAST_LOG_BYTES:
            return
        with suppress(OSError):  # then the next write empties it
            child = self._start(ask, is_slow=False)
            child.connection.sendall(framed(_nothing_in(file.name)))
            child.connection.shutdown(socket.SHUT_WR)
            child.retired_at = time.monotonic() + _EMPTYING_S  # it is killed if it takes longer

    def end_all(self) -> None:
        """End all children: idle ones close their databases first."""
        for child in list(self._children.values()):
            if child in self._idle:
                self._retire(child)
            else:
                self._kill(child)
        deadline = time.monotonic() + _CLOSING_S
        while self._children and time.monotonic() < deadline:
            time.sleep(_LEAST_LOOK_S)
            self._reap()
        for child in self._children.values():
            if child.retired_at is not None:  # it did not end in time
                self._kill(child)


def _nothing_in(file: str) -> Run:
    """Return a write request without statements. A child empties a long log before it runs one."""
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


def _give_low_priority(child: _Child) -> None:
    if not child.is_slow:
        child.is_slow = True
        _lower_priority_of(child.process)


def _lower_priority_of(process: int) -> None:
    """Let a process compute when nothing else wants the processor; 0 is this process.

    A mere nice value of 19 is not enough: the kernel lets such a process finish its turn of some
    milliseconds when a worker wakes, and p99 of other owners was twice as long.
    """
    with suppress(OSError):  # it has ended, or the service manager forbids the call
        os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _cpu_s(child: _Child) -> float:
    """Return how long a child has computed; infinity if it has ended.

    The number of the clock of another process is defined by Linux (`clock_getcpuclockid`).
    """
    try:
        return time.clock_gettime(~child.process << 3 | 2)
    except OSError:
        return math.inf
