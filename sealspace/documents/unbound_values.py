"""The rule for values that state no place (EN46).

A value is unbound if its plaintext has no member `place`: another client or an earlier version
sealed it. Nothing shows that it belongs to the name under which it is stored, so somebody who may
write there could have moved the envelope of another secret. The owner may open such a value. A
reader with a grant may open it only if the owner's signed grant says so.

Example:
    owner = client.session.owner
    wanted = client.session.grants[0].capabilities
    assert may_open_unbound(client.session, owner, wanted, now=0.0)
"""

from collections.abc import Sequence
from contextlib import suppress

from capabilities.capability_errors import CapabilityError
from capabilities.facts import states_unbound_values
from capabilities.machine_tokens import MachineGrant, issuing_owner, machine_grant
from capabilities.principals import same_principal
from capabilities.sign_ins import is_session, is_sign_in
from capabilities.tokens import Capability, Delegation, parse_delegation, verify_delegation

from ..errors import InvalidPortableDelegation, UnboundValue
from ..session import Grant, Session
from .run_grants import read_run_grant
from .secret_names import SecretName

# A session knows when a delegation was issued, but not when the node registered it. With this time,
# the bound on the life from the registration is left to the node.
_UNKNOWN_REGISTRATION = float("inf")


def may_open_unbound(
    session: Session, owner: str, wanted: Sequence[Capability], *, now: float
) -> bool:
    """Return whether a session may use values that state no place (EN46, EN47).

    Args:
        session: the session that reads.
        owner: DID of the owner of the space where the value is stored.
        wanted: the rights that reading needs: to get the value, and to decrypt it.
        now: epoch seconds.
    Returns:
        True for the owner in person, and if every grant that covers a right states that its
        recipient may use such values.
    Raises:
        NotGranted, SessionExpired: the session does not have the rights.
    Does not check:
        Revocation, which the node checks at each request.
    """
    for one in wanted:
        for cid in session.proofs_for([one], now=now):
            grants = [grant for grant in session.grants if grant.cid == cid]
            if not any(_allows(grant, session, owner, now) for grant in grants):
                return False
    return True


def states_unbound(delegation: Delegation) -> bool:
    """Return whether a delegation lets its recipient use values without a place.

    Its signer and the delegations that it cites are not considered; see `may_open_unbound`.

    Args:
        delegation: verified.
    """
    try:
        stated = machine_grant(delegation, registered_at=_UNKNOWN_REGISTRATION)
    except CapabilityError:
        return False
    if stated is not None:
        return stated.unbound
    return states_unbound_values(delegation.facts)


def unbound_value(secret: SecretName) -> UnboundValue:
    """Return the error for a value that states no place, with the command that binds it."""
    scope = "" if secret.scope is None else f" --scope {secret.scope}"
    return UnboundValue(
        f"the value of {secret.label} does not state its place, so it may belong to another secret",
        step=f"the owner binds it to its name: sealspace secret bind {secret.name}{scope}",
    )


def _allows(grant: Grant, session: Session, owner: str, now: float) -> bool:
    """Return whether one grant lets the session use unbound values of an owner."""
    try:
        delegation = verify_delegation(parse_delegation(grant.header))
    except CapabilityError:
        return False
    if _is_in_person(delegation, session, owner, now):
        return True
    # RN264: the terms of a run grant decide alone; those of a job's grant are the owner's too.
    with suppress(InvalidPortableDelegation):
        run = read_run_grant(grant.header, runner=delegation.audience)
        return run.statement.allows_unbound and same_principal(run.owner, owner)
    if not states_unbound(delegation):
        return False
    if not delegation.parents:
        return same_principal(delegation.delegator, owner)
    # The node makes the token of a CI job under a trust, and refuses one that allows more (OX4).
    if _is_token_of_job(delegation):
        return same_principal(issuing_owner(delegation), owner)
    # The reader's own wallet passed the grant to this session. Its client copied the statement from
    # the owner's grant (`wire.sign_in.pass_on`). A grant that somebody else passed on allows
    # nothing, because the reader does not see the owner's grant.
    return same_principal(delegation.delegator, session.owner)


def _is_token_of_job(delegation: Delegation) -> bool:
    """Return whether a valid machine token was made by a node for a CI job."""
    stated = machine_grant(delegation, registered_at=_UNKNOWN_REGISTRATION)
    return isinstance(stated, MachineGrant) and bool(stated.claims)


def _is_in_person(delegation: Delegation, session: Session, owner: str, now: float) -> bool:
    """Return whether a delegation is the owner's own sign-in of this session (IP2).

    Further messages of the wallet to the session's key count while a sign-in lasts, as at the node.
    """
    if not same_principal(delegation.delegator, owner):
        return False
    if not is_sign_in(delegation, registered_at=_UNKNOWN_REGISTRATION):
        return False
    return any(_is_session_of(grant, owner) for grant in session.grants if grant.is_live(now))


def _is_session_of(grant: Grant, owner: str) -> bool:
    """Return whether a grant is a sign-in of an owner that makes a session (IP2)."""
    if not same_principal(grant.delegator, owner):
        return False
    try:
        delegation = verify_delegation(parse_delegation(grant.header))
    except CapabilityError:
        return False
    return is_session(delegation, registered_at=_UNKNOWN_REGISTRATION)
