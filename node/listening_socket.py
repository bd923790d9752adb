"""The listening socket: bound once, passed to every worker.

Example:
    with bind_socket("127.0.0.1", 0) as bound:
        url_of(bound)  # "http://127.0.0.1:43121"
"""

import socket

from .errors import ConfigurationError


def bind_socket(host: str, port: int, *, hint: str = "choose another: --port 0") -> socket.socket:
    """Return a TCP socket bound to an address; port 0 chooses a free one.

    Args:
        host, port: the address.
        hint: what to do if the address is not available.

    Raises:
        ConfigurationError: the address does not exist on this machine, or is in use.
    """
    try:
        resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = resolved[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _unusable(host, port, error, hint) from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _unusable(host, port, error, hint) from None
    return bound


def url_of(bound: socket.socket) -> str:
    """Return the URL of a bound socket, with its actual port."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _unusable(host: str, port: int, error: OSError, hint: str) -> ConfigurationError:
    reason = (error.strerror or "no such address").lower()
    return ConfigurationError(f"cannot listen on {host} port {port}: {reason}", hint=hint)
