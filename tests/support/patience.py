"""How long tests wait: no test is judged by the time that something takes, for the machine may be
busy."""

import asyncio
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 120.0
"""For what has to happen."""

AT_ONCE_S: Final = 25.0
"""For what has to happen before a bound of the node ends it: the shortest of a connection,
`http.head_s`, is 30 s."""


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until a condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.to_thread(lambda: None)
