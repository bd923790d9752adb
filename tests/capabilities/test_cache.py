"""Caches of parsed input and of values derived from objects."""

import pytest

from capabilities.cache import MAX_MEMOIZED, memoize, memoize_by_identity


class Value:
    """An object that is equal to every other one."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value)

    def __hash__(self) -> int:
        return 1


def test_a_row_is_read_once() -> None:
    """Equal bytes are parsed once, but bytes above the size limit are parsed each time."""
    read: list[bytes] = []

    @memoize(4)
    def decode(value: bytes) -> int:
        read.append(value)
        return len(value)

    longest, too_long = b"x" * MAX_MEMOIZED, b"x" * (MAX_MEMOIZED + 1)
    for value in (b"one", bytes(bytearray(b"one")), longest, too_long):
        assert decode(value) == len(value)
        assert decode(value) == len(value)
    assert read == [b"one", longest, too_long, too_long]


def test_the_oldest_results_are_dropped() -> None:
    """A cache beyond its bound drops the result that it computed first, and computes it again."""
    read: list[str] = []

    @memoize(2)
    def decode(value: str) -> str:
        read.append(value)
        return value.upper()

    for value in ("a", "b", "a", "c", "a", "c"):
        assert value.upper() == decode(value)
    assert ["a", "b", "c", "a"] == read


def test_a_result_that_is_an_error_is_not_kept() -> None:
    """A call that raises is repeated, and raises again."""
    read: list[str] = []

    @memoize(2)
    def decode(value: str) -> str:
        read.append(value)
        raise ValueError(value)

    for _ in range(2):
        with pytest.raises(ValueError, match="a"):
            decode("a")
    assert ["a", "a"] == read


def test_what_follows_from_an_object_is_that_objects() -> None:
    """The cache keeps results by object identity, not by equality."""
    worked_out: list[int] = []

    @memoize_by_identity(most=3)
    def number(value: Value) -> int:
        worked_out.append(id(value))
        return len(worked_out)

    first, second = Value(), Value()
    assert [number(first), number(second), number(first), number(second)] == [1, 2, 1, 2]
    results = [number(Value()) for _ in range(20)]
    assert results == list(range(3, 23))


def test_objects_are_forgotten_beyond_the_bound() -> None:
    """The cache holds a limited number of objects."""
    held = [Value() for _ in range(3)]
    calls: list[Value] = []

    @memoize_by_identity(most=2)
    def note(value: Value) -> None:
        calls.append(value)

    for value in (held[0], held[1], held[0], held[2], held[0]):
        note(value)
    assert list(map(id, calls)) == list(map(id, (held[0], held[1], held[2], held[0])))
