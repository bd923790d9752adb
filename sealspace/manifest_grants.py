"""The grants that a manifest's DID waits for: one for each space, each no longer than it was asked for (MF12).

The owner of any space in a grant can revoke all of it (W22), and other clients refuse a grant that names two spaces; so
each space, and the networks of each owner, get a grant of their own.

Example:
    for grant in target_grants(request.delegation_targets[0], owner=session.owner):
        print(grant.did, grant.root, grant.ttl_s)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from capabilities.abilities import CAPABILITIES_READ, satisfies
from capabilities.resources import SpaceResource, network_of, root_of
from capabilities.tokens import Capability

from .manifests import DelegationTarget, ResourceRequest, requested_capabilities, served
from .session import space_of


@dataclass(frozen=True, slots=True)
class TargetGrant:
    """One grant of those that a target waits for.

    Attributes:
        did: the recipient.
        name: the app's name, for people.
        root: id of the space, or DID of the networks' owner.
        capabilities: what it grants, at least one; never the reading of capabilities, which makes a session (IP2).
        ttl_s: for how long it is asked for, seconds.
    """

    did: str
    name: str
    root: str
    capabilities: tuple[Capability, ...]
    ttl_s: float


def target_grants(
    target: DelegationTarget, *, owner: str, features: Sequence[str] = (), leave_out: bool = False
) -> tuple[TargetGrant, ...]:
    """Return the grants that a target waits for, grouped by space and lifetime.

    Args:
        target: of a resolved manifest or a request.
        owner: DID of the owner whose spaces short names mean.
        features: of the node; see `manifests.served`.
        leave_out: leave out services that the node does not serve, instead of refusing the target.
    Raises:
        InvalidInput: a name is no space, or as `manifests.served`.
    """
    groups: dict[tuple[str, int], list[Capability]] = {}
    for resource in served(target.resources, features, leave_out=leave_out):
        # A resource's own lifetime is kept: within one token it would become the longest of all.
        lifetime_ms = target.expiry_ms if resource.expiry_ms is None else min(resource.expiry_ms, target.expiry_ms)
        for one in _capabilities(resource, owner):
            if not satisfies(one.ability, CAPABILITIES_READ):
                groups.setdefault((_root(one), lifetime_ms), []).append(one)
    return tuple(
        TargetGrant(target.did, target.name, root, tuple(capabilities), lifetime_ms / 1000)
        for (root, lifetime_ms), capabilities in groups.items()
    )


def _capabilities(resource: ResourceRequest, owner: str) -> tuple[Capability, ...]:
    return requested_capabilities([resource], space_id=lambda name: space_of(owner, name).text)


def _root(one: Capability) -> str:
    if isinstance(one.resource, SpaceResource):
        return one.resource.space.text
    network = network_of(one.resource)
    return (root_of(one.resource) or one.resource.text) if network is None else network.owner
