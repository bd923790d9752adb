"""The person to whom a call is attributed (M62), and who is charged for it (ST22).

Only the delegations that support the call count, and not everything that it cites
(`capabilities.support`).
"""

from collections.abc import Mapping

from capabilities.abilities import satisfies
from capabilities.chain import Registered
from capabilities.cids import ContentKey
from capabilities.principals import Principal
from capabilities.resources import SpaceId, SpaceResource
from capabilities.support import (
    SupportingPaths,
    SupportUnknown,
    granted_by,
    is_found_without_parents,
    persons_of,
    responsible_for,
)
from capabilities.tokens import Capability

from ..services import Services
from .authorise import Call, closure_contents
from .owner_authority import links_of

UNKNOWN = Principal("")
"""Stands for all persons who cannot be found; they share what one of them may use."""


async def person_of(services: Services, call: Call, space: SpaceId, ability: str) -> Principal:
    """Return the person who uses an ability in a space.

    If rights of several persons support the call, the person is unknown, and the key that called is
    named. It names nobody who did not call.

    Args:
        services: of this process.
        call: authorised for the ability in the space.
        space: the space.
        ability: the required ability.
    """
    invoker = call.invocation.invoker
    if invoker == space.owner:  # its own right, whatever it cites (R1)
        return invoker
    naming = responsible_for(space.owner)
    needs_parents = not all(map(is_found_without_parents, call.cited))
    if len(call.cited) == 1 and not needs_parents:  # nearly every call; the one proof supports it
        return naming(call.cited[0], None) or invoker
    links: Mapping[ContentKey, Registered] = {}
    if needs_parents:
        links = await links_of(services, closure_contents(call.cited))
    used = _used_capabilities(call, space, ability)
    try:
        persons = persons_of(used, call.cited, SupportingPaths(links), naming)
    except SupportUnknown:
        return invoker
    return next(iter(persons)) if len(persons) == 1 else invoker


async def charged_person_of(
    services: Services, call: Call, space: SpaceId, ability: str
) -> Principal:
    """Return the person who is charged for what a call stores in a space (ST22).

    It is the owner, or whoever has the right from the owner: no further key or wallet to which the
    right was passed on. Of several, it is always the same one, and `UNKNOWN` if they cannot be
    found.

    Args:
        services: of this process.
        call: authorised for the ability in the space.
        space: the space.
        ability: the required ability.
    """
    if call.invocation.invoker == space.owner:
        return space.owner
    naming = granted_by(space.owner)
    if len(call.cited) == 1 and not call.cited[0].parents:  # nearly always, as for the owner's keys
        return naming(call.cited[0], None) or UNKNOWN
    links = await links_of(services, closure_contents(call.cited))
    used = _used_capabilities(call, space, ability)
    try:
        persons = persons_of(used, call.cited, SupportingPaths(links), naming)
    except SupportUnknown:
        return UNKNOWN
    return min(persons, default=UNKNOWN)


def _used_capabilities(call: Call, space: SpaceId, ability: str) -> list[Capability]:
    """Return the capabilities of a call that allow an ability in a space."""
    used = []
    for capability in call.authority.dependent:
        resource = capability.resource
        is_in_space = isinstance(resource, SpaceResource) and resource.space == space
        if is_in_space and satisfies(capability.ability, ability):
            used.append(capability)
    return used
