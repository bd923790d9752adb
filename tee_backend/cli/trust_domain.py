"""What `backend serve` and `runner serve` share: the trust domain they run in, the key, and the server.

Example:
    @domain_options
    def serve(domain: Callable[[], Domain], host: str, port: int) -> None: ...
"""

import asyncio
import signal
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import click
from aiohttp import web

from sealspace.cli.errors import ConfigurationError
from sealspace.cli.listening_socket import bind_socket, url_of
from sealspace.cli.paths import FILE, NEW_FOLDER, read_named
from sealspace.cli.terminal import print_lines

from ..backend.key import KeyFile
from ..evidence.dstack import DstackSource
from ..evidence.errors import EvidenceSourceError
from ..evidence.simulated import PlatformFolderError, SimulatedSource
from ..evidence.source import EvidenceSource, KeySource
from ..evidence.tsm import TsmSource
from ..listener import ConnectionLimits, listening

Quotes = Literal["dstack", "tsm", "simulated"]
Keys = Literal["platform", "file"]
Command = TypeVar("Command", bound=Callable[..., Any])

_MAX_COMPOSE_BYTES: Final = 64 * 1024
_EXAMPLE_COMPOSE: Final = "services:\n  example:\n    image: sealspace-example\n"


@dataclass(frozen=True, slots=True)
class Domain:
    """What gives quotes, and the compose file to show: in a real domain only one that was named."""

    source: EvidenceSource
    compose: str | None

    def keys(self, folder: Path, kind: Keys) -> KeySource:
        """Return where the key of a backend that keeps its grants comes from.

        Raises:
            ConfigurationError: the platform has no key service.
        """
        if kind == "file":
            return KeyFile(folder / "backend.key")
        if not isinstance(self.source, KeySource):
            raise ConfigurationError("this platform has no key service", hint="add --key file")
        return self.source


_OPTIONS: Final = (
    click.option(
        "--simulate",
        "platform_folder",
        type=NEW_FOLDER,
        help="Simulated platform; without it this machine's own is asked.",
    ),
    click.option(
        "--evidence",
        "--quotes",
        "quotes",
        type=click.Choice(["dstack", "tsm", "simulated"]),
        default="dstack",
        show_default=True,
        help="Who gives quotes: a guest agent, the kernel, or the platform that --simulate names.",
    ),
    click.option(
        "--compose",
        "compose_file",
        type=FILE,
        help="Compose file: in a simulated domain, the code that runs.",
    ),
)
_LISTENING: Final = (
    click.option("--host", default="127.0.0.1", show_default=True, help="Address; TLS is a proxy's matter."),
    click.option(
        "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 takes any free one."
    ),
)


def domain_options(command: Command) -> Callable[..., object]:
    """Add the options that name the trust domain and the address; the command gets `domain`, a function."""

    @wraps(command)
    def called(platform_folder: Path | None, quotes: Quotes, compose_file: Path | None, **others: object) -> object:
        return command(domain=lambda: _domain(platform_folder, quotes, compose_file), **others)

    decorated: Callable[..., object] = called
    for option in reversed((*_OPTIONS, *_LISTENING)):
        decorated = option(decorated)
    return decorated


def _domain(folder: Path | None, quotes: Quotes, compose_file: Path | None) -> Domain:
    if quotes == "simulated" and folder is None:
        raise click.UsageError("name the simulated platform: --simulate FOLDER")
    compose = _EXAMPLE_COMPOSE if compose_file is None else _read_compose(compose_file)
    try:
        if folder is not None:
            return Domain(SimulatedSource.load(folder, compose=compose), compose)
        source: EvidenceSource = DstackSource.find() if quotes == "dstack" else TsmSource()
    except PlatformFolderError as error:
        raise ConfigurationError(error.detail, hint=f"sealspace backend simulate {folder}") from None
    except EvidenceSourceError as error:
        raise ConfigurationError(
            f"this machine gives no quotes: {error.detail}", hint="to try it out: --simulate FOLDER"
        ) from None
    return Domain(source, None if compose_file is None else compose)


def _read_compose(path: Path) -> str:
    data = read_named(path, most_bytes=_MAX_COMPOSE_BYTES)
    if len(data) <= _MAX_COMPOSE_BYTES:
        with suppress(UnicodeDecodeError):
            return data.decode()
    raise ConfigurationError(f"{path} is no compose file", hint=f"a text of at most {_MAX_COMPOSE_BYTES} bytes")


def stopping() -> asyncio.Event:
    """Return what SIGTERM and SIGINT set from now on."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


async def serve_until(
    stopped: asyncio.Event, app: web.Application, host: str, port: int, *, tls: ssl.SSLContext | None = None
) -> None:
    """Serve an application until the event is set; says where on standard error."""
    bound = bind_socket(host, port, command=click.get_current_context().command_path)
    async with listening(app, bound, ConnectionLimits(), tls=tls):
        url = url_of(bound) if tls is None else url_of(bound).replace("http:", "https:", 1)
        print_lines(f"listening on {url}", err=True)
        await stopped.wait()
