"""Tests of the page of `sealspace login --browser` in Chromium, with the command as a process."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from browser import Browser, BrowserWallet
from console_stage import ConsolePage, console_page
from embedded_node import EmbeddedNode
from forked_programs import forked_program
from patience import PATIENCE_S
from running_node import COMMAND

from capabilities.facts import MACHINE_URN, statement_resource
from capabilities.recap import Recap, attach
from capabilities.siwe import SiweMessage, siwe_text
from capabilities.strict_json import Json
from sealspace.cli.owner.wallet_page import WalletPage
from sealspace.session import load_session
from sealspace.wallets import new_wallet

ADDRESS = re.compile(r"^  (http://127\.0\.0\.1:[0-9]+/[A-Za-z0-9_-]{43}/)$")


class Login:
    """`sealspace login --browser` as a process, and the page that it serves."""

    def __init__(
        self, process: "subprocess.Popen[str]", page: ConsolePage, home: Path, url: str
    ) -> None:
        self.process, self.page, self.home, self.url = process, page, home, url

    def ended(self) -> tuple[int, str]:
        """Wait for the end of the command; return its status and its output since the last call."""
        _, said = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said


@pytest.fixture
def environment() -> dict[str, str]:
    """An environment without a login or a display."""
    left = ("SEALSPACE_", "DISPLAY", "WAYLAND_DISPLAY")
    return {name: value for name, value in os.environ.items() if not name.startswith(left)}


@contextmanager
def _command(
    words: Sequence[str],
    browser: Browser,
    wallet: BrowserWallet | None,
    home: Path,
    environment: dict[str, str],
) -> Iterator[Login]:
    """Run a command, and open the address that it prints."""
    process = subprocess.Popen(
        [*COMMAND, *words, "--home", str(home)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        url = next(
            found[1] for line in process.stderr if (found := ADDRESS.match(line.rstrip("\n")))
        )
        with console_page(browser, f"http://{urlsplit(url).netloc}", wallet=wallet) as page:
            page.run(page.tab.goto(url))
            yield Login(process, page, home, url)
            assert page.faults() == []
    finally:
        process.kill()
        process.communicate()


def _choose(page: ConsolePage) -> None:
    """Choose the wallet."""
    page.run(page.tab.get_by_role("button", name="Test Wallet").click())


def test_a_wallet_in_the_browser_signs_the_command_line_in(
    browser: Browser,
    node: EmbeddedNode,
    wallet: BrowserWallet,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    """The browser wallet connects and signs, the command continues, and a secret is stored and
    read."""
    with _command(
        ["login", node.url, "--browser"], browser, wallet, tmp_path / "home", environment
    ) as login:
        page = login.page
        page.see("Connect your wallet")
        page.shot("sign-in-connect")
        _choose(page)
        page.see("Let this command line act as you")
        shown = (
            wallet.signer.did,
            node.url,
            "sealspace login",
            "session key",
            "The exact text that is signed",
        )
        rights = (
            "all your secrets",
            "create the key that seals your secrets",
            "see who opened your secrets",
        )
        for words in (*shown, *rights):
            page.see(words)
        page.run(page.tab.get_by_text("The exact text that is signed").click())
        text = page.run(page.tab.locator("pre").text_content())
        page.shot("sign-in-sign")
        assert page.accessibility_problems() == []
        _choose(page)
        page.see("You can close this page")
        page.shot("sign-in-done")
        assert login.ended()[0] == 0
        assert wallet.asked == [text]
        assert urlsplit(login.url).netloc == str(text).partition(" wants")[0]
    session = load_session(tmp_path / "home" / "session.json")
    assert session.owner == wallet.signer.did and not (tmp_path / "home" / "wallet.key").exists()
    put = subprocess.run(
        [forked_program("sealspace"), "secret", "put", "API_KEY", "--home", str(tmp_path / "home")],
        input=b"open sesame",
        env=environment,
    )
    got = subprocess.run(
        [forked_program("sealspace"), "secret", "get", "API_KEY", "--home", str(tmp_path / "home")],
        env=environment,
        capture_output=True,
    )
    assert (put.returncode, got.stdout) == (0, b"open sesame")


def test_what_a_wallet_may_do_wrong(
    browser: Browser,
    node: EmbeddedNode,
    wallet: BrowserWallet,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    """A refusal, another account, another chain and a second tab each give a sentence and a next
    step. Ctrl-C then ends the command."""
    owner = wallet.signer
    with _command(
        ["login", node.url, "--browser"], browser, wallet, tmp_path / "home", environment
    ) as login:
        page = login.page
        page.see("Connect your wallet")
        wallet.refusal = (4001, "User rejected the request.")
        _choose(page)
        page.see("Nothing was signed; try again when you are ready")
        page.shot("sign-in-refused")
        wallet.refusal = None
        _choose(page)
        page.see("Let this command line act as you")
        wallet.signer = new_wallet()
        _choose(page)
        page.see("choose that account in your wallet, then try again.")
        page.shot("sign-in-account")
        wallet.signer = type(owner)(b"\x01" * 32, 137)
        wallet.signer.address, wallet.signer.did = owner.address, owner.did
        _choose(page)
        page.see("This owner is on chain 1: switch the wallet to it, then try again.")
        wallet.signer = owner
        with console_page(browser, page.origin, wallet=wallet) as second:
            second.run(second.tab.goto(login.url))
            second.see("Let this command line act as you")
            page.see("This page is open in another tab")
            # The command waits inside its event loop, which must not swallow the first Ctrl-C.
            login.process.send_signal(signal.SIGINT)
            second.see("the command was interrupted")
            assert second.faults() == []
        assert login.ended()[0] == 130


_CLICK_TWICE = """async () => {
  const [button] = [...document.querySelectorAll("button")].filter((one) => one.textContent.includes("Test Wallet"));
  const [send, ask, asked] = [window.fetch, window.__walletRequest, []];
  window.__walletRequest = (method, params) => { asked.push(method); return ask(method, params); };
  await new Promise((resolve) => {
    window.fetch = async (path, sent) => {
      const answer = await send(path, sent);
      if (sent.body.includes("answer")) setTimeout(resolve); // the page has taken the answer by then
      return answer;
    };
    button.click();
  });
  button.click();
  return asked;
}"""


def test_a_second_click_repeats_nothing(browser: Browser, wallet: BrowserWallet) -> None:
    """A second click on an answered wallet sends it nothing, even before the next view is shown."""
    accounts: list[object] = []
    served = WalletPage("sealspace login", "http://127.0.0.1:1")
    with console_page(browser, f"http://{served.authority}", wallet=wallet) as page, served:
        asking = Thread(
            target=served.ask, args=({"kind": "connect", "before": None}, accounts.append)
        )
        asking.start()
        page.run(page.tab.goto(served.url))
        page.see("Test Wallet")
        assert page.run(page.tab.evaluate(_CLICK_TWICE)) == ["eth_requestAccounts", "eth_chainId"]
        asking.join()
        page.see("The command is running")
        assert page.faults() == []
    assert len(accounts) == 1


def test_the_page_says_what_each_text_means(
    browser: Browser, node: EmbeddedNode, tmp_path: Path
) -> None:
    """The page explains texts of revocations, hosting, grants and statements from their contents,
    and shows any other text."""
    owner, space = (
        new_wallet(),
        "tinycloud:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266:notes",
    )
    plain = SiweMessage(
        domain="127.0.0.1:1",
        address=owner.address,
        uri="did:key:z6MkFriend",
        chain_id=1,
        nonce="a" * 17,
        issued_at="2026-11-22T00:00:00.000Z",
        expiration_time="2026-11-23T00:00:00.000Z",
    )
    granting = attach(plain, Recap({f"{space}/kv/todo": {"tinycloud.kv/get": ({},)}}, ()))
    texts = {
        "Revoke a grant for good": siwe_text(replace(plain, uri="ucan:bafkrei")),
        "Have the node host your spaces": siwe_text(
            attach(plain, Recap({space: {"tinycloud.space/host": ({},)}}, ()))
        ),
        "Grant something of yours": siwe_text(granting),
        "Let this command line act as you": siwe_text(
            replace(granting, uri="did:key:z6MkSession#z6MkSession")
        ),
        "Make a machine token, which reads these secrets without you": siwe_text(
            attach(
                replace(
                    plain,
                    resources=(
                        statement_resource({"name": "deploy", "unbound": True}, urn=MACHINE_URN),
                    ),
                ),
                Recap({f"{space}/kv/todo": {"tinycloud.kv/get": ({},)}}, ()),
            )
        ),
        "Sign a statement of yours": "sealspace statement run/1\n{}",
        "Sign a text": siwe_text(plain) + "\nmore",
    }
    read = "async (texts) => texts.map((await import('./files/sign_in/meaning.js')).meaningOf)"
    served = WalletPage("sealspace login", node.url)
    with console_page(browser, f"http://{served.authority}", wallet=None) as page, served:
        page.run(page.tab.goto(served.url))
        found = page.run(page.tab.evaluate(read, list(texts.values())))
    assert [one["title"] for one in found] == list(texts)
    assert [dict(one["facts"]) for one in found[:3]] == [
        {"grant": "bafkrei"},
        {"node key": "did:key:z6MkFriend", "spaces": "notes", "until": "2026-11-23T00:00:00Z"},
        {"to": "did:key:z6MkFriend", "until": "2026-11-23T00:00:00Z"},
    ]
    assert dict(found[4]["facts"])["name"] == "deploy" and "terms" not in dict(found[4]["facts"])
    assert "do not state their name" in dict(found[4]["facts"])["values"]
    assert [(right["path"], right["actions"]) for right in found[2]["rights"]] == [
        ("todo", ["tinycloud.kv/get"])
    ]


def test_CN15_the_page_says_that_values_may_be_unbound(
    browser: Browser, node: EmbeddedNode
) -> None:
    """A grant that allows values without a name says so; other statements are further terms."""
    values_urn = "urn:sealspace:values:v1:"
    stated: list[dict[str, Json]] = [
        {"unbound": True},
        {"unbound": False},
        {"unbound": True, "more": 1},
    ]
    plain = SiweMessage(
        domain="127.0.0.1:1",
        address=new_wallet().address,
        uri="did:key:z6MkFriend",
        chain_id=1,
        nonce="a" * 17,
        issued_at="2026-11-22T00:00:00.000Z",
    )
    texts = [
        siwe_text(
            attach(
                replace(plain, resources=(statement_resource(one, urn=values_urn),)),
                Recap({"tinycloud:pkh:eip155:1:0x:notes/kv/todo": {"tinycloud.kv/get": ({},)}}, ()),
            )
        )
        for one in stated
    ]
    read = "async (texts) => texts.map((await import('./files/sign_in/meaning.js')).meaningOf)"
    served = WalletPage("sealspace login", node.url)
    with console_page(browser, f"http://{served.authority}", wallet=None) as page, served:
        page.run(page.tab.goto(served.url))
        found = page.run(page.tab.evaluate(read, texts))
    assert [sorted(dict(one["facts"])) for one in found] == [
        ["to", "until", "values"],
        ["terms", "to", "until"],
        ["terms", "to", "until"],
    ]


def test_no_wallet_and_a_command_that_is_interrupted(
    browser: Browser, node: EmbeddedNode, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Without a wallet the page says where to open it. Ctrl-C ends the command at once, and the
    page says so."""
    with _command(
        ["login", node.url, "--browser"], browser, None, tmp_path / "home", environment
    ) as login:
        login.page.see("No wallet found in this browser")
        login.page.shot("sign-in-no-wallet")
        login.process.send_signal(signal.SIGINT)
        login.page.see("the command was interrupted")
        status, said = login.ended()
    assert (status, said.splitlines()[-2:]) == (
        130,
        ["sealspace: aborted", "next: run the command again"],
    )
    assert not (tmp_path / "home").exists()
