# Generated from the asynchronous classes by tools/sync_stubs.py; write it anew with `make pages`.
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from capabilities.clock_and_entropy import Clock, Entropy
from capabilities.resources import NetworkId, SpaceId
from capabilities.strict_json import Json
from capabilities.tokens import Capability
from encryption_network.envelope import InlineEnvelope
from encryption_network.networks import Descriptor
from encryption_network.pins import NetworkPin
from encryption_network.policy import Policy
from encryption_network.receipt import Receipt
from sealspace.apps.api_keys import Credential
from sealspace.apps.attestation import AttestationSession, Attested, Challenge
from sealspace.apps.backends import EvidenceVerifier, Leniency, Pin, Seen
from sealspace.apps.programs import Active, ProgramManifest, Target, Version
from sealspace.apps.runners import Generation
from sealspace.documents.manifests import DelegationTarget
from sealspace.documents.project_names import ProjectId
from sealspace.documents.run_grants import RunStatement
from sealspace.documents.signed_statements import StatementSigner
from sealspace.encryption import ReceiverKey
from sealspace.kv import Page, SignedUrl
from sealspace.receipts import ReceiptPage
from sealspace.secrets import Generated, Secret
from sealspace.session import Grant
from sealspace.spaces import SpaceEntry
from sealspace.wallets import AnyWallet
from sealspace.wire.delegation_history import DelegationRecord, DelegationStatus, Direction, Status
from sealspace.wire.portable import PortableDelegation
from sealspace.wire.transfers import Source
from sealspace.wire.transport import Progress, TransportSettings
from sealspace.wire.values import Value

def fetch_evidence(
    url: str,
    verifier: EvidenceVerifier,
    *,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    settings: TransportSettings | None = None,
) -> Seen:
    """Ask a backend for its evidence with a fresh nonce, and verify the answer.

    Args:
        url: of the backend, `https://…`, or `http://…` on this machine.
        verifier: with the caller's own collateral; what a backend says about its platform is not
            trusted.
        clock: the system's when None.
        entropy: the system's when None.
        settings: timeouts and retries.
    Raises:
        InvalidInput: no such address.
        BackendUnreachable: no answer.
        BackendAnswerInvalid: cut off, too long, a redirect, no backend.
        BackendNotProven, CollateralNeeded: as the verifier says.
    Does not check:
        Whether this is the wanted code: see `require_expected`, and read what `in_plain_words`
            says.
    """

def deliver(
    url: str, *portables: PortableDelegation, settings: TransportSettings | None = None
) -> None:
    """Send a grant to the backend that it is for; the grant is registered at the node either way.

    Args:
        url: address of the backend.
        portables: one, or several that belong together; the backend takes up all or none.
        settings: timeouts and retries.
    Raises:
        InvalidInput: no such address, or too many grants.
        GrantNotTaken: the backend accepts none this way, or could not use this one; its text is in
            the message.
        BackendUnreachable, BackendAnswerInvalid: no usable answer.
    """

class Kv:
    """The values of one space; made by `Client.kv`. As `sealspace.kv.Kv`."""

    @property
    def space(self) -> SpaceId:
        """The space."""

    def get(self, key: str, *, max_bytes: int = ...) -> Value:
        """Read a value.

        Args:
            key: the key.
            max_bytes: the node refuses to send more, and no more is read; longer ones: `download`
                or `stream`.
        Raises:
            NotFound: there is no value under this key.
            SpaceNotFound: the space is not hosted.
            ValueTooLarge: the value is larger than `max_bytes`.
            NotGranted, Unauthorized: the session may not read it.
            TransferBroken: the body is another one than its version says.
        """

    def get_if_changed(self, key: str, etag: str, *, max_bytes: int = ...) -> Value | None:
        """Read a value unless it still is the version that the caller has.

        Returns:
            The value, or None when its version is `etag`.
        Raises:
            SealspaceError: as `get`.
        """

    def metadata(self, key: str) -> Value:
        """Read a value's version and metadata; the body of the result is empty.

        Raises:
            SealspaceError: as `get`.
        """

    def size_bytes(self, key: str) -> int:
        """Return how many bytes a value has; needs `kv/get`, and reads none of them.

        Raises:
            SealspaceError: as `get`.
        """

    def put(
        self,
        key: str,
        body: bytes | str,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Write a value; it is durable when this returns.

        Args:
            key: the key.
            body: the bytes; a text is sent as UTF-8, and typed `text/plain;charset=UTF-8` where
                nothing else is given.
            content_type: stored and given back.
            metadata: texts stored and given back; at most 16 KiB with the names.
            if_absent: only if there is no value now.
            if_match: only over the value of this version.
        Returns:
            The version of the new value.
        Raises:
            InvalidInput: the key cannot be used in a URI, or the body is neither bytes nor a text.
            PreconditionFailed: the condition does not hold, or a rival write won.
            NotGranted, Unauthorized: the session may not write it.
            QuotaExceeded, ValueTooLarge: there is not enough free space.
            NodeTimeout, NodeUnreachable: whether it was written is not known.
        """

    def get_many(self, keys: Iterable[str], *, max_bytes: int = ...) -> dict[str, Value]:
        """Read several values, up to 100 in one request, whose values are of one moment.

        Args:
            keys: the keys.
            max_bytes: of each value, as in `get`.
        Returns:
            Key to value, in the order of the keys; a key under which there is nothing is not in it.
        Raises:
            As `get`, but for NotFound; then nothing is returned.
        """

    def put_many(
        self, values: Mapping[str, bytes | str], *, content_type: str | None = None
    ) -> dict[str, str]:
        """Write several values in as few commits as a node allows; each is durable when this
        returns.

        One commit takes up to 250 values of at most 64 KiB each, 4 MiB together: such a call writes
        all or none. Larger values are written one by one after the others.

        Args:
            values: key to bytes or text, as in `put`.
            content_type: of all of them; None: as in `put`.
        Returns:
            Key to the version of the new value.
        Raises:
            BatchIncomplete: some commits were done, and then one failed; it says which keys are
                written.
            InvalidInput: of one key or value, before anything is sent.
            As `put`: nothing was written.
        """

    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete several values, up to 250 in one commit: all of those or none.

        Raises:
            NotFound: nothing was ever written under one of the keys.
            BatchIncomplete: some commits were done, and then one failed; it says which keys are
                deleted.
            NotGranted, Unauthorized: the session may not delete all of them; none is deleted.
        """

    def stream(self, key: str, *, max_bytes: int = ...) -> Iterator[bytes]:
        """Yield a value piece by piece; what is in memory at a time is one piece.

        Args:
            key: the key.
            max_bytes: the node refuses to send more, and no more is read.
        Raises:
            TransferBroken: the bytes broke off, or are not those of the version; what was yielded
                is not to be used.
            SealspaceError: as `get`.
        """

    def download(
        self,
        key: str,
        to: str | Path | BinaryIO,
        *,
        progress: Progress | None = None,
        max_bytes: int = ...,
    ) -> Value:
        """Read a value into a file, however large, in little memory.

        Args:
            key: the key.
            to: a path, which is replaced as a whole once everything is there; or a binary file that
                is open.
            progress: called with the bytes so far, and all there are.
            max_bytes: the node refuses to send more, and no more is read.
        Returns:
            Version and metadata; the body is empty.
        Raises:
            TransferBroken: the bytes broke off, or are not those of the version; at the path is
                what was there before.
            OSError: the file cannot be written.
            InvalidInput: the path is a folder.
            SealspaceError: as `get`.
        """

    def upload(
        self,
        key: str,
        source: Source,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
        progress: Progress | None = None,
    ) -> str:
        """Write a value from a file, however large, in little memory; it is durable when this
        returns.

        Args:
            key: the key.
            source: a path, an open binary file (read from where it stands), or pieces of bytes.
            content_type: as in `put`, and so are `metadata`, `if_absent` and `if_match`.
            progress: called with the bytes that are taken so far, and all there are, or None for
                pieces.
        Returns:
            The version of the new value.
        Raises:
            InvalidInput: the source gives no bytes, or changed its size meanwhile; nothing was
                stored.
            OSError: the file cannot be read; whatever else the source raises. Nothing was stored.
            As `put`.
        """

    def delete(self, key: str, *, if_match: str | None = None) -> str | None:
        """Delete a value; the deletion is durable when this returns.

        Returns:
            The version of what was removed; None when it was deleted before.
        Raises:
            NotFound: nothing was ever written under this key.
            PreconditionFailed: the value is not of version `if_match`.
            NotGranted, Unauthorized: the session may not delete it.
        """

    def signed_url(
        self, key: str, *, ttl_s: int | None = None, at_most: bool = False, etag: str | None = None
    ) -> SignedUrl:
        """Make a URL under which anybody may read this version of a value, for minutes.

        It ends with the grants of this session, when one of them is revoked, and when the value
        changes.

        Args:
            key: the key.
            ttl_s: its lifetime in seconds, 1 to 300. None: about five minutes, less where the
                session's grants end earlier.
            at_most: take a shorter lifetime where this one is not possible.
            etag: the version; None: the current one.
        Raises:
            InvalidInput: no lifetime.
            LifetimeTooLong: the node allows less, or a grant of the session ends earlier; `at_most`
                takes that.
            NotFound: there is no value under this key.
            SpaceNotFound: the space is not hosted.
            NotGranted, Unauthorized: the session may not read it.
        """

    def list_page(self, prefix: str = "", *, limit: int = ..., cursor: str | None = None) -> Page:
        """Read one page of the keys that begin with a prefix.

        Args:
            prefix: the session must be granted `tinycloud.kv/list` on it; "" is the whole space.
            limit: keys of a page, 1 to 1000; the same for all pages of one listing.
            cursor: of the page before.
        Raises:
            InvalidInput: the limit is out of range.
            MalformedAnswer: the keys do not ascend under the prefix, or a page that another one
                follows is empty.
            NotGranted, Unauthorized, SpaceNotFound.
        """

    def list(self, prefix: str = "", *, page_keys: int = ...) -> Iterator[str]:
        """Yield every key that begins with a prefix, ascending; read page by page.

        Raises:
            SealspaceError: as `pages`.
        """

    def pages(self, prefix: str = "", *, page_keys: int = ...) -> Iterator[Page]:
        """Yield the keys that begin with a prefix in pages, ascending.

        Raises:
            SealspaceError: as `list_page`; MalformedAnswer where the list does not advance, or has
                no end.
        """

class PublicKv:
    """The values of one public space; made by `Client.public`. As `sealspace.spaces.PublicKv`."""

    @property
    def space(self) -> SpaceId:
        """The space."""

    def get(self, key: str, *, max_bytes: int = ...) -> Value:
        """Read a value; of its metadata a node shows the content type only.

        Args:
            key: the key.
            max_bytes: no more is read.
        Raises:
            NotFound: there is no value under this key, or no such space.
            RateLimited: the node accepts no more reads from this address for a moment.
            ResponseTooLarge: the value is larger than `max_bytes`.
            TransferBroken: the body is another one than its version says.
        """

    def get_if_changed(self, key: str, etag: str, *, max_bytes: int = ...) -> Value | None:
        """Read a value unless it still is the version that the caller has: then None.

        Raises:
            SealspaceError: as `get`.
        """

    def list(self, prefix: str = "", *, page_keys: int = ...) -> Iterator[str]:
        """Yield every key that begins with a prefix, ascending; read page by page. Nothing for an
        unknown space.

        Args:
            prefix: plain text; "" is the whole space.
            page_keys: keys of a page, 1 to 1000; a node may send fewer, or all of them at once.
        Raises:
            InvalidInput: the number of keys is out of range.
            RateLimited: see `get`.
            MalformedAnswer: the keys do not ascend under the prefix, or the list has no end.
        """

class Secrets:
    """The secrets of one owner; made by `Client.secrets`. As `sealspace.secrets.Secrets`."""

    def resource(self, name: str, *, scope: str | None = None) -> str:
        """Return the resource of one secret's envelope: what a grant to read it names.

        Raises:
            InvalidSecretName, InvalidSecretScope: there can be no such secret.
        """

    def put(
        self,
        name: str,
        value: str | bytes,
        *,
        scope: str | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Seal and store a secret; it is durable when this returns. Needs `kv/put` on the path, not
        decrypt.

        The times in it are both that of this call, also over an older secret: to read its first one
        takes decrypt.

        Args:
            name: `^[A-Z][A-Z0-9_]*$`.
            value: a text, or bytes.
            scope: None for a global secret.
            if_absent: only if there is no such secret now.
            if_match: only over the stored envelope of this version: `Secret.etag`, or what
                `version` returned.
        Returns:
            The version of the stored envelope.
        Raises:
            InvalidSecretName, InvalidSecretScope, InvalidSecretValue, InvalidInput: nothing was
            sent. NetworkNotFound: the network does not exist yet; see `Encryption.ensure_network`.
            NetworkKeyChanged, DescriptorUnsigned, ResponseSignatureInvalid: its key is not to be
            sealed to; see
                `Encryption.descriptor`.
            PreconditionFailed, NotGranted, NodeRefused, TransportError.
        """

    def put_generated(
        self, name: str, value: str, generated: Generated, *, scope: str | None = None
    ) -> str:
        """Seal and store a secret that a runner made, only if there is none of its name now
        (RN145).

        Args:
            name: begins with `PROTECTED_`.
            value: a text.
            generated: what is said of it; a tag that does not hold makes a secret that no runner
                delivers.
            scope: None for a global secret.
        Returns:
            The version of the stored envelope.
        Raises:
            SealspaceError: as `put`.
        """

    def put_many(self, values: Mapping[str, str | bytes], *, scope: str | None = None) -> None:
        """Seal and store several secrets of one scope, up to 250 in one commit: all of those or
        none.

        Raises:
            As `put`: of one of them, before anything is sent; or nothing was written.
            BatchIncomplete: some commits were done, and then one failed; it says which paths are
                written.
        """

    def get(
        self, name: str, *, scope: str | None = None, receiver: ReceiverKey | None = None
    ) -> str | bytes:
        """Read and open a secret: a text or bytes, as it was put.

        Raises:
            SealspaceError: as `read`.
        """

    def get_text(
        self, name: str, *, scope: str | None = None, receiver: ReceiverKey | None = None
    ) -> str:
        """Read and open a secret that is a text.

        Raises:
            InvalidSecretPayload: it is bytes.
            SealspaceError: as `read`.
        """

    def get_many(
        self, names: Iterable[str], *, scope: str | None = None, receiver: ReceiverKey | None = None
    ) -> dict[str, str | bytes]:
        """Read and open several secrets of one scope; a few are opened at a time.

        Returns:
            Name to value, in the order of the names; a secret that does not exist is not in it.
        Raises:
            As `read`, but for NotFound: of the first that cannot be opened; then nothing is
                returned.
        """

    def read(
        self, name: str, *, scope: str | None = None, receiver: ReceiverKey | None = None
    ) -> Secret:
        """Read and open a secret, with its times.

        Args:
            name: `^[A-Z][A-Z0-9_]*$`.
            scope: None for a global secret.
            receiver: the key to have the content key wrapped to; a backend passes the one it
                attested.
        Raises:
            InvalidSecretName, InvalidSecretScope: there can be no such secret.
            NotFound: there is no such secret.
            InvalidEnvelope, LabelMismatch, InvalidSecretPayload: what is stored there is no secret
                of this name, or is sealed to a network of another owner than the space's.
            NotGranted, Unauthorized, DecryptDenied: no authority for the envelope, or none for the
                key.
            NodeRefused, TransportError, EncryptionError.
        """

    def version(self, name: str, *, scope: str | None = None) -> str:
        """Return the version of a secret's stored envelope, opening nothing. Needs `kv/metadata` on
        the path.

        Raises:
            NotFound: there is no such secret.
            InvalidSecretName, InvalidSecretScope, NotGranted, Unauthorized, NodeRefused,
            TransportError: as each says.
        """

    def envelope(self, name: str, *, scope: str | None = None) -> InlineEnvelope:
        """Read a secret's envelope without opening it. Needs `kv/get` on the path only.

        Raises:
            SealspaceError: as `read`, but for what opening needs.
        """

    def delete(self, name: str, *, scope: str | None = None) -> None:
        """Delete a secret; the deletion is durable when this returns.

        Raises:
            NotFound: there is no such secret, whether it was deleted before or never existed.
            InvalidSecretName, InvalidSecretScope, NotGranted, NodeRefused, TransportError: as each
            says.
        """

    def list(self, *, scope: str | None = None) -> tuple[str, ...]:
        """Return the names of the secrets of one scope, ascending; without a scope, of the global
        ones only.

        Raises:
            InvalidSecretScope, NotGranted, NodeRefused, TransportError: as each says.
        """

    def scopes(self) -> tuple[str, ...]:
        """Return the scopes that hold secrets, ascending; needs `kv/list` on
        `vault/secrets/scoped/`.

        Raises:
            NotGranted, NodeRefused, TransportError: as each says.
        """

class Spaces:
    """The spaces of the owner of one space; made by `Client.spaces`. As
    `sealspace.spaces.Spaces`.
    """

    @property
    def rights(self) -> tuple[Capability, ...]:
        """What a session has to hold for everything here; see `Delegations.add_right`."""

    def list(self) -> tuple[SpaceEntry, ...]:
        """Return the owner's spaces, by id.

        Raises:
            NotGranted, Unauthorized: the session may not see them.
            SpaceNotFound: the space that is asked through is not hosted.
        """

    def create(self, name: str) -> SpaceEntry:
        """Have the node host a space of the owner.

        Args:
            name: letters, digits, `-` and `_`; what else a node accepts is up to the node.
        Raises:
            InvalidInput: no name.
            DuplicateRequest: there is such a space.
            NotGranted, Unauthorized: the session may not make one, or the node does not host it.
        """

    def info(self, name: str) -> SpaceEntry:
        """Return a space of the owner.

        Args:
            name: its name or its id.
        Raises:
            SpaceNotFound: it is not hosted, or is not the owner's.
            NotGranted, Unauthorized: the session may not ask.
        """

class Encryption:
    """The encryption networks of a node; made by `Client.encryption`. As
    `sealspace.encryption.Encryption`.
    """

    def network(self, name: str = ..., *, owner: str | None = None) -> NetworkId:
        """Return the id of a network.

        Args:
            name: its name.
            owner: DID of its owner; None: the owner for whom this session acts.
        Raises:
            InvalidInput: no DID, or no name of a network.
        """

    def descriptor(self, network: NetworkId) -> Descriptor:
        """Return what the node says about a network; kept until a request on it is refused.

        The key is pinned in the session (`Client.session`, kept with it): another one is refused
        later (EN30). Where the client demands evidence of the node, that is demanded here as well.

        Returns:
            The descriptor; its id is the one asked for, and the node that this client talks to
            signed it, for a nonce drawn here, unless the client takes unsigned ones.
        Raises:
            NetworkNotFound: there is no such network here.
            NetworkKeyChanged: this session was given another key before; see `accept`.
            DescriptorUnsigned, ResponseSignatureInvalid: the node did not sign this answer.
            NodeMismatch: the descriptor names another node.
            NodeEvidenceRefused, MalformedAnswer, TransportError.
        """

    def accept(self, pin: NetworkPin) -> None:
        """Pin this key for a network from now on, in place of the one that the session pinned
        before.

        Args:
            pin: `NetworkKeyChanged.offered`, once it is known why the key changed; or a key learnt
                in another way.
        Raises:
            RuntimeError: no session is signed in.
        """

    def ensure_network(self, name: str = ...) -> Descriptor:
        """Return the owner's network of this name, created if it does not exist.

        Raises:
            NotGranted: the session may not create networks.
            NetworkNotActive: it was revoked; its name stays taken.
            SealspaceError: as `descriptor`, whose result is returned: the answer to creating it is
                not trusted.
        """

    def revoke_network(self, network: NetworkId) -> None:
        """Revoke a network: nothing sealed to it can be opened through the node any more, for ever.

        Raises:
            NotGranted: the session does not hold `tinycloud.encryption/network.revoke` on it.
            NetworkNotFound: there is none.
        """

    def policy(self, network: NetworkId) -> Policy | None:
        """Return what the owner of a network states about code; None where nothing is stated.

        Raises:
            NotGranted: the session does not hold `sealspace.encryption/policy` on the network.
            MalformedAnswer: no policy.
            NetworkNotFound, Unauthorized, NodeRefused, TransportError: as each says.
        """

    def set_policy(self, network: NetworkId, policy: Policy | None) -> None:
        """State what code may receive keys of a network, in place of what was stated before; in
        force at once.

        The owner does this in person: with a grant that the wallet signed to this session
        (`Delegations.add_right`), or with the key that owns the network.

        Args:
            network: of the owner.
            policy: None takes away what was stated.
        Raises:
            NotGranted: the session does not hold `sealspace.encryption/policy` on the network.
            Unauthorized: the session is not its owner in person.
            NetworkNotFound, NodeRefused, TransportError.
        """

    def encrypt(
        self,
        plaintext: bytes,
        *,
        network: NetworkId,
        label: bytes | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> InlineEnvelope:
        """Seal a payload to a network, in this process; needs no authority.

        Args:
            plaintext: the payload.
            network: whose holders of decrypt shall read it.
            label: carried along in the clear, authenticated by nothing; `decrypt` can compare it.
            metadata: likewise.
        Raises:
            NetworkNotFound, NetworkNotActive, NodeMismatch. NetworkKeyChanged, DescriptorUnsigned,
            ResponseSignatureInvalid, NodeEvidenceRefused: see `descriptor`. InvalidResponse: the
            node's public key cannot be sealed to (low order).
        """

    def decrypt(
        self,
        envelope: InlineEnvelope | bytes,
        *,
        expected_label: bytes | None = None,
        receiver: ReceiverKey | None = None,
    ) -> bytes:
        """Open a sealed payload with the node's help.

        Args:
            envelope: an envelope or its JSON text.
            expected_label: the label the envelope must carry; None: any.
            receiver: the key to have the content key wrapped to; None: a fresh one. A backend
                passes the key that it attested.
        Returns:
            The payload; every member of the node's answer was checked before anything was opened
            (enc 3.7).
        Raises:
            InvalidEnvelope: it cannot be read.
            LabelMismatch: it carries another label.
            NotGranted, DecryptDenied: no authority, or the gate requires evidence.
            NetworkNotFound, NetworkNotActive, NodeMismatch. NetworkKeyChanged, DescriptorUnsigned:
            see `descriptor`. ResponseBindingMismatch, ResponseSignatureInvalid, InvalidResponse:
            the answer cannot be trusted.
        """

class Delegations:
    """Grants by and to the session; made by `Client.delegations`. As
    `sealspace.delegations.Delegations`.
    """

    def delegate(
        self,
        did: str,
        capabilities: Sequence[Capability],
        *,
        ttl_s: float | None = None,
        at_most: bool = False,
        policy: Policy | None = None,
        run: RunStatement | None = None,
        wallet: AnyWallet | None = None,
        domain: str = "localhost",
    ) -> PortableDelegation:
        """Grant capabilities to a DID; the grant is registered at the node when this returns.

        The owner of any space in a grant can revoke all of it (W22): grant what belongs to
        different owners separately.

        Args:
            did: the recipient. A fragment is dropped: a wallet's message to a key's own DID URL
                signs that key in, and the delegate of a grant must not become its owner in person
                (IP2).
            capabilities: at least one; see `allow`. Reading capabilities is left out, for the same
                reason, unless the recipient is this session's own key: it is what makes a session.
            ttl_s: lifetime in seconds; None: seven days, or what is left of the grants it rests on.
            at_most: take what is left of those grants, where they end before `ttl_s`.
            policy: what code may receive keys under this grant; None: the grant says nothing about
                code.
            run: for which programs and callers a runner may use it; None: it is no run grant.
            wallet: sign with the owner's wallet instead of the session's key.
            domain: authority that asks, shown to the person in the wallet.
        Returns:
            The portable form, for the recipient.
        Raises:
            InvalidInput: the recipient is no DID, or nothing is granted that may be.
            NotGranted, SessionExpired: the session does not hold what it shall grant.
            LifetimeTooLong: a grant that it rests on ends before `ttl_s`; `at_most` takes what is
                left.
            NodeRefused, TransportError: as each says.
        """

    def delegate_to_target(
        self,
        target: DelegationTarget,
        *,
        policy: Policy | None = None,
        wallet: AnyWallet | None = None,
        leave_out: bool = False,
        domain: str = "localhost",
    ) -> tuple[PortableDelegation, ...]:
        """Grant what a manifest's DID waits for: a delegation for the rights of each owner (MF12).

        Each lasts for the shortest time that the manifest asks for, or as long as the session can
        grant. Nothing is signed unless all of it can be. `portable.encode_bundle` makes one text of
        the result.

        Args:
            target: of a composed request (`request.delegation_targets`).
            policy: what code may receive keys under these grants.
            wallet: sign with the owner's wallet instead of the session's key: one signature for
                each delegation.
            leave_out: leave out services that the node does not serve, instead of refusing the
                target.
            domain: authority that asks, shown to the person in the wallet.
        Raises:
            InvalidInput: the target states a service that the node does not serve, or nothing is
                granted.
            NotGranted: the session does not hold all of it; the error names each permission that is
                missing.
            SessionExpired, NodeRefused, TransportError.
        """

    def accept(
        self,
        portable: PortableDelegation,
        *,
        wallet: AnyWallet | None = None,
        ttl_s: float = ...,
        domain: str = "localhost",
    ) -> None:
        """Use a delegation from now on.

        A delegation to this session's key is used as it is. One to the wallet is passed on by the
        wallet to the session's key first: a signature.

        Args:
            portable: untrusted.
            wallet: of this session's owner, where the delegation may be for it.
            ttl_s: for how long the wallet passes it on, in seconds; cut to that of the delegation.
            domain: authority that asks, shown to the person in the wallet.
        Raises:
            InvalidPortableDelegation: it is for another DID, or has ended.
            NodeRefused, TransportError: the node does not accept it.
        """

    def take_up_bundle(
        self,
        portables: Sequence[PortableDelegation],
        *,
        wallet: AnyWallet | None = None,
        domain: str = "localhost",
    ) -> None:
        """Use several delegations from now on, for example those of `portable.decode_bundle`.

        All are checked before the first is used; each to the wallet is one signature.

        Raises:
            InvalidPortableDelegation: one of them is for another DID, has ended, or differs from
                its token.
            NodeRefused, TransportError: the node does not accept one; those before it are in use.
        """

    def read(self, portable: PortableDelegation) -> Grant:
        """Check a portable delegation against what it carries.

        Raises:
            InvalidPortableDelegation: the token in it cannot be read, differs from the members
                beside it, or has ended.
        """

    def add_right(
        self,
        wallet: AnyWallet,
        capabilities: Sequence[Capability],
        *,
        ttl_s: float = ...,
        domain: str = "localhost",
    ) -> None:
        """Have the wallet give this session a further right of the owner's; one signature.

        Raises:
            InvalidInput: the wallet is not the owner's.
            NodeRefused, TransportError: as each says.
        """

    def revoke(self, *delegations: PortableDelegation | str) -> None:
        """Revoke delegations with the session's key; in force, for ever, when this returns (V2,
        V5).

        The key that issued all of them revokes them on its own authority; otherwise it acts for the
        owner, by the right to revoke in its sign-in. Up to 32 end together or not at all; more are
        revoked in parts of 32.

        Args:
            delegations: portable forms or cids; `delegation_history.ending_with` says which belong
                together.
        Raises:
            Unauthorized: this session may not revoke one of them.
            NodeRefused, TransportError: as each says.
        """

    def holders(self, secret: str, network: str) -> tuple[DelegationRecord, ...]:
        """Return the live grants by which somebody else may open or read a secret, whichever client
        made them.

        A right to decrypt on the network is enough, with a copy of what is stored.

        Args:
            secret: its resource; see `Secrets.resource`.
            network: id of the network that it is sealed to; see `Secrets.envelope`.
        Raises:
            InvalidInput: no such resource.
            NotGranted, Unauthorized, MalformedAnswer, NodeRefused, TransportError: as `query`.
        Does not check:
            What a grant demands of code, callers and secrets, and what its recipient passed on: the
            node lists neither.
        """

    def revoke_by_wallet(
        self, delegation: PortableDelegation | str, wallet: AnyWallet, *, domain: str = "localhost"
    ) -> None:
        """Revoke a delegation with the owner's wallet; in force, for ever, when this returns (V3).

        Raises:
            Unauthorized: the wallet neither issued it, nor is it for the wallet, nor in its spaces.
            NodeRefused, TransportError: as each says.
        """

    def status(self, delegation: PortableDelegation | str) -> DelegationStatus:
        """Ask for the status of a delegation.

        The node answers its signer, its recipient and the owner of a space in it: this session asks
        on behalf of its owner, by the right in its sign-in, and on its own authority.

        Args:
            delegation: the portable form, or a cid.
        Returns:
            Its status; `not_found` also where neither has a say over it.
        Raises:
            NodeRefused, TransportError: as each says.
        """

    def query(
        self,
        *,
        direction: Direction | None = None,
        status: Status | None = None,
        space: str | None = None,
        account: str | None = None,
        page_items: int = 50,
    ) -> Iterator[DelegationRecord]:
        """Yield what an account granted and received, read page by page.

        The latest issued come first. A delegation that a key signed does not say when: those come
        last, in the order of their cids.

        Args:
            direction: only what was granted, or only what was received.
            status: only delegations with this status; `revoked` also finds what an ancestor's
                revocation cut off.
            space: only what names a space of this name or id.
            account: a space of the account, by name or id; None: the session's primary space.
            page_items: delegations of a page, 1 to 100.
        Raises:
            InvalidInput: a page of another size, or no space.
            NotGranted, Unauthorized: the session may not list this account's delegations.
            MalformedAnswer: a page is longer than was asked for, or the list does not advance or
                has no end.
            NodeRefused, TransportError: as each says.
        """

class Attestation:
    """The attestation routes of a node; made by `Client.attestation`. As
    `sealspace.apps.attestation.Attestation`.
    """

    def challenge(self) -> Challenge:
        """Ask for a nonce for this session's DID; nothing is stored for it.

        Raises:
            RateLimited: too many.
            MalformedAnswer, NodeRefused, TransportError: as each says.
        """

    def open_session(
        self, network: NetworkId, challenge: Challenge, attested: Attested
    ) -> AttestationSession:
        """Submit a quote; from then on, until the evidence ends, it counts for this session's DID.

        Args:
            network: a network on which the session holds decrypt; proves that it has a use for
                evidence here.
            challenge: a fresh one; it is used up, whatever the answer.
            attested: quote and receiver key.
        Raises:
            NotGranted: the session does not hold decrypt on the network.
            AttestationRefused: the node does not accept the quote, or the challenge has expired;
                `problem` says why.
            NodeFailure: the node has no collateral, or its queue is full; `retry_after_s` says when
                to try again, with a new challenge.
        Does not check:
            Whether any owner approves this code: that is judged at each release.
        """

class Backends:
    """Granting to backends by what was seen; made by `Client.backends`. As
    `sealspace.apps.backends.Backends`.
    """

    def look(self, url: str, verifier: EvidenceVerifier) -> Seen:
        """Ask a backend for its evidence and verify it; as `fetch_evidence`."""

    def resources(self, seen: Seen, secrets: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the resources of the secrets that a grant would name.

        Args:
            seen: from `look`.
            secrets: labels, `NAME` or `scope/NAME`; None: all that the backend asks for.
        Raises:
            InvalidInput: it asks for none, or not for one of these.
        """

    def require_judgeable(self, seen: Seen) -> None:
        """Ask the node whether it can judge what was seen; a grant to a backend that it cannot
        judge opens nothing.

        Raises:
            BackendNotAcceptable: it trusts another root, takes no such key provider, or lacks
                collateral.
            NodeRefused, TransportError: as each says.
        Does not check:
            A node that does not tell its terms, as other implementations of the protocol.
        """

    def grant(
        self,
        seen: Seen,
        secrets: Sequence[str] | None = None,
        *,
        ttl_s: float | None = None,
        at_most: bool = False,
        accept: Sequence[Leniency] = ...,
        pin: Pin = "compose",
        wallet: AnyWallet | None = None,
    ) -> PortableDelegation:
        """Delegate secrets to exactly what was seen; the grant is registered at the node when this
        returns.

        Args:
            seen: from `look`, at most LOOK_TTL_S ago.
            secrets: labels, `NAME` or `scope/NAME`; None: all that the backend asks for.
            ttl_s: lifetime in seconds; None: seven days, or what is left of the session's grants.
            at_most: take what is left of the session's grants, where they end earlier.
            accept: what may deviate from the strict terms; see `policy_for`.
            pin: see `policy_for`.
            wallet: sign with the owner's wallet instead of the session's key, whose expiry limits a
                grant.
        Returns:
            The grant: reading these secrets, and decrypt on the owner's network, for this DID and
                this code.
        Raises:
            BackendNotAcceptable: the node would refuse what was seen or could not judge it, see
                `require_judgeable`, or it was seen too long ago (`age`).
            InvalidInput, NotGranted, SessionExpired, NodeRefused, TransportError: as
            `Delegations.delegate`.
        """

class Programs:
    """The projects of one developer; made by `Client.programs`. As
    `sealspace.apps.programs.Programs`.
    """

    @property
    def space(self) -> str:
        """Full id of the space that holds them; what a grant to a runner names."""

    def publish(
        self,
        name: str,
        wasm: bytes,
        *,
        target: Target,
        signer: StatementSigner,
        source: str | None = None,
        manifest: ProgramManifest | None = None,
        activate: bool = True,
    ) -> Version:
        """Publish a version, and have it run from now on.

        Args:
            name: of the project.
            wasm: at most MAX_PROGRAM_BYTES.
            target: what the bytes are.
            signer: the developer's key or wallet: it signs the version, and once more that it is
                the active one.
            source: where its source is, for readers.
            manifest: what it wants.
            activate: False leaves the active version as it is.
        Returns:
            What was stated. Publishing the same bytes again states them anew. If they are the
            active version, runners refuse it until it is activated again (RN177).
        Raises:
            InvalidInput: a name, the size, or a part of the manifest; or the signer is not the
                owner of the space.
            PreconditionFailed: another version became active meanwhile.
            NodeRefused, TransportError: as every request.
        Does not check:
            Whether a runner can run it: `tee_backend.runner` says so.
        """

    def activate(self, name: str, sha256: str, *, signer: StatementSigner) -> Active:
        """Have a published version run from now on.

        Raises:
            NotFound: there is no such version.
            PreconditionFailed: another version became active meanwhile.
            StatementInvalid: what is stored is not the developer's.
            InvalidInput, NodeRefused, TransportError: as every request.
        """

    def names(self) -> Iterator[str]:
        """Yield the names of the projects, in their order."""

    def versions(self, name: str) -> tuple[Version, ...]:
        """Return the versions of a project, the latest published first.

        Raises:
            StatementInvalid: one is not the developer's.
            NodeRefused, TransportError: as every request.
        """

    def version(self, name: str, sha256: str) -> Version:
        """Return what the developer states about a version.

        Raises:
            NotFound: there is no such version.
            StatementInvalid, InvalidInput, NodeRefused, TransportError: as every request.
        """

    def active(self, name: str) -> Active | None:
        """Return which version runs; None where none does.

        Raises:
            StatementInvalid, InvalidInput, NodeRefused, TransportError: as every request.
        """

class Runners:
    """Granting to runners; made by `Client.runners`. As `sealspace.apps.runners.Runners`."""

    def grant(
        self,
        seen: Seen,
        secrets: Sequence[str],
        run: RunStatement,
        *,
        ttl_s: float = ...,
        accept: Sequence[Leniency] = ...,
        pin: Pin = "compose",
        wallet: AnyWallet | None = None,
    ) -> PortableDelegation:
        """Delegate secrets to exactly the runner that was seen, for named programs and callers
        alone.

        Args:
            seen: from `Backends.look`, at most LOOK_TTL_S ago.
            secrets: labels, `NAME` or `scope/NAME`, at most 32; a name that is added later needs a
                new grant. Generated ones, `PROTECTED_…`, are granted apart from others: they are of
                another network.
            run: programs, callers, hosts and limits; the runner enforces them, the node does not.
            ttl_s: lifetime in seconds.
            accept: what may deviate from the strict terms; see `policy_for`.
            pin: see `policy_for`.
            wallet: the owner's; None: the session's key is the owner itself.
        Returns:
            The grant, registered at the node; `backends.deliver` takes it to the runner.
        Raises:
            InvalidInput: a name, the number of names, hosts for a program whose project is not
                named, or the signer is not the owner itself: a runner takes no grant that rests on
                another delegation (RN41).
            BackendNotAcceptable, NodeRefused, TransportError: as `Backends.grant`.
        """

    def generate(
        self,
        seen: Seen,
        wanted: Mapping[str, str],
        *,
        scope: str | None = None,
        accept: Sequence[Leniency] = ...,
        pin: Pin = "compose",
        wallet: AnyWallet | None = None,
    ) -> Generation:
        """Have secrets made by the runner that was seen: nobody sees their values, and the owner
        may grant them.

        The owner's network `protected` is made where it is missing, with a policy by which nobody
        opens anything in person. The runner gets a grant for ten minutes to write exactly these
        secrets, and writes none that is there.

        Args:
            seen: from `Backends.look`, at most LOOK_TTL_S ago.
            wanted: name to type, 1 to 16; see `run_grants.checked_generation_type`.
            scope: None for global secrets.
            accept: what may deviate from the strict terms; see `policy_for`.
            pin: see `policy_for`.
            wallet: the owner's; None: the session's key is the owner itself.
        Returns:
            What the runner states. Where it failed on the way, some were made.
        Raises:
            InvalidInput: a name, a type, their number, or the signer is not the owner itself; or
                the network `protected` is one that people may open secrets of.
            BackendNotAcceptable: the node would refuse what was seen, or it was seen too long ago.
            GrantNotTaken, BackendUnreachable, BackendAnswerInvalid: as `deliver`.
            NodeRefused, TransportError: as each says.
        Does not check:
            Which code answered: `tee_backend.runner.calls.generated_secrets.verify_generated` does,
                by the statement.
        """

    def share_project(
        self, seen: Seen, name: str, *, ttl_s: float = ..., wallet: AnyWallet | None = None
    ) -> PortableDelegation:
        """Let the runner that was seen read a private project of the owner's (RN152).

        Args:
            seen: from `Backends.look`, at most LOOK_TTL_S ago.
            name: of the project, in the space `projects`.
            ttl_s: lifetime in seconds.
            wallet: the owner's; None: the session's key is the owner itself.
        Returns:
            The grant, registered at the node; `backends.deliver` takes it to the runner.
        Raises:
            InvalidInput, BackendNotAcceptable, NodeRefused, TransportError: as `grant`.
        Does not check:
            Which code reads: the node holds reads of values to a DID, and not to code.
        """

    def create_key(
        self,
        url: str,
        *,
        projects: Sequence[ProjectId] | None,
        profiles: Sequence[str] = ...,
        max_per_call: int,
        ttl_s: float = ...,
        wallet: AnyWallet | None = None,
    ) -> Credential:
        """Make an API key: whoever has it calls programs at one runner in the owner's name, and at
        its cost.

        Args:
            url: address of the runner.
            projects: that it calls, 1 to 64; None: any.
            profiles: whose secrets a call may ask for; none by default.
            max_per_call: micro-units.
            ttl_s: lifetime in seconds, at most 90 days.
            wallet: the owner's; None: the session's key is the owner itself.
        Returns:
            The key, which nobody can show again.
        Raises:
            InvalidInput: an argument, or the signer is not the owner.
            CallRefused: the runner refuses.
            BackendUnreachable, BackendAnswerInvalid: as `call_runner`.
        """

    def keys(self, url: str) -> dict[str, Json]:
        """Return the owner's API keys at a runner, and its account there, as the runner answers.

        Raises:
            NotGranted, SessionExpired: as `run_calls.call_headers`.
            CallRefused, BackendUnreachable, BackendAnswerInvalid: as `create_key`.
        """

    def revoke_key(self, url: str, nonce: int) -> None:
        """Revoke one of the owner's API keys at a runner, from now on.

        Raises:
            NotGranted, SessionExpired, BackendUnreachable, BackendAnswerInvalid: as `keys`.
            CallRefused: as `keys`, and where there is no such key.
        """

class Receipts:
    """The receipts of a node; made by `Client.receipts`. As `sealspace.receipts.Receipts`."""

    def page(self, network: NetworkId | None = None, *, after: str | None = None) -> ReceiptPage:
        """Return a page of at most 100 receipts, each checked.

        Args:
            network: None: the default network of the owner for whom this session acts.
            after: `after` of the page before; None: from the first on.
        Raises:
            NotGranted: the session does not hold `sealspace.encryption/receipts` on the network.
            ReceiptInvalid: the node's signature does not hold, or a receipt is of another node or
                network.
            MalformedAnswer: no page, too long a one, or receipts out of order.
            Unauthorized, NotFound, NodeRefused, TransportError.
        """

    def all(self, network: NetworkId | None = None) -> Iterator[Receipt]:
        """Yield every receipt of a network, oldest first, each checked; read page by page.

        Raises:
            SealspaceError: as `page`; MalformedAnswer where the list does not advance, or has no
                end.
        """

    def document(self, sha256: bytes, network: NetworkId | None = None) -> bytes:
        """Return a document that receipts name, compared with its digest.

        Args:
            sha256: 32 bytes, out of a receipt; see `documents_of`.
            network: as for `page`.
        Raises:
            NotFound: the node does not keep it, or no longer.
            ReceiptInvalid: what it gives has another digest.
            NotGranted, Unauthorized, NodeRefused, TransportError.
        """

    def documents(self, receipt: Receipt, network: NetworkId | None = None) -> dict[bytes, bytes]:
        """Return every document that a receipt names and the node still keeps, by digest.

        Raises:
            SealspaceError: as `document`, but for NotFound.
        """

class Withdrawals:
    """Withdrawals by the owner; made by `Client.withdrawals`. As
    `sealspace.encryption.Withdrawals`.
    """

    def withdraw_measurement(self, measurement: bytes, network: NetworkId | None = None) -> None:
        """Withdraw code: a register of 48 bytes (MRTD, RTMR0 to RTMR3, MRSEAM), or a compose hash
        of 32.

        Raises:
            SealspaceError: as `withdraw_backend`.
        """

    def withdraw_backend(self, did: str, network: NetworkId | None = None) -> None:
        """Withdraw a backend, with every delegation that it signed or received.

        Args:
            did: the backend's.
            network: None: the default network of the owner for whom this session acts.
        Raises:
            InvalidInput: nothing that can be withdrawn; the owner's own DID cannot.
            NotGranted: the session does not hold `sealspace.encryption/policy` on the network.
            Unauthorized: the session is not its owner in person.
            NetworkNotFound, NodeRefused, TransportError.
        """

    def withdraw_evidence(self, sha256: bytes, network: NetworkId | None = None) -> None:
        """Withdraw one piece of evidence, named as session, audit and receipts name it; 32 bytes.

        Raises:
            SealspaceError: as `withdraw_backend`.
        """
