"""Withdrawing code, a backend or evidence from an owner's network: it receives no key any more, whatever grants say.

Final, in force for the next release, on every machine of the node's store. The owner does it in person: with a session
that the wallet signed in with `sealspace.encryption/policy` on the network (`SignIn.network_abilities`, or
`Delegations.add_right`), or with the key that owns the network.

Example:
    await client.withdrawals.withdraw_backend(backend_did)
    await client.withdrawals.withdraw_measurement(seen.verified.evidence.mrtd)
"""

from capabilities.abilities import SET_POLICY
from capabilities.facts import WITHDRAWAL_FACT
from capabilities.principals import parse_principal
from capabilities.resources import NetworkId
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes
from encryption_network.errors import WithdrawalError
from encryption_network.requests import change_fact
from encryption_network.withdrawals import parse_withdrawal

from ._caller import Caller
from ._capability import capability
from ._encryption_errors import about_network
from .errors import InvalidInput
from .session import network_of_owner
from .transport import path_segment


class Withdrawals:
    """Withdrawals by the owner; made by `Client.withdrawals`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def withdraw_measurement(self, measurement: bytes, network: NetworkId | None = None) -> None:
        """Withdraw code: a register of 48 bytes (MRTD, RTMR0 to RTMR3, MRSEAM), or a compose hash of 32.

        Raises:
            SealspaceError: as `withdraw_backend`.
        """
        await self._withdraw({"measurement": measurement.hex()}, network)

    async def withdraw_backend(self, did: str, network: NetworkId | None = None) -> None:
        """Withdraw a backend, with every delegation that it signed or received.

        Args:
            did: the backend's.
            network: None: the default network of the owner for whom this session acts.
        Raises:
            InvalidInput: nothing that can be withdrawn; the owner's own DID cannot.
            NotGranted: the session does not hold `sealspace.encryption/policy` on the network.
            Unauthorized: the session is not its owner in person.
            NetworkNotFound, NodeRefused, TransportError.
        """
        await self._withdraw({"did": did}, network)

    async def withdraw_evidence(self, sha256: bytes, network: NetworkId | None = None) -> None:
        """Withdraw one piece of evidence, named as session, audit and receipts name it; 32 bytes.

        Raises:
            SealspaceError: as `withdraw_backend`.
        """
        await self._withdraw({"evidence": sha256.hex()}, network)

    async def _withdraw(self, value: dict[str, Json], network: NetworkId | None) -> None:
        wanted = network_of_owner(self._caller.session.owner) if network is None else network
        try:
            entry = parse_withdrawal(value)
        except WithdrawalError as exc:
            raise InvalidInput(
                f"nothing that can be withdrawn: {exc.text}",
                hint="a DID, 96 or 64 hex digits of a measurement, a digest",
            ) from exc
        if parse_principal(wanted.owner) in entry.dids:
            raise InvalidInput("an owner's own DID cannot be withdrawn", hint="revoke the network instead")
        node_id = await self._caller.node_id()
        fact = change_fact(WITHDRAWAL_FACT, wanted.text, target_node=node_id, body=value)
        mint = await self._caller.minter([capability(wanted.text, SET_POLICY)], facts=[fact])
        path = f"/encryption/networks/{path_segment(wanted.text)}/withdraw"
        answer = await self._caller.send_json("POST", path, canonical_bytes(value), mint=mint)
        with about_network(wanted.text):
            answer.require()
