"""Whether the capabilities of a delegation cover those of a token that cites it.

`chain` decides with these functions whether a token is authorised, and `support` by which of the
delegations that it cites.
"""

from collections.abc import Callable, Iterable

from .abilities import sufficient_for
from .capability_errors import CaveatRefused
from .caveats import Caveats
from .machine_tokens import is_machine_token
from .principals import Principal
from .resources import SpaceResource, extends, root_of
from .sql_caveats import contains, is_sql
from .tokens import Capability, Delegation

CheckCaveats = Callable[[Caveats, Caveats], None]
"""A comparison of granted with requested caveats, which raises CaveatRefused: `check_delegated` or
`check_invoked`."""


def owner_of(capability: Capability) -> Principal | None:
    """Return the root of a capability's resource (R1 to R3), or None if it has none."""
    resource = capability.resource
    return resource.space.owner if isinstance(resource, SpaceResource) else root_of(resource)


def is_own(principal: Principal, capability: Capability) -> bool:
    """Return whether a principal is the root of a capability's resource (R1 to R3)."""
    return owner_of(capability) == principal


def outlives(parent: Delegation, child: Delegation) -> bool:
    """Return whether a delegation ends no earlier than another one (D25)."""
    return parent.expires_at is None or (
        child.expires_at is not None and child.expires_at <= parent.expires_at
    )


def begins_by(parent: Delegation, child: Delegation) -> bool:
    """Return whether a delegation begins no later than another one (D25)."""
    return parent.not_before is None or (
        child.not_before is not None and child.not_before >= parent.not_before
    )


def reason_not_covered(
    capability: Capability,
    grants: Iterable[Delegation],
    check_caveats: CheckCaveats,
) -> str | None:
    """Return why no grant covers a capability, or None if one does.

    The reason is the caveat rule that failed last, or "" if no grant has the resource and ability.
    Authority is never assembled from two capabilities (D27, I34).
    """
    sufficient = sufficient_for(capability.ability)
    resource = capability.resource
    reason = ""
    for grant in grants:
        is_exact = grant.facts and is_machine_token(grant)
        for row in grant.capabilities:
            if row.ability not in sufficient or not extends(resource, row.resource):
                continue
            # MT3: other grants cover what is stored below their paths, too (X3)
            if is_exact and not extends(row.resource, resource):
                continue
            refusal = _caveat_refusal(row.caveats, capability, check_caveats)
            if refusal is None:
                return None
            reason = refusal
    return reason


def covering_capabilities(
    capability: Capability, grant: Delegation, check_caveats: CheckCaveats
) -> list[Capability]:
    """Return the capabilities of a grant that cover a capability, each of them alone."""
    sufficient = sufficient_for(capability.ability)
    resource = capability.resource
    is_exact = is_machine_token(grant)
    covering = []
    for row in grant.capabilities:
        if row.ability not in sufficient or not extends(resource, row.resource):
            continue
        if is_exact and not extends(row.resource, resource):  # as above (MT3)
            continue
        if _caveat_refusal(row.caveats, capability, check_caveats) is None:
            covering.append(row)
    return covering


def _caveat_refusal(
    granted: Caveats, capability: Capability, check_caveats: CheckCaveats
) -> str | None:
    """Return the rule by which granted caveats do not permit a capability, or None if they do."""
    caveats = capability.caveats
    if not (granted or caveats):
        return None
    try:
        # Limits on a database are compared by what they allow, not by their text (SQ28).
        if not (is_sql(capability) and contains(granted, caveats)):
            check_caveats(granted, caveats)
    except CaveatRefused as refusal:
        return refusal.text
    return None
