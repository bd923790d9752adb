"""Seccomp filters for child processes (RN180 to RN183).

The maintained bindings of libseccomp need a compiler or that library on the machine, and
`pyseccomp` has had no release since 2021. So the filter is assembled here, as a BPF program that
judges the number of each system call.

A filter lists what is allowed. Every other call fails with ENOSYS, as under a kernel that does not
have it: C libraries then use an older call, and a process does not end by a call that a new version
of a library makes.

Linux only: a filter of its kernel.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, NamedTuple

from .call_numbers import COLUMNS, NUMBERS

UNFILTERED = 78
"""Exit status of a process that could not install a filter."""
ALLOWED: Final = "allowed"
OWN_PROCESS = 0x7ABCDEF1
"""Stands for a process's own id in a list; Linux gives no process such a high id."""


class Refused(NamedTuple):
    """A call that fails with an error other than ENOSYS."""

    error: int


class IfEqual(NamedTuple):
    """A call that is allowed if an argument has one of these values.

    Only the lower 32 bits are compared, so the argument has to be an `int` of the kernel.
    """

    argument: int
    values: tuple[int, ...]
    error: int = errno.EPERM


class IfBit(NamedTuple):
    """A call that is allowed if an argument has a bit."""

    argument: int
    bit: int
    error: int = errno.EPERM


Verdict = Literal["allowed"] | Refused | IfEqual | IfBit


@dataclass(frozen=True, eq=False)
class CallList:
    """The system calls that a process may make, by name."""

    calls: Mapping[str, Verdict]


class _Instruction(NamedTuple):
    """An instruction of BPF.

    Attributes:
        operation: code of the operation, with its mode and size.
        if_true: instructions to skip if a comparison is true.
        if_false: instructions to skip if it is false.
        operand: a value or a position.
    """

    operation: int
    if_true: int
    if_false: int
    operand: int


class _Range(NamedTuple):
    """Adjacent numbers of calls with one verdict, up to the first number of the next range."""

    first: int
    instructions: list[_Instruction]


_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _EQUAL, _AT_LEAST, _HAS_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_KILL, _FAIL, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_PACKED = struct.Struct("=HBBI")
_libc = ctypes.CDLL(None)
_libc.syscall.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_char_p)


def _load(position: int) -> _Instruction:
    """Return the instruction that loads a word of the call's description."""
    return _Instruction(operation=_LOAD, if_true=0, if_false=0, operand=position)


def _compare(operation: int, value: int, *, if_true: int = 0, if_false: int = 0) -> _Instruction:
    """Return an instruction that compares the loaded word, and skips others."""
    return _Instruction(operation=operation, if_true=if_true, if_false=if_false, operand=value)


def _end(action: int) -> _Instruction:
    """Return the instruction that ends the program with a verdict."""
    return _Instruction(operation=_RETURN, if_true=0, if_false=0, operand=action)


_UNKNOWN = [_end(_FAIL | errno.ENOSYS)]


def program(allowed: CallList, machine: str) -> bytes:
    """Assemble a BPF program that allows the listed system calls.

    Raises KeyError for an unsupported machine.
    """
    code = [
        _load(_ARCHITECTURE_AT),
        # RN182: `int 0x80` reaches the numbers of i386 from a process of x86-64
        _compare(_EQUAL, _ARCHITECTURES[machine], if_true=1),  # if equal, skip the next one
        _end(_KILL),
        _load(_NUMBER_AT),
        *_decide(_ranges(allowed, machine)),
    ]
    return b"".join(_PACKED.pack(*instruction) for instruction in code)


def _ranges(allowed: CallList, machine: str) -> list[_Range]:
    """Return the instructions for all numbers of calls, as ascending ranges from 0 on.

    The last range is without end, so the numbers of x32 are unknown calls (RN182).
    """
    instructions_of = dict[int, list[_Instruction]]()
    for name, verdict in allowed.calls.items():
        number = NUMBERS[name][COLUMNS[machine]]
        if number is not None:
            instructions_of[number] = _instructions_for(verdict)
    starts = {0: _UNKNOWN}
    for number in sorted(instructions_of):
        starts[number] = instructions_of[number]
        starts[number + 1] = _UNKNOWN
    ranges = list[_Range]()
    for start, instructions in starts.items():
        if not ranges or ranges[-1].instructions != instructions:
            ranges.append(_Range(start, instructions))
    return ranges


def _instructions_for(verdict: Verdict) -> list[_Instruction]:
    """Return the instructions that end the program for one call."""
    match verdict:
        case "allowed":
            return [_end(_ALLOW)]
        case Refused(error):
            return [_end(_FAIL | error)]
        case IfBit(argument, bit, error):
            return [
                _load(_FIRST_ARGUMENT_AT + 8 * argument),
                _compare(_HAS_BIT, bit, if_false=1),
                _end(_ALLOW),
                _end(_FAIL | error),
            ]
        case IfEqual(argument, values, error):
            code = [_load(_FIRST_ARGUMENT_AT + 8 * argument)]
            for value in values:
                code += [_compare(_EQUAL, value, if_false=1), _end(_ALLOW)]
            return [*code, _end(_FAIL | error)]


def _decide(ranges: list[_Range]) -> list[_Instruction]:
    """Return a binary search for the range of a number.

    A call passes 8 comparisons instead of 80. A kernel from 5.11 on runs the program only for calls
    whose arguments it judges; but to learn that, it tries every number when a filter is installed.
    """
    if len(ranges) == 1:
        return ranges[0].instructions
    middle = len(ranges) // 2
    low, high = _decide(ranges[:middle]), _decide(ranges[middle:])
    # A jump skips at most 255 instructions; packing a longer one fails.
    return [_compare(_AT_LEAST, ranges[middle].first, if_true=len(low)), *low, *high]


@cache
def prepare_filter(allowed: CallList) -> bytes:
    """Return the filter for a process whose id is `OWN_PROCESS`.

    The template prepares the filters of its children, because assembling one takes 0.3 ms.
    """
    return program(allowed, os.uname().machine)


def allow_only(allowed: CallList) -> None:
    """Permanently restrict this process to the listed system calls.

    The filter applies to all threads of this process and to its future children. Call this after
    `no_new_privs` is set. If the filter cannot be installed, the process exits (RN183).
    """
    machine = os.uname().machine
    if machine not in COLUMNS:  # without a filter no child may run (RN183)
        os._exit(UNFILTERED)
    prepared = prepare_filter(allowed)
    # The prepared filter compares with OWN_PROCESS where it has to compare with this process's id.
    placeholder = struct.pack("=I", OWN_PROCESS)
    own_id = struct.pack("=I", os.getpid())
    code = ctypes.create_string_buffer(prepared.replace(placeholder, own_id), len(prepared))
    # The kernel takes the number of instructions and their address.
    filter_program = struct.pack("@HP", len(prepared) // _PACKED.size, ctypes.addressof(code))
    # RN183: a result above 0 is the id of a thread for which it failed.
    number = NUMBERS["seccomp"][COLUMNS[machine]]
    if _libc.syscall(number, _SET_MODE_FILTER, _ALL_THREADS, filter_program):
        os._exit(UNFILTERED)
