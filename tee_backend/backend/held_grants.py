"""The bounded set of grants that a backend keeps. Any client may submit grants (AT54).

Expired grants are dropped first. If one owner's grants or all together exceed the limit, the oldest
grant that the node reported as revoked is dropped; without a revoked grant, the oldest grant that
was never used for a read. If all of them have been used, the new grant is refused. So a client that
submits useless grants displaces only other useless grants.

The owner of a grant is read from its resources. The node registered the grant, so its chain begins
with the owners of these resources. The members beside the token are unverified.

Example:
    held = HeldGrants()
    held.hold(grants := held.with_new(grant, session.grants, now=clock.now()))
    held.was_read(session.proofs_for(wanted, now=clock.now()))
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from capabilities.principals import Principal
from capabilities.resources import root_of
from sealspace.errors import GrantsFull
from sealspace.session import Grant

MOST_OF_AN_OWNER = 16
"""Limit on grants for resources of one owner."""
MOST = 1024
"""Limit on all grants together; searching that many takes a fraction of a millisecond."""


GrantState = Literal["live", "ended", "revoked"]


@dataclass(frozen=True, slots=True)
class HeldGrant:
    """A grant to a backend, with its state: live, ended or revoked."""

    grant: Grant
    state: GrantState


class HeldGrants:
    """Limits on a backend's grants, and records of used and revoked grants."""

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

    def with_new(self, grant: Grant, held: Sequence[Grant], *, now: float) -> tuple[Grant, ...]:
        """Return the grants to keep after adding a grant. The new grant comes first.

        Args:
            grant: the new grant.
            held: the current grants, newest first.
            now: epoch seconds; grants that have expired are left out.
        Returns:
            The new grant and those that stay.
        Raises:
            GrantsFull: the limit is reached, and all grants have been used for reads.
        """
        kept = [one for one in held if one.cid != grant.cid and one.is_live(now)]
        for owner in owners_of(grant):
            self._evict(
                kept, [one for one in kept if owner in owners_of(one)], self._most_of_an_owner
            )
        self._evict(kept, kept, self._most)
        return (grant, *kept)

    def hold(self, grants: Iterable[Grant]) -> None:
        """Set the current grants, and delete the records of grants that are no longer held."""
        self.cids = frozenset(one.cid for one in grants)
        self.read &= self.cids
        self.revoked &= self.cids

    def was_read(self, cids: Iterable[str]) -> None:
        """Record that grants were used to open a secret or to read a value."""
        self.read |= frozenset(cids)

    def was_revoked(self, cids: Iterable[str]) -> None:
        """Record grants as revoked. Revoked grants are dropped first when the limit is reached."""
        self.revoked |= frozenset(cids)

    def described(self, grant: Grant, *, now: float) -> HeldGrant:
        """Return a grant with its state: live, ended or revoked."""
        if not grant.is_live(now):
            return HeldGrant(grant, "ended")
        return HeldGrant(grant, "revoked" if grant.cid in self.revoked else "live")

    def _evict(self, kept: list[Grant], among: Sequence[Grant], most: int) -> None:
        if len(among) < most:
            return
        revoked = [one for one in among if one.cid in self.revoked]
        unread = [one for one in among if one.cid not in self.read]
        if not revoked and not unread:
            raise GrantsFull(f"the limit of {most} grants is reached, and all of them are in use")
        kept.remove((revoked or unread)[-1])  # newest first, so the last one is the oldest


def owners_of(grant: Grant) -> frozenset[Principal]:
    """Return the owners of the resources in a grant."""
    roots = (root_of(one.resource) for one in grant.capabilities)
    return frozenset(root for root in roots if root is not None)
