"""Secrets: named texts, sealed in this process, kept in the owner's `secrets` space.

A secret is a value of the space like any other, whose content is an envelope; a client that may read the path sees the
envelope, and one that may decrypt on the owner's network, and passes the release gate, opens it. The formats are those
of the vault and secrets conventions, so that clients of other languages read and write the same secrets.

Example:
    await client.secrets().put("FIREFLIES_API_KEY", "…")
    value = await client.secrets().get("FIREFLIES_API_KEY")
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec

from capabilities.errors import CapabilityError
from capabilities.principals import same_principal
from capabilities.resources import SpaceId
from capabilities.strict_json import parse_json
from encryption_network.envelope import InlineEnvelope, parse_envelope
from encryption_network.errors import EncryptionError as NetworkLibraryError

from ._caller import Caller
from ._minting import iso_time
from ._secret_names import (
    SECRETS_SPACE,
    VAULT_PREFIX,
    SecretName,
    canonical_scope,
    is_secret_name,
    list_prefix,
    parse_secret_name,
)
from .encryption import Encryption, ReceiverKey, envelope_bytes
from .errors import InvalidEnvelope, InvalidInput, InvalidSecretPayload
from .kv import Kv
from .session import network_of_owner

__all__ = [
    "SECRETS_SPACE",
    "VAULT_PREFIX",
    "Secret",
    "SecretName",
    "Secrets",
    "canonical_scope",
    "is_secret_name",
    "list_prefix",
    "parse_secret_name",
]

MAX_SECRET_BYTES: Final = 1024 * 1024
"""Longest plaintext of a secret, as JSON."""

_VAULT_METADATA: Final = {
    "x-vault-version": "2",
    "x-vault-cipher": "tinycloud-network-envelope",
    "x-vault-content-type": "application/json",
}


@dataclass(frozen=True, slots=True)
class Secret:
    """An opened secret.

    Attributes:
        value: the text.
        created_at: RFC 3339 text as the writer stated it; writers do not keep it over a second put.
        updated_at: RFC 3339 text as the writer stated it.
    """

    value: str = field(repr=False)
    created_at: str
    updated_at: str


class Secrets:
    """The secrets of one owner; made by `Client.secrets`.

    Args:
        caller: sends requests with the session's authority.
        encryption: of the same client.
        space: the owner's `secrets` space.
    """

    def __init__(self, caller: Caller, encryption: Encryption, space: SpaceId) -> None:
        self._caller = caller
        self._encryption = encryption
        self._kv = Kv(caller, space)
        self._space = space
        # Envelopes of a space belong to the network of the space's owner, whichever client writes them.
        self._network = network_of_owner(space.owner)

    def resource(self, name: str, *, scope: str | None = None) -> str:
        """Return the resource of one secret's envelope: what a grant to read it names.

        Raises:
            InvalidSecretName, InvalidSecretScope.
        """
        return f"{self._space.text}/kv/{parse_secret_name(name, scope=scope).path}"

    async def put(self, name: str, value: str, *, scope: str | None = None, if_match: str | None = None) -> str:
        """Seal and store a secret; it is durable when this returns. Needs `kv/put` on the path, not decrypt.

        Args:
            name: `^[A-Z][A-Z0-9_]*$`.
            value: the text.
            scope: None for a global secret.
            if_match: only over the stored envelope of this version.
        Returns:
            The version of the stored envelope.
        Raises:
            InvalidSecretName, InvalidSecretScope, InvalidInput.
            NetworkNotFound: the owner's network does not exist yet; see `Encryption.ensure_network`.
            NetworkKeyChanged, DescriptorUnsigned, ResponseSignatureInvalid: its key is not to be sealed to; see
                `Encryption.descriptor`.
            PreconditionFailed, NotGranted, NodeRefused, TransportError.
        """
        secret = parse_secret_name(name, scope=scope)
        envelope = await self._encryption.encrypt(
            self._payload(value),
            network=self._network,
            label=self._label(secret),
            metadata=_VAULT_METADATA,
        )
        # Stored without a content type of JSON's: other clients write the envelope as a plain text.
        return await self._kv.put(secret.path, envelope_bytes(envelope).decode(), if_match=if_match)

    async def get(self, name: str, *, scope: str | None = None, receiver: ReceiverKey | None = None) -> str:
        """Read and open a secret.

        Raises:
            As `read`.
        """
        return (await self.read(name, scope=scope, receiver=receiver)).value

    async def read(self, name: str, *, scope: str | None = None, receiver: ReceiverKey | None = None) -> Secret:
        """Read and open a secret, with its times.

        Args:
            name: `^[A-Z][A-Z0-9_]*$`.
            scope: None for a global secret.
            receiver: the key to have the content key wrapped to; a backend passes the one it attested.
        Raises:
            InvalidSecretName, InvalidSecretScope.
            NotFound: there is no such secret.
            InvalidEnvelope, LabelMismatch, InvalidSecretPayload: what is stored there is no secret of this name, or is
                sealed to a network of another owner than the space's.
            NotGranted, Unauthorized, DecryptDenied: no authority for the envelope, or none for the key.
            NodeRefused, TransportError, EncryptionError.
        """
        secret = parse_secret_name(name, scope=scope)
        envelope = await self.envelope(name, scope=scope)
        # The label is carried in the clear, so its check finds mix-ups, not forgery; some writers leave it out.
        label = None if envelope.aad is None else self._label(secret)
        plaintext = await self._encryption.decrypt(envelope, expected_label=label, receiver=receiver)
        return _read_payload(plaintext)

    async def envelope(self, name: str, *, scope: str | None = None) -> InlineEnvelope:
        """Read a secret's envelope without opening it. Needs `kv/get` on the path only.

        Raises:
            As `read`, but for what opening needs.
        """
        secret = parse_secret_name(name, scope=scope)
        stored = await self._kv.get(secret.path)
        try:
            envelope = parse_envelope(stored.body)
        except NetworkLibraryError as exc:
            raise InvalidEnvelope(f"{secret.path} holds no envelope: {exc}") from exc
        # J15: a reader for several owners would open one's key with its own rights, and take it for the other's.
        if not same_principal(envelope.network.owner, self._space.owner):
            raise InvalidEnvelope(f"{secret.path} holds an envelope of another owner's network")
        return envelope

    async def delete(self, name: str, *, scope: str | None = None) -> None:
        """Delete a secret; the deletion is durable when this returns.

        Raises:
            NotFound: such a secret never existed.
            InvalidSecretName, InvalidSecretScope, NotGranted, NodeRefused, TransportError.
        """
        await self._kv.delete(parse_secret_name(name, scope=scope).path)

    async def list(self, *, scope: str | None = None) -> tuple[str, ...]:
        """Return the names of the secrets of one scope, ascending; without a scope, of the global ones only.

        Raises:
            InvalidSecretScope, NotGranted, NodeRefused, TransportError.
        """
        prefix = list_prefix(scope)
        names = [key.removeprefix(prefix) async for key in self._kv.list(prefix)]
        return tuple(name for name in names if is_secret_name(name))

    def _label(self, secret: SecretName) -> bytes:
        return f"tinycloud.vault:{self._space.text}:{secret.vault_key}".encode()

    def _payload(self, value: str) -> bytes:
        now = iso_time(self._caller.clock.now())
        try:
            payload = msgspec.json.encode({"value": value, "createdAt": now, "updatedAt": now})
        except ValueError as exc:
            raise InvalidInput("a secret is a Unicode text") from exc
        if len(payload) > MAX_SECRET_BYTES:
            raise InvalidInput(f"a secret holds at most {MAX_SECRET_BYTES} bytes")
        return payload


def _read_payload(plaintext: bytes) -> Secret:
    """Read the plaintext; the error says nothing of what is in it."""
    try:
        payload = parse_json(plaintext, max_bytes=MAX_SECRET_BYTES)
    except CapabilityError:
        # Without the cause: a parser's error may quote what it read.
        raise InvalidSecretPayload("the secret's plaintext is not a JSON object") from None
    value, created_at, updated_at = (payload.get(name) for name in ("value", "createdAt", "updatedAt"))
    if not (isinstance(value, str) and isinstance(created_at, str) and isinstance(updated_at, str)):
        raise InvalidSecretPayload("the secret's plaintext lacks a member")
    return Secret(value, created_at, updated_at)
