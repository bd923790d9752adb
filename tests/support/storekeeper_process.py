"""A storekeeper in a separate process, as a node would start it."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from live_processes import is_readable
from patience import PATIENCE_S

START_WITHIN_S = PATIENCE_S

_MAIN = """
import json, resource, sys
from pathlib import Path
from spaces.store.lmdb.storekeeper import run_storekeeper

options = json.loads(sys.argv[1])
file_limit = options.pop("file_limit", None)
if file_limit is not None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
folder = Path(options.pop("folder"))
sys.exit(run_storekeeper(folder, ready=lambda: print("ready", flush=True), **options))
"""


class StorekeeperProcess:
    """A storekeeper process that can be killed and restarted."""

    def __init__(self, folder: Path, **options: int) -> None:
        self.folder = folder
        self._options = options
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process and wait until it accepts connections."""
        arguments = json.dumps({"folder": str(self.folder), **self._options})
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _MAIN, arguments], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        is_ready = is_readable(self._process.stdout.fileno(), START_WITHIN_S)
        assert is_ready, "the storekeeper did not start in time"
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """Kill the process without notice."""
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end and return the exit status."""
        assert self._process is not None
        assert self._process.stdout is not None
        status = self._process.wait(START_WITHIN_S)
        self._process.stdout.close()
        self._process = None
        return status

    def __enter__(self) -> "StorekeeperProcess":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.kill()
