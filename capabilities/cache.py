"""Caches with a limited number of entries.

`memoize` is keyed by the input text or bytes. Long inputs are parsed each time, so that a few of
them cannot fill the memory. A call that raises is not cached.

`memoize_by_identity` is keyed by the identity of an immutable object, because hashing and comparing
its fields would cost as much as the computation. The cache keeps a reference to the object, so that
no other object can get its identity. Cached results must be immutable.

Example:
    @memoize(1024)
    def decode_network(value: bytes) -> NetworkRecord: ...

    @memoize_by_identity(most=256)
    def policy_digest(policy: Policy) -> str: ...
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

Key = TypeVar("Key", str, bytes)
Entry = TypeVar("Entry")
Value = TypeVar("Value")
Result = TypeVar("Result")

MAX_MEMOIZED = 4096
"""Longest input in characters or bytes that is cached by default."""


class Recent(OrderedDict[Entry, Value]):
    """A dictionary that drops its oldest entries when it is full."""

    def __init__(self, most: int = 10_000) -> None:
        super().__init__()
        self._most = most

    def put(self, key: Entry, value: Value) -> None:
        """Add or replace an entry.

        The oldest entry is dropped if there are too many.
        """
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)


def memoize(
    most: int, *, longest: int = MAX_MEMOIZED
) -> Callable[[Callable[[Key], Result]], Callable[[Key], Result]]:
    """Cache the results of a function that takes one string or byte string.

    `most` is the number of results in the cache; inputs longer than `longest` are not cached.
    """

    def decorate(read: Callable[[Key], Result]) -> Callable[[Key], Result]:
        return Results(read, most=most, longest=longest, length=len).__getitem__

    return decorate


class Results(OrderedDict[Entry, Result]):
    """The results of a function by its argument, which is immutable.

    Looking up an argument that is missing calls the function. So `__getitem__`, a method in C,
    serves in place of the function: a result that is there costs no call of Python. The oldest
    results are dropped when there are more than `most`. The result for an argument whose `length`
    is above `longest` is not kept.
    """

    def __init__(
        self,
        compute: Callable[[Entry], Result],
        *,
        most: int,
        longest: int,
        length: Callable[[Entry], int],
    ) -> None:
        super().__init__()
        self.compute: Callable[[Entry], Result] = compute
        self._most = most
        self._longest = longest
        self._length: Callable[[Entry], int] = length

    def __missing__(self, value: Entry) -> Result:
        result: Result = self.compute(value)
        if self._length(value) <= self._longest:
            self[value] = result
            if len(self) > self._most:
                self.popitem(last=False)
        return result


def memoize_by_identity(
    *, most: int
) -> Callable[[Callable[[Value], Result]], Callable[[Value], Result]]:
    """Cache the results of a function that takes one immutable object.

    The whole cache is emptied when it has `most` results.
    """

    def decorate(compute: Callable[[Value], Result]) -> Callable[[Value], Result]:
        cached: dict[int, tuple[Value, Result]] = {}

        @wraps(compute)
        def cached_compute(value: Value) -> Result:
            entry = cached.get(id(value))
            if entry is not None:
                return entry[1]
            result = compute(value)
            if len(cached) >= most:
                cached.clear()
            # The value is stored too: while it is alive, no other object has its id.
            cached[id(value)] = (value, result)
            return result

        return cached_compute

    return decorate
