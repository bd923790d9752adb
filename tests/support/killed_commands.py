"""Commands in processes of their own that are killed at one of their writes.

Example:
    async with relay_before(node.url) as relay:
        adopt = ("team", "adopt", "shop", "API_KEY", "--yes")
        status = await ended(home, relay, *adopt, at=1, is_stored=True, counts=is_change)
        assert status == -9
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from patience import PATIENCE_S
from relay import Answer, Relay
from running_node import COMMAND
from tests_support import REPOSITORY


def is_conditional(request: web.Request) -> bool:
    """Return whether a request writes a secret; only these have a condition."""
    return bool({"If-Match", "If-None-Match"} & set(request.headers))


def is_change(request: web.Request) -> bool:
    """Return whether a request changes a secret, a delegation or a network."""
    if request.path in ("/delegate", "/revoke"):
        return True
    return is_conditional(request) or request.path.startswith("/encryption/networks")


async def ended(
    home: Path,
    relay: Relay,
    *arguments: str,
    at: int,
    is_stored: bool,
    counts: Callable[[web.Request], bool],
) -> int:
    """Run a command in the folder of an owner, and kill it at a write.

    Returns the exit status, which is negative if the command was killed: before the node has stored
    the write, or with `is_stored`, after it.
    """
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "--home", str(home), "--node", relay.url, *arguments),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    writes = 0

    async def hold(request: web.Request) -> None:
        nonlocal writes
        writes += counts(request)
        if writes >= at and not is_stored and process.returncode is None:
            process.kill()
            await process.wait()
            raise web.HTTPInternalServerError

    def twist(_: Answer) -> None:
        if writes >= at and is_stored and process.returncode is None:
            process.kill()

    relay.hold, relay.twist = hold, twist
    return await asyncio.wait_for(process.wait(), PATIENCE_S)
