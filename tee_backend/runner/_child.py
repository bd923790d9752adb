"""A child process as its parent sees it: started, asked, killed and reaped."""

import asyncio
import os
import socket
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, TypeVar

from ._frames import LENGTH

_Read = TypeVar("_Read")
_START_S: Final = 60.0
_BOOT: Final = (
    "import sys, socket; sys.path[:0] = sys.argv[5:]\n"
    "from importlib import import_module\n"
    "fd, uid, parent = map(int, sys.argv[2:5])\n"
    "child = import_module('tee_backend.runner.' + sys.argv[1])\n"
    "child.main(socket.socket(fileno=fd), uid or None, parent)\n"
)


class ChildEnded(Exception):
    """The child ended before it answered: `late`, when its time was over, by `signal`, or by itself where that is 0."""

    def __init__(self, late: bool, ended_by: int) -> None:
        self.late = late
        self.signal = ended_by
        super().__init__(late, ended_by)


class Child:
    """One process, for one call at a time.

    Attributes:
        uid: of the child; None where it has the parent's.
        held: the programs that it has loaded, the least recently used first.
        runs: how many runs it has answered.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", connection: socket.socket, uid: int | None) -> None:
        self.uid = uid
        self.held: OrderedDict[str, None] = OrderedDict()
        self.runs = 0
        self._process = process
        self._connection = connection

    @classmethod
    def start(cls, module: Literal["_run_child", "_compile_child"], uid: int | None) -> "Child":
        """Start a process that runs a module of this folder; call it in the main thread, whose end ends the child."""
        ours, theirs = socket.socketpair()
        cached = [] if sys.pycache_prefix is None else ["-X", f"pycache_prefix={sys.pycache_prefix}"]
        numbers = (theirs.fileno(), uid or 0, os.getpid())
        with theirs:
            process = subprocess.Popen(  # noqa: S603  # this interpreter, and no text of a request
                [sys.executable, "-I", "-S", *cached, "-c", _BOOT, module, *map(str, numbers), *_import_paths()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                close_fds=True,  # RN25
                pass_fds=[theirs.fileno()],
                env={},
                cwd="/",
                start_new_session=True,
            )
        ours.setblocking(False)
        return cls(process, ours, uid)

    async def ready(self) -> None:
        """Wait until the child is confined; ChildEnded where it could not be."""
        await self._within(self._exactly(1), _START_S)

    async def ask(self, payload: bytes, files: Sequence[int], *, most_bytes: int, within_s: float) -> bytes:
        """Send a request, with files that the child gets copies of, and return the body of the answer.

        Args:
            most_bytes: longest body that is read.
            within_s: seconds after which the child is killed.

        Raises:
            ChildEnded: no answer came, and the child is gone.
        """
        return await self._within(self._exchange(payload, files, most_bytes), within_s)

    def hold(self, program: str, most: int) -> list[str]:
        """Note that the child has a program loaded, as the last one used; return those that it has to forget for it."""
        self.held[program] = None
        self.held.move_to_end(program)
        return [self.held.popitem(last=False)[0] for _ in range(len(self.held) - most)]

    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process.poll() is None

    async def end(self) -> None:
        """Kill the child and reap it: nothing of it is left when this returns."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)  # whoever waits for an answer reads its end
        if self._process.poll() is None:
            self._process.kill()
            await _ended(self._process.pid)
        self._process.wait()
        await asyncio.sleep(0)
        self._connection.close()

    async def _within(self, exchange: Awaitable[_Read], within_s: float) -> _Read:
        """Wait for a part of the conversation; whatever goes wrong in it is the end of the child."""
        late = False
        try:
            async with asyncio.timeout(within_s):  # RN19
                return await exchange
        except TimeoutError:
            late = True
        except (EOFError, OSError):
            pass
        await self.end()
        raise ChildEnded(late, max(0, -self._process.returncode))

    async def _exchange(self, payload: bytes, files: Sequence[int], most_bytes: int) -> bytes:
        # The child waits for this, so that so few bytes are taken at once.
        socket.send_fds(self._connection, [LENGTH.pack(len(payload))], files)
        await asyncio.get_running_loop().sock_sendall(self._connection, payload)
        (length,) = LENGTH.unpack(await self._exactly(LENGTH.size))
        if length > most_bytes:  # RN17: before a byte of it is read
            raise EOFError
        return bytes(await self._exactly(length))

    async def _exactly(self, length: int) -> bytearray:
        loop, data = asyncio.get_running_loop(), bytearray(length)
        left = memoryview(data)
        while left:
            count = await loop.sock_recv_into(self._connection, left)
            if not count:
                raise EOFError
            left = left[count:]
        return data


async def _ended(process: int) -> None:
    """Wait for the end of a child without holding up the loop: a large one takes its time."""
    loop = asyncio.get_running_loop()
    ended, watched = asyncio.Event(), os.pidfd_open(process)
    loop.add_reader(watched, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(watched)
        os.close(watched)


def _import_paths() -> list[str]:
    """Return where a child imports from: the folders of this package and of wasmtime, and no other."""
    wasmtime = find_spec("wasmtime")
    if wasmtime is None or wasmtime.origin is None:
        raise ModuleNotFoundError("the runner needs the extra `runner`", name="wasmtime")
    return list(dict.fromkeys([str(Path(__file__).parents[2]), str(Path(wasmtime.origin).parents[1])]))
