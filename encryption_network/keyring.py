"""Keys that are derived from the node's root secret.

Each store has one secret. The node's identity, the keys of hosted spaces, and the keys that encrypt
network keys and sign tickets are derived from it. So every worker and machine on one store has the
same keys.

A new root secret can replace the former one. Keys that others know the node by are then kept: the
store has a record of them, which is sealed under the new secret (RK3). All other keys are derived
from the new secret.

Example:
    keyring = Keyring(secret)
    keyring.node_did  # "did:key:z6Mk…", the audience of encryption requests
    sealed = keyring.seal(private_key, entropy)
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec
from blake3 import blake3

from capabilities.clock_and_entropy import Entropy
from capabilities.resources import SpaceId
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import StrictRecord

from .keywrap import open_blob, seal_blob
from .network_errors import RecordError, RequestError, RootSecretTooShort
from .policy import Bytes32

MIN_SECRET_BYTES = 32
MAX_KEPT_KEYS_BYTES = 1024
"""Longest sealed record of kept keys."""

# Contexts that the protocol defines (EN4).
NODE_IDENTITY = "tinycloud/node/identity"
NETWORK_SEAL = "tinycloud/encryption/network-seal"
INVITATION_SIGNING = "tinycloud/share-email/invitation-signing"
# Contexts that only this node uses.
ATTESTATION_CHALLENGE = "sealspace/attestation/challenge"
REQUEST_LOG = "sealspace/request-log"
OIDC_EXCHANGE = "sealspace/oidc/exchange"
SMS_SIGNING = "sealspace/sms/signing"
SMS_CHALLENGES = "sealspace/sms/challenges"
ROOT_SECRET_CHECK = "sealspace/root-secret/check"  # noqa: S105  # a context
KEPT_KEYS_SEAL = "sealspace/root-secret/kept-keys"

KEPT_WITH_IDENTITY = frozenset(
    {NODE_IDENTITY, OIDC_EXCHANGE, INVITATION_SIGNING, SMS_SIGNING, SMS_CHALLENGES}
)
"""The keys that stay the same when the root secret is replaced (RK3)."""
KEPT_WITHOUT_IDENTITY = frozenset({SMS_CHALLENGES})
"""The only key that stays the same when the node also gets a new identity (RK9).

Without it, pushes of secrets that were recorded as used could be sent again (SM12).
"""
_NOTHING_KEPT: Mapping[str, bytes] = MappingProxyType({})


class KeptKeys(StrictRecord, array_like=True):
    """Keys of a former root secret, before they are sealed under its successor.

    Attributes:
        version: of the layout.
        keys: keys of 32 bytes, by the context that they were derived for.
    """

    version: Literal[1]
    keys: dict[str, Bytes32]


_KEPT_KEYS = msgspec.msgpack.Decoder(KeptKeys)


class Keyring:
    """The keys that are derived from a node's root secret.

    The secret itself is not exposed.
    """

    __slots__ = (
        "_kept",
        "_network_seal",
        "_secret",
        "exchange_signer",
        "invitation_public_key",
        "node_did",
        "node_signer",
    )

    def __init__(self, secret: bytes, *, kept: Mapping[str, bytes] = _NOTHING_KEPT) -> None:
        """Create a keyring from a root secret of at least 32 bytes.

        `kept` are keys of a former root secret, by context (RK3).
        """
        if len(secret) < MIN_SECRET_BYTES:
            raise RootSecretTooShort(
                f"the root secret has {len(secret)} bytes; at least 32 are required"
            )
        self._secret = bytes(secret)
        self._kept = kept
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
        mode. A key that was kept when the root secret was replaced is returned instead (RK3).
        """
        if isinstance(context, str) and context in self._kept:
            return self._kept[context]
        encoded = context.encode() if isinstance(context, str) else context
        return blake3(self._secret + encoded).digest()

    def space_did(self, space: SpaceId) -> str:
        """Return the DID of the node's key for a space (wire 5.7)."""
        return Ed25519Signer(self.derive(space.text)).did

    @property
    def sms_signer(self) -> Ed25519Signer:
        """The key of the service for iExec's clients (SM1)."""
        return Ed25519Signer(self.derive(SMS_SIGNING))

    @property
    def check_value(self) -> bytes:
        """32 bytes that identify the root secret without revealing it (RK1).

        The store has the check values of its present and former root secrets.
        """
        return self.derive(ROOT_SECRET_CHECK)

    @property
    def has_kept_keys(self) -> bool:
        """Whether some keys are of a former root secret."""
        return bool(self._kept)

    def seal_kept_keys(self, former: "Keyring", entropy: Entropy, *, keeps_identity: bool) -> bytes:
        """Seal the keys that stay the same when this root secret replaces a former one (RK3).

        Args:
            former: the keys of the root secret that is replaced.
            entropy: called for 12 bytes (the seal's nonce).
            keeps_identity: False if the node gets a new identity; few keys are kept then (RK9).
        """
        contexts = KEPT_WITH_IDENTITY if keeps_identity else KEPT_WITHOUT_IDENTITY
        keys = {context: former.derive(context) for context in sorted(contexts)}
        encoded = msgspec.msgpack.encode(KeptKeys(version=1, keys=keys))
        return seal_blob(self.derive(KEPT_KEYS_SEAL), encoded, entropy)

    def with_kept_keys(self, sealed: bytes) -> "Keyring":
        """Return this keyring with the kept keys of a former root secret (RK3).

        Args:
            sealed: made by `seal_kept_keys` under this root secret; untrusted.

        Raises:
            RecordError: the record is too long, was not sealed under this root secret, or does not
                have exactly the keys that may be kept.
        """
        if len(sealed) > MAX_KEPT_KEYS_BYTES:
            raise RecordError("the record of kept keys is too long")
        try:
            kept = _KEPT_KEYS.decode(open_blob(self.derive(KEPT_KEYS_SEAL), sealed)).keys
        except (RequestError, ValueError) as exc:
            raise RecordError("the root secret does not open the record of kept keys") from exc
        if kept.keys() not in (KEPT_WITH_IDENTITY, KEPT_WITHOUT_IDENTITY):
            raise RecordError("the record of kept keys does not have the keys that may be kept")
        return Keyring(self._secret, kept=kept)

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
