"""Checks that a token is used for its intended purpose (T8 to T10).

Often parsing decides the kind: a CACAO is not an invocation (E4), a revocation revokes (V1, V3).
All other tokens are UCANs of the same shape, which differ in their audience. A grant addresses
another principal, a request addresses this node or its own signer. A grant by a key to itself looks
like a request; the store's delegation marker tells them apart (T9).

Example:
    check_addressed(invocation, node_did)
    check_granting(delegation, node_did)
"""

from .capability_errors import WrongKind
from .references import CID_AUDIENCE
from .tokens import Delegation, Invocation, Revocation


def check_addressed(token: Invocation | Revocation, node: str) -> None:
    """Reject a token that is addressed to another party (T8).

    Args:
        token: Verified.
        node: DID of this node.

    Raises:
        WrongKind: `aud` names neither the signer nor the node. A CACAO's `aud` never names a
            principal, so it passes (V3).
    """
    signer = token.invoker if isinstance(token, Invocation) else token.revoker
    if token.addressee != signer and token.addressee != node and token.addressee is not None:
        raise WrongKind


def check_granting(delegation: Delegation, node: str) -> None:
    """Check that a token grants rights (T10).

    It must not be a request or a revocation.

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
