"""MessagePack encoding of row values.

A value is an array of fields in a fixed order. Decoding is strict.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from .space_errors import RecordDamaged
from .store.contract import Record

T = TypeVar("T", bound=msgspec.Struct)


def value_or_empty(record: Record | None) -> bytes:
    """Return the value of a row, or b"" for a missing row or a tombstone."""
    if record is None or record.value is None:
        return b""
    return record.value


class Codec(Generic[T]):
    """The encoder and decoder for one type of row."""

    def __init__(self, kind: type[T]) -> None:
        self.encode: Callable[[T], bytes] = msgspec.msgpack.Encoder().encode
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._name = kind.__name__.lstrip("_")

    def decode(self, data: bytes) -> T:
        """Decode the value of a row."""
        try:
            return self._decoder.decode(data)
        except (ValueError, RecursionError) as exc:
            raise self._damaged() from exc

    def of(self, record: Record) -> T:
        """Decode the value of an existing row.

        Raises RecordDamaged for a tombstone.
        """
        return self.decode(record.value or b"")

    def read(self, record: Record | None) -> T | None:
        """Decode the value of an optional row.

        Returns None for a missing row or a tombstone.
        """
        if record is None or record.value is None:
            return None
        try:  # as in `decode`; nearly every request reads rows
            return self._decoder.decode(record.value)
        except (ValueError, RecursionError) as exc:
            raise self._damaged() from exc

    def _damaged(self) -> RecordDamaged:
        return RecordDamaged(f"a stored {self._name} cannot be decoded")
