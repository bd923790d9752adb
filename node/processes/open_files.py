"""The number of files that each of a node's processes may have open, and what it is used for.

A process that has no free file descriptor accepts no connection. So each purpose has a share.
"""

import resource
import sys

from capabilities.frozen import frozen
from sealspace.service.command_errors import ConfigurationError
from serving.open_files import raise_file_limit

from ..config.tree import Config
from ..logs import tell_operator

LEAST_FILES = 512
"""With fewer files, a node does not start."""

_RESERVED_FILES = 128  # the store, the log, the metrics, connections to other servers
_FILES_OF_A_CONNECTION = 2  # its socket, and the file of a large value that is read or written

_NEXT_STEP = (
    "raise the hard limit of open files (systemd: LimitNOFILE=, compose: ulimits.nofile,"
    " shell: ulimit -Hn)"
)


@frozen
class OpenFiles:
    """The use of one worker's files.

    Attributes:
        limit: how many files a worker may have open.
        wanted: how many it needs if every limit in the settings is reached.
        connections: the largest number of connections of each listening socket.
    """

    limit: int
    wanted: int
    connections: int


def plan_files(config: Config, limit: int) -> OpenFiles:
    """Divide the files that a worker may have open among their purposes (H11).

    A worker has one file for each process that runs SQL statements for it. The files that such a
    process has open itself do not count.
    """
    listeners = 1 if config.sms.listen is None else 2
    reserved = _RESERVED_FILES
    if not config.is_shared:  # otherwise there are no SQL databases (SQ2)
        reserved += config.sql.processes
    wanted = reserved + config.http.max_connections * _FILES_OF_A_CONNECTION * listeners
    possible_connections = max((limit - reserved) // _FILES_OF_A_CONNECTION // listeners, 1)
    return OpenFiles(
        limit=limit,
        wanted=wanted,
        connections=min(possible_connections, config.http.max_connections),
    )


def own_files(config: Config) -> OpenFiles:
    """Return the use of this process's files, for the limit that the process inherited."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return plan_files(config, sys.maxsize if soft == resource.RLIM_INFINITY else soft)


def allow_open_files(config: Config) -> OpenFiles:
    """Raise the limit of open files for this process and those that it starts (H11).

    If the limit stays below what the settings need, the operator is told what each worker has.

    Raises:
        ConfigurationError: the limit is too low to run a node.
    """
    wanted = plan_files(config, sys.maxsize).wanted  # it does not depend on the limit
    limit = raise_file_limit(max(wanted, LEAST_FILES))
    files = plan_files(config, limit)
    if files.limit < LEAST_FILES:
        raise ConfigurationError(
            f"the node may open only {files.limit} files: it needs {LEAST_FILES} at least, and"
            f" {wanted} for its settings",
            hint=_NEXT_STEP,
        )
    if files.limit < wanted:
        tell_operator(
            f"the node may open only {files.limit} files, and its settings need {wanted}: each"
            f" worker has at most {files.connections} connections; next: {_NEXT_STEP}",
            level="warning",
        )
    return files
