"""Attempts to get a key without being the owner or approved code."""

import pytest
from attacks.held_store import HeldStage
from attacks.parties import (
    DECRYPT,
    GET,
    READ_CAPABILITIES,
    ROUTES,
    SET_POLICY,
    VALUE,
    Delegate,
    Owner,
    Route,
    Stage,
    ids,
    opens,
    policy_for,
    put_policy,
    refused,
)
from running_node import new_key

from capabilities.resources import parse_network_id
from encryption_network.policy import Policy
from sealspace.wallets import new_wallet
from spaces.documents.network_rows import network_row_key
from spaces.keyspace import RELEASE_RECORD_KEY, WITHDRAWALS_KEY
from spaces.store.contract import Commit, Put

pytestmark = pytest.mark.slow


async def approved(
    stage: Stage, owner: Owner, *, program: str = "approved", policy: Policy | None = None
) -> Delegate:
    """A backend with a grant that approves its code, and with evidence."""
    delegate = Delegate()
    grant = owner.grant_decrypt(delegate.did, policy=policy or policy_for("approved"))
    delegate.proofs = [await stage.register(grant)]
    await stage.attest(delegate, owner.network, program=program)
    return delegate


@pytest.mark.parametrize("route", ROUTES)
async def test_the_way_in_is_open_to_the_approved(stage: Stage, route: Route) -> None:
    """As a control, approved code gets the key on both routes."""
    owner = await stage.owner()
    delegate = await approved(stage, owner)
    assert opens(await stage.ask(delegate, owner, route), delegate, owner)


@pytest.mark.parametrize("route", ROUTES)
async def test_a_grant_alone_opens_nothing(stage: Stage, route: Route) -> None:
    """A delegate without evidence gets no key on either route."""
    owner = await stage.owner()
    delegate = Delegate()
    delegate.proofs = [
        await stage.register(owner.grant_decrypt(delegate.did, policy=policy_for("approved")))
    ]
    assert (await stage.ask(delegate, owner, route)).said == refused("not_attested", route)


@pytest.mark.parametrize("route", ROUTES)
async def test_a_genuine_quote_without_approval_opens_nothing(stage: Stage, route: Route) -> None:
    """Attested code that the owner did not approve gets no key."""
    owner = await stage.owner()
    delegate = Delegate()
    delegate.proofs = [await stage.register(owner.grant_decrypt(delegate.did))]
    await stage.attest(delegate, owner.network)
    assert (await stage.ask(delegate, owner, route)).said == refused("no_policy", route)


@pytest.mark.parametrize("route", ROUTES)
async def test_other_code_is_refused(stage: Stage, route: Route) -> None:
    """Code with other measurements than the approved ones gets no key."""
    owner = await stage.owner()
    delegate = await approved(stage, owner, program="other")
    assert (await stage.ask(delegate, owner, route)).said == refused("measurement", route)


async def test_registers_of_two_approved_images_do_not_mix(stage: Stage) -> None:
    """An image with registers of two approved images gets no key."""
    owner = await stage.owner()
    one, other = policy_for("one").measurements[0], policy_for("other").measurements[0]
    mixed = policy_for("one", "other")
    delegate = Delegate()
    delegate.proofs = [await stage.register(owner.grant_decrypt(delegate.did, policy=mixed))]
    nonce = await stage.nonce(delegate.did)
    bound = stage.report_data(delegate.did, delegate.receiver.public_key, nonce)
    chimera = type(one)(
        mrtd=one.mrtd, rtmr0=one.rtmr0, rtmr1=one.rtmr1, rtmr2=other.rtmr2, rtmr3=other.rtmr3
    )
    reply = await stage.submit_quote(
        delegate, owner.network, nonce=nonce, quote=stage.platform.mint_quote(chimera, bound)
    )
    assert reply.status == 200, reply.said
    assert (await stage.ask(delegate, owner)).said == refused("measurement")


@pytest.mark.parametrize("route", ROUTES)
async def test_a_receiver_key_that_was_not_attested(stage: Stage, route: Route) -> None:
    """A request with a receiver key that was not attested gets no key."""
    owner = await stage.owner()
    delegate = await approved(stage, owner)
    thief = Delegate(delegate.signer, delegate.proofs)
    assert (await stage.ask(thief, owner, route)).said == refused("receiver", route)


@pytest.mark.parametrize("route", ROUTES)
async def test_a_share_key_signed_by_the_wallet_needs_evidence(stage: Stage, route: Route) -> None:
    """A key with a wallet's grant but no sign-in is not in person (IP2)."""
    owner = await stage.owner()
    share = Delegate()
    share.proofs = [await stage.register(owner.grant_decrypt(share.did_url))]
    reply = await stage.ask(share, owner, route)
    assert reply.status == refused("", route)[0]
    assert reply.text in ("release refused: not_attested", "release refused: no_policy")


async def test_a_session_longer_than_thirty_days_is_not_in_person(stage: Stage) -> None:
    """A sign-in of more than 30 days is not in person (IP2)."""
    owner = await stage.owner()
    for ttl_s in (None, 31 * 86_400):
        key = Delegate()
        key.proofs = [await stage.register(owner.sign_in(key.did_url, ttl_s=ttl_s))]
        assert (await stage.ask(key, owner)).said == refused("no_policy")


async def test_a_sign_in_with_a_parent_is_not_in_person(stage: Stage) -> None:
    """A sign-in that cites a delegation is not in person (IP2)."""
    owner = await stage.owner()
    parent = await stage.register(owner.grant(owner.wallet.did, {f"{owner.space()}/kv": [GET]}))
    key = Delegate()
    key.proofs = [await stage.register(owner.sign_in(key.did_url, ttl_s=600, parents=ids(parent)))]
    assert (await stage.ask(key, owner)).said == refused("no_policy")


async def test_a_sign_in_to_another_owner_does_not_count(stage: Stage) -> None:
    """A sign-in by another wallet is not in person (IP2)."""
    owner, accomplice = await stage.owner(), await stage.owner()
    key = accomplice.session
    grant = await stage.register(owner.grant_decrypt(key.did_url))
    for proofs in ([grant], [grant, *key.proofs], [*key.proofs, grant]):
        assert (await stage.ask(key, owner, proofs=proofs)).said == refused("no_policy")


@pytest.mark.parametrize("route", ROUTES)
async def test_a_sub_delegation_of_a_session_is_not_the_session(stage: Stage, route: Route) -> None:
    """A delegate of the session's key is not in person (IP2)."""
    owner = await stage.owner()
    helper = Delegate()
    grants = {owner.network: [DECRYPT], f"{owner.space()}/capabilities": [READ_CAPABILITIES]}
    helper.proofs = [await stage.register(owner.session.grant(helper.did, grants))]
    assert (await stage.ask(helper, owner, route)).said == refused("no_policy", route)


@pytest.mark.parametrize("to_itself", [True, False])
async def test_a_delegate_cannot_approve_itself(stage: Stage, to_itself: bool) -> None:
    """A delegate's own policy does not approve its code."""
    owner = await stage.owner()
    backend = Delegate()
    backend.proofs = [await stage.register(owner.grant_decrypt(backend.did))]
    helper = Delegate(backend.signer) if to_itself else Delegate()
    own = backend.grant(helper.did, {owner.network: [DECRYPT]}, policy=policy_for("mine"))
    helper.proofs = [await stage.register(own)]
    await stage.attest(helper, owner.network, program="mine")
    assert (await stage.ask(helper, owner)).said == refused("no_policy")
    if to_itself:
        both = [*backend.proofs, *helper.proofs]
        assert (await stage.ask(helper, owner, proofs=both)).said == refused("no_policy")


async def test_a_delegate_can_only_narrow(stage: Stage) -> None:
    """If two policies of a chain apply, code must satisfy both."""
    owner = await stage.owner()
    backend, helper = Delegate(), Delegate()
    backend.proofs = [
        await stage.register(owner.grant_decrypt(backend.did, policy=policy_for("approved")))
    ]
    wider = backend.grant(
        helper.did, {owner.network: [DECRYPT]}, policy=policy_for("approved", "mine")
    )
    helper.proofs = [await stage.register(wider)]
    await stage.attest(helper, owner.network, program="mine")
    assert (await stage.ask(helper, owner)).said == refused("measurement")


async def test_a_share_key_cannot_approve_code(stage: Stage) -> None:
    """A key without a sign-in cannot approve a helper's code."""
    owner = await stage.owner()
    share, helper = Delegate(), Delegate()
    share.proofs = [await stage.register(owner.grant_decrypt(share.did, ttl_s=3600))]
    own = share.grant(helper.did, {owner.network: [DECRYPT]}, policy=policy_for("mine"))
    helper.proofs = [await stage.register(own)]
    await stage.attest(helper, owner.network, program="mine")
    assert (await stage.ask(helper, owner)).said == refused("no_policy")


async def test_a_list_for_another_purpose_is_no_approval(stage: Stage) -> None:
    """An approval of code for a value does not approve decryption."""
    owner = await stage.owner()
    backend = Delegate()
    decrypt = await stage.register(owner.grant_decrypt(backend.did))
    listed = await stage.register(
        owner.grant(backend.did, {owner.secret: [GET]}, policy=policy_for("mine"))
    )
    backend.proofs = [decrypt]
    await stage.attest(backend, owner.network, program="mine")
    assert (await stage.ask(backend, owner, proofs=[decrypt, listed])).said == refused("no_policy")


async def test_a_list_for_another_client_is_no_approval(stage: Stage) -> None:
    """An approval of one delegate's code does not approve another delegate's code."""
    owner = await stage.owner()
    other, backend = Delegate(), Delegate()
    listed = await stage.register(owner.grant_decrypt(other.did, policy=policy_for("mine")))
    plain = await stage.register(owner.grant_decrypt(backend.did))
    backend.proofs = [plain]
    await stage.attest(backend, owner.network, program="mine")
    # Root authority over nothing: a grant of a space of the delegate's own may cite whatever is
    # registered.
    space = f"tinycloud:{backend.did.removeprefix('did:')}:default"
    decoy = await stage.register(
        backend.grant(backend.did, {f"{space}/kv": [GET]}, proofs=[listed], ttl_s=60)
    )
    for proofs in ([plain, listed], [plain, decoy], [decoy]):
        reply = await stage.ask(backend, owner, proofs=proofs)
        assert reply.status == 401
        assert reply.text in (
            "release refused: no_policy",
            "Unauthorized Invoker",
            f"Unauthorized Action: {owner.network} / {DECRYPT}",
        )


async def test_the_in_person_way_ends_with_the_session(stage: Stage) -> None:
    """A key whose session was revoked is not in person by another grant (IP2)."""
    owner = await stage.owner()
    session = owner.session
    spare = await stage.register(owner.grant_decrypt(session.did_url))
    assert opens(await stage.ask(session, owner, proofs=[spare]), session, owner)
    await owner.client.delegations.revoke_by_wallet(
        owner.client.session.grants[0].cid, owner.wallet
    )
    for route in ROUTES:
        assert (await stage.ask(session, owner, route, proofs=[spare])).said == refused(
            "no_policy", route
        )


async def test_what_a_revoked_session_approved_counts_no_more(stage: Stage) -> None:
    """An approval by a revoked session does not count."""
    owner = await stage.owner()
    session, backend = owner.session, Delegate()
    spare = await stage.register(owner.grant_decrypt(session.did_url))
    listed = session.grant(
        backend.did,
        {owner.network: [DECRYPT]},
        policy=policy_for("approved"),
        proofs=[spare],
        ttl_s=600,
    )
    backend.proofs = [await stage.register(listed)]
    await stage.attest(backend, owner.network)
    assert opens(await stage.ask(backend, owner), backend, owner)
    await owner.client.delegations.revoke_by_wallet(
        owner.client.session.grants[0].cid, owner.wallet
    )
    assert (await stage.ask(backend, owner)).said == refused("no_policy")


async def test_a_delegate_cannot_write_the_owner_s_policy(stage: Stage) -> None:
    """A delegate's policy on the network does not approve its code."""
    owner = await stage.owner()
    backend = Delegate()
    rights = {owner.network: [DECRYPT, SET_POLICY]}
    backend.proofs = [await stage.register(owner.grant(backend.did, rights))]
    reply = await put_policy(stage, backend, owner, policy_for("mine"))
    assert (reply.status, reply.value["code"]) == (403, "policy-not-in-person")
    by_session = Delegate()
    by_session.proofs = [
        await stage.register(
            backend.grant(by_session.did, rights, ttl_s=60),
        )
    ]
    assert (await put_policy(stage, by_session, owner, policy_for("mine"))).status == 403
    await stage.attest(backend, owner.network, program="mine")
    assert (await stage.ask(backend, owner)).said == refused("no_policy")


async def test_evidence_of_another_holder_is_of_no_use(stage: Stage) -> None:
    """A delegate cannot use a receiver key that another one attested."""
    owner = await stage.owner()
    backend = await approved(stage, owner)
    thief = Delegate(receiver=backend.receiver)
    thief.proofs = [
        await stage.register(owner.grant_decrypt(thief.did, policy=policy_for("approved")))
    ]
    assert (await stage.ask(thief, owner)).said == refused("not_attested")


async def test_a_path_in_the_policy_binds_the_key(stage: Stage) -> None:
    """A backend approved for one path gets no key of another value."""
    owner = await stage.owner()
    delegate = await approved(stage, owner, policy=policy_for("approved", paths=(owner.secret,)))
    assert opens(await stage.ask(delegate, owner), delegate, owner)
    elsewhere = await owner.client.encryption.encrypt(
        b"another", network=owner.client.encryption.network()
    )
    for route in ROUTES:
        assert (await stage.ask(delegate, owner, route, envelope=elsewhere)).said == refused(
            "path", route
        )


async def test_a_low_order_receiver_key_gets_nothing(stage: Stage) -> None:
    """A receiver key of low order is refused."""
    owner = await stage.owner()
    for low_order in (
        bytes(32),
        (1).to_bytes(32, "little"),
        (2**255 - 19 - 1).to_bytes(32, "little"),
    ):
        expected: dict[Route, int] = {"route": 500, "invoke": 403}
        for route, status in expected.items():
            reply = await stage.ask(owner.session, owner, route, receiver=low_order)
            assert reply.status == status
            assert reply.text.startswith("key backend error: ")


async def test_an_outsider_gets_the_chain_s_answer(stage: Stage) -> None:
    """An outsider with a valid quote but without a grant gets no key."""
    owner, stranger_owner = await stage.owner(), await stage.owner()
    outsider = await approved(stage, stranger_owner)
    reply = await stage.ask(outsider, owner, proofs=[])
    assert reply.said == (401, "Cannot find parent delegation")
    reply = await stage.ask(outsider, owner)
    assert reply.said == (401, f"Unauthorized Action: {owner.network} / {DECRYPT}")


async def test_a_key_that_owns_a_network_cannot_lend_its_person(stage: Stage) -> None:
    """A delegate of an owner by did:key needs evidence (IP1)."""
    client = await stage.client()
    key = new_key()
    await client.sign_in_with_key(key, spaces=["secrets"])
    await client.encryption.ensure_network()
    network = client.encryption.network()
    envelope = await client.encryption.encrypt(VALUE.encode(), network=network)
    owner = Owner(client, new_wallet(), envelope)
    itself, delegate = Delegate(key), Delegate()
    assert opens(await stage.ask(itself, owner), itself, owner)
    delegate.proofs = [await stage.register(itself.grant(delegate.did, {network.text: [DECRYPT]}))]
    for route in ROUTES:
        assert (await stage.ask(delegate, owner, route)).said == refused("no_policy", route)
    listed = itself.grant(delegate.did, {network.text: [DECRYPT]}, policy=policy_for("approved"))
    delegate.proofs = [await stage.register(listed)]
    assert (await stage.ask(delegate, owner)).said == refused("not_attested")


@pytest.mark.parametrize("missing", ["record", "withdrawals", "network"])
@pytest.mark.parametrize("how", ["deleted", "damaged"])
async def test_rows_that_are_missing_or_damaged_release_nothing(
    held: HeldStage, missing: str, how: str
) -> None:
    """A missing or damaged policy row refuses every key."""
    owner = await held.owner()
    delegate = await approved(held, owner)
    assert opens(await held.ask(delegate, owner), delegate, owner)
    network = parse_network_id(owner.network)
    keys = {
        "record": RELEASE_RECORD_KEY,
        "withdrawals": WITHDRAWALS_KEY,
        "network": network_row_key(network),
    }
    await held.store.commit(
        Commit(puts=(Put(keys[missing], None if how == "deleted" else b"\xc1"),))
    )
    for who in (delegate, owner.session):
        reply = await held.ask(who, owner)
        assert reply.status >= 400
        assert "wrappedKey" not in reply.text
    if missing == "record":
        nonce = await held.nonce(delegate.did)
        quote = held.quote(delegate.did, delegate.receiver.public_key, nonce)
        assert (
            await held.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)
        ).status >= 500
