"""`sealspace backend serve`: an example backend for trying out grants; in a trust domain, or in a simulated one.

It does what every backend does: it publishes evidence, accepts grants, attests, and reads what it was granted; with
`--keep` again after a restart. `GET /` tries to read everything now and reports the results, never a value.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
from aiohttp import web

from capabilities.ambient import SystemClock, SystemEntropy
from capabilities.strict_json import Json
from sealspace.cli.errors import ConfigurationError, ProcessFailed
from sealspace.cli.paths import NEW_FOLDER
from sealspace.cli.shared import shared
from sealspace.cli.terminal import print_json, print_lines, words
from sealspace.client import Client
from sealspace.errors import DecryptDenied, SealspaceError
from sealspace.printable import printable
from sealspace.session import key_session
from sealspace.wire.portable import PortableDelegation

from ..backend import Backend
from ..backend.publishing import BackendSurface
from ..evidence.errors import EvidenceSourceError
from ..evidence.simulated import PlatformFolderError, SimulatedPlatform
from .trust_domain import Domain, Keys, domain_options, serve_until, stopping


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
@domain_options
def serve(
    secrets: tuple[str, ...],
    keep: Path | None,
    key_kind: Keys,
    name: str,
    domain: Callable[[], Domain],
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
    found = domain()
    asyncio.run(_serve(_Program(_backend(node, found, keep, key_kind), secrets, found, name), host, port))


def _backend(node: str, domain: Domain, keep: Path | None, key_kind: Keys) -> Backend:
    if keep is None:
        return Backend(Client(node, session=key_session(SystemEntropy().token(32))), domain.source)
    return Backend.open(node, domain.source, folder=keep, keys=domain.keys(keep, key_kind))


@dataclass
class _Program:
    """The program of the example backend."""

    backend: Backend
    secrets: tuple[str, ...]
    domain: Domain
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
    stopped = stopping()
    async with program.backend:
        await serve_until(stopped, _application(program), host, port)


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
            program.domain.source,
            did=program.backend.did,
            manifest=manifest,
            compose=program.domain.compose,
            on_grant=program.take_up,
        )
    except ValueError as error:
        raise ProcessFailed(f"no backend to publish: {error}", hint="secrets are named like API_KEY") from None
    surface.mount(app)
    return app
