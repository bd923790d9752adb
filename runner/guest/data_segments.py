"""Merging of the data segments of WebAssembly programs (RN190).

wasmtime compiles a copy for each data segment, in a time that is quadratic in their number. Go's
linker writes tens of thousands of segments, because it leaves out even a few zeros.
"""

from collections.abc import Iterator, Sequence

from wasmtime import Engine, Module, WasmtimeError

_MODULE = b"\0asm\x01\0\0\0"
_COMPONENT = b"\0asm\x0d\0\x01\0"
_NESTED = (1, 4)
"""Kinds of the sections of a component that contain a module or component."""
_MEMORIES, _DATA, _DATA_COUNT = 5, 11, 12
_I32_CONST, _END = 0x41, 0x0B
_SIGN_BIT = 64
"""Bit in the last byte of a signed number (LEB128) that is set if the number is negative."""
_GAP_BYTES = 256
"""Longest gap in a merged segment. A module has at most 100,000 segments, so merging adds less than
26 MB of zeros to it.

A Python program with 1,828 segments keeps all of them with 64, and 352 with 256.
"""


class _Reader:
    """A reader of WebAssembly's binary format.

    Its methods raise IndexError or ValueError if the data is malformed.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, most_bits: int = 35) -> int:
        """Read an unsigned number (LEB128)."""
        value = 0
        for shift in range(0, most_bits, 7):
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError

    def content(self) -> bytes:
        """Read a byte string, which follows its length."""
        size = self.number()
        self.at += size
        if self.at > len(self.data):
            raise ValueError
        return self.data[self.at - size : self.at]


def merge_segments(program: bytes, engine: Engine) -> bytes:
    """Return a program with fewer data segments, whose memories start with the same content.

    A module that cannot be merged stays as it is.

    Args:
        program: a module or component, untrusted.
        engine: validates merged modules, and must refuse those with several memories.
    """
    try:
        if program.startswith(_MODULE):
            return _merge_module(program, engine)
        if program.startswith(_COMPONENT):
            merged = bytearray(_COMPONENT)
            for kind, content in _sections(program):
                if kind in _NESTED:
                    content = merge_segments(content, engine)
                merged += _section(kind, content)
            return bytes(merged)
    except (LookupError, ValueError, MemoryError, RecursionError, WasmtimeError):
        pass
    return program


def _merge_module(module: bytes, engine: Engine) -> bytes:
    """Merge the data segments of a module (RN190).

    Raises an error of Python or of wasmtime if that is impossible.
    """
    Module.validate(engine, module)  # merging could make a valid module of an invalid one
    contents = dict(_sections(module))
    memories, data = contents[_MEMORIES], _Reader(contents[_DATA])
    image = bytearray(_least_bytes_of_memory(memories))
    segments = list[tuple[int, int]]()
    for _ in range(data.number()):
        memory = data.number()
        instruction = data.number()
        begin = data.number()
        is_negative = data.data[data.at - 1] & _SIGN_BIT  # of the last byte of `begin`
        last = data.number()
        content = data.content()
        end = begin + len(content)
        # An active segment of the only memory with a constant offset has these numbers.
        if (memory, instruction, last) != (0, _I32_CONST, _END) or is_negative:
            raise ValueError
        # An instantiation fails at such a segment, after it has written those before it.
        if end > len(image):
            raise ValueError
        image[begin:end] = content
        segments.append((begin, end))
    merged = _merged(segments)
    if len(merged) == len(segments):
        raise ValueError
    written = bytearray(_number(len(merged)))
    for begin, end in merged:
        written += _segment(begin, image[begin:end])
    program = bytearray(_MODULE)
    for kind, content in _sections(module):
        # Without the section that counts data segments, code that uses one of them is not valid. So
        # the validation refuses a module whose code names segments by their old numbers.
        if kind == _DATA_COUNT:
            continue
        program += _section(kind, written if kind == _DATA else content)
    Module.validate(engine, program)
    return bytes(program)


def _least_bytes_of_memory(section: bytes) -> int:
    """Return the size with which a module's memory begins, in bytes.

    The engine accepts only modules with one memory. So a memory with a section is not imported, and
    begins with zeros.
    """
    memories = _Reader(section)
    memories.number()  # how many
    memories.number()  # flags
    return memories.number() << 16


def _merged(segments: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return where merged segments begin and end, in ascending order."""
    merged = list[tuple[int, int]]()
    for begin, end in sorted(segments):
        if merged and begin - merged[-1][1] <= _GAP_BYTES:
            last_begin, last_end = merged[-1]
            merged[-1] = (last_begin, max(last_end, end))
        else:
            merged.append((begin, end))
    return merged


def _segment(begin: int, content: bytes | bytearray) -> bytes:
    """Encode an active data segment with a constant offset."""
    head = b"\0" + bytes([_I32_CONST]) + _number(begin) + bytes([_END])
    return head + _number(len(content)) + content


def _sections(binary: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and the content of each section."""
    reader = _Reader(binary[len(_MODULE) :])
    while reader.at < len(reader.data):
        yield reader.number(most_bits=7), reader.content()


def _section(kind: int, content: bytes | bytearray) -> bytes:
    return bytes([kind]) + _number(len(content)) + content


def _number(value: int) -> bytes:
    """Encode a number below 2^31, unsigned or signed (LEB128), in five bytes."""
    return bytes([value >> shift & 127 | 128 for shift in (0, 7, 14, 21)] + [value >> 28])
