"""The paths of an owner's stored envelopes, which shows envelopes that were copied (EN48).

Somebody who cannot open an envelope can only copy it as it is, with another label. Its wrapped
content key and its ciphertext are then found at two paths.

Example:
    await client.secrets().put("API_KEY", "open sesame")
    envelope = await client.secrets().envelope("API_KEY")
    paths = SealedPaths()
    paths.add("vault/secrets/API_KEY", envelope)
    assert paths.paths_of(envelope) == ("vault/secrets/API_KEY",)
"""

import hashlib

from encryption_network.envelope import InlineEnvelope


class SealedPaths:
    """The paths at which the parts of envelopes are stored.

    It contains digests, not the envelopes.
    """

    def __init__(self) -> None:
        self._paths: dict[bytes, set[str]] = {}

    def add(self, path: str, envelope: InlineEnvelope) -> None:
        """Note that an envelope is, or was, stored at a path."""
        for digest in _digests_of(envelope):
            self._paths.setdefault(digest, set()).add(path)

    def paths_of(self, envelope: InlineEnvelope) -> tuple[str, ...]:
        """Return the paths at which a part of an envelope is or was stored, in ascending order."""
        found = set[str]()
        for digest in _digests_of(envelope):
            found |= self._paths.get(digest, set())
        return tuple(sorted(found))


def _digests_of(envelope: InlineEnvelope) -> tuple[bytes, bytes]:
    """Return digests of the wrapped content key and of the ciphertext.

    Each is enough to recognise a copy: both are made with fresh random bytes.
    """
    key = hashlib.sha256(b"key:" + envelope.encrypted_symmetric_key.encode()).digest()
    ciphertext = hashlib.sha256(b"ciphertext:" + envelope.ciphertext).digest()
    return key, ciphertext
