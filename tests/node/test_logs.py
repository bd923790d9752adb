"""Tests of the logs, which are JSON lines without tokens, secrets or values."""

import errno
import io
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from node.logs import configure_logs, describe, log_event, log_failure, log_warning
from node.processes.supervisor import report_disk
from spaces.space_errors import StoreUnavailable

CANARY = "canary-c2VjcmV0"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Return the lines that are logged at any level."""
    stream = io.StringIO()
    configure_logs("debug", stream=stream)
    yield stream
    configure_logs("info")


def test_a_line_is_json(lines: io.StringIO) -> None:
    """An event is one JSON object on one line, with name, level and time."""
    log_event("node-ready", workers=2)
    (line,) = lines.getvalue().splitlines()
    said = json.loads(line)
    assert said["event"] == "node-ready"
    assert said["level"] == "info"
    assert said["workers"] == 2
    assert said["timestamp"].endswith("Z")


def test_level_is_a_bound() -> None:
    """Lines below the configured level are not written."""
    stream = io.StringIO()
    configure_logs("warning", stream=stream)
    log_event("node-ready")
    log_warning("process-ended")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == [
        "process-ended"
    ]


def test_a_failure_has_no_message(lines: io.StringIO) -> None:
    """A fault is logged as class and places without its message, which may quote a caller."""
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        log_failure("id", "GET", error)
    said = json.loads(lines.getvalue())
    assert said["error"] == "builtins.ValueError" and "test_logs.py" in said["places"][0]
    assert CANARY not in lines.getvalue()


def test_a_failure_has_the_class_and_the_number_of_its_cause(tmp_path: Path) -> None:
    """An error of the store is logged with the system's or LMDB's error name and number."""
    described = []
    for failing in (
        lambda: (tmp_path / CANARY).read_bytes(),
        lambda: lmdb.open(str(tmp_path / CANARY), create=False),
    ):
        try:
            try:
                failing()
            except (OSError, lmdb.Error) as cause:
                raise StoreUnavailable(CANARY) from cause
        except StoreUnavailable as error:
            described.append(describe(error))
    assert [(one["cause"], one["number"]) for one in described] == [
        ("builtins.FileNotFoundError", errno.ENOENT),
        ("lmdb.Error", errno.ENOENT),
    ]
    assert CANARY not in str(described)


def test_describe_bounds_the_places() -> None:
    """Of a deep traceback only the innermost places are logged."""

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        raise ValueError

    try:
        deep(50)
    except ValueError as error:
        places = describe(error)["places"]
        assert isinstance(places, list) and len(places) == 12


@pytest.mark.parametrize("logger", ["aiohttp.server", "asyncio", "anything"])
def test_library_lines_lose_arguments_and_messages(lines: io.StringIO, logger: str) -> None:
    """A library's line has its template, without arguments, final text or exception messages."""
    try:
        raise ValueError(CANARY)
    except ValueError:
        logging.getLogger(logger).exception("bad header %s", CANARY)
    logging.getLogger(logger).error(f"finished text {CANARY}")
    first, second = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert first["template"] == "bad header %s"
    assert first["logger"] == logger
    assert first["level"] == "error"
    assert second["template"] == "message left out"
    assert CANARY not in lines.getvalue()


def test_a_disk_is_logged_once_for_each_threshold(
    lines: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`disk-nearly-full` is logged when less is free than a lower threshold, and only then."""
    needed_bytes = sys.maxsize
    for free_mib in (300, 200, 190, 40, 200, 40):
        usage = shutil.disk_usage(tmp_path)._replace(free=free_mib << 20)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        needed_bytes = report_disk(tmp_path, needed_bytes)
        monkeypatch.undo()
    said = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert {(one["event"], one["level"]) for one in said} == {("disk-nearly-full", "warning")}
    found = [(one["free_bytes"] >> 20, one["needed_bytes"] >> 20) for one in said]
    assert found == [(200, 256), (40, 64), (40, 64)]
