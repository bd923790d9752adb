"""Encryption of content keys with X25519 and AES-256.

    wrapped key:  offset  size  field
                  0       32    ephemeral X25519 public key
                  32      ..    sealed blob under the raw shared secret

    sealed blob:  offset  size  field
                  0       1     0x01
                  1       12    nonce
                  13      n     AES-256-GCM ciphertext, no associated data
                  13+n    16    tag

The protocol's format has no key derivation and no context (enc 3.2). This module is stricter than
the protocol, without effect on honest clients. It rejects low-order public keys, another first byte
than 0x01, and content keys that are not 32 bytes (EN21, W5, W6, W8).

Example:
    blob = wrap(network_public_key, content_key, entropy)
    content_key = open_wrapped(network_private_key, blob)
"""

import nacl.exceptions
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base

from capabilities.clock_and_entropy import Entropy

from .network_errors import RequestError

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
BLOB_VERSION = 0x01
_VERSION_BYTE = bytes([BLOB_VERSION])
# Version, nonce and tag around the ciphertext.
BLOB_OVERHEAD_BYTES = 1 + NONCE_BYTES + TAG_BYTES


def public_key_of(private_key: bytes) -> bytes:
    """Return the X25519 public key of a private key."""
    if len(private_key) != KEY_BYTES:
        raise RequestError("key-backend", "invalid private key length")
    return crypto_scalarmult_base(private_key)


def wrap(public_key: bytes, plaintext: bytes, entropy: Entropy) -> bytes:
    """Encrypt a content key for an X25519 public key.

    Args:
        public_key: the recipient's X25519 key, 32 bytes, untrusted.
        plaintext: the content key, 32 bytes.
        entropy: called for 32 bytes (the ephemeral scalar), then for 12 (the nonce).
    Returns:
        The wrapped key, 93 bytes.
    Raises:
        RequestError: `key-backend`, the public key is not 32 bytes or is of low order, or the
            content key is not 32 bytes.
    Source: enc 3.2.
    """
    if len(plaintext) != KEY_BYTES:  # nothing else can be opened (W8)
        raise RequestError("key-backend", "invalid content key length")
    ephemeral = entropy.token(KEY_BYTES)
    shared = _exchange(ephemeral, public_key)
    return public_key_of(ephemeral) + seal_blob(shared, plaintext, entropy)


def open_wrapped(private_key: bytes, blob: bytes) -> bytes:
    """Decrypt a wrapped content key.

    Args:
        private_key: the recipient's X25519 scalar, 32 bytes.
        blob: the wrapped key, untrusted, of any length.
    Returns:
        The content key: exactly 32 bytes, authenticated under the shared secret.
    Raises:
        RequestError: `key-backend`, the blob is too short, has another version byte, a low-order
            ephemeral key, a wrong tag, or a content key of another length.
    Does not check:
        The sender: any client can wrap a key to a public key.
    Source: enc 3.2.
    """
    if len(blob) < KEY_BYTES:
        raise RequestError("key-backend", "invalid wrapped key envelope")
    ephemeral = blob[:KEY_BYTES]
    sealed = blob[KEY_BYTES:]
    # The cheap checks come first, so that a malformed blob costs no scalar multiplication.
    _check_blob(sealed)
    plaintext = _open(_exchange(private_key, ephemeral), sealed)
    if len(plaintext) != KEY_BYTES:  # the sender may have wrapped something else (W8)
        raise RequestError("key-backend", "invalid content key length")
    return plaintext


def seal_blob(key: bytes, plaintext: bytes, entropy: Entropy) -> bytes:
    """Encrypt bytes with an AES-256 key (enc 1.5).

    The result is `0x01 | nonce | ciphertext | tag`.
    """
    nonce = entropy.token(NONCE_BYTES)
    return _VERSION_BYTE + nonce + AESGCM(key).encrypt(nonce, plaintext, None)


def open_blob(key: bytes, blob: bytes) -> bytes:
    """Decrypt bytes that were encrypted by `seal_blob`.

    Raises:
        RequestError: `key-backend`, too short, another version byte than 0x01, or a wrong tag.
    Source: enc 1.5, without its pass-through of unsealed input (W6).
    """
    _check_blob(blob)
    return _open(key, blob)


def _open(key: bytes, blob: bytes) -> bytes:
    nonce_end = 1 + NONCE_BYTES  # after the version byte and the nonce
    try:
        return AESGCM(key).decrypt(blob[1:nonce_end], blob[nonce_end:], None)
    except InvalidTag as exc:
        raise RequestError("key-backend", "decryption failed: aead::Error") from exc


def _check_blob(blob: bytes) -> None:
    """Check the version byte and the length of a sealed blob."""
    # The protocol passes such bytes through as if they had been opened (W6).
    if blob and blob[0] != BLOB_VERSION:
        raise RequestError("key-backend", "unknown version of sealed data")
    if len(blob) < BLOB_OVERHEAD_BYTES:
        raise RequestError("key-backend", "encrypted data too short")


def _exchange(private_key: bytes, public_key: bytes) -> bytes:
    """Return the X25519 shared secret of two keys."""
    if len(public_key) != KEY_BYTES:
        raise RequestError("key-backend", "invalid public key length")
    if len(private_key) != KEY_BYTES:
        raise RequestError("key-backend", "invalid private key length")
    try:
        # libsodium instead of `cryptography`, whose key objects compute their public key each time.
        # It rejects an all-zero result, which every low-order public key gives (W5): anyone could
        # open such a wrap.
        return crypto_scalarmult(private_key, public_key)
    except nacl.exceptions.RuntimeError as exc:
        raise RequestError("key-backend", "low-order public key") from exc
