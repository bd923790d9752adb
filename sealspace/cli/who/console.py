"""The command `sealspace console`, which signs a browser in as the owner of the command line."""

import errno
import socket

import click
from yarl import URL

from capabilities.clock_and_entropy import SystemClock

from ...client import Client
from ...errors import InvalidInput
from ...service.command_errors import NotThere
from ...service.listening_socket import console_url
from ...wire.transport import Request, Transport
from ..options.durations import expires_option
from ..owner.owner_profile import at_node, owner_home
from ..terminal import (
    confirm,
    flag_option,
    is_interactive,
    print_lines,
    print_result,
    tell,
    time_text,
)
from .login import owner_sign_in


@click.command(
    epilog="Example: `sealspace console` opens the page. Compare the code that the page shows with"
    " the code in the terminal, then answer y."
)
@expires_option(
    "7d", "How long the browser stays signed in, at most 30d.", most_days=30, former="--days"
)
@flag_option("--no-open", help="Only print the page's address; do not open a browser.")
@at_node
async def console(client: Client, ttl_s: float, no_open: bool) -> None:
    """Open the node's console, signed in as you.

    The browser makes a key of its own, and your wallet signs a session for this key. No key is
    copied. The page and the terminal show the same short code, and you are asked before anything is
    signed. With a recovery phrase, sign in on the console's own page instead: only the phrase's key
    opens your secrets.
    """
    home = owner_home()
    profile, wallet = home.profile(), home.wallet()
    address = _address(client.url)
    # Ask the server that the browser is going to open.
    async with Transport(address.removesuffix("/console/")) as transport:
        answer = await transport.exchange(Request("GET", "/console", repeatable=True))
    if answer.status == 404:
        raise NotThere(
            f"the node at {client.url} does not serve the console",
            hint="ask the node's operator to start the node with: sealspace serve --console",
        )
    answer.require()
    if wallet is None:
        # Rule IP1: the node opens secrets only for the phrase's own key.
        raise InvalidInput(
            "this command cannot sign your browser in: your secrets open only with the recovery"
            " phrase's key, which is never copied to a browser",
            hint=f"open {address} and sign in there with your recovery phrase",
        )
    if not is_interactive():
        raise InvalidInput(
            "cannot ask whether the browser shows the right code: this command"
            " is not running in a terminal",
            hint=f"run this in a terminal, or sign in at {address}",
        )
    # Imported here: only pages need the server.
    from ..owner.wallet_page import BrowserLink

    link = BrowserLink(client.url, address, opens=not no_open)
    until = time_text(SystemClock.now() + ttl_s)
    print_lines(f"to sign in as {profile.owner} until {until}:", err=True)
    confirm(f"does the browser show the code {link.code}?")
    sign_in = await client.authorize_key(wallet, link.did, owner_sign_in(profile, ttl_s))
    signed_with = "keystore" if profile.is_keystore else profile.kind
    link.finish(sign_in.header, signed_with)
    tell(f"signed in: the browser acts as {profile.owner} until {until}")
    print_result({"console": address, "expiresAt": until})


def _address(node: str) -> str:
    """Return the address of a node's console.

    A node at 127.0.0.1 is opened by name, as `serve` prints it, because browsers keep sign-ins and
    passkeys by address.
    """
    url = URL(node)
    address = f"{node}/console/"
    if url.host != "127.0.0.1":
        return address
    try:
        # Another user could serve a page at the other address of `localhost`, and its key would be
        # signed in (LP8). So this command binds the port there, and nobody else can take it until
        # the command ends.
        ipv6_socket = click.get_current_context().with_resource(socket.socket(socket.AF_INET6))
        ipv6_socket.bind(("::1", url.port))
    except OSError as error:
        # Without IPv6 nobody else has that address. After any other error somebody may have it.
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return address
    return console_url(node)
