"""The command `sealspace console`, which signs a browser in as the owner of the command line."""

import click

from capabilities.clock_and_entropy import SystemClock

from ..client import Client
from ..errors import InvalidInput
from ..wire.transport import Request, Transport
from .command_errors import NotThere
from .login import owner_sign_in
from .owner_profile import at_node, owner_home
from .terminal import confirm, is_interactive, print_result, tell, time_text


@click.command(
    epilog=(
        "Example: `sealspace console` opens the page. Compare the code that the page shows with the"
        " code in the terminal, then answer y."
    )
)
@click.option(
    "--days",
    type=click.FloatRange(min=0.01, max=30),
    default=7.0,
    show_default=True,
    help="How many days the browser stays signed in.",
)
@click.option(
    "--no-open", is_flag=True, help="Only print the page's address; do not open a browser."
)
@at_node
async def console(client: Client, days: float, no_open: bool) -> None:
    """Open the node's console, signed in as you.

    The browser makes a key of its own, and your wallet signs a session for this key. No key is
    copied. The page and the terminal show the same short code, and you are asked before anything is
    signed.
    """
    # Imported here: only pages need the server.
    from .wallet_page import BrowserLink, open_page

    address = f"{client.url}/console/"
    async with Transport(client.url) as transport:
        answer = await transport.exchange(Request("GET", "/console", repeatable=True))
    if answer.status == 404:
        raise NotThere(
            f"the node at {client.url} does not serve the console",
            hint="ask its operator to start it with: sealspace serve --console",
        )
    answer.require()
    home = owner_home()
    profile, wallet = home.profile(), home.wallet()
    if wallet is None:
        # Rule IP1: the node opens secrets only for the phrase's own key.
        open_page("sign in on this page with your recovery phrase:", address, not no_open)
        print_result({"console": address})
        return
    if not is_interactive():
        raise InvalidInput(
            "cannot ask whether the browser shows the right code: this is not a terminal",
            hint=f"run this in a terminal, or sign in at {address}",
        )
    link = BrowserLink(client.url, address, opens=not no_open)
    until = time_text(SystemClock().now() + days * 86_400)
    confirm(
        f"does the browser show the code {link.code}? sign in this browser as {profile.owner} until"
        f" {until}?",
        yes=False,
    )
    sign_in = await client.authorize_key(wallet, link.did, owner_sign_in(profile, days * 86_400))
    link.finish(sign_in.header)
    tell(f"signed in: the browser acts as {profile.owner} until {until}")
    print_result({"console": address, "expiresAt": until})
