"""HMAC tags, which prove that a runner generated a `PROTECTED_` secret (RN147, RN148).

A tag is an HMAC-SHA256 over owner, path, type, time and value, under a key of the application's key
service. So it is valid for one value at one path of one owner only.

Example:
    tags = SecretTags.of(keys)
    assert tags.is_valid(owner, SecretName("PROTECTED_KEY", None), opened)
"""

import hashlib
import hmac
from dataclasses import dataclass, field

from capabilities.principals import Principal
from sealspace.secrets import Secret, SecretName

from ...evidence.source import KeySource

KEY_PATH = "sealspace/generated-secrets/1"
"""Path of the key at the application's key service."""

_TAG_LABEL = b"sealspace/generated-secret/1"


@dataclass(frozen=True, slots=True)
class SecretTags:
    """An HMAC key for computing and verifying the tags of generated secrets."""

    key: bytes = field(repr=False)

    @classmethod
    def of(cls, keys: KeySource) -> "SecretTags":
        """Derive the tag key from a key fetched from the application's key service. May block."""
        # Derived, so that other keys from the same service reveal nothing about this one.
        return cls(hmac.digest(_TAG_LABEL, keys.key(KEY_PATH), hashlib.sha256))

    def tag(self, owner: Principal, secret: SecretName, *, kind: str, at: str, value: str) -> bytes:
        """Compute the HMAC tag of a generated secret (RN147)."""
        message = bytearray(_TAG_LABEL)
        for part in (owner, secret.path, kind, at, value):
            data = part.encode("utf-8", "surrogatepass")
            # With each length, two different lists of parts cannot have the same bytes.
            message += len(data).to_bytes(8, "big") + data
        return hmac.digest(self.key, bytes(message), hashlib.sha256)

    def is_valid(self, owner: Principal, secret: SecretName, opened: Secret) -> bool:
        """Return whether a secret's tag is valid for its owner, path and value (RN148)."""
        stated = opened.generated
        if stated is None or not isinstance(opened.value, str):
            return False
        expected = self.tag(owner, secret, kind=stated.type, at=stated.at, value=opened.value)
        return hmac.compare_digest(expected, stated.tag)
