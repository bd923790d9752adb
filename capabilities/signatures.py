"""Signing and verification with Ed25519 and Ethereum keys (K7, C5).

Where a scheme allows several forms of one signature, only one is accepted: the scalar in range, no
small-order key, low `s`, and `v` of 0, 1, 27 or 28. `verifiers` and `issuers` check the signatures
of UCANs, for all key types.
"""

import sha3
from btclib_libsecp256k1 import keys, recovery
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import CryptoError

from .capability_errors import BadSignature
from .principals import did_key, eip55

SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""The order of secp256k1; a signature with an `s` above half of it also exists with a lower one."""

_RECOVERY = {0: 0, 1: 1, 27: 0, 28: 1}


def verify_ed25519(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Verify an Ed25519 signature (K7).

    Args:
        public_key: 32 bytes.
        message: The signed bytes.
        signature: 64 bytes; any other length is a bad signature.

    Raises:
        BadSignature: For every failure (K9).
    """
    if len(signature) != 64 or len(public_key) != 32:
        raise BadSignature
    try:
        crypto_sign_open(signature + message, public_key)
    except CryptoError as exc:
        raise BadSignature from exc


def keccak256(data: bytes) -> bytes:
    """Return the Keccak-256 hash of the data."""
    digest: bytes = sha3.keccak_256(data).digest()
    return digest


def eip191_digest(text: bytes) -> bytes:
    """Return the EIP-191 digest of a personal message (C5)."""
    return keccak256(b"\x19Ethereum Signed Message:\n%d%b" % (len(text), text))


def recover_eip191(text: bytes, signature: bytes) -> bytes:
    """Return the Ethereum address of the signer of a personal message.

    The message was signed as EIP-191 defines.
    """
    return recover_address(eip191_digest(text), signature)


def recover_address(digest: bytes, signature: bytes) -> bytes:
    """Return the Ethereum address of the key that signed a digest."""
    odd = _RECOVERY.get(signature[64]) if len(signature) == 65 else None
    if odd is None:
        raise BadSignature
    return address_of(recover_public_key(digest, signature[:64], odd))


def recover_public_key(digest: bytes, signature: bytes, odd: int) -> bytes:
    """Recover the secp256k1 public key that signed a digest.

    The key is returned as a 65-byte uncompressed point.

    Args:
        digest: 32 bytes.
        signature: 64 bytes, r ‖ s.
        odd: 1 if the y coordinate of the nonce's point is odd, else 0. The values 2 and 3, for an r
            beyond the order, are rejected.

    Raises:
        BadSignature: Wrong length, high `s`, another recovery number, or no key fits.
    """
    if len(signature) != 64 or odd not in (0, 1):
        raise BadSignature
    # Q25: anyone can turn s into n - s, which would be a second spelling of the same signature.
    if int.from_bytes(signature[32:], "big") > SECP256K1_ORDER // 2:
        raise BadSignature
    try:
        return recovery.recover(digest, signature, odd, compressed=False)
    except ValueError as exc:
        raise BadSignature from exc


def address_of(point: bytes) -> bytes:
    """Return the Ethereum address of a secp256k1 public key.

    The key is a 65-byte uncompressed point.
    """
    return keccak256(point[1:])[12:]


class Ed25519Signer:
    """An Ed25519 key pair for signing."""

    def __init__(self, seed: bytes) -> None:
        """Derive the key pair from a 32-byte seed."""
        if len(seed) != 32:
            raise ValueError("an Ed25519 seed must be 32 bytes long")
        self.public_key, self._secret = crypto_sign_seed_keypair(seed)
        self.did = did_key(self.public_key)
        self.did_url = f"{self.did}#{self.did.removeprefix('did:key:')}"

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over a message."""
        return crypto_sign(message, self._secret)[:64]

    def __repr__(self) -> str:
        return f"Ed25519Signer({self.did})"


class WalletSigner:
    """An Ethereum key pair for signing messages.

    It is used in tests, services and command-line tools.
    """

    def __init__(self, secret: bytes, chain_id: int = 1) -> None:
        """Derive the key pair from a 32-byte secret.

        The secret is a number from 1 up to, but not including, the curve's order.
        """
        if len(secret) != 32:
            raise ValueError("a wallet secret must be 32 bytes long")
        self._secret = secret
        self.address = address_of(keys.pubkey_from_prvkey(secret, compressed=False))
        self.chain_id = chain_id
        self.did = f"did:pkh:eip155:{chain_id}:{eip55(self.address)}"

    @property
    def secret(self) -> bytes:
        """The 32-byte secret, for a backup of the wallet."""
        return self._secret

    def sign_eip191(self, text: str) -> bytes:
        """Return the 65-byte signature of a personal message.

        The signature is r ‖ s ‖ v. The nonce follows RFC 6979, `s` is low, and `v` is 27 or 28.
        """
        signature, odd = recovery.sign(eip191_digest(text.encode()), self._secret)
        return signature + bytes([27 + odd])

    def __repr__(self) -> str:
        return f"WalletSigner({self.did})"
