"""Secrets: named texts or bytes, sealed in this process, kept in the owner's `secrets` space.

A secret is a value of the space like any other, whose content is an envelope; a client that may
read the path sees the envelope, and one that may decrypt on the owner's network, and passes the
release gate, opens it. The formats are those of the vault and secrets conventions, so that clients
of other languages read and write the same secrets.

A text and bytes come back as what they were. Bytes are kept as base64 text, marked as such (EN26):
clients that do not know the mark see that text.

Example:
    secrets = client.secrets()
    await secrets.put("API_KEY", "open sesame", if_absent=True)
    await secrets.put_many({"CERT": b"der", "USER": "alice"}, scope="mail")
    assert await secrets.get_text("API_KEY") == "open sesame"
    assert await secrets.get_many(["CERT", "USER"], scope="mail") == {"CERT": b"der", "USER": "alice"}
    assert (await secrets.list(), await secrets.scopes()) == (("API_KEY",), ("mail",))
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.capability_errors import CapabilityError
from capabilities.principals import same_principal
from capabilities.resources import SpaceId
from capabilities.strict_base64 import decode_standard, decode_url, encode_standard, encode_url
from capabilities.strict_json import parse_json, shaped
from encryption_network.envelope import InlineEnvelope, parse_envelope
from encryption_network.network_errors import EncryptionError as NetworkLibraryError

from .documents.secret_names import (
    PROTECTED_NETWORK,
    PROTECTED_PREFIX,
    SCOPED_PREFIX,
    SECRETS_SPACE,
    VAULT_PREFIX,
    SecretName,
    canonical_scope,
    is_protected,
    is_scope,
    is_secret_name,
    list_prefix,
    parse_secret_label,
    parse_secret_name,
    secret_at,
)
from .encryption import Encryption, ReceiverKey, envelope_bytes
from .errors import (
    InvalidEnvelope,
    InvalidSecretName,
    InvalidSecretPayload,
    InvalidSecretValue,
    NotFound,
    NotGranted,
    SealspaceError,
    SpaceNotFound,
)
from .kv import Kv, Value
from .session import DEFAULT_NETWORK, capability, iso_time, network_of_owner, space_capability
from .wire.caller import Caller

__all__ = [
    "PROTECTED_NETWORK",
    "PROTECTED_PREFIX",
    "SECRETS_SPACE",
    "VAULT_PREFIX",
    "Generated",
    "Secret",
    "SecretName",
    "Secrets",
    "canonical_scope",
    "is_protected",
    "is_secret_name",
    "list_prefix",
    "parse_secret_label",
    "parse_secret_name",
    "secret_at",
]

MAX_SECRET_BYTES: Final = 1024 * 1024
"""Longest plaintext of a secret, as JSON; of bytes three quarters of it."""

_MAX_ENVELOPE_BYTES: Final = 2 * MAX_SECRET_BYTES
"""The plaintext in base64, and what is around it."""

_BASE64: Final = "base64"
_AT_ONCE: Final = 8
"""Secrets of one call that are opened at the same time."""

_VAULT_METADATA: Final = {
    "x-vault-version": "2",
    "x-vault-cipher": "tinycloud-network-envelope",
    "x-vault-content-type": "application/json",
}


@dataclass(frozen=True, slots=True)
class Generated:
    """What the plaintext of a generated secret says beside its value (EN26); only its runner can
    judge the tag.

    Attributes:
        type: what was drawn: `hex32`, `password:64`.
        at: RFC 3339 text.
        tag: of 32 bytes.
    """

    type: str
    at: str
    tag: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Secret:
    """An opened secret.

    Attributes:
        value: the text, or the bytes where bytes were put.
        created_at: RFC 3339 text as the writer stated it; writers do not keep it over a second put.
        updated_at: RFC 3339 text as the writer stated it.
        etag: version of the stored envelope: what `if_match` of `Secrets.put` takes.
        generated: what a runner that made it says; None: nothing, or nothing that can be read.
    """

    value: str | bytes = field(repr=False)
    created_at: str
    updated_at: str
    etag: str
    generated: Generated | None = None


class _Payload(msgspec.Struct, rename="camel", kw_only=True):
    value: str
    encoding: Any = msgspec.UNSET
    created_at: str
    updated_at: str
    generated: Any = msgspec.UNSET


class Secrets:
    """The secrets of one owner; made by `Client.secrets`.

    Args:
        caller: sends requests with the session's authority.
        encryption: of the same client.
        space: the owner's `secrets` space.
        network: name of the owner's network that is sealed to; one that is opened stands in its
            envelope.
    """

    def __init__(
        self,
        caller: Caller,
        encryption: Encryption,
        space: SpaceId,
        *,
        network: str = DEFAULT_NETWORK,
    ) -> None:
        self._caller = caller
        self._encryption = encryption
        self._kv = Kv(caller, space)
        self._space = space
        # Envelopes of a space belong to the network of the space's owner, whichever client writes
        # them.
        self._network = network_of_owner(space.owner, network)

    def resource(self, name: str, *, scope: str | None = None) -> str:
        """Return the resource of one secret's envelope: what a grant to read it names.

        Raises:
            InvalidSecretName, InvalidSecretScope: there can be no such secret.
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
        with self._about(_by_hand(name, scope)) as secret:
            sealed = await self._sealed(secret, self._payload(value))
            # Stored without a content type of JSON's: other clients write the envelope as a plain
            # text.
            return await self._kv.put(secret.path, sealed, if_absent=if_absent, if_match=if_match)

    async def put_generated(
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
        with self._about(parse_secret_name(name, scope=scope)) as secret:
            sealed = await self._sealed(secret, self._payload(value, generated))
            return await self._kv.put(secret.path, sealed, if_absent=True)

    async def put_many(
        self, values: Mapping[str, str | bytes], *, scope: str | None = None
    ) -> None:
        """Seal and store several secrets of one scope, up to 250 in one commit: all of those or
        none.

        Raises:
            As `put`: of one of them, before anything is sent; or nothing was written.
            BatchIncomplete: some commits were done, and then one failed; it says which paths are
                written.
        """
        payloads = {_by_hand(name, scope): self._payload(value) for name, value in values.items()}
        await self._kv.put_many(
            {secret.path: await self._sealed(secret, body) for secret, body in payloads.items()}
        )

    async def get(
        self, name: str, *, scope: str | None = None, receiver: ReceiverKey | None = None
    ) -> str | bytes:
        """Read and open a secret: a text or bytes, as it was put.

        Raises:
            SealspaceError: as `read`.
        """
        return (await self.read(name, scope=scope, receiver=receiver)).value

    async def get_text(
        self, name: str, *, scope: str | None = None, receiver: ReceiverKey | None = None
    ) -> str:
        """Read and open a secret that is a text.

        Raises:
            InvalidSecretPayload: it is bytes.
            SealspaceError: as `read`.
        """
        value = await self.get(name, scope=scope, receiver=receiver)
        if isinstance(value, bytes):
            raise InvalidSecretPayload(
                f"the secret {name} is bytes, not a text", hint="read it with `get`"
            )
        return value

    async def get_many(
        self, names: Iterable[str], *, scope: str | None = None, receiver: ReceiverKey | None = None
    ) -> dict[str, str | bytes]:
        """Read and open several secrets of one scope; a few are opened at a time.

        Returns:
            Name to value, in the order of the names; a secret that does not exist is not in it.
        Raises:
            As `read`, but for NotFound: of the first that cannot be opened; then nothing is
                returned.
        """
        secrets = [parse_secret_name(name, scope=scope) for name in names]
        stored = await self._kv.get_many(
            [secret.path for secret in secrets], max_bytes=_MAX_ENVELOPE_BYTES
        )
        gate = asyncio.Semaphore(_AT_ONCE)

        async def opened(secret: SecretName) -> str | bytes:
            async with gate:
                with self._about(secret):
                    return (await self._open(secret, stored[secret.path], receiver)).value

        there = [secret for secret in dict.fromkeys(secrets) if secret.path in stored]
        tasks = [asyncio.create_task(opened(secret)) for secret in there]
        try:
            values = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return {secret.name: value for secret, value in zip(there, values, strict=True)}

    async def read(
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
        with self._about(parse_secret_name(name, scope=scope)) as secret:
            try:
                stored = await self._kv.get(secret.path, max_bytes=_MAX_ENVELOPE_BYTES)
            except NotGranted:
                # Whoever has to ask for the one right asks for both (EN27): the error names all
                # that is missing (MF13).
                wanted = [
                    space_capability(self._space, "kv", secret.path, KV_GET),
                    capability(self._network.text, DECRYPT),
                ]
                self._caller.session.proofs_for(wanted, now=self._caller.clock.now())
                raise
            return await self._open(secret, stored, receiver)

    async def version(self, name: str, *, scope: str | None = None) -> str:
        """Return the version of a secret's stored envelope, opening nothing. Needs `kv/metadata` on
        the path.

        Raises:
            NotFound: there is no such secret.
            InvalidSecretName, InvalidSecretScope, NotGranted, Unauthorized, NodeRefused,
            TransportError: as each says.
        """
        with self._about(parse_secret_name(name, scope=scope)) as secret:
            return (await self._kv.metadata(secret.path)).etag

    async def envelope(self, name: str, *, scope: str | None = None) -> InlineEnvelope:
        """Read a secret's envelope without opening it. Needs `kv/get` on the path only.

        Raises:
            SealspaceError: as `read`, but for what opening needs.
        """
        with self._about(parse_secret_name(name, scope=scope)) as secret:
            return self._envelope_of(
                secret, (await self._kv.get(secret.path, max_bytes=_MAX_ENVELOPE_BYTES)).body
            )

    async def delete(self, name: str, *, scope: str | None = None) -> None:
        """Delete a secret; the deletion is durable when this returns.

        Raises:
            NotFound: there is no such secret, whether it was deleted before or never existed.
            InvalidSecretName, InvalidSecretScope, NotGranted, NodeRefused, TransportError: as each
            says.
        """
        with self._about(parse_secret_name(name, scope=scope)) as secret:
            if await self._kv.delete(secret.path) is None:
                raise NotFound(
                    200, "it was deleted before", asked=f"deleting the secret {secret.label}"
                )

    async def list(self, *, scope: str | None = None) -> tuple[str, ...]:
        """Return the names of the secrets of one scope, ascending; without a scope, of the global
        ones only.

        Raises:
            InvalidSecretScope, NotGranted, NodeRefused, TransportError: as each says.
        """
        prefix = list_prefix(scope)
        names = [key.removeprefix(prefix) async for key in self._kv.list(prefix)]
        return tuple(name for name in names if is_secret_name(name))

    async def scopes(self) -> tuple[str, ...]:
        """Return the scopes that hold secrets, ascending; needs `kv/list` on
        `vault/secrets/scoped/`.

        Raises:
            NotGranted, NodeRefused, TransportError: as each says.
        """
        found: dict[str, None] = {}
        async for key in self._kv.list(SCOPED_PREFIX):
            scope, _, name = key.removeprefix(SCOPED_PREFIX).partition("/")
            if is_secret_name(name) and is_scope(scope):
                found[scope] = None
        return tuple(found)

    async def _sealed(self, secret: SecretName, payload: bytes) -> str:
        envelope = await self._encryption.encrypt(
            payload, network=self._network, label=self._label(secret), metadata=_VAULT_METADATA
        )
        return envelope_bytes(envelope).decode()

    async def _open(
        self, secret: SecretName, stored: Value, receiver: ReceiverKey | None
    ) -> Secret:
        envelope = self._envelope_of(secret, stored.body)
        # The label is carried in the clear, so its check finds mix-ups, not forgery; some writers
        # leave it out.
        label = None if envelope.aad is None else self._label(secret)
        opened = await self._encryption.decrypt(envelope, expected_label=label, receiver=receiver)
        return read_payload(opened, stored.etag)

    def _envelope_of(self, secret: SecretName, stored: bytes) -> InlineEnvelope:
        try:
            envelope = parse_envelope(stored)
        except NetworkLibraryError as exc:
            raise InvalidEnvelope(f"{secret.path} holds no envelope: {exc}") from exc
        # J15: a reader for several owners would open one's key with its own rights, and take it for
        # the other's.
        if not same_principal(envelope.network.owner, self._space.owner):
            raise InvalidEnvelope(f"{secret.path} holds an envelope of another owner's network")
        return envelope

    @contextmanager
    def _about(self, secret: SecretName) -> Iterator[SecretName]:
        """Note on an error which secret it is about, and name a missing one."""
        try:
            yield secret
        except SealspaceError as error:
            if isinstance(error, NotFound) and not isinstance(error, SpaceNotFound):
                listed = "list()" if secret.scope is None else f'list(scope="{secret.scope}")'
                error.restate(
                    f"secret {secret.label} in the space {self._space.text}",
                    hint=(
                        f'`client.secrets("{self._space.owner}").{listed}` shows which names'
                        " there are"
                    ),
                )
            error.add_note(f"this is about the secret {secret.label}")
            raise

    def _label(self, secret: SecretName) -> bytes:
        return f"tinycloud.vault:{self._space.text}:{secret.vault_key}".encode()

    def _payload(self, value: object, generated: Generated | None = None) -> bytes:
        """Return the plaintext (EN26); nothing of what is refused is in the InvalidSecretValue."""
        now = iso_time(self._caller.clock.now())
        payload = _Payload(value="", created_at=now, updated_at=now)
        if isinstance(value, str):
            payload.value = value
        elif isinstance(value, bytes | bytearray | memoryview):
            payload.value, payload.encoding = encode_standard(bytes(value)), _BASE64
        else:
            raise InvalidSecretValue(
                f"a value of type {type(value).__name__} is no secret; nothing was sent"
            )
        if generated is not None:
            payload.generated = {
                "type": generated.type,
                "at": generated.at,
                "tag": encode_url(generated.tag),
            }
        try:
            encoded = msgspec.json.encode(payload)
        except ValueError:
            raise InvalidSecretValue(
                "a secret that is a text is Unicode without lone surrogates"
            ) from None
        if len(encoded) > MAX_SECRET_BYTES:
            raise InvalidSecretValue(
                f"a secret holds at most {MAX_SECRET_BYTES} bytes",
                hint="keep a key in the secret, and the data as a value",
            )
        return encoded


def _by_hand(name: str, scope: str | None) -> SecretName:
    """Return the name of a secret that a person or a program gives a value; a runner alone makes
    the others (RN140)."""
    secret = parse_secret_name(name, scope=scope)
    if is_protected(secret.name):
        raise InvalidSecretName(
            f"{secret.name} begins with {PROTECTED_PREFIX}: only a runner makes such secrets",
            hint="have one made: sealspace runner generate URL NAME; or choose another name",
        )
    return secret


def read_payload(plaintext: bytes, etag: str) -> Secret:
    """Read the plaintext of the envelope of a version (EN26); the error says nothing of what is in
    it."""
    try:
        payload = shaped(parse_json(plaintext, max_bytes=MAX_SECRET_BYTES), _Payload)
    except CapabilityError:
        # Without the cause: a parser's error may quote what it read.
        raise InvalidSecretPayload(
            "the secret's plaintext is not a JSON object, or lacks a member"
        ) from None
    if payload.encoding is msgspec.UNSET:
        return Secret(
            payload.value,
            payload.created_at,
            payload.updated_at,
            etag,
            _generated(payload.generated),
        )
    data = decode_standard(payload.value) if payload.encoding == _BASE64 else None
    if data is None:  # to give the text out instead would pass changed bytes for a value
        raise InvalidSecretPayload(
            "the secret's bytes are in an encoding that this client does not know, or damaged"
        )
    return Secret(data, payload.created_at, payload.updated_at, etag)


def _generated(value: object) -> Generated | None:
    if not isinstance(value, dict):
        return None
    kind, at, tag = value.get("type"), value.get("at"), decode_url(value.get("tag"))
    if not isinstance(kind, str) or not isinstance(at, str) or tag is None:
        return None
    return Generated(kind, at, tag)
