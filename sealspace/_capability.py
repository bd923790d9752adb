"""Capabilities as a client states them: made from checked parts, compared as the node compares them."""

from collections.abc import Iterable, Mapping

from capabilities.abilities import parse_ability, satisfies
from capabilities.errors import InvalidIdentifier
from capabilities.resources import OpaqueResource, SpaceId, SpaceResource, extends, network_of, parse_resource
from capabilities.tokens import Capability

from .errors import InvalidInput

_NO_KEY = "a key is the raw path of a URI"
_KEY_HINT = "percent-encode spaces, `?`, `#`, `%` and non-ASCII; no `.` or `..` segments"


def capability(resource: str, ability: str) -> Capability:
    """Make a capability from texts, a network's owner in its canonical spelling; raises InvalidInput."""
    try:
        parsed = parse_resource(resource)
    except InvalidIdentifier as exc:
        hint = "a resource is a whole URI: tinycloud:…:notes/kv/KEY, or the id of a network"
        raise InvalidInput(f"not a capability: {exc.text}", hint=hint) from exc
    try:
        parse_ability(ability)
    except InvalidIdentifier as exc:
        raise InvalidInput(f"not a capability: {exc.text}", hint="an ability is tinycloud.kv/get or alike") from exc
    network = network_of(parsed)
    return Capability(parsed if network is None else OpaqueResource(network.text), ability, {})


def space_capability(space: SpaceId, service: str, path: str | None, ability: str) -> Capability:
    """Make a capability on the raw path of a space, None for a service as a whole.

    Raises:
        InvalidInput: the path cannot be used in a URI as it is, or would be read as something else.
    """
    resource = SpaceResource(space, service, path)
    try:
        read = parse_resource(resource.text)
    except InvalidIdentifier as exc:
        raise InvalidInput(_NO_KEY, hint=_KEY_HINT) from exc
    if read != resource:
        raise InvalidInput(_NO_KEY, hint=_KEY_HINT)
    return capability(resource.text, ability)


def covers(held: Capability, wanted: Capability) -> bool:
    """Whether a grant of `held` allows `wanted` without caveats (the node's own rule of containment)."""
    return not held.caveats and satisfies(held.ability, wanted.ability) and extends(wanted.resource, held.resource)


def attenuations(capabilities: Iterable[Capability]) -> Mapping[str, Mapping[str, tuple[Mapping[str, None], ...]]]:
    """Return resource to ability to the empty caveat, as ReCaps and tokens state it."""
    stated: dict[str, dict[str, tuple[Mapping[str, None], ...]]] = {}
    for one in capabilities:
        stated.setdefault(one.resource.text, {})[one.ability] = ({},)
    return stated


def distinct_capabilities(capabilities: Iterable[Capability]) -> tuple[Capability, ...]:
    """Return capabilities without repeats, in order of appearance."""
    found: dict[tuple[str, str], Capability] = {}
    for one in capabilities:
        found.setdefault((one.resource.text, one.ability), one)
    return tuple(found.values())
