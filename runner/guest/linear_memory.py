"""An exact memory limit for WebAssembly programs.

All memories of a run share one budget. wasmtime's own limiter bounds each memory separately, and
does not report that it refused one. So this module allocates the memories: it reserves the address
range that wasmtime asks for without access rights, and makes pages readable and writable as the
guest grows, until the budget is used. A wrong count is not a security hole: other pages stay
inaccessible, and compiled code cannot reach beyond the reserved range.
"""

import ctypes
import mmap
import os
import sys
from dataclasses import dataclass
from typing import Any

from wasmtime import Config
from wasmtime import _ffi as ffi

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

_INACCESSIBLE = 0
_OPEN = mmap.PROT_READ | mmap.PROT_WRITE
_NORESERVE = 0x4000  # of Linux on x86-64 and arm64; `mmap` has it from Python 3.13 on
_RESERVED = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
_FAILED = ctypes.c_void_p(-1).value
NO_FINALIZER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
"""A finalizer that does nothing, for wasmtime's callbacks."""
_GUARD_BYTES = 1 << 16
"""Least inaccessible range before and after each memory, so that accesses outside of it trap."""


@dataclass(slots=True)
class _Memory:
    """A WebAssembly linear memory.

    Attributes:
        base: address of its first byte.
        mapped: bytes reserved for it, guards included.
        capacity: bytes that it may grow to.
        size: bytes that are accessible now.
    """

    base: int
    mapped: int
    capacity: int
    size: int = 0


class MemoryBudget:
    """A memory allocator with a budget for each program run."""

    def __init__(self) -> None:
        self._memories: dict[int, _Memory] = {}
        self.set_budget(0)
        self._last = 0
        # wasmtime keeps pointers to these, so they live as long as this object does.
        self._callbacks: tuple[Any, ...] = (
            ffi.wasmtime_new_memory_callback_t(self._new),
            ffi.wasmtime_memory_get_callback_t(self._get),
            ffi.wasmtime_memory_grow_callback_t(self._grow),
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._end),
        )

    def configure_allocator(self, config: Config) -> None:
        """Configure wasmtime to allocate program memory through this object."""
        # An exception in a callback would be lost in wasmtime's C code, and the guest would go on.
        # So any such exception ends the process; this covers the callbacks of other modules too.
        sys.unraisablehook = lambda _: os._exit(1)
        creator = ffi.wasmtime_memory_creator_t(None, self._callbacks[0], NO_FINALIZER)
        ffi.wasmtime_config_host_memory_creator_set(config.ptr(), ctypes.byref(creator))

    def set_budget(self, budget: int) -> None:
        """Set the memory budget of the next program run.

        The budget is in bytes. Raises RuntimeError if a memory of the last run still exists.
        """
        if self._memories:
            raise RuntimeError("a linear memory of the previous run was not freed")
        self.left = self._budget = budget
        self.peak = 0
        self.refused = False

    def _new(
        self,
        _env: int,
        _type: object,
        minimum: int,
        _max: int,
        reserved: int,
        guard: int,
        made: Any,
    ) -> int:
        # Compiled code omits bounds checks within `reserved` and `guard`, so both must be mapped.
        # `made` is a pointer to a structure that receives the memory's callbacks.
        capacity = max(reserved, minimum)
        mapped = _GUARD_BYTES + capacity + max(guard, _GUARD_BYTES)
        address = _libc.mmap(None, mapped, _INACCESSIBLE, _RESERVED, -1, 0)
        if address in (None, _FAILED):
            return self._refusal()
        memory = _Memory(base=address + _GUARD_BYTES, mapped=mapped, capacity=capacity)
        if not self._open(memory, minimum):
            _libc.munmap(address, mapped)
            return self._refusal()
        self._last += 1
        self._memories[self._last] = memory
        _, get, grow, end = self._callbacks
        made[0].env = self._last
        made[0].get_memory = get
        made[0].grow_memory = grow
        made[0].finalizer = end
        return 0

    def _get(self, env: int, size: Any, capacity: Any) -> int:
        memory = self._memories[env]
        size[0], capacity[0] = memory.size, memory.capacity
        return memory.base

    def _grow(self, env: int, size: int) -> int:
        return 0 if self._open(self._memories[env], size) else self._refusal()

    def _end(self, env: int) -> None:
        memory = self._memories.pop(env)
        self.left += memory.size
        _libc.munmap(memory.base - _GUARD_BYTES, memory.mapped)

    def _open(self, memory: _Memory, size: int) -> bool:
        """Make the first bytes of a linear memory accessible.

        Returns whether that succeeded.
        """
        more = size - memory.size
        # a page above the limit of the run is refused to the program (RN14)
        if more > self.left or size > memory.capacity:
            return False
        failed = _libc.mprotect(memory.base, size, _OPEN)
        if failed:
            return False
        memory.size = size
        self.left -= more
        self.peak = max(self.peak, self._budget - self.left)
        return True

    def _refusal(self) -> int:
        """Record a refused allocation, and return an error for wasmtime.

        wasmtime frees the error.
        """
        self.refused = True
        return ctypes.cast(ffi.wasmtime_error_new(b"memory refused"), ctypes.c_void_p).value or 1
