"""Who connects over loopback: Linux says whose each socket is. Every user of a machine may connect to 127.0.0.1.

Example:
    peer_user(("127.0.0.1", 40112), ("127.0.0.1", 8000))  # 1000
"""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

Address = tuple[str, int]

TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED: Final = "01"


def peer_user(client: Address, server: Address, *, tables: Sequence[Path] = TABLES) -> int | None:
    """Return the user id of the socket at the other end of a connection.

    Args:
        client, server: IPv4 address and port.
        tables: of sockets, as Linux writes them.
    Returns:
        None where no socket of this machine has that end, or it was closed: the system then names no user.
    """
    ends = {(_end(client, before), _end(server, before)) for before in ("", _MAPPED)}
    for table in tables:
        try:
            lines = table.read_text("ascii").splitlines()[1:]
        except (OSError, UnicodeDecodeError):
            continue
        for line in lines:
            columns = line.split()
            # A socket that its process has closed is listed as user 0.
            if len(columns) > 7 and (columns[1], columns[2]) in ends and columns[3] == _ESTABLISHED:
                return int(columns[7])
    return None


def _word(data: bytes) -> str:
    return f"{int.from_bytes(data, sys.byteorder):08X}"


_MAPPED: Final = f"{0:016X}{_word(bytes.fromhex('0000ffff'))}"


def _end(address: Address, before: str) -> str:
    return f"{before}{_word(socket.inet_aton(address[0]))}:{address[1]:04X}"
