"""Tokens that are sent to another route or another node than they were signed for."""

import json

import pytest
from attacks.parties import DELETE, GET, LIST, PUT, REVOKE, Delegate, Owner, Stage
from running_node import Grants, Reply, key_token, new_key, send, wallet_token
from wire_replay import token_id

from capabilities.facts import KEYS_FACT, POLICY_FACT, SESSION_FACT, WITHDRAWAL_FACT
from encryption_network.requests import ADMIN_TYPE
from sealspace.wallets import new_wallet

pytestmark = pytest.mark.slow

OTHER_KIND = (401, "Token of another kind")
STATUS = "tinycloud.delegation/status"


async def signed(stage: Stage, owner: Owner, token: str, path: str = "notes/one") -> Reply:
    """Request a signed URL of the owner's value."""
    body = json.dumps({"space": owner.space(), "path": path}).encode()
    return await send(stage.url, "POST", "/signed/kv", token=token, body=body)


async def invoked(stage: Stage, token: str, body: bytes | None = None) -> Reply:
    """Send a bare token to `/invoke`."""
    return await send(stage.url, "POST", "/invoke", token=token, body=body)


async def noted(stage: Stage) -> Owner:
    """Return an owner who has stored one value."""
    owner = await stage.owner()
    await owner.client.kv().put("notes/one", b"first")
    return owner


# --- delegations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ttl_s", [200, 3600])
async def test_a_revoked_grant_makes_no_signed_url(stage: Stage, ttl_s: float) -> None:
    """A revoked grant that is sent as an invocation makes no signed URL (T8)."""
    owner, delegate = await noted(stage), Delegate()
    grant = owner.session.grant(delegate.did, {f"{owner.space()}/kv/notes/one": [GET]}, ttl_s=ttl_s)
    await stage.register(grant)
    await owner.client.delegations.revoke(token_id(grant))
    await owner.client.kv().put("notes/one", b"newer")
    replies = [(await signed(stage, owner, grant)).said for _ in range(3)]
    assert replies[0] == (
        OTHER_KIND if ttl_s <= 300 else (401, "Invocation lifetime exceeds server maximum")
    )
    assert set(replies) == {replies[0]}


@pytest.mark.parametrize("ability", [GET, PUT, DELETE, LIST])
async def test_a_grant_is_no_invocation(stage: Stage, ability: str) -> None:
    """A grant that is sent to `/invoke` is refused (T8)."""
    owner, delegate = await noted(stage), Delegate()
    for is_registered in (False, True):
        grant = owner.session.grant(
            delegate.did, {f"{owner.space()}/kv/notes/one": [ability]}, ttl_s=200
        )
        if is_registered:
            await stage.register(grant)
        body = b"second" if ability == PUT else None
        assert (await invoked(stage, grant, body)).said == OTHER_KIND
    assert (await owner.client.kv().get("notes/one")).body == b"first"


@pytest.mark.parametrize("is_revoked", [False, True])
async def test_a_grant_to_oneself_is_no_invocation(stage: Stage, is_revoked: bool) -> None:
    """A key's grant to itself that is sent as an invocation is refused (T9)."""
    owner = await noted(stage)
    session = owner.session
    grants = {f"{owner.space()}/kv/notes/one": [GET]}
    grant = await stage.register(session.grant(session.did, grants, ttl_s=200))
    if is_revoked:
        await owner.client.delegations.revoke(token_id(grant))
    assert (await signed(stage, owner, grant)).said == OTHER_KIND
    with stage.only(0):
        assert (await invoked(stage, grant)).said in (OTHER_KIND, (409, "duplicate invocation"))
    fresh = await stage.register(session.grant(session.did, grants, ttl_s=200))
    with stage.only(1):
        assert (await invoked(stage, fresh)).said == OTHER_KIND


@pytest.mark.parametrize("addressed", ["node", "issuer"])
async def test_an_invocation_is_no_grant(stage: Stage, addressed: str) -> None:
    """An invocation that is posted as a delegation grants nothing new (T10)."""
    owner = await noted(stage)
    session = owner.session
    audience = stage.node_did if addressed == "node" else session.did
    token = session.grant(audience, {f"{owner.space()}/kv/notes/one": [GET]}, ttl_s=60)
    reply = await stage.post("/delegate", token)
    if addressed == "node":
        assert reply.said == OTHER_KIND
        assert (await invoked(stage, token)).said == (200, "first")
    else:  # its shape does not betray it
        assert reply.status == 200
        assert (await invoked(stage, token)).said == OTHER_KIND


@pytest.mark.parametrize(
    "fact", [ADMIN_TYPE, SESSION_FACT, POLICY_FACT, WITHDRAWAL_FACT, KEYS_FACT]
)
@pytest.mark.parametrize(
    "headers", [{}, {"x-tinycloud-limit": "1"}], ids=["bare", "with an option"]
)
async def test_what_is_bound_to_another_route_is_no_call(
    stage: Stage, fact: str, headers: dict[str, str]
) -> None:
    """A token is refused as a call if a fact binds it to another route (T12)."""
    owner = await noted(stage)
    session, grants = owner.session, {f"{owner.space()}/kv/notes/one": [DELETE]}
    token = session.grant(stage.node_did, grants, ttl_s=60, facts=[{"type": fact}])
    reply = await send(stage.url, "POST", "/invoke", token=token, headers=headers)
    assert reply.said == OTHER_KIND
    assert (await owner.client.kv().get("notes/one")).body == b"first"


# --- other nodes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ability", [GET, PUT, DELETE, LIST])
async def test_a_call_to_another_node_is_not_replayed_here(stage: Stage, ability: str) -> None:
    """A call that another node forwards is refused (T8)."""
    owner = await noted(stage)
    token = owner.session.grant(
        new_key().did, {f"{owner.space()}/kv/notes/one": [ability]}, ttl_s=60
    )
    assert (await invoked(stage, token, b"second" if ability == PUT else None)).said == OTHER_KIND
    assert (await signed(stage, owner, token)).said == OTHER_KIND
    assert (await owner.client.kv().get("notes/one")).body == b"first"


async def test_whom_an_invocation_may_address(stage: Stage) -> None:
    """An invocation may address its own issuer (P4) or this node only."""
    owner = await noted(stage)
    session = owner.session
    grants = {f"{owner.space()}/kv/notes/one": [GET]}
    for audience in (session.did, stage.node_did):
        assert (await invoked(stage, session.grant(audience, grants, ttl_s=60))).said == (
            200,
            "first",
        )
    wallet = new_wallet().did
    for audience in (
        session.did + "x",
        session.did[:-1],
        stage.node_did.upper(),
        "did:web:here.example",
        wallet,
    ):
        reply = await invoked(stage, session.grant(audience, grants, ttl_s=60))
        assert reply.status == 401
        assert "first" not in reply.text


# --- signed URLs ----------------------------------------------------------------------------------


async def test_a_token_makes_one_signed_url(stage: Stage) -> None:
    """A token makes one signed URL only, whichever worker and route it is sent to (I23)."""
    owner = await noted(stage)
    grants = {f"{owner.space()}/kv/notes/one": [GET]}
    used, invoked_first = (
        owner.session.grant(owner.session.did, grants, ttl_s=60) for _ in range(2)
    )
    with stage.only(0):
        assert (await signed(stage, owner, used)).status == 200
        assert (await signed(stage, owner, used)).said == (409, "duplicate invocation")
        assert (await invoked(stage, used)).said == (409, "duplicate invocation")
        assert (await invoked(stage, invoked_first)).status == 200
    with stage.only(1):
        for token in (used, invoked_first):
            assert (await signed(stage, owner, token)).said == (409, "duplicate invocation")


async def test_a_token_that_lives_long_makes_no_signed_url(stage: Stage) -> None:
    """A token with too long a lifetime makes no signed URL (I4)."""
    owner = await noted(stage)
    token = owner.session.grant(
        owner.session.did, {f"{owner.space()}/kv/notes/one": [GET]}, ttl_s=400
    )
    assert (await signed(stage, owner, token)).said == (
        401,
        "Invocation lifetime exceeds server maximum",
    )


# --- revocations ----------------------------------------------------------------------------------


def revoking_texts(owner: Owner, target: str) -> dict[str, str]:
    """Return tokens that name a delegation but are no revocation."""
    session, resource = owner.session, f"urn:cid:{token_id(target)}"
    space = {f"{owner.space()}/kv/notes/one": [GET]}

    def text(grants: Grants, audience: str = "") -> str:
        return key_token(session.signer, audience or session.did, grants, ttl_s=60)

    return {
        "a question for its status": text({resource: [STATUS]}),
        "a read of a value": text({resource: [GET]}),
        "an ability that means nothing": text({resource: ["x/y"]}),
        "a revocation beside another ability": text({resource: [REVOKE, STATUS]}),
        "a revocation beside another resource": text({resource: [REVOKE], **space}),
        "a revocation and a look": text(
            {resource: [REVOKE], f"urn:cid:{token_id('a.b.c')}": [STATUS]}
        ),
        "a revocation beside what is no cid": text({resource: [REVOKE], "urn:cid:word": [REVOKE]}),
        "a grant of the status": text({resource: [STATUS]}, new_key().did),
        "a grant of the revocation": text({resource: [REVOKE]}, new_key().did),
        "a sign-in text with a ReCap": wallet_token(
            owner.wallet, f"ucan:{token_id(target)}", space, ttl_s=60
        ),
    }


async def test_what_is_no_revocation_revokes_nothing(stage: Stage) -> None:
    """Tokens that read or grant are refused at `/revoke` (V1, V3, V5)."""
    owner, delegate = await noted(stage), Delegate()
    grants = {f"{owner.space()}/kv/notes/one": [GET]}
    delegate.proofs = [await stage.register(owner.session.grant(delegate.did, grants, ttl_s=600))]
    for what, text in revoking_texts(owner, delegate.proofs[0]).items():
        assert (await stage.post("/revoke", text)).said == OTHER_KIND, what
    assert (await stage.invoke(delegate.signer, grants, proofs=delegate.proofs)).said == (
        200,
        "first",
    )
    for audience in (owner.session.did, stage.node_did):  # and what is one does
        resource = f"urn:cid:{token_id(delegate.proofs[0])}"
        revocation = key_token(owner.session.signer, audience, {resource: [REVOKE]}, ttl_s=60)
        assert (await stage.post("/revoke", revocation)).status == 200
    assert (await stage.invoke(delegate.signer, grants, proofs=delegate.proofs)).status == 401


async def test_a_right_over_one_delegation_cannot_be_registered(stage: Stage) -> None:
    """A grant to revoke one delegation is refused, since it reads as a revocation (T11)."""
    owner, delegate, helper = await noted(stage), Delegate(), Delegate()
    grants = {f"{owner.space()}/kv/notes/one": [GET]}
    target = await stage.register(owner.session.grant(delegate.did, grants, ttl_s=600))
    helper.proofs = [
        await stage.register(
            owner.grant(helper.did, {f"{owner.space()}/delegation": [REVOKE, STATUS]})
        )
    ]
    for ability in (REVOKE, STATUS):
        right = {f"urn:cid:{token_id(target)}": [ability]}
        assert (await stage.post("/delegate", owner.grant(helper.did, right))).status == 401
        assert (
            await stage.post("/delegate", helper.grant(helper.did, right, ttl_s=60))
        ).status == 401


async def test_a_wallet_s_revocation_is_no_grant(stage: Stage) -> None:
    """A wallet's revocation that is posted as a delegation is refused (V3)."""
    owner, delegate = await noted(stage), Delegate()
    target = owner.session.grant(delegate.did, {f"{owner.space()}/kv/notes/one": [GET]}, ttl_s=600)
    text = wallet_token(owner.wallet, f"ucan:{token_id(target)}", {}, ttl_s=60)
    assert (await stage.post("/delegate", text)).said == OTHER_KIND
