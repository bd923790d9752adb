"""Who acts as a member of a team.

A member signs in with a message to a session key that cites the membership, and in every other way
is a sign-in (TM3). What a membership is, is in `memberships`.

Example:
    member = member_of(facts)  # None: the request was not made as a member
"""

from collections.abc import Sequence

from .capability_errors import MalformedToken
from .chain import Registered
from .frozen_struct import AcyclicStruct
from .memberships import (
    Membership,
    admin_membership,
    is_membership,
    stated_membership,
    team_of,
)
from .principals import Principal
from .sign_ins import AuthorityFacts, cited_links, is_issued, signs_in_a_key
from .tokens import Delegation


class Member(AcyclicStruct, kw_only=True):
    """The member in whose name a request was made (TM3).

    Attributes:
        team: DID of the team, which owns the requested resource.
        statement: of the membership.
        name: the member's name in the team, or a part of the DID.
    """

    team: Principal
    statement: Membership

    @property
    def paths(self) -> tuple[str, ...]:
        """Resources of the secrets that the member may use; empty for all secrets of the team."""
        return self.statement.paths

    @property
    def name(self) -> str:
        """How receipts name the member."""
        return self.statement.name or self.statement.member.rsplit(":", 1)[-1]


def check_admitted(
    delegation: Delegation, stated: Membership, parents: Sequence[Registered]
) -> None:
    """Check that a membership was signed by somebody who may admit members (TM2).

    Args:
        delegation: the membership.
        stated: its statement.
        parents: the stored delegations that it cites.
    Raises:
        MalformedToken: neither the team nor one of its admins signed it.
    """
    team = team_of(delegation)
    if delegation.delegator == team:
        if delegation.parents:
            raise MalformedToken("a membership that the team signs cites no proof")
        # The team moves because somebody else may have its key (TM16).
        if stated.role == "successor":
            raise MalformedToken("the team's own key names no successor")
        return
    if len(parents) != 1 or len(delegation.parents) != 1:
        raise MalformedToken("a membership is signed by the team, or cites an admin's membership")
    # By the CID of another encoding, a client would not find it in the list of memberships, and
    # would not show the member.
    if delegation.parents[0].digest != parents[0].delegation.cid:
        raise MalformedToken("a membership cites the admin's by the CID of its first registration")
    admin = admin_membership(
        parents[0].delegation,
        registered_at=parents[0].registered_at,
        admin=delegation.delegator,
        team=team,
    )
    if stated.end > admin.end:
        raise MalformedToken("a membership ends no later than that of the admin who signed it")


def member_of(facts: AuthorityFacts) -> Member | None:
    """Return the team member who made a request (TM3).

    Such a request cites one delegation: a member's sign-in to the invoker. It has no other
    authority.

    Args:
        facts: of the request; `owner` is the owner of the requested resource.
    Returns:
        None if the request was not made as a member.
    Raises:
        MalformedToken: the sign-in cites a membership that is not valid (TM1, TM2).
    Does not check:
        That the delegations are in force.
    """
    if facts.invoker == facts.owner or len(facts.cited) != 1:
        return None
    (cited,) = facts.cited
    sign_in = facts.links.get(cited)
    if sign_in is None or sign_in.delegation.delegate != facts.invoker:
        return None
    return signed_in_member(facts, sign_in)


def signed_in_member(facts: AuthorityFacts, sign_in: Registered) -> Member | None:
    """Return the member who signed in with a delegation (TM3).

    Returns:
        None if the delegation is not the sign-in of a member.
    Raises:
        MalformedToken: it cites a membership that is not valid.
    """
    delegation = sign_in.delegation
    if len(delegation.parents) != 1 or not is_issued(delegation, now=facts.now):
        return None
    if not signs_in_a_key(delegation, registered_at=sign_in.registered_at):
        return None
    membership = _only_cited(facts, sign_in)
    if membership is None or not is_membership(membership.delegation):
        return None
    return holding_member(facts, membership, holder=delegation.delegator)


def admin_statement(facts: AuthorityFacts, link: Registered) -> bool:
    """Return whether an admin of a team signed a delegation for the team (TM6).

    The delegation is signed by an admin's wallet, and cites only the admin's membership; or it is
    signed by the key of an admin's session, and cites only the admin's sign-in.

    Args:
        facts: of the request; `owner` is the team.
        link: the delegation.
    Raises:
        MalformedToken: it cites a membership that is not valid.
    Does not check:
        That the delegations are in force.
    """
    cited = _only_cited(facts, link)
    if cited is None:
        return False
    signer = link.delegation.delegator
    if is_membership(cited.delegation):
        member = holding_member(facts, cited, holder=signer)
        return member.statement.role == "admin"
    is_session_of_signer = cited.delegation.delegate == signer
    if not is_session_of_signer:
        return False
    signed_in = signed_in_member(facts, cited)
    return signed_in is not None and signed_in.statement.role == "admin"


def holding_member(facts: AuthorityFacts, membership: Registered, *, holder: Principal) -> Member:
    """Check a membership and those of the admins above it, and return the member.

    Args:
        facts: of the request; `owner` is the team.
        membership: the membership of `holder`.
        holder: DID of the member's wallet.
    Raises:
        MalformedToken: one of the memberships is not valid, or the first one is of another member
            or another team.
    """
    held = stated_membership(membership.delegation, registered_at=membership.registered_at)
    if held.member != holder:
        raise MalformedToken("the membership is that of another member")
    if team_of(membership.delegation) != facts.owner:
        raise MalformedToken("the membership is one of another team")
    _check_admissions(facts, membership, held)
    return Member(team=facts.owner, statement=held)


def _check_admissions(facts: AuthorityFacts, membership: Registered, held: Membership) -> None:
    """Check a membership, and those of the admins up to the one whom the team itself admitted.

    `held` is the statement in the membership.

    Raises:
        MalformedToken: one of them is not valid.
    """
    link = membership
    stated = held
    # A closure has few members and no cycle, but the bound does not rely on that.
    for _ in range(len(facts.links)):
        parents = cited_links(facts, link)
        if parents is None:
            raise MalformedToken("a delegation that the membership cites is missing")
        check_admitted(link.delegation, stated, parents)
        if not parents:  # signed by the team's own wallet
            return
        (link,) = parents  # `check_admitted` allows one at most
        stated = stated_membership(link.delegation, registered_at=link.registered_at)
    raise MalformedToken("the memberships cite each other")


def _only_cited(facts: AuthorityFacts, link: Registered) -> Registered | None:
    """Return the only delegation that a delegation cites.

    Returns None if it cites none or several, or if the cited one is not part of the request.
    """
    proofs = cited_links(facts, link) or []
    return proofs[0] if len(proofs) == 1 else None
