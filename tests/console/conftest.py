"""One browser and one node for the tests of this folder, and a page or a process of node.js for
each test."""

from collections.abc import Iterator

import pytest
from browser import CHROMIUM, CHROMIUM_ABSENT, Browser, BrowserWallet, Page, browsing
from console_stage import ConsolePage, console_page
from embedded_node import EmbeddedNode, embedded_node
from engines import store_at
from loop_thread import LoopThread, loop_thread
from node_js import NODE_JS, NODE_JS_ABSENT, Scripts, node_js

from capabilities.signatures import WalletSigner
from node.config.tree import Config, Http
from sealspace.wallets import new_wallet


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests that need the browser as slow."""
    if isinstance(item, pytest.Function) and "browser" in item.fixturenames:
        item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def loop() -> Iterator[LoopThread]:
    """A loop for the browser, the node and what tests await."""
    with loop_thread() as running:
        yield running


@pytest.fixture(scope="session")
def browser(loop: LoopThread) -> Iterator[Browser]:
    """The system's Chromium."""
    if CHROMIUM is None:
        pytest.skip(CHROMIUM_ABSENT)
    with browsing(loop) as started:
        yield started


@pytest.fixture(scope="session")
def node(loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNode]:
    """A node in this process, with the machine's clock."""
    folder = tmp_path_factory.mktemp("console")
    config = Config(http=Http(port=0, drain_s=0), store=store_at(folder / "data"))
    with loop.entered(embedded_node(config)) as running:
        yield running


@pytest.fixture
def wallet() -> BrowserWallet:
    """A new wallet, announced to the page."""
    return BrowserWallet(new_wallet())


@pytest.fixture
def page(browser: Browser, node: EmbeddedNode, wallet: BrowserWallet) -> Iterator[Page]:
    """An empty page at the node's origin, in a profile of its own."""
    with browser.page(node.url, wallet=wallet) as opened:
        yield opened


@pytest.fixture
def scripts(node: EmbeddedNode, wallet: BrowserWallet) -> Iterator[Scripts]:
    """The console's modules in a process of node.js, with a wallet."""
    if NODE_JS is None:
        pytest.skip(NODE_JS_ABSENT)
    with node_js(node.url, wallet=wallet) as started:
        yield started


@pytest.fixture(scope="module")
def shared_scripts(node: EmbeddedNode) -> Iterator[Scripts]:
    """The console's modules without a wallet, shared by all tests of a module that leave nothing
    behind."""
    if NODE_JS is None:
        pytest.skip(NODE_JS_ABSENT)
    with node_js(node.url) as started:
        yield started


@pytest.fixture
def signer(wallet: BrowserWallet) -> WalletSigner:
    """The key of the page's wallet."""
    return wallet.signer


@pytest.fixture(scope="session")
def tab(browser: Browser, node: EmbeddedNode) -> Iterator[ConsolePage]:
    """One tab for many tests, so that the browser loads the console's files once."""
    with console_page(browser, node.url, wallet=BrowserWallet(new_wallet())) as opened:
        yield opened


@pytest.fixture
def console(tab: ConsolePage, wallet: BrowserWallet) -> Iterator[ConsolePage]:
    """A tab at the node's console on a first visit with a wallet, checked afterwards for policy
    violations."""
    tab.start_over(wallet)
    yield tab
    assert tab.faults() == []


@pytest.fixture
def own_console(
    browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> Iterator[ConsolePage]:
    """A tab at the node's console in a separate profile, for tests that leave something behind."""
    with console_page(browser, node.url, wallet=wallet) as opened:
        yield opened
        assert opened.faults() == []
