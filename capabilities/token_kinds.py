"""What a token is for: a text is a grant or a request, never both (T8 to T10).

Where its shape determines a token's kind, parsing decides: a CACAO is no invocation (E4), a
revocation revokes (V1, V3). The other tokens are UCANs, all of one shape, and they differ in their
audience: a grant addresses another principal, a request this node or its own signer. A grant by a
key to itself is distinguished from a request by its mark in the store (T9).

Example:
    check_addressed(invocation, node_did)
    check_granting(delegation, node_did)
"""

from .capability_errors import WrongKind
from .references import CID_AUDIENCE
from .tokens import Delegation, Invocation, Revocation


def check_addressed(token: Invocation | Revocation, node: str) -> None:
    """Check that a token is a request to this node: one that addresses another principal is not
    carried out here (T8).

    Args:
        token: Verified.
        node: DID of this node.

    Raises:
        WrongKind: `aud` names neither who signed it nor the node; of a CACAO it names neither by
            its form (V3).
    """
    signer = token.invoker if isinstance(token, Invocation) else token.revoker
    if token.addressee != signer and token.addressee != node and token.addressee is not None:
        raise WrongKind


def check_granting(delegation: Delegation, node: str) -> None:
    """Check that a text is meant to grant something: a request to this node and a wallet's
    revocation are not (T10).

    Args:
        delegation: Verified.
        node: DID of this node.

    Raises:
        WrongKind: A UCAN whose `aud` names the node, or a CACAO whose `aud` names a delegation
            (V3).
    """
    delegate = delegation.delegate
    if delegate.startswith(CID_AUDIENCE) or (delegate == node and delegation.form == "ucan"):
        raise WrongKind
