"""Tests of the client with a real node: signing in, values, secrets, networks and delegations."""

import base64
import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from libipld import decode_multibase, encode_multibase

from capabilities.abilities import CAPABILITIES_READ, SET_POLICY
from capabilities.sign_ins import is_sign_in
from capabilities.signatures import Ed25519Signer
from capabilities.tokens import parse_delegation, verify_delegation
from encryption_network.policy import Policy
from sealspace.client import SignIn
from sealspace.delegations import allow
from sealspace.documents.manifests import (
    compose_manifests,
    parse_manifest,
    requested_capabilities,
    served,
)
from sealspace.encryption import new_receiver_key
from sealspace.errors import (
    ActionNotAuthorized,
    DecryptDenied,
    DelegationRevoked,
    InvalidEnvelope,
    InvalidInput,
    InvalidPortableDelegation,
    InvalidResponse,
    LabelMismatch,
    LifetimeTooLong,
    NetworkNotActive,
    NetworkNotFound,
    NodeMismatch,
    NotFound,
    NotGranted,
    PreconditionFailed,
    SpaceNotFound,
    Unauthorized,
    ValueTooLarge,
)
from sealspace.session import Session, decode_session, encode_session, key_session, mint
from sealspace.wire.portable import decode_portable, encode_portable
from sealspace.wire.transport import Request, Transport
from tee_backend.evidence.simulated import measurements_of

GET, PUT, LIST, DELETE = (f"tinycloud.kv/{name}" for name in ("get", "put", "list", "del"))
DECRYPT = "tinycloud.encryption/decrypt"
SEED = bytes(range(32))


# --- signing in -----------------------------------------------------------------------------------


async def test_one_signature_makes_spaces_and_network(bench) -> None:
    """On a node that hosts spaces automatically, values and secrets can be stored after a plain
    sign-in."""
    client, wallet = await bench.owner()
    await client.kv().put("a", b"1")
    await client.secrets().put("API_KEY", "value")
    assert await client.secrets().get("API_KEY") == "value"
    assert wallet.signatures == 1
    assert wallet.did == client.session.owner


async def test_a_strict_node_is_asked_to_host(strict_bench) -> None:
    """On a node that hosts only on the owner's request, one second signature requests hosting for
    all spaces (D43)."""
    client, wallet = await strict_bench.owner()
    await client.kv().put("a", b"1")
    await client.encryption.ensure_network()
    await client.secrets().put("API_KEY", "value")
    assert await client.secrets().get("API_KEY") == "value"
    assert wallet.signatures == 2


async def test_further_spaces_are_signed_in_to(bench) -> None:
    """Requested spaces are hosted, and the session has no right to others."""
    client = await bench.client()
    wallet = (await bench.owner())[1]
    await client.sign_in(wallet, SignIn(space="notes", spaces=("photos",), secrets=False))
    await client.kv("photos").put("a", b"1")
    await client.kv().put("b", b"2")
    assert client.kv().space.name == "notes"
    with pytest.raises(NotGranted):
        await client.secrets().put("API_KEY", "value")


async def test_a_manifest_decides_what_is_signed_for(bench) -> None:
    """A sign-in by manifest has rights to the manifest's resources only."""
    request = compose_manifests(
        [parse_manifest({"app_id": "com.example.notes", "name": "Notes"})],
        include_account_registry_permissions=False,
    )
    client = await bench.client()
    await client.sign_in((await bench.owner())[1], SignIn(request=request))
    await client.kv().put("com.example.notes/1", b"1")
    assert client.kv().space.name == "applications"
    with pytest.raises(NotGranted):
        await client.kv().put("com.example.other/1", b"1")


async def test_a_stored_session_goes_on_without_the_wallet(bench) -> None:
    """A stored session works as before, at the node where it was made."""
    client, wallet = await bench.owner()
    await client.kv().put("a", b"1")
    again = await bench.client(decode_session(encode_session(client.session)))
    assert (await again.kv().get("a")).body == b"1"
    assert wallet.signatures == 1


async def test_a_key_owns_spaces_of_its_own(bench) -> None:
    """A did:key signs in to its own space, creates its network and reads its secrets in person."""
    client = await bench.client()
    await client.sign_in_with_key(SEED, spaces=("default", "secrets"))
    await client.kv().put("a", b"1")
    assert [key async for key in client.kv().list()] == ["a"]
    await client.encryption.ensure_network()
    await client.secrets().put("API_KEY", "value")
    assert await client.secrets().get("API_KEY") == "value"


async def test_a_wallet_signs_the_key_of_another_program_in(bench) -> None:
    """A wallet can sign in another program's key, and this client's session does not change."""
    client, wallet = await bench.owner()
    await client.secrets().put("API_KEY", "value")
    before, key = client.session, Ed25519Signer(SEED)
    grant = await client.authorize_key(wallet, key.did, SignIn(ttl_s=60))
    assert client.session is before
    other = client.acting(Session(signer=key, owner=grant.delegator, grants=(grant,)))
    assert await other.secrets().get("API_KEY") == "value"


@pytest.mark.parametrize("ttl_s", [0, -1, 30 * 86_400 + 1])
async def test_a_key_of_another_program_is_signed_in_for_a_month_at_most(bench, ttl_s: int) -> None:
    """The lifetime of the sign-in has the limits of a session."""
    client, wallet = await bench.owner()
    with pytest.raises(InvalidInput):
        await client.authorize_key(wallet, Ed25519Signer(SEED).did, SignIn(ttl_s=ttl_s))


async def test_only_an_ed25519_key_is_signed_in(bench) -> None:
    """Another DID, a DID URL and another spelling of a key are refused before anything is
    signed."""
    client, wallet = await bench.owner()
    key = Ed25519Signer(SEED)
    spelt = encode_multibase("u", b"\xed\x01" + key.public_key)
    signed = wallet.signatures
    for did in (wallet.did, key.did_url, f"did:key:{spelt}", "did:key:", ""):
        with pytest.raises(InvalidInput):
            await client.authorize_key(wallet, did)
    assert wallet.signatures == signed


async def test_a_key_has_its_space_hosted_by_its_word(strict_bench) -> None:
    """On a strict node the key signs the host grant itself."""
    client = await strict_bench.client()
    await client.sign_in_with_key(SEED, spaces=("default",))
    await client.kv().put("a", b"1")


async def test_another_node_than_the_pinned_one_is_refused(bench) -> None:
    """A client with a pinned DID sends nothing to another node."""
    client = await bench.client(pinned_node=Ed25519Signer(SEED).did)
    with pytest.raises(NodeMismatch):
        await client.sign_in((await bench.owner())[1])


async def test_using_a_client_before_signing_in_is_a_mistake_of_the_program(bench) -> None:
    """Calls before the sign-in raise another error than wrong data."""
    client = await bench.client()
    with pytest.raises(RuntimeError):
        client.kv()
    client.use(key_session(SEED))
    with pytest.raises(RuntimeError):
        client.kv()


# --- values ---------------------------------------------------------------------------------------


async def test_a_value_comes_back_with_its_metadata(bench) -> None:
    """Bytes, type and metadata are read back unchanged."""
    kv = (await bench.owner())[0].kv()
    etag = await kv.put("a/b", b"\x00\xff", content_type="image/png", metadata={"Title": "x y"})
    value = await kv.get("a/b")
    assert value.body == b"\x00\xff"
    assert value.etag == etag
    assert value.content_type == "image/png"
    assert value.metadata == {"title": "x y"}
    head = await kv.metadata("a/b")
    assert head.body == b""
    assert head.etag == etag
    assert head.metadata == {"title": "x y"}
    assert await kv.size_bytes("a/b") == 2
    await kv.put("text", "ä")
    assert (await kv.get("text")).content_type == "text/plain;charset=UTF-8"


async def test_conditions_keep_rivals_apart(bench) -> None:
    """A conditional create or update is refused if the value has changed."""
    kv = (await bench.owner())[0].kv()
    first = await kv.put("a", b"1", if_absent=True)
    with pytest.raises(PreconditionFailed):
        await kv.put("a", b"2", if_absent=True)
    second = await kv.put("a", b"2", if_match=first)
    with pytest.raises(PreconditionFailed):
        await kv.put("a", b"3", if_match=first)
    with pytest.raises(PreconditionFailed):
        await kv.delete("a", if_match=first)
    assert await kv.get_if_changed("a", second) is None
    changed = await kv.get_if_changed("a", first)
    assert changed is not None
    assert changed.body == b"2"
    assert second == await kv.delete("a", if_match=second)
    with pytest.raises(InvalidInput):
        await kv.put("a", b"3", if_absent=True, if_match=first)


async def test_what_is_not_there(bench) -> None:
    """An absent or deleted value raises NotFound, and a space that is not hosted raises
    SpaceNotFound."""
    client, _wallet = await bench.owner()
    kv, space = client.kv(), client.kv().space.text
    for call in (
        lambda: kv.get("a"),
        lambda: kv.delete("a"),
        lambda: kv.get_if_changed("a", '"1"'),
    ):
        with pytest.raises(NotFound) as refused:
            await call()
        assert (
            f"there is no value with the key a in the space {space}"
            == refused.value.message
            == refused.value.args[0]
        )
        assert f'client.kv("{space}").list()' in str(refused.value) and 404 == refused.value.status
    await kv.put("a", b"1")
    await kv.delete("a")
    assert await kv.delete("a") is None
    with pytest.raises(NotFound):
        await kv.get("a")
    other = await bench.client()
    other.use(key_session(SEED))
    with pytest.raises(SpaceNotFound):
        await other.kv("unhosted").get("a")


async def test_a_listing_is_the_same_whatever_the_pages(bench) -> None:
    """Pages of any size give the same list in byte order."""
    kv = (await bench.owner())[0].kv()
    keys = [f"list/{letter}" for letter in "cabed"]
    for key in [*keys, "other"]:
        await kv.put(key, b"1")
    for page_keys in (1, 2, 5, 1000):
        assert sorted(keys) == [key async for key in kv.list("list/", page_keys=page_keys)]
    assert [key async for key in kv.list("none/")] == []
    with pytest.raises(InvalidInput):
        await kv.list_page(limit=1001)


async def test_a_value_is_not_read_beyond_its_bound(bench) -> None:
    """The node refuses to send a value that exceeds the requested limit."""
    kv = (await bench.owner())[0].kv()
    await kv.put("a", b"12345")
    with pytest.raises(ValueTooLarge):
        await kv.get("a", max_bytes=4)


@pytest.mark.parametrize("key", ["a b", "ä", "a?b", "a#b", "%", "a/../b", "%41"])
async def test_keys_that_no_uri_holds_are_refused_here(bench, key: str) -> None:
    """The client refuses a key with characters that a URI's path cannot contain."""
    client = await bench.client()
    client.use(key_session(SEED))
    with pytest.raises(InvalidInput):
        await client.kv("default").get(key)


@pytest.mark.parametrize(
    "metadata", [{"": "x"}, {"a b": "x"}, {"a": "x\r\ny"}, {"a": " x"}, {"a": "x" * 17_000}]
)
async def test_metadata_that_no_header_holds_is_refused_here(
    bench, metadata: dict[str, str]
) -> None:
    """Metadata that no header can contain are refused before sending."""
    client = await bench.client()
    client.use(key_session(SEED))
    with pytest.raises(InvalidInput):
        await client.kv("default").put("a", b"1", metadata=metadata)


# --- secrets and networks -------------------------------------------------------------------------


async def test_secrets_are_written_read_listed_and_deleted(bench) -> None:
    """A global and a scoped secret of one name are two secrets."""
    secrets = (await bench.owner())[0].secrets()
    await secrets.put("API_KEY", "global")
    await secrets.put("API_KEY", "scoped ✓", scope="My App")
    assert await secrets.get("API_KEY") == "global"
    assert await secrets.get("API_KEY", scope="my-app") == "scoped ✓"
    assert await secrets.list() == ("API_KEY",)
    assert await secrets.list(scope="my-app") == ("API_KEY",)
    await secrets.delete("API_KEY")
    with pytest.raises(NotFound):
        await secrets.get("API_KEY")
    assert await secrets.list() == ()


async def test_a_secret_is_stored_as_other_clients_store_it(bench) -> None:
    """Path, label, metadata and payload follow the convention, and no plaintext is stored."""
    client, _wallet = await bench.owner()
    await client.secrets().put("API_KEY", "value")
    stored = await client.kv("secrets").get("vault/secrets/API_KEY")
    envelope = await client.secrets().envelope("API_KEY")
    secret = await client.secrets().read("API_KEY")
    assert stored.content_type == "text/plain;charset=UTF-8"
    assert envelope.metadata == {
        "x-vault-version": "2",
        "x-vault-cipher": "tinycloud-network-envelope",
        "x-vault-content-type": "application/json",
    }
    assert json.loads(stored.body)["networkId"] == client.encryption.network().text
    assert b"value" not in stored.body
    assert secret.created_at == secret.updated_at
    assert secret.created_at.endswith("Z")
    assert "value" not in repr(secret)
    space = client.kv("secrets").space.text
    label = f"tinycloud.vault:{space}:secrets/API_KEY".encode()
    assert await client.encryption.decrypt(envelope, expected_label=label)


async def test_what_is_sealed_of_a_secret(bench) -> None:
    """Value, times and place are sealed, to the default network of the space's owner, under the
    secret's own label (EN26, EN45)."""
    client, wallet = await bench.owner()
    await client.secrets().put("API_KEY", "value")
    envelope = await client.secrets().envelope("API_KEY")
    said = json.loads(await client.encryption.decrypt(envelope))
    now = said["createdAt"]
    assert {"value": "value", "createdAt": now, "updatedAt": now, "place": said["place"]} == said
    assert said["place"] == {
        "owner": wallet.did,
        "space": client.kv("secrets").space.text,
        "path": "vault/secrets/API_KEY",
        "form": "secret",
    }
    assert bench.clock.now() == datetime.fromisoformat(now).timestamp()
    assert envelope.network_text == f"urn:tinycloud:encryption:{wallet.did}:default"
    label = f"tinycloud.vault:tinycloud:{wallet.did.removeprefix('did:')}:secrets:secrets/API_KEY"
    assert envelope.aad == base64.b64encode(label.encode()).decode()


async def test_an_envelope_that_was_moved_is_noticed(bench) -> None:
    """The envelope of one secret is refused in place of another's."""
    client, _ = await bench.owner()
    await client.secrets().put("FIRST", "value")
    stored = await client.kv("secrets").get("vault/secrets/FIRST")
    await client.kv("secrets").put("vault/secrets/SECOND", stored.body)
    with pytest.raises(LabelMismatch):
        await client.secrets().get("SECOND")
    await client.kv("secrets").put("vault/secrets/THIRD", b"no envelope")
    with pytest.raises(InvalidEnvelope):
        await client.secrets().get("THIRD")


async def test_a_spoilt_ciphertext_does_not_open(bench) -> None:
    """A damaged ciphertext raises an error, whatever the node answers."""
    client, _ = await bench.owner()
    network = client.encryption.network()
    envelope = await client.encryption.encrypt(b"payload", network=network)
    spoilt = replace(
        envelope, ciphertext=envelope.ciphertext[:-1] + bytes([envelope.ciphertext[-1] ^ 1])
    )
    with pytest.raises(InvalidResponse):
        await client.encryption.decrypt(spoilt)
    receiver = new_receiver_key(bench.entropy)
    assert await client.encryption.decrypt(envelope, receiver=receiver) == b"payload"


async def test_a_network_is_made_once_and_ended_for_ever(bench) -> None:
    """A network of another name is created on request. After its revocation it releases no key."""
    client, wallet = await bench.owner()
    with pytest.raises(NetworkNotFound):
        await client.encryption.descriptor(client.encryption.network("other"))
    with pytest.raises(NotGranted):
        await client.encryption.ensure_network("other")
    network = client.encryption.network("other")
    abilities = ("decrypt", "network.create", "network.revoke")
    rights = [allow(network.text, f"tinycloud.encryption/{name}") for name in abilities]
    await client.delegations.add_right(wallet, rights)
    first = await client.encryption.ensure_network("other")
    assert first == await client.encryption.ensure_network("other")
    envelope = await client.encryption.encrypt(b"payload", network=network)
    assert await client.encryption.decrypt(envelope) == b"payload"
    await client.encryption.revoke_network(network)
    with pytest.raises(NetworkNotActive):
        await client.encryption.decrypt(envelope)
    with pytest.raises(NetworkNotActive):
        await client.encryption.encrypt(b"payload", network=network)


async def test_an_outsider_opens_nothing(bench) -> None:
    """A request without a grant is not sent. With a right to read from another owner the node
    refuses it."""
    client, _ = await bench.owner()
    envelope = await client.encryption.encrypt(b"payload", network=client.encryption.network())
    outsider, _ = await bench.owner()
    with pytest.raises(NotGranted):
        await outsider.encryption.decrypt(envelope)


async def test_the_owner_states_a_policy_in_person(bench) -> None:
    """The session can set the network's policy only with a grant by the wallet."""
    client, wallet = await bench.owner()
    network = client.encryption.network()
    policy = Policy(measurements=(measurements_of("approved"),), in_person=False)
    with pytest.raises(NotGranted):
        await client.encryption.set_policy(network, policy)
    await client.secrets().put("API_KEY", "value")
    await client.delegations.add_right(wallet, [allow(network.text, SET_POLICY)])
    await client.encryption.set_policy(network, policy)
    # From now on only approved code reads, the owner included.
    with pytest.raises(DecryptDenied):
        await client.secrets().get("API_KEY")


# --- delegations ----------------------------------------------------------------------------------


async def granted_to_agent(bench, owner, **options) -> tuple[Any, Any]:
    agent = await bench.client()
    await agent.sign_in_with_key(SEED)
    grant = [allow(f"{owner.kv().space.text}/kv/shared/", ability) for ability in (GET, LIST)]
    portable = await owner.delegations.delegate(agent.session.did, grant, **options)
    return portable, agent


@pytest.mark.parametrize("signed_by_wallet", [False, True])
async def test_a_grant_is_handed_over_and_used(bench, signed_by_wallet: bool) -> None:
    """The recipient of a grant has exactly the granted rights, whichever key of the owner
    signed."""
    owner, wallet = await bench.owner()
    await owner.kv().put("shared/note", b"1")
    portable, agent = await granted_to_agent(
        bench, owner, wallet=wallet if signed_by_wallet else None
    )
    await agent.delegations.accept(decode_portable(encode_portable(portable)))
    shared = agent.kv(owner.kv().space.text)
    assert (await shared.get("shared/note")).body == b"1"
    assert [key async for key in shared.list("shared/")] == ["shared/note"]
    for attempt in (shared.put("shared/note", b"2"), shared.get("private")):
        with pytest.raises(NotGranted):
            await attempt


async def test_a_grant_by_a_session_looks_as_other_clients_make_it(bench) -> None:
    """A grant by a session has a bare issuer, whole seconds, and the session as its proof (J6)."""
    owner, _ = await bench.owner()
    portable, agent = await granted_to_agent(bench, owner)
    payload = json.loads(decode_multibase("u" + portable.header.split(".")[1])[1])
    assert owner.session.did == payload["iss"]
    assert agent.session.did == payload["aud"]
    assert isinstance(payload["exp"], int)
    assert [owner.session.grants[0].cid] == payload["prf"]
    assert portable.space == owner.kv().space.text


async def test_a_grant_does_not_outlive_the_session(bench) -> None:
    """A grant that would last longer than the session is refused, or shortened if the caller says
    so."""
    owner, _ = await bench.owner()
    with pytest.raises(LifetimeTooLong) as refused:
        await granted_to_agent(bench, owner, ttl_s=365 * 86_400)
    assert refused.value.asked_s == 365 * 86_400
    assert refused.value.possible_s == pytest.approx(7 * 86_400, abs=2)
    for options in ({"ttl_s": 365 * 86_400, "at_most": True}, {}):
        portable, _ = await granted_to_agent(bench, owner, **options)
        assert owner.session.expires_at is not None
        assert portable.expires_at is not None
        assert 0 <= owner.session.expires_at - portable.expires_at < 1


async def test_a_revoked_grant_is_over(bench) -> None:
    """After the acknowledgement of a revocation the grant can be neither used nor accepted."""
    owner, _ = await bench.owner()
    await owner.kv().put("shared/note", b"1")
    portable, agent = await granted_to_agent(bench, owner)
    await agent.delegations.accept(portable)
    await owner.delegations.revoke(portable)
    with pytest.raises(DelegationRevoked):
        await agent.kv(owner.kv().space.text).get("shared/note")
    with pytest.raises(DelegationRevoked):
        await agent.delegations.accept(portable)


async def test_the_wallet_revokes_what_a_session_granted(bench) -> None:
    """The owner's wallet can revoke any grant in the owner's spaces (V3)."""
    owner, wallet = await bench.owner()
    portable, agent = await granted_to_agent(bench, owner)
    await agent.delegations.accept(portable)
    await (await bench.owner())[0].delegations.revoke_by_wallet(portable.cid, wallet)
    with pytest.raises(DelegationRevoked):
        await agent.kv(owner.kv().space.text).get("shared/note")


async def test_a_later_session_revokes_what_an_earlier_one_granted(bench) -> None:
    """A later session revokes for the owner, by the right to revoke in its sign-in (V2, W21)."""
    owner, wallet = await bench.owner()
    portable, agent = await granted_to_agent(bench, owner)
    await agent.delegations.accept(portable)
    later = await bench.client()
    await later.sign_in(wallet)
    await later.delegations.revoke(portable)
    with pytest.raises(DelegationRevoked):
        await agent.kv(owner.kv().space.text).get("shared/note")


async def test_an_outsider_revokes_nothing(bench) -> None:
    """A user who is not a party to a grant cannot revoke it."""
    owner, _ = await bench.owner()
    portable, _ = await granted_to_agent(bench, owner)
    outsider, _ = await bench.owner()
    with pytest.raises(Unauthorized):
        await outsider.delegations.revoke(portable)


async def test_a_grant_for_a_wallet_is_passed_on_to_its_session(bench) -> None:
    """A wallet accepts a grant by one signature, which passes it on to its session key."""
    owner, _ = await bench.owner()
    await owner.kv().put("shared/note", b"1")
    friend, friend_wallet = await bench.owner()
    portable = await owner.delegations.delegate(
        friend_wallet.did, [allow(f"{owner.kv().space.text}/kv/shared/", GET)]
    )
    with pytest.raises(InvalidPortableDelegation):
        await friend.delegations.accept(portable)
    await friend.delegations.accept(portable, wallet=friend_wallet)
    assert (await friend.kv(owner.kv().space.text).get("shared/note")).body == b"1"
    assert friend_wallet.signatures == 2


async def test_signing_in_with_what_others_granted(bench) -> None:
    """A manifest's rights on another owner's space come from a delegation that the wallet passes on
    (W22)."""
    owner, _ = await bench.owner()
    space = owner.kv().space.text
    await owner.kv().put("shared/note", b"1")
    friend, wallet = await bench.owner()
    portable = await owner.delegations.delegate(
        wallet.did, [allow(f"{space}/kv/shared/", GET)], ttl_s=600
    )
    permission = {
        "service": "tinycloud.kv",
        "path": "shared/",
        "actions": ["get"],
        "space": space,
        "skipPrefix": True,
    }
    manifest = parse_manifest(
        {"app_id": "com.example.notes", "name": "Notes", "permissions": [permission]}
    )
    with pytest.raises(NotGranted, match="belongs to another owner"):
        await friend.sign_in(wallet, SignIn(request=compose_manifests([manifest])))
    assert wallet.signatures == 1  # the sign-in before
    session = await friend.sign_in(
        wallet, SignIn(request=compose_manifests([manifest]), received=(portable,))
    )
    assert (await friend.kv(space).get("shared/note")).body == b"1"
    assert wallet.signatures == 3
    assert len(session.grants) == 2
    assert session.grants[1].expires_at == portable.expires_at
    assert session.grants[0].expires_at > session.grants[1].expires_at


async def test_signing_in_with_a_delegation_of_another_client(bench) -> None:
    """A delegation for another wallet, or an expired one, stops a sign-in before the wallet
    signs."""
    owner, _ = await bench.owner()
    (_, wallet), (_, other) = await bench.owner(), await bench.owner()
    rights = [allow(f"{owner.kv().space.text}/kv/shared/", GET)]
    for did, wait_s in ((other.did, 0), (wallet.did, 61)):
        portable = await owner.delegations.delegate(did, rights, ttl_s=60)
        bench.clock.advance(wait_s)
        with pytest.raises(InvalidPortableDelegation):
            await (await bench.client()).sign_in(wallet, SignIn(received=(portable,)))
    assert wallet.signatures == 1  # the sign-in before


async def test_what_is_not_held_is_not_granted(bench) -> None:
    """A session can grant only its own rights, and a wallet only rights that it owns."""
    owner, wallet = await bench.owner()
    other, _ = await bench.owner()
    foreign = [allow(f"{other.kv().space.text}/kv/a", GET)]
    agent = Ed25519Signer(SEED).did
    with pytest.raises(NotGranted):
        await owner.delegations.delegate(agent, foreign)
    with pytest.raises(NotGranted):
        await owner.delegations.delegate(agent, foreign, wallet=wallet)
    for did, grant, ttl_s in ((agent, [], 60.0), ("nobody", foreign, 60.0), (agent, foreign, 0.0)):
        with pytest.raises(InvalidInput):
            await owner.delegations.delegate(did, grant, ttl_s=ttl_s)


@pytest.mark.parametrize("signed_by_wallet", [False, True])
async def test_a_grant_to_a_manifest_s_target_signs_nobody_in(
    bench, signed_by_wallet: bool
) -> None:
    """A target named by a DID URL gets a grant to its DID, without reading capabilities (IP2,
    J4)."""
    target = Ed25519Signer(SEED)
    asked = compose_manifests([parse_manifest({"app_id": "a", "name": "A", "did": target.did_url})])
    owner, wallet = await bench.owner(SignIn(request=asked))
    (named,) = asked.delegation_targets
    wanted = requested_capabilities(
        served(named.resources), space_id=lambda name: owner.session.own_space(name).text
    )
    assert CAPABILITIES_READ in {one.ability for one in wanted}
    assert named.did == target.did_url
    portable = await owner.delegations.delegate(
        named.did, wanted, wallet=wallet if signed_by_wallet else None
    )
    granted = verify_delegation(parse_delegation(portable.header))
    assert target.did == granted.audience == granted.delegate
    assert {one.ability for one in wanted} - {CAPABILITIES_READ} == {
        one.ability for one in granted.capabilities
    }
    assert not is_sign_in(granted, registered_at=granted.issued_at or 0)


async def test_reading_capabilities_alone_is_granted_to_nobody_else(bench) -> None:
    """The right to read capabilities alone is granted only to the session's own key."""
    owner, wallet = await bench.owner()
    reading = [allow(f"{owner.kv().space.text}/capabilities/all", CAPABILITIES_READ)]
    for signer in (None, wallet):
        with pytest.raises(InvalidInput):
            await owner.delegations.delegate(Ed25519Signer(SEED).did, reading, wallet=signer)
    signatures = wallet.signatures
    await owner.delegations.delegate(owner.session.did, reading, wallet=wallet)
    assert wallet.signatures == signatures + 1


async def test_a_description_that_differs_from_its_token_is_refused(bench) -> None:
    """A portable form whose members differ from its token is refused."""
    owner, _ = await bench.owner()
    portable, agent = await granted_to_agent(bench, owner)
    written = json.loads(encode_portable(portable))
    for change in ({"cid": "bafkr4ia"}, {"delegateDID": owner.session.did}):
        with pytest.raises(InvalidPortableDelegation):
            await agent.delegations.accept(
                decode_portable(json.dumps({**written, **change}).encode())
            )
    bench.clock.advance(8 * 86_400)
    with pytest.raises(InvalidPortableDelegation):
        await agent.delegations.accept(portable)


async def test_a_refusal_by_the_node_names_what_is_missing(bench) -> None:
    """A refusal by the node names the resource and the action from the node's text."""
    owner, _ = await bench.owner()
    portable, agent = await granted_to_agent(bench, owner)
    await agent.delegations.accept(portable)
    space = owner.kv().space
    token = mint(
        agent.session.signer,
        bench.entropy,
        audience=agent.session.did,
        capabilities=[allow(f"{space.text}/kv/private", GET)],
        proofs=[portable.cid],
        expires_at=bench.clock.now() + 60,
    )
    async with Transport(bench.node.url) as transport:
        with pytest.raises(ActionNotAuthorized) as refusal:
            await transport.require(Request("POST", "/invoke", mint=lambda: token))
    assert refusal.value.resource == f"{space.text}/kv/private"
    assert refusal.value.action == GET
