"""Tests of what one request may decode, and of what each owner keeps in the cache."""

import asyncio
import tracemalloc
from collections.abc import Sequence

import pytest
from space_grants import DAY_S, NOW, registered, space_text, ucan

from capabilities.chain import Registered
from capabilities.cids import ContentKey
from capabilities.signatures import Ed25519Signer
from spaces.grants import decoding, delegation_cache
from spaces.grants.decoding import MAX_DECODED_BYTES, UNPACED_BYTES, Decoded, begin_request
from spaces.grants.delegation_cache import Delegations
from spaces.grants.delegations import decode_delegation, registration_puts
from spaces.space_errors import TooMuchDecoded
from spaces.store.contract import Commit, Record, Store

LARGE_BYTES = 280_000


def of(owner: Ed25519Signer, number: int, size_bytes: int = 0) -> Registered:
    """Return a delegation of an owner, with a nonce of some size."""
    nonce = f"{number:04}".ljust(size_bytes, "x")
    att = {f"{space_text(owner.did)}/kv": ["tinycloud.kv/get"]}
    return registered(ucan(att, signer=owner, nonce=nonce, lifetime_s=DAY_S))


def owner(fill: int) -> Ed25519Signer:
    return Ed25519Signer(bytes([fill]) * 32)


async def stored(store: Store, delegations: Sequence[Registered]) -> list[ContentKey]:
    for one in delegations:
        await store.commit(Commit(puts=tuple(registration_puts(one))))
    return [one.delegation.content_key for one in delegations]


async def test_a_request_decodes_so_much_and_no_more(one_store: Store) -> None:
    """D34: a list gets as many as the bound allows, and everything else is refused. What is in
    memory, and what the node reads for itself, does not count."""
    many = [of(owner(1), number, LARGE_BYTES) for number in range(16)]
    contents = await stored(one_store, many)
    cids = [one.delegation.cid for one in many]
    cache = Delegations(one_store)
    decoded = Decoded()
    begin_request(decoded)
    first = await cache.first_of(contents)
    assert 0 < len(first) < len(many) and list(first) == many[: len(first)]
    assert decoded.size_bytes <= MAX_DECODED_BYTES < decoded.size_bytes + LARGE_BYTES * 4 / 3 + 1000
    assert await cache.first_of(contents) == ()
    for refused in (cache.by_content(contents[:1]), cache.by_cid(cids[:1])):
        with pytest.raises(TooMuchDecoded):
            await refused
    begin_request(Decoded())
    for refused in (cache.by_content(contents), cache.by_cid(cids)):
        with pytest.raises(TooMuchDecoded):
            await refused
    small = of(owner(1), 99)
    cache.add(small)
    assert await cache.by_content([small.delegation.content_key]) == (small,)
    decoding._decoded.set(None)
    assert list(await cache.by_content(contents)) == many


async def test_large_work_is_done_by_one_request_at_a_time(
    one_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that decodes much lets others run after each 64 KiB, but no other such request."""
    many = [of(owner(1), number, LARGE_BYTES) for number in range(4)]
    contents = await stored(one_store, many)
    cache = Delegations(one_store)
    order: list[str] = []

    def noting(record: Record | None) -> Registered | None:
        task = asyncio.current_task()
        assert task is not None
        order.append(task.get_name())
        return decode_delegation(record)

    monkeypatch.setattr(delegation_cache, "decode_delegation", noting)

    async def read(keys: Sequence[ContentKey]) -> None:
        begin_request(Decoded())
        await cache.by_content(keys)

    async def others() -> None:
        while len(order) < 8:
            if order and order[-1] != "others":
                order.append("others")
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(read(contents), name=name) for name in ("one", "two")]
    tasks.append(asyncio.create_task(others()))
    await asyncio.gather(*tasks)
    assert [name for name in order if name != "others"] == ["one"] * 4 + ["two"] * 4
    assert "others" in order[1:4]


async def test_an_owner_with_much_makes_room_first(one_store: Store) -> None:
    """One owner, through whatever keys, cannot drive the delegations of others out of memory."""
    cache = Delegations(one_store, max_bytes=200_000)
    others = [of(owner(fill), 0) for fill in range(2, 12)]
    for one in others:
        cache.add(one)
    for number in range(300):
        cache.add(of(owner(1), number))
        assert cache.memory_bytes <= 200_000
    assert cache.cached(of(owner(1), 299).delegation.content_key)
    assert not cache.cached(of(owner(1), 0).delegation.content_key)
    assert all(cache.cached(one.delegation.content_key) for one in others)
    key = owner(50)
    parent = registered(
        ucan(
            {f"{space_text(owner(1).did)}/kv": ["tinycloud.kv/get"]},
            signer=owner(1),
            delegate=key.did,
            lifetime_s=DAY_S,
        )
    )
    for number in range(300):  # passed on by a key: the owner's share too
        child = ucan(
            {f"{space_text(owner(1).did)}/kv/{number}": ["tinycloud.kv/get"]},
            signer=key,
            parents=[parent.delegation],
            lifetime_s=DAY_S,
        )
        cache.add(registered(child, parent))
    assert all(cache.cached(one.delegation.content_key) for one in others)


async def test_D34_citing_an_owners_delegation_does_not_fill_its_share(one_store: Store) -> None:
    """Rights of one's own are on one's own share, whatever is cited for them (D20)."""
    cache = Delegations(one_store, max_bytes=200_000)
    of_victim = [of(owner(2), number) for number in range(5)]
    for one in of_victim:
        cache.add(one)
    for number in range(300):
        own = ucan(
            {f"{space_text(owner(1).did)}/kv/{number}": ["tinycloud.kv/get"]},
            signer=owner(1),
            parents=[of_victim[0].delegation],
            lifetime_s=DAY_S,
        )
        cache.add(registered(own, of_victim[0]))
    assert all(cache.cached(one.delegation.content_key) for one in of_victim)


async def test_the_owner_who_was_not_used_for_longest_makes_room(one_store: Store) -> None:
    """Without an owner above an eighth, the least recently used delegations go."""
    cache = Delegations(one_store, max_bytes=60_000)
    many = [of(owner(fill), 0) for fill in range(1, 60)]
    for one in many:
        cache.add(one)
        assert cache.cached(many[0].delegation.content_key)
    assert not cache.cached(many[1].delegation.content_key)
    assert cache.cached(many[-1].delegation.content_key)


async def test_what_is_very_large_is_not_kept(one_store: Store) -> None:
    """A delegation of more than 100 KB is decoded for each use, and drives nothing out."""
    cache = Delegations(one_store)
    large = of(owner(1), 0, 2 * UNPACED_BYTES)
    (content,) = await stored(one_store, [large])
    assert (large,) == await cache.by_content([content])
    assert cache.cached(content) is None and not cache.memory_bytes
    assert large.registered_at == NOW


class _OfClient(Decoded):
    """What a request of a client decodes, of whom little may be decoded."""

    def __init__(self, name: str, charged_bytes: dict[str, int]) -> None:
        super().__init__()
        self._name = name
        self._charged_bytes = charged_bytes

    def client(self) -> str:
        return self._name

    def admit(self) -> None:
        if self._charged_bytes.get(self._name):
            raise TooMuchDecoded("the rate of this client is used up")

    def charge(self) -> None:
        self._charged_bytes[self._name] = self.size_bytes


async def _decode_as(cache: Delegations, decoded: Decoded, contents: list[ContentKey]) -> str:
    begin_request(decoded)
    try:
        await cache.by_content(contents)
    except TooMuchDecoded:
        return "refused"
    return "decoded"


async def test_D34_requests_that_waited_are_refused_once_the_rate_is_used_up(
    one_store: Store,
) -> None:
    """A client cannot have many requests admitted at once, before the first one is charged. One
    that was admitted may end what it began."""
    contents = await stored(one_store, [of(owner(1), number, LARGE_BYTES) for number in range(10)])
    cache = Delegations(one_store)
    charged_bytes: dict[str, int] = {}
    requests = [_decode_as(cache, _OfClient("one", charged_bytes), contents) for _ in range(5)]
    ends = await asyncio.gather(*requests)
    assert ends == ["decoded", *["refused"] * 4]


async def test_D34_a_client_waits_for_one_request_of_each_other(one_store: Store) -> None:
    """A client with many requests at once is not served before others who came later."""
    contents = await stored(one_store, [of(owner(1), 0, LARGE_BYTES)])
    cache = Delegations(one_store)
    ended: list[str] = []

    async def read(name: str) -> None:
        assert await _decode_as(cache, _OfClient(name, {}), contents) == "decoded"
        ended.append(name)

    await asyncio.gather(*[read(name) for name in ("many", "many", "many", "many", "one")])
    assert ended.index("one") <= 1
    assert not cache._turn_of_client


async def test_D34_a_request_that_waits_keeps_no_rows(one_store: Store) -> None:
    """However many requests wait for their turn, the rows of one are in memory."""
    contents = await stored(one_store, [of(owner(1), number, LARGE_BYTES) for number in range(8)])
    cache = Delegations(one_store)
    waiting: dict[str, int] = {}

    class Waiting(_OfClient):
        def admit(self) -> None:
            waiting[self.client()] = waiting.get(self.client(), 0) + 1

    requests = []
    tracemalloc.start()
    try:
        async with cache._turn:
            for number in range(12):
                decoding_as = _decode_as(cache, Waiting(str(number), {}), contents)
                requests.append(asyncio.create_task(decoding_as))
            while len(waiting) < 12:
                await asyncio.wait(requests, timeout=0.001)
            held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    assert held_bytes < 2 * len(contents) * LARGE_BYTES
    assert not cache._turn.locked()
