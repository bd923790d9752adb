"""Functions that bind and inspect a server's listening socket.

Linux only: `sockets` and `process_at`. They read `/proc`, and find nothing on other systems.
"""

import errno
import os
import re
import shlex
import socket
import ssl
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from ..printable import printable
from .command_errors import ConfigurationError

_SERVE = "sealspace serve"
_MAX_PORT = 65_535
# Columns of a row of `sockets`.
LOCAL_END = 1
OTHER_END = 2
STATE = 3
USER = 7
_INODE = 9
SOCKET_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENING = "0A"  # state of a socket in the kernel's tables


def bind_socket(host: str, port: int, *, command: str = _SERVE, hint: str = "") -> socket.socket:
    """Return a TCP socket bound to an address.

    For port 0 the system chooses a free port.
    """
    with ExitStack() as closing:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            bound = closing.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError as error:
            raise _unusable(host, port, error, command, hint) from None
        closing.pop_all()  # the socket stays open for the caller
    return bound


def server_tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Read a server's TLS certificate and its private key.

    Returns None if both are None.

    Raises:
        ConfigurationError: only one is given, or they are not a certificate and its key.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigurationError(
            "--tls-certificate and --tls-key must be given together",
            hint="pass both: --tls-certificate FILE --tls-key FILE",
        )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, password="")  # not None: never prompts
    except (OSError, ValueError):
        raise ConfigurationError(
            f"{certificate} and {key} are not a TLS certificate and the matching private key",
            hint="pass a certificate and its private key, both in PEM and without a password",
        ) from None
    return context


def begin_to_listen(bound: socket.socket, backlog: int) -> None:
    """Start to accept connections on a bound socket.

    Further calls have no effect. Two processes that start at the same time can bind the same
    address; the second one fails only here. This has to happen before an event loop gets the
    socket: uvloop closes a socket that cannot listen without reporting an error.
    """
    try:
        bound.listen(backlog)
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise _unusable(host, port, error) from None


def url_of(bound: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def console_url(url: str) -> str:
    """Return the address to open for the console of a node on this machine.

    Browsers offer passkeys only at a name, so an address that leads here becomes `localhost`.
    """
    local = r"^http://(127\.0\.0\.1|0\.0\.0\.0|\[::1?\])(?=:|$)"
    return re.sub(local, "http://localhost", url) + "/console/"


def _unusable(
    host: str, port: int, error: OSError, command: str = _SERVE, hint: str = ""
) -> ConfigurationError:
    """Return the error for an address at which this process cannot listen."""
    reason = (error.strerror or "no such address").lower()
    step = "use an address of this machine: --host ADDRESS --port PORT"
    if error.errno == errno.EADDRINUSE:
        reason = f"{process_at(port) or 'another process'} is already listening there"
        # Suggest a fixed port, not port 0: clients have to know it.
        other_port = port + 1 if port < _MAX_PORT else port - 1
        # Suggest the same command with its options, except `--port`. They are known only if this
        # process is the command, and not another program that called this function.
        if set(command.split()[1:]).issubset(sys.argv):
            options = re.sub(r" --port[ =][0-9]+", "", shlex.join(sys.argv[1:]))
            command = f"sealspace {options}"
        step = f"stop that process, or {command} --port {other_port}"
    return ConfigurationError(f"cannot listen on {host} port {port}: {reason}", hint=hint or step)


def process_at(port: int) -> str:
    """Describe the process that listens on a port.

    Returns `process PID (NAME)`, or an empty string if the process is unknown.
    """
    names_by_id: dict[int, str] = {}
    with suppress(OSError):
        listening = set()
        for columns in sockets():
            _, _, own_port = columns[LOCAL_END].rpartition(":")
            if columns[STATE] == _LISTENING and int(own_port, 16) == port:
                listening.add(f"socket:[{columns[_INODE]}]")
        if not listening:
            return ""
        for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
            with suppress(OSError):
                if str(descriptor.readlink()) in listening:
                    _, _, pid, *_ = descriptor.parts  # /proc/PID/fd/NUMBER
                    names_by_id[int(pid)] = printable(Path(f"/proc/{pid}/comm").read_text().strip())
    others = names_by_id.keys() - {os.getpid()}
    if not others:
        return ""
    # The lowest id is usually the parent; its workers inherited the socket.
    lowest = min(others)
    return f"process {lowest} ({names_by_id[lowest]})"


def sockets(tables: Iterable[Path] = SOCKET_TABLES) -> Iterator[list[str]]:
    """Yield the rows of the kernel's TCP socket tables.

    Each row is split into columns: LOCAL_END, OTHER_END, STATE, USER (its id) and others.
    """
    for table in tables:
        with suppress(OSError, UnicodeDecodeError):
            rows = table.read_text("ascii").splitlines()[1:]  # without the headers
            for line in rows:
                columns = line.split()
                if len(columns) > _INODE:
                    yield columns
