"""How a record lies in LMDB.

    offset  size  field
    ──────  ────  ──────────────────────────────────────────────────────────────────────────
    0       16    stamp
    16      1     flags: 1 = there is a value (else a tombstone), 2 = the row is weighed
    17      8     weight in bytes, big-endian        } only with flag 2
    25      1     length n of the account            }
    26      n     account                            }
    …       …     value

    17      4     minute of the deletion             } only in a tombstone

The weight travels with the row, so that replacing a row takes back exactly what it was charged (ST7).
"""

from collections.abc import Iterable
from typing import Final

from .contract import LIVE_MARK, Expect, Record

_STAMP_END: Final = 16
_VALUE: Final = 1
_WEIGHED: Final = 2
_HEADER_END: Final = 17
_WEIGHT_END: Final = 25
_ACCOUNT_START: Final = 26

_FLAG_BYTE: Final = (b"\0", b"\1", b"\2", b"\3")

Row = memoryview | bytes


def encode_row(stamp: bytes, value: bytes, *, weight_bytes: int = 0, account: bytes | None = None) -> bytes:
    """Lay out a row with a value."""
    if account is None or weight_bytes == 0:
        return stamp + _FLAG_BYTE[_VALUE] + value
    weighed = weight_bytes.to_bytes(8, "big") + bytes((len(account),)) + account
    return stamp + _FLAG_BYTE[_VALUE | _WEIGHED] + weighed + value


def encode_tombstone(stamp: bytes, minute: int) -> bytes:
    """Lay out a row that stands for nothing, weighs nothing and says since when."""
    return stamp + _FLAG_BYTE[0] + minute.to_bytes(4, "big")


def is_old_tombstone(row: Row, *, before_minute: int) -> bool:
    """Whether a row is a tombstone from before a minute."""
    return is_tombstone(row) and int.from_bytes(row[_HEADER_END:], "big") < before_minute


def minute_of(row: Row) -> int:
    """Return the minute of the deletion that a tombstone records."""
    return int.from_bytes(row[_HEADER_END:], "big")


def record_of(row: Row, *, keys_only: bool = False) -> Record:
    """Copy a row out of the map."""
    flags = row[_STAMP_END]
    stamp = bytes(row[:_STAMP_END])
    if not flags & _VALUE:
        return Record(None, stamp)
    if keys_only:
        return Record(b"", stamp)
    start = _value_start(row) if flags & _WEIGHED else _HEADER_END
    return Record(bytes(row[start:]), stamp)


def _value_start(row: Row) -> int:
    return _ACCOUNT_START + row[_WEIGHT_END] if row[_STAMP_END] & _WEIGHED else _HEADER_END


def is_tombstone(row: Row) -> bool:
    """Whether a row stands for nothing (ST5)."""
    return not row[_STAMP_END] & _VALUE


def live_keys(rows: Iterable[tuple[Row, Row]]) -> list[bytes]:
    """Return the keys of those rows that are no tombstones, in their order."""
    return [bytes(key) for key, row in rows if row[_STAMP_END] & _VALUE]


def is_live_mark(row: Row | None) -> bool:
    """Whether a row exists and holds the live mark (ST2)."""
    return row is not None and not is_tombstone(row) and row[_value_start(row) :] == LIVE_MARK


def has_stamp(row: Row | None, stamp: Expect) -> bool:
    """Whether a row exists with this stamp."""
    return row is not None and row[:_STAMP_END] == stamp


def charge_of(row: Row | None) -> tuple[bytes, int] | None:
    """Return the account that a row is charged to, and with how many bytes."""
    if row is None or not row[_STAMP_END] & _WEIGHED:
        return None
    weight_bytes = int.from_bytes(row[_HEADER_END:_WEIGHT_END], "big")
    return bytes(row[_ACCOUNT_START : _ACCOUNT_START + row[_WEIGHT_END]]), weight_bytes
