"""Creation and version checks of the PostgreSQL tables."""

from collections.abc import Sequence

import asyncpg

from ...space_errors import SchemaMismatch, StoreMoved, StoreUnavailable
from ._pool import pause
from ._statements import (
    ADD_POSITIONS,
    CREATE,
    PLACE_OF_MOVE,
    READ_SCHEMA,
    RECORD_POSITIONS,
    RECORD_VERSION,
)

TABLES_VERSION = 1
# The version of a moved store. No version of sealspace knows it, so none serves the tables that
# were left behind (ST12).
MOVED_VERSION = TABLES_VERSION | 1 << 31
MIGRATING = "migrating"
POSITIONS = "positions"
"""The row that states that the tables have positions of rows."""
# Errors of a process that changes the tables while another process does the same. It tries again.
_RACE_STATES = frozenset({"23505", "42P07", "42P16", "40001", "40P01", "XX000"})
_TRIES = 20
_LONGEST_PAUSE_S = 0.05


async def prepare_tables(
    connection: "asyncpg.Connection[asyncpg.Record]",
    *,
    may_migrate: bool = False,
    may_be_moved: bool = False,
) -> None:
    """Create missing tables, and check the schema version.

    Args:
        connection: to the database.
        may_migrate: accepts tables that an unfinished migration or restore fills.
        may_be_moved: accepts the tables of a store that was moved.

    Raises:
        StoreMoved: the store was moved.
        SchemaMismatch: the tables are of another version.
        StoreUnavailable: a migration or restore into these tables is not finished.
    """
    schema = await schema_of(connection)
    if "version" not in schema:
        await _create_tables(connection)
        schema = await schema_of(connection)
    version = schema.get("version", 0)
    if version == MOVED_VERSION:
        if not may_be_moved:
            raise StoreMoved(await connection.fetchval(PLACE_OF_MOVE) or "another place")
    elif version != TABLES_VERSION:
        raise SchemaMismatch(expected=TABLES_VERSION, got=version)
    if POSITIONS not in schema:  # an earlier version created the tables
        await _add_positions(connection)
    if schema.get(MIGRATING) and not may_migrate:
        raise StoreUnavailable("an earlier migration or restore into this database is not finished")


async def _create_tables(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Create missing tables, and record their version.

    The version comes last, so a process that sees it sees all tables.
    """
    await _change_tables(connection, (*CREATE, RECORD_POSITIONS), version=TABLES_VERSION)


async def _add_positions(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Add the positions of rows to tables that an earlier version created (ST25)."""
    await _change_tables(connection, (*ADD_POSITIONS, RECORD_POSITIONS))


async def _change_tables(
    connection: "asyncpg.Connection[asyncpg.Record]",
    statements: Sequence[str],
    *,
    version: int | None = None,
) -> None:
    """Run statements that change the tables, and then record the version of the tables if given.

    If another process runs them at the same time, they are run again. Each statement is independent
    and may be repeated, because not every database can roll back the creation of a table.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            for statement in statements:
                await connection.execute(statement)
            if version is not None:
                await connection.execute(RECORD_VERSION, version)
        except asyncpg.PostgresError as exc:
            if exc.sqlstate not in _RACE_STATES or not tries_left:
                raise
            await pause(_LONGEST_PAUSE_S)
        else:
            return


async def schema_of(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """Return the contents of table `sealspace_schema`.

    The result is empty if the table does not exist.
    """
    try:
        return dict(await connection.fetch(READ_SCHEMA))
    except asyncpg.UndefinedTableError:
        return {}
