"""Attacks on a door by requests at the same time, and by late answers (spec/door.md)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from door_stage import DoorBench, DoorCaller, LateRequest, door_bench, open_door
from relay import relay_before

from door.cache import Cache
from door.door_grants import DoorGrants
from door.limits import MAX_GRANTS
from door.mounts import parse_mount
from door.readings import Readings
from sealspace.wire.token_line import read_token


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DoorBench]:
    """A node with default settings, and its clients."""
    async with door_bench(tmp_path) as bench:
        yield bench


async def _value(caller: DoorCaller) -> object:
    return (await caller.data("secret/data/API_KEY"))["data"]["value"]


async def test_DR13_a_read_that_began_before_a_write(bench: DoorBench) -> None:
    """DR13: after a write, its grant gets nothing older: it does not join a read that began before,
    and what this read returns is not in the cache afterwards."""
    owner, _ = await bench.owner()
    await owner.secrets().put("API_KEY", "old")
    async with relay_before(bench.node.url) as relay:
        client = await bench.client(owner.session, url=relay.url)
        async with open_door(bench, client, is_writable=True, fresh_s=60) as door:
            late = LateRequest(relay, "/decrypt")
            former = asyncio.create_task(_value(door))
            await late.is_there.wait()
            stored = await door.send("PUT", "secret/data/API_KEY", {"data": {"value": "new"}})
            assert stored.status == 200
            assert await _value(door) == "new"
            late.passes.set()
            assert await former == "old"
            assert await _value(door) == "new"


async def test_DR15_who_joins_a_read_keeps_it_no_longer(bench: DoorBench) -> None:
    """DR15: the age of a value counts from the beginning of the request that read it, also for a
    caller who came later and got the answer of the same request."""
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "open sesame")
    line = await owner.delegations.create_token("deploy", ["API_KEY"], wallet=wallet)
    mount = parse_mount("secret=flat")
    secret = mount.secret_at("API_KEY")
    cache = Cache(fresh_s=30, stale_s=0, clock=bench.clock)
    grants = DoorGrants(cache, clock=bench.clock, entropy=bench.entropy)
    readings = Readings(grants, cache, bench.clock)
    async with relay_before(bench.node.url) as relay:
        program = await bench.client(read_token(line), url=relay.url)
        grant = grants.add(program, path="auth/token/door", role="", ends_at=None)
        late = LateRequest(relay, "/decrypt")
        began_at = bench.clock.now()
        first = asyncio.create_task(readings.read(grant, mount, secret, None))
        await late.is_there.wait()
        bench.clock.advance(20)

        async def let_pass() -> None:
            late.passes.set()

        joined, _ = await asyncio.gather(readings.read(grant, mount, secret, None), let_pass())
        assert (await first).secret == joined.secret
        kept = cache.fresh(grant.accessor, ("secret", "API_KEY", None))
        assert kept is not None and kept.asked_at == began_at


async def test_DR14_logins_at_the_same_time_are_bounded(bench: DoorBench) -> None:
    """DR14: two logins at the same time do not both get the last place."""
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "open sesame")
    async with open_door(bench, owner, more_grants=MAX_GRANTS - 2) as door:
        logins = []
        for name in ("one", "two"):
            line = await owner.delegations.create_token(name, ["API_KEY"], wallet=wallet)
            body = {"role_id": name, "secret_id": line}
            logins.append(door.send("POST", "auth/approle/login", body))
        replies = await asyncio.gather(*logins)
        assert sorted(reply.status for reply in replies) == [200, 429]
