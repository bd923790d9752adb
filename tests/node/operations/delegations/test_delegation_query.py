"""Tests of POST /delegation/query: visibility, order, pages and access."""

import json
from typing import Any

import pytest
from delegation_bench import (
    ALICE,
    BOB,
    CAROL,
    GET,
    LIST,
    MALLORY,
    PUT,
    SECOND,
    SESSION,
    STATUS,
    Delegating,
    everything,
    space,
)
from wire_replay import token_id

from capabilities.cids import parse_cid
from capabilities.principals import parse_principal
from capabilities.strict_base64 import encode_url
from capabilities.tokens import parse_invocation
from node.housekeeping.schedule import sweep_delegations
from node.operations.delegations.delegation_query import query_delegations
from spaces.grants.delegations import registration_puts
from spaces.keyspace import ROLE_FROM, party_key, x16
from spaces.store.contract import Commit, Range

PARTY_OF_ALICE = party_key(x16(parse_principal(ALICE.did)), ROLE_FROM)
FILES = {f"{space()}/kv/a": [GET]}
REFUSED = (403, "Delegation query proof is not authorized")


def cids(page: Any) -> list[str]:
    return [item["cid"] for item in page["items"]]


async def walked(people: Delegating, asker: Any, *proofs: str, **filters: Any) -> list[str]:
    """Return the CIDs of all pages in order."""
    found: list[str] = []
    while True:
        page = await people.query(asker, *proofs, **filters)
        found += cids(page)
        if "nextCursor" not in page:
            return found
        filters["cursor"] = page["nextCursor"]


async def test_latest_issued_first(people) -> None:
    """Delegations with a time of issue come first, latest first, then the others by CID."""
    wallet_tokens = []
    for _ in range(3):
        wallet_tokens.append(await people.sign_in())
        people.clock.advance(1)
    session = wallet_tokens[-1]
    keys = [await people.grant(SESSION, CAROL.did, FILES, session) for _ in range(5)]
    expected = [
        *(token_id(token) for token in reversed(wallet_tokens)),
        *sorted(token_id(token) for token in keys),
    ]
    assert expected == cids(await people.query(SESSION, session))
    for limit in (1, 2, 3, 100):
        assert expected == await walked(people, SESSION, session, limit=limit)
    for known in expected:  # each place is one from which a page goes on
        rest = await people.query(SESSION, session, cursor=encode_url(known.encode()))
        assert expected[expected.index(known) + 1 :] == cids(rest)


async def test_an_item_says_all_of_a_delegation(people) -> None:
    """An item has parties, resources with actions and conditions, parents, times and state."""
    session = await people.sign_in()
    grants = {f"{space()}/kv/b": [PUT, GET], f"{space()}/kv/a": [GET]}
    grant = await people.grant(SESSION, CAROL.did, grants, session, lifetime_s=60.5)
    (item,) = (
        await people.query(SESSION, session, limit=1, cursor=encode_url(token_id(session).encode()))
    )["items"]
    assert item == {
        "cid": token_id(grant),
        "direction": "granted",
        "delegatorDid": SESSION.did,
        "delegateDid": CAROL.did,
        "resources": [
            {"resource": f"{space()}/kv/a", "actions": [GET], "caveats": [{}]},
            {"resource": f"{space()}/kv/b", "actions": [GET, PUT], "caveats": [{}, {}]},
        ],
        "parents": [token_id(session)],
        "issuedAt": None,
        "notBefore": None,
        "expiresAt": "2026-11-18T11:07:40.500000Z",
        "status": "active",
    }


async def test_tokens(people) -> None:
    """A listed delegation has its token only on request."""
    session = await people.sign_in()
    grant = await people.grant(SESSION, CAROL.did, FILES, session)
    for account, asker, proofs, tokens in (
        (ALICE, SESSION, (session,), [session, grant]),
        (CAROL, CAROL, (), [grant]),
    ):
        page = await people.query(asker, *proofs, owner=account, tokens=True)
        assert tokens == [item["token"] for item in page["items"]]
    assert not any("token" in item for item in (await people.query(SESSION, session))["items"])


async def test_a_page_with_long_tokens_is_short(people) -> None:
    """A page ends with the token that reaches the limit, and the next page continues there."""
    session = await people.sign_in()
    await people.grant(SESSION, SESSION.did, {f"{space(SESSION)}/kv": [GET]})  # hosts a space
    facts = [{"note": "x" * 250_000}]
    for _ in range(6):
        await people.grant(SESSION, CAROL.did, FILES, session, facts=facts)
    page = await people.query(CAROL, owner=CAROL, tokens=True)
    assert 4 == len(page["items"]) and "nextCursor" in page
    assert 6 == len(set(await walked(people, CAROL, owner=CAROL, tokens=True)))


async def test_standings_in_order(people) -> None:
    """The states and their filters work; `revoked` also matches a revoked ancestor."""
    session = await people.sign_in()
    listed = {f"{space()}/delegation": [LIST], **FILES}
    revoked = await people.grant(SESSION, SECOND.did, listed, session)
    below = await people.grant(SECOND, CAROL.did, FILES, revoked, lifetime_s=100)
    short = await people.grant(SESSION, CAROL.did, FILES, session, lifetime_s=100)
    people.clock.advance(50)
    await people.revoke(revoked, SESSION)
    people.clock.advance(50)  # the revoked ones end too: revoked comes first
    expected = {
        "active": [session],
        "expired": [short],
        "ancestor_revoked": [below],
        "revoked": sorted((revoked, below), key=token_id),
        "pending": [],
    }
    for status, tokens in expected.items():
        page = await people.query(SESSION, session, status=status)
        assert [token_id(token) for token in tokens] == cids(page), status
    items = {
        item["cid"]: item
        for item in (await people.query(SESSION, session, status="revoked"))["items"]
    }
    reported = {
        name: items[token_id(below)][name]
        for name in ("revokedAt", "revokedBy", "revokedAncestorCid")
    }
    assert reported == {
        "revokedAt": "2026-11-18T11:07:30Z",
        "revokedBy": SESSION.did,
        "revokedAncestorCid": token_id(revoked),
    }
    assert "revokedAncestorCid" not in items[token_id(revoked)]


async def test_what_has_not_begun_is_pending(people) -> None:
    """After the clock steps back, a delegation that is not valid yet is pending."""
    people.clock.advance(100)
    session = await people.sign_in(grants=everything())
    later = people.token(
        SESSION, FILES, session, audience=CAROL.did, not_before=people.now - 10, lifetime_s=600
    )
    await people.register(later)
    people.clock.advance(-20)
    assert [token_id(later)] == cids(await people.query(SESSION, session, status="pending"))


async def test_directions(people) -> None:
    """The direction "granted" lists delegations by the account's keys, and "received" lists all
    others."""
    session = await people.sign_in()
    granted = await people.grant(SESSION, CAROL.did, FILES, session)
    bobs = await people.sign_in(BOB, SECOND)
    to_alice = await people.grant(SECOND, ALICE.did, {f"{space(BOB)}/kv/x": [GET]}, bobs)
    to_session = await people.grant(SECOND, SESSION.did, {f"{space(BOB)}/kv/y": [GET]}, bobs)
    every = cids(await people.query(SESSION, session))
    received = sorted(token_id(token) for token in (to_alice, to_session))
    assert {token_id(session), token_id(granted), *received} == set(every)
    assert received == cids(await people.query(SESSION, session, direction="received"))
    assert [token_id(session), token_id(granted)] == cids(
        await people.query(SESSION, session, direction="granted")
    )
    assert every == cids(await people.query(SESSION, session, direction="all"))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (space(), True),
        (space().lower(), True),
        ("default", True),
        (space(name="other"), False),
        ("other", False),
        ("tinycloud:x", False),
    ],
)
async def test_spaces(people, wanted: str, found: bool) -> None:
    """A space is matched by its id in any spelling, and by its bare name."""
    session = await people.sign_in()
    assert found is bool(cids(await people.query(SESSION, session, space=wanted)))


async def test_every_session_of_an_account_is_seen(people) -> None:
    """Delegations by the owner's other keys are listed if these keys may list the account."""
    right = {f"{space()}/kv/a": [GET]}
    session = await people.sign_in()
    plain = await people.sign_in(key=SECOND, grants=right)
    unseen = await people.grant(SECOND, CAROL.did, FILES, plain)
    assert token_id(unseen) not in cids(await people.query(SESSION, session))
    await people.sign_in(key=SECOND)
    assert token_id(unseen) in cids(await people.query(SESSION, session))


async def test_what_recipients_passed_on_is_listed_on_request(people) -> None:
    """With `derived`, delegations below the owner's are listed whoever signed them."""
    session = await people.sign_in()
    to_carol = await people.grant(SESSION, CAROL.did, FILES, session)
    passed_on = await people.grant(CAROL, MALLORY.did, FILES, to_carol)
    further = await people.grant(MALLORY, CAROL.did, FILES, passed_on)
    # What Carol signed for her own space is no matter of Alice's.
    await people.grant(CAROL, SECOND.did, {f"{space(CAROL)}/kv/x": [GET]})
    listed = [token_id(one) for one in (session, to_carol)]
    assert set(listed) == set(cids(await people.query(SESSION, session)))
    derived = await walked(people, SESSION, session, derived=True, limit=1)
    assert {*listed, token_id(passed_on), token_id(further)} == set(derived)
    for known in derived:  # each is a place from which a page goes on
        cursor = encode_url(known.encode())
        rest = await people.query(SESSION, session, derived=True, cursor=cursor)
        assert derived[derived.index(known) + 1 :] == cids(rest)
    page = await people.query(SESSION, session, derived=True, direction="received")
    assert cids(page) == []
    # Bob's list says nothing of it, although Carol may list his account too.
    bobs = await people.sign_in(BOB, SECOND)
    await people.sign_in(BOB, CAROL)
    seen = await people.query(SECOND, bobs, owner=BOB, derived=True)
    assert not set(cids(seen)) & {token_id(passed_on), token_id(further)}


async def test_D33_paths_that_take_too_long_to_find(
    people, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delegation whose paths are unknown is filed for the owners of its resources, who can revoke
    it, and for nobody whom it only cites."""
    session = await people.sign_in()
    of_bob = await people.sign_in(BOB, SESSION, {f"{space(BOB)}/kv": [GET]})
    monkeypatch.setattr("capabilities.support.MAX_COMPARISONS", 0)
    both = await people.grant(SESSION, CAROL.did, FILES, session, of_bob)
    of_alice = (await people.node.services.store.read(ranges=[Range(PARTY_OF_ALICE)])).pages[0]
    assert len(of_alice.rows) == 2
    monkeypatch.undo()
    assert token_id(both) in cids(await people.query(SESSION, session, derived=True))
    bobs = await people.sign_in(BOB, SECOND)
    seen = await people.query(SECOND, bobs, owner=BOB, derived=True)
    assert {token_id(of_bob), token_id(bobs)} == set(cids(seen))


async def test_D33_citing_an_owners_delegation_lists_nothing_there(people) -> None:
    """A delegation of own rights that cites an owner's is registered, and listed for its signer
    alone; also if the signer may list the owner's account."""
    session = await people.sign_in()
    member = await people.sign_in(key=CAROL)
    by_stranger = await people.grant(MALLORY, SECOND.did, {f"{space(MALLORY)}/kv": [GET]}, session)
    by_member = await people.grant(CAROL, SECOND.did, {f"{space(CAROL)}/kv": [GET]}, member)
    listed = {token_id(session), token_id(member)}
    for derived in (False, True):
        assert listed == set(cids(await people.query(SESSION, session, derived=derived)))
    # No row is written for the owner, which would cost every page of the list.
    of_alice = (await people.node.services.store.read(ranges=[Range(PARTY_OF_ALICE)])).pages[0]
    assert len(of_alice.rows) == len(listed)
    own = {f"{space(MALLORY)}/delegation": [LIST]}
    mallorys = await people.grant(MALLORY, SECOND.did, own)
    seen = await people.query(SECOND, mallorys, owner=MALLORY)
    assert {token_id(mallorys), token_id(by_stranger)} <= set(cids(seen))
    assert token_id(by_member) in cids(await people.query(SECOND, mallorys, owner=MALLORY))
    # The owner's revocation still ends what cites it (D23): it was registered under that condition.
    await people.revoke(session, ALICE)
    again = await people.send("/delegate", by_stranger)
    assert again.status == 401


async def test_D33_what_an_earlier_version_filed_is_not_listed(people) -> None:
    """A row by which an earlier version filed a delegation for an owner lists nothing, and a page
    goes on after it."""
    session = await people.sign_in()
    passed_on = await people.grant(SESSION, CAROL.did, FILES, session)
    foreign = await people.grant(MALLORY, SECOND.did, {f"{space(MALLORY)}/kv": [GET]}, session)
    services = people.node.services
    (stored,) = await services.delegations.by_cid([parse_cid(token_id(foreign)).digest32])
    rows = [put for put in registration_puts(stored) if put.key.startswith(PARTY_OF_ALICE)]
    assert len(rows) == 1
    await services.store.commit(Commit(puts=tuple(rows)))
    found = await walked(people, SESSION, session, derived=True, limit=1)
    assert {token_id(session), token_id(passed_on)} == set(found)


async def test_a_key_cannot_be_listed_against_its_will(people) -> None:
    """Granting another's key the right to list reveals none of that key's other delegations."""
    carols = await people.sign_in(key=CAROL)  # Carol's key is a session of Alice's
    secret = await people.grant(CAROL, SECOND.did, FILES, carols)
    bobs = await people.sign_in(BOB, SESSION)
    lure = await people.sign_in(BOB, CAROL)  # and Bob makes it a member of his own account
    seen = await people.query(SESSION, bobs, owner=BOB)
    assert {token_id(bobs), token_id(lure)} == set(cids(seen))
    assert token_id(secret) not in json.dumps(seen)


async def test_the_owner_asks_without_a_proof(people) -> None:
    """A key that owns a space can list its account's delegations without a proof."""
    home = {f"{space(CAROL)}/kv": [GET], f"{space(CAROL)}/delegation": [LIST]}
    grant = await people.grant(CAROL, SECOND.did, home)
    below = await people.grant(SECOND, MALLORY.did, {f"{space(CAROL)}/kv/a": [GET]}, grant)
    assert {token_id(grant), token_id(below)} == set(cids(await people.query(CAROL, owner=CAROL)))


async def test_outsiders_and_wrong_proofs(people) -> None:
    """A missing, second, foreign, revoked or expired proof gets the same refusal."""
    session, again = await people.sign_in(), await people.sign_in()
    plain = await people.sign_in(key=SECOND, grants=FILES)
    ended = await people.sign_in(lifetime_s=10)
    revoked = await people.sign_in()
    await people.revoke(revoked, ALICE)
    people.clock.advance(10)
    for asker, proofs in (
        (MALLORY, ()),
        (SESSION, ()),
        (SESSION, (session, again)),
        (MALLORY, (session,)),
        (SECOND, (plain,)),
        (SESSION, (ended,)),
        (SESSION, (revoked,)),
    ):
        assert (await people.asked(asker, *proofs)).said == REFUSED
    assert (await people.asked(SESSION, session, owner=BOB)).said == REFUSED


async def test_an_owner_with_a_foreign_proof(people) -> None:
    """An owner's own call may cite no proof, or one that originates from the owner."""
    home = {f"{space(CAROL)}/delegation": [LIST]}
    own, foreign = await people.grant(CAROL, CAROL.did, home), await people.sign_in(key=CAROL)
    assert (await people.asked(CAROL, foreign, owner=CAROL)).said == REFUSED
    assert (await people.asked(CAROL, own, owner=CAROL)).status == 200


@pytest.mark.parametrize(
    "grants",
    [
        {f"{space()}/delegation": [LIST, STATUS]},
        {f"{space()}/delegation": [LIST], f"{space()}/kv": [GET]},
        {f"{space()}/delegation": [STATUS]},
        {f"{space()}/delegation/x": [LIST]},
        {f"{space()}/delegation?x": [LIST]},
        {f"{space()}/kv": [LIST]},
        {"urn:x:y": [LIST]},
        {},
    ],
)
async def test_a_token_for_anything_else(people, grants: dict[str, list[str]]) -> None:
    """A token for anything but the account's list is refused."""
    wide = {f"{space()}/delegation": [LIST, STATUS], f"{space()}/kv": [GET, LIST]}
    session = await people.sign_in(grants=wide)
    reply = await people.json("/delegation/query", people.token(SESSION, grants, session), b"{}")
    assert reply.said == REFUSED


async def test_cursors_name_what_is_listed(people) -> None:
    """A cursor that is not the CID of one of the account's delegations is refused."""
    session, bobs = await people.sign_in(), await people.sign_in(BOB, SECOND)
    unknown = people.wallet_token(ALICE, SESSION)
    for token in (bobs, unknown):
        cursor = encode_url(token_id(token).encode())
        assert (await people.asked(SESSION, session, cursor=cursor)).said == REFUSED
    for cursor in (
        "!",
        "",
        "YQ",
        encode_url(b"bafy"),
        encode_url(b"\xff"),
        encode_url(b"Qm" + b"a" * 44),
    ):
        reported = (await people.asked(SESSION, session, cursor=cursor)).said
        assert reported == (400, "Invalid delegation query: invalid delegation query cursor")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "expected a JSON object"),
        (b"{", "expected a JSON object"),
        (b'{"limit":1,"limit":2}', "expected a JSON object"),
        (b"\xff", "expected a JSON object"),
        (b'{"limit":0}', "limit must be between 1 and 100"),
        (b'{"limit":true}', "limit must be between 1 and 100"),
        (b'{"limit":"5"}', "limit must be between 1 and 100"),
        (b'{"limit":5.0}', "limit must be between 1 and 100"),
        (b'{"space":1}', "space must be a text"),
        (b'{"direction":"sideways"}', "direction must be one of granted, received, all"),
        (
            b'{"status":"dead"}',
            "status must be one of revoked, ancestor_revoked, expired, pending, active",
        ),
        (
            b'{"status":[]}',
            "status must be one of revoked, ancestor_revoked, expired, pending, active",
        ),
        (b'{"cursor":7}', "invalid delegation query cursor"),
        (b'{"derived":1}', "derived must be true or false"),
    ],
)
async def test_bad_filters(people, body: bytes, reason: str) -> None:
    """Each invalid filter has its own message."""
    session = await people.sign_in()
    token = people.token(SESSION, {f"{space()}/delegation": [LIST]}, session)
    assert (await people.json("/delegation/query", token, body)).said == (
        400,
        f"Invalid delegation query: {reason}",
    )


async def test_null_members_are_absent(people) -> None:
    """A null member is the same as an absent one."""
    session = await people.sign_in()
    nothing = dict.fromkeys(("direction", "status", "space", "limit", "cursor"))
    assert [token_id(session)] == cids(await people.query(SESSION, session, **nothing))


async def test_a_token_may_come_again(people) -> None:
    """A query's token may be repeated and live long; expired or forged ones are refused (I23)."""
    session = await people.sign_in()
    token = people.token(SESSION, {f"{space()}/delegation": [LIST]}, session, lifetime_s=1e6)
    for _ in range(2):
        assert (await people.json("/delegation/query", token, b"{}")).status == 200
    forged = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    assert (await people.json("/delegation/query", forged, b"{}")).said == REFUSED
    people.clock.advance(1e6 + 1)
    assert (await people.json("/delegation/query", token, b"{}")).said == REFUSED


async def test_a_page_looks_at_a_bounded_number(people) -> None:
    """With a filter that matches few, pages may be short or empty, but all matches are found."""
    session = await people.sign_in()
    keys = [await people.grant(SESSION, CAROL.did, FILES, session) for _ in range(40)]
    for token in keys[::13]:
        await people.revoke(token, SESSION)
    expected = sorted(token_id(token) for token in keys[::13])
    assert expected == await walked(people, SESSION, session, status="revoked")
    token = parse_invocation(people.token(SESSION, {f"{space()}/delegation": [LIST]}, session))
    for most in (1, 3, 33):
        found, cursor, pages = [], None, 0
        while pages == 0 or cursor is not None:
            body = json.dumps({"status": "revoked", "limit": 2, "cursor": cursor}).encode()
            page = await query_delegations(people.node.services, token, body, most_examined=most)
            found += [item.cid for item in page.items]
            cursor, pages = page.next_cursor, pages + 1
        assert expected == found
        assert pages >= 41 // most


async def test_what_was_swept_is_gone(people) -> None:
    """A swept delegation is not listed, and a cursor that names it is refused."""
    short = await people.sign_in(lifetime_s=100)
    gone = await people.grant(SESSION, CAROL.did, FILES, short, lifetime_s=50)
    people.clock.advance(40 * 86_400)
    session = await people.sign_in()
    assert {token_id(short), token_id(gone), token_id(session)} == set(
        cids(await people.query(SESSION, session))
    )
    while await sweep_delegations(people.node.services):
        pass
    assert [token_id(session)] == cids(await people.query(SESSION, session))
    assert (
        await people.asked(SESSION, session, cursor=encode_url(token_id(gone).encode()))
    ).said == REFUSED


async def test_the_store_is_gone(people) -> None:
    """A failure of the store is 503 with the route's own text."""
    session = people.wallet_token(ALICE, SESSION)
    await people.node.services.store.close()
    assert (await people.asked(SESSION, session)).said == (503, "Delegation query unavailable")


async def test_a_body_is_bounded(people) -> None:
    """A body of more than 64 KiB is refused."""
    token = people.token(SESSION, {f"{space()}/delegation": [LIST]})
    assert (await people.json("/delegation/query", token, b" " * 65_537)).status == 413
