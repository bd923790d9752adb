"""Management of child processes."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from serving.confinement.system_calls import UNFILTERED
from serving.messages import MAX_MESSAGE_BYTES

from .frames import FETCH, LENGTH, PROCESS, STORAGE
from .runs import Handler, TaskFolders

Module = Literal["_run_child", "_task_child", "_compile_child", "_body_child", "_provenance_child"]

_log = logging.getLogger(__name__)
_START_S = 60.0
_POLL_S = 0.01
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# The places of two counts of pages in `/proc/<id>/statm`.
_RESIDENT_FIELD, _SHARED_FIELD = 1, 2
_MOST_LOADED_BYTES = 64 * 1024 * 1024
"""Total size of compiled programs in one child (RN185). A larger program is kept alone."""
_LEAST_LOADED_BYTES = 4 * 1024 * 1024
"""Minimum size that a program counts as, so that a child keeps at most 16."""
_BOOT = (
    "import sys, socket; sys.path[:0] = sys.argv[4:]\n"
    "from runner.guest import template\n"
    "bases = {one[:64]: int(one[65:]) for one in sys.argv[3].split()}\n"
    "template.main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), bases)\n"
)


class ChildEnded(Exception):
    """Raised when a child process ends without a response.

    Attributes:
        late: whether it was killed because its time was over.
        signal: number of the signal that ended it; 0 if it exited.
    """

    def __init__(self, *, late: bool = False, status: int | None = None) -> None:
        self.late = late
        self.signal = max(0, -(status or 0))
        super().__init__(late, self.signal)


class Template:
    """A handle for the fork server process.

    All children are forked from this process, which is called the template.
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        connection: socket.socket,
        bases: frozenset[str] = frozenset(),
    ) -> None:
        self.forks = 0
        self.bases = bases
        self.is_tried = False  # whether a child could run the test program (RN138)
        self._process = process
        self._connection = connection

    @classmethod
    def start(cls, bases: Mapping[str, int] | None = None) -> "Template":
        """Start the fork server process.

        `bases` has the descriptor of each compiled Python base by its SHA-256 (PY11).

        Raises OSError on failure. Call it in the main thread: the template and its children end
        with the calling thread.
        """
        wasmtime = find_spec("wasmtime")
        if wasmtime is None or wasmtime.origin is None:
            raise ModuleNotFoundError(
                "wasmtime is not installed; next: pip install 'sealspace[runner]'", name="wasmtime"
            )
        own_folder = str(Path(__file__).parents[2])
        wasmtime_folder = str(Path(wasmtime.origin).parents[1])
        paths = dict.fromkeys([own_folder, wasmtime_folder])  # once if they are the same
        ours, theirs = socket.socketpair()
        cached = list[str]()
        if sys.pycache_prefix is not None:
            cached = ["-X", f"pycache_prefix={sys.pycache_prefix}"]
        with theirs:
            numbers = map(str, (theirs.fileno(), os.getpid()))
            files = dict(bases or {})
            given = " ".join(f"{sha256}:{file}" for sha256, file in files.items())
            process = subprocess.Popen(  # noqa: S603  # this interpreter, and no text of a request
                [sys.executable, "-I", "-S", *cached, "-c", _BOOT, *numbers, given, *paths],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                close_fds=True,  # children inherit no file of the runner (RN25)
                pass_fds=[theirs.fileno(), *files.values()],
                env={},
                cwd="/",
                start_new_session=True,
            )
        ours.setblocking(False)
        return cls(process, ours, frozenset(files))

    async def ready(self) -> None:
        """Wait until the fork server process is ready.

        Raises EOFError or OSError if the template ended or took too long.
        """
        try:
            async with asyncio.timeout(_START_S):
                if not await asyncio.get_running_loop().sock_recv(self._connection, 1):
                    raise EOFError
        except BaseException:
            self.kill()
            await self.end()
            raise

    def fork(self, module: Module, uid: int | None, folders: TaskFolders | None) -> "Child":
        """Ask the template process to fork a child that runs a module.

        Await `ready` of the result before it is used: only then does the child exist.

        Args:
            module: what the child runs.
            uid: the user that the child becomes; None: it stays what the template is.
            folders: those of a task: the child works in their parent folder. None: no task.
        Raises:
            OSError: the template process has ended.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        folder, file_bytes = Path("/"), 0
        if folders is not None:
            folder, file_bytes = folders.input.parent, folders.max_bytes
        # The template reads these words in this order. The folder is the last, because it may
        # contain spaces.
        words = [module, str(uid or 0), "1" if self.is_tried else "0", str(file_bytes), str(folder)]
        request = os.fsencode(" ".join(words))
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
        """Return whether the fork server process is running.

        The connection is tested, because it closes before the process can be reaped.
        """
        try:
            return bool(self._connection.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def kill(self) -> None:
        """Kill the fork server process."""
        self._process.kill()

    async def end(self) -> None:
        """End the fork server process once all pending forks are done."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_S):
                if self._process.poll() is None:
                    await _wait_for_end(self._process.pid)
        self.kill()
        _log_unfiltered(self._process.wait())
        self._connection.close()


class Child:
    """A handle for a child process.

    A child serves one request at a time.
    """

    def __init__(self, template: Template, connection: socket.socket, uid: int | None) -> None:
        self.uid = uid
        self.bases = template.bases
        self.loaded: OrderedDict[str, int] = OrderedDict()
        self.runs = 0
        self.cpu_s = 0.0
        self._template = template
        self._connection = connection
        # Process id, 0 until it is known. It cannot be reused before this process reaps the child,
        # so a kill never hits another process (RN132).
        self._process = 0
        self._status: int | None = None
        self._process_known = asyncio.Event()
        self._exchange_task: asyncio.Task[bytearray] | None = None
        self._end_task: asyncio.Task[None] | None = None
        self._begin_task = asyncio.create_task(self._begin())

    async def ready(self) -> None:
        """Wait until the child process is ready.

        Raises ChildEnded if the child failed to start or to confine itself.
        """
        if not await asyncio.shield(self._begin_task):
            await self.end()
            _log_unfiltered(self._status)
            raise ChildEnded(status=self._status)

    async def request(
        self,
        payload: bytes,
        files: Sequence[int],
        *,
        most_bytes: int,
        within_s: float,
        handlers: Mapping[int, Handler | None] = {},
    ) -> bytearray:
        """Send a request to the child process, and return the response.

        Args:
            payload: body of the request.
            files: descriptors that the child receives copies of.
            most_bytes: longest answer that is read; the child is killed if it sends a longer one.
            within_s: seconds after which the child is killed.
            handlers: answers the child's requests during the run, by `FETCH` and `STORAGE`; the
                child may send no others.

        Raises:
            ChildEnded: no answer came, or a handler failed; the child has ended.
        """
        exchanging = self._exchange_task = asyncio.create_task(
            self._exchange(payload, files, most_bytes, handlers)
        )
        finished, _ = await asyncio.wait([exchanging], timeout=within_s)
        is_late = not finished  # the child is then killed below (RN19)
        if finished:
            # A finished task is dropped: it would hold an answer of 10 MB until the next run.
            self._exchange_task = None
            # Only `end` cancels this task, so a cancellation means that the child has ended.
            try:
                return exchanging.result()
            except (EOFError, OSError, asyncio.CancelledError):
                pass
            except Exception as failed:
                # A handler failed. The program has started, so the call is not refused as if it had
                # not (RN221).
                _log.error("a program's request failed: %s", type(failed).__name__)
        await self.end()  # after any protocol error the child's state is unknown
        raise ChildEnded(late=is_late, status=self._status)

    def note_use(self, program: str, size: int) -> list[str]:
        """Mark a program as loaded, and return others to unload from memory."""
        self.loaded[program] = max(size, _LEAST_LOADED_BYTES)
        self.loaded.move_to_end(program)
        evicted = []
        # a program that is larger than the limit is kept alone (RN185)
        while sum(self.loaded.values()) > _MOST_LOADED_BYTES and len(self.loaded) > 1:
            evicted.append(self.loaded.popitem(last=False)[0])
        return evicted

    def is_waiting(self) -> bool:
        """Return whether the child process runs, and has sent nothing since its last answer.

        Otherwise the next run would take what the child sent for its own answer (RN100, RN261).
        """
        try:
            self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return self.is_alive()
        except OSError:
            return False
        return False

    def private_bytes(self) -> int:
        """Return the resident memory that no file backs; 0 if the process has ended."""
        try:
            fields = Path(f"/proc/{self._process}/statm").read_bytes().split()
        except OSError:
            return 0
        return (int(fields[_RESIDENT_FIELD]) - int(fields[_SHARED_FIELD])) * _PAGE_BYTES

    def is_alive(self) -> bool:
        """Return whether the child process is running."""
        return bool(self._process) and not self._reaped(os.WNOHANG)

    async def end(self) -> None:
        """Kill and reap the child process."""
        self._kill()  # at once: the task below may start late
        # A failed task is replaced; killing and reaping twice is harmless.
        if self._end_task is None or self._end_task.done():
            self._end_task = asyncio.create_task(self._end())
        await asyncio.shield(self._end_task)

    async def _end(self) -> None:
        await self._process_known.wait()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)  # so that `_begin` does not wait any more
        if self._kill():
            await _wait_for_end(self._process)
        if self._process:
            self._reaped(0)
        await self._begin_task
        if self._exchange_task is not None:
            self._exchange_task.cancel()
            await asyncio.gather(self._exchange_task, return_exceptions=True)
        # Closed last, when no task reads from it. Otherwise the event loop would keep its file
        # number registered, and miss events of the next connection with the same number.
        self._connection.close()

    def _kill(self) -> bool:
        """Kill the child process, and return whether it was still running."""
        was_running = self.is_alive()
        if was_running:
            os.kill(self._process, signal.SIGKILL)
        return was_running

    def _reaped(self, options: int) -> bool:
        """Reap the child process if it has ended, and return whether it is reaped.

        With `os.WNOHANG` as options, this does not wait for its end.
        """
        if self._status is not None:
            return True
        try:
            process, status, used = os.wait4(self._process, options)
        except ChildProcessError:  # the kernel reaped it, because this process ignores SIGCHLD
            self._status = 0
            return True
        self.cpu_s = used.ru_utime + used.ru_stime
        if not process:  # it has not ended
            return False
        self._status = os.waitstatus_to_exitcode(status)
        return True

    async def _begin(self) -> bool:
        """Wait until the child process is confined, and store its process id.

        The template sends the process id of the child. The child sends the same number as a
        negative one as soon as it is confined. Either may come first.

        Returns False if the child ends or takes too long. A template that does not send the id in
        this time is killed.
        """
        is_named = False  # by the template
        is_confined = False
        try:
            async with asyncio.timeout(_START_S):
                while not (is_named and is_confined):
                    (signed_id,) = PROCESS.unpack(await self._exactly(PROCESS.size))
                    if signed_id > 0:
                        is_named = True
                    if signed_id < 0:
                        is_confined = True
                    self._process = abs(signed_id)
                    self._process_known.set()
        except TimeoutError:
            if not is_named:
                self._template.kill()  # it hangs, since it has not sent the id for a minute
            return False
        except (EOFError, OSError):
            return False
        finally:
            self._process_known.set()
        return True

    async def _exchange(
        self,
        payload: bytes,
        files: Sequence[int],
        most_bytes: int,
        handlers: Mapping[int, Handler | None],
    ) -> bytearray:
        # Cannot block: the child is waiting, and four bytes fit into the socket's buffer.
        socket.send_fds(self._connection, [LENGTH.pack(len(payload))], files)
        await asyncio.get_running_loop().sock_sendall(self._connection, payload)
        while True:
            (length,) = LENGTH.unpack(await self._exactly(LENGTH.size))
            if not length & FETCH:  # the answer: the bit marks each request of the guest
                break
            # The bits of `STORAGE` include that of `FETCH`, so this leaves one of the two kinds.
            handler = handlers.get(length & STORAGE)
            length &= ~STORAGE
            if handler is None or length > MAX_MESSAGE_BYTES:  # RN17: before a byte of it is read
                raise EOFError
            message = bytes(await self._exactly(length))
            answer = await self._unless_ended(handler(message))
            await asyncio.get_running_loop().sock_sendall(
                self._connection, LENGTH.pack(len(answer)) + answer
            )
        if length > most_bytes:  # RN17: before a byte of it is read
            raise EOFError
        return await self._exactly(length)

    async def _unless_ended(self, work: Coroutine[None, None, bytes]) -> bytes:
        """Await a coroutine unless the child process ends first.

        Raises EOFError if the child ends or sends bytes before the coroutine has finished.
        """
        working = asyncio.create_task(work)
        reading = asyncio.create_task(self._exactly(1))
        try:
            await asyncio.wait([working, reading], return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                raise EOFError
            return working.result()
        finally:
            working.cancel()
            reading.cancel()
            await asyncio.gather(working, reading, return_exceptions=True)

    async def _exactly(self, length: int) -> bytearray:
        loop = asyncio.get_running_loop()
        data = bytearray(length)
        left = memoryview(data)
        while left:
            count = await loop.sock_recv_into(self._connection, left)
            if not count:
                raise EOFError
            left = left[count:]
        return data


def _log_unfiltered(status: int | None) -> None:
    """Log a failure to install the seccomp filter (RN183)."""
    if status == UNFILTERED:
        _log.error(
            "a child process was not started: the kernel refused its seccomp filter; next: run the"
            " runner on x86-64 or arm64 with a Linux kernel of 3.17 or later, in a container that"
            " allows the system call seccomp"
        )


async def _wait_for_end(process: int) -> None:
    """Wait for a child process to end, without reaping it."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    try:
        watched = os.pidfd_open(process)
    except OSError:  # RN137: too many open files; a child that is not reaped would keep its uid
        with suppress(ChildProcessError):
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            while os.waitid(os.P_PID, process, options) is None:  # noqa: ASYNC110, ASYNC222  # it waits nowhere
                await asyncio.sleep(_POLL_S)
        return
    loop.add_reader(watched, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(watched)
        os.close(watched)
