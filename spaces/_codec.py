"""MessagePack of the rows' values: arrays of fields in order, read strictly."""

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from .space_errors import RecordDamaged
from .store.contract import Record

T = TypeVar("T", bound=msgspec.Struct)


class Codec(Generic[T]):
    """Encodes and decodes one kind of row."""

    def __init__(self, kind: type[T]) -> None:
        self.encode: Callable[[T], bytes] = msgspec.msgpack.Encoder().encode
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._name = kind.__name__.lstrip("_")

    def decode(self, data: bytes) -> T:
        """Read a row's value."""
        try:
            return self._decoder.decode(data)
        except (ValueError, RecursionError) as exc:
            raise RecordDamaged(f"a stored {self._name} does not decode") from exc

    def of(self, record: Record) -> T:
        """Read the value of a row that is there; a tombstone does not decode."""
        return self.decode(record.value or b"")

    def read(self, record: Record | None) -> T | None:
        """Read a row's value; None where there is no row, or a tombstone."""
        return None if record is None or record.value is None else self.decode(record.value)
