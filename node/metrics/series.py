"""Every series of the node, once, with all values of its labels; and the metrics that one process
writes.

A label has no value that a caller could choose: operations, classes of status and codes are lists
in the code, and the settings determine the number of processes. So every number exists from the
start of its process.

`prometheus-client` keeps the numbers in files of a folder, one for each process and type. They have
the process's name and not its id: the replacement of a process continues to count where it ended.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

from prometheus_client import Counter, Gauge, Histogram, values

from encryption_network.gate import REASONS
from encryption_network.release_record import Ground

from ..counts import OTHER, Operation

WORKER: Final = "worker"
STOREKEEPER: Final = "storekeeper"
SUPERVISOR: Final = "supervisor"
CODES: Final = (
    # the node or its environment lacks something
    "store-full",
    "store-busy",
    "intake-full",
    "store-unavailable",
    "record-damaged",
    "invalid-record",
    "internal",
    "quotes-busy",
    "own-quotes-busy",
    "own-quote-failed",
    "collateral-missing",
    "collateral-window",
    # limits on callers
    "too-many-requests",
    "quota-exceeded",
    "value-exceeds-quota",
    "too-many-delegations",
    "body-too-large",
    # already used
    "duplicate-invocation",
    "replay-unknown",
    "nonce-used",
    "challenge-used",
    # not authorised
    "token-malformed",
    "token-kind",
    "signature-invalid",
    "invocation-outside-window",
    "delegation-revoked",
    "parent-revoked",
    "invoker-unauthorized",
    "capability-unauthorized",
    "release-refused",
    OTHER,
)
BOUNDS: Final = (
    "http.max_connections",
    "http.connections_per_client",
    "http.head_s",
    "http.unread_answer_s",
)
SAMPLING_PERIOD_S: Final = 1.0
_ANY: Final = (SUPERVISOR, STOREKEEPER, WORKER)
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Series(NamedTuple):
    """One series."""

    name: str
    help: str
    labels: Mapping[str, Sequence[str]] = {}
    buckets: tuple[float, ...] = ()
    writers: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Its type in Prometheus: by convention, names of counters alone end in `_total`."""
        if self.name.endswith("_total"):
            return "counter"
        return "histogram" if self.buckets else "gauge"

    def cells(self, processes: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
        """Yield what counts each number that these processes have, with the values of its
        labels."""
        labels = dict(self.labels)
        if self.writers:
            labels["process"] = [
                name for name in processes if name.partition("-")[0] in self.writers
            ]
        make: Any = {
            "counter": Counter,
            # A gauge that a process wrote is not valid any more when the process has ended
            # (`mark_process_dead`).
            "gauge": partial(Gauge, multiprocess_mode="livesum"),
            "histogram": partial(Histogram, buckets=self.buckets),
        }[self.kind]
        metric = make(self.name, self.help, list(labels), registry=None)
        for chosen in product(*labels.values()):
            yield chosen, metric.labels(*chosen) if chosen else metric


SERIES: Final = (
    Series(
        "sealspace_requests_total",
        "Requests that were answered.",
        {"operation": get_args(Operation), "status": ("2xx", "3xx", "4xx", "5xx")},
    ),
    Series(
        "sealspace_request_seconds",
        "Time from a request's head to its answer, the wait for a body included.",
        {"operation": get_args(Operation)},
        buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1, 5),
    ),
    Series(
        "sealspace_refusals_total",
        "Requests that were refused, by the code of the refusal.",
        {"code": CODES},
    ),
    Series(
        "sealspace_releases_total",
        "Keys that were released, by the ground of the admission.",
        {"ground": get_args(Ground)},
    ),
    Series(
        "sealspace_release_refusals_total",
        "Releases that the gate refused, by its reason.",
        {"reason": sorted(REASONS)},
    ),
    Series(
        "sealspace_open_connections", "Connections of clients that are open.", writers=(WORKER,)
    ),
    Series(
        "sealspace_connections_given_up_total",
        "Connections that were not taken, or were ended, by the setting whose bound they met.",
        {"bound": BOUNDS},
    ),
    Series(
        "sealspace_commits_total",
        "Commits that the storekeeper judged, by what became of them.",
        {"outcome": ("committed", "refused", "failed")},
    ),
    Series(
        "sealspace_batch_commits",
        "Commits that share one transaction and its sync.",
        buckets=(1, 2, 4, 8, 16, 32, 64, 128),
    ),
    Series(
        "sealspace_sync_seconds",
        "Time that writing and syncing a transaction took.",
        buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1),
    ),
    Series("sealspace_store_used_bytes", "Bytes of rows, in pages that are in use."),
    Series("sealspace_store_files_bytes", "Bytes of values that lie in files."),
    Series(
        "sealspace_store_limit_bytes",
        "Bound of rows, and of values in files: the setting store.max_bytes.",
    ),
    Series("sealspace_disk_free_bytes", "Bytes that are free on the disk of the data folder."),
    Series(
        "sealspace_intake_bytes",
        "Memory that bodies on their way into the store hold, in all workers.",
    ),
    Series(
        "sealspace_delegation_cache_bytes", "Memory that decoded delegations hold, in all workers."
    ),
    Series(
        "sealspace_delegation_cache_misses_total",
        "Delegations that were looked for and were not in memory.",
    ),
    Series(
        "sealspace_database_connections",
        "Connections to the database that are at work or idle, and statements that wait for one.",
        {"pool": ("read", "commit"), "state": ("busy", "idle", "waiting")},
    ),
    Series(
        "sealspace_clock_skew_seconds",
        "How far the node's clock is ahead of the database's, or behind.",
        {"side": ("ahead", "behind")},
    ),
    Series(
        "sealspace_claim_floor_ahead_seconds",
        "How far the minute up to which replay records are removed is ahead of the database's"
        " clock.",
    ),
    Series("sealspace_collateral_documents", "Platform families whose collateral is held."),
    Series(
        "sealspace_collateral_age_seconds",
        "Time since the collateral that was not renewed for longest came, or was found to be the"
        " newest.",
    ),
    Series(
        "sealspace_collateral_failing", "Platform families whose last fetch of collateral failed."
    ),
    Series(
        "sealspace_audit_lag_seconds",
        "Age of the oldest audit record that is not in the chain yet.",
    ),
    Series(
        "sealspace_loop_lag_seconds",
        "How late a timer came that is due every second.",
        buckets=(0.001, 0.005, 0.025, 0.1, 1),
        writers=(STOREKEEPER, WORKER),
    ),
    Series("sealspace_process_cpu_seconds_total", "CPU time, user and system.", writers=_ANY),
    Series(
        "sealspace_process_resident_bytes",
        "Resident memory, the pages of the store that were touched included.",
        writers=_ANY,
    ),
    Series(
        "sealspace_process_start_time_seconds",
        "When the process was started, in epoch seconds.",
        writers=_ANY,
    ),
    Series(
        "sealspace_process_restarts_total",
        "How often the process ended and was started again.",
        writers=(STOREKEEPER, WORKER),
    ),
)


class ProcessMetrics:
    """The metrics that one process of a node writes."""

    def __init__(self, folder: str, process: str, *, processes: Sequence[str] = ()) -> None:
        """Open the files of a process, which continue those of its predecessor."""
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        values.ValueClass = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]  # the library has no types here
        self.cells = {
            (series.name, *labels): cell
            for series in SERIES
            for labels, cell in series.cells(processes or (process,))
        }
        self._process = process
        self._cpu_s = 0.0
        self.cells["sealspace_process_start_time_seconds", process].set(int(time.time()))

    def sample(self) -> None:
        """Record the CPU time used since the last sample, and resident memory, which stays if it
        cannot be read."""
        used_s = time.process_time()
        self.cells["sealspace_process_cpu_seconds_total", self._process].inc(used_s - self._cpu_s)
        self._cpu_s = used_s
        with suppress(OSError):  # no descriptor is free at the moment
            pages = int(Path("/proc/self/statm").read_bytes().split()[1])
            self.cells["sealspace_process_resident_bytes", self._process].set(pages * _PAGE_BYTES)

    async def keep_sampling(self) -> None:
        """Sample each second until it is cancelled, and record how late the event loop is."""
        while True:
            self.sample()
            due_at = time.monotonic() + SAMPLING_PERIOD_S
            await asyncio.sleep(SAMPLING_PERIOD_S)
            # A loop may round a timer down.
            self.cells["sealspace_loop_lag_seconds", self._process].observe(
                max(time.monotonic() - due_at, 0)
            )
