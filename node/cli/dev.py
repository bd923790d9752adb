"""`sealspace dev`: a node, a simulated trust domain with a backend in it, and an owner, for building against.

All of it is on loopback, in one folder, and ends with the command. The node is configured as in production but for its
trust root: the certificate of the simulated platform, which believes whoever has the folder.
"""

import asyncio
import hashlib
import shlex
import shutil
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_bytes
from typing import Final

import click
from aiohttp import web

from capabilities.strict_json import Json
from sealspace.cli.errors import ProcessFailed
from sealspace.cli.listening_socket import bind_socket, url_of
from sealspace.cli.shared import HOME_VARIABLE, shared
from sealspace.cli.terminal import print_json, print_lines, words
from sealspace.client import Client
from sealspace.errors import DecryptDenied, SealspaceError
from sealspace.session import key_session
from tee_backend.backend import Backend
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import SimulatedSource
from tee_backend.listener import ConnectionLimits, listening

from .own_process import OwnProcess

_HOST: Final = "127.0.0.1"
_COMPOSE: Final = "services:\n  example:\n    image: sealspace-example\n"
_SECRET: Final = "API_KEY"  # noqa: S105  # the name of a secret


@click.command("dev", epilog="Examples: `sealspace dev`; `sealspace dev --port 0 --secret DB_PASSWORD --data ./dev`.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port of the node.")
@click.option("--secret", "name", metavar="NAME", default=_SECRET, show_default=True, help="What the backend asks for.")
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to keep everything in, and to start from again; a temporary one, removed at the end, by default.",
)
def dev(port: int, name: str, data: Path | None) -> None:
    """Run a node, a simulated platform and a backend on it, with an owner who is logged in.

    Prints the three commands that come next, for another terminal. Ctrl-C ends everything.
    """
    bind_socket(_HOST, port, command="sealspace dev").close()  # before anything is made; says so if the port is taken
    folder = Path(tempfile.mkdtemp(prefix="sealspace-dev-")) if data is None else data.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        asyncio.run(_run(folder, port=port, name=name, is_kept=data is not None))
    except (KeyboardInterrupt, asyncio.CancelledError):
        words("ended")
    finally:
        if data is None:
            shutil.rmtree(folder)


async def _run(folder: Path, *, port: int, name: str, is_kept: bool) -> None:
    task = asyncio.current_task()
    assert task is not None  # a coroutine of asyncio.run is one
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    platform, home = folder / "platform", folder / "owner"
    trust = ("--trust-root", str(platform / "root-ca.pem"), "--collateral", str(platform / "collateral"))
    async with AsyncExitStack() as stack:
        node, once = OwnProcess("node", folder), OwnProcess("commands", folder)
        await once.run("backend", "simulate", str(platform))
        stack.push_async_callback(node.stop)
        await node.start("serve", "--data", str(folder / "node"), "--host", _HOST, "--port", str(port), *trust)
        backend = await _start_backend(stack, node.url, platform, name)
        new = () if (home / "wallet.key").exists() else ("--new",)
        await once.run("login", node.url, "--home", str(home), *new, *trust)
        _announce(node.url, backend, home, name, is_kept=is_kept)
        await node.ended()


async def _start_backend(stack: AsyncExitStack, node: str, platform: Path, name: str) -> str:
    """Serve a backend that asks for one secret, until the stack ends; return its address."""
    source = SimulatedSource.load(platform, compose=_COMPOSE)
    backend = await stack.enter_async_context(Backend(Client(node, session=key_session(token_bytes(32))), source))

    async def state(_: web.Request) -> web.Response:
        said = "not granted"
        for owner in backend.owners:
            try:
                value = await backend.read_secret(owner, name)
                data = value.encode() if isinstance(value, str) else value
                said = f"read, sha256 {hashlib.sha256(data).hexdigest()[:16]}"
            except SealspaceError as error:
                said = f"refused: {error.refusal.text if isinstance(error, DecryptDenied) else error.message}"
        return web.json_response({name: said})

    manifest: dict[str, Json] = {
        "app_id": "com.example.backend",
        "name": "Example backend",
        "did": backend.did,
        "defaults": False,
        "secrets": {name: True},
    }
    try:
        surface = BackendSurface(source, did=backend.did, manifest=manifest, compose=_COMPOSE, on_grant=backend.take_up)
    except ValueError as error:
        raise ProcessFailed(f"no backend to publish: {error}", hint="secrets are named like API_KEY") from None
    app = web.Application()
    app.router.add_get("/", state)
    surface.mount(app)
    bound = bind_socket(_HOST, 0, command="sealspace dev")
    await stack.enter_async_context(listening(app, bound, ConnectionLimits()))
    return url_of(bound)


def _announce(node: str, backend: str, home: Path, name: str, *, is_kept: bool) -> None:
    program = _program()
    commands = [
        f"export {HOME_VARIABLE}={shlex.quote(str(home))}",
        f"{program} secret put {name}",
        f"{program} backend grant {backend}",
    ]
    if shared().as_json:
        print_json({"node": node, "backend": backend, "home": str(home), "commands": commands})
        return
    words(f"node     {node}", f"backend  {backend}, in a simulated trust domain; asks for {name}", f"owner    {home}")
    words("", "next, in another terminal:")
    print_lines(*commands)
    sys.stdout.flush()
    words(f"the backend reads it then: curl {backend}; and your own programs: {program} run -- COMMAND")
    words("Ctrl-C ends everything" + ("" if is_kept else f" and removes {home.parent}"))


def _program() -> str:
    """Return how a shell calls this program."""
    found = shutil.which("sealspace")
    called = Path(sys.argv[0])
    if found is None and called.name == "sealspace":
        return shlex.quote(str(called.absolute()))
    return "sealspace"
