"""A runner's metrics for Prometheus (RN296).

A thread answers scrapes, and has the event loop read the values for each of them. So a runner whose
event loop hangs answers no scrape. Labels come from lists in the code, and never from callers.

Example:
    with serving_metrics(bound, "127.0.0.1", RunnerMetrics(calls, folder)):
        ...  # scrapes are answered
"""

import asyncio
import logging
import resource
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.scraping import Scraping

from ..calls.calls import MOST_ANSWERED, MOST_QUEUED, Calls
from ..calls.ended_calls import OUTCOMES
from ..calls.journal_copies import JOURNAL_NAME, file_bytes
from ..calls.ledger import MOST_DONE_BYTES, LedgerTotals
from ..reasons import REASONS

_READ_S = 2.0
_PAGE_BYTES = resource.getpagesize()
_PREFIX = "sealspace_runner_"
_log = logging.getLogger(__name__)


class RunnerSeries(NamedTuple):
    """The definition of one metric.

    Attributes:
        name: its name. A name that ends in `_total` is a counter, any other one a gauge.
        help: one sentence.
        label: name of its label, or "".
        values: every value of its label.
    """

    name: str
    help: str
    label: str = ""
    values: Sequence[str] = ("",)

    @property
    def kind(self) -> str:
        """The Prometheus type of the metric."""
        return "counter" if self.name.endswith("_total") else "gauge"

    def family(self, values: "Values") -> Metric:
        """Return the metric with its present values."""
        family_class = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        has_label = self.label != ""
        family = family_class(self.name, self.help, labels=[self.label] if has_label else [])
        for label_value in self.values:
            family.add_metric([label_value] if has_label else [], values[self.name, label_value])
        return family


Values = dict[tuple[str, str], float]
"""Values by the name of the metric and the value of its label."""

SERIES = (
    RunnerSeries(
        name=f"{_PREFIX}calls_total",
        help="Ended calls by outcome.",
        label="outcome",
        values=OUTCOMES,
    ),
    RunnerSeries(
        name=f"{_PREFIX}refusals_total",
        help="Requests that were refused before they became calls.",
        label="code",
        values=tuple(REASONS),
    ),
    RunnerSeries(name=f"{_PREFIX}instructions_total", help="Instructions of programs, rounded up."),
    RunnerSeries(name=f"{_PREFIX}program_seconds_total", help="Time of programs, rounded up."),
    RunnerSeries(
        name=f"{_PREFIX}charged_micro_units_total", help="Amount charged since the start."
    ),
    RunnerSeries(name=f"{_PREFIX}answered_calls", help="Synchronous calls in progress."),
    RunnerSeries(name=f"{_PREFIX}answered_calls_limit", help="Most synchronous calls at one time."),
    RunnerSeries(
        name=f"{_PREFIX}recorded_calls",
        help="Calls in the journal that have not ended.",
        label="state",
        values=("waiting", "started"),
    ),
    RunnerSeries(
        name=f"{_PREFIX}recorded_calls_limit", help="Most asynchronous calls at one time."
    ),
    RunnerSeries(
        name=f"{_PREFIX}programs",
        help="Programs that run, or wait for a child.",
        label="state",
        values=("running", "waiting"),
    ),
    RunnerSeries(
        name=f"{_PREFIX}children",
        help="Child processes: all, unused ones, and those kept for a caller.",
        label="state",
        values=("alive", "unused", "kept"),
    ),
    RunnerSeries(
        name=f"{_PREFIX}children_private_bytes", help="Memory of all children that no file backs."
    ),
    RunnerSeries(name=f"{_PREFIX}accounts", help="Accounts of payers."),
    RunnerSeries(
        name=f"{_PREFIX}accounts_micro_units",
        help="Sums of all accounts.",
        label="amount",
        values=("balance", "reserved", "charged"),
    ),
    RunnerSeries(
        name=f"{_PREFIX}grants",
        help="Grants that the runner holds.",
        label="state",
        values=("live", "ended"),
    ),
    RunnerSeries(name=f"{_PREFIX}receipts", help="Stored receipts."),
    RunnerSeries(name=f"{_PREFIX}answers_bytes", help="Stored answers of asynchronous calls."),
    RunnerSeries(name=f"{_PREFIX}answers_limit_bytes", help="Most bytes of stored answers."),
    RunnerSeries(
        name=f"{_PREFIX}journal_bytes",
        help="Size of the journal's files.",
        label="file",
        values=("database", "log"),
    ),
    RunnerSeries(
        name=f"{_PREFIX}disk_free_bytes", help="Free space on the disk of the data folder."
    ),
    RunnerSeries(
        name=f"{_PREFIX}task_folder_free_bytes",
        help="Free memory for files of tasks; 0 without tasks.",
    ),
    RunnerSeries(name=f"{_PREFIX}draining", help="1 while the runner is about to stop."),
    RunnerSeries(
        name=f"{_PREFIX}resident_bytes", help="Resident memory of the runner without its children."
    ),
    RunnerSeries(
        name=f"{_PREFIX}cpu_seconds_total", help="CPU time of the runner and of ended children."
    ),
    RunnerSeries(
        name=f"{_PREFIX}start_time_seconds", help="When the runner was started, in epoch seconds."
    ),
)


class RunnerMetrics(Collector):
    """The metrics of a runner; made on its event loop."""

    def __init__(self, calls: Calls, folder: Path) -> None:
        self._calls = calls
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._started_at = time.time()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that the registry does not collect when this is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric. Call it in another thread than that of the event loop.

        Raises TimeoutError if the event loop does not answer within two seconds.
        """
        reading = asyncio.run_coroutine_threadsafe(self._read(), self._loop)
        try:
            values = reading.result(_READ_S)
        finally:
            reading.cancel()
        for series in SERIES:
            yield series.family(values)

    def text(self) -> bytes:
        """Return all metrics in Prometheus text format."""
        return generate_latest(self._registry)

    async def _read(self) -> Values:
        """Read the value of every series, on the event loop."""
        samples = _Samples()
        totals = await self._calls.ledger.totals()
        self._add_ended_calls(samples)
        self._add_ledger(samples, totals)
        self._add_programs(samples)
        self._add_grants(samples)
        self._add_disk(samples)
        self._add_process(samples)
        return samples.values

    def _add_ended_calls(self, samples: "_Samples") -> None:
        """Add the counts of the calls that have ended since the start."""
        ended = self._calls.ended
        for outcome in OUTCOMES:
            samples.add("calls_total", ended.outcomes[outcome], label=outcome)
        for code in REASONS:
            samples.add("refusals_total", ended.refusals[code], label=code)
        samples.add("instructions_total", ended.instructions)
        samples.add("program_seconds_total", ended.time_ms / 1000)
        samples.add("charged_micro_units_total", ended.charged)

    def _add_ledger(self, samples: "_Samples", totals: LedgerTotals) -> None:
        """Add the calls in progress and in the journal, the accounts, receipts and answers."""
        samples.add("answered_calls", self._calls.answered)
        samples.add("answered_calls_limit", MOST_ANSWERED)
        samples.add("recorded_calls", totals.waiting, label="waiting")
        samples.add("recorded_calls", totals.started, label="started")
        samples.add("recorded_calls_limit", MOST_QUEUED)
        samples.add("accounts", totals.accounts)
        for name, amount in totals.amounts._asdict().items():
            samples.add("accounts_micro_units", amount, label=name)
        samples.add("receipts", totals.receipts)
        samples.add("answers_bytes", totals.answer_bytes)
        samples.add("answers_limit_bytes", MOST_DONE_BYTES)

    def _add_programs(self, samples: "_Samples") -> None:
        """Add the programs and their child processes."""
        use = self._calls.runner.executor.use
        samples.add("programs", use.running, label="running")
        samples.add("programs", use.waiting, label="waiting")
        samples.add("children", use.pool.alive, label="alive")
        samples.add("children", use.pool.unused, label="unused")
        samples.add("children", use.kept, label="kept")
        samples.add("children_private_bytes", use.pool.private_bytes)

    def _add_grants(self, samples: "_Samples") -> None:
        """Add the grants, by whether they are live."""
        live = 0
        ended = 0
        for grant in self._calls.runner.backend.grants:
            if grant.state == "live":
                live += 1
            else:
                ended += 1
        samples.add("grants", live, label="live")
        samples.add("grants", ended, label="ended")

    def _add_disk(self, samples: "_Samples") -> None:
        """Add the size of the journal, and the free space of the folders."""
        journal = self._folder / JOURNAL_NAME
        samples.add("journal_bytes", file_bytes(journal), label="database")
        samples.add("journal_bytes", file_bytes(Path(f"{journal}-wal")), label="log")
        samples.add("disk_free_bytes", shutil.disk_usage(self._folder).free)
        tasks = self._calls.runner.tasks
        task_free_bytes = 0 if tasks is None else shutil.disk_usage(tasks.root).free
        samples.add("task_folder_free_bytes", task_free_bytes)

    def _add_process(self, samples: "_Samples") -> None:
        """Add the state, the memory and the CPU time of the runner's process."""
        samples.add("draining", self._calls.is_draining)
        samples.add("resident_bytes", _resident_bytes())
        own = resource.getrusage(resource.RUSAGE_SELF)
        ended_children = resource.getrusage(resource.RUSAGE_CHILDREN)
        own_s = own.ru_utime + own.ru_stime
        ended_children_s = ended_children.ru_utime + ended_children.ru_stime
        samples.add("cpu_seconds_total", own_s + ended_children_s)
        samples.add("start_time_seconds", self._started_at)


class _Samples:
    """The values that were read for one scrape."""

    def __init__(self) -> None:
        self.values: Values = {}

    def add(self, name: str, value: float, *, label: str = "") -> None:
        """Add a value. `name` is that of its series, without the prefix."""
        self.values[_PREFIX + name, label] = value


@contextmanager
def serving_metrics(bound: socket.socket, host: str, metrics: RunnerMetrics) -> Iterator[None]:
    """Answer scrapes on a bound socket until the `with` block ends."""
    scraping = Scraping(bound, host, metrics.text, on_error=_report)
    scraping.start()
    try:
        yield
    finally:
        scraping.stop()


def _report(error: Exception) -> None:
    """Log that a scrape failed, by the type of its error."""
    _log.warning("a scrape of the metrics failed: %s", type(error).__name__)


def _resident_bytes() -> int:
    """Return the resident memory of this process."""
    _total_pages, pages, *_ = Path("/proc/self/statm").read_text("ascii").split()
    return int(pages) * _PAGE_BYTES
