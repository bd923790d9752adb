"""What the supervisor reports to the service manager that started it: ready, and stopping (`sd_notify` of systemd).

The manager names a datagram socket in `NOTIFY_SOCKET`; where it names none, nothing is sent.
"""

import os
import socket
from contextlib import suppress
from typing import Final

READY: Final = b"READY=1\nSTATUS=accepting requests"
STOPPING: Final = b"STOPPING=1\nSTATUS=finishing requests"

_VARIABLE: Final = "NOTIFY_SOCKET"


def report_to_manager(state: bytes) -> None:
    """Send a state, once, without waiting; a manager that does not listen is no reason to stop.

    Args:
        state: lines of `NAME=value`.
    """
    address = os.environ.get(_VARIABLE, "")
    if not address.startswith(("/", "@")):  # a path, or an abstract name; a VM's `vsock:` is not for a process here
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        sender.sendto(state, f"\0{address[1:]}" if address.startswith("@") else address)
