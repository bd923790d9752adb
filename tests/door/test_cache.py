"""Tests of the cache of a door, of revoked rights, and of a node that is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from door_stage import DoorBench, DoorCaller, blocking, open_door
from patience import PATIENCE_S
from relay import Answer, Relay, relay_before
from tests_support import FixedClock
from yarl import URL

from door import readings
from door.cache import MAX_CACHE_BYTES, Cache, Kept
from door.limits import REQUESTS_PER_MINUTE
from sealspace.client import Client
from sealspace.wire.token_line import read_token


@asynccontextmanager
async def _relayed(
    bench: DoorBench, *, fresh_s: float = 0, stale_s: float = 0
) -> AsyncIterator[tuple[DoorCaller, Relay, Client, str, list[str]]]:
    """Yield a caller with a machine token at a door behind a relay.

    With them: the relay, the owner, the token's line, and the paths that the node answered.
    """
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "open sesame")
    line = await owner.delegations.create_token("deploy", ["API_KEY"], wallet=wallet)
    async with relay_before(bench.node.url) as relay:
        asked: list[str] = []
        relay.twist = lambda answer: asked.append(answer.path)
        program = await bench.client(read_token(line), url=relay.url)
        async with open_door(bench, program, fresh_s=fresh_s, stale_s=stale_s) as door:
            yield door, relay, owner, line, asked


async def _value(caller: DoorCaller) -> Any:
    return (await caller.data("secret/data/API_KEY"))["data"]["value"]


def _fail(answer: Answer) -> None:
    answer.status = 503


async def test_DR15_without_a_cache_a_revoked_right_ends_at_once(bench: DoorBench) -> None:
    """DR15, DR9: the first request after a revocation is refused, and the token is over."""
    async with _relayed(bench) as (caller, _, owner, line, asked):
        assert await _value(caller) == "open sesame"
        await owner.delegations.revoke(read_token(line).grants[0].cid)
        refused = await caller.get("secret/data/API_KEY")
        assert refused.status == 403 and "was revoked" in refused.reported["errors"][0]
        asked.clear()
        assert (await caller.get("secret/data/API_KEY")).status == 403
        assert asked == []


async def test_DR15_a_cached_value(bench: DoorBench) -> None:
    """DR15: a value is served again for the time of the cache, also after a revocation."""
    async with _relayed(bench, fresh_s=30) as (caller, _, owner, line, asked):
        assert await _value(caller) == "open sesame"
        asked.clear()
        await owner.delegations.revoke(read_token(line).grants[0].cid)
        bench.clock.advance(29)
        assert await _value(caller) == "open sesame"
        assert asked == []
        bench.clock.advance(1)
        assert (await caller.get("secret/data/API_KEY")).status == 403


async def test_DR15_a_clock_that_was_set_back(bench: DoorBench) -> None:
    """DR15: a value whose age is unknown is read again."""
    async with _relayed(bench, fresh_s=30) as (caller, _, _, _, asked):
        assert await _value(caller) == "open sesame"
        asked.clear()
        bench.clock.advance(-1)
        assert await _value(caller) == "open sesame"
        assert asked != []


async def test_DR16_a_stale_value(bench: DoorBench) -> None:
    """DR16: while the node fails, a value is served up to its age, with a warning."""
    async with _relayed(bench, stale_s=600) as (caller, relay, _, _, asked):
        assert await _value(caller) == "open sesame"
        bench.clock.advance(300)
        twist, relay.twist = relay.twist, _fail
        stale = await caller.get("secret/data/API_KEY")
        assert stale.reported["data"]["data"] == {"value": "open sesame"}
        assert stale.reported["warnings"] == [
            "stale: the node does not answer; this value was read 300 s ago"
        ]
        relay.twist = twist
        fresh = await caller.get("secret/data/API_KEY")
        assert fresh.reported["warnings"] is None
        relay.twist = _fail
        bench.clock.advance(600)
        away = await caller.get("secret/data/API_KEY")
        assert away.status == 502 and "; next: " in away.reported["errors"][0]
        assert asked


async def test_DR16_a_revoked_right_is_no_node_away(bench: DoorBench) -> None:
    """DR16: a node that refuses is not away: nothing stale is served, now or later."""
    async with _relayed(bench, stale_s=600) as (caller, relay, owner, line, _):
        assert await _value(caller) == "open sesame"
        await owner.delegations.revoke(read_token(line).grants[0].cid)
        assert (await caller.get("secret/data/API_KEY")).status == 403
        relay.twist = _fail
        assert (await caller.get("secret/data/API_KEY")).status == 403


async def test_DR16_a_deleted_secret_is_not_stale(bench: DoorBench) -> None:
    """DR16: a secret that the node no longer has is missing, now and while the node fails."""
    async with _relayed(bench, stale_s=600) as (caller, relay, owner, _, _):
        assert await _value(caller) == "open sesame"
        await owner.secrets().delete("API_KEY")
        assert (await caller.get("secret/data/API_KEY")).status == 404
        relay.twist = _fail
        assert (await caller.get("secret/data/API_KEY")).status == 502


async def test_DR16_a_node_that_cannot_be_reached(bench: DoorBench) -> None:
    """DR16: the same for a node whose address does not answer; without the setting it is 502."""
    for stale_s, status in ((600, 200), (0, 502)):
        owner, wallet = await bench.owner()
        await owner.secrets().put("API_KEY", "open sesame")
        line = await owner.delegations.create_token("deploy", ["API_KEY"], wallet=wallet)
        async with AsyncExitStack() as relays:
            relay = await relays.enter_async_context(relay_before(bench.node.url))
            program = await bench.client(read_token(line), url=relay.url)
            async with open_door(bench, program, stale_s=stale_s) as caller:
                assert await _value(caller) == "open sesame"
                await relays.aclose()
                assert (await caller.get("secret/data/API_KEY")).status == status


@pytest.mark.parametrize("stale_s", [600, 0])
async def test_DR16_a_node_away_for_a_minute(bench: DoorBench, stale_s: float) -> None:
    """DR16, DR12: through a minute without the node, each answer is stale and says so, or is the
    API's own error; when the node is back, the next answer is its new value."""
    hvac = pytest.importorskip("hvac", reason="hvac is not installed: pip install hvac")
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "open sesame")
    line = await owner.delegations.create_token("deploy", ["API_KEY"], wallet=wallet)
    async with AsyncExitStack() as first:
        relay = await first.enter_async_context(relay_before(bench.node.url))
        program = await bench.client(read_token(line), url=relay.url)
        async with open_door(bench, program, stale_s=stale_s) as caller:
            assert await _value(caller) == "open sesame"
            await first.aclose()
            await owner.secrets().put("API_KEY", "changed")
            for second in range(10, 61, 10):
                bench.clock.advance(10)
                answer = await caller.get("secret/data/API_KEY")
                if stale_s:
                    assert answer.reported["data"]["data"] == {"value": "open sesame"}
                    assert answer.reported["warnings"] == [
                        f"stale: the node does not answer; this value was read {second} s ago"
                    ]
                    continue
                assert answer.status == 502
                (text,) = answer.reported["errors"]
                assert relay.url in text and "; next: " in text
                with pytest.raises(hvac.exceptions.BadGateway):
                    await blocking(caller.hvac().read, "secret/data/API_KEY")
            async with relay_before(bench.node.url, port=URL(relay.url).port):
                fresh = await caller.get("secret/data/API_KEY")
                assert fresh.reported["data"]["data"] == {"value": "changed"}
                assert fresh.reported["warnings"] is None


@pytest.mark.parametrize("fresh_s", [0, 30])
async def test_DR16_a_node_that_hangs(
    bench: DoorBench, monkeypatch: pytest.MonkeyPatch, fresh_s: float
) -> None:
    """DR16: a node that accepts a request and does not answer is away too, after a short time."""
    monkeypatch.setattr(readings, "STALE_AFTER_S", 0.1)
    for stale_s, status in ((600, 200), (0, 502)):
        async with _relayed(bench, fresh_s=fresh_s, stale_s=stale_s) as (caller, relay, *_):
            assert await _value(caller) == "open sesame"
            bench.clock.advance(60)
            monkeypatch.setattr(readings, "NODE_S", 10 * PATIENCE_S if stale_s else 0.1)
            released = asyncio.Event()

            async def hold(_: object, released: asyncio.Event = released) -> None:
                await released.wait()

            relay.hold = hold
            answer = await caller.get("secret/data/API_KEY")
            assert answer.status == status
            if status == 200:
                assert "stale: " in answer.reported["warnings"][0]
            else:
                assert "no response from the node" in answer.reported["errors"][0]
            released.set()


async def test_DR14_requests_to_the_node_are_bounded(bench: DoorBench) -> None:
    """DR14: a caller cannot make a door send requests without bound."""
    async with _relayed(bench) as (caller, relay, _, _, asked):
        twist, relay.twist = relay.twist, _fail
        for _ in range(REQUESTS_PER_MINUTE):
            assert (await caller.get("secret/data/API_KEY")).status == 502
        relay.twist = twist
        asked.clear()
        refused = await caller.get("secret/data/API_KEY")
        assert refused.status == 429 and "1200 a minute" in refused.reported["errors"][0]
        assert asked == []
        bench.clock.advance(1)
        assert await _value(caller) == "open sesame"


def test_DR15_the_cache_is_bounded() -> None:
    """DR15: what was used the longest time ago is removed for new values; counts stay right."""
    clock = FixedClock()
    cache = Cache(fresh_s=60, stale_s=0, clock=clock)
    size_bytes = MAX_CACHE_BYTES // 4
    for number in range(3):
        cache.keep("one", number, Kept(number, asked_at=clock.now(), size_bytes=size_bytes))
    assert cache.fresh("one", 0) is not None
    cache.keep("two", 3, Kept(3, asked_at=clock.now(), size_bytes=size_bytes))
    assert cache.fresh("one", 1) is None
    assert cache.fresh("one", 0) is not None
    assert cache.fresh("two", 0) is None
    cache.drop_grant("one")
    assert cache.fresh("one", 0) is None and cache.fresh("two", 3) is not None
    cache.keep("two", 4, Kept(4, asked_at=clock.now(), size_bytes=2 * MAX_CACHE_BYTES))
    assert cache.fresh("two", 4) is None and cache.fresh("two", 3) is None


@pytest.mark.parametrize(("fresh_s", "stale_s"), [(0, 0), (30, 0), (0, 600), (30, 600)])
def test_DR16_the_longest_time_is_the_longer_setting(fresh_s: float, stale_s: float) -> None:
    """DR16: no value is served at an age above the longer one of the two settings."""
    clock = FixedClock()
    cache = Cache(fresh_s=fresh_s, stale_s=stale_s, clock=clock)
    cache.keep("one", 0, Kept(0, asked_at=clock.now(), size_bytes=1))
    assert cache.longest_s == max(fresh_s, stale_s)
    clock.advance(cache.longest_s)
    assert cache.fresh("one", 0) is None and cache.stale("one", 0) is None
