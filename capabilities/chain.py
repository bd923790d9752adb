"""Verification of delegation chains.

The functions are pure. The caller passes in the token, the stored delegations that it cites, the
markers of their closures and the time. Each function follows its list in the specification
(sections 3.2, 4.3 and 5.5) step by step, with the rule's id at its line. The order decides which
error a caller sees.

Principals in tokens are already canonical where possible, so they are compared with `==` (P4).

A closure is a delegation with all its ancestors, by content key. A marker says whether a
delegation is live or revoked. A member without a marker counts as not found, because an unknown
delegation is not trusted.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from math import floor
from typing import Literal

from .abilities import HOST, REVOKE
from .capability_errors import CaveatRefused, ChainError, MalformedToken
from .caveats import check_delegated, check_invoked, mentions_selector, selection_of
from .cids import ContentKey, Digest, cid_text
from .coverage import begins_by, is_own, outlives, reason_not_covered
from .facts import policy_profile_refusal
from .frozen_struct import AcyclicStruct
from .machine_tokens import cited_grant, is_machine_token
from .principals import Principal, is_wallet
from .references import CID_URN, CitedDelegation
from .resources import OpaqueResource, SpaceId, SpaceResource
from .sql_caveats import check_understood, is_sql
from .tokens import MAX_CAPABILITIES, Capability, Delegation, Invocation, Revocation, check_window

MAX_CHAIN_NODES = 64
"""Most distinct delegations in a closure (D30); it bounds the reads for one request."""

MAX_COMPARISONS = 262_144
"""Most comparisons of a requested with a granted capability for one token; they take some 80 ms if
nothing matches."""

MAX_LIFETIME_S = 300


class Marker(Enum):
    """The state of a registered delegation: live or revoked."""

    LIVE = "live"
    REVOKED = "revoked"


BOUNDARIES = {
    "delegation": "child-caveats-not-subset-of-parent",
    "invocation": "invocation-caveats-not-subset-of-chain",
}
"""Prefixes of caveat errors, which tell clients whether a delegation or a call was refused."""

# Every member of every closure is compared with it, and a global is read faster than an attribute.
_LIVE = Marker.LIVE

Markers = Mapping[ContentKey, Marker]
"""The markers that the caller read, by content key; a delegation without one is unknown."""


class Ancestor(AcyclicStruct):
    """The identifiers of one delegation in a chain."""

    content_key: ContentKey
    cid: Digest


class Registered(AcyclicStruct):
    """A stored delegation with its ancestors.

    Attributes:
        delegation: Verified.
        closure: Itself and all its ancestors, itself first.
        not_before: The latest not-before of the closure, epoch seconds.
        expires_at: The earliest expiry of the closure, epoch seconds.
        parents: The proofs that it cites, by content key.
        registered_at: Epoch seconds.
        accounts: The principals with an account who signed it or one of its ancestors.
    """

    delegation: Delegation
    closure: tuple[Ancestor, ...]
    not_before: float | None
    expires_at: float | None
    parents: tuple[ContentKey, ...]
    missing_ancestor: bool = False
    registered_at: float = 0.0
    accounts: tuple[Principal, ...] = ()


class Authority(AcyclicStruct):
    """The delegations that authorise an invocation.

    Attributes:
        live: The content keys that must still be live when the call's result is committed.
        dependent: The capabilities for which the invoker is not root.
    """

    live: tuple[ContentKey, ...]
    dependent: tuple[Capability, ...]


def judge_registration(
    delegation: Delegation, parents: Sequence[Registered | None], marks: Markers, *, now: float
) -> Registered:
    """Decide whether a delegation may be registered (D6, D20 to D30).

    Args:
        delegation: Verified.
        parents: The stored delegation of each cited proof, in signed order; None: not stored.
        marks: The markers of all members of the parents' closures.
        now: Epoch seconds.

    Returns:
        The record to store: the delegation, its closure, the window of the whole closure.

    Raises:
        ChainError: The first rule that is broken.

    Does not check:
        The signature (D5), whether it is registered already (D4), whether it is itself revoked.
    """
    refusal = policy_profile_refusal(delegation.facts)
    if refusal is not None:  # it is no ordinary grant (D2, 3.8)
        raise ChainError("policy-profile-refused", refusal)
    known, above = _with_ancestors(parents)
    # D31: a delegation cannot be its own ancestor, because its hash is unknown before it is signed.
    # If the store contains such a cycle, the member is counted once and no loop is endless.
    itself = Ancestor(delegation.content_key, delegation.cid)
    closure = (itself, *[one for key, one in above.items() if key != itself.content_key])
    if len(closure) > MAX_CHAIN_NODES:  # each request reads the whole closure (D3, D30)
        raise ChainError("chain-too-large")
    check_window(delegation, now)  # an expired token is not stored (D6)
    dependent = _dependent(delegation.delegator, delegation.capabilities)
    # Every proof is stored and cited once, those of a root's grant too (D21, D22, Q13, Q26).
    _check_stored(delegation.parents, parents, dependent)
    if dependent:
        _check_delegators(delegation, known)
    # D23. A root's grant is checked too: with a revoked delegation in its closure, no invocation
    # under it would be accepted.
    _check_live(delegation.parents, known, marks, code="parent-revoked", role="parent")
    if dependent:  # D20: the signer is root of everything else, so parents need not support it
        _check_not_terminal(delegation, known, now=now)
        # D25: only parents that outlive the delegation remain. D6 checked its own window, so they
        # are valid now (D26).
        supporting = _containing_window(delegation, known)
        # D27. Each parent was judged in the same way when it was registered (D28).
        _check_covered(dependent, supporting, boundary="delegation")
    # D32: a root's grants are checked too
    _check_conditions(delegation.capabilities, check_understood, boundary="delegation")
    keys = tuple([parent.delegation.content_key for parent in known])
    begins, ends = _joint_window(delegation, known)  # invocations are judged by it (D29, I33)
    return Registered(
        delegation=delegation,
        closure=closure,
        not_before=begins,
        expires_at=ends,
        parents=keys,
        registered_at=now,
        accounts=_accounts_above(delegation, known),
    )


def judge_invocation(
    invocation: Invocation, cited: Sequence[Registered | None], marks: Markers, *, now: float
) -> Authority:
    """Decide whether an invocation is authorised (I13, I30 to I35, I39).

    Args:
        invocation: Verified.
        cited: The stored delegation of each cited proof, in signed order; None: not stored.
        marks: The markers of all members of the cited closures.
        now: Epoch seconds.

    Returns:
        The authority. Root authority (1.7) or a live grant covers every capability, and every
        capability meets its own conditions.

    Raises:
        ChainError: The first rule that is broken.

    Does not check:
        Signature, own window (check_window), lifetime (check_lifetime), replay, whether spaces are
        hosted.
    """
    known, members = _with_ancestors(cited)
    if len(members) > MAX_CHAIN_NODES:  # all of them are read for this request (I13, D30)
        raise ChainError("chain-too-large")
    dependent = _dependent(invocation.invoker, invocation.capabilities)
    _check_stored(invocation.parents, cited, dependent)  # for a root's call too (I31, Q13)
    if dependent:  # I30: a root's authority does not come from its proofs
        for grant in known:
            # a grant to somebody else does not authorise the invoker (I32)
            if grant.delegation.delegate != invocation.invoker:
                raise ChainError("invoker-unauthorized")
        # a revocation ends everything below it (I32)
        _check_live(invocation.parents, known, marks, code="delegation-revoked", role="invoked")
        for grant in known:
            if not _is_in_window(grant, now):  # a grant ends with its first ancestor (I33)
                first = dependent[0]
                raise ChainError("action-unauthorized", first.resource.text, first.ability)
        # each capability on its own, with its caveats, by one of a cited grant (I34, I35, I37)
        _check_covered(dependent, [grant.delegation for grant in known], boundary="invocation")
    # I39: repeating a caveat (I35) restricts nothing, so the request itself has to meet it.
    _check_conditions(invocation.capabilities, _check_met, boundary="invocation")
    live = tuple(members) if dependent else ()
    return Authority(live=live, dependent=dependent)


def check_lifetime(
    invocation: Invocation, now: float, max_lifetime_s: int = MAX_LIFETIME_S
) -> None:
    """Check that an invocation does not expire too late (I4).

    Raises:
        ChainError: `lifetime-too-long`: it expires later than the current second plus
            `max_lifetime_s`.
    """
    if invocation.expires_at > floor(now) + max_lifetime_s:
        raise ChainError("lifetime-too-long")


def judge_revocation(
    revocation: Revocation,
    proofs: Sequence[Registered | None],
    targets: Sequence[Registered | None],
    marks: Markers,
    *,
    now: float,
    team: Principal | None = None,
) -> Principal:
    """Decide whether a revocation is authorised (V5, W20 to W24, TM7).

    Args:
        revocation: Verified.
        proofs: The stored delegation of each cited proof, in signed order; None: not stored.
        targets: The stored delegation of each target, in the order of the revocation; None: not
            stored.
        marks: The markers of all members of the proofs' closures.
        now: Epoch seconds.
        team: The team of which the first proof is an admin's sign-in, or None.

    Returns:
        The principal on whose behalf the targets are revoked. A revoked target may be revoked again
        (W24).

    Raises:
        ChainError: `revocation-outside-window`: it is expired or not valid yet.
        ChainError: `parent-not-found`: a target is not registered (W20).
        ChainError: `revoker-unauthorized`: the principal that it acts for may not revoke a target
            (W21 to W23). Targets are checked in order; the first failure counts (V5).

    Does not check:
        The signature. The size of closures: one proof is read, and no closure is larger than
        registration allows.
    """
    check_window(revocation, now)
    acting: Principal | None = None
    for cited, target in zip(revocation.targets, targets, strict=True):
        if target is None:  # an unknown delegation has no known delegator (W20)
            raise ChainError("parent-not-found")
        acting = _revoker(revocation, cited, proofs, target.delegation, marks, now=now)
        if acting is None and team is not None:
            acting = _revoker(
                revocation, cited, proofs, target.delegation, marks, now=now, team=team
            )
        if acting is None:
            raise ChainError("revoker-unauthorized")
    assert acting is not None  # a revocation has a target
    return acting  # the same for every target: the signer, or the delegator of the only proof


def _revoker(
    revocation: Revocation,
    cited: CitedDelegation,
    proofs: Sequence[Registered | None],
    target: Delegation,
    marks: Markers,
    *,
    now: float,
    team: Principal | None = None,
) -> Principal | None:
    """Return the principal on whose behalf a target is revoked; None if it may not be (W21 to W23).

    With `team`, the right is one of that team, and so is the target (TM7).
    """
    acting = acting_principal(
        revocation.revoker,
        revocation.parents,
        proofs,
        target,
        ability=REVOKE,
        named=cited.digest,
        marks=marks,
        now=now,
        team=team,
    )
    # otherwise anybody could revoke the grants of others (W22)
    if acting is None or not may_manage(team or acting, target):
        return None
    return acting


def acting_principal(
    signer: Principal,
    cited: Sequence[CitedDelegation],
    proofs: Sequence[Registered | None],
    target: Delegation,
    *,
    ability: str,
    named: Digest | None,
    marks: Markers,
    now: float,
    team: Principal | None = None,
) -> Principal | None:
    """Return the principal on whose behalf a token revokes or inspects a delegation (W21, W23).

    This principal is the signer of the token or, if the token cites a proof, the delegator of the
    proof.

    Args:
        signer: The signer of the token.
        cited: The proofs that the token cites.
        proofs: The stored delegation of each, or of the first alone; None: not stored.
        target: The delegation.
        ability: The requested action, for example revocation.
        named: The digest by which the token names the delegation.
        marks: Of the closures of the proofs; a proof is rejected if a member has no marker.
        now: Epoch seconds.
        team: The team of which the proof is an admin's sign-in. The proof's right then has to be
            one in a space of the team, and not of the admin (TM7).

    Returns:
        None if the proof does not allow the action.
    """
    if not cited:
        return signer  # the token acts for nobody else (W23)
    # W21: exactly one proof. A token with a bad proof does not fall back to its signer's rights.
    proof = proofs[0] if len(cited) == len(proofs) == 1 else None
    if (
        proof is None
        or proof.delegation.delegate != signer
        or not is_in_force(proof, marks, now=now)
    ):
        return None
    granted = proof.delegation
    # The token may name the delegation by another encoding than the stored one; a proof may name
    # either of them.
    urns = {f"{CID_URN}{cid_text(digest)}" for digest in (target.cid, named) if digest is not None}
    if not any(
        row.ability == ability and _covers_delegation(row, team or granted.delegator, urns)
        for row in granted.capabilities
    ):
        return None
    return granted.delegator


def is_in_force(grant: Registered, marks: Markers, *, now: float) -> bool:
    """Return whether a delegation is unrevoked and valid at `now` (I32, I33).

    All its ancestors must be unrevoked and valid too.

    Args:
        grant: The delegation.
        marks: Of its closure; a member without one counts as not found.
        now: Epoch seconds.
    """
    is_live = all(marks.get(member.content_key) is _LIVE for member in grant.closure)
    return is_live and not grant.missing_ancestor and _is_in_window(grant, now)


def may_manage(principal: Principal, target: Delegation) -> bool:
    """Return whether a principal may revoke or inspect a delegation (W22).

    These principals are the delegator, the delegate, and the owners of the spaces in its
    capabilities.
    """
    owners = [space.owner for space in mentioned_spaces(target.capabilities)]
    return principal in (target.delegator, target.delegate, *owners)


def hosted_spaces(delegation: Delegation) -> tuple[SpaceId, ...]:
    """Return the spaces that a delegation asks a node to host (D40, D44).

    These are the spaces for which the delegation grants the ability `space/host`. The ability
    counts only on the resource `<space>/space`. The chain rules decide whether its signer may host
    them (D41). The audience is not checked (D42).
    """
    hosted = {
        capability.resource for capability in delegation.capabilities if capability.ability == HOST
    }
    if not hosted:  # nearly every delegation
        return ()
    return tuple(
        space
        for space in mentioned_spaces(delegation.capabilities)
        if SpaceResource(space, "space") in hosted
    )


def mentioned_spaces(capabilities: Iterable[Capability]) -> tuple[SpaceId, ...]:
    """Return the spaces mentioned in the capabilities.

    The order is kept, without duplicates.
    """
    spaces: dict[SpaceId, None] = {}
    for capability in capabilities:
        resource = capability.resource
        if isinstance(resource, SpaceResource):
            spaces[resource.space] = None
    return tuple(spaces)


def _dependent(principal: Principal, capabilities: Iterable[Capability]) -> tuple[Capability, ...]:
    """Return the capabilities on other principals' resources (R1 to R3, T7).

    The order is unchanged.
    """
    dependent = []
    for capability in capabilities:
        if not is_own(principal, capability):
            dependent.append(capability)
    return tuple(dependent)


def _with_ancestors(
    cited: Iterable[Registered | None],
) -> tuple[list[Registered], dict[ContentKey, Ancestor]]:
    """Return the stored proofs and all their ancestors.

    The ancestors are in a dictionary by content key, which contains the proofs too.
    """
    known: list[Registered] = []
    members: dict[ContentKey, Ancestor] = {}
    for grant in cited:
        if grant is None:
            continue
        known.append(grant)
        for member in grant.closure:
            members[member.content_key] = member
    return known, members


def has_account(delegation: Delegation) -> bool:
    """Return whether the signer of a delegation has an account.

    Wallets and owners of the granted spaces have one. A key that delegates further has none.
    """
    signer = delegation.delegator
    return is_wallet(signer) or any(
        space.owner == signer for space in mentioned_spaces(delegation.capabilities)
    )


def _accounts_above(delegation: Delegation, parents: Iterable[Registered]) -> tuple[Principal, ...]:
    """Return the principals with an account who signed a delegation or one above it.

    Everything that is cited counts, because a wallet that moves ends all of it (TM18). A delegation
    is listed in fewer accounts; see `support`.
    """
    accounts = [delegation.delegator] if has_account(delegation) else []
    for parent in parents:
        accounts += parent.accounts
    return tuple(dict.fromkeys(accounts))


def _check_stored(
    cited: Sequence[CitedDelegation],
    found: Sequence[Registered | None],
    dependent: Sequence[Capability],
) -> None:
    """Check that all cited proofs and their ancestors are stored.

    No proof may be repeated. If there are capabilities in `dependent`, at least one proof must be
    cited.
    """
    if dependent and not cited:  # nothing could support them (D21, I31)
        raise ChainError("parent-not-found")
    if len(cited) != len(found):
        raise RuntimeError(
            "`found` must contain the stored delegation, or None, for each cited proof"
        )
    seen: set[ContentKey] = set()
    for grant in found:
        if grant is None:  # the proof is not stored (D22, I31)
            raise ChainError("parent-not-found")
        if grant.missing_ancestor:  # an ancestor is not stored, so it may be revoked (D22, I31)
            raise ChainError("parent-not-found")
        if grant.delegation.content_key in seen:  # the proof is cited twice (D22, I31)
            raise ChainError("parent-not-found")
        seen.add(grant.delegation.content_key)


def _check_live(
    cited: Sequence[CitedDelegation],
    grants: Sequence[Registered],
    marks: Markers,
    *,
    code: str,
    role: str,
) -> None:
    """Check that no cited delegation or ancestor is revoked.

    All of them must be registered. `code` is the error for a revoked proof; a revoked ancestor has
    its own error, in which `role` names the proof.
    """
    for named, grant in zip(cited, grants, strict=True):
        for member in grant.closure:
            mark = marks.get(member.content_key)
            if mark is None:  # the store does not know this member, so it may have been revoked
                raise ChainError("parent-not-found")
            if mark is not _LIVE:
                if member == grant.closure[0]:  # a closure begins with the proof itself
                    raise ChainError(code, named.echo)
                raise ChainError("ancestor-revoked", cid_text(member.cid), f"{role}={named.echo}")


def _check_covered(
    dependent: Sequence[Capability],
    grants: Sequence[Delegation],
    *,
    boundary: Literal["delegation", "invocation"],
) -> None:
    """Check that the cited grants cover every requested capability.

    A single capability of one grant must cover each requested one, with the caveats. Ancestors of
    the grants do not count.
    """
    # The upper bound settles ordinary tokens without counting the rows of their grants.
    if (
        len(dependent) * len(grants) * MAX_CAPABILITIES > MAX_COMPARISONS
        and len(dependent) * sum([len(grant.capabilities) for grant in grants]) > MAX_COMPARISONS
    ):
        raise ChainError("chain-too-large")
    # A delegation may narrow a selector, a call has to repeat its grant's caveats (3.5, I35).
    check_caveats = check_delegated if boundary == "delegation" else check_invoked
    for capability in dependent:
        reason = reason_not_covered(capability, grants, check_caveats)
        if reason:  # the resource and ability are granted, but not with these caveats
            raise ChainError("caveats-not-contained", BOUNDARIES[boundary], reason)
        if reason is not None:  # it is empty: no grant has the resource and ability
            code = "capability-unauthorized" if boundary == "delegation" else "action-unauthorized"
            raise ChainError(code, capability.resource.text, capability.ability)


def _check_conditions(
    capabilities: Iterable[Capability],
    check: Callable[[Capability], object],
    *,
    boundary: Literal["delegation", "invocation"],
) -> None:
    """Check each capability's own caveats; `check` raises CaveatRefused."""
    for capability in capabilities:
        try:
            check(capability)
        except CaveatRefused as refusal:
            raise ChainError(
                "caveats-not-contained", BOUNDARIES[boundary], refusal.text
            ) from refusal


def _check_met(capability: Capability) -> None:
    """Check that a requested resource meets its capability's caveat (I39).

    SQL caveats are met by the statements; the operation checks them (SQ20).
    """
    if not capability.caveats:  # nothing to meet, as in nearly every call
        return
    if not is_sql(capability) or mentions_selector(capability.caveats):
        selection_of(capability.resource, capability.caveats)


def _check_delegators(delegation: Delegation, parents: Iterable[Registered]) -> None:
    """Check that every parent was granted to the delegation's signer (D22)."""
    for parent in parents:
        # otherwise anybody could pass on what was granted to somebody else
        if parent.delegation.delegate != delegation.delegator:
            raise ChainError("delegator-unauthorized", delegation.delegator)


def _check_not_terminal(
    delegation: Delegation, parents: Iterable[Registered], *, now: float
) -> None:
    """Check that the parents may be cited (D24).

    A terminal parent may not be cited. The exception is a machine token under a trust (OX4). A
    machine token cites nothing else, except that an admin's cites the membership (TM6).
    """
    for parent in parents:
        proof = parent.delegation
        if not (proof.terminal or is_machine_token(delegation)):
            continue
        # The parent is terminal, or the delegation is a machine token. Of these only a machine
        # token under a trust passes, and one that an admin signed.
        try:
            cited_grant(delegation, proof, registered_at=now, cited_at=parent.registered_at)
        except MalformedToken as refusal:
            raise ChainError("parent-terminal") from refusal


def _containing_window(child: Delegation, parents: Iterable[Registered]) -> list[Delegation]:
    """Return the parents whose validity window contains the child's (D25)."""
    supporting = []
    expiry_failed = False
    for parent in parents:
        outer = parent.delegation
        if not outlives(outer, child):
            expiry_failed = True
        elif begins_by(outer, child):
            supporting.append(outer)
    if not supporting:
        # If any parent was rejected for its expiry, that is the reason given.
        raise ChainError("expiry-exceeds-parent" if expiry_failed else "not-before-precedes-parent")
    return supporting


def _joint_window(
    delegation: Delegation, parents: Sequence[Registered]
) -> tuple[float | None, float | None]:
    """Return the period in which a delegation and its ancestors are valid.

    The period is from the latest not-before to the earliest expiry.
    """
    windows: list[Delegation | Registered] = [delegation, *parents]
    return (
        max([one.not_before for one in windows if one.not_before is not None], default=None),
        min([one.expires_at for one in windows if one.expires_at is not None], default=None),
    )


def _is_in_window(grant: Registered, now: float) -> bool:
    """Return whether a delegation and all its ancestors are valid at `now` (I33).

    The expiry is exclusive here, unlike in a token's own window (T4).
    """
    return (grant.expires_at is None or now < grant.expires_at) and (
        grant.not_before is None or now >= grant.not_before
    )


def _covers_delegation(row: Capability, owner: Principal, urns: set[str]) -> bool:
    """Return whether a capability permits managing a delegation.

    Managing means revoking or inspecting. `urns` identify the delegation; `owner` is the one in
    whose name the capability was granted. A capability with caveats never permits it: no caveat is
    defined for managing a delegation, and an unknown caveat must not be ignored.
    """
    if row.caveats:
        return False
    resource = row.resource
    if isinstance(resource, OpaqueResource):
        return resource.text in urns
    if resource.space.owner != owner or resource.service != "delegation" or resource.path:
        return False
    return resource.query is None and resource.fragment is None
