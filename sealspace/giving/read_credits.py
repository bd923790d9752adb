"""To whom a key release counts as a read.

A receipt has the delegations by which the caller had the right. A read counts for each of them, but
not for every membership: who reads below a membership is that member, and not the admin who
admitted the member. Where this is not known, the read counts for no membership.
"""

from collections.abc import Iterable, Sequence

from capabilities.principals import same_principal
from encryption_network.receipt import Receipt

from ..wire.delegation_history import DelegationRecord
from .readers import Reader


class ReadCredits:
    """The readers to whom releases of one owner's keys count."""

    def __init__(self, readers: Iterable[Reader], records: Iterable[DelegationRecord]) -> None:
        """Prepare the memberships among some readers.

        Args:
            readers: of a secret; the members of the team are among them.
            records: the live delegations of the owner's account.
        """
        self._members = {reader.grant: reader.did for reader in readers if reader.kind == "member"}
        self._parents = {record.cid: record.parents for record in records}

    def names_of(self, receipt: Receipt) -> list[str]:
        """Return for whom a release counts, as the CIDs of grants and the DID of the caller."""
        credited = self._credited_memberships(receipt)
        names = [receipt.invoker]
        for cid in receipt.chain:
            if cid not in self._members or cid in credited:
                names.append(cid)
        return names

    def _credited_memberships(self, receipt: Receipt) -> set[str]:
        """Return the CIDs of the memberships whose member made a request, or passed the right on.

        If a live grant in the chain that is no membership cites one, its member is responsible. A
        membership that is cited by another one alone is that of the admin who signed it.
        """
        if receipt.member:  # unset in receipts of other grounds (TM8)
            return self._memberships_of(receipt.member, receipt.chain)
        credited: set[str] = set()
        for cid in receipt.chain:
            if cid not in self._members:
                credited.update(self._parents.get(cid, ()))
        return credited

    def _memberships_of(self, member: str, chain: Sequence[str]) -> set[str]:
        """Return the CIDs of the memberships of one member in a chain."""
        memberships = set()
        for cid in chain:
            if cid in self._members and same_principal(self._members[cid], member):
                memberships.add(cid)
        return memberships
