"""Scripts in a page that use the console's modules, with its wallet at hand.

Example:
    owner = in_page(page, "return (await signedIn()).owner.did")
"""

from typing import Any

from browser import Page

SIGN_IN = """
  const at = (name) => import(`/console/wire/${name}.js`);
  const caught = async (work) => { try { return await work(); } catch (error) {
    return { code: error.code ?? String(error), message: error.message, hint: error.hint, details: error.details }; } };
  const { discover, connect } = await at("wallets");
  const session = await at("session");
  const signedIn = async (asked) => {
    const [info] = await discover();
    const owner = await connect(info);
    return { owner, held: await session.signIn(owner, asked) };
  };
"""


def in_page(page: Page, script: str, argument: object = None) -> Any:
    """Run a script that has the wallets and the sessions at hand; `given` is the argument."""
    return page.evaluate(f"async (given) => {{ {SIGN_IN} {script} }}", argument)
