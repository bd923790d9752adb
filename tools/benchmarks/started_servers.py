"""Servers that the benchmark starts: our node, and a bare aiohttp that shows what HTTP alone
costs."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tee_backend.evidence.simulated import SimulatedPlatform

_NODE = (
    "import sys; sys.path[:] = sys.argv.pop(1).split('\\n'); from sealspace.cli.root import main;"
    " sys.exit(main())"
)
# A body of 1 KiB for whoever posts, as a node answers a read, with nothing in between.
_BARE = """
import asyncio, sys
from aiohttp import web

async def answer(request):
    return web.Response(body=b"v" * 1024, content_type="application/octet-stream")

async def main():
    app = web.Application()
    app.router.add_post("/invoke", answer)
    runner = web.AppRunner(app, access_log=None, max_field_size=65536, max_line_size=65536)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print("listening on http://127.0.0.1:%d" % runner.addresses[0][1], file=sys.stderr, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
_LISTENING = "listening on "
COMPILED_ONCE = {"PYTHONDONTWRITEBYTECODE": ""}
"""Lets a node keep its compiled modules, as an installed one does: it would compile them at each
start."""
_START_LIMIT_S = 120.0  # on a busy machine a node has taken a minute
_STOP_LIMIT_S = 20.0


class NotServing(Exception):
    """A server that was started does not listen."""


@contextlib.contextmanager
def own_node(
    folder: Path,
    *options: str,
    workers: int = 1,
    program: Path | None = None,
    **settings: str,
) -> Iterator[tuple[str, int]]:
    """Run `sealspace serve` on a folder; give its address and its process id.

    Args:
        folder: of the store; new, or one that a node has left.
        options: further ones of the command.
        workers: processes that answer.
        program: of another installation, as `installed_commit.install` returns it; this one if
            None.
        settings: variables of the environment.
    """
    bound = ["--host", "127.0.0.1", "--port", "0", "--workers", str(workers)]
    arguments = ["serve", "--data", str(folder), *bound, *options]
    # All requests come from one address, and all delegations from one signer.
    lifted = ("UNAUTHENTICATED_PER_MINUTE", "CHALLENGES_PER_MINUTE", "DELEGATIONS_PER_SIGNER")
    variables = {f"SEALSPACE_LIMITS__{name}": "1000000000" for name in lifted}
    unbounded = ("DELEGATION_BYTES_PER_SIGNER", "UNHOSTED_BYTES_PER_SIGNER")
    variables |= {f"SEALSPACE_LIMITS__{name}": "0" for name in unbounded} | settings
    command = own_command() if program is None else [str(program)]
    with _server([*command, *arguments], cwd=folder.parent, **variables) as found:
        yield found


def own_command() -> list[str]:
    """Return the command `sealspace` of the working tree, without arguments."""
    paths = "\n".join(path for path in sys.path if path and path != str(Path(__file__).parent))
    return [sys.executable, "-P", "-c", _NODE, paths]


@contextlib.contextmanager
def bare_server() -> Iterator[tuple[str, int]]:
    """Run an aiohttp that answers every post with 1 KiB."""
    with _server([sys.executable, "-P", "-c", _BARE], cwd=None) as found:
        yield found


def trusting(folder: Path, platform: SimulatedPlatform, *, now: float) -> tuple[str, ...]:
    """Write what a node needs to trust a simulated platform, and return the options that name
    it."""
    root, collateral = folder / "root.pem", folder / "collateral"
    root.write_text(platform.root_pem)
    collateral.mkdir()
    (collateral / "platform.json").write_bytes(platform.collateral_json(now))
    return ("--trust-root", str(root), "--collateral", str(collateral))


@contextlib.contextmanager
def _server(command: list[str], *, cwd: Path | None, **variables: str) -> Iterator[tuple[str, int]]:
    environment = {
        name: text for name, text in os.environ.items() if not name.startswith("SEALSPACE_")
    }
    environment |= COMPILED_ONCE | variables
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=cwd,
    )
    said: list[str] = []
    listening = threading.Event()

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line.rstrip())
            if line.startswith(_LISTENING):
                listening.set()
        listening.set()

    reader = threading.Thread(target=listen, daemon=True)
    reader.start()
    try:
        listening.wait(_START_LIMIT_S)
        url = next(
            (line.removeprefix(_LISTENING) for line in said if line.startswith(_LISTENING)), None
        )
        if url is None:
            raise NotServing("\n".join(said[-5:]) or "it said nothing")
        yield url, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()
