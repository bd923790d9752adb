"""An event loop that runs in its own thread.

Each client has its own loop. A wallet that waits for a person, or a slow verifier, blocks only its
own client, and a closed client leaves nothing behind. The thread is a daemon, because the
interpreter waits for other threads before it runs exit handlers. The exit handler stops the loop
and waits for a limited time.
"""

import asyncio
import atexit
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from inspect import CORO_CLOSED, getcoroutinestate
from queue import SimpleQueue
from typing import Final, TypeVar

from ..errors import ClientClosed, ClientNotReady

Result = TypeVar("Result")
Calls = SimpleQueue[Callable[[], object] | None]

EXIT_WAIT_S = 2.0
"""Time that an exiting program waits for unclosed clients to close their connections, seconds."""

_THREADS: "Final[weakref.WeakSet[LoopThread]]" = weakref.WeakSet()
_END = object()


class LoopThread:
    """A thread that runs coroutines for other threads.

    The first call starts the thread.

    Args:
        close: closes the resources of the coroutines; awaited in the loop after the last call.
        leave: drops resources of the parent's loop in a forked process, without closing them.
    """

    def __init__(
        self, *, close: Callable[[], Coroutine[object, object, None]], leave: Callable[[], None]
    ) -> None:
        self._close = close
        self._leave = leave
        self._closed = False
        self._reset()
        _THREADS.add(self)

    def _reset(self) -> None:
        # The lock is reentrant, because a signal handler may run at any line of the thread that has
        # it, and close the client.
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._finalizer: weakref.finalize[[], LoopThread] | None = None

    def run(
        self,
        coroutine: Coroutine[object, object, Result],
        calls: Calls | None = None,
    ) -> Result:
        """Run a coroutine in the event loop and wait for its result.

        A coroutine that cannot run is closed.

        Args:
            coroutine: the coroutine.
            calls: functions put into this queue are called in the caller's thread; an exception in
                one cancels the coroutine.
        Raises:
            ClientClosed: the client is closed, or another thread closed it during the call.
            ClientNotReady: this is the loop's own thread, which would wait for itself.
            BaseException: an exception of the coroutine, or one that interrupts the wait, such as
                KeyboardInterrupt, and cancels the coroutine.
        """
        waiting = calls or SimpleQueue()
        future: Future[Result] | None = None
        try:
            future = self._submit(coroutine)
            future.add_done_callback(lambda _: waiting.put(None))
            while (call := waiting.get()) is not None:
                call()
            return future.result()
        except CancelledError:
            if self._closed:
                raise ClientClosed("the client was closed during this call") from None
            raise
        finally:
            # A signal handler may raise at any line, even after the loop got the coroutine and
            # before this thread got the future. Therefore the loop finds the task; it starts
            # earlier submissions first.
            if self._loop is not None and getcoroutinestate(coroutine) != CORO_CLOSED:
                with suppress(RuntimeError):  # the loop has ended and cancelled its tasks
                    self._loop.call_soon_threadsafe(_cancel, coroutine)
            del future  # breaks the cycle future, exception, traceback, this frame

    def iterate(self, items: AsyncIterator[Result]) -> Iterator[Result]:
        """Yield the items of an asynchronous iterator.

        Each item is fetched on demand. An abandoned iteration needs no cleanup: the loop closes
        asynchronous generators when they are collected.
        """
        while (item := self.run(_next(items))) is not _END:
            yield item  # type: ignore[misc]  # only the sentinel is no item

    def close(self, *, wait_s: float | None = None) -> None:
        """Stop the event loop and its thread.

        Running calls are cancelled, and the resources are closed.

        Args:
            wait_s: how long to wait for the end of the thread, seconds; None: until it has ended.
        """
        with self._lock:
            self._closed = True
            thread = self._thread
            if self._finalizer is not None:
                self._stop_loop(self._finalizer)
        # The thread calls this itself if a coroutine closes its own client.
        if thread is not None and thread is not threading.current_thread():
            thread.join(wait_s)

    @staticmethod
    def _stop_loop(finalizer: "weakref.finalize[[], LoopThread]") -> None:
        """Call the finalizer's function now, unless it was called before."""
        detached = finalizer.detach()
        if detached is not None:
            _, stop, _, _ = detached
            stop()

    def abandon(self) -> None:
        """Reset this object in a forked child process.

        The child process does not have the event loop's thread. Nothing of the parent's loop may be
        closed or collected here. Both processes share one epoll instance, so a socket removed from
        it here is removed for the parent too. The thread's stack is gone, but its references stay
        for ever: the loop, and through `close` the client and its connections.
        """
        if self._finalizer is not None:
            self._finalizer.detach()
            self._leave()
        self._reset()

    def _submit(self, coroutine: Coroutine[object, object, Result]) -> "Future[Result]":
        """Start a coroutine in the event loop, and return the future of its result."""
        # Without the lock, a coroutine could be submitted after the loop cancelled all, and its
        # caller would wait for ever.
        with self._lock:
            try:
                loop = self._open_loop()
            except BaseException:
                coroutine.close()
                raise
            # NOTE: asyncio suppresses every OSError while it writes to its wakeup socket. If a
            # signal handler raises one at that moment, it is lost and the call continues. A handler
            # has to raise another exception to end a call, as the one for Ctrl-C does.
            return asyncio.run_coroutine_threadsafe(coroutine, loop)

    def _open_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop, which the first call starts."""
        if self._closed:
            raise ClientClosed("this client was closed")
        if self._loop is None:
            self._start()
        if self._thread is not None and threading.get_ident() == self._thread.ident:
            raise ClientNotReady(
                "a wallet or verifier must not call the client that uses it: the call would cause"
                " a deadlock",
                hint="create a separate client for the wallet or verifier",
            )
        assert self._loop is not None
        return self._loop

    def _start(self) -> None:
        """Start the thread and its event loop."""
        runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        stopping = asyncio.Event()
        loop = runner.get_loop()
        # The thread has no reference to this object, so that its collection can stop the thread.
        thread = threading.Thread(
            target=_serve, args=(runner, stopping, self._close), name="sealspace.sync", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # too many threads, or the interpreter is exiting
            runner.close()
            raise
        self._finalizer = weakref.finalize(self, partial(loop.call_soon_threadsafe, stopping.set))
        self._finalizer.atexit = False  # see `_at_exit`
        self._loop, self._thread = loop, thread


def _serve(
    runner: asyncio.Runner,
    stopping: asyncio.Event,
    close: Callable[[], Coroutine[object, object, None]],
) -> None:
    """Run an event loop until the `stopping` event is set."""
    with runner:
        while not stopping.is_set():
            # If a call raises one of these, as a wallet may, asyncio stops the loop. The caller
            # gets the exception, and the loop starts again.
            with suppress(KeyboardInterrupt, SystemExit):
                runner.run(stopping.wait())
        runner.run(_finish(close))


def _cancel(coroutine: Coroutine[object, object, object]) -> None:
    """Cancel the task of a coroutine.

    A coroutine that never started has no task, and is closed.
    """
    tasks = (task for task in asyncio.all_tasks() if task.get_coro() is coroutine)
    task = next(tasks, None)
    if task is None:
        coroutine.close()
    else:
        task.cancel()


async def _finish(close: Callable[[], Coroutine[object, object, None]]) -> None:
    """Cancel all calls, close the resources, and abort connections that are still open."""
    calls = asyncio.all_tasks() - {asyncio.current_task()}
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await close()
    # A connection that was closed while the node did not read still waits to send its data, and
    # would outlive the loop. The loop's list of connections is private; without it, the socket is
    # closed by the garbage collector, with a warning.
    for transport in list(getattr(asyncio.get_running_loop(), "_transports", {}).values()):
        # A transport that has ended already has no loop.
        with suppress(AttributeError):
            transport.abort()
    await asyncio.sleep(0)


async def _next(items: AsyncIterator[object]) -> object:
    return await anext(items, _END)


def _at_exit() -> None:
    """Stop the event loops of clients that were not closed.

    Loops that do not stop in time are abandoned.
    """
    threads = list(_THREADS)
    for thread in threads:
        thread.close(wait_s=0)
    deadline = time.monotonic() + EXIT_WAIT_S
    for thread in threads:
        thread.close(wait_s=max(0, deadline - time.monotonic()))


def _after_fork() -> None:
    for thread in list(_THREADS):
        thread.abandon()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
