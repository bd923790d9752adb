# Generated from the asynchronous classes by tools/sync_stubs.py; write it anew with `make pages`.
from collections.abc import Sequence
from typing import Self

from capabilities.clock_and_entropy import Clock, Entropy
from capabilities.signatures import Ed25519Signer
from sealspace.apps.attestation import Family, ReleaseTerms
from sealspace.documents.node_evidence import NodeAttestation, NodeEvidence, NodeRequirement
from sealspace.session import Session
from sealspace.sync.services import (
    Attestation,
    Backends,
    Delegations,
    Encryption,
    Kv,
    Programs,
    PublicKv,
    Receipts,
    Runners,
    Secrets,
    Spaces,
    Withdrawals,
)
from sealspace.wallets import AnyWallet
from sealspace.wire.caller import NodeInfo
from sealspace.wire.sign_in import SignIn
from sealspace.wire.transport import TransportSettings

class Client:
    """A node and a session on it.

    Use it in `with`, or call `close`. Any number of threads may use it at once.

    Its arguments and errors are those of `sealspace.client.Client`.
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
    def close(self) -> None:
        """Close the connections.

        Calls of other threads that are under way end with ClientClosed.
        """

    @property
    def url(self) -> str:
        """The node's address."""

    @property
    def session(self) -> Session:
        """The acting session.

        Raises:
            NotSignedIn: no session is signed in.
        """

    def info(self) -> NodeInfo:
        """Return what the node says about itself; asked for once.

        Raises:
            NodeMismatch: it speaks another protocol, or is not the pinned node.
        """

    def release_terms(self, family: Family | None = None) -> ReleaseTerms:
        """Ask by what the node judges backends, and whether it has collateral for a platform
        family; unsigned.

        Raises:
            NotFound: the node does not tell.
            MalformedAnswer, RateLimited, NodeRefused, TransportError: as each says.
        """

    def node_attestation(self) -> NodeAttestation:
        """Ask for the node's own evidence; nothing of it is verified, see
        `tee_backend.attestation.node_verifier`.

        Raises:
            NodeEvidenceRefused: the node has none to show.
            NodeRefused, TransportError: as each says.
        """

    def node_evidence(self) -> NodeEvidence:
        """Return the node's evidence as `require_node_evidence` demands it, not older than that
        says.

        Raises:
            NodeEvidenceRefused: it is not good.
            ClientNotReady: this client is not configured to demand any.
            NodeMismatch, NodeRefused, TransportError: as each says.
        """

    def sign_in(self, wallet: AnyWallet, asked: SignIn | None = None) -> Session:
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

    def sign_in_with_key(
        self, key: Ed25519Signer | bytes, *, spaces: Sequence[str] = ...
    ) -> Session:
        """Let a key act for itself: an agent, or the owner of spaces that bear its did:key.

        Args:
            key: a signer or a 32-byte seed; only a session made of a seed can be stored.
            spaces: names of own spaces to have hosted; none: an agent that only uses delegations.
        Raises:
            SpacesNotHosted, NodeMismatch, NodeRefused, TransportError.
        """

    def use(self, session: Session) -> None:
        """Act as another session from now on."""

    def kv(self, space: str | None = None) -> Kv:
        """Return the values of a space.

        Args:
            space: short name of a space of the owner, or any full id; None: the session's primary
                space.
        Raises:
            InvalidInput: neither a name nor an id.
            ClientNotReady: no session is signed in (NotSignedIn), or it has no primary space.
        """

    def spaces(self, space: str | None = None) -> Spaces:
        """Return the spaces of an owner.

        Args:
            space: a hosted space of the owner in question, by short name or full id; None: the
                session's primary one.
        Raises:
            InvalidInput: neither a name nor an id.
            ClientNotReady: no session is signed in (NotSignedIn), or it has no primary space.
        """

    def public(self, space: str) -> PublicKv:
        """Return the values of a public space; no sign-in is needed.

        Args:
            space: full id; its name is `public`.
        Raises:
            InvalidInput: no such id.
        """

    def secrets(self, owner: str | None = None, *, network: str = ...) -> Secrets:
        """Return an owner's secrets.

        Args:
            owner: DID; None: the owner for whom this session acts.
            network: name of the owner's network that `put` seals to; secrets of any network of the
                owner are opened.
        Raises:
            InvalidInput: no DID, or no name of a network.
            NotSignedIn: no owner is given, and no session is signed in.
        """

    def programs(self, developer: str | None = None, *, public: bool = False) -> Programs:
        """Return the projects of a developer.

        Args:
            developer: DID; None: the owner for whom this session acts.
            public: those that everybody may read, in the space `public`.
        Raises:
            InvalidInput: no DID.
            NotSignedIn: no developer is given, and no session is signed in.
        """

    @property
    def encryption(self) -> Encryption:
        """Encryption networks."""

    @property
    def delegations(self) -> Delegations:
        """Grants by and to this session."""

    @property
    def attestation(self) -> Attestation:
        """The attestation routes."""

    @property
    def backends(self) -> Backends:
        """Granting to backends by what was seen of them."""

    @property
    def runners(self) -> Runners:
        """Granting to runners: secrets for named programs and callers."""

    @property
    def receipts(self) -> Receipts:
        """Receipts of the releases from networks."""

    @property
    def withdrawals(self) -> Withdrawals:
        """Withdrawing code, backends and evidence from networks."""
