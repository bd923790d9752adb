"""Successions, by which a team gets another wallet when its own key may be known to somebody else.

Two admins sign a membership of the role `successor` for the new wallet (TM16). The second statement
names the first one (TM17). Both delegations give the new wallet what a reader has. From the commit
that registers the second one, a node refuses everything that the former wallet signed (TM18).

Example:
    moved = check_countersigned(second, stated, first, registered_at=now)
"""

from collections.abc import Sequence

from .abilities import DECRYPT, KV_GET, KV_LIST, KV_METADATA
from .cache import Results
from .capability_errors import MalformedToken
from .chain import MAX_CHAIN_NODES, Registered
from .cids import ContentKey, cid_text
from .frozen_struct import AcyclicStruct
from .memberships import Membership, is_membership, stated_membership, team_of
from .principals import Principal, is_wallet
from .tokens import Capability, Delegation

SENIORITY_S = 7 * 86_400
"""Least age of an admin's membership that names a successor. Who has the team's key can make
admins, but the others see them in the list of members before they can take the team away."""
NOTICE_S = 60
"""Least time between the registrations of the two statements. A write that began before the first
one is complete or refused by then (ST26)."""

_MEMOISED_CHARS = 512
SUCCESSOR_READS = frozenset({KV_GET, KV_LIST, KV_METADATA, DECRYPT})
"""All that a successor may do with what the team owned."""


class Move(AcyclicStruct, kw_only=True):
    """The move of a team that two statements of a succession state together.

    Attributes:
        team: DID of the team's former wallet.
        successor: DID of its new wallet.
    """

    team: Principal
    successor: Principal


def is_succession(delegation: Delegation) -> bool:
    """Return whether a delegation states a successor, valid or not."""
    if not is_membership(delegation):
        return False
    return any(
        isinstance(statement, dict) and statement.get("role") == "successor"
        for fact in delegation.facts
        if isinstance(fact, dict)
        for statement in fact.values()
    )


def check_countersigned(
    second: Delegation,
    stated: Membership,
    above: Sequence[Registered],
    first: Registered | None,
    *,
    now: float,
) -> Move:
    """Check the second statement of a succession against the first one (TM17).

    Args:
        second: a delegation that `stated_membership` and `check_admitted` accepted.
        stated: its statement, which has `countersigns`.
        above: the delegation that it cites, the membership of its signer.
        first: the stored delegation with the cid in `countersigns`; None: not stored.
        now: epoch seconds.
    Raises:
        MalformedToken: the two statements do not make a succession.
    Does not check:
        That all delegations above both statements are live, and that neither wallet has moved.
    """
    if first is None:
        raise MalformedToken("the statement that it countersigns is not registered here")
    (membership,) = above  # `check_admitted` required exactly one
    move = check_pair(second, stated, membership, first)
    check_senior(above, now=now)
    if now < first.registered_at + NOTICE_S:
        raise MalformedToken(
            f"the second statement is signed at least {NOTICE_S} s after the first one"
        )
    if first.expires_at is not None and now >= first.expires_at:
        raise MalformedToken("the statement that it countersigns has ended")
    return move


def check_pair(
    second: Delegation, stated: Membership, membership: Registered, first: Registered
) -> Move:
    """Check that two statements belong together, and that independent admins signed them (TM17).

    Args:
        second: as in `check_countersigned`.
        stated: as in `check_countersigned`.
        membership: that of the signer of the second statement.
        first: the first statement. `accounts` of both are the wallets that signed them and all
            delegations above.
    Raises:
        MalformedToken: the two statements do not make a succession.
    Does not check:
        Times: how old the memberships are, and that the delegations are live.
    """
    if not is_succession(first.delegation):
        raise MalformedToken("it countersigns a delegation that names no successor")
    stated_first = stated_membership(first.delegation, registered_at=first.registered_at)
    team = team_of(second)
    if stated_first.countersigns is not None:
        raise MalformedToken("it countersigns a statement that countersigns another one")
    if cid_text(first.delegation.cid) != stated.countersigns:
        raise MalformedToken("it names the first statement by another cid than that of its token")
    is_same_team = team_of(first.delegation) == team
    is_same_successor = stated_first.member == stated.member
    if not is_same_team or not is_same_successor:
        raise MalformedToken("the two statements name different teams or successors")
    if first.delegation.delegator == second.delegator:
        raise MalformedToken("two different admins sign the statements of a succession")
    _check_independent_admins(second, membership, first)
    return Move(team=team, successor=second.delegate)


def check_senior(above: Sequence[Registered], *, now: float) -> None:
    """Check that the admin who names a successor has been one for some time (TM17).

    Args:
        above: the delegations that the statement cites.
        now: epoch seconds.
    Raises:
        MalformedToken: the membership is too new.
    """
    latest_allowed = now - SENIORITY_S
    if any(link.registered_at > latest_allowed for link in above):
        raise MalformedToken(
            f"the admin's membership is younger than {SENIORITY_S // 86_400} days, so it cannot"
            " name a successor yet"
        )


def is_successors_reading(
    reading: Registered | None,
    capabilities: Sequence[Capability],
    successor: Principal,
    statements: Sequence[ContentKey],
) -> bool:
    """Return whether a token only reads with a statement of the succession (TM19).

    Rights that the former wallet had given to the new one before have ended, and so has everything
    that the new one signed with them.

    Args:
        reading: the delegation, or the only one that an invocation cites; None: there is no such
            delegation.
        capabilities: of the token.
        successor: DID of the wallet to which the owner moved.
        statements: content keys of the statements by which the owner moved.
    """
    if reading is None or reading.delegation.delegator != successor:
        return False
    if len(reading.parents) != 1 or reading.parents[0] not in statements:
        return False
    return all(capability.ability in SUCCESSOR_READS for capability in capabilities)


def wallets_of(signer: Principal, cited: Sequence[Registered | None]) -> tuple[Principal, ...]:
    """Return the wallets on which the authority of a token depends (TM18).

    These are the signer, and the signers of all delegations above. A chain with more of them than
    the result has is refused for its length (D30).

    Args:
        signer: of the token.
        cited: the stored delegation of each cited proof; None: not stored.
    """
    accounts = [signer]
    for stored in cited:
        if stored is not None:
            accounts += stored.accounts
    return _wallets_among(tuple(accounts))


def _distinct_wallets(accounts: tuple[Principal, ...]) -> tuple[Principal, ...]:
    """Return each wallet among some accounts once, at most MAX_CHAIN_NODES + 1 of them."""
    wallets = dict.fromkeys([account for account in accounts if is_wallet(account)])
    return tuple(wallets)[: MAX_CHAIN_NODES + 1]


# Cached, because the requests of a session depend on the same wallets. Long lists are not cached:
# clients could fill the memory with them.
_wallets_among = Results(
    _distinct_wallets,
    most=8192,
    longest=_MEMOISED_CHARS,
    length=lambda accounts: sum(map(len, accounts)),
).__getitem__


def _check_independent_admins(
    second: Delegation, membership: Registered, first: Registered
) -> None:
    """Check that no wallet but the team's signed above both statements.

    Otherwise one admin could make two more admins, and move the team with their signatures. Wallets
    are compared, not delegations: an admin with two memberships could make one admin under each.
    """
    above_second = {second.delegator, *membership.accounts}
    shared_signers = above_second.intersection(first.accounts) - {team_of(second)}
    if shared_signers:
        raise MalformedToken("an admin is above both statements, or admitted the other signer")
