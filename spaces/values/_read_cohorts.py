"""Cohort scheduling of reads on the event loop: one read from memory in each iteration, with other tasks in between.

Without it each of many readings takes its share of every iteration of the loop, and a short request waits for all.
"""

import asyncio
from collections import deque


class ReadCohorts:
    """Lets one reading run in each iteration of the event loop, in the order in which they asked.

    It serves one event loop; if that is closed while readings wait, they wait for ever.
    """

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for a turn; return at once where no reading has run in this iteration."""
        loop = asyncio.get_running_loop()
        if self._is_taken:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._is_taken = True
            loop.call_soon(self._pass_on, loop)

    def _pass_on(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else the waiting task was cancelled
                turn.set_result(None)
                loop.call_soon(self._pass_on, loop)
                return
        self._is_taken = False
