"""Checks of rows by double-entry bookkeeping.

A check of a row raises RecordDamaged, or books amounts to accounts, which are keys of counters or
objects. The entries of each account have to add up to zero.
"""

from collections.abc import Callable, Iterable

from ..space_errors import RecordDamaged
from ..store.contract import Record

AccountingEntry = tuple[bytes, int]
"""The key of an account, and an amount."""
Get = Callable[[bytes], Record | None]
"""Returns the row under a key, as of the snapshot that is checked."""
RowCheck = Callable[[bytes, Record, Get], Iterable[AccountingEntry] | None]
"""Checks a row, and returns its entries."""


def require(holds: bool, text: str) -> None:
    """Raise RecordDamaged unless a condition is true."""
    if not holds:
        raise RecordDamaged(text)
