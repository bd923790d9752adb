"""Attacks with a machine token, which may open the listed paths until it expires (MT2 to MT5)."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from attacks.held_store import HeldStage
from attacks.parties import (
    DECRYPT,
    DELETE,
    GET,
    LIST,
    PUT,
    READ_CAPABILITIES,
    ROUTES,
    SECRET,
    SET_POLICY,
    Delegate,
    Owner,
    Route,
    Stage,
    ids,
    machine_token,
    opens,
    policy_for,
    put_policy,
    refused,
)
from attacks.test_races import is_release, meanwhile, release_records
from attacks.test_receipts import fetch, kept, reader
from attacks.test_several_revocations import revocation
from audit_records import audit_records
from msgspec import UNSET
from running_node import key_token, send

from capabilities.facts import ATTESTATION_FACT, MACHINE_FACT, MACHINE_URN
from capabilities.strict_json import Json
from encryption_network.envelope import InlineEnvelope, encode_envelope, parse_envelope
from sealspace.delegations import allow
from sealspace.errors import ReceiptInvalid

pytestmark = pytest.mark.slow

OTHER = "OTHER_KEY"


async def envelope_of(owner: Owner, name: str) -> InlineEnvelope:
    """Return the stored envelope of a secret."""
    path = owner.client.secrets().resource(name).partition("/kv/")[2]
    return parse_envelope((await owner.client.kv("secrets").get(path)).body)


async def holder_of(stage: Stage, owner: Owner, *names: str, **more: Any) -> Delegate:
    """Return the holder of a machine token for one secret, or for the named secrets."""
    holder = Delegate()
    holder.proofs = [await stage.register(owner.machine(holder, *names, **more))]
    return holder


async def read(stage: Stage, holder: Delegate, resource: str, ability: str = GET) -> int:
    """Read a value with a machine token's key, and return the HTTP status."""
    body = b"x" if ability == PUT else None
    reply = await stage.invoke(
        holder.signer, {resource: [ability]}, proofs=holder.proofs, body=body
    )
    return reply.status


# --- what it opens --------------------------------------------------------------------------------


async def test_MT4_it_reads_its_secret(stage: Stage) -> None:
    """A machine token's key reads the stored envelope and receives its content key."""
    owner = await stage.owner()
    holder = await holder_of(stage, owner)
    reply = await stage.invoke(holder.signer, {owner.secret: [GET]}, proofs=holder.proofs)
    assert parse_envelope(reply.body) == owner.envelope
    for route in ROUTES:
        assert opens(await stage.ask(holder, owner, route), holder, owner)


@pytest.mark.parametrize("route", ROUTES)
async def test_MT4_cached_envelopes_stay_closed(stage: Stage, route: Route) -> None:
    """A machine token does not open envelopes of other paths, other owners or former values
    (RL19)."""
    owner, outsider = await stage.owner(), await stage.owner()
    await owner.client.secrets().put(OTHER, "another value")
    holder = await holder_of(stage, owner, SECRET, "NOT_STORED")
    former, other = owner.envelope, await envelope_of(owner, OTHER)
    place = owner.secret.partition("/kv/")[2]
    await outsider.client.kv("secrets").put(place, encode_envelope(other).decode())
    await owner.client.kv().put(place, encode_envelope(other).decode())
    for cached in (other, outsider.envelope):
        reply = await stage.ask(holder, owner, route, envelope=cached)
        assert reply.said == refused("path", route)
    await owner.client.secrets().put(SECRET, "a new value")
    assert (await stage.ask(holder, owner, route)).said == refused("path", route)
    now = await envelope_of(owner, SECRET)
    assert (await stage.ask(holder, owner, route, envelope=now)).status == 200
    await owner.client.secrets().delete(SECRET)
    for gone in (former, now):
        reply = await stage.ask(holder, owner, route, envelope=gone)
        assert reply.said == refused("path", route)


async def test_MT4_a_network_of_another_owner_stays_closed(stage: Stage) -> None:
    """A machine token gives no right to another owner's network."""
    owner, outsider = await stage.owner(), await stage.owner()
    holder = await holder_of(stage, owner)
    reply = await stage.ask(holder, outsider)
    assert reply.status == 401
    assert reply.said[1].startswith("Unauthorized Action")


async def test_MT4_two_proofs_open_nothing(stage: Stage) -> None:
    """The node refuses a machine token that is sent with a second machine token, a grant or a
    sign-in."""
    owner = await stage.owner()
    await owner.client.secrets().put(OTHER, "another value")
    holder = await holder_of(stage, owner)
    others = [
        owner.machine(holder, OTHER),
        owner.machine(holder, name="another"),
        owner.grant_decrypt(holder.did),
        owner.sign_in(holder.did_url),
    ]
    for other in others:
        beside = await stage.register(other)
        for proofs in ([*holder.proofs, beside], [beside, *holder.proofs]):
            reply = await stage.ask(holder, owner, proofs=proofs)
            assert reply.said == refused("chain")


async def test_MT4_evidence_does_not_help(held: HeldStage) -> None:
    """An attested and approved program gets no further rights from a machine token."""
    owner = await held.owner()
    await owner.client.secrets().put(OTHER, "another value")
    holder = await holder_of(held, owner, OTHER)
    await held.attest(holder, owner.network)
    rights = [allow(owner.network, SET_POLICY)]
    await owner.client.delegations.add_right(owner.wallet, rights)
    network = owner.client.encryption.network()
    await owner.client.encryption.set_policy(network, policy_for("approved"))
    assert (await held.ask(holder, owner)).said == refused("path")


# --- what it cannot do otherwise ------------------------------------------------------------------


async def test_MT3_it_reads_and_does_nothing_else(stage: Stage) -> None:
    """A machine token's key may only read its path: it may not write, delete, list or make signed
    URLs."""
    owner = await stage.owner()
    await owner.client.secrets().put(OTHER, "another value")
    place = owner.secret.partition("/kv/")[2]
    await owner.client.kv("secrets").put(f"{place}/below", b"below")
    holder, space = await holder_of(stage, owner), owner.client.session.own_space("secrets").text
    assert await read(stage, holder, owner.secret) == 200
    for ability in (PUT, DELETE, LIST, "tinycloud.kv/metadata"):
        assert await read(stage, holder, owner.secret, ability) == 401
    for path in (f"{place}/below", f"{place}/", place.rpartition("/")[0], f"{place}2"):
        assert await read(stage, holder, f"{space}/kv/{path}") == 401
    assert await read(stage, holder, owner.client.secrets().resource(OTHER)) == 401
    assert await read(stage, holder, f"{space}/capabilities/all", READ_CAPABILITIES) == 401
    assert (await fetch(stage, holder, owner.network)).status == 401
    for path in (place, f"{place}/below"):
        token = key_token(holder.signer, holder.did, {owner.secret: [GET]}, proofs=holder.proofs)
        body = json.dumps({"space": space, "path": path}).encode()
        headers = {"Content-Type": "application/json"}
        reply = await send(stage.url, "POST", "/signed/kv", token=token, body=body, headers=headers)
        assert reply.status == 403, reply.said


async def test_MT3_its_key_passes_nothing_on(stage: Stage) -> None:
    """A machine token's key can neither delegate its rights nor issue another machine token."""
    owner = await stage.owner()
    holder, other = await holder_of(stage, owner), Delegate()
    network, paths = owner.network, [owner.secret]
    for token, said in (
        (holder.grant(other.did, {network: [DECRYPT]}), "terminal-parent"),
        (holder.grant(other.did, {owner.secret: [GET]}), "terminal-parent"),
        (machine_token(holder.signer, other.did, paths, network), "its signer's own values"),
        (machine_token(holder.signer, holder.did, paths, network), "its signer's own values"),
        (machine_token(holder.signer, other.did, paths, network, proofs=holder.proofs), BY_WALLET),
    ):
        reply = await stage.post("/delegate", token)
        assert reply.status in (400, 401) and said in reply.said[1], reply.said


async def test_MT3_it_does_not_speak_for_the_owner(stage: Stage) -> None:
    """The key of a machine token cannot set the network's policy."""
    owner = await stage.owner()
    holder = await holder_of(stage, owner)
    reply = await put_policy(stage, holder, owner, policy_for("approved"))
    assert reply.status in (401, 403), reply.said


# --- its form -------------------------------------------------------------------------------------


NO_PROOF = "cites no proof, unless"
BY_WALLET = "an admin signs a machine token with a wallet"
ONE_FACT, RIGHTS, EXACTLY = "has exactly one fact", "may only read values", "grants exactly its"
INVALID = "its statement is invalid"


def forms(owner: Owner, did: str) -> Mapping[str, tuple[str, str]]:
    """Return delegations by the owner's wallet that each break one rule of machine tokens."""
    holder, secret = did, owner.secret
    wallet, network = owner.wallet, owner.network

    def made(**more: Any) -> str:
        return machine_token(wallet, holder, [secret], network, **more)

    def stated(resource: str) -> str:
        return owner.grant(holder, {secret: [GET], network: [DECRYPT]}, resources=[resource])

    return {
        "a policy beside it": (made(policy=policy_for("approved")), ONE_FACT),
        "a proof": (made(proofs=owner.session.proofs[:1]), NO_PROOF),
        "a right to write": (made(also={f"{secret}2": [PUT]}), RIGHTS),
        "a session's right": (
            made(also={f"{owner.space()}/capabilities/all": [READ_CAPABILITIES]}),
            RIGHTS,
        ),
        "another path": (made(also={f"{secret}2": [GET]}), EXACTLY),
        "another network": (made(also={f"{network}2": [DECRYPT]}), EXACTLY),
        "a year and two days": (made(ttl_s=367 * 86_400), "ends within 366 days"),
        "another name": (made(name="a b"), "$.name"),
        "another key": (made(key=owner.session.did), "another key"),
        "an empty statement": (stated(f"{MACHINE_URN}e30"), "$.key is missing"),
        "another version": (stated("urn:sealspace:machine:v2:e30"), INVALID),
        "another case": (stated("urn:sealspace:MACHINE:v1:e30"), INVALID),
        "no JSON": (stated(f"{MACHINE_URN}AAAA"), INVALID),
    }


async def test_MT2_other_forms_are_not_registered(stage: Stage) -> None:
    """The node refuses a wallet's delegation that breaks one rule of machine tokens."""
    owner = await stage.owner()
    for name, (token, reason) in forms(owner, Delegate().did).items():
        reply = await stage.post("/delegate", token)
        assert reply.status == 400, (name, reply.said)
        assert reason in reply.said[1], (name, reply.said)


async def test_MT2_facts_of_other_forms_are_not_registered(stage: Stage) -> None:
    """The node refuses a machine token whose fact is repeated, nested, misspelt or beside another
    fact."""
    client, holder = await stage.client(), Delegate()
    owner = Delegate()
    await client.sign_in_with_key(owner.signer, spaces=["secrets"])
    space = client.session.own_space("secrets").text
    signed = (owner.signer, holder.did, [f"{space}/kv/a"], client.encryption.network().text)
    good = machine_token(*signed)
    assert (await stage.post("/delegate", good)).status == 200
    others: list[tuple[Json, str]] = [
        ({MACHINE_FACT: {}}, ONE_FACT),
        ({"note": 1}, ONE_FACT),
        ({ATTESTATION_FACT: {}}, ONE_FACT),
        ({"sealspace.machine/v2": {}}, "the name of the fact"),
        ({"Sealspace.Machine/v1": {}}, "the name of the fact"),
        ({"a": [{MACHINE_FACT: {}}]}, "nested deeper"),
    ]
    for fact, reason in others:
        reply = await stage.post("/delegate", machine_token(*signed, facts=[fact]))
        assert reply.status == 400, (fact, reply.said)
        assert reason in reply.said[1], (fact, reply.said)


async def test_MT3_a_grant_without_the_statement_is_an_ordinary_one(stage: Stage) -> None:
    """A delegation with the same rights but without the statement needs evidence to open a secret
    (RL5)."""
    owner, holder = await stage.owner(), Delegate()
    grant = owner.grant(holder.did, {owner.secret: [GET], owner.network: [DECRYPT]})
    holder.proofs = [await stage.register(grant)]
    assert (await stage.ask(holder, owner)).said == refused("no_policy")


# --- its end --------------------------------------------------------------------------------------


async def test_MT4_a_revocation_counts_in_every_worker(stage: Stage) -> None:
    """A machine token that was revoked at one worker is refused by another worker that had cached
    it."""
    owner = await stage.owner()
    holder = await holder_of(stage, owner)
    with stage.only(1):
        assert opens(await stage.ask(holder, owner), holder, owner)
    with stage.only(0):
        reply = await stage.post("/revoke", revocation(owner, *holder.proofs))
        assert reply.status == 200, reply.said
    with stage.only(1):
        assert (await stage.ask(holder, owner)).status == 401
        assert await read(stage, holder, owner.secret) == 401


async def test_MT4_a_revocation_before_the_commit(held: HeldStage) -> None:
    """The node refuses a release if the token is revoked or the value replaced before the
    commit."""
    owner = await held.owner()
    holder = await holder_of(held, owner)
    waiting = held.store.hold(is_release)
    reply = await meanwhile(
        held.ask(holder, owner), waiting, lambda: owner.client.secrets().put(SECRET, "another")
    )
    assert reply.said == refused("path")
    assert release_records(waiting) == 0
    now = await envelope_of(owner, SECRET)
    waiting = held.store.hold(is_release)
    reply = await meanwhile(
        held.ask(holder, owner, envelope=now),
        waiting,
        lambda: owner.client.delegations.revoke_by_wallet(ids(*holder.proofs)[0], owner.wallet),
    )
    assert reply.status == 401
    assert release_records(waiting) == 0


async def test_MT4_it_ends(held: HeldStage) -> None:
    """A machine token is refused from its expiry on."""
    owner = await held.owner()
    holder = await holder_of(held, owner, ttl_s=3600)
    assert opens(await held.ask(holder, owner), holder, owner)
    # The node's clock stands since its start, and the token was made later.
    held.clock.advance(3620)
    reply = await held.ask(holder, owner, ttl_s=3680)
    assert reply.status == 401


# --- its receipts ---------------------------------------------------------------------------------


async def test_MT5_a_receipt_names_the_token(held: HeldStage) -> None:
    """The receipt and the audit record name the machine token, and a forged receipt fails
    verification."""
    owner = await held.owner()
    holder = await holder_of(held, owner, name="ci.deploy-2")
    await reader(held, owner)
    assert opens(await held.ask(holder, owner), holder, owner)
    whole = await kept(held, owner)
    verified = whole.verify().receipt
    assert verified.ground == "machine"
    assert verified.machine == "ci.deploy-2"
    assert verified.invoker == holder.did
    assert verified.chain == (ids(*holder.proofs)[0],)
    (page,) = (await owner.client.receipts.page()).receipts
    assert page == verified
    records = await audit_records(held.services.store)
    (detail,) = [json.loads(one.detail) for one in records if one.action == "release.authorised"]
    assert detail["ground"] == "machine"
    assert detail["machine"] == "ci.deploy-2"
    for changes in (
        {"machine": UNSET},
        {"ground": "owner_session"},
        {"ground": "off", "mode": "off"},
        {"mode": "everyone"},
        {"invoker": verified.owner},
        {"machine": "two\nlines"},
    ):
        with pytest.raises(ReceiptInvalid):
            whole.signed_anew(**changes).verify()
