"""Checks of rows by double-entry bookkeeping.

A check of a row raises RecordDamaged, or books amounts to accounts, which are keys of counters or
objects. The entries of each account have to add up to zero.
"""

from collections.abc import Callable, Iterable

from ..space_errors import RecordDamaged
from ..store.contract import Record

AccountingEntry = tuple[bytes, int]
"""The key of an account, and an amount."""
GetRow = Callable[[bytes], Record | None]
"""Returns the row under a key in the snapshot that is checked, or None."""
RowCheck = Callable[[bytes, Record, GetRow], Iterable[AccountingEntry] | None]
"""Checks a row by its key, and returns its entries."""


def require(condition: bool, text: str) -> None:
    """Raise RecordDamaged with a text unless a condition is true."""
    if not condition:
        raise RecordDamaged(text)
