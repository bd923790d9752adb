# Generated from the asynchronous classes by tools/sync_stubs.py; write it anew with `make pages`.
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from capabilities.clock_and_entropy import Clock, Entropy
from capabilities.signatures import Ed25519Signer
from sealspace.apps.attestation import Family, ReleaseTerms
from sealspace.documents.node_evidence import NodeAttestation, NodeEvidence, NodeRequirement
from sealspace.session import Grant, Session
from sealspace.sync.services import (
    Access,
    Attestation,
    Backends,
    Contacts,
    Delegations,
    Encryption,
    KeyRotation,
    Kv,
    Programs,
    PublicKv,
    Receipts,
    Replica,
    Runners,
    Secrets,
    Sharing,
    Spaces,
    Sql,
    TeamMoves,
    Teams,
    Withdrawals,
)
from sealspace.wallets import AnyWallet
from sealspace.wire.caller import NodeInfo
from sealspace.wire.sign_in import SignIn
from sealspace.wire.transport import TransportSettings

class Client:
    """A synchronous client for one node.

    The client authenticates with a session. Use it in `with`, or call `close`. Any number of
    threads may use it at once. Its arguments and errors are those of `sealspace.client.Client`.
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
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    @classmethod
    def from_environment(cls, url: str | None = None) -> Self:
        """Create a client for a server or CI job, which reads the secrets of a machine token.

        See `sealspace.client.Client.from_environment`.
        """

    def close(self) -> None:
        """Close the connections to the node.

        Running calls of other threads end with ClientClosed.
        """

    @property
    def url(self) -> str:
        """The node's address."""

    @property
    def session(self) -> Session:
        """The session that authenticates the client's requests.

        Raises:
            NotSignedIn: no session is signed in.
        """

    def info(self) -> NodeInfo:
        """Return the node's identity, version and features.

        The result is cached.

        Raises:
            NodeMismatch: the node uses another protocol version, or is not the pinned node.
            NodeRefused, TransportError: the request failed.
        """

    def release_terms(self, family: Family | None = None) -> ReleaseTerms:
        """Return the node's conditions for releasing keys to backends.

        The answer includes the status of the node's collateral. The terms are not signed.

        Args:
            family: the platform family to ask about; None: no family.
        Raises:
            NotFound: the node does not publish its terms.
            RateLimited, NodeRefused, TransportError: the request failed.
        """

    def node_attestation(self) -> NodeAttestation:
        """Fetch the node's attestation evidence without verifying it.

        `tee_backend.attestation.node_verifier` verifies it.

        Raises:
            NodeEvidenceRefused: the node has no evidence, or the answer is malformed.
            NodeRefused, TransportError: the request failed.
        """

    def node_evidence(self) -> NodeEvidence:
        """Return the node's verified attestation evidence.

        The evidence is cached, and fetched again when it is too old.

        Raises:
            NodeEvidenceRefused: the evidence was rejected.
            ClientNotReady: this client was created without `require_node_evidence`.
            NodeMismatch, NodeRefused, TransportError: the request failed.
        """

    def sign_in(self, wallet: AnyWallet, asked: SignIn | None = None) -> Session:
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

    def authorize_key(self, wallet: AnyWallet, did: str, asked: SignIn | None = None) -> Grant:
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

    def sign_in_with_key(
        self, key: Ed25519Signer | bytes, *, spaces: Sequence[str] = ...
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

    def exchange_id_token(self, token: str, *, trust: str) -> Session:
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

    def use(self, session: Session) -> None:
        """Use another session for all later requests."""

    def kv(self, space: str | None = None) -> Kv:
        """Return an object for reading and writing the values in a space.

        Args:
            space: short name of a space of the owner, or any full id; None: the session's primary
                space.
        Raises:
            InvalidInput: the text is neither a name nor an id.
            ClientNotReady: no session is signed in (NotSignedIn), or it has no primary space.
        """

    def replica(
        self,
        folder: str | Path,
        prefix: str,
        *,
        space: str | None = None,
        max_bytes: int = ...,
        retention_grant: str | None = None,
        allow_envelopes: bool = False,
        limit: int = 100,
        poll_s: float = ...,
    ) -> Replica:
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

    def sql(self, database: str = "default", *, space: str | None = None) -> Sql:
        """Return an object for using an SQLite database of a space.

        Args:
            database: name of the database.
            space: the same as in `kv`.
        Raises:
            InvalidInput: the text for the space is neither a name nor an id.
            ClientNotReady: no session is signed in (NotSignedIn), or it has no primary space.
        """

    def spaces(self, space: str | None = None) -> Spaces:
        """Return an object for listing and creating an owner's spaces.

        Args:
            space: a hosted space of that owner, by short name or full id; None: the session's
                primary space.
        Raises:
            InvalidInput: the text is neither a name nor an id.
            ClientNotReady: no session is signed in (NotSignedIn), or it has no primary space.
        """

    def public(self, space: str) -> PublicKv:
        """Return an object for reading the values in a public space.

        No sign-in is needed.

        Args:
            space: full id of a space named `public`.
        Raises:
            InvalidInput: the text is not the id of a space.
        """

    def secrets(self, owner: str | None = None, *, network: str = ...) -> Secrets:
        """Return an object for reading and writing an owner's secrets.

        Args:
            owner: DID; None: the owner for whom this session acts.
            network: name of the owner's network that `put` seals to. Reading opens secrets of any
                of the owner's networks.
        Raises:
            InvalidInput: the owner is not a DID, or the network's name is not valid.
            NotSignedIn: no owner is given, and no session is signed in.
        """

    @property
    def sharing(self) -> Sharing:
        """Methods for sharing secrets with people, and for reading what others shared."""

    @property
    def teams(self) -> Teams:
        """Methods for teams whose members read and replace the same secrets."""

    @property
    def team_moves(self) -> TeamMoves:
        """Methods for moving a team to another wallet."""

    @property
    def access(self) -> Access:
        """Methods for finding out who can read a secret."""

    @property
    def contacts(self) -> Contacts:
        """Methods for the names that the owner gives to DIDs."""

    def programs(self, developer: str | None = None, *, public: bool = False) -> Programs:
        """Return an object for publishing and reading a developer's programs.

        Runners execute these programs.

        Args:
            developer: DID; None: the owner for whom this session acts.
            public: whether to use the space `public`, which everybody may read, not `projects`.
        Raises:
            InvalidInput: the developer is not a DID.
            NotSignedIn: no developer is given, and no session is signed in.
        """

    @property
    def encryption(self) -> Encryption:
        """Methods for encrypting data and managing encryption networks."""

    @property
    def network_keys(self) -> KeyRotation:
        """Methods for replacing the key of an encryption network, and for retiring former keys."""

    @property
    def delegations(self) -> Delegations:
        """Methods for granting, accepting, listing and revoking delegations."""

    @property
    def attestation(self) -> Attestation:
        """Methods for submitting a backend's attestation evidence to the node."""

    @property
    def backends(self) -> Backends:
        """Methods for verifying backends and granting secrets to them."""

    @property
    def runners(self) -> Runners:
        """Methods for granting secrets to program runners.

        A grant is limited to chosen programs and callers.
        """

    @property
    def receipts(self) -> Receipts:
        """Methods for fetching and verifying receipts for key releases."""

    @property
    def withdrawals(self) -> Withdrawals:
        """Methods for withdrawing trust in code, backends and evidence."""
