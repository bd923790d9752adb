"""Tests of `sealspace console`, which signs in a browser's key, without a browser."""

import asyncio
import errno
import os
import queue
import resource
import socket
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
from embedded_node import embedded_node
from owner_desk import OwnerDesk, Ran, owner_desk
from patience import PATIENCE_S
from wallet_tab import WalletTab

from capabilities.clock_and_entropy import SystemClock
from capabilities.signatures import Ed25519Signer, WalletSigner
from node.config.tree import Config, Http, Store
from sealspace.cli.owner.owner_profile import OwnerHome
from sealspace.cli.who.console import _address
from sealspace.client import Client
from sealspace.session import Session, read_grant
from sealspace.wallets import new_wallet

PHRASE = "006H M9SM 8575 PT3N GA7S SADP RF8D VTQQ XWAY"
KEY = Ed25519Signer(bytes(range(32)))

Run = Callable[..., Awaitable[tuple[Ran, WalletTab]]]


@pytest.fixture
async def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OwnerDesk]:
    """An owner who has not logged in, and a node."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        yield desk


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> "queue.Queue[str]":
    """The addresses that commands open."""
    monkeypatch.setenv("DISPLAY", ":0")
    addresses = queue.Queue[str]()
    monkeypatch.setattr(webbrowser, "open", addresses.put)
    return addresses


def _named(desk: OwnerDesk) -> str:
    """Return the address of the console that `serve` prints."""
    return desk.node.replace("127.0.0.1", "localhost") + "/console/"


def _until_asked(tab: WalletTab) -> None:
    """Wait until the command asks for a key."""
    while not tab.views or tab.views[-1]["kind"] != "link":
        tab.next()


def _send_key(tab: WalletTab) -> dict[str, Any]:
    """Send the console's key as the local page does."""
    _until_asked(tab)
    assert tab.post(answer={"key": KEY.did})[0] == 200
    while (view := tab.next())["kind"] not in ("linked", "failed"):
        if view["kind"] == "sign":
            assert tab.sign(view)[0] == 200
    return view


@pytest.fixture
def run(desk: OwnerDesk, opened: "queue.Queue[str]") -> Run:
    """Run `sealspace console`, and send a key to its local page."""

    async def running(
        *more: str,
        answer: str = "y\n",
        acts: Callable[[WalletTab], Any] = _send_key,
        wallet: WalletSigner | None = None,
    ) -> tuple[Ran, WalletTab]:
        command = asyncio.create_task(desk.run("console", *more, typed=answer))
        address = await asyncio.to_thread(opened.get, timeout=PATIENCE_S)
        begin = f"{_named(desk)}#/link?to="
        assert address.startswith(begin)
        port, token = address.removeprefix(begin).split(".")
        tab = WalletTab(f"http://127.0.0.1:{port}/{token}/", wallet or new_wallet())
        await asyncio.to_thread(acts, tab)
        return await command, tab

    return running


async def test_a_browser_s_key_acts_as_the_owner(desk: OwnerDesk, run: Run) -> None:
    """The wallet signs a sign-in for exactly this key, and the key then opens the owner's
    secrets."""
    await desk.log_in()
    await desk.run("secret", "put", "API_KEY", given="open sesame")
    ran, tab = await run("--days", "2")
    assert ran.status == 0, ran
    owner, view = OwnerHome(desk.home).profile().owner, tab.views[-1]
    begin, end = f"{_named(desk)}#/link?session=", "&wallet=key"
    assert view["next"].startswith(begin) and view["next"].endswith(end)
    grant = read_grant(view["next"].removeprefix(begin).removesuffix(end))
    assert grant.delegator == owner
    assert grant.delegate == KEY.did
    assert grant.expires_at == pytest.approx(SystemClock().now() + 2 * 86_400, abs=60)
    session = Session(signer=KEY, owner=grant.delegator, grants=(grant,))
    async with Client(desk.node, session=session) as client:
        assert await client.secrets().get("API_KEY") == "open sesame"


async def test_LP7_no_is_the_default(desk: OwnerDesk, run: Run) -> None:
    """Without a yes the command signs nothing, and the page says that the command ended."""
    await desk.log_in()
    for answer in ("n\n", "\n"):
        ran, tab = await run(answer=answer)
        assert (ran.status, tab.views[-1]["kind"]) == (1, "failed"), ran
    async with desk.client() as client:
        records = [one async for one in client.delegations.query()]
    assert KEY.did not in [one.delegate for one in records]


async def test_LP7_only_a_key_is_accepted(desk: OwnerDesk, run: Run) -> None:
    """Only the DID of an Ed25519 key is accepted, and other origins get no answer."""
    await desk.log_in()
    wallet = new_wallet().did

    def acts(tab: WalletTab) -> None:
        _until_asked(tab)
        for wrong in (None, 7, "", "did:key:z", wallet, f"{KEY.did}#{KEY.did[8:]}", KEY.did + "1"):
            status, said = tab.post(answer={"key": wrong})
            assert status == 409
            assert "no key" in said["text"]
        body = b'{"tab":"%s","version":2,"answer":{"key":"%s"}}'
        filled = body % (tab.name.encode(), KEY.did.encode())
        for headers in ({"Origin": desk.node}, {"Content-Type": "text/plain"}):
            assert tab.ask("POST", "", body=filled, headers=headers)[0] == 403
        assert tab.ask("POST", f"/{'A' * 43}/", body=filled)[0] == 404
        _send_key(tab)

    ran, tab = await run(acts=acts)
    assert (ran.status, tab.views[-1]["kind"]) == (0, "linked"), ran


async def test_a_wallet_in_the_browser_signs_on_the_same_page(
    desk: OwnerDesk, run: Run, opened: "queue.Queue[str]"
) -> None:
    """The owner of a browser wallet signs after the question and before the browser returns to the
    console."""
    wallet = new_wallet()
    login = asyncio.create_task(desk.run("login", desk.node, "--browser"))
    tab = WalletTab(await asyncio.to_thread(opened.get, timeout=PATIENCE_S), wallet)
    await asyncio.to_thread(tab.serve)
    assert (await login).status == 0
    ran, tab = await run(wallet=wallet)
    assert ran.status == 0, ran
    assert len(tab.texts) == 1, ran
    assert opened.empty(), ran
    assert f"URI: {KEY.did}#" in tab.texts[0] and urlsplit(desk.node).netloc not in tab.texts[0]


async def test_without_a_terminal_nothing_is_signed(
    desk: OwnerDesk, opened: "queue.Queue[str]"
) -> None:
    """Codes cannot be compared without a terminal, so the command fails before it opens a page."""
    await desk.log_in()
    ran = await desk.run("console", given="y\n")
    assert ran.status == 2
    assert opened.empty()
    assert _named(desk) in ran.next


async def test_LP8_another_user_cannot_take_the_name(desk: OwnerDesk, run: Run) -> None:
    """While the command runs, no other program can listen on the node's port at `localhost`
    (LP8)."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    await desk.log_in()
    at = ("::1", urlsplit(desk.node).port or 0)
    seen: list[int] = []

    def acts(tab: WalletTab) -> None:
        _until_asked(tab)
        with socket.socket(socket.AF_INET6) as other, pytest.raises(OSError) as refused:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(at)
        seen.append(refused.value.errno or 0)
        _send_key(tab)

    ran, _ = await run(acts=acts)
    assert (ran.status, seen) == (0, [errno.EADDRINUSE]), ran
    with socket.create_server(at, family=socket.AF_INET6):
        ran = await desk.run("console")
    assert ran.status == 2, ran
    assert f"{desk.node}/console/" in ran.next


def test_LP8_a_port_that_cannot_be_bound() -> None:
    """If the command cannot find out which program has the port at `localhost`, it opens no page
    there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with click.Context(click.Command("console")):
            assert _address("http://127.0.0.1:9") == "http://127.0.0.1:9/console/"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_the_owner_of_a_phrase_signs_in_on_the_page(
    desk: OwnerDesk, opened: "queue.Queue[str]"
) -> None:
    """The owner of a phrase cannot sign in with the command, which names the page instead (IP1)."""
    assert (await desk.run("login", desk.node, "--phrase", given=PHRASE)).status == 0
    ran = await desk.run("console", typed="y\n")
    assert ran.status == 2, ran
    assert "recovery phrase" in ran.happened
    assert opened.empty(), ran
    assert ran.next == f"open {_named(desk)} and sign in there with your recovery phrase"


async def test_a_node_without_a_console(
    desk: OwnerDesk, tmp_path: Path, opened: "queue.Queue[str]"
) -> None:
    """The message names the option with which the operator serves the console."""
    config = Config(
        http=Http(port=0, drain_s=0, console=False), store=Store(data=str(tmp_path / "other"))
    )
    async with embedded_node(config) as other:
        assert (await desk.run("login", other.url, "--new")).status == 0
        ran = await desk.run("console", typed="y\n")
    assert "does not serve the console" in ran.happened and "serve --console" in ran.next
    assert ran.status != 0
    assert opened.empty()


@pytest.mark.parametrize("days", ["0", "31", "soon"])
async def test_a_sign_in_lasts_at_most_a_month(desk: OwnerDesk, days: str) -> None:
    """A sign-in for more than a month is refused, because it would not count as the owner in
    person."""
    await desk.log_in()
    assert (await desk.run("console", "--days", days, typed="y\n")).status == 2
