"""The storage of a project for WebAssembly components (RN200).

The interface `near:storage/api` is OutLayer's; `spec/runner/storage.wit` has the functions that are
offered. Each call is one message to the runner, which checks it: this module checks nothing.
"""

import ctypes
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from wasmtime import StoreContext
from wasmtime import _ffi as ffi
from wasmtime import component as components

from tee_backend.messages import pack_parts, unpack_parts

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
    parts = [
        take_bytes(args[index].of.list)
        if isinstance(kind, components.ListType)
        else str(kind.convert_from_c(args[index])).encode()
        for index, (_, kind) in enumerate(function.params)
    ]
    error, *values = unpack_parts(exchange(STORAGE, pack_parts([name.encode(), *parts])))
    result: Any = function.result
    kinds = getattr(result, "elements", [result])
    if isinstance(kinds[-1], components.String):  # after an error there are no other values
        values = [b"", b"", *values, error][-len(kinds) :]
    elif error:
        return ctypes.cast(ffi.wasmtime_error_new(error), ctypes.c_void_p).value or 1
    read = (*(_READERS[type(kind)](part) for kind, part in zip(kinds, values, strict=True)),)
    result.convert_to_c(store, read if len(read) > 1 else read[0], results)
    for index, kind in enumerate(kinds):
        if isinstance(kind, components.ListType):
            fill(results[0].of.tuple.data[index].of.list, values[index])
    return 0
