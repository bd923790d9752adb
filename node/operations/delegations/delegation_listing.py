"""The JSON format of a delegation list (wire 5.4)."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from capabilities.cacao import encode_cacao, header_bytes, header_text, restore_cacao
from capabilities.chain import Registered
from capabilities.cids import cid_text
from capabilities.frozen_struct import FrozenStruct
from capabilities.tokens import Delegation

from .query_filters import Direction
from .status import Verdict

_EPOCH = datetime(1970, 1, 1)  # without a zone, which `isoformat` would write as +00:00
_FIRST_S = (datetime.min - _EPOCH).total_seconds()
_LAST_S = (datetime.max - _EPOCH).total_seconds() - 1


class Entries(FrozenStruct):
    """A list that may be truncated.

    `truncated` states whether entries were left out.
    """

    shown: Mapping[str, object] | Sequence[object]
    truncated: bool


class ListedResource(FrozenStruct):
    """The actions that are granted on one resource.

    Each action is listed with its conditions.
    """

    resource: str
    actions: tuple[str, ...]
    caveats: tuple[Mapping[str, object], ...]


class Listed(FrozenStruct, kw_only=True, omit_defaults=True, rename="camel"):
    """One entry in a list of delegations.

    The fields after `status` are set only after a revocation, and `token` only on request.
    """

    cid: str
    direction: Direction
    delegator_did: str
    delegate_did: str
    resources: tuple[ListedResource, ...]
    parents: tuple[str, ...]
    issued_at: str | None
    not_before: str | None
    expires_at: str | None
    status: str
    revoked_at: str | None = None
    revoked_by: str | None = None
    revoked_ancestor_cid: str | None = None
    token: str | None = None


def listed_of(
    stored: Registered, direction: Direction, verdict: Verdict, *, with_token: bool
) -> Listed:
    """Return the list entry for a delegation."""
    delegation = stored.delegation
    revoked, ancestor = verdict.revoked, verdict.ancestor
    resources = []
    # Parsed capabilities are sorted by resource, so those on one resource are neighbours (T7).
    for resource, group in groupby(
        delegation.capabilities, key=lambda capability: capability.resource
    ):
        capabilities = tuple(group)
        resources.append(
            ListedResource(
                resource=resource.text,
                actions=tuple([capability.ability for capability in capabilities]),
                caveats=tuple([capability.caveats for capability in capabilities]),
            )
        )
    return Listed(
        cid=cid_text(delegation.cid),
        direction=direction,
        delegator_did=delegation.delegator,
        delegate_did=delegation.delegate,
        resources=tuple(resources),
        parents=tuple([parent.echo for parent in delegation.parents]),
        issued_at=time_text(delegation.issued_at),
        not_before=time_text(delegation.not_before),
        expires_at=time_text(delegation.expires_at),
        status=verdict.status,
        revoked_at=None if revoked is None else time_text(revoked.at),
        revoked_by=None if revoked is None else revoked.by,
        revoked_ancestor_cid=None if ancestor is None else cid_text(ancestor.cid),
        token=postable_token(delegation) if with_token else None,
    )


def postable_token(delegation: Delegation) -> str:
    """Return a delegation in a form that can be posted.

    A CACAO is in its canonical encoding, a JWT as it was received.
    """
    if delegation.form == "ucan":
        return delegation.header
    return header_text(encode_cacao(restore_cacao(header_bytes(delegation.header))))


def time_text(at: float | None) -> str | None:
    """Format epoch seconds like `2026-01-02T03:04:05Z`.

    A fraction is kept, and None stays None. Signers may write times outside the calendar; these
    become its first or last second.
    """
    if at is None:
        return None
    in_calendar = min(max(at, _FIRST_S), _LAST_S)
    return (_EPOCH + timedelta(seconds=in_calendar)).isoformat() + "Z"
