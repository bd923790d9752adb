"""Tests of signed URLs and public spaces, with the client and a real node."""

from datetime import datetime

import aiohttp
import pytest
from relay import Answer, relay_before

from sealspace.client import Client, SignIn
from sealspace.errors import (
    InvalidInput,
    LifetimeTooLong,
    MalformedAnswer,
    NotFound,
    NotGranted,
    RateLimited,
    ResponseTooLarge,
)
from sealspace.kv import SignedUrl
from sealspace.session import key_session

SEED = bytes(range(32))


async def fetch(url: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.read()


async def test_a_signed_url_is_for_anybody(bench) -> None:
    """A signed URL lets anyone read the value until it expires, and is hidden when printed."""
    client, _ = await bench.owner()
    await client.kv().put("a", b"hello")
    signed = await client.kv().signed_url("a", ttl_s=30)
    assert await fetch(signed.url) == (200, b"hello")
    assert signed.url.startswith(client.url + "/signed/kv/")
    assert signed.url not in repr(signed)
    bench.clock.advance(30)
    assert (await fetch(signed.url))[0] == 401


async def test_a_signed_url_for_one_version(bench) -> None:
    """A signed URL for one version returns that version, or an error if it is gone."""
    client, _ = await bench.owner()
    old = await client.kv().put("a", b"old")
    await client.kv().put("a", b"new")
    assert (await fetch((await client.kv().signed_url("a", etag=old)).url))[0] == 412
    assert await fetch((await client.kv().signed_url("a")).url) == (200, b"new")


async def test_urls_that_cannot_be_made(bench) -> None:
    """A missing value, an invalid lifetime, a missing grant and an invalid key give different
    errors."""
    client, _ = await bench.owner()
    with pytest.raises(NotFound):
        await client.kv().signed_url("a")
    with pytest.raises(InvalidInput):
        await client.kv().signed_url("a", ttl_s=0)
    with pytest.raises(InvalidInput):
        await client.kv().signed_url("a b")
    outsider = await bench.client(key_session(SEED))
    with pytest.raises(NotGranted):
        await outsider.kv(client.kv().space.text).signed_url("a")


async def test_a_public_space_is_read_without_a_session(bench) -> None:
    """Anybody can read and list a public space without a session."""
    owner = await bench.client()
    await owner.sign_in((await bench.owner())[1], SignIn(spaces=("public",)))
    kv = owner.kv("public")
    keys = ["a", "a%20b", "d/e", "d/f", "x+y"]
    for key in keys:
        await kv.put(key, key.encode(), content_type="text/plain")
    public = (await bench.client()).public(kv.space.text)
    assert public.space == kv.space
    assert [key async for key in public.list()] == keys
    assert [key async for key in public.list(page_keys=2)] == keys
    with pytest.raises(InvalidInput):
        assert [key async for key in public.list(page_keys=0)]
    assert [key async for key in public.list("d/")] == ["d/e", "d/f"]
    value = await public.get("a%20b")
    assert value.body == b"a%20b"
    assert value.content_type == "text/plain"
    assert await public.get_if_changed("a%20b", value.etag) is None
    changed = await public.get_if_changed("d/e", value.etag)
    assert changed is not None and changed.body == b"d/e"
    assert (await public.get("x+y")).body == b"x+y"
    with pytest.raises(ResponseTooLarge):
        await public.get("d/e", max_bytes=1)
    missing = f"there is no value with the key absent in the space {public.space.text}; next: "
    with pytest.raises(NotFound, match=missing):
        await public.get("absent")


async def test_public_reads_are_counted(bench) -> None:
    """The node limits the rate of public reads."""
    public = (await bench.client()).public(
        "tinycloud:key:z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd:public"
    )
    assert [key async for key in public.list()] == []
    with pytest.raises(RateLimited):
        for _ in range(12):
            with pytest.raises(NotFound):
                await public.get("a")


async def test_a_public_space_has_an_id(bench) -> None:
    """A public space is read by its id, because a name alone does not identify its owner."""
    with pytest.raises(InvalidInput):
        (await bench.client()).public("public")


async def test_a_lifetime_that_is_not_possible(bench) -> None:
    """The client refuses a signed URL with a shorter lifetime than requested, unless the caller
    allows it."""
    client, _ = await bench.owner()
    await client.kv().put("a", b"1")
    signed = await client.kv().signed_url("a", ttl_s=300)
    assert bench.clock.now() + 300 == pytest.approx(ends(signed), abs=1)
    with pytest.raises(LifetimeTooLong) as refused:
        await client.kv().signed_url("a", ttl_s=301)
    assert refused.value.asked_s == 301
    assert refused.value.possible_s == 300
    assert "at_most" in refused.value.hint
    assert bench.clock.now() + 300 == pytest.approx(
        ends(await client.kv().signed_url("a", ttl_s=3600, at_most=True)), abs=1
    )
    assert 280 < ends(await client.kv().signed_url("a")) - bench.clock.now() <= 300
    assert client.session.expires_at is not None
    bench.clock.advance(client.session.expires_at - bench.clock.now() - 100)
    with pytest.raises(LifetimeTooLong):
        await client.kv().signed_url("a", ttl_s=200)
    for options in ({"ttl_s": 200, "at_most": True}, {}):
        assert client.session.expires_at == pytest.approx(
            ends(await client.kv().signed_url("a", **options)), abs=1
        )


async def test_a_node_that_allows_less(bench) -> None:
    """A URL that the node ends earlier than requested raises an error."""
    owner, _ = await bench.owner()
    await owner.kv().put("a", b"1")
    async with (
        relay_before(bench.node.url) as relay,
        Client(
            relay.url, session=owner.session, clock=bench.clock, entropy=bench.entropy
        ) as client,
    ):
        for said, kind in (("2020-01-01T00:00:00Z", LifetimeTooLong), ("soon", MalformedAnswer)):

            def twist(answer: Answer, said: str = said) -> None:
                if answer.path == "/signed/kv":
                    answer.change(expiresAt=said)

            relay.twist = twist
            with pytest.raises(kind):
                await client.kv().signed_url("a", ttl_s=10)


def ends(signed: SignedUrl) -> float:
    return datetime.fromisoformat(signed.expires_at).timestamp()
