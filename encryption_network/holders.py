"""Callers who need no evidence although they are not the owner in person.

These are the holders of machine tokens (MT4) and the members of teams (TM4). Both have their right
by a statement that the owner signed, or somebody whom the owner allowed to sign it. A request that
cites such a statement has no other ground: if it is not used as it must be, the request is refused.

Example:
    holder = holder_of(owner_authority(facts), exchange_key)  # None: anybody else
"""

from capabilities.capability_errors import MalformedToken
from capabilities.chain import Registered
from capabilities.machine_tokens import (
    MachineGrant,
    OidcTrust,
    cited_grant,
    is_machine_token,
    machine_grant,
)
from capabilities.members import Member, holding_member, member_of
from capabilities.memberships import Membership, is_membership, stated_membership, team_of
from capabilities.sign_ins import AuthorityFacts, OwnerAuthority, cited_links

from .network_errors import ReleaseRefused

Holder = MachineGrant | Member
"""A machine token, or a member of a team."""


def holder_of(owner: OwnerAuthority, exchange_key: str) -> Holder | None:
    """Return the machine token or the member that requests a key.

    Args:
        owner: what the request shows about the owner of the network.
        exchange_key: DID of the key with which this node signs machine tokens.
    Returns:
        None if the request was made neither with a machine token nor by a member.
    Raises:
        ReleaseRefused: the request cites a machine token or a membership that is not used as it
            must be (MT4, TM4).
    """
    machine = _require_machine_grant(owner, exchange_key)
    if machine is not None:
        return machine
    try:
        return member_of(owner.facts)
    except MalformedToken as exc:
        raise ReleaseRefused("chain", exc.text) from exc


def cited_memberships(facts: AuthorityFacts) -> list[Membership]:
    """Return the memberships of the network's owner that a request depends on.

    Memberships that the request cites indirectly, through other delegations, are included.

    Raises:
        ReleaseRefused: one of the memberships in the request is not valid.
    """
    memberships: list[Membership] = []
    try:
        for link in facts.links.values():
            if not is_membership(link.delegation) or team_of(link.delegation) != facts.owner:
                continue
            memberships.append(stated_membership(link.delegation, registered_at=link.registered_at))
    except MalformedToken as exc:
        raise ReleaseRefused("chain", exc.text) from exc
    return memberships


def _require_machine_grant(owner: OwnerAuthority, exchange_key: str) -> MachineGrant | None:
    """Return the machine token with which a caller requests a key (MT4).

    A request with a machine token has no other authority, so it cites nothing else. The token is
    for the invoker. One of these signed it:

    - the owner of the network;
    - an admin of the team, if the owner is a team (TM6);
    - this node, under a trust for its exchange key that one of them signed (OX4).

    Returns:
        None for the owner, whose authority does not come from its proofs, and for requests without
        a machine token.
    Raises:
        ReleaseRefused: the request has a machine token and is not of this form.
    """
    facts = owner.facts
    if facts.invoker == facts.owner:
        return None
    if not any(is_machine_token(link.delegation) for link in facts.links.values()):
        return None
    cited = facts.links.get(facts.cited[0]) if len(facts.cited) == 1 else None
    if cited is None or not is_machine_token(cited.delegation):
        raise ReleaseRefused("chain", "a machine token is cited beside or below another delegation")
    if cited.delegation.delegate != facts.invoker:
        raise ReleaseRefused("chain", "the machine token was made for another key")
    try:
        grant = _check_signer(facts, cited, exchange_key)
    except MalformedToken as exc:
        raise ReleaseRefused("chain", exc.text) from exc
    if not isinstance(grant, MachineGrant):
        raise ReleaseRefused("chain", "a trust is no machine token")
    return grant


def _check_signer(
    facts: AuthorityFacts, link: Registered, exchange_key: str
) -> MachineGrant | OidcTrust | None:
    """Check who signed a machine token or a trust, and return what it grants.

    A token may cite a trust, which is then checked in the same way.

    Raises:
        MalformedToken: it is invalid, or the signer is not the owner, an admin or this node.
    """
    token = link.delegation
    proofs = cited_links(facts, link)
    if proofs is None or len(proofs) > 1:
        raise MalformedToken("a machine token cites one delegation at most")
    if not proofs:  # signed by the owner itself
        if token.delegator != facts.owner:
            raise MalformedToken("the owner of the network did not issue the machine token")
        return machine_grant(token, registered_at=link.registered_at)
    (proof,) = proofs
    grant = cited_grant(
        token,
        proof.delegation,
        registered_at=link.registered_at,
        cited_at=proof.registered_at,
    )
    if is_membership(proof.delegation):  # signed by an admin
        holding_member(facts, proof, holder=token.delegator)
        return grant
    # Otherwise a node signed it. If the owner trusts another node, the tokens that this node makes
    # open nothing here (OX4).
    if proof.delegation.delegate != exchange_key:
        raise MalformedToken("the machine token was made by another node")
    if not isinstance(_check_signer(facts, proof, exchange_key), OidcTrust):
        raise MalformedToken("the machine token cites no trust")
    return grant
