"""A TEE-protected program that reads the secrets granted to it.

The backend first attests its code to the node. Receiver keys are made inside the trust domain and
never leave it. A quote's report data contain the node's challenge, the node's DID, the backend's
DID and the receiver key. The node wraps content keys to exactly that receiver key, so a party that
relays or records the exchange can open nothing.

Grants are kept in a folder, and the backend's own key comes from the platform's key service or from
a file. After a restart the backend attests again and goes on reading; no owner, wallet or new grant
is needed.

A complete backend has 15 lines besides its imports. It publishes its evidence, accepts grants and
uses a secret:

    from pathlib import Path

    from aiohttp import web

    from tee_backend.backend import Backend
    from tee_backend.evidence.dstack import DstackSource
    from tee_backend.backend.publishing import BackendSurface

    async def main() -> web.Application:
        tee = DstackSource.find()
        backend = Backend.open("https://node.example", tee, folder=Path("/data"), keys=tee)
        app_id = {"app_id": "com.example.notes", "name": "Notes"}
        manifest = {**app_id, "defaults": False, "secrets": {"API_KEY": True}}

        async def work(request: web.Request) -> web.Response:
            api_key = await backend.read_secret(request.query["owner"], "API_KEY")
            return web.Response(text=f"worked with a key of {len(api_key)} characters")

        app = web.Application()
        app.router.add_get("/work", work)
        BackendSurface(tee, did=backend.did, manifest=manifest, on_grant=backend.accept).mount(app)
        app.on_cleanup.append(lambda _: backend.close())
        backend.watch()
        return app

    web.run_app(main(), host="127.0.0.1", port=8080, auto_decompress=False)

On a platform without a key service, pass `keys=KeyFile(Path("/data/backend.key"))`; see
`tee_backend.backend.key`. To try this out without a TEE, use
`tee_backend.evidence.simulated.SimulatedSource`, which proves nothing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Self

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.clock_and_entropy import Clock, Entropy, SystemClock, SystemEntropy
from capabilities.principals import Principal, same_principal
from capabilities.resources import NetworkId, network_of, parse_network_id
from capabilities.tokens import Capability
from sealspace.apps.attestation import Attested
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.encryption import ReceiverKey, new_receiver_key
from sealspace.errors import (
    DecryptDenied,
    DelegationRevoked,
    InvalidPortableDelegation,
    NodeFailure,
    NotGranted,
    ReleaseRefused,
    Unauthorized,
)
from sealspace.kv import Kv
from sealspace.secrets import PROTECTED_NETWORK, Generated, Secret, SecretName
from sealspace.session import Grant, key_session
from sealspace.wire.portable import PortableDelegation

from ..attestation.report_data import session_binding
from ..backend_errors import FolderUnusable
from ..evidence.source import EvidenceSource, KeySource
from .found_grants import GrantFinder
from .grant_folder import GrantFolder, GrantSnapshot
from .held_grants import HeldGrant, HeldGrants, owners_of
from .key import backend_seed

RENEWAL_MARGIN_S = 15.0
"""Evidence that ends sooner than this is renewed first, so that it is still valid on arrival."""
QUIET_S = 10.0
"""Evidence younger than this also serves for a further grant. Any client may send grants, and nodes
limit attestations."""
PATIENCE_S = 60.0
"""Seconds for which `attest` waits for a node that asks for a later retry, for example while it
fetches collateral (AT39)."""

# Minimum wait between attempts: with `Retry-After: 0` the total would never reach `patience_s`.
_SHORTEST_PAUSE_S = 1.0
# Refusals that new evidence resolves: the node lost the old evidence, its clock differs, or an
# owner's policy demands newer evidence.
_NEEDS_NEW_EVIDENCE = frozenset({"not_attested", "evidence_expired", "age"})
_log = logging.getLogger(__name__)


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


class Backend:
    """A TEE-protected program that reads granted secrets from a node.

    Args:
        client: a client with a session of the backend's own key. Accepted grants are added to it.
        source: makes quotes, see `tee_backend.evidence`. If its platform keeps an event log, the
            log is sent with each quote.
        folder: where grants are stored; the grants in it are used from now on. None: after a
            restart, the grants are fetched from the node again.
        clock: decides when evidence is renewed. Default: the system clock.
        entropy: source of receiver keys. Inside a trust domain the host must not be able to predict
            it.
        patience_s: total seconds for which `attest` waits when the node asks for a later retry; 0:
            none.
        pause: waits for a number of seconds. Default: `asyncio.sleep`.
    """

    def __init__(
        self,
        client: Client,
        source: EvidenceSource,
        *,
        folder: GrantFolder | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        patience_s: float = PATIENCE_S,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._source = source
        self._folder = folder
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()
        self._patience_s = patience_s
        self._pause = pause
        self.attestation: Attestation | None = None
        self._attested_at = 0.0
        self._renewing, self._accepting = asyncio.Lock(), asyncio.Lock()
        self._by_grant: dict[str, Client] = {}
        self._held = HeldGrants()
        if folder is not None:
            kept = folder.stored
            self._held = HeldGrants(read=kept.read, revoked=kept.revoked)
            client.use(replace(client.session, grants=tuple(kept.grants), pins=kept.pins))
            self._held.replace(client.session.grants)
        self._finder = GrantFinder(client, self._held, self.hold, clock=self._clock, pause=pause)

    @classmethod
    def open(cls, url: str, source: EvidenceSource, *, folder: Path, keys: KeySource) -> Self:
        """Create a backend from its key and its stored grants.

        May block, but sends no request. The DID is derived from the key, so each start has the same
        DID.

        A program that needs other client settings creates the client itself, from `backend_seed`
        and `GrantFolder`, as this method does.

        Args:
            url: address of the node.
            source: makes quotes.
            folder: where grants are stored; made with mode 0700 if missing. One process at a time
                may use it.
            keys: source of the backend's own key: a platform with a key service (`DstackSource`),
                or a `KeyFile`.
        Returns:
            The backend; it has not attested yet.
        Raises:
            KeyUnusable, EvidenceSourceError: there is no key.
            FolderUnusable, FolderDamaged, FolderOfAnother: see `GrantFolder`.
            InvalidInput: the address is not a URL of a node.
        """
        client = Client(url, session=key_session(backend_seed(keys)))
        return cls(client, source, folder=GrantFolder(folder, client.session.did))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the client and unlock the folder for another process."""
        await self._finder.stop()
        await self._client.close()
        if self._folder is not None:
            self._folder.close()

    def watch(self, check: Callable[[PortableDelegation], object] = bool) -> None:
        """Fetch the grants at the node now and every minute, until `close` (AT61).

        An owner who approves this backend in a browser has nothing to send to it, and a delivery
        may be refused while others flood the backend. Needs a running event loop. The task ends
        with the loop, and failures are logged and retried.

        Args:
            check: called with each fetched grant before it is kept; raises SealspaceError for a
                grant that the program cannot use. Default: every grant is kept.
        """
        self._finder.start(check)

    def look_for(self, owner: Principal) -> None:
        """Have the next periodic fetch keep new grants of an owner, also beside earlier ones.

        For a program that found no grant of the owner for what it was asked to do.
        """
        self._finder.look_for(owner)

    @property
    def did(self) -> Principal:
        """The DID of this backend.

        Owners delegate to this DID.
        """
        return self._client.session.did

    @property
    def grants(self) -> tuple[HeldGrant, ...]:
        """All grants of this backend, in order of preference.

        Revoked and expired grants are included.
        """
        now = self._clock.now()
        return tuple(self._held.with_state(grant, now=now) for grant in self._client.session.grants)

    @property
    def owners(self) -> tuple[Principal, ...]:
        """The owners of all resources in unexpired grants.

        The owners are in the order of `grants`.
        """
        now = self._clock.now()
        live = (grant for grant in self._client.session.grants if grant.is_live(now))
        return tuple(dict.fromkeys(owner for grant in live for owner in sorted(owners_of(grant))))

    @property
    def signers(self) -> frozenset[Principal]:
        """The DIDs that signed unexpired grants of this backend."""
        now = self._clock.now()
        return frozenset(
            grant.delegator for grant in self._client.session.grants if grant.is_live(now)
        )

    async def accept(self, *portables: PortableDelegation) -> Attestation:
        """Store new grants and attest this backend's code to the node.

        New grants are tried before earlier grants, because an owner who grants again means the new
        grant; an earlier one may be revoked. Evidence submitted within the last QUIET_S seconds is
        kept: the node judges it again at each release.

        Args:
            portables: one grant, or several that belong together; all of them are accepted, or
                none.
        Returns:
            The current evidence. The grants are stored durably if this backend has a folder.
        Raises:
            InvalidPortableDelegation: a grant is for another DID or has expired, or no grant was
                passed.
            GrantsFull: the limit on grants is reached, and all of them are in use.
            FolderUnusable: the grants cannot be stored.
            NotGranted, AttestationRefused, NodeRefused, TransportError: as `attest`. The grants
                stay accepted after AttestationRefused, and if the node failed to judge the
                evidence.
        """
        if not portables:
            raise InvalidPortableDelegation("no grants were passed", hint="pass at least one grant")
        networks = await self._accept_all(portables, is_opening=True)
        live = self.attestation
        if live is not None and 0 <= self._clock.now() - self._attested_at < QUIET_S:
            return live
        return await self.attest(networks[0])

    async def hold(self, *portables: PortableDelegation) -> None:
        """Store new grants without attesting this backend's code to the node.

        For example, a grant that only allows writing values needs no attestation.

        Args:
            portables: one grant or several; all of them are accepted, or none.
        Raises:
            InvalidPortableDelegation, GrantsFull, FolderUnusable, NodeRefused, TransportError: as
                `accept`.
        """
        await self._accept_all(portables, is_opening=False)

    async def disuse(self, cids: Iterable[str]) -> None:
        """Use grants no longer, as if the node had reported that they are revoked."""
        self._held.mark_revoked(cids)
        await self._store_states()

    async def _accept_all(
        self, portables: Sequence[PortableDelegation], *, is_opening: bool
    ) -> list[NetworkId]:
        """Store new grants, and return the networks that they open."""
        new = [self._client.delegations.read(one) for one in portables]
        networks = [
            self._network_in(grant, one.owner)
            for grant, one in zip(new, portables, strict=True)
            if is_opening
        ]
        # One call at a time: a failure undoes its own grants and not those of another call.
        async with self._accepting:
            # AT54: before the request to the node, the grants must be valid for this backend, and
            # cover the networks.
            session = self._client.session
            for grant in new:
                session.with_grant(grant)
            joined, before = replace(session, grants=self._with_new(new)), session.grants
            for network in networks:
                joined.proofs_for([allow(network.text, DECRYPT)], now=self._clock.now())
            try:
                for one in portables:
                    await self._client.delegations.accept(one)
                self._hold(new)
                await self._store()
            except BaseException:
                # Undo the changes of this call. Changes made by other calls are kept.
                session, known = self._client.session, {one.cid for one in before}
                held = [one for one in session.grants if one.cid in known or one not in new]
                held += [one for one in before if one not in held]
                self._client.use(replace(session, grants=tuple(held)))
                self._held.replace(held)
                raise
        return networks

    def _with_new(self, new: Sequence[Grant]) -> tuple[Grant, ...]:
        """Return new grants, followed by the current grants that can stay.

        Expired grants are left out, and surplus grants are evicted.
        """
        grants, now = self._client.session.grants, self._clock.now()
        for grant in new:
            grants = self._held.with_new(grant, grants, now=now)
        return grants

    def _hold(self, new: Sequence[Grant]) -> None:
        """Start using new grants, and drop expired or surplus ones."""
        session, held = self._client.session, self._with_new(new)
        self._held.replace(held)
        # Drop the pinned keys of owners without a grant. Any client may send grants, so otherwise
        # pins would accumulate for ever.
        owners = frozenset(owner for one in held for owner in owners_of(one))
        pins = tuple(pin for pin in session.pins if parse_network_id(pin.network).owner in owners)
        self._client.use(replace(session, grants=held, pins=pins))
        self._by_grant = {
            cid: client for cid, client in self._by_grant.items() if cid in self._held.cids
        }

    async def _store(self) -> None:
        if self._folder is not None:
            await asyncio.to_thread(self._folder.store, self._snapshot)

    def _snapshot(self) -> GrantSnapshot:
        session, cids = self._client.session, self._held.cids
        # Without grants that `_accept_all` has sent to the node and not yet confirmed.
        grants = [one for one in session.grants if one.cid in cids]
        return GrantSnapshot(grants, session.pins, self._held.read, self._held.revoked)

    async def attest(self, network: NetworkId) -> Attestation:
        """Prove to the node which code this backend runs.

        New evidence replaces earlier evidence. If the node cannot judge the quote now and says when
        to retry, this method retries then with a new challenge and a new quote, for at most
        `patience_s`.

        Args:
            network: a network on which this backend was granted decrypt. The node accepts quotes
                only from DIDs with such a grant.
        Returns:
            The evidence. While it is valid and the owner's policies approve it, the node releases
            keys to its receiver key alone.
        Raises:
            NotGranted: no grant contains decrypt on the network.
            AttestationRefused: the node does not accept the quote.
            NodeFailure: the node could not judge the quote in time.
            NodeRefused, TransportError: the request failed.
            EvidenceSourceError: the source made no quote.
        Does not check:
            Whether any owner approves this code: the node judges that at each release.
        """
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
        # A new key for each attestation; it exists in this process only.
        receiver = new_receiver_key(self._entropy)
        challenge = await self._client.attestation.challenge()
        key = receiver.public_key
        binding = session_binding(challenge.nonce, challenge.audience, self.did, "attested", key)
        # In a thread: a quote is read from a file system or a socket, which blocks.
        quoted = await asyncio.to_thread(self._source.quote, binding.report_data)
        session = await self._client.attestation.open_session(
            network,
            challenge,
            Attested(quote=quoted.quote, receiver_public_key=key, event_log=quoted.log_entries),
        )
        self.attestation = Attestation(network, receiver, session.expires_at, session.evidence)
        self._attested_at = self._clock.now()
        return self.attestation

    async def read_secret(
        self, owner: str, name: str, *, scope: str | None = None, by: Grant | None = None
    ) -> str | bytes:
        """Return the value of a secret granted to this backend.

        See `open_secret`.
        """
        return (await self.open_secret(owner, name, scope=scope, by=by)).value

    async def open_secret(
        self, owner: str, name: str, *, scope: str | None = None, by: Grant | None = None
    ) -> Secret:
        """Return a decrypted secret with its metadata.

        If no usable grant covers the secret, the grants at the node are fetched first (AT61).
        Evidence that is about to end is renewed, and once more if the node lost it or finds it too
        old. With stored or fetched grants, the backend attests before its first read. Any other
        backend that has not attested sends the request without evidence; the node refuses it unless
        the owner requires none.

        Args:
            owner: the owner's DID.
            name: name of the secret, matching `^[A-Z][A-Z0-9_]*$`.
            scope: scope of the secret; None: a global secret.
            by: the only grant to cite. None: any grant; after a refusal the next one that covers
                the secret is tried.
        Returns:
            The secret: its value, text or bytes, and its metadata.
        Raises:
            NotFound: the secret does not exist.
            DelegationRevoked: the grant was revoked. It stays in `grants` with that state.
            DecryptDenied: the node does not release the key: this code is not attested, not
                approved, or withdrawn.
            AttestationRefused: the evidence had to be renewed, and the node refused the new quote.
            NotGranted: no grant covers the secret.
            Unauthorized, NodeRefused, TransportError: the request failed.
            EncryptionError: the envelope cannot be opened.
        """
        client = self._client if by is None else self._client_citing(by)
        secrets = client.secrets(owner)
        get = allow(secrets.resource(name, scope=scope), KV_GET)
        network = self._network_in(by, owner)
        decrypt = allow(network.text, DECRYPT)
        if by is None:
            await self._finder.require((get, decrypt))
        live, is_new = await self._evidence_for(network, refused=None), False
        passed: set[str] = set()
        while True:
            by_get, by_decrypt = (self._cited(client, one) for one in (get, decrypt))
            try:
                receiver = None if live is None else live.receiver
                secret = await secrets.read(name, scope=scope, receiver=receiver)
            except DecryptDenied as denial:
                refusal = denial.refusal
                # Another read may have attested during this one, so the key was wrapped to an
                # earlier receiver key.
                is_outdated = live is not self.attestation
                if (
                    live is not None
                    and not is_new
                    and (
                        is_outdated
                        or (
                            isinstance(refusal, ReleaseRefused)
                            and refusal.reason in _NEEDS_NEW_EVIDENCE
                        )
                    )
                ):
                    live, is_new = await self._evidence_for(network, refused=live), True
                elif not await self._demote(decrypt, by_decrypt, refusal, passed) or by is not None:
                    if isinstance(refusal, DelegationRevoked):
                        raise refusal from denial
                    raise
            except Unauthorized as refusal:
                if not await self._demote(get, by_get, refusal, passed) or by is not None:
                    raise
            else:
                self._copy_pins(client)
                await self._note_read((*by_get, *by_decrypt))
                return secret

    async def put_generated(
        self, owner: str, secret: SecretName, value: str, generated: Generated, *, by: Grant
    ) -> str:
        """Encrypt and store a newly generated secret.

        An existing secret with this name is not replaced. The secret is encrypted to the owner's
        network `protected`.

        Args:
            owner: the owner's DID.
            secret: name and scope under which the secret is stored.
            value: the secret itself, a text.
            generated: metadata about how the secret was made.
            by: the only grant to cite. It is marked as revoked if the node says so.
        Returns:
            The version of the stored value.
        Raises:
            SealspaceError: as `Secrets.put_generated`.
        """
        client = self._client_citing(by)
        secrets = client.secrets(owner, network=PROTECTED_NETWORK)
        try:
            version = await secrets.put_generated(secret.name, value, generated, scope=secret.scope)
        except DelegationRevoked:  # RN252: it does not stand before an older grant
            await self.disuse((by.cid,))
            raise
        self._copy_pins(client)
        return version

    @asynccontextmanager
    async def values(self, space: str, *, by: Grant) -> AsyncIterator[Kv]:
        """Give access to the values of an owner's space.

        Args:
            space: full id of the space.
            by: the only grant to cite. It is marked as revoked if the node says so.
        """
        try:
            yield self._client_citing(by).kv(space)
        except DelegationRevoked:
            await self.disuse((by.cid,))
            raise
        await self._note_read((by.cid,))

    def _copy_pins(self, client: Client) -> None:
        for pin in client.session.pins:
            self._client.use(self._client.session.with_pin(pin))

    async def _evidence_for(
        self, network: NetworkId, *, refused: Attestation | None
    ) -> Attestation | None:
        """Return current evidence of this backend's code.

        An attestation that expires soon or was refused is replaced. Concurrent readers share one
        attestation. `refused` is evidence that the node no longer accepts; None: the current
        evidence may be used. The result is None if there is no attestation, and the request has to
        be sent without evidence.
        """
        async with self._renewing:
            live = self.attestation
            try:
                if live is None:
                    if self._folder is None and not self._finder.has_found:
                        return None
                    return await self._attest_by_any(network)
                if live.expires_at - self._clock.now() >= RENEWAL_MARGIN_S and live is not refused:
                    return live
                try:
                    # Under a grant of the secret's owner: the newest grant may be revoked (AT54).
                    return await self._attest_by_any(network)
                except NotGranted:
                    if same_principal(live.network.owner, network.owner):
                        raise
                    return await self.attest(live.network)
            except Unauthorized:
                return live  # no grant allows attesting any more; the read's refusal says why

    def _network_in(self, grant: Grant | None, owner: str) -> NetworkId:
        """Find an owner's encryption network among the resources of a grant.

        Only the grant's capabilities to decrypt are searched. The fallback is the owner's default
        network.
        """
        granted = () if grant is None else grant.capabilities
        opened = (network_of(one.resource) for one in granted if one.ability == DECRYPT)
        own = (one for one in opened if one is not None and same_principal(one.owner, owner))
        return next(own, None) or self._client.encryption.network(owner=owner)

    async def _note_read(self, cids: Sequence[str]) -> None:
        """Mark grants as used for reading.

        Used grants are not evicted later.
        """
        is_new = not self._held.read.issuperset(cids)
        self._held.mark_read(cids)
        if is_new or (self._folder is not None and self._client.session.pins != self._folder.pins):
            await self._store_states()

    async def _store_states(self) -> None:
        """Save the ids of used grants and of revoked grants to disk.

        Failures are only logged.
        """
        try:
            await self._store()
        except FolderUnusable as error:
            _log.warning("cannot store which grants were read or revoked: %s", error)

    def _client_citing(self, grant: Grant) -> Client:
        """Return a client that uses only the given grant."""
        client = self._by_grant.get(grant.cid)
        if client is None:
            client = self._client.acting(replace(self._client.session, grants=(grant,)))
            if grant.cid in self._held.cids:  # a cached client of another grant would never go
                self._by_grant[grant.cid] = client
        return client

    def _cited(self, client: Client, wanted: Capability) -> tuple[str, ...]:
        return client.session.proofs_for([wanted], now=self._clock.now())

    async def _demote(
        self, wanted: Capability, cited: tuple[str, ...], refusal: Unauthorized, passed: set[str]
    ) -> bool:
        """Move grants refused by the node to the end of the list.

        Returns whether an untried grant remains. Another holder of a grant of the owner can
        delegate it to this backend under conditions of its own, and revoke it. So the newest grant
        is not the only one that counts (AT54). `passed` collects the grants that were refused in
        this attempt.
        """
        passed.update(cited)
        session = self._client.session
        # Stable, so that the order among the others stays.
        grants = sorted(session.grants, key=lambda one: one.cid in cited)
        self._client.use(replace(session, grants=tuple(grants)))
        if isinstance(refusal, DelegationRevoked) and not self._held.revoked.issuperset(cited):
            self._held.mark_revoked(cited)
            await self._store_states()
        return passed.isdisjoint(self._cited(self._client, wanted)) and bool(cited)

    async def _attest_by_any(self, network: NetworkId) -> Attestation:
        """Attest this backend's code to the node, trying one grant after another."""
        decrypt, passed = allow(network.text, DECRYPT), set[str]()
        while True:
            cited = self._cited(self._client, decrypt)
            try:
                return await self.attest(network)
            except Unauthorized as refusal:
                if not await self._demote(decrypt, cited, refusal, passed):
                    raise
