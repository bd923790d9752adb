"""Tests of `kv.changes`: pages, waiting, resets and answers that are rejected."""

import asyncio
import secrets
from typing import Any

import pytest
from patience import PATIENCE_S, until
from relay import Answer, relay_before
from tests_support import FixedClock

from sealspace import sync
from sealspace.client import Client
from sealspace.errors import InvalidInput, MalformedAnswer, NotGranted
from sealspace.kv import ChangesPage, Kv
from sealspace.session import key_session
from sealspace.wire.transport import TransportSettings
from spaces.keyspace import space_keys
from spaces.store.contract import Put, commit_puts
from spaces.store.sequence_waits import WaitBounds

SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)


@pytest.fixture
async def kv(bench: Any) -> Kv:
    """The values of an owner without a wallet, who has every right."""
    client = await bench.client(key_session(secrets.token_bytes(32)))
    kv: Kv = client.kv("feed")
    await kv.put("notes/a", b"1")
    return kv


async def present(kv: Kv, cursor: str | None = None, **more: Any) -> list[ChangesPage]:
    """Return all pages up to the present."""
    return [page async for page in kv.changes("notes", cursor=cursor, follow=False, **more)]


def keys(*pages: ChangesPage) -> list[str]:
    """Return the keys of pages; those of deleted values have a minus sign."""
    found = []
    for page in pages:
        for change in page.changes:
            found.append(f"{'-' if change.is_deleted else ''}{change.key}")
    return found


async def test_changes_up_to_the_present(kv: Kv) -> None:
    """A reader without a cursor gets all values, and with it what has changed since."""
    await kv.put("other", b"1")
    await kv.put("notes/b", b"1", metadata={"n": "1"})
    pages = await present(kv, limit=1)
    assert keys(*pages) == ["notes/a", "notes/b"]
    change = pages[-1].changes[0]
    value = await kv.get("notes/b")
    assert (change.etag, change.metadata) == (value.etag, {"x-tinycloud-meta-n": "1"})
    await kv.delete("notes/a")
    (page,) = await present(kv, pages[-1].cursor)
    assert keys(page) == ["-notes/a"]
    assert await present(kv, page.cursor) == []


async def test_CF11_a_reader_waits_for_the_next_change(kv: Kv, bench: Any) -> None:
    """A reader that follows gets each change when it is made."""
    pages = kv.changes("notes")
    assert keys(await anext(pages)) == ["notes/a"]
    for key in ("notes/b", "notes/c"):
        waiting = asyncio.ensure_future(anext(pages))
        await until(lambda: bench.node.services.waits.taken == 1)
        await kv.put(key, b"1")
        assert keys(await waiting) == [key]


async def test_CF13_a_node_without_a_place(kv: Kv, bench: Any) -> None:
    """If the node does not wait, the reader asks again after its own pause."""
    bench.node.services.waits.bounds = WaitBounds(most=0, most_per_owner=1, most_per_client=0)
    pages = kv.changes("notes", poll_s=0)
    assert keys(await anext(pages)) == ["notes/a"]
    waiting = asyncio.ensure_future(anext(pages))
    await kv.put("notes/b", b"1")
    assert keys(await waiting) == ["notes/b"]


async def test_CF8_a_reset(kv: Kv, bench: Any) -> None:
    """When the node does not know the cursor any more, the next page is marked as a reset and
    begins with all values."""
    await kv.put("notes/a", b"1")
    (page,) = await present(kv)
    assert not page.is_reset
    sequence = Put(space_keys(kv.space).sequence, None)
    assert await commit_puts(bench.node.services.store, sequence)
    await kv.put("notes/a", b"2")
    again = await present(kv, page.cursor)
    assert [one.is_reset for one in again] == [True]
    assert keys(*again) == ["notes/a"]
    assert await present(kv, again[-1].cursor) == []


async def test_CF4_a_session_without_the_right(bench: Any, clock: FixedClock) -> None:
    """A sign-in does not include the feed, so nothing is sent."""
    owner, _ = await bench.owner()
    await owner.kv().put("notes/a", b"1")
    with pytest.raises(NotGranted, match="kv/sync"):
        await anext(owner.kv().changes("notes"))


@pytest.mark.parametrize(("prefix", "limit"), [("", 500), ("notes", 0), ("notes", 1001)])
async def test_CF1_what_is_not_sent(kv: Kv, prefix: str, limit: int) -> None:
    """An empty prefix and a limit out of range are refused by the client."""
    with pytest.raises(InvalidInput):
        await anext(kv.changes(prefix, limit=limit))


@pytest.mark.parametrize(
    "members",
    [
        {"changes": [{"key": "other", "deleted": True}]},
        {"changes": [{"key": "notes-x", "deleted": True}]},
        {"changes": [{"key": "notes/a", "deleted": False}]},
        {"changes": [{"key": "notes/a", "deleted": True, "etag": "x"}]},
        {"changes": [{}]},
        {"cursor": ""},
        {"cursor": "A" * 4097},
        {"authority": {}},
        {"source": {"nodeDid": "did:key:z", "space": "s", "prefix": "notes"}},
        {"more": "yes"},
    ],
)
async def test_CF9_pages_that_are_not_of_the_feed(
    kv: Kv, bench: Any, members: dict[str, Any]
) -> None:
    """A page with other keys, without the version of a value, or of another source is rejected."""
    session = kv._caller.session
    async with (
        relay_before(bench.node.url) as liar,
        Client(liar.url, session=session, settings=SETTINGS, clock=bench.clock) as client,
    ):

        def twist(answer: Answer) -> None:
            if answer.path == "/invoke":
                answer.change(**members)

        liar.twist = twist
        with pytest.raises(MalformedAnswer):
            await anext(client.kv("feed").changes("notes"))


async def test_CF3_pages_that_do_not_advance(kv: Kv, bench: Any) -> None:
    """A node that says for ever that more follows, and shows nothing, is given up."""
    (page,) = await present(kv)
    session = kv._caller.session
    async with (
        relay_before(bench.node.url) as liar,
        Client(liar.url, session=session, settings=SETTINGS, clock=bench.clock) as client,
    ):

        def twist(answer: Answer) -> None:
            if answer.path == "/invoke":
                answer.change(more=True)

        liar.twist = twist
        with pytest.raises(MalformedAnswer, match="advance"):
            await anext(client.kv("feed").changes("notes", cursor=page.cursor))


async def test_the_synchronous_client(kv: Kv, bench: Any) -> None:
    """The synchronous client has the same iterator."""

    def read() -> list[str]:
        with sync.Client(bench.node.url, session=kv._caller.session, clock=bench.clock) as client:
            return keys(*client.kv("feed").changes("notes", follow=False))

    assert await asyncio.to_thread(read) == ["notes/a"]
