"""A runner as a process of its own, which tests stop, kill and start again.

Example:
    runner = RunningRunner(folder, "--node", node.url, "--data", "kept", "--key", "file")
    runner.end(signal.SIGKILL)
"""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from patience import PATIENCE_S
from running_node import COMMAND
from tests_support import REPOSITORY


class RunningRunner:
    """A process of `sealspace runner serve` that accepts calls.

    Attributes:
        url: its address.
        metrics: the address of its metrics; "" without.
        process: the process.
    """

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        pytest.importorskip("re2", reason="google-re2 is not installed: no runner starts")
        serve = ("runner", "serve", "--evidence", "simulated", "--simulate", "tee", "--port", "0")
        self.process = subprocess.Popen(
            [*COMMAND, *serve, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        )
        assert self.process.stderr is not None
        self.url = self.metrics = ""
        while not self.url:
            line = self.process.stderr.readline()
            found = re.fullmatch(r"(listening on|metrics at) (https?://127\.0\.0\.1:\S+)\n", line)
            assert found, line + self.process.stderr.read()
            if found[1] == "listening on":
                self.url = found[2]
            else:
                self.metrics = found[2]

    def end(self, number: signal.Signals = signal.SIGTERM) -> str:
        """End the process with a signal, and return what it wrote since it started."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=PATIENCE_S)[1]
        assert self.process.returncode == (-number if number == signal.SIGKILL else 0), said
        return said

    def close(self) -> None:
        """Kill the process if it runs."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate(timeout=PATIENCE_S)
