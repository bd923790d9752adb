"""Whether a registered delegation is in force at a moment, for the routes that report on delegations.

    revoked > an ancestor is revoked > expired > not valid yet > active

The judgement for use is the chain rules' own (`capabilities.chain`); this one only reports.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from capabilities.chain import Ancestor, Registered
from capabilities.cids import ContentKey
from capabilities.tokens import Delegation
from spaces.grants.revocations import Revoked, revocation_of
from spaces.store.contract import Record


class Standing(Enum):
    """The state of a delegation; the values are the words of `/delegation/query` (wire 5.4)."""

    REVOKED = "revoked"
    ANCESTOR_REVOKED = "ancestor_revoked"
    EXPIRED = "expired"
    PENDING = "pending"
    ACTIVE = "active"

    @property
    def is_revoked(self) -> bool:
        """Whether it was revoked, itself or with an ancestor."""
        return self in (Standing.REVOKED, Standing.ANCESTOR_REVOKED)


def standing_in(window: Delegation | Registered, now: float) -> Standing:
    """Return the state by a window alone: that of the delegation itself, or with it those of all its ancestors."""
    if window.expires_at is not None and now >= window.expires_at:  # the expiry itself lies outside (I33)
        return Standing.EXPIRED
    if window.not_before is not None and now < window.not_before:
        return Standing.PENDING
    return Standing.ACTIVE


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of a delegation, and what caused it."""

    standing: Standing
    revoked: Revoked | None = None
    ancestor: Ancestor | None = None


def standing_of(
    registered: Registered,
    marks: Mapping[ContentKey, Record | None],
    window: Delegation | Registered,
    *,
    now: float,
) -> Verdict:
    """Return the state of a delegation in one of its windows, see `standing_in`."""
    own, *above = registered.closure
    revoked = revocation_of(marks.get(own.content_key))
    if revoked is not None:
        return Verdict(Standing.REVOKED, revoked)
    for ancestor in above:
        revoked = revocation_of(marks.get(ancestor.content_key))
        if revoked is not None:
            return Verdict(Standing.ANCESTOR_REVOKED, revoked, ancestor)
    return Verdict(standing_in(window, now))
