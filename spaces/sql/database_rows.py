"""Rows that describe the SQL databases of a space (SQ2)."""

from typing import NamedTuple

from capabilities.resources import SpaceId

from .._codec import Codec
from ..keyspace import DATABASES_PREFIX, space_keys, x16
from ..store.contract import Packed, Put, Range

DATABASES_FOLDER = "sql"
MAX_DATABASES = 64
MAX_PATH_CHARS = 1024
DEFAULT_DATABASE = "default"
# The hashes in the key of a database's row, after the prefix.
_SPACE16 = slice(len(DATABASES_PREFIX), len(DATABASES_PREFIX) + 16)
_PATH16 = slice(len(DATABASES_PREFIX) + 16, None)


class DatabaseName(NamedTuple):
    """The space and the full path of a database (SQ1)."""

    space: SpaceId
    path: str

    @property
    def key(self) -> bytes:
        """The key of the database's row. Its file is named after it."""
        return databases_of(self.space).prefix + x16(self.path)


def space16_of(key: bytes) -> bytes:
    """Return the hash of the space that a database belongs to, by the key of its row."""
    return key[_SPACE16]


def file_of(key: bytes) -> str:
    """Return the path of a database's file in the folder of databases, by the key of its row."""
    return f"{key[_SPACE16].hex()}/{key[_PATH16].hex()}.db"


class DatabaseRow(Packed):
    """A database that exists.

    Attributes:
        path: the path of the database in its space.
        size_bytes: the size of its pages after the last write, which counts on the quota.
    """

    path: str
    size_bytes: int


DATABASE_ROWS = Codec(DatabaseRow)


def databases_of(space: SpaceId) -> Range:
    """Return the range of the rows of a space's databases."""
    return Range(DATABASES_PREFIX + space_keys(space).space16, limit=MAX_DATABASES)


def database_put(name: DatabaseName, size_bytes: int) -> Put:
    """Return the write operation that stores a database's row.

    Its size counts on the quota of the space (SQ14).
    """
    return Put(
        name.key,
        DATABASE_ROWS.encode(DatabaseRow(name.path, size_bytes)),
        weight_bytes=size_bytes,
        account=space_keys(name.space).usage,
    )
