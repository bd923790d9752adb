"""Tests of the grants that a backend fetches from its node (AT61)."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web
from backend_site import Domain
from relay import Relay, relay_before

from encryption_network.policy import Policy
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import DelegationRevoked, InvalidPortableDelegation, NotGranted
from sealspace.session import key_session
from sealspace.wire.portable import PortableDelegation
from tee_backend.backend import Backend
from tee_backend.backend.found_grants import LEAST_INTERVAL_S, PERIOD_S
from tee_backend.backend.grant_door import GRANTS_OF_A_CLIENT_PER_MINUTE
from tee_backend.evidence.simulated import measurements_of

APPROVED = measurements_of("approved")
GET, DECRYPT = "tinycloud.kv/get", "tinycloud.encryption/decrypt"


class Minutes:
    """The pauses between a backend's periodic fetches, which the test ends one by one."""

    def __init__(self) -> None:
        self._waiting = asyncio.Semaphore(0)
        self._ended = asyncio.Semaphore(0)

    async def __call__(self, pause_s: float) -> None:
        assert pause_s == PERIOD_S
        self._waiting.release()
        await self._ended.acquire()

    async def fetched(self) -> None:
        """Wait for the end of a fetch."""
        await self._waiting.acquire()

    async def next(self) -> None:
        """End the pause, and wait until the next fetch has finished."""
        self._ended.release()
        await self.fetched()


@pytest.fixture
def minutes() -> Minutes:
    return Minutes()


@asynccontextmanager
async def backend_at(bench, url: str | None = None, minutes: Minutes | None = None):
    """A backend with approved code and without a data folder or grants."""
    client = Client(
        url or bench.node.url,
        session=key_session(bytes(range(32))),
        clock=bench.clock,
        entropy=bench.entropy,
    )
    async with Backend(
        client,
        Domain(bench.platform, APPROVED),
        clock=bench.clock,
        entropy=bench.entropy,
        pause=minutes or asyncio.sleep,
    ) as backend:
        yield backend


@pytest.fixture
async def backend(bench, minutes: Minutes) -> AsyncIterator[Backend]:
    async with backend_at(bench, minutes=minutes) as made:
        yield made


@pytest.fixture
async def counted(bench) -> AsyncIterator[tuple[Backend, list[str], Relay]]:
    """A backend, and a list of the paths that it requests."""
    paths: list[str] = []

    async def note(request: web.Request) -> None:
        paths.append(request.path)

    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(relay_before(bench.node.url))
        relay.hold = note
        yield await stack.enter_async_context(backend_at(bench, relay.url)), paths, relay


async def owner_of(bench, value: str = "value") -> Client:
    client, _ = await bench.owner()
    await client.secrets().put("API_KEY", value)
    return client


async def approve(
    owner: Client, did: str, *, name: str = "API_KEY", ttl_s: float = 3600
) -> PortableDelegation:
    """Grant a secret to a backend without sending the grant to it."""
    wanted = [
        allow(owner.secrets().resource(name), GET),
        allow(owner.encryption.network().text, DECRYPT),
    ]
    return await owner.delegations.delegate(
        did, wanted, ttl_s=ttl_s, policy=Policy(measurements=(APPROVED,))
    )


async def read(backend: Backend, owner: Client) -> str | bytes:
    return await backend.read_secret(owner.session.owner, "API_KEY")


# --- when grants are fetched ----------------------------------------------------------------------


async def test_a_grant_that_nobody_delivered(
    bench, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """A read without a grant makes the backend fetch the owner's grants and log the fetch
    (AT61)."""
    caplog.set_level("INFO", logger="tee_backend")
    owner = await owner_of(bench)
    granted = await approve(owner, backend.did)
    assert "value" == await read(backend, owner)
    assert [granted.cid] == [one.grant.cid for one in backend.grants]
    assert f"fetched a grant by {owner.session.owner}" in caplog.messages


async def test_grants_before_the_start_and_in_the_minute_after(
    bench, backend: Backend, minutes: Minutes
) -> None:
    """A backend fetches grants when it starts, and again one minute later (AT61)."""
    first, second = await owner_of(bench), await owner_of(bench)
    await approve(first, backend.did)
    backend.watch()
    await minutes.fetched()
    assert (first.session.owner,) == backend.owners
    await approve(second, backend.did)
    await minutes.next()
    assert {first.session.owner, second.session.owner} == set(backend.owners)


async def test_known_revoked_and_ended_grants(bench, counted) -> None:
    """A fetch skips known grants, and drops revoked and expired grants."""
    backend, paths, _ = counted
    owner = await owner_of(bench)
    revoked = await approve(owner, backend.did)
    await owner.delegations.revoke(revoked)
    await approve(owner, backend.did, ttl_s=61)
    bench.clock.advance(62)
    live = await approve(owner, backend.did)
    assert "value" == await read(backend, owner)
    other = await owner_of(bench)
    bench.clock.advance(LEAST_INTERVAL_S)
    with pytest.raises(NotGranted):
        await read(backend, other)
    assert [live.cid] == [one.grant.cid for one in backend.grants]
    assert paths.count("/delegation/query") == 2
    assert paths.count("/delegate") == 1


async def test_a_new_grant_after_a_revocation(bench, backend: Backend) -> None:
    """After a read is refused for a revoked grant, the next read fetches the owner's new grant."""
    owner = await owner_of(bench)
    old = await approve(owner, backend.did)
    assert "value" == await read(backend, owner)
    await owner.delegations.revoke(old)
    await approve(owner, backend.did)
    with pytest.raises(DelegationRevoked):
        await read(backend, owner)
    bench.clock.advance(LEAST_INTERVAL_S)
    assert "value" == await read(backend, owner)


async def test_close_ends_the_fetches(bench, minutes: Minutes) -> None:
    """No task is left after `close`, and a closed backend can be closed again."""

    def tasks() -> int:
        return sum("GrantFinder" in repr(one) for one in asyncio.all_tasks())

    async with backend_at(bench, minutes=minutes) as backend:
        backend.watch()
        backend.watch()
        await minutes.fetched()
        assert 1 == tasks()
    await backend.close()
    assert 0 == tasks()


async def test_a_node_that_does_not_answer(
    bench, counted, minutes: Minutes, caplog: pytest.LogCaptureFixture
) -> None:
    """The backend logs repeated failures of the node once, and keeps fetching."""
    _, _, relay = counted

    async def refuse(request: web.Request) -> None:
        raise web.HTTPInternalServerError

    owner = await owner_of(bench)
    async with backend_at(bench, relay.url, minutes) as backend:
        await approve(owner, backend.did)
        answering, relay.hold = relay.hold, refuse
        with caplog.at_level(logging.WARNING):
            backend.watch()
            await minutes.fetched()
            await minutes.next()
        assert 1 == sum("cannot fetch grants" in one for one in caplog.messages)
        relay.hold = answering
        await minutes.next()
        assert (owner.session.owner,) == backend.owners


# --- strangers ------------------------------------------------------------------------------------


async def test_unknown_names_cost_the_node_nothing(bench, counted) -> None:
    """Reads for many unknown owners cause one request to the node in five seconds (AT61)."""
    backend, paths, _ = counted
    names = [f"did:pkh:eip155:1:0x{number:040x}" for number in range(1, 200)]

    async def ask(owner: str) -> None:
        with pytest.raises(NotGranted):
            await backend.read_secret(owner, "API_KEY")

    await asyncio.gather(*(ask(name) for name in names))
    assert 1 == paths.count("/delegation/query")
    bench.clock.advance(LEAST_INTERVAL_S)
    await ask(names[0])
    assert 2 == paths.count("/delegation/query")


async def test_a_read_keeps_grants_of_no_other_owner(bench, backend: Backend) -> None:
    """A read for one owner does not fill the backend with the grants of others."""
    owner, stranger = await owner_of(bench), await owner_of(bench)
    for one in (owner, stranger):
        await approve(one, backend.did)
    assert "value" == await read(backend, owner)
    assert (owner.session.owner,) == backend.owners


async def test_strangers_do_not_displace_owners(
    bench, backend: Backend, minutes: Minutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Undelivered grants of strangers fill at most half of the places and evict no other grant
    (AT61)."""
    monkeypatch.setattr("tee_backend.backend.found_grants.MOST", 4)
    monkeypatch.setattr(backend._held, "_most", 4)
    delivered, late = await owner_of(bench), await owner_of(bench, "late value")
    await backend.accept(await approve(delivered, backend.did))
    for _ in range(6):
        await approve((await bench.owner())[0], backend.did)
    backend.watch()
    await minutes.fetched()
    await minutes.next()
    assert 2 == len(backend.grants) and delivered.session.owner in backend.owners
    await approve(late, backend.did)
    assert "late value" == await read(backend, late)
    assert "value" == await read(backend, delivered)


async def test_many_grants_of_one_owner(bench, backend: Backend, minutes: Minutes) -> None:
    """A backend keeps only a few new grants of one owner per minute."""
    owner, other = await owner_of(bench), await owner_of(bench)
    for _ in range(GRANTS_OF_A_CLIENT_PER_MINUTE + 4):
        await approve(owner, backend.did)
    await approve(other, backend.did)
    backend.watch()
    await minutes.fetched()
    assert GRANTS_OF_A_CLIENT_PER_MINUTE + 1 == len(backend.grants)
    assert {owner.session.owner, other.session.owner} == set(backend.owners)
    assert "value" == await read(backend, other)


async def test_a_further_grant_of_a_known_owner(bench, backend: Backend, minutes: Minutes) -> None:
    """A periodic fetch keeps no second grant of a known owner; a read that needs the grant does."""
    owner = await owner_of(bench)
    await owner.secrets().put("OTHER_KEY", "other value")
    await approve(owner, backend.did)
    backend.watch()
    await minutes.fetched()
    await approve(owner, backend.did, name="OTHER_KEY")
    await minutes.next()
    assert 1 == len(backend.grants)
    assert "other value" == await backend.read_secret(owner.session.owner, "OTHER_KEY")
    assert 2 == len(backend.grants)


async def test_a_long_list_is_read_in_parts(
    bench, backend: Backend, minutes: Minutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch reads one part of a long list, and the next fetch continues after that part
    (AT61)."""
    monkeypatch.setattr("tee_backend.backend.found_grants.MOST_LISTED", 2)
    owners = [await owner_of(bench) for _ in range(5)]
    for one in owners:
        await approve(one, backend.did)
    backend.watch()
    await minutes.fetched()
    assert 2 == len(backend.grants)
    for _ in range(2):
        await minutes.next()
    assert {one.session.owner for one in owners} == set(backend.owners)


async def test_an_unusable_grant_hides_none(bench, counted, minutes: Minutes) -> None:
    """A fetch continues after a delegation that the backend cannot use."""
    _, _, relay = counted
    refused: list[str] = []

    async def refuse_the_first(request: web.Request) -> None:
        if request.path == "/delegate" and not refused:
            refused.append(request.path)
            raise web.HTTPForbidden

    owners = [await owner_of(bench) for _ in range(2)]
    relay.hold = refuse_the_first
    async with backend_at(bench, relay.url, minutes) as backend:
        for one in owners:
            await approve(one, backend.did)
        backend.watch()
        await minutes.fetched()
        assert refused and 1 == len(backend.owners)


async def test_a_call_finds_a_grant_among_those_of_strangers(
    bench, backend: Backend, minutes: Minutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read finds its owner's grant among many unused grants of strangers (AT61)."""
    monkeypatch.setattr("tee_backend.backend.found_grants.MOST", 4)
    monkeypatch.setattr(backend._held, "_most", 4)
    for _ in range(6):
        await approve((await bench.owner())[0], backend.did)
    backend.watch()
    await minutes.fetched()
    await minutes.next()
    late = await owner_of(bench)
    await approve(late, backend.did)
    backend.look_for(late.session.owner)
    await minutes.next()
    assert late.session.owner in backend.owners


async def test_a_further_grant_that_a_call_needed(
    bench, backend: Backend, minutes: Minutes
) -> None:
    """The next periodic fetch keeps a second grant of an owner for whom a read lacked a grant
    (AT61)."""
    owner, other = await owner_of(bench), await owner_of(bench)
    for one in (owner, other):
        await approve(one, backend.did)
    backend.watch()
    await minutes.fetched()
    for one in (owner, other):
        await approve(one, backend.did)
    backend.look_for(owner.session.owner)
    await minutes.next()
    found = [one.grant.delegator for one in backend.grants]
    assert len(found) == 3
    await minutes.next()
    assert len(backend.grants) == 3


async def test_a_refused_grant_is_checked_once(bench, backend: Backend, minutes: Minutes) -> None:
    """The backend checks a fetched grant that the program refuses only once (AT61)."""
    owner, stranger = await owner_of(bench), await owner_of(bench)
    for _ in range(GRANTS_OF_A_CLIENT_PER_MINUTE + 1):
        await approve(stranger, backend.did)
    await approve(owner, backend.did)
    checked: list[str] = []

    def check(portable: PortableDelegation) -> None:
        checked.append(portable.cid)
        if portable.owner == stranger.session.owner:
            raise InvalidPortableDelegation("of no use")

    backend.watch(check)
    await minutes.fetched()
    assert (owner.session.owner,) == backend.owners
    assert len(checked) == len(set(checked)) == GRANTS_OF_A_CLIENT_PER_MINUTE + 2
    await minutes.next()
    assert len(checked) == GRANTS_OF_A_CLIENT_PER_MINUTE + 2
