"""SQL databases in backups, restores and checks.

SQLite makes the copies: each is of one moment, while nodes go on writing.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw

from ..keyspace import DATABASES_PREFIX
from ..space_errors import RecordDamaged, StoreFull
from ..sql.database_rows import DATABASES_FOLDER, file_of
from ..store.lmdb.snapshots import Part

_BUSY_MS = 10_000
DATABASE_MEMBER = re.compile(rf"{DATABASES_FOLDER}/[0-9a-f]{{32}}/[0-9a-f]{{32}}\.db")
"""Names of databases in a backup, as in a data folder (BK4)."""


def database_files(part: Part) -> Iterator[str]:
    """Yield the files of the databases that a batch of rows names, relative to a data folder."""
    for key, _ in part:
        if key[:1] == DATABASES_PREFIX:
            yield f"{DATABASES_FOLDER}/{file_of(key)}"


@contextmanager
def database_copy(path: Path) -> Iterator[Path]:
    """Copy a database to a temporary file (BK10).

    Raises:
        RecordDamaged: it is missing or damaged.
        StoreFull: there is no space for temporary files.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        with (
            _opened(path) as source,
            closing(apsw.Connection(str(copy))) as target,
            target.backup("main", source, "main") as backup,
        ):
            backup.step()  # all pages at once: otherwise each write would begin the copy anew
        yield copy


def check_database(path: Path) -> None:
    """Check all pages, rows and indexes of a database (BK9).

    Raises:
        RecordDamaged: it is missing or damaged.
    """
    with _opened(path) as database:
        found = database.pragma("integrity_check", 1)
        if found != "ok":
            raise RecordDamaged(str(found))


@contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOFOLLOW
    try:
        with closing(apsw.Connection(str(path), flags=flags)) as connection:
            connection.set_busy_timeout(_BUSY_MS)
            yield connection
    except apsw.FullError as exc:
        raise StoreFull("no free space for the copy of a database") from exc
    except apsw.Error as exc:
        raise RecordDamaged(f"the database cannot be read ({type(exc).__name__})") from exc
