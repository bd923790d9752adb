"""Committing a plan: read, judge, plan, commit; and again when the rows changed in between (ST3).

A refused commit has written nothing and says nothing, so the whole attempt is repeated on a new
read. A caller whose commit lost because a delegation was revoked gets the refusal from the
judgement of that read.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from spaces.space_errors import StoreBusy
from spaces.store.contract import Commit, Refused

from ..services import Services

Result = TypeVar("Result")


async def until_committed(
    services: Services, attempt: Callable[[bool], Awaitable[tuple[Commit, Result]]]
) -> Result:
    """Plan and commit until a commit is durable.

    Args:
        attempt: reads, judges and returns the commit, with what the operation answers once it is
            durable. There is always a commit: a row that was only read may be lost in a failover,
            so an answer that rests on it has a commit on condition of that row (ST16). Its argument
            says whether it is the first attempt, the only one whose read claims the replay record
            of a token (ST4).

    Raises:
        StoreBusy: other writers were faster for as long as `store.retry_s` says.
        Whatever `attempt` and the store raise.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + services.config.store.retry_s
    is_first = True
    while True:
        commit, result = await attempt(is_first)
        if not isinstance(await services.store.commit(commit), Refused):  # ST16
            return result
        if loop.time() > deadline:
            raise StoreBusy("the rows kept changing while this was being written")
        is_first = False
