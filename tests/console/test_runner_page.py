"""The runner of a node in the console: API keys at it, and secrets that it makes (CN6, RN154)."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from browser import Browser, BrowserWallet
from console_stage import ConsolePage, console_page
from console_wire import in_console
from playwright.async_api import Request, Route, expect
from runner_stage import ECHO, ENVIRONMENT, RunnerStage, runner_stage

from capabilities.siwe import parse_rfc3339
from capabilities.strict_base64 import decode_url
from sealspace.apps.api_keys import new_api_key, parse_credential
from sealspace.apps.run_calls import call_headers
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import ByProject, RunStatement
from sealspace.documents.signed_statements import StatementSigner
from sealspace.session import key_session
from sealspace.wallets import new_wallet

pytestmark = pytest.mark.xdist_group("runner")  # one node and one runner for all of them

WALLET = "Test Wallet example.wallet"
CORPUS = (
    "<img src=x onerror=canary()>",
    "</code><script>canary()</script>",
    "\u202ejavascript:canary()",
    "W" * 1500,
)
ALL = " ".join(CORPUS)


@pytest.fixture(scope="module")
def stage(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunnerStage]:
    """A node whose console calls the runner beside it, and their owner."""

    @asynccontextmanager
    async def staged() -> AsyncIterator[RunnerStage]:
        async with AsyncExitStack() as stack:
            made = await runner_stage(stack, tmp_path_factory.mktemp("runner"))
            await made.publish("echo", ECHO)
            await made.publish("environment", ENVIRONMENT)
            await made.credit(0)  # only owners with an account make keys
            yield made

    with browser.entered(staged()) as made:
        yield made


@pytest.fixture(scope="module")
def signed_in(browser: Browser, stage: RunnerStage) -> Iterator[ConsolePage]:
    """A tab at its console, whose session may call the runner in the owner's name."""
    with console_page(browser, stage.node.url, wallet=BrowserWallet(stage.wallet)) as opened:
        opened.others = (f"{stage.url}/",)
        opened.run(opened.tab.add_init_script("window.canary = () => { window.__sang = true; };"))
        opened.sign_in()
        opened.see("secret")
        opened.open("programs")
        opened.see("This session may not call the runner yet")
        opened.see(stage.runner.did)
        opened.shot("runner-not-allowed")
        opened.click("Allow it", within="section[aria-label=Runner]")
        opened.click(WALLET, within="dialog")
        opened.see("Balance")
        yield opened


@pytest.fixture
def console(signed_in: ConsolePage) -> Iterator[ConsolePage]:
    """The same tab for all tests; after each, no policy was violated and no injected script ran."""
    signed_in.open("programs")
    yield signed_in
    assert signed_in.run(signed_in.tab.evaluate("window.__sang")) is None
    assert signed_in.faults() == []


def test_a_key_from_its_making_to_its_end(
    console: ConsolePage, browser: Browser, stage: RunnerStage
) -> None:
    """An API key is shown once, calls a program, is listed, and is refused after its revocation."""
    console.see("You have no API key here.")
    console.shot("runner-empty")
    console.click("New API key")
    for label, wrong, right in (
        ("Programs", "Echo", "echo"),
        ("Scopes of secrets", "Global", "default, mail"),
        ("Most for a call", "1.5", "2000"),
        ("Ends after", "91", "7"),
    ):
        console.type(label, wrong)
        console.run(console.tab.locator("dialog form button.primary").click())
        field = console.tab.locator(
            "dialog .field", has=console.tab.get_by_label(label, exact=True)
        )
        console.run(expect(field.locator(".wrong")).not_to_be_empty())
        console.type(label, right)
    console.shot("runner-new-key")
    console.click("New API key", within="dialog")
    console.click(WALLET, within="dialog >> nth=-1")
    console.see("Your API key")
    key = console.run(console.tab.locator("dialog code").inner_text())
    console.shot("runner-key")
    nonce = parse_credential(key).nonce
    assert browser.run(stage.api("echo", key))[0] == 200
    assert browser.run(stage.api("environment", key))[1]["code"] == "key-project"
    console.click("I have copied it")
    console.see("2,000 for a call at most")
    assert key.rpartition(":")[2] not in console.run(console.tab.content())
    row = console.tab.locator("section[aria-label=Runner] li", has_text=str(nonce))
    assert f"{stage.developer}/echo" in console.run(row.inner_text())
    assert console.judged() == []
    console.shot("runner")
    console.click(f"Revoke API key {nonce}")
    console.type("Type revoke to confirm", "revoke")
    console.click("Revoke", within="dialog")
    console.see("You have no API key here.")
    assert browser.run(stage.api("echo", key))[1]["code"] == "key-refused"


def test_a_secret_that_the_runner_makes(
    console: ConsolePage, browser: Browser, stage: RunnerStage
) -> None:
    """A generated secret opens for a granted program, not for its owner, and is not overwritten."""
    console.go("secrets")
    for _ in range(2):
        console.click("Add a secret", within="header >> nth=-1")
        console.type("Name", "SIGNING_KEY")
        console.click("In the runner (PROTECTED_)", within="dialog")
        in_runner_only(console)
        console.shot("runner-generate")
        console.click("Generate", within="dialog form")
        console.click(WALLET, within="dialog >> nth=-1")
        console.see("PROTECTED_SIGNING_KEY is made") if _ == 0 else console.see(
            "It was not changed."
        )
    console.click("Cancel", within="dialog")
    console.click("Open PROTECTED_SIGNING_KEY")
    console.see("it cannot be opened in person")
    console.shot("runner-secret")
    console.click("Close", within="dialog header")
    console.click("Add a secret", within="header >> nth=-1")
    console.type("Name", "PROTECTED_TYPED")
    console.type("Value", "x")
    console.click("Seal and save")
    console.see("are generated by a runner, never typed")

    async def ran() -> dict[str, Any]:
        project = parse_project(f"{stage.developer}/environment")
        statement = RunStatement(programs=(ByProject(project),))
        await stage.grant(["PROTECTED_SIGNING_KEY"], statement)
        session = await stage.calling_session()
        return (await stage.call("environment", session=session, secrets=stage.developer))[1]

    answer = browser.run(ran())
    assert re.search(r"(?:^|\0)PROTECTED_SIGNING_KEY=[0-9a-f]{64}\0", answer["output"]), answer


def in_runner_only(console: ConsolePage) -> None:
    """Wait until the dialog of the runner is loaded and the one before it is gone: both have a
    field for a name."""
    console.run(expect(console.tab.get_by_label("Kind", exact=True)).to_be_visible())
    console.run(expect(console.tab.locator("dialog")).to_have_count(1))


def test_another_runner_than_last_time(console: ConsolePage, stage: RunnerStage) -> None:
    """The console signs nothing for a changed runner until the user accepts its DID by typing a
    word."""
    console.see("Balance")
    console.run(
        console.tab.evaluate("() => localStorage.setItem('sealspace.runner', 'did:key:z6MkFormer')")
    )
    signed: list[str] = []

    def note(request: Request) -> None:
        if request.url.startswith(stage.url) and "authorization" in request.headers:
            signed.append(request.url)

    console.listen("request", note)
    console.open("programs")
    console.see("This is another runner than last time")
    console.see("did:key:z6MkFormer")
    console.shot("runner-changed")
    console.go("secrets")
    console.click("Add a secret", within="header >> nth=-1")
    console.click("In the runner (PROTECTED_)", within="dialog")
    in_runner_only(console)
    console.type("Name", "PROTECTED_OTHER")
    console.click("Generate", within="dialog form")
    console.see("Another runner answered than last time.")
    assert signed == []
    console.go("programs")
    console.click("Continue with the new runner")
    console.type("Type trust to confirm", "trust")
    console.click("Continue with the new runner", within="dialog")
    console.see("Balance")
    assert [url.removeprefix(stage.url) for url in signed] == ["/keys"]


def test_what_a_runner_says(console: ConsolePage, stage: RunnerStage) -> None:
    """Texts of a hostile one are texts or refused; one that does not answer leaves the rest of the
    page as it is."""
    answers: dict[str, tuple[int, Any]] = {}

    async def answer(route: Route) -> None:
        found = answers.get(route.request.url.removeprefix(stage.url))
        if not answers:
            await route.abort()
        elif found is None or route.request.method == "OPTIONS":
            await route.continue_()
        else:
            headers = {"Access-Control-Allow-Origin": "*", "Content-Type": "application/json"}
            body = found[1] if isinstance(found[1], str) else json.dumps(found[1])
            await route.fulfill(status=found[0], headers=headers, body=body)

    console.run(console.tab.route(f"{stage.url}/**", answer))
    account = dict.fromkeys(("balance", "reserved", "charged"), "1" * 15)
    end = "2026-11-20T07:19:22.970Z"
    key = {"nonce": 7, "projects": [*CORPUS], "profiles": [ALL], "maxPerCall": "1", "expires": end}
    console.open("programs")
    console.see("The runner does not answer.")
    console.see("This session has no right to projects, public")
    console.shot("runner-unreachable")
    refused = {"error": {"code": ALL, "message": ALL, "detail": CORPUS[0]}}
    for path, status, value in (
        ("/keys", 200, {"account": account, "keys": [{**key, "expires": ALL}]}),
        ("/keys", 200, {"account": account, "keys": [{**key, "nonce": ALL}]}),
        ("/keys", 200, {"account": {**account, "balance": ALL}, "keys": []}),
        ("/keys", 200, {"account": account, "keys": {"length": ALL}}),
        ("/keys", 403, refused),
        ("/keys", 500, f"<html>{ALL}"),
        ("/info", 200, {"runner": ALL, "start": stage.at.start}),
        ("/info", 200, {"runner": stage.at.did}),
        ("/info", 200, {"runner": stage.at.did, "start": ALL}),
        ("/info", 200, [ALL]),
    ):
        answers.clear()
        answers[path] = (status, value)
        said = (
            "The runner refuses."
            if status == 403
            else "The runner's answer could not be understood."
        )
        console.click("Try again", within="section[aria-label=Runner]")
        console.see(said)
        console.run(expect(console.tab.locator(".skeleton")).to_have_count(0))
    answers.clear()
    answers["/keys"] = (200, {"account": account, "keys": [key]})
    console.click("Try again", within="section[aria-label=Runner]")
    console.see(CORPUS[0])
    console.see("\ufffdjavascript:canary()")
    console.shot("hostile-runner")
    console.run(console.tab.unroute(f"{stage.url}/**"))


class _Drawn:
    """Bytes that were drawn elsewhere."""

    def __init__(self, *drawn: bytes) -> None:
        self._drawn = list(drawn)

    def token(self, size_bytes: int) -> bytes:
        """Return the next of them."""
        assert len(self._drawn[0]) == size_bytes
        return self._drawn.pop(0)


def test_tokens_and_statements_are_those_of_the_sdk(browser: Browser, stage: RunnerStage) -> None:
    """Byte for byte, of an owner with a key and of one with a wallet; the runner takes them."""
    wallet, seed = new_wallet(), bytes(range(32))
    mine = key_session(seed)
    for did in (mine.did, wallet.did):
        browser.run(stage.credit(0, owner=did))
    bodies: list[str | None] = []
    with console_page(browser, stage.node.url, wallet=BrowserWallet(wallet)) as console:
        console.listen(
            "request",
            lambda sent: bodies.append(sent.post_data) if sent.url.endswith("/keys") else None,
        )
        console.open("node")
        console.see("Identity")
        made = in_console(
            console,
            """
            const runners = await at("runner"), keys = await at("api_keys");
            const { generateAt } = await at("generated_secrets"), { Client } = await at("client");
            const { fromHex, utf8 } = await at("bytes");
            const pkcs8 = fromHex("302e020100300506032b657004220420" + given.seed);
            const privateKey = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", false, ["sign"]);
            const owner = { did: given.did, kind: "phrase", keys: { privateKey } };
            const runner = await runners.look(given.url);
            const own = await session.signIn(owner);
            const headers = await runners.callHeaders(own, runner, "keys/7/revoke", utf8("body"));
            const wanted = { scope: "mail", name: "PROTECTED_A", type: "password" };
            const generated = [];
            for (let at = 0; at < 2; at++) generated.push(await generateAt(Client(own), owner, runner, wanted));
            const { owner: other, held } = await signedIn();
            const before = await caught(() => runners.callHeaders(held, runner, "keys", utf8("")));
            await runners.allowCalls(held, other);
            const stated = { projects: ["*"], profiles: ["default"], maxPerCall: 5, expiresS: 3600 };
            const made = [await keys.createKey(owner, runner, stated), await keys.createKey(other, runner, stated)];
            const again = await caught(() => keys.createKey(owner, { ...runner, did: given.did }, stated));
            const former = { ...runner, start: "A".repeat(43) }; // so that the list is signed for twice (RN178)
            const listed = (await keys.list(held, former)).keys;
            return { did: runner.did, headers, before: before.code, made, generated, again, listed };
            """,
            {"url": stage.url, "did": mine.did, "seed": seed.hex()},
        )
    assert (made["did"], made["before"]) == (stage.runner.did, "not-authorised")
    assert (made["again"]["code"], made["again"]["details"]["problem"]) == (
        "runner-refused",
        "key-statement",
    )
    assert made["generated"] == [True, False]
    assert [one["nonce"] for one in made["listed"]] == [parse_credential(made["made"][1]).nonce]
    payload = json.loads(decode_url(made["headers"]["Authorization"].split(".")[1]) or b"")
    drawn = _Drawn(UUID(payload["nnc"].removeprefix("urn:uuid:")).bytes)
    expected = call_headers(
        mine,
        runner=stage.at,
        program="keys/7/revoke",
        body=b"body",
        now=payload["exp"] - 60,
        entropy=drawn,
    )
    assert made["headers"] == expected
    signers: tuple[StatementSigner, StatementSigner] = (mine.signer, wallet)
    for signer, text, body in zip(
        signers, made["made"], [one for one in bodies if one], strict=False
    ):
        shown = parse_credential(text)
        drawn = _Drawn(bytes.fromhex(shown.secret), shown.nonce.to_bytes(4))
        statement, credential = new_api_key(
            signer,
            runner=stage.runner.did,
            projects=None,
            profiles=("default",),
            max_per_call=5,
            expires_at=parse_rfc3339(json.loads(body)["statement"]["expires"]),
            entropy=drawn,
        )
        assert (statement, credential.text) == (body.encode(), text)
