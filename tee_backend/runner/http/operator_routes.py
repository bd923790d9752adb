"""What the operator of a runner asks of it, on a socket in the runner's folder (RN95).

    POST /credits   {"owner", "amount", "reference"}: adds to an account

The journal is one process's alone, and its rows are sealed, so that nobody credits by writing to
it. The folder has mode 0700: whoever can connect is the user that runs the runner, or root.

Example:
    async with serving_operator(ledger, folder):
        account = await ask_operator(folder, {"owner": did, "amount": 5_000_000, "reference": "invoice 7"})
"""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
from aiohttp import web

from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import Json, parse_json, shaped
from sealspace.apps.api_keys import MAX_AMOUNT, parse_owner
from sealspace.errors import InvalidInput

from ...backend_errors import FolderUnusable, KeepingError
from ..calls.ledger import Ledger

SOCKET: Final = "operator.sock"
MAX_REFERENCE_CHARS: Final = 200

_MAX_BYTES: Final = 16 * 1024
_TIMEOUT_S: Final = 30.0


class _Credit(msgspec.Struct):
    owner: str
    amount: int
    reference: str


@asynccontextmanager
async def serving_operator(ledger: Ledger, folder: Path) -> AsyncIterator[None]:
    """Answer the operator on a socket in a folder until the block ends."""

    async def credit(request: web.Request) -> web.Response:
        try:
            asked = shaped(parse_json(await request.read(), max_bytes=_MAX_BYTES), _Credit)
            if not 0 < len(asked.reference) <= MAX_REFERENCE_CHARS:
                raise InvalidInput(f"a reference has 1 to {MAX_REFERENCE_CHARS} characters")
            if not 0 <= asked.amount <= MAX_AMOUNT:
                raise InvalidInput(f"an amount is 0 to {MAX_AMOUNT} micro-units")
            owner = parse_owner(asked.owner)
            account = await ledger.credit(owner, asked.amount, reference=asked.reference)
        except InvalidInput as invalid:
            return web.json_response({"error": invalid.message}, status=400)
        except InvalidJson:
            return web.json_response(
                {"error": "a credit has owner, amount and reference"}, status=400
            )
        except ValueError as conflict:
            return web.json_response({"error": str(conflict)}, status=409)
        except KeepingError as error:
            return web.json_response({"error": error.message}, status=503)
        return web.json_response({"owner": owner, **account.shown})

    app = web.Application(client_max_size=_MAX_BYTES)
    app.router.add_post("/credits", credit)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        with _short(folder) as path:
            await web.UnixSite(runner, path).start()
        yield
    finally:
        await runner.cleanup()
        (folder / SOCKET).unlink(missing_ok=True)


async def ask_operator(folder: Path, credit: Mapping[str, Json]) -> dict[str, Json]:
    """Have the runner of a folder credit an account, and return the account."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        with _short(folder) as path:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(path), timeout=timeout
                ) as session,
                session.post("http://operator/credits", json=dict(credit)) as answer,
            ):
                said = parse_json(await answer.read(), max_bytes=_MAX_BYTES)
    except (TimeoutError, OSError, aiohttp.ClientError, InvalidJson) as error:
        raise FolderUnusable(
            f"no runner answers in {folder}",
            hint="it has to run, as the same user: sealspace runner serve",
        ) from error
    if "error" in said:
        raise InvalidInput(str(said["error"]))
    return said


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """Return the socket's path by an open folder: the kernel takes a hundred characters at most."""
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{opened}/{SOCKET}"
    finally:
        os.close(opened)
