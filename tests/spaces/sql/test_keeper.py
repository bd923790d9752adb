"""The order in which the keeper of SQL processes serves requests."""

import math
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from running_node import until
from sql_processes import sql_children, sql_processes

from spaces.keyspace import DATABASES_PREFIX
from spaces.sql.child_leases import Child, ChildLease, Worker
from spaces.sql.child_memory import MemoryReport
from spaces.sql.frames import (
    MAX_KEEPER_BYTES,
    ChildLent,
    EndLease,
    EndReaders,
    FromKeeper,
    LeaseRequest,
    ReadersEnded,
    Serving,
    encoded,
)
from spaces.sql.keeper import _Keeper
from spaces.sql.priorities import SLOW_BUDGET_S, Priority

_NEW_OWNERS = (2, 3, 4)
_KNOWN_OWNER = 5


def _request(number: int, owner: int, *, writes: bool = False) -> LeaseRequest:
    name = bytes([owner]) * 16
    return LeaseRequest(
        number=number,
        owner=name,
        key=DATABASES_PREFIX + name + name,
        writes=writes,
        has_file=False,
    )


def _received(worker: socket.socket) -> object:
    payload, files, _, _ = socket.recv_fds(worker, MAX_KEEPER_BYTES, 1)
    for file in files:
        os.close(file)
    return msgspec.msgpack.decode(payload, type=FromKeeper)


def _lent_number(worker: socket.socket) -> int:
    lent = _received(worker)
    assert isinstance(lent, ChildLent)
    return lent.number


def _parent_of(process: int) -> int:
    found = re.search(r"^PPid:\s+(\d+)$", Path(f"/proc/{process}/status").read_text(), re.M)
    assert found is not None
    return int(found[1])


@contextmanager
def _worker_with_a_child(folder: Path) -> Iterator[socket.socket]:
    """Connect a worker with a new keeper, which has lent it one child."""
    with (
        sql_processes(folder) as path,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as worker,
    ):
        worker.connect(str(path))
        assert _received(worker) == Serving()
        worker.send(encoded(_request(1, owner=_KNOWN_OWNER)))
        assert _lent_number(worker) == 1
        yield worker


def test_an_idle_child_is_lent_before_several_children_are_started(tmp_path: Path) -> None:
    """SQ29: an owner with an idle child does not wait until many others have a new child."""
    with _worker_with_a_child(tmp_path) as worker:
        worker.send(encoded(EndLease(1, keeps_child=True)))
        (child,) = sql_children()
        keeper = _parent_of(child)
        os.kill(keeper, signal.SIGSTOP)  # so that it finds all requests at once
        try:
            for owner in (*_NEW_OWNERS, _KNOWN_OWNER):
                worker.send(encoded(_request(owner, owner=owner)))
        finally:
            os.kill(keeper, signal.SIGCONT)
        assert [_lent_number(worker) for _ in range(4)] == [2, 5, 3, 4]


def _is_sleeping(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat").read_text()
    state = stat.rpartition(")")[2].split()[0]
    return state == "S"


def test_SQ30_a_killed_reader_costs_no_processor_time(tmp_path: Path) -> None:
    """SQ30: the keeper sleeps while the lease of a reader that it killed for a writer goes on."""
    with _worker_with_a_child(tmp_path) as worker:
        (reader,) = sql_children()
        keeper = _parent_of(reader)
        worker.send(encoded(_request(2, owner=_KNOWN_OWNER, writes=True)))
        assert _lent_number(worker) == 2
        worker.send(encoded(EndReaders(2)))
        until(lambda: reader not in sql_children())
        until(lambda: _is_sleeping(keeper))
        worker.send(encoded(EndLease(1, keeps_child=False)))
        assert _received(worker) == ReadersEnded(2)


def test_SQ29_a_child_that_ended_before_it_was_lent_uses_no_budget() -> None:
    """SQ29: the processor time of a child that has ended is not known, and counts as nothing: the
    budget of its owner goes on."""
    ours, theirs = socket.socketpair()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, ours, theirs:
        keeper = _Keeper(Path(), listener, 1, lambda _folder, _process: None)
        with subprocess.Popen(["true"]) as ended:
            ended.wait()
        child = Child(ended.pid, ours, b"", False, 0.0, MemoryReport(), Priority.USUAL)
        request = _request(1, owner=_KNOWN_OWNER)
        lease = ChildLease(Worker(theirs), request, child=child, counted_s=math.inf, is_slow=True)
        keeper._running.add(lease)
        keeper._slow_owners.add(request.owner, SLOW_BUDGET_S, now=100)
        keeper._slow_down(now=100)
        keeper._count_slow(lease, child, now=100)
        assert keeper._slow_owners.priority_of(request.owner, now=100) is Priority.LAST
        assert lease.next_check_at == math.inf
        child.memory.close()
