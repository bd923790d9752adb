"""The encoding of rows and tombstones in LMDB.

    offset  size  field
    ──────  ────  ──────────────────────────────────────────────────────────────────────
    0       16    stamp
    16      1     flags: 1 = has a value (else a tombstone), 2 = added to a counter,
                  4 = has a position in a sequence
    17      8     bytes added, big-endian            } only with flag 2
    25      1     length n of the counter's key      }
    26      n     key of the counter                 }
    …       1     length p of the position           } only with flag 4
    …       p     position                           }
    …       …     value

    17      4     minute of the deletion             } only in a tombstone

The added bytes are stored with the row, so that replacing it subtracts exactly as many (ST7). Rows
are read as bytes, not as views of the map: copying a kilobyte costs less than a view, and a large
value is copied once more than necessary. Tombstones are in a table of their own (`_format`), and so
are the positions of rows, with their keys.
"""

from collections.abc import Iterable

from ..contract import LIVE_MARK, Expect, Record

_STAMP_END = 16
_VALUE = 1
_WEIGHED = 2
_NUMBERED = 4
_HEADER_END = 17
_WEIGHT_END = 25
_ACCOUNT_START = 26

_FLAG_BYTE = tuple([bytes((flags,)) for flags in range(8)])
# The bytes after the stamp of a live marker that is not added to a counter.
_LIVE_MARK_ALONE = _FLAG_BYTE[_VALUE] + LIVE_MARK

Row = bytes


def encode_row(
    stamp: bytes,
    value: bytes,
    *,
    weight_bytes: int = 0,
    account: bytes | None = None,
    position: bytes = b"",
) -> bytes:
    """Encode a row that has a value."""
    flags = _VALUE
    optional = b""
    if account is not None and weight_bytes:
        flags |= _WEIGHED
        optional = weight_bytes.to_bytes(8, "big") + bytes((len(account),)) + account
    if position:
        flags |= _NUMBERED
        optional += bytes((len(position),)) + position
    return stamp + _FLAG_BYTE[flags] + optional + value


def encode_tombstone(stamp: bytes, minute: int) -> bytes:
    """Encode the tombstone of a deleted row.

    `minute` is the minute in which the row was deleted.
    """
    return stamp + _FLAG_BYTE[0] + minute.to_bytes(4, "big")


def tombstone_minute(row: Row) -> int:
    """Return the minute in which a tombstone's row was deleted."""
    return int.from_bytes(row[_HEADER_END:], "big")


def old_tombstone_keys(
    tombstones: Iterable[tuple[bytes, Row]], *, before_minute: int
) -> list[bytes]:
    """Return the keys of rows that were deleted before a given time.

    The rows are given by their tombstones, and the time in minutes since the epoch.
    """
    before = before_minute.to_bytes(4, "big")
    return [key for key, row in tombstones if row[_HEADER_END:] < before]


def record_of(row: Row) -> Record:
    """Decode a stored row or tombstone."""
    flags = row[_STAMP_END]
    if not flags & _VALUE:
        return Record(None, row[:_STAMP_END])
    start = _HEADER_END
    if flags & _WEIGHED:
        start = _ACCOUNT_START + row[_WEIGHT_END]  # after the counter's key
    if flags & _NUMBERED:
        position_start = start + 1
        start = position_start + row[start]
        position = row[position_start:start]
        return Record(value=row[start:], stamp=row[:_STAMP_END], position=position)
    return Record(row[start:], row[:_STAMP_END])


def records_of(rows: Iterable[Row | None]) -> tuple[Record | None, ...]:
    """Decode stored rows and tombstones.

    Most rows are not added to a counter. They are decoded without a function call for each.
    """
    records: list[Record | None] = []
    for row in rows:
        if row is None:
            records.append(None)
        elif row[_STAMP_END] == _VALUE:
            records.append(Record(row[_HEADER_END:], row[:_STAMP_END]))
        else:
            records.append(record_of(row))
    return tuple(records)


def is_tombstone(row: Row | memoryview) -> bool:
    """Return whether a row is a tombstone (ST5)."""
    return not row[_STAMP_END] & _VALUE


def is_live_marker(row: Row | None) -> bool:
    """Return whether a row marks a delegation as live (ST2).

    False if the row does not exist.
    """
    if row is None:
        return False
    return row[_STAMP_END:] == _LIVE_MARK_ALONE or record_of(row).value == LIVE_MARK


def has_stamp(row: Row | None, stamp: Expect) -> bool:
    """Return whether a row has the given version stamp.

    False if the row does not exist.
    """
    return row is not None and row[:_STAMP_END] == stamp


def position_of(row: Row) -> bytes:
    """Return the position of a row in a sequence (ST24).

    It is empty for a row outside of all sequences.
    """
    flags = row[_STAMP_END]
    if not flags & _NUMBERED:
        return b""
    start = _HEADER_END
    if flags & _WEIGHED:
        start = _ACCOUNT_START + row[_WEIGHT_END]  # after the counter's key
    return row[start + 1 : start + 1 + row[start]]


def charge_of(row: Row) -> tuple[bytes, int] | None:
    """Return the counter to which a row's size is added, and that size.

    The counter is given by its key. None means that the row is not added to a counter.
    """
    if not row[_STAMP_END] & _WEIGHED:
        return None
    weight_bytes = int.from_bytes(row[_HEADER_END:_WEIGHT_END], "big")
    account = row[_ACCOUNT_START : _ACCOUNT_START + row[_WEIGHT_END]]
    return account, weight_bytes
