"""The writer, which applies batches of commits to LMDB.

A commit is judged completely before its first row is written. So a refused commit leaves nothing
behind, and no child transaction is needed. A failure while rows are being written fails the whole
transaction, and with it every commit of the batch.
"""

import errno
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from shutil import disk_usage
from typing import NamedTuple, NoReturn

import lmdb

from capabilities.clock_and_entropy import Clock

from ...keyspace import REPLAY_FLOOR_KEY, REPLAY_PREFIX, replay_key, replay_minute4
from ...space_errors import StoreError, StoreFull, StoreUnavailable
from ..contract import (
    ABSENT,
    ANY,
    COUNTER_BYTES,
    NO_RESERVE,
    REVOCATION_RESERVE,
    STAMP_BYTES,
    UNWRITTEN,
    Add,
    Commit,
    Committed,
    Packed,
    Put,
    Refused,
)
from ..durable import STORE_RESERVE_BYTES
from ..observing import Observer
from ..sequences import HISTORY_BYTES, NUMBER_BYTES, advance
from ._format import open_positions, open_table
from ._refused_minutes import add_refused, is_refused, remove_replay_records
from ._rows import (
    Row,
    charge_of,
    encode_row,
    encode_tombstone,
    has_stamp,
    is_live_marker,
    old_tombstone_keys,
    position_of,
    record_of,
)

BATCH_COMMITS = 512
BATCH_BYTES = 16 * 1024 * 1024

# A commit of this size may use the first half of the reserve: a delete, an audit record.
_SMALL_COMMIT_BYTES = 4096
_SWEEP_ROWS = 1000
# Tombstones examined each minute. Commits wait some milliseconds for it, or some tens of them if
# all of the tombstones are removed.
_SWEEP_LOOKS = 50_000

_COUNTER_END = 1 << 63
_STAMPS_AT_ONCE = 256
# The expiry minute in the key of a replay record, after the prefix.
_EXPIRY_MINUTE = slice(len(REPLAY_PREFIX), len(REPLAY_PREFIX) + 4)

Outcome = Committed | Refused | StoreError
_FULL = (lmdb.MapFullError, lmdb.DiskError)
_COMMITTED = Committed()
_REFUSED = Refused()
_LOG = logging.getLogger(__name__)


class FreeSpace(NamedTuple):
    """The maximum size of a store, and the reserve of space that only some commits may use (ST17).

    The reserve is the last free disk space, and the space beyond `max_bytes`.
    """

    max_bytes: int | None = None
    reserve_bytes: int = STORE_RESERVE_BYTES


class CommitRequest(Packed):
    """A request to write a commit.

    Attributes:
        number: pairs the request with its reply, on one connection.
        idempotency_key: 16 bytes, the stamp of the row that proves that the commit happened.
        key_expires_at: epoch seconds until which the outcome can be looked up; 0 if the reply
            cannot get lost.
    """

    number: int
    idempotency_key: bytes
    key_expires_at: int
    commit: Commit

    @property
    def outcome_key(self) -> bytes | None:
        """The key of the row that proves a successful commit (ST4).

        The row is the commit's replay record, or a separate row. None means that no row is needed.
        """
        replay_record = self.commit.replay_record
        if replay_record is not None:
            return REPLAY_PREFIX + replay_record.row
        if not self.key_expires_at:
            return None
        if not self.commit.writes:
            # A commit of conditions alone is judged again when it is repeated. It has nothing to
            # record, because readers see a row of LMDB only after its sync (ST16).
            return None
        return replay_key(replay_minute4(self.key_expires_at), self.idempotency_key)


def _stamps() -> Iterator[bytes]:
    while True:
        # In bulk, because a system call for each stamp would cost more than writing the row.
        drawn = os.urandom(_STAMPS_AT_ONCE * STAMP_BYTES)
        yield from [drawn[at : at + STAMP_BYTES] for at in range(0, len(drawn), STAMP_BYTES)]


class WriterBroken(StoreUnavailable):
    """A sync to disk failed.

    The state of the disk is unknown, so no more commits are acknowledged.
    """


class Writer:
    """The only writer of an LMDB environment.

    It is used on one thread.
    """

    def __init__(
        self,
        env: lmdb.Environment,
        free_space: FreeSpace,
        clock: Clock,
        observer: Observer | None = None,
    ) -> None:
        self.env = env
        self._clock = clock
        self._free_space = free_space
        self._place = env.path()
        self._page_bytes = int(env.stat()["psize"])
        self._broken = False
        self._tombstones = open_table(env)
        positions = open_positions(env)
        assert positions is not None  # the environment was opened for writing
        self._positions = positions
        # Numbers that readers saw may be lost before this process starts: in a restored store, or
        # one that is set back with its disk. So its numbers belong to a history of its own (ST24).
        self._history = os.urandom(HISTORY_BYTES)
        # The rows of sequences that the present batch changes. They are written once, at its end,
        # and so are the positions that rows get in the batch and had before it.
        self._sequences: dict[bytes, bytes] = {}
        self._new_positions: dict[bytes, bytes] = {}
        self._old_positions: list[bytes] = []
        self._stamps = _stamps()
        self._sweep_from = b""  # the key at which the next sweep of tombstones begins
        self._left_bytes = 0
        self._share_bytes: Counter[str] = Counter()  # used of the reserve, by owner
        self._observer = observer
        if observer is not None:
            with env.begin() as txn:
                self._measure(txn)

    def apply(self, batch: Sequence[CommitRequest]) -> list[Outcome]:
        """Write a batch of commits durably, and return their outcomes.

        Each commit is checked first, and refused if a condition is not met.
        """
        if self._broken:
            raise WriterBroken("the writer stopped after a failed sync")
        minute = int(self._clock.now()) // 60
        self._sequences.clear()
        self._new_positions.clear()
        self._old_positions.clear()
        txn = self.env.begin(write=True)
        try:
            self._measure(txn)
            refused_minutes = _value_of(txn, REPLAY_FLOOR_KEY)
            outcomes: list[Outcome] = [
                self._apply_one(txn, request, minute, refused_minutes) for request in batch
            ]
            if self._sequences:
                self._write_sequences(txn)
            if self._new_positions or self._old_positions:
                self._write_positions(txn)
        except lmdb.Error as exc:
            txn.abort()
            if isinstance(exc, _FULL) or exc.code in (errno.ENOSPC, errno.EDQUOT):
                # The transaction was rolled back, so no commit of the batch was written.
                outcomes = [StoreFull("no free space for the batch") for _ in batch]
            else:
                self._break(exc)
        except BaseException:
            txn.abort()
            raise
        else:
            self._sync(txn, outcomes)
        if self._observer is not None:
            self._observer.judged(outcomes)
        return outcomes

    def _sync(self, txn: "lmdb.Transaction[bytes]", outcomes: Sequence[Outcome]) -> None:
        """Commit the transaction of a batch durably, or abort it if no commit succeeded."""
        if not any(isinstance(outcome, Committed) for outcome in outcomes):
            txn.abort()
            return
        began_ns = time.perf_counter_ns()
        try:
            txn.commit()
        except lmdb.Error as exc:
            # After a failed sync the kernel may report success for the next one although pages were
            # lost.
            self._break(exc)
        if self._observer is not None:
            self._observer.synced(time.perf_counter_ns() - began_ns)

    def _break(self, exc: lmdb.Error) -> NoReturn:
        self._broken = True
        # Logged here, because housekeeping and the storekeeper drop the exception.
        _LOG.error("the store accepts no more commits: %s", exc, exc_info=exc)
        raise WriterBroken("writing or syncing the store failed") from exc

    def _apply_one(
        self,
        txn: "lmdb.Transaction[bytes]",
        request: CommitRequest,
        minute: int,
        refused_minutes: bytes,
    ) -> Outcome:
        """Judge one commit, write its rows if it is accepted, and return its outcome.

        `minute` is the current minute, and `refused_minutes` the stored list (`_refused_minutes`).
        """
        outcome_key = request.outcome_key
        if outcome_key is not None:
            earlier = _earlier_outcome(txn, request, outcome_key, refused_minutes)
            if earlier is not None:
                return earlier
        commit = request.commit
        if self._sequences and self._mentions_sequence(commit):
            self._write_sequences(txn)
        if not self._are_conditions_met(txn, commit):
            return _REFUSED
        freed_positions: list[bytes] = []
        counters = self._judge_puts(txn, commit, freed_positions)
        if counters is None:
            return _REFUSED
        # Space is checked last, because a commit that passes this check is counted as written.
        if not self._has_room(commit):
            return StoreFull("the store has no space left")
        for entry in freed_positions:
            # A row that was written earlier in this batch has no entry yet.
            if self._new_positions.pop(entry, None) is None:
                self._old_positions.append(entry)
        self._write_rows(txn, commit, minute)
        next_stamp, write = self._stamps.__next__, txn.put
        for key, count in counters.items():
            write(key, encode_row(next_stamp(), count.to_bytes(COUNTER_BYTES, "big", signed=True)))
        if outcome_key is not None:
            # The stamp of this row is what a repeated request is compared with.
            write(outcome_key, encode_row(request.idempotency_key, b""))
        return _COMMITTED

    def _are_conditions_met(self, txn: "lmdb.Transaction[bytes]", commit: Commit) -> bool:
        """Return whether the live marks and checks of a commit match the current rows (ST3)."""
        get, tombstones = txn.get, self._tombstones
        for key in commit.live:
            # A delegation that the commit relies on may have been revoked meanwhile (ST2).
            if not is_live_marker(get(key)):
                return False
        for check in commit.checks:
            if check.stamp == ABSENT:
                if get(check.key) is not None:  # also where a tombstone is (ST5)
                    return False
                continue
            row = get(check.key) or get(check.key, None, tombstones)  # a row hides its tombstone
            if not has_stamp(row, check.stamp):
                return False
        return True

    def _judge_puts(
        self, txn: "lmdb.Transaction[bytes]", commit: Commit, freed_positions: list[bytes]
    ) -> dict[bytes, int] | None:
        """Check the rows that a commit replaces and the counters that it changes (ST3, ST7).

        Returns the new values of the counters, or None if the commit is refused: a replaced row is
        not the expected one, or a counter would exceed its limit. Adds to `freed_positions` the
        entries of the positions that the replaced rows have (ST24).
        """
        get = txn.get
        changes: dict[bytes, int] = {}
        for put in commit.puts:
            row = get(put.key)
            if put.expect != ANY and not self._is_expected(txn, put, row):
                return None
            if row is not None:
                _leave_row(put.key, row, changes, freed_positions)
            if put.account is not None and put.value is not None:  # a tombstone adds nothing
                changes[put.account] = changes.get(put.account, 0) + put.weight_bytes
        if not changes and not commit.adds:
            return changes
        for add in commit.adds:
            changes[add.counter] = changes.get(add.counter, 0) + add.delta
        return _counters_after(txn, changes, commit.adds)

    def _is_expected(self, txn: "lmdb.Transaction[bytes]", put: Put, row: Row | None) -> bool:
        """Return whether the row that a put replaces is the one that it expects."""
        if put.expect == ABSENT:
            return row is None  # also where a tombstone is (ST5)
        row = row or txn.get(put.key, None, self._tombstones)
        if put.expect == UNWRITTEN:
            return row is None
        return has_stamp(row, put.expect)

    def _next_position(self, txn: "lmdb.Transaction[bytes]", sequence: bytes) -> bytes:
        """Take the next number of a sequence, and return the position with this number (ST24)."""
        value = self._sequences.get(sequence)
        if value is None:
            value = _value_of(txn, sequence)
        value = advance(value, self._history)
        self._sequences[sequence] = value
        return sequence + value[:NUMBER_BYTES]

    def _mentions_sequence(self, commit: Commit) -> bool:
        """Return whether a commit puts or checks the row of a sequence that is not written yet."""
        for put in commit.puts:
            if put.key in self._sequences:
                return True
        return any(check.key in self._sequences for check in commit.checks)

    def _write_sequences(self, txn: "lmdb.Transaction[bytes]") -> None:
        """Write the rows of the sequences that the batch has changed."""
        for sequence, value in self._sequences.items():
            txn.put(sequence, encode_row(next(self._stamps), value))
        self._sequences.clear()

    def _write_positions(self, txn: "lmdb.Transaction[bytes]") -> None:
        """Write the positions that rows get in the batch, and delete those that they had."""
        positions = self._positions
        for entry in self._old_positions:
            txn.delete(entry, db=positions)
        with txn.cursor(positions) as cursor:
            cursor.putmulti(self._new_positions.items())

    def _write_rows(self, txn: "lmdb.Transaction[bytes]", commit: Commit, minute: int) -> None:
        """Write the rows of a commit, with a new stamp for each.

        Rows of a sequence get their position: its next number, which is the same for all of them.
        """
        next_stamp, write = self._stamps.__next__, txn.put
        positions: dict[bytes, bytes] = {}
        for put in commit.puts:
            if put.value is None:
                txn.delete(put.key)
                write(put.key, encode_tombstone(next_stamp(), minute), db=self._tombstones)
            else:
                # A tombstone of this key stays; the row hides it.
                position = b""
                if put.sequence is not None:
                    position = positions.get(put.sequence, b"")
                    if not position:
                        position = self._next_position(txn, put.sequence)
                        positions[put.sequence] = position
                    self._new_positions[position + put.key] = b""
                row = encode_row(
                    next_stamp(),
                    put.value,
                    weight_bytes=put.weight_bytes,
                    account=put.account,
                    position=position,
                )
                write(put.key, row)

    def _measure(self, txn: "lmdb.Transaction[bytes]") -> None:
        """Measure the space that is left for commits, the reserve included.

        Pages that deletes released count as free.
        """
        max_bytes = self._free_space.max_bytes
        reserve_bytes = self._free_space.reserve_bytes
        self._left_bytes = disk_usage(self._place).free
        used_bytes = 0  # not counted for a store without a maximum size
        if max_bytes is not None:
            pages = _pages(txn) + _pages(txn, self._tombstones) + _pages(txn, self._positions)
            used_bytes = self._page_bytes * pages
            self._left_bytes = min(self._left_bytes, max_bytes + reserve_bytes - used_bytes)
        if self._left_bytes > reserve_bytes:
            self._share_bytes.clear()  # owners have shares only while the reserve is in use
        if self._observer is not None:
            self._observer.used(used_bytes)

    def _has_room(self, commit: Commit) -> bool:
        """Return whether there is space for a commit, and count the space that it takes (ST17)."""
        owner = commit.reserve
        size_bytes = 0
        has_sequence = False
        for put in commit.puts:
            size_bytes += len(put.key) + len(put.value or b"")
            has_sequence = has_sequence or put.sequence is not None
        # Each row may need a new page. The row of a sequence and the positions in it need two more.
        pages = len(commit.puts) + (2 if has_sequence else 0)
        cost_bytes = size_bytes + self._page_bytes * pages
        if self._left_bytes <= self._free_space.reserve_bytes:
            if owner == NO_RESERVE:
                return False
            if owner is None and size_bytes > _SMALL_COMMIT_BYTES:
                return False
            if self._left_bytes - cost_bytes <= self._kept_bytes(owner, cost_bytes):
                return False
            # The share of an owner: a key release or a change of a network.
            if owner is not None and owner != REVOCATION_RESERVE:
                self._share_bytes[owner] += cost_bytes
        # Free space is measured once for each batch. So commits are counted above the reserve too:
        # otherwise one batch of deletes could use all of the reserve.
        self._left_bytes -= cost_bytes
        return True

    def _kept_bytes(self, owner: str | None, cost_bytes: int) -> int:
        """Return how much of the reserve must be left after a commit (ST17).

        `owner` is the value of `Commit.reserve`.
        """
        reserve_bytes = self._free_space.reserve_bytes
        if owner is None:
            return reserve_bytes // 2
        if owner == REVOCATION_RESERVE:
            return reserve_bytes // 8
        # Of the reserve above its last quarter, an owner may use as much as it leaves for others.
        # Otherwise one owner who reads a secret in a loop would prevent the reads of all others.
        return reserve_bytes // 4 + self._share_bytes[owner] + cost_bytes

    def sweep_replay_records(self, before_minute: int) -> None:
        """Delete durable replay records that expired before a given minute.

        From then on, all tokens that expire in a minute with deleted records are refused.
        """
        with self._sweeping():
            while True:
                with self.env.begin(write=True) as txn:
                    deleted_rows, minutes = remove_replay_records(
                        txn, REPLAY_PREFIX, before_minute, _SWEEP_ROWS
                    )
                    if minutes:
                        refused_minutes = add_refused(_value_of(txn, REPLAY_FLOOR_KEY), minutes)
                        txn.put(REPLAY_FLOOR_KEY, encode_row(next(self._stamps), refused_minutes))
                if deleted_rows == 0:
                    return

    @contextmanager
    def _sweeping(self) -> Iterator[None]:
        """End a cleanup early if LMDB has no free page.

        The next cleanup continues. After any other error of LMDB, the writer accepts no more
        commits.
        """
        try:
            yield
        except _FULL:
            pass
        except lmdb.Error as exc:
            self._break(exc)

    def sweep_tombstones(self, before_minute: int) -> int:
        """Delete the tombstones that are older than a given minute.

        Returns how many were deleted. Each call examines a limited number of tombstones, after
        those of the previous call.
        """
        with self.env.begin() as txn, closing(txn.cursor(self._tombstones)) as cursor:
            walk: Iterator[tuple[bytes, Row]] = iter(())
            if cursor.set_range(self._sweep_from or b"\0"):
                walk = cursor.iternext()
            old_keys = old_tombstone_keys(islice(walk, _SWEEP_LOOKS), before_minute=before_minute)
            # The next call begins with the first tombstone that was not examined, or, when there is
            # none, with the first of all.
            self._sweep_from, _ = next(walk, (b"", b""))
        deleted = 0
        with self._sweeping():
            # This thread is the only writer, so nothing changed since the tombstones were read.
            with self.env.begin(write=True) as txn:
                for key in old_keys:
                    txn.delete(key, db=self._tombstones)
            deleted += len(old_keys)
        return deleted  # 0 if LMDB had no free page, because the transaction was rolled back


def _pages(txn: "lmdb.Transaction[bytes]", table: "lmdb._Database | None" = None) -> int:
    used = txn.stat(table)
    return used["branch_pages"] + used["leaf_pages"] + used["overflow_pages"]


def _value_of(txn: "lmdb.Transaction[bytes]", key: bytes) -> bytes:
    row = txn.get(key)
    return b"" if row is None else record_of(row).value or b""


def _earlier_outcome(
    txn: "lmdb.Transaction[bytes]",
    request: CommitRequest,
    outcome_key: bytes,
    refused_minutes: bytes,
) -> Outcome | None:
    """Return the outcome of a commit that is decided by replay records, or None (ST4).

    `outcome_key` is that of the request, and `refused_minutes` the stored list of expiry minutes.
    """
    outcome_row = txn.get(outcome_key)
    if outcome_row is not None:
        # The stamp of this row is the idempotency key of the commit that wrote it.
        if has_stamp(outcome_row, request.idempotency_key):
            return Committed(already_applied=True)
        return _REFUSED  # another commit used the same token
    if request.commit.replay_record is None:
        # The outcome key was made from a random idempotency key, and not from a token. Refused
        # minutes concern tokens only.
        return None
    # The replay records of a refused minute were deleted, so the token may have been used. If it
    # were accepted, a captured token could be used again.
    if is_refused(refused_minutes, outcome_key[_EXPIRY_MINUTE]):
        return _REFUSED
    return None


def _leave_row(
    key: bytes, row: Row, changes: dict[bytes, int], freed_positions: list[bytes]
) -> None:
    """Add what ends with a replaced row: its size in a counter, and the entry of its position."""
    charge = charge_of(row)
    if charge is not None:
        account, weight_bytes = charge
        changes[account] = changes.get(account, 0) - weight_bytes
    position = position_of(row)
    if position:
        freed_positions.append(position + key)


def _counters_after(
    txn: "lmdb.Transaction[bytes]", changes: dict[bytes, int], adds: Sequence[Add]
) -> dict[bytes, int] | None:
    """Return the values of counters after changes, without those that stay the same.

    None means that a counter would exceed a limit in `adds`, or not fit its row.
    """
    counters: dict[bytes, int] = {}
    for key, change in changes.items():
        counters[key] = _count_in(txn, key) + change
    for add in adds:
        if add.at_most is not None and counters[add.counter] > add.at_most:
            return None
    for count in counters.values():
        if not -_COUNTER_END <= count < _COUNTER_END:
            return None
    return {key: count for key, count in counters.items() if changes[key]}


def _count_in(txn: "lmdb.Transaction[bytes]", key: bytes) -> int:
    """Return the value of a counter, or 0 if there is no counter with this key."""
    value = _value_of(txn, key)
    if len(value) != COUNTER_BYTES:
        return 0
    return int.from_bytes(value, "big", signed=True)
