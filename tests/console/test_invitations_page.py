"""Tests of invitations: one person in the browser, the other in another browser or in a terminal
(TM10 to TM13)."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser import Browser, BrowserWallet
from console_stage import ConsolePage, console_page
from console_team import Team, created_team, show_team, sign
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from patience import PATIENCE_S
from person import Person
from playwright.async_api import Request, expect
from running_node import COMMAND
from tests_support import REPOSITORY

from sealspace.wallets import new_wallet

_COPIED = """() => {
  window.__copied = [];
  navigator.clipboard.writeText = async (text) => { window.__copied.push(text); };
}"""


class Terminal:
    """A person who is logged in at the node, and uses the command line."""

    def __init__(self, home: Path, url: str, *login: str) -> None:
        self._home = home
        self.environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HOME": str(home)}
        home.mkdir()
        self.must("login", url, *login)
        self.did = json.loads(self.must("whoami", "--json").stdout)["owner"]

    def command(self, *arguments: str) -> list[str]:
        """Return a command line."""
        return [*COMMAND, *arguments, "--home", str(self._home / ".sealspace")]

    def must(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command that must succeed."""
        ran = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self._home,
            stdin=subprocess.DEVNULL,
            timeout=4 * PATIENCE_S,
            check=False,
        )
        assert ran.returncode == 0, ran
        return ran

    def person(self, *arguments: str) -> Person:
        """Run a command in a terminal that a person uses."""
        return Person(self.command(*arguments), environment=self.environment, folder=self._home)


@pytest.fixture
def team(loop: LoopThread, node: EmbeddedNode) -> Team:
    """A new team with two secrets."""
    return created_team(loop, node.url)


@pytest.fixture
def other(browser: Browser, node: EmbeddedNode) -> Iterator[ConsolePage]:
    """A second person's browser."""
    with console_page(browser, node.url, wallet=BrowserWallet(new_wallet())) as opened:
        opened.open("connect")
        yield opened
        assert opened.faults() == []


def words(console: ConsolePage) -> str:
    """Return the words that a page shows."""
    shown = console.tab.locator(".code").last
    console.run(expect(shown).to_be_visible())
    return console.run(shown.text_content()) or ""


def invite(console: ConsolePage, role: str = "writer", secrets: str = "") -> tuple[str, str]:
    """Make an invitation on the page of members; return the link and the line."""
    console.run(console.tab.evaluate(_COPIED))
    console.click("Invite")
    console.run(console.tab.get_by_label("Role", exact=True).select_option(role))
    console.type("Only these secrets", secrets)
    console.type("How the team calls the member", "carol")
    console.shot("invite")
    console.click("Make an invitation")
    console.see("Waiting for the person")
    console.click("Copy Link")
    console.click("Copy Line")
    link, line = console.run(console.tab.evaluate("window.__copied"))
    return link, line


def as_admin(console: ConsolePage, team: Team) -> None:
    """Show the members of a team, of which the page's wallet is an admin."""
    assert console.wallet is not None
    team.admit(console.wallet.signer.did, "admin")
    console.sign_in()
    show_team(console)
    console.click("Members", role="link", within="nav")
    console.see("the team's own key")


def test_TM13_the_browser_invites_and_a_terminal_joins(
    console: ConsolePage, team: Team, tmp_path: Path
) -> None:
    """The line of the console's invitation is joined by `sealspace team join`."""
    as_admin(console, team)
    _, line = invite(console, "reader", "ci/TOKEN")
    console.shot("invitation")
    assert console.accessibility_problems() == []
    carol = Terminal(tmp_path / "carol", team.url, "--new")
    carol.must("team", "join", line, "--no-wait")
    # The browser answers by itself, as soon as it sees the commitment.
    with carol.person("team", "join", line) as person:
        said = person.expect(r"words: (\w+ \w+ \w+ \w+)").group(1).decode()
        assert words(console) == said
        console.run(expect(console.tab.locator("dialog").get_by_text(carol.did)).to_be_visible())
        console.shot("invitation-words")
        assert console.accessibility_problems() == []
        console.click("Yes, admit")
        sign(console)
        console.see("The person is a member")
        person.expect("you are a reader of the team shop")
        assert person.end() == 0
    (member,) = [one for one in team.members() if one.did == carol.did]
    assert (member.role, member.secrets, member.name) == ("reader", ("ci/TOKEN",), "carol")
    value = carol.must("secret", "get", "TOKEN", "--scope", "ci", "--as", "shop")
    assert value.stdout == "other"
    console.see("No invitation of yours waits in this browser")


def test_CN17_a_terminal_invites_and_the_browser_joins(
    console: ConsolePage, team: Team, wallet: BrowserWallet, tmp_path: Path
) -> None:
    """An invitation of `sealspace team invite` is joined by the link's page; no part of it is sent
    to the node."""
    alice = Terminal(tmp_path / "alice", team.url, "--new")
    team.admit(alice.did, "admin")
    alice.must("contact", "add", "shop", team.did)
    made = alice.must("team", "invite", "shop", "--role", "writer", "--no-wait", "--json")
    invited = json.loads(made.stdout)
    line = invited["invitation"]
    sent: list[str] = []
    seed = json.dumps(line)[-40:-1]

    def note(request: Request) -> None:
        sent.extend((request.url, request.post_data or "", str(request.headers)))

    console.listen("request", note)
    console.open(f"join/{line}")
    console.see("Sign in to see this page")
    assert urlsplit(console.tab.url).fragment == "/join"
    console.click("Sign in", role="link", within="main")
    console.run(console.tab.get_by_role("button", name="Test Wallet").click())
    console.see("An admin invites you")
    console.run(expect(console.tab.get_by_text(alice.did)).to_be_visible())
    console.shot("join")
    assert console.accessibility_problems() == []
    console.click("Answer the invitation")
    console.see("Waiting for the admin")
    with alice.person("team", "confirm", invited["id"]) as person:
        said = person.expect(r"words: (\w+ \w+ \w+ \w+)").group(1).decode()
        assert words(console) == said
        console.see("Waiting until the admin has confirmed")
        console.shot("join-words")
        assert console.accessibility_problems() == []
        person.expect("does the other person read the same words")
        person.type(b"y\n")
        console.see("You are a member")
        assert person.end() == 0
    console.click("Show the secrets of the team")
    console.run(expect(console.tab.get_by_label("Your name for the team")).to_have_value("shop"))
    console.click("It is this team")
    sign(console)
    console.run(expect(console.tab.locator(".whose")).to_have_text("Team shop (writer)"))
    console.see("2 secrets")
    assert sent and not any(seed in one for one in sent)
    assert wallet.signer.did in {one.did for one in team.members()}
    console.go("teams")
    console.run(expect(console.tab.get_by_text("You answered an invitation")).to_have_count(0))


def test_CN17_two_browsers_with_interruptions(
    console: ConsolePage, other: ConsolePage, team: Team
) -> None:
    """Both pages are loaded again after each step, and go on with the same words."""
    as_admin(console, team)
    link, _ = invite(console)
    other.sign_in()
    other.go(urlsplit(link).fragment.removeprefix("/"))
    other.click("Answer the invitation")
    other.see("Waiting for the admin")
    other.open("teams")
    other.see("You answered an invitation")
    console.open("members")
    other.click("Go on", role="link")
    console.click("Open")
    compared = words(other)
    assert words(console) == compared
    console.open("members")
    other.open("join")
    assert words(other) == compared
    console.click("Open")
    assert words(console) == compared
    console.click("Yes, admit")
    sign(console)
    other.see("You are a member")
    assert other.wallet is not None
    assert other.wallet.signer.did in {one.did for one in team.members()}


def test_TM13_words_that_differ(console: ConsolePage, other: ConsolePage, team: Team) -> None:
    """With the answer no, nobody is admitted, the invitation ends, and both are told."""
    as_admin(console, team)
    link, _ = invite(console)
    other.sign_in()
    other.go(urlsplit(link).fragment.removeprefix("/"))
    other.click("Answer the invitation")
    words(other)
    words(console)
    console.click("No, they differ")
    console.see("Nobody was admitted")
    assert len(team.members()) == 2
    other.see("used or withdrawn")


def test_TM11_a_second_browser_is_refused(
    console: ConsolePage, other: ConsolePage, team: Team
) -> None:
    """Whoever opens the link second is told that somebody has answered."""
    as_admin(console, team)
    link, line = invite(console)
    console.click("Close", within="dialog header")
    console.click("Members", role="link", within="nav")
    other.sign_in()
    other.go("teams")
    other.type("Invitation", line[:-10])
    other.click("Read it")
    other.see("The invitation is altered or incomplete")
    other.go("teams")
    other.type("Invitation", line)
    other.click("Read it")
    other.click("Answer the invitation")
    other.see("Waiting for the admin")
    second = new_wallet()
    other.start_over(BrowserWallet(second))
    other.sign_in()
    other.go(urlsplit(link).fragment.removeprefix("/"))
    other.click("Answer the invitation")
    other.see("Somebody has answered this invitation already")
    other.shot("join-second")


def test_TM10_an_invitation_is_withdrawn(
    console: ConsolePage, other: ConsolePage, team: Team
) -> None:
    """A withdrawn invitation cannot be answered."""
    as_admin(console, team)
    link, _ = invite(console)
    console.click("Close", within="dialog header")
    console.open("members")
    console.shot("members-invitations")
    console.click("Withdraw")
    console.see("The invitation has ended, and nobody was admitted")
    other.sign_in()
    other.go(urlsplit(link).fragment.removeprefix("/"))
    other.click("Answer the invitation")
    other.see("used or withdrawn")
