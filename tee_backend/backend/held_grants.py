"""Which grants a backend holds: any client may submit grants, so how many are kept is bounded
(AT54).

Ended grants are dropped first. Where an owner, or all together, would have more than the bound, the
oldest one that the node called revoked is dropped, else the oldest from which nothing was ever
read; where something was read from all of them, the new one is refused. So a client that submits
useless grants displaces only other useless ones.

The owner of a grant is read from the resources in it: the node registered it, so its chain begins
with their owners. The members beside the token are unverified.

Example:
    held = HeldGrants()
    held.hold(grants := held.with_new(grant, session.grants, now=clock.now()))
    held.was_read(session.proofs_for(wanted, now=clock.now()))
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from capabilities.principals import Principal
from capabilities.resources import root_of
from sealspace.errors import GrantsFull
from sealspace.session import Grant

MOST_OF_AN_OWNER: Final = 16
"""Grants that are held for resources of one owner."""
MOST: Final = 1024
"""Grants that are held in all; a search through them is a fraction of a millisecond."""


GrantState = Literal["live", "ended", "revoked"]


@dataclass(frozen=True, slots=True)
class HeldGrant:
    """A grant that a backend holds, and how it stands."""

    grant: Grant
    state: GrantState


class HeldGrants:
    """Decides which grants are kept, and remembers from which something was read and which were
    revoked."""

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
        """Return the grants to hold from now on, the new one first."""
        kept = [one for one in held if one.cid != grant.cid and one.is_live(now)]
        for owner in owners_of(grant):
            self._evict(
                kept, [one for one in kept if owner in owners_of(one)], self._most_of_an_owner
            )
        self._evict(kept, kept, self._most)
        return (grant, *kept)

    def hold(self, grants: Iterable[Grant]) -> None:
        """Hold these grants from now on, and forget what was noted of any other."""
        self.cids = frozenset(one.cid for one in grants)
        self.read &= self.cids
        self.revoked &= self.cids

    def was_read(self, cids: Iterable[str]) -> None:
        """Note that a secret was opened by these grants."""
        self.read |= frozenset(cids)

    def was_revoked(self, cids: Iterable[str]) -> None:
        """Note that the node calls these grants revoked: for ever, so they are the first to give
        way."""
        self.revoked |= frozenset(cids)

    def described(self, grant: Grant, *, now: float) -> HeldGrant:
        """Return a grant with how it stands."""
        if not grant.is_live(now):
            return HeldGrant(grant, "ended")
        return HeldGrant(grant, "revoked" if grant.cid in self.revoked else "live")

    def _evict(self, kept: list[Grant], among: Sequence[Grant], most: int) -> None:
        if len(among) < most:
            return
        revoked = [one for one in among if one.cid in self.revoked]
        unread = [one for one in among if one.cid not in self.read]
        if not revoked and not unread:
            raise GrantsFull(f"{most} grants are held, and all of them serve")
        kept.remove((revoked or unread)[-1])


def owners_of(grant: Grant) -> frozenset[Principal]:
    """Return the owners of the resources in a grant."""
    roots = (root_of(one.resource) for one in grant.capabilities)
    return frozenset(root for root in roots if root is not None)
