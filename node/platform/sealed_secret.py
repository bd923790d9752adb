"""Passphrase encryption of the root secret in a backup (BK8).

The format is that of `age`:

    age-encryption.org/v1
    -> scrypt <salt> <binary logarithm of scrypt's N>
    <file key, encrypted with the key that scrypt derives from the passphrase>
    --- <HMAC of all of the above under the file key>
    <nonce><the secret, encrypted with the file key and the nonce>

The last line is raw bytes; everything else is base64 without padding.

scrypt takes N KiB of memory. Libraries of the format choose N by the speed of the machine, up to
512 MiB on a fast one. Here N is 2^17 for encryption and at most 2^18 for decryption, the value that
`age` uses.

Source: age-encryption.org/v1, C2SP, with the one recipient `scrypt` and one chunk.
"""

import re

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from libipld import decode_multibase, encode_multibase

from capabilities.clock_and_entropy import Entropy
from sealspace.service.command_errors import SecretUnusable

from .root_secret import MAX_SECRET_BYTES, MIN_SECRET_BYTES

MIN_PASSPHRASE_CHARS = 12
_LOG_N = 17
_MOST_LOG_N = 18  # what `age` itself chooses; 256 MiB
_FILE_KEY_BYTES = 16
_NONCE_BYTES = 16
_TAG_BYTES = 16
_WRAP_NONCE = bytes(12)  # constant: each file has a wrap key of its own, by its random salt
_LAST_CHUNK = bytes(11) + b"\x01"
_FORM = re.compile(
    rb"(?P<head>age-encryption\.org/v1\n-> scrypt (?P<salt>[A-Za-z0-9+/]{22})"
    rb" (?P<log_n>[1-9][0-9]?)\n"
    rb"(?P<wrapped>[A-Za-z0-9+/]{43})\n---) (?P<mac>[A-Za-z0-9+/]{43})\n(?P<payload>.*)",
    re.DOTALL,
)


def seal_secret(secret: bytes, passphrase: str, entropy: Entropy) -> bytes:
    """Encrypt a root secret with a passphrase.

    The secret has at most MAX_SECRET_BYTES. Salt, file key and nonce are drawn from `entropy`.
    """
    if len(passphrase) < MIN_PASSPHRASE_CHARS:
        raise SecretUnusable(
            f"the passphrase has fewer than {MIN_PASSPHRASE_CHARS} characters",
            hint="choose six or more random words",
        )
    salt = entropy.token(16)
    file_key = entropy.token(_FILE_KEY_BYTES)
    nonce = entropy.token(_NONCE_BYTES)
    wrapped = ChaCha20Poly1305(_wrap_key(passphrase, salt, _LOG_N)).encrypt(
        _WRAP_NONCE, file_key, None
    )
    head = b"age-encryption.org/v1\n-> scrypt %s %d\n%s\n---" % (
        _encoded(salt),
        _LOG_N,
        _encoded(wrapped),
    )
    payload = ChaCha20Poly1305(_derived(file_key, nonce, b"payload")).encrypt(
        _LAST_CHUNK, secret, None
    )
    return head + b" " + _encoded(_mac(file_key, head).finalize()) + b"\n" + nonce + payload


def open_secret(sealed: bytes, passphrase: str) -> bytes:
    """Decrypt a root secret with a passphrase.

    The secret was encrypted by `seal_secret` or `age --passphrase`.

    Args:
        sealed: untrusted; its limits are checked before any key is derived.
        passphrase: untrusted.

    Raises:
        SecretUnusable: the passphrase is wrong, the bytes are not a sealed secret or were altered,
            or memory is too short for scrypt.
    """
    fields = _FORM.fullmatch(sealed)
    if fields is None or not _is_within_limits(fields):
        raise SecretUnusable(
            "this version of sealspace cannot read the sealed secret in the backup",
            hint="to restore everything except the root secret, add --without-secret; to decrypt"
            " the root secret with age: tar -xOf FILE root-secret.age | age --decrypt",
        )
    try:
        key = _wrap_key(passphrase, _decoded(fields["salt"]), int(fields["log_n"]))
        file_key = ChaCha20Poly1305(key).decrypt(_WRAP_NONCE, _decoded(fields["wrapped"]), None)
        _mac(file_key, fields["head"]).verify(_decoded(fields["mac"]))
        nonce = fields["payload"][:_NONCE_BYTES]
        encrypted = fields["payload"][_NONCE_BYTES:]
        cipher = ChaCha20Poly1305(_derived(file_key, nonce, b"payload"))
        return cipher.decrypt(_LAST_CHUNK, encrypted, None)
    except (InvalidTag, InvalidSignature, ValueError):
        raise SecretUnusable(
            "this passphrase does not open the root secret in the backup",
            hint="use the passphrase of this backup, or add --without-secret to restore everything"
            " except the root secret",
        ) from None


def _is_within_limits(fields: re.Match[bytes]) -> bool:
    """Return whether a sealed secret has a valid length, and its scrypt takes no more than it may.

    A forged file must not make scrypt take more memory than a small machine has (BK8).
    """
    secret_bytes = len(fields["payload"]) - _NONCE_BYTES - _TAG_BYTES
    if not MIN_SECRET_BYTES <= secret_bytes <= MAX_SECRET_BYTES:
        return False
    return int(fields["log_n"]) <= _MOST_LOG_N


def _wrap_key(passphrase: str, salt: bytes, log_n: int) -> bytes:
    n = 1 << log_n
    scrypt = Scrypt(salt=b"age-encryption.org/v1/scrypt" + salt, length=32, n=n, r=8, p=1)
    try:
        return scrypt.derive(passphrase.encode("utf-8", "surrogateescape"))
    except MemoryError:
        memory_mib = n // 1024  # scrypt takes n KiB if r is 8
        raise SecretUnusable(
            f"there is not enough memory for scrypt, which takes {memory_mib} MiB",
            hint="free memory, then try again",
        ) from None


def _derived(file_key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(file_key)


def _mac(file_key: bytes, head: bytes) -> HMAC:
    mac = HMAC(_derived(file_key, b"", b"header"), SHA256())
    mac.update(head)
    return mac


def _encoded(data: bytes) -> bytes:
    return encode_multibase("m", data)[1:].encode()


def _decoded(text: bytes) -> bytes:
    """Decode canonical base64.

    Raises:
        ValueError: not base64, or with bits after the last byte: several texts would decode alike.
    """
    return decode_multibase(f"m{text.decode()}")[1]
