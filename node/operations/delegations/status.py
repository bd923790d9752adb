"""Rules for the status of a delegation: active, expired or revoked.

The first of these states that applies is reported:

    revoked > an ancestor is revoked > expired > not valid yet > active

This is for reports only. Whether a delegation may be used is judged by `capabilities.chain`.
"""

from collections.abc import Mapping
from typing import Literal

from capabilities.chain import Ancestor, Registered
from capabilities.cids import ContentKey
from capabilities.frozen_struct import FrozenStruct
from capabilities.tokens import Delegation
from spaces.grants.revocations import Revoked, revocation_of
from spaces.store.contract import Record

Status = Literal["revoked", "ancestor_revoked", "expired", "pending", "active"]
"""The state of a delegation, in the words of `/delegation/query` (wire 5.4)."""


def status_at(window: Delegation | Registered, now: float) -> Status:
    """Return a delegation's status: pending, active or expired.

    For a `Registered`, the result depends on the time window of its whole chain.
    """
    # The delegation is expired from the second of its expiry on (I33).
    if window.expires_at is not None and now >= window.expires_at:
        return "expired"
    if window.not_before is not None and now < window.not_before:
        return "pending"
    return "active"


class Verdict(FrozenStruct):
    """The status of a delegation, with any revocation.

    `ancestor` is set if the revocation is an ancestor's.
    """

    status: Status
    revoked: Revoked | None = None
    ancestor: Ancestor | None = None


def verdict_of(
    registered: Registered,
    marks: Mapping[ContentKey, Record | None],
    window: Delegation | Registered,
    *,
    now: float,
) -> Verdict:
    """Return the state of a delegation.

    `window` is the delegation or the `Registered` whose time window counts; see `status_at`.
    """
    own, *above = registered.closure
    revoked = revocation_of(marks.get(own.content_key))
    if revoked is not None:
        return Verdict("revoked", revoked)
    for ancestor in above:
        revoked = revocation_of(marks.get(ancestor.content_key))
        if revoked is not None:
            return Verdict(status="ancestor_revoked", revoked=revoked, ancestor=ancestor)
    return Verdict(status_at(window, now))
