"""HTTP interface for a runner's operator, on a Unix socket (RN95).

    POST /credits   {"owner", "amount", "reference"}: adds an amount to an owner's account

Credits go through the running process, because it has the journal locked and its rows are sealed.
The folder has mode 0700, so only the user that runs the runner and root can connect.

Example:
    async with serving_operator(ledger, folder):
        credit = {"owner": did, "amount": 5_000_000, "reference": "invoice 7"}
        account = await ask_operator(folder, credit)
"""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import Json, JsonObject, parse_json, shaped
from sealspace.apps.api_keys import MAX_AMOUNT, parse_owner
from sealspace.errors import InvalidInput
from tee_backend.backend_errors import FolderUnusable, KeepingError

from ..calls.ledger import Ledger

SOCKET = "operator.sock"
MAX_REFERENCE_CHARS = 200

_MAX_BYTES = 16 * 1024


class _Credit(msgspec.Struct):
    owner: str
    amount: int
    reference: str


@asynccontextmanager
async def serving_operator(ledger: Ledger, folder: Path) -> AsyncIterator[None]:
    """Serve the operator's HTTP interface until the `with` block ends.

    The server listens on a Unix socket in `folder`.
    """

    async def credit(request: web.Request) -> web.Response:
        try:
            fields = shaped(parse_json(await request.read(), max_bytes=_MAX_BYTES), _Credit)
            if not 0 < len(fields.reference) <= MAX_REFERENCE_CHARS:
                raise InvalidInput(
                    f"the reference of a credit must have 1 to {MAX_REFERENCE_CHARS} characters"
                )
            if not 0 <= fields.amount <= MAX_AMOUNT:
                raise InvalidInput(f"an amount must be 0 to {MAX_AMOUNT} micro-units")
            owner = parse_owner(fields.owner)
            account = await ledger.credit(owner, fields.amount, reference=fields.reference)
        except InvalidInput as invalid:
            message, status = invalid.message, 400
        except InvalidJson:
            message, status = "a credit needs owner, amount and reference", 400
        except ValueError as conflict:
            message, status = str(conflict), 409
        except KeepingError as error:
            message, status = error.message, 503
        else:
            return web.json_response({"owner": owner, **account.as_json})
        return web.json_response({"error": message}, status=status)

    app = web.Application(client_max_size=_MAX_BYTES)
    app.router.add_post("/credits", credit)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        with _short_socket_path(folder) as path:
            await web.UnixSite(runner, path).start()
        yield
    finally:
        await runner.cleanup()
        (folder / SOCKET).unlink(missing_ok=True)


async def ask_operator(folder: Path, credit: Mapping[str, Json]) -> JsonObject:
    """Ask the runner to credit an account.

    Connects to the runner that uses `folder`, and returns the account.
    """
    try:
        with _short_socket_path(folder) as path:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(path), timeout=aiohttp.ClientTimeout(total=30.0)
                ) as session,
                session.post("http://operator/credits", json=dict(credit)) as answer,
            ):
                account = parse_json(await answer.read(), max_bytes=_MAX_BYTES)
    except (TimeoutError, OSError, aiohttp.ClientError, InvalidJson) as error:
        raise FolderUnusable(
            f"cannot connect to the runner that uses the folder {folder}",
            hint="start the runner as the user who runs this command: sealspace runner serve",
        ) from error
    if "error" in account:
        raise InvalidInput(str(account["error"]))
    return account


@contextmanager
def _short_socket_path(folder: Path) -> Iterator[str]:
    """Yield a short path to the operator's socket.

    The kernel accepts paths of only some 100 characters.
    """
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}/{SOCKET}"
    finally:
        os.close(opened)
