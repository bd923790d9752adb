"""Merging of the data segments of WebAssembly programs (RN190).

wasmtime compiles a copy for each data segment, in a time that is quadratic in their number. Go's
linker writes tens of thousands of segments, because it leaves out even a few zeros.
"""

from collections.abc import Iterator

from wasmtime import Engine, Module, WasmtimeError

_MODULE = b"\0asm\x01\0\0\0"
_COMPONENT = b"\0asm\x0d\0\x01\0"
_NESTED = (1, 4)
"""Kinds of the sections of a component that contain a module or component."""
_MEMORIES, _DATA, _DATA_COUNT = 5, 11, 12
_I32_CONST, _END = 0x41, 0x0B
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
            return _COMPONENT + b"".join(
                _section(
                    kind,
                    merge_segments(content, engine) if kind in _NESTED else content,
                )
                for kind, content in _sections(program)
            )
    except (LookupError, ValueError, MemoryError, RecursionError, WasmtimeError):
        pass
    return program


def _merge_module(module: bytes, engine: Engine) -> bytes:
    """Merge the data segments of a module (RN190).

    Raises an error of Python or of wasmtime if that is impossible.
    """
    Module.validate(engine, module)  # an invalid one could become valid
    contents = dict(_sections(module))
    memories, data = _Reader(contents[_MEMORIES]), _Reader(contents[_DATA])
    # The number of memories, flags and the least size. The engine accepts one memory alone, so this
    # one is not imported, and begins with zeros.
    *_, pages = (memories.number() for _ in range(3))
    image, segments = bytearray(pages << 16), list[list[int]]()
    for _ in range(data.number()):
        memory, instruction, begin = data.number(), data.number(), data.number()
        is_negative = data.data[data.at - 1] & 64
        last, content = data.number(), data.content()
        end = begin + len(content)
        if (
            (memory, instruction, last) != (0, _I32_CONST, _END)
            or is_negative
            or end > len(image)  # the segments before it are written before it fails
        ):
            raise ValueError
        image[begin:end] = content
        segments.append([begin, end])
    segments.sort()
    merged = segments[:1]
    for begin, end in segments:
        if begin - merged[-1][1] <= _GAP_BYTES:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    if len(merged) == len(segments):
        raise ValueError
    written = _number(len(merged)) + b"".join(
        b"\0\x41%b\x0b%b" % (_number(begin), _number(end - begin)) + image[begin:end]
        for begin, end in merged
    )
    # Code that uses a data segment is not valid without the section that counts them.
    program = _MODULE + b"".join(
        _section(kind, written if kind == _DATA else content)
        for kind, content in _sections(module)
        if kind != _DATA_COUNT
    )
    Module.validate(engine, program)
    return program


def _sections(binary: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and the content of each section."""
    reader = _Reader(binary[len(_MODULE) :])
    while reader.at < len(reader.data):
        yield reader.number(most_bits=7), reader.content()


def _section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + _number(len(content)) + content


def _number(value: int) -> bytes:
    """Encode a number below 2^31, unsigned or signed (LEB128), in five bytes."""
    return bytes([value >> shift & 127 | 128 for shift in (0, 7, 14, 21)] + [value >> 28])
