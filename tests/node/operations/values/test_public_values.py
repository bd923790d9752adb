"""Tests of public spaces: public reads, keys in URLs, and rates."""

import json

import pytest

from node.config.tree import Http, PublicSpaces
from node.operations.values.public_values import MAX_PAGE_PATHS

PROXIED = Http(port=0, drain_s=0, trusted_proxies=("127.0.0.1",))
NO_RATE = PublicSpaces(requests_per_minute=0)


def at(node, rest: str = "", name: str = "public") -> str:
    return f"/public/{node.space(name).replace(':', '%3A')}/kv{rest}"


async def keep(node, *paths: str, body: bytes = b"x", **headers: str) -> None:
    for path in paths:
        assert (await node.put(path, body, name="public", **headers)).status == 200


async def test_a_public_value(serve) -> None:
    """A public value is readable without a token, cacheable for a minute, with its type only."""
    async with serve() as node:
        await keep(
            node,
            "a",
            body=b"hello",
            content_type="image/png",
            content_disposition="inline",
            x_tinycloud_meta_a="1",
        )
        reply = await node.send("GET", at(node, "/a"))
        assert reply.said == (200, "hello")
        assert reply.headers["content-type"] == "image/png"
        assert reply.headers["cache-control"] == "public, max-age=60"
        assert reply.headers["access-control-allow-origin"] == "*"
        assert reply.headers["content-security-policy"].startswith("sandbox")
        assert not {"content-disposition", "x-tinycloud-meta-a"} & set(reply.headers)
        assert (
            await node.send("GET", at(node, "/a"), if_none_match=reply.headers["etag"])
        ).status == 304


async def test_head_of_a_large_value(serve) -> None:
    """HEAD returns the size of a value without the value."""
    async with serve() as node:
        await keep(node, "a", body=bytes(100_000))
        reply = await node.send("HEAD", at(node, "/a"))
        assert reply.status == 200
        assert reply.body == b""
        assert reply.headers["content-length"] == "100000"


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("a%20b", "/a%20b"),
        ("a%20b", "/a%2520b"),
        ("a/b", "/a/b"),
        ("a/b", "/a%2Fb"),
        ("a%2Fb", "/a%2Fb"),
        ("a/b", "//a//b/"),
        ("a/", "/a/"),
        ("%C3%A4", "/%C3%A4"),
        ("%C3%A4", "/%25C3%25A4"),
        (".well-known/x", "/.well-known/x"),
        ("a+b", "/a+b"),
    ],
)
async def test_a_key_in_a_url(serve, stored: str, asked: str) -> None:
    """A key is found both as spelt in the URL and decoded (Q11)."""
    async with serve() as node:
        await keep(node, stored)
        assert (await node.send("GET", at(node, asked))).said == (200, "x")


async def test_the_raw_key_comes_first(serve) -> None:
    """If both keys have a value, the spelling in the URL wins (Q11)."""
    async with serve() as node:
        await keep(node, "a/b", body=b"decoded")
        await keep(node, "a%2Fb", body=b"raw")
        assert (await node.send("GET", at(node, "/a%2Fb"))).text == "raw"
        assert await node.send(
            "POST", "/invoke", token=node.token({node.kv("a%2Fb", "public"): ["tinycloud.kv/del"]})
        )
        assert (await node.send("GET", at(node, "/a%2Fb"))).text == "decoded"


async def test_only_spaces_named_public(serve) -> None:
    """Only spaces with the name `public` can be read without a token (U8)."""
    async with serve() as node:
        await node.put("a", b"secret")
        for rest in ("/a", "", "/"):
            assert (await node.send("GET", at(node, rest, "default"))).said == (
                403,
                "Not a public space",
            )
            assert (await node.send("GET", f"/public/nonsense/kv{rest}")).said == (
                400,
                "Invalid space ID",
            )
        assert (await node.send("GET", at(node, "/a"))).said == (404, "Key not found")
        assert (await node.send("GET", at(node))).said == (200, "[]")


async def test_a_list_in_pages(serve) -> None:
    """Keys are listed in byte order without deleted ones, in consecutive pages (M61)."""
    async with serve(http=Http(port=0, drain_s=0, cors=False), public_spaces=NO_RATE) as node:
        await keep(node, "d", "d/1", "d/2", "d/3", "da", "e")
        await node.send(
            "POST", "/invoke", token=node.token({node.kv("d/2", "public"): ["tinycloud.kv/del"]})
        )
        whole = await node.send("GET", at(node, "?prefix=d"))
        assert json.loads(whole.body) == ["d", "d/1", "d/3"]
        assert whole.headers.get("x-tinycloud-truncated") is None
        first = await node.send("GET", at(node, "/?prefix=d&limit=2"))
        assert json.loads(first.body) == ["d", "d/1"]
        assert first.headers["x-tinycloud-truncated"] == "true"
        assert "x-tinycloud-truncated" in first.headers["access-control-expose-headers"]
        rest = await node.send("GET", at(node, "?prefix=d&limit=2&after=d%2F1"))
        assert json.loads(rest.body) == ["d/3"]
        for after, expected in (("c", ["d"]), ("d", ["d/1"]), ("d%2F", ["d/1"]), ("da", [])):
            page = await node.send("GET", at(node, f"?prefix=d&limit=1&after={after}"))
            assert json.loads(page.body) == expected
        folder = await node.send("GET", at(node, "?prefix=d%2F"))
        assert json.loads(folder.body) == ["d/1", "d/3"]
        assert rest.headers.get("x-tinycloud-truncated") is None
        for limit in ("0", "x", "-1", "1e3", "99999999999999999999"):
            assert (await node.send("GET", at(node, f"?limit={limit}"))).status == 200
        assert MAX_PAGE_PATHS == 1000


async def test_long_keys_make_short_pages(serve) -> None:
    """A page contains at most a quarter of a megabyte of keys, but at least one key."""
    async with serve(public_spaces=NO_RATE) as node:
        paths = [f"{letter * 100_000}" for letter in "abc"]
        await keep(node, *paths)
        first = await node.send("GET", at(node))
        assert json.loads(first.body) == paths[:2]
        assert first.headers["x-tinycloud-truncated"] == "true"


async def test_a_client_reads_so_often(serve) -> None:
    """A client may make eleven public reads at once, then one per second."""
    async with serve() as node:
        assert [404] * 11 + [429] == [
            (await node.send("GET", at(node, "/a"))).status for _ in range(12)
        ]
        reply = await node.send("GET", at(node))
        assert (*reply.said, reply.headers["retry-after"]) == (429, "Rate limit exceeded", "1")
        node.clock.advance(1)
        assert [200, 429] == [(await node.send("GET", at(node))).status for _ in range(2)]
        assert (await node.send("OPTIONS", at(node, "/a"))).status == 204


async def test_who_a_client_is(serve) -> None:
    """A forwarded address is used only if it comes from a trusted proxy (Q12)."""
    async with serve() as node:
        statuses = [
            (await node.send("GET", at(node), x_real_ip=f"192.0.2.{n}")).status for n in range(12)
        ]
        assert statuses == [200] * 11 + [429]
    async with serve(http=PROXIED) as node:
        statuses = [
            (await node.send("GET", at(node), x_real_ip=f"192.0.2.{n}")).status for n in range(12)
        ]
        assert statuses == [200] * 12
        forged = [
            (
                await node.send(
                    "GET",
                    at(node),
                    x_real_ip=f"192.0.2.{n}",
                    x_forwarded_for=f"9.9.9.{n}, 198.51.100.1",
                )
            ).status
            for n in range(12)
        ]
        assert forged == [200] * 11 + [429]
    async with serve(http=PROXIED) as node:
        # Only trusted proxies are named: the peer is who it is, whatever else is said.
        named = [
            (
                await node.send(
                    "GET",
                    at(node),
                    x_real_ip=f"192.0.2.{n}",
                    x_forwarded_for="127.0.0.1, 127.0.0.1",
                )
            ).status
            for n in range(12)
        ]
        assert named == [200] * 11 + [429]


async def test_a_rate_of_nought_counts_nothing(serve) -> None:
    """A rate of 0 disables the limit."""
    async with serve(public_spaces=NO_RATE) as node:
        assert {200} == {(await node.send("GET", at(node))).status for _ in range(30)}


async def test_a_public_space_has_its_own_quota(serve) -> None:
    """A public space has the limit of its own setting, whatever the default is (M53)."""
    async with serve(public_spaces=PublicSpaces(storage_limit_bytes=10)) as node:
        assert (await node.put("a", bytes(11), name="public")).storage_said == (
            413,
            "Write exceeds remaining storage. Used: 0 bytes, Limit: 10 bytes",
        )
        assert (await node.put("a", bytes(10), name="public")).status == 200
        assert (await node.put("b", b"x", name="public")).storage_said == (
            402,
            "Storage quota exceeded. Used: 10 bytes, Limit: 10 bytes",
        )
        assert (await node.put("a", bytes(11))).status == 200
