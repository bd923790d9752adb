"""Ethereum wallets that sign for an owner.

A wallet is a key, a keystore file, an account of the library eth-account, or your own class: any
object with the members of `Wallet`, for example one that asks a person, a hardware device or a
remote signer.

Example:
    wallet = new_wallet()
    session = await client.sign_in(wallet)
    assert session.owner == wallet.did
"""

import hmac
from dataclasses import field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from capabilities.capability_errors import BadSignature, CapabilityError
from capabilities.clock_and_entropy import Entropy, SystemEntropy
from capabilities.frozen import frozen
from capabilities.principals import eip55, same_principal
from capabilities.signatures import WalletSigner, keccak256, recover_eip191
from capabilities.strict_json import parse_json, shaped

from .errors import InvalidInput, InvalidKeystore, WrongPassword

MAX_KEYSTORE_BYTES = 64 * 1024

# Limits for the work that an untrusted file can cause. go-ethereum writes n 262,144, r 8, p 1,
# which takes 256 MiB and a second.
_MAX_SCRYPT_BYTES = 512 * 1024 * 1024
_MAX_SCRYPT_PASSES = 16
_MAX_ITERATIONS = 10_000_000
_MAX_SALT_BYTES = 256
_KEY_BYTES = 32

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ_AS = str.maketrans("ILO", "110")
_PHRASE_LABEL = b"sealspace/recovery-phrase/1"
_ENTROPY_BYTES = 20
_CHECK_DIGITS = 4
"""The last digits of a phrase, by which a typing error is found."""


class _Parameters(msgspec.Struct):
    salt: str
    dklen: Literal[32]
    n: int = 0
    r: int = 0
    p: int = 0
    c: int = 0
    prf: Any = None


class _Crypto(msgspec.Struct):
    cipher: Literal["aes-128-ctr"]
    cipherparams: dict[str, str]
    ciphertext: str
    mac: str
    kdf: Literal["scrypt", "pbkdf2"]
    kdfparams: _Parameters


class _Keystore(msgspec.Struct):
    version: Literal[3]
    crypto: _Crypto
    address: Any = None


def parse_keystore(data: bytes) -> _Keystore:
    """Parse a keystore file without its password.

    Raises InvalidKeystore.
    """
    try:
        value = parse_json(data, max_bytes=MAX_KEYSTORE_BYTES)
        value.setdefault("crypto", value.get("Crypto"))  # as some programs spell it
        return shaped(value, _Keystore)
    except CapabilityError as exc:
        raise InvalidKeystore(f"not a usable version 3 keystore: {exc}") from None


@frozen
class KeystoreSecret:
    """The content of a keystore file.

    Attributes:
        secret: the decrypted private key, 32 bytes.
        stated_address: the address in the file, 40 lower-case hex digits, or None. It is not
            verified.
    """

    secret: bytes = field(repr=False)
    stated_address: str | None


def keystore_secret(data: bytes, password: str | bytes) -> KeystoreSecret:
    """Decrypt a keystore file.

    Args:
        data: the file, JSON, untrusted.
        password: text is encoded as UTF-8.
    Returns:
        The secret, and the address that the file states. The caller has to compare the address
        with the secret's.
    Raises:
        InvalidKeystore: the file is not a usable keystore of version 3.
        WrongPassword: the password does not open it.
    """
    keystore = parse_keystore(data)
    crypto = keystore.crypto
    ciphertext = _decode_hex(crypto.ciphertext, _KEY_BYTES)
    mac = _decode_hex(crypto.mac, 32)
    iv = _decode_hex(crypto.cipherparams.get("iv", ""), 16)
    try:
        password_bytes = password.encode() if isinstance(password, str) else password
    except UnicodeEncodeError:
        # The cause is left out, because it quotes the password.
        raise WrongPassword("the password is not valid Unicode") from None
    derived_key = _derive_key(crypto, password_bytes)
    aes_key = derived_key[:16]
    mac_key = derived_key[16:]
    if not hmac.compare_digest(keccak256(mac_key + ciphertext), mac):
        raise WrongPassword("the password does not open this keystore")
    decryptor = Cipher(AES(aes_key), CTR(iv)).decryptor()
    secret = decryptor.update(ciphertext) + decryptor.finalize()
    stated_address = None
    if isinstance(keystore.address, str) and keystore.address:
        stated_address = keystore.address.lower().removeprefix("0x")
    return KeystoreSecret(secret=secret, stated_address=stated_address)


def _derive_key(crypto: _Crypto, password: bytes) -> bytes:
    """Derive the key of a keystore, 32 bytes, from a password.

    Raises InvalidKeystore, before anything is computed, if the cost parameters are too large.
    """
    params = crypto.kdfparams
    salt = _decode_hex(params.salt, None)
    if crypto.kdf == "scrypt":
        n, r, p = params.n, params.r, params.p
        is_power_of_two = n >= 2 and (n & (n - 1)) == 0
        memory_bytes = 128 * n * r
        is_memory_allowed = r >= 1 and memory_bytes <= _MAX_SCRYPT_BYTES
        is_time_allowed = 1 <= p <= _MAX_SCRYPT_PASSES
        if not is_power_of_two or not is_memory_allowed or not is_time_allowed:
            raise InvalidKeystore(
                "the scrypt parameters of the keystore exceed the memory or time limit, or n is not"
                " a power of two"
            )
        try:
            return Scrypt(salt=salt, length=_KEY_BYTES, n=n, r=r, p=p).derive(password)
        except (MemoryError, ValueError):  # ValueError: n is too large for r
            raise InvalidKeystore(
                "scrypt cannot run with the keystore's parameters on this machine"
            ) from None
    if params.prf != "hmac-sha256" or not 0 < params.c <= _MAX_ITERATIONS:
        raise InvalidKeystore(
            "the keystore's pbkdf2 parameters must be hmac-sha256 and 1 to"
            f" {_MAX_ITERATIONS} iterations"
        )
    return PBKDF2HMAC(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, iterations=params.c).derive(
        password
    )


def _decode_hex(text: str, size_bytes: int | None) -> bytes:
    """Decode a hexadecimal value from a keystore.

    The value must have `size_bytes` bytes. If `size_bytes` is None, any length up to
    `_MAX_SALT_BYTES` is accepted.
    """
    try:
        data = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        data = b""
    if not data or len(data) > _MAX_SALT_BYTES or size_bytes not in (None, len(data)):
        raise InvalidKeystore("a value in the keystore is not hexadecimal, or has the wrong length")
    return data


@runtime_checkable
class Wallet(Protocol):
    """An Ethereum account that signs personal messages (EIP-191)."""

    @property
    def address(self) -> bytes:
        """The account's 20-byte address."""

    @property
    def chain_id(self) -> int:
        """The EIP-155 chain id of the account.

        The chain id is part of the owner's DID; 1 is mainnet.
        """

    @property
    def did(self) -> str:
        """The DID of the account's owner.

        The DID is `did:pkh:eip155:<chain>:<EIP-55 address>`.
        """

    def sign_eip191(self, text: str) -> bytes:
        """Sign a string as a personal message (EIP-191).

        Returns the 65-byte signature r ‖ s ‖ v.
        """


@runtime_checkable
class SiteWallet(Wallet, Protocol):
    """A browser wallet that checks the domain of a message.

    It warns if a message does not name the page's domain.
    """

    @property
    def domain(self) -> str:
        """The domain of the page that opened the wallet.

        Signed messages name this domain.
        """


class _Signed(Protocol):
    """A signature returned by the eth-account library."""

    @property
    def signature(self) -> bytes: ...


@runtime_checkable
class EthAccount(Protocol):
    """An account of the eth-account library.

    Any object with these members is accepted.
    """

    @property
    def address(self) -> str:
        """The account's address in hexadecimal.

        The address is `0x` followed by 40 hex digits.
        """

    # Any: the library names its own class for the message, which this package does not import.
    def sign_message(self, signable_message: Any) -> _Signed:
        """Sign an EIP-191 message."""


AnyWallet = Wallet | EthAccount
"""A `Wallet`, or an account of eth-account, which is used on chain 1."""


class _PersonalMessage(NamedTuple):
    """A personal message for eth-account to sign.

    It has the form of eth-account's `SignableMessage` (EIP-191, version `E`).
    """

    version: bytes
    header: bytes
    body: bytes


class EthAccountWallet:
    """A wallet that uses an account of the eth-account library.

    Args:
        account: the account.
        chain_id: the EIP-155 chain that is part of the owner's DID.
    Attributes:
        address: 20 bytes.
        chain_id: the EIP-155 chain that was given.
        did: `did:pkh:eip155:<chain>:<EIP-55 address>`.
    Raises:
        InvalidInput: the account has no address of 20 bytes.
    """

    def __init__(self, account: EthAccount, chain_id: int = 1) -> None:
        try:
            self.address = bytes.fromhex(account.address.removeprefix("0x"))
        except (ValueError, AttributeError):
            self.address = b""
        if len(self.address) != 20:
            raise InvalidInput(
                "the account does not have a 20-byte address",
                hint="pass an account object of the package eth-account",
            )
        self._account = account
        self.chain_id = chain_id
        self.did = f"did:pkh:eip155:{chain_id}:{eip55(self.address)}"

    def sign_eip191(self, text: str) -> bytes:
        """Sign a string as a personal message (EIP-191).

        Returns the 65-byte signature r ‖ s ‖ v.
        """
        body = text.encode()
        message = _PersonalMessage(
            version=b"E", header=b"thereum Signed Message:\n%d" % len(body), body=body
        )
        return bytes(self._account.sign_message(message).signature)

    def __repr__(self) -> str:
        return f"EthAccountWallet({self.did})"


def wallet_of(wallet: AnyWallet) -> Wallet:
    """Convert an eth-account object to a wallet.

    The wallet is for chain 1. An object that is a wallet already is returned unchanged.

    Raises:
        InvalidInput: the object is neither.
    """
    if isinstance(wallet, Wallet):
        return wallet
    if isinstance(wallet, EthAccount):
        return EthAccountWallet(wallet)
    raise InvalidInput(
        f"an object of type {type(wallet).__name__} is not a wallet",
        hint="pass new_wallet(), wallet_from_key(…), wallet_from_keystore(…) or an account object"
        " of the package eth-account",
        step="sealspace login --key-file FILE",
    )


def signature_of(wallet: Wallet, text: str) -> bytes:
    """Sign a string with a wallet, and check who signed it.

    Without the check, the node would refuse the signature for a reason that names no wallet.

    Raises:
        InvalidInput: the signature is not one of the account in the wallet's DID.
    """
    signature = wallet.sign_eip191(text)
    try:
        signer = (
            f"did:pkh:eip155:{wallet.chain_id}:{eip55(recover_eip191(text.encode(), signature))}"
        )
    except BadSignature:
        signer = "no account"
    if not same_principal(signer, wallet.did):
        raise InvalidInput(
            f"the wallet is {wallet.did}, but {signer} made the signature",
            hint="use a wallet with a private key; contract accounts have none",
        )
    return signature


def new_wallet(*, entropy: Entropy | None = None) -> WalletSigner:
    """Create a wallet with a random key.

    The key is kept only in memory.
    """
    # Almost every 32-byte number is a valid secret; the signer rejects the few that are not.
    return WalletSigner((entropy or SystemEntropy()).token(32))


def wallet_from_key(key: bytes | str, *, chain_id: int = 1) -> WalletSigner:
    """Create a wallet from a secret key.

    Args:
        key: 32 bytes, or 64 hex digits with or without `0x`.
        chain_id: the EIP-155 chain that is part of the owner's DID.
    Raises:
        InvalidInput: the key is not valid; the message contains no part of it.
    """
    try:
        secret = key if isinstance(key, bytes) else bytes.fromhex(key.strip().removeprefix("0x"))
        return WalletSigner(secret, chain_id)
    except (ValueError, AttributeError):
        # The cause is left out, because it may quote the key.
        raise InvalidInput(
            "the wallet's secret key is not valid",
            hint="pass 32 bytes, or 64 hex digits with or without 0x",
        ) from None


def wallet_from_keystore(
    path: str | Path, password: str | bytes, *, chain_id: int = 1
) -> WalletSigner:
    """Load a wallet from a Web3 keystore file (version 3).

    Key derivation takes about a second.

    Args:
        path: the file, at most 64 KiB.
        password: text is encoded as UTF-8.
        chain_id: the EIP-155 chain that is part of the owner's DID.
    Raises:
        InvalidKeystore: the file is not a keystore, or its key belongs to another address than it
            states.
        WrongPassword: the password does not open it; the message does not contain the password.
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        opened = keystore_secret(file.read(MAX_KEYSTORE_BYTES + 1), password)
    try:
        wallet = WalletSigner(opened.secret, chain_id)
    except ValueError:
        raise InvalidKeystore("the keystore does not contain an Ethereum key") from None
    if opened.stated_address not in (None, wallet.address.hex()):
        raise InvalidKeystore("the keystore states an address that does not belong to its key")
    return wallet


# --- recovery phrases -----------------------------------------------------------------------------


def crockford(data: bytes, digits: int) -> str:
    """Encode the first bits of `data` in Crockford's base32.

    Each digit has five bits.
    """
    number = int.from_bytes(data) >> (8 * len(data) - 5 * digits)
    text = ""
    for _ in range(digits):  # from the last digit to the first
        text = _CROCKFORD[number & 31] + text
        number >>= 5
    return text


def seed_from_phrase(phrase: str) -> bytes:
    """Derive the key of a recovery phrase, which the node's web console makes.

    Pass the seed to `Client.sign_in_with_key` to act as the same owner.

    Args:
        phrase: nine groups of four letters and digits, in either case, with spaces or hyphens.
    Returns:
        The seed of the owner's Ed25519 key, 32 bytes.
    Raises:
        InvalidInput: a letter is missing or wrong; the message contains no part of the phrase.
    """
    digits = "".join(phrase.upper().replace("-", " ").split()).translate(_READ_AS)
    if len(digits) == 36 and set(digits) <= set(_CROCKFORD):
        body = digits[:-_CHECK_DIGITS]
        check = digits[-_CHECK_DIGITS:]
        number = 0
        for digit in body:
            number = (number << 5) + _CROCKFORD.index(digit)
        entropy = number.to_bytes(_ENTROPY_BYTES)
        if crockford(sha256(_PHRASE_LABEL + entropy).digest(), _CHECK_DIGITS) == check:
            kdf = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=_PHRASE_LABEL)
            return kdf.derive(entropy)
    raise InvalidInput(
        "this is not a recovery phrase, or the phrase contains a typing error",
        hint="compare all nine groups of four characters with the groups that you wrote down",
    )
