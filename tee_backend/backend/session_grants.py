"""The grants that a backend's client uses, in memory and in the backend's folder (AT54).

The client's session has the grants in order of preference, newest first. Grants that the node
refused are moved to the end, and those that it reported as revoked are marked. Each change of the
grants or their states is stored, if the backend has a folder.

Example:
    grants = SessionGrants(client, folder, clock=clock)
    networks = await grants.accept(portables, is_opening=True)
    cited = grants.cited_cids(client, decrypt)
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from capabilities.abilities import DECRYPT
from capabilities.clock_and_entropy import Clock
from capabilities.principals import Principal, same_principal
from capabilities.resources import NetworkId, network_of, parse_network_id
from capabilities.tokens import Capability
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.unbound_values import may_open_unbound
from sealspace.errors import (
    DelegationRevoked,
    InvalidPortableDelegation,
    NotGranted,
    Unauthorized,
)
from sealspace.session import Grant
from sealspace.wire.portable import PortableDelegation

from ..backend_errors import FolderUnusable
from .grant_folder import GrantFolder, GrantSnapshot
from .held_grants import HeldGrant, HeldGrants, owners_of

_log = logging.getLogger(__name__)


class SessionGrants:
    """The grants of a backend's session, and their states.

    Args:
        client: the backend's client. The grants in the folder are added to its session.
        folder: where grants are stored, or None.
        clock: decides which grants have expired.
    Attributes:
        held: the states of the grants.
    """

    def __init__(self, client: Client, folder: GrantFolder | None, *, clock: Clock) -> None:
        self._client = client
        self._folder = folder
        self._clock = clock
        self._accepting = asyncio.Lock()
        self._by_grant: dict[str, Client] = {}
        self.held = HeldGrants()
        if folder is not None:
            snapshot = folder.stored
            self.held = HeldGrants(read=snapshot.read, revoked=snapshot.revoked)
            client.use(replace(client.session, grants=tuple(snapshot.grants), pins=snapshot.pins))
            self.held.replace(client.session.grants)

    def with_states(self) -> tuple[HeldGrant, ...]:
        """Return all grants with their states, in order of preference."""
        now = self._clock.now()
        return tuple(self.held.with_state(grant, now=now) for grant in self._client.session.grants)

    def live(self) -> list[Grant]:
        """Return the grants that have not expired, in order of preference."""
        now = self._clock.now()
        return [grant for grant in self._client.session.grants if grant.is_live(now)]

    # --- new grants -------------------------------------------------------------------------------

    async def accept(
        self, portables: Sequence[PortableDelegation], *, is_opening: bool
    ) -> list[NetworkId]:
        """Store new grants, and return the networks that they open.

        All of them are accepted, or none. Without `is_opening`, no network has to be in them.

        Raises:
            InvalidPortableDelegation: a grant is for another DID or has expired, or no grant was
                passed.
            GrantsFull, NotGranted, FolderUnusable, NodeRefused, TransportError: see
                `Backend.accept`.
        """
        if not portables:
            raise InvalidPortableDelegation("no grants were passed", hint="pass at least one grant")
        new = [self._client.delegations.read(portable) for portable in portables]
        networks = list[NetworkId]()
        if is_opening:
            for grant, portable in zip(new, portables, strict=True):
                networks.append(self.network_in(grant, portable.owner))
        # One call at a time: a failure undoes its own grants and not those of another call.
        async with self._accepting:
            before = self._client.session.grants
            self._require_usable(new, networks)
            try:
                for portable in portables:
                    await self._client.delegations.accept(portable)
                self._start_using(new)
                await self._store()
            except BaseException:
                self._undo(new, before)
                raise
        return networks

    def _require_usable(self, new: Sequence[Grant], networks: Sequence[NetworkId]) -> None:
        """Check new grants before any request to the node (AT54).

        They must be valid for this backend, and cover the networks.
        """
        session = self._client.session
        for grant in new:
            session.with_grant(grant)  # raises if the grant is not for this backend
        joined = replace(session, grants=self._with_new(new))
        for network in networks:
            # raises if no grant covers the network
            joined.proofs_for([allow(network.text, DECRYPT)], now=self._clock.now())

    def _undo(self, new: Sequence[Grant], before: Sequence[Grant]) -> None:
        """Undo a call that failed. Changes made by other calls are kept."""
        session = self._client.session
        known = {grant.cid for grant in before}
        # The new grants go, except those that were here before the call.
        grants = [grant for grant in session.grants if grant.cid in known or grant not in new]
        # Grants that were dropped for the new ones come back.
        grants += [grant for grant in before if grant not in grants]
        self._client.use(replace(session, grants=tuple(grants)))
        self.held.replace(grants)

    def _with_new(self, new: Sequence[Grant]) -> tuple[Grant, ...]:
        """Return new grants, followed by the current grants that can stay.

        Expired grants are left out, and surplus grants are evicted.
        """
        grants = self._client.session.grants
        now = self._clock.now()
        for grant in new:
            grants = self.held.with_new(grant, grants, now=now)
        return grants

    def _start_using(self, new: Sequence[Grant]) -> None:
        """Start using new grants, and drop expired or surplus ones."""
        session = self._client.session
        grants = self._with_new(new)
        self.held.replace(grants)
        # Drop the pinned keys of owners without a grant. Any client may send grants, so otherwise
        # pins would accumulate for ever.
        owners = set[Principal]()
        for grant in grants:
            owners |= owners_of(grant)
        pins = tuple([pin for pin in session.pins if parse_network_id(pin.network).owner in owners])
        self._client.use(replace(session, grants=grants, pins=pins))
        self._by_grant = {
            cid: client for cid, client in self._by_grant.items() if cid in self.held.cids
        }

    # --- use of grants ----------------------------------------------------------------------------

    def client_citing(self, grant: Grant) -> Client:
        """Return a client that uses only the given grant."""
        client = self._by_grant.get(grant.cid)
        if client is None:
            client = self._client.acting(replace(self._client.session, grants=(grant,)))
            # Only clients of held grants are cached: others would never be removed from the cache.
            if grant.cid in self.held.cids:
                self._by_grant[grant.cid] = client
        return client

    def allowing_unbound(self, owner: str, wanted: Sequence[Capability]) -> Grant | None:
        """Return a live grant of an owner by which values without a place may be used (EN47)."""
        now = self._clock.now()
        for grant in self.live():
            if grant.cid in self.held.revoked:
                continue
            session = self.client_citing(grant).session
            with suppress(NotGranted):
                if may_open_unbound(session, owner, wanted, now=now):
                    return grant
        return None

    def copy_pins(self, client: Client) -> None:
        """Add the network keys that another client has pinned."""
        for pin in client.session.pins:
            self._client.use(self._client.session.with_pin(pin))

    def network_in(self, grant: Grant | None, owner: str) -> NetworkId:
        """Find an owner's encryption network among the resources of a grant.

        Only the grant's capabilities to decrypt are searched. The fallback is the owner's default
        network.
        """
        granted = () if grant is None else grant.capabilities
        for capability in granted:
            if capability.ability != DECRYPT:
                continue
            opened = network_of(capability.resource)
            if opened is not None and same_principal(opened.owner, owner):
                return opened
        return self._client.encryption.network(owner=owner)

    def cited_cids(self, client: Client, wanted: Capability) -> tuple[str, ...]:
        """Return the ids of the grants that a client cites for a capability."""
        return client.session.proofs_for([wanted], now=self._clock.now())

    async def demote(
        self,
        wanted: Capability,
        cited: tuple[str, ...],
        refusal: Unauthorized,
        refused_cids: set[str],
    ) -> bool:
        """Move grants refused by the node to the end of the list.

        Another holder of a grant of the owner can delegate it to this backend under conditions of
        its own, and revoke it. So the newest grant is not the only one that counts (AT54).

        Args:
            wanted: the capability for which the grants were cited.
            cited: ids of the grants that the refused request cited.
            refusal: the node's answer.
            refused_cids: the ids of all grants that were refused before in the same read. Those in
                `cited` are added.
        Returns:
            Whether the next request would cite only grants that have not been refused.
        """
        refused_cids.update(cited)
        session = self._client.session
        # The sort is stable, so the order among the others stays.
        grants = sorted(session.grants, key=lambda grant: grant.cid in cited)
        self._client.use(replace(session, grants=tuple(grants)))
        if isinstance(refusal, DelegationRevoked) and not self.held.revoked.issuperset(cited):
            await self.disuse(cited)
        cited_next = self.cited_cids(self._client, wanted)
        # If the request cited no grant, the next one would cite none either.
        return bool(cited) and refused_cids.isdisjoint(cited_next)

    # --- states -----------------------------------------------------------------------------------

    async def disuse(self, cids: Iterable[str]) -> None:
        """Use grants no longer, as if the node had reported that they are revoked."""
        self.held.mark_revoked(cids)
        await self._store_states()

    async def note_read(self, cids: Sequence[str]) -> None:
        """Mark grants as used for reading.

        Used grants are not evicted later.
        """
        is_new = not self.held.read.issuperset(cids)
        self.held.mark_read(cids)
        if is_new or (self._folder is not None and self._client.session.pins != self._folder.pins):
            await self._store_states()

    async def _store_states(self) -> None:
        """Save the ids of used grants and of revoked grants to disk.

        Failures are only logged.
        """
        try:
            await self._store()
        except FolderUnusable as error:
            _log.warning("cannot store which grants were read or revoked: %s", error)

    async def _store(self) -> None:
        if self._folder is not None:
            await asyncio.to_thread(self._folder.store, self._snapshot)

    def _snapshot(self) -> GrantSnapshot:
        """Return the state to store in the folder."""
        session = self._client.session
        cids = self.held.cids
        return GrantSnapshot(
            # Grants that `accept` has sent to the node but not yet confirmed are left out.
            grants=[grant for grant in session.grants if grant.cid in cids],
            pins=session.pins,
            read=self.held.read,
            revoked=self.held.revoked,
        )
