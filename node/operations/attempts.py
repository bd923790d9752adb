"""Optimistic commits, repeated when a row has changed (ST3).

An attempt reads, decides and prepares a commit. A refused commit has written nothing and does not
say which row changed, so the whole attempt is repeated with a new read. If, for example, a
delegation was revoked in between, the second attempt reads the revocation and refuses the request.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from spaces.space_errors import StoreBusy
from spaces.store.contract import Commit, Refused

from ..services import Services

Result = TypeVar("Result")


async def until_committed(
    services: Services,
    attempt: Callable[[bool], Awaitable[tuple[Commit, Result]]],
    *,
    judge: Callable[[], Awaitable[object]] | None = None,
) -> Result:
    """Retry an operation until its commit succeeds.

    A commit fails if a row that it depends on has changed.

    Args:
        attempt: reads, decides, and returns a commit and the operation's result. There is always a
            commit, even without rows to write: a row that was only read may be lost in a failover,
            so the commit requires it unchanged (ST16). The argument is True for the first attempt,
            the only one whose read creates the token's replay record (ST4).
        judge: reads again, and raises if the operation's own condition is not met any more. It is
            called before the store is reported as busy, so that a lost race is answered as one
            (Q37). None for an operation without such a condition.

    Returns:
        The operation's result from the attempt whose commit succeeded.

    Raises:
        StoreBusy: commits kept failing for `store.retry_s`.
        Any error of `attempt`, `judge` or the store.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + services.config.store.retry_s
    is_first = True
    try:
        while True:
            commit, result = await attempt(is_first)
            if not isinstance(await services.store.commit(commit), Refused):
                return result
            if loop.time() > deadline:
                raise StoreBusy("other writes kept changing the same rows")
            is_first = False
    except StoreBusy:
        if judge is not None:
            await judge()
        raise
