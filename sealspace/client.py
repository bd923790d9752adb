"""One node and the session that acts on it: the entry point of this package.

A client owns its connections: use it in `async with`, or call `close`. It belongs to one event
loop.

Example:
    async with Client(url) as client:
        await client.sign_in(wallet, SignIn(spaces=("notes",)))
        await client.kv("notes").put("todo/1", "buy milk")
        await client.secrets().put("API_KEY", "open sesame")
"""

import asyncio
import copy
from collections.abc import Sequence
from typing import Final, Self

from capabilities.capability_errors import InvalidIdentifier
from capabilities.clock_and_entropy import Clock, Entropy, SystemClock, SystemEntropy
from capabilities.resources import parse_space_id
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_url

from .apps.attestation import Attestation, Family, ReleaseTerms, fetch_terms
from .apps.backends import Backends
from .apps.programs import Programs
from .apps.runners import Runners
from .delegations import Delegations
from .documents.node_evidence import (
    MAX_ATTESTATION_BYTES,
    NodeAttestation,
    NodeEvidence,
    NodeRequirement,
    parse_node_attestation,
)
from .encryption import Encryption, Withdrawals
from .errors import ClientNotReady, InvalidInput, NodeEvidenceRefused, SealspaceError
from .kv import Kv
from .receipts import Receipts
from .secrets import SECRETS_SPACE, Secrets
from .session import DEFAULT_NETWORK, Session, space_of
from .spaces import PublicKv, Spaces
from .wallets import AnyWallet, wallet_of
from .wire.caller import Caller, NodeInfo
from .wire.sign_in import SignIn, key_sign_in, wallet_sign_in
from .wire.transport import Request, Transport, TransportSettings

_NONCE_BYTES: Final = 32


async def fetch_node_attestation(transport: Transport, entropy: Entropy) -> NodeAttestation:
    """Ask a node for its evidence with a fresh nonce; nothing of the answer is verified."""
    nonce = encode_url(entropy.token(_NONCE_BYTES))
    request = Request(
        "GET",
        f"/attestation?nonce={nonce}",
        repeatable=True,
        max_answer_bytes=MAX_ATTESTATION_BYTES,
    )
    answer = await transport.require(request)
    return parse_node_attestation(answer.body, nonce=nonce)


class NodeGuard:
    """Requires a node's evidence, once for all waiting callers, and again when it is old."""

    def __init__(self, caller: Caller, requirement: NodeRequirement) -> None:
        self._caller = caller
        self._requirement = requirement
        self._turn = asyncio.Lock()
        self._known: tuple[float, NodeEvidence] | None = None
        self._store_id: bytes | None = None
        self._failed: SealspaceError | None = None

    async def require(self) -> NodeEvidence:
        """Return evidence that is good now; it is asked for where there is none, or it is old.

        Raises:
            NodeEvidenceRefused: it is not good. It is asked for again the next time; callers that
                waited for an answer that was not good get the same answer, or the last of many
                would wait for all requests before.
            NodeMismatch, NodeRefused, TransportError: from the node.
        """
        failed = self._failed
        async with self._turn:  # another task may have asked meanwhile
            if self._known is not None:
                asked_at, evidence = self._known
                ends_at = min(asked_at + self._requirement.renew_after_s, evidence.facts.expires_at)
                # A clock that was set back says nothing about the age.
                if asked_at <= self._caller.clock.now() < ends_at:
                    return evidence
            if self._failed is not None and self._failed is not failed:
                raise self._failed
            try:
                return await self._ask()
            except SealspaceError as error:
                self._failed = error
                raise

    def leave_turn(self) -> None:
        """Let nobody wait for a request that is under way, in a forked process: its parent makes
        it."""
        self._turn = asyncio.Lock()

    async def _ask(self) -> NodeEvidence:
        self._known = None
        node_id = await self._caller.node_id()
        # a quote may be as old as the request: a relay can hold it back
        asked_at = self._caller.clock.now()
        attestation = await fetch_node_attestation(self._caller.transport, self._caller.entropy)
        statement, now = attestation.statement, self._caller.clock.now()
        # AT45
        if statement.node_did != node_id:
            raise NodeEvidenceRefused(
                "node-did", f"the evidence is of {statement.node_did}, the node is {node_id}"
            )
        if self._store_id not in (None, statement.store_id):
            raise NodeEvidenceRefused(
                "store", "the evidence is of another store than the one before"
            )
        evidence = await self._requirement.verifier.verify(
            attestation, self._requirement.policy, now=now
        )
        self._store_id, self._known = statement.store_id, (asked_at, evidence)
        return evidence


__all__ = ["Client", "NodeInfo", "SignIn", "TransportSettings"]


class Client:
    """A node and a session on it.

    Args:
        url: address of the node; `http://` only for this machine, see `TransportSettings`.
        session: the acting session; None until `sign_in`.
        pinned_node: the only node DID to talk to; None: the session's, or the first one seen.
        require_node_evidence: what the node has to prove about itself before the first token is
            sent to it and before anything is sealed to its networks, and again after a while; None:
            nothing. See `sealspace.documents.node_evidence`.
        unsigned_descriptors: seal to keys that no node signed, for nodes that cannot: the party
            that terminates the connection to such a node can replace a network's key with its own.
        settings: timeouts and retries.
        clock: for the times in tokens.
        entropy: for nonces and keys.
    Raises:
        InvalidInput: the address.
    """

    def __init__(
        self,
        url: str,
        *,
        session: Session | None = None,
        pinned_node: str | None = None,
        require_node_evidence: NodeRequirement | None = None,
        unsigned_descriptors: bool = False,
        settings: TransportSettings | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self._transport = Transport(url, settings=settings)
        self._caller = Caller(
            transport=self._transport,
            clock=clock or SystemClock(),
            entropy=entropy or SystemEntropy(),
            pinned_node=pinned_node,
            signed_in=session,
            unsigned_descriptors=unsigned_descriptors,
        )
        self._guard: NodeGuard | None = None
        if require_node_evidence is not None:
            self._guard = NodeGuard(self._caller, require_node_evidence)
            self._transport.before_tokens = self._guard.require
        # The other services keep nothing, and are made where they are asked for.
        self._encryption = Encryption(self._caller)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    def leave_connections(self) -> None:
        """Give up the connections without closing them, in a forked process: they are the
        parent's."""
        self._transport.leave_connections()
        if self._guard is not None:
            self._guard.leave_turn()

    @property
    def url(self) -> str:
        """The node's address."""
        return self._transport.url

    @property
    def session(self) -> Session:
        """The acting session.

        Raises:
            NotSignedIn: no session is signed in.
        """
        return self._caller.session

    async def info(self) -> NodeInfo:
        """Return what the node says about itself; asked for once.

        Raises:
            NodeMismatch: it speaks another protocol, or is not the pinned node.
        """
        return await self._caller.info()

    async def release_terms(self, family: Family | None = None) -> ReleaseTerms:
        """Ask by what the node judges backends, and whether it has collateral for a platform
        family; unsigned.

        Raises:
            NotFound: the node does not tell.
            MalformedAnswer, RateLimited, NodeRefused, TransportError: as each says.
        """
        return await fetch_terms(self._transport, family)

    async def node_attestation(self) -> NodeAttestation:
        """Ask for the node's own evidence; nothing of it is verified, see
        `tee_backend.attestation.node_verifier`.

        Raises:
            NodeEvidenceRefused: the node has none to show.
            NodeRefused, TransportError: as each says.
        """
        return await fetch_node_attestation(self._transport, self._caller.entropy)

    async def node_evidence(self) -> NodeEvidence:
        """Return the node's evidence as `require_node_evidence` demands it, not older than that
        says.

        Raises:
            NodeEvidenceRefused: it is not good.
            ClientNotReady: this client is not configured to demand any.
            NodeMismatch, NodeRefused, TransportError: as each says.
        """
        if self._guard is None:
            raise ClientNotReady(
                "this client demands no evidence of its node",
                hint="make it with Client(…, require_node_evidence=…)",
                step="sealspace login --require-node-evidence",
            )
        return await self._guard.require()

    async def sign_in(self, wallet: AnyWallet, asked: SignIn | None = None) -> Session:
        """Sign in with a wallet: one signature, to a session key drawn here, and one for each
        delegation to the wallet.

        Where the node hosts spaces by itself (the default), the owner's space for secrets and the
        owner's encryption network exist when this returns. Where it does not, the wallet is asked
        for a second signature that hosts them.

        Args:
            wallet: the owner's; an account of eth-account too.
            asked: spaces, manifests, lifetime; None: the default space and the secrets, for seven
                days.
        Raises:
            InvalidInput, SpacesNotHosted, NodeMismatch, NodeRefused, TransportError. NotGranted: a
            capability of another owner is asked for, without a delegation to the wallet.
            NodeEvidenceRefused: the node does not prove what is demanded of it; the wallet was not
            asked.
        """
        signing = wallet_of(wallet)
        if self._guard is not None:
            await self._guard.require()
        self._caller.session = await wallet_sign_in(self._caller, signing, asked or SignIn())
        return self.session

    async def sign_in_with_key(
        self, key: Ed25519Signer | bytes, *, spaces: Sequence[str] = ()
    ) -> Session:
        """Let a key act for itself: an agent, or the owner of spaces that bear its did:key.

        Args:
            key: a signer or a 32-byte seed; only a session made of a seed can be stored.
            spaces: names of own spaces to have hosted; none: an agent that only uses delegations.
        Raises:
            SpacesNotHosted, NodeMismatch, NodeRefused, TransportError.
        """
        self._caller.session = await key_sign_in(self._caller, key, spaces=spaces)
        return self.session

    def use(self, session: Session) -> None:
        """Act as another session from now on."""
        self._caller.session = session

    def acting(self, session: Session) -> Self:
        """Return a client that acts as another session at the same node, over the connections of
        this one.

        What one of them is used for changes no session of the other. Close this one alone, after
        the last use of both.
        """
        other = copy.copy(self)
        other._caller = self._caller.acting(session)
        other._encryption = Encryption(other._caller)
        return other

    def kv(self, space: str | None = None) -> Kv:
        """Return the values of a space.

        Args:
            space: short name of a space of the owner, or any full id; None: the session's primary
                space.
        Raises:
            InvalidInput: neither a name nor an id.
            ClientNotReady: no session is signed in (NotSignedIn), or it has no primary space.
        """
        return Kv(self._caller, self.session.chosen_space(space))

    def spaces(self, space: str | None = None) -> Spaces:
        """Return the spaces of an owner.

        Args:
            space: a hosted space of the owner in question, by short name or full id; None: the
                session's primary one.
        Raises:
            InvalidInput: neither a name nor an id.
            ClientNotReady: no session is signed in (NotSignedIn), or it has no primary space.
        """
        return Spaces(self._caller, self.kv(space).space)

    def public(self, space: str) -> PublicKv:
        """Return the values of a public space; no sign-in is needed.

        Args:
            space: full id; its name is `public`.
        Raises:
            InvalidInput: no such id.
        """
        try:
            return PublicKv(self._transport, parse_space_id(space))
        except InvalidIdentifier as exc:
            raise InvalidInput(
                "a public space is named by its full id",
                hint='its owner finds it at `client.kv("public").space.text`',
                step="its owner finds it with: sealspace space info public",
            ) from exc

    def secrets(self, owner: str | None = None, *, network: str = DEFAULT_NETWORK) -> Secrets:
        """Return an owner's secrets.

        Args:
            owner: DID; None: the owner for whom this session acts.
            network: name of the owner's network that `put` seals to; secrets of any network of the
                owner are opened.
        Raises:
            InvalidInput: no DID, or no name of a network.
            NotSignedIn: no owner is given, and no session is signed in.
        """
        space = space_of(owner or self.session.owner, SECRETS_SPACE)
        return Secrets(self._caller, self._encryption, space, network=network)

    def programs(self, developer: str | None = None, *, public: bool = False) -> Programs:
        """Return the projects of a developer.

        Args:
            developer: DID; None: the owner for whom this session acts.
            public: those that everybody may read, in the space `public`.
        Raises:
            InvalidInput: no DID.
            NotSignedIn: no developer is given, and no session is signed in.
        """
        return Programs(self._caller, developer or self.session.owner, public=public)

    @property
    def encryption(self) -> Encryption:
        """Encryption networks."""
        return self._encryption

    @property
    def delegations(self) -> Delegations:
        """Grants by and to this session."""
        return Delegations(self._caller)

    @property
    def attestation(self) -> Attestation:
        """The attestation routes."""
        return Attestation(self._caller)

    @property
    def backends(self) -> Backends:
        """Granting to backends by what was seen of them."""
        return Backends(self._caller, self.delegations)

    @property
    def runners(self) -> Runners:
        """Granting to runners: secrets for named programs and callers."""
        return Runners(self._caller, self.backends, self.delegations, self._encryption)

    @property
    def receipts(self) -> Receipts:
        """Receipts of the releases from networks."""
        return Receipts(self._caller)

    @property
    def withdrawals(self) -> Withdrawals:
        """Withdrawing code, backends and evidence from networks."""
        return Withdrawals(self._caller)
