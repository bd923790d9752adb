"""The filters of a `tinycloud.capabilities/read` call: the fact `capabilitiesReadParams` (wire 4.5)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from capabilities.principals import Principal
from capabilities.resources import SpaceResource
from capabilities.strict_json import Json
from capabilities.tokens import Delegation

FACT: Final = "capabilitiesReadParams"


@dataclass(frozen=True, slots=True)
class GrantFilters:
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


@dataclass(frozen=True, slots=True)
class Chain:
    """One delegation and what it rests on; `cid` is untrusted text."""

    cid: str


RequestParameters: TypeAlias = GrantFilters | Chain


def asked_of(facts: Iterable[Json]) -> RequestParameters:
    """Return the readable filters of the first fact; without such a fact everything is listed."""
    for fact in facts:
        asked = _asked(fact.get(FACT)) if isinstance(fact, dict) else None
        if asked is not None:
            return asked
    return GrantFilters()


def _asked(value: Json) -> RequestParameters | None:
    if not isinstance(value, dict):
        return None
    if value.get("type") == "chain":
        cid = value.get("delegation_cid")
        return Chain(cid) if isinstance(cid, str) else None
    if value.get("type") != "list":
        return None
    filters = value.get("filters")
    return GrantFilters() if filters is None else _filters(filters)


def _filters(value: Json) -> GrantFilters | None:
    if not isinstance(value, dict):
        return None
    direction, path, actions = (value.get(name) for name in ("direction", "path", "actions"))
    if not isinstance(direction, str | None) or not isinstance(path, str | None):
        return None
    if actions is None:
        return GrantFilters(direction, path)
    if not isinstance(actions, list):
        return None
    named = frozenset(action for action in actions if isinstance(action, str))
    return GrantFilters(direction, path, named) if all(isinstance(action, str) for action in actions) else None


def _paths(delegation: Delegation) -> Iterable[str]:
    resources = (row.resource for row in delegation.capabilities)
    return (one.path for one in resources if isinstance(one, SpaceResource) and one.path is not None)
