"""Sessions of members of a team."""

from capabilities.principals import Principal, is_wallet, same_principal

from ..session import Session


def member_of_session(session: Session) -> Principal | None:
    """Return the DID of the member's wallet, if a session acts for a team (TM3).

    None means that the session is not that of a member: it is the owner's own, an agent's, or that
    of a machine token.
    """
    if not session.grants or session.did == session.owner:
        return None
    signer = session.grants[0].delegator
    if same_principal(signer, session.owner) or not is_wallet(signer):
        return None
    return signer
