"""The bytes of a fuzz input, and the arguments of a test that they stand for.

A test with one argument of bytes or text takes the input as it is. Other arguments are JSON, or
MessagePack where one of them has bytes.
"""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

_FIXTURES = {"tmp_path", "tmp_path_factory"}


class NoInput(Exception):
    """The bytes stand for no arguments of the test."""


@dataclass(frozen=True)
class Arguments:
    """How one function's arguments are read from bytes, and written.

    Attributes:
        types: The type of each argument, without fixtures.
        fixtures: The names of fixtures that the function takes.
    """

    types: dict[str, Any]
    fixtures: tuple[str, ...]

    @property
    def form(self) -> str:
        """Return `bytes`, `text`, `json` or `messagepack`."""
        types = list(self.types.values())
        if types == [bytes]:
            return "bytes"
        if types == [str]:
            return "text"
        return "messagepack" if any("bytes" in str(one) for one in types) else "json"

    def read(self, data: bytes) -> dict[str, Any]:
        """Return the arguments that an input stands for.

        Raises:
            NoInput: It stands for none.
        """
        return dict(zip(self.types, self._values(data), strict=True))

    def _values(self, data: bytes) -> tuple[Any, ...]:
        if self.form == "bytes":
            return (data,)
        try:
            if self.form == "text":
                return (data.decode(),)
            if self.form == "messagepack":
                values = msgspec.msgpack.decode(data, type=self._row)
            elif len(self.types) == 1:
                values = (msgspec.json.decode(data, type=self._row.__args__[0]),)
            else:
                values = msgspec.json.decode(data, type=self._row)
        except (ValueError, RecursionError) as error:
            raise NoInput from error
        for value, kind in zip(values, self.types.values(), strict=True):
            if kind in (Any, object) and not _is_json(value):
                raise NoInput
        return tuple(values)

    @property
    def _row(self) -> Any:
        return tuple[tuple(_readable(one) for one in self.types.values())]  # type: ignore[misc]  # read at run time

    def write(self, arguments: dict[str, Any]) -> bytes:
        """Return the input for arguments.

        Raises:
            NoInput: They have a value that no input stands for, such as NaN.
        """
        values = [arguments[name] for name in self.types]
        try:
            if self.form == "bytes":
                return bytes(values[0])
            if self.form == "text":
                return str(values[0]).encode()
            if self.form == "messagepack":
                return msgspec.msgpack.encode(values)
            written = values[0] if len(values) == 1 else values
            return json.dumps(written, allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise NoInput from error


def _readable(kind: Any) -> Any:
    """Return a type as the reader of inputs knows it."""
    if kind is object:
        return Any
    return dict[str, Any] if "list[Json]" in str(kind) else kind


def _is_json(value: Any) -> bool:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        return bool(json.loads(text) == value)  # a name that is a number would have become a text
    except (ValueError, TypeError, RecursionError):
        return False


def arguments_of(function: Callable[..., Any]) -> Arguments:
    """Return how a function's arguments are read from bytes."""
    parameters = inspect.signature(function).parameters
    return Arguments(
        types={name: one.annotation for name, one in parameters.items() if name not in _FIXTURES},
        fixtures=tuple(name for name in parameters if name in _FIXTURES),
    )


class Folders:
    """Temporary folders like those of pytest, below one folder that the caller removes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made = 0

    def mktemp(self, name: str) -> Path:
        """Return a new empty folder."""
        self._made += 1
        folder = self._root / f"{name}{self._made}"
        folder.mkdir()
        return folder
