"""A node that faults hit: its processes are killed and stopped, and its clock is set.

The clock is set by libfaketime (Debian's `faketime`). Without it the clock is right.
"""

import os
import random
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from running_node import COMMAND, RunningNode, until
from tests_support import REPOSITORY

NO_CLOCK = "libfaketime (Debian: faketime) is not installed"
MOST_KILLS_OF_A_LIFE = 4
"""Single processes that are killed before the whole node is: a supervisor starts a process that
ends again and again later and later."""
_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


def has_clock() -> bool:
    """Return whether the clock of a node can be set."""
    return _FAKETIME.is_file()


class FaultyNode:
    """A `serve` on one folder, which is started many times.

    Attributes:
        url: the address since the last start. Nobody listens there while the node is down.
        kills: single processes that were killed since the last start.

    Args:
        folder: for the data folder and the file of the clock.
        data: the data folder.
        arguments: of `serve`.
        settings: as variables, for `serve` and for commands.
        workers: how many.
        product: the checkout from which `serve` is imported.
    """

    def __init__(
        self,
        folder: Path,
        *,
        data: Path,
        arguments: Sequence[str],
        settings: Mapping[str, str],
        workers: int,
        product: Path = REPOSITORY,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data = data
        self.workers = workers
        self.settings = dict(settings)
        self.kills = 0
        self.url = ""
        self._folder = folder
        self._product = product
        self._arguments = tuple(arguments)
        self._clock = folder / "clock"
        self._running: RunningNode | None = None

    @property
    def running(self) -> RunningNode:
        """The processes of the node."""
        assert self._running is not None
        return self._running

    def start(self) -> None:
        """Start the node and wait until it listens."""
        self.kills = 0
        self._running = RunningNode(
            self._folder,
            "--data",
            str(self.data),
            "--workers",
            str(self.workers),
            *self._arguments,
            environment={
                **self.settings,
                **self._clock_environment(),
                "PYTHONPATH": str(self._product),
            },
        )
        self.url = self._running.url

    def kill(self) -> None:
        """Kill all processes."""
        self.running.kill()

    def close(self) -> None:
        """End all processes, whatever their state."""
        if self._running is not None:
            self._running.close()

    def kill_one(self, kind: str, chance: random.Random) -> None:
        """Kill one process of a kind, and wait until another one has replaced it."""
        self.kills += 1
        count = 1 if kind == "storekeeper" else self.workers
        killed = chance.choice(self.running.children(kind))
        os.kill(killed, signal.SIGKILL)
        until(lambda: self._has_replaced(killed, kind, count))

    def _has_replaced(self, killed: int, kind: str, count: int) -> bool:
        children = self.running.children(kind)
        return len(children) == count and killed not in children

    def stop_processes(self, kind: str, chance: random.Random) -> list[int]:
        """Stop one process of a kind, or all of them, by SIGSTOP."""
        stopped = self.running.children(kind)
        if kind == "worker" and chance.random() < 0.7:
            stopped = [chance.choice(stopped)]
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        return stopped

    def stop_all(self) -> list[int]:
        """Stop the whole node by SIGSTOP."""
        stopped = [self.running.process.pid]
        for kind in ("storekeeper", "sqlkeeper", "worker"):
            stopped += self.running.children(kind)
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        return stopped

    def set_clock(self, ahead_s: int) -> None:
        """Set the clock of every process of the node this far ahead of the machine's."""
        new = self._clock.with_suffix(".new")
        new.write_text(f"+{ahead_s}")
        new.replace(self._clock)

    def _clock_environment(self) -> dict[str, str]:
        if not has_clock():
            return {}
        if not self._clock.exists():
            self.set_clock(0)
        return {
            "LD_PRELOAD": str(_FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
            "NO_FAKE_STAT": "1",
        }

    def command(self, *words: str) -> "subprocess.CompletedProcess[bytes]":
        """Run a command of the operator on the node's store, with the sound product."""
        settings = {**os.environ, **self.settings, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(
            [*COMMAND, *words, "--data", str(self.data)],
            check=False,
            capture_output=True,
            env=settings,
        )


def resume(processes: Sequence[int]) -> None:
    """Let stopped processes run on."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)
