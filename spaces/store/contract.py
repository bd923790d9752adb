"""The interface that all store engines implement.

Code above this folder does not know which engine is in use. The rules (ST1 to ST8) are in
spec/store.md. The docstrings here state what a caller may rely on.

Example:
    snapshot = await store.read((key,), replay_record=ReplayRecord(key=content_key, expires_at=exp))
    if snapshot.is_first_use is False: ...
    outcome = await store.commit(Commit(puts=(Put(key, b"value", expect=ABSENT),), live=(mark,)))
    if isinstance(outcome, Refused): ...        # nothing was written; read again to find out why
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence, Set
from typing import Protocol

from msgspec.structs import replace

from capabilities.frozen_struct import AcyclicStruct

from ..keyspace import replay_minute4
from ..space_errors import CommitInvalid, CommitTooLarge, RecordDamaged

# ST6. Each engine allows a little more. These limits apply to all of them.
MAX_KEY_BYTES = 480
MAX_VALUE_BYTES = 512 * 1024
MAX_COMMIT_BYTES = 8 * 1024 * 1024
MAX_PUTS = 3584
# Not in ST6: these limit the time that one commit or read takes, because reads of LMDB block the
# event loop and the storekeeper judges commits one after the other.
MAX_LIVE = 4096
MAX_CHECKS = 1024
MAX_ADDS = 256
MAX_READ_KEYS = 8192
# An LMDB key has at most 511 bytes: a sequence, a number of 8 bytes, and the key of a row.
MAX_SEQUENCE_BYTES = 20
MAX_SEQUENCES = 256
MAX_RANGES = 512
MAX_PAGE_ROWS = 4096
MAX_PAGE_BYTES = 8 * 1024 * 1024
# Rows that one page may examine, tombstones included: limits the time that a page takes.
MAX_PAGE_SCAN = 16_384

STAMP_BYTES = 16

_MAX_ACCOUNT_BYTES = 255
_WEIGHT_END = 1 << 63
REPLAY_KEY_BYTES = 32
KEYS_END = b"\xff" * (MAX_KEY_BYTES + 1)  # greater than every key

LIVE_MARK = b"L"  # the value that every row in `Commit.live` must have (ST2)

Expect = bytes
ANY: Expect = b""  # no condition
NO_RESERVE = "none"
"""`Commit.reserve` of a commit that uses no part of the reserve, even if it is small (ST17)."""
REVOCATION_RESERVE = ""
"""`Commit.reserve` of a revocation, and of others that a full store must still accept (ST17).

They may use all of the reserve but its last eighth, and count on no owner's share.
"""
# No row, or a tombstone (ST5). Stamps have 16 bytes, so none is equal to this.
ABSENT: Expect = b"absent"
# Neither a row nor a tombstone: what a read found that returned None.
UNWRITTEN: Expect = b"unwritten"


class Packed(AcyclicStruct, array_like=True):
    """The base of records that are encoded as an array of their fields."""


class ReplayRecord(Packed):
    """A record of the use of a token, nonce or ticket.

    Attributes:
        key: 32 bytes, a digest of what may be used once.
        expires_at: epoch seconds, the token's own expiry. The record is stored under this minute
            and deleted some minutes after it (ST4). Never take it from the clock.
    """

    key: bytes
    expires_at: int

    @property
    def row(self) -> bytes:
        """The replay record's database key, without the prefix.

        It consists of the expiry minute in 4 bytes and the first 16 bytes of `key`.
        """
        return replay_minute4(self.expires_at) + self.key[:16]


class Range(Packed):
    """A range of rows whose keys start with `prefix`.

    Rows are in byte order.

    Attributes:
        prefix: the beginning of the keys.
        after: the key after which the range begins, or None.
        limit: the most rows of a page.
        keys_only: whether the values are left out.
        by_number: whether the range contains the rows of a sequence, in the order of their numbers
            (ST24). `prefix` is then the key of the sequence. `after` and the keys of the page are
            positions (`Record.position`), each followed by the key of a row. Values and stamps are
            left out.
    """

    prefix: bytes
    after: bytes | None = None
    limit: int = 1000
    keys_only: bool = False
    by_number: bool = False

    @property
    def bounds(self) -> tuple[bytes, bytes]:
        """The start and end keys of the range.

        The start key is inclusive, the end key exclusive.
        """
        start = self.prefix
        if self.after is not None:
            start = max(start, self.after + b"\0")  # the next possible key
        # The end is the prefix with its last byte incremented. A byte 0xff has no successor, so the
        # byte before it is incremented instead.
        stripped = self.prefix.rstrip(b"\xff")
        if not stripped:
            return start, KEYS_END
        return start, stripped[:-1] + bytes((stripped[-1] + 1,))


class Follow(Packed):
    """A lookup of rows whose keys are stored in other rows.

    `keys` are the keys of the first rows. The key of a second row is `prefix` followed by the value
    of the first row. Both steps are one round trip.
    """

    keys: tuple[bytes, ...]
    prefix: bytes


class Record(Packed):
    """The value and version stamp of a row.

    Attributes:
        value: None in a tombstone (ST5).
        stamp: 16 random bytes. Each write gives the row a new one.
        position: the key of the sequence that the row belongs to, then its number in 8 bytes;
            empty for a row outside of all sequences (ST24).
    """

    value: bytes | None
    stamp: bytes
    position: bytes = b""


class Page(Packed):
    """One page of the rows in a range."""

    rows: tuple[tuple[bytes, Record], ...]
    more: bool
    last_key: bytes | None = None

    @property
    def place(self) -> bytes | None:
        """The key after which the next page begins, or None."""
        return self.last_key if self.more else None


class Snapshot(Packed):
    """The result of a read, as of one point in time.

    Attributes:
        is_first_use: whether this read wrote the replay record; False if it existed; None if none
            was requested.
        records: in the order of the keys; None for a row that does not exist.
        pages: in the order of the ranges.
        followed: in the order of the keys to follow, the rows that they lead to. None if either row
            does not exist, the first is a tombstone, or the resulting key is too long.
        is_use_unknown: the replay records of this expiry minute were deleted, so the store cannot
            tell whether the token was used. By the store's clock it expired minutes ago (ST4).
    """

    is_first_use: bool | None
    records: tuple[Record | None, ...]
    pages: tuple[Page, ...]
    followed: tuple[Record | None, ...] = ()
    is_use_unknown: bool = False


class Put(Packed):
    """A row to write.

    Attributes:
        value: None writes a tombstone.
        expect: ANY, ABSENT, UNWRITTEN, or the stamp that the row must have. With ABSENT, the row
            may have been written and deleted since it was read; with UNWRITTEN it may not.
        weight_bytes: the number of bytes to add to the counter `account`. When the row is replaced
            or deleted, they are subtracted again (ST7).
        account: key of the counter, or None. A tombstone adds nothing to a counter.
        sequence: key of a sequence, or None. The row gets the next number of the sequence, in place
            of its former position. All rows of a commit have the same number there (ST24).
    """

    key: bytes
    value: bytes | None
    expect: Expect = ANY
    weight_bytes: int = 0
    account: bytes | None = None
    sequence: bytes | None = None


class Add(Packed):
    """An amount to add to a counter.

    `at_most` is an optional upper limit of the counter.
    """

    counter: bytes
    delta: int
    at_most: int | None = None


class Check(Packed):
    """A commit condition that requires a row to be unchanged.

    `stamp` is the row's, or ABSENT if there must be no row. A row that is missing cannot be locked:
    in a database, a commit that another process sends at the same moment may create the row (ST26).
    """

    key: bytes
    stamp: bytes


class Commit(Packed):
    """A set of rows to write atomically, with conditions.

    Attributes:
        puts: at most MAX_PUTS; each key once.
        live: full keys of revocation markers; each must have the value LIVE_MARK (ST2).
        checks: rows that must exist unchanged, or must not exist.
        adds: changes to counters.
        replay_record: written durably with the commit. The commit is refused if another commit
            wrote the same record (ST4).
        reserve: which part of the last space of a full store the commit may use (ST17). None: the
            first half if the commit is small, otherwise nothing. NO_RESERVE: nothing.
            REVOCATION_RESERVE: see there. Any other text is the DID of the owner on whose share
            the commit counts, such as a key release.
    """

    puts: tuple[Put, ...] = ()
    live: tuple[bytes, ...] = ()
    checks: tuple[Check, ...] = ()
    adds: tuple[Add, ...] = ()
    replay_record: ReplayRecord | None = None
    reserve: str | None = None

    @property
    def writes(self) -> bool:
        """Whether the commit writes anything.

        A commit that has only conditions confirms that the rows its caller read are durable (ST16).
        """
        return bool(self.puts or self.adds or self.replay_record)


class Committed(Packed):
    """The result of a commit that succeeded.

    The commit is durable.
    """

    already_applied: bool = False


class Refused(Packed):
    """The result of a commit whose condition was not met.

    Nothing was written. Read again to find out why (ST3).
    """


class Store(Protocol):
    """The interface of a store engine.

    Any number of tasks on one event loop may use it. Other processes may have the same store open.
    """

    async def read(
        self,
        keys: Sequence[bytes] = (),
        *,
        replay_record: ReplayRecord | None = None,
        ranges: Sequence[Range] = (),
        follow: Follow | None = None,
    ) -> Snapshot:
        """Read rows and ranges from one snapshot.

        If `replay_record` is given, it is written too.

        The snapshot includes every commit acknowledged anywhere before this call (ST1). Replay
        records are exact across processes: of any number of reads with one key, one gets
        `is_first_use` True. The record is written whatever the caller decides afterwards. It is the
        only write that a power cut may undo; commits write replay records durably.

        Raises:
            CommitTooLarge: more keys, ranges or rows than allowed, or a key that is too long. A key
                to follow counts as two.
            CommitInvalid: a range or replay record that is not valid.
            StoreUnavailable: the engine cannot be reached.
        """

    async def commit(self, commit: Commit) -> Committed | Refused:
        """Write a commit atomically and durably.

        Acknowledged writes survive a crash or power loss. Everything that was read before is then
        durable too. A commit that has only conditions writes no row, but confirms that the rows it
        names are durable (ST16).

        Raises:
            CommitTooLarge, CommitInvalid: before anything was sent.
            StoreFull: no free space; nothing was written.
            StoreBusy: too many bytes are waiting already; nothing was written.
            StoreUnavailable: the outcome is unknown.
        """

    async def close(self) -> None:
        """Close the store and release its resources.

        Commits that are still in flight raise StoreUnavailable.
        """


async def read_row(store: Store, key: bytes) -> Record | None:
    """Read one row."""
    return (await store.read((key,))).records[0]


async def read_page(store: Store, range_: Range) -> Page:
    """Read one page of a range."""
    return (await store.read(ranges=(range_,))).pages[0]


async def commit_puts(store: Store, *puts: Put) -> bool:
    """Write rows in one commit.

    Returns False if the commit was refused.
    """
    return isinstance(await store.commit(Commit(puts=puts)), Committed)


def has_value(record: Record | None) -> bool:
    """Return whether a row exists and is not a tombstone."""
    return record is not None and record.value is not None


def stamp_of(record: Record | None) -> Expect:
    """Return a row's version stamp, or ABSENT if the row is missing.

    Pass it as `Put.expect`. The write then fails if the row has changed since it was read. A
    missing row may have been written and deleted again; where that matters, expect UNWRITTEN.
    """
    return ABSENT if record is None else record.stamp


def check_of(key: bytes, record: Record | None) -> Check:
    """Return a commit condition that requires a row to be unchanged.

    Raises RecordDamaged if the row does not exist.
    """
    if record is None or record.value is None:
        raise RecordDamaged("a row that a commit relies on is missing")
    return Check(key, record.stamp)


async def pages_of(store: Store, range_: Range) -> AsyncIterator[Page]:
    """Yield all pages of a range.

    Each page is a separate read. Other tasks run in between.
    """
    more = True
    while more:
        page = await read_page(store, range_)
        yield page
        if page.more and page.last_key is None:
            # Without a key to continue after, this loop would read the same page for ever.
            raise RuntimeError(
                "the store returned a page without a last key, although more rows follow"
            )
        more = page.more
        range_ = replace(range_, after=page.last_key)
        await asyncio.sleep(0)  # a page of tombstones can take milliseconds (ST5)


COUNTER_BYTES = 8


def counter_of(record: Record | None) -> int:
    """Return the value of a counter row, or 0 if the row is missing."""
    if record is None or record.value is None:
        return 0
    if len(record.value) != COUNTER_BYTES:
        raise RecordDamaged(
            f"a counter row must be {COUNTER_BYTES} bytes long, but is {len(record.value)}"
        )
    return int.from_bytes(record.value, "big", signed=True)


def check_read(
    keys: Sequence[bytes],
    replay_record: ReplayRecord | None,
    ranges: Sequence[Range],
    follow: Follow | None,
) -> None:
    """Check that a read is within the store's limits."""
    count = len(keys) if follow is None else len(keys) + 2 * len(follow.keys)
    if count > MAX_READ_KEYS:
        raise too_large("keys of a read", count, MAX_READ_KEYS)
    if len(ranges) > MAX_RANGES:
        raise too_large("ranges of a read", len(ranges), MAX_RANGES)
    _check_keys(keys)
    if follow is not None:
        _check_keys((follow.prefix, *follow.keys))
    for range_ in ranges:
        _check_keys((range_.prefix,))
        if range_.after is not None and len(range_.after) > MAX_KEY_BYTES:
            raise too_large("key bytes", len(range_.after), MAX_KEY_BYTES)
        if range_.limit > MAX_PAGE_ROWS:
            raise too_large("rows of a page", range_.limit, MAX_PAGE_ROWS)
        if range_.limit < 1:
            raise CommitInvalid("the page size must be at least 1 row")
        if range_.by_number:
            _check_sequence(range_.prefix)
    if replay_record is not None:
        check_replay_record(replay_record)


def check_replay_record(replay_record: ReplayRecord) -> None:
    """Check that a replay record can be stored."""
    if len(replay_record.key) != REPLAY_KEY_BYTES:
        raise CommitInvalid("the key of a replay record must be 32 bytes long")
    if not 0 <= replay_record.expires_at < 60 << 32:
        raise CommitInvalid("the expiry of a replay record is not a valid time")


def check_commit(commit: Commit) -> None:
    """Check that a commit is valid and within the store's limits."""
    # These limit what one commit writes (ST6), and the time that it takes.
    if len(commit.puts) > MAX_PUTS:
        raise too_large("puts", len(commit.puts), MAX_PUTS)
    if len(commit.live) > MAX_LIVE:
        raise too_large("live marks", len(commit.live), MAX_LIVE)
    if len(commit.checks) > MAX_CHECKS:
        raise too_large("checks", len(commit.checks), MAX_CHECKS)
    if len(commit.adds) > MAX_ADDS:
        raise too_large("adds", len(commit.adds), MAX_ADDS)
    written = _check_puts(commit.puts)
    _check_keys(commit.live)
    counters: list[bytes | None] = []
    for add in commit.adds:
        _check_key(add.counter)
        counters.append(add.counter)
    for check in commit.checks:
        _check_key(check.key)
        if len(check.stamp) != STAMP_BYTES and check.stamp != ABSENT:
            raise CommitInvalid(
                f"the version stamp in a Check must be {STAMP_BYTES} bytes long, but is"
                f" {len(check.stamp)}"
            )
    if commit.replay_record is not None:
        check_replay_record(commit.replay_record)
    # Each row is written once, and not both written and incremented: the outcome would depend on an
    # order that the contract does not specify.
    if len(written) != len(commit.puts):
        raise CommitInvalid("a commit must not write the same key twice")
    counters += [put.account for put in commit.puts]
    if not written.isdisjoint(counters):
        raise CommitInvalid("a commit must not write and increment the same row")
    sequences = sequences_of(commit)
    if sequences:
        _check_sequences(sequences, written, counters)


def _check_puts(puts: Sequence[Put]) -> set[bytes]:
    """Check rows to write, and return their keys."""
    keys: set[bytes] = set()
    size_bytes = 0
    for put in puts:
        _check_put(put)
        keys.add(put.key)
        size_bytes += len(put.key)
        if put.value is not None:
            size_bytes += len(put.value)
    if size_bytes > MAX_COMMIT_BYTES:
        raise too_large("commit bytes", size_bytes, MAX_COMMIT_BYTES)
    return keys


def sequences_of(commit: Commit) -> list[bytes]:
    """Return the keys of the sequences in which a commit takes a number (ST24)."""
    sequences: list[bytes] = []
    for put in commit.puts:
        if put.sequence is not None and put.sequence not in sequences:
            sequences.append(put.sequence)
    return sequences


def _check_sequences(
    sequences: Sequence[bytes], written: Set[bytes], counters: Sequence[bytes | None]
) -> None:
    """Check the sequences of a commit, which writes and counts the rows with the given keys."""
    if len(sequences) > MAX_SEQUENCES:
        raise too_large("sequences", len(sequences), MAX_SEQUENCES)
    for sequence in sequences:
        if not 0 < len(sequence) <= MAX_SEQUENCE_BYTES:
            _check_sequence(sequence)  # raises the error for this key
        if sequence in written or sequence in counters:
            raise CommitInvalid("only the store may write the row of a sequence")


def _check_sequence(sequence: bytes) -> None:
    if not 0 < len(sequence) <= MAX_SEQUENCE_BYTES:
        _check_key(sequence)  # raises the error for a key that no row may have
        raise too_large("bytes in the key of a sequence", len(sequence), MAX_SEQUENCE_BYTES)


def _check_put(put: Put) -> None:
    key, value, expect, account = put.key, put.value, put.expect, put.account
    if put.sequence is not None and value is None:
        raise CommitInvalid("a tombstone must not have a sequence")
    if not 0 < len(key) <= MAX_KEY_BYTES:
        _check_key(key)  # raises the error for this key
    if len(expect) != STAMP_BYTES and expect not in (ANY, ABSENT, UNWRITTEN):
        raise CommitInvalid(
            f"Put.expect must be ANY, ABSENT, UNWRITTEN or a version stamp of {STAMP_BYTES} bytes"
        )
    if account is not None and not 0 < len(account) <= _MAX_ACCOUNT_BYTES:
        _check_key(account)  # raises the error for a key that no row may have
        raise too_large("account key bytes", len(account), _MAX_ACCOUNT_BYTES)
    if not 0 <= put.weight_bytes < _WEIGHT_END:
        raise CommitInvalid("Put.weight_bytes must not be negative and must fit in 63 bits")
    if value is not None and len(value) > MAX_VALUE_BYTES:
        raise too_large("value bytes", len(value), MAX_VALUE_BYTES)


def _check_keys(keys: Iterable[bytes]) -> None:
    for key in keys:
        if not 0 < len(key) <= MAX_KEY_BYTES:
            _check_key(key)  # raises the error for this key


def _check_key(key: bytes) -> None:
    if len(key) > MAX_KEY_BYTES:
        raise too_large("key bytes", len(key), MAX_KEY_BYTES)
    if not key:
        raise CommitInvalid("a key must not be empty")


def too_large(bound: str, got: int, limit: int) -> CommitTooLarge:
    """Return the error for a number that exceeds its limit."""
    return CommitTooLarge(f"too many {bound}: {got}, at most {limit} are allowed")
