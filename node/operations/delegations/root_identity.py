"""Search for the wallets that granted a key its rights.

The search goes upwards along the delegations that support the call.
"""

from capabilities.chain import Registered
from capabilities.principals import Principal, is_wallet
from capabilities.support import SupportingPaths, SupportUnknown, persons_of

from ...services import Services
from ..authorise import Call, closure_contents
from ..owner_authority import links_of


async def root_identities(services: Services, call: Call) -> frozenset[Principal]:
    """Return the wallets that granted the caller its rights.

    A wallet may have done so directly or through other keys. It is the nearest one on each path
    that supports the call. A path without a wallet leads to the signer of its first delegation. A
    caller that acts in its own right is its own root identity, whatever it cites, and so is one
    whose paths are unknown.
    """
    invoker = call.invocation.invoker
    if not call.authority.dependent or is_wallet(invoker):
        return frozenset((invoker,))

    def name(link: Registered, recipient_below: Principal | None) -> Principal | None:
        signer = link.delegation.delegator
        return signer if is_wallet(signer) else None

    links = await links_of(services, closure_contents(call.cited))
    try:
        return persons_of(call.authority.dependent, call.cited, SupportingPaths(links), name)
    except SupportUnknown:
        return frozenset((invoker,))
