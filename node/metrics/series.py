"""Every series of the node, once: its name, its labels with all their values, and its cells in a process's row.

A label has no value that a caller could choose: operations, classes of status and codes are lists in this module, and
the settings determine the number of processes. Lists that other modules have too are repeated here, so that the
supervisor loads neither gate nor store for them; tests compare them. Numbers are stored as integers; a series of
seconds counts nanoseconds.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, product
from typing import Final, Literal, get_args

from ..counts import Operation

Kind = Literal["counter", "gauge", "histogram"]
WORKER: Final = "worker"
STOREKEEPER: Final = "storekeeper"
SUPERVISOR: Final = "supervisor"

OTHER: Final = "other"
_NS: Final = 1_000_000_000
_MS: Final = 1000


@dataclass(frozen=True)
class Label:
    """A label and all its possible values."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Series:
    """One series.

    Attributes:
        name: as it is scraped, with the unit.
        kind: as it is scraped.
        help: one sentence.
        labels: of each number.
        bounds: of a histogram's buckets, in the stored unit; the last bucket has none.
        unit: how many stored units make one scraped unit.
        writers: kinds of processes that have a series of their own, each with its name as the label `process`;
            empty: the numbers of all processes are added up.
        counted: a counter derived from this histogram that keeps its last label, which the histogram itself drops.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    bounds: tuple[int, ...] = ()
    unit: int = 1
    writers: tuple[str, ...] = ()
    counted: tuple[str, str] | None = None

    @property
    def width(self) -> int:
        """How many cells the numbers under one set of labels take: for a histogram the buckets, then the sum."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1

    @property
    def size(self) -> int:
        """How many cells the series takes in a row."""
        return self.width * len(self.label_sets)

    @cached_property
    def label_sets(self) -> tuple[tuple[str, ...], ...]:
        """The values of the labels, in the order of the cells; the last label varies fastest."""
        return tuple(product(*[label.values for label in self.labels]))

    @cached_property
    def start(self) -> int:
        """The first cell in a row."""
        return _STARTS[self.name]

    def cell(self, *values: str) -> int:
        """Return the first cell for these label values; for an unknown last value that of `other`, if there is one.

        Raises:
            ValueError: there is none.
        """
        if self.labels and OTHER in self.labels[-1].values and values[-1] not in self.labels[-1].values:
            values = (*values[:-1], OTHER)
        return self.start + self.label_sets.index(values) * self.width


def _micros(*bounds: int) -> tuple[int, ...]:
    return tuple([bound * 1000 for bound in bounds])


OPERATION: Final = Label("operation", get_args(Operation))
STATUS: Final = Label("status", ("2xx", "3xx", "4xx", "5xx"))
CODE: Final = Label(
    "code",
    (
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
    ),
)
GROUND: Final = Label("ground", ("owner", "owner_session", "attested", "off"))
REASON: Final = Label(
    "reason",
    (
        # from the gate itself
        "chain",
        "policy",
        "path",
        "mode",
        "no_policy",
        "not_attested",
        "trust_root",
        "withdrawn",
        # from judging the evidence
        "evidence_expired",
        "measurement",
        "key_provider",
        "attributes",
        "platform",
        "tcb_status",
        "advisory",
        "evaluation",
        "age",
        "receiver",
    ),
)
BOUND: Final = Label(
    "bound", ("http.max_connections", "http.connections_per_client", "http.head_s", "http.unread_answer_s")
)
OUTCOME: Final = Label("outcome", ("committed", "refused", "failed"))
POOL: Final = Label("pool", ("read", "commit"))
STATE: Final = Label("state", ("busy", "idle", "waiting"))
SIDE: Final = Label("side", ("ahead", "behind"))

_ANY: Final = (SUPERVISOR, STOREKEEPER, WORKER)

REQUEST_SECONDS: Final = Series(
    "sealspace_request_seconds",
    "histogram",
    "Time from a request's head to its answer, the wait for a body included.",
    labels=(OPERATION, STATUS),
    bounds=_micros(250, 500, 1000, 2500, 5000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 5_000_000),
    unit=_NS,
    counted=("sealspace_requests_total", "Requests that were answered."),
)
REFUSALS: Final = Series(
    "sealspace_refusals_total", "counter", "Requests that were refused, by the code of the refusal.", labels=(CODE,)
)
RELEASES: Final = Series(
    "sealspace_releases_total", "counter", "Keys that were released, by the ground of the admission.", labels=(GROUND,)
)
RELEASE_REFUSALS: Final = Series(
    "sealspace_release_refusals_total", "counter", "Releases that the gate refused, by its reason.", labels=(REASON,)
)
OPEN_CONNECTIONS: Final = Series(
    "sealspace_open_connections", "gauge", "Connections of clients that are open.", writers=(WORKER,)
)
GIVEN_UP: Final = Series(
    "sealspace_connections_given_up_total",
    "counter",
    "Connections that were not taken, or were ended, by the setting whose bound they met.",
    labels=(BOUND,),
)
COMMITS: Final = Series(
    "sealspace_commits_total",
    "counter",
    "Commits that the storekeeper judged, by what became of them.",
    labels=(OUTCOME,),
)
BATCH_COMMITS: Final = Series(
    "sealspace_batch_commits",
    "histogram",
    "Commits that share one transaction and its sync.",
    bounds=(1, 2, 4, 8, 16, 32, 64, 128),
)
SYNC_SECONDS: Final = Series(
    "sealspace_sync_seconds",
    "histogram",
    "Time that writing and syncing a transaction took.",
    bounds=_micros(250, 500, 1000, 2500, 5000, 10_000, 25_000, 100_000, 1_000_000),
    unit=_NS,
)
STORE_USED_BYTES: Final = Series("sealspace_store_used_bytes", "gauge", "Bytes of rows, in pages that are in use.")
STORE_FILES_BYTES: Final = Series("sealspace_store_files_bytes", "gauge", "Bytes of values that lie in files.")
STORE_LIMIT_BYTES: Final = Series(
    "sealspace_store_limit_bytes", "gauge", "Bound of rows, and of values in files: the setting store.max_bytes."
)
DISK_FREE_BYTES: Final = Series(
    "sealspace_disk_free_bytes", "gauge", "Bytes that are free on the disk of the data folder."
)
INTAKE_BYTES: Final = Series(
    "sealspace_intake_bytes", "gauge", "Memory that bodies on their way into the store hold, in all workers."
)
CACHE_BYTES: Final = Series(
    "sealspace_delegation_cache_bytes", "gauge", "Memory that decoded delegations hold, in all workers."
)
CACHE_MISSES: Final = Series(
    "sealspace_delegation_cache_misses_total", "counter", "Delegations that were looked for and were not in memory."
)
DATABASE_CONNECTIONS: Final = Series(
    "sealspace_database_connections",
    "gauge",
    "Connections to the database that are at work or idle, and statements that wait for one.",
    labels=(POOL, STATE),
)
CLOCK_SKEW: Final = Series(
    "sealspace_clock_skew_seconds",
    "gauge",
    "How far the node's clock is ahead of the database's, or behind.",
    labels=(SIDE,),
    unit=_MS,
)
CLAIM_FLOOR_AHEAD: Final = Series(
    "sealspace_claim_floor_ahead_seconds",
    "gauge",
    "How far the minute up to which replay records are removed is ahead of the database's clock.",
)
COLLATERAL_DOCUMENTS: Final = Series(
    "sealspace_collateral_documents", "gauge", "Platform families whose collateral is held."
)
COLLATERAL_AGE: Final = Series(
    "sealspace_collateral_age_seconds",
    "gauge",
    "Time since the collateral that was not renewed for longest came, or was found to be the newest.",
)
COLLATERAL_FAILING: Final = Series(
    "sealspace_collateral_failing", "gauge", "Platform families whose last fetch of collateral failed."
)
AUDIT_LAG: Final = Series(
    "sealspace_audit_lag_seconds", "gauge", "Age of the oldest audit record that is not in the chain yet."
)
LOOP_LAG: Final = Series(
    "sealspace_loop_lag_seconds",
    "histogram",
    "How late a timer came that is due every second.",
    bounds=_micros(1000, 5000, 25_000, 100_000, 1_000_000),
    unit=_NS,
    writers=(STOREKEEPER, WORKER),
)
CPU_SECONDS: Final = Series(
    "sealspace_process_cpu_seconds_total", "counter", "CPU time, user and system.", unit=_NS, writers=_ANY
)
RESIDENT_BYTES: Final = Series(
    "sealspace_process_resident_bytes",
    "gauge",
    "Resident memory, the pages of the store that were touched included.",
    writers=_ANY,
)
STARTED_AT: Final = Series(
    "sealspace_process_start_time_seconds", "gauge", "When the process was started, in epoch seconds.", writers=_ANY
)
RESTARTS: Final = Series(
    "sealspace_process_restarts_total",
    "counter",
    "How often the process ended and was started again.",
    writers=(STOREKEEPER, WORKER),
)

SERIES: Final = (
    REQUEST_SECONDS,
    REFUSALS,
    RELEASES,
    RELEASE_REFUSALS,
    OPEN_CONNECTIONS,
    GIVEN_UP,
    COMMITS,
    BATCH_COMMITS,
    SYNC_SECONDS,
    STORE_USED_BYTES,
    STORE_FILES_BYTES,
    STORE_LIMIT_BYTES,
    DISK_FREE_BYTES,
    INTAKE_BYTES,
    CACHE_BYTES,
    CACHE_MISSES,
    DATABASE_CONNECTIONS,
    CLOCK_SKEW,
    CLAIM_FLOOR_AHEAD,
    COLLATERAL_DOCUMENTS,
    COLLATERAL_AGE,
    COLLATERAL_FAILING,
    AUDIT_LAG,
    LOOP_LAG,
    CPU_SECONDS,
    RESIDENT_BYTES,
    STARTED_AT,
    RESTARTS,
)
_STARTS: Final = dict(
    zip([series.name for series in SERIES], accumulate([series.size for series in SERIES], initial=0), strict=False)
)
ROW_CELLS: Final = sum([series.size for series in SERIES])
"""Cells of one process's row."""
