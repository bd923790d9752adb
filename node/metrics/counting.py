"""The supervisor's part: it makes the table, assigns its rows to processes, and answers scrapes."""

import os
from collections.abc import Sequence
from contextlib import suppress

from sealspace.cli.listening_socket import bind_socket, url_of

from ..config.tree import Config
from ..logs import log_event
from .scraping import PATH, Scraping
from .series import DISK_FREE_BYTES, RESTARTS, STORE_LIMIT_BYTES, SUPERVISOR
from .table import Table
from .text import exposition
from .vitals import Vitals


class Counting:
    """The numbers of a node, and the listener that serves them."""

    def __init__(self, config: Config, processes: Sequence[str]) -> None:
        """Make the table and bind the address.

        Args:
            config: settings; `metrics.listen` is set.
            processes: names of the processes that the supervisor starts.

        Raises:
            ConfigurationError: the address is not available.
        """
        self._config = config
        self._names = (SUPERVISOR, *processes)
        self._table = Table.of(len(self._names))
        self._own = self._table.row(0)
        self._vitals = Vitals(self._own)
        host, port = config.metrics.address
        self._bound = bind_socket(host, port, hint="choose another metrics.listen")
        self._scraping = Scraping(self._bound, host, self.text)
        if config.store.url is None:
            self._own[STORE_LIMIT_BYTES.start] = config.store.max_bytes

    def start(self) -> None:
        """Start to answer scrapes."""
        self._scraping.start()
        log_event("metrics-listening", url=f"{url_of(self._bound)}{PATH}")

    def stop(self) -> None:
        """Stop answering scrapes."""
        self._scraping.stop()

    def fileno(self) -> int:
        """Return the descriptor of the table, for a process that inherits it."""
        return self._table.fileno()

    def row_of(self, process: str) -> int:
        """Return the index of a process's row."""
        return self._names.index(process)

    def ended(self, process: str) -> None:
        """Clear the gauges of a process that has ended and count its restart."""
        at = self.row_of(process)
        self._table.clear_gauges(at)
        self._table.row(at)[RESTARTS.start] += 1

    def text(self) -> str:
        """Return all current numbers as text."""
        self._vitals.sample()
        with suppress(OSError):  # the folder does not exist yet
            disk = os.statvfs(self._config.data)
            self._own[DISK_FREE_BYTES.start] = disk.f_bavail * disk.f_frsize
        return exposition({name: self._table.row(at).tolist() for at, name in enumerate(self._names)})
