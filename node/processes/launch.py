"""The messages between the supervisor and its child processes.

A process starts without settings: it imports its modules, then reads one line of JSON from standard
input. The line contains the root secret, which is thus visible neither in arguments nor in the
environment. The supervisor keeps its end of that pipe open. When the pipe closes, because the
supervisor has ended for whatever reason, the process terminates itself.

On standard output a process writes `ready` once, or `refused` and the reason. Logs go to standard
error.
"""

import gc
import os
import signal
import sys
import threading

import msgspec

from capabilities.frozen_struct import FrozenStruct
from sealspace.service.command_errors import NodeError

from ..config.tree import Config
from ..logs import configure_logs
from .keeper_launch import READY

REFUSED = b"refused "
# The line is long if many hosted DIDs are listed.
_MAX_LAUNCH_BYTES = 16 << 20


class Launch(FrozenStruct, kw_only=True):
    """The settings that the supervisor sends to a child process."""

    config: Config
    secret: bytes = b""
    listen_fd: int = -1
    counts_fd: int = -1
    sms_fd: int = -1
    worker: int = 0
    process: str = ""
    metrics_folder: str = ""
    again: bool = False

    def __repr__(self) -> str:
        """Return a representation without the secret."""
        return (
            f"Launch(config={self.config!r}, listen_fd={self.listen_fd}, worker={self.worker},"
            f" again={self.again})"
        )


class StartRefusal(FrozenStruct):
    """A permanent reason why a process cannot start."""

    code: str
    text: str
    hint: str


def receive_launch() -> Launch:
    """Read this process's settings from standard input.

    This also sets up the logs. From then on, the process ends when the supervisor ends.
    """
    # Objects that were imported so far live as long as the process, so the garbage collector, which
    # was off during the imports, skips them.
    gc.freeze()
    gc.enable()
    line = sys.stdin.buffer.readline(_MAX_LAUNCH_BYTES)
    if not line.endswith(b"\n"):  # the supervisor is gone
        sys.exit(0)
    end_with_parent()  # reads standard input, so not before the settings are read
    launch = msgspec.json.decode(line, type=Launch)
    configure_logs(launch.config.log.level, is_json=launch.config.log.format == "json")
    return launch


def end_with_parent() -> None:
    """Terminate this process when its parent process ends.

    The process gets SIGTERM when the parent's end of its standard input closes. Read the settings
    from standard input first.
    """

    def wait() -> None:
        # the supervisor sends nothing more: a read returns when the pipe closes
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def report_ready() -> None:
    """Tell the supervisor that this process is ready."""
    _report(READY)


def report_refusal(error: NodeError) -> None:
    """Tell the supervisor why this process will not start."""
    refusal = StartRefusal(code=error.code, text=error.message, hint=error.hint)
    _report(REFUSED + msgspec.json.encode(refusal))


def _report(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def own_program(code: str, *arguments: str) -> list[str]:
    """Return a command that runs Python code in a new process.

    The new process has the current import path, which is the command's first argument. `-P`
    excludes the current directory, which may contain a `pickle.py` of another user, or a folder
    named `spaces`.
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
