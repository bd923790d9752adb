"""Confinement of child processes that run SQL statements.

A statement of somebody else is executed by SQLite, a program in C of 250,000 lines. Whoever finds
an error there controls a child, which can then reach the databases of one space and the connection
that it has.
"""

import resource
import time
from pathlib import Path

from .allowed_calls import SQL_CHILD
from .landlock import (
    MAKE_FILE,
    READ_FILE,
    READ_FOLDER,
    REMOVE_FILE,
    TRUNCATE,
    WRITE_FILE,
    landlock_version,
    restrict_to,
)
from .privileges import confine
from .resource_limits import limit
from .system_calls import allow_only

_MOST_FILES = 272
"""Open files: four for each of a space's 64 databases, and 16 for the child itself and a copy."""
_MOST_DATA_BYTES = 256 * 1024 * 1024
_DATABASES = READ_FILE | READ_FOLDER | WRITE_FILE | TRUNCATE | MAKE_FILE | REMOVE_FILE
_RANDOM = "/dev/urandom"
"""SQLite reads it once in each process. Without it, its random numbers are the time and the id."""


def confine_sql_child(folder: Path | None, parent: int) -> None:
    """Permanently confine this process to the databases of one space.

    Call it after a fork, in a process with one thread that has opened its connection and no
    database. Where the kernel has no Landlock, the process still opens every file that its user
    may open.

    Args:
        folder: the folder of the space's databases, which exists; None for a space without one,
            whose databases are in memory.
        parent: process id of the parent. The process ends with it.

    Raises:
        OSError: a step failed. The caller must end the process.
    """
    confine(None, parent)
    time.tzset()  # SQL functions know the local time; later, the file of the time zone is closed
    if landlock_version() > 0:
        paths = {_RANDOM: READ_FILE} if Path(_RANDOM).exists() else {}
        if folder is not None:
            paths[str(folder)] = _DATABASES
        restrict_to(paths)
    # The quota of the space limits its databases, whose size is not known here.
    limit(files=_MOST_FILES, file_bytes=None)
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_DATA_BYTES, _MOST_DATA_BYTES))
    allow_only(SQL_CHILD)
