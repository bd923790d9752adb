"""The synchronous client, called as tests call the asynchronous one: so one test is about both.

The node of a test runs in the test's own loop, which a call that waits would block. Every call therefore runs in a
thread of a pool, as in a program with threads. Which methods are awaited is read off the asynchronous class: a method
that the synchronous one lacks, or that does not do what its model does, fails the test.

Example:
    async with new_client("sync", url) as client:
        await client.kv().put("a", b"1")
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, Self, cast, get_args

from sealspace import client as asynchronous
from sealspace.sync import client as synchronous
from sealspace.sync._bridged import Bridged

KINDS = ("async", "sync")
NewClient = Callable[..., asynchronous.Client]
_END = object()


def new_client(kind: str, *arguments: Any, **options: Any) -> asynchronous.Client:
    """Make a client of a kind; both are called with `await`."""
    if kind == "async":
        return asynchronous.Client(*arguments, **options)
    return cast(asynchronous.Client, _Awaited(synchronous.Client(*arguments, **options)))


class _Awaited:
    """A synchronous service whose methods are awaited where those of its model are."""

    def __init__(self, service: Bridged[Any]) -> None:
        self._service = service
        (self._model,) = get_args(vars(type(service))["__orig_bases__"][0])

    def __getattr__(self, name: str) -> Any:
        model = inspect.getattr_static(self._model, name)
        found = getattr(self._service, name)
        if inspect.iscoroutinefunction(model):
            return _called(found)
        if inspect.isasyncgenfunction(model):
            return _iterated(found)
        if inspect.isfunction(model):
            return lambda *args, **kwargs: _wrapped(found(*args, **kwargs))
        return _wrapped(found)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._service.__exit__, kind, error, trace)  # type: ignore[attr-defined]  # a client's


def _wrapped(result: Any) -> Any:
    return _Awaited(result) if isinstance(result, Bridged) else result


def _called(method: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(method, *args, **kwargs)

    return call


def _iterated(method: Callable[..., Generator[Any, None, None]]) -> Callable[..., AsyncIterator[Any]]:
    async def items(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        found = method(*args, **kwargs)
        try:
            while (item := await asyncio.to_thread(next, found, _END)) is not _END:
                yield item
        finally:
            found.close()  # the thread that called `next` may still refer to it, for as long as it likes

    return items
