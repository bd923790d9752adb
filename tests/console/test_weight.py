"""Tests of the console's size and load time, which are printed with `pytest -s`."""

import posixpath
import re
from collections.abc import Iterable, Mapping

import pytest
from browser import CONSOLE, Browser
from console_stage import ConsolePage, console_page
from console_wire import key_names, store_secrets
from embedded_node import EmbeddedNode
from playwright.async_api import Response, expect

from node.http.routes.console import load_console

MOST_PAGE_BYTES = 156_000
"""Limit for what one page loads: the frame, the page, and all dialogs that it can open. The table of
members of compose files is 10 kB of it."""
MOST_AT_ONCE_BYTES = 125_000
"""Limit for what one page loads before a dialog is opened."""
MOST_CONNECT_BYTES = 62_000
MOST_FIRST_VIEW_MS = 1_000
SECRETS = 1_000
LOADS = 5  # at most: other work on the machine delays one, and hardly all
_FRAME = "app.js"
_ALWAYS = ("style.css", "mark.svg")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_STATIC = re.compile(r'^import [^;]*?"(\.[^"]+)";', re.MULTILINE)
_ON_DEMAND = re.compile(r'\bimport\("(\.[^"]+)"\)')
_WATCH = """
new PerformanceObserver((list) => { window.__lcpMs = list.getEntries().at(-1).startTime; })
  .observe({ type: "largest-contentful-paint", buffered: true });
const watch = new MutationObserver(() => {
  if (document.querySelector(".rows [role=row]")) { window.__rowsMs = performance.now(); watch.disconnect(); }
});
watch.observe(document, { childList: true, subtree: true });
"""


def loaded(bodies: Mapping[str, bytes], starts: Iterable[str], *, with_dialogs: bool) -> set[str]:
    """Return the modules that the browser loads for some modules.

    With dialogs, these include what a module loads on demand. The frame loads pages on demand, and
    these are not followed, because a visit to one page loads no other.
    """
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        source = _COMMENT.sub("", bodies[name].decode())
        imported = _STATIC.findall(source)
        if with_dialogs and name != _FRAME:
            imported += _ON_DEMAND.findall(source)
        folder = posixpath.dirname(name)
        waiting += [posixpath.normpath(posixpath.join(folder, one)) for one in imported]
    return found


def test_what_a_page_loads() -> None:
    """No page loads more than its limit, with all dialogs that it can open. Together the pages use
    every module."""
    files = load_console()
    sizes = {name: len(body) for name, body in files.packed.items()}
    pages = re.findall(r'import\("\./(pages/\w+\.js)"\)', files.bodies[_FRAME].decode())
    used = {_FRAME}
    weights: dict[str, int] = {}
    at_once: dict[str, int] = {}
    for page in pages:
        modules = loaded(files.bodies, (_FRAME, page), with_dialogs=True)
        used |= modules
        weights[page] = sum(sizes[name] for name in (*modules, *_ALWAYS))
        at_first = loaded(files.bodies, (_FRAME, page), with_dialogs=False)
        at_once[page] = sum(sizes[name] for name in (*at_first, *_ALWAYS))
        print(f"{page}: {at_once[page]} bytes as sent, {weights[page]} with its dialogs")
    print(f"{len(sizes)} files, {sum(sizes.values())} bytes as sent")
    assert len(pages) == len(set(pages)) > 10
    assert max(weights.values()) < MOST_PAGE_BYTES
    assert max(at_once.values()) < MOST_AT_ONCE_BYTES
    assert {name for name in sizes if name.endswith(".js")} == used
    page = files.bodies["index.html"].decode()
    # a module never blocks
    assert page.count("<script") == page.count('<script type="module"') == 1


@pytest.mark.parametrize("page", ["secrets", "grants"])
def test_a_page_loads_what_is_counted(own_console: ConsolePage, page: str) -> None:
    """The browser loads the modules that are counted for a page, and no others."""
    console = own_console
    console.sign_in()
    console.see("No secrets yet")
    answers = watched(console)
    console.open(page)
    console.see("No secrets yet" if page == "secrets" else "Nothing is granted")
    files = load_console()
    expected = loaded(files.bodies, (_FRAME, f"pages/{page}.js"), with_dialogs=False)
    asked = {one.url.partition(f"/{files.digest}/")[2] for one in answers}
    assert {name for name in asked if name.endswith(".js")} == expected


def test_the_page_of_sign_in(browser: Browser, node: EmbeddedNode) -> None:
    """Sizes and the largest contentful paint of a first visit stay below their limits."""
    with console_page(browser, node.url) as console:
        answers = watched(console)
        console.open("connect")
        console.see("No wallet found")
        lcp_ms = console.run(console.tab.evaluate("window.__lcpMs"))
        sent = sum(int(one.headers.get("content-length", 0)) for one in answers)
        print(f"connect: LCP {lcp_ms:.0f} ms, {len(answers)} answers, {sent} bytes")
        # the figure depends on the machine and on a cold browser; it is said, not judged
        assert lcp_ms > 0
        assert 0 < sent < MOST_CONNECT_BYTES
        assert console.faults() == []


def test_a_thousand_secrets(own_console: ConsolePage) -> None:
    """With a thousand secrets, the first rows appear within a second."""
    console = own_console  # a script watches each page of it
    console.sign_in()
    console.see("No secrets yet")
    store_secrets(console, key_names(SECRETS))
    answers = watched(console)
    figures: list[float] = []
    while len(figures) < LOADS and min(figures, default=MOST_FIRST_VIEW_MS) >= MOST_FIRST_VIEW_MS:
        answers.clear()
        console.open("secrets")
        console.see(f"{SECRETS} secrets")
        console.run(expect(console.tab.locator(".rows [role=row]").first).to_be_visible())
        rows_ms, lcp_ms = console.run(console.tab.evaluate("[window.__rowsMs, window.__lcpMs]"))
        asked = [one.url for one in answers if one.url.endswith("/invoke")]
        print(
            f"secrets: {SECRETS} of them, rows after {rows_ms:.0f} ms, LCP {lcp_ms:.0f} ms,"
            f" {len(asked)} request"
        )
        assert len(asked) <= 2
        figures.append(rows_ms)
    assert 0 < min(figures) < MOST_FIRST_VIEW_MS
    assert console.run(console.tab.locator(".rows [role=row]").count()) < 60


def watched(console: ConsolePage) -> list[Response]:
    """Record all answers from now on, and the timings of the next page that is loaded."""
    answers: list[Response] = []
    console.run(console.tab.add_init_script(_WATCH))
    console.listen("response", lambda answer: answers.append(answer))
    return answers


def test_a_drawing_means_one_thing() -> None:
    """The documentation of the console lists each icon once, with its meaning."""
    page = (CONSOLE / "README.md").read_text("utf-8").split("## Icons")[1].split("## What")[0]
    listed = re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE)
    drawn = re.findall(
        r"^  (\w+): \"[Mm]", (CONSOLE / "elements.js").read_text("utf-8"), re.MULTILINE
    )
    assert sorted(name for name, _ in listed) == sorted(drawn)
    assert len({meaning for _, meaning in listed}) == len(listed)
