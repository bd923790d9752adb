"""Where the texts of a whole session are left: values in no address, storage, cache or log; after it no key."""

import json
import logging
import re

import pytest
from browser import Browser, BrowserWallet
from console_stage import ConsolePage
from playwright.async_api import Request, expect

from node.processes.embedded import EmbeddedNode
from sealspace.client import Client

VALUES = ("first-canary-4711", "second-canary-4712", "third-canary-4713", "fourth-canary-4714")
TYPES = ("text/html", "image/svg+xml", "text/javascript", "application/javascript", "text/css", "application/json")
_DUMP = """async () => {
  const shown = async (one) => {
    if (one instanceof CryptoKey) return { key: one.type, extractable: one.extractable };
    if (ArrayBuffer.isView(one) || one instanceof ArrayBuffer) return String.fromCharCode(...new Uint8Array(one.buffer ?? one));
    if (Array.isArray(one)) return Promise.all(one.map(shown));
    if (one && typeof one === "object") {
      return Object.fromEntries(await Promise.all(Object.entries(one).map(async ([name, value]) => [name, await shown(value)])));
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
  return JSON.stringify({ local: { ...localStorage }, session: { ...sessionStorage }, kept, caches: await caches.keys(),
    cookies: document.cookie, title: document.title, address: location.href, history: history.state, window: window.name,
    html: document.documentElement.outerHTML, fields: [...document.querySelectorAll("input, textarea")].map((one) => one.value) });
}"""


def test_nothing_is_left(
    console: ConsolePage, wallet: BrowserWallet, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Store, reveal, replace, import, sign out: the values were in fields and in memory, and nowhere else."""
    caplog.set_level(logging.DEBUG)
    sent: list[str] = []
    titles: list[str] = []

    def note(request: Request) -> None:
        sent.extend((request.url, json.dumps(request.headers), (request.post_data_buffer or b"").decode("latin-1")))

    console.tab.on("request", note)
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
    console.click("Sign out")
    console.see("Signed out")
    closed = console.run(console.tab.evaluate(_DUMP))
    printed = capfd.readouterr()
    said = [record.getMessage() + json.dumps(vars(record), default=str) for record in caplog.records]
    places = {"requests": sent, "titles": titles, "open": [open_session], "closed": [closed], "log": [*said, *printed]}
    for place, texts in places.items():
        assert texts
        for value in VALUES:
            assert not any(value in text for text in texts), place
    assert '"key"' not in closed
    # What is left is the node's own identity, by which another node at this address is noticed.
    kept = json.loads(closed)
    assert set(re.findall(r"did:\w+:[\w:]+", json.dumps([kept["local"], kept["session"], kept["kept"]]))) == {
        kept["local"]["sealspace.node"]
    }
    assert wallet.signer.did not in closed
    assert wallet.signer.did.rpartition(":")[2] not in closed


def test_stored_values_never_run(
    console: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """Opened at their own addresses they have no origin; the console's page loads none of them as a script or style."""
    script = b"globalThis.__sang = 1; try { localStorage.setItem('sang', '1') } catch {}"
    bodies = {
        "text/html": b"<script>" + script + b"</script>",
        "image/svg+xml": b"<svg xmlns='http://www.w3.org/2000/svg'><script>" + script + b"</script></svg>",
    }

    async def store() -> list[str]:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer, spaces=["default", "public"])
            public = client.kv(f"tinycloud:{wallet.signer.did[4:]}:public")
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
        assert answer.headers["content-type"].partition(";")[0] in ("application/octet-stream", "application/json")
    load = """(urls) => Promise.all(urls.map((url) => new Promise((resolve) => {
      const script = document.createElement("script");
      script.onload = () => resolve("loaded");
      script.onerror = () => resolve("refused");
      try { script.src = url; } catch { return resolve("untrusted"); }
      document.body.append(script);
    })))"""
    assert set(console.run(console.tab.evaluate(load, urls))) == {"untrusted"}
    # Without Trusted Types, as in a browser that has none: the type alone refuses it, with the same script policy.
    with_types_off = """(urls) => Promise.all(urls.map((url) => new Promise((resolve) => {
      const link = document.createElement("link");
      Object.assign(link, { rel: "stylesheet", href: url, onload: () => resolve("loaded"), onerror: () => resolve("refused") });
      document.head.append(link);
    })))"""
    assert set(console.run(console.tab.evaluate(with_types_off, urls))) == {"refused"}
    imported = "(urls) => Promise.all(urls.map((url) => import(url).then(() => 'loaded', () => 'refused')))"
    assert set(console.run(console.tab.evaluate(imported, urls))) == {"refused"}
    for url in urls:

        async def visited(address: str = url) -> None:
            tab = await console.context.new_page()
            try:
                await tab.goto(address)
                assert await tab.evaluate("globalThis.__sang") is None
            except Exception as error:  # a download is no page
                assert "Download is starting" in str(error) or "ERR_ABORTED" in str(error), error
            await tab.close()

        console.run(visited())
    assert console.run(console.tab.evaluate("[globalThis.__sang ?? null, localStorage.getItem('sang')]")) == [
        None,
        None,
    ]
    console.run(console.tab.evaluate("window.__violations = []"))  # those that the test itself caused
    console.errors.clear()
