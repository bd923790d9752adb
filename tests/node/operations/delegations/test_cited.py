"""Restrictions look at everything that a call cites, also where it does not support the call (D33).

What follows the supporting paths alone is tested with its subject: lists in
`test_delegation_query`, root identities in `test_read_capabilities`, names in
`attacks/test_members.py` and `sealspace/test_copy_fetches.py`, receipts in
`encryption_network/test_gate.py`.
"""

import json
from datetime import datetime

import pytest
from delegation_bench import (
    ALICE,
    BOB,
    CAROL,
    GET,
    MALLORY,
    PUT,
    SECOND,
    SESSION,
    Delegating,
    space,
)

from capabilities.principals import parse_principal
from spaces.grants.successions import Succession, succession_put
from spaces.store.contract import Commit

OWN = f"{space(SESSION)}/kv"
FILE = f"{space()}/kv/docs/a"
SYNC = "tinycloud.kv/sync"
EARLIER_END_S = 30.0


async def unrelated(people: Delegating, lifetime_s: float = 3600) -> str:
    """Register a sign-in of Bob's to the calling key, for something else."""
    return await people.sign_in(BOB, SESSION, {f"{space(BOB)}/kv": [GET]}, lifetime_s=lifetime_s)


async def test_I32_a_revoked_proof_ends_the_call(people) -> None:
    """A revoked delegation that is cited beside the right refuses the call."""
    session, other = await people.sign_in(), await unrelated(people)
    assert (await people.invoke(SESSION, FILE, GET, session, other)).status == 404
    await people.revoke(other, BOB)
    assert (await people.invoke(SESSION, FILE, GET, session, other)).status == 401
    assert (await people.invoke(SESSION, FILE, GET, session)).status == 404


async def test_D23_a_revoked_proof_ends_a_registration(people) -> None:
    """So does a revoked one that a delegation of own rights cites."""
    other = await unrelated(people)
    await people.revoke(other, BOB)
    own = people.token(SESSION, {OWN: [GET]}, other, audience=CAROL.did)
    assert (await people.send("/delegate", own)).status == 401


async def test_I33_a_proof_that_ended_ends_the_call(people) -> None:
    """A delegation that has ended refuses the call that cites it beside the right."""
    session, other = await people.sign_in(), await unrelated(people, EARLIER_END_S)
    people.clock.advance(EARLIER_END_S + 1)
    assert (await people.invoke(SESSION, FILE, GET, session, other)).status == 401
    assert (await people.invoke(SESSION, FILE, GET, session)).status == 404


async def test_I32_a_proof_for_somebody_else(people) -> None:
    """A delegation to another key refuses the call that cites it beside the right."""
    session = await people.sign_in()
    other = await people.sign_in(BOB, SECOND, {f"{space(BOB)}/kv": [GET]})
    assert (await people.invoke(SESSION, FILE, GET, session, other)).status == 401


@pytest.mark.parametrize("is_call", [True, False])
async def test_TM18_a_wallet_that_moved(people, is_call: bool) -> None:
    """A delegation of a wallet that has moved refuses everything that cites it."""
    session, other = await people.sign_in(), await unrelated(people)
    moved = Succession(
        owner=parse_principal(BOB.did), successor=parse_principal(ALICE.did), at=people.now
    )
    await people.node.services.store.commit(Commit(puts=(succession_put(moved, None),)))
    if is_call:
        reply = await people.invoke(SESSION, FILE, GET, session, other)
        assert (await people.invoke(SESSION, FILE, GET, session)).status == 404
    else:
        own = people.token(SESSION, {OWN: [GET]}, other, audience=MALLORY.did)
        reply = await people.send("/delegate", own)
    assert reply.status == 403 and "moved" in reply.text


async def test_the_window_of_the_change_feed(people) -> None:
    """A reader of changes is told the earliest end of everything that it cites."""
    session = await people.sign_in(grants={FILE: [GET, PUT, SYNC]})
    other = await unrelated(people, EARLIER_END_S)
    assert (
        await people.send("/invoke", people.token(SESSION, {FILE: [PUT]}, session), b"x")
    ).status == 200
    reply = await people.invoke(SESSION, FILE, SYNC, session, other)
    ends_at = json.loads(reply.text)["authority"]["expiresAt"]
    assert datetime.fromisoformat(ends_at).timestamp() - people.now == pytest.approx(
        EARLIER_END_S, abs=1
    )


async def test_a_signed_url_ends_with_everything_that_is_cited(people) -> None:
    """A signed URL lasts no longer than the first end among all that its call cites."""
    session = await people.sign_in()
    other = await unrelated(people, EARLIER_END_S)
    assert (
        await people.send("/invoke", people.token(SESSION, {FILE: [PUT]}, session), b"x")
    ).status == 200
    body = json.dumps({"space": space(), "path": "docs/a", "ttl_seconds": 600}).encode()
    token = people.token(SESSION, {FILE: [GET]}, session, other)
    reply = await people.json("/signed/kv", token, body)
    assert reply.status in (200, 201), reply.text
    ends_at = datetime.fromisoformat(json.loads(reply.text)["expiresAt"]).timestamp()
    assert ends_at - people.now == pytest.approx(EARLIER_END_S, abs=1)


async def test_a_list_takes_one_proof(people) -> None:
    """A query of an account with a second proof is refused, whatever the first one grants."""
    session, other = await people.sign_in(), await unrelated(people)
    assert (await people.asked(SESSION, session)).status == 200
    assert (await people.asked(SESSION, session, other)).status == 403
