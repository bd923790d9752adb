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
from ..space_errors import RecordDamaged, StoreBusy, StoreFull
from ..store.lmdb.snapshots import Part
from .database_rows import DATABASES_FOLDER, file_of

_BUSY_MS = 10_000
_LEFT_S = 3600  # an older copy was left behind
COPY_PREFIX = "copy-"
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
        StoreBusy: another process uses it for too long, or there is not enough memory.
        StoreFull: there is no space for temporary files.
    """
    folder = path.parents[1]
    remove_left_copies(folder)
    with NamedTemporaryFile(dir=folder, prefix=COPY_PREFIX) as copy:
        copy_database(path, Path(copy.name))
        return Path(copy.name).open("rb")  # can be read when its name is deleted


def copy_database(path: Path, copy: Path) -> None:
    """Copy a database as of one moment to a file that is new or empty.

    Raises:
        RecordDamaged: it is missing or damaged.
        StoreBusy: another process uses it for too long, or there is not enough memory.
        StoreFull: there is no space for the copy.
    """
    with _opened_for_reading(path) as source, closing(apsw.Connection(str(copy))) as target:
        with target.backup("main", source, "main") as backup:
            backup.step()  # all pages at once: otherwise each write would begin the copy anew
        target.pragma("journal_mode", "delete")  # one file, without a write-ahead log


def remove_left_copies(folder: Path) -> None:
    """Delete copies that were left by a process that was killed."""
    for copy in folder.glob(f"{COPY_PREFIX}*"):
        with suppress(FileNotFoundError):  # another process has removed it
            if time.time() - copy.stat().st_mtime > _LEFT_S:
                copy.unlink()


def check_database(path: Path) -> None:
    """Check all pages, rows and indexes of a database (BK9).

    Raises:
        RecordDamaged: it is missing or damaged.
        StoreBusy: another process uses it for too long, or there is not enough memory.
    """
    with _opened_for_reading(path) as database:
        first_problem = database.pragma("integrity_check", 1)
        if first_problem != "ok":
            raise RecordDamaged(str(first_problem))


@contextmanager
def _opened_for_reading(path: Path) -> Iterator[apsw.Connection]:
    """Open a database, and convert the errors of the block to those of this package."""
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOFOLLOW
    try:
        with closing(apsw.Connection(str(path), flags=flags)) as connection:
            connection.set_busy_timeout(_BUSY_MS)
            yield connection
    except apsw.FullError as exc:
        raise StoreFull("no free space for the copy of a database") from exc
    except (apsw.BusyError, apsw.LockedError) as exc:
        raise StoreBusy("another process uses the database; repeat this later") from exc
    except (apsw.NoMemError, MemoryError) as exc:
        raise StoreBusy("reading the database needs too much memory; repeat this later") from exc
    except apsw.Error as exc:
        raise RecordDamaged(f"the database cannot be read ({type(exc).__name__})") from exc
