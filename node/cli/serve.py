"""The command `sealspace serve`."""

from typing import get_args

import click

from ..config.tree import AttestationMode, Config, HostingMode, LogFormat, LogLevel, RequestLines
from ..logs import configure_logs
from ..processes.supervisor import serve as run
from .settings import configured_to_start, trust_root_option, where_options

_HOSTING = (
    "Whose spaces are hosted. auto: every owner's, at sign-in. explicit: every owner's, by a host"
    " grant. permit: those of owners in hosting.listed or admitted by `sealspace admin owners add`."
)


def _use_format(_: click.Context, __: click.Parameter, chosen: str | None) -> str | None:
    if chosen == "json":
        configure_logs("info", is_json=True)
    return chosen


@click.command()
@configured_to_start
@click.option("--host", "http__host", metavar="ADDRESS", help="Address to listen on.")
@click.option("--port", "http__port", type=int, help="Port to listen on; 0 picks any free port.")
@click.option(
    "--workers", "http__workers", type=int, help="Number of worker processes; 0 means one per core."
)
@click.option(
    "--cors/--no-cors",
    "http__cors",
    default=None,
    help="Let web pages of any origin call this node; the default.",
)
@click.option(
    "--console/--no-console",
    "http__console",
    default=None,
    help="Serve the console, a web page for owners; by default only if the node listens on loopback"
    " and trusts no proxy.",
)
@click.option(
    "--console-runner",
    "http__console_runner",
    metavar="URL",
    help="Runner on which the console manages API keys and generates secrets.",
)
@click.option(
    "--sms",
    "sms__listen",
    metavar="ADDRESS:PORT",
    help="Address on which iExec's clients push secrets; off by default.",
)
@click.option("--hosting", "hosting__mode", type=click.Choice(get_args(HostingMode)), help=_HOSTING)
@click.option(
    "--attestation",
    "release__attestation",
    type=click.Choice(get_args(AttestationMode)),
    help="Callers that must prove which code they run. `delegates` means all callers except the"
    " owner.",
)
@where_options
@trust_root_option
@click.option(
    "--collateral",
    "release__collateral",
    metavar="DIR",
    help="Folder of collateral files to load at start.",
)
@click.option(
    "--secret-file", "secret__file", metavar="FILE", help="File with the root secret as raw bytes."
)
@click.option(
    "--log-level",
    "log__level",
    type=click.Choice(get_args(LogLevel)),
    help="Lowest level that is logged.",
)
@click.option(
    "--log-format",
    "log__format",
    envvar="SEALSPACE_LOG__FORMAT",
    is_eager=True,  # so that errors in other options have this format too
    callback=_use_format,
    type=click.Choice(get_args(LogFormat)),
    help="Format of standard error. json: all lines are JSON. mixed (default): only log lines.",
)
@click.option(
    "--log-requests",
    "log__requests",
    type=click.Choice(get_args(RequestLines)),
    help="How to log each request. off (default): not at all. hashed: with keyed hashes of the path"
    " and the client address. plain: with the path and the client address in plain text.",
)
def serve(config: Config) -> int:
    """Run the node until SIGTERM or SIGINT.

    A second signal ends the node immediately.

    Prints `listening on http://HOST:PORT` on standard error when it accepts requests. The first
    owner then runs `sealspace login URL --new` in another terminal.
    """
    return run(config)
