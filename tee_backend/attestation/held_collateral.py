"""Collateral documents that are at hand, found by platform family; asked like a service.

Example:
    held = HeldCollateral([path.read_bytes() for path in folder.glob("*.json")])
    document = await held.collateral(quote.platform.fmspc, quote.platform.ca)
"""

from collections.abc import Sequence

from .certificates import PlatformCa
from .collateral import CollateralFile, check_not_older, parse_collateral_file
from .errors import CollateralRollback, PlatformUnknown


class HeldCollateral:
    """Documents by platform family and authority; of two for one family the newer counts.

    Args:
        documents: each as `parse_collateral_file` reads it.
    Raises:
        CollateralUnusable: one of them is no collateral.
    Does not check:
        Signatures and windows: whoever judges a quote with a document does.
    """

    def __init__(self, documents: Sequence[bytes]) -> None:
        self._held: dict[tuple[bytes, PlatformCa], CollateralFile] = {}
        for document in documents:
            self._hold(parse_collateral_file(document))

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> CollateralFile:
        """Return the document of one platform family and authority.

        Raises:
            PlatformUnknown: none is held.
        """
        found = self._held.get((fmspc, ca))
        if found is None:
            raise PlatformUnknown(f"no collateral is held for platform family {fmspc.hex()} ({ca})")
        return found

    def _hold(self, offered: CollateralFile) -> None:
        family = (offered.fmspc, offered.ca)
        held = self._held.get(family)
        try:
            if held is not None:
                check_not_older(offered.collateral, held.collateral)
        except CollateralRollback:
            return
        self._held[family] = offered
