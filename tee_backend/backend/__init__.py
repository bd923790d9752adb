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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.clock_and_entropy import Clock, Entropy, SystemClock, SystemEntropy
from capabilities.principals import Principal, same_principal
from capabilities.resources import NetworkId
from capabilities.tokens import Capability
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import (
    DecryptDenied,
    DelegationRevoked,
    NotGranted,
    ReleaseRefused,
    Unauthorized,
    UnboundValue,
)
from sealspace.kv import Kv
from sealspace.secrets import PROTECTED_NETWORK, Generated, Secret, SecretName
from sealspace.session import Grant, key_session
from sealspace.wire.portable import PortableDelegation

from ..evidence.source import EvidenceSource, KeySource
from .attesting import Attestation as Attestation  # of the public interface
from .attesting import Attester
from .found_grants import GrantFinder
from .grant_folder import GrantFolder
from .held_grants import HeldGrant, owners_of
from .key import backend_seed
from .session_grants import SessionGrants

PATIENCE_S = 60.0
"""Seconds for which `attest` waits for a node that asks for a later retry, for example while it
fetches collateral (AT39)."""

# Refusals that new evidence resolves: the node lost the old evidence, its clock differs, or an
# owner's policy demands newer evidence.
_NEEDS_NEW_EVIDENCE = frozenset({"not_attested", "evidence_expired", "age"})


@dataclass
class _ReadAttempts:
    """One read of a secret, and what was tried for it.

    Attributes:
        get: the right to read the secret.
        decrypt: the right to have its key released.
        network: the network that the secret is encrypted to.
        by: the only grant to cite, or None.
        evidence: the evidence for the next attempt; None: the request is sent without.
        has_new_evidence: whether evidence was renewed for this read.
        refused_cids: ids of the grants that were refused.
    """

    get: Capability
    decrypt: Capability
    network: NetworkId
    by: Grant | None
    evidence: Attestation | None = None
    has_new_evidence: bool = False
    refused_cids: set[str] = field(default_factory=set)


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
        self._folder = folder
        self._clock = clock or SystemClock()
        self._renewing = asyncio.Lock()
        self._attester = Attester(
            client,
            source,
            clock=self._clock,
            entropy=entropy or SystemEntropy(),
            patience_s=patience_s,
            pause=pause,
        )
        self._grants = SessionGrants(client, folder, clock=self._clock)
        self._held = self._grants.held
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
        return self._grants.with_states()

    @property
    def owners(self) -> tuple[Principal, ...]:
        """The owners of all resources in unexpired grants.

        The owners are in the order of `grants`.
        """
        owners = dict[Principal, None]()  # a dictionary keeps the order, and each owner once
        for grant in self._grants.live():
            for owner in sorted(owners_of(grant)):
                owners[owner] = None
        return tuple(owners)

    @property
    def signers(self) -> frozenset[Principal]:
        """The DIDs that signed unexpired grants of this backend."""
        return frozenset(grant.delegator for grant in self._grants.live())

    @property
    def attestation(self) -> Attestation | None:
        """The newest evidence that the node accepted; None before the first."""
        return self._attester.current

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
            NotGranted, AttestationRefused, NodeRefused, TransportError: the same errors as
                `attest`. The grants stay accepted after AttestationRefused, and if the node failed
                to judge the evidence.
        """
        networks = await self._grants.accept(portables, is_opening=True)
        evidence = self._attester.young_evidence()
        if evidence is not None:
            return evidence
        return await self.attest(networks[0])

    async def hold(self, *portables: PortableDelegation) -> None:
        """Store new grants without attesting this backend's code to the node.

        For example, a grant that only allows writing values needs no attestation.

        Args:
            portables: one grant or several; all of them are accepted, or none.
        Raises:
            InvalidPortableDelegation, GrantsFull, FolderUnusable, NodeRefused, TransportError: the
                same errors as `accept`.
        """
        await self._grants.accept(portables, is_opening=False)

    async def disuse(self, cids: Iterable[str]) -> None:
        """Use grants no longer, as if the node had reported that they are revoked."""
        await self._grants.disuse(cids)

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
        return await self._attester.attest(network)

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
        client = self._client if by is None else self._grants.client_citing(by)
        secrets = client.secrets(owner)
        network = self._grants.network_in(by, owner)
        attempts = _ReadAttempts(
            get=allow(secrets.resource(name, scope=scope), KV_GET),
            decrypt=allow(network.text, DECRYPT),
            network=network,
            by=by,
        )
        if by is None:  # otherwise a fetched grant could not be cited
            await self._finder.require((attempts.get, attempts.decrypt))
        attempts.evidence = await self._evidence_for(network, refused=None)
        while True:
            by_get = self._grants.cited_cids(client, attempts.get)
            by_decrypt = self._grants.cited_cids(client, attempts.decrypt)
            receiver = None if attempts.evidence is None else attempts.evidence.receiver
            try:
                secret = await secrets.read(name, scope=scope, receiver=receiver)
            except DecryptDenied as denial:
                await self._prepare_after_denial(attempts, by_decrypt, denial)
            except Unauthorized as refusal:
                if not await self._demote_refused(attempts, attempts.get, by_get, refusal):
                    raise
            except UnboundValue as unbound:
                other_grant = self._grant_allowing(attempts, owner, unbound)
                return await self.open_secret(owner, name, scope=scope, by=other_grant)
            else:
                self._grants.copy_pins(client)
                await self._grants.note_read((*by_get, *by_decrypt))
                return secret

    async def _prepare_after_denial(
        self, attempts: _ReadAttempts, cited: tuple[str, ...], denial: DecryptDenied
    ) -> None:
        """Prepare another attempt after the node has not released a key.

        Raises:
            DecryptDenied, DelegationRevoked: another attempt would not succeed.
        """
        refusal = denial.refusal
        if not attempts.has_new_evidence and self._needs_new_evidence(attempts.evidence, refusal):
            attempts.evidence = await self._evidence_for(
                attempts.network, refused=attempts.evidence
            )
            attempts.has_new_evidence = True
            return
        if await self._demote_refused(attempts, attempts.decrypt, cited, refusal):
            return
        if isinstance(refusal, DelegationRevoked):
            raise refusal from denial
        raise denial

    def _grant_allowing(self, attempts: _ReadAttempts, owner: str, unbound: UnboundValue) -> Grant:
        """Return another grant, which allows values without a place (EN47).

        Raises:
            UnboundValue: there is none, or the read names its grant.
        """
        other_grant = None
        if attempts.by is None:
            other_grant = self._grants.allowing_unbound(owner, (attempts.get, attempts.decrypt))
        if other_grant is None:
            raise unbound
        return other_grant

    async def _demote_refused(
        self,
        attempts: _ReadAttempts,
        wanted: Capability,
        cited: tuple[str, ...],
        refusal: Unauthorized,
    ) -> bool:
        """Demote the grants that the node refused, and return whether to try another one."""
        has_other = await self._grants.demote(wanted, cited, refusal, attempts.refused_cids)
        # A read that names its grant tries no other one.
        return has_other and attempts.by is None

    def _needs_new_evidence(self, used: Attestation | None, refusal: Unauthorized) -> bool:
        """Return whether a read that was refused may succeed with other evidence."""
        if used is None:
            return False
        # Another read may have attested during this one, so the key was wrapped to an earlier
        # receiver key.
        if used is not self.attestation:
            return True
        return isinstance(refusal, ReleaseRefused) and refusal.reason in _NEEDS_NEW_EVIDENCE

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
            SealspaceError: the same errors as `Secrets.put_generated`.
        """
        client = self._grants.client_citing(by)
        secrets = client.secrets(owner, network=PROTECTED_NETWORK)
        try:
            version = await secrets.put_generated(secret.name, value, generated, scope=secret.scope)
        except DelegationRevoked:  # RN252: it does not stand before an older grant
            await self.disuse((by.cid,))
            raise
        self._grants.copy_pins(client)
        return version

    @asynccontextmanager
    async def values(self, space: str, *, by: Grant) -> AsyncIterator[Kv]:
        """Give access to the values of an owner's space.

        Args:
            space: full id of the space.
            by: the only grant to cite. It is marked as revoked if the node says so.
        """
        try:
            yield self._grants.client_citing(by).kv(space)
        except DelegationRevoked:
            await self.disuse((by.cid,))
            raise
        await self._grants.note_read((by.cid,))

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
            current = self.attestation
            try:
                if current is None:
                    # Only a backend with stored or fetched grants attests before its first read.
                    if self._folder is None and not self._finder.has_found:
                        return None
                    return await self._attest_by_any(network)
                if current is refused or self._attester.ends_soon(current):
                    return await self._renew(current, network)
                return current
            except Unauthorized:
                return current  # no grant allows attesting any more; the read's refusal says why

    async def _renew(self, evidence: Attestation, network: NetworkId) -> Attestation:
        """Replace evidence by that of a new quote.

        It is submitted under a grant of the network's owner: the newest grant may be revoked
        (AT54). If no grant opens the network, the evidence is renewed on the network on which it
        was submitted, unless that has the same owner.
        """
        try:
            return await self._attest_by_any(network)
        except NotGranted:
            if same_principal(evidence.network.owner, network.owner):
                raise
            return await self.attest(evidence.network)

    async def _attest_by_any(self, network: NetworkId) -> Attestation:
        """Attest this backend's code to the node, trying one grant after another."""
        decrypt = allow(network.text, DECRYPT)
        refused_cids = set[str]()
        while True:
            cited = self._grants.cited_cids(self._client, decrypt)
            try:
                return await self.attest(network)
            except Unauthorized as refusal:
                if not await self._grants.demote(decrypt, cited, refusal, refused_cids):
                    raise
