"""Tests of a node's runner in the console: API keys and generated secrets (CN6, RN154)."""

import json
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
import wasmtime
from browser import Browser, BrowserWallet
from console_stage import ConsolePage, console_page
from console_wire import in_console
from msgspec import to_builtins
from playwright.async_api import Request, Route, expect
from runner_stage import ECHO, ENVIRONMENT, P1, RunnerStage, runner_stage

from capabilities.principals import principal_of
from capabilities.siwe import parse_rfc3339
from capabilities.strict_base64 import decode_url
from sealspace.apps.api_keys import new_api_key, parse_credential
from sealspace.apps.programs import ACTIVE_TYPE, VERSION_TYPE, Provenance, Version
from sealspace.apps.run_calls import call_headers
from sealspace.documents.builds import Build
from sealspace.documents.call_conditions import Whitelist, condition_json
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import (
    ByHash,
    ByProject,
    RunStatement,
    parse_run_statement,
    run_statement_json,
)
from sealspace.documents.signed_statements import StatementSigner, sign_statement
from sealspace.session import key_session
from sealspace.wallets import new_wallet
from tee_backend.evidence.simulated import measurements_of

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
    """A tab at the console, with a session that may call the runner in the owner's name."""
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
    """A tab at the console for all tests, checked after each test for violations of the policy."""
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
    assert console.accessibility_problems() == []
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
    """Wait until only the runner's dialog is open, because the previous dialog has a field of the
    same name."""
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
    """Texts of a hostile runner are shown as text or refused. A runner that does not answer leaves
    the rest of the page usable."""
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


REPOSITORY = "github.com/alice/project"
BUILD = Build(
    repository=REPOSITORY,
    repository_id="1001",
    ref="refs/heads/main",
    commit="a1" * 20,
    workflow=f"{REPOSITORY}/.github/workflows/build.yml",
)


@pytest.fixture(scope="module")
def built(browser: Browser, stage: RunnerStage) -> Version:
    """A program whose developer states its build. The owner has secrets, and the node has seen the
    runner's code."""

    async def published() -> Version:
        await stage.owner.secrets().put("API_KEY", "k1")
        await stage.owner.secrets().put("MAIL_KEY", "k2", scope="mail")
        await stage.owner.secrets().put("SEEN", "k3")
        version = await stage.owner.programs(public=True).publish(
            "built",
            bytes(wasmtime.wat2wasm(ENVIRONMENT.replace('"memory") 16', '"memory") 17'))),
            target=P1,
            signer=stage.wallet,
            provenance=Provenance(BUILD, b"{}"),
        )
        by_hash = ByHash(stage.published["environment"].sha256)
        await stage.grant(["SEEN"], RunStatement(programs=(by_hash,)))
        session = await stage.calling_session()
        assert (await stage.call("environment", session=session, secrets=stage.developer))[0] == 200
        return version

    return browser.run(published())


def output(browser: Browser, stage: RunnerStage, name: str) -> str:
    """Call a program as the owner, with the owner's secrets, and return the program's output."""

    async def ran() -> tuple[int, dict[str, Any]]:
        session = await stage.calling_session()
        return await stage.call(name, session=session, secrets=stage.developer)

    status, answer = browser.run(ran())
    return str(answer["output"]) if status == 200 else str(answer["error"]["code"])


def bind(console: ConsolePage, kind: str, **fields: str) -> None:
    """Open the page of grants to the runner, choose what the secrets are bound to, and type."""
    console.go("bind")
    console.run(console.tab.get_by_role("radio", name=kind, exact=True).check())
    for label, text in fields.items():
        console.type(label.replace("_", " "), text)


def granted(console: ConsolePage) -> dict[str, Any]:
    """Sign, and return the terms that were granted."""
    console.run(console.tab.locator("form button.primary").click())
    console.click(WALLET, within="dialog >> nth=-1")
    console.see("See your grants")
    terms: dict[str, Any] = json.loads(
        console.run(console.tab.locator("code", has_text='{"callers"').inner_text())
    )
    console.shot("bind-granted")
    console.click("See your grants", role="link")
    return terms


def test_secrets_for_a_repository(
    console: ConsolePage, browser: Browser, stage: RunnerStage, built: Version
) -> None:
    """A grant for a repository names the active version's hash and project (CN10)."""
    bind(console, "GitHub Repository", Names_of_secrets="API_KEY")
    assert [
        console.run(console.tab.get_by_role("radio", name=name, exact=True).count())
        for name in ("GitHub Repository", "WASM Hash", "Project")
    ] == [1, 1, 1]
    console.type("Name of the project", "environment")
    console.type("Repository", "https://github.com/alice/project.git")
    console.type("Branch or tag", "refs/heads/main")
    console.run(console.tab.locator("form button.primary").click())
    console.see("Read the active version first.")
    console.click("Read the active version")
    console.see("Its developer states nothing")
    console.type("Name of the project", "built")
    for ref in ("refs/heads/next", "refs/tags/main"):
        console.type("Branch or tag", ref)
        console.click("Read the active version")
        console.see("Its developer states another repository or ref")
        assert console.run(console.tab.locator("code", has_text="sealspace runner").count()) == 0
        console.run(console.tab.locator("form button.primary").click())
        console.see("This version cannot be granted by repository.")
    console.type("Branch or tag", "refs/heads/main")
    console.click("Read the active version")
    console.see("Your browser does not verify Sigstore")
    stated = console.tab.get_by_role("region", name="Its developer states")
    for text in (built.sha256, REPOSITORY, BUILD.ref, BUILD.commit, BUILD.workflow):
        console.run(expect(stated.get_by_text(text, exact=True).first).to_be_visible())
    console.type("Names of secrets", "API_KEY mail/MAIL_KEY")
    command = console.tab.locator("code", has_text="sealspace runner grant")
    assert shlex.split(console.run(command.inner_text())) == [
        *("sealspace", "runner", "grant", stage.url, "--repository", REPOSITORY),
        *("--ref", "refs/heads/main", "--program", f"{stage.developer}/built"),
        *("--secret", "API_KEY", "--secret", "mail/MAIL_KEY"),
    ]
    other = new_wallet().did
    for way, options in (
        ("Anyone", ["--anybody"]),
        ("These people and programs", ["--caller", other]),
        ("A condition", ["--condition", "FILE"]),
        ("Only you, and your API keys", []),
    ):
        console.run(console.tab.get_by_role("radio", name=way, exact=True).check())
        if way.startswith("These"):
            console.type("DIDs of callers", other)
        said = shlex.split(console.run(command.inner_text()))
        assert said[said.index("mail/MAIL_KEY") + 1 :] == options
    console.shot("bind-repository")
    assert console.accessibility_problems() == []
    console.type("Names of secrets", "API_KEY")
    terms = granted(console)
    project = f"{stage.developer}/built"
    assert terms["programs"] == [{"wasmSha256": built.sha256, "project": project}]
    assert "API_KEY=k1" in output(browser, stage, "built")


def test_secrets_for_a_program_and_for_a_project(
    console: ConsolePage, browser: Browser, stage: RunnerStage, built: Version
) -> None:
    """A hash names one program, without hosts; a project names its active version, also later."""
    bind(console, "WASM Hash")
    assert not console.run(console.tab.get_by_label("Hosts", exact=True).is_visible())
    digest = stage.published["environment"].sha256
    for label, wrong, right in (
        ("WASM SHA256 Hash", digest.upper(), digest),
        ("Names of secrets", "API_KEY ABSENT", "mail/MAIL_KEY"),
        ("Ends after", "367", "30"),
    ):
        console.type(label, wrong)
        console.run(console.tab.locator("form button.primary").click())
        field = console.tab.locator(".field", has=console.tab.get_by_label(label, exact=True))
        console.run(expect(field.locator(".wrong")).not_to_be_empty())
        console.type(label, right)
    console.shot("bind-hash")
    assert granted(console) == {"callers": {"Owner": {}}, "programs": [{"wasmSha256": digest}]}
    bind(
        console,
        "Project",
        Name_of_the_project="environment",
        Names_of_secrets="API_KEY",
        Hosts="https://a.example",
    )
    console.run(console.tab.locator("form button.primary").click())
    console.see("Type names of hosts")
    console.type("Hosts", "api.example.com")
    console.shot("bind-project")
    assert granted(console) == {
        "callers": {"Owner": {}},
        "hosts": ["api.example.com"],
        "programs": [{"project": f"{stage.developer}/environment"}],
    }
    assert "API_KEY=k1" in output(browser, stage, "environment")


def test_CN11_callers_and_conditions(
    console: ConsolePage, browser: Browser, stage: RunnerStage, built: Version
) -> None:
    """The signed terms name the chosen callers as the SDK writes them, and the runner accepts
    them."""
    digest = stage.published["environment"].sha256
    other = principal_of(new_wallet().did)
    pattern = {"AccountPattern": {"pattern": "did:pkh:.*"}}
    end = "2030-01-01T00:00:00Z"
    for way, label, wrong, right, condition in (
        (
            "These people and programs",
            "DIDs of callers",
            "alice",
            other.lower(),
            Whitelist((other,)),
        ),
        ("A condition", "Condition (JSON)", '{"Nobody": {}}', json.dumps(pattern), None),
        ("Anyone", "Calls until", "tomorrow", end, None),
    ):
        bind(console, "WASM Hash", WASM_SHA256_Hash=digest, Names_of_secrets="API_KEY")
        console.run(console.tab.get_by_role("radio", name=way, exact=True).check())
        console.type(label, wrong)
        console.run(console.tab.locator("form button.primary").click())
        field = console.tab.locator(".field", has=console.tab.get_by_label(label, exact=True))
        console.run(expect(field.locator(".wrong")).not_to_be_empty())
        console.type(label, right)
        console.shot(f"bind-callers-{way.split()[0].lower()}")
        terms = granted(console)
        if way == "Anyone":
            conditions = ["AllowAll", {"ValidUntil": {"until": end}}]
            assert terms["callers"] == {"Logic": {"operator": "And", "conditions": conditions}}
        else:
            assert terms["callers"] == (condition_json(condition) if condition else pattern)
        assert run_statement_json(parse_run_statement(terms)) == terms
    assert "API_KEY=k1" in output(browser, stage, "environment")


def test_a_hostile_statement_about_a_build(
    console: ConsolePage, browser: Browser, stage: RunnerStage
) -> None:
    """A signed statement with a malformed build is refused, and so is another answer of the node;
    nothing is granted then."""
    sound = to_builtins(BUILD)
    texts = [{**sound, name: f"{sound[name]}{CORPUS[0]}"} for name in sound]
    builds = [*texts, {**sound, ALL: ALL}, ALL, [sound], {**sound, "ref": "refs/x$(canary)"}]
    bind(console, "GitHub Repository", Name_of_the_project="hostile", Repository=REPOSITORY)
    console.type("Branch or tag", "refs/x$(canary)")
    console.click("Read the active version")
    console.see("Begins with refs/")
    console.type("Branch or tag", BUILD.ref)
    answers: list[bytes] = []

    async def answer(route: Route) -> None:
        await route.fulfill(body=answers[not route.request.url.endswith("/active")])

    console.run(console.tab.route("**/public/**", answer))
    for build in (*builds, None):
        project, digest = f"{stage.developer}/hostile", "ab" * 32
        stated: dict[str, Any] = {"project": project, "sha256": digest}
        about = {"bytes": 8, "target": P1, "publishedAt": ALL, "source": ALL, "build": build}
        version = sign_statement(VERSION_TYPE, stated | about, stage.wallet)
        hashed = {"sequence": 1, "statementSha256": sha256(version).hexdigest()}
        active = sign_statement(ACTIVE_TYPE, stated | hashed, stage.wallet)
        answers[:] = [active, version]
        console.click("Read the active version")
        console.see(
            "The active version cannot be used." if build else "Its developer states nothing"
        )
    answers[0] = json.dumps({"type": ALL, "statement": {ALL: ALL}}).encode()
    console.click("Read the active version")
    console.see("The active version cannot be used.")
    console.shot("hostile-bind")
    console.run(console.tab.unroute("**/public/**"))
    console.run(console.tab.locator("form button.primary").click())
    console.see("Read the active version first.")


def test_grants_show_the_build_that_the_owners_client_verified(
    console: ConsolePage, browser: Browser, stage: RunnerStage, built: Version
) -> None:
    """The console shows repository, ref and commit of a grant's label in the list, details and
    secret."""
    rule = ByHash(built.sha256, built.project, BUILD)
    browser.run(stage.grant(["mail/MAIL_KEY"], RunStatement(programs=(rule,))))
    console.open("grants")
    row = console.tab.locator("[role=row]", has_text=f"{REPOSITORY} refs/heads/main").first
    console.run(expect(row).to_contain_text("a1a1a1a1"))
    console.shot("grants-build")
    console.run(row.get_by_role("button").click())
    terms = console.tab.locator("dialog code", has_text='{"callers"')
    stated = json.loads(console.run(terms.inner_text()))
    assert stated == run_statement_json(RunStatement(programs=(rule,)))
    console.shot("grant-build")
    console.click("Close", within="dialog header")
    console.go("secrets")
    console.click("Open mail/MAIL_KEY")
    console.see(f"{REPOSITORY} refs/heads/main")


def test_a_grant_by_a_recovery_phrase(browser: Browser, stage: RunnerStage) -> None:
    """An owner without a wallet signs with its key, and the runner accepts that grant too."""
    with console_page(browser, stage.node.url) as console:
        mine = key_session(bytes([7]) * 32)
        console.open("node")
        console.see("Identity")
        terms = in_console(
            console,
            """
            const runners = await at("runner"), { grantRun } = await at("run_grants");
            const { Client } = await at("client"), { fromHex } = await at("bytes");
            const { secretName } = await at("secrets"), { ensureNetwork } = await at("encryption");
            const pkcs8 = fromHex("302e020100300506032b657004220420" + given.seed);
            const privateKey = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", false, ["sign"]);
            const owner = { did: given.did, kind: "phrase", keys: { privateKey } };
            const client = Client(await session.signIn(owner)), runner = await runners.look(given.url);
            await ensureNetwork(client, "default");
            const wanted = { rule: given.rule, secrets: [secretName(null, "API_KEY")], hosts: [], expiresS: 600 };
            const policy = { measurements: [given.measured] };
            const refused = [];
            for (const change of [{ policy: undefined }, { hosts: ["a.example"] }, { secrets: [] },
              { secrets: [secretName(null, "API_KEY"), secretName(null, "PROTECTED_A")] }, { rule: { build: given.rule } }]) {
              refused.push((await caught(() => grantRun(client, owner, runner, { ...wanted, policy, ...change }))).code);
            }
            return [refused, await grantRun(client, owner, runner, { ...wanted, policy })];
            """,
            {
                "url": stage.url,
                "did": mine.did,
                "seed": (bytes([7]) * 32).hex(),
                "rule": {"wasmSha256": "ab" * 32},
                "measured": {
                    name: value.hex() if isinstance(value, bytes) else value
                    for name, value in asdict(measurements_of("runner")).items()
                },
            },
        )
    assert terms[0] == ["invalid-input"] * 5
    assert terms[1]["programs"] == [{"wasmSha256": "ab" * 32}]


class _Drawn:
    """A random source that returns bytes drawn by the test."""

    def __init__(self, *drawn: bytes) -> None:
        self._drawn = list(drawn)

    def token(self, size_bytes: int) -> bytes:
        """Return the next of the drawn bytes."""
        assert len(self._drawn[0]) == size_bytes
        return self._drawn.pop(0)


def test_tokens_and_statements_are_those_of_the_sdk(browser: Browser, stage: RunnerStage) -> None:
    """The console's tokens and statements equal those of the SDK byte for byte."""
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
    assert made["did"] == stage.runner.did
    assert made["before"] == "not-authorised"
    assert made["again"]["code"] == "runner-refused"
    assert made["again"]["details"]["problem"] == "key-statement"
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
        assert body.encode() == statement
        assert credential.text == text
