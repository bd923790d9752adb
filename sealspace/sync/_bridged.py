"""Synchronous methods out of asynchronous ones, with the types and the documentation of these.

A service here names each method of the asynchronous service once (`get = called(aio.Kv.get)`); parameters and result
follow from that, for a type checker and for `help` alike.
"""

import functools
import inspect
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from queue import SimpleQueue
from types import GenericAlias
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar, get_args

from ._loop_thread import Calls, LoopThread

Inner = TypeVar("Inner")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Page = TypeVar("Page")
Service = TypeVar("Service")
Wrapper = TypeVar("Wrapper", bound=Callable[..., object])

_ASYNCHRONOUS: Final = re.compile(r"\b(?:await|async) ")


class Bridged(Generic[Inner]):
    """A synchronous service.

    Args:
        inner: the asynchronous one, which is used in the loop alone.
        thread: with the loop.
    """

    def __init__(self, inner: Inner, thread: LoopThread) -> None:
        self._inner = inner
        self._thread = thread


def called(
    method: Callable[Concatenate[Inner, Parameters], Coroutine[object, object, Result]],
) -> Callable[Concatenate[Bridged[Inner], Parameters], Result]:
    """Return a method that runs an asynchronous one, and waits for its result."""

    def call(self: Bridged[Inner], /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self._thread.run(method(self._inner, *args, **kwargs))

    return _described(call, method)


def reported(
    method: Callable[Concatenate[Inner, Parameters], Coroutine[object, object, Result]],
) -> Callable[Concatenate[Bridged[Inner], Parameters], Result]:
    """Return a method as `called` does, whose argument `progress` is called in the caller's thread."""

    def call(self: Bridged[Inner], /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        calls: Calls = SimpleQueue()
        progress = kwargs.get("progress")
        if callable(progress):
            kwargs["progress"] = lambda *moved: calls.put(functools.partial(progress, *moved))
        return self._thread.run(method(self._inner, *args, **kwargs), calls)

    return _described(call, method)


def iterated(
    method: Callable[Concatenate[Inner, Parameters], AsyncIterator[Result]],
) -> Callable[Concatenate[Bridged[Inner], Parameters], Iterator[Result]]:
    """Return a method that yields what an asynchronous iterator yields."""

    def call(self: Bridged[Inner], /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Iterator[Result]:
        return self._thread.iterate(method(self._inner, *args, **kwargs))

    return _described(call, method, returns=_iterator_of(method))


def iterated_by_pages(
    method: Callable[Concatenate[Inner, Parameters], AsyncIterator[Result]],
    pages: Callable[Concatenate[Inner, Parameters], AsyncIterator[Page]],
    items: Callable[[Page], Iterable[Result]],
) -> Callable[Concatenate[Bridged[Inner], Parameters], Iterator[Result]]:
    """Return a method as `iterated` does, for long lists: a change of threads, 80 µs, for a page, not for an item."""

    def call(self: Bridged[Inner], /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Iterator[Result]:
        for page in self._thread.iterate(pages(self._inner, *args, **kwargs)):
            yield from items(page)

    return _described(call, method, returns=_iterator_of(method))


def changed(
    method: Callable[Concatenate[Inner, Parameters], Result],
) -> Callable[Concatenate[Bridged[Inner], Parameters], Result]:
    """Return a method that runs a plain one in the loop: it changes what calls that are under way change too."""

    async def turn(inner: Inner, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return method(inner, *args, **kwargs)

    def call(self: Bridged[Inner], /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self._thread.run(turn(self._inner, *args, **kwargs))

    return _described(call, method)


def passed(
    method: Callable[Concatenate[Inner, Parameters], Result],
) -> Callable[Concatenate[Bridged[Inner], Parameters], Result]:
    """Return a method that runs a plain one, which only reads, in the caller's thread."""

    def call(self: Bridged[Inner], /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return method(self._inner, *args, **kwargs)

    return _described(call, method)


def made(
    method: Callable[Concatenate[Inner, Parameters], Result], service: Callable[[Result, LoopThread], Service]
) -> Callable[Concatenate[Bridged[Inner], Parameters], Service]:
    """Return a method that returns a synchronous service where a plain one returns an asynchronous one."""

    def call(self: Bridged[Inner], /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Service:
        return service(method(self._inner, *args, **kwargs), self._thread)

    return _described(call, method, returns=service)


def called_alone(
    function: Callable[Parameters, Coroutine[object, object, Result]],
) -> Callable[Parameters, Result]:
    """Return a function that runs an asynchronous one in a loop for this call alone."""

    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        thread = LoopThread(close=_nothing, leave=lambda: None)
        try:
            return thread.run(function(*args, **kwargs))
        finally:
            thread.close()

    return _described(call, function)


async def _nothing() -> None:
    """Close nothing: the function closes what it opens."""


def _iterator_of(method: Callable[..., object]) -> GenericAlias:
    """Return the annotation of an iterator of what an asynchronous one yields."""
    return GenericAlias(Iterator, get_args(inspect.signature(method).return_annotation))


def _described(wrapper: Wrapper, method: Callable[..., object], *, returns: object = None) -> Wrapper:
    """Give a wrapper the name, the signature and the documentation of what it wraps, for `help`."""
    functools.update_wrapper(wrapper, method)
    if returns is not None:
        described: Any = wrapper  # functions take attributes, their types do not
        described.__signature__ = inspect.signature(method).replace(return_annotation=returns)
    if wrapper.__doc__ is not None:
        wrapper.__doc__ = _ASYNCHRONOUS.sub("", wrapper.__doc__)
    return wrapper
