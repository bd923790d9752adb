"""Conditional writes that lose a race while the store is busy (wire §4.4.5, Q37)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from attacks.held_store import HeldStore, held_node
from engines import store_at
from kv_client import Owner, etag
from msgspec.structs import replace
from patience import PATIENCE_S
from tests_support import FixedClock

from node.config.tree import Config, Hosting, Http


@pytest.fixture
async def held(tmp_path: Path, clock: FixedClock) -> AsyncIterator[tuple[Owner, HeldStore]]:
    """An owner at a node that reports a busy store after one refused commit."""
    config = Config(
        http=Http(port=0, drain_s=0),
        store=replace(store_at(tmp_path), retry_s=1e-9),
        hosting=Hosting(),
    )
    async with (
        held_node(config, clock=clock) as (node, store),
        aiohttp.ClientSession() as session,
    ):
        owner = Owner(node, session, clock)
        await owner.put("a", b"before")
        yield owner, store


@pytest.mark.parametrize("kind", ["create", "replace", "delete"])
async def test_a_lost_race_is_never_a_busy_store(held: tuple[Owner, HeldStore], kind: str) -> None:
    """A condition that another write has broken is 412, even if the store is busy (Q37)."""
    owner, store = held
    path = "new" if kind == "create" else "a"
    condition = {"If-None-Match": "*"} if kind == "create" else {"If-Match": etag(b"before")}
    ability = "del" if kind == "delete" else "put"
    body = None if kind == "delete" else b"mine"
    commit = store.hold(lambda commit: commit.replay_record is not None)
    asking = asyncio.create_task(owner.invoke((ability, path), body=body, headers=condition))
    try:
        await asyncio.wait_for(commit.reached.wait(), PATIENCE_S)
        assert (await owner.put(path, b"theirs")).status == 200
    finally:
        commit.go.set()
    assert (await asking).said == (412, "KV precondition failed")
    assert (await owner.get(path)).text == "theirs"


async def test_without_a_condition_the_store_is_busy(held: tuple[Owner, HeldStore]) -> None:
    """A write without a condition loses no race: it is 503, and may be repeated."""
    owner, store = held
    commit = store.hold(lambda commit: commit.replay_record is not None)
    asking = asyncio.create_task(owner.put("a", b"mine"))
    try:
        await asyncio.wait_for(commit.reached.wait(), PATIENCE_S)
        assert (await owner.put("a", b"theirs")).status == 200
    finally:
        commit.go.set()
    reply = await asking
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert (await owner.get("a")).text == "theirs"
