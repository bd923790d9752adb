"""Tests of a delegation's status and of an account's history, with the client and a real node."""

from datetime import datetime

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from capabilities.signatures import Ed25519Signer
from sealspace.client import SignIn
from sealspace.delegations import allow
from sealspace.errors import InvalidInput, MalformedAnswer, NotGranted, Unauthorized
from sealspace.session import key_session
from sealspace.wire.delegation_history import (
    PAGE,
    DelegationRecord,
    HeldRight,
    delegations_to_revoke,
    sign_ins,
    status_of,
)
from sealspace.wire.node_answers import decoded
from sealspace.wire.transport import Answer

GET = "tinycloud.kv/get"
AGENT = Ed25519Signer(bytes([7]) * 32)


async def granted(owner, *, to: str = AGENT.did, path: str = "a", **options):
    return await owner.delegations.delegate(
        to, [allow(f"{owner.kv().space.text}/kv/{path}", GET)], **options
    )


async def test_a_delegation_is_active_then_revoked(bench) -> None:
    """The signer and the owner can read a delegation's status; a stranger gets "not found"."""
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
    """A recipient can read the status of its delegation without any other right."""
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
    """Every delegation is listed once and in one order, whatever the page size, with its rights and
    status."""
    owner, wallet = await bench.owner()
    grants = [await granted(owner, path=str(at)) for at in range(5)]
    await owner.delegations.revoke(grants[0])
    every = [record.cid async for record in owner.delegations.query()]
    assert [owner.session.grants[0].cid, *sorted(grant.cid for grant in grants)] == every
    for page_items in (1, 2, 100):
        assert every == [
            record.cid async for record in owner.delegations.query(page_items=page_items)
        ]
    (revoked,) = [record async for record in owner.delegations.query(status="revoked")]
    assert revoked.cid == grants[0].cid
    assert revoked.status == "revoked"
    assert revoked.revoked_by == owner.session.did
    assert revoked.delegator == owner.session.did
    assert revoked.delegate == AGENT.did
    assert [(f"{owner.kv().space.text}/kv/0", (GET,), False)] == [
        (right.resource, right.abilities, right.is_conditioned) for right in revoked.rights
    ]
    later = await bench.client()
    await later.sign_in(wallet)
    assert len([record async for record in later.delegations.query(direction="granted")]) == 7


async def test_the_order_of_a_history(bench) -> None:
    """A history lists the latest issue time first, and delegations without an issue time last, by
    CID."""
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
    issued = [
        None if record.issued_at is None else datetime.fromisoformat(record.issued_at)
        for record in records
    ]
    assert [at for _, at in reversed(by_wallet)] == [
        time.timestamp() for time in issued[:3] if time is not None
    ]
    assert issued[3] is not None and [None] * 3 == issued[4:]


async def test_what_was_received_is_reported(bench) -> None:
    """Grants of others to the wallet or to the requesting key are listed as received."""
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
    """A client without the right to list delegations raises an error and sends no request."""
    agent = await bench.client(key_session(AGENT))
    owner, _ = await bench.owner()
    with pytest.raises(NotGranted):
        await anext(agent.delegations.query(account=owner.kv().space.text))
    with pytest.raises(RuntimeError):
        await anext(agent.delegations.query())
    with pytest.raises(InvalidInput):
        await anext(owner.delegations.query(page_items=101))


async def test_a_revoked_session_lists_nothing(bench) -> None:
    """A revoked session cannot list delegations."""
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
    """A status is rejected if it is malformed or contradicts its HTTP status or CID (J10)."""
    with pytest.raises(MalformedAnswer):
        status_of(answer(body), "a")


def test_a_status_that_contradicts_itself() -> None:
    """A status that is both "not found" and "active" is rejected."""
    with pytest.raises(MalformedAnswer):
        status_of(answer(b'{"cid":"a","status":"active"}', 404), "a")
    assert status_of(answer(b'{"cid":"a","status":"not_found"}', 404), "a").word == "not_found"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"schemaVersion":1,"items":[]}',
        b'{"schemaVersion":2,"items":[{}]}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_no_page(body: bytes) -> None:
    """A malformed page of delegations raises MalformedAnswer."""
    with pytest.raises(MalformedAnswer):
        decoded(PAGE, answer(body), "a page")


def opening(owner, name: str = "API_KEY", network: str = "default") -> tuple:
    """The rights that open a secret: reading it, and decrypting with its network."""
    decrypt = allow(owner.encryption.network(network).text, "tinycloud.encryption/decrypt")
    return allow(owner.secrets().resource(name), GET), decrypt


def test_a_passed_on_sign_in_is_a_grant() -> None:
    """A session's grant to read capabilities is not a sign-in; only the owner's own signature makes
    one."""
    right = HeldRight("tinycloud:key:z6Mk:a/capabilities", ("tinycloud.capabilities/read",), ({},))

    def record(delegator: str, delegate: str) -> DelegationRecord:
        return DelegationRecord(
            cid=delegator,
            direction="granted",
            delegator=delegator,
            delegate=delegate,
            rights=(right,),
            parents=(),
            issued_at=None,
            not_before=None,
            expires_at=None,
            status="active",
        )

    by_owner, by_session = (
        record("did:key:owner", "did:key:session"),
        record("did:key:session", "did:key:stranger"),
    )
    assert sign_ins([by_owner, by_session], "did:key:owner") == {by_owner.cid}


@pytest.mark.parametrize("by_wallet", [False, True])
async def test_what_was_granted_apart_ends_together(bench, by_wallet: bool) -> None:
    """Revoking one of several grants that open the same secret to one recipient revokes all of them
    (V5)."""
    owner, wallet = await bench.owner()
    get, decrypt = opening(owner)
    signing = wallet if by_wallet else None
    apart = [
        (await owner.delegations.delegate(AGENT.did, [one], wallet=signing)).cid
        for one in (get, decrypt)
    ]
    other = (await owner.delegations.delegate(Ed25519Signer(bytes(32)).did, [get, decrypt])).cid
    values = (await granted(owner)).cid
    later = await bench.client()
    await later.sign_in(wallet, SignIn())
    records = [one async for one in later.delegations.query(direction="granted")]
    named = {one.cid: delegations_to_revoke(records, one, owner.session.owner) for one in records}
    sign_in = owner.session.grants[0].cid
    if by_wallet:
        assert [set(named[cid]) for cid in apart] == [set(apart)] * 2
        assert [named[cid][0] for cid in apart] == apart
    else:
        # W22: the owner has no say in a grant on a network alone, and ends the sign-in that made it
        assert [set(named[cid]) for cid in apart] == [{apart[0], sign_in}] * 2
    assert named[other] == (other,)
    assert named[values] == (values,)
    await later.delegations.revoke(*named[apart[0]])
    ended = [
        one.cid async for one in later.delegations.query(direction="granted", status="revoked")
    ]
    assert set(apart) <= set(ended)
    assert (other in ended) is not by_wallet


async def test_generated_secrets_end_apart(bench) -> None:
    """Grants of PROTECTED_ secrets are revoked separately from grants of other secrets (RN144)."""
    owner, wallet = await bench.owner()
    plain = (await owner.delegations.delegate(AGENT.did, opening(owner), wallet=wallet)).cid
    protected = (
        await owner.delegations.delegate(
            AGENT.did, opening(owner, "PROTECTED_A", "protected"), wallet=wallet
        )
    ).cid
    records = [one async for one in owner.delegations.query(direction="granted")]
    named = {
        one.cid: set(delegations_to_revoke(records, one, owner.session.owner)) for one in records
    }
    assert named[plain] == {plain}
    assert named[protected] == {protected}
    folder = allow(owner.secrets().resource("A").removesuffix("/A"), GET)
    both = (await owner.delegations.delegate(AGENT.did, [folder], wallet=wallet)).cid
    records = [one async for one in owner.delegations.query(direction="granted")]
    (third,) = (one for one in records if one.cid == both)
    assert set(delegations_to_revoke(records, third, owner.session.owner)) == {
        plain,
        protected,
        both,
    }


async def test_what_a_recipient_made_for_itself_prevents_no_revocation(bench) -> None:
    """A grant can be revoked even if its recipient passed the right to decrypt on to itself
    (W22)."""
    owner, _ = await bench.owner(SignIn())
    listing = allow(f"{owner.session.space.text}/delegation", "tinycloud.delegation/list")
    portable = await owner.delegations.delegate(AGENT.did, [*opening(owner), listing])
    agent = await bench.client(key_session(AGENT))
    await agent.delegations.accept(portable)
    decrypt = opening(owner)[-1:]
    for more in ([], [allow(f"tinycloud:{AGENT.did[4:]}:a/kv", GET)]):
        await agent.delegations.delegate(AGENT.did, [*decrypt, *more], ttl_s=600)
    records = [one async for one in owner.delegations.query(direction="granted")]
    (grant,) = [one for one in records if one.cid == portable.cid]
    await owner.delegations.revoke(*delegations_to_revoke(records, grant, owner.session.owner))
    assert (await owner.delegations.status(portable.cid)).word == "revoked"
