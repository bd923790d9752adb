"""Tests that every page shows hostile texts as text and runs no part of them."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any
from unicodedata import category
from urllib.parse import quote

import msgspec
import pytest
from browser import CONSOLE, Browser, BrowserWallet
from console_stage import ConsolePage, console_page
from console_team import created_team
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from playwright.async_api import FilePayload, Route, expect

from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes
from sealspace.client import Client, SignIn
from sealspace.documents.invitations import invitation_line

LONG = "W" * 1500
CORPUS = (
    '<img src=x onerror="canary()">',
    '"><script>canary()</script>',
    "' autofocus onfocus=canary() x='",
    "</textarea></title></style><svg/onload=canary()>",
    "javascript:canary()",
    "{{constructor.constructor('canary()')()}}${canary()}<%=canary()%>",
    "&lt;script&gt;canary()&#60;/script&#62;",
    "<iframe srcdoc='<script>parent.canary()</script>'></iframe>",
    "\u202egnp.exe\u2066\u200b\u200d\ufeff",
    "Z" + "\u0315\u035d" * 40,
    "__proto__",
    "constructor",
    LONG,
)
ALL = " ".join(CORPUS)
REF = "refs/__proto__/constructor@#%+=,-" + "W" * 200
"""A ref as a developer may state one."""
SAFE = "-._~!$&'()*+,;=:@"
PLACES = (
    "secrets",
    "requests",
    "grants",
    "people",
    "activity",
    "data",
    "programs",
    "terminal",
    "node",
    "connect",
    "link",
    "bind",
    "unbound",
    "teams",
    "join",
    "members",
)
"""Every page there is; a new one is added here and is visited with every trick below."""


@pytest.fixture
def hostile(console: ConsolePage, browser: Browser) -> Iterator[ConsolePage]:
    """The console, with a function that injected script would call and that fails the test."""
    canary = "window.canary = () => { window.__sang = true; };"
    with browser.entered(console.run(console.tab.add_init_script(canary))):
        yield console
    assert console.run(console.tab.evaluate("window.__sang")) is None
    assert (
        console.run(console.tab.locator("script:not([type=module]), iframe, object, embed").count())
        == 0
    )


def visit(console: ConsolePage, places: tuple[str, ...] = PLACES) -> None:
    """Load the first page and go to the others; check that each shows its contents and fits the
    window."""
    for place in places:
        console.open(place) if place is places[0] else console.go(place)
        console.run(expect(console.tab.locator("h1, h2").first).to_be_visible())
        console.run(expect(console.tab.locator(".skeleton")).to_have_count(0))
        console.shot(f"hostile-{place.partition('?')[0].replace('/', '')[:20]}")


def test_every_page_is_visited() -> None:
    """The list above has every page of the console."""
    assert set(re.findall(r'\{ path: "(\w+)"', (CONSOLE / "app.js").read_text("utf-8"))) == set(
        PLACES
    )


def answering(console: ConsolePage, pattern: str, **changes: Any) -> None:
    """Change members of the node's answers at some addresses."""

    async def change(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, json={**await answer.json(), **changes})

    console.run(console.tab.route(pattern, change))


def test_keys_values_and_types(
    hostile: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """Keys, values and types of other programs are shown as text; invisible characters stay
    encoded."""

    async def store() -> None:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            values = {quote(text, safe=SAFE): ALL for text in CORPUS}
            values |= {
                f"{quote(text, safe=SAFE)}/{quote(text, safe=SAFE)}": text for text in CORPUS
            }
            await client.kv().put_many(values, content_type="text/html")
            await client.kv().put(
                "typed", ALL, content_type='text/html;x="<img/src/onerror=canary()>"' + "W" * 500
            )

    hostile.sign_in()
    browser.run(store())
    hostile.go("data")
    hostile.see("<img src=x onerror=")
    hostile.see("%E2%80%AEgnp.exe%E2%81%A6%E2%80%8B%E2%80%8D%EF%BB%BF")
    hostile.shot("hostile-data")
    for key in (CORPUS[0], LONG, "typed"):
        hostile.click(f"Open {key}")
        hostile.run(expect(hostile.tab.locator("pre")).to_have_text(ALL))
        hostile.shot("hostile-value")
        hostile.click("Delete", within="dialog")
        hostile.see(f"Type {key}"[:40])
        hostile.shot("hostile-delete")
        hostile.click("Cancel")
    hostile.open("data")
    hostile.click(f"Show folder {LONG}/")
    hostile.see("Open")
    hostile.shot("hostile-folder")


def test_programs_and_names_of_files(
    hostile: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """Text that a developer states about a program, and names of uploaded files, are shown as
    text."""
    sha256 = "ab" * 32
    stated: dict[str, Any] = dict.fromkeys(("bytes", "target", "publishedAt", "source"), ALL)
    lists = {"secrets": list(CORPUS), "hosts": list(CORPUS)}
    stated |= {"sha256": sha256, "manifest": lists}
    sound = {
        "repository": "github.com/a/constructor",
        "repositoryId": "1",
        "ref": REF,
        "commit": "a1" * 20,
        "workflow": "github.com/a/__proto__/.github/workflows/constructor" + "W" * 200,
    }
    builds: list[Any] = [
        {**sound, name: text} for name in sound for text in (ALL, f"{sound[name]}\n")
    ]
    builds += [{**sound, name: f"{sound[name]}{text}"} for name in sound for text in CORPUS[:3]]
    builds += [{**sound, ALL: ALL}, ALL, [sound], dict.fromkeys(sound, None)]

    async def store() -> None:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer, SignIn(spaces=("public",)))
            for at, build in enumerate([*builds, sound]):
                digest = sha256 if build is sound else f"{at:02x}" * 32
                version = {**stated, "sha256": digest, "build": build}
                value = json.dumps({"statement": version})
                await client.kv("public").put(f"projects/x/versions/{digest}", value)

    browser.run(store())
    hostile.sign_in()
    hostile.go("programs")
    hostile.click("Allow it")
    hostile.click("Test Wallet example.wallet", within="dialog")
    hostile.run(hostile.tab.get_by_role("button", name=re.compile("abab")).click())
    hostile.run(expect(hostile.tab.locator("dialog").get_by_text(CORPUS[0]).first).to_be_visible())
    hostile.run(expect(hostile.tab.locator("dialog").get_by_text(REF, exact=True)).to_be_visible())
    hostile.shot("hostile-program")
    hostile.click("Close", within="dialog header")
    # what is malformed is left out
    hostile.run(expect(hostile.tab.locator(".versions li")).to_have_count(1))
    hostile.go("data")
    names = [f"{at}{text.replace('/', '|')[:200]}" for at, text in enumerate(CORPUS[:9])]
    files: list[FilePayload] = [
        {"name": name, "mimeType": ALL[:100], "buffer": b"x"} for name in names
    ]
    hostile.run(hostile.tab.get_by_label("Upload", exact=True).set_input_files(files))
    hostile.run(expect(hostile.tab.locator("dialog .chip.good")).to_have_count(len(files)))
    hostile.shot("hostile-files")


def numbered(text: str) -> str:
    """Return a value as its page shows it, with invisible characters as numbers."""
    unseen = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
    return "".join(
        f"U+{ord(one):04X}"
        if one not in "\n\t " and (category(one) in unseen or category(one) == "Zs")
        else one
        for one in text
    )


def test_secrets_and_what_is_none(
    hostile: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """Values, malformed envelopes, and keys beside those of secrets are shown as text."""

    async def store() -> None:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            await client.secrets().put("VALUE", ALL, scope="s" * 200)
            kv = client.kv(f"tinycloud:{wallet.signer.did[4:]}:secrets")
            sealed = json.loads((await kv.get(f"vault/secrets/scoped/{'s' * 200}/VALUE")).body)
            await kv.put(
                "vault/secrets/BROKEN", json.dumps({**sealed, "networkId": ALL, "alg": ALL})
            )
            await kv.put("vault/secrets/OTHER_META", json.dumps({**sealed, "metadata": {ALL: ALL}}))
            await kv.put(f"vault/secrets/N{'A' * 400}", ALL)
            for text in CORPUS:
                await kv.put(
                    f"vault/secrets/scoped/{quote(text, safe=SAFE)}/{quote(text, safe=SAFE)}", ALL
                )

    hostile.sign_in()
    browser.run(store())
    hostile.open("secrets")
    hostile.see("4 secrets")
    hostile.shot("hostile-secrets")
    hostile.click(f"Open {'s' * 200}/VALUE")
    hostile.click("Reveal")
    hostile.run(expect(hostile.tab.locator("output")).to_have_text(numbered(ALL)))
    hostile.shot("hostile-revealed")
    hostile.click("Close", within="dialog header")
    for name in ("BROKEN", "OTHER_META", f"N{'A' * 400}"):
        hostile.click(f"Open {name}")
        hostile.click("Reveal")
        hostile.run(expect(hostile.tab.locator("dialog .banner.bad")).to_be_visible())
        hostile.shot("hostile-broken")
        hostile.click("Close", within="dialog header")
    hostile.click("Add many", within="header >> nth=-1")
    hostile.type(
        "Names and values",
        "\n".join([f"A{at}='{text}'" for at, text in enumerate(CORPUS) if "'" not in text]),
    )
    hostile.see("A0")
    hostile.type("Names and values", ALL)
    hostile.see("Line 1 is not NAME=VALUE")
    hostile.shot("hostile-file")


def test_what_the_node_says(hostile: ConsolePage) -> None:
    """Version, features, terms, refusals and evidence of a node are shown as text on every page."""
    hostile.sign_in()
    words: dict[str, Any] = {
        "version": ALL,
        "features": list(CORPUS),
        "attestation": ALL,
        "trustRoots": list(CORPUS),
    }
    answering(hostile, "**/info", **words)
    answering(hostile, "**/attestation/terms", keyProviders=list(CORPUS), nodePolicy=ALL)
    evidence = dict.fromkeys(
        ("mode", "nonce", "quote", "compose_hash", "app_id", "secret_origin"), ALL
    )
    answering(hostile, "**/attestation?*", **evidence)
    visit(hostile)
    for kind, body in (
        (
            "application/problem+json",
            json.dumps(dict.fromkeys(("title", "detail", "hint", "code", "type"), ALL)),
        ),
        ("text/plain", ALL),
        ("text/html", f"<html><script>canary()</script>{ALL}"),
        (
            "application/json",
            json.dumps({"results": ALL, "receipts": [dict.fromkeys(CORPUS, ALL)]}),
        ),
    ):
        headers = {"Content-Type": kind, "TinyCloud-Trace-Id": CORPUS[0] + LONG}
        for pattern in ("**/invoke", "**/networks/*/receipts"):
            status = 200 if kind == "application/json" else 403
            answer = {"status": status, "headers": headers, "body": body}
            hostile.run(hostile.tab.route(pattern, _fulfilling(answer)))
        visit(hostile, ("secrets", "data", "activity"))


def _fulfilling(answer: dict[str, Any]) -> Any:
    async def fulfil(route: Route) -> None:
        await route.fulfill(**answer)

    return fulfil


INVOKER = "did:x:<img/src=x/onerror=canary()>'&quot;{{canary()}}"
MEASURED = dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"), "ab" * 48)
EVIDENCE: dict[str, Json] = {
    **MEASURED,
    **dict.fromkeys(("tcb_status", "qe_status", "td_attributes", "root_ca_sha256"), ALL),
    "advisories": list(CORPUS),
    "key_provider": "<img/src=x/onerror=canary()>",
    "attested_at": ALL,
    "tcb_date": ALL,
}
DOCUMENTS = {
    hashlib.sha256(document).hexdigest(): document
    for document in (
        msgspec.msgpack.encode([1, EVIDENCE]),
        msgspec.json.encode({"paths": [*CORPUS, f"tinycloud:x/kv/vault/secrets/{CORPUS[0]}"]}),
    )
}


def test_what_a_node_signs(hostile: ConsolePage, node: EmbeddedNode) -> None:
    """Signed receipts, and the evidence and policies that they name, are shown as text: a node can
    sign anything."""
    record, policy = DOCUMENTS
    signer = node.services.keyring.node_signer

    def receipt(network: str, at: int) -> Json:
        text = CORPUS[at % len(CORPUS)]
        judged: Json = {
            "record": record,
            "collateral": record,
            "quote": None,
            "eventLog": None,
            "nonce": None,
        }
        one: dict[str, Json] = {
            "type": "sealspace.receipt/v1",
            "verdict": "authorised",
            "node": signer.did,
            "network": network,
            "owner": text,
            "invocation": f"{at}{text}",
            "chain": list(CORPUS),
            "policies": [policy],
            "atMicros": at,
            "requestHash": "0" * 64,
            "receiverPublicKeyHash": "0" * 64,
            "ground": "attested",
            "mode": "delegates",
            "invoker": text if at < len(CORPUS) else INVOKER,
            "evidence": None if at < len(CORPUS) else judged,
        }
        return {**one, "signature": base64.b64encode(signer.sign(canonical_bytes(one))).decode()}

    async def answer(route: Route) -> None:
        network, _, place = route.request.url.split("/networks/")[1].partition("/")
        digest = place.removeprefix("receipts").removeprefix("/")
        if digest:
            await route.fulfill(body=DOCUMENTS[digest])
        else:
            signed = [receipt(network.replace("%3A", ":"), at) for at in range(len(CORPUS) + 1)]
            await route.fulfill(json={"receipts": signed, "after": None})

    hostile.run(hostile.tab.route(re.compile("/networks/[^/]+/receipts"), answer))
    hostile.sign_in()
    hostile.go("activity")
    hostile.see(f"{len(CORPUS) + 1} of {len(CORPUS) + 1} receipts")
    hostile.shot("hostile-activity")
    hostile.run(hostile.tab.get_by_role("button", name="1970-01-01").first.click())
    hostile.click("Verify", within="dialog")
    hostile.see("The receipt holds")
    hostile.shot("hostile-receipt")
    hostile.go("grants")
    hostile.run(hostile.tab.get_by_role("button", name="Details of the backend").click())
    hostile.see("Platform status")
    hostile.run(
        expect(hostile.tab.locator("dialog bdi").filter(has_text=CORPUS[0]).first).to_be_visible()
    )
    hostile.shot("hostile-evidence")
    manifest = {
        "app_id": "a",
        "name": ALL,
        "did": INVOKER,
        "defaults": False,
        "secrets": {"API_KEY": True},
    }
    asked = base64.urlsafe_b64encode(json.dumps(manifest).encode()).decode().rstrip("=")
    hostile.go(f"requests?manifest={asked}")
    hostile.see("The code that the node saw last")
    hostile.run(expect(hostile.tab.get_by_text(CORPUS[0]).last).to_be_visible())
    hostile.shot("hostile-request")


def test_wallets(browser: Browser, node: EmbeddedNode) -> None:
    """Names, pictures, answers and errors of a wallet are shown as text."""
    with console_page(browser, node.url) as console:
        console.run(
            console.tab.add_init_script(
                "window.canary = () => { window.__sang = true; };"
                f"const corpus = {json.dumps(CORPUS)};"
                """
                addEventListener("eip6963:requestProvider", () => corpus.forEach((text, at) => {
                  const request = async () => at % 2 ? [text] : Promise.reject({ code: text, message: text });
                  const info = { uuid: text, name: text, rdns: text, icon: [text, "https://elsewhere.example/a.png",
                    "data:image/svg+xml,<svg onload='canary()' xmlns='http://www.w3.org/2000/svg'/>"][at % 3] };
                  const detail = [{ info, provider: { request } }, { info: null }, null, { info: { uuid: {} } }];
                  detail.forEach((one) => dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail: one })));
                }));
                """
            )
        )
        console.open("connect")
        console.see("javascript:canary()")
        console.shot("hostile-connect")
        choices = console.tab.locator(".choices").first.get_by_role("button")
        assert console.run(choices.count()) == len(CORPUS)
        for at in range(len(CORPUS)):
            console.run(choices.nth(at).click())
            console.run(expect(console.tab.locator(".banner.bad")).to_be_visible())
        console.shot("hostile-wallet")
        assert console.run(console.tab.evaluate("window.__sang")) is None
        assert console.faults() == []


def test_addresses(hostile: ConsolePage) -> None:
    """An address only selects a page, a scope or a folder."""
    hostile.sign_in()
    for text in (CORPUS[0], CORPUS[8], "..%2f..%2f", "%E0%A4%A", "__proto__"):
        said = quote(text, safe="%/")
        visit(
            hostile,
            (said, f"secrets?scope={said}", f"data?space={said}&path={said}", f"data?path={said}"),
        )
    for text in ("//elsewhere.example/", "javascript:canary()"):
        hostile.go(f"connect?to={text}")
        hostile.run(hostile.tab.get_by_role("button", name="Test Wallet").click())
        hostile.see("No such page")
        assert hostile.tab.url == f"{hostile.origin}/console/#/{text}"


def test_an_invitation(hostile: ConsolePage, loop: LoopThread, node: EmbeddedNode) -> None:
    """The name of a team in an invitation is what its sender wrote, and is shown as quoted text."""
    team = created_team(loop, node.url)

    async def invited(_: Client, acting: Client) -> str:
        return invitation_line(await acting.teams.invite(ALL, "reader", wallet=team.alice))

    hostile.sign_in()
    hostile.go(f"join/{team.run(invited)}")
    hostile.run(expect(hostile.tab.locator("q").first).to_contain_text(CORPUS[0]))
    hostile.shot("hostile-invitation")
    for text in (CORPUS[0], CORPUS[8], "sinv_", "sinv_e30"):
        hostile.open(f"join/{quote(text, safe='')}")
        hostile.see("The invitation cannot be used")
        assert hostile.tab.url.endswith("#/join")
        hostile.run(expect(hostile.tab.locator("main")).not_to_contain_text("canary"))


_KEEP = """async (record) => {
  localStorage.setItem("sealspace.theme", record.text);
  const { owner = 0, ...junk } = record.session ?? {};
  const keys = record.session && await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]);
  const kept = record.session ? { owner, ...junk, ...(junk.keys === true && { keys }) } : record.text;
  const open = indexedDB.open("sealspace-console", 1);
  open.onupgradeneeded = () => open.result.createObjectStore("sessions");
  const database = await new Promise((resolve) => { open.onsuccess = () => resolve(open.result); });
  const change = database.transaction("sessions", "readwrite");
  change.objectStore("sessions").put(kept, "current");
  change.objectStore("sessions").put(record.text, "passkey");
  await new Promise((resolve) => { change.oncomplete = resolve; });
  database.close();
}"""


def test_what_is_kept_in_the_browser(hostile: ConsolePage) -> None:
    """Stored records of an unknown or older form make the page ask to sign in, or are shown as
    text."""
    whole = dict.fromkeys(("owner", "kind", "did", "node", "space"), ALL)
    end = {"expiresAt": 4e9, "grants": [], "pins": []}
    hostile.open("node")
    hostile.see("Identity")
    for session in (
        None,
        {},
        {"expiresAt": 4e9},
        {**whole, **end},
        {**whole, **end, "keys": ALL, "grants": ALL},
    ):
        hostile.run(hostile.tab.evaluate(_KEEP, {"text": ALL, "session": session}))
        hostile.open("secrets")
        hostile.see("Sign in to see this page")
    hostile.run(
        hostile.tab.evaluate(_KEEP, {"text": ALL, "session": {**whole, **end, "keys": True}})
    )
    visit(hostile)
    hostile.run(hostile.tab.evaluate("(text) => localStorage.setItem('sealspace.node', text)", ALL))
    hostile.open("secrets")
    hostile.see("This is another node than last time")
    hostile.shot("hostile-node-changed")
