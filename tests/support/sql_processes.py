"""The processes that run SQL statements, for tests that have a node in their own process.

The keeper is started as the supervisor starts it, but only when it is first needed: few tests of
many use a database.
"""

import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from live_processes import started_by

from node.processes.keeper_launch import SQL_SOCKET, KeeperLaunch
from node.processes.launch import own_program
from spaces.sql.database_rows import DATABASES_FOLDER
from spaces.store.lmdb.engine import socket_path_for

PROCESSES = 8
_BUSY_S = 0.7
_CODE = "from node.processes.sqlkeeper import main; sys.exit(main())"
OF_ONE_PRIORITY = (
    "from refused_call import refuse_call; refuse_call(144, 119); refuse_call(141, 140); "
)
"""Refuses `sched_setscheduler` and `setpriority`, as a service manager may. A statement of the
lowest priority would not run at all on a busy machine."""
before_keeper = OF_ONE_PRIORITY
"""What a keeper runs first."""


@contextmanager
def sql_processes(data: Path, processes: int = PROCESSES) -> Iterator[Path]:
    """Listen for workers until the block ends, and yield the path of the socket.

    Args:
        data: the data folder.
        processes: the most processes that run statements.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = socket_path_for(data, SQL_SOCKET)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        ended, end = os.pipe()
        launch = KeeperLaunch(str(data / DATABASES_FOLDER), listener.fileno(), processes)
        waiting = threading.Thread(target=_keep, args=(listener, launch, ended))
        waiting.start()
        try:
            yield path
        finally:
            os.close(end)
            waiting.join()
            os.close(ended)
            path.unlink(missing_ok=True)


def _keep(listener: socket.socket, launch: KeeperLaunch, ended: int) -> None:
    """Start the keeper with the first connection, and end it with the block."""
    if ended in wait_for_any(listener.fileno(), ended):
        return
    with subprocess.Popen(
        own_program(before_keeper + _CODE, "sqlkeeper"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=(listener.fileno(),),
    ) as keeper:
        assert keeper.stdin is not None  # stdin=PIPE
        keeper.stdin.write(msgspec.json.encode(launch) + b"\n")
        keeper.stdin.flush()
        wait_for_any(ended)
        keeper.stdin.close()  # the keeper ends with it


def wait_for_any(*descriptors: int) -> set[int]:
    """Wait until one of the processes can be read or has ended, and return all such processes.

    A process that has many nodes has descriptors above 1,023, which `select()` refuses.
    """
    waiting = select.poll()
    for descriptor in descriptors:
        waiting.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in waiting.poll()}


def sql_children(process: int | None = None) -> list[int]:
    """Return the processes that run SQL statements for a node.

    Args:
        process: of the node; this process if it is left out.
    """
    keepers = [pid for pid in started_by(process or os.getpid()) if _is_keeper(pid)]
    return [child for keeper in keepers for child in started_by(keeper)]


def busy_sql_children(process: int | None = None) -> list[int]:
    """Return the SQL processes that have computed for longer than a usual request takes.

    Such a child is not used again, so it runs a statement.
    """
    return [child for child in sql_children(process) if _cpu_s(child) > _BUSY_S]


def _cpu_s(process: int) -> float:
    try:
        return time.clock_gettime(~process << 3 | 2)
    except OSError:
        return 0.0


def _is_keeper(process: int) -> bool:
    try:
        return b"sqlkeeper" in Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
