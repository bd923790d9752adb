"""Child processes as their parent sees them: the template, and what is forked from it, asked,
killed and reaped."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, TypeAlias

from .frames import FETCH, LENGTH, MAX_MESSAGE_BYTES, PROCESS
from .system_calls import UNFILTERED

Fetch: TypeAlias = Callable[[bytes], Coroutine[None, None, bytes]]
"""Answers a message of a guest, untrusted, with another."""
_log = logging.getLogger(__name__)
_START_S: Final = 60.0
_LOOK_S: Final = 0.01
_MOST_HELD_BYTES: Final = 64 * 1024 * 1024
"""Compiled programs that a child keeps loaded (RN185); one that is larger is kept alone."""
_LEAST_HELD_BYTES: Final = 4 * 1024 * 1024
"""What a small program counts as, so that a child keeps 16 at most."""
_BOOT: Final = (
    "import sys, socket; sys.path[:0] = sys.argv[3:]\n"
    "from tee_backend.runner.guest import template\n"
    "template.main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))\n"
)


class ChildEnded(Exception):
    """The child ended before it answered: `late`, when its time was over, by `signal`, or by itself
    where that is 0."""

    def __init__(self, *, late: bool = False, status: int | None = None) -> None:
        self.late = late
        self.signal = max(0, -(status or 0))
        super().__init__(late, self.signal)


class Template:
    """The process that children are forked from."""

    def __init__(self, process: "subprocess.Popen[bytes]", connection: socket.socket) -> None:
        self.forks = 0
        self._process = process
        self._connection = connection

    @classmethod
    def start(cls) -> "Template":
        """Start one; call it in the main thread, whose end ends it and its children. OSError where
        none starts."""
        ours, theirs = socket.socketpair()
        cached = (
            [] if sys.pycache_prefix is None else ["-X", f"pycache_prefix={sys.pycache_prefix}"]
        )
        with theirs:
            numbers = map(str, (theirs.fileno(), os.getpid()))
            process = subprocess.Popen(  # noqa: S603  # this interpreter, and no text of a request
                [sys.executable, "-I", "-S", *cached, "-c", _BOOT, *numbers, *_import_paths()],
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
        return cls(process, ours)

    async def ready(self) -> None:
        """Wait until it can be forked; EOFError or OSError where it ended, or was ended since it
        took too long."""
        try:
            async with asyncio.timeout(_START_S):
                if not await asyncio.get_running_loop().sock_recv(self._connection, 1):
                    raise EOFError
        except BaseException:
            self.kill()
            await self.end()
            raise

    def fork(self, module: Literal["_run_child", "_compile_child"], uid: int | None) -> "Child":
        """Ask for a child that runs a module of this folder; call `ready` of it. OSError where
        nobody can be asked."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        request = f"{module} {uid or 0}".encode()
        try:
            with theirs:
                socket.send_fds(
                    self._connection, [LENGTH.pack(len(request)) + request], [theirs.fileno()]
                )
        except OSError:
            ours.close()
            raise
        self.forks += 1
        return Child(self, ours, uid)

    def is_alive(self) -> bool:
        """Tell whether it can be asked; its connection ends before it is seen to have ended."""
        try:
            return bool(self._connection.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def kill(self) -> None:
        """Kill the process: it forks nothing any more."""
        self._process.kill()

    async def end(self) -> None:
        """Have it end once it has forked what it was asked for, and reap it."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_S):
                if self._process.poll() is None:
                    await _ended(self._process.pid)
        self.kill()
        _explain(self._process.wait())
        self._connection.close()


class Child:
    """One process, for one call at a time."""

    def __init__(self, template: Template, connection: socket.socket, uid: int | None) -> None:
        self.uid = uid
        self.held: OrderedDict[str, int] = OrderedDict()
        self.runs = 0
        self.cpu_s = 0.0
        self._template = template
        self._connection = connection
        # The id of a process of our own, which is nobody else's before we reap it (RN132); 0: not
        # known yet.
        self._process = 0
        self._status: int | None = None
        self._known = asyncio.Event()
        self._exchanging: asyncio.Task[bytearray] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._beginning = asyncio.create_task(self._begin())

    async def ready(self) -> None:
        """Wait until the child is confined; ChildEnded where it could not be, or nothing was
        forked."""
        if not await asyncio.shield(self._beginning):
            await self.end()
            _explain(self._status)
            raise ChildEnded(status=self._status)

    async def ask(
        self,
        payload: bytes,
        files: Sequence[int],
        *,
        most_bytes: int,
        within_s: float,
        fetch: Fetch | None = None,
    ) -> bytearray:
        """Send a request, with files that the child gets copies of, and return the body of the
        answer.

        Args:
            most_bytes: longest body that is read.
            within_s: seconds after which the child is killed.
            fetch: answers what the child asks for before it answers; None: it may ask for nothing.

        Raises:
            ChildEnded: no answer came, and the child is gone.
        """
        exchanging = self._exchanging = asyncio.create_task(
            self._exchange(payload, files, most_bytes, fetch)
        )
        _, late = await asyncio.wait([exchanging], timeout=within_s)  # RN19
        # ten megabytes of answer would be kept until the next run
        self._exchanging = exchanging if late else None
        if not late:
            # `end` cancels it, and nobody else
            with suppress(EOFError, OSError, asyncio.CancelledError):
                return exchanging.result()
        await self.end()  # whatever goes wrong in a conversation is the end of the child
        raise ChildEnded(late=bool(late), status=self._status)

    def hold(self, program: str, size: int) -> list[str]:
        """Note that the child has a program loaded, as the last one used; return those that it has
        to forget for it."""
        self.held[program] = max(size, _LEAST_HELD_BYTES)
        self.held.move_to_end(program)
        forgotten = []
        while sum(self.held.values()) > _MOST_HELD_BYTES and len(self.held) > 1:  # RN185
            forgotten.append(self.held.popitem(last=False)[0])
        return forgotten

    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return bool(self._process) and not self._reaped(os.WNOHANG)

    async def end(self) -> None:
        """Kill the child and reap it: nothing of it is left when this returns."""
        self._kill()  # at once: whoever waits for this may be late
        # it may have failed, and there is no harm in another
        if self._ending is None or self._ending.done():
            self._ending = asyncio.create_task(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        await self._known.wait()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)  # `_begin` reads its end
        if self._kill():
            await _ended(self._process)
        if self._process:
            self._reaped(0)
        await self._beginning
        if self._exchanging is not None:
            self._exchanging.cancel()
            await asyncio.gather(self._exchanging, return_exceptions=True)
        # Nothing waits for the connection any more. If anything did, the loop would keep it under
        # its number, and the next connection with that number would never be heard.
        self._connection.close()

    def _kill(self) -> bool:
        """Kill the process where it is known and not reaped; return whether it is."""
        alive = self.is_alive()
        if alive:
            os.kill(self._process, signal.SIGKILL)
        return alive

    def _reaped(self, options: int) -> bool:
        if self._status is None:
            try:
                process, status, used = os.wait4(self._process, options)
                self.cpu_s = used.ru_utime + used.ru_stime
            except ChildProcessError:  # this process ignores SIGCHLD, so that the kernel reaped it
                process, status = self._process, 0
            self._status = os.waitstatus_to_exitcode(status) if process else None
        return self._status is not None

    async def _begin(self) -> bool:
        """Learn the id of the process, and that it is confined; False where it, or the template,
        ended before."""
        named = confined = False
        try:
            async with asyncio.timeout(_START_S):
                while not (named and confined):
                    (number,) = PROCESS.unpack(await self._exactly(PROCESS.size))
                    named, confined = named or number > 0, confined or number < 0
                    self._process = abs(number)
                    self._known.set()
        except TimeoutError:
            if not named:
                self._template.kill()  # what it did not say by now it never will
            return False
        except (EOFError, OSError):
            return False
        finally:
            self._known.set()
        return True

    async def _exchange(
        self, payload: bytes, files: Sequence[int], most_bytes: int, fetch: Fetch | None
    ) -> bytearray:
        # The child waits for this, so that so few bytes are taken at once.
        socket.send_fds(self._connection, [LENGTH.pack(len(payload))], files)
        await asyncio.get_running_loop().sock_sendall(self._connection, payload)
        while True:
            (length,) = LENGTH.unpack(await self._exactly(LENGTH.size))
            if not length & FETCH:
                break
            if fetch is None or length ^ FETCH > MAX_MESSAGE_BYTES:  # RN17, as below
                raise EOFError
            answer = await self._unless_ended(fetch(bytes(await self._exactly(length ^ FETCH))))
            await asyncio.get_running_loop().sock_sendall(
                self._connection, LENGTH.pack(len(answer)) + answer
            )
        if length > most_bytes:  # RN17: before a byte of it is read
            raise EOFError
        return await self._exactly(length)

    async def _unless_ended(self, work: Coroutine[None, None, bytes]) -> bytes:
        """Wait for what the child waits for; EOFError where it ends meanwhile, or says
        something."""
        worked, heard = asyncio.create_task(work), asyncio.create_task(self._exactly(1))
        try:
            await asyncio.wait([worked, heard], return_when=asyncio.FIRST_COMPLETED)
            if heard.done():
                raise EOFError
            return worked.result()
        finally:
            worked.cancel()
            heard.cancel()
            await asyncio.gather(worked, heard, return_exceptions=True)

    async def _exactly(self, length: int) -> bytearray:
        loop, data = asyncio.get_running_loop(), bytearray(length)
        left = memoryview(data)
        while left:
            count = await loop.sock_recv_into(self._connection, left)
            if not count:
                raise EOFError
            left = left[count:]
        return data


def _explain(status: int | None) -> None:
    """Tell the operator why a process ended that could install no filter (RN183)."""
    if status == UNFILTERED:
        _log.error(
            "a child process was not started: the kernel refused its seccomp filter; next: run the"
            " runner on x86-64 or arm64 with a Linux kernel of 3.17 or later, in a container that"
            " allows the system call seccomp"
        )


async def _ended(process: int) -> None:
    """Wait for the end of a child without holding up the loop: a large one takes its time."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    try:
        watched = os.pidfd_open(process)
    except OSError:  # RN137: no file is free; a child that is not waited for would keep its uid
        with suppress(ChildProcessError):
            look = os.WEXITED | os.WNOHANG | os.WNOWAIT
            while os.waitid(os.P_PID, process, look) is None:  # noqa: ASYNC110, ASYNC222  # it waits nowhere
                await asyncio.sleep(_LOOK_S)
        return
    loop.add_reader(watched, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(watched)
        os.close(watched)


def _import_paths() -> list[str]:
    """Return where a child imports from: the folders of this package and of wasmtime, and no
    other."""
    wasmtime = find_spec("wasmtime")
    if wasmtime is None or wasmtime.origin is None:
        raise ModuleNotFoundError("the runner needs the extra `runner`", name="wasmtime")
    return list(
        dict.fromkeys([str(Path(__file__).parents[3]), str(Path(wasmtime.origin).parents[1])])
    )
