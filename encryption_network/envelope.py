"""Inline envelopes: a payload under a content key, and that key wrapped to a network (enc 3.3,
3.4).

The JSON text is stored in a space as an ordinary value. `aad` and `metadata` are labels that
nothing authenticates: the protocol's ciphertexts carry no associated data (EN22).

Example:
    envelope = seal_envelope(descriptor, b"secret", entropy)
    plaintext = open_envelope(parse_envelope(encode_envelope(envelope)), content_key)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import UNSET, Meta, Struct, UnsetType

from capabilities.capability_errors import InvalidIdentifier, InvalidJson
from capabilities.clock_and_entropy import Entropy
from capabilities.resources import NetworkId, parse_network_id
from capabilities.strict_base64 import decode_standard, encode_standard
from capabilities.strict_json import parse_json, shaped

from .canonical_json import canonical_hash
from .keywrap import KEY_BYTES, NONCE_BYTES, TAG_BYTES, wrap
from .network_errors import EnvelopeError
from .networks import Descriptor

ENVELOPE_VERSION: Final = 1
_Text = Annotated[str, Meta(min_length=1)]
MAX_ENVELOPE_BYTES: Final = 67_108_864
"""Longest envelope that is read unless the caller says otherwise: 64 MiB of JSON, 48 MiB of
payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineEnvelope:
    """One sealed payload with its wrapped content key."""

    network: NetworkId
    network_text: str
    alg: str
    key_version: int
    encrypted_symmetric_key: str
    encrypted_symmetric_key_hash: str
    ciphertext: bytes = field(repr=False)
    aad: str | None = None
    metadata: Mapping[str, str] | None = None


class _Stated(Struct, rename="camel"):
    """The members that are read; unknown ones are skipped. A label may be absent, but is not
    null."""

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
    """Read an envelope.

    Args:
        data: UTF-8 JSON, untrusted; members in any order, unknown members are skipped.
        max_bytes: longest text that is parsed.
    Returns:
        An envelope whose key hash fits its key.
    Raises:
        EnvelopeError: not an object, another version, a member missing or of the wrong type, no
            canonical base64, or a key hash that does not fit.
    Does not check:
        That the algorithm is known, that the wrapped key opens, who wrote it.
    Source: enc 3.4.
    """
    try:
        stated = shaped(parse_json(data, max_bytes=max_bytes), _Stated)
        network = parse_network_id(stated.network_id)
    except InvalidJson as exc:
        raise EnvelopeError(str(exc)) from exc
    except InvalidIdentifier as exc:
        raise EnvelopeError(f"networkId: {exc.text}") from exc
    wrapped, ciphertext = stated.encrypted_symmetric_key, decode_standard(stated.ciphertext)
    if (
        decode_standard(wrapped) is None
        or canonical_hash(wrapped) != stated.encrypted_symmetric_key_hash
    ):
        raise EnvelopeError("encryptedSymmetricKeyHash does not fit")
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
    """Write an envelope: members in the order of EN23, no spaces, absent labels left out."""
    stated = _Stated(
        ENVELOPE_VERSION,
        envelope.network_text,
        envelope.alg,
        envelope.key_version,
        envelope.encrypted_symmetric_key,
        envelope.encrypted_symmetric_key_hash,
        encode_standard(envelope.ciphertext),
        UNSET if envelope.aad is None else envelope.aad,
        UNSET if envelope.metadata is None else dict(envelope.metadata),
    )
    try:
        return msgspec.json.encode(stated)
    except ValueError as exc:
        raise EnvelopeError("a label is not Unicode") from exc


def seal_envelope(
    descriptor: Descriptor,
    plaintext: bytes,
    entropy: Entropy,
    *,
    aad: bytes | None = None,
    metadata: Mapping[str, str] | None = None,
) -> InlineEnvelope:
    """Seal a payload for every principal that may decrypt on a network.

    Args:
        descriptor: the network, whose canonical id, algorithm and version go into the envelope.
        plaintext: the payload.
        entropy: asked for 32 bytes (content key), 12 (payload nonce), 32 (ephemeral scalar), 12
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
    """Open the payload with its content key.

    Raises:
        EnvelopeError: the key is not 32 bytes, the ciphertext is too short, or the tag fails.
    Does not check:
        `aad` and `metadata`: they are labels.
    """
    if len(content_key) != KEY_BYTES or len(envelope.ciphertext) < NONCE_BYTES + TAG_BYTES:
        raise EnvelopeError("ciphertext does not open")
    nonce, sealed = envelope.ciphertext[:NONCE_BYTES], envelope.ciphertext[NONCE_BYTES:]
    try:
        return AESGCM(content_key).decrypt(nonce, sealed, None)
    except InvalidTag as exc:
        raise EnvelopeError("ciphertext does not open") from exc
