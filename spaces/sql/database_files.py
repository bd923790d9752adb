"""The files of SQL databases: their copies for exports and backups, and their checks.

SQLite makes the copies: each is of one moment, while nodes go on writing.
"""

import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

import apsw

from ..keyspace import DATABASES_PREFIX
from ..space_errors import RecordDamaged, StoreFull
from ..store.lmdb.snapshots import Part
from .database_rows import DATABASES_FOLDER, file_of

_BUSY_MS = 10_000
_LEFT_S = 3600
DATABASE_MEMBER = re.compile(rf"{DATABASES_FOLDER}/[0-9a-f]{{32}}/[0-9a-f]{{32}}\.db")
"""Names of databases in a backup, as in a data folder (BK4)."""


def database_files(part: Part) -> Iterator[str]:
    """Yield the files of the databases that a batch of rows names, relative to a data folder."""
    for key, _ in part:
        if key[:1] == DATABASES_PREFIX:
            yield f"{DATABASES_FOLDER}/{file_of(key)}"


def database_copy(path: Path) -> IO[bytes]:
    """Copy a database to a file without a name, in the folder of databases (BK10, SQ13).

    Raises:
        RecordDamaged: it is missing or damaged.
        StoreFull: there is no space for temporary files.
    """
    folder = path.parents[1]
    for left in folder.glob("copy-*"):  # by a process that was killed
        with suppress(FileNotFoundError):  # another process has removed it
            if time.time() - left.stat().st_mtime > _LEFT_S:
                left.unlink()
    with _opened(path) as source, NamedTemporaryFile(dir=folder, prefix="copy-") as copy:
        with closing(apsw.Connection(copy.name)) as target:
            with target.backup("main", source, "main") as backup:
                backup.step()  # all pages at once: otherwise each write would begin the copy anew
            target.pragma("journal_mode", "delete")  # one file, without a write-ahead log
        return Path(copy.name).open("rb")


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
