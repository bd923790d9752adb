"""Signers for an owner with an Ethereum account.

Any object with these members is a wallet: `capabilities.signatures.WalletSigner` holds a key in memory; a program that
asks a person, a hardware device or a remote signer writes a class of its own.

Example:
    wallet = new_wallet()
    session = await client.sign_in(wallet)
"""

from typing import Protocol

from capabilities.ambient import Entropy, SystemEntropy
from capabilities.signatures import WalletSigner


class Wallet(Protocol):
    """An Ethereum account that signs personal messages (EIP-191)."""

    @property
    def address(self) -> bytes:
        """The account, 20 bytes."""
        ...

    @property
    def chain_id(self) -> int:
        """The EIP-155 chain that is part of the owner's DID; 1 for mainnet."""
        ...

    @property
    def did(self) -> str:
        """`did:pkh:eip155:<chain>:<EIP-55 address>`."""
        ...

    def sign_eip191(self, text: str) -> bytes:
        """Return the 65-byte signature r ‖ s ‖ v over the text as a personal message."""
        ...


def new_wallet(*, entropy: Entropy | None = None) -> WalletSigner:
    """Return a wallet with a fresh key, which is kept in memory only."""
    # A random 32-byte number is a valid secret but with negligible probability; the signer checks it.
    return WalletSigner((entropy or SystemEntropy()).token(32))
