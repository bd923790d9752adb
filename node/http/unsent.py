"""How much of its answers the kernel keeps for a client that does not take them.

By default it keeps megabytes for each connection, and requests for that many small answers would be worked off for a
client that reads none. A large value is sent with the kernel's own bound: it is one answer, and smaller pieces cost.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_SMALL_BYTES: Final = 1 << 17
_KERNELS_OWN: Final = 0


def bound_unsent(listening: socket.socket) -> None:
    """Bound what is kept for each connection accepted from a socket."""
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _SMALL_BYTES)


@contextmanager
def in_large_pieces(transport: asyncio.Transport | None) -> Iterator[None]:
    """Lift the bound of a connection while the block runs."""
    lifted = None if transport is None else transport.get_extra_info("socket")
    _set(lifted, _KERNELS_OWN)
    try:
        yield
    finally:
        _set(lifted, _SMALL_BYTES)


def _set(connected: socket.socket | None, size_bytes: int) -> None:
    with suppress(OSError):  # it is closed
        if connected is not None:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, size_bytes)
