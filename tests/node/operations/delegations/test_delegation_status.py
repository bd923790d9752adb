"""Tests of POST /delegation/status: its callers and answers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from conformance.minting import Grants
from delegation_bench import (
    ALICE,
    BOB,
    CAROL,
    GET,
    MALLORY,
    REVOKE,
    SECOND,
    SESSION,
    STATUS,
    everything,
    space,
)
from wire_replay import token_id

from capabilities.cacao import encode_cacao, header_bytes, header_text, parse_cacao
from capabilities.chain import Ancestor, Marker, Registered, acting_principal
from capabilities.cids import ContentKey, Digest, cid_text
from capabilities.principals import Principal
from capabilities.references import CitedDelegation
from capabilities.signatures import Ed25519Signer
from capabilities.tokens import parse_delegation, verify_delegation
from capabilities.ucan import UcanPayload, encode_ucan
from node.housekeeping.schedule import sweep_delegations

NOW = 1_795_000_000.0
NOT_FOUND = {
    "status": "not_found",
    "exists": False,
    "active": False,
    "revoked": False,
    "expired": False,
}
ACTIVE = {"status": "active", "exists": True, "active": True, "revoked": False, "expired": False}
FILES = {f"{space()}/kv/a": [GET]}


async def test_who_has_a_say_is_reported(people) -> None:
    """The signer, the recipient and the owner of a mentioned space get a delegation's state; others
    do not."""
    session = await people.sign_in()
    grant = await people.grant(SESSION, CAROL.did, FILES, session)
    for asker, proofs in ((SESSION, ()), (CAROL, ()), (SESSION, (session,))):
        reported = await people.status_of(asker, grant, *proofs)
        assert {"cid": token_id(grant), **ACTIVE} == reported
    for asker, proofs in ((MALLORY, ()), (CAROL, (grant,)), (MALLORY, (session,)), (SECOND, ())):
        assert {"cid": token_id(grant), **NOT_FOUND} == await people.status_of(
            asker, grant, *proofs
        )


async def test_another_owner_is_nobody(people) -> None:
    """A session of an unrelated wallet gets "not found"."""
    grant = await people.grant(SESSION, CAROL.did, FILES, await people.sign_in())
    bobs = await people.sign_in(BOB, SECOND)
    assert (await people.status_of(SECOND, grant, bobs))["status"] == "not_found"


@pytest.mark.parametrize(
    "grants",
    [
        {f"{space()}/delegation": [REVOKE]},
        {f"{space()}/delegation/x": [STATUS]},
        {f"{space()}/delegation?x": [STATUS]},
        {f"{space()}/kv": [STATUS]},
    ],
)
async def test_a_proof_without_the_right_is_none(people, grants: dict[str, list[str]]) -> None:
    """A proof without the ability refuses the request, even if its holder could ask without a proof
    (W21)."""
    session = await people.sign_in(grants={**grants, f"{space()}/kv/a": [GET]})
    grant = await people.grant(SESSION, CAROL.did, FILES, session)
    assert (await people.status_of(SESSION, grant, session))["status"] == "not_found"
    assert (await people.status_of(SESSION, grant))["status"] == "active"


def test_a_right_on_the_very_delegation() -> None:
    """A proof with the ability on one delegation is accepted for that delegation, by any CID
    (W21)."""
    named = Digest(b"\x07" * 32)
    target, other = (held_by(SESSION, CAROL.did, FILES, nonce=nonce) for nonce in ("1", "2"))
    for digest in (target.delegation.cid, named):
        proof = held_by(SESSION, SECOND.did, {f"urn:cid:{cid_text(digest)}": [STATUS]})
        marks = {proof.delegation.content_key: Marker.LIVE}
        assert SESSION.did == acting_for(target, proof, named, marks)
        assert acting_for(other, proof, other.delegation.cid, marks) is None


def test_a_right_under_conditions_is_none() -> None:
    """A proof with caveats refuses the request, because an unknown caveat must restrict."""
    resource = f"{space(SESSION)}/delegation"
    target = held_by(SESSION, CAROL.did, FILES)
    for caveats, acting in (([{}], SESSION.did), ([{"x": 1}], None)):
        proof = held_by(SESSION, SECOND.did, {resource: [STATUS]}, caveats=caveats)
        marks = {proof.delegation.content_key: Marker.LIVE}
        assert acting == acting_for(target, proof, target.delegation.cid, marks)


def acting_for(
    target: Registered, proof: Registered, named: Digest, marks: Mapping[ContentKey, Marker]
) -> Principal | None:
    """Return the principal that a token of the second key with one proof acts for."""
    cited = (CitedDelegation("", None, ""),)
    return acting_principal(
        Principal(SECOND.did),
        cited,
        (proof,),
        target.delegation,
        ability=STATUS,
        named=named,
        marks=marks,
        now=NOW,
    )


def held_by(
    signer: Ed25519Signer, to: str, grants: Grants, *, nonce: str = "n", caveats: Any = None
) -> Registered:
    """Return a key's delegation as stored, without registering it."""
    att = {
        resource: {ability: caveats or [{}] for ability in abilities}
        for resource, abilities in grants.items()
    }
    payload = UcanPayload(iss=signer.did_url, aud=to, exp=NOW + 60, nnc=nonce, prf=[], att=att)
    delegation = verify_delegation(parse_delegation(encode_ucan(payload, signer)))
    return Registered(
        delegation=delegation,
        closure=(Ancestor(delegation.content_key, delegation.cid),),
        not_before=None,
        expires_at=NOW + 60,
        parents=(),
    )


async def test_two_proofs_deny(people) -> None:
    """A request with more than one proof is refused (W21)."""
    session, again = await people.sign_in(), await people.sign_in()
    grant = await people.grant(SESSION, CAROL.did, FILES, session)
    assert (await people.status_of(SESSION, grant, session, again))["status"] == "not_found"


async def test_a_revoked_or_ended_proof_denies(people) -> None:
    """A request with a revoked or expired proof gets "not found"."""
    ended, revoked, session = [
        await people.sign_in(lifetime_s=lifetime) for lifetime in (100, 3600, 3600)
    ]
    grant = await people.grant(SESSION, CAROL.did, FILES, session)
    await people.revoke(revoked, ALICE)
    people.clock.advance(100)
    for proof in (ended, revoked):
        assert (await people.status_of(SESSION, grant, proof))["status"] == "not_found"
    assert (await people.status_of(SESSION, grant, session))["status"] == "active"


async def test_words_in_order(people) -> None:
    """A delegation that is both revoked and expired is reported as revoked."""
    session = await people.sign_in()
    grants = [
        await people.grant(SESSION, CAROL.did, FILES, session, lifetime_s=100) for _ in range(2)
    ]
    below = await people.grant(CAROL, SECOND.did, FILES, grants[0], lifetime_s=50)
    await people.revoke(grants[0], SESSION)
    people.clock.advance(99)
    revoked = {
        "status": "revoked",
        "exists": True,
        "active": False,
        "revoked": True,
        "expired": False,
    }
    expired = {
        "status": "expired",
        "exists": True,
        "active": False,
        "revoked": False,
        "expired": True,
    }
    for _ in range(2):
        for target in (grants[0], below):
            assert revoked.items() <= (await people.status_of(CAROL, target)).items()
        people.clock.advance(1)
    assert expired.items() <= (await people.status_of(CAROL, grants[1])).items()


async def test_an_alias_is_the_delegation(people) -> None:
    """A delegation is found by every encoding that was posted, and no other (Q25)."""
    session = people.wallet_token(ALICE, SESSION)
    cacao = parse_cacao(header_bytes(session))
    last = bytes([cacao.signature[64] - 27])
    spelt = header_text(encode_cacao(replace(cacao, signature=cacao.signature[:64] + last)))
    await people.register(session)
    assert (await people.status_of(SESSION, spelt))["status"] == "not_found"
    await people.register(spelt)
    assert (await people.status_of(SESSION, spelt))["status"] == "active"
    await people.revoke(session, ALICE)
    assert (await people.status_of(SESSION, spelt))["status"] == "revoked"


async def test_a_swept_delegation_is_unknown(people) -> None:
    """A swept delegation is not found, even if this process has cached it."""
    session = await people.sign_in(lifetime_s=60)
    people.clock.advance(60)
    assert (await people.status_of(SESSION, session))["status"] == "expired"
    people.clock.advance(31 * 86_400)
    await sweep_delegations(people.node.services)
    assert (await people.status_of(SESSION, session))["status"] == "not_found"


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 422), (b'{"cid":1}', 422), (b"{}", 422), (b'{"x":1}', 422)],
)
async def test_a_body_of_another_shape(people, body: bytes, status: int) -> None:
    """A body that is not JSON is 400, one of the wrong shape 422, before the token is read (H4)."""
    token = people.token(SESSION, everything())
    reply = await people.json("/delegation/status", token, body)
    assert reply.status == status


async def test_the_store_is_gone(people) -> None:
    """A failure of the store is 503 with the route's own text."""
    token = people.wallet_token(ALICE, SESSION)
    await people.node.services.store.close()
    cid = token_id(token)
    asked = people.token(SESSION, {f"urn:cid:{cid}": [STATUS]})
    reply = await people.json("/delegation/status", asked, b'{"cid":"%b"}' % cid.encode())
    assert (reply.status, reply.text) == (503, "Status unavailable")


async def test_outsiders_cannot_distinguish_unknown_from_foreign(people) -> None:
    """Other callers get the same answer for delegations that exist and those that do not."""
    foreign = await people.sign_in()
    unknown = people.wallet_token(ALICE, SESSION)
    reported = [await people.status_of(MALLORY, target) for target in (foreign, unknown)]
    assert [NOT_FOUND] * 2 == [
        {name: item for name, item in one.items() if name != "cid"} for one in reported
    ]
