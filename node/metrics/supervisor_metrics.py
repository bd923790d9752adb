"""The supervisor's metrics, and what it answers to a scrape of all metrics.

A thread of the supervisor answers on an address of its own. It does not depend on the workers, so
metrics are available while workers hang or have ended.
"""

import os
import shutil
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from tempfile import mkdtemp

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from sealspace.service.command_errors import ConfigurationError
from sealspace.service.listening_socket import bind_socket, url_of
from serving.scraping import PATH, Scraping

from ..config.tree import Config
from ..logs import describe, log_event, log_warning
from .series import SUPERVISOR, ProcessMetrics

# In memory, so that metrics cost no disk writes and a full disk does not kill a process that writes
# to a mapped file.
MEMORY = "/dev/shm"  # noqa: S108  # the folder in it is new, and has mode 0700


class SupervisorMetrics(ProcessMetrics):
    """The metrics of the supervisor process, and the HTTP endpoint for all metrics."""

    def __init__(self, config: Config, processes: Sequence[str]) -> None:
        """Bind the metrics address, and create a private folder for the metric files."""
        host, port = config.metrics.address
        self._bound = bind_socket(host, port, hint="set metrics.listen to another address or port")
        self._scraping = Scraping(self._bound, host, self.text, on_error=_report)
        parent = MEMORY if os.access(MEMORY, os.W_OK) else None  # None: the usual temporary folder
        try:
            self.folder = mkdtemp(prefix="sealspace-metrics-", dir=parent)
        except OSError as error:
            self._scraping.stop()
            raise ConfigurationError(
                f"cannot make a folder for metrics: {error.strerror}",
                hint="set TMPDIR to a writable folder",
            ) from None
        super().__init__(self.folder, SUPERVISOR, processes=(SUPERVISOR, *processes))
        self._data = config.data
        if not config.is_shared:
            self.cell("sealspace_store_limit_bytes").set(config.store.max_bytes)

    def start(self) -> None:
        """Start answering scrapes."""
        self._scraping.start()
        log_event("metrics-listening", url=f"{url_of(self._bound)}{PATH}")

    def stop(self) -> None:
        """Stop answering scrapes, and remove the folder of metric files."""
        self._scraping.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ended(self, process: str) -> None:
        """Reset an ended process's gauges, and increment its restart counter."""
        mark_process_dead(process, self.folder)  # type: ignore[no-untyped-call]  # the library has no types here
        self.cell("sealspace_process_restarts_total", process).inc()

    def text(self) -> bytes:
        """Return the current metrics of all processes in Prometheus text format."""
        self.sample()
        with suppress(OSError):  # the data folder does not exist before the first start
            self.cell("sealspace_disk_free_bytes").set(shutil.disk_usage(self._data).free)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, self.folder)  # type: ignore[no-untyped-call]  # the library has no types here
        for _ in range(20):
            # A starting process may have created a file without its first bytes: try again.
            with suppress(struct.error):
                return generate_latest(registry)
            time.sleep(0.05)
        return generate_latest(registry)  # the last try, whose error counts


def _report(error: Exception) -> None:
    log_warning("scrape-failed", **describe(error))
