"""How delegations stand, and an account's history of them, asked by the client of a real node."""

from datetime import datetime

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from capabilities.signatures import Ed25519Signer
from sealspace.delegation_history import page_of, status_of
from sealspace.delegations import allow
from sealspace.errors import InvalidInput, MalformedAnswer, NotGranted, Unauthorized
from sealspace.session import key_session
from sealspace.transport import Answer

GET = "tinycloud.kv/get"
AGENT = Ed25519Signer(bytes([7]) * 32)


async def granted(owner, *, to: str = AGENT.did, path: str = "a", **options):
    return await owner.delegations.delegate(to, [allow(f"{owner.kv().space.text}/kv/{path}", GET)], **options)


async def test_a_delegation_is_active_then_revoked(bench) -> None:
    """Signer and owner see how it stands, in the portable form or by its cid; a stranger finds nothing."""
    owner, wallet = await bench.owner()
    portable = await granted(owner)
    assert (await owner.delegations.status(portable)).is_active
    later = await bench.client()
    await later.sign_in(wallet)
    assert (await later.delegations.status(portable.cid)).word == "active"
    outsider, _ = await bench.owner()
    assert (await outsider.delegations.status(portable.cid)).word == "not_found"
    await owner.delegations.revoke(portable)
    assert (await later.delegations.status(portable.cid)).word == "revoked"
    assert not (await owner.delegations.status(portable)).is_active


async def test_who_received_asks_too(bench) -> None:
    """A recipient sees how its delegation stands, whichever rights its sign-in holds besides."""
    owner, _ = await bench.owner()
    friend, _ = await bench.owner()
    portable = await granted(owner, to=friend.session.did)
    assert (await friend.delegations.status(portable)).is_active
    agent = await bench.client(key_session(AGENT))
    assert (await agent.delegations.status((await granted(owner)).cid)).is_active
    bench.clock.advance(8 * 86_400)
    assert (await agent.delegations.status(portable.cid)).word == "not_found"
    assert (await friend.delegations.status(portable)).word == "expired"


async def test_an_account_is_reported_page_by_page(bench) -> None:
    """Every delegation comes once, in one order, whatever the pages; each says what it grants and how it stands."""
    owner, wallet = await bench.owner()
    grants = [await granted(owner, path=str(at)) for at in range(5)]
    await owner.delegations.revoke(grants[0])
    every = [record.cid async for record in owner.delegations.query()]
    assert [owner.session.grants[0].cid, *sorted(grant.cid for grant in grants)] == every
    for page_items in (1, 2, 100):
        assert every == [record.cid async for record in owner.delegations.query(page_items=page_items)]
    (revoked,) = [record async for record in owner.delegations.query(status="revoked")]
    assert (revoked.cid, revoked.standing, revoked.revoked_by) == (grants[0].cid, "revoked", owner.session.did)
    assert (revoked.delegator, revoked.delegate) == (owner.session.did, AGENT.did)
    assert [(f"{owner.kv().space.text}/kv/0", (GET,), False)] == [
        (right.resource, right.abilities, right.is_conditioned) for right in revoked.rights
    ]
    later = await bench.client()
    await later.sign_in(wallet)
    assert len([record async for record in later.delegations.query(direction="granted")]) == 7


async def test_the_order_of_a_history(bench) -> None:
    """The latest issued come first; what a key signed says no time and comes last, by its cid."""
    owner, wallet = await bench.owner()
    by_key = [await granted(owner, path=str(at)) for at in range(3)]
    by_wallet = []
    for at in range(3):
        bench.clock.advance(1)
        by_wallet.append((await granted(owner, path=str(at), wallet=wallet), bench.clock.now()))
    records = [record async for record in owner.delegations.query(direction="granted")]
    expected = [portable.cid for portable, _ in reversed(by_wallet)]
    expected += [owner.session.grants[0].cid, *sorted(portable.cid for portable in by_key)]
    assert expected == [record.cid for record in records]
    issued = [None if record.issued_at is None else datetime.fromisoformat(record.issued_at) for record in records]
    assert [at for _, at in reversed(by_wallet)] == [time.timestamp() for time in issued[:3] if time is not None]
    assert issued[3] is not None and [None] * 3 == issued[4:]


async def test_what_was_received_is_reported(bench) -> None:
    """Grants of others to the wallet and to the asking key are received ones."""
    owner, _ = await bench.owner()
    friend, friend_wallet = await bench.owner()
    to_wallet = await granted(owner, to=friend_wallet.did)
    to_key = await granted(owner, to=friend.session.did)
    received = [record.cid async for record in friend.delegations.query(direction="received")]
    assert sorted((to_wallet.cid, to_key.cid)) == received
    assert [] == [record async for record in friend.delegations.query(space="elsewhere")]
    named = [record.cid async for record in friend.delegations.query(space=owner.kv().space.text)]
    assert received == named


async def test_who_may_not_list_is_reported_so(bench) -> None:
    """Without the right nothing is sent; the node refuses what a client asks all the same."""
    agent = await bench.client(key_session(AGENT))
    owner, _ = await bench.owner()
    with pytest.raises(NotGranted):
        await anext(agent.delegations.query(account=owner.kv().space.text))
    with pytest.raises(RuntimeError):
        await anext(agent.delegations.query())
    with pytest.raises(InvalidInput):
        await anext(owner.delegations.query(page_items=101))


async def test_a_revoked_session_lists_nothing(bench) -> None:
    """A session that was revoked learns nothing any more."""
    owner, wallet = await bench.owner()
    await owner.delegations.revoke_by_wallet(owner.session.grants[0].cid, wallet)
    with pytest.raises(Unauthorized):
        await anext(owner.delegations.query())


def answer(body: bytes, status: int = 200) -> Answer:
    return Answer(status, CIMultiDictProxy(CIMultiDict()), body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"cid":"a"}',
        b'{"cid":"b","status":"active"}',
        b'{"cid":"a","status":"alive"}',
        b'{"cid":"a","status":"not_found"}',
    ],
)
def test_no_status(body: bytes) -> None:
    """What is no status, is about another delegation, or contradicts its status code is not believed (J10)."""
    with pytest.raises(MalformedAnswer):
        status_of(answer(body), "a")


def test_a_status_that_contradicts_itself() -> None:
    """An answer that there is nothing cannot say that it is active."""
    with pytest.raises(MalformedAnswer):
        status_of(answer(b'{"cid":"a","status":"active"}', 404), "a")
    assert status_of(answer(b'{"cid":"a","status":"not_found"}', 404), "a").word == "not_found"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"schemaVersion":1,"items":[]}', b'{"schemaVersion":2,"items":[{}]}', b"\xff", b"[" * 100_000],
)
def test_no_page(body: bytes) -> None:
    """What is no page of delegations is an error of its own."""
    with pytest.raises(MalformedAnswer):
        page_of(answer(body))
