"""Collateral documents that are at hand, found by platform family; queried like a service.

Example:
    held = HeldCollateral([path.read_bytes() for path in folder.glob("*.json")])
    document = await held.collateral(quote.platform.fmspc, quote.platform.ca)
"""

from collections.abc import Sequence

from .certificates import PlatformCa
from .collateral import Collateral, parse_collateral
from .errors import PlatformUnknown


class HeldCollateral:
    """Documents by platform family and authority; of two for one family the newer edition counts, in either order.

    Args:
        documents: each as `parse_collateral` reads it.
    Raises:
        CollateralUnusable: one of them is no collateral.
    Does not check:
        Signatures and windows: they are checked where a quote is judged with a document.
    """

    def __init__(self, documents: Sequence[bytes]) -> None:
        self._held: dict[tuple[bytes, PlatformCa], Collateral] = {}
        for offered in map(parse_collateral, documents):
            family = (offered.fmspc, offered.ca)
            held = self._held.get(family)
            if held is None or _edition(offered) > _edition(held):
                self._held[family] = offered

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        """Return the document of one platform family and authority.

        Raises:
            PlatformUnknown: none is held.
        """
        found = self._held.get((fmspc, ca))
        if found is None:
            raise PlatformUnknown(f"no collateral is held for platform family {fmspc.hex()} ({ca})")
        return found


def _edition(document: Collateral) -> tuple[float, ...]:
    """Return what orders the documents of one family: editions first, as older ones are issued anew for a year.

    Revocation lists come before the dates of the other parts: an older list would hide a revocation.
    """
    dated = (document.root_crl, document.pck_crl, document.tcb_info, document.qe_identity)
    numbers = (document.tcb_info.evaluation_number, document.qe_identity.evaluation_number)
    return (*numbers, *[part.window.starts_at for part in dated])
