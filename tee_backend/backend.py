"""Being a backend inside a TEE: prove what code this is, then read what owners granted to it.

The session's key and the receiver keys are made inside the trust domain and stay there. An attestation binds both: the
quote's report data name the node's challenge, the node, this backend's DID and one receiver key, and keys are then
wrapped to exactly that receiver key. Whoever relays or records any of it can open nothing.

Example:
    async with Client("https://node.example", session=key_session(seed)) as client:
        backend = Backend(client, source)
        await client.delegations.take_up(portable)
        await backend.attest(client.encryption.network(owner=owner_did))
        value = await backend.read_secret(owner_did, "API_KEY")
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from capabilities.ambient import Clock, Entropy, SystemClock, SystemEntropy
from capabilities.principals import Principal
from capabilities.resources import NetworkId
from sealspace.attestation import Attested
from sealspace.client import Client
from sealspace.encryption import ReceiverKey, new_receiver_key
from tee_backend.attestation.report_data import report_data
from tee_backend.evidence.source import EvidenceSource, take_quote

RENEWAL_MARGIN_S: Final = 15.0
"""Evidence that ends sooner is renewed first: a request must not find it ended on arrival."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """Evidence of this backend that stands at the node.

    Attributes:
        network: under whose grant it was handed in.
        receiver: the key that content keys are wrapped to.
        expires_at: epoch seconds.
        evidence: digest, as the node names it in its audit.
    """

    network: NetworkId
    receiver: ReceiverKey
    expires_at: float
    evidence: str


class Backend:
    """A program in a trust domain that acts at a node.

    Args:
        client: with a session of the backend's own key; what it was granted is taken up there.
        source: makes quotes; see `tee_backend.evidence`. Where its platform keeps an event log, the log is sent along.
        clock: to renew evidence in time.
        entropy: for receiver keys; inside a trust domain it has to be one the host cannot foresee.
    """

    def __init__(
        self, client: Client, source: EvidenceSource, *, clock: Clock | None = None, entropy: Entropy | None = None
    ) -> None:
        self._client = client
        self._source = source
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()
        self._attestation: Attestation | None = None
        self._renewing = asyncio.Lock()

    @property
    def did(self) -> Principal:
        """This backend's DID; what owners delegate to."""
        return self._client.session.did

    @property
    def attestation(self) -> Attestation | None:
        """The evidence that stands; None before `attest`."""
        return self._attestation

    async def attest(self, network: NetworkId) -> Attestation:
        """Prove to the node what code this is; evidence from before is replaced by it.

        Args:
            network: one that this backend was granted decrypt on; only who has business there may hand in quotes.
        Returns:
            The evidence. Keys are released to its receiver key alone, while it stands and the owner approves of it.
        Raises:
            NotGranted: no grant holds decrypt on the network.
            AttestationRefused: the node does not believe the quote.
            NodeRefused, TransportError, and whatever the source raises.
        Does not check:
            Whether any owner approves this code: the node judges that at each release.
        """
        receiver = new_receiver_key(self._entropy)
        challenge = await self._client.attestation.challenge()
        bound = report_data(challenge.nonce, challenge.audience, self.did, "attested", receiver.public_key)
        # Quotes come out of a file system or a socket of the platform, neither of which belongs on the event loop.
        quoted = await asyncio.to_thread(take_quote, self._source, bound)
        log = None if quoted.event_log is None else quoted.event_log.to_json()
        attested = Attested(quote=quoted.quote, receiver_public_key=receiver.public_key, event_log=log)
        session = await self._client.attestation.open_session(network, challenge, attested)
        self._attestation = Attestation(network, receiver, session.expires_at, session.evidence)
        return self._attestation

    async def read_secret(self, owner: str, name: str, *, scope: str | None = None) -> str:
        """Read and open a secret that an owner granted to this backend.

        Evidence that is about to end is renewed first. Without evidence the node is asked all the same, and refuses
        unless the owner wants none.

        Args:
            owner: the owner's DID.
            name: `^[A-Z][A-Z0-9_]*$`.
            scope: None for a global secret.
        Raises:
            NotFound: there is no such secret.
            DecryptDenied: the node does not release the key: not attested, not approved, or revoked.
            AttestationRefused: evidence had to be renewed, and was not believed.
            NotGranted, Unauthorized, EncryptionError, NodeRefused, TransportError.
        """
        # Readers side by side find the evidence near its end together; one of them renews it for all.
        async with self._renewing:
            standing = self._attestation
            if standing is not None and standing.expires_at - self._clock.now() < RENEWAL_MARGIN_S:
                standing = await self.attest(standing.network)
        receiver = None if standing is None else standing.receiver
        return await self._client.secrets(owner).get(name, scope=scope, receiver=receiver)
