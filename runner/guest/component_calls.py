"""Host functions for WebAssembly components, by wasmtime's C functions.

The Python binding would make an object of each byte of a list, which takes a second for a megabyte.
"""

import ctypes
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from wasmtime import StoreContext
from wasmtime import _ffi as ffi
from wasmtime import component as components

from .linear_memory import NO_FINALIZER

VALUE_BYTES = ctypes.sizeof(ffi.wasmtime_component_val_t)
Exchange = Callable[[int, bytes], bytes]
"""Function that sends a message of a kind (`FETCH`, `STORAGE`), and returns the response."""
_BYTE_OFFSET = ffi.wasmtime_component_val_t.of.offset
_CALLBACKS: list[object] = []
"""Keeps the callbacks alive: wasmtime has only pointers to them."""


def define_functions(
    linker: components.Linker, interface: str, functions: Mapping[str, Callable[..., int]]
) -> None:
    """Add the functions of a host interface to a linker for WebAssembly components.

    Each function gets the store, the type of the import, and pointers to arguments and result. It
    returns 0, or the address of an error, which traps. An exception ends the process
    (`MemoryBudget.configure_allocator`).
    """
    with linker.root() as root, root.add_instance(interface) as instance:
        for name, function in functions.items():
            callback = ffi.wasmtime_component_func_callback_t(partial(_call, function))
            _CALLBACKS.append(callback)
            error: Any = ffi.wasmtime_component_linker_instance_add_func(
                instance.ptr(),
                ctypes.create_string_buffer(name.encode()),
                len(name),
                callback,
                None,
                NO_FINALIZER,
            )
            if error:  # a null pointer is false
                raise RuntimeError(f"wasmtime cannot link the host interface {interface}")


def _call(
    function: Callable[..., int],
    _env: None,
    context: Any,
    kind: Any,
    args: Any,
    _n: int,
    results: Any,
    _m: int,
) -> int:
    """Call a host function with the arguments of wasmtime's callback in the form it expects."""
    store = StoreContext(context)
    return function(store, components.FuncType._from_ptr(kind, owner=store), args, results)


def take_bytes(values: Any) -> bytes:
    """Return the bytes of a `list<u8>`, and empty the list."""
    body = b""
    if values.size:  # an empty list may have a null pointer
        copied = ctypes.string_at(values.data, values.size * VALUE_BYTES)
        body = copied[_BYTE_OFFSET::VALUE_BYTES]  # of each value the byte alone
    ffi.wasmtime_component_vallist_delete(ctypes.byref(values))
    return body


def fill(values: Any, body: bytes) -> None:
    """Fill an empty `list<u8>` with the given bytes."""
    if not body:
        return
    ffi.wasmtime_component_vallist_new_uninit(ctypes.byref(values), len(body))
    filled = bytearray(len(body) * VALUE_BYTES)
    # Each value begins with its kind, and the byte follows at an offset.
    filled[0::VALUE_BYTES] = bytes([ffi.WASMTIME_COMPONENT_U8.value]) * len(body)
    filled[_BYTE_OFFSET::VALUE_BYTES] = body
    ctypes.memmove(values.data, bytes(filled), len(filled))
