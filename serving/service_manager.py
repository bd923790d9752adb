"""Reports of a service's state to a service manager such as systemd.

A node and a runner report when they accept requests, and when they begin to stop.

Example:
    report_to_manager(MANAGER_READY)
"""

import os
import socket
from contextlib import suppress

MANAGER_READY = b"READY=1\nSTATUS=accepting requests"
MANAGER_STOPPING = b"STOPPING=1\nSTATUS=finishing requests"


def report_to_manager(state: bytes) -> None:
    """Notify systemd of a state such as `READY=1`.

    The message (`sd_notify`) is sent once, without waiting. The manager names a datagram socket in
    `NOTIFY_SOCKET`. Without one nothing is sent, and a manager that does not listen is ignored.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):  # an abstract name, which the kernel marks with a NUL
        address = f"\0{address[1:]}"
    elif not address.startswith("/"):  # unset, or not a Unix socket, such as `vsock:…`
        return
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        sender.setblocking(False)
        sender.sendto(state, address)
