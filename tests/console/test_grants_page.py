"""Tests of the page of grants and backends, and of revocations that are effective at once."""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from backend_site import NOTES, Domain
from browser import Browser, BrowserWallet
from console_stage import ConsolePage, console_page
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from playwright.async_api import Route, expect
from trust_settings import trusting_config

from encryption_network.policy import Policy, policy_json
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import SealspaceError
from sealspace.session import key_session
from sealspace.wire.portable import PortableDelegation, decode_bundle
from tee_backend.backend import Backend

HOSTILE = (
    "tinycloud:<img src=x"
    " onerror=\"document.title='taken'\">:secrets/kv/vault/secrets/\u202e<b>KEY</b>"
)
MAY = "read the secret API_KEY; decrypt those of your secrets that it can read"
GET, DECRYPT = "tinycloud.kv/get", "tinycloud.encryption/decrypt"


@dataclass
class Owned:
    """An owner at a node that trusts a simulated platform. Calls of the SDK run on the browser's
    loop."""

    browser: Browser
    node: EmbeddedNode
    platform: SimulatedPlatform
    wallet: BrowserWallet

    def granted(self, seed: int, *paths: str) -> str:
        """Grant a secret, and values at paths, to a backend's DID; return the DID."""

        async def grant() -> str:
            async with Client(self.node.url) as owner:
                await owner.sign_in(self.wallet.signer)
                await owner.encryption.ensure_network()
                await owner.secrets().put("API_KEY", "open sesame")
                did = key_session(seed.to_bytes(32)).did
                rights = [allow(owner.secrets().resource("API_KEY"), GET)]
                rights.append(allow(owner.encryption.network().text, DECRYPT))
                rights += [allow(f"{owner.session.space.text}/kv/{path}", GET) for path in paths]
                policy = Policy(measurements=(NOTES,))
                self.portable = await owner.delegations.delegate(did, rights, policy=policy)
                return did

        return self.browser.run(grant())

    def shared(self, seed: int, team: str | None = None) -> str:
        """Share API_KEY with a new person at the same node, in a team or alone; return the DID."""

        async def share() -> str:
            person = key_session(seed.to_bytes(32))
            async with Client(self.node.url, session=person) as friend:
                await friend.encryption.ensure_network()
            async with Client(self.node.url) as owner:
                await owner.sign_in(self.wallet.signer)
                signer = self.wallet.signer
                await owner.sharing.share(["API_KEY"], person.did, team=team, wallet=lambda: signer)
            return person.did

        return self.browser.run(share())

    def passed_on(self, seed: int, next_seed: int) -> str:
        """Let the recipient of the last grant pass it on to another key; return that key's DID."""

        async def pass_on() -> str:
            did = key_session(next_seed.to_bytes(32)).did
            async with Client(self.node.url, session=key_session(seed.to_bytes(32))) as client:
                await client.delegations.accept(self.portable)
                owner = self.wallet.signer.did
                rights = [
                    allow(client.secrets(owner).resource("API_KEY"), GET),
                    allow(client.encryption.network(owner=owner).text, DECRYPT),
                ]
                await client.delegations.delegate(did, rights, at_most=True)
            return did

        return self.browser.run(pass_on())

    def end_sharing(self, did: str) -> None:
        """End the sharing of API_KEY with a person."""

        async def unshare() -> None:
            async with Client(self.node.url) as owner:
                await owner.sign_in(self.wallet.signer)
                await owner.sharing.unshare(["API_KEY"], did=did)

        self.browser.run(unshare())

    def with_token(self, name: str) -> None:
        """Create a machine token that reads API_KEY."""

        async def create() -> None:
            async with Client(self.node.url) as owner:
                await owner.sign_in(self.wallet.signer)
                await owner.delegations.create_token(name, ["API_KEY"], wallet=self.wallet.signer)

        self.browser.run(create())

    def with_trust(self, name: str) -> None:
        """Let jobs of one repository read API_KEY."""

        async def trust() -> None:
            async with Client(self.node.url) as owner:
                await owner.sign_in(self.wallet.signer)
                await owner.delegations.trust_issuer(
                    name,
                    ["API_KEY"],
                    issuer="https://issuer.example",
                    claims={"repository": ["team/app"]},
                    wallet=self.wallet.signer,
                )

        self.browser.run(trust())

    def grant_many(self, count: int) -> None:
        """Grant values to as many receivers."""

        async def grant() -> None:
            async with Client(self.node.url) as owner:
                await owner.sign_in(self.wallet.signer)
                for at in range(count):
                    rights = [allow(f"{owner.session.space.text}/kv/notes/{at}", GET)]
                    await owner.delegations.delegate(key_session(at.to_bytes(32)).did, rights)

        self.browser.run(grant())

    def revoke(self) -> None:
        """Revoke the last grant."""

        async def revoke() -> None:
            async with Client(self.node.url) as owner:
                await owner.sign_in(self.wallet.signer)
                await owner.delegations.revoke(self.portable.cid)

        self.browser.run(revoke())

    def keep(self, seed: int, portables: Sequence[PortableDelegation]) -> bytes:
        """Read the secret as a backend with these grants; return the sealed value, which the
        backend stores."""

        async def keep() -> bytes:
            async with Client(self.node.url, session=key_session(seed.to_bytes(32))) as client:
                backend = Backend(client, Domain(self.platform, NOTES))
                await backend.accept(*portables)
                assert await backend.read_secret(self.wallet.signer.did, "API_KEY") == "open sesame"
                kv = client.kv(f"tinycloud:{self.wallet.signer.did[4:]}:secrets")
                return (await kv.get("vault/secrets/API_KEY")).body

        return self.browser.run(keep())

    def open_kept(self, seed: int, portables: Sequence[PortableDelegation], envelope: bytes) -> str:
        """Open a stored sealed value as that backend with its remaining grants; return `opened` or
        the refusal."""

        async def opened() -> str:
            async with Client(self.node.url, session=key_session(seed.to_bytes(32))) as client:
                backend = Backend(client, Domain(self.platform, NOTES))
                refusals = []
                for portable in portables:
                    try:
                        seen = await backend.accept(portable)
                        await client.encryption.decrypt(envelope, receiver=seen.receiver)
                        return "opened"
                    except SealspaceError as refused:
                        refusals.append(f"{type(refused).__name__}: {refused}")
                return "; ".join(refusals)

        return self.browser.run(opened())

    def granted_apart(self, seed: int, *, by_wallet: bool) -> list[PortableDelegation]:
        """Grant as another client does: one delegation to read the secret, and one to decrypt with
        the network."""

        async def grant() -> list[PortableDelegation]:
            async with Client(self.node.url) as owner:
                await owner.sign_in(self.wallet.signer)
                await owner.secrets().put("API_KEY", "open sesame")
                self.did = key_session(seed.to_bytes(32)).did
                rights = (
                    [allow(owner.secrets().resource("API_KEY"), GET)],
                    [allow(owner.encryption.network().text, DECRYPT)],
                )
                wallet = self.wallet.signer if by_wallet else None
                policy = Policy(measurements=(NOTES,))
                return [
                    await owner.delegations.delegate(self.did, some, policy=policy, wallet=wallet)
                    for some in rights
                ]

        return self.browser.run(grant())

    def read(self, seed: int) -> str:
        """Read the secret as the last granted backend, and return the value or the refusal."""

        async def read() -> str:
            async with Client(self.node.url, session=key_session(seed.to_bytes(32))) as client:
                backend = Backend(client, Domain(self.platform, NOTES))
                try:
                    await backend.accept(self.portable)
                    return str(await backend.read_secret(self.wallet.signer.did, "API_KEY"))
                except SealspaceError as refused:
                    return f"{type(refused).__name__}: {refused}"

        return self.browser.run(read())


@pytest.fixture(scope="module")
def platform() -> SimulatedPlatform:
    """A platform in software, with a root certificate of its own."""
    return SimulatedPlatform.from_seed(b"tests of the console")


@pytest.fixture(scope="module")
def attesting(
    browser: Browser, platform: SimulatedPlatform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedNode]:
    """A node that trusts the platform."""
    folder = tmp_path_factory.mktemp("attesting")
    with browser.entered(embedded_node(trusting_config(folder, platform))) as running:
        yield running


@pytest.fixture
def owned(
    browser: Browser, attesting: EmbeddedNode, platform: SimulatedPlatform, wallet: BrowserWallet
) -> Owned:
    """A new owner, unknown to the node."""
    return Owned(browser, attesting, platform, wallet)


@pytest.fixture
def console(owned: Owned) -> Iterator[ConsolePage]:
    """A tab at that node's console."""
    with console_page(owned.browser, owned.node.url, wallet=owned.wallet) as opened:
        yield opened
        assert opened.faults() == []


def test_a_grant_and_the_code_behind_it(console: ConsolePage, owned: Owned) -> None:
    """A grant is listed and revoked, and its code withdrawn. The backend is refused at once, and so
    is another one with that code."""
    did = owned.granted(1)
    assert owned.read(1) == "open sesame"
    console.sign_in()
    console.click("Open API_KEY")
    console.see("may open it")
    console.see("as the node verified it: image")
    console.shot("secret-holders")
    console.run(console.tab.locator("dialog .holders a").click())
    console.run(expect(console.tab.get_by_label("Find a receiver or a secret")).to_have_value(did))
    console.run(expect(console.tab.locator(".rows .below > span").first).to_have_text(MAY))
    console.see("1 of 1 grant")
    console.shot("grants")
    console.run(console.tab.get_by_role("button", name="Details of the grant").click())
    console.see("Rests on")
    console.shot("grant")
    console.click("Revoke", within="dialog")
    console.see("under this grant from its next request on")
    console.shot("grant-revoke")
    console.click("Revoke", within="dialog >> nth=-1")
    chip = console.tab.locator(".rows .chip")
    console.run(expect(console.tab.locator("dialog .chip")).to_have_text("revoked"))
    revoke = console.tab.get_by_role("button", name="Revoke", exact=True)
    console.run(expect(revoke).to_have_count(0))
    console.run(expect(chip).to_have_count(0))
    assert "revoked" in owned.read(1)
    console.click("Close", within="dialog header")
    console.see("Nothing matches")
    console.run(console.tab.get_by_label("Status").select_option("revoked"))
    console.run(expect(chip).to_have_text("revoked"))
    console.run(console.tab.get_by_role("button", name="Details of the grant").click())
    console.see("Rests on")
    console.run(expect(revoke).to_have_count(0))
    console.click("Close", within="dialog header")

    owned.granted(2)
    assert owned.read(2) == "open sesame"
    console.go("grants")
    console.run(console.tab.get_by_role("button", name="Details of the backend").first.click())
    console.see("UpToDate")
    console.see(NOTES.mrtd.hex())
    console.shot("backend")
    console.click("Withdraw code", within="dialog")
    console.run(
        console.tab.get_by_label("What").select_option(
            label="This image: all that boots with it (MRTD)"
        )
    )
    for text in (
        "Every backend whose evidence has this measurement",
        "For ever.",
        "all other code",
    ):
        console.see(text)
    console.type("Type withdraw to confirm", "withdraw")
    console.shot("withdraw")
    console.run(console.tab.set_viewport_size({"width": 390, "height": 844}))
    console.click("Withdraw code", within="dialog >> nth=-1")
    console.run(console.tab.get_by_role("button", name="Test Wallet").click())
    console.see("Withdrawn. It receives no key from now on.")
    assert "withdrawn" in owned.read(2)
    owned.granted(3)
    assert "withdrawn" in owned.read(3)


def test_what_others_do_meanwhile(console: ConsolePage, owned: Owned) -> None:
    """A revocation elsewhere is shown in the open dialog. The row leaves the active ones, and the
    focus goes to the search."""
    owned.granted(4)
    console.sign_in()
    console.go("grants")
    details = console.tab.get_by_role("button", name="Details of the grant")
    console.run(details.focus())
    console.run(console.tab.keyboard.press("Enter"))
    console.see("Rests on")
    assert console.accessibility_problems() == []
    owned.revoke()
    console.run(console.tab.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))"))
    console.run(expect(console.tab.locator("dialog .chip")).to_have_text("revoked"))
    console.run(
        expect(console.tab.get_by_role("button", name="Revoke", exact=True)).to_have_count(0)
    )
    console.run(console.tab.keyboard.press("Escape"))
    console.run(expect(console.tab.get_by_label("Find a receiver or a secret")).to_be_focused())
    console.run(expect(console.tab.locator(".rows .chip")).to_have_count(0))
    assert console.accessibility_problems() == []
    console.run(console.tab.get_by_label("Show", exact=True).select_option("own"))
    console.see("this browser")
    console.see("3 of 3 grants")
    console.run(
        console.tab.locator("[role=row]", has_text="this browser").get_by_role("button").click()
    )
    console.click("Revoke", within="dialog")
    console.see("No grant rests on it.")
    console.see("you are signed out here")
    console.click("Revoke", within="dialog >> nth=-1")
    console.see("With a wallet")
    console.run(expect(console.tab.get_by_role("button", name="Sign out")).to_have_count(0))


def test_many_grants_and_texts_of_others(console: ConsolePage, owned: Owned) -> None:
    """The list keeps only a few of 300 rows in the document, and a search finds each row."""
    owned.grant_many(300)
    console.sign_in()
    console.go("grants")
    console.see("300 of 300 grants")
    assert console.run(console.tab.locator(".rows [role=row]").count()) < 60
    console.type("Find a receiver or a secret", "notes/217 and")
    console.see("1 of 300 grants")
    console.type("Find a receiver or a secret", "nothing")
    console.see("Nothing matches")
    console.click("Show all")
    console.see("300 of 300 grants")

    async def claim(route: Route) -> None:
        page = await (await route.fetch()).json()
        for one in page["items"]:
            one.update(
                delegateDid=HOSTILE,
                status=HOSTILE,
                parents=[HOSTILE],
                delegatorDid=HOSTILE,
                expiresAt=HOSTILE,
            )
            one["resources"] = [
                {"resource": HOSTILE, "actions": [HOSTILE, "constructor"], "caveats": [{"a": 1}]}
            ]
        await route.fulfill(json=page)

    console.run(console.tab.route("**/delegation/query", claim))
    console.open("grants")
    console.run(console.tab.get_by_label("Status").select_option("*"))
    console.run(console.tab.get_by_role("button", name="Details of the grant").first.click())
    console.run(expect(console.tab.locator("dialog .rights")).to_contain_text("under conditions"))
    assert console.run(console.tab.locator("img[src=x], b").count()) == 0
    assert "taken" not in console.run(console.tab.title())


def _link(manifest: object) -> str:
    return "requests?manifest=" + base64.urlsafe_b64encode(
        json.dumps(manifest).encode()
    ).decode().rstrip("=")


def test_what_was_approved_at_once_ends_at_once(console: ConsolePage, owned: Owned) -> None:
    """One approval is one grant. After its revocation the key of a stored sealed value is refused
    too (MF12, CN7)."""
    console.sign_in()
    console.run(console.tab.get_by_role("button", name="Add a secret").first.click())
    console.type("Name", "API_KEY")
    console.type("Value", "open sesame")
    console.click("Seal and save", within="dialog")
    console.see("API_KEY is saved")
    did = key_session((21).to_bytes(32)).did
    asked = {"app_id": "com.example.mailer", "name": "Mailer", "did": did, "defaults": False}
    console.go(_link({**asked, "secrets": {"API_KEY": True}}))
    policy = policy_json(Policy(measurements=(NOTES,)))
    console.type("The code, as sealspace backend show --json printed it", json.dumps(policy))
    console.click("Approve")
    console.see("The grant is in force")

    async def saved() -> bytes:
        async with console.tab.expect_download() as begun:
            await console.tab.get_by_role("button", name="Download", exact=True).click()
        return Path(await (await begun.value).path()).read_bytes()

    portables = decode_bundle(console.run(saved()))
    envelope = owned.keep(21, portables)
    assert owned.open_kept(21, portables, envelope) == "opened"
    console.go(f"grants?find={did}")
    console.run(console.tab.get_by_role("button", name="Details of the grant").first.click())
    console.click("Revoke", within="dialog")
    console.click("Revoke", within="dialog >> nth=-1")
    console.run(expect(console.tab.locator("dialog .chip").first).to_have_text("revoked"))
    refusal = owned.open_kept(21, portables, envelope)
    assert "revoked" in refusal, refusal
    console.go("secrets")
    console.click("Open API_KEY")
    console.see("No other live grant to it")


def test_a_grant_that_was_passed_on_is_listed(console: ConsolePage, owned: Owned) -> None:
    """The page of a secret lists those to whom a recipient passed its grant on, and by whom."""
    first = owned.granted(41)
    second = owned.passed_on(41, 42)
    console.sign_in()
    console.click("Open API_KEY")
    rows = console.tab.locator("dialog .holders li")
    console.run(expect(rows).to_have_count(2))
    further = rows.and_(console.tab.locator(f'[data-did="{second}"]'))
    console.run(expect(further).to_contain_text("passed on by"))
    console.run(expect(further.locator(f'[title="{first}"]')).to_have_count(1))


def test_people_with_copies_and_machine_tokens_may_open_a_secret(
    console: ConsolePage, owned: Owned
) -> None:
    """The page of a secret lists people with a copy, alone or in a team, and machine tokens and
    trusts by name. Replacing the value names those whose copies it renews. A person whose share
    ended is not listed."""
    owned.granted(31)
    owned.revoke()
    alone, in_team = owned.shared(32), owned.shared(33, team="ops")
    owned.with_token("nightly")
    owned.with_trust("pipeline")
    console.sign_in()
    console.click("Open API_KEY")
    rows = console.tab.locator("dialog .holders li")
    console.run(expect(rows).to_have_count(4))
    console.run(
        expect(rows.and_(console.tab.locator(f'[data-did="{alone}"]'))).to_contain_text(
            "has a copy of it"
        )
    )
    member = rows.and_(console.tab.locator(f'[data-did="{in_team}"]'))
    console.run(expect(member).to_contain_text("has a copy of it as a member of ops"))
    token = rows.filter(has_text="nightly")
    console.run(expect(token).to_contain_text("may open it with this machine token"))
    trust = rows.filter(has_text="pipeline")
    console.run(expect(trust).to_contain_text("may open it in a job that shows an ID token"))
    console.shot("secret-holders-people")
    console.click("Replace", within="dialog")
    console.see("Saving also renews the copies of these 2 people")
    console.click("Cancel", within="dialog")
    owned.end_sharing(alone)
    console.click("Open API_KEY")
    console.run(expect(rows).to_have_count(3))
    console.run(expect(member).to_be_visible())


def test_the_code_that_a_grant_approves(console: ConsolePage, owned: Owned) -> None:
    """Rows and details say which code a grant approves, from the signed token, and until when; they
    say if it approves none or needs none."""
    did = owned.granted(36)
    owned.with_token("nightly")
    owned.grant_many(1)
    console.sign_in()
    console.go(f"grants?find={did}")
    code = NOTES.mrtd.hex()
    row = console.tab.locator(".rows [role=row]")
    console.run(expect(row).to_contain_text(f"code {code[:12]}"))
    details = console.tab.get_by_role("button", name="Details of the grant")
    console.run(details.click())
    dialog = console.tab.locator("dialog")
    console.run(expect(dialog).to_contain_text(code))
    console.run(expect(dialog).to_contain_text("By this grant:"))
    console.run(expect(dialog).to_contain_text("Approved until the grant ends: in 7 days"))
    console.shot("grant-code")
    assert console.accessibility_problems() == []
    console.click("Close", within="dialog header")
    for text, said in (
        ("nightly", "Opens secrets without code."),
        ("notes/0", "It approves no code."),
    ):
        console.type("Find a receiver or a secret", text)
        console.run(expect(details).to_have_count(1))
        console.run(details.click())
        console.run(expect(dialog).to_contain_text(said))
        console.click("Close", within="dialog header")


def test_rows_say_who_and_what_on_a_phone(console: ConsolePage, owned: Owned) -> None:
    """At 390 px a row shows the name, the whole text of the rights and the end; rights to copies say
    what they are for."""
    owned.granted(35)
    did = owned.shared(34, team="ops")
    owned.with_token("nightly")
    console.sign_in()
    console.run(console.tab.set_viewport_size({"width": 390, "height": 844}))
    console.go("grants")
    rows = console.tab.locator(".rows [role=row]")
    for text, name in (
        ("read the copies that you share with the team ops", did[:14]),
        ("mark API_KEY as shared with the team ops", "You"),
        (MAY, "nightly"),
    ):
        row = rows.filter(has_text=text).filter(has_text=name)
        console.run(expect(row).to_contain_text("ends"))
        below = row.locator(".below")
        assert console.run(below.evaluate("(one) => one.scrollHeight <= one.clientHeight + 1"))
        assert console.run(below.evaluate("(one) => one.clientWidth")) > 300
    console.shot("grants-people")
    assert console.accessibility_problems() == []


@pytest.mark.parametrize("by_wallet", [True, False])
def test_what_another_client_granted_apart_ends_together(
    console: ConsolePage, owned: Owned, by_wallet: bool
) -> None:
    """Revoking either of two grants ends both. A grant that only another sign-in can revoke ends
    with that one (CN7)."""
    portables = owned.granted_apart(22, by_wallet=by_wallet)
    envelope = owned.keep(22, portables)
    console.sign_in()
    console.go(f"grants?find={owned.did}")
    console.see("2 of 2 grants")
    posted: list[str] = []
    console.listen(
        "request", lambda sent: posted.append(sent.url) if sent.url.endswith("/revoke") else None
    )
    console.run(console.tab.get_by_role("button", name="Details of the grant").first.click())
    console.click("Revoke", within="dialog")
    console.see("End this one too")
    if not by_wallet:
        console.run(expect(console.tab.locator("dialog").last).to_contain_text("sign-in of yours"))
    console.shot("grant-revoke-several")
    console.click("Revoke", within="dialog >> nth=-1")
    console.run(expect(console.tab.locator("dialog .chip").first).to_contain_text("revoked"))
    assert len(posted) == 1  # one token: all or none
    refusal = owned.open_kept(22, portables, envelope)
    assert "opened" not in refusal and "revoked" in refusal, refusal


def test_a_right_to_decrypt_is_counted_alone(console: ConsolePage, owned: Owned) -> None:
    """Without the right to read, the secret's page names who may still open a copy, and other
    sign-ins (CN7)."""
    portables = owned.granted_apart(23, by_wallet=True)
    envelope = owned.keep(23, portables)
    owned.portable = portables[0]
    owned.revoke()
    assert owned.open_kept(23, portables, envelope) == "opened"
    console.sign_in()
    console.click("Open API_KEY")
    console.see("may open a copy that it kept")
    console.see("Conditions on code and callers are not shown")
    console.see("with 2 other sign-ins")
    console.shot("secret-holders-key")
    console.click("Close", within="dialog header")
    console.run(console.tab.route("**/delegation/query", lambda route: route.abort()))
    console.click("Open API_KEY")
    console.see("Cannot tell at present who may open it")
    console.run(console.tab.unroute("**/delegation/query"))
