"""Which of the delegations that a token cites support it, and whom the token is attributed to.

A token may cite delegations that do not support it: every delegation of the signer's own resources
may cite any other (D20), and a call needs only one of its proofs for each capability (I34).
Restrictions apply to everything that is cited. Lists, names and receipts follow the supporting
paths alone, so that nobody can use another's name by citing a delegation of theirs. All supporting
paths count, because the order of proofs says nothing about which one was used.

A *step* of such a path is a delegation with the capability of it that covers what is below.

Example:
    paths = SupportingPaths(links)
    step_keys = supporting_keys(call.authority.dependent, call.cited, paths)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .caveats import check_delegated, check_invoked
from .chain import MAX_COMPARISONS, Registered, has_account
from .cids import ContentKey
from .coverage import CheckCaveats, begins_by, covering_capabilities, is_own, outlives, owner_of
from .frozen_struct import AcyclicStruct
from .memberships import is_membership
from .principals import Principal
from .resources import SpaceResource
from .sign_ins import signs_in_a_key
from .tokens import Capability


class SupportUnknown(Exception):
    """The supporting paths cannot be found.

    A delegation above the token is missing, or the paths need too many comparisons.
    """


class Step(AcyclicStruct):
    """A delegation on a supporting path, with the capability that covers what is below."""

    link: Registered
    capability: Capability


@dataclass(slots=True)
class Comparisons:
    """How many capabilities may still be compared. The searches of one request can share it."""

    left: int = MAX_COMPARISONS


class SupportingPaths:
    """The supporting paths of one token, which are found upwards step by step."""

    def __init__(
        self, links: Mapping[ContentKey, Registered], comparisons: Comparisons | None = None
    ) -> None:
        """Prepare the search.

        Args:
            links: the delegations above the token. A path that needs a missing one is unknown.
            comparisons: shared with other searches; None: as many as for one token.
        """
        self._links = links
        self._comparisons = comparisons or Comparisons()

    def above_call(self, capability: Capability, cited: Iterable[Registered]) -> list[Step]:
        """Return the cited delegations that cover a capability of a call (I34, I35).

        The chain rules accepted the call: each delegation is for its invoker, and in force.

        Raises:
            SupportUnknown: this takes too many comparisons.
        """
        return self._steps(capability, cited, check_invoked)

    def only_path(
        self, dependent: Sequence[Capability], cited: Sequence[Registered]
    ) -> frozenset[ContentKey] | None:
        """Return the content keys of the delegations on the only path above a call.

        Nothing is compared: the chain rules accepted the call, so a single proof supports it, and a
        single parent supports what is below, up to the owner of the resource. The result is None if
        a delegation on the way has several parents, or the call uses rights of several owners.
        """
        owners = {owner_of(capability) for capability in dependent}
        if len(owners) != 1:
            return None
        (owner,) = owners
        found = set()
        while len(cited) == 1:
            (link,) = cited
            found.add(link.delegation.content_key)
            if link.delegation.delegator == owner:
                return frozenset(found)
            cited = [self._links[key] for key in link.parents if key in self._links]
        return None

    def above(self, step: Step) -> list[Step]:
        """Return the parents of a delegation that cover one of its capabilities (D25, D27).

        The result is empty if the signer is the root of the resource: parents support nothing then.
        Otherwise the chain rules have checked that all parents are for the signer (D22).

        Raises:
            SupportUnknown: a parent is missing, or this takes too many comparisons.
        """
        delegation = step.link.delegation
        if is_own(delegation.delegator, step.capability):
            return []
        supporting = []
        for key in step.link.parents:
            parent = self._links.get(key)
            if parent is None:
                raise SupportUnknown
            granted = parent.delegation
            if outlives(granted, delegation) and begins_by(granted, delegation):
                supporting.append(parent)
        return self._steps(step.capability, supporting, check_delegated)

    def _steps(
        self, capability: Capability, grants: Iterable[Registered], check_caveats: CheckCaveats
    ) -> list[Step]:
        """Return the grants that cover a capability, with each capability that does."""
        steps: list[Step] = []
        for grant in grants:
            self._comparisons.left -= len(grant.delegation.capabilities)
            if self._comparisons.left < 0:  # as for the chain rules, a client chooses the sizes
                raise SupportUnknown
            covering = covering_capabilities(capability, grant.delegation, check_caveats)
            steps += [Step(grant, granted) for granted in covering]
        return steps


def supporting_keys(
    dependent: Iterable[Capability], cited: Sequence[Registered], paths: SupportingPaths
) -> frozenset[ContentKey]:
    """Return the content keys of all delegations that support a call.

    Args:
        dependent: the capabilities of the call for which its invoker is not root.
        cited: the delegations that the call cites; the chain rules accepted it.
        paths: of the call.
    Raises:
        SupportUnknown: the supporting paths cannot be found.
    """
    dependent = tuple(dependent)
    only_path = paths.only_path(dependent, cited)
    if only_path is not None:  # as for nearly every call
        return only_path
    pending: list[Step] = []
    for capability in dependent:
        pending += paths.above_call(capability, cited)
    found = set()
    visited = set()
    while pending:
        step = pending.pop()
        key = step.link.delegation.content_key
        place = (key, id(step.capability))  # a capability is an object of its delegation
        if place in visited:
            continue
        visited.add(place)
        found.add(key)
        pending += paths.above(step)
    return frozenset(found)


def listing_accounts(registered: Registered, paths: SupportingPaths) -> tuple[Principal, ...]:
    """Return the principals in whose accounts a delegation is listed.

    These are the signer and the signers of the delegations that support it, if they have an
    account. Whoever signed another delegation that it cites is not responsible for it, and could
    not revoke it.

    Args:
        registered: the chain rules accepted it.
        paths: of the delegation.
    Raises:
        SupportUnknown: the supporting paths cannot be found.
    """
    accounts: dict[Principal, None] = {}
    visited = set()
    pending = [Step(registered, capability) for capability in registered.delegation.capabilities]
    if has_account(registered.delegation):
        accounts[registered.delegation.delegator] = None
    # All accounts above are found soon in a chain that uses them all. Comparing each of its
    # capabilities at each level would refuse a large one that the chain rules accepted.
    while pending and len(accounts) < len(registered.accounts):
        step = pending.pop()
        link = step.link
        place = (link.delegation.content_key, id(step.capability))
        if place in visited:
            continue
        visited.add(place)
        above = _only_account(step)
        if above is not None:
            accounts[above] = None
            continue
        if has_account(link.delegation):
            accounts[link.delegation.delegator] = None
        pending += paths.above(step)
    return tuple(accounts)


def least_accounts(registered: Registered) -> tuple[Principal, ...]:
    """Return those of `listing_accounts` that are known without the paths.

    These are the signer, and the owners of the resources, who signed the first delegation of each
    path. An owner can revoke whatever is below the own resources, so a delegation whose paths are
    unknown is listed for them.
    """
    least = {registered.delegation.delegator}
    for capability in registered.delegation.capabilities:
        owner = owner_of(capability)
        if owner is not None:
            least.add(owner)
    return tuple([account for account in registered.accounts if account in least])


def is_listed_for_all_above(registered: Registered) -> bool:
    """Return whether `listing_accounts` are all accounts above, which is known without the paths.

    It holds for nearly every delegation.
    """
    if not registered.parents:
        return True
    return any(
        _only_account(Step(registered, capability)) is not None
        for capability in registered.delegation.capabilities
    )


def _only_account(step: Step) -> Principal | None:
    """Return the only account on the paths above a step, or None if the paths have to be followed.

    The owner of a space signed the first delegation of each path to it. So this owner is among the
    accounts above, and if there is no other, it is the one.
    """
    link = step.link
    resource = step.capability.resource
    if len(link.accounts) != 1 or not isinstance(resource, SpaceResource):
        return None
    (account,) = link.accounts
    return account


Naming = Callable[[Registered, Principal | None], Principal | None]
"""A function that returns the person whom a delegation on a path names, or None to go on upwards.

The second argument is the recipient of the delegation below; None: the call itself is below.
"""


def persons_of(
    capabilities: Iterable[Capability],
    cited: Sequence[Registered],
    paths: SupportingPaths,
    naming: Naming,
) -> frozenset[Principal]:
    """Return the persons on whose rights a call depends, one for each supporting path.

    Args:
        capabilities: those of the call that matter; the invoker is not root of their resources.
        cited: the delegations that the call cites; the chain rules accepted it.
        paths: of the call.
        naming: which person a delegation names. If no delegation of a path names one, it leads to
            the signer of its first delegation.
    Raises:
        SupportUnknown: the supporting paths cannot be found.
    """
    pending: list[tuple[Step, Principal | None]] = []
    for capability in capabilities:
        pending += [(step, None) for step in paths.above_call(capability, cited)]
    persons = set()
    visited = set()
    while pending:
        step, recipient_below = pending.pop()
        delegation = step.link.delegation
        place = (delegation.content_key, id(step.capability), recipient_below)
        if place in visited:
            continue
        visited.add(place)
        person = naming(step.link, recipient_below)
        if person is not None:
            persons.add(person)
            continue
        steps_above = paths.above(step)
        if not steps_above:
            persons.add(delegation.delegator)
        pending += [(above, delegation.delegate) for above in steps_above]
    return frozenset(persons)


def granted_by(owner: Principal) -> Naming:
    """Return how the person to whom an owner gave a right is named, for limits (ST22).

    This is the nearest of these, from the call upwards: the member of a membership; the recipient
    of the owner's grant. So all further keys and wallets to which the right is passed on are one
    person. A key that the owner signed in is the owner, and those to whom it passes a right on are
    recipients of the owner's.
    """

    def name(link: Registered, recipient_below: Principal | None) -> Principal | None:
        delegation = link.delegation
        if is_membership(delegation):  # also where an admin's membership is above (TM2)
            return delegation.delegate
        if delegation.delegator != owner:
            return None
        if not signs_in_a_key(delegation, registered_at=link.registered_at):
            return delegation.delegate
        return owner if recipient_below is None else recipient_below

    return name


def responsible_for(owner: Principal) -> Naming:
    """Return how the person who used a right of an owner is named (M62).

    This is who `granted_by` names, unless a wallet further down signed in a key: then it is this
    wallet. So who passes a right on to a further key is still named.
    """
    name_granted = granted_by(owner)

    def name(link: Registered, recipient_below: Principal | None) -> Principal | None:
        delegation = link.delegation
        is_of_another = delegation.delegator != owner and not is_membership(delegation)
        if is_of_another and signs_in_a_key(delegation, registered_at=link.registered_at):
            return delegation.delegator
        return name_granted(link, recipient_below)

    return name


def is_found_without_parents(link: Registered) -> bool:
    """Return whether `responsible_for` names a person at a delegation itself.

    The delegations above it need not be read then, as for nearly every call.
    """
    return not link.parents or signs_in_a_key(link.delegation, registered_at=link.registered_at)
