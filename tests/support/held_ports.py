"""Ports that a test chooses for a program before the program binds them.

A port that was free a moment ago may be given to any other process of the machine. One that is held
here is given to nobody, and a program that sets `SO_REUSEADDR`, as servers do, can still bind it.

Example:
    with held_ports(1) as (port,):
        process = subprocess.Popen(["server", "--port", str(port)])
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def held_ports(count: int) -> Iterator[list[int]]:
    """Hold free ports of 127.0.0.1 until the block ends, and yield them."""
    with ExitStack() as held:
        ports = []
        for _ in range(count):
            one = held.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            # Set after the port was bound, it lets others bind the port, but does not share it with
            # one that is held in another process.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            ports.append(int(one.getsockname()[1]))
        yield ports
