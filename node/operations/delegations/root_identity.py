"""For whom a key acts: the wallet at the beginning of the chain that its call cites."""

from typing import Final

from capabilities.chain import MAX_CHAIN_NODES
from capabilities.principals import Principal, is_wallet

from ...services import Services
from ..authorise import Call

_STEPS: Final = range(MAX_CHAIN_NODES)


async def root_identity(services: Services, call: Call) -> Principal:
    """Return the first wallet on the way up from the caller, along the first proof of each
    delegation.

    Where there is no wallet it is the signer of the last delegation on the way. A caller that acts
    in its own right is its own root identity, whatever it cites.
    """
    identity = call.invocation.invoker
    stored = call.cited[0] if call.authority.dependent else None
    for _ in _STEPS:
        # An owner's own grant may cite delegations that were not granted to the owner: those are
        # not followed.
        if stored is None or is_wallet(identity) or stored.delegation.delegate != identity:
            break
        identity = stored.delegation.delegator
        above = await services.delegations.by_content(stored.parents[:1])
        stored = above[0] if above else None
    return identity
