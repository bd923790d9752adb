"""Who is the owner in person: O itself, or a session key that O's wallet signed in (IP1, IP2).

    IP1  I is O; or
    IP2  O is a wallet; every proof cited is a sign-in of O to I; and such a sign-in is in force now that holds
         `tinycloud.capabilities/read` on a space of O.

O is the owner, I the invoker. The rule is stated only here: operations reserved to the owner in
person call `owner_authority`, and `owner_word_marks` decides which delegations count as the owner's
word (RL4).

A person signs in to an app with a message to a key that the app drew; a grant to a backend, a share
or a manifest's target is a message of the same form. Only the message itself distinguishes them:

    form        a CACAO of a wallet that cites no proof
    audience    the DID URL of the key itself, `did:key:zX#zX` (J4): a grant to another principal names the DID
    policy      none: a statement on which code may receive keys is about code, not about a person
    life        at most MAX_LIFE_S, from the time that it states and from its registration here

A session is such a message that also reads the owner's capabilities. Further grants of the wallet
to the same key count while a session is in force.

Example:
    if is_session(delegation, registered_at=now): ...          # index it
    authority = owner_authority(facts)                         # authority.in_person None: not in person
"""

from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass
from typing import Final

from msgspec import Struct

from .abilities import CAPABILITIES_READ, satisfies
from .chain import Marks, Registered, is_in_force
from .cids import ContentKey
from .principals import Principal, is_wallet
from .resources import SpaceResource
from .tokens import Delegation

MAX_LIFE_S: Final = 30 * 86_400
"""Longest life of a message that counts as the owner in person: a key that an app lost is of no use
for longer."""
MAX_AHEAD_S: Final = 300
"""How far ahead of the judging clock a message may say that it was signed: clocks of people's
machines are inexact."""

_KEY_PREFIX: Final = "did:key:z"
_METHOD_CHARS: Final = len("did:key:")
_SEAL: Final = object()


def is_sign_in(delegation: Delegation, *, registered_at: float) -> bool:
    """Return whether this is a message of a wallet to its own session key.

    Args:
        delegation: verified.
        registered_at: when it was registered here, epoch seconds.
    Does not check:
        That it is issued by now (`is_issued`), is live, and is between the two parties in question.
    """
    issued_at, expires_at, delegate = (
        delegation.issued_at,
        delegation.expires_at,
        delegation.delegate,
    )
    return (
        delegation.form == "cacao"
        and not delegation.parents
        and not delegation.facts  # the facts of a CACAO are policies and nothing else
        and issued_at is not None
        and expires_at is not None
        # Either bound alone can be evaded: an old message is posted today, or says that it was
        # signed a moment ago.
        and expires_at - issued_at <= MAX_LIFE_S
        and expires_at - registered_at <= MAX_LIFE_S
        # J4: the audience is the delegate's DID with its own key as fragment.
        and delegate.startswith(_KEY_PREFIX)
        and delegation.audience == f"{delegate}#{delegate[_METHOD_CHARS:]}"
        and is_wallet(delegation.delegator)
    )


def is_issued(delegation: Delegation, *, now: float) -> bool:
    """Return whether a message was signed by now, as it states itself; one that states no time
    counts as not signed."""
    return delegation.issued_at is not None and delegation.issued_at <= now + MAX_AHEAD_S


def is_session(delegation: Delegation, *, registered_at: float) -> bool:
    """Return whether this is a sign-in that reads the capabilities of a space of its signer; as
    `is_sign_in`."""
    if not is_sign_in(delegation, registered_at=registered_at):
        return False
    owner = delegation.delegator
    for capability in delegation.capabilities:
        resource = capability.resource
        if (
            satisfies(capability.ability, CAPABILITIES_READ)
            and isinstance(resource, SpaceResource)
            and resource.space.owner == owner
        ):
            return True
    return False


class AuthorityFacts(Struct, frozen=True, kw_only=True, gc=False):
    """The input for deciding whether an invoker is the owner in person."""

    owner: Principal
    invoker: Principal
    cited: tuple[ContentKey, ...]
    links: Mapping[ContentKey, Registered]
    sessions: tuple[Registered, ...]
    marks: Marks
    now: float


@dataclass(frozen=True, slots=True)
class OwnerAuthority:
    """Whether an invoker is the owner in person; made by `owner_authority` only.

    Attributes:
        facts: what it was computed from.
        in_person: the marks that IP1 or IP2 rests on, none for IP1; None when neither holds.
    """

    facts: AuthorityFacts
    in_person: tuple[ContentKey, ...] | None
    # An init-only field: `dataclasses.replace` cannot carry it over, so a result cannot be altered
    # either.
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        """Refuse construction elsewhere."""
        if seal is not _SEAL:
            raise RuntimeError("an owner's authority is computed by sign_ins.owner_authority only")


def owner_authority(facts: AuthorityFacts) -> OwnerAuthority:
    """Compute once, from what was read, whether the invoker is the owner in person (IP1, IP2).

    Does not check:
        That the chain grants anything, and that the owner in person may do what is asked: the
        caller does.
    """
    in_person: tuple[ContentKey, ...] | None = None
    if facts.invoker == facts.owner:  # IP1
        in_person = ()
    elif _are_sign_ins(facts, _links(facts, facts.cited, len(facts.cited)), facts.invoker):  # IP2
        in_person = _live_session(facts, facts.invoker, (*facts.links.values(), *facts.sessions))
    return OwnerAuthority(facts, in_person, _SEAL)


def session_holders(facts: AuthorityFacts) -> frozenset[Principal]:
    """Return the principals for whom a session beyond the links may matter.

    The invoker, where everything cited is the owner's sign-in (IP2), and the signer of each
    delegation that cites the owner's sign-ins only (RL4): those of them for whom no link is a
    session in force.

    Args:
        facts: with its links and their marks; its sessions are not looked at.
    """
    links, holders = facts.links.values(), set()
    for link in links:
        if _speaks_after_sign_in(facts, link):
            holders.add(link.delegation.delegator)
    if _are_sign_ins(facts, _links(facts, facts.cited, len(facts.cited)), facts.invoker):
        holders.add(facts.invoker)
    if not holders:
        return frozenset()
    return frozenset([holder for holder in holders if _live_session(facts, holder, links) is None])


def owner_word_marks(facts: AuthorityFacts, link: Registered) -> tuple[ContentKey, ...] | None:
    """Return the marks by which a delegation is O's word: signed by O, or by O's session key in
    person (RL4).

    Args:
        facts: with the sessions of `session_holders`.
        link: one of its links.
    Returns:
        The marks, none where O signed it itself; None where it is not O's word.
    """
    signer = link.delegation.delegator
    if signer == facts.owner:
        return ()
    if not _speaks_after_sign_in(facts, link):
        return None
    return _live_session(facts, signer, (*facts.links.values(), *facts.sessions))


def _speaks_after_sign_in(facts: AuthorityFacts, link: Registered) -> bool:
    """Return whether a delegation cites the owner's sign-ins of its signer, and nothing else
    (RL4)."""
    delegation = link.delegation
    if not delegation.parents:
        return False
    return _are_sign_ins(facts, cited_links(facts, link), delegation.delegator)


def cited_links(facts: AuthorityFacts, link: Registered) -> list[Registered] | None:
    """Return the delegations that a link cites, in whatever spelling; None when one of them is not
    given."""
    return _links(facts, link.parents, len(link.delegation.parents))


def _links(
    facts: AuthorityFacts, keys: tuple[ContentKey, ...], count: int
) -> list[Registered] | None:
    """Return the links with these keys; None when fewer than `count` are given."""
    found = [facts.links[key] for key in keys if key in facts.links]
    return found if len(found) == count else None


def _are_sign_ins(facts: AuthorityFacts, links: list[Registered] | None, holder: Principal) -> bool:
    """Return whether there is a link and every one is the owner's sign-in of this holder (IP2)."""
    if not links:
        return False
    for link in links:
        delegation = link.delegation
        if not (
            _is_between(facts, delegation, holder)
            and is_sign_in(delegation, registered_at=link.registered_at)
        ):
            return False
    return True


def _is_between(facts: AuthorityFacts, delegation: Delegation, holder: Principal) -> bool:
    """Return whether O delegated to the holder, by now as the delegation itself states (IP2)."""
    return (
        delegation.delegator == facts.owner
        and delegation.delegate == holder
        and is_issued(delegation, now=facts.now)
    )


def _live_session(
    facts: AuthorityFacts, holder: Principal, links: Iterable[Registered]
) -> tuple[ContentKey, ...] | None:
    """Return the mark of a session of O's with the holder that is in force now (IP2)."""
    for link in links:
        delegation = link.delegation
        if (
            _is_between(facts, delegation, holder)
            and is_session(delegation, registered_at=link.registered_at)
            and is_in_force(link, facts.marks, now=facts.now)
        ):
            return (delegation.content_key,)
    return None
