"""Tests of `tinycloud.capabilities/read`, which lists the delegations on a space."""

import json
from typing import Any

import pytest
from delegation_bench import (
    ALICE,
    BOB,
    CAROL,
    GET,
    MALLORY,
    PUT,
    READ,
    SECOND,
    SESSION,
    Delegating,
    everything,
    space,
)
from libipld import decode_multibase
from wire_replay import token_id

from capabilities.cacao import encode_cacao, header_bytes, header_text, parse_cacao
from capabilities.resources import parse_space_id
from capabilities.ucan import UcanPayload, encode_ucan
from node.config.tree import Hosting
from node.operations.authorise import admit_token
from node.operations.delegations.read_capabilities import ListBounds, read_capabilities

ALL = f"{space()}/capabilities/all"
FILES = {f"{space()}/kv/a": [GET]}


def params(**asked: Any) -> list[Any]:
    return [{"capabilitiesReadParams": asked}]


async def reported(people: Delegating, *proofs: str, facts: Any = (), key: Any = SESSION) -> Any:
    reply = await people.invoke(key, ALL, READ, *proofs, facts=facts)
    assert reply.status == 200, reply.text
    return json.loads(reply.text)


async def listed(people: Delegating, *proofs: str, **filters: Any) -> list[str]:
    """Return the CIDs of a list in order."""
    return list(await reported(people, *proofs, facts=params(type="list", filters=filters)))


async def test_a_delegation_as_it_is_reported(people) -> None:
    """A delegation has capabilities, parties, parents as bytes, and a token to post (Q23)."""
    session = await people.sign_in()
    grant = await people.grant(SESSION, CAROL.did, FILES, session)
    answer = await reported(people, session)
    assert answer[token_id(grant)] == {
        "capabilities": [{"resource": f"{space()}/kv/a", "ability": GET, "caveats": {}}],
        "delegator": SESSION.did,
        "delegate": CAROL.did,
        "parents": [list(decode_multibase(token_id(session))[1])],
        "raw": grant,
    }
    assert answer[token_id(session)]["raw"] == session
    assert list(answer[token_id(session)]) == [
        "capabilities",
        "delegator",
        "delegate",
        "parents",
        "raw",
    ]


async def test_raw_is_canonical(people) -> None:
    """A sign-in that was posted in another encoding is returned in the canonical one."""
    canonical = people.wallet_token(ALICE, SESSION)
    cacao = parse_cacao(header_bytes(canonical))
    data = encode_cacao(cacao)
    lower = data.replace(ALICE.did.encode(), ALICE.did.lower().encode(), 1)
    spelt = header_text(lower)
    assert spelt != canonical
    await people.register(spelt)
    assert {token_id(spelt): canonical} == {
        cid: one["raw"] for cid, one in (await reported(people, spelt)).items()
    }


async def test_conditions_are_reported_by_index(people) -> None:
    """Caveats are returned as stored: by index, and {} if there are none (T2)."""
    session = await people.sign_in()
    payload = UcanPayload(
        iss=SESSION.did_url,
        aud=CAROL.did,
        exp=people.now + 60,
        nnc="conditions",
        prf=[token_id(session)],
        att={f"{space()}/kv/a": {GET: [{"x": 1}, {"y": 2}], PUT: [{}]}},
    )
    grant = await people.register(encode_ucan(payload, SESSION))
    rows = (await reported(people, session))[token_id(grant)]["capabilities"]
    assert [{"0": {"x": 1}, "1": {"y": 2}}, {}] == [row["caveats"] for row in rows]


async def test_what_stands_is_listed_newest_first(people) -> None:
    """Live delegations on this space are listed, newest first, even below a revoked one."""
    session = await people.sign_in()
    grants = []
    for lifetime_s in (100, 300, 300, 300):
        people.clock.advance(1)
        grants.append(
            await people.grant(SESSION, SECOND.did, FILES, session, lifetime_s=lifetime_s)
        )
    people.clock.advance(1)
    below = await people.grant(SECOND, CAROL.did, FILES, grants[1], lifetime_s=200)
    people.clock.advance(1)
    await people.sign_in(BOB, SECOND)
    await people.revoke(grants[1], SESSION)
    people.clock.advance(100)
    expected = [below, grants[3], grants[2], session]
    assert [token_id(token) for token in expected] == await listed(people, session)


async def test_a_window_that_has_not_begun(people) -> None:
    """A delegation that is not valid yet is not listed, and ends a chain."""
    people.clock.advance(100)
    session = await people.sign_in()
    later = await people.register(
        people.token(
            SESSION, FILES, session, audience=CAROL.did, not_before=people.now - 10, lifetime_s=600
        )
    )
    people.clock.advance(-20)
    assert [token_id(session)] == await listed(people, session)
    assert (
        await reported(people, session, facts=params(type="chain", delegation_cid=token_id(later)))
        == []
    )


async def test_filters(people) -> None:
    """Filters by direction of the root identity, path prefix and exact action combine."""
    session = await people.sign_in()
    grant = await people.grant(SESSION, CAROL.did, {f"{space()}/kv/photos/1": [PUT]}, session)
    back = await people.grant(CAROL, ALICE.did, {f"{space()}/kv/photos/1": [PUT]}, grant)
    every = {token_id(session), token_id(grant), token_id(back)}
    for filters, expected in (
        ({}, every),
        ({"direction": "created"}, {token_id(session)}),
        ({"direction": "received"}, {token_id(back)}),
        ({"direction": "sideways"}, every),
        ({"direction": None, "path": None, "actions": None}, every),
        ({"path": "photos/"}, {token_id(grant), token_id(back)}),
        ({"path": "photos/2"}, set()),
        ({"path": ""}, {token_id(grant), token_id(back)}),
        ({"actions": ["tinycloud.kv/get", "x"]}, {token_id(session)}),
        ({"actions": []}, set()),
        ({"actions": [PUT], "direction": "created"}, {token_id(session)}),
    ):
        assert expected == set(await listed(people, session, **filters)), filters


@pytest.mark.parametrize(
    "fact",
    [
        {"type": "tree"},
        {"type": "list", "filters": []},
        {"type": "list", "filters": {"path": 1}},
        {"type": "list", "filters": {"direction": 1}},
        {"type": "list", "filters": {"actions": "x"}},
        {"type": "list", "filters": {"actions": [1]}},
        {"type": "chain"},
        {"type": "chain", "delegation_cid": 1},
        [],
        None,
        "list",
    ],
)
async def test_a_fact_that_cannot_be_read_is_absent(people, fact: Any) -> None:
    """The first valid fact counts; without one, everything is listed."""
    session = await people.sign_in()
    facts = [1, "x", {"y": 1}, {"capabilitiesReadParams": fact}]
    assert [token_id(session)] == list(await reported(people, session, facts=facts))
    none = params(type="list", filters={"actions": ["none"]})
    assert await reported(people, session, facts=[*facts, *none]) == {}


async def test_root_identity_of_a_friend(people) -> None:
    """A wallet that received a grant from another wallet's session acts for that other wallet."""
    session = await people.sign_in()
    share = await people.grant(SESSION, BOB.did, {ALL: [READ], **FILES}, session)
    taken = people.wallet_token(BOB, SECOND, {ALL: [READ], **FILES}, parents=[share], lifetime_s=60)
    await people.register(taken)
    received = await reported(
        people, taken, facts=params(type="list", filters={"direction": "received"}), key=SECOND
    )
    assert [token_id(share)] == list(received)


async def test_root_identity_of_an_owner_who_cites(people) -> None:
    """An owner's call is the owner's, whatever it cites; without a wallet the first key counts."""
    home = {f"{space(CAROL)}/capabilities": [READ]}
    sign_in = await people.sign_in(key=CAROL)
    passed = await people.grant(CAROL, SECOND.did, home)
    created = params(type="list", filters={"direction": "created"})
    resource = f"{space(CAROL)}/capabilities/all"
    for key, proof in ((CAROL, sign_in), (SECOND, passed)):
        reply = await people.invoke(key, resource, READ, proof, facts=created)
        assert [token_id(passed)] == list(json.loads(reply.text))


async def test_root_identities_follow_what_supports_the_call(people) -> None:
    """A proof that does not support the call names no root identity, wherever it is cited."""
    session = await people.sign_in()
    for_bob = await people.sign_in(BOB, SESSION, {f"{space(BOB)}/kv": [GET]})
    created = params(type="list", filters={"direction": "created"})
    for proofs in ((for_bob, session), (session, for_bob)):
        reply = await people.invoke(SESSION, ALL, READ, *proofs, facts=created)
        assert token_id(session) in json.loads(reply.text)


async def test_chains(people) -> None:
    """A chain follows first parents, and ends before one that is not live or not on the space."""
    session = await people.sign_in()
    grants = [session]
    for signer, to in ((SESSION, SECOND), (SECOND, CAROL), (CAROL, MALLORY)):
        grants.append(await people.grant(signer, to.did, FILES, grants[-1]))

    async def chain(cid: str) -> list[str]:
        reported_chain = await reported(
            people, session, facts=params(type="chain", delegation_cid=cid)
        )
        return [one["raw"] for one in reported_chain]

    assert grants[::-1] == await chain(token_id(grants[-1]))
    assert [session] == await chain(token_id(session))
    bobs = await people.sign_in(BOB, SECOND)
    assert await chain(token_id(bobs)) == []
    assert await chain(token_id(people.wallet_token(ALICE, CAROL))) == []
    assert await chain("bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi") == []
    await people.revoke(grants[1], SESSION)
    assert [grants[3], grants[2]] == await chain(token_id(grants[3]))


@pytest.mark.parametrize("cid", ["abc", "", "x" * 600, "bafkr4i\u00e4"])
async def test_a_chain_of_no_cid(people, cid: str) -> None:
    """A malformed CID is quoted in the refusal, after the caller is authorised."""
    session = await people.sign_in()
    facts = params(type="chain", delegation_cid=cid)
    assert (await people.invoke(SESSION, ALL, READ, session, facts=facts)).said == (
        401,
        f"Invalid delegation CID: {cid}",
    )
    assert (await people.invoke(MALLORY, ALL, READ, facts=facts)).said == (
        401,
        "Cannot find parent delegation",
    )


async def test_a_token_is_used_up(people) -> None:
    """A list uses its token up like every call (I20)."""
    token = people.token(SESSION, {ALL: [READ]}, await people.sign_in())
    assert [(await people.send("/invoke", token)).status for _ in range(2)] == [200, 409]


async def test_an_unhosted_space(meet) -> None:
    """A space that is not hosted is refused (I37)."""
    async with meet(hosting=Hosting(mode="explicit")) as people:
        session = await people.sign_in()
        assert (await people.invoke(SESSION, ALL, READ, session)).said == (404, "Space not found")


@pytest.mark.parametrize(
    "grants",
    [
        {ALL: [READ], f"{space()}/kv/a": [GET]},
        {ALL: [READ], f"{space()}/space/": ["tinycloud.space/list"]},
        {ALL: [READ], f"{space(name='other')}/capabilities/all": [READ]},
    ],
)
async def test_outcomes_without_a_common_answer(people, grants: dict[str, list[str]]) -> None:
    """A token with another outcome is refused before anything runs (Q3)."""
    session = await people.sign_in(
        grants={**everything(), f"{space()}/space": ["tinycloud.space/list"]}
    )
    reply = await people.send("/invoke", people.token(SESSION, grants, session))
    text = "Multiple invocation outcomes require a homogeneous KV get or metadata batch"
    assert reply.said == (400, text)


@pytest.mark.parametrize(
    "resource", [f"{space()}/capabilities/mine", f"{ALL}?x", f"{ALL}/", f"{space()}/capabilities"]
)
async def test_another_resource_asks_nothing(people, resource: str) -> None:
    """On any resource but `<space>/capabilities/all` the ability is authorised without effect."""
    session = await people.sign_in()
    assert (await people.invoke(SESSION, resource, READ, session)).said == (200, "")


async def bounded(people: Delegating, session: str, bounds: ListBounds, facts: Any = ()) -> Any:
    """Return the answer within given limits, for a fresh token of the session."""
    header = people.token(SESSION, {ALL: [READ]}, session, facts=facts)
    invocation = admit_token(header, now=people.now, max_lifetime_s=300)
    return await read_capabilities(
        people.node.services, invocation, parse_space_id(space()), bounds=bounds
    )


async def test_lists_are_bounded(people) -> None:
    """A list is cut at its limits, newest first, and marked; filters apply before the limits."""
    session = await people.sign_in()
    grants = []
    for at in range(40):
        people.clock.advance(1)
        ability = PUT if at % 10 == 0 else GET
        grants.append(
            await people.grant(SESSION, CAROL.did, {f"{space()}/kv/{at}": [ability]}, session)
        )
    newest = [token_id(token) for token in (*reversed(grants), session)]
    only_puts = params(type="list", filters={"actions": [PUT], "path": "3"})
    for bounds, facts, expected, truncated in (
        (ListBounds(), (), newest, False),
        (ListBounds(reported=7), (), newest[:7], True),
        (ListBounds(reported=41), (), newest, False),
        (ListBounds(answer_bytes=1), (), newest[:1], True),
        (ListBounds(page_rows=8), (), newest, False),
        (ListBounds(page_rows=8, reported=20), (), newest[:20], True),
        (ListBounds(page_rows=8, examined=16), (), newest[:16], True),
        (ListBounds(page_rows=8, examined=16, reported=1), only_puts, [newest[9]], True),
    ):
        reported_list = await bounded(people, session, bounds, facts)
        assert list(reported_list.shown) == expected, bounds
        assert reported_list.truncated == truncated, bounds


async def test_chains_are_bounded(people) -> None:
    """A chain over the limit is cut and marked."""
    session = await people.sign_in()
    grant = await people.grant(SESSION, CAROL.did, FILES, session)
    facts = params(type="chain", delegation_cid=token_id(grant))
    for bounds, expected in (
        (ListBounds(), [grant, session]),
        (ListBounds(answer_bytes=1), [grant]),
    ):
        chain = await bounded(people, session, bounds, facts)
        assert expected == [json.loads(bytes(one))["raw"] for one in chain.shown]
        assert chain.truncated is (len(expected) == 1)


async def test_a_whole_list_does_not_say_that_it_is_cut(people) -> None:
    """A complete list has no header that marks it as cut."""
    session = await people.sign_in()
    reply = await people.invoke(SESSION, ALL, READ, session)
    assert "x-tinycloud-truncated" not in reply.headers
