"""Collateral documents that are at hand, found by platform family; queried like a service.

Example:
    held = HeldCollateral([path.read_bytes() for path in folder.glob("*.json")])
    document = await held.collateral(quote.platform.fmspc, quote.platform.ca)
"""

from collections.abc import Sequence
from dataclasses import replace

from .certificates import PlatformCa
from .collateral import Collateral, parse_collateral
from .errors import CollateralUnusable


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
        self._held = tuple(map(parse_collateral, documents))

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        """Return the document of one platform family and authority, with all documents beside it.

        Raises:
            CollateralUnusable: `platform-unknown`, no document of the family is held.
        """
        of_family = [one for one in self._held if (one.fmspc, one.ca) == (fmspc, ca)]
        if not of_family:
            raise CollateralUnusable(
                "platform-unknown", f"no collateral is held for platform family {fmspc.hex()} ({ca})"
            )
        # AT19: a document that is not the newest of its family may have the newest list.
        return replace(max(of_family, key=_edition), beside=self._held)


def _edition(document: Collateral) -> tuple[float, ...]:
    """Return what orders the documents of one family: editions first, as older ones are issued anew for a year."""
    dated = (document.tcb_info, document.qe_identity)
    return (*[part.evaluation_number for part in dated], *[part.window.starts_at for part in dated])
