"""KV calls that a grant does not cover, and bodies of refused calls."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from attacks.inside_stage import OpenStage, inside
from attacks.parties import LIST, PUT, Stage
from patience import AT_ONCE_S
from running_node import id_of, key_token, new_key, send
from tests_support import FixedClock

from node.config.tree import Hosting


async def test_listing_with_a_query_shows_no_more_than_the_grant(stage: Stage) -> None:
    """A grant on `photos` shows nothing of `photos-private`, whatever query the invoked resource
    carries."""
    owner, guest = new_key(), new_key()
    space = f"tinycloud:{owner.did[4:]}:default"
    for path in ("photos/a", "photos-private/b"):
        stored = await stage.invoke(owner, {f"{space}/kv/{path}": [PUT]}, body=b"x")
        assert stored.status == 200, stored.said
    grant = await stage.register(key_token(owner, guest.did, {f"{space}/kv/photos": [LIST]}))
    plain = await stage.invoke(guest, {f"{space}/kv/photos": [LIST]}, proofs=[grant])
    assert plain.said == (200, '["photos/a"]')
    asked = await stage.invoke(guest, {f"{space}/kv/photos?all": [LIST]}, proofs=[grant])
    assert asked.said == (200, '["photos/a"]')


async def test_a_put_over_the_quota_keeps_no_byte(stage_with: OpenStage) -> None:
    """A body that the quota refuses leaves nothing on the disk, however often it is sent."""
    stage = await stage_with(hosting=Hosting(default_quota_bytes=100_000))
    owner = new_key()
    target = f"tinycloud:{owner.did[4:]}:default/kv/large"
    for number in range(3):
        reply = await stage.invoke(owner, {target: [PUT]}, body=bytes([number]) * 200_000)
        assert reply.status == 413, reply.said
    objects = inside(stage).services.config.data / "blobs"
    assert [place.name for place in objects.glob("??/*")] == []


async def test_what_a_put_stores_counts_towards_the_quota(stage_with: OpenStage) -> None:
    """Empty bodies under long paths count towards the quota of a space."""
    stage = await stage_with(hosting=Hosting(default_quota_bytes=100_000))
    owner = new_key()
    space = f"tinycloud:{owner.did[4:]}:default"
    statuses = []
    for number in range(4):
        reply = await stage.invoke(owner, {f"{space}/kv/{number}{'x' * 60_000}": [PUT]}, body=b"")
        statuses.append(reply.status)
    assert statuses[-1] in (402, 413), statuses


async def slow_put(stage: Stage, token: str, *, meanwhile: Callable[[], Awaitable[None]]) -> int:
    """Start a put, act before its body, send the body, and return the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(stage.url).port)
    try:
        head = (
            f"POST /invoke HTTP/1.1\r\nHost: node\r\nAuthorization: {token}\r\nContent-Length:"
            " 1\r\n\r\n"
        )
        writer.write(head.encode())
        await writer.drain()
        # the node reads in order: an answer to a later request means that this one waits
        for _ in range(3):
            assert (await send(stage.url, "GET", "/healthz")).status == 200
        await meanwhile()
        writer.write(b"x")
        await writer.drain()
        return int((await asyncio.wait_for(reader.readline(), AT_ONCE_S)).split()[1])
    finally:
        writer.close()


async def test_a_revocation_wins_over_an_upload_under_way(stage: Stage) -> None:
    """A put is refused if its grant is revoked before its body arrives."""
    owner, guest = new_key(), new_key()
    target = f"tinycloud:{owner.did[4:]}:default/kv/a"
    assert (await stage.invoke(owner, {target: [PUT]}, body=b"old")).status == 200
    grant = await stage.register(key_token(owner, guest.did, {target: [PUT]}, ttl_s=600))

    async def revoke() -> None:
        taken_back = key_token(
            owner, stage.node_did, {f"urn:cid:{id_of(grant)}": ["tinycloud.delegation/revoke"]}
        )
        assert (await stage.post("/revoke", taken_back)).status == 200

    put = key_token(guest, guest.did, {target: [PUT]}, proofs=[grant])
    assert await slow_put(stage, put, meanwhile=revoke) == 401


async def test_an_upload_does_not_outlive_its_grant(stage_with: OpenStage) -> None:
    """A put is refused if its grant and token end before its body arrives."""
    clock = FixedClock(time.time())
    stage = await stage_with(clock=clock)
    owner, guest = new_key(), new_key()
    target = f"tinycloud:{owner.did[4:]}:default/kv/a"
    assert (await stage.invoke(owner, {target: [PUT]}, body=b"old")).status == 200
    grant = await stage.register(key_token(owner, guest.did, {target: [PUT]}, ttl_s=60))

    async def let_it_end() -> None:
        clock.advance(3600)

    put = key_token(guest, guest.did, {target: [PUT]}, proofs=[grant])
    assert await slow_put(stage, put, meanwhile=let_it_end) == 401
