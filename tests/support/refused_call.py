"""A process in which one system call is refused, as by a container's own filter."""

import ctypes
import errno
import os
import struct

_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2


def refuse_call(x86_64: int, arm64: int) -> None:
    """Make a system call fail with EPERM in this process and in those that it starts."""
    number = x86_64 if os.uname().machine == "x86_64" else arm64
    code = [
        (0x20, 0, 0, 0),  # load the number
        (0x15, 0, 1, number),
        (0x06, 0, 0, 0x00050000 | errno.EPERM),
        (0x06, 0, 0, 0x7FFF0000),
    ]
    packed = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in code))
    described = struct.pack("@HP", len(code), ctypes.addressof(packed))
    libc = ctypes.CDLL(None)
    assert libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    assert libc.prctl(_SECCOMP, _FILTER, described) == 0
