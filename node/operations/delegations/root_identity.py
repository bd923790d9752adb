"""Search for the wallet that granted a key its rights.

The search goes upwards along the key's delegations.
"""

from capabilities.chain import MAX_CHAIN_NODES
from capabilities.principals import Principal, is_wallet

from ...services import Services
from ..authorise import Call

_STEPS = range(MAX_CHAIN_NODES)


async def root_identity(services: Services, call: Call) -> Principal:
    """Return the wallet that granted the caller its rights.

    The wallet may have done so directly or through other keys. It is found by following the first
    proof of each delegation, starting at the caller. If this leads to no wallet, return the signer
    of the last delegation followed. A caller that acts in its own right is its own root identity,
    whatever it cites.
    """
    identity = call.invocation.invoker
    stored = call.cited[0] if call.authority.dependent else None
    for _ in _STEPS:
        # An owner may cite delegations that were not granted to it; those are not followed.
        if stored is None or stored.delegation.delegate != identity:
            break
        if is_wallet(identity):
            break
        identity = stored.delegation.delegator
        stored = await services.delegations.first_parent(stored)
    return identity
