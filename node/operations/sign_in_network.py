"""The default encryption network that appears with its owner's sign-in (store §6).

A wallet grant that holds `network.create` on the wallet's own network named `default` asks for it: TinyCloud's clients
sign exactly that when they sign in. Where the node hosts the owner's spaces by itself, it makes the network in the same
commit, so that a plain sign-in can keep secrets at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from capabilities.principals import is_wallet, same_principal
from capabilities.resources import NetworkId, network_of
from capabilities.tokens import Delegation
from encryption_network.networks import create_network, encode_network
from encryption_network.requests import NETWORK_CREATE
from spaces.audit import AuditRecord, audit_put
from spaces.networks import network_put, network_row_key
from spaces.store.contract import Put, Record

from ..services import Services

DEFAULT_NAME: Final = "default"


@dataclass(frozen=True, slots=True)
class SignInNetwork:
    """The network that a sign-in asks for; `network` is None when it asks for none."""

    services: Services
    delegation: Delegation
    network: NetworkId | None

    def keys(self) -> tuple[bytes, ...]:
        """The rows to read for `puts`."""
        return () if self.network is None else (network_row_key(self.network),)

    def puts(self, records: Sequence[Record | None], now: float) -> tuple[Put, ...]:
        """Return the rows of the network and of its audit record; none when it exists, in whatever state."""
        if self.network is None or records[0] is not None:
            return ()
        services = self.services
        record = create_network(self.network, now=now, keyring=services.keyring, entropy=services.entropy)
        audit = AuditRecord(
            at=now,
            action="network.created",
            actor=self.delegation.delegator,
            subject=self.network.text,
            token=self.delegation.cid,
        )
        return network_put(self.network, encode_network(record)), audit_put(audit, entropy=services.entropy)


def network_of_sign_in(services: Services, delegation: Delegation) -> SignInNetwork:
    """Find the network that a delegation asks for by being registered."""
    return SignInNetwork(services, delegation, _asked_for(services, delegation))


def _asked_for(services: Services, delegation: Delegation) -> NetworkId | None:
    owner = delegation.delegator
    if not is_wallet(owner) or delegation.parents or not services.hosting.hosts_by_itself(owner):
        return None
    for capability in delegation.capabilities:
        network = network_of(capability.resource)
        if (
            capability.ability == NETWORK_CREATE
            and network is not None
            and network.name == DEFAULT_NAME
            and same_principal(network.owner, owner)
        ):
            return network
    return None
