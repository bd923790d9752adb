"""The grants that a manifest's DID waits for: one for each owner, with the shortest lifetime asked for (MF12).

The owner of any space in a grant can revoke all of it (W22), so rights of different owners are granted apart. Rights of
one owner are never split: a right to decrypt that outlived the right to read would still open a value that was kept.

Example:
    for grant in target_grants(request.delegation_targets[0], owner=session.owner):
        print(grant.did, grant.owner, grant.ttl_s)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from capabilities.abilities import CAPABILITIES_READ, satisfies
from capabilities.resources import root_of
from capabilities.tokens import Capability

from ..session import distinct_capabilities, space_of
from .manifests import DelegationTarget, requested_capabilities, served


@dataclass(frozen=True, slots=True)
class TargetGrant:
    """One grant of those that a target waits for.

    Attributes:
        did: the recipient.
        name: the app's name, for people.
        owner: DID of the owner of everything in it.
        capabilities: what it grants, at least one; never the reading of capabilities, which makes a session (IP2).
        ttl_s: for how long it is asked for, seconds.
    """

    did: str
    name: str
    owner: str
    capabilities: tuple[Capability, ...]
    ttl_s: float


def target_grants(
    target: DelegationTarget, *, owner: str, features: Sequence[str] = (), leave_out: bool = False
) -> tuple[TargetGrant, ...]:
    """Return the grants that a target waits for, grouped by owner."""
    groups: dict[str, list[Capability]] = {}
    lifetimes_ms: dict[str, int] = {}
    for resource in served(target.resources, features, leave_out=leave_out):
        lifetime_ms = target.expiry_ms if resource.expiry_ms is None else resource.expiry_ms
        for one in requested_capabilities([resource], space_id=lambda name: space_of(owner, name).text):
            if not satisfies(one.ability, CAPABILITIES_READ):
                root = root_of(one.resource) or one.resource.text
                groups.setdefault(root, []).append(one)
                lifetimes_ms[root] = min(lifetime_ms, lifetimes_ms.get(root, target.expiry_ms))
    return tuple(
        TargetGrant(target.did, target.name, root, distinct_capabilities(capabilities), lifetimes_ms[root] / 1000)
        for root, capabilities in groups.items()
    )
