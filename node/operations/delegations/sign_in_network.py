"""The default encryption network that appears with its owner's sign-in (store §6).

A wallet grant that holds `network.create` on the wallet's own network named `default` asks for it: TinyCloud's clients
sign exactly that when they sign in. Where the node hosts the owner's spaces by itself, it makes the network in the same
commit, so that a plain sign-in can keep secrets at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from capabilities.abilities import NETWORK_CREATE
from capabilities.principals import is_wallet, same_principal
from capabilities.resources import NetworkId, network_of
from capabilities.tokens import Delegation
from encryption_network.networks import create_network, encode_network
from spaces.audit.records import AuditRecord, audit_put
from spaces.documents.networks import network_put, network_row_key
from spaces.grants.admissions import admission_check, admission_key, is_admitted
from spaces.store.contract import Check, Put, Record

from ...services import Services

DEFAULT_NAME: Final = "default"


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What a network adds to the commit of a sign-in; nothing, where none is made."""

    puts: tuple[Put, ...] = ()
    checks: tuple[Check, ...] = ()


NO_NETWORK: Final = NetworkPlan()


@dataclass(frozen=True, slots=True)
class SignInNetwork:
    """The network that a sign-in asks for."""

    services: Services
    delegation: Delegation
    network: NetworkId

    def keys(self) -> tuple[bytes, ...]:
        """The rows to read for `plan`."""
        owner = self.delegation.delegator
        admission = (admission_key(owner),) if self.services.hosting.needs_row(owner) else ()
        return (network_row_key(self.network), *admission)

    def plan(self, records: Sequence[Record | None], now: float) -> NetworkPlan:
        """Return the rows of the network and of its audit record; none when it exists, in whatever state.

        In mode `permit` only for an admitted owner, who still has to be admitted at the commit.
        """
        existing, *admissions = records
        if existing is not None or not all(is_admitted(record) for record in admissions):
            return NO_NETWORK
        services = self.services
        record = create_network(
            self.network, now=now, keyring=services.keyring, entropy=services.entropy, claimed=False
        )
        audit = AuditRecord(
            at=now,
            action="network.created",
            actor=self.delegation.delegator,
            subject=self.network.text,
            token=self.delegation.cid,
        )
        puts = (network_put(self.network, encode_network(record)), audit_put(audit, entropy=services.entropy))
        return NetworkPlan(puts, tuple([admission_check(self.delegation.delegator, one) for one in admissions]))


def network_of_sign_in(services: Services, delegation: Delegation) -> SignInNetwork | None:
    """Find the network that the registration of a delegation asks for; None: none, as for nearly every delegation."""
    owner = delegation.delegator
    if delegation.parents or not is_wallet(owner) or not services.hosting.is_automatic:
        return None
    for capability in delegation.capabilities:
        network = network_of(capability.resource) if capability.ability == NETWORK_CREATE else None
        if network is not None and network.name == DEFAULT_NAME and same_principal(network.owner, owner):
            return SignInNetwork(services, delegation, network)
    return None
