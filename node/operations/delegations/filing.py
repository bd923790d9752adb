"""The accounts in whose lists a delegation is filed.

They are those of the signer and of the signers above that it depends on for its rights. A
delegation may cite others too, which were signed by owners who have nothing to do with it.
"""

from capabilities.chain import Registered
from capabilities.principals import Principal
from capabilities.support import (
    Comparisons,
    SupportingPaths,
    is_listed_for_all_above,
    listing_accounts,
)

from ...services import Services
from ..owner_authority import links_of


async def filing_accounts(
    services: Services, registered: Registered, comparisons: Comparisons | None = None
) -> tuple[Principal, ...]:
    """Return the accounts in whose lists a delegation belongs.

    Args:
        services: of this process.
        registered: the chain rules accepted it.
        comparisons: shared with other searches; None: as many as for one token.
    Raises:
        SupportUnknown: a delegation above is missing, or the search takes too long.
        TooMuchDecoded: the request would exceed its bound.
    """
    if is_listed_for_all_above(registered):
        return registered.accounts
    members_above = registered.closure[1:]
    links = await links_of(services, [member.content_key for member in members_above])
    return listing_accounts(registered, SupportingPaths(links, comparisons))
