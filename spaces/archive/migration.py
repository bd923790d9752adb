"""Moving a store from one engine to the other: its rows are read as for a backup, and written as by
a restore.

No node may run on either side. An interrupted move begins again when it is run again; until it has
ended, the target does not open as a store. At its end both sides are compared by a digest. Bodies
in files stay where they are. Claims of plain reads are moved too: a token that was used before the
move counts as used after it.

A store is in one place (ST12): the source records where it was moved to, durably, before the target
opens as a store, and no version serves the source from then on.

    interrupted                           source                          target
    ────────────────────────────────────  ──────────────────────────────  ─────────────────────────
    while rows are copied                 the store                       does not open
    between the mark and the last step    refuses, names the target       does not open
    after the last step                   refuses, names the target       the store

When run again, the move begins from any of these states. A database is filled in one transaction.
One that is left is closed, also to processes that have it open, before it is compared; if the two
differ it is opened again. A source that was left behind is moved once more only if the operator
states that its target is lost (`again`).
"""

import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from blake3 import blake3

from ..space_errors import StoreError
from ..store.contract import ReplayRecord
from ..store.durable import sync_folder
from ..store.lmdb._folder import environment_folder, folder_lock, open_environment, open_for_reading
from ..store.lmdb._format import mark_moved, moved_to
from ..store.lmdb._replay_records import ReplayRecords, boot_id
from ..store.lmdb.snapshots import Part, new_environment, snapshot_in
from ..store.postgres import _statements as sql
from ..store.postgres._schema import MIGRATING, MOVED_VERSION, TABLES_VERSION, schema_of
from ..store.postgres.copying import Session, copy_in, one_moment, parts_in, session
from .backup import encode_part

Progress = Callable[[int], None]

_STAGING: Final = "migrating"


class MigrationRefused(StoreError):
    """The source is missing, the target contains something else, or the two differ at the end."""

    code = "migration-refused"

    def __init__(self, text: str, *, next_step: str) -> None:
        super().__init__(text)
        self.next_step = next_step


@dataclass(slots=True)
class Moved:
    """The rows that were moved."""

    rows: int = 0
    claims: int = 0
    _hasher: blake3 = field(default_factory=blake3)

    def add(self, part: Part) -> None:
        """Count a part."""
        self.rows += len(part)
        self._hasher.update(encode_part(part))

    @property
    def digest(self) -> str:
        """BLAKE3 of all rows as an archive has them, in hexadecimal; equal on both sides."""
        return self._hasher.hexdigest()


@asynccontextmanager
async def filled_database(
    folder: Path, url: str, *, progress: Progress, again: bool = False
) -> AsyncIterator[Moved]:
    """Copy the store of a data folder into an empty database, which opens as a store once the block
    has ended."""
    async with session(url, may_migrate=True, may_be_moved=True) as database:
        with open_for_reading(folder, may_be_moved=True) as env:
            _refuse_moved(moved_to(env), place_of_database(url), again=again)
            await _begin(database)
            filling = database.transaction()
            await filling.start()
            # Seen by others at the commit. Of two moves at once the second waits here, and must not
            # clear the first's.
            if await database.execute(sql.END_MIGRATION) != "DELETE 1":
                raise MigrationRefused(
                    "another move filled the database", next_step="name an empty one with --store"
                )
            # what an earlier version left there when it was interrupted
            for statement in sql.CLEAR:
                await database.execute(statement)
            moved = Moved()
            with snapshot_in(env) as snapshot:
                for part in snapshot.parts():
                    await copy_in(database, part)
                    moved.add(part)
                    progress(moved.rows)
        with closing(ReplayRecords(folder, boot_id())) as replay_records:
            claims = replay_records.rows()
        moved.claims = len(claims)
        await database.execute(sql.COPY_REPLAY_RECORDS_IN, claims, [os.urandom(16) for _ in claims])
        if moved.digest != await _digest_of(parts_in(database)):
            raise MigrationRefused(
                "the database differs from the data folder",
                next_step="empty the database, then move again",
            )
        yield moved
        await filling.commit()


async def move_to_postgres(
    folder: Path, url: str, *, progress: Progress, again: bool = False
) -> Moved:
    """Move the store of a data folder into an empty database; what stays is marked as moved and
    otherwise unchanged.

    Args, Raises: as `filled_database`; and StoreLocked where a node runs on the folder.
    """
    if not environment_folder(folder).is_dir():
        raise MigrationRefused(
            "the data folder holds no store",
            next_step="name the folder of the store with --data DIR",
        )
    with folder_lock(folder):
        async with filled_database(folder, url, progress=progress, again=again) as moved:
            with open_environment(environment_folder(folder), may_be_moved=True) as env:
                # before the target is one: never two stores (ST12)
                mark_moved(env, place_of_database(url))
    return moved


async def move_from_postgres(
    url: str, folder: Path, *, progress: Progress, again: bool = False
) -> Moved:
    """Move the store of a database into a data folder that has none; what stays in the database is
    marked as moved.

    Args, Raises: as `move_to_postgres`, the other way round.
    """
    if environment_folder(folder).exists():
        raise MigrationRefused(
            f"the data folder holds a store already: {environment_folder(folder)}",
            next_step=(
                "name a folder without a store with --data DIR; it needs the secret and the blobs"
                " of the store"
            ),
        )
    staging, moved, place = folder / _STAGING, Moved(), place_of_folder(folder)
    with folder_lock(folder):
        async with session(url, may_migrate=True, may_be_moved=True) as database:
            schema = await schema_of(database)
            if MIGRATING in schema:
                raise MigrationRefused(
                    "the database holds a part of a migration only",
                    next_step="end that move first: start it again, --to postgresql",
                )
            _refuse_moved(await _moved_to(database, schema), place, again=again)
            shutil.rmtree(staging, ignore_errors=True)
            with new_environment(staging) as write:
                async with one_moment(database) as parts:
                    async for part in parts:
                        write(part)
                        moved.add(part)
                        progress(moved.rows)
            await database.execute(sql.CREATE_PLACE)
            await database.execute(sql.FORGET_PLACE)
            await database.execute(sql.RECORD_PLACE, place)
            await database.execute(sql.CHANGE_VERSION, MOVED_VERSION)
            # nothing is written or claimed in it from here on (ST12)
            for statement in (*sql.THAW, *sql.FREEZE):
                await database.execute(statement)
            claims = await database.fetch(sql.COPY_REPLAY_RECORDS_OUT)
            moved.claims = len(claims)
            with closing(ReplayRecords(folder, boot_id())) as replay_records:
                for (claimed,) in claims:
                    replay_records.add(
                        ReplayRecord(
                            claimed[4:].ljust(32, b"\0"), 60 * int.from_bytes(claimed[:4], "big")
                        )
                    )
            async with one_moment(database) as parts:
                is_same = moved.digest == await _digest_of(parts)
            if not is_same:
                for statement in sql.THAW:
                    await database.execute(statement)
                await database.execute(sql.CHANGE_VERSION, TABLES_VERSION)
                raise MigrationRefused(
                    "the database changed meanwhile", next_step="stop its nodes, then move again"
                )
        environment_folder(staging).rename(environment_folder(folder))
        sync_folder(folder)
        shutil.rmtree(staging)
    return moved


def place_of_database(url: str) -> str:
    """Return words for a database: without user, password and whatever else an address may
    contain."""
    parts = urlsplit(url)
    said = dict(parse_qsl(parts.query))
    host = said.get("host") or parts.netloc.rpartition("@")[2] or "localhost"
    schema = f", schema {said['search_path']}" if "search_path" in said else ""
    return f"the database {parts.path.strip('/') or 'of the role'} at {host}{schema}"


def place_of_folder(folder: Path) -> str:
    """Return words for a data folder, and the machine that it is on."""
    return f"the data folder {folder.resolve()} on {socket.gethostname()}"


def _refuse_moved(former: str | None, place: str, *, again: bool) -> None:
    """Allow only a move to the same place to begin again: what was left behind is as it was
    then."""
    if former is not None and former != place and not again:
        raise MigrationRefused(
            f"the store was moved to {former}",
            next_step="move it from there; where that is lost, add --again",
        )


async def _begin(database: Session) -> None:
    """Keep the database from opening as a store, durably, unless it contains one."""
    schema = await schema_of(database)
    if MIGRATING in schema:
        return
    if (former := await _moved_to(database, schema)) is not None:
        raise MigrationRefused(
            f"the database holds what was left of a store that was moved to {former}",
            next_step="name another database with --store URL, or empty this one",
        )
    if not await database.fetchval(sql.IS_EMPTY):
        raise MigrationRefused(
            "the database holds a store already",
            next_step=(
                "name an empty database with --store URL; the store that is there is served with"
                " sealspace serve --store URL"
            ),
        )
    await database.execute(sql.BEGIN_MIGRATION)


async def _moved_to(database: Session, schema: dict[str, int]) -> str | None:
    return (
        str(await database.fetchval(sql.PLACE_OF_MOVE))
        if schema.get("version") == MOVED_VERSION
        else None
    )


async def _digest_of(parts: AsyncIterator[Part]) -> str:
    compared = Moved()
    async for part in parts:
        compared.add(part)
    return compared.digest
