"""Rules for deciding whether a resource's owner made a request (IP1, IP2).

The documentation calls such a request "in person". O is the owner, I the invoker:

    IP1  I is O; or
    IP2  O is a wallet; every cited proof is a sign-in of O to I; and one such sign-in is in
         force now and has `tinycloud.capabilities/read` on a space of O.

The rules are implemented only here. Operations that are reserved to the owner in person call
`owner_authority`. `owner_statement_sessions` decides which delegations count as statements of the
owner (RL4).

A person signs in to an app with a message to a key that the app generated. A grant to a backend, a
share or a grant for a manifest is a message of the same form, so the message itself has to tell
them apart:

    form        a CACAO of a wallet that cites no proof
    audience    the DID URL of the key itself, `did:key:zX#zX` (J4); grants to other principals
                name the DID
    policy      none: a statement on which code may receive keys is not about a person
    life        at most MAX_LIFE_S, both from its own issue time and from its registration

A session is a sign-in that also reads the owner's capabilities. Further grants of the wallet to the
same key count while a session is in force.

Example:
    if is_session(delegation, registered_at=now): ...  # index it
    live = owner_authority(facts).in_person  # None: not in person
"""

from collections.abc import Iterable, Mapping
from dataclasses import InitVar

from .abilities import CAPABILITIES_READ, satisfies
from .chain import Markers, Registered, is_in_force
from .cids import ContentKey
from .frozen import frozen
from .frozen_struct import AcyclicStruct
from .principals import Principal, is_wallet
from .resources import SpaceResource
from .tokens import Delegation

MAX_LIFE_S = 30 * 86_400
"""Longest life of a sign-in; it limits the time in which a stolen session key is of use."""
MAX_AHEAD_S = 300
"""Largest difference by which a sign-in may be dated ahead, because users' clocks are inexact."""

_KEY_PREFIX = "did:key:z"
_METHOD_CHARS = len("did:key:")
_SEAL = object()


def is_sign_in(delegation: Delegation, *, registered_at: float) -> bool:
    """Return whether a delegation is a wallet's sign-in to an app (IP2).

    The delegate of a sign-in is a key that the app generated.

    Args:
        delegation: verified.
        registered_at: when it was registered here, epoch seconds.
    Does not check:
        That it was issued by now (`is_issued`), that it is live, and who the two parties are.
    """
    return not delegation.parents and signs_in_a_key(delegation, registered_at=registered_at)


def signs_in_a_key(delegation: Delegation, *, registered_at: float) -> bool:
    """Return whether a delegation has the form of a sign-in, whatever it cites (IP2, TM3).

    A sign-in cites nothing. A team's member signs in with a message of the same form that cites the
    membership.
    """
    # A CACAO's facts are statements for the gate (MT3).
    if delegation.form != "cacao" or delegation.facts:
        return False
    issued_at, expires_at = delegation.issued_at, delegation.expires_at
    if issued_at is None or expires_at is None:
        return False
    # Either bound alone can be evaded: an old message can be posted late, and a new message can
    # state any issue time.
    if expires_at - issued_at > MAX_LIFE_S or expires_at - registered_at > MAX_LIFE_S:
        return False
    # J4: the audience is the delegate's DID with its own key as fragment.
    delegate = delegation.delegate
    if delegation.audience != f"{delegate}#{delegate[_METHOD_CHARS:]}":
        return False
    return delegate.startswith(_KEY_PREFIX) and is_wallet(delegation.delegator)


def is_issued(delegation: Delegation, *, now: float) -> bool:
    """Return whether the issue time of a delegation has passed.

    It may be up to MAX_AHEAD_S seconds after `now`. Without an issue time the result is False.
    """
    return delegation.issued_at is not None and delegation.issued_at <= now + MAX_AHEAD_S


def is_session(delegation: Delegation, *, registered_at: float) -> bool:
    """Return whether a delegation is a login session of its signer.

    A session is a sign-in that permits reading the signer's capabilities.
    """
    return is_sign_in(delegation, registered_at=registered_at) and any(
        satisfies(one.ability, CAPABILITIES_READ)
        and isinstance(one.resource, SpaceResource)
        and one.resource.space.owner == delegation.delegator
        for one in delegation.capabilities
    )


class AuthorityFacts(AcyclicStruct, kw_only=True):
    """The input for deciding whether the owner made a request."""

    owner: Principal
    invoker: Principal
    cited: tuple[ContentKey, ...]
    links: Mapping[ContentKey, Registered]
    sessions: tuple[Registered, ...]
    marks: Markers
    now: float


@frozen
class OwnerAuthority:
    """The result of checking whether the owner made a request.

    Only `owner_authority` creates it.

    Attributes:
        facts: the input of the check.
        in_person: the content keys that must stay live for IP1 or IP2 to hold, empty for IP1; None
            if neither holds.
    """

    facts: AuthorityFacts
    in_person: tuple[ContentKey, ...] | None
    # An init-only field: `dataclasses.replace` cannot copy it, so callers cannot forge a decision
    # from a real one.
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        """Allow only `owner_authority` to create objects of this class."""
        if seal is not _SEAL:
            raise RuntimeError("call sign_ins.owner_authority to create an OwnerAuthority")


def owner_authority(facts: AuthorityFacts) -> OwnerAuthority:
    """Decide whether the owner of a resource made a request (IP1, IP2).

    Such a request is made "in person": the invoker is the owner or a live session key of the owner.

    Does not check:
        That the chain grants anything, nor that the owner in person may do what is asked.
    """
    in_person: tuple[ContentKey, ...] | None = None
    if facts.invoker == facts.owner:  # no session is needed (IP1)
        in_person = ()
    # every cited proof has to be a sign-in of the owner to the invoker (IP2)
    elif _are_sign_ins(facts, _links(facts, facts.cited, len(facts.cited)), facts.invoker):
        in_person = live_session(facts, facts.invoker, (*facts.links.values(), *facts.sessions))
    return OwnerAuthority(facts=facts, in_person=in_person, seal=_SEAL)


def session_holders(facts: AuthorityFacts) -> frozenset[Principal]:
    """Return the principals whose sessions must be read from the store.

    These are the invoker, if all its proofs are sign-ins of the owner (IP2), and the signers of
    delegations that cite only such sign-ins (RL4). Principals for whom a link is already a session
    in force are left out.

    Args:
        facts: with its links and their markers; its sessions are not used.
    """
    links = facts.links.values()
    holders = set()
    for link in links:
        if _cites_only_sign_ins(facts, link):
            holders.add(link.delegation.delegator)
    if _are_sign_ins(facts, _links(facts, facts.cited, len(facts.cited)), facts.invoker):
        holders.add(facts.invoker)
    return frozenset([holder for holder in holders if live_session(facts, holder, links) is None])


def owner_statement_sessions(
    facts: AuthorityFacts, link: Registered
) -> tuple[ContentKey, ...] | None:
    """Find the login sessions through which an owner signed a delegation (RL4).

    A delegation is a statement of the owner if the owner or a live session key of the owner signed
    it.

    Args:
        facts: with the sessions of `session_holders`.
        link: one of its links.
    Returns:
        The content keys of the sessions that must stay live, empty if the owner signed the
        delegation itself; None if the delegation is not a statement of the owner.
    """
    signer = link.delegation.delegator
    if signer == facts.owner:
        return ()
    if not _cites_only_sign_ins(facts, link):
        return None
    return live_session(facts, signer, (*facts.links.values(), *facts.sessions))


def _cites_only_sign_ins(facts: AuthorityFacts, link: Registered) -> bool:
    """Return whether all proofs of a delegation are sign-ins (RL4).

    They must be sign-ins of the owner to the delegation's signer. The result is False if the
    delegation cites nothing.
    """
    return _are_sign_ins(facts, cited_links(facts, link), link.delegation.delegator)


def cited_links(facts: AuthorityFacts, link: Registered) -> list[Registered] | None:
    """Return a delegation's stored proofs, or None if any is missing."""
    return _links(facts, link.parents, len(link.delegation.parents))


def _links(
    facts: AuthorityFacts, keys: tuple[ContentKey, ...], count: int
) -> list[Registered] | None:
    """Return the stored delegations with these content keys, or None if any is missing.

    `count` is the number of proofs in the token. `keys` may have fewer members, because a proof
    that is not stored has no known content key.
    """
    found = [facts.links[key] for key in keys if key in facts.links]
    return found if len(found) == count else None


def _are_sign_ins(facts: AuthorityFacts, links: list[Registered] | None, holder: Principal) -> bool:
    """Return whether all delegations are sign-ins by the owner (IP2).

    Their delegate must be `holder`. The result is False if there are no delegations.
    """
    return bool(links) and all(
        _is_from_owner_to(facts, link.delegation, holder)
        and is_sign_in(link.delegation, registered_at=link.registered_at)
        for link in links or ()
    )


def _is_from_owner_to(facts: AuthorityFacts, delegation: Delegation, holder: Principal) -> bool:
    """Return whether the owner issued a delegation to `holder`.

    Its issue time must pass `is_issued`.
    """
    return (
        delegation.delegator == facts.owner
        and delegation.delegate == holder
        and is_issued(delegation, now=facts.now)
    )


def live_session(
    facts: AuthorityFacts, holder: Principal, links: Iterable[Registered]
) -> tuple[ContentKey, ...] | None:
    """Find a live session among `links` that the owner granted to `holder` (IP2).

    Return its content key in a tuple, or None if there is no such session.
    """
    for link in links:
        delegation = link.delegation
        if (
            _is_from_owner_to(facts, delegation, holder)
            and is_session(delegation, registered_at=link.registered_at)
            and is_in_force(link, facts.marks, now=facts.now)
        ):
            return (delegation.content_key,)
    return None
