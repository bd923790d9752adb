"""A browser tab with the node's console, as a user sees it.

Example:
    with console_page(browser, node.url, wallet=wallet) as console:
        console.run(console.tab.get_by_role("button", name="Test Wallet").click())
        console.shot("secrets")
"""

import base64
import json
import os
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from browser import WALLET, Browser, BrowserWallet
from playwright.async_api import BrowserContext, ConsoleMessage, Request, expect
from playwright.async_api import Page as Tab
from tests_support import REPOSITORY

SHOTS = REPOSITORY / ".cache" / "console"
WIDTHS = (360, 390, 768, 1280) if "CONSOLE_SCREENSHOTS" in os.environ else (360, 768, 1280)
AXE = REPOSITORY / ".cache" / "console-tools" / "node_modules" / "axe-core" / "axe.min.js"
AXE_ABSENT = "axe-core is not installed: `make check` does, where npm is"
_HEIGHT = 900
_TAKES_SHOTS = "CONSOLE_SCREENSHOTS" in os.environ
_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_EXCESS = """() => Math.max(
  ...[document.documentElement, ...document.querySelectorAll("dialog")].map(
  (one) => one.scrollWidth - one.clientWidth))"""
# The console's own listener comes first, and has emptied the page when this one is called.
_GO = """(hash) => new Promise((resolve, reject) => {
  const to = new URL(hash, location.href).href;
  if (to === location.href) reject(new Error(`the page is at ${hash} already`));
  const moved = ({ newURL }) => {
    if (newURL !== to) return;
    removeEventListener("hashchange", moved);
    resolve();
  };
  addEventListener("hashchange", moved);
  location.hash = hash;
})"""
# In the other scheme only colours differ, so only the rules on colours are asked again.
_AXE = {"light": "{}", "dark": '{ runOnly: ["color-contrast", "link-in-text-block"] }'}
_COUNT_VIOLATIONS = """
window.__violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.__violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""
# A message that covers a dialog or one of its buttons, at any moment.
_COUNT_OVERLAPS = """
window.__overlaps = [];
window.__said = [];
const crosses = (one, other) => one.left < other.right - 1 && other.left < one.right - 1
  && one.top < other.bottom - 1 && other.top < one.bottom - 1;
const judge = () => {
  const dialog = [...document.querySelectorAll("dialog[open]")].at(-1);
  for (const toast of dialog ? document.querySelectorAll(".toast") : []) {
    const box = toast.getBoundingClientRect();
    const bar = dialog.contains(toast) ? toast.closest(".actions") : null;
    const parts = !dialog.contains(toast) ? [dialog] : [...dialog.querySelectorAll(
      bar ? "header h2, header button, .actions button"
        : "h2, button, input, textarea, output, p, li")];
    const covered = parts.filter((part) => crosses(box, part.getBoundingClientRect()));
    const isSeen = box.width > 0 && box.top >= 0 && box.bottom <= innerHeight;
    window.__said.push([toast.textContent, innerWidth, isSeen]);
    for (const part of covered) window.__overlaps.push(
      `"${toast.textContent}" covers ${part.tagName} ${part.textContent.slice(0, 40)}`);
  }
};
new MutationObserver(() => requestAnimationFrame(judge)).observe(document,
  { childList: true, subtree: true, attributes: true, attributeFilter: ["open"] });
"""

T = TypeVar("T")


class ConsolePage:
    """A browser tab that shows the console.

    Attributes:
        tab: of Playwright; what is awaited of it goes through `run`.
        foreign: addresses of requests to other origins.
        errors: errors of the page's scripts, and what the browser's console reports as one.
        others: beginnings of addresses elsewhere that it may call.
        wallet: signs for the page, if it was opened with one.
    """

    def __init__(
        self,
        browser: Browser,
        context: BrowserContext,
        tab: Tab,
        origin: str,
        wallet: BrowserWallet | None,
    ) -> None:
        self._browser, self.context, self.tab, self.origin = browser, context, tab, origin
        self.wallet = wallet
        self._listeners: list[tuple[str, Callable[[Any], None]]] = []
        self.foreign: list[str] = []
        self.errors: list[str] = []
        self.others: tuple[str, ...] = ()
        tab.on("request", self._sent)
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.on("console", self._said)

    def _sent(self, request: Request) -> None:
        if not request.url.startswith((f"{self.origin}/", "data:", *self.others)):
            self.foreign.append(request.url)

    def _said(self, said: ConsoleMessage) -> None:
        # A request that is refused or does not arrive is reported too; what the page makes of it is
        # for the test.
        if said.type == "error" and not said.text.startswith("Failed to load resource"):
            self.errors.append(said.text)

    def answer(self, method: str, params: list[Any]) -> dict[str, Any]:
        """Return the wallet's answer to one request of the page."""
        assert self.wallet is not None
        return self.wallet.answer(method, params)

    def run(self, awaited: Coroutine[Any, Any, T]) -> T:
        """Await something on the loop of the browser."""
        return self._browser.run(awaited)

    def listen(self, event: str, listener: Callable[[Any], None]) -> None:
        """Call a function at each event of the tab."""

        async def add() -> None:
            self.tab.on(event, listener)  # type: ignore[call-overload]  # one of its literals

        self.run(add())
        self._listeners.append((event, listener))

    def start_over(self, wallet: BrowserWallet) -> None:
        """Delete everything that the browser stored, and use another wallet. The next page that is
        opened is a first visit."""

        async def begin() -> None:
            for event, listener in self._listeners:
                self.tab.remove_listener(event, listener)
            await self.tab.unroute_all()
            # Scripts of the page before end here, so they store nothing afterwards. This page has
            # none, and the console's origin, so that the browser starts no process for it.
            await self.tab.goto(f"{self.origin}/console/nothing")
            await self.tab.evaluate("() => { sessionStorage.clear(); window.name = ''; }")
            session = await self.context.new_cdp_session(self.tab)
            wanted = {"origin": self.origin, "storageTypes": "all"}
            await session.send("Storage.clearDataForOrigin", wanted)
            await session.detach()
            await self.tab.set_viewport_size({"width": WIDTHS[-1], "height": _HEIGHT})
            await self.tab.emulate_media(media="null", color_scheme="light")

        self.run(begin())
        for noted in (self._listeners, self.foreign, self.errors):
            noted.clear()
        self.wallet, self.others = wallet, ()

    def open(self, place: str = "") -> None:
        """Load one of the console's pages, for example `node`."""

        address = f"{self.origin}/console/#/{place}"

        async def load() -> None:
            if not self.tab.url.startswith(f"{self.origin}/console/"):
                await self.tab.goto(address)
                return
            # Loaded again in place: by way of an empty page the browser would start two more
            # processes.
            await self.tab.evaluate("(address) => history.replaceState(null, '', address)", address)
            await self.tab.reload()

        self.run(load())

    def go(self, place: str) -> None:
        """Go to another of the console's pages by its address, without loading the console
        again."""
        if self.tab.url.startswith(f"{self.origin}/console/"):
            self.run(self.tab.evaluate(_GO, f"#/{place}"))
        else:
            self.open(place)

    def see(self, text: str) -> None:
        """Wait until a text is visible."""
        self.run(expect(self.tab.get_by_text(text).first).to_be_visible())

    def click(self, name: str, *, role: Any = "button", within: str = "body") -> None:
        """Click the element with this accessible name."""
        self.run(self.tab.locator(within).get_by_role(role, name=name, exact=True).click())

    def type(self, label: str, text: str) -> None:
        """Fill the field with this label."""
        self.run(self.tab.get_by_label(label, exact=True).fill(text))

    def add_secret(self, name: str, value: str) -> None:
        """Add a global secret by the page's form."""
        self.run(self.tab.get_by_role("button", name="Add a secret").first.click())
        self.type("Name", name)
        self.type("Value", value)
        self.click("Seal and save", within="dialog")
        self.see(f"{name} is saved")

    def is_masked(self, label: str) -> None:
        """Check that a field shows dots, and its text after *Show text*."""
        field = self.tab.get_by_label(label, exact=True)
        drawn = "(field) => getComputedStyle(field).webkitTextSecurity"
        assert self.run(field.evaluate(drawn)) == "disc"
        self.click("Show text")
        assert self.run(field.evaluate(drawn)) == "none"
        self.click("Show text")
        assert self.run(field.evaluate(drawn)) == "disc"

    def sign_in(self) -> None:
        """Sign in with the wallet of the page."""
        self.open("connect")
        self.run(self.tab.get_by_role("button", name="Test Wallet").click())
        self.signed_in()

    def make_phrase(self, *, is_kept: bool = False, shot: str = "") -> str:
        """Make a new recovery phrase, confirm the requested groups, and return it.

        Args:
            is_kept: tick that the browser keeps it behind a passkey.
            shot: name of a screenshot of the phrase.
        """
        self.run(self.tab.get_by_role("button", name="Make a new recovery phrase").click())
        items = self.tab.locator("dialog .phrase li")
        self.run(expect(items).to_have_count(9))
        groups = self.run(items.all_text_contents())
        if shot:
            self.shot(shot)
        self.click("I have written it down")
        label = self.run(self.tab.locator("dialog label", has_text="Groups ").text_content())
        asked = [int(one) - 1 for one in re.findall(r"\d+", label or "")]
        assert len(set(asked)) == 3
        self.type(label or "", " ".join(groups[one] for one in asked))
        if is_kept:
            self.run(self.tab.get_by_label("Keep it in this browser behind a passkey").check())
        if shot:
            self.shot(f"{shot}-confirm")
        self.click("Confirm and sign in")
        self.signed_in()
        return " ".join(groups)

    def signed_in(self) -> None:
        """Wait until there is a session."""
        button = self.tab.get_by_role("button", name="Sign out", exact=True)
        self.run(expect(button).to_be_visible())

    def shot(self, name: str) -> None:
        """Check the page at three widths for overflow, and take screenshots if requested."""
        self.run(self._shots(name))

    async def _shots(self, name: str) -> None:
        for width in reversed(WIDTHS):
            await self.tab.set_viewport_size({"width": width, "height": _HEIGHT})
            excess = await self.tab.evaluate(_EXCESS)
            assert excess <= 0, f"{name} at {width} px is {excess} px too wide"
            if not _TAKES_SHOTS:
                continue
            for scheme in _SCHEMES:
                await self.tab.emulate_media(color_scheme=scheme)
                await self.tab.screenshot(path=SHOTS / f"{name}-{scheme}-{width}.png")
        await self.tab.set_viewport_size({"width": WIDTHS[-1], "height": _HEIGHT})

    def photograph(self, name: str) -> None:
        """Take one screenshot of the page as it is, if screenshots are requested."""
        if _TAKES_SHOTS:
            self.run(self.tab.screenshot(path=SHOTS / f"{name}.png"))

    def faults(self) -> list[str]:
        """Return violations of the policy, requests to other origins, script errors, and messages
        that covered a dialog."""
        found = "() => [...window.__violations, ...window.__overlaps]"
        violations: list[str] = self.run(self.tab.evaluate(found))
        return [*violations, *self.foreign, *self.errors]

    def accessibility_problems(self) -> list[str]:
        """Return the problems that axe-core finds on the page; it runs in the tab's main world, as
        a debugger does.

        Without axe-core the list is empty: tests that only judge are then skipped by name, and the
        others do the rest.
        """
        if not AXE.exists():
            return []

        async def judge() -> list[str]:
            # right after a sign-in no page is drawn yet
            await expect(self.tab.locator("h1").first).to_be_visible()
            await expect(self.tab.locator("[aria-busy=true]")).to_have_count(0)
            session = await self.context.new_cdp_session(self.tab)
            await session.send("Runtime.evaluate", {"expression": AXE.read_text("utf-8")})
            found = []
            for scheme in _SCHEMES:
                await self.tab.emulate_media(color_scheme=scheme)
                said = await self.tab.evaluate(
                    f"async () => (await axe.run({_AXE[scheme]})).violations"
                )
                found += [
                    f"{scheme}: {one['id']}: {[node['html'] for node in one['nodes']]}"
                    for one in said
                ]
            return found

        return self.run(judge())


@contextmanager
def console_page(
    browser: Browser, origin: str, *, wallet: BrowserWallet | None = None
) -> Iterator[ConsolePage]:
    """Open a tab for a node's console in a new profile; `open` loads it."""

    async def opened() -> ConsolePage:
        context = await browser.context(viewport={"width": WIDTHS[-1], "height": _HEIGHT})
        tab = await context.new_page()
        await context.add_init_script(_COUNT_VIOLATIONS)
        await context.add_init_script(_COUNT_OVERLAPS)
        made = ConsolePage(browser, context, tab, origin, wallet)
        if wallet is not None:
            await context.expose_function("__walletRequest", made.answer)
            await context.add_init_script(WALLET)
        return made

    console = browser.run(opened())
    try:
        yield console
    finally:
        browser.run(console.context.close())


def request_link(manifest: object) -> str:
    """Return the link of a request, as apps use it."""
    text = base64.urlsafe_b64encode(json.dumps(manifest).encode()).decode()
    return "requests?manifest=" + text.rstrip("=")


def add_secret(console: ConsolePage, name: str, value: str) -> None:
    """Store a secret by the page's form."""
    console.click("Secrets", role="link")
    console.run(console.tab.get_by_role("button", name="Add a secret").first.click())
    console.type("Name", name)
    console.type("Value", value)
    console.click("Seal and save", within="dialog")
    console.see(f"{name} is saved")
