"""The number of files that each of a node's processes may have open, and what it is used for.

A process that has no free file descriptor accepts no connection. Without a share for each purpose,
one owner's databases took the descriptors of all clients.
"""

import resource
import sys

from capabilities.frozen import frozen
from sealspace.cli.command_errors import ConfigurationError
from sealspace.open_files import raise_file_limit

from ..config.tree import Config
from ..logs import tell_operator

LEAST_FILES = 512
"""With fewer files, a node does not start."""

_KEPT = 128  # the store, the log, the metrics, connections to other servers
_OF_A_CONNECTION = 2  # its socket, and the file of a large value that is read or written
_OF_A_DATABASE = 3  # the database, its log and the log's index
_DATABASES = 256
_DATABASES_SHARE = 4  # at most this part of the files is for databases

_NEXT_STEP = (
    "raise the hard limit of open files (systemd: LimitNOFILE=, compose: ulimits.nofile,"
    " shell: ulimit -Hn)"
)


@frozen
class OpenFiles:
    """The use of one worker's files.

    Attributes:
        limit: the files that a worker may have open.
        wanted: the files that it needs for all that the settings allow.
        connections: the most connections of each listening socket.
        databases: the most open databases.
    """

    limit: int
    wanted: int
    connections: int
    databases: int


def planned(config: Config, limit: int) -> OpenFiles:
    """Divide a worker's files between connections and databases (H11)."""
    listeners = 1 if config.sms.listen is None else 2
    databases = 0 if config.is_shared else _DATABASES
    of_connections = config.http.max_connections * _OF_A_CONNECTION * listeners
    wanted = _KEPT + databases * _OF_A_DATABASE + of_connections
    free = max(limit - _KEPT, 1)
    databases = min(databases, max(free // _DATABASES_SHARE // _OF_A_DATABASE, 1))
    left = free - databases * _OF_A_DATABASE
    connections = max(left // _OF_A_CONNECTION // listeners, 1)
    return OpenFiles(limit, wanted, min(connections, config.http.max_connections), databases)


def own_files(config: Config) -> OpenFiles:
    """Return the use of this process's files, by the limit that it inherited."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return planned(config, sys.maxsize if soft == resource.RLIM_INFINITY else soft)


def allow_open_files(config: Config) -> OpenFiles:
    """Raise the limit of open files for this process and those that it starts (H11).

    If the limit stays below what the settings need, the operator is told what each worker has.

    Raises:
        ConfigurationError: the limit is too low to run a node.
    """
    wanted = planned(config, sys.maxsize).wanted
    files = planned(config, raise_file_limit(max(wanted, LEAST_FILES)))
    if files.limit < LEAST_FILES:
        raise ConfigurationError(
            f"the node may open only {files.limit} files: it needs {LEAST_FILES} at least, and"
            f" {wanted} for its settings",
            hint=_NEXT_STEP,
        )
    if files.limit < wanted:
        tell_operator(
            f"the node may open only {files.limit} files, and its settings need {wanted}: each"
            f" worker has at most {files.connections} connections and {files.databases} open"
            f" databases; next: {_NEXT_STEP}",
            level="warning",
        )
    return files
