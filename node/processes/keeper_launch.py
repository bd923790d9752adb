"""The settings of the keeper, the process that starts the processes for SQL statements.

They are not in the module with the settings of other processes, so that the keeper imports little:
its children inherit all its memory.
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
        folder: path of the folder that contains all databases.
        listen_fd: file descriptor of the socket to listen on.
        processes: the largest number of processes for statements.
    """

    folder: str
    listen_fd: int
    processes: int
