"""The root secret and everything that is derived from it.

Each store has one secret: the node's identity, the keys of hosted spaces, the keys that seal
network private keys and sign tickets are all derived from it, so that every worker and machine on
one store has the same ones.

Example:
    keyring = Keyring(secret)
    keyring.node_did  # "did:key:z6Mk…", the audience of encryption requests
    sealed = keyring.seal(private_key, NETWORK_SEAL, entropy)
"""

from blake3 import blake3

from capabilities.clock_and_entropy import Entropy
from capabilities.resources import SpaceId
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_url

from .keywrap import open_blob, seal_blob
from .network_errors import RootSecretTooShort

MIN_SECRET_BYTES = 32

# Contexts of the protocol (EN4).
NODE_IDENTITY = "tinycloud/node/identity"
NETWORK_SEAL = "tinycloud/encryption/network-seal"
LIST_CURSOR = "tinycloud/kv/list-cursor"
INVITATION_SIGNING = "tinycloud/share-email/invitation-signing"
# Our own.
ATTESTATION_CHALLENGE = "sealspace/attestation/challenge"
REQUEST_LOG = "sealspace/request-log"


class Keyring:
    """Derives keys from the root secret; shows none of them."""

    __slots__ = ("_network_seal", "_secret", "invitation_public_key", "node_did", "node_signer")

    def __init__(self, secret: bytes) -> None:
        """Take the root secret."""
        if len(secret) < MIN_SECRET_BYTES:
            raise RootSecretTooShort(f"root secret has {len(secret)} bytes, at least 32 are needed")
        self._secret = bytes(secret)
        self._network_seal = self.derive(NETWORK_SEAL)  # used at each release
        self.node_signer = Ed25519Signer(self.derive(NODE_IDENTITY))
        self.node_did: str = self.node_signer.did
        self.invitation_public_key: str = encode_url(
            Ed25519Signer(self.derive(INVITATION_SIGNING)).public_key
        )

    def derive(self, context: str | bytes) -> bytes:
        """Return the 32 bytes `BLAKE3(secret ‖ context)`: the plain hash, not the key derivation
        mode (enc 1.4)."""
        return blake3(
            self._secret + (context.encode() if isinstance(context, str) else context)
        ).digest()

    def space_did(self, space: SpaceId) -> str:
        """Return the host DID of a space: the context is its canonical text (wire 5.7)."""
        return Ed25519Signer(self.derive(space.text)).did

    def seal(self, plaintext: bytes, context: str, entropy: Entropy) -> bytes:
        """Seal bytes at rest under the key of a context (enc 1.5)."""
        return seal_blob(self._seal_key(context), plaintext, entropy)

    def open_sealed(self, sealed: bytes, context: str) -> bytes:
        """Open what `seal` made under the same secret and context."""
        return open_blob(self._seal_key(context), sealed)

    def _seal_key(self, context: str) -> bytes:
        return self._network_seal if context == NETWORK_SEAL else self.derive(context)

    def __repr__(self) -> str:
        return f"Keyring(node_did={self.node_did!r})"

    def __reduce__(self) -> str:
        """Refuse to be pickled or copied: the secret never leaves the process."""
        raise TypeError("a keyring is not serialised")
