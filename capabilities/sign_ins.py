"""Who signed in: when a wallet's message makes a session key the wallet's owner in person (IP2).

A person signs in to an app by a message to a key that the app drew; a backend, a share or a manifest's target is
granted to by a message of the same form. What tells them apart is stated in the message alone:

    form        a CACAO of a wallet that cites nobody
    audience    the DID URL of the key itself, `did:key:zX#zX` (J4): a grant to somebody else names the DID
    policy      none: whoever states which code may receive keys speaks of code, not of a person
    life        at most MAX_LIFE_S, from what it says itself and from its registration here

A session is such a message that also reads the owner's capabilities. Further grants of the wallet to the same key count
while a session stands.

Example:
    if is_session(delegation, registered_at=now): ...                                       # index it
    if is_sign_in(delegation, registered_at=stored_at) and is_issued(delegation, now=now): ...   # it counts now
"""

from typing import Final

from .abilities import CAPABILITIES_READ, satisfies
from .principals import is_wallet, same_principal
from .resources import SpaceResource
from .tokens import Delegation

MAX_LIFE_S: Final = 30 * 86_400
"""Longest life of a message that counts as the owner in person: a key that an app lost is of no use for longer."""
MAX_AHEAD_S: Final = 300
"""How far ahead of the judging clock a message may say that it was signed: what clocks of people's machines are off."""

_KEY_PREFIX: Final = "did:key:z"
_METHOD_CHARS: Final = len("did:key:")


def is_sign_in(delegation: Delegation, *, registered_at: float) -> bool:
    """Tell whether this is the word of a wallet to a session key of its own.

    Args:
        delegation: verified.
        registered_at: when it was registered here, epoch seconds.
    Does not check:
        That it is issued by now (`is_issued`), stands, and is between the two parties in question.
    """
    issued_at, expires_at = delegation.issued_at, delegation.expires_at
    return (
        delegation.form == "cacao"
        and not delegation.parents
        and not delegation.facts  # the facts of a CACAO are policies and nothing else
        and issued_at is not None
        and expires_at is not None
        # Either bound alone can be had: an old message is posted today, or says that it was signed a moment ago.
        and expires_at - issued_at <= MAX_LIFE_S
        and expires_at - registered_at <= MAX_LIFE_S
        and _names_own_key(delegation)
        and is_wallet(delegation.delegator)
    )


def is_issued(delegation: Delegation, *, now: float) -> bool:
    """Tell whether a message was signed by now, as it says itself; one that does not say counts as not.

    Args:
        delegation: verified.
        now: epoch seconds.
    """
    return delegation.issued_at is not None and delegation.issued_at <= now + MAX_AHEAD_S


def is_session(delegation: Delegation, *, registered_at: float) -> bool:
    """Tell whether this is a sign-in that reads the capabilities of a space of its signer; as `is_sign_in`."""
    if not is_sign_in(delegation, registered_at=registered_at):
        return False
    owner = delegation.delegator
    for capability in delegation.capabilities:
        resource = capability.resource
        if (
            satisfies(capability.ability, CAPABILITIES_READ)
            and isinstance(resource, SpaceResource)
            and (resource.space.owner == owner or same_principal(resource.space.owner, owner))
        ):
            return True
    return False


def _names_own_key(delegation: Delegation) -> bool:
    """Tell whether the audience is the delegate's DID with its own key as fragment (J4)."""
    did = delegation.delegate
    return did.startswith(_KEY_PREFIX) and delegation.audience == f"{did}#{did[_METHOD_CHARS:]}"
