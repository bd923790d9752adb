"""Synchronous versions of asynchronous classes.

`class Kv(Bridged, of=kv.Kv)` gets every public member of `kv.Kv` that it does not define itself.
The types for type checkers are in generated `.pyi` files (`make pages`).
"""

import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial, update_wrapper
from queue import SimpleQueue
from types import GenericAlias
from typing import Any, get_args, get_origin

from ._loop_thread import Calls, LoopThread

_ASYNCHRONOUS = re.compile(r"\b(?:await|async) ")
# Members that a synchronous client implements itself, or does not need.
_INSIDE = {"acting", "leave_connections"}

COUNTERPARTS: dict[object, type["Bridged"]] = {}
"""Asynchronous class to its synchronous counterpart."""


class Bridged:
    """The base class for synchronous versions of asynchronous classes.

    Args:
        inner: the asynchronous service, used only in the loop.
        thread: the thread with the loop.
    """

    def __init_subclass__(cls, *, of: type | None = None) -> None:
        if of is None:  # a program's own subclass
            return
        COUNTERPARTS[of] = cls
        for name, member in vars(of).items():
            if not name.startswith("_") and name not in (*vars(cls), *_INSIDE):
                setattr(cls, name, _counterpart(member))

    def __init__(self, inner: Any, thread: LoopThread) -> None:
        self._inner = inner
        self._thread = thread

    def _bridged(self, value: object) -> object:
        """Wrap an asynchronous service for synchronous callers.

        Any other value is returned unchanged.
        """
        counterpart = COUNTERPARTS.get(type(value))
        return value if counterpart is None else counterpart(value, self._thread)


def _counterpart(member: Any) -> object:
    """Return the synchronous version of a method or property."""
    if isinstance(member, property):
        return property(lambda self: self._bridged(member.__get__(self._inner)), doc=member.__doc__)
    returns = inspect.signature(member).return_annotation
    call: Callable[..., object]
    if inspect.iscoroutinefunction(member):

        def call(self: Bridged, /, *args: Any, **kwargs: Any) -> object:
            # The caller's thread takes the calls of `progress` from a queue while it waits.
            calls: Calls = SimpleQueue()
            if callable(progress := kwargs.get("progress")):
                kwargs["progress"] = lambda *moved: calls.put(partial(progress, *moved))
            return self._thread.run(member(self._inner, *args, **kwargs), calls)

    elif get_origin(returns) is AsyncIterator:
        returns = GenericAlias(Iterator, get_args(returns))

        def call(self: Bridged, /, *args: Any, **kwargs: Any) -> object:
            return self._thread.iterate(member(self._inner, *args, **kwargs))

    # A method without a result changes state that running calls read, so it runs in the loop.
    elif returns is None:

        async def turn(*args: Any, **kwargs: Any) -> None:
            member(*args, **kwargs)

        def call(self: Bridged, /, *args: Any, **kwargs: Any) -> object:
            return self._thread.run(turn(self._inner, *args, **kwargs))

    else:
        # Any other method, such as `Client.kv`, returns at once, so it runs in the caller's thread.
        returns = COUNTERPARTS.get(returns, returns)

        def call(self: Bridged, /, *args: Any, **kwargs: Any) -> object:
            return self._bridged(member(self._inner, *args, **kwargs))

    return described(member, returns)(call)


def alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a synchronous version of an asynchronous function.

    Each call runs in an event loop of its own.
    """

    def call(*args: Any, **kwargs: Any) -> object:
        thread = LoopThread(close=_nothing, leave=lambda: None)
        try:
            return thread.run(function(*args, **kwargs))
        finally:
            thread.close()

    return described(function)(call)


async def _nothing() -> None:
    pass  # the wrapped function closes its own resources


def described(method: Any, returns: object = None) -> Callable[[Any], Callable[..., Any]]:
    """Return a decorator that copies a function's metadata.

    The metadata is the name, the signature and the docstring.

    Args:
        method: the wrapped function.
        returns: annotation of the result; None: that of `method`.
    """

    def describe(call: Any) -> Callable[..., Any]:
        update_wrapper(call, method)
        if returns is not None:
            call.__signature__ = inspect.signature(method).replace(return_annotation=returns)
        if call.__doc__ is not None:
            call.__doc__ = _ASYNCHRONOUS.sub("", call.__doc__)
        described_call: Callable[..., Any] = call
        return described_call

    return describe
