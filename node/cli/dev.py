"""The command `sealspace dev`, which runs a node for development.

It also runs a simulated backend, and logs in as an owner.

Everything is on loopback and in one folder, and ends with the command. The node is configured as in
production except for its trust root, the certificate of the simulated platform. Anyone with access
to the folder can sign quotes that this node accepts.
"""

import asyncio
import hashlib
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes

import click
from aiohttp import web

from capabilities.strict_json import JsonObject
from sealspace.cli.options.paths import NEW_FOLDER
from sealspace.cli.shared import HOME_VARIABLE
from sealspace.cli.terminal import print_result, tell
from sealspace.client import Client
from sealspace.errors import DecryptDenied, SealspaceError
from sealspace.service.command_errors import ProcessFailed
from sealspace.service.listening_socket import bind_socket, console_url, url_of
from sealspace.session import key_session
from serving.listener import ConnectionLimits, listening
from tee_backend.backend import Backend
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import SimulatedSource

from ..config.loading import child_environment
from ..processes.launch import own_program

_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 20.0
_LISTENING = "listening on "
_HOST = "127.0.0.1"
_COMPOSE = f"services:\n  example:\n    image: sealspace-example@sha256:{'0' * 64}\n"
_SECRET = "API_KEY"  # noqa: S105  # the name of a secret


@click.command(
    epilog="Examples: `sealspace dev`; `sealspace dev --port 0 --secret DB_PASSWORD --data ./dev`.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port of the node.",
)
@click.option(
    "--secret",
    "name",
    metavar="NAME",
    default=_SECRET,
    show_default=True,
    help="Name of the secret that the backend reads.",
)
@click.option(
    "--data",
    metavar="DIR",
    type=NEW_FOLDER,
    help="Folder for all data, kept for the next start; by default a temporary folder, removed at"
    " the end.",
)
def dev(port: int, name: str, data: Path | None) -> None:
    """Run a node and a simulated backend for development.

    The command also logs in as an owner. Prints the three commands to run next in another terminal.
    Ctrl-C stops node and backend.
    """
    # Report a port in use before anything is created.
    bind_socket(_HOST, port, command="sealspace dev").close()
    called = Path(sys.argv[0])
    is_found = called.name != "sealspace" or shutil.which("sealspace") is not None
    # The program as the user's shell calls it, for the printed commands.
    program = "sealspace" if is_found else shlex.quote(str(called.absolute()))
    folder = Path(tempfile.mkdtemp(prefix="sealspace-dev-")) if data is None else data.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        asyncio.run(_run(folder, program, port=port, name=name, is_kept=data is not None))
    except (KeyboardInterrupt, asyncio.CancelledError):
        tell("ended")
    finally:
        if data is None:
            shutil.rmtree(folder)


async def _run(folder: Path, program: str, *, port: int, name: str, is_kept: bool) -> None:
    """Start the node and the backend, log in, print the next commands, and wait for Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None  # asyncio.run made it
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    platform = folder / "platform"
    home = folder / "owner"
    trust = (
        "--trust-root",
        str(platform / "root-ca.pem"),
        "--collateral",
        str(platform / "collateral"),
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_running(folder, "backend", "simulate", str(platform)))
        node = await stack.enter_async_context(
            _running(
                folder,
                "serve",
                "--data",
                str(folder / "node"),
                "--host",
                _HOST,
                "--port",
                str(port),
                *trust,
            )
        )
        backend = await _start_backend(stack, node.url, platform, name)
        login = ["login", node.url, "--home", str(home), *trust]
        if not (home / "wallet.key").exists():  # the first start in this folder
            login.append("--new")
        await stack.enter_async_context(_running(folder, *login))
        commands = [
            f"export {HOME_VARIABLE}={shlex.quote(str(home))}",
            f"{program} secret put {name}",
            f"{program} backend grant {backend}",
        ]
        tell(
            f"node     {node.url}",
            f"console  {console_url(node.url)}",
            f"backend  {backend} (runs in a simulated trust domain and reads the secret {name})",
        )
        tell(f"owner    {home}", "", "next, in another terminal:")
        print_result(
            {
                "node": node.url,
                "console": console_url(node.url),
                "backend": backend,
                "home": str(home),
                "commands": commands,
            },
            commands,
        )
        sys.stdout.flush()
        tell(
            f"then make the backend read the secret: curl {backend}",
            f"or pass the secret to a command of your own: {program} run -- COMMAND",
            f"or open the console, signed in as this owner: {program} console",
        )
        if is_kept:
            tell("Ctrl-C stops node and backend")
        else:
            tell(f"Ctrl-C stops node and backend, and removes {folder}")
        await node.read()  # returns only if the node ends by itself
        raise node.failure()


@asynccontextmanager
async def _running(folder: Path, *arguments: str) -> "AsyncIterator[_Process]":
    """Run a sealspace command in a subprocess.

    The block begins when a service listens, or when a command without a service has succeeded. The
    process is stopped at the end of the block if it still runs.
    """
    process = await asyncio.create_subprocess_exec(
        *own_program("from sealspace.cli.root import main; sys.exit(main())", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(),  # all of its settings are arguments
        cwd=folder,
        start_new_session=True,  # Ctrl-C reaches only `dev`, which stops its commands in order
    )
    assert process.stderr is not None  # stderr=PIPE
    running = _Process(
        f"sealspace {arguments[0]}",
        process.stderr,
        folder / ("node.log" if arguments[0] == "serve" else "commands.log"),
    )
    try:
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                await running.read(until=_LISTENING)
        except TimeoutError:
            raise ProcessFailed(
                f"{running.name} could not be started within {_START_LIMIT_S:.0f} seconds",
                hint="run sealspace dev again when this machine is less busy",
            ) from None
        # Without a line that names an address, the stream has ended, and so does the command.
        if not running.url and await process.wait() != 0:
            raise running.failure()
        yield running
    finally:
        if process.returncode is None:
            reading = asyncio.create_task(running.read())  # a full pipe would block the process
            # The signals become more urgent: at the second SIGTERM, a node kills its processes.
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
                with suppress(TimeoutError, ProcessLookupError):
                    # `Process.terminate` could reap a process that has just ended, and the event
                    # loop would lose its status.
                    os.kill(process.pid, number)
                    async with asyncio.timeout(_STOP_LIMIT_S):
                        await process.wait()
                        break  # it has ended: no further signal is needed
            await reading


@dataclass
class _Process:
    """A sealspace subprocess whose standard error is logged to a file."""

    name: str
    _stderr: asyncio.StreamReader
    _log: Path
    url: str = ""
    _message: str = "ended"
    _next_step: str = "run sealspace dev again"

    async def read(self, *, until: str | None = None) -> None:
        """Copy the subprocess's standard error to the log file.

        Copying ends with the stream, or at a line that starts with `until`.

        Args:
            until: The prefix; None to read to the end. The rest of the line becomes `url`.
        """
        with self._log.open("ab", buffering=0) as log:
            async for line in self._stderr:
                log.write(line)
                text = line.decode(errors="replace").strip()
                if until is not None and text.startswith(until):
                    self.url = text.removeprefix(until)
                    return
                # Of an error, a command prints `sealspace: <what>` and `next: <what to do>`.
                kind, _, message = text.partition(": ")
                if kind == "sealspace":
                    self._message = f"ended: {message}"
                elif kind == "next":
                    self._next_step = message

    def failure(self) -> ProcessFailed:
        """Return the last error that the subprocess printed.

        It includes the hint of that error.
        """
        return ProcessFailed(f"{self.name} {self._message}", hint=self._next_step)


async def _start_backend(stack: AsyncExitStack, node: str, platform: Path, name: str) -> str:
    """Start a simulated backend and return its address.

    The backend reads one secret.
    """
    source = SimulatedSource.load(platform, compose=_COMPOSE)
    backend = await stack.enter_async_context(
        Backend(Client(node, session=key_session(token_bytes(32))), source)
    )

    async def state(_: web.Request) -> web.Response:
        status = "not granted"
        for owner in backend.owners:
            try:
                value = await backend.read_secret(owner, name)
                data = value.encode() if isinstance(value, str) else value
                status = f"read, sha256 {hashlib.sha256(data).hexdigest()[:16]}"
            except DecryptDenied as error:  # the node's own words say why
                status = f"refused: {error.refusal.text}"
            except SealspaceError as error:
                status = f"refused: {error.message}"
        return web.json_response({name: status})

    manifest: JsonObject = {
        "app_id": "com.example.backend",
        "name": "Example backend",
        "did": backend.did,
        "defaults": False,
        "secrets": {name: True},
    }
    try:
        surface = BackendSurface(
            source, did=backend.did, manifest=manifest, compose=_COMPOSE, on_grant=backend.accept
        )
    except ValueError as error:
        raise ProcessFailed(
            f"cannot publish the backend: {error}",
            hint="use a name in capitals and underscores, such as API_KEY",
        ) from None
    app = web.Application()
    app.router.add_get("/", state)
    surface.mount(app)
    bound = bind_socket(_HOST, 0, command="sealspace dev")
    await stack.enter_async_context(listening(app, bound, ConnectionLimits()))
    return url_of(bound)
