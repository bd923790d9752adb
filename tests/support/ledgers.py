"""Ledgers of runners, and records of their jobs.

Example:
    async with opened(path) as ledger:
        await ledger.accept("job", record(later=True), request=b"request")
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from runner.calls.journal import Journal, RowSealer
from runner.calls.ledger import JobRecord, Ledger

KEY = bytes(32)


@asynccontextmanager
async def opened(path: Path, key: bytes = KEY) -> AsyncIterator[Ledger]:
    """Open the ledger of a journal."""
    async with Journal(path) as journal:
        yield Ledger(journal, RowSealer(key))


def record(
    caller: str = "alice", reserved: int = 0, *, later: bool = False, **members: Any
) -> JobRecord:
    """Return the record of a job; one that runs `later` is asynchronous, and waits."""
    stated: dict[str, Any] = {
        "state": "waiting" if later else "started",
        "caller": caller,
        "key": 7,
        "reserved": reserved,
        "is_async": later,
        "project": "a/b",
        "program": None,
        "has_secrets": False,
        "salt": b"salt",
        "input_hash": b"hash",
        "limits": (1, 1, 1),
        "nonce": None,
    }
    return JobRecord(**stated | members)


def edit(path: Path, *statements: str) -> None:
    """Change a journal that no process uses, as its host could."""
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
