"""Tests that a whole session leaves no values in addresses, storage, caches or logs."""

import json
import logging
import re
from collections.abc import Iterator

import pytest
from browser import Browser, BrowserWallet
from console_stage import ConsolePage
from embedded_node import EmbeddedNode, embedded_node
from engines import store_at
from playwright.async_api import Error, Request, expect
from playwright.async_api import Page as Tab

from node.config.tree import Config, Http, Log
from sealspace.client import Client, SignIn

VALUES = ("first-canary-4711", "second-canary-4712", "third-canary-4713", "fourth-canary-4714")
TYPES = (
    "text/html",
    "image/svg+xml",
    "text/javascript",
    "application/javascript",
    "text/css",
    "application/json",
)
_DUMP = """async () => {
  const shown = async (one) => {
    if (one instanceof CryptoKey) return { key: one.type, extractable: one.extractable };
    if (ArrayBuffer.isView(one) || one instanceof ArrayBuffer) {
      return String.fromCharCode(...new Uint8Array(one.buffer ?? one));
    }
    if (Array.isArray(one)) return Promise.all(one.map(shown));
    if (one && typeof one === "object") {
      const members = Object.entries(one).map(async ([name, value]) => [name, await shown(value)]);
      return Object.fromEntries(await Promise.all(members));
    }
    return String(one);
  };
  const settled = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const kept = [];
  for (const { name } of await indexedDB.databases()) {
    const database = await settled(indexedDB.open(name));
    for (const store of database.objectStoreNames) {
      const all = database.transaction(store).objectStore(store);
      kept.push(await shown(await settled(all.getAll())), await shown(await settled(all.getAllKeys())));
    }
    database.close();
  }
  const fields = [...document.querySelectorAll("input, textarea")].map((one) => one.value);
  return JSON.stringify({ local: { ...localStorage }, session: { ...sessionStorage }, kept, caches: await caches.keys(),
    cookies: document.cookie, title: document.title, address: location.href, history: history.state, fields,
    window: window.name, html: document.documentElement.outerHTML });
}"""

_LOAD = """async (urls) => {
  const loaded = (element) => new Promise((resolve) => {
    element.onload = () => resolve("loaded");
    element.onerror = () => resolve("refused");
    document.head.append(element);
  });
  const script = async (url) => {
    const element = document.createElement("script");
    try { element.src = url; } catch { return "untrusted"; }
    return loaded(element);
  };
  const style = (url) => loaded(Object.assign(document.createElement("link"), { rel: "stylesheet", href: url }));
  const module = (url) => import(url).then(() => "loaded", () => "refused");
  const all = (load) => Promise.all(urls.map(load));
  return { script: await all(script), style: await all(style), module: await all(module) };
}"""


@pytest.fixture(scope="module")
def node(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNode]:
    """A node that logs each request with its plain path and address."""
    store = store_at(tmp_path_factory.mktemp("canaries") / "data")
    config = Config(http=Http(port=0, drain_s=0), store=store, log=Log(requests="plain"))
    with browser.entered(embedded_node(config)) as running:
        yield running


@pytest.fixture
def console(own_console: ConsolePage) -> ConsolePage:
    """A tab at that node's console."""
    return own_console


def test_nothing_is_left(
    console: ConsolePage,
    wallet: BrowserWallet,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """After storing, revealing, replacing, importing and signing out, values were only in fields
    and memory (CN3)."""
    caplog.set_level(logging.DEBUG)
    sent: list[str] = []
    titles: list[str] = []

    def note(request: Request) -> None:
        sent.extend(
            (
                request.url,
                json.dumps(request.headers),
                (request.post_data_buffer or b"").decode("latin-1"),
            )
        )

    console.listen("request", note)
    console.sign_in()
    console.click("Add a secret", within="header >> nth=-1")
    console.type("Name", "API_KEY")
    console.type("Value", VALUES[0])
    console.click("Seal and save", within="dialog")
    console.click("Open API_KEY")
    console.click("Reveal")
    console.run(expect(console.tab.locator("output")).to_have_text(VALUES[0]))
    titles.append(console.run(console.tab.title()))
    console.click("Replace", within="dialog")
    console.type("Value", VALUES[1])
    console.click("Seal and save", within="dialog")
    console.see("1 secret")
    console.click("Add many", within="header >> nth=-1")
    console.type("Names and values", f"MANY_A={VALUES[2]}\nMANY_B={VALUES[3]}\n")
    console.click("Seal and save", within="dialog")
    console.see("3 secrets")
    open_session = console.run(console.tab.evaluate(_DUMP))
    assert wallet.signer.did in open_session
    assert '"extractable":false' in open_session
    other = console.run(_other_tab(console))
    console.click("Sign out")
    console.see("Signed out")
    console.run(expect(other.get_by_text("Sign in to see this page")).to_be_visible())
    closed = console.run(console.tab.evaluate(_DUMP))
    elsewhere = console.run(other.evaluate(_DUMP))
    printed = capfd.readouterr()
    logged = [json.loads(line) for line in printed.err.splitlines() if line.startswith('{"event"')]
    assert {"/info", "/delegate", "/invoke"} <= {
        one["route"] for one in logged if one["event"] == "request"
    }
    said = [
        record.getMessage() + json.dumps(vars(record), default=str) for record in caplog.records
    ]
    places = {
        "requests": sent,
        "titles": titles,
        "open": [open_session],
        "closed": [closed],
        "other": [elsewhere],
    }
    places["log"] = [*said, *printed]
    for place, texts in places.items():
        assert texts
        for value in VALUES:
            assert not any(value in text for text in texts), place
    assert '"key"' not in closed
    # What is left is the node's own identity, by which another node at this address is noticed.
    kept = json.loads(closed)
    assert set(
        re.findall(r"did:\w+:[\w:]+", json.dumps([kept["local"], kept["session"], kept["kept"]]))
    ) == {kept["local"]["sealspace.node"]}
    assert wallet.signer.did not in closed + elsewhere
    assert wallet.signer.did.rpartition(":")[2] not in closed


async def _other_tab(console: ConsolePage) -> Tab:
    """Open a second tab of the profile, which has the same session."""
    tab = await console.context.new_page()
    await tab.goto(f"{console.origin}/console/#/secrets")
    await expect(tab.get_by_text("3 secrets")).to_be_visible()
    return tab


def test_stored_values_never_run(
    console: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """Stored values opened at their own addresses have no origin. The console's page loads none of
    them as a script or style."""
    script = b"globalThis.__sang = 1; try { localStorage.setItem('sang', '1') } catch {}"
    bodies = {
        "text/html": b"<script>" + script + b"</script>",
        "image/svg+xml": (
            b"<svg xmlns='http://www.w3.org/2000/svg'><script>" + script + b"</script></svg>"
        ),
    }

    async def store() -> list[str]:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer, SignIn(spaces=("public",)))
            public = client.kv("public")
            urls = []
            for at, kind in enumerate(TYPES):
                body = bodies.get(kind, script)
                await client.kv().put(f"v{at}", body, content_type=kind)
                urls.append((await client.kv().signed_url(f"v{at}")).url)
                await public.put(f"v{at}", body, content_type=kind)
                urls.append(f"{node.url}/public/tinycloud:{wallet.signer.did[4:]}:public/kv/v{at}")
            return urls

    urls = browser.run(store())
    console.open("node")
    console.see("Identity")
    for url in urls:
        answer = console.run(console.context.request.get(url))
        assert answer.status == 200, url
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox")
        assert answer.headers["content-type"].partition(";")[0] in (
            "application/octet-stream",
            "application/json",
        )
    outcomes = console.run(console.tab.evaluate(_LOAD, urls))
    assert outcomes == {
        "script": ["untrusted"] * len(urls),
        "style": ["refused"] * len(urls),
        "module": ["refused"] * len(urls),
    }

    async def visit() -> None:
        for url in urls:
            tab = await console.context.new_page()
            try:
                await tab.goto(url)
            except Error as error:  # what is no page is downloaded
                assert "Download is starting" in error.message or "ERR_ABORTED" in error.message, (
                    url
                )
            assert await tab.evaluate("globalThis.__sang ?? null") is None, url
            await tab.close()

    console.run(visit())
    assert console.run(
        console.tab.evaluate("[globalThis.__sang ?? null, localStorage.getItem('sang')]")
    ) == [
        None,
        None,
    ]
    # those that the test itself caused
    console.run(console.tab.evaluate("window.__violations = []"))
    console.errors.clear()
