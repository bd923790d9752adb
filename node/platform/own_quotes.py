"""The node's own quotes: one at a time in a worker, in a thread of their own, behind a bounded
queue.

A platform takes some 40 ms for a quote, and may take any time when it is in trouble. Whoever asks
waits for a stated time and no longer; a quote that is under way then holds its place, so that
threads cannot pile up behind it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from tee_backend.evidence.evidence_errors import EvidenceSourceError, SourceUnavailable
from tee_backend.evidence.source import Quoted

from ..config.tree import Platform
from ..logs import log_event, log_warning
from ..refusal import Refusal
from .own_platform import quote_source

UNTRIED: Final = "untried"
WORKS: Final = "ok"
# spelled as the codes of sources, beside which the wire says it (AT44)
TOO_SLOW: Final = "source_slow"


class OwnQuotes:
    """The one place where the node's own quotes are made."""

    def __init__(self, take: Callable[[bytes], Quoted], platform: Platform) -> None:
        self._take = take
        self._platform = platform
        self.source = platform.source
        self._waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="own-quote")
        self.state = UNTRIED
        """How the last one went: `untried`, `ok`, or the code of the failure."""

    async def quote(self, report_data: bytes) -> Quoted:
        """Return a quote over 64 bytes of report data, when its turn comes."""
        if self._waiting >= self._platform.quotes_waiting:
            raise Refusal("own-quotes-busy")
        self._waiting += 1
        loop = asyncio.get_running_loop()

        def free(_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._leave)

        asked = self._thread.submit(self._take, report_data)
        # A place is free when the thread is, not when somebody stops waiting for it.
        asked.add_done_callback(free)
        try:
            async with asyncio.timeout(self._platform.quote_s):
                quoted = await asyncio.wrap_future(asked)
        except TimeoutError:
            raise self._failed(TOO_SLOW) from None
        except EvidenceSourceError as error:
            raise self._failed(error.code) from error
        except OSError as error:  # the platform's files, beyond what its source foresaw
            raise self._failed(SourceUnavailable.code) from error
        self._note(WORKS)
        return quoted

    def _leave(self) -> None:
        self._waiting -= 1

    def _failed(self, reason: str) -> Refusal:
        self._note(reason)
        return Refusal("own-quote-failed", reason)

    def _note(self, state: str) -> None:
        """Remember how it went; the operator hears of each change, not of each failure."""
        if state != self.state and state != WORKS:
            log_warning("own-quote-failed", code=state)
        elif self.state not in (UNTRIED, state):
            log_event("own-quote-works-again")
        self.state = state


def configured_own_quotes(platform: Platform) -> OwnQuotes | None:
    """Return where the node's own quotes are made, as the settings say; None: nowhere."""
    if platform.source == "none":
        return None
    return OwnQuotes(lambda report_data: quote_source(platform).quote(report_data), platform)
