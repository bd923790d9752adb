"""Tests of the page where an owner approves an app's request, wholly or in part."""

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backend_desk import COMPOSE, IMAGE
from backend_site import Domain, serving
from browser import Browser, BrowserWallet
from console_stage import (
    AXE,
    AXE_ABSENT,
    ConsolePage,
    add_secret,
    console_page,
    request_link,
)
from console_wire import in_console
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from node_js import Scripts
from playwright.async_api import expect
from trust_settings import trusting_config

from capabilities.principals import parse_principal
from sealspace.apps.backends import ask_backend, fetch_evidence, policy_for
from sealspace.client import Client
from sealspace.documents.published import EVIDENCE_PATH
from sealspace.errors import SealspaceError
from sealspace.giving.words.backends import as_json
from sealspace.session import key_session
from sealspace.wallets import new_wallet
from sealspace.wire.portable import decode_bundle
from sealspace.wire.transport import Request
from tee_backend.attestation.inspection import CollateralFolder, Inspector
from tee_backend.attestation.trust_files import read_trust_root
from tee_backend.backend import Backend
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import mint_event_log

DID = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
MANIFEST: dict[str, Any] = {
    "app_id": "com.example.notes",
    "name": "Notes",
    "did": DID,
    "defaults": False,
}
SCOPE = "vault/secrets/scoped/mail"


@pytest.fixture(scope="module")
def platform() -> SimulatedPlatform:
    """A simulated platform with a root certificate of its own."""
    return SimulatedPlatform.from_seed(b"tests of the console")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the node's data, the platform's root and its collateral."""
    return tmp_path_factory.mktemp("requests")


@pytest.fixture(scope="module")
def trusting_node(
    browser: Browser, folder: Path, platform: SimulatedPlatform
) -> Iterator[EmbeddedNode]:
    """A node that trusts the platform."""
    with browser.entered(embedded_node(trusting_config(folder, platform))) as running:
        yield running


@pytest.fixture
def wary(
    browser: Browser, trusting_node: EmbeddedNode, wallet: BrowserWallet
) -> Iterator[ConsolePage]:
    """A tab at the console of that node."""
    with console_page(browser, trusting_node.url, wallet=wallet) as opened:
        yield opened
        assert opened.faults() == []


def downloaded(console: ConsolePage) -> bytes:
    """Return the file that the page downloads for the app."""

    async def saved() -> bytes:
        async with console.tab.expect_download() as begun:
            await console.tab.get_by_role("button", name="Download", exact=True).click()
        return Path(await (await begun.value).path()).read_bytes()

    return console.run(saved())


def test_a_backend_reads_what_was_approved(
    wary: ConsolePage,
    browser: Browser,
    trusting_node: EmbeddedNode,
    wallet: BrowserWallet,
    platform: SimulatedPlatform,
    folder: Path,
) -> None:
    """A backend with approved code reads the approved one of two secrets."""
    wary.sign_in()
    add_secret(wary, "API_KEY", "open sesame")
    add_secret(wary, "DB_PASSWORD", "keep out")
    domain = Domain(platform, IMAGE, mint_event_log(hashlib.sha256(COMPOSE.encode()).digest()))
    backend = browser.run(_backend(trusting_node.url, domain))
    asked = {key: MANIFEST[key] for key in ("app_id", "name", "defaults")}
    surface = BackendSurface(
        domain,
        did=backend.did,
        manifest={**asked, "secrets": {"API_KEY": True, "DB_PASSWORD": True}},
        compose=COMPOSE,
    )
    published, described, shown = browser.run(_shown(surface, folder))
    wary.click("Requests", role="link")
    for text in (published, described):
        wary.type("What the app asks for", text)
        wary.click("Read it")
        wary.see("Who asks")
        wary.see(backend.did)
        if text is published:
            wary.click("Another request")
    wary.see(backend.did)
    wary.see("Your node has released none of your secrets to this DID yet")
    wary.shot("requests")
    boxes = wary.tab.get_by_role("checkbox")
    wary.run(expect(boxes).to_have_count(2))
    wary.run(wary.tab.get_by_role("checkbox", name="DB_PASSWORD").uncheck())
    wary.click("Approve")
    wary.see("Paste what was printed")
    wary.type("The code, as sealspace backend show --json printed it", shown)
    wary.run(
        expect(wary.tab.locator("[data-way=paste]")).to_contain_text(
            hashlib.sha256(COMPOSE.encode()).hexdigest()
        )
    )
    for term in ("any edition that your node accepts", "can open them too, without such a"):
        wary.see(term)
    wary.shot("requests-code")
    before = len(wallet.asked)
    wary.click("Approve")
    wary.see("fetches it by itself within a minute")
    assert "No secret will open" not in wary.run(wary.tab.locator("main").inner_text())
    wary.see("sealspace backend deliver grants.json --to https://BACKEND")
    wary.shot("requests-approved")
    assert len(wallet.asked) == before
    (portable,) = decode_bundle(downloaded(wary))
    assert portable.delegate_did == backend.did

    async def used() -> tuple[str | bytes, str]:
        read = await backend.read_secret(wallet.signer.did, "API_KEY")
        with pytest.raises(SealspaceError) as refused:
            await backend.read_secret(wallet.signer.did, "DB_PASSWORD")
        await backend.close()
        return read, refused.value.code

    read, refusal = browser.run(used())
    assert read == "open sesame"
    assert refusal in ("not-granted", "unauthorized")
    wary.go(
        request_link(
            {**MANIFEST, "did": backend.did, "secrets": {"API_KEY": True, "DB_PASSWORD": True}}
        )
    )
    wary.see("has it already, ends")
    wary.see("Your node verified this quote")
    wary.see("Not Intel's")
    wary.shot("requests-known")
    wary.run(wary.tab.get_by_text("State no code").click())
    wary.see("No secret will open")
    for place in ("grants", "activity"):
        wary.go(place)
        name = wary.tab.locator(".rows q").first
        wary.run(expect(name).to_have_text("Notes"))
        wary.shot(f"{place}-named")


def test_the_first_approval_needs_no_command(
    wary: ConsolePage,
    browser: Browser,
    trusting_node: EmbeddedNode,
    wallet: BrowserWallet,
    platform: SimulatedPlatform,
    folder: Path,
) -> None:
    """A backend's description is enough: the code that it states can read, and no other."""
    wary.sign_in()
    add_secret(wary, "API_KEY", "open sesame")
    domain = Domain(platform, IMAGE, mint_event_log(hashlib.sha256(COMPOSE.encode()).digest()))
    backend = browser.run(_backend(trusting_node.url, domain))
    asked = {key: MANIFEST[key] for key in ("app_id", "name", "defaults")}
    surface = BackendSurface(
        domain, did=backend.did, manifest={**asked, "secrets": {"API_KEY": True}}, compose=COMPOSE
    )
    _, described, _ = browser.run(_shown(surface, folder))
    wary.open(request_link(json.loads(described)))
    wary.run(wary.tab.get_by_role("radio", name="State no code").check())
    wary.click("Approve")
    wary.see("The grant is in force")
    wary.see("No secret will open")
    wary.shot("requests-approved-nothing")
    assert "release refused" in browser.run(_used(backend, wallet.signer.did))
    wary.click("State the code now")
    claimed = wary.tab.get_by_role("radio", name="The code that the backend says it runs")
    wary.run(expect(claimed).not_to_be_checked())  # nothing proves it
    wary.open("secrets")
    wary.click("Open API_KEY")
    wary.see("has a grant that approves no code")
    wary.open(request_link(json.loads(described)))
    wary.run(claimed.check())
    wary.see("nobody verified it")
    provider = json.loads(described)["policy"]["keyProviders"][0]
    wary.run(expect(wary.tab.get_by_text(provider).filter(visible=True)).to_have_count(1))
    wary.see("compose file " + hashlib.sha256(COMPOSE.encode()).hexdigest()[:12])
    wary.shot("requests-claimed")
    wary.click("Approve")
    wary.see("only the code that you chose")
    browser.run(backend.accept(*decode_bundle(downloaded(wary))))
    assert "open sesame" == browser.run(_used(backend, wallet.signer.did))
    browser.run(backend.close())
    wary.open("secrets")
    wary.click("Open API_KEY")
    wary.see("may open it")
    wary.open(request_link({**json.loads(described), "policy": {"measurements": []}}))
    wary.see("description of its code is ignored")
    wary.run(expect(claimed).to_have_count(0))
    wary.open(request_link(json.loads(described)))
    wary.see("Your node verified this quote")
    wary.run(expect(claimed).to_have_count(0))  # it is the code that the node saw


async def _used(backend: Backend, owner: str) -> str | bytes:
    """Return the secret that a backend reads, or the text of the refusal."""
    try:
        return await backend.read_secret(parse_principal(owner), "API_KEY")
    except SealspaceError as error:
        return str(error)


CODE: dict[str, Any] = {
    "measurements": [dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2"), "ab" * 48)],
    "composeHashes": ["cd" * 32],
    "appIds": ["cd" * 20],
    "keyProviders": ["kms:aa"],
}
IMAGE_ALONE = {"measurements": [{**CODE["measurements"][0], "rtmr3": "ef" * 48}]}
STATED = [CODE, IMAGE_ALONE]
NOT_STATED: list[Any] = [
    None,
    [],
    {},
    {"policy": {}},
    {"policy": CODE, "did": DID},
    {**IMAGE_ALONE, "appIds": ["cd" * 20]},
    {**IMAGE_ALONE, "keyProviders": ["local-sgx:aa"]},
    {"measurements": [{**IMAGE_ALONE["measurements"][0], "rtmr3": ["ef" * 48]}]},
    *({name: value for name, value in CODE.items() if name != left_out} for left_out in CODE),
    {**CODE, "measurements": CODE["measurements"] * 2},
    {**CODE, "measurements": [{}]},
    {**CODE, "measurements": [{**CODE["measurements"][0], "rtmr2": ""}]},
    {**CODE, "composeHashes": ["cd" * 32, "ef" * 32]},
    {**CODE, "keyProviders": ["kms"]},
    {**CODE, "keyProviders": ["kms:"]},
    {**CODE, "keyProviders": ["kms:aa,bb"]},
    {**CODE, "keyProviders": ["local-sgx:aa"]},
    {**CODE, "keyProviders": ["kms:aa", "tpm"]},
    {**CODE, "tdAttributes": ["0100001000000000"]},
    {**CODE, "tcbStatuses": ["UpToDate", "OutOfDate"], "tcbGraceSeconds": 86_400},
    {**CODE, "advisories": ["INTEL-SA-00001"]},
    {**CODE, "receiver": "signed"},
    {**CODE, "inPerson": False},
    {**CODE, "paths": [f"tinycloud:{new_wallet().did[4:]}:secrets/kv/vault/secrets/API_KEY"]},
    {**CODE, "networks": ["urn:tinycloud:encryption:did:key:z6MkOther:default"]},
    {**CODE, "minEvaluationNumber": -1},
]
"""Descriptions of code that lack a part, name other code too, widen a term, or are for another
owner's network."""


def test_what_a_backend_states_about_its_code(scripts: Scripts) -> None:
    """Only one whole code under strict terms is offered for approval (AT62)."""
    script = """async (stated) => {
      const { parseClaimed } = await import("/console/wire/policies.js");
      return stated.map(parseClaimed);
    }"""
    assert scripts.evaluate(script, [*STATED]) == STATED
    assert scripts.evaluate(script, NOT_STATED) == [None] * len(NOT_STATED)


async def _backend(url: str, domain: Domain) -> Backend:
    return Backend(Client(url, session=key_session(os.urandom(32))), domain)


async def _shown(surface: BackendSurface, folder: Path) -> tuple[str, str, str]:
    """Return a backend's published facts, and the output of `sealspace backend show --json`."""
    inspector = Inspector(
        CollateralFolder(folder / "collateral"), root=read_trust_root(folder / "root.pem")
    )
    async with serving(surface) as url:
        seen = await fetch_evidence(url, inspector)
        nonce = base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")
        published, described = [
            (await ask_backend(url, Request("GET", EVIDENCE_PATH + query))).body.decode()
            for query in (f"?nonce={nonce}", "")
        ]
    return published, described, json.dumps(as_json(seen, policy_for(seen, ttl_s=86_400)))


def test_what_the_session_lacks_is_signed_once(console: ConsolePage, wallet: BrowserWallet) -> None:
    """An app's link survives the sign-in, and one signature makes one grant for each space."""
    other = new_wallet().did
    asked = {
        **MANIFEST,
        "expiry": "30d",
        "secrets": {"API_KEY": True, "PROTECTED_KEY": True},
        "permissions": [
            {
                "service": "tinycloud.kv",
                "path": "inbox/",
                "actions": ["get", "put"],
                "description": "your notes",
            },
            {"service": "tinycloud.duckdb", "path": "/", "actions": ["read"]},
            {
                "service": "tinycloud.kv",
                "path": "x",
                "actions": ["get"],
                "space": f"tinycloud:{other[4:]}:default",
            },
            {
                "service": "tinycloud.kv",
                "path": SCOPE,
                "actions": ["get"],
                "space": "secrets",
                "skipPrefix": True,
            },
        ],
    }
    address = request_link(asked).replace("requests?", f"{console.origin}/console/grant#")
    console.run(console.tab.goto(address))
    console.see("Sign in to see this page")
    console.run(console.tab.get_by_role("link", name="Sign in").last.click())
    console.run(console.tab.get_by_role("button", name="Test Wallet").click())
    console.see("Who asks")
    for why in (
        "This node does not offer it",
        "It belongs to another owner",
        "open only for programs",
        "no such secret",
        "read the secrets below",
    ):
        console.see(why)
    console.shot("requests-impossible")
    boxes = console.tab.locator("li input[type=checkbox]")
    assert console.run(
        boxes.evaluate_all("(all) => all.map((one) => [one.checked, one.disabled])")
    ) == [
        [True, False],
        [False, True],
        [False, True],
        [True, False],
        [True, False],
        [False, True],
    ]
    console.run(console.tab.get_by_text("State no code").click())
    console.see("No secret will open")
    console.run(console.tab.get_by_label("When it ends").select_option("After 1 day"))
    before = len(wallet.asked)
    wallet.refusal = (4001, "User rejected the request.")
    console.click("Approve")
    console.click("Test Wallet example.wallet", within="dialog")
    console.see("The wallet refused to sign.")
    wallet.refusal = None
    console.click("Close", within="dialog header")
    console.run(expect(console.tab.get_by_label("When it ends")).to_have_value("86400"))
    console.click("Approve")
    console.click("Test Wallet example.wallet", within="dialog")
    console.see("The grant is in force")
    assert len(wallet.asked) == before + 1
    made = decode_bundle(downloaded(console))
    assert {one.delegate_did for one in made} == {DID}
    assert sorted(one.space or "" for one in made if one.space) != []
    resources = {row.path for one in made for row in one.resources}
    assert {"com.example.notes/inbox/", "vault/secrets/API_KEY"} <= resources
    assert not any("PROTECTED" in one or other[4:] in one for one in resources)


PATHS = {
    **dict.fromkeys(("", "/", "vault", "vault/", "vault/secrets", "vault/secrets/"), ""),
    "vault/secrets/API_KEY": "API_KEY",
    "vault/secrets/scoped/mail/API_KEY": "mail/API_KEY",
    **dict.fromkeys(("vault/secrets/scoped", "vault/secrets/scoped/"), "scoped/"),
    **dict.fromkeys((SCOPE, f"{SCOPE}/"), "mail/"),
    "vault/secrets/scoped/API_KEY": "API_KEY/",
    "vault/secrets/API_KEY/": "API_KEY/",
    "vault/secrets/a/b/C": "a/b/C/",
    "vaults": None,
    "notes": None,
}
"""Which secrets a path contains (X6): one, a folder with a slash at its end, all, or none."""


def test_which_secrets_a_path_contains(scripts: Scripts) -> None:
    """A path counts as one secret only by a full name; every path to all secrets is recognised."""
    script = """async (paths) => {
      const { requestedRight, secretOf } = await import("/console/wire/grants.js");
      const right = { service: "tinycloud.kv", space: "secrets", actions: ["tinycloud.kv/get"] };
      return paths.map((path) => secretOf(requestedRight("did:key:z6Mk", { ...right, path })));
    }"""
    assert scripts.evaluate(script, list(PATHS)) == [*PATHS.values()]


def test_when_a_grant_ends(console: ConsolePage) -> None:
    """A grant lasts 30 days by default, or less if the app asks for less."""
    console.open("connect")
    phrase = in_console(console, 'return (await at("recovery_phrase")).makePhrase();')
    console.run(console.tab.get_by_role("button", name="Use a recovery phrase").click())
    console.type("Recovery phrase", phrase)
    console.click("Sign in", within="dialog")  # a session that does not end
    console.signed_in()
    asked = {**MANIFEST, "expiry": "3650d", "secrets": {"API_KEY": True}}
    end = console.tab.get_by_label("When it ends")
    for expiry, default in (("3650d", "2592000"), ("30d", "most"), ("1d", "most")):
        console.go(request_link({**asked, "expiry": expiry}))
        console.run(expect(end).to_have_value(default))
    hint = console.tab.locator("#end-hint")
    console.run(expect(hint).to_contain_text("The app asks for 1 day."))
    console.go(request_link({**MANIFEST, "secrets": {"API_KEY": True}}))
    console.run(expect(hint).to_contain_text("The app does not say for how long."))
    console.run(expect(hint).not_to_contain_text("30 days"))
    longest = end.locator("option[value=most]")
    console.go(request_link({**asked, "expiry": "1d"}))
    console.run(expect(longest).to_have_text("After 1 day"))
    console.go(request_link({**asked, "secrets": {"API_KEY": True, "SHORT_KEY": {"expiry": "1d"}}}))
    console.run(expect(end).to_have_value("most"))
    console.run(expect(longest).to_have_text("After 1 day"))
    console.run(console.tab.get_by_role("checkbox", name="SHORT_KEY").uncheck())
    console.run(expect(longest).to_contain_text("As long as it asks for"))
    console.run(expect(end).to_have_value("2592000"))


def test_bad_requests(console: ConsolePage) -> None:
    """A malformed request gives a sentence and a next step, and the pasted text stays."""
    console.sign_in()
    console.click("Requests", role="link")
    console.see("Open a request")
    console.shot("requests-empty")
    field = console.tab.get_by_label("What the app asks for")
    for text, said in (
        ("", "Paste the manifest"),
        ("{", "This is not JSON"),
        ("[]", "This request cannot be used"),
        (json.dumps({**MANIFEST, "colour": "red", "name": ""}), "is no known member"),
        (
            json.dumps(
                {
                    "type": "sealspace.backend/v1",
                    "statement": {"did": "did:key:zOther", "manifest": MANIFEST},
                }
            ),
            "another DID",
        ),
    ):
        console.type("What the app asks for", text)
        console.click("Read it")
        console.see(said)
        console.run(expect(field).to_have_value(text))
    console.shot("requests-bad")
    console.type("What the app asks for", json.dumps(MANIFEST))
    console.click("Read it")
    console.see("There is nothing here that you can grant")
    console.go("requests?manifest=%%%")
    console.see("The link is damaged")


HOSTILE = (
    "<img src=x onerror=alert(1)>\u202eevorppA\u202c\n\n"
    + "Z"
    + "\u0301" * 200
    + " Approved. Your node verified this. "
)


_UNQUOTED = """() => [...document.querySelectorAll("main *")].filter((one) => !one.closest("q") &&
  [...one.childNodes].some((node) => node.nodeType === 3 && node.data.includes("Your node verified"))).length"""


def test_hostile_requests_stay_text(console: ConsolePage) -> None:
    """Markup, direction marks, long texts and many rights are shown as text, and do not break the
    page."""
    asked = {
        "app_id": HOSTILE,
        "name": HOSTILE,
        "description": HOSTILE * 40 + "x" * 10_000,
        "prefix": "p",
        "defaults": False,
        "permissions": [
            {
                "service": "tinycloud.kv",
                "path": f"{at}/" + "a" * 400,
                "actions": ["get"],
                "description": HOSTILE,
            }
            for at in range(256)
        ],
    }
    console.sign_in()
    console.go(request_link(asked))
    console.see("Who asks")
    console.run(expect(console.tab.locator("li input[type=checkbox]")).to_have_count(256))
    console.shot("requests-hostile")
    texts = console.run(console.tab.locator("main").inner_text())
    assert "\u202e" not in texts
    assert "\u0301" * 3 not in texts
    assert console.run(console.tab.evaluate(_UNQUOTED)) == 0
    assert console.run(console.tab.locator("main img").count()) == 0
    console.click("Approve")
    console.see("A DID begins with did:")


@pytest.mark.skipif(not AXE.exists(), reason=AXE_ABSENT)
def test_what_axe_finds(console: ConsolePage) -> None:
    """axe-core finds nothing wrong with a request."""
    console.sign_in()
    console.go(
        request_link(
            {
                **MANIFEST,
                "secrets": {"API_KEY": True},
                "permissions": [{"service": "tinycloud.duckdb", "path": "/", "actions": ["read"]}],
            }
        )
    )
    console.see("Who asks")
    assert console.accessibility_problems() == []
