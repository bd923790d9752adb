"""A browser for tests of the console: Chromium, driven from a separate thread, and a page of the
node.

The driver, the node and the test's coroutines share one event loop in that thread, so no test needs
its own.

Example:
    with loop_thread() as loop, browsing(loop) as browser, browser.page(node.url) as page:
        assert page.call("bytes.js", "hex", [1, 255]) == "01ff"
"""

import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loop_thread import LoopThread
from patience import PATIENCE_S
from playwright.async_api import Browser as Chromium
from playwright.async_api import BrowserContext, Request, Route, async_playwright, expect
from playwright.async_api import Page as Tab
from tests_support import REPOSITORY

from capabilities.principals import eip55
from capabilities.signatures import WalletSigner

# The first is the same browser without its windows, and takes half the time.
_CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _CHROMIUMS)), None)
CHROMIUM_ABSENT = "no Chromium is installed"
CONSOLE = REPOSITORY / "node" / "console"
# Pictures are made by the processor alone, in the browser's own process.
_PLAIN = (
    "--disable-gpu",
    "--disable-software-rasterizer",
    "--disable-extensions",
    "--disable-background-networking",
    "--in-process-gpu",
)
_KINDS = {".js": "text/javascript", ".html": "text/html; charset=utf-8", ".css": "text/css"}
_BLANK = (
    "<!doctype html><html><head><link rel=icon"
    " href='data:,'><title>test</title></head><body></body></html>"
)
WALLET = """
((address, chain) => {
  const listeners = {};
  const provider = {
    on(name, listener) { (listeners[name] ??= []).push(listener); },
    removeListener(name, listener) {
      listeners[name] = (listeners[name] ?? []).filter((one) => one !== listener);
    },
    async request({ method, params }) {
      const answer = await window.__walletRequest(method, params ?? []);
      if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error);
      return answer.result;
    },
  };
  window.__walletEmit = (name, value) =>
    (listeners[name] ?? []).forEach((listener) => listener(value));
  const info = {
    uuid: "8f3cbbd0-0000-4000-8000-000000000001", name: "Test Wallet", icon: "data:,",
    rdns: "example.wallet",
  };
  const announce = () => window.dispatchEvent(
    new CustomEvent("eip6963:announceProvider", { detail: Object.freeze({ info, provider }) }));
  window.addEventListener("eip6963:requestProvider", announce);
  announce();
})();
"""


class BrowserWallet:
    """A wallet in the browser that answers EIP-1193 requests with a real key, or refuses them if
    `refusal` is set.

    Attributes:
        asked: the texts that it was asked to sign.
        refusal: code and message of an error, in place of every answer but the chain's; None: it
            answers.
    """

    def __init__(self, signer: WalletSigner) -> None:
        self.signer = signer
        self.asked: list[str] = []
        self.refusal: tuple[int, str] | None = None

    def answer(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        """Return the answer to one request."""
        address = eip55(self.signer.address)
        if method == "eth_chainId":
            return {"result": hex(self.signer.chain_id)}
        if self.refusal is not None:
            return {"error": {"code": self.refusal[0], "message": self.refusal[1]}}
        if method in ("eth_requestAccounts", "eth_accounts"):
            return {"result": [address.lower()]}
        if method == "personal_sign":
            text = bytes.fromhex(params[0].removeprefix("0x")).decode()
            assert params[1].lower() == address.lower()
            self.asked.append(text)
            return {"result": "0x" + self.signer.sign_eip191(text).hex()}
        return {"error": {"code": 4200, "message": f"no method {method}"}}


class Page:
    """A page in a separate browser profile, showing an empty document of the node's origin.

    Attributes:
        tab: of Playwright; what is awaited of it goes through `browser.run`.
        requests: what the page sent to the node, in order: method, path, headers, body.
        problems: errors of the page's console and violations of its policy.
    """

    def __init__(self, browser: "Browser", context: BrowserContext, tab: Tab) -> None:
        self.browser, self.context, self.tab = browser, context, tab
        self.requests: list[tuple[str, str, dict[str, str], bytes | None]] = []
        self.problems: list[str] = []

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """Run a function in the page, `async ({…}) => …`, and return what it returns."""
        return self.browser.run(self.tab.evaluate(script, argument))

    def call(self, module: str, name: str, *arguments: Any) -> Any:
        """Call an exported function of a module of `wire`; a list of numbers among the arguments
        becomes bytes.

        What it returns is given back as JSON has it, bytes as hex digits.
        """
        return self.evaluate(CALL, {"module": module, "name": name, "args": list(arguments)})


CALL = """async ({module, name, args}) => {
  const bytes = (one) =>
    Array.isArray(one) && one.every(Number.isInteger) ? new Uint8Array(one) : one;
  const shown = (one) => one instanceof Uint8Array
    ? Array.from(one, (byte) => byte.toString(16).padStart(2, "0")).join("") : one;
  const value = await (await import(`/console/wire/${module}`))[name](...args.map(bytes));
  return shown(value);
}"""


class Browser(LoopThread):
    """A running Chromium and the event loop that drives it."""

    def __init__(self, loop: LoopThread, chromium: Chromium) -> None:
        super().__init__(loop.loop)
        self.chromium = chromium

    @contextmanager
    def page(self, origin: str, *, wallet: BrowserWallet | None = None) -> Iterator[Page]:
        """Open an empty page of an origin, with the console's files under `/console/`."""
        page = self.run(self._open(origin, wallet))
        try:
            yield page
        finally:
            self.run(page.context.close())

    async def context(self, **more: Any) -> BrowserContext:
        """Open a new browser profile without animations and with long time limits."""
        context = await self.chromium.new_context(reduced_motion="reduce", **more)
        context.set_default_timeout(PATIENCE_S * 1000)
        return context

    async def _open(self, origin: str, wallet: BrowserWallet | None) -> Page:
        context = await self.context()
        tab = await context.new_page()
        page = Page(self, context, tab)
        tab.on(
            "console",
            lambda said: page.problems.append(said.text) if said.type == "error" else None,
        )
        tab.on("pageerror", lambda error: page.problems.append(str(error)))

        def sent(request: Request) -> None:
            if not request.url.startswith(f"{origin}/console/"):
                body = request.post_data_buffer
                page.requests.append(
                    (request.method, request.url.removeprefix(origin), request.headers, body)
                )

        tab.on("request", sent)
        await tab.route("**/console/**", _serve)
        if wallet is not None:
            await context.expose_function("__walletRequest", wallet.answer)
            await context.add_init_script(WALLET)
        await tab.goto(f"{origin}/console/empty.html")
        return page


async def _serve(route: Route) -> None:
    path = route.request.url.partition("/console/")[2]
    if path == "empty.html":
        await route.fulfill(body=_BLANK, content_type=_KINDS[".html"])
        return
    file: Path = CONSOLE / path
    if file.is_file():
        await route.fulfill(
            body=file.read_bytes(), content_type=_KINDS.get(file.suffix, "text/plain")
        )
    else:
        await route.fulfill(status=404, body="no such file")


def _environment() -> dict[str, str | float | bool]:
    """Return the environment without variables that name the user's folders."""
    return {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}


@contextmanager
def browsing(loop: LoopThread) -> Iterator[Browser]:
    """Run the system's Chromium until the block ends."""
    with loop.entered(_chromium()) as chromium:
        yield Browser(loop, chromium)


@asynccontextmanager
async def _chromium() -> AsyncIterator[Chromium]:
    async with async_playwright() as driver:
        expect.set_options(timeout=PATIENCE_S * 1000)
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        with TemporaryDirectory(ignore_cleanup_errors=True) as home:  # it writes settings there
            chromium = await driver.chromium.launch(
                executable_path=CHROMIUM,
                args=[*_PLAIN, *sandbox],
                env={**_environment(), "HOME": home},
            )
            yield chromium
            await chromium.close()
