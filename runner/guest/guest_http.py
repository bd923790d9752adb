"""An HTTP client interface for WebAssembly programs (RN100).

The interface `sealspace:http/client` passes each request to the runner. A module imports two
functions:

    fetch(address, length)   sends the message there; returns the length of the answer, or -1
                             minus the index of an error in `FETCH_ERRORS`
    read(address, length)    copies the next bytes of the answer there; returns how many

Messages in a module's memory have the format of `serving.messages`. A component imports
`fetch` as `spec/runner/http.wit` declares it. This module checks no host or URL: the runner does,
and treats each message as untrusted.
"""

import ctypes
from typing import Any

from wasmtime import Caller, FuncType, Linker, Memory, StoreContext, Trap, ValType
from wasmtime import component as components

from serving.messages import MAX_MESSAGE_BYTES, pack_parts, unpack_parts

from .component_calls import VALUE_BYTES, Exchange, define_functions, fill, take_bytes
from .frames import FETCH, FETCH_ERRORS

INTERFACE = "sealspace:http/client@0.1.0"
TYPE = f"""
(import "{INTERFACE}" (instance
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
  (export "fetch" (func (param "request" $request) (result (result $response (error $error)))))))
"""
_I32 = ValType.i32()
_REQUEST_BODY = 3  # index of the body among the members of a request
_RESPONSE_BODY = 2  # index of the body among the members of a response
_EXHAUSTED = pack_parts([b"requests-exhausted"])
DATA_BYTES = 5 * VALUE_BYTES * MAX_MESSAGE_BYTES
"""Memory for a run's requests: a component's body is a list of values, copied several times."""


class GuestHttp:
    """An HTTP client for WebAssembly programs.

    Programs run one at a time in this process.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.begin()

    def begin(self) -> None:
        """Reset the HTTP client for a new program run."""
        self._answer, self._exhausted = memoryview(b""), False

    def define(self, linker: Linker) -> None:
        """Add the HTTP functions to a linker for WebAssembly modules."""
        signature = FuncType([_I32, _I32], [_I32])
        linker.define_func(INTERFACE, "fetch", signature, self._fetch, access_caller=True)
        linker.define_func(INTERFACE, "read", signature, self._read, access_caller=True)

    def define_component(self, linker: components.Linker) -> None:
        """Add the HTTP functions to a linker for WebAssembly components."""
        define_functions(linker, INTERFACE, {"fetch": self._fetch_component})

    def _fetch(self, caller: Caller, address: int, length: int) -> int:
        """Send a module's request, and return the length of the response, or an error's code."""
        message = b""
        place = _host_address(caller, address, length)
        # Checked before the copy. A longer message is sent as an empty one, which is invalid.
        if _unsigned(length) <= MAX_MESSAGE_BYTES:
            message = ctypes.string_at(place, length)
        answer = self._send(message)
        parts = unpack_parts(answer)
        if len(parts) == 1:  # an error; a response has at least status and body
            self._answer = memoryview(b"")
            return -1 - FETCH_ERRORS.index(parts[0].decode())
        # A view, so that a guest that reads byte by byte does not copy the rest each time.
        self._answer = memoryview(answer)
        return len(answer)

    def _read(self, caller: Caller, address: int, length: int) -> int:
        """Copy the next bytes of the response into a module's memory, and return how many."""
        part = self._answer[: _unsigned(length)]
        ctypes.memmove(_host_address(caller, address, length), bytes(part), len(part))
        self._answer = self._answer[len(part) :]
        return len(part)

    def _send(self, message: bytes) -> bytes:
        """Send an HTTP request to the runner, and return the response.

        Both are encoded messages. Once the run has no requests left, further requests are answered
        here (RN109).
        """
        answer = _EXHAUSTED if self._exhausted else self._exchange(FETCH, message)
        self._exhausted = answer == _EXHAUSTED
        return answer

    def _fetch_component(
        self, store: StoreContext, function: components.FuncType, args: Any, results: Any
    ) -> int:
        assert function.result is not None  # the compiling child has checked the type
        ((_, request_type),) = function.params
        # The binding converts the request without its body, which would become an object for each
        # byte. The same goes for the body of the response.
        body = take_bytes(args[0].of.record.data[_REQUEST_BODY].val.of.list)
        request = request_type.convert_from_c(args[0])
        named = [text for pair in request.headers for text in pair]  # name, value, name, …
        texts = [text.encode() for text in (request.method, request.url, *named)]
        first, *rest = unpack_parts(self._send(pack_parts([*texts, body])))
        if not rest:  # an error; a response has at least status and body
            function.result.convert_to_c(store, first.decode(), results)
            return 0
        *headers, response_body = rest
        pairs = [text.decode("utf-8", "replace") for text in headers]
        response = components.Record()
        response.status = int(first)  # type: ignore[attr-defined]  # a record has the members of its type
        response.headers = list(zip(pairs[::2], pairs[1::2], strict=True))  # type: ignore[attr-defined]  # as above
        response.body = b""  # type: ignore[attr-defined]  # as above
        function.result.convert_to_c(store, response, results)
        filled = results[0].of.result.val.contents.of.record.data[_RESPONSE_BODY].val.of.list
        fill(filled, response_body)
        return 0


def _host_address(caller: Caller, address: int, length: int) -> int:
    """Convert a WebAssembly address to an address in this process (RN101).

    Raises Trap if the next `length` bytes are not all inside the module's memory.
    """
    memory = caller.get("memory")
    start = _unsigned(address)
    end = start + _unsigned(length)
    if not isinstance(memory, Memory) or end > memory.data_len(caller):
        raise Trap("outside the memory")
    return (ctypes.cast(memory.data_ptr(caller), ctypes.c_void_p).value or 0) + start


def _unsigned(number: int) -> int:
    """Convert a 32-bit number that wasmtime passes as a signed one."""
    return number & 0xFFFFFFFF
