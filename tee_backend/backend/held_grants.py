"""A backend's stored grants, limited in number (AT54).

Any client may submit grants. Expired grants are dropped first. If one owner's grants or all
together exceed the limit, the oldest grant that the node reported as revoked is dropped; without a
revoked grant, the oldest grant that was never used for a read. Without either, the new grant is
refused. So a client that submits useless grants displaces only other useless grants.

A revoked grant that its owner signed is dropped only if newer grants of the owner cover everything
in it. Otherwise the backend could not tell a revoked grant from one that was never made. If the
limit of one owner is exceeded, the same condition applies to unused grants.

The owner of a grant is read from its resources. The node registered the grant, so its chain begins
with the owners of these resources. The members beside the token are unverified.

Example:
    held = HeldGrants()
    held.replace(grants := held.with_new(grant, session.grants, now=clock.now()))
    held.mark_read(session.proofs_for(wanted, now=clock.now()))
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from capabilities.principals import Principal
from capabilities.resources import root_of
from sealspace.errors import GrantsFull
from sealspace.session import Grant

MOST_OF_AN_OWNER = 128
"""Limit on grants for resources of one owner. A run grant of 4 KB takes 10 KB of memory, and 0.3 ms
once in each process to verify."""
MOST = 1024
"""Limit on all grants together; searching that many takes a fraction of a millisecond."""

GrantState = Literal["live", "ended", "revoked"]


class HeldGrant(NamedTuple):
    """A grant to a backend, with its current state."""

    grant: Grant
    state: GrantState


class HeldGrants:
    """A backend's grants and their states."""

    def __init__(
        self,
        *,
        most_of_an_owner: int = MOST_OF_AN_OWNER,
        most: int = MOST,
        read: Iterable[str] = (),
        revoked: Iterable[str] = (),
    ) -> None:
        self._most_of_an_owner = most_of_an_owner
        self._most = most
        self.cids: frozenset[str] = frozenset()
        self.read: frozenset[str] = frozenset(read)
        self.revoked: frozenset[str] = frozenset(revoked)

    def with_new(
        self, grant: Grant, current_grants: Sequence[Grant], *, now: float
    ) -> tuple[Grant, ...]:
        """Return a new grant, followed by the current grants that can stay.

        If a limit is reached, the oldest revoked or unused grant is left out.

        Args:
            grant: the new grant.
            current_grants: the current grants, newest first.
            now: epoch seconds; grants that have expired are left out.
        Returns:
            The new grant and those that stay.
        Raises:
            GrantsFull: the limit is reached, and no grant may be dropped.
        """
        staying = [
            current
            for current in current_grants
            if current.cid != grant.cid and current.is_live(now)
        ]
        for owner in (*owners_of(grant), None):  # None: the limit of all owners together
            self._evict(grant, staying, owner)
        return (grant, *staying)

    def replace(self, grants: Iterable[Grant]) -> None:
        """Set the current grants and forget all others."""
        self.cids = frozenset(grant.cid for grant in grants)
        self.read &= self.cids
        self.revoked &= self.cids

    def mark_read(self, cids: Iterable[str]) -> None:
        """Mark grants as used for reading."""
        self.read |= frozenset(cids)

    def mark_revoked(self, cids: Iterable[str]) -> None:
        """Record grants as revoked.

        Revoked grants are dropped first when the limit is reached.
        """
        self.revoked |= frozenset(cids)

    def with_state(self, grant: Grant, *, now: float) -> HeldGrant:
        """Return a grant with its current state."""
        if not grant.is_live(now):
            return HeldGrant(grant, "ended")
        if grant.cid in self.revoked:
            return HeldGrant(grant, "revoked")
        return HeldGrant(grant, "live")

    def _evict(self, new: Grant, staying: list[Grant], owner: Principal | None) -> None:
        """Drop a grant if the limit of an owner is reached.

        If `owner` is None, the limit on all grants together counts instead.
        """
        most = self._most if owner is None else self._most_of_an_owner
        counted = staying
        if owner is not None:
            counted = [grant for grant in staying if owner in owners_of(grant)]
        if len(counted) < most:
            return
        droppable = self._droppable(counted, _find_replaced(new, counted), is_total=owner is None)
        if not droppable:
            raise GrantsFull(f"the limit of {most} grants is reached, and none may be dropped")
        staying.remove(droppable[-1])  # newest first, so the last one is the oldest

    def _droppable(
        self, grants: Sequence[Grant], replaced: set[str], *, is_total: bool
    ) -> list[Grant]:
        """Return the grants of which one may be dropped: revoked ones, or else unused ones.

        Args:
            grants: the grants that count towards the limit, newest first.
            replaced: ids of the grants that lose nothing when they are dropped.
            is_total: whether the limit is that of all owners together. It also drops unused grants
                that are not replaced.
        """
        # TK4: a revoked grant that newer ones do not replace is kept. Without it, its secret would
        # count as never granted.
        replaced_grants = [grant for grant in grants if grant.cid in replaced]
        revoked = [grant for grant in replaced_grants if grant.cid in self.revoked]
        if revoked:
            return revoked
        used = self.revoked | self.read
        candidates = grants if is_total else replaced_grants
        return [grant for grant in candidates if grant.cid not in used]


def _find_replaced(new: Grant, current_grants: Iterable[Grant]) -> set[str]:
    """Return the ids of the grants that lose nothing when they are dropped.

    Newer grants that the owner signed cover such a grant, or the owner did not sign it itself.

    Args:
        new: the new grant.
        current_grants: the current grants, newest first.
    """
    replaced = set[str]()
    newer_rights = set[tuple[str, str]]()
    for grant in (new, *current_grants):
        if owners_of(grant) != {grant.delegator}:
            replaced.add(grant.cid)
            continue
        rights = _rights_of(grant)
        if rights <= newer_rights:
            replaced.add(grant.cid)
        newer_rights |= rights
    return replaced


def _rights_of(grant: Grant) -> set[tuple[str, str]]:
    """Return the resources and abilities that a grant gives."""
    return {(capability.resource.text, capability.ability) for capability in grant.capabilities}


def owners_of(grant: Grant) -> frozenset[Principal]:
    """Return the owners of the resources in a grant."""
    owners = set[Principal]()
    for capability in grant.capabilities:
        owner = root_of(capability.resource)
        if owner is not None:
            owners.add(owner)
    return frozenset(owners)
