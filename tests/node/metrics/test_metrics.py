"""Counting, writing and serving of metrics, in one process without a node."""

import os
import re
import resource
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from math import prod
from pathlib import Path
from time import perf_counter_ns

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import AT_ONCE_S, PATIENCE_S
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from scraped_metrics import families, numbers
from tests_support import REPOSITORY

from encryption_network.network_errors import ReleaseRefused, RequestError
from node.config.tree import Config, Metrics
from node.counts import OTHER
from node.http.messages.refusals import TABLE, code_of
from node.http.routes.route_table import ROUTES
from node.metrics.series import (
    BOUNDS,
    CODES,
    SERIES,
    ProcessMetrics,
)
from node.metrics.storekeeper_metrics import StorekeeperMetrics
from node.metrics.supervisor_metrics import SupervisorMetrics
from node.metrics.worker_metrics import WorkerMetrics
from node.refusal import Refusal
from sealspace.service.command_errors import ConfigurationError
from serving.scraping import MAX_HEAD_BYTES, MOST_CLIENTS, Scraping
from spaces.space_errors import IntakeFull, StoreBusy, StoreFull
from spaces.store.contract import Committed, Refused

PAGE = REPOSITORY / "spec" / "operations" / "metrics.md"
REQUESTS = next(series for series in SERIES if series.name == "sealspace_requests_total")
OPERATIONS, STATUSES = REQUESTS.labels["operation"], REQUESTS.labels["status"]
_GET = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9464\r\n\r\n"


def _families(folder: Path, *processes: str) -> dict[str, Metric]:
    """Return the metric families after starting some processes on the folder."""
    for process in processes:
        ProcessMetrics(str(folder), process)
    return families(folder)


def _values(family: Metric, suffix: str = "", **labels: str) -> dict[tuple[str, ...], float]:
    """Return the non-zero samples of a family by their remaining labels."""
    return {
        tuple(text for name, text in sample.labels.items() if name not in labels): sample.value
        for sample in family.samples
        if sample.name == family.name + suffix
        and sample.value
        and labels.items() <= sample.labels.items()
    }


# --- the table of series --------------------------------------------------------------------------


def test_every_counted_code_exists() -> None:
    """Each code with a counter of its own is the code of some refusal."""
    assert set(CODES) - TABLE.keys() == {OTHER}


def test_every_fault_of_the_node_is_counted_by_itself() -> None:
    """Every code for a fault of the node has its own counter, except for unusable collateral."""
    faults = {code for code, row in TABLE.items() if row.is_fault}
    # A stored document that is not valid has alarms of its own (AT31).
    unusable = {f"collateral-{what}" for what in ("malformed", "signature", "mismatch", "root")}
    assert faults - set(CODES) == unusable


def test_routes_name_their_operation() -> None:
    """Each operation belongs to a route, or to the route whose tokens determine it."""
    named = {route.operation for route in ROUTES}
    by_token = {one for one in OPERATIONS if one.startswith("kv_")} | {"sql"}
    assert named == {None, *OPERATIONS} - by_token
    assert [route.path for route in ROUTES if route.operation is None] == ["/invoke"]


# --- the text -------------------------------------------------------------------------------------


def test_the_text_is_read_as_it_is_meant(tmp_path: Path) -> None:
    """A Prometheus parser finds every series with its type and labels, and no duplicates."""
    found = _families(tmp_path, "supervisor", "storekeeper", "worker-0", "worker-1")
    assert {series.name.removesuffix("_total"): series.kind for series in SERIES} == {
        name: family.type for name, family in found.items()
    }
    for family in found.values():
        assert family.documentation.endswith(".")
        keys = [(sample.name, *sorted(sample.labels.items())) for sample in family.samples]
        assert len(keys) == len(set(keys)) > 0


def test_labels_are_from_lists(tmp_path: Path) -> None:
    """Every time series exists before anything is counted, with labels from lists in the code."""
    processes = ("supervisor", "storekeeper", "worker-0", "worker-1")
    found = _families(tmp_path, *processes)
    for series in SERIES:
        listed = dict(series.labels) | ({"process": processes} if series.writers else {})
        family = found[series.name.removesuffix("_total")]
        sets = {
            tuple(item for item in sample.labels.items() if item[0] != "le")
            for sample in family.samples
        }
        names = [name for name in processes if name.partition("-")[0] in series.writers]
        assert len(sets) == prod([len(values) for values in series.labels.values()]) * (
            len(names) or 1
        )
        assert all(value in listed[label] for labels in sets for label, value in labels)


def test_a_process_shows_only_what_it_has(tmp_path: Path) -> None:
    """Processes export only metrics of their kind; a node on a database has no storekeeper."""
    found = _families(tmp_path, "supervisor", "worker-0")
    assert {s.labels["process"] for s in found["sealspace_open_connections"].samples} == {
        "worker-0"
    }
    assert {s.labels["process"] for s in found["sealspace_process_cpu_seconds"].samples} == {
        "supervisor",
        "worker-0",
    }


def test_the_page_lists_every_series(tmp_path: Path) -> None:
    """The page lists each series with type and labels, and has advice for each."""
    advice, _, generated = PAGE.read_text("utf-8").partition("<!-- generated: series")
    rows = re.findall(r"^\| `(sealspace_\w+)` \| (\w+) \| ([^|]*)\|", generated, re.MULTILINE)
    said = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert len(said) == len(rows)
    shown: dict[str, tuple[str, set[str]]] = {}
    for family in _families(tmp_path, "supervisor", "storekeeper", "worker-0").values():
        name = family.name + ("_total" if family.type == "counter" else "")
        shown[name] = (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
    assert said == shown
    assert sorted(re.findall(r"^\| `(sealspace_\w+)` \|", advice, re.MULTILINE)) == sorted(shown)


def test_the_page_lists_every_code() -> None:
    """The page for operators has advice for exactly the counted codes."""
    codes = PAGE.read_text("utf-8").partition("| `code` | what to do |")[2].partition("\n## ")[0]
    listed = [
        code
        for row in re.findall(r"^\| (`[^|]+) \|", codes, re.MULTILINE)
        for code in re.findall(r"`([^`]+)`", row)
    ]
    assert sorted(listed) == sorted(CODES)


def test_the_page_lists_the_operations() -> None:
    """The page names all operations and limits, and its examples name existing series."""
    text = PAGE.read_text("utf-8")
    assert {name for name in (*OPERATIONS, *BOUNDS) if f"`{name}`" not in text} == set()
    named = set(re.findall(r"\bsealspace_\w+", text))
    assert named <= {series.name for series in SERIES}


# --- counting -------------------------------------------------------------------------------------


def test_an_answer_is_counted_once(tmp_path: Path) -> None:
    """An answer increments its operation and status and one time bucket, across workers."""
    for process in ("worker-0", "worker-1"):
        metrics = WorkerMetrics(str(tmp_path), process)
        metrics.answered("kv_get", 200, perf_counter_ns() - 3_000_000)
        metrics.answered("kv_get", 404, perf_counter_ns() - 30_000_000)
        metrics.answered("decrypt", 503, perf_counter_ns())
    found = _families(tmp_path)
    requests = _values(found["sealspace_requests"], "_total")
    assert requests == {("kv_get", "2xx"): 2, ("kv_get", "4xx"): 2, ("decrypt", "5xx"): 2}
    seconds = found["sealspace_request_seconds"]
    assert _values(seconds, "_count") == {("kv_get",): 4, ("decrypt",): 2}
    assert _values(seconds, "_bucket", operation="kv_get") == {
        **{(bound,): 2 for bound in ("0.005", "0.01", "0.025")},
        **{(bound,): 4 for bound in ("0.1", "0.25", "1.0", "5.0", "+Inf")},
    }
    assert 0.066 <= _values(seconds, "_sum")[("kv_get",)] < 1


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_has_a_place(tmp_path: Path, operation: str, status: str) -> None:
    """Each operation and each status has its own counter."""
    metrics = WorkerMetrics(str(tmp_path), "worker-0")
    metrics.answered(operation, int(status[0]) * 100 + 99, perf_counter_ns())  # type: ignore[arg-type]  # from the list
    assert _values(_families(tmp_path)["sealspace_requests"], "_total") == {(operation, status): 1}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreFull("no room"), "store-full"),
        (StoreBusy("others"), "store-busy"),
        (IntakeFull("others"), "intake-full"),
        (Refusal("too-many-requests", retry_after_s=1), "too-many-requests"),
        (RequestError("network-not-found"), OTHER),
        (Refusal("not-found"), OTHER),
        (ZeroDivisionError(), "internal"),
    ],
)
def test_refusals_are_counted_by_code(tmp_path: Path, error: Exception, code: str) -> None:
    """A refusal is counted by its code, and an unknown code as `other`."""
    WorkerMetrics(str(tmp_path), "worker-0").refused(error, code_of(error))
    assert _values(_families(tmp_path)["sealspace_refusals"], "_total") == {(code,): 1}


def test_refused_releases_are_counted_by_reason(tmp_path: Path) -> None:
    """A refused release is counted as a refusal and by the gate's reason."""
    error = ReleaseRefused("measurement", "what it was")
    WorkerMetrics(str(tmp_path), "worker-0").refused(error, code_of(error))
    found = _families(tmp_path)
    assert _values(found["sealspace_refusals"], "_total") == {("release-refused",): 1}
    assert _values(found["sealspace_release_refusals"], "_total") == {("measurement",): 1}


def test_batches_are_counted(tmp_path: Path) -> None:
    """For a batch, outcomes, commits per sync, sync time and used bytes are recorded."""
    metrics = StorekeeperMetrics(str(tmp_path), "storekeeper")
    metrics.judged([Committed(), Committed(), Refused(), StoreFull("full")])
    metrics.judged([Committed()] * 200)
    metrics.judged([Refused()])
    metrics.synced(7_000_000)
    metrics.synced(1_000)
    metrics.used(8192)
    metrics.used(4096)
    found = _families(tmp_path)
    assert _values(found["sealspace_commits"], "_total") == {
        ("committed",): 202,
        ("refused",): 2,
        ("failed",): 1,
    }
    batches, syncs = found["sealspace_batch_commits"], found["sealspace_sync_seconds"]
    assert _values(batches, "_sum")[()] == 202
    assert _values(batches, "_count")[()] == 2
    assert _values(batches, "_bucket", le="2.0")[()] == 1
    assert _values(batches, "_bucket", le="128.0")[()] == 1
    assert _values(syncs, "_bucket", le="0.005")[()] == 1
    assert _values(syncs, "_bucket", le="0.01")[()] == 2
    assert _values(syncs, "_sum")[()] == pytest.approx(0.007001)
    assert _values(found["sealspace_store_used_bytes"])[()] == 4096


def test_no_free_descriptor_ends_no_sampling(tmp_path: Path) -> None:
    """Without a free descriptor, CPU time is still recorded and memory keeps its last number."""
    metrics = ProcessMetrics(str(tmp_path), "worker-0")
    metrics.sample()
    before = numbers(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))  # the least that is free is above it
    try:
        metrics.sample()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    now = numbers(tmp_path)
    cpu, memory = (
        ("sealspace_process_cpu_seconds_total", "worker-0"),
        ("sealspace_process_resident_bytes", "worker-0"),
    )
    assert now[cpu] > before[cpu]
    assert now[memory] == before[memory] > 0


def test_what_was_counted_outlives_its_process() -> None:
    """After a process ends, its gauges are 0, its restart is counted, and its counters continue."""
    counting = SupervisorMetrics(
        Config(metrics=Metrics(listen="127.0.0.1:0")), ["storekeeper", "worker-0"]
    )
    assert os.stat(counting.folder).st_mode & 0o777 == 0o700
    try:
        for _ in range(2):
            worker = WorkerMetrics(counting.folder, "worker-0")
            worker.answered("kv_get", 200, perf_counter_ns())
            for series in (
                "sealspace_process_resident_bytes",
                "sealspace_process_start_time_seconds",
            ):
                worker.cells[series, "worker-0"].set(5)
            worker.cells["sealspace_process_cpu_seconds_total", "worker-0"].inc(5)
            counting.ended("worker-0")
        found = {
            family.name: family
            for family in text_string_to_metric_families(counting.text().decode())
        }
    finally:
        counting.stop()
    assert not Path(counting.folder).exists()
    for name in ("resident_bytes", "start_time_seconds"):
        assert {s.labels["process"]: s.value for s in found[f"sealspace_process_{name}"].samples}[
            "worker-0"
        ] == 0
    assert _values(found["sealspace_process_cpu_seconds"], "_total")[("worker-0",)] == 10
    assert _values(found["sealspace_requests"], "_total") == {("kv_get", "2xx"): 2}
    assert _values(found["sealspace_process_restarts"], "_total") == {("worker-0",): 2}
    assert _values(found["sealspace_process_resident_bytes"])[("supervisor",)] > 1 << 20
    assert _values(found["sealspace_store_limit_bytes"])[()] == Config().store.max_bytes


def test_a_file_that_is_being_made_delays_a_scrape() -> None:
    """A scrape waits for a process that created a file but has not written to it yet."""
    counting = SupervisorMetrics(Config(metrics=Metrics(listen="127.0.0.1:0")), ["worker-0"])
    try:
        Path(counting.folder, "counter_worker-0.db").touch()
        starting = threading.Timer(0.1, WorkerMetrics, (counting.folder, "worker-0"))
        starting.start()
        assert b"sealspace_requests_total" in counting.text()
        starting.join()
    finally:
        counting.stop()


def test_no_folder_for_the_numbers_refuses_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the folder cannot be created, the error has a next step."""
    monkeypatch.setattr("node.metrics.supervisor_metrics.MEMORY", str(tmp_path / "absent"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(ConfigurationError, match="cannot make a folder for metrics") as refused:
        SupervisorMetrics(Config(metrics=Metrics(listen="127.0.0.1:0")), ["worker-0"])
    assert "TMPDIR" in refused.value.hint


# --- the listener ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patient_port() -> Iterator[int]:
    """The port of a listener bound by name, with a long time limit."""
    bound = socket.create_server(("127.0.0.1", 0))
    scraping = Scraping(bound, "metrics.example", lambda: b"numbers\n", deadline_s=3600)
    scraping.start()
    yield int(bound.getsockname()[1])
    scraping.stop()


def _answer(port: int, sent: bytes) -> bytes:
    """Send bytes and return everything received until the connection ends."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=AT_ONCE_S) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        while piece := client.recv(4096):
            answer += piece
    return answer


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (_GET, 200),
        (_GET.replace(b"127.0.0.1", b"localhost"), 200),
        (_GET.replace(b"127.0.0.1", b"[::1]"), 200),
        (_GET.replace(b"127.0.0.1", b"10.1.2.3"), 200),
        (_GET.replace(b"127.0.0.1:9464", b"metrics.example"), 200),
        (_GET.replace(b"/metrics", b"/metrics?x=1"), 200),
        (_GET.replace(b"127.0.0.1", b"attacker.example"), 403),
        (_GET.replace(b"127.0.0.1", b"127.0.0.1.attacker.example"), 403),
        (_GET.replace(b"127.0.0.1:9464", b""), 403),
        (_GET.replace(b"/metrics", b"/"), 404),
        (_GET.replace(b"/metrics", b"/metrics/"), 404),
        (_GET.replace(b"GET", b"POST"), 501),
        (_GET.replace(b"GET", b"HEAD"), 501),
        (_GET.replace(b"Host: 127.0.0.1:9464\r\n", b""), 400),
        (_GET.replace(b"\r\n\r\n", b"\r\nhost: localhost\r\n\r\n"), 400),
        (_GET.replace(b" HTTP/1.1", b""), 400),
        (_GET.replace(b"HTTP/1.1", b"HTTP/2"), 400),
        (_GET.replace(b"Host: ", b"Host "), 400),
        (_GET.replace(b"\r\nHost", b"\r\nHost: localhost\r\n Host"), 400),
        (_GET.replace(b"HTTP/1.1", b"HTTP/0.9"), 400),
        (_GET.replace(b"\r\n\r\n", b"\r\njunk\r\nHost: attacker.example\r\n\r\n"), 400),
        (_GET.replace(b"127.0.0.1:9464", b"999.999.999.999"), 403),
        (_GET.replace(b"127.0.0.1:9464", b"1.2.3"), 403),
        (_GET.replace(b"\r\nHost", b"\r\nX: a\nHost"), None),
        (_GET[:-1], None),
        (b"", None),
    ],
)
def test_who_may_read(patient_port: int, head: bytes, status: int | None) -> None:
    """Only `GET /metrics` under an allowed host is answered (DNS rebinding)."""
    answer = _answer(patient_port, head)
    assert answer.endswith(b"\r\n\r\nnumbers\n") if status == 200 else b"numbers" not in answer
    assert answer.startswith(b"HTTP/1.1 %d " % status) if status else answer == b""


@given(
    st.binary(max_size=200).map(lambda junk: _GET[: len(junk) % 40] + junk) | st.binary(max_size=60)
)
def test_fuzz_any_head_has_an_end(patient_port: int, head: bytes) -> None:
    """Any bytes get a status or no answer, are never repeated, and do not affect the next
    scrape."""
    for sent in (head, head + b"\r\n\r\n"):
        answer = _answer(patient_port, sent)
        assert not answer or re.match(
            rb"HTTP/1\.1 (200|400|403|404|431|501|505) [A-Za-z ]+\r\n", answer
        )
        assert len(answer) < 200
    assert _scrape(patient_port) == b"numbers\n"


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a listener with a time limit of one second."""
    bound = socket.create_server(("127.0.0.1", 0))
    scraping = Scraping(bound, "127.0.0.1", lambda: b"numbers\n", deadline_s=1.0)
    scraping.start()
    yield int(bound.getsockname()[1])
    scraping.stop()


def _scrape(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
        body: bytes = answer.read()
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return body


def test_a_silent_client_holds_up_nobody_for_long(port: int) -> None:
    """A client that connects and sends nothing or half a request delays others only briefly."""
    with (
        socket.create_connection(("127.0.0.1", port)),
        socket.create_connection(("127.0.0.1", port)) as halting,
    ):
        halting.sendall(_GET[:-2])
        socket.create_connection(("127.0.0.1", port)).close()
        assert _scrape(port) == b"numbers\n"
        assert halting.recv(100) == b""


def test_silent_clients_delay_no_scrape(patient_port: int) -> None:
    """Any number of clients that send nothing or half a request delays no scrape."""
    with ExitStack() as stack:
        for number in range(2 * MOST_CLIENTS):
            client = socket.create_connection(("127.0.0.1", patient_port))
            stack.enter_context(client)
            if number % 2:
                client.sendall(_GET[:-2])
        assert _scrape(patient_port) == b"numbers\n"


_LONG_METRICS = b"number\n" * (1 << 17)


@pytest.fixture
def long_port() -> Iterator[int]:
    """The port of a listener with a long time limit, and an answer that has to be read."""
    bound = socket.create_server(("127.0.0.1", 0))
    # The kernel keeps less than an answer for a connection, which inherits this.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
    scraping = Scraping(bound, "127.0.0.1", lambda: _LONG_METRICS, deadline_s=3600)
    scraping.start()
    yield int(bound.getsockname()[1])
    scraping.stop()


def _ask_without_reading(port: int) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    client.settimeout(AT_ONCE_S)
    client.connect(("127.0.0.1", port))
    client.sendall(_GET)
    return client


def test_clients_that_read_nothing_delay_no_scrape(long_port: int) -> None:
    """Clients that send a request and do not read the answer delay no scrape."""
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(_ask_without_reading(long_port))
        assert _scrape(long_port) == _LONG_METRICS


def test_one_more_client_closes_the_oldest_silent_one(long_port: int) -> None:
    """The number of clients is bounded: one more closes the oldest that sent no request, and a
    client that is being answered goes last."""
    with ExitStack() as stack:
        reading = stack.enter_context(_ask_without_reading(long_port))
        assert reading.recv(1) == b"H"  # its answer has begun
        silent = []
        for _ in range(MOST_CLIENTS):
            client = socket.create_connection(("127.0.0.1", long_port), timeout=AT_ONCE_S)
            silent.append(stack.enter_context(client))
        assert silent[0].recv(1) == b""
        answer = b""
        while piece := reading.recv(1 << 16):
            answer += piece
        assert answer.endswith(_LONG_METRICS)


def test_bytes_that_keep_coming_win_no_time() -> None:
    """The time limit of a head ends the connection even while bytes keep arriving."""
    bound = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(bound.getsockname()) as client:
        client.sendall(_GET)
        scraping = Scraping(bound, "127.0.0.1", lambda: b"numbers\n", deadline_s=0.0)
        scraping.start()
        client.settimeout(AT_ONCE_S)
        with suppress(ConnectionResetError):  # what it did not read it resets
            assert client.recv(100) == b""
        scraping.stop()


def test_a_long_head_is_refused(patient_port: int) -> None:
    """A head that is too long ends the connection at once."""
    longest = _GET[:-2] + b"A: " + b"a" * (MAX_HEAD_BYTES - len(_GET) - 5) + b"\r\n\r\n"
    assert _answer(patient_port, longest).startswith(b"HTTP/1.1 200 ")
    with socket.create_connection(("127.0.0.1", patient_port), timeout=AT_ONCE_S) as client:
        client.sendall(longest.replace(b"A: ", b"A: a")[:MAX_HEAD_BYTES])
        assert client.recv(100) == b""


def test_a_scrape_that_fails_ends_nothing() -> None:
    """An error while making the text fails only that scrape."""
    made: list[str] = []

    def text() -> bytes:
        made.append("")
        if len(made) == 1:
            raise ZeroDivisionError
        return b"numbers\n"

    bound = socket.create_server(("127.0.0.1", 0))
    scraping = Scraping(bound, "127.0.0.1", text)
    scraping.start()
    try:
        port = int(bound.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port), timeout=AT_ONCE_S) as client:
            client.sendall(_GET)
            assert client.recv(100) == b""
        assert _scrape(port) == b"numbers\n"
    finally:
        scraping.stop()


# --- off ------------------------------------------------------------------------------------------


def test_nothing_is_loaded_where_nobody_asks() -> None:
    """Without `metrics.listen`, no process loads prometheus-client."""
    program = (
        "import sys, node.processes.supervisor, node.processes.worker\n"
        "import node.processes.storekeeper\n"
        "print([name for name in sys.modules if name.startswith(('node.metrics', 'prometheus'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"
