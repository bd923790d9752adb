"""Waiting in tests. No test depends on timing, since the machine may be busy."""

import asyncio
from collections.abc import Callable

PATIENCE_S = 120.0
"""For what has to happen."""

AT_ONCE_S = 25.0
"""For what has to happen before a bound of the node ends it: the shortest of a connection,
`http.head_s`, is 30 s."""


async def until(condition: Callable[[], bool]) -> None:
    """Run the event loop until a condition is true."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.to_thread(lambda: None)
