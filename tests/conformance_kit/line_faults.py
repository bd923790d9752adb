"""Faults of our code: one line of a function is replaced, in this process, while a block runs.

Example:
    with fault.present():
        ...
"""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any


@dataclass(frozen=True)
class Fault:
    """A replaced line.

    Attributes:
        name: what is wrong.
        function: the function that has the line.
        line: the text that is replaced, which is in the function once.
        instead: the text in its place.
        group: the group of checks that notices.
        asked: the row that fails.
    """

    name: str
    function: Callable[..., Any]
    line: str
    instead: str
    group: str
    asked: str

    @contextmanager
    def present(self) -> Iterator[None]:
        """Let the node have the fault while the block runs."""
        sound = self.function.__code__
        self.function.__code__ = self._faulty()
        try:
            yield
        finally:
            self.function.__code__ = sound

    def _faulty(self) -> CodeType:
        source = textwrap.dedent(inspect.getsource(self.function))
        assert source.count(self.line) == 1, f"{self.name}: the line is not there once"
        changed = source.replace(self.line, self.instead)
        names: dict[str, Any] = dict(self.function.__globals__)
        exec(compile(changed, inspect.getfile(self.function), "exec"), names)
        code: CodeType = names[self.function.__name__].__code__
        return code
