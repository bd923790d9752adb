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

from capabilities.capability_errors import CapabilityError
from capabilities.facts import states_unbound_values
from capabilities.machine_tokens import MachineGrant, issuing_owner, machine_grant
from capabilities.principals import same_principal
from capabilities.sign_ins import is_session, is_sign_in
from capabilities.tokens import Capability, Delegation, parse_delegation, verify_delegation

from ..errors import InvalidPortableDelegation, UnboundValue
from ..session import Grant, Session
from .run_grants import RunGrant, read_run_grant
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
        True for the owner in person, and if each grant that is cited for a right allows such
        values. A grant allows them by a statement of the owner.
    Raises:
        NotGranted, SessionExpired: the session does not have the rights.
    Does not check:
        Revocation, which the node checks at each request.
    """
    for right in wanted:
        for cid in session.proofs_for([right], now=now):
            cited_grants = [grant for grant in session.grants if grant.cid == cid]
            if not any(_allows_unbound(grant, session, owner, now) for grant in cited_grants):
                return False
    return True


def states_unbound(delegation: Delegation) -> bool:
    """Return whether a delegation states that its recipient may use unbound values.

    An unbound value does not say of which secret it is (EN46). Who signed the delegation, and what
    it cites, is not considered; see `may_open_unbound`.

    Args:
        delegation: verified.
    """
    try:
        machine_token = machine_grant(delegation, registered_at=_UNKNOWN_REGISTRATION)
    except CapabilityError:  # a machine token that is not valid, so it allows nothing
        return False
    if machine_token is not None:  # its own statement has a member for this
        return machine_token.unbound
    return states_unbound_values(delegation.facts)


def unbound_value(secret: SecretName) -> UnboundValue:
    """Return the error for a value that states no place, with the command that binds it."""
    scope = "" if secret.scope is None else f" --scope {secret.scope}"
    return UnboundValue(
        f"the value of {secret.label} does not state its place, so it may belong to another secret",
        step=f"the owner binds it to its name: sealspace secret bind {secret.name}{scope}",
    )


def _allows_unbound(grant: Grant, session: Session, owner: str, now: float) -> bool:
    """Return whether one grant lets the session use unbound values of an owner (EN46).

    The first of these cases that applies decides:

    1. The grant is the owner's own sign-in: yes.
    2. It is a run grant: as its statement says, if the owner issued it.
    3. It does not allow unbound values: no.
    4. It cites no delegation: yes, if the owner signed it.
    5. It is a machine token for a CI job: yes, if the trust is the owner's.
    6. It was passed on: yes, if the reader's own wallet passed it on.
    """
    try:
        delegation = verify_delegation(parse_delegation(grant.header))
    except CapabilityError:
        return False
    if _is_in_person(delegation, session, owner, now):
        return True
    run_grant = _run_grant_or_none(grant, delegation)
    if run_grant is not None:
        # Only the statement of a run grant counts, not the fact for other readers (RN264). A grant
        # that a job signed repeats the statement of the owner's grant (RN246).
        return run_grant.statement.allows_unbound and same_principal(run_grant.owner, owner)
    if not states_unbound(delegation):
        return False
    if not delegation.parents:
        return same_principal(delegation.delegator, owner)
    if _is_token_of_job(delegation):
        # The node that made the token refuses to allow more than the trust (OX4).
        return same_principal(issuing_owner(delegation), owner)
    # The client of the reader's own wallet copied the statement from the owner's grant
    # (`wire.sign_in.pass_on`). Anybody else could have added it, and the reader cannot compare it,
    # because a session does not have the owner's grant.
    return same_principal(delegation.delegator, session.owner)


def _run_grant_or_none(grant: Grant, delegation: Delegation) -> RunGrant | None:
    """Return the run grant that a delegation is, or None if it is another kind of grant."""
    try:
        return read_run_grant(grant.header, runner=delegation.audience)
    except InvalidPortableDelegation:
        return None


def _is_token_of_job(delegation: Delegation) -> bool:
    """Return whether a valid machine token was made by a node for a CI job."""
    machine_token = machine_grant(delegation, registered_at=_UNKNOWN_REGISTRATION)
    return isinstance(machine_token, MachineGrant) and bool(machine_token.claims)


def _is_in_person(delegation: Delegation, session: Session, owner: str, now: float) -> bool:
    """Return whether a delegation is the owner's own sign-in of this session (IP2).

    Some messages of a wallet to the session's key do not make a session by themselves. As at the
    node, they count while the session also has a live sign-in that does.
    """
    if not same_principal(delegation.delegator, owner):
        return False
    if not is_sign_in(delegation, registered_at=_UNKNOWN_REGISTRATION):
        return False
    live_grants = [grant for grant in session.grants if grant.is_live(now)]
    return any(_makes_session(grant, owner) for grant in live_grants)


def _makes_session(grant: Grant, owner: str) -> bool:
    """Return whether a grant is a sign-in of an owner that makes a session (IP2)."""
    if not same_principal(grant.delegator, owner):
        return False
    try:
        delegation = verify_delegation(parse_delegation(grant.header))
    except CapabilityError:
        return False
    return is_session(delegation, registered_at=_UNKNOWN_REGISTRATION)
