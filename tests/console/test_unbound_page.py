"""Tests of values that do not state their name, as the console shows, refuses and binds them (EN45,
CN14)."""

import pytest
from browser import BrowserWallet
from console_stage import ConsolePage
from console_wire import in_console
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from playwright.async_api import expect
from sealed_places import FOLDER, SealedPlaces

from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.session import key_session

PUT = "tinycloud.kv/put"
SECRET, NOTE, OTHER = f"{FOLDER}API_KEY", f"{FOLDER}notes/API_KEY", f"{FOLDER}OTHER"


@pytest.fixture
def values(loop: LoopThread, node: EmbeddedNode, wallet: BrowserWallet) -> SealedPlaces:
    """The sealed values of the page's owner."""
    return SealedPlaces(loop, node, wallet)


def test_an_unbound_value_is_shown_and_bound(
    console: ConsolePage, values: SealedPlaces, loop: LoopThread, node: EmbeddedNode
) -> None:
    """A value without a place is marked once it is shown, is not shared, and is bound by its button;
    a bound value has no such mark."""
    values.unbound(SECRET, "open sesame")
    values.unbound(NOTE, "from the dashboard")
    values.own(lambda owner: owner.secrets().put("OTHER", "another"))
    friend = key_session(values.did.encode()[-31:] + b"f")

    async def join() -> None:
        async with Client(node.url, session=friend) as person:
            await person.encryption.ensure_network()

    loop.run(join())
    console.sign_in()
    console.click("Open OTHER")
    console.click("Reveal")
    console.see("another")
    mark = console.tab.get_by_text("This value does not state its name")
    console.run(expect(mark).to_have_count(0))
    console.click("Close")
    console.click("Open API_KEY")
    console.see("This note does not state its secret")
    console.click("Reveal")
    console.see("open sesame")
    console.run(expect(mark).to_be_visible())
    console.shot("secret-unbound")
    assert console.accessibility_problems() == []
    console.click("Share", within="dialog")
    console.type("Share with", friend.did)
    console.click("Next")
    console.see("The value does not state the name of its secret.")
    console.see("bind it to its name; then share it")
    console.click("Close")
    console.click("Discard")
    console.click("Open API_KEY")
    console.click("Reveal")
    console.click("Bind to this name")
    console.click("Check API_KEY")
    console.see("2 checked: 2 without a name")
    console.click("Bind 2 values")
    console.see("The values stay as they are")
    console.shot("unbound-bind")
    assert console.accessibility_problems() == []
    console.click("Bind 2 values", within="dialog")
    console.see("2 values are bound")
    assert values.is_bound("API_KEY")
    assert values.plaintext(SECRET)["place"] == values.place(SECRET, "secret")
    assert values.plaintext(NOTE)["place"] == values.place(NOTE, "note")
    assert values.own(lambda owner: owner.secrets().get("API_KEY")) == "open sesame"
    console.go("secrets")
    console.click("Open API_KEY")
    console.see("from the dashboard")
    console.click("Reveal")
    console.see("open sesame")
    console.run(expect(console.tab.get_by_text("does not state its")).to_have_count(0))


def test_all_values_are_checked(console: ConsolePage, values: SealedPlaces) -> None:
    """The page lists what is unbound, copied or refused, with others who may write, and binds only
    what is ticked."""
    writer = key_session(bytes([7]) * 32).did

    async def grant(owner: Client) -> None:
        await owner.secrets().put("BOUND", "1")
        rights = [allow(owner.secrets().resource(name), PUT) for name in ("API_KEY", "MOVED")]
        await owner.delegations.delegate(writer, rights)

    for path in (SECRET, OTHER, f"{FOLDER}LATE", f"{FOLDER}scoped/mail/TOKEN"):
        values.unbound(path)
    values.own(grant)
    values.move(OTHER, f"{FOLDER}COPIED", label=None)
    values.move(f"{FOLDER}BOUND", f"{FOLDER}MOVED", label=None)
    console.sign_in()
    console.click("Find values that do not state their name", role="link")
    console.see("Each opening has a receipt")
    console.shot("unbound-start")
    console.click("Check all values")
    console.see("7 checked: 5 without a name, 1 refused")
    rows = console.tab.locator(".rows [role=row]")
    for name, state in (
        ("API_KEY", "no name"),
        ("COPIED", "stored twice"),
        ("LATE", "no name"),
        ("MOVED", "refused"),
        ("OTHER", "stored twice"),
        ("mail/TOKEN", "no name"),
    ):
        row = rows.filter(has=console.tab.get_by_role("button", name=f"Look at {name}", exact=True))
        console.run(expect(row).to_contain_text(state))
        boxes = 1 if state == "no name" else 0
        console.run(expect(row.get_by_role("checkbox")).to_have_count(boxes))
        others = "1 other" if name in ("API_KEY", "MOVED") else "you alone"
        console.run(expect(row).to_contain_text(others))
        console.run(expect(row).not_to_contain_text("not stated"))
    console.shot("unbound")
    assert console.accessibility_problems() == []
    console.click("Look at COPIED")
    console.see(f"It is or was also at {OTHER}.")
    console.shot("unbound-twin")
    assert console.accessibility_problems() == []
    console.click("Close")
    console.click("Look at MOVED")
    console.see("The stored value was sealed for another name.")
    console.click("Close")
    console.click("Look at API_KEY")
    console.run(
        expect(
            console.tab.locator(f'dialog [title="{writer}"], dialog dd').filter(has_text=writer)
        ).to_have_count(1)
    )
    console.click("Reveal")
    console.see("open sesame")
    console.click("Close")
    console.run(console.tab.get_by_label("Select API_KEY").uncheck())
    values.unbound(f"{FOLDER}LATE", "newer")
    console.click("Bind 2 values")
    console.click("Bind 2 values", within="dialog")
    console.see("It was changed in the meantime.")
    console.click("Cancel", within="dialog")
    console.see("7 checked: 3 without a name, 2 refused")
    states = console.tab.locator(".rows .chip")
    expected = ["no name", "stored twice", "changed", "refused", "stored twice", "bound"]
    console.run(expect(states).to_have_text(expected))
    assert values.plaintext(f"{FOLDER}scoped/mail/TOKEN")["place"] == values.place(
        f"{FOLDER}scoped/mail/TOKEN", "secret"
    )
    for path in (SECRET, OTHER, f"{FOLDER}COPIED", f"{FOLDER}LATE"):
        assert "place" not in values.plaintext(path)


def test_the_envelope_of_another_secret_is_refused(
    console: ConsolePage, values: SealedPlaces
) -> None:
    """The attack, as the owner sees it: neither the secret nor its note shows another secret's
    value."""
    values.own(lambda owner: owner.secrets().put("OTHER", "caraway"))
    values.move(OTHER, SECRET, label=values.label(SECRET))
    values.move(OTHER, NOTE, label=None)
    console.sign_in()
    console.click("Open API_KEY")
    alerts = console.tab.locator("dialog").get_by_text(
        "The stored value was sealed for another name."
    )
    console.run(expect(alerts).to_have_count(1))
    console.click("Reveal")
    console.run(expect(alerts).to_have_count(2))
    console.shot("secret-moved")
    assert "caraway" not in console.run(console.tab.locator("body").inner_text())
    console.click("Replace")
    console.type("Value", "right")
    console.click("Seal and save", within="dialog")
    console.see("API_KEY is saved")
    assert values.is_bound("API_KEY")


def test_CN14_copies_that_were_not_renewed(
    console: ConsolePage, values: SealedPlaces, loop: LoopThread, node: EmbeddedNode
) -> None:
    """If the copies could not be renewed, binding again renews them."""
    friend = key_session(values.did.encode()[-31:] + b"r")

    async def share(owner: Client) -> None:
        async with Client(node.url, session=friend) as person:
            await person.encryption.ensure_network()
        await owner.secrets().put("API_KEY", "first")
        await owner.sharing.share(["API_KEY"], friend.did, wallet=lambda: values.signer)

    async def copy() -> object:
        async with Client(node.url, session=friend) as person:
            return await (await person.sharing.received(values.did)).get("API_KEY")

    values.own(share)
    values.unbound(SECRET, "second")
    console.sign_in()
    console.go("unbound?name=API_KEY")
    codes = in_console(
        console,
        """
        const unbound = await at("unbound"), { Client } = await at("client"), { list } = await at("secrets");
        const client = Client(await session.restore()), all = await list(client), real = window.fetch;
        const [one] = await unbound.check(client, all, all, () => {});
        let stored = 0;
        window.fetch = (path, sent) => String(new TextDecoder().decode(sent?.body)).includes('"ciphertext"') && ++stored === 2
          ? Promise.reject(new TypeError()) : real(path, sent);
        const first = await caught(() => unbound.bind(client, one));
        window.fetch = real;
        return [first.code, await caught(() => unbound.bind(client, one))];
        """,
    )
    assert codes == ["copies-stale", None]
    assert values.is_bound("API_KEY")
    assert loop.run(copy()) == "second"


def test_grants_that_allow_unbound_values(console: ConsolePage, values: SealedPlaces) -> None:
    """CN15: rows and details of grants say that a recipient may use values without a name. The
    console offers it nowhere."""
    console.sign_in()
    stated = {"unbound": True}
    facts = [
        ({"sealspace.values/v1": stated}, True),
        ({"sealspace.values/v1": {"unbound": "true"}}, False),
        ({"sealspace.values/v1": {**stated, "more": 1}}, False),
        ({"sealspace.values/v2": stated}, False),
    ]
    in_console(
        console,
        """
        const { proofsFor, register, rows, sessionToken } = await at("session");
        const held = await session.restore();
        for (const [number, [fact]] of given.entries()) {
          const capabilities = rows(`${held.space}/kv/at/${number}`, ["tinycloud.kv/get"]);
          const { proofs } = proofsFor(held, capabilities);
          const claims = { aud: "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", capabilities, proofs, facts: [fact], bare: true, ttlS: 3600 };
          await register((await sessionToken(held, claims)).token, capabilities);
        }
        """,
        facts,
    )
    console.go("grants")
    lines = console.tab.locator(".rows [role=row]")
    console.run(expect(lines).to_have_count(len(facts)))
    for number, (_, allows) in enumerate(facts):
        console.type("Find a receiver or a secret", f"at/{number}")
        console.run(expect(lines).to_have_count(1))
        marks = lines.get_by_text("Values without a name")
        console.run(expect(marks).to_have_count(1 if allows else 0))
    console.type("Find a receiver or a secret", "at/0")
    console.run(console.tab.get_by_role("button", name="Details of the grant").click())
    console.see("It may use values that do not state their name")
    console.shot("grant-unbound")
    assert console.accessibility_problems() == []
