"""Bounded caches: of what was read from a text or row, of what follows from an object, and of the
last entries.

`remembered` finds results by the texts or bytes themselves, so that a result never belongs to
another one. Longer ones are read each time, so that a few cannot fill the memory, and a call that
raises is not remembered.

The same bytes give the same object, so what follows from an object is remembered by its identity:
to hash its fields and compare them costs as much as what is spared. The object is held with what
follows from it, so that no other one gets its identity. Results must be immutable.

Example:
    @remembered(1024)
    def decode_network(value: bytes) -> NetworkRecord: ...

    @remembered_of(values=256)
    def policy_digest(policy: Policy) -> str: ...
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Final, TypeVar

Key = TypeVar("Key", str, bytes)
Entry = TypeVar("Entry")
Value = TypeVar("Value")
Result = TypeVar("Result")

MAX_REMEMBERED: Final = 4096
"""Characters or bytes of the longest text or row whose result is remembered by default."""


class Recent(OrderedDict[Entry, Value]):
    """A dictionary of the entries that were put last."""

    def __init__(self, most: int = 10_000) -> None:
        super().__init__()
        self._most = most

    def put(self, key: Entry, value: Value) -> None:
        """Put an entry; the one that was put first is dropped where there are too many."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)


def remembered(
    most: int, *, longest: int = MAX_REMEMBERED
) -> Callable[[Callable[[Key], Result]], Callable[[Key], Result]]:
    """Let a reader remember the results of at most `most` texts or rows, of at most `longest`
    characters or bytes."""

    def with_memory(read: Callable[[Key], Result]) -> Callable[[Key], Result]:
        short = lru_cache(maxsize=most)(read)

        @wraps(read)
        def read_or_recall(value: Key) -> Result:
            return short(value) if len(value) <= longest else read(value)

        return read_or_recall

    return with_memory


def remembered_of(
    *, values: int
) -> Callable[[Callable[[Value], Result]], Callable[[Value], Result]]:
    """Let a function of one immutable object remember its results for about so many objects; all go
    at once."""

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
