"""An HTTP client interface for WebAssembly programs (RN100).

The interface `sealspace:http/client` passes each request to the runner. A module imports two
functions:

    fetch(address, length)   sends the message there; returns the length of the answer, or -1
                             minus the index of an error in `FETCH_ERRORS`
    read(address, length)    copies the next bytes of the answer there; returns how many

Messages in a module's memory have the format of `frames.pack_parts`. A component imports `fetch` as
`spec/runner/http.wit` declares it. This module checks no host or URL: the runner does, and treats
each message as untrusted.
"""

import ctypes
from collections.abc import Callable
from typing import Any

from wasmtime import Caller, Engine, FuncType, Linker, Memory, StoreContext, Trap, ValType
from wasmtime import _ffi as ffi
from wasmtime import component as components

from .frames import FETCH_ERRORS, MAX_MESSAGE_BYTES, pack_parts, unpack_parts
from .linear_memory import NO_FINALIZER

INTERFACE = "sealspace:http/client@0.1.0"
_TYPE = f"""
(component (import "{INTERFACE}" (instance
  (type $headers (list (tuple string string)))
  (type $request' (record
    (field "method" string) (field "url" string) (field "headers" $headers)
    (field "body" (list u8))))
  (export "request" (type $request (eq $request')))
  (type $response' (record
    (field "status" u16) (field "headers" $headers) (field "body" (list u8))))
  (export "response" (type $response (eq $response')))
  (type $error' (enum {" ".join(f'"{code}"' for code in FETCH_ERRORS)}))
  (export "error" (type $error (eq $error')))
  (export "fetch" (func (param "request" $request) (result (result $response (error $error))))))))
"""
_I32 = ValType.i32()
_BODY = 3, 2  # index of the body among the members of a request, and of a response
_VALUE_BYTES = ctypes.sizeof(ffi.wasmtime_component_val_t)
_BYTE_OFFSET = ffi.wasmtime_component_val_t.of.offset
_EXHAUSTED = pack_parts([b"requests-exhausted"])
DATA_BYTES = 5 * _VALUE_BYTES * MAX_MESSAGE_BYTES
"""Memory for a run's requests: a component's body is a list of values, copied several times."""


class GuestHttp:
    """An HTTP client for WebAssembly programs.

    Programs run one at a time in this process.
    """

    def __init__(self, exchange: Callable[[bytes], bytes]) -> None:
        self._exchange = exchange
        self.begin(None)
        # wasmtime keeps a pointer to it, so it has to live as long as the linkers
        self._callback = ffi.wasmtime_component_func_callback_t(self._fetch_component)

    def begin(self, fetch: components.FuncType | None) -> None:
        """Reset the HTTP client for a new program run.

        `fetch` is the type of a component's import `fetch`, or None if there is no such import.
        """
        self._type, self._answer, self._exhausted = fetch, memoryview(b""), False

    def define(self, linker: Linker) -> None:
        """Add the HTTP functions to a linker for WebAssembly modules."""
        signature = FuncType([_I32, _I32], [_I32])
        linker.define_func(INTERFACE, "fetch", signature, self._fetch, access_caller=True)
        linker.define_func(INTERFACE, "read", signature, self._read, access_caller=True)

    def define_component(self, linker: components.Linker) -> None:
        """Add the HTTP functions to a linker for WebAssembly components.

        The code calls wasmtime's C functions. The Python binding would make an object of each byte
        of a body, which takes a second for a megabyte.
        """
        with linker.root() as root, root.add_instance(INTERFACE) as instance:
            name = ctypes.create_string_buffer(b"fetch")
            error: Any = ffi.wasmtime_component_linker_instance_add_func(
                instance.ptr(), name, 5, self._callback, None, NO_FINALIZER
            )
            if error:  # a null pointer is false
                raise RuntimeError(f"wasmtime cannot link the host interface {INTERFACE}")

    def _fetch(self, caller: Caller, address: int, length: int) -> int:
        message, place = b"", _host_address(caller, address, length)
        # Checked before the copy. A longer message is sent as an empty one, which is invalid.
        if length & 0xFFFFFFFF <= MAX_MESSAGE_BYTES:
            message = ctypes.string_at(place, length)
        answer = self._send(message)
        parts = unpack_parts(answer)
        # A view, so that a guest that reads byte by byte does not copy the rest each time.
        self._answer = memoryview(answer if len(parts) > 1 else b"")
        if self._answer:
            return len(answer)
        return -1 - FETCH_ERRORS.index(parts[0].decode())

    def _read(self, caller: Caller, address: int, length: int) -> int:
        place = _host_address(caller, address, length)
        part = self._answer[: length & 0xFFFFFFFF]
        ctypes.memmove(place, bytes(part), len(part))
        self._answer = self._answer[len(part) :]
        return len(part)

    def _send(self, message: bytes) -> bytes:
        """Send an HTTP request to the runner, and return the response.

        Both are encoded messages. Once the run has no requests left, further requests are answered
        here (RN109).
        """
        answer = _EXHAUSTED if self._exhausted else self._exchange(message)
        self._exhausted = answer == _EXHAUSTED
        return answer

    def _fetch_component(
        self, _env: None, context: Any, _type: object, args: Any, _n: int, results: Any, _m: int
    ) -> int:
        # An exception here ends the process (`MemoryBudget.configure_allocator`).
        # The compiling child has checked the type of this import.
        assert self._type is not None and self._type.result is not None
        store = StoreContext(context)
        ((_, request_type),) = self._type.params
        body = _take_bytes(args[0].of.record.data[_BODY[0]].val.of.list)
        request = request_type.convert_from_c(args[0])
        headers = [text for pair in request.headers for text in pair]
        texts = [text.encode() for text in (request.method, request.url, *headers)]
        message = pack_parts([*texts, body])
        first, *rest = unpack_parts(
            self._send(message if len(message) <= MAX_MESSAGE_BYTES else b"")
        )
        if not rest:
            self._type.result.convert_to_c(store, first.decode(), results)
            return 0
        pairs = [text.decode("utf-8", "replace") for text in rest[:-1]]
        response = components.Record()
        response.status = int(first)  # type: ignore[attr-defined]  # a record has the members of its type
        response.headers = list(zip(pairs[::2], pairs[1::2], strict=True))  # type: ignore[attr-defined]  # as above
        response.body = b""  # type: ignore[attr-defined]  # as above
        self._type.result.convert_to_c(store, response, results)
        record = results[0].of.result.val.contents.of.record
        _fill(record.data[_BODY[1]].val.of.list, rest[-1])
        return 0


def imported_fetch(
    engine: Engine, imported: components.ComponentItem
) -> components.FuncType | None:
    """Return the type of an imported `fetch` function, or None.

    None means that the type is wrong.
    """
    ours = components.Component(engine, _TYPE).type.imports(engine)[INTERFACE].ty
    expected, found = _function(engine, ours), _function(engine, imported)
    if (
        found is None
        or expected is None
        or (found.params, found.result) != (expected.params, expected.result)
    ):
        return None
    return found


def _function(engine: Engine, interface: components.ComponentItem) -> components.FuncType | None:
    members = (
        interface.exports(engine) if isinstance(interface, components.ComponentInstanceType) else {}
    )
    fetch = members["fetch"].ty if "fetch" in members else None
    return fetch if isinstance(fetch, components.FuncType) else None


def _host_address(caller: Caller, address: int, length: int) -> int:
    """Convert a WebAssembly address to an address in this process (RN101).

    Raises Trap if the next `length` bytes are not all inside the module's memory.
    """
    memory = caller.get("memory")
    address, length = address & 0xFFFFFFFF, length & 0xFFFFFFFF
    if not isinstance(memory, Memory) or address + length > memory.data_len(caller):
        raise Trap("outside the memory")
    return (ctypes.cast(memory.data_ptr(caller), ctypes.c_void_p).value or 0) + address


def _take_bytes(values: Any) -> bytes:
    """Return the bytes of a `list<u8>`, and empty the list."""
    body = (
        ctypes.string_at(values.data, values.size * _VALUE_BYTES)[_BYTE_OFFSET::_VALUE_BYTES]
        if values.size
        else b""
    )
    ffi.wasmtime_component_vallist_delete(ctypes.byref(values))
    return body


def _fill(values: Any, body: bytes) -> None:
    """Fill an empty `list<u8>` with the given bytes."""
    if not body:
        return
    ffi.wasmtime_component_vallist_new_uninit(ctypes.byref(values), len(body))
    filled = bytearray(len(body) * _VALUE_BYTES)
    filled[0::_VALUE_BYTES] = bytes([ffi.WASMTIME_COMPONENT_U8.value]) * len(body)
    filled[_BYTE_OFFSET::_VALUE_BYTES] = body
    ctypes.memmove(values.data, bytes(filled), len(filled))
