"""The settings of the process that keeps those for SQL statements.

They are apart from those of other processes, so that this one imports little: its children inherit
all its memory.
"""

from capabilities.frozen_struct import FrozenStruct

READY = b"ready"
"""The line that every process of a node writes to standard output once it is ready."""
MAX_KEEPER_LAUNCH_BYTES = 65_536
SQL_SOCKET = "sql.sock"
"""The name of the keeper's socket in the data folder."""


class KeeperLaunch(FrozenStruct):
    """The message that the supervisor sends as one line of JSON.

    Attributes:
        folder: of all databases.
        listen_fd: the descriptor of the socket to listen on.
        processes: the most processes for statements.
    """

    folder: str
    listen_fd: int
    processes: int
