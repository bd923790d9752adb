"""Attestation of a backend's code to its node.

Each attestation has a receiver key of its own and a new quote. A node that cannot judge the quote
now says when to retry.

Example:
    attester = Attester(
        client, source, clock=clock, entropy=entropy, patience_s=60.0, pause=asyncio.sleep
    )
    evidence = await attester.attest(network)
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from capabilities.clock_and_entropy import Clock, Entropy
from capabilities.resources import NetworkId
from sealspace.apps.attestation import Attested
from sealspace.client import Client
from sealspace.encryption import ReceiverKey, new_receiver_key
from sealspace.errors import NodeFailure

from ..attestation.report_data import session_binding
from ..evidence.source import EvidenceSource

RENEWAL_MARGIN_S = 15.0
"""Evidence that ends sooner than this is renewed first, so that it is still valid on arrival."""
QUIET_S = 10.0
"""Evidence younger than this also serves for a further grant. Any client may send grants, and nodes
limit attestations."""

# Minimum wait between attempts: with `Retry-After: 0` the total would never reach `patience_s`.
_SHORTEST_PAUSE_S = 1.0


class Attestation(NamedTuple):
    """A backend's evidence, accepted by a node.

    Attributes:
        network: the network under whose grant the evidence was submitted.
        receiver: the X25519 key pair to which the node wraps content keys.
        expires_at: end of the evidence, epoch seconds.
        evidence: SHA-256 of the evidence in hex, as the node's audit names it.
    """

    network: NetworkId
    receiver: ReceiverKey
    expires_at: float
    evidence: str


class Attester:
    """Attests a backend's code to its node, and has the current evidence.

    Args:
        client: the backend's client.
        source: makes quotes.
        clock: decides when evidence is renewed.
        entropy: source of receiver keys.
        patience_s: total seconds to wait when the node asks for a later retry.
        pause: waits for a number of seconds.
    Attributes:
        current: the newest evidence that the node accepted; None before the first.
    """

    def __init__(
        self,
        client: Client,
        source: EvidenceSource,
        *,
        clock: Clock,
        entropy: Entropy,
        patience_s: float,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._client = client
        self._source = source
        self._clock = clock
        self._entropy = entropy
        self._patience_s = patience_s
        self._pause = pause
        self.current: Attestation | None = None
        self._attested_at = 0.0

    def young_evidence(self) -> Attestation | None:
        """Return the current evidence if it is younger than QUIET_S, or None."""
        if 0 <= self._clock.now() - self._attested_at < QUIET_S:
            return self.current
        return None

    def ends_soon(self, evidence: Attestation) -> bool:
        """Return whether evidence has to be renewed before it is used."""
        return evidence.expires_at - self._clock.now() < RENEWAL_MARGIN_S

    async def attest(self, network: NetworkId) -> Attestation:
        """Submit a new quote until the node has judged one, as `Backend.attest` does."""
        waited_s = 0.0
        while True:
            try:
                return await self._attest_once(network)
            except NodeFailure as failure:
                if failure.status != 503 or failure.retry_after_s is None:
                    raise
                pause_s = max(failure.retry_after_s, _SHORTEST_PAUSE_S)
                if waited_s + pause_s > self._patience_s:
                    raise
            await self._pause(pause_s)
            waited_s += pause_s

    async def _attest_once(self, network: NetworkId) -> Attestation:
        """Submit one new quote, and keep the accepted evidence."""
        # A new key for each attestation; it exists in this process only.
        receiver = new_receiver_key(self._entropy)
        challenge = await self._client.attestation.challenge()
        key = receiver.public_key
        did = self._client.session.did
        binding = session_binding(challenge.nonce, challenge.audience, did, "attested", key)
        # In a thread: a quote is read from a file system or a socket, which blocks.
        quoted = await asyncio.to_thread(self._source.quote, binding.report_data)
        session = await self._client.attestation.open_session(
            network,
            challenge,
            Attested(quote=quoted.quote, receiver_public_key=key, event_log=quoted.log_entries),
        )
        self.current = Attestation(
            network=network,
            receiver=receiver,
            expires_at=session.expires_at,
            evidence=session.evidence,
        )
        self._attested_at = self._clock.now()
        return self.current
