"""One browser and one node for the tests of this folder, and a page for each test."""

from collections.abc import Iterator

import pytest
from browser import CHROMIUM, CHROMIUM_ABSENT, Browser, BrowserWallet, Page, browsing
from console_stage import ConsolePage, console_page
from embedded_node import EmbeddedNode, embedded_node
from engines import store_at

from capabilities.signatures import WalletSigner
from node.config.tree import Config, Http
from sealspace.wallets import new_wallet


def pytest_itemcollected(item: pytest.Item) -> None:
    """Whatever needs the browser takes seconds."""
    if isinstance(item, pytest.Function) and "browser" in item.fixturenames:
        item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    if CHROMIUM is None:
        pytest.skip(CHROMIUM_ABSENT)
    with browsing() as started:
        yield started


@pytest.fixture(scope="session")
def node(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNode]:
    """A node in this process, with the machine's clock."""
    folder = tmp_path_factory.mktemp("console")
    config = Config(http=Http(port=0, drain_s=0), store=store_at(folder / "data"))
    with browser.entered(embedded_node(config)) as running:
        yield running


@pytest.fixture
def wallet() -> BrowserWallet:
    """A wallet that nobody has seen, announced to the page."""
    return BrowserWallet(new_wallet())


@pytest.fixture
def page(browser: Browser, node: EmbeddedNode, wallet: BrowserWallet) -> Iterator[Page]:
    """An empty page at the node's origin, in a profile of its own."""
    with browser.page(node.url, wallet=wallet) as opened:
        yield opened


@pytest.fixture
def signer(wallet: BrowserWallet) -> WalletSigner:
    """The key of the page's wallet."""
    return wallet.signer


@pytest.fixture
def console(browser: Browser, node: EmbeddedNode, wallet: BrowserWallet) -> Iterator[ConsolePage]:
    """A tab at the node's console, with a wallet; at the end nothing was refused by the policy or went elsewhere."""
    with console_page(browser, node.url, wallet=wallet) as opened:
        yield opened
        assert opened.faults() == []
