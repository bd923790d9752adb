"""The store engine of the tests' nodes: LMDB, or PostgreSQL with TEST_ENGINE=postgresql.

    TEST_ENGINE=postgresql pytest tests/conformance tests/attacks …

runs the tests of the wire and of what lies above the store on the other engine, with the same
answers. A node that is started again on a folder finds the database that it had. Tests that start a
server for themselves are left out of such a run: they do so in every other one.
"""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from postgres_server import PROGRAMS_ABSENT, postgres_server, programs

from node.config.tree import Store

ENGINE_VARIABLE = "TEST_ENGINE"
POSTGRESQL = "postgresql"


def is_on_postgresql() -> bool:
    """Return whether nodes keep their stores in a database in this run."""
    engine = os.environ.get(ENGINE_VARIABLE, "lmdb")
    assert engine in ("lmdb", POSTGRESQL), engine
    return engine == POSTGRESQL


def needs_folder() -> pytest.MarkDecorator:
    """Return the mark of tests that inspect or damage the LMDB folder."""
    return pytest.mark.skipif(is_on_postgresql(), reason="about the store in the data folder")


def store_at(folder: Path | str) -> Store:
    """Return the settings of a folder's store."""
    return Store(data=str(folder), url=database_of(folder) if is_on_postgresql() else None)


def store_arguments(folder: Path | str) -> tuple[str, ...]:
    """Return the arguments of `serve` for a folder's store, without `--data`."""
    return ("--store", database_of(folder)) if is_on_postgresql() else ()


def database_of(folder: Path | str) -> str:
    """Return the address of a folder's database, which is empty at first."""
    return _database(str(Path(folder).absolute()))


@contextmanager
def no_housekeeping() -> Iterator[None]:
    """Prevent stores in a database that this process opens from deleting replay records on their
    own.

    For tests in which a node's clock goes back: a database refuses replay records from before its
    last sweep, and a real clock never goes back that far. LMDB has no such limit.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spaces.store.postgres.engine.HOUSEKEEPING_S", 1e9)
        yield


@functools.cache
def _database(_folder: str) -> str:
    if programs() is None:
        pytest.skip(PROGRAMS_ABSENT)
    return postgres_server().new_schema()
