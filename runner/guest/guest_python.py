"""The program of a Python base (PY10).

A base is a component that imports `read` of `sealspace:python/program`, as `spec/runner/python.wit`
declares it, and runs the program that it gets.
"""

from typing import Any

from wasmtime import StoreContext
from wasmtime import component as components

from .component_calls import define_functions

INTERFACE = "sealspace:python/program@0.1.0"


class GuestPython:
    """The Python program of a run.

    Programs run one at a time in this process.
    """

    def __init__(self) -> None:
        self.begin(b"")

    def begin(self, program: bytes) -> None:
        """Set the program of the next run."""
        self._program = program

    def define(self, linker: components.Linker) -> None:
        """Add the function to a linker for WebAssembly components."""
        define_functions(linker, INTERFACE, {"read": self._read})

    def _read(
        self, store: StoreContext, function: components.FuncType, _args: Any, results: Any
    ) -> int:
        assert function.result is not None  # the compiling child has linked the type
        # The runner has parsed it, so it is UTF-8.
        function.result.convert_to_c(store, self._program.decode(), results)
        return 0
