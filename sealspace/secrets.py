"""A client for encrypted secrets.

Secrets are encrypted in this process and stored in the owner's `secrets` space. A secret is stored
as a value that contains an encrypted envelope. A client that may read the path sees the envelope.
To open it, the client also needs decrypt on the owner's network, and has to pass the node's release
checks. The formats are those of the vault and secrets conventions, so clients in other languages
read and write the same secrets.

Text is returned as text and bytes as bytes. Bytes are stored as base64 text with a mark (EN26);
clients that do not know the mark see the base64 text.

Example:
    secrets = client.secrets()
    await secrets.put("API_KEY", "open sesame", if_absent=True)
    await secrets.put_many({"CERT": b"der", "USER": "alice"}, scope="mail")
    assert await secrets.get_text("API_KEY") == "open sesame"
    found = await secrets.get_many(["CERT", "USER"], scope="mail")
    assert found == {"CERT": b"der", "USER": "alice"}
    assert (await secrets.list(), await secrets.scopes()) == (("API_KEY",), ("mail",))
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.principals import same_principal
from capabilities.resources import NetworkId, SpaceId
from encryption_network.envelope import InlineEnvelope, parse_envelope
from encryption_network.network_errors import TEXTS
from encryption_network.network_errors import EncryptionError as NetworkLibraryError
from encryption_network.networks import FIRST_KEY_VERSION

from .documents.places import place_of, why_not_bound
from .documents.secret_names import (
    OWN_FOLDER,
    PROTECTED_NETWORK,
    PROTECTED_PREFIX,
    SECRETS_SPACE,
    VAULT_PREFIX,
    SecretName,
    SharedFolder,
    canonical_scope,
    is_protected,
    is_reserved,
    is_secret_name,
    list_prefix,
    parse_secret_label,
    parse_secret_name,
    secret_at,
    writable_name,
)
from .documents.secret_payloads import (
    MAX_SECRET_BYTES,
    Generated,
    Secret,
    read_payload,
    secret_payload,
)
from .documents.unbound_values import may_open_unbound, unbound_value
from .encryption import Encryption, ReceiverKey, envelope_bytes
from .errors import (
    DecryptDenied,
    InvalidEnvelope,
    InvalidSecretPayload,
    NotFound,
    NotGranted,
    PlaceMismatch,
    ReleaseRefused,
    SealspaceError,
    SpaceNotFound,
    Unauthorized,
)
from .kv import Kv, Value
from .session import DEFAULT_NETWORK, capability, network_of_owner, space_capability
from .wire.caller import Caller
from .wire.concurrency import all_of
from .wire.team_session import listed_paths
from .wire.token_line import about_token
from .wire.value_versions import current_etags
from .wire.values import KeptVersion

__all__ = [
    "MAX_SECRET_BYTES",
    "PROTECTED_NETWORK",
    "PROTECTED_PREFIX",
    "SECRETS_SPACE",
    "VAULT_PREFIX",
    "Generated",
    "KeptVersion",
    "Secret",
    "SecretName",
    "Secrets",
    "canonical_scope",
    "is_protected",
    "is_reserved",
    "is_secret_name",
    "list_prefix",
    "parse_secret_label",
    "parse_secret_name",
    "secret_at",
    "writable_name",
]

_MAX_ENVELOPE_BYTES = 2 * MAX_SECRET_BYTES
"""Limit for a stored envelope: the plaintext in base64, and the members around it."""

_AT_ONCE = 8
"""Number of secrets that one call opens concurrently."""

VAULT_METADATA = {
    "x-vault-version": "2",
    "x-vault-cipher": "tinycloud-network-envelope",
    "x-vault-content-type": "application/json",
}
"""Metadata of every secret's envelope."""


class Secrets:
    """A client that reads and writes an owner's secrets.

    Use `Client.secrets` to get an instance.

    Args:
        caller: sends requests with the session's authority.
        encryption: the encryption service of the same client.
        space: the owner's `secrets` space.
        network: name of the owner's network to seal to. An envelope names the network that opens
            it.
        folder: a folder with copies for another person, which are sealed to the key of that
            person's network; None: the secrets themselves.
    """

    def __init__(
        self,
        caller: Caller,
        encryption: Encryption,
        space: SpaceId,
        *,
        network: str = DEFAULT_NETWORK,
        folder: SharedFolder | None = None,
    ) -> None:
        self._caller = caller
        self._encryption = encryption
        self._kv = Kv(caller, space)
        self._space = space
        # Every envelope of a space belongs to a network of the space's owner, or of the person for
        # whom it is a copy.
        if folder is None:
            self._network = network_of_owner(space.owner, network)
            self._key = None
            self._key_version = FIRST_KEY_VERSION
            self._folder = OWN_FOLDER
        else:
            self._network = network_of_owner(folder.did, network)
            self._key = folder.key
            self._key_version = folder.key_version
            self._folder = folder.path

    def resource(self, name: str, *, scope: str | None = None) -> str:
        """Return the resource URI of a secret.

        The URI is for grants that let their recipient read the secret.

        Raises:
            InvalidSecretName, InvalidSecretScope: the name or scope is not valid.
        """
        return f"{self._space.text}/kv/{parse_secret_name(name, scope=scope).path}"

    async def put(
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
        with self._add_secret_name(writable_name(name, scope)) as secret:
            sealed = await self._seal(secret, self._encode_payload(secret, value))
            # The envelope is stored as plain text, not as JSON, as other clients do it.
            return await self._kv.put(secret.path, sealed, if_absent=if_absent, if_match=if_match)

    async def put_generated(
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
        with self._add_secret_name(parse_secret_name(name, scope=scope)) as secret:
            sealed = await self._seal(secret, self._encode_payload(secret, value, generated))
            return await self._kv.put(secret.path, sealed, if_absent=True)

    async def put_many(
        self, values: Mapping[str, str | bytes], *, scope: str | None = None
    ) -> None:
        """Encrypt and store several secrets.

        The secrets are in one scope. Up to 250 secrets are committed at a time, all of them or
        none.

        Raises:
            BatchIncomplete: one commit failed after others succeeded; it lists the written paths.
            SealspaceError: the same errors as `put`; nothing was written.
        """
        await self._kv.put_many(
            await self.sealed(
                {self._parse_name(name, scope): value for name, value in values.items()}
            )
        )

    async def sealed(self, values: Mapping[SecretName, str | bytes]) -> dict[str, bytes | str]:
        """Encrypt secrets without storing them.

        Returns:
            Path to envelope, for `Kv.put_many`.
        Raises:
            SealspaceError: the same errors as `put`; nothing is stored.
        """
        # All names and values are checked before the first one is encrypted, which may fetch the
        # network's key from the node.
        payloads: dict[SecretName, bytes] = {}
        for secret, value in values.items():
            writable_secret = writable_name(secret.name, secret.scope)._replace(folder=self._folder)
            payloads[writable_secret] = self._encode_payload(writable_secret, value)
        return {secret.path: await self._seal(secret, body) for secret, body in payloads.items()}

    async def get(
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
        return (await self.read(name, scope=scope, receiver=receiver, version=version)).value

    async def get_text(
        self, name: str, *, scope: str | None = None, receiver: ReceiverKey | None = None
    ) -> str:
        """Read and decrypt a secret that is text.

        Raises:
            InvalidSecretPayload: the secret is bytes.
            SealspaceError: the same errors as `read`.
        """
        value = await self.get(name, scope=scope, receiver=receiver)
        if isinstance(value, bytes):
            raise InvalidSecretPayload(
                f"the secret {name} is binary data, not text", hint="read the secret with `get`"
            )
        return value

    async def get_many(
        self, names: Iterable[str], *, scope: str | None = None, receiver: ReceiverKey | None = None
    ) -> dict[str, str | bytes]:
        """Read and decrypt several secrets.

        The secrets are in one scope. Up to eight are decrypted concurrently.

        Returns:
            Name to value, in the order of the names, without secrets that do not exist.
        Raises:
            SealspaceError: the same errors as `read`, except NotFound; no value is returned then.
        """
        secrets_by_name = await self.read_many(names, scope=scope, receiver=receiver)
        return {name: secret.value for name, secret in secrets_by_name.items()}

    async def read_many(
        self, names: Iterable[str], *, scope: str | None = None, receiver: ReceiverKey | None = None
    ) -> dict[str, Secret]:
        """Read and decrypt several secrets, with their metadata.

        Returns:
            Name to secret, as `get_many` returns the values.
        Raises:
            SealspaceError: the same errors as `get_many`.
        """
        secrets = [self._parse_name(name, scope) for name in names]
        # An error of this request is about several secrets, so it names only the machine token.
        with about_token(self._caller.session):
            stored = await self._kv.get_many(
                [secret.path for secret in secrets], max_bytes=_MAX_ENVELOPE_BYTES
            )

        async def opened(secret: SecretName) -> Secret:
            with self._add_secret_name(secret):
                return await self._open_current(secret, stored[secret.path], receiver)

        existing = [secret for secret in dict.fromkeys(secrets) if secret.path in stored]
        opened_secrets = await all_of(opened, existing, at_once=_AT_ONCE)
        opened_by_name = zip(existing, opened_secrets, strict=True)
        return {name.name: secret for name, secret in opened_by_name}

    async def etags(self, known: Mapping[str, str], *, scope: str | None = None) -> dict[str, str]:
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
        paths = {name: self._parse_name(name, scope).path for name in known}
        etags = {paths[name]: etag for name, etag in known.items()}
        with about_token(self._caller.session):
            etag_by_path = await current_etags(self._kv, etags, max_bytes=_MAX_ENVELOPE_BYTES)
        return {name: etag_by_path[path] for name, path in paths.items() if path in etag_by_path}

    async def read(
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
        with self._add_secret_name(self._parse_name(name, scope)) as secret:
            try:
                stored = await self._kv.get(
                    secret.path, max_bytes=_MAX_ENVELOPE_BYTES, version=version
                )
            except NotGranted:
                # `proofs_for` raises an error that names both rights that reading needs, so that
                # one sign-in can ask for both (EN27, MF13). The error of the request is raised only
                # if another task has added the rights in the meantime.
                wanted = [
                    space_capability(self._space, "kv", secret.path, KV_GET),
                    capability(self._network.text, DECRYPT),
                ]
                self._caller.session.proofs_for(wanted, now=self._caller.clock.now())
                raise
            if version is not None:
                return await self._open(secret, stored, receiver)
            return await self._open_current(secret, stored, receiver)

    async def version(self, name: str, *, scope: str | None = None) -> str:
        """Return the version of a secret.

        The version is that of the stored envelope. The call needs only `kv/metadata` on the path.

        Raises:
            NotFound: there is no such secret.
            InvalidSecretName, InvalidSecretScope: the name or scope is not valid.
            NotGranted, Unauthorized, NodeRefused, TransportError: the request failed.
        """
        with self._add_secret_name(parse_secret_name(name, scope=scope)) as secret:
            return (await self._kv.metadata(secret.path)).etag

    async def envelope(self, name: str, *, scope: str | None = None) -> InlineEnvelope:
        """Read a secret without decrypting it.

        The call needs only `kv/get` on the path.

        Raises:
            SealspaceError: the same errors as `read`, except for the errors of decryption.
        """
        with self._add_secret_name(parse_secret_name(name, scope=scope)) as secret:
            return self._envelope_of(
                secret, (await self._kv.get(secret.path, max_bytes=_MAX_ENVELOPE_BYTES)).body
            )

    async def versions(self, name: str, *, scope: str | None = None) -> tuple[KeptVersion, ...]:
        """Return the versions of a secret that the node keeps.

        The newest is first. After a deletion none of them is the current value. Only the owner in
        person may call this.

        Raises:
            NotFound: there is no such secret, and no version is kept.
            InvalidSecretName, InvalidSecretScope: the name or scope is not valid.
            NotGranted, NodeRefused, TransportError: the request failed.
        """
        with self._add_secret_name(parse_secret_name(name, scope=scope)) as secret:
            return await self._kv.versions(secret.path)

    async def rollback(self, name: str, version: int | None, *, scope: str | None = None) -> str:
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
        with self._add_secret_name(writable_name(name, scope)) as secret:
            versions = await self._kv.versions(secret.path)
            newest = versions[0]
            # Write only over the current version as listed. Without one, write only if the secret
            # is still deleted.
            etag = None
            if version is None:
                # `restore` replaces no current version, so its write fails if there is one.
                version = newest.version
            elif newest.is_current:
                etag = newest.etag
            value = await self._kv.get(secret.path, max_bytes=_MAX_ENVELOPE_BYTES, version=version)
            self._envelope_of(secret, value.body)  # raises unless it is an envelope of this owner
            return await self._kv.put(
                secret.path,
                value.body,
                content_type=value.content_type,
                metadata=value.metadata,
                if_absent=etag is None,
                if_match=etag,
            )

    async def restore(self, name: str, *, scope: str | None = None) -> str:
        """Store the newest version of a deleted secret again.

        Raises:
            PreconditionFailed: the secret is not deleted.
            SealspaceError: the same errors as `rollback`.
        """
        return await self.rollback(name, None, scope=scope)

    async def bind(
        self,
        name: str,
        *,
        scope: str | None = None,
        if_match: str | None = None,
    ) -> bool:
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
        with self._add_secret_name(writable_name(name, scope)) as secret:
            stored = await self._kv.get(secret.path, max_bytes=_MAX_ENVELOPE_BYTES)
            stored_secret = await self._open(secret, stored, None)
            if stored_secret.is_bound:
                return False
            envelope = self._envelope_of(secret, stored.body)
            paths = await self._encryption.paths_of(envelope)
            reason = why_not_bound(paths, self._space, secret.path, size_bytes=len(stored.body))
            if reason is not None:
                raise PlaceMismatch(
                    f"the sealed value of {secret.label} {reason}",
                    step="read both with `sealspace secret get`, and store the right value of each"
                    f" again: sealspace secret put {secret.name}",
                )
            payload = secret_payload(
                stored_secret.value,
                stored_secret.generated,
                place=place_of(self._space, secret.path),
                now=self._caller.clock.now(),
                created_at=stored_secret.created_at,
            )
            sealed = await self._seal(secret, payload, network=envelope.network)
            await self._kv.put(secret.path, sealed, if_match=if_match or stored.etag)
            return True

    async def delete(
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
        with self._add_secret_name(parse_secret_name(name, scope=scope)) as secret:
            etag = if_match or None
            removed_etag = await self._kv.delete(secret.path, if_match=etag, purge=purge)
            # With `purge`, only kept versions may be left. Without it, nothing was deleted then.
            if removed_etag is None and not purge:
                raise NotFound(200, "already deleted", asked=f"deleting the secret {secret.label}")

    async def list(self, *, scope: str | None = None) -> tuple[str, ...]:
        """Return the names of the secrets in a scope.

        The names are in ascending order.

        Args:
            scope: None for global secrets only.
        Raises:
            InvalidSecretScope: the scope is not valid.
            NotGranted, NodeRefused, TransportError: the request failed.
        """
        prefix = list_prefix(scope, self._folder)
        keys = await listed_paths(self._kv, self._caller.session, prefix)
        names = [key.removeprefix(prefix) for key in keys]
        return tuple(name for name in names if is_secret_name(name))

    async def scopes(self) -> tuple[str, ...]:
        """Return the scopes that contain secrets.

        The scopes are in the order of their paths. This needs `kv/list` on `vault/secrets/scoped/`.

        Raises:
            NotGranted, NodeRefused, TransportError: the request failed.
        """
        scopes: dict[str, None] = {}  # without duplicates, in the order of the keys
        prefix = f"{self._folder}scoped/"
        for key in await listed_paths(self._kv, self._caller.session, prefix):
            secret = secret_at(key, self._folder)
            if secret is not None and secret.scope is not None:
                scopes[secret.scope] = None
        return tuple(scopes)

    def _parse_name(self, name: str, scope: str | None) -> SecretName:
        return parse_secret_name(name, scope=scope)._replace(folder=self._folder)

    def _encode_payload(
        self, secret: SecretName, value: object, generated: Generated | None = None
    ) -> bytes:
        return secret_payload(
            value,
            generated,
            place=place_of(self._space, secret.path),
            now=self._caller.clock.now(),
        )

    async def _seal(
        self, secret: SecretName, payload: bytes, network: NetworkId | None = None
    ) -> str:
        envelope = await self._encryption.encrypt(
            payload,
            network=network or self._network,
            label=secret_label(self._space, secret),
            metadata=VAULT_METADATA,
            key=self._key,
            key_version=self._key_version,
        )
        return envelope_bytes(envelope).decode()

    async def _open(
        self, secret: SecretName, stored: Value, receiver: ReceiverKey | None
    ) -> Secret:
        """Decrypt a stored secret, and check that it belongs to its place."""
        envelope = self._envelope_of(secret, stored.body)
        # The label is not authenticated, so comparing it finds mix-ups, not forgery. Some writers
        # store secrets without a label, but a copy must have one (SH8).
        label = None
        if envelope.aad or self._key:
            label = secret_label(self._space, secret)
        opened = await self._encryption.decrypt(envelope, expected_label=label, receiver=receiver)
        result = read_payload(opened, stored.etag, place=place_of(self._space, secret.path))
        if not result.is_bound:
            self._require_unbound_allowed(secret, envelope)
        return result

    def _require_unbound_allowed(self, secret: SecretName, envelope: InlineEnvelope) -> None:
        """Check that this reader may use a value that states no place (EN46)."""
        # The tag of a generated value covers owner and path, and runners verify it (RN147).
        if is_protected(secret.name) and envelope.network.name == PROTECTED_NETWORK:
            return
        get = space_capability(self._space, "kv", secret.path, KV_GET)
        decrypt = capability(envelope.network.text, DECRYPT)
        # A copy is for somebody else, and its owner can make a new one at any time.
        is_copy = self._key is not None
        now, session = self._caller.clock.now(), self._caller.session
        if is_copy or not may_open_unbound(session, self._space.owner, (get, decrypt), now=now):
            raise unbound_value(secret)

    async def _open_current(
        self, secret: SecretName, stored: Value, receiver: ReceiverKey | None
    ) -> Secret:
        """Open the current value of a secret, or the one that replaced it meanwhile.

        The node releases the key of a value only while the value is stored (RL19), and while the
        network's key is not destroyed to which it is sealed (EN38). So a value that is replaced
        between the two requests is refused, and the new one is read.
        """
        try:
            return await self._open(secret, stored, receiver)
        except DecryptDenied as denial:
            if not _may_be_replaced(denial.refusal):
                raise
            newer = await self._kv.get(secret.path, max_bytes=_MAX_ENVELOPE_BYTES)
            if newer.etag == stored.etag:
                raise
        return await self._open(secret, newer, receiver)

    def _envelope_of(self, secret: SecretName, stored: bytes) -> InlineEnvelope:
        try:
            envelope = parse_envelope(stored)
        except NetworkLibraryError as exc:
            raise InvalidEnvelope(f"{secret.label} is not a sealed secret: {exc}") from exc
        # J15: one owner could store an envelope of another owner's network. A reader with rights of
        # both would open it and take the value for the first owner's.
        if not same_principal(envelope.network.owner, self._network.owner):
            raise InvalidEnvelope(f"{secret.path} is sealed to another owner's network")
        return envelope

    @contextmanager
    def _add_secret_name(self, secret: SecretName) -> Iterator[SecretName]:
        """Add the name of a secret to SDK errors."""
        try:
            with about_token(self._caller.session):
                yield secret
        except SealspaceError as error:
            # SpaceNotFound is a NotFound too, but what is missing is the space, not the secret.
            if isinstance(error, NotFound) and not isinstance(error, SpaceNotFound):
                self._restate_missing(error, secret)
            error.add_note(f"this is about the secret {secret.label}")
            raise

    def _restate_missing(self, error: NotFound, secret: SecretName) -> None:
        """Change an error to say that a secret is missing, and how to list the others."""
        listing = "list()"
        if secret.scope is not None:
            listing = f'list(scope="{secret.scope}")'
        # A program lists the names by a call (`hint`), and a person by a command (`step`).
        error.restate(
            f"secret {secret.label} in the space {self._space.text}",
            hint=f'list the names with `client.secrets("{self._space.owner}").{listing}`',
        )
        error.step = "sealspace secret list --all"


def _may_be_replaced(refusal: Unauthorized) -> bool:
    """Return whether a node refuses a value's key in this way after the value was replaced."""
    if isinstance(refusal, ReleaseRefused):
        return refusal.reason == "path"
    return refusal.text == TEXTS["version-mismatch"]


def secret_label(space: SpaceId, secret: SecretName) -> bytes:
    """Return the label of a secret's envelope, which names its place."""
    return f"tinycloud.vault:{space.text}:{secret.vault_key}".encode()
