"""The pages of programs and of the command line."""

from browser import Browser, BrowserWallet
from console_stage import ConsolePage
from embedded_node import EmbeddedNode
from playwright.async_api import expect

from sealspace.apps.programs import ProgramManifest, Provenance
from sealspace.client import Client, SignIn
from sealspace.documents.builds import Build

BUILD = Build(
    repository="github.com/alice/project",
    repository_id="1001",
    ref="refs/heads/main",
    commit="a1" * 20,
    workflow="github.com/alice/project/.github/workflows/build.yml",
)
HOSTILE = "<img src=x onerror=alert(1)>"


def test_projects_and_their_versions(
    console: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """Public programs are listed once the wallet allows the session to read their space."""

    async def published() -> tuple[str, str]:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer, SignIn(spaces=("public",)))
            programs = client.programs(public=True)
            manifest = ProgramManifest(secrets=("API_KEY",), hosts=("api.example.com",))
            first, second = b"\0asm\1\0\0\0", b"\0asm\1\0\0\0\0\1\0"
            one = await programs.publish(
                "digest",
                first,
                target="wasm32-wasip1",
                signer=wallet.signer,
                source=HOSTILE,
                provenance=Provenance(BUILD, b"{}"),
            )
            two = await programs.publish(
                "digest", second, target="wasm32-wasip1", signer=wallet.signer, manifest=manifest
            )
            return one.sha256, two.sha256

    first, second = browser.run(published())
    console.sign_in()
    console.click("Programs", role="link")
    console.click("Allow it")
    console.click("Test Wallet example.wallet", within="dialog")
    console.see("for everyone")
    console.shot("programs")
    rows = console.tab.locator(".versions li")
    console.run(expect(rows).to_have_count(2))
    console.run(expect(rows.filter(has_text="active")).to_have_count(1))
    console.run(rows.filter(has_text="active").get_by_role("button").click())
    console.see(second)
    console.see("api.example.com")
    console.see("its developer states nothing")
    console.shot("program")
    console.click("Close", within="dialog header")
    console.run(rows.filter(has_not_text="active").get_by_role("button").click())
    console.see(first)
    console.see(HOSTILE)
    for text in (BUILD.repository, BUILD.ref, BUILD.commit, BUILD.workflow):
        console.run(
            expect(console.tab.locator("dialog").get_by_text(text, exact=True)).to_be_visible()
        )
    console.shot("program-build")


def test_an_older_statement_is_not_that_of_the_active_version(
    console: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """RN177: a version is shown as active only if its stored statement is the one that `active`
    names."""

    async def put_back() -> None:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer, SignIn(spaces=("public",)))
            programs, wasm = client.programs(public=True), b"\0asm\1\0\0\0"
            manifest = ProgramManifest(hosts=("api.example.com",))
            version = await programs.publish(
                "digest", wasm, target="wasm32-wasip1", signer=wallet.signer, manifest=manifest
            )
            key, space = version.project.version_key(version.sha256), client.kv("public")
            older = (await space.get(key)).body
            await programs.publish("digest", wasm, target="wasm32-wasip1", signer=wallet.signer)
            await space.put(key, older)

    browser.run(put_back())
    console.sign_in()
    console.click("Programs", role="link")
    console.click("Allow it")
    console.click("Test Wallet example.wallet", within="dialog")
    console.see("No version is active")
    console.run(
        expect(console.tab.locator(".versions li").filter(has_text="active")).to_have_count(0)
    )


def test_no_programs_and_the_command_line(console: ConsolePage, node: EmbeddedNode) -> None:
    """Without projects the page says how to publish one; the command that signs in names this
    node."""
    console.sign_in()
    console.click("Programs", role="link")
    console.see("Nothing is published yet")
    console.shot("programs-empty")
    console.click("Command line", role="link")
    console.see(f"sealspace login {node.url} --browser")
    console.shot("terminal")
