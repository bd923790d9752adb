"""Moving a store from one engine to the other: row by row in the order of the keys, stamps and tombstones included.

No node may run on either side. An interrupted move continues where it stopped when it is run again; until it has ended,
the target does not open as a store. At its end both sides are read once more and compared by a digest, so a source that
changed meanwhile is detected. Bodies in files are not part of the store and stay where they are.

Claims of plain reads are moved too: a token that was used before the move counts as used after it.

A store is in one place (ST12): the source records where it was moved to, durably, before the target opens as a store,
and no version serves the source from then on.

    interrupted                           source                          target
    ────────────────────────────────────  ──────────────────────────────  ─────────────────────────
    while rows are copied                 the store                       does not open
    between the mark and the last step    refuses, names the target       does not open
    after the last step                   refuses, names the target       the store

When run again, the move continues from any of these states. A database is closed, also to processes that have it open,
before it is compared; if the two differ it is opened again. A source that was left behind is moved once more only if
the operator states that its target is lost (`again`).
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import lmdb
from blake3 import blake3

from ..errors import StoreError
from .contract import COUNTER_BYTES, Claim
from .durable import sync_folder
from .lmdb._folder import FolderLock, environment_folder, mark_moved, open_for_reading, open_for_writing
from .lmdb._format import moved_to
from .lmdb._replay_records import ReplayRecords, boot_id
from .lmdb._rows import charge_of, encode_row, encode_tombstone, minute_of, record_of
from .lmdb._tombstones import last_key, open_table, rows_and_tombstones
from .postgres import _statements as sql
from .postgres._errors import CONNECTION_ERRORS, store_error_of
from .postgres._pool import Argument, Connections
from .postgres._reads import value_of
from .postgres._schema import MOVED_VERSION, TABLES_VERSION, prepare_tables

Progress = Callable[[int], None]

_BATCH_ROWS: Final = 1000
_PART_ROWS: Final = 100  # read at a time: 50 MiB at the most
_BATCH_BYTES: Final = 4 * 1024 * 1024
_COUNTERS_PREFIX: Final = b"c"  # of every counter in the layout of the keys
_STAGING: Final = "migrating"


class MigrationRefused(StoreError):
    """The source is missing, the target contains something else, or the two differ at the end.

    Attributes:
        next_step: what to do instead of starting the same move again, which would be refused again.
    """

    code = "migration-refused"

    def __init__(self, text: str, *, next_step: str) -> None:
        super().__init__(text)
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved.

    Attributes:
        rows: in the map, tombstones included.
        claims: replay records of plain reads.
        digest: BLAKE3 of every row of the map in the order of the keys, in hexadecimal; equal on both sides.
    """

    rows: int
    claims: int
    digest: str


@dataclass(frozen=True, slots=True)
class _Row:
    key: bytes
    stamp: bytes
    value: bytes | None
    weight_bytes: int
    account: bytes | None
    minute: int | None  # of the deletion; None unless it is a tombstone

    @property
    def size_bytes(self) -> int:
        return len(self.key) + len(self.value or b"")


async def move_to_postgres(folder: Path, url: str, *, progress: Progress, again: bool = False) -> Moved:
    """Move the store of a data folder into an empty database; what stays is marked as moved and otherwise unchanged.

    Args:
        folder: a data folder that no process uses.
        url: as for `open_postgres`.
        progress: called with the number of rows after each part.
        again: the store was moved before, and the target of that move is lost.

    Raises:
        MigrationRefused: no store in the folder, one that was moved elsewhere, something else in the database, or the
            two differ at the end.
        StoreLocked: a node runs on the folder.
        StoreUnavailable: the database failed; run again to continue.
    """
    if not environment_folder(folder).is_dir():
        raise MigrationRefused(
            "the data folder holds no store", next_step="name the folder of the store with --data DIR"
        )
    lock, place = FolderLock(folder), place_of_database(url)
    try:
        async with _database(url) as database:
            with open_for_reading(folder, may_be_moved=True) as env:
                _refuse_moved(moved_to(env), place, again=again)
                await _begin(database)
                found = await database.ask(sql.LAST_KEY, [])
                await _copy_in(database, _lmdb_rows(env, found[0][0] if found else b""), progress)
                claims = await _copy_claims_in(database, folder)
                kept, digest = _digest(_lmdb_rows(env, b""))
                if (kept, digest) != await _database_digest(database):
                    raise MigrationRefused(
                        "the database differs from the data folder", next_step="empty the database, then move again"
                    )
            mark_moved(folder, place)  # before the target is one: never two stores (ST12)
            await database.ask(sql.END_MIGRATION, [])
    finally:
        lock.close()
    return Moved(rows=kept, claims=claims, digest=digest)


async def move_from_postgres(url: str, folder: Path, *, progress: Progress, again: bool = False) -> Moved:
    """Move the store of a database into a data folder that has none; what stays in the database is marked as moved.

    Args, Raises: as `move_to_postgres`, the other way round.
    """
    if environment_folder(folder).exists():
        raise MigrationRefused(
            f"the data folder holds a store already: {environment_folder(folder)}",
            next_step="name a folder without a store with --data DIR; it needs the secret and the blobs of the store",
        )
    lock, place = FolderLock(folder), place_of_folder(folder)
    staging = folder / _STAGING
    try:
        async with _database(url) as database:
            if await database.ask(sql.IS_MIGRATING, []):
                raise MigrationRefused(
                    "the database holds a part of a migration only",
                    next_step="end that move first: start it again, --to postgresql",
                )
            _refuse_moved(await database.moved_to(), place, again=again)
            with open_for_writing(staging) as env:
                await _copy_out(database, env, progress)
                await database.close_for(place)  # nothing is written or claimed in it from here on (ST12)
                claims = await _copy_claims_out(database, folder)
                kept, digest = _digest(_lmdb_rows(env, b""))
                if (kept, digest) != await _database_digest(database):
                    await database.open_again()
                    raise MigrationRefused(
                        "the database changed meanwhile", next_step=f"stop its nodes, remove {staging}, then move again"
                    )
            environment_folder(staging).rename(environment_folder(folder))
            sync_folder(folder)
            staging.rmdir()
    finally:
        lock.close()
    return Moved(rows=kept, claims=claims, digest=digest)


def place_of_database(url: str) -> str:
    """Return words for a database: without user, password and whatever else an address may contain."""
    parts = urlsplit(url)
    said = dict(parse_qsl(parts.query))
    host = said.get("host") or parts.netloc.rpartition("@")[2] or "localhost"
    schema = f", schema {said['search_path']}" if "search_path" in said else ""
    return f"the database {parts.path.strip('/') or 'of the role'} at {host}{schema}"


def place_of_folder(folder: Path) -> str:
    """Return words for a data folder, and the machine that it is on."""
    return f"the data folder {folder.resolve()} on {socket.gethostname()}"


def _refuse_moved(former: str | None, place: str, *, again: bool) -> None:
    """Allow only a move to the same place to continue: what was left behind is as it was then."""
    if former is not None and former != place and not again:
        raise MigrationRefused(
            f"the store was moved to {former}", next_step="move it from there; where that is lost, add --again"
        )


class _Database:
    """One connection, which raises our own errors."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def ask(self, statement: str, arguments: Sequence[Argument]) -> list[tuple[Any, ...]]:
        """Run a statement; its rows have the columns in their order, of the types that the statement gives."""
        try:
            return [tuple(row) for row in await self._connections.run(statement, arguments)]
        except CONNECTION_ERRORS as exc:
            raise store_error_of(exc) from None

    async def moved_to(self) -> str | None:
        """Return where the store of the database was moved to; None where it was not."""
        schema = dict(await self.ask(sql.READ_SCHEMA, []))
        if schema.get("version") != MOVED_VERSION:
            return None
        return str((await self.ask(sql.PLACE_OF_MOVE, []))[0][0])

    async def close_for(self, place: str) -> None:
        """Record where the store is moved to, and refuse further rows from every process; may be repeated."""
        await self.ask(sql.CREATE_PLACE, [])
        await self.ask(sql.FORGET_PLACE, [])
        await self.ask(sql.RECORD_PLACE, [place])
        await self.ask(sql.CHANGE_VERSION, [MOVED_VERSION])
        for statement in (*sql.THAW, *sql.FREEZE):
            await self.ask(statement, [])

    async def open_again(self) -> None:
        """Make the database a store again."""
        for statement in sql.THAW:
            await self.ask(statement, [])
        await self.ask(sql.CHANGE_VERSION, [TABLES_VERSION])

    async def rows_after(self, key: bytes) -> AsyncIterator[list[_Row]]:
        """Yield the rows after a key in parts."""
        while part := await self._part(key):
            yield part
            key = part[-1].key

    async def _part(self, after: bytes) -> list[_Row]:
        try:
            found = await self._connections.run(sql.COPY_OUT, [after, _PART_ROWS])
        except CONNECTION_ERRORS as exc:
            raise store_error_of(exc) from None
        return [_Row(k, s, value_of(v, n), w, a, d) for k, s, v, w, a, n, d in found]


@asynccontextmanager
async def _database(url: str) -> AsyncIterator[_Database]:
    connections = Connections(
        url, size=1, session={}, opened=partial(prepare_tables, may_migrate=True, may_be_moved=True)
    )
    try:
        yield _Database(connections)
    finally:
        await connections.close()


async def _begin(database: _Database) -> None:
    if await database.ask(sql.IS_MIGRATING, []):
        return
    if (former := await database.moved_to()) is not None:
        raise MigrationRefused(
            f"the database holds what was left of a store that was moved to {former}",
            next_step="name another database with --store URL, or empty this one",
        )
    if not (await database.ask(sql.IS_EMPTY, []))[0][0]:
        raise MigrationRefused(
            "the database holds a store already",
            next_step="name an empty database with --store URL; the store that is there is served with sealspace serve "
            "--store URL",
        )
    await database.ask(sql.BEGIN_MIGRATION, [])


async def _copy_in(database: _Database, rows: Iterator[_Row], progress: Progress) -> None:
    done = 0
    for part in _parts(rows):
        await database.ask(sql.COPY_IN, _columns(part))
        done += len(part)
        progress(done)


def _columns(part: Sequence[_Row]) -> list[Argument]:
    numbers = [_number(row) for row in part]
    return [
        [row.key for row in part],
        [row.stamp for row in part],
        [row.value if number is None else None for row, number in zip(part, numbers, strict=True)],
        [row.weight_bytes for row in part],
        [row.account for row in part],
        numbers,
        [row.minute for row in part],
    ]


def _number(row: _Row) -> int | None:
    if not row.key.startswith(_COUNTERS_PREFIX) or row.value is None or len(row.value) != COUNTER_BYTES:
        return None
    return int.from_bytes(row.value, "big", signed=True)


async def _copy_out(database: _Database, env: lmdb.Environment, progress: Progress) -> None:
    done = 0
    table = open_table(env)
    async for part in database.rows_after(last_key(env)):
        with env.begin(write=True) as txn:
            for row in part:
                txn.put(row.key, _encoded(row), db=table if row.value is None else None)
        done += len(part)
        progress(done)


async def _copy_claims_in(database: _Database, folder: Path) -> int:
    replay_records = ReplayRecords(folder, boot_id())
    try:
        claims = replay_records.claims()
    finally:
        replay_records.close()
    for start in range(0, len(claims), _BATCH_ROWS):
        part = claims[start : start + _BATCH_ROWS]
        await database.ask(sql.COPY_CLAIMS_IN, [part, [os.urandom(16) for _ in part]])
    return len(claims)


async def _copy_claims_out(database: _Database, folder: Path) -> int:
    replay_records = ReplayRecords(folder, boot_id())
    copied, after = 0, b""
    try:
        while found := await database.ask(sql.COPY_CLAIMS_OUT, [after, _BATCH_ROWS]):
            for (claimed,) in found:
                minute, named = int.from_bytes(claimed[:4], "big"), claimed[4:]
                replay_records.claim(Claim(key=named.ljust(32, b"\0"), expires_at=60 * minute))
            copied, after = copied + len(found), found[-1][0]
    finally:
        replay_records.close()
    return copied


def _lmdb_rows(env: lmdb.Environment, after: bytes) -> Iterator[_Row]:
    for key, row in rows_and_tombstones(env, after):
        record = record_of(row)
        account, weight_bytes = charge_of(row) or (None, 0)
        minute = minute_of(row) if record.value is None else None
        yield _Row(key, record.stamp, record.value, weight_bytes, account, minute)


def _encoded(row: _Row) -> bytes:
    if row.value is None:
        return encode_tombstone(row.stamp, row.minute or 0)
    return encode_row(row.stamp, row.value, weight_bytes=row.weight_bytes, account=row.account)


def _parts(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    part: list[_Row] = []
    size_bytes = 0
    for row in rows:
        part.append(row)
        size_bytes += row.size_bytes
        if len(part) == _BATCH_ROWS or size_bytes >= _BATCH_BYTES:
            yield part
            part, size_bytes = [], 0
    if part:
        yield part


def _digest(rows: Iterator[_Row]) -> tuple[int, str]:
    hasher, count = blake3(), 0
    for row in rows:
        hasher.update(_canonical(row))
        count += 1
    return count, hasher.hexdigest()


async def _database_digest(database: _Database) -> tuple[int, str]:
    hasher, count = blake3(), 0
    async for part in database.rows_after(b""):
        for row in part:
            hasher.update(_canonical(row))
        count += len(part)
        await asyncio.sleep(0)
    return count, hasher.hexdigest()


def _canonical(row: _Row) -> bytes:
    """Encode a row so that no two rows have the same bytes: each field with its length, None distinct from empty."""
    fields = (row.key, row.stamp, row.value, b"%d" % row.weight_bytes, row.account, _minute_bytes(row.minute))
    return b"".join(b"\xff" * 8 if field is None else len(field).to_bytes(8, "big") + field for field in fields)


def _minute_bytes(minute: int | None) -> bytes | None:
    return None if minute is None else b"%d" % minute
