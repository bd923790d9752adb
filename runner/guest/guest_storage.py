"""The storage of a project for WebAssembly components (RN200).

The interface `near:storage/api` is OutLayer's; `spec/runner/storage.wit` has the functions that are
offered. Each call is one message to the runner, which checks it: this module checks nothing.
"""

import ctypes
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from wasmtime import StoreContext
from wasmtime import _ffi as ffi
from wasmtime import component as components

from serving.messages import pack_parts, unpack_parts

from .component_calls import Exchange, define_functions, fill, take_bytes
from .frames import STORAGE

INTERFACE = "near:storage/api@0.1.0"
TYPE = f"""
(import "{INTERFACE}" (instance
  (export "set" (func (param "key" string) (param "value" (list u8)) (result string)))
  (export "get" (func (param "key" string) (result (tuple (list u8) string))))
  (export "has" (func (param "key" string) (result bool)))
  (export "delete" (func (param "key" string) (result bool)))
  (export "list-keys" (func (param "prefix" string) (result (tuple string string))))
  (export "set-if-absent" (func
    (param "key" string) (param "value" (list u8)) (result (tuple bool string))))
  (export "set-if-equals" (func
    (param "key" string) (param "expected" (list u8)) (param "new-value" (list u8))
    (result (tuple bool (list u8) string))))
  (export "increment" (func (param "key" string) (param "delta" s64) (result (tuple s64 string))))
  (export "decrement" (func (param "key" string) (param "delta" s64) (result (tuple s64 string))))))
"""
_READERS: dict[type, Callable[[bytes], object]] = {
    components.Bool: bool,
    components.S64: lambda part: int(part or b"0"),
    components.String: bytes.decode,
    components.ListType: lambda _: b"",  # filled afterwards
}


def define(linker: components.Linker, exchange: Exchange) -> None:
    """Add the storage functions to a linker for WebAssembly components.

    `exchange` sends a message of the given kind to the runner, and returns the response.
    """
    calls = {name: partial(_call, exchange, name) for name in re.findall('export "(.*?)"', TYPE)}
    define_functions(linker, INTERFACE, calls)


def _call(
    exchange: Exchange,
    name: str,
    store: StoreContext,
    function: components.FuncType,
    args: Any,
    results: Any,
) -> int:
    """Have the runner perform an operation.

    Returns 0, or the address of an error, which traps.
    """
    message = pack_parts([name.encode(), *_arguments(function, args)])
    error, *values = unpack_parts(exchange(STORAGE, message))
    result: Any = function.result
    kinds = getattr(result, "elements", [result])  # the elements of a tuple, or the result alone
    if isinstance(kinds[-1], components.String):
        # The function returns the error as its last result. The others are then empty, because the
        # runner sends none with an error.
        if error:
            values = [b""] * (len(kinds) - 1)
        values.append(error)
    elif error:
        return ctypes.cast(ffi.wasmtime_error_new(error), ctypes.c_void_p).value or 1
    _store_results(store, result, kinds, values, results)
    return 0


def _arguments(function: components.FuncType, args: Any) -> list[bytes]:
    """Return the arguments of a call as parts of a message."""
    parts = []
    for index, (_, kind) in enumerate(function.params):
        if isinstance(kind, components.ListType):
            parts.append(take_bytes(args[index].of.list))
        else:
            parts.append(str(kind.convert_from_c(args[index])).encode())
    return parts


def _store_results(
    store: StoreContext, result: Any, kinds: Sequence[Any], values: Sequence[bytes], results: Any
) -> None:
    """Write the results of a call to where wasmtime reads them.

    Args:
        store: the store of the run.
        result: type of the function's result.
        kinds: types of the results, several if the result is a tuple.
        values: for each of them a part of the runner's message.
        results: pointer to the place for the results.
    """
    read = [_READERS[type(kind)](value) for kind, value in zip(kinds, values, strict=True)]
    if len(read) == 1:
        result.convert_to_c(store, read[0], results)
    else:
        result.convert_to_c(store, tuple(read), results)
    for index, kind in enumerate(kinds):
        if isinstance(kind, components.ListType):
            fill(results[0].of.tuple.data[index].of.list, values[index])
