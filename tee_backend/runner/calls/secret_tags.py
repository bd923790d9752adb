"""Tags of secrets that a runner made, which a run demands of every `PROTECTED_` one (RN147, RN148).

A tag is an HMAC-SHA256 under a key of the application's key service over owner, path, type, time
and value, each with its length: it fits no other value, place or owner.

Example:
    tags = SecretTags.of(keys)
    assert tags.holds(owner, SecretName("PROTECTED_KEY", None), opened)
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final

from capabilities.principals import Principal
from sealspace.secrets import Secret, SecretName

from ...evidence.source import KeySource

KEY_PATH: Final = "sealspace/generated-secrets/1"
"""Path under which the key service is asked."""

_TAG_LABEL: Final = b"sealspace/generated-secret/1"


@dataclass(frozen=True, slots=True)
class SecretTags:
    """Makes and judges the tags of generated secrets."""

    key: bytes = field(repr=False)

    @classmethod
    def of(cls, keys: KeySource) -> "SecretTags":
        """Return the tags of this application. May block."""
        # Not the service's key itself: what else is derived from that one tells nothing about this.
        return cls(hmac.digest(_TAG_LABEL, keys.key(KEY_PATH), hashlib.sha256))

    def tag(self, owner: Principal, secret: SecretName, *, kind: str, at: str, value: str) -> bytes:
        """Return the tag of a value at its place (RN147)."""
        message = bytearray(_TAG_LABEL)
        for part in (owner, secret.path, kind, at, value):
            data = part.encode("utf-8", "surrogatepass")
            # each with its length: no two lists are written alike
            message += len(data).to_bytes(8, "big") + data
        return hmac.digest(self.key, bytes(message), hashlib.sha256)

    def holds(self, owner: Principal, secret: SecretName, opened: Secret) -> bool:
        """Return whether what was opened was made here, for this owner and place (RN148)."""
        stated = opened.generated
        if stated is None or not isinstance(opened.value, str):
            return False
        expected = self.tag(owner, secret, kind=stated.type, at=stated.at, value=opened.value)
        return hmac.compare_digest(expected, stated.tag)
