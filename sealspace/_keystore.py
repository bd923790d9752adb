"""Web3 keystore files of version 3: an Ethereum key under a password, as wallets and nodes of Ethereum write them.

    {"version": 3, "address": "…", "crypto": {"kdf": "scrypt" | "pbkdf2", "kdfparams": {…},
     "cipher": "aes-128-ctr", "cipherparams": {"iv"}, "ciphertext", "mac"}}

The derived key has 32 bytes: the first half is the cipher's key, the second half authenticates the ciphertext by
Keccak-256. Nothing is decrypted before that holds.

Source: Web3 Secret Storage Definition, version 3.
"""

import hmac
from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from capabilities.errors import CapabilityError
from capabilities.signatures import keccak256
from capabilities.strict_json import Json, parse_json

from .errors import InvalidKeystore, WrongPassword

MAX_KEYSTORE_BYTES: Final = 64 * 1024

# What a file can make this process spend: go-ethereum's own strength is n 262,144, r 8, p 1 (256 MiB, a second).
_MAX_SCRYPT_BYTES: Final = 512 * 1024 * 1024
_MAX_SCRYPT_PASSES: Final = 16
_MAX_ITERATIONS: Final = 10_000_000
_MAX_SALT_BYTES: Final = 256
_KEY_BYTES: Final = 32


def keystore_secret(data: bytes, password: str | bytes) -> tuple[bytes, str | None]:
    """Open a keystore, untrusted; a password that is a text is taken as UTF-8.

    Returns:
        The 32-byte secret, and the address that the file states, 40 hex digits in lower case, or None. Nothing says
        yet that they belong together.
    Raises:
        InvalidKeystore, WrongPassword.
    """
    try:
        value = parse_json(data, max_bytes=MAX_KEYSTORE_BYTES)
    except CapabilityError:
        raise InvalidKeystore("the keystore is not a JSON object") from None
    crypto = _object(value, "crypto" if "crypto" in value else "Crypto")
    if value.get("version") != 3 or isinstance(value.get("version"), bool):
        raise InvalidKeystore("the keystore is not of version 3")
    if crypto.get("cipher") != "aes-128-ctr":
        raise InvalidKeystore("the keystore uses another cipher than aes-128-ctr")
    ciphertext, mac = _hex(crypto, "ciphertext", _KEY_BYTES), _hex(crypto, "mac", 32)
    iv = _hex(_object(crypto, "cipherparams"), "iv", 16)
    key = _derived(crypto, password if isinstance(password, bytes) else _encoded(password))
    if not hmac.compare_digest(keccak256(key[16:] + ciphertext), mac):
        raise WrongPassword("the password does not open this keystore")
    decryptor = Cipher(AES(key[:16]), CTR(iv)).decryptor()
    address = value.get("address")
    stated = address.lower().removeprefix("0x") if isinstance(address, str) and address else None
    return decryptor.update(ciphertext) + decryptor.finalize(), stated


def _derived(crypto: Mapping[str, Json], password: bytes) -> bytes:
    """Return the derived key; the parameters are bounded before any work is done."""
    kdf, params = crypto.get("kdf"), _object(crypto, "kdfparams")
    salt = _hex(params, "salt", None)
    if _number(params, "dklen") != _KEY_BYTES:
        raise InvalidKeystore("the keystore's derived key has not 32 bytes")
    if kdf == "scrypt":
        n, r, p = (_number(params, name) for name in ("n", "r", "p"))
        if n & (n - 1) or n < 2 or 128 * n * r > _MAX_SCRYPT_BYTES or p > _MAX_SCRYPT_PASSES:
            raise InvalidKeystore("the keystore asks for more memory or time than is allowed, or n is no power of two")
        try:
            return Scrypt(salt=salt, length=_KEY_BYTES, n=n, r=r, p=p).derive(password)
        except (MemoryError, ValueError):  # also for an n too large for its r, of whatever size
            raise InvalidKeystore("the keystore's scrypt does not run with its numbers, or this memory") from None
    if kdf == "pbkdf2":
        iterations = _number(params, "c")
        if params.get("prf") != "hmac-sha256" or iterations > _MAX_ITERATIONS:
            raise InvalidKeystore(f"the keystore's pbkdf2 is not hmac-sha256 with at most {_MAX_ITERATIONS} rounds")
        return PBKDF2HMAC(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, iterations=iterations).derive(password)
    raise InvalidKeystore("the keystore's kdf is neither scrypt nor pbkdf2")


def _encoded(password: str) -> bytes:
    try:
        return password.encode()
    except UnicodeEncodeError:
        raise WrongPassword("the password is not a Unicode text") from None  # the cause quotes the password


def _object(value: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    member = value.get(name)
    if not isinstance(member, dict):
        raise InvalidKeystore(f"the keystore has no object `{name}`")
    return member


def _number(value: Mapping[str, Json], name: str) -> int:
    member = value.get(name)
    if isinstance(member, bool) or not isinstance(member, int) or member < 1:
        raise InvalidKeystore(f"the keystore has no number `{name}`")
    return member


def _hex(value: Mapping[str, Json], name: str, size_bytes: int | None) -> bytes:
    """Return a member's bytes: exactly so many, or with None as many as a salt may have."""
    member = value.get(name)
    try:
        data = bytes.fromhex(member.removeprefix("0x")) if isinstance(member, str) else b""
    except ValueError:
        data = b""
    if not data or len(data) > _MAX_SALT_BYTES or size_bytes not in (None, len(data)):
        raise InvalidKeystore(f"the keystore has no `{name}` of the right size")
    return data
