"""One fetch at a time for each platform family, and none for families that are known to be unknown.

A quote names its platform family before anything about it was verified. Without bounds here, the senders of quotes
would decide how often a service is queried.

Example:
    fetcher = CollateralFetcher(service, clock=clock)
    fetched = await fetcher.fetch(quote.platform.fmspc, quote.platform.ca)

Source: spec/attestation.md AT32.
"""

import asyncio
from collections import OrderedDict
from typing import Final

from capabilities.ambient import Clock

from .certificates import PlatformCa
from .collateral import Collateral, CollateralProvider
from .errors import CollateralServiceFailed, PlatformUnknown, ServiceUnavailable

MAX_REMEMBERED: Final = 256
"""Families whose last failure is remembered; the oldest is evicted first."""
MAX_UNDER_WAY: Final = 8
UNKNOWN_FOR_S: Final = 3600.0
"""How long a family stays unknown: new ones appear a few times a year."""
FAILED_FOR_S: Final = 30.0
"""How long a service is not queried for a family after it failed, unless it asked for longer."""

Family = tuple[bytes, PlatformCa]


class CollateralFetcher:
    """Fetches collateral on demand.

    Args:
        service: asked.
        clock: how long failures are remembered.
    """

    def __init__(self, service: CollateralProvider, *, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._under_way: dict[Family, asyncio.Task[Collateral]] = {}
        self._failed: OrderedDict[Family, tuple[float, float, CollateralServiceFailed]] = OrderedDict()

    async def fetch(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        """Fetch one document; callers for the same family at the same time share one fetch.

        Raises:
            CollateralServiceFailed: as `pcs.CollateralService.collateral`, also while an earlier failure is
                remembered; ServiceUnavailable when too many families are under way.
        Does not check:
            What the document says: see `pcs`.
        """
        family = (fmspc, ca)
        self._raise_remembered(family)
        task = self._under_way.get(family)
        if task is None:
            task = self._start(family)
        # A caller that is cancelled does not cancel the fetch for the others.
        return await asyncio.shield(task)

    def _start(self, family: Family) -> asyncio.Task[Collateral]:
        if len(self._under_way) >= MAX_UNDER_WAY:
            raise ServiceUnavailable("too many documents are being fetched", retry_after_s=FAILED_FOR_S)
        task = asyncio.create_task(self._fetch(family))
        self._under_way[family] = task
        task.add_done_callback(lambda done: self._settle(family, done))
        return task

    async def _fetch(self, family: Family) -> Collateral:
        return await self._service.collateral(*family)

    def _settle(self, family: Family, done: asyncio.Task[Collateral]) -> None:
        del self._under_way[family]
        error = None if done.cancelled() else done.exception()
        if isinstance(error, CollateralServiceFailed):
            self._remember(family, error)

    def _remember(self, family: Family, error: CollateralServiceFailed) -> None:
        asked_for = error.retry_after_s if isinstance(error, ServiceUnavailable) else None
        for_s = UNKNOWN_FOR_S if isinstance(error, PlatformUnknown) else max(FAILED_FOR_S, asked_for or 0.0)
        self._failed[family] = (self._clock.now() + for_s, for_s, error)
        self._failed.move_to_end(family)
        if len(self._failed) > MAX_REMEMBERED:
            self._failed.popitem(last=False)

    def _raise_remembered(self, family: Family) -> None:
        if family not in self._failed:
            return
        until, for_s, error = self._failed[family]
        left_s = until - self._clock.now()
        if not 0 < left_s <= for_s:  # more than that is left where a clock was set back
            del self._failed[family]
        elif isinstance(error, ServiceUnavailable):
            raise ServiceUnavailable(error.detail, retry_after_s=left_s)
        else:
            raise type(error)(error.detail)
