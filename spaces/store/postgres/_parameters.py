"""The parameters of the SQL statement that executes a commit."""

import os
from typing import NamedTuple

from ...keyspace import REPLAY_FLOOR_KEY, REPLAY_PREFIX
from ..contract import (
    ABSENT,
    ANY,
    KEYS_END,
    STAMP_BYTES,
    UNWRITTEN,
    Commit,
    Expect,
    Put,
    ReplayRecord,
    sequences_of,
)
from ._pool import Argument
from ._statements import COMMIT, COMMIT_IN_SEQUENCE, EXPECT_ABSENT, EXPECT_UNWRITTEN

# How long the outcome of a commit can be looked up. Attempts end long before.
_OUTCOME_KEPT_S = 120
_NUMBER_END = 1 << 63
_WITHOUT_SEQUENCES = 18  # parameters of a commit without sequences


class CounterChanges(NamedTuple):
    """The changes that a commit makes to counters, by the key of the counter.

    Attributes:
        deltas: the amounts to add.
        bounds: the upper limits of some of the counters.
    """

    deltas: dict[bytes, int]
    bounds: dict[bytes, int]


class CommitParameters(NamedTuple):
    """The parameters of the statement `COMMIT`, in their order.

    `COMMIT_IN_SEQUENCE` has two more, which are null for a commit without sequences.

    The lists of one group, such as `put_…`, have one entry for each row: the statement reads them
    as the columns of a table.

    Attributes:
        put_keys: `$1`.
        put_values: `$2`; null for a tombstone.
        put_stamps: `$3`.
        put_weights: `$4`; the bytes to add to the counter in `put_accounts`.
        put_accounts: `$5`; null if the row is not added to a counter.
        put_deletion_minutes: `$6`; null for a row with a value.
        put_expectations: `$7`; null if any row may be replaced.
        locked_keys: `$8`; keys of conditions that are not put.
        condition_keys: `$9`.
        condition_stamps: `$10`; null if the row must be a live mark; `EXPECT_ABSENT` if there must
            be no row.
        counter_keys: `$11`.
        counter_deltas: `$12`.
        counter_bounds: `$13`; null for a counter without a limit.
        counter_stamp: `$14`; the new stamp of every counter.
        outcome_key: `$15`; the row that proves the outcome (ST4).
        outcome_stamp: `$16`.
        floor_key: `$17`; the row with the floor of replay records.
        highest_floor: `$18`; the commit is refused if the floor is greater.
        put_sequences: `$19`; null for a row outside of all sequences.
        sequence_keys: `$20`; each sequence once.
    """

    put_keys: list[bytes]
    put_values: list[bytes | None]
    put_stamps: list[bytes]
    put_weights: list[int]
    put_accounts: list[bytes | None]
    put_deletion_minutes: list[int | None]
    put_expectations: list[bytes | None]
    locked_keys: list[bytes]
    condition_keys: list[bytes]
    condition_stamps: list[bytes | None]
    counter_keys: list[bytes]
    counter_deltas: list[int]
    counter_bounds: list[int | None]
    counter_stamp: bytes
    outcome_key: bytes
    outcome_stamp: bytes
    floor_key: bytes
    highest_floor: bytes
    put_sequences: list[bytes | None]
    sequence_keys: list[bytes]

    @property
    def statement(self) -> str:
        """The statement that executes the commit."""
        return COMMIT_IN_SEQUENCE if self.sequence_keys else COMMIT

    @property
    def arguments(self) -> "tuple[Argument, ...]":
        """The arguments of that statement."""
        return self if self.sequence_keys else self[:_WITHOUT_SEQUENCES]


def parameters_of(commit: Commit, counters: CounterChanges, *, now: int) -> CommitParameters:
    """Return the parameters for a commit.

    Each call draws new stamps and a new idempotency key. `now` is in epoch seconds.
    """
    idempotency_key = os.urandom(STAMP_BYTES)
    if commit.replay_record is None:
        outcome_key = REPLAY_PREFIX + ReplayRecord(idempotency_key, now + _OUTCOME_KEPT_S).row
        # This key is random and comes from no token, so the commit need not be refused for replay
        # records that were deleted. No floor is greater than KEYS_END.
        highest_floor = KEYS_END
    else:
        outcome_key = REPLAY_PREFIX + commit.replay_record.row
        highest_floor = commit.replay_record.row[:4]  # the expiry minute of the token
    counter_stamp, *stamps = _new_stamps(1 + len(commit.puts))
    puts = list(commit.puts)
    if commit.writes:
        puts.append(Put(outcome_key, b"", expect=UNWRITTEN))
        stamps.append(idempotency_key)
    accounts: list[bytes | None] = []
    weights: list[int] = []
    deletion_minutes: list[int | None] = []
    expectations: list[bytes | None] = []
    for put in puts:
        account = account_of(put)
        accounts.append(account)
        weights.append(0 if account is None else put.weight_bytes)
        deletion_minutes.append(now // 60 if put.value is None else None)
        expectations.append(_expectation(put.expect))
    put_keys = dict.fromkeys([put.key for put in puts])  # in order, and quick to search
    condition_keys = [*commit.live, *[check.key for check in commit.checks]]
    return CommitParameters(
        put_keys=list(put_keys),
        put_values=[put.value for put in puts],
        put_stamps=stamps,
        put_weights=weights,
        put_accounts=accounts,
        put_deletion_minutes=deletion_minutes,
        put_expectations=expectations,
        # The statement locks the rows that are put anyway.
        locked_keys=[key for key in dict.fromkeys(condition_keys) if key not in put_keys],
        condition_keys=condition_keys,
        condition_stamps=[
            *[None for _ in commit.live],
            *[_expectation(check.stamp) for check in commit.checks],
        ],
        counter_keys=list(counters.deltas),
        counter_deltas=list(counters.deltas.values()),
        counter_bounds=[counters.bounds.get(key) for key in counters.deltas],
        counter_stamp=counter_stamp,
        outcome_key=outcome_key,
        outcome_stamp=idempotency_key,
        floor_key=REPLAY_FLOOR_KEY,
        highest_floor=highest_floor,
        put_sequences=[put.sequence for put in puts],
        sequence_keys=sequences_of(commit),
    )


def _expectation(expect: Expect) -> bytes | None:
    """Return the parameter for what a row is expected to be; None if it may be any."""
    if expect == ANY:
        return None
    if expect == ABSENT:
        return EXPECT_ABSENT
    if expect == UNWRITTEN:
        return EXPECT_UNWRITTEN
    return expect


def _new_stamps(count: int) -> list[bytes]:
    """Return random stamps."""
    # One system call for all, because each costs more than slicing.
    stamps = os.urandom(STAMP_BYTES * count)
    return [stamps[start : start + STAMP_BYTES] for start in range(0, len(stamps), STAMP_BYTES)]


def counter_changes(commit: Commit) -> CounterChanges | None:
    """Sum a commit's changes to each counter.

    Returns None on an overflow. The sizes of replaced rows are stored in those rows and not known
    here.
    """
    deltas: dict[bytes, int] = {}
    bounds: dict[bytes, int] = {}
    for add in commit.adds:
        deltas[add.counter] = deltas.get(add.counter, 0) + add.delta
        if add.at_most is not None:
            lowest_so_far = bounds.get(add.counter, _NUMBER_END - 1)
            bounds[add.counter] = min(add.at_most, lowest_so_far)
    for put in commit.puts:
        account = account_of(put)
        if account is not None:
            deltas[account] = deltas.get(account, 0) + put.weight_bytes
    for number in (*deltas.values(), *bounds.values()):
        if not -_NUMBER_END <= number < _NUMBER_END:
            return None
    return CounterChanges(deltas=deltas, bounds=bounds)


def account_of(put: Put) -> bytes | None:
    """Return the counter to which a row's size is added, or None.

    The counter is given by its key. None means that the row is deleted, or is not added to a
    counter.
    """
    is_charged = put.value is not None and put.weight_bytes > 0
    return put.account if is_charged else None
