"""Attacks by an SQL child process that an attacker controls."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from capabilities.sql_caveats import UNLIMITED
from spaces.space_errors import SqlError
from spaces.sql import databases
from spaces.sql.databases import Lease
from spaces.sql.frames import Releasing, Run, framed
from spaces.sql.guard import READ
from spaces.sql.keeper_client import LentChild
from spaces.sql.requests import Query


class _Keeper:
    """A keeper that records ended leases, and whether a child may be reused."""

    def __init__(self) -> None:
        self.ended: list[bool] = []

    def end_lease(self, _: int, *, keeps_child: bool) -> None:
        self.ended.append(keeps_child)


@asynccontextmanager
async def _lease() -> AsyncIterator[tuple[Lease, socket.socket, _Keeper]]:
    """Return a lease, the end of the connection that the child has, and the keeper."""
    keeper = _Keeper()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        lease = Lease(
            keeper,  # type: ignore[arg-type]  # as far as needed
            number=1,
            child=LentChild(ours, os.getpid()),
            file="a.db",
            wait_s=1.0,
        )
        try:
            yield lease, theirs, keeper
        finally:
            lease.close()


def _run(sql: str, lease: Lease) -> Run:
    return Run(
        file=lease.file,
        creates=False,
        writes=False,
        wait_s=1,
        free_bytes=None,
        rights=frozenset({READ}),
        limits=UNLIMITED,
        work=Query(sql),
    )


async def _unwatched() -> None:
    """Report that the caller is still connected."""


async def test_a_child_that_reads_nothing_is_ended_by_the_deadline() -> None:
    """SQ15, SQ29: the deadline also ends a child that does not read a long statement. The error
    says how little it has computed."""
    async with asyncio.timeout(25), _lease() as (lease, _, keeper):
        with pytest.raises(
            SqlError, match=r"exceeded 500 ms; the node was busy, and it computed for"
        ):
            await lease.run(_run("-" * 4_000_000, lease), 0.5, _unwatched)
    assert keeper.ended == [False]


async def test_a_child_gets_more_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQ15, SQ29: the deadline ends a child that releases pages again and again."""
    monkeypatch.setattr(databases, "COMMIT_S", 0.5)

    async def release(child: socket.socket) -> None:
        while True:
            child.send(framed(Releasing()))
            await asyncio.sleep(0.1)

    async with asyncio.timeout(25), _lease() as (lease, child, keeper):
        releasing = asyncio.create_task(release(child))
        with pytest.raises(SqlError, match="exceeded 500 ms"):
            await lease.run(_run("SELECT 1", lease), 0.5, _unwatched)
        releasing.cancel()
    assert keeper.ended == [False]
