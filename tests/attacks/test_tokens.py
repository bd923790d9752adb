"""Tokens that are repeated, revoked, prolonged or re-encoded."""

import asyncio
import base64
import time
from typing import Any

import dag_cbor
import libipld
import pytest
from attacks.parties import (
    DECRYPT,
    DELETE,
    ENTROPY,
    GET,
    LIST,
    PUT,
    REVOKE,
    ROUTES,
    Delegate,
    Route,
    Stage,
    ids,
    opens,
    policy_for,
)
from btclib_libsecp256k1 import recovery
from running_node import Reply, key_token, new_key, send, wallet_token
from wire_replay import token_id

from capabilities.signatures import WalletSigner, eip191_digest

pytestmark = pytest.mark.slow

DUPLICATE = (409, "duplicate invocation")


# --- used tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ROUTES)
@pytest.mark.parametrize("first", ROUTES)
async def test_a_decrypt_token_serves_once_anywhere(
    stage: Stage, first: Route, second: Route
) -> None:
    """A used decrypt token is refused by every worker and route."""
    owner = await stage.owner()
    request = stage.decrypt(owner.session, owner)
    with stage.only(0):
        assert (await stage.send_decrypt(request, first)).status == 200
        assert (await stage.send_decrypt(request, second)).said == DUPLICATE
    with stage.only(1):
        assert (await stage.send_decrypt(request, second)).said == DUPLICATE


@pytest.mark.parametrize("first", ROUTES)
async def test_a_refused_decrypt_token_is_used_up(stage: Stage, first: Route) -> None:
    """A decrypt token that was refused stays refused after evidence arrives."""
    owner, delegate = await stage.owner(), Delegate()
    delegate.proofs = [
        await stage.register(owner.grant_decrypt(delegate.did, policy=policy_for("approved")))
    ]
    request = stage.decrypt(delegate, owner)
    assert (await stage.send_decrypt(request, first)).text == "release refused: not_attested"
    await stage.attest(delegate, owner.network)
    for route in ROUTES:
        assert (await stage.send_decrypt(request, route)).said == DUPLICATE


@pytest.mark.parametrize("ability", [GET, PUT, DELETE, LIST])
async def test_a_token_serves_once_on_every_worker(stage: Stage, ability: str) -> None:
    """A token used at one worker is refused by the other."""
    owner = await stage.owner()
    await owner.client.kv().put("notes/one", b"first")
    session = owner.session
    path = "notes/" if ability == LIST else "notes/one"
    grants = {f"{owner.space()}/kv/{path}": [ability]}
    token = key_token(session.signer, session.did, grants, proofs=session.proofs)
    body = b"second" if ability == PUT else None
    with stage.only(0):
        assert (await send(stage.url, "POST", "/invoke", token=token, body=body)).status == 200
    with stage.only(1):
        assert (await send(stage.url, "POST", "/invoke", token=token, body=body)).said == DUPLICATE


async def test_of_many_uses_at_one_moment_one_succeeds(stage: Stage) -> None:
    """A token that is sent 30 times concurrently succeeds once."""
    owner = await stage.owner()
    for request in (stage.decrypt(owner.session, owner), stage.decrypt(owner.session, owner)):
        replies = await asyncio.gather(
            *(stage.send_decrypt(request, ROUTES[at % 2]) for at in range(30))
        )
        assert sorted(reply.status for reply in replies) == [200] + [409] * 29


async def test_a_used_token_in_another_spelling(stage: Stage) -> None:
    """A used token is refused in other spellings and with a new signature (Q25)."""
    owner = await stage.owner()
    request = stage.decrypt(owner.session, owner)
    assert (await stage.send_decrypt(request)).status == 200
    head, payload, signature = request.token.split(".")
    spare = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    loose = signature[:-1] + spare[spare.index(signature[-1]) | 1]
    assert base64.urlsafe_b64decode(loose + "==") == base64.urlsafe_b64decode(signature + "==")
    spellings = [
        f"{head}.{payload}.{signature}==",
        f"{head}.{payload}.{loose}",
        f"{head}.{payload}.{signature}\t",
        f" {request.token}",
        f"Bearer {request.token}",
        f"{head}.{payload}.{signature}.",
    ]
    for spelling in spellings:
        for route in ROUTES:
            assert (await stage.send_decrypt(request, route, token=spelling)).status in (
                400,
                401,
                409,
            )


async def test_a_used_curve_token_with_its_twin_signature(stage: Stage) -> None:
    """A used token with an equivalent signature is refused (Q25)."""
    owner = await stage.owner()
    request = stage.decrypt(owner.session, owner)
    head, payload, signature = request.token.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    order = 2**252 + 27742317777372353535851937790883648493
    twin = (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")
    text = libipld.encode_multibase("u", raw[:32] + twin)[1:]
    assert (await stage.send_decrypt(request, token=f"{head}.{payload}.{text}")).said == (
        401,
        "Failed to verify signature",
    )


# --- what rides along -----------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES)
async def test_a_decrypt_token_does_nothing_else(stage: Stage, route: Route) -> None:
    """The node refuses a decrypt token that also names a put and a delete, and changes nothing."""
    owner = await stage.owner()
    await owner.client.kv().put("kept", b"here")
    also = {f"{owner.space()}/kv/kept": [DELETE], f"{owner.space()}/kv/new": [PUT]}
    session = owner.session
    assert opens(await stage.ask(session, owner, route, also=also), session, owner)
    assert (await owner.client.kv().get("kept")).body == b"here"
    assert [key async for key in owner.client.kv().list()] == ["kept"]


async def test_a_decrypt_token_needs_all_it_names(stage: Stage) -> None:
    """A decrypt token that also names a forbidden value opens nothing."""
    owner, other = await stage.owner(), await stage.owner()
    expected: dict[Route, int] = {"route": 401, "invoke": 403}
    for route, status in expected.items():
        reply = await stage.ask(
            owner.session, owner, route, also={f"{other.space()}/kv/x": [DELETE]}
        )
        assert reply.said == (status, f"Unauthorized Action: {other.space()}/kv/x / {DELETE}")


@pytest.mark.parametrize("abilities", [[PUT, DELETE], [GET, DELETE], [PUT, GET]])
async def test_two_operations_in_one_token_run_none(stage: Stage, abilities: list[str]) -> None:
    """A token of two operations without a common answer is refused with 400 (Q3)."""
    owner = await stage.owner()
    await owner.client.kv().put("a", b"a")
    session = owner.session
    grants = {f"{owner.space()}/kv/a": abilities}
    reply = await stage.invoke(session.signer, grants, proofs=session.proofs, body=b"b")
    assert reply.status == 400, reply.said
    assert (await owner.client.kv().get("a")).body == b"a"


# --- signatures that look like something else -----------------------------------------------------


class UnluckyWallet(WalletSigner):
    """A wallet whose signatures all start like a CID."""

    __slots__ = ()

    def sign_eip191(self, text: str) -> bytes:
        """Sign with different nonces until a signature parses as a CID."""
        digest = eip191_digest(text.encode())
        for attempt in range(1_000_000):
            signature, odd = recovery.sign(digest, self._secret, attempt.to_bytes(32, "big"))
            if signature[0] == 1 and max(signature[1:3]) < 0x80 and signature[3] <= 61:
                return signature + bytes([27 + odd])
        raise AssertionError("no such signature")


async def test_C1_a_signature_that_reads_as_a_cid(stage: Stage) -> None:
    """A wallet with signatures that parse as CIDs can sign in, store and grant."""
    wallet, client, delegate = UnluckyWallet(ENTROPY.token(32)), await stage.client(), Delegate()
    await client.sign_in(wallet)
    await client.secrets().put("API_KEY", "open sesame")
    assert await client.secrets().get("API_KEY") == "open sesame"
    await client.kv().put("a", b"a")
    grants = {f"{client.session.own_space('default').text}/kv/a": [GET]}
    # Written by the independent encoder: what other clients send.
    grant = dag_cbor.decode(base64.urlsafe_b64decode(wallet_token(wallet, delegate.did, grants)))
    token = base64.urlsafe_b64encode(dag_cbor.encode(grant)).decode()
    await stage.register(token)
    read = await stage.invoke(delegate.signer, grants, proofs=[token])
    assert (read.status, read.body) == (200, b"a")


# --- revoked grants -------------------------------------------------------------------------------


def spellings_of(header: str, wallet_address: str) -> dict[str, str]:
    """Return other encodings of the same signed text."""
    cacao = libipld.decode_dag_cbor(base64.urlsafe_b64decode(header))

    def spelled(**changes: Any) -> str:
        payload = {**cacao["p"], **{name: value for name, value in changes.items() if name != "v"}}
        signature = cacao["s"]["s"]
        if "v" in changes:
            signature = signature[:64] + bytes([changes["v"]])
        event = dag_cbor.encode(
            {"h": cacao["h"], "p": payload, "s": {**cacao["s"], "s": signature}}
        )
        return base64.urlsafe_b64encode(event).decode()

    v = cacao["s"]["s"][64]
    return {
        "v of 0 or 1": spelled(v=v - 27),
        "address in lower case": spelled(
            iss=cacao["p"]["iss"].replace(wallet_address, wallet_address.lower())
        ),
        "null for absent": spelled(nbf=None),
        "null scheme": spelled(scheme=None, request_id=None),
        "all of it": spelled(
            v=v - 27,
            nbf=None,
            iss=cacao["p"]["iss"].replace(wallet_address, wallet_address.lower()),
        ),
    }


async def test_a_revoked_grant_in_another_spelling(stage: Stage) -> None:
    """A revoked grant is refused in another spelling (Q25)."""
    owner, delegate = await stage.owner(), Delegate()
    await owner.client.kv().put("a", b"a")
    grants = {f"{owner.space()}/kv/a": [GET]}
    grant = await stage.register(owner.grant(delegate.did, grants))
    address = "0x" + owner.wallet.did.rpartition("0x")[2]
    spellings = spellings_of(grant, address)
    known = spellings.pop("null for absent")
    await stage.register(known)
    assert token_id(known) != token_id(grant)
    read = await stage.invoke(delegate.signer, grants, proofs=[known])
    assert read.status == 200, read.said
    await owner.client.delegations.revoke_by_wallet(token_id(grant), owner.wallet)
    for name, spelling in {**spellings, "registered before": known, "the first": grant}.items():
        assert token_id(spelling) != token_id(grant) or name == "the first"
        reply = await stage.post("/delegate", spelling)
        assert reply.said == (401, f"delegation-revoked: {token_id(spelling)}"), name
        for worker in (0, 1):
            with stage.only(worker):
                assert (
                    await stage.invoke(delegate.signer, grants, proofs=[spelling])
                ).status == 401, name


async def test_a_grant_revoked_under_another_spelling(stage: Stage) -> None:
    """A revocation of one spelling ends all spellings of a grant (Q25)."""
    owner, delegate = await stage.owner(), Delegate()
    grants = {f"{owner.space()}/kv/a": [PUT]}
    grant = await stage.register(owner.grant(delegate.did, grants))
    spelling = spellings_of(grant, "0x" + owner.wallet.did.rpartition("0x")[2])["v of 0 or 1"]
    await stage.register(spelling)
    await owner.client.delegations.revoke_by_wallet(token_id(spelling), owner.wallet)
    for proof in (grant, spelling):
        reply = await stage.invoke(delegate.signer, grants, proofs=[proof], body=b"x")
        assert reply.said == (401, f"delegation-revoked: {token_id(proof)}")


async def test_what_rests_on_a_revoked_grant(stage: Stage) -> None:
    """Delegations below a revoked grant can be neither used nor registered."""
    owner, first, second, third = await stage.owner(), Delegate(), Delegate(), Delegate()
    grants = {f"{owner.space()}/kv/a": [PUT, GET]}
    first.proofs = [await stage.register(owner.grant(first.did, grants))]
    second.proofs = [await stage.register(first.grant(second.did, grants))]
    unregistered = first.grant(third.did, grants)
    await owner.client.delegations.revoke_by_wallet(ids(*first.proofs)[0], owner.wallet)
    for worker in (0, 1):
        with stage.only(worker):
            reply = await stage.invoke(
                second.signer, {f"{owner.space()}/kv/a": [PUT]}, proofs=second.proofs, body=b"x"
            )
            assert reply.status == 401, reply.said
    for token in (unregistered, second.grant(third.did, grants)):
        reply = await stage.post("/delegate", token)
        assert reply.status == 401, reply.said
        assert "revoked" in reply.text


async def test_a_revoked_session_takes_its_grants_along(stage: Stage) -> None:
    """A grant by a session ends with the session."""
    owner, backend = await stage.owner(), Delegate()
    grant = owner.session.grant(
        backend.did, {owner.network: [DECRYPT]}, policy=policy_for("approved")
    )
    backend.proofs = [await stage.register(grant)]
    await stage.attest(backend, owner.network)
    assert opens(await stage.ask(backend, owner), backend, owner)
    await owner.client.delegations.revoke_by_wallet(
        owner.client.session.grants[0].cid, owner.wallet
    )
    expected: dict[Route, int] = {"route": 401, "invoke": 403}
    for route, status in expected.items():
        reply = await stage.ask(backend, owner, route)
        assert reply.status == status, reply.said
        assert "revoked" in reply.text, reply.said


async def test_an_outsider_cannot_revoke(stage: Stage) -> None:
    """A revocation by a key without the right is refused."""
    owner, other, delegate, helper = (
        await stage.owner(),
        await stage.owner(),
        Delegate(),
        Delegate(),
    )
    grants = {f"{owner.space()}/kv/a": [GET]}
    grant = await stage.register(owner.grant(delegate.did, grants))
    delegate.proofs = [grant]
    helper.proofs = [await stage.register(delegate.grant(helper.did, grants))]
    target, session = {f"urn:cid:{token_id(grant)}": [REVOKE]}, other.session
    attempts = [
        key_token(signer, signer.did, target, proofs=proofs)
        for signer, proofs in (
            (new_key(), ()),
            (helper.signer, helper.proofs),
            (session.signer, session.proofs),
        )
    ]
    for token in attempts:
        assert (await stage.post("/revoke", token)).status == 403
    # it stands: no value yet
    assert (await stage.invoke(delegate.signer, grants, proofs=[grant])).status == 404


# --- stretched grants -----------------------------------------------------------------------------


async def test_a_foreign_audience(stage: Stage) -> None:
    """A delegation to another key, and a request to another node, are refused."""
    owner, thief = await stage.owner(), Delegate()
    reply = await stage.ask(thief, owner, proofs=owner.session.proofs)
    assert reply.said == (401, "Unauthorized Invoker")
    reply = await stage.ask(owner.session, owner, audience=new_key().did)
    assert reply.said == (401, "invocation audience does not match this node")


async def test_times_are_kept(stage: Stage) -> None:
    """Tokens and grants outside their validity, or with too long a lifetime, are refused."""
    owner = await stage.owner()
    session, resource = owner.session, f"{owner.space()}/kv/a"
    over = await stage.invoke(session.signer, {resource: [GET]}, proofs=session.proofs, ttl_s=-1)
    assert over.said == (401, "Invocation expired or not yet valid")
    early = await stage.invoke(
        session.signer,
        {resource: [GET]},
        proofs=session.proofs,
        not_before=time.time() + 30,
        ttl_s=60,
    )
    assert early.status == 401
    for ttl_s in (302, 86_400, 10**9, 10**11):
        long = await stage.invoke(
            session.signer, {resource: [GET]}, proofs=session.proofs, ttl_s=ttl_s
        )
        assert long.status == 401, long.said
    assert (await stage.ask(session, owner, ttl_s=310)).said == (401, "invocation expired")
    ended = owner.grant(Delegate().did, {resource: [GET]}, ttl_s=-10)
    assert (await stage.post("/delegate", ended)).status == 401


async def test_a_child_is_no_wider_than_its_parent(stage: Stage) -> None:
    """A delegation wider than its parent is refused."""
    owner, delegate, helper = await stage.owner(), Delegate(), Delegate()
    space = owner.space()
    delegate.proofs = [
        await stage.register(owner.grant(delegate.did, {f"{space}/kv/notes/": [GET]}, ttl_s=600))
    ]
    wider = [
        {f"{space}/kv/notes/": [PUT]},
        {f"{space}/kv/": [GET]},
        {f"{space}/kv": [GET]},
        {f"{space}/kv/notesandmore": [GET]},
        {f"{space}/kv/notes/../other": [GET]},
        {f"{space}/kv/notes/": ["tinycloud.kv/*"]},
        {f"{owner.space('secrets')}/kv/notes/": [GET]},
        {owner.network: [DECRYPT]},
    ]
    for grants in wider:
        reply = await stage.post("/delegate", delegate.grant(helper.did, grants, ttl_s=60))
        assert reply.status == 401, (grants, reply.said)
    longer = delegate.grant(helper.did, {f"{space}/kv/notes/": [GET]}, ttl_s=3600)
    assert (await stage.post("/delegate", longer)).status == 401


async def test_a_gap_in_the_chain(stage: Stage) -> None:
    """A chain that omits a delegation is refused."""
    owner, delegate, helper = await stage.owner(), Delegate(), Delegate()
    grants = {f"{owner.space()}/kv/a": [GET]}
    top = await stage.register(owner.grant(delegate.did, grants))
    middle = key_token(delegate.signer, helper.did, grants, proofs=[top], ttl_s=600)  # never posted
    target = Delegate()
    skipping = key_token(helper.signer, target.did, grants, proofs=[top], ttl_s=60)
    assert (await stage.post("/delegate", skipping)).said == (
        401,
        f"Unauthorized Delegator: {helper.did}",
    )
    resting = key_token(helper.signer, target.did, grants, proofs=[middle], ttl_s=60)
    assert (await stage.post("/delegate", resting)).said == (401, "Cannot find parent delegation")
    for proofs in ([middle], [top, middle]):
        reply = await stage.invoke(helper.signer, grants, proofs=proofs)
        assert reply.said == (401, "Cannot find parent delegation")
    assert (await stage.invoke(helper.signer, grants, proofs=[top])).said == (
        401,
        "Unauthorized Invoker",
    )


async def test_authority_is_not_assembled(stage: Stage) -> None:
    """Two grants with half of the rights each do not add up."""
    owner, delegate = await stage.owner(), Delegate()
    space = owner.space()
    halves = [{f"{space}/kv/a": [GET]}, {f"{space}/kv/b": [PUT]}]
    delegate.proofs = [await stage.register(owner.grant(delegate.did, grants)) for grants in halves]
    reply = await stage.invoke(
        delegate.signer, {f"{space}/kv/a": [PUT]}, proofs=delegate.proofs, body=b"x"
    )
    assert reply.said == (401, f"Unauthorized Action: {space}/kv/a / {PUT}")


async def test_a_forged_delegation(stage: Stage) -> None:
    """A delegation without a valid signature of its issuer is refused."""
    owner, thief = await stage.owner(), Delegate()
    grants = {f"{owner.space()}/kv/a": [GET]}
    good = owner.session.grant(thief.did, grants)
    head, payload, signature = good.split(".")
    flipped = ("B" if signature[0] != "B" else "C") + signature[1:]
    none = libipld.encode_multibase("u", b'{"alg":"none","typ":"JWT","ucv":"0.10.0"}')[1:]
    in_its_name = key_token(
        thief.signer,
        thief.did,
        grants,
        proofs=owner.session.proofs,
        issuer=owner.session.signer.did_url,
    )
    for token in (
        f"{head}.{payload}.{flipped}",
        f"{head}.{payload}.",
        f"{none}.{payload}.",
        in_its_name,
    ):
        reply: Reply = await stage.post("/delegate", token)
        assert reply.status == 401, reply.said
