"""The person to whom a call is attributed (M62).

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
    is_found_without_parents,
    persons_of,
    responsible_for,
)

from ..services import Services
from .authorise import Call, closure_contents
from .owner_authority import links_of


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
    used = []
    for capability in call.authority.dependent:
        resource = capability.resource
        is_in_space = isinstance(resource, SpaceResource) and resource.space == space
        if is_in_space and satisfies(capability.ability, ability):
            used.append(capability)
    links: Mapping[ContentKey, Registered] = {}
    if needs_parents:
        links = await links_of(services, closure_contents(call.cited))
    try:
        persons = persons_of(used, call.cited, SupportingPaths(links), naming)
    except SupportUnknown:
        return invoker
    return next(iter(persons)) if len(persons) == 1 else invoker
