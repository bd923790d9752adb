"""Opens every engine that the contract is tested on."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from engines import database_of, is_on_postgresql
from postgres_server import needs_postgres
from storekeeper_process import StorekeeperProcess
from value_bench import Bench

from spaces.store.contract import Store
from spaces.store.lmdb.engine import connect_lmdb, open_lmdb
from spaces.store.lmdb.snapshots import LmdbRows, RowSource


class Engine(Protocol):
    """An engine that can be opened repeatedly on the same data."""

    def __call__(self) -> Store: ...


@contextmanager
def embedded(folder: Path, **options: Any) -> Iterator[Engine]:
    """The engine with a writer thread."""
    yield lambda: open_lmdb(folder, **options)


@contextmanager
def with_storekeeper(folder: Path, **options: Any) -> Iterator[Engine]:
    """The engine with a storekeeper process."""
    with StorekeeperProcess(folder, **options):
        yield lambda: connect_lmdb(folder)


@contextmanager
def on_postgres(folder: Path) -> Iterator[Engine]:
    """The engine on tables of its own in a database."""
    from spaces.store.postgres.engine import open_postgres

    url = database_of(folder)
    yield lambda: open_postgres(url)


# A further engine is added here, and the whole contract is tested on it.
ENGINES = {"embedded": embedded, "storekeeper": with_storekeeper, "postgres": on_postgres}
_MARKS = {"postgres": needs_postgres()}
# A run with every store in a database is no second one of the other engines.
_KINDS = ["postgres"] if is_on_postgresql() else list(ENGINES)


@pytest.fixture(params=[pytest.param(name, marks=_MARKS.get(name, ())) for name in _KINDS])
def engine_kind(request: pytest.FixtureRequest) -> Any:
    """A factory of engines in a folder, for each kind of engine."""
    return ENGINES[request.param]


@pytest.fixture(params=["embedded", "storekeeper"])
def folder_kind(request: pytest.FixtureRequest) -> Any:
    """A factory like `engine_kind`, without the engines whose data is outside the folder."""
    return ENGINES[request.param]


@pytest.fixture
def engine(engine_kind: Any, tmp_path: Path) -> Iterator[Engine]:
    """An engine on an empty folder."""
    with engine_kind(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
async def store(engine: Engine) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    async with AsyncExitStack() as stack:
        opened = engine()
        stack.push_async_callback(opened.close)
        yield opened


@pytest.fixture
def one_engine(tmp_path: Path) -> Iterator[Engine]:
    """The run's engine, for tests of code above the contract."""
    kind = on_postgres if is_on_postgresql() else embedded
    with kind(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
async def one_store(one_engine: Engine) -> AsyncIterator[Store]:
    """An empty store of that kind."""
    opened = one_engine()
    yield opened
    await opened.close()


@pytest.fixture
def one_rows(one_store: Store, tmp_path: Path) -> RowSource:
    """A view of all rows of the store."""
    if is_on_postgresql():
        from spaces.store.postgres.copying import PostgresRows

        return PostgresRows(database_of(tmp_path / "data"))
    return LmdbRows(one_store, tmp_path / "data")


@pytest.fixture
def bench(one_store: Store, tmp_path: Path) -> Bench:
    """Values over an empty store."""
    return Bench(one_store, tmp_path / "data" / "blobs")
