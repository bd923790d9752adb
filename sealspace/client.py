"""An asynchronous client that connects to one node.

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
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from capabilities.capability_errors import InvalidIdentifier
from capabilities.clock_and_entropy import Clock, Entropy, SystemClock, SystemEntropy
from capabilities.resources import parse_space_id
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_url

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
from .secrets import SECRETS_SPACE, Secrets
from .session import DEFAULT_NETWORK, Grant, Session, space_of
from .wallets import AnyWallet, wallet_of
from .wire.caller import Caller, NodeInfo
from .wire.changes import DEFAULT_POLL_S, Feed
from .wire.token_line import (
    NODE_VARIABLE,
    TOKEN_VARIABLE,
    about_token,
    read_token,
    required_variable,
)
from .wire.transport import Request, Transport, TransportSettings

# The services, and the functions that sign in, are imported on first use: importing them takes
# longer than a request to the node.
if TYPE_CHECKING:
    from .apps.attestation import Attestation, Family, ReleaseTerms
    from .apps.backends import Backends
    from .apps.contacts import Contacts
    from .apps.key_rotation import KeyRotation
    from .apps.programs import Programs
    from .apps.replica import Replica
    from .apps.runners import Runners
    from .delegations import Delegations
    from .giving.access import Access
    from .giving.copies import Sharing
    from .giving.teams.team_moves import TeamMoves
    from .giving.teams.teams import Teams
    from .receipts import Receipts
    from .spaces import PublicKv, Spaces
    from .sql import Sql
    from .wire.sign_in import SignIn

MAX_REPLICA_BYTES = 1 << 30
"""Default limit for the keys, metadata and values of a local copy."""
_NONCE_BYTES = 32


async def fetch_node_attestation(caller: Caller) -> NodeAttestation:
    """Fetch a node's attestation evidence without verifying it.

    The request has a fresh nonce.
    """
    nonce = encode_url(caller.entropy.token(_NONCE_BYTES))
    answer = await caller.transport.require(
        Request(
            "GET",
            f"/attestation?nonce={nonce}",
            repeatable=True,
            max_answer_bytes=MAX_ATTESTATION_BYTES,
        )
    )
    return parse_node_attestation(answer.body, nonce=nonce)


class _CachedEvidence(NamedTuple):
    """Verified evidence, and the time before its request, epoch seconds."""

    asked_at: float
    evidence: NodeEvidence


class NodeGuard:
    """A cache for a node's verified attestation evidence."""

    def __init__(self, caller: Caller, requirement: NodeRequirement) -> None:
        self._caller = caller
        self._requirement = requirement
        self._turn = asyncio.Lock()
        self._cached: _CachedEvidence | None = None
        self._store_id: bytes | None = None
        self._failed: SealspaceError | None = None

    async def require(self) -> NodeEvidence:
        """Return the node's attestation evidence, verified again if it is too old.

        Evidence that is not in the cache, or is too old, is fetched and verified.

        Raises:
            NodeEvidenceRefused: the evidence was rejected. Callers that waited for this request get
                the same error; otherwise each would send a request of its own in turn. The next
                call fetches the evidence again.
            NodeMismatch, NodeRefused, TransportError: the request failed.
        """
        failed = self._failed
        async with self._turn:
            # Another task may have fetched the evidence while this one waited for its turn.
            if self._cached is not None and self._is_fresh(self._cached):
                return self._cached.evidence
            # An error that is new since then is one of that task.
            if self._failed is not None and self._failed is not failed:
                raise self._failed
            try:
                return await self._fetch()
            except SealspaceError as error:
                self._failed = error
                raise

    def leave_turn(self) -> None:
        """Replace the lock in a child process after a fork.

        No task of the child would release the inherited lock.
        """
        self._turn = asyncio.Lock()

    def _is_fresh(self, cached: _CachedEvidence) -> bool:
        """Return whether evidence has neither expired nor to be renewed."""
        renew_at = cached.asked_at + self._requirement.renew_after_s
        ends_at = min(renew_at, cached.evidence.facts.expires_at)
        # After the clock was set back, the age is unknown, so the evidence is fetched.
        return cached.asked_at <= self._caller.clock.now() < ends_at

    async def _fetch(self) -> NodeEvidence:
        """Fetch and verify the node's evidence, and store it in the cache."""
        self._cached = None
        node_id = await self._caller.node_id()
        # The age counts from the request: a relay can hold back an older quote.
        asked_at = self._caller.clock.now()
        attestation = await fetch_node_attestation(self._caller)
        statement = attestation.statement
        now = self._caller.clock.now()
        # Evidence of another node says nothing about this one (AT45).
        if statement.node_did != node_id:
            raise NodeEvidenceRefused(
                "node-did",
                f"the evidence belongs to {statement.node_did}, but this node is {node_id}",
            )
        if self._store_id not in (None, statement.store_id):
            raise NodeEvidenceRefused(
                "store", "the evidence is for a different store than the node's earlier evidence"
            )
        evidence = await self._requirement.verifier.verify(
            attestation, self._requirement.policy, now=now
        )
        self._store_id = statement.store_id
        self._cached = _CachedEvidence(asked_at=asked_at, evidence=evidence)
        return evidence


__all__ = ["Client", "NodeInfo", "SignIn", "TransportSettings"]


def __getattr__(name: str) -> object:
    """Import `SignIn` on first use, as the services are."""
    if name != "SignIn":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .wire.sign_in import SignIn

    return SignIn


class Client:
    """A client that connects to one node and authenticates with a session.

    Args:
        url: address of the node; `http://` only for this machine, see `TransportSettings`.
        session: the session to use; None until `sign_in`.
        pinned_node: the only node DID to accept; None: the session's, or the first one seen.
        require_node_evidence: evidence that the node has to provide before the first token is sent
            to it and before anything is sealed, and again when it is old; None: no evidence. See
            `sealspace.documents.node_evidence`.
        unsigned_descriptors: accept network keys that the node did not sign, for nodes that cannot.
            The party that terminates the TLS connection to such a node can then replace a key.
        settings: timeouts and retries.
        clock: source of the times in tokens.
        entropy: source of nonces and keys.
    Raises:
        InvalidInput: the address is not valid.
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
        # The other services have no state of their own, so they are made on each access.
        self._encryption = Encryption(self._caller)

    @classmethod
    def from_environment(cls, url: str | None = None) -> Self:
        """Create a client for a server or CI job, which reads the secrets of a machine token.

        The line that `sealspace token create` printed is in the variable SEALSPACE_TOKEN. The
        client uses only the node for which the token was made.

        Args:
            url: address of the node; None: the one in the variable SEALSPACE_NODE.
        Raises:
            NotSignedIn: one of the two variables is not set, or is empty.
            InvalidSession: SEALSPACE_TOKEN is not a machine token.
            SessionExpired: the token has ended.
        """
        hint = (
            f"set {NODE_VARIABLE} to the node's address, and {TOKEN_VARIABLE} to the line that"
            " `sealspace token create` printed"
        )
        line = required_variable(TOKEN_VARIABLE, hint)
        url = url or required_variable(NODE_VARIABLE, hint)
        session = read_token(line)
        with about_token(session):
            # Raises SessionExpired if the token has ended.
            session.proofs_for(session.grants[0].capabilities, now=SystemClock.now())
        return cls(url, session=session)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to the node."""
        await self._transport.close()

    def leave_connections(self) -> None:
        """Discard the inherited connections in a forked child process.

        The parent process keeps them open.
        """
        self._transport.leave_connections()
        if self._guard is not None:
            self._guard.leave_turn()

    @property
    def url(self) -> str:
        """The node's address."""
        return self._transport.url

    @property
    def session(self) -> Session:
        """The session that authenticates the client's requests.

        Raises:
            NotSignedIn: no session is signed in.
        """
        return self._caller.session

    async def info(self) -> NodeInfo:
        """Return the node's identity, version and features.

        The result is cached.

        Raises:
            NodeMismatch: the node uses another protocol version, or is not the pinned node.
            NodeRefused, TransportError: the request failed.
        """
        return await self._caller.info()

    async def release_terms(self, family: "Family | None" = None) -> "ReleaseTerms":
        """Return the node's conditions for releasing keys to backends.

        The answer includes the status of the node's collateral. The terms are not signed.

        Args:
            family: the platform family to ask about; None: no family.
        Raises:
            NotFound: the node does not publish its terms.
            RateLimited, NodeRefused, TransportError: the request failed.
        """
        from .apps.attestation import fetch_terms

        return await fetch_terms(self._transport, family)

    async def node_attestation(self) -> NodeAttestation:
        """Fetch the node's attestation evidence without verifying it.

        `tee_backend.attestation.node_verifier` verifies it.

        Raises:
            NodeEvidenceRefused: the node has no evidence, or the answer is malformed.
            NodeRefused, TransportError: the request failed.
        """
        return await fetch_node_attestation(self._caller)

    async def node_evidence(self) -> NodeEvidence:
        """Return the node's verified attestation evidence.

        The evidence is cached, and fetched again when it is too old.

        Raises:
            NodeEvidenceRefused: the evidence was rejected.
            ClientNotReady: this client was created without `require_node_evidence`.
            NodeMismatch, NodeRefused, TransportError: the request failed.
        """
        if self._guard is None:
            raise ClientNotReady(
                "cannot check the node's evidence: the client has no requirements for evidence",
                hint="create the client with Client(…, require_node_evidence=…)",
                step="sealspace login --require-node-evidence",
            )
        return await self._guard.require()

    async def sign_in(self, wallet: AnyWallet, asked: "SignIn | None" = None) -> Session:
        """Sign in with a wallet.

        The wallet signs one message, which authorises a fresh session key. On a node that hosts
        spaces by itself (the default), the owner's space for secrets and default encryption network
        exist afterwards. On any other node, the wallet signs a second message to host them. Each
        delegation in `asked.received` takes one more signature.

        Args:
            wallet: the owner's wallet, or an account of eth-account.
            asked: spaces, manifests and lifetime; None: the default space and the secrets, for
                seven days.
        Returns:
            The session, which the client uses from now on.
        Raises:
            InvalidInput: an argument is not valid.
            NotGranted: a capability of another owner is requested without a delegation to the
                wallet.
            NodeEvidenceRefused: the node's evidence was rejected; the wallet did not sign.
            SpacesNotHosted: the node does not host a requested space.
            NodeMismatch, NodeRefused, TransportError: a request failed.
        """
        from .wire.sign_in import SignIn, wallet_sign_in

        signing = wallet_of(wallet)
        if self._guard is not None:
            await self._guard.require()
        self._caller.session = await wallet_sign_in(self._caller, signing, asked or SignIn())
        return self.session

    async def authorize_key(
        self, wallet: AnyWallet, did: str, asked: "SignIn | None" = None
    ) -> Grant:
        """Sign in a key of another program of the same owner, such as the owner's browser.

        Whoever has that key can act as the owner until the sign-in ends. Let the owner compare
        the key with the other program first. This client's session does not change.

        Args:
            wallet: the owner's wallet, or an account of eth-account.
            did: the key, `did:key` with Ed25519.
            asked: the same as in `sign_in`; received delegations are not passed on.
        Returns:
            The sign-in, registered with the node. Its `header` is for the other program.
        Raises:
            InvalidInput: the key is not a did:key with Ed25519, or the lifetime is not valid.
            SpacesNotHosted, NodeMismatch, NodeRefused, TransportError: the same errors as
                `sign_in`.
        """
        from .wire.sign_in import SignIn, authorize_key

        return await authorize_key(self._caller, wallet_of(wallet), did, asked or SignIn())

    async def sign_in_with_key(
        self, key: Ed25519Signer | bytes, *, spaces: Sequence[str] = ()
    ) -> Session:
        """Sign in with an Ed25519 key, without a wallet.

        The key may be that of an agent, for example. The session's owner is the key's own DID
        (`did:key`).

        Args:
            key: a signer or a 32-byte seed; only a session made from a seed can be stored.
            spaces: names of own spaces to host; empty for an agent that only uses delegations.
        Returns:
            The session, which the client uses from now on.
        Raises:
            InvalidInput: the seed is not 32 bytes, or a name is not valid.
            SpacesNotHosted: the node does not host a requested space.
            NodeMismatch, NodeRefused, TransportError: a request failed.
        """
        from .wire.sign_in import key_sign_in

        self._caller.session = await key_sign_in(self._caller, key, spaces=spaces)
        return self.session

    async def exchange_id_token(self, token: str, *, trust: str) -> Session:
        """Exchange an ID token for the session of a machine token.

        An ID token serves once. This client's session does not change; see `acting`.

        Args:
            token: the ID token, whose audience is the node.
            trust: id of the owner's trust in its issuer.
        Returns:
            A session for a new key, which ends after at most 15 minutes.
        Raises:
            NodeRefused, TransportError: the node did not exchange it.
        """
        from .wire.id_tokens import exchange

        if self._guard is not None:
            await self._guard.require()
        seed = self._caller.entropy.token(32)
        return read_token(await exchange(self._caller, token=token, trust=trust, seed=seed))

    def use(self, session: Session) -> None:
        """Use another session for all later requests."""
        self._caller.session = session

    def acting(self, session: Session) -> Self:
        """Return a client with another session and the same connections.

        The two clients' sessions are independent. Close only this client, after the last use of
        both.
        """
        client = copy.copy(self)
        client._caller = self._caller.acting(session)
        client._encryption = Encryption(client._caller)
        return client

    def kv(self, space: str | None = None) -> Kv:
        """Return an object for reading and writing the values in a space.

        Args:
            space: short name of a space of the owner, or any full id; None: the session's primary
                space.
        Raises:
            InvalidInput: the text is neither a name nor an id.
            ClientNotReady: no session is signed in (NotSignedIn), or it has no primary space.
        """
        return Kv(self._caller, self.session.chosen_space(space))

    def replica(
        self,
        folder: str | Path,
        prefix: str,
        *,
        space: str | None = None,
        max_bytes: int = MAX_REPLICA_BYTES,
        retention_grant: str | None = None,
        allow_envelopes: bool = False,
        limit: int = 100,
        poll_s: float = DEFAULT_POLL_S,
    ) -> "Replica":
        """Open a durable local copy of the values below a prefix, or create an empty one.

        The session needs `tinycloud.kv/sync` and `tinycloud.kv/get` on the prefix.

        Args:
            folder: folder for this copy alone; created with mode 700 if it does not exist.
            prefix: whole segments: `notes` is this key and all below `notes/`. Not empty.
            space: the same as in `kv`.
            max_bytes: limit for the keys, metadata and values together.
            retention_grant: cid of a delegation of `tinycloud.kv/retain`, which allows reading the
                copy for some time after the right to read has ended.
            allow_envelopes: copy secrets too, as the envelopes that the node stores.
            limit: a page ends with the commit that reaches this number of changes, 1 to 1000.
            poll_s: seconds between the requests of `follow` if the node has no place to wait.
        Raises:
            InvalidInput: an argument is not valid, or the prefix is one of secrets.
            SourceChanged: the folder has the copy of another space or prefix.
            ReplicaInUse: the copy is open elsewhere.
            ReplicaCorrupt: its file is damaged, or of another version.
            ReplicaUnusable: other users have access to the folder, or the disk fails.
            ClockWentBack: the clock shows a time before the last one that the copy has seen.
            ClientNotReady: as in `kv`.
        """
        from .apps.replica import open_replica

        feed = Feed(
            caller=self._caller,
            space=self.session.chosen_space(space),
            prefix=prefix,
            limit=limit,
            poll_s=poll_s,
            retention_grant=retention_grant,
        )
        return open_replica(
            self._caller, feed, folder, max_bytes=max_bytes, allow_envelopes=allow_envelopes
        )

    def sql(self, database: str = "default", *, space: str | None = None) -> "Sql":
        """Return an object for using an SQLite database of a space.

        Args:
            database: name of the database.
            space: the same as in `kv`.
        Raises:
            InvalidInput: the text for the space is neither a name nor an id.
            ClientNotReady: no session is signed in (NotSignedIn), or it has no primary space.
        """
        from .sql import Sql

        return Sql(self._caller, self.session.chosen_space(space), database)

    def spaces(self, space: str | None = None) -> "Spaces":
        """Return an object for listing and creating an owner's spaces.

        Args:
            space: a hosted space of that owner, by short name or full id; None: the session's
                primary space.
        Raises:
            InvalidInput: the text is neither a name nor an id.
            ClientNotReady: no session is signed in (NotSignedIn), or it has no primary space.
        """
        from .spaces import Spaces

        return Spaces(self._caller, self.kv(space).space)

    def public(self, space: str) -> "PublicKv":
        """Return an object for reading the values in a public space.

        No sign-in is needed.

        Args:
            space: full id of a space named `public`.
        Raises:
            InvalidInput: the text is not the id of a space.
        """
        from .spaces import PublicKv

        try:
            return PublicKv(self._transport, parse_space_id(space))
        except InvalidIdentifier as exc:
            raise InvalidInput(
                "the space must be given as the full id of a public space",
                hint='ask the owner for the id, which is `client.kv("public").space.text` there',
                step="ask the owner of the space for the id that `sealspace space info public`"
                " prints",
            ) from exc

    def secrets(self, owner: str | None = None, *, network: str = DEFAULT_NETWORK) -> Secrets:
        """Return an object for reading and writing an owner's secrets.

        Args:
            owner: DID; None: the owner for whom this session acts.
            network: name of the owner's network that `put` seals to. Reading opens secrets of any
                of the owner's networks.
        Raises:
            InvalidInput: the owner is not a DID, or the network's name is not valid.
            NotSignedIn: no owner is given, and no session is signed in.
        """
        space = space_of(owner or self.session.owner, SECRETS_SPACE)
        return Secrets(self._caller, self._encryption, space, network=network)

    @property
    def sharing(self) -> "Sharing":
        """Methods for sharing secrets with people, and for reading what others shared."""
        from .giving.copies import Sharing

        return Sharing(self._caller, self._encryption)

    @property
    def teams(self) -> "Teams":
        """Methods for teams whose members read and replace the same secrets."""
        from .giving.teams.teams import Teams

        return Teams(self._caller)

    @property
    def team_moves(self) -> "TeamMoves":
        """Methods for moving a team to another wallet."""
        from .giving.teams.team_moves import TeamMoves

        return TeamMoves(self._caller, self._encryption)

    @property
    def access(self) -> "Access":
        """Methods for finding out who can read a secret."""
        from .giving.access import Access

        return Access(self._caller, self._encryption)

    @property
    def contacts(self) -> "Contacts":
        """Methods for the names that the owner gives to DIDs."""
        from .apps.contacts import Contacts

        return Contacts(self._caller, self._encryption)

    def programs(self, developer: str | None = None, *, public: bool = False) -> "Programs":
        """Return an object for publishing and reading a developer's programs.

        Runners execute these programs.

        Args:
            developer: DID; None: the owner for whom this session acts.
            public: whether to use the space `public`, which everybody may read, not `projects`.
        Raises:
            InvalidInput: the developer is not a DID.
            NotSignedIn: no developer is given, and no session is signed in.
        """
        from .apps.programs import Programs

        return Programs(self._caller, developer or self.session.owner, public=public)

    @property
    def encryption(self) -> Encryption:
        """Methods for encrypting data and managing encryption networks."""
        return self._encryption

    @property
    def network_keys(self) -> "KeyRotation":
        """Methods for replacing the key of an encryption network, and for retiring former keys."""
        from .apps.key_rotation import KeyRotation

        return KeyRotation(self._caller, self._encryption)

    @property
    def delegations(self) -> "Delegations":
        """Methods for granting, accepting, listing and revoking delegations."""
        from .delegations import Delegations

        return Delegations(self._caller)

    @property
    def attestation(self) -> "Attestation":
        """Methods for submitting a backend's attestation evidence to the node."""
        from .apps.attestation import Attestation

        return Attestation(self._caller)

    @property
    def backends(self) -> "Backends":
        """Methods for verifying backends and granting secrets to them."""
        from .apps.backends import Backends

        return Backends(self._caller, self.delegations)

    @property
    def runners(self) -> "Runners":
        """Methods for granting secrets to program runners.

        A grant is limited to chosen programs and callers.
        """
        from .apps.runners import Runners

        return Runners(self._caller, self.backends, self.delegations, self._encryption)

    @property
    def receipts(self) -> "Receipts":
        """Methods for fetching and verifying receipts for key releases."""
        from .receipts import Receipts

        return Receipts(self._caller)

    @property
    def withdrawals(self) -> Withdrawals:
        """Methods for withdrawing trust in code, backends and evidence."""
        return Withdrawals(self._caller)
