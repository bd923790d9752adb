"""Tests of the cost of one request, in counts that do not depend on the machine's load.

The table is in spec/operations/profile.md, §2.1. A change that makes a request more expensive has
to change the table.
"""

import asyncio
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import dropwhile, takewhile
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import msgspec
import pytest
from embedded_node import embedded_node
from loads import LOADS
from places import Place, set_up
from tests_support import REPOSITORY

from capabilities.signatures import Ed25519Signer, recover_public_key, verify_ed25519
from node.config.tree import Config, Http, Limits, Release, Store
from node.logs import configure_logs
from spaces.store.contract import check_commit, check_read

PROFILE = REPOSITORY / "spec" / "operations" / "profile.md"
HEADING = "### 2.1 "
COUNTED = (
    "reads",
    "commits",
    "signatures checked",
    "made",
    "JSON texts read",
    "tasks",
    "threads",
    "log lines",
)
WARM_UP = 3

_FUNCTIONS: Mapping[CodeType, str] = {
    check_read.__code__: "reads",
    check_commit.__code__: "commits",
    verify_ed25519.__code__: "signatures checked",
    recover_public_key.__code__: "signatures checked",
    Ed25519Signer.sign.__code__: "made",
    json.loads.__code__: "JSON texts read",
    asyncio.BaseEventLoop.run_in_executor.__code__: "threads",
}


class Tally:
    """Counts events in the event loop's thread, without the client's own frames."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._is_on = False

    def task(
        self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any
    ) -> "asyncio.Task[Any]":
        """Create a task, as the loop does."""
        self.counts["tasks"] += self._is_on
        return asyncio.Task(work, loop=loop, **options)

    def note(self, frame: FrameType, event: str, called: object) -> None:
        """Count one event of the interpreter."""
        if event == "call":
            name = _FUNCTIONS.get(frame.f_code)
            if name is not None:
                self.counts[name] += 1
        elif event == "c_call":
            self.counts["JSON texts read"] += _reads_json(called)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count from zero until the block ends."""
        lines = io.StringIO()
        configure_logs("info", stream=lines)
        self.counts.clear()
        before, self._is_on = sys.getprofile(), True
        sys.setprofile(self.note)
        try:
            yield
        finally:
            sys.setprofile(before)
            self._is_on = False
            configure_logs("info")
            self.counts["log lines"] = lines.getvalue().count("\n")


def _reads_json(called: object) -> bool:
    owner = getattr(called, "__self__", None)
    return called is msgspec.json.decode or (
        isinstance(owner, msgspec.json.Decoder) and getattr(called, "__name__", "") == "decode"
    )


async def ask(place: Place, requests: list[bytes], tally: Tally) -> None:
    """Send requests one after another on one connection, and count the events of the last one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    try:
        for request in requests[:-1]:
            await _answered(reader, writer, request)
        with tally.counting():
            await _answered(reader, writer, requests[-1])
    finally:
        writer.close()


async def _answered(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> None:
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 200 "), head
    await reader.readexactly(int(head.partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0]))


async def counts_of(folder: Path, loads: list[str]) -> dict[str, dict[str, int]]:
    """Return the cost of one request of each load with warm caches."""
    tally, found = Tally(), {}
    asyncio.get_running_loop().set_task_factory(tally.task)
    config = Config(
        http=Http(port=0, drain_s=1),
        store=Store(data=str(folder)),
        release=Release(attestation="off"),
        limits=Limits(unauthenticated_per_minute=1_000_000),
    )
    async with embedded_node(config) as node:
        place = await set_up(node.url)
        for load in loads:
            await ask(place, await LOADS[load].make(place, WARM_UP + 1), tally)
            found[load] = {name: tally.counts[name] for name in COUNTED}
    return found


def budget() -> dict[str, dict[str, int]]:
    """Return the page's table: for each load, count by name."""
    lines = PROFILE.read_text(encoding="utf-8").partition(HEADING)[2].splitlines()
    table = takewhile(_is_row, dropwhile(lambda line: not _is_row(line), lines))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    names = rows[0][1:]
    return {row[0]: dict(zip(names, map(int, row[1:]), strict=True)) for row in rows[2:]}


def _is_row(line: str) -> bool:
    return line.startswith("|")


@pytest.mark.slow
async def test_requests_keep_to_their_budget(tmp_path: Path) -> None:
    """Each load in the table costs at most the listed counts."""
    allowed = budget()
    found = await counts_of(tmp_path, list(allowed))
    over = {
        load: dict(counts)
        for load, counts in found.items()
        if any(allowed[load][n] < counts[n] for n in counts)
    }
    assert {} == over
