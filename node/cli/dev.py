"""`sealspace dev`: a node, a simulated trust domain with a backend in it, and an owner, for building against.

All of it is on loopback, in one folder, and ends with the command. The node is configured as in production but for its
trust root: the certificate of the simulated platform, which believes whoever has the folder.
"""

import asyncio
import hashlib
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections import deque
from contextlib import AsyncExitStack, suppress
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

_START_LIMIT_S: Final = 60.0
_STOP_LIMIT_S: Final = 20.0
_LISTENING: Final = "listening on "
_LINES_KEPT: Final = 20
_CODE: Final = (
    "import sys; sys.path[:] = sys.argv.pop(1).split('\\n'); from sealspace.cli.root import main; sys.exit(main())"
)
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
        await _run_command(stack, folder, "backend", "simulate", str(platform))
        data = ("--data", str(folder / "node"))
        node = await _run_command(stack, folder, "serve", *data, "--host", _HOST, "--port", str(port), *trust)
        backend = await _start_backend(stack, node.url, platform, name)
        new = () if (home / "wallet.key").exists() else ("--new",)
        await _run_command(stack, folder, "login", node.url, "--home", str(home), *new, *trust)
        _announce(node.url, backend, home, name, is_kept=is_kept)
        await node.ended()


class _Process:
    """A command of ours in a session of its own, so that Ctrl-C reaches `dev` alone, which stops it in order."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.url = ""
        self._folder = folder
        self._arguments = arguments
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it listens, or to its end if it does not serve; its settings are its arguments
        alone."""
        self._process = await asyncio.create_subprocess_exec(
            # The process imports from where this one does, never from the current directory.
            *(sys.executable, "-P", "-c", _CODE, "\n".join(path for path in sys.path if path), *self._arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if not name.startswith("SEALSPACE_")},
            cwd=self._folder,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                await self._read(until=_LISTENING)
        except TimeoutError:
            raise ProcessFailed(f"{self._name} does not start", hint="start it again, when less runs here") from None
        if not self.url and await self._process.wait() != 0:
            raise self._failure()

    async def ended(self) -> None:
        """Keep the last lines that it writes until it ends by itself, which raises ProcessFailed."""
        await self._read()
        raise self._failure()

    async def stop(self) -> None:
        """Stop it in order; kill every process of its session if it does not stop in time."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        reading = asyncio.create_task(self._read())  # a full pipe would keep it from ending
        with suppress(TimeoutError, ProcessLookupError):
            # Not by `Process.terminate`: it would reap a process that has just ended before the event loop does.
            os.kill(process.pid, signal.SIGTERM)
            async with asyncio.timeout(_STOP_LIMIT_S):
                await process.wait()
        while members := _session_members(process.pid):
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.01)
        await reading

    @property
    def _name(self) -> str:
        return f"sealspace {self._arguments[0]}"

    async def _read(self, *, until: str | None = None) -> None:
        assert self._process is not None and self._process.stderr is not None  # stderr=PIPE
        log = self._folder / ("node.log" if self._arguments[0] == "serve" else "commands.log")
        with log.open("ab", buffering=0) as kept:
            async for line in self._process.stderr:
                kept.write(line)
                text = line.decode(errors="replace").strip()
                self._lines.append(text)
                if until is not None and text.startswith(until):
                    self.url = text.removeprefix(until)
                    return

    def _failure(self) -> ProcessFailed:
        """Return what the process said when it ended, if it said so in our two lines."""
        happened, next_step = f"{self._name} ended", "start it again"
        for line in self._lines:
            if line.startswith("sealspace: "):
                happened = f"{self._name} ended: {line.removeprefix('sealspace: ')}"
            elif line.startswith("next: "):
                next_step = line.removeprefix("next: ")
        return ProcessFailed(happened, hint=next_step)


def _session_members(session: int) -> list[int]:
    """Return the live processes of a session; its leader, which would restart the others, is first."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # After the name in brackets: state, parent, group, session.
                state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(its_session) == session and state not in "ZX":
                    members.append(int(entry.name))
    return sorted(members, key=lambda pid: pid != session)


async def _run_command(stack: AsyncExitStack, folder: Path, *arguments: str) -> _Process:
    """Start a command that the stack stops; one that does not serve has ended then."""
    process = _Process(folder, *arguments)
    stack.push_async_callback(process.stop)
    await process.start()
    return process


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
