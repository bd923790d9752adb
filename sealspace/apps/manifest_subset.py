"""Comparison of requested and granted resources (MF11).

The check is stricter than the node's (capabilities X1 to X8): a granted path without a trailing
slash covers only itself. A node accepts everything that this check accepts. A wildcard such as
`tinycloud.kv/*` contains only itself, as on a node.

Example:
    lacking = missing_resources(resolved, resources_of(grant.capabilities), owner=session.owner)
    print(*(f"{one.path}: {', '.join(one.actions)}" for one in lacking), sep=", ")
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from capabilities.abilities import satisfies
from capabilities.capability_errors import CapabilityError
from capabilities.resources import parse_network_id
from capabilities.tokens import Capability

from ..documents.manifest_reading import ENCRYPTION
from ..documents.manifests import ENCRYPTION_SPACE, ResourceRequest
from ..session import space_of
from ..wire.portable import described


def missing_resources(
    requested: Iterable[ResourceRequest], granted: Sequence[ResourceRequest], *, owner: str
) -> tuple[ResourceRequest, ...]:
    """Return the requested resources and actions that are not granted."""
    place = partial(_place, owner=owner)
    held = [(place(one), one) for one in granted]
    missing = []
    for one in requested:
        wanted = place(one)
        covering = [
            _full(row.service, action)
            for where, row in held
            if where[:2] == wanted[:2]
            and _contains(where[2], wanted[2], whole=one.service != ENCRYPTION)
            for action in row.actions
        ]
        lacking = tuple(
            action
            for action in one.actions
            if not any(
                satisfies(granted_one, _full(one.service, action)) for granted_one in covering
            )
        )
        if lacking:
            missing.append(replace(one, actions=lacking))
    return tuple(missing)


def resources_of(capabilities: Iterable[Capability]) -> tuple[ResourceRequest, ...]:
    """Convert capabilities to resources.

    Capabilities with caveats are left out.
    """
    rows = described(one for one in capabilities if not one.caveats)
    return tuple(
        ResourceRequest(_long(one.service), one.space, one.path, one.actions) for one in rows
    )


def _place(resource: ResourceRequest, *, owner: str) -> tuple[str, str, str]:
    """Return a resource's service, space and path in canonical form."""
    service = _long(resource.service)
    if service != ENCRYPTION:
        return service, space_of(owner, resource.space).text, resource.path
    try:
        return service, ENCRYPTION_SPACE, parse_network_id(resource.path).text
    except CapabilityError:
        return service, ENCRYPTION_SPACE, resource.path


def _contains(granted: str, requested: str, *, whole: bool) -> bool:
    is_folder = whole and (
        granted in ("", "/") or (granted.endswith("/") and requested.startswith(granted))
    )
    return is_folder or requested == granted


def _long(service: str) -> str:
    return service if "." in service else f"tinycloud.{service}"


def _full(service: str, action: str) -> str:
    return action if "/" in action else f"{_long(service)}/{action}"
