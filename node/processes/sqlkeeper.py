"""The process that starts and lends the processes that run SQL statements (SQ29).

The supervisor starts it. It gets no root secret, and it reads no store.
"""

import os
import socket
import sys
from pathlib import Path

import msgspec

from serving.confinement.privileges import undump
from serving.confinement.sql_children import confine_sql_child
from spaces.sql.keeper import run_keeper

from .keeper_launch import MAX_KEEPER_LAUNCH_BYTES, READY, KeeperLaunch


def main() -> int:
    """Run the keeper until SIGTERM, or until the supervisor has ended."""
    line = sys.stdin.buffer.readline(MAX_KEEPER_LAUNCH_BYTES)
    if not line.endswith(b"\n"):  # the supervisor is gone
        return 0
    launch = msgspec.json.decode(line, type=KeeperLaunch)
    undump()
    run_keeper(
        Path(launch.folder),
        socket.socket(fileno=launch.listen_fd),
        processes=launch.processes,
        confine=confine_sql_child,
        ready=_report_ready,
        lifeline=os.dup(sys.stdin.fileno()),
    )
    return 0


def _report_ready() -> None:
    sys.stdout.buffer.write(READY + b"\n")
    sys.stdout.buffer.flush()
