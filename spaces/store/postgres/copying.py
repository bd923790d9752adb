"""Bulk export and import of all database rows.

Backups and migrations use it. Each use has a session of its own, without the time limit on
statements that requests have.
"""

import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import asyncpg

from ...keyspace import SEQUENCES_PREFIX
from ..contract import COUNTER_BYTES
from ..lmdb._folder import open_for_reading
from ..lmdb._rows import Row, encode_row, encode_tombstone, tombstone_minute
from ..lmdb.snapshots import PART_ROWS, Part, StoreSnapshot, new_environment, parse_row, snapshot_in
from ..sequences import NUMBER_BYTES
from . import _statements as sql
from ._errors import CLIENT_ERRORS, CONNECTION_ERRORS, convert_database_errors, store_error_of
from ._reads import value_of
from ._schema import prepare_tables

Session: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_OPEN_WITHIN_S = 10.0
_CLOSE_WITHIN_S = 1.0
_SESSION = {
    "application_name": "sealspace",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
_COUNTERS_PREFIX = b"c"  # the prefix of all counters (`keyspace`)


@asynccontextmanager
async def session(url: str, *, for_migration: bool = False) -> AsyncIterator[Session]:
    """Open a database session for the time of a `with` block.

    With `for_migration`, the database may contain a moved store, or an unfinished migration.

    Raises StoreUnavailable, and the errors of `prepare_tables`.
    """
    with convert_database_errors():
        connection = await asyncpg.connect(
            url, timeout=_OPEN_WITHIN_S, server_settings=_SESSION, target_session_attrs="read-write"
        )
    try:
        await prepare_tables(connection, may_migrate=for_migration, may_be_moved=for_migration)
        yield connection
    except CLIENT_ERRORS as exc:
        raise store_error_of(exc) from None
    finally:
        with suppress(*CONNECTION_ERRORS):
            await connection.close(timeout=_CLOSE_WITHIN_S)  # this ends its transaction too


async def read_parts(connection: Session) -> AsyncGenerator[Part, None]:
    """Yield all rows in batches.

    The session must have an open transaction.
    """
    for statement in (sql.COPY_ROWS_OUT, sql.COPY_TOMBSTONES_OUT):
        cursor = await connection.cursor(statement)
        while rows := await cursor.fetch(PART_ROWS):
            yield [(row["k"], _encode_for_lmdb(row)) for row in rows]


def _encode_for_lmdb(row: asyncpg.Record) -> bytes:
    """Encode a row of the table `sealspace_map` as LMDB stores it."""
    if row["d"] is not None:
        return encode_tombstone(row["s"], row["d"])
    value = value_of(row["v"], row["n"]) or b""
    return encode_row(
        row["s"],
        value,
        weight_bytes=row["w"],
        account=row["a"],
        position=row["q"] or b"",
    )


@asynccontextmanager
async def read_snapshot(connection: Session) -> AsyncIterator[AsyncGenerator[Part, None]]:
    """Yield a reader of all rows of one database snapshot, for the time of a `with` block."""
    transaction = connection.transaction(isolation="repeatable_read", readonly=True)
    await transaction.start()
    async with aclosing(read_parts(connection)) as parts:
        yield parts
    await transaction.commit()


async def insert_part(connection: Session, part: Part) -> None:
    """Insert a batch of rows.

    The rows must not exist in the database yet.
    """
    rows = [_table_row(key, row) for key, row in part]
    columns = [list(column) for column in zip(*rows, strict=True)]
    await connection.execute(sql.COPY_IN, *columns)


class _TableRow(NamedTuple):
    """A row of the table `sealspace_map`, in the order of the parameters of `COPY_IN`.

    Attributes:
        value: null for a counter and for a tombstone.
        account: the counter that `weight_bytes` are added to; null for none.
        number: of a counter or sequence.
        deletion_minute: of a tombstone.
        position: in a sequence; null outside of all sequences.
    """

    key: bytes
    stamp: bytes
    value: bytes | None
    weight_bytes: int
    account: bytes | None
    number: int | None
    deletion_minute: int | None
    position: bytes | None


def _table_row(key: bytes, row: Row) -> _TableRow:
    """Convert a row or tombstone of LMDB to a row of the table."""
    parsed = parse_row(row)
    value = parsed.record.value
    number: int | None = None
    deletion_minute: int | None = None
    if value is None:
        deletion_minute = tombstone_minute(row)
    elif key.startswith(_COUNTERS_PREFIX) and len(value) == COUNTER_BYTES:
        number = int.from_bytes(value, "big", signed=True)
        value = None
    elif key.startswith(SEQUENCES_PREFIX) and len(value) > NUMBER_BYTES:
        number = int.from_bytes(value[:NUMBER_BYTES], "big")
        value = value[NUMBER_BYTES:]
    return _TableRow(
        key=key,
        stamp=parsed.record.stamp,
        value=value,
        weight_bytes=parsed.weight_bytes,
        account=parsed.account or None,
        number=number,
        deletion_minute=deletion_minute,
        position=parsed.record.position or None,
    )


@dataclass(repr=False)
class PostgresRows:
    """All rows of a PostgreSQL store."""

    _url: str

    @asynccontextmanager
    async def lock_bodies(self) -> AsyncIterator[None]:
        """Block the deletion of value files on all nodes (BK2).

        See `RowSource`. The lock ends with the database session.
        """
        async with session(self._url) as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(sql.HOLD_BODIES)
            yield
            await transaction.commit()  # fails if the session was lost, and the lock with it

    async def parts(self) -> AsyncGenerator[Part, None]:
        """Yield all rows in batches.

        See `RowSource`.
        """
        async with session(self._url) as connection, read_snapshot(connection) as parts:
            async for part in parts:
                yield part

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[StoreSnapshot]:
        """Copy all rows to a temporary LMDB environment, and yield a snapshot of it.

        Checks can look up single rows there.
        """
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with new_environment(folder) as write:
                async with aclosing(self.parts()) as parts:
                    async for part in parts:
                        write(part)
            with open_for_reading(folder) as env, snapshot_in(env) as snapshot:
                yield snapshot
