"""The filters of a `tinycloud.capabilities/read` call: the fact `capabilitiesReadParams` (wire 4.5)."""

from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from capabilities.principals import Principal
from capabilities.resources import SpaceResource
from capabilities.strict_json import Json
from capabilities.tokens import Delegation

FACT: Final = "capabilitiesReadParams"


class GrantFilters(msgspec.Struct, frozen=True):
    """Which delegations of a space are listed.

    Attributes:
        direction: `created` or `received` by the caller's root identity; anything else filters nothing.
        path: some resource of the delegation, in whatever space and service, has a path that begins so.
        actions: the delegation holds one of these abilities, in this very spelling; None: any.
    """

    direction: str | None = None
    path: str | None = None
    actions: frozenset[str] | None = None

    def fit(self, delegation: Delegation, identity: Principal) -> bool:
        """Whether a delegation passes every filter."""
        if self.direction == "created" and delegation.delegator != identity:
            return False
        if self.direction == "received" and delegation.delegate != identity:
            return False
        if self.actions is not None and self.actions.isdisjoint(row.ability for row in delegation.capabilities):
            return False
        return self.path is None or any(path.startswith(self.path) for path in _paths(delegation))


class Chain(msgspec.Struct, frozen=True, tag="chain"):
    """One delegation and what it rests on; `cid` is untrusted text."""

    cid: str = msgspec.field(name="delegation_cid")


class _List(msgspec.Struct, frozen=True, tag="list"):
    filters: GrantFilters | None = None


RequestParameters: TypeAlias = GrantFilters | Chain


def asked_of(facts: Iterable[Json]) -> RequestParameters:
    """Return the readable filters of the first fact; without such a fact everything is listed."""
    for fact in facts:
        asked = _asked(fact.get(FACT)) if isinstance(fact, dict) else None
        if asked is not None:
            return asked
    return GrantFilters()


def _asked(value: Json) -> RequestParameters | None:
    try:
        asked = msgspec.convert(value, _List | Chain)
    except msgspec.ValidationError:
        return None
    return asked if isinstance(asked, Chain) else asked.filters or GrantFilters()


def _paths(delegation: Delegation) -> Iterable[str]:
    resources = (row.resource for row in delegation.capabilities)
    return (one.path for one in resources if isinstance(one, SpaceResource) and one.path is not None)
