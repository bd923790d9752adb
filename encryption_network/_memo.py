"""Remembering what was read from a row: every release reads the same few, and they seldom change.

What is remembered is found by the bytes themselves, so it can never be that of another row or of an older one: who
decides reads the row each time, and only its parsing is spared. Results must be immutable.

Example:
    @remembered(rows=1024)
    def decode_network(value: bytes) -> NetworkRecord: ...
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Final, TypeVar

Decoded = TypeVar("Decoded")

MAX_REMEMBERED_BYTES: Final = 4096
"""Longer rows are read each time, so that a few large ones cannot fill the memory."""


def remembered(*, rows: int) -> Callable[[Callable[[bytes], Decoded]], Callable[[bytes], Decoded]]:
    """Let a reader remember its last results, at most `rows` of them; what raises is not remembered."""

    def with_memory(decode: Callable[[bytes], Decoded]) -> Callable[[bytes], Decoded]:
        short = lru_cache(maxsize=rows)(decode)

        @wraps(decode)
        def decode_or_recall(value: bytes) -> Decoded:
            return short(value) if len(value) <= MAX_REMEMBERED_BYTES else decode(value)

        return decode_or_recall

    return with_memory
