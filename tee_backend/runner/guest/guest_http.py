"""`sealspace:http/client` as guests see it: what they ask for goes to the parent, which makes the
request (RN100).

    fetch  message (address, length) -> length of the answer, or -1 minus the index of an error in `FETCH_ERRORS`
    read   address, length           -> how many bytes of the answer were put there; the next call goes on behind them

These are the two functions of a module; a message is in its memory as `_frames.pack_parts` writes
it. A component has `fetch` as `spec/runner/http.wit` declares it. Nothing is decided here: the
parent reads each message as an untrusted one.
"""

import ctypes
from collections.abc import Callable
from typing import Any, Final

from wasmtime import Caller, Engine, FuncType, Linker, Memory, StoreContext, Trap, ValType
from wasmtime import _ffi as ffi
from wasmtime import component as components

from .frames import FETCH_ERRORS, MAX_MESSAGE_BYTES, pack_parts, unpack_parts
from .linear_memory import NOTHING

INTERFACE: Final = "sealspace:http/client@0.1.0"
_TYPE: Final = f"""
(component (import "{INTERFACE}" (instance
  (type $headers (list (tuple string string)))
  (type $request' (record
    (field "method" string) (field "url" string) (field "headers" $headers) (field "body" (list u8))))
  (export "request" (type $request (eq $request')))
  (type $response' (record (field "status" u16) (field "headers" $headers) (field "body" (list u8))))
  (export "response" (type $response (eq $response')))
  (type $error' (enum {" ".join(f'"{code}"' for code in FETCH_ERRORS)}))
  (export "error" (type $error (eq $error')))
  (export "fetch" (func (param "request" $request) (result (result $response (error $error))))))))
"""
_I32: Final = ValType.i32()
_BODY: Final = 3, 2  # where it is among the members of a request and of a response
_VALUE_BYTES: Final = ctypes.sizeof(ffi.wasmtime_component_val_t)
_BYTE_OFFSET: Final = ffi.wasmtime_component_val_t.of.offset
_EXHAUSTED: Final = pack_parts([b"requests-exhausted"])
DATA_BYTES: Final = 5 * _VALUE_BYTES * MAX_MESSAGE_BYTES
"""What requests may take of the host's memory: a component's body is a list of values, of which
there are copies."""


class GuestHttp:
    """Answers guests of one process, one after the other."""

    def __init__(self, exchange: Callable[[bytes], bytes]) -> None:
        self._exchange = exchange
        self.begin(None)
        # has to live as long as linkers
        self._called = ffi.wasmtime_component_func_callback_t(self._fetch_component)

    def begin(self, fetch: components.FuncType | None) -> None:
        """Forget the last run; `fetch` is the function that a component imports."""
        self._type, self._answer, self._exhausted = fetch, memoryview(b""), False

    def define(self, linker: Linker) -> None:
        """Define both functions for modules."""
        signature = FuncType([_I32, _I32], [_I32])
        linker.define_func(INTERFACE, "fetch", signature, self._fetch, access_caller=True)
        linker.define_func(INTERFACE, "read", signature, self._read, access_caller=True)

    def define_component(self, linker: components.Linker) -> None:
        """Define the interface for components.

        The binding's own way makes an object of each byte of a body, which takes a second for a
        megabyte.
        """
        with linker.root() as root, root.add_instance(INTERFACE) as instance:
            name = ctypes.create_string_buffer(b"fetch")
            error: Any = ffi.wasmtime_component_linker_instance_add_func(
                instance.ptr(), name, 5, self._called, None, NOTHING
            )
            if error:  # a null pointer is false
                raise RuntimeError("the interface is not linked")

    def _fetch(self, caller: Caller, address: int, length: int) -> int:
        message, place = b"", _place(caller, address, length)
        # before it is copied; an empty message is an invalid one
        if length & 0xFFFFFFFF <= MAX_MESSAGE_BYTES:
            message = ctypes.string_at(place, length)
        answer = self._asked(message)
        parts = unpack_parts(answer)
        # a view: reading byte by byte copies nothing else
        self._answer = memoryview(answer if len(parts) > 1 else b"")
        if self._answer:
            return len(answer)
        return -1 - FETCH_ERRORS.index(parts[0].decode())

    def _read(self, caller: Caller, address: int, length: int) -> int:
        place = _place(caller, address, length)
        part = self._answer[: length & 0xFFFFFFFF]
        ctypes.memmove(place, bytes(part), len(part))
        self._answer = self._answer[len(part) :]
        return len(part)

    def _asked(self, message: bytes) -> bytes:
        """Return the parent's answer; a guest whose requests are used up costs the parent nothing
        more (RN109)."""
        answer = _EXHAUSTED if self._exhausted else self._exchange(message)
        self._exhausted = answer == _EXHAUSTED
        return answer

    def _fetch_component(
        self, _env: None, context: Any, _type: object, args: Any, _n: int, results: Any, _m: int
    ) -> int:
        # An exception ends the process (`MemoryBudget.serve`).
        # the compiling child compared it
        assert self._type is not None and self._type.result is not None
        store = StoreContext(context)
        ((_, request_type),) = self._type.params
        body = _taken(args[0].of.record.data[_BODY[0]].val.of.list)
        request = request_type.convert_from_c(args[0])
        headers = [text for pair in request.headers for text in pair]
        texts = [text.encode() for text in (request.method, request.url, *headers)]
        message = pack_parts([*texts, body])
        first, *rest = unpack_parts(
            self._asked(message if len(message) <= MAX_MESSAGE_BYTES else b"")
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


def wants(engine: Engine, imported: components.ComponentItem) -> components.FuncType | None:
    """Return the function of an interface that a component imports under this name; None where it
    is another type."""
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


def _place(caller: Caller, address: int, length: int) -> int:
    """Return the host's address of a part of a module's memory; what is not all inside is a trap
    (RN101)."""
    memory = caller.get("memory")
    address, length = address & 0xFFFFFFFF, length & 0xFFFFFFFF
    if not isinstance(memory, Memory) or address + length > memory.data_len(caller):
        raise Trap("outside the memory")
    return (ctypes.cast(memory.data_ptr(caller), ctypes.c_void_p).value or 0) + address


def _taken(values: Any) -> bytes:
    """Return the bytes of a list of them, and leave the list empty."""
    body = (
        ctypes.string_at(values.data, values.size * _VALUE_BYTES)[_BYTE_OFFSET::_VALUE_BYTES]
        if values.size
        else b""
    )
    ffi.wasmtime_component_vallist_delete(ctypes.byref(values))
    return body


def _fill(values: Any, body: bytes) -> None:
    """Fill an empty list with bytes."""
    if not body:
        return
    ffi.wasmtime_component_vallist_new_uninit(ctypes.byref(values), len(body))
    filled = bytearray(len(body) * _VALUE_BYTES)
    filled[0::_VALUE_BYTES] = bytes([ffi.WASMTIME_COMPONENT_U8.value]) * len(body)
    filled[_BYTE_OFFSET::_VALUE_BYTES] = body
    ctypes.memmove(values.data, bytes(filled), len(filled))
