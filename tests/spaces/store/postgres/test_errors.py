"""Tests of database errors: which are retried, and what their messages omit."""

import asyncpg
import pytest

from spaces.space_errors import CommitInvalid, StoreError, StoreFull, StoreUnavailable
from spaces.store.postgres._errors import (
    CONNECTION_ERRORS,
    ErrorGroup,
    error_group_of,
    store_error_of,
)
from spaces.store.postgres._statements import OVERTAKEN_STATE


def error(state: str) -> asyncpg.PostgresError:
    """Return the client's error for an SQLSTATE, with a message that quotes a row."""
    return asyncpg.PostgresError.new({"C": state, "M": "key (k)=(a secret row) already exists"})


@pytest.mark.parametrize(
    ("state", "group"),
    [
        ("40001", ErrorGroup.REPEAT),
        ("40P01", ErrorGroup.REPEAT),
        (OVERTAKEN_STATE, ErrorGroup.OVERTAKEN),
        ("22003", ErrorGroup.OUT_OF_RANGE),
        ("40003", ErrorGroup.LOST),
        ("25006", ErrorGroup.LOST),
        ("08006", ErrorGroup.LOST),
        ("57P01", ErrorGroup.LOST),
        ("57014", ErrorGroup.FAILED),
        ("53100", ErrorGroup.FAILED),
        ("42501", ErrorGroup.FAILED),
    ],
)
def test_states(state: str, group: ErrorGroup) -> None:
    """A lost connection differs from a statement that was rolled back, for example after a
    timeout."""
    assert group is error_group_of(error(state))


@pytest.mark.parametrize(
    "exc", [TimeoutError(), ConnectionResetError(), asyncpg.InterfaceError("closed")]
)
def test_what_no_server_said_leaves_the_outcome_open(exc: Exception) -> None:
    """A statement whose connection broke has an unknown outcome."""
    assert isinstance(exc, CONNECTION_ERRORS)
    assert error_group_of(exc) is ErrorGroup.LOST


@pytest.mark.parametrize(
    ("exc", "kind", "reported"),
    [
        (error("53100"), StoreFull, "free space"),
        (error("21000"), CommitInvalid, "write and increment the same row"),
        (error("42501"), StoreUnavailable, "42501"),
        (ConnectionResetError("10.0.0.7"), StoreUnavailable, "ConnectionResetError"),
    ],
)
def test_an_error_that_stays_is_reported_without_its_message(
    exc: Exception, kind: type[StoreError], reported: str
) -> None:
    """A full disk is reported as a full store, any other error only by its state or kind."""
    ours = store_error_of(exc)
    assert isinstance(ours, kind)
    assert reported in str(ours)
    assert "secret" not in str(ours) and "10.0.0.7" not in str(ours)
