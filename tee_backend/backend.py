"""Being a backend inside a TEE: prove what code this is, then read what owners granted to it.

The session's key and the receiver keys are made inside the trust domain and stay there. An attestation binds both: the
quote's report data name the node's challenge, the node, this backend's DID and one receiver key, and keys are then
wrapped to exactly that receiver key. A party that relays or records any of it can open nothing.

Example:
    async with Client("https://node.example", session=key_session(seed)) as client:
        backend = Backend(client, source)
        await backend.take_up(portable)
        value = await backend.read_secret(owner_did, "API_KEY")
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.ambient import Clock, Entropy, SystemClock, SystemEntropy
from capabilities.principals import Principal, same_principal
from capabilities.resources import NetworkId, parse_network_id
from capabilities.tokens import Capability
from sealspace.attestation import Attested
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.encryption import ReceiverKey, new_receiver_key
from sealspace.errors import DecryptDenied, NodeFailure, NotGranted, Unauthorized
from sealspace.portable import PortableDelegation
from tee_backend.attestation.report_data import report_data
from tee_backend.evidence.source import EvidenceSource, take_quote
from tee_backend.held_grants import HeldGrants, owners_of

RENEWAL_MARGIN_S: Final = 15.0
"""Evidence that ends sooner is renewed first: a request must not find it ended on arrival."""
QUIET_S: Final = 10.0
"""Evidence that is younger serves for a further grant too: any client may send grants, and nodes count attestations."""
PATIENCE_S: Final = 60.0
"""How long `attest` waits for a node that asks for a later retry, as one that fetches collateral first does (AT39)."""

_SHORTEST_PAUSE_S: Final = 1.0
_NOTHING_DONE: Final = 503


@dataclass(frozen=True, slots=True)
class Attestation:
    """Evidence of this backend that is stored at the node.

    Attributes:
        network: under whose grant it was submitted.
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
        patience_s: how many seconds `attest` waits in all where the node says when to retry; 0: not at all.
        pause: waits for some seconds.
    """

    def __init__(
        self,
        client: Client,
        source: EvidenceSource,
        *,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        patience_s: float = PATIENCE_S,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._source = source
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()
        self._patience_s = patience_s
        self._pause = pause
        self._attestation: Attestation | None = None
        self._attested_at = 0.0
        self._renewing = asyncio.Lock()
        self._held = HeldGrants()

    @property
    def did(self) -> Principal:
        """This backend's DID; what owners delegate to."""
        return self._client.session.did

    @property
    def attestation(self) -> Attestation | None:
        """The current evidence; None before `attest`."""
        return self._attestation

    @property
    def owners(self) -> tuple[Principal, ...]:
        """The owners of the resources in the grants that are held and have not ended, the newest first."""
        now = self._clock.now()
        live = (grant for grant in self._client.session.grants if grant.is_live(now))
        return tuple(dict.fromkeys(owner for grant in live for owner in sorted(owners_of(grant))))

    async def take_up(self, portable: PortableDelegation) -> Attestation:
        """Use a grant from now on, before any earlier one, and attest under it.

        An owner that grants anew means the new grant: an earlier one may have been revoked, and would be cited first.
        Where evidence was submitted within QUIET_S, it stays: the node judges it anew at each release.

        Raises:
            InvalidPortableDelegation: it is for another DID, or has ended.
            GrantsFull: the bound on held grants is reached, and all of them are in use.
            NotGranted, AttestationRefused, NodeRefused, TransportError: as `attest`.
        """
        grant, former, now = self._client.delegations.read(portable), self._client.session, self._clock.now()
        held = self._held.with_new(grant, former.grants, now=now)  # before the request to the node: AT54
        network = self._client.encryption.network(owner=portable.owner)
        # The owner of its secrets is stated beside the token: a grant has to confirm it.
        replace(former, grants=held).proofs_for([allow(network.text, DECRYPT)], now=now)
        await self._client.delegations.take_up(portable)
        session = self._client.session
        held = self._held.with_new(grant, session.grants, now=now)
        # Otherwise keys that were pinned for owners whose grants are gone would stay for ever as well.
        owners = frozenset(owner for one in held for owner in owners_of(one))
        pins = tuple(pin for pin in session.pins if parse_network_id(pin.network).owner in owners)
        self._client.use(replace(session, grants=held, pins=pins))
        standing = self._attestation
        if standing is not None and 0 <= self._clock.now() - self._attested_at < QUIET_S:
            return standing
        return await self.attest(network)

    async def attest(self, network: NetworkId) -> Attestation:
        """Prove to the node what code this is; evidence from before is replaced by it.

        A node that cannot judge the quote now and says when to retry is asked again then, with a new challenge and a
        new quote, until patience ends.

        Args:
            network: one that this backend was granted decrypt on; only a DID with a grant there may submit quotes.
        Returns:
            The evidence. Keys are released to its receiver key alone, while it is valid and the owner approves of it.
        Raises:
            NotGranted: no grant holds decrypt on the network.
            AttestationRefused: the node does not accept the quote.
            NodeFailure: the node cannot judge it, and did not become able to in time.
            NodeRefused, TransportError, and whatever the source raises.
        Does not check:
            Whether any owner approves this code: the node judges that at each release.
        """
        waited_s = 0.0
        while True:
            try:
                return await self._attest_once(network)
            except NodeFailure as failure:
                if failure.status != _NOTHING_DONE or failure.retry_after_s is None:
                    raise
                pause_s = max(failure.retry_after_s, _SHORTEST_PAUSE_S)
                if waited_s + pause_s > self._patience_s:
                    raise
            await self._pause(pause_s)
            waited_s += pause_s

    async def _attest_once(self, network: NetworkId) -> Attestation:
        receiver = new_receiver_key(self._entropy)
        challenge = await self._client.attestation.challenge()
        bound = report_data(challenge.nonce, challenge.audience, self.did, "attested", receiver.public_key)
        # Quotes come out of a file system or a socket of the platform, neither of which belongs on the event loop.
        quoted = await asyncio.to_thread(take_quote, self._source, bound)
        log = None if quoted.event_log is None else quoted.event_log.to_json()
        attested = Attested(quote=quoted.quote, receiver_public_key=receiver.public_key, event_log=log)
        session = await self._client.attestation.open_session(network, challenge, attested)
        self._attestation = Attestation(network, receiver, session.expires_at, session.evidence)
        self._attested_at = self._clock.now()
        return self._attestation

    async def read_secret(self, owner: str, name: str, *, scope: str | None = None) -> str | bytes:
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
            AttestationRefused: evidence had to be renewed, and was not accepted.
            NotGranted, Unauthorized, EncryptionError, NodeRefused, TransportError.
        """
        # Readers side by side find the evidence near its end together; one of them renews it for all.
        async with self._renewing:
            standing = self._attestation
            if standing is not None and standing.expires_at - self._clock.now() < RENEWAL_MARGIN_S:
                standing = await self._renew(standing, owner)
        receiver = None if standing is None else standing.receiver
        secrets = self._client.secrets(owner)
        get = allow(secrets.resource(name, scope=scope), KV_GET)
        decrypt = allow(self._client.encryption.network(owner=owner).text, DECRYPT)
        passed: set[str] = set()
        while True:
            by_get, by_decrypt = self._cited(get), self._cited(decrypt)
            try:
                value = await secrets.get(name, scope=scope, receiver=receiver)
            except (DecryptDenied, Unauthorized) as refusal:
                of_key = isinstance(refusal, DecryptDenied)
                if not self._passes_on(decrypt if of_key else get, by_decrypt if of_key else by_get, passed):
                    raise
            else:
                self._held.was_read((*by_get, *by_decrypt))
                return value

    def _cited(self, wanted: Capability) -> tuple[str, ...]:
        return self._client.session.proofs_for([wanted], now=self._clock.now())

    def _passes_on(self, wanted: Capability, refused: tuple[str, ...], passed: set[str]) -> bool:
        """Put a grant that the node refused behind all others; return whether another one covers what was wanted.

        Another holder of a grant of the owner's can delegate it to this backend, with conditions of its own, and
        revoke it: the grant that arrived last is not the only one that counts (AT54).

        Args:
            wanted: what was asked for.
            refused: what was cited for it.
            passed: what was refused before in this attempt; added to.
        """
        passed.update(refused)
        session = self._client.session
        last = tuple(one for one in session.grants if one.cid in refused)
        self._client.use(replace(session, grants=(*(one for one in session.grants if one.cid not in refused), *last)))
        return passed.isdisjoint(self._cited(wanted)) and bool(refused)

    async def _renew(self, standing: Attestation, owner: str) -> Attestation:
        """Attest anew under a grant of the secret's owner: the last grant taken up may have been revoked (AT54)."""
        try:
            return await self._attest_by_any(self._client.encryption.network(owner=owner))
        except NotGranted:
            if same_principal(standing.network.owner, owner):
                raise
            return await self.attest(standing.network)

    async def _attest_by_any(self, network: NetworkId) -> Attestation:
        """Attest under the first grant on a network that the node accepts."""
        decrypt, passed = allow(network.text, DECRYPT), set[str]()
        while True:
            cited = self._cited(decrypt)
            try:
                return await self.attest(network)
            except Unauthorized:
                if not self._passes_on(decrypt, cited, passed):
                    raise
