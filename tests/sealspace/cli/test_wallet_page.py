"""Tests of `login --browser` and of later commands that a browser wallet signs."""

import asyncio
import json
import queue
import re
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from owner_desk import OwnerDesk, Ran, owner_desk
from patience import PATIENCE_S
from wallet_tab import WalletTab

from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import eip55
from capabilities.signatures import WalletSigner
from capabilities.siwe import parse_rfc3339
from capabilities.strict_base64 import encode_standard, encode_url
from node.config.tree import Hosting
from sealspace.cli.owner.owner_profile import OwnerHome
from sealspace.cli.owner.wallet_page import LIMIT_S
from sealspace.session import load_session
from sealspace.wallets import new_wallet

Run = Callable[..., Awaitable[tuple[Ran, WalletTab]]]


@pytest.fixture
async def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OwnerDesk]:
    """An owner who has not logged in, and a node."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        yield desk


@pytest.fixture
def wallet() -> WalletSigner:
    """The key of the owner's wallet."""
    return new_wallet()


@pytest.fixture
def run(desk: OwnerDesk, wallet: WalletSigner, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command. A tab at the address that it opens reacts, by default by signing
    everything."""
    monkeypatch.setenv("DISPLAY", ":0")
    opened = queue.Queue[str | None]()
    monkeypatch.setattr(webbrowser, "open", opened.put)

    async def running(
        *arguments: str, acts: Callable[[WalletTab], Any] = WalletTab.serve, given: str = ""
    ) -> tuple[Ran, WalletTab]:
        command = asyncio.create_task(desk.run(*arguments, given=given))
        command.add_done_callback(lambda _: opened.put(None))
        url = await asyncio.to_thread(opened.get)
        assert url is not None, await command
        tab = WalletTab(url, wallet)
        try:
            await asyncio.to_thread(acts, tab)
        except BaseException:
            tab.next()
            tab.post(answer=None)  # the command would wait for minutes
            raise
        ran = await command
        # A task that is done may not have called back yet.
        assert await asyncio.to_thread(opened.get) is None and url in ran.err
        return ran, tab

    return running


async def test_a_wallet_in_a_browser_signs_in(
    desk: OwnerDesk, run: Run, wallet: WalletSigner
) -> None:
    """A login takes one signature, stores no key, and later commands need no other signature."""
    ran, tab = await run("login", desk.node, "--browser")
    assert (ran.status, [view["kind"] for view in tab.views if view["kind"] != "working"]) == (
        0,
        ["connect", "sign", "done"],
    ), ran
    profile = OwnerHome(desk.home).profile()
    assert profile.owner == wallet.did
    assert profile.key_file is None
    assert sorted(one.name for one in desk.home.iterdir()) == ["profile.json", "session.json"]
    assert tab.place.netloc in tab.texts[0].partition(" wants you")[0]
    assert (await desk.run("secret", "put", "API_KEY", given="open sesame")).status == 0
    assert await desk.read("secret", "get", "API_KEY") == b"open sesame"


async def test_LP6_nothing_of_the_session_s_secret_reaches_the_page(
    desk: OwnerDesk, run: Run
) -> None:
    """The page sees the session's DID; its seed stays in the file of the session."""
    _, tab = await run("login", desk.node, "--browser")
    seed = load_session(desk.home / "session.json").seed
    assert seed is not None
    shown = json.dumps(tab.views)
    assert load_session(desk.home / "session.json").did in shown
    for secret in (seed.hex(), encode_standard(seed), encode_url(seed), tab.place.path.strip("/")):
        assert secret not in shown


async def test_the_page_shows_what_is_signed(
    desk: OwnerDesk, run: Run, wallet: WalletSigner
) -> None:
    """The page gets the command, the node, the owner and the text, and explains the text from its
    contents."""
    _, tab = await run("login", desk.node, "--browser", "--space", "notes", "--days", "2")
    (view,) = [view for view in tab.views if view["kind"] == "sign"]
    assert view["command"] == "sealspace login"
    assert view["node"] == desk.node
    assert view["owner"] == wallet.did
    session = load_session(desk.home / "session.json")
    assert f"URI: {session.did}#" in view["text"]
    (ends,) = re.findall(r"Expiration Time: (.*)", view["text"])
    assert parse_rfc3339(ends) == pytest.approx(SystemClock().now() + 2 * 86_400, abs=60)


async def test_later_commands_ask_the_same_wallet(
    desk: OwnerDesk, run: Run, wallet: WalletSigner
) -> None:
    """Spaces, grants, revocations and logins can be signed in the page as with a key file."""
    await run("login", desk.node, "--browser")
    made, _ = await run("space", "create", "notes")
    assert made.status == 0, made
    granted, tab = await run("grant", "create", new_wallet().did, "--space", "notes", "--json")
    assert (granted.status, len(tab.texts)) == (0, 1), granted
    again, tab = await run("login")
    assert (again.status, tab.views[0].get("before", tab.views[1].get("before"))) == (0, wallet.did)
    async with desk.client() as client:
        await client.kv("notes").put("a", "b")


async def test_a_grant_of_the_wallet_is_revoked_in_the_page(desk: OwnerDesk, run: Run) -> None:
    """The wallet revokes in the page a grant that the session cannot revoke."""
    await run("login", desk.node, "--browser")
    await run("space", "create", "notes")
    friend = new_wallet().did
    granted, _ = await run("grant", "create", friend, "--space", "notes", "--json")
    cid = OwnerHome(desk.home).grants_to(friend)[0].portable.cid
    assert cid in granted.out
    async with desk.client() as client:  # W21: from now on the session acts for nobody
        await client.delegations.revoke(load_session(desk.home / "session.json").grants[0].cid)
    revoked, tab = await run("backend", "revoke", friend)
    (view,) = [view for view in tab.views if view["kind"] == "sign"]
    assert revoked.status == 0
    assert f"URI: ucan:{cid}" in view["text"]
    begun, ends = (
        parse_rfc3339(one)
        for one in re.findall(r"(?:Issued At|Expiration Time): (.*)", view["text"])
    )
    assert ends - begun >= LIMIT_S
    await run("login")
    async with desk.client() as client:
        assert (await client.delegations.status(cid)).word == "revoked"


async def test_what_was_accepted_is_taken_up_in_the_same_page(
    desk: OwnerDesk, run: Run, wallet: WalletSigner
) -> None:
    """A grant to the wallet takes one signature when it is accepted, and one more in each later
    login."""
    friend, file = desk.home.parent / "friend", desk.home.parent / "grant.json"
    assert (
        await desk.run("login", desk.node, "--new", "--space", "notes", home=friend)
    ).status == 0
    made = await desk.run(
        "grant", "create", wallet.did, "--space", "notes", "--out", str(file), home=friend
    )
    assert made.status == 0, made
    await run("login", desk.node, "--browser")
    accepted, tab = await run("grant", "accept", str(file))
    assert (accepted.status, len(tab.texts)) == (0, 1), accepted
    again, tab = await run("login")
    assert (again.status, len(tab.texts)) == (0, 2), again


async def test_commands_that_sign_nothing_open_no_page(
    desk: OwnerDesk, run: Run, wallet: WalletSigner
) -> None:
    """Commands that sign nothing open no page: the owner is known without the wallet."""
    await run("login", desk.node, "--browser")
    for words in (
        ["whoami"],
        ["status"],
        ["doctor"],
        ["secret", "list"],
        ["backend", "list"],
        ["logout"],
    ):
        ran = await desk.run(*words)
        assert ran.status == 0, (words, ran)
        assert not ("127.0.0.1:" in ran.err and "open this" in ran.err), (words, ran)


async def test_a_login_with_a_key_takes_the_place_of_one_in_a_browser(
    desk: OwnerDesk, run: Run
) -> None:
    """Options choose the wallet; without options the remembered one is used."""
    await run("login", desk.node, "--browser")
    assert (await desk.run("login", "--new")).status == 0
    assert OwnerHome(desk.home).profile().key_file == desk.home / "wallet.key"


@pytest.mark.parametrize(
    "more", [["--new"], ["--key-file", "/dev/null"], ["--keystore", "/dev/null"]]
)
async def test_a_key_and_a_browser_exclude_each_other(desk: OwnerDesk, more: list[str]) -> None:
    """A key file and a browser wallet cannot be combined."""
    ran = await desk.run("login", desk.node, "--browser", *more)
    assert ran.status == 2
    assert "--browser" in ran.happened


async def test_no_open_is_about_the_page(desk: OwnerDesk) -> None:
    """--no-open is for logins in a browser; with another key it is a usage error."""
    ran = await desk.run("login", desk.node, "--new", "--no-open")
    assert ran.status == 2
    assert not desk.home.exists()


async def test_no_page_without_a_node(desk: OwnerDesk) -> None:
    """Without a node no page opens, because a signature could not be used."""
    ran = await desk.run("login", "http://127.0.0.1:1", "--browser")
    assert ran.status == 11
    assert "open this" not in ran.err


def _cancel(tab: WalletTab) -> None:
    tab.next()
    assert tab.post(answer=None)[0] == 200
    while tab.next()["kind"] != "failed":
        pass


async def test_it_is_cancelled_in_the_page(desk: OwnerDesk, run: Run) -> None:
    """If the owner cancels in the page, the command ends with two lines, nothing is stored, and the
    page says so."""
    ran, tab = await run("login", desk.node, "--browser", acts=_cancel)
    assert ran.status == 10
    assert ran.err.splitlines()[-2:] == [
        f"sealspace: {tab.views[-1]['text']}",
        f"next: {tab.views[-1]['hint']}",
    ]
    assert not desk.home.exists()


async def test_the_address_is_dead_when_the_command_ends(desk: OwnerDesk, run: Run) -> None:
    """After a sign-in, the page's port is closed."""
    _, tab = await run("login", desk.node, "--browser")
    with pytest.raises(ConnectionRefusedError):
        tab.ask("GET", "")


async def test_only_the_account_that_was_named_signs(
    desk: OwnerDesk, run: Run, wallet: WalletSigner
) -> None:
    """A signature by another key, over another text, or a malformed one is refused. The right one
    still works afterwards."""

    def acts(tab: WalletTab) -> None:
        while tab.next()["kind"] != "connect":
            pass
        named = {"address": eip55(wallet.address), "chainId": 1}
        for wrong in (
            {"address": "0x12"},
            {"address": wallet.did},
            {"address": None},
            {"chainId": 0},
            {"chainId": "1"},
        ):
            status, said = tab.post(answer=named | wrong)
            assert status == 409
            assert "no Ethereum account" in said["text"]
        assert tab.connect()[0] == 200
        while (view := tab.next())["kind"] != "sign":
            pass
        others = (
            new_wallet().sign_eip191(view["text"]),
            wallet.sign_eip191(view["text"] + " "),
            wallet.sign_eip191(view["text"])[:64],
        )
        for signature in (*(one.hex() for one in others), "0xzz", None, 7):
            status, said = tab.post(answer={"signature": signature})
            assert status == 409
            assert "was not made by" in said["text"]
        tab.sign(view)
        tab.serve()

    ran, _ = await run("login", desk.node, "--browser", acts=acts)
    assert ran.status == 0, ran


async def test_hosting_takes_a_second_signature(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    wallet: WalletSigner,
) -> None:
    """At a node that hosts spaces only on request, the page asks for a second signature."""
    async with owner_desk(tmp_path, capsys, monkeypatch, hosting=Hosting(mode="explicit")) as desk:
        monkeypatch.setenv("DISPLAY", ":0")
        opened = queue.Queue[str]()
        monkeypatch.setattr(webbrowser, "open", opened.put)
        command = asyncio.create_task(desk.run("login", desk.node, "--browser"))
        tab = WalletTab(await asyncio.to_thread(opened.get, timeout=PATIENCE_S), wallet)
        await asyncio.to_thread(tab.serve)
        ran = await command
    assert (ran.status, len(tab.texts)) == (0, 2), ran
