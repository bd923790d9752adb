"""An event loop in a thread of its own, on which the asynchronous client behind a synchronous one
runs.

One for each client, not one for the process: a wallet that asks a person, or a verifier that
computes, holds up its own client alone, and nothing is left once the client is closed. The thread
is a daemon, because the interpreter waits for all others before it runs what is registered for its
exit; there it is stopped and waited for, for a bounded time.
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
from typing import Final, TypeAlias, TypeVar

from ..errors import ClientClosed, ClientNotReady

Result = TypeVar("Result")
Calls: TypeAlias = SimpleQueue[Callable[[], object] | None]

EXIT_WAIT_S: Final = 2.0
"""How long the end of the program waits for the connections of clients that were not closed."""

_THREADS: "Final[weakref.WeakSet[LoopThread]]" = weakref.WeakSet()
_END: Final = object()


class LoopThread:
    """Runs coroutines for callers in any thread; the thread is started by the first call.

    Args:
        close: ends what the coroutines use; awaited in the loop at its end, once no call is under
            way.
        leave: in a forked process, gives up what belongs to the loop of its parent, without closing
            it.
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
        # Reentrant: a signal's handler may run at any line, and close the client.
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._dropped: weakref.finalize[[], LoopThread] | None = None

    def run(
        self,
        coroutine: Coroutine[object, object, Result],
        calls: Calls | None = None,
    ) -> Result:
        """Run a coroutine in the loop, and wait for its result; one that cannot be run is closed
        unawaited.

        Args:
            calls: what is put into it is called in the caller's thread; what that raises cancels
                the coroutine.
        Raises:
            ClientClosed: the client is closed, or was closed by another thread meanwhile.
            ClientNotReady: this is the loop's own thread, which would wait for itself.
            BaseException: of the coroutine; or what interrupts the waiting, Ctrl-C for one, and
                cancels the coroutine.
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
                raise ClientClosed("the client was closed while this call was under way") from None
            raise
        finally:
            self._end(coroutine)
            del future  # it holds the exception, whose traceback holds this frame

    def iterate(self, items: AsyncIterator[Result]) -> Iterator[Result]:
        """Yield the items of an asynchronous iterator; each is waited for when it is asked for.

        An iteration that is abandoned needs nothing more: the loop closes asynchronous generators
        that are dropped.
        """
        while (item := self.run(_next(items))) is not _END:
            yield item  # type: ignore[misc]  # only the sentinel is no item

    def close(self, *, wait_s: float | None = None) -> None:
        """Cancel the calls that are under way, close what they use, and wait for the end of the
        thread; done once."""
        with self._lock:
            self._closed = True
            thread = self._thread
            ending = None if self._dropped is None else self._dropped.detach()
            if ending is not None:
                ending[1]()
        if thread is not None and thread is not threading.current_thread():
            thread.join(wait_s)

    def abandon(self) -> None:
        """Begin anew in a forked process: the thread is not there, and the connections are the
        parent's.

        Nothing of the parent's loop may be closed or collected here, for both processes have the
        same epoll instance: what is taken out of it here is taken out there as well. The stack of
        the thread is gone, but what it refers to stays for ever: the loop, and through `close` the
        client and the connections that it gives up.
        """
        if self._dropped is not None:
            self._dropped.detach()
            self._leave()
        self._reset()

    def _submit(self, coroutine: Coroutine[object, object, Result]) -> "Future[Result]":
        # Under the lock: what is submitted before the loop is stopped is cancelled by it, and no
        # caller waits for ever.
        with self._lock:
            try:
                loop = self._open_loop()
            except BaseException:
                coroutine.close()
                raise
            # NOTE: asyncio suppresses every OSError while it writes to its wakeup socket, also one
            # that a signal's handler raises in the calling thread at that very moment: that one is
            # lost, and the call goes on. Handlers that shall end a call raise something else, as
            # that of Ctrl-C does.
            return asyncio.run_coroutine_threadsafe(coroutine, loop)

    def _open_loop(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise ClientClosed("this client was closed")
        if self._loop is None:
            self._start()
        if self._thread is not None and threading.get_ident() == self._thread.ident:
            raise ClientNotReady(
                "called by what this client itself runs, a wallet or a verifier: it would wait for"
                " itself",
                hint="give the wallet a client of its own",
            )
        assert self._loop is not None
        return self._loop

    def _end(self, coroutine: Coroutine[object, object, Result]) -> None:
        """End a coroutine that nobody waits for any more; without effect unless the waiting was
        interrupted.

        A signal's handler may raise at any line, also where the loop has the coroutine already and
        this thread knows of no future yet: so the loop is asked, which begins what was submitted
        before.
        """
        if self._loop is not None and getcoroutinestate(coroutine) != CORO_CLOSED:
            with suppress(RuntimeError):  # the loop has ended, and has cancelled what ran in it
                self._loop.call_soon_threadsafe(_cancel, coroutine)

    def _start(self) -> None:
        runner, stopping = asyncio.Runner(loop_factory=asyncio.new_event_loop), asyncio.Event()
        loop = runner.get_loop()
        # The thread does not refer to this object, so that dropping it ends the thread.
        thread = threading.Thread(
            target=_serve, args=(runner, stopping, self._close), name="sealspace.sync", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # there are too many, or the interpreter ends
            runner.close()
            raise
        self._dropped = weakref.finalize(self, partial(loop.call_soon_threadsafe, stopping.set))
        self._dropped.atexit = False  # see `_at_exit`
        self._loop, self._thread = loop, thread


def _serve(
    runner: asyncio.Runner,
    stopping: asyncio.Event,
    close: Callable[[], Coroutine[object, object, None]],
) -> None:
    """Run a loop until it shall stop."""
    with runner:
        while not stopping.is_set():
            # A call that raises these (a wallet may) ends the run of the loop. Its caller gets
            # them; the loop goes on.
            with suppress(KeyboardInterrupt, SystemExit):
                runner.run(stopping.wait())
        runner.run(_finish(close))


def _cancel(coroutine: Coroutine[object, object, object]) -> None:
    """Cancel the task of a coroutine; without one it was never submitted, or has ended."""
    task = next((one for one in asyncio.all_tasks() if one.get_coro() is coroutine), None)
    if task is None:
        coroutine.close()
    else:
        task.cancel()


async def _finish(close: Callable[[], Coroutine[object, object, None]]) -> None:
    calls = asyncio.all_tasks() - {asyncio.current_task()}
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await close()
    # A connection that was closed while the node read nothing waits to send the rest, and would
    # outlive the loop. The loop's own list of them has no public name; without it the collector
    # closes the socket, and warns.
    for transport in list(getattr(asyncio.get_running_loop(), "_transports", {}).values()):
        # one that has ended, and is still referred to, has no loop any more
        with suppress(AttributeError):
            transport.abort()
    await asyncio.sleep(0)


async def _next(items: AsyncIterator[object]) -> object:
    return await anext(items, _END)


def _at_exit() -> None:
    """Stop the loops of clients that were not closed; those that do not stop in time are left to
    themselves."""
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
