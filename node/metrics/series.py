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

from encryption_network.grounds import REASONS
from encryption_network.release_record import Ground

from ..counts import OTHER, Operation
from .network_key_ages import AGE_CLASSES

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
    "delegation-too-large",
    "too-much-decoded",
    "decoding-rate",
    "key-rows-full",
    "too-many-exchanged",
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
    "owner-moved",
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
        values_by_label = dict(self.labels)
        if self.writers:
            values_by_label["process"] = [
                name
                for name in processes
                if name.partition("-")[0] in self.writers  # `worker` for `worker-0`
            ]
        make: Any = {
            "counter": Counter,
            # Live only: the gauges of a process that ended are cleared by `mark_process_dead`.
            "gauge": partial(Gauge, multiprocess_mode="livesum"),
            "histogram": partial(Histogram, buckets=self.buckets),
        }[self.kind]
        metric = make(self.name, self.help, list(values_by_label), registry=None)
        if not values_by_label:
            yield (), metric
            return
        for label_values in product(*values_by_label.values()):
            yield label_values, metric.labels(*label_values)


SERIES = (
    Series(
        name="sealspace_requests_total",
        help="Requests answered, by operation and status class.",
        labels={"operation": get_args(Operation), "status": ("2xx", "3xx", "4xx", "5xx")},
    ),
    Series(
        name="sealspace_request_seconds",
        help="Time from a request's headers to its answer, including the wait for a body.",
        labels={"operation": get_args(Operation)},
        buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1, 5),
    ),
    Series(
        name="sealspace_refusals_total",
        help="Requests refused, by the code of the refusal.",
        labels={"code": CODES},
    ),
    Series(
        name="sealspace_releases_total",
        help="Keys released, by the ground on which the request was admitted.",
        labels={"ground": get_args(Ground)},
    ),
    Series(
        name="sealspace_release_refusals_total",
        help="Key releases refused by the release gate, by reason.",
        labels={"reason": sorted(REASONS)},
    ),
    Series(name="sealspace_open_connections", help="Open client connections.", writers=(WORKER,)),
    Series(
        name="sealspace_feed_waits",
        help="Calls of the change feed that wait for a change.",
    ),
    Series(
        name="sealspace_connections_given_up_total",
        help="Connections refused or closed, by the setting of the limit or the reason.",
        labels={"bound": BOUNDS},
    ),
    Series(
        name="sealspace_commits_total",
        help="Commits processed by the storekeeper, by outcome.",
        labels={"outcome": ("committed", "refused", "failed")},
    ),
    Series(
        name="sealspace_batch_commits",
        help="Commits written and synced together in one transaction.",
        buckets=(1, 2, 4, 8, 16, 32, 64, 128),
    ),
    Series(
        name="sealspace_sync_seconds",
        help="Time taken to write and sync a transaction.",
        buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1),
    ),
    Series(name="sealspace_store_used_bytes", help="Bytes of database pages that rows use."),
    Series(
        name="sealspace_store_files_bytes", help="Bytes of large values, in files or in the bucket."
    ),
    Series(
        name="sealspace_store_limit_bytes",
        help="The setting store.max_bytes: the limit for rows, and separately for large values.",
    ),
    Series(name="sealspace_disk_free_bytes", help="Free bytes on the disk of the data folder."),
    Series(
        name="sealspace_intake_bytes",
        help="Memory used by bodies that are being stored, in all workers.",
    ),
    Series(
        name="sealspace_delegation_cache_bytes",
        help="Memory used by decoded delegations, in all workers.",
    ),
    Series(
        name="sealspace_delegation_cache_misses_total",
        help="Delegation look-ups that were not in the cache.",
    ),
    Series(
        name="sealspace_database_connections",
        help="Busy and idle database connections, and statements waiting for a connection.",
        labels={"pool": ("read", "commit"), "state": ("busy", "idle", "waiting")},
    ),
    Series(
        name="sealspace_clock_skew_seconds",
        help="Difference between the node's clock and the database's, ahead or behind.",
        labels={"side": ("ahead", "behind")},
    ),
    Series(
        name="sealspace_claim_floor_ahead_seconds",
        help="How far the replay floor is ahead of the database's clock. Replay records of"
        " minutes before the floor are removed.",
    ),
    Series(name="sealspace_collateral_documents", help="Platform families with stored collateral."),
    Series(
        name="sealspace_collateral_age_seconds",
        help="Longest time since any stored collateral was fetched or confirmed to be current.",
    ),
    Series(
        name="sealspace_collateral_failing",
        help="Platform families whose last collateral fetch failed.",
    ),
    Series(
        name="sealspace_root_secret_age_seconds",
        help="Time since the present root secret was recorded or replaced the former one.",
    ),
    Series(
        name="sealspace_network_key_age_seconds",
        help="Age of the oldest key to which an active encryption network seals.",
    ),
    Series(
        name="sealspace_networks",
        help="Active encryption networks, by the age of the newest version of their key.",
        labels={"key_age": tuple(AGE_CLASSES)},
    ),
    Series(
        name="sealspace_audit_lag_seconds",
        help="Age of the oldest audit record that is not sealed into the chain.",
    ),
    Series(
        name="sealspace_loop_lag_seconds",
        help="Delay of a one-second timer on the event loop.",
        buckets=(0.001, 0.005, 0.025, 0.1, 1),
        writers=(STOREKEEPER, WORKER),
    ),
    Series(
        name="sealspace_process_cpu_seconds_total",
        help="CPU time used, user and system.",
        writers=_ANY,
    ),
    Series(
        name="sealspace_process_resident_bytes",
        help="Resident memory, including mapped pages of the store.",
        writers=_ANY,
    ),
    Series(
        name="sealspace_process_start_time_seconds",
        help="Start time of the process, in seconds since the epoch.",
        writers=_ANY,
    ),
    Series(
        name="sealspace_process_restarts_total",
        help="Number of times that the process was restarted.",
        writers=(STOREKEEPER, WORKER),
    ),
)


class ProcessMetrics:
    """The metrics recorded by one process of a node."""

    def __init__(self, folder: str, process: str, *, processes: Sequence[str] = ()) -> None:
        """Open the metric files of a process.

        A restarted process continues the counters of its predecessor.
        """
        # The library reads both when a metric is made, so they are set before the cells.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        values.ValueClass = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]  # the library has no types here
        self.cells = {
            (series.name, *labels): cell
            for series in SERIES
            for labels, cell in series.cells(processes or (process,))
        }
        self._process = process
        self._cpu_s = 0.0
        self.cell("sealspace_process_start_time_seconds", process).set(int(time.time()))

    def cell(self, name: str, *labels: str) -> Any:
        """Return the time series of a metric that has these label values, to count in."""
        return self.cells[name, *labels]

    def sample(self) -> None:
        """Record the CPU time and the memory of the process.

        The resident memory is left out if it cannot be read.
        """
        used_s = time.process_time()
        self.cell("sealspace_process_cpu_seconds_total", self._process).inc(used_s - self._cpu_s)
        self._cpu_s = used_s
        with suppress(OSError):  # the process may have no free file descriptor
            _total_pages, resident_pages, *_ = Path("/proc/self/statm").read_bytes().split()
            self.cell("sealspace_process_resident_bytes", self._process).set(
                int(resident_pages) * _PAGE_BYTES
            )

    async def keep_sampling(self) -> None:
        """Record the metrics of the process every second until cancelled."""
        while True:
            self.sample()
            due_at = time.monotonic() + SAMPLING_PERIOD_S
            await asyncio.sleep(SAMPLING_PERIOD_S)
            # An event loop may round a timer down, so the difference can be negative.
            self.cell("sealspace_loop_lag_seconds", self._process).observe(
                max(time.monotonic() - due_at, 0)
            )
