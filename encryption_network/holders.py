"""Callers who need no evidence although they are not the owner in person.

These are the holders of machine tokens (MT4) and the members of teams (TM4). Both have their right
by a statement that the owner signed, or somebody whom the owner allowed to sign it. A request that
cites such a statement has no other ground: if it is not used as it must be, the request is refused.

Example:
    holder = holder_of(owner_authority(facts), exchange_key)  # None: anybody else
"""

from capabilities.capability_errors import MalformedToken
from capabilities.machine_tokens import (
    MachineGrant,
    exchanged_grant,
    is_machine_token,
    machine_grant,
)
from capabilities.members import Member, member_of
from capabilities.sign_ins import OwnerAuthority

from .network_errors import ReleaseRefused

Holder = MachineGrant | Member
"""A machine token, or a member of a team."""


def holder_of(owner: OwnerAuthority, exchange_key: str) -> Holder | None:
    """Return the machine token or the member that requests a key; None for everybody else.

    Raises ReleaseRefused if the request cites a machine token or a membership that is not used as
    MT4 and TM4 say.
    """
    machine = _machine_grant_of(owner, exchange_key)
    if machine is not None:
        return machine
    try:
        return member_of(owner.facts)
    except MalformedToken as exc:
        raise ReleaseRefused("chain", exc.text) from exc


def _machine_grant_of(owner: OwnerAuthority, exchange_key: str) -> MachineGrant | None:
    """Return the machine token with which a caller requests a key (MT4).

    None is returned for the owner, whose authority does not come from its proofs, and for requests
    that cite no machine token. A request that cites one has no other authority: it cites nothing
    else. The owner of the network itself signed the token for the invoker; or it signed a trust for
    this node's exchange key, with which the node signed the token (OX4).

    Raises ReleaseRefused if the request has a machine token and is not of this form.
    """
    facts = owner.facts
    links = facts.links.values()
    if facts.invoker == facts.owner or not any(
        is_machine_token(registered.delegation) for registered in links
    ):
        return None
    link, *ancestors = links  # the cited delegation is first, then its ancestors
    token = link.delegation
    # The owner signed the token itself, or the trust under which a node made it.
    signed_by_owner = ancestors[0].delegation if ancestors else token
    if len(ancestors) > 1 or facts.cited != (token.content_key,):
        raise ReleaseRefused("chain", "a machine token is cited beside or below another delegation")
    if signed_by_owner.delegator != facts.owner or token.delegate != facts.invoker:
        raise ReleaseRefused("chain", "the owner of the network did not issue the machine token")
    # If the owner trusts another node, the tokens that it makes open nothing here (OX4).
    if signed_by_owner is not token and signed_by_owner.delegate != exchange_key:
        raise ReleaseRefused("chain", "the machine token was made by another node")
    try:
        if ancestors:
            return exchanged_grant(
                token,
                signed_by_owner,
                registered_at=link.registered_at,
                trusted_at=ancestors[0].registered_at,
            )
        grant = machine_grant(token, registered_at=link.registered_at)
    except MalformedToken as exc:
        raise ReleaseRefused("chain", exc.text) from exc
    if not isinstance(grant, MachineGrant):
        raise ReleaseRefused("chain", "a trust is no machine token")
    return grant
