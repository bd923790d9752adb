"""Grants that a backend fetches from its node (AT61).

An owner who approves a backend in a browser registers the grant at the node, and does not send it
to the backend. The backend lists the delegations to its DID when it starts, every minute, and when
its program reads a secret for which it has no grant.

Any client can register delegations to any DID, so the limits for delivered grants (AT63) apply here
too. In addition, a grant that the program did not ask for is kept only while there is room: it
evicts no other grant, and grants that were never used fill at most half of the places.

Example:
    finder = GrantFinder(client, held, backend.hold, clock=clock, pause=asyncio.sleep)
    finder.start()
    await finder.require(wanted)
    await finder.stop()
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple

from capabilities.cache import Recent
from capabilities.clock_and_entropy import Clock
from capabilities.principals import Principal
from capabilities.resources import root_of
from capabilities.tokens import Capability
from sealspace.client import Client
from sealspace.errors import NotGranted, SealspaceError, SessionExpired, TransportError
from sealspace.session import read_grant
from sealspace.wire.delegation_history import DelegationRecord
from sealspace.wire.portable import PortableDelegation, portable_of

from ..backend_errors import KeepingError
from .grant_door import GRANTS_OF_A_CLIENT_PER_MINUTE, GRANTS_PER_MINUTE
from .grant_shares import SharedRates
from .held_grants import MOST, HeldGrants, owners_of

PERIOD_S = 60.0
"""Seconds between two fetches."""
LEAST_INTERVAL_S = 5.0
"""Shortest time between two fetches that reads of secrets cause.

Any client may be able to make a program read for owners that never granted anything.
"""
MOST_LISTED = 1000
"""Limit on delegations that one fetch reads; the next fetch continues after them."""
_log = logging.getLogger(__name__)


class _Selection(NamedTuple):
    """Which new grants one fetch keeps.

    Attributes:
        wanted: owners whose grants a read or a call needs.
        known: owners of the current grants.
        is_periodic: whether the fetch was due by time; see `GrantFinder._keep_new`.
    """

    wanted: set[Principal]
    known: set[Principal]
    is_periodic: bool

    def keeps(self, owners: Collection[Principal], *, has_room: bool) -> bool:
        """Return whether the fetch keeps a new grant of these owners."""
        if self.wanted.intersection(owners):
            return True
        # Grants that nobody asked for are kept only if none of their owners has a grant here.
        return self.is_periodic and has_room and self.known.isdisjoint(owners)


class GrantFinder:
    """Fetches the grants that owners made to a backend at its node.

    Args:
        client: the backend's client.
        held: the states of its grants.
        take: accepts one fetched grant.
        clock: limits the fetches that reads cause.
        pause: waits for a number of seconds.
    Attributes:
        has_found: whether a fetched grant was accepted.
    """

    def __init__(
        self,
        client: Client,
        held: HeldGrants,
        take: Callable[[PortableDelegation], Awaitable[None]],
        *,
        clock: Clock,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._client = client
        self._held = held
        self._take = take
        self._clock = clock
        self._pause = pause
        self.has_found = False
        self._check: Callable[[PortableDelegation], object] = bool
        # As for delivered grants, with the owner in place of the address (AT63).
        self._rates = SharedRates(most=GRANTS_PER_MINUTE, most_of_one=GRANTS_OF_A_CLIENT_PER_MINUTE)
        self._fetching = asyncio.Lock()
        self._refused = Recent[str, None]()
        self._task: asyncio.Task[None] | None = None
        # Owners whose grants are wanted: by reads that wait for a fetch, and by `look_for` for the
        # next periodic fetch.
        self._owners_for_reads: set[Principal] = set()
        self._owners_for_period: set[Principal] = set()
        self._fetched_for_reads_at = -LEAST_INTERVAL_S
        self._continues_after: str | None = None  # cid, if the last fetch stopped early
        self._logged_code = ""  # of the error that the last fetch had

    def start(self, check: Callable[[PortableDelegation], object] = bool) -> None:
        """Fetch now and every minute.

        `check` raises SealspaceError for a fetched grant that is not to be kept.
        """
        self._check = check
        self._task = self._task or asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End the periodic fetches."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def look_for(self, owner: Principal) -> None:
        """Have the next periodic fetch keep new grants of an owner that has other grants."""
        if len(self._owners_for_period) < MOST:  # callers choose the owners
            self._owners_for_period.add(owner)

    async def _run(self) -> None:
        while True:
            async with self._fetching:
                owners = self._owners_for_period
                self._owners_for_period = set()
                await self._fetch(owners, is_periodic=True)
            await self._pause(PERIOD_S)

    async def require(self, wanted: Sequence[Capability]) -> None:
        """Fetch grants if no usable grant covers the wanted capabilities.

        All reads together cause at most one fetch in LEAST_INTERVAL_S.
        """
        now = self._clock.now()
        try:
            cited = self._client.session.proofs_for(wanted, now=now)
            if self._held.revoked.isdisjoint(cited):
                return
        except (NotGranted, SessionExpired):
            pass  # no grant covers them, so grants are fetched
        if len(self._owners_for_reads) < MOST:
            for capability in wanted:
                owner = root_of(capability.resource)
                if owner is not None:
                    self._owners_for_reads.add(owner)
        async with self._fetching:
            # A read that waited for another one's fetch has been served by it. The difference may
            # be negative: a clock that was set back must not stop the fetches.
            if abs(now - self._fetched_for_reads_at) >= LEAST_INTERVAL_S:
                self._fetched_for_reads_at = now
                owners = self._owners_for_reads
                self._owners_for_reads = set()
                await self._fetch(owners, is_periodic=False)

    async def _fetch(self, wanted: set[Principal], *, is_periodic: bool) -> None:
        """Fetch grants, and log why that failed, once for each cause."""
        try:
            await self._keep_new(wanted, is_periodic=is_periodic)
            self._logged_code = ""
        except SealspaceError as error:
            if error.code != self._logged_code:
                _log.warning(
                    "cannot fetch grants from the node: %s; next: check the node; this is tried"
                    " again every minute",
                    error.message,
                )
            self._logged_code = error.code
            if is_periodic:  # tried again in the next minute
                self._owners_for_period |= wanted

    async def _keep_new(self, wanted: set[Principal], *, is_periodic: bool) -> None:
        """Read the list of received delegations, and accept the new ones within the limits (AT61).

        Args:
            wanted: owners whose grants a read or a call needs.
                These may replace grants that were never used.
            is_periodic: while there is room, keep the grants of all other owners without a grant,
                too.
        """
        now = self._clock.now()
        live = [grant for grant in self._client.session.grants if grant.is_live(now)]
        live_cids = {grant.cid for grant in live}
        known_owners = {owner for grant in live for owner in owners_of(grant)}
        selection = _Selection(wanted=wanted, known=known_owners, is_periodic=is_periodic)
        # No grant is evicted for one that nobody asked for. And grants that were never used take at
        # most half of the places: a stranger can register any number of them.
        free_places = min(MOST - len(live), MOST // 2 - len(live_cids - self._held.read))
        # The fetch begins where the last one stopped. The next one begins at the start again,
        # unless this one stops early too.
        last_cid = self._continues_after
        self._continues_after = None
        records_read = 0
        async for record in self._client.delegations.query(
            direction="received", status="active", account="default", tokens=True, after=last_cid
        ):
            if records_read == MOST_LISTED:
                self._continue_after(last_cid, selection)
                return
            records_read += 1
            last_cid = record.cid
            if last_cid in live_cids or last_cid in self._refused:
                continue
            if await self._take_if_usable(record, selection, has_room=free_places > 0):
                free_places -= 1

    def _continue_after(self, last: str | None, selection: _Selection) -> None:
        """Have the next fetch begin after the delegation that was read last."""
        self._continues_after = last
        if selection.is_periodic:  # the grants of these owners may be among the others
            self._owners_for_period |= selection.wanted

    async def _take_if_usable(
        self, record: DelegationRecord, selection: _Selection, *, has_room: bool
    ) -> bool:
        """Accept a listed grant if the fetch keeps it, and return whether it was accepted.

        An unusable grant must not hide those behind it: anyone can register one.

        Raises:
            KeepingError, TransportError: the grant could not be accepted now.
        """
        try:
            return await self._take_if_selected(record, selection, has_room=has_room)
        except (KeepingError, TransportError):
            raise
        except SealspaceError:
            return False

    async def _take_if_selected(
        self, record: DelegationRecord, selection: _Selection, *, has_room: bool
    ) -> bool:
        """Accept a listed grant if the fetch keeps it, and return whether it was accepted."""
        grant = read_grant(record.token or "")
        owners = owners_of(grant)
        if not owners or not selection.keeps(owners, has_room=has_room):
            return False
        portable = portable_of(grant, owner=min(owners), host="")
        # The check comes before the rate, so that useless grants take nothing from the rate. A
        # grant that the check refuses stays noted, and is not verified again in the next minute.
        self._refused.put(record.cid, None)
        self._check(portable)
        del self._refused[record.cid]
        if self._rates.take(portable.owner, 1, now=time.monotonic()) is not None:
            return False
        await self._take(portable)
        self.has_found = True
        _log.info("fetched a grant by %s", portable.owner)
        return True
