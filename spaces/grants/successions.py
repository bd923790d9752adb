"""Database rows of owners who have moved to another wallet, or are about to.

The first statement of a succession writes the row without a successor, and the second one writes
the successor (TM17, TM18). Neither is ever undone. Every call that depends on a wallet reads its
row in the snapshot of its revocation markers, and its commit requires the row unchanged. A row that
is missing cannot be locked in every engine, so the row is written some time before it refuses
anything (ST26).
"""

from collections.abc import Sequence

from capabilities.cache import Results
from capabilities.cids import ContentKey
from capabilities.principals import Principal

from .._codec import Codec
from ..keyspace import SUCCESSIONS_PREFIX, x16
from ..store.contract import ABSENT, Check, Packed, Put, Record, stamp_of

_MEMOISED_CHARS = 512
_DID_CHARS = 64


class Succession(Packed, kw_only=True):
    """The row of an owner for whom a successor was named.

    Attributes:
        owner: DID of the owner.
        successor: DID of the wallet to which the owner has moved; None: not moved yet.
        statements: content keys of the two statements; empty before the move.
        at: time of the move, epoch seconds; 0 before it.
    """

    owner: Principal
    successor: Principal | None = None
    statements: tuple[ContentKey, ...] = ()
    at: float = 0.0


_CODEC = Codec(Succession)
succession_of = _CODEC.of
"""Decode the row of a succession."""
read_succession = _CODEC.read
"""Decode the row of a succession; None if there is no such row."""


def succession_key(owner: Principal) -> bytes:
    """Return the database key of an owner's succession."""
    return SUCCESSIONS_PREFIX + x16(owner)


def _keys_of(owners: tuple[Principal, ...]) -> tuple[bytes, ...]:
    return tuple([SUCCESSIONS_PREFIX + x16(owner) for owner in owners])


# Every request computes the keys of the same few wallets. Long lists are not cached: clients could
# fill the memory with them.
succession_keys = Results(
    _keys_of,
    most=8192,
    longest=_MEMOISED_CHARS,
    length=lambda owners: sum(map(len, owners)),
).__getitem__
"""Return the key of each owner's succession."""


def _absence_checks(keys: tuple[bytes, ...]) -> tuple[Check, ...]:
    return tuple([Check(key, ABSENT) for key in keys])


_all_absent = Results(
    _absence_checks, most=8192, longest=_MEMOISED_CHARS // _DID_CHARS, length=len
).__getitem__


def succession_put(succession: Succession, record: Record | None) -> Put:
    """Return the write operation that stores a succession.

    The commit is refused if the row is not `record` any more.
    """
    return Put(succession_key(succession.owner), _CODEC.encode(succession), expect=stamp_of(record))


def unchanged_successions(
    keys: tuple[bytes, ...], records: Sequence[Record | None]
) -> tuple[Check, ...]:
    """Return the conditions that no owner has moved since the rows were read.

    Args:
        keys: `succession_keys` of the owners.
        records: the rows, in the same order; None for an owner without a row.
    """
    if records.count(None) == len(keys):  # nearly always
        return _all_absent(keys)
    checks: list[Check] = []
    for key, record in zip(keys, records, strict=True):
        checks.append(Check(key, ABSENT if record is None else record.stamp))
    return tuple(checks)


def has_moved(record: Record | None) -> bool:
    """Return whether an owner has moved to another wallet; `record` is its row."""
    return bool(moved_owners((record,)))


def moved_owners(records: Sequence[Record | None]) -> tuple[Succession, ...]:
    """Return the successions of the owners who have moved.

    Owners for whom only the first statement was registered are left out.
    """
    moved: list[Succession] = []
    for record in records:
        if record is None:  # nearly every owner
            continue
        succession = succession_of(record)
        if succession.successor is not None:
            moved.append(succession)
    return tuple(moved)
