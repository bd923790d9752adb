"""Attempts to pass for the owner by grants that resemble a sign-in, or by ended sign-ins (IP2)."""

from collections.abc import Callable

import pytest
from attacks.held_store import HeldStage
from attacks.parties import (
    READ_CAPABILITIES,
    ROUTES,
    Delegate,
    Owner,
    Route,
    Stage,
    opens,
    policy_for,
    put_policy,
    refused,
)

pytestmark = pytest.mark.slow

DAY_S = 86_400


async def test_a_sign_in_opens_without_evidence(stage: Stage) -> None:
    """As a control, a wallet's sign-in opens a secret without evidence on both routes."""
    owner, key = await stage.owner(), Delegate()
    key.proofs = [await stage.register(owner.sign_in(key.did_url))]
    for route in ROUTES:
        assert opens(await stage.ask(key, owner, route), key, owner)


@pytest.mark.parametrize("route", ROUTES)
async def test_measurements_bind_a_backend_that_also_reads_capabilities(
    stage: Stage, route: Route
) -> None:
    """A grant with measurements and capabilities/read still needs evidence (IP2)."""
    owner, backend = await stage.owner(), Delegate()
    backend.proofs = [
        await stage.register(owner.sign_in(backend.did, policy=policy_for("approved")))
    ]
    assert (await stage.ask(backend, owner, route)).said == refused("not_attested", route)


@pytest.mark.parametrize("route", ROUTES)
async def test_a_harmless_grant_does_not_lift_measurements(stage: Stage, route: Route) -> None:
    """A second grant without measurements does not lift those of the first (IP2)."""
    owner, backend = await stage.owner(), Delegate()
    listed = await stage.register(owner.grant_decrypt(backend.did, policy=policy_for("approved")))
    grants = {f"{owner.space('notes')}/capabilities": [READ_CAPABILITIES]}
    harmless = await stage.register(owner.grant(backend.did, grants))
    for proofs in ([listed], [listed, harmless], [harmless, listed]):
        assert (await stage.ask(backend, owner, route, proofs=proofs)).said == refused(
            "not_attested", route
        )


@pytest.mark.parametrize("route", ROUTES)
async def test_a_sign_in_with_a_policy_is_nobody_in_person(stage: Stage, route: Route) -> None:
    """A key with a sign-in that has a policy is not in person (IP2)."""
    owner, key = await stage.owner(), Delegate()
    listed = await stage.register(owner.sign_in(key.did_url, policy=policy_for("approved")))
    assert (await stage.ask(key, owner, route, proofs=[listed])).said == refused(
        "not_attested", route
    )
    plain = await stage.register(owner.sign_in(key.did_url))
    for proofs in ([listed], [listed, plain], [plain, listed]):
        assert (await stage.ask(key, owner, route, proofs=proofs)).said == refused(
            "not_attested", route
        )
    assert opens(await stage.ask(key, owner, route, proofs=[plain]), key, owner)


async def test_a_policy_in_the_standing_sign_in_counts_too(stage: Stage) -> None:
    """A policy in a live sign-in also applies to other grants of the key (IP2)."""
    owner, key = await stage.owner(), Delegate()
    await stage.register(owner.sign_in(key.did_url, policy=policy_for("approved")))
    spare = await stage.register(owner.grant_decrypt(key.did_url))
    assert (await stage.ask(key, owner, proofs=[spare])).said == refused("no_policy")


AUDIENCES: dict[str, Callable[[Delegate], str]] = {
    "the DID as given": lambda key: key.did,
    "another fragment": lambda key: f"{key.did}#{Delegate().did.removeprefix('did:key:')}",
    "an empty fragment": lambda key: f"{key.did}#",
    "a longer fragment": lambda key: f"{key.did_url}x",
}


@pytest.mark.parametrize("audience", AUDIENCES.values(), ids=AUDIENCES)
async def test_only_a_key_s_own_did_url_is_signed_in(
    stage: Stage, audience: Callable[[Delegate], str]
) -> None:
    """A grant that names the backend's DID without its fragment is no sign-in (IP2)."""
    owner, backend = await stage.owner(), Delegate()
    backend.proofs = [await stage.register(owner.sign_in(audience(backend)))]
    assert (await stage.ask(backend, owner)).said == refused("no_policy")


async def test_an_old_grant_posted_today_is_not_in_person(stage: Stage) -> None:
    """A sign-in of ten years ago that is posted today is not in person (IP2)."""
    owner, thief = await stage.owner(), Delegate()
    for age_s in (3650 * DAY_S, 2 * DAY_S):
        old = owner.sign_in(thief.did_url, ttl_s=29 * DAY_S, age_s=age_s)
        thief.proofs = [await stage.register(old)]
        assert (await stage.ask(thief, owner)).said == refused("no_policy")
    thief.proofs = [
        await stage.register(owner.sign_in(thief.did_url, ttl_s=29 * DAY_S, age_s=DAY_S - 60))
    ]
    assert opens(await stage.ask(thief, owner), thief, owner)


async def test_a_sign_in_of_the_future_is_not_in_person_yet(held: HeldStage) -> None:
    """A sign-in dated in the future is not in person yet (IP2)."""
    owner, key = await held.owner(), Delegate()
    key.proofs = [await held.register(owner.sign_in(key.did_url, age_s=-420))]
    spare = [await held.register(owner.grant_decrypt(key.did_url))]
    for proofs in (key.proofs, spare):
        assert (await held.ask(key, owner, proofs=proofs)).said == refused("no_policy")
    held.clock.advance(200)
    for proofs in (key.proofs, spare):
        assert opens(await held.ask(key, owner, proofs=proofs, ttl_s=450), key, owner)


async def test_a_clock_that_was_ahead_leaves_no_long_sign_in(held: HeldStage) -> None:
    """A sign-in for a year is not in person, even if the clock was ahead (IP2)."""
    owner, key = await held.owner(), Delegate()
    held.clock.advance(340 * DAY_S)
    key.proofs = [await held.register(owner.sign_in(key.did_url, ttl_s=365 * DAY_S))]
    held.clock.advance(-340 * DAY_S)
    assert (await held.ask(key, owner)).said == refused("no_policy")


async def approves_nothing(stage: Stage, owner: Owner, key: Delegate) -> None:
    """Expect that neither the key's approval nor its policy has an effect."""
    backend = Delegate()
    granted = key.grant(
        backend.did, {owner.network: ["tinycloud.encryption/decrypt"]}, policy=policy_for("mine")
    )
    backend.proofs = [await stage.register(granted)]
    await stage.attest(backend, owner.network, program="mine")
    assert (await stage.ask(backend, owner)).said == refused("no_policy")


@pytest.mark.parametrize("how", ["the DID as given", "old"])
async def test_a_client_that_is_not_in_person_approves_no_code(stage: Stage, how: str) -> None:
    """A backend whose grant resembles a sign-in cannot approve its own code (RL4)."""
    owner, backend = await stage.owner(), Delegate()
    grant = (
        owner.sign_in(backend.did)
        if how != "old"
        else owner.sign_in(backend.did_url, ttl_s=1200, age_s=31 * DAY_S)
    )
    backend.proofs = [await stage.register(grant)]
    await approves_nothing(stage, owner, backend)


async def test_a_backend_that_reads_capabilities_writes_no_policy(stage: Stage) -> None:
    """A backend cannot replace the owner's policy by its grant (RL17)."""
    owner, backend = await stage.owner(), Delegate()
    grants = {
        owner.network: ["tinycloud.encryption/decrypt", "sealspace.encryption/policy"],
        f"{owner.space()}/capabilities": [READ_CAPABILITIES],
    }
    backend.proofs = [await stage.register(owner.grant(backend.did, grants))]
    reply = await put_policy(stage, backend, owner, policy_for("mine"))
    assert reply.status == 403, reply.said
    assert reply.value["code"] == "policy-not-in-person"
