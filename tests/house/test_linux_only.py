"""Packages of clients make calls that only Linux has in modules that say so.

`make check` also checks their types for macOS. That finds functions that are missing there, but not
calls by `ctypes`, and paths in `/proc`.
"""

import ast
import re
from collections.abc import Iterator

import pytest
from tests_support import REPOSITORY

OF_CLIENTS = ("sealspace", "tee_backend", "encryption_network", "serving", "capabilities")

_LINUX_ONLY = re.compile(r"\bLinux only: ")
_CALLS = frozenset(
    {
        "epoll", "eventfd", "getrandom", "memfd_create", "mlockall", "mount", "pidfd_open",
        "pidfd_send_signal", "pipe2", "posix_fadvise", "prctl", "sched_getaffinity",
        "sched_setaffinity", "setns", "setresgid", "setresuid", "splice", "syscall", "unshare",
        "F_GETPIPE_SZ", "F_SETPIPE_SZ", "O_PATH", "O_TMPFILE", "prlimit",
        "SO_BINDTODEVICE", "SO_PEERCRED", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "TCP_QUICKACK",
        "TCP_USER_TIMEOUT", "TCP_DEFER_ACCEPT", "AF_VSOCK", "AF_NETLINK", "AF_PACKET",
    }
)  # fmt: skip
_MODULES_WITH_CALLS = frozenset({"os", "fcntl", "select", "socket", "resource", "signal"})
_PLACES = re.compile(r"^/(proc|sys)(/|$)")


def linux_only_in(tree: ast.Module) -> Iterator[str]:
    """Yield the calls and paths of a module that only Linux has."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                is_call = owner in _MODULES_WITH_CALLS or owner.endswith("libc")
                if is_call and name in _CALLS:
                    yield name
            case ast.Attribute(value=ast.Call(), attr=name) if name in _CALLS:
                yield name
            case ast.ImportFrom(names=names):
                yield from (one.name for one in names if one.name in _CALLS)
            case ast.Constant(value=str(text)) if _PLACES.match(text):
                yield text


def test_calls_of_linux() -> None:
    """Calls that only Linux has are in modules whose docstring says `Linux only:`, and no other
    module says so."""
    undeclared, needless, declared = {}, [], 0
    for package in OF_CLIENTS:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            found = sorted(set(linux_only_in(tree)))
            says_so = bool(_LINUX_ONLY.search(ast.get_docstring(tree) or ""))
            declared += says_so
            place = str(path.relative_to(REPOSITORY))
            if found and not says_so:
                undeclared[place] = found
            if says_so and not found:
                needless.append(place)
    assert undeclared == {}
    assert needless == []
    assert declared


@pytest.mark.parametrize(
    "code",
    [
        "os.pidfd_open(1)",
        "from os import memfd_create",
        "ctypes.CDLL(None).prctl(4, 0)",
        "_libc.syscall(1)",
        "socket.SOCK_STREAM | socket.SOCK_CLOEXEC",
        "open('/proc/self/status')",
        "Path('/sys/kernel')",
    ],
)
def test_what_only_linux_has(code: str) -> None:
    """Each form of such a call is found."""
    assert list(linux_only_in(ast.parse(code)))


@pytest.mark.parametrize("code", ["os.pipe()", "app.mount(1)", "'/process'", "import os"])
def test_what_other_systems_have(code: str) -> None:
    """Other calls and texts are not found."""
    assert list(linux_only_in(ast.parse(code))) == []
