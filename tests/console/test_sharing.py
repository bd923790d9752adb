"""Tests of sharing with people and teams in the console, compared with the SDK."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from browser import Browser, BrowserWallet
from console_stage import ConsolePage
from console_wire import in_console, in_page
from embedded_node import EmbeddedNode
from node_js import Scripts
from playwright.async_api import Route, expect

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.signatures import WalletSigner
from encryption_network.pins import pin_of
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import SealspaceError
from sealspace.giving.copies import read_share
from sealspace.session import key_session, mint, network_of_owner, sign_message
from sealspace.wallets import new_wallet

GET, LIST, PUT = "tinycloud.kv/get", "tinycloud.kv/list", "tinycloud.kv/put"
SIGNATURE = b"\x61s\x58\x41"
"""What precedes the signature in a CACAO: a member `s` with 65 bytes."""
WALLET = "Test Wallet example.wallet"


@dataclass
class People:
    """The owner of the page's wallet, and people with keys at the same node. Calls of the SDK run
    on the browser's loop."""

    browser: Browser
    node: EmbeddedNode
    wallet: BrowserWallet

    def did(self, seed: int) -> str:
        """Create the network of a person, and return the person's DID."""

        async def create() -> str:
            async with Client(self.node.url, session=self._session(seed)) as person:
                await person.encryption.ensure_network()
                return person.session.owner

        return self.browser.run(create())

    def own(self, work: Callable[[Client], Any]) -> Any:
        """Call a function with a client of the owner, and await its result."""

        async def run() -> Any:
            async with Client(self.node.url) as owner:
                await owner.sign_in(self.wallet.signer)
                return await work(owner)

        return self.browser.run(run())

    def store(self, **values: str) -> None:
        """Store secrets of the owner."""

        async def put(owner: Client) -> None:
            await owner.encryption.ensure_network()
            await owner.secrets().put_many(values)

        self.own(put)

    def share(self, name: str, did: str, team: str | None = None) -> None:
        """Share a secret as another client does."""
        signer = self.wallet.signer
        self.own(lambda owner: owner.sharing.share([name], did, team=team, wallet=lambda: signer))

    def shared(self) -> dict[str, list[str]]:
        """Return the labels that are shared, by team and person."""
        found = self.own(lambda owner: owner.sharing.shares())
        return {
            f"{one.folder.team or ''} {one.folder.did}".strip(): sorted(
                copy.label for copy in one.copies
            )
            for one in found
        }

    def reads(self, seed: int, label: str, team: str | None = None, owner: str = "") -> str:
        """Read a copy as a person; return the value, or the class of the refusal."""
        scope, _, name = label.rpartition("/")

        async def read() -> str:
            async with Client(self.node.url, session=self._session(seed)) as person:
                try:
                    received = await person.sharing.received(
                        owner or self.wallet.signer.did, team=team
                    )
                    return str(await received.get(name, scope=scope or None))
                except SealspaceError as refused:
                    return type(refused).__name__

        return self.browser.run(read())

    def copies(self) -> list[str]:
        """Return the paths of all copies in the owner's space."""

        async def list_(owner: Client) -> list[str]:
            return [path async for path in owner.kv("secrets").list("vault/secrets/shared/")]

        paths: list[str] = self.own(list_)
        return paths

    def _session(self, seed: int) -> Any:
        return key_session(self.wallet.signer.did.encode()[-31:] + bytes([seed]))


@pytest.fixture
def people(browser: Browser, node: EmbeddedNode, wallet: BrowserWallet) -> People:
    """An owner, and people who are unknown to the node."""
    return People(browser, node, wallet)


def replace(console: ConsolePage, name: str, value: str) -> None:
    """Replace a secret by the page's form."""
    console.click(f"Open {name}")
    console.click("Replace", within="dialog")
    console.type("Value", value)


def test_a_new_value_renews_every_copy(console: ConsolePage, people: People) -> None:
    """SH6: replacing a secret names the people who have a copy, and they read the new value."""
    people.store(API_KEY="first", OTHER="other")
    alone, member = people.did(1), people.did(2)
    people.share("API_KEY", alone)
    people.share("API_KEY", member, team="ops")
    people.share("OTHER", people.did(3))
    console.sign_in()
    replace(console, "API_KEY", "second")
    console.see("Saving also renews the copies of these 2 people:")
    listed = console.tab.locator("dialog .rights li")
    console.run(expect(listed).to_have_count(2))
    for did in (alone, member):
        console.run(expect(console.tab.locator(f'dialog [data-did="{did}"]')).to_be_visible())
    console.see("in team ops")
    console.shot("secret-replace-copies")
    assert console.accessibility_problems() == []
    console.click("Seal and save", within="dialog")
    console.see("API_KEY is saved, with 2 copies")
    assert people.reads(1, "API_KEY") == people.reads(2, "API_KEY", "ops") == "second"
    assert people.reads(3, "OTHER") == "other"


def test_copies_that_are_stale_are_renewed_by_saving_again(
    console: ConsolePage, people: People
) -> None:
    """SH6: if the copies cannot be stored, the form says so, and saving again stores only them."""
    people.store(API_KEY="first")
    people.share("API_KEY", people.did(1))
    console.sign_in()
    replace(console, "API_KEY", "second")
    console.see("Saving also renews the copy of this person:")
    puts: list[str] = []

    async def second_lost(route: Route) -> None:
        body = route.request.post_data or ""
        if '"networkId"' in body:
            puts.append(body)
        await (route.abort() if len(puts) == 2 and '"networkId"' in body else route.continue_())

    console.run(console.tab.route("**/invoke", second_lost))
    console.click("Seal and save", within="dialog")
    console.see("people may have a copy of the former value")
    console.see("Save again to renew the copies.")
    assert people.reads(1, "API_KEY") == "first"
    console.click("Seal and save", within="dialog")
    console.see("API_KEY is saved, with one copy")
    assert people.reads(1, "API_KEY") == "second"
    assert len(puts) == 3


def test_many_values_renew_copies_in_the_same_commit(console: ConsolePage, people: People) -> None:
    """SH6: a file of secrets that replaces a shared one renews its copies."""
    people.store(API_KEY="first")
    people.share("API_KEY", people.did(1))
    console.sign_in()
    console.click("Add many", within="header >> nth=-1")
    console.type("Names and values", "API_KEY=second\nNEW=1\n")
    console.run(console.tab.get_by_label("Replace those that exist").check())
    console.click("Seal and save", within="dialog")
    console.see("2 secrets are saved")
    assert people.reads(1, "API_KEY") == "second"


def test_deleting_a_secret_ends_its_sharing_first(console: ConsolePage, people: People) -> None:
    """SH6: the copies and their grants end before the secret is deleted, alone or with others."""
    people.store(ONE="1", TWO="2", THREE="3")
    did = people.did(1)
    for name in ("ONE", "TWO", "THREE"):
        people.share(name, did)
    console.sign_in()
    console.click("Open ONE")
    console.click("Delete", within="dialog")
    console.type("Type ONE to confirm", "ONE")
    console.click("Delete", within="dialog")
    console.see("ONE is deleted")
    assert people.shared() == {did: ["THREE", "TWO"]}
    for name in ("TWO", "THREE"):
        console.run(console.tab.get_by_label(f"Select {name}", exact=True).check())
    console.click("Delete 2 secrets")
    console.type("Type 2 to confirm", "2")
    console.click("Delete 2 secrets", within="dialog")
    console.see("No secrets yet")
    assert people.shared() == {}
    assert people.copies() == []


def test_SH3_grants_are_judged_as_the_sdk_judges_them(
    scripts: Scripts, node: EmbeddedNode, browser: Browser, wallet: BrowserWallet
) -> None:
    """A grant counts only with the owner's own signature, for its reader, and with exactly the
    rights to read."""
    bob, phrase = key_session(bytes([9]) * 32), key_session(bytes([8]) * 32)

    async def made(owner: Client, signer: WalletSigner | None) -> list[str]:
        space = owner.session.own_space("secrets").text
        did = owner.session.owner
        folder = f"{space}/kv/vault/secrets/shared/{bob.did}/{'A' * 43}/"
        name = f"{space}/kv/vault/secrets/shared/ops/scoped/ci/TOKEN"
        elsewhere = f"{space}/kv/vault/secrets/shared/ops/scoped/CI/TOKEN"
        both = (GET, LIST)
        tokens = []
        for wallet_, to, place, abilities in (
            (signer, bob.did, folder, both),
            (signer, did, name, both),
            (signer, did, folder, both),
            (signer, bob.did, name, both),
            (signer, bob.did, folder, (GET,)),
            (signer, bob.did, folder, (*both, PUT)),
            (signer, bob.did, folder.replace("A/", "B/"), both),
            (signer, did, elsewhere, both),
            (None, bob.did, folder, both),
        ):
            rights = [allow(place, one) for one in abilities]
            made = await owner.delegations.delegate(to, rights, wallet=wallet_)
            tokens.append(made.header)
        return tokens

    async def all_() -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        async with Client(node.url) as owner, Client(node.url, session=phrase) as other:
            await owner.sign_in(wallet.signer)
            for token in await made(owner, wallet.signer):
                found.append((token, owner.session.owner))
                found.append((token, new_wallet().did))
            for token in await made(other, None):
                found.append((token, other.session.owner))
        return found

    cases = browser.run(all_())
    good, owner_did = cases[0]
    data = bytearray(base64.urlsafe_b64decode(good))
    data[data.index(SIGNATURE) + len(SIGNATURE) + 40] ^= 1
    cases.append((base64.urlsafe_b64encode(data).decode(), owner_did))
    by_phrase = cases[18][0]
    head, body, _ = by_phrase.split(".")
    cases += [(f"{head}.{body}.{'A' * 86}", phrase.did), ("", owner_did), ("a.b.c", owner_did)]
    place = f"tinycloud:{owner_did[4:]}:secrets/kv/vault/secrets/shared/{bob.did}/{'A' * 43}/"
    rights = tuple(allow(place, one) for one in (GET, LIST))
    stranger = sign_message(
        new_wallet(),
        SystemEntropy(),
        domain="localhost",
        uri=bob.did,
        issued_at=1_790_000_000.0,
        expires_at=4_000_000_000.0,
        capabilities=rights,
    )
    with_proof = mint(
        phrase.signer,
        SystemEntropy(),
        audience=bob.did,
        capabilities=[
            allow(place.replace(owner_did[4:], phrase.did[4:]), one) for one in (GET, LIST)
        ],
        proofs=["bafy"],
        expires_at=4_000_000_000.0,
    )
    cases.append((with_proof, phrase.did))
    cases.append((stranger, owner_did))
    answers = in_page(
        scripts,
        """
        const { readSigned } = await at("shares");
        return Promise.all(given.map(async ([token, owner]) => {
          const found = await readSigned(token, owner);
          return found && [found.target.kind, found.target.path];
        }));
        """,
        [list(one) for one in cases],
    )
    accepted = 0
    for (token, owner), answer in zip(cases, answers, strict=True):
        share = read_share(token, owner)
        if share is not None:
            assert answer == ["folder", share.folder.path]
        elif answer is not None:
            assert answer[0] == "name"
            accepted += 1
    assert [one is not None for one in answers[:18:2]] == [True, True, *[False] * 7]
    assert answers[1:18:2] == [None] * 9
    assert accepted == 2
    assert [one is not None for one in answers[18:27]] == [True, True, *[False] * 6, True]
    assert answers[27:] == [None] * 6


def test_a_secret_is_shared_and_its_sharing_ended(console: ConsolePage, people: People) -> None:
    """A person reads what the page shared by the SDK, later values too, until the page ends it
    (SH3, SH5)."""
    people.store(API_KEY="first", OTHER="other")
    did = people.did(1)
    console.sign_in()
    console.click("Open API_KEY")
    console.click("Share", within="dialog")
    console.see("Nobody yet.")
    for wrong, said in (
        ("alice", "Type the DID of a wallet or a key"),
        (people.wallet.signer.did, "This is your own DID."),
        ("team:ops", "You have no team of this name."),
    ):
        console.type("Share with", wrong)
        console.click("Next")
        console.see(said)
    console.type("Share with", key_session(bytes([77]) * 32).did)
    console.click("Next")
    console.see("This person has no encryption key at your node.")
    console.type("Share with", did)
    console.click("Next")
    console.see("Your wallet signs 2 times")
    pin = people.own(lambda owner: owner.encryption.descriptor(network_of_owner(did)))
    console.see(pin_of(pin).fingerprint)
    console.shot("share-confirm")
    assert console.accessibility_problems() == []
    console.click("Share", within="dialog >> nth=-1")
    console.click(WALLET, within="dialog >> nth=-1")
    console.run(expect(console.tab.locator(f'dialog [data-did="{did}"]')).to_be_visible())
    console.shot("secret-share")
    assert console.accessibility_problems() == []
    assert people.shared() == {did: ["API_KEY"]}
    assert people.reads(1, "API_KEY") == "first"
    people.own(lambda owner: owner.sharing.put_many({"API_KEY": "by the SDK"}))
    assert people.reads(1, "API_KEY") == "by the SDK"
    console.run(console.tab.locator("dialog").get_by_role("button", name="End sharing").click())
    console.see("What was read stays known")
    console.click("End", within="dialog >> nth=-1")
    console.see("Nobody yet.")
    assert people.shared() == {}
    assert people.copies() == []
    assert people.reads(1, "API_KEY") == "NotShared"


def test_SH4_another_key_is_refused(console: ConsolePage, people: People) -> None:
    """A node that offers another key for a person than the live grants name gets no copy."""
    people.store(API_KEY="first", OTHER="other")
    did, other = people.did(1), people.did(2)
    people.share("API_KEY", did)
    network = people.own(lambda owner: owner.encryption.descriptor(network_of_owner(other)))
    console.sign_in()
    refused = in_console(
        console,
        """
        const { plan } = await at("sharing"), { Client } = await at("client"), { secretName } = await at("secrets");
        const { fromHex } = await at("bytes");
        const client = Client(await session.restore());
        const asked = { secrets: [secretName(null, "OTHER")], did: given.did, team: null, expiresS: 600 };
        const before = (await plan(client, asked)).fingerprint;
        const id = `urn:tinycloud:encryption:${given.did}:default`;
        client.cache.set(id, { ...client.cache.get(id), publicEncryptionKey: fromHex(given.key) });
        return [before, await caught(() => plan(client, asked))];
        """,
        {"did": did, "key": network.public_key.hex()},
    )
    assert refused[1]["code"] == "network-key-changed"
    assert refused[0] in refused[1]["details"]["text"]
    assert pin_of(network).fingerprint in refused[1]["details"]["text"]


def test_teams(console: ConsolePage, people: People) -> None:
    """Members of a team get its secrets, a new one all of them, until they are removed (SH7)."""
    people.store(API_KEY="first", OTHER="other")
    first, second = people.did(1), people.did(2)
    console.sign_in()
    console.click("People and teams", role="link")
    console.see("Nothing is shared")
    console.shot("people-empty")
    console.click("New team")
    console.type("Name of the team", "Ops")
    console.type("Person", first)
    console.click("Next")
    console.see("Use 1 to 64 small letters")
    console.type("Name of the team", "ops")
    console.click("Next")
    agree(console)
    panel = console.tab.get_by_role("region", name="team ops")
    console.run(panel.get_by_role("button", name="Share secrets").click())
    console.type("Names of secrets", "API_KEY ABSENT")
    console.click("Next")
    console.see("You have no secret ABSENT.")
    console.type("Names of secrets", "API_KEY")
    console.click("Next")
    agree(console)
    console.run(expect(panel.get_by_text("API_KEY", exact=True)).to_be_visible())
    console.run(panel.get_by_role("button", name="Add a person").click())
    console.type("Person", second)
    console.click("Next")
    agree(console)
    console.run(expect(panel.locator("[data-did]")).to_have_count(2))
    console.click("Share with a person")
    console.type("Person", first)
    console.type("Names of secrets", "OTHER")
    console.click("Next")
    agree(console)
    console.run(
        expect(console.tab.get_by_role("region", name="People", exact=True)).to_be_visible()
    )
    console.shot("people")
    assert console.accessibility_problems() == []
    assert people.shared() == {
        f"ops {first}": ["API_KEY"],
        f"ops {second}": ["API_KEY"],
        first: ["OTHER"],
    }
    assert people.reads(1, "API_KEY", "ops") == people.reads(2, "API_KEY", "ops") == "first"
    member = panel.locator(f'[data-did="{second}"]')
    console.run(member.get_by_role("button").click())
    console.click("End", within="dialog")
    console.run(expect(panel.locator("[data-did]")).to_have_count(1))
    assert people.reads(2, "API_KEY", "ops") == "NotShared"
    console.run(panel.get_by_role("button", name="End sharing API_KEY with team ops").click())
    console.click("End", within="dialog")
    console.run(expect(panel.get_by_text("API_KEY", exact=True)).to_have_count(0))
    assert people.shared() == {f"ops {first}": [], first: ["OTHER"]}
    assert len(people.copies()) == 1


def agree(console: ConsolePage) -> None:
    """Share what the dialog shows, and sign."""
    console.see("Compare, then share")
    console.click("Share", within="dialog >> nth=-1")
    console.click(WALLET, within="dialog >> nth=-1")
    console.run(expect(console.tab.locator("dialog")).to_have_count(0))


def before_the_copies(console: ConsolePage, work: Callable[[], Any]) -> None:
    """Call a function just before the page stores copies, once."""
    called: list[str] = []

    async def first(route: Route) -> None:
        body = route.request.post_data or ""
        if "did:key:" in body and '"networkId"' in body and not called:
            called.append(body)
            await work()
        await route.continue_()

    console.run(console.tab.route("**/invoke", first))


def share_by_the_page(console: ConsolePage, did: str) -> None:
    """Share API_KEY with a person by its dialog."""
    console.click("Open API_KEY")
    console.click("Share", within="dialog")
    console.type("Share with", did)
    console.click("Next")
    console.see("Compare, then share")
    console.click("Share", within="dialog >> nth=-1")
    console.click(WALLET, within="dialog >> nth=-1")
    console.see("API_KEY is shared")


def test_SH6_copies_of_what_ended_meanwhile_are_deleted(
    console: ConsolePage, people: People
) -> None:
    """If another client ends the sharing while copies are stored, no copy is left."""
    people.store(API_KEY="first")
    did = people.did(1)
    people.share("API_KEY", did)
    console.sign_in()

    async def end() -> None:
        async with Client(people.node.url) as owner:
            await owner.sign_in(people.wallet.signer)
            await owner.sharing.unshare(["API_KEY"], did=did)

    before_the_copies(console, end)
    replace(console, "API_KEY", "second")
    console.see("Saving also renews the copy of this person:")
    console.click("Seal and save", within="dialog")
    console.see("API_KEY is saved")
    assert people.shared() == {}
    assert people.copies() == []


def test_SH6_a_value_that_is_replaced_meanwhile_is_copied_again(
    console: ConsolePage, people: People
) -> None:
    """If another program replaces the secret while it is shared, the person reads the new value."""
    people.store(API_KEY="first")
    did = people.did(1)
    console.sign_in()

    async def store() -> None:
        async with Client(people.node.url) as owner:
            await owner.sign_in(people.wallet.signer)
            await owner.secrets().put("API_KEY", "second")

    before_the_copies(console, store)
    share_by_the_page(console, did)
    assert people.reads(1, "API_KEY") == "second"


def test_SH5_a_new_right_begins_with_an_empty_folder(console: ConsolePage, people: People) -> None:
    """Copies that were left in the folder of a person are deleted before the person may read it."""
    people.store(API_KEY="first", OLD="old")
    did = people.did(1)
    people.share("OLD", did)

    async def revoke_alone(owner: Client) -> None:
        (share,) = await owner.sharing.shares()
        await owner.delegations.revoke(share.grant.cid)

    people.own(revoke_alone)
    assert len(people.copies()) == 1
    console.sign_in()
    share_by_the_page(console, did)
    assert people.reads(1, "OLD") == "NotFound"
    assert people.reads(1, "API_KEY") == "first"
    assert people.shared() == {did: ["API_KEY"]}


def test_an_owner_with_a_phrase_shares(console: ConsolePage, people: People) -> None:
    """An owner without a wallet shares with the phrase's key; the SDK reads the copy."""
    did = people.did(1)
    console.open("connect")
    console.make_phrase()
    owner = console.run(console.tab.locator(".who .mono").get_attribute("title")) or ""
    console.add_secret("API_KEY", "open sesame")
    console.click("Open API_KEY")
    console.click("Share", within="dialog")
    console.type("Share with", did)
    console.click("Next")
    console.see("Compare, then share")
    console.click("Share", within="dialog >> nth=-1")
    console.see("API_KEY is shared")
    assert people.reads(1, "API_KEY", owner=owner) == "open sesame"
    console.run(console.tab.locator("dialog").get_by_role("button", name="End sharing").click())
    console.click("End", within="dialog >> nth=-1")
    console.see("Nobody yet.")
    assert people.reads(1, "API_KEY", owner=owner) == "NotShared"
