"""Encrypted payloads with their wrapped content keys (enc 3.3, 3.4).

They are called inline envelopes. The key is wrapped to the network's public key. The JSON text is
stored in a space as an ordinary value. `aad` and `metadata` are labels without authentication: the
protocol's ciphertexts have no associated data (EN22).

Example:
    envelope = seal_envelope(descriptor, b"secret", entropy)
    plaintext = open_envelope(parse_envelope(encode_envelope(envelope)), content_key)
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import UNSET, Meta, Struct, UnsetType

from capabilities.capability_errors import InvalidIdentifier, InvalidJson
from capabilities.clock_and_entropy import Entropy
from capabilities.frozen import frozen
from capabilities.resources import NetworkId, parse_network_id
from capabilities.strict_base64 import decode_standard, encode_standard
from capabilities.strict_json import parse_json, shaped

from .canonical_json import canonical_hash
from .keywrap import KEY_BYTES, NONCE_BYTES, TAG_BYTES, wrap
from .network_errors import EnvelopeError
from .networks import Descriptor, NetworkRecord

_Text = Annotated[str, Meta(min_length=1)]
MAX_ENVELOPE_BYTES = 67_108_864
"""Longest envelope that is parsed by default: 64 MiB of JSON, for 48 MiB of payload."""


@frozen(kw_only=True)
class InlineEnvelope:
    """An encrypted payload with its wrapped content key."""

    network: NetworkId
    network_text: str
    alg: str
    key_version: int
    encrypted_symmetric_key: str
    encrypted_symmetric_key_hash: str
    ciphertext: bytes = field(repr=False)
    aad: str | None
    metadata: Mapping[str, str] | None


class _EnvelopeJson(Struct, rename="camel"):
    """The JSON members of an encryption envelope.

    Unknown members are ignored. Labels may be absent, but not null.
    """

    v: Literal[1]
    network_id: _Text
    alg: _Text
    key_version: int
    encrypted_symmetric_key: _Text
    encrypted_symmetric_key_hash: _Text
    ciphertext: _Text
    aad: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


def parse_envelope(data: bytes, *, max_bytes: int = MAX_ENVELOPE_BYTES) -> InlineEnvelope:
    """Parse an encryption envelope from JSON.

    Args:
        data: UTF-8 JSON, untrusted; members in any order, unknown members are ignored.
        max_bytes: longest text that is parsed.
    Returns:
        An envelope whose key hash matches its key.
    Raises:
        EnvelopeError: not an object, another version, a member missing or of the wrong type, not
            canonical base64, or a key hash that does not match.
    Does not check:
        That the algorithm is known, that the wrapped key opens, who wrote it.
    Source: enc 3.4.
    """
    try:
        stated = shaped(parse_json(data, max_bytes=max_bytes), _EnvelopeJson)
        network = parse_network_id(stated.network_id)
    except InvalidJson as exc:
        raise EnvelopeError(str(exc)) from exc
    except InvalidIdentifier as exc:
        raise EnvelopeError(f"networkId: {exc.text}") from exc
    wrapped = stated.encrypted_symmetric_key
    ciphertext = decode_standard(stated.ciphertext)
    if (
        decode_standard(wrapped) is None
        or canonical_hash(wrapped) != stated.encrypted_symmetric_key_hash
    ):
        raise EnvelopeError("encryptedSymmetricKeyHash does not match encryptedSymmetricKey")
    if ciphertext is None:
        raise EnvelopeError("ciphertext is not base64")
    return InlineEnvelope(
        network=network,
        network_text=stated.network_id,
        alg=stated.alg,
        key_version=stated.key_version,
        encrypted_symmetric_key=wrapped,
        encrypted_symmetric_key_hash=stated.encrypted_symmetric_key_hash,
        ciphertext=ciphertext,
        aad=None if stated.aad is UNSET else stated.aad,
        metadata=None if stated.metadata is UNSET else stated.metadata,
    )


def encode_envelope(envelope: InlineEnvelope) -> bytes:
    """Encode an encryption envelope as JSON.

    Its members are in the order of EN23. Absent labels are omitted.
    """
    stated = _EnvelopeJson(
        v=1,
        network_id=envelope.network_text,
        alg=envelope.alg,
        key_version=envelope.key_version,
        encrypted_symmetric_key=envelope.encrypted_symmetric_key,
        encrypted_symmetric_key_hash=envelope.encrypted_symmetric_key_hash,
        ciphertext=encode_standard(envelope.ciphertext),
        aad=UNSET if envelope.aad is None else envelope.aad,
        metadata=UNSET if envelope.metadata is None else dict(envelope.metadata),
    )
    try:
        return msgspec.json.encode(stated)
    except ValueError as exc:
        raise EnvelopeError("a label of the envelope is not valid Unicode") from exc


def seal_envelope(
    descriptor: Descriptor | NetworkRecord,
    plaintext: bytes,
    entropy: Entropy,
    *,
    aad: bytes | None = None,
    metadata: Mapping[str, str] | None = None,
) -> InlineEnvelope:
    """Encrypt a payload for an encryption network.

    All principals that may decrypt with the network's key can open the envelope.

    Args:
        descriptor: the network; its canonical id, algorithm and key version go into the envelope.
        plaintext: the payload.
        entropy: called for 32 bytes (content key), 12 (payload nonce), 32 (ephemeral scalar) and 12
            (wrap nonce).
        aad: label to include; not authenticated.
        metadata: labels to include; not authenticated.
    Raises:
        RequestError: `key-backend`, the descriptor's key is of low order.
    Does not check:
        That the network's state allows writing.
    Source: enc 3.3, 3.4.
    """
    content_key = entropy.token(KEY_BYTES)
    nonce = entropy.token(NONCE_BYTES)
    ciphertext = nonce + AESGCM(content_key).encrypt(nonce, plaintext, None)
    wrapped = encode_standard(wrap(descriptor.public_key, content_key, entropy))
    return InlineEnvelope(
        network=descriptor.network_id,
        network_text=descriptor.network_id.text,
        alg=descriptor.alg,
        key_version=descriptor.key_version,
        encrypted_symmetric_key=wrapped,
        encrypted_symmetric_key_hash=canonical_hash(wrapped),
        ciphertext=ciphertext,
        aad=None if aad is None else encode_standard(aad),
        metadata=metadata,
    )


def open_envelope(envelope: InlineEnvelope, content_key: bytes) -> bytes:
    """Decrypt the payload of an envelope with its content key.

    Raises:
        EnvelopeError: the key is not 32 bytes, the ciphertext is too short, or the tag is wrong.
    Does not check:
        `aad` and `metadata`, which are not authenticated.
    """
    if len(content_key) != KEY_BYTES or len(envelope.ciphertext) < NONCE_BYTES + TAG_BYTES:
        raise EnvelopeError("the ciphertext cannot be decrypted")
    nonce = envelope.ciphertext[:NONCE_BYTES]
    sealed = envelope.ciphertext[NONCE_BYTES:]
    try:
        return AESGCM(content_key).decrypt(nonce, sealed, None)
    except InvalidTag as exc:
        raise EnvelopeError("the ciphertext cannot be decrypted") from exc
