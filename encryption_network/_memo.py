"""Remembering what was read from a row, and what follows from it: every release reads the same few.

Results are keyed by the bytes themselves, so a result can never belong to another row or to an older one: the caller
that decides reads the row each time, and only its parsing is spared. Results must be immutable.

Since the same bytes give the same object, what follows from an object is remembered by its identity: to hash its
fields and compare them costs as much as what is spared. The object is held with what follows from it, so that no other
one gets its identity.

Example:
    @remembered(rows=1024)
    def decode_network(value: bytes) -> NetworkRecord: ...

    @remembered_of(values=256)
    def policy_digest(policy: Policy) -> str: ...
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Final, TypeVar

Decoded = TypeVar("Decoded")
Value = TypeVar("Value")
Result = TypeVar("Result")

MAX_REMEMBERED_BYTES: Final = 4096
"""Longer rows are read each time, so that a few large ones cannot fill the memory."""


def remembered(*, rows: int) -> Callable[[Callable[[bytes], Decoded]], Callable[[bytes], Decoded]]:
    """Let a reader remember its last results, at most `rows` of them; a call that raises is not remembered."""

    def with_memory(decode: Callable[[bytes], Decoded]) -> Callable[[bytes], Decoded]:
        short = lru_cache(maxsize=rows)(decode)

        @wraps(decode)
        def decode_or_recall(value: bytes) -> Decoded:
            return short(value) if len(value) <= MAX_REMEMBERED_BYTES else decode(value)

        return decode_or_recall

    return with_memory


def remembered_of(*, values: int) -> Callable[[Callable[[Value], Result]], Callable[[Value], Result]]:
    """Let a function of one immutable object remember its results for about so many objects; all go at once."""

    def with_memory(work_out: Callable[[Value], Result]) -> Callable[[Value], Result]:
        known: dict[int, tuple[Value, Result]] = {}

        @wraps(work_out)
        def work_out_or_recall(value: Value) -> Result:
            entry = known.get(id(value))
            if entry is not None:
                return entry[1]
            result = work_out(value)
            if len(known) >= values:
                known.clear()
            known[id(value)] = (value, result)
            return result

        return work_out_or_recall

    return with_memory
