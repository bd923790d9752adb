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
from typing import Annotated, NoReturn, TypeVar

import msgspec

from ..printable import printable

T = TypeVar("T")
Text = Annotated[str, msgspec.Meta(min_length=1)]

_MEMBER = re.compile(
    r"Object (?:(?P<unknown>contains unknown)|missing required) field `(?P<name>.*)`", re.DOTALL
)


def shaped_at(
    where: str, value: object, shape: type[T], refuse: Callable[[str, str], NoReturn]
) -> T:
    """Convert a JSON value to a msgspec type.

    If that fails, `refuse` is called with the error's path and message.
    """
    try:
        return msgspec.convert(value, shape)
    except ValueError as exc:  # not only ValidationError: strings may be invalid Unicode
        fault, _, place = str(exc).partition(" - at `$")
        path = below(where, place[:-1].removeprefix("."))
        if member := _MEMBER.fullmatch(fault):
            path = below(path, printable(member["name"], most=100))
            refuse(path, "is no known member" if member["unknown"] else "is required")
        refuse(path, f"must be {printable(fault.removeprefix('Expected '))}")


def below(where: str, member: str) -> str:
    """Append the name of a JSON member to a path."""
    return f"{where}.{member}" if where and member else where or member
