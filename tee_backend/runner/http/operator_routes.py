"""What the operator of a runner asks of it, on a socket in the runner's folder (RN95).

    POST /credits   {"owner", "amount", "reference"}: adds to an account

The journal is one process's alone, and its rows are sealed, so that nobody credits by writing to it. The folder has
mode 0700: whoever can connect is the user that runs the runner, or root.

Example:
    OperatorSurface(ledger).mount(app)
    account = await ask_operator(Path("/data/runner"), {"owner": did, "amount": 5_000_000, "reference": "invoice 7"})
"""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from capabilities.errors import InvalidJson
from capabilities.strict_json import Json, parse_json
from sealspace.apps.api_keys import MAX_AMOUNT, parse_owner
from sealspace.errors import InvalidInput

from ...errors import FolderUnusable, KeepingError
from ..calls.ledger import Ledger
from .routes import to_json

SOCKET: Final = "operator.sock"
MAX_REFERENCE_CHARS: Final = 200

_MAX_BYTES: Final = 16 * 1024
_TIMEOUT_S: Final = 30.0


class OperatorSurface:
    """Answers the operator."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @asynccontextmanager
    async def serving(self, folder: Path) -> AsyncIterator[None]:
        """Listen in a folder until the block ends."""
        app = web.Application(client_max_size=_MAX_BYTES)
        app.router.add_post("/credits", self._credit)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            with _short(folder) as path:
                await web.UnixSite(runner, path).start()
            yield
        finally:
            await runner.cleanup()
            (folder / SOCKET).unlink(missing_ok=True)

    async def _credit(self, request: web.Request) -> web.Response:
        try:
            asked = parse_json(await request.read(), max_bytes=_MAX_BYTES)
            owner, amount, reference = asked["owner"], asked["amount"], asked["reference"]
            if not isinstance(reference, str) or not 0 < len(reference) <= MAX_REFERENCE_CHARS:
                raise InvalidInput(f"a reference has 1 to {MAX_REFERENCE_CHARS} characters")
            if not isinstance(amount, int) or isinstance(amount, bool) or not 0 <= amount <= MAX_AMOUNT:
                raise InvalidInput(f"an amount is 0 to {MAX_AMOUNT} micro-units")
            principal = parse_owner(str(owner))
            account = await self._ledger.credit(principal, amount, reference=reference)
        except InvalidInput as invalid:
            return to_json({"error": invalid.message}, 400)
        except (InvalidJson, KeyError):
            return to_json({"error": "a credit has owner, amount and reference"}, 400)
        except ValueError as conflict:
            return to_json({"error": str(conflict)}, 409)
        except KeepingError as error:
            return to_json({"error": error.message}, 503)
        return to_json({"owner": principal, **account.shown}, 200)


async def ask_operator(folder: Path, credit: Mapping[str, Json]) -> dict[str, Json]:
    """Have the runner of a folder credit an account, and return the account."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        with _short(folder) as path:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(path), timeout=timeout) as session,
                session.post("http://operator/credits", json=dict(credit)) as answer,
            ):
                said = parse_json(await answer.read(), max_bytes=_MAX_BYTES)
    except (TimeoutError, OSError, aiohttp.ClientError, InvalidJson) as error:
        raise FolderUnusable(
            f"no runner answers in {folder}", hint="it has to run, as the same user: sealspace runner serve"
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
