"""Requests for rights that a session lacks (MF13).

A new sign-in asks the owner for the rights. Only the client's own error names them: a node could
name more rights than the call needs, for which the owner's wallet would then be asked.

Example:
    try:
        await client.kv("photos").put("a", b"1")
    except NotGranted as exc:
        await client.sign_in(wallet, sign_in_for(client.session, exc.missing))
"""

from collections.abc import Sequence

from capabilities.resources import root_of
from capabilities.tokens import Capability

from ..errors import InvalidInput, NotGranted
from ..session import Session, distinct_capabilities
from ..wire.sign_in import SESSION_TTL_S, SignIn


def sign_in_for(
    session: Session, missing: Sequence[Capability], *, ttl_s: float | None = None
) -> SignIn:
    """Create a sign-in request that adds rights to a session.

    Args:
        session: the current session.
        missing: capabilities on the owner's own resources.
        ttl_s: lifetime in seconds; None: seven days.
    Raises:
        InvalidInput: nothing is missing.
        NotGranted: a capability belongs to another owner, who has to grant it.
    """
    if not missing:
        raise InvalidInput(
            "the list of missing capabilities is empty",
            hint="pass the capabilities that the session needs",
        )

    def is_own(right: Capability) -> bool:
        return root_of(right.resource) == session.owner

    foreign = tuple(right for right in missing if not is_own(right))
    if foreign:
        raise NotGranted(
            "; ".join(
                f"{right.ability} on {right.resource.text} belongs to another owner"
                for right in foreign
            ),
            missing=foreign,
            hint="ask the owner of the resource for a delegation, and accept the delegation",
        )
    # The new sign-in takes the place of the first grant, so it also asks for what that one gives.
    granted = session.grants[0].capabilities if session.grants else ()
    own = [right for right in granted if is_own(right)]
    return SignIn(
        space=None if session.space is None else session.space.text,
        exactly=distinct_capabilities((*own, *missing)),
        ttl_s=SESSION_TTL_S if ttl_s is None else ttl_s,
    )
