# Generated from the asynchronous classes by tools/sync_stubs.py; write it anew with `make pages`.
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from capabilities.clock_and_entropy import Clock, Entropy
from capabilities.machine_tokens import MachineGrant, OidcTrust
from capabilities.memberships import Role
from capabilities.principals import Principal
from capabilities.resources import NetworkId, SpaceId
from capabilities.strict_json import JsonObject
from capabilities.tokens import Capability
from encryption_network.envelope import InlineEnvelope
from encryption_network.networks import Descriptor
from encryption_network.pins import NetworkPin
from encryption_network.policy import Policy
from encryption_network.receipt import Receipt
from sealspace.apps.api_keys import Credential
from sealspace.apps.attestation import AttestationSession, Attested, Challenge
from sealspace.apps.backends import EvidenceVerifier, Leniency, Pin, Seen
from sealspace.apps.contacts import StoredContacts
from sealspace.apps.key_rotation import LookedAt, NeedingValue, Reencrypted, WalletSource
from sealspace.apps.programs import Active, ProgramManifest, Provenance, Target, Version
from sealspace.apps.replica import ReplicaState, SyncCounts
from sealspace.apps.runners import Generation
from sealspace.documents.app_names import AppNames
from sealspace.documents.contact_list import Contact
from sealspace.documents.invitations import Invitation
from sealspace.documents.manifests import DelegationTarget
from sealspace.documents.network_keys import NetworkKeys
from sealspace.documents.project_names import ProjectId
from sealspace.documents.run_grants import RunStatement
from sealspace.documents.secret_names import SecretName, SharedFolder
from sealspace.documents.secret_payloads import Generated, Secret
from sealspace.documents.signed_statements import StatementSigner
from sealspace.documents.successions import MoveStatement, ProvenMove
from sealspace.encryption import ReceiverKey
from sealspace.giving.access import SecretAccess
from sealspace.giving.copies import Share, _Wallet
from sealspace.giving.teams.adoption import Adopted
from sealspace.giving.teams.memberships import OwnMemberships, TeamMember, TeamMembers
from sealspace.giving.teams.team_keys import CreatedTeam
from sealspace.giving.teams.team_moves import MovedValues, PreparedTeam, _Progress
from sealspace.giving.teams.teams import Removal
from sealspace.kv import Page, SignedUrl
from sealspace.receipts import CopyFetch, KeyRelease, ReceiptPage
from sealspace.session import Grant, Session
from sealspace.spaces import SpaceEntry
from sealspace.sql import Changes, Rows, SqlValue, Statement
from sealspace.wallets import AnyWallet
from sealspace.wire.caller import Caller
from sealspace.wire.changes import ChangesPage
from sealspace.wire.delegation_history import DelegationRecord, DelegationStatus, Direction, Status
from sealspace.wire.portable import PortableDelegation
from sealspace.wire.transfers import Source
from sealspace.wire.transport import Answer, Progress, TransportSettings
from sealspace.wire.values import KeptVersion, Value

def fetch_evidence(
    url: str,
    verifier: EvidenceVerifier,
    *,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    settings: TransportSettings | None = None,
) -> Seen:
    """Fetch and verify a backend's attestation evidence for a fresh nonce.

    Args:
        url: address of the backend: `https://…`, or `http://…` on this machine.
        verifier: a verifier with the caller's own collateral; a backend's statements about its
            platform are not trusted.
        clock: None: the system's.
        entropy: None: the system's.
        settings: timeouts and retries.
    Returns:
        The backend, with every statement confirmed by its quote.
    Raises:
        InvalidInput: the address is not valid.
        BackendUnreachable: the backend did not answer.
        BackendAnswerInvalid: the answer is truncated, too long, a redirect or not a backend's.
        BackendNotProven, CollateralNeeded: the evidence could not be verified.
    Does not check:
        Whether this is the expected code: see `require_expected`, and read `in_plain_words`.
    """

def deliver(
    url: str, *portables: PortableDelegation, settings: TransportSettings | None = None
) -> Answer:
    """Send grants to a backend.

    The node keeps the grants even if the backend rejects them.

    Args:
        url: address of the backend.
        portables: one grant, or several that the backend accepts together or not at all.
        settings: timeouts and retries.
    Returns:
        The answer, untrusted: the former grants of a job (RN247), or nothing.
    Raises:
        InvalidInput: the address is not valid, or there are too many grants.
        GrantNotTaken: the backend did not accept them; the message has its text.
        BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
    """

class Kv:
    """A client that reads and writes values in a space.

    Use `Client.kv` to get an instance. See `sealspace.kv.Kv`.
    """

    @property
    def space(self) -> SpaceId:
        """The id of this space."""

    def get(self, key: str, *, max_bytes: int = ..., version: int | None = None) -> Value:
        """Read a value, or one version of it.

        Args:
            key: the key.
            max_bytes: largest accepted value; use `download` or `stream` for larger ones.
            version: number of the version in `versions`; None: the current value.
        Raises:
            NotFound: there is no value under this key, or this version is not kept; the message
                then lists those that are.
            MalformedAnswer: the node has no versions.
            SpaceNotFound: the node does not host the space.
            ValueTooLarge: the value is larger than `max_bytes`.
            NotGranted, Unauthorized: the session may not read it.
            TransferBroken: the body does not match the digest in its ETag.
        """

    def get_if_changed(self, key: str, etag: str, *, max_bytes: int = ...) -> Value | None:
        """Read a value if it has changed since a known version.

        The value has changed if its version differs from `etag`.

        Returns:
            The value, or None if its version is `etag`.
        Raises:
            SealspaceError: the same errors as `get`.
        """

    def metadata(self, key: str) -> Value:
        """Read the version and the metadata of a value.

        The `body` of the result is empty.

        Raises:
            SealspaceError: the same errors as `get`.
        """

    def versions(self, key: str) -> tuple[KeptVersion, ...]:
        """Return the versions of a value that the node keeps (M56).

        The newest is first. After a deletion none of them is the current value. Only the owner in
        person may call this.

        Raises:
            NotFound: there is no value under this key, and no version is kept.
            MalformedAnswer: the node has no versions.
            SealspaceError: the same errors as `get`.
        """

    def metadata_many(self, keys: Iterable[str]) -> dict[str, Value]:
        """Read the versions and the metadata of several values.

        One request reads up to 100. The `body` of each result is empty.

        Returns:
            Key to metadata, in the order of the keys, without the keys that have no value.
        Raises:
            SealspaceError: the same errors as `metadata`, except NotFound; then it returns nothing.
        """

    def size_bytes(self, key: str) -> int:
        """Return the size of a value in bytes.

        The value is not downloaded, but `kv/get` is required.

        Raises:
            SealspaceError: the same errors as `get`.
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
        """Write a value.

        The value is durable when the call returns.

        Args:
            key: the key.
            body: bytes, or text. Text is sent as UTF-8, by default with the content type
                `text/plain;charset=UTF-8`.
            content_type: stored with the value and returned with it.
            metadata: names and texts stored and returned with the value; at most 16 KiB in all.
            if_absent: write only if there is no value now.
            if_match: write only over the value of this version.
        Returns:
            The version (ETag) of the new value.
        Raises:
            InvalidInput: the key cannot be used in a URI, or the body is neither bytes nor text.
            PreconditionFailed: the condition is not met, or a concurrent write won.
            NotGranted, Unauthorized: the session may not write it.
            QuotaExceeded, ValueTooLarge: there is not enough free space.
            NodeTimeout, NodeUnreachable: the value may or may not have been written.
        """

    def get_many(self, keys: Iterable[str], *, max_bytes: int = ...) -> dict[str, Value]:
        """Read several values.

        One request reads up to 100 values. Values of one request are read at the same moment.

        Args:
            keys: the keys.
            max_bytes: limit for each value, as in `get`.
        Returns:
            Key to value, in the order of the keys, without the keys that have no value.
        Raises:
            SealspaceError: the same errors as `get`, except NotFound; no value is returned then.
        """

    def put_many(
        self, values: Mapping[str, bytes | str], *, content_type: str | None = None
    ) -> dict[str, str]:
        """Write several values.

        The values are durable when the call returns. One commit takes up to 250 values of at most
        64 KiB each, 4 MiB together, and writes all of them or none. Larger values are written after
        that, one by one.

        Args:
            values: key to bytes or text, as in `put`.
            content_type: content type of all values; None: as in `put`.
        Returns:
            Key to the version of the new value.
        Raises:
            BatchIncomplete: one commit failed after others succeeded; it lists the written keys.
            InvalidInput: a key or value is not valid; nothing was sent.
            SealspaceError: the same errors as `put`; nothing was written.
        """

    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete several values.

        The values are deleted in atomic commits of up to 250 values each.

        Raises:
            NotFound: one of the keys never had a value.
            BatchIncomplete: one commit failed after others succeeded; it lists the deleted keys.
            NotGranted, Unauthorized: the session may not delete all of them; none is deleted.
        """

    def stream(self, key: str, *, max_bytes: int = ...) -> Iterator[bytes]:
        """Yield the bytes of a value in pieces.

        Only one piece is in memory at a time.

        Args:
            key: the key.
            max_bytes: largest accepted value.
        Raises:
            TransferBroken: the value was cut off, or does not match its ETag. Discard the pieces
                that were already yielded.
            SealspaceError: the same errors as `get`.
        """

    def download(
        self,
        key: str,
        to: str | Path | BinaryIO,
        *,
        progress: Progress | None = None,
        max_bytes: int = ...,
    ) -> Value:
        """Download a value to a file.

        The value can have any size: only one piece is in memory at a time.

        Args:
            key: the key.
            to: a path, which is replaced atomically at the end, or an open binary file.
            progress: called with the bytes so far and the total.
            max_bytes: largest accepted value.
        Returns:
            Version and metadata; the body is empty.
        Raises:
            TransferBroken: the value was cut off, or does not match its ETag; the file at the path
                is unchanged.
            OSError: the file cannot be written.
            InvalidInput: the path is not a regular file.
            SealspaceError: the same errors as `get`.
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
        """Upload a value of any size from a file.

        The value is durable when the call returns.

        Args:
            key: the key.
            source: a path, an open binary file (read from its current position), or a synchronous
                or asynchronous iterable of bytes.
            content_type: the same as in `put`.
            metadata: the same as in `put`.
            if_absent: the same as in `put`.
            if_match: the same as in `put`.
            progress: called with the bytes sent so far and the total; the total is None if the
                source is an iterable.
        Returns:
            The version (ETag) of the new value.
        Raises:
            InvalidInput: the source does not yield bytes, or changed its size; nothing was stored.
            OSError: the file cannot be read; nothing was stored. Any other error of the source is
                raised as it is.
            SealspaceError: the same errors as `put`.
        """

    def delete(self, key: str, *, if_match: str | None = None, purge: bool = False) -> str | None:
        """Delete a value.

        The deletion is durable when the call returns. The node may keep versions of the value for
        a time; `purge` deletes them too (M57), also those of a value that was deleted before.

        Returns:
            The version of the removed value; None if it was already deleted.
        Raises:
            NotFound: the key never had a value.
            PreconditionFailed: the value's version is not `if_match`.
            NotGranted, Unauthorized: the session may not delete it.
        """

    def signed_url(
        self, key: str, *, ttl_s: int | None = None, at_most: bool = False, etag: str | None = None
    ) -> SignedUrl:
        """Create a URL that lets anyone read a value.

        The URL is for one version of the value, and is valid for up to five minutes. The URL stops
        working when a grant of this session expires or is revoked, or when the value changes.

        Args:
            key: the key.
            ttl_s: lifetime in seconds, 1 to 300; None: about five minutes, or less if a grant of
                the session ends earlier.
            at_most: accept a shorter lifetime if this one is not possible.
            etag: the version; None: the current one.
        Raises:
            InvalidInput: the lifetime is not positive.
            LifetimeTooLong: the node allows less, or a grant of the session ends earlier.
            NotFound: there is no value under this key.
            SpaceNotFound: the node does not host the space.
            NotGranted, Unauthorized: the session may not read it.
        """

    def list_page(self, prefix: str = "", *, limit: int = ..., cursor: str | None = None) -> Page:
        """Return one page of the keys below a prefix.

        Args:
            prefix: whole segments: `notes` is this key and all below `notes/`; "" is the whole
                space. The session needs `tinycloud.kv/list` on it.
            limit: largest number of keys, 1 to 1000; the same for all pages of one listing.
            cursor: `cursor` of the page before; None: the first page.
        Raises:
            InvalidInput: the limit is out of range.
            MalformedAnswer: the keys do not ascend below the prefix, or a page before the last one
                is empty.
            NotGranted, Unauthorized: the session may not list the keys.
            SpaceNotFound: the node does not host the space.
        """

    def list(self, prefix: str = "", *, page_keys: int = ...) -> Iterator[str]:
        """Yield all keys below a prefix, in ascending order.

        The prefix is that of `list_page`. The keys are fetched in pages of up to `page_keys`.

        Raises:
            MalformedAnswer, InvalidInput, NotGranted, Unauthorized, SpaceNotFound: see `pages`.
        """

    def pages(self, prefix: str = "", *, page_keys: int = ...) -> Iterator[Page]:
        """Yield all keys below a prefix, one page at a time.

        The keys are in ascending order.

        Raises:
            MalformedAnswer: the list does not advance or has no end.
            SealspaceError: the same errors as `list_page`.
        """

    def changes(
        self,
        prefix: str,
        *,
        cursor: str | None = None,
        limit: int = 500,
        follow: bool = True,
        poll_s: float = ...,
    ) -> Iterator[ChangesPage]:
        """Yield the changes of the values below a prefix, and wait for further ones.

        The session needs `tinycloud.kv/sync` on the prefix, which is part of no sign-in.

        Args:
            prefix: whole segments: `notes` is this key and all below `notes/`. Not empty.
            cursor: `cursor` of the last page that was handled; None: begin with all values.
            limit: a page ends with the commit that reaches this number of changes, 1 to 1000.
            follow: False: end with the present changes.
            poll_s: seconds between requests if the node has no place to wait.
        Raises:
            InvalidInput: the prefix is empty, or the limit is out of range.
            SealspaceError: the same errors as `list_page`. To continue, pass the last cursor.
        """

class Replica:
    """A durable local copy of the values below a prefix.

    Use `Client.replica` to get an instance. See `sealspace.apps.replica.Replica`.
    """

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def close(self) -> None:
        """Close the file. Waits for the end of a run."""

    @property
    def state(self) -> ReplicaState:
        """The state of the copy, as far as it was committed."""

    def get(self, key: str) -> Value | None:
        """Read a value of the copy.

        Returns:
            The value; None if the copy has no such key.
        Raises:
            ReplicaIncomplete: the key is there, but its value is not stored yet.
            ReplicaExpired, ReplicaRevoked: the right to read has ended.
            ReplicaCorrupt: the stored value does not match its version.
            ClockWentBack: the clock shows a time before the last one that was seen.
            ClientNotReady: the copy was never synced, or is closed (ClientClosed).
        """

    def metadata(self, key: str) -> Value | None:
        """Read the version and the metadata of a value of the copy.

        The `body` of the result is empty.

        Returns:
            The metadata; None if the copy has no such key.
        Raises:
            SealspaceError: the same errors as `get`, except ReplicaIncomplete.
        """

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys of the copy below a prefix, in ascending order.

        Keys whose values are not stored yet are included.

        Args:
            prefix: whole segments: `notes` is this key and all below `notes/`; "": all keys.
        Raises:
            SealspaceError: the same errors as `get`, except ReplicaIncomplete.
        """

    def sync(self) -> SyncCounts:
        """Bring the copy up to date.

        Each page is committed with its cursor, so a later run continues after the last page that
        was committed, whatever ended the run.

        Raises:
            SourceChanged: the node is not the one that the copy is from; nothing was sent.
            ReplicaExpired: the right to read is not valid at the time of this machine's clock.
            ReplicaRevoked: a delegation was revoked; the values were deleted.
            ReplicaFull: the copy would be larger than allowed.
            ReplicaCorrupt, ReplicaUnusable: the file is damaged, or the disk fails.
            ClockWentBack: the clock shows a time before the last one that was seen.
            MalformedAnswer: a page is not one of this feed.
            SealspaceError: the same errors as `Kv.changes`; the copy is kept.
        """

    def follow(self, *, retry_s: float | None = None) -> Iterator[SyncCounts]:
        """Bring the copy up to date, and again whenever a value changes.

        Yields after each run that changed something, and after the first. While the node cannot be
        reached, nothing is yielded, and the copy can be read.

        Args:
            retry_s: seconds until the next attempt after the node could not be reached, did not
                answer in time, or failed (5xx). None: these are errors, after the client's retries
                of a request (`TransportSettings`). Other errors are never retried.
        Raises:
            InvalidInput: `retry_s` is not above 0.
            SealspaceError: the same errors as `sync`. Call this again to continue.
        """

class PublicKv:
    """A client that reads values from a public space.

    Use `Client.public` to get an instance. See `sealspace.spaces.PublicKv`.
    """

    @property
    def space(self) -> SpaceId:
        """The id of this space."""

    def get(self, key: str, *, max_bytes: int = ...) -> Value:
        """Read a value.

        Of the metadata, nodes publish only the content type.

        Args:
            key: the key.
            max_bytes: largest accepted value.
        Raises:
            NotFound: there is no such value or space.
            RateLimited: the node accepts no more reads from this address for now.
            ResponseTooLarge: the value is larger than `max_bytes`.
            TransferBroken: the body does not match the digest in its ETag.
        """

    def get_if_changed(self, key: str, etag: str, *, max_bytes: int = ...) -> Value | None:
        """Read a value if it has changed since a known version.

        Returns None if the version is still `etag`.

        Raises:
            SealspaceError: the same errors as `get`.
        """

    def list(self, prefix: str = "", *, page_keys: int = ...) -> Iterator[str]:
        """Yield all keys below a prefix.

        The keys are in ascending order, and are fetched page by page. A space that does not exist
        has no keys.

        Args:
            prefix: whole segments: `posts` is this key and all below `posts/`; "" is the whole
                space.
            page_keys: size of a page, 1 to 1000; a node may send fewer keys, or all at once.
        Raises:
            InvalidInput: the page size is out of range.
            RateLimited: the node accepts no more reads from this address for now.
            MalformedAnswer: the keys do not ascend below the prefix, a page before the last one is
                empty, or the list has too many pages.
        """

class Secrets:
    """A client that reads and writes an owner's secrets.

    Use `Client.secrets` to get an instance. See `sealspace.secrets.Secrets`.
    """

    def resource(self, name: str, *, scope: str | None = None) -> str:
        """Return the resource URI of a secret.

        The URI is for grants that let their recipient read the secret.

        Raises:
            InvalidSecretName, InvalidSecretScope: the name or scope is not valid.
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
        """Encrypt and store a secret.

        The secret is durable when the call returns. The call needs `kv/put` on the path, but not
        decrypt. Both stored times are those of this call, even over an older secret: its first time
        could only be read with decrypt.

        Args:
            name: `^[A-Z][A-Z0-9_]*$`.
            value: text or bytes, at most 1 MiB as JSON.
            scope: None for a global secret.
            if_absent: write only if there is no such secret now.
            if_match: write only over this version of the envelope, as in `Secret.etag` or
                `version`.
        Returns:
            The version of the stored envelope.
        Raises:
            InvalidSecretName, InvalidSecretScope, InvalidSecretValue, InvalidInput: an argument is
                not valid; nothing was sent.
            NetworkNotFound: the network does not exist; see `Encryption.ensure_network`.
            NetworkKeyChanged, DescriptorUnsigned, ResponseSignatureInvalid: the network's key
                cannot be trusted; see `Encryption.descriptor`.
            PreconditionFailed: the condition is not met, or a concurrent write won.
            NotGranted, NodeRefused, TransportError: the request failed.
        """

    def put_generated(
        self, name: str, value: str, generated: Generated, *, scope: str | None = None
    ) -> str:
        """Encrypt and store a secret that a runner generated (RN145).

        An existing secret of the same name is not replaced.

        Args:
            name: begins with `PROTECTED_`.
            value: a text.
            generated: the runner's statements. A secret with a wrong tag is never delivered by a
                runner.
            scope: None for a global secret.
        Returns:
            The version of the stored envelope.
        Raises:
            SealspaceError: the same errors as `put`.
        """

    def put_many(self, values: Mapping[str, str | bytes], *, scope: str | None = None) -> None:
        """Encrypt and store several secrets.

        The secrets are in one scope. Up to 250 secrets are committed at a time, all of them or
        none.

        Raises:
            BatchIncomplete: one commit failed after others succeeded; it lists the written paths.
            SealspaceError: the same errors as `put`; nothing was written.
        """

    def sealed(self, values: Mapping[SecretName, str | bytes]) -> dict[str, bytes | str]:
        """Encrypt secrets without storing them.

        Returns:
            Path to envelope, for `Kv.put_many`.
        Raises:
            SealspaceError: the same errors as `put`; nothing is stored.
        """

    def get(
        self,
        name: str,
        *,
        scope: str | None = None,
        receiver: ReceiverKey | None = None,
        version: int | None = None,
    ) -> str | bytes:
        """Read and decrypt a secret.

        Returns a string or bytes, depending on what was stored.

        Raises:
            SealspaceError: the same errors as `read`.
        """

    def get_text(
        self, name: str, *, scope: str | None = None, receiver: ReceiverKey | None = None
    ) -> str:
        """Read and decrypt a secret that is text.

        Raises:
            InvalidSecretPayload: the secret is bytes.
            SealspaceError: the same errors as `read`.
        """

    def get_many(
        self, names: Iterable[str], *, scope: str | None = None, receiver: ReceiverKey | None = None
    ) -> dict[str, str | bytes]:
        """Read and decrypt several secrets.

        The secrets are in one scope. Up to eight are decrypted concurrently.

        Returns:
            Name to value, in the order of the names, without secrets that do not exist.
        Raises:
            SealspaceError: the same errors as `read`, except NotFound; no value is returned then.
        """

    def read_many(
        self, names: Iterable[str], *, scope: str | None = None, receiver: ReceiverKey | None = None
    ) -> dict[str, Secret]:
        """Read and decrypt several secrets, with their metadata.

        Returns:
            Name to secret, as `get_many` returns the values.
        Raises:
            SealspaceError: the same errors as `get_many`.
        """

    def etags(self, known: Mapping[str, str], *, scope: str | None = None) -> dict[str, str]:
        """Return the current versions of several secrets, without decrypting anything.

        One request reads up to 100 versions, with `kv/metadata` on the paths. A session that has
        only `kv/get` sends one conditional request for each secret.

        Args:
            known: name to the version that the caller has, as in `Secret.etag`.
            scope: None for global secrets.
        Returns:
            Name to version, without secrets that do not exist.
        Raises:
            SealspaceError: the same errors as `version`, except NotFound.
        """

    def read(
        self,
        name: str,
        *,
        scope: str | None = None,
        receiver: ReceiverKey | None = None,
        version: int | None = None,
    ) -> Secret:
        """Read and decrypt a secret, with its metadata.

        The metadata includes the version and the timestamps.

        Args:
            name: `^[A-Z][A-Z0-9_]*$`.
            scope: None for a global secret.
            receiver: key pair to which the node wraps the content key; None: a fresh one. A backend
                passes the pair that it attested.
            version: number of an earlier value, as in `versions`; None: the current value.
        Raises:
            InvalidSecretName, InvalidSecretScope: the name or scope is not valid.
            NotFound: there is no such secret, or this version is not kept; the message then lists
                those that are.
            InvalidEnvelope, LabelMismatch, InvalidSecretPayload: the stored value is not a secret
                of this name, or is sealed to a network of another owner.
            PlaceMismatch: the value belongs to another secret.
            UnboundValue: the value does not state its place, and the session is not the owner in
                person (EN46); see `bind`.
            NotGranted, Unauthorized: the session may not read the envelope.
            DecryptDenied: the node does not release the key.
            NodeRefused, TransportError, EncryptionError: a request or the decryption failed.
        """

    def version(self, name: str, *, scope: str | None = None) -> str:
        """Return the version of a secret.

        The version is that of the stored envelope. The call needs only `kv/metadata` on the path.

        Raises:
            NotFound: there is no such secret.
            InvalidSecretName, InvalidSecretScope: the name or scope is not valid.
            NotGranted, Unauthorized, NodeRefused, TransportError: the request failed.
        """

    def envelope(self, name: str, *, scope: str | None = None) -> InlineEnvelope:
        """Read a secret without decrypting it.

        The call needs only `kv/get` on the path.

        Raises:
            SealspaceError: the same errors as `read`, except for the errors of decryption.
        """

    def versions(self, name: str, *, scope: str | None = None) -> tuple[KeptVersion, ...]:
        """Return the versions of a secret that the node keeps.

        The newest is first. After a deletion none of them is the current value. Only the owner in
        person may call this.

        Raises:
            NotFound: there is no such secret, and no version is kept.
            InvalidSecretName, InvalidSecretScope: the name or scope is not valid.
            NotGranted, NodeRefused, TransportError: the request failed.
        """

    def rollback(self, name: str, version: int | None, *, scope: str | None = None) -> str:
        """Store an earlier version of a secret again.

        The stored envelope is written again; nothing is decrypted. The value that it replaces
        becomes a version. A deleted secret exists again afterwards.

        Args:
            name: `^[A-Z][A-Z0-9_]*$`.
            version: number of the version in `versions`. None: the one that `restore` would take.
            scope: None for a global secret.
        Returns:
            The version of the stored envelope, for `if_match` of `put`.
        Raises:
            NotFound: there is no such secret, or this version is not kept; the message then lists
                those that are.
            PreconditionFailed: a concurrent write won.
            SealspaceError: the same errors as `put` and `envelope`.
        """

    def restore(self, name: str, *, scope: str | None = None) -> str:
        """Store the newest version of a deleted secret again.

        Raises:
            PreconditionFailed: the secret is not deleted.
            SealspaceError: the same errors as `rollback`.
        """

    def bind(self, name: str, *, scope: str | None = None, if_match: str | None = None) -> bool:
        """Store an unbound value again, with its place inside (EN48).

        A value without a place was sealed by another client or an earlier version, and only the
        owner can read it. Value, type and creation time stay as they are. Copies for other people
        are not renewed; see `Sharing.renew`.

        Args:
            name: `^[A-Z][A-Z0-9_]*$`.
            scope: None for a global secret.
            if_match: bind only this version, as in `Secret.etag`; None: the current one.
        Returns:
            Whether the value was unbound. Otherwise nothing was written.
        Raises:
            PlaceMismatch: the content key was stored at another path too, so the value may belong
                to another secret.
            InvalidSecretName: only runners make values of this name, and they bind them.
            PreconditionFailed: a concurrent write won.
            SealspaceError: the same errors as `read`, `put` and `Encryption.paths_of`.
        """

    def delete(
        self, name: str, *, scope: str | None = None, purge: bool = False, if_match: str = ""
    ) -> None:
        """Delete a secret.

        The deletion is durable when the call returns. The node keeps the versions of the secret for
        a time, for `restore`. With `purge` it deletes them too, also those of a secret that was
        deleted before. With `if_match`, only this version of the envelope is deleted.

        Raises:
            NotFound: there is no such secret; it was deleted already or never existed.
            InvalidSecretName, InvalidSecretScope: the name or scope is not valid.
            NotGranted, PreconditionFailed, NodeRefused, TransportError: the request failed.
        """

    def list(self, *, scope: str | None = None) -> tuple[str, ...]:
        """Return the names of the secrets in a scope.

        The names are in ascending order.

        Args:
            scope: None for global secrets only.
        Raises:
            InvalidSecretScope: the scope is not valid.
            NotGranted, NodeRefused, TransportError: the request failed.
        """

    def scopes(self) -> tuple[str, ...]:
        """Return the scopes that contain secrets.

        The scopes are in the order of their paths. This needs `kv/list` on `vault/secrets/scoped/`.

        Raises:
            NotGranted, NodeRefused, TransportError: the request failed.
        """

class Sharing:
    """A client that shares secrets with people, and reads what others shared.

    Use `Client.sharing` to get an instance. See `sealspace.sharing.Sharing`.
    """

    def shares(self) -> tuple[Share, ...]:
        """Return the live rights of others to read copies of the owner's secrets.

        Raises:
            SealspaceError: the same errors as `Delegations.query`.
        """

    def share(
        self,
        labels: Collection[str],
        did: str,
        *,
        team: str | None = None,
        wallet: _Wallet = ...,
        ttl_s: float = ...,
        encryption: Encryption | None = None,
    ) -> Share:
        """Share secrets with a person who has an encryption network.

        The wallet signs once for each person, and once for each secret of a person or team. Later
        values are shared too, if they are stored with `put_many`. What the person has read stays
        known after `unshare`.

        Args:
            labels: the secrets. A new member of a team also gets those that the team has. Other
                members get copies of new ones with the next value, or by a call for each member.
            did: DID of the person.
            team: name of the team for which the copies are made; None: the person alone.
            wallet: see above.
            ttl_s: lifetime of a new right to read, seconds.
            encryption: encryption service of a client of the person's node; None: this node.
        Returns:
            The right to read. A person who has a network at another node needs it.
        Raises:
            InvalidInput: an argument is not valid, or the owner's wallet is missing.
            NotFound: there is no such secret.
            UnboundValue: a secret does not state its place; bind it first (EN46).
            NetworkNotFound, NetworkNotActive: the person has no network at that node.
            NetworkKeyChanged: earlier copies are sealed to another key of this person; see
                `renew_for`.
            SealspaceError: the same errors as `Secrets.get`, `Encryption.descriptor`, `Kv.put_many`
                and `Delegations.delegate`.
        """

    def renew(self, labels: Collection[str]) -> tuple[str, ...]:
        """Make the copies of secrets again, from the values that are stored now.

        Args:
            labels: the secrets. Those of which nobody has a copy are ignored.
        Returns:
            The labels of the secrets that were copied, in ascending order.
        Raises:
            UnboundValue: a value does not state its place; bind it first.
            SealspaceError: the same errors as `share`.
        """

    def renew_for(
        self, did: str, *, wallet: _Wallet = ..., encryption: Encryption | None = None
    ) -> tuple[Share, ...]:
        """Share with a person again who has replaced the key of the network (SH15).

        The wallet signs once for each team of the person, and once for what is shared with the
        person alone. The new rights end when the former ones do. The person can read the former
        copies until the new ones are stored. An interrupted call can be repeated.

        Args:
            did: DID of the person.
            wallet: see above.
            encryption: encryption service of a client of the person's node; None: this node.
        Returns:
            The new rights to read; empty if every copy is sealed to the newest key already.
        Raises:
            InvalidInput: the DID is not valid, or the owner's wallet is missing.
            NotShared: nothing is shared with this person.
            NetworkKeyChanged: the person did not sign that the new key replaces the former one.
            SealspaceError: the same errors as `share`.
        """

    def put_many(
        self,
        values: Mapping[str, str | bytes],
        *,
        own: bool = True,
        only: SharedFolder | None = None,
    ) -> None:
        """Encrypt and store several secrets, and renew their copies in the same commit.

        The owner signed the names and the keys of the copies, so no other node is needed.

        Args:
            values: label to text or bytes.
            own: whether to store the secrets themselves; False: only renew the copies.
            only: the folder whose copies are renewed; None: all copies.
        Raises:
            BatchIncomplete: one commit failed after others succeeded; store the same values again.
            SealspaceError: the same errors as `Secrets.put_many`, `Kv.delete_many` and `shares`.
        """

    def unshare(
        self, labels: Collection[str] | None, *, did: str | None = None, team: str | None = None
    ) -> tuple[str, ...]:
        """Delete copies, and revoke the names and rights to read for which nothing is left.

        A member of a team keeps the right to read what is shared with the team later, unless
        everything is unshared.

        Args:
            labels: the secrets; None: all.
            did: DID of the person; None: every person.
            team: the team. None: what is shared with a person alone, or everything if no person is
                given either.
        Returns:
            The labels of the secrets of which copies were deleted.
        Raises:
            InvalidInput: a DID or team is not valid, or it is about some secrets of one member.
            NotShared: nothing of it is shared.
            SealspaceError: the same errors as `shares`, `Delegations.revoke` and `Kv.delete_many`.
        """

    def received(self, owner: str, *, team: str | None = None, wallet: _Wallet = ...) -> Secrets:
        """Return an object for reading what another owner at this node shared.

        Args:
            owner: DID of the person who shares.
            team: name of the team, or "" for this session's owner alone; None: the only one.
            wallet: see above; it signs once for each session and grant.
        Raises:
            NotShared: nothing is shared, or it is not clear which team is meant.
            SealspaceError: the same errors as `Delegations.query` and `Delegations.accept`.
        """

    def received_folders(self) -> tuple[tuple[str, SharedFolder], ...]:
        """Return the folders at this node that others share with this session's owner.

        Each folder names the key for which its copies were made. It is given with the DID of the
        person who shares.

        Raises:
            SealspaceError: the same errors as `Delegations.query`.
        """

    def opened(
        self, share: Share, *, wallet: _Wallet = ..., encryption: Encryption | None = None
    ) -> Secrets:
        """Return an object for reading what another owner shared.

        Args:
            share: a right to read; see `read_share`. This client is one of the owner's node.
            wallet: see above; it signs once for each session and grant.
            encryption: encryption service of a client of the person's node; None: this node.
        Raises:
            SealspaceError: the same errors as `Delegations.accept`.
        """

class Teams:
    """A client for teams and memberships.

    Use `Client.teams` to get an instance. See `sealspace.giving.teams.teams.Teams`.
    """

    @property
    def caller(self) -> Caller:
        """Sends requests with the session's authority."""

    @property
    def delegations(self) -> Delegations:
        """Methods for revoking what the session signed."""

    def create(
        self,
        admins: Iterable[str] = ...,
        *,
        ttl_s: float = ...,
        names: Mapping[str, str] | None = None,
        seed: bytes | None = None,
    ) -> CreatedTeam:
        """Create a team, of which the owner of this session is an admin.

        The team's wallet is made in memory. Its session, which ends after ten minutes at the
        latest, creates the team's space and network, and signs the admins' memberships. An
        interrupted call can be repeated with the same seed.

        Args:
            admins: DIDs of the wallets of further admins. With only one admin, a lost key leaves
                the team without an admin.
            ttl_s: lifetime of the memberships, seconds, at most 1,830 days.
            names: DID to the name that the team uses for the admin.
            seed: the private key of the team's wallet, 32 random bytes; None: a new one.
        Returns:
            The DID, the memberships and the team's key, which is stored nowhere.
        Raises:
            InvalidInput: a DID is not that of a wallet, or a name or the lifetime is not valid.
                Also if the seed is not a key, or is the key of an admin's own wallet.
            SpacesNotHosted: the node does not admit the team as an owner.
            SealspaceError: the same errors as `Client.sign_in` and `Encryption.ensure_network`.
        """

    def recover(
        self,
        seed: bytes,
        team: str,
        admin: str | None = None,
        *,
        ttl_s: float = ...,
        name: str | None = None,
    ) -> Grant:
        """Admit an admin with the team's own key, for a team whose admins are lost (TM9).

        The key is compared with the team's DID, and the node has to have the team's network, before
        anything is signed. Other memberships stay as they are.

        Args:
            seed: the private key of the team's wallet, 32 bytes.
            team: DID of the team.
            admin: DID of a wallet; None: the owner of this session.
            ttl_s: lifetime of the membership, seconds, at most 1,830 days.
            name: how the team calls the admin.
        Returns:
            The membership, registered with the node.
        Raises:
            RecoveredKeyMismatch: the key is not that of this team.
            NetworkNotFound: this node does not have the team's network.
            InvalidInput: the DID is not that of a wallet, or the name or lifetime is not valid.
            SealspaceError: the same errors as `Client.sign_in`.
        """

    def memberships(
        self, team: str | None = None, *, ended: bool = False
    ) -> tuple[TeamMember, ...]:
        """Return the memberships that the owner of this session has received, the latest first.

        Anybody can sign a membership of their own team for any wallet. So compare the team's DID
        with the one that an admin of the team named.

        Args:
            team: DID of a team; only its memberships are read.
            ended: also return those that have ended or were revoked.
        Raises:
            MalformedAnswer: `team` has more memberships than a client verifies. Without a team the
                result is cut instead; see `own_memberships`.
            SealspaceError: the same errors as `Delegations.query`.
        Does not check:
            The admin's membership that a membership cites. The node checks it on each use.
        """

    def own_memberships(self, team: str | None = None, *, ended: bool = False) -> OwnMemberships:
        """Return what `memberships` does, and whether older memberships were left out.

        Of each team the latest four are read, and 2,000 in all, so that a stranger who signs many
        for a person hides nobody's team.
        """

    def membership(self, team: str) -> TeamMember:
        """Return the latest live membership of this session's owner in a team.

        Raises:
            NotAMember: there is none.
            SealspaceError: the same errors as `memberships`.
        """

    def sign_in(
        self,
        wallet: AnyWallet,
        membership: TeamMember | Grant,
        *,
        ttl_s: float = ...,
        domain: str = "localhost",
    ) -> Session:
        """Sign in to a fresh key as a member of a team (TM3).

        The wallet signs once. This client's session does not change; see `Client.acting`.

        Args:
            wallet: the member's wallet.
            membership: membership of the member.
            ttl_s: lifetime in seconds, at most 30 days; shorter if the membership ends earlier.
            domain: the requesting authority, which the wallet shows to the person who signs.
        Returns:
            A session whose owner is the team.
        Raises:
            InvalidInput: the lifetime is not valid, or the wallet is not the member's.
            NodeRefused, TransportError: the node did not register the sign-in.
        """

    def leave(self, team: str, *, wallet: AnyWallet) -> tuple[str, ...]:
        """End all memberships of this session's owner in a team.

        Args:
            team: DID of the team.
            wallet: the member's wallet. It signs once for each membership, or once if the member is
                an admin.
        Returns:
            The cids of the memberships that ended.
        Raises:
            NotAMember: there is no membership.
            InvalidInput: the member is the last admin, or the memberships that the member signed
                would end; see `remove`.
            SealspaceError: the same errors as `memberships` and `Delegations.revoke_by_wallet`.
        """

    def adopt(self, label: str, session: Session, *, keep: bool = False) -> Adopted:
        """Move one of the owner's own secrets into a team, with its versions (TM23).

        All versions that the node keeps are sealed for the team, in their order and with their
        times. Then they are read and compared, and one's own secret is deleted. A value that the
        team has already is never replaced. An interrupted call can be repeated. What was granted
        on one's own secret does not move.

        Args:
            label: `NAME` or `scope/NAME`.
            session: session for the team, of a writer or admin for all secrets.
            keep: do not delete one's own secret.
        Raises:
            NotFound: there is no such secret.
            InvalidInput: the name is reserved for runners, or the team has another value.
            NotGranted: the session is that of a reader, or of a member for some secrets.
            UnboundValue: a version does not state its place, and may be another secret's.
            PreconditionFailed: somebody wrote one of the two secrets at the same time; repeat the
                call.
            SealspaceError: the same errors as `Secrets.read`, `Secrets.versions` and `Kv.put`.
        """

    def members(self, *, ended: bool = False) -> TeamMembers:
        """Return the members of the team.

        The node lists what was signed, and this client verifies each membership: signature, form,
        and who signed it (TM1, TM2). A node could leave out some.

        Args:
            ended: also return memberships that have ended or were revoked.
        Raises:
            NotGranted, Unauthorized: the session is not that of an admin.
            MalformedAnswer: the node lists more memberships than a client verifies.
            SealspaceError: the same errors as `Delegations.query`.
        """

    def admin_membership(self, wallet: AnyWallet) -> TeamMember:
        """Return a membership that makes a wallet an admin of the team.

        The wallet signs grants of the team's secrets below it (TM6).

        Raises:
            NotAMember: the wallet is not that of an admin.
            SealspaceError: the same errors as `members`.
        """

    def admit(
        self,
        did: str,
        role: Role,
        *,
        wallet: AnyWallet,
        secrets: Collection[str] = ...,
        ttl_s: float | None = None,
        ends_at: int | None = None,
        name: str | None = None,
    ) -> Grant:
        """Admit a member, or give a member another membership beside the present one.

        Args:
            did: DID of the member's wallet. Compare it with the person: whoever has this wallet
                reads the secrets.
            role: `admin`, `writer` or `reader`.
            wallet: the wallet of the admin who signs.
            secrets: labels (`NAME` or `scope/NAME`) of the secrets, at most 64; empty: all.
            ttl_s: lifetime in seconds; None: a year, or until the admin's own membership ends.
            ends_at: the end in epoch seconds, in place of a lifetime.
            name: how the team calls the member.
        Returns:
            The membership, registered with the node. The member finds it with `memberships`.
        Raises:
            InvalidInput: an argument is not valid, or the membership would end after the admin's.
            NotAMember: the wallet is not that of an admin of this team.
            SealspaceError: the same errors as `members`.
        """

    def invite(
        self,
        team_name: str,
        role: Role,
        *,
        wallet: AnyWallet,
        secrets: Collection[str] = ...,
        ttl_s: float = ...,
        membership_ttl_s: float | None = None,
        name: str | None = None,
    ) -> Invitation:
        """Make an invitation for a person whose DID is not known (TM10).

        It opens nothing. `Inviting` in `sealspace.giving.teams.invitations` admits the person after
        both have compared four words.

        Args:
            team_name: a name of the team, which the person may use.
            role: role of the membership.
            wallet: the wallet of the admin, which signs when the words are confirmed.
            secrets: the same as in `admit`.
            ttl_s: lifetime of the invitation in seconds; shorter if the session ends earlier.
            membership_ttl_s: lifetime of the membership, from now; None: as in `admit`.
            name: how the team will call the member.
        Raises:
            InvalidInput, NotAMember, LifetimeTooLong: the same errors as `admit`.
            SealspaceError: the same errors as `members` and `Delegations.delegate`.
        """

    def change_role(
        self,
        did: str,
        role: Role,
        *,
        wallet: AnyWallet,
        secrets: Collection[str] = ...,
        ttl_s: float | None = None,
        kept: Collection[str] | None = None,
    ) -> Removal:
        """Replace the memberships of a member by one with another role.

        The new membership is signed before the former ones are revoked, so a reader who becomes a
        writer can read all the time. The member signs in again. The name stays, and so does the
        end, unless `ttl_s` is given.

        Args:
            did: the member.
            role: the new role.
            wallet: the same as in `admit`.
            secrets: the same as in `admit`.
            ttl_s: lifetime of the new membership; None: until the former one ends.
            kept: the same as in `remove`.
        Raises:
            InvalidInput: the member is the last admin; or for the same reasons as in `remove`.
            NotAMember: the same errors as `remove`.
            SealspaceError: the same errors as `members`.
        """

    def admitted_by(self, did: str, *, wallet: AnyWallet) -> tuple[TeamMember, ...]:
        """Return the memberships of others that end if a member is removed (TM15).

        The member signed these memberships as an admin, or the memberships above them. One of them
        can be for a second wallet of the same person. Members who keep another membership with the
        same role and secrets are left out.

        Args:
            did: the member.
            wallet: the wallet of the admin who is going to remove the member.
        Raises:
            SealspaceError: the same errors as `remove`.
        """

    def remove(
        self, did: str, *, wallet: AnyWallet, kept: Collection[str] | None = None
    ) -> Removal:
        """Remove a member. Afterwards, the member reads and writes nothing (TM7).

        Members whom a removed admin had admitted would lose their membership too. So their
        memberships are signed anew first, with the given wallet. An interrupted call can be
        repeated. The member still knows the values that were read before, so replace them.

        Args:
            did: the member.
            wallet: the wallet of the admin who removes the member.
            kept: cids of the memberships that are signed anew, of those that `admitted_by` returns.
                The others end. None: all are signed anew, also those of further admins. Use None
                only if the removed member was trusted until now.
        Raises:
            InvalidInput: the member is the last admin, or admitted the admin who removes.
            NotAMember: the DID is not a member, or the wallet is not that of an admin.
            SealspaceError: the same errors as `members` and `Delegations.revoke`.
        """

class TeamMoves:
    """A client that moves a team to another wallet.

    Use `Client.team_moves` to get an instance. See `sealspace.giving.teams.team_moves.TeamMoves`.
    """

    def unreadable(self) -> tuple[tuple[str, str], ...]:
        """Return the secrets that cannot be taken along, with the reasons.

        Every secret of the team is opened once. Values that state no place are for the owner alone,
        and values that a runner made are for runners.

        Raises:
            SealspaceError: the same errors as `Kv.list`, or the node does not answer.
        """

    def prepare(self, seed: bytes, members: Sequence[TeamMember]) -> PreparedTeam:
        """Make the new wallet's space and network, and sign memberships with it.

        A member who already has a membership with the same role and secrets is left out, so the
        call can be repeated.

        Args:
            seed: the private key of the new wallet, 32 random bytes.
            members: memberships of the former team, of those who come along.
        Raises:
            InvalidInput: the seed is not a key.
            SpacesNotHosted: the node does not admit the new wallet as an owner.
            SealspaceError: the same errors as `Client.sign_in` and `Encryption.ensure_network`.
        """

    def name(self, successor: str, *, wallet: AnyWallet) -> Grant:
        """Sign the first statement: that the team moves to another wallet (TM16).

        Nothing changes before another admin signs the second one.

        Args:
            successor: DID of the new wallet.
            wallet: wallet of the admin who signs.
        Raises:
            InvalidInput: the admin's membership ends within a day.
            NotAMember: the wallet is not that of an admin.
            NodeRefused: the membership is younger than 7 days.
            SealspaceError: the same errors as `Teams.members`.
        """

    def is_live(self, statement: MoveStatement) -> bool:
        """Register a first statement again, and return whether it can be countersigned.

        False means that it was revoked: everybody who has the team's key can do that. Call `name`
        to sign another one.

        Args:
            statement: the result of `name`, verified.
        Raises:
            OwnerMoved: the team has moved to another wallet.
            SealspaceError: the node does not answer.
        """

    def examine(self, line: str) -> MoveStatement:
        """Verify the line that another admin sent (TM21).

        Args:
            line: untrusted.
        Returns:
            The first statement of a move of this team, which an admin signed and which has not
            ended.
        Raises:
            SuccessionInvalid: the line is altered, or is for another node or team. Also if its
                statement has ended, or its signer is not an admin of this team.
            SealspaceError: the same errors as `Teams.members`.
        """

    def countersign(self, statement: MoveStatement, *, wallet: AnyWallet) -> Grant:
        """Sign the second statement. From then on the node refuses the former wallet (TM17).

        Call it only after both admins compared the words.

        Args:
            statement: the result of `examine`.
            wallet: the wallet of the second admin.
        Returns:
            The second statement, registered with the node.
        Raises:
            InvalidInput: the admin's membership ends within a day, or the admin has also signed the
                first statement.
            NotAMember: the wallet is not that of an admin.
            NodeRefused: one of the two admins, or a third admin, is above both memberships. Also if
                a membership is younger than 7 days, or the first statement younger than a minute.
            SealspaceError: the same errors as `Teams.members`.
        """

    def succession(self, owner: str) -> ProvenMove | None:
        """Return how an owner moved, verified by this client; None: the owner has not moved.

        Compare the new DID with somebody whom you know before you use it: the client cannot see how
        long the two admins had been admins.

        Args:
            owner: DID of the former wallet.
        Raises:
            SuccessionInvalid: the node cannot prove the move.
            SealspaceError: the node does not answer.
        """

    def take_along(
        self, move: ProvenMove, seed: bytes, *, progress: _Progress = ...
    ) -> MovedValues:
        """Store the secrets of a moved team for the new wallet (TM20).

        The versions of a secret are stored one after the other, the oldest first. A value that a
        member has stored for the new wallet is never replaced. The call can be interrupted at any
        time and repeated.

        Args:
            move: the result of `succession`.
            seed: the private key of the new wallet.
            progress: called after each secret with the number of secrets so far, and of all.
        Raises:
            InvalidInput: the seed is that of another wallet.
            SealspaceError: a request failed; the secrets so far are stored.
        """

class Access:
    """A client that finds out who can read a secret.

    Use `Client.access` to get an instance. See `sealspace.giving.access.Access`.
    """

    def of(self, name: str, *, scope: str | None = None) -> SecretAccess:
        """Return who can read and replace one of the owner's secrets.

        Args:
            name: name of the secret.
            scope: None: a global secret.
        Raises:
            InvalidInput: the name or the scope is not valid.
            NotFound: there is no such secret.
            SealspaceError: the same errors as `Secrets.envelope`.
        Does not check:
            Withdrawals of trust, which only narrow the answer. Lies of the node: it can hide grants
            from its own list.
        """

class KeyRotation:
    """A client that replaces and retires the keys of an owner's encryption networks.

    Use `Client.network_keys` to get an instance. See `sealspace.apps.key_rotation.KeyRotation`.
    """

    def versions(self, network: NetworkId) -> NetworkKeys:
        """Return the versions of a network's key.

        Three claims of the node are compared: its list of versions, the owner's statements about
        the versions from 2 on, and the newest version in the descriptor that the node signed. The
        times and the states in the list are the node's alone. Statements from before the node got
        a new identity name its former identity (RK9).

        Returns:
            The versions as listed, at least one.
        Raises:
            NetworkKeyChanged: the owner's statements do not lead from version 1 to the newest
                version. An invalid statement is reported so too, because the owner has not signed
                the newest key.
            SealspaceError: the same errors as `Encryption.descriptor` and `Encryption.keys`.
        """

    def rotate(self, network: NetworkId, *, wallet: WalletSource = ...) -> NetworkPin:
        """Replace the key of an encryption network.

        The node makes the key, and the owner signs it. The former key opens earlier values until
        it is retired.

        Args:
            network: a network of the owner.
            wallet: returns the owner's wallet, or None if the session's key is the owner's own. It
                signs once.
        Returns:
            The newest key, which the session pins.
        Raises:
            InvalidInput: the wallet is missing, or is not the owner's.
            NotGranted: the session does not have `sealspace.encryption/policy` on the network.
            Unauthorized: the session is not its owner in person.
            PreconditionFailed: another rotation was faster.
            ResponseSignatureInvalid: the node did not sign the candidate for the next key.
            SealspaceError: the same errors as `Encryption.descriptor`.
        """

    def retire(self, network: NetworkId, key_version: int) -> NetworkKeys:
        """Have the node refuse new values that are sealed to a former key.

        Earlier values can still be opened, until the key is destroyed.

        Args:
            network: a network of the owner.
            key_version: version of the key; not the newest.
        Returns:
            The versions of the key.
        Raises:
            NodeRefused: the version is the newest, unknown or retired.
            SealspaceError: the same errors as `rotate`.
        """

    def destroy(
        self, network: NetworkId, key_version: int, *, wallet: WalletSource = ...
    ) -> NetworkKeys:
        """Destroy a former key that is retiring.

        Whatever is still sealed to it can never be opened again. Backups that the operator made
        before still contain the key. The owner signs, as for a new key.

        Args:
            network: a network of the owner.
            key_version: version of the key.
            wallet: returns the owner's wallet, or None if the session's key is the owner's own. It
                signs once.
        Raises:
            InvalidInput: the wallet is missing, or is not the owner's; the network has no such
                version.
            NodeRefused: the version is not retiring.
            SealspaceError: the same errors as `retire`.
        """

    def usage(self, network: NetworkId, key_version: int) -> tuple[NeedingValue, ...]:
        """Return the values at this node that are sealed to a version of a network's key.

        These are current and former values in spaces of the owner, and those that the node cannot
        read. Do not destroy the key before these are restored or deleted. Values at other nodes
        are not found. Copies that others made for the owner are in their spaces; see
        `Sharing.received_folders`.

        Args:
            network: a network of the owner.
            key_version: the version.
        Raises:
            NotGranted: the session does not have `sealspace.encryption/policy` on the network.
            Unauthorized: the session is not its owner in person.
            MalformedAnswer: the list does not advance or has no end.
            SealspaceError: the same errors as `Encryption.keys`.
        """

    def reencrypt(
        self, network: NetworkId, *, spaces: Collection[str] = ..., progress: LookedAt | None = None
    ) -> Reencrypted:
        """Seal the owner's values to the newest key of a network (EN39).

        Each value is opened and sealed on this machine with a new content key, and replaces only
        the value that was read. So the call can be interrupted at any time and repeated, and never
        overwrites another writer's value. It looks at the secrets, the notes and the contacts.
        Copies for other people are sealed to their keys, and stay as they are. Former versions of
        the values stay sealed to the former key.

        A value that does not state its place may have been copied there from another path. It is
        sealed again only if the node has recorded no other path with its content key.

        Args:
            network: a network of the owner.
            spaces: names of further spaces of the owner in which envelopes are stored.
            progress: called after each value.
        Returns:
            Numbers of values, and those that stay as they are.
        Raises:
            SealspaceError: the same errors as `Encryption.descriptor`, `Kv.list`, `Kv.get_many` and
                `Kv.put`; the values so far are sealed to the newest key.
        """

class Contacts:
    """A client for the names that an owner gives to DIDs.

    Use `Client.contacts` to get an instance. See `sealspace.apps.contacts.Contacts`.
    """

    def start_from(self, known: StoredContacts) -> None:
        """Use a list that this program read before.

        Reading then takes one request if the list has not changed, and an older list is refused.
        """

    @property
    def known(self) -> StoredContacts:
        """The list that this object read or stored last, or was started from."""

    def read(self) -> StoredContacts:
        """Read the list of contacts, and verify the signature (SH9).

        Raises:
            ContactsInvalid: the document is not a list that the owner signed, or is older than the
                one that this object has read before.
            NotGranted, Unauthorized: the session may not read the document.
            DecryptDenied: the node does not release the key.
            SealspaceError: the same errors as `Kv.get` and `Encryption.decrypt`.
        """

    def list(self) -> tuple[Contact, ...]:
        """Return the contacts, ordered by name.

        Raises:
            SealspaceError: the same errors as `read`.
        """

    def did(self, name: str) -> Principal:
        """Return the DID of a name.

        Raises:
            NoSuchContact: there is no contact of this name.
            SealspaceError: the same errors as `read`.
        """

    def name(self, did: str) -> str | None:
        """Return the name of a DID, or None.

        Raises:
            SealspaceError: the same errors as `read`.
        """

    def add(self, name: str, did: str) -> Contact:
        """Give a name to a DID.

        Args:
            name: 1 to 32 lower-case letters, digits, `-` and `_`, beginning with a letter. Words
                that commands take in the place of a DID, and names that look like a DID, are
                refused.
            did: DID of a wallet or a key.
        Raises:
            InvalidInput: the name or the DID is not valid or already in the list, or the list is
                full.
            NotGranted: the session is not a sign-in of the owner.
            PreconditionFailed: other programs changed the list with each try.
            SealspaceError: the same errors as `read`, `Encryption.encrypt` and `Kv.put`.
        """

    def rename(self, name: str, new_name: str) -> Contact:
        """Give another name to a contact.

        Raises:
            NoSuchContact: there is no contact of this name.
            SealspaceError: the same errors as `add`.
        """

    def replace(self, name: str, former: str, did: str) -> Contact:
        """Give the name of a contact to another DID.

        Args:
            name: name of the contact.
            former: the DID that the contact has.
            did: the new DID.
        Raises:
            NoSuchContact: there is no contact of this name.
            InvalidInput: the contact has another DID than `former`, or for the same reasons as in
                `add`.
            SealspaceError: the same errors as `add`.
        """

    def remove(self, name: str) -> None:
        """Remove a contact. Grants and shares stay as they are.

        Raises:
            NoSuchContact: there is no contact of this name.
            SealspaceError: the same errors as `add`.
        """

class Sql:
    """A client that uses a database of a space.

    Use `Client.sql` to get an instance. See `sealspace.sql.Sql`.
    """

    def query(self, sql: str, params: Sequence[SqlValue] = ..., *, read_only: bool = False) -> Rows:
        """Run one statement, and return its rows.

        A database that does not exist is empty. Reading does not create it.

        Args:
            sql: the statement, with `?` for each value.
            params: the values of its parameters.
            read_only: whether to send only the right to read, so that the node refuses a statement
                that changes the database.
        Raises:
            SqlRefused: the statement is not valid, not allowed in any database, failed, took too
                long, or has a result of more than 10 MiB; or the request has more than 1 MB, in
                which a byte of a blob counts for up to five.
            InvalidInput: a value is not of a type that a database stores.
            NotGranted, Unauthorized: the session may not run this statement.
            SpaceNotFound: the node does not host the space.
        """

    def execute(self, sql: str, params: Sequence[SqlValue] = ...) -> Changes:
        """Run one statement that has no rows, such as INSERT or CREATE TABLE.

        The change is durable when the call returns. The first change creates the database.

        Args:
            sql: the statement, with `?` for each value.
            params: the values of its parameters.
        Raises:
            QuotaExceeded: the space has no room for the change.
            SealspaceError: the same errors as `query`.
        """

    def batch(self, statements: Sequence[Statement]) -> tuple[Changes, ...]:
        """Run several statements without rows in one transaction.

        The changes are durable when the call returns. If one statement fails, none takes effect.

        Returns:
            The changes of each statement, in the order of the statements.
        Raises:
            QuotaExceeded: the space has no room for the changes.
            SealspaceError: the same errors as `query`.
        """

    def execute_statement(self, name: str, params: Sequence[SqlValue] = ...) -> Rows:
        """Run a statement that a grant names.

        The conditions of a grant can list statements (spec/sql.md); others are then refused.

        Args:
            name: name of the statement in the grant.
            params: the values of the parameters that the grant does not set.
        Raises:
            NotGranted: the session has no grant for this database.
            SealspaceError: the same errors as `query`.
        """

    def export(
        self, to: str | Path | BinaryIO, *, progress: Progress | None = None, max_bytes: int = ...
    ) -> int:
        """Write a copy of the database to a file, which SQLite can open.

        Args:
            to: a path, or an open binary file. The file at the path is replaced atomically at the
                end, by one of mode 0600.
            progress: called with the bytes so far and the total.
            max_bytes: largest accepted copy.
        Returns:
            The size of the copy in bytes.
        Raises:
            NotFound: the database does not exist.
            TransferBroken: the copy was cut off; the file at the path is unchanged.
            OSError: the file cannot be written.
            InvalidInput: the path is not a regular file.
            SealspaceError: the same errors as `query`.
        """

class Spaces:
    """A client that lists and creates an owner's spaces.

    Use `Client.spaces` to get an instance. See `sealspace.spaces.Spaces`.
    """

    @property
    def rights(self) -> tuple[Capability, ...]:
        """The capabilities that the methods of this class require.

        See `Delegations.add_right`.
        """

    def list(self) -> tuple[SpaceEntry, ...]:
        """Return the owner's spaces, ordered by id.

        Raises:
            NotGranted, Unauthorized: the session may not list them.
            SpaceNotFound: the node does not host the space that the request names.
        """

    def create(self, name: str) -> SpaceEntry:
        """Create a space for the owner.

        Args:
            name: letters, digits, `-` and `_`; a node may accept more.
        Raises:
            InvalidInput: the name is not valid.
            DuplicateRequest: the space already exists.
            NotGranted, Unauthorized: the session may not create it, or the node does not host it.
        """

    def info(self, name: str) -> SpaceEntry:
        """Return information about one of the owner's spaces.

        Args:
            name: short name or id.
        Raises:
            SpaceNotFound: the node does not host it, or it belongs to another owner.
            NotGranted, Unauthorized: the session may not ask about it.
        """

class Encryption:
    """A client that encrypts and decrypts data.

    Use `Client.encryption` to get an instance. See `sealspace.encryption.Encryption`.
    """

    def network(self, name: str = ..., *, owner: str | None = None) -> NetworkId:
        """Return the id of an encryption network.

        Args:
            name: name of the network.
            owner: DID of its owner; None: the owner for whom this session acts.
        Raises:
            InvalidNetworkId: the owner is not a DID, or the name is not valid.
            NotSignedIn: no owner is given, and no session is signed in.
        """

    def descriptor(self, network: NetworkId) -> Descriptor:
        """Return the descriptor of an encryption network.

        The descriptor contains the network's public key. It is cached for five minutes, or until a
        request for the network is refused. The key is pinned in `Client.session`: a different key
        is rejected later, unless the network's owner signed that it replaces the pinned one (EN30).
        A client with `require_node_evidence` verifies the node's evidence first.

        Returns:
            The descriptor of the requested network, signed by this client's node for a fresh nonce,
            unless the client accepts unsigned ones.
        Raises:
            NetworkNotFound: the network does not exist on this node.
            NetworkKeyChanged: the session pinned another key, which the owner did not replace; see
                `accept`.
            DescriptorUnsigned, ResponseSignatureInvalid: the node's signature is missing or not
                valid.
            NodeMismatch: the descriptor names another node.
            NodeEvidenceRefused, MalformedAnswer, TransportError: a request or its check failed.
        """

    def require_later_key(
        self, network: NetworkId, pinned: NetworkPin, offered: NetworkPin
    ) -> None:
        """Check that a network's owner replaced a known key by another one (EN30).

        Each version between them needs a statement that the owner's wallet or own key signed.

        Args:
            network: the network.
            pinned: the known key.
            offered: the key that the node sent now.
        Raises:
            NetworkKeyChanged: the owner's statements do not lead from the one to the other.
            MalformedAnswer, NodeRefused, TransportError: the statements cannot be fetched.
        """

    def keys(self, network: NetworkId) -> NetworkKeys:
        """Return the versions of a network's key, and the owner's statements about them.

        The answer is not signed by the node. The statements are signed by the network's owner;
        `require_later_key` verifies them.

        Raises:
            NetworkNotFound: the network does not exist on this node.
            MalformedAnswer: the answer is not a list of keys of this network.
            NodeRefused, TransportError: the request failed.
        """

    def forget(self, network: NetworkId) -> None:
        """Fetch the network's descriptor again when it is needed next.

        The pinned key stays pinned.
        """

    def accept(self, pin: NetworkPin) -> None:
        """Trust a given public key of an encryption network.

        The session pins the key, which replaces any key pinned earlier.

        Args:
            pin: `NetworkKeyChanged.offered`, once it is clear why the key changed; or a key that
                was learnt in another way.
        Raises:
            NotSignedIn: no session is signed in.
        """

    def ensure_network(self, name: str = ...) -> Descriptor:
        """Create an encryption network unless it exists.

        Returns the descriptor of the owner's network with this name.

        Raises:
            NotGranted: the session may not create networks.
            NetworkNotActive: the network was revoked; its name cannot be used again.
            SealspaceError: the same errors as `descriptor`, which fetches the result after the
                network was created.
        """

    def revoke_network(self, network: NetworkId) -> None:
        """Revoke an encryption network permanently.

        The node no longer opens data sealed to it.

        Raises:
            NotGranted: the session does not have `tinycloud.encryption/network.revoke` on it.
            NetworkNotFound: the network does not exist on this node.
        """

    def policy(self, network: NetworkId) -> Policy | None:
        """Return an encryption network's attestation policy, or None.

        Raises:
            NotGranted: the session does not have `sealspace.encryption/policy` on the network.
            MalformedAnswer: the answer is not a policy.
            NetworkNotFound, Unauthorized, NodeRefused, TransportError: the request failed.
        """

    def set_policy(self, network: NetworkId, policy: Policy | None) -> None:
        """Replace an encryption network's attestation policy.

        The new policy applies immediately. Only the owner in person may do this: with a grant that
        the wallet signed to this session (`Delegations.add_right`), or with the key that owns the
        network.

        Args:
            network: a network of the owner.
            policy: None removes the policy.
        Raises:
            NotGranted: the session does not have `sealspace.encryption/policy` on the network.
            Unauthorized: the session is not its owner in person.
            NetworkNotFound, NodeRefused, TransportError: the request failed.
        """

    def encrypt(
        self,
        plaintext: bytes,
        *,
        network: NetworkId,
        label: bytes | None = None,
        metadata: Mapping[str, str] | None = None,
        key: bytes | None = None,
        key_version: int = ...,
    ) -> InlineEnvelope:
        """Encrypt data with an encryption network's public key.

        The data is encrypted in this process, and no rights are needed.

        Args:
            plaintext: the data.
            network: the network whose holders of decrypt can open it.
            label: stored unencrypted and unauthenticated; `decrypt` can compare it.
            metadata: stored unencrypted and unauthenticated.
            key: public key of the network, which the owner has verified; None: the node is asked.
            key_version: version of `key`.
        Raises:
            NetworkNotActive: the network was revoked.
            InvalidResponse: the network's public key is not usable (low order).
            SealspaceError: the same errors as `descriptor`.
        """

    def decrypt(
        self,
        envelope: InlineEnvelope | bytes,
        *,
        expected_label: bytes | None = None,
        receiver: ReceiverKey | None = None,
    ) -> bytes:
        """Decrypt an envelope with the help of the node.

        The node rewraps the content key. The data is decrypted in this process.

        Args:
            envelope: an envelope or its JSON text.
            expected_label: label that the envelope must have; None: any.
            receiver: key pair for which the node wraps the content key; None: a fresh one. A
                backend passes the pair that it attested.
        Returns:
            The plaintext. Every member of the node's answer was checked before anything was opened.
        Raises:
            InvalidEnvelope: the envelope cannot be read.
            LabelMismatch: the envelope has another label.
            NotGranted: the session does not have decrypt on the network.
            DecryptDenied: the node does not release the key.
            NetworkNotActive: the network was revoked.
            ResponseBindingMismatch, ResponseSignatureInvalid, InvalidResponse: the answer cannot be
                trusted.
            SealspaceError: the same errors as `descriptor`.
        """

    def paths_of(self, envelope: InlineEnvelope | bytes) -> tuple[str | None, ...]:
        """Return the paths that have stored an envelope's content key.

        Only the owner in person learns them. The first path owns the key. If there is a second
        one, the node releases the key to nobody else until the value is encrypted again.

        Args:
            envelope: an envelope or its JSON text.
        Returns:
            At most two resources, such as `tinycloud:pkh:eip155:1:0x…:secrets/kv/vault/…`, the
            first path first. None stands for a path of more than 400 bytes whose value was deleted.
        Raises:
            InvalidEnvelope: the envelope cannot be read.
            NotGranted: the session does not have decrypt on the network.
            Unauthorized: the session is not its owner in person.
            MalformedAnswer: the answer cannot be read.
            NetworkNotFound, NodeRefused, TransportError: the request failed.
        """

class Delegations:
    """A client that manages delegations.

    Use `Client.delegations` to get an instance. See `sealspace.delegations.Delegations`.
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
        machine: MachineGrant | OidcTrust | None = None,
        unbound: bool = False,
        app: AppNames | None = None,
        wallet: AnyWallet | None = None,
        membership: Grant | None = None,
        domain: str = "localhost",
    ) -> PortableDelegation:
        """Grant capabilities to a DID, and register the grant with the node.

        Use one grant for each owner: the owner of any space in a grant can revoke all of it (W22).

        Args:
            did: the recipient. A fragment is dropped: a wallet's message to a key's own DID URL is
                a sign-in, and would make the recipient the owner in person (IP2).
            capabilities: one right or more; see `allow`. The right to read capabilities makes a
                session, so it is left out too, unless the recipient is this session's own key.
            ttl_s: lifetime in seconds; None: seven days, or less if the cited grants end earlier.
            at_most: accept a shorter lifetime if the cited grants end before `ttl_s`.
            policy: code that may receive keys under this grant; None: no restriction by this grant.
            run: programs and callers for which a runner may use the grant; None: not a run grant.
            machine: statement of a machine token or a trust; see `create_token`, `trust_issuer`.
            unbound: also allow values without a place; needs the owner's signature (EN47).
            app: the owner's names for the approved code, without effect (CN19).
            wallet: sign with the owner's wallet instead of the session's key.
            membership: for a team: the membership of the admin who signs (TM6); None: the owner.
            domain: the requesting authority, which the wallet shows to the person who signs.
        Returns:
            The portable form, for the recipient.
        Raises:
            InvalidInput: not a DID, a lifetime that is not positive, or nothing is left to grant.
            NotGranted, SessionExpired: the session does not have the rights that it would grant.
            LifetimeTooLong: a cited grant ends before `ttl_s`; see `at_most`.
            NodeRefused, TransportError: the node did not register the grant.
        """

    def delegate_to_target(
        self,
        target: DelegationTarget,
        *,
        policy: Policy | None = None,
        unbound: bool = False,
        wallet: AnyWallet | None = None,
        leave_out: bool = False,
        domain: str = "localhost",
    ) -> tuple[PortableDelegation, ...]:
        """Grant a DID the rights requested in a manifest (MF12).

        There is one delegation for each owner of resources. Each grant has the shortest lifetime
        that the manifest requests, or ends with the session's grants. Nothing is signed unless
        everything can be granted. `portable.encode_bundle` makes one text of the result.

        Args:
            target: a target of a composed request (`request.delegation_targets`).
            policy: code that may receive keys under these grants; None: no restriction.
            unbound: the same as in `delegate`.
            wallet: sign with the owner's wallet instead of the session's key, once for each
                delegation.
            leave_out: leave out services that the node does not serve, instead of raising.
            domain: the requesting authority, which the wallet shows to the person who signs.
        Returns:
            The portable forms, one for each owner.
        Raises:
            InvalidInput: the manifest requests a service that the node does not serve, or nothing
                is left to grant.
            NotGranted: the session lacks rights; `missing` has each of them.
            SessionExpired, NodeRefused, TransportError: the same errors as `delegate`.
        """

    def create_token(
        self,
        name: str,
        secrets: Sequence[str],
        *,
        scope: str | None = None,
        ttl_s: float = ...,
        unbound: bool = False,
        wallet: AnyWallet | None = None,
        membership: Grant | None = None,
        domain: str = "localhost",
    ) -> str:
        """Create a machine token, with which a program reads secrets without the owner's key.

        The token ends at its own time: it does not depend on this session. To revoke it, pass the
        cid of its delegation to `revoke`.

        Args:
            name: its name in lists: letters, digits, dots, dashes and underscores, at most 64.
            secrets: names of the owner's secrets, at most 64.
            scope: the scope of all of them; None: global secrets.
            ttl_s: lifetime in seconds, from one minute to 366 days.
            unbound: let the program use secrets that state no place (EN46).
            wallet: as in `delegate`, like `membership`; None only if the key is the owner's own.
            domain: the requesting authority, which the wallet shows to the person who signs.
        Returns:
            The line for SEALSPACE_TOKEN. Protect it like a password.
        Raises:
            InvalidInput: an argument is not valid, or the owner's wallet is missing.
            NotGranted: the wallet is not the owner's.
            NodeRefused, TransportError: the node did not register the token.
        """

    def trust_issuer(
        self,
        name: str,
        secrets: Sequence[str],
        *,
        issuer: str,
        claims: dict[str, list[str | int | bool]],
        jwks: str | None = None,
        issuer_ca: str | None = None,
        scope: str | None = None,
        ttl_s: float = ...,
        unbound: bool = False,
        wallet: AnyWallet | None = None,
        membership: Grant | None = None,
        domain: str = "localhost",
    ) -> str:
        """Let the node make machine tokens for CI jobs that present an ID token of an issuer.

        The trust ends at its own time, like a machine token. To revoke it and all tokens that the
        node made under it, pass its cid to `revoke`. The other arguments are as in `create_token`.

        Args:
            issuer: address of the issuer, exactly as in its tokens.
            claims: 1 to 8 claims, each with the values that it may have.
            jwks: the issuer's keys, as a JSON Web Key Set; None: the node fetches them.
            issuer_ca: certificates in PEM for the issuer's address; None: those of the node.
        Returns:
            The cid of the trust, for SEALSPACE_TRUST. Errors are those of `create_token`.
        """

    def accept(
        self,
        portable: PortableDelegation,
        *,
        wallet: AnyWallet | None = None,
        ttl_s: float = ...,
        domain: str = "localhost",
    ) -> None:
        """Register a received delegation, and use it in this session.

        A delegation to this session's key is used as it is. For a delegation to the wallet, the
        wallet first signs a second one to the session's key.

        Args:
            portable: the delegation, untrusted.
            wallet: the wallet of this session's owner, if the delegation may be for it.
            ttl_s: lifetime of the wallet's delegation to the session's key, seconds; at most that
                of the delegation.
            domain: the requesting authority, which the wallet shows to the person who signs.
        Raises:
            InvalidPortableDelegation: the delegation is for another DID, or has expired.
            NodeRefused, TransportError: the node did not register it.
        """

    def take_up_bundle(
        self,
        portables: Sequence[PortableDelegation],
        *,
        wallet: AnyWallet | None = None,
        domain: str = "localhost",
    ) -> None:
        """Register several received delegations, and use them in this session.

        `portable.decode_bundle` decodes a bundle of delegations. All of them are checked before
        the first is used. The wallet signs once for each delegation to the wallet.

        Raises:
            InvalidPortableDelegation: a delegation is for another DID, has expired, or differs from
                its token.
            NodeRefused, TransportError: the node did not register one; those before it are in use.
        """

    def read(self, portable: PortableDelegation) -> Grant:
        """Check a portable delegation, and return the grant in it.

        The fields of the delegation must match its token.

        Raises:
            InvalidPortableDelegation: the token cannot be read, differs from the members beside it,
                or has expired.
        """

    def add_right(
        self,
        wallet: AnyWallet | None,
        capabilities: Sequence[Capability],
        *,
        ttl_s: float = ...,
        domain: str = "localhost",
    ) -> None:
        """Add rights to this session.

        The owner's wallet signs one message.

        Args:
            wallet: the wallet of this session's owner; None: nothing is added, because the
                session's key is the owner's and has every right.
            capabilities: the rights.
            ttl_s: lifetime in seconds.
            domain: the requesting authority, which the wallet shows to the person who signs.
        Raises:
            InvalidInput: the wallet is not the owner's.
            NodeRefused, TransportError: the node did not register the grant.
        """

    def revoke(self, *delegations: PortableDelegation | str) -> None:
        """Revoke delegations with the session's key (V2, V5).

        The revocation is permanent and immediate. A key revokes what it issued on its own
        authority. Otherwise the session acts for the owner, with the right to revoke in its
        sign-in. Up to 32 delegations are revoked together or not at all; more are revoked in groups
        of 32.

        Args:
            delegations: portable forms or cids; `delegation_history.delegations_to_revoke` finds
                the ones that belong together.
        Raises:
            Unauthorized: this session may not revoke one of them.
            NodeRefused, TransportError: a request failed.
        """

    def revoke_by_wallet(
        self, delegation: PortableDelegation | str, wallet: AnyWallet, *, domain: str = "localhost"
    ) -> None:
        """Revoke a delegation with the owner's wallet (V3).

        The revocation is permanent and immediate.

        Raises:
            Unauthorized: the wallet did not issue it, and is neither its recipient nor the owner of
                a space in it.
            NodeRefused, TransportError: the request failed.
        """

    def status(self, delegation: PortableDelegation | str) -> DelegationStatus:
        """Return the status of a delegation.

        The node answers the signer, the recipient, and the owner of a space in it. This session
        asks on behalf of its owner if it has that right, and then on its own authority.

        Args:
            delegation: the portable form, or a cid.
        Returns:
            The status; `not_found` also if neither principal may ask about it.
        Raises:
            NodeRefused, TransportError: a request failed.
        """

    def query(
        self,
        *,
        direction: Direction | None = None,
        status: Status | None = None,
        space: str | None = None,
        account: str | None = None,
        tokens: bool = False,
        derived: bool = False,
        after: str | None = None,
        page_items: int = 50,
    ) -> Iterator[DelegationRecord]:
        """Yield the delegations issued by or to an account.

        They are fetched one page at a time. The latest come first. Delegations signed by a key
        state no time of issue: they come last, in the order of their cids.

        Args:
            direction: only granted ones, or only received ones.
            status: only delegations with this status. `revoked` also finds those with a revoked
                ancestor.
            space: only delegations that name a space of this name or id.
            account: a space of the account, by name or id; None: the session's primary space.
            tokens: also return the token of each delegation.
            derived: also list what recipients passed on without the right to list delegations.
            after: cid of an earlier record, to continue after it.
            page_items: size of a page, 1 to 100.
        Raises:
            InvalidInput: the page size or the space is not valid.
            NotGranted, Unauthorized: the session may not list this account's delegations.
            MalformedAnswer: a page is too long, or the list does not advance or has no end.
            NodeRefused, TransportError: a request failed.
        """

class Attestation:
    """A client that submits attestation evidence.

    Use `Client.attestation` to get an instance. See `sealspace.apps.attestation.Attestation`.
    """

    def challenge(self) -> Challenge:
        """Request a nonce for an attestation.

        The nonce is for this session's DID. The node stores nothing for it.

        Raises:
            RateLimited: too many requests.
            MalformedAnswer, NodeRefused, TransportError: the request failed.
        """

    def open_session(
        self, network: NetworkId, challenge: Challenge, attested: Attested
    ) -> AttestationSession:
        """Submit attestation evidence for this session's DID.

        Args:
            network: a network on which the session has decrypt, which shows a need for evidence
                here.
            challenge: a fresh challenge; any answer uses it up.
            attested: quote and receiver key.
        Raises:
            NotGranted: the session does not have decrypt on the network.
            AttestationRefused: the node rejected the quote, or the challenge has expired; `problem`
                names the reason.
            NodeFailure: the node lacks collateral or is busy; try again after `retry_after_s` with
                a new challenge.
        Does not check:
            Whether an owner approves this code: the node decides that at each release.
        """

class Backends:
    """A client that grants secrets to backends.

    Use `Client.backends` to get an instance. See `sealspace.apps.backends.Backends`.
    """

    def look(self, url: str, verifier: EvidenceVerifier) -> Seen:
        """Fetch and verify a backend's attestation evidence."""

    def resources(self, seen: Seen, secrets: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the resource URIs of the given secrets.

        Args:
            seen: the result of `look`.
            secrets: labels, `NAME` or `scope/NAME`; None: all that the backend requests.
        Raises:
            InvalidInput: the backend requests no secret, or not one of these.
        """

    def require_judgeable(self, seen: Seen) -> None:
        """Check that the node can verify a backend's evidence.

        Otherwise a grant to the backend has no effect.

        Raises:
            BackendNotAcceptable: the node trusts another root, rejects the key provider, or lacks
                collateral.
            NodeRefused, TransportError: the request failed.
        Does not check:
            Nodes that do not publish their terms, such as other implementations of the protocol.
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
        unbound: bool = False,
        app: AppNames | None = None,
        wallet: AnyWallet | None = None,
        membership: Grant | None = None,
    ) -> PortableDelegation:
        """Grant secrets to a backend.

        The grant applies only to the code in the backend's evidence.

        Args:
            seen: the result of `look`, at most LOOK_TTL_S ago.
            secrets: labels, `NAME` or `scope/NAME`; None: all that the backend requests.
            ttl_s: lifetime in seconds; None: seven days, or less if the session's grants end
                earlier.
            at_most: accept a shorter lifetime if the session's grants end earlier.
            accept: terms to relax; see `policy_for`.
            pin: see `policy_for`.
            unbound: let the backend use secrets that state no place (EN47).
            app: the owner's names for the code; they have no effect (CN19).
            wallet: sign with the owner's wallet. A grant by the session's key ends with the
                session.
            membership: for a team, the membership of the admin whose wallet signs (TM6); None: the
                owner.
        Returns:
            The grant, registered with the node. It allows this DID with this code to read these
                secrets, and to decrypt with the owner's network.
        Raises:
            BackendNotAcceptable: the node would reject the backend or cannot verify it, or the
                evidence is too old (`age`).
            InvalidInput, NotGranted, SessionExpired, NodeRefused, TransportError: the same errors
                as `Delegations.delegate`.
        """

class Programs:
    """A client that publishes a developer's programs.

    Use `Client.programs` to get an instance. See `sealspace.apps.programs.Programs`.
    """

    @property
    def space(self) -> str:
        """The id of the space that contains the developer's projects.

        This is the full id, which grants to runners use.
        """

    def require_right_to_publish(self, name: str) -> None:
        """Check that the session may store a project.

        No request is sent.

        Raises:
            InvalidInput: the name is not valid.
            NotGranted: no grant of the session allows it.
            SessionExpired: the grant that allowed it has ended.
        """

    def publish(
        self,
        name: str,
        wasm: bytes,
        *,
        target: Target,
        signer: StatementSigner,
        source: str | None = None,
        provenance: Provenance | None = None,
        manifest: ProgramManifest | None = None,
        activate: bool = True,
    ) -> Version:
        """Publish a version of a program.

        It becomes the active version, unless `activate` is False.

        Args:
            name: name of the project.
            wasm: the program, at most MAX_PROGRAM_BYTES.
            target: kind of WebAssembly module.
            signer: the developer's key or wallet; signs the version, and the change of the active
                one.
            source: location of the source code, for readers; at most 512 characters.
            provenance: origin of the program and the bundle that proves it; the caller has verified
                them with `sealspace.apps.provenance`.
            manifest: secrets and hosts that the program needs.
            activate: False keeps the active version as it is.
        Returns:
            The published version. Publishing the same bytes again replaces the statement.
                If they are the active version, runners refuse it until it is activated again
                (RN177).
        Raises:
            InvalidInput: the name, the size, the source or the manifest is not valid, or the signer
                is not the owner of the space.
            PreconditionFailed: another version became active at the same time.
            NodeRefused, TransportError: a request failed.
        Does not check:
            Whether a runner can run the program: `runner` does.
        """

    def activate(self, name: str, sha256: str, *, signer: StatementSigner) -> Active:
        """Make one of a program's published versions active.

        Raises:
            NotFound: there is no such version.
            PreconditionFailed: another version became active at the same time.
            StatementInvalid: a stored statement is not the developer's.
            InvalidInput, NodeRefused, TransportError: a request failed.
        """

    def remove(self, name: str, sha256: str | None = None, *, signer: StatementSigner) -> int:
        """Remove a project, or one version of it that is not active.

        A signed statement that nothing is active remains of a project. Runners accept no older
        statement, and a version that is published later under the same name is accepted (RN54).

        Args:
            name: name of the project.
            sha256: SHA-256 of the version; None: the whole project.
            signer: the developer's key or wallet.
        Returns:
            The number of values that were removed; 0: there is no such project.
        Raises:
            InvalidInput: the version is active.
            NotFound: there is no such version.
            PreconditionFailed, StatementInvalid, NodeRefused, TransportError: the same errors as
                `activate`.
        """

    def names(self) -> Iterator[str]:
        """Yield the names of all projects in ascending order."""

    def versions(self, name: str) -> tuple[Version, ...]:
        """Return the versions of a project, the latest first.

        Raises:
            StatementInvalid: a stored statement is not the developer's.
            NodeRefused, TransportError: a request failed.
        """

    def version(self, name: str, sha256: str) -> Version:
        """Return the signed metadata of a program version.

        Raises:
            NotFound: there is no such version.
            StatementInvalid: the stored statement is not the developer's.
            InvalidInput, NodeRefused, TransportError: a request failed.
        """

    def active(self, name: str) -> Active | None:
        """Return the active version of a project, or None.

        Raises:
            StatementInvalid: the stored statement is not the developer's.
            InvalidInput, NodeRefused, TransportError: a request failed.
        """

class Runners:
    """A client that grants secrets to runners.

    Use `Client.runners` to get an instance. See `sealspace.apps.runners.Runners`.
    """

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
        job: str | None = None,
    ) -> PortableDelegation:
        """Grant secrets to a runner for named programs and callers.

        Args:
            seen: the result of `Backends.look`, at most LOOK_TTL_S ago.
            secrets: labels, `NAME` or `scope/NAME`, at most 32; a further secret needs a new grant.
                Generated secrets, `PROTECTED_…`, belong to another network, so they need a grant of
                their own.
            run: programs, callers, hosts and limits; the runner enforces them, the node does not.
            ttl_s: lifetime in seconds.
            accept: terms to relax; see `policy_for`.
            pin: see `policy_for`.
            wallet: the owner's wallet; None: the session's key is the owner.
            job: key for which to make a job grant (RN245), with the runner as `run.refresh_for`.
        Returns:
            The grant, registered with the node; `backends.deliver` sends it to the runner.
        Raises:
            InvalidInput: a name or their number is not valid, hosts are given for a program without
                a project, or a pattern on callers is over its limit. Also if the signer is not the
                owner itself: runners accept no grant with a parent delegation (RN41).
            BackendNotAcceptable, NodeRefused, TransportError: the same errors as `Backends.grant`.
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
        """Ask a runner to generate secrets that only programs can read.

        The owner's network `protected` is created if it is missing, with a policy that keeps people
        from opening its secrets. The runner gets a grant for ten minutes to write exactly these
        secrets, and does not replace existing ones.

        Args:
            seen: the result of `Backends.look`, at most LOOK_TTL_S ago.
            wanted: name to type, 1 to 16; see `run_grants.checked_generation_type`.
            scope: None for global secrets.
            accept: terms to relax; see `policy_for`.
            pin: see `policy_for`.
            wallet: the owner's wallet; None: the session's key is the owner.
        Returns:
            The runner's answer. After a failure, some secrets may have been made.
        Raises:
            InvalidInput: a name, a type or their number is not valid; the signer is not the owner
                itself; or people may open secrets of the network `protected`.
            BackendNotAcceptable: the node would reject the runner, or its evidence is too old.
            GrantNotTaken: the runner did not accept the right to store the secrets.
            BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
            NodeRefused, TransportError: a request failed.
        Does not check:
            Which code answered: `runner.calls.generated_secrets.verify_generated` does,
                by the statement.
        """

    def share_project(
        self,
        seen: Seen,
        name: str,
        *,
        folder: str = "projects",
        ttl_s: float = ...,
        wallet: AnyWallet | None = None,
    ) -> PortableDelegation:
        """Let a runner read one of the owner's private projects (RN152), or keep its storage.

        Args:
            seen: the result of `Backends.look`, at most LOOK_TTL_S ago.
            name: name of the project, in the space `projects`.
            folder: `projects` to read the program, `storage` to keep what it stores (RN201).
            ttl_s: lifetime in seconds.
            wallet: the owner's wallet; None: the session's key is the owner.
        Returns:
            The grant, registered with the node; `backends.deliver` sends it to the runner.
        Raises:
            InvalidInput, BackendNotAcceptable, NodeRefused, TransportError: see `grant`.
        Does not check:
            Which code reads the project: for values, the node checks only the DID.
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
        """Create an API key for calls to programs.

        The owner pays for the calls.

        Args:
            url: address of the runner, the only one where the key is valid.
            projects: projects that the key may call, 1 to 64; None: any.
            profiles: names of the profiles whose secrets a call may use; none by default.
            max_per_call: most that one call may cost, micro-units.
            ttl_s: lifetime in seconds, at most 90 days.
            wallet: the owner's wallet; None: the session's key is the owner.
        Returns:
            The key, which cannot be shown again.
        Raises:
            InvalidInput: an argument is not valid, or the signer is not the owner.
            CallRefused: the runner refused the key.
            BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
        """

    def keys(self, url: str) -> JsonObject:
        """Fetch the owner's API keys and balance from a runner.

        Raises:
            NotGranted, SessionExpired: the session has no sign-in for calls; see `call_right`.
            CallRefused: the runner refused the request; the message has its text.
            BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
        """

    def revoke_key(self, url: str, nonce: int) -> None:
        """Revoke one of the owner's API keys on a runner.

        The effect is immediate.

        Raises:
            CallRefused: the runner refused the request, or has no such key.
            NotGranted, SessionExpired: the session has no sign-in for calls; see `call_right`.
            BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
        """

    def make_task(self, url: str, app: str, body: bytes) -> JsonObject:
        """Make a task, and return its first state.

        Args:
            url: address of the runner.
            app: the application, as in the body.
            body: JSON with the members that TK1 lists.
        Raises:
            CallRefused: the runner refused the task; the message has its text.
            NotGranted, SessionExpired: the session has no sign-in for calls; see `call_right`.
            BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
        """

    def task(self, url: str, job: str) -> JsonObject:
        """Fetch the state of a task of the session's owner.

        Raises the same errors as `make_task`.
        """

    def task_result(self, url: str, job: str) -> bytes:
        """Fetch the encrypted result of a task.

        Raises the same errors as `make_task`.
        """

class Receipts:
    """A client that fetches the receipts of key releases.

    Use `Client.receipts` to get an instance. See `sealspace.receipts.Receipts`.
    """

    def page(self, network: NetworkId | None = None, *, after: str | None = None) -> ReceiptPage:
        """Return a page of verified receipts.

        A page has at most 100 receipts.

        Args:
            network: None: the default network of the owner for whom this session acts.
            after: `after` of the page before; None: the first page.
        Raises:
            NotGranted: the session does not have `sealspace.encryption/receipts` on the network.
            ReceiptInvalid: a signature is not valid, or a receipt belongs to another node or
                network.
            MalformedAnswer: the answer is not a page, is too long, or is not in order of time.
            Unauthorized, NotFound, NodeRefused, TransportError: the request failed.
        """

    def all(self, network: NetworkId | None = None) -> Iterator[Receipt]:
        """Yield all receipts of an encryption network.

        The oldest receipt comes first. The receipts are verified, and are fetched page by page.

        Raises:
            MalformedAnswer: the list does not advance or has no end.
            SealspaceError: the same errors as `page`.
        """

    def releases(
        self, network: NetworkId | None = None, *, since: float = 0.0
    ) -> Iterator[KeyRelease]:
        """Yield all receipts of an encryption network, with the digests of the released keys.

        The oldest receipt comes first. The receipts are verified, and are fetched page by page.

        Args:
            network: the same as for `page`.
            since: epoch seconds; earlier receipts are left out.
        Raises:
            MalformedAnswer: the list does not advance or has no end.
            SealspaceError: the same errors as `page`.
        """

    def fetches(
        self, network: NetworkId | None = None, *, since: float = 0.0
    ) -> Iterator[CopyFetch]:
        """Yield the fetches of the copies that the network's owner shares with others.

        The oldest hour comes first; within an hour there is no order. The network `default` has the
        fetches of all copies, and no other network has any. Unlike receipts, fetches are not
        signed: the audit chain of the node contains them.

        Args:
            network: the same as for `page`.
            since: epoch seconds; earlier fetches are left out.
        Raises:
            NotFound: the node has no such network, or does not record fetches.
            MalformedAnswer: the list does not advance, or is not in order.
            NotGranted, Unauthorized, NodeRefused, TransportError: a request failed.
        """

    def document(self, sha256: bytes, network: NetworkId | None = None) -> bytes:
        """Fetch a document that a receipt cites.

        A policy is such a document. The digest of the document is verified.

        Args:
            sha256: digest from a receipt, 32 bytes; see `documents_of`.
            network: the same as for `page`.
        Raises:
            NotFound: the node does not have the document, or has deleted it.
            ReceiptInvalid: the document has another digest.
            NotGranted, Unauthorized, NodeRefused, TransportError: the request failed.
        """

    def documents(self, receipt: Receipt, network: NetworkId | None = None) -> dict[bytes, bytes]:
        """Fetch the documents that a receipt cites.

        Returns the documents by digest. Missing documents are left out.

        Raises:
            SealspaceError: the same errors as `document`, except NotFound.
        """

class Withdrawals:
    """A client for withdrawing an owner's trust in backends.

    Use `Client.withdrawals` to get an instance. See `sealspace.encryption.Withdrawals`.
    """

    def withdraw_measurement(self, measurement: bytes, network: NetworkId | None = None) -> None:
        """Stop the release of keys to code with a given measurement.

        Args:
            measurement: a register of 48 bytes (MRTD, RTMR0 to RTMR3, MRSEAM), or a compose hash of
                32.
            network: None: the default network of the owner for whom this session acts.
        Raises:
            SealspaceError: the same errors as `withdraw_backend`.
        """

    def withdraw_backend(self, did: str, network: NetworkId | None = None) -> None:
        """Withdraw trust in a backend and in its delegations.

        These are all delegations that were signed by the backend or issued to it.

        Args:
            did: DID of the backend.
            network: None: the default network of the owner for whom this session acts.
        Raises:
            InvalidInput: the value cannot be withdrawn, such as the owner's own DID.
            NotGranted: the session does not have `sealspace.encryption/policy` on the network.
            Unauthorized: the session is not its owner in person.
            NetworkNotFound, NodeRefused, TransportError: the request failed.
        """

    def withdraw_evidence(self, sha256: bytes, network: NetworkId | None = None) -> None:
        """Withdraw trust in one piece of attestation evidence.

        The node no longer accepts the evidence.

        Args:
            sha256: digest of the evidence, 32 bytes, as in sessions, audit records and receipts.
            network: None: the default network of the owner for whom this session acts.
        Raises:
            SealspaceError: the same errors as `withdraw_backend`.
        """
