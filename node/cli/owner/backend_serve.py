"""`sealspace backend serve`: an example backend for trying out grants; in a trust domain, or in a simulated one.

It does what every backend does: it publishes evidence, accepts grants, attests, and reads what it was granted; with
`--keep` again after a restart. `GET /` tries to read everything now and reports the results, never a value.
"""

import asyncio
import hashlib
import json
import logging
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import click
from aiohttp import web

from capabilities.ambient import SystemClock, SystemEntropy
from capabilities.strict_json import Json
from sealspace.client import Client
from sealspace.errors import DecryptDenied, SealspaceError
from sealspace.portable import PortableDelegation
from sealspace.printable import printable
from sealspace.session import key_session
from tee_backend.backend import Backend
from tee_backend.backend_key import KeyFile
from tee_backend.evidence.dstack import DstackSource
from tee_backend.evidence.errors import EvidenceSourceError
from tee_backend.evidence.simulated import PlatformFolderError, SimulatedPlatform, SimulatedSource
from tee_backend.evidence.source import EvidenceSource, KeySource
from tee_backend.evidence.tsm import TsmSource
from tee_backend.publishing import BackendSurface

from ...errors import ConfigurationError, ProcessFailed
from ...listening_socket import bind_socket, url_of
from ..paths import FILE, NEW_FOLDER, read_named
from ..shared import shared
from ..terminal import print_json, print_lines, words

EXAMPLE_COMPOSE: Final = "services:\n  example:\n    image: sealspace-example\n"
_MAX_COMPOSE_BYTES: Final = 64 * 1024

Quotes = Literal["dstack", "tsm"]
Keys = Literal["platform", "file"]


@click.command("simulate")
@click.argument("folder", type=NEW_FOLDER)
def simulate(folder: Path) -> None:
    """Make a simulated platform in DIR, or renew its collateral for 30 days.

    Its quotes have the genuine format and prove nothing: whoever has the folder can make them. A node believes them
    only when it is started with the platform's root certificate.
    """
    try:
        platform = SimulatedPlatform.load(folder) if folder.exists() else _made(folder)
        collateral = folder / "collateral"
        collateral.mkdir(exist_ok=True)
        (collateral / "platform.json").write_bytes(platform.collateral_json(SystemClock().now()))
    except (OSError, PlatformFolderError) as error:
        reason = error.detail if isinstance(error, PlatformFolderError) else error.strerror
        raise ConfigurationError(f"no simulated platform in {folder}: {reason}", hint="name a new folder") from None
    trust = f"--trust-root {folder}/root-ca.pem --collateral {collateral}"
    words(
        f"a node that believes it: sealspace serve {trust}",
        f"an owner who does: sealspace login {trust} …",
        f"a backend on it: sealspace backend serve --simulate {folder} …",
    )
    if shared().as_json:
        print_json({"folder": str(folder), "trustRoot": f"{folder}/root-ca.pem", "collateral": str(collateral)})


def _made(folder: Path) -> SimulatedPlatform:
    platform = SimulatedPlatform.from_seed(SystemEntropy().token(32))
    platform.save(folder)
    return platform


@click.command(
    "serve",
    epilog="Example: `sealspace backend simulate tee`, then `sealspace backend serve --simulate tee --node "
    "http://127.0.0.1:8000 --secret API_KEY`.",
)
@click.option(
    "--secret", "secrets", metavar="NAME", multiple=True, required=True, help="A secret to ask for; repeatable."
)
@click.option(
    "--simulate", "platform_folder", type=NEW_FOLDER, help="Simulated platform; without it this machine's own is asked."
)
@click.option(
    "--quotes",
    type=click.Choice(["dstack", "tsm"]),
    default="dstack",
    show_default=True,
    help="How this machine's own is asked: a guest agent, or the kernel.",
)
@click.option("--compose", "compose_file", type=FILE, help="Compose file: in a simulated domain, the code that runs.")
@click.option(
    "--keep",
    type=NEW_FOLDER,
    help="Where grants are kept, so that a restart needs no owner; without it they end with the process.",
)
@click.option(
    "--key",
    "key_kind",
    type=click.Choice(["platform", "file"]),
    default="platform",
    show_default=True,
    help="With --keep: where the backend's key comes from, the platform's key service or a file in DIR.",
)
@click.option("--name", default="Example backend", show_default=True, help="What owners are shown.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; TLS is a proxy's matter.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 takes any free one."
)
def serve(
    secrets: tuple[str, ...],
    platform_folder: Path | None,
    quotes: Quotes,
    compose_file: Path | None,
    keep: Path | None,
    key_kind: Keys,
    name: str,
    host: str,
    port: int,
) -> None:
    """Run an example backend until SIGTERM or SIGINT: it publishes evidence, takes grants, and reads what it got.

    Prints `listening on http://HOST:PORT` on standard error. `GET /` says what it can read at this moment. Without
    --keep, its key lives as long as it runs.
    """
    node = shared().node
    if node is None:
        raise click.UsageError("name the node at which owners grant: --node URL")
    compose = EXAMPLE_COMPOSE if compose_file is None else _read_compose(compose_file)
    source, shown = _source(platform_folder, quotes, compose, is_named=compose_file is not None)
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    asyncio.run(_serve(_Program(_backend(node, source, keep, key_kind), secrets, source, shown, name), host, port))


def _backend(node: str, source: EvidenceSource, keep: Path | None, key_kind: Keys) -> Backend:
    if keep is None:
        return Backend(Client(node, session=key_session(SystemEntropy().token(32))), source)
    return Backend.open(node, source, folder=keep, keys=_keys(source, keep, key_kind))


def _source(folder: Path | None, quotes: Quotes, compose: str, *, is_named: bool) -> tuple[EvidenceSource, str | None]:
    """Return the source of quotes, and the compose file to show: in a real domain only one that was named."""
    try:
        if folder is not None:
            return SimulatedSource.load(folder, compose=compose), compose
        source: EvidenceSource = DstackSource.find() if quotes == "dstack" else TsmSource()
    except PlatformFolderError as error:
        raise ConfigurationError(error.detail, hint=f"sealspace backend simulate {folder}") from None
    except EvidenceSourceError as error:
        raise ConfigurationError(
            f"this machine gives no quotes: {error.detail}", hint="to try it out: --simulate FOLDER"
        ) from None
    return source, compose if is_named else None


def _keys(source: EvidenceSource, folder: Path, kind: Keys) -> KeySource:
    """Return where the key of a backend that keeps its grants comes from."""
    if kind == "file":
        return KeyFile(folder / "backend.key")
    if not isinstance(source, KeySource):
        raise ConfigurationError("this platform has no key service", hint="add --key file")
    return source


def _read_compose(path: Path) -> str:
    data = read_named(path, most_bytes=_MAX_COMPOSE_BYTES)
    if len(data) <= _MAX_COMPOSE_BYTES:
        with suppress(UnicodeDecodeError):
            return data.decode()
    raise ConfigurationError(f"{path} is no compose file", hint=f"a text of at most {_MAX_COMPOSE_BYTES} bytes")


@dataclass
class _Program:
    """The program of the example backend."""

    backend: Backend
    secrets: tuple[str, ...]
    source: EvidenceSource
    compose: str | None
    name: str

    async def take_up(self, *portables: PortableDelegation) -> None:
        """Accept grants and read what they give; what cannot be read is reported to the sender."""
        await self.backend.take_up(*portables)
        for name in self.secrets:
            for portable in portables:
                if any(resource.path.endswith(f"/{name}") for resource in portable.resources):
                    read = await self._read(portable.owner, name)
                    print_lines(f"{name} of {printable(portable.owner)}: {read}", err=True)

    async def _read(self, owner: str, name: str) -> str:
        value = await self.backend.read_secret(owner, name)
        return f"read, sha256 {hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()[:16]}"

    async def state(self, request: web.Request) -> web.Response:
        """GET / -> for each owner and secret, whether it can be read now."""
        shown: dict[str, Json] = {}
        for owner in self.backend.owners:
            for name in self.secrets:
                try:
                    shown[name] = await self._read(owner, name)
                except DecryptDenied as denial:
                    shown[name] = f"refused: {denial.refusal.text}"
                except SealspaceError as error:
                    shown[name] = f"refused: {error.message}"
                except EvidenceSourceError as error:
                    shown[name] = f"not attested: {error}"
        return web.json_response(shown or dict.fromkeys(self.secrets, "not granted"), dumps=_dumps)


def _dumps(value: object) -> str:
    return json.dumps(value) + "\n"


async def _serve(program: _Program, host: str, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with program.backend:
        runner = runner_of(_application(program))
        await runner.setup()
        try:
            bound = bind_socket(host, port)
            await web.SockSite(runner, bound).start()
            print_lines(f"listening on {url_of(bound)}", err=True)
            await stopped.wait()
        finally:
            await runner.cleanup()


def runner_of(app: web.Application) -> web.AppRunner:
    """Return the runner of the backend: bodies of unauthenticated clients are not decompressed."""
    return web.AppRunner(app, access_log=None, shutdown_timeout=1, auto_decompress=False)


def _application(program: _Program) -> web.Application:
    manifest: dict[str, Json] = {
        "app_id": "com.example.backend",
        "name": program.name,
        "did": program.backend.did,
        "defaults": False,
        "secrets": dict.fromkeys(program.secrets, True),
    }
    app = web.Application()
    app.router.add_get("/", program.state)
    try:
        surface = BackendSurface(
            program.source,
            did=program.backend.did,
            manifest=manifest,
            compose=program.compose,
            on_grant=program.take_up,
        )
    except ValueError as error:
        raise ProcessFailed(f"no backend to publish: {error}", hint="secrets are named like API_KEY") from None
    surface.mount(app)
    return app
