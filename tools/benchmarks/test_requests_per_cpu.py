"""Tests that the benchmark runs every load on two nodes without a failed request."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from driving import Answer, Drive, RequestFailed, drive
from floors import Floors
from loads import ATTESTED, LOADS
from measuring import OTHER, OURS, Round, Total
from page import page
from processes import used_by
from report import Report, printed, report_of
from scenarios import SCENARIOS
from started_servers import own_node

HERE = Path(__file__).parent
FLOORS = Floors(signature=50.0, token=20.0, signing=40.0, rewrapping=90.0, http={1: 50.0, 16: 30.0})


def run_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark with few requests."""
    command = [
        sys.executable,
        str(HERE / "requests_per_cpu.py"),
        "--rounds",
        "1",
        "--requests",
        "3",
        *arguments,
    ]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=HERE.parent.parent, timeout=240
    )


@pytest.mark.slow
def test_every_load_on_two_nodes(tmp_path: Path) -> None:
    """Both nodes answer all loads, and the figures are JSON."""
    with own_node(tmp_path / "other", "--attestation", "off") as (url, pid):
        beside = ("--url", url, "--pid", str(pid), "--peer-writes-at", "1")
        asked = [part for name in (*LOADS, *ATTESTED) for part in ("--only", name)]
        done = run_bench(
            "--json",
            "--connections",
            "1",
            "16",
            "--out",
            str(tmp_path / "out"),
            *beside,
            *asked,
        )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    found = {(one["node"], one["load"], one["connections"]) for one in figures["loads"]}
    expected = {("ours", name, count) for name in (*LOADS, *ATTESTED) for count in (1, 16)}
    expected |= {
        ("other", name, count)
        for name, load in LOADS.items()
        for count in (1, 16)[: 2 - load.writes]
    }
    assert expected == found
    assert all(
        one["requests"] and one["cpu_us"] > 0 and one["floors"] > 0 for one in figures["loads"]
    )
    assert all(
        "ratio" in one and "ratio_16" in one for one in figures["loads"] if one["node"] == "other"
    )
    assert 6 == len(figures["floor_cpu_us"])
    assert figures == json.loads((tmp_path / "out" / "bench.json").read_text())
    assert "<svg" in (tmp_path / "out" / "bench.html").read_text()


@pytest.mark.slow
def test_every_scenario() -> None:
    """Every scenario produces figures."""
    done = run_bench(
        "--json", "--connections", "1", *[part for name in SCENARIOS for part in ("--only", name)]
    )
    assert done.returncode == 0, done.stderr
    scenarios = json.loads(done.stdout)["scenarios"]
    assert list(SCENARIOS) == list(scenarios)
    assert all(scenarios.values())


@pytest.mark.slow
def test_a_failed_request_fails_the_run(tmp_path: Path) -> None:
    """A refused request ends the benchmark with status 1 and the node's answer."""
    (tmp_path / "settings").mkdir()
    with own_node(tmp_path / "settings" / "data", "--attestation", "everyone") as (url, pid):
        done = run_bench("--only", "decrypt", "--connections", "1", "--url", url, "--pid", str(pid))
    assert done.returncode == 1
    assert "answered 401" in done.stderr


def totals_of(cpu_us: Sequence[float], *, node: str = OURS, connections: int = 1) -> Total:
    """Return a load whose rounds had one request each."""
    rounds = [
        Round(0.5, {1: us * 0.75e-6, 2: us * 0.25e-6}, 0.001, 1 << 20, (0.25,)) for us in cpu_us
    ]
    return Total(node, "get 1 KiB", connections, rounds)


def test_the_best_round_and_the_median() -> None:
    """The CPU time per request is that of the best round, printed beside the median."""
    figures = totals_of([300.0, 100.0, 200.0]).figures()
    assert (100.0, 200.0) == (figures["cpu_us"], figures["cpu_us_median"])
    assert (250.0, 2.0) == (figures["p99_ms"], figures["requests_per_s"])


def test_ratios() -> None:
    """The other node is compared with ours at equal connections, and ours with the floor."""
    totals = [
        totals_of([200.0]),
        totals_of([100.0], connections=16),
        totals_of([400.0], node=OTHER),
    ]
    report = report_of(totals, FLOORS, {})
    assert [2.0, 1.25, 4.0] == [row["floors"] for row in report.loads]
    assert [(None, None), (None, None), (2.0, 4.0)] == [
        (row.get("ratio"), row.get("ratio_16")) for row in report.loads
    ]


def test_steps_of_a_release() -> None:
    """The table lists the steps of a release together, unless a step is missing."""
    costs = {
        "challenge": 100.0,
        "session": 900.0,
        "decrypt, attested": 500.0,
        "decrypt, in person": 400.0,
    }
    totals = [replace(totals_of([us]), load=name) for name, us in costs.items()]
    steps = report_of(totals, FLOORS, {}).scenarios["steps of a release"]
    assert 0.2 == pytest.approx(steps["evidence, share of an attested decrypt"])
    assert 400.0 / 250.0 == pytest.approx(steps["decrypt, in person: floors"])
    assert {} == report_of(totals[1:], FLOORS, {}).scenarios


def test_the_page_is_the_same_each_time() -> None:
    """The page is generated from the figures alone and escapes their markup."""
    report = report_of([totals_of([200.0])], FLOORS, {"a <b>": {"c & d": 1.0}})
    text = page(report)
    assert text == page(replace(report))
    assert "A &lt;b&gt;" in text
    assert "c &amp; d" in text
    assert not any(word in text for word in ("http:", "https:", "<script", "src="))


def test_the_table_has_a_line_for_each_row() -> None:
    """Loads, floors and scenarios are printed."""
    report = Report(
        ({"node": OURS, "load": "get", "connections": 1},),
        {"a floor": 1.0},
        {"a start": {"ms": 2.0}},
    )
    lines = list(printed(report))
    assert ["load", "get", "", "floor:", "ms"] == [
        line.strip().split(" ")[0] for line in lines if line != "\na start"
    ]


def test_cpu_time_of_a_process() -> None:
    """The kernel's CPU clock of a process advances in steps far below ten milliseconds."""
    me = os.getpid()
    before = used_by(me)
    total = sum(range(200_000))
    after = used_by(me)
    assert total
    assert after.since(before)[me] > 0
    assert after.rss_bytes > 0


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERS = {
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "nothing": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "chunks": CHUNKED + b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
    "a chunk that looks like an end": CHUNKED + b"5\r\n0\r\n\r\n\r\n0\r\n\r\n",
}
BODIES = {
    "a length": b"hello",
    "nothing": b"",
    "chunks": b"hello",
    "a chunk that looks like an end": b"0\r\n\r\n",
}


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_in_any_pieces(kind: str, step: int) -> None:
    """The reader completes an answer exactly at its last byte, however the bytes are split."""
    text, answer = ANSWERS[kind], Answer()
    pieces = [text[at : at + step] for at in range(0, len(text), step)]
    assert [False] * (len(pieces) - 1) + [True] == [answer.feed(piece) for piece in pieces]
    assert (200, BODIES[kind]) == (answer.status, answer.body)


class Answering(asyncio.Protocol):
    """A server that sends the same bytes after each request, or closes the connection if there are
    none."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(self._answer)
        if not self._answer:
            self._transport.close()


async def drive_at(answer: bytes) -> Drive:
    """Send two requests over one connection."""
    server = await asyncio.get_running_loop().create_server(
        lambda: Answering(answer), "127.0.0.1", 0
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        return await drive(port, [b"ask", b"again"], connections=1, most_s=10.0, keep=True)


@pytest.mark.parametrize("kind", ANSWERS)
async def test_one_answer_after_the_other(kind: str) -> None:
    """Several answers on a connection are read in order, with their bodies if requested."""
    done = await drive_at(ANSWERS[kind])
    assert (BODIES[kind], BODIES[kind]) == done.bodies
    assert 2 == len(done.latencies_s)


async def test_a_server_that_hangs_up() -> None:
    """A connection that ends before its answer fails the drive."""
    with pytest.raises(RequestFailed, match="hung up"):
        await drive_at(b"")
