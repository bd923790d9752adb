"""What the database's errors mean here: lost, to be repeated, full, or a bug of ours."""

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from ...space_errors import CommitInvalid, StoreError, StoreFull, StoreUnavailable
from ._statements import OVERTAKEN_STATE

CLIENT_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""The server's errors and the client's own; a connection that was lost after it was made is one of
them."""
# What a connection may raise: those, and the network's. A TimeoutError is an OSError.
CONNECTION_ERRORS: Final = (*CLIENT_ERRORS, OSError)


class Meaning(enum.Enum):
    """What follows from a failed statement."""

    REPEAT = enum.auto()  # undone, and may succeed now: a serialisation failure or a deadlock
    OVERTAKEN = enum.auto()  # undone by our own guard: rows appeared between snapshot and locks
    OUT_OF_RANGE = enum.auto()  # undone: a counter does not fit
    LOST = enum.auto()  # the connection was lost, and the outcome of the statement is unknown
    FAILED = enum.auto()  # undone, for a lasting reason


_MEANINGS: Final = {
    OVERTAKEN_STATE: Meaning.OVERTAKEN,
    "40001": Meaning.REPEAT,
    "40P01": Meaning.REPEAT,
    "22003": Meaning.OUT_OF_RANGE,
    "40003": Meaning.LOST,  # CockroachDB: the outcome is ambiguous
    "25006": Meaning.LOST,  # the former leader is a standby now: connect again
}
_LOST_CLASSES: Final = ("08", "57")
_DISK_FULL: Final = "53100"
_TWICE: Final = "21000"  # a statement that meets one row twice
_QUERY_CANCELED: Final = "57014"


def meaning_of(error: Exception) -> Meaning:
    """Classify what a statement raised: an error of the server, of the connection, or of time."""
    if not isinstance(error, asyncpg.PostgresError):
        return Meaning.LOST
    state = str(error.sqlstate or "08000")
    if state == _QUERY_CANCELED:
        return Meaning.FAILED
    if state[:2] in _LOST_CLASSES:
        return Meaning.LOST
    return _MEANINGS.get(state, Meaning.FAILED)


@contextmanager
def our_errors() -> Iterator[None]:
    """Raise our own errors for those of the database."""
    try:
        yield
    except CONNECTION_ERRORS as exc:
        raise store_error_of(exc) from None


def store_error_of(error: Exception) -> StoreError:
    """Return our error for a lasting one. The server's message may quote a row: only its state is
    passed on."""
    state = getattr(error, "sqlstate", None)
    if state == _DISK_FULL:
        return StoreFull("the database has no free space")
    if state == _TWICE:
        return CommitInvalid("a commit puts a row that it also counts in")
    return StoreUnavailable(f"the database failed ({state or type(error).__name__})")
