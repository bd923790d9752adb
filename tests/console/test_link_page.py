"""Tests of signing in a browser with `sealspace console`: command, local page and console."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from browser import Browser, BrowserWallet, Page
from console_stage import AXE, AXE_ABSENT, ConsolePage, console_page
from console_wire import store_secrets
from embedded_node import EmbeddedNode
from forked_programs import forked_program
from loop_thread import LoopThread
from person import Person
from playwright.async_api import expect
from running_node import COMMAND
from tests_support import OUR_IMPORTS

from capabilities.cacao import encode_cacao, header_bytes, header_text, restore_cacao
from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.principals import parse_principal
from capabilities.signatures import Ed25519Signer, WalletSigner
from sealspace.cli.owner.owner_profile import Profile
from sealspace.cli.owner.wallet_page import WalletPage
from sealspace.cli.who.login import owner_sign_in
from sealspace.client import Client, SignIn
from sealspace.session import Grant, load_session, sign_message
from sealspace.wallets import new_wallet, wallet_from_key
from sealspace.wire.sign_in import sign_in_capabilities

ADDRESS = r"  (http://\S+/console/#/link\?to=[0-9]+\.[A-Za-z0-9_-]{43})"
CODE = re.compile(r"[0-9A-HJKMNP-TV-Z]{3}-[0-9A-HJKMNP-TV-Z]{3}")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An owner's own folder, and no display."""
    home = str(tmp_path / "home")
    return {
        "PATH": os.environ["PATH"],
        **OUR_IMPORTS,
        "TERM": "dumb",
        "SEALSPACE_HOME": home,
    }


def _log_in(node: EmbeddedNode, environment: dict[str, str]) -> str:
    """Sign the command line in with a new key, and store a secret; return the owner."""
    for words, given in ((["login", node.url, "--new"], ""), (["secret", "put", "API_KEY"], "hi")):
        command = [forked_program("sealspace"), *words]
        subprocess.run(command, env=environment, input=given.encode(), check=True)
    return load_session(Path(environment["SEALSPACE_HOME"]) / "session.json").owner


@contextmanager
def _console(
    browser: Browser, node: EmbeddedNode, wallet: BrowserWallet | None = None
) -> Iterator[ConsolePage]:
    """A tab at the console that may visit local pages. The policy refuses nothing."""
    with console_page(browser, node.url, wallet=wallet) as page:
        page.others = ("http://127.0.0.1:", "http://localhost:")
        yield page
        assert page.faults() == []


def _code(page: ConsolePage) -> str:
    text = page.run(page.tab.locator(".code").text_content()) or ""
    assert CODE.fullmatch(text), text
    return text


def test_a_browser_is_signed_in_from_the_command_line(
    browser: Browser, node: EmbeddedNode, tmp_path: Path, environment: dict[str, str]
) -> None:
    """The page, the local page and the terminal show the same code, and a confirmation signs the
    browser in."""
    owner = _log_in(node, environment)
    with (
        Person(
            [*COMMAND, "console", "--no-open"], environment=environment, folder=tmp_path
        ) as person,
        _console(browser, node) as page,
    ):
        address = person.expect(ADDRESS)[1].decode()
        page.run(page.tab.goto(address))
        page.see("Continue only if you have just started that command yourself")
        origin = node.url.replace("127.0.0.1", "localhost")
        assert page.tab.url == f"{origin}/console/#/link"
        code = _code(page)
        page.shot("link")
        page.click("Continue")
        page.see("Answer in the terminal")
        assert _code(page) == code
        assert "#" not in page.tab.url
        page.shot("link-terminal")
        said = person.expect(
            r"to sign in as (\S+) until \S+:\s+does the browser show the code (\S+)\? \[y/N\]: "
        )
        assert [one.decode() for one in said.groups()] == [owner, code]
        person.type(b"y\n")
        page.see("API_KEY")
        assert person.end() == 0
        assert page.tab.url == f"{origin}/console/#/secrets"
        assert page.run(page.tab.evaluate("history.length")) <= 3
        page.see("Sign out")
        page.run(page.tab.get_by_role("button", name="Open API_KEY").click())
        page.click("Reveal", within="dialog")
        page.run(expect(page.tab.locator("dialog output")).to_have_text("hi"))
        page.run(page.tab.goto(f"{origin}/console/#/terminal"))
        page.see(f"sealspace login {origin} --key-file FILE")


def test_a_browser_wallet_signs_a_browser_in(
    browser: Browser,
    node: EmbeddedNode,
    wallet: BrowserWallet,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    """The owner of a browser wallet signs on the local page, on the way back to the console."""
    with (
        Person(
            [*COMMAND, "login", node.url, "--browser"], environment=environment, folder=tmp_path
        ) as login,
        _console(browser, node, wallet) as page,
    ):
        page.run(page.tab.goto(login.expect(r"(http://127\S+/)\s")[1].decode()))
        for view in ("Connect your wallet", "Let this command line act as you"):
            page.see(view)  # before, the button is that of the view before
            page.run(page.tab.get_by_role("button", name="Test Wallet").click())
        page.see("You can close this page")
        assert login.end() == 0
        with Person([*COMMAND, "console"], environment=environment, folder=tmp_path) as person:
            page.run(page.tab.goto(person.expect(ADDRESS)[1].decode()))
            page.click("Continue")
            person.expect(r"\[y/N\]: ")
            person.type(b"y\n")
            page.see("Let this browser act as you")
            page.run(page.tab.get_by_role("button", name="Test Wallet").click())
            page.see("No secrets yet")
            assert person.end() == 0
        assert len(wallet.asked) == 2


def test_a_phrase_is_one_owner_in_browser_and_terminal(
    browser: Browser, node: EmbeddedNode, environment: dict[str, str]
) -> None:
    """The page names the command with which the phrase opens the browser's data in a terminal."""
    with console_page(browser, node.url) as page:
        page.open("connect")
        phrase = page.make_phrase()
        page.see("No secrets yet")
        assert page.run(page.tab.get_by_text("Your owner is on chain").count()) == 0
        store_secrets(page, ["API_KEY"])
        page.go("terminal")
        page.see(f"sealspace login {node.url} --phrase")
        page.see("You are the same owner there, with the same secrets")
        assert page.run(page.tab.get_by_text("sealspace console").count()) == 0
    sealspace = forked_program("sealspace")
    login = [sealspace, "login", node.url, "--phrase"]
    subprocess.run(login, env=environment, input=phrase.encode(), check=True)
    got = subprocess.run(
        [sealspace, "secret", "get", "API_KEY"], env=environment, stdout=subprocess.PIPE, check=True
    )
    assert got.stdout == b"x"


def test_an_empty_store_names_the_chain(browser: Browser, node: EmbeddedNode) -> None:
    """The sign-in and an empty store say that an account on another chain is another owner."""
    wallet = BrowserWallet(wallet_from_key(bytes(31) + b"7", chain_id=137))
    with _console(browser, node, wallet) as page:
        page.sign_in()
        page.see("Signed in, on chain 137")
        page.see("Your owner is on chain 137.")
        page.go("terminal")
        page.see(f"sealspace login {node.url} --browser")


@pytest.mark.skipif(not AXE.exists(), reason=AXE_ABSENT)
def test_the_page_is_for_everyone(browser: Browser, node: EmbeddedNode) -> None:
    """axe-core finds no problem on the page of a link, with and without a link."""
    with _console(browser, node) as page:
        for place in ("link", f"link?to=5000.{'A' * 43}"):
            page.open(place)
            assert page.accessibility_problems() == []


# --- links that others made -----------------------------------------------------------------------


def _waiting_key(page: ConsolePage) -> str:
    """Have the console make a key for a command that never signs; return the key."""
    keys: list[str] = []
    with WalletPage("sealspace console", page.origin) as local:
        asking = Thread(
            target=local.ask, args=({"kind": "link"}, lambda said: keys.append(str(said["key"])))
        )
        asking.start()
        page.go(f"link?to={local.server_address[1]}.{local.token}")
        page.click("Continue")
        page.see("Answer in the terminal")
        asking.join()
    return keys[0]


def _signed(
    loop: LoopThread, node: EmbeddedNode, wallet: WalletSigner, did: str, ttl_s: float = 60
) -> Grant:
    """Return a registered sign-in of a wallet for a key."""

    async def sign() -> Grant:
        async with Client(node.url) as client:
            return await client.authorize_key(wallet, did, SignIn(ttl_s=ttl_s))

    return loop.run(sign())


def _is_refused(page: ConsolePage, token: str) -> None:
    page.go(f"link?session={token}")
    page.see("This sign-in is not for this browser")
    assert page.tab.url.endswith("/console/#/link")
    page.open("secrets")  # loaded again, so from what is stored
    page.see("Sign in to see this page")


def test_CN9_a_link_signs_nobody_in_as_somebody_else(
    browser: Browser, node: EmbeddedNode, loop: LoopThread
) -> None:
    """A sign-in is refused if it is for another tab's key, for no waiting key, or expired (CN9)."""
    attacker, friend = new_wallet(), new_wallet()
    with _console(browser, node) as page:
        first = _signed(loop, node, attacker, Ed25519Signer(bytes(32)).did)
        _is_refused(page, first.header)
        former = _waiting_key(page)
        did = _waiting_key(page)
        assert former != did
        _is_refused(page, first.header)
        _is_refused(page, _signed(loop, node, friend, former).header)
        token = _signed(loop, node, friend, did).header
        page.go(f"link?session={token}")
        page.see("No secrets yet")
        page.go(f"link?session={token}")
        page.see("This sign-in is not for this browser")
        page.click("Sign out")
        page.see("Signed out")  # only then does the console go to the sign-in page by itself
        page.see("With a wallet")
        _is_refused(page, token)


def test_CN9_a_sign_in_that_is_over_or_forged(
    browser: Browser, node: EmbeddedNode, loop: LoopThread
) -> None:
    """A sign-in in the past is refused by the page, and one with a wrong signature by the node."""
    wallet, now = new_wallet(), SystemClock().now()
    with _console(browser, node) as page:
        did = _waiting_key(page)

        def token(ends: float) -> str:
            return sign_message(
                wallet,
                SystemEntropy(),
                domain="localhost",
                uri=f"{did}#{did.removeprefix('did:key:')}",
                issued_at=now - 600,
                expires_at=ends,
                capabilities=sign_in_capabilities(parse_principal(wallet.did), SignIn()),
            )

        _is_refused(page, token(now - 1))
        signed = restore_cacao(header_bytes(token(now + 600)))
        by_another = new_wallet().sign_eip191("another text")
        forged = header_text(encode_cacao(replace(signed, signature=by_another)))
        page.go(f"link?session={forged}")
        page.run(expect(page.tab.locator(".banner.bad")).to_be_visible())
        page.open("secrets")
        page.see("Sign in to see this page")
        page.go(f"link?session={token(now + 600)}")
        page.see("No secrets yet")


def test_CN9_a_key_waits_for_ten_minutes(
    browser: Browser, node: EmbeddedNode, loop: LoopThread
) -> None:
    """A key that waited longer is refused, although the sign-in is valid."""
    with _console(browser, node) as page:
        token = _signed(loop, node, new_wallet(), _waiting_key(page), ttl_s=3600).header
        page.run(page.tab.clock.set_fixed_time(SystemClock().now() + 601))
        _is_refused(page, token)


def test_any_text_in_place_of_a_sign_in(browser: Browser, node: EmbeddedNode) -> None:
    """The page shows one sentence for any malformed link."""
    with _console(browser, node) as page:
        _waiting_key(page)
        for token in ("", "x", "====", "9g", "o2Fo9mFw9mFz9g==", "A" * 70_000):
            _is_refused(page, token)


_PLACES = (
    "",
    "80",
    f"evil.example.{'A' * 43}",
    f"80@evil.example/.{'A' * 43}",
    f"99999.{'A' * 43}",
    f"0.{'A' * 43}",
    f"5000.{'A' * 42}/",
    f"5000.{'A' * 43}/../{'A' * 43}",
    f"5000.{'A' * 44}",
)


def test_CN9_the_page_goes_nowhere_else(browser: Browser, node: EmbeddedNode) -> None:
    """The button leads to a local page at a port with a token. For any other text there is no
    button."""
    with _console(browser, node) as page:
        page.open("link?to=5000." + "A" * 43)
        page.see("the terminal asks whether")
        for place in _PLACES:
            page.go(f"link?to={place}")
            page.see("Nothing to sign in here")
            assert page.run(page.tab.get_by_role("button", name="Continue").count()) == 0, place


def test_the_sign_in_covers_what_the_console_asks_for(
    page: Page, node: EmbeddedNode, tmp_path: Path
) -> None:
    """A sign-in covers every right that the console's pages later use."""
    owner = parse_principal(new_wallet().did)
    wanted = page.call("session.js", "consoleCapabilities", owner)
    asked = owner_sign_in(Profile(node=node.url, owner=owner, key_file=tmp_path), 60)
    held = {(one.resource.text, one.ability) for one in sign_in_capabilities(owner, asked)}
    assert {(one["resource"], one["ability"]) for one in wanted} <= held
