"""Functions that convert JSON values to msgspec types.

Errors name the invalid JSON member.

Example:
    import msgspec

    class Named(msgspec.Struct, forbid_unknown_fields=True):
        name: str

    def refuse(where, fault):
        raise ValueError(f"{where} {fault}")

    assert shaped_at("manifest", {"name": "Notes"}, Named, refuse).name == "Notes"
"""

import re
from collections.abc import Callable
from typing import Annotated, NamedTuple, NoReturn, TypeVar

import msgspec

from ..printable import printable

T = TypeVar("T")
Text = Annotated[str, msgspec.Meta(min_length=1)]

_MAX_NAME_CHARS = 100
_MEMBER = re.compile(
    r"Object (?:(?P<unknown>contains unknown)|missing required) field `(?P<name>.*)`", re.DOTALL
)


def shaped_at(
    where: str, value: object, shape: type[T], refuse: Callable[[str, str], NoReturn]
) -> T:
    """Convert a JSON value to a msgspec type.

    If that fails, `refuse` is called with the error's path and message, and raises an error.
    """
    try:
        return msgspec.convert(value, shape)
    except ValueError as exc:  # not only ValidationError: strings may be invalid Unicode
        error = _split(str(exc))
        path = below(where, error.place)
        member = _MEMBER.fullmatch(error.fault)
        if member is None:
            refuse(path, f"must be {printable(error.fault.removeprefix('Expected '))}")
        path = below(path, printable(member["name"], most=_MAX_NAME_CHARS))
        if member["unknown"]:
            refuse(path, "is no known member")
        else:
            refuse(path, "is required")


class _Error(NamedTuple):
    """The parts of an error's text: what is wrong, and at which path ("" for the whole value)."""

    fault: str
    place: str


def _split(text: str) -> _Error:
    """Split the text of a msgspec error.

    An example is "Expected `str`, got `int` - at `$.permissions[0].path`". The text has no path if
    it is about the whole value.
    """
    fault, _, place = text.partition(" - at `$")
    return _Error(fault, place.removesuffix("`").removeprefix("."))


def below(where: str, member: str) -> str:
    """Append the name of a JSON member to a path.

    If one of the two is empty, the result is the other one.
    """
    if where and member:
        return f"{where}.{member}"
    return where or member
