"""The definitions of the node's Prometheus metrics.

Label values never come from callers: operations, status classes and codes are lists in the code,
and the settings determine the number of processes. So the number of time series is bounded, and
each of them exists from the start of its process.

`prometheus-client` keeps the numbers in files of a folder, one for each process and type. A file is
named by the process's name instead of its pid, so a replacement continues the counts of its
predecessor.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

from prometheus_client import Counter, Gauge, Histogram, values

from encryption_network.gate import REASONS
from encryption_network.release_record import Ground

from ..counts import OTHER, Operation

WORKER = "worker"
STOREKEEPER = "storekeeper"
SUPERVISOR = "supervisor"
CODES = (
    # faults of the node or its environment
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
    # replays
    "duplicate-invocation",
    "replay-unknown",
    "restored-recently",
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
BOUNDS = (
    "http.max_connections",
    "http.connections_per_client",
    "http.head_s",
    "http.unread_answer_s",
    "https-on-http-port",
)
SAMPLING_PERIOD_S = 1.0
_ANY = (SUPERVISOR, STOREKEEPER, WORKER)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Series(NamedTuple):
    """The definition of one metric."""

    name: str
    help: str
    labels: Mapping[str, Sequence[str]] = {}
    buckets: tuple[float, ...] = ()
    writers: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Return the Prometheus type of the metric.

        A name that ends in `_total` is a counter.
        """
        if self.name.endswith("_total"):
            return "counter"
        return "histogram" if self.buckets else "gauge"

    def cells(self, processes: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
        """Create the metric, and yield its time series.

        A time series is a pair of its label values and the child metric.

        Metrics with a `process` label get a time series for each process that writes them.
        """
        labels = dict(self.labels)
        if self.writers:
            labels["process"] = [
                name for name in processes if name.partition("-")[0] in self.writers
            ]
        make: Any = {
            "counter": Counter,
            # Live only: the gauges of a process that ended are cleared by `mark_process_dead`.
            "gauge": partial(Gauge, multiprocess_mode="livesum"),
            "histogram": partial(Histogram, buckets=self.buckets),
        }[self.kind]
        metric = make(self.name, self.help, list(labels), registry=None)
        for chosen in product(*labels.values()):
            yield chosen, metric.labels(*chosen) if chosen else metric


SERIES = (
    Series(
        "sealspace_requests_total",
        "Requests answered, by operation and status class.",
        {"operation": get_args(Operation), "status": ("2xx", "3xx", "4xx", "5xx")},
    ),
    Series(
        "sealspace_request_seconds",
        "Time from a request's headers to its answer, including the wait for a body.",
        {"operation": get_args(Operation)},
        buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1, 5),
    ),
    Series(
        "sealspace_refusals_total",
        "Requests refused, by the code of the refusal.",
        {"code": CODES},
    ),
    Series(
        "sealspace_releases_total",
        "Keys released, by the ground on which the request was admitted.",
        {"ground": get_args(Ground)},
    ),
    Series(
        "sealspace_release_refusals_total",
        "Key releases refused by the release gate, by reason.",
        {"reason": sorted(REASONS)},
    ),
    Series("sealspace_open_connections", "Open client connections.", writers=(WORKER,)),
    Series(
        "sealspace_connections_given_up_total",
        "Connections refused or closed, by the setting of the limit or the reason.",
        {"bound": BOUNDS},
    ),
    Series(
        "sealspace_commits_total",
        "Commits processed by the storekeeper, by outcome.",
        {"outcome": ("committed", "refused", "failed")},
    ),
    Series(
        "sealspace_batch_commits",
        "Commits written and synced together in one transaction.",
        buckets=(1, 2, 4, 8, 16, 32, 64, 128),
    ),
    Series(
        "sealspace_sync_seconds",
        "Time taken to write and sync a transaction.",
        buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1),
    ),
    Series("sealspace_store_used_bytes", "Bytes of database pages that rows use."),
    Series("sealspace_store_files_bytes", "Bytes of large values, in files or in the bucket."),
    Series(
        "sealspace_store_limit_bytes",
        "The setting store.max_bytes: the limit for rows, and separately for large values.",
    ),
    Series("sealspace_disk_free_bytes", "Free bytes on the disk of the data folder."),
    Series(
        "sealspace_intake_bytes",
        "Memory used by bodies that are being stored, in all workers.",
    ),
    Series(
        "sealspace_delegation_cache_bytes", "Memory used by decoded delegations, in all workers."
    ),
    Series(
        "sealspace_delegation_cache_misses_total",
        "Delegation look-ups that were not in the cache.",
    ),
    Series(
        "sealspace_database_connections",
        "Busy and idle database connections, and statements waiting for a connection.",
        {"pool": ("read", "commit"), "state": ("busy", "idle", "waiting")},
    ),
    Series(
        "sealspace_clock_skew_seconds",
        "Difference between the node's clock and the database's, ahead or behind.",
        {"side": ("ahead", "behind")},
    ),
    Series(
        "sealspace_claim_floor_ahead_seconds",
        "How far the replay floor is ahead of the database's clock. Replay records of"
        " minutes before the floor are removed.",
    ),
    Series("sealspace_collateral_documents", "Platform families with stored collateral."),
    Series(
        "sealspace_collateral_age_seconds",
        "Longest time since any stored collateral was fetched or confirmed to be current.",
    ),
    Series("sealspace_collateral_failing", "Platform families whose last collateral fetch failed."),
    Series(
        "sealspace_audit_lag_seconds",
        "Age of the oldest audit record that is not sealed into the chain.",
    ),
    Series(
        "sealspace_loop_lag_seconds",
        "Delay of a one-second timer on the event loop.",
        buckets=(0.001, 0.005, 0.025, 0.1, 1),
        writers=(STOREKEEPER, WORKER),
    ),
    Series("sealspace_process_cpu_seconds_total", "CPU time used, user and system.", writers=_ANY),
    Series(
        "sealspace_process_resident_bytes",
        "Resident memory, including mapped pages of the store.",
        writers=_ANY,
    ),
    Series(
        "sealspace_process_start_time_seconds",
        "Start time of the process, in seconds since the epoch.",
        writers=_ANY,
    ),
    Series(
        "sealspace_process_restarts_total",
        "Number of times that the process was restarted.",
        writers=(STOREKEEPER, WORKER),
    ),
)


class ProcessMetrics:
    """The metrics recorded by one process of a node."""

    def __init__(self, folder: str, process: str, *, processes: Sequence[str] = ()) -> None:
        """Open the metric files of a process.

        A restarted process continues the counters of its predecessor.
        """
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
        """Record the CPU time and the memory of the process.

        The resident memory is left out if it cannot be read.
        """
        used_s = time.process_time()
        self.cells["sealspace_process_cpu_seconds_total", self._process].inc(used_s - self._cpu_s)
        self._cpu_s = used_s
        with suppress(OSError):  # the process may have no free file descriptor
            pages = int(Path("/proc/self/statm").read_bytes().split()[1])
            self.cells["sealspace_process_resident_bytes", self._process].set(pages * _PAGE_BYTES)

    async def keep_sampling(self) -> None:
        """Record the metrics of the process every second until cancelled."""
        while True:
            self.sample()
            due_at = time.monotonic() + SAMPLING_PERIOD_S
            await asyncio.sleep(SAMPLING_PERIOD_S)
            # An event loop may round a timer down, so the difference can be negative.
            self.cells["sealspace_loop_lag_seconds", self._process].observe(
                max(time.monotonic() - due_at, 0)
            )
