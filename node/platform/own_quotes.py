"""A queue of requests for attestation quotes from the node's TEE.

Each worker has its own queue, which is bounded. Quotes are requested one at a time. A platform
takes some 40 ms for a quote, or any time if it has a fault. A caller waits for a limited time. A
quote that is still in progress then keeps its slot in the queue, so that callers cannot pile up
behind a platform that does not answer.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from tee_backend.evidence.evidence_errors import EvidenceSourceError, SourceUnavailable
from tee_backend.evidence.source import Quoted

from ..config.tree import Platform
from ..logs import log_event, log_warning
from ..refusal import Refusal
from .own_platform import quote_source

UNTRIED = "untried"
WORKS = "ok"
# spelled like the codes of quote sources, because clients get them in the same member (AT44)
TOO_SLOW = "source_slow"


class QuoteQueue:
    """A bounded queue of requests for attestation quotes from the node's TEE."""

    def __init__(self, take: Callable[[bytes], Quoted], platform: Platform) -> None:
        self._take = take
        self._platform = platform
        self.source = platform.source
        self._waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="own-quote")
        self.state = UNTRIED
        """Result of the last quote: `untried`, `ok`, or the code of the failure."""

    async def quote(self, report_data: bytes) -> Quoted:
        """Return an attestation quote over 64 bytes of report data.

        The call waits for earlier requests in the queue.

        Raises:
            Refusal: `own-quotes-busy`, the queue is full; `own-quote-failed`, with the source's
                code.
        """
        if self._waiting >= self._platform.quotes_waiting:
            raise Refusal("own-quotes-busy")
        self._waiting += 1
        loop = asyncio.get_running_loop()

        def free_place(_: object) -> None:
            # This runs in the queue's thread. Only the loop's thread may change the number.
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._leave)

        requested = self._thread.submit(self._take, report_data)
        # The place becomes free when the thread does, not when the caller gives up. Otherwise a
        # hung platform would gather an unbounded number of submitted quotes.
        requested.add_done_callback(free_place)
        try:
            async with asyncio.timeout(self._platform.quote_s):
                quoted = await asyncio.wrap_future(requested)
        except TimeoutError:
            raise self._failed(TOO_SLOW) from None
        except EvidenceSourceError as error:
            raise self._failed(error.code) from error
        except OSError as error:  # an error of the platform's files that the source does not handle
            raise self._failed(SourceUnavailable.code) from error
        self._note(WORKS)
        return quoted

    def _leave(self) -> None:
        self._waiting -= 1

    def _failed(self, reason: str) -> Refusal:
        self._note(reason)
        return Refusal("own-quote-failed", reason)

    def _note(self, state: str) -> None:
        """Remember the result of a quote, and log it if it differs from the last one."""
        if state == self.state:
            return
        if state != WORKS:
            log_warning("own-quote-failed", code=state)
        elif self.state != UNTRIED:
            log_event("own-quote-works-again")
        self.state = state


def quote_queue(platform: Platform) -> QuoteQueue | None:
    """Create a queue for quote requests to the node's own TEE.

    Return None if no TEE platform is configured.
    """
    if platform.source == "none":
        return None
    return QuoteQueue(lambda report_data: quote_source(platform).quote(report_data), platform)
