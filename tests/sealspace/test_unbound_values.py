"""Tests of values that state no place: who may read them, and by which grants (EN46, EN47)."""

import json
from dataclasses import replace

import pytest
from backend_site import Domain
from oidc_issuer import SHOP, Issuer, github_claims
from relabelled import store_unbound

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.facts import VALUES_FACT, VALUES_URN, statement_resource
from capabilities.tokens import Capability
from encryption_network.policy import Policy
from sealspace.client import Client, SignIn
from sealspace.delegations import allow
from sealspace.documents.unbound_values import may_open_unbound
from sealspace.encryption import envelope_bytes
from sealspace.errors import DelegationRevoked, InvalidInput, UnboundValue
from sealspace.session import Session, key_session, mint, read_grant, sign_message
from sealspace.wire.caller import Caller
from sealspace.wire.id_tokens import exchange
from sealspace.wire.token_line import read_token
from sealspace.wire.transport import Transport
from tee_backend.backend import Backend
from tee_backend.evidence.simulated import measurements_of

SEED = bytes(range(32))
CODE = measurements_of("approved")
POLICY = Policy(measurements=(CODE,))


def rights(client: Client) -> list[Capability]:
    """Return the rights to read the owner's secret API_KEY."""
    return [
        allow(client.secrets().resource("API_KEY"), KV_GET),
        allow(client.encryption.network().text, DECRYPT),
    ]


def may(session: Session, owner: Client, *, now: float) -> bool:
    return may_open_unbound(session, owner.session.owner, rights(owner), now=now)


async def test_EN46_the_owner_in_person_reads_it(bench) -> None:
    """The owner's sign-in, further rights of it, and the owner's own key read it, marked."""
    client, wallet = await bench.owner()
    await store_unbound(client, "API_KEY", "value")
    read = await client.secrets().read("API_KEY")
    assert (read.value, read.is_bound) == ("value", False)
    assert await client.secrets().get_many(["API_KEY"]) == {"API_KEY": "value"}
    limited = await bench.client()
    exactly = [one for one in rights(client) if one.ability == DECRYPT]
    await limited.sign_in(wallet, SignIn(secrets=False))
    await limited.delegations.add_right(wallet, [*rights(client)[:1], *exactly])
    assert await limited.secrets().get("API_KEY") == "value"
    keyed = await bench.client()
    await keyed.sign_in_with_key(SEED, spaces=["default", "secrets"])
    await keyed.encryption.ensure_network()
    await store_unbound(keyed, "API_KEY", "of the key")
    assert await keyed.secrets().get("API_KEY") == "of the key"


async def test_EN46_a_wallet_s_message_without_a_session_is_not_in_person(bench) -> None:
    """A key with rights of the wallet is not the owner, unless it may read capabilities (IP2)."""
    client, wallet = await bench.owner()
    app = await bench.client()
    await app.sign_in(wallet, SignIn(exactly=tuple(rights(client))))
    assert not may(app.session, client, now=bench.clock.now())
    assert may(client.session, client, now=bench.clock.now())


@pytest.mark.parametrize("allows", [False, True])
async def test_EN46_a_machine_token(bench, allows: bool) -> None:
    """A machine token reads it only if its signed statement says so."""
    client, wallet = await bench.owner()
    await store_unbound(client, "API_KEY", "canary")
    line = await client.delegations.create_token(
        "deploy", ["API_KEY"], unbound=allows, wallet=wallet
    )
    program = await bench.client(read_token(line))
    if allows:
        assert (await program.secrets().read("API_KEY")).is_bound is False
        return
    with pytest.raises(UnboundValue) as refused:
        await program.secrets().get("API_KEY")
    assert "canary" not in f"{refused.value}{refused.value.__notes__}"
    assert refused.value.step.endswith("sealspace secret bind API_KEY")


@pytest.mark.parametrize("allows", [False, True])
async def test_EN46_a_job_reads_what_its_trust_allows(bench, allows: bool) -> None:
    """The node copies the statement of a trust to the token of a job."""
    client, wallet = await bench.owner()
    await store_unbound(client, "API_KEY", "value")
    issuer = Issuer("https://ci.test")
    trust = await client.delegations.trust_issuer(
        "shop",
        ["API_KEY"],
        issuer=issuer.address,
        claims={"repository_id": [SHOP["repository_id"]]},
        jwks=issuer.jwks,
        unbound=allows,
        wallet=wallet,
    )
    now = int(bench.clock.now())
    token = issuer.token(
        github_claims(iat=now, nbf=now, exp=now + 60),
        audience=bench.node.services.keyring.node_did,
    )
    async with Transport(bench.node.url) as transport:
        caller = Caller(transport=transport, clock=bench.clock, entropy=bench.entropy)
        line = await exchange(caller, token=token, trust=trust, seed=bytes([3]) * 32)
    job = await bench.client(read_token(line))
    if allows:
        assert await job.secrets().get("API_KEY") == "value"
    else:
        with pytest.raises(UnboundValue):
            await job.secrets().get("API_KEY")


@pytest.mark.parametrize("allows", [False, True])
async def test_EN47_a_backend(bench, allows: bool) -> None:
    """An attested backend reads it only by a grant of the wallet that says so."""
    client, wallet = await bench.owner()
    agent = await bench.client(key_session(SEED))
    portable = await client.delegations.delegate(
        agent.session.did, rights(client), policy=POLICY, unbound=allows, wallet=wallet
    )
    source = Domain(bench.platform, CODE)
    backend = Backend(agent, source, clock=bench.clock, entropy=bench.entropy)
    await backend.accept(portable)
    await client.secrets().put("API_KEY", "bound")
    assert await backend.read_secret(client.session.owner, "API_KEY") == "bound"
    await store_unbound(client, "API_KEY", "unbound")
    if allows:
        assert await backend.read_secret(client.session.owner, "API_KEY") == "unbound"
    else:
        with pytest.raises(UnboundValue):
            await backend.read_secret(client.session.owner, "API_KEY")


async def test_EN47_a_newer_grant_does_not_hide_it(bench) -> None:
    """A backend reads by the grant that allows such values, whichever it got last."""
    client, wallet = await bench.owner()
    agent = await bench.client(key_session(SEED))
    backend = Backend(agent, Domain(bench.platform, CODE), clock=bench.clock, entropy=bench.entropy)
    grants = []
    for allows in (True, False):
        bench.clock.advance(1)
        grants.append(
            await client.delegations.delegate(
                agent.session.did, rights(client), policy=POLICY, unbound=allows, wallet=wallet
            )
        )
        await backend.accept(grants[-1])
    await store_unbound(client, "API_KEY", "unbound")
    assert await backend.read_secret(client.session.owner, "API_KEY") == "unbound"
    newest = backend.grants[0].grant
    assert newest.cid == grants[-1].cid
    with pytest.raises(UnboundValue):
        await backend.read_secret(client.session.owner, "API_KEY", by=newest)
    await client.delegations.revoke(grants[0])
    with pytest.raises(DelegationRevoked):
        await backend.read_secret(client.session.owner, "API_KEY")
    with pytest.raises(UnboundValue):
        await backend.read_secret(client.session.owner, "API_KEY")


async def test_EN47_the_statement_is_no_policy(bench) -> None:
    """A grant with the statement alone needs no more evidence than a grant without it."""
    client, wallet = await bench.owner()
    agent = await bench.client(key_session(SEED))
    portable = await client.delegations.delegate(
        agent.session.did, rights(client), unbound=True, wallet=wallet
    )
    await agent.delegations.accept(portable)
    assert may(agent.session, client, now=bench.clock.now())


async def test_EN47_only_the_owner_s_signature_counts(bench) -> None:
    """A session's key cannot allow it, and a fact that it signs all the same does not count."""
    client, _ = await bench.owner()
    agent = await bench.client(key_session(SEED))
    with pytest.raises(InvalidInput, match="only the owner's wallet"):
        await client.delegations.delegate(agent.session.did, rights(client), unbound=True)
    forged = mint(
        client.session.signer,
        bench.entropy,
        audience=agent.session.did,
        capabilities=rights(client),
        proofs=client.session.proofs_for(rights(client), now=bench.clock.now()),
        expires_at=bench.clock.now() + 60,
        facts=[{VALUES_FACT: {"unbound": True}}],
        issuer=client.session.did,
    )
    session = agent.session.with_grant(read_grant(forged))
    assert not may(session, client, now=bench.clock.now())


async def test_EN47_what_a_recipient_passed_on_does_not_count(bench) -> None:
    """A recipient cannot allow more to others, whether or not the owner allowed it to itself."""
    client, wallet = await bench.owner()
    agent = await bench.client(key_session(SEED))
    portable = await client.delegations.delegate(
        agent.session.did, rights(client), unbound=True, wallet=wallet
    )
    await agent.delegations.accept(portable)
    other = await bench.client(key_session(bytes([6]) * 32))
    passed_on = await agent.delegations.delegate(
        other.session.did, rights(client), ttl_s=60, unbound=True
    )
    await other.delegations.accept(passed_on)
    assert not may(other.session, client, now=bench.clock.now())


@pytest.mark.parametrize("allows", [False, True])
async def test_EN47_a_person_s_wallet_copies_the_statement(bench, allows: bool) -> None:
    """A grant to a wallet is passed on to its session, with the owner's statement and no more."""
    client, wallet = await bench.owner()
    friend, friends_wallet = await bench.owner()
    portable = await client.delegations.delegate(
        friends_wallet.did, rights(client), ttl_s=60, unbound=allows, wallet=wallet
    )
    await friend.delegations.accept(portable, wallet=friends_wallet, ttl_s=60)
    assert may(friend.session, client, now=bench.clock.now()) is allows


async def test_EN47_every_cited_grant_has_to_allow_it(bench) -> None:
    """If one grant covers the value and another one its key, both have to allow it."""
    client, wallet = await bench.owner()
    value, key = rights(client)
    for allowing in ((True, False), (False, True), (True, True)):
        agent = await bench.client(key_session(SEED))
        for right, unbound in zip((value, key), allowing, strict=True):
            await agent.delegations.accept(
                await client.delegations.delegate(
                    agent.session.did, [right], unbound=unbound, wallet=wallet
                )
            )
        assert may(agent.session, client, now=bench.clock.now()) is all(allowing)


@pytest.mark.parametrize(
    "resource",
    [
        statement_resource({"unbound": False}, urn=VALUES_URN),
        statement_resource({"unbound": 1}, urn=VALUES_URN),
        statement_resource({"unbound": True, "more": 1}, urn=VALUES_URN),
        statement_resource({}, urn=VALUES_URN),
        f"{VALUES_URN}!",
        statement_resource({"unbound": True}, urn=VALUES_URN.replace("v1", "v2")),
        statement_resource({"unbound": True}, urn=VALUES_URN.upper()),
    ],
)
async def test_EN47_other_statements_allow_nothing(bench, resource: str) -> None:
    """A statement of another form, version or case is registered, and allows nothing."""
    client, wallet = await bench.owner()
    now = bench.clock.now()
    agent = key_session(SEED)
    header = sign_message(
        wallet,
        bench.entropy,
        domain="localhost",
        uri=agent.did,
        issued_at=now,
        expires_at=now + 60,
        capabilities=rights(client),
        resources=[resource],
    )
    assert not may(agent.with_grant(read_grant(header)), client, now=now)


async def test_EN47_a_forged_signature_allows_nothing(bench) -> None:
    """The signature of the owner's grant is verified by the reader too."""
    client, wallet = await bench.owner()
    agent = await bench.client(key_session(SEED))
    portable = await client.delegations.delegate(
        agent.session.did, rights(client), unbound=True, wallet=wallet
    )
    grant = read_grant(portable.header)
    forged = grant.header[:-8] + ("A" * 8)
    session = agent.session.with_grant(replace(grant, header=forged))
    assert not may(session, client, now=bench.clock.now())


async def test_EN46_a_copy_without_a_place_is_refused(bench) -> None:
    """Copies without a place are refused; the owner's next share makes copies with one."""
    client, wallet = await bench.owner()
    friend, friends_wallet = await bench.owner()
    await client.secrets().put("API_KEY", "value")
    share = await client.sharing.share(["API_KEY"], friends_wallet.did, wallet=lambda: wallet)
    source = await friend.sharing.received(wallet.did, wallet=lambda: friends_wallet)
    assert await source.get("API_KEY") == "value"
    place = f"{share.folder.path}API_KEY"
    space = client.kv("secrets").space
    payload = {"value": "planted", "createdAt": "", "updatedAt": ""}
    envelope = await friend.encryption.encrypt(
        json.dumps(payload).encode(),
        network=friend.encryption.network(),
        label=f"tinycloud.vault:{space.text}:{place.removeprefix('vault/')}".encode(),
    )
    await client.kv("secrets").put(place, envelope_bytes(envelope))
    with pytest.raises(UnboundValue):
        await source.get("API_KEY")
    await client.sharing.renew(["API_KEY"])
    assert await source.get("API_KEY") == "value"


async def test_EN46_no_grant_allows_copies_without_a_place(bench) -> None:
    """A copy without a place is refused even if the right to read it allows such values."""
    client, wallet = await bench.owner()
    friend = await bench.client()
    await friend.sign_in_with_key(SEED, spaces=["default"])
    await friend.encryption.ensure_network()
    await client.secrets().put("API_KEY", "value")
    share = await client.sharing.share(["API_KEY"], friend.session.did, wallet=lambda: wallet)
    portable = await client.delegations.delegate(
        friend.session.did, share.grant.capabilities, ttl_s=60, unbound=True, wallet=wallet
    )
    source = await friend.sharing.opened(share._replace(grant=read_grant(portable.header)))
    assert await source.get("API_KEY") == "value"
    place, space = f"{share.folder.path}API_KEY", client.kv("secrets").space
    envelope = await friend.encryption.encrypt(
        json.dumps({"value": "planted", "createdAt": "", "updatedAt": ""}).encode(),
        network=friend.encryption.network(),
        label=f"tinycloud.vault:{space.text}:{place.removeprefix('vault/')}".encode(),
    )
    await client.kv("secrets").put(place, envelope_bytes(envelope))
    with pytest.raises(UnboundValue):
        await source.get("API_KEY")


async def test_EN46_an_unbound_value_is_not_copied(bench) -> None:
    """Sharing an unbound value is refused before the wallet signs, and so are its new copies."""
    client, wallet = await bench.owner()
    _, friends_wallet = await bench.owner()
    await store_unbound(client, "API_KEY", "value")
    before = wallet.signatures
    with pytest.raises(UnboundValue) as refused:
        await client.sharing.share(["API_KEY"], friends_wallet.did, wallet=lambda: wallet)
    assert "secret bind API_KEY" in str(refused.value.step)
    assert wallet.signatures == before and await client.sharing.shares() == ()
    assert await client.secrets().bind("API_KEY")
    await client.sharing.share(["API_KEY"], friends_wallet.did, wallet=lambda: wallet)
    await store_unbound(client, "API_KEY", "replaced")
    with pytest.raises(UnboundValue):
        await client.sharing.renew(["API_KEY"])
