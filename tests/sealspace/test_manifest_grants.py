"""Grants to the DIDs that manifests name, and taking several up, on a real node."""

import pytest

from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json
from sealspace.client import SignIn
from sealspace.documents.manifests import (
    ManifestRequest,
    compose_manifests,
    parse_manifest,
    requested_capabilities,
    with_decrypt,
)
from sealspace.errors import InvalidInput, InvalidPortableDelegation, NotGranted, SealspaceError
from sealspace.wire.portable import decode_bundle, encode_bundle

SEED = bytes(range(32))
AGENT = Ed25519Signer(SEED)
MEMBERS: dict[str, Json] = {
    "app_id": "com.example.bot",
    "name": "Bot",
    "did": AGENT.did_url,
    "defaults": False,
    "expiry": "1d",
    "secrets": {"API_KEY": True},
    "permissions": [{"service": "tinycloud.kv", "path": "inbox/", "actions": ["get", "list"]}],
}


def request_of(**members: Json) -> ManifestRequest:
    return compose_manifests(
        [parse_manifest({**MEMBERS, **members})], include_account_registry_permissions=False
    )


@pytest.mark.parametrize("by_wallet", [False, True])
async def test_a_manifest_s_did_gets_one_delegation_for_all_spaces(bench, by_wallet: bool) -> None:
    """One delegation contains all requested rights of one owner, and can be accepted and used
    (MF12, MF14)."""
    request = request_of()
    owner, wallet = await bench.owner(SignIn(request=request, secrets=True))
    asked = wallet.signatures
    await owner.delegations.add_right(
        wallet,
        requested_capabilities(
            request_of(
                permissions=[{"service": "tinycloud.kv", "path": "inbox/", "actions": ["put"]}]
            ).resources,
            space_id=lambda name: owner.session.own_space(name).text,
        ),
    )
    await owner.kv("applications").put("com.example.bot/inbox/1", b"1")
    await owner.secrets().put("API_KEY", "value")
    granted = await owner.delegations.delegate_to_target(
        request.delegation_targets[0], wallet=wallet if by_wallet else None
    )
    (portable,) = granted
    assert [one.space.rpartition(":")[2] for one in portable.resources] == [
        "applications",
        "secrets",
    ]
    assert {one.delegate_did for one in granted} == {AGENT.did}
    assert wallet.signatures == asked + 1 + (1 if by_wallet else 0)
    assert {86_400} == {round((one.expires_at or 0) - bench.clock.now()) for one in granted}

    agent = await bench.client()
    await agent.sign_in_with_key(SEED)
    await agent.delegations.take_up_bundle(decode_bundle(encode_bundle(granted)))
    inbox = agent.kv(owner.kv("applications").space.text)
    assert (await inbox.get("com.example.bot/inbox/1")).body == b"1"
    with pytest.raises(NotGranted):
        await inbox.put("com.example.bot/inbox/1", b"2")
    with pytest.raises(NotGranted, match=r"tinycloud\.encryption/decrypt"):  # MF8: nobody added it
        await agent.secrets(owner.session.owner).get("API_KEY")


async def test_a_target_with_decrypt_gets_the_network_too(bench) -> None:
    """The right that `with_decrypt` adds is in the same grant, and the release check still applies
    (MF12)."""
    owner, _ = await bench.owner()
    network = owner.encryption.network().text
    request = with_decrypt(request_of(permissions=[]), network)
    granted = await owner.delegations.delegate_to_target(request.delegation_targets[0])
    assert [[row.space for row in one.resources] for one in granted] == [
        [owner.session.own_space("secrets").text, "encryption"],
    ]
    agent = await bench.client()
    await agent.sign_in_with_key(SEED)
    await agent.delegations.take_up_bundle(granted)
    await owner.secrets().put("API_KEY", "value")
    with pytest.raises(SealspaceError, match="no_policy"):
        await agent.secrets(owner.session.owner).get("API_KEY")


async def test_nothing_is_granted_unless_all_of_it_can_be(bench) -> None:
    """A session that lacks a part of a request grants nothing and names every missing permission
    (MF12, MF13)."""
    request = request_of(
        permissions=[
            {
                "service": "tinycloud.kv",
                "path": "x",
                "actions": ["get", "put"],
                "space": "elsewhere",
            }
        ]
    )
    owner, wallet = await bench.owner()
    other, other_wallet = await bench.owner()
    target = request.delegation_targets[0]
    with pytest.raises(NotGranted) as refusal:
        await owner.delegations.delegate_to_target(target)
    place = f"{owner.session.own_space('elsewhere').text}/kv/com.example.bot/x"
    wanted = [f"tinycloud.kv/{word} on {place}" for word in ("get", "put")]
    assert refusal.value.message == f"no grant of this session covers {'; '.join(wanted)}"
    assert refusal.value.__notes__ == [f"missing: {one}" for one in wanted]
    with pytest.raises(NotGranted):
        await owner.delegations.delegate_to_target(target, wallet=other_wallet)
    assert [
        one
        async for one in owner.delegations.query(direction="granted")
        if one.delegate == AGENT.did
    ] == []
    assert wallet.signatures == other_wallet.signatures == 1
    assert other.session.owner != owner.session.owner


async def test_services_that_the_node_lacks_are_not_granted(bench) -> None:
    """Defaults that the node does not serve are left out. Permissions are refused unless left out
    by name (MF9)."""
    owner, _ = await bench.owner(SignIn(request=request_of(defaults="all")))
    assert not [one for one in owner.session.grants[0].capabilities if "duckdb" in one.ability]
    granted = await owner.delegations.delegate_to_target(
        request_of(defaults="all").delegation_targets[0]
    )
    assert {row.service for one in granted for row in one.resources} == {"kv", "sql"}
    needs_duckdb = request_of(
        permissions=[{"service": "tinycloud.duckdb", "path": "db", "actions": ["read"]}]
    )
    client, wallet = await bench.client(), (await bench.owner())[1]
    asked = wallet.signatures
    with pytest.raises(
        InvalidInput, match=r"tinycloud\.duckdb is not served by this node: read on applications/"
    ):
        await client.sign_in(wallet, SignIn(request=needs_duckdb))
    with pytest.raises(InvalidInput, match=r"tinycloud\.duckdb"):
        await owner.delegations.delegate_to_target(needs_duckdb.delegation_targets[0])
    assert wallet.signatures == asked
    await client.sign_in(wallet, SignIn(request=needs_duckdb, leave_out_unserved=True))
    nothing = request_of(permissions=[], secrets={}).delegation_targets[0]
    with pytest.raises(InvalidInput, match="nothing that can be granted"):
        await client.delegations.delegate_to_target(nothing)


async def test_a_bundle_for_somebody_else_is_not_taken_up(bench) -> None:
    """A bundle with one delegation for another DID is refused before any of it is used."""
    owner, wallet = await bench.owner()
    space = owner.kv().space.text
    friend, friends_wallet = await bench.owner()
    agent = await bench.client()
    await agent.sign_in_with_key(SEED)
    rights = requested_capabilities(
        [row for row in request_of(secrets={}).resources if row.service == "tinycloud.kv"],
        space_id=lambda _: space,
    )
    mine = await owner.delegations.delegate(AGENT.did, rights)
    theirs = await owner.delegations.delegate(friends_wallet.did, rights)
    with pytest.raises(InvalidPortableDelegation, match=f"is for {friends_wallet.did}"):
        await agent.delegations.take_up_bundle((mine, theirs))
    assert agent.session.grants == ()
    for bundle in ((), (mine,) * 33):
        with pytest.raises(InvalidInput, match="1 to 32"):
            encode_bundle(bundle)
    await friend.delegations.take_up_bundle((theirs,), wallet=friends_wallet)
    assert [key async for key in friend.kv(space).list("com.example.bot/inbox/")] == []
    assert wallet.signatures == 1
