"""Rows that grant authority or have content, sealed under a key of the runner: the host cannot edit or move them.

A row is sealed by AES-256-GCM with its table, its id and its version as associated data: one that was changed, or put
in the place of another, does not open. A whole row that was there before does open in its own place (RN92).

Example:
    sealer = RowSealer(row_key(seed))
    sealed = sealer.seal(("accounts", did, 7), b"...")
"""

import hashlib
import hmac
import json
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from capabilities.ambient import SystemEntropy

from ...errors import FolderDamaged

Row: TypeAlias = tuple[str, str, int]
"""Table, id and version of a row."""

_KEY_LABEL: Final = b"sealspace/runner-rows/1"
_NONCE_BYTES: Final = 12


def row_key(seed: bytes) -> bytes:
    """Return the key of a runner's rows, 32 bytes; it follows from the seed of the runner's own key."""
    return hmac.digest(seed, _KEY_LABEL, hashlib.sha256)


class RowSealer:
    """Seals rows, and opens them."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, row: Row, content: bytes) -> bytes:
        """Return the content of a row, sealed."""
        nonce = SystemEntropy().token(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, content, _named(row))

    def open(self, row: Row, sealed: bytes) -> bytes:
        """Return the content of a row, as it was sealed in this place."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _named(row))
        except (InvalidTag, ValueError) as exc:
            raise FolderDamaged(f"a row of {row[0]} in the runner's journal was changed or moved") from exc


def _named(row: Row) -> bytes:
    return json.dumps(row).encode()  # unambiguous, whatever is in an id
