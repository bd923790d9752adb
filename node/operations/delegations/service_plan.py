"""Which call of the services beside KV a token asks for (wire 4.5, 4.7).

Each of them is an outcome: a token that asks for more than one, or for values besides, is refused before anything runs
(Q3). What is not listed here is authorised and does nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from capabilities.abilities import CAPABILITIES_READ, SPACE_CREATE, SPACE_INFO, SPACE_LIST
from capabilities.resources import SpaceId, SpaceResource
from capabilities.tokens import Capability

from ..errors import BadOption


class ServiceVerb(Enum):
    """The calls of services beside KV."""

    READ_CAPABILITIES = CAPABILITIES_READ
    LIST_SPACES = SPACE_LIST
    MAKE_SPACE = SPACE_CREATE
    READ_SPACE = SPACE_INFO


@dataclass(frozen=True, slots=True)
class ServiceStep:
    """One call of a token: verb, space, and the path as signed; empty where there is none."""

    verb: ServiceVerb
    space: SpaceId
    path: str


def service_step(capabilities: tuple[Capability, ...], *, beside: bool) -> ServiceStep | None:
    """Return the one call that a token asks for; None when it asks for none.

    Args:
        capabilities: of the token.
        beside: whether it asks for values too.

    Raises:
        BadOption: its outcomes cannot share an answer; nothing has run (Q3).
    """
    steps = list(_steps(capabilities))
    if len(steps) > 1 or (steps and beside):
        raise BadOption("Multiple invocation outcomes require a homogeneous KV get or metadata batch")
    return steps[0] if steps else None


def _steps(capabilities: tuple[Capability, ...]) -> Iterator[ServiceStep]:
    for capability in capabilities:
        resource = capability.resource
        verb = _VERBS.get(capability.ability)
        if verb is None or not isinstance(resource, SpaceResource):
            continue
        if (resource.query, resource.fragment) == (None, None) and _names(resource, verb):
            yield ServiceStep(verb, resource.space, resource.path or "")


def _names(resource: SpaceResource, verb: ServiceVerb) -> bool:
    """Whether the resource is one that the call can be about."""
    match verb:
        case ServiceVerb.READ_CAPABILITIES:
            return (resource.service, resource.path) == ("capabilities", "all")
        case ServiceVerb.LIST_SPACES:
            return resource.service == "space" and not resource.path
        case ServiceVerb.MAKE_SPACE | ServiceVerb.READ_SPACE:
            return resource.service == "space" and bool(resource.path)


_VERBS = {verb.value: verb for verb in ServiceVerb}
