"""Migration of a store between LMDB and PostgreSQL.

Rows are read as for a backup, and then written.

No node may run on either side. An interrupted move begins again when it is run again. Until it has
ended, the target does not open as a store. At the end, both sides are compared by a digest. Bodies
in files stay where they are. Replay records of plain reads are moved too, so a token that was used
before the move counts as used after it.

Only one copy of a store is live (ST12). The source records durably where it was moved to, before
the target opens as a store. No version serves the source from then on.

    interrupted                           source                         target
    ────────────────────────────────────  ─────────────────────────────  ─────────────────────────
    while rows are copied                 the store                      does not open
    after the source is marked as moved   refuses, names the target      does not open
    after the last step                   refuses, names the target      the store

A move that is run again starts from any of these states. A database is filled in one transaction. A
database that is the source is frozen before the comparison, also for processes that have it open;
if the two sides differ, it is unfrozen. A source that was left behind is moved once more only if
the operator states that its target is lost (`again`).
"""

import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from blake3 import blake3

from ..space_errors import StoreError
from ..sql.database_rows import DATABASES_FOLDER
from ..store.durable import sync_folder
from ..store.lmdb._folder import environment_folder, folder_lock, open_environment, open_for_reading
from ..store.lmdb._format import mark_moved, moved_to
from ..store.lmdb._replay_records import ReplayRecords, boot_id
from ..store.lmdb.snapshots import Part, new_environment, snapshot_in
from ..store.postgres import _statements as sql
from ..store.postgres._schema import MIGRATING, MOVED_VERSION, TABLES_VERSION, schema_of
from ..store.postgres.copying import Session, insert_part, read_parts, read_snapshot, session
from .backup import encode_part

Progress = Callable[[int], None]

_STAGING = "migrating"


class MigrationRefused(StoreError):
    """The store cannot be migrated.

    The source is missing, the target is not empty, or the copy differs from the source.
    """

    code = "migration-refused"

    def __init__(self, text: str, *, next_step: str) -> None:
        super().__init__(text)
        self.next_step = next_step


@dataclass(slots=True)
class MigrationSummary:
    """The result of a migration.

    Attributes:
        rows: number of rows and tombstones.
        replay_records: number of replay records of plain reads.
    """

    rows: int = 0
    replay_records: int = 0
    _hasher: blake3 = field(default_factory=blake3)

    def add(self, part: Part) -> None:
        """Count and hash a batch of migrated rows."""
        self.rows += len(part)
        self._hasher.update(encode_part(part))

    @property
    def digest(self) -> str:
        """The BLAKE3 hash of all migrated rows, in hexadecimal.

        The rows are encoded as in an archive. Source and target have the same hash.
        """
        return self._hasher.hexdigest()


@asynccontextmanager
async def copy_to_database(
    folder: Path, url: str, *, progress: Progress, again: bool = False
) -> AsyncIterator[MigrationSummary]:
    """Copy a store from a data folder to an empty database.

    All rows are copied when the `async with` block begins. The database opens as a store after the
    block has ended without an error.

    Args:
        folder: the data folder.
        url: the address of the database.
        progress: called after each part with the number of rows copied.
        again: copies a store that was moved elsewhere, because that place is lost.

    Raises:
        MigrationRefused: the store cannot be in a database, or was moved; or the database is in
            use, or its rows differ after the copy.
    """
    _require_no_sql_databases(folder)
    async with session(url, for_migration=True) as database:
        with open_for_reading(folder, may_be_moved=True) as env:
            _require_not_moved(moved_to(env), describe_database(url), again=again)
            await _record_start(database)
            filling = database.transaction()
            await filling.start()
            # This deletes the row that `_record_start` wrote. Other sessions see that at the
            # commit. A second migration at the same time waits here until then, finds no row, and
            # is refused. So it does not delete the rows of the first.
            if await database.execute(sql.END_MIGRATION) != "DELETE 1":
                raise MigrationRefused(
                    "another migration or restore has already filled the database",
                    next_step="use an empty database: --store URL",
                )
            # An interrupted move of an earlier version can have left rows.
            for statement in sql.CLEAR:
                await database.execute(statement)
            summary = MigrationSummary()
            with snapshot_in(env) as snapshot:
                for part in snapshot.parts():
                    await insert_part(database, part)
                    summary.add(part)
                    progress(summary.rows)
        summary.replay_records = await _copy_replay_records_in(database, folder)
        if summary.digest != await _digest_of(read_parts(database)):
            raise MigrationRefused(
                "the rows in the database differ from the rows in the data folder",
                next_step="empty the database, then run the command again",
            )
        # A move marks its source as moved in the block of the caller, before this commit makes the
        # database a store (ST12).
        yield summary
        await filling.commit()


def _require_no_sql_databases(folder: Path) -> None:
    """Raise MigrationRefused if there are SQL databases.

    A node with PostgreSQL offers none (SQ2).
    """
    if any((folder / DATABASES_FOLDER).glob("*/*.db")):
        raise MigrationRefused(
            "the store contains SQL databases, which a node on a database server does not offer",
            next_step="keep the store in a data folder; or export the databases that are needed,"
            f" then remove the folder {DATABASES_FOLDER} and run the command again",
        )


async def _copy_replay_records_in(database: Session, folder: Path) -> int:
    """Copy the replay records of a data folder to a database, and return their number."""
    with closing(ReplayRecords(folder, boot_id())) as replay_records:
        rows = replay_records.rows()
    stamps = [os.urandom(16) for _ in rows]
    await database.execute(sql.COPY_REPLAY_RECORDS_IN, rows, stamps)
    return len(rows)


async def _copy_replay_records_out(database: Session, folder: Path) -> int:
    """Copy the replay records of a database to a data folder, and return their number."""
    records = await database.fetch(sql.COPY_REPLAY_RECORDS_OUT)
    with closing(ReplayRecords(folder, boot_id())) as replay_records:
        for record in records:
            replay_records.add(record["k"])
    return len(records)


async def move_to_postgres(
    folder: Path, url: str, *, progress: Progress, again: bool = False
) -> MigrationSummary:
    """Move a store from a data folder to an empty database.

    The folder is marked as moved.

    Args, Raises: see `copy_to_database`. It also raises StoreLocked if a node runs on the folder.
    """
    if not environment_folder(folder).is_dir():
        raise MigrationRefused(
            "the data folder contains no store",
            next_step="specify the folder of the store: --data DIR",
        )
    with folder_lock(folder):
        async with copy_to_database(folder, url, progress=progress, again=again) as summary:
            with open_environment(environment_folder(folder), may_be_moved=True) as env:
                # ST12: before the target becomes a store, so that there are never two
                mark_moved(env, describe_database(url))
    return summary


async def move_from_postgres(
    url: str, folder: Path, *, progress: Progress, again: bool = False
) -> MigrationSummary:
    """Move a store from a database to a data folder.

    The database is marked as moved. The data folder must not contain a store.

    Args, Raises: see `move_to_postgres`, in the other direction.
    """
    if environment_folder(folder).exists():
        raise MigrationRefused(
            f"the data folder already contains a store: {environment_folder(folder)}",
            next_step="use a folder that contains the root secret and the large values, but no"
            " store: --data DIR",
        )
    staging = folder / _STAGING
    summary = MigrationSummary()
    destination = describe_folder(folder)
    with folder_lock(folder):
        async with session(url, for_migration=True) as database:
            schema = await schema_of(database)
            if MIGRATING in schema:
                raise MigrationRefused(
                    "an earlier migration or restore into this database is not finished",
                    next_step="first run the interrupted command again (sealspace admin"
                    " migrate-store --to postgresql, or sealspace admin restore)",
                )
            _require_not_moved(await _moved_to(database, schema), destination, again=again)
            shutil.rmtree(staging, ignore_errors=True)  # remains of an interrupted move
            with new_environment(staging) as write:
                async with read_snapshot(database) as parts:
                    async for part in parts:
                        write(part)
                        summary.add(part)
                        progress(summary.rows)
            # ST12: from here on, no process writes rows or replay records
            await _mark_and_freeze(database, destination)
            summary.replay_records = await _copy_replay_records_out(database, folder)
            # Rows that were written before the tables were frozen may be missing in the copy.
            async with read_snapshot(database) as parts:
                is_same = summary.digest == await _digest_of(parts)
            if not is_same:
                await _unmark_and_thaw(database)
                raise MigrationRefused(
                    "the database changed during the migration",
                    next_step="stop all nodes that use the database, then run migrate-store again",
                )
        environment_folder(staging).rename(environment_folder(folder))  # now it is a store
        sync_folder(folder)
        shutil.rmtree(staging)
    return summary


async def _mark_and_freeze(database: Session, destination: str) -> None:
    """Record where the store in a database is moved to, and make its tables refuse new rows."""
    await database.execute(sql.CREATE_PLACE)
    await database.execute(sql.FORGET_PLACE)
    await database.execute(sql.RECORD_PLACE, destination)
    await database.execute(sql.CHANGE_VERSION, MOVED_VERSION)
    # An interrupted move can have frozen the tables already, and they cannot be frozen twice.
    for statement in (*sql.THAW, *sql.FREEZE):
        await database.execute(statement)


async def _unmark_and_thaw(database: Session) -> None:
    """Undo `_mark_and_freeze`, so that the database is a store again."""
    for statement in sql.THAW:
        await database.execute(statement)
    await database.execute(sql.CHANGE_VERSION, TABLES_VERSION)


def describe_database(url: str) -> str:
    """Return a description of a database for messages.

    The text has the name, the host and the schema. The user, the password and all other parameters
    are left out.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    _, _, host_of_url = parts.netloc.rpartition("@")
    host = query.get("host") or host_of_url or "localhost"
    schema = f", schema {query['search_path']}" if "search_path" in query else ""
    name = parts.path.strip("/") or "of the role"  # PostgreSQL's default is named like the role
    return f"the database {name} at {host}{schema}"


def describe_folder(folder: Path) -> str:
    """Return a description of a data folder for messages.

    The text has the path and the host name.
    """
    return f"the data folder {folder.resolve()} on {socket.gethostname()}"


def _require_not_moved(former_destination: str | None, destination: str, *, again: bool) -> None:
    """Raise MigrationRefused if a store was already moved to another destination.

    The rows of a moved store are out of date. A move to the same destination may be run again, and
    any move if `again` is True. `former_destination` is None if the store was not moved.
    """
    if again or former_destination is None or former_destination == destination:
        return
    raise MigrationRefused(
        f"the store was moved to {former_destination}",
        next_step="run the command on the store at that location; if that store is lost, add"
        " --again here",
    )


async def _record_start(database: Session) -> None:
    """Record in a database that a migration to it has begun.

    Raises MigrationRefused if the database contains a store or the remains of a moved one.
    """
    schema = await schema_of(database)
    if MIGRATING in schema:
        return
    former = await _moved_to(database, schema)
    if former is not None:
        raise MigrationRefused(
            f"the database contains the remains of a store that was moved to {former}",
            next_step="choose another database with --store URL, or empty this database",
        )
    if not await database.fetchval(sql.IS_EMPTY):
        raise MigrationRefused(
            "the database already contains a store",
            next_step="use an empty database: --store URL; to serve the store in this database,"
            " run sealspace serve --store URL",
        )
    await database.execute(sql.BEGIN_MIGRATION)


async def _moved_to(database: Session, schema: dict[str, int]) -> str | None:
    """Return where the store in a database was moved to, or None if it was not moved."""
    if schema.get("version") != MOVED_VERSION:
        return None
    return str(await database.fetchval(sql.PLACE_OF_MOVE))


async def _digest_of(parts: AsyncIterator[Part]) -> str:
    """Return the digest of rows, computed like `MigrationSummary.digest`."""
    summary = MigrationSummary()
    async for part in parts:
        summary.add(part)
    return summary.digest
