"""Tests of calls with several values at a real node: atomic commits and partial failures."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from patience import PATIENCE_S
from relay import Answer, Relay, relay_before

from sealspace.client import Client
from sealspace.errors import (
    BatchIncomplete,
    InvalidInput,
    MalformedAnswer,
    NotFound,
    NotGranted,
    SpaceNotFound,
    ValueTooLarge,
)
from sealspace.session import key_session
from sealspace.wire.transport import TransportSettings

SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)


async def test_values_are_written_read_and_deleted_together(bench) -> None:
    """A batch returns the written values with their versions and types, without missing keys."""
    kv = (await bench.owner())[0].kv()
    values = {"a": b"\x00\xff", "b": "ä", "empty": b"", "d/%20x": b"4"}
    etags = await kv.put_many(values)
    read = await kv.get_many(["empty", "missing", *values])
    assert ["empty", "a", "b", "d/%20x"] == list(read)
    assert {"a": b"\x00\xff", "b": "ä".encode(), "empty": b"", "d/%20x": b"4"} == {
        key: value.body for key, value in read.items()
    }
    assert etags == {key: value.etag for key, value in read.items()}
    assert read["a"].content_type is None
    assert read["b"].content_type == "text/plain;charset=UTF-8"
    assert read["b"] == await kv.get("b")
    await kv.delete_many(values)
    assert {} == await kv.get_many(values)


async def test_metadata_of_several_values(bench) -> None:
    """Metadata of many keys take one request per 100 keys, and contain the time of storing."""
    owner, _ = await bench.owner()
    keys = [f"k{number:03}" for number in range(201)]
    await owner.kv().put_many(dict.fromkeys(keys, "x"))
    stored_at = bench.clock.now()
    bench.clock.advance(10)
    async with relayed(bench, owner) as (relay, client):
        asked: list[str] = []
        relay.twist = lambda answer: asked.append(answer.path)
        found = await client.kv().metadata_many([*keys, "missing"])
    assert asked.count("/invoke") == 3
    assert list(found) == keys
    assert {(one.body, one.stored_at) for one in found.values()} == {(b"", stored_at)}
    assert found["k200"] == await owner.kv().metadata("k200")
    assert {} == await owner.kv().metadata_many(["missing"])


@pytest.mark.parametrize("text", ["", "yesterday", "\x00", "Fri, 31 Dec 9999 23:59:59 -1200"])
async def test_a_time_that_is_none(bench, text: str) -> None:
    """A malformed time in an answer counts as unknown."""
    owner, _ = await bench.owner()
    await owner.kv().put_many({"a": "x", "b": "y"})
    headers = {"etag": '"1"', "last-modified": text}

    def twist(answer: Answer) -> None:
        if answer.path == "/invoke":
            results = [{"key": key, "ok": True, "headers": headers} for key in "ab"]
            answer.body = json.dumps({"results": results}).encode()

    async with relayed(bench, owner) as (relay, client):
        relay.twist = twist
        found = await client.kv().metadata_many("ab")
    assert [one.stored_at for one in found.values()] == [None, None]


@asynccontextmanager
async def relayed(bench, owner: Client) -> AsyncIterator[tuple[Relay, Client]]:
    """A relay before the node, and a client of the owner that uses it."""
    async with (
        relay_before(bench.node.url) as relay,
        Client(
            relay.url,
            session=owner.session,
            settings=SETTINGS,
            clock=bench.clock,
            entropy=bench.entropy,
        ) as client,
    ):
        yield relay, client


async def test_nothing_is_asked_for_nothing(bench) -> None:
    """A call without keys sends no request."""
    kv = (await bench.owner())[0].kv()
    assert await kv.get_many([]) == {}
    assert await kv.put_many({}) == {}
    await kv.delete_many([])


async def test_a_type_for_all(bench) -> None:
    """A content type for the call applies to each of its values."""
    kv = (await bench.owner())[0].kv()
    await kv.put_many({"a": "{}", "b": b"[]"}, content_type="application/json")
    assert ["application/json"] * 2 == [
        value.content_type for value in (await kv.get_many("ab")).values()
    ]


async def test_more_than_one_request_takes(bench) -> None:
    """Hundreds of keys, some with large values, are sent in as many requests as necessary."""
    kv = (await bench.owner())[0].kv()
    values = {f"k/{number:03}": b"%d" % number for number in range(260)} | {"large": b"x" * 100_000}
    await kv.put_many(values)
    read = await kv.get_many(values)
    assert values == {key: value.body for key, value in read.items()}
    await kv.delete_many(values)
    assert [] == [key async for key in kv.list()]


async def test_long_keys_do_not_outgrow_a_token(bench) -> None:
    """Keys are sent in a header of limited size, so long ones take several requests."""
    kv = (await bench.owner())[0].kv()
    values = {f"{number:02}{'k' * 5_000}": b"1" for number in range(60)}
    await kv.put_many(values)
    assert values.keys() == (await kv.get_many(values)).keys()


async def test_values_that_do_not_fit_into_one_answer(bench) -> None:
    """A node sends at most 64 MiB of values in one answer, so more are requested in parts."""
    kv = (await bench.owner())[0].kv()
    values = {key: key.encode() * 23_000_000 for key in "abc"}
    await kv.put_many(values)
    read = await kv.get_many(values)
    assert values == {key: value.body for key, value in read.items()}
    with pytest.raises(ValueTooLarge):
        await kv.get_many(values, max_bytes=1000)


async def test_a_write_is_all_or_nothing(bench) -> None:
    """A commit is atomic: an unknown key stops a deletion, and an invalid key a put."""
    kv = (await bench.owner())[0].kv()
    await kv.put("a", b"1")
    with pytest.raises(NotFound):
        await kv.delete_many(["a", "never"])
    assert (await kv.get("a")).body == b"1"
    for values in ({"b": b"2", "no key": b"3"}, {"b": b"2", "c": 3}):
        with pytest.raises(InvalidInput):
            await kv.put_many(values)
    assert ["a"] == [key async for key in kv.list()]


async def test_what_is_known_when_a_later_commit_fails(bench) -> None:
    """If a later commit fails, the error lists the keys that were written, those that were not, and
    the cause."""
    kv = (await bench.owner())[0].kv()
    keys = [f"k/{number:03}" for number in range(250)]
    await kv.put_many(dict.fromkeys(keys, b"1"))
    with pytest.raises(BatchIncomplete) as reported:
        await kv.delete_many([*keys, "never"])
    assert reported.value.done == tuple(keys)
    assert reported.value.left == ("never",)
    assert isinstance(reported.value.__cause__, NotFound)
    assert "250 of 251 keys are done" in str(reported.value)
    assert [] == [key async for key in kv.list()]


async def test_who_may_not_is_refused(bench) -> None:
    """Without a grant the client sends no request."""
    owner, _ = await bench.owner()
    outsider = await bench.client(key_session(bytes(32)))
    for call in (
        lambda kv: kv.get_many(["a", "b"]),
        lambda kv: kv.put_many({"a": b"1", "b": b"2"}),
        lambda kv: kv.delete_many(["a", "b"]),
    ):
        with pytest.raises(NotGranted):
            await call(outsider.kv(owner.kv().space.text))
    for keys in (["a"], ["a", "b"]):
        with pytest.raises(SpaceNotFound):
            await outsider.kv("unhosted").get_many(keys)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b'{"results":[]}',
        b'{"results":[{"key":"a","ok":true,"dataBase64":"","headers":{"etag":"1"}}]}',
        b'{"results":[{"key":"a","ok":true,"headers":{"etag":"1"}},{"key":"c","ok":true,"headers":{"etag":"1"}}]}',
        b'{"results":[{"key":"a","ok":true,"headers":{}},{"key":"b","ok":true,"headers":{}}]}',
        b'{"results":[{"key":"a","ok":false},{"key":"b","ok":true,"headers":{"etag":"1"}}]}',
        b'{"results":[{"key":"a","ok":true,"dataBase64":"%"},{"key":"b","ok":true}]}',
    ],
)
async def test_answers_to_a_read_that_are_not_believed(bench, said: bytes) -> None:
    """A batch answer about other keys, without a version, or malformed is rejected."""
    owner, _ = await bench.owner()
    await owner.kv().put_many({"a": b"1", "b": b"2"})
    async with (
        relay_before(bench.node.url) as liar,
        Client(
            liar.url,
            session=owner.session,
            settings=SETTINGS,
            clock=bench.clock,
            entropy=bench.entropy,
        ) as client,
    ):
        assert 2 == len(await client.kv().get_many("ab"))

        def twist(answer: Answer) -> None:
            answer.body = said if answer.path == "/invoke" else answer.body

        liar.twist = twist
        with pytest.raises(MalformedAnswer):
            await client.kv().get_many("ab")


@pytest.mark.parametrize(
    "change", [{"written": ["a"]}, {"count": 1}, {"written": "ab"}, {"written": ["a", "c"]}]
)
async def test_answers_to_a_write_that_are_not_believed(bench, change: dict[str, object]) -> None:
    """A batch succeeded only if the node names exactly the keys that were asked for (J9)."""
    owner, _ = await bench.owner()
    async with (
        relay_before(bench.node.url) as liar,
        Client(
            liar.url,
            session=owner.session,
            settings=SETTINGS,
            clock=bench.clock,
            entropy=bench.entropy,
        ) as client,
    ):

        def twist(answer: Answer) -> None:
            if answer.path == "/invoke":
                answer.body = json.dumps(json.loads(answer.body) | change).encode()

        liar.twist = twist
        with pytest.raises(MalformedAnswer):
            await client.kv().put_many({"a": b"1", "b": b"2"})
