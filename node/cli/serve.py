"""`sealspace serve`: run the node."""

from typing import get_args

import click

from ..config.tree import AttestationMode, Config, HostingMode, LogLevel, RequestLines
from ..processes.supervisor import serve as run
from .settings import configured, trust_root_option, where_options

_HOSTING = (
    "Whose spaces are hosted. auto, explicit: anybody's, at a sign-in or by a host grant. permit:"
    " of the DIDs in hosting.listed and of owners admitted by `sealspace admin owners add` alone."
    " listed: the former name of permit."
)


@click.command()
@configured
@click.option("--host", "http__host", metavar="ADDRESS", help="Address to listen on.")
@click.option("--port", "http__port", type=int, help="Port to listen on; 0 takes any free one.")
@click.option(
    "--workers", "http__workers", type=int, help="Worker processes; 0 means one for each core."
)
@click.option(
    "--cors/--no-cors",
    "http__cors",
    default=None,
    help="Let pages of any origin call this node; the default.",
)
@click.option(
    "--console/--no-console",
    "http__console",
    default=None,
    help=(
        "Serve the console, a page for owners; by default where the node listens on loopback and"
        " trusts no proxy."
    ),
)
@click.option(
    "--console-runner",
    "http__console_runner",
    metavar="URL",
    help="Runner at which the console manages API keys and has secrets generated.",
)
@click.option(
    "--hosting",
    "hosting__mode",
    type=click.Choice((*get_args(HostingMode), "listed")),
    help=_HOSTING,
)
@click.option(
    "--attestation",
    "release__attestation",
    type=click.Choice(get_args(AttestationMode)),
    help="Who has to prove what code they run.",
)
@where_options
@trust_root_option
@click.option(
    "--collateral",
    "release__collateral",
    metavar="DIR",
    help="Folder of collateral to load at start.",
)
@click.option(
    "--secret-file", "secret__file", metavar="FILE", help="File with the root secret as raw bytes."
)
@click.option(
    "--log-level",
    "log__level",
    type=click.Choice(get_args(LogLevel)),
    help="Least severe level written.",
)
@click.option(
    "--log-requests",
    "log__requests",
    type=click.Choice(get_args(RequestLines)),
    help=(
        "A line of the log for each request: paths and client addresses as keyed hashes, or plain."
        " off: the default."
    ),
)
def serve(config: Config) -> int:
    """Run the node until SIGTERM or SIGINT.

    The first owner then runs `sealspace login URL --new` in another terminal.

    Prints `listening on http://HOST:PORT` on standard error when it accepts requests. A second
    signal ends it at once.
    """
    return run(config)
