"""Attacks of outsiders and other delegates on the grants of a backend."""

import asyncio
from dataclasses import replace

import pytest
from attacks.held_store import HeldStage
from attacks.parties import DECRYPT, ENTROPY, GET, SECRET, SETTINGS, VALUE, Owner, Stage, policy_for
from backend_site import Domain

from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.encryption import envelope_bytes
from sealspace.errors import InvalidEnvelope
from sealspace.session import key_session
from sealspace.wire.portable import PortableDelegation
from tee_backend.backend import Backend
from tee_backend.evidence.simulated import measurements_of

pytestmark = pytest.mark.slow


async def _backend(stage: Stage, program: str = "approved") -> tuple[Client, Backend]:
    clock = stage.clock if isinstance(stage, HeldStage) else None
    client = await stage.clients.enter_async_context(
        Client(stage.url, session=key_session(ENTROPY.token(32)), settings=SETTINGS, clock=clock)
    )
    return client, Backend(client, Domain(stage.platform, measurements_of(program)), clock=clock)


async def _grant(
    owner: Owner, did: str, *, name: str = SECRET, program: str = "approved", ttl_s: float = 3600
) -> PortableDelegation:
    path = owner.client.secrets().resource(name)
    wanted = [allow(path, GET), allow(owner.network, DECRYPT)]
    policy = replace(policy_for(program), paths=(path,))
    return await owner.client.delegations.delegate(did, wanted, ttl_s=ttl_s, policy=policy)


async def test_grants_that_arrive_together_are_all_held(stage: Stage) -> None:
    """Grants that arrive concurrently are all stored (AT56)."""
    _, backend = await _backend(stage)
    owner, outsider = await stage.owner(), await stage.owner()
    both = [await _grant(one, backend.did) for one in (owner, outsider)]
    await asyncio.gather(*(backend.accept(one) for one in both))
    assert set(backend.owners) == {owner.client.session.owner, outsider.client.session.owner}
    for one in (owner, outsider):
        assert await backend.read_secret(one.client.session.owner, SECRET) == VALUE


async def test_another_delegate_s_grant_hides_none(stage: Stage) -> None:
    """Another delegate's grant does not hide the owner's own (AT56)."""
    _, backend = await _backend(stage)
    other, _ = await _backend(stage, "another")
    owner = await stage.owner()
    await owner.client.secrets().put("OTHER_KEY", "another value")
    await backend.accept(await _grant(owner, backend.did))
    assert await backend.read_secret(owner.client.session.owner, SECRET) == VALUE

    theirs = await _grant(owner, other.session.did, name="OTHER_KEY", program="another")
    await other.delegations.accept(theirs)
    handed_on = await other.delegations.delegate(backend.did, [allow(owner.network, DECRYPT)])
    await backend.accept(replace(handed_on, owner=owner.client.session.owner))
    assert await backend.read_secret(owner.client.session.owner, SECRET) == VALUE
    await other.delegations.revoke(handed_on)
    assert await backend.read_secret(owner.client.session.owner, SECRET) == VALUE


async def test_an_envelope_of_another_owner_is_no_secret_of_an_outsider(stage: Stage) -> None:
    """A backend does not open an owner's envelope for an outsider who copied it (J15)."""
    _, backend = await _backend(stage)
    owner, outsider = await stage.owner(), await stage.owner()
    for one in (owner, outsider):
        await backend.accept(await _grant(one, backend.did))
    path = owner.secret.partition("/kv/")[2]
    copied = replace(owner.envelope, aad=None)
    await outsider.client.kv("secrets").put(path, envelope_bytes(copied).decode())
    with pytest.raises(InvalidEnvelope):
        await backend.read_secret(outsider.client.session.owner, SECRET)
    assert await backend.read_secret(owner.client.session.owner, SECRET) == VALUE


async def test_evidence_is_renewed_under_a_grant_that_stands(held: HeldStage) -> None:
    """Another delegate's revoked grant does not stop a renewal (AT56)."""
    _, backend = await _backend(held)
    other, _ = await _backend(held, "another")
    owner = await held.owner()
    await other.delegations.accept(
        await _grant(owner, other.session.did, name="OTHER_KEY", program="another")
    )
    await backend.accept(await _grant(owner, backend.did))
    handed_on = await other.delegations.delegate(backend.did, [allow(owner.network, DECRYPT)])
    await backend.accept(replace(handed_on, owner=owner.client.session.owner))
    await other.delegations.revoke(handed_on)
    standing = backend.attestation
    assert standing is not None
    held.clock.advance(standing.expires_at - held.clock.now() - 1)
    assert await backend.read_secret(owner.client.session.owner, SECRET) == VALUE
    assert backend.attestation != standing


async def test_keys_of_owners_whose_grants_ended_are_forgotten(held: HeldStage) -> None:
    """A backend drops network keys of owners without a live grant (AT54)."""
    client, backend = await _backend(held)
    outsiders = [await held.owner() for _ in range(3)]
    for one in outsiders:
        await backend.accept(await _grant(one, backend.did, ttl_s=30))
        assert await backend.read_secret(one.client.session.owner, SECRET) == VALUE
    assert len(client.session.pins) == 3
    held.clock.advance(40)  # less than a token lives: owners go by another clock
    owner = await held.owner()
    await backend.accept(await _grant(owner, backend.did))
    assert await backend.read_secret(owner.client.session.owner, SECRET) == VALUE
    assert [pin.network for pin in client.session.pins] == [owner.network]
