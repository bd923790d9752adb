"""What every engine of the store promises: an ordered map of bytes, read and committed atomically.

Nothing above this folder knows which engine is in use. The rules (ST1 to ST8) are in spec/store.md;
the docstrings here say what a caller may rely on.

Example:
    snapshot = await store.read((key,), replay_record=ReplayRecord(key=content_key, expires_at=exp))
    if snapshot.is_first_use is False: ...
    outcome = await store.commit(Commit(puts=(Put(key, b"value", expect=ABSENT),), live=(mark,)))
    if isinstance(outcome, Refused): ...        # nothing was written; read again to find out why
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, Protocol, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from ..keyspace import replay_minute4
from ..space_errors import CommitInvalid, CommitTooLarge, RecordDamaged

# ST6. The engines allow a little more; these are the bounds that apply everywhere.
MAX_KEY_BYTES: Final = 480
MAX_VALUE_BYTES: Final = 512 * 1024
MAX_COMMIT_BYTES: Final = 8 * 1024 * 1024
MAX_PUTS: Final = 256
# Bounds of our own: what a commit compares, and what one read may collect on the event loop.
MAX_LIVE: Final = 4096
MAX_CHECKS: Final = 1024
MAX_ADDS: Final = 256
MAX_READ_KEYS: Final = 8192
MAX_RANGES: Final = 64
MAX_PAGE_ROWS: Final = 4096
MAX_PAGE_BYTES: Final = 8 * 1024 * 1024
MAX_PAGE_SCAN: Final = 16_384  # rows looked at, tombstones included: bounds the time one page takes

STAMP_BYTES: Final = 16

_MAX_ACCOUNT_BYTES: Final = 255
_WEIGHT_END: Final = 1 << 63
REPLAY_KEY_BYTES: Final = 32
KEYS_END: Final = b"\xff" * (MAX_KEY_BYTES + 1)  # greater than every key

LIVE_MARK: Final = b"L"  # the value a row must have to be named under `live` (ST2)

Expect: TypeAlias = bytes
ANY: Final[Expect] = b""  # whatever is there
# no row, or a tombstone (ST5); a stamp has 16 bytes and cannot be mistaken for it
ABSENT: Final[Expect] = b"absent"


class ReplayRecord(Struct, frozen=True, array_like=True, gc=False):
    """A replay record to be written: a claim that something is used for the first time.

    Attributes:
        key: 32 bytes, a digest of what may be used once.
        expires_at: epoch seconds after which the thing is no longer usable; the claim is stored
            under the minute of this time and forgotten some minutes after it (ST4). Never take it
            from the clock.
    """

    key: bytes
    expires_at: int

    @property
    def row(self) -> bytes:
        """Minute and name under which it is stored: minute4 ‖ id16."""
        return replay_minute4(self.expires_at) + self.key[:16]


class Range(Struct, frozen=True, array_like=True, gc=False):
    """Rows whose key starts with `prefix`, in byte order."""

    prefix: bytes
    after: bytes | None = None
    limit: int = 1000
    reverse: bool = False
    keys_only: bool = False

    @property
    def bounds(self) -> tuple[bytes, bytes]:
        """The first possible key, and one beyond the last."""
        first, after, stripped = self.prefix, self.after, self.prefix.rstrip(b"\xff")
        end = stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else KEYS_END
        if after is None:
            return first, end
        return (first, min(after, end)) if self.reverse else (max(first, after + b"\0"), end)


class Follow(Struct, frozen=True, array_like=True, gc=False):
    """Rows whose values are the ends of other rows' keys, so that both are read in one round
    trip."""

    keys: tuple[bytes, ...]
    prefix: bytes


class Record(Struct, frozen=True, array_like=True, gc=False):
    """One row: its value, None for a tombstone (ST5), and its stamp of 16 random bytes, new with
    every put."""

    value: bytes | None
    stamp: bytes


class Page(Struct, frozen=True, array_like=True, gc=False):
    """A part of a range."""

    rows: tuple[tuple[bytes, Record], ...]
    more: bool
    last_key: bytes | None = None

    @property
    def place(self) -> bytes | None:
        """The key that the next page comes after; None at the end of the range."""
        return self.last_key if self.more else None


class Snapshot(Struct, frozen=True, array_like=True, gc=False):
    """The result of one read, all of it at one moment.

    Attributes:
        claimed: whether the claim was made now; None when none was requested.
        records: in the order of the keys; None for a row that does not exist.
        pages: in the order of the ranges.
        followed: in the order of the keys to follow, the rows they lead to; None where either row
            does not exist, the first is a tombstone, or the key it leads to is too long.
        is_forgotten: the claim was refused because its minute was swept, so it is unknown whether
            it was made before: by the clock of the store, what is claimed expired minutes ago
            (ST4).
    """

    is_first_use: bool | None
    records: tuple[Record | None, ...]
    pages: tuple[Page, ...]
    followed: tuple[Record | None, ...] = ()
    is_forgotten: bool = False


class Put(Struct, frozen=True, array_like=True, gc=False):
    """One row to be written.

    Attributes:
        value: None leaves a tombstone.
        expect: ANY, ABSENT, or the stamp the row must have.
        weight_bytes: how much the row charges to the account; the row's former weight is given back
            (ST7).
        account: key of the counter row that is charged; None: no account. A tombstone weighs
            nothing.
    """

    key: bytes
    value: bytes | None
    expect: Expect = ANY
    weight_bytes: int = 0
    account: bytes | None = None


class Add(Struct, frozen=True, array_like=True, gc=False):
    """A change of a counter row."""

    counter: bytes
    delta: int
    at_most: int | None = None


class Check(Struct, frozen=True, array_like=True, gc=False):
    """A row that must exist with this stamp, unchanged, when the commit happens."""

    key: bytes
    stamp: bytes


class Commit(Struct, frozen=True, array_like=True, gc=False):
    """Writes and the conditions under which they happen, all or nothing.

    Attributes:
        puts: at most 256, every key once.
        live: full mark keys; each must contain LIVE_MARK then (ST2).
        checks: rows that must exist unchanged.
        adds: counters.
        replay_record: claimed durably with the commit; refused when another commit has it (ST4).
    """

    puts: tuple[Put, ...] = ()
    live: tuple[bytes, ...] = ()
    checks: tuple[Check, ...] = ()
    adds: tuple[Add, ...] = ()
    replay_record: ReplayRecord | None = None

    @property
    def writes(self) -> bool:
        """Whether it changes anything; one of conditions alone confirms what its caller has read
        (ST16)."""
        return bool(self.puts or self.adds or self.replay_record)


class Committed(Struct, frozen=True, array_like=True, gc=False):
    """The commit is durable."""

    already_applied: bool = False


class Refused(Struct, frozen=True, array_like=True, gc=False):
    """A condition did not hold and nothing was written. Read again to find out why (ST3)."""


class Store(Protocol):
    """An engine. Safe for any number of tasks of one event loop; other processes may have the same
    store open."""

    async def read(
        self,
        keys: Sequence[bytes] = (),
        *,
        replay_record: ReplayRecord | None = None,
        ranges: Sequence[Range] = (),
        follow: Follow | None = None,
    ) -> Snapshot:
        """Read rows and ranges at one moment, and make a claim.

        The moment is after every commit acknowledged anywhere before this call (ST1). The claim is
        exact across processes: of any number of reads with one key, one gets `claimed` True. It is
        made whatever the caller decides afterwards, and it is the one thing here that a power cut
        may undo; commits claim durably.

        Raises:
            CommitTooLarge: more keys, ranges or rows than the bounds, or a key that is too long. A
                key to follow counts as two.
            CommitInvalid: a range or claim that makes no sense.
            StoreUnavailable: the engine cannot be reached.
        """
        ...

    async def commit(self, commit: Commit) -> Committed | Refused:
        """Write everything or nothing; durable (survives SIGKILL and power loss) before it returns.

        So is everything that was read before: a commit of conditions alone leaves no row, and
        confirms what it names (ST16).

        Raises:
            CommitTooLarge, CommitInvalid: before anything was sent.
            StoreFull: no free space; nothing was written.
            StoreBusy: too many bytes are waiting already; nothing was written.
            StoreUnavailable: the outcome is unknown.
        """
        ...

    async def close(self) -> None:
        """Release all resources. Commits still in flight raise StoreUnavailable."""
        ...


async def read_row(store: Store, key: bytes) -> Record | None:
    """Read one row."""
    return (await store.read((key,))).records[0]


async def read_page(store: Store, wanted: Range) -> Page:
    """Read one range."""
    return (await store.read(ranges=(wanted,))).pages[0]


def stamp_of(record: Record | None) -> Expect:
    """Return the condition that a row is still as it was read."""
    return ABSENT if record is None else record.stamp


def check_of(key: bytes, record: Record | None) -> Check:
    """Return the condition that a row with a value is still as it was read."""
    if record is None or record.value is None:
        raise RecordDamaged("a row that a commit relies on is missing")
    return Check(key, record.stamp)


async def pages_of(store: Store, wanted: Range) -> AsyncIterator[Page]:
    """Yield a whole range page by page, each read at a moment of its own; between them other tasks
    run."""
    more = True
    while more:
        page = await read_page(store, wanted)
        yield page
        if page.more and page.last_key is None:
            # else the range begins again
            raise RuntimeError("a page with more behind it must name its last key")
        more, wanted = page.more, replace(wanted, after=page.last_key)
        await asyncio.sleep(0)  # a page of tombstones has taken milliseconds (ST5)


COUNTER_BYTES: Final = 8


def counter_of(record: Record | None) -> int:
    """Return the value of a counter row as it was read; an absent one is 0."""
    if record is None or record.value is None:
        return 0
    if len(record.value) != COUNTER_BYTES:
        raise RecordDamaged("a counter row does not have 8 bytes")
    return int.from_bytes(record.value, "big", signed=True)


def check_read(
    keys: Sequence[bytes],
    replay_record: ReplayRecord | None,
    ranges: Sequence[Range],
    follow: Follow | None,
) -> None:
    """Refuse a read beyond the bounds; see `Store.read`."""
    require_bound(
        "keys of a read",
        len(keys) if follow is None else len(keys) + 2 * len(follow.keys),
        MAX_READ_KEYS,
    )
    require_bound("ranges of a read", len(ranges), MAX_RANGES)
    _check_keys(keys)
    if follow is not None:
        _check_keys((follow.prefix, *follow.keys))
    for wanted in ranges:
        _check_keys((wanted.prefix,))
        if wanted.after is not None:
            require_bound("key bytes", len(wanted.after), MAX_KEY_BYTES)
        require_bound("rows of a page", wanted.limit, MAX_PAGE_ROWS)
        if wanted.limit < 1:
            raise CommitInvalid("a page has at least one row")
    if replay_record is not None:
        check_replay_record(replay_record)


def check_replay_record(replay_record: ReplayRecord) -> None:
    """Refuse a claim that cannot be stored."""
    if len(replay_record.key) != REPLAY_KEY_BYTES:
        raise CommitInvalid("a claim's key has 32 bytes")
    if not 0 <= replay_record.expires_at < 60 << 32:
        raise CommitInvalid("a claim's expiry is not a time")


def check_commit(commit: Commit) -> None:
    """Refuse a commit that is beyond the bounds or contradicts itself; see `Store.commit`."""
    require_bound("puts", len(commit.puts), MAX_PUTS)  # ST6
    require_bound("live marks", len(commit.live), MAX_LIVE)
    require_bound("checks", len(commit.checks), MAX_CHECKS)
    require_bound("adds", len(commit.adds), MAX_ADDS)
    _check_puts(commit.puts)
    _check_keys(
        [
            *commit.live,
            *[check.key for check in commit.checks],
            *[add.counter for add in commit.adds],
        ]
    )
    for check in commit.checks:
        if len(check.stamp) != STAMP_BYTES:
            raise CommitInvalid("a check names a stamp of 16 bytes")
    if commit.replay_record is not None:
        check_replay_record(commit.replay_record)
    _check_disjoint(commit)


def _check_puts(puts: Sequence[Put]) -> None:
    size_bytes = 0
    for put in puts:
        key, value, expect, account = put.key, put.value, put.expect, put.account
        if not 0 < len(key) <= MAX_KEY_BYTES:
            _check_keys((key,))
        if len(expect) != STAMP_BYTES and expect != ANY and expect != ABSENT:
            raise CommitInvalid("a put expects anything, absence or a stamp of 16 bytes")
        if account is not None and not 0 < len(account) <= _MAX_ACCOUNT_BYTES:
            _check_keys((account,))
            require_bound("account key bytes", len(account), _MAX_ACCOUNT_BYTES)
        if not 0 <= put.weight_bytes < _WEIGHT_END:
            raise CommitInvalid("a weight is not negative and fits 63 bits")
        size_bytes += len(key)
        if value is not None:
            if len(value) > MAX_VALUE_BYTES:
                require_bound("value bytes", len(value), MAX_VALUE_BYTES)
            size_bytes += len(value)
    require_bound("commit bytes", size_bytes, MAX_COMMIT_BYTES)


def _check_disjoint(commit: Commit) -> None:
    """Refuse a key put twice, or put and counted: the outcome would depend on an unspecified
    order."""
    written = {put.key for put in commit.puts}
    if len(written) != len(commit.puts):
        raise CommitInvalid("a commit puts a key twice")
    for add in commit.adds:
        if add.counter in written:
            raise CommitInvalid("a commit puts a row that it also counts in")
    for put in commit.puts:
        if put.account in written:
            raise CommitInvalid("a commit puts a row that it also counts in")


def _check_keys(keys: Iterable[bytes]) -> None:
    for key in keys:
        if not 0 < len(key) <= MAX_KEY_BYTES:
            require_bound("key bytes", len(key), MAX_KEY_BYTES)
            raise CommitInvalid("a key is not empty")


def require_bound(bound: str, got: int, limit: int) -> None:
    """Raise CommitTooLarge where something goes beyond its bound."""
    if got > limit:
        raise CommitTooLarge(f"{bound}: {got} is more than {limit}")
