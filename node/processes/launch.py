"""The messages between the supervisor and its processes.

A process starts without settings: it imports first, then reads one line of JSON from its standard
input. The line contains the root secret, which is therefore neither in an argument nor in the
environment. The supervisor keeps the other end of that pipe open; when it closes, because the
supervisor ended in whatever way, the process ends itself.

On its standard output a process writes `ready` once, or `refused` and the reason. Logs go to
standard error.
"""

import gc
import os
import signal
import sys
import threading

import msgspec

from sealspace.cli.command_errors import NodeError

from ..config.tree import Config
from ..logs import configure_logs

READY = b"ready"
REFUSED = b"refused "
# The longest part is a list of hosted DIDs.
_MAX_LAUNCH_BYTES = 16 << 20


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What a process needs to know."""

    config: Config
    secret: bytes = b""
    listen_fd: int = -1
    counts_fd: int = -1
    worker: int = 0
    process: str = ""
    metrics_folder: str = ""
    first: bool = False
    again: bool = False

    def __repr__(self) -> str:
        """Return a text without the secret."""
        return (
            f"Launch(config={self.config!r}, listen_fd={self.listen_fd}, first={self.first},"
            f" again={self.again})"
        )


class StartRefusal(msgspec.Struct, frozen=True):
    """Why a process will not start, however often it is restarted."""

    code: str
    text: str
    hint: str


def encode_launch(launch: Launch) -> bytes:
    """Return the line that starts a process."""
    return msgspec.json.encode(launch) + b"\n"


def receive_launch() -> Launch:
    """Read the line that starts this process, whose logs and end are as the supervisor wants from
    then on.

    What was imported until now is kept for the life of the process, so the garbage collector no
    longer examines it.
    """
    gc.freeze()
    gc.enable()
    line = sys.stdin.buffer.readline(_MAX_LAUNCH_BYTES)
    if not line.endswith(b"\n"):  # the supervisor is gone
        sys.exit(0)
    end_with_parent()
    launch = msgspec.json.decode(line, type=Launch)
    configure_logs(launch.config.log.level)
    return launch


def end_with_parent() -> None:
    """Have this process end by SIGTERM when its parent closes the pipe of its standard input, which
    was read."""

    def wait() -> None:
        # nothing more is ever sent; only the end of the file follows
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def report_ready() -> None:
    """Report that this process is ready."""
    _report(READY)


def report_refusal(error: NodeError) -> None:
    """Report why this process will not start."""
    _report(REFUSED + msgspec.json.encode(StartRefusal(error.code, error.message, error.hint)))


def _report(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def own_program(code: str, *arguments: str) -> list[str]:
    """Return the command that runs code of ours in a process that imports from where this one does.

    The import path is its first argument. -P keeps the current directory out: there may be a
    `pickle.py` of another user's, or a folder named `spaces`.
    """
    own_path = "import sys; sys.path[:] = sys.argv.pop(1).split('\\n'); "
    return [
        sys.executable,
        "-P",
        "-c",
        own_path + code,
        "\n".join(path for path in sys.path if path),
        *arguments,
    ]
