"""Tests of a session that lacks a right, and of the sign-in that adds exactly this right."""

import pytest

from capabilities.abilities import DECRYPT, KV_GET, KV_PUT
from sealspace.apps.escalation import sign_in_for
from sealspace.client import SignIn
from sealspace.delegations import allow
from sealspace.errors import InvalidInput, NotGranted


async def test_what_is_missing_is_named_and_signed_for(bench) -> None:
    """The error names the permission and the resource, and the sign-in adds exactly these
    (MF13)."""
    owner, wallet = await bench.owner(SignIn(space="notes", secrets=False))
    before = {(one.resource.text, one.ability) for one in owner.session.grants[0].capabilities}
    photo = f"{owner.session.own_space('photos').text}/kv/a"
    with pytest.raises(NotGranted) as refusal:
        await owner.kv("photos").put("a", b"1")
    assert refusal.value.message == f"no grant of this session covers {KV_PUT} on {photo}"
    assert "sign in again with the missing rights" in refusal.value.hint
    module = sign_in_for.__module__
    assert f"`from {module} import sign_in_for`" in refusal.value.hint
    assert refusal.value.missing == (allow(photo, KV_PUT),)
    await owner.sign_in(wallet, sign_in_for(owner.session, refusal.value.missing))
    await owner.kv("photos").put("a", b"1")
    await owner.kv().put("b", b"1")
    assert owner.kv().space.name == "notes"
    after = {(one.resource.text, one.ability) for one in owner.session.grants[0].capabilities}
    assert after - before == {(photo, KV_PUT)}
    assert before < after
    with pytest.raises(NotGranted):
        await owner.kv("photos").get("a")
    assert wallet.signatures == 2


async def test_several_missing_permissions_are_all_named(bench) -> None:
    """Every missing permission is named, and no present one (MF13)."""
    owner, _ = await bench.owner(SignIn(space="notes", secrets=False))
    photos = owner.session.own_space("photos").text
    wanted = [
        allow(f"{owner.kv().space.text}/kv/a", KV_GET),
        *(allow(f"{photos}/kv/a", ability) for ability in (KV_GET, KV_PUT, KV_GET)),
    ]
    with pytest.raises(NotGranted) as refusal:
        await owner.delegations.delegate(
            "did:key:z6MkuEUybFgDhSyrmvPMUbezRNH8hHdv8PYpg6PsTcrLXswS", wanted[:3]
        )
    lines = [f"{ability} on {photos}/kv/a" for ability in (KV_GET, KV_PUT)]
    assert refusal.value.message == f"no grant of this session covers {lines[0]}; {lines[1]}"
    assert refusal.value.__notes__ == [f"missing: {line}" for line in lines]
    asked = sign_in_for(owner.session, refusal.value.missing, ttl_s=60)
    assert asked.ttl_s == 60
    assert asked.space == owner.kv().space.text


async def test_a_message_names_a_few_and_the_error_all(bench) -> None:
    """The message names a few of many missing permissions, and the error has all (MF13)."""
    owner, _ = await bench.owner(SignIn(space="notes", secrets=False))
    photos = owner.session.own_space("photos").text
    with pytest.raises(NotGranted) as refusal:
        owner.session.proofs_for(
            [allow(f"{photos}/kv/{n}", KV_GET) for n in range(9)], now=bench.clock.now()
        )
    assert refusal.value.message.count(KV_GET) == 4
    assert refusal.value.message.endswith("; and 5 more")
    assert len(refusal.value.missing) == len(refusal.value.__notes__) == 9


async def test_reading_a_secret_needs_two_rights_named_at_once(bench) -> None:
    """A session without the rights to read and to open a secret is told both at once (MF13,
    EN27)."""
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "value")
    other = await bench.client()
    await other.sign_in(wallet, SignIn(space="notes", secrets=False, network_abilities=()))
    with pytest.raises(NotGranted) as refusal:
        await other.secrets().get("API_KEY")
    assert [one.ability for one in refusal.value.missing] == [KV_GET, DECRYPT]
    await other.sign_in(wallet, sign_in_for(other.session, refusal.value.missing))
    assert await other.secrets().get("API_KEY") == "value"


async def test_what_others_own_is_not_signed_for(bench) -> None:
    """For another owner's resources no sign-in is offered, and the error says whom to ask
    (MF13)."""
    owner, _ = await bench.owner()
    other, _ = await bench.owner()
    with pytest.raises(NotGranted) as refusal:
        await owner.kv(other.kv().space.text).get("a")
    assert f"ask {other.session.owner} for a delegation" in refusal.value.hint
    with pytest.raises(NotGranted, match="belongs to another owner") as second:
        sign_in_for(owner.session, refusal.value.missing)
    assert second.value.missing == refusal.value.missing
    with pytest.raises(InvalidInput, match="missing capabilities is empty"):
        sign_in_for(owner.session, ())
    with pytest.raises(InvalidInput, match="at least one capability"):
        await owner.sign_in((await bench.owner())[1], SignIn(exactly=()))
