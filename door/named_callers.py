"""The owners and trusts that the operator of a door names (DR19, DR20)."""

from collections.abc import Mapping, Set
from dataclasses import field

from capabilities.frozen import frozen
from capabilities.principals import Principal, principal_of
from serving.shares import Payer

from .door_errors import DoorRefusal


@frozen
class NamedCallers:
    """Those whom the operator names. They come before all others in the shares of a door.

    Attributes:
        roles: name to the id of a trust, for logins with ID tokens.
        owners: the owners whose machine tokens log in. Unless it is empty, nobody else logs in but
            with a role of `roles`.
    """

    roles: Mapping[str, str] = field(default_factory=dict)
    owners: Set[Principal] = frozenset()

    def holder_of_machine_token(self, owner: Principal) -> Payer:
        """Return whose share the grant of a machine token counts to.

        Raises:
            DoorRefusal: the operator named other owners.
        """
        owner = principal_of(owner)
        is_named = owner in self.owners
        # the operator says who may log in (DR20)
        if self.owners and not is_named:
            raise DoorRefusal(
                403,
                f"permission denied: this door lets in owners that its operator named, and {owner}"
                " is not one of them; next: ask the operator to start the door with --allow"
                f" {owner}",
            )
        return Payer(owner, is_known=is_named)

    def holder_of_id_token(self, role: str) -> Payer:
        """Return whose share the grant of an ID token counts to: its trust.

        Args:
            role: a name of `roles`, or the id of a trust.
        Raises:
            DoorRefusal: the operator named owners, but not this trust.
        """
        trust = self.roles.get(role, role)
        is_named = trust in self.roles.values()
        # the operator says who may log in (DR20)
        if self.owners and not is_named:
            raise DoorRefusal(
                403,
                "permission denied: this door lets in callers that its operator named, and"
                f" {role} is not one of its roles; next: ask the operator to start the door with"
                " --role NAME=ID",
            )
        return Payer(Principal(trust), is_known=is_named)
