"""Tests of putting values: bodies of any size, checks before the body, and broken uploads."""

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from kv_client import Owner, etag
from patience import AT_ONCE_S, until

from node.config.tree import Config, Hosting, Http, Store
from spaces.values.collector import UNFINISHED_AFTER_S, sweep_unfinished
from spaces.values.long_paths import MAX_PATH_BYTES
from spaces.values.metadata import ROW_BYTES
from spaces.values.value_bodies import Intake

LARGE = bytes(range(256)) * 4096 + b"and a rest"


async def pieces(body: bytes, size_bytes: int = 70_000) -> AsyncIterator[bytes]:
    for first in range(0, len(body), size_bytes):
        yield body[first : first + size_bytes]


@pytest.mark.parametrize(
    "size_bytes", [0, 1, 64 * 1024, 64 * 1024 + 1, 256 * 1024, 256 * 1024 + 1, len(LARGE)]
)
@pytest.mark.parametrize("chunked", [False, True], ids=["with length", "chunked"])
async def test_values_of_any_size(owner: Owner, size_bytes: int, chunked: bool) -> None:
    """A value of any size is returned unchanged with ETag and length, and without an unsent type
    (J7)."""
    body = LARGE[:size_bytes]
    reply = await owner.put("a", pieces(body) if chunked else body)
    assert reply.status == 200
    assert reply.body == b""
    assert etag(body) == reply.headers["etag"]
    reply = await owner.get("a")
    assert reply.body == body
    assert reply.headers["etag"] == etag(body)
    assert reply.headers["content-length"] == str(size_bytes)
    assert "content-type" not in reply.headers
    assert await owner.used_bytes() == size_bytes


async def test_metadata_of_a_large_value(owner: Owner) -> None:
    """Streamed answers and 304 carry the stored headers."""
    await owner.put("a", LARGE, Content_Type="text/x; a=b", X_TinyCloud_Meta_B="é")
    reply = await owner.get("a")
    assert reply.headers["content-type"] == "text/x; a=b"
    assert reply.headers["x-tinycloud-meta-b"] == "é"
    assert reply.headers["cache-control"] == "private, no-cache"
    reply = await owner.invoke(("get", "a"), headers={"If-None-Match": etag(LARGE)})
    assert reply.status == 304
    assert reply.body == b""
    assert reply.headers["x-tinycloud-meta-b"] == "é"
    reply = await owner.invoke(
        ("get", "a"), headers={"x-tinycloud-max-response-bytes": str(len(LARGE) - 1)}
    )
    assert reply.status == 413


async def test_conditions_on_large_values(owner: Owner) -> None:
    """Create-only and compare-and-set work for values in files; a refused one leaves nothing."""
    assert (await owner.put("a", LARGE, If_None_Match="*")).status == 200
    assert (await owner.put("a", LARGE + b"2", If_None_Match="*")).said == (
        412,
        "KV precondition failed",
    )
    assert (await owner.put("a", LARGE + b"2", If_Match=etag(b""))).status == 412
    assert len(owner.files()) == 1
    assert (await owner.put("a", LARGE + b"2", If_Match=etag(LARGE))).status == 200
    assert (await owner.get("a")).body == LARGE + b"2"


# --- what is judged first


async def test_outsider_is_reported_before_the_body_is_read(owner: Owner) -> None:
    """An unauthorised call is answered before its body arrives."""
    await owner.put("a", b"1")
    outsider = Owner(owner.node, owner.session, owner.clock)
    token = outsider.token((), more={f"{owner.space.text}/kv/a": "tinycloud.kv/put"})
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(owner.node.url).port)
    head = (
        f"POST /invoke HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length:"
        " 1000000\r\n\r\n"
    )
    writer.write(head.encode())
    assert b" 401 " in await asyncio.wait_for(reader.readline(), AT_ONCE_S)
    writer.close()
    assert owner.files() == []


@pytest.mark.parametrize("chunked", [False, True], ids=["with length", "chunked"])
async def test_body_over_the_limit(limited: Owner, chunked: bool) -> None:
    """A body over the limit is answered 413 and not stored (Q2)."""
    limit_bytes = 300_000
    body = LARGE[: limit_bytes + 1]
    assert (await limited.put("a", body[:-1])).status == 200
    reply = await limited.put("a", pieces(body) if chunked else body)
    assert reply.said == (413, f"KV value exceeds this node's limit of {limit_bytes} bytes")
    assert (await limited.get("a")).body == body[:-1]
    assert len(limited.files()) == 1


async def test_full_disk_is_507(owner: Owner) -> None:
    """With a full disk large values are 507, while reads and small values work."""
    await owner.put("a", LARGE)
    files = owner.node.services.values.files
    files.reserve_bytes = 1 << 62  # type: ignore[attr-defined]  # files of a folder
    assert (await owner.put("b", LARGE[1:])).status == 507
    assert (await owner.put("c", b"small")).status == 200
    assert (await owner.get("a")).body == LARGE
    assert len(owner.files()) == 1


async def test_values_on_their_way_hold_a_bounded_memory(owner: Owner) -> None:
    """Beyond the memory limit a put is 503 with a time to retry, until others finish."""
    await owner.put("a", b"before")
    owner.node.services.values.intake = Intake(200_000)
    reply = await owner.put("a", LARGE)
    assert reply.said == (503, "Too many values are being received")
    assert reply.headers["retry-after"] == "1"
    for body in (LARGE[:150_000], b"after"):
        assert (await owner.put("a", body)).status == 200
        assert (await owner.get("a")).body == body


# --- quota


async def test_usage_shrinks(owner: Owner) -> None:
    """Overwriting and deleting free space, for values in rows and in files (M50)."""
    for body, used_bytes in [(LARGE, len(LARGE)), (b"12", 2), (LARGE, len(LARGE)), (b"", 0)]:
        await owner.put("a", body)
        assert await owner.used_bytes() == used_bytes
    await owner.put("a", LARGE)
    assert (await owner.invoke(("del", "a"))).status == 200
    assert await owner.used_bytes() == 0


LIMIT_BYTES = 200_000


@pytest.mark.parametrize("chunked", [False, True], ids=["with length", "chunked"])
async def test_value_that_does_not_fit(small: Owner, chunked: bool) -> None:
    """A value larger than the free space is 413 with both numbers, and not stored (M51, J8)."""
    await small.put("a", b"x" * 100)
    body = LARGE[: LIMIT_BYTES - 99]
    reply = await small.put("b", pieces(body) if chunked else body)
    text = f"Write exceeds remaining storage. Used: 100 bytes, Limit: {LIMIT_BYTES} bytes"
    assert reply.storage_said == (413, text)
    assert small.files() == []
    assert (await small.put("b", body[:-1])).status == 200
    assert await small.used_bytes() == LIMIT_BYTES


async def test_full_space(small: Owner) -> None:
    """A full space is 402 for new values, but accepts a replacement that is no larger (M51)."""
    await small.put("a", LARGE[:LIMIT_BYTES])
    text = f"Storage quota exceeded. Used: {LIMIT_BYTES} bytes, Limit: {LIMIT_BYTES} bytes"
    for body in (b"x", b"", LARGE[:80_000]):
        assert (await small.put("b", body)).storage_said == (402, text)
    assert (await small.put_all({"b": b"x"})).storage_said == (402, text)
    assert (await small.put("a", LARGE[: LIMIT_BYTES + 1])).storage_said == (402, text)
    assert (await small.put("a", LARGE[1 : LIMIT_BYTES + 1])).status == 200
    assert (await small.put("a", b"x")).status == 200
    assert (await small.put("b", b"x")).status == 200


async def test_batch_that_does_not_fit(small: Owner) -> None:
    """A batch counts as a whole, minus the values that it replaces."""
    await small.put("a", LARGE[:150_000])
    text = f"Write exceeds remaining storage. Used: 150000 bytes, Limit: {LIMIT_BYTES} bytes"
    assert (await small.put_all({"a": LARGE[:120_000], "b": LARGE[1:80_002]})).storage_said == (
        413,
        text,
    )
    assert len(small.files()) == 1
    assert (await small.put_all({"a": LARGE[:120_000], "b": LARGE[1:80_001]})).status == 200
    assert await small.used_bytes() == LIMIT_BYTES


async def test_body_that_is_shared_costs_once(small: Owner) -> None:
    """Equal large values under two keys count once, until both are deleted (M10)."""
    body = LARGE[:90_000]
    await small.put_all({"a": body, "b": body})
    assert await small.used_bytes() == len(body)
    reply = await small.put("a", LARGE[1:120_001])
    text = f"Write exceeds remaining storage. Used: 90000 bytes, Limit: {LIMIT_BYTES} bytes"
    assert reply.storage_said == (413, text)
    assert (await small.put("a", LARGE[1:110_001])).status == 200
    assert await small.used_bytes() == LIMIT_BYTES


# --- a put that ends in the middle


@pytest.mark.parametrize("framing", ["Content-Length: 2000000", "Transfer-Encoding: chunked"])
async def test_connection_that_breaks(owner: Owner, framing: str) -> None:
    """A put whose connection breaks stores nothing and leaves nothing on the disk."""
    await owner.put("a", b"before")
    body = LARGE if "Length" in framing else b"%x\r\n%b\r\n" % (len(LARGE), LARGE)
    _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(owner.node.url).port)
    token = owner.token([("put", "a")])
    writer.write(
        f"POST /invoke HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n{framing}\r\n\r\n".encode()
        + body
    )
    await writer.drain()
    await until(lambda: len(owner.files()) == 1)
    writer.transport.abort()
    await until(lambda: owner.files() == [])
    assert (await owner.get("a")).text == "before"


async def test_body_that_stops(impatient: Owner) -> None:
    """A body that stops, or continues with other bytes than a body, is 408 and leaves nothing."""
    for framing, more in (
        ("Content-Length: 2000000", b""),
        ("Transfer-Encoding: chunked", b"nonsense\r\n"),
    ):
        token = impatient.token([("put", "a")])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", urlsplit(impatient.node.url).port
        )
        writer.write(
            b"POST /invoke HTTP/1.1\r\nHost: x\r\n"
            + f"Authorization: {token}\r\n{framing}\r\n\r\n".encode()
        )
        writer.write(LARGE if not more else b"%x\r\n%b\r\n" % (len(LARGE), LARGE) + more)
        assert b" 408 " in await asyncio.wait_for(reader.readline(), AT_ONCE_S)
        writer.close()
        assert impatient.files() == []


# --- what changes while a body comes


class SlowBody:
    """A large body that pauses in the middle until it is released."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.half = asyncio.Event()
        self.go = asyncio.Event()

    async def pieces(self) -> AsyncIterator[bytes]:
        middle = len(self._body) // 2
        yield self._body[:middle]
        self.half.set()
        await self.go.wait()
        yield self._body[middle:]


async def test_token_that_ends_while_its_body_comes(owner: Owner) -> None:
    """A token may expire while its body arrives; a repeat of it is still refused."""
    await owner.put("a", b"before")
    token, slow = owner.token([("put", "a")]), SlowBody(LARGE)
    putting = asyncio.create_task(owner.invoke(token=token, body=slow.pieces()))
    await until(lambda: slow.half.is_set() and len(owner.files()) == 1)
    owner.clock.advance(3600)
    slow.go.set()
    assert (await putting).status == 200
    assert (await owner.get("a")).body == LARGE
    assert (await owner.invoke(token=token, body=b"x")).status == 401


async def test_value_that_changes_while_a_body_comes(owner: Owner) -> None:
    """A condition is checked again when the body is complete."""
    await owner.put("a", b"before")
    slow = SlowBody(LARGE)
    putting = asyncio.create_task(
        owner.invoke(("put", "a"), body=slow.pieces(), headers={"If-Match": etag(b"before")})
    )
    await until(lambda: slow.half.is_set() and len(owner.files()) == 1)
    await owner.put("a", b"between")
    slow.go.set()
    assert (await putting).said == (412, "KV precondition failed")
    assert (await owner.get("a")).text == "between"
    assert owner.files() == []


async def test_one_of_the_conditional_writes_wins(owner: Owner) -> None:
    """Of concurrent writes under one condition one is done, and all others are 412 (Q37)."""
    await owner.put("host", b"")
    tag = ""
    for number in range(4):
        condition = {"If_Match": tag} if tag else {"If_None_Match": "*"}
        bodies = [b"%d/%d" % (number, at) for at in range(8)]
        replies = await asyncio.gather(*(owner.put("one", body, **condition) for body in bodies))
        assert sorted(reply.status for reply in replies) == [200] + [412] * 7
        tag = next(reply.headers["etag"] for reply in replies if reply.status == 200)
    only_this = {"If-Match": tag}
    gone = await asyncio.gather(
        *(owner.invoke(("del", "one"), headers=only_this) for _ in range(6))
    )
    assert sorted(reply.status for reply in gone) == [200] + [412] * 5


async def test_last_commit_wins(owner: Owner) -> None:
    """Without a condition, the put that commits last wins (M3)."""
    slow = SlowBody(LARGE)
    putting = asyncio.create_task(owner.invoke(("put", "a"), body=slow.pieces()))
    await until(lambda: slow.half.is_set() and len(owner.files()) == 1)
    await owner.put("a", b"between")
    slow.go.set()
    assert (await putting).status == 200
    assert (await owner.get("a")).body == LARGE
    assert len(owner.files()) == 1


async def test_upload_that_was_given_up(owner: Owner) -> None:
    """An upload that paused until it was swept as abandoned fails at its end."""
    slow = SlowBody(LARGE)
    putting = asyncio.create_task(owner.invoke(("put", "a"), body=slow.pieces()))
    await until(lambda: slow.half.is_set() and len(owner.files()) == 1)
    (place,) = owner.files()
    later = place.stat().st_mtime + UNFINISHED_AFTER_S + 1
    assert await sweep_unfinished(owner.node.services.values.files, now=later) == 1
    slow.go.set()
    assert (await putting).status == 503
    assert (await owner.get("a")).status == 404


async def test_damaged_value_is_not_handed_out(owner: Owner) -> None:
    """A damaged file is 500 if small, and a broken connection if streamed (M13)."""
    await owner.put("a", LARGE)
    (place,) = owner.files()
    place.write_bytes(LARGE[:-1] + b"x")
    with pytest.raises(Exception, match="payload"):
        await owner.get("a")
    await owner.put("b", LARGE[:80_000])
    (place,) = (place for place in owner.files() if place.stat().st_size == 80_000)
    place.write_bytes(bytes(80_000))
    assert (await owner.get("b")).status == 500


def test_default_limit_is_that_of_the_protocol() -> None:
    """By default a value has at most 1,000,000,000 bytes, and a space 1 GiB."""
    config = Config(store=Store(), http=Http(), hosting=Hosting())
    assert config.http.max_body_bytes == 1_000_000_000
    assert config.hosting.default_quota_bytes == 1 << 30


async def test_rows_fill_a_space_too(small: Owner) -> None:
    """Keys, metadata and a fixed overhead count separately, against an equal limit (M54)."""
    note = {"X_TinyCloud_Meta_Note": "m" * 15_000}
    replies = [await small.put(f"{number:03}", b"", **note) for number in range(14)]
    assert {200} == {reply.status for reply in replies[:13]}
    each = ROW_BYTES + 3 + len("x-tinycloud-meta-note") + 15_000
    text = f"Write exceeds remaining storage. Used: {13 * each} bytes, Limit: {LIMIT_BYTES} bytes"
    assert replies[13].storage_said == (413, text)
    assert await small.used_bytes() == 0
    # takes no more than what it replaces
    assert (await small.put("000", b"", **note)).status == 200
    assert (await small.invoke(("del", "000"))).status == 200
    assert (await small.put("013", b"", **note)).status == 200


async def test_long_paths_are_bounded(owner: Owner) -> None:
    """A path of 100,000 bytes can be put, listed and deleted; a longer one is 400."""
    path = "p" * MAX_PATH_BYTES
    assert (await owner.put(path, b"x")).status == 200
    assert json.loads((await owner.invoke(("list", ""))).body) == [path]
    reply = await owner.put(path + "p", b"x")
    assert reply.said == (
        400,
        f"a path may have at most {MAX_PATH_BYTES} bytes; this one has {MAX_PATH_BYTES + 1}",
    )
    assert (await owner.invoke(("del", path))).status == 200
    assert json.loads((await owner.invoke(("list", ""))).body) == []
