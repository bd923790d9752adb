"""Tests of secrets that people share with each other, with the client and real nodes."""

from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from embedded_node import embedded_node
from relay import Answer, relay_before
from trust_settings import trusting_config

from capabilities.abilities import KV_GET, KV_LIST, KV_PUT
from capabilities.principals import Principal
from capabilities.signatures import Ed25519Signer
from capabilities.tokens import Capability
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.secret_names import SharedFolder
from sealspace.encryption import envelope_bytes
from sealspace.errors import (
    DelegationRevoked,
    InvalidEnvelope,
    InvalidInput,
    InvalidPortableDelegation,
    InvalidSecretName,
    LabelMismatch,
    NetworkKeyChanged,
    NetworkNotFound,
    NotFound,
    NotGranted,
    NotShared,
    ResponseSignatureInvalid,
    SealspaceError,
    Unauthorized,
)
from sealspace.giving.copies import Share, read_share
from sealspace.secrets import Secrets
from sealspace.session import Session, key_session, mint, read_grant, sign_message
from sealspace.wallets import AnyWallet, new_wallet

FOLDER = "vault/secrets/shared/"


class Person:
    """An owner with a wallet and a client."""

    def __init__(self, client: Client, wallet: AnyWallet) -> None:
        self.client, self.wallet, self.did = client, wallet, client.session.owner

    async def source(self, owner: "Person", team: str | None = None) -> Secrets:
        return await self.client.sharing.received(owner.did, team=team, wallet=lambda: self.wallet)

    async def reads(self, owner: "Person", team: str | None = None) -> dict[str, str | bytes]:
        """Read all values that an owner shares."""
        source = await self.source(owner, team)
        return {
            name: value
            for scope in (None, *await source.scopes())
            for name, value in (
                await source.get_many(await source.list(scope=scope), scope=scope)
            ).items()
        }

    async def shares(self, person: "Person", *labels: str, team: str | None = None) -> Share:
        sharing = self.client.sharing
        return await sharing.share(labels, person.did, team=team, wallet=lambda: self.wallet)


async def labels(owner: Person) -> tuple[str, ...]:
    """Return what an owner shares with the only recipient."""
    ((_, _, copies),) = await owner.client.sharing.shares()
    return tuple(sorted(one.label for one in copies))


async def etags(owner: Person) -> dict[str, str]:
    """Return the versions of all copies by path."""
    kv = owner.client.kv("secrets")
    found = await kv.metadata_many([path async for path in kv.list(FOLDER)])
    return {path: value.etag for path, value in found.items()}


async def person(bench) -> Person:
    return Person(*await bench.owner())


@pytest.fixture
async def alice(bench) -> Person:
    """An owner with two secrets."""
    alice = await person(bench)
    await alice.client.secrets().put("API_KEY", "open sesame")
    await alice.client.secrets().put("TOKEN", b"\0\1", scope="ci")
    return alice


@pytest.fixture
async def bob(bench) -> Person:
    return await person(bench)


# --- two people -----------------------------------------------------------------------------------


async def test_share_read_and_unshare(alice: Person, bob: Person) -> None:
    """A recipient can read a shared secret until it is unshared."""
    with pytest.raises(NotShared, match="shares with you at this node: nothing"):
        await bob.reads(alice)
    await alice.shares(bob, "API_KEY")
    await alice.shares(bob, "ci/TOKEN")
    source = await bob.source(alice)
    assert await bob.reads(alice) == {"API_KEY": "open sesame", "TOKEN": b"\0\1"}
    assert alice.wallet.signatures == 4
    assert bob.wallet.signatures == 2
    await alice.client.sharing.unshare(["API_KEY"], did=bob.did)
    assert await bob.reads(alice) == {"TOKEN": b"\0\1"}
    assert await alice.client.sharing.unshare(["ci/TOKEN"], did=bob.did) == ("ci/TOKEN",)
    with pytest.raises(DelegationRevoked):
        await source.list()
    with pytest.raises(NotShared):
        await bob.reads(alice)
    assert await alice.client.sharing.shares() == ()
    assert [one async for one in alice.client.kv("secrets").list(FOLDER)] == []
    with pytest.raises(NotShared):
        await alice.client.sharing.unshare(None, did=bob.did)


async def test_sharing_again_after_an_end(alice: Person, bob: Person) -> None:
    """A session that used a revoked grant uses the new one."""
    for _ in range(2):
        await alice.shares(bob, "API_KEY")
        assert await bob.reads(alice) == {"API_KEY": "open sesame"}
        await alice.client.sharing.unshare(["API_KEY"], did=bob.did)


async def test_SH1_where_a_copy_is(alice: Person, bob: Person) -> None:
    """A copy is below the DID and the key of its reader, and in no list of secrets."""
    share = await alice.shares(bob, "API_KEY", "ci/TOKEN")
    kv = alice.client.kv("secrets")
    assert [key async for key in kv.list(FOLDER)] == [
        f"{share.folder.path}API_KEY",
        f"{share.folder.path}scoped/ci/TOKEN",
    ]
    assert share.folder.path.startswith(f"{FOLDER}{bob.did}/")
    assert await alice.client.secrets().list() == ("API_KEY",)
    assert await alice.client.secrets().scopes() == ("ci",)
    own = await bob.client.encryption.descriptor(bob.client.encryption.network())
    assert share.folder.key == own.public_key
    assert await labels(alice) == ("API_KEY", "ci/TOKEN")


@pytest.mark.parametrize(
    "did",
    [
        "bob",
        "did:web:example.com",
        "did:key:z6Mk/../x",
        "did:pkh:eip155:1:0x12",
        "did:pkh:eip155:1:0xD9DFC431Bc277D91534f295393B7A922C5186e39/..",
        "team:ops",
    ],
)
async def test_a_recipient_that_is_no_person(alice: Person, did: str) -> None:
    """A recipient's DID that is unsafe in a path is refused before any request."""
    with pytest.raises(InvalidInput, match="a person is named by the DID"):
        await alice.client.sharing.share(["API_KEY"], did, wallet=lambda: alice.wallet)


@pytest.mark.parametrize("team", ["", "Ops", "a/b", "..", "-a", "a" * 65, "did:key:z6Mk"])
async def test_the_name_of_a_team(alice: Person, bob: Person, team: str) -> None:
    """A team's name that is unsafe in a path is refused."""
    with pytest.raises(InvalidInput, match="a team by 1 to 64 lower-case"):
        await alice.shares(bob, "API_KEY", team=team)


async def test_SH2_what_is_not_shared(alice: Person, bob: Person) -> None:
    """Generated secrets, reserved names and missing secrets are refused; nothing is granted."""
    for label, error in (
        ("PROTECTED_KEY", InvalidSecretName),
        ("MISSING", NotFound),
        ("../API_KEY", SealspaceError),
    ):
        with pytest.raises(error):
            await alice.shares(bob, "API_KEY", label)
    for label in ("PROTECTED_KEY", "NEAR_SENDER_ID"):
        with pytest.raises(InvalidSecretName):
            await alice.client.sharing.put_many({label: "x"})
    assert await alice.client.sharing.shares() == ()


async def test_a_session_key_cannot_share(alice: Person, bob: Person) -> None:
    """A grant by the session's key alone would not count, so it is not made (SH3)."""
    with pytest.raises(InvalidInput, match="only the owner's wallet"):
        await alice.client.sharing.share(["API_KEY"], bob.did)


async def test_owners_with_a_key_instead_of_a_wallet(bench) -> None:
    """Two owners with recovery phrases can share secrets without a wallet."""
    people = [await bench.client(), await bench.client()]
    for number, client in enumerate(people):
        await client.sign_in_with_key(bytes([number]) * 32, spaces=("secrets",))
        await client.encryption.ensure_network()
    anne, ben = people
    await anne.secrets().put("API_KEY", "hers")
    await anne.sharing.share(["API_KEY"], ben.session.owner)
    received = await ben.sharing.received(anne.session.owner)
    assert await received.get("API_KEY") == "hers"
    await anne.sharing.unshare(["API_KEY"], did=ben.session.owner)
    with pytest.raises(NotShared):
        await ben.sharing.received(anne.session.owner)


async def test_a_person_without_a_network(bench, alice: Person) -> None:
    """If a recipient has no network, the error names the command that the recipient should run."""
    stranger = key_session(bytes(range(32))).owner
    with pytest.raises(NetworkNotFound) as refused:
        await alice.client.sharing.share(["API_KEY"], stranger, wallet=lambda: alice.wallet)
    assert f"ask {stranger} to run `sealspace login`" in str(refused.value.step)
    assert await alice.client.sharing.shares() == ()


# --- new values -----------------------------------------------------------------------------------


async def test_SH6_a_new_value_reaches_everybody(bench, alice: Person, bob: Person) -> None:
    """A stored value renews every copy in the same commit, and only those of this secret."""
    carol = await person(bench)
    await alice.shares(bob, "API_KEY", "ci/TOKEN")
    await alice.shares(carol, "API_KEY", team="ops")
    await alice.client.sharing.put_many({"API_KEY": "new", "OTHER": "t"})
    assert await alice.client.secrets().get("API_KEY") == "new"
    assert await bob.reads(alice) == {"API_KEY": "new", "TOKEN": b"\0\1"}
    assert await carol.reads(alice) == {"API_KEY": "new"}
    await alice.client.sharing.put_many({"API_KEY": "copies"}, own=False)
    assert await alice.client.secrets().get("API_KEY") == "new"
    assert (await bob.reads(alice))["API_KEY"] == "copies"


async def test_SH3_a_copy_that_somebody_else_planted_is_not_renewed(bench, alice: Person) -> None:
    """SH3: a copy that a writer of the store planted is not renewed."""
    eve = await person(bench)
    key = await eve.client.encryption.descriptor(eve.client.encryption.network())
    folder = (await alice.shares(eve, "API_KEY")).folder
    await alice.client.sharing.unshare(None, did=eve.did)
    assert folder.key == key.public_key
    await alice.client.kv("secrets").put(f"{folder.path}API_KEY", "planted")
    await alice.client.sharing.put_many({"API_KEY": "new"})
    assert (await alice.client.kv("secrets").get(f"{folder.path}API_KEY")).body == b"planted"


async def test_SH7_a_planted_name_reaches_no_new_member(bench, alice: Person, bob: Person) -> None:
    """SH7: a new member does not get a secret whose path a writer of the store planted."""
    eve = await person(bench)
    await alice.shares(bob, "API_KEY", team="ops")
    planted = f"{FOLDER}ops/{eve.did}/{'A' * 43}/scoped/ci/TOKEN"
    await alice.client.kv("secrets").put(planted, "planted")
    await alice.client.sharing.share((), eve.did, team="ops", wallet=lambda: alice.wallet)
    assert await eve.reads(alice, "ops") == {"API_KEY": "open sesame"}


async def test_SH3_only_the_owners_own_signature_counts(alice: Person, bob: Person) -> None:
    """Grants by sessions or other owners, with other rights or recipients, do not count."""
    share = await alice.shares(bob, "API_KEY")
    assert read_share(share.grant.header, alice.did) == share
    assert read_share(share.grant.header, bob.did) is None
    assert read_share(share.grant.header[:-4], alice.did) is None
    assert read_share("", alice.did) is None
    space = alice.client.kv("secrets").space.text
    place = f"{space}/kv/{share.folder.path}"
    right = [allow(place, "tinycloud.kv/get"), allow(place, "tinycloud.kv/list")]
    wide = [allow(f"{space}/kv/vault/secrets/", one.ability) for one in right]
    for signing, to, rights in (
        (None, bob.did, right),
        (alice.wallet, alice.client.session.did, right),
        (alice.wallet, bob.did, right[:1]),
        (alice.wallet, bob.did, [*right, allow(place, "tinycloud.kv/put")]),
        (alice.wallet, bob.did, wide),
    ):
        portable = await alice.client.delegations.delegate(to, rights, wallet=signing)
        assert read_share(portable.header, alice.did) is None


async def test_SH3_only_names_that_the_owner_signed_count(alice: Person, bob: Person) -> None:
    """Names by a session, for another recipient, with other rights or elsewhere do not count."""
    folder = (await alice.shares(bob, "API_KEY")).folder
    space, group = alice.client.kv("secrets").space.text, f"{FOLDER}{bob.did}/"

    def rights(path: str, *abilities: str) -> list[Capability]:
        return [allow(f"{space}/kv/{path}", one) for one in abilities or (KV_GET, KV_LIST)]

    name = f"{group}scoped/ci/TOKEN"
    for signing, to, granted in (
        (None, alice.did, rights(name)),
        (alice.wallet, bob.did, rights(name)),
        (alice.wallet, alice.client.session.did, rights(name)),
        (alice.wallet, alice.did, rights(name, KV_GET)),
        (alice.wallet, alice.did, rights(name, KV_GET, KV_LIST, KV_PUT)),
        (alice.wallet, alice.did, [*rights(name), *rights(f"{group}API_KEY")]),
        (alice.wallet, alice.did, rights(f"{folder.path}scoped/ci/TOKEN")),
        (alice.wallet, alice.did, rights(f"{FOLDER}ops/scoped/ci/TOKEN")),
        (alice.wallet, alice.did, rights(f"{FOLDER}{bob.did.lower()}/scoped/ci/TOKEN")),
        (alice.wallet, alice.did, rights(f"{group}ci/TOKEN")),
        (alice.wallet, alice.did, rights(f"{group}scoped/CI/TOKEN")),
    ):
        await alice.client.delegations.delegate(to, granted, wallet=signing)
    assert await labels(alice) == ("API_KEY",)
    await alice.client.sharing.put_many({"ci/TOKEN": "new"})
    assert await bob.reads(alice) == {"API_KEY": "open sesame"}
    await alice.client.delegations.delegate(alice.did, rights(name), wallet=alice.wallet)
    await alice.client.sharing.put_many({"ci/TOKEN": "new"})
    assert await bob.reads(alice) == {"API_KEY": "open sesame", "TOKEN": "new"}


def test_SH3_a_forged_grant_does_not_count(entropy) -> None:
    """A signature by another key, over another text or under another grant does not count."""
    owner, other = (Ed25519Signer(bytes([number]) * 32) for number in (1, 2))
    folder = SharedFolder(None, Principal(other.did), bytes(32))
    place = f"tinycloud:{owner.did.removeprefix('did:')}:secrets/kv/{folder.path}"
    rights = [allow(place, KV_GET), allow(place, KV_LIST)]

    def made(signer: Ed25519Signer, issuer: str, *proofs: str) -> str:
        return mint(
            signer,
            entropy,
            audience=folder.did,
            capabilities=rights,
            proofs=proofs,
            expires_at=4e9,
            issuer=issuer,
        )

    good = made(owner, owner.did)
    share = read_share(good, owner.did)
    assert share is not None and share.folder == folder
    forged = ".".join([*good.split(".")[:2], made(owner, owner.did).split(".")[2]])
    for token in (forged, made(other, other.did), made(owner, owner.did, share.grant.cid)):
        assert read_grant(token).capabilities == share.grant.capabilities
        assert read_share(token, owner.did) is None


def test_SH3_a_token_without_rights_is_ignored(entropy) -> None:
    """A node that lists other tokens among the grants does not break the client."""
    wallet = new_wallet(entropy=entropy)
    token = sign_message(
        wallet, entropy, domain="localhost", uri=wallet.did, issued_at=0.0, expires_at=None
    )
    assert read_share(token, wallet.did) is None


async def test_SH3_a_name_does_not_end_before_the_right_to_read(
    bench, alice: Person, bob: Person
) -> None:
    """A member who joins later keeps getting new values after the first member's right ended."""
    carol = await person(bench)
    sharing, wallet = alice.client.sharing, (lambda: alice.wallet)
    await sharing.share(["API_KEY"], bob.did, team="ops", wallet=wallet, ttl_s=3600)
    await sharing.share((), carol.did, team="ops", wallet=wallet)
    before, copies = alice.wallet.signatures, await etags(alice)
    await sharing.share(["API_KEY"], carol.did, team="ops", wallet=wallet)
    assert alice.wallet.signatures == before
    changed = [path for path, etag in (await etags(alice)).items() if copies[path] != etag]
    assert len(changed) == 1 and carol.did in changed[0]  # the other key was not looked up
    bench.clock.advance(3601)
    await sharing.put_many({"API_KEY": "new"})
    assert [one.folder.did for one in await sharing.shares()] == [carol.did]
    assert await carol.reads(alice) == {"API_KEY": "new"}


async def test_SH5_a_new_right_revives_no_earlier_name(alice: Person, bob: Person) -> None:
    """A new right to read does not restore names that were shared before."""
    sharing = alice.client.sharing
    first = await alice.shares(bob, "API_KEY")
    await alice.client.delegations.revoke(first.grant.cid)
    assert await sharing.shares() == ()
    await sharing.put_many({"API_KEY": "after the end"})
    await alice.shares(bob, "ci/TOKEN")
    await sharing.put_many({"API_KEY": "later", "ci/TOKEN": "new"})
    assert await bob.reads(alice) == {"TOKEN": "new"}
    assert await labels(alice) == ("ci/TOKEN",)


async def test_SH5_a_new_team_has_no_earlier_names(bench, alice: Person, bob: Person) -> None:
    """After the last member left, a team of the same name begins without secrets."""
    carol = await person(bench)
    await alice.shares(bob, "API_KEY", team="ops")
    await alice.client.sharing.unshare(None, did=bob.did, team="ops")
    await alice.shares(carol, "ci/TOKEN", team="ops")
    assert await labels(alice) == ("ci/TOKEN",)


@asynccontextmanager
async def _through(
    bench, alice: Person, hold: Callable[[web.Request], Awaitable[None]]
) -> AsyncIterator[Client]:
    """Yield a client of Alice whose requests wait for a function."""
    async with (
        relay_before(bench.node.url) as relay,
        Client(
            relay.url, session=alice.client.session, clock=bench.clock, entropy=bench.entropy
        ) as client,
    ):
        relay.hold = hold
        yield client


async def test_SH6_a_put_that_meets_an_unshare(bench, alice: Person, bob: Person) -> None:
    """A copy that is stored after `unshare` deleted it is deleted again."""
    path = (await alice.shares(bob, "API_KEY", "ci/TOKEN")).folder.path
    meets = [alice.client.sharing.unshare(["API_KEY"], did=bob.did)]

    async def hold(request: web.Request) -> None:
        if request.path == "/invoke" and meets:
            await meets.pop()

    async with _through(bench, alice, hold) as client:
        await client.sharing.put_many({"API_KEY": "new", "ci/TOKEN": "new"})
    assert not meets
    assert await alice.client.secrets().get("API_KEY") == "new"
    assert [one async for one in alice.client.kv("secrets").list(FOLDER)] == [
        f"{path}scoped/ci/TOKEN"
    ]


async def test_SH6_a_share_that_meets_a_put(bench, alice: Person, bob: Person) -> None:
    """A value that is stored while the secret is being shared is copied too."""
    left = [*range(16)]

    async def hold(request: web.Request) -> None:
        if request.path in ("/invoke", "/delegate") and left:
            await alice.client.sharing.put_many({"API_KEY": f"{left.pop()}"})

    async with _through(bench, alice, hold) as client:
        await client.sharing.share(["API_KEY"], bob.did, wallet=lambda: alice.wallet)
    value = await alice.client.secrets().get("API_KEY")
    assert await bob.reads(alice) == {"API_KEY": value} != {"API_KEY": "open sesame"}


async def test_SH7_equal_names_for_a_person_and_a_team(alice: Person, bob: Person) -> None:
    """A secret that is shared with a person and a team has two copies, which end separately."""
    sharing = alice.client.sharing
    await alice.shares(bob, "API_KEY")
    await alice.shares(bob, "API_KEY", team="ops")
    await sharing.put_many({"API_KEY": "new"})
    assert await bob.reads(alice, "ops") == await bob.reads(alice, "") == {"API_KEY": "new"}
    with pytest.raises(InvalidInput, match="for all its members"):
        await sharing.unshare(["API_KEY"], did=bob.did, team="ops")
    await sharing.unshare(["API_KEY"], team="ops")
    await sharing.put_many({"API_KEY": "newer"})
    assert await bob.reads(alice, "ops") == {}
    assert await bob.reads(alice, "") == {"API_KEY": "newer"}
    await sharing.unshare(None)
    assert await sharing.shares() == ()


# --- the key --------------------------------------------------------------------------------------


async def test_SH4_a_replaced_network_is_refused(
    bench, bench_with, tmp_path, alice: Person
) -> None:
    """If a recipient's network has another key, nothing is sealed and the error has both
    fingerprints."""
    bob = await person(bench)
    former = (await alice.shares(bob, "API_KEY")).pin
    await alice.shares(bob, "API_KEY", team="ops")
    (tmp_path / "other").mkdir()
    other = await bench_with(trusting_config(tmp_path / "other", bench.platform))
    there = await other.client()
    await there.sign_in(bob.wallet)  # the same owner has another key at another node
    visitor = await other.client()
    with pytest.raises(NetworkKeyChanged) as refused:
        await alice.client.sharing.share(
            ["ci/TOKEN"], bob.did, wallet=lambda: alice.wallet, encryption=visitor.encryption
        )
    assert former.fingerprint in refused.value.message
    assert refused.value.offered.fingerprint in str(refused.value.step)
    assert await bob.reads(alice, "ops") == {"API_KEY": "open sesame"}
    await alice.client.sharing.unshare(None, did=bob.did)
    with pytest.raises(NetworkKeyChanged):  # still a member of the team
        await alice.client.sharing.share([], bob.did, encryption=visitor.encryption)
    await alice.client.sharing.unshare(None, did=bob.did, team="ops")
    share = await alice.client.sharing.share(
        ["API_KEY"], bob.did, wallet=lambda: alice.wallet, encryption=visitor.encryption
    )
    assert share.pin == refused.value.offered


async def test_SH4_a_node_that_gives_another_descriptor(bench, alice: Person, bob: Person) -> None:
    """If a relay swaps in its own key, the signature check fails and nothing is granted."""
    eve = await person(bench)
    own = await eve.client.encryption.descriptor(eve.client.encryption.network())
    async with (
        relay_before(bench.node.url) as relay,
        Client(
            relay.url, session=alice.client.session, clock=bench.clock, entropy=bench.entropy
        ) as client,
    ):

        def twist(answer: Answer) -> None:
            if "/encryption/networks/" in answer.path and bob.did in answer.path:
                answer.change(publicEncryptionKey=b64encode(own.public_key).decode())

        relay.twist = twist
        with pytest.raises(ResponseSignatureInvalid):
            await client.sharing.share(["API_KEY"], bob.did, wallet=lambda: alice.wallet)
    assert await alice.client.sharing.shares() == ()


# --- teams ----------------------------------------------------------------------------------------


async def test_SH7_a_member_who_joins_and_leaves(bench, alice: Person, bob: Person) -> None:
    """SH7: a new member gets all secrets of the team, and a former member gets no new value."""
    carol = await person(bench)
    await alice.shares(bob, team="ops")
    await alice.shares(bob, "API_KEY", "ci/TOKEN", team="ops")
    sharing = alice.client.sharing
    await sharing.share((), carol.did, team="ops", wallet=lambda: alice.wallet)
    assert await carol.reads(alice) == await bob.reads(alice)
    assert len(await carol.reads(alice)) == 2
    source = await bob.source(alice)
    assert await sharing.unshare(None, did=bob.did, team="ops") == ("API_KEY", "ci/TOKEN")
    await sharing.put_many({"API_KEY": "after bob"})
    for failing in (source.get("API_KEY"), bob.reads(alice)):
        with pytest.raises((DelegationRevoked, NotShared)):
            await failing
    assert (await carol.reads(alice))["API_KEY"] == "after bob"
    await sharing.unshare(["API_KEY"], team="ops")
    assert await carol.reads(alice) == {"TOKEN": b"\0\1"}
    assert {one.folder.did for one in await sharing.shares()} == {carol.did}


async def test_SH8_several_teams_are_told_apart(alice: Person, bob: Person) -> None:
    """If a secret is shared with a person and with a team, the reader names one of the two."""
    await alice.shares(bob, "API_KEY")
    await alice.shares(bob, "ci/TOKEN", team="ops")
    with pytest.raises(NotShared, match="you alone") as refused:
        await bob.source(alice)
    assert "ops" in refused.value.message
    assert await bob.reads(alice, "ops") == {"TOKEN": b"\0\1"}
    await alice.client.sharing.unshare(["API_KEY"])
    assert await bob.reads(alice) == {"TOKEN": b"\0\1"}


# --- the reader -----------------------------------------------------------------------------------


async def test_SH8_grants_of_strangers_are_not_fetched(bench, alice: Person, bob: Person) -> None:
    """A stranger who sends many grants does not delay the reader, who asks for one page."""
    await alice.shares(bob, "API_KEY")
    eve, pages = await person(bench), []
    space = eve.client.kv("secrets").space.text
    for number in range(101):
        right = [allow(f"{space}/kv/{number}", KV_GET)]
        await eve.client.delegations.delegate(bob.did, right, wallet=eve.wallet)

    async def hold(request: web.Request) -> None:
        if request.path == "/delegation/query":
            pages.append(request)

    async with (
        relay_before(bench.node.url) as relay,
        Client(
            relay.url, session=bob.client.session, clock=bench.clock, entropy=bench.entropy
        ) as client,
    ):
        relay.hold = hold
        source = await client.sharing.received(alice.did, wallet=lambda: bob.wallet)
        assert await source.get("API_KEY") == "open sesame"
    assert len(pages) == 1


async def test_SH5_a_reader_gets_no_other_value(bench, alice: Person, bob: Person) -> None:
    """The right covers the reader's own folder: no secret, no other folder, no writing."""
    carol = await person(bench)
    share = await alice.shares(bob, "API_KEY")
    other = await alice.shares(carol, "API_KEY", team="ops")
    await bob.source(alice)
    kv = bob.client.kv(alice.client.kv("secrets").space.text)
    assert (await kv.get(f"{share.folder.path}API_KEY")).body
    for path in (
        "vault/secrets/API_KEY",
        f"{other.folder.path}API_KEY",
        f"{FOLDER}{bob.did}",
        f"{share.folder.path[:-2]}x/API_KEY",
    ):
        with pytest.raises((NotGranted, Unauthorized)):
            await kv.get(path)
        right = allow(f"{kv.space.text}/kv/{path}", KV_GET)
        with pytest.raises((NotGranted, Unauthorized)):
            await bob.client.delegations.delegate(carol.did, [right])
    for failing in (kv.put(f"{share.folder.path}API_KEY", "x"), kv.delete(share.folder.path)):
        with pytest.raises(NotGranted):
            await failing
    with pytest.raises(InvalidPortableDelegation):
        await bob.client.sharing.opened(other, wallet=lambda: bob.wallet)


async def test_SH8_a_copy_for_another_network_or_name_is_refused(
    bench, alice: Person, bob: Person
) -> None:
    """An envelope that is moved to another name, or sealed to another owner, is not opened."""
    carol = await person(bench)
    path = (await alice.shares(bob, "API_KEY", "ci/TOKEN")).folder.path
    others = (await alice.shares(carol, "API_KEY")).folder.path
    source, kv = await bob.source(alice), alice.client.kv("secrets")
    await kv.put(f"{path}MOVED", (await kv.get(f"{path}API_KEY")).body)
    with pytest.raises(LabelMismatch):
        await source.get("MOVED")
    for body in ((await kv.get(f"{others}API_KEY")).body, b"no envelope"):
        await kv.put(f"{path}FOREIGN", body)
        with pytest.raises(InvalidEnvelope):
            await source.get("FOREIGN")
    network = bob.client.encryption.network()
    unlabelled = await bob.client.encryption.encrypt(b"{}", network=network)
    await kv.put(f"{path}UNLABELLED", envelope_bytes(unlabelled))
    with pytest.raises(LabelMismatch):
        await source.get("UNLABELLED")


# --- two nodes ------------------------------------------------------------------------------------


async def test_people_at_two_nodes(bench, tmp_path, alice: Person) -> None:
    """A secret shared between owners at two nodes needs only the owner's node for new values."""
    (tmp_path / "other").mkdir()
    config = trusting_config(tmp_path / "other", bench.platform)

    def visitor(node, session: Session | None = None) -> Client:
        return Client(node.url, session=session, clock=bench.clock, entropy=bench.entropy)

    sharing, wallet = alice.client.sharing, new_wallet(entropy=bench.entropy)
    async with embedded_node(config, clock=bench.clock) as node, visitor(node) as there:
        session = await there.sign_in(wallet)
        with pytest.raises(NetworkNotFound):
            await sharing.share(["API_KEY"], wallet.did, wallet=lambda: alice.wallet)
        async with visitor(node) as asked:
            share = await sharing.share(
                ["API_KEY"],
                wallet.did,
                wallet=lambda: alice.wallet,
                encryption=asked.encryption,
            )
    portable = share.portable(alice.client.url)
    found = read_share(portable.header, portable.owner)
    assert found == share
    for value in ("while it is down", "again"):
        await sharing.put_many({"API_KEY": value})
    # The key in the grant is used.
    await sharing.share(["ci/TOKEN"], wallet.did, wallet=lambda: alice.wallet)
    guest = await bench.client(replace(session, node_id=None))
    async with (
        embedded_node(config, clock=bench.clock) as node,
        visitor(node, replace(session, node_id=None)) as there,
    ):
        source = await guest.sharing.opened(
            share, wallet=lambda: wallet, encryption=there.encryption
        )
        assert await source.get("API_KEY") == "again"
        assert await source.get("TOKEN", scope="ci") == b"\0\1"
        await sharing.unshare(None, did=wallet.did)
        with pytest.raises(DelegationRevoked):
            await source.get("API_KEY")


async def test_SH5_a_new_right_revives_no_earlier_copy(bench, alice: Person, bob: Person) -> None:
    """A new right to read does not include copies that were shared under an expired right."""
    sharing = alice.client.sharing
    await sharing.share(["API_KEY"], bob.did, wallet=lambda: alice.wallet, ttl_s=3600)
    bench.clock.advance(3601)
    with pytest.raises(NotShared):
        await bob.reads(alice)
    await sharing.put_many({"API_KEY": "later"})
    await alice.shares(bob, "ci/TOKEN")
    assert await bob.reads(alice) == {"TOKEN": b"\0\1"}


async def test_SH3_a_node_that_hides_the_end_of_a_right(bench, alice: Person, bob: Person) -> None:
    """A grant that a node lists as active after its end is not used."""
    listed: list[bytes] = []

    def twist(answer: Answer) -> None:
        if answer.path == "/delegation/query":
            assert b'"direction":"granted"' in answer.asked  # not what strangers sent to her
            listed.append(answer.body)
            answer.body = listed[0]

    async with (
        relay_before(bench.node.url) as relay,
        Client(
            relay.url, session=alice.client.session, clock=bench.clock, entropy=bench.entropy
        ) as client,
    ):
        share = await client.sharing.share(
            ["API_KEY"], bob.did, wallet=lambda: alice.wallet, ttl_s=3600
        )
        relay.twist = twist
        assert [one.grant for one in await client.sharing.shares()] == [share.grant]
        former = (await client.kv("secrets").get(f"{share.folder.path}API_KEY")).etag
        bench.clock.advance(3601)
        assert await client.sharing.shares() == ()
        await client.sharing.put_many({"API_KEY": "after the end"})
        assert (await client.kv("secrets").get(f"{share.folder.path}API_KEY")).etag == former
    assert len(listed) == 3
