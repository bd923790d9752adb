"""Scripts for a page or node.js that use the console's modules and a wallet.

Example:
    owner = in_page(page, "return (await signedIn()).owner.did")
"""

import json
from typing import Any

import libipld
from browser import Page
from console_stage import ConsolePage
from node_js import Scripts

SIGN_IN = """
  const at = (name) => import(`/console/wire/${name}.js`);
  const caught = async (work) => { try { return await work(); } catch (error) {
    return { code: error.code ?? String(error), message: error.message, hint: error.hint,
      details: error.details }; } };
  const { discover, connect } = await at("wallets");
  const session = await at("session");
  const signedIn = async (asked) => {
    const [info] = await discover();
    const owner = await connect(info);
    return { owner, held: await session.signIn(owner, asked) };
  };
"""


def in_page(page: Page | Scripts, script: str, argument: object = None) -> Any:
    """Run a script with the wallets and sessions available; `given` is its argument."""
    return page.evaluate(f"async (given) => {{ {SIGN_IN} {script} }}", argument)


def in_console(console: ConsolePage, script: str, argument: object = None) -> Any:
    """Run a script in a page of the console, with its modules and policy."""
    source = 'new URL("wire/", document.querySelector("script[src]").src).href'
    ready = SIGN_IN.replace("`/console/wire/${name}.js`", f"`${{{source}}}${{name}}.js`")
    return console.run(console.tab.evaluate(f"async (given) => {{ {ready} {script} }}", argument))


WRITTEN_AGAIN = """
  const { encodeCbor } = await import("/console/wire/cacao.js");
  const { hex } = await import("/console/wire/bytes.js");
  const revived = (_, one) => one?.bytes ? Uint8Array.from(one.bytes) : one;
  const written = (text) => hex(encodeCbor(JSON.parse(text, revived)));
"""


def members(data: bytes) -> str:
    """Return the members of a CACAO as JSON, with byte strings as `{"bytes": […]}`."""
    return json.dumps(libipld.decode_dag_cbor(data), default=lambda one: {"bytes": list(one)})


_STORE = """async (names) => {
  const base = new URL(document.querySelector("script[src]").src).href.replace(/app.js$/, "wire/");
  const [{ Client }, { restore }, { putMany }] = await Promise.all(
    ["client.js", "session.js", "secrets.js"].map((name) => import(base + name)));
  const scopes = [null, "mail", "staging", "production"];
  const secrets = names.map((name, at) => ({ scope: scopes[at % 4], name, value: "x" }));
  await putMany(Client(await restore()), secrets);
}"""


def store_secrets(console: ConsolePage, names: list[str]) -> None:
    """Store one secret per name with the page's session: the first is global, the others are in
    alternating scopes."""
    console.run(console.tab.evaluate(_STORE, names))


def key_names(count: int) -> list[str]:
    """Return the names `KEY_0`, `KEY_1` and so on."""
    return [f"KEY_{at}" for at in range(count)]
