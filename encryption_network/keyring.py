"""Keys that are derived from the node's root secret.

Each store has one secret. The node's identity, the keys of hosted spaces, and the keys that encrypt
network keys and sign tickets are derived from it. So every worker and machine on one store has the
same keys.

Example:
    keyring = Keyring(secret)
    keyring.node_did  # "did:key:z6Mk…", the audience of encryption requests
    sealed = keyring.seal(private_key, entropy)
"""

from blake3 import blake3

from capabilities.clock_and_entropy import Entropy
from capabilities.resources import SpaceId
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_url

from .keywrap import open_blob, seal_blob
from .network_errors import RootSecretTooShort

MIN_SECRET_BYTES = 32

# Contexts that the protocol defines (EN4).
NODE_IDENTITY = "tinycloud/node/identity"
NETWORK_SEAL = "tinycloud/encryption/network-seal"
INVITATION_SIGNING = "tinycloud/share-email/invitation-signing"
# Contexts that only this node uses.
ATTESTATION_CHALLENGE = "sealspace/attestation/challenge"
REQUEST_LOG = "sealspace/request-log"
OIDC_EXCHANGE = "sealspace/oidc/exchange"


class Keyring:
    """The keys that are derived from a node's root secret.

    The secret itself is not exposed.
    """

    __slots__ = (
        "_network_seal",
        "_secret",
        "exchange_signer",
        "invitation_public_key",
        "node_did",
        "node_signer",
    )

    def __init__(self, secret: bytes) -> None:
        """Create a keyring from a root secret of at least 32 bytes."""
        if len(secret) < MIN_SECRET_BYTES:
            raise RootSecretTooShort(
                f"the root secret has {len(secret)} bytes; at least 32 are required"
            )
        self._secret = bytes(secret)
        self._network_seal = self.derive(NETWORK_SEAL)  # derived once, since every release uses it
        self.node_signer = Ed25519Signer(self.derive(NODE_IDENTITY))
        self.node_did = self.node_signer.did
        # derived, so that all workers sign with the same key (OX2)
        self.exchange_signer = Ed25519Signer(self.derive(OIDC_EXCHANGE))
        self.invitation_public_key = encode_url(
            Ed25519Signer(self.derive(INVITATION_SIGNING)).public_key
        )

    def derive(self, context: str | bytes) -> bytes:
        """Derive a 32-byte key for a context (enc 1.4).

        The key is `BLAKE3(secret ‖ context)`. This is the plain hash, not BLAKE3's key derivation
        mode.
        """
        encoded = context.encode() if isinstance(context, str) else context
        return blake3(self._secret + encoded).digest()

    def space_did(self, space: SpaceId) -> str:
        """Return the DID of the node's key for a space (wire 5.7)."""
        return Ed25519Signer(self.derive(space.text)).did

    @property
    def sms_signer(self) -> Ed25519Signer:
        """The key of the service for iExec's clients (SM1)."""
        return Ed25519Signer(self.derive("sealspace/sms/signing"))

    def seal(self, plaintext: bytes, entropy: Entropy) -> bytes:
        """Encrypt the private key of a network (enc 1.5)."""
        return seal_blob(self._network_seal, plaintext, entropy)

    def open_sealed(self, sealed: bytes) -> bytes:
        """Decrypt bytes that were encrypted by `seal` under the same secret."""
        return open_blob(self._network_seal, sealed)

    def __repr__(self) -> str:
        return f"Keyring(node_did={self.node_did!r})"

    def __reduce__(self) -> str:
        """Prevent pickling and copying of the root secret.

        The secret must not leave the process.
        """
        raise TypeError("a keyring cannot be serialised")
