"""Stored versions of an encryption network's key (EN35).

The newest version is in the network's record itself. The record also contains the versions before
it, and the candidate for the next version.
"""

from typing import Annotated, Literal

from msgspec import Meta

from capabilities.strict_json import StrictRecord

from .keywrap import BLOB_OVERHEAD_BYTES, KEY_BYTES
from .policy import Bytes32

MAX_KEY_VERSION = 32
"""Highest version of a network's key: the record contains every version and has a limited size."""
MAX_STATEMENT_BYTES = 1536
"""Longest signed statement about a key (EN36), bytes. Those of wallets have about 700."""

SEALED_KEY_BYTES = BLOB_OVERHEAD_BYTES + KEY_BYTES
SealedKey = Annotated[bytes, Meta(min_length=SEALED_KEY_BYTES, max_length=SEALED_KEY_BYTES)]

KeyState = Literal["candidate", "newest", "accepted", "retiring", "retired"]
"""States of a version.

    candidate   made by the node, and not signed by the owner yet; nothing is sealed to it
    newest      the version to which values are sealed
    accepted    a former version, which still opens values
    retiring    like accepted, but the node refuses new values that are sealed to it
    retired     its private key was destroyed, so it opens nothing
"""


class KeyVersion(StrictRecord, array_like=True):
    """A stored version of a network's key, except for the newest.

    Attributes:
        key_version: number of the version, from 1.
        public_key: X25519 public key, 32 bytes.
        sealed_private_key: as in `NetworkRecord`; None once the version is retired.
        state: any but "newest".
        created_at: RFC 3339 UTC text of the time when the key was made.
        changed_at: RFC 3339 UTC text of the time of the last change of its state.
    """

    key_version: Annotated[int, Meta(ge=1, le=MAX_KEY_VERSION)]
    public_key: Bytes32
    sealed_private_key: SealedKey | None
    state: KeyState
    created_at: str
    changed_at: str

    def __repr__(self) -> str:
        return f"KeyVersion(key_version={self.key_version}, state={self.state!r})"
