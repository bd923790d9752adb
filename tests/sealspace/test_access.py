"""Tests of the answer to who can read a secret."""

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from access_world import AccessWorld, Party, rows_of
from msgspec.structs import replace
from trust_settings import trusting_config

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.signatures import Ed25519Signer
from sealspace.delegations import allow
from sealspace.errors import NotFound
from sealspace.giving.readers import Facts, readers_of
from sealspace.session import key_session
from sealspace.wallets import wallet_of
from sealspace.wire.sign_in import register, sign_grant

pytestmark = pytest.mark.slow

SEQUENCES = int(os.environ.get("ACCESS_SEQUENCES", "2"))
"""Number of sequences in each mode of attestation."""
STEPS = 12
TRIED: Counter[tuple[str, bool]] = Counter()
"""How often readers of each kind tried, and whether they read the secret."""


@pytest.fixture(scope="module", autouse=True)
def counts() -> Iterator[None]:
    """Print how often each kind of reader tried, after all sequences."""
    yield
    for (kind, can), count in sorted(TRIED.items()):
        print(f"{kind:10} {'reads' if can else 'reads nothing':14} {count:7}")


@pytest.mark.parametrize("seed", range(SEQUENCES))
@pytest.mark.parametrize("mode", ["delegates", "everyone", "off"])
async def test_the_answer_names_everybody_who_reads(
    bench_with: Any, tmp_path: Path, platform: Any, clock: Any, mode: str, seed: int
) -> None:
    """After any sequence of grants and revocations, whoever obtains the value is named, and whoever
    is named as able to read now obtains it. The owner's activity has a row of each read, and no
    other."""
    rng = random.Random(seed)
    bench = await bench_with(
        trusting_config(tmp_path, platform, published_at=clock.now(), release={"attestation": mode})
    )
    world = await AccessWorld.begin(bench)
    for _ in range(STEPS):
        await world.step(rng)
        await world.compare()
    await world.compare_activity()
    TRIED.update(world.tried)


@pytest.fixture
async def world(bench: Any) -> AccessWorld:
    """An owner with a secret, and two people."""
    return await AccessWorld.begin(bench)


async def state_of(world: AccessWorld, party: Party) -> list[tuple[str, str]]:
    """Return kind and state of a party's rows, after everybody has tried."""
    await world.compare()
    access = await world.owner.access.of("API_KEY")
    return [(one.kind, one.state) for one in rows_of(party, access)]


async def _facts(world: AccessWorld) -> Facts:
    """Return the facts about the secret, without copies."""
    owner = world.owner
    info = await owner.info()
    return Facts(
        owner=owner.session.owner,
        secret=world.rights[0].resource,
        network=owner.encryption.network(),
        network_policy=None,
        terms=await owner.release_terms(),
        exchange_key=info.oidc_did,
        node=info.node_id,
        in_tee=True,
        records=[one async for one in owner.delegations.query(direction="granted", tokens=True)],
        copies={},
        now=world.bench.clock.now(),
    )


async def test_a_policy_of_the_network_approves_code(world: AccessWorld) -> None:
    """A grant without a policy opens nothing until the owner's network approves code."""
    party = await world.key_party("grant", attests=True)
    await world.give(party, world.rights, ttl_s=600.0)
    assert await state_of(world, party) == [("grant", "no_code")]
    await world.set_policy(world.with_proof())
    assert await state_of(world, party) == [("backend", "attested")]
    assert world.tried["grant", True] == 1


async def test_a_copy_without_a_right_to_fetch_it(world: AccessWorld) -> None:
    """A copy that is still stored makes nobody a reader after the right to fetch it has ended."""
    person = world.parties[0]
    share = await world.owner.sharing.share(["API_KEY"], person.did, wallet=lambda: world.wallet)
    assert await state_of(world, person) == [("person", "now")]
    await world.owner.delegations.revoke(share.grant.cid)
    assert await state_of(world, person) == []


async def test_others_who_fetch_a_copy_cannot_open_it(world: AccessWorld) -> None:
    """A right to fetch somebody else's copy makes nobody a reader."""
    person = world.parties[0]
    share = await world.owner.sharing.share(["API_KEY"], person.did, wallet=lambda: world.wallet)
    other = await world.key_party("grant")
    space = world.owner.kv("secrets").space.text
    right = allow(f"{space}/kv/{share.folder.path}", KV_GET)
    await world.give(other, [right], ttl_s=600.0)
    assert await state_of(world, other) == []


async def test_a_sign_in_that_is_no_session(world: AccessWorld, bench: Any) -> None:
    """A wallet's message to a key makes no session without the right to read capabilities (IP2)."""
    signer = Ed25519Signer(bytes([9]) * 32)
    caller = world.owner.delegations._caller
    grant = sign_grant(
        caller,
        wallet_of(world.wallet),
        signer.did_url,
        world.rights,
        ttl_s=600.0,
        domain="app.test",
    )
    await register(caller, grant)
    client = await bench.client(key_session(signer).with_grant(grant))
    party = Party("app", signer.did, client)
    world.parties.append(party)
    assert await state_of(world, party) == [("grant", "no_code")]


async def test_a_job_is_named_by_its_trust(world: AccessWorld) -> None:
    """The token of a job has no row of its own: it ends with the trust, which has one."""
    await world.trust(random.Random(1))
    job = world.parties[-1]
    assert await state_of(world, job) == [("ci", "id_token")]
    assert world.tried["ci", True] == 1


async def test_every_right_to_decrypt_is_named(world: AccessWorld) -> None:
    """A right to decrypt on the secret's network is named without a right to fetch the envelope
    too; a right to fetch alone, or on another network, is not."""
    fetch, decrypt = world.rights
    protected = allow(world.owner.encryption.network("protected").text, decrypt.ability)
    folder = allow(fetch.resource.text.removesuffix("/API_KEY"), KV_GET)
    states = {}
    for name, rights in (
        ("fetch only", [fetch]),
        ("decrypt only", [decrypt]),
        ("another network", [fetch, protected]),
        ("a folder", [folder, decrypt]),
    ):
        party = await world.key_party("backend", attests=True)
        policy = world.with_proof()
        await world.give(party, rights, ttl_s=600.0, policy=policy, wallet=world.wallet)
        states[name] = await state_of(world, party)
    assert states == {
        "fetch only": [],
        "decrypt only": [("backend", "envelope")],
        "another network": [],
        "a folder": [("backend", "attested")],
    }


async def test_conditions_are_undecided(world: AccessWorld) -> None:
    """A right to fetch under a caveat is shown as one that only the node can judge."""
    party = await world.key_party("grant")
    fetch, decrypt = world.rights
    limited = allow(fetch.resource.text, KV_GET, {"limit": 1})
    portable = await world.owner.delegations.delegate(
        party.did, [limited, decrypt], ttl_s=600.0, policy=world.with_proof()
    )
    access = await world.owner.access.of("API_KEY")
    (row,) = [one for one in access.readers if one.grant == portable.cid]
    assert row.state == "undecided"


async def test_conditions_on_decryption(world: AccessWorld) -> None:
    """A right to decrypt under a caveat is not shown as one that opens the secret now."""
    party = await world.key_party("grant", attests=True)
    fetch, decrypt = world.rights
    limited = allow(decrypt.resource.text, DECRYPT, {"limit": 1})
    await world.give(party, [fetch, limited], ttl_s=600.0, policy=world.with_proof())
    assert [state for _, state in await state_of(world, party)] == ["undecided"]


async def test_one_right_later_and_one_under_conditions(world: AccessWorld) -> None:
    """Somebody with a right under a caveat and another one that begins later is not shown as one
    who reads later only, in whatever order the node lists them."""
    party = await world.key_party("backend", attests=True)
    fetch, decrypt = world.rights
    cids = []
    for rights in ([decrypt], [allow(fetch.resource.text, KV_GET, {"limit": 1})], [fetch]):
        portable = await world.owner.delegations.delegate(
            party.did, rights, ttl_s=600.0, policy=world.with_proof()
        )
        cids.append(portable.cid)
    facts = await _facts(world)
    records = []
    for one in facts.records:
        is_free = one.cid == cids[2]
        records.append(replace(one, status="pending") if is_free else one)
    for ordered in (records, records[::-1]):
        judged = readers_of(facts._replace(records=ordered))
        assert [one.state for one in judged.readers if one.did == party.did] == ["undecided"]


async def test_grants_that_a_recipient_passed_on_hide_no_other(
    world: AccessWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipient who passes a right on very often makes the answer incomplete, but removes nobody
    with a grant of the owner from it."""
    early = await world.key_party("grant", attests=True)
    await world.give(early, world.rights, ttl_s=600.0, policy=world.with_proof())
    holder = await world.key_party("grant", attests=True)
    await world.give(holder, world.rights, ttl_s=600.0, policy=world.with_proof())
    world.bench.clock.advance(1)
    for _ in range(8):
        await world.pass_on_from(holder)
    assert (await world.owner.access.of("API_KEY")).is_complete
    own = [one async for one in world.owner.delegations.query(direction="granted", tokens=True)]
    own_chars = sum(len(one.token or "") for one in own)
    for limit, value in (("MOST_GRANTS", len(own)), ("MOST_TOKEN_CHARS", own_chars)):
        with monkeypatch.context() as patch:
            patch.setattr(f"sealspace.giving.access.{limit}", value)
            access = await world.owner.access.of("API_KEY")
            assert not access.is_complete
            named = {one.did: one.state for one in access.readers}
            assert named[early.did] == named[holder.did] == "attested"


async def test_a_grant_that_begins_later(world: AccessWorld) -> None:
    """A grant that the node lists as pending is shown as one that begins later."""
    party = await world.key_party("backend", attests=True)
    await world.give(party, world.rights, ttl_s=600.0, policy=world.with_proof())
    facts = await _facts(world)
    for status, state in (("active", "attested"), ("pending", "later")):
        records = []
        for one in facts.records:
            is_theirs = one.delegate == party.did
            records.append(replace(one, status=status) if is_theirs else one)
        judged = readers_of(facts._replace(records=records))
        assert [one.state for one in judged.readers if one.did == party.did] == [state]
    broken = readers_of(facts._replace(records=[replace(one, token="x") for one in facts.records]))
    assert [one.kind for one in broken.readers] == [
        "owner"
    ]  # and no operator: the node is in a TEE
    assert set(broken.unread) == {one.cid for one in facts.records}


@pytest.mark.parametrize("is_published", [True, False])
async def test_conditions_of_the_node_that_are_not_known(
    world: AccessWorld, is_published: bool
) -> None:
    """Nobody is named as able to read now if the node has a policy that it does not publish, or its
    conditions could not be fetched."""
    await world.make_token(random.Random(1))
    await world.trust(random.Random(1))
    owner = world.owner
    info, terms = await owner.info(), await owner.release_terms()
    facts = Facts(
        owner=owner.session.owner,
        secret=world.rights[0].resource,
        network=owner.encryption.network(),
        network_policy=None,
        terms=replace(terms, node_policy=True) if is_published else None,
        exchange_key=info.oidc_did,
        node=info.node_id,
        in_tee=True,
        records=[one async for one in owner.delegations.query(direction="granted", tokens=True)],
        copies={},
        now=world.bench.clock.now(),
    )
    states = {one.kind: one.state for one in readers_of(facts).readers}
    assert states == dict.fromkeys(("owner", "session", "token", "ci"), "undecided")


async def test_last_reads(world: AccessWorld) -> None:
    """A row has the time when its grant last gave the current value, and a copy's fetch counts."""
    person = world.parties[0]
    await world.owner.sharing.share(["API_KEY"], person.did, wallet=lambda: world.wallet)
    await world.make_token(random.Random(1))
    world.bench.clock.advance(50)
    await world.compare()
    access = await world.owner.access.of("API_KEY")
    reads = {one.kind: one.last_read for one in access.readers}
    assert reads["token"] == reads["person"] == world.bench.clock.now()
    await world.replace()
    access = await world.owner.access.of("API_KEY")
    assert {one.kind: one.last_read for one in access.readers}["token"] is None


async def test_other_secrets(world: AccessWorld) -> None:
    """Tokens, policies and copies of another secret make nobody a reader of this one."""
    await world.owner.secrets().put("PLAIN", "plain")
    await world.make_token(random.Random(1))
    await world.grant_run(random.Random(1))
    person = world.parties[0]
    await world.owner.sharing.share(["API_KEY"], person.did, wallet=lambda: world.wallet)
    access = await world.owner.access.of("PLAIN")
    assert {one.kind for one in access.readers} == {"owner", "session", "operator"}
    with pytest.raises(NotFound):
        await world.owner.access.of("NOTHING")
