"""Caveats, which are conditions on a capability (section 3.5, rule T2).

In a token a capability carries a list of objects. `[{}]` means no condition and becomes the empty
map; any other list becomes a map from decimal index to object.

The resource selector is the only caveat that this node understands. A delegate repeats the
conditions of its grant exactly, and a call runs only if its conditions are understood and met:
repeating a condition alone would not restrict anything (I39).

The `value` of a selector is a whole resource, or a path in the service of the capability.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal

import msgspec

from .capability_errors import CaveatRefused, InvalidIdentifier
from .frozen_struct import AcyclicStruct
from .resources import Resource, SpaceResource, extends, parse_resource
from .strict_json import Json, StrictRecord

Caveats = Mapping[str, Json]
"""Conditions in their stored form (T2): index text to object; an empty map means none."""

_SELECTOR = "xyz.tinycloud.resource/selector"
_WHOLE = ("tinycloud:", "urn:")


class _Selector(StrictRecord):
    type: Literal["xyz.tinycloud.resource/selector"]
    kind: Literal["exact", "prefix"]
    value: str


def caveats_of(listed: Sequence[Mapping[str, Json]]) -> Caveats:
    """Convert a token's list of caveats to a dictionary (T2).

    The list must not be empty.
    """
    if len(listed) == 1 and not listed[0]:
        return {}
    return {str(index): dict(caveat) for index, caveat in enumerate(listed)}


def check_delegated(parent: Caveats, child: Caveats) -> None:
    """Check that a delegation does not weaken its parent's caveats (3.5)."""
    if mentions_selector(parent) or mentions_selector(child):
        # A selector may be narrowed (3.5, rule 1).
        if not _selector_within(parent, child):
            raise CaveatRefused("selector-caveat-not-contained")
    elif parent and not same_json(dict(parent), dict(child)):
        # Other conditions are repeated exactly, unless the parent has none (3.5, rules 3 to 5).
        raise CaveatRefused("child-caveats-not-subset-of-parent")


def check_invoked(parent: Caveats, invoked: Caveats) -> None:
    """Check that an invocation has the same caveats as its grant (I35).

    If the grant has no caveats, any are allowed. Selectors have no rule of their own here.

    Raises:
        CaveatRefused: The conditions differ.

    Does not check:
        That the requested resource meets the conditions (selection_of).
    """
    if parent and not same_json(dict(parent), dict(invoked)):
        raise CaveatRefused("invocation-caveats-not-subset-of-chain")


class Selection(AcyclicStruct):
    """The resources that a caveat allows.

    They are one resource alone, if `is_exact`, or that resource with everything below it.
    """

    resource: Resource
    is_exact: bool


def selection_of(resource: Resource, caveats: Caveats) -> Selection | None:
    """Return the resources allowed by an invocation's caveats (I39).

    Args:
        resource: The requested resource.
        caveats: The conditions in the call; by I35 these are all conditions of its grant.

    Returns:
        None without conditions.

    Raises:
        CaveatRefused: A condition is not a selector, or it does not select `resource`.
    """
    if not caveats:
        return None
    selector = _sole_selector(caveats)
    if selector is None:
        raise CaveatRefused("caveat-not-understood")
    selected: Resource | None = None
    if selector.value.startswith(_WHOLE):
        with suppress(InvalidIdentifier):  # a value that is no resource selects nothing
            selected = parse_resource(selector.value)
    elif isinstance(resource, SpaceResource):
        selected = SpaceResource(
            space=resource.space, service=resource.service, path=selector.value
        )
    if selected is None or not extends(resource, selected):
        raise CaveatRefused("selector-caveat-not-met")
    is_exact = selector.kind == "exact"
    # Two resources are the same if each one extends the other.
    if is_exact and not extends(selected, resource):
        raise CaveatRefused("selector-caveat-not-met")
    return Selection(selected, is_exact)


def same_json(one: Json, other: Json) -> bool:
    """Return whether two JSON values have equal types and values.

    1, 1.0 and true differ.
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            same_json(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return one == other


def mentions_selector(caveats: Caveats) -> bool:
    """Return whether a caveat is a resource selector, valid or not."""
    return any(
        isinstance(value, dict) and value.get("type") == _SELECTOR for value in caveats.values()
    )


def _selector_within(parent: Caveats, child: Caveats) -> bool:
    """Return whether a child's selector selects no more than its parent's (3.5, rule 1)."""
    outer = _sole_selector(parent)
    inner = _sole_selector(child)
    if outer is None or inner is None:
        return False
    if outer.kind == "exact" and inner.kind == "prefix":
        return False
    if inner.value == outer.value:
        return True
    return outer.kind == "prefix" and inner.value.startswith(outer.value + "/")


def _sole_selector(caveats: Caveats) -> _Selector | None:
    """Parse a capability's only caveat as a resource selector.

    The result is None unless there is exactly one caveat, and it is a valid selector.
    """
    if len(caveats) != 1:
        return None
    (only,) = caveats.values()
    try:
        return msgspec.convert(only, _Selector)
    except msgspec.ValidationError:
        return None
