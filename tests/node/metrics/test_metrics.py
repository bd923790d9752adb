"""The numbers of a node as they are counted, written and served; one process, no node."""

import os
import re
import resource
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from time import perf_counter_ns
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import AT_ONCE_S, PATIENCE_S
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests_support import REPOSITORY

from encryption_network.errors import NetworkNotFound, ReleaseRefused
from encryption_network.gate import REASONS
from encryption_network.release_facts import Ground
from node.config.tree import Config, Metrics
from node.http.messages.pages import NotFound
from node.http.messages.refusals import TABLE, code_of
from node.http.routes.table import ROUTES
from node.metrics.commit_tally import CommitTally
from node.metrics.counting import Counting
from node.metrics.measuring import Tally
from node.metrics.scraping import MAX_HEAD_BYTES, Scraping
from node.metrics.series import (
    BATCH_COMMITS,
    BOUND,
    CODE,
    COMMITS,
    CPU_SECONDS,
    GROUND,
    OPERATION,
    OTHER,
    REASON,
    RESIDENT_BYTES,
    ROW_CELLS,
    SERIES,
    STARTED_AT,
    STATUS,
    STORE_USED_BYTES,
)
from node.metrics.table import Table
from node.metrics.text import exposition
from node.metrics.vitals import Vitals
from node.rates import TooMany
from spaces.errors import IntakeFull, StoreBusy, StoreFull
from spaces.store.contract import Committed, Refused

PAGE = REPOSITORY / "spec" / "operations" / "metrics.md"
_GET = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9464\r\n\r\n"


def _families(*rows: str, table: Table | None = None) -> dict[str, Metric]:
    """Return what a reader of the format makes of the text, by the name of each family without `_total`."""
    table = table or Table.of(len(rows))
    text = exposition({name: table.row(at).tolist() for at, name in enumerate(rows)})
    return {family.name: family for family in text_string_to_metric_families(text)}


def _values(family: Metric, suffix: str = "", **labels: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a family that are not 0, by those of their labels that are not asked for."""
    return {
        tuple(text for name, text in sample.labels.items() if name not in labels): sample.value
        for sample in family.samples
        if sample.name == family.name + suffix and sample.value and labels.items() <= sample.labels.items()
    }


# --- the table of series -------------------------------------------------------------------------------------------


def test_the_series_lie_side_by_side() -> None:
    """The cells of all series fill a row, without a gap and without one that belongs to two."""
    taken = [cell for series in SERIES for cell in range(series.start, series.start + series.size)]
    assert taken == list(range(ROW_CELLS))


def test_grounds_and_reasons_are_the_gates() -> None:
    """Releases are counted by every ground, and refusals by every reason, that the gate knows."""
    assert set(GROUND.values) == set(get_args(Ground))
    assert set(REASON.values) == REASONS


def test_every_counted_code_exists() -> None:
    """Each code that is counted by itself is one that a refusal can have."""
    assert set(CODE.values) - TABLE.keys() == {OTHER}


def test_every_fault_of_the_node_is_counted_by_itself() -> None:
    """No code with which the node says that it cannot serve is counted among the others, but one with a name more."""
    faults = {code for code, row in TABLE.items() if row.is_fault}
    # A document that was taken in and does not hold: the alarms of the collateral itself tell of it (AT31).
    unusable = {f"collateral-{what}" for what in ("malformed", "signature", "mismatch", "root")}
    assert faults - set(CODE.values) == unusable


def test_routes_name_their_operation() -> None:
    """Of each operation there is a route, or the one route whose tokens say what they ask for."""
    named = {route.operation for route in ROUTES}
    by_token = {operation for operation in OPERATION.values if operation.startswith("kv_")}
    assert named == {None, *OPERATION.values} - by_token
    assert [route.path for route in ROUTES if route.operation is None] == ["/invoke"]


# --- the text ------------------------------------------------------------------------------------------------------


def test_the_text_is_read_as_it_is_meant() -> None:
    """A reader of the format finds every series with its kind, its labels and nothing that stands twice."""
    found = _families("supervisor", "storekeeper", "worker-0", "worker-1")
    expected = {series.name.removesuffix("_total"): series.kind for series in SERIES}
    assert expected | {"sealspace_requests": "counter"} == {name: family.type for name, family in found.items()}
    for family in found.values():
        assert family.documentation.endswith(".")
        keys = [(sample.name, *sorted(sample.labels.items())) for sample in family.samples]
        assert len(keys) == len(set(keys)) > 0


@pytest.mark.parametrize("workers", [1, 3])
def test_label_sets_are_bounded(workers: int) -> None:
    """How many numbers there are follows from the processes alone, whatever was counted, and labels are from lists."""
    names = ("supervisor", "storekeeper", *[f"worker-{at}" for at in range(workers)])
    table = Table.of(len(names))
    quiet = _families(*names, table=table)
    for at in range(len(names)):
        row = table.row(at)
        for cell in range(ROW_CELLS):
            row[cell] = cell + at
    busy = _families(*names, table=table)
    listed = {label.name: set(label.values) for series in SERIES for label in series.labels} | {"process": set(names)}
    for name, family in busy.items():
        assert [s.labels for s in family.samples] == [s.labels for s in quiet[name].samples]
        for sample in family.samples:
            assert all(label == "le" or value in listed[label] for label, value in sample.labels.items())


def test_a_process_shows_only_what_it_has() -> None:
    """What belongs to one kind of process is not shown of another, and a node on a database has no storekeeper."""
    found = _families("supervisor", "worker-0")
    assert {s.labels["process"] for s in found["sealspace_open_connections"].samples} == {"worker-0"}
    assert {s.labels["process"] for s in found["sealspace_process_cpu_seconds"].samples} == {"supervisor", "worker-0"}


def test_the_page_lists_every_series() -> None:
    """The generated table has each series that is scraped, with its type and labels, and each has advice above it."""
    advice, _, generated = PAGE.read_text("utf-8").partition("<!-- generated: series")
    rows = re.findall(r"^\| `(sealspace_\w+)` \| (\w+) \| ([^|]*)\|", generated, re.MULTILINE)
    said = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert len(said) == len(rows)
    shown: dict[str, tuple[str, set[str]]] = {}
    for family in _families("supervisor", "storekeeper", "worker-0").values():
        name = family.name + ("_total" if family.type == "counter" else "")
        shown[name] = (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
    assert said == shown
    assert sorted(re.findall(r"^\| `(sealspace_\w+)` \|", advice, re.MULTILINE)) == sorted(shown)


def test_the_page_lists_every_code() -> None:
    """The page for operators says of each counted code what to do, and names no other."""
    codes = PAGE.read_text("utf-8").partition("| `code` | what to do |")[2].partition("\n## ")[0]
    listed = [
        code for row in re.findall(r"^\| (`[^|]+) \|", codes, re.MULTILINE) for code in re.findall(r"`([^`]+)`", row)
    ]
    assert sorted(listed) == sorted(CODE.values)


def test_the_page_lists_the_operations() -> None:
    """The page for operators names each operation and bound, and each series of an example is one that there is."""
    text = PAGE.read_text("utf-8")
    assert {name for name in (*OPERATION.values, *BOUND.values) if f"`{name}`" not in text} == set()
    named = set(re.findall(r"\bsealspace_\w+", text))
    assert named <= {series.name for series in SERIES} | {"sealspace_requests_total"}


# --- counting ------------------------------------------------------------------------------------------------------


def test_an_answer_is_counted_once() -> None:
    """An answer adds one to its operation and status, and its time to the bucket that holds it, across workers."""
    table = Table.of(2)
    for at in range(2):
        tally = Tally(table.row(at))
        tally.answered("kv_get", 200, perf_counter_ns() - 3_000_000)
        tally.answered("kv_get", 404, perf_counter_ns() - 30_000_000)
        tally.answered("decrypt", 503, perf_counter_ns())
    found = _families("worker-0", "worker-1", table=table)
    requests = _values(found["sealspace_requests"], "_total")
    assert requests == {("kv_get", "2xx"): 2, ("kv_get", "4xx"): 2, ("decrypt", "5xx"): 2}
    seconds = found["sealspace_request_seconds"]
    assert _values(seconds, "_count") == {("kv_get",): 4, ("decrypt",): 2}
    assert _values(seconds, "_bucket", operation="kv_get") == {
        **{(bound,): 2 for bound in ("0.005", "0.01", "0.025")},
        **{(bound,): 4 for bound in ("0.1", "0.25", "1.0", "5.0", "+Inf")},
    }
    assert 0.066 <= _values(seconds, "_sum")[("kv_get",)] < 1


@pytest.mark.parametrize("status", STATUS.values)
@pytest.mark.parametrize("operation", OPERATION.values)
def test_every_answer_has_a_place(operation: str, status: str) -> None:
    """No operation and status is counted as another."""
    table = Table.of(1)
    Tally(table.row(0)).answered(operation, int(status[0]) * 100 + 99, perf_counter_ns())  # type: ignore[arg-type]  # from the list
    assert _values(_families("worker-0", table=table)["sealspace_requests"], "_total") == {(operation, status): 1}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreFull("no room"), "store-full"),
        (StoreBusy("others"), "store-busy"),
        (IntakeFull("others"), "intake-full"),
        (TooMany(1), "too-many-requests"),
        (NetworkNotFound(), OTHER),
        (NotFound(), OTHER),
        (ZeroDivisionError(), "internal"),
    ],
)
def test_refusals_are_counted_by_code(error: Exception, code: str) -> None:
    """A refusal counts under its code; an unknown code is another."""
    table = Table.of(1)
    Tally(table.row(0)).refused(error, code_of(error))
    assert _values(_families("worker-0", table=table)["sealspace_refusals"], "_total") == {(code,): 1}


def test_refused_releases_are_counted_by_reason() -> None:
    """A release that the gate refuses counts as a refusal, and under the gate's reason."""
    table = Table.of(1)
    error = ReleaseRefused("measurement", "what it was")
    Tally(table.row(0)).refused(error, code_of(error))
    found = _families("worker-0", table=table)
    assert _values(found["sealspace_refusals"], "_total") == {("release-refused",): 1}
    assert _values(found["sealspace_release_refusals"], "_total") == {("measurement",): 1}


def test_batches_are_counted() -> None:
    """Of a batch the outcomes count, of its sync the commits and the time, and the room is what was told last."""
    table = Table.of(1)
    tally = CommitTally(table.fileno(), 0)
    tally.judged([Committed(), Committed(), Refused(), StoreFull("full")])
    tally.judged([Committed()] * 200)
    tally.judged([Refused()])
    tally.synced(7_000_000)
    tally.synced(1_000)
    tally.used(8192)
    tally.used(4096)
    found = _families("storekeeper", table=table)
    assert _values(found["sealspace_commits"], "_total") == {("committed",): 202, ("refused",): 2, ("failed",): 1}
    batches, syncs = found["sealspace_batch_commits"], found["sealspace_sync_seconds"]
    assert (_values(batches, "_sum")[()], _values(batches, "_count")[()]) == (202, 2)
    assert (_values(batches, "_bucket", le="2")[()], _values(batches, "_bucket", le="128")[()]) == (1, 1)
    assert _values(syncs, "_bucket", le="0.005")[()] == 1
    assert _values(syncs, "_bucket", le="0.01")[()] == 2
    assert _values(syncs, "_sum")[()] == pytest.approx(0.007001)
    assert _values(found["sealspace_store_used_bytes"])[()] == 4096


def test_what_was_counted_outlives_its_process() -> None:
    """When a process has ended its gauges are 0 and its counters stay, for whoever maps the table anew."""
    table = Table.of(2)
    tally = CommitTally(table.fileno(), 1)
    tally.judged([Committed()])
    tally.synced(1)
    tally.used(4096)
    table.clear_gauges(1)
    row = Table(table.fileno()).row(1)
    assert (row[COMMITS.cell("committed")], row[BATCH_COMMITS.start], row[STORE_USED_BYTES.start]) == (1, 1, 0)
    assert sum(table.row(0).tolist()) == 0


def test_no_free_descriptor_ends_no_pulse() -> None:
    """A process that may open nothing more for now still notes its CPU time; its memory stays as it was noted last."""
    row = Table.of(1).row(0)
    vitals = Vitals(row)
    vitals.sample()
    used_ns, resident_bytes = row[CPU_SECONDS.start], row[RESIDENT_BYTES.start]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))  # the least that is free is above it
    try:
        vitals.sample()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert row[CPU_SECONDS.start] > used_ns
    assert row[RESIDENT_BYTES.start] == resident_bytes > 0


def test_an_end_is_noted() -> None:
    """When the supervisor hears that a process ended, its memory and start are gone from the text, and a restart is."""
    counting = Counting(Config(metrics=Metrics(listen="127.0.0.1:0")), ["storekeeper", "worker-0"])
    try:
        row = Table(counting.fileno()).row(counting.row_of("worker-0"))
        Tally(row).answered("kv_get", 200, perf_counter_ns())
        for series in (RESIDENT_BYTES, STARTED_AT, CPU_SECONDS):
            row[series.start] = 5_000_000_000
        counting.ended("worker-0")
        found = {family.name: family for family in text_string_to_metric_families(counting.text())}
    finally:
        counting.stop()
    assert ("worker-0",) not in _values(found["sealspace_process_resident_bytes"])
    assert ("worker-0",) not in _values(found["sealspace_process_start_time_seconds"])
    assert _values(found["sealspace_process_cpu_seconds"], "_total")[("worker-0",)] == 5
    assert _values(found["sealspace_requests"], "_total") == {("kv_get", "2xx"): 1}
    assert _values(found["sealspace_process_restarts"], "_total") == {("worker-0",): 1}
    assert _values(found["sealspace_process_resident_bytes"])[("supervisor",)] > 1 << 20
    assert _values(found["sealspace_store_limit_bytes"])[()] == Config().store.max_bytes


# --- the listener --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patient_port() -> Iterator[int]:
    """The port of a listener that is bound by a name and whose clients have time."""
    bound = socket.create_server(("127.0.0.1", 0))
    scraping = Scraping(bound, "metrics.example", lambda: "numbers\n", deadline_s=3600)
    scraping.start()
    yield int(bound.getsockname()[1])
    scraping.stop()


def _answer(port: int, sent: bytes) -> bytes:
    """Send what is all that a client says; return what comes until the end of the connection."""
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
        (_GET.replace(b"\r\nHost", b"\r\nHost: localhost\r\n Host"), 403),
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
    """Only a whole GET of the one path is answered, and only under a name that nobody else's name server gave out."""
    answer = _answer(patient_port, head)
    assert answer.endswith(b"\r\n\r\nnumbers\n") if status == 200 else b"numbers" not in answer
    assert answer.startswith(b"HTTP/1.1 %d " % status) if status else answer == b""


@given(st.binary(max_size=200).map(lambda junk: _GET[: len(junk) % 40] + junk) | st.binary(max_size=60))
def test_fuzz_any_head_has_an_end(patient_port: int, head: bytes) -> None:
    """Whatever comes is answered with a status or not at all, and repeats nothing; the next one is served."""
    for sent in (head, head + b"\r\n\r\n"):
        answer = _answer(patient_port, sent)
        assert not answer or re.match(rb"HTTP/1\.1 (200|400|403|404|431|501|505) [A-Za-z ]+\r\n", answer)
        assert len(answer) < 200
    assert _scrape(patient_port) == b"numbers\n"


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a listener whose clients have a second."""
    bound = socket.create_server(("127.0.0.1", 0))
    scraping = Scraping(bound, "127.0.0.1", lambda: "numbers\n", deadline_s=1.0)
    scraping.start()
    yield int(bound.getsockname()[1])
    scraping.stop()


def _scrape(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
        body: bytes = answer.read()
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return body


def test_a_silent_client_holds_up_nobody_for_long(port: int) -> None:
    """Who connects and says nothing, or half of it, or goes away, keeps nobody else from the numbers."""
    with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)) as halting:
        halting.sendall(_GET[:-2])
        socket.create_connection(("127.0.0.1", port)).close()
        assert _scrape(port) == b"numbers\n"
        assert halting.recv(100) == b""


def test_bytes_that_keep_coming_win_no_time() -> None:
    """When a head's time is over the connection ends, also where the next bytes are there already."""
    bound = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(bound.getsockname()) as client:
        client.sendall(_GET)
        scraping = Scraping(bound, "127.0.0.1", lambda: "numbers\n", deadline_s=0.0)
        scraping.start()
        client.settimeout(AT_ONCE_S)
        with suppress(ConnectionResetError):  # what it did not read it resets
            assert client.recv(100) == b""
        scraping.stop()


def test_a_long_head_is_refused(patient_port: int) -> None:
    """A head beyond the bound ends the connection without waiting for its end; one within it is answered."""
    longest = _GET[:-2] + b"A: " + b"a" * (MAX_HEAD_BYTES - len(_GET) - 5) + b"\r\n\r\n"
    assert _answer(patient_port, longest).startswith(b"HTTP/1.1 200 ")
    with socket.create_connection(("127.0.0.1", patient_port), timeout=AT_ONCE_S) as client:
        client.sendall(longest.replace(b"A: ", b"A: a")[:MAX_HEAD_BYTES])
        assert client.recv(100) == b""


def test_a_scrape_that_fails_ends_nothing() -> None:
    """What goes wrong while the text is made costs that scrape its answer, and no other."""
    made: list[str] = []

    def text() -> str:
        made.append("")
        if len(made) == 1:
            raise ZeroDivisionError
        return "numbers\n"

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


# --- off -----------------------------------------------------------------------------------------------------------


def test_nothing_is_loaded_where_nobody_asks() -> None:
    """Without `metrics.listen` no process loads what counts."""
    program = (
        "import sys, node.processes.supervisor, node.processes.worker\n"
        "import node.processes.storekeeper\n"
        "print([name for name in sys.modules if name.startswith(('node.metrics', 'prometheus'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout == "[]\n"
