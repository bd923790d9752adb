"""Tests of puts during a collection or a crash: each acknowledged value remains complete."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from attacks.held_store import HeldStore, held_node
from embedded_node import EmbeddedNode
from kv_client import Owner
from patience import PATIENCE_S, until
from running_node import Reply, running_node
from tests_support import FixedClock

from node.config.tree import Config, Http, Store
from node.housekeeping.schedule import Housekeeper
from spaces.lease import LEASE_S
from spaces.store.contract import Commit, Committed, Refused
from spaces.values.collector import ORPHAN_AFTER_S, UNFINISHED_AFTER_S, sweep_unfinished
from spaces.values.object_folder import ObjectFolder
from spaces.values.object_records import UNLINK_AFTER_S

LARGE = bytes(range(256)) * 1024


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[tuple[Owner, HeldStore]]:
    """An owner at a node whose store can delay a commit, with a clock after the files' times."""
    clock = FixedClock(time.time() + 10)
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path)))
    async with held_node(config, clock=clock) as (node, store), aiohttp.ClientSession() as session:
        yield Owner(node, session, clock), store


def puts_head(commit: Commit) -> bool:
    """Return whether a commit is a put's."""
    return any(put.key.startswith(b"K") and put.value is not None for put in commit.puts)


async def do_housekeeping(node: EmbeddedNode, clock: FixedClock, *, days: int) -> None:
    """Let days pass with housekeeping every four hours, by another process after a while."""
    clock.advance(LEASE_S)
    housekeeper = Housekeeper(node.services)
    for _ in range(days * 6):
        assert await housekeeper.turn()
        clock.advance(4 * 3600.0)
    await housekeeper.leave()


async def meanwhile(
    held: tuple[Owner, HeldStore], path: str, body: bytes, change: Callable[[], Awaitable[object]]
) -> tuple[Reply, Sequence[object]]:
    """Stop a put before its commit, run something, and let the put continue."""
    owner, store = held
    hold = store.hold(puts_head)
    putting = asyncio.create_task(owner.put(path, body))
    async with asyncio.timeout(PATIENCE_S):
        await hold.reached.wait()
    try:
        await change()
    finally:
        hold.go.set()
    return await putting, hold.outcomes


async def still_there(held: tuple[Owner, HeldStore], reply: Reply, path: str, body: bytes) -> None:
    """Check that an acknowledged value exists now and after several days of housekeeping."""
    owner, _ = held
    assert reply.status == 200
    for days in (0, 3):
        await do_housekeeping(owner.node, owner.clock, days=days)
        assert (await owner.get(path)).body == body
    assert len(owner.files()) == 1


async def test_shared_body_that_is_collected(held: tuple[Owner, HeldStore]) -> None:
    """A put is kept if it shares a body that is released, collected and deleted before the put's
    commit."""
    owner, _ = held
    await owner.put("a", LARGE)

    async def change() -> None:
        assert (await owner.invoke(("del", "a"))).status == 200
        (brought,) = (owner.objects / "incoming").iterdir()
        os.utime(brought, (owner.clock.now() + 2 * ORPHAN_AFTER_S,) * 2)  # as if it had just come
        await do_housekeeping(owner.node, owner.clock, days=1)
        assert owner.files() == [brought]

    reply, outcomes = await meanwhile(held, "b", LARGE, change)
    assert [type(outcome) for outcome in outcomes] == [Refused, Committed]
    await still_there(held, reply, "b", LARGE)


async def test_body_that_is_given_up_and_not_collected_yet(held: tuple[Owner, HeldStore]) -> None:
    """A put is kept if it shares a body that is released before and collected after the put's
    commit."""
    owner, _ = held
    await owner.put("a", LARGE)
    reply, outcomes = await meanwhile(held, "b", LARGE, lambda: owner.invoke(("del", "a")))
    assert [type(outcome) for outcome in outcomes] == [Refused, Committed]
    await still_there(held, reply, "b", LARGE)


@pytest.mark.parametrize("swept_before", [False, True], ids=["first sweep", "later sweep"])
async def test_file_that_is_taken_for_an_orphan(
    held: tuple[Owner, HeldStore], swept_before: bool
) -> None:
    """A put is kept if it waits for days between naming its file and its commit."""
    owner, _ = held
    if swept_before:
        await owner.put("z", b"small")
        await do_housekeeping(owner.node, owner.clock, days=2)
        await owner.put("y", LARGE[1:])
        await owner.invoke(("del", "y"))

    async def change() -> None:
        for place in owner.files():
            os.utime(place, (owner.clock.now(),) * 2)
        owner.clock.advance(ORPHAN_AFTER_S + UNLINK_AFTER_S)
        await do_housekeeping(owner.node, owner.clock, days=3)

    reply, outcomes = await meanwhile(held, "a", LARGE, change)
    # After an hour its own unlinking is due, so whether it finds its file decides: acknowledged and
    # there, or neither.
    assert type(outcomes[0]) is Refused
    assert reply.status == 503
    assert (await owner.get("a")).status == 404
    await do_housekeeping(owner.node, owner.clock, days=3)
    assert owner.files() == []


async def test_sweep_that_comes_just_before_the_commit(held: tuple[Owner, HeldStore]) -> None:
    """A put is kept if its file was marked as an orphan but not yet deleted."""
    owner, _ = held

    async def change() -> None:
        for place in owner.files():
            os.utime(place, (owner.clock.now(),) * 2)
        owner.clock.advance(ORPHAN_AFTER_S + 1)
        assert await Housekeeper(owner.node.services).turn()

    reply, outcomes = await meanwhile(held, "a", LARGE, change)
    assert [type(outcome) for outcome in outcomes] == [Refused, Committed]
    owner.clock.advance(LEASE_S)
    await still_there(held, reply, "a", LARGE)


# --- processes that die


@pytest.mark.slow
async def test_death_in_the_middle_of_a_put(tmp_path: Path) -> None:
    """After SIGKILL during a body, the old value remains and the partial body is collected."""
    clock = FixedClock(time.time())
    objects = tmp_path / "data" / "blobs"
    with running_node(tmp_path, workers=1) as node:
        async with aiohttp.ClientSession() as session:
            owner = Owner(Remote(node.url), session, clock)  # type: ignore[arg-type]  # only its address is asked for
            assert (await owner.put("a", b"before")).status == 200
            assert (await owner.put("b", LARGE)).status == 200
            _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(node.url).port)
            head = (
                "POST /invoke HTTP/1.1\r\nHost: x\r\nAuthorization:"
                f" {owner.token([('put', 'a')])}\r\n"
            )
            writer.write(head.encode() + b"Content-Length: 9000000\r\n\r\n" + LARGE)
            await until(lambda: len(files(objects)) == 2)
            (worker,) = node.children("worker")
            os.kill(worker, signal.SIGKILL)
            await until(lambda: node.children("worker") not in ([], [worker]))
            writer.close()
            assert (await answered(owner, "a")).text == "before"
            assert (await owner.get("b")).body == LARGE
    assert len(files(objects)) == 2
    assert (
        await sweep_unfinished(ObjectFolder(objects), now=time.time() + UNFINISHED_AFTER_S + 1) == 1
    )
    assert [place.parent.name for place in files(objects)] != ["incoming"]


class Remote:
    """A node in other processes."""

    def __init__(self, url: str) -> None:
        self.url = url


def files(folder: Path) -> list[Path]:
    return [place for place in folder.rglob("*") if place.is_file()]


async def answered(owner: Owner, path: str) -> Reply:
    """Repeat a request until the replacement worker answers."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await owner.get(path)
            except aiohttp.ClientError:
                await asyncio.to_thread(lambda: None)
