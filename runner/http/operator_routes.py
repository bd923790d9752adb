"""HTTP interface for a runner's operator, on a Unix socket (RN95).

    POST /credits   {"owner", "amount", "reference"}: adds an amount to an owner's account
    GET  /backup    a WebSocket: the journal's file stays as it is while it is open (RN290)

Both go through the running process, because it has the journal locked and its rows are sealed. The
folder has mode 0700, so only the user that runs the runner and root can connect.

Messages of `/backup` are texts of JSON. The runner sends {"runner", "sizeBytes", "madeAt"} when the
file may be copied. The client sends anything when it has made its copy. The runner answers
{"unchanged": true}, which says that the copy is whole.

Example:
    async with serving_operator(ledger, folder, did):
        credit = {"owner": did, "amount": 5_000_000, "reference": "invoice 7"}
        account = await ask_operator(folder, credit)
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from capabilities.capability_errors import InvalidJson
from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import Principal
from capabilities.strict_json import Json, JsonObject, parse_json, shaped
from sealspace.apps.api_keys import MAX_AMOUNT, parse_owner
from sealspace.errors import InvalidInput
from tee_backend.backend_errors import FolderUnusable, KeepingError

from ..calls.journal_copies import file_bytes
from ..calls.ledger import Ledger

SOCKET = "operator.sock"
MAX_REFERENCE_CHARS = 200

MAX_COPY_S = 600.0
"""Longest time for which the journal's file stays as it is for a copy."""
MAX_LOG_BYTES = 1 << 30
"""Longest write-ahead log for which the file stays as it is."""

_MAX_BYTES = 16 * 1024
_LOOK_S = 1.0
_UNCHANGED = '{"unchanged": true}'


class _Credit(msgspec.Struct):
    owner: str
    amount: int
    reference: str


class OfferedFile(msgspec.Struct, rename="camel"):
    """A database file that does not change until it is released.

    Attributes:
        runner: DID of the runner.
        size_bytes: size of the file.
        made_at: every change acknowledged before this time, in epoch seconds, is in the file.
    """

    runner: str
    size_bytes: int
    made_at: float


class OperatorSurface:
    """The routes for a runner's operator."""

    def __init__(self, ledger: Ledger, runner: Principal) -> None:
        self._ledger = ledger
        self._runner = runner
        self._copying = asyncio.Lock()

    def mount(self, app: web.Application) -> None:
        """Add the routes to an application."""
        app.router.add_post("/credits", self._credit)
        app.router.add_get("/backup", self._backup)

    async def _credit(self, request: web.Request) -> web.Response:
        try:
            fields = shaped(parse_json(await request.read(), max_bytes=_MAX_BYTES), _Credit)
            if not 0 < len(fields.reference) <= MAX_REFERENCE_CHARS:
                raise InvalidInput(
                    f"the reference of a credit must have 1 to {MAX_REFERENCE_CHARS} characters"
                )
            if not 0 <= fields.amount <= MAX_AMOUNT:
                raise InvalidInput(f"an amount must be 0 to {MAX_AMOUNT} micro-units")
            owner = parse_owner(fields.owner)
            account = await self._ledger.credit(owner, fields.amount, reference=fields.reference)
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

    async def _backup(self, request: web.Request) -> web.StreamResponse:
        """Keep the journal's file unchanged while a client copies it (RN290)."""
        if self._copying.locked():
            raise web.HTTPConflict(text="another backup is being made")
        async with self._copying:
            talk = web.WebSocketResponse(max_msg_size=_MAX_BYTES)
            await talk.prepare(request)
            made_at = SystemClock.now()
            # RN290: changes during the copy stay in the log, so its size and its time are bounded
            async with self._ledger.journal.unchanged_file() as file:
                size_bytes = file_bytes(file)
                offer = OfferedFile(runner=self._runner, size_bytes=size_bytes, made_at=made_at)
                await talk.send_str(msgspec.json.encode(offer).decode())
                if await _is_copied(talk, file.with_name(file.name + "-wal")):
                    await talk.send_str(_UNCHANGED)
        await talk.close()
        return talk


async def _is_copied(talk: web.WebSocketResponse, log: Path) -> bool:
    """Wait for a client to finish its copy, and return whether it has finished in time."""
    deadline_s = asyncio.get_running_loop().time() + MAX_COPY_S
    receiving = asyncio.create_task(talk.receive())
    try:
        while asyncio.get_running_loop().time() < deadline_s:
            await asyncio.wait([receiving], timeout=_LOOK_S)
            if receiving.done():
                return (await receiving).type == aiohttp.WSMsgType.TEXT
            if file_bytes(log) > MAX_LOG_BYTES:
                return False
        return False
    finally:
        receiving.cancel()


@asynccontextmanager
async def serving_operator(ledger: Ledger, folder: Path, runner: Principal) -> AsyncIterator[None]:
    """Serve the operator's HTTP interface until the `with` block ends.

    The server listens on a Unix socket in `folder`. `runner` is the runner's DID.
    """
    app = web.Application(client_max_size=_MAX_BYTES)
    OperatorSurface(ledger, runner).mount(app)
    served = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await served.setup()
    try:
        (folder / SOCKET).unlink(missing_ok=True)  # of a runner that was killed
        with _short_socket_path(folder) as path:
            # Bound here: from Python 3.13 on, asyncio removes at the end what it has bound itself,
            # and complains where the short path has ended.
            bound = socket.socket(socket.AF_UNIX)
            bound.bind(path)
        await web.SockSite(served, bound).start()
        yield
    finally:
        await served.cleanup()
        (folder / SOCKET).unlink(missing_ok=True)


@asynccontextmanager
async def offered_file(folder: Path) -> AsyncIterator[OfferedFile]:
    """Have the runner that uses a folder keep its journal's file unchanged, for a copy (RN290).

    The copy is whole if the `with` block ends without an exception.

    Raises:
        FolderUnusable: the runner does not answer, it ended or the copy took too long.
    """
    changed = FolderUnusable(
        "the runner ended during the backup, or the copy took too long",
        hint="run the command again; write the backup to a faster disk",
    )
    with _short_socket_path(folder) as path:
        connector = aiohttp.UnixConnector(path)
        async with aiohttp.ClientSession(connector=connector) as session:
            try:
                talk = await session.ws_connect("http://operator/backup", max_msg_size=_MAX_BYTES)
            except aiohttp.WSServerHandshakeError as refused:
                raise FolderUnusable(
                    "another backup of this runner is being made",
                    hint="wait until it has ended, and run the command again",
                ) from refused
            except (OSError, aiohttp.ClientError) as error:
                raise _unreachable(folder) from error
            async with talk:
                try:
                    offered = msgspec.json.decode(
                        await talk.receive_str(timeout=30), type=OfferedFile
                    )
                except (TypeError, TimeoutError, msgspec.MsgspecError) as ended:
                    raise changed from ended
                yield offered
                try:
                    await talk.send_str("copied")
                    is_whole = await talk.receive_str(timeout=30) == _UNCHANGED
                except (TypeError, TimeoutError, OSError, aiohttp.ClientError) as ended:
                    raise changed from ended
                if not is_whole:
                    raise changed


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
        raise _unreachable(folder) from error
    if "error" in account:
        raise InvalidInput(str(account["error"]))
    return account


def _unreachable(folder: Path) -> FolderUnusable:
    return FolderUnusable(
        f"cannot connect to the runner that uses the folder {folder}",
        hint="start the runner as the user who runs this command: sealspace runner serve",
    )


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
