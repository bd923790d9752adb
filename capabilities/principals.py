"""DIDs and the principals that they identify (rules P1 to P6).

A principal is a DID without its fragment, in canonical spelling. Only Ethereum accounts,
`did:pkh:eip155:<chain>:<address>`, have several spellings. In the canonical one the chain is plain
decimal and the address has the EIP-55 checksum.

Example:
    principal_of("did:key:z6Mk...#z6Mk...")  # did:key:z6Mk...
"""

import re
from functools import lru_cache
from typing import NewType

import libipld
import sha3

from .cache import memoize
from .capability_errors import InvalidIdentifier

Principal = NewType("Principal", str)
"""A DID without fragment, in its canonical spelling if it has one (P4, P5)."""

ED25519_CODEC = b"\xed\x01"
"""The multicodec of an Ed25519 public key (K6)."""

_PKH_EIP155 = "did:pkh:eip155:"
_DID_KEY = "did:key:"
_MAX_DID_KEY_CHARS = 256
_SHAPE = re.compile(r"did:[a-z0-9]+:[!-~]+")
_DECIMAL = re.compile(r"\+?([0-9]+)")
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_MAX_CHAIN = 2**64 - 1
_MAX_CHAIN_DIGITS = len(str(_MAX_CHAIN))


def parse_principal(text: str) -> Principal:
    """Return the principal that a DID or DID URL identifies (P1 to P3).

    Args:
        text: Untrusted text.

    Returns:
        The canonical principal; a fragment is dropped (P1).

    Raises:
        InvalidIdentifier: Not `did:<method>:<id>` (P3), or a `did:pkh:eip155` that breaks P2.
    """
    did = text.partition("#")[0]  # the fragment names a key of the same principal (P1)
    if did.startswith(_PKH_EIP155):
        return _canonical_account(did)  # one account can be written in several ways (P2)
    if not _SHAPE.fullmatch(did):
        raise InvalidIdentifier("invalid DID")
    return Principal(did)  # byte for byte (P3)


def principal_of(text: str) -> Principal:
    """Return the principal that a token's DID identifies.

    The principal is in canonical form if possible. Other text, even if it is not a DID, is returned
    without its fragment (P4, P5). It equals only itself.
    """
    did = text.partition("#")[0]  # the fragment names a key of the same principal (P1)
    if not did.startswith(_PKH_EIP155):
        return Principal(did)  # byte for byte, also if it is no DID (P3, P5)
    try:
        return _canonical_account(did)
    except InvalidIdentifier:
        return Principal(did)  # without a canonical form, texts are compared (P4)


def same_principal(one: str, other: str) -> bool:
    """Return whether two DIDs or DID URLs identify the same principal (P4)."""
    if one == other:
        return True
    try:
        return parse_principal(one) == parse_principal(other)
    except InvalidIdentifier:
        return False  # P4: without a canonical form only equal texts match, and these differ


def did_key(public_key: bytes) -> str:
    """Return the did:key of a 32-byte Ed25519 public key."""
    return _DID_KEY + libipld.encode_multibase("z", ED25519_CODEC + public_key)


def did_key_content(did: str) -> bytes | None:
    """Decode a did:key to its multicodec prefix and key bytes (K6).

    None is returned if it is invalid. A DID URL with a fragment is invalid. The key may be in any
    multibase, but each spelling is a principal of its own (P3).
    """
    if not did.startswith(_DID_KEY) or len(did) > _MAX_DID_KEY_CHARS:
        return None
    try:
        return libipld.decode_multibase(did[len(_DID_KEY) :])[1]
    except ValueError:
        return None


def ed25519_public_key(did: str) -> bytes | None:
    """Return the Ed25519 key in a did:key, or None for other DIDs (K6).

    None is also returned for a DID URL with a fragment.
    """
    content = did_key_content(did)
    if content is None or len(content) != 34 or not content.startswith(ED25519_CODEC):
        return None
    return content[2:]


def wallet_address(principal: Principal) -> bytes | None:
    """Return the Ethereum address in a wallet's DID, or None.

    The principal must be a canonical `did:pkh:eip155`.
    """
    return bytes.fromhex(principal[-40:]) if is_wallet(principal) else None


def is_wallet(principal: Principal) -> bool:
    """Return whether a principal is an Ethereum account (P2)."""
    if not principal.startswith(_PKH_EIP155):
        return False
    try:
        _canonical_account(principal)
    except InvalidIdentifier:
        return False
    return True


def eip55(address: bytes) -> str:
    """Format an Ethereum address with its EIP-55 checksum (P6)."""
    return _checksummed(address.hex())


@lru_cache(maxsize=8192)
def _checksummed(lower: str) -> str:
    digest = sha3.keccak_256(lower.encode()).hexdigest()
    text = "0x"
    # A letter is in upper case if the digit of the hash at its position is 8 or more. The hash has
    # 64 digits and the address 40, so the rest of the hash is not used.
    for character, nibble in zip(lower, digest, strict=False):
        text += character.upper() if nibble >= "8" else character
    return text


# A wallet's DID is in nearly every request. Longer texts are not cached, so that clients cannot
# fill the memory with them.
@memoize(8192, longest=96)
def _canonical_account(did: str) -> Principal:
    chain, separator, address = did[len(_PKH_EIP155) :].partition(":")
    if not separator or ":" in address:
        raise InvalidIdentifier("invalid did:pkh:eip155 DID")
    number = parse_chain_id(chain)
    if number == 0:
        raise InvalidIdentifier("invalid EIP-155 chain ID")
    return Principal(f"{_PKH_EIP155}{number}:{_checksummed(parse_address(address).hex())}")


def parse_chain_id(text: str) -> int:
    """Parse the id of an Ethereum chain (P2, C9).

    It is an unsigned 64-bit decimal number. Leading zeros and a leading `+` are allowed.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise InvalidIdentifier("invalid EIP-155 chain ID")
    digits = match.group(1).lstrip("0") or "0"
    # The digits are counted first, because Python refuses to convert thousands of them.
    if len(digits) > _MAX_CHAIN_DIGITS or int(digits) > _MAX_CHAIN:
        raise InvalidIdentifier("invalid EIP-155 chain ID")
    return int(digits)


def parse_address(text: str) -> bytes:
    """Parse an Ethereum address (P6).

    An address is `0x` and 40 hex digits in any case. A wrong checksum is accepted.
    """
    if not text.startswith("0x"):
        raise InvalidIdentifier("invalid EIP-155 address prefix")
    digits = text[2:]
    if len(digits) != 40:
        raise InvalidIdentifier(f"invalid EIP-155 address length: expected 40, got {len(digits)}")
    for index, character in enumerate(digits):
        if character not in _HEX_DIGITS:
            raise InvalidIdentifier(f"invalid EIP-155 address character at {index}: {character}")
    return bytes.fromhex(digits)
