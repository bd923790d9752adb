"""Classification and conversion of database errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import asyncpg

from ...space_errors import CommitInvalid, StoreError, StoreFull, StoreUnavailable
from ._statements import OVERTAKEN_STATE

CLIENT_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""The errors of the server and of the client library.

The client raises one of them when it loses an established connection.
"""
# All errors of a connection: these and those of the network. A TimeoutError is an OSError.
CONNECTION_ERRORS = (*CLIENT_ERRORS, OSError)


class ErrorGroup(Enum):
    """A group of database errors that are handled alike."""

    REPEAT = "repeat"  # rolled back, may succeed now: a serialisation failure or a deadlock
    OVERTAKEN = "overtaken"  # rolled back by our guard: rows appeared between snapshot and locks
    OUT_OF_RANGE = "out of range"  # rolled back: a counter does not fit its column
    LOST = "lost"  # the connection was lost; the outcome of the statement is unknown
    FAILED = "failed"  # rolled back, for a lasting reason


_ERROR_GROUPS = {
    OVERTAKEN_STATE: ErrorGroup.OVERTAKEN,
    "40001": ErrorGroup.REPEAT,
    "40P01": ErrorGroup.REPEAT,
    "22003": ErrorGroup.OUT_OF_RANGE,
    "40003": ErrorGroup.LOST,  # CockroachDB: the outcome is ambiguous
    "25006": ErrorGroup.LOST,  # the former leader is now a standby: connect again
}
# The classes of states that begin with these: connection exceptions, and interventions of the
# operator such as a shutdown.
_LOST_CLASSES = ("08", "57")
_DISK_FULL = "53100"
_ROW_CHANGED_TWICE = "21000"
_QUERY_CANCELED = "57014"


def error_group_of(error: Exception) -> ErrorGroup:
    """Classify a database error, to decide whether to retry.

    An error that did not come from the server counts as a lost connection.
    """
    if not isinstance(error, asyncpg.PostgresError):
        return ErrorGroup.LOST
    state = str(error.sqlstate or "08000")
    if state == _QUERY_CANCELED:
        return ErrorGroup.FAILED  # although it is in a class of lost connections
    if state[:2] in _LOST_CLASSES:
        return ErrorGroup.LOST
    return _ERROR_GROUPS.get(state, ErrorGroup.FAILED)


@contextmanager
def convert_database_errors() -> Iterator[None]:
    """Convert the database errors of a `with` block to StoreError."""
    try:
        yield
    except CONNECTION_ERRORS as exc:
        raise store_error_of(exc) from None


def store_error_of(error: Exception) -> StoreError:
    """Return the StoreError for a database error.

    Only the SQLSTATE is passed on: the server's message may quote a row.
    """
    state = getattr(error, "sqlstate", None)
    if state == _DISK_FULL:
        return StoreFull("the database has no free space")
    if state == _ROW_CHANGED_TWICE:
        return CommitInvalid("a commit must not write and increment the same row")
    return StoreUnavailable(f"the database failed ({state or type(error).__name__})")
