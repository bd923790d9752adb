"""The options of `sealspace runner serve` and `sealspace runner doctor`.

The doctor has the same options, so that an operator checks a command line by replacing one word.
"""

import re
from collections.abc import Callable
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import click

from capabilities.limits import parsed_address
from sealspace.cli.options.paths import FILE, FOLDER, NEW_FOLDER, file_option
from sealspace.cli.terminal import flag_option, repeatable_option
from sealspace.service.command_errors import ConfigurationError
from tee_backend.cli.quote_sources import KEY_KINDS, QUOTE_KINDS

from ..calls.grant_judging import can_judge_patterns
from ..guest.runs import Limits
from .run_grants import limit_options

MOST_CHILDREN = 128
_MAX_PORT = 65_535
_PRICE = click.IntRange(0, 10**9)
# As browsers write an origin (RN235): any other spelling would never match.
_ORIGIN = re.compile(
    r"(?=.{1,253}$)(?:https://[a-z0-9-]+(?:\.[a-z0-9-]+)*(?!:443$)"
    r"|http://(?:localhost|127\.0\.0\.1|\[::1\])(?!:80$))(?::[1-9][0-9]{0,4})?"
)


def _parse_origin(text: str) -> str:
    """Return an origin as browsers write it; refuse any other text."""
    if _ORIGIN.fullmatch(text) is None:
        raise click.BadParameter(
            "use the form https://app.example or http://127.0.0.1:3000, in lower case, without a"
            " path, and without the default port"
        )
    return text


def _parse_network(text: str) -> str:
    """Return the text of an IP address or network; refuse any other text."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        raise click.BadParameter(
            "use an address such as 10.0.0.7, or a network such as 10.0.0.0/24"
        ) from None
    return text


class MetricsAddress(NamedTuple):
    """The address that serves a runner's metrics."""

    host: str
    port: int


def _parse_metrics_address(text: str) -> MetricsAddress:
    """Parse `HOST:PORT`, where an IPv6 address may be in brackets."""
    host, _, port = text.rpartition(":")
    is_number = port.isascii() and port.isdigit()
    if not host or not is_number or int(port) > _MAX_PORT:
        raise click.BadParameter("use the form HOST:PORT, such as 127.0.0.1:9465")
    return MetricsAddress(host=host.removeprefix("[").removesuffix("]"), port=int(port))


def require_settings(options: SimpleNamespace) -> None:
    """Check options that exclude each other, and the library that every runner needs.

    Args:
        options: the options of `serve_options`, by their parameter names.
    Raises:
        click.UsageError: --loopback-ca without --simulate.
        ConfigurationError: metrics at an address that is not loopback; or the library for the
            patterns in grants is missing.
    """
    is_real_platform = options.platform_folder is None
    if is_real_platform and options.loopback_ca is not None:
        # Its certificates let this machine answer in the name of any host (RN111).
        raise click.UsageError(
            "--loopback-ca is allowed only with --simulate: on a real platform, the operator could"
            " impersonate any host"
        )
    must_be_loopback = options.metrics_at is not None and not options.metrics_off_loopback
    # Whoever reaches the address can read the metrics, because they have no password (RN296).
    if must_be_loopback and not _is_loopback(options.metrics_at.host):
        raise ConfigurationError(
            "--metrics needs a loopback address, because metrics have no password",
            hint="use 127.0.0.1, or add --metrics-off-loopback if only your own machines reach"
            " the address",
        )
    if not can_judge_patterns():  # RN210: such a runner would refuse the callers of some grants
        raise ConfigurationError(
            "cannot judge callers by the patterns in grants: the library google-re2 is missing",
            hint="run the runner with Python 3.11 to 3.14, after: pip install 'sealspace[runner]'",
        )


def _is_loopback(host: str) -> bool:
    """Return whether a host is `localhost` or a loopback address. Other names are not resolved."""
    if host == "localhost":
        return True
    address = parsed_address(host)
    return address is not None and address.is_loopback


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--data",
        "folder",
        required=True,
        type=NEW_FOLDER,
        help="Folder for grants, receipts and used tokens. Two runners must not share a folder.",
    ),
    click.option(
        "--key",
        "key_kind",
        type=click.Choice(KEY_KINDS),
        default="platform",
        help="Source of the runner's key: the platform's key service, or a file in the data"
        " folder.",
    ),
    click.option("--name", default="Runner", help="Display name of the runner."),
    click.option(
        "--children",
        type=click.IntRange(1, MOST_CHILDREN),
        default=2,
        help="Maximum number of programs that run at the same time for callers with a key or an"
        " account. For other callers, up to half this number (at least one) may run in addition.",
    ),
    limit_options(Limits),
    click.option("--price-call", type=_PRICE, default=0, help="Price per run, in micro-units."),
    click.option(
        "--price-instructions",
        type=_PRICE,
        default=0,
        help="Price per million instructions, in micro-units.",
    ),
    click.option(
        "--price-second",
        type=_PRICE,
        default=0,
        help="Price per full second of a run, in micro-units.",
    ),
    file_option(
        "--tls-certificate",
        help="TLS certificate (PEM). Without a certificate, remote calls with API keys are"
        " refused.",
    ),
    file_option("--tls-key", help="Private key of the TLS certificate (PEM, without a password)."),
    file_option(
        "--loopback-ca",
        help="For trials, only with --simulate: send all requests of programs to this machine, and"
        " accept certificates issued by the authority in FILE.",
    ),
    click.option(
        "--simulate",
        "platform_folder",
        type=NEW_FOLDER,
        help="Folder of a simulated platform; by default the real platform is used.",
    ),
    click.option(
        "--evidence",
        "--quotes",
        "quotes",
        type=click.Choice(QUOTE_KINDS),
        default="dstack",
        help="Source of quotes: a guest agent, the kernel, or the platform in the --simulate"
        " folder.",
    ),
    file_option(
        "--compose",
        "compose_file",
        help="Compose file to publish. With --simulate, this file is also measured as the runner's"
        " code.",
    ),
    repeatable_option(
        "--call-origin",
        "origins",
        metavar="ORIGIN",
        type=_parse_origin,
        help="Origin of web pages that may call programs with API keys, such as https://app.example."
        " Can be repeated.",
    ),
    click.option(
        "--task-dir",
        "task_folder",
        type=FOLDER,
        help="Folder on tmpfs for the files of tasks. Without it, the runner runs no tasks; with"
        " --simulate, the default is /dev/shm.",
    ),
    repeatable_option(
        "--python-base",
        "base_files",
        metavar="FILE",
        type=FILE,
        help="Python base, which runs programs in Python; part of each release. Can be repeated, to"
        " keep older bases for programs that were granted with them.",
    ),
    repeatable_option(
        "--trusted-root",
        "root_files",
        metavar="FILE",
        type=FILE,
        help="File with Sigstore's authorities and logs, by which the runner verifies builds for"
        " grants to all builds of a repository. Such a grant names the file by its hash. Can be"
        " repeated. Needs the extra `provenance`.",
    ),
    repeatable_option(
        "--trusted-proxy",
        "proxies",
        metavar="ADDRESS",
        type=_parse_network,
        help="Address or network of a proxy whose X-Forwarded-For header names the client. Can be"
        " repeated. Limits per client address count all clients of any other proxy as one.",
    ),
    click.option(
        "--drain-s",
        type=click.FloatRange(0, 600),
        default=10.0,
        help="Seconds that calls which have started get to finish after SIGTERM. Calls that have"
        " not started run after the next start.",
    ),
    click.option(
        "--metrics",
        "metrics_at",
        metavar="HOST:PORT",
        type=_parse_metrics_address,
        help="Address for Prometheus: GET /metrics. It must be loopback.",
    ),
    flag_option(
        "--metrics-off-loopback",
        help="Accept another address for --metrics, which only your own machines can reach.",
    ),
    click.option("--host", default="127.0.0.1", help="Address to listen on."),
    click.option(
        "--port", type=click.IntRange(0, 65535), default=8080, help="Port; 0: any free port."
    ),
)
_Command = TypeVar("_Command")


def serve_options(command: _Command) -> _Command:
    """Add the options of a runner to a command."""
    for option in reversed(_OPTIONS):  # click puts the option that is added last first in --help
        command = option(command)
    return command
