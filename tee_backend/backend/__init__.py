"""Being a backend inside a TEE: prove what code this is, then read what owners granted to it.

The receiver keys are made inside the trust domain and stay there. An attestation binds one: the
quote's report data name the node's challenge, the node, this backend's DID and the receiver key,
and keys are then wrapped to exactly that receiver key. A party that relays or records any of it can
open nothing.

What owners granted is kept in a folder, and the backend's own key comes from the platform's key
service or from a file: after a restart it attests anew and reads on, without an owner, a wallet or
a new grant.

A backend in 15 lines at most, besides its imports; it publishes what it is, takes grants, and works
with what it reads:

    from pathlib import Path

    from aiohttp import web

    from tee_backend.backend import Backend
    from tee_backend.evidence.dstack import DstackSource
    from tee_backend.backend.publishing import BackendSurface

    async def main() -> web.Application:
        agent = DstackSource.find()
        backend = Backend.open("https://node.example", agent, folder=Path("/data/backend"), keys=agent)
        app_id = {"app_id": "com.example.notes", "name": "Notes"}
        manifest = {**app_id, "defaults": False, "secrets": {"API_KEY": True}}

        async def work(request: web.Request) -> web.Response:
            api_key = await backend.read_secret(request.query["owner"], "API_KEY")
            return web.Response(text=f"worked with a key of {len(api_key)} characters")

        app = web.Application()
        app.router.add_get("/work", work)
        BackendSurface(agent, did=backend.did, manifest=manifest, on_grant=backend.accept).mount(app)
        app.on_cleanup.append(lambda _: backend.close())
        return app

    web.run_app(main(), host="127.0.0.1", port=8080, auto_decompress=False)

Without a key service: `keys=KeyFile(Path("/data/backend.key"))`, see `tee_backend.backend.key`.
Without a TEE, to try it out: `tee_backend.evidence.simulated.SimulatedSource`, which proves
nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

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
from sealspace.secrets import PROTECTED_NETWORK, Generated, Secret, SecretName
from sealspace.session import Grant, key_session
from sealspace.wire.portable import PortableDelegation

from ..attestation.report_data import session_binding
from ..backend_errors import FolderUnusable
from ..evidence.source import EvidenceSource, KeySource
from .grant_folder import GrantFolder, Holding
from .held_grants import HeldGrant, HeldGrants, owners_of
from .key import backend_seed

RENEWAL_MARGIN_S: Final = 15.0
"""Evidence that ends sooner is renewed first: a request must not find it ended on arrival."""
QUIET_S: Final = 10.0
"""Evidence that is younger serves for a further grant too: any client may send grants, and nodes
count attestations."""
PATIENCE_S: Final = 60.0
"""How long `attest` waits for a node that asks for a later retry, as one that fetches collateral
first does (AT39)."""

_SHORTEST_PAUSE_S: Final = 1.0
_NOTHING_DONE: Final = 503
_FOR_WANT_OF_NEW_EVIDENCE: Final = frozenset({"not_attested", "evidence_expired", "age"})
"""Refusals that end with new evidence: the node lost the former, or its clock or an owner's policy
ends it sooner."""
_log = logging.getLogger(__name__)


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
        source: makes quotes; see `tee_backend.evidence`. Where its platform keeps an event log, the
            log is sent along.
        folder: where grants are kept; what is in it is used from now on. None: they end with the
            process.
        clock: to renew evidence in time.
        entropy: for receiver keys; inside a trust domain it has to be one the host cannot foresee.
        patience_s: how many seconds `attest` waits in all where the node says when to retry; 0: not
            at all.
        pause: waits for some seconds.
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
        self._renewing, self._taking_up = asyncio.Lock(), asyncio.Lock()
        self._by_grant: dict[str, Client] = {}
        self._held = HeldGrants()
        if folder is not None:
            kept = folder.kept
            self._held = HeldGrants(read=kept.read, revoked=kept.revoked)
            client.use(replace(client.session, grants=tuple(kept.grants), pins=kept.pins))
            self._held.hold(client.session.grants)

    @classmethod
    def open(cls, url: str, source: EvidenceSource, *, folder: Path, keys: KeySource) -> Self:
        """Return a backend that keeps its grants, with the DID that it had before. May block; asks
        no node.

        A program that demands more of the node makes the client itself, with `backend_seed` and
        `GrantFolder`, as here.

        Args:
            url: address of the node.
            source: makes quotes.
            folder: where grants are kept; made with mode 0700 where it is absent. One process at a
                time.
            keys: where its own key comes from: a source that has a key service (`DstackSource`), or
                a `KeyFile`.
        Raises:
            KeyUnusable, EvidenceSourceError: there is no key.
            FolderUnusable, FolderDamaged, FolderOfAnother: see `GrantFolder`.
            InvalidInput: the address.
        """
        client = Client(url, session=key_session(backend_seed(keys)))
        return cls(client, source, folder=GrantFolder(folder, client.session.did))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the client, and leave the folder to another process."""
        await self._client.close()
        if self._folder is not None:
            self._folder.close()

    @property
    def did(self) -> Principal:
        """This backend's DID; what owners delegate to."""
        return self._client.session.did

    @property
    def grants(self) -> tuple[HeldGrant, ...]:
        """The grants that are held, in the order in which they are tried; revoked ones and ended
        ones among them."""
        now = self._clock.now()
        return tuple(self._held.described(grant, now=now) for grant in self._client.session.grants)

    @property
    def owners(self) -> tuple[Principal, ...]:
        """The owners of the resources in the grants that are held and have not ended, the newest
        first."""
        now = self._clock.now()
        live = (grant for grant in self._client.session.grants if grant.is_live(now))
        return tuple(dict.fromkeys(owner for grant in live for owner in sorted(owners_of(grant))))

    async def accept(self, *portables: PortableDelegation) -> Attestation:
        """Use one grant, or several that belong together, from now on, before any earlier one, and
        attest under them.

        They are kept when this returns. An owner that grants anew means the new grant: an earlier
        one may have been revoked, and would be cited first. Where evidence was submitted within
        QUIET_S, it stays: the node judges it anew at each release.

        Args:
            portables: all or none is taken up.
        Raises:
            InvalidPortableDelegation: one is for another DID, or has ended; or there is none.
            GrantsFull: the bound on held grants is reached, and all of them are in use.
            FolderUnusable: they cannot be kept.
            NotGranted, AttestationRefused, NodeRefused, TransportError: as `attest`; after
                AttestationRefused, or where the node failed to judge the evidence, the grants are
                kept.
        """
        if not portables:
            raise InvalidPortableDelegation(
                "there is no grant to take up", hint="pass at least one"
            )
        new = [self._client.delegations.read(one) for one in portables]
        networks = [
            self._network_in(grant, one.owner) for grant, one in zip(new, portables, strict=True)
        ]
        await self._take_up(portables, new, networks)
        live = self.attestation
        if live is not None and 0 <= self._clock.now() - self._attested_at < QUIET_S:
            return live
        return await self.attest(networks[0])

    async def hold(self, *portables: PortableDelegation) -> None:
        """Use grants that release no key from now on, as to write values: nothing is attested for
        them.

        Args:
            portables: all or none is held.
        Raises:
            InvalidPortableDelegation, GrantsFull, FolderUnusable, NodeRefused, TransportError: as
            `accept`.
        """
        await self._take_up(
            portables, [self._client.delegations.read(one) for one in portables], ()
        )

    async def _take_up(
        self,
        portables: Sequence[PortableDelegation],
        new: Sequence[Grant],
        networks: Sequence[NetworkId],
    ) -> None:
        # what fails is taken back, and nothing of another call's with it
        async with self._taking_up:
            self._require_usable(new, networks)  # before the request to the node: AT54
            before = self._client.session.grants
            try:
                for one in portables:
                    await self._client.delegations.accept(one)
                self._hold(new)
                await self._store()
            except BaseException:
                self._take_back(new, before)
                raise

    def _require_usable(self, new: Sequence[Grant], networks: Sequence[NetworkId]) -> None:
        """Refuse grants for another DID, above the bound, or that do not confirm the owners stated
        beside them."""
        session = self._client.session
        for grant in new:
            session.with_grant(grant)
        joined = replace(session, grants=self._with_new(new))
        for network in networks:
            joined.proofs_for([allow(network.text, DECRYPT)], now=self._clock.now())

    def _with_new(self, new: Sequence[Grant]) -> tuple[Grant, ...]:
        """Return the grants to hold from now on, the new ones first."""
        grants, now = self._client.session.grants, self._clock.now()
        for grant in new:
            grants = self._held.with_new(grant, grants, now=now)
        return grants

    def _hold(self, new: Sequence[Grant]) -> None:
        """Hold new grants, and what they leave room for."""
        session, held = self._client.session, self._with_new(new)
        self._held.hold(held)
        # Otherwise keys that were pinned for owners whose grants are gone would stay for ever as
        # well.
        owners = frozenset(owner for one in held for owner in owners_of(one))
        pins = tuple(pin for pin in session.pins if parse_network_id(pin.network).owner in owners)
        self._client.use(replace(session, grants=held, pins=pins))
        self._by_grant = {
            cid: client for cid, client in self._by_grant.items() if cid in self._held.cids
        }

    def _take_back(self, new: Sequence[Grant], before: Sequence[Grant]) -> None:
        """Hold what was held before: neither the new grants, nor less because of them."""
        session, known = self._client.session, {one.cid for one in before}
        held = [one for one in session.grants if one.cid in known or one not in new]
        held += [one for one in before if one not in held]
        self._client.use(replace(session, grants=tuple(held)))
        self._held.hold(held)

    async def _store(self) -> None:
        if self._folder is not None:
            await asyncio.to_thread(self._folder.store, self._holding)

    def _holding(self) -> Holding:
        session, cids = self._client.session, self._held.cids
        # none that the node was only just told of
        grants = [one for one in session.grants if one.cid in cids]
        return Holding(grants, session.pins, self._held.read, self._held.revoked)

    async def attest(self, network: NetworkId) -> Attestation:
        """Prove to the node what code this is; evidence from before is replaced by it.

        A node that cannot judge the quote now and says when to retry is asked again then, with a
        new challenge and a new quote, until patience ends.

        Args:
            network: one that this backend was granted decrypt on; only a DID with a grant there may
                submit quotes.
        Returns:
            The evidence. Keys are released to its receiver key alone, while it is valid and the
            owner approves of it.
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
        key = receiver.public_key
        binding = session_binding(challenge.nonce, challenge.audience, self.did, "attested", key)
        # Quotes come out of a file system or a socket of the platform, neither of which belongs on
        # the event loop.
        quoted = await asyncio.to_thread(self._source.quote, binding.report_data)
        attested = Attested(
            quote=quoted.quote, receiver_public_key=key, event_log=quoted.log_entries
        )
        session = await self._client.attestation.open_session(network, challenge, attested)
        self.attestation = Attestation(network, receiver, session.expires_at, session.evidence)
        self._attested_at = self._clock.now()
        return self.attestation

    async def read_secret(
        self, owner: str, name: str, *, scope: str | None = None, by: Grant | None = None
    ) -> str | bytes:
        """Read and open a secret that an owner granted to this backend; as `open_secret`, its value
        alone."""
        return (await self.open_secret(owner, name, scope=scope, by=by)).value

    async def open_secret(
        self, owner: str, name: str, *, scope: str | None = None, by: Grant | None = None
    ) -> Secret:
        """Read and open a secret that an owner granted to this backend, with what is said of it.

        Evidence that is about to end is renewed first, and once where the node lost it or finds it
        too old. After a restart with kept grants there is none, and the backend attests. A backend
        without a folder that did not attest asks all the same, and is refused unless the owner
        wants no evidence.

        Args:
            owner: the owner's DID.
            name: `^[A-Z][A-Z0-9_]*$`.
            scope: None for a global secret.
            by: the only grant to cite, one that is held; None: any, another one where a grant is
                refused.
        Raises:
            NotFound: there is no such secret.
            DelegationRevoked: the grant was revoked; it stays among `grants` as such.
            DecryptDenied: the node does not release the key: not attested, not approved, or
                withdrawn.
            AttestationRefused: evidence had to be renewed, and was not accepted.
            NotGranted, Unauthorized, EncryptionError, NodeRefused, TransportError.
        """
        client = self._client if by is None else self._citing(by)
        secrets = client.secrets(owner)
        get = allow(secrets.resource(name, scope=scope), KV_GET)
        network = self._network_of(owner) if by is None else self._network_in(by, owner)
        decrypt = allow(network.text, DECRYPT)
        live, is_new = await self._evidence_for(network, refused=None), False
        passed: set[str] = set()
        while True:
            by_get, by_decrypt = (self._cited(client, one) for one in (get, decrypt))
            try:
                receiver = None if live is None else live.receiver
                secret = await secrets.read(name, scope=scope, receiver=receiver)
            except DecryptDenied as denial:
                refusal = denial.refusal
                # Another read may have attested while this one was on its way, with the receiver
                # key from before.
                is_outdated = live is not self.attestation
                if (
                    live is not None
                    and not is_new
                    and (
                        is_outdated
                        or (
                            isinstance(refusal, ReleaseRefused)
                            and refusal.reason in _FOR_WANT_OF_NEW_EVIDENCE
                        )
                    )
                ):
                    live, is_new = await self._evidence_for(network, refused=live), True
                elif (
                    not await self._passes_on(decrypt, by_decrypt, refusal, passed)
                    or by is not None
                ):
                    if isinstance(refusal, DelegationRevoked):
                        raise refusal from denial
                    raise
            except Unauthorized as refusal:
                if not await self._passes_on(get, by_get, refusal, passed) or by is not None:
                    raise
            else:
                self._pin_as(client)
                await self._note_read((*by_get, *by_decrypt))
                return secret

    async def put_generated(
        self, owner: str, secret: SecretName, value: str, generated: Generated, *, by: Grant
    ) -> str:
        """Seal a secret that was made here to the owner's network `protected`, and write it where
        nothing is.

        Args:
            owner: the owner's DID.
            secret: where it is written.
            value: a text.
            generated: what is said of it.
            by: the only grant to cite.
        Returns:
            The version of what was written.
        Raises:
            SealspaceError: as `Secrets.put_generated`.
        """
        client = self._citing(by)
        secrets = client.secrets(owner, network=PROTECTED_NETWORK)
        version = await secrets.put_generated(secret.name, value, generated, scope=secret.scope)
        self._pin_as(client)
        return version

    async def read_value(self, space: str, key: str, *, by: Grant, max_bytes: int) -> bytes:
        """Read a value that somebody granted to this backend.

        Args:
            space: full id.
            key: of the value.
            by: the only grant to cite.
            max_bytes: a longer one is refused.
        Raises:
            SealspaceError: as `Kv.get`.
        """
        client = self._citing(by)
        try:
            value = await client.kv(space).get(key, max_bytes=max_bytes)
        except DelegationRevoked:
            self._held.was_revoked((by.cid,))
            await self._store_marks()
            raise
        await self._note_read((by.cid,))
        return value.body

    def _pin_as(self, client: Client) -> None:
        """Pin the keys of networks that another client of this backend has met."""
        for pin in client.session.pins:
            self._client.use(self._client.session.with_pin(pin))

    async def _evidence_for(
        self, network: NetworkId, *, refused: Attestation | None
    ) -> Attestation | None:
        """Return evidence to read with; readers side by side need it together, and one of them
        attests for all.

        `refused` is evidence that the node refuses for want of newer one; None: the current one may
        serve.
        """
        async with self._renewing:
            live = self.attestation
            try:
                if live is None:
                    return None if self._folder is None else await self._attest_by_any(network)
                if live.expires_at - self._clock.now() >= RENEWAL_MARGIN_S and live is not refused:
                    return live
                try:
                    # Under a grant of the secret's owner: the last grant taken up may have been
                    # revoked (AT54).
                    return await self._attest_by_any(network)
                except NotGranted:
                    if same_principal(live.network.owner, network.owner):
                        raise
                    return await self.attest(live.network)
            except Unauthorized:
                return live  # no grant lets it attest any more: the answer to the read says why

    def _network_of(self, owner: str) -> NetworkId:
        return self._client.encryption.network(owner=owner)

    def _network_in(self, grant: Grant, owner: str) -> NetworkId:
        """Return the owner's network that a grant opens; the default one where it opens none."""
        opened = (network_of(one.resource) for one in grant.capabilities if one.ability == DECRYPT)
        own = (one for one in opened if one is not None and same_principal(one.owner, owner))
        return next(own, None) or self._network_of(owner)

    async def _note_read(self, cids: Sequence[str]) -> None:
        """Note what served: it gives way to no other grant, after a restart either."""
        is_new = not self._held.read.issuperset(cids)
        self._held.was_read(cids)
        if is_new or (self._folder is not None and self._client.session.pins != self._folder.pins):
            await self._store_marks()

    async def _store_marks(self) -> None:
        """Keep what was learnt of grants; where that fails, what was asked for is given all the
        same."""
        try:
            await self._store()
        except FolderUnusable as error:
            _log.warning("what was learnt of grants is not kept: %s", error)

    def _citing(self, grant: Grant) -> Client:
        """Return a client that cites this grant alone."""
        client = self._by_grant.get(grant.cid)
        if client is None:
            session = self._client.session
            client = self._client.acting(replace(session, grants=(grant,)))
            if grant.cid in self._held.cids:  # others are not kept: nothing would end them
                self._by_grant[grant.cid] = client
        return client

    def _cited(self, client: Client, wanted: Capability) -> tuple[str, ...]:
        return client.session.proofs_for([wanted], now=self._clock.now())

    async def _passes_on(
        self, wanted: Capability, cited: tuple[str, ...], refusal: Unauthorized, passed: set[str]
    ) -> bool:
        """Put a grant that the node refused behind all others; return whether another one covers
        what was wanted.

        Another holder of a grant of the owner's can delegate it to this backend, with conditions of
        its own, and revoke it: the grant that arrived last is not the only one that counts (AT54).
        `passed` gathers what was refused in this attempt.
        """
        passed.update(cited)
        session = self._client.session
        last = tuple(one for one in session.grants if one.cid in cited)
        self._client.use(
            replace(
                session, grants=(*(one for one in session.grants if one.cid not in cited), *last)
            )
        )
        if isinstance(refusal, DelegationRevoked) and not self._held.revoked.issuperset(cited):
            self._held.was_revoked(cited)
            await self._store_marks()
        return passed.isdisjoint(self._cited(self._client, wanted)) and bool(cited)

    async def _attest_by_any(self, network: NetworkId) -> Attestation:
        """Attest under the first grant on a network that the node accepts."""
        decrypt, passed = allow(network.text, DECRYPT), set[str]()
        while True:
            cited = self._cited(self._client, decrypt)
            try:
                return await self.attest(network)
            except Unauthorized as refusal:
                if not await self._passes_on(decrypt, cited, refusal, passed):
                    raise
